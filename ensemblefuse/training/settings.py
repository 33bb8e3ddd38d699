"""Parameters of estimators that train networks: which values they take. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from ensemblefuse.training._rates import SCHEDULES

__all__ = ["check_state", "check_training", "require_number", "require_one_of", "require_whole"]


def check_training(estimator: Any, *, auto_rate: bool = False) -> None:
    """Raise an error for a parameter of the training that is wrong, whatever the networks are.

    With `auto_rate`, the learning rate may be ``"auto"``.

    Raises
    ------
    ValueError
        It names the parameter, and says what it takes.
    """
    require_one_of(estimator, "schedule", SCHEDULES)
    if not (isinstance(estimator.early_stopping, (bool, np.bool_)) or estimator.early_stopping == "auto"):
        raise ValueError(f'early_stopping must be "auto", True or False; got {estimator.early_stopping!r}.')
    for name in ("n_members", "max_epochs", "batch_size"):
        require_whole(estimator, name)
    require_number(estimator, "weight_decay", least=0)
    if not (auto_rate and isinstance(estimator.learning_rate, str) and estimator.learning_rate == "auto"):
        require_number(estimator, "learning_rate", above=0)
    if estimator.time_limit is not None:
        require_number(estimator, "time_limit", above=0)


def check_state(estimator: Any, state: Mapping[str, np.ndarray], usual_rate: float = 0.001) -> None:
    """Raise an error if trained weights are no finite numbers."""
    if not all(np.isfinite(values).all() for values in state.values()):
        raise ValueError(
            f"{type(estimator).__name__}: the weights are no finite numbers after training with "
            f"learning_rate={estimator.learning_rate!r}; pass a lower one, such as {usual_rate}."
        )


def require_whole(estimator: Any, name: str, least: int = 1) -> None:
    """Raise an error if a parameter is no whole number, or below the least."""
    value = getattr(estimator, name)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}.")


def require_one_of(estimator: Any, name: str, allowed: tuple[str, ...]) -> None:
    """Raise an error if a parameter is none of some texts."""
    value = getattr(estimator, name)
    if not (isinstance(value, str) and value in allowed):
        raise ValueError(f"{name} must be one of {allowed}; got {value!r}.")


def require_number(
    estimator: Any, name: str, *, least: float | None = None, above: float | None = None, below: float | None = None
) -> None:
    """Raise an error if a parameter is no finite number, or outside its bounds. One that is absent counts as 0."""
    value = getattr(estimator, name, 0.0)
    is_number = isinstance(value, Real) and not isinstance(value, (bool, np.bool_)) and np.isfinite(float(value))
    if (
        not is_number
        or (least is not None and value < least)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    ):
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (("at least", least), ("above", above), ("below", below))
            if bound is not None
        ]
        raise ValueError(f"{name} must be a number {' and '.join(bounds)}; got {value!r}.")
