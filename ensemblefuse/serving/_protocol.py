"""The protocol of a connection: HTTP/1.1 as uvicorn speaks it, with limits of time for what a client sends and takes.

uvicorn limits only the time that a connection is idle after an answer.
"""

from __future__ import annotations

from typing import Any

from ensemblefuse._optional import import_optional
from ensemblefuse.serving._settings import ServerSettings

__all__ = ["uvicorn_options"]

# Seconds beyond `timeout` that a client has to take its answer. The app itself answers within `timeout`.
_TO_TAKE = 10.0
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def uvicorn_options(settings: ServerSettings) -> dict[str, Any]:
    """Return the arguments of `uvicorn.Config` with which an app is served, besides logs and signals."""
    return {
        "http": _protocol(settings),
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "log_level": "critical",  # a traceback may show content of a request; the app logs its own lines
        "server_header": False,
        "timeout_keep_alive": 5,
        "timeout_graceful_shutdown": int(settings.timeout) + 1,
    }


def _protocol(settings: ServerSettings) -> type:
    # h11 limits the size of the head of a request; httptools, which uvicorn takes where it is installed, does not.
    impl: Any = import_optional("uvicorn.protocols.http.h11_impl", extra="serve", needed_by="the server")
    base: Any = impl.H11Protocol

    class Protocol(base):
        """A connection that is closed if a head does not arrive in time, or an answer is not taken."""

        _timer: Any = None
        _waits_for = ""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait("head", settings.header_timeout)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._wait("answer", settings.timeout + _TO_TAKE)
            else:  # the beginning of the next request, or the rest of a body that was refused
                self._wait("head", settings.header_timeout)

        def on_response_complete(self) -> None:
            self._stop()  # uvicorn itself closes idle connections
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _wait(self, what: str, seconds: float) -> None:
            """Close the connection after some seconds; more data for the same wait do not prolong it."""
            if self._waits_for != what and not self.transport.is_closing():
                self._stop()
                self._waits_for, self._timer = what, self.loop.call_later(seconds, self._give_up)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._waits_for = None, ""

        def _give_up(self) -> None:
            if self._waits_for == "head" and self.cycle is None:
                self.transport.write(_TOO_SLOW)
                self.transport.close()
            else:
                self.transport.abort()  # `close` would wait until the client takes the rest

    return Protocol
