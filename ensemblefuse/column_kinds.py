"""Detection of what a column of a table holds, from its cells.

A column is decided by evidence: the types of its cells, how often values repeat, how many words a cell has, and whether
all cells can be read as numbers, dates, flags or lists of tags. No kind is chosen that a cell could not be read as.
"""

from __future__ import annotations

import datetime
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ensemblefuse.column_formats import (
    Found,
    boolean_format,
    date_format,
    is_mark,
    number_clash,
    number_format,
    read_cell,
    tag_format,
    unit_clash,
)
from ensemblefuse.exceptions import short_repr
from ensemblefuse.table import is_missing, item

__all__ = [
    "AUDIO_SUFFIXES",
    "IMAGE_SUFFIXES",
    "UNUSED",
    "VIDEO_SUFFIXES",
    "ColumnKind",
    "cell_kind",
    "column_kind",
    "facts_of",
    "find_kind",
]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})


AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".opus"})


VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv"}
)


UNUSED = frozenset({"empty", "constant", "identifier", "address", "duration", "other"})
"""Kinds of columns that a model does not learn from as they are."""

_MEDIA = ("image", "audio", "video")
_OTHER_FILES = frozenset({".html", ".htm", ".pdf", ".txt", ".doc", ".docx", ".xls", ".xlsx", ".xml", ".json", ".zip"})

_NUMBERS = (bool, np.bool_, int, float, np.integer, np.floating, Decimal)
_DATES = (datetime.date, np.datetime64)
_SCALARS = (str, *_NUMBERS, *_DATES)

_EMBEDDING_NAME = re.compile(r"(?:^|[^a-z])emb(?:ed(?:ding)?)?s?(?:$|[^a-z])", re.IGNORECASE)
_LEAST_UNIT = 16  # with this many numbers in each cell, a norm of 1 in all cells is not a coincidence

_MOST_CATEGORIES = 40  # values that are categories; rarer ones beside them are pooled
_MOST_CODES = 100  # the same for single words
_CODE_REPEATS = 20  # mean number of cells of such a word
_COVERED = 0.9  # share of the cells that these values must hold
_REPEATS = 5  # mean number of cells of a value, from which on values are names out of a list, however many words
_TEXT_WORDS = 4  # median words of a cell, from which on it says more than a name
_SAMPLE = 5000  # distinct texts whose words are counted
_READ = 5000  # letters of a text whose words are counted
_NAME_WORDS = 8  # a text of more words is no name, also if it repeats

# Columns that cannot be in a written form are not tried: each try reads every distinct cell.
_READABLE = 0.5  # least share of cells that numbers or dates could be
_LONGEST_VALUE = 60
_LISTS = 0.05  # least share of cells with a sign that may stand between tags
_LONGEST_TAGS = 500
_EMPTY_LIST = re.compile(r"\[\s*\]|\(\s*\)|\{\s*\}")
_BETWEEN_TAGS = re.compile(r"[|;、，,/\n·#]")

_LEAST_COMBINED = 3  # tags from which on a few values may be combinations of them
_COMBINED = 1.5  # values for each tag, from which on they are
_MOVED = 0.5  # least share of tags that stand first in one value and later in another
_SENTENCES = 0.1  # share of the parts of all cells, from which on words of sentences are no chance
_PHRASE_WORDS = 2  # median words of a part, from which on it may be a remark
_CLAUSE_WORDS = 3.5  # the same, for parts that are hardly ever tags
# Words of sentences that names of things lack: forms of "be" and "have", pronouns, "very", "not". In capitals, they may
# belong to a title. English, German, Dutch, French, Spanish, Italian, Portuguese, Russian. Words that are tags of
# another language, such as "war", are left out.
_WORDS_OF_SENTENCES = """
    was were is are will would had have has did does i'm it's i we they my our not very too never
    waren ist sind wird hat hatte haben ich wir nicht sehr nie niet erg wij
    était est sont sera avait je nous pas très trop fue es está muy nos hay
    è molto foi é muito não был была было были не очень мы я"""
_OF_SENTENCES = frozenset(_WORDS_OF_SENTENCES.split())
_SIGNS_OF_SENTENCES = re.compile("[!?。！？很了吗呢]|非常|没有|不错|[でま]す|でした|ました|습니다|어요|아요")

_DISTINCT = 0.9  # share of distinct values in a column of identifiers
_LEAST_CELLS = 10  # with fewer cells, it is no evidence that all are distinct
_CONSTANT_CELLS = 3  # with fewer cells, it is no evidence that all are equal
_COLLISIONS = 10.0  # repeated values to expect by chance in a column of whole numbers that has none
_CODE_WORDS = 2.5
_CODE_DIGITS = 8  # whole numbers of so many digits, all of one length, are codes
_EPOCHS = ((3e8, 2.6e9), (3e11, 2.6e12))  # seconds and milliseconds since 1970 are times

_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]{1,9}://|www\.|mailto:|data:[\w/+.-]+[;,])\S*", re.IGNORECASE)
_MAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
_LONGEST_MAIL = 320  # 64 letters before the @, and 255 behind; the time of the pattern grows with the square
_PHONE = re.compile(r"[+(]?\d[\d ()./-]{6,18}\d")
_PHONE_BEGIN = re.compile(r"[+(0]|(?!(?:19|20)\d\d[^\d])\d+[ ./-]+\d+[ ./-]+\d")  # 2024-100000 is none
_COMPUTER = re.compile(
    r"(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?|[0-9a-f]{2}(?:([:-])[0-9a-f]{2})(?:\1[0-9a-f]{2}){4}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4}"
    r"|(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}",
    re.IGNORECASE,
)  # by IP, also of version 6, or by MAC
_CLOCK = re.compile(r"(\d{1,4}):(\d\d)(?::\d\d)?", re.ASCII)
_MINUTES = re.compile(r"-?\d{1,4}:\d\d", re.ASCII)
_EVENING, _LATE = 18, 0.1  # share of cells from this hour on, which lengths of time below 24 hardly ever have
_NUMBERED = re.compile(r"(?:[^\W\d_]+[\W_]+){1,2}[0-9]+")  # one or two words and a number
_HASH = re.compile(r"[0-9a-f]{16,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SIZES = re.compile(r"\d[\d.,]*(?:\s*[x×*/:-]\s*\d[\d.,]*)+")
_ID_NAMES = frozenset(
    (
        *("id", "ids", "uid", "uuid", "guid", "sku", "isbn", "isbn10", "isbn13", "issn", "ean", "upc", "gtin", "asin"),
        *("iban", "imei", "ssn", "doi"),
    )
)
# Scripts that put no blanks between words, with the letters of a word in the mean.
_UNSPACED = {
    "CJK": 1.6,
    "HIRAGANA": 2.5,
    "KATAKANA": 3.5,
    "KATAKANA-HIRAGANA": 3.5,
    "THAI": 4.5,
    "LAO": 4.5,
    "KHMER": 4.5,
    "MYANMAR": 4.5,
}


class ColumnKind(NamedTuple):
    """What a column holds."""

    kind: str
    """One of the kinds that `column_kind` names."""
    seen: str
    """The facts that decided."""
    choice: str | None = None
    """Between which readings was chosen; None if the cells allow only one."""
    odd: str | None = None
    """A text that cannot be read as nearly all others."""
    form: Found | None = None
    """The written form of the cells; None if they are values, or of another kind."""


def column_kind(column: pd.Series) -> tuple[str, str]:
    """Detect what a column holds, and give the reason.

    Parameters
    ----------
    column : Series

    Returns
    -------
    kind : {"image", "audio", "video", "text", "number", "date", "boolean", "category", "tags", "string", "series",
        "embedding", "graph", "duration", "identifier", "address", "constant", "empty", "other"}
        ``"string"`` is a short text such as a name, ``"text"`` one of sentences.
    reason : str

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse.column_kinds import column_kind
    >>> column_kind(pd.Series(["1,200.50 €", "80 €", None, "3,100 €"]))
    ('number', 'numbers in EUR, with commas between thousands, 80 to 3100; 1 of 4 cells missing')
    """
    return find_kind(column)[:2]


def find_kind(column: pd.Series) -> ColumnKind:
    """Detect what a column holds, with the facts and, where there was one, the choice between readings."""
    found = _kind_of(column)
    if found.kind in UNUSED:
        return found
    n_missing = int(column.isna().sum())
    if column.dtype == object or pd.api.types.is_string_dtype(column.dtype):
        n_missing += sum(map(_is_blank, column.tolist()))
    return found._replace(seen=f"{found.seen}; {n_missing} of {len(column)} cells missing") if n_missing else found


def _kind_of(column: pd.Series) -> ColumnKind:
    dtype, name = column.dtype, str(column.name)
    if isinstance(dtype, pd.CategoricalDtype):
        return _of_categories(column)
    if pd.api.types.is_bool_dtype(dtype):
        return _unless_constant(column, ColumnKind("boolean", f"dtype {dtype}"))
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return _number_kind(column, f"dtype {dtype}", name)
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return _unless_constant(column, ColumnKind("date", f"dtype {dtype}"))
    if pd.api.types.is_timedelta64_dtype(dtype):
        return _unless_constant(column, ColumnKind("duration", f"dtype {dtype}"))
    if isinstance(dtype, pd.IntervalDtype):
        return ColumnKind("category", f"dtype {dtype}")
    return _object_kind(column)


def _of_categories(column: pd.Series) -> ColumnKind:
    counts = column.value_counts()
    counts = counts[counts > 0]
    values = counts.index.tolist()
    are_texts = all(isinstance(value, str) for value in values)
    if are_texts and len(values) > 20 and not _repeat(Counter(dict(zip(values, counts.tolist(), strict=True)))):
        return _object_kind(column.astype(object))  # texts that a file format made a dictionary of
    found = {cell_kind(value) for value in values}
    if len(found) == 1 and found <= set(_MEDIA):
        return _object_kind(column.astype(object))
    n_values = len({value.strip() if isinstance(value, str) else value for value in values})
    return _unless_constant(column, ColumnKind("category", f"dtype category, {_number(n_values, 'value')}"))


def _unless_constant(column: pd.Series, kind: ColumnKind) -> ColumnKind:
    """Return a kind, or that the column is empty, or holds one value and no gap."""
    n_present, n_distinct = int(column.notna().sum()), column.nunique()
    if not n_present:
        return _EMPTY
    if n_distinct == 1 and n_present == len(column) and n_present >= _CONSTANT_CELLS:
        return _constant(column.dropna().iloc[0], n_present)
    return kind


_EMPTY = ColumnKind("empty", "no cell holds a value")


def _constant(value: Any, n_cells: int) -> ColumnKind:
    if isinstance(value, _DATES):
        value = str(value)
    elif isinstance(value, np.ndarray):
        value = value.tolist()
    return ColumnKind("constant", f"all {n_cells} cells are {short_repr(item(value))}")


def _number(count: float, what: str) -> str:
    return f"{count:g} {what}" + ("" if count == 1 else "s")


# ---------------------------------------------------------------------- numbers


def _number_kind(column: Any, seen: str, name: str) -> ColumnKind:
    """Return whether numbers are a feature, or count rows, or identify them."""
    if isinstance(column, pd.Series) and column.dtype != object:
        values = column.to_numpy(dtype=float, na_value=np.nan)
    else:
        values = np.array([np.nan if is_missing(cell) else _float(cell) for cell in column])
    present = values[~np.isnan(values)]
    n_distinct = len(np.unique(present))
    if not len(present):
        return _EMPTY
    if n_distinct == 1 and len(present) == len(values) and len(present) >= _CONSTANT_CELLS:
        return ColumnKind("constant", f"all {len(values)} cells are {present[0]:g}")
    if np.isinf(present).any():
        return _infinite(present, seen)
    if (present % 1 != 0).any():
        return ColumnKind("number", _with_range(seen, present))
    return _whole_kind(present, n_distinct, _with_range(seen, present), name)


def _infinite(present: np.ndarray, seen: str) -> ColumnKind:
    finite = present[np.isfinite(present)]
    n = len(present) - len(finite)
    are, them = ("cell is", "it") if n == 1 else ("cells are", "them")
    choice = f"{n} {are} infinite, which fit refuses; make {them} missing"
    return ColumnKind("number", _with_range(seen, finite) if len(finite) else seen, choice)


def _with_range(seen: str, present: np.ndarray) -> str:
    low, high = f"{present.min():.6g}", f"{present.max():.6g}"
    return f"{seen}, {low if low == high else f'{low} to {high}'}"


def _float(cell: Any) -> float:
    try:
        return float(cell)
    except OverflowError:  # a whole number of more than 308 digits
        return float("inf") if cell > 0 else float("-inf")


def _whole_kind(present: np.ndarray, n_distinct: int, seen: str, name: str) -> ColumnKind:
    n_cells, low, high = len(present), present.min(), present.max()
    steps = np.diff(present)
    if n_cells > 2 and (steps == 1).all():
        return _row_number(f"{seen}; every value is the previous one plus 1: a row number", "number")
    if n_distinct > 2 and _are_days(present):
        return ColumnKind("number", f"{seen}: days written as numbers", "could also be: date")
    all_distinct = n_distinct == n_cells
    facts = f"{seen}; {n_distinct} distinct values in {n_cells} cells"
    if _says_id(name):
        if n_distinct >= _DISTINCT * n_cells and n_cells > 2:
            return ColumnKind("identifier", f"{facts}, and the name says identifier")
        repeated = f"{facts}; the name says identifier"
        counts = pd.Series(present).value_counts()
        if _are_categories(counts.tolist(), n_cells):
            return ColumnKind("category", repeated, "could also be: number")
        return ColumnKind("identifier", f"{repeated} of something with several rows", "could also be: number")
    if all_distinct and n_cells >= _LEAST_CELLS and len(set(steps.tolist())) > 1:
        expected = n_cells * (n_cells - 1) / (2 * (high - low + 1))
        if expected >= _COLLISIONS:
            facts = f"{facts}: measured or counted values would repeat"
            return ColumnKind("identifier", facts, "could also be: number")
    is_time = any(first <= low and high <= last for first, last in _EPOCHS)
    n_digits = {len(f"{value:.0f}") for value in (abs(low), abs(high))}
    many = n_cells >= _LEAST_CELLS and n_distinct >= _DISTINCT * n_cells
    if many and len(n_digits) == 1 and min(n_digits) >= _CODE_DIGITS and not is_time and low > 0:
        facts = f"{facts}, all of {n_digits.pop()} digits: a code"
        return ColumnKind("identifier", facts, "could also be: number")
    return ColumnKind("number", seen)


def _are_days(present: np.ndarray) -> bool:
    """Return whether all numbers say year, month and day, as 20240131 does."""
    years, months, days = present // 10_000, present // 100 % 100, present % 100
    return bool(((years >= 1900) & (years <= 2100) & (months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)).all())


def _row_number(seen: str, other: str) -> ColumnKind:
    return ColumnKind("identifier", seen, f"could also be: {other}")


def _says_id(name: str) -> bool:
    """Return whether a word of a column's name says identifier: ``ID``, ``user_id``, ``orderId``, ``ISBN13``."""
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return any(word.lower() in _ID_NAMES for word in re.split(r"[\W_]+", words))


def _are_categories(counts: Iterable[int], n_cells: int, most: int = _MOST_CATEGORIES) -> bool:
    """Return whether values are categories: a few of those that repeat hold nearly all cells."""
    least = 2 if n_cells < 30 else 3
    held = sum(sorted((n for n in counts if n >= least), reverse=True)[:most])
    return held >= _COVERED * n_cells


def _repeat(counts: Counter[str]) -> bool:
    """Return whether texts are categories; more of them if they are single words that repeat, as codes of states do."""
    are_codes = all(" " not in text for text in counts) and counts.total() >= _CODE_REPEATS * len(counts)
    most = _MOST_CODES if are_codes else _MOST_CATEGORIES
    return _are_categories(counts.values(), counts.total(), most)


# ---------------------------------------------------------------------- cells of any type


def _object_kind(column: pd.Series) -> ColumnKind:
    cells = [cell for cell in column.tolist() if not is_missing(cell) and not _is_blank(cell)]
    if not cells:
        n_blank = int(column.notna().sum())
        return ColumnKind("empty", f"{n_blank} cells hold only blanks, and the others nothing") if n_blank else _EMPTY
    types, name, has_gaps = {type(cell) for cell in cells}, str(column.name), len(cells) < len(column)
    if all(issubclass(kind, (bool, np.bool_)) for kind in types):
        return _constant_or(cells, has_gaps, ColumnKind("boolean", "true or false"))
    if all(issubclass(kind, _NUMBERS) for kind in types):
        return _number_kind(column, "numbers in a column of objects", name)
    if all(issubclass(kind, _DATES) for kind in types):
        return _constant_or(cells, has_gaps, ColumnKind("date", "dates in a column of objects"))
    if all(issubclass(kind, (datetime.timedelta, np.timedelta64)) for kind in types):
        return _constant_or(cells, has_gaps, ColumnKind("duration", "lengths of time in a column of objects"))
    if all(issubclass(kind, _SCALARS) for kind in types):
        return _with_row(_text_kind(cells, name, has_gaps), column)
    return _of_objects(column, cells, name)


def _with_row(found: ColumnKind, column: pd.Series) -> ColumnKind:
    """Return a kind whose facts name the row of the text that cannot be read as the others."""
    if found.odd is None:
        return found
    cells = zip(column.index, column.tolist(), strict=True)
    label = next(label for label, cell in cells if not is_missing(cell) and str(cell).strip() == found.odd)
    shown = short_repr(found.odd)
    return found._replace(seen=found.seen.replace(f"but {shown}", f"but {shown} in row {label!r}", 1))


def _is_blank(cell: Any) -> bool:
    return isinstance(cell, str) and not cell.strip()


def _constant_or(cells: list[Any], has_gaps: bool, kind: ColumnKind) -> ColumnKind:
    is_constant = not has_gaps and len(cells) >= _CONSTANT_CELLS and all(cell == cells[0] for cell in cells)
    return _constant(cells[0], len(cells)) if is_constant else kind


def _of_objects(column: pd.Series, cells: list[Any], name: str) -> ColumnKind:
    filled = [cell for cell in cells if not _is_empty_list(cell)]
    if not filled:
        return ColumnKind("empty", f"{len(cells)} cells hold empty lists, and the others nothing")
    kinds = Counter(cell_kind(cell) for cell in filled)
    if kinds.keys() <= {"tags", "text"}:  # a cell without tags is an empty list
        if _are_equal(column, cells):
            return _constant(cells[0], len(cells))
        found = tag_format(cells)
        if found is None and len(kinds) > 1 and tag_format(cells, declared=True) is None:
            return _mixed(column, kinds)  # texts that are no lists
        if found is None:
            return ColumnKind("other", "lists of texts that hardly ever repeat")
        return _of_form("tags", found, len(cells))
    if kinds.keys() == {"other"}:
        return ColumnKind("other", _untaken(filled[0]))
    if "tags" in kinds:
        return _mixed(column, kinds)
    kinds = Counter(cell_kind(cell) for cell in cells)
    if len(kinds) > 1:
        return _mixed(column, kinds)
    kind = next(iter(kinds))
    if kind == "series" and _are_equal(column, cells):
        return _constant(cells[0], len(cells))
    if kind == "series" and (reason := _embedding_reason(name, cells)):
        return ColumnKind("embedding", reason)
    return ColumnKind(kind, _SEEN[kind])


def _is_empty_list(cell: Any) -> bool:
    if isinstance(cell, str):
        return _EMPTY_LIST.fullmatch(cell.strip()) is not None
    if isinstance(cell, np.ndarray):
        return cell.shape == (0,)
    return isinstance(cell, (list, tuple, set, frozenset)) and not cell


def _are_equal(column: pd.Series, cells: list[Any]) -> bool:
    """Return whether all cells of a column without gaps are lists of the same parts."""
    if len(cells) < len(column) or len(cells) < _CONSTANT_CELLS:
        return False
    return all(type(cell) is type(cells[0]) and np.array_equal(cell, cells[0]) for cell in cells)


def _untaken(cell: Any) -> str:
    what = type(cell).__name__
    advice = _ADVICE.get(what.removesuffix("128"))
    return f"cells of type {what}, which no default encoder takes" + (f"; {advice}" if advice else "")


_SEEN = {
    "image": "image files, PIL images or arrays of 2 or 3 dimensions",
    "audio": "sound files",
    "video": "video files, or arrays of 4 dimensions",
    "series": "arrays of one dimension",
    "graph": "graphs: edges between nodes",
}


def _mixed(column: pd.Series, kinds: Counter[str]) -> ColumnKind:
    """Return that no reading takes all cells, with the row of the first one of a rarer kind."""
    most, n = next(pair for pair in kinds.most_common() if pair[0] != "other")
    others = sum(kinds.values())
    for label, cell in zip(column.index, column.tolist(), strict=True):
        is_empty = most == "tags" and _is_empty_list(cell)
        if not (is_missing(cell) or _is_blank(cell) or is_empty) and cell_kind(cell) != most:
            facts = f"{n} of {others} cells are of the kind {most!r}, but {short_repr(cell)} in row {label!r} is not"
            return ColumnKind("other", f"{facts}; correct such cells, or make them missing", f"could also be: {most}")
    raise AssertionError("one kind")  # pragma: no cover


def _embedding_reason(name: str, cells: list[Any]) -> str | None:
    """Return why arrays of one dimension are embeddings and not series of equal length; None without such evidence."""
    n_dims = len(cells[0])
    if any(len(cell) != n_dims or np.asarray(cell).dtype.kind not in "iuf" for cell in cells):
        return None
    if _EMBEDDING_NAME.search(name):
        return f"arrays of {n_dims} numbers, and the column's name says embedding"
    if n_dims >= _LEAST_UNIT and all(abs(np.linalg.norm(cell) - 1) < 1e-3 for cell in cells):
        return f"arrays of {n_dims} numbers, each of norm 1"
    return None


_PICTURE_BYTES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_ADVICE = {
    "dict": "make a column of each key: pandas.json_normalize",
    "bytes": "decode them, if they are texts",
    "Period": "give them as dates: .dt.to_timestamp()",
    "time": "give them as texts, such as '14:30'",
    "Timedelta": "give them as numbers: .dt.total_seconds()",
    "complex": "give the real and the imaginary part as columns",
}


def cell_kind(cell: Any) -> str:
    """Return what one cell holds: a medium, ``"series"``, ``"graph"``, ``"tags"``, ``"text"`` or ``"other"``."""
    if isinstance(cell, np.ndarray):
        if cell.dtype.kind in "OUT" and cell.ndim == 1:
            return cell_kind(cell.tolist())
        return {1: "series", 2: "image", 3: "image", 4: "video"}.get(cell.ndim, "other")
    if isinstance(cell, (list, tuple, set, frozenset)):
        kind = _list_kind(list(cell))
        return "other" if kind == "series" and isinstance(cell, (set, frozenset)) else kind
    if isinstance(cell, bytes):
        is_webp = cell[:4] == b"RIFF" and cell[8:12] == b"WEBP"
        return "image" if is_webp or cell.startswith(_PICTURE_BYTES) else "other"
    if isinstance(cell, dict):
        return "graph" if "edge_index" in cell else "other"
    if type(cell).__module__.startswith(("torch_geometric.data.", "networkx.classes.")):
        return "graph"
    if type(cell).__module__.startswith("PIL."):
        return "image"
    if isinstance(cell, (str, os.PathLike)):
        suffix = _suffix(cell)
        for kind, suffixes in zip(_MEDIA, (IMAGE_SUFFIXES, AUDIO_SUFFIXES, VIDEO_SUFFIXES), strict=True):
            if suffix in suffixes:
                return kind
        return "text" if isinstance(cell, str) else "other"
    return "other"


def _suffix(cell: str | os.PathLike) -> str:
    return PurePath(cell).suffix.lower() if len(str(cell)) < 4096 else ""


def _list_kind(parts: list[Any]) -> str:
    if all(isinstance(part, (int, float, np.number)) for part in parts):
        return "series"
    if not all(isinstance(part, str) for part in parts):
        return "other"
    # A list of paths is several pictures of one row, or the frames of a video: the user must say which.
    return "other" if any(cell_kind(part) in _MEDIA for part in parts) else "tags"


# ---------------------------------------------------------------------- texts


def _text_kind(cells: list[Any], name: str, has_gaps: bool) -> ColumnKind:
    """Return what texts hold, some of which may be numbers, dates or booleans by type."""
    texts = [cell if isinstance(cell, str) else str(cell) for cell in cells]
    all_texts = all(isinstance(cell, str) for cell in cells)
    counts = Counter(text.strip() for text in texts)
    for decide in (_address_kind, _media_kind):
        found = decide(counts) if all_texts else None
        if found:
            return found
    if len(counts) == 1 and (has_gaps or len(texts) < _CONSTANT_CELLS):
        if boolean_format(cells):
            return ColumnKind("boolean", f"{short_repr(texts[0])} or nothing")
        if has_gaps and len(texts) >= _CONSTANT_CELLS and not _is_numeric(texts[0]):
            return ColumnKind(
                "category", f"{short_repr(texts[0])} in {_number(len(texts), 'cell')}, and nothing elsewhere"
            )
    elif len(counts) == 1:
        return _constant(texts[0], len(texts))
    found = _formatted(cells, counts, name) or _worded(counts, name, mixed=not all_texts)
    are_words = found.kind in ("string", "category") and found.choice is None
    return found._replace(choice=unit_clash(cells)) if are_words and _may_count(counts) else found


def _is_numeric(text: str) -> bool:
    return number_format([text]) is not None


def _address_kind(counts: Counter[str]) -> ColumnKind | None:
    n_cells = counts.total()
    n_addresses = sum(n for text, n in counts.items() if _ADDRESS.fullmatch(text))
    if n_addresses < _DISTINCT * n_cells or _repeat(counts):
        return None
    files = {cell_kind(text) for text in counts} & set(_MEDIA)
    what = f"addresses of {files.pop()} files, which no encoder fetches" if files else "addresses"
    return ColumnKind("address", f"{what}, such as {short_repr(next(iter(counts)))}")


def _media_kind(counts: Counter[str]) -> ColumnKind | None:
    kinds: Counter[str] = Counter()
    for text, n in counts.items():
        kinds[cell_kind(text)] += n
    kind, n = kinds.most_common(1)[0]
    if kind not in _MEDIA:
        return None
    if n == counts.total():
        return ColumnKind(kind, _SEEN[kind])
    other = next(text for text in counts if cell_kind(text) != kind)
    facts = f"{n} of {counts.total()} cells name {kind} files, but {short_repr(other)} does not"
    return ColumnKind("other", f"{facts}; correct such cells, or make them missing", f"could also be: {kind}", other)


def _formatted(cells: list[Any], counts: Counter[str], name: str) -> ColumnKind | None:
    """Return the kind of cells that are all written as flags, numbers, dates or lists of tags."""
    if len(counts) <= _MOST_CATEGORIES and (found := boolean_format(cells)):
        if all(map(is_mark, found.odd)):
            return _of_form("boolean", found, len(cells))
        return _third_value(found, counts)
    if _are_codes(counts):
        return _code_kind(counts)
    may_count = _may_count(counts)
    number, date = (number_format(cells), date_format(cells)) if may_count else (None, None)
    if number and date and date.share >= number.share:
        return _of_form("date", date, len(cells), date.choice or _other_than_date(date, counts))
    if number:
        values = [_float(c) if isinstance(c, _NUMBERS) else read_cell(c, number.format) for c in cells]
        seen, choice = facts_of(number, len(cells)), number.choice
        if all(_MINUTES.fullmatch(text) for text in counts if text not in number.odd):
            seen, choice = f"{seen}, from minutes:seconds", choice or _other_than_time(counts)
        kind = _number_kind(values, seen, name)._replace(form=number)
        return kind if kind.choice else kind._replace(choice=choice)
    if date:
        return _of_form("date", date, len(cells))
    if may_count and (clash := number_clash(cells)):
        return ColumnKind("other", clash, "could also be: string")
    if _may_be_tags(counts) and (tags := tag_format(cells)):
        return _tag_kind(tags, counts, len(cells))
    return None


def _third_value(found: Found, counts: Counter[str]) -> ColumnKind:
    """Return that cells are categories, because a few hold a word that is neither true nor false."""
    n_cells, n_odd = counts.total(), sum(found.odd.values())
    odd = next(text for text in found.odd if not is_mark(text))
    facts = f"{_values(counts)}; {n_cells - n_odd} cells say {found.seen}, but {short_repr(odd.strip())} does not"
    return ColumnKind("category", facts, "could also be: boolean", odd.strip())


def _values(counts: Counter[str]) -> str:
    """Return how many values there are, and two that differ in capitals alone, if there are such."""
    facts = f"{_number(len(counts), 'distinct value')} in {_number(counts.total(), 'cell')}"
    if len(counts) > _MOST_CODES:
        return facts
    spelled: dict[str, str] = {}
    for text in counts:
        first = spelled.setdefault(text.casefold(), text)
        if first != text:
            return f"{facts}, of which {short_repr(first)} and {short_repr(text)} differ in capitals alone"
    return facts


def _other_than_date(date: Found, counts: Counter[str]) -> str | None:
    """Return what else dates may be that are also read as numbers: lengths of time, or numbers of 8 digits."""
    if date.format["formats"] != ["time"]:
        return "could also be: number"
    return None if _is_surely_of_day(counts) else "could also be: number, as lengths of time"


def _other_than_time(counts: Counter[str]) -> str | None:
    """Return that lengths of time may be results of games, if seconds such as 05 stand nowhere."""
    has_zero = any(text[-2] == "0" for text in counts if _MINUTES.fullmatch(text))
    return None if has_zero else "could also be: string"


def _is_surely_of_day(counts: Counter[str]) -> bool:
    """Return whether times are those of a clock: in steps of five minutes, or with two digits and up to evening."""
    parts = {text: found for text in counts if (found := _CLOCK.fullmatch(text))}
    n_cells = sum(counts[text] for text in parts)
    if n_cells >= _LEAST_CELLS and len(parts) > 1 and all(int(found[2]) % 5 == 0 for found in parts.values()):
        return True
    n_late = sum(counts[text] for text, found in parts.items() if int(found[1]) >= _EVENING)
    return all(len(found[1]) == 2 for found in parts.values()) and n_late > _LATE * n_cells


def _tag_kind(found: Found, counts: Counter[str], n_cells: int) -> ColumnKind | None:
    """Return the kind of cells that can be split: tags, or None for sentences, and for categories that hold a sign."""
    lists = {text: read_cell(text, found.format) or [] for text in counts}
    are_categories = _repeat(Counter({text: n for text, n in counts.items() if lists[text]}))
    if are_categories and not _are_combinations(lists.values()):
        return None
    others = ["category"] if are_categories else []
    if found.format["separator"] != "list":
        parts: Counter[str] = Counter()
        for text, n in counts.items():
            parts.update(dict.fromkeys(lists[text], n))
        of_sentences = _are_clauses(parts)
        if of_sentences and not are_categories and not _are_categories(parts.values(), parts.total()):
            return None
        others += ["text"] if of_sentences or _may_be_remarks(parts) else []
    return _of_form("tags", found, n_cells, f"could also be: {' or '.join(others)}" if others else None)


def _are_combinations(lists: Iterable[list[str]]) -> bool:
    """Return whether a few values combine the same tags: there are more of them than tags, which change their places.

    In ``Paris, France`` and in ``Europe/France``, each part has its place.
    """
    first, later, n_values = set(), set(), 0
    for tags in lists:
        n_values += 1
        first.update(tags[:1])
        later.update(tags[1:])
    n_tags = len(first | later)
    return n_tags >= _LEAST_COMBINED and n_values >= _COMBINED * n_tags and len(first & later) >= _MOVED * n_tags


def _are_clauses(parts: Counter[str]) -> bool:
    """Return whether the parts of cells are parts of sentences: they have verbs and such words, or are long."""
    if np.median([n_words(part) for part in list(parts)[:_SAMPLE]]) >= _CLAUSE_WORDS:
        return True
    return sum(n for part, n in parts.items() if _is_clause(part)) >= _SENTENCES * parts.total()


def _is_clause(part: str) -> bool:
    """Return whether a part has several words, and a word or a sign of sentences."""
    if _SIGNS_OF_SENTENCES.search(part):
        return n_words(part) >= _PHRASE_WORDS
    words = part.split()[:20]
    return len(words) > 1 and not _OF_SENTENCES.isdisjoint(words)


def _may_be_remarks(parts: Counter[str]) -> bool:
    """Return whether most parts are phrases such as "bad room", which are remarks in one table and tags in another."""
    some = list(parts)[:_SAMPLE]
    are_long = np.median([n_words(part) for part in some]) >= _PHRASE_WORDS
    return bool(are_long and sum(any(map(str.isupper, part)) for part in some) < len(some) / 2)


def _may_count(counts: Counter[str]) -> bool:
    """Return whether so many cells are short, and hold a digit, that all may be numbers or dates."""
    return _share(counts, lambda text: len(text) <= _LONGEST_VALUE and _has_digit(text)) >= _READABLE


def _of_form(kind: str, found: Found, n_cells: int, choice: str | None = None) -> ColumnKind:
    return ColumnKind(kind, facts_of(found, n_cells), choice or found.choice, form=found)


def _has_digit(text: str) -> bool:
    return any(map(str.isdecimal, text))


def _may_be_tags(counts: Counter[str]) -> bool:
    """Return whether some cells hold a sign between words, and few are long."""
    counts = Counter({text: n for text, n in counts.items() if not _EMPTY_LIST.fullmatch(text)})
    return (
        bool(counts)
        and _share(counts, lambda text: _BETWEEN_TAGS.search(text)) >= _LISTS
        and _share(counts, lambda text: len(text) <= _LONGEST_TAGS) >= _COVERED
    )


def facts_of(found: Found, n_cells: int) -> str:
    """Return what was found, with the share of cells that could be read if it is not all of them."""
    if not found.odd:
        return found.seen
    words = sorted(found.odd, key=lambda word: -found.odd[word])
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    shown = ", ".join(map(short_repr, words[:3])) + more
    verb = "stands" if len(words) == 1 else "stand"
    return f"{found.seen}; {found.share:.1%} of {n_cells} cells can be read, and {shown} {verb} for missing cells"


def _are_codes(counts: Counter[str]) -> bool:
    """Return whether digits are codes and no numbers: they begin with 0, and all have the same length."""
    lengths = {len(text) for text in counts}
    return (
        len(lengths) == 1
        and max(lengths) > 1
        and all(text.isdecimal() for text in counts)
        and any(text.startswith("0") for text in counts)
    )


def _code_kind(counts: Counter[str]) -> ColumnKind:
    n_cells = counts.total()
    facts = f"{len(counts)} codes in {n_cells} cells, with zeros at the beginning"
    if n_cells >= _LEAST_CELLS and len(counts) >= _DISTINCT * n_cells:
        return ColumnKind("identifier", facts, "could also be: string")
    return ColumnKind("category" if _repeat(counts) else "string", facts)


def _worded(counts: Counter[str], name: str, *, mixed: bool) -> ColumnKind:
    """Return what words are: an identifier, a category, a short string, or free text."""
    n_cells, n_distinct = counts.total(), len(counts)
    words = _median_words(counts)
    facts = _values(counts)
    is_named = _says_id(name)
    odd = None if is_named else _odd_among_numbers(counts)
    if not odd and (reason := _identifier_reason(counts, is_named=is_named)):
        choice = "could also be: string" if n_cells < _LEAST_CELLS else None
        return ColumnKind("identifier", f"{facts}, {reason}", choice)
    if (n_distinct <= 2 and words < _TEXT_WORDS - 1) or _repeat(counts):
        facts += f"; {odd[0]}" if odd else ""
        return ColumnKind("category", facts, "could also be: number" if odd else None, odd[1] if odd else None)
    if is_named and words <= _CODE_WORDS:
        reason = "and the name says identifier of something with several rows"
        return ColumnKind("identifier", f"{facts}, {reason}", "could also be: string")
    if odd:
        advice = "correct such cells, or make them missing"
        return ColumnKind("other", f"{odd[0]}; {advice}", "could also be: string", odd[1])
    some = f"{_number(round(words, 1), 'word')} in the median" if words else f"such as {short_repr(next(iter(counts)))}"
    facts += f", {some}"
    if mixed:
        return ColumnKind("string", f"{facts}, texts beside other values", "could also be: text")
    if words >= _TEXT_WORDS or (words >= _TEXT_WORDS - 1 and _are_phrases(counts)):
        if n_cells >= _REPEATS * n_distinct and words <= _NAME_WORDS:
            return ColumnKind("string", facts, "could also be: text")
        return ColumnKind("text", facts)
    return ColumnKind("string", facts)


def _median_words(counts: Counter[str]) -> float:
    """Return the median number of words of the cells, of a sample where there are many distinct ones."""
    texts = list(counts)[:: max(1, len(counts) // _SAMPLE)]
    return float(np.median(np.repeat([n_words(text) for text in texts], [counts[text] for text in texts])))


def _odd_among_numbers(counts: Counter[str]) -> tuple[str, str] | None:
    """Return a fact and the first text among numbers that is none; None if most texts are no numbers."""
    n_cells = counts.total()
    if n_cells < 5:
        return None
    numbers = {text for text in counts if _has_digit(text) and _is_numeric(text)}
    n_numbers = sum(counts[text] for text in numbers)
    if n_numbers < 0.8 * n_cells or n_numbers == n_cells:
        return None
    if any(text.isdecimal() and text.startswith("0") and len(text) >= _CODE_DIGITS for text in numbers):
        return None  # codes, such as book numbers, of which some end with a letter
    odd = next(text for text in counts if text not in numbers)
    return f"{n_numbers} of {n_cells} cells are numbers, but {short_repr(odd)} is not", odd


def _identifier_reason(counts: Counter[str], *, is_named: bool) -> str | None:
    n_cells, n_distinct = counts.total(), len(counts)
    if n_distinct < _DISTINCT * n_cells or n_cells < 3:
        return None
    example = f"such as {short_repr(next(iter(counts)))}"
    if is_named and _share(counts, lambda text: n_words(text) <= _CODE_WORDS) >= _DISTINCT:
        return f"{example}, and the name says identifier"
    if n_cells < _LEAST_CELLS:
        return None
    for what, test in _FORMS.items():
        if _share(counts, test) >= _DISTINCT:
            return f"{what}, {example}"
    numbered = Counter(text.rstrip("0123456789") for text in counts if _NUMBERED.fullmatch(text))
    if numbered and max(numbered.values()) >= _DISTINCT * n_distinct:
        return f"one text with another number in each, {example}"
    if _share(counts, _is_code) >= _DISTINCT:
        shapes = Counter({_shape(text): 0 for text in counts})
        for text, n in counts.items():
            shapes[_shape(text)] += n
        if sum(n for _, n in shapes.most_common(5)) >= _DISTINCT * n_cells:
            return f"codes of letters and digits in one form, {example}"
    return None


_FORMS: dict[str, Callable[[str], Any]] = {
    "e-mail addresses": lambda text: len(text) <= _LONGEST_MAIL and _MAIL.fullmatch(text),
    "hashes": _HASH.fullmatch,
    "addresses of computers": _COMPUTER.fullmatch,
    "telephone numbers": lambda text: _is_long_number(text) and _PHONE_BEGIN.match(text),
    "numbers of one kind": lambda text: _is_long_number(text),
    "names of files that no encoder reads": lambda text: " " not in text and _suffix(text) in _OTHER_FILES,
}


def _is_long_number(text: str) -> bool:
    """Return whether a text has the digits, and the signs between them, of a telephone or an order."""
    return _PHONE.fullmatch(text) is not None and sum(map(str.isdecimal, text)) >= 7


def _share(counts: Counter[str], test: Callable[[str], Any]) -> float:
    return sum(n for text, n in counts.items() if test(text)) / counts.total()


def _is_code(text: str) -> bool:
    """Return whether a text is one token with digits, and no size such as 10x20."""
    is_token = " " not in text and len(text) > 1 and _has_digit(text)
    return is_token and not _SIZES.fullmatch(text) and n_words(text) <= _CODE_WORDS


def _shape(text: str) -> str:
    """Return the form of a code: ``ORD-0012`` and ``ORD-7`` are both ``a-0``."""
    return re.sub(r"0+", "0", re.sub(r"\d", "0", re.sub(r"[^\W\d_]+", "a", text)))


def n_words(text: str) -> float:
    """Return the number of words with letters; in scripts without blanks, it is estimated from the letters.

    Examples
    --------
    >>> from ensemblefuse.column_kinds import n_words
    >>> n_words("a red bicycle"), round(n_words("这家餐厅的菜很好吃"))
    (3.0, 6)
    """
    text = text[:_READ]
    if text.isascii():
        return float(sum(any(map(str.isalpha, token)) for token in text.split()))
    spaced, words = [], 0.0
    for char in text:
        # The scripts begin at U+0E00; a look-up of each letter of a long French text would take its time.
        script = unicodedata.name(char, "").partition(" ")[0] if char >= "\u0e00" and char.isalpha() else ""
        letters = _UNSPACED.get(script)
        words += 0 if letters is None else 1 / letters
        spaced.append(char if letters is None else " ")
    return words + sum(any(map(str.isalpha, token)) for token in "".join(spaced).split())


def _are_phrases(counts: Counter[str]) -> bool:
    """Return whether most words after the first begin with a small letter: names have capitals and digits."""
    later = [word for text in counts for word in text.split()[1:]]
    return sum(word[0].islower() for word in later) > len(later) / 2
