"""The joint member of decision-level fusion: one estimator over all blocks of numbers, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np

from ensemblefuse.blocks import Blocks
from ensemblefuse.fusion._block_preparation import make_preparation, with_blocks
from ensemblefuse.fusion._default_heads import HeadSearch, default_search, linear_search
from ensemblefuse.fusion._feature import FeatureFusionClassifier, FeatureFusionRegressor
from ensemblefuse.fusion.base import BaseFusion
from ensemblefuse.fusion.linear_head import default_head

__all__ = ["JOINT", "common_patterns", "joint_estimator", "rows_of_patterns"]

JOINT = "joint"
# A joint member is badly wrong on a pattern of missing blocks that it did not see in training (the accuracy of a
# concatenation with filled means fell from .89 to .62). So it takes no part in rows with a rare pattern.
_MIN_PATTERN_ROWS = 10


def common_patterns(blocks: Blocks, names: list[str]) -> np.ndarray:
    """Return the patterns of at least two blocks for the joint member: complete, or seen often enough in fit."""
    patterns, counts = np.unique(_patterns(blocks, names), axis=0, return_counts=True)
    complete = patterns.all(axis=1)
    return patterns[(patterns.sum(axis=1) > 1) & (complete | (counts >= _MIN_PATTERN_ROWS))]


def rows_of_patterns(blocks: Blocks, names: list[str], patterns: np.ndarray) -> np.ndarray:
    """Return the rows whose combination of present blocks is one of `patterns`."""
    return (_patterns(blocks, names)[:, None] == patterns).all(axis=2).any(axis=1)


def _patterns(blocks: Blocks, names: list[str]) -> np.ndarray:
    """Return which of these blocks each row holds, of shape (n_samples, n_names)."""
    return blocks.present[[blocks.names.index(name) for name in names]].T


def joint_estimator(
    fusion: Any, estimator: Any, spans: dict[str, np.ndarray], shape: tuple[int, int], n_classes: int, weighted: bool
) -> Any:
    """Return the estimator of the joint member: a fusion estimator as it is, any other after scaling and filling."""
    if isinstance(estimator, BaseFusion):
        return with_blocks(estimator, spans)
    width, quick = shape[1] / len(spans), estimator is None and fusion.effort == "low"
    if fusion.missing in ("dropout", "reduced"):
        estimator = default_head(width, classify=n_classes > 0, scale=False) if quick else estimator
        feature = FeatureFusionClassifier if n_classes else FeatureFusionRegressor
        return feature(estimator, missing=fusion.missing, random_state=0, blocks=spans)
    prepare = make_preparation(spans)
    if quick:
        return linear_search(width, n_classes, prepare)
    if estimator is None:
        return default_search(width, shape, n_classes, weighted=weighted, prepare=prepare)
    return HeadSearch([estimator], prepare, by_value=False)
