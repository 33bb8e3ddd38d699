"""Which combinations of blocks rows may hold, and what to expect of each, from the ledger."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ensemblefuse.blocks import Blocks
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.fusion.splits import mean_over_folds

__all__ = ["JOIN", "expected_scores", "list_patterns", "oof_predictions", "possible_members"]

# Combinations of up to ten blocks are listed, 1023 of them.
_LISTED = 10
# All combinations of up to five blocks are 31; of more blocks, those that fit saw, each block alone, and all.
_ALL_COMBINATIONS = 5


def list_patterns(blocks: Blocks, names: list[str]) -> np.ndarray:
    """Combinations of present blocks, of shape (n_patterns, n_names), dtype bool; complete ones first."""
    n = len(names)
    if n <= _ALL_COMBINATIONS:
        codes = np.arange(1, 2**n)
        patterns = (codes[:, None] >> np.arange(n) & 1).astype(bool)
    else:
        seen = blocks.present[[blocks.names.index(name) for name in names]].T
        patterns = np.unique(np.vstack([seen, np.eye(n, dtype=bool), np.ones((1, n), dtype=bool)]), axis=0)
        patterns = patterns[patterns.any(axis=1)]
    order = sorted(range(len(patterns)), key=lambda i: (-patterns[i].sum(), (~patterns[i]).tolist()))
    return patterns[order]


def possible_members(fusion: Any, blocks: Blocks) -> np.ndarray:
    """Sets of members that rows may have: of each combination of blocks, and the joint member where it takes part.

    Returns
    -------
    ndarray of shape (n_sets, n_members), dtype bool
    """
    names = fusion._used_blocks()
    n = len(names)
    codes = np.arange(1, 2 ** min(n, _LISTED))
    combinations = (codes[:, None] >> np.arange(n) & 1).astype(bool) if n <= _LISTED else fusion.patterns_
    sets = []
    for combination in combinations:
        allowed = {name for name, there in zip(names, combination, strict=True) if there}
        single = np.array([block in allowed for block in fusion.member_blocks_])
        joint = np.array([fusion._is_joint(block) for block in fusion.member_blocks_])
        sets.append(single)
        if joint.any() and fusion._joint_takes(allowed):
            sets.append(single | joint)
    return np.unique(sets, axis=0)


def oof_predictions(fusion: Any, keep: np.ndarray, *, joint: bool = True) -> np.ndarray:
    """Fused out-of-fold predictions of the rows of fit, as if they held only some of their blocks; fits nothing.

    The joint member takes part in rows that lose none of its blocks: its predictions for other rows saw more.

    Parameters
    ----------
    fusion : fitted decision-level fusion
    keep : ndarray of shape (n_blocks, n_samples), dtype bool
        Which blocks to keep, in the order of ``fusion._used_blocks()``. One that a row never held stays missing.
    joint : bool
        Whether the joint member takes part at all.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), or (n_samples,) in regression
        The class frequencies, or the mean, in rows that keep nothing. NaN in rows of no test fold.
    """
    P, mask = np.asarray(fusion.oof_predictions_, dtype=float), _mask_of(fusion, keep)
    if not joint:
        mask &= ~np.array([[fusion._is_joint(block)] for block in fusion.member_blocks_])
    filled = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingModalityWarning)
        for test, pool, certainty in fusion._oof["pools"]:
            fused = pool.pool(P[:, test], mask[:, test])
            some = mask[:, test].any(axis=0)
            if certainty is not None and some.any():
                fused[some] = fusion._calibrate(fused[some], certainty)
            filled.append((test, fused))
    return mean_over_folds(filled, P.shape[1], P.shape[2] if P.ndim == 3 else 0)


def _mask_of(fusion: Any, keep: np.ndarray) -> np.ndarray:
    """Which members take part in each row."""
    names, present = fusion._used_blocks(), fusion._oof["present"]
    known = np.isfinite(
        fusion.oof_predictions_ if fusion.oof_predictions_.ndim == 2 else fusion.oof_predictions_[..., 0]
    )
    kept = present & keep
    joint = [names.index(name) for name in fusion._joint_blocks()]
    whole = (kept[joint] == present[joint]).all(axis=0)
    rows = [whole if fusion._is_joint(block) else kept[names.index(block)] for block in fusion.member_blocks_]
    return known & np.array(rows)


def expected_scores(fusion: Any) -> np.ndarray:
    """Rows, log-loss and accuracy (regression: RMSE and R2) of each of ``fusion.patterns_``, out of fold.

    Measured on all rows that hold at least the blocks of the pattern, with the members of the others left out.

    Returns
    -------
    ndarray of shape (n_patterns, 3)
        NaN where no row holds the pattern.
    """
    present = fusion._oof["present"]
    scores = []
    for pattern in fusion.patterns_:
        keep = np.repeat(pattern[:, None], present.shape[1], axis=1)
        rows = present[pattern].all(axis=0) & _mask_of(fusion, keep).any(axis=0)
        scores.append(_score(oof_predictions(fusion, keep), rows, fusion._oof))
    return np.array(scores)


def _score(fused: np.ndarray, rows: np.ndarray, oof: dict[str, Any]) -> np.ndarray:
    chosen = np.flatnonzero(rows & np.isfinite(fused if fused.ndim == 1 else fused[:, 0]))
    if oof["sample_weight"] is not None:
        chosen = chosen[oof["sample_weight"][chosen] > 0]
    if not len(chosen):
        return np.array([0, np.nan, np.nan])
    y, weight = oof["y"][chosen], None if oof["sample_weight"] is None else oof["sample_weight"][chosen]
    if fused.ndim == 2:
        proba = fused[chosen]
        truth = np.maximum(proba[np.arange(len(y)), y], 1e-15)
        return np.array([len(y), -np.average(np.log(truth), weights=weight), _mean(proba.argmax(axis=1) == y, weight)])
    error = np.average((fused[chosen] - y) ** 2, weights=weight)
    spread = np.average((y - np.average(y, weights=weight)) ** 2, weights=weight)
    return np.array([len(y), np.sqrt(error), 1 - error / spread if spread > 0 else np.nan])


def _mean(values: np.ndarray, weight: np.ndarray | None) -> float:
    return float(np.average(values, weights=weight))


JOIN = " + "
