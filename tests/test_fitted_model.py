"""A fitted model opened: its modalities, encoders and columns, also of a fusion that encodes for itself."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from ensemblefuse import (
    CascadeFusionClassifier,
    ConformalFusionClassifier,
    DecisionFusionClassifier,
    FeatureFusionClassifier,
    FusionSearchCV,
    ImageEncoder,
    TextEncoder,
    find_near_duplicates,
    make_fusion_pipeline,
    model_checks,
    save_model,
)
from ensemblefuse.cli import main
from ensemblefuse.fitted.model import FittedModel, FittedPipeline, modalities_of
from ensemblefuse.fitted.row_predictor import RowPredictor

N = 24
LR = LogisticRegression()
FUSIONS = {
    "decision": DecisionFusionClassifier(LR, cv=3),
    "cascade": CascadeFusionClassifier(LR, cv=3),
    "conformal cascade": ConformalFusionClassifier(CascadeFusionClassifier(LR, cv=2), cv=3),
    "search": FusionSearchCV({"late": DecisionFusionClassifier(LR, joint=False, cv=2)}, cv=3),
}


@pytest.fixture
def album(tmp_path):
    """A folder of pictures that are red or not, and a table with relative paths beside them."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "album"
    folder.mkdir()
    for i in range(N):
        pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        pixels[..., 0] = 30 + 190 * (i % 2)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    price = np.arange(N) % 2 + rng.normal(size=N)
    kind = np.array(["barn", "mill"])[np.arange(N) % 2]
    return folder, pd.DataFrame({"photo": [f"{i}.png" for i in range(N)], "price": price, "kind": kind})


def fit(fusion, folder, table):
    modalities = [("image", ImageEncoder(features="color"), "photo"), ("tabular", "passthrough", ["price"])]
    full = table.assign(photo=[str(folder / photo) for photo in table["photo"]])
    return make_fusion_pipeline(modalities, fusion).fit(full[["photo", "price"]], full["kind"]), full


def predict(album, tmp_path, monkeypatch, model, table, *options):
    """What the command line writes for a table beside the pictures, asked from another folder."""
    save_model(model, tmp_path / "model.fuse")
    table.to_csv(album[0] / "new.csv", index=False)
    monkeypatch.chdir(tmp_path)
    assert not main(["predict", "model.fuse", "album/new.csv", "-o", "out.csv", *options])
    return pd.read_csv(tmp_path / "out.csv")


@pytest.mark.parametrize("name", FUSIONS)
def test_one_object_knows_encoders_and_columns_of_every_fusion(name, album):
    opened = FittedModel(fit(FUSIONS[name], *album)[0])
    columns = {"image": ["photo"], "tabular": ["price"]}
    assert opened.columns == {chosen: columns[chosen] for chosen in opened.names}  # a search may choose one alone
    assert opened.path_columns == ["photo"] and opened.schema["price"] == {"kind": "number"}
    assert opened.reads_files("image") and not opened.reads_files("tabular")
    assert [type(encoder) for encoder in opened.encoders] == [ImageEncoder]
    assert [modality.name for modality in opened.modalities] == list(columns)


def test_a_search_is_opened_at_its_best_estimator(album):
    model, full = fit(FUSIONS["decision"], *album)
    search = GridSearchCV(model, {"fuse__joint": [False]}, cv=2).fit(full[["photo", "price"]], full["kind"])
    assert FittedModel(search).path_columns == ["photo"]
    assert modalities_of(search) == []  # not a pipeline itself


def test_encoders_inside_a_blocks_own_estimator_read_files(album):
    """Raw cells pass to the fusion; only the block whose estimator reads pictures holds paths."""
    folder, table = album
    estimators = {"image": make_pipeline(ImageEncoder(features="color"), LR), "words": make_pipeline(TextEncoder(), LR)}
    model = make_fusion_pipeline(
        [("image", "passthrough", ["photo"]), ("words", "passthrough", ["title"])],
        DecisionFusionClassifier(estimators, joint=False, cv=2),
    )
    X = pd.DataFrame({"photo": [str(folder / p) for p in table["photo"]], "title": ["a barn", "a mill"] * (N // 2)})
    opened = FittedModel(model.fit(X, table["kind"]))
    assert opened.path_columns == ["photo"]


@pytest.mark.parametrize(
    "raw",
    [
        Pipeline([("as it is", "passthrough")]),
        ColumnTransformer([("as it is", "passthrough", ["photo"])]),
        FunctionTransformer(),
        FunctionTransformer(pd.DataFrame),
    ],
    ids=["pipeline", "columns", "identity", "function"],
)
def test_raw_cells_are_known_whatever_lets_them_pass(raw, album):
    folder, table = album
    heads = {"image": make_pipeline(ImageEncoder(features="color"), LR), "tabular": LR}
    model = make_fusion_pipeline(
        [("image", raw, ["photo"]), ("tabular", "passthrough", ["price"])],
        DecisionFusionClassifier(heads, joint=False, cv=2),
    )
    X = table[["price"]].assign(photo=[str(folder / photo) for photo in table["photo"]])
    assert FittedModel(model.fit(X, table["kind"])).path_columns == ["photo"]


def test_a_pipeline_that_ends_in_another_estimator_predicts_on_the_command_line(album, tmp_path, monkeypatch):
    folder, table = album
    model = fit(LR, folder, table.assign(price=1.0))[0]
    out = predict(album, tmp_path, monkeypatch, model, table.assign(price=1.0))
    assert out["prediction"].tolist() == table["kind"].tolist()


def test_columns_may_be_chosen_by_a_function(album):
    folder, table = album
    X = table[["photo"]].assign(photo=[str(folder / photo) for photo in table["photo"]])
    encode = ColumnTransformer([("image", ImageEncoder(features="color"), lambda X: "photo")])
    model = Pipeline([("encode", encode.set_output(transform="pandas")), ("fuse", FeatureFusionClassifier(LR))])
    model.fit(X, table["kind"])
    assert FittedPipeline(model).path_columns == ["photo"]


def test_encoders_inside_a_union_read_files(album):
    folder, table = album
    union = FeatureUnion([("color", ImageEncoder(features="color")), ("lbp", ImageEncoder(features="lbp"))])
    model = make_fusion_pipeline(
        [("image", make_pipeline(union, StandardScaler()), "photo")], FeatureFusionClassifier(LR)
    )
    X = pd.DataFrame({"photo": [str(folder / p) for p in table["photo"]]})
    assert FittedModel(model.fit(X, table["kind"])).path_columns == ["photo"]


@pytest.mark.parametrize("name", FUSIONS)
def test_relative_paths_start_at_the_table(name, album, tmp_path, monkeypatch):
    out = predict(album, tmp_path, monkeypatch, fit(FUSIONS[name], *album)[0], album[1])
    assert len(out) == N and out["error"].isna().all()


@pytest.mark.by_turns
@pytest.mark.parametrize("options", [(), ("--on-error", "missing")], ids=["default", "missing"])
@pytest.mark.parametrize("name", FUSIONS)
def test_one_corrupt_picture_costs_its_own_row_alone(name, options, album, tmp_path, monkeypatch):
    folder, table = album
    model = fit(FUSIONS[name], folder, table)[0]
    (folder / "5.png").write_bytes(b"not a picture")
    unsure = table.assign(price=0.5)  # so that a cascade looks at every picture
    out = predict(album, tmp_path, monkeypatch, model, unsure, *options)
    assert out["error"].notna().tolist() == [i == 5 for i in range(N)]
    assert out["error"][5].startswith("column 'photo': ")
    assert out["prediction"].notna().tolist() == [i != 5 or bool(options) for i in range(N)]


@pytest.mark.parametrize("name", FUSIONS)
def test_bad_cells_of_several_rows_are_named_by_position(name, album):
    folder, table = album
    model, full = fit(FUSIONS[name], folder, table)
    (folder / "5.png").write_bytes(b"not a picture")
    (folder / "9.png").unlink()
    predicted = RowPredictor(FittedModel(model), on_error="keep")(full[["photo", "price"]].assign(price=0.5))
    assert [i for i, found in enumerate(predicted.reasons) if found] == [5, 9]
    assert np.flatnonzero(~predicted.answered).tolist() == [5, 9]


@pytest.mark.parametrize("name", FUSIONS)
def test_copies_of_a_picture_are_found_by_content(name, album):
    folder, table = album
    shutil.copy(folder / "0.png", folder / "copy.png")
    table = pd.concat([table, table.iloc[[0]].assign(photo="copy.png")], ignore_index=True)
    model, full = fit(FUSIONS[name], folder, table)
    pairs = find_near_duplicates(model, full[["photo", "price"]]).table
    assert pairs.loc[pairs["exact"], ["row", "other"]].values.tolist() == [[0, N]]
    assert "No row of X is there twice" not in str(model_checks(model, full[["photo", "price"]], full["kind"]))
