"""scikit-learn's `transform_output` and `set_output` choose what the user gets: no fit and no prediction changes."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from conftest import every_pair, make_blocks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ensemblefuse import (
    BlockNystroem,
    BlockPCA,
    BlockScaler,
    CascadeFusionClassifier,
    CommonSpaceProjector,
    ConformalFusionClassifier,
    ConformalFusionRegressor,
    CooperativeRegressor,
    CrossModalImputer,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    EmbeddingNoise,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    FunctionEncoder,
    FusionSearchCV,
    KernelFusionRegressor,
    ModalityTransformer,
    PresentRows,
    SequentialFusionClassifier,
    SequentialFusionRegressor,
    evaluate_model,
    explain_row,
    load_model,
    make_fusion_pipeline,
    modality_ablation,
    model_checks,
    save_model,
    shap_by_modality,
)

LR = LogisticRegression()
SCALED = make_pipeline(StandardScaler(), LR)
SETTINGS = ["pandas", "polars"]
CLASSIFIERS = [
    DecisionFusionClassifier({"image": SCALED, "text": [LR, SCALED]}, cv=3),
    DecisionFusionClassifier(LR, cv=3, missing="reduced", refit=False),
    FeatureFusionClassifier(LR, transformer=PCA(3), missing="dropout", random_state=0),
    FeatureFusionClassifier(LR, transformer=CommonSpaceProjector(2), imputer=CrossModalImputer("ridge")),
    FeatureFusionClassifier(LR, missing="reduced"),
    SequentialFusionClassifier({"image": SCALED, "text": make_pipeline(StandardScaler(), Ridge())}, cv=3),
    CascadeFusionClassifier(SCALED, cv=3),
    ConformalFusionClassifier(FeatureFusionClassifier(SCALED), cv=3),
    FusionSearchCV({"late": DecisionFusionClassifier(SCALED, joint=False)}, cv=3),
]
REGRESSORS = [
    DecisionFusionRegressor(cv=3),
    FeatureFusionRegressor(Ridge(), transformer=BlockPCA(2)),
    KernelFusionRegressor(cv=3),
    CooperativeRegressor(cv=3),
    SequentialFusionRegressor(cv=3),
    ConformalFusionRegressor(DecisionFusionRegressor(Ridge(), cv=3)),
]
PARTS = [
    BlockScaler("unit"),
    BlockPCA(2, random_state=0),
    BlockNystroem(5, random_state=0),
    CommonSpaceProjector(2, method="pca", combine="concat"),
    CrossModalImputer("gaussian", n_components=2, random_state=0),
    EmbeddingNoise(random_state=0),
    PresentRows(make_pipeline(SimpleImputer(), StandardScaler(), PCA(2))),
]


def data():
    X, y = make_blocks(60, n_classes=2)
    X.loc[:5, ["audio__0", "audio__1", "audio__2"]] = np.nan
    return X, y


def raw(n=40):
    rng = np.random.default_rng(0)
    y = np.array(["cat", "dog"])[np.arange(n) % 2]
    X = pd.DataFrame(
        {
            "title": ["x" * (3 + 2 * (i % 2) + i % 5) for i in range(n)],
            "price": rng.normal(size=n) + np.arange(n) % 2,
            "colour": rng.choice(["red", "blue"], n),
        }
    )
    X.loc[3, ["price", "colour"]] = None
    table = ColumnTransformer(
        [("n", make_pipeline(SimpleImputer(), StandardScaler()), ["price"]), ("c", OneHotEncoder(), ["colour"])]
    )
    modalities = [("text", FunctionEncoder(len), "title"), ("tabular", table, ["price", "colour"])]
    return X, y, make_fusion_pipeline(modalities, DecisionFusionClassifier(SCALED, cv=3))


@pytest.mark.by_turns
@pytest.mark.parametrize("model, setting", every_pair([*CLASSIFIERS, *REGRESSORS], SETTINGS))
def test_no_setting_changes_a_fit_or_a_prediction(model, setting):
    X, y = data()
    y = (y == "class 1") + X["image__0"].to_numpy() / 9 if sklearn.base.is_regressor(model) else y
    before = sklearn.clone(model).fit(X, y)
    method = "predict_proba" if sklearn.base.is_classifier(model) else "predict"
    wanted = getattr(before, method)(X)
    with sklearn.config_context(transform_output=setting):
        assert_allclose(getattr(before, method)(X), wanted)
        assert_allclose(getattr(sklearn.clone(model).fit(X, y), method)(X), wanted)


@pytest.mark.by_turns
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("part", PARTS, ids=lambda p: type(p).__name__)
def test_parts_give_the_same_numbers_in_the_frame_that_is_asked_for(part, setting):
    X = make_blocks(60)[0] if isinstance(part, EmbeddingNoise) else data()[0]
    wanted = sklearn.clone(part).fit_transform(X)
    frame = {"pandas": pd.DataFrame, "polars": pl.DataFrame}[setting]
    with sklearn.config_context(transform_output=setting):
        out = sklearn.clone(part).fit(X).transform(X)
    assert isinstance(out, frame)
    assert_allclose(out.to_numpy(), wanted)
    own = sklearn.clone(part).set_output(transform=setting).fit_transform(X)
    assert isinstance(own, frame)
    assert_allclose(own.to_numpy(), wanted)


@pytest.mark.by_turns
@pytest.mark.parametrize("setting", SETTINGS)
def test_parts_of_a_fusion_may_have_an_output_of_their_own(setting):
    X, y = data()
    parts = {"transformer": PCA(3), "imputer": CrossModalImputer("mean")}
    wanted = FeatureFusionClassifier(LR, **parts).fit(X, y).predict_proba(X)
    framed = {name: sklearn.clone(part).set_output(transform=setting) for name, part in parts.items()}
    assert_allclose(FeatureFusionClassifier(LR, **framed).fit(X, y).predict_proba(X), wanted)
    wanted = DecisionFusionClassifier(SCALED, cv=3).fit(X, y).predict_proba(X)
    head = sklearn.clone(SCALED).set_output(transform=setting)
    assert_allclose(DecisionFusionClassifier(head, cv=3).fit(X, y).predict_proba(X), wanted)


@pytest.mark.by_turns
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_pipeline_its_file_and_what_is_asked_of_it_are_the_same(setting, tmp_path):
    X, y, pipeline = raw()
    model = sklearn.clone(pipeline).fit(X, y)
    save_model(model, tmp_path / "model.fuse", example=X.head(4))
    wanted, scores = model.predict_proba(X), evaluate_model(model).overall
    shares = explain_row(model, X, 0).shares
    with sklearn.config_context(transform_output=setting):
        again = sklearn.clone(pipeline).fit(X, y)
        loaded = load_model(tmp_path / "model.fuse", trusted=["builtins.len"], verify="rows")
        for some in (model, again, loaded):
            assert_allclose(some.predict_proba(X), wanted)
        pd.testing.assert_frame_equal(evaluate_model(again).overall, scores)
        pd.testing.assert_series_equal(explain_row(again, X, 0).shares, shares)
        assert_allclose(evaluate_model(model, X, y).overall.loc["accuracy"].iloc[0], np.mean(model.predict(X) == y))
        modality_ablation(model)
        assert_allclose(shap_by_modality(again, X).table["share"], shap_by_modality(model, X).table["share"])
        model_checks(model, X, y)
        save_model(again, tmp_path / "again.fuse", example=X.head(4))
    assert_allclose(load_model(tmp_path / "again.fuse", trusted=["builtins.len"]).predict_proba(X), wanted)


@pytest.mark.by_turns
@pytest.mark.parametrize("own", ["default", "pandas", "polars"])
def test_no_output_of_a_pipeline_merges_its_modalities(own):
    X, y, pipeline = raw()
    wanted = sklearn.clone(pipeline).fit(X, y)
    model = sklearn.clone(pipeline).set_output(transform=own).fit(X, y)
    assert list(model["fuse"].blocks_) == ["text", "tabular"]
    assert_allclose(model.predict_proba(X), wanted.predict_proba(X))
    for later in ("default", "polars", "pandas"):
        model.set_output(transform=later)
        assert isinstance(model[:-1].transform(X), pl.DataFrame if later == "polars" else pd.DataFrame)
        assert_allclose(model.predict_proba(X), wanted.predict_proba(X))


def test_a_transformer_of_modalities_alone_names_its_columns():
    X, y, pipeline = raw()
    alone = ModalityTransformer(pipeline["encode"].transformers)
    names = alone.fit_transform(X).columns.tolist()
    assert alone.transform(X).columns.tolist() == names
    model = make_pipeline(sklearn.clone(alone), FeatureFusionClassifier(LR)).fit(X, y)
    assert list(model[-1].blocks_) == ["text", "tabular"]


def test_equal_seeds_are_not_needed_where_nothing_is_drawn():
    X, _ = data()
    first, second = (BlockNystroem().fit_transform(X) for _ in range(2))
    assert_array_equal(first, second)
    assert not np.allclose(*(BlockNystroem(5).fit_transform(X)[:, :5] for _ in range(2)), equal_nan=True)
