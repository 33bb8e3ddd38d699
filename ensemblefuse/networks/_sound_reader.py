"""Spectrograms of sounds as networks take them, and what is done to them in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ensemblefuse.backbones.audio_whisper import SAMPLE_RATE, log_mel
from ensemblefuse.cells.sound import read_sound
from ensemblefuse.networks._reader import CellReader

if TYPE_CHECKING:
    import torch

__all__ = ["SoundReader", "spec_augmented"]

_BANDS = 64
_FRAME = SAMPLE_RATE // 100
# Number of bands and of pieces that are set to the mean, and the largest share of each.
_STRENGTHS = {"light": (1, 0.125, 0.1), "strong": (2, 0.25, 0.2)}


def spec_augmented(spectrogram: np.ndarray, rng: np.random.Generator, strength: str) -> np.ndarray:
    """Return a spectrogram shifted in time in a circle, with some bands and pieces set to its mean (Park et al., 2019).

    Parameters
    ----------
    spectrogram : ndarray of shape (n_frames, n_bands)
    rng : numpy.random.Generator
    strength : {"light", "strong"}
    """
    n_masks, share_of_bands, share_of_time = _STRENGTHS[strength]
    out = np.roll(spectrogram, rng.integers(len(spectrogram)), axis=0)
    mean = spectrogram.mean()
    for _ in range(n_masks):
        for view, share in ((out.T, share_of_bands), (out, share_of_time)):
            size = rng.integers(int(share * len(view)) + 1)
            first = rng.integers(len(view) - size + 1)
            view[first : first + size] = mean
    return out


@dataclass(frozen=True)
class SoundReader(CellReader):
    """Reads sounds as `AudioEncoder` does, as spectrograms.

    Attributes
    ----------
    augment : {"none", "light", "strong"} or callable
    max_seconds : float
    """

    augment: str | Callable[[np.ndarray, np.random.Generator], np.ndarray]
    max_seconds: float

    strings_are_paths: ClassVar[bool] = True

    def words(self) -> dict[str, Any]:
        """See `CellReader.words`."""
        return {"max_seconds": self.max_seconds, "bands": _BANDS}

    @property
    def limit(self) -> str:
        """See `CellReader.limit`."""
        return f"max_seconds={self.max_seconds}"

    def load(self, cell: Any) -> np.ndarray:
        """Return the spectrogram of a sound, of shape (n_frames, 64), dtype float32."""
        sound = read_sound(cell, SAMPLE_RATE, self.max_seconds)
        if sound.cut:
            self.cut[len(self.cut)] = None
        samples = np.concatenate(list(sound.windows(SAMPLE_RATE)))
        seconds = -(-len(samples) // SAMPLE_RATE)
        n_frames = -(-len(samples) // _FRAME)
        return np.ascontiguousarray(log_mel(samples, seconds, _BANDS)[:, :n_frames].T)

    def array(self, item: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return the spectrogram, augmented if there is a `rng`."""
        if rng is None or (isinstance(self.augment, str) and self.augment == "none"):
            return item
        made = self.augment(item, rng) if callable(self.augment) else spec_augmented(item, rng, self.augment)
        return np.asarray(made, dtype=np.float32)

    def join(self, arrays: Sequence[np.ndarray], *, after_prefix: bool) -> tuple[torch.Tensor, ...]:
        """Return the spectrograms, of shape (n, n_frames, 64), and their numbers of frames."""
        import torch

        from ensemblefuse.networks._sequences import pad

        return pad(arrays), torch.tensor([len(array) for array in arrays])
