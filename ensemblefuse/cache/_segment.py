"""Segments: each is a file of keys and a file of vectors, appended by one process and read by all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, BinaryIO, NamedTuple

import numpy as np

FORMAT = "v2"
# Name of the folder with digests of files, beside the folders of recipes.
FILES = "files"
KEY_SIZE = 16
_MAGIC = b"EFKEYS\x02\x00"
_HEADER = np.dtype([("magic", f"V{len(_MAGIC)}"), ("n_dims", "<u8"), ("sum", "<u8")])
ENTRY = np.dtype([("key", "<u8", (2,)), ("sum", "<u8")])
# Rows are read and checked in blocks that stay in the processor's cache.
BLOCK_BYTES = 2**21
_ODD = np.uint64(0x9E3779B97F4A7C15)
_FOLD = np.uint64(29)


@lru_cache(maxsize=16)
def _weights(n: int) -> np.ndarray:
    """Return odd pseudorandom numbers of 64 bits (splitmix64 of 1, 2, ...)."""
    x = np.arange(1, n + 1, dtype=np.uint64) * _ODD
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return (x ^ (x >> np.uint64(31))) | np.uint64(1)


def checksums(keys: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Compute a 64-bit checksum of each row's key and vector, for all rows at once.

    Each word of 64 bits is folded (xor with itself shifted) and multiplied by a fixed odd number, and all are summed.
    A change within one word always changes the sum, because odd numbers have inverses. Without the fold, the highest
    bits of two words would cancel out. Any other damage is not detected in about one of 2**60 cases.

    Parameters
    ----------
    keys : array of shape (n, 2), dtype uint64
    vectors : array of shape (n, n_dims), dtype float32, C-contiguous

    Returns
    -------
    array of shape (n,), dtype uint64
    """
    n_dims = vectors.shape[1]
    if n_dims % 2:
        vectors = np.concatenate([vectors, np.zeros((len(vectors), 1), dtype="<f4")], axis=1)
    words = vectors.view("<u8")
    weights = _weights(words.shape[1] + 2)
    sums = np.einsum("ij,j->i", _folded(words), weights[2:])
    sums += np.einsum("ij,j->i", _folded(keys), weights[:2])
    sums += np.array([n_dims], dtype=np.uint64) * _ODD  # an array, because scalars warn of overflow
    return sums


def _folded(words: np.ndarray) -> np.ndarray:
    folded = words >> _FOLD
    folded ^= words
    return folded


def as_keys(keys: Any) -> np.ndarray:
    """Return digests of 16 bytes as an array of shape (n, 2), dtype uint64."""
    joined = b"".join(keys)
    if len(joined) != KEY_SIZE * len(keys):
        raise ValueError(f"keys must have {KEY_SIZE} bytes each.")
    return np.frombuffer(joined, dtype="<u8").reshape(-1, 2)


def header_of(n_dims: int) -> bytes:
    """Return the first bytes of a file of keys."""
    header = np.zeros(1, dtype=_HEADER)
    header["magic"], header["n_dims"] = np.void(_MAGIC), n_dims
    header["sum"] = (n_dims + 1) * int(_ODD) % 2**64
    return header.tobytes()


def read_header(file: BinaryIO) -> int | None:
    """Return the length of a vector; None if this is not a file of keys."""
    content = file.read(_HEADER.itemsize)
    if len(content) < _HEADER.itemsize or not content.startswith(_MAGIC):
        return None
    n_dims = int(np.frombuffer(content, dtype=_HEADER)["n_dims"][0])
    return n_dims if 0 < n_dims < 2**31 and content == header_of(n_dims) else None


class Segment(NamedTuple):
    """The state of a segment when it was read."""

    keys_path: str
    n_dims: int
    n_rows: int
    n_bytes: int
    used: float
    """Time of the last writing or reading (to the hour)."""

    @property
    def name(self) -> str:
        """Return the name of the file of keys."""
        return os.path.basename(self.keys_path)

    @property
    def vectors_path(self) -> str:
        """Return the path of the file of vectors."""
        return self.keys_path.removesuffix(".keys") + ".vectors"

    @property
    def row_bytes(self) -> int:
        """Return the number of bytes of a vector."""
        return 4 * self.n_dims

    def entries(self, start: int = 0) -> np.ndarray:
        """Return keys and checksums from row `start` on; fewer than expected if the file was truncated."""
        with open(self.keys_path, "rb") as file:
            file.seek(_HEADER.itemsize + start * ENTRY.itemsize)
            content = file.read((self.n_rows - start) * ENTRY.itemsize)
        return np.frombuffer(content, dtype=ENTRY, count=len(content) // ENTRY.itemsize)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield all rows in blocks: entries, vectors, and a mask of the undamaged rows."""
        with open(self.keys_path, "rb") as keys, open(self.vectors_path, "rb") as vectors:
            keys.seek(_HEADER.itemsize)
            yield from read_blocks(keys, vectors, self.n_dims, self.n_rows)

    def remove(self) -> bool:
        """Delete both files, first the keys, without which no vectors are read. Return whether the segment is gone."""
        try:
            os.unlink(self.keys_path)
        except FileNotFoundError:
            pass
        except OSError:  # some systems do not delete a file that another process has open
            return False
        with contextlib.suppress(OSError):
            os.unlink(self.vectors_path)
        return True

    def sizes(self) -> tuple[int, int] | None:
        """Return the bytes of both files; None if they were deleted."""
        try:
            return os.stat(self.keys_path).st_size, os.stat(self.vectors_path).st_size
        except FileNotFoundError:
            return None

    def has_tail(self) -> bool:
        """Return whether the files hold more than whole rows."""
        sizes = self.sizes()
        return sizes is not None and sum(sizes) != _HEADER.itemsize + self.n_rows * (ENTRY.itemsize + self.row_bytes)

    def has_grown(self) -> bool:
        """Return whether rows have been appended since the segment was read."""
        with contextlib.suppress(OSError):
            now = look_at(self.keys_path)
            return now is not None and now.n_rows > self.n_rows
        return False

    def touch(self) -> None:
        """Set the time of the last use to now."""
        with contextlib.suppress(OSError):
            os.utime(self.keys_path)


def look_at(path: str) -> Segment | None:
    """Return the segment of a file of keys; None if it has no whole row yet or is not such a file.

    Raises
    ------
    OSError
        If the files cannot be read.
    """
    status = os.stat(path)
    n_rows = (status.st_size - _HEADER.itemsize) // ENTRY.itemsize
    if n_rows <= 0 or not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        n_dims = read_header(file)
    if n_dims is None:
        return None
    size = os.stat(path.removesuffix(".keys") + ".vectors").st_size
    n_rows = min(n_rows, size // (4 * n_dims))
    return Segment(path, n_dims, n_rows, status.st_size + size, status.st_mtime) if n_rows else None


def segments_in(folder: str | os.PathLike, *, strict: bool = False) -> list[Segment]:
    """Return the segments of a folder by name. One that cannot be read is left out, or an `OSError` if `strict`."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".keys"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for name in names:
        with contextlib.suppress(FileNotFoundError if strict else OSError):
            segment = look_at(os.path.join(folder, name))
            if segment is not None:
                found.append(segment)
    return found


def read_blocks(
    keys: Any, vectors: Any, n_dims: int, n_rows: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield entries, vectors and a mask of undamaged rows, from two open files at their first row."""
    step = max(1, BLOCK_BYTES // (4 * n_dims))
    for start in range(0, n_rows, step):
        wanted = min(step, n_rows - start)
        content, numbers = keys.read(wanted * ENTRY.itemsize), vectors.read(wanted * 4 * n_dims)
        n = min(len(content) // ENTRY.itemsize, len(numbers) // (4 * n_dims))
        if n == 0:
            return
        entries = np.frombuffer(content, dtype=ENTRY, count=n)
        rows = np.frombuffer(numbers, dtype="<f4", count=n * n_dims).reshape(n, n_dims)
        yield entries, rows, checksums(entries["key"], rows) == entries["sum"]
        if n < wanted:
            return


def is_erased(entries: np.ndarray) -> np.ndarray:
    """Return a mask of the rows that `EmbeddingCache.forget` has overwritten."""
    return (entries["sum"] == 0) & (entries["key"] == 0).all(axis=1)


def erase(segment: Segment, rows: list[int]) -> None:
    """Overwrite rows with zeros, the vectors first: a concurrent reader then finds a wrong checksum."""
    if not rows:
        return
    with open(segment.vectors_path, "r+b") as vectors, open(segment.keys_path, "r+b") as keys:
        for row in rows:
            vectors.seek(row * segment.row_bytes)
            vectors.write(bytes(segment.row_bytes))
        vectors.flush()
        for row in rows:
            keys.seek(_HEADER.itemsize + row * ENTRY.itemsize)
            keys.write(bytes(ENTRY.itemsize))


class Writer:
    """Writer of a new segment. Do not use it after an error, because the files may be incomplete.

    The files are only open during a call. So any number of recipes can be written, and files can be deleted meanwhile.
    """

    def __init__(self, folder: str | os.PathLike, n_dims: int):
        self.n_dims = n_dims
        self.n_rows = 0
        self.keys_path = os.path.join(folder, f"{os.getpid()}-{secrets.token_hex(6)}.keys")
        self._paths = (self.keys_path.removesuffix(".keys") + ".vectors", self.keys_path)
        try:
            with self._open(os.O_CREAT | os.O_EXCL) as (_, keys):
                _write(keys, header_of(n_dims))
        except BaseException:
            self.abandon()
            raise

    @contextlib.contextmanager
    def _open(self, flags: int = 0) -> Iterator[list[int]]:
        flags |= os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
        with contextlib.ExitStack() as stack:
            files = []
            for path in self._paths:
                files.append(os.open(path, flags, 0o600))
                stack.callback(os.close, files[-1])
            yield files

    def append(self, keys: np.ndarray, vectors: np.ndarray) -> bool:
        """Write rows to the operating system. Return False if something else has changed or deleted the files."""
        entries = np.empty(len(keys), dtype=ENTRY)
        entries["key"], entries["sum"] = keys, checksums(keys, vectors)
        sizes = [4 * self.n_dims * self.n_rows, _HEADER.itemsize + ENTRY.itemsize * self.n_rows]
        try:
            with self._open() as files:
                if [os.fstat(file).st_size for file in files] != sizes:
                    return False
                _write(files[0], vectors.view(np.uint8))
                _write(files[1], entries.tobytes())
        except FileNotFoundError:  # deleted: appended rows would never be read
            return False
        except BaseException:
            self.abandon()
            raise
        self.n_rows += len(keys)
        return True

    def abandon(self) -> None:
        """Delete the files if they have no row."""
        if self.n_rows == 0:
            for path in reversed(self._paths):
                with contextlib.suppress(OSError):
                    os.unlink(path)


def _write(file: int, content: Any) -> None:
    data = memoryview(content).cast("B")
    while data:
        data = data[os.write(file, data) :]
