"""Download of a Debian package with apt-get, without its installation and without root rights."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ensemblefuse.datasets._base import DatasetUnavailableError, progress_bar

# A slow connection is accepted, a stalled one is not: this limits the seconds without a new byte.
_STALL_SECONDS = 60.0
_POLL_SECONDS = 0.2
_UPDATE_SECONDS = 300.0
_NO_NETWORK = re.compile(
    "could not resolve|temporary failure|could not connect|unable to connect|timed out|is unreachable", re.I
)


class PackageRecord(NamedTuple):
    """The record of a package in apt."""

    version: str
    size: int
    sha256: str


def download_package(package: str, folder: Path, *, progress: bool = True) -> tuple[Path, PackageRecord]:
    """Download `package` to the empty folder `folder`, and check its digest against apt's record.

    Returns
    -------
    deb : Path
        The package file.
    record : PackageRecord
        Version, size and digest.

    Raises
    ------
    DatasetUnavailableError
        If apt-get is missing, does not know the package, has no network or stalls, or if the file has another digest.
    """
    if shutil.which("apt-get") is None:
        raise _unavailable(package, "apt-get is not on the PATH", "run this on Debian or a system derived from it")
    record = package_record(package)
    if record is None:
        _update(package)
        record = package_record(package)
    if record is None:
        raise _unavailable(package, "apt-get does not know it", "add a Debian archive that has it to apt's sources")
    _download(package, folder, record.size, progress=progress)
    debs = sorted(folder.glob("*.deb"))
    if len(debs) != 1:
        raise _unavailable(package, f"apt-get left {len(debs)} packages instead of one", "try again")
    found = file_sha256(debs[0])
    if found != record.sha256:
        raise _unavailable(
            package,
            f"the file's SHA-256 is {found}, while apt-cache says {record.sha256}",
            "run 'apt-get update' and try again",
        )
    return debs[0], record


def package_record(package: str) -> PackageRecord | None:
    """Return the record in ``apt-cache show`` of the version that apt-get would download; None if there is none."""
    # A virtual package, or one with no version to download, gives no SHA256 line.
    done = _run(["apt-cache", "show", "--no-all-versions", package], package, timeout=60.0)
    fields = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line and line[:1] != " ")
    if done.returncode or not {"Version", "Size", "SHA256"} <= fields.keys():
        return None
    return PackageRecord(fields["Version"], int(fields["Size"]), fields["SHA256"])


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}  # messages are parsed below, so they must not be translated


def _run(command: Sequence[str], package: str, *, timeout: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout, env=_environment()
        )
    except FileNotFoundError as error:
        raise _unavailable(package, f"{command[0]} is not on the PATH", "install Debian's package 'apt'") from error
    except subprocess.TimeoutExpired as error:
        raise _unavailable(
            package, f"{' '.join(command[:2])!r} took over {timeout:.0f} s", "check the network and try again"
        ) from error


def _update(package: str) -> None:
    """Update apt's lists. Only called if apt does not know the package."""
    done = _run(["apt-get", "-q", "-o", "Acquire::Retries=1", "update"], package, timeout=_UPDATE_SECONDS)
    # Without a network, apt-get update returns 0 and only warns, so its messages are read as well.
    if done.returncode or _is_no_network(done.stderr):
        raise _failed(package, done.stderr, "run 'apt-get update' as root and try again")


def _download(package: str, folder: Path, size: int, *, progress: bool) -> None:
    """Run apt-get download in `folder`, and watch the size of the file."""
    log = folder / "apt.log"
    command = f"apt-get -q -o Acquire::Retries=1 -o Acquire::http::Timeout=30 download {package}".split()
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, env=_environment())
    try:
        _watch(process, folder, size, package, progress=progress)
    finally:
        if process.poll() is None:  # stalled, or the user pressed Ctrl-C
            process.terminate()
            process.wait()
    if process.returncode:
        raise _failed(package, log.read_text(errors="replace"), "run 'apt-get update' as root and try again")


def _watch(process: subprocess.Popen[bytes], folder: Path, size: int, package: str, *, progress: bool) -> None:
    """Wait for apt-get to end. Raise an error if it receives no new byte for too long."""
    seen, last_growth = 0, time.monotonic()
    with progress_bar(size, f"Downloading {package}", progress=progress) as bar:
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)
            there, now = _bytes_there(folder), time.monotonic()
            if there > seen:
                bar.update(there - seen)
                seen, last_growth = there, now
            elif now - last_growth > _STALL_SECONDS:
                raise _unavailable(
                    package,
                    f"apt-get timed out: no network, or no new byte for {_STALL_SECONDS:.0f} s",
                    "check the network and try again",
                )


def _bytes_there(folder: Path) -> int:
    total = 0
    for path in folder.glob("*.deb*"):
        with contextlib.suppress(FileNotFoundError):  # apt-get renames a file when its download fails
            total += path.stat().st_size
    return total


def _is_no_network(log: str) -> bool:
    return _NO_NETWORK.search(log) is not None


def _failed(package: str, log: str, remedy: str) -> DatasetUnavailableError:
    if _is_no_network(log):
        return _unavailable(package, "apt-get has no network", "check the network and try again")
    errors = [line.removeprefix("E: ").strip() for line in log.splitlines() if line.startswith("E: ")]
    return _unavailable(package, f"apt-get failed ({errors[0] if errors else 'it does not say why'})", remedy)


def _unavailable(package: str, why: str, remedy: str) -> DatasetUnavailableError:
    return DatasetUnavailableError(f"The Debian package {package!r} could not be downloaded, because {why}; {remedy}.")
