"""Dempster's rule over discounted probabilities: a pool that distinguishes ignorance from conflict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ensemblefuse.combine._base import BasePool, accuracies, member_weights

__all__ = ["DempsterShaferPool"]


class DempsterShaferPool(BasePool):
    r"""Dempster-Shafer combination of the members' probabilities. Classification only.

    Each member gives the mass :math:`\alpha_m p_{mk}` to the class k and :math:`1 - \alpha_m` to the set of all classes
    (Shafer's discount). Dempster's rule combines them,

    .. math:: m(k) \propto m_1(k) m_2(k) + m_1(k) m_2(\Theta) + m_1(\Theta) m_2(k), \quad
              m(\Theta) \propto m_1(\Theta) m_2(\Theta),

    and the pignistic probability divides the mass of the set equally: :math:`m(k) + m(\Theta) / K`. With reliability 1
    the result is the normalised product. A member with reliability 0 is ignored, like an absent one. If the members
    fully exclude each other's classes, the result is ignorance: equal probabilities.

    Dempster's rule assumes independent members and uses no prior. Its probabilities need calibration afterwards; a
    fusion estimator does this.

    Parameters
    ----------
    reliability : "accuracy", float, array of shape (n_members,), or dict of member name to float
        Alpha of all members, or of each, from 0 to 1. A dict names every member, as in `MeanPool`. ``"accuracy"``: each
        member's accuracy on the predictions given to `fit`, as the recognition rate in Xu, Krzyzak and Suen. It is not
        corrected for chance. A member that guesses gives nearly equal masses to all classes, and these change little. A
        correction would discount good members twice.

    Attributes
    ----------
    reliability_ : ndarray of shape (n_members,)

    References
    ----------
    Shafer, A Mathematical Theory of Evidence, 1976, chapters 3 and 11; Xu, Krzyzak and Suen, IEEE Transactions on
    Systems, Man, and Cybernetics 1992; for the pignistic probability Smets and Kennes, Artificial Intelligence 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import DempsterShaferPool
    >>> P = np.array([[[0.8, 0.2], [0.2, 0.8]], [[0.6, 0.4], [0.4, 0.6]]])
    >>> DempsterShaferPool(1.0).fit(P, ["cat", "dog"]).combine(P).round(4)
    array([[0.8571, 0.1429],
           [0.1429, 0.8571]])
    """

    def __init__(self, reliability="accuracy"):
        self.reliability = reliability

    def _fit(self, P, y, mask, weight):
        self._refuse_regression(P)
        if isinstance(self.reliability, str) and self.reliability == "accuracy":
            self.reliability_ = accuracies(P, y, mask, weight)
        else:
            self.reliability_ = _given(self.reliability, len(P), self._names)

    def masses(self, P: Any, mask: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the masses of Dempster's rule, before ignorance is divided among the classes.

        Parameters
        ----------
        P : array of shape (n_members, n_samples, n_classes)
        mask : array of shape (n_members, n_samples), dtype bool, optional

        Returns
        -------
        masses : ndarray of shape (n_samples, n_classes)
            Mass of each single class.
        ignorance : ndarray of shape (n_samples,)
            Mass of the set of all classes. Together with `masses` it sums to 1. It is 1 in a row without members.
        conflict : ndarray of shape (n_samples,)
            Mass that the members gave to pairs of different classes, from 0 to 1. The rule removes it by scaling.

        Examples
        --------
        Zadeh's case: the only class that both members allow is one that both think very unlikely.

        >>> import numpy as np
        >>> from ensemblefuse import DempsterShaferPool
        >>> P = np.array([[[0.99, 0.01, 0.0]], [[0.0, 0.01, 0.99]]])
        >>> pool = DempsterShaferPool(1.0).fit(np.full((2, 3, 3), 1 / 3), ["a", "b", "c"])
        >>> masses, ignorance, conflict = pool.masses(P)
        >>> masses.round(4), ignorance, conflict.round(4)
        (array([[0., 1., 0.]]), array([0.]), array([0.9999]))
        """
        return self._dempster(*self._read_new(P, mask))

    def _combine(self, P, mask):
        masses, ignorance, _ = self._dempster(P, mask)
        return masses + ignorance[:, None] / P.shape[2]

    def _dempster(self, P, mask):
        # The rule is associative, so members can be added one at a time: no sum over all subsets of classes is needed.
        _, n_samples, n_classes = P.shape
        masses, ignorance, agreement = np.zeros((n_samples, n_classes)), np.ones(n_samples), np.ones(n_samples)
        for p, present, alpha in zip(P, mask, self.reliability_, strict=True):
            alpha = np.where(present, alpha, 0.0)
            new = alpha[:, None] * np.where(present[:, None], p / p.sum(axis=1, keepdims=True), 0.0)
            masses = masses * new + masses * (1 - alpha)[:, None] + ignorance[:, None] * new
            ignorance = ignorance * (1 - alpha)
            total = masses.sum(axis=1) + ignorance
            agreement = agreement * total
            total = np.where(total > 0, total, 1.0)  # full conflict: all masses stay 0 to the end
            masses, ignorance = masses / total[:, None], ignorance / total
        ignorance = np.where(agreement > 0, ignorance, 1.0)
        return masses, ignorance, np.clip(1 - agreement, 0.0, 1.0)


def _given(reliability: Any, n_members: int, names: Sequence[str] | None) -> np.ndarray:
    if isinstance(reliability, Mapping):
        reliability = member_weights(reliability, n_members, names, "reliability")
    try:
        array = np.asarray(reliability, dtype=float)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape not in ((), (n_members,)) or not ((array >= 0) & (array <= 1)).all():
        raise ValueError(
            f'reliability must be "accuracy", or one number from 0 to 1 for all {n_members} members or for each; got '
            f"{reliability!r}."
        )
    return np.full(n_members, array) if array.ndim == 0 else array.copy()
