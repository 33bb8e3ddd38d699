"""Corruptions of sounds: each function takes samples, their rate in Hz, a level and a generator; returns samples."""

from __future__ import annotations

import numpy as np

__all__ = ["CENTRE", "add_white_noise", "stop_band"]

CENTRE = 1000.0  # Hz


def add_white_noise(samples: np.ndarray, rate: int, decibels: float, rng: np.random.Generator) -> np.ndarray:
    """Add white noise at this signal-to-noise ratio of mean powers, in dB; silence stays silence.

    The noise is scaled after it is drawn, so the ratio is exact in short sounds too. Nothing is clipped.
    """
    noise = rng.standard_normal(len(samples), dtype=np.float32)
    wanted = _power(samples) / 10 ** (decibels / 10)
    return samples + noise * np.float32(np.sqrt(wanted / _power(noise)))


def stop_band(samples: np.ndarray, rate: int, octaves: float, rng: np.random.Generator) -> np.ndarray:
    """Remove a band of this many octaves around 1000 Hz, by zeros in the spectrum of the whole sound."""
    spectrum = np.fft.rfft(samples)
    frequencies = np.fft.rfftfreq(len(samples), 1 / rate)
    low, high = CENTRE / 2 ** (octaves / 2), CENTRE * 2 ** (octaves / 2)
    spectrum[(frequencies >= low) & (frequencies <= high)] = 0
    return np.fft.irfft(spectrum, n=len(samples)).astype(np.float32)


def _power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))
