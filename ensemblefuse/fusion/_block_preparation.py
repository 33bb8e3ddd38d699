"""Preparation of blocks for one estimator over all of them: scaling, filling, transforming."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import get_tags

from ensemblefuse.features import BlockScaler

__all__ = ["SCALED", "make_preparation", "with_blocks"]

# Why an estimator over several blocks cannot come fitted.
SCALED = "it would get scaled and filled columns that it was not fitted on"


def make_preparation(
    spans: dict[str, np.ndarray],
    *,
    scaling: str | None = "equal",
    weights: Any = None,
    imputer: Any = None,
    transformer: Any = None,
    fill: bool = True,
) -> Pipeline:
    """Build a pipeline that scales the blocks, fills missing ones by `imputer`, transforms, and sets other NaN to 0.

    After scaling, the mean of a column is 0. So without an imputer, a gap is filled with the mean.
    """
    steps: list[Any] = [BlockScaler(scaling, weights=weights, blocks=spans)]
    if imputer is not None:
        steps.append(with_blocks(imputer, spans))
    if transformer is not None:
        if imputer is None and fill and not get_tags(transformer).input_tags.allow_nan:
            steps.append(_zeros())
        steps.append(with_blocks(transformer, spans))
    if fill:
        steps.append(_zeros())
    return make_pipeline(*steps)


def _zeros() -> SimpleImputer:
    return SimpleImputer(strategy="constant", fill_value=0.0, keep_empty_features=True, copy=False)


def with_blocks(part: Any, spans: dict[str, np.ndarray]) -> Any:
    """Return a clone whose parameter `blocks`, if it has one and it is None, is set to the columns of the blocks."""
    part = clone(part)
    params = part.get_params(deep=False) if hasattr(part, "get_params") else {}
    return part.set_params(blocks=spans) if "blocks" in params and params["blocks"] is None else part
