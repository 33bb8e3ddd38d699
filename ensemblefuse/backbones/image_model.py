"""Selection of the source of an image network by the parameter `model`."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from ensemblefuse.backbones.hub import find_model_folder
from ensemblefuse.backbones.image_folder import FolderModel
from ensemblefuse.backbones.image_module import ModuleModel
from ensemblefuse.backbones.image_network import ImageModel
from ensemblefuse.backbones.image_timm import TIMM_PREFIX, TimmModel, is_timm_folder
from ensemblefuse.backbones.image_torchvision import NamedModel

__all__ = ["find_image_model"]


def find_image_model(model: Any, weights: Any, output: str) -> ImageModel:
    """Return the source of a network. Its own methods check that it exists.

    Raises
    ------
    ValueError
        If `weights` or `output` belongs to another kind of model.
    TypeError
        If `model` is neither a name, nor a folder, nor a `torch.nn.Module`.
    """
    if isinstance(model, str) and model.startswith(TIMM_PREFIX):
        return TimmModel(model.removeprefix(TIMM_PREFIX), weights, output)
    if isinstance(model, os.PathLike) or (isinstance(model, str) and ("/" in model or os.sep in model)):
        _refuse_weights(weights, "a folder")
        folder = Path(model) if os.path.isdir(model) else _cached_folder(os.fspath(model))
        return TimmModel(folder, output=output) if is_timm_folder(folder) else FolderModel(folder, output)
    if callable(model) and hasattr(model, "state_dict") and not isinstance(model, type):
        _refuse_weights(weights, "a module")
        if output != "pooled":
            raise ValueError(f"ImageEncoder: output={output!r} needs a name or a folder; a module returns vectors.")
        return ModuleModel(model)
    if not isinstance(model, str):
        raise TypeError(
            "ImageEncoder: model must be a name of list_backbones(), 'timm/<name>', a folder or a torch.nn.Module; got "
            f"{type(model).__name__}."
        )
    return NamedModel(model, weights, output)


@functools.lru_cache(maxsize=64)
def _cached_folder(model: str) -> Path:
    """Return the folder of ``"org/name"`` in the local Hugging Face cache."""
    return find_model_folder(model, needed_by="ImageEncoder", packaged=["efficientnet_lite0"], marks=["config.json"])


def _refuse_weights(weights: Any, what: str) -> None:
    if not (isinstance(weights, str) and weights == "DEFAULT"):
        raise ValueError(f"ImageEncoder: weights={weights!r} needs the name of a network; {what} has its own weights.")
