"""The formulas of `ensemblefuse.combine`, as ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ensemblefuse.combine import (
    BasePool,
    DempsterShaferPool,
    EntropyPool,
    GreedyPool,
    LogPool,
    MeanPool,
    StackingPool,
    VotePool,
)
from ensemblefuse.combine.probabilities import LOG_FLOOR, TIE_WEIGHT
from ensemblefuse.export._graph import Graph, Value, where
from ensemblefuse.export._heads import UnsupportedError, prediction, probabilities

__all__ = ["POOLS", "log_floor", "matches", "pool"]

_TINY = np.finfo(float).tiny


def pool(g: Graph, fitted: BasePool, P: list[Value], masks: list[Value]) -> Value:
    """Return ``fitted.pool(P, mask)``: shape (n, n_classes), or (n, 1) in regression.

    Parameters
    ----------
    g : Graph
    fitted : fitted pool
    P : list of Value of shape (n, n_classes), or (n, 1) in regression
        One per member; any numbers in rows without it.
    masks : list of Value of shape (n, 1), dtype bool
    """
    formula = POOLS.get(type(fitted))
    if formula is None:
        raise UnsupportedError(fitted, "there is no formula for it", [kind.__name__ for kind in POOLS])
    fused = formula(g, fitted, P, masks)
    if hasattr(fitted, "classes_"):
        fused = fused.op("Clip", 0.0, 1.0)
    some = masks[0]
    for mask in masks[1:]:
        some = some | mask
    return where(some, fused, _prior(fitted))


def _prior(fitted: Any) -> np.ndarray:
    if hasattr(fitted, "classes_"):
        return np.asarray(fitted.prior_ / fitted.prior_.sum())[None]
    return np.array([[fitted.prior_[0]]])


def log_floor(p: Value, floor: float = -20.0) -> Value:
    return p.log().at_least(floor)


def total(values: list[Value]) -> Value:
    out = values[0]
    for value in values[1:]:
        out = out + value
    return out


def matches(masks: Value, patterns: np.ndarray) -> Value:
    """Return which of `patterns`, of shape (n_patterns, n_masks), a row has: (n, n_patterns), dtype bool."""
    signs = np.where(patterns, 1.0, -1.0).T
    return (masks.number() @ signs).equals(patterns.sum(axis=1).astype(float)[None])


def _log_evidence(p: Value, mask: Value, prior: np.ndarray) -> Value:
    return where(mask, log_floor(p) - np.log(prior)[None], 0)


def _weighted_mean(P: list[Value], masks: list[Value], raw: list[Value]) -> Value:
    """Return the mean of the present members; `raw` has their weights, of shape (n, 1), 0 for absent ones."""
    usable = total(raw) > 0
    shares = [where(usable, weight, mask.number()) for weight, mask in zip(raw, masks, strict=True)]
    mass = total(shares).at_least(_TINY)
    filled = [where(mask, p, 0) * share for p, mask, share in zip(P, masks, shares, strict=True)]
    return total(filled) / mass


def _mean(g: Graph, fitted: Any, P: list[Value], masks: list[Value]) -> Value:
    raw = [mask.number() * weight for mask, weight in zip(masks, fitted.weights_, strict=True)]
    return _weighted_mean(P, masks, raw)


def _log(g: Graph, fitted: Any, P: list[Value], masks: list[Value]) -> Value:
    if not hasattr(fitted, "bias_"):
        return _normal(fitted, P, masks)
    classify = hasattr(fitted, "classes_")
    evidence = _evidence(fitted, P, masks)
    offset = (np.log(fitted.prior_) if classify else fitted.prior_[:1])[None]
    if fitted.per_pattern and fitted.is_calibrated:
        fused = _by_pattern(g, fitted, evidence, masks) + offset
    else:
        scores = [e * _row(w) for e, w in zip(evidence, fitted.weights_, strict=True)]
        fused = total(scores) + (offset + fitted.bias_[None])
    return fused.softmax() if classify else fused


def _evidence(fitted: Any, P: list[Value], masks: list[Value]) -> list[Value]:
    """Return what each member adds to the prior."""
    if not hasattr(fitted, "classes_"):
        return [where(mask, p - float(fitted.prior_[0]), 0) for p, mask in zip(P, masks, strict=True)]
    s, n_classes = fitted.smoothing, len(fitted.classes_)
    smooth = [p * (1 - s) + s / n_classes if s else p for p in P]
    return [_log_evidence(p, mask, fitted.prior_) for p, mask in zip(smooth, masks, strict=True)]


def _row(weight: Any) -> np.ndarray:
    """Return the weight of one member, a number or one per class, in a shape that fits (n, n_classes)."""
    return np.atleast_1d(np.asarray(weight))[None]


def _by_pattern(g: Graph, fitted: Any, evidence: list[Value], masks: list[Value]) -> Value:
    """Weigh evidence by a table with one line per set of present members; the last line is for all other sets."""
    match = matches(g.concat(masks), fitted.patterns_) if len(fitted.patterns_) else None
    n_members = len(evidence)

    def chosen(own: np.ndarray, other: np.ndarray) -> Value:
        other = np.asarray(other).reshape(1, -1)
        if match is None:
            return g.constant(other)
        own = np.asarray(own).reshape(len(fitted.patterns_), -1)
        return where(match.any(), match.number() @ own, other)

    scores = [chosen(fitted.pattern_bias_, fitted.other_bias_)]
    for m in range(n_members):
        scores.append(evidence[m] * chosen(fitted.pattern_weights_[:, m], fitted.other_weights_[m]))
    return total(scores)


def _normal(fitted: Any, P: list[Value], masks: list[Value]) -> Value:
    precision = np.asarray(fitted.weights_ / fitted.variance_)
    raw = [mask.number() * w for mask, w in zip(masks, precision, strict=True)]
    mass = total(raw)
    filled = [where(mask, p, 0) * w for p, mask, w in zip(P, masks, raw, strict=True)]
    mean = fitted.prior_[0]
    return where(mass > 0, total(filled) / mass.at_least(_TINY), mean)


def _greedy(g: Graph, fitted: Any, P: list[Value], masks: list[Value]) -> Value:
    if not hasattr(fitted, "classes_") or fitted.space == "prob":
        return _mean(g, fitted, P, masks)
    evidence = [_log_evidence(p, mask, fitted.prior_) for p, mask in zip(P, masks, strict=True)]
    scores = [e * w for e, w in zip(evidence, fitted.weights_, strict=True)]
    return (total(scores) + np.log(fitted.prior_)[None]).softmax()


def _vote(g: Graph, fitted: Any, P: list[Value], masks: list[Value]) -> Value:
    points = []
    for p, mask in zip(P, masks, strict=True):
        if fitted.method == "borda":
            count = _ranks(p)
        else:
            first = p.equals(p.max()).number()
            count = first / first.sum().at_least(1)
        points.append(where(mask, count, 0))
    there = total([mask.number() for mask in masks]).at_least(1)
    mean = total([where(mask, p, 0) for p, mask in zip(P, masks, strict=True)]) / there
    counts = total(points) + mean * TIE_WEIGHT
    return counts / counts.sum().at_least(_TINY)


def _ranks(p: Value) -> Value:
    """Return the points of each class: one for each class below it, a half for each equal one."""
    mine, others = p.op("Unsqueeze", np.array([2])), p.op("Unsqueeze", np.array([1]))
    below, beside = (mine > others).number(), mine.equals(others).number()
    points = (below + beside * 0.5).sum(axis=2)
    return points.op("Squeeze", np.array([2])) - 0.5


def _entropy(g: Graph, fitted: Any, P: list[Value], masks: list[Value]) -> Value:
    raw = []
    for p, mask in zip(P, masks, strict=True):
        entropy = -(p * log_floor(p, -700.0)).sum()
        certain = (-(entropy / float(np.log(len(fitted.classes_)))) + 1).at_least(0)
        raw.append(where(mask, certain, 0))
    return _weighted_mean(P, masks, raw)


def _dempster_shafer(g: Graph, fitted: Any, P: list[Value], masks: list[Value]) -> Value:
    n_classes = len(fitted.classes_)
    zero, one = 0, 1
    ignorance = masks[0].number() * zero + one
    masses = ignorance * np.zeros((1, n_classes))
    agreement = ignorance
    for p, mask, reliability in zip(P, masks, fitted.reliability_, strict=True):
        alpha = mask.number() * reliability
        new = alpha * where(mask, p / p.sum(), zero)
        rest = -alpha + one
        masses = masses * new + masses * rest + ignorance * new
        ignorance = ignorance * rest
        mass = masses.sum() + ignorance
        agreement = agreement * mass
        mass = where(mass > zero, mass, one)
        masses, ignorance = masses / mass, ignorance / mass
    ignorance = where(agreement > zero, ignorance, one)
    return masses + ignorance * (1 / n_classes)


def _stacking(g: Graph, fitted: Any, P: list[Value], masks: list[Value]) -> Value:
    classify = hasattr(fitted, "classes_")
    prior = np.asarray(fitted.prior_ if classify else fitted.prior_[:1])[None]
    logs = classify and fitted.input == "logproba"

    def read(p: Value) -> Value:
        return log_floor(p, LOG_FLOOR) if logs else p

    filled = [read(where(mask, p, prior)) for p, mask in zip(P, masks, strict=True)]
    if not classify:
        return prediction(g, fitted.estimator_, g.concat(filled), len(P))
    n_classes, known = len(fitted.classes_), np.asarray(fitted.known_)
    if fitted.estimator_ is None:
        centre = np.maximum(np.log(fitted.prior_), LOG_FLOOR) if logs else fitted.prior_
        centre = centre[None]
        scores = [
            (value - centre).columns(known) * np.asarray(w)[None] for value, w in zip(filled, fitted.coef_, strict=True)
        ]
        offset = (np.log(fitted.prior_[known]) + fitted.intercept_)[None]
        local = (total(scores) + offset).softmax()
    else:
        local = probabilities(g, fitted.estimator_, g.concat(filled), len(P) * n_classes)
    # Classes without rows in fit have probability 0.
    table = np.zeros((len(known), n_classes))
    table[np.arange(len(known)), known] = 1
    return local @ table


POOLS: dict[type, Callable[..., Value]] = {
    LogPool: _log,
    MeanPool: _mean,
    GreedyPool: _greedy,
    VotePool: _vote,
    EntropyPool: _entropy,
    DempsterShaferPool: _dempster_shafer,
    StackingPool: _stacking,
}
