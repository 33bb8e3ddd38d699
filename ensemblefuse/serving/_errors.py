"""Errors that refuse a request or a part of it."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["CellError", "Fault", "Refused", "Unreadable", "found"]


class Fault(NamedTuple):
    """One error in the content of a request."""

    row: int | None
    field: str | None
    reason: str


class CellError(ValueError):
    """Raised if a cell cannot be read; the text says what was expected and what was found."""


class Unreadable(Exception):
    """Raised if no part of a body can be answered: status 422."""

    def __init__(self, *faults: Fault):
        super().__init__("; ".join(fault.reason for fault in faults))
        self.faults = list(faults)


class Refused(Exception):
    """Raised if a request is refused without regard to its content."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.headers = status, headers or {}


def found(value: Any) -> str:
    """Return what kind of JSON value this is; the content is never shown.

    Examples
    --------
    >>> from ensemblefuse.serving._errors import found
    >>> found("secret"), found([1, 2]), found(None)
    ('a string', 'a list of 2', 'null')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return f"a list of {len(value)}" if isinstance(value, list) else "an object"
