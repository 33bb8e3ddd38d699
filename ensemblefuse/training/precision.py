"""The precision of a training: half for the products of wide layers on a card, single in all other cases."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["half_pays", "mixed_precision"]

# Narrower layers cost a card the time of its calls, and not that of its arithmetic.
_WIDE = 256


def half_pays(device: str | torch.device, width: int) -> bool:
    """Return whether layers of this width are to be multiplied in bfloat16 on a device."""
    is_card = torch.device(device).type == "cuda"
    return is_card and width >= _WIDE and torch.cuda.is_bf16_supported(including_emulation=False)


def mixed_precision(device: str | torch.device, width: int) -> AbstractContextManager:
    """Return a context for the forward pass of a network: its matrix products are in bfloat16 where `half_pays`.

    Weights, losses and steps stay in single precision. bfloat16 has the range of single precision, so losses need no
    scale. Elsewhere, as on every CPU, the context changes nothing.

    Examples
    --------
    >>> import torch
    >>> from ensemblefuse.training.precision import mixed_precision
    >>> with mixed_precision("cpu", 1024):
    ...     print((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
    torch.float32
    """
    if not half_pays(device, width):
        return nullcontext()
    return torch.autocast("cuda", dtype=torch.bfloat16)
