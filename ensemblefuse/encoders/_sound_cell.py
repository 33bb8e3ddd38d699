"""One audio cell to mono samples at one rate. Floor 2."""

from __future__ import annotations

import io
import numbers
import os
from typing import Any

import numpy as np

from ensemblefuse._optional import import_optional

__all__ = ["read_mono"]

_NEEDED_BY = "AudioEncoder"
_MOST_CHANNELS = 64


def read_mono(cell: Any, sample_rate: int) -> np.ndarray:
    """Samples of one sound: channels averaged, brought to `sample_rate`.

    Parameters
    ----------
    cell : str, path, bytes, array, or tuple of array and int
        A file's path or bytes (WAV, FLAC, OGG, MP3 and what else libsndfile reads); float samples of shape
        (n_samples,) or (n_samples, n_channels), at `sample_rate`; or these with their own rate in Hz.
    sample_rate : int
        In Hz.

    Returns
    -------
    ndarray of shape (n_samples,), dtype float32

    Raises
    ------
    TypeError
        If the cell is of another type, or an array does not hold floats.
    ValueError
        If it holds no samples, samples that are not finite, or is not a sound file.
    OSError
        If the file cannot be opened.
    """
    samples, rate = _read(cell, sample_rate)
    if samples.size == 0:
        raise ValueError("no samples")
    with np.errstate(over="ignore"):  # what overflows float32 is infinite, and refused below
        mono = samples.astype(np.float32, copy=False)
        mono = mono.mean(axis=1) if mono.ndim == 2 else mono
    if not np.isfinite(mono).all():
        n_bad = int((~np.isfinite(mono)).sum())
        raise ValueError(f"{n_bad} of its {len(mono)} samples are NaN or infinite")
    if rate != sample_rate:
        librosa = import_optional("librosa", needed_by=_NEEDED_BY)
        mono = librosa.resample(mono, orig_sr=rate, target_sr=sample_rate, res_type="soxr_hq")
    return np.ascontiguousarray(mono, dtype=np.float32)


def _read(cell: Any, sample_rate: int) -> tuple[np.ndarray, float]:
    if isinstance(cell, (str, os.PathLike, bytes, bytearray, memoryview)):
        return _read_file(cell)
    if isinstance(cell, np.ndarray):
        return _checked_array(cell), sample_rate
    if isinstance(cell, tuple) and len(cell) == 2 and isinstance(cell[0], np.ndarray):
        rate = cell[1]
        if isinstance(rate, bool) or not isinstance(rate, numbers.Real) or not 1 <= float(rate) <= 1e6:
            raise ValueError(f"the sampling rate must be a number of Hz from 1 to 1 000 000, got {rate!r}")
        return _checked_array(cell[0]), float(rate)
    raise TypeError(
        f"expected a path, bytes, an array of samples, or (array, sampling rate); got {type(cell).__name__}"
    )


def _checked_array(array: np.ndarray) -> np.ndarray:
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(
            f"expected float samples from -1 to 1, got {array.dtype}; divide whole numbers by their range, "
            "such as 32768 for int16"
        )
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= _MOST_CHANNELS):
        raise ValueError(f"expected samples of shape (n_samples,) or (n_samples, n_channels), got {array.shape}")
    return array


def _read_file(source: Any) -> tuple[np.ndarray, float]:
    soundfile = import_optional("soundfile", needed_by=_NEEDED_BY)
    if not isinstance(source, (str, os.PathLike)):
        if len(source) == 0:
            raise ValueError("no samples")
        source = io.BytesIO(source)
    elif not os.path.getsize(source):  # raises FileNotFoundError, which libsndfile calls a "System error"
        raise ValueError("no samples")
    _refuse_cut_wav(source)
    try:
        with soundfile.SoundFile(source) as file:
            promised, exact = file.frames, file.format == "FLAC"
            samples = file.read(dtype="float32", always_2d=True)
            rate = file.samplerate
    except soundfile.LibsndfileError as error:  # its text names the object, not the user's file
        raise ValueError(f"not a sound file that can be read: {error.error_string}") from error
    if exact and len(samples) < promised:  # an MP3's length is an estimate
        raise ValueError(f"cut short: the file holds {len(samples)} of its {promised} samples")
    return samples, rate


def _refuse_cut_wav(source: Any) -> None:
    """libsndfile reads half a WAV file without a word; its header tells how long it was meant to be."""
    if isinstance(source, io.BytesIO):
        header, size = source.getvalue()[:12], source.getbuffer().nbytes
    else:
        with open(source, "rb") as file:
            header, size = file.read(12), os.fstat(file.fileno()).st_size
    promised = int.from_bytes(header[4:8], "little") + 8
    # A recorder that could not go back to its header leaves 0 or the largest number there.
    if header[:4] == b"RIFF" and header[8:] == b"WAVE" and size < promised < 2**31 - 2**16:
        raise ValueError(f"cut short: the file holds {size} of its {promised} bytes")
