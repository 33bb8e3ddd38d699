"""Split deployment: the parts say together what the whole model says, and refuse what they were not split for."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import slow_but
from numpy.testing import assert_allclose, assert_array_equal
from serving_case import client_of
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC
from test_encoder_base import CountingEncoder

from ensemblefuse import (
    BlockPCA,
    CascadeFusionClassifier,
    ColumnError,
    ConformalFusionClassifier,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    EncodingError,
    FeatureFusionClassifier,
    FunctionEncoder,
    FusionSearchCV,
    KernelFusionClassifier,
    LogPool,
    MeanPool,
    MissingModalityWarning,
    check_recipe,
    explain_row,
    inspect_model,
    load_model,
    make_fusion_pipeline,
    save_model,
    shap_by_modality,
    split_model,
)
from ensemblefuse.cli import main
from ensemblefuse.compose import ModalityTransformer

LR = LogisticRegression()
MODALITIES = ("text", "sound", "tabular")


def numbers(cell):
    return np.asarray(cell) * 2.0


def letters(text):
    return [text.count("a"), text.count("b"), len(text)]


def table(n=90, missing=True, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 3
    X = pd.DataFrame(
        {
            "title": ["a" * rng.poisson(2 + 2 * c) + "b" * rng.poisson(3) + "c" for c in codes],
            "clip": [rng.normal(size=6) + np.eye(6)[c] for c in codes],
            "price": rng.normal(size=n) + codes,
            "weight": rng.normal(size=n) - codes,
        },
        index=[f"row {i}" for i in range(n)],
    )
    if missing:
        X.loc[X.index[::5], "title"] = None
        X.loc[X.index[1::6], ["price", "weight"]] = np.nan
        X["clip"] = X["clip"].mask(np.arange(n) % 7 == 3, None)
    return X, np.array(["red", "green", "blue"])[codes]


def modalities():
    return [
        ("text", FunctionEncoder(letters), "title"),
        ("sound", make_pipeline(FunctionEncoder(numbers), StandardScaler(), PCA(3)), "clip"),
        ("tabular", StandardScaler(), ["price", "weight"]),
    ]


def decision(**params):
    return DecisionFusionClassifier(LR, **{"cv": 3, "joint": False, **params})


def fitted(fusion, **params):
    X, y = table(**params)
    return make_fusion_pipeline(modalities(), fusion).fit(X, y)


def every_pattern(X):
    """The same rows with each set of modalities, the empty one too."""
    columns = {"text": ["title"], "sound": ["clip"], "tabular": ["price", "weight"]}
    for size in range(4):
        for kept in itertools.combinations(columns, size):
            Z = X.copy()
            for name in set(columns) - set(kept):
                Z[columns[name]] = np.nan if name == "tabular" else None
            yield kept, Z


def send(parts, X):
    return pd.concat([part.transform(X) for part in parts.edge.values()], axis=1)


def say(model, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingModalityWarning)
        return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


WHOLE = {
    "hybrid": DecisionFusionClassifier(LR, cv=3),
    "feature": FeatureFusionClassifier(LR),
    "feature_impute": FeatureFusionClassifier(LR, missing="reduced"),
    "kernel": KernelFusionClassifier(cv=3),
    "search": FusionSearchCV({"late": decision(), "early": FeatureFusionClassifier(LR)}, cv=3),
    "conformal": ConformalFusionClassifier(decision()),
}
QUICK = ["hybrid", "feature_impute", "kernel"]


@pytest.mark.by_turns
@pytest.mark.parametrize("kind", slow_but(QUICK.__contains__, WHOLE))
def test_embeddings_give_what_the_whole_model_gives_for_every_pattern(kind):
    model = fitted(WHOLE[kind])
    parts = split_model(model)
    X = table(30, seed=1)[0]
    for kept, Z in every_pattern(X):
        assert_allclose(say(parts.fusion, send(parts, Z)), say(model, Z), atol=1e-6, err_msg=f"{kept}")
    assert model.feature_names_in_.tolist() == ["title", "clip", "price", "weight"]  # the whole model is as it was
    assert "sound__pca0" in model[-1].feature_names_in_


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "fusion",
    [
        decision(),
        decision(combiner=MeanPool(), calibration="sigmoid"),
        decision(combiner=LogPool(smoothing=0.0), refit=False),
        DecisionFusionClassifier({"text": [LR, LinearSVC()], "sound": LinearSVC()}, joint=False, cv=3),
        DecisionFusionClassifier({"text": LR, "sound": LR, "tabular": "drop"}, joint=False, cv=3),
        FusionSearchCV({"late": decision()}, cv=3),
    ],
    ids=["default", "mean", "folds", "heads", "drop", "search"],
)
def test_probabilities_give_what_the_whole_model_gives_for_every_pattern(fusion):
    model = fitted(fusion)
    parts = split_model(model, send="probabilities")
    for kept, Z in every_pattern(table(30, seed=1)[0]):
        assert_allclose(say(parts.fusion, send(parts, Z)), say(model, Z), atol=1e-6, err_msg=f"{kept}")
    held = {type(e).__name__ for e in parts.fusion[-1].estimators_.values()}
    assert held == {"SentPredictions"}


def test_without_its_joint_member_a_model_says_what_it_says_where_that_member_takes_no_part():
    model = fitted(DecisionFusionClassifier(LR, cv=3))
    with pytest.warns(UserWarning, match="'joint' sees all modalities.*with it and .* without") as caught:
        parts = split_model(model, send="probabilities")
    assert len(caught) == 1
    X = table(30, seed=1)[0]
    no_joint = model[-1]._fuse(*model[-1]._outputs(model[:-1].transform(X), np.zeros(len(X), dtype=bool)))
    assert np.abs(no_joint - model.predict_proba(X)).max() > 0.01
    assert_allclose(parts.fusion.predict_proba(send(parts, X)), no_joint, atol=1e-6)
    assert "joint" not in parts.fusion[-1].estimators_
    with pytest.raises(TypeError, match="'text': 'SentPredictions is neither linear nor trees'"):
        shap_by_modality(parts.fusion, send(parts, X))
    alone = "text"  # a pattern in which the joint member never takes part has the score that it had
    before, after = model[-1].expected_scores_, parts.fusion[-1].expected_scores_
    assert before.loc[alone].tolist() == after.loc[alone].tolist()
    assert before.iloc[0].tolist() != after.iloc[0].tolist()


def test_regression_splits_both_ways():
    X, _ = table()
    y = X["price"].fillna(0).to_numpy() + X["title"].str.len().fillna(3)
    model = make_fusion_pipeline(modalities(), DecisionFusionRegressor(Ridge(), cv=3, joint=False)).fit(X, y)
    for how in ("embeddings", "probabilities"):
        parts = split_model(model, send=how)
        for _, Z in every_pattern(table(20, seed=1)[0]):
            assert_allclose(say(parts.fusion, send(parts, Z)), say(model, Z), atol=1e-6)


def test_heads_of_raw_cells_and_of_rows_partly_nan_stand_on_the_edge():
    X, y = table()
    X.loc[X.index[2], "price"] = np.nan
    plan = [("text", "passthrough", ["title"]), ("tabular", "passthrough", ["price", "weight"])]
    heads = {"text": make_pipeline(CountVectorizer(analyzer="char"), LR), "tabular": HistGradientBoostingClassifier()}
    model = make_fusion_pipeline(plan, DecisionFusionClassifier(heads, cv=3, joint=False)).fit(X, y)
    parts = split_model(model, send="probabilities")
    assert_allclose(parts.fusion.predict_proba(send(parts, X)), model.predict_proba(X), atol=1e-6)
    with pytest.raises(ValueError, match=r"\['text'\] hold raw cells.*probabilities"):
        split_model(model)
    numeric = make_fusion_pipeline(plan[1:], DecisionFusionClassifier(heads["tabular"], cv=3, joint=False)).fit(X, y)
    with pytest.raises(ValueError, match="'tabular' is partly NaN in 1 row: \\['row 2'\\]"):
        split_model(numeric).edge["tabular"].transform(X)


def test_steps_between_encoders_and_fusion_stay_in_the_fusion_part():
    X, y = table(missing=False)
    encode = make_fusion_pipeline(modalities()).named_steps["encode"]
    model = Pipeline([("encode", encode), ("pca", BlockPCA(2).set_output(transform="pandas")), ("fuse", decision())])
    model.fit(X, y)
    parts = split_model(model)
    assert_allclose(parts.fusion.predict_proba(send(parts, X)), model.predict_proba(X), atol=1e-6)
    with pytest.raises(TypeError, match="after its encoders, this pipeline has BlockPCA, DecisionFusionClassifier"):
        split_model(model, send="probabilities")


def test_both_parts_are_saved_explained_and_searched_like_any_model(tmp_path):
    X, y = table()
    model = GridSearchCV(make_fusion_pipeline(modalities(), decision()), {"fuse__calibration": [None]}, cv=3).fit(X, y)
    for how in ("embeddings", "probabilities"):
        parts = split_model(model, send=how)
        sent = send(parts, X)
        path = save_model(parts.fusion, tmp_path / "fusion.fuse", example=sent[:4])
        edges = {
            name: load_model(save_model(part, tmp_path / f"{name}.fuse"), trusted=[letters, numbers])
            for name, part in parts.edge.items()
        }
        loaded = load_model(path, verify="rows")
        again = pd.concat([part.transform(X) for part in edges.values()], axis=1)
        assert_array_equal(loaded.predict_proba(again), parts.fusion.predict_proba(sent))
        check_recipe(loaded, {name: part.digest() for name, part in edges.items()})
        assert [m["columns"] for m in inspect_model(path)["modalities"]] == [[name] for name in MODALITIES]
        explained = explain_row(parts.fusion, sent, "row 1")
        assert set(explained.shares.index) >= set(MODALITIES)
        assert "SentPredictions" in parts.fusion._repr_html_() or how == "embeddings"


def test_the_command_predicts_from_a_file_of_vectors(tmp_path, capsys):
    X, _ = table()
    model = fitted(decision())
    parts = split_model(model, send="probabilities")
    path = save_model(parts.fusion, tmp_path / "fusion.fuse")
    send(parts, X).reset_index(names="id").to_parquet(tmp_path / "sent.parquet")
    command = ["predict", str(path), str(tmp_path / "sent.parquet"), "--output", str(tmp_path / "said.csv")]
    assert main(command) == 0
    said = pd.read_csv(tmp_path / "said.csv")
    columns = [f"proba_{label}" for label in model.classes_]
    assert_allclose(said[columns], model.predict_proba(X), atol=1e-6)
    with pytest.raises(ValueError, match="EdgePart has no predict; leave example out"):
        save_model(parts.edge["text"], tmp_path / "edge.fuse", example=X[:2])


def test_the_fusion_part_is_served_and_takes_what_has_arrived(tmp_path):
    model = fitted(decision())
    X = table(12, seed=1)[0]
    for how in ("embeddings", "probabilities"):
        parts = split_model(model, send=how)
        sent = send(parts, X)
        rows = [
            {name: cell.tolist() for name, cell in row.items() if cell is not None} for row in sent.to_dict("records")
        ]
        assert any(len(row) < 3 for row in rows)
        with client_of(save_model(parts.fusion, tmp_path / f"{how}.fuse", example=sent[:3])) as client:
            said = client.post("/predict", json={"rows": rows}).json()["predictions"]
            wrong = client.post("/predict", json={"rows": [{**rows[1], "sound": [1.0]}]})
        for answer, proba in zip(said, model.predict_proba(X), strict=True):
            assert_allclose([answer["probabilities"][label] for label in model.classes_], proba, atol=1e-6)
        assert "1 numbers, where the embeddings of fit have 3" in wrong.text


def test_a_vector_of_another_length_is_refused_by_name():
    parts = split_model(fitted(decision()))
    sent = send(parts, table(5, missing=False)[0])
    sent.at["row 2", "sound"] = np.zeros(4)
    with pytest.raises(EncodingError, match=r"row 'row 2', column 'sound'.*4 numbers, where .* have 3"):
        parts.fusion.predict(sent)


def test_a_number_beyond_float32_is_an_error_and_not_sent():
    X, y = table(missing=False)
    squared = FunctionTransformer(np.square, feature_names_out="one-to-one")
    plan = [("text", FunctionEncoder(letters), "title"), ("tabular", squared, ["price", "weight"])]
    part = split_model(make_fusion_pipeline(plan, decision()).fit(X, y)).edge["tabular"]
    X.loc["row 1", ["price", "weight"]] = np.nan
    X.loc["row 2", "weight"] = -1e300
    with pytest.raises(ColumnError, match=r"row 'row 2', column 'weight': -1e\+300 is too large for float32"):
        part.transform(X)
    X.loc["row 2", "weight"] = -1e30
    with pytest.raises(ValueError, match=r"number 1 of the vector of row 'row 2' is 1\.0+1?e\+60, too large"):
        part.transform(X)
    X.loc["row 2", "weight"] = 1e19
    assert part.transform(X).at["row 2", "tabular"][1] == np.float32(1e38)


def test_a_recipe_tells_vectors_of_equal_length_apart():
    X, y = table(missing=False)
    models = [
        make_fusion_pipeline([("text", e, "title"), *modalities()[1:]], decision()).fit(X, y)
        for e in (CountingEncoder(), CountingEncoder(batch_size=3), CountingEncoder(scale=2.0))
    ]
    one, same, other = [split_model(model) for model in models]
    check_recipe(one.fusion, {name: part.digest() for name, part in same.edge.items()})
    with pytest.raises(ValueError, match=f"'text': .*{other.edge['text'].digest()}.*{one.edge['text'].digest()}"):
        check_recipe(one.fusion, {"text": other.edge["text"].digest()})
    again = split_model(clone(models[0]).fit(X[::2], y[::2]))  # another PCA behind the same encoder
    with pytest.raises(ValueError, match="'sound'"):
        check_recipe(one.fusion, {"sound": again.edge["sound"].digest()})
    with pytest.raises(ValueError, match="takes the fusion part of split_model"):
        check_recipe(models[0], {})
    with pytest.raises(ValueError, match=r"\['smell'\].*has \['text', 'sound', 'tabular'\]"):
        check_recipe(one.fusion, {"smell": ""})


@pytest.mark.parametrize("columns", [slice("price", "weight"), [False, False, True, True], [2, 3]], ids=str)
def test_columns_that_are_chosen_by_place_have_names_on_the_edge(columns):
    X, y = table(missing=False)
    encode = ModalityTransformer([("text", FunctionEncoder(letters), "title"), ("tabular", StandardScaler(), columns)])
    model = Pipeline([("encode", encode.set_output(transform="pandas")), ("fuse", FeatureFusionClassifier(LR))])
    parts = split_model(model.fit(X, y))
    sent = {name: part.transform(X)[name] for name, part in parts.edge.items()}
    assert parts.edge["tabular"].columns == ["price", "weight"]
    assert_allclose(parts.fusion.predict_proba(pd.DataFrame(sent)), model.predict_proba(X), atol=1e-6)


def test_what_cannot_be_split_says_why():
    X, _ = table(missing=False)
    with pytest.raises(ValueError, match="send must be one of"):
        split_model(fitted(decision()), send="all")
    with pytest.raises(TypeError, match="begins with a ModalityTransformer"):
        split_model(fitted(decision())[-1])
    with pytest.raises(TypeError, match="after its encoders, this pipeline has FeatureFusionClassifier"):
        split_model(fitted(FeatureFusionClassifier(LR)), send="probabilities")
    with pytest.raises(TypeError, match="after its encoders, this pipeline has ConformalFusionClassifier"):
        split_model(fitted(ConformalFusionClassifier(decision())), send="probabilities")
    with pytest.raises(ValueError, match="CascadeFusionClassifier holds its own encoders"):
        split_model(fitted(CascadeFusionClassifier(LR, cv=3)))
    with pytest.raises(ValueError, match=r"reads the columns \['price', 'weight'\]; X lacks \['weight'\]"):
        split_model(fitted(decision())).edge["tabular"].transform(X[["price"]])
