"""Bounds of what a model file may cost before its content is checked: bytes, values of JSON, members."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from ensemblefuse.exceptions import PersistenceError, short_repr

# An archive is taken for a zip bomb if its unpacked size exceeds both this and so many times its packed size.
LARGE, RATIO = 100_000_000, 200


class Limits(NamedTuple):
    """What a text of JSON may have. A value takes 2 bytes in the text, and up to 200 in memory."""

    n_bytes: int
    n_values: int


# Of the manifest and of the example rows.
FIXED = Limits(n_bytes=16_000_000, n_values=1_000_000)
_MOST_VALUES = 16_000_000
# Bytes of the zip's list of members; a member takes some 100, and in memory ten times as much.
_MOST_DIRECTORY = 4_000_000


def limits_of_model(size: int) -> Limits:
    """Return the limits of the description of a model, which may be larger if its file of `size` bytes is.

    A vocabulary of a million words has 425 MB and 12 million values; in the file it takes at least 11 MB.
    """
    return Limits(max(FIXED.n_bytes, 100 * size), min(FIXED.n_values + 2 * size, _MOST_VALUES))


def check_sizes(path: Path, archive: zipfile.ZipFile, size: int) -> None:
    """Raise if the unpacked size of members is absurd; zipfile never unpacks more than the declared size."""
    total = sum(info.file_size for info in archive.infolist())
    if total > LARGE and total > RATIO * size:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
        raise PersistenceError(
            f"{path} has {size:,} bytes. It holds {short_repr(largest.filename)}, which would unpack to "
            f"{largest.file_size:,} bytes, and all members to {total:,}: no model is like that, so it was not read."
        )


def check_directory(path: Path) -> None:
    """Raise if the list of a zip's members is absurdly long; `zipfile` would read it whole."""
    find = getattr(zipfile, "_EndRecData", None)  # not public, but what zipfile itself goes by
    if find is None:
        return
    with open(path, "rb") as file:
        record = find(file)
    if record is not None and record[5] > _MOST_DIRECTORY:
        raise PersistenceError(
            f"{path} has a list of members of {record[5]:,} bytes: no model is like that, so it was not read."
        )


def load_json(path: Path, archive: zipfile.ZipFile, name: str, limits: Limits = FIXED) -> Any:
    """Return the value of a member of JSON; raise, before it is unpacked and parsed, if it would take too much memory.

    Parameters
    ----------
    path : Path
        The file, for the message.
    archive : ZipFile
    name : str
        The member.
    limits : Limits

    Raises
    ------
    PersistenceError
        If it has too many bytes or values.
    ValueError, RecursionError
        If it is not JSON, or is nested too deep.
    """
    _check_bytes(path, name, archive.getinfo(name).file_size, limits)
    return parse_json(path, name, archive.read(name), limits)


def parse_json(path: Path, name: str, content: bytes, limits: Limits = FIXED) -> Any:
    """Return the value of a member that was read already; see `load_json`."""
    check_json(path, name, content, limits)
    return json.loads(content)


def check_json(path: Path, name: str, content: bytes, limits: Limits = FIXED) -> None:
    """Raise if a text of JSON exceeds its limits; see `load_json`.

    Values are counted before the text is parsed, by the characters that begin or separate them, also within texts.
    """
    _check_bytes(path, name, len(content), limits)
    n_values = sum(map(content.count, (b",", b"[", b"{")))
    if n_values > limits.n_values:
        raise PersistenceError(
            f"{path}: its {name} has some {n_values:,} values, and at most {limits.n_values:,} are read."
        )


def _check_bytes(path: Path, name: str, n_bytes: int, limits: Limits) -> None:
    if n_bytes > limits.n_bytes:
        raise PersistenceError(
            f"{path}: its {name} would unpack to {n_bytes:,} bytes, and at most {limits.n_bytes:,} are read."
        )
