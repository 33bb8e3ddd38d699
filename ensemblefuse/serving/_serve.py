"""Function `serve`, which runs the app on a port of this machine."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import sys
import warnings
from typing import Any

from ensemblefuse._optional import import_optional
from ensemblefuse.serving._app import Service, make_app
from ensemblefuse.serving._guard import log
from ensemblefuse.serving._protocol import uvicorn_options
from ensemblefuse.serving._settings import ServerSettings, is_loopback

__all__ = ["serve"]


def serve(model: Any, settings: ServerSettings | None = None) -> None:
    """Serve a model until the process receives SIGTERM or SIGINT (Ctrl-C).

    The address is bound first, then the model is loaded: ``/health`` succeeds at once, ``/ready`` when the model is
    loaded. At the end, pending requests are still answered. Standard error gets one line of JSON per request, with its
    shape and none of its content.

    Parameters
    ----------
    model : str, Path or fitted Pipeline
        As `make_app` takes it.
    settings : ServerSettings, optional

    Raises
    ------
    PersistenceError
        If the model cannot be loaded.
    OSError
        If the address cannot be bound.
    ImportError
        If the extra ``serve`` is not installed.

    Examples
    --------
    >>> from ensemblefuse.serving import ServerSettings, serve
    >>> serve("pets.fuse", ServerSettings(port=8080))  # doctest: +SKIP
    """
    uvicorn = import_optional("uvicorn", extra="serve", needed_by="the server")
    settings = ServerSettings() if settings is None else settings
    app = make_app(model, settings)
    service: Service = app.state.service
    with _bound(settings) as listening, warnings.catch_warnings():
        server = _server(uvicorn, uvicorn.Config(app, **uvicorn_options(settings)), service)
        _log_to_stderr()
        warnings.simplefilter("ignore")  # warnings may quote cells
        server.run(sockets=[listening])
    if service.error is not None:
        raise service.error


def _server(uvicorn: Any, config: Any, service: Service) -> Any:
    """Return a server that reports a shutdown at once and treats a signal as a normal end."""

    class Server(uvicorn.Server):
        should_exit: bool

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            for listening in sockets or ():  # printed only after the signal handlers are set
                host, port = listening.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                print(f"serving {service.info.name} on http://{shown}:{port}", file=sys.stderr, flush=True)

        def handle_exit(self, sig: int, frame: Any) -> None:
            service.drain()
            # The signal is not stored: uvicorn would raise it again, and the exit code would not be 0.
            self.should_exit = True
            for another in (signal.SIGTERM, signal.SIGINT):  # a second signal ends the process at once
                signal.signal(another, signal.SIG_DFL)

    server = Server(config)

    def fail() -> None:
        server.should_exit = True

    service.on_failure = fail
    return server


def _bound(settings: ServerSettings) -> socket.socket:
    """Return a socket on the address; without a token, every address of the host name must be a loopback address."""
    where = f"{settings.host}:{settings.port}"
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        if settings.token is None and not is_loopback(str(address[0])):
            raise OSError(f"{settings.host} is {address[0]}, which other machines can reach; it needs a token")
        return socket.create_server(address, family=family, backlog=2048)
    except OSError as error:
        reason = (error.strerror or str(error)).split(" (while attempting")[0]  # the rest repeats the address
        hint = " Choose another port with --port." if error.errno in (errno.EADDRINUSE, errno.EACCES) else ""
        raise OSError(f"The server cannot listen on {where}: {reason}.{hint}") from error


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
