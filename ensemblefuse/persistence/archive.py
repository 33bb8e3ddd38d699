"""The file of a saved model: a zip that is sealed by a digest of all its bytes and is written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import uuid
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ensemblefuse import __version__
from ensemblefuse._writing import special_kind
from ensemblefuse.exceptions import PersistenceError, short_repr
from ensemblefuse.persistence import bounds

# Format 2 has a seal and example rows; in format 3 types have their public paths.
FORMAT = 3
MODEL, MANIFEST = "model.skops", "manifest.json"
# The zip's comment is the very end of the file: this prefix and the sha256 of all bytes before the digits.
_SEAL, _DIGITS = b"ensemblefuse sha256:", 64
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_][A-Za-z0-9_.\-]*)*")
# First bytes of gzip, bz2, xz, lzma, lz4 and zlib files; joblib writes all of these.
_PACKED: tuple[bytes, ...] = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"]\x00\x00", b"\x04\x22\x4d\x18")
_PACKED += (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
# Above this many bytes the manifest is written without line breaks.
_PRETTY = 1_000_000
# What zip and JSON readers raise on damaged files.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError, ValueError, OSError)


@dataclass(frozen=True)
class Archive:
    """A saved model whose seal, members and format have been checked; nothing in it has been built.

    Attributes
    ----------
    path : Path
    manifest : dict
    """

    path: Path
    manifest: dict[str, Any]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def read(self, name: str) -> bytes:
        """Return the bytes of a member, after a check of its digest."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                content = archive.read(name)
        except DAMAGE as error:
            raise damaged(self.path, first_line(error)) from error
        self._check(name, hashlib.sha256(content).hexdigest())
        return content

    def read_json(self, name: str) -> Any:
        """Return the value of a member of JSON; raise if it is too large, or not JSON."""
        try:
            return bounds.parse_json(self.path, name, self.read(name))
        except PersistenceError:
            raise
        except (ValueError, RecursionError) as error:
            raise damaged(self.path, f"its {name} cannot be read: {first_line(error)}") from error

    def extract(self, name: str, target: Path) -> None:
        """Write a member to the file `target`; remove the file again if the digest is wrong."""
        hasher = hashlib.sha256()
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(name) as source, open(target, "xb") as file:
                while chunk := source.read(1 << 20):
                    hasher.update(chunk)
                    file.write(chunk)
            self._check(name, hasher.hexdigest())
        except PersistenceError:
            target.unlink()
            raise
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
            target.unlink(missing_ok=True)
            raise damaged(self.path, first_line(error)) from error

    def __contains__(self, name: str) -> bool:
        return name in self.manifest.get("members", {})

    def _check(self, name: str, found: str) -> None:
        if self.manifest["format"] > 1 and self.manifest["members"][name]["sha256"] != found:
            raise damaged(self.path, f"its {name} is not the one that its manifest names")


def write_archive(
    path: Path,
    manifest: Mapping[str, Any],
    members: Mapping[str, bytes | Path],
    check: Callable[[int], Any] = lambda size: None,
) -> None:
    """Write an archive whole or not at all: under another name in the same folder, then renamed.

    Parameters
    ----------
    path : Path
    manifest : dict
    members : dict of str to bytes or Path
        A member may be a file, which is never held in memory as a whole.
    check : callable, optional
        Called with the number of bytes on disk before the file gets its name; what it raises leaves the old file.

    Raises
    ------
    PersistenceError
        If the manifest is larger than `open_archive` reads.
    """
    listed = {name: {"sha256": _digest(content), "bytes": _size(content)} for name, content in members.items()}
    # allow_nan=False: any JSON parser must be able to read the manifest.
    text = json.dumps({**manifest, "members": listed}, indent=2, ensure_ascii=False, allow_nan=False)
    if len(text) > _PRETTY:
        text = json.dumps({**manifest, "members": listed}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    bounds.check_json(path, MANIFEST, text.encode())
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "x+b") as file:
            with zipfile.ZipFile(file, "w", compression=zipfile.ZIP_DEFLATED) as archive:
                for name, content in {MANIFEST: text.encode(errors="backslashreplace"), **members}.items():
                    _write_member(archive, name, content)
                archive.comment = _SEAL + b"0" * _DIGITS
            digits = _hash_but_seal(file)
            file.seek(-_DIGITS, os.SEEK_END)
            file.write(digits)
            file.flush()
            os.fsync(file.fileno())
        check(temporary.stat().st_size)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_member(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    info = zipfile.ZipInfo(name)  # dated 1980: the manifest has the time
    if isinstance(content, Path):  # networks' weights, which do not shrink
        with open(content, "rb") as source, archive.open(info, "w", force_zip64=True) as target:
            while chunk := source.read(1 << 20):
                target.write(chunk)
    else:
        archive.writestr(info, content, compress_type=_compression(content))


def _compression(content: bytes) -> int:
    """Return how to compress a member: not at all if the reader would take the packed content for a zip bomb."""
    bomb = len(content) > bounds.LARGE and len(content) > bounds.RATIO // 2 * len(zlib.compress(content, 1))
    return zipfile.ZIP_STORED if bomb else zipfile.ZIP_DEFLATED


def _digest(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with open(content, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _hash_but_seal(file: BinaryIO) -> bytes:
    """Return the sha256, in hexadecimal digits, of a file without its last 64 bytes."""
    left = file.seek(0, os.SEEK_END) - _DIGITS
    file.seek(0)
    hasher = hashlib.sha256()
    while left > 0:
        chunk = file.read(min(left, 1 << 20))
        if not chunk:
            break
        hasher.update(chunk)
        left -= len(chunk)
    return hasher.hexdigest().encode()


def open_archive(path: Path) -> Archive:
    """Check the seal, the format, and the names, number and sizes of members."""
    head = _head(path)
    if not head.startswith(b"PK"):
        raise PersistenceError(f"{path} was not written by save_model: it is {_what(head)}.")
    try:
        bounds.check_directory(path)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if not {MODEL, MANIFEST} <= set(names):
                raise PersistenceError(f"{path} was not written by save_model: it is {_what_zip(names)}.")
            sealed = archive.comment.startswith(_SEAL)
            if sealed:
                _check_seal(path, archive.comment)
            bounds.check_sizes(path, archive, path.stat().st_size)
            manifest = bounds.load_json(path, archive, MANIFEST)
            number = _check_format(path, manifest)
            if sealed != (number > 1):
                raise damaged(path, "it has no seal" if number > 1 else "its seal is not of its format")
            _check_members(path, manifest, archive.infolist())
        return Archive(path, manifest)
    except PersistenceError:
        raise
    except (*DAMAGE, RecursionError) as error:
        raise damaged(path, first_line(error)) from error


def _check_seal(path: Path, comment: bytes) -> None:
    with open(path, "rb") as file:
        found = _hash_but_seal(file)
    if comment != _SEAL + found:
        raise damaged(path, "its bytes are not those that were written")


def _check_format(path: Path, manifest: Any) -> int:
    number = manifest.get("format") if isinstance(manifest, dict) else None
    if type(number) is int and 1 <= number <= FORMAT:
        return number
    versions = manifest.get("versions") if isinstance(manifest, dict) else None
    writer = versions.get("ensemblefuse") if isinstance(versions, dict) else None
    raise PersistenceError(
        f"{path} has the format {short_repr(number)}, written by ensemblefuse {str(writer)[:60]}; ensemblefuse "
        f"{__version__} reads formats 1 to {FORMAT}. A newer version may read it."
    )


def _check_members(path: Path, manifest: dict[str, Any], infos: list[zipfile.ZipInfo]) -> None:
    """Raise unless each member is there once, has a plain name, is not a link, and is as the manifest lists it."""
    names = [info.filename for info in infos]
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not _NAME.fullmatch(info.filename) or kind not in (0, stat.S_IFREG):
            name = short_repr(info.filename)
            raise PersistenceError(f"{path} holds {name}, which no saved model does, so it was not read.")
    if len(set(names)) < len(names):
        raise damaged(path, f"it holds {len(names)} members under {len(set(names))} names")
    if manifest["format"] == 1:
        return
    listed = manifest.get("members")
    if not isinstance(listed, dict) or {MANIFEST, *listed} != set(names):
        raise damaged(path, "its members are not those that its manifest lists")
    sizes = {info.filename: info.file_size for info in infos}
    for name, member in listed.items():
        if not isinstance(member, dict) or member.get("bytes") != sizes[name] or "sha256" not in member:
            raise damaged(path, f"its {name} is not the one that its manifest names")


def _what(head: bytes) -> str:
    """Return what kind of file this is, if it is not a zip, and what to do with it."""
    careful = "Pass allow_pickle=True or use joblib.load only for files from people you trust: loading runs any code "
    careful += "in the file"
    if not head:
        return "empty"
    if head[0] == 0x80 and len(head) > 1 and head[1] <= 5:
        return f"a pickle or joblib file. {careful}"
    if head.startswith(_PACKED):
        return f"a compressed file, perhaps a joblib file. {careful}"
    return f"not a zip; it begins with {head[:8]!r}"


def is_pickle(path: Path) -> bool:
    """Return whether the first bytes of a file are those of a pickle or joblib file."""
    head = _head(path)
    return head.startswith(_PACKED) or (len(head) > 1 and head[0] == 0x80 and head[1] <= 5)


def _head(path: Path) -> bytes:
    """Return the first bytes of a regular file; a pipe is not opened, because that would wait for its writer."""
    kind = special_kind(path)
    if kind:
        raise PersistenceError(f"{path} is {kind}, not a model file; give the path of a file that save_model wrote.")
    with open(path, "rb") as file:
        return file.read(16)


def _what_zip(names: list[str]) -> str:
    if "schema.json" in names:
        return "a bare skops file; skops.io.load reads it"
    if any(name.endswith("data.pkl") for name in names):
        return "a file of torch.save, which holds a pickle"
    shown = ", ".join(map(short_repr, sorted(names)[:5]))
    return f"a zip that holds [{shown}], not {MODEL} and {MANIFEST}"


def damaged(path: Path, reason: str) -> PersistenceError:
    return PersistenceError(f"{path} is damaged or incomplete ({reason}); save the model again.")


def first_line(error: BaseException) -> str:
    """Return the first line of a message, cut at 300 characters: a file may put texts of its own into it."""
    return (str(error).strip() or type(error).__name__).split("\n")[0][:300].rstrip(".")
