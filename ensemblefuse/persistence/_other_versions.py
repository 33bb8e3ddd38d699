"""Models of other versions of scikit-learn: names, parameters and state that changed between 1.7 and 1.9."""

from __future__ import annotations

import inspect
from typing import Any

from sklearn._loss import _loss
from sklearn.base import BaseEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeClassifier, RidgeClassifierCV
from sklearn.svm import SVC, NuSVC

from ensemblefuse.exceptions import PersistenceError
from ensemblefuse.fitted.walk import parts_of

__all__ = ["adapt", "installed_path", "loss_types"]

# The module of compiled losses calls itself `_loss` before scikit-learn 1.9.
_LOSSES = ("_loss", "sklearn._loss._loss")


def loss_types() -> set[str]:
    """Return the names of scikit-learn's compiled losses, as the installed version has them."""
    return {f"{value.__module__}.{name}" for name, value in vars(_loss).items() if _is_loss(value)}


def _is_loss(value: Any) -> bool:
    return isinstance(value, type) and value.__name__.startswith("Cy")


def installed_path(path: str) -> str:
    """Return the name that a compiled loss has in the installed scikit-learn; any other name unchanged."""
    module, _, name = path.rpartition(".")
    value = getattr(_loss, name, None) if module in _LOSSES else None
    return f"{value.__module__}.{name}" if _is_loss(value) else path


def adapt(model: Any) -> None:
    """Give the estimators in a model the state that the installed scikit-learn reads, where another one wrote them.

    Parameters that the writer did not know get their default value.

    Raises
    ------
    PersistenceError
        If an estimator predicts by a rule that the installed version has no longer.
    """
    for where, part in parts_of(model):
        if not isinstance(part, BaseEstimator) or not type(part).__module__.startswith("sklearn."):
            continue
        for name, parameter in inspect.signature(type(part).__init__).parameters.items():
            if parameter.default is not inspect.Parameter.empty and name not in vars(part):
                setattr(part, name, parameter.default)
        if isinstance(part, SimpleImputer) and hasattr(part, "statistics_"):
            _adapt_imputer(part)
        elif isinstance(part, (LogisticRegression, LogisticRegressionCV)) and hasattr(part, "classes_"):
            _check_logistic(part, where)
        elif isinstance(part, (SVC, NuSVC)):
            _adapt_machine(part)
        elif isinstance(part, (RidgeClassifier, RidgeClassifierCV)):
            _adapt_ridge(part)


def _adapt_imputer(imputer: Any) -> None:
    """Since 1.8 the type of the filling values is an attribute of its own; before, it is that of ``statistics_``."""
    written = getattr(imputer, "_fill_dtype", None)
    if written is None:
        imputer._fill_dtype = imputer._fit_dtype
    elif imputer.strategy == "constant":
        imputer.statistics_ = imputer.statistics_.astype(written)


def _check_logistic(estimator: Any, where: str) -> None:
    """Raise if an estimator was fitted by a rule that scikit-learn 1.8 has dropped, with the parameter of it."""
    if "multi_class" in inspect.signature(type(estimator).__init__).parameters:
        return
    rule = getattr(estimator, "multi_class", "auto")
    if len(estimator.classes_) < 3:
        dropped = rule == "multinomial"
    else:
        dropped = rule == "ovr" or (rule in ("auto", "deprecated") and estimator.solver == "liblinear")
    if dropped:
        raise PersistenceError(
            f"{where} was fitted with multi_class={rule!r} and solver={estimator.solver!r}, by which the installed "
            "scikit-learn cannot predict; where it was fitted, fit it again without multi_class, or as "
            "OneVsRestClassifier(LogisticRegression(...))"
        )


def _adapt_machine(machine: Any) -> None:
    """Since 1.9 ``probability`` may be "deprecated", which stands for False, and fit keeps what it took it for."""
    if machine.probability == "deprecated" and _default(machine, "probability") != "deprecated":
        machine.probability = False
    if not hasattr(machine, "_effective_probability"):
        machine._effective_probability = machine.probability is True


def _adapt_ridge(classifier: Any) -> None:
    """Before 1.8 ``classes_`` is a property."""
    if hasattr(classifier, "_label_binarizer") and not hasattr(classifier, "classes_"):
        classifier.classes_ = classifier._label_binarizer.classes_


def _default(estimator: Any, name: str) -> Any:
    return inspect.signature(type(estimator).__init__).parameters[name].default
