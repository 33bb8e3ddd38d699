"""Exact Shapley values and interaction indices for a few players.

Both are linear in the worths of the subsets. Each function builds the matrix of weights and applies it, so it works row
by row too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from ensemblefuse.fitted.subsets import all_subsets

__all__ = ["interactions_of", "shapley_of", "shapley_values"]


def shapley_of(values: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Compute the Shapley value of each player from the worth of every subset of players (Shapley, 1953).

    Parameters
    ----------
    values : ndarray of shape (2 ** n_names, ...)
        In the order of ``all_subsets(names)``: the empty set first, the whole last.
    names : list of str

    Returns
    -------
    ndarray of shape (n_names, ...)
        Their sum is ``values[-1] - values[0]``.
    """
    n, subsets = len(names), all_subsets(names)
    weights = np.empty((n, len(subsets)))
    for i, name in enumerate(names):
        for j, subset in enumerate(subsets):
            # With S the set without the player: |S|! (n - |S| - 1)! / n! = 1 / (n * binomial(n - 1, |S|)). The value
            # averages v(S and player) - v(S), so subsets with the player count positive, the others negative.
            weights[i, j] = (
                1 / (n * comb(n - 1, len(subset) - 1)) if name in subset else -1 / (n * comb(n - 1, len(subset)))
            )
    return np.tensordot(weights, values, axes=1)


def interactions_of(values: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Compute the Shapley interaction index of each pair of players (Grabisch and Roubens, 1999, equation 4).

    Parameters
    ----------
    values : ndarray of shape (2 ** n_names, ...)
        As in `shapley_of`.
    names : list of str
        At least 2.

    Returns
    -------
    ndarray of shape (n_pairs, ...)
        In the order of ``itertools.combinations(names, 2)``: what a pair is worth together beyond what its two players
        are worth separately, averaged over the sets that they may join.
    """
    n, subsets = len(names), all_subsets(names)
    pairs = list(combinations(names, 2))
    weights = np.empty((len(pairs), len(subsets)))
    for i, pair in enumerate(pairs):
        for j, subset in enumerate(subsets):
            inside = len(set(pair) & set(subset))
            # With S the set without the pair: |S|! (n - |S| - 2)! / (n - 1)! = 1 / ((n - 1) * binomial(n - 2, |S|)).
            # The sign is as in v(S and both) - v(S and one) - v(S and other) + v(S): minus for exactly one of the pair.
            weights[i, j] = (-1) ** inside / ((n - 1) * comb(n - 2, len(subset) - inside))
    return np.tensordot(weights, values, axes=1)


def shapley_values(worth: Mapping[Collection[str], float]) -> dict[str, float]:
    """Compute the Shapley value of each player of a game that is given as a dict.

    Parameters
    ----------
    worth : dict of frozenset (or tuple) of str to float
        Worth of every subset of the players, including the empty one; up to 8 players.

    Returns
    -------
    dict of str to float
        Sorted by name.

    Raises
    ------
    ValueError
        If a subset is missing.

    Examples
    --------
    Two copies of the same modality share its worth:

    >>> from ensemblefuse.inspection._shapley_weights import shapley_values
    >>> shapley_values({(): 0.5, ("image",): 1.0, ("text",): 1.0, ("image", "text"): 1.0})
    {'image': 0.25, 'text': 0.25}
    """
    names, values = _as_array(worth)
    return dict(zip(names, shapley_of(values, names).tolist(), strict=True))


def _as_array(worth: Mapping[Any, float]) -> tuple[list[str], np.ndarray]:
    given = {frozenset(subset): value for subset, value in worth.items()}
    names = sorted(set().union(*given))
    lost = [subset for subset in all_subsets(names) if frozenset(subset) not in given]
    if lost:
        raise ValueError(f"worth lacks {lost[:3]}; it must hold all {2 ** len(names)} subsets of {names}.")
    return names, np.array([given[frozenset(subset)] for subset in all_subsets(names)], dtype=float)
