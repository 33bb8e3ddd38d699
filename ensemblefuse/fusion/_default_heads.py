"""The default estimators of a block, if the user names none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

__all__ = ["HeadSearch", "default_head", "default_search"]

# A row of d standardised columns has a squared length of about d, so the same C regularises wide blocks less. 30 / d
# fits the best C of 52 columns (about 0.5) and of 1 024 columns (about 0.03). Several blocks side by side are scaled to
# the variance of a block of mean width, so d is the mean width there.
_STRENGTH = 30.0
_PATH = (0.1, 0.3, 1.0, 3.0, 10.0)
# If this is not enough, a weak penalty makes the solver slow. The solution reached so far is scored as it is.
_ITERATIONS = 300
# Limits on the work of the two other families. They are better on narrow blocks and few rows, and cheap there.
_KERNEL_WORK = 2e8
_DISCRIMINANT_COLUMNS = 1000
_DISCRIMINANT_ROWS_PER_CLASS = 50


@dataclass
class HeadSearch:
    """Candidate estimators (heads) for one member. The ledger keeps the one with the smallest out-of-fold loss.

    Attributes
    ----------
    heads : list of estimator
        A logistic regression starts from the coefficients of the one before it.
    prepare : transformer
        Fitted once for all heads.
    by_value : bool
        Whether to use the decision values of the heads, with a temperature, even if they have probabilities.
    """

    heads: list[Any]
    prepare: Any = field(default_factory=StandardScaler)
    by_value: bool = True


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
        head: Any = LogisticRegression(C=min(1.0, _STRENGTH / width), max_iter=1000)
    else:
        head = RidgeCV(alphas=np.logspace(-2, 5, 15))
    return make_pipeline(StandardScaler(), head) if scale else head


def default_search(
    width: float, shape: tuple[int, int], n_classes: int, *, weighted: bool = False, prepare: Any = None
) -> HeadSearch:
    """Build the default candidates for one member.

    Parameters
    ----------
    width : float
        As in `default_head`.
    shape : (n_rows, n_columns)
        Shape of the table that the heads are fitted on.
    n_classes : int
        0 in regression.
    weighted : bool
        Whether rows have weights. The discriminant analysis takes no weights, so it is then left out.
    prepare : transformer, optional
        By default, standardisation.

    Returns
    -------
    HeadSearch
        Logistic regressions with several penalties around the one of `default_head`. If the kernel costs little, also
        one-vs-rest SVMs with an RBF kernel. With few rows per class, also a discriminant analysis with Ledoit-Wolf
        shrinkage. For numbers: ridge regression and, if the kernel costs little, support vector regressions.
    """
    n_rows, n_columns = shape
    prepare = StandardScaler() if prepare is None else prepare
    cheap_kernel = float(n_rows) ** 2 * n_columns <= _KERNEL_WORK
    if not n_classes:
        machines = [TransformedTargetRegressor(SVR(C=C), transformer=StandardScaler()) for C in (1.0, 10.0)]
        return HeadSearch([default_head(width, classify=False, scale=False), *machines * cheap_kernel], prepare)
    middle = min(1.0, _STRENGTH / width)
    heads: list[Any] = [LogisticRegression(C=float(middle * factor), max_iter=_ITERATIONS) for factor in _PATH]
    if cheap_kernel:
        heads += [OneVsRestClassifier(SVC(C=C)) for C in (1.0, 10.0)]
    if not weighted and n_rows < _DISCRIMINANT_ROWS_PER_CLASS * n_classes and n_columns <= _DISCRIMINANT_COLUMNS:
        heads.append(LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))
    return HeadSearch(heads, prepare)
