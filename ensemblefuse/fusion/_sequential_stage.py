"""Functions that fit an estimator on top of a margin, the result of the stages before it.

In classification, a margin is the logarithm of a probability, up to a constant per row. Its shape is (n_samples,
n_classes). In regression, a margin is a prediction of shape (n_samples, 1). A fitted stage adds a step to the margin.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import has_fit_parameter

from ensemblefuse._fitting import fit_clone, fit_estimator, refuses_weights

__all__ = ["check_stage", "fit_stage", "log_loss_of", "stage_step", "step_size", "step_size_of_numbers"]

_LARGEST_STEP = 100.0


def check_stage(fusion: str, name: str, estimator: Any) -> None:
    """Raise an error if an estimator cannot be fitted on top of a margin."""
    if isinstance(estimator, type) or not (hasattr(estimator, "fit") and hasattr(estimator, "get_params")):
        raise TypeError(
            f"{fusion}: the estimator of {name!r} must be an estimator object such as LogisticRegression(); got "
            f"{estimator!r}."
        )
    last = _last(estimator)
    if not (_is_logistic(last) or _takes_margin(last) or is_regressor(last)):
        raise ValueError(
            f"{fusion}: the estimator of {name!r}, {type(last).__name__}, cannot start from the result of the stages "
            "before it; use LogisticRegression, XGBClassifier, or any regressor (it is fitted on the gradient), alone "
            "or as the last step of a pipeline."
        )
    if _is_logistic(last) and (
        getattr(last, "penalty", None) not in ("l2", "deprecated", None) or getattr(last, "l1_ratio", None)
    ):
        raise ValueError(f"{fusion}: the LogisticRegression of {name!r} must have an L2 penalty or none; got {last!r}.")


def _last(estimator: Any) -> Any:
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def _is_logistic(last: Any) -> bool:
    return type(last) is LogisticRegression  # not a subclass: LogisticRegressionCV has no penalty before fit


def _takes_margin(last: Any) -> bool:
    return is_classifier(last) and has_fit_parameter(last, "base_margin")


def fit_stage(
    estimator: Any, X: Any, y: np.ndarray, weight: np.ndarray | None, margin: np.ndarray, classify: bool
) -> tuple[Any, bool]:
    """Fit a clone on top of `margin`.

    Parameters
    ----------
    estimator : estimator
    X : array, sparse matrix, Series or DataFrame of n_samples rows
    y : ndarray of shape (n_samples,)
        Codes 0 to n_classes - 1, or numbers.
    weight : ndarray of shape (n_samples,), optional
    margin : ndarray of shape (n_samples, n_classes), or (n_samples, 1) in regression
    classify : bool

    Returns
    -------
    fitted : estimator, or list of one regressor per class
    weighted : bool
        False if weights were given and the estimator takes none.
    """
    if not classify:
        return fit_estimator(estimator, X, y - margin[:, 0], weight)
    if refuses_weights(estimator):
        weight = None
    if is_regressor(_last(estimator)):
        # y_k - p_k is the negative gradient of the log-loss in the margin: the direction that lowers the loss fastest.
        gradient = np.eye(margin.shape[1])[y] - softmax(margin, axis=1)
        fits = [fit_estimator(estimator, X, column, weight) for column in gradient.T[-_n_outputs(margin) :]]
        return [fitted for fitted, _ in fits], all(weighted for _, weighted in fits)
    if isinstance(estimator, Pipeline):
        steps = []
        for name, step in estimator.steps[:-1]:
            if step is not None and step != "passthrough":
                step, X = _fit_transform(step, X, y, weight)
            steps.append((name, step))
        last, weighted = fit_stage(estimator.steps[-1][1], X, y, weight, margin, classify)
        return Pipeline([*steps, (estimator.steps[-1][0], last)]), weighted
    if _is_logistic(estimator):
        return _fit_logistic(estimator, X, y, weight, margin), True
    # XGBoost has one output for two classes: the log-odds of the second class.
    base = margin if margin.shape[1] > 2 else margin[:, 1] - margin[:, 0]
    return fit_clone(estimator, X, y, sample_weight=weight, base_margin=base), True


def _n_outputs(margin: np.ndarray) -> int:
    """Return the number of outputs: one for two classes, because the other is its negative."""
    return 1 if margin.shape[1] == 2 else margin.shape[1]


def _fit_transform(step: Any, X: Any, y: np.ndarray, weight: np.ndarray | None) -> tuple[Any, Any]:
    if weight is not None:
        fitted, weighted = fit_estimator(step, X, y, weight)
        if weighted:
            return fitted, fitted.transform(X)
    fitted = clone(step)
    return fitted, fitted.fit_transform(X, y)


def _fit_logistic(head: Any, X: Any, y: np.ndarray, weight: np.ndarray | None, margin: np.ndarray) -> Any:
    """Fit a logistic regression on top of a margin. scikit-learn's own has no offset for this.

    It minimises scikit-learn's objective, sum of weighted losses + ||W||^2 / (2 C), with the margin added to XW + b.
    Its decision values are the step.
    """
    X = X if hasattr(X, "tocsr") else np.asarray(X, dtype=np.float64)
    n_classes, n_outputs, width = margin.shape[1], _n_outputs(margin), X.shape[1]
    weight = np.ones(len(y)) if weight is None else weight
    weight = (
        weight * compute_class_weight(head.class_weight, classes=np.arange(n_classes), y=y, sample_weight=weight)[y]
    )
    # Loss and penalty are both divided by the total weight, so that `tol` means the same for any number of rows.
    total = weight.sum()
    weight = weight / total
    strength = 0.0 if getattr(head, "penalty", "l2") is None else 1 / (head.C * total)
    truth = np.eye(n_classes)[y]

    def loss(flat):
        W, b = _split(flat, n_outputs, width)
        log_p = log_softmax(margin + _two_sided(X @ W.T + b), axis=1)
        gradient = (weight[:, None] * (np.exp(log_p) - truth))[:, -n_outputs:]
        by_b = gradient.sum(axis=0) if head.fit_intercept else np.zeros(n_outputs)
        value = -weight @ (log_p * truth).sum(axis=1) + strength / 2 * (W**2).sum()
        return value, np.column_stack([(X.T @ gradient).T + strength * W, by_b]).ravel()

    options = {"maxiter": head.max_iter, "gtol": head.tol, "ftol": 64 * np.finfo(float).eps}
    found = minimize(loss, np.zeros(n_outputs * (width + 1)), jac=True, method="L-BFGS-B", options=options)
    if found.status == 1:
        warnings.warn(
            f"logistic regression on a margin did not converge in {found.nit} iterations; increase max_iter or scale "
            "the block.",
            ConvergenceWarning,
            stacklevel=2,
        )
    fitted = clone(head)
    fitted.coef_, fitted.intercept_ = _split(found.x, n_outputs, width)
    fitted.classes_, fitted.n_features_in_ = np.arange(n_classes), width
    fitted.n_iter_ = np.array([found.nit], dtype=np.int32)
    return fitted


def _split(flat: np.ndarray, n_outputs: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    table = flat.reshape(n_outputs, width + 1)
    return table[:, :width].copy(), table[:, width].copy()


def _two_sided(values: np.ndarray) -> np.ndarray:
    """Turn one column (the log-odds of the second of two classes) into one column per class. Keep several columns.

    Half of the log-odds with each sign gives the same probabilities, and treats both classes alike.
    """
    return np.hstack([-values / 2, values / 2]) if values.shape[1] == 1 else values


def stage_step(fitted: Any, X: Any, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """Compute the step of a fitted stage: its contribution to the margin.

    Parameters
    ----------
    fitted : estimator, or list of one regressor per class
    X : array, Series or DataFrame of n_samples rows
    classes : ndarray
        Codes of the classes that it was fitted on.
    n_classes : int
        0 in regression.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), or (n_samples, 1) in regression
        A class that it was not fitted on gets the mean of the other classes, 0.
    """
    if not n_classes:
        return np.asarray(fitted.predict(X), dtype=float).reshape(-1, 1)
    local = _two_sided(_contribution(fitted, X, len(classes)))
    # A constant per row changes no probability. Centring makes the 0 of an unknown class the mean of the others.
    step = np.zeros((len(local), n_classes))
    step[:, classes] = local - local.mean(axis=1, keepdims=True)
    return step


def _contribution(fitted: Any, X: Any, n_known: int) -> np.ndarray:
    """Compute the step of a fitted stage in classification, of shape (n_samples, n_outputs)."""
    if isinstance(fitted, list):
        columns = np.column_stack([np.asarray(regressor.predict(X), dtype=float) for regressor in fitted])
        # With two classes, the gradients are g and -g, so the log-odds change by 2 g.
        return 2 * columns if len(fitted) == 1 else columns
    if isinstance(fitted, Pipeline):
        for _, step in fitted.steps[:-1]:
            X = X if step is None or step == "passthrough" else step.transform(X)
        return _contribution(fitted.steps[-1][1], X, n_known)
    if _is_logistic(fitted):
        values = fitted.decision_function(X)
    else:
        # Trees add the same step to any margin, so a margin of 0 gives the step alone.
        zero = np.zeros((X.shape[0], n_known)) if n_known > 2 else np.zeros(X.shape[0])
        values = fitted.predict(X, output_margin=True, base_margin=zero)
    return np.asarray(values, dtype=float).reshape(X.shape[0], -1)


def step_size(margin: np.ndarray, step: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Return the factor of `step` that gives the smallest log-loss (Friedman 2001, algorithm 1, line 5).

    The targets are smoothed as in Platt's scaling, by 1 / (sum of weights + 2). So the factor stays finite if no row is
    wrong.
    """
    n_classes = margin.shape[1]
    # As in `smooth_temperature`, a row of weight 2 counts as two rows.
    smoothing = 1 / (max(float(weight.sum()), int((weight > 0).sum())) + 2)
    target = np.eye(n_classes)[y] * (1 - smoothing) + smoothing / n_classes

    def loss(size):
        return -weight @ (log_softmax(margin + size * step, axis=1) * target).sum(axis=1)

    return float(minimize_scalar(loss, bounds=(0, _LARGEST_STEP), method="bounded").x)


def step_size_of_numbers(margin: np.ndarray, step: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Return the factor of `step`, of at least 0, that gives the smallest squared error; 1 for a step of 0."""
    step, rest = step.ravel(), y - margin.ravel()
    size = weight @ step**2
    return float(max(0.0, weight @ (step * rest) / size)) if size > 0 else 1.0


def log_loss_of(margin: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Return the mean log-loss of margins, in nats."""
    return float(-np.average(log_softmax(margin, axis=1)[np.arange(len(y)), y], weights=weight))
