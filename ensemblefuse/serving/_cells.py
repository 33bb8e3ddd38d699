"""Conversion of JSON rows to rows of cells, with a check of each cell against the kind of its column.

An encoder of pictures, sounds or videos takes a str as a path. Therefore such a column takes only file objects. Their
bytes are read here, and a string from a request never reaches such an encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ensemblefuse.column_formats import is_mark
from ensemblefuse.exceptions import short_repr
from ensemblefuse.serving._errors import CellError, Fault, Unreadable, found
from ensemblefuse.serving._info import Column
from ensemblefuse.serving._media import FileReader, check_picture, check_sound, check_video
from ensemblefuse.serving._settings import ServerSettings
from ensemblefuse.table import similar_names

__all__ = ["RowReader"]

_FILES = ("image", "audio", "video")
_ARRAYS_OF_A_GRAPH = ("x", "edge_index", "edge_weight", "edge_attr")
_MOST_FAULTS = 100
_HINTS = 10  # different names of a request for which a similar one is looked for: it takes time
# A request may have the pixels and seconds of this many cells of the largest size: a running decoder cannot be stopped.
_CELLS_IN_A_REQUEST = 4


class RowReader:
    """Reader of the rows of requests.

    Parameters
    ----------
    columns : dict of str to Column
    settings : ServerSettings
    path_columns : iterable of str
        Columns in which the model takes a str as a path, even if the manifest says that they hold something else.
    """

    def __init__(self, columns: Mapping[str, Column], settings: ServerSettings, path_columns: Iterable[str] = ()):
        self.columns, self.settings, self.path_columns = columns, settings, frozenset(path_columns)

    def read(self, rows: Any, files: FileReader) -> tuple[list[dict[str, Any] | None], list[Fault]]:
        """Return the cells of each row by column, with None for missing cells; None for a row with a fault.

        Raises
        ------
        Unreadable
            If `rows` is not a list of 1 to ``max_rows`` items.
        """
        if not isinstance(rows, list):
            raise Unreadable(Fault(None, "rows", f"expected a list of objects, one per row; got {found(rows)}"))
        if not 1 <= len(rows) <= self.settings.max_rows:
            reason = f"expected 1 to {self.settings.max_rows} rows; got {len(rows)}"
            raise Unreadable(Fault(None, "rows", reason))
        read: list[dict[str, Any] | None] = []
        faults: list[Fault] = []
        ask = _Hints(self.columns)
        for i, row in enumerate(rows):
            before = files.cost
            cells, found_here = self._row(i, row, files, ask)
            files.costs.append(files.cost - before)
            read.append(None if found_here else cells)
            faults += found_here
        return read, faults

    def _row(self, i: int, row: Any, files: FileReader, ask: _Hints) -> tuple[dict[str, Any], list[Fault]]:
        if not isinstance(row, dict):
            return {}, [Fault(i, None, f"expected an object of cells by column; got {found(row)}")]
        unknown = [name for name in row if name not in self.columns]
        faults = [
            Fault(
                i,
                short_name(name),
                f"the model has no column of this name; it has {list(self.columns)}{ask.hint(name)}",
            )
            for name in unknown[:_MOST_FAULTS]
        ]
        cells: dict[str, Any] = {}
        for name, column in self.columns.items():
            try:
                cells[name] = None if row.get(name) is None else self._cell(column, row[name], files)
            except CellError as error:
                faults.append(Fault(i, name, str(error)))
        return cells, faults

    def _cell(self, column: Column, value: Any, files: FileReader) -> Any:
        is_path = column.name in self.path_columns
        if column.kind == "graph" and _is_file(value):
            return self._file("image", value, files)
        if column.kind in _FILES or (is_path and column.kind not in ("number", "graph")):  # a number becomes a float
            return self._file(column.kind, value, files)
        if column.days and (type(value) is int or (type(value) is float and value.is_integer())):
            return value  # in JSON, 20240131.0 is the same number
        is_written = column.written is not None and isinstance(value, str)
        cell = _graph(value) if column.kind == "graph" else (_text if is_written else _READERS[column.kind])(value)
        if isinstance(cell, str):
            self._measure(files, "a text", "characters", len(cell))
        elif isinstance(cell, np.ndarray):
            self._measure(files, "an array", "numbers", cell.size)
        elif column.kind == "graph":
            sizes = [part.size if isinstance(part, np.ndarray) else part for part in cell.values()]
            self._measure(files, "a graph", "numbers", max(sizes))
        return cell

    def _measure(self, files: FileReader, what: str, unit: str, n: int) -> None:
        """Count the cost of a cell; raise if it is larger than a cell may be."""
        most = getattr(self.settings, f"max_{unit}")
        if n > most:
            raise CellError(f"{what} of {n} {unit}; at most {most} are allowed")
        files.cost += n / most

    def _file(self, kind: str, value: Any, files: FileReader) -> Any:
        """Return the bytes of one file, or a list if several pictures make a cell, after a check of their headers."""
        several = isinstance(value, list)
        if several and kind not in ("image", "video"):
            raise CellError(f"expected one file; got {found(value)}")
        if several and not value:
            raise CellError("the list is empty; use null if there is no file")
        contents = [files.read(item) for item in value] if several else [files.read(value)]
        pixels = seconds = 0.0
        if kind == "image" or several:  # a list of pictures is a video too
            for content in contents:
                pixels += check_picture(content, self.settings.max_pixels - int(pixels))
        elif kind == "audio":
            seconds = check_sound(contents[0], self.settings.max_seconds)
        elif kind == "video":
            seconds, pixels = check_video(contents[0], self.settings.max_seconds, self.settings.max_pixels)
        self._count(files, pixels=pixels, seconds=seconds)
        return contents if several else contents[0]

    def _count(self, files: FileReader, **new_ones: float) -> None:
        """Raise if the request exceeds its limit of pixels or seconds with this cell."""
        for name, new in new_ones.items():
            most = _CELLS_IN_A_REQUEST * getattr(self.settings, f"max_{name}")
            if getattr(files, name) + new > most:
                raise CellError(f"with it the request has more than {most:.0f} {name}; send it in another request")
            setattr(files, name, getattr(files, name) + new)
            files.cost += new / getattr(self.settings, f"max_{name}")


class _Hints:
    """Questions about unknown names in one request. Similar names are looked for a few times: it takes time."""

    def __init__(self, columns: Iterable[str]):
        self.columns, self.n_left = list(columns), _HINTS
        self._known: dict[str, str] = {}

    def hint(self, name: str) -> str:
        """Return a question where a column has nearly this name; a name that was asked about before gets it again."""
        name = name[:100]
        if name not in self._known and self.n_left:
            self.n_left -= 1
            near = similar_names([name], self.columns)
            self._known[name] = f"; did you mean {near[name]!r}?" if near else ""
        return self._known.get(name, "")


def short_name(name: str) -> str:
    """Return a name from the client, shortened for an answer."""
    return name if len(name) <= 100 else f"{name[:97]}..."


# ---------------------------------------------------------------------- cells without files


def _number(value: Any) -> float | None:
    if isinstance(value, str) and is_mark(value):  # missing, as in a table
        return None
    if not isinstance(value, (int, float)):  # bool is an int
        raise CellError(f"expected a number; got {found(value)}")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise CellError(f"expected a string; got {found(value)}")
    return value


def _category(value: Any) -> Any:
    if not isinstance(value, (str, int, float)):
        raise CellError(f"expected a string, a number, true or false; got {found(value)}")
    return value


def _series(value: Any) -> np.ndarray:
    """Read one channel or a list of channels; null is a gap."""
    channels = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    read = [_numbers(channel, gaps=True) for channel in channels]
    if len({len(channel) for channel in read}) > 1:
        raise CellError(f"its channels have different lengths: {sorted({len(channel) for channel in read})}")
    return read[0] if channels[0] is value else np.array(read)


def _embedding(value: Any) -> Any:
    """Read a vector, or the key of a vector in the file of the encoder."""
    return value if isinstance(value, str) else _numbers(value)


def _numbers(value: Any, *, gaps: bool = False) -> np.ndarray:
    if not isinstance(value, list) or not value:
        raise CellError(f"expected a list of numbers; got {found(value)}")
    odd = next((v for v in value if type(v) not in (int, float) and not (gaps and v is None)), 0.0)
    if type(odd) not in (int, float):
        raise CellError(f"expected a list of numbers; got {found(odd)} in it")
    return np.array(value, dtype=np.float64)  # None becomes NaN


def _graph(value: Any) -> dict[str, Any]:
    wanted = 'expected an object with "edge_index" (two lists of node numbers) and "x", "num_nodes", "edge_weight"'
    if not isinstance(value, dict) or "edge_index" not in value:
        raise CellError(f"{wanted} or a file; got {found(value)}")
    graph: dict[str, Any] = {}
    for name, part in value.items():
        if part is None:
            continue
        if name == "num_nodes" and type(part) is int:
            graph[name] = part
        elif name in _ARRAYS_OF_A_GRAPH:
            graph[name] = _matrix(name, part)
        else:
            raise CellError(f"{wanted}; got {found(part)} under {short_repr(name)}")
    return graph


def _matrix(name: str, value: Any) -> np.ndarray:
    rows = value if isinstance(value, list) and value and isinstance(value[0], list) else None
    try:
        # An edge_index without edges is two empty lists.
        made = [[*_numbers(row)] if row != [] else [] for row in rows] if rows is not None else _numbers(value)
        array = np.array(made, dtype=np.float64)
    except CellError as error:
        raise CellError(f"{name!r}: {error}") from error
    except ValueError as error:
        raise CellError(f"{name!r}: its lists have different lengths") from error
    return array.astype(np.int64) if name == "edge_index" and (array == np.rint(array)).all() else array


def _is_file(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in ("base64", "upload", "path")


_READERS: dict[str, Callable[[Any], Any]] = {
    "number": _number,
    "text": _text,
    "category": _category,
    "boolean": _category,
    "date": _text,
    "duration": _text,
    "series": _series,
    "embedding": _embedding,
    "object": lambda value: value,
}
