"""Pictures as networks take them, and what is done to them in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image, ImageEnhance

from ensemblefuse.backbones.image_network import Preparation
from ensemblefuse.cells.image import read_rgb
from ensemblefuse.networks._reader import CellReader

if TYPE_CHECKING:
    import torch

__all__ = ["PictureReader", "augmented"]

# Least share of the area that a crop keeps, and how far brightness, contrast and colour may change.
_STRENGTHS = {"light": (0.7, 0.1), "strong": (0.4, 0.4)}


def augmented(picture: Image.Image, rng: np.random.Generator, strength: str) -> Image.Image:
    """Return a picture cropped at random, mirrored in half of the cases, and with other colours.

    Parameters
    ----------
    picture : PIL.Image.Image
        RGB.
    rng : numpy.random.Generator
    strength : {"light", "strong"}
        The crop has at least 70 or 40 % of the area and sides whose ratio is 3/4 to 4/3 of the picture's. Brightness,
        contrast and colour change by up to 10 or 40 %.
    """
    least, jitter = _STRENGTHS[strength]
    area, ratio = rng.uniform(least, 1.0), np.exp(rng.uniform(-1, 1) * np.log(4 / 3))
    width, height = picture.size
    across = min(1.0, np.sqrt(area * ratio)) * width
    down = min(1.0, np.sqrt(area / ratio)) * height
    left, top = rng.uniform(0, width - across), rng.uniform(0, height - down)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR, box=(left, top, left + across, top + down))
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = change(picture).enhance(1 + jitter * rng.uniform(-1, 1))
    return picture


@dataclass(frozen=True)
class PictureReader(CellReader):
    """Reads pictures as `ImageEncoder` does.

    Attributes
    ----------
    preparation : Preparation or None
        That of the pretrained network. None scales the whole picture to a square, with levels from -1 to 1.
    size : int or None
        Side of the square. After a preparation, the picture is scaled to it; None leaves it as it is.
    augment : {"none", "light", "strong"} or callable
    """

    preparation: Preparation | None
    size: int | None
    augment: str | Callable[[Image.Image, np.random.Generator], Image.Image]

    strings_are_paths: ClassVar[bool] = True

    def words(self) -> dict[str, Any]:
        """See `CellReader.words`. The preparation is identified by the backbone."""
        return {"size": self.size}

    def load(self, cell: Any) -> Image.Image:
        """Read a picture; of a large JPEG, and of any large picture from scratch, as many pixels as are needed."""
        if self.preparation is not None:
            return read_rgb(cell, short_side=self.preparation.short_side)
        assert self.size is not None
        picture = read_rgb(cell, short_side=self.size)
        # All pictures of a fit are in memory at once. Twice the size is left for crops, as of a JPEG.
        factor = min(picture.size) // (2 * self.size)
        return picture.reduce(factor) if factor > 1 else picture

    def array(self, item: Image.Image, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return an array of shape (3, height, width), dtype float32."""
        if rng is not None and self.augment != "none":
            item = self.augment(item, rng) if callable(self.augment) else augmented(item, rng, self.augment)
        if self.preparation is None:
            assert self.size is not None
            square = item.resize((self.size, self.size), Image.Resampling.BICUBIC)
            return np.asarray(square, dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1
        pixels = self.preparation.transform(item)
        return _scaled(pixels, self.size).numpy()

    def join(self, arrays: Sequence[np.ndarray], *, after_prefix: bool) -> tuple[torch.Tensor, ...]:
        """Return a batch. Its memory has the channels last, which makes convolutions on a CPU twice as fast."""
        import torch

        (batch,) = super().join(arrays, after_prefix=after_prefix)
        return (batch.to(memory_format=torch.channels_last) if batch.ndim == 4 else batch,)


def _scaled(pixels: torch.Tensor, size: int | None) -> torch.Tensor:
    import torch

    if size is None or tuple(pixels.shape[1:]) == (size, size):
        return pixels
    return torch.nn.functional.interpolate(pixels[None], (size, size), mode="bilinear", antialias=True)[0]
