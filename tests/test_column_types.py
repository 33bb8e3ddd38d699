"""A column means the same in fit and in predict, whatever type it was read as and whoever asks.

A column is fitted in one form and asked about in another, for every pair of forms: from Python, from the command line,
in a report, over JSON. The answers are equal, or the error names the column.
"""

import datetime
import decimal
import functools
import itertools
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars
import pytest
from conftest import slow_but
from serving_case import client_of
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from ensemblefuse import (
    ColumnError,
    DecisionFusionClassifier,
    infer_modalities,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.cli import main

N = 24
GAPS = [4, 5, 13]
DAYS = [datetime.date(2024, 3, 1), datetime.date(2025, 11, 20)]


def held(kind):
    """The cells of a column, and the label that goes with each."""
    two = {
        "code": [3, 7],
        "large code": [2**53 + 1, 2**53 + 2],
        "rate code": [0.1, 2.5],
        "name": ["red", "blue"],
        "flag": [True, False],
        "size": [1.5, 40.0],
        "whole size": [2, 40],
        "flag as number": [True, False],
        "day": DAYS,
        "word": ["red", "blue"],
        "raw": ["red", "blue"],
    }[kind]
    rows = np.random.default_rng(0).permutation(np.arange(N) % 2)
    return [two[i] for i in rows], np.where((rows == 0) ^ (np.arange(N) % 11 == 0), "yes", "no")


def year_of(table):
    return table.apply(lambda column: column.dt.year + column.dt.month / 12)


def modalities(kind, X):
    """How the column `x` is read; beside it stands a column that is always there."""
    number = ("other", StandardScaler(), ["other"])
    if kind in ("word", "raw", "day"):
        reader = {
            "word": ("x", CountVectorizer(), "x"),
            "raw": ("x", "passthrough", ["x"]),
            "day": ("x", make_pipeline(FunctionTransformer(year_of), StandardScaler()), ["x"]),
        }[kind]
        return [reader, number]
    declared = "number" if kind in ("size", "whole size", "flag as number") else "category"
    return infer_modalities(X, kinds={"x": declared, "other": "number"}, verbose=False)


def estimator(kind):
    head = LogisticRegression()
    raw = make_pipeline(FunctionTransformer(as_table), OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    return DecisionFusionClassifier({"x": raw, "other": head} if kind == "raw" else head, cv=2, joint=False)


def as_table(column):
    return pd.DataFrame(column)


# ---------------------------------------------------------------------- forms of a column


def missing(cells, gaps, value=None):
    return [value if gaps and i in GAPS else cell for i, cell in enumerate(cells)]


def text(cell):
    return None if cell is None else str(cell)


def of_dtype(dtype):
    def make(cells, gaps):
        given = missing(cells, gaps)
        if dtype == "bool" and gaps:
            raise ValueError("it cannot hold gaps")  # astype makes False of None
        if dtype in ("string", "string[pyarrow]", "str"):
            given = [text(cell) for cell in given]
        return pd.Series(given, dtype=object).astype(dtype)

    return make


def objects(change):
    return lambda cells, gaps: pd.Series([None if c is None else change(c) for c in missing(cells, gaps)], dtype=object)


def in_polars(change=lambda cell: cell, dtype=None):
    return lambda cells, gaps: polars.Series(
        "x", [None if c is None else change(c) for c in missing(cells, gaps)], dtype=dtype
    )


def category_of(dtype):
    return lambda cells, gaps: of_dtype(dtype)(cells, gaps).astype("category")


TEXTS = {
    "object": objects(str),
    "np.str_": objects(np.str_),
    "string": of_dtype("string"),
    "string[pyarrow]": of_dtype("string[pyarrow]"),
    "category of text": lambda cells, gaps: pd.Series([text(c) for c in missing(cells, gaps)], dtype="category"),
    "polars": in_polars(str),
    "polars categories": in_polars(str, polars.Categorical),
    "bytes": objects(lambda cell: str(cell).encode()),
    "list": lambda cells, gaps: [text(c) for c in missing(cells, gaps)],
}
NUMBERS = {
    "int64": of_dtype("int64"),
    "float64": of_dtype("float64"),
    "float32": of_dtype("float32"),
    "Int64": of_dtype("Int64"),
    "Float64": of_dtype("Float64"),
    "int64[pyarrow]": of_dtype("int64[pyarrow]"),
    "double[pyarrow]": of_dtype("double[pyarrow]"),
    "category of numbers": category_of("float64"),
    "decimals": objects(lambda cell: decimal.Decimal(str(cell))),
    "NumPy numbers": objects(np.float64),
    "polars numbers": in_polars(),
    "text of a float": objects(lambda cell: str(float(cell))),
    "list of numbers": lambda cells, gaps: missing(cells, gaps),
}
FLAGS = {
    "bool": of_dtype("bool"),
    "boolean": of_dtype("boolean"),
    "bool[pyarrow]": of_dtype("bool[pyarrow]"),
    "objects": objects(bool),
    "NumPy": objects(np.bool_),
    "category of truth": category_of("boolean"),
    "polars truth": in_polars(),
    "small letters": objects(lambda cell: str(cell).lower()),
    "capitals": objects(lambda cell: str(cell).upper()),
    "one and zero": objects(int),
    "float with gaps": of_dtype("float64"),
    "list of truth": lambda cells, gaps: missing(cells, gaps),
}
DATES = {
    "ns": of_dtype("datetime64[ns]"),
    "s": of_dtype("datetime64[s]"),
    "dates": objects(lambda cell: cell),
    "datetimes": objects(lambda cell: datetime.datetime(cell.year, cell.month, cell.day)),
    "NumPy": objects(np.datetime64),
    "ISO": objects(datetime.date.isoformat),
    "ISO with time": objects(lambda cell: f"{cell.isoformat()}T00:00:00"),
    "timestamp[us][pyarrow]": of_dtype("timestamp[us][pyarrow]"),
    "date32[pyarrow]": of_dtype("date32[day][pyarrow]"),
    "polars": in_polars(),
}
FORMS = {
    "code": {**NUMBERS, **TEXTS},
    "large code": {name: form for name, form in {**NUMBERS, **TEXTS}.items() if "loat" not in name},
    "rate code": {name: form for name, form in {**NUMBERS, **TEXTS}.items() if "int" not in name.lower()},
    "name": TEXTS,
    "flag": {**FLAGS, "texts": objects(str)},
    "size": {n: form for n, form in {**NUMBERS, **TEXTS}.items() if "int" not in n.lower()},
    "whole size": {**NUMBERS, **TEXTS},
    "flag as number": {**FLAGS, "texts": objects(str)},
    "day": DATES,
    "word": TEXTS,
    "raw": TEXTS,
}
for large in ("category of numbers", "NumPy numbers", "double[pyarrow]"):  # they go through floats
    del FORMS["large code"][large]
# In fit these are no dates: the reader of the column gets texts.
NOT_IN_FIT = {
    "day": ("ISO", "ISO with time"),
    "size": TEXTS,
    "whole size": TEXTS,
    "raw": ("bytes",),
    "word": ("bytes",),
}


def frame(kind, form, gaps):
    """A table of the column in one form, and labels; None where the form cannot hold gaps."""
    cells, y = held(kind)
    try:
        column = FORMS[kind][form](cells, gaps)
    except (ValueError, TypeError):
        return None, y
    other = np.linspace(-1, 1, N)
    if isinstance(column, polars.Series):
        return polars.DataFrame({"x": column, "other": other}), y
    if isinstance(column, list):
        return {"x": column, "other": other}, y
    return pd.DataFrame({"x": column, "other": other}), y


def can_be_fitted(kind, form, gaps):
    return frame(kind, form, gaps)[0] is not None and form not in NOT_IN_FIT.get(kind, ())


@functools.cache
def fitted(kind, form, gaps):
    X, y = frame(kind, form, gaps)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return make_fusion_pipeline(modalities(kind, X), estimator(kind)).fit(X, y)


@functools.cache
def wanted(kind, form, gaps):
    """What the model answers to the usual form, for later gaps and without."""
    usual = {later_gaps: frame(kind, form, later_gaps)[0] for later_gaps in (False, True)}
    return {later_gaps: fitted(kind, form, gaps).predict_proba(X) for later_gaps, X in usual.items() if X is not None}


# ---------------------------------------------------------------------- who asks


def on_disk(X, folder, suffix):
    """The table as a file, where its cells can be written."""
    path = folder / f"table{suffix}"
    if suffix == ".csv" and isinstance(X, pd.DataFrame) and any(isinstance(cell, bytes) for cell in X["x"]):
        return None
    table = pd.DataFrame(X, dtype=object) if isinstance(X, dict) else X  # pandas would round a list of them
    y = held("name")[1]
    try:
        if isinstance(table, polars.DataFrame):
            table = table.with_columns(y=polars.Series(y.tolist()))
            table.write_csv(path) if suffix == ".csv" else table.write_parquet(path)
        elif suffix == ".csv":
            table.assign(y=y).to_csv(path, index=False)
        else:
            table.assign(y=y).to_parquet(path)
    except (TypeError, ValueError, OverflowError):  # pyarrow does not write every object
        return None
    return path.read_bytes()


def in_json(X, folder, suffix):
    cells = X["x"].array if isinstance(X, pd.DataFrame) else X["x"]  # a Series would widen 32 bits
    rows = [{"x": None if pd.isna(c) else as_json(c), "other": o} for c, o in zip(cells, X["other"], strict=True)]
    return None if any(isinstance(row["x"], bytes) for row in rows) else json.dumps(rows).encode()


def ask_command(model, content, folder, suffix):
    path, out = folder / f"asked{suffix}", folder / "out.csv"
    path.write_bytes(content)
    argv = ["predict", model_file(model), path, "-o", out, "-q", "--overwrite"]
    assert main([*map(str, argv), *TRUSTED]) == 0
    written = pd.read_csv(out)
    bad = written["error"].dropna()
    if len(bad):
        raise ColumnError([], N) if bad.str.contains("column 'x'").all() else AssertionError(bad.iloc[0])
    return written[["proba_no", "proba_yes"]].to_numpy()


def ask_report(model, content, folder, suffix):
    """What the report scores is what it hands to `write_report`."""
    path, seen = folder / f"asked{suffix}", []
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ensemblefuse.report.write_report", lambda model, X, *_, **__: seen.append(X) or Written())
        argv = ["report", model_file(model), path, "--target", "y", "-o", folder / "r.html", "--overwrite"]
        assert main([*map(str, argv), "-q", *TRUSTED]) == 0
    return model.predict_proba(seen[0])


TRUSTED = ["--trusted", "test_column_types.as_table", "test_column_types.year_of"]


class Written:
    n_bytes, sections, errors = 0, (), {}


@functools.cache
def folder_of_models():
    return tempfile.TemporaryDirectory()  # until the process ends


@functools.cache
def model_file(model):
    """Each model is written once, for all who ask it."""
    return save_model(model, Path(folder_of_models().name, f"{id(model)}.fuse"))


def ask_server(model, content, folder, suffix):
    with client_of(model) as client:
        answer = client.post("/predict", json={"rows": json.loads(content)})
    said = answer.json()
    if answer.status_code == 422:
        assert all(fault["field"] == "x" for fault in said["errors"]), said
        raise ColumnError([], N)
    return np.array([[p["probabilities"][label] for label in ("no", "yes")] for p in said["predictions"]])


def as_json(cell):
    if isinstance(cell, (np.floating, decimal.Decimal)):  # the digits that its text has: 0.1 of 32 bits is 0.1
        return json.loads(str(cell))
    cell = cell.item() if isinstance(cell, np.generic) else cell
    return cell.isoformat() if isinstance(cell, datetime.date) else cell


# Who asks: how the table is written, and how the model is asked about what was written.
ENTRIES = {
    "predict, CSV": (on_disk, ask_command, ".csv"),
    "predict, Parquet": (on_disk, ask_command, ".parquet"),
    "report, CSV": (on_disk, ask_report, ".csv"),
    "report, Parquet": (on_disk, ask_report, ".parquet"),
    "server": (in_json, ask_server, ".json"),
}
# Pairs that say another thing: no reader knows that 0.1 in float32 is the 0.1 of a text in a column of numbers.
CLOSE = 2e-4


@pytest.fixture(scope="module")
def loaded_once():
    """Each model file is read once: its tables change, and the model does not."""
    from ensemblefuse import persistence

    load, loaded = persistence.load_model, {}

    def once(path, **options):
        if path not in loaded:
            loaded[path] = load(path, **options)
        return loaded[path]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(persistence, "load_model", once)
        yield


class Asker:
    """Asks one entry. Forms that are written alike, and models that read alike, are asked once."""

    def __init__(self, entry, folder):
        self.write, self.ask, self.suffix = ENTRIES[entry]
        self.folder, self.answers, self.written = folder, {}, {}

    def __call__(self, model, X, name):
        if name not in self.written:
            self.written[name] = self.write(X, self.folder, self.suffix)
        content = self.written[name]
        if content is None:
            return None
        # A model reads by its schema alone; the same schema and the same weights of the heads make the same model.
        key = (json.dumps(model["encode"].schema_), model["fuse"].oof_proba_.tobytes(), content)
        if key not in self.answers:
            try:
                self.answers[key] = self.ask(model, content, self.folder, self.suffix)
            except ColumnError as error:
                self.answers[key] = error
        if isinstance(self.answers[key], ColumnError):
            raise self.answers[key]
        return self.answers[key]


def compare(kind, first, gaps, ask, *, every=1, start=0):
    """Return how many answers were equal, and the pairs with an error; each error names the column."""
    model, usual, equal, refused = fitted(kind, first, gaps), wanted(kind, first, gaps), 0, []
    for later, later_gaps in itertools.islice(itertools.product(FORMS[kind], (False, True)), start, None, every):
        X = frame(kind, later, later_gaps)[0]
        if X is None or later_gaps not in usual:
            continue
        try:
            got = ask(model, X, (kind, later, later_gaps))
        except ValueError as error:
            assert isinstance(error, ColumnError) or "'x'" in str(error), (first, later, error)
            refused.append((first, later))
            continue
        if got is not None:
            said = f"{first} -> {later}, gaps: {later_gaps}"
            np.testing.assert_allclose(got, usual[later_gaps], atol=CLOSE, err_msg=said)
            equal += 1
    return equal, refused


FIRST = [
    (kind, form, gaps)
    for kind in FORMS
    for form in FORMS[kind]
    for gaps in (False, True)
    if can_be_fitted(kind, form, gaps)
]
# Of each kind, the first form that a fit with gaps can have.
SOME = [(kind, next(f for f in FORMS[kind] if can_be_fitted(kind, f, True)), True) for kind in FORMS]


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "first", slow_but(lambda first: first in SOME, FIRST), ids=lambda first: "-".join(map(str, first))
)
def test_python_gives_any_form_of_a_column_the_same_answer(first, request):
    """Every form after every other; of two forms of fit, one meets the later ones with gaps and one without."""
    quick = first in SOME and not request.config.getoption("-m").startswith("slow")
    kind, form, _ = first
    may_have_gaps = frame(kind, form, True)[0] is not None
    every, start = (3, 0) if quick else (2, FIRST.index(first) // 2 % 2 if may_have_gaps else 0)
    equal, refused = compare(*first, lambda model, X, _: model.predict_proba(X), every=every, start=start)
    assert equal > len(refused)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    ("first", "entry"),
    [(first, list(ENTRIES)[i % 5]) for i, first in enumerate(SOME)],
    ids=lambda v: v[0] if isinstance(v, tuple) else v,
)
def test_a_file_or_a_server_gives_some_forms_of_a_column_the_same_answer(first, entry, tmp_path):
    equal, refused = compare(*first, Asker(entry, tmp_path), every=5)
    assert equal > len(refused)


# The tests of one kind run in one process, which fits each model once. Python is asked about every two forms above.
# Here they go through one of the five entries, so that each entry meets every first and every later form.
@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.xdist_group(kind)) for kind in FORMS])
def test_files_and_the_server_give_any_form_of_a_column_the_same_answer(kind, entry, tmp_path, loaded_once):
    ask, turn = Asker(entry, tmp_path), list(ENTRIES).index(entry)
    of_kind = [first for first in FIRST if first[0] == kind]
    found = [compare(*first, ask, every=5, start=(i + turn) % 5) for i, first in enumerate(of_kind)]
    assert sum(equal for equal, _ in found) > len(found)
