"""Skewed positive targets: when default heads work on the log of y, and that all else stays on the scale of y."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.utils.estimator_checks import check_estimator

from ensemblefuse import (
    ConformalFusionRegressor,
    DecisionFusionRegressor,
    FeatureFusionRegressor,
    FusionSearchCV,
    LogTargetRegressor,
    SequentialFusionRegressor,
    inspect_model,
    load_model,
    save_model,
)
from ensemblefuse.fusion._log_target import log_target_of


def table(a, b):
    parts = [pd.DataFrame(x, columns=[f"{n}__{i}" for i in range(x.shape[1])]) for n, x in (("a", a), ("b", b))]
    return pd.concat(parts, axis=1)


def prices(seed=0, n=240, noise=0.3):
    """A target whose log is linear in both blocks."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, 3)), rng.normal(size=(n, 5))
    return table(a, b), np.exp(2 + 0.6 * a.sum(axis=1) + 0.3 * b[:, 0] + noise * rng.normal(size=n))


def amounts(seed=0, n=160):
    """A positive, skewed target that is a sum of effects: the logs of such numbers are not linear in the blocks."""
    rng = np.random.default_rng(seed)
    a, b = rng.exponential(size=(n, 3)) ** 2, rng.normal(size=(n, 5))
    return table(a, b), 5 + 10 * a.sum(axis=1) + rng.uniform(-4, 4, size=n)


def logged(model):
    """Names of the members that work on the log scale."""
    if isinstance(model, FeatureFusionRegressor):
        return ["all"] if log_target_of(model.estimator_) else []
    return [name for name, fitted in model.estimators_.items() if log_target_of(fitted)]


# ---------------------------------------------------------------------- the regressor


def test_smearing_finds_the_mean_and_not_the_median():
    y = np.exp(np.random.default_rng(0).normal(1, 1, size=20_000))
    model = LogTargetRegressor(DummyRegressor()).fit(np.zeros((len(y), 1)), y)
    assert_allclose(model.factor_, np.exp(0.5), rtol=0.03)  # of a log-normal
    assert_allclose(model.predict(np.zeros((1, 1))), y.mean(), rtol=1e-6)


def test_it_is_the_transformed_target_times_the_factor():
    X, y = prices()
    ours = LogTargetRegressor(Ridge()).fit(X, y)
    theirs = TransformedTargetRegressor(Ridge(), func=np.log, inverse_func=np.exp).fit(X, y)
    assert_allclose(ours.predict(X), ours.factor_ * theirs.predict(X))
    assert_allclose(ours.factor_, np.mean(y / theirs.predict(X)))


def test_weights_count_in_fit_and_factor():
    X, y = prices(n=60)
    times = np.random.default_rng(1).integers(0, 4, size=60)
    weighted = LogTargetRegressor(Ridge()).fit(X, y, sample_weight=times)
    repeated = LogTargetRegressor(Ridge()).fit(X.iloc[np.repeat(np.arange(60), times)], np.repeat(y, times))
    assert_allclose(weighted.factor_, repeated.factor_)
    inside = repeated.range_ - [-1, 1]
    rows = (np.log(y) >= inside[0]) & (np.log(y) <= inside[1])
    assert_allclose(weighted.predict(X)[rows], repeated.predict(X)[rows])


def test_predictions_stay_near_the_targets_of_fit():
    X = np.arange(30.0)[:, None]
    model = LogTargetRegressor(LinearRegression()).fit(X, np.exp(X[:, 0] / 10))
    far = model.predict(np.array([[-1e6], [1e6]]))
    assert_allclose(far, [np.exp(-1), np.exp(2.9 + 1)], rtol=1e-6)


@pytest.mark.parametrize("bad", [0.0, -2.0])
def test_a_target_that_is_not_positive_is_named(bad):
    with pytest.raises(ValueError, match=rf"above 0; y holds {bad} in row 2 \(1 of 4 rows"):
        LogTargetRegressor().fit(np.zeros((4, 1)), [1.0, 2.0, bad, 3.0])


def test_it_passes_the_checks_of_scikit_learn():
    results = check_estimator(LogTargetRegressor(Ridge()), on_skip=None, on_fail=None)
    failed = {r["check_name"] for r in results if r["status"] == "failed"}
    assert failed == set()


# ---------------------------------------------------------------------- the choice


@pytest.mark.by_turns
@pytest.mark.parametrize("fusion", [FeatureFusionRegressor, DecisionFusionRegressor])
def test_a_product_of_effects_is_learned_on_the_log_scale(fusion):
    X, y = prices()
    model = fusion().fit(X, y)
    assert logged(model)
    new, truth = prices(seed=1)
    plain = fusion(Ridge()).fit(X, y)
    assert r2_score(truth, model.predict(new)) > r2_score(truth, plain.predict(new)) + 0.1
    assert_allclose(model.predict(new).mean(), truth.mean(), rtol=0.15)  # without smearing it would be too low


@pytest.mark.by_turns
@pytest.mark.parametrize("fusion", [FeatureFusionRegressor, DecisionFusionRegressor])
@pytest.mark.parametrize("factor", [1e-8, 1e8])
def test_the_unit_of_the_target_does_not_matter(fusion, factor):
    X, y = prices(n=80)
    plain, scaled = fusion().fit(X, y), fusion().fit(X, factor * y)
    assert logged(plain) == logged(scaled) != []
    assert_allclose(scaled.predict(X), factor * plain.predict(X), rtol=1e-3)


@pytest.mark.by_turns
@pytest.mark.parametrize("fusion", [FeatureFusionRegressor, DecisionFusionRegressor])
def test_a_sum_of_effects_stays_on_its_scale(fusion):
    X, y = amounts()
    assert (y > 0).all()
    assert "joint" not in logged(fusion().fit(X, y)) and "all" not in logged(fusion().fit(X, y))


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "change",
    [
        lambda y: np.where(np.arange(len(y)) == 7, 0.0, y),  # one 0
        lambda y: -y,
        lambda y: y - y.mean(),
        lambda y: np.log(y) + 20,  # positive, not skewed
        lambda y: np.full_like(y, 3.0),
        lambda y: y.max() * 1.1 - y,  # skewed to the left
    ],
)
@pytest.mark.parametrize("fusion", [FeatureFusionRegressor, DecisionFusionRegressor])
def test_other_targets_are_not_touched(fusion, change):
    X, y = prices(n=80)
    model = fusion().fit(X, change(y))
    assert logged(model) == []
    assert np.isfinite(model.predict(X)).all()


def test_an_estimator_of_the_user_is_not_touched():
    X, y = prices(n=80)
    assert logged(DecisionFusionRegressor(Ridge()).fit(X, y)) == []
    assert logged(FeatureFusionRegressor(Ridge()).fit(X, y)) == []
    assert logged(DecisionFusionRegressor(LogTargetRegressor(Ridge())).fit(X, y)) == ["a", "b", "joint"]


def test_rows_of_weight_0_do_not_decide():
    X, y = prices(n=120)
    y = y.copy()
    y[:20] = -1.0
    weight = np.ones(120)
    weight[:20] = 0
    model = DecisionFusionRegressor(effort="low").fit(X, y, sample_weight=weight)
    alone = DecisionFusionRegressor(effort="low").fit(X.iloc[20:], y[20:])
    assert logged(model)
    assert logged(alone)
    assert (model.predict(X.iloc[20:]) > 0).mean() > 0.9


@pytest.mark.by_turns
@pytest.mark.parametrize("refit", [True, False])
def test_the_ledger_has_the_factor_of_the_deployed_model(refit):
    X, y = prices(n=200, noise=0.8)
    model = DecisionFusionRegressor(refit=refit).fit(X, y)
    name = "joint"
    fitted = model.estimators_[name] if refit else model.estimators_[name][0]
    assert log_target_of(fitted).factor_ > 1.1
    oof = model.oof_predictions_[model.member_names_.index(name)]
    assert_allclose(np.mean(y / oof), 1, atol=0.1)  # on the scale of y, corrected out of fold
    assert_allclose(model.member_temperatures_, 1)
    new, truth = prices(seed=3, n=2000, noise=0.8)
    assert_allclose(model.predict(new).mean(), truth.mean(), rtol=0.2)


# ---------------------------------------------------------------------- everything else stays on the scale of y


def test_gaps_files_searches_and_intervals(tmp_path):
    X, y = prices(n=200)
    X.iloc[::5, :3] = np.nan
    model = DecisionFusionRegressor(effort="low").fit(X, y)
    assert logged(model)
    complete = X.notna().all(axis=1).to_numpy()
    error = np.sqrt(np.mean((y - model.oof_fused_)[complete] ** 2))
    assert_allclose(model.expected_scores_.loc["a + b", "rmse"], error, rtol=1e-6)
    save_model(model, tmp_path / "model.fuse")
    assert_array_equal(load_model(tmp_path / "model.fuse").predict(X), model.predict(X))
    assert "LogTargetRegressor" in repr(model.estimators_)
    conformal = ConformalFusionRegressor(DecisionFusionRegressor(effort="low")).fit(X, y)
    new, truth = prices(seed=4, n=400)
    low, high = conformal.predict_interval(new).T
    assert 0.8 < np.mean((low <= truth) & (truth <= high)) < 0.98
    search = FusionSearchCV(kind="regressor", cv=3).fit(X, y)
    assert search.results_.loc["feature level", "mean_score"] > search.results_["mean_score"].min()
    assert np.isfinite(SequentialFusionRegressor().fit(X, y).predict(X)).all()


def test_reduced_models_each_choose_a_scale():
    X, y = prices(n=120)
    X.iloc[::6, :3] = np.nan
    model = FeatureFusionRegressor(missing="reduced").fit(X, y)
    assert log_target_of(model.reduced_["a + b"].estimator_) is not None
    assert np.isfinite(model.predict(X)).all()


def test_a_saved_model_says_which_members_are_on_the_log_scale(tmp_path):
    X, y = prices(n=100)
    for name, model in {"decision": DecisionFusionRegressor(), "feature": FeatureFusionRegressor()}.items():
        save_model(model.fit(X, y), tmp_path / name)
        members = ["all blocks"] if name == "feature" else logged(model)
        assert inspect_model(tmp_path / name)["log_target"] == members != []
    save_model(DecisionFusionRegressor(Ridge()).fit(X, y), tmp_path / "plain")
    assert "log_target" not in inspect_model(tmp_path / "plain")
