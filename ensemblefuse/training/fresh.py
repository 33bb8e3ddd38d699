"""New networks with weights of their own seed. The generators of the process stay as they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

__all__ = ["fresh_network"]

Network = TypeVar("Network", bound=nn.Module)


def fresh_network(make: Callable[[], Network], seed: int) -> Network:
    """Build a network, and draw its weights: normal, with a variance of 2 / (number of inputs) (He et al., ICCV 2015).

    What has one number for each unit starts at 1 in a normalisation, and at 0 otherwise. While they are built,
    the layers of torch draw from the generator of the process, which other threads may use. On the device ``"meta"``
    they do not.

    Parameters
    ----------
    make : callable
        Returns the network.
    seed : int

    Examples
    --------
    >>> from torch import nn
    >>> from ensemblefuse.training.fresh import fresh_network
    >>> net = fresh_network(lambda: nn.Linear(3, 2), seed=0)
    >>> bool((net.weight == fresh_network(lambda: nn.Linear(3, 2), seed=0).weight).all()), net.bias.tolist()
    (True, [0.0, 0.0])
    """
    with torch.device("meta"):
        network = make()
    network = network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, math.sqrt(2 / parameter[0].numel()), generator=generator)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.reset_running_stats()
    return network
