"""Neural fusion of classes, and of numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_consistent_length

from ensemblefuse._calls import answers_rows
from ensemblefuse.combine import smooth_temperature
from ensemblefuse.combine.probabilities import softmax
from ensemblefuse.fusion._neural_base import NeuralFusion
from ensemblefuse.fusion._neural_parameters import NeuralParameters, OnlyWithFolds, SharedParameters, with_shared
from ensemblefuse.fusion.targets import read_labels, read_numbers, shape_of

__all__ = ["NeuralFusionClassifier", "NeuralFusionRegressor"]


class NeuralFusionClassifier(ClassifierMixin, NeuralFusion):
    """Networks that fuse blocks of numbers, and learn what blocks mean only together.

    On frozen embeddings of some hundred rows, the default of `DecisionFusionClassifier` predicts better than any of
    these networks alone. They pay as one more member of it, with more rows, or where a label depends on a product of
    modalities. See ``docs/networks.md`` for figures.

    Each block is standardised, and rotated to its components if it is wide. Several networks are trained at once; the
    prediction is the mean of their log-probabilities. A missing block is left out by a mask, and never filled. Torch is
    imported in `fit`.

    A block may be one column of arrays of shape (n_tokens, width), such as series. The two kinds of attention read its
    tokens; the others read the mean of what a layer makes of each. Neither knows the order of tokens.

    Parameters
    ----------
    fusion : str
        How the hidden layers of the blocks become one. ``"concat"``: a layer over all of them. ``"sum"``: a layer over
        their mean. ``"late"``: none, so that the outputs are a sum of functions of one block each. ``"gated"``: a mean
        weighted by gates for each unit, which depend on all blocks (Arevalo et al., 2017). ``"lowrank"``: products over
        the blocks (Liu et al., ACL 2018). ``"attention"``: one token a block, read by another token.
        ``"cross_attention"``: each block asks the others. ``"hybrid_encoder"``: a layer of each block beside one that
        all blocks share.
    hidden : int
        Units of a layer.
    n_layers : int
        Layers for each block; in the two kinds of attention, layers of attention.
    n_heads : int
        Heads of attention; `hidden` must be a multiple of it.
    rank : int
        Number of products in ``"lowrank"``.
    dropout : float
        Share of units that are left out in training.
    modality_dropout : float
        Probability with which a present block of a row is left out in training. Without it, predictions for rows with
        missing blocks are poor unless many training rows have the same gaps.
    auxiliary_weight : float
        Weight of the loss of each block alone (0.1 is usual), which keeps weak blocks in training.
    n_members : int
        Number of networks. With one, predictions are much too certain on few rows.
    max_epochs : int
    early_stopping : {"auto", True, False}
        True: each network holds out a fold, stops by it and keeps its best epoch. The held-out predictions give the
        temperature and ``oof_proba_``. False: a fixed number of epochs on all rows. ``"auto"``: True from 500 rows on.
    cv : int, splitter or iterable of (train, test)
        Folds for early stopping; as in `DecisionFusionClassifier`.
    batch_size : int
    learning_rate, weight_decay : float
        Of AdamW.
    schedule : {"cosine", "one_cycle", "plateau", "constant"}
        Learning rate over the epochs. ``"plateau"`` halves it when the loss has not fallen for 3 epochs.
    noise : float
        Standard deviation of noise added to the prepared blocks in training.
    mixup : float
        Parameter of the beta distribution by which pairs of rows are mixed; 0 for none.
    label_smoothing : float
        Share of each label that is divided equally among all classes.
    class_weight : "balanced" or dict of label to weight, optional
        Multiplied with `sample_weight`.
    time_limit : float, optional
        Seconds after which no new epoch begins. The first epoch is always finished.
    device : str
        Of torch, for training: ``"cpu"``, ``"cuda"``, ``"auto"``. Predictions are made on the CPU in double precision.
    warm_start : bool
        Whether another `fit` goes on with the networks of the one before, on the same blocks and classes. With early
        stopping also on the same rows and folds, as the networks would otherwise know rows that they hold out.
    random_state : int, RandomState or None
        Seed of weights, batches and dropout. None is a fixed seed, too.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names before ``"__"``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    blocks_ : dict of str to ndarray of int
        Positions of each block's columns.
    state_ : dict of str to ndarray
        Weights of all members, in single precision.
    plan_ : dict
        Plain values from which the network is built.
    preparation_ : dict of str to dict
        For each block the ``mean`` of its columns, and the ``basis`` that they are multiplied with.
    token_widths_ : dict of str to int
        For each block of sequences.
    history_ : dict of str to ndarray
        ``train_loss`` and, with early stopping, ``held_loss``, of shape (n_epochs, n_members); ``learning_rate`` and
        ``seconds``, of shape (n_epochs,).
    best_epochs_ : ndarray of shape (n_members,)
        Number of epochs that each network was kept at.
    n_parameters_ : int
        Numbers in ``state_``.
    temperature_ : float
        1 without early stopping. It is fitted to held-out predictions of one network a row, and may be too high for the
        mean of all networks, which is flatter.
    oof_proba_ : ndarray of shape (n_samples, n_classes)
        Only with early stopping: probabilities from networks that held the row out. As the row also chose their epoch,
        they are a little too good. NaN in rows that none held out.
    prior_ : ndarray of shape (n_classes,)
        Class frequencies. These are the prediction for a row without any block.
    patterns_ : ndarray of shape (n_patterns, n_blocks), dtype bool
        Combinations of present blocks seen in fit.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Examples
    --------
    The label is whether both modalities have the same sign, which none of them tells:

    >>> import numpy as np, pandas as pd
    >>> from ensemblefuse import NeuralFusionClassifier
    >>> image, text = np.random.default_rng(0).normal(size=(2, 200))
    >>> X = pd.DataFrame({"image__0": image, "text__0": text})
    >>> model = NeuralFusionClassifier("lowrank", hidden=8, n_members=2, learning_rate=0.02)
    >>> bool(model.fit(X, image * text > 0).score(X, image * text > 0) > 0.9)
    True
    """

    _classify = True
    oof_proba_ = OnlyWithFolds()

    @with_shared(NeuralParameters.__init__)
    def __init__(
        self,
        fusion: str = "gated",
        *,
        label_smoothing: float = 0.0,
        class_weight: Any = None,
        **shared: Unpack[SharedParameters],
    ):
        super().__init__(fusion, **shared)
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight

    def _read_target(self, y, n_samples):
        return read_labels(self, y, n_samples)

    def _row_weights(self, sample_weight, blocks, y):
        return self._weigh_classes(self._read_weight(sample_weight, blocks), y)

    def _learn_prior(self, target, weight):
        self.prior_ = np.bincount(target, weights=weight, minlength=len(self.classes_)).astype(float)
        self.prior_ /= self.prior_.sum()

    def _fold_target(self, target):
        return target

    def _go_on_from(self, earlier, order):
        if earlier.classes_.tolist() != self.classes_.tolist():
            raise ValueError(
                f"{type(self).__name__}: warm_start=True goes on with the network of the fit before, whose classes are "
                f"{earlier.classes_.tolist()}; y holds {self.classes_.tolist()}. Set warm_start=False."
            )
        super()._go_on_from(earlier, order)

    def _heads(self, target, weight, used):
        from ensemblefuse.fusion._neural_fit import Head

        if len(np.unique(target)) < 2:
            raise ValueError(
                "the rows that hold a block and have a weight above 0 are all of one class; there is nothing to fit."
            )
        self.temperature_ = 1.0
        taught = vars(self).pop("_taught", None)
        if taught is not None:
            taught = replace(taught, proba=taught.proba[used])
        return [Head(len(self.classes_), target, weight / weight.mean(), taught=taught)]

    def _fit_soft(self, X, y, proba, share, temperature, sample_weight, groups):
        """Fit with a share of the loss from a teacher's probabilities, as `CrossModalDistiller` does."""
        from ensemblefuse.fusion._neural_fit import Taught

        self._taught = Taught(proba, share, temperature)
        try:
            return self.fit(X, y, sample_weight, groups)
        finally:
            vars(self).pop("_taught", None)

    def _averaged(self, outputs):
        top = outputs.max(axis=-1, keepdims=True)
        return outputs - top - np.log(np.exp(outputs - top).sum(axis=-1, keepdims=True))

    def _keep_oof(self, outputs, target, weight, used):
        known = np.isfinite(outputs).all(axis=1)
        self.temperature_ = smooth_temperature(outputs[known], target[known], weight[known])
        oof = np.full((len(used), len(self.classes_)), np.nan)
        oof[np.flatnonzero(used)[known]] = softmax(outputs[known] / self.temperature_)
        self.oof_proba_ = oof.astype(np.float32)

    @answers_rows
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the class probabilities.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            A row without any block gets the class frequencies.
        """
        scores, empty = self._mean_outputs(X)
        return np.where(empty[:, None], self.prior_, softmax(scores / self.temperature_))

    @answers_rows
    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        codes = self.predict_proba(X).argmax(axis=1)  # first: it tells if the fusion is not fitted
        return self.classes_[codes]


class NeuralFusionRegressor(RegressorMixin, NeuralFusion):
    """Networks that fuse blocks of numbers, for one number a row or several.

    Targets are standardised for training. So a target times 10 gives predictions times 10, and of several targets each
    counts alike.

    Parameters
    ----------
    fusion, hidden, n_layers, n_heads, rank, dropout, modality_dropout, auxiliary_weight, n_members, max_epochs, cv, \
batch_size, learning_rate, weight_decay, schedule, noise, mixup, time_limit, device, warm_start, random_state, blocks
        As in `NeuralFusionClassifier`.
    early_stopping : {"auto", True, False}
        As in `NeuralFusionClassifier`; the held-out predictions are ``oof_fused_``.

    Attributes
    ----------
    blocks_, state_, plan_, preparation_, token_widths_, history_, best_epochs_, n_parameters_, patterns_, \
n_features_in_, feature_names_in_
        As in `NeuralFusionClassifier`.
    target_mean_, target_scale_ : ndarray of shape (n_targets,)
        Mean and standard deviation of each target in fit.
    oof_fused_ : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Only with early stopping; as ``oof_proba_`` of `NeuralFusionClassifier`.
    prior_ : float, or ndarray of shape (n_targets,)
        Mean of `y`. This is the prediction for a row without any block.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from ensemblefuse import NeuralFusionRegressor
    >>> image, text = np.random.default_rng(0).normal(size=(2, 200))
    >>> X = pd.DataFrame({"image__0": image, "text__0": text})
    >>> y = np.column_stack([image + text, image * text])
    >>> model = NeuralFusionRegressor("lowrank", hidden=8, dropout=0.0, n_members=2, learning_rate=0.02).fit(X, y)
    >>> model.predict(X).shape, bool(model.score(X, y) > 0.9)
    ((200, 2), True)
    """

    _classify = False
    oof_fused_ = OnlyWithFolds()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _read_target(self, y, n_samples):
        shape = shape_of(y)
        if len(shape) != 2 or shape[1] < 2:
            return read_numbers(self, y, n_samples)
        check_consistent_length(y, range(n_samples))
        table = y.to_numpy() if hasattr(y, "to_numpy") else np.asarray(y)
        return np.column_stack([read_numbers(self, table[:, t], n_samples) for t in range(shape[1])])

    def _learn_prior(self, target, weight):
        mean = np.average(target, axis=0, weights=weight)
        self.prior_ = float(mean) if target.ndim == 1 else mean

    def _fold_target(self, target):
        return target if target.ndim == 1 else target[:, 0]

    def _go_on_from(self, earlier, order):
        super()._go_on_from(earlier, order)
        self.target_mean_, self.target_scale_ = earlier.target_mean_, earlier.target_scale_

    def _heads(self, target, weight, used):
        from ensemblefuse.fusion._neural_fit import Head

        columns = target.reshape(len(target), -1)
        if not hasattr(self, "target_mean_"):
            self.target_mean_ = np.average(columns, axis=0, weights=weight)
            spread = np.sqrt(np.average((columns - self.target_mean_) ** 2, axis=0, weights=weight))
            self.target_scale_ = np.where(spread > 0, spread, 1.0)
        scaled = (columns - self.target_mean_) / self.target_scale_
        return [Head(0, column, weight / weight.mean()) for column in scaled.T]

    def _keep_oof(self, outputs, target, weight, used):
        values = outputs * self.target_scale_ + self.target_mean_
        oof = np.full((len(used), values.shape[1]), np.nan)
        oof[used] = values
        self.oof_fused_ = oof.reshape(len(used), *target.shape[1:])

    @answers_rows
    def predict(self, X: Any) -> np.ndarray:
        """Predict the value of each row, or its values.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets)
            A row without any block gets the mean of `y`.
        """
        outputs, empty = self._mean_outputs(X)
        values = np.where(empty[:, None], self.prior_, outputs * self.target_scale_ + self.target_mean_)
        return values[:, 0] if np.ndim(self.prior_) == 0 else values
