"""Votes: each member counts by its first choice, or by its ranking."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from ensemblefuse.combine._base import BasePool
from ensemblefuse.combine.probabilities import TIE_WEIGHT

__all__ = ["VotePool"]


class VotePool(BasePool):
    """Majority vote or Borda count of the members present in a row. Classification only.

    The shares of the votes are returned as probabilities. They are coarse; a fusion estimator calibrates them.

    Parameters
    ----------
    method : {"hard", "borda"}
        ``"hard"``: one vote per member, for its most probable class. Equally probable classes share the vote. Ties
        between counts are decided by the mean probability.
        ``"borda"``: 0 points for a member's last class, K - 1 for its first, means on ties.

    References
    ----------
    Kittler et al., TPAMI 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import VotePool
    >>> P = np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.6, 0.4], [0.2, 0.8]], [[0.3, 0.7], [0.1, 0.9]]])
    >>> VotePool().fit(P, ["cat", "dog"]).combine(P).argmax(axis=1)
    array([0, 1])
    """

    def __init__(self, method="hard"):
        self.method = method

    def _fit(self, P, y, mask, weight):
        if self.method not in ("hard", "borda"):
            raise ValueError(f'method must be "hard" or "borda"; got {self.method!r}.')
        self._refuse_regression(P)

    def _combine(self, P, mask):
        present = mask[..., None]
        filled = np.where(present, P, 0.0)
        if self.method == "borda":
            points = np.where(present, rankdata(filled, axis=2) - 1, 0.0).sum(axis=0)
        else:
            first = (filled == filled.max(axis=2, keepdims=True)) & present
            points = (first / first.sum(axis=2, keepdims=True).clip(1)).sum(axis=0)
        mean = filled.sum(axis=0) / np.maximum(mask.sum(axis=0), 1)[:, None]
        points = points + TIE_WEIGHT * mean
        return points / np.maximum(points.sum(axis=1, keepdims=True), np.finfo(float).tiny)
