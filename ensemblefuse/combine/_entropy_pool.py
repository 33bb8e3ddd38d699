"""The linear pool with weights that differ from row to row: a certain member counts more."""

from __future__ import annotations

import numpy as np
from scipy.special import entr

from ensemblefuse.combine._base import BasePool, weighted_mean

__all__ = ["EntropyPool"]


class EntropyPool(BasePool):
    r"""Mean of probabilities, weighted in each row by how certain each member is. Classification only.

    The weight of a member in a row is :math:`1 - H(p_m) / \log K`, which is 0 for equal probabilities and 1 for a
    certain prediction; the weights of the present members are scaled to sum to 1. Where all present members are
    uniform they count alike. Nothing is learned but the class frequencies. A member that is certain and wrong
    takes over, so this suits members that are calibrated, and blocks that are corrupted in some rows.

    References
    ----------
    The static form of the uncertainty weights of Zhang et al., ICML 2023 (QMF), with entropy for energy.

    Examples
    --------
    The second member knows nothing, so the first decides:

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
