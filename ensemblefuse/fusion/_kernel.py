"""Kernel fusion: one kernel per block, their sum or product, and one kernel machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._fitting import fit_estimator
from ensemblefuse.blocks import Blocks
from ensemblefuse.fusion._block_kernels import BlockKernel, centred_alignment
from ensemblefuse.fusion._one_model_base import OneModelClassifier, OneModelFusion, OneModelRegressor
from ensemblefuse.fusion._parameter_choice import read_candidates
from ensemblefuse.fusion.base import warn_new_patterns
from ensemblefuse.fusion.members import member_scores

__all__ = ["KernelFusionClassifier", "KernelFusionRegressor"]

# A Gram matrix of 10 000 rows takes 0.8 GB, and the folds hold parts of it at the same time.
_MAX_ROWS = 10_000
# Number of new rows in one batch. The kernels of a batch with all training rows are in memory together.
_BATCH = 1000
_ROWS_TO_SELECT = 2000


class _KernelFusion(OneModelFusion):
    _needs_numbers = "computes kernels of numbers"
    _shrinks = True

    def _prepare(self, blocks: Blocks, used: np.ndarray, weight: np.ndarray) -> list[np.ndarray]:
        """Compute one Gram matrix per block, of all rows.

        Scales, gamma and the position of absent blocks are learned from all rows of X, but from no label. So the folds
        can share them.
        """
        kernels, grams = {}, []
        for m, (name, data) in enumerate(blocks.data.items()):
            rows, there = np.asarray(data[used], dtype=float), blocks.present[m, used]
            kernels[name], K = BlockKernel.fit(rows, there, weight, self.kernel, self._gamma(name))
            grams.append(K)
        self.kernels_ = {name: dict(vars(kernel)) for name, kernel in kernels.items()}
        if self.kernel == "rbf":
            self.gamma_ = {name: kernel.factor for name, kernel in kernels.items()}
        if self.weights != "cka" and not self._selects():  # the folds learn no weights: one joined matrix is enough
            grams = [_join(grams, self._given_weights(), self.combine, self.kernel)]
        return grams

    def _selects(self) -> bool:
        """Return whether blocks that blur the kernel may be left out: a product has no weight that makes them small."""
        return self.combine == "product" and len(self.blocks_) > 1

    def _candidates(self) -> list[tuple[float, bool]]:
        """Return each value of the penalty, with all blocks, and then with those that are selected."""
        ways = (False, True) if self._selects() else (False,)
        return [(value, select) for select in ways for value in self._values()]

    def _check_parameters(self) -> None:
        if self.kernel not in ("rbf", "linear"):
            raise ValueError(f'kernel must be "rbf" or "linear"; got {self.kernel!r}.')
        if self.combine not in ("sum", "product"):
            raise ValueError(f'combine must be "sum" or "product"; got {self.combine!r}.')
        named = isinstance(self.weights, str) and self.weights in ("equal", "cka")
        if not (named or isinstance(self.weights, Mapping)):
            raise ValueError(f'weights must be "equal", "cka" or a dict of block name to number; got {self.weights!r}.')
        if self.combine == "product" and not (named and self.weights == "equal"):
            raise ValueError(
                'weights are for a sum only; with combine="product", use weights="equal" and give each block its gamma.'
            )

        if isinstance(self.gamma, Mapping):
            self._require_blocks(dict(self.gamma), "gamma")
        for name in self.blocks_:
            value = self._gamma(name)
            number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
            if not (np.isfinite(value) and value > 0 if number else isinstance(value, str) and value == "median"):
                raise ValueError(f'gamma must be "median" or a finite number above 0; got {value!r} for {name!r}.')
        if isinstance(self.weights, Mapping):
            self._require_blocks(dict(self.weights), "weights")
            values = [self.weights.get(name, 1.0) for name in self.blocks_]
            if not all(np.isfinite(w) and w >= 0 for w in values) or not any(values):
                raise ValueError(f"weights must be finite, at least 0 and not all 0; got {self.weights!r}.")

    def _usable(self, blocks: Blocks, weight: np.ndarray) -> np.ndarray:
        used = super()._usable(blocks, weight)
        if used.sum() > _MAX_ROWS:
            raise ValueError(
                f"{type(self).__name__} computes kernels between all pairs of rows and takes up to {_MAX_ROWS} rows; "
                f"X has {used.sum()}. Approximate the kernels with BlockNystroem before a linear estimator "
                "(feature-level fusion), or fit on fewer rows."
            )
        return used

    def _gamma(self, name: str) -> Any:
        return self.gamma.get(name, "median") if isinstance(self.gamma, Mapping) else self.gamma

    def _given_weights(self) -> np.ndarray:
        if isinstance(self.weights, Mapping):
            return np.array([float(self.weights.get(name, 1.0)) for name in self.blocks_])
        return np.full(len(self.blocks_), 1 / len(self.blocks_) if self.combine == "sum" else 1.0)

    def _train_kernel(self, grams, y, weight, train, select=False) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights, and the joined kernel of all rows with the rows in ``train``."""
        if self._selects():
            weights = self._selected(grams, y, weight, train) if select else self._given_weights()
            return weights, _join(grams, weights, "product", self.kernel, train)
        if self.weights != "cka":
            return self._given_weights(), grams[0][:, train]
        square = np.ix_(train, train)
        target = self._target_kernel(y[train], weight[train])
        present = [np.asarray(kernel["present"])[train] for kernel in self.kernels_.values()]
        weights = np.zeros(len(grams))
        for m, (K, there) in enumerate(zip(grams, present, strict=True)):
            if there.any():  # only among the rows that hold the block, so that a rare block does not look weak
                pairs = np.ix_(there, there)
                weights[m] = centred_alignment(K[square][pairs], target[pairs], weight[train][there])
        weights = np.maximum(weights, 0.0)
        weights = weights / weights.sum() if weights.any() else np.full(len(grams), 1 / len(grams))
        return weights, _join(grams, weights, "sum", self.kernel, train)

    def _fit_joins(self, grams, y, weight, train, test) -> list[np.ndarray]:
        """Return the scores of each way to join the kernels; those of all blocks again where all are selected."""
        every, K = self._train_kernel(grams, y, weight, train)
        parts = [self._fit_join(K, y, weight, train, test)]
        if self._selects():
            weights, K = self._train_kernel(grams, y, weight, train, select=True)
            same = np.array_equal(weights, every)
            parts.append(parts[0] if same else self._fit_join(K, y, weight, train, test))
        return parts

    def _selected(self, grams: list[np.ndarray], y: np.ndarray, weight: np.ndarray, train: np.ndarray) -> np.ndarray:
        """Return 1 for the blocks whose product is aligned best with the target, and 0 for the others.

        Blocks leave one by one, each time the one without which the alignment is largest. Alone, a block of an
        exclusive or looks like noise; in the product it is missed. Of many rows, some are enough to tell.
        """
        train = train[:: -(-len(train) // _ROWS_TO_SELECT)]
        square, target = np.ix_(train, train), self._target_kernel(y[train], weight[train])
        parts, kept = [K[square] for K in grams], np.ones(len(grams))

        def aligned(weights: np.ndarray) -> float:
            return centred_alignment(_join(parts, weights, "product", self.kernel), target, weight[train])

        best = aligned(kept)
        while kept.sum() > 1:
            tries = [np.where(np.arange(len(kept)) == m, 0.0, kept) for m in np.flatnonzero(kept)]
            found = [aligned(weights) for weights in tries]
            if max(found) <= best:
                break
            best, kept = max(found), tries[int(np.argmax(found))]
        return kept

    def _train_last(self, grams: list[np.ndarray], y: np.ndarray, weight: np.ndarray, select: bool) -> np.ndarray:
        """Return the joined kernel of all rows, and store its weights."""
        weights, K = self._train_kernel(grams, y, weight, np.arange(len(y)), select)
        self.weights_ = dict(zip(self.blocks_, weights.tolist(), strict=True))
        return K

    def _scores(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores of the machine, computed batch by batch, and the rows without any block seen in fit."""
        check_is_fitted(self, "kernels_")
        blocks = self._read(X, reset=False, allow_partial=frozenset())
        warn_new_patterns(self, blocks)
        kernels = [BlockKernel(**state) for state in self.kernels_.values()]
        weights = np.array(list(self.weights_.values()))
        parts = []
        for rows in gen_batches(len(blocks), _BATCH):
            grams = [
                kernel.between(np.asarray(data[rows], dtype=float), blocks.present[m, rows])
                for m, (kernel, data) in enumerate(zip(kernels, blocks.data.values(), strict=True))
            ]
            parts.append(self._machine_scores(_join(grams, weights, self.combine, self.kernel)))
        return np.concatenate(parts), self._empty(blocks)


def _join(
    grams: list[np.ndarray], weights: np.ndarray, combine: str, kernel: str, columns: Any = slice(None)
) -> np.ndarray:
    """Return the joined kernel of some columns. One factor at a time is in memory."""
    joined: Any = None
    for w, K in zip(weights, grams, strict=True):
        if combine == "sum":
            part = w * K[:, columns]
            joined = part if joined is None else np.add(joined, part, out=joined)
        elif w:  # a block of weight 0 is left out of a product
            # A product of plain linear kernels would contain only interactions, and would be 0 where a block is absent.
            # With 1 + K, it also contains each block alone.
            part = K[:, columns] if kernel == "rbf" else 1 + K[:, columns]
            joined = np.array(part) if joined is None else np.multiply(joined, part, out=joined)
    return joined


class KernelFusionClassifier(OneModelClassifier, _KernelFusion):
    """Kernel fusion: one kernel per block, their sum or product, and one support vector machine per class.

    Each block is standardised and has a kernel of its own. One-vs-rest machines on the joined kernel give decision
    values. A temperature, fitted on out-of-fold decision values, turns them into probabilities. A sum uses each block
    separately. A product can also learn interactions of blocks, such as an exclusive or.

    An absent block is represented by the mean of the training rows that hold it, in the feature space of its kernel:
    its kernel with any row is the mean over these rows. So it contributes nothing to a sum, and the joined kernel stays
    positive semi-definite. Rows without any block, and rows with weight 0, are left out of the fit.

    In fit, Gram matrices of n_samples x n_samples numbers are in memory (0.8 GB at 10 000 rows; one per block with
    ``weights="cka"`` or a product). More than 10 000 rows are refused; use `BlockNystroem` and a linear classifier for
    them. All folds, classes and values of `C` share one Gram matrix per block, because standardisation and `gamma` are
    learned from all rows of `X` and from no label.

    Parameters
    ----------
    C : float or sequence of float
        Parameter of the support vector machines. From a sequence, the value with the smallest out-of-fold log-loss is
        chosen.
    kernel : {"rbf", "linear"}
        ``exp(-gamma |x - x'|^2)``, or ``<x, x'>`` divided by the mean squared length of the block's rows.
    gamma : {"median"}, float or dict of str to these
        Parameter of the RBF kernel, for all blocks or for each block. ``"median"`` is 1 / median squared distance
        between different training rows of the block (of 2 000 rows, if there are more). Ignored by the linear kernel.
    combine : {"sum", "product"}
        Weighted sum of the kernels, or their product. The product of RBF kernels is the RBF kernel of the scaled blocks
        side by side. For linear kernels it is ``prod (1 + K)``. A product has no weight for a block, so a block of
        noise would blur the others. It is also tried over the blocks whose product has the largest centred alignment
        with the target; they are found in each fold without its rows, and kept if the out-of-fold loss is smaller.
    weights : {"equal", "cka"} or dict of str to float
        Weights of the sum. ``"equal"``: 1 / n_blocks. ``"cka"``: proportional to the centred alignment of the block's
        kernel with the labels, among the rows that hold the block; learned anew for each fold, without its rows. A dict
        is used as it is, with 1 for blocks that are not named. A product allows ``"equal"`` only.
    cv : int, splitter or iterable of (train, test)
        As in `DecisionFusionClassifier`.
    n_jobs : int, optional
        Number of threads for the folds.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names before ``"__"``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    blocks_ : dict of str to ndarray of int
        Positions of each block's columns.
    C_ : float
    gamma_ : dict of str to float
        Only with RBF kernels.
    weights_ : dict of str to float
        In a product, 1, or 0 for a block that is left out.
    temperature_ : float
    prior_weight_ : float
        Share of the log class frequencies in the scores, from 0 (none) to 1 (no trust in the machine):
        ``(1 - prior_weight_) * scores / temperature_ + prior_weight_ * log(prior_)``. Learned out of fold, as the
        weight of a `LogPool` with one member.
    estimator_ : OneVsRestClassifier
        Machines ``SVC(kernel="precomputed")``, fitted on the Gram matrix and coded labels.
    known_ : ndarray of int
        Classes that have rows to fit on. Code i of `estimator_` is class ``known_[i]``.
    kernels_ : dict of str to dict
        State of each block's kernel that is needed for new rows, including the standardised training rows.
    prior_ : ndarray of shape (n_classes,)
        Class frequencies. These are the prediction for a row without any block.
    patterns_ : ndarray of shape (n_patterns, n_blocks), dtype bool
        Combinations of present blocks seen in fit.
    oof_proba_ : ndarray of shape (n_samples, n_classes), dtype float32
        Out-of-fold probabilities with `C_`, at the temperature fitted on them. NaN in rows in no test fold, with weight
        0, or without any block.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Gönen and Alpaydın, JMLR 2011 (sums and products of kernels); Cortes, Mohri and Rostamizadeh, JMLR 2012 (weights by
    alignment, their algorithm "align").

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import KernelFusionClassifier
    >>> X = pd.DataFrame({"image__0": [0.1, 0.2, 0.3, 0.8, 0.9, 1.0], "text__0": [5.0, 4.0, None, 1.0, 0.0, 1.0]})
    >>> model = KernelFusionClassifier(cv=3).fit(X, ["cat", "cat", "cat", "dog", "dog", "dog"])
    >>> model.predict(X)
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    >>> model.weights_
    {'image': 0.5, 'text': 0.5}
    """

    def __init__(
        self,
        C=(1.0, 10.0),
        *,
        kernel="rbf",
        gamma="median",
        combine="sum",
        weights="equal",
        cv=5,
        n_jobs=None,
        blocks=None,
    ):
        self.C = C
        self.kernel = kernel
        self.gamma = gamma
        self.combine = combine
        self.weights = weights
        self.cv = cv
        self.n_jobs = n_jobs
        self.blocks = blocks

    def _values(self):
        return read_candidates("C", self.C, zero=False)

    def _target_kernel(self, y, weight):
        return (y[:, None] == y).astype(float)

    def _fit_fold(self, grams, y, weight, train, test):
        if len(np.unique(y[train])) < 2 or not len(test):
            return None
        return np.concatenate(self._fit_joins(grams, y, weight, train, test))

    def _fit_join(self, K, y, weight, train, test):
        inner, outer = K[train], K[test]
        scores = []
        for C in self._values():
            machine, classes = _fit_machine(inner, y[train], weight[train], C)
            scores.append(member_scores(machine, classes, outer, len(self.classes_)))
        return np.array(scores)

    def _fit_last(self, grams, y, weight, chosen):
        self.C_, select = chosen
        self.estimator_, self.known_ = _fit_machine(self._train_last(grams, y, weight, select), y, weight, self.C_)

    def _machine_scores(self, K):
        return member_scores(self.estimator_, self.known_, K, len(self.classes_))


def _fit_machine(K: np.ndarray, y: np.ndarray, weight: np.ndarray, C: float) -> tuple[Any, np.ndarray]:
    """Fit one-vs-rest machines. Return them, and the codes of the classes in their rows."""
    classes, local = np.unique(y, return_inverse=True)
    machine, _ = fit_estimator(OneVsRestClassifier(SVC(C=C, kernel="precomputed")), K, local, weight)
    return machine, classes


class KernelFusionRegressor(OneModelRegressor, _KernelFusion):
    """Kernel fusion: one kernel per block, their sum or product, and kernel ridge regression with an intercept.

    Kernels, absent blocks and the limit of 10 000 rows are as in `KernelFusionClassifier`. The joined kernel is
    centred, so that the intercept is not penalised.

    Parameters
    ----------
    alpha : float or sequence of float
        Penalty, above 0. From a sequence, the value with the smallest out-of-fold squared error is chosen.
    kernel, gamma, combine, weights, cv, n_jobs, blocks
        As in `KernelFusionClassifier`. ``weights="cka"`` uses the alignment with the products of centred values of `y`.

    Attributes
    ----------
    alpha_ : float
    dual_coef_ : ndarray of shape (n_fit,)
        Coefficients of the rows used in the fit. Their sum is 0.
    intercept_ : float
    blocks_, gamma_, weights_, kernels_, patterns_, n_features_in_, feature_names_in_
        As in `KernelFusionClassifier`.
    prior_ : float
        Mean of `y`. This is the prediction for a row without any block.
    prior_weight_ : float
        Share of this mean in the predictions, from 0 to 1, learned out of fold.
    oof_fused_ : ndarray of shape (n_samples,)
        Out-of-fold predictions with `alpha_`. NaN in rows in no test fold, with weight 0, or without any block.

    References
    ----------
    Saunders, Gammerman and Vovk, ICML 1998 (kernel ridge regression); for the rest see `KernelFusionClassifier`.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import KernelFusionRegressor
    >>> X = pd.DataFrame({"image__0": [0.0, 1.0, 2.0, 3.0, 4.0], "text__0": [1.0, 3.0, 5.0, 7.0, 9.0]})
    >>> KernelFusionRegressor(kernel="linear").fit(X, [0.0, 2.0, 4.0, 6.0, 8.0]).predict(X).round(1)
    array([0., 2., 4., 6., 8.])
    """

    def __init__(
        self,
        alpha=(0.001, 0.01, 0.1, 1.0, 10.0),
        *,
        kernel="rbf",
        gamma="median",
        combine="sum",
        weights="equal",
        cv=5,
        n_jobs=None,
        blocks=None,
    ):
        self.alpha = alpha
        self.kernel = kernel
        self.gamma = gamma
        self.combine = combine
        self.weights = weights
        self.cv = cv
        self.n_jobs = n_jobs
        self.blocks = blocks

    def _values(self):
        return read_candidates("alpha", self.alpha, zero=False)

    def _target_kernel(self, y, weight):
        centred = y - np.average(y, weights=weight)
        return np.outer(centred, centred)

    def _fit_fold(self, grams, y, weight, train, test):
        if not len(train) or not len(test):
            return None
        return np.concatenate(self._fit_joins(grams, y, weight, train, test))

    def _fit_join(self, K, y, weight, train, test):
        dual, intercept = _kernel_ridge(K[train], y[train], weight[train], self._values())
        return (K[test] @ dual + intercept).T

    def _fit_last(self, grams, y, weight, chosen):
        self.alpha_, select = chosen
        dual, intercept = _kernel_ridge(self._train_last(grams, y, weight, select), y, weight, [self.alpha_])
        self.dual_coef_, self.intercept_ = dual[:, 0], float(intercept[0])

    def _machine_scores(self, K):
        return K @ self.dual_coef_ + self.intercept_


def _kernel_ridge(
    K: np.ndarray, y: np.ndarray, weight: np.ndarray, alphas: list[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Compute dual coefficients, of shape (n_samples, n_alphas), and intercepts.

    They minimise ``sum w (y - f - b)^2 + alpha |f|^2``. The coefficients sum to 0. So predictions can use kernels that
    are not centred.
    """
    share = weight / weight.sum()
    mean, level = K @ share, share @ y
    centred = K - mean - mean[:, None] + share @ mean
    machines = (KernelRidge(alpha=alpha, kernel="precomputed") for alpha in alphas)
    dual = np.column_stack([m.fit(centred, y - level, sample_weight=weight).dual_coef_ for m in machines])
    return dual, level - mean @ dual
