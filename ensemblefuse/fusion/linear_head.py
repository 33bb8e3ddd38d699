"""The linear model that stands on a block by default."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["STRENGTH", "default_head"]

# A row of d standardised columns has a squared length of about d, so the same C regularises wide blocks less. 30 / d
# fits the best C of 52 columns (about 0.5) and of 1 024 columns (about 0.03). Several blocks side by side are scaled to
# the variance of a block of mean width, so d is the mean width there.
STRENGTH = 30.0


def default_head(width: float, *, classify: bool, scale: bool = True) -> Any:
    """Build a regularised linear model for one block, or for several blocks side by side.

    Parameters
    ----------
    width : float
        Number of columns of the block; for several blocks, the mean of these numbers. A larger width gives a stronger
        penalty.
    classify : bool
    scale : bool
        Whether to standardise first.

    Returns
    -------
    estimator
        Logistic regression with ``C = min(1, 30 / width)``, or ridge regression, with its penalty chosen by
        leave-one-out error.
    """
    if classify:
        head: Any = LogisticRegression(C=min(1.0, STRENGTH / width), max_iter=1000)
    else:
        head = RidgeCV(alphas=np.logspace(-2, 5, 15))
    return make_pipeline(StandardScaler(), head) if scale else head
