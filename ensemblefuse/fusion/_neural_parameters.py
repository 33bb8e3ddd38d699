"""The parameters of neural fusions: which values they take."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

__all__ = ["FUSIONS", "SCHEDULES", "check_parameters"]

# As in `_neural_nets` and `training._rates`, which import torch or belong to another room.
FUSIONS = ("concat", "sum", "late", "gated", "lowrank", "attention", "cross_attention", "hybrid_encoder")
SCHEDULES = ("cosine", "one_cycle", "plateau", "constant")
_WITH_HEADS = ("attention", "cross_attention")


def check_parameters(fusion: Any) -> None:
    """Raise an error for a parameter of a neural fusion that is wrong; names of blocks are checked elsewhere."""
    _require_one_of(fusion, "fusion", FUSIONS)
    _require_one_of(fusion, "schedule", SCHEDULES)
    if not (isinstance(fusion.early_stopping, (bool, np.bool_)) or fusion.early_stopping == "auto"):
        raise ValueError(f'early_stopping must be "auto", True or False; got {fusion.early_stopping!r}.')
    for name in ("hidden", "n_layers", "n_heads", "rank", "n_members", "max_epochs", "batch_size"):
        value = getattr(fusion, name)
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}.")
    if fusion.fusion in _WITH_HEADS and fusion.hidden % fusion.n_heads:
        raise ValueError(
            f"hidden={fusion.hidden} cannot be divided among n_heads={fusion.n_heads}; pass a multiple, such as "
            f"hidden={fusion.n_heads * max(1, round(fusion.hidden / fusion.n_heads))}."
        )
    for name in ("dropout", "modality_dropout", "label_smoothing"):
        _require_number(fusion, name, least=0, below=1)
    for name in ("auxiliary_weight", "weight_decay", "noise", "mixup"):
        _require_number(fusion, name, least=0)
    _require_number(fusion, "learning_rate", above=0)
    if fusion.time_limit is not None:
        _require_number(fusion, "time_limit", above=0)


def _require_one_of(fusion: Any, name: str, allowed: tuple[str, ...]) -> None:
    value = getattr(fusion, name)
    if not (isinstance(value, str) and value in allowed):
        raise ValueError(f"{name} must be one of {allowed}; got {value!r}.")


def _require_number(
    fusion: Any, name: str, *, least: float | None = None, above: float | None = None, below: float | None = None
) -> None:
    value = getattr(fusion, name, 0.0)
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
