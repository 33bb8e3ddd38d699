"""Stacking: any second level, what it cannot know, and the one with non-negative coefficients."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from test_combine import log_loss_of, toy
from xgboost import XGBClassifier, XGBRegressor

from ensemblefuse import MissingModalityWarning, StackingPool

STACKERS = [
    StackingPool(),
    StackingPool(nonnegative=True),
    StackingPool(RandomForestClassifier(30, random_state=0)),
    StackingPool(XGBClassifier(n_estimators=10)),
]


@pytest.mark.parametrize("pool", STACKERS, ids=str)
def test_stackers_take_labels_of_any_kind_and_classes_without_rows(pool):
    P, y = toy(n_classes=4)
    rows = y != 1
    for labels in (np.array(["ant", "bee", "cat", "dog"]), np.array([-3, 0, 7, 9])):
        fitted = clone(pool).fit(P[:, rows], labels[y[rows]], classes=labels)
        fused = fitted.combine(P)
        assert_array_equal(fused[:, 1], 0)
        assert_allclose(fused.sum(axis=1), 1, atol=1e-6)
        assert (labels[fused.argmax(axis=1)] == labels[y])[rows].mean() > 0.8


@pytest.mark.parametrize(
    "estimator", [RandomForestRegressor(30, random_state=0), XGBRegressor(n_estimators=30)], ids=str
)
def test_tree_stackers_in_regression(estimator):
    rng = np.random.default_rng(0)
    y = rng.normal(3, 2, size=400)
    P = y + rng.normal(size=(3, 400))
    fitted = StackingPool(estimator).fit(P[:, :300], y[:300])
    assert ((fitted.combine(P[:, 300:]) - y[300:]) ** 2).mean() < ((P[:, 300:] - y[300:]) ** 2).mean()


@pytest.mark.parametrize("pool", [*STACKERS, StackingPool(LogisticRegression())], ids=str)
def test_a_stacker_warns_once_of_gaps_that_it_never_saw(pool):
    P, y = toy()
    P[0, :40] = np.nan
    fitted = clone(pool).fit(P, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.combine(P)
        fitted.combine(np.full((3, 2, 3), np.nan))  # no member at all: the prior, by rule
    P[1, ::2] = np.nan
    with pytest.warns(MissingModalityWarning, match=r"lacks the members \[0, 1\] or \[1\]") as caught:
        fitted.combine(P)
    assert len(caught) == 1


def test_a_stacker_warns_in_regression_and_of_estimators_without_weights():
    rng = np.random.default_rng(0)
    y = rng.normal(size=50)
    fitted = StackingPool().fit(y + rng.normal(size=(2, 50)), y)
    with pytest.warns(MissingModalityWarning, match="fills the gap with the mean of y"):
        fitted.combine([[1.0], [np.nan]])
    P, y = toy()
    with pytest.warns(UserWarning, match="KNeighborsClassifier takes no sample_weight"):
        StackingPool(KNeighborsClassifier()).fit(P, y, sample_weight=np.arange(len(y)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StackingPool(KNeighborsClassifier()).fit(P, y)


def test_non_negative_stacking_holds_no_word_against_its_speaker():
    P, y = toy(n=600)
    P[2] = P[2][:, ::-1]  # a member that mixes up two classes
    pool = StackingPool(nonnegative=True).fit(P, y)
    assert pool.coef_.shape == (3, 3) and (pool.coef_ >= 0).all()
    assert_allclose(pool.coef_[2, [0, 2]], 0, atol=1e-6)


def test_non_negative_stacking_needs_fewer_rows_where_classes_are_many():
    losses = []
    for seed in range(3):
        P, y = toy(n=2500, n_classes=10, random_state=seed)
        few, new = slice(0, 500), slice(500, None)
        pools = StackingPool(nonnegative=True), StackingPool()
        losses.append([log_loss_of(p.fit(P[:, few], y[few]).combine(P[:, new]), y[new]) for p in pools])
    assert_array_equal(np.array(losses)[:, 0] < np.array(losses)[:, 1], True)
