"""Boosted trees as default members: where there are any, what they learn, and what they cost nobody."""

import numpy as np
import pandas as pd
import pytest
from conftest import slow_but
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from xgboost import XGBClassifier

from ensemblefuse import (
    ConformalFusionClassifier,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    FusionSearchCV,
    load_model,
    save_model,
)
from ensemblefuse.fusion import _default_trees
from ensemblefuse.fusion._default_trees import trees_strategy

LR = LogisticRegression()


def parcels(n=240, width=0, seed=0, dtype=np.float64):
    """A table of three columns with a target in steps of two of them; beside it, if wanted, a wide block."""
    rng = np.random.default_rng(seed)
    table = rng.uniform(size=(n, 3))
    y = (np.digitize(table[:, 0], [0.3, 0.65]) + np.digitize(table[:, 1], [0.4, 0.8])) % 2
    photo = rng.normal(size=(n, width))
    photo[:, :2] += 0.8 * y[:, None]
    names = [f"table__{i}" for i in range(3)] + [f"photo__{i}" for i in range(width)]
    return pd.DataFrame(np.hstack([table, photo]).astype(dtype), columns=names), np.where(y, "late", "on time")


def without(X, block, rows):
    X = X.copy()
    X.loc[X.index[rows], [name for name in X if name.startswith(f"{block}__")]] = np.nan
    return X


# ---------------------------------------------------------------------- where there are trees


@pytest.mark.by_turns
@pytest.mark.parametrize(
    ("settings", "members"),
    [
        ({}, ["table", "table/trees", "photo", "joint", "joint/trees"]),
        ({"joint": False}, ["table", "table/trees", "photo"]),
        ({"missing": "impute"}, ["table", "table/trees", "photo", "joint"]),
        ({"estimators": {"joint": LR}}, ["table", "table/trees", "photo", "joint"]),
        ({"estimators": {"photo": LR}}, ["table", "table/trees", "photo", "joint", "joint/trees"]),
        ({"estimators": {"table": LR}}, ["table", "photo", "joint"]),
        ({"estimators": {"table": [None]}}, ["table", "photo", "joint"]),
        ({"estimators": [None]}, ["table", "photo", "joint"]),
        ({"estimators": LR}, ["table", "photo", "joint"]),
    ],
    ids=str,
)
def test_trees_stand_beside_the_searched_head_of_a_narrow_block_without_a_named_one(settings, members):
    X, y = parcels(120, width=210)
    model = DecisionFusionClassifier(**{"cv": 2, **settings}).fit(X, y)
    assert model.member_names_ == members
    assert model.member_blocks_ == [name.removesuffix("/trees") for name in members]


def test_embeddings_alone_get_no_trees():
    rng = np.random.default_rng(0)
    names = [f"photo__{i}" for i in range(201)] + [f"text__{i}" for i in range(201)]
    X = pd.DataFrame(rng.normal(size=(120, 402)), columns=names)
    assert DecisionFusionClassifier(cv=2).fit(X, rng.integers(0, 2, 120)).member_names_ == ["photo", "text", "joint"]


def test_flags_do_not_make_a_table_wide():
    rng = np.random.default_rng(0)
    flags, y = (rng.random((120, 260)) < 0.1).astype(float), rng.integers(0, 2, 120)
    X = pd.DataFrame(flags, columns=[f"table__{i}" for i in range(260)])
    X["table__260"] = rng.normal(size=120)
    X.iloc[5] = np.nan
    assert DecisionFusionClassifier(cv=2).fit(X, y).member_names_ == ["table", "table/trees"]
    assert DecisionFusionClassifier(cv=2).fit(X + 0.5, y).member_names_ == ["table"]


def test_few_rows_many_classes_and_numbers_beyond_single_precision_get_no_trees():
    X, y = parcels(99)
    assert DecisionFusionClassifier(cv=2).fit(X, y).member_names_ == ["table"]
    X, y = parcels(160)
    assert DecisionFusionClassifier(cv=2).fit(X, (np.arange(160) % 31).astype(str)).member_names_ == ["table"]
    assert DecisionFusionClassifier(cv=2).fit(X, (np.arange(160) % 30).astype(str)).member_names_ == [
        "table",
        "table/trees",
    ]
    X.iloc[3, 0] = 1e39
    assert DecisionFusionClassifier(cv=2).fit(X, y).member_names_ == ["table"]


def test_rows_that_lack_the_table_count_neither_for_trees_nor_for_their_number():
    X, y = parcels(200, width=210)
    X = without(X, "table", range(60))
    model = DecisionFusionClassifier(cv=3).fit(X, y)
    assert "table/trees" in model.member_names_
    trees = model.oof_predictions_[model.member_names_.index("table/trees")]
    assert np.isnan(trees[:60]).all() and np.isfinite(trees[60:]).all()
    assert model.expected_scores_.loc[["table", "photo"], "n_rows"].tolist() == [140, 200]
    assert np.isfinite(model.predict_proba(without(X, "photo", range(200)))).all()
    assert "table/trees" not in DecisionFusionClassifier(cv=3).fit(without(X, "table", range(101)), y).member_names_


def test_a_wide_block_that_a_fold_lacks_gives_no_joint_trees():
    X, y = parcels(150, width=210)
    X = without(X, "photo", range(100))
    X["other__0"] = np.arange(150) % 7.0
    late = [(np.arange(100), np.arange(100, 150))]
    model = DecisionFusionClassifier(cv=late).fit(X, y)
    assert {"table/trees", "other/trees"} <= set(model.member_names_) and "joint/trees" not in model.member_names_


def test_a_constant_target_is_predicted():
    X, _ = parcels(120)
    model = DecisionFusionRegressor(cv=2).fit(X, np.full(120, 3.5))
    assert_allclose(model.predict(X), 3.5)


# ---------------------------------------------------------------------- what they learn


@pytest.mark.all_rounds
def test_steps_are_learnt_that_no_line_and_no_kernel_finds():
    X, y = parcels(1200)
    with_trees, head = (DecisionFusionClassifier(e, cv=3).fit(X[:800], y[:800]) for e in (None, [None]))
    assert with_trees.score(X[800:], y[800:]) > 0.95
    assert with_trees.score(X[800:], y[800:]) > head.score(X[800:], y[800:]) + 0.02


@pytest.mark.slow
def test_trees_cost_little_where_a_line_says_all():
    """On 400 rows, ten tables, five folds: .0044 nats: the pool gives some weight to a member that it does not need."""
    costs = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X = pd.DataFrame(rng.normal(size=(1200, 8)), columns=[f"table__{i}" for i in range(8)])
        y = (X.sum(axis=1) + 2 * rng.normal(size=1200) > 0).to_numpy()
        fits = [DecisionFusionClassifier(e, cv=3).fit(X[:400], y[:400]) for e in (None, [None])]
        losses = [-np.log(m.predict_proba(X[400:])[np.arange(800), y[400:].astype(int)]).mean() for m in fits]
        costs.append(losses[0] - losses[1])
    assert np.mean(costs) < 0.005


@pytest.mark.parametrize("dtype", slow_but(lambda dtype: dtype is np.float32, [np.float32, np.float64]))
def test_joint_trees_see_columns_beside_components_that_each_fold_finds(dtype):
    rng = np.random.default_rng(0)
    X, _ = parcels(500, width=220, dtype=dtype)
    X["photo__0"] *= 6
    side = np.where(X["table__0"] > 0.5, X["photo__0"], -X["photo__0"])
    y = side + 0.3 * rng.normal(size=500)
    model = DecisionFusionRegressor(cv=3, refit=False).fit(X[:350], y[:350])
    trees = model.member_names_.index("joint/trees")
    errors = ((model.oof_predictions_ - y[:350]) ** 2).mean(axis=1)
    of_both = [name in ("joint/trees", "joint/forest") for name in model.member_names_]
    assert errors[trees] < 0.3 * errors[~np.array(of_both)].min()
    found = [fitted[0].named_transformers_["wide"].pcas_["photo"] for fitted in model.estimators_["joint/trees"]]
    assert [pca.n_components_ for pca in found] == [30] * 3
    assert len({float(pca.mean_[0]) for pca in found}) == 3
    together = model.predict(X[:12])
    assert_allclose([model.predict(X.iloc[i : i + 1])[0] for i in range(12)], together, atol=1e-6)


def test_a_forest_of_many_rows_learns_from_a_fold_of_fewer_than_a_tree_draws(monkeypatch):
    monkeypatch.setattr(_default_trees, "_MOST_DRAWN", 100)
    monkeypatch.setattr(_default_trees, "_RANDOM", {**_default_trees._RANDOM, "n_estimators": 2})
    X = np.random.default_rng(0).normal(size=(110, 2))
    for weight in (None, np.full(88, 1e-4)):
        search = _default_trees.forest_search(110, 0, _default_trees.tree_search(2, 0, n_rows=110))
        (head,) = search.heads
        head.fit(X[:88], X[:88, 0], sample_weight=weight)
        n_drawn = [head._n_samples_bootstrap, *(int(tree.tree_.n_node_samples[0]) for tree in head.estimators_)]
        assert min(n_drawn) > 40 and max(n_drawn) <= 100


def test_rows_of_one_group_never_teach_each_other():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(np.repeat(rng.normal(size=(60, 4)), 5, axis=0), columns=[f"table__{i}" for i in range(4)])
    y, groups = np.repeat(rng.integers(0, 2, 60), 5), np.repeat(np.arange(60), 5)

    def accuracy(groups):
        model = DecisionFusionClassifier(cv=5).fit(X, y, groups=groups)
        trees = model.oof_predictions_[model.member_names_.index("table/trees")]
        return (trees.argmax(axis=1) == y).mean()

    assert accuracy(None) > 0.9  # the copies of a row betray its label
    assert accuracy(groups) < 0.7


@pytest.mark.all_rounds
@pytest.mark.by_turns
@pytest.mark.parametrize("scale", [2.0**-9, 2.0**-20, 1e-12])
def test_the_scale_of_small_weights_does_not_matter(scale):
    X, y = parcels(300)
    weight = np.random.default_rng(0).uniform(0.2, 1.0, 300)
    fits = [DecisionFusionClassifier(cv=3).fit(X, y, sample_weight=w) for w in (weight, weight * scale)]
    trees = [model.estimators_["table/trees"][-1].predict_proba(X.to_numpy()) for model in fits]
    assert_allclose(*trees, atol=1e-6)


@pytest.mark.all_rounds
def test_weights_are_heeded():
    X, y = parcels(300)
    y[:100] = np.random.default_rng(0).permutation(y[:100])
    weight = np.r_[np.zeros(100), np.ones(200)]
    weighted = DecisionFusionClassifier(cv=3).fit(X, y, sample_weight=weight)
    alone = DecisionFusionClassifier(cv=3).fit(X[100:], y[100:])
    trees = [model.estimators_["table/trees"][-1].predict_proba(X.to_numpy()) for model in (weighted, alone)]
    assert_allclose(*trees)
    rare = np.where(X["table__0"] > 0.93, "late", "on time")
    plain, balanced = (DecisionFusionClassifier(cv=3, class_weight=w).fit(X, rare) for w in (None, "balanced"))
    assert balanced.predict_proba(X)[:, 0].mean() > plain.predict_proba(X)[:, 0].mean()


@pytest.mark.all_rounds
def test_large_numbers_with_small_differences_are_learnt():
    X, y = parcels(400)
    model = DecisionFusionRegressor(cv=3).fit(X, 1e3 + (y == "late"))
    errors = ((model.oof_predictions_ - 1e3 - (y == "late")) ** 2).mean(axis=1)
    assert errors[model.member_names_.index("table/trees")] < 0.1
    # The predictions of XGBoost are in single precision, which would round all of these differences away.
    assert DecisionFusionRegressor(cv=3).fit(X, 1e9 + (y == "late")).member_names_ == ["table"]


@pytest.mark.slow
def test_the_same_fit_twice_and_on_workers():
    X, y = parcels(200)
    fits = [DecisionFusionClassifier(cv=2, n_jobs=n).fit(X, y) for n in (None, None, 2)]
    for model in fits[1:]:
        assert_allclose(model.predict_proba(X), fits[0].predict_proba(X), atol=1e-12)
    assert fits[0].estimators_["table/trees"][-1].n_jobs == 1


# ---------------------------------------------------------------------- what goes on by modality


def test_a_search_has_a_candidate_of_trees_where_a_block_is_narrow():
    X, y = parcels(150, width=210)
    search = FusionSearchCV(cv=2, refit="all").fit(without(X, "photo", range(20)), y)
    assert "trees" in search.results_.index
    trees = search.estimators_["trees"]
    assert isinstance(trees, FeatureFusionClassifier) and isinstance(trees.estimator_, Pipeline)
    assert isinstance(trees.estimator_[-1], XGBClassifier)
    assert trees.estimator_[-1].n_features_in_ == 3 + 30
    assert trees.score(X, y) > 0.9
    narrow = FusionSearchCV(cv=2).fit(X.iloc[:, :3], y)
    assert "trees" in narrow.results_.index
    wide = FusionSearchCV(cv=2).fit(X.iloc[:, 3:], y)
    assert "trees" not in wide.results_.index


@pytest.mark.parametrize("refit", slow_but(lambda refit: refit, [True, False]))
def test_a_model_with_trees_is_saved_and_loaded(refit, tmp_path):
    X, y = parcels(150, width=210)
    X = without(X, "photo", range(30))
    model = DecisionFusionClassifier(cv=2, refit=refit).fit(X, y)
    save_model(model, tmp_path / "model.zip", example=X.head(40))
    assert_allclose(load_model(tmp_path / "model.zip").predict_proba(X), model.predict_proba(X), atol=1e-12)
    number = DecisionFusionRegressor(cv=2).fit(X, X["table__0"] * 2)
    save_model(number, tmp_path / "number.zip", example=X.head(40))
    assert_allclose(load_model(tmp_path / "number.zip").predict(X), number.predict(X), atol=1e-12)


@pytest.mark.parametrize("dtype", slow_but(lambda dtype: dtype is np.float32, [np.float32, np.float64]))
def test_a_model_with_trees_is_written_as_onnx(dtype, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    from ensemblefuse.export import export_onnx

    X, y = parcels(150, width=210, dtype=np.float32)
    X = without(X.astype(dtype), "photo", range(30))  # numbers that the float32 of the graph can hold
    inputs = {block: X.filter(regex=f"^{block}__").to_numpy(np.float32) for block in ("table", "photo")}
    model = DecisionFusionClassifier(cv=2).fit(X, y)
    session = onnxruntime.InferenceSession(export_onnx(model, tmp_path / "model.onnx", example=X))
    assert_allclose(session.run(["probabilities"], inputs)[0], model.predict_proba(X), atol=1e-5)
    number = DecisionFusionRegressor(cv=2).fit(X, X["table__0"] * 2)
    session = onnxruntime.InferenceSession(export_onnx(number, tmp_path / "number.onnx", example=X))
    assert_allclose(session.run(None, inputs)[0].ravel(), number.predict(X), atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_shap_values_of_trees_are_sums_by_modality():
    pytest.importorskip("shap")
    from ensemblefuse.inspection import shap_by_modality

    X, y = parcels(150, width=210)
    found = shap_by_modality(DecisionFusionClassifier(cv=2).fit(X, y), X).table
    assert {("table/trees", "table"), ("joint/trees", "table"), ("joint/trees", "photo")} <= set(found.index)
    assert found.loc["joint/trees", "share"].sum() == pytest.approx(1)
    number = DecisionFusionRegressor(cv=2).fit(X, 1000 * X["table__0"])
    table = shap_by_modality(number, X).table
    assert table.loc[("table/trees", "table"), "unit"] == "units of y"
    assert table.loc[("table/trees", "table"), "mean_abs"] > 100


def test_worth_is_told_by_modality():
    from ensemblefuse.inspection import modality_shapley

    X, y = parcels(150, width=210)
    model = DecisionFusionClassifier(cv=2).fit(X, y)
    assert set(modality_shapley(model, X, y).table.index) >= {"table", "photo"}
    wrapped = ConformalFusionClassifier(DecisionFusionClassifier(cv=2)).fit(X, y)
    assert "table/trees" in wrapped.fusion_.member_names_


def test_a_named_head_of_a_regressor_is_alone():
    X, _ = parcels(120)
    assert DecisionFusionRegressor(Ridge(), cv=2).fit(X, X["table__0"]).member_names_ == ["table"]


@pytest.mark.parametrize("classify", [True, False])
def test_the_search_has_the_same_trees_for_small_weights(classify):
    X, y = parcels(300)
    y = y if classify else X["table__0"].to_numpy() + (y == "late")
    kind = FeatureFusionClassifier if classify else FeatureFusionRegressor
    spans, weight = {"table": np.arange(X.shape[1])}, np.random.default_rng(0).uniform(0.2, 1.0, 300)
    fits = [
        kind(**trees_strategy(spans, ["table"], 2 * classify, w)).fit(X, y, sample_weight=w)
        for w in (weight, weight * 2.0**-8)
    ]
    assert_allclose(*[fit.score(X, y) for fit in fits], atol=0.02)
