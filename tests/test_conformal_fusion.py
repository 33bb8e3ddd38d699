"""Conformal sets and intervals: quantiles with known answers, coverage, and what a user relies on."""

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import every_pair, make_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, PredefinedSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import SVC
from xgboost import XGBClassifier

from ensemblefuse import (
    CascadeFusionClassifier,
    ConformalFusionClassifier,
    ConformalFusionRegressor,
    CooperativeRegressor,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    FusionSearchCV,
    KernelFusionRegressor,
    LogPool,
    MeanPool,
    MissingModalityWarning,
    SequentialFusionRegressor,
    load_model,
    save_model,
)
from ensemblefuse.fusion._conformal_quantiles import conformal_quantile, label_scores
from ensemblefuse.fusion.patterns import oof_predictions

pytestmark = pytest.mark.usefixtures("little_effort")

N_TRAIN, N_TEST = 600, 2000

# The default fusion tries several estimators a block; the tests of other things do without.
LINEAR = DecisionFusionClassifier(LogisticRegression())
RIDGE = DecisionFusionRegressor(Ridge())


def drop_block(X, name, rows):
    X = X.copy()
    X.loc[X.index[rows], [c for c in X.columns if c.startswith(f"{name}__")]] = np.nan
    return X


def numbers(n, random_state=0):
    """Blocks that each carry part of a number."""
    X, _ = make_blocks(n=n, n_classes=2, noise=1.0, random_state=random_state)
    rng = np.random.default_rng(random_state)
    return X, X.to_numpy() @ rng.normal(size=X.shape[1]) + rng.normal(size=n)


def hits(model, X, y, **options):
    return model.predict_set(X, **options)[np.arange(len(y)), np.searchsorted(model.classes_, y)]


def standard_error(n_test, n_calibration, rate=0.1):
    """Of measured coverage: the binomial law of the new rows, and the beta law of the quantile."""
    return np.sqrt(rate * (1 - rate) * (1 / n_test + 1 / n_calibration))


# ---------------------------------------------------------------------- quantiles and scores


def test_t18_quantile_of_finite_samples():
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 20.0))
    assert conformal_quantile(scores, 0.9) == 18
    assert conformal_quantile(scores, 0.95) == 19
    assert conformal_quantile(scores, 0.96) == np.inf
    assert conformal_quantile(scores[scores < 10], 0.95) == np.inf
    assert conformal_quantile(scores[scores < 10], 0.9) == 9
    assert conformal_quantile(scores[scores < 10], 1 - 0.7) == 3  # 10 * (1 - 0.7) is more than 3 in floating point
    assert conformal_quantile(np.empty(0), 0.5) == np.inf


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.01, 0.99), st.floats(0.1, 10))
@settings(max_examples=200, deadline=None)
def test_equal_weights_are_none_and_rows_of_weight_zero_are_absent(scores, level, weight):
    scores = np.array(scores)
    plain = conformal_quantile(scores, level)
    assert conformal_quantile(scores, level, np.full(len(scores), weight)) == plain
    with_absent = np.r_[scores, 0.0, 5.0]
    assert conformal_quantile(with_absent, level, np.r_[np.ones(len(scores)), 0, 0]) == plain


def test_weighted_quantile():
    # Total 7 and a new row of mean weight 1.75: 0.5 * 8.75 = 4.375 is reached at the third score.
    assert conformal_quantile(np.array([0.1, 0.2, 0.3, 0.4]), 0.5, np.array([1.0, 1, 3, 2])) == 0.3
    assert conformal_quantile(np.array([0.1, 0.2, 0.3, 0.4]), 0.5, np.array([5.0, 1, 1, 1])) == 0.1


def test_scores_of_labels():
    P = np.array([[0.2, 0.5, 0.3]])
    assert_allclose(label_scores(P, "lac", None), [[0.8, 0.5, 0.7]])
    assert_allclose(label_scores(P, "aps", np.array([0.0])), [[0.8, 0.0, 0.5]])
    assert_allclose(label_scores(P, "aps", np.array([0.5])), [[0.9, 0.25, 0.65]])
    tied = label_scores(np.array([[0.25, 0.25, 0.5]]), "aps", np.array([1.0]))
    assert_allclose(tied, [[0.75, 1.0, 0.5]])


def test_aps_scores_of_true_classes_are_uniform_if_the_probabilities_are_right():
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(4), size=20_000)
    y = (P.cumsum(axis=1) < rng.random(len(P))[:, None]).sum(axis=1)
    scores = label_scores(P, "aps", rng.random(len(P)))[np.arange(len(P)), y]
    assert_allclose(np.quantile(scores, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.015)


# ---------------------------------------------------------------------- the same as MAPIE


class PassOn(ClassifierMixin, BaseEstimator):
    """X is the matrix of probabilities."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return X

    def predict(self, X):
        return self.classes_[X.argmax(axis=1)]


class PassNumberOn(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        return X[:, 0]


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("n_calibration", [41, 200])
@pytest.mark.parametrize("method", ["lac", "aps"])
def test_same_sets_as_mapie(method, n_calibration, alpha):
    classification = pytest.importorskip("mapie.classification")
    rng = np.random.default_rng(3)
    P = rng.dirichlet(np.ones(3), size=n_calibration + 300)
    y = (P.cumsum(axis=1) < rng.random(len(P))[:, None]).sum(axis=1)
    old, new = slice(0, n_calibration), slice(n_calibration, None)
    other = classification.SplitConformalClassifier(
        PassOn().fit(P, y), confidence_level=1 - alpha, conformity_score=method, prefit=True, random_state=7
    ).conformalize(P[old], y[old])
    last = {"conformity_score_params": {"include_last_label": "randomized"}} if method == "aps" else {}
    expected = other.predict_set(P[new], **last)[1][:, :, 0]
    # MAPIE subtracts u p from the sum that holds p, so its u is our 1 - u, drawn anew from the seed for the new rows.
    u = lambda n: 1 - np.random.RandomState(7).uniform(size=n)
    scores = label_scores(P[old], method, u(n_calibration))[np.arange(n_calibration), y[old]]
    ours = label_scores(P[new], method, u(300)) <= conformal_quantile(scores, 1 - alpha) + 1e-6
    assert_array_equal(ours, expected)


def test_same_sets_as_mapie_on_the_out_of_fold_probabilities_of_a_fusion():
    classification = pytest.importorskip("mapie.classification")
    X, y = make_blocks(n=500, noise=1.6)
    model = ConformalFusionClassifier(LINEAR).fit(X[:300], y[:300])
    other = classification.SplitConformalClassifier(PassOn().fit(None, y), confidence_level=0.9, prefit=True)
    other.conformalize(model.fusion_.oof_proba_.astype(float), y[:300])
    expected = other.predict_set(model.predict_proba(X[300:]))[1][:, :, 0]
    assert_array_equal(model.predict_set(X[300:]), expected)


def test_same_intervals_as_mapie():
    regression = pytest.importorskip("mapie.regression")
    X, y = numbers(400)
    model = ConformalFusionRegressor(FeatureFusionRegressor(), cv=KFold(4)).fit(X[:300], y[:300])
    held_out = np.concatenate(
        [
            FeatureFusionRegressor().fit(X.iloc[train], y[train]).predict(X.iloc[test])
            for train, test in [(np.setdiff1d(np.arange(300), t), t) for t in np.split(np.arange(300), 4)]
        ]
    )
    other = regression.SplitConformalRegressor(PassNumberOn().fit(None, None), confidence_level=0.9, prefit=True)
    other.conformalize(held_out[:, None], y[:300])
    expected = other.predict_interval(model.predict(X[300:])[:, None])[1][:, :, 0]
    assert_allclose(model.predict_interval(X[300:]), expected)


# ---------------------------------------------------------------------- coverage


@pytest.mark.parametrize(
    "fusion",
    [
        pytest.param(None, marks=pytest.mark.slow),
        pytest.param(FeatureFusionClassifier(), marks=pytest.mark.slow),
        DecisionFusionClassifier(LogisticRegression()),
        FeatureFusionClassifier(LogisticRegression()),
    ],
    ids=["decision", "feature", "decision of quick heads", "feature with a quick head"],
)
@pytest.mark.parametrize("method", ["lac", "aps"])
def test_coverage_of_new_rows(method, fusion):
    X, y = make_blocks(n=N_TRAIN + N_TEST, noise=1.6, random_state=1)
    model = ConformalFusionClassifier(fusion, method=method, random_state=0).fit(X[:N_TRAIN], y[:N_TRAIN])
    for level in (None, 0.8):
        target = level or 0.9
        coverage = hits(model, X[N_TRAIN:], y[N_TRAIN:], confidence_level=level).mean()
        # The model of all rows is a little better than those of the folds, so there is a second tolerance above.
        low, high = np.array([-1, 1]) * 4 * standard_error(N_TEST, N_TRAIN, 1 - target) + [0, 0.03]
        assert target + low < coverage < target + high


def with_two_patterns(seed):
    """Rows of fit and new rows, as slices of one table; four in ten hold the weakest block alone."""
    X, y = make_blocks(n=3 * N_TRAIN + N_TEST, noise=1.6, random_state=seed)
    lost = np.random.default_rng(seed + 100).random(len(X)) < 0.4
    X = drop_block(drop_block(X, "image", lost), "text", lost)
    return X, y, lost, slice(0, 3 * N_TRAIN), slice(3 * N_TRAIN, None)


def test_coverage_of_every_pattern_of_missing_blocks():
    X, y, lost, old, new = with_two_patterns(2)
    model = ConformalFusionClassifier(LINEAR).fit(X[old], y[old])
    assert model.patterns_.tolist() == [[False, False, True], [True, True, True]]
    counts = np.bincount(model.calibration_patterns_)
    weak, strong = model.pattern_quantiles_
    assert strong < model.quantile_ < weak
    shared = clone(model).set_params(per_pattern=False).fit(X[old], y[old])
    assert_array_equal(shared.pattern_quantiles_, shared.quantile_)
    for p, rows in enumerate((lost[new], ~lost[new])):
        error = 4 * standard_error(rows.sum(), counts[p])
        assert abs(hits(model, X[new], y[new])[rows].mean() - 0.9) < error


def test_one_quantile_for_all_patterns_is_paid_by_the_rows_that_lack_most():
    gaps = []
    for seed in range(4):
        X, y, lost, old, new = with_two_patterns(seed)
        apart, shared = (
            ConformalFusionClassifier(LINEAR, per_pattern=per_pattern).fit(X[old], y[old])
            for per_pattern in (True, False)
        )
        covered = [hits(model, X[new], y[new])[lost[new]].mean() for model in (apart, shared)]
        gaps.append(covered[0] - covered[1])
    assert min(gaps) > 0 and np.mean(gaps) > 0.05


def test_rare_patterns_share_a_quantile_that_is_not_too_small_for_any_of_them():
    X, y = make_blocks(n=3 * N_TRAIN + N_TEST, noise=1.6, random_state=2)
    rng = np.random.default_rng(0)
    lost = rng.random((len(X), 2)) < 0.045
    for name, rows in zip(("image", "text"), lost.T, strict=True):
        X = drop_block(X, name, rows)
    old, new = slice(0, 3 * N_TRAIN), slice(3 * N_TRAIN, None)
    model = ConformalFusionClassifier(LINEAR).fit(X[old], y[old])
    rare = ~model.own_quantile_
    assert rare.sum() == 3 and (np.bincount(model.calibration_patterns_)[rare] < 100).all()
    of_rare = rare[model.calibration_patterns_]
    shared = conformal_quantile(model.calibration_scores_[of_rare], 0.9)
    assert (model.pattern_quantiles_[rare] >= shared).all() and shared > model.quantile_
    covered = hits(model, X[new], y[new])
    for which in ([True, False], [False, True], [True, True]):
        rows = (lost[new] == which).all(axis=1)
        there = (lost[old] == which).all(axis=1).sum()
        assert covered[rows].mean() > 0.9 - 4 * standard_error(rows.sum(), max(there, 100))


@pytest.mark.parametrize("fusion", [RIDGE, FeatureFusionRegressor(Ridge())], ids=["decision", "feature"])
def test_coverage_of_intervals(fusion):
    n = 3 * N_TRAIN
    X, y = numbers(n + 2 * N_TEST)
    rows = np.arange(len(X)) % 3 == 0
    X = drop_block(X, "image", rows)
    model = ConformalFusionRegressor(fusion).fit(X[:n], y[:n])
    X, y, rows = X[n:], y[n:], rows[n:]
    low, high = model.predict_interval(X).T
    for there in (rows, ~rows, np.full(len(X), True)):
        coverage = ((low <= y) & (y <= high))[there].mean()
        assert abs(coverage - 0.9) < 4 * standard_error(there.sum(), n * there.mean())
    assert_allclose((low + high) / 2, model.predict(X))
    half = np.unique(((high - low) / 2).round(6))
    assert_allclose(half, sorted(model.pattern_quantiles_), rtol=1e-4)
    assert (model.predict_interval(X, confidence_level=0.7)[:, 0] > model.predict_interval(X)[:, 0]).all()


def unequal(n, random_state=3):
    """One block that tells nearly all, one that tells some, and one that tells little; classes, and numbers."""
    rng = np.random.default_rng(random_state)
    codes = rng.integers(0, 4, n)
    blocks = {
        f"{name}__{i}": size * (codes == i) + rng.normal(size=n)
        for name, size in (("text", 3.0), ("image", 1.2), ("audio", 0.6))
        for i in range(4)
    }
    return pd.DataFrame(blocks), np.array(["a", "b", "c", "d"])[codes], codes + 0.3 * rng.normal(size=n)


def covers(model, X, y, level):
    """Whether each row's set or interval holds the truth, and whether it excludes nothing."""
    with pytest.warns(MissingModalityWarning) if not model.is_calibrated(X).all() else warnings.catch_warnings():
        if isinstance(model, ConformalFusionRegressor):
            low, high = model.predict_interval(X, confidence_level=level).T
            return (low <= y) & (y <= high), np.isinf(low) & np.isinf(high)
        sets = model.predict_set(X, confidence_level=level)
    return sets[np.arange(len(y)), np.searchsorted(model.classes_, y)], sets.all(axis=1)


COMBINATIONS = [["audio"], ["image"], ["text"], ["text", "image"], ["text", "audio"], ["image", "audio"]]


@pytest.mark.by_turns
@pytest.mark.parametrize("n_seen", [0, 3, 30])
@pytest.mark.parametrize("method", ["lac", "aps", "interval"])
def test_coverage_of_combinations_that_fit_saw_rarely_or_never(method, n_seen):
    n = 800
    X, labels, values = unequal(n + N_TEST)
    fit_on = drop_block(X[:n], "text", np.arange(n_seen))
    if method == "interval":
        model, y = ConformalFusionRegressor(RIDGE, cv=3), values
    else:
        head = DecisionFusionClassifier(LogisticRegression(), cv=3)
        model, y = ConformalFusionClassifier(head, method=method, random_state=0), labels
    model.fit(fit_on, y[:n])
    for gone in COMBINATIONS:
        new = X[n:]
        for name in gone:
            new = drop_block(new, name, np.arange(N_TEST))
        for level in (0.7, 0.9, 0.95):
            covered, whole = covers(model, new, y[n:], level)
            n_calibration = n_seen if gone == ["text"] and n_seen == 30 else n
            low = level - 4 * standard_error(N_TEST, n_calibration, 1 - level)
            assert covered.mean() > low
            if gone != ["text"] or n_seen == 0:  # not by excluding nothing
                assert covered.mean() < level + 4 * standard_error(N_TEST, n, 1 - level) + 0.03
                assert not whole.all()


@pytest.mark.parametrize(
    "fusion",
    [
        FeatureFusionClassifier(LogisticRegression()),
        DecisionFusionClassifier(LogisticRegression(), missing="impute"),
        CascadeFusionClassifier(LogisticRegression()),
        FeatureFusionRegressor(Ridge()),
        KernelFusionRegressor(0.1),
    ],
    ids=lambda fusion: type(fusion).__name__,
)
def test_nothing_is_excluded_where_no_block_can_be_hidden(fusion):
    """Three rows of a combination are not enough either."""
    X, labels, values = unequal(300)
    X = drop_block(X, "text", [0, 1, 2])
    is_number = hasattr(fusion, "_classify") and not fusion._classify
    model = (ConformalFusionRegressor if is_number else ConformalFusionClassifier)(fusion)
    y = values if is_number else labels
    model.fit(X, y)
    for gone in COMBINATIONS:
        new = X
        for name in gone:
            new = drop_block(new, name, np.arange(300))
        assert covers(model, new, y, 0.9)[1][3:].all()
    new = drop_block(X, "image", np.arange(20, 25))
    with pytest.warns(MissingModalityWarning) as caught:  # feature-level fusion adds a warning of its own
        model.predict_interval(new) if is_number else model.predict_set(new)
    said = [str(warning.message) for warning in caught if "calibration row" in str(warning.message)]
    assert len(said) == 1 and "5 of them get " + ("infinite" if is_number else "sets of all classes") in said[0]
    assert not covers(model, X, y, 0.9)[1][3:].any()


def test_one_quantile_for_all_combinations_does_not_serve_those_that_fit_never_saw():
    X, y, _ = unequal(800 + N_TEST)
    model = ConformalFusionClassifier(LINEAR, per_pattern=False).fit(X[:800], y[:800])
    new = drop_block(X[800:], "text", np.arange(N_TEST))
    assert abs(covers(model, new, y[800:], 0.9)[0].mean() - 0.9) < 4 * standard_error(N_TEST, 800)


def test_weights_count_in_combinations_that_fit_never_saw_too():
    X, y, _ = unequal(300)
    weight = np.where(np.arange(300) < 150, 0.0, np.linspace(1, 2, 300))
    model = ConformalFusionClassifier(LINEAR).fit(X, y, sample_weight=weight)
    new = drop_block(X, "text", np.arange(300))
    scores = hidden_scores(model, y, {"image", "audio"})
    quantile = conformal_quantile(scores[150:], 0.9, weight[150:])
    with pytest.warns(MissingModalityWarning):
        sets = model.predict_set(new)
    assert_array_equal(sets, 1 - model.predict_proba(new) <= quantile + 1e-6)


def test_a_block_that_the_fusion_drops_makes_no_combination_of_its_own():
    X, y, _ = unequal(300)
    model = ConformalFusionClassifier(DecisionFusionClassifier({"audio": "drop"}, cv=3)).fit(X, y)
    with pytest.warns(MissingModalityWarning):
        sets = model.predict_set(drop_block(X, "audio", np.arange(300)))
    assert_array_equal(sets, model.predict_set(X))


def test_labels_without_meaning_give_large_sets():
    X, y = make_blocks(n=400, noise=1.0)
    learned = ConformalFusionClassifier(LINEAR).fit(X, y).predict_set(X).sum(axis=1).mean()
    shuffled = np.random.default_rng(0).permutation(y)
    nothing = ConformalFusionClassifier(LINEAR).fit(X, shuffled).predict_set(X).sum(axis=1).mean()
    assert learned < 1.2
    assert nothing > 2.5


def test_too_few_rows_give_all_classes_and_endless_intervals():
    X, y = make_blocks(n=9, noise=0.5)
    assert ConformalFusionClassifier(LINEAR, confidence_level=0.95).fit(X, y).predict_set(X).all()
    X, y = numbers(9)
    model = ConformalFusionRegressor(RIDGE, confidence_level=0.95).fit(X, y)
    assert model.quantile_ == np.inf
    assert_array_equal(model.predict_interval(X), np.tile([-np.inf, np.inf], (9, 1)))


# ---------------------------------------------------------------------- what a user relies on


@pytest.fixture(scope="module")
def fitted():
    X, y = make_blocks(n=200, noise=1.6)
    X = drop_block(X, "image", np.arange(200) < 150)
    return X, {m: ConformalFusionClassifier(LINEAR, method=m, random_state=0).fit(X, y) for m in ("lac", "aps")}


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.sampled_from(["lac", "aps"]))
@settings(max_examples=30, deadline=None)
def test_sets_grow_with_the_level(fitted, a, b, method):
    X, models = fitted
    model = models[method]
    assert model.own_quantile_.tolist() == [True, False]
    low, high = sorted((a, b))
    assert (model.predict_set(X, confidence_level=high) >= model.predict_set(X, confidence_level=low)).all()


@pytest.mark.by_turns
@pytest.mark.parametrize(
    ("head", "labels"),
    every_pair(
        [XGBClassifier(n_estimators=10), SVC(), GaussianNB()],
        [["cat", "dog", "elk"], [3, 7, 11], ["yes", "no"], [True, False]],
    ),
    ids=lambda value: str(value) if isinstance(value, list) else type(value).__name__,
)
def test_every_kind_of_label(head, labels):
    X, y = make_blocks(n=120, n_classes=len(labels), noise=0.7)
    y = np.array(labels)[[int(label[-1]) for label in y]]
    for fusion in (DecisionFusionClassifier(head, cv=3), FeatureFusionClassifier(head)):
        if not hasattr(fusion, "predict_proba"):
            with pytest.raises(ValueError, match="needs a fusion with predict_proba; FeatureFusionClassifier"):
                ConformalFusionClassifier(fusion).fit(X, y)
            continue
        for method in ("lac", "aps"):
            model = ConformalFusionClassifier(fusion, cv=3, method=method, random_state=0).fit(X, y)
            assert model.classes_.tolist() == sorted(labels)
            assert (model.predict(X) == y).mean() > 0.8
            assert model.predict_set(X).shape == (120, len(labels))
            assert hits(model, X, y).mean() > 0.8


def test_aps_is_reproducible():
    X, y = make_blocks(n=150, noise=1.6)
    one, same, other = (ConformalFusionClassifier(LINEAR, method="aps", random_state=s).fit(X, y) for s in (0, 0, 1))
    assert_array_equal(one.predict_set(X), same.predict_set(X))
    assert_array_equal(one.predict_set(X), one.predict_set(X))
    assert (one.predict_set(X) != other.predict_set(X)).any()


class Stored(PassOn):
    """Stores its probabilities in half the digits that it predicts with, as decision-level fusion does."""

    def fit(self, X, y):
        self.oof_proba_ = X.astype(np.float32)
        return super().fit(X, y)


def test_ties_at_the_quantile_are_in_despite_the_rounding_of_stored_probabilities():
    thirds = np.tile([[2, 1, 0], [0, 2, 1], [1, 0, 2]], (20, 1)) / 3
    y = np.where(np.arange(60) % 5 == 0, (thirds == 1 / 3).argmax(axis=1), thirds.argmax(axis=1))
    assert_array_equal(ConformalFusionClassifier(Stored()).fit(thirds, y).predict_set(thirds), thirds > 0)


def hidden_scores(model, y, names):
    """Scores of the rows that hold some blocks, as if they held no others."""
    fusion = model.fusion_
    place = [fusion._used_blocks().index(name) for name in names]
    keep = np.zeros_like(fusion._oof["present"])
    keep[place] = True
    rows = fusion._oof["present"][place].all(axis=0)
    return 1 - oof_predictions(fusion, keep)[rows, np.searchsorted(model.classes_, y[rows])]


def test_row_without_any_block_and_unseen_combinations():
    X, y = make_blocks(n=150, noise=1.0)
    X = drop_block(drop_block(drop_block(X, "image", [0]), "text", [0]), "audio", [0, 1, 2])
    model = ConformalFusionClassifier(LINEAR).fit(X, y)
    assert len(model.calibration_scores_) == 149
    assert model.patterns_.tolist() == [[True, True, False], [True, True, True]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.predict_set(X)[0].all()
    unseen = drop_block(X, "image", [7, 8])
    with pytest.warns(
        MissingModalityWarning, match=r"2 rows hold .* row 7 with \['text', 'audio'\]\. 2 of .* at random\.$"
    ) as caught:
        sets = model.predict_set(unseen)
    assert len(caught) == 1 and caught[0].filename == __file__
    quantile = conformal_quantile(hidden_scores(model, y, {"text", "audio"}), 0.9)
    assert_array_equal(sets[7:9], 1 - model.predict_proba(unseen)[7:9] <= quantile)
    assert model.is_calibrated(unseen)[:10].tolist() == [True] * 7 + [False, False, True]

    X, y = numbers(60)
    regressor = ConformalFusionRegressor(RIDGE).fit(X, y)
    empty = X.iloc[:1] * np.nan
    assert_array_equal(regressor.predict_interval(empty), [[-np.inf, np.inf]])
    assert_allclose(regressor.predict(empty), y.mean())


def test_the_fusions_own_out_of_fold_predictions_are_used_as_they_are():
    X, y = make_blocks(n=120, noise=1.6)
    for class_prior in (None, {"class 0": 0.6, "class 1": 0.3, "class 2": 0.1}):
        fusion = DecisionFusionClassifier(LogisticRegression(), combiner=LogPool(class_prior=class_prior))
        model = ConformalFusionClassifier(fusion).fit(X, y)
        alone = clone(fusion).fit(X, y)
        assert_allclose(model.predict_proba(X), alone.predict_proba(X))
        oof = alone.combiner_.shift(alone.oof_proba_.astype(float))
        assert_allclose(model.calibration_scores_, 1 - oof[np.arange(120), np.searchsorted(alone.classes_, y)])
        cascade = CascadeFusionClassifier(LogisticRegression(), combiner=LogPool(class_prior=class_prior))
        model = ConformalFusionClassifier(cascade).fit(X, y)
        alone = clone(cascade).fit(X, y)
        oof = alone.combiners_[-1].shift(alone.oof_proba_.astype(float))
        assert_allclose(model.calibration_scores_, 1 - oof[np.arange(120), np.searchsorted(alone.classes_, y)])
    X, y = numbers(80)
    alone = clone(RIDGE).fit(X, y)
    assert_allclose(ConformalFusionRegressor(RIDGE).fit(X, y).calibration_scores_, np.abs(y - alone.oof_fused_))


def test_coverage_around_a_cascade_that_expects_other_class_frequencies():
    X, y = make_blocks(n=1500, n_classes=2, noise=2.5)
    rows = np.flatnonzero((y == "class 0") | (np.arange(1500) % 9 == 0))  # the second class is rare in fit
    train, test = rows[:400], np.setdiff1d(np.arange(1500), rows[:400])
    cascade = CascadeFusionClassifier(LogisticRegression(), combiner=LogPool(class_prior=[0.5, 0.5]))
    model = ConformalFusionClassifier(cascade, confidence_level=0.8, per_pattern=False).fit(X.iloc[train], y[train])
    inside = [hits(model, X.iloc[test][y[test] == c], y[test][y[test] == c]).mean() for c in model.classes_]
    decision = DecisionFusionClassifier(LogisticRegression(), joint=None, combiner=LogPool(class_prior=[0.5, 0.5]))
    other = ConformalFusionClassifier(decision, confidence_level=0.8, per_pattern=False).fit(X.iloc[train], y[train])
    expected = [hits(other, X.iloc[test][y[test] == c], y[test][y[test] == c]).mean() for c in model.classes_]
    assert_allclose(inside, expected, atol=0.05)


def test_out_of_fold_predictions_are_made_where_the_fusion_has_none():
    """No row is scored by a model that saw it or its group; a class may be absent from a fold."""
    X, y = make_blocks(n=60, noise=1.0)
    fusion = FeatureFusionClassifier(LogisticRegression())
    y[:2] = "rare"
    folds = np.r_[[0, 0], np.arange(58) % 3]
    model = ConformalFusionClassifier(fusion, cv=PredefinedSplit(folds)).fit(X, y)
    assert_allclose(model.calibration_scores_[:2], 1)
    fold = folds == 1
    by_hand = clone(fusion).fit(X[~fold], y[~fold])
    proba = by_hand.predict_proba(X[fold])[np.arange(fold.sum()), np.searchsorted(by_hand.classes_, y[fold])]
    assert_allclose(model.calibration_scores_[fold], 1 - proba)
    only_some = ConformalFusionClassifier(fusion, cv=PredefinedSplit(np.where(fold, 0, -1)))
    assert_allclose(only_some.fit(X, y).calibration_scores_, 1 - proba)
    groups = np.arange(60) // 2
    for cv in (3, GroupKFold(3)):
        with pytest.warns(UserWarning, match=r"groups keep a whole class together: .*\(0\)"):
            grouped = ConformalFusionClassifier(fusion, cv=cv).fit(X, y, groups=groups)
        assert len(grouped.calibration_scores_) == 60
    with pytest.raises(ValueError, match="groups on both sides"):
        ConformalFusionClassifier(fusion, cv=PredefinedSplit(folds)).fit(X, y, groups=groups)


def test_any_classifier_of_one_table():
    X, y = make_blocks(n=150, noise=1.0)
    model = ConformalFusionClassifier(LogisticRegression(), blocks={"one": slice(0, 6), "two": slice(6, 13)})
    model.fit(X.to_numpy(dtype=np.float32), y)
    assert model.patterns_.tolist() == [[True, True]]
    assert hits(model, X.to_numpy(dtype=np.float32), y).mean() > 0.85


def test_rows_of_weight_0_are_not_learned_by_an_estimator_without_weights():
    X, y = numbers(90)
    heavy = np.arange(90) % 3 > 0
    fold = np.arange(90) // 3 % 3
    spoilt = np.where(heavy, y, 1000.0)
    with pytest.warns(UserWarning, match="take no sample_weight"):
        model = ConformalFusionRegressor(KNeighborsRegressor(1), cv=PredefinedSplit(fold)).fit(
            X, spoilt, sample_weight=heavy.astype(float)
        )
    alone = ConformalFusionRegressor(KNeighborsRegressor(1), cv=PredefinedSplit(fold[heavy])).fit(X[heavy], y[heavy])
    assert_allclose(model.predict_interval(X), alone.predict_interval(X))
    X, y = make_blocks(n=90, n_classes=2)
    y[:20] = "nothing"
    weight = np.where(y == "nothing", 0.0, 1.0)
    with pytest.warns(UserWarning, match="take no sample_weight"):
        model = ConformalFusionClassifier(KNeighborsClassifier()).fit(X, y, sample_weight=weight)
    assert not model.predict_proba(X)[:, 2].any() and not model.predict_set(X, confidence_level=0.8)[:, 2].any()


@pytest.mark.parametrize(
    "fusion", [KernelFusionRegressor(0.1), CooperativeRegressor(0.0, alpha=1.0), SequentialFusionRegressor(Ridge())]
)
def test_intervals_far_from_0_are_as_narrow_as_near_it(fusion):
    X, y = numbers(100)
    near, far = (ConformalFusionRegressor(fusion).fit(X, target) for target in (y, y + 1.7e9))
    assert far.quantile_ == pytest.approx(near.quantile_, abs=1e-3)


def test_weights_move_the_quantile_to_the_population_that_they_describe():
    n_train, n_test = 3 * N_TRAIN, 2 * N_TEST
    X, y = make_blocks(n=n_train + n_test, noise=1.0, random_state=4)
    hard = np.arange(len(X)) % 4 == 0
    X[hard] += 3 * np.random.default_rng(0).normal(size=(hard.sum(), X.shape[1]))
    weight = np.where(hard, 9.0, 1.0)
    old, new = slice(0, n_train), slice(n_train, None)
    model = ConformalFusionClassifier(LINEAR).fit(X[old], y[old], sample_weight=weight[old])
    covered = np.average(hits(model, X[new], y[new]), weights=weight[new])
    assert abs(covered - 0.9) < 4 * standard_error(n_test / 4, n_train / 4)
    # The same fusion with a quantile of all rows alike serves the easy ones.
    model.calibration_weights_ = np.ones(n_train)
    alike = np.average(hits(model, X[new], y[new], confidence_level=0.9), weights=weight[new])
    assert alike < 0.9 - 4 * standard_error(n_test / 4, n_train / 4)


@pytest.mark.by_turns
@pytest.mark.parametrize("method", ["lac", "aps"])
def test_saved_and_loaded(tmp_path, method):
    X, y = make_blocks(n=200, noise=1.6)
    X = drop_block(X, "image", np.arange(0, 200, 2))
    model = ConformalFusionClassifier(LINEAR, method=method, confidence_level=0.8).fit(X, y)
    again = load_model(save_model(model, tmp_path / "model"))
    assert_array_equal(again.predict_set(X), model.predict_set(X))
    assert_array_equal(again.predict_set(X, confidence_level=0.98), model.predict_set(X, confidence_level=0.98))
    unseen = drop_block(X, "text", np.arange(200))
    with pytest.warns(MissingModalityWarning):
        assert_array_equal(again.predict_set(unseen), model.predict_set(unseen))
    X, y = numbers(60)
    regressor = ConformalFusionRegressor(RIDGE).fit(X, y)
    again = load_model(save_model(regressor, tmp_path / "regressor"))
    assert_array_equal(again.predict_interval(X), regressor.predict_interval(X))


def test_parameters_of_the_fusion_can_be_set_and_searched():
    X, y = make_blocks(n=90, noise=1.0)
    model = ConformalFusionClassifier(DecisionFusionClassifier(LogisticRegression(), cv=3), confidence_level=0.8)
    assert clone(model).set_params(fusion__joint=False).get_params()["fusion__joint"] is False
    assert model.fusion.joint is True
    search = GridSearchCV(model, {"fusion__combiner": [LogPool(), MeanPool()], "confidence_level": [0.9]}, cv=2).fit(
        X, y
    )
    assert len(search.cv_results_["params"]) == 2
    assert search.best_estimator_.predict_set(X).shape == (90, 3)
    assert model.fusion.combiner is None


def test_blocks_go_to_the_fusion():
    X, y = make_blocks(n=90, noise=1.0)
    blocks = {"a": slice(0, 6), "b": slice(6, 13)}
    array = X.to_numpy(copy=True)
    array[:40, :6] = np.nan
    for model in (
        ConformalFusionClassifier(LINEAR, blocks=blocks),
        ConformalFusionClassifier(DecisionFusionClassifier(blocks=blocks)),
    ):
        assert model.fit(array, y).patterns_.tolist() == [[False, True], [True, True]]
        assert model.fusion_.member_names_ == ["a", "b", "joint"]
    with pytest.raises(ValueError, match="both have blocks="):
        ConformalFusionClassifier(DecisionFusionClassifier(blocks=blocks), blocks=blocks).fit(array, y)


@pytest.mark.parametrize(
    "model, message",
    [
        (
            ConformalFusionClassifier(LINEAR, confidence_level=0),
            "confidence_level must be between 0 and 1; got 0",
        ),
        (ConformalFusionClassifier(LINEAR, confidence_level="0.9"), "got '0.9'"),
        (ConformalFusionClassifier(LINEAR, method="raps"), "method must be .* got 'raps'"),
        (ConformalFusionClassifier(Ridge()), "must be a classifier; got Ridge"),
        (ConformalFusionClassifier(SVC()), "needs a fusion with predict_proba; SVC has none"),
    ],
)
def test_refusals(model, message):
    X, y = make_blocks(n=30)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)


def test_alpha_still_works_as_one_minus_the_confidence_level_and_warns():
    X, y = make_blocks(60)
    expected = ConformalFusionClassifier(LINEAR, confidence_level=0.8).fit(X, y)
    with pytest.warns(
        FutureWarning, match="of ConformalFusionClassifier is deprecated; use confidence_level"
    ) as warned:
        model = ConformalFusionClassifier(LINEAR, alpha=0.2).fit(X, y)
    assert_array_equal(model.predict_set(X), expected.predict_set(X))
    with pytest.warns(FutureWarning, match="alpha of predict_set is deprecated; use confidence_level"):
        sets = model.predict_set(X, alpha=0.1)
    assert_array_equal(sets, expected.predict_set(X, confidence_level=0.9))
    assert warned[0].filename == __file__  # not a line of the library
    with pytest.raises(TypeError):
        model.predict_set(X, 0.1)  # a share or a level? the name says


def test_a_model_that_was_saved_with_alpha_has_the_level():
    X, _ = make_blocks(60)
    model = ConformalFusionRegressor(Ridge(), confidence_level=0.8).fit(X, X["image__0"])
    state = model.__getstate__()
    del state["confidence_level"]
    restored = ConformalFusionRegressor()
    restored.__setstate__({**state, "alpha": 0.2})
    assert (restored.confidence_level, restored.alpha) == (pytest.approx(0.8), "deprecated")
    assert_array_equal(restored.predict_interval(X), model.predict_interval(X))


def test_another_level_is_checked_too():
    X, y = make_blocks(n=60)
    with pytest.raises(ValueError, match="confidence_level"):
        ConformalFusionClassifier(LINEAR).fit(X, y).predict_set(X, confidence_level=1.0)


def test_a_search_inside_is_calibrated_with_modalities_hidden_as_its_best_fusion_is():
    X, y = make_blocks(n=240)
    late = DecisionFusionClassifier(LogisticRegression(), joint=False, cv=3)
    alone = ConformalFusionClassifier(late, confidence_level=0.9).fit(X, y)
    search = ConformalFusionClassifier(FusionSearchCV({"late": late}, cv=3), confidence_level=0.9).fit(X, y)
    unseen = drop_block(X, "image", np.arange(240))
    with pytest.warns(MissingModalityWarning, match="240 of them have a quantile from rows of fit"):
        sets = search.predict_set(unseen)
    with pytest.warns(MissingModalityWarning):
        assert_array_equal(sets, alone.predict_set(unseen))
