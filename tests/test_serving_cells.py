"""What a cell may be: every kind, every source of a file, and nothing that opens what the client names."""

import base64
import io
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import serving_case as case
import soundfile
from conftest import make_blocks
from PIL import Image
from sklearn.linear_model import LogisticRegression

from ensemblefuse import BaseEncoder, CascadeFusionClassifier, FunctionEncoder, ImageEncoder, make_fusion_pipeline
from ensemblefuse.serving import ServerSettings
from ensemblefuse.serving._cells import RowReader
from ensemblefuse.serving._errors import Unreadable
from ensemblefuse.serving._info import Column
from ensemblefuse.serving._media import FileReader
from ensemblefuse.serving._model import ServedModel


def read(kind, value, *, settings=None, uploads=None, folder=None, path_columns=(), max_bytes=10**6):
    """What the model gets for a cell, or why it gets nothing."""
    reader = RowReader({"c": Column("c", kind, ["m"])}, settings or ServerSettings(), path_columns)
    rows, faults = reader.read([{"c": value}], FileReader(uploads, folder, max_bytes))
    return (rows[0]["c"], "") if not faults else (None, "; ".join(fault.reason for fault in faults))


def sound(seconds=0.5, rate=8000):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(int(seconds * rate), dtype=np.float32), rate, format="WAV")
    return buffer.getvalue()


PICTURE, SOUND = case.picture("red"), sound()


@pytest.mark.parametrize(
    "kind, value, expected",
    [
        ("number", 3, 3.0),
        ("number", True, 1.0),
        ("text", "", ""),
        ("category", 3, 3),
        ("category", "a", "a"),
        ("object", {"a": [1, None]}, {"a": [1, None]}),
        ("embedding", "key", "key"),
        ("image", None, None),
        ("image", case.in_base64(PICTURE), PICTURE),
        ("image", [case.in_base64(PICTURE)] * 2, [PICTURE] * 2),
        ("audio", case.in_base64(SOUND), SOUND),
    ],
)
def test_cells_that_are_taken(kind, value, expected):
    assert read(kind, value) == (expected, "")


def test_lists_become_arrays():
    for kind, value, expected in [
        ("series", [1, None, 2.5], [1, np.nan, 2.5]),
        ("series", [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        ("embedding", [1, 2], [1, 2]),
    ]:
        got, reason = read(kind, value)
        assert not reason and got.dtype == np.float64
        np.testing.assert_array_equal(got, expected)
    graph, reason = read("graph", {"edge_index": [[0, 1], [1, 0]], "x": [[1.5], [2]], "num_nodes": 2})
    assert not reason and graph["edge_index"].dtype == np.int64 and graph["x"].shape == (2, 1)


@pytest.mark.parametrize(
    "kind, value, reason",
    [
        ("number", "3", "expected a number; got a string"),
        ("text", 3, "expected a string; got a number"),
        ("category", [1], "expected a string, a number, true or false; got a list of 1"),
        ("series", [], "expected a list of numbers; got a list of 0"),
        ("series", [[1, 2], [3]], "its channels have different lengths: [1, 2]"),
        ("series", [1, [2]], "got a list of 1 in it"),
        ("embedding", [1, None], "got null in it"),
        ("embedding", [1, True], "got true in it"),
        ("graph", {"edge_index": "/etc/passwd"}, "'edge_index': expected a list of numbers; got a string"),
        ("graph", {"edge_index": [[0], [1]], "x": [["/etc/passwd"]]}, "got a string in it"),
        ("graph", {"edge_index": [[0], [1]], "file": "/etc/passwd"}, "got a string under 'file'"),
        ("graph", "/etc/passwd", "or a file; got a string"),
        ("image", [], "the list is empty; use null"),
        ("image", {}, 'expected {"base64": "..."}; got an object'),
        ("image", {"base64": 3}, "'base64' must be a string; got a number"),
        ("image", {"base64": "a b"}, "not valid base64"),
        ("image", {"base64": "é"}, "not valid base64"),
        ("image", {"base64": ""}, "the file is empty"),
        ("image", {"base64": "AAAA", "path": "x"}, "got an object with 'base64', 'path'"),
        ("audio", [case.in_base64(SOUND)], "expected one file; got a list of 1"),
        ("audio", case.in_base64(PICTURE), "not a sound file that can be read"),
        ("video", case.in_base64(SOUND[:40]), "cut short"),
    ],
)
def test_cells_that_are_refused(kind, value, reason):
    got, told = read(kind, value)
    assert got is None and reason in told


@pytest.mark.parametrize("kind", ["image", "audio", "video"])
@pytest.mark.parametrize("name", ["/etc/passwd", "http://127.0.0.1/x.png", "file:///etc/passwd", "x.png"])
def test_a_string_never_reaches_an_encoder_of_files(kind, name):
    for value in (name, [name], {"path": name}, {"url": name}):
        got, reason = read(kind, value)
        assert got is None and "expected" in reason and "passwd" not in reason
    # Whatever the file says that the column holds.
    assert read("object", name, path_columns=["c"])[0] is None
    assert read("text", {"a": name}, path_columns=["c"])[0] is None


class PathLength(BaseEncoder):
    """An encoder that takes strings for paths, of a class that the manifest does not know."""

    strings_are_paths = True

    def load(self, cell):
        return Path(cell).read_bytes() if isinstance(cell, str) else cell

    def encode_batch(self, items):
        return np.array([[len(item), 1.0] for item in items])


def test_columns_of_unknown_encoders_that_open_paths_take_files_alone(tmp_path):
    X, y = case.table(n=30)
    modalities = [("own", PathLength(), "photo"), ("words", FunctionEncoder(len), "title")]
    model = make_fusion_pipeline(modalities, case.DecisionFusionClassifier(LogisticRegression(), cv=2)).fit(X, y)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with case.client_of(model) as client:
        assert client.get("/model").json()["input"]["photo"]["type"] == "object"
        answer = client.post("/predict", json={"rows": [{"photo": str(secret)}, {"photo": case.in_base64(PICTURE)}]})
        first, second = answer.json()["predictions"]
        assert first is None and second["modalities"] == ["own"] and "expected" in answer.json()["errors"][0]["reason"]


def test_a_fusion_that_encodes_for_itself_is_known_to_open_paths():
    X, y = case.table(n=60)
    modalities = [("tabular", "passthrough", ["size", "weight"]), ("image", ImageEncoder(features="color"), "photo")]
    fusion = CascadeFusionClassifier({"tabular": LogisticRegression(), "image": LogisticRegression()}, cv=2)
    model = make_fusion_pipeline(modalities, fusion).fit(X, y)
    with case.client_of(model) as client:
        assert client.app.state.service.worker.model.path_columns == {"photo"}
        assert client.get("/model").json()["input"]["photo"]["type"] == "image"
        rows = [case.row(photo="/etc/passwd", title=None), {"photo": case.in_base64(PICTURE)}]
        answer = client.post("/predict", json={"rows": [{k: v for k, v in r.items() if k != "title"} for r in rows]})
        assert answer.json()["predictions"][0] is None
        assert answer.json()["predictions"][1]["prediction"] == "red"
    assert isinstance(client.app.state.service.worker.model, ServedModel)


# ---------------------------------------------------------------------- files by name


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "shared"
    (inside / "deep").mkdir(parents=True)
    (inside / "deep" / "a.png").write_bytes(PICTURE)
    (tmp_path / "outside.png").write_bytes(PICTURE)
    (inside / "out.png").symlink_to(tmp_path / "outside.png")
    (inside / "in.png").symlink_to(inside / "deep" / "a.png")
    (inside / "loop.png").symlink_to(inside / "loop.png")
    os.mkfifo(inside / "pipe.png")
    return inside


@pytest.mark.parametrize("name", ["deep/a.png", "in.png", "deep/../deep/a.png", "./deep/a.png"])
def test_files_in_the_folder_are_read(folder, name):
    assert read("image", {"path": name}, folder=folder) == (PICTURE, "")


@pytest.mark.parametrize(
    "name",
    [
        *("../outside.png", "deep/../../outside.png", "out.png", "/etc/passwd", "deep", "", "a\0b", "loop.png"),
        *("pipe.png", "nothing.png", "x" * 5000, "~/x", "file:deep/a.png"),
    ],
)
def test_nothing_else_is_and_nothing_is_told_of_it(folder, name):
    got, reason = read("image", {"path": name}, folder=folder)
    assert got is None and reason.startswith("there is no file") and "in the served folder" in reason


def test_an_absolute_path_into_the_folder_is_refused_too(folder):
    assert read("image", {"path": str(folder / "deep" / "a.png")}, folder=folder)[0] is None


def test_without_a_folder_no_path_is_taken(folder):
    assert "got an object with 'path'" in read("image", {"path": "deep/a.png"})[1]


def test_files_by_name_count_as_bytes_of_the_request_once_each(folder):
    n = len(PICTURE)
    both = [{"path": "deep/a.png"}, {"path": "in.png"}]
    assert read("image", [both[0]] * 3, folder=folder, max_bytes=n)[1] == ""
    assert "more bytes than max_body" in read("image", both, folder=folder, max_bytes=2 * n - 1)[1]


def test_contents_of_files_are_not_echoed(folder):
    (folder / "notes.txt").write_text("the secret is 42")
    for kind in ("image", "audio", "video"):
        got, reason = read(kind, {"path": "notes.txt"}, folder=folder)
        assert got is None and reason and "secret" not in reason and str(folder) not in reason


# ---------------------------------------------------------------------- what headers promise


def test_pixels_are_counted_before_a_picture_is_decoded(monkeypatch):
    settings = ServerSettings(max_pixels=600)
    whole = case.in_base64(case.picture("red", size=(20, 20)))
    large = case.in_base64(case.picture("red", size=(100, 100)))
    Image.init()  # loads Pillow's plugins, which are patched below
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    assert read("image", whole, settings=settings)[1] == ""
    assert "a picture of 20 x 20 pixels; at most 200 are allowed" in read("image", [whole] * 2, settings=settings)[1]
    assert "a picture of 100 x 100 pixels; at most 600" in read("image", large, settings=settings)[1]
    assert "100 x 100" in read("video", large, settings=settings)[1]


def test_a_request_may_have_four_of_the_largest_cells():
    columns = {name: Column(name, kind, (name,)) for name, kind in (("photo", "image"), ("clip", "audio"))}
    reader = RowReader(columns, ServerSettings(max_pixels=400, max_seconds=1))
    cells = {"photo": case.in_base64(case.picture("red", size=(20, 20))), "clip": case.in_base64(sound(0.9))}
    rows, faults = reader.read([cells] * 6, FileReader(None, None, 1000))
    assert [row is not None for row in rows] == [True] * 4 + [False] * 2
    assert [(fault.row, fault.field) for fault in faults] == [(4, "photo"), (4, "clip"), (5, "photo"), (5, "clip")]
    assert faults[0].reason == "with it the request has more than 1600 pixels; send it in another request"


def test_a_picture_that_decodes_slowly_counts_as_larger():
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20)).save(buffer, "JPEG2000")
    content = case.in_base64(buffer.getvalue())
    assert read("image", content, settings=ServerSettings(max_pixels=1600))[1] == ""
    reason = read("image", content, settings=ServerSettings(max_pixels=1599))[1]
    assert "20 x 20 pixels of a kind that decodes slowly: they count as 1600, and at most 1599 are allowed" in reason


def test_a_sound_of_a_few_hertz_is_refused():
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(500), 1, format="WAV")
    assert "its sampling rate is 1 Hz" in read("audio", case.in_base64(silence.getvalue()))[1]


def test_a_sound_of_many_channels_counts_as_longer():
    settings, buffer = ServerSettings(max_seconds=1), io.BytesIO()
    soundfile.write(buffer, np.zeros((48_000, 8), dtype=np.float32), 96_000, format="FLAC")
    reason = read("audio", case.in_base64(buffer.getvalue()), settings=settings)[1]
    assert "a sound of 0 seconds, as much as 4 of stereo at 48 kHz; at most 1 are allowed" in reason


def test_seconds_of_a_sound_are_told_by_its_header():
    settings = ServerSettings(max_seconds=1)
    assert read("audio", case.in_base64(sound(0.9)), settings=settings)[1] == ""
    assert (
        "a sound of 2 seconds; at most 1 are allowed" in read("audio", case.in_base64(sound(2)), settings=settings)[1]
    )


def test_seconds_and_pixels_of_a_video_are_told_by_its_header():
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for _ in range(20):
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 32, 3), dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = case.in_base64(buffer.getvalue())
    assert read("video", video)[1] == ""
    assert "a video of 2 seconds; at most 1" in read("video", video, settings=ServerSettings(max_seconds=1))[1]
    assert "frames of 512 pixels; at most 500" in read("video", video, settings=ServerSettings(max_pixels=500))[1]


# ---------------------------------------------------------------------- rows


@pytest.mark.parametrize("rows, reason", [({}, "got an object"), ([], "1 to 2 rows; got 0"), ([{}] * 3, "got 3")])
def test_how_many_rows(rows, reason):
    reader = RowReader({"c": Column("c", "text", ["m"])}, ServerSettings(max_rows=2))
    with pytest.raises(Unreadable, match=reason):
        reader.read(rows, FileReader(None, None, 1))


def test_unknown_columns_are_named_and_long_names_are_cut():
    reader = RowReader({"c": Column("c", "text", ["m"])}, ServerSettings())
    rows, faults = reader.read([{"c": "x", "d": 1, "e" * 1000: 2}, {"c": "y"}], FileReader(None, None, 1))
    assert rows == [None, {"c": "y"}] and [fault.row for fault in faults] == [0, 0]
    assert faults[0].field == "d" and faults[0].reason == "the model has no column of this name; it has ['c']"
    assert len(faults[1].field) == 100


def test_a_column_with_a_slip_of_the_pen_is_asked_back():
    reader = RowReader({"price": Column("price", "number", ["m"])}, ServerSettings())
    _, faults = reader.read([{"prcie": 1}], FileReader(None, None, 1))
    assert faults[0].reason.endswith("it has ['price']; did you mean 'price'?")


def test_parts_of_a_form_that_are_not_there_or_not_named(tmp_path):
    path = case.save(tmp_path / "m.fuse")
    with case.client_of(path) as client:
        files = {"a": ("a.png", PICTURE)}
        send = lambda cell: client.post("/predict", data={"rows": json.dumps([{"photo": cell}])}, files=files).json()
        assert send({"upload": "a"})["errors"] == []
        assert send({"upload": "b"})["errors"][0]["reason"] == "the form has no file part 'b'; it has 1"
        unused = send(case.in_base64(PICTURE))
        assert unused["errors"] == [{"row": None, "field": "a", "reason": "no cell names this part of the form"}]
        assert unused["predictions"][0]["prediction"] == "red"


def test_graphs_and_series_reach_their_encoders():
    """Kinds that no other test of serving predicts with."""
    pytest.importorskip("torch_geometric")
    from ensemblefuse import GraphEncoder, PrecomputedEncoder, TimeSeriesEncoder

    _, y = make_blocks(n=40, n_classes=2)
    rng = np.random.default_rng(0)
    graphs, series, vectors = (np.empty(40, dtype=object) for _ in range(3))
    for i, label in enumerate(y):
        shift = float(label[-1])
        graphs[i] = {"edge_index": np.array([[0, 1], [1, 0]]), "x": rng.normal(shift, 0.1, size=(2, 3))}
        series[i] = rng.normal(shift, 0.1, size=20)
        vectors[i] = rng.normal(shift, 0.1, size=3)
    X = {"graph": graphs, "series": series, "vector": vectors}
    modalities = [
        ("graph", GraphEncoder(), "graph"),
        ("series", TimeSeriesEncoder(), "series"),
        ("vector", PrecomputedEncoder(), "vector"),
    ]
    fusion = case.DecisionFusionClassifier(LogisticRegression(), cv=2, joint=False)
    model = make_fusion_pipeline(modalities, fusion).fit(X, y)
    rows = [
        {
            "graph": {name: part.tolist() for name, part in graphs[i].items()},
            **{"series": series[i].tolist(), "vector": vectors[i].tolist()},
        }
        for i in range(4)
    ]
    with case.client_of(model) as client:
        kinds = {name: given["type"] for name, given in client.get("/model").json()["input"].items()}
        assert kinds == {"graph": "graph", "series": "series", "vector": "embedding"}
        answer = client.post("/predict", json={"rows": [*rows, {**rows[0], "vector": [1, 2]}]}).json()
        proba = [list(p["probabilities"].values()) for p in answer["predictions"][:4]]
        np.testing.assert_allclose(proba, model.predict_proba({k: v[:4] for k, v in X.items()}), rtol=1e-5, atol=1e-9)
        assert answer["errors"][0]["field"] == "vector" and "2 numbers, where" in answer["errors"][0]["reason"]


def test_base64_of_the_url_alphabet_is_no_guess():
    text = base64.urlsafe_b64encode(b"\xff\xfe\xfd" * 3).decode()
    assert "not valid base64" in read("image", {"base64": text})[1]


@pytest.mark.parametrize(
    "kind, fits, too_much, reason",
    [
        ("series", [1] * 4, [1] * 5, "an array of 5 numbers; at most 4 are allowed"),
        ("series", [[1, 2], [3, None]], [[1, 2, 3], [4, 5, 6]], "an array of 6 numbers"),
        ("embedding", [0.5] * 4, [0.5] * 5, "an array of 5 numbers"),
        ("embedding", "abc", "abcdef", "a text of 6 characters; at most 5 are allowed"),
        ("category", "abcde", "abcdef", "a text of 6 characters"),
        (
            "graph",
            {"edge_index": [[0, 1], [1, 0]], "num_nodes": 4},
            {"edge_index": [[], []], "num_nodes": 5},
            "a graph of 5",
        ),
        (
            "graph",
            {"edge_index": [[0], [1]], "num_nodes": 2},
            {"edge_index": [[0, 1, 0]] * 2, "num_nodes": 2},
            "a graph of 6",
        ),
    ],
)
def test_a_cell_may_have_so_many_characters_or_numbers(kind, fits, too_much, reason):
    settings = ServerSettings(max_numbers=4, max_characters=5)
    reader, files = RowReader({"c": Column("c", kind, ["m"])}, settings), FileReader(None, None, 1)
    rows, faults = reader.read([{"c": fits}, {"c": too_much}, {"c": None}], files)
    assert rows[0] is not None and rows[1] is None and rows[2] == {"c": None}
    assert len(faults) == 1 and faults[0].row == 1 and faults[0].reason.startswith(reason)
    assert 0 < files.costs[0] <= 1 and files.costs[2] == 0


def test_similar_names_are_looked_for_a_few_times_a_request():
    reader = RowReader({f"column{i}": Column(f"column{i}", "number", ["m"]) for i in range(50)}, ServerSettings())
    rows = [{f"colunm{i}": 1 for i in range(100)} for _ in range(100)]
    start = time.process_time()
    _, faults = reader.read(rows, FileReader(None, None, 1))
    assert time.process_time() - start < 2  # 9 s where each name is compared with each column
    hinted = [(fault.row, fault.field) for fault in faults if "did you mean" in fault.reason]
    assert hinted == [(row, f"colunm{i}") for row in range(100) for i in range(10)]  # ten names, in every row


def test_a_hint_does_not_depend_on_the_row():
    reader = RowReader({name: Column(name, "number", ["m"]) for name in ("price", "size")}, ServerSettings())

    def hints(rows):
        return [
            fault.reason.partition("; did you mean ")[2] for fault in reader.read(rows, FileReader(None, None, 1))[1]
        ]

    good, wrong = {"price": 1, "size": 2}, {"prce": 1, "size": 2}
    assert hints([*[good] * 9, wrong]) == ["'price'?"]
    assert hints([wrong] * 12) == ["'price'?"] * 12
    assert hints([{"note": 1, "zzz": 2, "prce": 1}, good, {"sizes": 1}]) == ["", "", "'price'?", "'size'?"]
    assert hints([{"zzz": 1}] * 30 + [wrong]) == [""] * 30 + ["'price'?"]
    assert hints([{f"zzz{i}": 1} for i in range(10)] + [wrong]) == [""] * 11  # ten other names were looked for
    assert hints([wrong]) == ["'price'?"]  # each request has its own count
