"""Image networks of timm, from local files and the local cache. Nothing is downloaded."""

from __future__ import annotations

import functools
import importlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from ensemblefuse._optional import import_optional
from ensemblefuse._torch import shared_network
from ensemblefuse.backbones.image_network import (
    WEIGHT_SUFFIXES,
    ImageNetwork,
    Preparation,
    as_module,
    centre_bounded,
    did_you_mean,
    map_mean,
    no_class_token,
    probed_n_dims,
    read_state,
)
from ensemblefuse.backbones.weights import WeightsSource
from ensemblefuse.cache.code_digests import file_digest

if TYPE_CHECKING:
    import torch

__all__ = ["TIMM_PREFIX", "TimmModel", "is_timm_folder"]

TIMM_PREFIX = "timm/"
_NEEDED_BY = "ImageEncoder"
_CONFIG = "config.json"
_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class TimmModel:
    """A network of timm by name (without ``"timm/"``), or a folder that timm saved; implements `ImageModel`."""

    model: str | os.PathLike[str]
    weights: str | os.PathLike[str] = "DEFAULT"
    output: str = "pooled"

    def token(self) -> dict[str, Any]:
        """Return the token for the cache key: the network, the digest of its weights, and the preprocessing."""
        record = self._record()
        words = self.preparation().words
        return {"model": _plan_words(record), "weights": file_digest(self._state_path(record)), "preprocessing": words}

    def preparation(self) -> Preparation:
        """Return the preparation by timm's data configuration of the weights."""
        return _preparation(json.dumps(self._record()["pretrained_cfg"]))

    def network(self, device: str) -> ImageNetwork:
        """Return the network of this process, from prepared pictures to vectors."""
        record = self._record()
        path = self._state_path(record)
        key = ("image", "timm", _plan_words(record), file_digest(path), self.output, device)
        return shared_network(key, lambda: ImageNetwork(*_build(record, path, self.output, self.preparation(), device)))

    def _record(self) -> dict[str, Any]:
        return _folder_record(Path(self.model)) if os.path.isdir(self.model) else _named_record(str(self.model))

    def _state_path(self, record: dict[str, Any]) -> Path:
        if os.path.isdir(self.model):
            files = [Path(self.model) / name for name in _FILES if (Path(self.model) / name).is_file()]
            if not files:
                raise ValueError(f"{_NEEDED_BY}: the folder {str(self.model)!r} holds none of {list(_FILES)}.")
            return files[0]
        if self.weights == "DEFAULT":
            return _cached_file(str(self.model), record["pretrained_cfg"])
        path = Path(self.weights)
        if not path.is_file():
            raise FileNotFoundError(
                f"{_NEEDED_BY}: weights of a timm model must be 'DEFAULT' or the path of a state dict; "
                f"{os.fspath(path)!r} does not exist."
            )
        if path.suffix not in (*WEIGHT_SUFFIXES, ".bin"):
            raise ValueError(f"{_NEEDED_BY}: a file of weights must end in {', '.join(WEIGHT_SUFFIXES)}; got {path!s}.")
        return path

    def sources(self, encoder: str) -> list[WeightsSource]:
        """Return the folder, or the file of the weights."""
        if os.path.isdir(self.model):
            return [WeightsSource(encoder, "model", os.fspath(self.model), Path(self.model))]
        name = f"{TIMM_PREFIX}{self.model} {os.fspath(self.weights)}"
        return [WeightsSource(encoder, "weights", name, self._state_path(self._record()), is_state_dict=True)]


def is_timm_folder(folder: Path) -> bool:
    """Return whether a folder's configuration names a network of timm; transformers writes ``"model_type"`` instead."""
    try:
        return "architecture" in json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


@functools.lru_cache(maxsize=64)
def _named_record(name: str) -> dict[str, Any]:
    timm = import_optional("timm", needed_by=_NEEDED_BY)
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        known = [TIMM_PREFIX + known for known in timm.list_models()]
        raise ValueError(
            f"Unknown backbone {TIMM_PREFIX + name!r}.{did_you_mean(TIMM_PREFIX + architecture, known)} See "
            "timm.list_models()."
        )
    try:
        config = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        tags = [known for known in timm.list_pretrained(f"{architecture}.*") if known.startswith(f"{architecture}.")]
        raise ValueError(f"Unknown weights {tag!r} of {TIMM_PREFIX + architecture!r}; timm knows {tags}.") from error
    pretrained_cfg = {} if config is None else config.to_dict()
    return {"architecture": architecture, "model_args": {}, "pretrained_cfg": pretrained_cfg}


def _folder_record(folder: Path) -> dict[str, Any]:
    import_optional("timm", needed_by=_NEEDED_BY)
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    return {
        "architecture": str(config["architecture"]),
        "model_args": config.get("model_args") or {},
        "pretrained_cfg": config.get("pretrained_cfg") or {k: v for k, v in config.items() if k != "model_args"},
    }


def _plan_words(record: dict[str, Any]) -> str:
    """Return the name and the arguments of the network; the place of its weights is not included."""
    return f"timm {record['architecture']} {json.dumps(record['model_args'], sort_keys=True)}"


def _cached_file(name: str, config: dict[str, Any]) -> Path:
    """Return the file of the weights in the cache of huggingface_hub or of torch hub."""
    import torch

    hub = import_optional("huggingface_hub", package="huggingface-hub", needed_by=_NEEDED_BY)
    cache = importlib.import_module("huggingface_hub.constants").HF_HUB_CACHE
    repository = config.get("hf_hub_id")
    for file in (config.get("hf_hub_filename"), *_FILES):
        found = hub.try_to_load_from_cache(repository, file, cache_dir=cache) if repository and file else None
        if isinstance(found, str):
            return Path(found)
    if config.get("url"):
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(config["url"]).path).name
        if path.is_file():
            return path
    fetch = f"huggingface_hub.snapshot_download({repository!r})" if repository else "the network's authors"
    raise FileNotFoundError(
        f"{_NEEDED_BY}: the weights of {TIMM_PREFIX + name!r} are not on this machine (Hugging Face cache {cache}). "
        f"Nothing is downloaded: fetch them first with {fetch}, or pass the path of a state dict as weights=."
    )


@functools.lru_cache(maxsize=64)
def _preparation(pretrained_cfg: str) -> Preparation:
    data = import_optional("timm.data", package="timm", needed_by=_NEEDED_BY)
    config = data.resolve_data_config(pretrained_cfg=json.loads(pretrained_cfg))
    transform = data.create_transform(**config, is_training=False)
    short_side = math.ceil(max(config["input_size"][1:]) / config["crop_pct"])
    if config.get("crop_mode", "center") == "center":
        transform = centre_bounded(transform)
    return Preparation(transform, f"timm {json.dumps(config, sort_keys=True)}", short_side)


def _build(
    record: dict[str, Any], path: Path, output: str, preparation: Preparation, device: str
) -> tuple[torch.nn.Module, int]:
    import timm
    import torch

    name = record["architecture"]
    with torch.random.fork_rng(devices=[]):  # the constructor draws random weights; keep the user's generator
        network = timm.create_model(
            name,
            pretrained=False,
            pretrained_cfg=record["pretrained_cfg"] or None,
            **{**record["model_args"], "num_classes": 0},
        )
    _load(network, read_state(path), path, name)
    network = network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    if output != "pooled":
        network = _inner(network, output, f"{TIMM_PREFIX}{name}")
    return network, probed_n_dims(network, preparation, device)


def _load(network: Any, state: dict[str, torch.Tensor], path: Path, name: str) -> None:
    """Load the state. Each tensor of the network must be in the file, which may also hold a classifier."""
    heads = (network.pretrained_cfg or {}).get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    own = network.state_dict()
    body = {k: v for k, v in state.items() if k in own or not k.startswith(tuple(f"{head}." for head in heads))}
    try:
        network.load_state_dict(body)
    except RuntimeError as error:
        raise ValueError(f"The file of weights {path.name} does not fit {TIMM_PREFIX + name!r}: {error}") from error


def _inner(network: Any, output: str, name: str) -> torch.nn.Module:
    """Return the network up to its last tokens or feature map, pooled to one vector."""
    n_prefix = getattr(network, "num_prefix_tokens", 0)
    channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"
    if output == "cls":
        if getattr(network, "cls_token", None) is None:
            raise no_class_token(name)
        return as_module(network, lambda body, pixels: body.forward_features(pixels)[:, 0])

    def mean(body: Any, pixels: torch.Tensor) -> torch.Tensor:
        features = body.forward_features(pixels)
        if features.ndim == 3:
            return features[:, n_prefix:].mean(dim=1)
        return map_mean(features, channels_last=channels_last)

    return as_module(network, mean)
