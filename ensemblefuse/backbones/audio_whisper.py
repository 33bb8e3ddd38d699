"""Whisper's encoder, run by CTranslate2: spectrogram, windows, pooling."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse._torch import n_threads
from ensemblefuse.backbones.frame_pooling import frame_sequences, pool_frames
from ensemblefuse.backbones.weights import PACKAGED
from ensemblefuse.cells.sound import Sound

__all__ = ["SAMPLE_RATE", "build_whisper", "embed_whisper", "log_mel", "whisper_sequences"]

_NEEDED_BY = "AudioEncoder"
# Settings that all Whisper models share; only the number of mel bands differs.
_RECORD = PACKAGED["whisper-tiny.en"].record
SAMPLE_RATE, _N_FFT, _HOP = _RECORD["sample_rate"], _RECORD["n_fft"], _RECORD["hop_length"]
_WINDOW = SAMPLE_RATE * _RECORD["max_seconds"]
_FRAME = 2 * _HOP  # the encoder halves the number of frames: 20 ms each


def build_whisper(folder: Path, device: tuple[str, int]) -> Any:
    """Load the CTranslate2 model of a folder, in float32.

    Raises
    ------
    ValueError
        If the folder does not hold a Whisper model that CTranslate2 can load.
    """
    ctranslate2 = import_optional("ctranslate2", needed_by=_NEEDED_BY)
    try:
        return ctranslate2.models.Whisper(
            str(folder),
            device=device[0],
            device_index=device[1],
            compute_type="float32",
            intra_threads=n_threads(),
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{_NEEDED_BY}: CTranslate2 cannot load the folder {folder.name!r} as a Whisper model ({error})."
        ) from error


def embed_whisper(network: Any, sounds: Sequence[Sound], batch_size: int) -> np.ndarray:
    """Compute the mean and standard deviation over each sound's own frames. A batch has windows of one padded length.

    Parameters
    ----------
    network : ctranslate2.models.Whisper
    sounds : sequence of Sound
        At 16 kHz.
    batch_size : int
        Number of windows that go through the network at once.

    Returns
    -------
    ndarray of shape (len(sounds), 2 * width), dtype float32
    """
    return pool_frames(sounds, _WINDOW, batch_size, _frames_by(network), group=_whole_seconds)


def whisper_sequences(network: Any, sounds: Sequence[Sound], batch_size: int, most: int) -> list[np.ndarray]:
    """Return for each sound its frames, averaged to at most `most`: shape (n_tokens, width), dtype float32.

    Other parameters are those of `embed_whisper`.
    """
    return frame_sequences(sounds, _WINDOW, batch_size, _frames_by(network), most, group=_whole_seconds)


def _frames_by(network: Any) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    """Return a function from windows of one padded length to the frames of their own samples."""

    def embed(parts: list[np.ndarray]) -> list[np.ndarray]:
        seconds = _whole_seconds(parts[0])
        mel = np.stack([log_mel(part, seconds, network.n_mels) for part in parts])
        frames = _encode(network, mel)
        return [own[: -(-len(part) // _FRAME)] for own, part in zip(frames, parts, strict=True)]

    return embed


def _whole_seconds(part: np.ndarray) -> int:
    """Return the length to which a window is padded; it depends on the window alone."""
    return -(-len(part) // SAMPLE_RATE)


def _encode(network: Any, mel: np.ndarray) -> np.ndarray:
    """Return frames of shape (n, n_frames, n_dims), dtype float32."""
    import ctranslate2

    return np.asarray(network.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(mel)), to_cpu=True))


def log_mel(samples: np.ndarray, seconds: int, n_mels: int) -> np.ndarray:
    """Compute Whisper's spectrogram of a sound that is padded with silence.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), dtype float32
        At 16 kHz, at most `seconds` long.
    seconds : int
        Length after padding.
    n_mels : int
        Number of mel bands.

    Returns
    -------
    ndarray of shape (n_mels, 100 * seconds), dtype float32
        Logarithmic, limited to 80 dB below the loudest point, as in Radford et al. (2023).
    """
    window, filters = _stft_constants(n_mels)
    padded = np.pad(samples, (0, seconds * SAMPLE_RATE - len(samples)))
    padded = np.pad(padded, _N_FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _N_FFT)[::_HOP][:-1]
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    logarithm = np.log10(np.maximum(filters @ power.T, 1e-10))
    return ((np.maximum(logarithm, logarithm.max() - 8.0) + 4.0) / 4.0).astype(np.float32)


@functools.lru_cache
def _stft_constants(n_mels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the Hann window, and mel filters of shape (n_mels, n_frequencies)."""
    librosa = import_optional("librosa", needed_by=_NEEDED_BY)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_N_FFT) / _N_FFT)
    return window, librosa.filters.mel(sr=SAMPLE_RATE, n_fft=_N_FFT, n_mels=n_mels).astype(np.float64)
