"""Cells of a table that cannot be read: which are missing in any column, and what takes the others as missing."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from serving_case import client_of
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ensemblefuse import (
    CascadeFusionClassifier,
    ColumnError,
    DateFeatures,
    FeatureFusionClassifier,
    MissingModalityWarning,
    TableTransformer,
    infer_modalities,
    load_model,
    make_fusion_pipeline,
    save_model,
    split_model,
)
from ensemblefuse.cli import main
from ensemblefuse.cli._messages import one_line
from ensemblefuse.cli._table_stream import MISSING
from ensemblefuse.column_formats import UnreadableCell, is_mark, number_format, read_cell, tag_format
from ensemblefuse.column_kinds import column_kind
from ensemblefuse.compose import ModalityTransformer

pytestmark = pytest.mark.usefixtures("little_effort")

N = 60
Y = np.arange(N) % 2
MARKS = ["N/A", "n/a", "-", "--", "—", "–––", "?", ".", "…", "unknown", "NULL", " Missing ", "－", "未知", "", "  "]
NO_MARKS = ["★★★★", "++", "???", "!!", "*", "( )", "keine Angabe", "no number"]


def table():
    rng = np.random.default_rng(3)
    size = rng.integers(1, 90, N)
    days = pd.date_range("2021-01-04", periods=N, freq="9D")
    return pd.DataFrame(
        {
            "whole": size,
            "real": np.round(rng.normal(size=N), 3),
            "text": [str(v) for v in rng.integers(1, 70, N)],
            "weight": [f"{v} kg" for v in rng.integers(1, 50, N)],
            "sold": rng.random(N) < 0.5,
            "paid": np.where(rng.random(N) < 0.5, "yes", "no"),
            "day": days,
            "made": days.strftime("%d.%m.%Y"),
        }
    )


COLUMNS = list(table())


def fit(X=None, y=Y, **settings):
    modalities = infer_modalities(table() if X is None else X, verbose=False)
    modalities[-1][1].set_params(**settings)
    return make_fusion_pipeline(modalities, FeatureFusionClassifier(LogisticRegression())).fit(
        table() if X is None else X, y
    )


@pytest.fixture(scope="module")
def model():
    return fit()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    return save_model(model, tmp_path_factory.mktemp("bad") / "m.fuse", example=table().head(3))


def with_cell(column, cell, rows=(1,)):
    X = table()[:4]
    X[column] = X[column].astype(object)
    for row in rows:
        X.at[row, column] = cell
    return X


# ---------------------------------------------------------------------- marks


def test_every_text_that_pandas_takes_as_missing_is_a_mark():
    assert all(map(is_mark, MISSING))


@pytest.mark.by_turns
@pytest.mark.parametrize("column", COLUMNS)
def test_marks_are_missing_in_every_column_of_numbers_dates_and_booleans(model, column):
    gap = model.predict_proba(with_cell(column, None))
    for mark in MARKS:
        assert_allclose(model.predict_proba(with_cell(column, mark)), gap, err_msg=mark)


@pytest.mark.parametrize("column", COLUMNS)
def test_other_signs_and_words_are_not(model, column):
    for cell in NO_MARKS:
        with pytest.raises(ColumnError) as caught:
            model.predict(with_cell(column, cell))
        assert [(row.label, row.column, row.value) for row in caught.value.rows] == [(1, column, repr(cell))]


def test_the_command_line_reads_marks_as_python_does(model, path, tmp_path):
    rows = pd.concat([with_cell(column, mark)[1:2] for column in COLUMNS for mark in MARKS])
    rows["sold"] = rows["sold"].astype(str)
    rows.to_csv(tmp_path / "new.csv", index=False)
    assert main(["predict", str(path), str(tmp_path / "new.csv"), "-o", str(tmp_path / "said.csv"), "-q"]) == 0
    said = pd.read_csv(tmp_path / "said.csv")
    assert said["error"].isna().all()
    assert_allclose(said["proba_1"], model.predict_proba(rows)[:, 1], atol=1e-12)


def test_the_server_reads_marks_as_python_does(model, path):
    def row(column, cell):
        cells = table().iloc[1].to_dict()
        return {**cells, "day": "2021-01-13", "sold": bool(cells["sold"]), "text": int(cells["text"]), column: cell}

    with client_of(path) as client:
        for column in COLUMNS:
            rows = [row(column, cell) for cell in (None, *MARKS)]
            said = client.post("/predict", json={"rows": rows}).json()["predictions"]
            first, *others = [answer["probabilities"]["1"] for answer in said]
            assert_allclose(others, first)
        for cell in NO_MARKS:
            assert client.post("/predict", json={"rows": [row("whole", cell)]}).status_code == 422


@pytest.mark.parametrize("mark", ["n/a", "-", "?", "nan"])
@pytest.mark.parametrize("declared", ["infer", "passthrough", "scaled"])
def test_one_mark_among_real_numbers_is_a_missing_cell_of_fit(mark, declared):
    X = pd.DataFrame({"x": pd.Series([*np.linspace(1, 9, N - 1), mark], dtype=object), "y": np.arange(N) % 7 / 2})
    if declared == "infer":
        assert column_kind(X["x"])[:2] == (
            "number",
            f"numbers, 1 to 9; 98.3% of 60 cells can be read, and {mark!r} stands for missing cells",
        )
        modalities = infer_modalities(X, verbose=False)
    else:
        scaled = make_pipeline(SimpleImputer(), StandardScaler())
        modalities = [("t", "passthrough" if declared == "passthrough" else scaled, ["x", "y"])]
    gaps = X.assign(x=np.array([*X["x"][:-1], np.nan], dtype=float))
    made = [np.asarray(ModalityTransformer(modalities).fit(fit).transform(X), dtype=float) for fit in (X, gaps)]
    assert_array_equal(made[0], made[1])
    assert_array_equal(ModalityTransformer(modalities).fit(gaps).transform(gaps), made[0])


def test_a_single_word_among_real_numbers_is_still_a_mistake():
    assert number_format([1.5] * 39 + ["cheap"]) is None
    assert number_format([1.5] * 39 + ["???"]) is None
    assert number_format([1.5] * 39 + ["-"]).odd == {"-": 1}


def test_stars_are_no_mark_of_a_column_of_stars():
    found = number_format(["4星", "3星", "5星"] * 9)
    assert read_cell("4星", found.format) == 4 and read_cell("—", found.format) is None
    for cell in ("★★★★", "++", "???", "!!"):
        with pytest.raises(UnreadableCell, match="is not a number"):
            read_cell(cell, found.format)


def test_a_column_of_flags_and_stars_has_three_values():
    assert column_kind(pd.Series(["yes", "no"] * 20 + ["★"]))[0] == "category"
    assert column_kind(pd.Series(["yes", "no"] * 20 + ["-"]))[0] == "boolean"


def test_signs_may_be_tags():
    found = tag_format(["red, ★", "blue", "★", "red", "-"] * 6)
    assert read_cell("★", found.format) == ["★"] and read_cell("-", found.format) is None


# ---------------------------------------------------------------------- on_error


def test_the_error_names_the_parameter_that_takes_bad_cells_as_missing(model):
    with pytest.raises(ColumnError) as caught:
        model.predict(with_cell("weight", "keine Angabe"))
    assert str(caught.value).endswith(
        "row 1, column 'weight': 'keine Angabe' is not a number\nCorrect these cells, leave them empty, or take them "
        'as missing: model.set_params(encode__tabular__on_error="missing").'
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_model_without_such_a_parameter_names_none():
    scaled = make_pipeline(SimpleImputer(), StandardScaler())
    model = make_fusion_pipeline([("t", scaled, ["whole", "real"])], FeatureFusionClassifier(LogisticRegression()))
    with pytest.raises(ColumnError, match=r"Correct these cells, or leave them empty\.$"):
        model.fit(table(), Y).predict(with_cell("real", "cheap"))


@pytest.mark.parametrize("inside", ["alone", "pipeline", "union", "columns", "remainder"])
def test_bad_cells_are_missing_in_a_fitted_model_once_it_is_set_so(inside):
    numbers = make_pipeline(SimpleImputer(add_indicator=True, keep_empty_features=True), StandardScaler())
    tables = TableTransformer([("n", numbers, ["whole", "weight"])])
    within = {
        "alone": ("t__on_error", tables),
        "pipeline": ("t__tabletransformer__on_error", make_pipeline(tables, StandardScaler())),
        "union": ("t__a__on_error", FeatureUnion([("a", tables), ("b", clone(tables))])),
        "columns": (
            "t__tabletransformer__on_error",
            make_column_transformer((tables, ["whole", "weight"]), (clone(numbers), ["real"])),
        ),
        "remainder": ("remainder__on_error", tables),
    }
    name, transformer = within[inside]
    columns = ["whole", "weight", "real"]
    if inside == "remainder":
        model = make_fusion_pipeline([("t", "passthrough", ["real"])], FeatureFusionClassifier(LogisticRegression()))
        model.set_params(encode__remainder=transformer)
    else:
        model = make_fusion_pipeline([("t", transformer, columns)], FeatureFusionClassifier(LogisticRegression()))
    X = table()[columns]
    model.fit(X, Y)
    new, gaps = with_cell("weight", "cheap")[columns], with_cell("weight", None)[columns]
    with pytest.raises(ColumnError, match=f'encode__{name}="missing"'):
        model.predict(new)
    model.set_params(**{f"encode__{name}": "missing"})
    if inside == "union":
        model.set_params(encode__t__b__on_error="missing")
    with pytest.warns(MissingModalityWarning) as caught:
        proba = model.predict_proba(new)
    assert_allclose(proba, model.predict_proba(gaps))
    assert len(caught) == 1
    assert str(caught[0].message) == (
        "1 cell in 4 rows cannot be read as the column requires, and counts as missing:\n"
        "  row 1, column 'weight': 'cheap' is not a number"
    )
    assert [(row.label, row.column) for row in caught[0].message.rows] == [(1, "weight")]
    if inside == "columns":
        with pytest.raises(ColumnError, match=r"'real': 'cheap' is not a number\nCorrect these cells, or leave"):
            model.predict(with_cell("real", "cheap")[columns])
    with pytest.raises(ColumnError):
        model.set_params(**{f"encode__{name}": "raise"}).predict(new)


def test_a_fusion_that_encodes_by_itself_takes_bad_cells_as_missing_too():
    numbers = make_pipeline(SimpleImputer(add_indicator=True, keep_empty_features=True), StandardScaler())
    columns = ["whole", "weight"]
    tables = TableTransformer([("n", numbers, columns)])
    modalities = [("t", tables, columns), ("r", StandardScaler(), ["real"])]
    X = table()[[*columns, "real"]]
    model = make_fusion_pipeline(modalities, CascadeFusionClassifier(LogisticRegression(), cv=2)).fit(X, Y)
    new, gaps = (with_cell("weight", cell)[[*columns, "real"]] for cell in ("cheap", None))
    with pytest.raises(ColumnError, match=r'set_params\(fuse__encoders__t__on_error="missing"\)'):
        model.predict(new)
    model = pickle.loads(pickle.dumps(model)).set_params(fuse__encoders__t__on_error="missing")
    with pytest.warns(MissingModalityWarning, match="1 cell in 4 rows cannot be read"):
        proba = model.predict_proba(new)
    assert_allclose(proba, model.predict_proba(gaps))
    bad = X.assign(whole=X["whole"].astype(object))
    bad.loc[3, "whole"] = "cheap"
    with pytest.warns(MissingModalityWarning, match="'cheap' is not a number"):
        clone(model).fit(bad, Y)


def test_only_the_columns_of_a_strict_table_are_listed():
    X = table()[["whole", "real"]]
    lenient = TableTransformer([("n", StandardScaler(), ["whole"])], on_error="missing")
    strict = TableTransformer([("n", StandardScaler(), ["real"])])
    model = make_fusion_pipeline(
        [("a", lenient, ["whole"]), ("b", strict, ["real"])], FeatureFusionClassifier(LogisticRegression())
    ).fit(X, Y)
    new = with_cell("whole", "cheap").assign(real="dear")[["whole", "real"]]
    with pytest.raises(ColumnError, match="encode__b__on_error") as caught:
        model.predict(new)
    assert {row.column for row in caught.value.rows} == {"real"}


def test_fit_takes_bad_cells_as_missing_too():
    X = table()
    bad = X.assign(real=X["real"].astype(object))
    bad.loc[[3, 8], "real"] = "cheap", "dear"
    modalities = infer_modalities(bad, kinds={"real": "number"}, verbose=False)
    model = make_fusion_pipeline(modalities, FeatureFusionClassifier(LogisticRegression()))
    with pytest.raises(ColumnError, match="2 cells in 60 rows"):
        model.fit(bad, Y)
    model.set_params(encode__tabular__on_error="missing")
    with pytest.warns(MissingModalityWarning, match="2 cells in 60 rows .* count as missing") as caught:
        model.fit(bad, Y)
    assert len(caught) == 1
    gaps = X.assign(real=X["real"].mask(X.index.isin([3, 8])))
    assert_allclose(model.predict_proba(gaps), fit(gaps).predict_proba(gaps))


def test_many_bad_cells_are_shortened_in_the_warning():
    model = fit(on_error="missing")
    with pytest.warns(MissingModalityWarning, match=r"and 2 more \(all are in the attribute rows") as caught:
        model.predict(table().assign(real=[*["cheap"] * 7, *table()["real"][7:]]))
    assert len(caught[0].message.rows) == 7 and len(caught[0].message.report) == 7


def test_another_policy_is_refused(model):
    other = pickle.loads(pickle.dumps(model)).set_params(encode__tabular__on_error="skip")
    with pytest.raises(ValueError, match='on_error must be "raise" or "missing"; got \'skip\''):
        other.predict(with_cell("real", "cheap"))
    with pytest.raises(ValueError, match="on_error"):
        clone(other).fit(table(), Y)


def test_the_policy_is_kept_by_files_copies_and_split_models(tmp_path):
    model = fit(on_error="missing")
    new, gaps = with_cell("weight", "cheap"), with_cell("weight", None)
    want = model.predict_proba(gaps)
    for kept in (
        load_model(save_model(model, tmp_path / "m.fuse", example=table().head(3))),
        pickle.loads(pickle.dumps(model)),
        clone(model).fit(table(), Y),
    ):
        with pytest.warns(MissingModalityWarning, match="'cheap'"):
            assert_allclose(kept.predict_proba(new), want)
    with pytest.warns(MissingModalityWarning, match="'cheap'"):
        split_model(model).edge["tabular"].transform(new)
    model.set_params(encode__tabular__on_error="raise")
    with pytest.raises(ColumnError):
        split_model(model).edge["tabular"].transform(new)


def test_a_file_of_before_has_the_default():
    old = TableTransformer([("n", StandardScaler(), ["x"])])
    del old.__dict__["on_error"]
    assert old.on_error == "raise" and old.get_params()["on_error"] == "raise"


def test_date_and_category_columns_follow_the_policy():
    X = table()[["day", "paid"]]
    tables = TableTransformer(
        [("d", DateFeatures(), ["day"]), ("p", OneHotEncoder(handle_unknown="ignore"), ["paid"])],
        formats={"paid": {"kind": "boolean"}},
        on_error="missing",
    )
    model = make_fusion_pipeline([("t", tables, ["day", "paid"])], FeatureFusionClassifier(LogisticRegression()))
    model.fit(X, Y)
    with pytest.warns(MissingModalityWarning, match="2 cells in 4 rows"):
        model.predict(with_cell("day", "soon").assign(paid=["yes", "perhaps", "no", "no"])[["day", "paid"]])


# ---------------------------------------------------------------------- command line and server


def test_predict_report_and_server_follow_the_policy(model, path, tmp_path, capsys):
    source = tmp_path / "new.csv"
    new = table().assign(weight=["cheap", "dear", *table()["weight"][2:]], y=Y)
    new.to_csv(source, index=False)
    gaps = new.assign(weight=[None, None, *new["weight"][2:]])
    report = ["report", str(path), str(source), "--target", "y", "--rows", "0", "-o", str(tmp_path / "page.html")]
    assert main(report) == 1
    said = capsys.readouterr().err
    assert (
        "row 1, column 'weight': 'dear' is not a number. Correct these cells, leave them empty, or pass --on-error "
        "missing to take them as missing.\n"
    ) in said
    assert main([*report, "--on-error", "missing"]) == 0
    assert capsys.readouterr().err.count("2 cells in 60 rows cannot be read as the column requires, and count as") == 1
    lenient = save_model(
        pickle.loads(pickle.dumps(model)).set_params(encode__tabular__on_error="missing"),
        tmp_path / "lenient.fuse",
        example=table().head(3),
    )
    for name, options in ((path, ["--on-error", "missing"]), (lenient, [])):
        assert main(["predict", str(name), str(source), "-o", str(tmp_path / "said.csv"), "--overwrite", *options]) == 0
        said = pd.read_csv(tmp_path / "said.csv")
        assert_allclose(said["proba_1"], model.predict_proba(gaps)[:, 1], atol=1e-12)
        assert said["error"].notna().sum() == 2
    with client_of(lenient) as client:  # as with pictures, a request is told of its bad cells
        cells = {**table().iloc[1].to_dict(), "day": "2021-01-13", "sold": True, "text": 3, "weight": "cheap"}
        assert client.post("/predict", json={"rows": [cells]}).status_code == 422


def test_fit_on_the_command_line_takes_bad_cells_as_missing(tmp_path, capsys):
    cells = table()[["whole", "real"]].astype({"real": object}).assign(y=Y)
    cells.loc[[3, 8], "real"] = "cheap", "dear"
    cells.to_csv(tmp_path / "t.csv", index=False)
    argv = ["fit", str(tmp_path / "t.csv"), "--target", "y", "--kind", "real=number", "--strategy", "feature"]
    argv += ["-o", str(tmp_path / "m.fuse"), "--on-error", "missing"]
    assert main(argv) == 0
    said = capsys.readouterr()
    assert "'cheap'" in said.err + said.out and said.err.count("count as missing") <= 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1 cell is bad:\n  row 1: false\nCorrect it.", "1 cell is bad: row 1: false. Correct it."),
        ("Bad:\n  row 1: a\n  row 2: b.\nFix it.\nThen go on.", "Bad: row 1: a; row 2: b. Fix it. Then go on."),
        ("No list.", "No list."),
        ("", ""),
    ],
)
def test_a_message_in_one_line_ends_its_list_before_the_next_sentence(text, line):
    assert one_line(text) == line
