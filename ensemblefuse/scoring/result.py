"""Base class of all results: a table with a caption, shown as text, as HTML and as a picture."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.metaestimators import available_if

__all__ = ["TableResult"]


class TableResult:
    """Base of results: a table with a caption and notes.

    A subclass with a picture defines ``_display_class()``, which returns its Display; only then ``plot`` exists. A
    subclass with a long table overrides ``_shown()``, which returns what text and HTML show.

    Attributes
    ----------
    table : DataFrame
    caption : str
        What is measured, in which unit, on how many rows.
    notes : list of str
        What a reader must know to read the table correctly; often empty.
    """

    def __init__(self, table: pd.DataFrame, caption: str, notes: list[str] | None = None):
        self.table = table
        self.caption = caption
        self.notes = list(notes or [])

    # A method in results with a picture; it imports nothing here, since a Display may be defined after its result.
    _display_class: Any

    @available_if(lambda self: hasattr(self, "_display_class"))
    def plot(self, *, ax: Any = None) -> Any:
        """Draw the result.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        Display
            With ``ax_`` and ``figure_``.
        """
        return self._display_class()(self).plot(ax=ax)

    def _shown(self) -> pd.DataFrame:
        """Return what text and HTML show; a result with a long table returns a part of it."""
        return self.table

    def __str__(self) -> str:
        return "\n".join([self.caption, self._shown().to_string(float_format="{:.3f}".format), *self.notes])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        page = _table_html(self._shown()).replace(">", f"><caption>{html.escape(self.caption)}</caption>", 1)
        return page + "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)


def _table_html(table: pd.DataFrame) -> str:
    """Return the table as HTML; texts are escaped here, because pandas escapes only cells of type `str`."""
    cells = [[_cell_html(cell) for cell in row] for row in table.astype(object).to_numpy()]
    shown = pd.DataFrame(cells, _axis_html(table.index), _axis_html(table.columns), dtype=object)
    with pd.option_context("display.max_colwidth", None):
        return shown.to_html(escape=False, border=0)


def _axis_html(axis: pd.Index) -> pd.Index:
    names = [None if name is None else _cell_html(name) for name in axis.names]
    if isinstance(axis, pd.MultiIndex):
        return pd.MultiIndex.from_tuples([tuple(map(_cell_html, label)) for label in axis], names=names)
    return pd.Index([_cell_html(label) for label in axis], dtype=object, name=names[0])


def _cell_html(cell: Any) -> str:
    if pd.api.types.is_scalar(cell) and pd.isna(cell):
        return "–"
    return f"{cell:.3f}" if isinstance(cell, (float, np.floating)) else html.escape(str(cell))
