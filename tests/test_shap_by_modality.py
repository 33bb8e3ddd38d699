"""SHAP values of linear and tree heads, summed by modality."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, NuSVC

from ensemblefuse import (
    BlockPCA,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    KernelFusionClassifier,
    LogTargetRegressor,
    shap_by_modality,
)

HEAD = LogisticRegression()
FOREST = RandomForestClassifier(10, max_depth=3, random_state=0)


@pytest.fixture(scope="module")
def three():
    return make_blocks(n=150, widths={"image": 4, "text": 3, "audio": 2})


def test_of_a_linear_head_it_is_coef_times_the_distance_from_the_mean(three):
    X, y = three
    model = FeatureFusionClassifier(HEAD).fit(X, y)
    result = shap_by_modality(model, X)
    Z = model.prepare_.transform(X.to_numpy())
    by_hand = np.abs(model.estimator_.coef_[:, None, :] * (Z - Z.mean(axis=0)))  # classes, rows, columns
    assert_allclose(result.columns, by_hand.mean(axis=(0, 1)))
    assert_allclose(result.table.loc[("all blocks", "image"), "mean_abs"], by_hand[..., :4].sum(-1).mean())
    assert_allclose(result.by_class.loc[("all blocks", "audio"), "class 1"], by_hand[1, :, 7:].sum(-1).mean())
    assert_allclose(result.table["share"].sum(), 1)
    assert (result.table["unit"] == "log-odds").all()


def test_a_constant_modality_has_no_share(three):
    X, y = three
    X = X.assign(flat__0=1.0)
    table = shap_by_modality(FeatureFusionClassifier(HEAD).fit(X, y), X).table
    assert table.loc[("all blocks", "flat"), ["mean_abs", "low", "high", "share"]].eq(0).all()


def test_members_and_the_joint_member_of_decision_level_fusion(three):
    X, y = three
    heads = {"image": make_pipeline(StandardScaler(), HEAD), "text": FOREST, "audio": HEAD, "joint": HEAD}
    model = DecisionFusionClassifier(heads, cv=3).fit(X, y)
    result = shap_by_modality(model, X)
    joint = result.table.loc["joint"]
    assert list(joint.index) == ["image", "text", "audio"] and joint["share"].sum() == pytest.approx(1)
    assert result.table.loc[("text", "text"), ["unit", "head"]].to_list() == ["probability", "RandomForestClassifier"]
    head = model.estimators_["image"][-1]
    Z = model.estimators_["image"][0].transform(X.filter(regex="image").to_numpy())
    assert_allclose(result.columns["image"], np.abs(head.coef_[:, None] * (Z - Z.mean(0))).mean(axis=(0, 1)))
    assert "cannot be compared" in result.notes[0]


@pytest.mark.parametrize("head", [FOREST, HistGradientBoostingClassifier(max_iter=5)], ids=["forest", "boosting"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_trees_find_the_planted_modality(head, n_classes):
    rng = np.random.default_rng(0)
    y = np.arange(120) % n_classes
    X = pd.DataFrame({"noise__0": rng.normal(size=120), "signal__0": 4.0 * y + rng.normal(size=120)})
    result = shap_by_modality(FeatureFusionClassifier(head).fit(X, y), X)
    assert result.table.loc[("all blocks", "signal"), "share"] > 0.7
    assert list(result.by_class.columns) == list(range(n_classes))


def test_regression_and_components_of_blocks(three):
    X, _ = three
    y = 5 * X["image__0"] + X["text__0"]
    result = shap_by_modality(FeatureFusionRegressor(Ridge(), transformer=BlockPCA(2)).fit(X, y), X)
    assert result.table["mean_abs"].idxmax() == ("all blocks", "image")
    assert (result.table["unit"] == "units of y").all() and list(result.by_class.columns) == ["y"]
    assert len(result.columns) == 6


def test_rows_without_a_block_are_left_to_the_others(three):
    X, y = three[0].copy(), three[1]
    X.loc[:29, X.filter(regex="text").columns] = np.nan
    model = DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y)
    assert shap_by_modality(model, X).table["n_rows"].to_list() == [150, 120, 150]


def test_fold_models_are_averaged(three):
    X, y = three
    model = DecisionFusionClassifier(HEAD, cv=3, joint=False, refit=False).fit(X, y)
    Z = X.filter(regex="audio").to_numpy()
    by_hand = [np.abs(e.coef_[:, None] * (Z - Z.mean(0))).sum(-1).mean() for e in model.estimators_["audio"]]
    assert_allclose(shap_by_modality(model, X).table.loc[("audio", "audio"), "mean_abs"], np.mean(by_hand))


def test_a_head_of_the_log_of_y_is_named_with_another_way(three):
    X, _ = three
    model = DecisionFusionRegressor(LogTargetRegressor(Ridge()), cv=2, joint=False).fit(X, np.arange(1.0, len(X) + 1))
    with pytest.raises(TypeError, match=r"predicts the log of y, and .* modality_importance takes any model"):
        shap_by_modality(model, X)


def test_a_head_that_cannot_be_explained_is_named(three):
    X, y = three
    model = DecisionFusionClassifier({"image": SVC(), "text": HEAD, "audio": HEAD}, cv=3, joint=False).fit(X, y)
    assert "'image': 'SVC is neither linear nor trees'" in shap_by_modality(model, X).notes[0]
    with pytest.raises(TypeError, match=r"explains linear heads .*'SVC is neither linear nor trees"):
        shap_by_modality(model, X, members=["image"])
    with pytest.raises(ValueError, match=r"no member \['smell'\]; it has \['image', 'text', 'audio'\]"):
        shap_by_modality(model, X, members=["smell"])
    with pytest.raises(TypeError, match="PCA mixes the modalities"):
        shap_by_modality(FeatureFusionClassifier(make_pipeline(PCA(2), HEAD)).fit(X, y), X)
    with pytest.raises(TypeError, match=r"got KernelFusionClassifier.*modality_importance takes any fusion"):
        shap_by_modality(KernelFusionClassifier(C=1.0, cv=2).fit(X, y), X)


def test_the_picture_has_the_joint_member(three):
    X, y = three
    display = shap_by_modality(DecisionFusionClassifier(HEAD, cv=3).fit(X, y), X, n_resamples=20).plot()
    joint = display.result.table.loc["joint", "mean_abs"].sort_values(ascending=False)
    assert [bar.get_width() for bar in display.ax_.patches] == pytest.approx(joint.to_list())
    assert "joint, 150 rows" in display.ax_.get_title()


def test_bars_of_different_units_say_so(three):
    X, y = three
    model = DecisionFusionClassifier({"image": FOREST, "text": HEAD, "audio": HEAD}, cv=3, joint=False).fit(X, y)
    ax = shap_by_modality(model, X, n_resamples=20).plot().ax_
    assert "each bar in its own unit" in ax.get_xlabel()
    assert {"image, probability", "text, log-odds"} <= {label.get_text() for label in ax.get_yticklabels()}


@pytest.mark.parametrize("head", [SVC(kernel="linear"), NuSVC(kernel="linear")])
def test_pairs_of_classes_do_not_pass_for_classes(three, head):
    X, y = three  # three classes make three pairs
    with pytest.raises(TypeError, match=rf"{type(head).__name__} is fitted one-versus-one; use LinearSVC"):
        shap_by_modality(FeatureFusionClassifier(head).fit(X, y), X)
    two = y != "class 2"
    said = shap_by_modality(FeatureFusionClassifier(head).fit(X[two], y[two]), X[two])
    assert (said.table["unit"] == "decision value").all()
