"""Result of `compare_fusions`: a table, the scores of every fold, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ensemblefuse.evaluation._paired_tests import bayesian_ttest, corrected_ttest
from ensemblefuse.scoring.display import MARKERS, MUTED, PALETTE, BaseDisplay, shorten
from ensemblefuse.scoring.result import TableResult

__all__ = ["FusionComparison", "FusionComparisonDisplay"]

_LEVEL = 0.95
_FUSION = {"color": PALETTE[0], "marker": MARKERS[0]}
_SINGLE = {"color": PALETTE[1], "marker": MARKERS[1]}


class FusionComparison(TableResult):
    """Scores of fusion strategies over the same folds, and paired tests of their differences.

    Made by `compare_fusions`.

    Attributes
    ----------
    table : DataFrame
        One row per strategy, best mean score first:

        - ``score``, ``score_sd``: mean over the folds and standard deviation (divisor J - 1); greater is better.
        - ``accuracy`` and ``log_loss``, in regression ``r2`` and ``rmse``: means over the folds.
        - ``fit_time``: mean seconds of a fit, without encoding.
        - ``predict_ms``: mean milliseconds to predict one row, when a whole test part is predicted at once; without
          encoding.
        - ``difference``: mean score minus that of the reference.
        - ``p_value``: of that difference, by `corrected_ttest`.
        - ``p_better``, ``p_rope``: probabilities by `bayesian_ttest` that the strategy is better than the reference,
          or within `rope` of it. ``p_value``, ``p_better`` and ``p_rope`` are NaN in the row of the reference.
        - ``rank``: 1 is the best mean score; equal scores have equal ranks.
    fold_scores : DataFrame of shape (n_splits, n_strategies)
        Score of each strategy in each outer fold.
    reference : str
        The strategy that the others are tested against: the baseline, or the best.
    single : list of str
        Names of the strategies that use only one modality.
    scoring : str
    n_samples : int
    n_train, n_test : float
        Mean number of rows in an outer training part and in an outer test part.
    rope : float
    """

    def __init__(
        self,
        folds: Sequence[dict[str, dict[str, float]]],
        *,
        scoring: str,
        n_samples: int,
        n_train: float,
        n_test: float,
        baseline: str | None = None,
        rope: float = 0.0,
        single: Sequence[str] = (),
    ):
        self.scoring = scoring
        self.n_samples = n_samples
        self.n_train = n_train
        self.n_test = n_test
        self.rope = rope
        self.single = list(single)
        self.fold_scores = pd.DataFrame([{name: s["score"] for name, s in fold.items()} for fold in folds])
        self.fold_scores.index.name = "fold"
        self.reference = str(self.fold_scores.mean().idxmax()) if baseline is None else baseline
        rows = {name: self._row(name, pd.DataFrame([fold[name] for fold in folds])) for name in self.fold_scores}
        table = pd.DataFrame.from_dict(rows, orient="index")
        table["rank"] = table["score"].rank(ascending=False, method="min").astype(int)
        super().__init__(
            table.sort_values("rank", kind="stable"), f"{self._title()}, tested against {self.reference!r}"
        )

    def _row(self, name: str, scores: pd.DataFrame) -> dict[str, float]:
        own = scores.pop("score")
        difference = own - self.fold_scores[self.reference]
        row = {"score": own.mean(), "score_sd": own.std(ddof=1), **scores.mean(), "difference": difference.mean()}
        if name == self.reference:
            return {**row, "p_value": np.nan, "p_better": np.nan, "p_rope": np.nan}
        bayes = bayesian_ttest(difference, self.n_train, self.n_test, rope=self.rope)
        p_value = corrected_ttest(difference, self.n_train, self.n_test).pvalue
        return {**row, "p_value": p_value, "p_better": bayes.p_better, "p_rope": bayes.p_rope}

    def intervals(self) -> pd.DataFrame:
        """Return the 95 % interval of each strategy's mean score, of the width that `corrected_ttest` implies.

        Intervals of two strategies may overlap although the paired test separates the strategies: the intervals hold
        noise that both share, and the paired test removes it.

        Returns
        -------
        DataFrame of shape (n_strategies, 2)
            Columns ``low`` and ``high``, rows as in ``table``.
        """
        n_folds = len(self.fold_scores)
        error = self.table["score_sd"] * np.sqrt(1 / n_folds + self.n_test / self.n_train)
        half = stats.t.ppf((1 + _LEVEL) / 2, n_folds - 1) * error
        return pd.DataFrame({"low": self.table["score"] - half, "high": self.table["score"] + half})

    def _display_class(self) -> Any:
        return FusionComparisonDisplay

    def _title(self) -> str:
        return f"{self.scoring} over {len(self.fold_scores)} folds, {self.n_samples} rows"


class FusionComparisonDisplay(BaseDisplay):
    """Mean score of each strategy with its interval, best on top; single modalities differ in colour and marker.

    Parameters
    ----------
    comparison : FusionComparison
        The result of `compare_fusions`.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    errorbars_ : list of matplotlib ErrorbarContainer
        One for the fusions and one for the single modalities, as far as there are any.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from ensemblefuse import compare_fusions
    >>> X = pd.DataFrame({"length": np.arange(40.0) % 7, "price": np.arange(40.0) % 3})
    >>> modalities = [("text", "passthrough", ["length"]), ("tabular", "passthrough", ["price"])]
    >>> result = compare_fusions(modalities, X, X["price"] > 1, cv=2, scoring="accuracy")
    >>> display = result.plot()
    >>> display.ax_.get_title()
    'accuracy over 2 folds, 40 rows'
    """

    def __init__(self, comparison: FusionComparison):
        super().__init__(comparison)
        self.comparison = comparison

    def _figsize(self) -> tuple[float, float]:
        return 6.4, 1.4 + 0.34 * len(self.comparison.table)

    def _draw(self, ax: Any) -> None:
        table, intervals = self.comparison.table, self.comparison.intervals()
        heights = np.arange(len(table))
        single = table.index.isin(self.comparison.single)
        self.errorbars_ = []
        for rows, label, style in ((~single, "fusion", _FUSION), (single, "one modality", _SINGLE)):
            if rows.any():
                score = table["score"].to_numpy()[rows]
                around = np.abs(intervals.to_numpy()[rows].T - score)
                bars = ax.errorbar(score, heights[rows], xerr=around, label=label, linestyle="none", capsize=3, **style)
                self.errorbars_.append(bars)
        reference = table.loc[self.comparison.reference, "score"]
        ax.axvline(reference, color=MUTED, linestyle=":", zorder=0)
        ax.set(
            yticks=heights,
            yticklabels=[shorten(name) for name in table.index],
            ylim=(len(table) - 0.5, -0.5),
            xlabel=f"{self.comparison.scoring}, mean and {_LEVEL:.0%} interval",
            title=self.comparison._title(),
        )
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
