"""Fused models in MLflow: the file as it is, optional columns, and the application that its server runs."""

import base64
import importlib.util
import io
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

import ensemblefuse
from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FunctionEncoder,
    ImageEncoder,
    PersistenceError,
    make_fusion_pipeline,
    mlflow_arguments,
    save_model,
)

os.environ["MLFLOW_ALLOW_FILE_STORE"] = os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="the extra mlflow is not installed"),
    # What mlflow says of its own type hints and of a model without an example, and what pandas says of mlflow.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred"),
    pytest.mark.filterwarnings("ignore:.*An input example was not provided"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),
]
HEAD = LogisticRegression()


@pytest.fixture(scope="module", autouse=True)
def mlflow_module():
    """Imported here and not above: it takes 3 s of every process that only collects the tests."""
    global mlflow
    import mlflow


def letters(text):
    return [len(text), text.count("a")]


TRUSTED = [letters]


def picture(level):
    buffer = io.BytesIO()
    Image.fromarray(np.full((9, 9, 3), level, dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def shop():
    """A pipeline over photo, title and price, its file, and its table; some cells are missing."""
    rng = np.random.default_rng(0)
    y = np.array(["cup", "hat"] * 20)
    df = pd.DataFrame(
        {
            "photo": [picture(int(rng.integers(100) + 100 * (label == "hat"))) for label in y],
            "title": ["a aa" if label == "cup" else "b" for label in y],
            "price": rng.normal(size=40) + (y == "hat"),
        }
    )
    df.loc[::5, "title"] = None
    modalities = [
        ("image", ImageEncoder(features="color"), "photo"),
        ("text", FunctionEncoder(letters), "title"),
        ("tabular", StandardScaler(), ["price"]),
    ]
    return make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, cv=2, joint=False)).fit(df, y), df


@pytest.fixture(scope="module")
def shop_file(shop, tmp_path_factory):
    return save_model(shop[0], tmp_path_factory.mktemp("models") / "shop.fuse", example=shop[1].head(3))


@pytest.fixture(scope="module")
def loaded(shop, shop_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow") / "shop"
    mlflow.pyfunc.save_model(folder, **mlflow_arguments(shop_file, shop[1].head(3), trusted=TRUSTED))
    return mlflow.pyfunc.load_model(folder), folder


def agrees(table, model, X):
    assert list(table) == ["prediction", "proba_cup", "proba_hat"]
    assert_array_equal(table["prediction"], model.predict(X))
    assert_allclose(table[["proba_cup", "proba_hat"]], model.predict_proba(X), rtol=0, atol=1e-12)


@pytest.mark.by_turns
@pytest.mark.parametrize("columns", [["photo", "title", "price"], ["title"], ["price", "photo"]])
@pytest.mark.filterwarnings("ignore:X lacks the columns")
def test_what_mlflow_loads_predicts_the_same_with_any_modality_missing(loaded, shop, columns):
    model, df = shop
    agrees(loaded[0].predict(df[columns]), model, df[columns])


def test_the_file_is_stored_as_it_is_and_nothing_is_pickled(loaded, shop_file):
    files = {path.name: path for path in loaded[1].rglob("*") if path.is_file()}
    assert files["shop.fuse"].read_bytes() == shop_file.read_bytes()
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".joblib", ".cloudpickle"))]
    assert "loader_module: ensemblefuse.persistence\n" in files["MLmodel"].read_text()
    requirements = files["requirements.txt"].read_text().splitlines()
    assert f"ensemblefuse=={ensemblefuse.__version__}" in requirements and not [r for r in requirements if "+" in r]


def test_all_columns_of_the_signature_are_optional_and_typed_by_the_example(loaded, shop_file):
    signature = loaded[0].metadata.signature
    assert [(c.name, c.type.name, c.required) for c in signature.inputs] == [
        ("photo", "binary", False),
        ("title", "string", False),
        ("price", "double", False),
    ]
    assert [c.name for c in signature.outputs] == ["prediction", "proba_cup", "proba_hat"]
    without = mlflow_arguments(shop_file)["signature"]
    assert [repr(c.type) for c in without.inputs] == ["string", "Any", "double"]


@pytest.mark.filterwarnings("ignore:X lacks the columns")
def test_a_run_logs_the_model(shop, shop_file, tmp_path):
    model, df = shop
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with mlflow.start_run():
        arguments = mlflow_arguments(shop_file, df.head(3), trusted=TRUSTED)
        info = mlflow.pyfunc.log_model(name="shop", input_example=df[["title", "price"]].head(3), **arguments)
    agrees(mlflow.pyfunc.load_model(info.model_uri).predict(df), model, df)


def test_types_that_are_not_trusted_are_not_built(shop, shop_file, tmp_path):
    mlflow.pyfunc.save_model(tmp_path / "shop", **mlflow_arguments(shop_file, shop[1].head(3)))
    with pytest.raises(PersistenceError, match="letters"):
        mlflow.pyfunc.load_model(tmp_path / "shop")


def test_integers_need_to_be_made_floats(loaded):
    with pytest.raises(mlflow.exceptions.MlflowException, match="price"):
        loaded[0].predict(pd.DataFrame({"price": [1, 2]}))


def test_a_column_of_another_name_and_none_at_all_are_errors(loaded, shop_file):
    with pytest.raises(ValueError, match="none of the columns"):
        loaded[0].predict(pd.DataFrame({"cost": [1.0]}))
    with pytest.raises(ValueError, match=r"\['cost'\], which the model does not read; it reads \['photo'"):
        mlflow_arguments(shop_file, {"cost": [1.0]})


# ---------------------------------------------------------------------- the scoring server


@pytest.fixture(scope="module")
def client(loaded):
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")  # which the server sets for good
        yield TestClient(scoring_server.init(loaded[0]))


def ask(client, content, kind="application/json"):
    body = {"json": content} if kind == "application/json" else {"content": content}
    return client.post("/invocations", headers={"Content-Type": kind}, **body)


@pytest.mark.filterwarnings("ignore:X lacks the columns")
def test_a_request_may_lack_cells_and_columns(client, shop):
    model, df = shop
    rows = {"columns": ["title", "price"], "data": [["a red mug", 4], [None, 3.0], ["b", None]]}
    answer = ask(client, {"dataframe_split": rows})
    assert answer.status_code == 200, answer.text
    X = pd.DataFrame(rows["data"], columns=rows["columns"]).astype({"price": float})
    agrees(pd.DataFrame(answer.json()["predictions"]), model, X)
    photo = {"photo": base64.b64encode(df["photo"][1]).decode()}
    agrees(
        pd.DataFrame(ask(client, {"dataframe_records": [photo]}).json()["predictions"]), model, df.loc[[1], ["photo"]]
    )
    answer = ask(client, "title,price\na aa,1\n,2\n", "text/csv")
    X = pd.DataFrame({"title": ["a aa", None], "price": [1.0, 2.0]})
    agrees(pd.DataFrame(answer.json()["predictions"]), model, X)


@pytest.mark.filterwarnings("ignore:X lacks the columns")
def test_a_request_that_cannot_be_answered_says_why(client):
    answer = ask(client, {"dataframe_records": [{"cost": 1.0}]})
    assert answer.status_code == 400 and "none of the columns" in answer.text
    answer = ask(client, {"dataframe_records": [{"price": "cheap"}]})
    assert answer.status_code == 400 and "price" in answer.text
    answer = ask(client, {"dataframe_records": [{"photo": base64.b64encode(b"no picture").decode()}]})
    assert answer.status_code == 400 and "photo" in answer.text


# ---------------------------------------------------------------------- other models


def test_labels_of_other_types_and_regressions(tmp_path):
    X = pd.DataFrame({"price": np.arange(20.0) % 7, "size": np.arange(20.0) % 3, "new": np.arange(20) % 2 == 0})
    modalities = [("cost", StandardScaler(), ["price"]), ("rest", StandardScaler(), ["size", "new"])]
    for i, (fusion, y, kind) in enumerate(
        [
            (FeatureFusionClassifier(HEAD), np.arange(20) % 2, "long"),
            (FeatureFusionClassifier(HEAD), np.arange(20) % 2 == 0, "boolean"),
            (DecisionFusionRegressor(Ridge(), cv=2), X["price"] * 2, "double"),
        ]
    ):
        model = make_fusion_pipeline(modalities, fusion).fit(X, y)
        arguments = mlflow_arguments(save_model(model, tmp_path / f"{i}.fuse"), X.head())
        mlflow.pyfunc.save_model(tmp_path / str(i), **arguments)
        assert arguments["signature"].outputs.inputs[0].type.name == kind
        assert [c.type.name for c in arguments["signature"].inputs] == ["double"] * 3
        said = mlflow.pyfunc.load_model(tmp_path / str(i)).predict(X.astype(float))
        assert_array_equal(said["prediction"], model.predict(X))


def test_a_model_without_encoders_is_refused(tmp_path):
    X = pd.DataFrame({"a__0": [0.0, 1.0] * 5, "b__0": [1.0, 0.0] * 5})
    path = save_model(FeatureFusionClassifier(HEAD).fit(X, [0, 1] * 5), tmp_path / "m.fuse")
    with pytest.raises(PersistenceError, match="make_fusion_pipeline"):
        mlflow_arguments(path)


@pytest.mark.slow
def test_mlflow_is_loaded_when_it_is_asked_for():
    code = "import sys, ensemblefuse.persistence; print('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_where_mlflow_is_not_installed_the_extra_is_named(shop_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.models", None)
    with pytest.raises(ImportError, match=r"ensemblefuse\[mlflow\]"):
        mlflow_arguments(shop_file)
