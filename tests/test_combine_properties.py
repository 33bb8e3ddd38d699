"""What holds of every combiner, on tables drawn by hypothesis. A new pool is found and must be named here."""

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge

from ensemblefuse import (
    BasePool,
    DempsterShaferPool,
    EntropyPool,
    GreedyPool,
    LogPool,
    MeanPool,
    StackingPool,
    VotePool,
    combine,
    load_model,
    save_model,
)

POOLS = {
    "DempsterShaferPool": [DempsterShaferPool(), DempsterShaferPool(0.6), DempsterShaferPool(1.0)],
    "EntropyPool": [EntropyPool()],
    "GreedyPool": [GreedyPool(10), GreedyPool(10, space="prob")],
    "LogPool": [
        LogPool(),
        LogPool("equal"),
        LogPool(per_class=True),
        LogPool(per_pattern=True),
        LogPool(per_class=True, per_pattern=True),
    ],
    "MeanPool": [MeanPool(), MeanPool("accuracy"), MeanPool("learned")],
    "StackingPool": [
        StackingPool(),
        StackingPool(nonnegative=True),
        StackingPool(nonnegative=True, input="proba"),
        StackingPool(LogisticRegression(tol=1e-8, max_iter=2000), input="proba"),
    ],
    "VotePool": [VotePool(), VotePool("borda")],
}
REGRESSION_POOLS = {
    "GreedyPool": [GreedyPool(10)],
    "LogPool": [LogPool(), LogPool("equal"), LogPool(per_pattern=True)],
    "MeanPool": [MeanPool(), MeanPool("learned")],
    "StackingPool": [StackingPool(), StackingPool(nonnegative=True), StackingPool(Ridge())],
}


def every(table):
    return pytest.mark.parametrize("pool", [pool for pools in table.values() for pool in pools], ids=str)


# The gaps are drawn, so that some are new to a stacker.
pytestmark = pytest.mark.filterwarnings("ignore::ensemblefuse.MissingModalityWarning")
few = settings(max_examples=5, deadline=None)
tables = st.builds(
    lambda seed, n_members, n_classes, gaps: table(seed, n_members, n_classes, gaps),
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.integers(2, 5),
    st.sampled_from([0.0, 0.3]),
)


def table(seed, n_members=3, n_classes=3, gaps=0.0, n=40):
    """P with NaN where a member is absent, and labels of all classes."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % n_classes)
    scores = rng.normal(size=(n_members, n, n_classes))
    scores[:, np.arange(n), y] += rng.uniform(0, 2, size=(n_members, 1))
    P = np.exp(scores) / np.exp(scores).sum(axis=2, keepdims=True)
    P[rng.random((n_members, n)) < gaps] = np.nan
    return P, y


def numbers(P, y):
    """The same gaps in a regression."""
    rng = np.random.default_rng(len(P))
    target = y + rng.normal(size=len(y))
    return np.where(np.isnan(P[..., 0]), np.nan, target + rng.normal(size=P.shape[:2])), target


def fused(pool, P, y, new=None, **kwargs):
    return clone(pool).fit(P, y, **kwargs).combine(P if new is None else new)


def agree(a, b):
    assert_allclose(a, b, atol=2e-5)


def test_every_pool_is_in_the_table():
    found = {name for name in combine.__all__ if isinstance(getattr(combine, name), type)} - {"BasePool"}
    assert found == set(POOLS)
    assert all(isinstance(pool, getattr(combine, name)) for name, pools in POOLS.items() for pool in pools)
    assert all(issubclass(getattr(combine, name), BasePool) for name in found)


def test_pools_that_are_not_for_regression_say_so():
    for name in set(POOLS) - set(REGRESSION_POOLS):
        with pytest.raises(ValueError, match=f"{name} .*use MeanPool or LogPool in regression"):
            POOLS[name][0].fit(*numbers(*table(0)))


@every(POOLS)
@few
@given(tables)
def test_rows_are_probabilities(pool, data):
    result = fused(pool, *data)
    assert result.shape == data[0].shape[1:]
    assert_allclose(result.sum(axis=1), 1)
    assert ((result >= 0) & (result <= 1)).all()


@every(POOLS)
@few
@given(tables, st.randoms())
def test_the_order_of_members_does_not_matter(pool, data, random):
    P, y = data
    order = random.sample(range(len(P)), len(P))
    agree(fused(pool, P[order], y), fused(pool, P, y))


@every(POOLS)
@few
@given(tables, st.randoms())
def test_the_order_of_classes_does_not_matter(pool, data, random):
    P, y = data
    order = random.sample(range(P.shape[2]), P.shape[2])
    agree(fused(pool, P[..., order], np.argsort(order)[y]), fused(pool, P, y)[:, order])


@every(POOLS)
@few
@given(tables, st.randoms())
def test_a_row_of_weight_two_is_a_row_twice_and_one_of_weight_zero_is_none(pool, data, random):
    P, y = data
    # Every class keeps a row, or the prior of the repeated table would lack it.
    weight = np.array([random.choice([0, 1, 2]) for _ in y])
    weight[[np.flatnonzero(y == k)[0] for k in np.unique(y)]] = 1
    rows = np.repeat(np.arange(len(y)), weight)
    agree(fused(pool, P, y, sample_weight=weight.astype(float)), fused(pool, P[:, rows], y[rows], P))


@every(POOLS)
@few
@given(st.integers(0, 10_000))
def test_nan_says_the_same_as_mask_whatever_lies_under_it(pool, seed):
    P, y = table(seed, gaps=0.3)
    mask = ~np.isnan(P[..., 0])
    fitted = clone(pool).fit(np.where(mask[..., None], P, -7.0), y, mask)
    agree(fitted.combine(np.where(mask[..., None], P, np.inf), mask), fused(pool, P, y))


@every(POOLS)
@few
@given(tables)
def test_a_row_without_members_gets_the_prior(pool, data):
    P, y = data
    nothing = np.full((len(P), 2, P.shape[2]), np.nan)
    assert_allclose(fused(pool, P, y, nothing), np.tile(np.bincount(y) / len(y), (2, 1)), atol=1e-12)


@every(POOLS)
@few
@given(tables)
def test_probabilities_of_exactly_zero_and_one(pool, data):
    P, y = data
    hard = np.where(np.isnan(P), np.nan, np.nan_to_num(P, nan=-1.0).max(axis=2, keepdims=True) == P)
    for first, second in ((hard, hard), (P, hard), (hard, P)):
        result = fused(pool, first, y, second)
        assert np.isfinite(result).all()
        assert_allclose(result.sum(axis=1), 1)
        assert ((result >= 0) & (result <= 1)).all()


@pytest.mark.parametrize(
    "pool",
    [LogPool("equal"), DempsterShaferPool(1.0), *POOLS["MeanPool"], *POOLS["GreedyPool"], *POOLS["EntropyPool"]],
    ids=str,
)
@few
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_one_member_whose_weight_is_one_is_the_pool(pool, seed, n_classes):
    P, y = table(seed, 1, n_classes)
    agree(fused(pool, P, y), P[0])


@every(POOLS)
def test_pickle_clone_and_file_give_the_same(pool, tmp_path):
    P, y = table(0, gaps=0.3)
    labels = np.array(["ant", "bee", "cat", "dog", "eel"])[y]
    fitted = clone(pool).fit(P, labels)
    assert fitted.classes_.tolist() == sorted(set(labels))
    expected = fitted.combine(P)
    assert_array_equal(pickle.loads(pickle.dumps(fitted)).combine(P), expected)
    assert_array_equal(clone(fitted).fit(P, labels).combine(P), expected)
    save_model(fitted, tmp_path / "pool.fuse")
    assert_array_equal(load_model(tmp_path / "pool.fuse").combine(P), expected)


@every(REGRESSION_POOLS)
@few
@given(tables, st.randoms())
def test_regression_members_in_any_order_weights_as_rows_gaps_as_masks(pool, data, random):
    P, y = numbers(*data)
    expected = fused(pool, P, y)
    assert np.isfinite(expected).all()
    order = random.sample(range(len(P)), len(P))
    agree(fused(pool, P[order], y), expected)
    weight = np.array([random.choice([0, 1, 2]) for _ in y])
    weight[:2] = 1
    rows = np.repeat(np.arange(len(y)), weight)
    agree(fused(pool, P, y, sample_weight=weight.astype(float)), fused(pool, P[:, rows], y[rows], P))
    mask = ~np.isnan(P)
    agree(clone(pool).fit(np.where(mask, P, 7.0), y, mask).combine(np.where(mask, P, np.inf), mask), expected)
    assert_allclose(fused(pool, P, y, np.full((len(P), 2), np.nan)), y.mean())


@every(REGRESSION_POOLS)
@few
@given(tables, st.floats(0.01, 100), st.floats(-10, 10))
def test_regression_follows_the_unit_of_y(pool, data, scale, shift):
    P, y = numbers(*data)
    if isinstance(pool, StackingPool):  # the penalty of a second level has a unit
        scale = 1.0
    agree(fused(pool, shift + scale * P, shift + scale * y) / scale, (shift + scale * fused(pool, P, y)) / scale)


@every(REGRESSION_POOLS)
def test_regression_pickle_and_file(pool, tmp_path):
    P, y = numbers(*table(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = clone(pool).fit(P, y)
    save_model(fitted, tmp_path / "pool.fuse")
    for again in (pickle.loads(pickle.dumps(fitted)), load_model(tmp_path / "pool.fuse")):
        assert_array_equal(again.combine(P), fitted.combine(P))
