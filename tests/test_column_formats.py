"""Written forms of cells: what is written and read again is the same, and what is unclear is said or refused."""

import _strptime
import contextlib
import datetime
import json
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemblefuse.column_formats import (
    UnreadableCell,
    boolean_format,
    date_format,
    full_format,
    number_clash,
    number_format,
    read_cell,
    tag_format,
    unit_clash,
)
from ensemblefuse.column_formats import _dates as dates
from ensemblefuse.column_kinds import column_kind, find_kind
from ensemblefuse.schema import checked_schema


def read(find, cells, *later):
    """What a column says by the format that is found in it; later cells are read by the same format."""
    found = find(cells)
    assert found is not None, f"no format in {cells[:5]}"
    assert json.loads(json.dumps(found.format)) == found.format
    return [read_cell(cell, json.loads(json.dumps(found.format))) for cell in (*cells, *later)]


# ---------------------------------------------------------------------- numbers


def written(cents, decimal, thousands, before, after, accounting):
    """A number of cents as people write it."""
    whole, rest = divmod(abs(cents), 100)
    text = f"{before}{whole:,}".replace(",", thousands) + f"{decimal}{rest:02d}{after}"
    return text if cents >= 0 else f"({text})" if accounting else f"-{text}"


SIGNS = [(".", ","), (",", "."), (",", " "), (",", "\u00a0"), (",", "\u202f"), (".", "'"), (".", ""), (",", "")]
AROUND = [
    ("", ""),
    *[(symbol, "") for symbol in ("$", "€", "£ ", "CHF ", "Rs. ", "US$", "¥")],
    *[
        ("", unit)
        for unit in (" €", " kr", "元", " USD", "%", " %", " kg", "oz", ' "', " m²", " km/h", " rooms", " GB")
    ],
]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=8),
    st.sampled_from(SIGNS),
    st.sampled_from(AROUND),
    st.booleans(),
)
def test_a_number_that_is_written_and_read_is_the_same(cents, signs, around, accounting):
    cells = [written(value, *signs, *around, accounting) for value in cents]
    assert read(number_format, cells) == [value / 100 for value in cents]
    assert number_format(cells).choice is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=8), st.sampled_from(["{}' {}\"", "{} ft {} in", "{}′{}″"]))
def test_feet_and_inches_are_inches(inches, form):
    assert read(number_format, [form.format(*divmod(value, 12)) for value in inches]) == inches


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["9.4 oz", "12 oz", "1 lb 2 oz", "2 lbs"], [9.4, 12, 18, 32]),
        (["120 g", "0.3 kg", "80 g"], [120, 300, 80]),
        (["90 min", "1 h 30 min", "2 hours", "45 mins"], [90, 90, 120, 45]),
        (["1h 30m", "45m", "20m"], [90, 45, 20]),
        (["1.2k", "3M", "950"], [1200, 3e6, 950]),
        (["950", "1.2k", "3m"], [950, 1200, 3e6]),
        (["$1.5 million", "$300k", "$20"], [1.5e6, 3e5, 20]),
        (["12万元", "5000元"], [120_000, 5000]),
        (["1.5 m", "80 cm", "2 m"], [1.5, 0.8, 2]),
        (["128 GB", "1 TB", "64GB"], [128, 1000, 64]),
        (["30 m2", "40 m²", "50 sqm"], [30, 40, 50]),
        (["10,000+", "500+", "0"], [10_000, 500, 0]),
        (["$0", "0", "$4.50"], [0, 0, 4.5]),
        (["６．５", "１２"], [6.5, 12]),
        (["\u22123", "4"], [-3, 4]),
        (["100-", "20"], [-100, 20]),
        (["5,-", "12,50"], [5, 12.5]),
        (["99.-", "120.--", "45.50", "-5.–"], [99, 120, 45.5, -5]),
        (["CHF 99.-", "CHF 1'200.-"], [99, 1200]),
        (["99.- CHF", "(5.-CHF)"], [99, -5]),
        (["2,- €", "3,50 €"], [2, 3.5]),
        (["Rs. 85,642/-", "Rs. 99/-", "Rs. 1,100.50"], [85_642, 99, 1100.5]),
        (["0 days 00:12:01", "1 days 04:05:06.250000", "-1 days +23:59:00"], [721, 101_106.25, -60]),
        (["1 day, 4:05:06", "0:12:00", "-1 day, 23:59:00"], [101_106, 720, -60]),
        (["PT8H31M", "PT1M2.5S", "P1DT2H", "-PT5M"], [30_660, 62.5, 93_600, -300]),
        (["1 Tag", "2 Tage", "2 Tage"], [1, 2, 2]),
        (["30 Minuten", "3 Stunden", "45 Minuten"], [30, 180, 45]),
        (["1 jour", "39 jours"], [1, 39]),
        (["950", "800", "1.2k"], [950, 800, 1200]),
        (["0", "0", "0", "3h"], [0, 0, 0, 3]),
        (["1,23,456", "12,34,567.50"], [123_456, 1_234_567.5]),
        (["$(5)", "-$3", "$-2", "($4.50)"], [-5, -3, -2, -4.5]),
        (["6.5 l/100km", "7 l/100 km"], [6.5, 7]),
        (["1e3", "2.5E-2"], [1000, 0.025]),
        (["5'11", "6'2\""], [71, 74]),
        (["1h30", "45 min"], [90, 45]),
        (["1,200 sq.ft", "950 sq. ft.", "800 sqft"], [1200, 950, 800]),
        (["4.5/5", "3/5"], [4.5, 3]),
        (["4.5 out of 5 stars", "3.0 out of 5 stars"], [4.5, 3]),
        (["₹ 6,00,000/yr", "₹ 12,00,000/yr"], [6e5, 12e5]),
        (["05 kg", "12 kg"], [5, 12]),
        (["٣٤", "١٢"], [34, 12]),
        ([b"12 kg", "3 kg"], [12, 3]),
    ],
    ids=repr,
)
def test_numbers_as_tables_hold_them(cells, values):
    assert read(number_format, cells) == pytest.approx(values)
    assert number_format(cells).choice is None


@pytest.mark.parametrize(
    "cells",
    [
        ["12 kg", "28 cm"],
        ["$5", "5 €"],
        ["5 USD", "5 AUD"],
        ["23.4 kmpl", "17.3 km/kg"],
        ["1,234.50", "1.234,50"],
        ["10-20", "5-8"],
        ["2021-03-05"],
        ["2:1"],
        ["12:70"],
        ["192.168.1.1"],
        ["+49 30 123456"],
        ["ORD-0001"],
        ["v1", "v2"],
        ["1st", "2nd"],
        ["12 Main Street", "14 High Road"],
        ["10 x 20 cm"],
        ["3 of 7"],
        ["<5", ">10"],
        ["1.200.-", "99.-"],
        ["5.-10"],
        ["1", "2", "3", "4", "1OT"],
        ["1", "34", "204", "136A"],
        ["12", "14", "2k"],
        ["5", "6", "-7x"],
        ["696xx", "003xx"],
        ["PT"],
        ["1 day, 4:65:06"],
        ["4.5/5", "8/10"],
        ["1/2", "3/4"],
        ["04109", "10115"],
        ["1,2,3"],
        ["see above"],
        ["-", "n/a"],
        [" ", None],
        [True, "maybe"],
        ["12", [1]],
        ["12", datetime.date(2021, 1, 1)],
    ],
    ids=repr,
)
def test_what_is_no_column_of_numbers(cells):
    assert number_format(cells) is None


@pytest.mark.parametrize(
    ("cells", "first", "said"),
    [
        (["1,234", "12,500"], 1234, "'1,234' is read as 1234, and could be 1.234"),
        (["1.234", "12.500"], 1.234, "'1.234' is read as 1.234, and could be 1234"),
        (["1,234", "12,500", "999"], 1234, None),
        (["1,234", "12,500.5"], 1234, None),
        (["1,234", "12,5"], 1.234, None),
        (["0,234", "1,234"], 0.234, None),
        (["1.234", "12.5"], 1.234, None),
        (["1.234", "1.234.567"], 1234, None),
        (["1,234", "12"], 1234, "could be 1.234"),
    ],
)
def test_all_cells_decide_what_a_comma_is_and_if_they_cannot_it_is_said(cells, first, said):
    found = number_format(cells)
    assert read_cell(cells[0], found.format) == first
    assert found.choice is None if said is None else said in found.choice


def test_cells_without_the_unit_of_the_others_are_told():
    found = number_format(["12 kg", "13", "14 kg"])
    assert read_cell("13", found.format) == 13
    assert found.choice == "1 of 3 cells, such as '13', has no unit, and is read as kg"
    assert "2 of 3 cells, such as '13', have no unit, and are" in number_format(["12 kg", "13", "14"]).choice
    assert number_format(["4", "5", "2 h"]).seen == "lengths of time in h", "behind a blank, a letter is a unit"
    assert number_format(["5 Zimmer", "4 Zimmer"]).seen == "numbers with 'Zimmer'"


@pytest.mark.parametrize(
    ("cells", "later", "reason"),
    [
        (["12 kg"], "12 cm", "'12 cm' is in 'cm', and the column held 'kg' in fit"),
        (["12 rooms"], "12 kg", "held 'room' in fit"),
        (["12"], "12 kg", "held numbers without a unit in fit"),
        (["$12"], "€12", "'€12' is in EUR, and the column held '$' in fit"),
        (["1,5", "2,25"], "1.5", "is not a number with decimal commas, as in fit"),
        (["12", "13"], "1,234", "may be 1234 or 1.234: no number of fit had such a sign"),
        (["12"], "twelve", "'twelve' is not a number"),
        (["12"], "1e999", "'1e999' is not a finite number"),
        (["12"], [12], "[12] is not a number"),
        (["12"], "9" * 90, "is not a number"),
    ],
)
def test_later_cells_of_another_form_are_refused(cells, later, reason):
    found = number_format(cells)
    with pytest.raises(UnreadableCell) as caught:
        read_cell(later, found.format)
    assert reason in str(caught.value)


def test_later_cells_may_use_what_can_mean_nothing_else():
    assert read(number_format, ["12.5 oz", "3 oz"], "1,000 oz", "28.349523125 g", 7, "7", None, " ")[2:] == [
        *(1000, pytest.approx(1), 7, 7),
        *(None, None),
    ]


def test_words_for_missing_cells_are_kept_and_counted():
    cells = ["19M", "3.5k"] * 20 + ["Varies with device"] * 3 + ["-"] * 8
    found = number_format(cells)
    assert found.odd == {"Varies with device": 3, "-": 8}
    assert found.share == pytest.approx(40 / 51)
    assert found.format["missing"] == ["-", "varies with device"]
    assert read_cell("varies  with device", found.format) is None


@pytest.mark.parametrize(
    ("numbers", "odd"),
    [
        (30, ["a", "b", "c", "d"]),
        (30, ["unclear", "vague"] * 2),
        (30, ["unclear"] * 31),
        (30, ["20 kg?"] * 4),
        (30, ["12 kg?", "13 kg?"]),
        (30, ["-"] * 31),
    ],
    ids=[
        "four words",
        "more than a tenth",
        "one word in most",
        "one text with a digit",
        "texts with digits",
        "mostly marks",
    ],
)
def test_other_columns_with_odd_cells_are_no_numbers(numbers, odd):
    assert number_format([f"{i} kg" for i in range(numbers)] + odd) is None


def test_one_word_in_up_to_half_of_the_cells_is_missing_and_told():
    size = number_format([f"{i}.5M" for i in range(60)] + ["Varies with device"] * 14)
    assert size.odd == {"Varies with device": 14}
    assert size.choice == "'Varies with device' in 14 of 74 cells is taken for missing; could also be: string"
    assert number_format(["1", "2", "3"] * 20 + ["Studio"] * 30) is None, "it is one category of four"
    days = [f"2024-03-{i:02d}" for i in range(1, 31)]
    assert "'unlimited' in 9 of 39 cells" in date_format([*days, *["unlimited"] * 9]).choice
    assert date_format([*days, *["0000-00-00"] * 9]).choice is None, "no table means a day by it"
    assert date_format([*days, *["2024-99-99"] * 9]) is None


PLAIN = [str(1000 + 7 * i) for i in range(50)]


@pytest.mark.parametrize(
    ("cells", "value"),
    [
        ([*PLAIN, "547 - 637"], 592),
        ([*PLAIN, "547–637"], 592),
        ([*PLAIN, "1,310 to 1,400"], 1355),
        ([*(f"${cell}" for cell in PLAIN), "$5 - $10"], 7.5),
        ([*(f"{cell} kg" for cell in PLAIN), "900 g - 1 kg"], None),
        ([*PLAIN, "637 - 547"], None),
        ([*PLAIN, "555-1234-5"], None),
        ([*PLAIN[:9], *["547 - 637"] * 5], None),
        (["1", "2", "3", "3-4"] * 5, None),
    ],
)
def test_a_few_ranges_are_read_as_their_middle_and_told(cells, value):
    found = number_format(cells)
    assert (found is None) == (value is None)
    if found:
        assert read_cell(cells[-1], found.format) == value
        assert f"1 of 51 cells is a range, such as {cells[-1]!r}, read as the middle" in found.choice
        with pytest.raises(UnreadableCell, match="'9 - 8' is not a number"):
            read_cell("9 - 8", found.format)


def test_a_form_without_ranges_reads_none():
    before = {"kind": "number", "decimal": None, "thousands": None, "currency": None, "dimension": None, "unit": None}
    form = full_format("area", {**before, "missing": []})  # as files of before hold it
    assert form["ranges"] is False
    with pytest.raises(UnreadableCell, match="'547 - 637' is not a number"):
        read_cell("547 - 637", form)
    with pytest.raises(ValueError, match="The format of column 'area'"):
        full_format("area", {"kind": "number", "ranges": "yes"})


def test_a_form_in_a_pickle_of_before_is_read_as_it_was():
    """No check completes it: it lies in the schema of a fitted model."""
    plain = {"kind": "number", "decimal": ".", "thousands": None, "currency": None, "dimension": None, "unit": None}
    form = {**plain, "missing": []}
    assert [read_cell(cell, form) for cell in ("1.5", "99.-", "-3")] == [1.5, -99.0, -3.0]
    with pytest.raises(UnreadableCell, match="'547 - 637' is not a number"):
        read_cell("547 - 637", form)


def test_a_file_of_before_reads_a_dash_behind_a_point_as_it_did():
    before = {"decimal": ".", "thousands": None, "currency": None, "dimension": None, "unit": None, "missing": []}
    schema = checked_schema({"price": {"kind": "number", "format": {"kind": "number", **before}}})
    form = schema["price"]["format"]
    assert [read_cell(cell, form) for cell in ("99.-", "99.5", "-5")] == [-99, 99.5, -5], "its model learned from them"
    assert checked_schema(schema) == schema
    now = {"price": {"kind": "number", "format": number_format(["99.-"]).format}}
    assert read_cell("99.-", checked_schema(now)["price"]["format"]) == 99


def test_among_real_numbers_a_single_text_is_a_mistake_and_a_repeated_one_a_word():
    assert number_format([1.5] * 39 + ["cheap"]) is None
    assert number_format([1.5] * 39 + ["1,5"]) is None
    assert read(number_format, [1.5] * 38 + ["cheap"] * 2, "3")[-3:] == [None, None, 3]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["3 mW", "2 W", "5 MW", "1.5 kW", "1.5 kw", "4 KW"], [3e-3, 2, 5e6, 1500, 1500, 4000]),
        (["3 w", "1 kw"], [3, 1000]),
        (["2 wk", "1 w", "7 days"], [2, 1, 1]),
        (["5 mJ", "2 MJ", "3 J"], [5e-9, 2, 3e-6]),
        (["5 mWh", "2 MWh"], [5e-9, 2]),
        (["20 mV", "3 V", "4 v", "1 kV"], [0.02, 3, 4, 1000]),
        (["5 MPa", "2 Pa", "3 kPa"], [5, 2e-6, 3e-3]),
        (["200 Cal", "3 kcal", "500 cal"], [200, 3, 0.5]),
        (["8 Mb", "1 MB", "3 kB"], [8, 8, 0.024]),
        (["2 gb", "512 mb", "1 GB"], [2, 0.512, 1]),
        (["16G", "512M", "2T"], [16e9, 512e6, 2e12]),
        (["2 M", "3 k", "4"], [2e6, 3000, 4]),
        (["2 MM", "3 CM"], [0.2, 3]),
        (["500 mL", "1 L", "2 l", "20 ml"], [500, 1000, 2000, 20]),
        (["5 KG", "3 kg", "400 g"], [5, 3, 0.4]),
        (["500 G", "1 KG", "10 MG"], [500, 1000, 0.01]),
        (["5 M", "80 CM", "3 MM"], [5, 0.8, 0.003]),
        (["250 ML", "1 L"], [0.25, 1]),
        (["1H 30M", "2H", "45M", "30S"], [90, 120, 45, 0.5]),
        (["2 T", "500 KG"], [2, 0.5]),
        (["1 W", "14 D"], [1, 2]),
    ],
    ids=repr,
)
def test_capitals_are_read_where_they_make_another_unit(cells, values):
    found = number_format(cells)
    first = read_cell(cells[0], found.format) / values[0]
    assert [read_cell(cell, found.format) / first for cell in cells] == pytest.approx(values)


@pytest.mark.parametrize(
    "cells",
    [
        ["3 mw", "1 kW"],
        ["3 mw", "1 MW"],
        ["3 Mw", "1 W"],
        ["3 mj", "1 MJ"],
        ["3 W", "5 days"],
        ["3 M", "5 cm"],
        ["3 M", "5 h"],
        ["3 G", "5 kg"],
        ["3 S", "5 min"],
        ["3 Mg", "5 g"],
        ["3 ML", "5 l"],
        ["8 mb", "1 Mb"],
        ["8 mA", "1 a"],
        ["8 MQ", "1 MW"],
        ["8 mQ", "1 MQ"],
        ["16 G", "500 g"],
        ["100 Mbps", "10 MBps"],
        ["100 Mb/s", "10 MB/s"],
        ["3 mb/s", "1 MB/s"],
    ],
    ids=repr,
)
def test_a_unit_whose_capitals_are_wrong_is_none_of_the_others(cells):
    assert number_format(cells) is None


@pytest.mark.parametrize(
    "cells",
    [
        ["3 mw", "4 mw"],
        ["3 Rooms", "4 rooms"],
        ["3 mQ", "4 mq"],
        ["3 mAh", "4 MAH"],
        ["3 mmHg", "4 mmhg"],
        ["3/Day", "4/day"],
    ],
    ids=repr,
)
def test_unknown_units_are_one_unit_if_no_capital_can_matter(cells):
    assert read(number_format, cells) == [3, 4]


def test_later_cells_keep_to_the_capitals_of_fit():
    watts = number_format(["130 W", "95 W"]).format
    assert read_cell("1.5 kW", watts) == 1500 and read_cell("20 mW", watts) == 0.02
    for cell in ("5 days", "3 mw"):
        with pytest.raises(UnreadableCell, match="and the column held 'W' in fit"):
            read_cell(cell, watts)
    with pytest.raises(UnreadableCell, match="'3 MW' is in 'MW', and the column held 'mw' in fit"):
        read_cell("3 MW", number_format(["3 mw"]).format)


@pytest.mark.parametrize(
    ("cells", "units"),
    [
        (["12 kg", "28 cm"], "cm and kg"),
        (["3 mw", "1 kW"], "kW and mw"),
        (["500 G", "1 kg"], "G and kg"),
        (["20 °C", "68 °F"], "°C and °F"),
        (["4/5", "7/10"], "out of 5 and out of 10"),
        (["$5", "5 kg"], r"\$ and kg"),
        (["$5", "5 %"], r"\$ and %"),
        (["100 Mbps", "10 MBps"], "MBps and Mbps"),
        (["1 kg", "2 l", "3 m²", "4 V", "5 Pa"], "Pa, V, kg and 2 more"),
    ],
    ids=repr,
)
def test_units_that_cannot_be_compared_are_told(cells, units):
    assert number_format(cells) is None and number_clash(cells) is None
    with pytest.raises(AssertionError, match=rf"numbers in units that cannot be compared \({units}\)"):
        raise AssertionError(unit_clash(cells))
    found = find_kind(pd.Series(cells))
    assert found.kind in ("string", "category") and found.choice == unit_clash(cells)


@pytest.mark.parametrize(
    "cells",
    [
        ["12 kg", "3 g"],
        ["3 rooms", "4 beds"],
        ["12 Main St", "7 Oak Ave"],
        ["5", "6"],
        ["a", "3 kg"],
        ["$4", "€3"],
        [None],
    ],
    ids=repr,
)
def test_where_no_units_clash(cells):
    assert unit_clash(cells) is None


@pytest.mark.parametrize(
    ("cells", "choice"),
    [
        (["5 M", "3 m"], "'m' is read as 'M' is"),
        (["5 B", "3 b"], "'b' is read as 'B' is"),
        (["5 GB", "3 gb", "2 mb"], "'gb' is read as 'GB' is"),
        (["5 W", "3 w"], "'w' is read as 'W' is"),
        (["5 M", "3 k", "2 K"], None),
        (["5 mL", "3 ml"], None),
        (["5 KG", "3 kg"], None),
        (["5 gb", "2 mb"], None),
        (["250 Cal", "300 cal"], None),
        (["3 Mb", "2 MB"], None),
    ],
    ids=repr,
)
def test_units_that_capitals_would_make_others_are_told(cells, choice):
    found = number_format(cells)
    assert (found and found.choice) == choice


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_units_does_not_choose_the_dimension(seed):
    cells = np.random.default_rng(seed).permutation(["3 M", "5 m", "4 m"]).tolist()
    assert sorted(read(number_format, cells)) == [3e6, 4e6, 5e6]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["$4.10", "€3.90"], r"in several currencies \(\$ and €\); convert them to one"),
        (["12.50 USD", "9 EUR", "8 EUR"], r"in several currencies \(USD and EUR\)"),
        (["A$5", "$6"], r"\(A\$ and \$\)"),
        (["5 Eur", "6 usd"], r"\(Eur and usd\)"),
        (["5 kr", "£4", "¥300", None, "-"], r"in several currencies \(kr, £ and ¥\)"),
        (["5 CAD", "£4", "¥300", "$3", "7 zł"], r"in several currencies \(CAD, £, ¥ and 2 more\)"),
        (["4,535.90", "4.535,90"], r"such as '4,535.90' and '4.535,90'; write all in one way"),
        (["1.5 kg", "2,5 kg", "3 kg"], r"such as '1.5 kg' and '2,5 kg'"),
        (["1'000.5", "1,000.5"], "write all in one way"),
        (["1,234", "1.234", "1 234"], "such as '1 234', '1,234' and '1.234'"),
    ],
    ids=repr,
)
def test_numbers_that_contradict_each_other_are_told_from_what_is_no_number(cells, reason):
    assert number_format(cells) is None
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(number_clash(cells))


@pytest.mark.parametrize(
    "cells",
    [
        ["$4.10", "$3.90"],
        ["$4.10", "3.90"],
        ["4,535.90", "4,000"],
        ["12 kg", "28 cm"],
        ["$4", "€3", "nobody knows", "ask", "see there", "5th"],
        ["1.2.3", "1,5", "1.5"],
        ["04109", "1,5"],
        ["2021-03-05"],
        ["a", "b"],
        [None],
    ],
    ids=repr,
)
def test_where_nothing_contradicts(cells):
    assert number_clash(cells) is None


@pytest.mark.parametrize("cell", [10**400, -(10**400), 10**5000, float("inf"), np.float32(-np.inf), "1e999"], ids=type)
def test_a_number_that_no_float_holds_is_unreadable(cell):
    with pytest.raises(UnreadableCell, match=r"too large|is not a finite number"):
        read_cell(cell, number_format(["12", "13"]).format)


@pytest.mark.parametrize("cell", [10**5000, [10**5000]], ids=["number", "list"])
def test_a_number_that_python_cannot_write_is_unreadable_in_every_format(cell):
    for find, cells in EXAMPLES:
        with pytest.raises(UnreadableCell):
            read_cell(cell, find(cells).format)


def test_a_cell_of_many_blanks_and_a_number_is_not_blank():
    cells = [" " * 200 + "x", "1", "2"]
    assert number_format(cells) is None
    assert number_format([" " * 200, "1", "2"]).odd == {}


def test_ratings_are_named_as_people_name_them():
    stars = number_format(["4/5", "3 of 5", "5"])
    assert stars.seen == "ratings out of 5" and stars.choice.endswith("has no unit, and is read as out of 5")
    assert number_format(["4.5 out of 10 stars"]).seen == "ratings out of 10"
    with pytest.raises(UnreadableCell, match="'8/10' is out of 10, and the column held ratings out of 5 in fit"):
        read_cell("8/10", stars.format)
    assert number_format(["6.5 l/100km"]).seen == "numbers with 'l/100 km'"


# ---------------------------------------------------------------------- dates

FORMS = [
    *(
        "%Y-%m-%d",
        "%d.%m.%Y",
        "%Y/%m/%d",
        "%d %b %Y",
        "%d. %B %Y",
        "%B %d, %Y",
        "%d-%b-%Y",
        "%Y年%m月%d日",
        "%A, %d %B %Y",
    ),
    *("%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%d.%m.%Y %H:%M", "%d %b %Y %I:%M %p", "%b %d %Y %I:%M:%S %p"),
    *("%Y-%m-%d %H:%M:%S.%f", "%Y年%m月%d日 %H时%M分"),
]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1)), min_size=1, max_size=8),
    st.sampled_from(FORMS),
)
def test_a_date_that_is_written_and_read_is_the_same(moments, form):
    cells = [moment.strftime(form) for moment in moments]
    assert read(date_format, cells) == [pd.Timestamp(datetime.datetime.strptime(cell, form)) for cell in cells]
    assert date_format(cells).choice is None


@pytest.mark.parametrize("first", ["%d", "%m"])
@pytest.mark.parametrize("sign", "/-")
@pytest.mark.parametrize("year", ["%Y", "%y"])
def test_all_cells_decide_which_is_the_day(first, sign, year):
    days = pd.date_range("2021-01-05", periods=40, freq="9D")
    form = sign.join([first, "%m" if first == "%d" else "%d", year])
    assert read(date_format, days.strftime(form).tolist()) == days.tolist()
    assert date_format(days.strftime(form).tolist()).choice is None


def test_which_is_the_day_is_said_if_no_cell_decides():
    found = date_format(["03/04/2021", "05/06/2021"])
    assert read_cell("03/04/2021", found.format) == pd.Timestamp("2021-03-04")
    assert found.choice == (
        "'03/04/2021' is read as month/day/year, and could be day/month/year by all cells of the column"
    )
    assert date_format(["25/03/2021", "03/25/2021"]) is None
    assert date_format(["03.04.2021"]).choice is None, "with points, the day is first"


@pytest.mark.parametrize(
    ("cells", "choice"),
    [
        (["Oct-12", "Nov-13"], "'Oct-12' is read as name of the month-year of 2 digits, and could be a day of a month"),
        (["1/86", "11/86", "9/87"], "'1/86' is read as month/year of 2 digits, and could be a text"),
    ],
)
def test_months_whose_year_is_short_are_told(cells, choice):
    assert date_format(cells).choice == choice
    assert read(date_format, cells)[0].day == 1


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        (["August 1st 2000", "May 3rd, 1999", "1998", "Sept. 2001"], ["2000-08-01", "1999-05-03", "1998", "2001-09"]),
        (["2021年3月5日", "2020年12月", "2019年"], ["2021-03-05", "2020-12", "2019"]),
        (["2021년 3월 5일"], ["2021-03-05"]),
        (["5. März 2021", "12 mai 2020", "3 de enero de 2019", "1er août 2018"],
         ["2021-03-05", "2020-05-12", "2019-01-03", "2018-08-01"]),
        (["2021-03-05", "5 Mar 2021", "13/02/2021", "05.03.21"], ["2021-03-05"] * 2 + ["2021-02-13", "2021-03-05"]),
        (["20210305", "20211231"], ["2021-03-05", "2021-12-31"]),
        (["2021-03-05T10:20Z", "2021-03-05 12:20+02:00"], ["2021-03-05T10:20Z"] * 2),
        (["Fri, 05 Mar 2021 10:11:12 GMT"], ["2021-03-05T10:11:12Z"]),
        (["14:05", "2:30 PM", "8 am", "12:15 a.m."], [f"1970-01-01T{t}" for t in ("14:05", "14:30", "08:00", "00:15")]),
        ([datetime.date(2021, 3, 5), "2021-03-06"], ["2021-03-05", "2021-03-06"]),
        (["2020-01", "2021-12"], ["2020-01-01", "2021-12-01"]),
        (["Oct-75", "Sep-78", "Jan-02"], ["1975-10", "1978-09", "2002-01"]),
        (["Okt. 75", "März 02", "Oct '12", "mai'99"], ["1975-10", "2002-03", "2012-10", "1999-05"]),
        (["1974Q1", "1976-Q4", "q2 2001", "1Q 2020"], ["1974-01", "1976-10", "2001-04", "2020-01"]),
        (["2014-W25", "2020W53"], ["2014-06-16", "2020-12-28"]),
        (["01JAN1960", "31dec2001"], ["1960-01-01", "2001-12-31"]),
        (["Sat Jun 21 00:00:01 +0200 2014", "Mon Apr 06 22:19:45 PDT 2009"],
         ["2014-06-20T22:00:01Z", "2009-04-07T05:19:45Z"]),
        (["Mon Apr  6 22:19:45 2009"], ["2009-04-06T22:19:45"]),
        (["21/Jun/2014:10:00:00 +0000", "[22/Jun/2014:10:00:00 +0000]"], ["2014-06-21T10:00Z", "2014-06-22T10:00Z"]),
    ],
    ids=repr,
)  # fmt: skip
def test_dates_as_tables_hold_them(cells, days):
    assert read(date_format, cells) == [pd.Timestamp(day) for day in days]


@pytest.mark.parametrize(
    "cells",
    [
        ["1999", "2000"],
        ["2021-02-30"],
        ["2021-13-05", "2021-01-05"],
        ["1.5", "2.5"],
        ["12.1", "13.2"],
        ["May 5", "June 7"],
        ["May", "June"],
        ["May 05", "June 12"],
        ["12-Oct", "13-Nov"],
        ["1/2", "3/4"],
        ["1/64", "3/32", "5/64"],
        ["7/50", "8/50"],
        ["01/05", "02/06"],
        ["12/86", "13/87"],
        ["1974Q5"],
        ["2014-W53"],
        ["Mon Apr 06 22:19:45 IST 2009"],
        ["25:10", "26:30"],
        ["13:30 pm"],
        ["2021-03-05", "2021-03-05T10:20Z"],
        ["14:05", "2021-03-05"],
        ["12345678"],
        ["2021-03-05", 5],
        ["see above"],
        ["1 kg"],
    ],
    ids=repr,
)
def test_what_is_no_column_of_dates(cells):
    assert date_format(cells) is None


def test_later_dates():
    found = date_format(["05.03.2021", "06.04.2022 10:00", "unknown"] + ["07.04.2022"] * 8)
    assert found.odd == {"unknown": 1} and found.seen == "dates with times as day.month.year"
    assert read_cell("2023-01-02", found.format) == pd.Timestamp("2023-01-02"), "ISO 8601 is plain to everybody"
    assert read_cell(datetime.date(2023, 1, 2), found.format) == pd.Timestamp("2023-01-02")
    assert read_cell(" ", found.format) is None and read_cell("Unknown", found.format) is None
    for cell, reason in [
        ("03/04/2021", "'03/04/2021' is not a date as in fit: day.month.year"),
        ("31.02.2021", "is not a date as in fit"),
        ("05.03.2021 25:00", "is not a date as in fit"),
        (pd.Timestamp("2021-03-05", tz="UTC"), "has a time zone, and the column had none"),
        (5, "5 is not a date"),
    ]:
        with pytest.raises(UnreadableCell) as caught:
            read_cell(cell, found.format)
        assert reason in str(caught.value)


def test_a_few_texts_that_are_no_dates_are_missing_and_told():
    cells = ["March 10th 1911"] * 60 + ["30", "March 10th 11"]
    assert date_format(cells).odd == {"30": 1, "March 10th 11": 1}
    assert date_format(cells[:12] + ["30"] * 3) is None


def test_names_of_months_do_not_depend_on_the_language_of_the_process(monkeypatch):
    """`strptime` takes the names of months from the locale: in a German one, it knows no Mar, May, Oct and Dec."""
    names = _strptime.LocaleTime()
    names.a_month = ["", *(["jan", "feb", "mär", "apr", "mai", "jun", "jul", "aug", "sep", "okt", "nov", "dez"])]
    monkeypatch.setattr(_strptime, "_TimeRE_cache", _strptime.TimeRE(names))
    monkeypatch.setattr(_strptime, "_regex_cache", {})
    with pytest.raises(ValueError, match="does not match"):
        datetime.datetime.strptime("Oct", "%b")
    cells = ["3 Oct 2021", "May 5, 2020", "12-Dec-2019", "Mar 2018", "7. Oktober 2021"]
    found = date_format([*cells * 5, "Foo 2018"])
    assert [read_cell(cell, found.format).month for cell in cells] == [10, 5, 12, 3, 10]
    assert found.odd == {"Foo 2018": 1}


@pytest.mark.parametrize(
    ("zone", "hour"),
    [("+05:30", 4.5), ("-0800", 18), ("+14", 20), ("+99:00", None), ("-19:00", None), ("+05:75", None)],
)
def test_zones_that_cannot_be_are_not_read(zone, hour):
    found = date_format([f"2021-03-05T10:00{zone}"])
    if hour is None:
        assert found is None
        for utc in (True, False):
            known = date_format(["2021-03-05T10:00" + "Z" * utc]).format
            with pytest.raises(UnreadableCell, match="is not a date as in fit"):
                read_cell(f"2021-03-05T10:00{zone}", known)
    else:
        read_at = read_cell(f"2021-03-05T10:00{zone}", found.format)
        assert read_at.hour + read_at.minute / 60 == hour


def test_a_long_text_is_no_date_and_is_not_kept():
    known = date_format(["5 May 2021", "6 May 2021"]).format
    before = dates._tidy.cache_info().currsize
    for i in range(5):
        with pytest.raises(UnreadableCell, match="is not a date"):
            read_cell(" " * 10**5 + f"5 May 202{i}" + "x" * 10**5, known)
    assert dates._tidy.cache_info().currsize == before
    assert read_cell(" " * 10**5, known) is None


# ---------------------------------------------------------------------- true and false


@pytest.mark.parametrize(
    ("true", "false"),
    [
        ("yes", "no"),
        ("Y", "n"),
        ("T", "F"),
        ("on", "OFF"),
        ("是", "否"),
        ("TRUE ", "false"),
        ("ja", "nein"),
        (True, "no"),
    ],
)
def test_true_and_false_with_gaps(true, false):
    assert read(boolean_format, [true, None, false, " ", true]) == [True, None, False, None, True]


@pytest.mark.parametrize("mark", ["未知", "不详", "unknown", "unbekannt", "n/a"])
def test_a_mark_beside_true_and_false_is_missing(mark):
    found = boolean_format(["是", "否", mark] * 9)
    assert found.seen == "是 or 否" and found.odd == {mark: 9} and read_cell(mark, found.format) is None


def test_booleans_are_shown_as_most_cells_spell_them():
    found = boolean_format(["t", "1", "TRUE", "TRUE", "True", "yes", "f", "0", "FALSE", "off", "FALSE", "no"])
    assert found.seen == "TRUE or FALSE"
    assert boolean_format([True, "yes", True, "no"]).seen == "true or no"
    assert boolean_format(["nein", "n/a"]).seen == "only nein"


def test_what_is_not_true_or_false():
    assert boolean_format(["yes", "perhaps"]) is None
    assert boolean_format(["0", "1"]) is None and boolean_format([0, 1]) is None, "these are numbers"
    assert boolean_format([None]) is None
    assert boolean_format(["yes", 2]) is None
    found = boolean_format(["yes", "no"] * 10 + ["unknown"])
    assert found.odd == {"unknown": 1}
    with pytest.raises(UnreadableCell, match="'2' is neither true nor false"):
        read_cell("2", found.format)


# ---------------------------------------------------------------------- tags


@pytest.mark.parametrize(
    "write",
    [*(sign.join for sign in ("|", ", ", ";", " / ", "、", "，", "\n")), repr, json.dumps, list, np.array,
     lambda tags: f"[{', '.join(tags)}]",
     lambda tags: "{" + ",".join(f'"{tag}"' if " " in tag else tag for tag in tags) + "}"],
)  # fmt: skip
def test_tags_that_are_written_and_read_are_the_same(write):
    rng = np.random.default_rng(0)
    lists = [rng.choice(["war", "drama", "film noir", "comedy"], n, replace=False).tolist() for n in [1, 2, 3] * 8]
    lists = [list(dict.fromkeys(tags)) for tags in lists]
    assert read(tag_format, [write(tags) for tags in lists]) == lists


def test_two_signs_may_stand_in_one_cell():
    assert read(tag_format, ["wifi, pool; bar", "pool", "bar, wifi"] * 4)[:3] == [
        ["wifi", "pool", "bar"],
        ["pool"],
        ["bar", "wifi"],
    ]


@pytest.mark.parametrize(
    "cells",
    [
        [f"Name{i}, First{i}" for i in range(20)],
        [f"The cat no. {i} sat, and the dog ran; then all slept." for i in range(20)],
        ["red", "blue"] * 10,
        ["1,2", "2,1"] * 10,
        [["a"], 5],
        [None, " "],
    ],
    ids=["names", "sentences", "single words", "numbers", "other objects", "nothing"],
)
def test_what_is_no_column_of_tags(cells):
    assert tag_format(cells) is None


@pytest.mark.parametrize("sign", [", ", ",", "|", ";"])
def test_lists_of_numbers_that_also_stand_alone_are_tags(sign):
    lines = [sign.join(line) for line in (["1"], ["8"], ["1", "8"], ["3"], ["3", "8", "10"], ["10"])] * 5
    assert read(tag_format, lines, "8")[-3:] == [["3", "8", "10"], ["10"], ["8"]]


def test_lists_of_objects_with_names_are_tags():
    genres = [
        '[{"id": 18, "name": "Drama", "of": null}]',
        "[{'id': 2, 'name': 'War'}, {'id': 18, 'name': 'Drama'}]",
    ] * 5
    assert read(tag_format, genres)[:2] == [["Drama"], ["War", "Drama"]]
    assert tag_format(genres).seen.endswith(
        "2 different ones: names of objects, whose other fields such as 'id' are not read"
    )
    listed = [[{"name": "War", "of": 1}], [{"name": "War"}]]
    assert "such as 'of' are not read" in tag_format(listed, declared=True).seen
    assert tag_format([' [{"name": "War"}]', "[{'name': 'Drama'}, {'name': 'War'}]"] * 5).seen.endswith(
        "2 different ones"
    )
    assert tag_format(['[{"id": 18}]', '[{"id": 2}, {"id": 18}]'] * 5) is None


def test_declared_tags_need_not_repeat():
    assert read(lambda cells: tag_format(cells, declared=True), ["a|b", "c|d, e", "f"]) == [
        ["a", "b"],
        ["c", "d, e"],
        ["f"],
    ]
    assert tag_format(["a|b", 5], declared=True) is None


@pytest.mark.parametrize("cells", [[["a"], [], ["b"]], [["a"], [], ["b"]] * 30, [[], ["a", "b"], None, ["b"]] * 30])
def test_a_list_without_tags_says_that_there_are_none(cells):
    found = tag_format(cells)
    assert found.seen == "lists of tags, 2 different ones" and found.share == 1
    assert read_cell([], found.format) == [] and read_cell(np.array([]), found.format) == []


def test_lists_of_what_never_repeats_are_no_tags():
    assert tag_format([[f"word{i}", f"other{i}"] for i in range(30)]) is None
    assert tag_format([[]] * 30) is None


@pytest.mark.parametrize("sign", ["\r", "\n", "\0", '"', "\ud800", "\\"])
@pytest.mark.parametrize("declared", [False, True])
def test_an_odd_sign_in_a_list_stops_nothing(sign, declared):
    cells = [f"[a{sign}b, c]", f'["a{sign}b", "c"]', f"{{a{sign}, b}}", "[a, b]", "['a']"]
    for cell in cells:
        tag_format([cell, "[a, b]"] * 6, declared=declared)
        try:
            tags = read_cell(cell, tag_format(["[a, b]", "[b]", "[a]"] * 4).format)
        except UnreadableCell:
            continue
        assert all(isinstance(tag, str) for tag in tags)


@pytest.mark.parametrize(
    ("cell", "tags"),
    [
        (r"""['a\d', "b"]""", [r"a\d", "b"]),
        (r"""['a\\d', 'b']""", [r"a\d", "b"]),
        (r"""['a\\\d']""", [r"a\\d"]),
        (r"""['it\'s', "b"]""", ["it's", "b"]),
        (r"""["caf\u00e9"]""", ["café"]),
    ],
)
def test_backslashes_in_lists_are_read_without_a_warning(cell, tags):
    found = tag_format(["['a', 'b']", "['b']", "['a']"] * 4)
    assert read_cell(cell, found.format) == tags


SIGNS_OF_PATTERNS = [
    *(
        "a@",
        "a@.",
        ".",
        "@",
        "a",
        "A1",
        "1",
        "1,",
        "1.",
        "1 ",
        "1'",
        " ",
        "\t",
        "-",
        "_",
        "(",
        "((",
        "[",
        "[[",
        "{",
        "'",
    ),
    *('"', ",", ";", "|", "/", "1/", "1x", "x 1 ", "a-", "a_1", "http://", "data:a", "data:,", "www.", "mailto:", "00"),
    *(
        "12:30",
        "2021-03-05",
        "May ",
        "5. May ",
        "de ",
        "年",
        "1年",
        "日",
        "st ",
        "1st",
        "£",
        "$",
        "$ ",
        "e",
        "1e",
        "1e+",
    ),
    *("%", "of 5", "1 of ", "\0", "é", "\u0661", "字", "no ", "n/a", "a1 ", "-a", "+1 ", "1-", "f", "0f", "[a,", "\\"),
]


@pytest.mark.by_turns
@pytest.mark.parametrize("end", ["", "!", "@", "1", "]"])
def test_no_text_of_any_length_takes_long(end):
    """Patterns with nested repeats take the square of the length, or worse."""
    known = [find(cells).format for find, cells in EXAMPLES]
    begin = time.process_time()
    for sign in SIGNS_OF_PATTERNS[:: 1 if end == "@" else 3]:
        cell = ("a@" if end == "@" else "[" if end == "]" else "") + sign * (100_000 // len(sign)) + end
        column_kind(pd.Series([cell] + ["b"] * 2))
        column_kind(pd.Series([f"{i}{cell}" for i in range(10)]) if sign in ("a@.", "1,", "a-") else pd.Series([cell]))
        for settings_ in known:
            with contextlib.suppress(UnreadableCell):
                read_cell(cell, settings_)
    assert time.process_time() - begin < 20


EXAMPLES = [
    (number_format, ["12 kg"]),
    (date_format, ["5 May 2021"]),
    (boolean_format, ["yes", "no"]),
    (tag_format, ["a, b", "b", "a"] * 4),
    (tag_format, ["[a, b]", "[b]", "[a]"] * 4),
]


def test_finding_a_format_takes_no_longer_than_reading_the_table():
    texts = ["A sentence with some words, and a number such as 12." + " more words" * 20] * 20_000
    cells = [f"{text} {i}" for i, text in enumerate(texts)]
    counts = Counter(find(cells) for find in (number_format, date_format, boolean_format, tag_format))
    assert counts == {None: 4}
