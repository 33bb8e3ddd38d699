"""Corruptions of cells in five degrees of severity, reproducible from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemblefuse.cache.code_digests import cell_digest
from ensemblefuse.cells.image import read_rgb
from ensemblefuse.encoders import (
    AudioEncoder,
    BaseEncoder,
    ImageEncoder,
    TextEncoder,
    TimeSeriesEncoder,
    WordVectorEncoder,
)
from ensemblefuse.evaluation import _corrupt_image as image
from ensemblefuse.evaluation import _corrupt_series as series
from ensemblefuse.evaluation import _corrupt_sound as sound
from ensemblefuse.evaluation import _corrupt_text as text

__all__ = ["CORRUPTIONS", "WORST", "Corruption", "corrupt", "kind_of_encoder", "names_of_kind"]

WORST = 5
_KINDS: tuple[tuple[type[BaseEncoder], str], ...] = (
    (ImageEncoder, "image"),
    (TextEncoder, "text"),
    (WordVectorEncoder, "text"),
    (AudioEncoder, "sound"),
    (TimeSeriesEncoder, "series"),
)


@dataclass(frozen=True)
class Corruption:
    """One way to corrupt a cell.

    Attributes
    ----------
    name : str
    function : callable
        A function of the library takes a loaded cell (see `corrupt`), a level and a generator. A function of the user
        takes the cell as it is in the table, the severity and a generator.
    kind : {"image", "text", "sound", "series"}, or None for a function of the user
    levels : tuple of 5 float
        The level at each severity from 1 to 5.
    shown : str
        Format string for a level with its unit.
    """

    name: str
    function: Callable[..., Any]
    kind: str | None = None
    levels: tuple[float, ...] = ()
    shown: str = ""

    def parameter(self, severity: int) -> str:
        """Return the level at a severity as text, with its unit; empty at severity 0 and for functions of the user."""
        if not self.levels or not severity:
            return ""
        return self.shown.format(self.levels[severity - 1])


# The levels of blur, noise, JPEG and brightness are those of ImageNet-C (Hendrycks and Dietterich, ICLR 2019).
_ALL = (
    Corruption("gaussian_blur", image.blur, "image", (1, 2, 3, 4, 6), "sigma {:g} px of 224"),
    Corruption("gaussian_noise", image.add_noise, "image", (0.08, 0.12, 0.18, 0.26, 0.38), "sigma {:g} of 1"),
    Corruption("jpeg", image.compress, "image", (25, 18, 15, 10, 7), "quality {:g}"),
    Corruption("brighter", image.shift_value, "image", (0.1, 0.2, 0.3, 0.4, 0.5), "value {:+g} of 1"),
    Corruption("darker", image.shift_value, "image", (-0.1, -0.2, -0.3, -0.4, -0.5), "value {:+g} of 1"),
    Corruption("swapped_letters", text.swap_letters, "text", (0.04, 0.08, 0.16, 0.24, 0.32), "{:.0%} of letters"),
    Corruption("replaced_letters", text.replace_letters, "text", (0.02, 0.05, 0.1, 0.2, 0.3), "{:.0%} of letters"),
    Corruption("dropped_words", text.drop_words, "text", (0.1, 0.2, 0.3, 0.4, 0.5), "{:.0%} of words"),
    Corruption("white_noise", sound.add_white_noise, "sound", (30, 20, 10, 5, 0), "SNR {:g} dB"),
    Corruption("band_stop", sound.stop_band, "sound", (0.5, 1, 2, 3, 4), "{:g} octaves at 1 kHz"),
    Corruption("relative_noise", series.add_relative_noise, "series", (0.1, 0.2, 0.4, 0.7, 1.0), "{:g} deviations"),
    Corruption("gap", series.hold_values, "series", (0.1, 0.2, 0.3, 0.4, 0.5), "{:.0%} of samples"),
)
CORRUPTIONS = {corruption.name: corruption for corruption in _ALL}


def names_of_kind(kind: str | None) -> list[str]:
    """Return the names of the library's corruptions for cells of this kind."""
    return [corruption.name for corruption in _ALL if kind is not None and corruption.kind == kind]


def kind_of_encoder(encoder: Any) -> str | None:
    """Return the kind of an encoder's cells, or None if the class of the encoder does not determine it."""
    return next((kind for cls, kind in _KINDS if isinstance(encoder, cls)), None)


def corrupt(cell: Any, corruption: Corruption, severity: int, *, encoder: Any = None, random_state: int = 0) -> Any:
    """Return the corrupted cell, in a form that the cell's encoder takes.

    Parameters
    ----------
    cell : object
        As it is in the table: a picture as `ImageEncoder` takes it, or a list of pictures; a str; a sound as
        `AudioEncoder` takes it; a series, or the numbers of a row. It must not be missing.
    corruption : Corruption
    severity : int
        From 0 to 5.
    encoder : encoder, optional
        It reads pictures and sounds, with its own background, frame or rate.
    random_state : int
        The random numbers depend only on it, the corruption, the severity and the content of the cell.

    Returns
    -------
    object
        At severity 0 the cell itself. Otherwise, by kind: a PIL image or a list of these; a str; mono samples at the
        encoder's rate, float32; float64 values of the series' shape. Or what the user's function returns.

    Raises
    ------
    TypeError, ValueError, OSError
        If the cell is not of the corruption's kind, or cannot be read.
    """
    if severity == 0:
        return cell
    rng = _generator(cell, corruption.name, severity, encoder, random_state)
    if corruption.kind is None:
        return corruption.function(cell, severity, rng)
    return _OF_KIND[corruption.kind](corruption.function, cell, corruption.levels[severity - 1], rng, encoder)


def _generator(cell: Any, name: str, severity: int, encoder: Any, random_state: int) -> np.random.Generator:
    content = cell_digest(cell, strings_are_paths=getattr(encoder, "strings_are_paths", False))
    seed = hashlib.sha256(f"{random_state} {severity} {name} ".encode() + content).digest()
    return np.random.default_rng(int.from_bytes(seed, "big"))


def _corrupt_image(function: Any, cell: Any, level: float, rng: np.random.Generator, encoder: Any) -> Any:
    if isinstance(cell, np.ndarray) and cell.ndim == 1 and cell.dtype.kind in "OUT":  # a list read from Parquet
        cell = cell.tolist()
    if isinstance(cell, (list, tuple)):
        return [_corrupt_image(function, picture, level, rng, encoder) for picture in cell]
    picture = encoder._read(cell, None) if isinstance(encoder, ImageEncoder) else read_rgb(cell)
    return function(picture, level, rng)


def _corrupt_text(function: Any, cell: Any, level: float, rng: np.random.Generator, encoder: Any) -> str:
    if not isinstance(cell, str):
        raise TypeError(f"expected a text, got {type(cell).__name__}")
    return function(cell, level, rng)


def _corrupt_sound(function: Any, cell: Any, level: float, rng: np.random.Generator, encoder: Any) -> np.ndarray:
    if not isinstance(encoder, AudioEncoder):
        raise TypeError(
            "a sound is read at the rate of its AudioEncoder, but this modality has none; pass a function of your own"
        )
    rate = encoder._sample_rate()
    samples = np.concatenate(list(encoder.load(cell).windows(60 * rate)))
    return function(samples, rate, level, rng)


def _corrupt_series(function: Any, cell: Any, level: float, rng: np.random.Generator, encoder: Any) -> np.ndarray:
    return function(np.asarray(cell, dtype=np.float64), level, rng)


_OF_KIND: dict[str, Callable[..., Any]] = {
    "image": _corrupt_image,
    "text": _corrupt_text,
    "sound": _corrupt_sound,
    "series": _corrupt_series,
}
