"""Checks for modalities that are missing or constant."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state

from ensemblefuse._seeds import own_seed
from ensemblefuse.fusion.splits import InseparableGroupsError, make_splits, quiet_about_groups
from ensemblefuse.inspection._checks_data import CheckData, NotRun
from ensemblefuse.scoring.bootstrap import Resampling

__all__ = ["check_empty_modality", "check_missingness"]

_LEVEL = 0.01
_PERMUTATIONS = 999
_RESAMPLES = 500
_FEWEST_ROWS = 30
_NEARLY_MISSING = 0.05

Answer = tuple[str, str, str, list]


def check_missingness(data: CheckData) -> Answer:
    """Check whether the pattern of missing modalities alone predicts the label.

    Two conditions must hold. A permutation test of all modalities together is significant, and cross-validated
    predictions from the pattern beat those from the class frequencies. Permutation tests with Holm's correction then
    name single modalities.
    """
    present, y = data.presence
    names, n = data.parts.names, len(y)
    pattern = np.unique(present.T, axis=0, return_inverse=True)[1].reshape(-1)
    if not pattern.any():
        return "ok", f"All {n} rows hold the same modalities.", "", []
    if n < _FEWEST_ROWS:
        raise NotRun(f"{n} rows are too few; {_FEWEST_ROWS} are needed.")
    rng = check_random_state(own_seed(data.random_state))
    p_value = _permutation_p(pattern, y, rng)
    gain, low, high, right, most = _cross_validated(data, pattern, y)
    unit = "nats per row" if data.parts.classify else "squared error per row"
    figures = (
        f"p = {p_value:.3f} by {_PERMUTATIONS} permutations; cross-validated gain over the baseline {gain:.3f} "
        f"{unit} (95 % interval {low:.3f} to {high:.3f})"
    )
    if data.parts.classify:
        figures += f", accuracy {right:.1%} against {most:.1%} for the largest class"
    if p_value > _LEVEL or not low > 0:
        return "ok", f"Missing modalities do not predict the label: {figures}.", "", []
    single = [_permutation_p(there.astype(int), y, rng) for there in present]
    told = [name for name, p in zip(names, _holm(np.array(single)), strict=True) if p <= 5 * _LEVEL]
    named = f" Mainly {told}." if told else " No single modality predicts it, only their combination."
    advice = (
        "Find out why they are missing, and whether they will be missing in the same way when the model is used; if "
        "not, leave out such rows or columns, or train with gaps made at random (ModalityDropout)."
    )
    return "issue", f"Missing modalities predict the label: {figures}.{named}", advice, []


def _permutation_p(pattern: np.ndarray, y: np.ndarray, rng: np.random.RandomState) -> float:
    if pattern.max() == pattern.min():
        return 1.0
    own = _dependence(pattern, y)
    others = np.array([_dependence(pattern, rng.permutation(y)) for _ in range(_PERMUTATIONS)])
    return float((1 + (others >= own * (1 - 1e-9)).sum()) / (1 + _PERMUTATIONS))


def _dependence(pattern: np.ndarray, y: np.ndarray) -> float:
    """Compute the mutual information of pattern and class, in nats; in regression the variance between patterns."""
    if y.dtype.kind == "f":
        counts = np.bincount(pattern)
        means = np.bincount(pattern, weights=y) / np.maximum(counts, 1)
        return float((counts * (means - y.mean()) ** 2).sum() / len(y))
    table = np.bincount(pattern * (y.max() + 1) + y, minlength=(pattern.max() + 1) * (y.max() + 1)).astype(float)
    table = table.reshape(pattern.max() + 1, -1) / len(y)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0)
    some = table > 0
    return float((table[some] * np.log(table[some] / expected[some])).sum())


def _cross_validated(data: CheckData, pattern: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    """Return the gain of predicting from the pattern, its interval (2 ends), accuracy, share of the largest class."""
    groups = data.groups if data.groups is not None and len(data.groups) == len(y) else None
    if groups is not None and len(np.unique(groups)) < 2:
        raise NotRun("needs 2 groups or more: one group cannot be split.")
    try:
        with quiet_about_groups():  # of a class that is one group, both predictions are wrong
            splits = make_splits(5, y, groups, classify=data.parts.classify)
    except InseparableGroupsError as error:
        raise NotRun(f"{error}") from error
    gain, right = np.full(len(y), np.nan), np.full(len(y), np.nan)
    for train, test in splits:
        gain[test], right[test] = _gain_of_pattern(pattern, y, train, test, data.parts.classify)
    rows = np.isfinite(gain)
    groups = None if groups is None else groups[rows]
    low, high = Resampling(_RESAMPLES, seed=data.random_state, groups=groups).interval(gain[rows, None])
    most = float(np.max(np.bincount(y))) / len(y) if data.parts.classify else np.nan
    return float(gain[rows].mean()), float(low[0]), float(high[0]), float(right[rows].mean()), most


def _gain_of_pattern(pattern, y, train, test, classify) -> tuple[np.ndarray, np.ndarray]:
    """Compute, for each test row, the gain of the pattern over the training prior, and whether its class is right.

    The prior is the class frequencies, in regression the mean. Each pattern is smoothed with one pseudo-row of it, so
    that a rare pattern has no extreme probability.
    """
    n_patterns = pattern.max() + 1
    counts = np.bincount(pattern[train], minlength=n_patterns)
    if not classify:
        mean = y[train].mean()
        means = (np.bincount(pattern[train], weights=y[train], minlength=n_patterns) + mean) / (counts + 1)
        return (y[test] - mean) ** 2 - (y[test] - means[pattern[test]]) ** 2, np.full(len(test), np.nan)
    n_classes = y.max() + 1
    prior = (np.bincount(y[train], minlength=n_classes) + 1 / n_classes) / (len(train) + 1)
    table = np.bincount(pattern[train] * n_classes + y[train], minlength=n_patterns * n_classes).reshape(n_patterns, -1)
    proba = ((table + prior) / (counts[:, None] + 1))[pattern[test]]
    own = proba[np.arange(len(test)), y[test]]
    return np.log(own) - np.log(prior[y[test]]), (proba.argmax(axis=1) == y[test]).astype(float)


def _holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust p-values by Holm's step-down method (Scandinavian Journal of Statistics, 1979)."""
    order = np.argsort(p_values, kind="stable")
    steps = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def check_empty_modality(data: CheckData) -> Answer:
    """Check for modalities that are missing nearly everywhere, or the same in all rows."""
    names = data.parts.names
    if data.X is None and not data.parts.has_ledger:
        raise NotRun("needs X, the rows of fit.")
    present = data.parts.core._oof["present"] if data.X is None else np.array([data.rows.present[n] for n in names])
    shares = dict(zip(names, present.mean(axis=1).tolist(), strict=True))
    rare = {name: share for name, share in shares.items() if share < _NEARLY_MISSING}
    constant = [name for name in names if data.X is not None and _is_constant(data, name)]
    said = [f"{name!r} is present in {share:.1%} of {present.shape[1]} rows" for name, share in rare.items()]
    said += [f"{name!r} is the same in all rows that have it" for name in constant]
    if said:
        advice = 'Check its columns and encoder, or leave it out: ("name", "drop", columns).'
        return "issue", f"{'; '.join(said)}.", advice, []
    least = min(shares, key=lambda name: shares[name])
    unseen = "" if data.X is not None else " Without X, constant modalities were not looked for."
    return "ok", f"Each modality is present in {shares[least]:.1%} of the rows or more ({least!r}).{unseen}", "", []


def _is_constant(data: CheckData, name: str) -> bool:
    there = data.rows.present[name]
    if there.sum() < 2:
        return False
    block = data.rows.block(name)
    if block is None:
        return len({digest for digest in data.rows.digests(name) if digest is not None}) == 1
    held = np.nan_to_num(block[there])
    return bool(np.ptp(held, axis=0).max() <= 1e-6 * max(1.0, float(np.abs(held).max())))
