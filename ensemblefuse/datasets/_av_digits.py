"""Data set of handwritten digits with spoken names and hints in words. Needs no network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

from ensemblefuse.datasets._base import (
    check_int,
    data_folder,
    object_frame,
    progress_bar,
    read_wav,
    replacing,
    write_wav,
)
from ensemblefuse.datasets._speech import (
    PITCHES,
    SPEEDS,
    VOICES,
    SpeechUnavailableError,
    Utterance,
    spoken,
    start_speech,
)

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_N_IMAGES = 1797
_SNR_DB = (-6.0, 6.0)

# Each hint is true of at least two digits, so that no text determines its digit.
_HINTS: dict[str, frozenset[int]] = {
    "an even number below six": frozenset({0, 2, 4}),
    "an even number above three": frozenset({4, 6, 8}),
    "an odd number below six": frozenset({1, 3, 5}),
    "an odd number above four": frozenset({5, 7, 9}),
    "a prime number": frozenset({2, 3, 5, 7}),
    "the square of a whole number": frozenset({0, 1, 4, 9}),
    "a multiple of three": frozenset({0, 3, 6, 9}),
    "a power of two": frozenset({1, 2, 4, 8}),
    "smaller than three": frozenset({0, 1, 2}),
    "larger than six": frozenset({7, 8, 9}),
    "somewhere in the middle, from three to six": frozenset({3, 4, 5, 6}),
    "one of the two ends of the row of digits": frozenset({0, 9}),
}

_DESCR = """Digits: {n_rows} rows in 10 classes, balanced

image   8x8 grey PNG files of handwritten digits, unchanged (scikit-learn's load_digits, from the UCI set
        "Optical Recognition of Handwritten Digits", CC BY 4.0).
text    An English hint that is true of two to four digits. GENERATED: drawn by rule from the label.
{third}
The parts of a row come from different sources and only share the label: the set shows how the library
works, but not how well fusion works on real data.
"""
_SPEECH_DESCR = """\
speech  WAV files of the digit's English name. GENERATED: spoken by the synthesiser espeak-ng in {n_voices}
        voices at three speeds and three pitches, under white noise at a signal-to-noise ratio of {low:.0f}
        to {high:.0f} dB. `groups` is the voice: split by it to test on unknown voices. No cell is missing.
"""
_TABLE_DESCR = """\
row_0 .. row_7  The ink in each row of the picture. They are computed from the image, and replace speech
        here, because {why}. `groups` gives each row its own group.
"""


def load_av_digits(
    n_samples: int = 600,
    *,
    data_home: str | os.PathLike[str] | None = None,
    random_state: int = 0,
    progress: bool = True,
) -> Bunch:
    """Load handwritten digits with a spoken name and a hint in words. Needs no network.

    The images are real; speech and text are generated from the label, as ``DESCR`` states. Media files are
    written once to the data folder. If the package espeakng-loader is not installed, eight numbers that are
    computed from the image replace speech.

    Parameters
    ----------
    n_samples : int, default=600
        Number of rows, 10 to 1797. Class sizes differ by at most one row, as long as there are enough images.
    data_home : path-like, optional
        The folder for media files. By default the environment variable ``ENSEMBLEFUSE_DATA``, and without
        it the user's data folder.
    random_state : int, default=0
        Seed for the draw of images, voices, hints and noise. The rows of a smaller `n_samples` are the
        first rows of a larger one.
    progress : bool, default=True
        Show a bar on stderr while speech is generated.

    Returns
    -------
    Bunch
        frame : DataFrame of shape (n_samples, 3) or (n_samples, 10)
            ``image`` (path of a PNG file), ``text`` (str), ``speech`` (path of a WAV file); without
            espeakng-loader ``row_0`` to ``row_7`` (float) instead of ``speech``. The index is the image's
            id, ``"digit-0042"``.
        target : Series of shape (n_samples,)
            The digit (str, ``"0"`` to ``"9"``).
        groups : Series of shape (n_samples,)
            The voice (str); without speech the row's own id.
        modalities : dict
            Modality to column, or to a list of columns.
        missing : dict of str to int
            Column to the number of None cells: all zero.
        name, DESCR : str
            Short name; a description of the data, and which of them are generated.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or has a wrong type.
    """
    n_samples = check_int(n_samples, "n_samples", low=10, high=_N_IMAGES)
    random_state = check_int(random_state, "random_state", low=0)
    folder = data_folder(data_home) / "av_digits"
    digits = load_digits()
    rows = _draw_rows(digits.target, n_samples, random_state)
    labels = digits.target[rows]
    index = pd.Index([f"digit-{row:04d}" for row in rows], name="digit", dtype=object)
    columns: dict[str, Any] = {
        "image": _write_images(digits.images, rows, folder / "image"),
        "text": [_hint(int(label), _generator(random_state, row, 0)) for row, label in zip(rows, labels, strict=True)],
    }
    modalities: dict[str, Any] = {"image": "image", "text": "text"}
    try:
        columns["speech"], voices = _write_speech(rows, labels, folder, random_state, progress=progress)
    except SpeechUnavailableError as error:
        frame = object_frame(columns, index).join(_row_sums(digits.images, rows, index))
        modalities["tabular"] = [f"row_{i}" for i in range(8)]
        voices, third = list(index), _TABLE_DESCR.format(why=error)
    else:
        frame = object_frame(columns, index)
        modalities["audio"] = "speech"
        third = _SPEECH_DESCR.format(n_voices=len(VOICES), low=_SNR_DB[0], high=_SNR_DB[1])
    return Bunch(
        frame=frame,
        target=pd.Series([str(label) for label in labels], index=index, name="label", dtype=object),
        groups=pd.Series(voices, index=index, name="group", dtype=object),
        modalities=modalities,
        missing=dict.fromkeys(frame.columns, 0),
        name="digits",
        DESCR=_DESCR.format(n_rows=n_samples, third=third),
    )


def _generator(random_state: int, row: int, purpose: int) -> np.random.Generator:
    """Return a random generator for one row, independent of the other rows."""
    return np.random.default_rng([random_state, int(row), purpose])


def _draw_rows(labels: np.ndarray, n_samples: int, random_state: int) -> np.ndarray:
    """Return shuffled positions of images, with the classes in turn, so that any first part is balanced."""
    shuffled = np.random.default_rng(random_state).permutation(len(labels))
    rank = pd.Series(labels[shuffled]).groupby(labels[shuffled]).cumcount().to_numpy()
    return shuffled[np.argsort(rank, kind="stable")][:n_samples]


def _hint(digit: int, rng: np.random.Generator) -> str:
    return str(rng.choice([hint for hint, digits in _HINTS.items() if digit in digits]))


def _write_images(images: np.ndarray, rows: np.ndarray, folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"digit-{row:04d}.png" for row in rows]
    for row, path in zip(rows, paths, strict=True):
        if not path.is_file():
            pixels = np.round(images[row] * (255 / 16)).astype(np.uint8)
            with replacing(path) as temporary:
                Image.fromarray(pixels).save(temporary, format="PNG")
    return [str(path) for path in paths]


def _row_sums(images: np.ndarray, rows: np.ndarray, index: pd.Index) -> pd.DataFrame:
    return pd.DataFrame(images[rows].sum(axis=2), index=index, columns=[f"row_{i}" for i in range(8)])


def _write_speech(
    rows: np.ndarray, labels: np.ndarray, folder: Path, random_state: int, *, progress: bool
) -> tuple[list[str], list[str]]:
    """Return the paths of the noisy recordings, and their voices. Existing files are used."""
    start_speech()
    clean, noisy = folder / "clean", folder / f"speech-{random_state}"
    clean.mkdir(parents=True, exist_ok=True)
    noisy.mkdir(parents=True, exist_ok=True)
    paths, voices = [], []
    with progress_bar(len(rows), "Speaking digits", progress=progress, unit="clip") as bar:
        for row, label in zip(rows, labels, strict=True):
            rng = _generator(random_state, row, 1)
            utterance = _draw_utterance(int(label), rng)
            path = noisy / f"digit-{row:04d}.wav"
            if not path.is_file():
                signal, rate = read_wav(spoken(utterance, clean))
                write_wav(path, _with_noise(signal, rng), rate)
            paths.append(str(path))
            voices.append(utterance.voice)
            bar.update()
    return paths, voices


def _draw_utterance(digit: int, rng: np.random.Generator) -> Utterance:
    return Utterance(_WORDS[digit], str(rng.choice(VOICES)), int(rng.choice(SPEEDS)), int(rng.choice(PITCHES)))


def _with_noise(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add white noise at a random signal-to-noise ratio, and scale the sum to a peak of 0.9."""
    snr = 10 ** (rng.uniform(*_SNR_DB) / 10)
    noise = rng.standard_normal(signal.shape) * np.sqrt(np.mean(signal**2) / snr)
    mixed = signal + noise
    return 0.9 * mixed / np.abs(mixed).max()
