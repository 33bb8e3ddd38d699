"""The last map of a network of convolutions, with the graph of the computation from it to the vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["NoFeatureMapError", "last_map"]


class NoFeatureMapError(ValueError):
    """A network has no map of features that its vector is computed from."""


def last_map(module: torch.nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the vector of a picture, of shape (1, n_dims), and the last map, of shape (1, channels, height, width).

    Both keep their autograd graph.

    Raises
    ------
    NoFeatureMapError
        If the network does not end in a map of several places, as transformers do not.
    """
    import torch

    outputs: list[Any] = []
    keep = lambda _, __, output: outputs.append(output) if isinstance(output, torch.Tensor) else None
    handles = [part.register_forward_hook(keep) for part in module.modules() if part is not module]
    try:
        with torch.enable_grad():
            vector = module(pixels.clone().requires_grad_(True))
    finally:
        for handle in handles:
            handle.remove()
    maps = [k for k, output in enumerate(outputs) if output.ndim == 4 and output.shape[2] * output.shape[3] > 1]
    # Tokens after the last map mean a transformer: the map is its patch embedding, or has its channels last.
    has_tokens = any(output.ndim == 3 for output in outputs[maps[-1] if maps else 0 :])
    if not maps or has_tokens or outputs[maps[-1]].shape[3] == vector.shape[1] != outputs[maps[-1]].shape[1]:
        raise NoFeatureMapError("Grad-CAM needs a network that ends in a convolutional feature map")
    return vector, outputs[maps[-1]]
