"""Reduced models: one feature-level model for each combination of blocks."""

from __future__ import annotations

import warnings
from itertools import combinations
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from ensemblefuse.blocks import Blocks
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.fusion.patterns import JOIN
from ensemblefuse.fusion.splits import fold_positions

__all__ = ["fit_reduced", "predict_reduced"]

# With up to three blocks, all combinations get a model (7 models). With more blocks: the combinations seen in fit, each
# block alone, and all blocks.
_ALL_COMBINATIONS = 3
_MIN_ROWS = 10


def fit_reduced(
    fusion: Any, blocks: Blocks, y: np.ndarray, weight: np.ndarray | None, used: np.ndarray, splits: Any
) -> None:
    """Fit `fusion.reduced_`: a clone of `fusion` for each combination of blocks, on all `used` rows that hold them.

    All clones choose their default heads on the same splits. A combination gets no model if too few rows hold it, or if
    its rows lack a class.
    """
    fusion.reduced_ = {}
    n_classes = len(np.unique(y[used])) if fusion._classify else 0
    for names in _combinations(blocks):
        there = blocks.present[[blocks.names.index(name) for name in names]].all(axis=0)
        rows = np.flatnonzero(there & used)
        if len(rows) < min(_MIN_ROWS, int(used.sum())) or (n_classes and len(np.unique(y[rows])) < n_classes):
            continue
        changed = {"missing": "raise", "blocks": blocks.spans(names), "weights": _part(fusion, names)}
        if fusion._classify:
            changed["class_weight"] = None  # it is already in the row weights
        # Set before the clone: the splits of `fusion` may be an iterator, which cannot be copied.
        changed["cv"] = 5 if splits is None else fold_positions(splits, there & used)
        model = clone(type(fusion)(**{**fusion.get_params(deep=False), **changed}))
        labels = fusion.classes_[y[rows]] if fusion._classify else y[rows]
        model.fit(
            blocks.side_by_side(names)[rows],
            labels,
            sample_weight=None if weight is None else weight[rows],
        )
        fusion.reduced_[JOIN.join(names)] = model
    if not fusion.reduced_:
        raise ValueError(
            f'missing="reduced" needs a combination of blocks with {_MIN_ROWS} rows, of all classes, and found none. '
            'Use missing="impute".'
        )


def _part(fusion: Any, names: list[str]) -> Any:
    return None if fusion.weights is None else {name: w for name, w in fusion.weights.items() if name in names}


def _combinations(blocks: Blocks) -> list[list[str]]:
    n = len(blocks.names)
    if n <= _ALL_COMBINATIONS:
        return [list(part) for size in range(n, 0, -1) for part in combinations(blocks.names, size)]
    seen = {tuple(pattern) for pattern in blocks.present.T.tolist() if any(pattern)}
    seen |= {tuple(row) for row in np.eye(n, dtype=bool).tolist()} | {(True,) * n}
    ordered = sorted(seen, key=lambda pattern: (-sum(pattern), [not there for there in pattern]))
    return [[name for name, there in zip(blocks.names, pattern, strict=True) if there] for pattern in ordered]


def predict_reduced(fusion: Any, X: Any) -> np.ndarray:
    """Predict probabilities, or numbers in regression, by the model of a row's blocks, or of as many as possible."""
    check_is_fitted(fusion, "reduced_")
    blocks = fusion._read_blocks(X, reset=False)
    shape = (len(blocks), len(fusion.classes_)) if fusion._classify else (len(blocks),)
    out = np.empty(shape)
    out[:] = fusion.prior_
    lost = []
    for pattern in np.unique(blocks.present.T, axis=0):
        present = [name for name, there in zip(blocks.names, pattern, strict=True) if there]
        names = _best_model(fusion, present)
        if present and names != present:
            lost.append((present, names))
        if names:
            rows = np.flatnonzero((pattern == blocks.present.T).all(axis=1))
            model, table = fusion.reduced_[JOIN.join(names)], blocks.side_by_side(names)[rows]
            out[rows] = model.predict_proba(table) if fusion._classify else model.predict(table)
    if lost:
        pairs = "; ".join(f"{JOIN.join(have)} by {JOIN.join(used) or 'the prior'}" for have, used in lost[:3])
        warnings.warn(
            f"{type(fusion).__name__} has no model for {len(lost)} combinations of blocks. It predicts {pairs}.",
            MissingModalityWarning,
            stacklevel=5,
        )
    return out


def _best_model(fusion: Any, present: list[str]) -> list[str]:
    """Return the blocks of the model that uses most of the present blocks; among equal ones, the first."""
    models = [name.split(JOIN) for name in fusion.reduced_]
    usable = [names for names in models if set(names) <= set(present)]
    return max(usable, key=len, default=[])
