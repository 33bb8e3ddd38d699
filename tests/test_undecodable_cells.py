"""Texts that are no Unicode are bad rows; files whose names are not UTF-8 are files; all outputs can be written."""

import json
import os

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from ensemblefuse import (
    AudioEncoder,
    DecisionFusionClassifier,
    EncodingError,
    FunctionEncoder,
    ImageEncoder,
    TextEncoder,
    inspect_model,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.cache.code_digests import cell_digest
from ensemblefuse.cli import main
from ensemblefuse.table import to_frame

CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "dict": lambda cells: {"x": cells},
    "dict of arrays": lambda cells: {"x": np.array(cells, dtype=object)},
    "array": lambda cells: np.array(cells, dtype=object),
    "array of texts": np.array,
    "matrix": lambda cells: np.array(cells, dtype=object)[:, None],
    "frame": lambda cells: pd.DataFrame({"x": pd.Series(cells, dtype=object)}),
    "series": lambda cells: pd.Series(cells, dtype=object),
}
HALVES = ["\udc80 shore", "\ud800", "snow \udfff", "\ude00\ud83d"]


@pytest.fixture
def folder(tmp_path):
    """A folder and files whose names are Latin-1."""
    made = os.path.join(os.fsencode(tmp_path), b"f\xfcr alle")
    try:
        os.mkdir(made)
    except OSError:
        pytest.skip("this file system takes no such names")
    return os.fsdecode(made)


@pytest.fixture
def photos(folder):
    paths = [os.path.join(folder, os.fsdecode(b"na\xefve%d.png" % i)) for i in range(12)]
    for i, path in enumerate(paths):
        Image.new("RGB", (8, 8), (200 * (i % 2), 40, 9 * i)).save(path)
    return paths


@pytest.mark.filterwarnings("ignore:X has feature names", "ignore:X does not have valid feature names")
@pytest.mark.parametrize("container", CONTAINERS)
def test_half_of_a_surrogate_pair_is_one_bad_row(container):
    texts = ["a lake", *HALVES, "a wood"]
    encoder = TextEncoder()
    with pytest.raises(EncodingError, match="surrogates not allowed") as caught:
        encoder.fit_transform(CONTAINERS[container](texts))
    assert [row.label for row in caught.value.rows] == [1, 2, 3, 4]
    str(caught.value).encode()  # what is said can be printed
    caught.value.report.to_csv().encode()


@pytest.mark.by_turns
@pytest.mark.filterwarnings("ignore:X has feature names", "ignore:X does not have valid feature names")
@pytest.mark.parametrize("container", CONTAINERS)
def test_names_as_the_system_gives_them_are_files(container, photos):
    vectors = ImageEncoder(features="color").fit_transform(CONTAINERS[container](photos))
    direct = ImageEncoder(features="color").fit_transform([np.asarray(Image.open(path)) for path in photos])
    np.testing.assert_array_equal(vectors, direct)


def test_lists_of_such_names(photos):
    cells = [photos[:2], photos[2:4]]
    assert np.isfinite(ImageEncoder(features="color").fit_transform({"x": cells})).all()


def test_a_name_that_no_system_has_is_a_bad_row(photos):
    with pytest.raises(EncodingError) as caught:
        ImageEncoder(features="color").fit_transform([photos[0], "\ud800.png", os.path.join(photos[0], "\udc80")])
    assert [row.label for row in caught.value.rows] == [1, 2]
    str(caught.value).encode()


def test_sounds_with_such_names(folder):
    import soundfile

    path = os.path.join(folder, os.fsdecode(b"t\xf6n.wav"))
    with open(path, "wb") as file:
        soundfile.write(file, np.sin(np.arange(4000) / 9), 16_000, format="WAV")
    assert np.isfinite(AudioEncoder(features="librosa").fit_transform([path])).all()


def test_digests_tell_such_texts_apart():
    digests = {cell_digest(text, strings_are_paths=False) for text in [*HALVES, "\udc80", "\\udc80", "?", ""]}
    assert len(digests) == len(HALVES) + 4
    lengths = FunctionEncoder(_length).fit_transform(HALVES)
    assert lengths.ravel().tolist() == [len(text) for text in HALVES]


def test_other_columns_keep_their_types():
    frame = to_frame({"x": HALVES, "n": [1, 2, 3, 4], "t": ["a", "b", "c", "d"]})
    assert frame["x"].tolist() == HALVES and frame["x"].dtype == object
    assert frame["t"].dtype == pd.DataFrame({"t": ["a"]})["t"].dtype and frame["n"].dtype.kind == "i"
    assert to_frame(pl.DataFrame({"x": ["a"]}))["x"].tolist() == ["a"]


@pytest.mark.slow  # draws a whole report
def test_a_model_of_such_cells_is_saved_read_and_reported(photos, folder, capsys):
    from ensemblefuse.report import write_report

    labels = np.array(["coffee", "tea"])[np.arange(12) % 2]
    X = pd.DataFrame({"photo": pd.Series(photos, dtype=object), "note": pd.Series(["a \udc80"] * 12, dtype=object)})
    count = FunctionEncoder(_length, version=1)
    model = make_fusion_pipeline([("image", ImageEncoder(features="color"), "photo"), ("note", count, "note")],
                                 DecisionFusionClassifier(LogisticRegression(), cv=2)).fit(X, labels)  # fmt: skip
    path = os.path.join(folder, os.fsdecode(b"mod\xe8le.fuse"))
    save_model(model, path, example=X.iloc[:2])
    assert load_model(path, trusted=[f"{__name__}._length"]).predict(X).tolist() == model.predict(X).tolist()
    json.dumps(inspect_model(path), default=str)
    written = os.path.join(folder, "page.html")
    write_report(model, X, labels, written, trained_on=True)
    with open(written, encoding="utf-8") as file:
        assert "coffee" in file.read()
    assert main(["inspect", path]) == 0
    capsys.readouterr().out.encode(errors="surrogateescape")


def _length(text):
    return np.array([len(text)], dtype=float)


@pytest.mark.parametrize(
    ("cell", "told", "not_told"),
    [
        ("https://shop.example/a.png?size=3", "Nothing is downloaded", "Relative paths"),
        ("s3://bucket/a.png", "Nothing is downloaded", "Relative paths"),
        ("", "An empty text is not a path", "Relative paths"),
        ("pictures/a.png", "Relative paths start at the working directory", "downloaded"),
        ("/" + "long/" * 20 + "a.png", "no such file", "Relative paths"),
        ("/", "a folder, not a file", "no such file"),
    ],
)
def test_the_message_about_a_path_fits_what_stands_in_the_cell(cell, told, not_told):
    with pytest.raises(EncodingError) as raised:
        ImageEncoder(features="hog").fit_transform([cell])
    assert told in str(raised.value) and not_told not in str(raised.value)
