"""A model of several targets with the verbs of the house: files, command line, server, and what looks at one target."""

import io

import numpy as np
import pandas as pd
import pytest
import serving_case as case
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from ensemblefuse import (
    ConformalFusionRegressor,
    DecisionFusionClassifier,
    FusionSearchCV,
    NeuralFusionMultiTask,
    compare_fusions,
    evaluate_model,
    export_onnx,
    find_near_duplicates,
    inspect_model,
    load_model,
    make_fusion_pipeline,
    modality_ablation,
    modality_shapley,
    save_model,
)
from ensemblefuse.cli import main
from ensemblefuse.fitted.row_predictor import join_targets
from ensemblefuse.persistence._mlflow import _load_pyfunc

TASKS = ["kind", "size", "is big"]
MODALITIES = [("left", StandardScaler(), ["a", "b"]), ("right", StandardScaler(), ["c"])]


def table(n=30):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    y = pd.DataFrame({"kind": np.where(X["a"] > 0, "p", "q"), "size": 3 * X["b"] + 10, "is big": X["c"] > 0})
    y.loc[:4, "kind"] = None
    return X, y


@pytest.fixture(scope="module")
def fitted():
    X, y = table()
    sizes = {"hidden": 4, "n_members": 2, "max_epochs": 3}
    net = NeuralFusionMultiTask("concat", auxiliary_weight=0.1, early_stopping=True, cv=2, **sizes)
    return make_fusion_pipeline(MODALITIES, net).fit(X, y)


@pytest.fixture(scope="module")
def path(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    X, y = table()
    pd.concat([X, y], axis=1).to_csv(folder / "rows.csv", index=False)
    return save_model(fitted, folder / "model.fuse", example=X.head(3))


def test_targets_whose_columns_would_have_one_name_are_refused():
    one = {"prediction_a": 1, "proba_a_b_c": 2}
    assert join_targets({"a": one, "d": {"prediction_d": 3}}) == {**one, "prediction_d": 3}
    with pytest.raises(ValueError, match="target 'a_b' and one before it both have a column 'proba_a_b_c'; rename one"):
        join_targets({"a": one, "a_b": {"prediction_a_b": 1, "proba_a_b_c": 2}})


# ---------------------------------------------------------------------- the model of one target


def test_the_model_of_one_target_says_what_the_model_of_all_says_about_it(fitted, tmp_path):
    X, _ = table()
    kind, size = fitted.single_task("kind"), fitted.single_task("size")
    assert_allclose(kind.predict_proba(X), fitted.predict_proba(X)["kind"], atol=1e-12)
    assert_array_equal(kind.predict(X), fitted.predict(X)["kind"])
    assert_allclose(size.predict(X), fitted.predict(X)["size"], atol=1e-12)
    assert_allclose(kind[-1].oof_proba_, fitted[-1].oof_["kind"])
    assert_allclose(size[-1].oof_fused_, fitted[-1].oof_["size"])
    empty = pd.DataFrame(np.nan, index=[0], columns=X.columns)
    assert_allclose(kind.predict_proba(empty), [fitted[-1].prior_["kind"]])
    loaded = load_model(save_model(kind, tmp_path / "one.fuse"))
    assert_array_equal(loaded.predict_proba(X), kind.predict_proba(X))
    assert export_onnx(kind[-1], tmp_path / "one.onnx").is_file()
    assert kind[-1].n_parameters_ < fitted[-1].n_parameters_


def test_what_looks_at_one_target_takes_the_model_of_one(fitted):
    X, y = table()
    kind, known = fitted.single_task("kind"), y["kind"].notna()
    result = evaluate_model(kind, X[known], y["kind"][known], n_resamples=20)
    assert result.overall.loc["accuracy", "score"] == (kind.predict(X)[known] == y["kind"][known]).mean()
    assert list(modality_shapley(fitted.single_task("size"), X, y["size"], n_resamples=20).table.index) != []


@pytest.mark.parametrize("look", [evaluate_model, modality_ablation, modality_shapley])
def test_what_looks_at_one_target_says_how_to_choose_it(look, fitted):
    with pytest.raises(TypeError, match=r"predicts the targets \['kind', .*pass model\.single_task\('kind'\)"):
        look(fitted, *table())
    with pytest.raises(ValueError, match=r"no target 'colour'; it has \['kind', 'size', 'is big'\]"):
        fitted.single_task("colour")


def test_what_needs_no_target_takes_the_model_of_all(fitted):
    X, _ = table()
    twice = pd.concat([X, X.iloc[[3]]], ignore_index=True)
    assert find_near_duplicates(fitted, twice, modality="left").table["exact"].any()


def test_fusions_and_searches_of_one_target_refuse_a_model_of_several():
    X, y = table()
    Z, net = X.add_prefix("all__"), NeuralFusionMultiTask()
    for model in (DecisionFusionClassifier({"joint": net}), FusionSearchCV({"net": net})):
        with pytest.raises(ValueError, match="classifier"):
            model.fit(Z, y["is big"])
    with pytest.raises(ValueError, match="must be a regressor; got NeuralFusionMultiTask"):
        ConformalFusionRegressor(net).fit(Z, y["size"])
    with pytest.raises(TypeError, match="must be a classifier or a regressor; got NeuralFusionMultiTask"):
        compare_fusions(MODALITIES, X, y, candidates={"net": net})


def test_targets_are_checked_before_a_cell_is_encoded():
    X, y = table()
    model = make_fusion_pipeline([("left", "passthrough", ["a"])], NeuralFusionMultiTask())
    with pytest.raises(ValueError, match="column 'kind' of y is missing in every row"):
        model.check_fit(X, y.assign(kind=None))


# ---------------------------------------------------------------------- files, command line, server


def test_the_file_names_targets_and_labels(path, capsys):
    assert inspect_model(path)["tasks"] == {"kind": ["p", "q"], "size": None, "is big": [False, True]}
    assert main(["inspect", str(path)]) == 0
    assert "kind: p, q, size: a number" in capsys.readouterr().out


def test_predict_writes_a_column_for_each_target_and_label(path, fitted, capsys):
    assert main(["predict", str(path), str(path.parent / "rows.csv"), "-q"]) == 0
    said = pd.read_csv(io.StringIO(capsys.readouterr().out))
    new = ["prediction_kind", "proba_kind_p", "proba_kind_q", "prediction_size", "prediction_is big"]
    assert [*said.columns[6:11]] == new
    assert_allclose(said["prediction_size"], fitted.predict(table()[0])["size"], rtol=1e-6)
    assert_allclose(said["proba_kind_p"], fitted.predict_proba(table()[0])["kind"][:, 0], rtol=1e-6)
    frame = _load_pyfunc(str(path)).predict(table()[0])
    assert frame.columns.tolist() == said.columns[6:-1].tolist()


@pytest.mark.parametrize("broken", [[2], [0, 1, 2]])
def test_rows_that_cannot_be_read_have_empty_cells_for_every_target(broken, path, tmp_path, capsys):
    rows = table()[0].head(3).astype(object)
    rows.loc[broken, "a"] = "much"
    rows.to_csv(tmp_path / "rows.csv", index=False)
    assert main(["predict", str(path), str(tmp_path / "rows.csv"), "-q"]) == 0
    said = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert said["error"].notna().sum() == said["prediction_kind"].isna().sum() == len(broken)
    assert said["proba_is big_True"].isna().sum() == said["prediction_size"].isna().sum() == len(broken)


def test_report_and_card_are_of_the_target_that_is_named(path, tmp_path, capsys):
    rows, page, card = str(path.parent / "rows.csv"), tmp_path / "page.html", tmp_path / "card.md"
    assert main(["card", str(path), rows, "--target", "size", "-o", str(card), "-q"]) == 0
    assert "predicts a number" in card.read_text()
    assert main(["report", str(path), rows, "--target", "colour", "-o", str(page)]) != 0
    assert main(["report", str(path), rows, "--target", "a", "-o", str(page)]) != 0
    assert "does not predict 'a'; --target must be one of ['kind', 'size', 'is big']" in capsys.readouterr().err


def test_a_search_over_models_of_several_targets_gives_the_model_of_one(fitted, path, tmp_path, capsys):
    X, y = table()
    search = GridSearchCV(fitted, {"fuse__max_epochs": [1]}, cv=2).fit(X, y)
    with pytest.raises(TypeError, match=r"pass model\.best_estimator_\.single_task\('kind'\)"):
        evaluate_model(search, X, y)
    file, card = save_model(search, tmp_path / "search.fuse", example=X.head(3)), tmp_path / "card.md"
    assert main(["card", str(file), str(path.parent / "rows.csv"), "--target", "size", "-o", str(card), "-q"]) == 0
    assert "predicts a number" in card.read_text()


@pytest.mark.slow  # two seconds for the figures of the page
def test_a_report_of_one_of_several_targets(path, tmp_path):
    rows, page = str(path.parent / "rows.csv"), tmp_path / "page.html"
    assert main(["report", str(path), rows, "--target", "size", "-o", str(page), "--rows", "20", "-q"]) == 0
    assert "regression" in page.read_text()


@pytest.mark.filterwarnings("ignore:.*saw no row in fit")
def test_the_server_answers_for_every_target(path, fitted):
    X, _ = table()
    row = {**X.iloc[0].to_dict(), "c": None}
    with case.client_of(path) as client:
        answer = client.post("/predict", json={"rows": [row]}).json()["predictions"][0]
        told = client.get("/model").json()
        schema = client.get("/openapi.json").json()["components"]["schemas"]["Answer"]
        refused = client.post("/explain", json={"row": row})
    expected = fitted.predict(X.head(1).assign(c=np.nan)).iloc[0]
    assert answer["prediction"]["kind"] == expected["kind"]
    assert answer["prediction"]["size"] == pytest.approx(expected["size"])
    assert answer["prediction"]["is big"] in (True, False)
    assert {name: list(values) for name, values in answer["probabilities"].items()} == {
        "kind": ["p", "q"],
        "is big": ["false", "true"],
    }
    assert "certainty" not in answer
    assert answer["missing"] == ["right"]
    assert list(told["tasks"]) == TASKS
    assert told["classes"] is None
    properties = schema["properties"]["predictions"]["items"]["anyOf"][0]["properties"]
    assert list(properties["prediction"]["properties"]) == TASKS
    assert list(properties["probabilities"]["properties"]) == ["kind", "is big"]
    assert refused.status_code == 422
    assert "only one can be looked at here" in refused.text
