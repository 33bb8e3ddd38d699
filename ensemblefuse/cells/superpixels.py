"""Conversion of a picture to a graph of superpixels. Uses no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ensemblefuse._optional import import_optional
from ensemblefuse.cells.graph import Graph

__all__ = ["superpixel_graph"]

# The long side of larger pictures is first reduced to this number of pixels.
_SIDE = 256
_COMPACTNESS = 10.0


def superpixel_graph(picture: Image.Image, n_superpixels: int, *, needed_by: str) -> Graph:
    """Return a graph with regions of similar colour as nodes, and edges between regions that touch.

    Parameters
    ----------
    picture : PIL.Image.Image
        Mode RGB.
    n_superpixels : int
        Approximate number of regions; SLIC may make fewer or more.
    needed_by : str
        The class that the user called, for the message.

    Returns
    -------
    Graph
        Nine features per node: mean of red, green and blue, then their standard deviations, in [0, 1]; the height and
        width of its centre, from 0 (top, left) to 1; its share of the picture. Edges in both directions.

    Raises
    ------
    ImportError
        If scikit-image is not installed.

    References
    ----------
    R. Achanta et al. SLIC Superpixels Compared to State-of-the-Art Superpixel Methods. IEEE PAMI, 2012.
    """
    segmentation: Any = import_optional(
        "skimage.segmentation", package="scikit-image", extra="graph", needed_by=needed_by
    )
    longest = max(picture.size)
    if longest > _SIDE:
        size = [max(1, round(side * _SIDE / longest)) for side in picture.size]
        picture = picture.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    colours = np.asarray(picture) / 255
    found = segmentation.slic(colours, n_segments=n_superpixels, compactness=_COMPACTNESS, start_label=0)
    names, labels = np.unique(found, return_inverse=True)
    labels = labels.reshape(found.shape)
    return Graph(len(names), _touching(labels), _node_features(colours, labels))


def _node_features(colours: np.ndarray, labels: np.ndarray) -> np.ndarray:
    height, width = labels.shape
    flat = labels.ravel()
    n_pixels = np.bincount(flat)
    y, x = np.mgrid[:height, :width]
    places = [(y.ravel() + 0.5) / height, (x.ravel() + 0.5) / width]

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(flat, weights=values) / n_pixels

    levels = list(colours.reshape(-1, 3).T)
    means = [mean(level) for level in levels]
    deviations = [np.sqrt(mean((level - m[flat]) ** 2)) for level, m in zip(levels, means, strict=True)]
    return np.stack([*means, *deviations, *map(mean, places), n_pixels / flat.size], axis=1)


def _touching(labels: np.ndarray) -> np.ndarray:
    """Return the edges between regions with adjacent pixels, in both directions."""
    beside = np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()])
    below = np.stack([labels[:-1].ravel(), labels[1:].ravel()])
    pairs = np.concatenate([beside, below], axis=1)
    pairs = pairs[:, pairs[0] != pairs[1]]
    return np.unique(np.concatenate([pairs, pairs[::-1]], axis=1), axis=1).astype(np.int64)
