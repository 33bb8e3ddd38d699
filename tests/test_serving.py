"""The served model says what the loaded model says, row by row, whatever else is asked."""

import json

import numpy as np
import pandas as pd
import pytest
import serving_case as case
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from ensemblefuse import (
    ConformalFusionClassifier,
    ConformalFusionRegressor,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    explain_row,
    load_model,
    make_fusion_pipeline,
    save_model,
    split_model,
)
from ensemblefuse.serving import ServerSettings


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return case.save(tmp_path_factory.mktemp("served") / "colors.fuse")


@pytest.fixture(scope="module")
def client(path):
    with case.client_of(path) as client:
        yield client


@pytest.fixture(scope="module")
def loaded(path):
    return load_model(path)


def as_table(*colors, **changes):
    cells = np.empty(len(colors), dtype=object)
    cells[:] = [case.picture(color) for color in colors]
    sizes = [float(list(case.COLORS).index(color)) for color in colors]
    columns = {"photo": cells, "title": [f"a {color} thing" for color in colors], "size": sizes, "weight": 0.5}
    return pd.DataFrame({**columns, **changes})


def post(client, *rows, **options):
    return client.post("/predict", json={"rows": list(rows)}, **options)


def test_predictions_are_those_of_the_loaded_model(client, loaded):
    colors = ["red", "green", "blue"]
    answer = post(client, *map(case.row, colors))
    assert answer.status_code == 200 and answer.json()["errors"] == []
    said = answer.json()["predictions"]
    X = as_table(*colors)
    assert [p["prediction"] for p in said] == loaded.predict(X).tolist() == colors
    assert [p["row"] for p in said] == [0, 1, 2]
    proba = loaded.predict_proba(X)
    for p, expected in zip(said, proba, strict=True):
        assert list(p["probabilities"]) == loaded.classes_.tolist()
        np.testing.assert_allclose(list(p["probabilities"].values()), expected, rtol=1e-9)
        assert p["certainty"] == max(p["probabilities"].values())


def test_a_missing_modality_is_told_and_the_expected_scores_are_those_without_it(client, loaded):
    nothing = {"photo": None, "title": None, "size": None, "weight": None}
    rows = [case.row(), case.row(photo=None), {"title": "a red thing"}, nothing]
    said = post(client, *rows).json()["predictions"]
    assert [p["modalities"] for p in said] == [["image", "text", "tabular"], ["text", "tabular"], ["text"], []]
    assert [p["missing"] for p in said] == [[], ["image"], ["image", "tabular"], ["image", "text", "tabular"]]
    scores = loaded[-1].expected_scores_
    for p in said[:3]:
        own = scores.loc[" + ".join(p["modalities"])]
        assert p["expected"] == pytest.approx(own.to_dict())
    assert said[3]["expected"] is None
    np.testing.assert_allclose(list(said[3]["probabilities"].values()), 1 / 3, atol=1e-6)


def test_a_corrupt_cell_is_told_and_the_other_rows_are_answered_as_without_it(client):
    good = [case.row("red"), case.row("blue")]
    truncated = case.in_base64(case.picture("red", size=(64, 64))[:-40])
    answer = post(client, good[0], case.row(photo=truncated), case.row(size="large"), good[1], "no row")
    assert answer.status_code == 422
    body, alone = answer.json(), post(client, *good).json()["predictions"]
    assert body["predictions"][1] is body["predictions"][2] is body["predictions"][4] is None
    for i, expected in ((0, alone[0]), (3, alone[1])):
        got = body["predictions"][i]
        assert got["row"] == i and got["prediction"] == expected["prediction"]
        assert got["probabilities"] == pytest.approx(expected["probabilities"])
    assert [(e["row"], e["field"]) for e in body["errors"]] == [(1, "photo"), (2, "size"), (4, None)]
    assert "truncated" in body["errors"][0]["reason"]
    assert body["errors"][1]["reason"] == "expected a number; got a string"
    assert body["errors"][2]["reason"] == "expected an object of cells by column; got a string"


def test_a_form_with_files_is_answered_as_json_is(client):
    rows = [case.row("green", photo={"upload": "first"}), case.row("blue", photo={"upload": "second"})]
    files = {name: (f"{name}.png", case.picture(color)) for name, color in (("first", "green"), ("second", "blue"))}
    answer = client.post("/predict", data={"rows": json.dumps(rows)}, files=files)
    assert answer.status_code == 200
    assert answer.json() == post(client, case.row("green"), case.row("blue")).json()


def test_several_pictures_in_a_cell_are_pooled_as_the_encoder_does(client, loaded):
    two = [case.in_base64(case.picture(color)) for color in ("red", "blue")]
    said = post(client, {"photo": two}).json()["predictions"][0]
    cells = np.empty(1, dtype=object)
    cells[0] = [case.picture("red"), case.picture("blue")]
    X = pd.DataFrame({"photo": cells, "title": [None], "size": [np.nan], "weight": [np.nan]})
    np.testing.assert_allclose(list(said["probabilities"].values()), loaded.predict_proba(X)[0])


def test_model_says_what_it_takes(client, path):
    said = client.get("/model").json()
    assert said["name"] == "colors" and said["classes"] == ["blue", "green", "red"]
    assert said["modalities"][2] == {"name": "tabular", "columns": ["size", "weight"]}
    assert {c: given["type"] for c, given in said["input"].items()} == {
        **{"photo": "image", "title": "text", "size": "number", "weight": "number"}
    }
    assert said["expected_scores"]["image + text"]["n_rows"] == 60
    assert said["limits"]["max_rows"] == 256


def test_explanations_are_those_of_explain_row(client, loaded):
    told = client.post("/explain", json={"row": case.row("red"), "within": True, "target": "blue"}).json()
    expected = explain_row(loaded, as_table("red"), 0, target="blue", within=["text"])
    assert told["prediction"] == "red" and told["target"] == "blue" and told["scale"] == "log-odds"
    assert told["shares"] == pytest.approx(expected.shares.to_dict())
    assert told["base"] + sum(told["shares"].values()) == pytest.approx(told["value"])
    text = told["parts"]["text"]
    assert text["method"] == "occlusion" and [e["token"] for e in text["effects"]] == ["a", "red", "thing"]
    assert [e["effect"] for e in text["effects"]] == pytest.approx(expected.parts["text"].effects["effect"].tolist())
    assert {(e["row"], e["column"]) for e in told["parts"]["image"]["effects"]} == set(np.ndindex(7, 7))
    # What stands in for a column comes from the rows that the file keeps.
    assert [e["column"] for e in told["parts"]["tabular"]["effects"]] == ["size", "weight"]


def test_a_modality_that_the_row_lacks_is_not_explained_inside(client):
    for within in (True, ["image", "text"]):
        told = client.post("/explain", json={"row": case.row("red", photo=None), "within": within}).json()
        assert told["parts"]["image"] == {"reason": "the row lacks it"} and told["shares"]["image"] == 0
        assert told["parts"]["text"]["effects"] and ("tabular" in told["parts"]) == (within is True)


@pytest.mark.parametrize(
    "changes, field, reason",
    [
        ({"target": "pink"}, "target", "expected one of ['blue', 'green', 'red']; got a string"),
        ({"target": ["red"]}, "target", "got a list of 1"),
        ({"within": ["smell"]}, "within", "a list of modalities of ['image', 'text', 'tabular']"),
        ({"row": {"photo": {"base64": "AAAA"}}}, "photo", "cannot identify a picture"),
        ({"row": None}, None, "expected an object of cells by column; got null"),
    ],
)
def test_what_cannot_be_explained_is_told(client, changes, field, reason):
    answer = client.post("/explain", json={"row": case.row(), **changes})
    assert answer.status_code == 422 and answer.json()["predictions"] == []
    (error,) = answer.json()["errors"]
    assert error["field"] == field and reason in error["reason"]


@pytest.mark.by_turns
@pytest.mark.parametrize("labels", [[3, 1, 2], [True, False, True]])
def test_labels_that_are_no_texts(labels):
    model, _ = case.fit(labels=labels)
    with case.client_of(model) as client:
        said = post(client, case.row("red"), case.row("green")).json()["predictions"]
        assert [p["prediction"] for p in said] == labels[:2]
        assert all(type(p["prediction"]) is type(labels[0]) for p in said)
        assert set(said[0]["probabilities"]) == {json.dumps(label) for label in labels}
        told = client.post("/explain", json={"row": case.row("red"), "target": labels[1]}).json()
        assert told["target"] == labels[1] and told["prediction"] == labels[0]
        if labels[0] is True:  # 1 is no label, though Python takes it for True
            assert client.post("/explain", json={"row": case.row(), "target": 1}).status_code == 422


def numbers(n=60):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=n), "b": rng.normal(size=n)})
    return X, X["a"] + X["b"] + rng.normal(scale=0.1, size=n)


def two_modalities(fusion):
    X, y = numbers()
    modalities = [("first", StandardScaler(), ["a"]), ("second", StandardScaler(), ["b"])]
    y = y if hasattr(fusion, "predict_interval") or "Regressor" in type(fusion).__name__ else y > 0
    return make_fusion_pipeline(modalities, fusion).fit(X, y)


def test_a_regression_has_numbers_and_no_probabilities():
    model = two_modalities(DecisionFusionRegressor(Ridge(), cv=3))
    with case.client_of(model) as client:
        (said,) = post(client, {"a": 1.0}).json()["predictions"]
        X = pd.DataFrame({"a": [1.0], "b": [np.nan]})
        assert said["prediction"] == pytest.approx(model.predict(X)[0])
        assert "probabilities" not in said and "certainty" not in said and said["missing"] == ["second"]
        assert set(said["expected"]) == {"n_rows", "rmse", "r2"}
        assert client.get("/model").json()["classes"] is None
        told = client.post("/explain", json={"row": {"a": 1.0, "b": 0.5}}).json()
        assert told["target"] is None and told["scale"] == "prediction"


def test_conformal_fusions_add_sets_and_intervals_and_have_expected_scores():
    inner = DecisionFusionClassifier(LogisticRegression(), cv=3)
    model = two_modalities(ConformalFusionClassifier(inner, confidence_level=0.8))
    with case.client_of(model) as client:
        sure, unknown = post(client, {"a": 3, "b": 3}, {}).json()["predictions"]
        assert sure["set"] == [True] and unknown["set"] == [False, True]
        assert sure["expected"]["n_rows"] == 60
    model = two_modalities(ConformalFusionRegressor(DecisionFusionRegressor(Ridge(), cv=3), confidence_level=0.8))
    with case.client_of(model) as client:
        known, unknown = post(client, {"a": 1, "b": 1}, {}).json()["predictions"]
        X = pd.DataFrame({"a": [1.0], "b": [1.0]})
        assert known["interval"] == pytest.approx(model[-1].predict_interval(model[:-1].transform(X))[0].tolist())
        assert unknown["interval"] == [None, None]  # infinite, which JSON cannot say
        assert known["calibrated"] and unknown["calibrated"]
        alone = post(client, {"a": 1}).json()["predictions"][0]
        assert not alone["calibrated"]  # all rows of fit had both, so nothing is known of one alone


def test_metrics_count_requests_rows_and_missing_modalities(path):
    with case.client_of(path) as client:
        post(client, case.row(photo=None), case.row())
        post(client, {"photo": "x"})
        text = client.get("/metrics").text
        assert 'ensemblefuse_requests_total{route="/predict",status="200"} 1.0' in text
        assert 'ensemblefuse_requests_total{route="/predict",status="422"} 1.0' in text
        assert "ensemblefuse_rows_total 3.0" in text and "ensemblefuse_queue_requests 0.0" in text
        assert 'ensemblefuse_missing_modalities_total{modality="image"} 1.0' in text
        client.get("/secret-in-a-path")
        assert "secret" not in client.get("/metrics").text


def test_requests_leave_nothing_in_the_cache_unless_asked_to(path, cache_folder):
    for cache in (False, True):
        with case.client_of(path, ServerSettings(cache=cache)) as client:
            assert post(client, case.row()).status_code == 200
        assert cache_folder.exists() == cache


def test_what_is_no_fusion_pipeline_is_refused_before_anything_is_served(tmp_path):
    X, y = numbers()
    path = save_model(DecisionFusionRegressor(Ridge(), cv=3).fit(X.add_prefix("m__"), y), tmp_path / "bare.fuse")
    with pytest.raises(ValueError, match=r"holds a DecisionFusionRegressor without .* Serve a pipeline of make_fus"):
        case.client_of(path).__enter__()
    edge = split_model(case.fit()[0]).edge
    path = save_model(edge["image"], tmp_path / "edge.fuse")
    with pytest.raises(
        ValueError, match=r"holds an EdgePart .*`transform` where the data are\. Serve the fusion part of split_model"
    ):
        case.client_of(path).__enter__()


def test_the_schema_names_every_column_and_status(client):
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1") and "security" not in document
    schemas = document["components"]["schemas"]
    assert set(schemas["Row"]["properties"]) == {"photo", "title", "size", "weight"}
    kinds = {name.rsplit("/", 1)[1]: schemas[name.rsplit("/", 1)[1]] for name in _refs(document)}
    assert all(kinds.values())  # every reference leads somewhere
    assert set(document["paths"]["/predict"]["post"]["responses"]) == {
        *("200", "403", "408", "413", "415", "422", "503", "504")
    }
    assert set(document["paths"]["/predict"]["post"]["requestBody"]["content"]) == {
        "application/json",
        "multipart/form-data",
    }


def _refs(value):
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        value = list(value.values())
    for item in value if isinstance(value, list) else []:
        yield from _refs(item)


def test_the_page_and_its_files(client):
    page = client.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff" and page.headers["cache-control"] == "no-store"
    assert client.get("/page/index.html").content == page.content
    for name in ("nothing.js", "..%2f_app.py", "%2e%2e/_app.py"):
        assert client.get(f"/page/{name}").status_code == 404


def test_the_example_is_a_row_of_the_file_that_can_be_asked(client):
    told = client.get("/model").json()
    row = client.get("/example").json()["row"]
    assert told["example"] == "row" and set(row) == set(told["input"]) and set(row["photo"]) == {"base64"}
    answer = client.post("/predict", json={"rows": [row]})
    assert answer.status_code == 200 and answer.json()["predictions"][0]["missing"] == []
    explained = client.post("/explain", json={"row": row}).json()
    assert set(explained["on_top"]) == set(explained["shares"])


def test_without_rows_the_example_has_the_medians_and_the_range_of_fit_is_told():
    model, X = case.fit()
    with case.client_of(model) as client:
        told = client.get("/model").json()
        for name, column in told["input"].items():
            is_number = column["type"] == "number"
            assert column.get("range") == ([X[name].min(), X[name].max()] if is_number else None)
        numbers = {name for name, column in told["input"].items() if column["type"] == "number"}
        assert told["example"] == "numbers"
        assert client.get("/example").json() == {"row": {name: X[name].median() for name in numbers}}
