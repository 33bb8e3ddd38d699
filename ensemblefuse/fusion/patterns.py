"""The combinations of blocks that rows may hold, and the scores to expect for each, from the ledger."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ensemblefuse.blocks import Blocks
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.fusion.splits import mean_over_folds

__all__ = [
    "JOIN",
    "expected_scores",
    "hidden_predictions",
    "list_patterns",
    "oof_predictions",
    "possible_members",
    "score_rows",
]

# All combinations are listed for up to ten blocks (1023 combinations).
_LISTED = 10
# All combinations get scores for up to five blocks (31 combinations). With more blocks: the combinations seen in fit,
# each block alone, and all blocks.
_ALL_COMBINATIONS = 5


def list_patterns(blocks: Blocks, names: list[str]) -> np.ndarray:
    """Return the combinations of present blocks, of shape (n_patterns, n_names), dtype bool, the largest first."""
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
    """Return the sets of members that rows may have: for each combination of blocks, without and with the joint member.

    The joint member is only in the sets of combinations where it takes part.

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
    """Return fused out-of-fold predictions for the rows of fit, as if they held only some of their blocks.

    Nothing is fitted. The joint member takes part only in rows that keep all their blocks of the joint member: its
    predictions for other rows were made from more blocks.

    Parameters
    ----------
    fusion : fitted decision-level fusion
    keep : ndarray of shape (n_blocks, n_samples), dtype bool
        Blocks to keep, in the order of ``fusion._used_blocks()``. A block that is missing in a row stays missing.
    joint : bool
        Whether the joint member takes part at all.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), or (n_samples,) in regression
        The class frequencies, or the mean, in rows that keep no block. NaN in rows in no test fold.
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


def hidden_predictions(fusion: Any, names: set[str]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return what the fusion predicts out of fold for rows of fit if they hold some blocks and no others.

    Parameters
    ----------
    fusion : fitted decision-level fusion
    names : set of str
        Blocks that are kept.

    Returns
    -------
    predicted : ndarray of shape (n_samples, n_classes), or (n_samples,) in regression
    rows : ndarray of int
        Positions of the rows that hold at least these blocks, and have a prediction.
    is_alike : bool
        Whether new rows with these blocks are predicted in the same way. False if the joint member takes part in them:
        its predictions in the ledger saw the other blocks too, so it is left out here.
    """
    pattern = np.array([name in names for name in fusion._used_blocks()])
    numeric = set(fusion._joint_blocks())
    has_joint = any(fusion._is_joint(block) for block in fusion.member_blocks_)
    is_alike = not has_joint or numeric <= names or not fusion._joint_takes(names & numeric)
    present = fusion._oof["present"]
    keep = np.repeat(pattern[:, None], present.shape[1], axis=1)
    predicted = oof_predictions(fusion, keep)
    rows = present[pattern].all(axis=0) & _mask_of(fusion, keep).any(axis=0)
    finite = np.isfinite(predicted.reshape(len(predicted), -1)).all(axis=1)
    return predicted, np.flatnonzero(rows & finite), is_alike


def _mask_of(fusion: Any, keep: np.ndarray) -> np.ndarray:
    """Return which members take part in each row, of shape (n_members, n_samples)."""
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
    """Compute rows, log-loss and accuracy (regression: RMSE and R2) of each of ``fusion.patterns_``, out of fold.

    They are measured on all rows that hold at least the blocks of the pattern, without the members of other blocks.

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
        scores.append(score_rows(oof_predictions(fusion, keep), rows, fusion._oof))
    return np.array(scores)


def score_rows(fused: np.ndarray, rows: np.ndarray, oof: dict[str, Any]) -> np.ndarray:
    """Return number of rows, log-loss and accuracy (regression: RMSE and R2) of out-of-fold predictions.

    Parameters
    ----------
    fused : ndarray of shape (n_samples, n_classes), or (n_samples,) in regression
        NaN in rows without a prediction. They are left out.
    rows : ndarray of shape (n_samples,), dtype bool
        Rows to score.
    oof : dict
        With the target, ``y``, and the ``sample_weight`` of the rows.
    """
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
