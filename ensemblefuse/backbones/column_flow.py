"""Encoding of one column: digests, cache, loading ahead, batches, bad cells.

Besides the table, the result and about 200 bytes per row, only a few batches are in memory, however long the column is.
"""

from __future__ import annotations

import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from ensemblefuse._config import show_progress
from ensemblefuse._torch import n_threads
from ensemblefuse.backbones.forward import BackendError
from ensemblefuse.cache import EmbeddingCache, get_cache
from ensemblefuse.cache.code_digests import cell_digest
from ensemblefuse.exceptions import (
    BadRow,
    EncodingError,
    MissingModalityWarning,
    format_bad_rows,
    reason_of,
    short_repr,
)
from ensemblefuse.table import is_missing

__all__ = ["BadRows", "CellEncoder", "Reasons", "WrongShapeError", "encode_column", "load_cells", "settle_bad_rows"]

# Errors that are caused by the machine, the installation or the encoder's code, not by a cell: they end the call.
_FATAL = (ImportError, MemoryError, NameError, NotImplementedError)
# Errors of torch and CUDA, by name: the classes cannot be used without importing torch.
_OUT_OF_MEMORY = "OutOfMemoryError"
_FATAL_NAMES = frozenset({_OUT_OF_MEMORY, "AcceleratorError"})
# Rows that are looked up in the cache at once, and batches that are loaded ahead of the network.
_LOOKUP = 8192
_BATCHES_AHEAD = 2
_MOST_THREADS = 16


class WrongShapeError(ValueError):
    """The encoder's code returned a wrong shape; no cell is to blame."""


class CellEncoder(Protocol):
    """What maps one cell to one vector; `BaseEncoder` says what each part does. ``sort_key(cell)`` is optional."""

    @property
    def strings_are_paths(self) -> bool: ...

    @property
    def loads_in_threads(self) -> bool: ...

    def load(self, cell: Any) -> Any: ...

    def encode_batch(self, items: list[Any]) -> np.ndarray: ...

    def prepare(self) -> None: ...

    def probe(self, cell: Any) -> None: ...

    def place(self) -> str: ...

    def recipe(self) -> dict[str, Any] | None: ...

    def _batch_size(self) -> int: ...


class BadRows(list[BadRow]):
    """Rows that could not be encoded, and the first error that one of them gave."""

    def __init__(self, rows: Iterable[BadRow] = (), first: Exception | None = None):
        super().__init__(rows)
        self.first = first

    @classmethod
    def of(cls, reasons: Reasons, cells: Sequence[Any], labels: Any, column: str) -> BadRows:
        """Return the rows of the bad cells of a column; `labels` are those of all rows."""
        rows = (BadRow(labels[i], column, short_repr(cells[i]), reasons[i]) for i in sorted(reasons))
        return cls(rows, reasons.first)

    def add(self, others: BadRows) -> None:
        self.extend(others)
        self.first = others.first if self.first is None else self.first

    def error(self, name: str, cells: Sequence[Any]) -> EncodingError:
        """Return the error that lists these rows of a column; `name` is the class that the user called."""
        n_present = sum(not is_missing(cell) for cell in cells)
        alike = len(self) == n_present > 1 and len({row.reason for row in self}) == 1 and self.first is not None
        return EncodingError(name, self, len(cells), alike)


def settle_bad_rows(bad: BadRows, cells: Sequence[Any], name: str, on_error: str, stacklevel: int) -> None:
    """Raise an error that lists all bad rows, or warn that they are missing if `on_error` is ``"missing"``."""
    if bad and on_error == "raise":
        raise bad.error(name, cells) from bad.first
    if bad:
        text = (
            f"{name} treats {len(bad)} of {len(cells)} cells as missing, because they could not be "
            f"encoded:\n{format_bad_rows(bad, 'all are in the attribute rows of this warning')}"
        )
        warnings.warn(MissingModalityWarning(text, rows=bad), stacklevel=stacklevel + 1)


class Reasons(dict[int, str]):
    """Why cells are bad, by their positions.

    Attributes
    ----------
    first : Exception or None
        The first error, with its traceback: it has the line of the user's code, if this is at fault.
    """

    first: Exception | None = None

    def keep(self, error: Exception) -> str:
        """Return the reason in one line. The first error is kept."""
        self.first = error if self.first is None else self.first
        return reason_of(error)

    def at(self, rows: Sequence[int]) -> Reasons:
        """Return the reasons of cells that are some rows of a longer column, by the positions of these rows."""
        moved = Reasons({rows[place]: reason for place, reason in self.items()})
        moved.first = self.first
        return moved


def load_cells(load: Callable[[Any], Any], cells: Sequence[Any]) -> tuple[list[Any], Reasons]:
    """Return what `load` makes of each cell, None for a bad one, and the reasons."""
    items: list[Any] = []
    reasons = Reasons()
    for place, cell in enumerate(cells):
        items.append(None)
        try:
            items[-1] = load(cell)
        except _FATAL:
            raise
        except Exception as error:
            reasons[place] = reasons.keep(error)
    return items, reasons


def encode_column(encoder: CellEncoder, cells: Sequence[Any], column: str) -> tuple[np.ndarray, Reasons]:
    """Return the embeddings of all cells, and for each bad cell the reason.

    Equal contents are encoded once. If an error or an interrupt ends the call, finished batches are in the cache.

    Parameters
    ----------
    encoder : CellEncoder
    cells : sequence of length n_samples
    column : str
        Name of the column, for the progress bar.

    Returns
    -------
    vectors : ndarray of shape (n_samples, n_dims), dtype float32
        A row of NaN for a missing or bad cell. Without columns if no cell has an embedding.
    reasons : Reasons
        Reason for each bad cell, by its position.
    """
    run = _Run(encoder, cells)
    if run.keys:
        run.look_up()
        run.encode(column)
    vectors = np.zeros((len(cells), 0), dtype=np.float32) if run.out is None else run.out
    return vectors, run.reasons


class _Run:
    """The state of one call. Distinct contents are numbered in the order of their first rows."""

    def __init__(self, encoder: CellEncoder, cells: Sequence[Any]):
        self.encoder = encoder
        self.cells = cells
        self.reasons = Reasons()
        self.out: np.ndarray | None = None
        self.keys, content_of = self._digest()
        known = np.flatnonzero(content_of >= 0)
        # The rows of content k are rows[starts[k] : starts[k + 1]], in ascending order.
        self.rows = known[np.argsort(content_of[known], kind="stable")]
        counts = np.bincount(content_of[known], minlength=len(self.keys))
        self.starts = np.concatenate([[0], counts.cumsum()])
        self.recipe: dict[str, Any] | None = None
        self.cache: EmbeddingCache | None = None
        self.is_known = np.zeros(len(self.keys), dtype=bool)

    def _digest(self) -> tuple[list[bytes], np.ndarray]:
        """Return the digests of the distinct contents, and each row's content number; -1 if missing or unreadable."""
        place: dict[bytes, int] = {}
        content_of = np.full(len(self.cells), -1, dtype=np.int64)
        paths = self.encoder.strings_are_paths
        for i, cell in enumerate(self.cells):
            if is_missing(cell):
                continue
            try:
                key = cell_digest(cell, strings_are_paths=paths)
            except _FATAL:
                raise
            except Exception as error:
                part = getattr(error, "filename", None) if isinstance(cell, (list, tuple)) else None
                self.reasons[i] = self.reasons.keep(error) + (f": {short_repr(part)}" if part is not None else "")
                continue
            content_of[i] = place.setdefault(key, len(place))
        return list(place), content_of

    def look_up(self) -> None:
        """Read all vectors that are in the cache."""
        self.cache = get_cache()
        self.recipe = self.cache.recipe_of(self.encoder) if self.cache is not None else None
        if self.cache is None or self.recipe is None:
            return
        for start in range(0, len(self.keys), _LOOKUP):
            found, vectors = self.cache.get_many(self.recipe, self.keys[start : start + _LOOKUP])
            if self.out is not None and vectors.shape[1] not in (0, self.out.shape[1]):
                continue  # a merged cache may have vectors of another length; encode these cells again
            if found.any():
                self._store(start + np.flatnonzero(found), vectors if found.all() else vectors[found])

    def encode(self, column: str) -> None:
        """Load and embed the cells that are not in the cache, batch by batch."""
        todo = np.flatnonzero(~self.is_known).tolist()
        todo = self._without_bad(todo)
        if not todo:
            return
        self.encoder.prepare()
        if (sort_key := getattr(self.encoder, "sort_key", None)) is not None:
            # Items of similar size share a batch. The largest come first, so that a lack of memory shows at once.
            todo.sort(key=lambda content: sort_key(self._cell(content)), reverse=True)
        size = self.encoder._batch_size()
        progress = show_progress()
        if progress:
            self._announce(column, len(todo))
        with tqdm(total=len(todo), desc=f"encode {column}", unit="row", disable=not progress) as bar:
            loaded: list[tuple[int, Any]] = []
            for n_done, (content, item, error) in enumerate(self._load_ahead(todo, size), 1):
                if error is None:
                    loaded.append((content, item))
                else:
                    self._blame(content, self.reasons.keep(error))
                if loaded and (len(loaded) >= size or n_done == len(todo)):
                    size = self._embed(loaded, size)
                    loaded = []
                    bar.update(n_done - bar.n)
            bar.update(len(todo) - bar.n)

    def _without_bad(self, todo: list[int]) -> list[int]:
        """Return the contents from the first on that passes `probe`; no network is loaded for bad cells alone."""
        if not _can_probe(type(self.encoder)):
            return todo
        for i, content in enumerate(todo):
            try:
                self.encoder.probe(self._cell(content))
            except _FATAL:
                raise
            except Exception as error:
                self._blame(content, reason_of(error))
            else:
                return todo[i:]
        if todo:
            self.encoder.recipe()  # a wrong parameter is no fault of the cells
        return []

    def _announce(self, column: str, n_todo: int) -> None:
        n_rows, n_bad = len(self.cells), len(self.reasons)
        n_missing, place = n_rows - len(self.rows) - n_bad, self.encoder.place()
        unreadable, on = f"{n_bad} unreadable, " if n_bad else "", f" on {place}" if place else ""
        tqdm.write(
            f"{column}: {n_rows} rows, {n_missing} missing, {unreadable}{len(self.keys)} distinct: "
            f"{int(self.is_known.sum())} in cache, {n_todo} to encode{on}",
            file=sys.stderr,
        )

    def _cell(self, content: int) -> Any:
        return self.cells[self.rows[self.starts[content]]]

    def _load_ahead(self, todo: list[int], size: int) -> Iterator[tuple[int, Any, Exception | None]]:
        """Yield each content with its loaded item or error, in order. Threads load ahead while the network is busy."""
        threads = min(_MOST_THREADS, n_threads()) if self.encoder.loads_in_threads else 1
        if threads < 2 or len(todo) < 2:
            yield from ((content, *self._load(content)) for content in todo)
            return
        waiting: deque[tuple[int, Future]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="ensemblefuse-load")
        try:
            for content in todo:
                waiting.append((content, pool.submit(self._load, content)))
                if len(waiting) > _BATCHES_AHEAD * max(size, threads):
                    first, future = waiting.popleft()
                    yield (first, *future.result())
            while waiting:
                first, future = waiting.popleft()
                yield (first, *future.result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, content: int) -> tuple[Any, Exception | None]:
        try:
            return self.encoder.load(self._cell(content)), None
        except _FATAL:
            raise
        except Exception as error:
            return None, error

    def _embed(self, loaded: list[tuple[int, Any]], size: int) -> int:
        """Embed a batch, in parts if necessary. Return the batch size for which the memory is sufficient."""
        while len(loaded) > size:
            part, loaded = loaded[:size], loaded[size:]
            size = self._embed(part, size)
        vectors, is_too_large = self._try(loaded)
        if is_too_large:
            return self._embed(loaded, self._smaller(len(loaded)))
        if vectors is not None:
            self._keep([content for content, _ in loaded], vectors)
        elif len(loaded) > 1:
            half = len(loaded) // 2  # find the item that the network cannot embed
            for part in (loaded[:half], loaded[half:]):
                self._embed(part, size)
        return size

    def _try(self, loaded: list[tuple[int, Any]]) -> tuple[np.ndarray | None, bool]:
        """Return the vectors of a batch, or None after an error; and whether the memory was too small.

        The memory of a failed attempt is free again after the return: until then the exception keeps it alive.
        """
        try:
            return checked_batch(self.encoder, [item for _, item in loaded]), False
        except (*_FATAL, WrongShapeError, BackendError):
            raise
        except Exception as error:
            name = type(error).__name__
            if name == _OUT_OF_MEMORY and len(loaded) > 1:
                return None, True
            if name in _FATAL_NAMES:
                raise
            if len(loaded) == 1:
                self._blame(loaded[0][0], self.reasons.keep(error))
            return None, False

    def _smaller(self, size: int) -> int:
        smaller = size // 2
        sys.modules["torch"].cuda.empty_cache() if "torch" in sys.modules else None
        warnings.warn(
            f"{type(self.encoder).__name__}: the memory of the device is too small for a batch of {size}; encoding "
            f"continues with {smaller}. Pass batch_size={smaller} to avoid the failed attempt.",
            UserWarning,
            stacklevel=2,
        )
        return smaller

    def _keep(self, contents: list[int], vectors: np.ndarray) -> None:
        """Write the vectors to the result and to the cache."""
        finite = np.isfinite(vectors).all(axis=1)
        for i in np.flatnonzero(~finite):
            self._blame(contents[i], "its embedding holds NaN or infinite numbers")
        kept = np.asarray(contents)[finite]
        vectors = vectors[finite]
        if not len(kept):
            return
        self._store(kept, vectors)
        if self.cache is not None and self.recipe is not None:
            unchanged = np.array([self._is_unchanged(content) for content in kept])
            if unchanged.any():
                self.cache.put(self.recipe, [self.keys[content] for content in kept[unchanged]], vectors[unchanged])

    def _store(self, contents: np.ndarray, vectors: np.ndarray) -> None:
        if self.out is None:
            self.out = np.full((len(self.cells), vectors.shape[1]), np.nan, dtype=np.float32)
        if vectors.shape[1] != self.out.shape[1]:
            lengths = sorted({vectors.shape[1], self.out.shape[1]})
            raise ValueError(f"{type(self.encoder).__name__} returned embeddings of several lengths: {lengths}.")
        self.is_known[contents] = True
        counts = self.starts[contents + 1] - self.starts[contents]
        if counts.max() == 1:
            self.out[self.rows[self.starts[contents]]] = vectors
            return
        before = counts.cumsum() - counts
        rows = self.rows[np.repeat(self.starts[contents] - before, counts) + np.arange(counts.sum())]
        self.out[rows] = np.repeat(vectors, counts, axis=0)

    def _blame(self, content: int, reason: str) -> None:
        rows = self.rows[self.starts[content] : self.starts[content + 1]]
        self.reasons.update(dict.fromkeys(rows.tolist(), reason))

    def _is_unchanged(self, content: int) -> bool:
        """Return whether a cell still has the content of its key. A file may change between digest and loading."""
        cell, paths = self._cell(content), self.encoder.strings_are_paths
        if isinstance(cell, (bytes, int, float)) or (isinstance(cell, str) and not paths):
            return True
        try:
            return cell_digest(cell, strings_are_paths=paths) == self.keys[content]
        except (OSError, TypeError, ValueError):
            return False


def _can_probe(cls: type) -> bool:
    """Return whether `probe` is as new as `load`: a subclass with a `load` of its own may take other cells."""
    owner = next(parent for parent in cls.__mro__ if "probe" in vars(parent))
    return cls.load is owner.load  # type: ignore[attr-defined]


def checked_batch(encoder: CellEncoder, items: list[Any]) -> np.ndarray:
    """Return the result of `encode_batch`; raise an error if it is not one vector per item."""
    with np.errstate(over="ignore"):
        vectors = np.asarray(encoder.encode_batch(items), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(items) or vectors.shape[1] == 0:
        raise WrongShapeError(
            f"{type(encoder).__name__}.encode_batch must return an array of shape ({len(items)}, n_dims); got shape "
            f"{vectors.shape}."
        )
    return vectors
