"""From a raw table to a fused model through one interface."""

import re
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pandas as pd
import polars
import pytest
import sklearn
from numpy.testing import assert_allclose
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import RFE, SelectFromModel, SelectKBest
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import BayesianRidge, LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from test_encoder_base import CountingEncoder

from ensemblefuse import (
    AudioEncoder,
    CascadeFusionClassifier,
    ColumnError,
    CommonSpaceProjector,
    DecisionFusionClassifier,
    EncodingError,
    FeatureFusionClassifier,
    FunctionEncoder,
    ImageEncoder,
    MissingModalityWarning,
    ModalityTransformer,
    PresentRows,
    TextEncoder,
    UnseenCategoryWarning,
    compare_models,
    infer_modalities,
    make_fusion_pipeline,
    standard_strategies,
)
from ensemblefuse.datasets import make_media


def table(n=60, random_state=0):
    rng = np.random.default_rng(random_state)
    y = np.array(["cat", "dog"])[np.arange(n) % 2]
    length = rng.integers(3, 9, n) + 4 * (y == "dog")
    X = pd.DataFrame(
        {
            "title": ["x" * k + f" {i}" for i, k in enumerate(length)],
            "price": rng.normal(size=n) + (y == "dog"),
            "weight": rng.normal(size=n) + (y == "cat"),
        }
    )
    return X, y


def modalities():
    return [
        ("text", CountingEncoder(), "title"),
        ("tabular", make_pipeline(StandardScaler(), PCA(2)), ["price", "weight"]),
    ]


def test_the_pipeline_has_two_visible_floors_and_named_blocks():
    X, y = table()
    model = make_fusion_pipeline(modalities(), DecisionFusionClassifier(cv=3)).fit(X, y)
    assert list(model.named_steps) == ["encode", "fuse"]
    blocks = model[:-1].transform(X)
    assert blocks.columns.tolist() == ["text__0", "text__1", "tabular__pca0", "tabular__pca1"]
    assert model.score(X, y) > 0.7
    assert model["fuse"].member_names_ == ["text", "tabular", "joint"]
    assert model.feature_names_in_.tolist() == X.columns.tolist()
    assert "ModalityTransformer" in model._repr_html_()


def test_a_grid_search_encodes_every_distinct_cell_once():
    X, y = table()
    CountingEncoder.seen = []
    head = LogisticRegression()
    model = make_fusion_pipeline(modalities(), FeatureFusionClassifier(head))
    grid = {
        "fuse": [FeatureFusionClassifier(head), DecisionFusionClassifier(head, cv=3)],
        "fuse__blocks": [None],
        "encode__text": [CountingEncoder(), CountingEncoder(batch_size=7)],
    }
    search = GridSearchCV(model, grid, cv=5).fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert sorted(CountingEncoder.seen) == sorted(X["title"])
    search.predict(X)
    assert len(CountingEncoder.seen) == len(X)


def test_strategy_and_ablation_are_one_ordinary_search():
    X, y = table()
    model = make_fusion_pipeline(modalities(), FeatureFusionClassifier(LogisticRegression()))
    grid = {"encode__text": [CountingEncoder(), "drop"], "encode__tabular__pca__n_components": [1, 2]}
    search = GridSearchCV(model, grid, cv=3, scoring="neg_log_loss").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_an_absent_column_makes_its_modality_missing_with_one_warning_that_names_it():
    X, y = table()
    model = make_fusion_pipeline(modalities(), DecisionFusionClassifier(cv=3)).fit(X, y)
    with pytest.warns(MissingModalityWarning, match=r"\['title'\] of modality 'text'") as caught:
        proba = model.predict_proba(X.drop(columns="title"))
    assert len(caught) == 1
    assert_allclose(proba, model.predict_proba(X.assign(title=None)))
    with pytest.warns(MissingModalityWarning, match=r"\['price', 'weight'\] of modality 'tabular'"):
        model.predict(X[["title"]])
    with pytest.raises(ValueError, match="none of the columns"):
        model.predict(pd.DataFrame({"other": [1]}))


def test_missing_cells_pass_by_the_transformers_after_an_encoder():
    X, y = table()
    X.loc[::4, "title"] = None
    X.loc[1::6, ["price", "weight"]] = np.nan
    triples = [("text", make_pipeline(CountingEncoder(), PCA(1)), "title"), modalities()[1]]
    model = make_fusion_pipeline(triples, DecisionFusionClassifier(cv=3)).fit(X, y)
    blocks = model[:-1].transform(X)
    assert blocks.filter(like="text__").isna().all(axis=1).tolist() == X["title"].isna().tolist()
    assert blocks.filter(like="tabular__").isna().all(axis=1).tolist() == X["price"].isna().tolist()
    # The PCA saw the present rows alone.
    present = make_fusion_pipeline(triples, DecisionFusionClassifier(cv=3)).fit(X.dropna(), y[X.notna().all(axis=1)])
    assert model.score(X, y) > 0.6 and present.score(X.dropna(), y[X.notna().all(axis=1)]) > 0.6


def test_pandas_polars_and_a_dict_give_the_same_predictions():
    X, y = table()
    X.loc[3, "title"] = None
    model = make_fusion_pipeline(modalities(), DecisionFusionClassifier(cv=3)).fit(X, y)
    expected = model.predict_proba(X)
    columns = {name: [None if cell is None or cell != cell else cell for cell in X[name]] for name in X}
    for other in (polars.DataFrame(columns), columns, X[X.columns[::-1]], X.assign(unused=1)):
        assert_allclose(model.predict_proba(other), expected)
    refit = make_fusion_pipeline(modalities(), DecisionFusionClassifier(cv=3)).fit(polars.DataFrame(columns), y)
    assert_allclose(refit.predict_proba(X), expected)


def test_duplicate_columns_are_refused_by_name():
    X, y = table()
    X = pd.concat([X, X[["price"]]], axis=1)
    with pytest.raises(ValueError, match=r"several columns of the same name: \['price'\]"):
        make_fusion_pipeline(modalities()).fit(X, y)
    with pytest.raises(ValueError, match=r"\['price'\]"):
        infer_modalities(X)


@pytest.mark.parametrize(
    "triple, message",
    [
        (("text", LinearDiscriminantAnalysis(), "title"), "LinearDiscriminantAnalysis learns from labels"),
        (("text", make_pipeline(CountingEncoder(), SelectKBest()), "title"), "SelectKBest learns from labels"),
        (("text", make_pipeline(CountingEncoder(), SelectFromModel(LogisticRegression())), "title"), "SelectFromModel"),
        (("text", make_pipeline(CountingEncoder(), PLSRegression()), "title"), "PLSRegression learns from labels"),
        (("text", make_pipeline(CountingEncoder(), RFE(LogisticRegression())), "title"), "RFE learns from labels"),
        (("text", make_union(PCA(), make_pipeline(PCA(), SelectKBest())), ["title"]), "FeatureUnion learns from"),
        (("text", PresentRows(SelectKBest()), ["title"]), "PresentRows learns from labels"),
        (("te__xt", CountingEncoder(), "title"), "without '__'"),
        (("text", CountingEncoder()), r"must be \(name, encoder, columns\)"),
    ],
)
def test_a_modality_that_cannot_be_is_refused_with_a_way_out(triple, message):
    with pytest.raises(ValueError, match=message):
        make_fusion_pipeline([triple])


def test_labels_never_reach_the_encode_floor():
    class Spy(CountingEncoder):
        def fit_transform(self, X, y=None, **params):
            assert y is None
            return super().fit_transform(X)

    X, y = table()
    make_fusion_pipeline([("text", Spy(), "title")], FeatureFusionClassifier()).fit(X, y)


def test_names_and_columns_are_checked():
    X, y = table()
    with pytest.raises(ValueError, match="distinct names"):
        make_fusion_pipeline([modalities()[0]] * 2)
    with pytest.raises(ValueError, match="an empty list"):
        make_fusion_pipeline([])
    with pytest.raises(TypeError, match="is not a transformer"):
        make_fusion_pipeline([("text", 3, "title")])
    with pytest.raises(ValueError, match=r"lacks: \['titel'\].*Did you mean 'title'"):
        make_fusion_pipeline([("text", CountingEncoder(), "titel")]).fit(X, y)


def test_permutation_importance_works_on_the_raw_table():
    X, y = table()
    model = make_fusion_pipeline(modalities(), DecisionFusionClassifier(cv=3)).fit(X, y)
    result = permutation_importance(model, X, y, n_repeats=2, random_state=0)
    assert result.importances_mean[0] > 0.05


def test_groups_and_weights_reach_the_inner_splits():
    X, y = table()
    groups = np.arange(len(y)) // 2
    model = make_fusion_pipeline(modalities(), DecisionFusionClassifier(cv=3))
    model.fit(X, y, fuse__groups=groups, fuse__sample_weight=np.ones(len(y)))
    scores = cross_val_score(model, X, y, cv=3, params={"fuse__groups": groups})
    assert scores.mean() > 0.6


def test_infer_modalities_prints_what_it_decided_and_why(capsys, tmp_path):
    frame = make_media(tmp_path, 12).frame
    frame["colour"] = pd.Categorical(["red", "blue"] * 6)
    frame["series"] = [np.arange(5.0) + i for i in range(12)]
    found = infer_modalities(frame)
    assert [(name, type(encoder).__name__, columns) for name, encoder, columns in found] == [
        ("image", "ImageEncoder", "photo"),
        ("audio", "AudioEncoder", "clip"),
        ("text", "TextEncoder", "title"),
        ("series", "TimeSeriesEncoder", "series"),
        ("tabular", "TableTransformer", ["price", "weight", "colour"]),
    ]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["column", "kind", "seen", "done"]
    begun = [line for line in lines[1:] if not line.startswith(" ")]  # long entries have more lines, which are indented
    assert [line.split()[0] for line in begun] == list(frame.columns)
    assert "distinct values in 12 cells" in begun[list(frame.columns).index("title")]


def test_columns_that_tell_nothing_are_left_out_unless_they_are_declared(capsys):
    X = {
        "code": [f"k{i}" for i in range(30)],
        "row": list(range(30)),
        "empty": [None] * 30,
        "price": np.linspace(0, 1, 30),
    }
    assert [(name, columns) for name, _, columns in infer_modalities(X)] == [("tabular", ["price"])]
    lines = {text.split()[0]: text for text in re.split(r"\n(?! )", capsys.readouterr().out.strip())}
    assert all("left out" in lines[column] for column in ("code", "row", "empty"))
    with pytest.raises(ValueError, match="allow several readings") as caught:
        infer_modalities(X, strict=True)
    assert "'row'" in str(caught.value) and "row number" in str(caught.value)
    found = infer_modalities(X, kinds={"code": "text", "row": "number"}, verbose=False)
    assert [(name, columns) for name, _, columns in found] == [("text", "code"), ("tabular", ["row", "price"])]
    with pytest.raises(ValueError, match="got 'words'"):
        infer_modalities(X, kinds={"code": "words"})
    with pytest.raises(ValueError, match="columns that the table lacks"):
        infer_modalities(X, kinds={"nothing": "text"})


def test_several_columns_of_a_kind_are_several_modalities(tmp_path):
    X = {"front": ["a.png", "b.png"], "back__side": ["c.jpg", "d.jpg"], "s": ["one two three", "four five six"]}
    found = infer_modalities(X, verbose=False)
    assert [(name, columns) for name, _, columns in found] == [
        ("image_front", "front"),
        ("image_back_side", "back__side"),
        ("text", "s"),
    ]


def test_inferred_tabular_fills_single_gaps_and_leaves_missing_rows():
    X, y = table()
    X["colour"] = np.where(np.arange(60) % 3, "red", "blue")
    X.loc[0, "price"] = np.nan
    X.loc[1, ["price", "weight", "colour"]] = None
    found = infer_modalities(X, kinds={"title": "drop"}, verbose=False)
    model = make_fusion_pipeline(found, FeatureFusionClassifier()).fit(X, y)
    blocks = model[:-1].transform(X)
    assert blocks.iloc[0].notna().all() and blocks.iloc[1].isna().all()


@pytest.mark.slow
def test_compare_models_scores_all_strategies_on_the_same_splits():
    X, y = table()
    result = compare_models(standard_strategies(modalities()), X, y, cv=3)
    assert result.index.tolist() == ["text alone", "tabular alone", "feature level", "decision level", "hybrid"]
    assert {"accuracy", "macro_f1", "log_loss", "fit_time", "log_loss_sd"} <= set(result.columns)
    assert result.loc["hybrid", "log_loss"] < result.loc["tabular alone", "log_loss"]


@pytest.mark.slow
def test_three_lines_from_files_to_a_cross_validated_model(tmp_path, capsys):
    data = make_media(tmp_path, 30, missing=0.2)
    model = make_fusion_pipeline(infer_modalities(data.frame), DecisionFusionClassifier(cv=3, effort="low"))
    scores = cross_val_score(model, data.frame, data.target, cv=3)
    assert scores.mean() > 0.6
    assert {type(e) for _, e, _ in infer_modalities(data.frame)} >= {ImageEncoder, TextEncoder, AudioEncoder}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(data.frame, data.target)
    assert isinstance(model["encode"], ModalityTransformer)


def test_one_hot_encoding_and_passthrough_are_welcome():
    X, y = table()
    X["colour"] = np.where(y == "cat", "red", "blue")
    triples = [("colour", OneHotEncoder(sparse_output=False), ["colour"]), ("price", "passthrough", ["price"])]
    model = make_fusion_pipeline(triples, DecisionFusionClassifier({"price": LogisticRegression()}, cv=3))
    assert model.fit(X, y).score(X, y) == 1.0


def test_raw_texts_pass_through_to_an_estimator_of_their_own():
    X, y = table()
    title = make_pipeline(TfidfVectorizer(analyzer="char"), LogisticRegression())
    for columns in ("title", ["title"]):
        model = make_fusion_pipeline(
            [("text", "passthrough", columns), modalities()[1]], DecisionFusionClassifier({"text": title}, cv=3)
        )
        assert model.fit(X, y).score(X, y) > 0.7


def test_an_imputer_whose_regressors_learn_from_the_block_alone_is_welcome():
    X, y = table()
    X.loc[0, "price"] = np.nan
    imputer = IterativeImputer(estimator=BayesianRidge())
    triples = [("tabular", make_pipeline(imputer, StandardScaler()), ["price", "weight"])]
    model = make_fusion_pipeline(triples, FeatureFusionClassifier()).fit(X, y)
    assert np.isfinite(model[0].transform(X)).all(axis=None)


class SparseSVD(TruncatedSVD):
    def fit_transform(self, X, y=None):
        assert sparse.issparse(X)
        return super().fit_transform(X)

    def transform(self, X):
        assert sparse.issparse(X)
        return super().transform(X)


def test_sparse_steps_of_a_modality_stay_sparse_between_each_other():
    X, y = table()
    X.loc[[3, 40], "title"] = None
    text = make_pipeline(TfidfVectorizer(analyzer="char"), SparseSVD(2))
    model = make_fusion_pipeline([("text", text, "title"), modalities()[1]], FeatureFusionClassifier()).fit(X, y)
    blocks = model[0].transform(X)
    assert blocks.filter(like="text__").isna().all(axis=1).tolist() == X["title"].isna().tolist()
    assert blocks.columns.tolist()[:2] == ["text__sparsesvd0", "text__sparsesvd1"]
    search = GridSearchCV(model, {"encode__text__sparsesvd__n_components": [1, 2]}, cv=2, error_score="raise")
    assert search.fit(X, y).best_score_ > 0.5
    model.set_params(encode__text__sparsesvd__n_components=3, encode__text__tfidfvectorizer__lowercase=False)
    assert model.fit(X, y)[0].transform(X).shape[1] == 5


def test_parameters_of_every_step_after_an_encoder_keep_their_paths():
    X, y = table()
    text = make_pipeline(CountingEncoder(), StandardScaler(), PCA(2))
    model = make_fusion_pipeline([("text", text, "title")], FeatureFusionClassifier())
    model.set_params(encode__text__pca__n_components=1, encode__text__standardscaler__with_mean=False)
    model.set_params(encode__text__countingencoder__batch_size=3)
    assert model.fit(X, y)[0].transform(X).columns.tolist() == ["text__pca0"]


COLOURS = ["red", "blue", None] * 20


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "cells",
    [
        pd.Series(COLOURS, dtype="string"),
        pd.Series(COLOURS, dtype="string").astype(object),
        pd.Series(COLOURS, dtype="string").astype("category"),
        pd.Series(COLOURS).astype("category"),
        pd.Series([True, False, None] * 20, dtype="boolean"),
        pd.Series(COLOURS, dtype=object),
        pd.Series([None, np.nan, "red"] * 20, dtype=object),
    ],
    ids=["string", "object", "category of string", "category", "boolean", "None", "None and NaN"],
)
def test_missing_categories_are_a_category_of_their_own(cells):
    X, y = table()
    X["colour"] = cells
    found = infer_modalities(X, kinds={"title": "drop"}, verbose=False)
    model = make_fusion_pipeline(found, FeatureFusionClassifier()).fit(X, y)
    blocks = model[0].transform(X)
    assert blocks.notna().all(axis=None)
    lost = blocks[cells.isna()].filter(like="colour")
    assert (lost.nunique() == 1).all() and (lost.sum(axis=1) == 1).all()
    if cells.dtype == "boolean":
        with pytest.raises(ColumnError, match="row 0, column 'colour': 'green' is neither true nor false"):
            model.predict(X.assign(colour="green"))
    else:
        with pytest.warns(UnseenCategoryWarning, match="'colour' holds categories that fit never saw in 60 of 60 rows"):
            unseen = model[0].transform(X.assign(colour="green"))
        assert (unseen.filter(like="colour") == 0).all(axis=None)
    for missing in (None, np.nan, pd.NA):
        again = model[0].transform(X.assign(colour=pd.Series([missing] * len(X), dtype=object)))
        assert_allclose(again.filter(like="colour"), np.repeat(lost[:1].to_numpy(), len(X), axis=0))
    assert X["colour"].equals(cells)


def test_a_column_of_truth_values_may_miss_cells_at_prediction():
    X, y = table()
    X["old"] = np.arange(60) % 3 == 0
    found = infer_modalities(X, kinds={"title": "drop"}, verbose=False)
    model = make_fusion_pipeline(found, FeatureFusionClassifier()).fit(X, y)
    expected = model[0].transform(X)
    for dtype in (object, "boolean"):
        some = X.assign(old=X["old"].astype(dtype).where(np.arange(60) > 0, None))
        blocks = model[0].transform(some)
        assert_allclose(blocks[1:], expected[1:])
        assert (blocks.filter(like="old").iloc[0] == 0).all()


class GroupsSpy(DecisionFusionClassifier):
    seen: list = []

    def fit(self, X, y, sample_weight=None, groups=None):
        self.seen.append(groups)
        return super().fit(X, y, sample_weight, groups)


@pytest.mark.parametrize("routing", [False, True])
def test_compare_models_hands_groups_to_bare_estimators_and_pipelines(routing):
    X, y = table()
    groups = np.arange(60) // 2
    numbers = X[["price", "weight"]].set_axis(["a__0", "b__0"], axis=1)
    triples = [("a", "passthrough", ["a__0"]), ("b", "passthrough", ["b__0"])]
    head = LogisticRegression()
    fusion = GroupsSpy(head, cv=2)
    models = {"bare": fusion, "pipeline": make_fusion_pipeline(triples, fusion), "none": FeatureFusionClassifier(head)}
    GroupsSpy.seen.clear()
    with sklearn.config_context(enable_metadata_routing=routing):
        result = compare_models(models, numbers, y, cv=3, groups=groups)
    assert np.isfinite(result["accuracy"]).all()
    assert len(GroupsSpy.seen) == 6
    assert all(len(found) == 40 and set(np.bincount(found)) == {0, 2} for found in GroupsSpy.seen)


def test_blocks_keep_the_index_of_the_table():
    X, y = table()
    X.index = np.arange(60)[::-1] * 7
    model = make_fusion_pipeline(modalities(), FeatureFusionClassifier()).fit(X, y)
    blocks = model[0].transform(X)
    assert blocks.index.equals(X.index) and model[0].fit_transform(X).index.equals(X.index)
    assert_allclose(blocks, model[0].transform(X.reset_index(drop=True)))


def test_a_fitted_model_can_be_told_to_go_on_where_cells_are_bad():
    X, y = table()
    triples = [("text", make_pipeline(CountingEncoder(), PCA(1)), "title"), modalities()[1]]
    model = make_fusion_pipeline(triples, DecisionFusionClassifier(cv=3)).fit(X, y)
    bad = X.assign(title="bad")
    with pytest.raises(EncodingError, match="could not encode 60 of 60 cells"):
        model.predict(bad)
    model.set_params(encode__text__countingencoder__on_error="missing")
    with pytest.warns(MissingModalityWarning, match="treats 60 of 60 cells as missing"):
        assert len(model.predict(bad)) == 60


def test_an_error_of_an_encoder_names_the_index_label():
    X, y = table()
    X.index = [f"sku{i}" for i in range(60)]
    X.loc["sku7", "title"] = "bad title"
    with pytest.raises(EncodingError, match="row 'sku7', column 'title'"):
        make_fusion_pipeline(modalities()).fit(X, y)


def test_wrong_columns_are_told_plainly():
    X, y = table()
    with pytest.raises(ValueError, match=r"df\.columns = df\.columns\.astype\(str\)"):
        infer_modalities(X.rename(columns={"title": 0}))
    triples = [("text", TfidfVectorizer(), ["title"]), modalities()[1]]
    with pytest.raises(ValueError, match="TfidfVectorizer takes one column of texts"):
        make_fusion_pipeline(triples).fit(X, y)
    shorter = FunctionTransformer(lambda cells: cells[:1])
    with pytest.raises(ValueError, match="FunctionTransformer returned 1 rows for 60"):
        make_fusion_pipeline([("text", shorter, ["title"]), modalities()[1]]).fit(X, y)
    with pytest.raises(TypeError, match=r"Column 'title' of X must be a sequence of cells; got str"):
        infer_modalities({"title": "a red bird"})


@pytest.mark.slow
def test_a_grid_search_in_a_second_process_encodes_nothing(tmp_path):
    script = tmp_path / "search.py"
    script.write_text(
        textwrap.dedent("""
        import numpy as np, pandas as pd
        from sklearn.model_selection import GridSearchCV
        from sklearn.linear_model import LogisticRegression
        from ensemblefuse import BaseEncoder, DecisionFusionClassifier, FeatureFusionClassifier, make_fusion_pipeline

        class WordEncoder(BaseEncoder):
            def encode_batch(self, items):
                print("encoded", *items, sep="|")
                return np.array([[len(item), item.count("x")] for item in items])

        X = pd.DataFrame({"title": ["x" * (i % 3 + 1) + f" {i // 2}" for i in range(40)], "size": np.arange(40.0) % 7})
        model = make_fusion_pipeline([("text", WordEncoder(), "title"), ("size", "passthrough", ["size"])])
        head = LogisticRegression()
        fusions = [FeatureFusionClassifier(head), DecisionFusionClassifier(head, cv=3)]
        grid = {"fuse": fusions, "fuse__blocks": [None, None]}
        search = GridSearchCV(model, grid, cv=5).fit(X, np.arange(40) % 2)
        print("candidates", len(search.cv_results_["params"]), "distinct", X["title"].nunique())
        """)
    )
    runs = [subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout for _ in "ab"]
    encoded = [cell for line in runs[0].splitlines() if line.startswith("encoded") for cell in line.split("|")[1:]]
    assert f"candidates 4 distinct {len(set(encoded))}" in runs[0]
    assert len(encoded) == len(set(encoded)) > 20
    assert "encoded" not in runs[1] and "candidates 4" in runs[1]


# ---------------------------------------------------------------------- transformers that are put in later


def holed():
    X, y = table()
    X.loc[:9, ["price", "weight"]] = np.nan
    X.loc[20, "title"] = None
    return X, y


def lengths(text):
    return [len(text), len(text) ** 2, 1.0]


FILLED = make_pipeline(SimpleImputer(), StandardScaler())
BY_KIND = ColumnTransformer([("a", FILLED, ["price"]), ("b", StandardScaler(), ["weight"])])
SWAPS = {
    "transformer": ("tabular", PCA(2), ["price", "weight"]),
    "pipeline": ("tabular", FILLED, ["price", "weight"]),
    "pipeline in a pipeline": ("tabular", make_pipeline(FILLED, make_pipeline(PCA(1))), ["price", "weight"]),
    "ColumnTransformer": ("tabular", BY_KIND, ["price", "weight"]),
    "ColumnTransformer in a pipeline": ("tabular", make_pipeline(BY_KIND, PCA(1)), ["price", "weight"]),
    "union": ("tabular", make_union(SimpleImputer(), FILLED), ["price", "weight"]),
    "already guarded": ("tabular", PresentRows(FILLED), ["price", "weight"]),
    "encoder and PCA": ("text", make_pipeline(FunctionEncoder(lengths), PCA(2)), "title"),
    "encoder in two pipelines": ("text", make_pipeline(make_pipeline(FunctionEncoder(lengths), PCA(2))), "title"),
    "encoder in a ColumnTransformer": (
        "text",
        make_pipeline(ColumnTransformer([("t", FunctionEncoder(lengths), "title")]), PCA(2)),
        ["title"],
    ),
}


@pytest.mark.by_turns
@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("fusion", ["late", "cascade"])
def test_a_transformer_put_in_later_is_guarded_like_one_that_was_given(swap, fusion):
    X, y = holed()
    name, transformer, columns = SWAPS[swap]
    make = {"late": DecisionFusionClassifier, "cascade": CascadeFusionClassifier}[fusion]
    others = [("tabular", FILLED, ["price", "weight"]), ("text", FunctionEncoder(len), "title")]
    others = [(n, t, columns if n == name else c) for n, t, c in others]
    given = [(n, transformer if n == name else t, c) for n, t, c in others]
    wanted = make_fusion_pipeline(given, make(LogisticRegression(), cv=3)).fit(X, y)
    where = f"fuse__encoders__{name}" if fusion == "cascade" else f"encode__{name}"
    later = make_fusion_pipeline(others, make(LogisticRegression(), cv=3)).set_params(**{where: clone(transformer)})
    assert_allclose(clone(later).fit(X, y).predict_proba(X), wanted.predict_proba(X))
    grid = GridSearchCV(later, {where: [clone(transformer)]}, cv=2, error_score="raise").fit(X, y)
    assert_allclose(grid.predict_proba(X), wanted.predict_proba(X))
    if fusion == "late":
        block = grid.best_estimator_[:-1].transform(X).filter(like=f"{name}__")
        assert block.iloc[20 if name == "text" else 0].isna().all()
        assert block.iloc[30].notna().all()


def test_all_modalities_and_the_fusion_may_be_put_in_later():
    X, y = holed()
    modalities = [("text", FunctionEncoder(len), "title"), ("price", make_pipeline(SimpleImputer()), ["price"])]
    wanted = make_fusion_pipeline(modalities, FeatureFusionClassifier(LogisticRegression())).fit(X, y)
    later = make_fusion_pipeline([("other", "passthrough", "weight")])
    later.set_params(encode__transformers=modalities, fuse=FeatureFusionClassifier(LogisticRegression()))
    assert_allclose(later.fit(X, y).predict_proba(X), wanted.predict_proba(X))
    later.set_params(encode__price="passthrough", encode__text="drop").fit(X, y)
    assert list(later["fuse"].blocks_) == ["price"]
    later.set_params(encode__transformers=[("price", "passthrough", "price")]).fit(X, y)  # a bare name of a column


@pytest.mark.parametrize(
    ("put_in", "error", "match"),
    [
        (SelectKBest(k=1), ValueError, "SelectKBest learns from labels"),
        (make_pipeline(FILLED, make_pipeline(SelectKBest(k=1))), ValueError, "because of its SelectKBest"),
        (ColumnTransformer([("a", PLSRegression(1), ["price"])]), ValueError, "because of its PLSRegression"),
        (PresentRows(make_union(FILLED, SelectKBest(k=1))), ValueError, "because of its SelectKBest"),
        (CommonSpaceProjector(1, method="pls"), ValueError, "CommonSpaceProjector learns from labels"),
        (StandardScaler, TypeError, r"no transform method; did you mean StandardScaler\(\)\?"),
        (LogisticRegression(), TypeError, "no transform method"),
    ],
)
def test_what_learns_from_labels_is_refused_wherever_it_comes_from(put_in, error, match):
    X, y = table()
    modalities = [("tabular", FILLED, ["price", "weight"])]
    late = make_fusion_pipeline(modalities).set_params(encode__tabular=put_in)
    cascade = make_fusion_pipeline(modalities, CascadeFusionClassifier(cv=3))
    cascade.set_params(fuse__encoders={"tabular": put_in})
    for model in (late, cascade) if error is ValueError else (late,):
        with pytest.raises(error, match=match):
            model.fit(X, y)
    with pytest.raises(error, match=match):
        ModalityTransformer([("tabular", put_in, ["price", "weight"])]).fit(X)


def test_fit_does_not_change_what_it_was_given():
    X, y = holed()
    model = make_fusion_pipeline([("text", FunctionEncoder(len), "title"), ("tabular", FILLED, ["price", "weight"])])
    before = model["encode"].transformers
    model.fit(X, y)
    assert model["encode"].transformers is before
    assert not hasattr(before[1][1][0], "statistics_")
    model.set_params(encode__text=SelectKBest())
    with pytest.raises(ValueError, match="learns from labels"):
        model.fit(X, y)
    assert [name for name, _, _ in model["encode"].transformers] == ["text", "tabular"]


def test_a_model_without_any_modality_is_refused():
    X, y = table()
    dropped = make_fusion_pipeline([("text", "drop", "title"), ("price", StandardScaler(), ["price"])])
    assert list(dropped.fit(X, y)["fuse"].blocks_) == ["price"]
    for model in (dropped.set_params(encode__price="drop"), ModalityTransformer([("text", "drop", ["title"])])):
        with pytest.raises(ValueError, match=r"every modality is dropped: \['text'.*keep one"):
            model.fit(X, y)


def test_a_transformer_of_the_remaining_columns_is_checked_and_guarded():
    X = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [10.0, np.nan, 30.0]})
    rest = ModalityTransformer([("x", "passthrough", ["a"])], remainder=SimpleImputer())
    made = np.asarray(rest.fit_transform(X))
    assert np.isnan(made[1, 1]) and made[2, 1] == 30  # a row without the modality is not filled
    assert isinstance(rest.remainder, SimpleImputer)
    np.testing.assert_array_equal(np.asarray(rest.transform(X)), made)
    with pytest.raises(ValueError, match="'remainder': SelectKBest learns from labels"):
        ModalityTransformer([("x", "passthrough", ["a"])], remainder=SelectKBest()).fit(X, [0, 1, 0])


def test_a_comparison_in_folds_tells_of_new_categories_once():
    X = pd.DataFrame({"colour": [f"c{i}" for i in range(24)], "size": np.arange(24) % 5.0})
    parts = ColumnTransformer(
        [
            ("c", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["colour"]),
            ("n", StandardScaler(), ["size"]),
        ]
    )
    model = make_fusion_pipeline([("t", parts, ["colour", "size"])], FeatureFusionClassifier(LogisticRegression()))
    with pytest.warns(UnseenCategoryWarning, match="Other parts of the table are not told of") as caught:
        compare_models({"a": model, "b": clone(model)}, X, np.arange(24) % 2, cv=4)
    assert len(caught) == 1
    fitted = model.fit(X.head(12), np.arange(12) % 2)
    for _ in range(2):  # a call of the user is told each time
        with pytest.warns(UnseenCategoryWarning, match="in 12 of 12 rows"):
            fitted.predict(X.tail(12))
