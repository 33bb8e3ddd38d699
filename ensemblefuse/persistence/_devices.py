"""Devices of models that were fitted on another machine."""

from __future__ import annotations

import warnings
from typing import Any

from ensemblefuse._torch import resolve_device
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.fitted.walk import parts_of

_ANYWHERE = ("auto", "cpu", None)


def use_devices_of_here(model: Any) -> None:
    """Set ``device="auto"`` in encoders whose device is not on this machine; embeddings do not depend on it."""
    absent = {}
    for _, part in parts_of(model):
        if not isinstance(part, BaseEncoder) or "device" not in part.neutral_params:
            continue
        named = getattr(part, "device", None)
        devices = named if isinstance(named, (list, tuple)) else [named]
        for device in devices:
            if device not in _ANYWHERE and not _is_here(device):
                absent[type(part).__name__] = named
                part.set_params(device="auto")
                break
    if absent:
        facts = ", ".join(f"{name} {device!r}" for name, device in absent.items())
        warnings.warn(
            f'This machine lacks devices that the model names ({facts}); device="auto" is used instead.',
            UserWarning,
            stacklevel=3,  # the caller of load_model
        )


def _is_here(device: Any) -> bool:
    try:
        resolve_device(device, needed_by="load_model")
    except ValueError:
        return False
    return True
