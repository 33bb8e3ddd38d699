"""Written forms that a transformer is given, or a model file holds: what they reach, and what is refused."""

import json
import re
import time
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from serving_case import client_of
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ensemblefuse import (
    ColumnError,
    DateFeatures,
    FeatureFusionClassifier,
    ModalityTransformer,
    PersistenceError,
    StringFeatures,
    TableTransformer,
    TagFeatures,
    explain_row,
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
    full_format,
    number_format,
    read_cell,
    short_format,
    tag_format,
)
from ensemblefuse.compose.proposal import propose
from ensemblefuse.features.forms import check_formats
from ensemblefuse.schema import checked_schema, read_by_schema
from ensemblefuse.schema._reader import Reader

N = 40
RNG = np.random.default_rng(5)
Y = np.arange(N) % 2
SIZE = np.arange(N) / 7
DAYS = [f"{a:02}/{b:02}/2001" for a, b in zip(RNG.integers(1, 12, N), RNG.integers(1, 12, N), strict=True)]
MASSES = [f"{v} kg" for v in RNG.integers(1, 90, N)]
DAY_FIRST = {"kind": "date", "formats": ["%d/%m/%Y"]}
KG, G = ({"kind": "number", "dimension": "mass", "unit": unit} for unit in ("kg", "g"))


def table(**columns):
    return pd.DataFrame({**columns, "size": SIZE})


def pipeline(modalities):
    return make_fusion_pipeline(modalities, FeatureFusionClassifier(LogisticRegression()))


def schema(modalities, X):
    return pipeline(modalities).fit(X, Y)["encode"].schema_


# ---------------------------------------------------------------------- which columns a form reaches


SIZES = ("n", StandardScaler(), ["size"])


@pytest.mark.parametrize("columns", [["size"], ["size", "x"]])
def test_a_form_reaches_no_column_that_its_transformer_does_not_read(columns):
    a = TableTransformer([SIZES], formats={"x": DAY_FIRST})
    both = [("a", a, columns), ("b", DateFeatures(), ["x"])]
    for modalities in (both, both[::-1]):
        assert schema(modalities, table(x=DAYS))["x"]["format"]["formats"] == ["%m/%d/%Y"]


def test_a_form_reaches_its_column_wherever_its_transformer_stands():
    part, X = TableTransformer([("d", DateFeatures(), ["x"])], formats={"x": DAY_FIRST}), table(x=DAYS)
    rest = TableTransformer([SIZES], remainder=DateFeatures(), formats={"x": DAY_FIRST})
    deep = TableTransformer([("part", ColumnTransformer([("d", DateFeatures(), ["x"])]), ["x"])], formats=part.formats)
    inside = [
        part,
        make_pipeline(part, StandardScaler()),
        make_union(part),
        ColumnTransformer([("part", part, ["x"])]),
        rest,
        deep,
    ]
    for encoder in inside:
        assert schema([("m", encoder, ["x", "size"])], X)["x"]["format"]["formats"] == ["%d/%m/%Y"], encoder
    encode = ModalityTransformer([("n", StandardScaler(), ["size"])], remainder=part)
    assert make_pipeline(encode).fit(X)[0].schema_["x"]["format"]["formats"] == ["%d/%m/%Y"]


def test_two_forms_of_one_column_are_an_error_and_one_form_twice_is_none():
    X = table(x=MASSES)
    parts = [TableTransformer([("n", StandardScaler(), ["x"])], formats={"x": form}) for form in (KG, G)]
    with pytest.raises(ValueError, match=r"Column 'x' has two written forms, .*'kg'.* and .*'g'.*give both the same"):
        schema([("a", parts[0], ["x"]), ("b", parts[1], ["x"])], X)
    same = TableTransformer([("n", StandardScaler(), ["x"])], formats={"x": {**KG, "missing": [], "seen": "masses"}})
    assert schema([("a", parts[0], ["x"]), ("b", same, ["x"])], X)["x"]["format"]["unit"] == "kg"
    unread = TableTransformer([SIZES], formats={"x": G})
    assert schema([("a", parts[0], ["x"]), ("b", unread, ["size"])], X)["x"]["format"]["unit"] == "kg"


SELECTIONS = {
    "lambda": lambda X: ["x"],
    "one name": lambda X: [name for name in X.columns if name == "x"],
    "pattern": make_column_selector(pattern="x"),
    # In fit x is text, and once it is read it is a number.
    "dtype": make_column_selector(dtype_exclude="number"),
    "index": lambda X: X.columns[:1],
    "mask": lambda X: X.columns == "x",
    "slice": slice(0, 1),
    "number": [0],
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_selection_that_needs_the_cells_reads_by_the_form_like_a_list_of_names(name):
    X = table(x=MASSES)
    encoders, schemas = [], []
    for chosen in (["x"], SELECTIONS[name]):
        encoder = TableTransformer([("x", StandardScaler(), chosen), SIZES], formats={"x": KG})
        model = pipeline([("m", make_pipeline(encoder), ["x", "size"])]).fit(X, Y)
        encoders.append(model["encode"].transform(X))
        schemas.append(model["encode"].schema_)
        assert model.get_params()["encode__m__tabletransformer"].transformers[0][2] is chosen
    assert schemas[0] == schemas[1] and schemas[1]["x"]["kind"] == "number"
    pd.testing.assert_frame_equal(*encoders)
    assert clone(model).fit(X, Y)["encode"].schema_ == schemas[0]


def test_selections_of_modalities_and_of_what_is_left_are_those_before_reading():
    X = table(x=MASSES, kind=pd.Categorical(["a", "b"] * (N // 2)))
    is_text = lambda X: [name for name in X.columns if name == "x"]
    encode = ModalityTransformer(
        [("x", StandardScaler(), is_text), ("kind", OneHotEncoder(), make_column_selector(dtype_include="category"))],
        remainder=ColumnTransformer([("size", StandardScaler(), make_column_selector(dtype_include="number"))]),
    )
    Z = encode.fit_transform(X)
    assert list(Z) == ["x__x", "kind__kind_a", "kind__kind_b", "remainder__size__size"]
    assert encode.schema_["x"]["format"]["unit"] == "kg" and np.isfinite(Z.to_numpy(float)).all()
    pd.testing.assert_frame_equal(encode.transform(X), Z)


def test_words_are_those_of_selected_columns():
    X = table(x=[f"name {v}" for v in range(N)])
    encoder = TableTransformer([("s", StringFeatures(2), make_column_selector(pattern="x")), SIZES])
    encode = ModalityTransformer([("m", encoder, ["x", "size"])]).fit(X)
    encode.fit_transform(X, word_modalities="m")
    assert encode.word_columns_ == {"m": ["x"]}


# ---------------------------------------------------------------------- what is refused


NO_DICT = [[1], "abc", 3, MappingProxyType({"x": KG}), np.array([1, 2]), [("x", KG)]]
NO_FORM = [
    {"kind": "tags", "separator": np.array([1, 2])},
    {"kind": "number", "decimal": np.array([1, 2])},
    {"kind": "number", "thousands": [","]},
    {"kind": "number", "decimal": ",", "thousands": ","},
    {"kind": "number", "currency": np.array(["EUR", "USD"])},
    {"kind": "number", "dimension": "mass"},
    {"kind": "number", "dimension": "count", "unit": "kg"},
    {"kind": "number", "dimension": "count", "currency": "EUR", "unit": ""},
    {"kind": "number", "unit": "x" * 81},
    {"kind": "number", "missing": [f"word {i}" for i in range(1001)]},
    {"kind": "date", "formats": ["%d/%m/%Y"] * 2},
    {"kind": "date", "formats": ["time", "time"]},
    {"kind": "date", "formats": [np.array(["%d/%m/%Y"])]},
    {"kind": "date", "formats": ["%Q"]},
    {"kind": "boolean", "missing": np.array(["n/a"])},
    {"kind": "boolean", "seen": 3},
    {"kind": np.array(["date", "tags"])},
    {"kind": "eval"},
    MappingProxyType(KG),
]


@pytest.mark.parametrize("formats", NO_DICT, ids=lambda formats: type(formats).__name__)
def test_formats_that_are_no_dict_are_refused_alone_and_inside(formats):
    encoder, X = TableTransformer([SIZES], formats=formats), table(x=MASSES)
    nested = make_pipeline(ColumnTransformer([("t", encoder, ["size"])]))
    for fit in (
        lambda: encoder.fit(X),
        lambda: encoder.fit_transform(X),
        lambda: ModalityTransformer([("t", encoder, ["size"])]).fit(X),
        lambda: pipeline([("t", nested, ["size"])]).fit(X, Y),
        lambda: ModalityTransformer([("x", "drop", ["x"])], remainder=encoder).fit(X),
        lambda: check_formats(formats),
    ):
        with pytest.raises(TypeError, match=r"formats of a TableTransformer must be a dict of column to form, such as"):
            fit()


@pytest.mark.parametrize("form", NO_FORM, ids=lambda form: repr(form)[:60])
def test_what_is_no_form_is_refused_in_one_sentence(form):
    encoder, X = TableTransformer([SIZES], formats={"x": form}), table(x=MASSES)
    for fit in (
        lambda: full_format("x", form),
        lambda: encoder.fit(X),
        lambda: ModalityTransformer([("t", encoder, ["size"])]).fit(X),
    ):
        with pytest.raises(ValueError, match="The format of column 'x' must be a dict as infer_modalities finds it"):
            fit()


def test_no_formats_are_fine_and_fit_gives_what_a_column_transformer_gives():
    X = table(x=SIZE)
    parts = [SIZES, ("x", StandardScaler(), ["x"])]
    expected = ColumnTransformer(parts).set_output(transform="pandas").fit_transform(X)
    for formats in (None, {}, {"x": KG}):
        encoder = TableTransformer(parts, formats=formats).set_output(transform="pandas")
        pd.testing.assert_frame_equal(encoder.fit_transform(X), expected)
        pd.testing.assert_frame_equal(encoder.fit(X).transform(X), expected)
    assert check_formats(None) == {}


FOUND = [
    number_format(["1.2k", "3k", "5k"]),
    number_format(["$1.2k", "$3k", "$5M"]),
    number_format(["$12", "$3"]),
    number_format(["4/5", "3/5 ", "2/5"]),
    number_format(["4/5 stars", "3/5 stars"]),
    number_format(["3 of each", "2 of each"]),
    number_format(["1_000", "2_500"]),
    number_format(["3 MBps", "4 MBps"]),
    number_format(["G".join(["3 ", ""]), "4 KG"]),
    number_format(["7 l/100 km", "5 l/100 km"]),
    date_format(["13/02/2001", "2001-02-03", "March 3 2001"]),
    date_format(["12:30", "13:40"]),
    date_format([20240131, 20240130], declared=True),
    boolean_format(["yes", "no", "n/a"]),
    tag_format(["a|b", "b|c", "n/a"] * 9),
]


@pytest.mark.parametrize("found", FOUND, ids=lambda found: found.seen)
def test_every_form_that_is_found_is_taken(found):
    assert full_format("x", short_format(found)) == found.format


def test_a_count_has_a_unit_of_its_own():
    assert read_cell("1.2k", full_format("x", {"kind": "number", "dimension": "count"})) == 1200
    euros = full_format("x", {"kind": "number", "dimension": "count", "currency": "EUR"})
    assert read_cell("1.2k €", euros) == 1200 and euros["unit"] == "EUR"


def test_a_column_of_a_thousand_marks_has_no_form_that_fit_would_refuse():
    marks = ["-" * i for i in range(1, 1002)]
    assert number_format(marks + ["3 kg"] * 1001) is None and boolean_format(marks + ["yes"] * 1001) is None
    assert tag_format(marks + ["a|b"] * 1001) is None
    assert len(number_format(marks[:1000] + ["3 kg"] * 1000).format["missing"]) == 1000


def test_a_cell_is_not_read_by_one_form_many_times():
    start = time.process_time()
    with pytest.raises(ValueError, match="must be a dict"):
        full_format("x", {"kind": "date", "formats": ["%d/%m/%Y"] * 300_000})
    assert time.process_time() - start < 1


# ---------------------------------------------------------------------- model files


def changed(path, change):
    X = table(x=DAYS, weight=MASSES, tags=[["a", "b"], ["b"]] * (N // 2))
    parts = [
        ("d", DateFeatures(), ["x"]),
        ("n", StandardScaler(), ["weight", "size"]),
        ("t", TagFeatures(), ["tags"]),
        ("c", OneHotEncoder(), ["kind"]),
    ]
    X["kind"] = ["u", "v"] * (N // 2)
    model = pipeline([("m", TableTransformer(parts), list(X))]).fit(X, Y)
    change(model["encode"].schema_)
    return save_model(model, path), X


BROKEN = {
    "kind of the form": lambda s: s["x"].update(format={"kind": "eval"}),
    "form of the date": lambda s: s["x"]["format"].update(formats=["%Q"]),
    "form of another kind": lambda s: s["x"].update(format={"kind": "boolean"}),
    "unit": lambda s: s["weight"]["format"].update(unit=None),
    "kind": lambda s: s["size"].update(kind="eval"),
    "no kind": lambda s: s["size"].pop("kind"),
    "no list of tags": lambda s: s["tags"].pop("known"),
    "no form of tags": lambda s: s["tags"].pop("format"),
    "no categories": lambda s: s["kind"].pop("known"),
    "no dtype": lambda s: s["x"].update(dtype="int64"),
    "a dtype that is none": lambda s: s["x"].update(dtype="datetime64[us, Nowhere]"),
}


@pytest.mark.by_turns
@pytest.mark.parametrize("name", BROKEN)
def test_a_file_by_whose_schema_no_table_can_be_read_is_refused(name, tmp_path):
    path, _ = changed(tmp_path / "changed.fuse", BROKEN[name])
    told = r"changed.fuse: its table cannot be read: .*'(x|weight|size|tags|kind)'"
    with pytest.raises(PersistenceError, match=told):
        load_model(path)


@pytest.mark.parametrize("held", [3, None, [], {"x": 3}, {"x": None}, {"x": {"kind": ["date"]}}, {"x": {"kind": None}}])
def test_what_is_no_schema_is_told(held):
    with pytest.raises(ValueError, match=r"A schema is a dict of column to dict|Nothing reads a column 'x' that holds"):
        checked_schema(held)


@pytest.mark.parametrize("form", [None, 3, {}, {"kind": "text"}])
def test_a_format_of_no_kind_or_of_another_one_is_told(form):
    with pytest.raises(ValueError, match=r"The format of column 'x' must be|holds a number, but the format of a text"):
        checked_schema({"x": {"kind": "number", "format": form}})


def test_a_file_of_before_whose_forms_lack_settings_is_read(tmp_path):
    def shorten(schema):
        schema["x"]["format"] = {"kind": "date", "formats": ["%d/%m/%Y"]}
        del schema["x"]["seen"]

    path, X = changed(tmp_path / "shorter.fuse", shorten)
    model = load_model(path)
    assert model["encode"].schema_["x"]["format"] == full_format("x", DAY_FIRST)
    assert np.isfinite(model.predict_proba(X)).all()


def test_schemas_that_fit_learns_pass_the_check():
    X = table(
        x=DAYS,
        flag=[True, False] * (N // 2),
        word=["yes", "no"] * (N // 2),
        code=pd.Categorical(["a", "b"] * (N // 2)),
        when=pd.date_range("2001-01-01", periods=N, tz="Europe/Vienna"),
        span=pd.to_timedelta(np.arange(N), "D"),
        tags=[["a"], []] * (N // 2),
    )
    modalities = [
        ("dates", DateFeatures(), ["x", "when"]),
        ("numbers", StandardScaler(), ["size", "word"]),
        ("kinds", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["flag", "code"]),
        ("span", "drop", ["span"]),
        ("tags", TagFeatures(), ["tags"]),
    ]
    learned = schema(modalities, X)
    assert {held["kind"] for held in learned.values()} >= {"date", "number", "boolean", "category", "tags"}
    assert checked_schema(learned) == learned


# ---------------------------------------------------------------------- days as whole numbers


def whole_days():
    days = (20240100 + RNG.integers(1, 29, N)).astype(float)
    days[7] = np.nan
    X = table(x=days, y=DAYS, z=[f"2024-01-{i % 27 + 1:02}" for i in range(N)])
    kinds = {"x": "date", "y": "date", "z": "date"}
    return X, pipeline(infer_modalities(X, kinds=kinds, verbose=False)).fit(X, Y)


def test_days_as_whole_numbers_are_shown_as_days():
    floats, model = whole_days()
    whole = floats["x"].astype("Int64")
    for X, row in ((floats, 3), (floats, 7), (floats.assign(x=whole), 3), (floats.assign(x=whole.astype(str)), 3)):
        explained = explain_row(model, X, row, within=True)
        shown = explained.parts["tabular"].shown
        given = X["x"].iloc[row]
        is_text, is_gap = isinstance(given, str), pd.isna(given)
        day = given if is_text else "nan" if is_gap else pd.Timestamp(str(int(given))).date().isoformat()
        assert str(shown["x"]) == day and shown["y"] == DAYS[row]
        for page in (str(explained), explained.to_html()):
            assert f"x = {day}" in page and "e+07" not in page
    pytest.importorskip("matplotlib")
    display = explain_row(model, floats, 3, within=True).plot()
    labels = [label.get_text() for ax in display.axes_ for label in ax.get_yticklabels()]
    assert any(label.startswith("x = 2024-01-") for label in labels)


def test_the_server_takes_whole_numbers_only_where_the_form_does(tmp_path):
    X, model = whole_days()
    path = save_model(model, tmp_path / "days.fuse", example=X.head(3))
    row = {"x": 20240105, "y": "01/02/2001", "z": "2024-01-03", "size": 1.5}
    with client_of(path) as client:
        document = client.get("/openapi.json").json()["components"]["schemas"]
        same = client.post("/predict", json={"rows": [row, {**row, "x": 20240105.0}, {**row, "x": "20240105"}]}).json()
        refused = [
            client.post("/predict", json={"rows": [{**row, **cell}]})
            for cell in (
                {"x": 20240105.5},
                {"x": True},
                {"x": [20240105]},
                {"y": 20240105},
                {"z": 20240105.0},
                {"x": 1e300},
            )
        ]
    proba = [list(told["probabilities"].values()) for told in same["predictions"]]
    assert_allclose(proba, np.repeat(proba[:1], 3, axis=0), atol=1e-9)
    later = pd.DataFrame([{**row, "x": cell} for cell in (20240105, 20240105.0, "20240105")], dtype=object)
    assert_allclose(model.predict_proba(later), proba, atol=1e-9)
    assert [answer.status_code for answer in refused] == [422] * 6
    columns = document["Row"]["properties"]
    cells = {name: document[ref["$ref"].rpartition("/")[2]] for name, ref in columns.items()}
    takes = {name: '"integer"' in json.dumps(cell) for name, cell in cells.items()}
    assert takes == {"x": True, "y": False, "z": False, "size": False}
    assert all("in fit" in cells[name]["description"] for name in "xyz")


# ---------------------------------------------------------------------- cells that looked like something else


OF = ["of each", "of clubs", "of them", "of fives", "of fiver", "of hearts", "of"]
RATINGS = {"/5": 5, " / 10": 10, " out of 20": 20, " of 100": 100, "/5 stars": 5, " out of 10 stars": 10}


@pytest.mark.by_turns
@pytest.mark.parametrize("unit", OF)
def test_units_that_begin_like_ratings_are_units(unit, tmp_path, capsys):
    X = table(q=[f"{i % 5 + 2} {unit}" for i in range(N)])
    model = pipeline(infer_modalities(X, kinds={"q": "number"})).fit(X, Y)
    assert f"numbers with '{unit}'" in capsys.readouterr().out
    assert model["encode"].schema_["q"]["kind"] == "number"
    with pytest.raises(ColumnError, match=r"'3 kg' is in 'kg', and the column held 'of\b.*' in fit"):
        model.predict(X.head(1).assign(q="3 kg"))
    source = tmp_path / "cards.csv"
    X.assign(y=np.where(Y, "b", "a")).to_csv(source, index=False)
    assert main(["fit", str(source), "--target", "y", "-o", str(tmp_path / "cards.fuse"), "--strategy", "feature"]) == 0


@pytest.mark.parametrize("text", RATINGS)
def test_ratings_are_told_as_they_are_written(text):
    found = number_format([f"{i % 5 + 1}{text}" for i in range(N)])
    assert found.seen == f"ratings out of {RATINGS[text]}"
    other = "/10" if RATINGS[text] != 10 else "/5"
    with pytest.raises(UnreadableCell, match=rf"is out of {other[1:]}, and the column held ratings out of"):
        read_cell(f"3{other}", found.format)


def test_the_choice_between_signs_is_shown_by_a_number_that_decides():
    found = number_format(["1,234e999", "123,456e10"])  # the first is infinite by both
    assert "'123,456e10' is read as 1.23456e+15, and could be 1.23456e+12" in found.choice
    assert "'1,234' is read as 1234, and could be 1.234" in number_format(["1,234", "12,345"]).choice


HUGE = [2**64, -(2**64), 10**30, 10**400, 10**5000]


@pytest.mark.parametrize("cell", HUGE, ids=[f"{number.bit_length()} bits" for number in HUGE])
def test_whole_numbers_of_any_size_are_told_of(cell):
    days = (20240100 + RNG.integers(1, 29, N)).tolist()
    X = table(x=pd.Series(days, dtype=object), shade=pd.Series([1, 2] * (N // 2), dtype=object))
    model = pipeline(infer_modalities(X, kinds={"x": "date", "shade": "category"}, verbose=False)).fit(X, Y)
    later = X.head(2).assign(x=pd.Series([days[0], cell], dtype=object))
    with pytest.raises(ColumnError, match=r"row 1, column 'x': .* is not a date"):
        model.predict(later)
    with pytest.raises(ValueError, match=r"kinds\['x'\] is 'date', but .* in row 1 is no date"):
        infer_modalities(later[["x"]], kinds={"x": "date"}, verbose=False)
    if abs(cell) > 10**4300:
        with pytest.raises(ColumnError, match="thousands of digits is not a category"):
            model.predict(X.head(2).assign(shade=pd.Series([1, cell], dtype=object)))


@pytest.mark.parametrize(
    "cell", [2**63, 2**64 - 1, -1, np.uint64(2**64 - 1), np.int8(-128), 0.5, np.inf, -np.inf, True]
)
def test_other_numbers_are_no_days_either(cell):
    days = full_format("x", {"kind": "date", "formats": ["%Y%m%d"]})
    with pytest.raises(UnreadableCell, match="is not a date"):
        read_cell(cell, days)
    assert read_cell(np.float32(20240132 - 4), days) == pd.Timestamp("2024-01-28")


def test_dates_beyond_those_of_pandas_are_told_of():
    with pytest.raises(UnreadableCell, match="'30000000000-01-01' is outside the range of dates"):
        read_cell(np.datetime64("30000000000-01-01"), full_format("x", DAY_FIRST))


def test_a_fault_of_a_reader_is_not_taken_for_a_cell_without_a_hash():
    calls = []

    def fail(cell):
        calls.append(cell)
        raise TypeError("a fault of the reader")

    with pytest.raises(TypeError, match="a fault of the reader"):
        Reader({}).each(pd.Series(["a", "b"], dtype=object), fail)
    assert calls == ["a"]
    read = Reader({}).each(
        pd.Series([["a"], ["a"], ("a",), ("a",), None], dtype=object), lambda cell: calls.append(cell)
    )
    assert read == [None] * 5 and calls == ["a", ["a"], ["a"], ("a",)]  # what has a hash is read once


def test_a_text_that_says_times_of_day_is_none():
    def line(cells):
        return propose({"x": cells}).lines[1]

    assert "hour" not in line(["times of day"] * 5 + [None] * 5)
    assert "hour" not in line(["times of day", "dates"] * 9)
    assert line(["12:30", "13:45", "9:05"] * 5).endswith("hour of the day")
    assert line(["2001-02-03 12:30", "2001-02-04 13:45"] * 5).endswith("as far as they differ")


# ---------------------------------------------------------------------- cells without tags


PAIRS = [[f"a{i % 4}", f"b{i % 7}", f"c{i % 5}"] for i in range(80)]
WITHOUT = {
    "lists": [[] if i % 4 == 0 else tags for i, tags in enumerate(PAIRS)],
    "few filled ones": [tags if i % 13 == 0 else [] for i, tags in enumerate(PAIRS)],
    "few that hardly repeat": [[f"a{i}", f"b{i}"] if i % 13 == 0 else [] for i in range(80)],
    "tuples and sets": [(), set(), frozenset(), *map(tuple, PAIRS)],
    "arrays": [np.array([]), np.array([], dtype=object), *map(np.array, PAIRS)],
    "texts": [str([] if i % 4 == 0 else tags) for i, tags in enumerate(PAIRS)],
    "few filled texts": ["[]"] * 900 + [str([f"a{i % 9}", f"b{i % 11}"]) for i in range(99)],
    "curly brackets": ["{}" if i % 4 == 0 else f"{{{','.join(tags)}}}" for i, tags in enumerate(PAIRS)],
    "round brackets": [str(() if i % 4 == 0 else tuple(tags)) for i, tags in enumerate(PAIRS)],
    "texts among lists": ["[]", "[ ]", *PAIRS],
    "gaps, too": [None, [], "", *PAIRS],
}


@pytest.mark.parametrize("name", WITHOUT)
def test_an_empty_list_is_a_cell_without_tags(name):
    cells = WITHOUT[name]
    X = pd.DataFrame({"tags": pd.Series(cells, dtype=object), "size": np.arange(len(cells)) / 7})
    proposal = propose(X)
    assert proposal.lines[1].split()[:2] == ["tags", "tags"], proposal.lines[1]
    model = pipeline(proposal.modalities).fit(X, np.arange(len(X)) % 2)
    empty = next(i for i, cell in enumerate(cells) if str(cell) in ("[]", "{}", "()", "set()"))
    read = read_by_schema(X, model["encode"].schema_)
    assert read.table["tags"].iloc[empty] == () and not read.faults
    # No tags, and no gap: the row has zeros.
    block = model["encode"].transform(X).iloc[[empty]]
    assert (block[[name for name in block if "tags" in name]] == 0).all(axis=None)


def test_what_is_no_list_is_named_and_not_the_empty_list_before_it():
    for odd, shown in (([1], r"\[1\]"), ("red", "'red'"), (3, "3"), (["a.png"], r"\['a.png'\]")):
        cells = pd.Series([[], ["a", "b"], ["b"], odd] * 9, dtype=object)
        proposal = propose(pd.DataFrame({"tags": cells}))
        assert re.search(
            rf"18 of 27 cells are of the kind 'tags', but {shown} in row 3 is not", proposal.left_out["tags"]
        )
    nothing = propose({"tags": pd.Series([[], "[]", "()"] * 9, dtype=object)})
    assert nothing.left_out["tags"] == "27 cells hold empty lists, and the others nothing"
