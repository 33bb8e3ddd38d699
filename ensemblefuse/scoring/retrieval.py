"""Retrieval across modalities: which cells are the same, which belong together, and at which rank they are found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

__all__ = ["cell_codes", "chance_of_recall", "chance_rank", "distinct", "partner_ranks", "partners"]


def cell_codes(part: np.ndarray) -> np.ndarray:
    """Return a number for each row of a block, the same for equal rows.

    Parameters
    ----------
    part : ndarray of shape (n_rows, n_columns)

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.scoring.retrieval import cell_codes
    >>> cell_codes(np.array([[1.0, 0.0], [2.0, 0.0], [1.0, -0.0]]))
    array([0, 1, 0])
    """
    plain = np.ascontiguousarray(part) + 0.0  # minus 0 becomes 0
    return pd.factorize(np.array([row.tobytes() for row in plain], dtype=object))[0]


def distinct(codes: np.ndarray) -> np.ndarray:
    """Return the position of the first row of each code, in the order of the rows."""
    return np.sort(np.unique(codes, return_index=True)[1])


def partners(a_codes: np.ndarray, b_codes: np.ndarray, groups: np.ndarray | None = None) -> csr_array:
    """Return which distinct cell of one block belongs to which distinct cell of the other.

    Two cells belong together if they stand in one row, or in two rows of one group.

    Parameters
    ----------
    a_codes, b_codes, groups : ndarray of shape (n_rows,)

    Returns
    -------
    csr_array of shape (n_distinct_a, n_distinct_b)
        In the order of `distinct`; not 0 where cells belong together.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.scoring.retrieval import partners
    >>> partners(np.array([0, 1, 2]), np.array([0, 0, 1])).toarray()
    array([[1, 0],
           [1, 0],
           [0, 1]])
    """
    n_rows = len(a_codes)
    units = np.arange(n_rows) if groups is None else pd.factorize(groups)[0]
    sides = []
    for codes in (a_codes, b_codes):
        places = pd.factorize(codes)[0]  # in the order of `distinct`
        shape = (places.max(initial=-1) + 1, units.max(initial=-1) + 1)
        sides.append(csr_array((np.ones(n_rows, dtype=np.int64), (places, units)), shape=shape))
    return sides[0] @ sides[1].T


def partner_ranks(similarity: np.ndarray, belongs: np.ndarray) -> np.ndarray:
    """Return the rank at which each query finds the first of its partners. An equal score counts half a rank.

    Parameters
    ----------
    similarity : ndarray of shape (n_queries, n_gallery)
    belongs : ndarray of shape (n_queries, n_gallery), dtype bool
        Each row has one True or more.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.scoring.retrieval import partner_ranks
    >>> partner_ranks(np.array([[0.9, 0.5, 0.5], [0.1, 0.2, 0.3]]), np.eye(2, 3, dtype=bool)[::-1])
    array([2.5, 3. ])
    """
    best = np.where(belongs, similarity, -np.inf).max(axis=1, keepdims=True)
    return 1 + ((similarity > best) & ~belongs).sum(axis=1) + 0.5 * ((similarity == best) & ~belongs).sum(axis=1)


def chance_of_recall(n_partners: np.ndarray, n_gallery: int, ks: Sequence[int]) -> np.ndarray:
    """Return the mean recall at each k if the gallery is in random order: k/N for queries with one partner.

    Parameters
    ----------
    n_partners : ndarray of shape (n_queries,)
    n_gallery : int
    ks : sequence of int

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.scoring.retrieval import chance_of_recall
    >>> chance_of_recall(np.array([1, 1]), 20, [1, 5]).round(3)
    array([0.05, 0.25])
    """
    out = []
    for k in ks:
        drawn = np.arange(min(k, n_gallery))  # none of the first k is a partner
        none = np.prod(np.maximum(n_gallery - n_partners[:, None] - drawn, 0) / (n_gallery - drawn), axis=1)
        out.append(1 - none.mean())
    return np.array(out)


def chance_rank(n_partners: np.ndarray, n_gallery: int) -> float:
    """Return the median over queries of the mean rank of the first partner in random order, (N + 1) / (m + 1)."""
    return float(np.median((n_gallery + 1) / (n_partners + 1)))
