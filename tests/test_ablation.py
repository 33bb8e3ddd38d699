"""What each modality adds: scores without it and of it alone, with intervals, and without fits where none is needed."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, log_loss

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    ModalityAblationDisplay,
    modality_ablation,
)
from ensemblefuse.fitted.subsets import predict_subsets

HEAD = LogisticRegression()


def with_noise(n=150, random_state=0):
    """Two modalities that carry the label, and one of noise."""
    X, y = make_blocks(n, widths={"image": 6, "text": 4}, random_state=random_state)
    noise = np.random.default_rng(1).normal(size=(n, 3))
    return X.assign(**{f"noise__{i}": noise[:, i] for i in range(3)}), y


@pytest.fixture(scope="module")
def data():
    return with_noise()


@pytest.fixture(scope="module")
def fitted(data):
    return DecisionFusionClassifier(HEAD, cv=3).fit(*data)


@pytest.fixture
def fits(monkeypatch):
    """Fits of a head, counted."""
    count = []
    fit = LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda *args, **kw: (count.append(1), fit(*args, **kw))[1])
    return count


def test_each_modality_is_dropped_and_kept_alone(fitted):
    result = modality_ablation(fitted)
    expected = ["all", "without image", "without text", "without noise", "image alone", "text alone", "noise alone"]
    assert result.table.index.tolist() == [*expected, "all, joint member too"]
    assert result.table["n_modalities"].tolist() == [3, 2, 2, 2, 1, 1, 1, 3]
    assert result.subsets["without image"] == ("text", "noise")


def test_the_score_is_that_of_scikit_learn(fitted, data):
    X, y = data
    table = modality_ablation(fitted, X, y).table
    assert table.loc["all", "score"] == pytest.approx(-log_loss(y, fitted.predict_proba(X)))
    hidden = X.copy()
    hidden[[c for c in X if not c.startswith("text")]] = np.nan
    plain = DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y)
    table = modality_ablation(plain, X, y, metric="accuracy").table
    assert table.loc["text alone", "score"] == pytest.approx(accuracy_score(y, plain.predict(hidden)))
    own = modality_ablation(fitted, metric="accuracy").table.loc["all, joint member too", "score"]
    assert own == pytest.approx((fitted.classes_[fitted.oof_proba_.argmax(1)] == y).mean())


def test_what_carries_the_label_is_missed_and_noise_is_not(fitted):
    table = modality_ablation(fitted).table
    assert table.loc["without image", "difference_high"] < 0
    assert table.loc["without noise", "difference_low"] < 0.02
    assert abs(table.loc["without noise", "difference"]) < 0.1 * -table.loc["noise alone", "difference"]


def test_intervals_hold_the_score_and_those_of_differences_are_paired(fitted):
    table = modality_ablation(fitted, n_resamples=400).table
    assert ((table["low"] < table["score"]) & (table["score"] < table["high"])).all()
    assert_array_equal(table.loc["all", ["difference", "difference_low", "difference_high"]], 0)
    # What both scores share goes out of their difference.
    width = table["high"] - table["low"]
    paired = table["difference_high"] - table["difference_low"]
    assert paired["without noise"] < 0.7 * (width["without noise"] ** 2 + width["all"] ** 2) ** 0.5


def test_intervals_are_drawn_again_with_the_same_seed_and_are_narrower_at_a_lower_level(fitted):
    first = modality_ablation(fitted, n_resamples=200).table
    pd.testing.assert_frame_equal(first, modality_ablation(fitted, n_resamples=200).table)
    assert not first.equals(modality_ablation(fitted, n_resamples=200, random_state=1).table)
    narrow = modality_ablation(fitted, n_resamples=200, confidence_level=0.5).table
    assert (narrow["high"] - narrow["low"] < first["high"] - first["low"]).all()


def test_rows_of_a_group_are_drawn_together(fitted, data):
    said = predict_subsets(fitted, [["noise"]])
    right = said.predictions[0].argmax(axis=1) == said.y
    groups = np.argsort(np.argsort(right, kind="stable")) // 10  # whole groups are right or wrong
    apart = modality_ablation(fitted, metric="accuracy").table.loc["noise alone"]
    together = modality_ablation(fitted, metric="accuracy", groups=groups).table.loc["noise alone"]
    assert together["score"] == apart["score"]
    assert together["high"] - together["low"] > 2 * (apart["high"] - apart["low"])
    X, y = data
    columns = {name: X[name].to_numpy() for name in X}
    assert modality_ablation(fitted, columns, y, groups=groups, n_resamples=10).n_rows == 150


def test_nothing_is_fitted_for_the_ledger_and_for_hiding(fitted, data, fits):
    assert modality_ablation(fitted).n_fits == 0
    assert modality_ablation(fitted, *data).n_fits == 0
    assert not fits


def test_a_refit_says_how_many_models_it_fitted(data, fits):
    model = FeatureFusionClassifier(HEAD).fit(*data)
    fits.clear()
    result = modality_ablation(model, *data, method="refit", cv=3, subsets=[["image"], ["text"]])
    assert result.n_fits == len(fits) == 9
    assert any("9 models were fitted" in note for note in result.notes)
    assert "cross-validated" in result.caption


def test_all_subsets_and_chosen_ones(fitted):
    result = modality_ablation(fitted, subsets="all")
    assert len(result.table) == 9
    assert result.table.index[-2:].tolist() == ["nothing", "all, joint member too"]
    assert result.table.loc["nothing", "score"] == pytest.approx(-np.log(3), abs=0.05)
    chosen = modality_ablation(fitted, subsets=[["text", "image"], ["image", "text"], []])
    assert chosen.table.index.tolist() == ["all", "without noise", "nothing", "all, joint member too"]


def test_two_modalities_are_named_once(data):
    X, y = data
    X = X[[c for c in X if not c.startswith("noise")]]
    assert modality_ablation(DecisionFusionClassifier(HEAD, cv=3).fit(X, y)).table.index.tolist() == [
        "all",
        "image alone",
        "text alone",
    ]


def test_weights_count(data):
    X, y = data
    weight = (np.arange(len(y)) % 3 > 0).astype(float)
    result = modality_ablation(DecisionFusionClassifier(HEAD, cv=3).fit(X, y, sample_weight=weight))
    assert result.n_rows == (weight > 0).sum()
    heavy = np.where(y == "class 0", 5.0, 1.0)
    model = DecisionFusionClassifier(HEAD, cv=3).fit(X, y, sample_weight=heavy)
    right = model.classes_[model.oof_proba_.argmax(1)] == y
    score = modality_ablation(model, metric="accuracy").table.loc["all, joint member too", "score"]
    assert score == pytest.approx(np.average(right, weights=heavy))


def test_rows_without_the_modality_are_told(data):
    X, y = data
    X = X.copy()
    X.loc[:14, [c for c in X if c.startswith("text")]] = np.nan
    result = modality_ablation(DecisionFusionClassifier(HEAD, cv=3).fit(X, y))
    assert any("text in 15" in note and "class frequencies" in note for note in result.notes)


def test_regression(data):
    X, _ = data
    y = X["image__0"].to_numpy() + 0.2 * X["text__0"].to_numpy()
    model = DecisionFusionRegressor(Ridge(), cv=3).fit(X, y)
    table = modality_ablation(model, X, y, metric="neg_mean_absolute_error").table
    assert table.loc["all", "score"] == pytest.approx(-np.abs(model.predict(X) - y).mean())
    assert table.loc["image alone", "score"] > table.loc["text alone", "score"]
    assert modality_ablation(model).metric == "neg_mean_squared_error"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"subsets": "each"}, 'subsets must be "drop\\+keep", "all" or a list'),
        ({"subsets": ["image"]}, "lists of modalities, such as \\['image'\\]"),
        ({"subsets": [["smell"]]}, "no modality \\['smell'\\]"),
        (
            {"metric": "roc_auc"},
            "metric must be one of \\('log_loss', 'accuracy', 'brier'\\) in classification, or scikit-learn's",
        ),
        ({"metric": "neg_mean_squared_error"}, "'neg_brier_score'\\); got 'neg_mean_squared_error'"),
        ({"confidence_level": 95}, "between 0 and 1; got 95"),
        ({"n_resamples": 0}, "at least 1; got 0"),
        ({"groups": [1, 2]}, "groups has 2 values for the 150 rows of fit"),
    ],
)
def test_a_wrong_parameter_says_what_is_wanted(fitted, params, message):
    with pytest.raises(ValueError, match=message):
        modality_ablation(fitted, **params)


def test_a_model_without_a_ledger_says_what_to_pass(data):
    model = FeatureFusionClassifier(HEAD).fit(*data)
    with pytest.raises(ValueError, match=r"Give X and y: rows that the model was not fitted on"):
        modality_ablation(model)


def test_the_picture_shows_every_subset_and_the_score_of_all(fitted):
    pytest.importorskip("matplotlib")
    result = modality_ablation(fitted, n_resamples=50)
    display = result.plot()
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == result.table.index.tolist()
    assert_allclose(display.ax_.lines[0].get_xdata(), result.table.loc["all", "score"])
    assert "neg_log_loss (greater is better)" in display.ax_.get_xlabel()
    assert "150 rows" in display.ax_.get_title()
    own = ModalityAblationDisplay.from_estimator(fitted, subsets=[["image"]], ax=display.ax_)
    assert own.ax_ is display.ax_
    assert "image alone" in str(result) and "image alone" in result._repr_html_()
