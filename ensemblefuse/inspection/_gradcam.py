"""Grad-CAM of one picture, through its network and whatever stands after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ensemblefuse.encoders import ImageEncoder
from ensemblefuse.inspection._occlude_image import ImageParts
from ensemblefuse.inspection._part import CannotExplain, PartExplanation, unit_of
from ensemblefuse.inspection._row_model import RowModel

if TYPE_CHECKING:
    import torch

__all__ = ["gradcam"]

_INSTEAD = 'take method="occlusion", which explains any encoder and any head'
_STEP = 1e-3  # of the root mean square of an embedding


def gradcam(row: RowModel, name: str, parts: ImageParts) -> PartExplanation:
    """The last feature map, weighed by the gradient of the value (Selvaraju et al. 2017, equations 1 and 2).

    Returns
    -------
    PartExplanation
        ``effects`` has the shape of the feature map; ``shown`` is the part of the picture that the network sees.

    Raises
    ------
    CannotExplain
        If the encoder has no network, the network no such map, or the value no gradient.
    """
    import torch

    encoder = parts.encoder
    if not isinstance(encoder, ImageEncoder) or encoder.features is not None:
        raise CannotExplain(f"Grad-CAM needs an ImageEncoder with a network; {_INSTEAD}")
    if name in getattr(row.parts.core, "encoders_", {}):
        raise CannotExplain(f"{type(row.parts.core).__name__} encodes for itself, out of Grad-CAM's sight; {_INSTEAD}")
    encoder.prepare()
    module, device = encoder._network().module, encoder._devices()[0]
    seen = encoder.load(parts.cell)
    vector, feature_map = _forward(module, seen[None].to(device))
    seed = torch.from_numpy(_slope(row, name, vector.detach().cpu().numpy()[0])).to(vector)
    (gradient,) = torch.autograd.grad((vector[0] * seed).sum(), feature_map)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    effects = torch.relu((weights * feature_map).sum(dim=1))[0].detach().cpu().numpy().astype(float)
    unit = unit_of("gradcam", row.code is not None)
    return PartExplanation("image", "gradcam", effects, _as_seen(encoder, parts, seen), unit=unit)


def _forward(module: torch.nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The embedding, and the last map of shape (1, channels, height, width) on the way to it, with their graph."""
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
    # Tokens after the last map: it is the patch embedding of a transformer, or a map with its channels last.
    has_tokens = any(output.ndim == 3 for output in outputs[maps[-1] if maps else 0 :])
    if not maps or has_tokens or outputs[maps[-1]].shape[3] == vector.shape[1] != outputs[maps[-1]].shape[1]:
        raise CannotExplain(f"its network ends in no feature map of convolutions, which Grad-CAM needs; {_INSTEAD}")
    return vector, outputs[maps[-1]]


def _slope(row: RowModel, name: str, vector: np.ndarray) -> np.ndarray:
    """Gradient of the value in the embedding, by central differences: shape (n_dims,).

    For linear steps and a linear head it is their weights; but any smooth head has one.
    """
    vector = vector.astype(float)
    step = _STEP * (float(np.sqrt(np.mean(vector**2))) or 1.0)
    moves = step * np.eye(len(vector))
    values = row.of_vectors(name, np.vstack([vector + moves, vector - moves]))
    slope = (values[: len(vector)] - values[len(vector) :]) / (2 * step)
    if not slope.any():
        raise CannotExplain(f"its heads have no gradient there, as trees have none; {_INSTEAD}")
    return slope


def _as_seen(encoder: ImageEncoder, parts: ImageParts, seen: torch.Tensor) -> np.ndarray | None:
    """What the network sees, in the colours of the picture: black and white tell how they were changed."""
    pixels = seen.numpy()
    black, white = (encoder.load(np.full_like(parts.pixels, level)).numpy() for level in (0, 255))
    if not pixels.shape == black.shape == white.shape:
        return None
    span = np.where(white == black, 1, white - black)
    return (255 * np.clip((pixels - black) / span, 0, 1)).round().astype(np.uint8).transpose(1, 2, 0)
