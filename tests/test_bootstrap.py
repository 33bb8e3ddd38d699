"""Intervals of all results: draws some at a time, one row or group alone, resamples without a figure."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression

from ensemblefuse import (
    DecisionFusionClassifier,
    evaluate_predictions,
    modality_ablation,
    modality_importance,
    modality_interactions,
    modality_shapley,
    model_checks,
    shap_by_modality,
)
from ensemblefuse.scoring import bootstrap as _bootstrap
from ensemblefuse.scoring.bootstrap import bootstrap_means, resample_weights


@pytest.fixture(scope="module")
def fitted():
    X, y = make_blocks(n=90)
    return DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y), X, y


ASK = {
    "shapley": lambda model, X, y, **params: modality_shapley(model, X, y, **params),
    "interactions": lambda model, X, y, **params: modality_interactions(model, X, y, **params),
    "ablation": lambda model, X, y, **params: modality_ablation(model, X, y, **params),
    "importance": lambda model, X, y, **params: modality_importance(model, X, y, **params),
    "shap": lambda model, X, y, **params: shap_by_modality(model, X, **params),
}


@pytest.mark.parametrize("name", ASK)
def test_one_group_alone_has_no_interval(fitted, name):
    model, X, y = fitted
    result = ASK[name](model, X[:40], y[:40], groups=["one"] * 40)
    assert result.table[["low", "high"]].isna().all(axis=None)
    assert any("No intervals: there is only one group." in note for note in result.notes)
    result.plot()
    wide = ASK[name](model, X[:40], y[:40]).table
    assert (wide["high"] > wide["low"]).any()


def test_one_row_alone_has_no_interval(fitted):
    model, X, y = fitted
    result = modality_shapley(model, X[:1], y[:1])
    assert result.table["low"].isna().all() and "No intervals: there is only one row." in result.notes


def test_checks_without_an_interval_do_not_run(fitted):
    found = model_checks(*fitted, groups=["one"] * 90)
    for code in ("EF003", "EF007"):
        assert found[code].severity == "not run" and "with one there is no interval" in found[code].explanation


@pytest.mark.parametrize("name", ASK)
def test_draws_are_held_some_at_a_time_and_are_the_same(fitted, name, monkeypatch):
    model, X, y = fitted
    groups = np.arange(90) // 3
    whole = ASK[name](model, X, y, groups=groups, n_resamples=50).table
    monkeypatch.setattr(_bootstrap, "_AT_ONCE", 90 * 7)
    shapes = []

    def kept(values, draws, weight):
        shapes.append(draws.shape)
        return bootstrap_means(values, draws, weight)

    monkeypatch.setattr(_bootstrap, "bootstrap_means", kept)
    pd.testing.assert_frame_equal(ASK[name](model, X, y, groups=groups, n_resamples=50).table, whole)
    assert shapes and max(n for n, _ in shapes) == 7


def test_means_of_resamples_are_weighted():
    values, weight = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30.0)
    expected = bootstrap_means(values, resample_weights(30, 20, 5), weight)
    assert_allclose(_bootstrap.resampled_scores(values, 20, 5, weight), expected)


def test_resamples_without_a_score_are_counted():
    y = np.array([0] * 98 + [1] * 2)
    p = np.linspace(0.1, 0.9, 100)
    result = evaluate_predictions(y, np.column_stack([1 - p, p]), n_resamples=200)
    note = next(note for note in result.notes if "not defined" in note)
    assert note.startswith("Intervals leave out the resamples in which the score is not defined: roc_auc of all all (1")
    y = np.arange(100) % 2
    assert not any("resamples" in note for note in evaluate_predictions(y, np.column_stack([1 - p, p])).notes)


def test_shap_of_a_member_is_of_its_own_rows(fitted):
    X, y = fitted[1:]
    X = X.copy()
    X.loc[:29, [c for c in X if c.startswith("text")]] = np.nan
    model = DecisionFusionClassifier(LogisticRegression(), cv=3, joint=False).fit(X, y)
    row = shap_by_modality(model, X).table.loc[("text", "text")]
    assert row["n_rows"] == 60 and row["low"] < row["mean_abs"] < row["high"]
