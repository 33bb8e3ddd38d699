"""Probabilities on the log scale, for pools, fusions and exported graphs."""

from __future__ import annotations

import numpy as np

__all__ = ["LOG_FLOOR", "TIE_WEIGHT", "log_probabilities", "log_sum_exp", "log_sum_exp_and_softmax", "softmax"]


def log_probabilities(P: np.ndarray, floor: float = -20.0) -> np.ndarray:
    """Return logarithms that are not below `floor`, because trees give exact zeros."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(P), floor)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis."""
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True)


def log_sum_exp(scores: np.ndarray) -> np.ndarray:
    """Return the log of the sum of exponentials over the last axis of finite scores."""
    return log_sum_exp_and_softmax(scores)[0]


def log_sum_exp_and_softmax(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both over the last axis of finite scores, from the same exponentials.

    The first replaces scipy's `logsumexp`, whose checks take longer than the sum of a small table. The largest scores
    are kept out of the sum, so that `log1p` keeps the digits of a small rest.
    """
    top = scores.max(axis=-1, keepdims=True)
    highest, powers = scores == top, np.exp(scores - top)
    count = highest.sum(axis=-1, dtype=float)
    rest = np.where(highest, 0.0, powers).sum(axis=-1)
    return np.log1p(rest / count) + np.log(count) + top[..., 0], powers / powers.sum(axis=-1, keepdims=True)


LOG_FLOOR = -12.0


# Together less than one vote, so that the mean probability only decides between equal counts.
TIE_WEIGHT = 0.01
