"""Comparison of fusion strategies by score, latency and the cost of the modalities that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from ensemblefuse._config import config_context
from ensemblefuse._optional import import_optional
from ensemblefuse.compose import make_fusion_pipeline
from ensemblefuse.evaluation._compare_fusions import ALONE, compare_fusions
from ensemblefuse.evaluation._fusion_comparison import FusionComparison
from ensemblefuse.fusion import CascadeFusionClassifier, DecisionFusionClassifier, DecisionFusionRegressor
from ensemblefuse.scoring.display import MARKERS, MUTED, PALETTE, BaseDisplay, drawn_by, shorten
from ensemblefuse.scoring.result import TableResult
from ensemblefuse.table import is_missing, list_columns, to_frame

__all__ = ["StrategyComparison", "StrategyComparisonDisplay", "pareto_front", "strategy_comparison"]

_TIMED_ROWS = 32


class StrategyComparison(TableResult):
    """Scores of strategies, and the cost of a prediction by each of them.

    Made by `strategy_comparison`.

    Attributes
    ----------
    table : DataFrame
        One row per strategy, best mean score first. It has the columns of `FusionComparison`, with ``predict_ms``
        (milliseconds per row, without encoding), and

        - ``modality_ms``: milliseconds to encode all modalities that the strategy uses, for one row;
        - ``n_modalities``: number of these modalities;
        - ``pareto``: True if no other strategy is at least as good in ``score``, ``predict_ms`` and ``modality_ms`` and
          better in one of them. The times are measured, so a front that depends on a small difference may change.
    caption, notes
        As in all results.
    comparison : FusionComparison
        Scores of the folds, paired tests, intervals.
    costs : dict of str to float
        Cost of each modality, in seconds per row.
    """

    def __init__(
        self, comparison: FusionComparison, used: Mapping[str, list[str]], costs: dict[str, float], notes: Any
    ):
        table = comparison.table.copy()
        table["modality_ms"] = [1000 * sum(costs[modality] for modality in used[name]) for name in table.index]
        table["n_modalities"] = [len(used[name]) for name in table.index]
        goods = table["score"], -table["predict_ms"], -table["modality_ms"]
        table["pareto"] = pareto_front(np.column_stack(goods))
        self.comparison, self.costs = comparison, costs
        super().__init__(table, f"{comparison.caption}; costs in milliseconds per row", notes)

    def _display_class(self) -> Any:
        return StrategyComparisonDisplay


def pareto_front(goods: np.ndarray) -> np.ndarray:
    """Return which rows are not dominated by another row.

    Parameters
    ----------
    goods : ndarray of shape (n_rows, n_goods)
        Greater is better in each column.

    Returns
    -------
    ndarray of shape (n_rows,), dtype bool
        False if another row is at least as good in all columns and better in one. Equal rows do not dominate each
        other.
    """
    at_least = (goods[None] >= goods[:, None]).all(axis=2)
    better = (goods[None] > goods[:, None]).any(axis=2)
    dominated = np.any(at_least & better, axis=1)
    return np.asarray(~dominated)


class StrategyComparisonDisplay(BaseDisplay):
    """Score of each strategy against the cost of a prediction; markers on the Pareto front are filled.

    The cost is ``modality_ms`` plus ``predict_ms``.

    Parameters
    ----------
    result : StrategyComparison

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    _size = (8.0, 4.4)

    def _draw(self, ax: Any) -> None:
        """Draw the points; the names are beside the axes, one below the other, so none covers another."""
        table, comparison = self.result.table, self.result.comparison
        cost = (table["modality_ms"] + table["predict_ms"]).to_numpy()
        score, single = table["score"].to_numpy(), table.index.isin(comparison.single)
        for rows, label, i in ((~single, "fusion", 0), (single, "one modality", 1)):
            for front, face in ((table["pareto"].to_numpy(), PALETTE[i]), (~table["pareto"].to_numpy(), "white")):
                if (rows & front).any():
                    name = f"{label}, {'on the front' if face != 'white' else 'dominated'}"
                    style = {"s": 45, "marker": MARKERS[i], "facecolor": face, "edgecolor": PALETTE[i]}
                    ax.scatter(cost[rows & front], score[rows & front], label=name, zorder=3, **style)
        ax.set_xscale("log")
        ticker = import_optional("matplotlib.ticker", package="matplotlib", needed_by=type(self).__name__)
        ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        ax.xaxis.set_minor_formatter(ticker.NullFormatter())
        ax.set(
            xlabel="milliseconds per row: encoding and prediction", ylabel=comparison.scoring, title=comparison._title()
        )
        heights = _spread((score - score.min()) / max(np.ptp(score), 1e-12), 0.07)
        for name, x, y, height in zip(table.index, cost, score, heights, strict=True):
            ax.annotate(
                shorten(name),
                (x, y),
                (1.04, height),
                textcoords="axes fraction",
                va="center",
                annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "relpos": (0, 0.5), "shrinkA": 2},
            )
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)


@drawn_by(StrategyComparisonDisplay)
def strategy_comparison(
    modalities: Sequence[tuple[str, Any, Any]],
    X: Any,
    y: Any,
    *,
    candidates: Mapping[str, Any] | None = None,
    costs: Mapping[str, float] | None = None,
    cv: Any = 5,
    groups: Any = None,
    scoring: Any = None,
    classify: bool = True,
    n_jobs: int | None = None,
    random_state: Any = 0,
    **params: Any,
) -> StrategyComparison:
    """Cross-validate fusion strategies as `compare_fusions` does, and report the cost of a prediction by each.

    Parameters
    ----------
    modalities, X, y, candidates, cv, groups, scoring, classify, n_jobs
        As in `compare_fusions`. With `n_jobs`, predictions run at the same time, and each takes longer.
    costs : dict of str to float, optional
        Seconds per row of each modality, such as ``{"image": 0.02}``. The others are measured in one call on at most
        32 rows that hold the modality, with a fitted and loaded encoder and without the cache. A modality without
        encoder costs nothing.
    random_state : int, RandomState or None
        Seed of the choice of these rows.
    **params
        Further parameters of `compare_fusions`: `inner_cv`, `baseline`, `rope`.

    Returns
    -------
    StrategyComparison

    Raises
    ------
    ValueError
        If `costs` names something that is not a modality, or a cost is not a number of at least 0; and as in
        `compare_fusions`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, strategy_comparison
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 2
    >>> X = pd.DataFrame({"length": y + rng.normal(size=60), "price": 2 * y + rng.normal(size=60)})
    >>> modalities = [("text", "passthrough", ["length"]), ("tabular", "passthrough", ["price"])]
    >>> late = {"late": DecisionFusionClassifier(LogisticRegression())}
    >>> result = strategy_comparison(modalities, X, y, candidates=late, costs={"text": 0.5}, cv=3)
    >>> result.table["modality_ms"].sort_index().to_dict()
    {'late': 500.0, 'tabular alone': 0.0, 'text alone': 500.0}
    """
    kept = [m for m in modalities if not (isinstance(m[1], str) and m[1] == "drop")]
    names = [name for name, _, _ in kept]
    given = _read_costs(costs, names)
    X = to_frame(X)
    comparison = compare_fusions(
        modalities,
        X,
        y,
        candidates=candidates,
        cv=cv,
        groups=groups,
        scoring=scoring,
        classify=classify,
        n_jobs=n_jobs,
        **params,
    )
    rng = check_random_state(random_state)
    notes: list[str] = []
    all_costs = {m[0]: given[m[0]] if m[0] in given else _seconds_to_encode(m, X, rng, notes) for m in kept}
    used = {name: _uses(name, (candidates or {}).get(name), names) for name in comparison.table.index}
    early = [name for name, c in (candidates or {}).items() if isinstance(c, CascadeFusionClassifier)]
    if early:
        notes.append(f"modality_ms of {early} is for rows that reach the last stage; see expected_cost_.")
    return StrategyComparison(comparison, used, all_costs, notes)


def _read_costs(costs: Mapping[str, float] | None, names: list[str]) -> dict[str, float]:
    costs = dict(costs or {})
    unknown = sorted(set(costs) - set(names), key=str)
    if unknown:
        raise ValueError(f"costs names {unknown}, which are not modalities; the modalities are {names}.")
    for name, cost in costs.items():
        if not (isinstance(cost, Real) and 0 <= float(cost) < np.inf):
            raise ValueError(f"costs[{name!r}] must be a number of at least 0; got {cost!r}.")
    return {name: float(cost) for name, cost in costs.items()}


def _seconds_to_encode(modality: tuple[str, Any, Any], X: pd.DataFrame, rng: Any, notes: list[str]) -> float:
    """Measure the mean seconds to encode one row, without the time to fit and load the encoder."""
    name, encoder, columns = modality
    if isinstance(encoder, str):
        return 0.0
    columns = list_columns(columns)
    held = np.flatnonzero(
        [not all(map(is_missing, cells)) for cells in zip(*(X[c].tolist() for c in columns), strict=True)]
    )
    if not len(held):
        notes.append(f"No row holds {name!r}, so its cost is taken as 0; pass costs={{{name!r}: seconds}}.")
        return 0.0
    sample = X[columns].iloc[rng.permutation(held)[:_TIMED_ROWS]]
    encode = make_fusion_pipeline([modality])[:-1].fit(X)
    with config_context(cache=None, progress=False):
        encode.transform(sample.iloc[:1])
        start = perf_counter()
        encode.transform(sample)
        return (perf_counter() - start) / len(sample)


def _uses(name: str, candidate: Any, names: list[str]) -> list[str]:
    """Return the modalities that a strategy needs."""
    if name.removesuffix(ALONE) in names and candidate is None:
        return [name.removesuffix(ALONE)]
    if not isinstance(candidate, (DecisionFusionClassifier, DecisionFusionRegressor)):
        return names
    return [n for n in names if not (isinstance(given := candidate._given(n), str) and given == "drop")]


def _spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Return heights from 0 to 1 near the wanted ones, in the same order and at least `gap` apart if that fits."""
    order = np.argsort(wanted, kind="stable")
    gap = min(gap, 1 / max(len(wanted) - 1, 1))
    heights = wanted[order].astype(float)
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    heights[-1:] = np.minimum(heights[-1:], 1.0)
    for i in range(len(heights) - 2, -1, -1):
        heights[i] = min(heights[i], heights[i + 1] - gap)
    out = np.empty_like(heights)
    out[order] = heights
    return out
