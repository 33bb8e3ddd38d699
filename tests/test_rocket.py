"""TimeSeriesEncoder(features="rocket"): kernels from a seed, each series by itself, gaps by rule."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ensemblefuse import EncodingError, FeatureFusionClassifier, TimeSeriesEncoder, load_model, save_model
from ensemblefuse.compose import make_fusion_pipeline
from ensemblefuse.encoders import _rocket
from ensemblefuse.encoders._rocket import rocket_features

RNG = np.random.default_rng(0)
WAVES = [RNG.standard_normal(n) for n in (1, 2, 6, 7, 8, 11, 40, 300)]


def encoder(**params):
    return TimeSeriesEncoder(features="rocket", **{"n_kernels": 60} | params)


def by_definition(series, n_kernels, seed):
    """Every convolution written out, sample by sample."""
    kernels = _rocket._draw(n_kernels, len(series), seed)
    n = series.shape[1]
    shares, maxima = [], []
    for k in range(n_kernels):
        length = int(kernels.lengths[k])
        first = (11 - length) // 2
        weights = kernels.weights[k][:, first : first + length]
        dilation = max(1, int((max(n - 1, 1) / (length - 1)) ** kernels.exponents[k]))
        reach = dilation * (length - 1) // 2
        margin = 0 if kernels.padded[k] or 2 * reach >= n else reach
        out = []
        for t in range(margin, n - margin):
            places = [t - reach + j * dilation for j in range(length)]
            inside = [j for j in range(length) if 0 <= places[j] < n]
            out.append(sum(weights[:, j] @ series[:, places[j]] for j in inside) + kernels.biases[k])
        shares.append(np.mean(np.array(out) > 0))
        maxima.append(max(out))
    return np.array(shares + maxima)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (1, 7), (1, 60), (3, 25), (20, 12)])
def test_the_features_are_those_of_the_definition(shape):
    series = np.random.default_rng(1).standard_normal(shape)
    assert_allclose(rocket_features(series, n_kernels=40, seed=3), by_definition(series, 40, 3), atol=1e-12)


def test_long_series_are_convolved_in_blocks(monkeypatch):
    series = np.random.default_rng(1).standard_normal((2, 500))
    whole = rocket_features(series, n_kernels=50, seed=0)
    monkeypatch.setattr(_rocket, "_BLOCK", 37)
    assert_allclose(rocket_features(series, n_kernels=50, seed=0), whole, atol=1e-12)


def test_kernels_are_drawn_as_in_the_paper():
    kernels = _rocket._draw(3000, 1, 0)
    assert_allclose(kernels.weights.sum(axis=2), 0, atol=1e-12)
    assert_allclose([(kernels.lengths == length).mean() for length in (7, 9, 11)], 1 / 3, atol=0.03)
    assert np.abs(kernels.biases).max() <= 1 and abs(kernels.biases.std() - 3**-0.5) < 0.02
    assert 0.45 < kernels.padded.mean() < 0.55
    read = (_rocket._draw(3000, 6, 0).weights != 0).any(axis=2).sum(axis=1)
    assert set(read) == {1, 2, 3, 4, 5, 6} and (read == 1).mean() > (read == 6).mean()


def test_a_row_has_one_vector_whatever_stands_beside_it():
    together = encoder(batch_size=64).fit_transform({"s": WAVES})
    for i, wave in enumerate(WAVES):
        assert_array_equal(encoder(batch_size=1).fit_transform({"s": [wave]})[0], together[i])
    assert together.shape == (len(WAVES), 122) and np.isfinite(together).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_scale_and_level_change_only_the_numbers_that_say_them(seed, n_samples, scale, level):
    series = np.random.default_rng(seed).standard_normal(n_samples)
    one, other = encoder().fit_transform({"s": [series, scale * series + level]})
    assert_allclose(other[60:120], one[60:120], atol=1e-4)
    assert (np.abs(other[:60] - one[:60]) > 1e-4).sum() <= 1  # a convolution may be within rounding of 0
    assert_allclose(other[120:], [scale * series.mean() + level, scale * series.std()], rtol=1e-3, atol=1e-3)


def test_the_seed_and_the_number_of_kernels_are_in_the_recipe_and_what_changes_nothing_is_not():
    one = encoder().fit_transform({"s": WAVES})
    assert not np.allclose(encoder(random_state=1).fit_transform({"s": WAVES}), one)
    recipes = [encoder(**p).recipe() for p in ({}, {"random_state": 1}, {"n_kernels": 61}, {"gaps": "interpolate"})]
    assert all(a != b for i, a in enumerate(recipes) for b in recipes[:i])
    assert encoder(sampling_rate=5, n_bands=3, batch_size=2).recipe() == recipes[0]
    assert TimeSeriesEncoder(n_kernels=3, random_state=9).recipe() == TimeSeriesEncoder().recipe()
    assert TimeSeriesEncoder().recipe() != recipes[0]


def test_kernels_do_not_touch_the_global_seed():
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    _rocket._draw.cache_clear()
    encoder().fit_transform({"s": WAVES})
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_kernels_tell_shapes_apart_that_have_one_spectrum():
    """A rising saw tooth and a falling one."""
    rng = np.random.default_rng(0)
    saws, y = [], []
    for i in range(40):
        phase, n = rng.uniform(), int(rng.integers(60, 120))
        saw = (np.arange(n) / 20 + phase) % 1
        saws.append((saw if i % 2 else -saw) + 0.05 * rng.standard_normal(n))
        y.append(i % 2)
    X = encoder(n_kernels=200).fit_transform({"s": saws})
    assert cross_val_score(make_pipeline(StandardScaler(), RidgeClassifier()), X, y, cv=4).mean() > 0.95


def test_gaps_are_bad_rows_or_lie_on_the_line_between_their_neighbours():
    straight = np.arange(20.0)
    holes = straight.copy()
    holes[[3, 4, 9]] = np.nan
    ends = np.array([np.nan, 1, 2, np.nan, np.nan])
    for features in ("rocket", "statistics"):
        filling = TimeSeriesEncoder(features=features, n_kernels=20, gaps="interpolate")
        out = filling.fit_transform({"s": [straight, holes, ends, [1, 1, 2, 2, 2]]})
        assert_allclose(out[1], out[0], atol=1e-5)
        assert_allclose(out[2], out[3], atol=1e-6)
        with pytest.raises(EncodingError, match=r"row 1.*3 of its 20 values are NaN") as caught:
            TimeSeriesEncoder(features=features, n_kernels=20).fit_transform({"s": [straight, holes]})
        assert len(caught.value.rows) == 1
        two = np.stack([straight, np.full(20, np.nan)])
        for bad in ([np.nan, np.inf, 1.0], two, np.full(3, np.nan)):
            with pytest.raises(EncodingError, match="NaN or infinite"):
                filling.fit_transform({"s": [bad]})
    assert np.isnan(holes[3])  # the table is left as it was


def test_constant_short_and_huge_series_have_finite_vectors():
    cells = [[3.0], [0.1] * 7, np.zeros(50), np.full(3, 1e30), [1e-300, 2e-300, 0], 1e30 * WAVES[6]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = encoder().fit_transform({"s": cells})
    assert np.isfinite(out).all() and out[0, -2:].tolist() == [3, 0]
    with pytest.raises(EncodingError, match="NaN or infinite"):
        encoder().fit_transform({"s": [1e200 * WAVES[6]]})


def test_channels_must_agree_and_many_of_them_are_a_transposed_array():
    assert encoder().fit_transform({"s": [np.ones((3, 9)), np.ones((3, 4))]}).shape == (2, 126)
    with pytest.raises(ValueError, match="several lengths"):
        encoder().fit_transform({"s": [np.ones((3, 9)), np.ones((2, 9))]})
    with pytest.raises(EncodingError, match="600 channels of 2 samples; is the array transposed"):
        encoder().fit_transform({"s": [np.ones((600, 2))]})


@pytest.mark.parametrize(
    "params", [{"features": "minirocket"}, {"n_kernels": 0}, {"random_state": None}, {"gaps": "zero"}], ids=str
)
def test_a_wrong_parameter_is_an_error_with_its_value(params):
    (name, value), *_ = params.items()
    with pytest.raises(ValueError, match=f"{name} must be .*; got {value!r}"):
        TimeSeriesEncoder(**params).fit({"s": [[1.0, 2.0]]})


def test_a_saved_model_has_the_same_kernels(tmp_path):
    X, y = {"s": [RNG.standard_normal(12) for _ in range(12)]}, [0, 1] * 6
    model = make_fusion_pipeline([("series", encoder(), "s")], FeatureFusionClassifier(RidgeClassifier())).fit(X, y)
    save_model(model, tmp_path / "m.fuse")
    _rocket._draw.cache_clear()
    assert_array_equal(load_model(tmp_path / "m.fuse").decision_function(X), model.decision_function(X))
