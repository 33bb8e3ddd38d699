"""Why a model says what it says of one row: shares that add up, parts that count, HTML that harms nobody."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression, Ridge

from ensemblefuse import (
    CascadeFusionClassifier,
    ConformalFusionClassifier,
    ConformalFusionRegressor,
    CooperativeClassifier,
    CooperativeRegressor,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    FusionSearchCV,
    KernelFusionClassifier,
    KernelFusionRegressor,
    RowExplanationDisplay,
    SequentialFusionClassifier,
    SequentialFusionRegressor,
    StackingPool,
    VotePool,
    explain_row,
)

HEAD = LogisticRegression()
CLASSIFIERS = {
    "decision": DecisionFusionClassifier(HEAD, cv=3),
    "stacking": DecisionFusionClassifier(HEAD, cv=3, combiner=StackingPool()),
    "vote": DecisionFusionClassifier(HEAD, cv=3, combiner=VotePool()),
    "feature": FeatureFusionClassifier(HEAD),
    "reduced": FeatureFusionClassifier(HEAD, missing="reduced"),
    "kernel": KernelFusionClassifier(cv=3),
    "cooperative": CooperativeClassifier(cv=3),
    "sequential": SequentialFusionClassifier(HEAD, cv=3),
    "cascade": CascadeFusionClassifier(HEAD, cv=3),
    "conformal": ConformalFusionClassifier(DecisionFusionClassifier(HEAD, cv=3)),
    "search": FusionSearchCV({"hybrid": DecisionFusionClassifier(HEAD, cv=3)}, cv=3),
}
REGRESSORS = {
    "decision": DecisionFusionRegressor(Ridge(), cv=3),
    "feature": FeatureFusionRegressor(Ridge()),
    "kernel": KernelFusionRegressor(cv=3),
    "cooperative": CooperativeRegressor(cv=3),
    "sequential": SequentialFusionRegressor(Ridge(), cv=3),
    "conformal": ConformalFusionRegressor(DecisionFusionRegressor(Ridge(), cv=3)),
}


@pytest.fixture(scope="module")
def gaps():
    X, y = make_blocks(n=120)
    X.loc[:19, [c for c in X if c.startswith("text")]] = np.nan
    return X, y


def logit(p):
    p = np.clip(p, np.finfo(float).eps, 1 - np.finfo(float).eps)
    return np.log(p) - np.log(1 - p)


# ---------------------------------------------------------------------- the shares of modalities


@pytest.mark.by_turns
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_shares_and_base_add_up_to_the_log_odds_of_the_prediction(gaps, name):
    X, y = gaps
    model = CLASSIFIERS[name].fit(X, y)
    for i in (3, 50):
        said = explain_row(model, X, i, within=False)
        proba = model.predict_proba(X.loc[[i]])[0]
        assert said.target == model.classes_[proba.argmax()]
        assert_allclose(said.value, logit(proba.max()), atol=1e-6)
        assert_allclose(said.shares.sum() + said.base, said.value, atol=1e-6)
        assert said.missing == (["text"] if i == 3 else [])


@pytest.mark.parametrize("name", REGRESSORS)
def test_shares_and_base_add_up_to_the_prediction_of_a_regressor(gaps, name):
    X, _ = gaps
    y = X["image__0"].to_numpy() + X["audio__0"].to_numpy()
    model = REGRESSORS[name].fit(X, y)
    said = explain_row(model, X, 60, within=False)
    assert_allclose(said.shares.sum() + said.base, model.predict(X.loc[[60]])[0], atol=1e-6)
    assert said.target is None and said.prediction == pytest.approx(said.value)


def test_a_missing_modality_has_no_share_and_is_named(gaps):
    X, y = gaps
    said = explain_row(CLASSIFIERS["decision"].fit(X, y), X, 3)
    assert said.shares["text"] == 0 and "text" not in said.parts
    assert "text  missing" in str(said) and "missing" in said._repr_html_()


def test_the_shares_of_a_linear_model_over_all_blocks_are_its_terms():
    X, y = make_blocks(n=150, n_classes=2)
    model = FeatureFusionClassifier(HEAD).fit(X, y)
    said = explain_row(model, X, 7, target="class 1", within=False)
    terms = model.estimator_.coef_[0] * model.prepare_.transform(X.to_numpy())[7]  # a hidden block is filled with 0
    terms = pd.Series(terms).groupby([column.split("__")[0] for column in X]).sum()
    # With nothing at all the model gives the class frequencies; the modalities share the way to its intercept.
    expected = terms + (model.estimator_.intercept_[0] - said.base) / 3
    assert_allclose(said.base, logit((y == "class 1").mean()))
    assert_allclose(said.shares[expected.index], expected)


def test_another_target_is_explained_for_itself(gaps):
    X, y = gaps
    model = CLASSIFIERS["decision"].fit(X, y)
    said = explain_row(model, X, 50, target="class 2", within=False)
    assert said.target == "class 2"
    assert_allclose(said.value, logit(model.predict_proba(X.loc[[50]])[0, 2]), atol=1e-6)


def test_all_subsets_are_asked_in_one_batch(gaps, monkeypatch):
    X, y = gaps
    model, sizes = CLASSIFIERS["feature"].fit(X, y), []
    ask = FeatureFusionClassifier.predict_proba
    monkeypatch.setattr(FeatureFusionClassifier, "predict_proba", lambda self, X: sizes.append(len(X)) or ask(self, X))
    explain_row(model, X, 50, within=False)
    assert sizes == [1, 8]


def test_i_is_an_index_label(gaps):
    X, y = gaps
    model = CLASSIFIERS["feature"].fit(X, y)
    named = X.set_axis([f"row {k}" for k in X.index])
    assert_allclose(explain_row(model, named, "row 50").shares, explain_row(model, X, 50).shares)
    moved = X.iloc[::-1]
    assert_allclose(explain_row(model, moved, 50).shares, explain_row(model, X, 50).shares)
    with pytest.raises(ValueError, match=r"no row has the index label 50; the labels of X are 'row 0', 'row 1'"):
        explain_row(model, named, 50)
    with pytest.raises(ValueError, match="2 rows have the index label 1"):
        explain_row(model, pd.concat([X, X]), 1)
    with pytest.raises(ValueError, match="no row has the index label -1"):
        explain_row(model, X, -1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "class 9"}, r"\['class 9'\], which the model never saw"),
        ({"within": ["smell"]}, r"\['smell'\], which the model lacks"),
        ({"within": "text"}, r"Write \['text'\]"),
        ({"method": "guess"}, "method must be one of"),
    ],
)
def test_a_wrong_question_says_what_to_do(gaps, change, message):
    with pytest.raises(ValueError, match=message):
        explain_row(CLASSIFIERS["feature"].fit(*gaps), gaps[0], 50, **change)


def test_a_regressor_has_no_target(gaps):
    X, _ = gaps
    with pytest.raises(ValueError, match="the model is a regressor"):
        explain_row(REGRESSORS["feature"].fit(X, X["image__0"]), X, 50, target=1)


def test_a_row_of_nothing_has_the_base_alone(gaps):
    X, y = gaps
    empty = X.copy()
    empty.loc[50] = np.nan
    said = explain_row(CLASSIFIERS["decision"].fit(X, y), empty, 50)
    assert said.value == said.base and not said.shares.any() and said.parts == {}
    assert said.missing == ["image", "text", "audio"]


def test_more_than_eight_modalities_are_too_many():
    X, y = make_blocks(n=60, widths={f"m{k}": 1 for k in range(9)})
    model = FeatureFusionClassifier(HEAD).fit(X, y)
    with pytest.raises(ValueError, match="has 9 modalities and so 512 subsets"):
        explain_row(model, X, 0)
    X.loc[0, "m3__0"] = np.nan  # eight are there
    assert explain_row(model, X, 0, within=False).missing == ["m3"]


def test_the_display_says_which_row_it_is_of_and_what_it_draws():
    X, y = make_blocks(60)
    told = explain_row(DecisionFusionClassifier(HEAD, cv=3).fit(X, y), X, 3)
    display = RowExplanationDisplay(told)
    assert repr(display) == f"<RowExplanationDisplay of {told.title!r}: shares, image, text, audio; not drawn yet>"
    assert repr(display.plot()).endswith("shares, image, text, audio; drawn>")
