"""Methods of the cache that remove vectors: `prune`, `forget`, `clear`."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ensemblefuse.cache._inspect import is_last, recipe_folders, size_of
from ensemblefuse.cache._recipe import NAME
from ensemblefuse.cache._segment import FILES, FORMAT, Segment, Writer, as_keys, erase, segments_in
from ensemblefuse.cache.cell_digests import keys_of
from ensemblefuse.cache.file_digests import DIGEST_SIZE, flush_file_digests, forget_file_digests, key_of_digest
from ensemblefuse.exceptions import CacheWarning

_DAY = 86400.0
# Younger files without a segment may belong to a writer that has just begun.
_STRAY_AGE = 3600.0
_TRASH = ".trash-"
# Segments of fewer bytes are joined: every process that writes leaves one.
_SMALL = 2**20


class Pruned(NamedTuple):
    """The result of `EmbeddingCache.prune`."""

    n_rows: int
    """Vectors that can no longer be returned."""
    n_bytes: int
    """Bytes that were freed."""


class Upkeep:
    """The part of `EmbeddingCache` that removes vectors. Other processes may read and write meanwhile."""

    folder: Path

    def prune(self, *, max_bytes: int | None = None, unused_days: float | None = None) -> Pruned:
        """Remove damaged, superseded and erased records. With a limit, also remove the least recently used ones.

        A segment holds what one process wrote for one recipe. Its last use is its last writing or reading; the
        modification time of its file stores it, and is updated at most once per hour. Small segments of a recipe are
        joined to one. If another process appends vectors to a segment at the moment of its removal, they are encoded
        again later.

        Parameters
        ----------
        max_bytes : int, optional
            Remove segments, the least recently used first, until the cache has at most this size.
        unused_days : float, optional
            Remove segments that were not used for this number of days.

        Returns
        -------
        Pruned
            ``n_rows``, the number of good vectors that were removed, and ``n_bytes``, the number of freed bytes.

        Raises
        ------
        ValueError
            If a limit is negative.
        """
        for name, limit in (("max_bytes", max_bytes), ("unused_days", unused_days)):
            if limit is not None and not limit >= 0:
                raise ValueError(f"{name} must not be negative; got {limit}.")
        before, n_rows = size_of(self.folder), 0
        with exclusive(self.folder):
            folders = _all_folders(self.folder)
            if unused_days is not None:
                since = time.time() - unused_days * _DAY
                old = [segment for folder in folders for segment in segments_in(folder) if segment.used < since]
                n_rows += _remove(old)
            for folder in folders:
                try:
                    _compact(folder)
                except FileNotFoundError:  # cleared by another process
                    continue
                except OSError as error:
                    warnings.warn(f"{folder} could not be compacted ({error}).", CacheWarning, stacklevel=2)
            if max_bytes is not None:
                n_rows += self._shrink(max_bytes)
            for folder in folders:
                _remove_strays(folder)
        return Pruned(n_rows, max(0, before - size_of(self.folder)))

    def _shrink(self, max_bytes: int) -> int:
        segments = [segment for folder in _all_folders(self.folder) for segment in segments_in(folder)]
        segments.sort(key=lambda segment: segment.used)
        size, n_rows = size_of(self.folder), 0
        for segment in segments:
            if size <= max_bytes:
                break
            n_rows += _remove([segment])
            size -= segment.n_bytes
        return n_rows

    def forget(self, cells: Sequence[Any], *, encoder: Any = None) -> int:
        """Overwrite the vectors of these contents on disk, for all recipes, with older duplicates.

        Stored digests of files with these contents are overwritten too. `prune` frees the space, and removes records
        whose key is damaged. A list of pictures is one cell: to forget its vector, pass the list.

        Parameters
        ----------
        cells : sequence
            Texts, paths of files (which must still exist), bytes, arrays, images: as an encoder takes them.
        encoder : encoder, optional
            Determines whether a str is a path or a text. Without an encoder it is both, if such a file exists.

        Returns
        -------
        int
            Number of overwritten records.

        Raises
        ------
        OSError
            If a file does not exist, so that its content is unknown, or if the cache cannot be written.
        """
        if isinstance(cells, (str, bytes, os.PathLike)):
            cells = [cells]
        return sum(self.forget_keys({key for cell in cells for key in keys_of(cell, encoder)}).values())

    def forget_keys(self, keys: Set[bytes]) -> Counter[bytes]:
        """Overwrite vectors as `forget` does, by keys from `cell_digest`. Return the number of records for each key."""
        erased: Counter[bytes] = Counter()
        if not keys:
            return erased
        flush_file_digests()  # otherwise pending digests would be written after this
        with exclusive(self.folder):
            for folder in recipe_folders(self.folder):
                for segment in segments_in(folder, strict=True):
                    with contextlib.suppress(FileNotFoundError):  # cleared by another process
                        erased.update(_erase_keys(segment, keys))
            for segment in segments_in(self.folder / FORMAT / FILES, strict=True):
                with contextlib.suppress(FileNotFoundError):
                    _erase_file_digests(segment, keys)
        return erased

    def clear(self) -> None:
        """Delete all vectors and all stored digests of files."""
        forget_file_digests()
        with exclusive(self.folder):
            _discard(self.folder, self.folder / FORMAT)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock the cache, so that one process at a time moves, erases or exports rows. Works only on POSIX."""
    try:
        import fcntl

        lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
    except (ImportError, FileNotFoundError, NotADirectoryError):  # no lock on this system, or no folder to protect
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _all_folders(folder: Path) -> list[Path]:
    return [*recipe_folders(folder), folder / FORMAT / FILES]


def _remove(segments: list[Segment]) -> int:
    """Delete segments. Return the number of their rows; digests of files do not count as rows."""
    removed = [segment for segment in segments if segment.remove()]
    return sum(segment.n_rows for segment in removed if Path(segment.keys_path).parent.name != FILES)


# ---------------------------------------------------------------------- compaction


def live_rows(segments: list[Segment]) -> list[np.ndarray]:
    """Return for each segment a mask of the rows that are good and not superseded by a later row."""
    good, keys = [], [np.empty((0, 2), dtype=np.uint64)]
    for segment in segments:
        mask = np.zeros(segment.n_rows, dtype=bool)
        start = 0
        with contextlib.suppress(FileNotFoundError):
            for entries, _, is_good in segment.blocks():
                mask[start : start + len(entries)] = is_good
                keys.append(entries["key"][is_good])
                start += len(entries)
        good.append(mask)
    last, start = is_last(np.concatenate(keys)), 0
    for mask in good:
        n = int(mask.sum())
        mask[mask] = last[start : start + n]
        start += n
    return good


def _compact(folder: Path) -> None:
    """Rewrite the segments with dead rows, and the small ones, to one segment for each length of vectors."""
    segments = sorted(segments_in(folder), key=lambda segment: segment.used)
    live = live_rows(segments)
    small = [segment.n_bytes < _SMALL for segment in segments]
    for n_dims in {segment.n_dims for segment in segments}:
        group = [i for i, segment in enumerate(segments) if segment.n_dims == n_dims]
        join = sum(small[i] for i in group) > 1
        chosen = [i for i in group if not live[i].all() or segments[i].has_tail() or (join and small[i])]
        if chosen:
            _rewrite(folder, [(segments[i], live[i]) for i in chosen])


def _rewrite(folder: Path, parts: list[tuple[Segment, np.ndarray]]) -> None:
    """Copy the live rows to a new segment, then delete the old ones. A crash in between leaves both."""
    if any(live.any() for _, live in parts):
        writer = Writer(folder, parts[0][0].n_dims)
        try:
            for segment, live in parts:
                start = 0
                for entries, rows, good in segment.blocks():
                    chosen = good & live[start : start + len(entries)]
                    start += len(entries)
                    if chosen.any() and not writer.append(entries["key"][chosen], rows[chosen]):
                        raise FileNotFoundError(f"{writer.keys_path} was deleted during writing")
        except BaseException:
            writer.n_rows = 0
            writer.abandon()
            raise
        with contextlib.suppress(OSError):
            os.utime(writer.keys_path, (parts[-1][0].used,) * 2)
    for segment, _ in parts:
        if not segment.has_grown():  # its writer has appended rows; the next prune removes the copied ones
            segment.remove()


def _remove_strays(folder: Path) -> None:
    """Delete files of writers that stopped before their first row, and a folder without segments."""
    try:
        segments = segments_in(folder, strict=True)
    except OSError:  # files that cannot be read now must stay
        return
    known = {path for segment in segments for path in (segment.keys_path, segment.vectors_path)}
    with contextlib.suppress(OSError):
        others = [entry for entry in os.scandir(folder) if entry.path not in known]
        old = [entry for entry in others if time.time() - entry.stat().st_mtime > _STRAY_AGE]
        if not segments and len(old) == len(others):
            _discard(folder.parents[1], folder)
            return
        for entry in old:
            if entry.name != NAME:
                os.unlink(entry.path)


def _discard(root: Path, folder: Path) -> None:
    """Rename a folder, then delete it: no writer can then add a segment to a folder whose recipe is deleted."""
    try:
        os.rename(folder, root / f"{_TRASH}{secrets.token_hex(6)}")
    except OSError:  # some systems do not rename a folder with open files
        shutil.rmtree(folder, ignore_errors=True)
    for trash in root.glob(f"{_TRASH}*"):
        shutil.rmtree(trash, ignore_errors=True)


# ---------------------------------------------------------------------- forgetting


def _erase_keys(segment: Segment, keys: Set[bytes]) -> list[bytes]:
    """Overwrite the rows of these keys. Return the key of each overwritten row."""
    entries = segment.entries()
    near = np.flatnonzero(np.isin(entries["key"][:, 0], as_keys(list(keys))[:, 0]))
    rows = [row for row in near.tolist() if entries["key"][row].tobytes() in keys]
    erase(segment, rows)
    return [entries["key"][row].tobytes() for row in rows]


def _erase_file_digests(segment: Segment, keys: Set[bytes]) -> None:
    if segment.row_bytes != DIGEST_SIZE:
        return
    rows, start = [], 0
    for entries, values, _ in segment.blocks():
        rows += [start + i for i, value in enumerate(values) if key_of_digest(value.tobytes()) in keys]
        start += len(entries)
    erase(segment, rows)
