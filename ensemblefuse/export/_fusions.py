"""Fitted fusion estimators as parts of an ONNX graph: members, pool, calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemblefuse.combine import LogPool
from ensemblefuse.combine.probabilities import log_probabilities
from ensemblefuse.export._graph import Graph, Value, where
from ensemblefuse.export._heads import (
    UnsupportedError,
    codes,
    decision_values,
    prediction,
    probabilities,
    transform,
    unwrapped,
)
from ensemblefuse.export._neural import neural
from ensemblefuse.export._pools import log_floor, matches, pool, total
from ensemblefuse.fusion import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    NeuralFusionClassifier,
    NeuralFusionRegressor,
)
from ensemblefuse.fusion.members import class_columns, gives_probabilities
from ensemblefuse.fusion.patterns import JOIN
from ensemblefuse.fusion.prior_term import prior_weight_of

__all__ = ["FUSIONS", "Rows", "fuse"]

# The lowest possible score; classes that a member does not know get it.
_ABSENT = -20.0


@dataclass
class Rows:
    """Blocks of rows as values of a graph.

    Attributes
    ----------
    data : dict of str to Value of shape (n, width)
        Rows without the block hold 0.
    present : dict of str to Value of shape (n, 1), dtype bool
    widths : dict of str to int
    """

    data: dict[str, Value]
    present: dict[str, Value]
    widths: dict[str, int]

    def side_by_side(self, g: Graph, names: list[str]) -> tuple[Value, int]:
        """Return the blocks side by side and their width; missing blocks are NaN."""
        parts = [where(self.present[name], self.data[name], np.nan) for name in names]
        return g.concat(parts), sum(self.widths[name] for name in names)

    def any(self, names: list[str]) -> Value:
        some = self.present[names[0]]
        for name in names[1:]:
            some = some | self.present[name]
        return some


def fuse(g: Graph, fusion: Any, rows: Rows) -> tuple[Value, Value | None]:
    """Return probabilities of shape (n, n_classes) or numbers of shape (n, 1), and the column of the label.

    Returns
    -------
    value : Value
    code : Value of shape (n,), or None in regression
    """
    write = FUSIONS.get(type(fusion))
    if write is None:
        raise UnsupportedError(fusion, "there is no formula for it", [kind.__name__ for kind in FUSIONS])
    return write(g, fusion, rows)


# ---------------------------------------------------------------------- decision level


def _decision(g: Graph, fusion: Any, rows: Rows) -> tuple[Value, Value | None]:
    members, masks = [], []
    for m, block in enumerate(fusion.member_blocks_):
        if fusion._is_joint(block):
            x, width = rows.side_by_side(g, fusion._joint_blocks())
            mask = _joint_mask(g, fusion, rows)
            # Any number will do in rows without this member.
            x = where(mask, x, 0.0)
        else:
            x, width, mask = rows.data[block], rows.widths[block], rows.present[block]
        try:
            members.append(_member(g, fusion, m, x, width))
        except UnsupportedError as error:
            raise UnsupportedMember(fusion.member_names_[m], error) from error
        masks.append(mask)
    if not fusion._classify:
        return pool(g, fusion.combiner_, members, masks), None
    some = total([mask.number() for mask in masks]) > 0.0
    fused = pool(g, fusion.combiner_, members, masks)
    fused = where(some, _calibrated(fusion._calibration, fused), fused)
    fused = _shifted(fusion.combiner_, fused)
    return fused, fused.op("ArgMax", axis=1, keepdims=0)


class UnsupportedMember(UnsupportedError):
    """An `UnsupportedError` that names the member."""

    def __init__(self, member: str, error: UnsupportedError):
        ValueError.__init__(self, f"the estimator of {member!r}: {error}")


def _joint_mask(g: Graph, fusion: Any, rows: Rows) -> Value:
    names = fusion._joint_blocks()
    if fusion.missing != "present":
        return rows.any(names)
    return matches(g.concat([rows.present[name] for name in names]), fusion.joint_patterns_).any()


def _member(g: Graph, fusion: Any, m: int, x: Value, width: int) -> Value:
    """Return the scores of a member; for models of folds the mean of their scores, as in `_ask`."""
    name = fusion.member_names_[m]
    fitted, classes = fusion.estimators_[name], fusion.member_classes_[name]
    if fusion.refit:
        fitted, classes = [fitted], [classes]
    n_classes = len(fusion.classes_) if fusion._classify else 0
    scores = [_scores(g, e, c, x, width, n_classes, fusion._by_value[m]) for e, c in zip(fitted, classes, strict=True)]
    mean = scores[0] if len(scores) == 1 else total(scores) / len(scores)
    return (mean / float(fusion.member_temperatures_[m])).softmax() if n_classes else mean


def _scores(g: Graph, estimator: Any, classes: Any, x: Value, width: int, n_classes: int, by_value: bool) -> Value:
    """Return the scores of an estimator, as `member_scores` does."""
    estimator = unwrapped(estimator)
    if type(estimator) in FUSIONS:
        value, _ = fuse(g, estimator, _rows_of(g, estimator, x))
        if not n_classes:
            return value
        local, absent = log_floor(value), None
    elif not n_classes:
        return prediction(g, estimator, x, width)
    elif gives_probabilities(estimator) and not (by_value and hasattr(estimator, "decision_function")):
        local, absent = log_floor(probabilities(g, estimator, x, width)), None
    elif hasattr(estimator, "decision_function"):
        local = decision_values(g, estimator, x, width)
        absent = local.min()
    else:
        said = codes(g, estimator, x, width).op("Unsqueeze", np.array([1]))
        local = said.equals(np.asarray(estimator.classes_, dtype=np.int64)[None]).number()
        absent = local.min()
    return _spread(g, local, absent, class_columns(estimator, classes), n_classes)


def _spread(g: Graph, local: Value, absent: Value | None, known: np.ndarray, n_classes: int) -> Value:
    """Return the scores of the classes that an estimator knows, in their columns."""
    if np.array_equal(known, np.arange(n_classes)):
        return local
    if absent is None:
        absent = local.min() * 0.0 + _ABSENT
    place = np.full(n_classes, len(known))
    place[known] = np.arange(len(known))
    return g.concat([local, absent]).columns(place)


def _rows_of(g: Graph, fusion: Any, x: Value) -> Rows:
    """Return the blocks of a fusion estimator that is itself a member."""
    data, present, widths = {}, {}, {}
    for name, columns in fusion.blocks_.items():
        part = x.columns(columns)
        present[name] = (~part.op("IsNaN")).any()
        data[name], widths[name] = where(present[name], part, 0.0), len(columns)
    return Rows(data, present, widths)


def _calibrated(calibration: np.ndarray, fused: Value) -> Value:
    if calibration.ndim == 2:
        slope, intercept = np.asarray(calibration, dtype=float).T
        odds = log_floor(fused) - log_floor(-fused + 1.0)
        scaled = (odds * slope[None] + intercept[None]).op("Sigmoid")
        return scaled / scaled.sum()
    return fused if calibration[0] == 1 else (log_floor(fused) / float(calibration[0])).softmax()


def _shifted(combiner: Any, fused: Value) -> Value:
    if not isinstance(combiner, LogPool) or combiner.class_prior is None:
        return fused
    shifted = fused * (combiner._new_prior() / combiner.prior_)[None]
    return shifted / shifted.sum()


# ---------------------------------------------------------------------- feature level


def _feature(g: Graph, fusion: Any, rows: Rows) -> tuple[Value, Value | None]:
    names = list(fusion.blocks_)
    if fusion.missing == "reduced":
        return _reduced(g, fusion, rows, names)
    x, width = rows.side_by_side(g, names)
    prior = np.asarray(fusion.prior_, dtype=float).reshape(1, -1)
    some = rows.any(names)
    try:
        x, width = transform(g, fusion.prepare_, x, width)
        if not fusion._classify:
            share, value = prior_weight_of(fusion), prediction(g, fusion.estimator_, x, width)
            return where(some, value * (1 - share) + prior * share, prior), None
        return _classified(g, fusion, x, width, some, prior)
    except UnsupportedError as error:
        raise UnsupportedMember("all blocks", error) from error


def _classified(g: Graph, fusion: Any, x: Value, width: int, some: Value, prior: np.ndarray) -> tuple[Value, Value]:
    known, n_classes = np.asarray(fusion.known_), len(fusion.classes_)
    estimator = unwrapped(fusion.estimator_)
    if hasattr(fusion, "temperature_"):
        by_value = hasattr(estimator, "decision_function")
        value = (
            decision_values(g, estimator, x, width) if by_value else log_floor(probabilities(g, estimator, x, width))
        )
        share, frequencies = prior_weight_of(fusion), log_probabilities(prior[:, known])
        local = (value * ((1 - share) / float(fusion.temperature_)) + frequencies * share).softmax()
        code = local.op("ArgMax", axis=1, keepdims=0)
    elif hasattr(estimator, "predict_proba"):
        local = probabilities(g, estimator, x, width)
        code = codes(g, estimator, x, width)
    else:
        raise UnsupportedError(estimator, "it has no probabilities; DecisionFusionClassifier gives it a temperature")
    table = np.zeros((len(known), n_classes))
    table[np.arange(len(known)), known] = 1
    proba = where(some, local @ table, prior)
    code = where(
        some.op("Squeeze", np.array([1])), g.constant(known.astype(np.int64)).op("Gather", code), np.argmax(prior)
    )
    return proba, code


def _reduced(g: Graph, fusion: Any, rows: Rows, names: list[str]) -> tuple[Value, Value | None]:
    """Predict each row with the model that uses most of its blocks; of several such models, the first one."""
    prior = np.asarray(fusion.prior_, dtype=float).reshape(1, -1)
    out = rows.any(names).number() * 0.0 + prior
    models = [(part.split(JOIN), model) for part, model in fusion.reduced_.items()]
    for part, model in reversed(sorted(models, key=lambda pair: -len(pair[0]))):
        usable = rows.present[part[0]]
        for name in part[1:]:
            usable = usable & rows.present[name]
        out = where(usable, fuse(g, model, rows)[0], out)
    return out, out.op("ArgMax", axis=1, keepdims=0) if fusion._classify else None


FUSIONS: dict[type, Any] = {
    DecisionFusionClassifier: _decision,
    DecisionFusionRegressor: _decision,
    FeatureFusionClassifier: _feature,
    FeatureFusionRegressor: _feature,
    NeuralFusionClassifier: neural,
    NeuralFusionRegressor: neural,
}
