"""The written form of a column is found once, in the whole table: no fold of a cross-validation reads it otherwise."""

import json
import pickle

import numpy as np
import pandas as pd
import polars
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from serving_case import client_of
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from ensemblefuse import (
    CascadeFusionClassifier,
    ColumnError,
    DateFeatures,
    FeatureFusionClassifier,
    TableTransformer,
    TagFeatures,
    infer_modalities,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.cli import main
from ensemblefuse.column_formats import (
    UnreadableCell,
    boolean_format,
    date_format,
    number_format,
    read_cell,
    tag_format,
)
from ensemblefuse.schema import read_by_schema

pytestmark = pytest.mark.usefixtures("little_effort")

N = 60
RNG = np.random.default_rng(4)
Y = np.arange(N) % 2
ODD = 17  # the row that alone decides, or holds what no other row does
OTHER = np.delete(np.arange(N), ODD)


def with_odd(cells, odd):
    cells = list(cells)
    cells[ODD] = odd
    return cells


WHOLE = RNG.integers(1, 90, N)
AMBIGUOUS = [f"{a:02}/{b:02}/2001" for a, b in zip(RNG.integers(1, 12, N), RNG.integers(2, 13, N), strict=True)]
TAGS = [", ".join(RNG.choice(["red", "blue", "green", "grey"], 2, replace=False)) for _ in range(N)]

# A column, what two of its cells say (that of the odd row, and that of row 0).
FORMS = {
    "unknown": (with_odd([f"{v} kg" for v in WHOLE], "unknown"), None, float(WHOLE[0])),
    "a word of its own": (with_odd([f"{v} kg" for v in WHOLE], "ask us"), None, float(WHOLE[0])),
    "a word among plain numbers": (with_odd([f"{v}.5" for v in WHOLE], "sold out"), None, WHOLE[0] + 0.5),
    "decimal commas": (with_odd([f"{v},250" for v in WHOLE], "0,5"), 0.5, WHOLE[0] + 0.25),
    "points between thousands": (with_odd([f"{v}.250" for v in WHOLE], "1.250,5"), 1250.5, 1000.0 * WHOLE[0] + 250),
    "currency": (with_odd([f"{v}" for v in WHOLE], "7 €"), 7.0, float(WHOLE[0])),
    "the most usual unit": ([f"{v} kg" if i % 2 else f"{v} g" for i, v in enumerate(WHOLE)], None, None),
    "the day": (with_odd(AMBIGUOUS, "25/03/2001"), pd.Timestamp("2001-03-25"), None),
    "another form of dates": (with_odd(["2001-02-03", "2004-05-06"] * (N // 2), "August 1st 2000"), None, None),
    "a word among dates": (with_odd([f"2001-02-{v % 27 + 1:02}" for v in WHOLE], "last year"), None, None),
    "a second sign between tags": (with_odd(TAGS, "red; blue"), ("red", "blue"), tuple(TAGS[0].split(", "))),
    "another word for true": (with_odd(["yes", "no"] * (N // 2), "Ja"), True, True),
    "a mark among booleans": (with_odd(["yes", "no"] * (N // 2), "n/a"), None, True),
}


KINDS = {"a second sign between tags": "tags"}  # four tags in pairs might be categories


def table(cells):
    return pd.DataFrame({"x": cells, "size": np.arange(N) / 7})


def pipeline(modalities):
    return make_fusion_pipeline(modalities, FeatureFusionClassifier(LogisticRegression()))


def read(X, model):
    reading = read_by_schema(X, model["encode"].schema_)
    assert not reading.faults and not reading.unseen
    return reading.table["x"].tolist()


@pytest.mark.by_turns
@pytest.mark.parametrize("form", FORMS)
def test_every_fold_reads_a_column_as_the_whole_table_says(form):
    cells, odd, first = FORMS[form]
    X = table(cells)
    model = pipeline(infer_modalities(X, kinds={"x": KINDS[form]} if form in KINDS else None, verbose=False))
    whole = clone(model).fit(X, Y)
    said = read(X, whole)
    if form not in ("the most usual unit", "another form of dates"):
        assert pd.isna(said[ODD]) if odd is None else said[ODD] == odd
    assert first is None or said[0] == first
    for rows in (OTHER, *(train for train, _ in KFold(4, shuffle=True, random_state=0).split(X))):
        part = clone(model).fit(X.iloc[rows], Y[rows])
        assert part["encode"].schema_["x"]["format"] == whole["encode"].schema_["x"]["format"]
        assert [v for v in read(X, part) if not pd.isna(v)] == [v for v in said if not pd.isna(v)]
    assert np.isfinite(cross_val_score(model, X, Y, cv=4, error_score="raise")).all()


def test_tables_of_which_one_row_decides_are_cross_validated(capsys):
    rng = np.random.default_rng(0)
    mass = rng.integers(1, 90, 200)
    y = np.where(mass > 45, "b", "a")
    weight = [f"{v} kg" for v in mass]
    weight[7], weight[150] = "unknown", "n/a"
    when = [f"{a:02}/{b:02}/2001" for a, b in zip(rng.integers(1, 12, 199), rng.integers(1, 13, 199), strict=True)]
    X = pd.DataFrame({"weight": weight, "when": [*when, "25/03/2001"]})
    for kinds in (None, {"weight": "number", "when": "date"}):
        for columns in (["weight"], ["when"], ["weight", "when"]):
            chosen = {c: k for c, k in (kinds or {}).items() if c in columns}
            model = make_fusion_pipeline(
                infer_modalities(X[columns], kinds=chosen), FeatureFusionClassifier(LogisticRegression())
            )
            scores = cross_val_score(model, X[columns], y, cv=3, error_score="raise")
            assert scores.min() > (0.9 if "weight" in columns else 0.3)
            rated = cross_val_predict(model, X[columns], y, cv=3, method="predict_proba")
            # A fold that read the days otherwise would predict otherwise than with dates that are no texts.
            said = X.assign(when=pd.to_datetime(X["when"], format="%d/%m/%Y"))[columns]
            assert_allclose(rated, cross_val_predict(model, said, y, cv=3, method="predict_proba"), atol=1e-9)
    assert "declared: dates as day/month/year" in capsys.readouterr().out


FLAGS = ["true", "false", "True"] * (N // 3)
DAYS = list(pd.date_range("2001-02-03", periods=N))
# Cells of which all but one seem to be of another kind; the kind, and what the odd one says.
MIXED = {
    "a third value": (FLAGS, "maybe", None, "category", "maybe"),
    "a mark that is a value": (FLAGS, "n/a", "category", "category", "n/a"),
    "a third value among booleans": ([True, False] * (N // 2), "maybe", None, "category", "maybe"),
    "a mark among flags": (FLAGS, "n/a", None, "boolean", None),
    "a mark among dates": (DAYS, "-", None, "date", None),
    "a name among dates": (DAYS, "Easter", "string", "text", "Easter"),
    "a name among numbers": ([*range(N)], "A-12", "string", "text", "A-12"),
}


@pytest.mark.by_turns
@pytest.mark.filterwarnings("ignore:Column 'x' holds categories that fit never saw")
@pytest.mark.parametrize("case", MIXED)
def test_a_fold_without_the_odd_cell_reads_it_all_the_same(case):
    cells, odd, declared, kind, said = MIXED[case]
    X = table(pd.Series(with_odd(cells, odd), dtype=object))
    model = pipeline(infer_modalities(X, kinds=declared and {"x": declared}, verbose=False))
    for rows in (range(N), OTHER):
        schema = clone(model).fit(X.iloc[rows], Y[rows])["encode"].schema_
        assert schema["x"]["kind"] == kind
        reading = read_by_schema(X, schema)
        found = reading.table["x"].tolist()[ODD]
        assert not reading.faults and (pd.isna(found) if said is None else found == said)
    assert np.isfinite(cross_val_predict(model, X, Y, cv=4, method="predict_proba")).all()


def test_plain_categories_and_texts_need_no_form():
    X = pd.DataFrame({"shade": ["red", "blue"] * 30, "flag": FLAGS, "name": [f"name {v} of {v % 7}" for v in WHOLE]})
    kinds = {"shade": "category", "flag": "category", "name": "string"}
    assert infer_modalities(X, kinds=kinds, verbose=False)[0][1].formats is None


def test_without_the_form_of_the_whole_table_the_folds_would_differ():
    X = table(FORMS["the day"][0])
    parts = [("date", DateFeatures(), ["x"]), ("number", StandardScaler(), ["size"])]
    model = pipeline([("tabular", TableTransformer(parts), ["x", "size"])])
    found = [model.fit(X.iloc[rows], Y[rows])["encode"].schema_["x"]["format"]["formats"] for rows in (range(N), OTHER)]
    assert found == [["%d/%m/%Y"], ["%m/%d/%Y"]]


def test_searches_and_copies_keep_the_forms():
    X = pd.DataFrame({form: cells for form, (cells, *_) in FORMS.items()})
    modalities = infer_modalities(X, kinds=KINDS, verbose=False)
    formats = modalities[0][1].formats
    assert set(formats) == set(X)
    assert json.loads(json.dumps(formats)) == formats
    model = pipeline(modalities)
    for copy in (clone(model), pickle.loads(pickle.dumps(model)), clone(clone(model)).set_params(memory=None)):
        assert copy.get_params()["encode__tabular__formats"] == formats
    search = GridSearchCV(model, {"fuse__estimator__C": [0.1, 1.0]}, cv=3, error_score="raise").fit(X, Y)
    assert search.best_estimator_.get_params()["encode__tabular__formats"] == formats


def test_a_saved_model_reads_by_the_form(tmp_path):
    X = pd.DataFrame({form: cells for form, (cells, *_) in FORMS.items()})
    model = pipeline(infer_modalities(X, kinds=KINDS, verbose=False)).fit(X.iloc[OTHER], Y[OTHER])
    loaded = load_model(save_model(model, tmp_path / "forms.fuse", example=X.head(3)))
    assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    again = clone(loaded).fit(X.iloc[OTHER], Y[OTHER])
    assert_allclose(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("other", [polars.from_pandas, lambda X: X.to_dict("list")])
def test_other_tables_give_the_same_forms(other):
    X = pd.DataFrame({form: cells for form, (cells, *_) in FORMS.items()})
    found = [infer_modalities(Z, kinds=KINDS, verbose=False)[0][1].formats for Z in (X, other(X))]
    assert found[0] == found[1]


def test_the_command_line_reads_with_the_forms_as_python_does(tmp_path, capsys):
    X = pd.DataFrame({form: cells for form, (cells, *_) in FORMS.items()})
    X["days"] = 20240100 + RNG.integers(1, 31, N)
    source, target, later, out = (str(tmp_path / name) for name in ("forms.csv", "forms.fuse", "later.csv", "out.csv"))
    X.assign(y=np.where(Y, "b", "a")).to_csv(source, index=False)
    options = ["--target", "y", "--kind", "days=date", "--kind", "a second sign between tags=tags"]
    assert main(["fit", source, *options, "-o", target, "--strategy", "feature"]) == 0
    model = load_model(target)
    assert model["encode"].schema_["the day"]["format"]["formats"] == ["%d/%m/%Y"]
    other = X.iloc[::-1].reset_index(drop=True)
    for i, column in enumerate(X):  # marks that fit never saw, one in each row
        if column != "days":
            other.loc[i, column] = ["-", "n/a", "?", "None", "--", "#N/A", "TBD"][i % 7]
    other.to_csv(later, index=False)
    assert main(["predict", target, later, "-o", out]) == 0
    probability = pd.read_csv(out)[["proba_a", "proba_b"]]
    assert_allclose(probability, model.predict_proba(other), atol=1e-6)
    python = pipeline(infer_modalities(X, kinds={**KINDS, "days": "date"}, verbose=False)).fit(X, Y)
    said = [read_by_schema(other, fitted["encode"].schema_).table for fitted in (model, python)]
    pd.testing.assert_frame_equal(*said)
    assert main(["evaluate", source, *options, "--cv", "3"]) == 0
    assert "cannot be read" not in capsys.readouterr().err


# ---------------------------------------------------------------------- declared kinds


def test_declared_kinds_have_forms_and_say_which(capsys):
    X = table([*np.delete(AMBIGUOUS, ODD).tolist(), "01/02/2001"])
    modalities = infer_modalities(X, kinds={"x": "date"}, strict=True)
    line = next(line for line in capsys.readouterr().out.split("\n") if line.startswith("x "))
    assert "declared: dates as month/day/year" in line and "could be day/month/year" in line
    assert modalities[0][1].formats["x"]["formats"] == ["%m/%d/%Y"]
    model = pipeline(modalities).fit(X, Y)
    with pytest.raises(ColumnError, match="as in fit: month/day/year; write dates as 2021-12-31, or pass datetimes"):
        model.predict(X.head(1).assign(x="25/12/2021"))
    assert_array_equal(
        model.predict_proba(X.head(1).assign(x="2021-12-25")),
        model.predict_proba(X.head(1).assign(x=pd.Timestamp("2021-12-25"))),
    )
    few = table(with_odd([f"{v} kg" for v in WHOLE], "ask us"))
    assert infer_modalities(few, kinds={"x": "number"}, verbose=False)[0][1].formats["x"]["missing"] == ["ask us"]


@pytest.mark.parametrize("dtype", [int, float, object, "Int64"])
def test_whole_numbers_may_be_declared_dates(dtype):
    days = 20240100 + RNG.integers(1, 31, N)
    X = table(pd.Series(days).astype(dtype))
    model = pipeline(infer_modalities(X, kinds={"x": "date"}, verbose=False)).fit(X, Y)
    said = pd.to_datetime(pd.Series(days.astype(str)), format="%Y%m%d")
    assert read(X, model) == said.tolist()
    for later in (X.assign(x=days), X.assign(x=days.astype(str)), X.assign(x=said)):
        assert_array_equal(model.predict_proba(later), model.predict_proba(X))
    with pytest.raises(ColumnError, match="is not a date"):
        model.predict(X.head(1).assign(x=20241399))
    found = infer_modalities(X, verbose=False)[0][1].formats
    assert found["x"]["formats"] == ["%Y%m%d"], "undeclared, many different ones are days as well"
    few = X.assign(x=X["x"].mask(pd.Series(days) > 20240105, 20240105))
    assert infer_modalities(few, verbose=False)[0][1].formats is None, "and few are numbers"


def test_the_server_reads_days_as_numbers_and_marks(tmp_path):
    X = table(20240100 + RNG.integers(1, 31, N)).assign(weight=[f"{v} kg" for v in WHOLE])
    model = pipeline(infer_modalities(X, kinds={"x": "date"}, verbose=False)).fit(X, Y)
    path = save_model(model, tmp_path / "days.fuse", example=X.head(3))
    rows = [{"x": 20240105, "weight": "3 kg"}, {"x": "20240105", "weight": 3}, {"x": "2024-01-05", "weight": "3 kg"}]
    marks = [{"x": "n/a", "weight": "-"}, {"x": None, "weight": None}, {"x": "?", "weight": "TBD"}]
    with client_of(path) as client:
        told = client.post("/predict", json={"rows": [{**row, "size": 1.5} for row in [*rows, *marks]]}).json()
        refused = client.post("/predict", json={"rows": [{"x": 17, "weight": "3 kg", "size": 1.5}]})
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
    proba = [list(row["probabilities"].values()) for row in told["predictions"]]
    later = pd.DataFrame([*rows, *marks], dtype=object).assign(size=1.5)
    assert_allclose(proba, model.predict_proba(later), atol=1e-6)
    assert_allclose(proba, np.repeat([proba[0], proba[3]], 3, axis=0))
    assert refused.status_code == 422 and "17 is not a date" in refused.text.replace("'", "")
    cell = schemas[schemas["Row"]["properties"]["x"]["$ref"].rpartition("/")[2]]
    assert {"type": "integer"} in cell["anyOf"]


@pytest.mark.parametrize(
    ("cells", "fact"),
    [
        ([20240131, 17] * 20, "17 in row 1 is no date"),
        ([0.5, 20240131.0] * 20, "0.5 in row 0 is no date"),
        (["2001-02-03", "red"] * 20, "'red' in row 1 is no date"),
        (["13/02/2001", "02/13/2001"] * 20, "its cells are no dates of one kind"),
    ],
)
def test_what_is_no_date_cannot_be_declared_one(cells, fact):
    with pytest.raises(ValueError, match=rf"kinds\['x'\] is 'date', but {fact}: write dates as 2021-12-31"):
        infer_modalities({"x": cells}, kinds={"x": "date"}, verbose=False)


@pytest.mark.parametrize("cells", [[None, None, None], pd.date_range("2001-01-01", periods=3)])
def test_columns_of_dates_and_empty_ones_can_be_declared_dates(cells):
    assert infer_modalities({"x": cells}, kinds={"x": "date"}, verbose=False)[0][1].formats is None


# ---------------------------------------------------------------------- forms of users


def test_a_form_may_be_written_by_hand():
    X = table([*np.delete(AMBIGUOUS, ODD).tolist(), "01/02/2001"])
    parts = [("date", DateFeatures(), ["x"]), ("number", StandardScaler(), ["size"])]
    given = {"x": {"kind": "date", "formats": ["%d/%m/%Y"], "missing": ["Not Yet"]}}
    model = pipeline([("tabular", TableTransformer(parts, formats=given), ["x", "size"])]).fit(X, Y)
    assert read(X, model)[-1] == pd.Timestamp("2001-02-01")
    assert pd.isna(read(X.head(1).assign(x="not yet"), model)[0])
    inside = make_pipeline(TableTransformer(parts, formats=given))
    assert read(X, pipeline([("tabular", inside, ["x", "size"])]).fit(X, Y))[-1] == pd.Timestamp("2001-02-01")


@pytest.mark.parametrize("part", [OneHotEncoder(handle_unknown="ignore"), OrdinalEncoder(), TagFeatures(), "drop"])
def test_a_form_that_nothing_reads_has_no_effect(part):
    X = table([f"{v} kg" for v in WHOLE % 3])
    kept = [("x", part, ["x"]), ("number", StandardScaler(), ["size"])]
    schemas = [
        pipeline([("t", TableTransformer(kept, formats=formats), ["x", "size"])]).fit(X, Y)["encode"].schema_
        for formats in (None, {"x": {"kind": "number", "dimension": "mass", "unit": "kg"}, "gone": {"kind": "boolean"}})
    ]
    assert schemas[0] == schemas[1]


@pytest.mark.parametrize(
    "form",
    [
        5,
        {},
        {"kind": "words"},
        {"kind": ["date"]},
        {"kind": "date"},
        {"kind": "date", "formats": ["%H"]},
        {"kind": "date", "formats": "%d/%m/%Y"},
        {"kind": "date", "formats": ["%d/%m/%Y"], "utc": "no"},
        {"kind": "date", "formats": ["%d/%m/%Y"], "zone": "UTC"},
        {"kind": "tags"},
        {"kind": "tags", "separator": "xyz"},
        {"kind": "number", "decimal": "x"},
        {"kind": "number", "unit": "kg", "dimension": "length"},
        {"kind": "number", "currency": "shells"},
        {"kind": "number", "missing": "n/a"},
        {"kind": "boolean", "true": "ja"},
        {"kind": "category", "missing": ["n/a"]},
        {"kind": "text", "separator": ","},
    ],
    ids=repr,
)
def test_what_is_no_form_is_refused(form):
    X = table([f"{v} kg" for v in WHOLE])
    encoder = TableTransformer([("n", StandardScaler(), ["x", "size"])], formats={"x": form})
    with pytest.raises(ValueError, match="The format of column 'x' must be a dict"):
        pipeline([("t", encoder, ["x", "size"])]).fit(X, Y)


# ---------------------------------------------------------------------- marks


@pytest.mark.parametrize("mark", ["-", "n/a", "N/A", "?", "--", "unknown", "None", b"n/a"])
def test_marks_of_any_table_are_missing_also_if_fit_saw_none(mark):
    for find, cells in ((number_format, ["3 kg"]), (date_format, ["13/02/2001"]), (boolean_format, ["yes", "no"])):
        assert read_cell(mark, find(cells).format) is None
    ticks = boolean_format(["✓", "✗"])
    assert [read_cell(cell, ticks.format) for cell in ("✓", "✗", mark)] == [True, False, None]


@pytest.mark.parametrize("cell", ["ask us", "3 m", "n/a kg"])
def test_other_words_are_not(cell):
    with pytest.raises(UnreadableCell):
        read_cell(cell, number_format(["3 kg"]).format)


@pytest.mark.parametrize("sign", [", ", " / ", "|"])
def test_a_cell_of_tags_that_is_a_mark_is_missing(sign):
    lists = [sign.join(["red", "n.a."]), "red", sign.join(["red", "blue"])] * 4
    for cells, declared in ((lists, True), ([*lists, "-", "n/a"], True), ([*lists, "-", "n/a"], False)):
        tags = tag_format(cells, declared=declared)
        assert [read_cell(cell, tags.format) for cell in ("n/a", "-", "?", "Unknown", b"none", "#N/A")] == [None] * 6
        assert read_cell(lists[0], tags.format) == ["red", "n.a."]
    assert tags.format["missing"] == ["-", "n/a"] and tags.odd == {"-": 1, "n/a": 1}
    assert tag_format([*lists, *["-"] * 20]) is None


def test_signs_may_be_tags_and_an_empty_list_is_no_gap():
    signs = tag_format(["★, ☎", "★", "☎, 😀", "😀"], declared=True)
    assert [read_cell(cell, signs.format) for cell in ("★", "😀", "—")] == [["★"], ["😀"], None]
    lists = tag_format(["['red', 'blue']", "['red']", "[]", "n/a"], declared=True)
    assert [read_cell(cell, lists.format) for cell in ("[]", "['red']", "n/a")] == [[], ["red"], None]


# ---------------------------------------------------------------------- a fusion that encodes itself


def bikes():
    """Columns of all kinds whose form the table declares, and labels that the weight tells."""
    weight = 70 + 9 * Y + RNG.normal(size=N)
    return pd.DataFrame(
        {
            "weight": with_odd([f"{v:.1f} kg" for v in weight], "unknown"),
            "sold": with_odd(AMBIGUOUS, "25/03/2001"),
            "paid": with_odd(["yes", "no"] * (N // 2), "n/a"),
            "tags": TAGS,
            "size": np.arange(N) / 7,
            "colour": with_odd(RNG.choice(["red", "blue"], N), None),
        }
    )


def modalities_of(X):
    return infer_modalities(X, kinds={"tags": "tags"} if "tags" in X else None, verbose=False)


def cascade_of(X):
    return make_fusion_pipeline(modalities_of(X), CascadeFusionClassifier(LogisticRegression(), cv=3))


def test_a_cascade_reads_a_table_by_its_written_forms():
    X = bikes()
    model = cascade_of(X).fit(X, Y)
    other = make_fusion_pipeline(modalities_of(X), FeatureFusionClassifier(LogisticRegression())).fit(X, Y)
    assert model["encode"].schema_ == other["encode"].schema_
    assert model["encode"].numeric_summary_ == other["encode"].numeric_summary_
    assert [model["encode"].schema_[c]["kind"] for c in X] == [
        "number",
        "date",
        "boolean",
        "tags",
        "number",
        "category",
    ]
    # The encoder of the cascade makes the same numbers of it as the first step of another pipeline.
    raw = model["encode"].transform(X)
    block = model["fuse"].encoders_["tabular"].transform(raw.rename(columns=lambda c: c.removeprefix("tabular__")))
    assert_allclose(block, other["encode"].transform(X))
    assert model.score(X, Y) > 0.95
    with pytest.raises(ColumnError, match=r"weight.*'12 cm' is in 'cm', and the column held 'kg' in fit"):
        model.predict(X.assign(weight="12 cm"))
    assert np.isfinite(cross_val_score(cascade_of(X), X, Y, cv=KFold(3))).all()


def test_a_saved_cascade_and_its_server_read_the_written_forms(tmp_path):
    X = bikes()
    model = cascade_of(X).fit(X, Y)
    path = save_model(model, tmp_path / "m.fuse", example=X[:3])
    loaded = load_model(path)
    said = X.assign(weight=[None if w == "unknown" else float(w.split()[0]) for w in X["weight"]])
    assert_allclose(loaded.predict_proba(X), model.predict_proba(X))
    assert_allclose(loaded.predict_proba(said), model.predict_proba(X))
    X.to_csv(tmp_path / "new.csv", index=False)
    assert main(["predict", str(path), str(tmp_path / "new.csv"), "-o", str(tmp_path / "p.csv"), "-q"]) == 0
    assert_allclose(pd.read_csv(tmp_path / "p.csv")[["proba_0", "proba_1"]], model.predict_proba(X), atol=1e-6)
    rows = json.loads(X[:4].to_json(orient="records"))
    with client_of(path) as client:
        answer = client.post("/predict", json={"rows": rows}).json()
        refused = client.post("/predict", json={"rows": [{**rows[0], "weight": "12 cm"}]})
        assert client.get("/model").json()["input"]["weight"]["written"] == "masses in kg"
    assert [one["prediction"] for one in answer["predictions"]] == model.predict(X[:4]).tolist()
    assert "'12 cm' is in 'cm'" in refused.text


def test_the_forms_of_a_cascade_are_those_of_its_encoders_when_it_is_fitted(tmp_path):
    """Parameters of the encoders may change after the pipeline was made; `memory` keeps such fits apart."""
    X = bikes()[["sold", "size"]].drop(index=ODD)
    y = np.delete(Y, ODD)
    model = cascade_of(X).set_params(memory=str(tmp_path))
    formats = model.get_params()["fuse__encoders__tabular__formats"]
    for form in ("%d/%m/%Y", "%m/%d/%Y"):
        changed = {**formats, "sold": {"kind": "date", "formats": [form]}}
        model.set_params(fuse__encoders__tabular__formats=changed).fit(X, y)
        assert model["encode"].schema_["sold"]["format"]["formats"] == [form]
    with config_context(enable_metadata_routing=True):
        routed = clone(model).fit(X, y)
    assert routed["encode"].schema_ == model["encode"].schema_
    # Alone, the first step has no encoders to ask, and the cells stay as they are.
    alone = clone(model["encode"]).fit(X)
    assert alone.schema_["sold"]["kind"] == "text"
    told = clone(alone)
    told.fit_transform(X, readers=model["fuse"].encoders)
    assert told.schema_ == model["encode"].schema_
    with pytest.raises(ValueError, match="encoders must be a dict of block to transformer"):
        clone(model).set_params(fuse__encoders=["tabular"]).fit(X, y)
