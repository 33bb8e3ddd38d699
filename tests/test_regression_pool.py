"""Learned weights of regression: known answers, gaps, units, and no fusion that is worse than its best block."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.tree import DecisionTreeRegressor

from ensemblefuse import DecisionFusionRegressor, LogPool

pytestmark = pytest.mark.all_rounds


def cross_fitted(pool, P, y, folds=5):
    """Predictions of a pool that was fitted without the row."""
    fused = np.empty(len(y))
    for train, test in KFold(folds, shuffle=True, random_state=1).split(y):
        fused[test] = clone(pool).fit(P[:, train], y[train]).combine(P[:, test])
    return fused


def noisy(y, *spreads, seed=0):
    rng = np.random.default_rng(100 + seed)  # another stream than that of y
    return np.stack([y + spread * rng.normal(size=len(y)) for spread in spreads])


def test_equal_members_get_equal_weights():
    y = np.random.default_rng(1).normal(size=300)
    error = np.random.default_rng(2).normal(size=300)
    error -= error @ y / (y @ y) * y
    P = np.stack([y + error, y - error])
    weights = LogPool().fit(P, y).weights_
    assert_allclose(weights[0], weights[1], rtol=1e-6)
    assert_allclose(weights.sum(), 1, atol=0.02)


def test_a_duplicate_shares_the_weight_of_its_twin():
    y = np.random.default_rng(0).normal(size=400)
    P = noisy(y, 0.5, 1.0)
    alone = LogPool().fit(P, y)
    twins = LogPool().fit(P[[0, 0, 1]], y)
    assert_allclose(twins.weights_[0], twins.weights_[1], rtol=1e-6)
    assert_allclose(twins.weights_[:2].sum(), alone.weights_[0], atol=0.02)
    assert_allclose(twins.combine(P[[0, 0, 1]]), alone.combine(P), atol=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_a_useless_member_costs_nothing(seed):
    rng = np.random.default_rng(seed)
    y = rng.normal(5, 3, size=400)
    P = np.vstack([noisy(y, 2.0, seed=seed), rng.normal(5, 3, size=(2, 400))])
    weights = LogPool().fit(P, y).weights_
    assert weights[0] > 0.5
    assert (weights[1:] < 0.1).all()
    assert r2_score(y, cross_fitted(LogPool(), P, y)) >= r2_score(y, P[0]) - 0.005


def test_beside_an_honest_member_a_useless_one_counts_for_nothing():
    gains, weights = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        signal, useless = rng.normal(5, 3, size=400), rng.normal(5, 1, size=(2, 400))
        y = signal + rng.normal(0, 2, size=400)
        P = np.vstack([signal, useless])  # as of a model that knows the signal: nothing to shrink
        weights.append(LogPool().fit(P, y).weights_[1:])
        gains.append(r2_score(y, cross_fitted(LogPool(), P, y)) - r2_score(y, P[0]))
    # In one table of ten or so a useless member looks useful by chance, and costs a little more than .005 there.
    assert np.mean(gains) >= -0.005
    assert min(gains) >= -0.01
    assert np.median(weights) == 0
    assert np.mean(np.max(weights, axis=1) == 0) > 0.6


def test_a_member_that_contradicts_y_gets_no_weight():
    y = np.random.default_rng(0).normal(size=300)
    P = np.stack([noisy(y, 0.7)[0], -y + np.random.default_rng(3).normal(size=300)])
    assert_allclose(LogPool().fit(P, y).weights_[1], 0, atol=1e-9)


def test_independent_members_are_weighted_by_their_precision():
    y = np.random.default_rng(0).normal(0, 20, size=20_000)
    weights = LogPool().fit(noisy(y, 1.0, 2.0), y).weights_
    assert_allclose(weights, [0.8, 0.2], atol=0.01)


def test_members_that_add_up_have_a_sum_above_one():
    rng = np.random.default_rng(0)
    a, b, noise = rng.normal(size=(3, 2000))
    y = a + b + 0.3 * noise
    pool = LogPool().fit(np.stack([a, b]), y)
    assert_allclose(pool.weights_, 1, atol=0.03)
    assert r2_score(y, pool.combine(np.stack([a, b]))) > 0.94


def test_a_biased_member_gets_an_intercept():
    y = np.random.default_rng(0).normal(10, 2, size=500)
    P = noisy(y, 0.5)
    pool = LogPool().fit(P + 7, y)
    assert_allclose(pool.combine(P + 7), LogPool().fit(P, y).combine(P), atol=0.2)
    assert pool.bias_[0] < -6
    assert LogPool().fit(P, y).bias_[0] == 0  # the simpler form is as good


@pytest.mark.parametrize("pool", [LogPool(), LogPool(per_pattern=True)], ids=str)
@pytest.mark.parametrize("factor, shift", [(1e9, 0.0), (1e-9, 0.0), (3.0, 1e6), (-2.0, 5.0)])
def test_the_unit_and_the_zero_of_y_do_not_matter(pool, factor, shift):
    y = np.random.default_rng(0).normal(size=200)
    P = noisy(y, 0.5, 1.0, 3.0)
    P[1, ::3] = np.nan
    plain, other = clone(pool).fit(P, y), clone(pool).fit(factor * P + shift, factor * y + shift)
    assert_allclose(other.weights_, plain.weights_, atol=1e-5)
    assert_allclose((other.combine(factor * P + shift) - shift) / factor, plain.combine(P), atol=1e-4)


def test_each_set_of_present_members_has_weights_of_its_own():
    rng = np.random.default_rng(0)
    y = rng.normal(size=600)
    P = noisy(y, 0.3, 0.6, 5.0)
    P[:, :200][:, rng.random(200) < 0.5] = np.nan
    P[0, 200:400] = np.nan
    pool = LogPool(per_pattern=True).fit(P, y)
    assert len(pool.patterns_) == 7
    new = np.array([[np.nan], [2.0], [np.nan]])
    # The weaker member stands alone: nearly as it is, with the shrinkage that its own error asks for.
    assert_allclose(pool.combine(new), 2.0 / (1 + 0.36), atol=0.35)
    assert abs(pool.combine(np.array([[np.nan], [np.nan], [2.0]]))[0]) < 0.4
    assert_allclose(pool.combine(np.full((3, 1), np.nan)), y.mean())


def test_a_set_that_no_row_held_is_predicted_from_all_rows():
    y = np.random.default_rng(0).normal(size=12)
    P = noisy(y, 0.3, 0.3)
    P[0, :8], P[1, 4:] = np.nan, np.nan  # no set has 10 rows
    pool = LogPool(per_pattern=True).fit(P, y)
    assert len(pool.patterns_) == 0
    assert np.isfinite(pool.combine(np.array([[1.0, np.nan, 1.0], [1.0, 1.0, np.nan]]))).all()


def test_weights_count_as_repeated_rows():
    y = np.random.default_rng(0).normal(size=60)
    P, times = noisy(y, 0.5, 1.0, 4.0), np.random.default_rng(1).integers(0, 4, size=60)
    weighted = LogPool().fit(P, y, sample_weight=times)
    repeated = LogPool().fit(np.repeat(P, times, axis=1), np.repeat(y, times))
    assert_allclose(weighted.weights_, repeated.weights_, atol=1e-7)
    order = np.random.default_rng(2).permutation(60)
    assert_allclose(LogPool().fit(P[:, order], y[order], sample_weight=times[order]).weights_, weighted.weights_)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_few_rows_give_weights_close_to_equal(n):
    y = np.arange(float(n))
    P = noisy(y, 0.5, 0.5, 0.5)
    weights = LogPool().fit(P, y).weights_
    assert_allclose(weights, 1 / 3, atol=0.25)


def test_constant_members_and_targets_and_exact_members_are_no_trouble():
    y = np.random.default_rng(0).normal(4, 1, size=100)
    constant = np.full(100, 4.0)
    pool = LogPool().fit(np.stack([y, constant]), y)
    assert_allclose(pool.combine(np.stack([y, constant])), y, atol=1e-3)
    assert_allclose(LogPool().fit(np.stack([y, y]), y).weights_, 0.5, atol=1e-4)  # exact twins share, too
    assert_allclose(LogPool(alpha=0.0).fit(np.full((2, 100), y.mean()), y).combine(np.zeros((2, 1))), 0, atol=8)
    level = LogPool().fit(np.stack([constant, constant]), constant)
    assert_allclose(level.combine(np.stack([constant, constant])), 4.0)
    assert_allclose(LogPool().fit(constant[None], y).combine(constant[None]), y.mean(), atol=0.2)


def test_without_a_penalty_the_weights_are_non_negative_least_squares():
    from scipy.optimize import nnls

    rng = np.random.default_rng(0)
    y = rng.normal(size=400)
    P = np.stack([0.5 * y + 0.1 * rng.normal(size=400), rng.normal(size=400), 0.2 * y + 0.3 * rng.normal(size=400)])
    pool = LogPool(alpha=0.0).fit(P, y)
    centre = y.mean() if pool.bias_[0] == 0 else P.mean(axis=1, keepdims=True)
    assert_allclose(pool.weights_, nnls((P - centre).T, y - y.mean())[0], atol=1e-6)


def test_a_pool_from_a_file_of_before_goes_on_weighting_by_precision():
    y = np.random.default_rng(0).normal(size=50)
    P = noisy(y, 0.5, 1.0)
    before = LogPool().fit(P, y)
    state = {"weights_": np.full(2, 0.5), "variance_": before.variance_, "prior_": before.prior_, "n_members_": 2}
    old = LogPool()
    old.__setstate__({**old.get_params(), **state})
    assert_allclose(old.combine(P), LogPool("equal").fit(P, y).combine(P))


def test_given_weights_after_learned_ones_forget_them():
    y = np.random.default_rng(0).normal(size=50)
    P = noisy(y, 0.5, 1.0)
    again = LogPool().fit(P, y).set_params(weights="equal").fit(P, y)
    assert_allclose(again.combine(P), LogPool("equal").fit(P, y).combine(P))


# ---------------------------------------------------------------------- in a fusion


def frame(blocks):
    parts = [pd.DataFrame(b, columns=[f"{name}__{i}" for i in range(b.shape[1])]) for name, b in blocks.items()]
    return pd.concat(parts, axis=1)


def useless_blocks(seed, n=300):
    rng = np.random.default_rng(seed)
    good = rng.normal(size=(n, 3))
    y = good @ [1.0, -0.5, 0.5] + rng.normal(size=n)
    return {"good": good, "noise": rng.normal(size=(n, 15)), "flat": 3 + 1e-3 * rng.normal(size=(n, 2))}, y


def additive_blocks(seed, n=300):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, 4)), rng.normal(size=(n, 10))
    return {"a": a, "b": b}, a.sum(axis=1) + b[:, :5].sum(axis=1) + 2 * rng.normal(size=n)


def repeated_blocks(seed, n=300):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 3))
    blocks = {name: z + spread * rng.normal(size=z.shape) for name, spread in (("a", 0.5), ("b", 1.0), ("c", 2.0))}
    return blocks, z.sum(axis=1) + rng.normal(size=n)


def diabetes(seed):
    data = load_diabetes()
    order = np.random.default_rng(seed).permutation(len(data.target))
    X, y = data.data[order], data.target[order]
    return {"person": X[:, :2], "body": X[:, 2:4], "blood": X[:, 4:]}, y


def gain(head, make, seed, joint):
    """Return how much more R2 the fusion has than its best block, out of fold."""
    blocks, y = make(seed)
    model = DecisionFusionRegressor(head, joint=joint).fit(frame(blocks), y)
    alone = [
        r2_score(y, p) for p, name in zip(model.oof_predictions_, model.member_names_, strict=True) if name in blocks
    ]
    return r2_score(y, model.oof_fused_) - max(alone)


@pytest.mark.by_turns
@pytest.mark.parametrize("joint", [True, False], ids=["joint", "no joint"])
@pytest.mark.parametrize(
    "head", [Ridge(), KNeighborsRegressor(15), DecisionTreeRegressor(max_depth=5, random_state=0)], ids=str
)
@pytest.mark.parametrize("make", [useless_blocks, additive_blocks, repeated_blocks, diabetes])
def test_a_fusion_is_not_worse_than_its_best_block(make, head, joint):
    # The best block of one table is best by chance, too, so single tables may be a little lower.
    gains = [gain(head, make, seed, joint) for seed in range(4)]
    assert np.mean(gains) >= -0.005
    assert min(gains) >= -0.02


def test_the_promise_holds_on_rows_that_the_fit_never_saw():
    blocks, y = useless_blocks(seed=2, n=400)
    X = frame(blocks)
    cv = KFold(4, shuffle=True, random_state=0)
    score = lambda columns: r2_score(y, cross_val_predict(DecisionFusionRegressor(Ridge()), X[columns], y, cv=cv))
    assert score(list(X)) >= score(["good__0", "good__1", "good__2"]) - 0.01


def test_a_block_that_is_useless_in_every_way_is_left_alone():
    blocks, y = useless_blocks(seed=3)
    heads = {"flat": DummyRegressor(), "noise": DecisionTreeRegressor(random_state=0), "good": Ridge()}
    model = DecisionFusionRegressor(heads, joint=False).fit(frame(blocks), y)
    weights = dict(zip(model.member_names_, model.combiner_.weights_, strict=True))
    assert weights["good"] > 0.7
    assert weights["noise"] < 0.1


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 5e-3, 1 / 120, 1.0])
def test_the_scale_of_small_weights_does_not_matter(scale):
    rng = np.random.default_rng(0)
    y = rng.normal(size=120)
    P = np.stack([y + 0.5 * rng.normal(size=120), rng.normal(size=120), y + rng.normal(size=120)])
    weight = rng.uniform(0.2, 1.0, 120)
    pools = [LogPool().fit(P, y, sample_weight=w) for w in (weight, weight * scale)]
    np.testing.assert_allclose(pools[0].weights_, pools[1].weights_, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1 / 120])
def test_nor_does_it_in_classification(scale):
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    scores = rng.normal(size=(3, 120, 3)) + np.eye(3)[y]
    P = np.exp(scores) / np.exp(scores).sum(axis=2, keepdims=True)
    P[rng.random((3, 120)) < 0.2] = np.nan
    weight = rng.uniform(0.2, 1.0, 120)
    weight /= weight.mean()
    pools = [LogPool(per_pattern=True).fit(P, y, sample_weight=w) for w in (weight, weight * scale)]
    assert len(pools[1].patterns_) == 7
    np.testing.assert_allclose(pools[0].pattern_weights_, pools[1].pattern_weights_, atol=1e-6)


def test_fewer_rows_than_members_give_a_mean():
    y = np.array([1.0, 2.0])
    weights = LogPool().fit(np.stack([y + k for k in (-1, 0.5, 2, 3, 1)]), y).weights_
    assert np.isfinite(weights).all() and (weights >= 0).all()
