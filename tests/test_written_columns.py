"""Columns that are texts in fit and say numbers, dates or tags: Python, command line and server read them alike."""

import csv
import json
import pickle
import warnings

import numpy as np
import pandas as pd
import polars
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from serving_case import client_of
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ensemblefuse import (
    ColumnError,
    DateFeatures,
    FeatureFusionClassifier,
    TagFeatures,
    UnseenCategoryWarning,
    explain_row,
    inspect_model,
    load_model,
    make_fusion_pipeline,
    save_model,
    split_model,
)
from ensemblefuse.cli import main
from ensemblefuse.schema import learn_schema, read_by_schema

N = 48


def german(value):
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,")) + " €"


def shop():
    """A table of texts, and the same table with the values that they say."""
    rng = np.random.default_rng(0)
    days = pd.date_range("2021-03-01", periods=N, freq="31h").floor("min")
    said = pd.DataFrame(
        {
            "price": np.round(rng.gamma(2, 900, N), 2),
            "weight": np.round(rng.gamma(2, 9, N), 1),
            "sold": rng.random(N) < 0.5,
            "added": days,
            "tags": [tuple(rng.choice(["new", "sale", "used"], n, replace=False)) for n in rng.integers(1, 3, N)],
        }
    )
    said["y"] = np.where(said["price"] > said["price"].median(), "dear", "cheap")
    texts = pd.DataFrame(
        {
            "price": said["price"].map(german),
            "weight": said["weight"].map(lambda v: f"{v:.1f} kg"),
            "sold": np.where(said["sold"], "yes", "No"),
            "added": days.strftime("%d.%m.%Y %H:%M"),
            "tags": said["tags"].map("|".join),
        }
    )
    texts.loc[[3, 5], "weight"], said.loc[[3, 5], "weight"] = "n/a", np.nan
    texts.loc[7, "added"], said.loc[7, "added"] = None, pd.NaT
    return texts, said.drop(columns="y"), said["y"].to_numpy()


@pytest.fixture(scope="module")
def model():
    X, _, y = shop()
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    dates = make_pipeline(DateFeatures(), StandardScaler())
    columns = make_column_transformer(
        (numbers, ["price", "weight", "sold"]), (dates, ["added"]), (TagFeatures(), ["tags"])
    )
    fusion = FeatureFusionClassifier(LogisticRegression())
    return make_fusion_pipeline([("tabular", columns, list(X))], fusion).fit(X, y)


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    return save_model(model, tmp_path_factory.mktemp("written") / "shop.fuse", example=shop()[0].head(3))


ROLES = {"price": {"number"}, "weight": {"number"}, "sold": {"number"}, "added": {"date"}, "tags": {"tags"}}


def test_texts_become_what_they_say():
    X, said, _ = shop()
    schema = learn_schema(X, ROLES)
    table, faults, unseen = read_by_schema(X, schema, fitting=True)
    assert not faults and not unseen
    assert_array_equal(table["price"], said["price"])
    assert_array_equal(table["weight"], said["weight"])
    assert_array_equal(table["sold"], said["sold"])
    assert_array_equal(table["added"], said["added"].astype("datetime64[us]"))
    assert table["tags"].tolist() == said["tags"].tolist()
    assert {column: held["kind"] for column, held in schema.items()} == {
        **{"price": "number", "weight": "number", "sold": "boolean", "added": "date", "tags": "tags"}
    }
    assert schema["weight"]["format"]["missing"] == ["n/a"]
    pd.testing.assert_frame_equal(read_by_schema(table, schema).table, table)
    assert json.loads(json.dumps(schema)) == schema


def test_a_model_of_texts_takes_values_too_and_says_the_same(model):
    X, said, y = shop()
    proba = model.predict_proba(X)
    assert model.score(X, y) > 0.9
    for table in (
        said,
        said.astype({"price": object}),
        said.assign(tags=said["tags"].map(list)),
        polars.from_pandas(X),
    ):
        assert_array_equal(model.predict_proba(table), proba)
    other = X.assign(weight=[None if pd.isna(w) else f"{1000 * w:.0f} g" for w in said["weight"]])
    other["added"] = said["added"].dt.strftime("%Y-%m-%d %H:%M")
    other["sold"] = np.where(said["sold"], "true", "FALSE")
    assert_allclose(model.predict_proba(other), proba)


def test_a_single_row_is_read_as_in_the_table(model):
    X, _, _ = shop()
    assert_allclose(
        np.vstack([model.predict_proba(X.iloc[[i]]) for i in range(8)]), model.predict_proba(X[:8]), atol=1e-12
    )


def test_cells_that_cannot_be_read_are_all_named(model):
    X, _, _ = shop()
    bad = X.set_axis([f"item {i}" for i in range(N)])
    for row, column, cell in [
        (1, "weight", "12 cm"),
        (2, "weight", "heavy"),
        (4, "added", "31.02.2021"),
        (6, "price", "$5"),
    ]:
        bad.iloc[row, bad.columns.get_loc(column)] = cell
    with pytest.raises(ColumnError) as caught:
        model.predict(bad)
    assert [(row.label, row.column, row.reason) for row in caught.value.rows] == [
        ("item 1", "weight", "'12 cm' is in 'cm', and the column held 'kg' in fit"),
        ("item 2", "weight", "'heavy' is not a number"),
        (
            "item 4",
            "added",
            "'31.02.2021' is not a date as in fit: day.month.year; write dates as 2021-12-31, or pass datetimes",
        ),
        ("item 6", "price", "'$5' is in $, and the column held 'EUR' in fit"),
    ]
    with pytest.raises(ColumnError, match="row 0, column 'tags': 5 is not a list of texts"):
        model.predict(X[:1].assign(tags=5))


def test_tags_that_fit_never_saw_are_told(model):
    X, _, _ = shop()
    new = X.assign(tags=["sale|rare", *X["tags"][1:]])
    with pytest.warns(UnseenCategoryWarning, match=f"'tags' holds tags that fit never saw in 1 of {N} rows: 'rare'"):
        model.predict(new)


def test_saved_copied_and_split_it_reads_the_same(model, path):
    X, _, _ = shop()
    proba = model.predict_proba(X)
    assert_array_equal(load_model(path).predict_proba(X), proba)
    assert_array_equal(load_model(path, verify="rows").predict_proba(X), proba)
    assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), proba)
    part = split_model(model).edge["tabular"]
    assert_allclose(np.stack(part.transform(X)["tabular"]), model["encode"].transform(X).astype(np.float32))
    told = inspect_model(path)["input"]
    assert told["weight"] | {"dtype": ""} == {
        **{"type": "number", "modalities": ["tabular"], "written": "masses in kg", "dtype": ""},
        **{"range": told["weight"]["range"], "median": told["weight"]["median"]},
    }
    assert told["added"]["written"] == "dates with times as day.month.year"


def test_a_schema_without_formats_is_read_as_before(model):
    X, said, _ = shop()
    schema = {
        "price": {"kind": "number"},
        "sold": {"kind": "boolean", "as": "number"},
        "added": {"kind": "date", "dtype": "datetime64[us]"},
    }
    table, faults, _ = read_by_schema(said[list(schema)], schema)
    assert not faults and table["price"].tolist() == said["price"].tolist()
    assert {fault.reason for fault in read_by_schema(X[["price"]][:1], {"price": {"kind": "number"}}).faults} == {
        f"{X['price'][0]!r} is not a number"
    }


def test_the_command_line_reads_the_texts_of_a_file(model, path, tmp_path):
    X, _, _ = shop()
    source, target = tmp_path / "shop.csv", tmp_path / "said.csv"
    X.to_csv(source, index=False, quoting=csv.QUOTE_ALL)
    assert main(["predict", str(path), str(source), "-o", str(target)]) == 0
    assert pd.read_csv(target)["prediction"].tolist() == model.predict(X).tolist()
    X.assign(weight="12 cm").to_csv(source, index=False)
    assert main(["predict", str(path), str(source), "-o", str(target), "--overwrite"]) == 0
    assert pd.read_csv(target)["error"].str.startswith("column 'weight': '12 cm' is in 'cm', and the column held").all()


def test_the_server_takes_texts_and_values(model, path):
    X, said, _ = shop()
    rows = X.where(X.notna(), None)[:4].to_dict("records")
    values = [
        {**row, "price": said["price"][i], "sold": bool(said["sold"][i]), "tags": list(said["tags"][i])}
        for i, row in enumerate(rows)
    ]
    with client_of(path) as client:
        texts, said = (client.post("/predict", json={"rows": given}).json()["predictions"] for given in (rows, values))
        assert texts == said
        assert [row["prediction"] for row in texts] == model.predict(X[:4]).tolist()
        refused = client.post("/predict", json={"rows": [{**rows[0], "weight": "12 cm"}]})
        assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == "weight"
        assert "'12 cm' is in 'cm'" in refused.text
        assert client.get("/model").json()["input"]["weight"]["written"] == "masses in kg"
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
        cell = schemas[schemas["Row"]["properties"]["weight"]["$ref"].rpartition("/")[2]]
        assert {"type": "string"} in cell["anyOf"] and "masses in kg in fit" in cell["description"]


def test_columns_are_explained(model):
    X, said, _ = shop()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = explain_row(model, X, 0)
    shown = told.parts["tabular"]
    assert shown.shown["price"] == said["price"][0]
    assert shown.shown["added"] == X["added"][0]
    assert set(shown.effects.index) == set(X)


def test_times_of_day_are_explained_without_a_date():
    hours = np.arange(24).repeat(2)
    X = pd.DataFrame({"at": [f"{hour:02d}:{7 * i % 60:02d}" for i, hour in enumerate(hours)]})
    model = make_fusion_pipeline([("tabular", DateFeatures(), ["at"])], FeatureFusionClassifier(LogisticRegression()))
    told = explain_row(model.fit(X, hours > 12), X, 40)
    assert told.parts["tabular"].shown["at"] == X["at"][40] == "20:40"
    assert f"at = 20:40  {told.parts['tabular'].effects['at']:+.3f}" in str(told)
    assert "at = 20:40" in told.to_html() and "1970" not in told.to_html() + str(told)


@pytest.mark.parametrize(
    ("cells", "roles", "kind"),
    [
        (["12 kg", "13 kg"], {"category"}, "category"),
        (["12 kg", "13 kg"], {"other"}, "text"),
        (["12", "13.5"], {"number"}, "number"),
        (["12", "thirteen"], {"number"}, "number"),
        (["2021-01-05", "2021-02-05"], {"category"}, "category"),
        (["red", "blue"], {"date"}, "object"),
        (["red", "blue"], {"tags"}, "tags"),
        ([None, None], {"date"}, "date"),
        (pd.to_datetime(["2021-01-05", "2021-02-05"]), {"date"}, "date"),
        ([["a"], ["b"]], {"tags"}, "tags"),
    ],
    ids=repr,
)
def test_only_what_needs_a_format_gets_one(cells, roles, kind):
    schema = learn_schema(pd.DataFrame({"x": cells}), {"x": roles})
    assert schema["x"]["kind"] == kind
    assert ("format" in schema["x"]) == (kind == "tags")


@pytest.mark.parametrize(("transformer", "what"), [(DateFeatures(), "no date"), (TagFeatures(), "no list of texts")])
def test_a_transformer_says_what_it_cannot_read(transformer, what):
    cells = [f"see page {i}" for i in range(6)] if what == "no date" else [5] * 6
    X, y = pd.DataFrame({"x": pd.Series(cells, dtype=object)}), np.arange(6) % 2
    with pytest.raises(TypeError, match=f"Column 'x' holds .* in row 0, which is {what}"):
        make_fusion_pipeline([("x", transformer, ["x"])], FeatureFusionClassifier(LogisticRegression())).fit(X, y)


SPELLINGS = {
    "points": lambda v: f"{v:.2f}",
    "commas": lambda v: f"{v:.2f}".replace(".", ","),
    "thousands": lambda v: f"{v:,.2f}",
    "currency": lambda v: f"${v:,.2f}",
    "unit": lambda v: f"{v:.2f} kg",
    "percent": lambda v: f"{v:.2f}%",
    "accounting": lambda v: f"({-v:.2f})" if v < 0 else f"{v:.2f}",
}
CONTAINERS = {
    "objects": lambda cells: pd.Series(cells, dtype=object),
    "strings": lambda cells: pd.Series(cells, dtype="string"),
    "categories": lambda cells: pd.Series(cells, dtype="category"),
    "bytes": lambda cells: pd.Series([cell.encode() for cell in cells], dtype=object),
    "arrow": lambda cells: pd.Series(cells, dtype="string[pyarrow]"),
    "gaps": lambda cells: pd.Series([None, " ", *cells[2:]], dtype=object),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_numbers_of_any_spelling_in_any_container(spelling, container):
    values = np.round(np.random.default_rng(1).normal(0, 3000, 30), 2)
    cells = CONTAINERS[container]([SPELLINGS[spelling](v) for v in values])
    schema = learn_schema(pd.DataFrame({"x": cells}), {"x": {"number"}})
    table, faults, _ = read_by_schema(pd.DataFrame({"x": cells}), schema)
    values[:2] = np.nan if container == "gaps" else values[:2]
    assert not faults
    assert_array_equal(table["x"].to_numpy(float), values)
