"""Digests of files, stored by path, size, times, inode and device: in the process, and in the cache folder.

A stored digest is never older than its file. If the status of a file changed less than two seconds before the reading,
its digest is not stored, because the file may change again within one tick of the clock. Some file systems (FAT) do not
store the time of the last change of status: there, a file that is rewritten with the same modification time and size is
not detected.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import stat
import threading
import time
from pathlib import Path

import numpy as np

from ensemblefuse._config import get_config
from ensemblefuse.cache._segment import FILES, FORMAT, KEY_SIZE, as_keys
from ensemblefuse.cache._shelf import Shelf
from ensemblefuse.cache._trust import is_trusted
from ensemblefuse.cells.misread import was_misread

# A file whose status changed within this time may change again with the same time stamp.
_CLOCK_GRAIN_NS = 2_000_000_000
DIGEST_SIZE = 32
# Number of digests that are written to the cache folder at once.
_N_PENDING = 512

# Path -> status, and the digest followed by the cell's key.
_known: dict[str | bytes, tuple[tuple, bytes]] = {}
_lock = threading.Lock()


def file_digest(path: str | os.PathLike) -> str:
    """Return the sha256 of a file in hex. It is stored by path and status, unless the file is only seconds old.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        As from `open`.
    OSError
        If it is not a regular file.
    """
    return _digests(os.fspath(path))[:DIGEST_SIZE].hex()


def file_key(path: str, *, former: bool = False) -> bytes:
    """Return the result of `cell_digest` for a file."""
    both = _digests(path)
    return key_of_digest(both[:DIGEST_SIZE]) if former else both[DIGEST_SIZE:]


def file_token(path: str | os.PathLike, *, former: bool = False) -> bytes:
    """Return what stands for a file's content in the key of a list; see `content_token`."""
    both = _digests(os.fspath(path))
    is_misread = not former and both[DIGEST_SIZE:] != key_of_digest(both[:DIGEST_SIZE])
    return content_token(both[:DIGEST_SIZE], is_misread)


def content_token(digest: bytes, is_misread: bool = False) -> bytes:
    """Return what stands for a content in a key: its sha256 in hex, and a mark if versions before 0.2 misread it."""
    return digest.hex().encode() + (b" read anew" if is_misread else b"")


def key_of_digest(digest: bytes, is_misread: bool = False) -> bytes:
    """Return the key of a file's content, from its sha256; see `content_token`."""
    content = content_token(digest, is_misread)
    return hashlib.sha256(b"file:%d:%s" % (len(content), content)).digest()[:KEY_SIZE]


def _facts(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev


def _digests(path: str | bytes) -> bytes:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        # Not even opened: that may wait for the writer of a pipe, and some devices act on it.
        raise OSError(f"{os.fsdecode(path)!r} is not a regular file, but a pipe, a socket or a device")
    facts = _facts(status)
    known = _known.get(path)
    if known is not None and known[0] == facts:
        return known[1]
    place = hashlib.sha256(os.fsencode(path) + b"\0" + repr(facts).encode()).digest()[:KEY_SIZE]
    memory = _memory()
    digest = memory.find(place) if memory is not None else None
    is_settled = digest is not None
    if digest is None:
        now = time.time_ns()  # before the file's status is read: later changes have a later time
        with open(path, "rb", opener=_open_regular) as file:
            is_settled = facts == _facts(os.fstat(file.fileno())) and now - facts[2] > _CLOCK_GRAIN_NS
            digest = hashlib.file_digest(file, "sha256").digest()
        if is_settled and memory is not None:
            memory.add(place, digest)
    with open(path, "rb") as file:
        both = digest + key_of_digest(digest, was_misread(file))
    if is_settled:
        _known[path] = (facts, both)
    return both


def _open_regular(path: str, flags: int) -> int:
    """Open a regular file or a directory. Refuse what has become a device or a pipe since it was looked at."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        os.close(descriptor)
        raise OSError(f"{os.fsdecode(path)!r} is not a regular file, but a pipe, a socket or a device")
    return descriptor


class _Memory:
    """The digests in a cache folder. A process reads them once, and writes new ones in groups."""

    def __init__(self, folder: Path):
        self._shelf = Shelf(folder)
        self._pending: list[tuple[bytes, bytes]] = []
        self._first = self._second = np.empty(0, dtype=np.uint64)
        self._digests = np.empty((0, DIGEST_SIZE), dtype=np.uint8)
        with contextlib.suppress(OSError):
            self._load()

    def _load(self) -> None:
        self._shelf.refresh()
        keys = self._shelf.index.keys()
        found, values = self._shelf.read(keys)
        if 4 * values.shape[1] == DIGEST_SIZE:
            order = np.flatnonzero(found)[np.argsort(keys[found, 0], kind="stable")]
            self._first, self._second = np.ascontiguousarray(keys[order].T)
            self._digests = values[order].view(np.uint8)

    def find(self, place: bytes) -> bytes | None:
        """Return the digest of the file with this hash of path and status; None if unknown."""
        first, second = np.frombuffer(place, dtype="<u8")
        i = int(self._first.searchsorted(first))
        while i < len(self._first) and self._first[i] == first:
            if self._second[i] == second:
                return self._digests[i].tobytes()
            i += 1
        return None

    def add(self, place: bytes, digest: bytes) -> None:
        """Store a digest; it is written with the next group."""
        with _lock:
            self._pending.append((place, digest))
        if len(self._pending) >= _N_PENDING:
            self.flush()

    def flush(self) -> None:
        """Write all added digests, if the cache folder exists.

        If the folder cannot be written, the next process only needs more time.
        """
        if not self._pending or not self._shelf.folder.parent.is_dir():
            return
        with _lock:
            pending, self._pending = self._pending, []
        keys = as_keys([place for place, _ in pending])
        values = np.frombuffer(b"".join(digest for _, digest in pending), dtype="<f4").reshape(-1, DIGEST_SIZE // 4)
        with contextlib.suppress(OSError), self._shelf.lock:
            if len(keys):
                self._shelf.append(keys, values)


_memories: dict[str | None, _Memory | None] = {}


def _memory() -> _Memory | None:
    """Return the stored digests of the current cache folder; None if the cache is off."""
    setting = os.environ.get("ENSEMBLEFUSE_CACHE")
    with _lock:
        if setting not in _memories:
            folder = get_config()["cache"]
            usable = folder is not None and is_trusted(folder)
            _memories[setting] = _Memory(folder / FORMAT / FILES) if folder is not None and usable else None
        return _memories[setting]


def flush_file_digests() -> None:
    """Write all digests of files that are not in the cache folder yet."""
    for memory in list(_memories.values()):
        if memory is not None:
            memory.flush()


def forget_file_digests() -> None:
    """Drop all digests in memory. The next call reads the cache folder again, and files without a digest in it."""
    _known.clear()
    with _lock:
        _memories.clear()


def _renew() -> None:
    """Give the child of a fork its own lock and segment. The parent writes its pending digests itself."""
    global _lock
    _lock = threading.Lock()
    _memories.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
atexit.register(flush_file_digests)
