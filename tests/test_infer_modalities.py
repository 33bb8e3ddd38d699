"""What `infer_modalities` sees in the columns of real tables, says about them, and builds; the model then fits."""

import ast
import datetime
import re

import numpy as np
import pandas as pd
import polars
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.preprocessing import StandardScaler

from ensemblefuse import (
    BaseEncoder,
    ColumnError,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FarNumberWarning,
    FeatureFusionClassifier,
    MissingModalityWarning,
    ModalityTransformer,
    StringFeatures,
    TextEncoder,
    infer_modalities,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.cli import main
from ensemblefuse.cli._messages import CommandError
from ensemblefuse.cli._table_stream import TableStream
from ensemblefuse.cli._tables import read_table
from ensemblefuse.column_kinds import column_kind, find_kind
from ensemblefuse.schema import read_by_schema

N = 90
RNG = np.random.default_rng(3)
SIZES = RNG.lognormal(3, 1, N)
DAYS = pd.date_range("2019-11-20", periods=N, freq="29h")
STEMS = [
    a + b
    for a in ("Kal", "Mor", "Ven", "Tas", "Rol", "Bin", "Sud", "Pel", "Gar")
    for b in ("ina", "ett", "or", "umi", "ak", "ens", "isch", "ova", "el", "ir")
]
FAULTS = ["the zip broke", "colour fades", "much too small", "smells of glue"]


def series(cells):
    return cells if isinstance(cells, pd.Series) else pd.Series(cells, dtype=None if len(cells) else object)


def draw(values, size=N):
    return [values[i] for i in np.random.default_rng(0).integers(0, len(values), size)]


def gaps(cells, every=7):
    return pd.Series([None if i % every == 0 else cell for i, cell in enumerate(cells)], dtype=object)


def sentences(form):
    return [form.format(a, b, i) for i, (a, b) in enumerate(zip(draw(FAULTS), reversed(draw(FAULTS)), strict=True))]


KINDS = {
    # numbers as text
    "points between thousands": ([f"{v * 1000:,.2f}".translate(str.maketrans(",.", ".,")) for v in SIZES], "number"),
    "dollars": ([f"${v:,.0f}" for v in SIZES * 100], "number"),
    "grams": ([f"{v:.1f} g" for v in SIZES], "number"),
    "numbers with gaps and a dash": (["-" if i % 8 == 0 else f"{v:.3f}" for i, v in enumerate(SIZES)], "number"),
    "small whole numbers": (draw([0, 1, 2, 3]), "number"),
    "years": (draw(list(range(1990, 2024))), "number"),
    "seconds since 1970": (1_600_000_000 + RNG.integers(0, 10**7, N), "number"),
    "steps of ten": (np.arange(N) * 10, "number"),
    "prices in cents, all distinct": (RNG.permutation(90_000)[:N] + 100, "number"),
    # dates
    "day names": (DAYS.strftime("%d %b %Y").tolist(), "date"),
    "dates of objects": (pd.Series([day.date() for day in DAYS], dtype=object), "date"),
    "months": (DAYS.strftime("%Y-%m").tolist(), "date"),
    "times with a zone": (DAYS.tz_localize("Europe/Paris"), "date"),
    # booleans
    "yes and no": (draw(["Yes", "no", "YES", "n"]), "boolean"),
    "flags with gaps": (gaps(draw([True, False])), "boolean"),
    "nullable flags": (pd.Series(gaps(draw([True, False])), dtype="boolean"), "boolean"),
    # categories
    "places": (draw(["Paris, France", "Lyon, France", "Leeds, UK", "York, UK"]), "category"),
    "names with a comma": (draw(["Smith, John", "Smith, Anna", "Doe, John", "Miller, Bob"]), "category"),
    "levels": (
        draw(["Europe", "Europe/France", "Europe/France/Lyon", "Asia", "Asia/Japan", "Asia/Japan/Kobe"]),
        "category",
    ),
    "two properties": (draw(["wind, fixed", "wind, free", "sun, fixed", "sun, free"]), "category"),
    "three words that repeat": (draw(["as good as new", "slightly worn out", "for spare parts"]), "category"),
    "sentences that repeat": (draw(["I would buy this again", "It went back to the shop the same day"]), "category"),
    "codes with zeros": (draw(["0041", "0351", "8000"]), "category"),
    "a mark or nothing": (pd.Series(np.where(np.arange(N) % 3 == 0, "x", None), dtype=object), "category"),
    "a few rare ones": ([*draw(["oak", "beech", "ash"], N - 3), "elm", "yew", "fir"], "category"),
    "dtype category": (pd.Series(draw(["s", "m", "l"]), dtype="category"), "category"),
    "ranges": (pd.Series(pd.cut(SIZES, 4)), "category"),
    "numbers and words": (pd.Series(draw([1, 2, "many"]), dtype=object), "category"),
    "a named key that repeats": (pd.Series(draw([11, 12, 19]), name="shop_id"), "category"),
    # tags
    "lists": (pd.Series([["sea", "sun", "ice", "fog"][i % 3 : i % 3 + 1 + i % 2] for i in range(N)]), "tags"),
    # short strings
    "surnames": (STEMS[:N], "string"),
    "names of two words": ([f"{a} {b}" for a, b in zip(STEMS, STEMS[::-1], strict=True)], "string"),
    "names of three words": (
        [f"{a} {b} {i}00" for i, (a, b) in enumerate(zip(STEMS, STEMS[3:], strict=False))],
        "string",
    ),
    "many names that repeat": (draw(STEMS, 400), "string"),
    "Chinese names": ([a + b + c for a in "周吴郑冯" for b in "国建志文" for c in "华明强平军波"][:N], "string"),
    "sizes": ([f"{a}x{b}x{b + 1}" for a, b in zip(range(N), RNG.integers(1, 90, N), strict=True)], "numbers"),
    # free text
    "sentences": (sentences("After {2} days {0} and {1}"), "text"),
    "short phrases": ([f"{a} {b} coat" for a, b in zip(STEMS, map(str.lower, STEMS), strict=True)], "text"),
    "Japanese": ([f"この鞄は{i}日で壊れました。店員さんはとても親切でした" for i in range(N)], "text"),
    "Thai": ([f"กระเป๋าใบนี้พังภายในเวลา {i} วันและสีซีดมาก" for i in range(N)], "text"),
    "Russian": ([f"Сумка порвалась через {i} дней, очень жаль" for i in range(N)], "text"),
    # left out
    "order numbers": ([f"R{i:03d}/{v}" for i, v in enumerate(RNG.integers(10, 99, N))], "identifier"),
    "numbered orders": ([f"order no. {v}" for v in RNG.permutation(5 * N)[:N]], "identifier"),
    "orders by year": ([f"2024-{v}" for v in RNG.permutation(900_000)[:N] + 100_000], "identifier"),
    "computers": ([":".join(f"{b:02x}" for b in row) for row in RNG.integers(0, 256, (N, 6))], "identifier"),
    "computers in capitals": (
        ["-".join(f"{b:02X}" for b in row) for row in RNG.integers(0, 256, (N, 6))],
        "identifier",
    ),
    "hashes": ([f"{v:016x}" for v in RNG.integers(2**60, 2**63, N)], "identifier"),
    "mail": ([f"{stem.lower()}@shop.test" for stem in STEMS[:N]], "identifier"),
    "row numbers": (np.arange(1, N + 1), "identifier"),
    "row numbers in any order": (RNG.permutation(N), "identifier"),
    "row numbers as text": ([str(i) for i in range(1, N + 1)], "identifier"),
    "book numbers": (9_780_000_000_000 + RNG.integers(0, 10**9, N), "identifier"),
    "a named key": (pd.Series(RNG.permutation(10**5)[:N], name="customerID"), "identifier"),
    "links": ([f"https://shop.test/{stem}" for stem in STEMS[:N]], "address"),
    "links to pictures": ([f"http://shop.test/{stem}.jpg" for stem in STEMS[:N]], "address"),
    "one word": (["steel"] * N, "constant"),
    "one number": ([7.0] * N, "constant"),
    "nothing": (pd.Series([None] * N, dtype=object), "empty"),
    "blanks": (["  ", ""] * (N // 2), "empty"),
    "numbers and a remark": ([f"{v:.2f}" if i != 4 else "see page 3" for i, v in enumerate(SIZES)], "number"),
    "pictures and a remark": (["a.png"] * 20 + ["lost"], "other"),
    "arrays of no dimension": (pd.Series([np.array(1.0)] * 4), "other"),
    "dicts": (pd.Series([{"a": 1}] * 5), "other"),
    "lengths of time": (pd.to_timedelta(RNG.integers(60, 9999, N), unit="s"), "duration"),
}


@pytest.mark.parametrize("form", KINDS)
def test_what_a_column_holds(form):
    cells, kind = KINDS[form]
    assert column_kind(series(cells)) == (kind, find_kind(series(cells)).seen)
    assert find_kind(series(cells)).kind == kind


def test_tags_in_a_text_are_told_from_categories_and_from_sentences():
    rng = np.random.default_rng(1)
    words = ["sea", "sun", "ice", "fog", "rain", "snow", "wind", "dust"]
    lists = ["|".join(rng.permutation(words)[: 1 + i % 4]) for i in range(N)]
    assert column_kind(pd.Series(lists))[0] == "tags"
    assert column_kind(pd.Series(sentences("{0}, {1}, and {2} more faults, sadly")))[0] == "text"


REMARKS = {
    ", ": "great food|nice staff|will return|bad room|noisy street|no refund|the bed was hard|breakfast cold",
    "，": "房间很干净|服务态度好|早餐不好吃|位置很方便|隔音太差了|下次还会来|价格有点贵|前台很热情",
}


@pytest.mark.parametrize("sign", REMARKS)
def test_reviews_with_commas_are_texts(sign):
    rng, remarks = np.random.default_rng(0), REMARKS[sign].split("|")
    few = [sign.join(rng.permutation(remarks)[:3]) for _ in range(200)]
    closed = find_kind(pd.Series(few))
    assert (closed.kind, closed.choice) == ("tags", "could also be: text"), "a list of remarks to choose from"
    long = "{0}{1}stayed {2} nights" if sign == ", " else "{0}{1}住了{2}晚"
    assert find_kind(pd.Series([long.format(text, sign, i % 91) for i, text in enumerate(few)])).kind == "text"


TAGS = {
    "genres": "drama war comedy western",
    "words that are verbs elsewhere": "war es not is sales",
    "names of two words": "Science Fiction|Young Adult|Film Noir|Film Musical",
}


@pytest.mark.parametrize("name", TAGS)
@pytest.mark.parametrize("sign", [", ", "|", "，"])
def test_tags_of_one_word_and_names_are_surely_tags(name, sign):
    rng = np.random.default_rng(1)
    words = TAGS[name].split("|" if "|" in TAGS[name] else " ")
    rare = [f"{word} {k}" if "|" in TAGS[name] else f"{word}{k}" for word in words for k in "ABCDEFGHIJK"]
    lists = [sign.join(rng.permutation([*words, *words, *rare])[: 1 + i % 4]) for i in range(500)]
    found = find_kind(pd.Series(lists))
    assert (found.kind, found.choice) == ("tags", None)


WRITERS = {
    **{sign: sign.join for sign in (", ", ";", "|", "/", "、", "，")},
    "#": lambda words: " ".join(f"#{word}" for word in words),
    "list": lambda words: str(list(words)),
}


@pytest.mark.parametrize("sign", WRITERS)
@pytest.mark.parametrize("in_order", [True, False])
def test_a_few_values_that_combine_the_same_words_are_tags(sign, in_order):
    rng, ways = np.random.default_rng(0), ["Email", "Phone", "Post", "SMS"]
    lists = [rng.permutation(ways)[: 1 + i % 3].tolist() for i in range(300)]
    cells = pd.Series([WRITERS[sign](sorted(words) if in_order else words) for words in lists], name="by")
    found = find_kind(cells)
    assert (found.kind, found.choice) == ("tags", "could also be: category") and "4 different ones" in found.seen
    names = ModalityTransformer(infer_modalities(cells.to_frame(), verbose=False)).fit(cells.to_frame())
    assert sum("by=" in name for name in names.get_feature_names_out()) == 4
    declared = infer_modalities(cells.to_frame(), kinds={"by": "category"}, strict=True, verbose=False)
    assert declared[0][1].transformers[0][0] == "category"


def test_a_third_value_beside_true_and_false_is_told():
    cells = [*["ja", "nein", "JA", "Nein"] * 25, "vielleicht"]
    found = find_kind(pd.Series(cells))
    assert (found.kind, found.choice) == ("category", "could also be: boolean")
    assert "5 distinct values in 101 cells, of which 'ja' and 'JA' differ in capitals alone" in found.seen
    assert "100 cells say ja or nein, but 'vielleicht' in row 100 does not" in found.seen
    often = find_kind(pd.Series([*cells, *["vielleicht"] * 40]))
    assert (often.kind, often.choice) == ("category", None) and "capitals alone" in often.seen
    assert "capitals" not in find_kind(pd.Series(["oak", "ash "] * 9)).seen


def stopwatch(first):
    return [f"{minutes}:{i * 7 % 60:02d}" for i, minutes in enumerate(first)]


def test_lengths_of_time_are_told_from_times_of_day():
    pace = find_kind(pd.Series(stopwatch(draw(range(3, 15)))))
    assert (pace.kind, pace.choice) == ("date", "could also be: number, as lengths of time")
    longer = find_kind(pd.Series(stopwatch(draw(range(3, 31)))))
    assert longer.kind == "number" and "lengths of time in s, from minutes:seconds, 18" in longer.seen
    assert "minutes and 0 seconds, and could be" in longer.choice and "hours and 0 minutes" in longer.choice
    laps = find_kind(pd.Series([f"1:{20 + i % 40}.{i * 37 % 1000:03d}" for i in range(N)]))
    assert (laps.kind, laps.choice) == ("number", None) and "lengths of time in s, 80 to" in laps.seen
    games = find_kind(pd.Series([f"{i % 17 + 18}:{i % 13 + 15}" for i in range(N)]))
    assert games.kind == "number" and games.choice.endswith("hours and 15 minutes; could also be: string")
    mixed = find_kind(
        pd.Series([f"{3 + i % 9}:{i % 60:02d}" if i % 2 else f"1:0{i % 9}:{i % 60:02d}" for i in range(N)])
    )
    assert (mixed.kind, mixed.choice) == ("number", "could also be: date, as times of day")
    assert "from minutes:seconds and hours:minutes:seconds" in mixed.seen
    finish = find_kind(pd.Series([f"{2 + i // 40}:{i % 60:02d}:{i * 7 % 60:02d}" for i in range(N)]))
    assert (finish.kind, finish.choice) == ("date", "could also be: number, as lengths of time")
    shops = find_kind(pd.Series([f"{i % 12 + 7}:{i % 4 * 15:02d}" for i in range(N)]))
    day = find_kind(pd.Series([f"{i % 24:02d}:{i * 7 % 60:02d}:05" for i in range(N)]))
    half = find_kind(pd.Series([f"{text} am" for text in stopwatch(draw(range(1, 12)))]))
    for found in (shops, day, half):
        assert (found.kind, found.choice) == ("date", None)


@pytest.mark.parametrize(
    ("odd", "kind", "choice"),
    [
        ("9.12", "date", "could also be: number, as lengths of time"),
        ("9,5", "date", "could also be: number, as lengths of time"),
        ("45", "number", "1 of 51 cells, such as '45', has no unit, and is read as s"),
    ],
)
def test_a_mistyped_hour_makes_no_lengths_of_time(odd, kind, choice):
    found = find_kind(pd.Series([f"{7 + i % 12}:{i * 7 % 60:02d}" for i in range(50)] + [odd]))
    assert (found.kind, found.choice) == (kind, choice)


@pytest.mark.parametrize("dtype", ["int64", "float64", "Int64", object, "str"])
def test_many_numbers_that_are_all_days_are_dates(dtype):
    days = pd.Series([*pd.date_range("1975-01-25", periods=14).strftime("%Y%m%d").astype(int)], name="day")
    found = find_kind(days.astype(dtype))
    assert (found.kind, found.choice) == ("date", "could also be: number")
    assert found.seen.endswith("dates as year month day in 8 digits")
    made = ModalityTransformer(infer_modalities(days.astype(dtype).to_frame(), verbose=False)).fit(days.to_frame())
    assert read_by_schema(pd.DataFrame({"day": [19800229]}), made.schema_).table["day"][0] == pd.Timestamp("1980-02-29")
    few, impossible = days[:9], pd.concat([days, pd.Series([19800231])])
    assert [find_kind(cells.astype(int)).kind for cells in (few, impossible)] == ["number", "number"]


@pytest.mark.parametrize(
    ("cells", "kind", "choice"),
    [
        (["1", "2", "3", "4"] * 9 + ["1OT"] * 2, "category", None),
        ([str(i % 90) for i in range(300)] + ["136A"] * 8, "string", None),
        ([f"{i * 7 % 999:03d}xx" for i in range(240)] * 2, "string", None),
        (["11", "3", "20,22", "14,15", "3,7", "4,6", "16", "7", "21"] * 3, "number", "could also be: tags"),
        (["11", "3", "20,22", "14,15", "3,75", "4,6", "16", "7", "21"] * 3, "number", None),
        (["4,5", "3,5", "5", "4", "3", "2,5", "2"] * 5, "number", None),
        (["4,5 kg", "3,6 kg", "2,7 kg"] * 5, "number", None),
        ([f"[0.{i}, -1.5e-3]" for i in range(40)], "string", "lists of numbers as text: read them with json.loads, and \
they are series"),
    ],
    ids=["words", "codes", "zip codes", "lists", "cents", "halves", "units", "vectors"],
)  # fmt: skip
def test_numbers_that_are_something_else(cells, kind, choice):
    found = find_kind(pd.Series(cells))
    assert (found.kind, found.choice) == (kind, choice)


def test_the_range_of_numbers_stands_before_the_words_for_missing_cells():
    found = find_kind(pd.Series([f"{i}.5" for i in range(50)] + ["nil"] * 2))
    assert (
        found.seen
        == "numbers written as text, 0.5 to 49.5; 96.2% of 52 cells can be read, and 'nil' stands for \
missing cells"
    )


def test_a_pace_is_a_number_of_seconds():
    X = pd.DataFrame({"pace": stopwatch(draw(range(3, 15))), "size": SIZES})
    with pytest.raises(ValueError, match="could also be: number, as lengths of time"):
        infer_modalities(X, strict=True)
    made = ModalityTransformer(infer_modalities(X, kinds={"pace": "number"}, strict=True, verbose=False)).fit(X)
    later = pd.DataFrame({"pace": ["25:30", "25.5 min", "0:25:30", 1530, "1:02:10.5"], "size": [20.0] * 5})
    assert read_by_schema(later, made.schema_).table["pace"].tolist() == [1530, 1530, 1530, 1530, 3730.5]
    undeclared = ModalityTransformer(infer_modalities(X, verbose=False)).fit(X)
    with pytest.raises(ValueError, match="'25:30' is not a date as in fit: hour:minute; declare lengths of time as n"):
        undeclared.transform(later.head(1))


def test_long_numbers_are_called_what_they_are():
    def seen(form):
        return find_kind(pd.Series([form.format(i + 100, 7 * i + 1000) for i in range(N)])).seen

    for phones in ("+49 30 {0}{1}", "(555) {0}-{1}", "0221-{0}{1}", "555-{0}-{1}"):
        assert "telephone numbers" in seen(phones)
    for orders in ("2024-{0}{1}", "2024-01-{0}{1}", "{0}-{1}"):
        assert "telephone" not in seen(orders) and "numbers of one kind, such as" in seen(orders)
    pressures = find_kind(pd.Series([f"{100 + i % 40}/{60 + i % 31}" for i in range(N)]))
    assert (pressures.kind, pressures.choice) == ("numbers", "could also be: string")


@pytest.mark.parametrize("dtype", ["object", "string", "string[pyarrow]", "category"])
def test_the_dtype_of_texts_does_not_matter(dtype):
    for cells, kind in (
        ([f"{v:.2f} €" for v in SIZES], "number"),
        (STEMS[:N], "string"),
        (sentences("{0} {1} {2}"), "text"),
    ):
        assert column_kind(pd.Series(cells).astype(dtype))[0] == kind


def test_few_cells_are_no_evidence():
    """With a handful of rows, values are distinct or equal by chance."""
    assert column_kind(pd.Series([4.5, 4.5]))[0] == "number"
    assert column_kind(pd.Series(["A-11", "B-12", "C-13"]))[0] == "string"
    assert column_kind(pd.Series([9, 4, 7]))[0] == "number"


# ---------------------------------------------------------------------- what is printed


def printed(capsys, df, **params):
    capsys.readouterr()
    found = infer_modalities(df, **params)
    return found, entries(capsys.readouterr().out)


def entries(out):
    """The entries of the columns: an entry of several lines has blanks at the begin of the later ones."""
    return re.split(r"\n(?! )", out.strip("\n")) if out else []


def line_of(lines, column):
    (line,) = [line for line in lines if line.startswith(column + "  ")]
    return line


def test_one_line_for_each_column_says_what_was_seen_and_what_is_done(capsys):
    df = pd.DataFrame(
        {
            "sku": [f"K-{v:04d}" for v in RNG.permutation(N)],
            "price": gaps([f"{v:.2f} EUR" for v in SIZES]),
            "stock": ["sold" if i % 10 == 3 else str(i % 7) for i in range(N)],
            "sold": DAYS.strftime("%d.%m.%Y"),
            "maker": STEMS[:N],
            "review": sentences("{0}, {1} after {2} days"),
            "shop": ["Lyon"] * N,
        }
    )
    found, lines = printed(capsys, df)
    assert len(lines) == 1 + df.shape[1] and lines[0].split() == ["column", "kind", "seen", "done"]
    assert [line.split()[0] for line in lines[1:]] == list(df)
    assert "left out" in line_of(lines, "sku") and "leak" in line_of(lines, "sku") and "'K-" in line_of(lines, "sku")
    assert "EUR" in line_of(lines, "price") and "13 of 90 cells missing" in line_of(lines, "price")
    assert "90.0% of 90 cells" in line_of(lines, "stock") and "'sold'" in line_of(lines, "stock")
    assert "day.month.year" in line_of(lines, "sold")
    assert "90 distinct values in 90 cells" in line_of(lines, "maker")
    assert "modality 'text': TextEncoder()" in line_of(lines, "review")
    assert "all 90 cells are 'Lyon'" in line_of(lines, "shop")
    assert [(name, columns) for name, _, columns in found] == [
        ("text", "review"),
        ("tabular", ["price", "stock", "sold", "maker"]),
    ]
    assert printed(capsys, df, verbose=False)[1] == []


def test_names_and_cells_with_line_breaks_stay_on_one_line(capsys):
    df = pd.DataFrame({"a\nb": ["x\ny"] * 5, "c" * 300: ["z"] * 5, "d": SIZES[:5]})
    lines = printed(capsys, df)[1]
    assert len(lines) == 4 and all(len(line) <= 120 for entry in lines for line in entry.split("\n"))


def test_a_table_read_with_the_wrong_separator_gets_a_hint(capsys):
    for sign in (";", "\t", "|"):
        df = pd.DataFrame({f"a{sign}b": [f"{v:.1f}{sign}{i}" for i, v in enumerate(SIZES)]})
        assert f"sep={sign!r}" in printed(capsys, df)[1][-1]
    assert "sep=" not in printed(capsys, pd.DataFrame({"a;b": SIZES, "c": SIZES}))[1][-1]
    found, lines = printed(capsys, pd.DataFrame({"weight, kg": SIZES}))  # a comma is what read_csv looks for anyway
    assert len(found) == 1 and not any("sep=" in line for line in lines)


def test_the_advice_for_an_odd_cell_fits_the_cells():
    found = find_kind(pd.Series(["4.5", "7.1", "3.3", "see 2", "5.0", "6.1", "2.2", "9.9"], index=list("abcdefgh")))
    assert (found.kind, found.choice, found.form.bad) == ("number", None, ("see 2",))
    assert found.seen.endswith("2.2 to 9.9; 7 of 8 cells are numbers, but 'see 2' in row 'd' is not")
    found = find_kind(pd.Series([None, "a.png", "b.png", "gone", "c.jpg"]))
    assert found.kind == "other" and "3 of 4 cells name image files, but 'gone' in row 3 does not" in found.seen


# ---------------------------------------------------------------------- strict, kinds


def test_strict_raises_where_the_cells_allow_several_readings():
    sure = pd.DataFrame({"size": SIZES, "wood": draw(["oak", "ash"]), "empty": [None] * N})
    assert infer_modalities(sure, strict=True, verbose=False)
    unsure = sure.assign(number=np.arange(N), day=draw(["20210304", "20210911", "20220101"]))
    infer_modalities(unsure, verbose=False)
    with pytest.raises(ValueError, match=r"2 columns allow several readings") as caught:
        infer_modalities(unsure, strict=True)
    assert "'number'" in str(caught.value) and "'day'" in str(caught.value) and "kinds={'number'" in str(caught.value)
    declared = {"number": "drop", "day": "date"}
    assert infer_modalities(unsure, strict=True, kinds=declared, verbose=False)[0][2] == ["size", "day", "wood"]


CLASHES = [
    (["$3", "€4", "$5.50"] * 10, r"numbers in several currencies \(\$ and €\); convert them to one", "other"),
    (["3.50", "1,25", "7"] * 10, r"such as '1,25' and '3.50'; write all in one way", "other"),
    (["12 kg", "28 cm", "3 kg"] * 10, r"numbers in units that cannot be compared \(cm and kg\)", "category"),
]


@pytest.mark.parametrize(("cells", "reason", "kind"), CLASHES, ids=["currencies", "signs", "units"])
def test_numbers_that_cannot_be_compared_are_never_put_together(cells, reason, kind, capsys):
    X = pd.DataFrame({"price": cells, "size": SIZES[:30]})
    found = infer_modalities(X)
    assert ("price" in found[-1][2]) == (kind == "category")
    line = " ".join(capsys.readouterr().out.partition("\n")[2].split())
    assert line.split()[:2] == ["price", kind] and re.search(reason, line)
    with pytest.raises(ValueError, match=reason):
        infer_modalities(X, strict=True)
    with pytest.raises(ValueError, match=rf"kinds\['price'\] is 'number', but the column holds .*{reason}"):
        infer_modalities(X, kinds={"price": "number"}, verbose=False)
    infer_modalities(X, kinds={"price": "category"}, verbose=False, strict=True)
    scaled = make_fusion_pipeline([("table", StandardScaler(), ["price", "size"])], FeatureFusionClassifier())
    with pytest.raises(ValueError, match=f"'price' holds .*{reason}"):
        scaled.fit(X, [0, 1] * 15)


@pytest.mark.parametrize("cells", [["$3", "$4", "5"] * 10, ["3.50", "1,250.00", "7"] * 10, ["12 kg", "280 g"] * 15])
def test_declared_numbers_that_agree_are_numbers(cells):
    ((_, _, columns),) = infer_modalities(pd.DataFrame({"price": cells}), kinds={"price": "number"}, verbose=False)
    assert columns == ["price"]


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ([np.inf, *SIZES[1:]], "1 of 90 cells stops the fit: inf is not a finite number in row 0; correct such cells"),
        ([0.5, -np.inf, np.inf, *range(N - 3)], "2 of 90 cells stop the fit: -inf is not a finite number in row 1;"),
        ([np.inf, *map(str, SIZES[1:])], "1 of 90 cells stops the fit: inf is not a finite number in row 0;"),
        (pd.array([np.inf, *SIZES[1:]], dtype="Float64"), "1 of 90 cells stops the fit: inf is not a finite number"),
    ],
    ids=["floats", "both signs", "texts", "Float64"],
)
def test_infinity_is_told_before_the_fit(cells, told, capsys):
    X = pd.DataFrame({"size": cells})
    modalities = infer_modalities(X)
    line = " ".join(capsys.readouterr().out.partition("\n")[2].split())
    assert line.startswith("size number") and told in line and "replace([np.inf, -np.inf], np.nan), or set" in line
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        infer_modalities(X, strict=True)
    assert "'drop'" not in str(caught.value)
    model = make_fusion_pipeline(modalities, FeatureFusionClassifier(LogisticRegression()))
    with pytest.raises(ColumnError, match=r"row ., column 'size': -?inf is not a finite number"):
        model.fit(X, [0, 1] * (N // 2))
    with pytest.warns(MissingModalityWarning, match="count"):
        model.set_params(encode__tabular__on_error="missing").fit(X, [0, 1] * (N // 2))


def test_a_list_without_tags_is_no_gap_and_no_error():
    tags = draw([["a"], [], ["b", "c"], ["c"]])
    X, y = pd.DataFrame({"tags": tags, "size": SIZES}), np.array(["c" in cell for cell in tags])
    found = infer_modalities(X, strict=True, verbose=False)
    model = make_fusion_pipeline(found, FeatureFusionClassifier()).fit(X, y)
    assert model.score(X, y) == 1
    later = pd.DataFrame({"tags": [[], ["c"]], "size": [20.0, 20.0]})
    assert model.predict(later).tolist() == [False, True]
    names = model[0].get_feature_names_out()
    assert not any("missing" in name for name in names)


POLARS = {
    "times": (polars.Series([datetime.time(9, 30), None, datetime.time(7)] * 3), "other", "cells of type time"),
    "structs": (polars.Series([{"a": 1}, {"a": 2}, None] * 3), "other", "cells of type dict"),
    "structs in lists": (polars.Series([[{"a": 1}], [{"a": 2}], []] * 3), "other", "cells of type list"),
    "equal tags": (polars.Series([["a", "b"]] * 9), "constant", "all 9 cells are ['a', 'b']"),
    "equal numbers": (polars.Series([[1.0, 2.0]] * 9), "constant", "all 9 cells are [1.0, 2.0]"),
    "empty lists": (polars.Series([["a"], [], ["b"]] * 9), "tags", "lists of tags, 2 different ones"),
    "only empty lists": (polars.Series([[], []], dtype=polars.List(polars.String)), "empty", "empty lists"),
    "lists with gaps": (polars.Series([["a"], None, ["b"]] * 9), "tags", "9 of 27 cells missing"),
    "durations": (polars.Series([datetime.timedelta(1), datetime.timedelta(2)]), "duration", ""),
    "bytes": (polars.Series([b"ab", b"c"]), "other", "cells of type bytes"),
}


@pytest.mark.parametrize(("column", "kind", "seen"), POLARS.values(), ids=POLARS)
def test_columns_of_polars_are_what_they_are_in_pandas(column, kind, seen, capsys):
    lines = []
    for table in (polars.DataFrame({"x": column}), pd.DataFrame({"x": pd.Series(column.to_list(), dtype=object)})):
        infer_modalities(table)
        lines.append(capsys.readouterr().out.splitlines()[1])
        assert lines[-1].split()[:2] == ["x", kind] and seen in lines[-1]
    assert kind == "duration" or lines[0] == lines[1]


def test_lists_of_lists_are_refused_in_one_sentence():
    for cells in ([[[1], [2, 3]], [[1]], None], [[[1, 2], [3, 4]], [[1, 2]], [[5], [6, 7]]]):
        for table in (polars.DataFrame({"x": cells}), {"x": cells}):
            assert infer_modalities(table, verbose=False) == []
    found = find_kind(pd.Series([np.ones((2, 2)), object(), object()]))
    assert found.kind == "other" and found.choice == "could also be: image"


def test_times_of_day_promise_no_year(capsys):
    clocks = [f"{i % 24:02d}:{i * 7 % 60:02d}" for i in range(N)]
    infer_modalities({"at": clocks, "on": [f"2021-03-{i % 28 + 1:02d} {clock}" for i, clock in enumerate(clocks)]})
    at, on = entries(capsys.readouterr().out)[1:]
    assert re.fullmatch("at +date +times of day +table: hour of the day", at)
    assert "dates with times" in on and "year, month" in on


@pytest.mark.parametrize(
    ("kinds", "error", "message"),
    [
        ({"a": "words"}, ValueError, r"kinds\['a'\] must be one of image, .*string, drop; got 'words'"),
        ({"b": "text"}, ValueError, r"columns that the table lacks: \['b'\]; it has \['a'\]"),
        ({1: "text"}, ValueError, r"the table lacks: \['1'\]"),
        ([("a", "text")], TypeError, "kinds must be a dict"),
        ({"a": ["text"]}, ValueError, "must be one of"),
    ],
)
def test_kinds_that_make_no_sense(kinds, error, message):
    with pytest.raises(error, match=message):
        infer_modalities({"a": [1.5, 2.5]}, kinds=kinds)


def test_kinds_decide():
    df = pd.DataFrame({"code": [f"Q{i:04d}" for i in range(N)], "grade": draw([1, 2, 3]), "word": STEMS[:N]})
    found = infer_modalities(df, kinds={"code": "string", "grade": "category", "word": "text"}, verbose=False)
    assert [(name, columns) for name, _, columns in found] == [("text", "word"), ("tabular", ["grade", "code"])]
    assert [name for name, _, _ in found[1][1].transformers] == ["category", "string"]


def test_a_table_of_which_nothing_is_left_gives_an_empty_list(capsys):
    found, lines = printed(capsys, {"same": ["a"] * 5, "none": [None] * 5})
    assert found == [] and "No column is left" in lines[-1]
    assert infer_modalities({}, verbose=False) == []


# ---------------------------------------------------------------------- modalities


def test_of_many_texts_the_longest_are_modalities_and_the_others_strings():
    df = pd.DataFrame({f"t{k}": sentences("{0} " * (k + 2) + "{1} {2}") for k in range(8)})
    found = infer_modalities(df, verbose=False)
    assert [name for name, _, _ in found] == [*(f"text_t{k}" for k in range(2, 8)), "tabular"]
    assert found[-1][2] == ["t0", "t1"] and isinstance(found[-1][1].transformers[0][1], StringFeatures)
    declared = infer_modalities(df, kinds={"t0": "text"}, verbose=False)
    assert "text_t0" in [name for name, _, _ in declared] and len(declared) == 7


def test_texts_beyond_english_get_the_multilingual_network():
    df = pd.DataFrame({"en": sentences("{0} and {1} {2}"), "ru": KINDS["Russian"][0], "ja": KINDS["Japanese"][0]})
    models = {columns: encoder.model for _, encoder, columns in infer_modalities(df, verbose=False)}
    assert models == {"en": TextEncoder().model, "ru": "use-multilingual-v3", "ja": "use-multilingual-v3"}


def test_names_of_modalities_stay_distinct_and_without_separators():
    df = {name: sentences("{0} and {1} {2}") for name in ("a__b", "a_b", "_c", "d_", "_")}
    names = [name for name, _, _ in infer_modalities(df, verbose=False)]
    assert names == ["text_a_b", "text_a_b_2", "text_c", "text_d", "text"]
    make_fusion_pipeline(infer_modalities(df, verbose=False))


# ---------------------------------------------------------------------- the model fits, saves, serves


def messy(n=N):
    """A table of everything that goes into one block, and a label that several of its columns tell."""
    rng = np.random.default_rng(5)
    y = rng.permutation(np.arange(n) % 2)
    kg = rng.lognormal(1 + y, 0.5)
    table = pd.DataFrame(
        {
            "sku": [f"A{v:05d}" for v in rng.permutation(n)],
            "weight": [None if i % 11 == 4 else "unknown" if i % 29 == 5 else f"{v:.1f} kg" for i, v in enumerate(kg)],
            "price": [f"{v:,.2f}" for v in rng.lognormal(7, 1, n)],
            "added": [day.strftime("%d/%m/%Y") for day in pd.date_range("2023-01-14", periods=n, freq="3D")],
            "new": [[None, "yes", "no"][k] for k in rng.integers(0, 3, n)],
            "state": [["as good as new", "slightly worn out"][k] for k in np.where(rng.random(n) < 0.8, y, 1 - y)],
            "genres": ["|".join(rng.permutation(["sea", "sun", "ice", "fog", "rain"])[: 1 + i % 3]) for i in range(n)],
            "maker": [f"{STEMS[(i * 7 + 3 * k) % 40]} {STEMS[i % 90]}" for i, k in enumerate(y)],
            "rooms": rng.integers(1, 9, n),
            "notes": [None] * n,
        }
    )
    return table, np.where(y, "heavy", "light")


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "fusion", [FeatureFusionClassifier(), DecisionFusionClassifier(cv=3)], ids=["feature", "decision"]
)
def test_a_messy_table_fits_saves_and_predicts(tmp_path, fusion):
    X, y = messy()
    found = infer_modalities(X, verbose=False)
    assert [(name, set(columns)) for name, _, columns in found] == [("tabular", set(X) - {"sku", "notes"})]
    assert not any(isinstance(encoder, BaseEncoder) for _, encoder, _ in found)
    model = make_fusion_pipeline(found, fusion).fit(X[:70], y[:70])
    assert (model.predict(X[70:]) == y[70:]).mean() > 0.6
    expected = model.predict_proba(X)
    save_model(model, tmp_path / "m.fuse", example=X.head(3))
    assert_allclose(load_model(tmp_path / "m.fuse").predict_proba(X), expected)
    columns = {
        name: [None if cell is None or cell != cell else cell for cell in X[name]] for name in X if name != "notes"
    }
    assert_allclose(model.predict_proba(polars.DataFrame(columns)), expected)
    assert_allclose(model.predict_proba(columns), expected)


def plain_columns(X):
    return {name: [None if cell is None or cell != cell else cell for cell in X[name]] for name in X}


def test_the_list_for_polars_and_a_dict_is_that_for_pandas():
    X, _ = messy()
    columns = plain_columns(X)
    expected = [(name, columns) for name, _, columns in infer_modalities(X, verbose=False)]
    for table in (columns, polars.DataFrame(columns)):
        assert [(name, columns) for name, _, columns in infer_modalities(table, verbose=False)] == expected


def test_a_later_table_may_hold_what_fit_never_saw():
    X, y = messy()
    model = make_fusion_pipeline(infer_modalities(X, verbose=False), FeatureFusionClassifier()).fit(X, y)
    later = pd.DataFrame(
        {"weight": ["3 kg", None], "price": ["12.00", "1,000.00"], "added": ["01/02/2031", None], "new": ["YES", "n"]}
    ).assign(state=["lost", None], genres=["moon|sea", ""], maker=["Nobody", None], rooms=[3, None])
    with pytest.warns(UserWarning, match="'lost'"):
        proba = model.predict_proba(later)
    assert np.isfinite(proba).all()


def test_rare_categories_are_pooled_and_unknown_ones_read_as_rare():
    X = pd.DataFrame({"wood": [*draw(["oak", "ash"], N - 4), "elm", "elm", "yew", "fir"], "size": SIZES})
    model = make_fusion_pipeline(infer_modalities(X, verbose=False), FeatureFusionClassifier())
    model.fit(X, np.arange(N) % 2)
    blocks = model[0].transform(X).filter(like="wood")
    assert blocks.shape[1] == 3
    assert_allclose(blocks.iloc[-1], blocks.iloc[-4])
    with pytest.warns(UserWarning, match="'plum'"):
        assert_allclose(model[0].transform(X.head(1).assign(wood="plum")).filter(like="wood"), blocks.iloc[[-1]])


def test_gaps_of_numbers_get_a_mark():
    X = pd.DataFrame({"size": np.where(np.arange(N) % 5 == 0, np.nan, SIZES), "wood": draw(["oak", "ash"])})
    model = make_fusion_pipeline(infer_modalities(X, verbose=False), FeatureFusionClassifier()).fit(X, np.arange(N) % 2)
    mark = model[0].transform(X).filter(like="missingindicator").iloc[:, 0]
    assert ((mark > 0) == X["size"].isna()).all()


# ---------------------------------------------------------------------- StringFeatures


def test_long_texts_are_read_to_their_end():
    ends = ["oak wood", "oak wood old", "ash tree", "ash tree new"]
    values = StringFeatures(2).fit_transform(pd.DataFrame({"s": ["x" * 20_000 + f" {end}" for end in ends]}))
    near, far = abs(values[[0, 2]] - values[[1, 3]]).max(), abs(values[[0, 1]] - values[[2, 3]]).max()
    assert far > 3 * near


def test_string_features_keep_similar_strings_near_and_rows_finite():
    names = pd.DataFrame(
        {"bike": [f"{maker} {k}" for maker in ("Trek Marlin", "Giant Talon", "Cube Aim") for k in range(9)]}
    )
    features = StringFeatures(5).fit(names)
    near, far, none = features.transform(pd.DataFrame({"bike": ["Trek Marlin 12", "Giant Talon SE", None]}))
    known = features.transform(names)
    assert np.linalg.norm(known[:9] - near, axis=1).min() < np.linalg.norm(known[9:] - near, axis=1).min() / 2
    assert np.linalg.norm(known[9:18] - far, axis=1).min() < np.linalg.norm(known[:9] - far, axis=1).min() / 2
    assert_allclose(none, 0) and known.shape == (27, 5)
    assert_allclose(known.var(axis=0).sum(), 1)
    assert features.get_feature_names_out().tolist() == [f"bike_{k}" for k in range(5)]


@pytest.mark.parametrize(
    "cells",
    [["a"], ["a", "a"], ["a", None], [None, None], ["", "b"], ["漢", "字", "漢字"], [3, 4.5, "x"], ["!!!", "?"]],
)
def test_string_features_of_few_or_strange_cells(cells):
    X = pd.DataFrame({"s": pd.Series(cells, dtype=object)})
    values = StringFeatures().fit_transform(X)
    assert values.shape[0] == len(cells) and values.shape[1] >= 1 and np.isfinite(values).all()
    assert values.shape[1] == len(StringFeatures().fit(X).get_feature_names_out())


def test_string_features_mark_missing_cells_if_fit_had_some():
    X = pd.DataFrame({"s": ["red oak", None, "red ash", " "]})
    features = StringFeatures(1).set_output(transform="pandas").fit(X)
    assert features.transform(X)["s_missing"].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "params", [{"n_components": 0}, {"n_components": 2.5}, {"max_features": 0}, {"max_features": True}]
)
def test_string_features_refuse_senseless_numbers(params):
    with pytest.raises(ValueError, match=f"{next(iter(params))} must be a whole number from 1; got"):
        StringFeatures(**params).fit(pd.DataFrame({"s": ["a", "b"]}))


# ---------------------------------------------------------------------- the command line


def test_the_command_line_takes_a_messy_table_and_tells_what_counts_as_missing(tmp_path, capsys):
    X, y = messy()
    X["land"] = ["NA" if i % 9 == 0 else land for i, land in enumerate(draw(["DE", "FR", "PL"]))]
    path, model = tmp_path / "t.csv", tmp_path / "m.fuse"
    X.assign(y=y).to_csv(path, index=False)
    assert main(["fit", str(path), "--target", "y", "-o", str(model), "--strategy", "feature"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^sku +identifier .*\n? .* left out", out, re.MULTILINE)
    assert "Counted as missing: 'NA' in 10 cells of 'land'" in out
    assert main(["predict", str(model), str(path), "-o", str(tmp_path / "p.csv")]) == 0
    assert len(pd.read_csv(tmp_path / "p.csv")) == N


@pytest.mark.parametrize(
    ("name", "first", "row", "signs"),
    [
        ("t.csv", "a;b;y", "1;2;0", "semicolons"),
        ("t.csv", "a\tb\ty", "1\t2\t0", "tabs"),
        ("t.csv", '"weight, kg"', "1.5", None),  # commas separate its columns already
        ("t.tsv", "a,b,y", "1,2,0", "commas"),
        ("t.tsv", "weight", "1.5", None),
    ],
)
def test_the_command_line_says_that_the_separator_is_wrong(tmp_path, capsys, name, first, row, signs):
    path = tmp_path / name
    path.write_text("\n".join([first, *[row] * 20]))
    assert main(["fit", str(path), "--target", "y", "-o", str(tmp_path / "m.fuse")]) == 2
    err = capsys.readouterr().err
    assert "--target names the column 'y', which the table lacks" in err
    assert (f"separated by {signs}: pass --sep" in err) == (signs is not None)
    assert ("separated by" in err) == (signs is not None)


@pytest.mark.parametrize(
    ("name", "content", "signs"),
    [
        ("t.csv", "id;price;y\n1;2;a\n2;3,5;b\n", "semicolons"),
        ("t.csv", "id;size, cm;y\n1;2;a\n2;3,5;4,5,b\n", "semicolons"),
        ("t.csv", "id\tprice\ty\n1\t2\ta\n2\t3,5\tb\n", "tabs"),
        ("t.tsv", "id,price,y\n1,2,a\n2,3\t5,b\n", "commas"),
        ("t.csv", "id,price (a;b),y\n1,2,a\n2,3,5,b\n", None),
        ("t.csv", "id\n1\n2,3\n", None),
    ],
)
@pytest.mark.parametrize("command", ["fit", "predict"])
def test_rows_that_the_wrong_separator_cuts_apart_get_the_hint(tmp_path, name, content, signs, command):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(CommandError, match="Error tokenizing data") as caught:
        read_table(str(path)) if command == "fit" else list(TableStream(path, 10).chunks())
    message = str(caught.value)
    assert (f"separated by {signs}: pass --sep " in message) == (signs is not None)
    assert ("separated by" in message) == (signs is not None)


def test_a_file_of_which_nothing_is_left_names_the_columns(tmp_path, capsys):
    path = tmp_path / "t.csv"
    pd.DataFrame({"row": range(20), "same": ["a"] * 20, "y": [0, 1] * 10}).to_csv(path, index=False)
    assert main(["fit", str(path), "--target", "y", "-o", str(tmp_path / "m.fuse")]) == 1
    err = capsys.readouterr().err
    assert "all 2 feature columns are left out ('row': " in err and "row number" in err and "--kind COLUMN" in err


@pytest.mark.slow
def test_a_chinese_table_is_learned_by_three_lines_and_by_the_command_line(tmp_path, capsys):
    X, y = chinese(160)
    found = infer_modalities(X, verbose=False)
    assert {name: columns for name, _, columns in found} == {"text": "评价", "tabular": ["价格", "城市"]}
    model = make_fusion_pipeline(found, DecisionFusionClassifier(cv=3)).fit(X[:120], y[:120])
    assert (model.predict(X[120:]) == y[120:]).mean() > 0.8  # chance has 0.5
    table, path = tmp_path / "t.csv", tmp_path / "m.fuse"
    X.assign(标签=y)[:120].to_csv(table, index=False)
    X[120:].to_csv(tmp_path / "new.csv", index=False)
    assert main(["fit", str(table), "--target", "标签", "-o", str(path)]) == 0
    assert main(["predict", str(path), str(tmp_path / "new.csv"), "-o", str(tmp_path / "p.csv")]) == 0
    predicted = pd.read_csv(tmp_path / "p.csv")["prediction"]
    assert (predicted.to_numpy() == y[120:]).mean() > 0.8


def chinese(n):
    """Reviews, a city and a price; the words of test rows are partly others than those of training rows."""
    rng = np.random.default_rng(2)
    good = ["味道非常好", "服务很热情", "送货特别快", "质量让人满意", "价格也很便宜", "下次一定再来", "推荐给大家"]
    bad = ["味道太难吃", "服务员态度很差", "等了两个小时", "质量非常糟糕", "价格贵得离谱", "不会再来了", "要求退款"]
    y = rng.permutation(np.arange(n) % 2)
    texts = ["，".join(rng.permutation(good if k else bad)[:2]) + f"，买了{i}次。" for i, k in enumerate(y)]
    prices = np.round(rng.lognormal(3, 0.5, n), 2)
    cities = rng.choice(["北京", "上海", "广州"], n)
    return pd.DataFrame({"评价": texts, "价格": prices, "城市": cities}), np.where(y, "好", "差")


def test_dates_of_the_standard_library_fit():
    X = pd.DataFrame({"day": pd.Series([datetime.date(2024, 1 + i % 12, 1 + i % 28) for i in range(N)], dtype=object)})
    y = np.array([day.month > 6 for day in X["day"]])
    model = make_fusion_pipeline(infer_modalities(X, verbose=False), FeatureFusionClassifier()).fit(X, y)
    assert model.score(X, y) > 0.9


def test_blank_texts_are_missing_texts_and_stop_nothing(capsys):
    texts = [f"a sentence about the {word} of number {i}" for i, word in enumerate(["sea", "hill", "town"] * 8)]
    table = pd.DataFrame({"note": [" " if i % 5 == 0 else text for i, text in enumerate(texts)]})
    ((_, encoder, column),) = infer_modalities(table, kinds={"note": "text"})
    assert encoder.on_error == "raise" and column == "note"
    assert capsys.readouterr().out.rstrip().endswith("TextEncoder(); blank texts count as missing")
    ((_, encoder, _),) = infer_modalities(pd.DataFrame({"note": texts}), kinds={"note": "text"})
    assert encoder.on_error == "raise" and "blank" not in capsys.readouterr().out


# ---------------------------------------------------------------------- given forms, postal codes, lines


ORDERS = pd.DataFrame({"day": [f"{i % 12 + 1:02d}/{i % 11 + 1:02d}/2021" for i in range(N)], "size": SIZES})


def test_the_error_of_strict_gives_the_form_that_decides():
    with pytest.raises(ValueError, match="cells of 1 column allow several readings") as caught:
        infer_modalities(ORDERS, strict=True)
    written = re.findall(r"formats=(\{.*?\}\})", str(caught.value))
    assert len(written) == 2 and "kinds=" not in str(caught.value)
    found = [infer_modalities(ORDERS, formats=ast.literal_eval(text), strict=True, verbose=False) for text in written]
    assert [made[0][1].formats["day"]["formats"] for made in found] == [["%m/%d/%Y"], ["%d/%m/%Y"]]
    prices = pd.DataFrame({"price": [f"{i}.{i * 37 % 900 + 100}" for i in range(1, N)]})
    with pytest.raises(ValueError, match="several readings") as caught:
        infer_modalities(prices, strict=True)
    large = ast.literal_eval(re.findall(r"formats=(\{.*?\}\})", str(caught.value))[1])
    made = ModalityTransformer(infer_modalities(prices, formats=large, strict=True, verbose=False)).fit(prices)
    assert read_by_schema(prices.head(1), made.schema_).table["price"].tolist() == [1137]


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"formats": {"date": {"kind": "date", "formats": ["%Y"]}}}, "formats names columns that the table lacks"),
        (
            {"formats": {"day": {"kind": "date", "formats": ["%Y"]}}},
            "does not fit the cell of row 0: '01/01/2021' is not",
        ),
        ({"formats": {"day": {"kind": "boolean"}}, "kinds": {"day": "date"}}, "is 'date', but formats says 'boolean'"),
        ({"formats": {"day": {"kind": "colour"}}}, "must be a dict as infer_modalities finds it"),
    ],
)
def test_forms_that_do_not_fit_are_refused(params, told):
    with pytest.raises(ValueError, match=told):
        infer_modalities(ORDERS, verbose=False, **params)


def test_declared_numbers_that_are_none_are_told_of_before_the_fit(capsys):
    X = pd.DataFrame({"x": ["7", "ask us", "9", "1"] * 5, "y": [np.inf, *range(19)]}, index=range(100, 120))
    told = "5 of 20 cells stop the fit: 'ask us' is not a number in row 101; correct such cells or make them missing"
    made = infer_modalities(X, kinds={"x": "number"})
    assert told in " ".join(capsys.readouterr().out.split()) and made[0][1].on_error == "raise"
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        infer_modalities(X, kinds={"x": "number", "y": "drop"}, strict=True)
    form = ast.literal_eval(re.search(r"infer_modalities\(df, formats=(\{.*\}\})\)", str(caught.value))[1])
    ((_, made, _),) = infer_modalities(X[["x"]], formats=form, strict=True, verbose=False)
    values = ModalityTransformer([("t", made, ["x"])]).fit_transform(X[["x"]])
    assert np.isnan(values.to_numpy()).sum() == 5
    with pytest.raises(ValueError, match=r"1 of 20 cells stops the fit: inf is not a finite number in row 100"):
        infer_modalities(X, kinds={"x": "category", "y": "number"}, strict=True)


@pytest.mark.parametrize("name", ["zip", "ZipCode", "postal_code", "PLZ", "cep", "邮编", "customer_zip"])
def test_whole_numbers_named_as_postal_codes_are_no_amounts(name):
    codes = RNG.integers(1000, 99999, N)
    found = find_kind(pd.Series(codes, name=name))
    assert (found.kind, found.choice) == ("string", "could also be: number") and "postal code" in found.seen
    assert find_kind(pd.Series(np.resize(codes[:5], N), name=name)).kind == "category"
    assert find_kind(pd.Series(np.resize(codes[:5].astype(str), N), name=name)).kind != "string"


@pytest.mark.parametrize(
    ("name", "values"),
    [("cap", RNG.integers(1, 900, N)), ("zip", RNG.normal(size=N)), ("price", RNG.integers(1000, 99999, N))],
)
def test_a_name_alone_makes_no_postal_code(name, values):
    assert find_kind(pd.Series(values, name=name)).kind == "number"


def test_postal_codes_with_gaps_are_read_as_whole_numbers():
    X = pd.DataFrame({"zip": [*RNG.integers(1000, 99999, N - 1).astype(float), np.nan], "size": SIZES})
    made = ModalityTransformer(infer_modalities(X, verbose=False)).fit(X)
    later = pd.DataFrame({"zip": [1234.0, 98765, "1234"], "size": [1.0, 2.0, 3.0]})
    assert read_by_schema(later, made.schema_).table["zip"].tolist() == ["1234", "98765", "1234"]
    assert_allclose(*made.transform(later).filter(like="zip").to_numpy()[[0, 2]])


def test_signs_of_one_currency_are_one():
    cells = ["¥5", "5元", "CNY 7", "RMB 9", "￥12"] * 3
    found = find_kind(pd.Series(cells))
    assert found.kind == "number" and found.seen.startswith("numbers in CNY")
    assert find_kind(pd.Series(["¥5", "￥7", "¥9"] * 3)).seen.startswith("numbers in ¥")
    assert find_kind(pd.Series(["¥5", "700円", "¥9"] * 3)).seen.startswith("numbers in JPY")
    assert find_kind(pd.Series(["¥5", "700円", "9元"] * 3)).kind == "other"
    assert find_kind(pd.Series(["20 °c", "21 °C", "19 °C"] * 3)).seen.startswith("numbers with '°C'")


def test_no_line_is_longer_than_120_letters(capsys):
    X = ORDERS.assign(
        **{"a very long name of a column " * 3: range(N), "note": [f"a sentence of {i} words and more" for i in SIZES]}
    )
    found, lines = printed(capsys, X)
    assert max(len(line) for entry in lines for line in entry.split("\n")) <= 120 and found
    said = " ".join(" ".join(lines).split())
    assert "could be day/month/year by all cells of the column) -> table: year, month, day" in said


def test_a_mistyped_cell_in_fit_or_later_does_little():
    rng = np.random.default_rng(0)
    days = pd.date_range("2015-01-01", periods=200, freq="9D")
    X = pd.DataFrame({"size": rng.normal(10, 2, 200), "when": days.strftime("%d.%m.%Y")})
    y = 3 * X["size"].to_numpy() + np.linspace(0, 20, 200)

    def fitted(table):
        modalities = infer_modalities(table, verbose=False)
        return make_fusion_pipeline(modalities, DecisionFusionRegressor(RidgeCV(np.logspace(-3, 3, 7)))).fit(table, y)

    clean, typed = fitted(X), X.copy()
    typed.loc[3, "size"], typed.loc[4, "when"] = 1e7, "01.01.0219"
    assert clean.score(X, y) > 0.97
    assert fitted(typed).score(X, y) > 0.9
    far = X.head(3).assign(when=["01.01.0219", "01.01.2109", "01.01.9999"], size=[10.0, 1e9, -1e9])
    with pytest.warns(FarNumberWarning, match="'size' holds numbers far outside the range of fit.*in 2 of 3 rows"):
        later = clean.predict(far)
    assert np.abs(later - y.mean()).max() < 2 * np.ptp(y)
