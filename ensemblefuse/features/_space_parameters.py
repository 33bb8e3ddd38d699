"""Parameters of `CommonSpaceProjector`, checked before anything is fitted."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from ensemblefuse.features._linear_space import LINEAR

__all__ = ["ALIGNMENTS", "NETWORKS", "check_parameters"]

NETWORKS = ("contrastive", "siamese", "triplet", "deep_cca")
ALIGNMENTS = ("mmd", "adversarial")


def check_parameters(projector: Any) -> None:
    """Raise ValueError for a parameter that no method can use."""
    methods = (*LINEAR, *NETWORKS)
    if projector.method not in methods:
        raise ValueError(f"method must be one of {methods}; got {projector.method!r}.")
    if projector.combine not in ("sum", "concat"):
        raise ValueError(f'combine must be "sum" or "concat"; got {projector.combine!r}.')
    if projector.combine == "concat" and projector.weights is not None:
        raise ValueError('weights are for combine="sum" only; with "concat", give them to a BlockScaler after it.')
    if projector.n_components is not None:
        _check_whole(projector, "n_components", 1, " or None")
    if projector.hidden != "auto":
        _check_whole(projector, "hidden", 0, ' or "auto"')
    _check_whole(projector, "n_members", 1)
    _check_whole(projector, "max_epochs", 1)
    _check_number(projector, "reg")
    _check_number(projector, "noise")
    _check_number(projector, "learning_rate", zero=False)
    if projector.alignment is None:
        return
    if projector.alignment not in ALIGNMENTS:
        raise ValueError(f"alignment must be None or one of {ALIGNMENTS}; got {projector.alignment!r}.")
    if projector.method in LINEAR:
        raise ValueError(
            f"alignment={projector.alignment!r} is for the methods {NETWORKS}; got method={projector.method!r}."
        )


def _check_whole(projector: Any, name: str, least: int, also: str = "") -> None:
    value = getattr(projector, name)
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number from {least}{also}; got {value!r}.")


def _check_number(projector: Any, name: str, *, zero: bool = True) -> None:
    value = getattr(projector, name)
    is_number = isinstance(value, (int, float, np.number)) and np.isfinite(value)
    if not is_number or value < 0 or not (zero or value > 0):
        raise ValueError(f"{name} must be a number {'from' if zero else 'above'} 0; got {value!r}.")
