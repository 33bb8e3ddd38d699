"""How estimators read labels, numbers, weights and groups in `fit`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sized
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from ensemblefuse._fitting import check_label_types
from ensemblefuse._public_names import PUBLIC
from ensemblefuse.scoring.inputs import finite_numbers, one_a_row, plain_labels, read_groups, read_weight

__all__ = ["TargetReader", "are_many_classes", "read_labels", "read_numbers", "shape_of"]

_FEW_ROWS = 20  # with fewer rows, and up to so many classes, labels may well be classes


class TargetReader:
    """Weights and groups of the rows, for an estimator with a parameter `class_weight` if it learns classes."""

    class_weight: Any
    classes_: np.ndarray

    def _read_weight(self, sample_weight: Any, blocks: Sized) -> np.ndarray | None:
        if isinstance(sample_weight, Real):  # as in scikit-learn: one weight for all rows
            sample_weight = np.full(len(blocks), float(sample_weight))
        weight = read_weight(sample_weight, len(blocks))
        # Some default heads take no weights, and drop out where there are some: weights of 1 must not count as any.
        return None if weight is not None and (weight == 1).all() else weight

    def _forget(self) -> None:
        """Delete the attributes of an earlier fit, because a new fit does not replace all of them."""
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)

    def _read_groups(self, groups: Any, n_samples: int) -> np.ndarray | None:
        groups = read_groups(groups, n_samples)
        if groups is None:
            return None
        if len(np.unique(groups)) < 2:
            raise ValueError(f"groups holds only one group, {groups.tolist()[0]!r}; inner splits need at least 2.")
        return groups

    def _weigh_classes(self, weight: np.ndarray | None, codes: np.ndarray) -> np.ndarray | None:
        """Return the row weights times the weights of the rows' classes."""
        given = self.class_weight
        if given is None:
            return weight
        if isinstance(given, Mapping):
            _check_weighted_classes(list(given), self.classes_.tolist())
            wrong = {
                label: w
                for label, w in given.items()
                if not (isinstance(w, (int, float, np.number)) and 0 <= float(w) < np.inf)
            }
            if wrong:
                raise ValueError(f"class_weight must hold numbers of at least 0; got {wrong}.")
        elif not (isinstance(given, str) and given == "balanced"):
            raise ValueError(f'class_weight must be "balanced", a dict of label to weight, or None; got {given!r}.')
        classes = np.arange(len(self.classes_))
        if isinstance(given, Mapping):
            by_class = np.array([given.get(label, 1.0) for label in self.classes_.tolist()])
        else:
            by_class = compute_class_weight("balanced", classes=classes, y=codes, sample_weight=weight)
        return by_class[codes] if weight is None else weight * by_class[codes]


def _check_weighted_classes(named: list, labels: list) -> None:
    """Check the classes that `class_weight` names. A fold of a cross-validation may lack some of them.

    If all classes of y have a weight, more names do no harm, as in scikit-learn. If some have none, a name that y lacks
    may also be misspelt.
    """
    unknown = [label for label in named if label not in labels]
    if not unknown:
        return
    check_label_types("class_weight", unknown, labels)
    if not set(labels) <= set(named):
        warnings.warn(
            f"class_weight names classes that y does not hold: {unknown}; y holds {labels}. This is no fault where a "
            "fold lacks a rare class. Check the spelling otherwise: a class that is not named has the weight 1.",
            UserWarning,
            stacklevel=5,
        )


def read_labels(fusion: Any, y: Any, n_samples: int) -> np.ndarray:
    """Set ``classes_`` and return the labels as codes 0 to n_classes - 1."""
    if y is None:
        raise ValueError(f"{type(fusion).__name__} requires y to be passed, but the target y is None.")
    if len(shape_of(y)) != 2 or shape_of(y)[1] == 1:
        y = plain_labels(one_a_row(_flat(y), n_rows=n_samples))
        if y.dtype.kind == "f":
            finite_numbers(y)
    _check_classes(fusion, y)
    kind = type_of_target(y, input_name="y")
    if kind not in ("binary", "multiclass"):
        raise ValueError(f"{type(fusion).__name__} takes one label per row; got a target of type {kind!r}.")
    if not len(y):
        raise ValueError(f"{type(fusion).__name__} needs samples of at least 2 classes; y is empty.")
    fusion.classes_, codes = np.unique(y, return_inverse=True)
    if len(fusion.classes_) < 2:
        raise ValueError(
            f"{type(fusion).__name__} needs samples of at least 2 classes; y holds only one class: "
            f"{fusion.classes_.tolist()[0]!r}."
        )
    if fusion.classes_.dtype.kind in "iuf" and are_many_classes(len(fusion.classes_), len(y)):
        warnings.warn(
            f"{type(fusion).__name__} learns classes, and y holds {len(fusion.classes_)} different labels in {len(y)} "
            f"rows; {_way_out(fusion)}.",
            UserWarning,
            stacklevel=4,
        )
    return codes


def are_many_classes(n_classes: int, n_rows: int) -> bool:
    """Return whether labels differ so often that they may be numbers to predict, or names of rows.

    scikit-learn warns from half of the rows on. Where there are many rows, a tenth of them is many already.

    Examples
    --------
    >>> from ensemblefuse.fusion.targets import are_many_classes
    >>> are_many_classes(10, 100), are_many_classes(100, 10_000), are_many_classes(380, 1000)
    (False, False, True)
    """
    return n_rows > _FEW_ROWS and n_classes > min(n_rows / 2, max(_FEW_ROWS, n_rows / 10))


def _check_classes(fusion: Any, y: Any) -> None:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The number of unique classes")  # `read_labels` says what to do
            check_classification_targets(y)
    except ValueError as error:
        name = type(fusion).__name__
        if "continuous" not in str(error) or not name.endswith("Classifier"):
            raise
        raise ValueError(
            f"Unknown label type: continuous. {name} learns classes, and y holds numbers with decimals; "
            f"{_way_out(fusion)}."
        ) from error


def _way_out(fusion: Any) -> str:
    """Return what to do if the labels of a classifier are numbers to predict."""
    same = type(fusion).__name__.removesuffix("Classifier") + "Regressor"
    regressor = same if same in PUBLIC else "DecisionFusionRegressor"
    return f"for numbers, pass a regressor, as in make_fusion_pipeline(modalities, {regressor}())"


def read_numbers(fusion: Any, y: Any, n_samples: int) -> np.ndarray:
    """Return the target of a regression, after checking it."""
    if y is None:
        raise ValueError(f"{type(fusion).__name__} requires y to be passed, but the target y is None.")
    if len(shape_of(y)) == 2 and shape_of(y)[1] > 1:
        raise ValueError(f"{type(fusion).__name__} predicts one number per row; y has shape {shape_of(y)}.")
    y = one_a_row(_flat(y), n_rows=n_samples)
    if y.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {type(fusion).__name__} predicts real numbers.")
    return finite_numbers(y)


def shape_of(y: Any) -> tuple[int, ...]:
    """Return the shape of a target that may be a list, or an object that only numpy can read."""
    return y.shape if hasattr(y, "shape") else np.asarray(y, dtype=object).shape


def _flat(y: Any) -> Any:
    """Return a column of shape (n_samples, 1) as an array of shape (n_samples,), with scikit-learn's warning."""
    return column_or_1d(y, warn=True) if len(shape_of(y)) == 2 else y
