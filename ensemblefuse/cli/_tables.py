"""Reading and checking of tables in files, and the paths of media files in their cells."""

from __future__ import annotations

import codecs
import contextlib
import datetime
import os
import tempfile
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ensemblefuse._writing import special_kind
from ensemblefuse.cli._messages import CommandError, UsageError, did_you_mean, shown_list
from ensemblefuse.cli._written_target import find_form, numbers_of
from ensemblefuse.exceptions import path_hints
from ensemblefuse.fitted.model import FittedPipeline
from ensemblefuse.modalities import columns_of
from ensemblefuse.table import EXACT, SEPARATORS, check_flat, from_arrow, separator_in

SUFFIXES = {".csv": "CSV", ".tsv": "TSV", ".parquet": "Parquet", ".pq": "Parquet"}
_SIGNS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", ",": "commas"}
_OWN_SIGN = {"CSV": ",", "TSV": "\t"}
_LONGEST_LINE = 1_000_000  # letters that are read to find the separator


class TextForm(NamedTuple):
    """How a CSV or TSV file is written, as the options of a command say."""

    sep: str | None = None
    """The sign between columns; None for a comma in CSV and a tab in TSV."""
    encoding: str | None = None
    """None for UTF-8."""

    def options(self, kind: str) -> dict[str, Any]:
        """Return the keywords of `pandas.read_csv` for a file of this kind."""
        return {"sep": self.sep or ("," if kind == "CSV" else "\t"), "encoding": self.read_as}

    @property
    def read_as(self) -> str:
        """The name of the encoding for Python; a mark at the beginning of a UTF-8 file belongs to no name."""
        return "utf-8-sig" if self.encoding is None or codecs.lookup(self.encoding).name == "utf-8" else self.encoding


PLAIN = TextForm()


def form_of(args: Namespace) -> TextForm:
    """Return the options ``--sep`` and ``--encoding`` of a command; raise if its table is no text."""
    form = TextForm(args.sep, args.encoding)
    if args.table is not None and form != PLAIN and SUFFIXES.get(Path(args.table).suffix.lower()) == "Parquet":
        raise UsageError("--sep and --encoding are for .csv and .tsv files; a Parquet file knows both.")
    return form


def check_table_suffix(path: Path) -> str:
    """Return ``"CSV"``, ``"TSV"`` or ``"Parquet"``; raise for other suffixes."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path} has the suffix {path.suffix!r}; tables are {', '.join(SUFFIXES)}.")
    return SUFFIXES[path.suffix.lower()]


def check_input(path: str, what: str) -> Path:
    """Return the path of an existing file; raise if it does not exist."""
    place = Path(path)
    if place.is_file():
        return place
    kind = special_kind(place)
    if kind == "a folder":
        raise UsageError(f"{path} is a folder; name the {what} in it.")
    if kind:
        raise UsageError(f"{path} is {kind}, not a file; name a file that holds the {what}.")
    folder = place.parent
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    hints = "".join(f" {hint}" for hint in path_hints([path]))
    raise UsageError(f"There is no {what} {path!r}.{did_you_mean(place.name, names)}{hints}")


def check_output(path: str, *, overwrite: bool) -> Path:
    """Return the path of a file that can be written; raise before the work if it cannot."""
    place = Path(path)
    if not place.parent.is_dir():
        raise UsageError(f"There is no folder {str(place.parent)!r} to write {place.name!r} to.")
    if kind := special_kind(place):
        raise UsageError(f"{path} is {kind}; name a file to write.")
    if place.exists() and not overwrite:
        raise UsageError(f"{path} already exists; pass --overwrite to replace it.")
    if place.exists():
        if not os.access(place, os.W_OK):
            raise UsageError(f"{path} cannot be written: permission denied.")
        return place
    try:
        tempfile.TemporaryFile(dir=place.parent).close()  # permissions are not enough: the file system may be full
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from error
    return place


def check_not_input(output: Path, source: str) -> None:
    """Raise `UsageError` if the output is the table to read."""
    if output.exists() and Path(source).exists() and output.samefile(source):
        raise UsageError(f"{output} is the table to read; name another file to write.")


def unreadable(path: str | Path, kind: str, error: BaseException, form: TextForm) -> CommandError:
    """Return the error that says why a table cannot be read, and what to do if that is known."""
    ragged = kind != "Parquet" and "Error tokenizing data" in str(error)  # rows of more cells than the first line
    hint = _separator_of_first_line(Path(path), kind, form) if ragged else ""
    return CommandError(f"{path} cannot be read as {kind}: {reader_reason(error, form.encoding or 'UTF-8')}.{hint}")


def reader_reason(error: BaseException, encoding: str = "UTF-8") -> str:
    """Return why a table cannot be read, and what to do if that is known.

    Examples
    --------
    >>> from ensemblefuse.cli._tables import reader_reason
    >>> reader_reason(UnicodeDecodeError("utf-8", b"caf\\xe9", 3, 4, "invalid"))
    'byte 0xe9 at position 3 is not UTF-8; save the table as UTF-8, or name its encoding, such as --encoding cp1252'
    """
    if isinstance(error, UnicodeDecodeError):
        byte = f"byte {error.object[error.start]:#x} at position {error.start} is not {encoding}"
        return f"{byte}; save the table as UTF-8, or name its encoding, such as --encoding cp1252"
    if isinstance(error, UnicodeError):
        return f"its text is not {encoding}: {error}"
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def read_table(path: str, form: TextForm = PLAIN, *, texts: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table; texts become `object` cells, with None for empty cells.

    The columns `texts` of a CSV file are read as they are written: 012 stays apart from 12.
    """
    place = check_input(path, "table")
    kind = check_table_suffix(place)
    try:
        _check_names(place, kind, form)
        if kind == "Parquet":
            from pyarrow import parquet

            table = from_arrow(parquet.read_table(place))
        else:
            # low_memory=False: read in chunks, a column could hold texts in one place and numbers in another.
            options = form.options(kind)
            table = pd.read_csv(place, low_memory=False, dtype=dict.fromkeys(texts, str), **options)
            _read_exactly(table, place, options)
    except (ValueError, OSError, ImportError, pd.errors.ParserError) as error:
        raise unreadable(path, kind, error, form) from error
    if not len(table):
        raise CommandError(f"{path} holds no rows.")
    check_one_level(table, path)
    table.columns = [str(column) for column in table.columns]
    for column in table.columns:
        if pd.api.types.is_string_dtype(table[column].dtype) or table[column].dtype == object:
            cells = table[column].astype(object)
            table[column] = cells.where(cells.notna(), None)
    return table


def read_texts(path: str, columns: list[str], form: TextForm, n_rows: int | None = None) -> pd.DataFrame:
    """Read columns of a CSV file as they are written, with NaN for missing cells."""
    options = form.options(check_table_suffix(Path(path)))
    return pd.read_csv(path, usecols=columns, nrows=n_rows, dtype=str, **options)


def words_for_missing(path: str, table: pd.DataFrame, form: TextForm) -> str:
    """Return one sentence about words such as NA in a CSV file that count as missing cells; "" if there are none.

    ``NA`` may be a value: Namibia's code, or a surname.
    """
    columns = [column for column in table.columns if table[column].isna().any()]
    kind = check_table_suffix(Path(path))
    if kind == "Parquet" or not columns:
        return ""
    written = pd.read_csv(path, usecols=columns, dtype=str, keep_default_na=False, **form.options(kind))
    facts = []
    for column in columns:
        words = written[column][table[column].isna().to_numpy() & (written[column].str.strip() != "").to_numpy()]
        counts = [f"{word!r} in {n}" for word, n in words.value_counts().head(3).items()]
        facts += [f"{', '.join(counts)} cells of {column!r}"] if counts else []
    if not facts:
        return ""
    more = f"; and in {len(facts) - 5} more columns" if len(facts) > 5 else ""
    return f"Counted as missing: {'; '.join(facts[:5])}{more}. If such a word is a value, write another in its place."


def check_one_level(table: pd.DataFrame, path: Any) -> None:
    """Raise if the columns of a Parquet file have names of several levels."""
    try:
        check_flat(table)
    except ValueError as error:
        raise CommandError(f"{path}: {error}") from error


def _read_exactly(table: pd.DataFrame, place: Path, options: dict[str, Any]) -> None:
    """Read columns of large whole numbers with gaps again: pandas rounds them to floats."""
    for column in table.columns[table.dtypes == np.float64]:
        cells = table[column].dropna()
        if len(cells) and EXACT <= cells.abs().max() < 2.0**63 and (cells % 1 == 0).all():
            with contextlib.suppress(ValueError, TypeError):  # some are written as floats, or too large
                table[column] = pd.read_csv(place, usecols=[column], dtype="Int64", **options)[column]


def _check_names(place: Path, kind: str, form: TextForm) -> None:
    """Raise if two columns have the same name: pandas would rename the second one, or read none."""
    if kind == "Parquet":
        from pyarrow import parquet

        names = pd.Index(parquet.read_schema(place).names)
    else:
        options: dict[str, Any] = {**form.options(kind), "dtype": str}
        names = pd.Index(pd.read_csv(place, header=None, nrows=1, keep_default_na=False, **options).iloc[0])
    for name in names[names.duplicated() & (names != "")]:
        raise CommandError(f"{place} has several columns with the name {name!r}.")


def check_column(table: pd.DataFrame, column: str, option: str, path: str) -> str:
    """Return the column that an option names; raise if the table, read from `path`, lacks it."""
    if column not in table.columns:
        raise UsageError(
            f"{option} names the column {column!r}, which the table lacks.{did_you_mean(column, table.columns)} "
            f"It has {shown_list(table.columns, limit=12)}.{separator_hint(table.columns, path)}"
        )
    return column


def separator_hint(columns: Sequence[str], path: str) -> str:
    """Return what to do if a table was read with the wrong separator: it has one column, whose name holds another."""
    kind = SUFFIXES.get(Path(path).suffix.lower())
    if kind not in _OWN_SIGN:
        return ""
    sign = separator_in(columns, [sign for sign in SEPARATORS if sign != _OWN_SIGN[kind]])
    return _separated_by(sign) if sign else ""


def _separated_by(sign: str) -> str:
    shown = "'\\t'" if sign == "\t" else f"'{sign}'"
    return f" Its columns seem to be separated by {_SIGNS[sign]}: pass --sep {shown}."


def _separator_of_first_line(path: Path, kind: str, form: TextForm) -> str:
    """Return what to do if another sign than that of the kind of file separates the names in the first line."""
    own = form.options(kind)["sep"]
    with path.open(encoding=form.read_as, errors="replace") as file:
        line = file.readline(_LONGEST_LINE)
    sign = max((sign for sign in SEPARATORS if sign != own), key=line.count)
    return _separated_by(sign) if line.count(sign) >= max(1, line.count(own)) else ""


def read_target(table: pd.DataFrame, column: str, *, regression: bool, form: Any = None) -> Any:
    """Return the target as an array; raise if it is missing, with the rows, or not of a usable type.

    In regression, texts are read as the numbers that they say: by `form`, if a model has noted one when it was fitted.
    """
    cells = _present_labels(table, column)
    if regression and cells.dtype == object and isinstance(cells.iloc[0], str):
        cells = numbers_of(cells, column, form or find_form(cells, column))
    return _target_of(cells, column, regression=regression)


def _present_labels(table: pd.DataFrame, column: str) -> pd.Series:
    """Return the labels as numpy's own type; raise if one is missing, or of another kind than the others."""
    cells = table[column]
    missing = table.index[cells.isna()]
    if len(missing):
        raise CommandError(
            f"The target {column!r} is missing in {len(missing)} of {len(table)} rows: {shown_list(missing)}"
            f"{' (the first row is 0)' if isinstance(table.index, pd.RangeIndex) else ''}. Fill in these cells, or "
            "remove these rows from the table."
        )
    for row, cell in cells.items():
        if not isinstance(cell, _LABELS):
            raise CommandError(
                f"The target {column!r} holds a {type(cell).__name__} in row {row!r}; a target holds texts, numbers or "
                "booleans."
            )
    return _of_one_kind(cells, column)


def _target_of(cells: pd.Series, column: str, *, regression: bool) -> np.ndarray:
    numeric = pd.api.types.is_numeric_dtype(cells.dtype) and not pd.api.types.is_bool_dtype(cells.dtype)
    if regression and not numeric:
        raise CommandError(
            f"The target {column!r} holds {shown_list(cells.head(1))}, not a number; --regression needs numbers."
        )
    if not regression and pd.api.types.is_float_dtype(cells.dtype) and (cells % 1 != 0).any():
        raise CommandError(f"The target {column!r} holds numbers with decimals, not classes; pass --regression.")
    if not regression and cells.nunique() < 2:
        raise CommandError(f"The target {column!r} holds only one class, {shown_list(cells.head(1))}, in all rows.")
    if regression:
        check_finite(cells.to_frame(column), f"The target {column!r}")
    return cells.to_numpy(dtype=float) if regression else cells.to_numpy()


_LABELS = (str, bool, int, float, np.generic, datetime.date)


def _of_one_kind(cells: pd.Series, column: str) -> pd.Series:
    """Return labels as numpy's own type, whatever the file has them as; raise if they are of several kinds."""
    kinds = np.array([_kind_of_label(cell) for cell in cells.tolist()])
    other = np.flatnonzero(kinds != kinds[0])
    if len(other):
        i = int(other[0])
        raise CommandError(
            f"The target {column!r} holds a {kinds[0]} in row {cells.index[0]!r}, {cells.iloc[0]!r}, and a {kinds[i]} "
            f"in row {cells.index[i]!r}, {cells.iloc[i]!r}; write all labels in one way."
        )
    if isinstance(cells.dtype, np.dtype) and cells.dtype != object:
        return cells
    plain = np.array(cells.tolist(), dtype=object if kinds[0] in ("text", "date") else None)
    return pd.Series(plain, cells.index, dtype=plain.dtype)


def _kind_of_label(cell: Any) -> str:
    if isinstance(cell, (bool, np.bool_)):
        return "boolean"
    if isinstance(cell, (int, float, np.number)):
        return "number"
    return "text" if isinstance(cell, str) else "date"


def check_finite(table: pd.DataFrame, what: str) -> None:
    """Raise if the table holds infinite numbers: no estimator can learn from these."""
    for column in table.columns:
        cells = table[column]
        if pd.api.types.is_float_dtype(cells.dtype):
            rows = cells.index[np.isinf(cells.to_numpy(dtype=float, na_value=np.nan))]
            if len(rows):
                raise CommandError(
                    f"{what} is infinite in the column {column!r} in {len(rows)} of {len(cells)} rows: "
                    f"{shown_list(rows)}. Leave these cells empty, or correct them."
                )


# ---------------------------------------------------------------------- modalities of a table


def resolve_paths(table: pd.DataFrame, columns: Iterable[str], folder: Path) -> pd.DataFrame:
    """Return the table with the relative paths in `columns` resolved from `folder`."""
    resolved = {}
    for column in columns:
        if column in table.columns:
            cells = [str(folder / cell) if isinstance(cell, str) else cell for cell in table[column].tolist()]
            resolved[column] = pd.Series(cells, index=table.index, dtype=object)
    return table.assign(**resolved)


def open_pipeline(model: Any, name: str) -> FittedPipeline:
    """Open a fitted model that reads a raw table."""
    opened = FittedPipeline(model)
    if not opened.modalities:
        raise CommandError(f"{name} holds a {type(model).__name__}, not a model of make_fusion_pipeline.")
    return opened


def check_any_column(modalities: Iterable[tuple[str, Any, Any]], columns: Iterable[str], table: str) -> None:
    """Raise if a table has none of the columns of a model."""
    wanted, columns = columns_of(modalities), list(columns)
    if not set(wanted) & set(columns):
        raise CommandError(
            f"{table} has none of the columns of the model, {wanted}; it has {columns}."
            f"{did_you_mean(wanted[0], columns)}{separator_hint(columns, table)}"
        )
