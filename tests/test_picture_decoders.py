"""A picture file is read as the pixels that it holds, or refused: compared with numbers, and with other decoders."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ensemblefuse import EncodingError, ImageEncoder
from ensemblefuse.cells.image import decoding_cost, open_image, read_rgb

WIDTH, HEIGHT = 40, 24
NEAR = 2  # of 255
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
RAMPS = [X / (WIDTH - 1), Y / (HEIGHT - 1), (X + Y) / (WIDTH + HEIGHT - 2), 0.25 + X / WIDTH / 2]
GREY, RGB, RGBA = RAMPS[0], np.stack(RAMPS[:3], -1), np.stack(RAMPS, -1)


def pixels(content):
    return np.asarray(read_rgb(content)).astype(float)


def shown(samples, *, alpha=None, inverted=False):
    """The pixels of samples from 0 to 1, on white."""
    colour = samples if samples.ndim == 3 else np.repeat(samples[:, :, None], 3, -1)
    colour = 1 - colour if inverted else colour
    return 255 * (colour if alpha is None else colour * alpha[:, :, None] + 1 - alpha[:, :, None])


# ---------------------------------------------------------------------- TIFF, written by hand


def packed(rows, bits):
    """Rows of whole numbers, each row padded to whole bytes, the highest bit first."""
    lines = ["".join(format(int(value), f"0{bits}b") for value in row) for row in rows.reshape(len(rows), -1)]
    lines = [line + "0" * (-len(line) % 8) for line in lines]
    return b"".join(int(line, 2).to_bytes(len(line) // 8, "big") for line in lines)


def turned(data):
    return bytes(int(format(byte, "08b")[::-1], 2) for byte in data)


def tiff(samples, bits, photometric, *, order="<", planar=1, deflate=False, **more):
    """One picture of whole numbers of shape (height, width) or (height, width, n), in one strip a plane."""
    height, width = samples.shape[:2]
    n = 1 if samples.ndim == 2 else samples.shape[2]
    planes = [samples] if planar == 1 else [samples[:, :, i] for i in range(n)]
    kind = f"{order}{'i' if more.get('sampleformat') == 2 else 'u'}{bits // 8}"
    strips = [plane.astype(kind).tobytes() if bits in (8, 16, 32) else packed(plane, bits) for plane in planes]
    strips = [turned(strip) for strip in strips] if more.get("fillorder") == 2 else strips
    strips = [zlib.compress(strip) for strip in strips] if deflate else strips
    starts = [8 + sum(len(strip) + len(strip) % 2 for strip in strips[:i]) for i in range(len(strips))]
    tags = {256: ("I", [width]), 257: ("I", [height]), 258: ("H", [bits] * n), 259: ("H", [8 if deflate else 1])}
    tags |= {262: ("H", [photometric]), 273: ("I", starts), 277: ("H", [n]), 278: ("I", [height])}
    tags |= {279: ("I", [len(strip) for strip in strips]), 284: ("H", [planar])}
    for name, number in {"fillorder": 266, "extra": 338, "sampleformat": 339, "subsampling": 530, "map": 320}.items():
        if name in more:
            tags[number] = ("H", np.ravel(more[name]).tolist())
    tags = {number: value for number, value in tags.items() if number not in more.get("without", ())}
    body = b"".join(strip + b"\0" * (len(strip) % 2) for strip in strips)
    entries, tail, at = [], b"", 8 + len(body) + 2 + 12 * len(tags) + 4
    for number, (letter, values) in sorted(tags.items()):
        field = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(field) > 4:
            tail, field = tail + field, struct.pack(order + "I", at + len(tail))
        entries.append(
            struct.pack(order + "HHI", number, {"H": 3, "I": 4}[letter], len(values)) + field.ljust(4, b"\0")
        )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(body))
    return head + body + struct.pack(order + "H", len(tags)) + b"".join(entries) + bytes(4) + tail


def whole(samples, bits):
    return np.rint(samples * (2**bits - 1)).astype(np.int64)


def near(samples, bits):
    return np.rint(samples * (2**bits - 1)) / (2**bits - 1)


PALETTE = np.random.default_rng(3).integers(0, 256, (3, 256))
READ = {
    "grey of 12 bits": (tiff(whole(GREY, 12), 12, 1), shown(GREY)),
    "grey of 12 bits, compressed": (tiff(whole(GREY, 12), 12, 1, deflate=True), shown(GREY)),
    "grey of 16 bits": (tiff(whole(GREY, 16), 16, 1), shown(GREY)),
    "grey of 16 bits, big-endian": (tiff(whole(GREY, 16), 16, 1, order=">"), shown(GREY)),
    "grey of 16 bits, 0 is white": (tiff(whole(GREY, 16), 16, 0), shown(GREY, inverted=True)),
    "grey of 16 bits, 0 is white, compressed": (tiff(whole(GREY, 16), 16, 0, deflate=True), shown(GREY, inverted=True)),
    "grey of 8 bits, 0 is white": (tiff(whole(GREY, 8), 8, 0), shown(GREY, inverted=True)),
    **{
        f"grey of {bits} bits, {'0 is white' * (kind == 0)}, bits turned: {turn == 2}": (
            tiff(whole(GREY, bits), bits, kind, fillorder=turn),
            shown(near(GREY, bits), inverted=kind == 0),
        )
        for bits, kind, turn in itertools.product((1, 2, 4), (0, 1), (1, 2))
    },
    "RGB of 8 bits": (tiff(whole(RGB, 8), 8, 2), shown(RGB)),
    "RGB of 8 bits in planes": (tiff(whole(RGB, 8), 8, 2, planar=2), shown(RGB)),
    "RGB of 16 bits": (tiff(whole(RGB, 16), 16, 2), shown(RGB)),
    "RGB of 16 bits, big-endian": (tiff(whole(RGB, 16), 16, 2, order=">"), shown(RGB)),
    "RGB of 16 bits in planes, compressed": (tiff(whole(RGB, 16), 16, 2, planar=2, deflate=True), shown(RGB)),
    "RGB and transparency": (tiff(whole(RGBA, 8), 8, 2, extra=2), shown(RGB, alpha=RAMPS[3])),
    "RGB and what is not used": (tiff(whole(RGBA, 8), 8, 2, extra=0), shown(RGB)),
    "palette": (tiff(whole(GREY, 8), 8, 3, map=257 * PALETTE), PALETTE[:, whole(GREY, 8)].transpose(1, 2, 0)),
    "palette of 4 bits": (
        tiff(whole(GREY, 4), 4, 3, map=257 * PALETTE[:, :16]),
        PALETTE[:, whole(GREY, 4)].transpose(1, 2, 0),
    ),
}
REFUSED = {
    "RGB of 16 bits in planes": (tiff(whole(RGB, 16), 16, 2, planar=2), "16 bits with one plane for each channel"),
    "grey and transparency in planes": (
        tiff(whole(RGB[:, :, :2], 8), 8, 1, planar=2, extra=2, deflate=True),
        "grey and transparency in two planes",
    ),
    "a fourth sample": (tiff(whole(RGBA, 8), 8, 2), "fourth sample without a meaning"),
    "signed 8 bits": (tiff(whole(GREY, 7), 8, 1, sampleformat=2), "signed samples of 8 bits"),
    "signed 16 bits": (tiff(whole(GREY, 15), 16, 1, sampleformat=2), "signed samples of 16 bits"),
    "32 bits": (tiff(whole(GREY, 16), 32, 1), "32 bits a sample"),
    "no kind": (tiff(whole(GREY, 8), 8, 1, without=(262,)), "without the tag PhotometricInterpretation"),
    "a palette to 255": (tiff(whole(GREY, 8), 8, 3, map=PALETTE), "palette goes to 255"),
    "YCbCr of fewer colours": (tiff(whole(RGB, 8), 8, 6, subsampling=[2, 2]), "uncompressed YCbCr"),
    "16 bits of RGB and transparency in planes": (
        tiff(whole(RGBA, 16), 16, 2, planar=2, extra=2),
        "one plane for each",
    ),
}


@pytest.mark.parametrize("name", READ)
def test_a_tiff_is_read_as_its_numbers(name):
    content, expected = READ[name]
    np.testing.assert_allclose(pixels(content), expected, atol=NEAR)


@pytest.mark.parametrize("name", REFUSED)
def test_a_tiff_that_pillow_would_misread_is_refused(name):
    content, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason):
        read_rgb(content)


def test_the_bad_row_says_what_to_do():
    encoder = ImageEncoder(features="color").fit([np.zeros((8, 8, 3), np.uint8)])
    with pytest.raises(EncodingError, match="16 bits with one plane for each channel; save it as PNG"):
        encoder.transform([REFUSED["RGB of 16 bits in planes"][0]])


def test_a_page_has_a_layout_of_its_own(tmp_path):
    both = [Image.fromarray(whole(RGB, 8).astype(np.uint8)), Image.fromarray(whole(GREY, 16).astype(np.uint16))]
    both[0].save(tmp_path / "pages.tif", save_all=True, append_images=both[1:])
    for frame, expected in enumerate((RGB, GREY)):
        got = np.asarray(read_rgb(tmp_path / "pages.tif", frame=frame)).astype(float)
        np.testing.assert_allclose(got, shown(expected), atol=NEAR)


def test_an_opened_tiff_is_read_as_its_file(tmp_path):
    for content, expected in (READ["grey of 16 bits, 0 is white"], READ["grey of 12 bits"]):
        with Image.open(io.BytesIO(content)) as image:
            np.testing.assert_allclose(np.asarray(read_rgb(image)).astype(float), expected, atol=NEAR)


# ---------------------------------------------------------------------- PNG


def png(samples, bits, kind, *chunks):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = samples.shape[:2]
    rows = [row.astype(">u2").tobytes() if bits == 16 else packed(row[None], bits) for row in samples]
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png(bits):
    values = whole(GREY, bits)
    clear = int(values[0, WIDTH // 3])
    content = png(values, bits, 0, (b"tRNS", struct.pack(">H", clear)))
    expected = shown(near(GREY, bits), alpha=(values != clear).astype(float))
    np.testing.assert_allclose(pixels(content), expected, atol=NEAR)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_with_transparency(bits):
    values, table = whole(GREY, bits), PALETTE[:, : 2**bits].T
    alpha = np.linspace(0, 255, 2**bits).astype(int)
    content = png(values, bits, 3, (b"PLTE", bytes(table.ravel().tolist())), (b"tRNS", bytes(alpha.tolist())))
    np.testing.assert_allclose(pixels(content), shown(table[values] / 255, alpha=alpha[values] / 255), atol=NEAR)


def test_a_png_of_16_bits():
    np.testing.assert_allclose(pixels(png(whole(RGB, 16), 16, 2)), shown(RGB), atol=NEAR)
    np.testing.assert_allclose(pixels(png(whole(RGBA, 16), 16, 6)), shown(RGB, alpha=RAMPS[3]), atol=NEAR)
    both = np.stack([GREY, RAMPS[3]], -1)
    np.testing.assert_allclose(pixels(png(whole(both, 16), 16, 4)), shown(GREY, alpha=RAMPS[3]), atol=NEAR)
    with pytest.raises(ValueError, match="16 bits with one transparent colour"):
        read_rgb(png(whole(RGB, 16), 16, 2, (b"tRNS", struct.pack(">HHH", 1, 2, 3))))


# ---------------------------------------------------------------------- JPEG 2000


def jpeg_2000(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG2000", **options)
    return buffer.getvalue()


def box(name, content):
    return struct.pack(">I", 8 + len(content)) + name + content


def with_boxes(content, *boxes):
    """The file with more boxes at the end of its header."""
    at = content.index(b"jp2h") - 4
    length = int.from_bytes(content[at : at + 4], "big")
    more = b"".join(box(*each) for each in boxes)
    return (
        content[:at]
        + struct.pack(">I", length + len(more))
        + content[at + 4 : at + length]
        + more
        + content[at + length :]
    )


def with_bits(content, bits):
    """The file, with other numbers of bits in the header of its code stream."""
    at = content.index(b"\xff\x4f\xff\x51") + 42
    n = int.from_bytes(content[at - 2 : at], "big")
    for i in range(n):
        content = content[: at + 3 * i] + bytes([bits]) + content[at + 3 * i + 1 :]
    return content


EIGHT = Image.fromarray(whole(RGB, 8).astype(np.uint8))
FOUR = Image.fromarray(whole(RGBA, 8).astype(np.uint8))


def test_jpeg_2000_of_8_bits_and_grey_of_16():
    np.testing.assert_allclose(pixels(jpeg_2000(EIGHT)), shown(RGB), atol=NEAR)
    np.testing.assert_allclose(pixels(jpeg_2000(EIGHT, no_jp2=True)), shown(RGB), atol=NEAR)
    np.testing.assert_allclose(pixels(jpeg_2000(FOUR)), shown(RGB, alpha=RAMPS[3]), atol=NEAR)
    grey = Image.fromarray(whole(GREY, 16).astype(np.uint16))
    np.testing.assert_allclose(pixels(jpeg_2000(grey)), shown(GREY), atol=NEAR)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (with_bits(jpeg_2000(EIGHT), 15), "16 bits a channel"),
        (with_bits(jpeg_2000(EIGHT), 11), "12 bits a channel"),
        (with_bits(jpeg_2000(EIGHT), 0x87), "signed samples"),
        (with_bits(jpeg_2000(EIGHT.convert("L")), 3), "of 4 bits"),
        (with_boxes(jpeg_2000(EIGHT.convert("L")), (b"pclr", bytes(8))), "with a palette"),
        (jpeg_2000(FOUR, no_jp2=True), "fourth sample without a meaning"),
        (jpeg_2000(FOUR).replace(b"cdef", b"free"), "fourth sample without a meaning"),
        (jpeg_2000(FOUR.convert("LA"), no_jp2=True), "second sample without a meaning"),
        (
            with_boxes(jpeg_2000(EIGHT), (b"cdef", struct.pack(">H9H", 3, 0, 0, 3, 1, 0, 2, 2, 0, 1))),
            "channels are in another order",
        ),
        (jpeg_2000(EIGHT).replace(struct.pack(">BBBI", 1, 0, 0, 16), struct.pack(">BBBI", 1, 0, 0, 14)), "space 14"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_jpeg_2000_that_pillow_would_misread_is_refused(content, reason):
    with pytest.raises(ValueError, match=reason):
        read_rgb(content)


# ---------------------------------------------------------------------- cost


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "factor"),
    [
        (saved(EIGHT, "PNG"), 1),
        (saved(EIGHT, "JPEG"), 1),
        (saved(EIGHT, "JPEG", progressive=True), 1),
        (saved(EIGHT, "JPEG2000"), 4),
        (saved(EIGHT, "QOI"), 8),
        (saved(EIGHT, "DDS"), 8),
        (b"P3 2 1 255 1 2 3 4 5 6", 8),
    ],
)
def test_pixels_that_decode_slowly_count_more(content, factor):
    with open_image(file := io.BytesIO(content)) as image:
        assert decoding_cost(image, file) == factor * image.width * image.height
    n_pixels = factor * image.width * image.height
    assert read_rgb(content, max_pixels=n_pixels).size == image.size
    with pytest.raises(ValueError, match=f"max_pixels={n_pixels - 1}"):
        read_rgb(content, max_pixels=n_pixels - 1)


def test_many_scans_of_a_progressive_photo_count():
    content = saved(EIGHT, "JPEG", progressive=True)
    at = content.index(b"\xff\xda")
    scan = content[at : content.index(b"\xff", at + 2)]
    hostile = content[:at] + scan * 3200 + content[at:]
    with open_image(file := io.BytesIO(hostile)) as image:
        assert decoding_cost(image, file) > 190 * WIDTH * HEIGHT
    with pytest.raises(ValueError, match=r"decodes slowly: they count as \d+, more than max_pixels=100000"):
        read_rgb(hostile, max_pixels=100_000)


# ---------------------------------------------------------------------- other decoders


def from_decoder(samples, white, *, photometric="rgb", alpha=None):
    """The pixels of another decoder's samples, of shape (height, width) or (height, width, n)."""
    samples = np.asarray(samples, dtype=float) / white
    samples = samples[:, :, None] if samples.ndim == 2 else samples
    n = 4 if photometric == "separated" else 3 if photometric == "rgb" else 1
    colour, clear = samples[:, :, :n], samples[:, :, n] if alpha and samples.shape[2] > n else None
    if photometric == "miniswhite":
        colour = 1 - colour
    if photometric == "separated":
        colour = (1 - colour[:, :, :3]) * (1 - colour[:, :, 3:])
    colour = np.broadcast_to(colour, (*colour.shape[:2], 3))
    if clear is None:
        return 255 * colour
    clear = clear[:, :, None]
    return 255 * np.clip((colour if alpha == "assocalpha" else colour * clear) + 1 - clear, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"])
def test_every_tiff_that_is_read_agrees_with_tifffile(dtype):
    import tifffile

    n_read, dtype = 0, np.dtype(dtype)
    white = 1 if dtype.kind in "bf" else np.iinfo(dtype).max
    grid = itertools.product(
        ("minisblack", "miniswhite", "rgb", "separated"), ("contig", "separate"),
        (None, "lzw", "zlib", "packbits", "zstd"), "<>", (None, (16, 16)), (False, True),
        (None, "unspecified", "unassalpha", "assocalpha"),
    )  # fmt: skip
    for photometric, planar, compression, order, tile, predictor, extra in grid:
        n = {"rgb": 3, "separated": 4}.get(photometric, 1) + (extra is not None)
        if (predictor and compression not in ("lzw", "zlib")) or (planar == "separate" and n == 1) or n > 4:
            continue
        data = np.stack(RAMPS[:n], -1)
        if extra == "assocalpha":
            data[:, :, :-1] *= data[:, :, -1:]
        data = data > 0.5 if dtype.kind == "b" else (data if dtype.kind == "f" else np.rint(data * white)).astype(dtype)
        stored = data[:, :, 0] if n == 1 else np.moveaxis(data, -1, 0) if planar == "separate" else data
        file = io.BytesIO()
        try:
            tifffile.imwrite(
                file, stored, photometric=photometric, planarconfig=planar if n > 1 else None, compression=compression,
                byteorder=order, tile=tile, predictor=predictor, extrasamples=[extra] if extra else None, metadata=None,
            )  # fmt: skip
            decoded = tifffile.imread(io.BytesIO(file.getvalue()))
        except (ValueError, TypeError, NotImplementedError):
            continue  # no such file can be written
        decoded = np.moveaxis(decoded, 0, -1) if n > 1 and planar == "separate" else decoded
        try:
            got = pixels(file.getvalue())
        except (ValueError, OSError):
            continue  # refused
        alpha = extra if extra in ("unassalpha", "assocalpha") else None
        expected = from_decoder(decoded, white, photometric=photometric, alpha=alpha)
        found = (photometric, planar, compression, dtype.str, order, tile, predictor, extra)
        atol = NEAR + (extra == "assocalpha")  # divided by the alpha, and multiplied again, in 8 bits
        np.testing.assert_allclose(got, expected, atol=atol, err_msg=str(found))
        n_read += 1
    assert (n_read > 0) == (dtype.str.lstrip("<|") in ("b1", "u1", "u2", "f4")), n_read


@pytest.mark.slow
def test_every_tiff_by_hand_agrees_with_tifffile():
    import tifffile

    n_compared = 0
    for name, (content, _) in READ.items():
        if "palette" in name:
            continue
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages[0]
            white, kind = 2**page.bitspersample - 1, page.photometric.name.lower()
            samples = page.asarray()
            samples = np.moveaxis(samples, 0, -1) if samples.shape[0] == 3 else samples
            alpha = "unassalpha" if [int(extra) for extra in page.extrasamples] == [2] else None
        expected = from_decoder(samples, white, photometric=kind, alpha=alpha)
        np.testing.assert_allclose(pixels(content), expected, atol=NEAR, err_msg=name)
        n_compared += 1
    assert n_compared > 20


@pytest.mark.slow
def test_every_jpeg_2000_that_is_read_agrees_with_openjpeg_and_all_others_are_refused():
    import imagecodecs

    read = set()
    for bits, n, kind, signed in itertools.product((1, 2, 4, 7, *range(8, 17)), (1, 2, 3, 4), ("jp2", "j2k"), (0, 1)):
        values = whole(np.stack(RAMPS[:n], -1), bits) - signed * 2 ** (bits - 1)
        values = values.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
        values = values[:, :, 0] if n == 1 else values
        content = bytes(
            imagecodecs.jpeg2k_encode(values, level=0, codecformat=kind, bitspersample=bits, reversible=True)
        )
        try:
            got = pixels(content)
        except (ValueError, OSError):
            continue
        decoded = imagecodecs.jpeg2k_decode(content)
        np.testing.assert_array_equal(decoded, values)
        expected = from_decoder(decoded, 2**bits - 1, photometric="rgb" if n == 3 else "minisblack")
        np.testing.assert_allclose(got, expected, atol=NEAR, err_msg=str((bits, n, kind, signed)))
        read.add((bits, n, kind, signed))
    grey = {(bits, 1, kind, 0) for bits in (8, *range(10, 17)) for kind in ("jp2", "j2k")}
    assert read == grey | {(8, 3, kind, 0) for kind in ("jp2", "j2k")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [0, 2, 4, 6])
def test_every_png_agrees_with_libpng(kind):
    import imagecodecs

    n = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    for bits in (1, 2, 4, 8, 16) if kind == 0 else (8, 16):
        samples = whole(GREY if n == 1 else RGBA[:, :, [0, 3]] if n == 2 else RGBA[:, :, :n], bits)
        content = png(samples, bits, kind)
        decoded = imagecodecs.png_decode(content)
        expected = from_decoder(
            decoded, 65535 if bits == 16 else 255, photometric="minisblack" if n < 3 else "rgb", alpha="unassalpha"
        )
        np.testing.assert_allclose(pixels(content), expected, atol=NEAR, err_msg=str(bits))
