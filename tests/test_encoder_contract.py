"""The row rule on every public encoder, found through ``encoders.__all__``, and on the kinds of local models."""

import contextlib

import joblib
import numpy as np
import pytest
from test_audio_models import build
from test_text_encoder import TEXTS, make_bert, make_static

import ensemblefuse.encoders
from ensemblefuse import (
    AudioEncoder,
    BaseEncoder,
    EncodingError,
    FineTunedEncoder,
    FunctionEncoder,
    GraphEncoder,
    ImageEncoder,
    ImageNetworkClassifier,
    MissingModalityWarning,
    PrecomputedEncoder,
    TextEncoder,
    TimeSeriesEncoder,
    VideoEncoder,
    VideoSoundEncoder,
    WordVectorEncoder,
)
from ensemblefuse.datasets import make_media
from ensemblefuse.table import to_frame
from ensemblefuse.testing import check_encoder

# Another process that has to load a network takes some 6 s of work: the slow tests start one for each encoder.
IN_THREADS = pytest.param("threads", id="")
IN_A_PROCESS = pytest.param("processes", id="in a process", marks=pytest.mark.slow)


def jobs_run_in(where):
    """What `check_encoder` does in another process may be done by a thread."""
    return joblib.parallel_config("threading") if where == "threads" else contextlib.nullcontext()


def word_count(text):
    return [len(text), len(text.split())]


def small_network():
    pictures = list(np.random.default_rng(0).integers(0, 256, size=(6, 16, 16, 3), dtype=np.uint8))
    return ImageNetworkClassifier(size=16, n_members=1, max_epochs=1).fit(pictures, ["a", "b"] * 3)


# Encoder, column of the media table, and a cell that cannot be encoded.
CASES = {
    "ImageEncoder": (ImageEncoder(), "photo", "gone.png"),
    "ImageEncoder tokens": (ImageEncoder(output="tokens", background="black"), "photo", b""),
    "ImageEncoder hog": (ImageEncoder(features="hog"), "photo", "gone.png"),
    "ImageEncoder several": (ImageEncoder(features="color", pool="max"), "photos", []),
    "TextEncoder": (TextEncoder(), "title", 3),
    "TextEncoder multilingual": (TextEncoder("use-multilingual-v3"), "title", "\ud800"),
    "WordVectorEncoder": (WordVectorEncoder(), "title", 3),
    "AudioEncoder": (AudioEncoder(), "clip", b"not a sound"),
    "AudioEncoder librosa": (AudioEncoder(features="librosa"), "clip", np.array([], dtype=np.float32)),
    "AudioEncoder librosa, two seconds": (AudioEncoder(features="librosa", max_seconds=2), "clip", b"RIFF"),
    "TimeSeriesEncoder": (TimeSeriesEncoder(), "series", np.array([1.0, np.inf])),
    "TimeSeriesEncoder rocket": (TimeSeriesEncoder(features="rocket", n_kernels=50), "series", []),
    "GraphEncoder": (GraphEncoder(), "graph", {"x": [[1.0, 2.0]], "edge_index": [[0], [1]]}),
    "GraphEncoder superpixels": (GraphEncoder(n_superpixels=12), "photo", "gone.png"),
    "PrecomputedEncoder": (PrecomputedEncoder(), "vector", [1.0, 2.0]),
    "VideoEncoder": (VideoEncoder(), "video", np.zeros((4, 4, 3), dtype=np.uint8)),
    "VideoSoundEncoder": (VideoSoundEncoder(AudioEncoder(features="librosa")), "clip", b"not a video"),
    "FunctionEncoder": (FunctionEncoder(word_count), "title", 3),
    "FineTunedEncoder": (FineTunedEncoder(small_network()), "photo", "gone.png"),
}


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    frame = make_media(tmp_path_factory.mktemp("media"), 9).frame
    rng = np.random.default_rng(0)
    series = np.empty(len(frame), dtype=object)
    for i in range(len(frame)):
        series[i] = rng.normal(size=20 + i)
    photos = np.empty(len(frame), dtype=object)
    video = np.empty(len(frame), dtype=object)
    for i in range(len(frame)):
        photos[i] = frame["photo"].tolist()[: 1 + i % 3]
        video[i] = rng.integers(0, 255, size=(1 + i % 3, 8, 8, 3), dtype=np.uint8)
    vectors = to_frame({"vector": list(rng.normal(size=(len(frame), 5)))})["vector"].to_numpy()
    graphs = [{"x": rng.normal(size=(3 + i, 2)), "edge_index": rng.integers(3 + i, size=(2, 9))} for i in range(9)]
    return frame.assign(series=series, photos=photos, video=video, vector=vectors, graph=graphs)


def test_every_encoder_has_a_case():
    public = [getattr(ensemblefuse.encoders, name) for name in ensemblefuse.encoders.__all__]
    encoders = {cls for cls in public if isinstance(cls, type) and issubclass(cls, BaseEncoder)} - {BaseEncoder}
    assert len(encoders) >= 6
    assert encoders == {type(encoder) for encoder, _, _ in CASES.values()}


NETWORKS = [
    *("ImageEncoder", "ImageEncoder tokens", "TextEncoder", "TextEncoder multilingual", "AudioEncoder", "VideoEncoder")
]


@pytest.mark.by_turns
@pytest.mark.parametrize("name", [name for name in CASES if name not in NETWORKS])
def test_the_row_rule(name, media):
    encoder, column, _ = CASES[name]
    most = 1_000_000 if name == "FineTunedEncoder" else 1024  # bytes of a pickle: it holds what was trained
    assert len(check_encoder(encoder, media[[column]].head(5), max_pickle=most)) >= 11


@pytest.mark.by_turns
@pytest.mark.parametrize("where", [IN_THREADS, IN_A_PROCESS])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_row_rule_holds_for_networks(name, where, media):
    encoder, column, _ = CASES[name]
    with jobs_run_in(where):
        assert len(check_encoder(encoder, media[[column]].head(4))) >= 11


@pytest.mark.by_turns
@pytest.mark.parametrize("where", [IN_THREADS, IN_A_PROCESS])
@pytest.mark.parametrize("long_texts", ["cut", "chunk"])
def test_the_row_rule_holds_for_local_text_models(long_texts, where, tmp_path):
    bert = make_bert(tmp_path)
    texts = {"title": [*TEXTS, "red cat " * 14, "the dog " * 3]}  # under 32 tokens
    with jobs_run_in(where):
        assert len(check_encoder(TextEncoder(bert, pooling="max", long_texts=long_texts), texts)) >= 11


@pytest.mark.parametrize("where", [IN_THREADS, IN_A_PROCESS])
@pytest.mark.parametrize("long_texts", ["cut", "chunk"])
def test_the_row_rule_holds_for_static_text_models(long_texts, where, tmp_path):
    make_static().save_pretrained(tmp_path)
    texts = {"title": [*TEXTS, "the dog " * 3]}
    with jobs_run_in(where):
        assert len(check_encoder(TextEncoder(tmp_path, long_texts=long_texts), texts)) >= 11


@pytest.mark.parametrize("where", [IN_THREADS, IN_A_PROCESS])
def test_the_row_rule_holds_for_texts_in_windows(where, tmp_path):
    texts = {"title": [*TEXTS, "red cat " * 40, "the dog " * 90]}
    encoder = TextEncoder(make_bert(tmp_path), pooling="max", long_texts="chunk")
    with jobs_run_in(where):
        assert len(check_encoder(encoder, texts)) >= 11


@pytest.mark.by_turns
@pytest.mark.parametrize("where", [IN_THREADS, IN_A_PROCESS])
@pytest.mark.parametrize("kind", ["wav2vec2 layer norm", "ast", "clap"])
def test_the_row_rule_holds_for_local_audio_models(kind, where, media, tmp_path):
    encoder = AudioEncoder(build(kind, tmp_path), max_seconds=60)
    with jobs_run_in(where):
        assert len(check_encoder(encoder, media[["clip"]].head(4))) >= 11


@pytest.mark.by_turns
@pytest.mark.parametrize("name", CASES)
def test_a_bad_cell_is_named_and_costs_the_others_nothing(name, media):
    encoder, column, bad = CASES[name]
    frame = media[[column]].copy()
    frame[column] = frame[column].astype(object)
    frame.iat[2, 0] = bad
    frame.iat[5, 0] = None
    with pytest.raises(EncodingError, match=f"row {frame.index[2]!r}, column {column!r}") as caught:
        type(encoder)(**encoder.get_params(deep=False)).fit_transform(frame)
    assert len(caught.value.rows) == 1
    with pytest.warns(MissingModalityWarning, match="1 of 9 cells") as warned:
        out = type(encoder)(**{**encoder.get_params(deep=False), "on_error": "missing"}).fit_transform(frame)
    assert len(warned) == 1
    assert np.isnan(out).all(axis=1).nonzero()[0].tolist() == [2, 5]
    assert np.isfinite(np.delete(out, [2, 5], axis=0)).all()


def test_a_group_of_columns_is_one_series_a_row():
    columns = {f"t{i}": np.sin(np.arange(6) * (i + 1)) for i in range(12)}
    assert len(check_encoder(TimeSeriesEncoder(), columns)) >= 11


@pytest.mark.by_turns
@pytest.mark.parametrize("name", ["ImageEncoder", "TextEncoder", "AudioEncoder", "AudioEncoder librosa"])
def test_a_column_without_any_value_is_a_block_of_nan(name, media):
    """As in a fold that holds no row of a rare modality."""
    encoder, column, _ = CASES[name]
    full = encoder.fit_transform(media[[column]])
    empty = media[[column]].copy()
    empty[column] = None
    with pytest.warns(MissingModalityWarning, match=f"column {column!r} has no value in any of 9 rows"):
        out = encoder.fit_transform(empty)
    assert out.shape == full.shape and np.isnan(out).all()
    np.testing.assert_allclose(encoder.transform(media[[column]]), full, atol=1e-4)
