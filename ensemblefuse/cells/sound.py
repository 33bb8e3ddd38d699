"""Reader of a sound cell into mono samples at a given rate, in memory or window by window."""

from __future__ import annotations

import abc
import contextlib
import numbers
import os
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse.cells.sound_file import MOST_HOURS, RATES, checked_rate, file_blocks, open_sound, refuse_long

__all__ = ["Sound", "SoundSource", "cell_size", "read_sound"]

_NEEDED_BY = "AudioEncoder"
_MOST_CHANNELS = 64
_BLOCK = 2**18  # numbers that are decoded, or made by the resampler, at once
_IN_MEMORY = 300  # seconds; a longer sound is decoded again when its windows are read


class SoundSource(abc.ABC):
    """Base of sounds that are neither files nor arrays, such as the track of a video. Children define `opened`."""

    @abc.abstractmethod
    def opened(self) -> contextlib.AbstractContextManager[tuple[float, Iterator[np.ndarray]]]:
        """Return a context manager that opens the sound; it may be called several times.

        Its value is a tuple of the sampling rate in Hz and an iterator of float32 blocks of shape (n, n_channels).
        """


class Sound:
    """One mono sound at a given rate: in memory up to five minutes, else decoded in each pass over its windows.

    Parameters
    ----------
    cell : str, path, bytes, array, tuple of array and number, or SoundSource
        A cell as for `read_sound`.
    sample_rate : int
        In Hz.
    max_seconds : float or None
        Samples after this time are not read.
    max_hours : float, default=4
        A longer sound is refused, unless `max_seconds` is given.

    Attributes
    ----------
    cut : bool
        Whether the sound is longer than `max_seconds`; final after all windows have been read.
    samples : ndarray or None
        All samples, if they are in memory.
    """

    def __init__(self, cell: Any, sample_rate: int, max_seconds: float | None, max_hours: float = MOST_HOURS):
        self.samples: np.ndarray | None = None
        self.cut = False
        self._cell, self._sample_rate, self._max_seconds = cell, sample_rate, max_seconds
        self._max_hours = None if max_seconds is not None else max_hours

    def windows(self, length: int) -> Iterator[np.ndarray]:
        """Yield the samples in consecutive windows.

        Parameters
        ----------
        length : int
            Length of a window, in samples.

        Yields
        ------
        ndarray of shape (length,), dtype float32
            The last one may be shorter.
        """
        if self.samples is not None:
            for start in range(0, len(self.samples), length):
                yield self.samples[start : start + length]
            return
        waiting: list[np.ndarray] = []
        n_waiting = 0
        with contextlib.closing(self._blocks()) as blocks:
            for block in blocks:
                waiting.append(block)
                n_waiting += len(block)
                if n_waiting < length:
                    continue
                joined = np.concatenate(waiting)
                n_full = n_waiting // length * length
                yield from joined[:n_full].reshape(-1, length)
                waiting, n_waiting = [joined[n_full:]], n_waiting - n_full
        if n_waiting:
            yield np.concatenate(waiting)

    def _load(self) -> None:
        """Read the samples into memory, unless they are longer than five minutes."""
        parts: list[np.ndarray] = []
        n_samples = 0
        with contextlib.closing(self._blocks()) as blocks:
            for block in blocks:
                parts.append(block)
                n_samples += len(block)
                if n_samples > _IN_MEMORY * self._sample_rate:
                    self.cut = False
                    return
        self.samples = np.concatenate(parts)
        self._cell = None

    def _blocks(self) -> Generator[np.ndarray, None, None]:
        """Yield mono blocks at the wanted rate, equal to the result of librosa.resample for the whole sound."""
        target = self._sample_rate
        with _opened(self._cell, target, self._max_hours) as (rate, blocks):
            monos = self._monos(rate, blocks)
            if rate == target:
                yield from monos
                return
            soxr = import_optional("soxr", needed_by=_NEEDED_BY)
            stream = soxr.ResampleStream(rate, target, 1, dtype="float32", quality="HQ")
            n_in = n_out = 0
            for block in monos:
                n_in += len(block)
                made = stream.resample_chunk(block)
                n_out += len(made)
                _refuse_infinite(made, n_in)  # very large floats may overflow here
                yield made
            last = stream.resample_chunk(np.empty(0, dtype=np.float32), last=True)
            _refuse_infinite(last, n_in)
            n_last = max(0, int(np.ceil(n_in * (target / rate))) - n_out)
            yield np.pad(last[:n_last], (0, max(0, n_last - len(last))))

    def _monos(self, rate: float, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield blocks with averaged channels and checked numbers, up to `max_seconds`."""
        n_most = None if self._max_seconds is None else max(1, round(self._max_seconds * rate))
        n_samples = 0
        for block in blocks:
            if n_most is not None and n_samples + len(block) > n_most:
                self.cut = True
                block = block[: n_most - n_samples]
                if not len(block):
                    break
            n_samples += len(block)
            if self._max_hours is not None:
                refuse_long(n_samples, rate, self._max_hours)
            with np.errstate(over="ignore", invalid="ignore"):  # overflows are infinite, and refused below
                mono = block.mean(axis=1, dtype=np.float32) if block.ndim == 2 else block.astype(np.float32)
            _refuse_infinite(mono, n_samples)
            yield mono
            if self.cut:
                break
        if not n_samples:
            raise ValueError("no samples")


def read_sound(cell: Any, sample_rate: int, max_seconds: float | None = None, max_hours: float = MOST_HOURS) -> Sound:
    """Read one sound: average its channels and resample it to `sample_rate`.

    Parameters
    ----------
    cell : str, path, bytes, array, tuple of array and number, or SoundSource
        A file's path or bytes (WAV, FLAC, OGG, MP3, AIFF, AU, CAF, NIST SPHERE); float samples of shape (n_samples,)
        or (n_samples, n_channels) at `sample_rate`; or a tuple of such samples and their rate in Hz.
    sample_rate : int
        In Hz.
    max_seconds : float, optional
        Samples after this time are not read.
    max_hours : float, default=4
        A longer sound is refused, unless `max_seconds` is given.

    Returns
    -------
    Sound

    Raises
    ------
    TypeError
        If the cell is of another type, or an array does not hold floats.
    ValueError
        If the cell holds no samples, has samples that are not finite, has a rate below 200 Hz, is too long, or is not a
        sound file that can be read whole. After the first five
        minutes, errors are raised only when the windows are read.
    OSError
        If the file cannot be opened.
    """
    sound = Sound(cell, sample_rate, max_seconds, max_hours)
    sound._load()
    return sound


def cell_size(cell: Any) -> int:
    """Return the size of a cell in bytes, to sort sounds by length without reading them; 0 if unknown."""
    if isinstance(cell, tuple) and cell:
        cell = cell[0]
    if isinstance(cell, np.ndarray):
        return cell.nbytes
    try:
        return os.stat(cell).st_size if isinstance(cell, (str, os.PathLike)) else len(cell)
    except (OSError, TypeError, ValueError):
        return 0


@contextlib.contextmanager
def _opened(cell: Any, sample_rate: int, max_hours: float | None) -> Iterator[tuple[float, Iterator[np.ndarray]]]:
    """Open a cell. Yield its rate, and its samples in blocks of shape (n,) or (n, n_channels)."""
    if isinstance(cell, (str, os.PathLike, bytes, bytearray, memoryview)):
        with open_sound(cell, max_hours=max_hours) as file:
            yield float(file.samplerate), file_blocks(file, _block_length(file.samplerate, sample_rate))
        return
    if isinstance(cell, SoundSource):
        with cell.opened() as (rate, blocks):
            checked_rate(rate)
            length = _block_length(rate, sample_rate)
            yield rate, (block[start : start + length] for block in blocks for start in range(0, len(block), length))
        return
    rate = float(sample_rate)
    if isinstance(cell, tuple) and len(cell) == 2 and isinstance(cell[0], np.ndarray):
        cell, given = cell
        if isinstance(given, bool) or not isinstance(given, numbers.Real) or not RATES[0] <= float(given) <= RATES[1]:
            raise ValueError(
                f"the sampling rate must be a number of Hz from {RATES[0]:g} to 1 000 000, got {given!r}; measurements "
                "of lower rates are for TimeSeriesEncoder"
            )
        rate = float(given)
    if not isinstance(cell, np.ndarray):
        raise TypeError(
            f"expected a path, bytes, an array of samples, or (array, sampling rate); got {type(cell).__name__}"
        )
    samples, length = _checked_array(cell), _block_length(rate, sample_rate)
    yield rate, (samples[start : start + length] for start in range(0, len(samples), length))


def _refuse_infinite(samples: np.ndarray, n_samples: int) -> None:
    n_bad = len(samples) - int(np.isfinite(samples).sum())
    if n_bad:
        raise ValueError(f"{n_bad} of its first {n_samples} samples are NaN or infinite")


def _block_length(rate: float, sample_rate: int) -> int:
    """Return the number of samples to resample at once, so that input and output both stay small."""
    return max(1, int(_BLOCK * min(1.0, rate / sample_rate)))


def _checked_array(array: np.ndarray) -> np.ndarray:
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(
            f"expected float samples from -1 to 1, got {array.dtype}; divide whole numbers by their range, "
            "such as 32768 for int16"
        )
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= _MOST_CHANNELS):
        raise ValueError(f"expected samples of shape (n_samples,) or (n_samples, n_channels), got {array.shape}")
    return array
