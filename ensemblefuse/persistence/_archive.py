"""The file of a saved model: a zip, written whole or not at all. Floor 4."""

from __future__ import annotations

import io
import json
import os
import uuid
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensemblefuse import __version__
from ensemblefuse.exceptions import PersistenceError

FORMAT = 1
MODEL, MANIFEST = "model.skops", "manifest.json"
# Beginnings of gzip, bz2, xz, lzma, lz4 and zlib, in all of which joblib writes.
_PACKED: tuple[bytes, ...] = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"]\x00\x00", b"\x04\x22\x4d\x18")
_PACKED += (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
# A member of more bytes than this, and than so many times those of its archive, is taken for a zip bomb.
_LARGE, _RATIO = 100_000_000, 200
# What zip and JSON readers raise on damaged files.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError, ValueError, OSError)


def write_archive(path: Path, members: Mapping[str, bytes]) -> None:
    """All or nothing: another name in the same folder, then a rename."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            with zipfile.ZipFile(file, "w", compression=zipfile.ZIP_DEFLATED) as archive:
                for name, content in members.items():
                    archive.writestr(name, content, compress_type=_compression(content))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _compression(content: bytes) -> int:
    """None where `read_archive` would take the packed content for a zip bomb."""
    bomb = len(content) > _LARGE and len(content) > _RATIO // 2 * len(zlib.compress(content, 1))
    return zipfile.ZIP_STORED if bomb else zipfile.ZIP_DEFLATED


def read_archive(path: Path) -> tuple[dict[str, Any], bytes]:
    """Manifest and skops bytes of a saved model."""
    with open(path, "rb") as file:
        head = file.read(16)
    if not head.startswith(b"PK"):
        raise PersistenceError(f"{path} was not written by save_model: it is {_what(head)}.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if not {MODEL, MANIFEST} <= set(names):
                raise PersistenceError(f"{path} was not written by save_model: it is {_what_zip(names)}.")
            size = path.stat().st_size
            _check_size(path, archive, size)
            manifest = json.loads(archive.read(MANIFEST))
            _check_format(path, manifest)
            model = archive.read(MODEL)
        if zipfile.is_zipfile(io.BytesIO(model)):  # what skops makes of others, `untrusted_types` and `types_in` say
            with zipfile.ZipFile(io.BytesIO(model)) as inner:
                _check_size(path, inner, len(model))
        return manifest, model
    except PersistenceError:
        raise
    except (*DAMAGE, RecursionError) as error:
        raise damaged(path, first_line(error)) from error


def _check_size(path: Path, archive: zipfile.ZipFile, size: int) -> None:
    """Refuse members whose unpacked size is absurd; zipfile never unpacks more than the size that is declared."""
    for info in archive.infolist():
        if info.file_size > _LARGE and info.file_size > _RATIO * size:
            raise PersistenceError(
                f"{path} holds {info.filename!r}, which would unpack to {info.file_size:,} bytes from a file of "
                f"{size:,}: no model is like that, so it was not read."
            )


def _check_format(path: Path, manifest: Any) -> None:
    number = manifest.get("format") if isinstance(manifest, dict) else None
    if number == FORMAT and type(number) is int:
        return
    versions = manifest.get("versions") if isinstance(manifest, dict) else None
    writer = versions.get("ensemblefuse") if isinstance(versions, dict) else None
    raise PersistenceError(
        f"{path} has the format {number!r}, written by ensemblefuse {writer}; ensemblefuse {__version__} reads format "
        f"{FORMAT}. A newer version may read it."
    )


def _what(head: bytes) -> str:
    """What a file is that is no zip, and what to do with it."""
    careful = "Use joblib.load only for files of people you trust: it runs whatever the file tells it to"
    if not head:
        return "empty"
    if head[0] == 0x80 and len(head) > 1 and head[1] <= 5:
        return f"a pickle or joblib file. {careful}"
    if head.startswith(_PACKED):
        return f"a compressed file, perhaps a joblib file. {careful}"
    return f"no zip; it begins with {head[:8]!r}"


def _what_zip(names: list[str]) -> str:
    if "schema.json" in names:
        return "a bare skops file; skops.io.load reads it"
    if any(name.endswith("data.pkl") for name in names):
        return "a file of torch.save, which holds a pickle"
    return f"a zip that holds {sorted(names)[:5]}, not {MODEL} and {MANIFEST}"


def damaged(path: Path, reason: str) -> PersistenceError:
    return PersistenceError(f"{path} is damaged or incomplete ({reason}); save the model again.")


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")
