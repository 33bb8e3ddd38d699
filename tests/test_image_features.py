"""Classical features of pictures: what they measure, that they need neither weights nor torch."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from ensemblefuse import ImageEncoder
from ensemblefuse.encoders._image_features import image_features

LENGTHS = {"color": 73, "hog": 1764, "lbp": 54}


def solid(colour, size=(40, 30)):
    return Image.new("RGB", size, colour)


def stripes(vertical):
    ramp = np.tile((np.arange(128) // 8 % 2 * 255).astype(np.uint8), (128, 1))
    return Image.fromarray(ramp if vertical else ramp.T).convert("RGB")


@pytest.mark.parametrize("name", LENGTHS)
def test_lengths_are_as_documented_for_pictures_of_any_shape(name):
    if name != "color":
        pytest.importorskip("skimage", reason="scikit-image is an extra")
    cells = [np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8) for i, shape in enumerate(
        [(5, 700, 3), (128, 128, 3), (1, 1, 3), (300, 200)]
    )]  # fmt: skip
    vectors = ImageEncoder(features=name).fit_transform({"photo": cells})
    assert vectors.shape == (4, LENGTHS[name]) and vectors.dtype == np.float32
    assert np.isfinite(vectors).all()


def test_colours_are_shares_and_moments():
    vector = image_features(solid((255, 0, 0)), "color")
    assert vector[3 * 16] == 1 and vector[:64].sum() == 1  # red 192 to 255, green and blue 0 to 63
    assert_allclose(vector[64:], [1, 0, 0, 0, 0, 0, 0, 0, 0])
    half = Image.new("RGB", (128, 128), "black")
    half.paste((0, 0, 255), (0, 0, 128, 32))  # blue in a quarter: mean 1/4, variance 3/16, third moment 3/32
    vector = image_features(half, "color")
    assert (vector[0], vector[3]) == (0.75, 0.25)
    assert_allclose(vector[[66, 69, 72]], [1 / 4, np.sqrt(3 / 16), np.cbrt(3 / 32)], rtol=1e-6)


def test_gradients_tell_directions():
    pytest.importorskip("skimage", reason="scikit-image is an extra")
    across, down = (image_features(stripes(vertical), "hog").reshape(-1, 9).sum(axis=0) for vertical in (True, False))
    assert across.argmax() != down.argmax()
    assert_allclose(image_features(solid("white"), "hog"), 0)


def test_textures_tell_grain_whatever_the_light_and_the_rotation():
    pytest.importorskip("skimage", reason="scikit-image is an extra")
    grain = np.random.default_rng(0).integers(0, 100, (128, 128), dtype=np.uint8)
    rough, darker, turned = (
        image_features(Image.fromarray(values).convert("RGB"), "lbp") for values in (grain + 100, grain, grain.T)
    )
    assert_allclose(rough, darker, atol=0.01)
    assert_allclose(rough, turned, atol=0.01)
    assert np.abs(rough - image_features(stripes(True), "lbp")).max() > 0.2
    assert_allclose([rough[:10].sum(), rough[10:28].sum(), rough[28:].sum()], 1, rtol=1e-5)


@pytest.mark.slow
def test_features_need_no_torch_and_no_weights():
    code = (
        "import sys, numpy as np; from ensemblefuse import ImageEncoder, set_config; set_config(cache=None)\n"
        "cells = {'photo': [np.zeros((8, 8, 3), dtype=np.uint8)]}\n"
        "ImageEncoder('no such network', weights=None, features='color').fit_transform(cells)\n"
        "print([name for name in ('torch', 'torchvision', 'timm', 'transformers', 'skimage') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_recipe_holds_the_features_and_nothing_of_a_network():
    recipe = ImageEncoder(features="color").recipe()
    assert recipe == ImageEncoder("resnet50", weights="x.pth", output="cls", device="warp", features="color").recipe()
    assert set(recipe["params"]) == {"features", "pool", "background", "frame", "max_pixels"}
    assert recipe != ImageEncoder(features="hog").recipe()


def test_unknown_features_are_named():
    with pytest.raises(
        ValueError, match=r"features must be None or one of \['color', 'hog', 'lbp'\]; got 'hogs'\. Did"
    ):
        ImageEncoder(features="hogs").fit({"photo": [np.zeros((8, 8, 3), dtype=np.uint8)]})


def test_a_missing_scikit_image_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(ImportError, match=r"features='lbp'\) needs scikit-image.*ensemblefuse\[classical\]"):
        ImageEncoder(features="lbp").fit({"photo": [np.zeros((8, 8, 3), dtype=np.uint8)]})
