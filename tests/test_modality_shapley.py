"""What each modality is worth: values that share out the score, from the ledger, by hiding, by refit."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression, Ridge

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    ModalityShapleyDisplay,
    modality_shapley,
)

HEAD = LogisticRegression()


def strong_weak_noise(n=150, random_state=0):
    rng = np.random.default_rng(random_state)
    y = np.arange(n) % 2
    columns = {
        **{f"noise__{i}": rng.normal(size=n) for i in range(3)},
        "weak__0": 0.8 * y + rng.normal(size=n),
        "strong__0": 3.0 * y + rng.normal(size=n),
    }
    return pd.DataFrame(columns), y


@pytest.fixture(scope="module")
def planted():
    X, y = strong_weak_noise()
    return X, y, DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y)


def test_the_strong_one_is_first_and_nothing_is_fitted(planted, monkeypatch):
    monkeypatch.setattr(LogisticRegression, "fit", lambda *_, **__: pytest.fail("a head was fitted"))
    result = modality_shapley(planted[2])
    assert result.method == "ledger" and result.n_fits == 0
    assert list(result.table.index)[:2] == ["strong", "weak"]
    assert result.table.loc["strong", "low"] > 0


def test_noise_is_worth_nothing_and_costs_little():
    """A modality of noise may cost a little, because its head learns from few rows; it never gets credit."""
    noise = []
    for seed in range(6):
        X, y = strong_weak_noise(random_state=seed)
        noise.append(modality_shapley(DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y)).table.loc["noise"])
    assert all(row["low"] <= 0 for row in noise)
    assert sum(row["low"] <= 0 <= row["high"] for row in noise) >= 4
    assert -0.02 < np.mean([row["value"] for row in noise]) < 0.005


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "brier"])
def test_values_share_out_the_total(planted, metric):
    result = modality_shapley(planted[2], metric=metric, n_resamples=50)
    assert_allclose(result.table["value"].sum(), result.total)
    assert_allclose(result.table["share"].sum(), 1)
    assert (result.table["low"] <= result.table["value"]).all() and (
        result.table["value"] <= result.table["high"]
    ).all()


def test_the_total_and_alone_are_differences_of_scores(planted):
    model = planted[2]
    new, labels = strong_weak_noise(random_state=1)
    result = modality_shapley(model, new, labels, metric="accuracy")
    nothing = (labels == 0).mean()
    assert result.method == "predict"
    assert_allclose(result.total, model.score(new, labels) - nothing)
    hidden = new.assign(**{c: np.nan for c in new if not c.startswith("weak")})
    assert_allclose(result.table.loc["weak", "alone"], model.score(hidden, labels) - nothing)
    dropped = new.assign(strong__0=np.nan)
    assert_allclose(result.table.loc["strong", "last"], model.score(new, labels) - model.score(dropped, labels))


def test_a_refit_says_how_many_models_it_fitted(planted):
    X, y, _ = planted
    model = FeatureFusionClassifier(HEAD).fit(X, y)
    result = modality_shapley(model, X, y, method="refit", cv=3)
    assert result.n_fits == 3 * 7 and "21 models were fitted" in result.notes[0]
    assert result.table.index[0] == "strong"
    with pytest.raises(ValueError, match="keeps no out-of-fold predictions"):
        modality_shapley(model)


def test_regression_shares_out_the_squared_error():
    X, _ = make_blocks(n=100)
    y = 3 * X["image__0"].to_numpy() + X["text__0"].to_numpy()
    result = modality_shapley(DecisionFusionRegressor(Ridge(), cv=3).fit(X, y))
    assert result.table.index[0] == "image" and result.metric == "squared_error"
    assert_allclose(result.table["value"].sum(), result.total)


def test_groups_make_intervals_wider_where_rows_of_a_group_agree():
    X, y = strong_weak_noise(n=60)
    X, y, patient = pd.concat([X] * 4, ignore_index=True), np.tile(y, 4), np.tile(np.arange(60), 4)
    model = DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y, groups=patient)
    width = lambda table: (table["high"] - table["low"])["strong"]
    apart = width(modality_shapley(model).table)
    together = width(modality_shapley(model, groups=patient).table)
    assert together > 1.4 * apart  # twice, in the limit
    with pytest.raises(ValueError, match="groups has 3 values for the 240 rows of fit"):
        modality_shapley(model, groups=[1, 2, 3])


def test_worthless_modalities_have_no_shares():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 2)), columns=["a__0", "b__0"])
    result = modality_shapley(DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, np.arange(40) % 2))
    assert result.total_interval[0] <= 0 and result.table["share"].isna().all()
    assert "is not clearly above 0" in result.notes[-1]


def test_the_same_seed_gives_the_same_interval(planted):
    first, second = (modality_shapley(planted[2], random_state=3, n_resamples=20).table for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "r2"}, "metric must be one of"),
        ({"confidence_level": 1.5}, "confidence_level must be between 0 and 1"),
        ({"n_resamples": 0}, "n_resamples must be at least 1"),
    ],
)
def test_a_wrong_parameter_is_told_before_anything_is_fitted(planted, monkeypatch, change, message):
    X, y, model = planted
    monkeypatch.setattr(LogisticRegression, "fit", lambda *_, **__: pytest.fail("a head was fitted"))
    with pytest.raises(ValueError, match=message):
        modality_shapley(model, X, y, method="refit", **change)


def test_nine_modalities_are_too_many():
    X, y = make_blocks(n=60, widths={f"m{i}": 1 for i in range(9)})
    with pytest.raises(ValueError, match="9 modalities and so 512 subsets"):
        modality_shapley(DecisionFusionClassifier(HEAD, cv=2, joint=False).fit(X, y))


def test_given_predictions_that_do_not_fit_are_told():
    half, y = np.full((4, 2), 0.5), np.array(["x", "y", "x", "y"])
    with pytest.raises(ValueError, match=r"lack the subsets \[\(\)\]; all 2 of \['a'\]"):
        ModalityShapleyDisplay.from_predictions(y, {("a",): half})
    with pytest.raises(ValueError, match=r"predictions of \('a',\) have shape \(3, 2\); y requires \(4, 2\)"):
        ModalityShapleyDisplay.from_predictions(y, {(): half, ("a",): half[:3]})


def test_the_picture_has_a_bar_a_modality(planted):
    display = ModalityShapleyDisplay.from_estimator(planted[2], n_resamples=20)
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == list(display.result.table.index)
    assert [bar.get_width() for bar in display.ax_.patches] == pytest.approx(list(display.result.table["value"]))
    assert "150 rows" in display.ax_.get_title() and "nats" in display.ax_.get_xlabel()
