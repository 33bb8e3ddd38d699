"""Which columns are taken for identifiers, and left out: a lost measure costs more than a row number."""

import numpy as np
import pandas as pd
import polars
import pytest

from ensemblefuse import infer_modalities
from ensemblefuse.column_kinds import find_kind
from ensemblefuse.column_kinds._names import says_code, says_quantity, says_rank, says_row

N = 60
RNG = np.random.default_rng(0)
PERMUTED = RNG.permutation(N) + 1
TYPES = {
    "int": lambda values: pd.Series(values, dtype="int64"),
    "float": lambda values: pd.Series(values, dtype=float),
    "nullable": lambda values: pd.Series([*values, None], dtype="Int64"),
    "object": lambda values: pd.Series(list(map(int, values)), dtype=object),
    "str": lambda values: pd.Series(list(map(str, values)), dtype=object),
    "string": lambda values: pd.Series(list(map(str, values)), dtype="string"),
    "polars": lambda values: polars.Series(values).to_pandas(),
}


def kind_of(cells, name="x"):
    found = find_kind(pd.Series(cells).rename(name))
    return found.kind, found.choice and found.choice.removeprefix("could also be: ")


def printed(capsys):
    """Return what was printed, in one line."""
    return " ".join(capsys.readouterr().out.split())


def test_words_of_names():
    quantities = (
        "Year yearID YEAR birth_year season_id day_no Baujahr Verkaufspreis année edad order_total 出生年份 价格(元)"
    )
    assert [name for name in quantities.split() if not says_quantity(name)] == []
    rows = "id|userID|Unnamed: 0|obs|Perch.Obs|case_no|Kundennummer|Lfd. Nr.|№|#|序号|番号|numéro|size_id|area_number"
    assert [name for name in rows.split("|") if not says_row(name)] == []
    others = "number_of_rooms|num_children|no_of_doors|No. of seats|paid|acid|note|x"
    assert [name for name in others.split("|") if says_row(name)] == []
    assert [name for name in ("phone", "Telefon", "手机号", "area_code", "order") if not says_code(name)] == []
    assert says_rank("Rang") and says_rank("世界排名") and not says_rank("frank")


@pytest.mark.parametrize("name", ["area", "Preis", "x"])
@pytest.mark.parametrize(
    "form", ["{} m²", "$ {}", "{}.00 €", "CHF {}.50", "{} %", "{} reviews", "{},00", "{} km/h"], ids=lambda form: form
)
def test_what_has_a_unit_or_decimals_names_nothing(form, name):
    for values in (PERMUTED, np.arange(1, N + 1)):
        assert kind_of([form.format(v) for v in values], name) == ("number", None)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("first", "name", "expected"),
    [
        (1, "x", ("identifier", "number")),
        (0, "case", ("identifier", "number")),
        (104, "Perch.Obs", ("identifier", "number")),
        (5, "Unnamed: 0", ("identifier", "number")),
        (1970, "x", ("number", "identifier")),
        (1970, "yearID", ("number", "identifier")),
        (1, "day_of_year", ("number", "identifier")),
        (1, "Monat", ("number", "identifier")),
        (1, "年龄", ("number", "identifier")),
        (58, "height", ("number", "identifier")),
        (11344, "x", ("number", "identifier")),
    ],
)
def test_steps_of_one_count_rows_if_they_begin_with_the_first_or_the_name_says_so(dtype, first, name, expected):
    assert kind_of(TYPES[dtype](np.arange(first, first + N)), name) == expected


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("first", "name", "expected"),
    [
        (0, "x", ("identifier", "number")),
        (1000, "district", ("identifier", "number")),
        (0, "day", ("number", "identifier")),
        (1, "Distanz_km", ("number", "identifier")),
        (0, "世界排名", ("number", "identifier")),
        (1900, "x", ("number", "identifier")),
        (-155, "x", ("number", None)),
    ],
)
def test_distinct_numbers_in_a_short_range(dtype, first, name, expected):
    assert kind_of(TYPES[dtype](PERMUTED + first), name) == expected


def test_a_letter_behind_an_identifier_is_no_unit():
    assert kind_of([f"{v}A" if v % 9 == 0 else f"{v}" for v in PERMUTED], "ID")[0] == "identifier"
    assert kind_of([f"{v} km" for v in PERMUTED], "ID")[0] == "identifier"


def test_several_columns_of_distinct_numbers_are_ranks(capsys):
    table = {name: np.random.default_rng(k).permutation(N) for k, name in enumerate(("wealth", "crime", "gifts"))}
    assert infer_modalities(table)[0][2] == ["wealth", "crime", "gifts"]
    assert printed(capsys).count("3 columns are such: ranks (could also be: identifier)") == 3
    assert infer_modalities({"wealth": table["wealth"], "again": table["wealth"], "z": [1.5, 2] * 30})[0][2] == ["z"]
    texts = {name: [f"{value}" for value in values] for name, values in table.items()}
    assert infer_modalities(polars.DataFrame(texts), verbose=False)[0][2] == list(table)
    for kinds in ({"crime": "drop"}, {"crime": "drop", "gifts": "number"}):
        assert infer_modalities(table, kinds=kinds, verbose=False)[0][2] == ["wealth", "gifts"]


EIGHT = RNG.integers(10_000_000, 99_999_999, N)


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        (EIGHT, "x", ("number", "identifier")),
        (EIGHT, "volume", ("number", None)),
        (EIGHT, "Umsatz", ("number", None)),
        (EIGHT, "Bestellnummer", ("identifier", "number")),
        (EIGHT, "phone", ("identifier", "number")),
        (EIGHT, "电话", ("identifier", "number")),
        (EIGHT // 100 * 100, "x", ("number", "identifier")),
        (EIGHT * 100_000 + 7, "x", ("identifier", "number")),
        (EIGHT * 100_000, "x", ("number", "identifier")),
    ],
)
def test_long_numbers_are_codes_if_the_name_says_so_or_they_have_ten_digits(values, name, expected):
    for cells in (values, values.astype(float), values.astype(str)):
        assert kind_of(cells, name) == expected


def test_numbers_of_eight_digits_with_thousands_are_measured():
    assert kind_of([f"{v:,}" for v in EIGHT]) == ("number", None)


TEXTS = {
    "codes": ([f"{'KLM'[i % 3]}{v:03d}" for i, v in enumerate(PERMUTED)], ("identifier", "string")),
    "names with numbers": (
        [f"{v + 100}-{['Bois', 'Lac', 'Mont'][v % 3]}ville" for v in PERMUTED],
        ("identifier", "string"),
    ),
    "stations": ([f"Station {v}" for v in PERMUTED], ("identifier", None)),
    "weeks": ([f"Woche {v}" for v in PERMUTED], ("identifier", "string")),
    "versions": ([f"5.{v}.{v % 7}" for v in PERMUTED], ("string", None)),
    "places": ([f"{v}°{v % 50 + 10}'N" for v in PERMUTED], ("string", None)),
    "brackets": ([f"[{v + 200}]" if v % 4 == 0 else f"{v * 1.37:.4f}" for v in PERMUTED], ("string", "number")),
    "codes of which most are numbers": (
        [f"M{v}" if v % 9 == 0 else f"{v % 50}" for v in PERMUTED],
        ("string", "number"),
    ),
    "numbers, some with letters": (
        [f"{v}{['B', 'DF', 'XY'][v % 3]}" if v % 5 == 0 else f"{v % 50}" for v in PERMUTED],
        ("string", "number"),
    ),
    "a remark among numbers": (["see 2", *(f"{v * 1.37:.1f}" for v in PERMUTED)], ("number", None)),
    "ordinals": ([["1st", "2nd", "3rd", "*"][v % 4] if v % 20 else "*" for v in PERMUTED], ("category", None)),
    "codes of several letters": (
        [f"{v}{['A', 'B', 'DF', 'G'][v % 4]}" if v % 8 else "Unk" for v in PERMUTED],
        ("string", None),
    ),
    "people": ([f"{a}en Miss {b}a Walt" for a in "ABCDEFG" for b in "KLMNOPQR"], ("text", "string")),
    "shouted": ([f"THE {a} WAS {b} AGAIN" for a in "ABCDEFG" for b in "KLMNOPQR"], ("text", None)),
    "phrases": ([f"the {a} was {b} again" for a in "ABCDEFG" for b in "klmnopqr"], ("text", None)),
}


@pytest.mark.parametrize("form", TEXTS)
def test_texts_that_look_like_codes(form):
    cells, expected = TEXTS[form]
    assert kind_of(cells) == expected


def test_the_row_and_the_text_that_is_no_number_are_named():
    found = find_kind(pd.Series(TEXTS["codes of which most are numbers"][0], name="course"))
    assert "cells are numbers, but 'M" in found.seen and "in row " in found.seen


def test_languages_of_films_are_tags_and_names_of_two_firms_may_be_names():
    rare = [f"Lang{k}" for k in range(40)]
    films = ["English", "French", "English, French", "French, English", "German, English"] * 200
    films += [f"{language}, English" for language in rare] + [f"English, {language}" for language in rare]
    assert kind_of(films) == ("tags", "category")
    firms = [f"Firm{k}" for k in range(12)] * 3 + [f"Paper{k}/Pollster{k}" for k in range(12)] * 2
    assert kind_of(firms)[0] != "tags" or "string" in kind_of(firms)[1]


def test_groups_are_told_from_rows(capsys):
    infer_modalities(
        {"userId": np.arange(600) // 3, "rowId": np.arange(600), "playerID": [f"p{i % 300}" for i in range(600)]}
    )
    users, rows = printed(capsys).partition(" rowId ")[::2]
    rows, players = rows.partition(" playerID ")[::2]
    assert "names groups of rows; pass it to fit as groups" in users and "names groups of rows" in players
    assert rows.endswith("it is a leak; a model would learn it by heart")


def test_blanks_zeros_and_addresses_are_told_as_they_are():
    assert find_kind(pd.Series(["", None, None])).seen == "1 cell holds only blanks, and the others nothing"
    codes = [f"{v:04d}" if v % 9 == 0 else f"{v + 1000}" for v in PERMUTED]
    assert ", some with zeros at the beginning" in find_kind(pd.Series(codes)).seen
    links = [f"http://www.shop.test/used/{'bikes-in-town/' * 5}{v}" for v in PERMUTED]
    assert find_kind(pd.Series(links)).seen.startswith("addresses, such as 'http://www.shop.test/used/")


def test_chinese_names_stand_in_line(capsys):
    infer_modalities({"商品名称": [1.5, 2.5, 4], "a": ["x", "y", "x"]})
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0].startswith("column    kind")
        and lines[1].startswith("商品名称  number")
        and lines[2].startswith("a         ")
    )
