"""Bar charts of modalities with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.scoring.display import colors_of

__all__ = ["bars_size", "draw_bars"]


def bars_size(n_rows: int) -> tuple[float, float]:
    """Return width and height, in inches, of a figure with this many bars."""
    return 6.8, 1.5 + 0.42 * n_rows


def draw_bars(ax: Any, table: pd.DataFrame, names: Sequence[str], value: str) -> np.ndarray:
    """Draw horizontal bars, the first row of the table on top; each modality has its usual colour.

    Parameters
    ----------
    ax : matplotlib Axes
    table : DataFrame
        One row per modality, with the column `value`, and ``low`` and ``high`` if there are intervals.
    names : list of str
        All modalities in the order of the model; the order determines their colours.
    value : str

    Returns
    -------
    ndarray of shape (n_rows,)
        Vertical position of each bar.
    """
    heights, colors = np.arange(len(table)), colors_of(names)
    length = table[value].to_numpy()
    ax.barh(heights, length, height=0.62, color=[colors[name] for name in table.index], alpha=0.6)
    if {"low", "high"} <= set(table.columns):
        around = np.abs(table[["low", "high"]].to_numpy().T - length)
        ax.errorbar(length, heights, xerr=around, linestyle="none", color="0.15", capsize=3, linewidth=1.2)
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.set(yticks=heights, yticklabels=[str(name) for name in table.index], ylim=(len(table) - 0.4, -0.6))
    return heights
