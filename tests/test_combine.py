"""Combiners against cases with known answers (the numbers T1 ... are those of the methods notes)."""

import numpy as np
import pytest
from conftest import make_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, logit, logsumexp, softmax
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from xgboost import XGBClassifier

from ensemblefuse import (
    DecisionFusionClassifier,
    DempsterShaferPool,
    EntropyPool,
    GreedyPool,
    LogPool,
    MeanPool,
    StackingPool,
    VotePool,
    load_model,
    save_model,
)
from ensemblefuse.combine import BasePool, apply_sigmoid, apply_temperature, fit_sigmoid, fit_temperature, shift_prior
from ensemblefuse.combine.probabilities import log_sum_exp

POOLS = [
    LogPool("equal"),
    LogPool(),
    LogPool(per_class=True, per_pattern=True),
    DempsterShaferPool(),
    EntropyPool(),
    GreedyPool(),
    MeanPool(),
    MeanPool("accuracy"),
    MeanPool("learned"),
    VotePool(),
    VotePool("borda"),
    StackingPool(),
    StackingPool(nonnegative=True),
    StackingPool(RandomForestClassifier(20, random_state=0), input="proba"),
    StackingPool(XGBClassifier(n_estimators=10)),
]
REGRESSION_POOLS = [LogPool(), GreedyPool(), MeanPool(), MeanPool("learned"), StackingPool()]


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


def log_loss_of(fused, y):
    return -np.log(np.maximum(fused[np.arange(len(y)), y], 1e-300)).mean()


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

    assert_allclose(fit_temperature(np.log(P[0]), y), 1.0, atol=0.03)
    mean = MeanPool().fit(P, y).combine(P)
    temperature = fit_temperature(np.log(mean), y)
    assert_allclose(temperature, 0.384, atol=0.015)
    learned = LogPool("learned", alpha=0.0).fit(P, y)
    assert_allclose(learned.weights_, 1.0, atol=0.05)
    pooled = [mean, apply_temperature(mean, temperature), learned.combine(P)]
    assert_allclose([log_loss_of(p, y) for p in pooled], [0.289, 0.210, 0.196], atol=0.005)


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


@pytest.mark.parametrize("space", ["log", "prob"])
@pytest.mark.parametrize("seed", range(3))
def test_t5_greedy_selection_is_at_least_as_good_as_the_best_member(space, seed):
    P, y = toy(n_members=4, random_state=seed)
    P[3] = P[3, ::-1]  # one that is mostly wrong
    pool = GreedyPool(20, space=space).fit(P, y)
    assert_allclose(pool.weights_.sum(), 1)
    counts = pool.weights_ * pool.size_
    assert_allclose(counts, np.round(counts), atol=1e-9)
    assert log_loss_of(pool.combine(P), y) <= min(log_loss_of(p, y) for p in P)
    assert_allclose(log_loss_of(pool.combine(P), y), pool.loss_path_.min(), atol=1e-6)
    assert_allclose(pool.loss_path_[0], min(log_loss_of(p, y) for p in P))
    assert pool.weights_[3] < 0.1 and len(pool.loss_path_) == 20


def test_t5_greedy_selection_in_regression_and_with_members_that_say_the_same():
    rng = np.random.default_rng(0)
    y = rng.normal(size=300)
    P = np.stack([y + rng.normal(size=300), y + rng.normal(size=300), y + 5 * rng.normal(size=300)])
    pool = GreedyPool(40).fit(P, y)
    assert_allclose(pool.weights_, MeanPool("learned").fit(P, y).weights_, atol=0.03)
    assert ((pool.combine(P) - y) ** 2).mean() <= ((P - y) ** 2).mean(axis=1).min()
    # Ties prefer a member that is used already, so a copy gets nothing.
    copied = GreedyPool(40).fit(np.stack([P[0], P[0], P[1]]), y).weights_
    assert copied[0] > 0 and copied[1] == 0


def test_t6_dempster_shafer():
    # {a: .6, all: .4} and {b: .5, all: .5}
    P = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    pool = fit_balanced(DempsterShaferPool([0.6, 0.5]), 2)
    masses, ignorance, conflict = pool.masses(P)
    assert_allclose(masses, [[0.428571, 0.285714]], atol=1e-6)
    assert_allclose([ignorance[0], conflict[0]], [0.285714, 0.3], atol=1e-6)
    assert_allclose(pool.combine(P), [[0.428571 + 0.142857, 0.285714 + 0.142857]], atol=1e-6)
    # Zadeh's case
    zadeh = DempsterShaferPool(1.0).fit(np.full((2, 3, 3), 1 / 3), ["a", "b", "c"])
    Z = np.array([[[0.99, 0.01, 0.0]], [[0.0, 0.01, 0.99]]])
    masses, ignorance, conflict = zadeh.masses(Z)
    assert_allclose(masses, [[0, 1, 0]], atol=1e-12)
    assert_allclose([ignorance[0], conflict[0]], [0, 0.9999], atol=1e-9)
    assert_allclose(zadeh.combine(Z), [[0, 1, 0]], atol=1e-12)
    # The ends: the product rule, and a member that counts for nothing.
    assert_allclose(fit_balanced(DempsterShaferPool(1), 2).combine(two(0.8, 0.6))[0, 0], 0.857143, atol=1e-6)
    assert_allclose(fit_balanced(DempsterShaferPool([1, 0]), 2).combine(two(0.8, 0.6))[0, 0], 0.8)


def test_dempster_shafer_tells_ignorance_from_conflict():
    pool = fit_balanced(DempsterShaferPool(1.0), 2)
    P = np.array([[[1.0, 0.0], [np.nan] * 2, [0.5, 0.5]], [[0.0, 1.0], [np.nan] * 2, [0.5, 0.5]]])
    masses, ignorance, conflict = pool.masses(P)
    assert_allclose(masses, [[0, 0], [0, 0], [0.5, 0.5]])
    assert_allclose(ignorance, [1, 1, 0])
    assert_allclose(conflict, [1, 0, 0.5])


def test_dempster_shafer_reliability_is_the_accuracy_over_the_rows_that_a_member_has():
    P = np.array([[[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [np.nan] * 2], [[0.6, 0.4], [0.4, 0.6], [0.4, 0.6], [0.3, 0.7]]])
    pool = DempsterShaferPool().fit(P, [0, 1, 1, 1], sample_weight=[1, 2, 1, 5])
    assert_allclose(pool.reliability_, [2 / 4, 1.0])


def test_t24_a_member_that_knows_nothing_has_no_weight():
    pool = fit_balanced(EntropyPool(), 2)
    assert_allclose(pool.combine(two(0.9, 0.5)), [[0.9, 0.1]])
    assert_allclose(pool.combine(two(0.5, 0.5)), [[0.5, 0.5]])
    weight = 1 - np.array([0.8, 0.2]) @ -np.log2([0.8, 0.2])  # of a member that says .8; certainty has weight 1
    assert_allclose(pool.combine(two(0.8, 1.0))[0, 0], (0.8 * weight + 1) / (weight + 1))


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


def test_learned_weights_are_where_the_documented_loss_is_least():
    P, y = toy(n=150, n_members=3)
    P = np.stack([apply_temperature(P[0], 3.0), apply_temperature(P[1], 2.0), P[2]])

    def loss(weights, alpha):
        scores = np.einsum("m,mnk->nk", weights, np.log(P)) + (1 - weights.sum()) * np.log(1 / 3)
        penalty = ((weights - weights.mean()) ** 2).sum() + 3 / 5 * (weights.mean() - 1 / 3) ** 2
        return log_loss_of(softmax(scores, axis=1), y) + alpha / 150 * penalty

    for alpha in (0.0, 10.0):
        found = LogPool(alpha=alpha).fit(P, y).weights_
        steps = [*(1e-3 * np.eye(3)), np.full(3, 1e-3)]
        assert all(loss(found, alpha) < min(loss(found + step, alpha), loss(found - step, alpha)) for step in steps)
    # Members that are too sure of themselves: their mean is better than each alone, so the penalty alone decides.
    sure = np.stack([apply_temperature(p, 0.5) for p in toy(n=150, n_members=3)[0]])
    assert_allclose(LogPool(alpha=1e9).fit(sure, y).weights_, 1 / 3, atol=1e-5)
    # One good member among two of noise is better than any mean: it stays alone.
    noise = np.random.default_rng(0).dirichlet(np.ones(P.shape[2]), size=(2, P.shape[1]))
    assert_allclose(LogPool(alpha=1e9).fit(np.stack([P[0], *noise]), y).weights_, [1, 0, 0], atol=1e-5)


def test_smoothing_bounds_what_a_member_that_is_wrong_and_sure_can_do():
    pool = LogPool([1, 1], smoothing=0.02).fit(np.full((2, 4, 2), 0.5), [0, 1, 0, 1])
    # 1 becomes .99 and .5 stays.
    assert_allclose(pool.combine(np.array([[[1.0, 0.0]], [[0.5, 0.5]]])), [[0.99, 0.01]])
    P, y = toy(n=300, n_members=2)
    wrong = P.copy()
    wrong[0, :5] = np.eye(3)[(y[:5] + 1) % 3]  # 5 rows of 300, as of a mislabelled source
    plain, smooth = (LogPool(smoothing=s).fit(wrong[:, :200], y[:200]) for s in (0.0, 0.01))
    assert log_loss_of(smooth.combine(P[:, 200:]), y[200:]) < log_loss_of(plain.combine(P[:, 200:]), y[200:]) - 0.02


def test_weights_of_a_pattern_are_those_of_the_members_alone():
    # Two members that say the same share a weight; where one is absent the other must count for both.
    P, y = toy(n=400, n_members=1)
    both = np.concatenate([P, P])
    alone = LogPool(alpha=0.0).fit(P, y)
    pool = LogPool(alpha=0.0, per_pattern=True).fit(both, y)
    assert_array_equal(pool.patterns_, [[False, True], [True, False], [True, True]])
    assert_allclose(pool.pattern_weights_[0], [0, alone.weights_[0]], atol=1e-5)
    assert_allclose(pool.pattern_weights_[2].sum(), alone.weights_[0], atol=1e-5)
    gap = both.copy()
    gap[0, :] = np.nan
    assert_allclose(pool.combine(gap), alone.combine(P), atol=1e-5)
    shared = LogPool(alpha=0.0).fit(both, y)
    assert log_loss_of(pool.combine(gap), y) < log_loss_of(shared.combine(gap), y) - 0.01
    # Without gaps in fit the weights of complete rows are the overall ones.
    assert_allclose(pool.combine(both), shared.combine(both), atol=1e-5)


@pytest.mark.parametrize("per_class", [False, True])
def test_patterns_that_are_rare_share_weights_learned_with_members_left_out(per_class):
    P, y = toy(n=120)
    P[0, 9:] = np.nan  # 9 rows hold the first member
    pool = LogPool(per_pattern=True, per_class=per_class).fit(P, y)
    assert_array_equal(pool.patterns_, [[False, False, True], [False, True, False], [False, True, True]])
    assert_array_equal(pool._weights_of(np.array([True, False, True]))[0], pool.other_weights_)
    gap = P[:, :9].copy()
    gap[1] = np.nan
    assert log_loss_of(pool.combine(gap), y[:9]) < log_loss_of(np.full((9, 3), 1 / 3), y[:9]) - 0.1
    # A weight of two counts as two rows, in this too.
    weight = np.where(np.arange(120) == 0, 2.0, 1.0)
    assert len(LogPool(per_pattern=True, per_class=per_class).fit(P, y, sample_weight=weight).patterns_) == 7


def test_of_many_members_those_seen_and_each_alone_have_weights_and_the_rest_share_some_that_work():
    # Eight members that say the same: in complete rows each has a small weight, which is too small for three alone.
    P, y = toy(n=300, n_members=1)
    P = np.repeat(P, 8, axis=0)
    pool = LogPool(per_pattern=True).fit(P, y)
    assert_array_equal(pool.patterns_.sum(axis=1), [1] * 8 + [8])
    gap = P.copy()
    gap[3:] = np.nan
    overall = LogPool().fit(P, y)
    assert log_loss_of(pool.combine(gap), y) < log_loss_of(overall.combine(gap), y) - 0.05


def test_the_sets_that_may_occur_can_be_named():
    P, y = toy(n=120, n_members=8)
    sets = np.array([[True] * 8, [True] * 4 + [False] * 4])
    pool = LogPool(per_pattern=True).fit(P, y, patterns=sets)
    assert_array_equal(pool.patterns_, sets)
    half = LogPool().fit(P[:4], y)
    assert_allclose(pool.pattern_weights_[1][:4] @ np.ones(4), half.weights_.sum(), atol=0.2)


def test_weights_per_class_let_a_member_count_for_the_classes_that_it_knows():
    P, y = toy(n=900, n_members=2)
    rng = np.random.default_rng(1)
    # The first member tells class 0 from the rest and guesses among these.
    P[0, :, 1:] = P[0, :, 1:].sum(axis=1, keepdims=True) * rng.dirichlet([1, 1], size=900)
    plain, own = LogPool(alpha=0.0).fit(P, y), LogPool(alpha=0.0, per_class=True).fit(P, y)
    assert own.weights_.shape == (2, 3) and own.weights_[0, 0] > own.weights_[0, 1:].max() + 0.2
    assert log_loss_of(own.combine(P), y) < log_loss_of(plain.combine(P), y) - 0.005
    sure = np.stack([apply_temperature(p, 0.5) for p in toy(n=900, n_members=2)[0]])
    firm = LogPool(alpha=1e9, per_class=True).fit(sure, y)
    assert_allclose(firm.combine(sure), LogPool("equal").fit(sure, y).combine(sure), atol=1e-5)


def test_sigmoid_calibration_is_platts():
    # One probability, right in 8 of 10 rows: all that a sigmoid can reach is the mean of Platt's targets.
    p = np.array([[0.98, 0.02]] * 10)
    y = np.array([0] * 8 + [1] * 2)
    expected = (8 * 9 / 10 + 2 * 1 / 4) / 10
    assert_allclose(apply_sigmoid(p, fit_sigmoid(p, y))[0, 0], expected, atol=1e-4)
    weighted = fit_sigmoid(p[[0, 9]], y[[0, 9]], sample_weight=[8.0, 2.0])
    assert_allclose(apply_sigmoid(p, weighted)[0, 0], expected, atol=1e-4)


def test_sigmoid_calibration_mends_what_is_too_certain_and_stays_finite():
    rng = np.random.default_rng(0)
    P, y = toy(n=3000, n_members=1)
    honest = apply_temperature(P[0], fit_temperature(np.log(P[0]), y))
    mended = apply_sigmoid(apply_temperature(honest, 0.25), fit_sigmoid(apply_temperature(honest, 0.25), y))
    assert log_loss_of(mended, y) < log_loss_of(honest, y) + 0.01
    assert_allclose(mended.sum(axis=1), 1)
    order = rng.permutation(3)
    turned = fit_sigmoid(honest[:, order], np.argsort(order)[y])
    assert_allclose(turned, fit_sigmoid(honest, y)[order], atol=1e-3)
    certain = np.eye(4)[y]  # never wrong, and a class without rows
    coefficients = fit_sigmoid(certain, y)
    assert coefficients.shape == (4, 2) and np.isfinite(coefficients).all()
    assert np.isfinite(np.log(apply_sigmoid(certain, coefficients))).all()


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
def test_pools_find_the_class_that_most_members_see(pool):
    P, y = toy()
    assert (clone(pool).fit(P, y).combine(P).argmax(axis=1) == y).mean() > 0.7


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
    fused = LogPool("equal").fit(P, y).combine(np.array([[1.0], [6.0]]))
    assert_allclose(fused, (1.0 / 1 + 6.0 / 4) / (1 + 1 / 4))
    # One member absent: the other stands alone; a regressor is drawn towards the mean by itself.
    assert_allclose(LogPool("equal").fit(P, y).combine(np.array([[3.0], [np.nan]])), 3.0)


@pytest.mark.parametrize(
    "combiner",
    [
        LogPool(per_class=True, per_pattern=True),
        GreedyPool(),
        DempsterShaferPool(),
        EntropyPool(),
        StackingPool(nonnegative=True),
    ],
    ids=str,
)
def test_fusion_with_a_combiner_survives_a_file(combiner, tmp_path):
    X, y = make_blocks(n=90)
    X.iloc[:20, :6] = np.nan
    model = DecisionFusionClassifier(LogisticRegression(), combiner=combiner, joint=False, cv=3).fit(X, y)
    assert (model.predict(X) == y).mean() > 0.8
    save_model(model, tmp_path / "model.fuse")
    assert_array_equal(load_model(tmp_path / "model.fuse").predict_proba(X), model.predict_proba(X))


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
        (LogPool(smoothing=1), "smoothing must be a number of at least 0 and below 1; got 1"),
        (LogPool(alpha=-1), "alpha must be a number of at least 0; got -1"),
        (LogPool("equal", per_class=True), "per_class=True needs weights=\"learned\"; got weights='equal'"),
        (LogPool([1, 1, 1], per_pattern=True), "per_pattern=True needs weights"),
        (GreedyPool(0), "n_rounds must be an integer of at least 1; got 0"),
        (GreedyPool(space="logit"), "got 'logit'"),
        (DempsterShaferPool("auc"), "got 'auc'"),
        (DempsterShaferPool(1.2), "from 0 to 1 for all 3 members or for each; got 1.2"),
        (DempsterShaferPool([0.5, 0.5]), r"got \[0.5, 0.5\]"),
        (StackingPool(SVC(), nonnegative=True), "use it with estimator=None"),
        (MeanPool("best"), "got 'best'"),
        (MeanPool([1.0]), "3 numbers"),
        (MeanPool([0.0, 0.0, 0.0]), "not all be 0"),
        (VotePool("soft"), "got 'soft'"),
        (StackingPool(input="logits"), "got 'logits'"),
        (StackingPool(SVC()), "predict_proba; SVC has none"),
        (LogPool(class_prior=[0.5, 0.5]), "one positive number per class"),
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
    with pytest.raises(ValueError, match=r"shape \(n_members, n_samples, 3\) as in fit"):
        LogPool().fit(P, y).combine(P[..., 0])
    with pytest.raises(ValueError, match="is for classification: in regression there are no classes"):
        LogPool(per_class=True).fit(P[..., 0], y)


def test_what_is_no_probability_is_refused_with_its_place():
    P, y = toy()
    for value, message in (
        ([2.0, -1.0, 0.0], "sum to 1 over the last axis; row 7 of member 1"),
        ([0.9, 0.9, 0.9], "row 7 of member 1"),
        ([0.5, np.nan, 0.5], "NaN or infinity in row 7 of member 1"),
        ([0.5, np.inf, 0.5], "NaN or infinity in row 7 of member 1"),
    ):
        bad = P.copy()
        bad[1, 7] = value
        with pytest.raises(ValueError, match=message):
            MeanPool().fit(bad, y)
        with pytest.raises(ValueError, match=message):
            MeanPool().fit(P, y).combine(bad)


def test_labels_weights_and_rows_that_teach_nothing_are_refused():
    P, y = toy()
    with pytest.raises(ValueError, match=r"labels that are not in classes: \[2\]"):
        LogPool().fit(P, y, classes=[0, 1, 5])
    for weight in (np.ones(3), -np.ones(len(y)), np.zeros(len(y)), np.full(len(y), np.nan)):
        with pytest.raises(ValueError, match="sample_weight must be 120 numbers of at least 0"):
            LogPool().fit(P, y, sample_weight=weight)
    with pytest.raises(ValueError, match="no prediction in any of its 120 rows"):
        LogPool().fit(np.full_like(P, np.nan), y)
    with pytest.raises(ValueError, match="at least 2 classes; got 1"):
        LogPool().fit(np.ones((2, 5, 1)), np.zeros(5))


def test_log_sum_exp_is_scipys():
    rng = np.random.default_rng(0)
    for scores in (rng.normal(size=(50, 4)), 1e3 * rng.normal(size=(50, 1)), np.round(rng.normal(size=(50, 3)))):
        scores[::7, 0] = -700.0
        assert_allclose(log_sum_exp(scores), logsumexp(scores, axis=1), rtol=1e-13, atol=1e-13)


# ---------------------------------------------------------------------- weights by name, pools of one's own


@pytest.mark.parametrize(
    "pool, numbers",
    [
        (MeanPool, [0.5, 0.2, 0.3]),
        (LogPool, [0.5, 0.2, 0.3]),
        (DempsterShaferPool, [0.9, 0.5, 0.4]),
    ],
)
def test_numbers_may_be_named_by_member(pool, numbers, tmp_path):
    X, y = make_blocks(n=90)
    names = ["image", "text", "audio"]
    named = dict(zip(reversed(names), reversed(numbers), strict=True))  # the order of a dict does not matter
    models = [
        DecisionFusionClassifier(LogisticRegression(), combiner=pool(given), joint=False, cv=2).fit(X, y)
        for given in (named, numbers)
    ]
    assert_allclose(*[model.predict_proba(X) for model in models])
    again = load_model(save_model(models[0], tmp_path / "m"))
    assert_allclose(again.predict_proba(X), models[0].predict_proba(X))
    with_joint = DecisionFusionClassifier(LogisticRegression(), combiner=pool({**named, "joint": 0.1}), cv=2).fit(X, y)
    assert with_joint.combiner_.n_members_ == 4
    P = np.full((3, 2, 2), 0.5)
    assert clone(pool(named)).fit(P, ["a", "b"], names=names).n_members_ == 3
    with pytest.raises(ValueError, match="is a dict, but the members have no names here; pass names= to fit"):
        pool(named).fit(P, ["a", "b"])


@pytest.mark.parametrize("pool", [MeanPool, LogPool, DempsterShaferPool])
@pytest.mark.parametrize(
    "given, message",
    [
        ({"image": 1, "text": 1, "sound": 1, "joint": 1}, r"names \['sound'\], which are no members and has no number"),
        (
            {"image": 1, "text": 1, "audio": 1},
            r"has no number for \['joint'\]. joint=False leaves the joint member out",
        ),
        ({"image": -1, "text": 1, "audio": 1, "joint": 1}, "must be"),
        ({"image": "much", "text": 1, "audio": 1, "joint": 1}, "must be"),
    ],
)
def test_wrong_names_are_told_with_the_right_ones(pool, given, message):
    X, y = make_blocks(n=60)
    with pytest.raises(ValueError, match=message):
        DecisionFusionClassifier(LogisticRegression(), combiner=pool(given), cv=2).fit(X, y)


class Shaped(BasePool):
    """Returns whatever `result` makes of P."""

    def __init__(self, result=None):
        self.result = result

    def _fit(self, P, y, mask, weight):
        pass

    def _combine(self, P, mask):
        return self.result(P)


@pytest.mark.parametrize(
    "result, message",
    [
        (
            lambda P: P.mean(axis=1),
            r"which is \(4, 3\) here; got \(2, 3\) from P of shape \(2, 4, 3\)",
        ),
        (lambda P: P, r"got \(2, 4, 3\) from P"),
        (lambda P: P[0, :, 0], r"got \(4,\) from P"),
        (lambda P: None, r"got \(\) from P"),
        (lambda P: P.sum(axis=0), "probabilities that sum to 1 in each row; 4 of 4 rows hold something else"),
        (lambda P: P[0] * np.nan, "such as row 0: .nan nan nan."),
    ],
    ids=["over the rows", "nothing", "one class", "None", "sums", "NaN"],
)
def test_a_pool_of_ones_own_that_breaks_its_promise_is_told_with_its_name(result, message):
    P = np.full((2, 4, 3), 1 / 3)
    pool = Shaped(result).fit(P, [0, 1, 2, 0])
    with pytest.raises(ValueError, match=r"Shaped\._combine must return .*" + message):
        pool.combine(P)
    right = Shaped(lambda P: P.mean(axis=0)).fit(P, [0, 1, 2, 0])
    assert_allclose(right.combine(P), 1 / 3)
    absent = P.copy()
    absent[:, 1] = np.nan
    assert_allclose(right.combine(absent)[1], right.prior_)  # NaN in a row without a member is replaced


def test_a_pool_of_numbers_of_ones_own_is_checked_too():
    P = np.arange(8.0).reshape(2, 4)
    with pytest.raises(
        ValueError, match=r"shape \(n_samples,\), which is \(4,\) here; got \(2,\) from P of shape \(2, 4\)"
    ):
        Shaped(lambda P: P.mean(axis=1)).fit(P, P[0]).combine(P)
    with pytest.raises(ValueError, match="must return finite numbers; 1 of 4 rows"):
        Shaped(lambda P: np.where(P[0] == 2, np.inf, P[0])).fit(P, P[0]).combine(P)
    with pytest.raises(TypeError, match="must return an array of numbers; got list"):
        Shaped(lambda P: ["a", "b", "c", "d"]).fit(P, P[0]).combine(P)


def test_a_pool_without_its_hooks_is_told_which_before_anything_is_fitted():
    class Hollow(BasePool):
        def _fit(self, P, y, mask, weight):
            pass

    class Counting(LogisticRegression):
        fits = 0

        def fit(self, *args, **kwargs):
            type(self).fits += 1
            return super().fit(*args, **kwargs)

    X, y = make_blocks(n=30)
    with pytest.raises(NotImplementedError, match=r"Hollow does not define _combine\. .* help\(BasePool\)"):
        DecisionFusionClassifier(Counting(), combiner=Hollow()).fit(X, y)
    assert Counting.fits == 0
    assert "(n_members, n_samples, n_classes)" in BasePool.__doc__
