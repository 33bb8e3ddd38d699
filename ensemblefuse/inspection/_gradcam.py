"""Grad-CAM of one picture, through its network and all later steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ensemblefuse.backbones.feature_map import NoFeatureMapError
from ensemblefuse.encoders import ImageEncoder
from ensemblefuse.inspection._occlude_image import ImageParts
from ensemblefuse.inspection._part_explanation import CannotExplain, PartExplanation, unit_of
from ensemblefuse.inspection._row_model import RowModel, log_odds

__all__ = ["gradcam"]

_INSTEAD = 'use method="occlusion", which explains any encoder and any head'
_STEP = 1e-3  # of the root mean square of an embedding


def gradcam(row: RowModel, name: str, parts: ImageParts) -> PartExplanation:
    """Compute the last feature map, weighted by the gradient of the value (Selvaraju et al. 2017, equations 1 and 2).

    It asks for ``feature_maps(cell)``: what vector a picture has, the maps that it is computed from, and the picture as
    the network sees it. `ImageEncoder` has it, and so have networks on pictures. With an encoder, the value is that of
    the whole model. With a network that is the estimator of the block, it is the network's own: its log-odds, or its
    number.

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

    source: Any = parts.encoder if parts.network is None else parts.network
    if parts.network is None and (not isinstance(source, ImageEncoder) or source.features is not None):
        raise CannotExplain(f"Grad-CAM needs an ImageEncoder with a network; {_INSTEAD}")
    if name in getattr(row.parts.core, "encoders_", {}):
        raise CannotExplain(f"{type(row.parts.core).__name__} encodes by itself, out of Grad-CAM's reach; {_INSTEAD}")
    try:
        vector, maps, seen = source.feature_maps(parts.cell)
    except NoFeatureMapError as error:
        raise CannotExplain(f"{error}; {_INSTEAD}") from error
    value = lambda vectors: row.of_vectors(name, vectors)
    if parts.network is not None:
        value = lambda vectors: _value_of(parts.network, vectors, row.code)
    # Chain rule: later steps give d value / d embedding as numbers (`_slope`), torch the rest down to the maps.
    seed = torch.from_numpy(_slope(value, vector.detach().cpu().numpy()[0])).to(vector)
    gradients = torch.autograd.grad((vector[0] * seed).sum(), maps)
    weights = [gradient.mean(dim=(2, 3), keepdim=True) for gradient in gradients]
    weighted = [torch.relu((w * m).sum(dim=1))[0] for w, m in zip(weights, maps, strict=True)]
    effects = torch.stack(weighted).mean(dim=0).detach().cpu().numpy().astype(float)
    unit = unit_of("gradcam", row.code is not None)
    return PartExplanation("image", "gradcam", effects, _as_seen(source, parts, seen), unit=unit)


def _value_of(network: Any, vectors: np.ndarray, code: int | None) -> np.ndarray:
    """Return what a network says of features: the log-odds of a class, or the number."""
    said = network.of_features(vectors)
    return said if code is None else log_odds(said, code)


def _slope(value: Callable[[np.ndarray], np.ndarray], vector: np.ndarray) -> np.ndarray:
    """Compute the gradient of the value with respect to the embedding, by central differences: shape (n_dims,).

    Differences are used because the later steps are not torch code. They need only a smooth head.
    """
    vector = vector.astype(float)
    step = _STEP * (float(np.sqrt(np.mean(vector**2))) or 1.0)
    moves = step * np.eye(len(vector))
    values = value(np.vstack([vector + moves, vector - moves]))
    slope = (values[: len(vector)] - values[len(vector) :]) / (2 * step)
    if not slope.any():
        raise CannotExplain(f"its heads have no gradient there (trees never have one); {_INSTEAD}")
    return slope


def _as_seen(source: Any, parts: ImageParts, seen: np.ndarray) -> np.ndarray | None:
    """Return the network's input in the colours of the picture; None if that is not possible.

    An all-black and an all-white picture show how each pixel is rescaled.
    """
    black, white = (np.asarray(source.as_seen(np.full_like(parts.pixels, level))) for level in (0, 255))
    if not seen.shape == black.shape == white.shape:
        return None
    span = np.where(white == black, 1, white - black)
    return (255 * np.clip((seen - black) / span, 0, 1)).round().astype(np.uint8).transpose(1, 2, 0)
