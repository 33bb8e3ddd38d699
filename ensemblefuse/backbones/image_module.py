"""Image networks made by the user: frozen copies of them, and digests of their content."""

from __future__ import annotations

import copy
import enum
import hashlib
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ensemblefuse._public_names import public_path
from ensemblefuse._torch import settle_after_fork
from ensemblefuse.backbones.image_network import ImageNetwork, Preparation, probed_n_dims
from ensemblefuse.backbones.image_torchvision import NamedModel
from ensemblefuse.backbones.weights import WeightsSource
from ensemblefuse.cache.code_digests import value_token

if TYPE_CHECKING:
    import torch

__all__ = ["ModuleModel", "frozen_copy", "object_token"]

# For each of the user's networks: a stamp of its tensors, the device, and what was made from a copy in `eval()` mode.
_copies: weakref.WeakKeyDictionary[Any, tuple[tuple, str, Any]] = weakref.WeakKeyDictionary()
_lock = threading.RLock()


def _renew_lock() -> None:
    """Make a new lock in the child of a fork: one held by another thread of the parent would never be released."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@dataclass(frozen=True, eq=False)
class ModuleModel:
    """A network that the user made; implements `ImageModel`. It is copied, and the original is not changed."""

    module: Any

    def token(self) -> dict[str, Any] | None:
        """Return a digest of tensors, classes, their code and attributes; None if one of these cannot be hashed."""
        token = object_token(self.module)
        return None if token is None else {"model": "module", "weights": token, "preprocessing": "ImageNet 256 to 224"}

    def preparation(self) -> Preparation:
        """Return ImageNet's usual preparation: short side to 256, central 224 x 224, mean and standard deviation."""
        return NamedModel("resnet50", "IMAGENET1K_V1").preparation()

    def sources(self, encoder: str) -> list[WeightsSource]:
        """Return no source: the user's network is a part of the model."""
        return []

    def network(self, device: str, preparation: Preparation | None = None, *, fresh: bool = False) -> ImageNetwork:
        """Return a copy of the user's network in its present state. With `fresh`, no earlier copy is used."""

        def make(network: torch.nn.Module) -> ImageNetwork:
            own = preparation or self.preparation()
            n_dims = probed_n_dims(network, own, device)
            _check_rows(network, own, device)
            return ImageNetwork(network, n_dims, is_own=True)

        return frozen_copy(self.module, device, make, fresh=fresh)


def _check_rows(network: torch.nn.Module, preparation: Preparation, device: str) -> None:
    """Raise ValueError if the vector of a picture depends on the other pictures of its batch."""
    import numpy as np
    import torch
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, size=(2, 64, 64, 3), dtype=np.uint8)
    both = torch.stack([preparation.transform(Image.fromarray(picture)) for picture in noise]).to(device)
    with torch.inference_mode(), torch.autocast(both.device.type, enabled=False):
        alone, beside = network(both[:1])[0], network(both)[0]
    if not torch.allclose(alone, beside, rtol=1e-3, atol=1e-3 * float(alone.abs().max())):
        raise ValueError(
            "ImageEncoder: in this network the vector of a picture depends on the other pictures of its batch, or on "
            "chance. Batch normalisation must use its training statistics, and dropout must be a module that eval() "
            "switches off."
        )


def frozen_copy(module: Any, device: str, make: Callable[[torch.nn.Module], Any], *, fresh: bool = False) -> Any:
    """Return the result of `make` for a frozen copy of the user's network, made once per device and state of tensors.

    Parameters
    ----------
    module : torch.nn.Module
    device : str
    make : callable
        Takes the copy, which is in `eval()` mode, without gradients and on the device. All calls with the same module
        must pass an equivalent function.
    fresh : bool, default=False
        Do not use an earlier copy.
    """
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError("a scripted module cannot be copied and frozen; pass the torch.nn.Module it was made from.")
    settle_after_fork()
    stamp = _stamp(module)
    with _lock:
        known = _copies.get(module)
        if not fresh and known is not None and known[:2] == (stamp, device):
            return known[2]
        made = make(copy.deepcopy(module).eval().requires_grad_(False).to(device))
        _copies[module] = (stamp, device, made)
        return made


def _stamp(module: Any) -> tuple:
    """Return a stamp that changes with each in-place change or replacement of a tensor, and in the child of a fork."""
    tensors = [*module.parameters(), *module.buffers()]
    return os.getpid(), *((id(tensor), tensor._version, tensor.data_ptr()) for tensor in tensors)


def object_token(value: Any) -> str | None:
    """Return a digest of an object's class, of its code if outside installed packages, and of all attributes.

    Parameters
    ----------
    value : object
        A `torch.nn.Module`, a transform of torchvision, or any object with plain attributes.

    Returns
    -------
    str or None
        None if a part of it cannot be hashed.
    """
    settle_after_fork()
    hasher = hashlib.sha256()
    return hasher.hexdigest() if _feed(hasher, value, {}) else None


def _feed(hasher: Any, value: Any, seen: dict[int, tuple[int, Any]]) -> bool:
    """Add a value to the hash; return False if it cannot be hashed."""
    import torch

    if isinstance(value, torch.Tensor):
        return _feed_tensor(hasher, value)
    if isinstance(value, (enum.Enum, torch.Size, torch.dtype, torch.device, torch.memory_format)):
        hasher.update(f"{type(value).__name__} {value}".encode())
        return True
    if type(value).__module__ == "torch_geometric.inspector":
        return _feed(hasher, value._cls, seen)  # it only holds what it reads from this class
    if id(value) in seen:
        hasher.update(f"seen {seen[id(value)][0]}".encode())
        return True
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        seen[id(value)] = len(seen), value  # keeps it alive, so that no other object gets its id
        parts: list[Any] = [part for item in value.items() for part in item] if isinstance(value, Mapping) else []
        if not parts:
            parts = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else list(value)
        hasher.update(f"{type(value).__name__} of {len(value)}".encode())
        return all(_feed(hasher, part, seen) for part in parts)
    token = value_token(value)
    if token is not None:
        hasher.update(f"value {token}".encode())
        return True
    return _feed_object(hasher, value, seen)


def _feed_object(hasher: Any, value: Any, seen: dict[int, tuple[int, Any]]) -> bool:
    import torch

    cls = type(value)
    code = value_token(cls)
    if code is None or not hasattr(value, "__dict__") or _keeps_more_than_attributes(cls):
        return False
    seen[id(value)] = len(seen), value
    hasher.update(f"object {public_path(cls)} {code}".encode())
    attributes = dict(vars(value))
    if isinstance(value, torch.nn.Module):
        # Attributes that every module has, such as hooks, count only if not empty: the rest is torch's bookkeeping.
        blank = vars(torch.nn.Module())
        attributes = {k: v for k, v in attributes.items() if k != "training" and (k not in blank or v)}
    return _feed(hasher, dict(sorted(attributes.items())), seen)


def _keeps_more_than_attributes(cls: type) -> bool:
    """Return whether an object may hold data outside its attributes: in slots, or in a part that is written in C."""
    if any("__slots__" in vars(base) and vars(base)["__slots__"] for base in cls.__mro__):
        return True
    return not all(base is object or base.__flags__ & (1 << 9) for base in cls.__mro__)  # 1 << 9: made by `class`


def _feed_tensor(hasher: Any, tensor: torch.Tensor) -> bool:
    import torch

    if tensor.layout != torch.strided or tensor.device.type == "meta" or tensor.is_quantized:
        return False
    values = tensor.detach().cpu().contiguous()
    hasher.update(f"tensor {values.dtype} {tuple(values.shape)}".encode())
    hasher.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return True
