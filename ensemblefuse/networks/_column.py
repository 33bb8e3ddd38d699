"""The column that a network reads: its cells, and what the network begins with for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ensemblefuse.backbones.column_flow import BadRows, Reasons, encode_column, load_cells, settle_bad_rows
from ensemblefuse.cache.code_digests import cell_digest
from ensemblefuse.networks._prefix import Prefix
from ensemblefuse.networks._reader import CellReader
from ensemblefuse.table import is_missing

__all__ = ["Column", "Items", "Views", "load_items", "load_views"]


@dataclass
class Column:
    """The cells of one column.

    Attributes
    ----------
    cells : list of length n_samples
    present : ndarray of shape (n_samples,), dtype bool
        Which cells are not missing. Cells that cannot be read become missing with ``on_error="missing"``.
    labels : sequence
        Of the rows, for messages.
    name : str
    owner : str
        Name of the class that the user called.
    on_error : {"raise", "missing"}
    bad : BadRows
        Cells that could not be read so far. Parts of a column share them.
    """

    cells: list[Any]
    present: np.ndarray
    labels: Any
    name: str
    owner: str
    on_error: str
    bad: BadRows = field(default_factory=BadRows)

    @classmethod
    def of(cls, frame: Any, cells: list[Any], owner: str, on_error: str) -> Column:
        present = np.array([not is_missing(cell) for cell in cells], dtype=bool)
        return cls(cells, present, frame.index, str(frame.columns[0]), owner, on_error)

    def __len__(self) -> int:
        return len(self.cells)

    def part(self, start: int, end: int) -> Column:
        """Return some rows as a column of their own."""
        rows = slice(start, end)
        return replace(self, cells=self.cells[rows], present=self.present[rows].copy(), labels=self.labels[rows])

    def note(self, reasons: Reasons) -> None:
        """Take notice of cells that cannot be read; they are missing from now on."""
        self.bad.add(BadRows.of(reasons, self.cells, self.labels, self.name))
        self.present[list(reasons)] = False

    def settle(self) -> None:
        """Raise an error that lists all bad cells, or warn that they are missing."""
        settle_bad_rows(self.bad, self.cells, self.owner, self.on_error, stacklevel=6)

    def digests(self, rows: np.ndarray, *, strings_are_paths: bool) -> np.ndarray:
        """Return the digests of some cells, sorted, each once; of shape (n_digests, 16), dtype uint8."""
        keys = {cell_digest(self.cells[i], strings_are_paths=strings_are_paths) for i in np.flatnonzero(rows)}
        return np.frombuffer(b"".join(sorted(keys)), dtype=np.uint8).reshape(-1, 16).copy()


@dataclass
class Views:
    """What a frozen prefix made of each cell: one array a view. View 0 is the cell as it is, the others augmented."""

    views: list[list[np.ndarray | None]]

    def take(self, rows: Sequence[int], rng: np.random.Generator | None) -> list[Any]:
        """Return the arrays of some rows: of a view that `rng` draws for each row, or of view 0 without `rng`."""
        chosen = [0] * len(rows) if rng is None else rng.integers(len(self.views), size=len(rows)).tolist()
        return [self.views[view][row] for view, row in zip(chosen, rows, strict=True)]


@dataclass
class Items:
    """Cells that were read, without a prefix: each is augmented anew whenever it is taken."""

    items: list[Any]
    as_array: Callable[[Any, np.random.Generator | None], np.ndarray]

    def take(self, rows: Sequence[int], rng: np.random.Generator | None) -> list[Any]:
        """Return the arrays of some rows, augmented by `rng`, or as they are without `rng`."""
        return [self.as_array(self.items[row], rng) for row in rows]


def load_items(column: Column, reader: CellReader) -> Items:
    """Read the present cells of a column, and take notice of bad ones."""
    rows = np.flatnonzero(column.present).tolist()
    items: list[Any] = [None] * len(column)
    loaded, reasons = load_cells(reader.load, [column.cells[row] for row in rows])
    for row, item in zip(rows, loaded, strict=True):
        items[row] = item
    column.note(reasons.at(rows))
    return Items(items, reader.array)


def load_views(column: Column, prefixes: Sequence[Prefix]) -> Views:
    """Return what prefixes make of the present cells, each prefix of one view, and take notice of bad ones.

    Equal cells go through a prefix once, and what is in the embedding cache does not at all.
    """
    return Views([_one_view(column, prefix) for prefix in prefixes])


def _one_view(column: Column, prefix: Prefix) -> list[np.ndarray | None]:
    found: list[np.ndarray | None] = [None] * len(column)
    rows = np.flatnonzero(column.present).tolist()
    for group, places in prefix.groups([column.cells[row] for row in rows]).items():
        prefix.group, prefix.shape = group, ()
        alike = [rows[place] for place in places]
        vectors, reasons = encode_column(prefix, [column.cells[row] for row in alike], column.name)
        column.note(reasons.at(alike))
        for row, vector in zip(alike, vectors, strict=True):
            if column.present[row]:
                found[row] = prefix.shaped(vector, column.cells[row])
    return found
