"""Shared functions of all loaders: data folder, progress bar, argument checks, WAV files."""

from __future__ import annotations

import numbers
import os
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import platformdirs
from tqdm import tqdm


class DatasetUnavailableError(RuntimeError):
    """A data set is not available: no package manager, no network, or a damaged download."""


def data_folder(data_home: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of downloaded data; create it if it does not exist.

    It is the argument if given, else the environment variable ``ENSEMBLEFUSE_DATA`` if set, else a folder in the user's
    data folder.
    """
    if data_home is not None and not isinstance(data_home, (str, os.PathLike)):
        raise TypeError(f"data_home must be a path or None, got {data_home!r}.")
    chosen = data_home or os.environ.get("ENSEMBLEFUSE_DATA")
    folder = Path(chosen).expanduser() if chosen else platformdirs.user_data_path("ensemblefuse")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def check_int(value: object, name: str, *, low: int, high: int | None = None) -> int:
    """Return `value` as an int within [low, high]; raise an error that names both otherwise."""
    wanted = f"an integer of at least {low}" + (f" and at most {high}" if high is not None else "")
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be {wanted}, got {value!r}.")
    number = int(value)
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name} must be {wanted}, got {value!r}.")
    return number


def progress_bar(total: int | None, what: str, *, progress: bool, unit: str = "B") -> tqdm:
    """Return a progress bar on stderr. It counts bytes unless another unit is given."""
    return tqdm(total=total, desc=what, unit=unit, unit_scale=unit == "B", disable=not progress, leave=False)


def write_wav(path: Path, signal: np.ndarray, rate: int) -> None:
    """Write mono 16-bit audio from a float array of shape (n_samples,), which is clipped to [-1, 1]."""
    samples = np.round(np.clip(signal, -1.0, 1.0) * 32767).astype("<i2")
    with replacing(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    """Read a file of `write_wav`. Return a float array of shape (n_samples,) in [-1, 1], and the sampling rate."""
    with wave.open(str(path), "rb") as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        return samples.astype(np.float64) / 32767, file.getframerate()


class replacing:
    """Context manager that gives a temporary path beside `path`, and renames it to `path` if there was no error.

    So a file with the final name is always complete, even if the process is interrupted.
    """

    def __init__(self, path: Path):
        self.path = path
        self.temporary = path.with_name(f".{os.getpid()}-{path.name}")

    def __enter__(self) -> Path:
        return self.temporary

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.temporary.replace(self.path)
        else:
            self.temporary.unlink(missing_ok=True)


def object_frame(columns: Mapping[str, Sequence[Any]], index: pd.Index) -> pd.DataFrame:
    """Return a table of raw cells in which None stays None.

    pandas 3 would otherwise make string columns, replace None by NaN, and pass an Arrow array to scikit-learn.
    """
    return pd.DataFrame({name: pd.Series(list(cells), index=index, dtype=object) for name, cells in columns.items()})
