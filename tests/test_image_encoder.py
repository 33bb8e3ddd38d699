"""ImageEncoder: reading any kind of picture, finding weights by name, and the network without its head."""

import io
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
from conftest import every_pair
from numpy.testing import assert_allclose
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_sample_images

from ensemblefuse import EncodingError, MissingModalityWarning, config_context, get_cache
from ensemblefuse.backbones import image_torchvision as _backbones
from ensemblefuse.backbones.weights import packaged_path
from ensemblefuse.cells.image import read_rgb
from ensemblefuse.encoders._image import ImageEncoder, list_backbones

WHITE = (255, 255, 255)


@pytest.fixture(autouse=True)
def own_cache(tmp_path):
    with config_context(cache=tmp_path / "cache", progress=False):
        yield


@pytest.fixture(autouse=True)
def own_hub(tmp_path, monkeypatch):
    """Torch hub's folder, empty; no test may touch the network."""
    import torch

    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))

    def offline(*args, **kwargs):
        raise URLError("no network in tests")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height=60, width=90):
    """A picture that survives JPEG: red grows to the right, green downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 128)], axis=2).astype(np.uint8)


def file_bytes(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def random_network(name, seed=0):
    """A torchvision network with random weights whose signal neither dies out nor explodes on its way."""
    import torch
    import torchvision

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        network = torchvision.models.get_model(name, weights=None)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0  # the running moments are those of this one batch
        network.train()(torch.randn(4, 3, 96, 96))
    return network.eval()


@pytest.fixture
def resnet18_file(tmp_path):
    import torch

    path = tmp_path / "resnet18-random.pth"
    torch.save(random_network("resnet18").state_dict(), path)
    return path


# ---------------------------------------------------------------------- reading a cell


def test_a_path_bytes_a_pil_image_and_an_array_are_one_picture(tmp_path):
    pixels = noise(20, 30, 3)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    for cell in (str(path), path, content, bytearray(content), memoryview(content), Image.open(path), pixels):
        assert_allclose(np.asarray(read_rgb(cell)), pixels)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_a_grey_array_becomes_three_equal_channels(shape):
    pixels = noise(*shape)
    assert_allclose(np.asarray(read_rgb(pixels)), np.repeat(pixels.reshape(5, 7, 1), 3, axis=2))


def test_floats_and_16_bits_are_scaled_to_8_bits():
    pixels = noise(5, 7, 3)
    for cell in (pixels / 255.0, (pixels / 255).astype(np.float32), pixels.astype(np.uint16) * 257):
        assert_allclose(np.asarray(read_rgb(cell)), pixels)
    assert_allclose(np.asarray(read_rgb((pixels.astype(np.uint16) * 257).astype(">u2"))), pixels)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5, dtype=np.uint8), r"must have shape .* got \(5,\)"),
        (np.zeros((3, 8, 8), dtype=np.uint8), "move the channels to the last axis"),
        (np.zeros((8, 8, 2), dtype=np.uint8), r"got \(8, 8, 2\)"),
        (np.zeros((0, 8, 3), dtype=np.uint8), r"got \(0, 8, 3\)"),
        (np.zeros((8, 8, 3), dtype=np.int64), "got int64"),
        (np.zeros((8, 8, 3), dtype=bool), "got bool"),
        (np.full((8, 8, 3), 255.0), r"must lie in \[0, 1\]; got 255"),
        (np.full((8, 8, 3), -0.1), r"must lie in \[0, 1\]; got -0.1"),
        (np.full((8, 8, 3), np.nan), "got nan"),
    ],
)
def test_an_array_of_another_shape_dtype_or_range_is_an_error(array, message):
    with pytest.raises(ValueError, match=message):
        read_rgb(array)


def test_transparent_parts_are_laid_on_white():
    red = Image.new("RGBA", (4, 4), (255, 0, 0, 255))
    red.putpixel((0, 0), (255, 0, 0, 0))
    red.putpixel((1, 0), (0, 0, 0, 128))
    seen = read_rgb(file_bytes(red, "PNG"))
    assert seen.mode == "RGB"
    assert seen.getpixel((0, 0)) == WHITE
    assert_allclose(seen.getpixel((1, 0)), (127, 127, 127), atol=1)
    assert seen.getpixel((3, 3)) == (255, 0, 0)
    assert_allclose(np.asarray(read_rgb(np.asarray(red))), np.asarray(seen))


def test_a_palette_with_transparency_is_laid_on_white():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 0)
    for options in ({"transparency": 0}, {"transparency": b"\x00\xff"}):
        seen = read_rgb(file_bytes(image, "PNG", **options))
        assert (seen.getpixel((0, 0)), seen.getpixel((1, 1))) == (WHITE, (40, 50, 60))
    assert read_rgb(file_bytes(image, "PNG")).getpixel((0, 0)) == (10, 20, 30)


def test_grey_with_alpha_and_one_bit_pictures_are_read():
    grey = Image.new("LA", (4, 4), (100, 255))
    grey.putpixel((0, 0), (100, 0))
    seen = read_rgb(file_bytes(grey, "PNG"))
    assert (seen.getpixel((0, 0)), seen.getpixel((1, 1))) == (WHITE, (100, 100, 100))
    assert read_rgb(file_bytes(Image.new("1", (4, 4), 1), "PNG")).getpixel((0, 0)) == WHITE


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_16_bit_file_is_scaled_and_not_cut_off(kind):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    content = file_bytes(Image.fromarray(ramp), kind)
    assert Image.open(io.BytesIO(content)).mode.startswith("I")
    seen = np.asarray(read_rgb(content))[:, :, 0]
    assert_allclose(seen, np.rint(ramp / 257.0), atol=1)
    assert len(np.unique(seen)) > 250
    assert_allclose(np.asarray(read_rgb(Image.fromarray(ramp.astype(np.int32)))), np.asarray(read_rgb(content)))


def test_integers_beyond_16_bits_are_an_error():
    with pytest.raises(ValueError, match="from 0 to 65535; got 0 to 70000"):
        read_rgb(Image.fromarray(np.array([[0, 70_000]], dtype=np.int32)))


def test_a_16_bit_png_with_a_transparent_value_is_laid_on_white():
    image = Image.fromarray(np.array([[1000, 30_000]], dtype=np.uint16))
    seen = read_rgb(file_bytes(image, "PNG", transparency=1000))
    assert (seen.getpixel((0, 0)), seen.getpixel((1, 0))) == (WHITE, (117, 117, 117))


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation_turns_the_picture_upright(orientation, quarter_turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(smooth())
    content = file_bytes(stored, "JPEG", exif=exif, quality=95)
    plain = np.asarray(read_rgb(file_bytes(stored, "JPEG", quality=95)))
    assert_allclose(np.asarray(read_rgb(content)), np.rot90(plain, quarter_turns))
    opened = Image.open(io.BytesIO(content))
    assert_allclose(np.asarray(read_rgb(opened)), np.rot90(plain, quarter_turns))
    assert opened.size == (90, 60), "the user's own picture is left as it is"


def test_a_cmyk_jpeg_has_its_colours():
    content = file_bytes(Image.fromarray(smooth()).convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(content)).mode == "CMYK"
    assert_allclose(np.asarray(read_rgb(content)), smooth(), atol=12)


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    content = file_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    assert Image.open(io.BytesIO(content)).n_frames == 2
    assert read_rgb(content).getpixel((4, 4)) == (255, 0, 0)


def test_a_big_honest_picture_warns_nobody_and_max_pixels_is_the_bound(monkeypatch):
    content = file_bytes(Image.new("RGB", (40, 40)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # the user's setting is no parameter, and changes nothing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_rgb(content, max_pixels=1600).size == (40, 40)
    with pytest.raises(ValueError, match="40 x 40 pixels: more than max_pixels=1599"):
        read_rgb(content, max_pixels=1599)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_no_file_stays_open(tmp_path):
    good, bad = tmp_path / "good.gif", tmp_path / "bad.jpg"
    good.write_bytes(file_bytes(Image.new("RGB", (8, 8)), "GIF", save_all=True, append_images=[Image.new("L", (8, 8))]))
    bad.write_bytes(file_bytes(Image.fromarray(noise(64, 64, 3)), "JPEG")[:1500])
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        read_rgb(good)
        with pytest.raises(OSError, match="truncated"):
            read_rgb(bad)
    assert len(list(Path("/proc/self/fd").iterdir())) == n_open


def test_a_cell_of_another_type_is_named():
    with pytest.raises(TypeError, match=r"a path, bytes, a PIL image or an array; got builtins\.int"):
        read_rgb(7)


# ---------------------------------------------------------------------- the default model


def test_the_packaged_network_knows_a_palace_and_a_flower():
    import torch
    from torchvision.models import ResNet18_Weights

    pictures = load_sample_images().images
    embeddings = ImageEncoder().fit_transform({"photo": pictures})
    assert embeddings.shape == (2, 1280) and embeddings.dtype == np.float32
    tensors = torch.load(packaged_path("efficientnet_lite0", needed_by="test"), weights_only=True)
    weight, bias = list(tensors.values())[-2:]
    assert weight.shape == (1000, 1280)
    logits = embeddings @ weight.numpy().T + bias.numpy()
    categories = np.array(ResNet18_Weights.DEFAULT.meta["categories"])
    assert categories[logits.argmax(axis=1)].tolist() == ["palace", "daisy"]


def test_the_default_preprocessing_is_that_of_its_record():
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    tensor = ImageEncoder().load(ramp)
    assert tensor.shape == (3, 224, 224) and str(tensor.dtype) == "torch.float32" and tensor.device.type == "cpu"
    assert_allclose(tensor[0, 0], (np.arange(16, 240) - 127) / 128, atol=1e-6)  # the central 224 of 256, unscaled


def test_the_default_agrees_with_resize_then_crop():
    import torch

    picture = Image.fromarray(load_sample_images().images[0])
    width, height = round(256 * picture.width / picture.height), 256
    left, top = (width - 224) // 2, 16
    resized = picture.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    by_hand = torch.from_numpy((np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) - 127) / 128)
    encoder = ImageEncoder()
    ours, theirs = encoder.encode_batch([encoder.load(picture), by_hand])
    assert np.corrcoef(ours, theirs)[0, 1] > 0.98


def test_a_ribbon_of_a_picture_costs_no_memory():
    assert ImageEncoder().load(noise(1, 30_000, 3)).shape == (3, 224, 224)
    assert ImageEncoder("resnet18").load(noise(30_000, 1, 3)).shape == (3, 224, 224)


def test_what_is_cut_off_a_ribbon_does_not_change_its_tensor():
    ribbon = np.repeat(np.repeat(noise(8, 110, 3), 10, axis=0), 10, axis=1)
    tensor = ImageEncoder("resnet18").load(ribbon)
    transform = _backbones._torchvision_models().get_model_weights("resnet18")["DEFAULT"].transforms()
    assert float((tensor - transform(Image.fromarray(ribbon))).abs().mean()) < 0.02


def test_embeddings_are_equal_for_all_batch_sizes():
    pictures = [noise(32, 32, 3, seed=i) for i in range(10)]
    with config_context(cache=None):
        one, seven, many = (ImageEncoder(batch_size=size).fit_transform({"photo": pictures}) for size in (1, 7, 64))
    assert_allclose(one, seven, rtol=1e-4, atol=1e-4)
    assert_allclose(one, many, rtol=1e-4, atol=1e-4)
    assert np.abs(one[0] - one[1]).max() > 0.1


def test_embeddings_come_from_the_cache_the_second_time(monkeypatch):
    cells = {"photo": [noise(16, 16, 3, seed=i) for i in range(3)]}
    first = ImageEncoder().fit_transform(cells)
    monkeypatch.setattr(ImageEncoder, "encode_batch", lambda self, items: pytest.fail("encoded again"))
    assert_allclose(ImageEncoder(batch_size=2, device="cpu").fit(cells).transform(cells), first)
    assert get_cache().info()[0]["n_rows"] == 3


def test_a_pickle_is_small_and_a_clone_keeps_the_parameters(resnet18_file):
    encoder = ImageEncoder("resnet18", weights=resnet18_file).fit({"photo": [noise(8, 8, 3)]})
    assert len(pickle.dumps(encoder)) < 1000
    assert pickle.loads(pickle.dumps(encoder)).n_dims_ == 512
    assert clone(encoder).get_params() == encoder.get_params()
    assert set(vars(encoder)) - set(encoder.get_params()) == {"n_dims_", "n_features_in_", "feature_names_in_"}


@pytest.mark.slow
def test_importing_and_making_an_encoder_loads_no_network_library():
    code = (
        "import sys; from ensemblefuse.encoders._image import ImageEncoder; ImageEncoder('resnet50').get_params(); "
        "ImageEncoder().recipe(); "
        "print([name for name in ('torch', 'torchvision', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------------- bad rows


@pytest.fixture
def bad_frame(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good, cut, text = tmp_path / "good.png", tmp_path / "cut.jpg", tmp_path / "text.png"
    Image.fromarray(noise(16, 16, 3)).save(good)
    cut.write_bytes(file_bytes(Image.fromarray(noise(64, 64, 3)), "JPEG")[:1500])
    text.write_text("no picture")
    cells = [good, None, cut, "gone.png", b"", text, np.zeros((3, 8, 8), dtype=np.uint8)]
    return pd.DataFrame({"photo": pd.Series(cells, dtype=object)}).set_index(pd.Index([f"sku{i}" for i in range(7)]))


def test_bad_pictures_are_reported_by_row_column_and_value(bad_frame):
    encoder = ImageEncoder().fit(bad_frame.iloc[:2])
    with pytest.raises(EncodingError, match="could not encode 5 of 7 cells") as caught:
        encoder.transform(bad_frame)
    reasons = {row.label: row.reason for row in caught.value.rows}
    assert list(reasons) == ["sku2", "sku3", "sku4", "sku5", "sku6"]
    assert "truncated" in reasons["sku2"]
    assert reasons["sku3"] == "no such file"
    assert "cannot identify" in reasons["sku4"] and "cannot identify" in reasons["sku5"]
    assert "channels to the last axis" in reasons["sku6"]
    assert "row 'sku4', column 'photo', value 0 bytes" in str(caught.value)
    assert "row 'sku3', column 'photo', value 'gone.png': no such file" in str(caught.value)


def test_bad_pictures_may_be_missing_with_one_warning(bad_frame):
    encoder = ImageEncoder(on_error="missing")
    with pytest.warns(MissingModalityWarning, match="5 of 7 cells as missing") as caught:
        embeddings = encoder.fit_transform(bad_frame)
    assert len([w for w in caught if issubclass(w.category, MissingModalityWarning)]) == 1
    assert np.isfinite(embeddings[0]).all()
    assert np.isnan(embeddings[1:]).all()


# ---------------------------------------------------------------------- names and weights


def test_backbones_are_listed_with_the_packaged_one_first():
    names = list_backbones()
    assert names[0] == "efficientnet_lite0"
    assert len(names) == len(set(names)) > 70
    assert {"resnet50", "vit_b_16", "swin_t"} < set(names)
    assert not {"fcn_resnet50", "r3d_18", "fasterrcnn_resnet50_fpn"} & set(names)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"model": "resnet5O"}, ValueError, r"Unknown backbone 'resnet5O'\. Did you mean 'resnet5\d'\? See list_backb"),
        ({"model": "%%"}, ValueError, r"Unknown backbone '%%'\. See list_backbones\(\)"),
        ({"model": 50}, TypeError, "model must be a name .* got int"),
        (
            {"model": "resnet50", "weights": "imagenet1k_v1"},
            ValueError,
            r"Unknown weights 'imagenet1k_v1' for backbone 'resnet50'\. Did you mean 'IMAGENET1K_V1'\?",
        ),
        ({"weights": "IMAGENET1K_V1"}, ValueError, r"Unknown weights .*It has \['DEFAULT'\]"),
        ({"weights": None}, TypeError, "weights must be a name .* got None"),
        ({"weights": "gone/away.pth"}, FileNotFoundError, "'gone/away.pth', which does not exist"),
        ({"weights": Path("away.bin")}, ValueError, "must end in .pth, .pt, .safetensors; got 'away.bin'"),
        ({"device": "warp"}, ValueError, "device 'warp' cannot be used here"),
        ({"batch_size": 0}, ValueError, "batch_size must be a whole number of at least 1; got 0"),
        ({"on_error": "drop"}, ValueError, 'on_error must be "raise" or "missing"'),
    ],
)
def test_a_wrong_parameter_is_an_error_of_fit(parameters, error, message):
    ImageEncoder().fit({"photo": [noise(8, 8, 3)]})
    with pytest.raises(error, match=message):
        ImageEncoder(**parameters).fit({"photo": [noise(8, 8, 3)]})  # though the cell itself is in the cache


def test_the_recipe_holds_the_content_of_the_weights_and_no_path(resnet18_file, tmp_path):
    elsewhere = tmp_path / "other" / "weights.pt"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(resnet18_file.read_bytes())
    recipe = ImageEncoder("resnet18", weights=resnet18_file).recipe()
    assert recipe == ImageEncoder("resnet18", weights=str(elsewhere), batch_size=3, device="cpu").recipe()
    assert str(tmp_path) not in str(recipe) and "resnet18-random" not in str(recipe)
    assert recipe["params"]["model"] == "resnet18" and len(recipe["params"]["weights"]) == 64
    assert ImageEncoder().recipe() != recipe


def test_one_file_under_two_preprocessings_has_two_recipes(own_hub):
    import torch
    import torchvision

    own_hub.mkdir(parents=True)
    content = io.BytesIO()
    torch.save({"a": torch.zeros(1)}, content)
    for entry in torchvision.models.ResNet50_Weights:
        (own_hub / entry.url.rsplit("/", 1)[1]).write_bytes(content.getvalue())
    first, second = (ImageEncoder("resnet50", weights=f"IMAGENET1K_V{i}").recipe() for i in (1, 2))
    assert first["params"]["weights"] == second["params"]["weights"]
    assert first != second


def test_torchvision_weights_are_found_in_torch_hubs_folder(own_hub, resnet18_file):
    from torchvision.models import ResNet18_Weights

    own_hub.mkdir(parents=True)
    (own_hub / ResNet18_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]).write_bytes(resnet18_file.read_bytes())
    cells = {"photo": [noise(32, 32, 3)]}
    with config_context(cache=None):
        named = ImageEncoder("resnet18").fit_transform(cells)
        assert_allclose(named, ImageEncoder("resnet18", weights=resnet18_file).fit_transform(cells))
        assert_allclose(named, ImageEncoder("resnet18", weights="IMAGENET1K_V1").fit_transform(cells))


def test_weights_that_cannot_be_downloaded_are_named_with_their_place(own_hub):
    with pytest.raises(FileNotFoundError, match="no network in tests") as caught:
        ImageEncoder("resnet18").fit({"photo": [noise(8, 8, 3)]})
    message = str(caught.value)
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in message
    assert str(own_hub / "resnet18-f37072fd.pth") in message
    assert isinstance(caught.value.__cause__, URLError)


def test_torchvision_downloads_what_is_not_there(own_hub, resnet18_file, monkeypatch):
    asked = []

    def download(url, target, hash_prefix=None, progress=True):
        asked.append((url, hash_prefix, progress))
        Path(target).write_bytes(resnet18_file.read_bytes())

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    encoder = ImageEncoder("resnet18")
    assert encoder.fit_transform({"photo": [noise(8, 8, 3)]}).shape == (1, 512)
    assert asked == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd", False)]


@pytest.mark.parametrize("content", [b"", b"not a state dict", None])
def test_a_damaged_file_of_weights_ends_the_call_and_is_no_bad_row(content, resnet18_file):
    resnet18_file.write_bytes(resnet18_file.read_bytes()[:100_000] if content is None else content)
    with pytest.raises(ValueError, match=r"resnet18-random\.pth cannot be read") as caught:
        ImageEncoder("resnet18", weights=resnet18_file, on_error="missing").fit({"photo": [noise(8, 8, 3)]})
    assert not isinstance(caught.value, EncodingError)


def test_a_pickle_with_code_in_it_is_refused(tmp_path):
    import torch

    path = tmp_path / "network.pt"
    torch.save(random_network("squeezenet1_1"), path)
    with pytest.raises(ValueError, match=r"network\.pt cannot be read"):
        ImageEncoder("squeezenet1_1", weights=path).prepare()


def test_a_file_of_something_else_says_what_it_holds(tmp_path):
    import torch

    path = tmp_path / "checkpoint.pt"
    torch.save({"epoch": 3, "optimizer": {}}, path)
    with pytest.raises(ValueError, match=r"must hold a state dict.*it holds the keys \['epoch', 'optimizer'\]"):
        ImageEncoder("resnet18", weights=path).prepare()


def test_weights_of_another_network_do_not_fit(resnet18_file):
    with pytest.raises(ValueError, match=r"resnet18-random\.pth does not fit 'resnet50'"):
        ImageEncoder("resnet50", weights=resnet18_file).prepare()
    with pytest.raises(ValueError, match="are not those of 'efficientnet_lite0'"):
        ImageEncoder(weights=resnet18_file).prepare()


def test_a_packaged_file_given_by_path_makes_the_same_embeddings(tmp_path):
    path = packaged_path("efficientnet_lite0", needed_by="test")
    encoder = ImageEncoder(weights=path)
    assert encoder.recipe() == ImageEncoder().recipe()
    cells = {"photo": [noise(16, 16, 3)]}
    with config_context(cache=None):
        assert_allclose(encoder.fit_transform(cells), ImageEncoder().fit_transform(cells))


# ---------------------------------------------------------------------- torchvision's networks


@pytest.mark.by_turns
@pytest.mark.parametrize(
    ("network", "suffix"),
    every_pair(
        [
            ("squeezenet1_1", None, 512),
            ("shufflenet_v2_x0_5", "fc", 1024),
            ("mnasnet0_5", "classifier.1", 1280),
            ("mobilenet_v3_small", "classifier.3", 1024),
            ("resnet18", "fc", 512),
        ],
        [".pth", ".safetensors"],
    ),
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)),
)
def test_embeddings_are_what_the_classifier_sees(network, suffix, tmp_path):
    import torch
    from safetensors.torch import save_file

    name, head, n_dims = network
    network = random_network(name)
    path = tmp_path / f"{name}{suffix}"
    torch.save(network.state_dict(), path) if suffix == ".pth" else save_file(network.state_dict(), path)
    encoder = ImageEncoder(name, weights=path)
    pictures = [noise(48, 64, 3, seed=i) for i in range(3)]
    embeddings = encoder.fit_transform({"photo": pictures})
    assert embeddings.shape == (3, n_dims) and embeddings.dtype == np.float32

    seen = []
    if head is None:  # squeezenet's classifier is a convolution, and the pool comes after it
        network.features.register_forward_hook(lambda module, args, out: seen.append(out.mean(dim=(2, 3))))
    else:
        network.get_submodule(head).register_forward_hook(lambda module, args, out: seen.append(args[0]))
    transform = _backbones._torchvision_models().get_model_weights(name)["DEFAULT"].transforms()
    with torch.inference_mode():
        network(torch.stack([transform(Image.fromarray(picture)) for picture in pictures]))
    assert_allclose(embeddings, seen[0].numpy(), rtol=1e-4, atol=1e-4)
    assert embeddings.std(axis=0).max() > 1e-3, "the pictures differ, and so must their embeddings"

    shared = encoder._network().module
    assert not any(module.training for module in shared.modules())
    assert not any(parameter.requires_grad for parameter in shared.parameters())
    assert shared is clone(encoder)._network().module


def test_the_number_of_classes_of_a_fine_tuned_network_does_not_matter(resnet18_file, tmp_path):
    import torch

    state = torch.load(resnet18_file, weights_only=True)
    state["fc.weight"], state["fc.bias"] = torch.zeros(7, 512), torch.zeros(7)
    torch.save(state, tmp_path / "seven.pth")
    cells = {"photo": [noise(32, 32, 3)]}
    seven = ImageEncoder("resnet18", weights=tmp_path / "seven.pth").fit_transform(cells)
    assert_allclose(seven, ImageEncoder("resnet18", weights=resnet18_file).fit_transform(cells))


def test_the_old_names_in_densenet_files_are_understood(tmp_path):
    import torch

    state = random_network("densenet121").state_dict()
    new = "features.denseblock1.denselayer1.norm1.weight"
    old = {name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for name, value in state.items()}
    assert new in state and new not in old
    torch.save(old, tmp_path / "old.pth")
    torch.save(state, tmp_path / "new.pth")
    item = ImageEncoder("densenet121").load(noise(32, 32, 3))
    by_old, by_new = (
        ImageEncoder("densenet121", weights=tmp_path / file).encode_batch([item]) for file in ("old.pth", "new.pth")
    )
    assert_allclose(by_old, by_new)


def test_the_side_heads_of_googlenet_are_left_out_and_its_input_is_transformed(tmp_path):
    import torch
    import torchvision

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        network = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False)
    torch.save(network.state_dict(), tmp_path / "googlenet.pth")
    shared = ImageEncoder("googlenet", weights=tmp_path / "googlenet.pth")._network()
    assert shared.n_dims == 1024 and shared.module.transform_input and shared.module.aux1 is None


def test_building_a_network_leaves_the_users_seed_alone(resnet18_file):
    import torch

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    _backbones.build_network(_backbones.find_backbone("resnet18", resnet18_file), "cpu")
    assert_allclose(torch.rand(2), expected)


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_the_classifier_of_every_backbone_is_found(step, monkeypatch):
    import torch
    from torchvision.models.regnet import BlockParams

    on_meta = BlockParams.from_init_params

    def on_cpu(*args, **kwargs):  # RegNet computes its widths with tensors, which must hold values
        with torch.device("cpu"):
            return on_meta(*args, **kwargs)

    monkeypatch.setattr(BlockParams, "from_init_params", on_cpu)
    wrong = {}
    for name in list_backbones()[::step]:
        with torch.device("meta"):
            network = _backbones._empty_network(name)
        modules = dict(network.named_modules())
        head, n_dims = _backbones.replace_head(network)
        n_classes = getattr(modules[head], "out_features", None) or modules[head].out_channels
        after = [key for key in list(modules)[list(modules).index(head) + 1 :] if not head.startswith(f"{key}.")]
        weighty = [key for key in after if list(modules[key].parameters(recurse=False))]
        tensor = ImageEncoder(name).load(noise(40, 60, 3))
        if n_classes != 1000 or weighty or n_dims < 100 or tensor.ndim != 3:
            wrong[name] = (head, n_classes, weighty, n_dims, tuple(tensor.shape))
    assert not wrong
