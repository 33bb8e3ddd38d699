"""Features of pictures without weights: colours, gradients, textures. Uses no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ensemblefuse._optional import import_optional

__all__ = ["IMAGE_FEATURES", "SIDE", "image_features"]

IMAGE_FEATURES = ("color", "hog", "lbp")
# Every picture is resized to a square of this side, so that all vectors have the same length.
SIDE = 128
_NEEDED_BY = "ImageEncoder"
_COLOUR_BINS = 4
_HOG = {"orientations": 9, "pixels_per_cell": (16, 16), "cells_per_block": (2, 2), "block_norm": "L2-Hys"}
_RINGS = ((8, 1), (16, 2), (24, 3))  # points, radius


def image_features(picture: Image.Image, name: str) -> np.ndarray:
    """Compute features of a picture that need no training.

    Parameters
    ----------
    picture : PIL.Image.Image
        Mode RGB. It is first resized to 128 x 128 pixels (bilinear with antialiasing), whatever its shape.
    name : {"color", "hog", "lbp"}
        - ``"color"``, 73 numbers: the share of pixels in each of 4 x 4 x 4 cells of the RGB cube [1]_, then mean,
          standard deviation and cube root of the third central moment of red, green and blue in [0, 1] [2]_.
        - ``"hog"``, 1764 numbers: histograms of oriented gradients of the grey picture [3]_: 9 orientations, cells of
          16 x 16 pixels, blocks of 2 x 2 cells, L2-Hys.
        - ``"lbp"``, 54 numbers: shares of the uniform, rotation-invariant local binary patterns of the grey picture
          [4]_ of 8 points at radius 1, 16 at 2, and 24 at 3.

    Returns
    -------
    ndarray of shape (n_dims,), dtype float32

    Raises
    ------
    ImportError
        If scikit-image is not installed (``"hog"``, ``"lbp"``).

    References
    ----------
    .. [1] M. J. Swain and D. H. Ballard. Color Indexing. International Journal of Computer Vision, 1991.
    .. [2] M. Stricker and M. Orengo. Similarity of Color Images. SPIE Storage and Retrieval, 1995.
    .. [3] N. Dalal and B. Triggs. Histograms of Oriented Gradients for Human Detection. CVPR 2005.
    .. [4] T. Ojala, M. Pietikäinen and T. Mäenpää. Multiresolution Gray-Scale and Rotation Invariant Texture
       Classification with Local Binary Patterns. IEEE PAMI, 2002.

    Examples
    --------
    >>> from PIL import Image
    >>> from ensemblefuse.encoders._image_features import image_features
    >>> red = image_features(Image.new("RGB", (30, 20), "red"), "color")
    >>> red.shape, float(red[:64].sum()), red[64:67].tolist()
    ((73,), 1.0, [1.0, 0.0, 0.0])
    """
    square = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    values = _colours(square) if name == "color" else _of_grey(np.asarray(square.convert("L")), name)
    return np.asarray(values, dtype=np.float32)


def _colours(square: Image.Image) -> np.ndarray:
    pixels = np.asarray(square).reshape(-1, 3)
    red, green, blue = (pixels.astype(np.intp) * _COLOUR_BINS // 256).T
    cells = (red * _COLOUR_BINS + green) * _COLOUR_BINS + blue
    histogram = np.bincount(cells, minlength=_COLOUR_BINS**3) / len(pixels)
    levels = pixels / 255
    mean = levels.mean(axis=0)
    # A power is slow, and a channel has 256 levels: it is taken once for each.
    cubes = ((np.arange(256) / 255)[:, None] - mean) ** 3
    third = np.take_along_axis(cubes, pixels, axis=0).mean(axis=0)
    return np.concatenate([histogram, mean, levels.std(axis=0), np.cbrt(third)])


def _of_grey(grey: np.ndarray, name: str) -> np.ndarray:
    feature: Any = import_optional(
        "skimage.feature", package="scikit-image", extra="classical", needed_by=f"{_NEEDED_BY}(features={name!r})"
    )
    if name == "hog":
        return feature.hog(grey, **_HOG)
    shares = []
    for points, radius in _RINGS:
        patterns = feature.local_binary_pattern(grey, points, radius, method="uniform").astype(np.intp)
        shares.append(np.bincount(patterns.ravel(), minlength=points + 2) / patterns.size)
    return np.concatenate(shares)
