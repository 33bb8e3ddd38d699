"""A form that nearly all cells of a column are written in, the few that are not, and numbers far from those of fit."""

import ast
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ensemblefuse import (
    ColumnError,
    DecisionFusionClassifier,
    FarNumberWarning,
    FeatureFusionClassifier,
    KernelFusionClassifier,
    ModalityTransformer,
    UnseenCategoryWarning,
    infer_modalities,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.cli import main
from ensemblefuse.column_formats import majority_format, number_format, read_cell
from ensemblefuse.column_kinds import find_kind
from ensemblefuse.column_kinds._names import says_thing
from ensemblefuse.exceptions import counted
from ensemblefuse.schema import limits_of

N = 40
RNG = np.random.default_rng(5)
WHOLE, REAL = RNG.integers(40, 99, N).tolist(), RNG.uniform(0.2, 90, N).round(2).tolist()
Y = np.arange(N + 1) % 2

# The good cells, the bad one, and the kind.
COLUMNS = {
    "percents": ([f"{v} %" for v in WHOLE], "12 5%", "number"),
    "percents with a second sign": ([f"{v}%" for v in REAL], "12,5.%", "number"),
    "limits": ([f"<{0.5}" if i % 5 == 0 else f"{v}" for i, v in enumerate(REAL)], "<0,5", "censored"),
    "pairs": ([f"{v + 60}/{v}" for v in WHOLE], "12o/80", "numbers"),
    "sizes": ([f"{v}x{v + 3} cm" for v in WHOLE], "12x", "numbers"),
    "places": ([f"{v:.3f}, {-v / 2:.3f}" for v in REAL], "48,85; 2,35", "numbers"),
    "prices": ([f"€ {v:.2f}" for v in REAL], "€ 1 2.50", "number"),
    "another currency": ([f"€ {v:.2f}" for v in REAL], "$ 12.50", "number"),
    "another unit": ([f"{v} kg" for v in WHOLE], "12 cm", "number"),
    "a unit cut in two": ([f"{v} kg" for v in WHOLE], "12 k g", "number"),
    "decimals": ([f"{v:.2f}" for v in REAL], "12o", "number"),
    "the other decimal sign": ([f"{v:.2f}" for v in REAL], "1,25", "number"),
    "whole numbers": ([f"{v}" for v in WHOLE], "4O", "number"),
    "real numbers": (REAL, "12o", "number"),
    "real numbers and a word": (REAL, "cheap", "number"),
    "minutes": ([f"{v}:{v % 60:02d}" for v in WHOLE], "4:7o", "number"),
}


def column(form):
    good, bad, _ = COLUMNS[form]
    return pd.DataFrame({"x": pd.Series([*good[:7], bad, *good[7:]], dtype=object)})


def form_to_copy(error):
    return ast.literal_eval(re.search(r"infer_modalities\(df, formats=(\{.*\}\})\)", str(error.value))[1])


@pytest.mark.parametrize("form", COLUMNS)
def test_one_bad_cell_is_named_and_the_form_of_the_others_stays(form, capsys):
    X, (_, bad, kind) = column(form), COLUMNS[form]
    modalities = infer_modalities(X)
    line = " ".join(capsys.readouterr().out.partition("\n")[2].split())
    assert line.startswith(f"x {kind} ") and "40 of 41 cells are" in line and f"but {bad!r} in row 7 is not" in line
    assert find_kind(X["x"]).form.bad == (bad,)
    with pytest.raises(ColumnError) as caught:
        ModalityTransformer(modalities).fit(X)
    assert [(row.label, row.column, row.value) for row in caught.value.rows] == [(7, "x", repr(bad))]


@pytest.mark.parametrize("form", COLUMNS)
def test_the_line_to_copy_keeps_all_cells_but_the_bad_one(form):
    X, (_, bad, kind) = column(form), COLUMNS[form]
    with pytest.raises(ValueError, match="1 of 41 cells stops the fit") as caught:
        infer_modalities(X, strict=True)
    assert "'drop'" not in str(caught.value) and f"{bad!r}" in str(caught.value) and "in row 7" in str(caught.value)
    formats = form_to_copy(caught)
    assert formats["x"]["kind"] == kind
    ((_, table, _),) = infer_modalities(X, formats=formats, verbose=False)
    held = ModalityTransformer([("t", table, ["x"])]).fit_transform(X).to_numpy()
    good = np.delete(held, 7, axis=0)
    assert np.isnan(held[7]).all() and np.isfinite(good).all() and len(np.unique(good, axis=0)) > 10


@pytest.mark.parametrize("form", ["percents", "limits", "pairs", "another currency"])
def test_declared_kinds_and_own_pipelines_name_the_bad_cell_alone(form, capsys):
    X, (_, bad, kind) = column(form), COLUMNS[form]
    infer_modalities(X, kinds={"x": kind})
    assert "1 of 41 cells stops the fit" in " ".join(capsys.readouterr().out.split())
    if kind == "number":
        with pytest.raises(ColumnError) as caught:
            ModalityTransformer([("t", StandardScaler(), ["x"])]).fit(X)
        assert [row.value for row in caught.value.rows] == [repr(bad)]


NOT_SO = {
    "codes": [*map(str, WHOLE), "12A"],
    "several codes": [*map(str, WHOLE), "12/3", "14-15a", "see 9", "x2"],
    "many others": [*[f"{v} %" for v in WHOLE[:20]], *"abcdefgh"],
    "codes with zeros": [*[f"0{v}" for v in WHOLE], "1 2"],
    "addresses": [f"{v} Main Street {i}" for i, v in enumerate(WHOLE)],
    "few cells": ["1%", "2%", "3 4%"],
    "no bad cell": [f"{v} %" for v in WHOLE],
}


@pytest.mark.parametrize("cells", NOT_SO.values(), ids=NOT_SO)
def test_other_texts_are_no_bad_cells(cells):
    assert majority_format(cells) is None


def test_a_value_of_several_cells_is_a_category_and_no_bad_cell():
    cells = ["10%", "20%", "30%"] * 9
    assert find_kind(pd.Series([*cells, "1 0%"])).kind == "number"
    assert find_kind(pd.Series([*cells, *["1 0%"] * 3])).kind == "category"


def test_a_letter_behind_one_number_is_no_unit_of_all():
    assert number_format(["1.5", "2.25", "3.5", "4.75", "5.5", "1.2e"]) is None
    assert number_format(["1.5 e", "2.25 e", "3"]) is not None


# ---------------------------------------------------------------------- currencies


PRICES = {
    "CHF": "Fr. 20.-|SFr. 19.90|CHF 20.--|sfr 5|Fr. 1'200.-|20.- Fr.|(Fr. 20.-)",
    "INR": "Rs. 1,200/-|₹ 5|Rs 1,20,000",
    "USD": "US$ 5|US $5|USD $5.00|5 US$",
    "EUR": "€ 5,-|5 EUR|5,– €|-€5",
    "GBP": "£5.00|￡5",
    "PLN": "5,00 zł|1 234,50 zł",
    "¥": "￥100|¥1,000",
    "JPY": "100円|1万円",
    "CNY": "100元|人民币100元|¥100元",
    "kr": "Kr. 5|5,- kr|20:- kr",
    "IDR": "Rp 5|Rp. 5",
}


@pytest.mark.parametrize("currency", PRICES)
def test_spellings_of_currencies(currency):
    for cell in PRICES[currency].split("|"):
        found = number_format([cell])
        assert found is not None and found.format["currency"] == currency, cell
        digits = float(re.sub(r"[^\d.]", "", re.sub(r"(?<=\d)[.,:](?:-+|–)|,(?=00\b|50\b)00|^\D*\.", "", cell)) or 0)
        assert digits == 0 or read_cell(cell, found.format) != 0
    assert read_cell("Fr. 1'200.-", number_format(["Fr. 1'200.-"]).format) == 1200
    assert read_cell("(Fr. 20.-)", number_format(["(Fr. 20.-)"]).format) == -20


def test_codes_are_no_prices():
    for code in ("RP129", "TL45", "SR 12", "Q20"):
        assert number_format([code]) is None


# ---------------------------------------------------------------------- what lines say


def test_examples_are_cells_as_they_stand():
    found = number_format(["129.-", "99.-", "CHF 4"] * 5)
    assert found.choice == "10 of 15 cells, such as '129.-', have no unit, and are read as CHF"
    assert "'1,234 kg' is read as 1234" in number_format(["1,234 kg", "5,100 kg"]).choice
    assert "' 4:05' is read as 4 minutes" in number_format([" 4:05", "5:12"]).choice


def test_numbers_without_the_percent_sign_of_the_others_are_counted():
    half = [f"{v}%" if i % 2 else f"{v}" for i, v in enumerate(WHOLE)]
    mixed = [f"{v}%" if i % 3 else v / 2 for i, v in enumerate([5, *WHOLE[1:]])]
    for cells, told in ((half, "20 of 40 cells, such as '"), (mixed, "14 of 40 cells, such as 2.5, have no unit")):
        found = find_kind(pd.Series(cells, dtype=object))
        assert found.kind == "number" and told in found.choice and "are read as %" in found.choice
        with pytest.raises(ValueError, match="several readings"):
            infer_modalities({"x": cells}, strict=True)


@pytest.mark.parametrize(
    ("name", "values", "kind", "choice"),
    [
        ("customer", WHOLE[:8], "category", "number"),
        ("Kundennummer", WHOLE[:8], "category", "number"),
        ("客户编号", WHOLE[:8], "category", "number"),
        ("storeNr", WHOLE[:8], "category", "number"),
        ("customer_no", range(1000, 1090), "identifier", "number"),
        ("customer", range(1000, 1090), "number", "identifier"),
        ("customers", WHOLE[:8], "number", None),
        ("n_customer", WHOLE[:8], "number", None),
        ("doctor", range(12), "number", None),
        ("customer_age", WHOLE[:8], "number", None),
    ],
)
def test_whole_numbers_that_say_who_or_what_are_no_amounts(name, values, kind, choice):
    cells = np.random.default_rng(1).permutation(np.resize(list(values), 180))
    found = find_kind(pd.Series(cells, name=name))
    assert (found.kind, found.choice) == (kind, choice and f"could also be: {choice}")
    assert says_thing(name) == ("the name says who or what" in found.seen or name == "doctor")


# ---------------------------------------------------------------------- prediction


def fitted(X, **settings):
    return make_fusion_pipeline(
        infer_modalities(X, verbose=False), FeatureFusionClassifier(LogisticRegression(), **settings)
    ).fit(X, np.arange(len(X)) % 2)


def test_tags_that_fit_never_saw_are_counted_in_rows():
    X = pd.DataFrame({"tags": [["red", "blue"], ["red"], ["blue"], []] * 10})
    with pytest.warns(UnseenCategoryWarning) as caught:
        fitted(X).predict(pd.DataFrame({"tags": [["u", "v", "w", "u"], ["u", "x"], ["red"]]}))
    assert str(caught[0].message) == (
        "Column 'tags' holds tags that fit never saw in 2 of 3 rows: 'u' in 2, 'v' in 1, 'w' in 1, 'x' in 1. The model "
        "knows nothing of them."
    )


@pytest.fixture(scope="module")
def sizes():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"size": rng.uniform(9, 12, 60), "price": np.exp(rng.normal(3, 1.5, 60)), "same": 3.0})


@pytest.fixture(scope="module")
def model(sizes):
    return fitted(sizes)


def test_numbers_far_outside_the_range_of_fit_are_told_of(model, sizes, tmp_path):
    new = sizes.head(4).assign(size=[1015, 10, -400, 13])
    told = (
        r"Column 'size' holds numbers far outside the range of fit, 9\.\d+ to 1[12]\.?\d*, in 2 of 4 rows: 1015, -400\."
        r" The model knows nothing of such rows"
    )
    with pytest.warns(FarNumberWarning, match=told) as caught:
        proba = model.predict_proba(new)
    assert len(caught) == 1 and np.isfinite(proba).all()
    path = save_model(model, tmp_path / "m.fuse", example=sizes.head(3))
    with pytest.warns(FarNumberWarning, match=told):
        load_model(path).predict(new)
    del model["encode"].numeric_limits_["size"]  # as in files of older versions
    try:
        model.predict(new)
    finally:
        model["encode"].numeric_limits_["size"] = limits_of(sizes["size"].to_numpy())


def test_honest_new_rows_cause_no_such_warning(model, sizes):
    rng = np.random.default_rng(1)
    for price in np.exp(rng.normal(3, 1.5, 60)):
        model.predict(sizes.head(1).assign(price=price, size=rng.uniform(8, 13)))
    model.predict(sizes.head(2).assign(same=[3.0, 900.0]))  # nobody knows how far equal numbers reach
    model.predict(sizes.head(2).assign(size=[np.nan, 10.0]))


def test_the_command_line_tells_of_far_numbers_once(model, sizes, tmp_path, capsys):
    path = save_model(model, tmp_path / "m.fuse", example=sizes.head(3))
    sizes.head(9).assign(size=[1015.0, *[10.0] * 7, 2000.0]).to_csv(tmp_path / "t.csv", index=False)
    argv = ["predict", str(path), str(tmp_path / "t.csv"), "-o", str(tmp_path / "o.csv"), "--chunk-rows", "2"]
    assert main(argv) == 0
    said = capsys.readouterr().err
    assert said.count("far outside the range of fit") == 1 and "in 2 of 9 rows: 1015, 2000." in said


# ---------------------------------------------------------------------- messages


FUSIONS = [FeatureFusionClassifier(LogisticRegression()), DecisionFusionClassifier(cv=2), KernelFusionClassifier()]


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: type(fusion).__name__)
def test_messages_on_blocks_name_the_column(fusion):
    Z = pd.DataFrame({"a__0": REAL, "a__1": REAL, "b__0": REAL}, index=[f"r{i}" for i in range(N)])
    y = Y[:N]
    with pytest.raises(ValueError, match=r"\['a'\] hold raw cells .*column 'a__1'"):
        fusion.fit(Z.assign(a__1=["word", *["text"] * (N - 1)]), y)
    Z.loc["r3", "a__1"] = -np.inf
    told = "Block 'a' holds infinity in 1 row, first -inf in row 'r3', column 'a__1'. Correct such numbers"
    for table in (Z, Z.astype({"b__0": object})):
        with pytest.raises(ValueError, match=told):
            fusion.fit(table, y)


def test_one_is_no_plural():
    assert counted(1, "row", "hold") == "1 row holds" and counted(0, "cell", "are") == "0 cells are"
    assert counted(1234567, "value") == "1234567 values" and counted(1.5, "word") == "1.5 words"


def test_numbers_that_are_nearly_all_the_same_have_limits():
    low, high = limits_of(np.array([0, 0, 0, 1e-320, 2e-320, 3e-320, 1.0]))
    assert (low, high) == (-5, 6)
