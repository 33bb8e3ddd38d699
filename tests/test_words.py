"""Two views of one text: the embedding, and the words that it does not tell apart."""

import numpy as np
import pandas as pd
import pytest
from conftest import slow_but
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, HistGradientBoostingClassifier, StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ensemblefuse import (
    ConformalFusionClassifier,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    EmbeddingNoise,
    FeatureFusionClassifier,
    FusionSearchCV,
    KernelFusionClassifier,
    LogPool,
    ModalityTransformer,
    SequentialFusionClassifier,
    StringFeatures,
    TextEncoder,
    explain_row,
    export_onnx,
    load_model,
    make_fusion_pipeline,
    modality_ablation,
    modality_importance,
    modality_shapley,
    robustness_curve,
    save_model,
    shap_by_modality,
    split_model,
)
from ensemblefuse.blocks import find_blocks, words_apart
from ensemblefuse.features import WordFeatures
from ensemblefuse.features.word_features import count_terms
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.persistence import inspect_model
from ensemblefuse.testing import check_no_leakage

COLOURS, ANIMALS = ["red", "blue", "grey"], ["cat", "dog", "fox"]


class LengthEncoder(TextEncoder):
    """An encoder of texts that knows their length and their blanks, and no word."""

    def prepare(self):
        pass

    def load(self, cell):
        return cell

    def encode_batch(self, items):
        return np.array([[len(text), text.count(" ")] for text in items], dtype=float)

    def recipe(self):
        return None

    def weights_sources(self):
        return []


def make_titles(n=120, words=("alpha", "omega"), missing=0):
    """Titles of which one word tells the label; prices do not. The words have the same length."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % len(words)
    titles = [f"{rng.choice(COLOURS)} {words[k]} {rng.choice(ANIMALS)}" for k in y]
    titles = [None if missing and i % missing == 0 else title for i, title in enumerate(titles)]
    return pd.DataFrame({"title": titles, "price": rng.normal(size=n)}), y


def modalities(text=None):
    return [("text", LengthEncoder() if text is None else text, "title"), ("tabular", StandardScaler(), ["price"])]


def fit(fusion=None, text=None, **how):
    """With little effort there are no trees, and one linear model of the words."""
    X, y = make_titles(**how)
    fusion = DecisionFusionClassifier(cv=3, effort="low") if fusion is None else fusion
    return make_fusion_pipeline(modalities(text), fusion).fit(X, y), X, y


@pytest.fixture(scope="module")
def fitted():
    return fit(DecisionFusionClassifier(cv=3), missing=10)


# ---------------------------------------------------------------------- one modality, two members


def test_words_are_a_second_member_of_the_same_modality(fitted):
    model = fitted[0]
    fusion = model[-1]
    assert fusion.member_names_ == ["text", "text/trees", "text/words", "tabular", "tabular/trees", "joint"]
    assert fusion.member_blocks_ == ["text", "text", "text", "tabular", "tabular", "joint"]
    assert list(fusion.expected_scores_.index) == ["text + tabular", "text", "tabular"]
    scores = fusion.expected_scores_["accuracy"]
    assert scores["text"] == 1 and scores["tabular"] < 0.7
    assert FittedModel(model).names == ["text", "tabular"]
    new = pd.DataFrame({"title": ["grey omega dog", "red alpha fox", None], "price": [0.0] * 3})
    sure = model.predict_proba(new)[:, 1]
    assert sure[0] > 0.9 > 0.1 > sure[1] and abs(sure[2] - 0.5) < 0.1


def test_the_table_of_the_encoder_has_the_texts_last(fitted):
    model, X, _ = fitted
    Z = model[:-1].transform(X)
    assert Z.columns.tolist() == ["text__0", "text__1", "tabular__price", "text__words"]
    assert Z.columns.tolist() == model[:-1].get_feature_names_out().tolist()
    assert Z["text__words"].tolist() == [None if pd.isna(t) else t for t in X["title"]]
    assert Z.drop(columns="text__words").dtypes.map(lambda d: d.kind).eq("f").all()
    assert model[-1].blocks_["text"].tolist() == [0, 1] and model[-1].word_columns_ == {"text": 3}
    pd.testing.assert_frame_equal(model[:-1].transform(X.iloc[[3]]), Z.iloc[[3]])


def test_polars_and_a_dict_give_the_same_predictions(fitted):
    polars = pytest.importorskip("polars")
    model, X, _ = fitted
    expected = model.predict_proba(X)
    np.testing.assert_array_equal(model.predict_proba(polars.from_pandas(X)), expected)
    np.testing.assert_array_equal(model.predict_proba(X.to_dict("list")), expected)
    y = np.arange(len(X)) % 2
    as_polars = clone(model)
    as_polars[0].set_output(transform="polars")
    as_polars.fit(X, y)
    assert as_polars[0].transform(X).columns[-1] == "text__words"
    np.testing.assert_allclose(as_polars.predict_proba(X), expected, atol=1e-6)


@pytest.mark.by_turns
@pytest.mark.parametrize("how", ["n_jobs", "refit", "weights", "groups"])
def test_settings_of_the_fusion_hold_for_words(how):
    X, y = make_titles()
    params = {"n_jobs": {"n_jobs": 2}, "refit": {"refit": False}}.get(how, {})
    model = make_fusion_pipeline(modalities(), DecisionFusionClassifier(cv=3, **params))
    given = {
        "weights": {"fuse__sample_weight": np.where(np.arange(len(y)) < 100, 1.0, 0.0)},
        "groups": {"fuse__groups": np.arange(len(y)) // 2},
    }.get(how, {})
    model.fit(X, y, **given)
    assert model.score(X, y) == 1 and "text/words" in model[-1].estimators_


def test_regression_reads_words():
    X, y = make_titles(words=("alpha", "omega", "gamma"))
    target = np.array([0.0, 5.0, 20.0])[y]
    model = make_fusion_pipeline(modalities(), DecisionFusionRegressor(cv=3, effort="low")).fit(X, target)
    oof = dict(zip(model[-1].member_names_, model[-1].oof_predictions_, strict=True))
    r2 = {name: 1 - np.mean((p - target) ** 2) / target.var() for name, p in oof.items()}
    assert r2["text/words"] > 0.95 and r2["text"] < 0.3


def test_cross_validation_fits_words_in_each_fold():
    X, y = make_titles()
    assert (
        cross_val_score(
            make_fusion_pipeline(modalities(), DecisionFusionClassifier(cv=3, effort="low")), X, y, cv=3
        ).min()
        == 1
    )


def test_random_labels_are_at_chance():
    """Every row has a word of its own: whoever sees it in training knows the row by heart."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"title": [f"w{i} w{rng.integers(99)}" for i in range(240)]})
    model = make_fusion_pipeline([("text", LengthEncoder(), "title")], DecisionFusionClassifier(cv=2, effort="low"))
    ran = check_no_leakage(model, X, np.arange(240) % 2, n_draws=2, cv=2)
    assert {"cross_validation"} < set(ran)


# ---------------------------------------------------------------------- who asks for words


def test_words_false_leaves_the_member_out():
    model, X, _ = fit(text=LengthEncoder(words=False))
    assert model[-1].member_names_ == ["text", "tabular", "joint"]
    assert "text__words" not in model[:-1].transform(X)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "fusion",
    [
        DecisionFusionClassifier(LogisticRegression(), cv=3),
        DecisionFusionClassifier({"text": LogisticRegression()}, cv=3),
        DecisionFusionClassifier({"text": "drop"}, cv=3),
        FeatureFusionClassifier(LogisticRegression()),
        KernelFusionClassifier(),
        SequentialFusionClassifier(cv=3),
        HistGradientBoostingClassifier(),
    ],
    ids=lambda fusion: type(fusion).__name__,
)
def test_a_model_that_does_not_read_words_gets_numbers_alone(fusion):
    model, X, y = fit(fusion)
    Z = model[:-1].transform(X)
    assert Z.columns.tolist() == ["text__0", "text__1", "tabular__price"]
    if hasattr(fusion, "blocks"):  # the same, if the table has texts all the same
        both = clone(fusion).fit(Z.assign(text__words=X["title"]), y)
        np.testing.assert_array_equal(both.predict(Z.assign(text__words=X["title"])), model.predict(X))


def test_a_transformer_alone_gives_numbers_alone():
    X, y = make_titles()
    assert ModalityTransformer(modalities()).fit_transform(X).columns.tolist()[-1] == "tabular__price"
    model, _, _ = fit()
    assert model[:-1].transform(X).shape[1] == 4
    model.set_params(fuse=LogisticRegression()).fit(X, y)  # the next fit asks anew
    assert model[:-1].transform(X).shape[1] == 3


@pytest.mark.by_turns
@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_pipelines_with_one_memory_predict_as_without_it(tmp_path, routing, reverse):
    X, y = make_titles(60)
    fusions = {  # with the number of columns that each reads
        "all": (DecisionFusionClassifier(cv=2, effort="low"), 4),
        "feature": (FeatureFusionClassifier(LogisticRegression()), 3),
        "no fusion": (LogisticRegression(), 3),
        "some": (DecisionFusionClassifier({"text": LogisticRegression()}, cv=2), 3),
        "the same as all": (DecisionFusionClassifier(cv=2, effort="low"), 4),
    }
    with config_context(enable_metadata_routing=routing):
        for name in sorted(fusions, reverse=reverse):
            fusion, n_columns = fusions[name]
            plain = make_fusion_pipeline(modalities(), clone(fusion)).fit(X, y)
            model = make_fusion_pipeline(modalities(), fusion).set_params(memory=str(tmp_path)).fit(X, y)
            assert model[:-1].transform(X).shape[1] == plain[:-1].transform(X).shape[1] == n_columns, name
            assert ("text/words" in getattr(model[-1], "member_names_", ())) == (n_columns == 4), name
            np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X), err_msg=name)


def test_memory_encodes_once_for_fusions_that_read_the_same(tmp_path, monkeypatch):
    encoded = []
    plain = LengthEncoder.encode_batch
    monkeypatch.setattr(LengthEncoder, "encode_batch", lambda self, items: (encoded.append(1), plain(self, items))[1])
    X, y = make_titles(60)
    model = make_fusion_pipeline(modalities(), DecisionFusionClassifier(cv=2, effort="low")).set_params(
        memory=str(tmp_path)
    )
    model.fit(X, y)
    n_batches = len(encoded)
    model.set_params(fuse__cv=3).fit(X, y)
    assert n_batches and len(encoded) == n_batches
    model.set_params(fuse=FeatureFusionClassifier(LogisticRegression())).fit(X, y)
    assert len(encoded) == 2 * n_batches


def test_a_grid_over_fusions_with_memory_gives_each_what_it_reads(tmp_path):
    X, y = make_titles(60)
    model = make_fusion_pipeline(modalities(), DecisionFusionClassifier(cv=2, effort="low")).set_params(
        memory=str(tmp_path)
    )
    fusions = [LogisticRegression(), DecisionFusionClassifier(cv=2, effort="low"), KernelFusionClassifier()]
    grid = GridSearchCV(model, {"fuse": fusions}, cv=2, error_score="raise").fit(X, y)
    scores = grid.cv_results_["mean_test_score"]
    assert scores[1] > 0.9 > 0.8 > max(scores[0], scores[2])
    assert "text/words" in grid.best_estimator_[-1].member_names_


def test_the_encoding_step_hands_on_the_texts_that_a_parameter_of_fit_names():
    X, y = make_titles(60)
    encode = ModalityTransformer(modalities())
    assert encode.fit_transform(X, word_modalities=["text", "tabular"]).columns.tolist()[2:] == [
        "tabular__price",
        "text__words",
    ]
    assert encode.transform(X).shape[1] == 4 and clone(encode).fit(X).transform(X).shape[1] == 3
    assert clone(encode).fit_transform(X, word_modalities="tex").shape[1] == 3
    plain = Pipeline([("encode", encode), ("fuse", DecisionFusionClassifier(cv=2, effort="low"))])
    assert "text/words" not in plain.fit(X, y)[-1].member_names_
    assert "text/words" in plain.fit(X, y, encode__word_modalities="text")[-1].member_names_
    model = make_fusion_pipeline(
        modalities(), DecisionFusionClassifier(cv=2, effort="low")
    )  # what the caller says counts
    assert "text/words" not in model.fit(X, y, encode__word_modalities=[])[-1].member_names_


def test_steps_after_the_encoder_leave_the_texts_alone():
    model, X, _ = fit(text=make_pipeline(LengthEncoder(), PCA(1)))
    assert model[:-1].transform(X).columns.tolist() == ["text__pca0", "tabular__price", "text__words"]


def test_noise_that_protects_the_cells_keeps_the_words_back():
    noise = EmbeddingNoise("laplace", epsilon=1.0, clip=1.0, random_state=0)
    model, X, _ = fit(text=make_pipeline(LengthEncoder(), noise))
    assert "text__words" not in model[:-1].transform(X) and "text/words" not in model[-1].member_names_


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "fusion", [ConformalFusionClassifier(DecisionFusionClassifier(cv=3, effort="low")), FusionSearchCV(cv=3)], ids=str
)
def test_wrappers_hand_words_to_the_fusion_inside(fusion):
    model, X, y = fit(fusion)
    assert "text/words" in FittedModel(model).core.member_names_
    assert model.score(X, y) == 1
    assert modality_importance(model, X, y).table["importance"].idxmax() == "text"


def test_pools_with_weights_by_name_say_which_member_they_lack():
    pool = LogPool({"text": 1.0, "tabular": 1.0, "joint": 1.0})
    with pytest.raises(ValueError, match=r"text/words.*TextEncoder\(words=False\)"):
        fit(DecisionFusionClassifier(cv=3, combiner=pool))


def test_a_modality_named_as_the_member_over_words_is_refused():
    X, y = make_titles(60)
    two = [("text", LengthEncoder(), "title"), ("text/words", StandardScaler(), ["price"])]
    with pytest.raises(ValueError, match="'text' and 'text/words' both have a member named 'text/words'"):
        make_fusion_pipeline(two, DecisionFusionClassifier(cv=2, effort="low")).fit(X, y)
    two[0] = ("text", LengthEncoder(words=False), "title")
    assert make_fusion_pipeline(two, DecisionFusionClassifier(cv=2, effort="low")).fit(X, y).predict(X).shape == y.shape


# ---------------------------------------------------------------------- what sees one modality


def test_both_views_are_hidden_and_shuffled_together(fitted):
    model, X, y = fitted
    parts = FittedModel(model)
    Z = parts.encode(X)
    hidden = parts.hide(Z, np.array([[False], [True]]) & np.ones((1, len(X)), dtype=bool))
    assert hidden["text__words"].isna().all() and hidden["text__0"].isna().all()
    assert modality_shapley(model).table["share"].idxmax() == "text"
    ablation = modality_ablation(model).table["score"]
    assert ablation["text alone"] > -0.1 > -0.5 > ablation["tabular alone"]
    Z, bare = Z.dropna(), clone(model[-1])
    bare.fit(Z, y[Z.index])
    assert modality_ablation(bare, Z, y[Z.index], method="refit", cv=2).table["score"]["text alone"] > -0.2
    assert modality_importance(model, X, y).table["importance"].idxmax() == "text"


def test_the_word_that_decides_is_marked(fitted):
    model, X, _ = fitted
    effects = explain_row(model, X, 1).parts["text"].effects.set_index("token")["effect"]
    assert effects.abs().idxmax() == "omega" and effects["omega"] > 1


def test_shap_says_that_it_leaves_words_out(fitted):
    pytest.importorskip("shap")
    X, y = make_titles()
    Z = fitted[0][:-1].transform(X)
    model = DecisionFusionClassifier({"tabular": LogisticRegression(), "joint": LogisticRegression()}, cv=3).fit(Z, y)
    found = shap_by_modality(model, Z)
    assert "text/words" not in found.table.index.get_level_values("member")
    assert any("it reads the words of texts" in note for note in found.notes)


# ---------------------------------------------------------------------- files, machines


def test_a_saved_model_predicts_the_same_without_code(fitted, tmp_path):
    model, X, _ = fitted
    trusted = [LengthEncoder]
    path = save_model(model, tmp_path / "words.fuse", example=X.head(4))
    assert not [t for t in inspect_model(path).get("untrusted", []) if "LengthEncoder" not in t]
    loaded = load_model(path, trusted=trusted)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded[:-1].transform(X).columns[-1] == "text__words"
    assert loaded[-1].word_members_ == ["text/words"]
    old = load_model(path, trusted=trusted)
    del old[0].word_columns_, old[-1].word_members_, old[-1].word_columns_  # as files of before
    assert old[:-1].transform(X).shape[1] == 3
    y = np.arange(len(X)) % 2
    assert clone(loaded).set_params(fuse=LogisticRegression()).fit(X[1:9], y[1:9])[:-1].transform(X).shape[1] == 3


def test_onnx_and_edges_refuse_what_needs_the_text(fitted, tmp_path):
    model = fitted[0]
    with pytest.raises(ValueError, match=r"text/words.*words of texts.*TextEncoder\(words=False\)"):
        export_onnx(model, tmp_path / "words.onnx")
    with pytest.raises(ValueError, match=r"texts of the modalities \['text'\].*probabilities"):
        split_model(model)


def test_an_edge_sends_the_probabilities_of_both_views():
    model, X, _ = fit(DecisionFusionClassifier(cv=3, joint=False), missing=10)
    parts = split_model(model, send="probabilities")
    sent = pd.concat([parts.edge[name].transform(X) for name in parts.edge], axis=1)
    assert len(sent["text"][1]) == 6  # two views and trees, two classes
    np.testing.assert_allclose(parts.fusion.predict_proba(sent), model.predict_proba(X), atol=1e-5)


def test_meta_estimators_hand_tables_on_or_say_why_not(fitted):
    model, X, y = fitted
    assert StackingClassifier([("m", model)], cv=2).fit(X, y).score(X, y) > 0.9
    Z = model[:-1].transform(X)
    with pytest.raises(ValueError, match="array that holds texts"):
        BaggingClassifier(clone(model[-1])).fit(Z, y)
    with pytest.raises(ValueError, match=r"texts of the blocks \['text'\].*ndarray"):
        model[-1].predict(Z.drop(columns="text__words").to_numpy())


# ---------------------------------------------------------------------- tables made by hand


def make_bikes(n=160):
    """Bikes whose price is a matter of their name and age; two of the columns are short strings."""
    rng = np.random.default_rng(0)
    brands, models = rng.choice(["Veloce", "Kestrel", "Arbor"], n), rng.integers(0, 12, n)
    age = rng.integers(0, 9, n)
    price = np.where(brands == "Kestrel", 900.0, 400.0) + 90 * (models % 5) - 20 * age + rng.normal(0, 10, n)
    names = [f"Model {'abcdefghijkl'[m]}x{m % 5} {'sport' if m % 2 else 'city'}" for m in models]
    return pd.DataFrame({"brand": brands, "name": names, "age": age}), price


def table_of_bikes(**settings):
    table = ColumnTransformer(
        [("string", StringFeatures(**settings), ["brand", "name"]), ("age", StandardScaler(), ["age"])]
    )
    return [("tabular", table, ["brand", "name", "age"])]


@pytest.fixture(scope="module")
def bikes():
    X, y = make_bikes()
    return make_fusion_pipeline(table_of_bikes(), DecisionFusionRegressor(cv=3)).fit(X, y), X, y


def test_short_strings_of_a_table_are_read_as_words_too(bikes):
    model, X, _ = bikes
    assert model[-1].member_names_ == ["tabular", "tabular/trees", "tabular/forest", "tabular/words"]
    texts = model[0].transform(X.head(2))["tabular__words"].tolist()
    assert texts == [f"{row.brand}\n{row.name_}" for row in X.head(2).rename(columns={"name": "name_"}).itertuples()]
    without = make_fusion_pipeline(table_of_bikes(words=False), DecisionFusionRegressor(cv=3)).fit(*make_bikes())
    assert without[-1].member_names_ == ["tabular", "tabular/trees", "tabular/forest"]


def test_rows_without_strings_are_left_to_the_other_members(bikes):
    model, X, _ = bikes
    held = X.head(4).astype({"brand": object, "name": object})
    held.loc[0, ["brand", "name"]] = None
    held.loc[1, "brand"] = None
    _, mask = model[-1]._outputs(model[0].transform(held))
    assert mask[model[-1].member_names_.index("tabular/words")].tolist() == [False, True, True, True]
    assert np.isfinite(model.predict(held)).all()


def test_a_changed_string_changes_both_views_of_a_table(bikes):
    model, X, _ = bikes
    row = X[X["brand"] == "Kestrel"].iloc[[0]]
    swapped, names = row.assign(brand="Veloce"), model[-1].member_names_
    before, after = (model[-1]._outputs(model[0].transform(table))[0].ravel() for table in (row, swapped))
    assert before[names.index("tabular/words")] > after[names.index("tabular/words")] + 100
    other = X[X["brand"] == "Veloce"]
    effects = explain_row(model, row, row.index[0], background=other).parts["tabular"].effects
    # Both views see another brand: one of them alone would leave a part of the difference to the name and the age.
    assert effects["brand"] == pytest.approx(500, abs=150)


def test_corrupted_strings_reach_both_views_of_a_table(bikes):
    model, X, y = bikes
    kinds = {"tabular": {"unnamed": unnamed}}
    curve = robustness_curve(model, X, y, corruptions=kinds, severities=[1], n_resamples=2)
    expected = mean_squared_error(y, model.predict(X.assign(brand="?", name="?")))
    assert abs(curve.table["score"].item()) == pytest.approx(expected, rel=1e-5)


def unnamed(cells, severity, rng):
    return np.array(["?", "?", cells[2]], dtype=object)


def test_models_of_strings_are_saved_and_split(bikes, tmp_path):
    model, X, _ = bikes
    loaded = load_model(save_model(model, tmp_path / "bikes.fuse", example=X.head(4)))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    with pytest.raises(ValueError, match=r"StringFeatures\(words=False\)"):
        split_model(model)
    parts = split_model(model, send="probabilities")
    sent = pd.concat([parts.edge[name].transform(X) for name in parts.edge], axis=1)
    np.testing.assert_allclose(parts.fusion.predict(sent), model.predict(X), rtol=1e-5)


def test_only_a_column_of_texts_beside_numbers_is_set_apart():
    frame = pd.DataFrame({"a__0": [1.0], "a__words": ["x"], "b__words": ["y"], "c__words": [2.0], "c__0": [1.0]})
    frame = frame.assign(d__0=["raw"], d__words=["z"])
    blocks, words = words_apart(frame, find_blocks(frame.columns))
    assert words == {"a": 1} and blocks["a"].tolist() == [0]
    assert blocks["b"].tolist() == [2] and blocks["c"].tolist() == [3, 4] and blocks["d"].tolist() == [5, 6]


def test_texts_may_stand_anywhere_in_the_table_and_be_missing_alone():
    X, y = make_titles()
    Z = fit()[0][:-1].transform(X)
    mixed = Z[["text__words", "tabular__price", "text__0", "text__1"]].copy()
    model = DecisionFusionClassifier(cv=3, effort="low").fit(mixed, y)
    assert model.score(mixed, y) == 1
    mixed.loc[:5, "text__words"] = None
    assert np.isfinite(model.predict_proba(mixed)).all()


@pytest.mark.by_turns
@pytest.mark.parametrize(
    ("cell", "message"), [(7.5, r"holds texts, but a float in 1 row: \[4\]"), ("alone", r"without numbers .*\[4\]")]
)
def test_a_wrong_column_of_texts_is_named(cell, message):
    X, y = make_titles()
    Z = fit()[0][:-1].transform(X)
    Z["text__words"] = Z["text__words"].astype(object)
    Z.loc[4, "text__words"] = cell
    if cell == "alone":
        Z.loc[4, ["text__0", "text__1"]] = np.nan
    with pytest.raises(ValueError, match=message):
        DecisionFusionClassifier(cv=3, effort="low").fit(Z, y)


# ---------------------------------------------------------------------- the features


def test_the_same_terms_in_any_process_and_version():
    """Model files hold weights of these columns."""
    counts = count_terms(["Red bird", "赤い鳥", None])
    assert counts.shape == (3, 393216) and counts.getnnz(axis=1).tolist() == [15, 10, 0]
    assert counts[0].indices[:3].tolist() == [8177, 164674, 252163]


def test_signs_without_blanks_are_words():
    texts = ["我喜欢这只白色的猫", "那只白色的猫很小", "股票今天上涨了"]
    Z = WordFeatures().fit_transform(texts)
    near = (Z @ Z.T).toarray()
    assert near[0, 1] > 0.3 and near[0, 2] < 0.1


@pytest.mark.filterwarnings("ignore:.*in another script than the Latin one")
@pytest.mark.parametrize(
    "script", slow_but(lambda script: script == "chinese", ["chinese", "japanese", "thai", "arabic"])
)
def test_a_signal_in_a_script_that_the_network_does_not_know(script):
    told = {
        "chinese": ("质量很好", "质量很差", "这个产品的包装和说明书"),
        "japanese": ("とても良い", "とても悪い", "この製品の箱と説明書"),
        "thai": ("คุณภาพดีมาก", "คุณภาพแย่มาก", "สินค้าชิ้นนี้กับกล่อง"),
        "arabic": ("جودة ممتازة", "جودة سيئة", "هذا المنتج والعلبة"),
    }[script]
    rng = np.random.default_rng(1)
    y = np.arange(150) % 2
    blanks = " " if script == "arabic" else ""
    filler = told[2].split() if blanks else list(told[2])
    titles = [blanks.join([*rng.permutation(filler), told[k], *rng.permutation(filler)[:3]]) for k in y]
    X = pd.DataFrame({"title": titles, "price": rng.normal(size=150)})
    model = make_fusion_pipeline([("text", LengthEncoder(), "title")], DecisionFusionClassifier(cv=2, effort="low"))
    train, test = X[:90], X[90:]
    assert model.fit(train, y[:90]).score(test, y[90:]) > 0.95
    drawn = rng.permutation(y)
    assert abs(model.fit(train, drawn[:90]).score(test, drawn[90:]) - 0.5) < 0.2  # 60 rows: 3 standard deviations


def test_new_words_count_for_the_length_of_a_row():
    features = WordFeatures().fit(["red cat", "red dog", "blue cat"])
    known, half_new = features.transform(["red cat", "red walrus"]).power(2).sum(axis=1).ravel().tolist()[0]
    assert known == pytest.approx(2) and half_new < 1.2


def test_terms_are_bounded_and_chosen_by_frequency():
    texts = [f"often w{i}" for i in range(50)]
    features = WordFeatures(max_terms=5).fit(texts)
    assert features.transform(texts).shape == (50, 5)
    assert (features.transform(["often"]).getnnz(), features.transform(["w7"]).getnnz()) == (5, 0)
    assert features.get_feature_names_out().shape == (5,)
    assert WordFeatures().fit(["!", "?"]).transform(["!"]).shape[0] == 1
    assert WordFeatures().fit([None, ""]).transform(["x"]).shape == (1, 1)
    for wrong in (0, True, 2.5):
        with pytest.raises(ValueError, match="max_terms"):
            WordFeatures(wrong).fit(texts)


def test_counts_and_texts_are_the_same_to_the_transformer():
    texts = ["a red bird", "two cats", "a cat"]
    fitted = WordFeatures().fit(texts)
    assert (fitted.transform(texts) != WordFeatures().fit(count_terms(texts)).transform(count_terms(texts))).nnz == 0
    assert clone(WordFeatures(7)).max_terms == 7


def test_the_recipe_of_the_encoder_is_as_before():
    assert "words" not in TextEncoder().recipe()["params"]
    assert TextEncoder(words=False).recipe() == TextEncoder().recipe()
