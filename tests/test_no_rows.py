"""A table of no rows gets an answer of no rows, with the shape and the dtype of any other answer."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import make_blocks
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from ensemblefuse import (
    AudioEncoder,
    BlockNystroem,
    BlockPCA,
    BlockScaler,
    CascadeFusionClassifier,
    CommonSpaceProjector,
    ConformalFusionClassifier,
    ConformalFusionRegressor,
    CooperativeClassifier,
    CrossModalImputer,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    EmbeddingNoise,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    FunctionEncoder,
    FusionSearchCV,
    ImageEncoder,
    KernelFusionClassifier,
    KernelFusionRegressor,
    PresentRows,
    SequentialFusionClassifier,
    SequentialFusionRegressor,
    TimeSeriesEncoder,
    make_fusion_pipeline,
)

LR = LogisticRegression()
CLASSIFIERS = [
    DecisionFusionClassifier(LR, cv=3),
    DecisionFusionClassifier(LR, cv=3, refit=False, calibration="sigmoid"),
    FeatureFusionClassifier(LR),
    FeatureFusionClassifier(LinearSVC(), missing="raise"),
    FeatureFusionClassifier(LR, missing="reduced"),
    KernelFusionClassifier(cv=3),
    CooperativeClassifier(cv=3),
    SequentialFusionClassifier(LR, cv=3),
    CascadeFusionClassifier(LR, cv=3),
    ConformalFusionClassifier(DecisionFusionClassifier(LR, cv=3)),
    FusionSearchCV({"late": DecisionFusionClassifier(LR)}, cv=3),
]
REGRESSORS = [
    DecisionFusionRegressor(Ridge(), cv=3),
    FeatureFusionRegressor(Ridge()),
    KernelFusionRegressor(cv=3),
    SequentialFusionRegressor(Ridge(), cv=3),
    ConformalFusionRegressor(DecisionFusionRegressor(Ridge(), cv=3)),
]
METHODS = [
    *("predict", "predict_proba", "decision_function", "predict_set", "predict_interval", "predict_stage"),
    *("predict_all", "staged_predict", "staged_predict_proba"),
]


def forms(answer):
    """Shape beyond the rows, and dtype, of an answer or of each of several."""
    parts = answer.values() if isinstance(answer, dict) else [answer] if isinstance(answer, np.ndarray) else answer
    return [(len(part), part.shape[1:], part.dtype) for part in parts]


@pytest.mark.by_turns
@pytest.mark.parametrize("names", [True, False], ids=["frame", "array"])
@pytest.mark.parametrize("fusion", [*CLASSIFIERS, *REGRESSORS], ids=lambda f: type(f).__name__)
def test_every_method_of_a_fusion_answers_no_rows(fusion, names):
    X, y = make_blocks(60)
    y = X["image__0"].to_numpy() if "Regressor" in type(fusion).__name__ else y
    if not names:
        fusion = fusion.__class__(**{**fusion.get_params(deep=False), "blocks": {"a": slice(0, 6), "b": slice(6, 13)}})
        X = X.to_numpy()
    model = fusion.fit(X, y)
    asked = [method for method in METHODS if hasattr(model, method)]
    assert "predict" in asked
    for method in asked:
        some, none = (forms(getattr(model, method)(table)) for table in (X[:2], X[:0]))
        assert [(0, *form[1:]) for form in some] == none, method


def test_a_wrong_table_without_rows_is_still_wrong():
    X, y = make_blocks(60)
    model = FeatureFusionClassifier(LR).fit(X, y)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X.iloc[:0].rename(columns={"image__0": "other__0"}))
    with pytest.raises(ValueError, match="feature"):
        model.predict(X.iloc[:0, :3])
    with pytest.raises(NotFittedError):
        FeatureFusionClassifier(LR).predict(X.iloc[:0])
    with pytest.raises(ValueError, match="0"):
        FeatureFusionClassifier(LR).fit(X.iloc[:0], y[:0])


@pytest.mark.parametrize(
    "part",
    [
        *(BlockScaler(), BlockPCA(2), BlockNystroem(5), CommonSpaceProjector(2), EmbeddingNoise()),
        *(CrossModalImputer("mean"), CrossModalImputer("knn", add_indicator=True)),
        PresentRows(make_pipeline(SimpleImputer(), PCA(2))),
    ],
    ids=lambda p: type(p).__name__,
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_part_transforms_no_rows(part, dtype):
    X = make_blocks(40)[0].astype(dtype)
    part = clone(part).fit(X)
    some, none = part.transform(X[:2]), part.transform(X[:0])
    assert none.shape == (0, some.shape[1])
    assert none.dtype == some.dtype
    framed = part.set_output(transform="pandas").transform(X[:0])
    assert framed.columns.tolist() == part.get_feature_names_out().tolist()


@pytest.mark.parametrize(
    ("encoder", "cell"),
    [
        (FunctionEncoder(len), "a cat"),
        (ImageEncoder(features="color"), np.zeros((32, 32, 3), dtype=np.uint8)),
        (AudioEncoder(features="librosa"), (np.sin(np.arange(8000.0)).astype(np.float32), 16000)),
        (TimeSeriesEncoder(), np.arange(50.0)),
    ],
    ids=lambda v: type(v).__name__ if hasattr(v, "fit") else "",
)
def test_every_encoder_encodes_no_cells(encoder, cell):
    cells = np.empty(2, dtype=object)
    cells[:] = [cell, cell]
    X = pd.DataFrame({"c": cells})
    some = encoder.fit_transform(X)
    for none in (X.iloc[:0], {"c": []}, pd.DataFrame({"c": pd.Series([], dtype="float64")})):
        out = encoder.transform(none)
        assert (out.shape, out.dtype) == ((0, some.shape[1]), some.dtype)
    assert encoder.fit(X["c"].tolist()).transform([]).shape == (0, some.shape[1])


@pytest.mark.by_turns
@pytest.mark.parametrize("cascade", [False, True])
def test_a_pipeline_answers_no_rows_of_any_table(cascade):
    n = 30
    X = pd.DataFrame({"title": ["x" * (1 + i) for i in range(n)], "note": [f"{i % 2} is" for i in range(n)]})
    X["price"] = np.arange(n, dtype=float)
    words = make_pipeline(TfidfVectorizer(token_pattern=r"\w+"), LR)
    fusion = CascadeFusionClassifier({"note": words}, cv=3) if cascade else DecisionFusionClassifier({"note": words})
    modalities = [("title", FunctionEncoder(len), "title"), ("note", "passthrough", "note")]
    model = make_fusion_pipeline([*modalities, ("price", SimpleImputer(), ["price"])], fusion)
    model.fit(X, np.arange(n) % 2)
    empty = {"title": [], "note": [], "price": []}
    for none in (X.iloc[:0], pl.from_pandas(X).head(0), empty, pd.DataFrame(empty)):
        for method, width in (("predict", ()), ("predict_proba", (2,))):
            some, answer = getattr(model, method)(X[:2]), getattr(model, method)(none)
            assert answer.shape == (0, *width)
            assert answer.dtype == some.dtype
        assert model[:-1].transform(none).shape == (0, 3)
