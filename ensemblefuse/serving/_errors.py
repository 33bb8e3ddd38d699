"""Why a request is not answered."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["CellError", "Fault", "Refused", "Unreadable", "found"]


class Fault(NamedTuple):
    """One thing that is wrong with the content of a request."""

    row: int | None
    field: str | None
    reason: str


class CellError(ValueError):
    """A cell cannot be read; the text says what was found and wanted."""


class Unreadable(Exception):
    """A body that cannot be answered in any part: status 422."""

    def __init__(self, *faults: Fault):
        super().__init__("; ".join(fault.reason for fault in faults))
        self.faults = list(faults)


class Refused(Exception):
    """A request that is turned away before its content counts."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.headers = status, headers or {}


def found(value: Any) -> str:
    """What a JSON value is, and never what it says.

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
