"""Permutation importance of whole modalities: what a model loses when one is shuffled."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FunctionEncoder,
    make_fusion_pipeline,
    modality_importance,
)
from ensemblefuse.inspection._modality_importance import _shuffle

HEAD = LogisticRegression()


@pytest.fixture(scope="module")
def halves():
    X, y = make_blocks(n=240, n_classes=2, widths={"strong": 4, "weak": 1, "noise": 2}, random_state=2)
    X[["noise__0", "noise__1"]] = np.random.default_rng(0).normal(size=(240, 2))
    return X[:120], y[:120], X[120:], y[120:]


@pytest.fixture(scope="module")
def fitted(halves):
    X, y, _, _ = halves
    return DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y)


def test_the_strong_one_is_first_and_the_interval_of_noise_holds_zero(fitted, halves):
    table = modality_importance(fitted, *halves[2:]).table
    assert table.index[0] == "strong" and table.loc["strong", "low"] > 0
    assert table.loc["noise", "low"] <= 0 <= table.loc["noise", "high"]
    assert_allclose(table["share"].sum(), 1)


def test_the_perceptual_score_is_the_lost_share_of_accuracy(fitted, halves):
    _, _, X, y = halves
    result = modality_importance(fitted, X, y, metric="accuracy", n_repeats=3)
    assert_allclose(result.score, fitted.score(X, y))
    table = result.table
    assert_allclose(table["perceptual"], table["importance"] / fitted.score(X, y))
    assert_allclose(table["importance"], result.importances.mean(axis=1)[table.index])
    assert "perceptual" not in modality_importance(fitted, X, y, n_repeats=1).table


def test_columns_of_a_modality_move_together():
    """The label is the product of two columns: as long as they stay together nothing is lost to other rows' labels."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.choice([-1.0, 1.0], size=(200, 2)), columns=["image__0", "image__1"]).assign(text__0=0.0)
    y = (X["image__0"] * X["image__1"] > 0).astype(int).to_numpy()
    heads = {"image": RandomForestClassifier(20, random_state=0), "text": HEAD}
    model = DecisionFusionClassifier(heads, cv=3, joint=False).fit(X, y)
    same = X.copy()
    same["image__1"] = same["image__0"]  # every row says 1
    result = modality_importance(model, same, np.ones(200, dtype=int), metric="accuracy", n_repeats=3)
    assert result.score == 1 and result.table.loc["image", "importance"] == 0
    assert modality_importance(model, X, y, metric="accuracy").table.loc["image", "importance"] > 0.3


def test_gaps_move_with_the_modality(fitted, halves, monkeypatch):
    _, _, X, y = halves
    X = X.copy()
    X.iloc[:30, [0, 1, 2, 3]] = np.nan
    seen = []
    predict = fitted.predict_proba
    monkeypatch.setattr(fitted, "predict_proba", lambda Z: seen.append(Z) or predict(Z))
    modality_importance(fitted, X, y, n_repeats=1)
    gaps = seen[1].filter(regex="strong").isna()
    assert (gaps.sum() == 30).all() and gaps.nunique(axis=1).eq(1).all()
    assert not gaps.iloc[:30].all(axis=None)
    assert seen[1].filter(regex="weak").equals(X.filter(regex="weak"))


def test_raw_rows_are_encoded_once():
    df = pd.DataFrame({"title": ["a", "bb"] * 20, "price": np.tile([1.0, 5.0, 2.0, 4.0], 10)})
    y = np.tile(["no", "yes"], 20)
    modalities = [("text", FunctionEncoder(lambda title: [len(title)]), "title"), ("tabular", "passthrough", ["price"])]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, cv=2)).fit(df, y)
    calls = []
    transform = model.steps[0][1].transform
    model.steps[0][1].transform = lambda X: calls.append(len(X)) or transform(X)
    result = modality_importance(model, df, y, n_repeats=4)
    assert calls == [40] and set(result.table.index) == {"text", "tabular"}


def test_arrays_and_feature_fusion_and_regression(halves):
    X, y, X_new, y_new = halves
    blocks = {"strong": slice(0, 4), "rest": slice(4, 7)}
    model = FeatureFusionClassifier(HEAD, blocks=blocks).fit(X.to_numpy(), y)
    assert modality_importance(model, X_new.to_numpy(), y_new).table.index[0] == "strong"
    target = lambda X: 3 * X["weak__0"].to_numpy() + X["strong__0"].to_numpy()
    numbers = DecisionFusionRegressor(Ridge(), cv=3).fit(X, target(X))
    result = modality_importance(numbers, X_new, target(X_new), metric="absolute_error")
    assert result.table.index[0] == "weak" and "units of y" in result.caption


def test_the_same_seed_gives_the_same_table(fitted, halves):
    _, _, X, y = halves
    first, second = (modality_importance(fitted, X, y, n_repeats=2, random_state=5).table for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_a_block_is_shuffled_as_one_whatever_its_dtypes(monkeypatch):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(6, 3)), columns=["a__0", "b__0", "a__1"], index=list("uvwxyz"))
    table["a__2"] = pd.Categorical(list("ppqqrr"))
    order = rng.permutation(6)
    # Column by column the thousands of an embedding take a second.
    monkeypatch.setattr(pd.DataFrame, "isetitem", lambda *_: pytest.fail("one column was set alone"))
    for positions in (np.array([0, 2, 3]), np.array([3, 0])):
        shuffled = _shuffle(table, positions, order)
        expected = {
            name: table[name].array.take(order) if i in positions else table[name].array for i, name in enumerate(table)
        }
        pd.testing.assert_frame_equal(shuffled, pd.DataFrame(expected, index=table.index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "r2"}, "metric must be one of"),
        ({"n_repeats": 0}, "n_repeats must be at least 1; got 0"),
        ({"groups": [1]}, "groups has 1 values for the 120 rows"),
        ({"confidence_level": 2}, "confidence_level must be between"),
    ],
)
def test_a_wrong_parameter_is_told(fitted, halves, change, message):
    with pytest.raises(ValueError, match=message):
        modality_importance(fitted, *halves[2:], **change)


def test_the_picture_has_a_bar_a_modality_and_a_dot_a_shuffle(fitted, halves):
    display = modality_importance(fitted, *halves[2:], n_repeats=4).plot()
    assert [bar.get_width() for bar in display.ax_.patches] == pytest.approx(list(display.result.table["importance"]))
    assert sum(len(line.get_xdata()) for line in display.ax_.lines if line.get_marker() == ".") == 12
    assert "120 rows, 4 shuffles" in display.ax_.get_title()
