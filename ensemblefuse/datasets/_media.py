"""Small generated media files for tests and examples."""

from __future__ import annotations

import numbers
import os
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter
from sklearn.utils import Bunch

from ensemblefuse.datasets._base import check_int, object_frame, write_wav

_SHAPES = ("circle", "square", "triangle")
_COLOURS = {"red": (205, 50, 45), "green": (55, 150, 70), "blue": (50, 80, 190), "yellow": (230, 200, 60)}
_SIDE = 64
_RATE, _SECONDS = 16_000, 0.25
# The tones (Hz, spread by a tenth) and the prices (spread by 3) overlap from class to class.
_TONES = {"circle": 440.0, "square": 550.0, "triangle": 690.0}
_PRICES = {"circle": 10.0, "square": 13.0, "triangle": 16.0}
_MEDIA = ("photo", "title", "clip")
_MOST_MISSING = (len(_MEDIA) - 1) / len(_MEDIA)

_DESCR = """Shapes: {n_samples} rows in 3 classes, {n_missing} of {n_cells} media cells missing

All of it is GENERATED.

photo   PNG and JPEG files of a coloured shape; about one in five is blurred.
title   Names the colour, and in about two of three rows the shape.
clip    WAV files of a tone in noise; the pitch depends on the shape, with overlap.
price   A number that depends on the shape, with overlap.
weight  A number that does not depend on the shape.
"""


def make_media(
    folder: str | os.PathLike[str], n_samples: int = 12, *, missing: float = 0.0, random_state: int = 0
) -> Bunch:
    """Make a small multimodal data set with real media files: pictures, titles, sounds and two numbers.

    It is meant for tests and examples. Results on it say nothing about real data.

    Parameters
    ----------
    folder : path-like
        Where the files are written. It is created if it does not exist. Files with the same names are overwritten.
    n_samples : int, default=12
        Number of rows, at least 3. The sizes of the three classes differ by at most one row.
    missing : float, default=0.0
        Share of the ``photo``, ``title`` and ``clip`` cells that are set to None, 0 to 2/3. Every row keeps at
        least one of the three.
    random_state : int, default=0
        Seed. The same arguments give the same files and cells.

    Returns
    -------
    Bunch
        frame : DataFrame of shape (n_samples, 5)
            ``photo`` (path of a PNG or JPEG file), ``title`` (str), ``clip`` (path of a WAV file),
            ``price`` and ``weight`` (float). The index is ``"sku0000"`` and so on.
        target : Series of shape (n_samples,)
            The shape (str): ``"circle"``, ``"square"`` or ``"triangle"``.
        groups : Series of shape (n_samples,)
            The row's own id, because no rows belong together.
        modalities : dict
            Modality to column, or to a list of columns.
        missing : dict of str to int
            Column to the number of None cells.
        name, DESCR : str
            Short name; how each column depends on the label.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or has a wrong type.

    Examples
    --------
    >>> import tempfile
    >>> from ensemblefuse.datasets import make_media
    >>> folder = tempfile.TemporaryDirectory()
    >>> media = make_media(folder.name, n_samples=6)
    >>> list(media.frame.columns)
    ['photo', 'title', 'clip', 'price', 'weight']
    >>> media.target.value_counts().to_dict() == {"circle": 2, "square": 2, "triangle": 2}
    True
    >>> folder.cleanup()
    """
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"folder must be a path, got {folder!r}.")
    n_samples = check_int(n_samples, "n_samples", low=3)
    random_state = check_int(random_state, "random_state", low=0)
    missing = _check_missing(missing)
    place = Path(folder).resolve()
    place.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(random_state)

    index = pd.Index([f"sku{i:04d}" for i in range(n_samples)], name="sku", dtype=object)
    shapes = [_SHAPES[i] for i in rng.permutation(np.arange(n_samples) % len(_SHAPES))]
    colours = [str(colour) for colour in rng.choice(list(_COLOURS), n_samples)]
    media = {
        "photo": [_write_photo(place, i, shapes[i], colours[i], rng) for i in range(n_samples)],
        "title": [_title(shapes[i], colours[i], rng) for i in range(n_samples)],
        "clip": [_write_clip(place, i, shapes[i], rng) for i in range(n_samples)],
    }
    frame = object_frame(media, index)
    frame["price"] = np.round([rng.normal(_PRICES[shape], 3.0) for shape in shapes], 2)
    frame["weight"] = np.round(rng.lognormal(size=n_samples), 3)
    hidden = _hidden_cells(n_samples, missing, rng)
    for position, column in enumerate(_MEDIA):
        frame[column] = pd.Series(
            [None if hide else cell for cell, hide in zip(frame[column], hidden[:, position], strict=True)],
            index=index,
            dtype=object,
        )
    return Bunch(
        frame=frame,
        target=pd.Series(shapes, index=index, name="shape", dtype=object),
        groups=pd.Series(list(index), index=index, name="group", dtype=object),
        modalities={"image": "photo", "text": "title", "audio": "clip", "tabular": ["price", "weight"]},
        missing={column: int(frame[column].isna().sum()) for column in frame},
        name="shapes",
        DESCR=_DESCR.format(n_samples=n_samples, n_missing=int(hidden.sum()), n_cells=hidden.size),
    )


def _check_missing(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"missing must be a number from 0 to 2/3, got {value!r}.")
    if not 0 <= float(value) <= _MOST_MISSING + 1e-9:
        raise ValueError(f"missing must be from 0 to 2/3 (every row keeps one of {_MEDIA}), got {value!r}.")
    return float(value)


def _hidden_cells(n_samples: int, missing: float, rng: np.random.Generator) -> np.ndarray:
    """Return a bool array of shape (n_samples, 3) with exactly the share `missing` set, but no whole row."""
    kept = rng.integers(len(_MEDIA), size=n_samples)  # one cell of each row is never hidden
    may_hide = np.flatnonzero(np.arange(len(_MEDIA)) != kept[:, None])
    hidden = np.zeros(n_samples * len(_MEDIA), dtype=bool)
    n_hidden = min(round(missing * hidden.size), may_hide.size)
    hidden[rng.choice(may_hide, size=n_hidden, replace=False)] = True
    return hidden.reshape(n_samples, len(_MEDIA))


def _write_photo(folder: Path, i: int, shape: str, colour: str, rng: np.random.Generator) -> str:
    background = tuple(int(level) for level in rng.integers(190, 256, size=3))
    picture = Image.new("RGB", (_SIDE, _SIDE), background)
    centre, radius = rng.uniform(26, 38, size=2), rng.uniform(14, 24)
    x, y = float(centre[0]), float(centre[1])
    pen, fill = ImageDraw.Draw(picture), _COLOURS[colour]
    if shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    else:
        n_sides = 4 if shape == "square" else 3
        pen.regular_polygon((x, y, float(radius)), n_sides, rotation=int(rng.integers(360)), fill=fill)
    if rng.random() < 0.2:
        picture = picture.filter(ImageFilter.GaussianBlur(8))
    path = folder / f"photo-{i:04d}.{'png' if i % 2 == 0 else 'jpg'}"
    picture.save(path)
    return str(path)


def _title(shape: str, colour: str, rng: np.random.Generator) -> str:
    noun = shape if rng.random() < 2 / 3 else str(rng.choice(["shape", "thing", "piece"]))
    return f"{rng.choice(['A', 'One', 'Our'])!s} {colour} {noun}"


def _write_clip(folder: Path, i: int, shape: str, rng: np.random.Generator) -> str:
    time = np.arange(int(_RATE * _SECONDS)) / _RATE
    tone = 0.5 * np.sin(2 * np.pi * _TONES[shape] * rng.lognormal(sigma=0.1) * time)
    path = folder / f"clip-{i:04d}.wav"
    write_wav(path, tone + 0.05 * rng.standard_normal(time.shape), _RATE)
    return str(path)
