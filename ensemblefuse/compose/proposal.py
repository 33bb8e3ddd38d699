"""What a raw table holds, column by column, and the modalities that this makes."""

from __future__ import annotations

import datetime
import re
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple
from unicodedata import combining, east_asian_width

import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, RobustScaler, StandardScaler

from ensemblefuse.cells.text import foreign_share
from ensemblefuse.column_formats import (
    Found,
    UnreadableCell,
    censored_format,
    date_format,
    number_clash,
    read_cell,
    readings_of,
    short_format,
    unit_clash,
)
from ensemblefuse.column_kinds import ColumnKind, facts_of, find_kind
from ensemblefuse.encoders import (
    AudioEncoder,
    BaseEncoder,
    GraphEncoder,
    ImageEncoder,
    PrecomputedEncoder,
    TextEncoder,
    TimeSeriesEncoder,
    VideoEncoder,
)
from ensemblefuse.exceptions import counted, short_repr
from ensemblefuse.features import (
    CensoredFeatures,
    DateFeatures,
    NumberFeatures,
    StringFeatures,
    TableTransformer,
    TagFeatures,
)
from ensemblefuse.features.forms import check_formats
from ensemblefuse.schema import find_form, given_form, read_by_schema
from ensemblefuse.table import is_missing, item, loose_text, separator_in, to_frame

__all__ = ["KINDS", "Proposal", "propose"]

_ENCODERS: dict[str, type[BaseEncoder]] = {
    "image": ImageEncoder,
    "audio": AudioEncoder,
    "video": VideoEncoder,
    "text": TextEncoder,
    "series": TimeSeriesEncoder,
    "embedding": PrecomputedEncoder,
    "graph": GraphEncoder,
}
# Kinds of columns of the table, and what is done with them there.
_TABLE = {
    "number": "scaled; gaps filled and marked",
    "censored": "the limit as value, and a mark that it is one; scaled; gaps filled and marked",
    "numbers": "a column for each number; scaled; gaps filled and marked",
    "date": "year, month, day, weekday, hour, elapsed time, as far as they differ",
    "category": "a column for each value, one for the rare ones",
    "boolean": "a column for each value",
    "tags": "a column for each frequent tag",
    "string": "pieces of letters that cells share",
}
_CLOCK = "hour of the day"  # of times of day, which have no year, month and day
# Kinds whose cells may be written in several forms.
_WRITTEN = ("number", "date", "boolean", "tags", "censored", "numbers")
_OF_NUMBERS = ("number", "censored", "numbers")
_MOST_WORDS = 5  # different bad cells that the advice takes as missing
_LEFT_OUT = {
    "identifier": "left out: it names rows, so it is a leak; a model would learn it by heart",
    "address": "left out: an address is no content",
    "constant": "left out: it tells no rows apart",
    "empty": "left out: there is nothing to learn from",
    "duration": "left out: give lengths of time as numbers, with .dt.total_seconds()",
    "other": "left out: nothing can read all of its cells",
}
_OF_GROUPS = "left out: it names groups of rows; pass it to fit as groups, so that no fold cuts one apart"
_MULTILINGUAL = "use-multilingual-v3"

KINDS = (*_ENCODERS, *_TABLE, "drop")

_MOST_TEXTS = 6  # texts that get a network each: every block of hundreds of numbers costs fits and invites overfitting
_MOST_CATEGORIES = 100  # values of a column with a column each
_RARE = 3  # values in fewer cells are pooled: a column of one or two rows cannot be learned from
_FOREIGN = 0.1  # share of letters beyond English from which on an English network would not understand the texts
_SAMPLE = 2000  # texts that are read to find their language
_SHOWN = 90  # letters of a name that a line shows
_WIDTH = 120  # letters of a line
_NAME, _FACTS = 30, 56  # letters of a name and of a fact in one line with others, where lines would be too long


class _Decided(NamedTuple):
    """What was decided for a column."""

    kind: str
    seen: str
    choice: str | None
    done: str
    form: Found | None = None
    readings: tuple[dict[str, Any], ...] = ()
    """Written forms between which was chosen."""
    fault: str | None = None
    """Which cells cannot be read as the kind, and the ways out."""
    remedy: dict[str, Any] | None = None
    """The written form by which these cells are missing."""
    alone: bool = False
    """Whether it is an identifier only if no other column looks like one."""


class Proposal(NamedTuple):
    """The modalities of a table, and what was decided for each column.

    Attributes
    ----------
    modalities : list of (name, encoder, columns)
    lines : list of str
        One for each column, below the headings, of at most 120 letters; longer ones hold line breaks.
    left_out : dict of str to str
        Columns that nothing learns from, with what was seen in them.
    choices : dict of str to str
        Columns whose cells allow several readings, with these readings.
    hint : str or None
        What may be wrong with the table as a whole.
    readings : dict of str to list of dict
        Of `choices`, those that a written form decides: the forms as `formats` takes them, the chosen one first.
    faults : dict of str to str
        Columns that hold cells which cannot be read as their kind, with the first of them and the ways out.
    remedies : dict of str to dict
        Of `faults`, the written forms by which these cells are missing, as `formats` takes them.
    """

    modalities: list[tuple[str, Any, Any]]
    lines: list[str]
    left_out: dict[str, str]
    choices: dict[str, str]
    hint: str | None
    readings: dict[str, list[dict[str, Any]]]
    faults: dict[str, str]
    remedies: dict[str, dict[str, Any]]


def propose(
    df: Any, kinds: Mapping[str, str] | None = None, formats: Mapping[str, Mapping[str, Any]] | None = None
) -> Proposal:
    """Decide what each column of a table holds; see `infer_modalities`."""
    frame = to_frame(df)
    _check(frame, kinds)
    given = _check_given(frame, kinds or {}, formats)
    decided = {
        column: given[column] if column in given else _decide(frame[column], (kinds or {}).get(column))
        for column in frame.columns
    }
    declared = {**(kinds or {}), **{column: d.kind for column, d in given.items()}}
    decided = _few_texts(frame, _with_ranks(frame, decided, declared))
    modalities = _encoded(frame, decided)
    table = [column for column, (kind, *_) in decided.items() if kind in _TABLE]
    if table:
        by_kind = {kind: [column for column in table if decided[column].kind == kind] for kind in _TABLE}
        forms = {c: short_format(d.form) for c, d in decided.items() if d.form is not None}
        modalities.append(("tabular", _tabular(by_kind, forms), [c for kind in _TABLE for c in by_kind[kind]]))
    encoders = {
        columns: f"modality {name!r}: {encoder!r}{_on_blanks(encoder, frame[columns])}"
        for name, encoder, columns in modalities
        if name != "tabular"
    }
    lines = _lines({c: d._replace(done=encoders.get(c) or d.done) for c, d in decided.items()})
    left_out = {column: d.seen for column, d in decided.items() if d.kind in _LEFT_OUT}
    # What was declared is chosen: nothing is left to say.
    open_ = {column: d for column, d in decided.items() if d.choice and column not in (kinds or {})}
    readings = {column: list(d.readings) for column, d in open_.items() if d.readings}
    choices = {column: f"{d.kind}: {d.seen}; {d.choice}" for column, d in open_.items()}
    faults = {column: d.fault for column, d in decided.items() if d.fault}
    remedies = {column: d.remedy for column, d in decided.items() if d.remedy}
    return Proposal(modalities, lines, left_out, choices, _hint(frame, decided), readings, faults, remedies)


def _check(frame: pd.DataFrame, kinds: Mapping[str, str] | None) -> None:
    unnamed = [column for column in frame.columns if not isinstance(column, str)]
    if unnamed:
        raise ValueError(
            f"Names of columns must be str; the table has {unnamed[:5]}. Rename them: "
            "df.columns = df.columns.astype(str)."
        )
    if kinds is None:
        return
    if not isinstance(kinds, Mapping):
        raise TypeError(f"kinds must be a dict of column to kind, such as {{'title': 'text'}}; got {kinds!r}.")
    unknown = sorted(map(str, set(kinds) - set(frame.columns)))
    if unknown:
        raise ValueError(f"kinds names columns that the table lacks: {unknown}; it has {list(frame.columns)}.")
    for column, kind in kinds.items():
        if kind not in KINDS:
            raise ValueError(f"kinds[{column!r}] must be one of {', '.join(KINDS)}; got {kind!r}.")


def _check_given(
    frame: pd.DataFrame, kinds: Mapping[str, str], formats: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, _Decided]:
    """Return what is decided for the columns whose written form is given, after reading all of their cells."""
    forms = check_formats(formats)
    unknown = sorted(map(str, set(forms) - set(frame.columns)))
    if unknown:
        raise ValueError(f"formats names columns that the table lacks: {unknown}; it has {list(frame.columns)}.")
    return {column: _decide_given(frame[column], form, kinds.get(column)) for column, form in forms.items()}


def _decide_given(cells: pd.Series, form: dict[str, Any], declared: str | None) -> _Decided:
    kind = "string" if form["kind"] == "text" else form["kind"]
    if declared not in (None, kind):
        raise ValueError(
            f"kinds[{cells.name!r}] is {declared!r}, but formats says {kind!r} of this column; name it in one of them."
        )
    for label, cell in cells.items() if kind in _WRITTEN else ():
        try:
            read_cell(cell, form)
        except UnreadableCell as error:
            raise ValueError(
                f"formats[{cells.name!r}] does not fit the cell of row {label!r}: {error}. Correct such cells, make "
                "them missing, or leave the column out of formats."
            ) from None
    found = Found(form, 1.0, {}, "as declared in formats", None)
    shown = ", ".join(f"{key} {value!r}" for key, value in short_format(found).items() if key not in ("kind", "seen"))
    done = _CLOCK if form.get("formats") == ["time"] else _TABLE[kind]
    return _Decided(kind, f"declared: {shown or kind}", None, f"table: {done}", found)


def _decide(cells: pd.Series, declared: str | None) -> _Decided:
    return _decide_found(cells, ColumnKind(declared, "declared") if declared else find_kind(cells), declared)


def _decide_found(cells: pd.Series, found: ColumnKind, declared: str | None) -> _Decided:
    kind, seen, choice = found[:3]
    if kind == "drop":
        return _Decided("drop", seen, None, "left out as declared")
    if kind in _LEFT_OUT:
        done = _OF_GROUPS if kind == "identifier" and found.of_groups else _LEFT_OUT[kind]
        return _Decided(kind, seen, choice, done, alone=found.alone)
    form = find_form(cells, kind, declared=bool(declared), found=found.form) if kind in _TABLE else None
    if declared == "number" and not (form and form.bad):
        clash = number_clash(cells.tolist()) or unit_clash(cells.tolist())
        if clash:
            raise ValueError(f"kinds[{cells.name!r}] is 'number', but the column holds {clash}.")
    if declared in _WRITTEN and form is not None:
        seen, choice = f"declared: {facts_of(form, sum(not is_missing(cell) for cell in cells.tolist()))}", form.choice
    elif declared == "date":
        _check_dates(cells)
    elif declared in ("censored", "numbers"):
        what = "numbers and limits such as <5" if declared == "censored" else "several numbers in each, with one sign"
        raise ValueError(f"kinds[{cells.name!r}] is {declared!r}, but its cells are not {what}; declare another kind.")
    facts, ways, remedy = "", "", None
    if found.is_refused or declared in _OF_NUMBERS:
        facts, ways, remedy = _refused(cells, kind, form)
        told = [ways] if found.odd else [facts, ways]  # with an odd cell, the facts are among those seen
        seen = "; ".join(filter(None, (seen, *told)))
    fault = f"{facts}; {ways}" if facts else None
    are_times = form is not None and form.format.get("formats") == ["time"]
    what = _CLOCK if are_times else _TABLE.get(kind, "")
    # Plain numbers such as 1.234 need no form, and may need one to be 1234.
    readings = tuple(readings_of(found.form)) if found.form is not None else ()
    return _Decided(kind, seen, choice, f"table: {what}" if what else "", form, readings, fault, remedy)


def _refused(cells: pd.Series, kind: str, form: Found | None) -> tuple[str, str, dict[str, Any] | None]:
    """Return which cells of a column of numbers are none, or infinite, and the ways out; nothing if all are numbers.

    The last is the written form by which such texts are missing, if there are only a few. The cells are no error: a
    `TableTransformer` may take them as missing.
    """
    known = None if form is None else given_form(cells, short_format(form), {kind})
    faults = read_by_schema(cells.to_frame(), {cells.name: known or {"kind": kind}}, fitting=True).faults
    if not faults:
        return "", "", None
    position, column, value, reason = faults[0]
    stops = counted(len(faults), "cell", "stop").partition(" ")[2].partition(" ")[2]
    reason = reason.removesuffix(" in fit").removesuffix(", as")  # nothing is fitted yet
    facts = f"{len(faults)} of {len(cells)} cells {stops} the fit: {reason} in row {cells.index[position]!r}"
    ways = ["correct such cells or make them missing"]
    if isinstance(value, float) and np.isinf(value):
        ways[0] += f", as in df[{column!r}].replace([np.inf, -np.inf], np.nan)"
    if kind == "number" and (form is None or not form.bad) and censored_format(cells.tolist()):
        ways.append("declare 'censored', which takes limits such as <5")
    texts = {loose_text(fault.value) if isinstance(fault.value, str) else None for fault in faults}
    remedy = None
    if len(texts) <= _MOST_WORDS and None not in texts:
        short = {"kind": kind} if form is None else short_format(form)
        short.pop("seen", None)
        remedy = {**short, "missing": sorted({*short.get("missing", ()), *map(str, texts)})}
        ways.append(f"pass formats={ {column: remedy}!r} for the kind")
    ways.append("set on_error='missing' in the TableTransformer")
    return facts, ", or ".join(ways), remedy


def _with_ranks(frame: pd.DataFrame, decided: dict[str, _Decided], kinds: Mapping[str, str]) -> dict[str, _Decided]:
    """Return the decisions with ranks as numbers: a row has one identifier, and may have many ranks."""
    ranks = [column for column, d in decided.items() if d.alone]
    if not ranks:
        return decided
    declared = [c for c, kind in kinds.items() if kind == "number" and find_kind(frame[c]).alone]
    # An identifier may stand twice in a table.
    if len({tuple(frame[column].tolist()) for column in [*ranks, *declared]}) < 2:
        return decided
    numbers = {}
    for column in ranks:
        found = find_kind(frame[column])
        seen = f"{found.seen}, but {len(ranks) + len(declared)} columns are such: ranks"
        found = found._replace(kind="number", seen=seen, choice="could also be: identifier")
        numbers[column] = _decide_found(frame[column], found, None)
    return {**decided, **numbers}


def _check_dates(cells: pd.Series) -> None:
    """Raise an error if cells that are declared as dates are none, and name one."""
    present = cells[[not is_missing(cell) for cell in cells.tolist()]]
    if all(isinstance(cell, (datetime.date, np.datetime64)) for cell in present.tolist()):
        return
    way_out = "write dates as 2021-12-31, and make other cells missing"
    for label, cell in present.items():
        if date_format([cell], declared=True) is None and not isinstance(cell, (datetime.date, np.datetime64)):
            fact = f"{short_repr(item(cell))} in row {label!r} is no date"
            raise ValueError(f"kinds[{cells.name!r}] is 'date', but {fact}: {way_out}.")
    raise ValueError(f"kinds[{cells.name!r}] is 'date', but its cells are no dates of one kind: {way_out}.")


def _few_texts(frame: pd.DataFrame, decided: dict[str, _Decided]) -> dict[str, _Decided]:
    """Return the decisions with at most six columns of texts that were found: the others become strings."""
    found = [column for column, d in decided.items() if d.kind == "text" and d.seen != "declared"]
    n_declared = sum(d.kind == "text" and d.seen == "declared" for d in decided.values())
    n_free = max(0, _MOST_TEXTS - n_declared)
    if len(found) <= n_free:
        return decided
    lengths = {column: np.median([len(text) for text in _texts(frame[column])]) for column in found}
    shorter = sorted(found, key=lambda column: -lengths[column])[n_free:]
    done = f"table: {_TABLE['string']}; {_MOST_TEXTS} longer texts have a network"
    return {c: d._replace(kind="string", done=done) if c in shorter else d for c, d in decided.items()}


def _texts(cells: pd.Series) -> list[str]:
    return [str(cell) for cell in cells.tolist() if not is_missing(cell)]


def _encoded(frame: pd.DataFrame, decided: Mapping[str, _Decided]) -> list[tuple[str, Any, Any]]:
    """Return the modalities of the columns that have an encoder each."""
    modalities: list[tuple[str, Any, Any]] = []
    for kind, encoder in _ENCODERS.items():
        columns = [column for column, d in decided.items() if d.kind == kind]
        for column in columns:
            name = kind if len(columns) == 1 else re.sub("_{2,}", "_", f"{kind}_{column}").rstrip("_")
            made = _text_encoder(frame[column]) if kind == "text" else encoder()
            modalities.append((_distinct(name, modalities), made, column))
    return modalities


def _distinct(name: str, modalities: list[tuple[str, Any, Any]]) -> str:
    """Return a name that no modality has yet: ``a__b`` and ``a_b`` would both be ``text_a_b``."""
    taken, number, free = {known for known, _, _ in modalities}, 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _text_encoder(cells: pd.Series) -> TextEncoder:
    texts = _texts(cells)
    texts = texts[:: max(1, len(texts) // _SAMPLE)]
    if foreign_share(texts) >= _FOREIGN:
        return TextEncoder(_MULTILINGUAL)
    return TextEncoder()


def _on_blanks(encoder: Any, cells: pd.Series) -> str:
    """Return that blank texts count as missing, if there are such."""
    has_blanks = isinstance(encoder, TextEncoder) and any(not text.strip() for text in _texts(cells))
    return "; blank texts count as missing" if has_blanks else ""


def _scaling() -> list[Any]:
    return [
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        RobustScaler(),
        # Long tails are drawn in: a few large prices would decide what a linear model and a kernel see.
        FunctionTransformer(np.arcsinh, feature_names_out="one-to-one"),
        *_bounded(),
    ]


def _bounded() -> list[Any]:
    """Return steps that keep numbers near the others: a mistyped cell, in fit or later, counts as a large one.

    One 1015 for 10.15 among 100 cells, or a year 0219, makes a ridge regression useless. Of 100 numbers, 96 lie within
    a half, where tanh is about a straight line, and none gets beyond 1.
    """
    return [
        RobustScaler(quantile_range=(2.0, 98.0)),
        FunctionTransformer(np.tanh, feature_names_out="one-to-one"),
        StandardScaler(),
    ]


def _tabular(by_kind: Mapping[str, list[str]], formats: dict[str, dict[str, Any]]) -> TableTransformer:
    """Return the transformer of the table: one part for each kind that it has."""
    categories = OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=_RARE, max_categories=_MOST_CATEGORIES, sparse_output=False
    )
    parts = {
        "number": make_pipeline(*_scaling()),
        "censored": make_pipeline(CensoredFeatures(), *_scaling()),
        "numbers": make_pipeline(NumberFeatures(), *_scaling()),
        "date": make_pipeline(DateFeatures(), *_bounded()),
        "category": categories,
        "boolean": OneHotEncoder(handle_unknown="ignore", sparse_output=False),
        "tags": TagFeatures(),
        "string": StringFeatures(),
    }
    used = [(kind, part, by_kind[kind]) for kind, part in parts.items() if by_kind[kind]]
    return TableTransformer(used, formats=formats or None)


def _lines(decided: Mapping[str, _Decided]) -> list[str]:
    """Return one entry for each column, below the headings: a line, or several where one would be too long."""
    rows = [("column", "kind", "seen", "done")]
    for column, (kind, seen, choice, done, *_) in decided.items():
        seen += f" ({choice})" if choice else ""
        rows.append((_cut(_printable(column)), kind, _printable(seen), _printable(done)))
    widths = [max(_width(row[i]) for row in rows) for i in range(4)]
    if sum(widths) + 6 > _WIDTH:
        widths[0], widths[2] = min(widths[0], _NAME), min(widths[2], _FACTS)
    return ["\n".join(_laid_out(row, widths)) for row in rows]


def _laid_out(row: tuple[str, str, str, str], widths: list[int]) -> list[str]:
    """Return a row of the table in one line, or in several of which the later ones are indented."""
    name, kind, seen, done = row
    line = "  ".join(_padded(cell, width) for cell, width in zip(row, [*widths[:3], 0], strict=True)).rstrip()
    if _width(name) <= widths[0] and _width(seen) <= widths[2] and _width(line) <= _WIDTH:
        return [line]
    indent = " " * (widths[0] + widths[1] + 4)
    first = [name] if _width(name) > widths[0] else []
    begin = f"{_padded('' if first else name, widths[0])}  {kind:{widths[1]}}  "
    facts = textwrap.wrap(seen, _WIDTH, initial_indent=begin, subsequent_indent=indent) or [begin.rstrip()]
    return [
        *first,
        *facts,
        *textwrap.wrap(f"-> {done}", _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}   "),
    ]


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes: Chinese letters take two each, and accents none."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 1 + (east_asian_width(char) in "WF") for char in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _hint(frame: pd.DataFrame, decided: Mapping[str, _Decided]) -> str | None:
    """Return what may be wrong with the whole table, such as a wrong separator."""
    if sign := separator_in(frame.columns):
        return (
            f"The table has one column, {short_repr(frame.columns[0])}. Its cells may be separated by {sign!r}: read "
            f"it with pandas.read_csv(..., sep={sign!r})."
        )
    if not any(kind in _TABLE or kind in _ENCODERS for kind, *_ in decided.values()):
        return "No column is left to learn from."
    return None
