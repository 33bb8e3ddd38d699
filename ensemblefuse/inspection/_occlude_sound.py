"""Parts of a sound: bands of frequency in windows of time, which are silenced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import signal

from ensemblefuse.cells.sound import read_sound
from ensemblefuse.encoders import AudioEncoder
from ensemblefuse.inspection._part_explanation import MOST_BYTES, CannotExplain, PartExplanation, cell_table, unit_of
from ensemblefuse.inspection._row_model import RowModel, first_encoder

__all__ = ["SoundParts"]

_HOP_SECONDS = 0.016
_LEAST = 64  # samples


class SoundParts:
    """Bands of equal width in mel, in windows of equal length, of the short-time Fourier transform of a sound.

    `AudioEncoder` gets the sound as it reads it, mono and at its own rate. Other encoders get arrays of the cell's
    shape.
    """

    def __init__(self, row: RowModel, name: str, cells: pd.DataFrame, settings: Any):
        self.column, self.cell = cells.columns[0], cells.iloc[0, 0]
        self.samples, self.rate = self._read(first_encoder(row.transformer(name)))
        n = self.samples.shape[0]
        if n < _LEAST:
            raise CannotExplain(f"a sound of {n} samples is too short for a short-time Fourier transform")
        hop = int(np.clip(_HOP_SECONDS * self.rate, 8, n // 8))
        self._stft = signal.ShortTimeFFT(signal.windows.hann(2 * hop, sym=False), hop, self.rate)
        self._spectrum = self._stft.stft(self.samples.reshape(n, -1).T)
        self.hz = _mel_edges(self.rate / 2, settings.grid)
        self.seconds = np.linspace(0, n / self.rate, settings.grid + 1)
        band = np.searchsorted(self.hz[1:-1], self._stft.f, side="right")
        window = np.searchsorted(self.seconds[1:-1], self._stft.t(n), side="right")
        self._part_of = band[:, None] * settings.grid + window
        self.shape = settings.grid, settings.grid
        self.n_parts, self.is_class = settings.grid**2, row.code is not None
        self.n_at_once = max(1, MOST_BYTES // self.samples.nbytes)

    def _read(self, encoder: Any) -> tuple[np.ndarray, float]:
        if isinstance(encoder, AudioEncoder):
            sound = read_sound(self.cell, encoder._sample_rate(), encoder.max_seconds)
            if sound.samples is None:
                raise CannotExplain("the sound is longer than five minutes; pass max_seconds= to its encoder")
            return sound.samples, float(encoder._sample_rate())
        if isinstance(self.cell, tuple):
            return np.asarray(self.cell[0]), float(self.cell[1])
        raise CannotExplain(
            f"{type(encoder).__name__} reads a {type(self.cell).__name__}, but a sound with parts removed is an array "
            "and its rate; this works for AudioEncoder, and for encoders whose cells are (array, rate)"
        )

    def cells(self, keep: np.ndarray) -> pd.DataFrame:
        """Return the sound without the bands and windows that are not kept."""
        return cell_table(self.column, [(self._only(kept), self.rate) for kept in keep])

    def _only(self, kept: np.ndarray) -> np.ndarray:
        if kept.all():
            return self.samples
        made = self._stft.istft(self._spectrum * kept[self._part_of], k1=len(self.samples))
        return np.real(made).T.reshape(self.samples.shape).astype(self.samples.dtype)

    def explanation(self, effects: np.ndarray, method: str) -> PartExplanation:
        """Return the bands and windows with their effects."""
        return PartExplanation(
            "sound",
            method,
            effects.reshape(self.shape),
            (self.samples, self.rate),
            edges=(self.hz, self.seconds),
            unit=unit_of(method, self.is_class),
        )


def _mel_edges(highest: float, n_bands: int) -> np.ndarray:
    """Return the edges, in Hz, of bands of equal width in mel (O'Shaughnessy 1987)."""
    mel = np.linspace(0, 2595 * np.log10(1 + highest / 700), n_bands + 1)
    return 700 * (10 ** (mel / 2595) - 1)
