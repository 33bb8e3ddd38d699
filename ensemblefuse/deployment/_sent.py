"""Decision-level fusion without heads: pool and calibration for predictions that were made on edge boxes."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from ensemblefuse.fusion.joint import JOINT
from ensemblefuse.fusion.patterns import expected_scores, oof_predictions
from ensemblefuse.scoring.metrics import default_metric, row_values

__all__ = ["SentPredictions"]

# Largest deviation of a sum of probabilities from 1, to allow for float32 or for few digits in a file.
_SUM = 1e-2


class SentPredictions(BaseEstimator):
    """A member of decision-level fusion whose predictions are the features of its block. Learns nothing.

    Parameters
    ----------
    position : int
        Position of this head among those whose predictions are side by side in the block.
    n_classes : int
        0 in regression.

    Examples
    --------
    >>> from ensemblefuse.deployment import SentPredictions
    >>> SentPredictions(1, n_classes=2).predict([[0.9, 0.1, 0.3, 0.7]])
    array([1])
    """

    def __init__(self, position: int = 0, *, n_classes: int = 0):
        self.position = position
        self.n_classes = n_classes

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> SentPredictions:
        """Do nothing: the heads are on the edge boxes."""
        return self

    def check(self, vector: np.ndarray) -> None:
        """Raise `ValueError` if any head's part of a vector does not hold probabilities."""
        if self.n_classes:
            _check_probabilities(vector.reshape(-1, self.n_classes).astype(float))

    def _own(self, X: Any) -> np.ndarray:
        width = self.n_classes or 1
        own = np.asarray(X, dtype=float)[:, self.position * width : (self.position + 1) * width]
        if self.n_classes:
            _check_probabilities(own)
        return own

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logarithms of the probabilities that were sent, of shape (n_samples, n_classes)."""
        with np.errstate(divide="ignore"):
            return np.log(self._own(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the codes of the most probable classes, or the numbers that were sent: shape (n_samples,)."""
        return self._own(X).argmax(axis=1) if self.n_classes else self._own(X)[:, 0]

    def __sklearn_is_fitted__(self) -> bool:
        return True


def _check_probabilities(rows: np.ndarray) -> None:
    bad = np.flatnonzero((rows < 0).any(axis=1) | ~(np.abs(rows.sum(axis=1) - 1) < _SUM))
    if len(bad):
        raise ValueError(
            f"{len(bad)} of {len(rows)} vectors do not hold probabilities, which are at least 0 and sum to 1; the "
            f"first has {rows[bad[0]].tolist()[:5]}. Send vectors from the edge part of the same split_model."
        )


def heads_of(core: Any, block: str) -> list[dict[str, Any]]:
    """Return the fitted members of one block, as `ask_member` takes them; with `words`, one that reads its texts."""
    heads = []
    for m, (name, of) in enumerate(zip(core.member_names_, core.member_blocks_, strict=True)):
        if of == block:
            estimators, classes = core.estimators_[name], core.member_classes_[name]
            heads.append(
                {
                    "estimators": [estimators] if core.refit else list(estimators),
                    "classes": [classes] if core.refit else list(classes),
                    "temperature": float(core.member_temperatures_[m]),
                    "by_value": bool(core._by_value[m]),
                    **({"words": True} if name in core.word_members_ else {}),
                }
            )
    return heads


def without_heads(core: Any, widths: dict[str, int]) -> Any:
    """Return a copy of a fitted decision-level fusion that reads its members' predictions from its blocks.

    Parameters
    ----------
    core : fitted DecisionFusionClassifier or DecisionFusionRegressor
    widths : dict of str to int
        Number of columns of each block: heads times classes. In the order of ``core._used_blocks()``.

    Notes
    -----
    A joint member is not possible, because it needs the blocks. It stays in the pool as a member that is absent in
    every row (the pool knows such rows from combinations without the joint member), and it is removed from the ledger.
    """
    n_classes = len(core.classes_) if core._classify else 0
    fusion = copy.copy(core)
    ends = np.cumsum(list(widths.values()))
    fusion.blocks_ = {n: np.arange(end - w, end) for (n, w), end in zip(widths.items(), ends, strict=True)}
    fusion.feature_names_in_ = np.array([f"{n}__{i}" for n, w in widths.items() for i in range(w)], dtype=object)
    fusion.n_features_in_, fusion.raw_blocks_ = int(ends[-1]), []
    fusion.word_columns_, fusion.word_members_ = {}, []
    fusion.estimators_, fusion.member_classes_ = {}, {}
    for name in widths:
        for i, member in enumerate(
            [m for m, b in zip(core.member_names_, core.member_blocks_, strict=True) if b == name]
        ):
            fusion.estimators_[member] = SentPredictions(i, n_classes=n_classes)
            fusion.member_classes_[member] = np.arange(n_classes)
    fusion.member_temperatures_ = np.ones(len(core.member_names_))
    fusion.estimators = {name: SentPredictions(n_classes=n_classes) for name in widths}
    fusion.refit, fusion.blocks = True, None
    joint = np.array([core._is_joint(block) for block in core.member_blocks_])
    if joint.any():
        fusion.missing, fusion.joint_patterns_ = "present", np.zeros((0, len(widths)), dtype=bool)
        _leave_out(fusion, core, joint)
    return fusion


def _leave_out(fusion: Any, core: Any, joint: np.ndarray) -> None:
    """Remove the joint member from the ledger, and warn with the loss that this causes."""
    fusion.oof_predictions_ = core.oof_predictions_.copy()
    fusion.oof_predictions_[joint] = np.nan
    keep = np.ones_like(core._oof["present"])
    with_it, without = oof_predictions(core, keep), oof_predictions(fusion, keep)
    fusion._pattern_scores = expected_scores(fusion)
    if core._classify:
        fusion.oof_proba_ = without.astype(np.float32)
    else:
        fusion.oof_fused_ = without
    metric = default_metric(core._classify)
    losses = [_loss(predictions, core._oof, metric) for predictions in (with_it, without)]
    warnings.warn(
        f"The member {JOINT!r} sees all modalities at once, so it cannot run on an edge box and is left out: "
        f"predictions are those of the model without it. Out of fold, {metric} is {losses[0]:.4g} with it and "
        f"{losses[1]:.4g} without. To get exactly the fitted model, fit with joint=False, or send embeddings.",
        UserWarning,
        stacklevel=5,
    )


def _loss(predictions: np.ndarray, oof: dict[str, Any], metric: str) -> float:
    rows = np.isfinite(predictions if predictions.ndim == 1 else predictions[:, 0])
    weight = None if oof["sample_weight"] is None else oof["sample_weight"][rows]
    return -float(np.average(row_values(predictions[rows], oof["y"][rows], metric), weights=weight))
