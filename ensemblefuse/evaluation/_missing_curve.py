"""How a fitted model fares when modalities go missing, at random, by value, or column by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from ensemblefuse.evaluation._missing_curve_result import MissingModalityCurve, MissingModalityCurveDisplay
from ensemblefuse.fitted.model import ModelParts
from ensemblefuse.fitted.subsets import all_subsets, predict_subsets
from ensemblefuse.scoring.bootstrap import interval, resampled_scores
from ensemblefuse.scoring.display import drawn_by
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
    """Draw which modalities each row still holds after a share of them went missing.

    Parameters
    ----------
    present : array of shape (n_modalities, n_rows), dtype bool
        Which modalities each row holds before.
    rate : float from 0 to 1
        Mean share of the rows that hold a modality which lose it.
    mechanism : {"random", "by_value", "column"}
        ``"random"``: each modality of each row goes with probability `rate`, whatever else goes; a row may lose all.
        ``"by_value"``: the same with a probability that rises with the rank of the row's value, from 0 to at most 1,
        and whose mean is `rate`; rows of equal value have equal probabilities. ``"column"``: a modality goes from
        ``round(rate * n)`` of the n rows that hold it, drawn without replacement; at rate 1 the whole column is gone.
    modalities : sequence of int, optional
        Positions of the modalities that may go; by default all.
    values : array of shape (n_rows,), optional
        For ``"by_value"``.
    random_state : int, RandomState or None
        With the same int, what goes at one rate is also gone at every higher rate.

    Returns
    -------
    ndarray of shape (n_modalities, n_rows), dtype bool
        True where a row holds the modality still.

    Raises
    ------
    ValueError
        If a parameter is none of those above, or `values` are missing where they are needed.

    Notes
    -----
    "random" is missing completely at random; "by_value" is missing not at random where the model does not see the
    value (Rubin, Biometrika 63, 1976). The probability of rank share r is ``r ** (1 / rate - 1)``, whose mean over r
    from 0 to 1 is `rate`; each row has the mean over its n-th of the ranks.

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
    draws = check_random_state(random_state).random_sample(kept.shape)
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
    """Probabilities that rise with the rank and whose mean is the rate."""
    n = len(values)
    if rate in (0, 1) or n == 0:
        return np.full(n, float(rate))
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

    Nothing is fitted, and `X` is encoded once: the model's values for every row and every subset of its modalities are
    computed first, and each draw picks from them. What is drawn at one rate is also gone at every higher rate. A
    cascade, which encodes for itself, is handed raw cells, and encodes again those that are not in the cache.

    Parameters
    ----------
    model : fitted pipeline that ends in a fusion estimator, or fitted fusion estimator
    X : DataFrame of n_samples rows, optional
        Rows that the model was not fitted on. Without it decision-level fusion is scored on its out-of-fold predictions
        of the rows of fit.
    y : array of shape (n_samples,), optional
    rates : sequence of float from 0 to 1
    mechanisms : sequence of {"random", "by_value", "column"}
        See `simulate_missing`. ``"random"`` and ``"by_value"`` take from all `modalities`, each by a draw of its own;
        ``"column"`` takes from one of them alone, which gives a curve for each.
    modalities : sequence of str, optional
        Those that may go, at most 8; by default all. The others stay.
    metric : str, optional
        As in `modality_ablation`.
    values : array of shape (n_samples,), optional
        For ``"by_value"``: rows of large values lose their modalities first. By default 1 less the largest probability
        that the model gives when it sees everything, and in regression its prediction. Without `X`: one value for each
        row of fit.
    groups : array of shape (n_samples,), optional
        Rows of one group are drawn together for the intervals. Without `X`: of the rows of fit.
    n_repeats : int
        Draws of each mechanism and rate.
    confidence_level : float
    random_state : int, RandomState or None
        Of the draws, and of the 1000 resamples of rows, or of groups, for the intervals.

    Returns
    -------
    MissingModalityCurve

    Raises
    ------
    ValueError
        If a parameter is none of those above, or the model keeps no ledger and `X` and `y` are not given.
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
    parts = ModelParts(model)
    metric = read_metric(metric, parts.classify)
    rates, mechanisms = _check_rates(rates), _check_mechanisms(mechanisms)
    if n_repeats < 1:
        raise ValueError(f"n_repeats must be at least 1; got {n_repeats!r}.")
    known = _Values(parts, X, y, metric)
    going = _check_modalities(modalities, parts.names)
    units = None if groups is None else known.read_groups(groups)
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
    low, high = interval(resampled_scores(worth, _RESAMPLES, rng, known.sample_weight, units), confidence_level)
    table = pd.DataFrame(records).assign(score=mean_scores(worth, known.sample_weight), low=low, high=high)
    table = table[["mechanism", "modality", "rate", "score", "low", "high", "share_empty"]]
    n_rows = len(known.rows)
    source = "out of fold, from the model's ledger" if X is None else "modalities hidden from the fitted model"
    return MissingModalityCurve(
        table,
        f"{METRICS[metric].scorer} (the greater the better) on {n_rows} rows, {source}; mean of {n_repeats} draws, "
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
    """What the model's predictions are worth, for each row and subset of the modalities; each subset asked once."""

    def __init__(self, parts: ModelParts, X: Any, y: Any, metric: str):
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
        self.notes: list[str] = list(whole.notes)
        self.n_samples = len(parts.core._oof["y"] if X is None else X)
        self.found = {frozenset(parts.names): row_values(self.whole, whole.y, metric)}

    def read_groups(self, groups: Any) -> np.ndarray:
        """Groups of the scored rows."""
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
        """Values of rows that hold what is kept."""
        patterns, pattern_of = np.unique(kept, axis=1, return_inverse=True)
        pattern_of = pattern_of.reshape(-1)
        picked = np.empty(kept.shape[1])
        for i, pattern in enumerate(patterns.T):
            subset = [name for name, there in zip(self.parts.names, pattern, strict=True) if there]
            picked[pattern_of == i] = self.of(subset)[pattern_of == i]
        return picked

    def unsure(self) -> np.ndarray:
        """What rows are ranked by if the user gives no values."""
        return 1 - self.whole.max(axis=-1) if self.parts.classify else self.whole


def _notes(table: pd.DataFrame, classify: bool, given: bool) -> list[str]:
    notes = []
    worst = table.loc[table["share_empty"].idxmax()]
    if worst["share_empty"] > 0:
        answer = "the class frequencies" if classify else "the mean"
        notes.append(
            f"Rows that lose every modality are answered with {answer}: up to {worst['share_empty']:.0%} of the rows "
            f"({worst['mechanism']}, rate {worst['rate']:g})."
        )
    if "by_value" in set(table["mechanism"]):
        least = "of which the model is least sure when it sees everything" if classify else "of large predictions"
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
        raise ValueError(f"mechanisms must be of {MECHANISMS}; got {unknown or 'none'}.")
    return given


def _check_modalities(modalities: Sequence[str] | None, names: list[str]) -> list[str]:
    given = names if modalities is None else [modalities] if isinstance(modalities, str) else list(modalities)
    unknown = [name for name in given if name not in names]
    if unknown or not given:
        raise ValueError(f"the model has no modality {unknown or 'in an empty list'}; it has {names}.")
    all_subsets(given)  # refuses more than 8, of which there would be too many
    return given


def _read_values(values: Any, n_rows: int) -> np.ndarray:
    if values is None:
        raise ValueError('mechanism="by_value" needs values, one a row: rows of large values lose modalities first.')
    numbers = np.asarray(values, dtype=float)
    if numbers.shape != (n_rows,) or not np.isfinite(numbers).all():
        what = f"shape {numbers.shape}" if numbers.shape != (n_rows,) else "NaN or infinite ones among them"
        raise ValueError(f"values must hold {n_rows} finite numbers, one a row; got {what}.")
    return numbers
