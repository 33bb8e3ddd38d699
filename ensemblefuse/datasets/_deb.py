"""Reader of a Debian package (.deb) without its installation: an ar archive with a compressed tar."""

from __future__ import annotations

import importlib
import io
import lzma
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ensemblefuse.datasets._base import DatasetUnavailableError, progress_bar

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60  # name 16, time 12, owner 6, group 6, mode 8, size 10, end mark 2
_TAR_MODES = {"": "r|", ".gz": "r|gz", ".bz2": "r|bz2", ".xz": "r|xz"}


def ar_members(file: IO[bytes]) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of each member of an ar archive.

    Raises
    ------
    ValueError
        If `file` is not an ar archive or is truncated.
    """
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ValueError("it does not begin like an ar archive")
    while header := file.read(_AR_HEADER):
        if len(header) < _AR_HEADER or header[58:] != b"`\n":
            raise ValueError("a member header is broken")
        offset, size = file.tell(), int(header[48:58])
        yield header[:16].decode("ascii").strip().rstrip("/"), offset, size
        file.seek(offset + size + size % 2)  # members begin at even offsets


class _Window(io.RawIOBase):
    """The bytes [offset, offset + size) of a file, as a stream that reports how many bytes were read."""

    def __init__(self, file: IO[bytes], offset: int, size: int, advance: Callable[[int], Any]):
        self._file, self._left, self._advance = file, size, advance
        file.seek(offset)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        self._advance(len(data))
        return len(data)


@contextmanager
def _open_data(deb: Path, *, progress: bool) -> Iterator[tarfile.TarFile]:
    """Open the package's files as a tar stream."""
    with deb.open("rb") as file:
        found = [member for member in ar_members(file) if member[0].startswith("data.tar")]
        if not found:
            raise ValueError("it holds no data.tar member")
        name, offset, size = found[0]
        suffix = name.removeprefix("data.tar")
        with progress_bar(size, "Unpacking", progress=progress) as bar:
            stream = io.BufferedReader(_Window(file, offset, size, bar.update))
            if suffix in _TAR_MODES:
                mode: Any = _TAR_MODES[suffix]
                with tarfile.open(fileobj=stream, mode=mode) as tar:
                    yield tar
            elif suffix == ".zst":
                with _open_zst(stream, deb) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
                    yield tar
            else:
                raise ValueError(f"its data member {name!r} is compressed in an unknown way")


@contextmanager
def _open_zst(stream: IO[bytes], deb: Path) -> Iterator[IO[bytes]]:
    """Decompress zstandard with Python 3.14 or later, a Python package or dpkg-deb, whichever is available."""
    for module, opener in (
        ("compression.zstd", lambda zstd: zstd.open(stream)),
        ("zstandard", lambda zstd: zstd.ZstdDecompressor().stream_reader(stream)),
    ):
        try:
            zstd = importlib.import_module(module)
        except ImportError:
            continue
        with opener(zstd) as plain:
            yield plain
        return
    if shutil.which("dpkg-deb") is None:
        raise DatasetUnavailableError(
            f"{deb.name} could not be unpacked, because it is compressed with zstandard and no program here "
            "can read that; install the Python package 'zstandard'."
        )
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout


def unpack_deb(deb: Path, folder: Path, destination: Callable[[str], str | None], *, progress: bool = True) -> int:
    """Write chosen regular files of a Debian package to `folder`. Links and devices are never created.

    Parameters
    ----------
    deb : Path
        The package.
    folder : Path
        Where the files are written. It is created if it does not exist.
    destination : callable
        Takes a file's path inside the package (``"usr/share/..."``) and returns its path under `folder`, or
        None to leave it out.
    progress : bool, default=True
        Show a bar on stderr.

    Returns
    -------
    int
        The number of files written.

    Raises
    ------
    DatasetUnavailableError
        If the package is damaged.
    """
    try:
        with _open_data(deb, progress=progress) as tar:
            return sum(_write_member(tar, member, folder, destination) for member in tar if member.isfile())
    except (ValueError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
        raise DatasetUnavailableError(
            f"{deb.name} could not be unpacked, because the package is damaged ({error}); fetch it again."
        ) from error


def _write_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, destination: Callable[[str], str | None]
) -> int:
    wanted = destination(member.name.removeprefix("./"))
    if wanted is None:
        return 0
    parts = PurePosixPath(wanted).parts
    if not parts or ".." in parts or PurePosixPath(wanted).is_absolute():
        raise ValueError(f"the file {member.name!r} would be written outside the folder")
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source is not None  # a regular file always has content
    with source, target.open("wb") as out:
        shutil.copyfileobj(source, out)
    return 1
