"""Check of a schema that comes from a file."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ensemblefuse.column_formats import full_format
from ensemblefuse.exceptions import short_repr
from ensemblefuse.schema._readers import READERS

__all__ = ["checked_schema"]

# What the readers look up, beside settings that may be absent.
_NEEDED: dict[str, dict[str, type]] = {
    **{kind: {} for kind in READERS},
    "boolean": {"as": str},
    "category": {"values": str, "known": list},
    "date": {"dtype": str},
    "duration": {"dtype": str},
    "tags": {"format": dict, "known": list},
    "censored": {"format": dict},
    "numbers": {"format": dict},
}
_KIND_OF_DTYPE = {"date": "M", "duration": "m"}


def checked_schema(schema: Any) -> dict[Any, dict[str, Any]]:
    """Return a schema whose formats have all their settings, if tables can be read by it.

    Raises
    ------
    ValueError
        If they cannot.

    Examples
    --------
    >>> from ensemblefuse.schema import checked_schema
    >>> checked_schema({"paid": {"kind": "boolean", "as": "number", "format": {"kind": "boolean"}}})
    {'paid': {'kind': 'boolean', 'as': 'number', 'format': {'kind': 'boolean', 'missing': []}}}
    """
    if not isinstance(schema, dict):
        raise ValueError(f"A schema is a dict of column to dict; got {short_repr(schema)}.")
    return {column: _checked(column, held) for column, held in schema.items()}


def _checked(column: Any, held: Any) -> dict[str, Any]:
    kind = held.get("kind") if isinstance(held, dict) else None
    needed = _NEEDED.get(kind) if isinstance(kind, str) else None
    if needed is None or not all(isinstance(held.get(name), of_type) for name, of_type in needed.items()):
        raise ValueError(f"Nothing reads a column {column!r} that holds {short_repr(held)}.")
    if kind in _KIND_OF_DTYPE and _kind_of_dtype(held["dtype"]) != _KIND_OF_DTYPE[kind]:
        raise ValueError(f"Column {column!r} holds a {kind}, but of the type {short_repr(held['dtype'])}.")
    if "format" not in held:
        return held
    form = full_format(column, _as_before(held["format"]))
    if form["kind"] != kind:
        raise ValueError(f"Column {column!r} holds a {kind}, but the format of a {form['kind']}.")
    return {**held, "format": form}


def _as_before(form: Any) -> Any:
    """Return a format that reads what it read when its file was written: older files name fewer settings."""
    is_old = isinstance(form, dict) and form.get("kind") == "number" and "dash" not in form
    return {**form, "dash": "minus"} if is_old else form


def _kind_of_dtype(name: str) -> str | None:
    try:
        return pd.api.types.pandas_dtype(name).kind
    except (TypeError, ValueError, KeyError):  # the last of unknown time zones
        return None
