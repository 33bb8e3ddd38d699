"""Image networks of torchvision and the packaged one, by name: weights, preprocessing, network without its head.

torch, torchvision and timm are imported inside functions. Their import takes seconds, and cached rows do not need them.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from ensemblefuse._config import show_progress
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
from ensemblefuse.backbones.weights import PACKAGED, WeightsSource, packaged_path
from ensemblefuse.cache.code_digests import file_digest

if TYPE_CHECKING:
    import torch
    from PIL import Image

__all__ = ["Backbone", "NamedModel", "build_network", "find_backbone", "list_backbones", "replace_head"]

_NEEDED_BY = "ImageEncoder"
_PACKAGED_IMAGE_MODELS = ("efficientnet_lite0",)
# Arguments that torchvision itself sets when it builds these two with weights. Side heads are only for training.
_BUILD_ARGUMENTS = {
    name: {"transform_input": True, "aux_logits": False, "init_weights": False}
    for name in ("googlenet", "inception_v3")
}
# For each family of torchvision the last layer whose output has positions. Swin's `features` end before its last norm
# and have the channels last.
_LAST_LAYERS = (
    *("encoder", "permute", "layer4", "trunk_output", "inception5b", "Mixed_7c", "conv5", "blocks", "layers"),
    "features",
)
_SIDE_HEADS = ("aux1.", "aux2.", "AuxLogits.")
# The DenseNet files have the names of an older torchvision ("norm.1" for "norm1").
_OLD_DENSENET_NAME = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")


@dataclass(frozen=True)
class Backbone:
    """A network's name, the file of its weights, and its preprocessing.

    Attributes
    ----------
    model : str
        A name of `list_backbones`.
    path : Path
        File of the state dict.
    digest : str
        sha256 of that file.
    preprocessing : str
        Description of the transform, part of the cache key: one file may be used under two names of weights.
    """

    model: str
    path: Path
    digest: str
    preprocessing: str


def list_backbones() -> list[str]:
    """Return the names that `ImageEncoder` takes as `model`.

    Returns
    -------
    list of str
        The packaged models, then torchvision's classification networks in alphabetical order.

    Examples
    --------
    >>> from ensemblefuse import list_backbones
    >>> names = list_backbones()
    >>> names[0], "resnet50" in names, "vit_b_16" in names
    ('efficientnet_lite0', True, True)
    """
    models = _torchvision_models()
    return [*_PACKAGED_IMAGE_MODELS, *models.list_models(module=models)]


def find_backbone(model: Any, weights: Any) -> Backbone:
    """Check the two names and find the file. torchvision downloads it if necessary and possible.

    Raises
    ------
    TypeError
        If `model` is not a str, or `weights` is neither a str nor a path.
    ValueError
        If the model or the weights are unknown, or the packaged file is damaged.
    FileNotFoundError
        If the file is not on this machine and cannot be downloaded.
    ImportError
        If the package with the weights is not installed.
    """
    _check_names(model, weights)
    words = _preprocessing(model, _record_name(model, weights)).words
    if not _is_name(model, weights):
        path = Path(weights)
        if not path.is_file():
            raise FileNotFoundError(f"{_NEEDED_BY}: weights name the file {os.fspath(path)!r}, which does not exist.")
    elif model in _PACKAGED_IMAGE_MODELS:
        path = packaged_path(model, needed_by=_NEEDED_BY)
    else:
        path = _hub_file(model, weights)
    if path.suffix == ".safetensors" and _is_name(model, weights) and model in _PACKAGED_IMAGE_MODELS:
        return Backbone(model, path, PACKAGED[model].sha256, words)  # the same tensors, checked by packaged_path
    return Backbone(model, path, file_digest(path), words)


@dataclass(frozen=True)
class NamedModel:
    """A packaged network or one of torchvision; implements `ImageModel`."""

    model: str
    weights: str | os.PathLike[str]
    output: str = "pooled"

    def token(self) -> dict[str, Any]:
        """Return the token for the cache key: name, digest of the weights, and preprocessing."""
        found = find_backbone(self.model, self.weights)
        return {"model": self.model, "weights": found.digest, "preprocessing": found.preprocessing}

    def preparation(self) -> Preparation:
        """Return the preprocessing. The names are not checked."""
        return _preprocessing(self.model, _record_name(self.model, self.weights))

    def network(self, device: str) -> ImageNetwork:
        """Return the network of this process, from prepared pictures to vectors."""
        found = find_backbone(self.model, self.weights)
        key = ("image", found.model, found.digest, self.output, device)

        def build() -> tuple[torch.nn.Module, int]:
            if self.output == "pooled":
                return build_network(found, device)
            return _build_inner(found, self.output, self.preparation(), device)

        return shared_network(key, lambda: ImageNetwork(*build()))

    def sources(self, encoder: str) -> list[WeightsSource]:
        """Return the file of the weights."""
        weights = os.fspath(self.weights)
        if self.model in PACKAGED and weights == "DEFAULT":
            return [WeightsSource.packaged(encoder, self.model)]
        path = find_backbone(self.model, self.weights).path
        return [WeightsSource(encoder, "weights", f"{self.model} {weights}", path, is_state_dict=True)]


def _check_names(model: Any, weights: Any) -> None:
    if not isinstance(model, str):
        raise TypeError(f"{_NEEDED_BY}: model must be a name of list_backbones(); got {type(model).__name__}.")
    if not isinstance(weights, (str, os.PathLike)):
        raise TypeError(
            f"{_NEEDED_BY}: weights must be a name such as 'DEFAULT' or the path of a state dict; got {weights!r}."
        )
    if model not in _PACKAGED_IMAGE_MODELS and model not in list_backbones():
        raise ValueError(
            f"Unknown backbone {model!r}.{did_you_mean(model, list_backbones())} See list_backbones(); "
            "'timm/<name>' and folders are accepted too."
        )
    if _is_name(model, weights) or Path(weights).suffix in WEIGHT_SUFFIXES:
        return
    suffixes = ", ".join(WEIGHT_SUFFIXES)
    if isinstance(weights, os.PathLike) or Path(weights).is_file():
        raise ValueError(f"{_NEEDED_BY}: a file of weights must end in {suffixes}; got {os.fspath(weights)!r}.")
    names = _weights_names(model)
    raise ValueError(
        f"Unknown weights {weights!r} for backbone {model!r}.{did_you_mean(weights, names)} It has {names}; the path "
        f"of a state dict ({suffixes}) is accepted too. See list_backbones() for other backbones."
    )


def _is_name(model: str, weights: Any) -> bool:
    return isinstance(weights, str) and (weights == "DEFAULT" or weights in _weights_names(model))


def _record_name(model: str, weights: Any) -> str:
    return weights if _is_name(model, weights) else "DEFAULT"


def _torchvision_models() -> Any:
    import_optional("torchvision", needed_by=_NEEDED_BY)
    return importlib.import_module("torchvision.models")


def _weights_names(model: str) -> list[str]:
    """Return the names of a model's weights; "DEFAULT" stands for the best of them."""
    if model in _PACKAGED_IMAGE_MODELS:
        return ["DEFAULT"]
    return list(_torchvision_models().get_model_weights(model).__members__)


def _hub_file(model: str, weights: str) -> Path:
    """Return the file in torch hub's folder. torchvision downloads it if it is absent."""
    import torch

    entry = _torchvision_models().get_model_weights(model)[weights]
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(entry.url).path).name
    if path.is_file():
        return path
    try:
        entry.get_state_dict(progress=show_progress(), check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:  # no network (URLError is an OSError), or a hash that differs
        raise FileNotFoundError(
            f"{_NEEDED_BY}: the weights {weights!r} of {model!r} are not on this machine and could not be downloaded "
            f"({error}). Fetch {entry.url} and put it at {path}, or pass the path of a state dict as weights=."
        ) from error
    return path


# ---------------------------------------------------------------------- preprocessing


@functools.lru_cache(maxsize=256)
def _preprocessing(model: str, weights: str) -> Preparation:
    """Return the preprocessing that belongs to the weights."""
    if model in _PACKAGED_IMAGE_MODELS:
        record = PACKAGED[model].record
        words = ", ".join(f"{name}={record[name]:.6g}" for name in ("size", "crop", "mean", "std"))
        transform = functools.partial(_crop_resize_scale, record=record)
        return Preparation(transform, f"centre crop, bicubic, {words}", round(record["size"] / record["crop"]))
    preset = _torchvision_models().get_model_weights(model)[weights].transforms()
    short_side = max(*preset.resize_size, *preset.crop_size)
    return Preparation(centre_bounded(preset), " ".join(repr(preset).split()), short_side)


def _crop_resize_scale(image: Image.Image, *, record: dict[str, Any]) -> torch.Tensor:
    """Crop and resize the central square in one step: 10000 x 1 pixels never become 2560000 x 256."""
    import numpy as np
    import torch
    from PIL import Image

    width, height = image.size
    side = min(width, height) * record["crop"]
    left, top = (width - side) / 2, (height - side) / 2
    size = (record["size"], record["size"])
    square = image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    pixels = np.asarray(square, dtype=np.float32).transpose(2, 0, 1) / 255
    return torch.from_numpy(np.ascontiguousarray((pixels - record["mean"]) / record["std"], dtype=np.float32))


# ---------------------------------------------------------------------- the network


def build_network(backbone: Backbone, device: str) -> tuple[torch.nn.Module, int]:
    """Return the network without its classifier, with its weights, in `eval()` mode on `device`; and its n_dims.

    Raises
    ------
    ValueError
        If the file is not a state dict of this network.
    """
    import torch

    state = read_state(backbone.path)
    with torch.random.fork_rng(devices=[]):  # the constructor draws random weights; keep the user's generator
        network = _empty_network(backbone.model)
    head, n_dims = replace_head(network)
    if backbone.model in _PACKAGED_IMAGE_MODELS:
        state = _by_order(state, network, head, backbone)
    _load_state(network, {k: v for k, v in state.items() if not k.startswith(f"{head}.")}, state, backbone)
    network.eval().requires_grad_(False)
    # Depthwise convolutions on a CPU: 30 ms per image instead of 77 (EfficientNet-Lite0, one thread, batch 32).
    return network.to(device).to(memory_format=torch.channels_last), n_dims


def _build_inner(backbone: Backbone, output: str, preparation: Preparation, device: str) -> tuple[torch.nn.Module, int]:
    """Return the network up to its last tokens or feature map, pooled to one vector."""
    network, _ = build_network(backbone, device)
    has_tokens = hasattr(network, "encoder")  # torchvision's ViT: the class token, then the patches
    if output == "cls" and not has_tokens:
        raise no_class_token(backbone.model)
    if backbone.model in _PACKAGED_IMAGE_MODELS:
        inner = as_module(network, lambda body, pixels: map_mean(body.forward_features(pixels)))
    else:
        extraction = importlib.import_module("torchvision.models.feature_extraction")
        node = next(name for name in _LAST_LAYERS if hasattr(network, name))
        body = extraction.create_feature_extractor(network, {node: "last"}, suppress_diff_warning=True)
        if not has_tokens:
            inner = as_module(body, lambda body, pixels: map_mean(body(pixels)["last"]))
        elif output == "cls":
            inner = as_module(body, lambda body, pixels: body(pixels)["last"][:, 0])
        else:
            inner = as_module(body, lambda body, pixels: body(pixels)["last"][:, 1:].mean(dim=1))
    return inner, probed_n_dims(inner, preparation, device)


def _empty_network(model: str) -> torch.nn.Module:
    if model in _PACKAGED_IMAGE_MODELS:
        timm = import_optional("timm", needed_by=_NEEDED_BY)
        return timm.create_model(PACKAGED[model].record["timm"], pretrained=False)
    return _torchvision_models().get_model(model, weights=None, **_BUILD_ARGUMENTS.get(model, {}))


def replace_head(network: torch.nn.Module) -> tuple[str, int]:
    """Replace the classifier, which is the last linear layer or else the last convolution, by an identity.

    Returns
    -------
    name : str
        The layer's name in the network.
    n_dims : int
        Number of its input features.
    """
    import torch

    for kind, width in ((torch.nn.Linear, "in_features"), (torch.nn.Conv2d, "in_channels")):
        found = [(name, module) for name, module in network.named_modules() if isinstance(module, kind)]
        if found:
            name, module = found[-1]
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, torch.nn.Identity())
            return name, int(getattr(module, width))
    raise ValueError(f"{type(network).__name__} has no linear layer and no convolution.")


def _by_order(
    state: dict[str, torch.Tensor], network: torch.nn.Module, head: str, backbone: Backbone
) -> dict[str, torch.Tensor]:
    """Return the packaged tensors under timm's names. Their order is the same; every shape is checked."""
    own = network.state_dict()
    if set(own) <= set(state):  # saved from timm's own network
        return state
    n_head = len(state) - len(own)
    tensors = list(state.values())
    if backbone.path.suffix == ".safetensors":  # sorted by type; in a saved model, their names are numbered
        tensors = [state[name] for name in sorted(state)]
    same = n_head in (0, 2) and all(a.shape == b.shape for a, b in zip(own.values(), tensors, strict=False))
    if not same:
        raise ValueError(
            f"The tensors of {backbone.path.name} are not those of {backbone.model!r}: their number, order or shapes "
            "differ."
        )
    return dict(zip(own, tensors, strict=False))


def _load_state(
    network: torch.nn.Module, body: dict[str, torch.Tensor], state: dict[str, torch.Tensor], backbone: Backbone
) -> None:
    from collections import OrderedDict

    named = OrderedDict(
        (_OLD_DENSENET_NAME.sub(r"\1\2", name), tensor)
        for name, tensor in body.items()
        if not name.startswith(_SIDE_HEADS)
    )
    # torch reads the version of each module from this attribute. Without its version, MNASNet cannot be loaded.
    named._metadata = getattr(  # type: ignore[attr-defined]
        state, "_metadata", {"": {"version": network._version}}
    )
    try:
        network.load_state_dict(named)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"The file of weights {backbone.path.name} does not fit {backbone.model!r}: {error}"
        ) from error
