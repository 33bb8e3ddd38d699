"""Selection of a text model by its name: a packaged one, a folder, or a name in the local Hugging Face cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ensemblefuse._torch import shared_network
from ensemblefuse.backbones.hub import find_model_folder
from ensemblefuse.backbones.text_transformers import SentenceNetwork
from ensemblefuse.backbones.weights import PACKAGED, WeightsSource, folder_digest, packaged_path

__all__ = [
    "ENGLISH",
    "MULTILINGUAL",
    "packaged_text_model",
    "sentence_network",
    "text_model_folder",
    "text_model_sources",
    "text_model_token",
]

ENGLISH, MULTILINGUAL = "all-MiniLM-L6-v2", "use-multilingual-v3"
_PACKAGED_TEXT_MODELS = (ENGLISH, MULTILINGUAL)
_HUB_ORGANISATION = "sentence-transformers"


def packaged_text_model(model: Any) -> str | None:
    """Return the name of a packaged model; None if it is another one."""
    name = model.removeprefix(f"{_HUB_ORGANISATION}/") if isinstance(model, str) else None
    return name if name in _PACKAGED_TEXT_MODELS else None


def text_model_token(model: Any, *, needed_by: str) -> str:
    """Return the model's token for the cache key: its packaged name, or a digest of its folder."""
    return packaged_text_model(model) or folder_digest(text_model_folder(model, needed_by=needed_by))


def text_model_folder(model: Any, *, needed_by: str) -> Path:
    """Return the folder of a model that is not packaged."""
    return find_model_folder(
        model,
        needed_by=needed_by,
        packaged=_PACKAGED_TEXT_MODELS,
        marks=("modules.json", "config.json"),
        organisation=_HUB_ORGANISATION,
    )


def text_model_sources(model: Any, *, param: str, needed_by: str) -> list[WeightsSource]:
    """Return the files of a model's weights; `param` is the parameter of the class that names it."""
    token = text_model_token(model, needed_by=needed_by)
    if token in PACKAGED:
        return [WeightsSource.packaged(needed_by, token)]
    return [WeightsSource(needed_by, param, os.fspath(model), text_model_folder(model, needed_by=needed_by))]


def sentence_network(
    model: Any, *, device: str, needed_by: str, pooling: str | None = None, precision: str = "float32"
) -> SentenceNetwork:
    """Return the network of a model, which is shared within the process; see `SentenceNetwork`."""
    token = text_model_token(model, needed_by=needed_by)
    return shared_network(
        ("text", token, pooling, device, precision),
        lambda: SentenceNetwork(
            packaged_path(token, needed_by=needed_by)
            if token in PACKAGED
            else text_model_folder(model, needed_by=needed_by),
            pooling=pooling,
            device=device,
            name=os.fspath(model),
            needed_by=needed_by,
            token=f"text {token} {pooling}" if precision == "int8" else None,
        ),
    )
