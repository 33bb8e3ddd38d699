"""Projection of all blocks into one space: weighted sums of modalities, and retrieval across modalities."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_array
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, check_is_fitted, column_or_1d

from ensemblefuse._calls import answers_rows
from ensemblefuse.blocks import Blocks, read_block
from ensemblefuse.features._block_transformer import BlockTransformer, check_names, numbered, spread
from ensemblefuse.features._directions import canonical_directions, partial_least_squares, principal_directions

__all__ = ["CommonSpaceProjector"]

_CANONICAL = ("gcca", "mcca", "cca")
_METHODS = (*_CANONICAL, "pls", "pca")


class CommonSpaceProjector(BlockTransformer):
    """Project every block into one space, and sum the projections: ``sum_m a_m Z_m`` with ``Z_m = (X_m - mean) W_m``.

    Use it for alignment and for retrieval across modalities. For accuracy, concatenation (`FeatureFusionClassifier`) or
    `DecisionFusionClassifier` is better: what blocks have in common is not what distinguishes classes.

    ``"gcca"``, ``"mcca"`` and ``"cca"`` learn from the rows that hold all blocks. ``"pls"`` and ``"pca"`` learn each
    block from the rows that hold it. In `transform`, any blocks may be missing: the present ones are summed and divided
    by the sum of their weights. A row without any block (of weight above 0) is NaN.

    Parameters
    ----------
    n_components : int
        Size of the common space. It is limited by the width of the widest block (``"gcca"``, ``"mcca"``) or of the
        narrowest block (other methods), and by the number of rows - 1.
    method : {"gcca", "mcca", "cca", "pls", "pca"}
        ``"gcca"``: the scores that all blocks together predict best (MAXVAR). ``"mcca"``: the largest sum of
        covariances between blocks (SUMCOR). ``"cca"``: classical, for two blocks. ``"pls"``: directions that covary
        with `y`. This method learns from `y`, so put it in a `Pipeline` that is fitted in each fold. ``"pca"``: each
        block's own principal components. Their order is not comparable between blocks, so use ``combine="concat"``.
    reg : float
        Ridge penalty of the canonical methods, as a share of the mean variance of a block's columns.
    combine : {"sum", "concat"}
        ``"concat"`` puts the projections side by side, as blocks with their old names.
    weights : dict of str to float, "learned" or None
        Weights of the sum; 1 for blocks that a dict does not name. They are divided by their total. ``"learned"``: the
        alignment of each block's linear kernel with the kernel of `y`; this needs `y`. None: equal weights.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names. See `find_blocks`.

    Attributes
    ----------
    blocks_ : dict of str to ndarray of int
    projections_ : dict of str to ndarray of shape (n_columns, n_components_)
    means_ : dict of str to ndarray of shape (n_columns,)
    weights_ : dict of str to float
        Their sum is 1.
    correlations_ : ndarray of shape (n_components_,)
        Correlation between the blocks' projections, as the mean over all pairs of blocks. It is computed on the rows of
        fit that hold all blocks. With two blocks and ``reg=0`` these are the canonical correlations. They are too high
        unless there are many more rows than columns. 1 for one block; NaN if fewer than 2 rows hold all blocks.
    n_components_ : int
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    `y` counts as numbers if it holds floats that are not all whole. Otherwise it counts as labels.

    References
    ----------
    Kettenring, Canonical analysis of several sets of variables, Biometrika 1971 (``"gcca"``, ``"mcca"``). Cortes, Mohri
    and Rostamizadeh, Algorithms for learning kernels based on centered alignment, JMLR 2012 (``"learned"``).
    Li, Chinchali and Topcu, CSA: Data-efficient mapping of unimodal features to multimodal features, ICLR 2025
    (`similarity`).

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import CommonSpaceProjector
    >>> rng = np.random.default_rng(0)
    >>> meaning = rng.normal(size=(200, 2))
    >>> image, text = meaning @ rng.normal(size=(2, 6)), meaning @ rng.normal(size=(2, 4))
    >>> X = np.hstack([image, text]) + 0.1 * rng.normal(size=(200, 10))
    >>> space = CommonSpaceProjector(2, blocks={"image": slice(0, 6), "text": slice(6, 10)}).fit(X)
    >>> space.transform(X).shape
    (200, 2)
    >>> space.similarity(X[:3, :6], X[:3, 6:], block_a="image", block_b="text").argmax(axis=1)
    array([0, 1, 2])
    """

    def __init__(self, n_components=32, *, method="gcca", reg=0.1, combine="sum", weights=None, blocks=None):
        self.n_components = n_components
        self.method = method
        self.reg = reg
        self.combine = combine
        self.weights = weights
        self.blocks = blocks

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn the projections and the weights of the sum.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        y : array of shape (n_samples,), optional
            Labels or numbers. Needed for ``method="pls"`` and ``weights="learned"``, otherwise ignored.
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If too few rows hold the blocks, if a row of a block is partly NaN, or if ``"cca"`` does not get two blocks.
        """
        self._check_params()
        blocks = self._read(X, reset=True)
        if self.method == "cca" and len(blocks.data) != 2:
            raise ValueError(
                f'method="cca" takes exactly two blocks; X has {len(blocks.data)}: {blocks.names}. Use "gcca" or '
                '"mcca".'
            )
        weight = _check_sample_weight(sample_weight, np.empty((len(blocks), 1)), ensure_non_negative=True)
        target = self._read_target(y, len(blocks))
        parts, targets = self._centre(blocks, target, weight)
        size = float(weight[blocks.present.all(axis=0)].sum())
        self._learn_projections(parts, targets, size)
        self.weights_ = self._learn_weights(parts, targets)
        self.correlations_ = self._correlations(blocks, weight)
        return self

    def _check_params(self) -> None:
        if self.method not in _METHODS:
            raise ValueError(f"method must be one of {_METHODS}; got {self.method!r}.")
        if self.combine not in ("sum", "concat"):
            raise ValueError(f'combine must be "sum" or "concat"; got {self.combine!r}.')
        if self.combine == "concat" and self.weights is not None:
            raise ValueError('weights are for combine="sum" only; with "concat", give them to a BlockScaler after it.')
        if not isinstance(self.n_components, Integral) or isinstance(self.n_components, bool) or self.n_components < 1:
            raise ValueError(f"n_components must be a whole number from 1; got {self.n_components!r}.")
        if not isinstance(self.reg, (int, float, np.number)) or not np.isfinite(self.reg) or self.reg < 0:
            raise ValueError(f"reg must be a number from 0; got {self.reg!r}.")

    def _needs_y(self) -> bool:
        return self.method == "pls" or (isinstance(self.weights, str) and self.weights == "learned")

    def _read_target(self, y: Any, n_samples: int) -> np.ndarray | None:
        """Return labels as one-hot columns, or numbers as one column. Return None if `y` is not used."""
        if not self._needs_y():
            return None
        if y is None:
            raise ValueError(
                f'{type(self).__name__} requires y to be passed, but the target y is None: method="pls" and '
                'weights="learned" learn from it.'
            )
        y = column_or_1d(y, warn=True)
        check_consistent_length(np.empty(n_samples), y)
        if type_of_target(y, input_name="y") == "continuous":
            return y.astype(float)[:, None]
        return LabelBinarizer().fit_transform(y).astype(float)

    def _centre(self, blocks: Blocks, target: np.ndarray | None, weight: np.ndarray):
        """Return the rows to learn from, for each block and for the target.

        They are centred and multiplied by the square root of their weight. Plain sums of squares then are weighted
        sums, so that the methods need no weights.
        """
        used = blocks.present & (weight > 0)
        if self.method in _CANONICAL:
            used = np.broadcast_to(used.all(axis=0), used.shape)
        if (used.sum(axis=1) < 2).any():
            self._refuse_few(blocks, used)
        self.means_, parts, targets = {}, {}, {}
        for (name, part), rows in zip(blocks.data.items(), used, strict=True):
            w = weight[rows]
            root = np.sqrt(w)[:, None]
            values = part[rows].astype(float)
            self.means_[name] = np.average(values, axis=0, weights=w)
            parts[name] = (values - self.means_[name]) * root
            if target is not None:
                targets[name] = (target[rows] - np.average(target[rows], axis=0, weights=w)) * root
                if not np.ptp(target[rows], axis=0).any():
                    raise ValueError(
                        f"y holds only one value in the rows with block {name!r}; nothing can be learned from them."
                    )
        return parts, targets

    def _refuse_few(self, blocks: Blocks, used: np.ndarray) -> None:
        counts = dict(zip(blocks.names, blocks.present.sum(axis=1).tolist(), strict=True))
        if self.method in _CANONICAL:
            reason = f"learns from rows that hold all blocks, and X has {used[0].sum()} of them"
            cure = 'Leave out the rarest block, or use method="pca" or "pls", which use each block alone.'
        else:
            reason, cure = "needs every block in at least 2 rows", "Leave out the rarest block."
        raise ValueError(
            f"method={self.method!r} {reason} (n_samples = {len(blocks)}; block: rows {counts}); it needs 2. {cure}"
        )

    def _learn_projections(self, parts: dict[str, np.ndarray], targets: dict[str, np.ndarray], size: float) -> None:
        widths = [part.shape[1] for part in parts.values()]
        width = max(widths) if self.method in ("gcca", "mcca") else min(widths)
        count = int(min(self.n_components, width, *(len(part) - 1 for part in parts.values())))
        if self.method == "pca":
            found = principal_directions(parts, count)
        elif self.method == "pls":
            found = partial_least_squares(parts, targets, count)
        else:
            found = canonical_directions(parts, count, self.method, float(self.reg), size)
        self.n_components_ = min(W.shape[1] for W in found.values())
        if not self.n_components_:
            flat = [name for name, part in parts.items() if not part.any()]
            raise ValueError(
                f"method={self.method!r} finds no direction: the blocks {flat} are constant in the rows that it uses."
            )
        self.projections_ = {name: W[:, : self.n_components_] for name, W in found.items()}

    def _learn_weights(self, parts: dict[str, np.ndarray], targets: dict[str, np.ndarray]) -> dict[str, float]:
        weights = self.weights
        if isinstance(weights, str) and weights == "learned":
            raw = {name: _alignment(part @ self.projections_[name], targets[name]) for name, part in parts.items()}
        elif weights is None or isinstance(weights, Mapping):
            check_names(weights or {}, list(parts), "weights")
            raw = {name: float((weights or {}).get(name, 1.0)) for name in parts}
        else:
            raise ValueError(f'weights must be a dict of block name to number, "learned" or None; got {weights!r}.')
        if any(not np.isfinite(w) or w < 0 for w in raw.values()):
            raise ValueError(f"weights must be finite and at least 0; got {weights!r}.")
        total = sum(raw.values())
        if total == 0 and isinstance(weights, Mapping):
            raise ValueError(f"weights must not all be 0; got {weights!r}.")
        return {name: w / total if total else 1 / len(raw) for name, w in raw.items()}

    def _correlations(self, blocks: Blocks, weight: np.ndarray) -> np.ndarray:
        rows = blocks.present.all(axis=0) & (weight > 0)
        if len(blocks.data) == 1:
            return np.ones(self.n_components_)
        if rows.sum() < 2:
            return np.full(self.n_components_, np.nan)
        scores = np.array([self._project(name, part[rows]) for name, part in blocks.data.items()])
        scores -= np.average(scores, axis=1, weights=weight[rows])[:, None]
        scores *= np.sqrt(weight[rows])[:, None]
        lengths = np.linalg.norm(scores, axis=1, keepdims=True)
        scores /= np.where(lengths > 0, lengths, 1.0)  # the scores of a block may all be 0 in a direction
        # The squared length of a sum of unit vectors is their number plus twice the sum of the products of all pairs.
        pairs = len(scores) * (len(scores) - 1)
        return ((scores.sum(axis=0) ** 2).sum(axis=0) - (scores**2).sum(axis=(0, 1))) / pairs

    def _project(self, name: str, part: np.ndarray) -> np.ndarray:
        return (part - self.means_[name]) @ self.projections_[name]

    @answers_rows
    def transform(self, X: Any) -> np.ndarray:
        """Project new rows into the common space.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_components_), or (n_samples, n_blocks * n_components_) with ``"concat"``
        """
        check_is_fitted(self)
        blocks = self._read(X, reset=False)
        dtype = np.result_type(*(part.dtype for part in blocks.data.values()))
        spaces = {name: self._project(name, part) for name, part in blocks.data.items()}  # NaN stays NaN
        if self.combine == "concat":
            return np.hstack(list(spaces.values())).astype(dtype, copy=False)
        total, share = np.zeros((len(blocks), self.n_components_)), np.zeros((len(blocks), 1))
        for (name, Z), there in zip(spaces.items(), blocks.present, strict=True):
            total[there] += self.weights_[name] * Z[there]
            share[there] += self.weights_[name]
        return np.divide(total, share, out=np.full_like(total, np.nan), where=share > 0).astype(dtype, copy=False)

    def transform_block(self, X: Any, block: str) -> np.ndarray:
        """Project rows of a single modality into the common space, without its weight.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_columns)
            Only the columns of that block, in the order of fit.
        block : str

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
            NaN where the row is NaN.
        """
        check_is_fitted(self)
        if block not in self.blocks_:
            raise ValueError(f"block {block!r} is unknown; the blocks are {list(self.blocks_)}.")
        expected = self._columns(block)
        if isinstance(X, pd.DataFrame) and expected is not None and X.columns.tolist() != expected:
            raise ValueError(
                f"X must have the columns of block {block!r}: {expected[:5]}; got {X.columns.tolist()[:5]}."
            )
        labels = X.index.tolist() if isinstance(X, pd.DataFrame) else None
        X = check_array(X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan")
        if X.shape[1] != len(self.blocks_[block]):
            raise ValueError(f"block {block!r} has {len(self.blocks_[block])} columns; X has {X.shape[1]}.")
        part, there = read_block(block, X, labels or list(range(len(X))), raw=False, allow_partial=False)
        return spread(self._project(block, part[there]), there, X.dtype)

    def _columns(self, block: str) -> list | None:
        names = getattr(self, "feature_names_in_", None)
        return None if names is None else names[self.blocks_[block]].tolist()

    def similarity(self, A: Any, B: Any, *, block_a: str, block_b: str) -> np.ndarray:
        """Compute how well each row of one modality matches each row of another.

        This is the score of canonical similarity analysis, ``sum_i r_i a_i b_i / (|a| |b|)``: a cosine in the common
        space, with coordinate i weighted by its correlation ``r_i`` (`correlations_`, at least 0). The scores of a row
        can be ranked; they are not probabilities.

        Parameters
        ----------
        A : DataFrame or array of shape (n_a, n_columns of block_a)
        B : DataFrame or array of shape (n_b, n_columns of block_b)
        block_a, block_b : str

        Returns
        -------
        ndarray of shape (n_a, n_b)
            NaN where either row is missing.
        """
        a, b = self.transform_block(A, block_a), self.transform_block(B, block_b)
        lengths = [np.linalg.norm(side, axis=1) for side in (a, b)]
        a, b = (side / np.where(length == 0, 1, length)[:, None] for side, length in zip((a, b), lengths, strict=True))
        return (a * np.maximum(self.correlations_, 0).astype(a.dtype)) @ b.T

    def _names_out(self) -> list[str]:
        names = ["common"] if self.combine == "sum" else list(self.blocks_)
        kind = "" if self.combine == "sum" else "common"
        return numbered(dict.fromkeys(names, self.n_components_), kind)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._needs_y()
        return tags


def _alignment(Z: np.ndarray, target: np.ndarray) -> float:
    """Compute the centred alignment of the kernels ZZ' and YY' from centred columns. It lies between 0 and 1.

    The norm of ZZ' equals that of Z'Z, so the large kernel matrices are never built.
    """
    norms = np.linalg.norm(Z.T @ Z) * np.linalg.norm(target.T @ target)
    return float(np.linalg.norm(Z.T @ target) ** 2 / norms) if norms > 0 else 0.0
