"""Shared parts of all sources of image networks: their protocol, preparation, pooling, reading of state dicts."""

from __future__ import annotations

import difflib
import importlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from ensemblefuse.backbones.forward import Forward
from ensemblefuse.backbones.quantised import Int8Forward
from ensemblefuse.backbones.weights import WeightsSource

if TYPE_CHECKING:
    import torch

__all__ = ["OUTPUTS", "WEIGHT_SUFFIXES", "ImageModel", "ImageNetwork", "Preparation"]

OUTPUTS = ("pooled", "tokens", "cls")
WEIGHT_SUFFIXES = (".pth", ".pt", ".safetensors")
# Keys of the weights in training checkpoints, which also hold the epoch and the optimiser.
_WEIGHTS_IN = ("state_dict", "model")


@dataclass(frozen=True)
class Preparation:
    """The preprocessing of a picture for a network.

    Attributes
    ----------
    transform : callable
        From an RGB picture to a float32 tensor of shape (3, height, width).
    words : str
        A description of it, part of the cache key.
    short_side : int or None
        Number of pixels that the short side of a picture should have at least; None if unknown.
    """

    transform: Callable[[Image.Image], torch.Tensor]
    words: str
    short_side: int | None


class ImageModel(Protocol):
    """Interface of a source of a network, as `ImageEncoder` uses it. The constructor reads and checks nothing."""

    def token(self) -> dict[str, Any] | None:
        """Check model and weights. Return the token for the cache key; None if a part cannot be hashed.

        The token is a dict with ``model``, ``weights`` and ``preprocessing``.
        """

    def preparation(self) -> Preparation:
        """Return the preprocessing, from an RGB picture to a float32 tensor of shape (3, height, width)."""

    def network(self, device: str) -> ImageNetwork:
        """Return the network of this process on a device, from (n, 3, height, width) to (n, n_dims)."""

    def sources(self, encoder: str) -> list[WeightsSource]:
        """Return the files of the weights; `encoder` is the name of the encoder's class."""


class ImageNetwork:
    """A network in `eval()` mode from (n, 3, height, width) to (n, n_dims), and its forward passes.

    Parameters
    ----------
    module : torch.nn.Module
    n_dims : int
    is_own : bool, default=False
        Whether the user made the network. It then stays in torch unless a backend is named: a translation records the
        path of one batch through the code, and another batch may take another path.
    """

    def __init__(self, module: torch.nn.Module, n_dims: int, *, is_own: bool = False):
        self.module = module
        self.n_dims = n_dims
        self._default = "torch" if is_own else "auto"
        self._forwards: dict[tuple, Forward | Int8Forward] = {}
        self._lock = threading.Lock()

    def forward(
        self, devices: tuple[str, ...], backend: str, precision: str, token: str | None = None
    ) -> Forward | Int8Forward:
        """Return the forward pass with these settings. It is made once: a translation for a backend takes seconds.

        `token` identifies the network across processes. With 8-bit weights, a file is kept under it.
        """
        backend = self._default if backend == "auto" else backend
        with self._lock:
            key = devices, backend, precision
            if key not in self._forwards and precision == "int8":
                self._forwards[key] = Int8Forward(self.module, token, needed_by="ImageEncoder")
            elif key not in self._forwards:
                self._forwards[key] = Forward(self.module, list(devices), backend=backend, precision=precision)
            return self._forwards[key]


def centre_bounded(transform: Callable[[Image.Image], torch.Tensor]) -> Callable[[Image.Image], torch.Tensor]:
    """Wrap a transform that resizes the short side and crops the centre: first remove what is far outside the crop.

    Otherwise the transform would resize a picture of 10000 x 1 pixels to 2560000 x 256.
    """

    def bounded(image: Image.Image) -> torch.Tensor:
        width, height = image.size
        reach = 4 * min(width, height)  # the crop needs 1 x the short side, the resampling filter a few pixels more
        if max(width, height) > 2 * reach:
            left, top = max(0, (width - reach) // 2), max(0, (height - reach) // 2)
            image = image.crop((left, top, left + min(width, reach), top + min(height, reach)))
        return transform(image)

    return bounded


def as_module(body: torch.nn.Module, forward: Callable[[Any, torch.Tensor], torch.Tensor]) -> torch.nn.Module:
    """Return a network that maps its input by `forward(body, pixels)`."""
    import torch

    class Embedder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return forward(self.body, pixels)

    return Embedder().eval()


def map_mean(features: torch.Tensor, *, channels_last: bool = False) -> torch.Tensor:
    """Return the mean over the positions of a feature map of shape (n, channels, h, w), or (n, h, w, channels)."""
    return features.mean(dim=(1, 2) if channels_last else (2, 3))


def probed_n_dims(network: torch.nn.Module, preparation: Preparation, device: str) -> int:
    """Compute the length of an embedding with a black picture.

    Raises
    ------
    ValueError
        If the network does not return a tensor of shape (1, n_dims).
    """
    import torch

    item = preparation.transform(Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8)))
    with torch.inference_mode():
        vectors = network(item[None].to(device))
    if not isinstance(vectors, torch.Tensor) or vectors.ndim != 2 or len(vectors) != 1:
        shown = f"shape {tuple(vectors.shape)}" if isinstance(vectors, torch.Tensor) else type(vectors).__name__
        raise ValueError(
            f"ImageEncoder: a network must map (1, 3, height, width) to a tensor of shape (1, n_dims); got {shown}."
        )
    return int(vectors.shape[1])


def no_class_token(model: str) -> ValueError:
    """Return the error for `output="cls"` of a network without a class token."""
    return ValueError(f"ImageEncoder: {model!r} has no class token; pass output='pooled' or output='tokens'.")


def did_you_mean(name: str, names: list[str]) -> str:
    """Return a hint with the most similar name, or an empty text."""
    close = difflib.get_close_matches(name, names, n=1) or difflib.get_close_matches(name.upper(), names, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read the state dict in a file, or under ``"state_dict"`` or ``"model"`` of a checkpoint. No code in it is run.

    Raises
    ------
    ValueError
        If the file is damaged or does not hold a state dict.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            state = importlib.import_module("safetensors.torch").load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(
            f"The file of weights {path.name} cannot be read: it is damaged or not a state dict."
        ) from error
    if isinstance(state, Mapping):
        state = next((state[key] for key in _WEIGHTS_IN if isinstance(state.get(key), Mapping)), state)
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        shown = f"the keys {list(state)[:3]}" if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(
            f"The file of weights {path.name} must hold a state dict, from parameter name to tensor; it holds {shown}."
        )
    return dict(state) if not hasattr(state, "_metadata") else state  # type: ignore[return-value]
