"""Image cells: frames, backgrounds, bounds, large photos, depths and colour spaces, and several pictures in a cell."""

import io
import os
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from PIL import Image
from sklearn.datasets import load_sample_images

from ensemblefuse import EncodingError, ImageEncoder, MissingModalityWarning, get_cache
from ensemblefuse.cells.image import read_rgb

RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 128, 0)


def file_bytes(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animation(kind, **options):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    return file_bytes(frames[0], kind, save_all=True, append_images=frames[1:], **options)


def photo(width=1600, height=1200):
    """A photo-like picture in many pixels, as a JPEG file."""
    small = Image.fromarray(load_sample_images().images[0])
    return file_bytes(small.resize((width, height), Image.Resampling.BICUBIC), "JPEG", quality=90)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# ---------------------------------------------------------------------- frames


@pytest.mark.parametrize(
    ("kind", "options"), [("GIF", {}), ("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("MPO", {})]
)
def test_any_frame_can_be_read(kind, options):
    content = animation(kind, **options)
    for frame, colour in ((0, RED), (1, GREEN), (2, BLUE), (-1, BLUE), (-3, RED)):
        assert_allclose(read_rgb(content, frame=frame).getpixel((4, 4)), colour, atol=3)
    for frame in (3, -4):
        with pytest.raises(ValueError, match=f"frame={frame} does not exist: the file has 3 frames"):
            read_rgb(content, frame=frame)


def test_a_still_picture_has_one_frame():
    for kind in ("PNG", "JPEG", "BMP"):
        content = file_bytes(Image.new("RGB", (8, 8), RED), kind)
        assert_allclose(read_rgb(content, frame=-1).getpixel((4, 4)), RED, atol=3)
        with pytest.raises(ValueError, match=r"frame=1 does not exist: the file has 1 frame$"):
            read_rgb(content, frame=1)


def test_the_frame_is_part_of_the_recipe_and_a_lack_of_it_a_bad_row():
    still = file_bytes(Image.new("RGB", (8, 8), RED), "GIF")
    cells = {"photo": [animation("GIF"), still]}
    first, last = (ImageEncoder(features="color", frame=frame).fit_transform(cells) for frame in (0, -1))
    assert_allclose(first[:, 64:67], [[1, 0, 0], [1, 0, 0]])
    assert_allclose(last[:, 64:67], [[0, 0, 1], [1, 0, 0]])
    with pytest.raises(EncodingError, match=r"row 1.*frame=2 does not exist: the file has 1 frame"):
        ImageEncoder(features="color", frame=2).fit_transform(cells)


# ---------------------------------------------------------------------- backgrounds


def test_transparent_parts_show_the_background():
    clear = file_bytes(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG")
    assert read_rgb(clear, background=(1, 2, 3)).getpixel((0, 0)) == (1, 2, 3)
    white = ImageEncoder(features="color").fit_transform({"photo": [clear]})
    black = ImageEncoder(features="color", background="black").fit_transform({"photo": [clear]})
    assert_allclose(white[0, 64:67], 1)
    assert_allclose(black[0, 64:67], 0)


def test_one_background_has_one_recipe_however_it_is_written():
    names = ["white", "#fff", (255, 255, 255), [255, 255, 255], np.array([255, 255, 255]).tolist()]
    recipes = [ImageEncoder(features="color", background=name).recipe() for name in names]
    assert all(recipe == recipes[0] for recipe in recipes)
    assert ImageEncoder(features="color", background="black").recipe() != recipes[0]


# ---------------------------------------------------------------------- bounds


def test_a_file_of_too_many_pixels_is_a_bad_row_and_costs_the_others_nothing():
    cells = {"photo": [file_bytes(Image.new("RGB", size), "PNG") for size in ((10, 10), (11, 10))]}
    with pytest.warns(MissingModalityWarning, match="11 x 10 pixels: more than max_pixels=100"):
        out = ImageEncoder(features="color", max_pixels=100, on_error="missing").fit_transform(cells)
    assert np.isnan(out).all(axis=1).tolist() == [False, True]
    ImageEncoder(features="color").fit_transform(cells)  # now both are in the cache, under another recipe
    with pytest.raises(EncodingError, match="max_pixels=100"):
        ImageEncoder(features="color", max_pixels=100).fit_transform(cells)


def test_all_frames_that_must_be_decoded_count():
    content = animation("GIF")
    assert read_rgb(content, frame=1, max_pixels=128).getpixel((0, 0)) == GREEN
    with pytest.raises(ValueError, match="8 x 8 pixels, 3 frames to decode: more than max_pixels=128"):
        read_rgb(content, frame=2, max_pixels=128)
    assert read_rgb(animation("TIFF"), frame=2, max_pixels=64).getpixel((0, 0)) == BLUE  # pages stand alone


# ---------------------------------------------------------------------- large photos


def test_a_large_photo_is_decoded_at_a_fraction_and_its_embedding_hardly_differs():
    content = photo()
    assert [read_rgb(content, short_side=side).size for side in (None, 301, 300, 150, 75, 10)] == [
        (1600, 1200),
        (1600, 1200),
        (800, 600),
        (400, 300),
        (200, 150),
        (200, 150),
    ]
    encoder = ImageEncoder()
    prepare = encoder._model().preparation()
    assert prepare.short_side == 256
    in_full = prepare.transform(read_rgb(content))
    reduced = encoder.load(content)
    assert (in_full - reduced).abs().max() > 0, "the photo was not reduced, and nothing is tested"
    full, fast = encoder.encode_batch([in_full, reduced])
    assert cosine(full, fast) > 0.99


def test_what_is_decoded_depends_on_the_content_alone(tmp_path):
    content = photo(1040, 1030)
    path = tmp_path / "photo.png"  # a wrong name
    path.write_bytes(content)
    seen = [np.asarray(read_rgb(cell, short_side=128)) for cell in (content, path, str(path), bytearray(content))]
    assert seen[0].shape == (258, 260, 3)
    assert all((other == seen[0]).all() for other in seen[1:])
    still_open = Image.open(path)
    assert read_rgb(still_open, short_side=128).size == (1040, 1030), "a PIL image is taken as it stands"


@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_a_reduced_photo_is_turned_upright(kind):
    ramp = np.zeros((400, 800, 3), dtype=np.uint8)
    ramp[:, :, 0] = np.arange(800) * 255 // 800
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    options = {"save_all": True, "append_images": [Image.new("RGB", (8, 8))]} if kind == "MPO" else {}
    content = file_bytes(Image.fromarray(ramp), kind, exif=exif, quality=95, **options)
    seen = read_rgb(content, short_side=50)
    assert seen.size == (100, 200)
    levels = np.asarray(seen)[:, 50, 0].astype(int)
    assert levels[0] < 5 and levels[-1] > 250 and (np.diff(levels) >= 0).all()


def test_a_users_own_preparation_sees_the_whole_photo():
    sizes = []

    def crop(picture):
        import torch

        sizes.append(picture.size)
        return torch.zeros(3, 32, 32)

    ImageEncoder(preprocess=crop).load(photo())
    assert sizes == [(1600, 1200)]


# ---------------------------------------------------------------------- depths and colour spaces


def test_a_float_file_is_read_from_0_to_1_and_refused_beyond():
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    content = file_bytes(Image.fromarray(ramp), "TIFF")
    assert_allclose(np.asarray(read_rgb(content))[:, :, 0], np.rint(ramp * 255))
    for factor in (255.0, -1.0, np.nan):
        with pytest.raises(ValueError, match=r"floats must lie in \[0, 1\]; got .* Divide all of them by one number"):
            read_rgb(file_bytes(Image.fromarray(ramp * np.float32(factor)), "TIFF"))


@pytest.mark.parametrize("mode", ["RGBX", "YCbCr", "HSV", "La", "RGBa", "PA", "LAB"])
def test_a_pil_image_of_any_mode_is_read(mode):
    colour = Image.new("RGBA", (4, 4), (200, 40, 90, 255))
    image = {
        "La": lambda: colour.convert("LA").convert("La"),
        "RGBa": lambda: colour.convert("RGBa"),
        "PA": lambda: colour.convert("P").convert("PA"),
        "LAB": lambda: Image.new("LAB", (4, 4), (255, 128, 128)),
        "RGBX": lambda: Image.frombytes("RGBX", (4, 4), bytes((200, 40, 90, 255)) * 16),
    }.get(mode, lambda: colour.convert("RGB").convert(mode))()
    assert image.mode == mode
    expected = {"La": (94, 94, 94), "LAB": (255, 255, 255)}.get(mode, (200, 40, 90))
    assert_allclose(read_rgb(image).getpixel((2, 2)), expected, atol={"PA": 30, "LAB": 10}.get(mode, 3))


def test_cmyk_and_lab_files_have_their_colours():
    for mode, white in (("CMYK", (0, 0, 0, 0)), ("LAB", (255, 128, 128))):
        content = file_bytes(Image.new(mode, (4, 4), white), "TIFF")
        assert Image.open(io.BytesIO(content)).mode == mode
        assert_allclose(read_rgb(content).getpixel((1, 1)), (255, 255, 255), atol=10)


def test_the_orientation_of_a_tiff_is_applied_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.new("RGB", (4, 2), RED)
    picture.putpixel((0, 0), BLUE)
    seen = read_rgb(file_bytes(picture, "TIFF", exif=exif))
    assert seen.size == (2, 4) and seen.getpixel((1, 0)) == BLUE


def test_a_mirrored_picture_is_mirrored_back():
    picture = Image.new("RGB", (4, 2), RED)
    picture.putpixel((0, 0), BLUE)
    places = {2: (3, 0), 3: (3, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 3), 8: (0, 3)}
    for orientation, place in places.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        seen = read_rgb(file_bytes(picture, "PNG", exif=exif))
        assert seen.size == ((4, 2) if orientation < 5 else (2, 4))
        assert seen.getpixel(place) == BLUE


def test_16_bits_are_scaled_without_a_copy_in_floats():
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for cell in (deep, deep.astype(">u2"), Image.fromarray(deep.astype(np.int32))):
        assert_allclose(np.asarray(read_rgb(cell))[:, :, 0], np.rint(deep / 257.0))


# ---------------------------------------------------------------------- several pictures in a cell


@pytest.fixture
def three(tmp_path):
    pictures = []
    for i, colour in enumerate((RED, GREEN, BLUE)):
        noisy = np.clip(np.array(colour) + np.random.default_rng(i).integers(-60, 60, (40, 50, 3)), 0, 255)
        pictures.append(tmp_path / f"{i}.png")
        Image.fromarray(noisy.astype(np.uint8)).save(pictures[-1])
    return pictures


@pytest.mark.parametrize("parameters", [{}, {"features": "color"}], ids=["network", "features"])
def test_the_vectors_of_several_pictures_are_pooled(parameters, three):
    alone = ImageEncoder(**parameters).fit_transform({"photo": three})
    cells = {"photo": [three, tuple(three[:2]), [three[2]], three[2], np.array(three, dtype=object), None]}
    mean = ImageEncoder(**parameters, batch_size=2).fit_transform(cells)
    most = ImageEncoder(**parameters, pool="max").fit_transform(cells)
    for i, part in enumerate((slice(3), slice(2), slice(2, 3), slice(2, 3), slice(3))):
        assert_allclose(mean[i], alone[part].mean(axis=0), rtol=1e-4, atol=1e-5)
        assert_allclose(most[i], alone[part].max(axis=0), rtol=1e-4, atol=1e-5)
    assert np.isnan(mean[5]).all()
    assert np.abs(mean[0] - most[0]).max() > 1e-3


def test_lists_of_names_from_polars_and_parquet_are_known_by_the_files_content(three, tmp_path):
    polars = pytest.importorskip("polars")
    names = [[str(path) for path in three], [str(three[0])]]
    expected = ImageEncoder(features="color").fit_transform({"photos": names})
    for table in (polars.DataFrame({"photos": names}), pd.DataFrame({"photos": [np.array(n) for n in names]})):
        assert_allclose(ImageEncoder(features="color").fit_transform(table), expected)
    Image.new("RGB", (8, 8), GREEN).save(three[0])
    again = ImageEncoder(features="color").fit_transform(polars.DataFrame({"photos": names}))
    assert_allclose(again[1, 64:67], np.array(GREEN) / 255, rtol=1e-5)


def test_the_kind_of_pooling_is_part_of_the_recipe(three):
    recipes = [ImageEncoder(features="color", pool=pool).recipe() for pool in ("mean", "max")]
    assert recipes[0] != recipes[1]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda p: [], "an empty list of pictures; use None for a missing cell"),
        (
            lambda p: [p[0], None],
            r"picture 1 of 2 \(from 0\): TypeError: an image cell must be .* got builtins.NoneType",
        ),
        (lambda p: [p[0], p[1], "gone.png"], r"no such file"),
        (lambda p: [p[0].read_bytes()[:-40], p[1]], r"picture 0 of 2 \(from 0\): .*truncated"),
        (lambda p: [[p[0]], p[1]], r"picture 0 of 2 .*got builtins.list"),
    ],
    ids=["empty", "None", "gone", "truncated", "nested"],
)
def test_a_bad_picture_makes_its_row_bad_and_is_numbered(bad, reason, three):
    cells = pd.Series([three, bad(three), three[0]], index=["a", "b", "c"], name="photos", dtype=object)
    with pytest.raises(EncodingError, match=rf"row 'b', column 'photos'.*{reason}"):
        ImageEncoder(features="color").fit_transform(cells)
    with pytest.warns(MissingModalityWarning, match="1 of 3 cells"):
        out = ImageEncoder(features="color", on_error="missing").fit_transform(cells)
    assert np.isnan(out).all(axis=1).tolist() == [False, True, False]


def test_reading_changes_no_setting_of_the_process():
    import torch
    from PIL import ImageFile

    def settings():
        return (
            list(warnings.filters),
            Image.MAX_IMAGE_PIXELS,
            ImageFile.LOAD_TRUNCATED_IMAGES,
            Image.WARN_POSSIBLE_FORMATS,
            str(np.random.get_state()),  # noqa: NPY002 - the legacy state is what must not change
            torch.initial_seed(),
            torch.get_rng_state().tolist(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            dict(os.environ),
        )

    ImageEncoder().load(photo(300, 200))
    before = settings()
    cells = {"photo": [photo(300, 200), animation("GIF"), b"nothing"]}
    with pytest.warns(MissingModalityWarning):
        during = list(warnings.filters)
        ImageEncoder(on_error="missing").fit_transform(cells)
        assert list(warnings.filters) == during
    assert settings() == before


def test_a_damaged_exif_record_turns_nothing():
    picture = Image.new("RGB", (3, 2))
    picture.info["exif"] = b"no record at all"
    assert read_rgb(picture, background=(0, 0, 0)).size == (3, 2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_picture_without_pixels_is_refused(mode):
    with pytest.raises(ValueError, match="a picture of 0 x 4 pixels"):
        read_rgb(Image.new(mode, (0, 4)), background=(0, 0, 0))


def test_a_file_that_is_missing_in_a_list_is_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "there.png")
    cells = [[str(tmp_path / "there.png"), str(tmp_path / "gone.png")], [str(tmp_path / "there.png")]]
    with pytest.raises(EncodingError, match=r"no such file: .*gone\.png"):
        ImageEncoder(features="color").fit_transform({"photos": cells})


def test_verify_reads_lists_that_have_become_arrays(tmp_path):
    paths = []
    for i in range(3):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.new("RGB", (8, 8), (80 * i, 0, 0)).save(paths[-1])
    encoder = ImageEncoder(features="color").fit({"photos": [paths[:2], paths[1:]]})
    encoder.transform({"photos": [paths[:2], paths[1:]]})
    cells = [np.array(paths[:2], dtype=object), np.array(paths[1:], dtype=object)]
    for given in (cells, pd.Series(cells)):
        assert get_cache().verify(encoder=encoder, cells=given).n_compared == 2
