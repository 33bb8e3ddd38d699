"""Grad-CAM of one picture, through its network and all later steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ensemblefuse.encoders import ImageEncoder
from ensemblefuse.inspection._occlude_image import ImageParts
from ensemblefuse.inspection._part_explanation import CannotExplain, PartExplanation, unit_of
from ensemblefuse.inspection._row_model import RowModel

if TYPE_CHECKING:
    import torch

__all__ = ["gradcam"]

_INSTEAD = 'use method="occlusion", which explains any encoder and any head'
_STEP = 1e-3  # of the root mean square of an embedding


def gradcam(row: RowModel, name: str, parts: ImageParts) -> PartExplanation:
    """Compute the last feature map, weighted by the gradient of the value (Selvaraju et al. 2017, equations 1 and 2).

    Returns
    -------
    PartExplanation
        ``effects`` has the shape of the feature map; ``shown`` is the part of the picture that the network sees.

    Raises
    ------
    CannotExplain
        If the encoder has no network, the network has no such map, or the value has no gradient.
    """
    import torch

    encoder = parts.encoder
    if not isinstance(encoder, ImageEncoder) or encoder.features is not None:
        raise CannotExplain(f"Grad-CAM needs an ImageEncoder with a network; {_INSTEAD}")
    if name in getattr(row.parts.core, "encoders_", {}):
        raise CannotExplain(f"{type(row.parts.core).__name__} encodes by itself, out of Grad-CAM's reach; {_INSTEAD}")
    encoder.prepare()
    module, device = encoder._network().module, encoder._devices()[0]
    seen = encoder.load(parts.cell)
    vector, feature_map = _forward(module, seen[None].to(device))
    # Chain rule: later steps give d value / d embedding as numbers (`_slope`), torch the rest down to the map.
    seed = torch.from_numpy(_slope(row, name, vector.detach().cpu().numpy()[0])).to(vector)
    (gradient,) = torch.autograd.grad((vector[0] * seed).sum(), feature_map)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    effects = torch.relu((weights * feature_map).sum(dim=1))[0].detach().cpu().numpy().astype(float)
    unit = unit_of("gradcam", row.code is not None)
    return PartExplanation("image", "gradcam", effects, _as_seen(encoder, parts, seen), unit=unit)


def _forward(module: torch.nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the embedding and the last map, of shape (1, channels, height, width), that it is computed from.

    Both keep their autograd graph.
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
        raise CannotExplain(f"Grad-CAM needs a network that ends in a convolutional feature map; {_INSTEAD}")
    return vector, outputs[maps[-1]]


def _slope(row: RowModel, name: str, vector: np.ndarray) -> np.ndarray:
    """Compute the gradient of the value with respect to the embedding, by central differences: shape (n_dims,).

    Differences are used because the later steps are not torch code. They need only a smooth head.
    """
    vector = vector.astype(float)
    step = _STEP * (float(np.sqrt(np.mean(vector**2))) or 1.0)
    moves = step * np.eye(len(vector))
    values = row.of_vectors(name, np.vstack([vector + moves, vector - moves]))
    slope = (values[: len(vector)] - values[len(vector) :]) / (2 * step)
    if not slope.any():
        raise CannotExplain(f"its heads have no gradient there (trees never have one); {_INSTEAD}")
    return slope


def _as_seen(encoder: ImageEncoder, parts: ImageParts, seen: torch.Tensor) -> np.ndarray | None:
    """Return the network's input in the colours of the picture; None if that is not possible.

    The encoder also loads an all-black and an all-white picture: they show how it rescales each pixel.
    """
    pixels = seen.numpy()
    black, white = (encoder.load(np.full_like(parts.pixels, level)).numpy() for level in (0, 255))
    if not pixels.shape == black.shape == white.shape:
        return None
    span = np.where(white == black, 1, white - black)
    return (255 * np.clip((pixels - black) / span, 0, 1)).round().astype(np.uint8).transpose(1, 2, 0)
