"""Result of `missing_modality_curve`, and its picture."""

from __future__ import annotations

from typing import Any

from ensemblefuse._theme import INK
from ensemblefuse.scoring.display import MARKERS, MUTED, BaseDisplay, colors_of
from ensemblefuse.scoring.result import TableResult

__all__ = ["MissingModalityCurve", "MissingModalityCurveDisplay"]

# More bands than these would cover one another in the picture; the table holds all intervals.
_BANDS = 3


class MissingModalityCurve(TableResult):
    """Scores of a model for rising shares of rows that lose modalities. Made by `missing_modality_curve`.

    Attributes
    ----------
    table : DataFrame
        One row per mechanism, modality and rate:

        - ``mechanism``, ``modality``, ``rate``. With ``"column"`` the named modality goes missing; with the others
          every modality may, and ``modality`` is ``"any"``.
        - ``score``, ``low``, ``high``: mean over rows and draws (greater is better), and its interval over rows, or
          over groups of rows.
        - ``share_empty``: share of the rows that have lost all modalities, mean over the draws.
        - ``gain``, ``gain_low``, ``gain_high``: score minus that without any modality, and its interval.
    caption : str
    notes : list of str
    metric : str
        Scikit-learn's name of the score.
    method : {"ledger", "predict"}
    prior_score : float
        Score of predicting without any modality.
    single_scores : dict of str to float
        Score of each modality alone, on the same rows.
    best_single : str
        Modality with the best of these scores.
    names : list of str
        All modalities.
    n_rows : int
    confidence_level : float
    """

    def __init__(
        self, table, caption, notes, *, metric, method, prior_score, single_scores, names, n_rows, confidence_level
    ):
        super().__init__(table, caption, notes)
        self.metric = metric
        self.method = method
        self.prior_score: float = prior_score
        self.single_scores: dict[str, float] = single_scores
        self.best_single = max(single_scores, key=lambda name: single_scores[name])
        self.names = names
        self.n_rows = n_rows
        self.confidence_level = confidence_level

    def _display_class(self) -> Any:
        return MissingModalityCurveDisplay


class MissingModalityCurveDisplay(BaseDisplay):
    """Score against the share of rows that lose a modality, one line per mechanism and modality.

    Bands are intervals over rows; curves of single modalities have bands only if the model has at most 3 modalities.
    Horizontal lines: the best modality alone, and predictions without any modality.

    Parameters
    ----------
    result : MissingModalityCurve

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, MissingModalityCurveDisplay
    >>> X = pd.DataFrame({"text__0": np.arange(40.0) % 7, "image__0": np.arange(40.0) % 3})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=2).fit(X, X["image__0"] > 1)
    >>> display = MissingModalityCurveDisplay.from_estimator(model, n_repeats=1)
    >>> display.ax_.get_title()
    'Missing modalities, 40 rows'
    """

    def _figsize(self) -> tuple[float, float]:
        return 6.2 + 0.08 * max(map(len, self.result.names)), 4.2

    def _draw(self, ax: Any) -> None:
        result = self.result
        colors = colors_of(result.names)
        markers = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(result.names)}
        for (mechanism, name), part in result.table.groupby(["mechanism", "modality"], sort=False):
            if mechanism == "column":
                style: dict[str, Any] = {"color": colors[name], "marker": markers[name], "label": f"{name} missing"}
            else:
                dashes = "-" if mechanism == "random" else "--"
                label = "any, at random" if mechanism == "random" else "any, by value"
                style = {"color": INK, "linestyle": dashes, "linewidth": 2.5, "label": label}
            part = part.sort_values("rate")
            ax.plot(part["rate"], part["score"], **style)
            if mechanism != "column" or len(result.names) <= _BANDS:
                ax.fill_between(part["rate"], part["low"], part["high"], color=style["color"], alpha=0.1, linewidth=0)
        best = result.best_single
        ax.axhline(result.single_scores[best], color=MUTED, linestyle="-.", zorder=0, label=f"{best} alone")
        ax.axhline(result.prior_score, color=MUTED, linestyle=":", zorder=0, label="no modality")
        ax.set(
            xlabel="share of rows that lose it",
            ylabel=f"{result.metric} (greater is better)",
            title=f"Missing modalities, {result.n_rows} rows",
        )
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
