"""Features of sounds without weights: statistics of timbre, pitch class, contrast and loudness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse.backbones.frame_pooling import pool_frames
from ensemblefuse.cells.sound import Sound

__all__ = ["N_DIMS", "pooled_librosa_features"]

_N_FFT = 1024  # 64 ms at 16 kHz
_HOP = 512
_N_MFCC = 20
_N_MELS = 64
_N_CHROMA = 12
_N_CONTRAST_BANDS = 5  # octaves above 200 Hz that 16 kHz can represent: 200 * 2**5 = 6400 < 8000
_N_SHAPE = 6
_N_CURVES = 2 * _N_MFCC + _N_CHROMA + _N_CONTRAST_BANDS + 1 + _N_SHAPE
N_DIMS = 2 * _N_CURVES
_WINDOW_SECONDS = 300


def pooled_librosa_features(sounds: Sequence[Sound], sample_rate: int) -> np.ndarray:
    """Compute the mean and standard deviation over time of 64 curves for each sound.

    The curves are 20 MFCC and their first differences (Davis and Mermelstein, 1980), 12 chroma (pitch classes),
    6 spectral contrasts (Jiang et al., 2002), and zero crossings, centroid, bandwidth, roll-off, flatness and
    loudness (RMS), from frames of 64 ms every 32 ms at 16 kHz. A sound shorter than a frame is padded with zeros. A
    sound of over five minutes is split into windows of five minutes, and the frames of all windows are pooled.

    Parameters
    ----------
    sounds : sequence of Sound
    sample_rate : int
        Their sampling rate in Hz, at least 12 800.

    Returns
    -------
    ndarray of shape (len(sounds), 128), dtype float32
        64 means, then 64 standard deviations. Finite, for silence too.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite embedding becomes a bad row
        return pool_frames(
            sounds,
            _WINDOW_SECONDS * sample_rate,
            1,
            lambda parts: [librosa_curves(part, sample_rate) for part in parts],
        )


def librosa_curves(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the curves of one window, of shape (n_frames, 64)."""
    librosa = import_optional("librosa", needed_by='AudioEncoder(features="librosa")')
    feature = librosa.feature
    if len(samples) < _N_FFT:
        samples = np.pad(samples, (0, _N_FFT - len(samples)))
    magnitude = np.abs(librosa.stft(samples, n_fft=_N_FFT, hop_length=_HOP))
    power = magnitude**2
    mel = feature.melspectrogram(S=power, sr=sample_rate, n_fft=_N_FFT, n_mels=_N_MELS)
    mfcc = feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=_N_MFCC)
    shape = {"sr": sample_rate, "n_fft": _N_FFT}
    curves = [
        mfcc,
        feature.delta(mfcc, width=9, mode="nearest"),  # a mode that works with fewer than 9 frames
        feature.chroma_stft(S=power, tuning=0.0, n_chroma=_N_CHROMA, **shape),
        feature.spectral_contrast(S=magnitude, n_bands=_N_CONTRAST_BANDS, **shape),
        _zero_crossing_rate(samples, magnitude.shape[1]),
        feature.spectral_centroid(S=magnitude, **shape),
        feature.spectral_bandwidth(S=magnitude, **shape),
        feature.spectral_rolloff(S=magnitude, **shape),
        feature.spectral_flatness(S=magnitude),
        feature.rms(S=magnitude, frame_length=_N_FFT),
    ]
    stacked = np.concatenate(curves).astype(np.float64)
    assert stacked.shape == (_N_CURVES, magnitude.shape[1]), stacked.shape
    return stacked.T


def _zero_crossing_rate(samples: np.ndarray, n_frames: int) -> np.ndarray:
    """Return the share of sign changes in each window. librosa's own function takes seconds to compile at first."""
    changes = np.zeros(len(samples))
    changes[1:] = np.signbit(samples[1:]) != np.signbit(samples[:-1])
    changes = np.pad(changes, _N_FFT // 2)
    windows = np.lib.stride_tricks.sliding_window_view(changes, _N_FFT)[::_HOP]
    return windows[:n_frames].mean(axis=1)[None, :]
