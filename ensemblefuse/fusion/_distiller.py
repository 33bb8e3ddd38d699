"""Distillation: a model of few modalities that learns from one of all."""

from __future__ import annotations

from numbers import Real
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin, MetaEstimatorMixin, RegressorMixin, clone, is_regressor
from sklearn.utils import ClassifierTags, RegressorTags, _safe_indexing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse._fitting import fit_estimator, weight_codes
from ensemblefuse.fusion._block_preparation import with_blocks
from ensemblefuse.fusion._decision import DecisionFusionClassifier
from ensemblefuse.fusion._neural import NeuralFusionClassifier, NeuralFusionRegressor
from ensemblefuse.fusion._oof_ledger import Ledger, Member
from ensemblefuse.fusion._soft_labels import fit_soft
from ensemblefuse.fusion.base import BaseFusion, check_estimator_kind, warn_unweighted
from ensemblefuse.fusion.splits import make_splits
from ensemblefuse.table import to_frame

__all__ = ["CrossModalDistiller"]


def _student_has(method: str) -> Any:
    return available_if(lambda self: self._classify and hasattr(getattr(self, "student_", self._parts()[1]), method))


class CrossModalDistiller(MetaEstimatorMixin, BaseFusion):
    """Teach a model of few modalities by one of all, for uses in which the others are not there.

    The teacher sees all blocks in training, and predicts each row from folds that do not hold it. The student sees its
    own blocks alone, and learns from labels and from the teacher's probabilities:

    .. math:: (1 - w) \\, CE(y, p) + w \\, T^2 \\, KL(t_T \\, || \\, p_T)

    where :math:`t_T` and :math:`p_T` are the probabilities of teacher and student at temperature T. On few rows this
    seldom pays: compare the student with the same model fitted without a teacher (``weight=0``).

    Parameters
    ----------
    teacher : classifier or regressor, optional
        By default a `DecisionFusionClassifier`. With a regressor, this is a regressor: the student learns the mean of
        `y` and the teacher's out-of-fold predictions, with the weights 1 - w and w.
    student : classifier or regressor, optional
        By default a `NeuralFusionClassifier` (or Regressor), which learns from both losses. For any other classifier
        whose `fit` takes `sample_weight`, each row is repeated for each class, with the teacher's probability as its
        weight, and the temperature has no effect. It gets the columns of its blocks as they are.
    student_blocks : list of str, optional
        Blocks that the student sees; by default all.
    weight : float
        Share w of the teacher, from 0 to 1. With 0 no teacher is fitted, and the student is as if fitted alone.
    temperature : float
        T, above 0. Above 1, the teacher tells more about improbable classes.
    cv : int, splitter or iterable of (train, test)
        Folds of the teacher; as in `DecisionFusionClassifier`.
    n_jobs : int, optional
        Folds of the teacher that are fitted at once.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names before ``"__"``.

    Attributes
    ----------
    student_ : classifier or regressor
        Fitted on the columns of its blocks, and on codes of the classes.
    student_columns_ : ndarray of int
        Positions of these columns.
    student_codes_ : ndarray of int
        Codes of the classes in the student's rows; only of a classifier.
    member_names_ : list of str
        ``["teacher"]``; empty if `weight` is 0.
    oof_predictions_ : ndarray of shape (1, n_samples, n_classes) or (1, n_samples)
        Out-of-fold predictions of the teacher; NaN where it has none, and there the label alone teaches.
    classes_ : ndarray of shape (n_classes,)
        Only of a classifier.
    blocks_ : dict of str to ndarray of int
    prior_ : ndarray of shape (n_classes,) or float
        Class frequencies, or the mean of `y`. These are the prediction for a row without any of the student's blocks.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, 2015. Lopez-Paz et al., Unifying
    distillation and privileged information, ICLR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import CrossModalDistiller, FeatureFusionClassifier
    >>> image, text = np.random.default_rng(0).normal(size=(2, 60))
    >>> X = pd.DataFrame({"image__0": image, "text__0": text})
    >>> teacher = FeatureFusionClassifier(LogisticRegression())
    >>> model = CrossModalDistiller(teacher, LogisticRegression(), ["image"]).fit(X, image + text > 0)
    >>> model.predict(X[["image__0"]]).shape
    (60,)
    """

    def __init__(
        self,
        teacher=None,
        student=None,
        student_blocks=None,
        *,
        weight=0.5,
        temperature=2.0,
        cv=5,
        n_jobs=None,
        blocks=None,
    ):
        self.teacher = teacher
        self.student = student
        self.student_blocks = student_blocks
        self.weight = weight
        self.temperature = temperature
        self.cv = cv
        self.n_jobs = n_jobs
        self.blocks = blocks

    @property
    def _classify(self) -> bool:  # type: ignore[override]
        return self.teacher is None or not is_regressor(self.teacher)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = "classifier" if self._classify else "regressor"
        tags.classifier_tags = ClassifierTags() if self._classify else None
        tags.regressor_tags = None if self._classify else RegressorTags()
        tags.target_tags.required = True
        return tags

    def _parts(self) -> tuple[Any, Any]:
        """Return teacher and student."""
        teacher = DecisionFusionClassifier() if self.teacher is None else self.teacher
        default = NeuralFusionClassifier if self._classify else NeuralFusionRegressor
        return teacher, default() if self.student is None else self.student

    # ------------------------------------------------------------------ fit

    @plain_inside
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Let the teacher predict all rows out of fold, and fit the student.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            Columns named ``block__feature``; or an array, with `blocks`. A missing block is NaN in all its columns.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional
            Rows of one group are never on both sides of a split, of the teacher or inside the student.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the student takes neither soft targets nor weights, or `student_blocks` names no block of X.
        """
        self._forget()
        self._check_settings()
        blocks = self._read(X, reset=True, allow_partial=None)
        self._check_names_of_blocks()
        target = self._read_target(y, len(blocks))
        weight = self._read_weight(sample_weight, blocks)
        groups = self._read_groups(groups, len(blocks))
        table = _as_rows(X)
        self.student_columns_, spans = self._own_columns()
        self._learn_prior(target, weight)
        present = np.asarray(blocks.present.any(axis=0))
        proba = self._ask_teacher(table, target, weight, groups, present) if self.weight > 0 else None
        used = self._present(blocks)
        used = used if weight is None else used & (weight > 0)
        if not used.any():
            raise ValueError(
                f"{type(self).__name__}: no row with a weight above 0 holds a block of the student "
                f"({list(self._student_names())}); there is nothing to fit."
            )
        self._fit_student(_columns(table, self.student_columns_), spans, target, proba, weight, groups, used)
        return self

    def _check_settings(self) -> None:
        for name, part in zip(("teacher", "student"), self._parts(), strict=True):
            check_estimator_kind(self, name, part, classify=self._classify)
        is_number = lambda value: isinstance(value, Real) and not isinstance(value, bool) and np.isfinite(float(value))
        if not (is_number(self.weight) and 0 <= self.weight <= 1):
            raise ValueError(f"weight must be a number from 0 to 1; got {self.weight!r}.")
        if not (is_number(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be a number above 0; got {self.temperature!r}.")

    def _check_names_of_blocks(self) -> None:
        if self.student_blocks is not None:
            if isinstance(self.student_blocks, str) or not len(self.student_blocks):
                raise ValueError(f"student_blocks must be a list of block names; got {self.student_blocks!r}.")
            self._require_blocks(dict.fromkeys(self.student_blocks), "student_blocks")

    def _needs_splits(self, y: np.ndarray) -> bool:
        return bool(self.weight > 0)

    def _student_names(self) -> list[str]:
        chosen = self.blocks_ if self.student_blocks is None else self.student_blocks
        return [name for name in self.blocks_ if name in chosen]

    def _own_columns(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the positions of the student's columns in the table, and of its blocks in these columns."""
        own = {name: self.blocks_[name] for name in self._student_names()}
        words = [position for name, position in self.word_columns_.items() if name in own]
        columns = np.sort(np.concatenate([*own.values(), np.array(words, dtype=int)]).astype(int))
        return columns, {name: np.searchsorted(columns, part) for name, part in own.items()}

    def _with_blocks(self, part: Any, spans: dict[str, np.ndarray]) -> Any:
        """Return a clone that knows its blocks, where the names of the columns do not tell them."""
        named = self.blocks is None and hasattr(self, "feature_names_in_")
        return clone(part) if named or self.word_columns_ else with_blocks(part, spans)

    def _learn_prior(self, target: np.ndarray, weight: np.ndarray | None) -> None:
        self.prior_: Any
        if self._classify:
            self.prior_ = np.bincount(target, weights=weight, minlength=len(self.classes_)).astype(float)
            self.prior_ /= self.prior_.sum()
        else:
            self.prior_ = float(np.average(target, weights=weight))

    def _present(self, blocks: Any) -> np.ndarray:
        own = [blocks.names.index(name) for name in self._student_names()]
        return np.asarray(blocks.present[own].any(axis=0))

    def _ask_teacher(self, table: Any, target: np.ndarray, weight: Any, groups: Any, present: np.ndarray) -> np.ndarray:
        """Return the teacher's predictions of all rows, each from folds without the row and its group."""
        splits = make_splits(self.cv, target, groups, classify=self._classify)
        labels = self.classes_.tolist() if self._classify else []
        ledger = Ledger(target, splits, weight, labels, groups=groups, n_jobs=self.n_jobs)
        teacher = self._with_blocks(self._parts()[0], self.blocks_)
        (entry,) = ledger.add([Member("teacher", teacher, table, present, groups)])
        self.member_names_ = ["teacher"]
        self.oof_predictions_ = entry.predictions[None]
        return entry.predictions

    def _fit_student(
        self, table: Any, spans: Any, target: np.ndarray, said: Any, weight: Any, groups: Any, used: np.ndarray
    ) -> None:
        student = self._with_blocks(self._parts()[1], spans)
        table, target = _safe_indexing(table, np.flatnonzero(used)), target[used]
        weight, groups = (None if part is None else part[used] for part in (weight, groups))
        if self._classify:
            self.student_codes_, target = np.unique(target, return_inverse=True)
            if len(self.student_codes_) < 2:
                label = self.classes_.tolist()[self.student_codes_[0]]
                raise ValueError(
                    f"{type(self).__name__}: the rows that hold a block of the student ({self._student_names()}) and "
                    f"have a weight above 0 are all of the class {label!r}; there is nothing to fit."
                )
            student = weight_codes(student, self.classes_[self.student_codes_].tolist())
        if said is None:
            self.member_names_ = []
            self.student_, weighted = fit_estimator(student, table, target, weight, groups)
        elif self._classify:
            proba = _completed(said[used][:, self.student_codes_], target)
            share, temperature = float(self.weight), float(self.temperature)
            self.student_ = fit_soft(student, table, target, proba, share, temperature, weight, groups)
            return
        else:
            taught = np.where(np.isfinite(said[used]), said[used], target)
            mixed = (1 - self.weight) * target + self.weight * taught
            self.student_, weighted = fit_estimator(student, table, mixed, weight, groups)
        if not weighted:
            warn_unweighted(self, ["student"])

    # ------------------------------------------------------------------ predict

    def _own_rows(self, X: Any) -> tuple[Any, np.ndarray]:
        """Return the student's columns of new rows that hold one of its blocks, and which these are.

        X has all columns, or those of the student alone.
        """
        check_is_fitted(self, "student_")
        X = X if issparse(X) else _as_rows(X)
        n_own = len(self.student_columns_)
        names = getattr(self, "feature_names_in_", None)
        if n_own < self.n_features_in_ and getattr(X, "ndim", 0) == 2 and X.shape[1] == n_own:
            is_own = names is None or list(getattr(X, "columns", [])) == names[self.student_columns_].tolist()
            if is_own:
                X = self._widened(X)
        blocks = self._read(X, reset=False, allow_partial=None)
        present = self._present(blocks)
        return _safe_indexing(_columns(X, self.student_columns_), np.flatnonzero(present)), present

    def _widened(self, X: Any) -> Any:
        """Return a table of all columns, in which those of no block of the student are missing."""
        if isinstance(X, pd.DataFrame):
            return X.reindex(columns=self.feature_names_in_)
        wide = np.full((len(X), self.n_features_in_), np.nan, dtype=np.result_type(X, np.float32))
        wide[:, self.student_columns_] = X
        return wide

    @_student_has("predict_proba")
    @answers_rows
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the class probabilities, by the student.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            All columns of `fit`, or those of the student's blocks alone.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            A row without any of the student's blocks gets the class frequencies.
        """
        rows, present = self._own_rows(X)
        proba = np.tile(self.prior_, (len(present), 1))
        if present.any():
            own = np.zeros((int(present.sum()), len(self.classes_)))
            own[:, self.student_codes_] = self.student_.predict_proba(rows)
            proba[present] = own
        return proba

    @answers_rows
    def predict(self, X: Any) -> np.ndarray:
        """Predict the class or the value of each row, by the student.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            All columns of `fit`, or those of the student's blocks alone.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        if self._classify and hasattr(self, "predict_proba"):
            codes = self.predict_proba(X).argmax(axis=1)  # first: it tells if nothing is fitted
            return self.classes_[codes]
        rows, present = self._own_rows(X)
        said = np.full(len(present), np.argmax(self.prior_) if self._classify else self.prior_)
        if present.any():
            own = np.asarray(self.student_.predict(rows))
            said[present] = self.student_codes_[own] if self._classify else own
        return self.classes_[said] if self._classify else said

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy, or in regression R².

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        float
        """
        mixin = ClassifierMixin if self._classify else RegressorMixin
        return mixin.score(self, X, y, sample_weight)  # type: ignore[arg-type]


def _completed(proba: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return probabilities of the classes that the student knows; the label alone in rows that were not predicted."""
    known = np.isfinite(proba).all(axis=1) & (np.nan_to_num(proba).sum(axis=1) > 0)
    out = np.eye(proba.shape[1])[target]
    out[known] = proba[known] / proba[known].sum(axis=1, keepdims=True)
    return out


def _as_rows(X: Any) -> Any:
    """Return a table whose rows and columns can be taken by position."""
    return to_frame(X) if hasattr(X, "columns") or isinstance(X, dict) else np.asarray(X)


def _columns(table: Any, columns: np.ndarray) -> Any:
    return table.iloc[:, columns] if hasattr(table, "iloc") else np.asarray(table)[:, columns]
