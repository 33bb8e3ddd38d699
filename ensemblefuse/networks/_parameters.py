"""The parameters that networks of all modalities share: which values they take."""

from __future__ import annotations

from typing import Any

import numpy as np

from ensemblefuse.training.settings import check_training, require_one_of, require_whole

__all__ = ["check_parameters", "stages_to_train"]

_AUGMENT = ("none", "light", "strong")


def check_parameters(network: Any) -> None:
    """Raise an error for a parameter that is wrong, whatever the modality."""
    check_training(network, auto_rate=hasattr(network, "auto_rate"))
    require_one_of(network, "head", ("refit", "own"))
    require_one_of(network, "on_error", ("raise", "missing"))
    require_whole(network, "n_views")
    require_whole(network, "lora", least=0)
    if not callable(network.augment):
        require_one_of(network, "augment", _AUGMENT)
    train = network.train
    is_count = isinstance(train, (int, np.integer)) and not isinstance(train, bool) and train >= 1
    if not is_count and train not in ("head", "last", "all"):
        raise ValueError(
            f'train must be "head", "last", "all" or a number of stages of at least 1; got {network.train!r}.'
        )
    if network.backbone is None and network.lora:
        raise ValueError("lora needs a pretrained network, and backbone is None; pass lora=0, or a backbone.")


def stages_to_train(network: Any, n_stages: int) -> int:
    """Return how many of the last stages of its backbone a network trains.

    Raises
    ------
    ValueError
        If the backbone cannot be cut as `train` asks.
    """
    if network.train == "head":
        return 0
    if network.train == "all":
        return n_stages
    wanted = 1 if network.train == "last" else int(network.train)
    if n_stages == 1:
        raise ValueError(
            f"{type(network).__name__}: train={network.train!r} asks for a part of the backbone, and its code cannot "
            'be cut into stages; pass train="head" or train="all".'
        )
    if wanted > n_stages:
        raise ValueError(
            f"{type(network).__name__}: train={network.train!r} asks for {wanted} stages, and the backbone has "
            f'{n_stages}; pass a lower number, or train="all".'
        )
    return wanted
