"""Written forms of cells: what is written and read again is the same, and what is unclear is said or refused."""

import datetime
import json
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
    number_format,
    read_cell,
    tag_format,
)


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
        ["12:30"],
        ["192.168.1.1"],
        ["+49 30 123456"],
        ["ORD-0001"],
        ["v1", "v2"],
        ["1st", "2nd"],
        ["12 Main Street", "14 High Road"],
        ["10 x 20 cm"],
        ["3 of 7"],
        ["<5", ">10"],
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
    assert found.choice == "1 of 3 cells, such as '13', have no unit, and are read as kg"


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
        (30, ["unclear"] * 4),
        (30, ["12 kg?", "13 kg?"]),
        (30, ["-"] * 31),
    ],
    ids=["four words", "more than a tenth", "texts with digits", "mostly marks"],
)
def test_other_columns_with_odd_cells_are_no_numbers(numbers, odd):
    assert number_format([f"{i} kg" for i in range(numbers)] + odd) is None


def test_among_real_numbers_a_single_text_is_a_mistake_and_a_repeated_one_a_word():
    assert number_format([1.5] * 39 + ["cheap"]) is None
    assert number_format([1.5] * 39 + ["1,5"]) is None
    assert read(number_format, [1.5] * 38 + ["cheap"] * 2, "3")[-3:] == [None, None, 3]


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


def test_declared_tags_need_not_repeat():
    assert read(lambda cells: tag_format(cells, declared=True), ["a|b", "c|d, e", "f"]) == [
        ["a", "b"],
        ["c", "d, e"],
        ["f"],
    ]
    assert tag_format(["a|b", 5], declared=True) is None


def test_finding_a_format_takes_no_longer_than_reading_the_table():
    texts = ["A sentence with some words, and a number such as 12." + " more words" * 20] * 20_000
    cells = [f"{text} {i}" for i, text in enumerate(texts)]
    counts = Counter(find(cells) for find in (number_format, date_format, boolean_format, tag_format))
    assert counts == {None: 4}
