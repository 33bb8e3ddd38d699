"""The linear pool with a weight for each row and member: a more certain member counts more."""

from __future__ import annotations

import numpy as np
from scipy.special import entr

from ensemblefuse.combine._base import BasePool, weighted_mean

__all__ = ["EntropyPool"]


class EntropyPool(BasePool):
    r"""Mean of probabilities, weighted in each row by how certain each member is. Classification only.

    The weight of a member in a row is :math:`1 - H(p_m) / \log K`: 0 for equal probabilities, 1 for a certain
    prediction. The weights of the present members are scaled to sum to 1. If all present members are uniform, they get
    equal weights. Only the class frequencies are learned. A certain but wrong member dominates the mean. Use this pool
    for calibrated members, and for blocks that are corrupted in some rows.

    References
    ----------
    The static form of the uncertainty weights of Zhang et al., ICML 2023 (QMF), with entropy for energy.

    Examples
    --------
    The second member is uniform, so the first decides:

    >>> import numpy as np
    >>> from ensemblefuse import EntropyPool
    >>> P = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0.5, 0.5]]])
    >>> EntropyPool().fit(P, ["cat", "dog"]).combine(P)
    array([[0.9, 0.1],
           [0.2, 0.8]])
    """

    def _fit(self, P, y, mask, weight):
        self._refuse_regression(P)

    def _combine(self, P, mask):
        entropy = entr(np.where(mask[..., None], P, 1.0)).sum(axis=2)
        return weighted_mean(P, mask, np.maximum(1 - entropy / np.log(P.shape[2]), 0.0))
