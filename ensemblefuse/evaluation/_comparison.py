"""The result of `compare_fusions`: a table, the scores of every fold, a picture. Floor 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ensemblefuse._optional import import_optional
from ensemblefuse.evaluation._paired import bayesian_ttest, corrected_ttest

__all__ = ["FusionComparison", "FusionComparisonDisplay"]

_LEVEL = 0.95
# Of the palette of Okabe and Ito, which people with any kind of colour vision tell apart; markers differ as well.
_FUSION = {"color": "#0072B2", "marker": "o"}
_SINGLE = {"color": "#D55E00", "marker": "s"}


class FusionComparison:
    """Scores of fusion strategies over the same folds, and paired tests of their differences.

    Made by `compare_fusions`.

    Attributes
    ----------
    table : DataFrame
        One row a strategy, best mean score first:

        - ``score``, ``score_sd``: mean over the folds and standard deviation (divisor J - 1); the greater the better.
        - ``accuracy`` and ``log_loss``, in regression ``r2`` and ``rmse``: means over the folds.
        - ``fit_time``: mean seconds of a fit, encoding not counted.
        - ``difference``: mean score less that of the reference.
        - ``p_value``: `corrected_ttest` of that difference.
        - ``p_better``, ``p_rope``: `bayesian_ttest`, that the strategy is better than the reference, or within `rope`
          of it. These three are NaN in the row of the reference.
        - ``rank``: 1 is the best mean score; equal scores have equal ranks.
    fold_scores : DataFrame of shape (n_splits, n_strategies)
        Score of each strategy in each outer fold.
    reference : str
        The strategy that the others are tested against: the baseline, or the best.
    single : list of str
        Names of the strategies that know one modality alone.
    scoring : str
    n_samples : int
    n_train, n_test : float
        Mean rows of an outer training and test part.
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
        self.table = table.sort_values("rank", kind="stable")

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
        """The interval of each strategy's mean score that holds the true one with probability 0.95.

        Its width is that of `corrected_ttest`; in the noise that all strategies share, intervals may overlap although
        the paired test tells two strategies apart.

        Returns
        -------
        DataFrame of shape (n_strategies, 2)
            Columns ``low`` and ``high``, rows as in ``table``.
        """
        n_folds = len(self.fold_scores)
        error = self.table["score_sd"] * np.sqrt(1 / n_folds + self.n_test / self.n_train)
        half = stats.t.ppf((1 + _LEVEL) / 2, n_folds - 1) * error
        return pd.DataFrame({"low": self.table["score"] - half, "high": self.table["score"] + half})

    def plot(self, *, ax: Any = None) -> FusionComparisonDisplay:
        """Draw the mean scores; see `FusionComparisonDisplay`.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        FusionComparisonDisplay
        """
        return FusionComparisonDisplay(self).plot(ax=ax)

    def _caption(self) -> str:
        return f"{self.scoring} over {len(self.fold_scores)} folds, {self.n_samples} rows"

    def __str__(self) -> str:
        table = self.table.to_string(float_format="{:.3f}".format)
        return f"{self._caption()}, tested against {self.reference!r}\n{table}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        caption = f"{self._caption()}, tested against {self.reference!r}"
        return self.table.style.format(precision=3).set_caption(caption).to_html()


class FusionComparisonDisplay:
    """Mean score of each strategy with its interval, best on top; single modalities have another colour and marker.

    Parameters
    ----------
    comparison : FusionComparison
        The result of `compare_fusions`.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    errorbars_ : list of matplotlib ErrorbarContainer
        Of the fusions and of the single modalities, those that there are.

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
        self.comparison = comparison

    def plot(self, *, ax: Any = None) -> FusionComparisonDisplay:
        """Draw on `ax`, or on a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        pyplot = import_optional("matplotlib.pyplot", package="matplotlib", needed_by="FusionComparisonDisplay")
        table, intervals = self.comparison.table, self.comparison.intervals()
        if ax is None:
            _, ax = pyplot.subplots(figsize=(6.4, 1.4 + 0.34 * len(table)), layout="constrained")
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
        ax.axvline(reference, color="0.6", linestyle=":", zorder=0)
        ax.set(
            yticks=heights,
            yticklabels=table.index,
            ylim=(len(table) - 0.5, -0.5),
            xlabel=f"{self.comparison.scoring}, mean and {_LEVEL:.0%} interval",
            title=self.comparison._caption(),
        )
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self
