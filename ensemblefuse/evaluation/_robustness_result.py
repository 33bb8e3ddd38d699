"""Result of `robustness_curve`, and its picture."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ensemblefuse.scoring.display import MARKERS, MUTED, BaseDisplay, colors_of
from ensemblefuse.scoring.metrics import METRICS
from ensemblefuse.scoring.result import TableResult

__all__ = ["RobustnessCurve", "RobustnessCurveDisplay"]

# Lines are drawn side by side: distance of neighbouring lines, and greatest distance of all, in units of severity.
_APART, _MOST_APART = 0.05, 0.5


class RobustnessCurve(TableResult):
    """Scores of a fitted model with one modality corrupted at a time, and the score of the clean rows.

    Made by `robustness_curve`.

    Attributes
    ----------
    table : DataFrame
        One row per modality, corruption and severity:

        - ``modality``, ``corruption``, ``severity``; ``parameter``: the level at this severity, with its unit (empty
          for a function of the user).
        - ``score``, ``low``, ``high``: mean over rows (greater is better) and its bootstrap interval.
        - ``difference``, ``difference_low``, ``difference_high``: the score minus the clean one, with the same rows
          and resamples. An interval below 0 is a fall.
    clean_score : float
        Score of the rows as they are.
    clean_interval : tuple of 2 float
    metric : str
    n_samples : int
    confidence_level : float
    names : list of str
        All modalities of the model.
    caption : str
    notes : list of str
        Modalities that were not corrupted; numbers of rows without a modality.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        clean_score: float,
        clean_interval: tuple[float, float],
        metric: str,
        n_samples: int,
        confidence_level: float,
        names: list[str],
        notes: list[str],
    ):
        self.clean_score = clean_score
        self.clean_interval = clean_interval
        self.metric = metric
        self.n_samples = n_samples
        self.confidence_level = confidence_level
        self.names = list(names)
        caption = (
            f"{METRICS[metric].axis} on {n_samples} rows, one modality at a time corrupted; "
            f"{confidence_level:.0%} intervals; clean {clean_score:.3f}"
        )
        super().__init__(table, caption, notes)

    def _display_class(self) -> Any:
        return RobustnessCurveDisplay


class RobustnessCurveDisplay(BaseDisplay):
    """Score against severity: a colour per modality, a marker per corruption, the clean score dashed.

    Parameters
    ----------
    result : RobustnessCurve

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : dict of (str, str) to matplotlib ErrorbarContainer
        One for each modality and corruption. Every line begins at severity 0 with the clean score.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, FunctionEncoder, RobustnessCurveDisplay, make_fusion_pipeline
    >>> df = pd.DataFrame({"title": ["a cat sat", "the dogs!"] * 20})
    >>> y = ["cat", "dog"] * 20
    >>> text = FunctionEncoder(lambda title: [title.count("cat"), title.count("dog")])
    >>> fusion = DecisionFusionClassifier({"text": LogisticRegression()}, cv=2)
    >>> model = make_fusion_pipeline([("text", text, "title")], fusion).fit(df[:20], y[:20])
    >>> display = RobustnessCurveDisplay.from_estimator(model, df[20:], y[20:], metric="accuracy", severities=[5])
    >>> display.ax_.get_title()
    'One modality at a time corrupted, 20 rows, 95% intervals'
    """

    _size: ClassVar[tuple[float, float]] = (8.0, 4.4)

    def _figsize(self) -> tuple[float, float]:
        n_lines = len(self.result.table[["modality", "corruption"]].drop_duplicates())
        return self._size[0], max(self._size[1], 0.8 + 0.2 * n_lines)  # the legend has a line for each

    def _draw(self, ax: Any) -> None:
        result = self.result
        colors = colors_of(result.names)
        curves = list(result.table.groupby(["modality", "corruption"], sort=False))
        apart = min(_APART, _MOST_APART / len(curves))
        order = {name: 0 for name in result.names}
        ax.axhline(result.clean_score, color=MUTED, linestyle="--", zorder=0, label="clean")
        self.lines_ = {}
        for i, ((modality, corruption), curve) in enumerate(curves):
            marker = MARKERS[order[modality] % len(MARKERS)]
            order[modality] += 1
            curve = curve[curve["severity"] > 0]
            score = np.array([result.clean_score, *curve["score"]])
            ends = np.array([[result.clean_score, result.clean_score], *curve[["low", "high"]].to_numpy()])
            aside = apart * (i - (len(curves) - 1) / 2)
            self.lines_[modality, corruption] = ax.errorbar(
                np.array([0, *(curve["severity"] + aside)]),
                score,
                yerr=np.abs(ends.T - score),
                label=f"{modality}: {corruption}",
                color=colors[modality],
                marker=marker,
                markersize=5,
                linewidth=1.2,
                elinewidth=0.8,
            )
        ax.set(
            xticks=range(6),
            xlim=(-0.3, 5.5),
            xlabel="severity of the corruption (0: none)",
            ylabel=METRICS[result.metric].axis,
            title=f"One modality at a time corrupted, {result.n_samples} rows, {result.confidence_level:.0%} intervals",
        )
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")
