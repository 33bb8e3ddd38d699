"""A network as a dict of arrays and back; the live network stands beside its estimator and in no pickle."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

__all__ = ["arrays_of", "fill", "live_network"]

# Estimator -> (its state, the network that holds it). A new fit has a new state, which is how the old one is found out.
_live: WeakKeyDictionary[Any, tuple[Mapping[str, np.ndarray], nn.Module]] = WeakKeyDictionary()


def arrays_of(network: nn.Module, names: Container[str] | None = None) -> dict[str, np.ndarray]:
    """Return the parameters and buffers of a network as arrays of single precision, by their names; or some of them."""
    return {
        name: value.detach().to("cpu", torch.float32).numpy().copy()
        for name, value in network.state_dict().items()
        if names is None or name in names
    }


def fill(network: nn.Module, state: Mapping[str, np.ndarray], *, partly: bool = False) -> nn.Module:
    """Set the parameters and buffers of a network, and return it. With `partly`, the state may lack some of them.

    Raises
    ------
    RuntimeError
        If names or shapes are others than those of the network.
    """
    found = {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
    unknown = network.load_state_dict(found, strict=not partly).unexpected_keys
    if unknown:
        raise RuntimeError(f"the network has no {unknown[0]!r}")
    return network


def live_network(
    owner: Any,
    state: Mapping[str, np.ndarray],
    build: Callable[[], nn.Module],
    put: Callable[[nn.Module, Mapping[str, np.ndarray]], nn.Module] | None = None,
) -> nn.Module:
    """Return the network of an estimator, ready to predict on the CPU in double precision.

    In single precision, the last digits of a row would depend on the rows that it is predicted with.

    Parameters
    ----------
    owner : estimator
    state : dict of str to ndarray
    build : callable
        Returns the network without its state. It is called if there is none for this state yet.
    put : callable, optional
        Puts the state into the network, and returns the network to predict with. By default `fill`, and double
        precision.
    """
    held = _live.get(owner)
    if held is not None and held[0] is state:
        return held[1]
    network = (_in_double if put is None else put)(build(), state).eval().requires_grad_(False)
    _live[owner] = (state, network)
    return network


def _in_double(network: nn.Module, state: Mapping[str, np.ndarray]) -> nn.Module:
    return fill(network, state).double()
