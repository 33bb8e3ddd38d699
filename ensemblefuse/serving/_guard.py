"""Middleware for every request: checks of host and token, headers of the answer, one line of log."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ensemblefuse.serving._body import GONE
from ensemblefuse.serving._errors import Refused
from ensemblefuse.serving._json import dump_json
from ensemblefuse.serving._settings import ServerSettings, is_loopback

__all__ = ["Guard", "log"]

log = logging.getLogger("ensemblefuse.serving")

_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src blob:; style-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
_OPEN = ("/", "/health", "/ready")


class Guard:
    """ASGI middleware around the routes.

    Parameters
    ----------
    app : ASGI app
    settings : ServerSettings
    on_request : callable
        Called with route, status and seconds of each request.
    routes : frozenset of str
        Paths that logs and metrics show by name; all others are ``"other"``.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        *,
        settings: ServerSettings,
        on_request: Callable[[str, int, float], None],
        routes: frozenset[str],
    ):
        self.app, self.on_request, self.routes = app, on_request, routes
        self._token = None if settings.token is None else _digest(settings.token.encode())

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        start, status = time.perf_counter(), 0
        shape: dict[str, Any] = {"rows": 0, "bytes": 0}
        scope["ensemblefuse.shape"] = shape

        async def answer(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, receive, answer)
        except Refused as refusal:
            await _refuse(answer, refusal)
        except Exception as error:
            # The text of an exception may hold content of the request, so neither log nor answer shows it.
            log.error(json.dumps({"event": "error", "class": type(error).__name__, "at": _place(error)}))
            if not status:
                await _refuse(answer, Refused(500, "the server failed; its log shows where"))
        finally:
            status = status or GONE
            seconds = time.perf_counter() - start
            path = scope["path"]
            route = path if path in self.routes else "/page" if path.startswith("/page/") else "other"
            self.on_request(route, status, seconds)
            # Monitoring requests these every few seconds.
            level = logging.DEBUG if route in ("/health", "/ready") else logging.INFO
            told = {"route": route, "method": _method(scope), "status": status, **shape}
            log.log(level, json.dumps({"event": "request", **told, "ms": round(seconds * 1000, 1)}))

    def _check(self, scope: dict[str, Any]) -> None:
        headers = scope["headers"]
        if self._token is None:
            _check_local(headers)
        elif scope["path"] not in _OPEN and not scope["path"].startswith("/page/"):
            given = [value for name, value in headers if name == b"authorization"]
            scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(_digest(token.strip()), self._token):
                raise Refused(401, "a token is needed: Authorization: Bearer <token>", {"www-authenticate": "Bearer"})


def _check_local(headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse foreign host names that resolve to this machine (DNS rebinding), and requests from other origins."""
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    if len(hosts) != 1 or not is_loopback(_name_of(hosts[0])):
        raise Refused(403, "without a token the Host header must name this machine, such as 127.0.0.1")
    for name, value in headers:
        if name == b"origin" and value.decode("latin-1").partition("://")[2] != hosts[0]:
            raise Refused(403, "without a token only the server's own page may send requests from a browser")


def _name_of(host: str) -> str:
    """Return a Host header without its port; an empty str if the header is malformed."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::[0-9]*)?", host)
    return (found[1] or found[2]) if found else ""


def _digest(token: bytes) -> bytes:
    """Return a digest of fixed length, so that a comparison always takes the same time."""
    return hashlib.sha256(token).digest()


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"


def _method(scope: dict[str, Any]) -> str:
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"


async def _refuse(send: Any, refusal: Refused) -> None:
    content = dump_json({"error": str(refusal)})
    headers = {"content-type": "application/json", "content-length": str(len(content)), **refusal.headers}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})
