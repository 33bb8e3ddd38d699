"""Corruptions of pictures: each function takes an RGB picture, a level and a generator, and returns an RGB picture."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter

__all__ = ["SIDE", "add_noise", "blur", "compress", "shift_value"]

# Levels hold for pictures of 224 pixels, as in ImageNet-C.
SIDE = 224


def blur(picture: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    """Apply a Gaussian blur; `sigma` is in pixels of the picture scaled to a short side of 224."""
    return picture.filter(ImageFilter.GaussianBlur(sigma * min(picture.size) / SIDE))


def add_noise(picture: Image.Image, sigma: float, rng: np.random.Generator) -> Image.Image:
    """Add Gaussian noise to each channel, clipped to the range; `sigma` is a share of the range from black to white.

    One grain of noise is one pixel of the picture scaled to a short side of 224. An encoder shrinks a large photo, and
    noise of single pixels would vanish.
    """
    width, height = picture.size
    grain = max(1, round(min(picture.size) / SIDE))
    grains = rng.standard_normal((-(-height // grain), -(-width // grain), 3), dtype=np.float32)
    noise = grains.repeat(grain, axis=0).repeat(grain, axis=1)[:height, :width]
    return _picture(np.asarray(picture) + np.float32(255 * sigma) * noise)


def compress(picture: Image.Image, quality: float, rng: np.random.Generator) -> Image.Image:
    """Write the picture as JPEG of this quality (Pillow's scale, 1 to 95) at its own size, and read it again."""
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=int(quality))
    with Image.open(file) as read:
        return read.convert("RGB")


def shift_value(picture: Image.Image, shift: float, rng: np.random.Generator) -> Image.Image:
    """Add `shift`, a share of the range, to each pixel's value in HSV; keep hue and saturation."""
    pixels = np.asarray(picture, dtype=np.float32)
    value = pixels.max(axis=2, keepdims=True)
    new = np.clip(value + np.float32(255 * shift), 0, 255)
    return _picture(np.where(value > 0, pixels * (new / np.maximum(value, 1)), new))  # black has no hue: it turns grey


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
