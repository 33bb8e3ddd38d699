"""Strict reading and writing of JSON, with no ambiguous values."""

from __future__ import annotations

import json
import math
from typing import Any

from ensemblefuse.exceptions import short_repr
from ensemblefuse.serving._errors import Fault, Unreadable

__all__ = ["dump_json", "label_text", "parse_json"]

_DEEPEST = 32
_LARGEST = 2**63


class _Refusal(ValueError):
    """Raised inside the parser for JSON that is ambiguous or too deep."""


def parse_json(content: bytes, field: str | None = None) -> Any:
    """Return the JSON value of a text.

    Parameters
    ----------
    content : bytes
        In UTF-8.
    field : str, optional
        The part of a form that holds the text, for the message.

    Raises
    ------
    Unreadable
        If the text is not JSON or is nested more than 32 levels deep. If parsers differ in reading it: a name twice in
        an object, NaN, numbers too large for a float or a 64-bit integer, half a surrogate pair.
    """
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
        _check(value)
    except UnicodeDecodeError as error:
        raise Unreadable(Fault(None, field, f"it is not UTF-8: byte {error.start} begins no character")) from error
    except RecursionError as error:
        raise Unreadable(Fault(None, field, f"it is nested more than {_DEEPEST} levels deep")) from error
    except _Refusal as error:
        raise Unreadable(Fault(None, field, str(error))) from error
    except ValueError as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise Unreadable(Fault(None, field, f"it is not JSON{where}")) from error
    return value


def dump_json(value: Any) -> bytes:
    """Return a value as strict JSON in ASCII.

    Raises
    ------
    ValueError
        If the value holds NaN or an infinite number.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def label_text(label: Any) -> str:
    """Return a class as a name in a JSON object: a text unchanged, anything else as JSON.

    Examples
    --------
    >>> from ensemblefuse.serving._json import label_text
    >>> label_text("cat"), label_text(3), label_text(True)
    ('cat', '3', 'true')
    """
    return label if isinstance(label, str) else json.dumps(label)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refusal(f"an object names {short_repr(twice)} more than once")
    return value


def _constant(text: str) -> Any:
    raise _Refusal(f"{text} is not a number in JSON; write null if a value is missing")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refusal("a number is too large for a float of 64 bits")
    return value


def _int(text: str) -> int:
    if len(text) > 20 or not -_LARGEST <= int(text) < _LARGEST:
        raise _Refusal("a whole number is too large for 64 bits")
    return int(text)


def _check(value: Any) -> None:
    """Raise if a value is nested too deep or holds a bad text; without recursion."""
    stack = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        if depth > _DEEPEST:
            raise _Refusal(f"it is nested more than {_DEEPEST} levels deep")
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, dict):
            for name in item:
                _check_text(name)
            stack += [(inner, depth + 1) for inner in item.values() if isinstance(inner, (str, dict, list))]
        elif isinstance(item, list):
            stack += [(inner, depth + 1) for inner in item if isinstance(inner, (str, dict, list))]


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _Refusal("a text holds half of a surrogate pair") from error
