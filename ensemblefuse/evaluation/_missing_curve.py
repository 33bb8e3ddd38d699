"""Scores of a fitted model when modalities go missing: at random, by value, or one whole modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from ensemblefuse._seeds import own_seed
from ensemblefuse.evaluation._missing_curve_result import MissingModalityCurve, MissingModalityCurveDisplay
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fitted.subsets import all_subsets, predict_subsets
from ensemblefuse.scoring.bootstrap import Resampling
from ensemblefuse.scoring.display import drawn_by
from ensemblefuse.scoring.inputs import warn_of_class_groups
from ensemblefuse.scoring.metrics import METRICS, mean_scores, read_metric, row_values
from ensemblefuse.table import to_frame

__all__ = ["missing_modality_curve", "simulate_missing"]

MECHANISMS = ("random", "by_value", "column")
ANY = "any"
_RESAMPLES = 1000


def simulate_missing(
    present: Any,
    rate: float,
    mechanism: str = "random",
    *,
    modalities: Sequence[int] | None = None,
    values: Any = None,
    random_state: Any = 0,
) -> np.ndarray:
    """Draw which modalities each row still holds after a share of them goes missing.

    Parameters
    ----------
    present : array of shape (n_modalities, n_rows), dtype bool
        Which modalities each row holds before.
    rate : float from 0 to 1
        Of the rows that hold a modality, the mean share that lose it.
    mechanism : {"random", "by_value", "column"}
        ``"random"``: each row loses each modality with probability `rate`, independently; a row may lose all.
        ``"by_value"``: the same, but the probability rises with the rank of the row's value, from 0 to at most 1, with
        mean `rate`; rows of equal value have equal probabilities. ``"column"``: exactly ``round(rate * n)`` of the n
        rows that hold a modality lose it, drawn without replacement; at rate 1 all rows lose it.
    modalities : sequence of int, optional
        Positions of the modalities that may go missing; by default all.
    values : array of shape (n_rows,), optional
        For ``"by_value"``.
    random_state : int, RandomState or None
        With the same int, what is missing at one rate is also missing at every higher rate.

    Returns
    -------
    ndarray of shape (n_modalities, n_rows), dtype bool
        True where a row still holds the modality.

    Raises
    ------
    ValueError
        If a parameter has none of the values above, or `values` are needed and not given.

    Notes
    -----
    "random" is missing completely at random; "by_value" is missing not at random where the model does not see the
    value (Rubin, Biometrika 63, 1976). The probability of rank share r is ``r ** (1 / rate - 1)``, whose mean over r
    from 0 to 1 is `rate`. Each of the n rows has the mean of this function over an interval of length 1 / n.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import simulate_missing
    >>> present = np.ones((2, 6), dtype=bool)
    >>> simulate_missing(present, 0.5, "column", modalities=[1]).sum(axis=1)
    array([6, 3])
    """
    kept = np.array(present, dtype=bool)
    if kept.ndim != 2:
        raise ValueError(f"present must have the shape (n_modalities, n_rows); got {kept.shape}.")
    _check_rates([rate])
    _check_mechanisms([mechanism])
    if mechanism == "by_value":
        values = _read_values(values, kept.shape[1])
    draws = check_random_state(own_seed(random_state)).random_sample(kept.shape)
    for place in range(len(kept)) if modalities is None else modalities:
        rows = np.flatnonzero(kept[place])
        own = draws[place, rows]
        if mechanism == "column":
            lost = rows[np.argsort(own, kind="stable")[: round(rate * len(rows))]]
        elif mechanism == "random":
            lost = rows[own < rate]
        else:
            lost = rows[own < _chances(values[rows], rate)]
        kept[place, lost] = False
    return kept


def _chances(values: np.ndarray, rate: float) -> np.ndarray:
    """Return probabilities of loss that rise with the rank of the value and have the mean `rate`."""
    n = len(values)
    if rate in (0, 1) or n == 0:
        return np.full(n, float(rate))
    # The integral of r ** (1 / rate - 1) from 0 to r is rate * r ** (1 / rate); n times its increments are the means.
    up_to = (np.arange(n + 1) / n) ** (1 / rate)
    by_rank = n * rate * np.diff(up_to)
    chances = np.empty(n)
    chances[np.argsort(values, kind="stable")] = by_rank
    _, tie = np.unique(values, return_inverse=True)
    return (np.bincount(tie, weights=chances) / np.bincount(tie))[tie]


@drawn_by(MissingModalityCurveDisplay)
def missing_modality_curve(
    model: Any,
    X: Any = None,
    y: Any = None,
    *,
    rates: Sequence[float] = (0, 0.1, 0.3, 0.5, 0.7, 0.9),
    mechanisms: Sequence[str] = MECHANISMS,
    modalities: Sequence[str] | None = None,
    metric: str | None = None,
    values: Any = None,
    groups: Any = None,
    n_repeats: int = 5,
    confidence_level: float = 0.95,
    random_state: Any = 0,
) -> MissingModalityCurve:
    """Score a fitted model on rows that lose their modalities at rising rates.

    Nothing is fitted, and `X` is encoded once. The score of each row is computed once for each subset of modalities
    that occurs, and each draw picks from these. What is missing at one rate is also missing at every higher rate. A
    cascade encodes by itself: it gets raw cells, and encodes those again that are not in the cache.

    Parameters
    ----------
    model : fitted pipeline that ends in a fusion estimator, or fitted fusion estimator
    X : DataFrame of n_samples rows, optional
        Rows that the model was not fitted on. Without `X`, decision-level fusion is scored on its out-of-fold
        predictions for the rows of fit.
    y : array of shape (n_samples,), optional
    rates : sequence of float from 0 to 1
    mechanisms : sequence of {"random", "by_value", "column"}
        See `simulate_missing`. With ``"random"`` and ``"by_value"`` all `modalities` may go missing, each by a draw of
        its own. With ``"column"`` only one goes missing at a time, which gives one curve per modality.
    modalities : sequence of str, optional
        Those that may go missing, at most 8; by default all. The others stay.
    metric : str, optional
        As in `modality_ablation`.
    values : array of shape (n_samples,), optional
        For ``"by_value"``: rows of large values lose their modalities first. By default 1 minus the largest class
        probability that the model gives with all modalities; in regression its prediction. Without `X`: one value for
        each row of fit.
    groups : array of shape (n_samples,), optional
        Rows of one group are drawn together for the intervals. Without `X`: groups of the rows of fit.
    n_repeats : int
        Number of draws for each mechanism and rate.
    confidence_level : float
    random_state : int, RandomState or None
        Seed of the draws, and of the 1000 resamples of rows, or of groups, for the intervals.

    Returns
    -------
    MissingModalityCurve

    Raises
    ------
    ValueError
        If a parameter has none of the values above, or the model keeps no ledger and `X` and `y` are not given.
    TypeError
        If the model does not end in a fusion estimator.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, missing_modality_curve
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 2
    >>> X = pd.DataFrame({"text__0": y + rng.normal(size=60), "image__0": 3 * y + rng.normal(size=60)})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y)
    >>> result = missing_modality_curve(model, rates=[0, 0.5, 1], mechanisms=["column"], metric="accuracy")
    >>> image = result.table.query("modality == 'image'")
    >>> image["score"].is_monotonic_decreasing, result.best_single
    (True, 'image')
    """
    parts = FittedModel(model)
    metric = read_metric(metric, parts.classify)
    rates, mechanisms = _check_rates(rates), _check_mechanisms(mechanisms)
    if n_repeats < 1:
        raise ValueError(f"n_repeats must be at least 1; got {n_repeats!r}.")
    known = _Values(parts, X, y, metric)
    going = _check_modalities(modalities, parts.names)
    units = None if groups is None else known.read_groups(groups)
    if units is not None and parts.classify:
        warn_of_class_groups(units, known.codes)
    given = values is not None
    if "by_value" in mechanisms:
        values = _read_values(values, known.n_samples)[known.rows] if given else known.unsure()
    rng = check_random_state(random_state)
    seeds = rng.randint(np.iinfo(np.int32).max, size=n_repeats)
    records, columns = [], []
    for mechanism in mechanisms:
        curves = {name: [name] for name in going} if mechanism == "column" else {ANY: going}
        for label, some in curves.items():
            places = [parts.names.index(name) for name in some]
            for rate in rates:
                draws = [
                    simulate_missing(
                        known.present, rate, mechanism, modalities=places, values=values, random_state=seed
                    )
                    for seed in seeds
                ]
                columns.append(np.mean([known.pick(kept) for kept in draws], axis=0))
                empty = float(np.mean([~kept.any(axis=0) for kept in draws]))
                records.append({"mechanism": mechanism, "modality": label, "rate": rate, "share_empty": empty})
    worth = np.column_stack(columns)
    both = np.column_stack([worth, worth - known.of([])[:, None]])
    ends = Resampling(_RESAMPLES, confidence_level, rng, units, known.sample_weight).interval(both)
    table = pd.DataFrame(records)
    for i, names in enumerate((["score", "low", "high"], ["gain", "gain_low", "gain_high"])):
        own = slice(i * len(table), (i + 1) * len(table))
        figures = [mean_scores(both, known.sample_weight), *ends]
        table = table.assign(**{name: figure[own] for name, figure in zip(names, figures, strict=True)})
    last = ["score", "low", "high", "share_empty", "gain", "gain_low", "gain_high"]
    table = table[["mechanism", "modality", "rate", *last]]
    n_rows = len(known.rows)
    source = "out of fold, from the model's ledger" if X is None else "modalities hidden from the fitted model"
    return MissingModalityCurve(
        table,
        f"{METRICS[metric].scorer} (greater is better) on {n_rows} rows, {source}; mean of {n_repeats} draws, "
        f"{confidence_level:.0%} intervals over {'rows' if groups is None else 'groups of rows'}",
        [*known.notes, *_notes(table, parts.classify, given)],
        metric=METRICS[metric].scorer,
        method="ledger" if X is None else "predict",
        prior_score=known.score([]),
        single_scores={name: known.score([name]) for name in parts.names},
        names=parts.names,
        n_rows=n_rows,
        confidence_level=confidence_level,
    )


class _Values:
    """Score of each row with each subset of the modalities; each subset is predicted once, when it is needed."""

    def __init__(self, parts: FittedModel, X: Any, y: Any, metric: str):
        if (X is None) != (y is None):
            raise ValueError("X and y belong together: give both, or neither for the out-of-fold predictions of fit.")
        self.parts, self.metric = parts, metric
        self.method = "ledger" if X is None else "predict"
        if X is not None:
            X = X if isinstance(X, np.ndarray) else to_frame(X)
            if len(X) != len(parts.encode_labels(y)):  # before any cell is encoded
                raise ValueError(f"X has {len(X)} rows and y {len(y)}.")
            X = parts.encode(X)
        self.Z, self.y = X, y
        whole = self._ask(parts.names)
        self.whole = whole.predictions[0]
        self.rows, self.present, self.sample_weight = whole.rows, whole.present, whole.sample_weight
        self.codes = whole.y
        self.notes: list[str] = list(whole.notes)
        self.n_samples = len(parts.core._oof["y"] if X is None else X)
        self.found = {frozenset(parts.names): row_values(self.whole, whole.y, metric)}

    def read_groups(self, groups: Any) -> np.ndarray:
        """Return the groups of the scored rows."""
        if np.shape(groups) != (self.n_samples,):
            rows = "rows of fit" if self.method == "ledger" else "rows of X"
            raise ValueError(
                f"groups must hold one value for each of the {self.n_samples} {rows}; got shape {np.shape(groups)}."
            )
        return np.asarray(groups)[self.rows]

    def _ask(self, subset: Sequence[str]) -> Any:
        return predict_subsets(self.parts.fusion, [subset], self.Z, self.y, method=self.method, as_deployed=True)

    def of(self, subset: Sequence[str]) -> np.ndarray:
        key = frozenset(subset)
        if key not in self.found:
            said = self._ask(list(subset))
            self.found[key] = row_values(said.predictions[0], said.y, self.metric)
            self.notes += [note for note in said.notes if note not in self.notes]
        return self.found[key]

    def score(self, subset: Sequence[str]) -> float:
        return float(mean_scores(self.of(subset)[:, None], self.sample_weight)[0])

    def pick(self, kept: np.ndarray) -> np.ndarray:
        """Return the score of each row with the modalities that it still holds."""
        patterns, pattern_of = np.unique(kept, axis=1, return_inverse=True)
        pattern_of = pattern_of.reshape(-1)
        picked = np.empty(kept.shape[1])
        for i, pattern in enumerate(patterns.T):
            subset = [name for name, there in zip(self.parts.names, pattern, strict=True) if there]
            picked[pattern_of == i] = self.of(subset)[pattern_of == i]
        return picked

    def unsure(self) -> np.ndarray:
        """Return the default values, by which ``"by_value"`` ranks the rows."""
        return 1 - self.whole.max(axis=-1) if self.parts.classify else self.whole


def _notes(table: pd.DataFrame, classify: bool, given: bool) -> list[str]:
    notes = []
    worst = table.loc[table["share_empty"].idxmax()]
    if worst["share_empty"] > 0:
        answer = "the class frequencies" if classify else "the mean"
        notes.append(
            f"Rows that lose every modality are predicted by {answer}: up to {worst['share_empty']:.0%} of the rows "
            f"({worst['mechanism']}, rate {worst['rate']:g})."
        )
    if "by_value" in set(table["mechanism"]):
        least = "of which the model is least sure with all modalities" if classify else "of large predictions"
        notes.append(f"by_value: rows {'of large values' if given else least} lose their modalities first.")
    return notes


def _check_rates(rates: Sequence[float]) -> list[float]:
    found = [float(rate) for rate in rates]
    bad = [rate for rate in found if not 0 <= rate <= 1]
    if bad or not found:
        raise ValueError(f"rates must be shares from 0 to 1; got {bad or 'none'}.")
    return found


def _check_mechanisms(mechanisms: Sequence[str]) -> list[str]:
    given = [mechanisms] if isinstance(mechanisms, str) else list(mechanisms)
    unknown = [name for name in given if name not in MECHANISMS]
    if unknown or not given:
        raise ValueError(f"mechanisms must be among {MECHANISMS}; got {unknown or 'none'}.")
    return given


def _check_modalities(modalities: Sequence[str] | None, names: list[str]) -> list[str]:
    given = names if modalities is None else [modalities] if isinstance(modalities, str) else list(modalities)
    unknown = [name for name in given if name not in names]
    if unknown or not given:
        raise ValueError(f"the model has no modality {unknown or 'in an empty list'}; it has {names}.")
    all_subsets(given)  # raises an error for more than 8 modalities: they have too many subsets
    return given


def _read_values(values: Any, n_rows: int) -> np.ndarray:
    if values is None:
        raise ValueError('mechanism="by_value" needs values, one per row: rows of large values lose modalities first.')
    numbers = np.asarray(values, dtype=float)
    if numbers.shape != (n_rows,) or not np.isfinite(numbers).all():
        what = f"shape {numbers.shape}" if numbers.shape != (n_rows,) else "NaN or infinite ones among them"
        raise ValueError(f"values must hold {n_rows} finite numbers, one per row; got {what}.")
    return numbers
