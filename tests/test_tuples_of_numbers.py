"""Columns whose cells say more than one number: limits such as <0.5, and a fixed count of numbers such as 5x6x7 cm."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from serving_case import client_of
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from ensemblefuse import (
    CensoredFeatures,
    ColumnError,
    FeatureFusionClassifier,
    NumberFeatures,
    TableTransformer,
    explain_row,
    infer_modalities,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.cli import main
from ensemblefuse.column_formats import (
    UnreadableCell,
    censored_format,
    full_format,
    number_format,
    numbers_format,
    read_cell,
)
from ensemblefuse.column_kinds import find_kind
from ensemblefuse.compose import ModalityTransformer
from ensemblefuse.schema import checked_schema

N = 48
RNG = np.random.default_rng(4)
Y = np.arange(N) % 2
LAB = [f"{v:.2f}" for v in RNG.gamma(2, 3, N) + 0.5]
LAB[3], LAB[10], LAB[20] = "<0.5", "< 0.5", "≥ 30"
SIZES = [f"{a}x{b}x{c} cm" for a, b, c in RNG.integers(1, 90, (N, 3))]
PRESSURE = [f"{a}/{b}" for a, b in zip(RNG.integers(100, 180, N), RNG.integers(60, 99, N), strict=True)]
PLACES = [f"{a:.3f}, {b:.3f}" for a, b in zip(RNG.uniform(-90, 90, N), RNG.uniform(-180, 180, N), strict=True)]


def table():
    return pd.DataFrame({"crp": LAB, "box": SIZES, "bp": PRESSURE, "place": PLACES, "kids": ["0", "1", "2", "3+"] * 12})


def modalities():
    return infer_modalities(table(), verbose=False)


def model():
    return make_fusion_pipeline(modalities(), FeatureFusionClassifier(LogisticRegression())).fit(table(), Y)


# ---------------------------------------------------------------------- what is found


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["<5", "7", "12.5", "30"], [(5, 1, 0), (7, 0, 0), (12.5, 0, 0), (30, 0, 0)]),
        (["≤ 3", "4", "6", ">= 100", "9"], [(3, 1, 0), (4, 0, 0), (6, 0, 0), (100, 0, 1), (9, 0, 0)]),
        (["＜5", "7", "8", "9", "10+"], [(5, 1, 0), (7, 0, 0), (8, 0, 0), (9, 0, 0), (10, 0, 1)]),
        (["<0,5 mg/l", "1,2 mg/l", "3 mg/l", "0,9 mg/l"], [(0.5, 1, 0), (1.2, 0, 0), (3, 0, 0), (0.9, 0, 0)]),
        (["<5", 7, 8.5, 12, 3], [(5, 1, 0), (7, 0, 0), (8.5, 0, 0), (12, 0, 0), (3, 0, 0)]),
        (["> 1,000", "2,500", "800", "12"], [(1000, 0, 1), (2500, 0, 0), (800, 0, 0), (12, 0, 0)]),
    ],
)
def test_a_limit_is_kept_with_its_side(cells, values):
    found = censored_format(cells)
    assert [read_cell(cell, found.format) for cell in cells] == values
    assert [read_cell(cell, found.format) for cell in values] == values  # explanations give cells that were read
    assert read_cell("n/a", found.format) is None and read_cell(" ", found.format) is None
    assert full_format("x", {"kind": "censored"})["kind"] == "censored"


@pytest.mark.parametrize(
    "cells",
    [
        ["<18", ">65", "<18", ">65"],  # classes
        ["1", "2", "3", "4"],  # no limits
        ["<18", "18-65", ">65", "30"],
        ["<b>", "1", "2", "3"],
        ["3 > 2", "1", "2", "3"],
        ["<", "1", "2", "3"],
    ],
)
def test_other_signs_make_no_limits(cells):
    assert censored_format(cells) is None


def test_the_line_says_how_many_cells_are_limits():
    found = find_kind(pd.Series(LAB))
    assert (found.kind, found.choice) == ("censored", None)
    assert found.seen == "numbers written as text, but only a limit in 3 of 48 cells, such as '<0.5'"
    assert find_kind(pd.Series(["0", "1", "2", "3+"] * 12)).kind == "censored"
    assert find_kind(pd.Series([*map(str, range(20, 60, 2)), "40ish"] * 2, name="age")).form.bad == ("40ish",)
    assert number_format(["5+", "3", "2"]) is None and number_format(["40 ish"]) is None
    assert number_format(["5+", "10+", "0"]) is not None  # all but 0 are such limits


@pytest.mark.parametrize(
    ("cells", "told", "first"),
    [
        (SIZES, "3 numbers with 'x' between them, lengths in cm", None),
        (["10 cm x 20 mm", "3 cm × 4 cm", "5 cm * 6 cm"], "2 numbers with 'x' between them, lengths in cm", (10, 2)),
        (
            ["1920 x 1080 px", "640x480px", "1280X720 px"],
            "2 numbers with 'x' between them, numbers with 'px'",
            (1920, 1080),
        ),
        (PRESSURE, "2 numbers with '/' between them", None),
        (PLACES, "2 numbers with ',' between them", None),
        (["(48.85, 2.35)", "[51.50,-0.12]", "(40.71, -74.00)"], "2 numbers with ',' between them", (48.85, 2.35)),
    ],
)
def test_a_fixed_count_of_numbers_is_found(cells, told, first):
    found = numbers_format([*cells, "n/a"])
    assert found.seen == told
    values = [read_cell(cell, found.format) for cell in cells]
    assert len(set(map(len, values))) == 1 and values[0] == (first or values[0])
    assert read_cell("-", found.format) is None and read_cell(list(values[0]), found.format) == values[0]
    with pytest.raises(UnreadableCell, match="as in fit"):
        read_cell("5", found.format)


@pytest.mark.parametrize(
    "cells",
    [
        ["1/2/2020", "3/4/2020", "5/6/2021"],  # dates
        ["1/2", "3/4", "5/8"],  # fractions
        ["12/21", "01/22", "11/23"],  # months
        ["3 1/2", "4 1/2", "5 1/4"],
        ["3-2", "0-1", "5-5"],  # scores
        ["3:2", "0:1", "5:5"],
        ["1.2.3", "1.10.0", "2.0.1"],  # versions
        ["12-34-56", "98-76-54", "11-22-33"],
        ["030/1234567", "040/7654321", "089/1112223"],  # telephones
        ["1,5", "2,25", "3,75"],
        ["5x6", "5x6x7", "1x2"],  # several counts
        ["5x6", "broken 3x", "1x2"],
        ["120/80", "a/b", "130/85"],
        ["x", "a x b", "2xl"],
    ],
)
def test_other_texts_are_no_columns_of_numbers(cells):
    assert numbers_format(cells) is None
    assert find_kind(pd.Series(cells * 8)).kind not in ("numbers", "censored")


def test_scores_are_numbers_if_somebody_says_so():
    scores = pd.DataFrame({"score": [f"{a}-{b}" for a, b in RNG.integers(0, 9, (N, 2))]})
    assert find_kind(scores["score"]).kind == "string"
    ((_, made, _),) = infer_modalities(scores, kinds={"score": "numbers"}, verbose=False)
    names = ModalityTransformer([("t", made, ["score"])]).fit(scores).get_feature_names_out().tolist()
    assert names == ["t__numbers__score_1", "t__numbers__score_2"]
    with pytest.raises(ValueError, match="is 'numbers', but its cells are not several numbers"):
        infer_modalities(pd.DataFrame({"score": ["a", "b"]}), kinds={"score": "numbers"})
    with pytest.raises(ValueError, match=r"'<5' is not a number in row 0; .* declare 'censored'"):
        infer_modalities(pd.DataFrame({"x": ["<5", "7", "8", "9"]}), kinds={"x": "number"}, strict=True)


# ---------------------------------------------------------------------- in a model


def test_the_columns_of_a_model_have_names_and_marks():
    made = ModalityTransformer(modalities()).fit(table())
    names = [name.removeprefix("tabular__") for name in made.get_feature_names_out()]
    assert names == [
        *(f"censored__{column}{end}" for column in ("crp", "kids") for end in ("", "_below", "_above")),
        *("numbers__box_1", "numbers__box_2", "numbers__box_3", "numbers__bp_1", "numbers__bp_2"),
        *("numbers__place_1", "numbers__place_2"),
    ]
    assert {column: held["kind"] for column, held in made.schema_.items()} == {
        **{"crp": "censored", "kids": "censored", "box": "numbers", "bp": "numbers", "place": "numbers"}
    }
    values = made.transform(table())
    marked = values["tabular__censored__crp_below"]
    assert (marked == marked.max()).sum() == 2


def test_folds_read_the_form_of_the_whole_table():
    """A fold without limits reads them later, and one of limits alone as well."""
    fusion = FeatureFusionClassifier(LogisticRegression())
    scores = cross_val_score(make_fusion_pipeline(modalities(), fusion), table(), Y, cv=6, error_score="raise")
    assert len(scores) == 6
    without = table().drop(index=[3, 10, 20]).iloc[:20]
    fitted = make_fusion_pipeline(modalities(), clone(fusion)).fit(without, Y[: len(without)])
    assert np.isfinite(fitted.predict_proba(table())).all()


def test_files_pickles_and_command_line_say_the_same(tmp_path, capsys):
    fitted = model()
    said = fitted.predict_proba(table())
    assert_allclose(pickle.loads(pickle.dumps(fitted)).predict_proba(table()), said)
    path = save_model(fitted, tmp_path / "m.fuse", example=table().head(3))
    assert_allclose(load_model(path).predict_proba(table()), said)
    assert checked_schema(load_model(path)["encode"].schema_)
    new = table()
    new.loc[0, "crp"], new.loc[1, "box"] = "n/a", None
    new.to_csv(tmp_path / "new.csv", index=False)
    assert main(["predict", str(path), str(tmp_path / "new.csv"), "-o", str(tmp_path / "out.csv"), "-q"]) == 0
    assert_allclose(pd.read_csv(tmp_path / "out.csv")["proba_1"], fitted.predict_proba(new)[:, 1], atol=1e-9)
    table().assign(y=Y).to_csv(tmp_path / "t.csv", index=False)
    argv = ["fit", str(tmp_path / "t.csv"), "--target", "y", "--strategy", "feature", "-o", str(tmp_path / "c.fuse")]
    assert main(argv) == 0
    assert "only a limit in 3 of 48 cells" in " ".join(capsys.readouterr().out.split())


def test_the_server_takes_the_texts_of_a_table(tmp_path):
    fitted = model()
    path = save_model(fitted, tmp_path / "m.fuse", example=table().head(3))
    rows = table().head(12)
    with client_of(path) as client:
        said = client.post("/predict", json={"rows": rows.to_dict("records")}).json()["predictions"]
        assert_allclose([answer["probabilities"]["1"] for answer in said], fitted.predict_proba(rows)[:, 1], atol=1e-9)
        told = client.post("/predict", json={"rows": [{**rows.iloc[0].to_dict(), "crp": "low"}]})
        assert told.status_code == 422 and "'low' is not a number" in told.text


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("crp", "<low", "'<low' is not a number"),
        ("crp", "1e300", "too large"),
        ("box", "5x6", "is not 3 numbers with 'x' between them, as in fit"),
        ("box", "5x6x7 kg", "is in 'kg', and the column held 'cm' in fit"),
        ("bp", 120, "120 is not 2 numbers"),
        ("place", "48.1, north", "is not 2 numbers"),
    ],
)
def test_other_cells_are_errors_that_name_them_or_missing(column, cell, reason):
    fitted = model()
    new = table().head(3).astype(object)
    new.loc[1, column] = cell
    with pytest.raises(ColumnError, match=reason) as caught:
        fitted.predict(new)
    assert [(row.label, row.column) for row in caught.value.rows] == [(1, column)]


def test_a_row_is_explained_by_its_columns():
    fitted = model()
    effects = explain_row(fitted, table(), 3, background=table()).parts["tabular"].effects
    assert len(effects) == 5 and np.isfinite(effects).all()


@pytest.mark.parametrize("column", ["crp", "box"])
def test_a_transformer_alone_finds_the_form_in_fit(column):
    part = CensoredFeatures() if column == "crp" else NumberFeatures()
    made = ModalityTransformer([("t", TableTransformer([("p", part, [column])]), [column])]).fit(table())
    assert made.schema_[column]["kind"] == ("censored" if column == "crp" else "numbers")
    later = pd.DataFrame({column: [12.5, "<2"] if column == "crp" else ["1x2x3", None]})
    values = made.transform(later).to_numpy()
    assert_allclose(values[0], [12.5, 0, 0] if column == "crp" else [1, 2, 3])


def test_a_limit_that_fit_never_saw_is_marked_later():
    X = pd.DataFrame({"crp": ["<0.5", "1.2", "0.9", "4", "5"]})
    later = pd.DataFrame({"crp": [">100", "100", "<0.1"]})
    made = CensoredFeatures().fit(X)
    assert made.get_feature_names_out().tolist() == ["crp", "crp_below", "crp_above"]
    assert_allclose(made.transform(later), [[100, 0, 1], [100, 0, 0], [0.1, 1, 0]])
    ((_, part, _),) = infer_modalities(X, kinds={"crp": "censored"}, verbose=False)
    table = ModalityTransformer([("t", part, ["crp"])]).fit(X).transform(later)
    assert np.isfinite(table.to_numpy()).all()
    assert (table["t__censored__crp_above"] > 0).tolist() == [True, False, False]


def test_a_transformer_of_before_keeps_its_columns():
    made = CensoredFeatures().fit(pd.DataFrame({"crp": ["<0.5", "1.2"]}))
    made.kept_ = [[0, 1]]  # older versions left out marks that fit never saw
    assert made.get_feature_names_out().tolist() == ["crp", "crp_below"]
    assert_allclose(made.transform(pd.DataFrame({"crp": ["<2", "3"]})), [[2, 1], [3, 0]])


def test_transformers_refuse_what_is_no_number():
    with pytest.raises(TypeError, match=r"'a' in row 1, which is no number, and no limit such as '<0.5'"):
        CensoredFeatures().fit(pd.DataFrame({"x": ["1", "a"]}))
    with pytest.raises(TypeError, match=r"in row 1, which is no tuple of 2 numbers, as in fit"):
        NumberFeatures().fit(pd.DataFrame({"x": pd.Series([(1.0, 2.0), (1.0,)])}))
    gone = NumberFeatures().fit_transform(pd.DataFrame({"x": [None, None]}))
    assert gone.shape == (2, 1) and np.isnan(gone).all()
