"""The estimator of a block for which the user names none."""

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

# Standardised columns give rows of squared length d, so the same C regularises wide blocks less. 30 / d lies
# between the best C of 52 columns (about 0.5) and of 1 024 (about 0.03). Blocks side by side are
# scaled to the variance of one of mean width, so that width counts.
_STRENGTH = 30.0
_PATH = (0.1, 0.3, 1.0, 3.0, 10.0)
# Where this is not enough a weak penalty is what makes it slow; the loss of what was reached is measured all the same.
_ITERATIONS = 300
# Bounds on the work of the two other families: they win on narrow blocks and on few rows, where they are also cheap.
_KERNEL_WORK = 2e8
_DISCRIMINANT_COLUMNS = 1000
_DISCRIMINANT_ROWS_PER_CLASS = 50


@dataclass
class HeadSearch:
    """Estimators for one member, of which the ledger keeps the one of least out-of-fold loss.

    Attributes
    ----------
    heads : list of estimator
        The coefficients of a logistic regression are where the next one starts.
    prepare : transformer
        Fitted once for all of them.
    by_value : bool
        Whether the decision values of the heads are asked for, to be given a temperature, even where there are
        probabilities.
    """

    heads: list[Any]
    prepare: Any = field(default_factory=StandardScaler)
    by_value: bool = True


def default_head(width: float, *, classify: bool, scale: bool = True) -> Any:
    """Regularised linear model for one block, or for several side by side.

    Parameters
    ----------
    width : float
        Number of columns of the block, the mean of these for several blocks; the wider, the stronger the penalty.
    classify : bool
    scale : bool
        Whether to standardise first.

    Returns
    -------
    estimator
        Logistic regression with ``C = min(1, 30 / width)``, or ridge regression with its penalty chosen by
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
    """What to try for one member.

    Parameters
    ----------
    width : float
        As in `default_head`.
    shape : (n_rows, n_columns)
        Of the table that the heads are fitted on.
    n_classes : int
        0 in regression.
    weighted : bool
        Whether rows have weights, which a discriminant analysis cannot take.
    prepare : transformer, optional
        Standardises, by default.

    Returns
    -------
    HeadSearch
        Logistic regressions along a path of penalties around that of `default_head`; where the kernel costs little, a
        one-vs-rest SVM with an RBF kernel; with few rows a class, a discriminant analysis with Ledoit-Wolf shrinkage.
        In regression ridge regression, and support vector regression where the kernel costs little.
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
