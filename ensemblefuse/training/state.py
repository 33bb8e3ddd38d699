"""A network as a dict of arrays and back; the live network stands beside its estimator and in no pickle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

__all__ = ["arrays_of", "fill", "live_network"]

# Estimator -> (its state, the network that holds it). A new fit has a new state, which is how the old one is found out.
_live: WeakKeyDictionary[Any, tuple[Mapping[str, np.ndarray], nn.Module]] = WeakKeyDictionary()


def arrays_of(network: nn.Module) -> dict[str, np.ndarray]:
    """Return the parameters and buffers of a network as arrays of single precision, by their names."""
    return {
        name: value.detach().to("cpu", torch.float32).numpy().copy() for name, value in network.state_dict().items()
    }


def fill(network: nn.Module, state: Mapping[str, np.ndarray]) -> nn.Module:
    """Set the parameters and buffers of a network, and return it.

    Raises
    ------
    RuntimeError
        If names or shapes are others than those of the network.
    """
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
    return network


def live_network(owner: Any, state: Mapping[str, np.ndarray], build: Callable[[], nn.Module]) -> nn.Module:
    """Return the network of an estimator, ready to predict on the CPU in double precision.

    In single precision, the last digits of a row would depend on the rows that it is predicted with.

    Parameters
    ----------
    owner : estimator
    state : dict of str to ndarray
    build : callable
        Returns the network without its state. It is called if there is none for this state yet.
    """
    held = _live.get(owner)
    if held is not None and held[0] is state:
        return held[1]
    network = fill(build(), state).double().eval().requires_grad_(False)
    _live[owner] = (state, network)
    return network
