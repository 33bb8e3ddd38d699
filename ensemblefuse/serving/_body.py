"""Reader of the body of a request, within its limits and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ensemblefuse._optional import import_optional
from ensemblefuse.exceptions import short_repr
from ensemblefuse.serving._errors import Fault, Refused, Unreadable, found
from ensemblefuse.serving._json import parse_json

__all__ = ["Body", "content_type", "read_bytes", "read_content"]

GONE = 499  # the client has left: nobody receives this status, it is for logs and metrics
JSON, FORM = "application/json", "multipart/form-data"
_MOST_PARTS = 4096
_SLOWEST = 10_000  # bytes in a second


@dataclass
class Body:
    """The content of a request.

    Attributes
    ----------
    fields : dict
        Members of the object, or fields of the form, each a JSON value.
    uploads : dict of str to bytes, or None
        File parts of a form; None for JSON.
    """

    fields: dict[str, Any]
    uploads: dict[str, bytes] | None = None


@dataclass
class _Part:
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    content: list[bytes] = field(default_factory=list)


def content_type(headers: Mapping[str, str]) -> str:
    """Return ``"application/json"`` or ``"multipart/form-data"``.

    Raises
    ------
    Refused
        415, if the content type is another one or the body is compressed.
    """
    given = headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in (JSON, FORM):
        raise Refused(415, f"the content type must be {JSON} or {FORM}; got {short_repr(given) if given else 'none'}")
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Refused(415, "the body must not be compressed: send it without content-encoding")
    return given


async def read_bytes(request: Any, max_body: int, grace: float) -> bytes:
    """Return all bytes of the body.

    Parameters
    ----------
    request : starlette.requests.Request
    max_body : int
    grace : float
        Seconds in which the body must arrive, besides one for each 10 kB that have arrived.

    Raises
    ------
    Refused
        413, if the header says or reading shows that there are more than `max_body`. 408, if it comes too slowly. 499,
        if the client leaves.
    """
    refusal = Refused(413, f"the body has more than {max_body} bytes")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:19]) > max_body:
        raise refusal
    requests = import_optional("starlette.requests", extra="serve", needed_by="the server")
    content = bytearray()
    slow = asyncio.timeout(grace)
    try:
        async with slow:
            start = asyncio.get_running_loop().time()
            async for chunk in request.stream():
                content += chunk
                if len(content) > max_body:
                    raise refusal
                slow.reschedule(start + grace + len(content) / _SLOWEST)
    except requests.ClientDisconnect as error:
        raise Refused(GONE, "the client has disconnected") from error
    except TimeoutError as error:
        if not slow.expired():
            raise
        raise Refused(408, f"the body comes more slowly than {_SLOWEST // 1000} kB in a second") from error
    return bytes(content)


def read_content(content: bytes, kind: str, header: str, wanted: tuple[str, ...]) -> Body:
    """Return the fields and uploads of a body.

    Parameters
    ----------
    content : bytes
    kind : {"application/json", "multipart/form-data"}
    header : str
        The content type with its parameters.
    wanted : tuple of str
        Allowed fields; the first one is required.

    Raises
    ------
    Unreadable
        If the body cannot be read as `kind`, lacks the first field, or has other fields.
    """
    body = Body(parse_json(content)) if kind == JSON else _read_form(content, header)
    if not isinstance(body.fields, dict):
        raise Unreadable(Fault(None, None, f"expected an object with {wanted[0]!r}; got {found(body.fields)}"))
    unknown = [name for name in body.fields if name not in wanted]
    if unknown or wanted[0] not in body.fields:
        problem = f"got {short_repr(unknown[0])}" if unknown else "it is absent"
        listed = " and optionally ".join([repr(wanted[0]), *(", ".join(map(repr, wanted[1:])),) * (len(wanted) > 1)])
        field_name = unknown[0][:100] if unknown else wanted[0]
        raise Unreadable(Fault(None, field_name, f"expected {listed}; {problem}"))
    return body


def _read_form(content: bytes, header: str) -> Body:
    """Read a form: parts with a file name are uploads, parts without one are JSON.

    This uses the parser of python-multipart directly: frameworks would write temporary files.
    """
    body = Body({}, {})
    assert body.uploads is not None
    for part in _parts(content, header):
        name, is_file = _disposition(part)
        if name in body.fields or name in body.uploads:
            raise Unreadable(Fault(None, name[:100], "the form has several parts of this name"))
        if is_file:
            body.uploads[name] = b"".join(part.content)
        else:
            body.fields[name] = parse_json(b"".join(part.content), name[:100])
    return body


def _parts(content: bytes, header: str) -> list[_Part]:
    multipart = import_optional("python_multipart.multipart", extra="serve", needed_by="the server")
    exceptions = import_optional("python_multipart.exceptions", extra="serve", needed_by="the server")
    parts: list[_Part] = []
    name, value, ended = bytearray(), bytearray(), []

    def end_header() -> None:
        parts[-1].headers.append((bytes(name).lower(), bytes(value)))
        name.clear()
        value.clear()

    def begin() -> None:
        parts.append(_Part())
        if len(parts) > _MOST_PARTS:
            raise Unreadable(Fault(None, None, f"the form has more than {_MOST_PARTS} parts"))

    callbacks = {
        "on_part_begin": begin,
        "on_part_data": lambda data, start, end: parts[-1].content.append(data[start:end]),
        "on_header_field": lambda data, start, end: name.extend(data[start:end]),
        "on_header_value": lambda data, start, end: value.extend(data[start:end]),
        "on_header_end": end_header,
        "on_end": lambda: ended.append(True),
    }
    _, options = multipart.parse_options_header(header)
    boundary = options.get(b"boundary")
    if not boundary:
        raise Unreadable(Fault(None, None, "the content type of a form must name its boundary"))
    try:
        parser = multipart.MultipartParser(boundary, callbacks)
        parser.write(content)
        parser.finalize()
    except (exceptions.FormParserError, ValueError) as error:
        raise Unreadable(Fault(None, None, "it is not a form of multipart/form-data")) from error
    if not ended:
        raise Unreadable(Fault(None, None, "the form is cut short: its last boundary is absent"))
    return parts


def _disposition(part: _Part) -> tuple[str, bool]:
    """Return the name of a part, and whether it is a file."""
    multipart = import_optional("python_multipart.multipart", extra="serve", needed_by="the server")
    kind, options = multipart.parse_options_header(dict(part.headers).get(b"content-disposition", b""))
    if kind != b"form-data" or b"name" not in options:
        raise Unreadable(Fault(None, None, 'each part of a form needs Content-Disposition: form-data; name="..."'))
    try:
        return options[b"name"].decode("utf-8"), b"filename" in options
    except UnicodeDecodeError as error:
        raise Unreadable(Fault(None, None, "the name of a part is not UTF-8")) from error
