"""How far learned weights are trusted against the best member alone."""

from __future__ import annotations

import numpy as np

# Losses that differ by less say the same: then the combination is the one that was learned.
_ALIKE = 1e-12

__all__ = ["best_alone", "standard_error", "trusted_share"]


def standard_error(values: np.ndarray, weight: np.ndarray) -> float:
    """Return the standard error of the mean of some values."""
    spread = np.average((values - np.average(values, weights=weight)) ** 2, weights=weight)
    return float(np.sqrt(spread / weight.sum()))


def trusted_share(gain: np.ndarray, weight: np.ndarray, sure: float = 1.0) -> float:
    """Return the share of a combination beside the best member alone, from 0 to 1, by how sure its gain is.

    It grows with the mean gain, from 0 for none to 1 for one of `sure` standard errors. So a gain that may be luck is
    taken in part, and any other as a whole.

    Parameters
    ----------
    gain : ndarray of shape (n_samples,)
        Loss of the best member minus that of the combination, in each row.
    weight : ndarray of shape (n_samples,)
        As in scikit-learn, a row of weight 2 counts as two rows.
    sure : float
    """
    if np.abs(gain).max() <= _ALIKE:
        return 1.0
    mean, error = float(np.average(gain, weights=weight)), sure * standard_error(gain, weight)
    if mean <= 0:
        return 0.0
    return 1.0 if mean >= error else mean / error


def best_alone(losses: np.ndarray, prior: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return weights for the member of the least mean loss, or for those that tie; all 0 if the prior is no worse.

    Parameters
    ----------
    losses : ndarray of shape (n_members, n_samples)
        Of each member alone.
    prior : ndarray of shape (n_samples,)
        Loss of the class frequencies, or of the mean of y.
    weight : ndarray of shape (n_samples,)
    """
    means = losses @ weight
    if means.min() >= prior @ weight:
        return np.zeros(len(losses))
    ties = means <= means.min() * (1 + 1e-9)
    return ties / ties.sum()
