"""The reader of categories."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.exceptions import short_repr
from ensemblefuse.schema._category_key import category_key, date_key
from ensemblefuse.schema._cells import NUMBER, TRUTH, Unreadable
from ensemblefuse.schema._reader import Reader, objects, parsed_date
from ensemblefuse.table import item

__all__ = ["Categories", "CategoryReader"]


class Categories:
    """Look-ups of the categories that fit saw in one column."""

    def __init__(self, known: Iterable[str]):
        self.keys = dict.fromkeys(known)

    @cached_property
    def by_value(self) -> dict[Decimal, list[str]]:
        """The categories that say a number, by this number; only needed if a cell is none of them as it is."""
        found: dict[Decimal, list[str]] = {}
        for key in self.keys:
            value = _decimal(key)
            if value is not None:
                found.setdefault(value, []).append(key)
        return found

    @cached_property
    def by_text(self) -> dict[str, str]:
        """The categories without the blanks around them, which files of older versions have."""
        return {key.strip(): key for key in reversed(self.keys)}

    @cached_property
    def by_truth(self) -> dict[str, list[str]]:
        """The categories that say true or false, by the text in small letters."""
        found: dict[str, list[str]] = {}
        for key in self.keys:
            if key.lower() in TRUTH:
                found.setdefault(key.lower(), []).append(key)
        return found


class CategoryReader(Reader):
    """Reader of categories: first by their key, then by their value."""

    def __init__(self, known: Mapping[str, Any], categories: Categories):
        super().__init__(known)
        self.values, self.keys, self.categories = known["values"], categories.keys, categories

    def read(self, cells: pd.Series) -> pd.Series | None:
        keys = self.each(cells, self._key)
        self.unseen = [(i, key) for i, key in enumerate(keys) if key is not None and key not in self.keys]
        if self.known.get("closed"):
            self._refuse_unseen(cells, keys)
        values = [None if key is None else self._value(key) for key in keys]
        if self.known.get("dtype") != "category":
            return objects(values, cells.index)
        new = dict.fromkeys(key for _, key in self.unseen)
        categories = [self._value(key) for key in (*self.keys, *new)]
        held = pd.Categorical(values, categories=categories, ordered=self.known["ordered"])
        return pd.Series(held, index=cells.index)

    def _refuse_unseen(self, cells: pd.Series, keys: list[str | None]) -> None:
        """Make faults of the categories that fit never saw, where the transformer would stop at them."""
        for i, _ in self.unseen:
            value = cells.iloc[i]
            told = "a category that fit never saw, and the transformer of the column refuses these"
            self.faults.append((i, value, f'{short_repr(value)} is {told} (handle_unknown="ignore" does not)'))
            keys[i] = None
        self.unseen = []

    def _key(self, cell: Any) -> str | None:
        key = category_key(cell)
        if key is None:
            return None
        if key not in self.keys:
            key = self.categories.by_text.get(key.strip(), key.strip())
        is_text = isinstance(cell, (str, bytes, bytearray))
        is_number = not is_text and isinstance(cell, (int, float, np.number, Decimal)) and not isinstance(cell, bool)
        is_known = key in self.keys
        if is_known and not (is_number and self.values == "text"):
            return key
        near = self._of_equal_value(key, is_text)
        if is_known and len(near) < 2:
            return key
        if len(near) > 1:
            shown = " or ".join(map(repr, near[:3]))
            raise Unreadable(f"{short_repr(item(cell))} may be {shown}, categories of fit; give it as text")
        return near[0] if near else key

    def _of_equal_value(self, key: str, is_text: bool) -> list[str]:
        """Return the categories of fit that have the value of a cell."""
        text = key.strip().lower()
        if text in TRUTH:
            same, by_value = self.categories.by_truth.get(text, []), self.categories.by_value
            only_truth = not same and len(self.keys) <= 2 and set(by_value) <= {0, 1}
            return same or (by_value.get(Decimal(int(TRUTH[text])), []) if only_truth else [])
        if self.values == "date":
            try:
                stamp = parsed_date(key)
            except Unreadable:
                return []
            return [] if stamp is None else [date_key(stamp)] if date_key(stamp) in self.keys else []
        value = _decimal(key)
        near = [] if value is None else self.categories.by_value.get(value, [])
        if is_text and self.values != "number":
            near = [other for other in near if _trimmed(other) == _trimmed(key)]
        return near

    def _value(self, key: str) -> Any:
        """Return a category as the transformers take it."""
        if self.values != "number" or not NUMBER.fullmatch(key):
            return key
        return int(key) if re.fullmatch(r"-?\d+", key) else float(key)


def _decimal(text: str) -> Decimal | None:
    """Return the number that a text says; None if it says none, or one of absurd length."""
    text = text.strip()
    if len(text) > 60 or not NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _trimmed(text: str) -> str:
    """Return a number without zeros at the end of its fraction."""
    return text.rstrip("0").rstrip(".") if "." in text else text
