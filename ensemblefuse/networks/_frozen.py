"""A fitted network from outside: as an encoder of other cells, by its features, and whole, for explanations."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["state_digest", "whole_networks"]


def state_digest(state: Mapping[str, np.ndarray]) -> str:
    """Return the sha256 of the names, shapes and numbers of arrays."""
    hasher = hashlib.sha256()
    for name in sorted(state):
        values = np.ascontiguousarray(state[name])
        hasher.update(f"{name} {values.dtype.str} {values.shape};".encode())
        hasher.update(values.data)
    return hasher.hexdigest()


def whole_networks(frozen: list[torch.nn.Module], members: torch.nn.ModuleList) -> list[torch.nn.Module]:
    """Return for each member one network from the input to the features."""
    from torch import nn

    class Whole(nn.Module):
        def __init__(self, member: nn.Module):
            super().__init__()
            self.frozen, self.body = nn.Sequential(*frozen), cast(nn.Module, member.body)
            self.dtype = next(member.parameters()).dtype

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            before = self.frozen(x) if len(self.frozen) else x
            return self.body(before.to(cast("torch.dtype", self.dtype)))

    return [Whole(member) for member in members]
