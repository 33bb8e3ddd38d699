"""Methods of the cache that show and check its content: `info`, `stats`, `verify`."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ensemblefuse._config import config_context
from ensemblefuse.cache._recipe import NAME, read_recipe
from ensemblefuse.cache._segment import FILES, FORMAT, Segment, is_erased, segments_in
from ensemblefuse.cache.cell_digests import cell_digest
from ensemblefuse.table import is_missing, to_frame


class Verification(NamedTuple):
    """The result of `EmbeddingCache.verify`."""

    n_good: int
    """Records with a correct checksum."""
    n_bad: int
    """Records that were damaged on disk; they are never returned."""
    n_compared: int = 0
    """Cells that were encoded again."""
    differing: tuple[tuple[int, float], ...] = ()
    """Position in `cells` and relative distance, for each vector that differs from the stored one."""


class Inspection:
    """The part of `EmbeddingCache` that reads and changes nothing."""

    folder: Path

    def info(self) -> list[dict[str, Any]]:
        """Return one dict for each recipe. Only keys are read.

        Returns
        -------
        list of dict
            ``recipe`` (empty if its file is damaged), ``n_rows`` (different keys on disk), ``n_bytes``, ``folder``,
            ``last_used`` (datetime; to the hour).
        """
        rows = []
        for folder in recipe_folders(self.folder):
            segments = segments_in(folder)
            row = {
                "recipe": read_recipe(folder) or {},
                "n_rows": _count(segments)["n_rows"],
                "n_bytes": sum(segment.n_bytes for segment in segments),
                "folder": folder,
                "last_used": max((_time(segment.used) for segment in segments), default=None),
            }
            rows.append(row)
        return rows

    def stats(self, *, check: bool = False) -> dict[str, Any]:
        """Return counts, sizes and times of the cache.

        Parameters
        ----------
        check : bool
            Whether to read every vector and count the damaged ones.

        Returns
        -------
        dict
            ``n_recipes``, ``n_segments``, ``n_rows`` (vectors that can be returned), ``n_superseded`` (records whose
            key occurs again later; either may be returned), ``n_erased`` (by `forget`), ``n_damaged`` (None without
            `check`), ``n_bytes`` (all files), ``created`` and ``last_used`` (datetime, None if the cache is empty).
            `prune` removes superseded, erased and damaged records.
        """
        counts = {"n_rows": 0, "n_superseded": 0, "n_erased": 0, "n_damaged": 0}
        folders = recipe_folders(self.folder)
        segments = []
        for folder in folders:
            found = segments_in(folder)
            segments += found
            for name, n in _count(found, check=check).items():
                counts[name] += n
        times = [segment.used for segment in segments]
        made = [status.st_mtime for status in (_status(folder / NAME) for folder in folders) if status is not None]
        return {
            "n_recipes": len(folders),
            "n_segments": len(segments),
            **counts,
            "n_damaged": counts["n_damaged"] if check else None,
            "n_bytes": size_of(self.folder),
            "created": _time(min(made + times)) if made + times else None,
            "last_used": _time(max(times)) if times else None,
        }

    def verify(
        self,
        *,
        encoder: Any = None,
        cells: Sequence[Any] | None = None,
        sample: int | None = None,
        tolerance: float = 1e-3,
    ) -> Verification:
        """Check the checksum of every record. With an encoder, also encode cells again and compare.

        Parameters
        ----------
        encoder : encoder, optional
            The encoder whose vectors to compare. It is cloned, and encodes without the cache.
        cells : sequence, optional
            Cells for the encoder; those that are not in the cache are left out.
        sample : int, optional
            Number of cells to encode, drawn at random in each call; by default all that are in the cache.
        tolerance : float
            Largest distance of two vectors that count as equal, as a share of the stored one's length. Another batch
            size changes an embedding by about 1e-6.

        Returns
        -------
        Verification
            ``n_good``, ``n_bad``, ``n_compared``, ``differing``.

        Raises
        ------
        ValueError
            If only one of `encoder` and `cells` is given, or the encoder's vectors are never cached.
        EncodingError
            If a cell can no longer be encoded.
        """
        if (encoder is None) != (cells is None):
            raise ValueError("verify needs both encoder and cells, or neither.")
        if sample is not None and (encoder is None or sample < 1):
            raise ValueError(f"sample must be at least 1, and needs an encoder; got {sample}.")
        good = bad = 0
        for folder in recipe_folders(self.folder):
            counts = _count(segments_in(folder), check=True)
            good += counts["n_rows"] + counts["n_superseded"]
            bad += counts["n_damaged"]
        if encoder is None or cells is None:
            return Verification(good, bad)
        # Through a table, as in encoding: its cells may be other types, such as arrays for lists.
        table = to_frame({0: cells.to_list() if hasattr(cells, "to_list") else list(cells)})
        return Verification(good, bad, *self._compare(encoder, encoder.cells(table), sample, tolerance))

    def _compare(
        self, encoder: Any, cells: list[Any], sample: int | None, tolerance: float
    ) -> tuple[int, tuple[tuple[int, float], ...]]:
        from sklearn.base import clone

        recipe = self.recipe_of(encoder)  # type: ignore[attr-defined]
        if recipe is None:
            raise ValueError(f"{type(encoder).__name__} has no recipe, so its vectors are never cached.")
        paths = encoder.strings_are_paths
        keys = [None if is_missing(cell) else cell_digest(cell, strings_are_paths=paths) for cell in cells]
        found, stored = type(self)(self.folder).get_many(recipe, keys)  # type: ignore[attr-defined,call-arg]
        rows = np.flatnonzero(found)
        if sample is not None and sample < len(rows):
            rows = np.sort(np.random.default_rng().choice(rows, sample, replace=False))
        if not len(rows):
            return 0, ()
        with config_context(cache=None):
            fresh = clone(encoder)._fit_vectors([cells[i] for i in rows])
        if fresh.shape[1] != stored.shape[1]:
            return len(rows), tuple((int(i), float("inf")) for i in rows)
        old = stored[rows].astype(np.float64)
        distances = np.linalg.norm(fresh - old, axis=1) / np.maximum(np.linalg.norm(old, axis=1), 1e-30)
        # Not `> tolerance`, so that a row of NaN differs.
        differing = [(int(i), float(d)) for i, d in zip(rows, distances, strict=True) if not d <= tolerance]
        return len(rows), tuple(differing)


def recipe_folders(folder: Path) -> list[Path]:
    """Return the folders of recipes in a cache folder, sorted by name."""
    try:
        return sorted(path for path in (folder / FORMAT).iterdir() if path.is_dir() and path.name != FILES)
    except (FileNotFoundError, NotADirectoryError):
        return []


def size_of(folder: Path) -> int:
    """Return the number of bytes of all files of the cache."""
    paths = (os.path.join(place, name) for place, _, names in os.walk(folder / FORMAT) for name in names)
    return sum(status.st_size for status in map(_status, paths) if status is not None)


def _status(path: str | os.PathLike) -> os.stat_result | None:
    """Return the status of a file; None if another process has deleted it."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def is_last(keys: np.ndarray) -> np.ndarray:
    """Return a mask of the keys, of shape (n, 2), that do not occur again later."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    last = np.ones(len(keys), dtype=bool)
    last[order[:-1]] = (ordered[:-1] != ordered[1:]).any(axis=1)
    return last


def _count(segments: list[Segment], *, check: bool = False) -> dict[str, int]:
    keys, n_erased, n_damaged = [np.empty((0, 2), dtype=np.uint64)], 0, 0
    for segment in segments:
        try:
            if check:
                parts = [(entries, good | is_erased(entries)) for entries, _, good in segment.blocks()]
            else:
                entries = segment.entries()
                parts = [(entries, np.ones(len(entries), dtype=bool))]
        except FileNotFoundError:  # pruned by another process
            continue
        for entries, good in parts:
            erased = is_erased(entries)
            n_erased += int(erased.sum())
            n_damaged += int((~good).sum())
            keys.append(entries["key"][good & ~erased])
    every = np.concatenate(keys)
    n_rows = int(is_last(every).sum())
    return {"n_rows": n_rows, "n_superseded": len(every) - n_rows, "n_erased": n_erased, "n_damaged": n_damaged}


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds).replace(microsecond=0)
