"""The blocks of a modality transformer are scikit-learn's own, however they are put together."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from ensemblefuse import (
    DecisionFusionClassifier,
    FunctionEncoder,
    MissingModalityWarning,
    PrecomputedEncoder,
    make_fusion_pipeline,
)
from ensemblefuse.compose import _modality_transformer as compose_module
from ensemblefuse.fusion.members import member_scores
from ensemblefuse.table import plain_missing

N = 40


class Doubled(FunctionEncoder):
    """An encoder with a `transform` of its own."""

    def transform(self, X):
        return 2 * super().transform(X)


def table():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "title": [f"{'a very ' * (i % 4)}red thing {i}" for i in range(N)],
            "vector": list(rng.normal(size=(N, 5)).astype(np.float32)),
            "price": rng.normal(size=N),
            "weight": rng.normal(size=N),
            "colour": list(rng.choice(["red", "green"], N)),
            "count": np.arange(N),
        },
        index=[f"sku{i % 30}" for i in range(N)],
    )
    X.iloc[3, 0] = None
    return X, np.where(X["price"] > 0, "yes", "no")


def count(cell):
    return [len(cell), cell.count(" ")]


TITLE, VECTOR = ("text", FunctionEncoder(count), "title"), ("vec", PrecomputedEncoder(), "vector")
SCALED = ("tabular", StandardScaler(), ["price", "weight"])
CASES = {
    "encoders": [TITLE, VECTOR],
    "encoders and numbers": [TITLE, SCALED, VECTOR],
    "steps after an encoder": [("text", make_pipeline(FunctionEncoder(count), StandardScaler()), "title"), VECTOR],
    "categories and raw cells": [
        ("colour", OneHotEncoder(sparse_output=False), ["colour"]),
        ("raw", "passthrough", "title"),
    ],
    "whole numbers": [VECTOR, ("count", "passthrough", ["count", "price"])],
    "a dropped modality": [TITLE, ("gone", "drop", "vector"), SCALED],
    "an encoder of one's own": [("text", Doubled(count), "title"), VECTOR],
    "sparse steps": [("text", make_pipeline(TfidfVectorizer(), TruncatedSVD(1)), "colour"), VECTOR],
    "columns by position": [VECTOR, ("tabular", FunctionTransformer(feature_names_out="one-to-one"), [2, 3])],
}
SETTINGS = {
    "as made": lambda encode: encode,
    "a pattern": lambda encode: encode.set_params(verbose_feature_names_out="{feature_name}.{transformer_name}"),
    "a function": lambda encode: encode.set_params(verbose_feature_names_out=lambda t, f: f"{t}/{f}"),
    "weights": lambda encode: encode.set_params(transformer_weights={"vec": 3.0}),
    "a remainder": lambda encode: encode.set_params(remainder="passthrough"),
    "two jobs": lambda encode: encode.set_params(n_jobs=2),
    "arrays": lambda encode: encode.set_output(transform="default"),
    "polars": lambda encode: encode.set_output(transform="polars"),
}


def fitted(modalities, change=SETTINGS["as made"]):
    X, _ = table()
    encode = change(make_fusion_pipeline(modalities).named_steps["encode"])
    return encode.fit(X), X


def assert_same(found, wanted):
    assert type(found) is type(wanted)
    if isinstance(wanted, pd.DataFrame):
        pd.testing.assert_frame_equal(found, wanted, check_exact=True)
        assert found.columns.dtype == wanted.columns.dtype
    elif isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    else:
        assert found.equals(wanted)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "rows", [slice(None), slice(5, 6), slice(3, 4), slice(0, 0)], ids=["all", "one", "gap", "none"]
)
@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_modality(case, rows):
    encode, X = fitted(CASES[case])
    X = plain_missing(X)
    try:
        wanted = ColumnTransformer.transform(encode, X.iloc[rows])
    except ValueError as error:
        with pytest.raises(ValueError) as found:
            encode.transform(X.iloc[rows])
        assert str(found.value) == str(error) and not len(X.iloc[rows])
    else:
        assert_same(encode.transform(X.iloc[rows]), wanted)


@pytest.mark.by_turns
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("case", ["encoders", "encoders and numbers"])
def test_every_setting(case, setting):
    encode, X = fitted(CASES[case], SETTINGS[setting])
    wanted = ColumnTransformer.transform(encode, X)
    assert_same(encode.transform(X), wanted)
    assert_same(encode.transform(X), wanted)


def test_settings_that_change_after_a_first_call_take_effect():
    encode, X = fitted([TITLE, VECTOR])
    assert encode.transform(X).columns[0] == "text__0"
    encode.set_params(verbose_feature_names_out="{transformer_name}.{feature_name}")
    assert encode.transform(X).columns[0] == "text.0"
    encode.set_params(verbose_feature_names_out=False)
    with pytest.raises(ValueError, match="are not unique"):
        encode.transform(X)
    encode.set_params(verbose_feature_names_out=True).set_output(transform="polars")
    assert encode.transform(X).columns[0] == "text__0"
    assert isinstance(encode.transform(X), pl.DataFrame)
    encode.set_output(transform="default")  # without names, the modalities would become one
    assert encode.transform(X).columns[0] == "text__0"
    encode.set_params(text=FunctionEncoder(len), verbose_feature_names_out=True).fit(X)
    assert encode.transform(X).columns.tolist() == ["text__0", *(f"vec__{i}" for i in range(5))]


def test_encoders_are_put_together_without_scikit_learn_and_odd_settings_with_it(monkeypatch):
    calls = []
    own = ColumnTransformer.transform
    monkeypatch.setattr(ColumnTransformer, "transform", lambda self, X: calls.append(len(X)) or own(self, X))
    encode, X = fitted([TITLE, SCALED, VECTOR])
    encode.transform(X)
    assert calls == []
    encode.set_params(transformer_weights={"vec": 3.0}).transform(X)
    assert calls == [N]


def test_nothing_of_it_is_state():
    encode, X = fitted([TITLE, VECTOR])
    before = pickle.dumps({k: v for k, v in vars(encode).items() if not k.startswith("_transformers_feature")})
    encode.transform(X)
    assert pickle.dumps({k: v for k, v in vars(encode).items() if not k.startswith("_transformers_feature")}) == before
    assert_same(pickle.loads(pickle.dumps(encode)).transform(X), encode.transform(X))
    known = len(compose_module._names_out)
    other = clone(encode).fit(X)
    other.transform(X)
    assert len(compose_module._names_out) == known + 1
    del other
    assert len(compose_module._names_out) == known


def test_errors_and_warnings_are_those_of_the_encoders_and_name_rows():
    X, y = table()
    fusion = DecisionFusionClassifier(LogisticRegression(), cv=3)
    model = make_fusion_pipeline([TITLE, VECTOR], fusion).fit(X, y)
    bad = X.assign(vector=[*X["vector"][:-1], np.ones(4)])
    with pytest.raises(ValueError, match=r"row 'sku9', column 'vector', .* 4 numbers, where the embeddings of fit"):
        model.predict(bad)
    with pytest.warns(MissingModalityWarning, match=r"\['title'\] of modality 'text'") as caught:
        model.predict(X[["vector"]])
    assert caught[0].filename == compose_module.__file__ or "sklearn" in caught[0].filename


# ---------------------------------------------------------------------- names that the fusion has seen


def test_a_fusion_still_compares_the_names_of_every_new_index():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 4)), columns=["a__0", "a__1", "b__0", "b__1"])
    y = (X["a__0"] > 0).astype(int)
    model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y)
    wanted = model.predict_proba(X)
    for _ in range(2):
        np.testing.assert_array_equal(model.predict_proba(X), wanted)
        for other in (X[X.columns[::-1]], X.rename(columns={"a__1": "a__2"}), X.iloc[:, :3]):
            with pytest.raises(ValueError, match="feature names should match"):
                model.predict_proba(other)
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            model.predict_proba(X.to_numpy())
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            model.predict_proba(X.set_axis(range(4), axis=1))
    renamed = X.rename(columns=lambda name: name.replace("b", "c"))
    model.fit(renamed, y)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict_proba(X)
    np.testing.assert_array_equal(model.predict_proba(renamed), wanted)
    changed = renamed.copy()
    changed.columns = X.columns
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict_proba(changed)


def test_a_fusion_fitted_on_an_array_warns_of_names_each_time():
    X = np.random.default_rng(0).normal(size=(60, 4))
    model = DecisionFusionClassifier(LogisticRegression(), cv=3, blocks={"all": slice(None)}).fit(X, X[:, 0] > 0)
    frame = pd.DataFrame(X, columns=list("abcd"))
    for _ in range(2):
        with pytest.warns(UserWarning, match="X has feature names, but DecisionFusionClassifier was fitted without"):
            model.predict(frame)


# ---------------------------------------------------------------------- members that are pipelines


@pytest.mark.parametrize("method", ["decision_function", "predict_proba", "predict"])
@pytest.mark.parametrize("n", [0, 1, N], ids=["none", "one", "all"])
def test_the_steps_of_a_member_give_what_its_pipeline_gives(method, n):
    X, y = table()
    raw, codes = X["title"].fillna(""), (y == "yes").astype(int)
    last = {"decision_function": LinearSVC(), "predict_proba": LogisticRegression(), "predict": Ridge()}[method]
    model = make_pipeline(make_pipeline(TfidfVectorizer(), "passthrough", None), StandardScaler(with_mean=False), last)
    model.fit(raw, codes)
    n_classes = 0 if method == "predict" else 2
    found = member_scores(model, np.arange(2), raw.iloc[:n], n_classes)
    assert found.shape == ((n, 2) if n_classes else (n,))
    if n:
        told = getattr(model, method)(raw.iloc[:n])
        wanted = {
            "decision_function": lambda: np.column_stack([-told / 2, told / 2]),
            "predict_proba": lambda: np.log(told),
        }
        np.testing.assert_array_equal(found, wanted.get(method, lambda: told)())
