"""Low-rank adapters of linear layers (Hu et al., ICLR 2022): few numbers are trained beside frozen weights."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn.utils import parametrize

__all__ = ["LowRank", "add_low_rank", "merge_low_rank"]

# Maps of queries, keys and values, as networks of transformers name them.
_ASKED = ("query", "key", "value", "q_proj", "k_proj", "v_proj", "q_lin", "k_lin", "v_lin", "q", "k", "v")


class LowRank(nn.Module):
    """A weight plus ``2 B A``: B starts at 0, so that nothing changes before training. 2 is alpha / rank.

    Parameters
    ----------
    shape : (n_out, n_in)
    rank : int
    generator : torch.Generator
        Of A at the start.
    """

    def __init__(self, shape: tuple[int, int], rank: int, generator: torch.Generator):
        super().__init__()
        n_out, n_in = shape
        self.a = nn.Parameter(torch.randn(rank, n_in, generator=generator) * n_in**-0.5)
        self.b = nn.Parameter(torch.zeros(n_out, rank))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + 2 * (self.b @ self.a)


def add_low_rank(network: nn.Module, rank: int, seed: int) -> int:
    """Freeze a network, and give its linear layers adapters that are trained. Return the number of adapters.

    In a network that has maps of queries, keys and values as layers of their own, only these get adapters. The maps
    of queries, keys and values inside `torch.nn.MultiheadAttention` count as one linear layer.

    Parameters
    ----------
    network : module
    rank : int
        It is not larger than the smaller side of a layer.
    seed : int
    """
    network.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    named = [(place.rpartition(".")[2], module) for place, module in network.named_modules()]
    asked = [module for place, module in named if place in _ASKED and isinstance(module, nn.Linear)]
    candidates = asked or [module for _, module in named]
    found = [(module, name) for module in candidates if (name := _matrix_of(module)) is not None]
    for module, name in found:
        shape = cast(tuple[int, int], tuple(getattr(module, name).shape))
        adapter = LowRank(shape, min(rank, *shape), generator)
        # torch runs a trial in which `forward` may not change the dtype: unsafe=True would skip it.
        parametrize.register_parametrization(module, name, adapter)
        module.parametrizations[name].original.requires_grad_(False)  # type: ignore[index, union-attr]
    return len(found)


def _matrix_of(module: nn.Module) -> str | None:
    if isinstance(module, nn.Linear):
        return "weight"
    has_one = isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None
    return "in_proj_weight" if has_one else None


def merge_low_rank(network: nn.Module) -> nn.Module:
    """Add each adapter to the weights of its layer, so that predicting costs no more; return the network."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type, union-attr]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return network
