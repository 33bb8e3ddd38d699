"""All segments of one recipe, as one process reads and writes them."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ensemblefuse.cache._index import Index
from ensemblefuse.cache._segment import BLOCK_BYTES, Segment, Writer, checksums, look_at

# A place consists of the number of a segment and the number of a row in it.
_ROW_BITS = 40
# Rows with larger gaps between them are read one by one.
_GAP_BYTES = 2**16
# Number of attempts to create a folder while another process clears the cache.
_N_ATTEMPTS = 20
# A segment is marked as used at most once in this number of seconds.
USED_GRAIN = 3600.0


class Shelf:
    """Reader of all segments of a folder, and writer of one. Callers must hold `lock`.

    Parameters
    ----------
    folder : path
    before_writing : callable of no arguments, optional
        Called before a new segment is created.
    """

    def __init__(self, folder: Path, before_writing: Callable[[], None] | None = None):
        self.folder = folder
        self.lock = threading.Lock()
        self.pid = os.getpid()
        self._before_writing = before_writing
        self._writer: Writer | None = None
        self._forget_all()

    def _forget_all(self) -> None:
        self.index = Index()
        self._segments: list[Segment] = []
        self._number: dict[str, int] = {}

    def refresh(self) -> None:
        """Read which rows any process has appended or deleted since the last call."""
        try:
            names = [name for name in os.listdir(self.folder) if name.endswith(".keys")]
        except FileNotFoundError:
            names = []
        if self._number.keys() - set(names):  # another process cleared or pruned the cache
            self._forget_all()
        for name in names:
            try:
                self._look(name)
            except OSError:  # deleted since the folder was listed, or not readable
                continue

    def _look(self, name: str) -> None:
        number = self._number.get(name)
        seen = self._segments[number].n_rows if number is not None else 0
        segment = look_at(os.path.join(self.folder, name))
        if segment is None or segment.n_rows <= seen:
            return
        entries = segment.entries(seen)
        if not len(entries):
            return
        segment = segment._replace(n_rows=seen + len(entries))
        if number is None:
            number = self._number[name] = len(self._segments)
            self._segments.append(segment)
        self._segments[number] = segment
        places = (number << _ROW_BITS) + np.arange(seen, seen + len(entries), dtype=np.int64)
        self.index.add(entries["key"].copy(), places, entries["sum"].copy())

    # ------------------------------------------------------------------ reading

    def read(self, keys: np.ndarray, has_key: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return which keys were found, and their vectors; see `EmbeddingCache.get_many`."""
        found = np.zeros(len(keys), dtype=bool)
        out = np.empty((len(keys), 0), dtype=np.float32)
        todo = np.arange(len(keys)) if has_key is None else np.flatnonzero(has_key)
        places, sums = self.index.find(keys[todo])
        if (places < 0).any():
            self.refresh()
            places, sums = self.index.find(keys[todo])
        # Each round reads what the one before could not: an older row instead of a damaged one, or a row's new place.
        for _ in range(8):
            there = places >= 0
            todo, places, sums = todo[there], places[there], sums[there]
            if not len(todo):
                break
            numbers = places >> _ROW_BITS
            n_dims = np.array([segment.n_dims for segment in self._segments])[numbers]
            if out.shape[1] == 0:
                out = _empty(len(keys), _most_frequent(n_dims))
            fits = n_dims == out.shape[1]
            todo, places, sums = todo[fits], places[fits], sums[fits]
            good, is_gone = self._read_places(places, sums, keys, out, todo)
            found[todo[good]] = True
            self.index.drop(places[~good])
            todo = todo[~good]
            if not len(todo):
                break
            if is_gone:
                self.refresh()
            places, sums = self.index.find(keys[todo])
        if not found.any():
            return found, np.empty((len(keys), 0), dtype=np.float32)
        out[~found] = np.nan
        return found, out

    def _read_places(
        self, places: np.ndarray, sums: np.ndarray, keys: np.ndarray, out: np.ndarray, targets: np.ndarray
    ) -> tuple[np.ndarray, bool]:
        """Read the rows at `places` into `out[targets]`. Return a mask of good rows, and whether a segment is gone."""
        good = np.zeros(len(places), dtype=bool)
        is_gone = False
        in_order = bool((places[1:] >= places[:-1]).all())
        order = np.arange(len(places)) if in_order else np.argsort(places, kind="stable")
        numbers = places[order] >> _ROW_BITS
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(order)]
        for start, stop in itertools.pairwise(edges):
            if start == stop:
                continue
            part, segment = order[start:stop], self._segments[numbers[start]]
            rows = places[part] & ((1 << _ROW_BITS) - 1)
            try:
                good[part] = _read_rows(segment, rows, keys[targets[part]], sums[part], out, targets[part])
            except FileNotFoundError:
                is_gone = True
                continue
            except OSError:  # the disk cannot read it, so it is encoded again
                continue
            if time.time() - segment.used > USED_GRAIN:
                segment.touch()
                self._segments[numbers[start]] = segment._replace(used=time.time())
        return good, is_gone

    # ------------------------------------------------------------------ writing

    def append(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        """Append rows to this process's segment, or to a new one if another process has deleted it."""
        writer, self._writer = self._writer, None  # after an error, the next rows go to a new segment
        if writer is not None and writer.n_dims == vectors.shape[1] and writer.append(keys, vectors):
            self._writer = writer
            return
        for attempt in range(_N_ATTEMPTS):
            try:
                writer = self._open(vectors.shape[1])
            except (FileNotFoundError, FileExistsError):  # the folder was deleted during or after its creation
                if attempt == _N_ATTEMPTS - 1:
                    raise
                continue
            if writer.append(keys, vectors):
                self._writer = writer
                return
        raise FileNotFoundError(f"{self.folder} was deleted repeatedly during writing")

    def _open(self, n_dims: int) -> Writer:
        for folder in (*reversed(self.folder.parents[:2]), self.folder):  # mkdir gives the mode only to the last folder
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._before_writing is not None:
            self._before_writing()
        return Writer(self.folder, n_dims)


def _empty(n_rows: int, n_dims: int) -> np.ndarray:
    """Return an array that begins at a page of memory, like the rows in their file. Reading is a third faster so."""
    n, page = n_rows * n_dims, 1024
    numbers = np.empty(n + page, dtype=np.float32)
    start = -(numbers.ctypes.data // 4) % page
    return numbers[start : start + n].reshape(n_rows, n_dims)


def _most_frequent(numbers: np.ndarray) -> int:
    values, counts = np.unique(numbers, return_counts=True)
    return int(values[np.argmax(counts)])


def _read_rows(
    segment: Segment, rows: np.ndarray, keys: np.ndarray, sums: np.ndarray, out: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Read ascending `rows` of a segment into `out[targets]`. Return a mask of those with a correct checksum."""
    good = np.zeros(len(rows), dtype=bool)
    step = max(1, BLOCK_BYTES // segment.row_bytes)
    jumps = np.flatnonzero(np.diff(rows) > max(1, _GAP_BYTES // segment.row_bytes)) + 1
    stops = np.append(jumps, len(rows))
    in_order = (np.diff(rows) == 1) & (np.diff(targets) == 1)
    start = 0
    with open(segment.vectors_path, "rb", buffering=0) as file:
        while start < len(rows):
            stop = int(min(np.searchsorted(rows, rows[start] + step), stops[np.searchsorted(stops, start, "right")]))
            first, n = int(rows[start]), int(rows[stop - 1] - rows[start]) + 1
            is_direct = bool(in_order[start : stop - 1].all())
            target = int(targets[start])
            block = out[target : target + n] if is_direct else np.empty((n, segment.n_dims), dtype=np.float32)
            file.seek(first * segment.row_bytes)
            _fill(file, block)
            part = slice(start, stop)
            picked = block if n == stop - start and is_direct else block[rows[part] - first]
            good[part] = checksums(keys[part], picked) == sums[part]
            if not is_direct:
                out[targets[part]] = picked
            start = stop
    return good


def _fill(file, block: np.ndarray) -> None:
    """Read into an array until it is full or the file ends. The rest becomes zero and fails its checksum."""
    data = block.view(np.uint8).reshape(-1).data
    while data:
        n = file.readinto(data)
        if not n:
            data[:] = bytes(len(data))
            return
        data = data[n:]
