"""The default estimators of a block, if the user names none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sklearn.compose import TransformedTargetRegressor
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from ensemblefuse.fusion.linear_head import STRENGTH, default_head

__all__ = ["HeadSearch", "default_search", "linear_search"]

_PATH = (0.1, 0.3, 1.0, 3.0, 10.0)
# If this is not enough, a weak penalty makes the solver slow. The solution reached so far is scored as it is.
_ITERATIONS = 300
# Limits on the work of the two other families. They are better on narrow blocks and few rows, and cheap there.
_KERNEL_WORK = 2e8
_DISCRIMINANT_COLUMNS = 1000
_DISCRIMINANT_ROWS_PER_CLASS = 50
# Up to this width it costs a tenth of the logistic regressions with any number of rows.
_DISCRIMINANT_NARROW = 400
# Above the kernel's limit, some rows span its features (Nystroem), and a linear model of least squares stands on them:
# of two blocks of 48 columns whose bits form an exclusive or, 1 500 rows have accuracy .924 (the SVM .933), at a
# quarter of its time. A logistic regression on the same features takes two to four times as long and was not better.
# Components grow with the cube root of the rows, so their work with rows^(5/3); from 3 400 rows on they stay at 600,
# and from 170 000 rows on the features keep within 0.8 GB.
_COMPONENTS_PER_ROOT = 40.0
_MOST_COMPONENTS = 600
_MOST_FEATURES = 1e8
# Leave-one-out errors need all eigenvalues of the smaller side: 10 s of the processor for 4 000 rows of 1 553 columns,
# where all other fits of a table of five blocks took 8. Beyond this, the ledger chooses among a few penalties.
_MOST_LEAVE_ONE_OUT = 600
_WIDE_ALPHAS = (1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0)
# The features have lengths of at most 1. Few components are a penalty of their own, so weak ones suffice.
_CLASS_ALPHAS = (0.1,)
_VALUE_ALPHAS = (0.01, 0.3)


@dataclass
class HeadSearch:
    """Candidate estimators (heads) for one member. The ledger keeps the one with the smallest out-of-fold loss.

    Attributes
    ----------
    heads : list of estimator
        A logistic regression starts from the coefficients of the ones before it. A head may be a pipeline of features
        and a linear model; heads whose pipelines begin with the same object share its fit.
    prepare : transformer
        Fitted once for all heads.
    by_value : bool
        Whether to use the decision values of the heads, with a temperature, even if they have probabilities.
    raise_weights : bool
        Whether the heads compare sums of weights with constants, as XGBoost does. Weights of a mean below 1 are then
        raised to a mean of 1.
    """

    heads: list[Any]
    prepare: Any = field(default_factory=StandardScaler)
    by_value: bool = True
    raise_weights: bool = False


def linear_search(width: float, n_classes: int, prepare: Any = None) -> HeadSearch:
    """Build the head of ``effort="low"``: the linear model of `default_head`, as a search with nothing to choose.

    Parameters
    ----------
    width, n_classes, prepare
        As in `default_search`.
    """
    head = default_head(width, classify=n_classes > 0, scale=False)
    return HeadSearch([head], StandardScaler() if prepare is None else prepare)


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
        Logistic regressions with several penalties around the one of `default_head`. An RBF kernel: one-vs-rest SVMs if
        they cost little, otherwise a linear classifier of least squares on Nystroem features. With few rows per class,
        or up to 400 columns, also a discriminant analysis with Ledoit-Wolf shrinkage. For numbers: ridge regression
        (with several penalties, where leave-one-out errors cost too much), and an RBF kernel as support vector
        regressions or as ridge regressions on Nystroem features.

    Notes
    -----
    Over several blocks side by side, the RBF kernel is the product of the blocks' kernels. So the joint member can
    learn interactions of blocks with any number of rows. The SVMs are used where rows squared times columns are at most
    2e8. Beyond, the number of Nystroem components is 40 times the cube root of the rows, at most 600, and at most 1e8
    divided by the rows.

    References
    ----------
    Williams and Seeger, Using the Nyström method to speed up kernel machines, NIPS 2000; Rifkin and Klautau, In defense
    of one-vs-all classification, JMLR 2004 (least squares as good as SVMs).
    """
    n_rows, n_columns = shape
    prepare = StandardScaler() if prepare is None else prepare
    cheap_kernel = float(n_rows) ** 2 * n_columns <= _KERNEL_WORK
    if not n_classes:
        linear: list[Any] = [default_head(width, classify=False, scale=False)]
        if min(shape) > _MOST_LEAVE_ONE_OUT:
            linear = [Ridge(alpha) for alpha in _WIDE_ALPHAS]
        machines = [TransformedTargetRegressor(SVR(C=C), transformer=StandardScaler()) for C in (1.0, 10.0)]
        ridges = _on_kernel_features(n_rows, [Ridge(alpha) for alpha in _VALUE_ALPHAS])
        return HeadSearch([*linear, *(machines if cheap_kernel else ridges)], prepare)
    middle = min(1.0, STRENGTH / width)
    heads: list[Any] = [LogisticRegression(C=float(middle * factor), max_iter=_ITERATIONS) for factor in _PATH]
    if cheap_kernel:
        heads += [OneVsRestClassifier(SVC(C=C)) for C in (1.0, 10.0)]
    else:
        heads += _on_kernel_features(n_rows, [RidgeClassifier(alpha) for alpha in _CLASS_ALPHAS])
    few = n_rows < _DISCRIMINANT_ROWS_PER_CLASS * n_classes and n_columns <= _DISCRIMINANT_COLUMNS
    if not weighted and (few or n_columns <= _DISCRIMINANT_NARROW):
        heads.append(LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))
    return HeadSearch(heads, prepare)


def _on_kernel_features(n_rows: int, linear: list[Any]) -> list[Any]:
    """Return the linear models on Nystroem features that they share."""
    count = min(_COMPONENTS_PER_ROOT * n_rows ** (1 / 3), _MOST_COMPONENTS, _MOST_FEATURES / n_rows, n_rows)
    features = Nystroem(n_components=max(1, round(count)), random_state=0)
    return [Pipeline([("features", features), ("linear", model)]) for model in linear]
