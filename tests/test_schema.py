"""The schema of a model: how cells are read, what is told of cells that cannot be read, and of names that differ."""

import datetime
import decimal
import pickle
import warnings

import numpy as np
import pandas as pd
import polars
import pytest
from numpy.testing import assert_allclose
from serving_case import client_of
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from ensemblefuse import (
    ColumnError,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FunctionEncoder,
    MissingModalityWarning,
    PrecomputedEncoder,
    UnseenCategoryWarning,
    explain_row,
    infer_modalities,
    load_model,
    make_fusion_pipeline,
    save_model,
    split_model,
    write_report,
)
from ensemblefuse.cli import main
from ensemblefuse.column_kinds import column_kind
from ensemblefuse.compose import ModalityTransformer
from ensemblefuse.schema import _read, category_key, find_form, learn_schema, read_by_schema, schema_of
from ensemblefuse.schema._categories import Categories
from ensemblefuse.serving._info import read_info
from ensemblefuse.serving._model import ServedModel

N = 40


def table(floor=("3", "7"), n=N):
    """A column of two categories that says the label, and one of numbers."""
    which = np.arange(n) % 2
    frame = pd.DataFrame({"floor": [floor[i] for i in which], "size": np.linspace(1, 2, n)})
    frame.index = [f"room {i}" for i in range(n)]
    return frame, np.where(which == 0, "let", "free")


def fit(X, y, **kinds):
    fusion = DecisionFusionClassifier(LogisticRegression(), cv=2, joint=False)
    found = infer_modalities(X, kinds={"floor": "category", **kinds}, verbose=False)
    return make_fusion_pipeline(found, fusion).fit(X, y)


def read(first, later, *roles):
    """How later cells are read by a schema that was learned from the first ones."""
    schema = learn_schema(pd.DataFrame({"x": pd.Series(first)}), {"x": set(roles)})
    return read_by_schema(pd.DataFrame({"x": pd.Series(later)}), schema)


def categories(first, *later):
    reading = read(pd.Series(first, dtype=object), pd.Series(later, dtype=object), "category")
    assert not reading.faults
    return reading.table["x"].tolist()


# ---------------------------------------------------------------------- categories


@pytest.mark.parametrize(
    ("cell", "key"),
    [
        (3, "3"),
        (3.0, "3"),
        (np.int8(3), "3"),
        (np.float32(0.1), "0.1"),
        (0.1 + 0.2, "0.30000000000000004"),
        (2**63 + 1, "9223372036854775809"),
        (decimal.Decimal("2.50"), "2.5"),
        (decimal.Decimal("30"), "30"),
        (-0.0, "0"),
        (1e20, "100000000000000000000"),
        (True, "True"),
        (np.bool_(False), "False"),
        ("a b ", "a b "),
        (np.str_("red"), "red"),
        ("naïve".encode(), "naïve"),
        (datetime.date(2026, 1, 31), "2026-01-31"),
        (np.datetime64("2026-01-31"), "2026-01-31"),
        (pd.Timestamp("2026-01-31 06:00"), "2026-01-31T06:00:00"),
        ("", None),
        ("  ", None),
        (None, None),
        (np.nan, None),
        (pd.NA, None),
        (pd.NaT, None),
    ],
    ids=repr,
)
def test_a_category_has_one_form(cell, key):
    assert category_key(cell) == key


def test_a_number_is_found_among_texts_and_a_text_among_numbers():
    assert categories(["3", "7", "B"], 3, 7.0, decimal.Decimal(3), "B", "3.0") == ["3", "7", "3", "B", "3"]
    assert categories([3, 7], "3", "7.0", "007", "+3", 3.0, b"7") == [3, 7, 7, 3, 3, 7]
    assert categories([1.5, 100000.0], "1.50", "1e5") == [1.5, 100000]
    assert categories(["1", 1, 1.0, "B"], 1, "1", "B") == ["1", "1", "B"]


def test_zeros_in_front_belong_to_a_text():
    reading = read(["007", "12"], pd.Series([7, 12]), "category")
    assert reading.table["x"].tolist() == ["007", "12"] and not reading.unseen  # a reader of tables dropped them
    reading = read(["007", "12"], ["7", "12"], "category")
    assert [key for _, _, key in reading.unseen] == ["7"]


def test_a_number_that_may_be_either_of_two_texts_is_an_error():
    reading = read(["1.1", "1.10"], pd.Series([1.1]), "category")
    assert reading.faults[0].reason == "1.1 may be '1.1' or '1.10', categories of fit; give it as text"
    assert categories(["1.1", "1.10"], "1.1", "1.10") == ["1.1", "1.10"]


def test_whole_numbers_beyond_the_floats_stay_apart():
    ids = [2**53, 2**53 + 1]
    for later in (ids, list(map(str, ids)), pd.Series([*ids, None], dtype="Int64"), polars.Series([*ids, None])):
        X = {"x": later} if not isinstance(later, polars.Series) else polars.DataFrame({"x": later})
        one_hot = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
        made = ModalityTransformer([("x", one_hot, ["x"])]).fit({"x": ids}).transform(X)
        assert np.asarray(made)[:2].tolist() == [[1, 0], [0, 1]]


def test_truth_is_one_and_zero_only_where_fit_had_no_other_numbers():
    assert categories([1, 0], True, False, "true", np.bool_(True)) == [1, 0, 1, 1]
    reading = read([1, 0, 2], [True], "category")
    assert [key for _, _, key in reading.unseen] == ["True"]
    assert categories([True, False, None], 1, 0.0, "TRUE", "false", np.bool_(True)) == [True, False, True, False, True]


def test_dates_as_categories():
    days = pd.to_datetime(["2026-01-31", "2026-02-01"])
    later = ["2026-01-31", "2026-02-01 00:00:00", datetime.date(2026, 1, 31), pd.Timestamp("2026-02-01")]
    assert categories(days, *later) == ["2026-01-31", "2026-02-01", "2026-01-31", "2026-02-01"]


# Their text may hold an address, which differs from process to process.
NAMELESS = [pytest.param(object(), id="object"), pytest.param(print, id="function")]


@pytest.mark.by_turns
@pytest.mark.parametrize("cell", [[1, 2], {"a": 1}, np.inf, b"\xff", ([1], 2), 1 + 2j, *NAMELESS], ids=str)
def test_what_is_no_category_is_named(cell):
    X, y = table()
    cells = np.array([*X["floor"][:5], None, *X["floor"][6:]], dtype=object)
    cells[5] = cell
    for ask in (fit(X, y).predict, lambda Z: fit(Z, y)):
        with pytest.raises(ValueError, match="floor"):
            ask(X.assign(floor=pd.Series(cells, X.index, dtype=object)))


def test_unseen_categories_are_counted_in_one_warning():
    X, y = table(("red", "blue"))
    X["door"] = X["floor"]
    model = fit(X, y)
    new = X.assign(floor=["Red", " RED", "teal", *["red"] * (N - 3)], door=[*["green"] * 30, *["red"] * (N - 30)])
    with pytest.warns(UnseenCategoryWarning) as caught:
        model.predict(new)
    assert len(caught) == 1
    said = str(caught[0].message)
    assert "Column 'floor' holds categories that fit never saw in 3 of 40 rows" in said
    assert "'Red' in 1 (did you mean 'red'?)" in said and "'RED' in 1 (did you mean 'red'?)" in said
    assert "'teal' in 1." in said and "Column 'door'" in said and "'green' in 30" in said


@pytest.mark.parametrize("dtype", ["object", "category"])
def test_blanks_around_a_text_make_no_other_category(dtype):
    X = pd.DataFrame({"x": pd.Series(["rot", "Rot", "blau ", "blau", "\u00a0rot "] * 3, dtype=dtype)})
    for encoder, n_columns in ((OneHotEncoder(sparse_output=False), 3), (OrdinalEncoder(), 1)):
        made = ModalityTransformer([("x", encoder, ["x"])]).fit(X)
        assert made.schema_["x"]["known"] == list(dict.fromkeys(made.schema_["x"]["known"])), "each once"
        assert sorted(made.schema_["x"]["known"]) == ["Rot", "blau", "rot"]
        said = np.asarray(made.transform(X))
        assert said.shape[1] == n_columns and (said[2] == said[3]).all() and (said[0] == said[4]).all()
        assert (said[0] != said[1]).any(), "capitals count"
        later = pd.DataFrame({"x": [" rot", "blau\t", "Rot"]})
        assert (np.asarray(made.transform(later)) == said[[0, 3, 1]]).all()


def test_a_list_of_categories_may_have_blanks():
    X = pd.DataFrame({"x": ["a ", "a", "b"]})
    made = ModalityTransformer([("x", OneHotEncoder(categories=[["a", "a ", "b"]], sparse_output=False), ["x"])]).fit(X)
    later = pd.DataFrame({"x": ["a", "a ", " b "]})
    assert np.asarray(made.transform(later)).argmax(1).tolist() == [0, 1, 2]


def test_files_whose_categories_have_blanks_read_cells_without_them():
    """Older versions kept the blanks."""
    schema = {"x": {"kind": "category", "values": "text", "known": ["a ", "a", " b"]}}
    read = read_by_schema(pd.DataFrame({"x": ["a ", "a", " a", "b", " b", "c "]}), schema)
    assert read.table["x"].tolist() == ["a ", "a", "a ", " b", " b", "c"]
    assert [unseen.key for unseen in read.unseen] == ["c"]


def test_the_transformer_gets_the_values_of_fit():
    """Its order and its own list of categories mean what they meant."""
    X, _ = table((10, 9))
    made = ModalityTransformer([("x", OrdinalEncoder(), ["floor"])]).fit(X)
    assert np.asarray(made.transform(X.astype({"floor": str})))[:2, 0].tolist() == [1, 0]
    listed = OneHotEncoder(categories=[[8, 9, 10]], sparse_output=False)
    made = ModalityTransformer([("x", listed, ["floor"])]).fit(X)
    assert made.get_feature_names_out().tolist() == ["x__floor_8", "x__floor_9", "x__floor_10"]
    assert np.asarray(made.transform({"floor": ["9", "10"]}))[0].tolist() == [0, 1, 0]


SIZES = pd.Series(pd.cut([1, 1, 50, 50, 500, 500], [0, 10, 100, 1000]))
OTHERS = {
    "intervals": SIZES,
    "interval objects": SIZES.astype(object),
    "periods": pd.Series(pd.period_range("2026-01", periods=3, freq="M").repeat(2)),
    "times": pd.Series([datetime.time(h) for h in (1, 1, 2, 2, 3, 3)]),
    "tuples": pd.Series([(1, "a"), (1, "a"), (2, "b"), (2, "b"), (3, "c"), (3, "c")]),
    "durations": pd.Series(pd.to_timedelta([1, 1, 2, 2, 3, 3], unit="D")),
}


@pytest.mark.parametrize("cells", OTHERS.values(), ids=OTHERS)
def test_any_value_with_a_text_of_its_own_is_a_category(cells):
    X = pd.DataFrame({"x": cells})
    made = ModalityTransformer([("x", OneHotEncoder(sparse_output=False), ["x"])]).fit(X)
    assert np.asarray(made.transform(X))[::2].tolist() == np.eye(3).tolist()
    assert np.asarray(made.transform({"x": [str(cell) for cell in cells]}))[::2].tolist() == np.eye(3).tolist()
    ranks = ModalityTransformer([("x", OrdinalEncoder(), ["x"])]).fit_transform(X)
    assert np.asarray(ranks).ravel().tolist() == [0, 0, 1, 1, 2, 2]


def test_a_dtype_of_intervals_passes_to_a_transformer_of_another_kind():
    X = pd.DataFrame({"x": SIZES})
    codes = FunctionTransformer(lambda Z: Z.assign(x=[cell.right for cell in Z["x"]]))
    for later in (X, X.astype(object)):
        made = ModalityTransformer([("x", codes, ["x"])]).fit(X).transform(later)
        assert np.asarray(made).ravel().tolist() == [10, 10, 100, 100, 1000, 1000]


STAMPS = pd.to_datetime(["2026-01-31", "2026-02-01"])


@pytest.mark.parametrize(
    ("cells", "listed", "later"),
    [
        (["false", "true"], ["false", "true"], [False, True]),
        (pd.Series(["false", "true"], dtype="category"), ["false", "true"], ["false", "true"]),
        ([False, True], [False, True], ["false", "true"]),
        (STAMPS, list(STAMPS), ["2026-01-31", "2026-02-01"]),
        ([datetime.date(2026, 1, 31), datetime.date(2026, 2, 1)], list(STAMPS), ["2026-01-31", "2026-02-01"]),
        (pd.Series([3, "B"], dtype=object), ["3", "B"], ["3", "B"]),
        ([3, 7], [3, 7], ["3", "7"]),
        (["3", "7"], ["3", "7"], [3, 7]),
        (SIZES[1:3].reset_index(drop=True), list(SIZES[1:3]), SIZES[1:3].reset_index(drop=True)),
    ],
    ids=str,
)
def test_a_list_of_categories_is_of_the_type_that_fit_had(cells, listed, later):
    for encoder in (
        OneHotEncoder(categories=[listed], sparse_output=False),
        OneHotEncoder(drop=[listed[0]], sparse_output=False) if len({type(one) for one in listed}) == 1 else None,
        OrdinalEncoder(categories=[listed]),
    ):
        if encoder is not None:
            made = ModalityTransformer([("x", encoder, ["x"])]).fit(pd.DataFrame({"x": cells}))
            assert np.asarray(made.transform(pd.DataFrame({"x": later})))[:, -1].tolist() == [0, 1]


@pytest.mark.parametrize("gap", [decimal.Decimal("NaN"), np.datetime64("NaT")], ids=repr)
def test_gaps_of_any_type_are_gaps(gap):
    cells = pd.Series(["a", "b", gap], dtype=object)
    for role in ("category", "text", "encoder"):
        assert not read(["a", "b"], cells, role).faults
    assert category_key(gap) is None
    assert read([1, 2], pd.Series([1, gap], dtype=object), "number").table["x"].isna().tolist() == [False, True]


def test_texts_that_say_truth_may_be_filled():
    filled = make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder(sparse_output=False))
    X = {"x": ["true", "false", None], "z": ["true", None, "false"]}
    made = ModalityTransformer([("x", filled, ["x", "z"])]).fit(X)
    assert np.asarray(made.transform(X)).sum(axis=1).tolist() == [2, 2, 2]
    assert (
        np.asarray(made.transform({"x": [True], "z": ["true"]})).tolist() == np.asarray(made.transform(X))[[0]].tolist()
    )


def test_gaps_are_filled_before_a_category_is_read():
    X, y = table((3, 7))
    X.loc["room 4", "floor"] = None
    steps = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    model = make_fusion_pipeline([("x", steps, ["floor", "size"])], FeatureFusionClassifier()).fit(X, y)
    assert model["encode"].schema_["floor"] == {"kind": "category", "values": "number", "known": ["3", "7"]}
    assert_allclose(model.predict_proba(X.assign(floor=X["floor"].astype("string"))), model.predict_proba(X))


def test_a_dtype_of_categories_reaches_a_transformer_that_wants_it():
    seen = []
    keep = FunctionTransformer(lambda Z: seen.append(Z["floor"].dtype) or Z.assign(floor=Z["floor"].cat.codes))
    X, _ = table()
    made = ModalityTransformer([("x", keep, ["floor"])]).fit(X.astype({"floor": "category"}))
    made.transform({"floor": [3, 7.0, None]})
    assert seen[-1].categories.tolist() == ["3", "7"]
    with pytest.warns(UnseenCategoryWarning):
        made.transform({"floor": ["7", "B"]})
    assert seen[-1].categories.tolist() == ["3", "7", "B"]


# ---------------------------------------------------------------------- numbers, truth, dates, texts


@pytest.mark.parametrize(
    "later",
    [
        pd.Series([2, 40], dtype="Int64"),
        pd.Series(["2", " 40 "]),
        pd.Series(["2.0", "4e1"], dtype="string"),
        pd.Series([2, 40]).astype("category"),
        pd.Series([decimal.Decimal(2), decimal.Decimal("40.0")], dtype=object),
        pd.Series([np.float16(2), b"40"], dtype=object),
        pd.Series([2, 40], dtype=np.uint8),
    ],
    ids=lambda cells: str(cells.dtype),
)
def test_numbers_come_in_any_type(later):
    assert read([1.5, 2.5], later, "number").table["x"].tolist() == [2, 40]


@pytest.mark.by_turns
@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("cheap", "'cheap' is not a number"),
        ("1,5", "'1,5' is not a number"),
        ("1_000", "'1_000' is not a number"),
        ("no number", "'no number' is not a number"),
        ("???", "'???' is not a number"),
        ("inf", "'inf' is not a finite number"),
        (-np.inf, "-inf is not a finite number"),
        (1e300, "1e+300 is too large for float32, so it must be below 3.4e+38"),
        ("1e300", "'1e300' is too large for float32"),
        (-1e39, "-1e+39 is too large"),
        (10**400, "is not a number"),
        (datetime.date(2026, 1, 1), "is not a number"),
        ([1], "[1] is not a number"),
        (1j, "1j is not a number"),
    ],
    ids=repr,
)
def test_what_is_no_number_is_named_at_fit_and_at_predict(cell, reason):
    X, y = table()
    model, cells = fit(X, y), X["size"].astype(object)
    cells.iloc[17] = cell
    bad = X.assign(size=cells)
    with pytest.raises(ColumnError) as caught:
        model.predict(bad)
    assert f"row 'room 17', column 'size': {reason}" in str(caught.value) or reason in caught.value.rows[0].reason
    assert [(row.label, row.column) for row in caught.value.rows] == [("room 17", "size")]
    assert pickle.loads(pickle.dumps(caught.value)).rows == caught.value.rows
    with pytest.raises(ColumnError, match="column 'size'"):
        fit(bad, y, size="number")


@pytest.mark.parametrize("make", [pd.DataFrame, polars.DataFrame, dict], ids=["pandas", "polars", "dict"])
@pytest.mark.parametrize("value", [np.inf, 1e300])
def test_numbers_that_are_too_large_are_named_in_any_frame_and_in_regression(make, value):
    X = {"size": np.linspace(0, 1, N).tolist(), "depth": [*map(float, range(N - 1)), value]}
    modalities = [("tabular", "passthrough", ["size", "depth"])]
    model = make_fusion_pipeline(modalities, DecisionFusionRegressor(Ridge(), cv=2))
    with pytest.raises(ColumnError, match="row 39, column 'depth'"):
        model.fit(make(X), np.arange(N))
    good = {**X, "depth": list(map(float, range(N)))}
    with pytest.raises(ColumnError, match="row 39, column 'depth'"):
        model.fit(make(good), np.arange(N)).predict(make(X))


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "int64", "uint64"])
def test_short_numbers_are_compared_without_a_warning_and_infinite_ones_are_named(dtype):
    X = pd.DataFrame({"a": [1, 2], "b": [3, 4]}).astype(dtype)
    schema = learn_schema(X, {"a": {"number"}, "b": {"other"}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not read_by_schema(X, schema).faults
        if "float" in dtype:
            faults = read_by_schema(X.assign(b=np.array([3, np.inf], dtype=dtype)), schema).faults
            assert [(one.position, one.column, one.reason) for one in faults] == [
                (1, "b", "inf is not a finite number")
            ]


NUMBERS = [*map(str, range(60))]
DATED = pd.date_range("2021-01-01", periods=60).strftime("%Y-%m-%d").tolist()


@pytest.mark.parametrize(
    ("role", "cells", "unread"),
    [
        ("number", [*NUMBERS, "555-1234", "547 - 637"], 2),
        ("number", [*(f"${cell}" for cell in NUMBERS), "555-1234"], 1),
        ("number", [*NUMBERS, *["sold"] * 50], 50),
        ("number", [*range(60), *["sold"] * 25, *["Sold"] * 25], 50),
        ("censored", [*NUMBERS, "<5", *["sold"] * 50], 50),
        ("date", [*DATED, *["unlimited"] * 50], 50),
        ("date", [*DATED, "Oct-12"], 1),
    ],
)
def test_without_a_given_form_fit_reads_no_cell_of_which_a_person_should_know(role, cells, unread):
    """Ranges became their middle, and words in many cells missing, where nothing is printed."""
    X = pd.DataFrame({"x": pd.Series(cells, dtype=object)})
    reading = read_by_schema(X, learn_schema(X, {"x": {role}}), fitting=True)
    assert [fault.value for fault in reading.faults] == cells[len(cells) - unread :]


@pytest.mark.parametrize("cells", [["Oct-12", "Nov-13", "Dec-14"], ["3/12", "4/13", "5/41"]])
def test_months_that_may_be_days_or_fractions_are_dates_only_by_a_given_form(cells):
    X = pd.DataFrame({"x": cells})
    assert learn_schema(X, {"x": {"date"}}) == {"x": {"kind": "object"}}
    form = find_form(X["x"], "date").format
    assert learn_schema(X, {"x": {"date"}}, {"x": form})["x"]["format"] == form
    sure = pd.DataFrame({"x": ["Oct-12", "Oct-75"]})  # no month has 75 days
    assert learn_schema(sure, {"x": {"date"}})["x"]["kind"] == "date"


def test_a_few_words_are_missing_cells_and_a_given_form_may_name_more():
    few, many = (pd.DataFrame({"x": [*NUMBERS, *["sold"] * n]}) for n in (6, 50))
    assert learn_schema(few, {"x": {"number"}})["x"]["format"]["missing"] == ["sold"]
    schema = learn_schema(many, {"x": {"number"}}, {"x": {"kind": "number", "missing": ["sold"]}})
    assert not read_by_schema(many, schema, fitting=True).faults
    ranges = pd.DataFrame({"x": [*NUMBERS, "547 - 637"]})
    schema = learn_schema(ranges, {"x": {"number"}}, {"x": {"kind": "number", "ranges": True}})
    assert read_by_schema(ranges, schema, fitting=True).table["x"].iloc[-1] == 592


def test_a_column_without_a_cell_in_fit_is_read_as_it_comes_by_an_encoder():
    X = pd.DataFrame({"x": [1.0, 2.0], "note": [np.nan, np.nan]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingModalityWarning)
        schema = learn_schema(X, {"x": {"encoder"}, "note": {"encoder"}})
        group = learn_schema(X, {"x": {"encoder of a group"}, "note": {"encoder of a group"}})
    later = pd.DataFrame({"x": ["1"], "note": ["5 rooms"]})
    reading = read_by_schema(later, schema)
    assert not reading.faults and reading.table["note"].tolist() == ["5 rooms"]
    assert read([np.nan], ["5 rooms"], "text").table["x"].tolist() == ["5 rooms"]
    assert read_by_schema(later.assign(note="5"), group).table["note"].tolist() == [5.0]
    assert [fault.column for fault in read_by_schema(later, group).faults] == ["note"]


def test_columns_with_numbers_for_names_have_a_summary():
    X = pd.DataFrame({0: [1.0, 2.0, 4.0], 1: [3, 5, 7]})
    made = ModalityTransformer([("x", "passthrough", [0, 1])]).fit(X)
    assert made.numeric_columns_ == [0, 1]
    assert made.numeric_summary_ == {"0": [1.0, 2.0, 4.0], "1": [3.0, 5.0, 7.0]}


def test_numbers_of_numpy_are_handed_on_as_they_are():
    frame = pd.DataFrame({"a": np.arange(3, dtype=np.int16), "b": np.ones(3, dtype=np.float32)})
    reading = read_by_schema(frame, learn_schema(frame, {"a": {"other"}, "b": {"number"}}))
    assert reading.table.dtypes.tolist() == [np.dtype("int16"), np.dtype("float32")]


@pytest.mark.parametrize("cell", ["maybe", 2, 0.5, datetime.date(2026, 1, 1), "yes"], ids=repr)
def test_what_is_neither_true_nor_false_is_named(cell):
    for role in ("category", "number"):
        reading = read([True, False, True], pd.Series([True, cell], dtype=object), role)
        assert [fault.position for fault in reading.faults] == [1]
        assert reading.faults[0].reason.endswith("is neither true nor false")


def test_truth_as_numbers_stays_truth_without_gaps():
    assert read([True, None], [True, False], "other").table["x"].tolist() == [True, False]
    later = read([True, False], pd.Series(["true", None, 0], dtype=object), "other").table["x"]
    assert later.dtype == float and later.tolist()[::2] == [1.0, 0.0] and np.isnan(later[1])


def test_dates_come_as_text_of_another_unit_and_in_another_zone():
    first = pd.to_datetime(["2026-01-31 12:00", "2026-02-01 00:00"]).as_unit("s")
    later = ["2026-01-31T12:00", datetime.date(2026, 2, 1), np.datetime64("2026-02-01", "ns"), None, " "]
    column = read(first, pd.Series(later, dtype=object), "other").table["x"]
    assert str(column.dtype) == "datetime64[s]" and column.tolist()[:3] == [first[0], first[1], first[1]]
    zoned = pd.to_datetime(["2026-01-31 12:00+01:00"]).tz_convert("Europe/Berlin")
    column = read(zoned, ["2026-01-31T11:00:00Z"], "other").table["x"]
    assert column.tolist() == zoned.tolist() and column.dtype == zoned.dtype


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("31.01.2026", "is not a date in ISO 8601"),
        (20260131, "is not a date"),
        ("2026-01-31T00:00Z", "has a time zone, and the column had none in fit"),
        (datetime.date(5000, 1, 1), "outside the range"),
    ],
    ids=repr,
)
def test_what_is_no_date_is_named(cell, reason):
    first = pd.Series(pd.to_datetime(["2026-01-31"])).astype("datetime64[ns]")
    reading = read(first, pd.Series([cell], dtype=object), "other")
    assert reason in reading.faults[0].reason


def test_lengths_of_time():
    first = pd.Series(pd.to_timedelta(["1 day", "2 days"]))
    assert read(first, ["2 days", "06:00:00"], "other").table["x"].tolist() == [
        pd.Timedelta("2 days"),
        pd.Timedelta("6h"),
    ]
    assert "not a length of time" in read(first, pd.Series([5, "x"], dtype=object), "other").faults[1].reason


def test_a_number_among_texts_becomes_its_text():
    reading = read(["3 rooms", "1984"], pd.Series([1984, 2.5, 3.0, None, "a"], dtype=object), "text")
    assert reading.table["x"].tolist()[:3] == ["1984", "2.5", "3"] and reading.table["x"][4] == "a"
    assert read(["3 rooms"], [""], "text").table["x"].tolist() == [""]


def test_the_content_of_files_passes():
    """A fusion that encodes by itself takes the bytes of a picture where fit had its path."""
    assert read(["a.png", "b.png"], [b"\x89PNG"], "other").table["x"].tolist() == [b"\x89PNG"]
    assert read(["a.png", "b.png"], [b"\x89PNG"], "encoder").table["x"].tolist() == [b"\x89PNG"]


def test_columns_of_encoders_stay_as_they_are_in_fit():
    def kind(cell):
        return [len(type(cell).__name__)]

    X = {"x": pd.Series([1, 2, 3], dtype="Int64"), "y": pd.Series([1, None, 2], dtype=object)}
    model = ModalityTransformer([("x", FunctionEncoder(kind), "x"), ("y", FunctionEncoder(kind), "y")]).fit(X)
    assert np.asarray(model.transform(X))[0].tolist() == [len("int")] * 2
    assert np.asarray(model.transform({"x": ["7"], "y": ["7"]}))[0].tolist() == [len("int"), len("str")]


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "later",
    [
        [3, 12],
        [3.0, 12.0],
        [3, 12, None],
        pd.Series([3.0, 12.0, None], dtype=object),
        pd.Series([3, 12, None], dtype="Float64"),
        ["3", "12.0"],
        ["3", " 12", ""],
        [3, 12, 2.5],
        polars.Series([3, 12, None]),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["int64", "uint8", "Int64", "object", "float64", "float objects"])
def test_an_encoder_gets_whole_numbers_as_in_fit(later, dtype):
    first = pd.Series([3, 12, 70], dtype="int64" if "objects" in dtype else dtype)
    first = first.astype(float).astype(object) if "objects" in dtype else first
    made = ModalityTransformer([("x", FunctionEncoder(lambda cell: [len(str(cell))]), "x")]).fit({"x": first})
    new = polars.DataFrame({"x": later}) if isinstance(later, polars.Series) else pd.DataFrame({"x": later})
    extra = 2 if "float" in dtype else 0
    expected = [1 + extra, 2 + extra]
    if "object" in dtype and isinstance(later[0], str):  # in a column of objects, a text stays a text
        expected = [len(later[0]), len(later[1])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingModalityWarning)
        assert np.asarray(made.transform(new))[:2].ravel().tolist() == expected


def test_large_keys_with_gaps_stay_exact_for_an_encoder():
    reading = read([1, 2], ["9007199254740993", "", "7"], "encoder")
    assert reading.table["x"].tolist() == [9007199254740993, pd.NA, 7]


def test_a_group_of_columns_may_hold_whole_numbers_and_others():
    first = pd.DataFrame({"a": [1, 2, 3], "b": [4, 5, 6]})
    made = ModalityTransformer([("x", PrecomputedEncoder(), ["a", "b"])]).fit(first)
    later = pd.DataFrame({"a": [1, 2.5, None], "b": [4.0, 5.0, None]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingModalityWarning)
        assert np.asarray(made.transform(later))[:2].tolist() == [[1, 4], [2.5, 5]]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([True, None, False], "boolean"),
        ([np.True_, np.False_], "boolean"),
        ([1, None, 2.5], "number"),
        ([decimal.Decimal("1.5"), None], "number"),
        ([True, "yes"], "boolean"),
        ([datetime.date(2026, 1, 1)], "date"),
    ],
)
def test_gaps_do_not_change_what_a_column_seems_to_hold(cells, kind):
    assert column_kind(pd.Series(cells, dtype=object))[0] == kind


# ---------------------------------------------------------------------- names


@pytest.mark.by_turns
@pytest.mark.parametrize("make", [pd.DataFrame, polars.DataFrame, dict], ids=["pandas", "polars", "dict"])
@pytest.mark.parametrize("name", ["Size", "size ", "SIZE", "sizes"])
def test_a_column_whose_name_differs_is_asked_about(make, name):
    X, y = table()
    modalities = [("a", OneHotEncoder(sparse_output=False), ["floor"]), ("b", "passthrough", ["size"])]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(LogisticRegression(), cv=2)).fit(X, y)
    renamed = {"floor": X["floor"].tolist(), name: X["size"].tolist()}
    with pytest.warns(MissingModalityWarning, match=f"X has {name!r}; did you mean 'size'"):
        model.predict(make(renamed))
    with pytest.raises(ValueError, match=f"X has {name!r}; did you mean 'size'"):
        model.predict(make({name: renamed[name]}))


def test_a_column_that_the_model_knows_is_not_offered_for_another():
    X, y = table()
    X["sizes"] = X["size"]
    modalities = [("a", "passthrough", ["sizes"]), ("b", "passthrough", ["size"])]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(LogisticRegression(), cv=2)).fit(X, y)
    with pytest.warns(MissingModalityWarning) as caught:
        model.predict(X[["sizes"]])
    assert "did you mean" not in str(caught[0].message)


# ---------------------------------------------------------------------- the model


def test_the_schema_is_learned_stored_and_loaded(tmp_path):
    X, y = table((3.0, 7.0))
    X["paid"] = pd.array([True, None] * (N // 2), dtype="boolean")
    model = fit(X, y)
    schema = model["encode"].schema_
    assert schema["floor"] == {"kind": "category", "values": "number", "known": ["3", "7"]}
    assert schema["paid"] == {"kind": "boolean", "as": "category"} and schema["size"] == {"kind": "number"}
    assert not hasattr(clone(model)["encode"], "schema_")
    loaded = load_model(save_model(model, tmp_path / "m.fuse", example=X.head(4)))
    assert loaded["encode"].schema_ == schema
    later = {"floor": ["3", "7"], "paid": ["TRUE", ""], "size": ["1.5", 2]}
    assert_allclose(loaded.predict_proba(later), model.predict_proba(later))


def test_a_model_without_a_schema_predicts_as_before():
    """Files of older versions know only which columns are numbers."""
    X, y = table()
    model = fit(X, y)
    wanted = model.predict_proba(X)
    del model["encode"].schema_
    assert_allclose(model.predict_proba(X), wanted)
    assert_allclose(model.predict_proba(X.assign(size=X["size"].astype(str))), wanted)
    with pytest.raises(ColumnError, match="row 'room 0', column 'size'"):
        model.predict(X.assign(size=np.inf))


def test_columns_may_be_chosen_by_place_pattern_or_function():
    X, _ = table((3, 7))
    inner = make_column_transformer((OneHotEncoder(), [0]), remainder=StandardScaler())
    for chosen in ([0, 1], slice(0, 2), np.array([True, True]), lambda Z: list(Z.columns)):
        made = ModalityTransformer([("x", inner, chosen)]).fit(X)
        assert {column: held["kind"] for column, held in made.schema_.items()} == {
            "floor": "category",
            "size": "number",
        }
    made = ModalityTransformer([("x", OneHotEncoder(), ["floor"])], remainder="passthrough").fit(X)
    assert made.schema_["size"] == {"kind": "number"}
    made = ModalityTransformer([("x", OneHotEncoder(), ["floor"])]).fit(X)
    assert list(made.schema_) == ["floor"]


def test_a_column_that_is_read_as_number_and_as_category_is_a_number():
    X, _ = table((3, 7))
    both = [("a", StandardScaler(), ["floor"]), ("b", OneHotEncoder(sparse_output=False), ["floor"])]
    made = ModalityTransformer(both).fit(X)
    assert made.schema_["floor"]["kind"] == "number"
    assert_allclose(made.transform(X.astype({"floor": str})), made.transform(X))


def test_a_part_of_a_split_model_reads_by_the_same_schema():
    X, y = table((3, 7))
    parts = [
        ("a", OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["floor"]),
        ("b", "passthrough", ["size"]),
    ]
    model = make_fusion_pipeline(parts, DecisionFusionClassifier(LogisticRegression(), cv=2, joint=False)).fit(X, y)
    part = split_model(model).edge["a"]
    wanted = np.stack(part.transform(X)["a"])
    assert_allclose(np.stack(part.transform(X.astype({"floor": str}))["a"]), wanted)
    other = split_model(model).edge["b"]
    del other.schema  # as in a file of an older version
    assert_allclose(np.stack(other.transform(X)["b"])[:, 0], X["size"].astype(np.float32))
    assert other.get_params()["schema"] is None


def test_an_explanation_reads_rows_and_background_by_the_schema():
    X, y = table((3, 7))
    model = fit(X, y)
    wanted = explain_row(model, X, "room 1", background=X)
    texts = X.astype(str)
    found = explain_row(model, texts, "room 1", background=X.astype({"floor": float}))
    assert found.value == pytest.approx(wanted.value)
    assert_allclose(found.parts["tabular"].effects, wanted.parts["tabular"].effects)


# ---------------------------------------------------------------------- command line and server


@pytest.fixture
def files(tmp_path):
    X, y = table()
    X.loc[["room 2", "room 5"], "floor"] = "B"
    X.assign(state=y).to_csv(tmp_path / "old.csv", index=False)
    argv = ["fit", str(tmp_path / "old.csv"), "--target", "state", "-o", str(tmp_path / "m.fuse"), "-q"]
    assert main([*argv, "--kind", "floor=category"]) == 0
    return tmp_path


def test_predict_counts_unseen_categories_of_all_pieces_once(files, capsys):
    X, _ = table(("3", "C"))
    X.to_csv(files / "new.csv", index=False)
    capsys.readouterr()
    argv = ["predict", str(files / "m.fuse"), str(files / "new.csv"), "-o", str(files / "p.csv"), "--chunk-rows", "7"]
    assert main(argv) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "never saw" in line]
    assert (
        len(told) == 1 and "Column 'floor' holds categories that fit never saw in 20 of 40 rows: 'C' in 20" in told[0]
    )


def test_blanks_around_a_category_count_neither_in_files_nor_on_a_server(tmp_path, capsys):
    X, y = table(("rot", "blau"))
    X.loc[X.index[:9], "floor"] += " "
    X.assign(state=y).to_csv(tmp_path / "old.csv", index=False)
    assert main(["fit", str(tmp_path / "old.csv"), "--target", "state", "-o", str(tmp_path / "m.fuse"), "-q"]) == 0
    X.assign(floor=" " + X["floor"].str.strip()).to_csv(tmp_path / "new.csv", index=False)
    capsys.readouterr()
    argv = ["predict", str(tmp_path / "m.fuse"), str(tmp_path / "new.csv"), "-o", str(tmp_path / "p.csv")]
    assert main(argv) == 0 and "never saw" not in capsys.readouterr().err
    assert (pd.read_csv(tmp_path / "p.csv")["prediction"] == y).all()
    model = load_model(tmp_path / "m.fuse")
    served = ServedModel(model, read_info(model))
    answers = served.predict([{"floor": floor, "size": 1.5} for floor in ("rot", " rot ", "blau")])
    assert answers[0] == answers[1] != answers[2]


def test_large_whole_numbers_with_gaps_stay_exact_in_csv(tmp_path):
    ids = [2**53, 2**53 + 1] * (N // 2)
    lines = ["code,size,state", *(f"{'' if i in (4, 9) else ids[i]},{i},{i % 2}" for i in range(N))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    argv = ["fit", tmp_path / "t.csv", "--target", "state", "--kind", "code=category", "--drop", "size", "-q"]
    assert main([str(word) for word in [*argv, "-o", tmp_path / "m.fuse"]]) == 0
    assert (
        main(["predict", str(tmp_path / "m.fuse"), str(tmp_path / "t.csv"), "-o", str(tmp_path / "p.csv"), "-q"]) == 0
    )
    said = pd.read_csv(tmp_path / "p.csv")
    assert (said["prediction"] == said["state"]).drop([4, 9]).all()


@pytest.mark.by_turns
@pytest.mark.parametrize("command", ["report", "card"])
def test_a_report_and_a_card_read_what_predict_reads(files, command, capsys):
    X, y = table((7, 3))
    X.assign(state=y[::-1]).to_csv(files / "new.csv", index=False)  # all happen to be digits
    suffix = {"report": "r.html", "card": "c.md"}[command]
    argv = [command, files / "m.fuse", files / "new.csv", "--target", "state", "-o", files / suffix, "-q"]
    assert main([str(word) for word in argv]) == 0, capsys.readouterr().err
    X.assign(state=y[::-1], size=["1.5", "big", *["2"] * (N - 2)]).to_csv(files / "new.csv", index=False)
    capsys.readouterr()
    assert main([str(word) for word in [*argv, "--overwrite"]]) == 1
    assert "row 1, column 'size': 'big' is not a number" in capsys.readouterr().err


def test_labels_are_compared_by_what_they_say(files):
    X, _ = table((3, 7))
    X.assign(state=[True, False] * (N // 2)).to_csv(files / "old.csv", index=False)
    argv = ["fit", files / "old.csv", "--target", "state", "-o", files / "b.fuse", "-q", "--kind", "floor=category"]
    assert main([str(word) for word in argv]) == 0
    X[:30].assign(state=["true", "false"] * 15).to_parquet(files / "new.parquet")
    argv = ["card", files / "b.fuse", files / "new.parquet", "--target", "state", "-o", files / "c.md", "-q"]
    assert main([str(word) for word in argv]) == 0


def test_evaluate_takes_truth_with_gaps(files, capsys):
    X, y = table((True, False))
    X["floor"] = X["floor"].astype(object)
    X.loc[["room 3", "room 8"], "floor"] = None
    X.assign(state=y).to_csv(files / "old.csv", index=False)
    for kind in ("category", "number"):
        argv = ["evaluate", files / "old.csv", "--target", "state", "--cv", "2", "-q", "--kind", f"floor={kind}"]
        assert main([str(word) for word in argv]) == 0, capsys.readouterr().err


def test_the_server_reads_json_by_the_schema_and_names_unseen_categories():
    X, y = table((3, 7))
    X["paid"] = pd.array([True, None] * (N // 2), dtype="boolean")
    model = fit(X, y)
    rows = [
        {"floor": 3, "size": 1.5, "paid": True},
        {"floor": "3.0", "size": 1.5, "paid": "true"},
        {"floor": 3.0, "size": 1.5, "paid": 1},
        {"floor": "B", "size": 1.5, "paid": None},
        {"floor": 3, "size": 1e300, "paid": "maybe"},
    ]
    with client_of(model) as client:
        assert client.get("/model").json()["input"]["paid"]["type"] == "boolean"
        answer = client.post("/predict", json={"rows": rows[:4]}).json()["predictions"]
        bad = client.post("/predict", json={"rows": rows})
        named = client.post("/predict", json={"rows": [{"Floor": 3}]})
    assert [one["unseen"] for one in answer] == [[], [], [], ["floor"]]
    for one in answer[1:3]:
        assert one["probabilities"] == pytest.approx(answer[0]["probabilities"])
    assert bad.status_code == 422
    assert {(fault["row"], fault["field"]) for fault in bad.json()["errors"]} == {(4, "size"), (4, "paid")}
    assert "did you mean 'floor'?" in named.text


def test_the_server_makes_arrays_of_the_numbers_in_a_request():
    X, y = table((3, 7))
    model = fit(X, y)
    served = ServedModel(model, read_info(model))
    rows = [{"floor": 3.0, "size": 1.5}, {"floor": None, "size": None}]
    made = served._table(rows)
    assert made["size"].dtype == np.float64 and made["size"].isna().tolist() == [False, True]
    assert made["floor"].dtype == object
    assert served._table([{"floor": 3.0, "size": "1.5"}])["size"].tolist() == ["1.5"]
    answer = served.predict([rows[0], {"floor": "3", "size": "1.5"}])
    assert answer[0] == answer[1]


def test_look_ups_of_categories_are_made_once_for_a_model(monkeypatch):
    X, y = table((3, 7))
    model = fit(X, y)
    first = model.predict(X.astype({"floor": str}))
    made = []
    monkeypatch.setattr(_read, "Categories", lambda known: made.append(known) or Categories(known))
    assert model.predict(X.astype({"floor": str})).tolist() == first.tolist() and not made
    assert schema_of(model["encode"]) is schema_of(model["encode"])
    assert type(pickle.loads(pickle.dumps(schema_of(model["encode"])))) is dict
    again = clone(model).fit(X.assign(floor=[1, 2] * (N // 2)), y)
    assert made and schema_of(again["encode"])["floor"]["known"] == ["1", "2"]
    model.fit(X.assign(floor=[5, 6] * (N // 2)), y)
    with pytest.warns(UnseenCategoryWarning, match="'3' in 20, '7' in 20"):
        model.predict(X)


def test_nothing_is_said_when_all_is_known():
    X, y = table()
    model = fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(X.assign(floor=pd.Series([3, 7] * (N // 2), X.index, dtype="Int64")))


def test_a_report_tells_unseen_categories_once(tmp_path):
    pytest.importorskip("matplotlib")
    X, y = table((3, 7))
    model = fit(X, y)
    new = X[:24].assign(floor=["B", *X["floor"][1:24]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_report(model, new, y[:24], tmp_path / "r.html", n_rows=1)
    told = [w for w in caught if issubclass(w.category, UnseenCategoryWarning)]
    assert len(told) == 1 and "in 1 of 24 rows: 'B' in 1" in str(told[0].message)
    with pytest.raises(ColumnError, match="row 'room 0', column 'size'"):
        write_report(model, new.assign(size="big"), y[:24], tmp_path / "r.html", n_rows=1)


@pytest.mark.parametrize("reader", [OneHotEncoder(), OrdinalEncoder(), make_pipeline(OrdinalEncoder(), PCA(1))])
def test_a_category_that_the_transformer_would_stop_at_is_a_cell_that_cannot_be_read(reader):
    X = pd.DataFrame({"colour": ["red", "blue"] * 6, "size": np.arange(12.0)})
    table = [("colour", reader, ["colour"]), ("size", StandardScaler(), ["size"])]
    model = make_fusion_pipeline(table, DecisionFusionClassifier(LogisticRegression(), cv=2, joint=False))
    model.fit(X, ["a", "b"] * 6)
    later = X.head(3).assign(colour=["red", "green", None])
    with pytest.raises(ColumnError, match=r"row 1, column 'colour': 'green' is a category that fit never saw.*ignore"):
        model.predict(later)
    assert len(model.predict(later.drop(index=1))) == 2
