"""Pictures made worse. Each function takes an RGB picture, a level and a generator; gives an RGB picture."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

__all__ = ["SIDE", "add_noise", "blur", "compress", "shift_value"]

# Levels are those of pictures of 224 pixels, which ImageNet-C has.
SIDE = 224


def blur(picture: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    """Gaussian blur: `sigma` in pixels of the picture at a short side of 224, whatever its own size."""
    return picture.filter(ImageFilter.GaussianBlur(sigma * min(picture.size) / SIDE))


def add_noise(picture: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    """Gaussian noise of each channel, `sigma` as a share of the range from black to white, cut off at both.

    A grain covers as many pixels as one does of the picture at a short side of 224: noise of single pixels of a large
    photo would be gone as soon as an encoder shrinks it.
    """
    width, height = picture.size
    grain = max(1, round(min(picture.size) / SIDE))
    grains = rng.standard_normal((-(-height // grain), -(-width // grain), 3), dtype=np.float32)
    noise = grains.repeat(grain, axis=0).repeat(grain, axis=1)[:height, :width]
    return _picture(np.asarray(picture) + np.float32(255 * sigma) * noise)


def compress(picture: Image.Image, quality: float, rng: np.random.Generator) -> Image.Image:
    """Written as JPEG of this quality (1 to 95, as Pillow counts it) at its own size, and read again."""
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=int(quality))
    with Image.open(file) as read:
        return read.convert("RGB")


def shift_value(picture: Image.Image, shift: float, rng: np.random.Generator) -> Image.Image:
    """`shift`, a share of the range, is added to each pixel's value in HSV; hue and saturation stay."""
    pixels = np.asarray(picture, dtype=np.float32)
    value = pixels.max(axis=2, keepdims=True)
    new = np.clip(value + np.float32(255 * shift), 0, 255)
    return _picture(np.where(value > 0, pixels * (new / np.maximum(value, 1)), new))  # black has no hue: it turns grey


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
