"""Readers of the kinds of columns."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.column_formats import is_mark
from ensemblefuse.exceptions import short_repr
from ensemblefuse.schema._category_key import category_key
from ensemblefuse.schema._cells import LARGEST, NUMBER, Unreadable, decoded, is_number
from ensemblefuse.schema._reader import Reader, not_a_number, number_or_text, objects, parsed_date
from ensemblefuse.table import is_missing, item

__all__ = ["READERS"]

_WHOLE = re.compile(r"[+-]?\d{1,300}", re.ASCII)


def _as_in_fit(cells: list[Any], index: pd.Index, is_whole: bool) -> pd.Series:
    """Return numbers, or texts of them, as the integers or floats that they were in fit; others stay as they are."""
    values = [None if is_missing(cell) else _one_number(cell, is_whole) for cell in cells]
    kinds = {type(value) for value in values}
    if kinds <= {float, type(None)}:
        return pd.Series([np.nan if value is None else value for value in values], index, dtype=np.float64)
    if kinds <= {int, type(None)} and all(value is None or abs(value) < 2**63 for value in values):
        return pd.Series(values, index, dtype="Int64" if type(None) in kinds else np.int64)
    return objects(values, index)


def _one_number(cell: Any, is_whole: bool) -> Any:
    if isinstance(cell, str):
        cell = int(cell) if _WHOLE.fullmatch(cell) else float(cell)
    if isinstance(cell, (int, np.integer)) and not isinstance(cell, (bool, np.timedelta64)):
        return int(cell) if is_whole or abs(int(cell)) > LARGEST else float(cell)
    if isinstance(cell, (float, np.floating)):
        return int(cell) if is_whole and float(cell).is_integer() else float(cell)
    return cell


class _NumberReader(Reader):
    def read(self, cells: pd.Series) -> pd.Series | None:
        is_whole = self.known.get("whole")
        if is_number(cells.dtype) and self.known.get("encoded"):
            as_in_fit = is_whole in (None, pd.api.types.is_integer_dtype(cells.dtype))
            return None if as_in_fit else _as_in_fit(cells.tolist(), cells.index, bool(is_whole))
        if "format" in self.known and not is_number(cells.dtype):
            return self._written(cells)
        if is_number(cells.dtype) or (
            pd.api.types.is_bool_dtype(cells.dtype) and not isinstance(cells.dtype, pd.CategoricalDtype)
        ):
            whole = pd.api.types.is_signed_integer_dtype(cells.dtype) and not cells.isna().any()
            numbers = pd.Series(cells.to_numpy(np.int64 if whole else np.float64, na_value=np.nan), cells.index)
            said = numbers.tolist()
        else:
            said = [number_or_text(cell) for cell in cells.tolist()]
            numbers = pd.to_numeric(pd.Series(said, cells.index, dtype=object), errors="coerce")
            numbers = numbers.astype(float) if numbers.dtype.kind not in "iuf" else numbers
        lost = np.zeros(len(said), dtype=bool)
        for i in np.flatnonzero(numbers.isna()).tolist():
            lost[i] = not (is_missing(said[i]) or (isinstance(said[i], str) and is_mark(said[i])))
        large = (numbers.abs() > LARGEST).to_numpy() & (not self.known.get("encoded"))
        for i in np.flatnonzero(lost | large).tolist():
            cell = item(cells.iloc[i])
            self.faults.append((i, cell, not_a_number(cell, numbers.iloc[i])))
        if is_whole is not None:
            exact = [None if gap else cell for gap, cell in zip(numbers.isna(), said, strict=True)]
            return _as_in_fit(exact, cells.index, is_whole)
        return numbers.mask(large) if large.any() else numbers

    def _written(self, cells: pd.Series) -> pd.Series:
        numbers = pd.Series([np.nan if v is None else v for v in self.written(cells)], cells.index, dtype=np.float64)
        large = (numbers.abs() > LARGEST).to_numpy()
        for i in np.flatnonzero(large).tolist():
            self.faults.append((i, item(cells.iloc[i]), not_a_number(item(cells.iloc[i]), numbers.iloc[i])))
        return numbers.mask(large) if large.any() else numbers


class _BooleanReader(Reader):
    def read(self, cells: pd.Series) -> pd.Series | None:
        values = self.written(cells) if "format" in self.known else self.each(cells, _truth)
        if texts := self.known.get("texts"):
            values = [None if value is None else texts[value] for value in values]
        if self.known["as"] == "category":
            return objects(values, cells.index)
        if None in values:
            return pd.Series([np.nan if v is None else float(v) for v in values], cells.index, dtype=np.float64)
        return pd.Series(values, cells.index, dtype=bool)


def _truth(cell: Any) -> bool | None:
    given = number_or_text(cell)
    if given is None or (isinstance(given, str) and is_mark(given)):
        return None
    number = float(given) if not isinstance(given, str) or NUMBER.fullmatch(given) else -1.0
    if number not in (0.0, 1.0):
        raise Unreadable(f"{short_repr(item(cell))} is neither true nor false")
    return number == 1.0


class _TextReader(Reader):
    def read(self, cells: pd.Series) -> pd.Series | None:
        if isinstance(cells.dtype, pd.StringDtype):
            return None
        held, other = cells.tolist(), (*_NOT_TEXT, np.str_, *(() if self.known.get("encoded") else _BYTES))
        if not any(isinstance(cell, other) and not is_missing(cell) for cell in held):
            return (
                objects([None if is_missing(cell) else cell for cell in held], cells.index)
                if (isinstance(cells.dtype, (pd.CategoricalDtype, pd.ArrowDtype)))
                else None
            )
        return objects(self.each(cells, self._as_text), cells.index)

    def _as_text(self, cell: Any) -> Any:
        if isinstance(cell, _NOT_TEXT):
            return category_key(cell)
        if isinstance(cell, _BYTES) and not self.known.get("encoded"):  # to an encoder they are the content of a file
            return decoded(cell)
        return str(cell) if isinstance(cell, str) else cell


_BYTES = (bytes, bytearray)

_NOT_TEXT = (bool, np.bool_, int, float, np.number, Decimal, datetime.date, np.datetime64)


class _DateReader(Reader):
    def read(self, cells: pd.Series) -> pd.Series | None:
        dtype = pd.api.types.pandas_dtype(self.known["dtype"])
        if cells.dtype == dtype:
            return None
        if "format" in self.known:
            stamps = self.written(cells)
            return pd.Series([pd.NaT if stamp is None else stamp for stamp in stamps], cells.index, dtype=dtype)
        zone = getattr(dtype, "tz", None)
        unit = np.datetime_data(dtype)[0] if isinstance(dtype, np.dtype) else dtype.unit
        stamps = self.each(cells, lambda cell: _stamp(cell, zone, unit))
        return pd.Series([pd.NaT if stamp is None else stamp for stamp in stamps], cells.index, dtype=dtype)


def _stamp(cell: Any, zone: Any, unit: str) -> pd.Timestamp | None:
    shown = short_repr(item(cell))
    stamp = parsed_date(cell)
    if stamp is None:
        return None
    if (stamp.tzinfo is None) != (zone is None):
        has = "no time zone, and the column had one in fit" if zone else "a time zone, and the column had none in fit"
        raise Unreadable(f"{shown} has {has}")
    try:
        return (stamp if zone is None else stamp.tz_convert(zone)).as_unit(unit)
    except ValueError:
        raise Unreadable(f"{shown} is outside the range of dates in units of {unit!r}") from None


class _DurationReader(Reader):
    def read(self, cells: pd.Series) -> pd.Series | None:
        if str(cells.dtype) == self.known["dtype"]:
            return None
        spans = self.each(cells, _span)
        return pd.Series([pd.NaT if span is None else span for span in spans], cells.index, dtype=self.known["dtype"])


def _span(cell: Any) -> pd.Timedelta | None:
    if isinstance(cell, str) and is_mark(cell):
        return None
    if isinstance(cell, (str, datetime.timedelta, np.timedelta64)) and not _is_plain_number(cell):
        try:
            return pd.Timedelta(cell)
        except ValueError:
            pass
    raise Unreadable(f"{short_repr(item(cell))} is not a length of time, such as '2 days 06:30:00'")


def _is_plain_number(cell: Any) -> bool:
    return isinstance(cell, str) and NUMBER.fullmatch(cell.strip()) is not None


class _TagReader(Reader):
    def read(self, cells: pd.Series) -> pd.Series | None:
        lists = self.written(cells)
        known = set(self.known["known"])
        self.unseen = [(i, tag) for i, tags in enumerate(lists) for tag in tags or () if tag not in known]
        return objects([None if tags is None else tuple(tags) for tags in lists], cells.index)


class _TupleReader(Reader):
    def read(self, cells: pd.Series) -> pd.Series | None:
        tuples = self.written(cells)
        for i, numbers in enumerate(tuples):
            if numbers is not None and not max(map(abs, numbers)) <= LARGEST:
                tuples[i] = None
                self.faults.append((i, item(cells.iloc[i]), not_a_number(item(cells.iloc[i]), max(numbers, key=abs))))
        return objects(tuples, cells.index)


class _AnyReader(Reader):
    def read(self, cells: pd.Series) -> pd.Series | None:
        is_whole = self.known.get("whole")
        if is_whole is None:
            return None
        held = cells.tolist()
        other = (float, np.floating) if is_whole else (int, np.integer)
        if not any(isinstance(cell, other) and not is_missing(cell) for cell in held):
            return None
        return objects(
            [cell if isinstance(cell, str) or is_missing(cell) else _one_number(cell, is_whole) for cell in held],
            cells.index,
        )


READERS: dict[str, Callable[[Mapping[str, Any]], Reader]] = {
    "number": _NumberReader,
    "boolean": _BooleanReader,
    "text": _TextReader,
    "date": _DateReader,
    "duration": _DurationReader,
    "tags": _TagReader,
    "censored": _TupleReader,
    "numbers": _TupleReader,
    "object": _AnyReader,
}
