"""The ledger of out-of-fold predictions: what it fits, what it chooses, and what it never lets near a row."""

import numpy as np
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, RepeatedKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info, threadpool_limits

import ensemblefuse.fusion._feature as feature
from ensemblefuse import DecisionFusionClassifier, FeatureFusionClassifier
from ensemblefuse._threads import one_blas_thread
from ensemblefuse.fusion._default_heads import HeadSearch
from ensemblefuse.fusion._oof_ledger import Ledger
from ensemblefuse.fusion.members import Member

HEADS = HeadSearch([LogisticRegression(C=C) for C in (0.001, 1.0)], StandardScaler())


def table(n=90, random_state=0):
    X, y = make_blocks(n=n, random_state=random_state)
    return X.to_numpy(), np.unique(y, return_inverse=True)[1]


def entry_of(estimator, X, y, splits, weight=None, **settings):
    ledger = Ledger(y, splits, weight, range(3), **settings)
    return ledger, ledger.add([Member("m", estimator, X, np.ones(len(y), dtype=bool))])[0]


def test_weights_are_repeated_rows_in_the_choice_of_head_and_temperature():
    X, y = table()
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 3, len(y))
    rows = np.repeat(np.arange(len(y)), weight)
    splits = list(StratifiedKFold(3).split(X, y))
    repeated = [tuple(np.flatnonzero(np.isin(rows, side)) for side in split) for split in splits]
    _, weighted = entry_of(HEADS, X, y, splits, weight.astype(float))
    _, twice = entry_of(HEADS, X[rows], y[rows], repeated)
    assert weighted.head == twice.head
    assert_allclose([weighted.loss, weighted.temperature], [twice.loss, twice.temperature], rtol=1e-3)


def test_a_distinct_member_is_fitted_once_and_one_that_cannot_be_hashed_too():
    X, y = table()
    splits = list(StratifiedKFold(3).split(X, y))
    ledger, first = entry_of(LogisticRegression(), X, y, splits)
    present = np.ones(90, dtype=bool)
    assert ledger.add([Member("another name", LogisticRegression(), X, present)])[0] is first
    assert ledger.add([Member("m", LogisticRegression(C=2.0), X, present)])[0] is not first
    assert ledger.add([Member("m", LogisticRegression(), X, np.arange(90) > 3)])[0] is not first
    assert ledger.add([Member("m", LogisticRegression(), X.copy(), present)])[0] is not first
    odd = LogisticRegression(class_weight=None)
    odd.note = lambda: None
    assert ledger.add([Member("m", odd, X, present)])[0] is ledger.add([Member("m", odd, X, present)])[0]


def test_rows_of_several_test_folds_have_the_mean_and_rows_of_none_have_nothing():
    X, y = table()
    twice = list(RepeatedKFold(n_splits=3, n_repeats=2, random_state=0).split(X))
    _, entry = entry_of(LogisticRegression(), X, y, twice)
    by_repeat = [entry_of(LogisticRegression(), X, y, part)[1].predictions for part in (twice[:3], twice[3:])]
    mean = np.exp(np.mean(np.log(by_repeat), axis=0))
    assert_allclose(entry.predictions, mean / mean.sum(axis=1, keepdims=True), atol=1e-6)
    _, some = entry_of(LogisticRegression(), X, y, list(KFold(3).split(X))[:1])
    assert np.isnan(some.predictions[30:]).all() and np.isfinite(some.predictions[:30]).all()


def test_a_default_head_that_cannot_be_fitted_is_not_chosen_and_harms_nobody():
    X, _ = table(n=9)
    heads = HeadSearch([LogisticRegression(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")])
    splits = list(KFold(3).split(X))
    _, entry = entry_of(heads, X[:, :1], np.arange(9) % 3, splits)
    assert np.isfinite(entry.loss)
    few = [(np.array([0, 1, 2]), np.array([3, 4, 5])), (np.array([3, 4, 5]), np.array([0, 1, 2]))]
    _, entry = entry_of(heads, X, np.arange(9) % 3, few)  # as many rows as classes
    assert entry.head == 0
    with pytest.raises(ValueError, match="number of samples"):
        entry_of(LinearDiscriminantAnalysis(), X, np.arange(9) % 3, few)


def test_a_block_in_a_few_rows_does_not_stop_the_defaults():
    X, y = make_blocks(n=60)
    X.loc[4:, [c for c in X if c.startswith("image__")]] = np.nan
    assert DecisionFusionClassifier().fit(X, y).score(X, y) > 0.5
    assert len(FeatureFusionClassifier().fit(X.iloc[:6], y[:6]).predict(X)) == 60


@pytest.mark.by_turns
@pytest.mark.parametrize("missing", ["impute", "dropout", "reduced"])
def test_splits_given_as_a_list_are_of_all_rows_whatever_is_left_out(missing):
    X, y = make_blocks(n=90)
    splits = list(StratifiedKFold(3).split(X, y))
    empty = X.copy()
    empty.iloc[[0, 40, 89]] = np.nan
    model = FeatureFusionClassifier(missing=missing, cv=splits, random_state=0)
    weight = np.where(np.arange(90) % 7 == 0, 0.0, 1.0)
    assert model.fit(empty, y, sample_weight=weight).score(X, y) > 0.6
    assert model.set_params(cv=StratifiedKFold(3)).fit(empty, y).score(X, y) > 0.6


def test_the_copies_that_dropout_makes_stay_on_their_side(monkeypatch):
    seen = []
    ledger = feature.Ledger

    def spy(y, splits, *rest, **more):
        seen.append(splits)
        return ledger(y, splits, *rest, **more)

    monkeypatch.setattr(feature, "Ledger", spy)
    X, y = make_blocks(n=60)
    groups = np.arange(60) // 2
    FeatureFusionClassifier(missing="dropout", random_state=0, cv=3).fit(X, y, groups=groups)
    copies = np.tile(groups, 4)  # of the rows, then of three copies of each
    for train, test in seen[0]:
        assert not set(copies[train]) & set(copies[test])
        assert len(train) + len(test) == 240


def test_rows_of_no_weight_teach_nothing():
    X, y = make_blocks(n=90)
    weight = np.r_[np.zeros(30), np.ones(60)]
    with pytest.warns(UserWarning, match="take no sample_weight"):
        model = FeatureFusionClassifier(KNeighborsClassifier(1)).fit(X, y, sample_weight=weight)
    bare = FeatureFusionClassifier(KNeighborsClassifier(1)).fit(X.iloc[30:], y[30:])
    assert (model.predict(X) == bare.predict(X)).all()


def test_regression_heads_are_rated_by_squared_error():
    X, y = table()
    heads = HeadSearch([Ridge(alpha=1e6), Ridge(alpha=1.0)], StandardScaler(), by_value=False)
    ledger = Ledger(y.astype(float), list(KFold(3).split(X)), None, [])
    (entry,) = ledger.add([Member("m", heads, X, np.ones(90, dtype=bool))])
    assert entry.head == 1
    assert_allclose(entry.loss, np.mean((entry.predictions - y) ** 2), rtol=1e-6)


def test_fits_compute_on_one_blas_thread_and_leave_the_users_number():
    count = lambda: [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    with threadpool_limits(2, "blas"):
        before = count()
        with one_blas_thread():
            assert set(count()) == {1}
        assert count() == before
