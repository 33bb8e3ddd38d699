"""What all results share: a table with a caption, as text, as HTML and as a picture. Floor 4."""

from __future__ import annotations

import html
from typing import Any

import pandas as pd

__all__ = ["TableResult"]


class TableResult:
    """Base of results: ``table`` (a DataFrame), ``caption`` (what it measures, on how many rows), ``notes``.

    Attributes
    ----------
    table : DataFrame
    caption : str
        What is measured, in which unit, on how many rows.
    notes : list of str
        What the reader must know to read the table rightly; often empty.
    """

    def __init__(self, table: pd.DataFrame, caption: str, notes: list[str] | None = None):
        self.table = table
        self.caption = caption
        self.notes = list(notes or [])

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

    def _display_class(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no picture.")

    def _shown(self) -> pd.DataFrame:
        """What text and HTML show; a result whose table is long shows a part of it."""
        return self.table

    def __str__(self) -> str:
        return "\n".join([self.caption, self._shown().to_string(float_format="{:.3f}".format), *self.notes])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        style = self._shown().style.format(precision=3, na_rep="–", escape="html")
        for axis in ("index", "columns"):
            style = style.format_index(escape="html", axis=axis)
        table = style.set_caption(html.escape(self.caption)).to_html()
        return table + "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
