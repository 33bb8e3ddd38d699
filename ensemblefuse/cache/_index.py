"""Index from keys to rows: sorted arrays, 40 bytes per row, in a few runs of falling length."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def _hash(keys: np.ndarray) -> np.ndarray:
    return keys[:, 0] * _FACTOR + keys[:, 1]


class _Rows(NamedTuple):
    keys: np.ndarray
    places: np.ndarray
    sums: np.ndarray
    hashes: np.ndarray

    def take(self, rows: np.ndarray) -> _Rows:
        return _Rows(*(part[rows] for part in self))


class Index:
    """Places and checksums by key.

    Keys that are looked up in the order in which they were added need no sorting, as when a process reads what another
    one wrote. Rows are sorted at the first key out of this order. A sorted run is merged with the one before it unless
    that is more than twice as long. So n additions take n log(n) steps, and a look-up visits log(n) runs.
    """

    def __init__(self) -> None:
        self._new: list[_Rows] = []
        # Sorted by hash; of equal hashes the newest is last.
        self._runs: list[_Rows] = []

    def __len__(self) -> int:
        return sum(len(rows.places) for rows in self._runs + self._new)

    def keys(self) -> np.ndarray:
        """Return all keys, of shape (n, 2). A key that was added twice occurs twice."""
        return np.concatenate([np.empty((0, 2), dtype=np.uint64), *(rows.keys for rows in self._runs + self._new)])

    def add(self, keys: np.ndarray, places: np.ndarray, sums: np.ndarray) -> None:
        """Add rows: `keys` of shape (n, 2), `places` and `sums` of shape (n,)."""
        self._new.append(_Rows(keys, places, sums, _hash(keys)))

    def find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the place (-1 if not found) and checksum of each key."""
        places = np.full(len(keys), -1, dtype=np.int64)
        sums = np.zeros(len(keys), dtype=np.uint64)
        start = self._find_in_order(keys, places, sums)
        if start < len(keys):
            self._sort()
            hashes = _hash(keys)
            for run in reversed(self._runs):
                todo = start + np.flatnonzero(places[start:] < 0)
                at = np.searchsorted(run.hashes, hashes[todo], side="right") - 1
                while len(todo):
                    near = (at >= 0) & (run.hashes[at] == hashes[todo])
                    todo, at = todo[near], at[near]
                    equal = (run.keys[at] == keys[todo]).all(axis=1)
                    places[todo[equal]], sums[todo[equal]] = run.places[at[equal]], run.sums[at[equal]]
                    todo, at = todo[~equal], at[~equal] - 1  # there may be another key with this hash before it
        return places, sums

    def _find_in_order(self, keys: np.ndarray, places: np.ndarray, sums: np.ndarray) -> int:
        """Find the first keys that occur in the order in which they were added. Return their number."""
        start = 0
        for rows in self._new:
            if start == len(keys):
                break
            first = int((rows.keys == keys[start]).all(axis=1).argmax())
            there, asked = rows.keys[first:], keys[start:]
            n = min(len(there), len(asked))
            equal = (there[:n] == asked[:n]).all(axis=1)
            n = n if equal.all() else int(equal.argmin())
            places[start : start + n] = rows.places[first : first + n]
            sums[start : start + n] = rows.sums[first : first + n]
            start += n
        return start

    def _sort(self) -> None:
        if not self._new:
            return
        run = _sorted(self._new)
        while self._runs and len(self._runs[-1].places) <= 2 * len(run.places):
            run = _sorted([self._runs.pop(), run])
        self._runs.append(run)
        self._new = []

    def drop(self, places: np.ndarray) -> None:
        """Remove the rows at these places. Older rows of the same keys can then be found."""
        if not len(places):
            return
        self._sort()
        kept = (run.take(~np.isin(run.places, places)) for run in self._runs)
        self._runs = [run for run in kept if len(run.places)]


def _sorted(parts: list[_Rows]) -> _Rows:
    rows = _Rows(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    return rows.take(np.argsort(rows.hashes, kind="stable"))
