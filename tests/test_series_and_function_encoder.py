"""TimeSeriesEncoder and FunctionEncoder: finite numbers for any series, and a cache key that follows the function."""

import functools
import pickle
import types

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from ensemblefuse import EncodingError, config_context, get_cache
from ensemblefuse.encoders._function import FunctionEncoder
from ensemblefuse.encoders._time_series import TimeSeriesEncoder
from ensemblefuse.exceptions import MissingModalityWarning

NAMES = [
    "mean",
    "std",
    "min",
    "max",
    "median",
    "q25",
    "q75",
    "skew",
    "kurtosis",
    "slope",
    "change",
    "crossings",
    "lag1",
]


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path):
    with config_context(cache=tmp_path / "cache"):
        yield


def column(cells):
    """A table of one column; cell by cell, so that arrays stay cells."""
    values = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):
        values[i] = cell
    return pd.DataFrame({"sensor": values}, index=[f"row{i}" for i in range(len(cells))])


def described(series, **params):
    vector = TimeSeriesEncoder(**params).fit_transform(column([series]))[0]
    return dict(zip(NAMES, vector, strict=False)), vector[13:-3], vector[-3:]


# ---------------------------------------------------------------------- series


def test_the_statistics_are_those_of_scipy_and_numpy():
    from scipy import stats

    series = np.random.default_rng(0).gamma(2.0, size=300) + 0.01 * np.arange(300)
    found, _, _ = described(series, sampling_rate=10)
    expected = {
        "mean": series.mean(),
        "std": series.std(),
        "min": series.min(),
        "max": series.max(),
        "median": np.median(series),
        "q25": np.percentile(series, 25),
        "q75": np.percentile(series, 75),
        "skew": stats.skew(series),
        "kurtosis": stats.kurtosis(series),
        "slope": np.polyfit(np.arange(300) / 10, series, 1)[0],
        "change": np.abs(np.diff(series)).mean(),
        "crossings": (np.diff(np.sign(series - series.mean())) != 0).mean(),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4), name
    assert found["lag1"] == pytest.approx(np.corrcoef(series[1:], series[:-1])[0, 1], abs=0.02)


@pytest.mark.parametrize("length", [200, 5000])
def test_the_spectrum_finds_a_wave(length):
    wave = np.sin(2 * np.pi * 12.0 * np.arange(length) / 100) + 7
    _, bands, (centroid, entropy, dominant) = described(wave, sampling_rate=100, n_bands=5)
    assert dominant == pytest.approx(12, abs=0.5) and centroid == pytest.approx(12, abs=0.5)
    assert bands.argmax() == 1 and bands[1] == pytest.approx(0, abs=1e-3)
    noise = np.random.default_rng(0).standard_normal(length)
    _, flat, (middle, disorder, _) = described(noise, sampling_rate=100, n_bands=5)
    assert entropy < 0.4 < 0.85 < disorder <= 1
    assert middle == pytest.approx(25, abs=5) and np.ptp(flat) < 0.4
    assert (10.0**flat).sum() == pytest.approx(1, rel=1e-5)


def test_the_spectrum_is_welchs():
    from scipy import signal

    from ensemblefuse.encoders._time_series import _welch

    series = np.random.default_rng(1).standard_normal(4000)
    window = np.hanning(1026)[1:-1]
    _, power = signal.welch(series, window=window, noverlap=512, nperseg=1024, detrend=False, scaling="spectrum")
    power[1:-1] /= 2  # scipy counts negative frequencies too
    assert_allclose(_welch(series, at_least=8) / window.sum() ** 2, power, rtol=1e-8)


@pytest.mark.parametrize(
    "series", [[3.0], [0.1] * 7, np.zeros(50), [1, 2], np.full(3, 1e30), [True, False, True], [1e-30, 2e-30, 0]]
)
def test_short_and_constant_series_have_finite_vectors(series):
    found, bands, spectrum = described(series)
    assert np.isfinite([*found.values(), *bands, *spectrum]).all()
    if np.ptp(np.asarray(series, float)) == 0:
        assert found["std"] == found["skew"] == found["kurtosis"] == found["lag1"] == 0
        assert_allclose(bands, -np.log10(8), rtol=1e-6)


def test_a_series_has_one_vector_whatever_the_batch():
    rng = np.random.default_rng(0)
    series = [rng.standard_normal(n) for n in rng.integers(1, 300, size=40)]
    with config_context(cache=None):
        one = TimeSeriesEncoder(batch_size=1).fit_transform(column(series))
        many = TimeSeriesEncoder(batch_size=64).fit_transform(column(series[::-1]))[::-1]
    assert_array_equal(one, many)


def test_the_scale_of_a_series_changes_only_what_is_in_its_units():
    series = np.random.default_rng(0).standard_normal(100)
    small, large = TimeSeriesEncoder().fit_transform(column([series, 1e30 * series]))
    assert_allclose(large[[0, 1, 2, 3, 9, 10]], 1e30 * small[[0, 1, 2, 3, 9, 10]].astype(float), rtol=1e-4)
    assert_allclose(large[[7, 8, *range(11, 24)]], small[[7, 8, *range(11, 24)]], rtol=1e-4, atol=1e-6)


def test_a_group_of_numeric_columns_is_one_series_a_row():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((6, 20)).round(3)
    frame = pd.DataFrame(values, columns=[f"t{i}" for i in range(20)])
    group = TimeSeriesEncoder().fit_transform(frame)
    assert_array_equal(group, TimeSeriesEncoder().fit_transform(column(list(values))))
    assert_array_equal(group, TimeSeriesEncoder().fit_transform(values))


def test_a_row_of_nan_is_missing_and_a_partly_nan_row_is_a_bad_row():
    frame = pd.DataFrame(np.arange(12.0).reshape(3, 4), index=["a", "b", "c"], columns=list("wxyz"))
    frame["w"] = frame["w"].astype("Int64")
    frame.loc["b"] = pd.NA
    vectors = TimeSeriesEncoder().fit_transform(frame)
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, False]
    frame.loc["c", "y"] = np.nan
    with pytest.raises(EncodingError, match=r"row 'c'.*1 of its 4 values are NaN or infinite, the first at position 2"):
        TimeSeriesEncoder().fit_transform(frame)
    with pytest.warns(MissingModalityWarning, match="row 'c'"):
        vectors = TimeSeriesEncoder(on_error="missing").fit_transform(frame)
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True]


def test_channels_stand_side_by_side_and_their_number_must_agree():
    a, b = np.random.default_rng(0).standard_normal((2, 30))
    both = TimeSeriesEncoder().fit_transform(column([np.stack([a, b]), [list(b), list(a)]]))
    single = TimeSeriesEncoder().fit_transform(column([a, b]))
    assert both.shape == (2, 48)
    assert_array_equal(both[0], np.concatenate(single))
    assert_array_equal(both[1], np.concatenate(single[::-1]))
    with pytest.raises(ValueError, match="several lengths"):
        TimeSeriesEncoder().fit_transform(column([a, np.stack([a, b])]))


def test_what_is_no_series_is_a_bad_row():
    cells = [[1, 2], [], ["a", "b"], "text", np.zeros((2, 2, 2)), [[1, 2], [3]], [1.0, np.inf], np.array([1j])]
    with pytest.raises(EncodingError) as caught:
        TimeSeriesEncoder().fit_transform(column(cells))
    reasons = [row.reason for row in caught.value.rows]
    parts = ["no samples", "values of type", "got str", "got (2, 2, 2)", "inhomogeneous", "1 of its 2", "complex128"]
    for reason, part in zip(reasons, parts, strict=True):
        assert part in reason
    with pytest.raises(ValueError, match=r"not numeric: \['b'\]"):
        TimeSeriesEncoder().fit(pd.DataFrame({"a": [1.0], "b": ["x"]}))


@pytest.mark.parametrize(
    "params", [{"sampling_rate": 0}, {"sampling_rate": "1"}, {"n_bands": 0}, {"n_bands": 2.5}, {"batch_size": -1}]
)
def test_a_wrong_parameter_of_a_series_encoder_is_an_error_with_its_value(params):
    (name, value), *_ = params.items()
    with pytest.raises(ValueError, match=f"{name} must be .*; got {value!r}"):
        TimeSeriesEncoder(**params).fit(column([[1.0, 2.0]]))


# ---------------------------------------------------------------------- functions

FACTOR = 2.0
LOOKUP = {"a": 1.0}


def length_and_words(text):
    return [len(text), text.count(" ") + 1]


def scaled_length(text):
    return helper(text) * FACTOR


def helper(text):
    return float(len(text)) + LOOKUP.get(text, 0)


class Counter:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, text):
        return self.factor * len(text)

    def method(self, text):
        return self.factor * len(text)


def test_a_function_of_one_cell_is_an_encoder():
    vectors = FunctionEncoder(length_and_words).fit_transform({"t": ["a cat", None, "dog"]})
    assert vectors.dtype == np.float32
    assert_array_equal(vectors, [[5, 2], [np.nan, np.nan], [3, 1]])
    assert FunctionEncoder(len).fit_transform({"t": ["a cat"]}).tolist() == [[5]]


def test_an_exception_or_a_wrong_result_is_the_reason_of_a_bad_row():
    results = {
        "ok": 1.0,
        "none": None,
        "text": "x",
        "matrix": np.ones((1, 2)),
        "nan": np.nan,
        "empty": [],
        "huge": 1e99,
    }

    def look_up(text):
        return results[text]

    with pytest.raises(EncodingError) as caught:
        FunctionEncoder(look_up).fit_transform({"t": [*results, "absent"]})
    reasons = [row.reason for row in caught.value.rows]
    parts = ["returned None", "returned a str", "shape (1, 2)", "NaN or infinite", "shape (0,)", "infinite", "KeyError"]
    for reason, part in zip(reasons, parts, strict=True):
        assert part in reason


def test_a_second_call_is_served_from_the_cache_and_an_edited_function_is_not():
    calls = []

    def make(code):
        names = {"calls": None, "__name__": "notebook"}
        exec(code, names)
        return names["f"]

    def count(encoder):
        before = get_cache().n_written
        encoder.fit_transform({"t": ["a", "bb"]})
        calls.append(get_cache().n_written - before)

    count(FunctionEncoder(make("def f(text): return len(text)")))
    count(FunctionEncoder(make("def f(text): return len(text)"), batch_size=1))
    count(FunctionEncoder(make("def f(text): return len(text) + 1")))
    assert calls == [2, 0, 2]


def test_the_global_values_and_functions_that_a_function_uses_are_in_its_recipe(monkeypatch):
    recipe = FunctionEncoder(scaled_length).recipe()
    assert recipe == FunctionEncoder(scaled_length).recipe()
    for name, value in [("FACTOR", 3.0), ("LOOKUP", {"a": 2.0}), ("helper", lambda text: 0.0)]:
        with monkeypatch.context() as patch:
            patch.setitem(globals(), name, value)
            assert FunctionEncoder(scaled_length).recipe() != recipe, name
    with monkeypatch.context() as patch:  # something whose content cannot be told, such as a network
        patch.setitem(globals(), "FACTOR", types.SimpleNamespace())
        assert FunctionEncoder(scaled_length).recipe() is None
        assert FunctionEncoder(scaled_length, version=1).recipe() is not None
    assert FunctionEncoder(scaled_length).recipe() == recipe


def test_what_a_function_encloses_is_in_its_recipe():
    def make(factor, inner):
        return lambda text: factor * inner(text)

    encoders = [FunctionEncoder(make(f, inner)) for f in (1, 2) for inner in (len, helper, scaled_length, Counter)]
    recipes = [encoder.recipe() for encoder in encoders]
    assert len({recipe["params"]["code"] for recipe in recipes}) == len(encoders)
    assert FunctionEncoder(make(1, helper)).recipe() == recipes[1]


@pytest.mark.parametrize("make", [Counter, lambda factor: Counter(factor).method])
def test_an_object_is_cached_only_with_a_version(make):
    texts = {"t": ["a", "bb"]}
    for factor in (2, 3):
        vectors = FunctionEncoder(make(factor)).fit_transform(texts)
        assert_array_equal(vectors, [[factor], [2 * factor]])
    assert get_cache().n_written == 0
    assert FunctionEncoder(make(2)).recipe() is None
    FunctionEncoder(make(2), version="two").fit_transform(texts)
    assert get_cache().n_written == 2
    assert_array_equal(FunctionEncoder(make(3), version="three").fit_transform(texts), [[3], [6]])


def test_the_arguments_of_a_partial_are_in_the_recipe():
    def power(text, exponent):
        return len(text) ** exponent

    square, cube = (FunctionEncoder(functools.partial(power, exponent=e)) for e in (2, 3))
    assert square.recipe() != cube.recipe()
    assert square.recipe() == FunctionEncoder(functools.partial(power, exponent=2)).recipe()
    assert_array_equal(cube.fit_transform({"t": ["aa"]}), [[8]])


def test_strings_are_paths_only_if_said_so(tmp_path):
    def first_byte(path):
        with open(path, "rb") as file:
            return file.read(1)[0]

    a, b = tmp_path / "a.bin", tmp_path / "b.bin"
    a.write_bytes(b"\x05")
    b.write_bytes(b"\x05")
    encoder = FunctionEncoder(first_byte, strings_are_paths=True).fit({"p": [str(a)]})
    assert_array_equal(encoder.transform({"p": [str(a), str(b)]}), [[5], [5]])
    assert get_cache().n_written == 1  # equal content, one key
    a.write_bytes(b"\x07")
    assert_array_equal(encoder.transform({"p": [str(a), str(b)]}), [[7], [5]])
    with pytest.raises(EncodingError, match="no such file"):
        encoder.transform({"p": [str(tmp_path / "none")]})
    assert encoder.recipe() != FunctionEncoder(first_byte).recipe()


@pytest.mark.parametrize(
    "params, message",
    [
        ({"func": 3}, "func must be a function of one cell; got 3"),
        ({"func": len, "strings_are_paths": "yes"}, "strings_are_paths must be True or False; got 'yes'"),
        ({"func": len, "version": 1.5}, "version must be a whole number, a str or None; got 1.5"),
    ],
)
def test_a_wrong_parameter_of_a_function_encoder_is_an_error_with_its_value(params, message):
    with pytest.raises(TypeError, match=message):
        FunctionEncoder(**params).fit({"t": ["a"]})


def test_both_clone_and_pickle_to_under_a_kilobyte():
    function = FunctionEncoder(length_and_words, version=3).fit({"t": ["a"]})
    series = TimeSeriesEncoder(n_bands=3).fit(column([[1.0, 2.0]]))
    for encoder in (function, series):
        assert clone(encoder).get_params() == encoder.get_params()
        pickled = pickle.dumps(encoder)
        assert len(pickled) < 1000
        assert pickle.loads(pickled).n_dims_ == encoder.n_dims_
