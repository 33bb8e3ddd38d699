"""Where the time of a prediction goes. A clock that only the encoders below move makes the figures exact."""

import mmap
import re
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from ensemblefuse import (
    BaseEncoder,
    CascadeFusionClassifier,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    EncodingError,
    PredictionLatencyDisplay,
    config_context,
    make_fusion_pipeline,
    prediction_latency,
)
from ensemblefuse.evaluation import _latency

HEAD = LogisticRegression()
NOW = SimpleNamespace(seconds=0.0, encoded=0)


def spend(seconds):
    NOW.seconds += seconds


class SlowEncoder(BaseEncoder):
    """Lengths, at a price in seconds of the clock."""

    def __init__(self, load_costs=0.0, batch_costs=0.0):
        self.load_costs = load_costs
        self.batch_costs = batch_costs

    def load(self, cell):
        spend(self.load_costs)
        return cell

    def encode_batch(self, items):
        spend(self.batch_costs)
        NOW.encoded += len(items)
        return np.array([[len(item), item.count("a")] for item in items])

    def recipe(self):  # that of the base class would not know the clock
        return {"class": "SlowEncoder", "params": [self.load_costs, self.batch_costs]}


class SleepingEncoder(BaseEncoder):
    loads_in_threads = True

    def load(self, cell):
        time.sleep(0.005)
        return cell

    def encode_batch(self, items):
        time.sleep(0.005)
        return np.array([[len(item)] for item in items])


class HungryEncoder(BaseEncoder):
    def encode_batch(self, items):
        # Pages of its own: an array may get memory that the process holds already, and its size does not rise.
        with mmap.mmap(-1, 61 << 20) as pages:
            pages.write(b"1" * (61 << 20))
        return np.array([[len(item)] for item in items], dtype=float)


DF = pd.DataFrame({"title": ["a" * (1 + i % 5) + str(i) for i in range(40)], "price": np.arange(40) % 5.0})
DF["photo"] = "photo of " + DF["title"]
Y = np.arange(40) % 2


def fit(modalities, fusion=None):
    return make_fusion_pipeline(modalities, fusion or DecisionFusionClassifier(HEAD, cv=2, joint=False)).fit(DF, Y)


@pytest.fixture
def clock(monkeypatch):
    """Time stands still but for what encoders spend."""
    monkeypatch.setattr(_latency, "time", SimpleNamespace(perf_counter=lambda: NOW.seconds))


@pytest.fixture(scope="module")
def model():
    image = make_pipeline(SlowEncoder(batch_costs=0.5), FunctionTransformer(lambda Z: (spend(0.125), Z)[1]), PCA(1))
    text = SlowEncoder(load_costs=0.25)
    with config_context(cache=None):
        return fit([("image", image, "photo"), ("text", text, "title"), ("tabular", "passthrough", ["price"])])


def figures(result, column="call_mean"):
    return result.table.set_index(["batch_size", "modality", "stage"])[column]


def test_time_goes_to_the_modality_and_stage_that_spent_it(model, clock):
    found = figures(prediction_latency(model, DF, batch_sizes=(1, 8), n_repeats=2))
    for size in (1, 8):
        spent = found[size]
        assert_allclose(spent[[("image", "load"), ("image", "encode"), ("image", "transform")]], [0, 500, 125])
        assert_allclose(spent[[("text", "load"), ("text", "encode"), ("text", "transform")]], [250 * size, 0, 0])
        assert_allclose(spent["all"][["join", "fuse", "total"]], [0, 0, 625 + 250 * size])


def test_figures_of_a_row_are_those_of_a_call_divided_by_its_rows(model, clock):
    result = prediction_latency(model, DF, batch_sizes=[8], n_repeats=2)
    assert figures(result, "row_p50")[8, "all", "total"] == pytest.approx((625 + 8 * 250) / 8)
    assert figures(result, "call_p95")[8, "text", "load"] == pytest.approx(8 * 250)


def test_quantiles_are_those_of_the_calls(clock):
    costs = []

    class HeadThatTires(LogisticRegression):
        def predict_proba(self, X):
            spend(costs.pop(0) if costs else 0.0)
            return super().predict_proba(X)

    X, y = make_blocks(n=30, widths={"text": 2})
    model = DecisionFusionClassifier({"text": HeadThatTires()}, cv=2, joint=False).fit(X, y)
    costs[:] = [9.0, 9.0, 0.25, 0.5, 0.75, 1.0, 4.0]  # the first call and the warm one, then those that count
    result = prediction_latency(model, X, batch_sizes=[1], n_repeats=5)
    total = result.table.set_index("stage").loc["total"]
    assert total["call_p50"] == pytest.approx(750)
    assert total["call_p95"] == pytest.approx(1000 * np.quantile([0.25, 0.5, 0.75, 1, 4], 0.95))


def test_with_the_cache_the_encoders_do_not_run(model, clock):
    result = prediction_latency(model, DF, batch_sizes=[4], n_repeats=2)
    # What stands behind the encoder is not cached.
    assert figures(result)[4, "all", "total, cached"] == pytest.approx(125)


def test_without_it_they_run_in_every_call(model):
    NOW.encoded = 0
    prediction_latency(model, DF, batch_sizes=[4], n_repeats=3)
    start, warm, measured, cached = 1, 4, 3 * 4, 3 * 4
    assert NOW.encoded == 2 * (start + warm + measured + cached)


def test_the_users_cache_is_neither_read_nor_written(model, cache_folder):
    model.predict(DF.head(8))
    before = sorted((path, path.stat().st_mtime_ns) for path in cache_folder.rglob("*"))
    assert before
    NOW.encoded = 0
    prediction_latency(model, DF, batch_sizes=[4], n_repeats=1)
    assert sorted((path, path.stat().st_mtime_ns) for path in cache_folder.rglob("*")) == before
    assert NOW.encoded == 2 * (1 + 4 + 4 + 4)


def test_the_first_call_counts_by_itself(clock):
    class NetworkEncoder(SlowEncoder):
        loaded = []

        def prepare(self):
            if not self.loaded:
                self.loaded.append(True)
                spend(30.0)

    model = fit([("text", NetworkEncoder(), "title")])
    NetworkEncoder.loaded.clear()
    result = prediction_latency(model, DF, batch_sizes=[1, 4], n_repeats=2, warm=False)
    assert result.start == pytest.approx(30_000)
    assert figures(result).max() == 0
    assert any("30000.0 ms" in note for note in result.notes)


def test_each_call_takes_the_next_rows_and_a_warm_call_goes_first(clock):
    X = pd.DataFrame({"title": list("abcde")})
    seen = []

    def call(rows):
        seen.append(rows.index.tolist())
        return {}

    _latency._measure(call, X, 2, 2, True)
    assert seen == [[0, 1], [2, 3], [4, 0]]
    seen.clear()
    _latency._measure(call, X, 2, 2, False)
    assert seen == [[0, 1], [2, 3]]


def test_with_a_real_clock_and_threads_the_stages_of_each_call_sum_up_to_its_total():
    model = fit([("text", SleepingEncoder(), "title"), ("tabular", PCA(1), ["price"])])
    result = prediction_latency(model, DF, batch_sizes=(1, 8), n_repeats=3)
    calls = result.calls.query("stage != 'total, cached'")
    total = calls.query("stage == 'total'").set_index(["batch_size", "call"])["ms"]
    parts = calls.query("stage != 'total'")
    assert_allclose(parts.groupby(["batch_size", "call"])["ms"].sum()[total.index], total)
    assert (parts["ms"] > -1e-6).all()
    slept = figures(result)  # at least what was slept
    assert slept[1, "text", "load"] >= 5 and slept[1, "text", "encode"] >= 5


def test_times_of_threads_that_overlap_count_once():
    assert _latency._covered([(5, 6), (0, 2), (1, 3), (1, 1.5)]) == 4
    assert _latency._covered([]) == 0


def test_a_fusion_alone_has_nothing_to_encode(clock):
    X, y = make_blocks(n=40)
    result = prediction_latency(DecisionFusionClassifier(HEAD, cv=2, joint=False).fit(X, y), X, n_repeats=2)
    assert result.table["stage"].unique().tolist() == ["fuse", "total"]
    assert "nothing to encode" in result.caption
    X = X.to_numpy()
    array = DecisionFusionRegressor(Ridge(), blocks={"left": slice(0, 6), "right": slice(6, 13)}, cv=2)
    assert len(prediction_latency(array.fit(X, X[:, 0]), X, batch_sizes=[2], n_repeats=2).table) == 2


def test_a_cascade_is_measured_as_a_whole(clock):
    cascade = CascadeFusionClassifier(HEAD, order=["tabular", "text"], cv=2)
    model = fit([("text", SlowEncoder(batch_costs=1.0), "title"), ("tabular", "passthrough", ["price"])], cascade)
    result = prediction_latency(model, DF, batch_sizes=[4], n_repeats=2)
    assert result.table["stage"].tolist() == ["total", "total, cached"]
    assert any("encodes by itself" in note for note in result.notes)
    pytest.importorskip("matplotlib")
    (bar,) = result.plot().ax_.containers[-1]
    assert bar.get_width() == result.table["row_mean"][0]


def test_the_model_is_left_as_it_was(model, monkeypatch):
    union = model.named_steps["encode"]
    monkeypatch.setattr(union, "n_jobs", 2)
    encoders = [union.named_transformers_["text"], union.named_transformers_["image"][0]]

    def state():
        own = [{key: id(value) for key, value in vars(part).items()} for part in encoders]
        return own, sorted(vars(union)), union.n_jobs

    before = state()
    result = prediction_latency(model, DF, batch_sizes=[1], n_repeats=1)
    assert state() == before
    assert any("one after the other" in note for note in result.notes)
    with pytest.raises(EncodingError):
        prediction_latency(model, DF.assign(title=[{}] * len(DF)), batch_sizes=[1], n_repeats=1)
    assert state() == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, which Linux alone has")
def test_memory_is_the_peak_while_the_calls_run():
    if not _latency._reset_peak():
        pytest.skip("this machine does not let a process reset its peak")
    calm = prediction_latency(fit([("text", SlowEncoder(), "title")]), DF, n_repeats=1).memory
    hungry = prediction_latency(fit([("text", HungryEncoder(), "title")]), DF, n_repeats=1).memory
    assert hungry.index.tolist() == [1, 32]
    assert (hungry["rise"] > calm["rise"] + 30).all()
    assert (hungry["peak"] > hungry["rise"]).all()


def test_where_the_system_does_not_tell_the_memory_is_unknown_and_a_note_says_so(model, monkeypatch):
    monkeypatch.setattr(_latency, "_reset_peak", lambda: False)
    result = prediction_latency(model, DF, batch_sizes=[1], n_repeats=1)
    assert result.memory["peak"].isna().all()
    assert any("Memory was not measured" in note for note in result.notes)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"batch_sizes": [0]}, r"whole numbers of at least 1; got [0]"),
        ({"batch_sizes": [True]}, r"whole numbers of at least 1; got [True]"),
        ({"batch_sizes": []}, "got none"),
        ({"batch_sizes": [1, 64]}, "batch_sizes holds 64, but X has 40 rows"),
        ({"n_repeats": 0}, "n_repeats must be at least 1; got 0"),
    ],
)
def test_a_wrong_parameter_says_what_is_wanted(model, params, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        prediction_latency(model, DF, **params)


def test_a_modality_may_be_called_all(clock):
    pytest.importorskip("matplotlib")
    model = fit([("all", SlowEncoder(batch_costs=0.5), "title"), ("tabular", "passthrough", ["price"])])
    result = prediction_latency(model, DF, batch_sizes=[2], n_repeats=1)
    assert figures(result)[2, "all", "encode"] == figures(result)[2, "all", "total"] == pytest.approx(500)
    labels = [text.get_text() for text in result.plot().ax_.get_legend().get_texts()]
    assert labels == ["total, p95", "total, cached", "all: encode"]


def test_the_bars_end_at_the_mean_of_the_whole_call(model, clock):
    pytest.importorskip("matplotlib")
    result = prediction_latency(model, DF, batch_sizes=(1, 8), n_repeats=2)
    display = result.plot()
    last = display.ax_.containers[-1]
    assert_allclose([bar.get_x() + bar.get_width() for bar in last], [875, (625 + 2000) / 8])
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    # The others take no time.
    assert labels == ["total, p95", "total, cached", "image: encode", "image: transform", "text: load"]
    assert display.ax_.get_yticklabels()[1].get_text() == "8 rows per call"
    own = PredictionLatencyDisplay.from_estimator(model, DF, n_repeats=1, ax=display.ax_)
    assert own.ax_ is display.ax_
    assert "milliseconds" in result._repr_html_()
