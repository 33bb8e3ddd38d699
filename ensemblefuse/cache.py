"""Embeddings on disk, one row a cell, addressed by content. Floor 1.

Layout of the cache folder::

    v1/<recipe digest>/recipe.json      what made these vectors: class, version, parameters, digest of the weights
    v1/<recipe digest>/<writer>.seg     a segment: header, then records of one size, appended by one process only

A record is ``key (16 bytes) | crc32 of key and vector (4) | zeros (4) | vector (float32, little endian)``. One writer a
file needs no lock; a record cut short by a crash is not counted, one damaged later fails its checksum and is
encoded again. The folder is readable by its owner alone and holds digests and vectors, never content or paths.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import threading
import warnings
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemblefuse._config import get_config
from ensemblefuse.exceptions import CacheWarning

__all__ = ["EmbeddingCache", "get_cache"]

_FORMAT = "v1"
_MAGIC = b"EFSEG\x01\x00\x00"
_HEADER = len(_MAGIC) + 8
KEY_SIZE = 16


def _record_dtype(n_dims: int) -> np.dtype:
    return np.dtype([("key", f"V{KEY_SIZE}"), ("crc", "<u4"), ("pad", "<u4"), ("vector", "<f4", (n_dims,))])


def _checksum(key: bytes, vector: np.ndarray) -> int:
    return zlib.crc32(vector.tobytes(), zlib.crc32(key))


class _Shelf:
    """The segments of one recipe, as this process sees them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.Lock()
        self.pid = os.getpid()
        self.segments: dict[str, np.ndarray] = {}
        self.index: dict[bytes, tuple[str, int]] = {}
        self.writer: int | None = None
        self.writer_path = folder
        self.writer_dims = 0

    def refresh(self) -> None:
        """Map what was appended since the last look, by this process or by others."""
        try:
            found = [entry for entry in os.scandir(self.folder) if entry.name.endswith(".seg")]
        except FileNotFoundError:
            found = []
        if self.segments.keys() - {entry.name for entry in found}:  # another process cleared the cache
            self.segments.clear()
            self.index.clear()
        for entry in found:
            seen = len(self.segments.get(entry.name, ()))
            try:
                records = self._map(entry.path, entry.stat().st_size, seen)
            except FileNotFoundError:  # cleared since the folder was listed
                continue
            if records is None:
                continue
            self.segments[entry.name] = records
            keys = np.ascontiguousarray(records["key"][seen:]).tobytes()
            for i in range(len(records) - seen):
                self.index[keys[i * KEY_SIZE : (i + 1) * KEY_SIZE]] = (entry.name, seen + i)

    def _map(self, path: str, size: int, seen: int) -> np.ndarray | None:
        """Memory map of the whole records of a segment, or None if there is nothing new or it is no segment."""
        if size <= _HEADER:
            return None
        with open(path, "rb") as file:
            header = file.read(_HEADER)
        n_dims = int.from_bytes(header[len(_MAGIC) :], "little")
        if header[: len(_MAGIC)] != _MAGIC or not 0 < n_dims < 2**31:
            return None
        dtype = _record_dtype(n_dims)
        n_records = (size - _HEADER) // dtype.itemsize
        if n_records <= seen:
            return None
        return np.memmap(path, dtype=dtype, mode="r", offset=_HEADER, shape=(n_records,))

    def get(self, key: bytes) -> np.ndarray | None:
        place = self.index.get(key)
        if place is None:
            return None
        record = self.segments[place[0]][place[1]]
        vector = np.array(record["vector"], dtype=np.float32)
        if _checksum(key, vector) != record["crc"]:
            del self.index[key]  # damaged on disk: encode it again rather than serve it
            return None
        return vector

    def append(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Write a batch with one call; returns when the operating system holds it."""
        dtype = _record_dtype(vectors.shape[1])
        records = np.zeros(len(keys), dtype=dtype)
        records["vector"] = vectors
        for i, key in enumerate(keys):
            records["key"][i] = np.frombuffer(key, dtype=f"V{KEY_SIZE}")[0]
            records["crc"][i] = _checksum(key, records["vector"][i])
        if self.writer is not None and (self.writer_dims != vectors.shape[1] or self._is_gone()):
            self._close()
        try:
            if self.writer is None:
                self._open(vectors.shape[1])
            self._write(records.tobytes())
        except OSError:
            self._close()  # the header or the tail may be torn: what comes next goes into a new segment
            raise

    def _is_gone(self) -> bool:
        """Whether the segment being written was deleted, so that nobody would ever read what is appended."""
        try:
            return not os.path.samestat(os.stat(self.writer_path), os.fstat(self.writer))  # type: ignore[arg-type]
        except FileNotFoundError:
            return True

    def _write(self, content: bytes) -> None:
        data = memoryview(content)
        while data:
            data = data[os.write(self.writer, data) :]  # type: ignore[arg-type]

    def _open(self, n_dims: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{os.getpid()}-{secrets.token_hex(6)}.seg"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self.writer_path = self.folder / name
        self.writer = os.open(self.writer_path, flags, 0o600)
        self.writer_dims = n_dims
        self._write(_MAGIC + n_dims.to_bytes(8, "little"))

    def _close(self) -> None:
        if self.writer is not None:
            writer, self.writer = self.writer, None
            os.close(writer)

    def __del__(self):
        if getattr(self, "pid", None) == os.getpid():
            self._close()


class EmbeddingCache:
    """Vectors by recipe and content, shared by threads and processes. Nothing is evicted.

    Parameters
    ----------
    folder : path
        Where to keep it; made when something is first written.

    Attributes
    ----------
    n_read, n_written : int
        Rows served and rows stored by this object in this process.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from ensemblefuse.cache import EmbeddingCache
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = EmbeddingCache(folder)
    ...     cache.put({"encoder": "E"}, [b"k" * 16], np.ones((1, 3)))
    ...     found = cache.get({"encoder": "E"}, [b"k" * 16, b"?" * 16])
    >>> found
    [array([1., 1., 1.], dtype=float32), None]
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.n_read = 0
        self.n_written = 0
        self._shelves: dict[str, _Shelf] = {}
        self._lock = threading.Lock()
        _instances.add(self)

    def __reduce__(self):
        return type(self), (self.folder,)

    def _shelf(self, recipe: dict[str, Any]) -> _Shelf:
        name = recipe_digest(recipe)
        with self._lock:
            shelf = self._shelves.get(name)
            if shelf is None or shelf.pid != os.getpid():  # a fork may not write into its parent's segment
                shelf = self._shelves[name] = _Shelf(self.folder / _FORMAT / name)
            return shelf

    def get(self, recipe: dict[str, Any], keys: Sequence[bytes]) -> list[np.ndarray | None]:
        """Vectors of `keys` under `recipe`, None where there is none.

        Parameters
        ----------
        recipe : dict
            What made the vectors; JSON-serialisable.
        keys : sequence of bytes
            Digests of contents, 16 bytes each.

        Returns
        -------
        list of ndarray of shape (n_dims,), dtype float32, or None
        """
        try:
            shelf = self._shelf(recipe)
            with shelf.lock:
                if any(key not in shelf.index for key in keys):
                    shelf.refresh()
                found = [shelf.get(key) for key in keys]
        except OSError as error:
            warnings.warn(f"The embedding cache in {self.folder} cannot be read ({error}).", CacheWarning, stacklevel=3)
            return [None] * len(keys)
        self.n_read += sum(vector is not None for vector in found)
        return found

    def put(self, recipe: dict[str, Any], keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Store one vector a key. A failure to write is a warning, not an error: the vectors are at hand.

        Parameters
        ----------
        recipe : dict
            What made the vectors; JSON-serialisable.
        keys : sequence of bytes
            Digests of contents, 16 bytes each.
        vectors : array of shape (n_keys, n_dims)
            Finite numbers, stored as float32.
        """
        shelf = self._shelf(recipe)
        try:
            with shelf.lock:
                if not (shelf.folder / "recipe.json").exists():
                    self._write_recipe(shelf.folder, recipe)
                shelf.append(keys, np.ascontiguousarray(vectors, dtype=np.float32))
        except OSError as error:
            warnings.warn(
                f"The embedding cache in {self.folder} cannot be written ({error}); the results are right, but "
                "are encoded again next time. Choose another folder with set_config(cache=...).",
                CacheWarning,
                stacklevel=3,
            )
            return
        self.n_written += len(keys)

    def _write_recipe(self, folder: Path, recipe: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = folder / f".recipe-{secrets.token_hex(6)}"
        temporary.write_text(json.dumps(recipe, indent=1, sort_keys=True))
        os.replace(temporary, folder / "recipe.json")

    def info(self) -> list[dict[str, Any]]:
        """One dict a recipe: ``recipe``, ``n_rows`` (records on disk), ``n_bytes``, ``folder``."""
        rows = []
        for folder in sorted((self.folder / _FORMAT).glob("*/")):
            try:
                recipe = json.loads((folder / "recipe.json").read_text())
            except (OSError, ValueError):
                recipe = {}
            shelf = _Shelf(folder)
            shelf.refresh()
            n_bytes = sum(path.stat().st_size for path in folder.glob("*.seg"))
            rows.append({"recipe": recipe, "n_rows": len(shelf.index), "n_bytes": n_bytes, "folder": folder})
        return rows

    def verify(self) -> tuple[int, int]:
        """Check every record's checksum, also of the records that a later one with the same key replaces.

        Returns
        -------
        n_good, n_bad : int
        """
        good = bad = 0
        for row in self.info():
            shelf = _Shelf(row["folder"])
            shelf.refresh()
            for records in shelf.segments.values():
                for record in records:
                    is_good = _checksum(record["key"].tobytes(), record["vector"]) == record["crc"]
                    good += is_good
                    bad += not is_good
        return good, bad

    def clear(self) -> None:
        """Delete every vector."""
        with self._lock:
            self._shelves.clear()
        shutil.rmtree(self.folder / _FORMAT, ignore_errors=True)


def recipe_digest(recipe: dict[str, Any]) -> str:
    """Digest of a recipe, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:32]


_caches: dict[Path, EmbeddingCache] = {}
_instances: weakref.WeakSet[EmbeddingCache] = weakref.WeakSet()


def _renew_locks() -> None:
    """In the child of a fork: a lock that another thread of the parent held would never be released."""
    for cache in list(_instances):
        cache._lock = threading.Lock()  # a shelf and its lock are renewed by `_shelf`


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def get_cache() -> EmbeddingCache | None:
    """The cache that `set_config` and ``ENSEMBLEFUSE_CACHE`` choose, one object a process and folder; None when off.

    Examples
    --------
    >>> from ensemblefuse import config_context, get_cache
    >>> with config_context(cache=None):
    ...     print(get_cache())
    None
    """
    folder = get_config()["cache"]
    if folder is None:
        return None
    return _caches.setdefault(folder, EmbeddingCache(folder))
