"""Explanation of the inside of one modality, in one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["CannotExplain", "PartExplanation", "cell_table"]

MOST_BYTES = 2**28  # size of the modified cells that are held at once


class CannotExplain(Exception):
    """The inside of a modality cannot be explained; the message says why."""


@dataclass
class PartExplanation:
    """Effects of the parts of one modality, in one row.

    Attributes
    ----------
    kind : {"image", "text", "sound", "series", "columns", "none"}
    method : {"occlusion", "gradcam", "lime", "shap"}
    effects : ndarray, DataFrame, Series or None
        Positive effects support the target. For a picture: ndarray of shape (rows, columns). For a text: DataFrame with
        the columns token, start, end, effect, one row per word. For a sound: ndarray of shape (n_bands, n_windows), low
        frequencies first. For a series: Series, indexed by the first sample of each window. For columns: Series.
    shown : object
        What the effects are drawn over: the picture as an ndarray of shape (height, width, 3), dtype uint8; the text;
        the tuple of samples and rate in Hz; the series as an ndarray of shape (n_channels, n_samples); the values of
        the columns as a Series. None if there is nothing to show.
    edges : tuple of ndarray
        For a sound: edges of the bands in Hz, and of the windows in seconds. For a series: edges of the windows in
        samples.
    unit : str
        Unit of the effects.
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
    """Return the unit of the effects."""
    of = "log-odds" if is_class else "the prediction"
    return {
        "occlusion": f"drop of {of} without the part",
        "lime": f"weight in {of}, local linear model",
        "shap": f"Shapley value in {of}",
        "gradcam": f"slope of {of} times feature map",
    }[method]


def cell_table(column: Any, cells: Sequence[Any]) -> pd.DataFrame:
    """Return a table with one column that holds these cells, of any type."""
    values = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):
        values[i] = cell
    return pd.DataFrame({column: pd.Series(values, dtype=object)})
