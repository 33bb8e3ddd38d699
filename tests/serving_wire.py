"""Servers on a socket, and requests written byte by byte, for the tests of serving."""

import contextlib
import http.client
import json
import socket
import threading
from typing import NamedTuple
from urllib.parse import urlsplit

import serving_case as case


class Answer(NamedTuple):
    """What came back: status 0 where the connection was closed without a word."""

    status: int
    headers: dict
    content: bytes

    def json(self):
        return json.loads(self.content)


def send(url, content, *, wait=60.0):
    """The answer to bytes on a fresh connection."""
    with connect(url, wait=wait) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
            connection.sendall(content)
        return receive(connection, method=content[:5].partition(b" ")[0].decode())


def connect(url, *, wait=60.0):
    where = urlsplit(url)
    return socket.create_connection((where.hostname, where.port), timeout=wait)


def receive(connection, method=None):
    """The next answer on a connection. A server that hangs is a `TimeoutError`."""
    response = http.client.HTTPResponse(connection, method=method)
    try:
        response.begin()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    except (http.client.RemoteDisconnected, ConnectionResetError):
        return Answer(0, {}, b"")


def request(path="/predict", body=b"", *, method="POST", kind="application/json", host="127.0.0.1", headers=()):
    """Bytes of a request. A header given by name replaces the usual one; None leaves it out."""
    usual = {"Host": host, "Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
    for name, value in dict(headers).items():
        usual[name] = value
    lines = [f"{method} {path} HTTP/1.1".encode("latin-1")]
    for name, value in usual.items():
        if value is not None:
            lines.append(name.encode("latin-1") + b": " + (value if isinstance(value, bytes) else value.encode()))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def form(*parts, boundary=b"edge", end=b"--\r\n"):
    """Body of a form of (disposition, content)."""
    written = b"".join(
        b"--" + boundary + b"\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + content + b"\r\n"
        for disposition, content in parts
    )
    return written + b"--" + boundary + end


class ServerHere:
    """uvicorn in a thread of this process, as `serve` runs it but for signals and logs."""

    def __init__(self, model, settings):
        import uvicorn

        from ensemblefuse.serving import make_app
        from ensemblefuse.serving._protocol import uvicorn_options

        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.lines = []
        self.app = make_app(model, settings)
        self.server = uvicorn.Server(uvicorn.Config(self.app, **uvicorn_options(settings)))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)

    def __enter__(self):
        self.thread.start()
        case.wait_until(lambda: self.server.started and send(self.url, request("/ready", method="GET")).status == 200)
        return self

    def __exit__(self, *error):
        self.server.should_exit = True
        self.thread.join(timeout=60)
        assert not self.thread.is_alive()
