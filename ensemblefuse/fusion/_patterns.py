"""Which combinations of blocks rows may hold, and what to expect of each, from the ledger. Floor 3."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ensemblefuse.blocks import Blocks
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.fusion._ledger import Ledger

__all__ = ["expected_scores", "list_patterns", "possible_members"]

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


def expected_scores(fusion: Any, P: np.ndarray, pools: list, ledger: Ledger, blocks: Blocks) -> np.ndarray:
    """Rows, log-loss and accuracy (regression: RMSE and R2) of each of ``fusion.patterns_``, out of fold.

    Measured on all rows that hold at least the blocks of the pattern, with the members of the others left out. The
    joint member takes part only in rows that hold just these blocks: its predictions for other rows saw more.

    Returns
    -------
    ndarray of shape (n_patterns, 3)
        NaN where no row holds the pattern.
    """
    names = fusion._used_blocks()
    present = blocks.present[[blocks.names.index(name) for name in names]]
    known = np.isfinite(P if P.ndim == 2 else P[..., 0])
    out = np.full((len(fusion.patterns_), 3), np.nan)
    for p, pattern in enumerate(fusion.patterns_):
        rows = present[pattern].all(axis=0)
        exact = rows & ~present[~pattern].any(axis=0)
        allowed = {name for name, there in zip(names, pattern, strict=True) if there}
        mask = np.zeros_like(known)
        for m, block in enumerate(fusion.member_blocks_):
            if block in allowed:
                mask[m] = known[m] & rows
            elif fusion._is_joint(block):
                mask[m] = known[m] & exact
        out[p] = _score(fusion, P, mask, rows, pools, ledger)
    return out


def _score(fusion: Any, P: np.ndarray, mask: np.ndarray, rows: np.ndarray, pools: list, ledger: Ledger) -> np.ndarray:
    fused = np.full(P.shape[1:], np.nan)
    for _, test, pool in pools:
        test = test[rows[test] & mask[:, test].any(axis=0)]
        if len(test):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MissingModalityWarning)
                fused[test] = pool.pool(P[:, test], mask[:, test])
    chosen = np.flatnonzero(np.isfinite(fused if P.ndim == 2 else fused[:, 0]))
    if ledger.sample_weight is not None:
        chosen = chosen[ledger.sample_weight[chosen] > 0]
    if not len(chosen):
        return np.array([0, np.nan, np.nan])
    y, weight = ledger.y[chosen], None if ledger.sample_weight is None else ledger.sample_weight[chosen]
    if P.ndim == 3:
        proba = fusion._calibrate(fused[chosen])
        truth = np.maximum(proba[np.arange(len(y)), y], 1e-15)
        return np.array([len(y), -np.average(np.log(truth), weights=weight), _mean(proba.argmax(axis=1) == y, weight)])
    error = np.average((fused[chosen] - y) ** 2, weights=weight)
    spread = np.average((y - np.average(y, weights=weight)) ** 2, weights=weight)
    return np.array([len(y), np.sqrt(error), 1 - error / spread if spread > 0 else np.nan])


def _mean(values: np.ndarray, weight: np.ndarray | None) -> float:
    return float(np.average(values, weights=weight))
