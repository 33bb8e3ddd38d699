"""Bar charts of modalities with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse._theme import INK, SOFT
from ensemblefuse.scoring.display import sign_color

__all__ = ["bars_size", "draw_bars"]


def bars_size(n_rows: int) -> tuple[float, float]:
    """Return width and height, in inches, of a figure with this many bars."""
    return 6.8, 1.5 + 0.42 * n_rows


def draw_bars(ax: Any, table: pd.DataFrame, value: str, *, signed: bool = True) -> np.ndarray:
    """Draw horizontal bars, the first row of the table on top; blue if positive, orange if negative.

    Parameters
    ----------
    ax : matplotlib Axes
    table : DataFrame
        One row per modality, with the column `value`, and ``low`` and ``high`` if there are intervals.
    value : str
    signed : bool
        Whether the sign has a meaning; otherwise all bars are grey.

    Returns
    -------
    ndarray of shape (n_rows,)
        Vertical position of each bar.
    """
    heights, length = np.arange(len(table)), table[value].to_numpy()
    ax.barh(heights, length, height=0.62, color=[sign_color(v) for v in length] if signed else SOFT, alpha=0.7)
    if {"low", "high"} <= set(table.columns):
        around = np.abs(table[["low", "high"]].to_numpy().T - length)
        ax.errorbar(length, heights, xerr=around, linestyle="none", color=INK, capsize=3, linewidth=1.2)
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set(yticks=heights, yticklabels=[str(name) for name in table.index], ylim=(len(table) - 0.4, -0.6))
    return heights
