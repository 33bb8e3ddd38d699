"""Projection of all blocks into one space: weighted sums of modalities, and retrieval across modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from ensemblefuse._calls import answers_rows
from ensemblefuse._seeds import own_seed
from ensemblefuse._torch import resolve_device
from ensemblefuse.blocks import Blocks, read_block
from ensemblefuse.features._block_transformer import BlockTransformer, check_names, numbered, spread
from ensemblefuse.features._linear_space import (
    LINEAR,
    LinearSpace,
    alignment,
    check_varies,
    cosines,
    fit_linear,
    mean_correlations,
    read_target,
    refuse_few,
    rows_of_blocks,
    weighted,
)
from ensemblefuse.features._space_networks import (
    NetworkPlan,
    NetworkSpace,
    fit_networks,
    linear_method,
    network_is_better,
    rows_with_pairs,
)
from ensemblefuse.features._space_parameters import check_parameters
from ensemblefuse.scoring.inputs import read_groups

__all__ = ["CommonSpaceProjector"]

# Components of the linear methods, and of each network.
_LINEAR_WIDTH, _NETWORK_WIDTH = 32, 64
# Units of the hidden layer of deep CCA, which would be CCA without one.
_DEEP = 64
# Fits are repeatable without a seed, as those of neural fusion are.
_SEED = 748_190


class CommonSpaceProjector(BlockTransformer):
    """Project every block into one space, and sum the projections: ``sum_m a_m Z_m``, most often ``(X_m - mean) W_m``.

    Use it for alignment and for retrieval across modalities. For accuracy, concatenation (`FeatureFusionClassifier`) or
    `DecisionFusionClassifier` is better: what blocks have in common is not what distinguishes classes.

    ``"gcca"``, ``"mcca"`` and ``"cca"`` learn from the rows that hold all blocks. ``"pls"`` and ``"pca"`` learn each
    block from the rows that hold it. In `transform`, any blocks may be missing: the present ones are summed and divided
    by the sum of their weights. A row without any block (of weight above 0) is NaN.

    The other methods train networks on the rows that hold two blocks or more, for each pair that a row has. Rows of one
    group, and rows with equal cells, belong together: they are never pushed apart. The networks start from ``"cca"``
    (with more than two blocks from ``"gcca"``). They are kept if they find the partners of held-out rows better than it
    does; see ``chosen_``. On a few hundred pairs of embeddings, they often do not: see ``docs/retrieval.md``.

    Parameters
    ----------
    n_components : int, optional
        Size of the common space. In the linear methods it is limited by the width of the widest block (``"gcca"``,
        ``"mcca"``) or of the narrowest block, and by the number of rows - 1. By default 32, and 64 for networks.
    method : str
        ``"gcca"``: the scores that all blocks together predict best (MAXVAR). ``"mcca"``: the largest sum of
        covariances between blocks (SUMCOR). ``"cca"``: classical, for two blocks. ``"pls"``: directions that covary
        with `y`. This method learns from `y`, so put it in a `Pipeline` that is fitted in each fold. ``"pca"``: each
        block's own principal components. Their order is not comparable between blocks, so use ``combine="concat"``.
        ``"contrastive"``: networks that find the partner of a row among all rows of a batch (InfoNCE). ``"siamese"``:
        networks that bring partners together and others to a distance of 1. ``"triplet"``: networks in which a partner
        is nearer than another row by .2. ``"deep_cca"``: networks of largest correlation, with a linear CCA of the rows
        that hold all blocks at their end. `reg`, `hidden` and all that follows but `blocks` is for these four.
    reg : float
        Ridge penalty of the canonical methods, as a share of the mean variance of a block's columns. Also of those that
        networks start from and end with.
    combine : {"sum", "concat"}
        ``"concat"`` puts the projections side by side, as blocks with their old names.
    weights : dict of str to float, "learned" or None
        Weights of the sum; 1 for blocks that a dict does not name. They are divided by their total. ``"learned"``: the
        alignment of each block's linear kernel with the kernel of `y`; this needs `y`. None: equal weights.
    hidden : int or "auto"
        Units of a hidden layer, which stands beside a linear map; 0 for the linear map alone. ``"auto"``: 64 in
        ``"deep_cca"``, otherwise 0.
    n_members : int
        Number of networks, trained at once. Their outputs stand side by side, so that a cosine is the mean of theirs.
        In ``"deep_cca"`` the linear CCA reads all of them.
    noise : float
        Standard deviation of noise in training. The components of a block that it is added to have the mean square 1.
    alignment : {"mmd", "adversarial"}, optional
        Makes the outputs of all blocks distributed alike, also in rows that hold one block: by their mean discrepancy,
        or against a network that tells the blocks apart.
    max_epochs : int
    learning_rate : float
    device : str
        Of torch, for training.
    random_state : int, RandomState or None
        Seed of the networks. None is a fixed seed, too.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names. See `find_blocks`.

    Attributes
    ----------
    blocks_ : dict of str to ndarray of int
    chosen_ : str
        The method by which rows are projected: `method`, or the linear one that networks start from, if they did not
        find held-out partners better. That one is kept, too, where fewer than 20 rows hold two blocks. Networks of
        three blocks or more are kept unasked where fewer than 2 rows hold all: there is no linear method then.
    projections_ : dict of str to ndarray of shape (n_columns, n_components_)
        Of ``chosen_="deep_cca"``: of the outputs of the networks. Empty for the other networks.
    means_ : dict of str to ndarray of shape (n_columns,)
        As ``projections_``.
    networks_ : dict of str to dict of str to ndarray
        Weights of the networks of each block; empty for linear methods.
    weights_ : dict of str to float
        Their sum is 1.
    correlations_ : ndarray of shape (n_components_,)
        Correlation between the blocks' projections, as the mean over all pairs of blocks. It is computed on the rows of
        fit that hold all blocks. With two blocks and ``reg=0`` these are the canonical correlations. They are too high
        unless there are many more rows than columns. 1 for one block; NaN if fewer than 2 rows hold all blocks.
    n_components_ : int
        Columns of the space. Of networks that end without CCA, ``n_members * n_components``.
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
    (`similarity`). Van den Oord, Li and Vinyals, Representation learning with contrastive predictive coding, 2018,
    equation 4. Khosla et al., Supervised contrastive learning, NeurIPS 2020. Hadsell, Chopra and LeCun, Dimensionality
    reduction by learning an invariant mapping, CVPR 2006. Schroff, Kalenichenko and Philbin, FaceNet, CVPR 2015. Andrew
    et al., Deep canonical correlation analysis, ICML 2013. Gretton et al., A kernel two-sample test, JMLR 2012. Ganin
    et al., Domain-adversarial training of neural networks, JMLR 2016.

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

    # Attributes that files of older versions lack.
    hidden: Any = "auto"
    n_members: Any = 4
    noise: Any = 0.5
    alignment: Any = None
    max_epochs: Any = 60
    learning_rate: Any = 1e-3
    device: Any = "cpu"
    random_state: Any = None
    chosen_: str | None = None
    networks_: Any = None

    def __init__(
        self,
        n_components=None,
        *,
        method="gcca",
        reg=0.1,
        combine="sum",
        weights=None,
        hidden="auto",
        n_members=4,
        noise=0.5,
        alignment=None,
        max_epochs=60,
        learning_rate=1e-3,
        device="cpu",
        random_state=None,
        blocks=None,
    ):
        self.n_components = n_components
        self.method = method
        self.reg = reg
        self.combine = combine
        self.weights = weights
        self.hidden = hidden
        self.n_members = n_members
        self.noise = noise
        self.alignment = alignment
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.device = device
        self.random_state = random_state
        self.blocks = blocks

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, groups: Any = None) -> Self:
        """Learn the projections and the weights of the sum.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        y : array of shape (n_samples,), optional
            Labels or numbers. Needed for ``method="pls"`` and ``weights="learned"``, otherwise ignored.
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional
            For networks: rows of one group belong together, and are never on both sides of the held-out comparison.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If too few rows hold the blocks, if a row of a block is partly NaN, or if ``"cca"`` does not get two blocks.
        """
        check_parameters(self)
        blocks = self._read(X, reset=True)
        if self.method == "cca" and len(blocks.data) != 2:
            raise ValueError(
                f'method="cca" takes exactly two blocks; X has {len(blocks.data)}: {blocks.names}. Use "gcca" or '
                '"mcca".'
            )
        weight = _check_sample_weight(sample_weight, np.empty((len(blocks), 1)), ensure_non_negative=True)
        groups = read_groups(groups, len(blocks))
        target = self._read_target(y, len(blocks))
        if self.method in LINEAR:
            count = _LINEAR_WIDTH if self.n_components is None else self.n_components
            space = fit_linear(blocks, target, weight, method=self.method, n_components=count, reg=float(self.reg))
            self.chosen_, self.networks_ = self.method, {}
        else:
            space = self._fit_networks(blocks, weight, groups)
        self.means_, self.projections_ = space.means, space.projections
        one_row = {name: part[:1] for name, part in blocks.data.items()}
        self.n_components_ = min(self._space.project(name, part).shape[1] for name, part in one_row.items())
        self.weights_ = self._learn_weights(blocks, target, weight)
        self.correlations_ = mean_correlations(self._space.project, blocks, weight)
        return self

    def _fit_networks(self, blocks: Blocks, weight: np.ndarray, groups: np.ndarray | None) -> LinearSpace:
        """Set ``chosen_`` and ``networks_``, and return the linear space at the end."""
        order = sorted(blocks.names, key=str)  # so that the order of the columns changes nothing
        present = blocks.present[[blocks.names.index(name) for name in order]]
        blocks = Blocks({name: blocks.data[name] for name in order}, present, blocks.labels)
        plan, start = self._plan(), linear_method(blocks)
        n_pairs = int(rows_with_pairs(blocks, weight).sum())
        if len(order) > 1 and n_pairs < 2:
            raise ValueError(
                f"method={self.method!r} learns from rows that hold two blocks or more, and X has {n_pairs} of them "
                f"(n_samples = {len(blocks)}, blocks {order}); it needs 2."
            )
        used = rows_of_blocks(blocks, weight, start)
        if self.method == "deep_cca" and (used.sum(axis=1) < 2).any():  # its end would refuse them after the training
            refuse_few(blocks, used, self.method)
        if len(order) > 1 and network_is_better(blocks, weight, groups, plan):
            found = fit_networks(blocks, weight, groups, plan)
            self.chosen_, self.networks_ = self.method, found.networks
            return found.end
        self.chosen_, self.networks_ = start, {}
        return fit_linear(blocks, None, weight, method=start, n_components=plan.n_components, reg=float(self.reg))

    def _plan(self) -> NetworkPlan:
        seed = _SEED
        if self.random_state is not None:
            seed = int(check_random_state(own_seed(self.random_state)).randint(2**31 - 16))
        return NetworkPlan(
            method=self.method,
            n_components=_NETWORK_WIDTH if self.n_components is None else int(self.n_components),
            reg=float(self.reg),
            hidden=_DEEP * (self.method == "deep_cca") if self.hidden == "auto" else int(self.hidden),
            n_members=int(self.n_members),
            noise=float(self.noise),
            alignment=self.alignment,
            max_epochs=int(self.max_epochs),
            learning_rate=float(self.learning_rate),
            device=resolve_device(self.device, needed_by=type(self).__name__),
            seed=seed,
        )

    @property
    def _space(self) -> LinearSpace | NetworkSpace:
        end = LinearSpace(self.means_, self.projections_)
        return NetworkSpace(self.networks_, self.chosen_ != "deep_cca", end) if self.networks_ else end

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
        return read_target(y, n_samples)

    def _learn_weights(self, blocks: Blocks, target: np.ndarray | None, weight: np.ndarray) -> dict[str, float]:
        weights = self.weights
        if isinstance(weights, str) and weights == "learned":
            raw = self._alignments(blocks, target, weight)
        elif weights is None or isinstance(weights, Mapping):
            check_names(weights or {}, blocks.names, "weights")
            raw = {name: float((weights or {}).get(name, 1.0)) for name in blocks.names}
        else:
            raise ValueError(f'weights must be a dict of block name to number, "learned" or None; got {weights!r}.')
        if any(not np.isfinite(w) or w < 0 for w in raw.values()):
            raise ValueError(f"weights must be finite and at least 0; got {weights!r}.")
        total = sum(raw.values())
        if total == 0 and isinstance(weights, Mapping):
            raise ValueError(f"weights must not all be 0; got {weights!r}.")
        return {name: w / total if total else 1 / len(raw) for name, w in raw.items()}

    def _alignments(self, blocks: Blocks, target: Any, weight: np.ndarray) -> dict[str, float]:
        """Return how well the kernel of each block agrees with that of the target, on the rows that it learned from."""
        used, raw = rows_of_blocks(blocks, weight, str(self.chosen_)), {}
        for (name, part), rows in zip(blocks.data.items(), used, strict=True):
            check_varies(name, target[rows])
            scores = self._space.project(name, part[rows].astype(float))
            raw[name] = alignment(weighted(scores, weight[rows]), weighted(target[rows], weight[rows]))
        return raw

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
        spaces = {name: self._space.project(name, part) for name, part in blocks.data.items()}  # NaN stays NaN
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
        return spread(self._space.project(block, part[there]), there, X.dtype)

    def _columns(self, block: str) -> list | None:
        names = getattr(self, "feature_names_in_", None)
        return None if names is None else names[self.blocks_[block]].tolist()

    def similarity(self, A: Any, B: Any, *, block_a: str, block_b: str) -> np.ndarray:
        """Compute how well each row of one modality matches each row of another.

        This is the score of canonical similarity analysis, ``sum_i r_i a_i b_i / (|a| |b|)``: a cosine in the common
        space, with coordinate i weighted by its correlation ``r_i`` (`correlations_`, at least 0). Of networks that end
        without CCA, it is the cosine itself, which is the mean of those of all members. The scores of a row can be
        ranked; they are not probabilities.

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
        is_unit = bool(self.networks_) and self._space.is_unit
        return cosines(a, b, None if is_unit else self.correlations_)

    def _names_out(self) -> list[str]:
        names = ["common"] if self.combine == "sum" else list(self.blocks_)
        kind = "" if self.combine == "sum" else "common"
        return numbered(dict.fromkeys(names, self.n_components_), kind)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._needs_y()
        return tags
