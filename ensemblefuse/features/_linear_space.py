"""Linear projections of blocks into one space. See `CommonSpaceProjector`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length, column_or_1d

from ensemblefuse.blocks import Blocks
from ensemblefuse.features._directions import canonical_directions, partial_least_squares, principal_directions

__all__ = [
    "CANONICAL",
    "LINEAR",
    "LinearSpace",
    "alignment",
    "check_varies",
    "cosines",
    "fit_linear",
    "mean_correlations",
    "read_target",
    "refuse_few",
    "rows_of_blocks",
    "weighted",
]

CANONICAL = ("gcca", "mcca", "cca")
LINEAR = (*CANONICAL, "pls", "pca")


@dataclass
class LinearSpace:
    """Means and projections of all blocks.

    Attributes
    ----------
    means : dict of str to ndarray of shape (n_columns,)
    projections : dict of str to ndarray of shape (n_columns, n_components)
    """

    means: dict[str, np.ndarray] = field(default_factory=dict)
    projections: dict[str, np.ndarray] = field(default_factory=dict)

    # Coordinates count by their correlation in `cosines`.
    is_unit = False

    def project(self, name: str, part: np.ndarray) -> np.ndarray:
        """Return the rows of a block in the space; NaN stays NaN. A space without projections changes nothing."""
        return (part - self.means[name]) @ self.projections[name] if self.projections else part


def fit_linear(
    blocks: Blocks, target: np.ndarray | None, weight: np.ndarray, *, method: str, n_components: int, reg: float
) -> LinearSpace:
    """Learn the projections of a method.

    Parameters
    ----------
    blocks : Blocks
    target : ndarray of shape (n_samples, n_targets), optional
        For ``"pls"``.
    weight : ndarray of shape (n_samples,)
    method : str
        Of `LINEAR`.
    n_components : int
    reg : float
    """
    used = rows_of_blocks(blocks, weight, method)
    if (used.sum(axis=1) < 2).any():
        refuse_few(blocks, used, method)
    parts, targets, space = {}, {}, LinearSpace()
    for (name, part), rows in zip(blocks.data.items(), used, strict=True):
        values, w = part[rows].astype(float), weight[rows]
        space.means[name] = np.average(values, axis=0, weights=w)
        parts[name] = weighted(values, w)
        if method == "pls" and target is not None:
            targets[name] = weighted(target[rows], w)
            check_varies(name, target[rows])
    size = float(weight[blocks.present.all(axis=0)].sum())
    widths = [part.shape[1] for part in parts.values()]
    width = max(widths) if method in ("gcca", "mcca") else min(widths)
    count = int(min(n_components, width, *(len(part) - 1 for part in parts.values())))
    if method == "pca":
        found = principal_directions(parts, count)
    elif method == "pls":
        found = partial_least_squares(parts, targets, count)
    else:
        found = canonical_directions(parts, count, method, reg, size)
    kept = min(W.shape[1] for W in found.values())
    if not kept:
        flat = [name for name, part in parts.items() if not part.any()]
        raise ValueError(
            f"method={method!r} finds no direction: the blocks {flat} are constant in the rows that it uses."
        )
    space.projections = {name: W[:, :kept] for name, W in found.items()}
    return space


def rows_of_blocks(blocks: Blocks, weight: np.ndarray, method: str) -> np.ndarray:
    """Return the rows from which a method learns about each block, dtype bool of shape (n_blocks, n_samples)."""
    used = blocks.present & (weight > 0)
    return np.broadcast_to(used.all(axis=0), used.shape) if method in CANONICAL else used


def weighted(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the rows centred, and multiplied by the square root of their weight.

    Plain sums of squares then are weighted sums, so that the methods need no weights.
    """
    return (values - np.average(values, axis=0, weights=weight)) * np.sqrt(weight)[:, None]


def check_varies(name: str, target: np.ndarray) -> None:
    """Raise an error if the target is the same in all rows of a block."""
    if not np.ptp(target, axis=0).any():
        raise ValueError(f"y holds only one value in the rows with block {name!r}; nothing can be learned from them.")


def refuse_few(blocks: Blocks, used: np.ndarray, method: str) -> None:
    """Raise the error that too few rows hold the blocks."""
    counts = dict(zip(blocks.names, blocks.present.sum(axis=1).tolist(), strict=True))
    if method == "pca" or method == "pls":
        reason, cure = "needs every block in at least 2 rows", "Leave out the rarest block."
    else:
        reason = f"learns from rows that hold all blocks, and X has {used[0].sum()} of them"
        cure = 'Leave out the rarest block, or use method="pca" or "pls", which use each block alone.'
    raise ValueError(
        f"method={method!r} {reason} (n_samples = {len(blocks)}; block: rows {counts}); it needs 2. {cure}"
    )


def read_target(y: Any, n_samples: int) -> np.ndarray:
    """Return labels as one-hot columns, or numbers as one column."""
    y = column_or_1d(y, warn=True)
    check_consistent_length(np.empty(n_samples), y)
    if type_of_target(y, input_name="y") == "continuous":
        return y.astype(float)[:, None]
    return LabelBinarizer().fit_transform(y).astype(float)


def alignment(Z: np.ndarray, target: np.ndarray) -> float:
    """Compute the centred alignment of the kernels ZZ' and YY' from centred columns. It lies between 0 and 1.

    The norm of ZZ' equals that of Z'Z, so the large kernel matrices are never built.
    """
    norms = np.linalg.norm(Z.T @ Z) * np.linalg.norm(target.T @ target)
    return float(np.linalg.norm(Z.T @ target) ** 2 / norms) if norms > 0 else 0.0


def mean_correlations(project: Callable[[str, np.ndarray], np.ndarray], blocks: Blocks, weight: np.ndarray):
    """Return the correlation of each coordinate between two blocks, as the mean over all pairs of blocks.

    It is computed on the rows that hold all blocks: NaN if these are fewer than 2, and 1 for one block.
    """
    rows = blocks.present.all(axis=0) & (weight > 0)
    scores = np.array([project(name, part[rows]) for name, part in blocks.data.items()])
    if len(scores) == 1:
        return np.ones(scores.shape[2])
    if rows.sum() < 2:
        return np.full(scores.shape[2], np.nan)
    scores -= np.average(scores, axis=1, weights=weight[rows])[:, None]
    scores *= np.sqrt(weight[rows])[:, None]
    lengths = np.linalg.norm(scores, axis=1, keepdims=True)
    scores /= np.where(lengths > 0, lengths, 1.0)  # the scores of a block may all be 0 in a direction
    # The squared length of a sum of unit vectors is their number plus twice the sum of the products of all pairs.
    pairs = len(scores) * (len(scores) - 1)
    return ((scores.sum(axis=0) ** 2).sum(axis=0) - (scores**2).sum(axis=(0, 1))) / pairs


def cosines(a: np.ndarray, b: np.ndarray, correlations: np.ndarray | None) -> np.ndarray:
    """Return the cosine of each row of one array with each row of another.

    Parameters
    ----------
    a, b : ndarray of shape (n_a, n_components) and (n_b, n_components)
    correlations : ndarray of shape (n_components,), optional
        Weights of the coordinates; below 0 they count as 0.
    """
    lengths = [np.linalg.norm(side, axis=1) for side in (a, b)]
    a, b = (side / np.where(length == 0, 1, length)[:, None] for side, length in zip((a, b), lengths, strict=True))
    return (a if correlations is None else a * np.maximum(correlations, 0).astype(a.dtype)) @ b.T
