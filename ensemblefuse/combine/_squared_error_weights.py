"""Non-negative weights of predicted values that minimise the squared error."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import nnls

from ensemblefuse.combine._trusted_share import best_alone, standard_error, trusted_share

# A mean of members has a sum of weights that is known, so its differences need less of a penalty.
_MEAN_PENALTY = 0.1
# The first form within this number of standard errors of the best one is taken.
_ERRORS = 0.5
# The best member is a form of its own only if it is this many standard errors better than the mean of all: with few
# rows, the best one is best by chance.
_CERTAIN = 3.0
# A gain over the best member of this many standard errors is taken as a whole. Of 420 generated ledgers of 2 to 8
# members, 154 were fused worse than their best member by more than .005 of R2 out of fold, and 122 with this rule (of
# 62 with 120 rows, 37 and 22; of 185 with 500 to 2 000 rows, 13 and 11). On new rows, 47 were worse than the member
# that was best out of fold, and 15 with this rule. With 30 rows nobody knows the best member: 45 of 62 remain.
_SURE = 2.0
_FEWEST = 6  # rows that can tell members apart at all
_FORMS_AFTER_MEAN = 3  # in the order of the forms, counted from the last one
_TINY = 1e-12
_RANK = 1e-15


def learn_value_weights(
    evidence: np.ndarray, y: np.ndarray, weight: np.ndarray, alpha: float, shared: float, complete: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Learn weights and intercept in ``intercept + sum_m w_m evidence_m``.

    They minimise the mean log-loss of normal densities plus the penalty of `learn_weights` around 1/M. There are four
    forms, from simple to complex: the best member alone, if it is clearly better than the mean of all; a mean (weights
    that sum to 1, and no intercept); any sum of weights; and any sum with an intercept. The first one is taken whose
    error, by generalised cross-validation, is at most half a standard error above the smallest. Each problem is convex,
    and an active set solves it exactly. Where the gain over the best member alone is less than two standard errors, the
    result is between the two, if the members are `complete`.

    Parameters
    ----------
    evidence : ndarray of shape (n_members, n_samples)
        0 where a member is absent.
    y : ndarray of shape (n_samples,)
        In the unit of `evidence`, from the same zero.
    weight : ndarray of shape (n_samples,)
        As in scikit-learn, a row of weight 2 counts as two rows.
    alpha, shared : float
        As in `learn_weights`.
    complete : bool
        Whether no member is absent in any row. The best member alone would leave rows without it to the prior.

    Returns
    -------
    weights : ndarray of shape (n_members,)
    intercept : ndarray of shape (1,)

    References
    ----------
    Breiman, Stacked regressions, Machine Learning 1996 (non-negative weights); Golub, Heath and Wahba, Technometrics
    1979 (generalised cross-validation).
    """
    n_members, n = len(evidence), weight.sum()
    unit = np.sqrt(max(float(np.average(y**2, weights=weight)), float((evidence**2 @ weight).max() / n)))
    if unit == 0:
        return np.full(n_members, 1 / n_members), np.zeros(1)
    evidence, y = evidence / unit, y / unit
    residuals, errors, found = [], [], []
    for weights, intercept, freedom in _forms(evidence, y, weight, alpha, shared):
        residuals.append((y - intercept - weights @ evidence) ** 2)
        left = max(1 - freedom / n, 0.0)
        errors.append(np.average(residuals[-1], weights=weight) / left**2 if left else np.inf)
        found.append((weights, intercept * unit))
    if not np.isfinite(errors).any():  # fewer rows than any form has degrees of freedom
        weights, intercept = found[-_FORMS_AFTER_MEAN]
        return weights, np.array([intercept])
    best = int(np.argmin(errors))
    margins = [_ERRORS * standard_error(own - residuals[best], weight) for own in residuals]
    chosen = next(i for i, margin in enumerate(margins) if errors[i] - errors[best] <= margin)
    weights, intercept = found[chosen]
    counted = weight > 0
    if not complete or counted.sum() < _FEWEST:
        return weights, np.array([intercept])
    evidence, y, weight, learned = evidence[:, counted], y[counted], weight[counted], residuals[chosen][counted]
    alone = best_alone((evidence - y) ** 2, y**2 * (counted.sum() / (counted.sum() - 1)) ** 2, weight)
    share = trusted_share((alone @ evidence - y) ** 2 - learned, weight, _SURE)
    return share * weights + (1 - share) * alone, np.array([share * intercept])


def _best_member(errors: np.ndarray, weight: np.ndarray) -> np.ndarray | None:
    """Return weights for the best member alone, or for those that tie; None if it is not clearly the best.

    `errors` has shape (n_members, n_samples).
    """
    losses = errors**2 @ weight
    best = int(losses.argmin())
    gap = errors.mean(axis=0) ** 2 - errors[best] ** 2
    if not np.average(gap, weights=weight) > _CERTAIN * standard_error(gap, weight):
        return None
    ties = losses <= losses[best] * (1 + 1e-9)
    return ties / ties.sum()


def _forms(
    evidence: np.ndarray, y: np.ndarray, weight: np.ndarray, alpha: float, shared: float
) -> Iterator[tuple[np.ndarray, float, float]]:
    """Yield weights, intercept and degrees of freedom of each form, from simple to complex."""
    n_members, n = len(evidence), weight.sum()
    # The error of the best member makes the penalty independent of the unit, and of how far y can be predicted.
    noise = max(float((((y - evidence) ** 2) @ weight).min() / n), _TINY)
    average = np.full((n_members, n_members), 1 / n_members)
    differences = np.eye(n_members) - average
    scaled = evidence * (weight / (2 * noise))
    gram, moment = scaled @ evidence.T, scaled @ y
    alone = _best_member(evidence - y, weight)
    if alone is not None:
        yield alone, 0.0, 1.0
    weights, freedom = _solve_mean(evidence - y, weight / (2 * noise), _MEAN_PENALTY * alpha)
    yield weights, 0.0, freedom
    pull = alpha * (differences + shared * average)
    weights, freedom = _solve(gram, moment, pull)
    yield weights, 0.0, freedom
    mean, level = evidence @ weight / n, float(y @ weight / n)
    centred = evidence - mean[:, None]
    scaled = centred * (weight / (2 * noise))
    weights, freedom = _solve(scaled @ centred.T, scaled @ (y - level), pull)
    yield weights, float(level - weights @ mean), freedom + 1


def _solve_mean(errors: np.ndarray, weight: np.ndarray, alpha: float) -> tuple[np.ndarray, float]:
    """Return the non-negative weights with the sum 1 and the least squared error of the mean, and degrees of freedom.

    The error of a mean is the mean of the errors, so error and penalty are a quadratic form of the weights. Its minimum
    on the line of one direction grows with its value at the sum 1, whatever the factor of ``(sum - 1)^2``.
    """
    n_members = len(errors)
    square = (errors * weight) @ errors.T + alpha * (np.eye(n_members) - 1 / n_members)
    factor = np.trace(square) / n_members or 1.0
    weights = _non_negative(square + factor, np.full(n_members, factor))
    weights /= weights.sum()
    active = weights > 0
    differences = np.eye(active.sum()) - 1 / active.sum()
    gram = differences @ ((errors[active] * weight) @ errors[active].T) @ differences
    return weights, float(np.trace(np.linalg.pinv(gram + alpha * differences, hermitian=True) @ gram))


def _solve(gram: np.ndarray, moment: np.ndarray, pull: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the non-negative w with the least ``w' gram w - 2 w' moment + gap' pull gap``, and its degrees of freedom.

    `gap` is w - 1/M. The degrees of freedom are the trace of the matrix that turns `y` into its fit, for the weights
    above 0.
    """
    whole = gram + pull
    weights = _non_negative(whole, moment + pull.mean(axis=1))
    active = np.ix_(weights > 0, weights > 0)
    return weights, float(np.trace(np.linalg.pinv(whole[active], hermitian=True) @ gram[active]))


def _non_negative(square: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Return the non-negative w with the least ``w' square w - 2 w' linear``."""
    size, axes = np.linalg.eigh(square)
    kept = size > _RANK * size[-1]
    if not kept.any():
        return np.zeros(len(linear))
    root = np.sqrt(size[kept])
    return nnls(root[:, None] * axes[:, kept].T, axes[:, kept].T @ linear / root)[0]
