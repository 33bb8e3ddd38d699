"""Result of `explain_row`, and its picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ensemblefuse.inspection._part_explanation import PartExplanation
from ensemblefuse.inspection._row_html import MOST_COLUMNS, columns_by_effect, row_html
from ensemblefuse.inspection._row_plot import draw_row

__all__ = ["RowExplanation", "RowExplanationDisplay"]


@dataclass
class RowExplanation:
    """Explanation of a model's prediction for one row. Made by `explain_row`.

    Attributes
    ----------
    label : object
        Index label of the row.
    shares : Series
        Share of each modality, in log-odds of the target, or in regression in units of the prediction; 0 for a missing
        modality. Together with ``base`` they add up to ``value``.
    missing : list of str
        Modalities that the row lacks.
    base : float
        Log-odds of the target without any modality, or in regression the prediction.
    value : float
        The same with all modalities that the row holds.
    prediction : Series of probabilities, one per class; float in regression
    target : label or None
        The class that is explained; None in regression.
    parts : dict of str to PartExplanation
        Explanation of the inside of each present modality that `within` asked for.
    on_top : Series
        Of each modality: what the value loses without it, with all other modalities of the row present; 0 for a
        missing one. The effects of parts by occlusion compare with this, and not with the share.
    """

    label: Any
    shares: pd.Series
    missing: list[str]
    base: float
    value: float
    prediction: Any
    target: Any
    parts: dict[str, PartExplanation] = field(default_factory=dict)
    on_top: pd.Series | None = None

    @property
    def largest(self) -> float:
        """The largest of all contributions and of all effects of columns, which are drawn as bars."""
        columns = [part.effects for part in self.parts.values() if part.kind == "columns"]
        bars = np.concatenate([[self.base, self.value], self.shares, *columns]).astype(float)
        return float(np.nanmax(np.abs(bars)))

    def to_html(self, *, scale: float | None = None) -> str:
        """Return the explanation as HTML.

        Parameters
        ----------
        scale : float, optional
            The number of the longest bar, so that several explanations share one scale; by default ``largest``.

        Returns
        -------
        str
            Its colours are ``--for``, ``--against`` and ``--soft`` of the page, if the page defines them.
        """
        return row_html(self, scale)

    @property
    def title(self) -> str:
        """One line that says what is explained."""
        if self.target is None:
            return f"Row {self.label!r}: {self.prediction:.4g} predicted"
        said, best = float(self.prediction[self.target]), self.prediction.idxmax()
        other = "" if best == self.target else f" (predicted: {best!r}, {self.prediction.max():.1%})"
        return f"Row {self.label!r}: probability {said:.1%} of {self.target!r}{other}"

    @property
    def unit(self) -> str:
        """Unit of the shares, the base and the value."""
        return "units of the prediction" if self.target is None else f"log-odds of {self.target!r}"

    def plot(self) -> RowExplanationDisplay:
        """Draw the shares, and the explanation of the inside of each modality.

        Returns
        -------
        RowExplanationDisplay
        """
        return RowExplanationDisplay(self).plot()

    def __str__(self) -> str:
        lines = [self.title, f"{self.unit}: {self.value:.3f} = base {self.base:.3f} + shares"]
        for name, share in self.shares.items():
            lines.append(f"  {name}  {'missing' if name in self.missing else f'{share:+.3f}'}")
            lines += _lines_of_columns(self.parts[name]) if name in self.parts else []
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.to_html()


def _lines_of_columns(part: PartExplanation) -> list[str]:
    """Return the effects of columns, one a line; none for other parts, which a plot shows."""
    if part.kind != "columns":
        return []
    columns = columns_by_effect(part)
    more = len(columns) - MOST_COLUMNS
    lines = [f"    {part.unit}:"]
    lines += [f"      {' '.join(column.split())}  {effect:+.3f}" for column, effect in columns[:MOST_COLUMNS]]
    return [*lines, f"      and {more} columns of smaller effect"] if more > 0 else lines


class RowExplanationDisplay:
    """Shares of the modalities as bars, and a panel for each modality whose inside is explained.

    Parameters
    ----------
    explanation : RowExplanation

    Attributes
    ----------
    axes_ : list of matplotlib Axes
        First the axes of the shares, then those of each modality.
    figure_ : matplotlib Figure
    """

    _compute: ClassVar[Any]

    def __init__(self, explanation: RowExplanation):
        self.explanation = explanation

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, i: Any, **params: Any) -> RowExplanationDisplay:
        """Explain a row, and draw it.

        Parameters
        ----------
        estimator : fitted model
        X, i, **params
            As `explain_row` takes them.

        Returns
        -------
        RowExplanationDisplay
        """
        return cls(cls._compute(estimator, X, i, **params)).plot()

    def plot(self) -> RowExplanationDisplay:
        """Draw on a new figure, as tall as the panels need.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        self.figure_, self.axes_ = draw_row(self.explanation)
        self.ax_ = self.axes_[0]
        return self

    def __repr__(self) -> str:
        panels = ["shares", *self.explanation.parts]
        drawn = "drawn" if hasattr(self, "figure_") else "not drawn yet"
        return f"<{type(self).__name__} of {self.explanation.title!r}: {', '.join(panels)}; {drawn}>"
