"""Image networks in a local folder that transformers saved."""

from __future__ import annotations

import functools
import inspect
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemblefuse._optional import import_optional
from ensemblefuse._torch import shared_network
from ensemblefuse.backbones.hub import quiet_transformers
from ensemblefuse.backbones.image_network import (
    ImageNetwork,
    Preparation,
    as_module,
    centre_bounded,
    map_mean,
    no_class_token,
    probed_n_dims,
)
from ensemblefuse.backbones.weights import WeightsSource, folder_digest
from ensemblefuse.cache.code_digests import file_digest

if TYPE_CHECKING:
    import torch
    from PIL import Image

__all__ = ["FolderModel"]

_NEEDED_BY = "ImageEncoder"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class FolderModel:
    """A network and an image processor that transformers saved; implements `ImageModel`."""

    folder: str | os.PathLike[str]
    output: str = "pooled"

    def token(self) -> dict[str, Any]:
        """Return the token for the cache key. The folder's digest covers the network, its weights and its processor."""
        return {"model": "transformers", "weights": folder_digest(self._checked()), "preprocessing": None}

    def preparation(self) -> Preparation:
        """Return the preparation by the folder's image processor."""
        folder = Path(self.folder)
        digests = [file_digest(folder / name) for name in _PROCESSORS if (folder / name).is_file()]
        return _preparation(str(folder), tuple(digests))

    def network(self, device: str) -> ImageNetwork:
        """Return the network of this process, from prepared pictures to vectors."""
        folder = self._checked()
        key = ("image", "transformers", folder_digest(folder), self.output, device)
        return shared_network(key, lambda: ImageNetwork(*_build(folder, self.output, self.preparation(), device)))

    def sources(self, encoder: str) -> list[WeightsSource]:
        """Return the folder as the only source."""
        return [WeightsSource(encoder, "model", os.fspath(self.folder), Path(self.folder))]

    def _checked(self) -> Path:
        folder = Path(self.folder)
        for names in (("config.json",), _PROCESSORS):
            if not any((folder / name).is_file() for name in names):
                raise ValueError(
                    f"{_NEEDED_BY}: the folder {str(folder)!r} holds no {' and no '.join(names)}; it must be a "
                    "folder of transformers, with a network and an image processor, or a folder of timm."
                )
        return folder


@functools.lru_cache(maxsize=16)
def _preparation(folder: str, digests: tuple[str, ...]) -> Preparation:
    transformers = import_optional("transformers", needed_by=_NEEDED_BY)
    try:
        with quiet_transformers():
            processor = transformers.AutoImageProcessor.from_pretrained(  # nosec B615: a local folder, never the hub
                folder, local_files_only=True, trust_remote_code=False
            )
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise _cannot_load("image processor", folder, error) from error

    def transform(image: Image.Image) -> torch.Tensor:
        return processor(images=image, return_tensors="pt")["pixel_values"][0]

    sizes = _numbers(getattr(processor, "size", None)) + _numbers(getattr(processor, "crop_size", None))
    # ConvNeXt's processor resizes to size / crop_pct before it crops.
    short_side = max((round(size / (getattr(processor, "crop_pct", None) or 1)) for size in sizes), default=None)
    cropped = getattr(processor, "do_center_crop", False) and "shortest_edge" in dict(processor.size)
    words = json.dumps(digests)
    return Preparation(centre_bounded(transform) if cropped else transform, words, short_side)


def _numbers(size: Any) -> list[int]:
    """Return the side lengths in a processor's size, which is a number or a mapping. Pixel counts are left out."""
    if isinstance(size, int):
        return [size]
    try:
        named = dict(size or {})
    except (TypeError, ValueError):
        return []
    return [named[key] for key in ("height", "width", "shortest_edge", "longest_edge") if named.get(key)]


def _build(folder: Path, output: str, preparation: Preparation, device: str) -> tuple[torch.nn.Module, int]:
    transformers = import_optional("transformers", needed_by=_NEEDED_BY)
    import torch

    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            model, report = transformers.AutoModel.from_pretrained(  # nosec B615: a local folder, never the hub
                folder,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            model = model.float()  # the argument for it has another name before transformers 4.56
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise _cannot_load("network", folder, error) from error
    # The checkpoint of a classifier has no pooler, and the weights of a new one would be random.
    missing = {name for name in report["missing_keys"] if "pooler." not in name}
    if missing or report["mismatched_keys"]:
        shown = sorted(map(str, [*missing, *report["mismatched_keys"]]))[:3]
        raise ValueError(f"{_NEEDED_BY}: the weights in the folder {str(folder)!r} lack {shown} or differ in shape.")
    network = _embedder(model.eval().requires_grad_(False), output, bool(report["missing_keys"]), folder.name)
    network = network.to(device)
    return network, probed_n_dims(network, preparation, device)


def _embedder(model: Any, output: str, without_pooler: bool, name: str) -> torch.nn.Module:
    """Return the model with its output reduced to one vector per picture."""
    vision = getattr(model, "vision_model", model)
    if "pixel_values" not in inspect.signature(vision.forward).parameters:
        raise ValueError(f"{_NEEDED_BY}: {name!r} is a {type(model).__name__}, which does not take pictures.")
    if output == "pooled" and hasattr(model, "get_image_features"):

        def projected(body: Any, pixels: torch.Tensor) -> torch.Tensor:
            features = body.get_image_features(pixel_values=pixels)
            return getattr(features, "pooler_output", features)  # before transformers 5, a tensor

        return as_module(model, projected)

    def forward(body: Any, pixels: torch.Tensor) -> torch.Tensor:
        result = body(pixel_values=pixels)
        last, pooled = result.last_hidden_state, getattr(result, "pooler_output", None)
        if output == "pooled" and pooled is not None and not without_pooler:
            return pooled.flatten(1)
        if last.ndim == 4:
            if output == "cls":
                raise no_class_token(name)
            return map_mean(last)
        n_prefix = _n_prefix(body, last, pixels)
        if output == "tokens" or (output == "pooled" and not n_prefix):
            return last[:, n_prefix:].mean(dim=1)
        if not n_prefix:
            raise no_class_token(name)
        return last[:, 0]

    return as_module(vision, forward)


def _n_prefix(model: Any, tokens: torch.Tensor, pixels: torch.Tensor) -> int:
    """Return the number of tokens before those of the patches: class, distillation, registers."""
    patch = getattr(model.config, "patch_size", None)
    if patch is None:
        return 0
    high, wide = patch if isinstance(patch, (list, tuple)) else (patch, patch)
    n_patches = (pixels.shape[2] // high) * (pixels.shape[3] // wide)
    return max(0, tokens.shape[1] - n_patches)  # a network that merges patches has fewer tokens, and no class token


def _cannot_load(what: str, folder: str | Path, error: Exception) -> ValueError:
    return ValueError(
        f"{_NEEDED_BY}: transformers cannot load the {what} in the folder {str(folder)!r} "
        f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})."
    )
