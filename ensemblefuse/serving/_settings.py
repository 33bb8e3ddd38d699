"""Settings of a server: address, limits and token."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ServerSettings", "is_loopback"]

_LEAST_TOKEN = 16
_AT_LEAST_ONE = ("max_body", "max_rows", "max_pixels", "max_characters", "max_numbers", "max_batch", "max_queue")
_SECONDS = ("max_seconds", "timeout", "header_timeout")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Address, limits and secrets of a server.

    Parameters
    ----------
    host : str, default="127.0.0.1"
        Address to listen on. Without a token it must be a loopback address: ``127.0.0.1``, ``::1``, ``localhost``.
    port : int, default=8000
        0 chooses a free port.
    token : str, optional
        At least 16 visible ASCII characters. A request must send it as ``Authorization: Bearer <token>``.
    files : path, optional
        Folder whose files a cell may name by ``{"path": ...}``. By default no cell may name a file.
    max_body : int, default=20_000_000
        Bytes of a request, and of all the files that it names by path.
    max_rows : int, default=256
        Rows of a request.
    max_pixels : int, default=50_000_000
        Pixels of all pictures in a cell, or of a frame of a video, according to their headers. A request may have four
        times as many.
    max_seconds : float, default=600
        Length of a sound or a video, according to its header; more values than 48 kHz in stereo count as a longer
        sound. A request may have four times as many seconds.
    max_characters : int, default=500_000
        Characters of a text or category.
    max_numbers : int, default=100_000
        Numbers of a series, an embedding or an array of a graph, and nodes of a graph.
    timeout : float, default=30
        Seconds from the first byte of a request to its answer.
    header_timeout : float, default=10
        Seconds in which the head of a request must have arrived. Its body has as long, and a second more for each 10 kB
        that have arrived.
    max_batch : int, default=32
        Rows that the model sees at once. Together they cost at most as much as one cell of the largest size.
    max_queue : int, default=64
        Requests that may be in progress at a time: being read, waiting or being predicted.
    cache : bool, default=False
        Whether embeddings are kept in the user's cache. By default a request leaves nothing on the disk.
    trusted : sequence of str, optional
        Same as in `load_model`.

    Raises
    ------
    ValueError
        If a value is out of its range, or the token is too short. If there is no token and other machines can reach the
        host.

    Examples
    --------
    >>> from ensemblefuse.serving import ServerSettings
    >>> ServerSettings(port=8080).max_rows
    256
    >>> ServerSettings(host="0.0.0.0")
    Traceback (most recent call last):
    ...
    ValueError: host '0.0.0.0' can be reached from other machines, so it needs a token; 127.0.0.1 does not.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    files: str | Path | None = None
    max_body: int = 20_000_000
    max_rows: int = 256
    max_pixels: int = 50_000_000
    max_seconds: float = 600.0
    max_characters: int = 500_000
    max_numbers: int = 100_000
    header_timeout: float = 10.0
    timeout: float = 30.0
    max_batch: int = 32
    max_queue: int = 64
    cache: bool = False
    trusted: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}.")
        for name in _SECONDS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
                raise ValueError(f"{name} must be a number of seconds above 0 and below 1e6; got {value!r}.")
        if isinstance(self.port, bool) or not isinstance(self.port, int) or not 0 <= self.port <= 65535:
            raise ValueError(f"port must be a whole number from 0 to 65535; got {self.port!r}.")
        if self.files is not None and not Path(self.files).is_dir():
            raise ValueError(f"files must be a folder; {str(self.files)!r} is not.")
        if self.token is not None:
            _check_token(self.token)
        elif not is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} can be reached from other machines, so it needs a token; 127.0.0.1 does not."
            )

    def limits(self) -> dict[str, float]:
        """The limits that a client must respect."""
        names = ("max_body", "max_rows", "max_pixels", "max_seconds", "max_characters", "max_numbers", "timeout")
        return {name: getattr(self, name) for name in names}


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_token(token: str) -> None:
    """Raise if a token is not valid; the message does not show it."""
    if not isinstance(token, str) or len(token) < _LEAST_TOKEN:
        found = f"{len(token)} characters" if isinstance(token, str) else type(token).__name__
        raise ValueError(
            f"the token must have at least {_LEAST_TOKEN} characters; got {found}. "
            'python -c "import secrets; print(secrets.token_urlsafe())" creates one.'
        )
    if not all("!" <= character <= "~" for character in token):
        raise ValueError("the token must consist of visible ASCII characters without spaces, to fit into a header.")
