"""What counts inside one modality of one row, as it is handed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["CannotExplain", "PartExplanation", "cell_table"]

MOST_BYTES = 2**28  # of cells that are made at once


class CannotExplain(Exception):
    """Why the inside of a modality cannot be told."""


@dataclass
class PartExplanation:
    """What counts inside one modality of one row.

    Attributes
    ----------
    kind : {"image", "text", "sound", "series", "columns", "none"}
    method : {"occlusion", "gradcam", "lime", "shap"}
    effects : ndarray, DataFrame, Series or None
        Positive speaks for the target. Of a picture an ndarray of shape (rows, columns); of a text a DataFrame with the
        columns token, start, end, effect, one row a word; of a sound an ndarray of shape (n_bands, n_windows), low
        frequencies first; of a series a Series, its index the first sample of each window; of columns a Series.
    shown : object
        What the effects lie over: the picture as an ndarray of shape (height, width, 3), dtype uint8; the text; the
        tuple of samples and rate in Hz; the series as an ndarray of shape (n_channels, n_samples); the values of the
        columns as a Series. None where there is nothing to show.
    edges : tuple of ndarray
        Of a sound: edges of the bands in Hz, and of the windows in seconds. Of a series: edges of windows in samples.
    unit : str
        Of the effects.
    note : str
        Why there are no effects, or how to read them; often empty.
    """

    kind: str
    method: str
    effects: Any = None
    shown: Any = None
    edges: tuple[np.ndarray, ...] = ()
    unit: str = ""
    note: str = ""


def unit_of(method: str, is_class: bool) -> str:
    """The unit of effects."""
    of = "log-odds" if is_class else "the prediction"
    return {
        "occlusion": f"drop of {of} without it",
        "lime": f"weight in {of}, local linear model",
        "shap": f"Shapley value in {of}",
        "gradcam": f"slope of {of} times feature map",
    }[method]


def cell_table(column: Any, cells: Sequence[Any]) -> pd.DataFrame:
    """A table of one column of cells of any kind."""
    values = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):
        values[i] = cell
    return pd.DataFrame({column: pd.Series(values, dtype=object)})
