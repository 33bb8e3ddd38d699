"""EmbeddingNoise: the noise has the distribution that its bound needs, and what it does not protect is visible."""

import mpmath
import numpy as np
import pandas as pd
import pytest
from conftest import with_checks
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from test_encoder_base import CountingEncoder

from ensemblefuse import (
    DecisionFusionClassifier,
    EmbeddingNoise,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.features._embedding_noise import gaussian_sigma

MECHANISMS = [EmbeddingNoise(epsilon=0.5, clip=2.0), EmbeddingNoise("gaussian", epsilon=0.5, delta=1e-5, clip=2.0)]
both = pytest.mark.parametrize("noise", MECHANISMS, ids=["laplace", "gaussian"])


def draws(noise, X, random_state=0):
    return clone(noise).set_params(random_state=random_state).fit(X).transform(X)


@with_checks(MECHANISMS)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.by_turns
@both
@pytest.mark.parametrize("random_state", [0, None])
def test_the_noise_has_the_distribution_that_is_stated(noise, random_state):
    X = np.zeros((200_000, 1)) + 0.5
    is_laplace = noise.mechanism == "laplace"
    law = stats.laplace if is_laplace else stats.norm
    scale = 2 * 2.0 / 0.5 if is_laplace else gaussian_sigma(0.5, 1e-5, 2 * 2.0)
    Z = draws(noise, X, random_state) - 0.5
    # A false alarm of the draws of the operating system once in a million runs.
    assert stats.kstest(Z[:, 0], law(0, scale).cdf).pvalue > (1e-3 if random_state == 0 else 1e-6)
    assert stats.kstest(Z[:, 0], law(0, 0.95 * scale).cdf).pvalue < 1e-3


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.0, 8.0, 50.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 0.1])
def test_sigma_is_the_least_that_has_this_delta(epsilon, delta):
    sigma, distance = gaussian_sigma(epsilon, delta, 3.0), 3.0
    # Written out from the theorem: the two tails of a normal density at this distance.
    of = lambda s: (
        stats.norm.cdf(distance / (2 * s) - epsilon * s / distance)
        - np.exp(epsilon) * stats.norm.cdf(-distance / (2 * s) - epsilon * s / distance)
    )
    assert of(sigma) == pytest.approx(delta, rel=1e-6, abs=1e-14)
    assert of(sigma * 0.999) > delta


@pytest.mark.parametrize(("epsilon", "delta"), [(1e-12, 1e-12), (1e-9, 1e-12), (0.1, 5e-324), (1e5, 1e-30)])
def test_rounding_does_not_take_from_sigma(epsilon, delta):
    """Where the two tails are nearly equal, or smaller than the least float: the theorem in 60 digits."""
    with mpmath.workdps(60):
        sigma = mpmath.mpf(gaussian_sigma(epsilon, delta, 1.0))
        one, other = 1 / (2 * sigma) - epsilon * sigma, -1 / (2 * sigma) - epsilon * sigma
        assert mpmath.ncdf(one) - mpmath.exp(epsilon) * mpmath.ncdf(other) <= delta


def test_any_two_inputs_are_told_apart_no_better_than_stated():
    """The ratio of the densities of any output under two inputs, from the noise's own scale and clip."""
    rng = np.random.default_rng(0)
    noise = EmbeddingNoise(epsilon=0.7, clip=1.5).fit(np.zeros((1, 8)))
    pairs = np.concatenate([rng.normal(size=(200, 8)) * 10.0 ** rng.integers(-3, 9, (200, 1)), [[9e9] + [0.0] * 7]])
    one, other = noise._clipped(pairs), noise._clipped(-pairs)
    outputs = np.concatenate([rng.laplace(size=(500, 8)) * 20, one, other])
    log_density = lambda centre: -np.abs(outputs[:, None] - centre).sum(axis=2) / noise.scale_
    ratio = np.abs(log_density(one) - log_density(other))
    assert ratio.max() <= 0.7
    assert ratio.max() > 0.7 * (1 - 1e-6)  # and it is reached: no noise is wasted


@both
def test_no_clipped_row_is_longer_than_the_clip(noise):
    X = np.random.default_rng(0).normal(size=(300, 700)) * 10.0 ** np.arange(-100, 200)[:, None]
    order = 1 if noise.mechanism == "laplace" else 2
    clipped = noise._clipped(X)
    assert np.linalg.norm(clipped, ord=order, axis=1).max() <= 2.0
    assert_allclose(np.linalg.norm(clipped[150:200], ord=order, axis=1), 2.0, rtol=1e-8)
    short = X[:50] * 1e40
    assert_array_equal(noise._clipped(short), short)
    with np.errstate(all="raise"):
        assert_array_equal(clone(noise).set_params(clip=10.0)._clipped(np.zeros((1, 3))), np.zeros((1, 3)))


@both
def test_a_missing_row_stays_missing_and_a_gap_is_an_error(noise):
    X = pd.DataFrame(np.ones((4, 3)), index=list("abcd"))
    X.loc["b"] = np.nan
    Z = draws(noise, X)
    assert np.isnan(Z[1]).all() and np.isfinite(Z[[0, 2, 3]]).all()
    X.loc["c", 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN beside numbers, or infinity, in 1 row: \['c'\]"):
        noise.fit(X)


def test_each_release_is_drawn_anew_unless_a_seed_is_given():
    X = np.ones((5, 3))
    noise = EmbeddingNoise().fit(X)
    assert (noise.transform(X) != noise.transform(X)).all()
    assert_array_equal(draws(EmbeddingNoise(), X), draws(EmbeddingNoise(), X))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"mechanism": "exponential"}, "mechanism must be one of"),
        ({"epsilon": 0}, "epsilon must be a number above 0; got 0"),
        ({"epsilon": np.nan}, "epsilon must be"),
        ({"clip": -1.0}, "clip must be a number above 0; got -1.0"),
        ({"delta": 1e-5}, '"laplace" has no delta'),
        ({"mechanism": "gaussian"}, "needs delta, a number between 0 and 1, such as 1e-5; got None"),
        ({"mechanism": "gaussian", "delta": 1.0}, "got 1.0"),
    ],
)
def test_a_parameter_out_of_range_is_an_error(params, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingNoise(**params).fit(np.ones((2, 2)))


def test_it_stands_behind_an_encoder_and_the_cache_keeps_vectors_without_noise(tmp_path):
    n = 40
    X = pd.DataFrame({"title": ["word " * (1 + i % 2) + f"{i}" for i in range(n)], "price": np.arange(n) % 2 + 0.5})
    X.loc[3, "title"] = None
    noisy = make_pipeline(
        CountingEncoder(), EmbeddingNoise("gaussian", epsilon=50, delta=1e-5, clip=20, random_state=0)
    )
    plan = [("text", noisy, "title"), ("tabular", "passthrough", ["price"])]
    model = make_fusion_pipeline(plan, DecisionFusionClassifier(LogisticRegression(), cv=3)).fit(X, np.arange(n) % 2)
    n_encoded = len(CountingEncoder.seen)
    clear = CountingEncoder().fit_transform(X[["title"]])
    assert len(CountingEncoder.seen) == n_encoded  # from the cache
    sent = model[:-1].transform(X)[["text__0", "text__1"]].to_numpy()
    assert np.isnan(sent[3]).all()
    assert 0.1 < np.nanstd(sent - clear) < 20
    loaded = load_model(save_model(model, tmp_path / "model.fuse"), trusted=[CountingEncoder])
    assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    model.set_params(encode__text__embeddingnoise__random_state=None).fit(X, np.arange(n) % 2)
    assert (model.predict_proba(X[:3]) != model.predict_proba(X[:3])).all()
    with pytest.raises(ValueError, match="draws new noise at each prediction"):
        save_model(model, tmp_path / "model.fuse", example=X[:3])
