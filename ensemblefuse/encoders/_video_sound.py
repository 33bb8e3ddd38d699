"""The encoder of videos by their sound. Never imports `fusion`."""

from __future__ import annotations

import contextlib
import io
import itertools
import threading
import warnings
import wave
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ensemblefuse.backbones.weights import WeightsSource
from ensemblefuse.cells.sound import Sound, SoundSource
from ensemblefuse.cells.sound_file import checked_rate
from ensemblefuse.cells.video_file import open_bytes, open_container, packets
from ensemblefuse.encoders._audio import AudioEncoder
from ensemblefuse.encoders._base import BadRows, BaseEncoder
from ensemblefuse.exceptions import MissingModalityWarning

__all__ = ["VideoSoundEncoder"]

_NEEDED_BY = "VideoSoundEncoder"
_MOST_SAMPLES = 2**28
# Numbers of rows without sound and of sounds that were cut, in this thread's current call of `_encode`.
_call = threading.local()


class NoSoundError(ValueError):
    """The video can be read, but has no sound."""


class VideoSoundEncoder(BaseEncoder):
    """Embed videos by their sound, with an audio encoder. Fitting trains nothing.

    A column of videos may be declared twice: ``("frames", VideoEncoder(), "clip")`` and
    ``("sound", VideoSoundEncoder(), "clip")``. In a video without a sound track this modality is missing: its row is
    NaN, as for a missing cell, and one `MissingModalityWarning` per call gives the number of such rows. A silent track
    is a valid sound.

    Parameters
    ----------
    audio_encoder : BaseEncoder, optional
        An `AudioEncoder`, or another encoder that takes tuples of an array of shape (n_samples,), dtype float32, and
        its sampling rate. By default ``AudioEncoder()``; with ``audio_encoder=AudioEncoder(features="librosa")`` its
        parameters are reached as ``audio_encoder__features``.
    batch_size : int, default=16
        Number of sounds that go to the audio encoder at once. Not part of the cache key.
    on_error : {"raise", "missing"}, default="raise"
        What to do with videos that cannot be read: raise one error that lists all of them, or return rows of NaN with
        one `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        Length of the audio encoder's embedding.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    TypeError, ValueError
        From `fit` and `transform`, if a parameter has a wrong type. The audio encoder's own errors pass through.
    ImportError
        From `fit` and `transform`, if PyAV is not installed (``pip install "ensemblefuse[video]"``).

    Notes
    -----
    A cell is the path (str or path-like) or the bytes of a video file that PyAV reads, or of a WAV or OGG file. Only
    the first sound track is used. It has the same embedding as `AudioEncoder` gives to a file of these samples. If a
    track is longer than five minutes, the file is decoded again while its windows go through the network. A track of
    more hours than the audio encoder's ``max_hours`` is a bad row, unless it has ``max_seconds``. An audio encoder of
    another class gets all samples, averaged over the channels; more than 268 million, 93 minutes at 48 kHz, make a bad
    row.

    See Also
    --------
    VideoEncoder : The pictures of a video.
    AudioEncoder : For sound files.

    Examples
    --------
    >>> from ensemblefuse import AudioEncoder, VideoSoundEncoder
    >>> encoder = VideoSoundEncoder(AudioEncoder(features="librosa"))
    >>> encoder.set_params(audio_encoder__features="librosa").get_params()["audio_encoder__batch_size"]
    16
    """

    strings_are_paths: ClassVar[bool] = True
    # `recipe` writes the audio encoder's own recipe instead.
    neutral_params: ClassVar[frozenset[str]] = BaseEncoder.neutral_params | {"audio_encoder"}

    def __init__(
        self,
        audio_encoder: BaseEncoder | None = None,
        *,
        batch_size: int = 16,
        on_error: str = "raise",
    ):
        self.audio_encoder = audio_encoder
        self.batch_size = batch_size
        self.on_error = on_error

    @property
    def loads_in_threads(self) -> bool:  # type: ignore[override]
        """Return whether the audio encoder may load in threads."""
        return self._encoder().loads_in_threads

    def load(self, cell: Any) -> Any:
        """Decode the sound of one video, and prepare it as the audio encoder does.

        Parameters
        ----------
        cell : str, path or bytes

        Returns
        -------
        object
            Result of the audio encoder's ``load``.

        Raises
        ------
        OSError, ValueError, TypeError
            If the cell is not a readable video.
        NoSoundError
            If it has no sound.
        """
        encoder, track = self._encoder(), SoundTrack(cell, needed_by=_NEEDED_BY)
        return encoder.load(track if isinstance(encoder, AudioEncoder) else track.read())

    def probe(self, cell: Any) -> None:
        """Decode the beginning of the sound of a video; see `BaseEncoder.probe`."""
        with SoundTrack(cell, needed_by=_NEEDED_BY).opened() as (_, blocks):
            next(blocks)

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Embed sounds.

        Parameters
        ----------
        items : list
            Results of `load`.

        Returns
        -------
        ndarray of shape (len(items), n_dims), dtype float32
        """
        vectors = self._encoder().encode_batch(items)
        _call.n_cut = getattr(_call, "n_cut", 0) + sum(isinstance(item, Sound) and item.cut for item in items)
        return vectors

    def example_cell(self) -> Any:
        """Return a second of silence; see `BaseEncoder.example_cell`."""
        file = io.BytesIO()
        with wave.open(file, "wb") as writer:
            writer.setparams((1, 2, 16_000, 0, "NONE", ""))
            writer.writeframes(bytes(32_000))
        return file.getvalue()

    def place(self) -> str:
        """See `BaseEncoder.place`."""
        return self._encoder().place()

    def prepare(self) -> None:
        """Check the parameters and load the audio encoder's network."""
        self._check_params()
        self._encoder().prepare()

    def recipe(self) -> dict[str, Any] | None:
        """Return what the embeddings depend on: class, version, and the audio encoder's recipe.

        Returns
        -------
        dict or None
            None if the audio encoder has none.
        """
        self._check_params()
        recipe, inner = super().recipe(), self._encoder().recipe()
        if recipe is None or inner is None:
            return None
        recipe["params"] |= {"audio_encoder": inner}
        return recipe

    def weights_sources(self) -> list[WeightsSource]:
        """Return the sources of the audio encoder; see `BaseEncoder.weights_sources`."""
        return self._encoder().weights_sources()

    def _encoder(self) -> BaseEncoder:
        return AudioEncoder() if self.audio_encoder is None else self.audio_encoder

    def _check_params(self) -> None:
        self._batch_size()
        if self.audio_encoder is not None and not isinstance(self.audio_encoder, BaseEncoder):
            raise TypeError(f"{_NEEDED_BY}: audio_encoder must be None or an encoder; got {self.audio_encoder!r}.")

    def _encode(self, frame: pd.DataFrame) -> np.ndarray:
        _call.n_silent = _call.n_cut = 0
        vectors = super()._encode(frame)
        column = str(frame.columns[0])
        if _call.n_silent:
            warnings.warn(
                f"{type(self).__name__}: {_call.n_silent} of {len(frame)} videos in column {column!r} have no sound; "
                "the modality is missing in their rows.",
                MissingModalityWarning,
                stacklevel=3,
            )
        if _call.n_cut:
            sounds, them = ("sound", "it") if _call.n_cut == 1 else ("sounds", "them")
            warnings.warn(
                f"{type(self).__name__} cut {_call.n_cut} {sounds} of column {column!r} at max_seconds="
                f"{self._encoder().max_seconds}; the rest of {them} is ignored.",  # type: ignore[attr-defined]
                UserWarning,
                stacklevel=3,
            )
        return vectors

    def _vectors(self, frame: pd.DataFrame, column: str) -> tuple[np.ndarray, BadRows]:
        vectors, bad = super()._vectors(frame, column)
        silent = [row for row in bad if row.reason.startswith(NoSoundError.__name__)]
        _call.n_silent = getattr(_call, "n_silent", 0) + len(silent)
        kept = (row for row in bad if not row.reason.startswith(NoSoundError.__name__))
        return vectors, BadRows(kept, bad.first)


class SoundTrack(SoundSource):
    """The first sound track of a video.

    Parameters
    ----------
    cell : str, path or bytes
    needed_by : str
        The class that the user called, for the messages.
    """

    def __init__(self, cell: Any, *, needed_by: str):
        self._cell, self._needed_by = cell, needed_by

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[float, Iterator[np.ndarray]]]:
        """Open the track. Yield its sampling rate in Hz, and its float32 samples in blocks of shape (n, n_channels).

        Raises
        ------
        TypeError, ValueError, OSError
            If the cell is not a readable video.
        NoSoundError
            If it has no sound.
        """
        with open_bytes(self._cell) as file, open_container(file, needed_by=self._needed_by) as container:
            if not container.streams.audio:
                raise NoSoundError("it has no sound")
            frames = _decoded(container, container.streams.audio[0])
            first = next(frames, None)
            if first is None:
                raise ValueError("its sound track holds no samples")
            yield (
                checked_rate(float(first.rate)),
                (_samples(frame, first) for frame in itertools.chain([first], frames)),
            )

    def read(self) -> tuple[np.ndarray, float]:
        """Return the mean of the channels, of shape (n_samples,), and the sampling rate; at most 2**28 samples."""
        parts: list[np.ndarray] = []
        n_samples = 0
        with self.opened() as (rate, blocks):
            for block in blocks:
                n_samples += len(block)
                if n_samples > _MOST_SAMPLES:
                    raise ValueError(f"its sound has more than {_MOST_SAMPLES} samples; only AudioEncoder can read it")
                parts.append(block.mean(axis=1, dtype=np.float32))
        return np.concatenate(parts), rate


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the frames of a stream that are not empty."""
    for packet in packets(container, stream):
        yield from (frame for frame in stream.decode(packet) if frame.samples)


def _samples(frame: Any, first: Any) -> np.ndarray:
    """Return float32 samples of shape (n, n_channels) from -1 to 1. PyAV's own resampler would start threads."""
    kind, rate = first.layout.name, first.rate
    if (frame.layout.name, frame.rate) != (kind, rate):
        raise ValueError(f"its sound changes from {kind} at {rate} Hz to {frame.layout.name} at {frame.rate} Hz")
    array = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(frame.samples, -1)
    with np.errstate(over="ignore"):  # overflows are infinite, and refused by the audio encoder
        floats = array.astype(np.float32)
    if array.dtype.kind == "f":
        return floats
    half = np.float32(2.0 ** (8 * array.dtype.itemsize - 1))
    return floats / half - np.float32(array.dtype.kind == "u")
