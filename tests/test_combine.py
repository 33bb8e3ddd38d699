"""Combiners against cases with known answers (the numbers T1 ... are those of the methods notes)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

from ensemblefuse import LogPool, MeanPool, StackingPool, VotePool
from ensemblefuse.combine import apply_temperature, fit_temperature, shift_prior

POOLS = [
    LogPool("equal"),
    LogPool(),
    MeanPool(),
    MeanPool("accuracy"),
    MeanPool("learned"),
    VotePool(),
    VotePool("borda"),
    StackingPool(),
    StackingPool(RandomForestClassifier(20, random_state=0), input="proba"),
]
REGRESSION_POOLS = [LogPool(), MeanPool(), MeanPool("learned"), StackingPool()]


def two(*p):
    """Binary probabilities of the members, one row."""
    return np.array([[[q, 1 - q]] for q in p])


def fit_balanced(pool, n_members, labels=("a", "b")):
    return pool.fit(np.full((n_members, 2, 2), 0.5), list(labels))


def toy(n=120, n_classes=3, n_members=3, random_state=0):
    rng = np.random.default_rng(random_state)
    y = np.arange(n) % n_classes
    scores = rng.normal(size=(n_members, n, n_classes))
    scores[:, np.arange(n), y] += 1.5
    P = np.exp(scores)
    return P / P.sum(axis=2, keepdims=True), y


def test_t1_geometric_mean_of_two_members():
    P = two(0.8, 0.6)
    assert_allclose(fit_balanced(LogPool("equal"), 2).combine(P)[0, 0], 0.7101020514, atol=1e-9)
    assert_allclose(fit_balanced(LogPool("equal"), 2).combine(P)[0, 0], expit((logit(0.8) + logit(0.6)) / 2))
    assert_allclose(fit_balanced(MeanPool(), 2).combine(P)[0, 0], 0.70)


def test_t2_log_pool_with_unit_weights_is_the_posterior_of_independent_members():
    assert_allclose(fit_balanced(LogPool([1, 1]), 2).combine(two(0.8, 0.6))[0, 0], 0.857143, atol=1e-6)
    # x_m | y ~ N(+-1, 1), and a prior of 3/4: each member says expit(2 x + b), both together expit(2 (x1 + x2) + b).
    b = np.log(3)
    pool = LogPool([1, 1]).fit(np.full((2, 4, 2), 0.5), [0, 1, 1, 1])
    x = np.random.default_rng(0).normal(size=(2, 50))
    member = expit(2 * x + b)
    fused = pool.combine(np.stack([1 - member, member], axis=2))
    assert_allclose(fused[:, 1], expit(2 * x.sum(axis=0) + b), atol=1e-9)


def test_t3_pooling_calibrated_members_needs_no_temperature_but_the_mean_does():
    rng = np.random.default_rng(0)
    y = np.arange(40_000) % 2
    p = expit(2 * (rng.normal(size=(2, len(y))) + 2 * y - 1))
    P = np.stack([1 - p, p], axis=2)

    def nll(proba):
        return -np.log(proba[np.arange(len(y)), y]).mean()

    assert_allclose(fit_temperature(np.log(P[0]), y), 1.0, atol=0.03)
    mean = MeanPool().fit(P, y).combine(P)
    temperature = fit_temperature(np.log(mean), y)
    assert_allclose(temperature, 0.384, atol=0.015)
    learned = LogPool("learned", alpha=0.0).fit(P, y)
    assert_allclose(learned.weights_, 1.0, atol=0.05)
    losses = [nll(mean), nll(apply_temperature(mean, temperature)), nll(learned.combine(P))]
    assert_allclose(losses, [0.289, 0.210, 0.196], atol=0.005)


@pytest.mark.parametrize(
    "members, y, weights",
    [
        ([[0.8, 0.2], [0.2, 0.8]], None, [0.5, 0.5]),
        ([[0.9, 0.8], [0.5, 0.4]], None, [1.0, 0.0]),
        ([[0.9, 0.3], [0.5, 0.6]], None, [0.375, 0.625]),
    ],
)
def test_t4_learned_weights_of_the_linear_pool(members, y, weights):
    # members[m][i]: the probability that member m gives to the true class of row i.
    p = np.array(members)
    P = np.stack([p, 1 - p], axis=2)
    P[:, 1] = P[:, 1, ::-1]  # row 1 is of the second class
    assert_allclose(MeanPool("learned").fit(P, [0, 1]).weights_, weights, atol=1e-4)


def test_t7_temperature_of_a_constant_margin():
    assert_allclose(fit_temperature([[4.0, 0.0]] * 10, [0] * 8 + [1] * 2), 4 / logit(0.8), rtol=1e-5)
    assert_allclose(4 / logit(0.8), 2.885390, atol=1e-6)


def test_t19_prior_shift():
    shifted = shift_prior([[0.3, 0.7]], [0.5, 0.5], [0.8, 0.2])
    assert_allclose(shifted[0, 0], 0.631579, atol=1e-6)
    pool = fit_balanced(LogPool(class_prior={"a": 0.8, "b": 0.2}), 1)
    assert_allclose(pool.combine(two(0.3))[0, 0], 0.631579, atol=1e-6)
    assert_allclose(pool.combine(np.full((1, 1, 2), np.nan)), [[0.8, 0.2]])


def test_t26_learned_weights_absorb_a_temperature_and_share_out_duplicates():
    P, y = toy(n=3000, n_members=2)
    plain = LogPool("learned", alpha=0.0).fit(P, y)
    cooled = np.stack([apply_temperature(P[0], 2.0), P[1]])
    again = LogPool("learned", alpha=0.0).fit(cooled, y)
    assert_allclose(again.weights_, plain.weights_ * [2, 1], rtol=0.01)
    assert_allclose(again.combine(cooled), plain.combine(P), atol=0.01)
    doubled = np.stack([P[0], P[0], P[1]])
    shared = LogPool("learned", alpha=0.0).fit(doubled, y).weights_
    assert_allclose([shared[:2].sum(), shared[2]], plain.weights_, rtol=0.01)


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_t27_a_row_without_members_gets_the_prior_exactly(pool):
    P, y = toy()
    y = np.where(np.arange(len(y)) < 30, 0, y)
    fitted = clone(pool).fit(P, y)
    assert_allclose(fitted.combine(np.full((3, 2, 3), np.nan)), np.tile(np.bincount(y) / len(y), (2, 1)), atol=1e-12)


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_t28_a_full_mask_changes_nothing(pool):
    P, y = toy()
    mask = np.ones(P.shape[:2], dtype=bool)
    assert_allclose(clone(pool).fit(P, y).combine(P), clone(pool).fit(P, y, mask).combine(P, mask))


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_nan_and_mask_say_the_same(pool):
    P, y = toy()
    mask = np.random.default_rng(1).random(P.shape[:2]) > 0.4
    holes = np.where(mask[..., None], P, np.nan)
    by_mask = clone(pool).fit(P, y, mask).combine(P, mask)
    by_nan = clone(pool).fit(holes, y).combine(holes)
    assert_allclose(by_mask, by_nan)


@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_output_is_a_probability_and_follows_a_permutation_of_members_and_classes(pool):
    P, y = toy()
    fused = clone(pool).fit(P, y).combine(P)
    assert_allclose(fused.sum(axis=1), 1)
    assert (fused >= 0).all()
    assert (fused.argmax(axis=1) == y).mean() > 0.7
    if not isinstance(pool, StackingPool):  # a forest is not equivariant
        assert_allclose(clone(pool).fit(P[::-1], y).combine(P[::-1]), fused, atol=1e-4)
        turned = clone(pool).fit(P[..., ::-1], 2 - y).combine(P[..., ::-1])
        assert_allclose(turned[:, ::-1], fused, atol=1e-4)


@pytest.mark.parametrize("pool", [p for p in POOLS if "Forest" not in str(p)], ids=str)
def test_a_weight_of_two_is_a_row_twice(pool):
    P, y = toy()
    weight = np.ones(len(y))
    weight[:40] = 2
    rows = np.r_[np.arange(len(y)), np.arange(40)]
    weighted = clone(pool).fit(P, y, sample_weight=weight).combine(P)
    assert_allclose(weighted, clone(pool).fit(P[:, rows], y[rows]).combine(P), atol=1e-4)


def test_votes_count_first_choices_and_break_ties_by_the_mean():
    P = np.array([[[0.9, 0.1]], [[0.4, 0.6]], [[0.45, 0.55]]])
    assert fit_balanced(VotePool(), 3).combine(P).argmax() == 1
    assert fit_balanced(VotePool(), 2).combine(P[:2]).argmax() == 0


def test_borda_adds_up_ranks():
    # Two members prefer class 0 narrowly over 1; one ranks 0 last.
    P = np.array([[[0.5, 0.4, 0.1]], [[0.5, 0.4, 0.1]], [[0.1, 0.5, 0.4]]])
    pool = VotePool("borda").fit(np.full((3, 3, 3), 1 / 3), [0, 1, 2])
    # Points: class 0: 2 + 2 + 0, class 1: 1 + 1 + 2, class 2: 0 + 0 + 1; the mean decides between 0 and 1.
    points = np.array([4, 4, 1]) + 0.01 * P.mean(axis=0)[0]
    assert_allclose(pool.combine(P)[0], points / points.sum())


@pytest.mark.parametrize("pool", REGRESSION_POOLS, ids=str)
def test_regression_pools_follow_the_better_member_and_fall_back_to_the_mean(pool):
    rng = np.random.default_rng(0)
    y = rng.normal(3, 2, size=400)
    P = np.stack([y + 0.3 * rng.normal(size=400), y + 3 * rng.normal(size=400)])
    fitted = clone(pool).fit(P, y)
    error = ((fitted.combine(P) - y) ** 2).mean()
    if pool.get_params().get("weights") == "equal":
        assert error < ((P[1] - y) ** 2).mean()
    else:
        assert error < 1.1 * ((P[0] - y) ** 2).mean()
    assert_allclose(fitted.combine(np.full((2, 3), np.nan)), y.mean())


def test_regression_log_pool_is_the_precision_weighted_mean():
    y = np.array([0.0, 0.0, 2.0, 2.0])
    P = np.stack([y + np.array([1, -1, 1, -1]), y + np.array([2, -2, 2, -2])]).astype(float)  # variances 1 and 4
    fused = LogPool().fit(P, y).combine(np.array([[1.0], [6.0]]))
    assert_allclose(fused, (1.0 / 1 + 6.0 / 4) / (1 + 1 / 4))
    # One member absent: the other stands alone; a regressor is drawn towards the mean by itself.
    assert_allclose(LogPool().fit(P, y).combine(np.array([[3.0], [np.nan]])), 3.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5), st.floats(0.3, 3))
def test_pools_of_equal_members_agree_with_each_member(ps, temperature):
    P = two(*[ps[0]] * len(ps))
    for pool in (LogPool("equal"), MeanPool()):
        assert_allclose(fit_balanced(pool, len(ps)).combine(P)[0, 0], ps[0], atol=1e-9)
    back = apply_temperature(apply_temperature(P[0], temperature), 1 / temperature)
    assert_allclose(back, P[0], atol=1e-6)


@pytest.mark.parametrize(
    "pool, message",
    [
        (LogPool("best"), "got 'best'"),
        (MeanPool("best"), "got 'best'"),
        (MeanPool([1.0]), "3 numbers"),
        (MeanPool([0.0, 0.0, 0.0]), "not all be 0"),
        (VotePool("soft"), "got 'soft'"),
        (StackingPool(input="logits"), "got 'logits'"),
        (StackingPool(SVC()), "predict_proba; SVC has none"),
        (LogPool(class_prior=[0.5, 0.5]), "one positive number a class"),
        (LogPool(class_prior={0: 1, 1: 1, 7: 1}), "must name the classes"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named_with_its_value(pool, message):
    P, y = toy()
    with pytest.raises(ValueError, match=message):
        pool.fit(P, y)


def test_shapes_that_disagree_are_refused():
    P, y = toy()
    with pytest.raises(ValueError, match="y must have shape"):
        LogPool().fit(P, y[:-1])
    with pytest.raises(ValueError, match="2 classes, but P has 3 columns"):
        LogPool().fit(P, np.minimum(y, 1))
    with pytest.raises(ValueError, match="mask must have shape"):
        LogPool().fit(P, y, np.ones((2, 2), dtype=bool))
    with pytest.raises(ValueError, match="fitted with 3 members"):
        LogPool().fit(P, y).combine(P[:2])
    with pytest.raises(ValueError, match="use MeanPool or LogPool"):
        VotePool().fit(P[..., 0], y)
