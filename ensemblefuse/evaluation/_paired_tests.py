"""Paired tests of two models over the folds of one cross-validation.

Folds share training rows, so their scores are correlated. The plain t-test assumes that the mean of J scores has 1/J of
their variance. That is too little for correlated scores, and the test then reports differences where there are none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

__all__ = ["BayesianTTest", "CorrectedTTest", "bayesian_ttest", "corrected_ttest"]

# Differences with a spread below this part of their size are equal up to rounding.
_ROUNDING = 1e-9


class CorrectedTTest(NamedTuple):
    """Result of `corrected_ttest`."""

    statistic: float
    """t; positive if the first model is better."""
    pvalue: float
    """Two-sided."""
    df: int
    """Degrees of freedom: the number of differences minus 1."""


class BayesianTTest(NamedTuple):
    """Result of `bayesian_ttest`: three probabilities that sum to 1."""

    p_better: float
    """Probability that the first model is better by more than `rope`."""
    p_rope: float
    """Probability that the two differ by at most `rope`."""
    p_worse: float
    """Probability that the first model is worse by more than `rope`."""


def corrected_ttest(differences: Any, n_train: float, n_test: float) -> CorrectedTTest:
    """Test score differences over the folds of a (repeated) cross-validation, corrected for shared training rows.

    ``t = mean / sqrt((1 / J + n_test / n_train) * variance)`` with J - 1 degrees of freedom, where J is the number of
    differences and `variance` their variance with the divisor J - 1. The term ``n_test / n_train`` corrects for the
    correlation of the folds, which more repeats do not remove.

    Parameters
    ----------
    differences : array of shape (n_folds * n_repeats,)
        Score of the first model minus the score of the second, one per fold.
    n_train, n_test : float
        Rows of a training part and of a test part; their means if they vary. Only their ratio matters.

    Returns
    -------
    CorrectedTTest
        ``(statistic, pvalue, df)``. If all differences are 0, ``(0.0, 1.0, df)``; if all are equal and not 0, the
        statistic is infinite and the p-value 0.

    Raises
    ------
    ValueError
        If there are fewer than 2 differences, one is not finite, or a number of rows is not positive.

    References
    ----------
    Nadeau and Bengio, Inference for the generalization error, Machine Learning 52, 2003, section 3.3.

    Examples
    --------
    >>> from ensemblefuse import corrected_ttest
    >>> d = [0.02, 0.01, 0.03, 0.0, 0.02, 0.01, 0.015, 0.025, 0.005, 0.02]
    >>> result = corrected_ttest(d, n_train=90, n_test=10)
    >>> round(result.statistic, 4), round(result.pvalue, 5), result.df
    (3.6412, 0.00539, 9)
    """
    mean, error, df = _mean_and_error(differences, n_train, n_test)
    if error > 0:
        t = mean / error
    else:
        t = float(np.sign(mean) * np.inf) if mean else 0.0
    return CorrectedTTest(t, float(2 * stats.t.sf(abs(t), df)), df)


def bayesian_ttest(differences: Any, n_train: float, n_test: float, *, rope: float = 0.0) -> BayesianTTest:
    """Compute how probable it is that one model is better than another, given their score differences over folds.

    The posterior of the mean difference is a Student t distribution with J - 1 degrees of freedom, located at the mean
    of the differences. Its scale is the standard error of `corrected_ttest`.

    Parameters
    ----------
    differences, n_train, n_test
        As in `corrected_ttest`.
    rope : float
        Region of practical equivalence, in units of the score: differences from -rope to rope count as no difference.

    Returns
    -------
    BayesianTTest
        ``(p_better, p_rope, p_worse)`` of the first model. If all differences are equal, one of the three is 1.

    Raises
    ------
    ValueError
        As in `corrected_ttest`; or if `rope` is negative.

    References
    ----------
    Benavoli, Corani, Demšar and Zaffalon, Time for a change, JMLR 18, 2017, section 3.1 (the correlated t-test, with
    the correlation ``n_test / (n_train + n_test)``).

    Examples
    --------
    >>> from ensemblefuse import bayesian_ttest
    >>> d = [0.02, 0.01, 0.03, 0.0, 0.02, 0.01, 0.015, 0.025, 0.005, 0.02]
    >>> round(bayesian_ttest(d, n_train=90, n_test=10).p_better, 5)
    0.9973
    >>> [round(p, 3) for p in bayesian_ttest(d, n_train=90, n_test=10, rope=0.01)]
    [0.886, 0.114, 0.0]
    """
    check_rope(rope)
    mean, error, df = _mean_and_error(differences, n_train, n_test)
    if error > 0:
        better = float(stats.t.sf(rope, df, loc=mean, scale=error))
        worse = float(stats.t.cdf(-rope, df, loc=mean, scale=error))
    else:
        better, worse = float(mean > rope), float(mean < -rope)
    return BayesianTTest(better, max(0.0, 1.0 - better - worse), worse)


def check_rope(rope: float) -> None:
    """Raise an error if the region of equivalence is negative."""
    if not rope >= 0:
        raise ValueError(f"rope must be a number of at least 0; got {rope!r}.")


def _mean_and_error(differences: Any, n_train: float, n_test: float) -> tuple[float, float, int]:
    """Return the mean difference, its corrected standard error (0 if all are equal), and the degrees of freedom."""
    d = np.asarray(differences, dtype=float)
    if d.ndim != 1 or len(d) < 2:
        raise ValueError(f"differences must be at least 2 numbers, one per fold; got shape {d.shape}.")
    if not np.isfinite(d).all():
        raise ValueError(f"differences hold NaN or infinity in the folds {np.flatnonzero(~np.isfinite(d)).tolist()}.")
    if not (n_train > 0 and n_test > 0):
        raise ValueError(f"n_train and n_test must be numbers of rows above 0; got {n_train!r} and {n_test!r}.")
    if np.ptp(d) <= _ROUNDING * np.abs(d).max():
        return float(np.median(d)), 0.0, len(d) - 1
    # 1 / J is the variance of a mean of independent scores; n_test / n_train adds the correlation between folds.
    return float(d.mean()), float(np.sqrt((1 / len(d) + n_test / n_train) * d.var(ddof=1))), len(d) - 1
