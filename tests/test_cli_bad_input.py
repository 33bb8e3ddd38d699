"""Every command as a process of its own, and what each says of input that it cannot use: one line, no traceback."""

import datetime
import decimal
import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ensemblefuse import (
    DecisionFusionClassifier,
    inspect_model,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.cli import main
from ensemblefuse.cli._messages import CommandError
from ensemblefuse.cli._tables import read_target

pytestmark = pytest.mark.usefixtures("little_effort")

HEAD = LogisticRegression()


def numbers(n=30):
    rng = np.random.default_rng(0)
    y = ["a", "b"] * (n // 2)
    return pd.DataFrame({"price": rng.normal(size=n), "weight": rng.normal(size=n), "y": y})


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    table = numbers()
    modalities = [("cost", StandardScaler(), ["price"]), ("size", StandardScaler(), ["weight"])]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, cv=3)).fit(table, table["y"])
    return save_model(model, tmp_path_factory.mktemp("models") / "m.fuse")


@pytest.fixture
def table(tmp_path):
    numbers().to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def fails(capsys, *argv):
    """Exit code and the one line of an error; warnings may stand before it."""
    capsys.readouterr()
    code = main([str(word) for word in argv])
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return code, lines[0]


# ---------------------------------------------------------------------- as a user starts them


@pytest.mark.slow
def test_every_command_as_a_process_of_its_own(tmp_path):
    """In one folder, with relative paths, one after the other; `demo` as far as its options.

    Of the commands of the cache the first and the last, and one that writes; test_cli.py runs all of them here.
    """
    numbers(20).assign(note=["red mug", "blue hat"] * 10).to_csv(tmp_path / "t.csv", index=False)
    cache = {"ENSEMBLEFUSE_CACHE": str(tmp_path / "cache"), "ENSEMBLEFUSE_PROGRESS": "off"}
    env = {**os.environ, **cache, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(line, code=0):
        command = [sys.executable, "-m", "ensemblefuse", *shlex.split(line)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
        assert done.returncode == code and "Traceback" not in done.stderr, (line, done.stderr[-2000:])
        return done.stdout + done.stderr

    # `fit` loads the network that reads the texts; one command less that does is some seconds less.
    assert "tabular alone" in run("evaluate t.csv --target y --drop note --cv 2 --csv scores.csv")
    assert (tmp_path / "scores.csv").exists()
    assert "saved m.fuse" in run("fit t.csv --target y --kind note=text -o m.fuse")
    assert "20 rows" in run("predict m.fuse t.csv -o p.csv")
    assert "sections" in run("report m.fuse t.csv --target y -o r.html --trained-on --rows 1")
    assert "wrote c.md" in run("card m.fuse -o c.md")
    assert json.loads(run("inspect m.fuse --json"))["classes"] == ["a", "b"]
    assert "2 vectors" in run("cache info")
    assert "Wrote 2 vectors" in run("cache export c.zip")
    assert "Deleted" in run("cache clear --yes")
    assert "is a folder" in run("demo --output cache", code=2)
    assert "unrecognized arguments: --bogus" in run("inspect m.fuse --bogus", code=2)


# ---------------------------------------------------------------------- tables


def write_parquet(path, y, **columns):
    arrays = {"price": pa.array([1.0, 2.0] * 5), **columns, "y": y}
    parquet.write_table(pa.table(arrays), path)


@pytest.mark.parametrize("command", ["fit", "evaluate"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"price,weight,y\n1,2,caf\xe9\n3,4,b\n", "byte 0xe9 at position 22 is not UTF-8; save the table as UTF-8"),
        ("price,weight,y\n1,2,a\n".encode("utf-16"), "is not UTF-8"),
        (b"price,price,y\n1,2,a\n3,4,b\n", "several columns with the name 'price'"),
        (b"price,weight,y\n1,2,a\n1,2,3,4,b\n", "line 3, saw 5"),
        (b"price,weight,y\n" + b"1,2,a\n2,5,a\n" * 5, "only one class, 'a'"),
        (b"price,weight,y\n1,2,a\n3,4,b\n", "needs a class of 2 rows or more"),
        (b"price,weight,y\n" + b"1,inf,a\n2,3,b\n" * 5, "row 0, column 'weight': inf is not a finite number"),
        (b"y\na\nb\n", "has no feature columns"),
        (b"price,weight,y\n" + b",,a\n,,b\n" * 5, "all"),
    ],
)
def test_a_table_that_cannot_be_fitted_says_why(capsys, tmp_path, command, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    rest = ["-o", tmp_path / "m.fuse"] if command == "fit" else ["--cv", "2"]
    code, error = fails(capsys, command, tmp_path / "t.csv", "--target", "y", "-q", *rest)
    assert code == 1 and message in error
    assert not (tmp_path / "m.fuse").exists()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (pa.array([[1], [2]] * 5), "holds a ndarray in row 0"),
        (pa.array([b"a", b"b"] * 5), "holds a bytes in row 0"),
        (pa.array([decimal.Decimal("1.5"), decimal.Decimal("2.5")] * 5), "holds a Decimal in row 0"),
        (pa.array([{"k": 1}, {"k": 2}] * 5), "holds a dict in row 0"),
    ],
)
def test_a_target_of_another_type_is_named(capsys, tmp_path, y, message):
    write_parquet(tmp_path / "t.parquet", y)
    code, error = fails(capsys, "evaluate", tmp_path / "t.parquet", "--target", "y", "-q")
    assert code == 1 and message in error and "texts, numbers or booleans" in error


def test_infinite_targets_and_columns_twice_in_parquet(capsys, tmp_path):
    write_parquet(tmp_path / "t.parquet", pa.array([np.inf, 2.0] * 5))
    code, error = fails(capsys, "evaluate", tmp_path / "t.parquet", "--target", "y", "--regression", "-q")
    assert code == 1 and "is infinite in the column 'y' in 5 of 10 rows: 0, 2" in error
    arrays = [pa.array([1.0, 2.0])] * 2
    parquet.write_table(pa.Table.from_arrays(arrays, names=["price", "price"]), tmp_path / "twice.parquet")
    code, error = fails(capsys, "evaluate", tmp_path / "twice.parquet", "--target", "price", "-q")
    assert code == 1 and "several columns with the name 'price'" in error


def test_columns_of_types_that_no_encoder_takes_are_listed(capsys, tmp_path):
    odd = {
        "when": pa.array([datetime.datetime(2020, 1, 1)] * 10),
        "struct": pa.array([{"x": 1}] * 10),
        "map": pa.array([[("k", 1)]] * 10, pa.map_(pa.string(), pa.int64())),
        "nothing": pa.nulls(10),
    }
    write_parquet(tmp_path / "t.parquet", pa.array(["a", "b"] * 5), **odd)
    assert main(["evaluate", str(tmp_path / "t.parquet"), "--target", "y", "--cv", "2"]) == 0
    # A long line goes on in lines that begin with blanks.
    lines = [" ".join(line.split()) for line in re.split(r"\n(?! )", capsys.readouterr().out) if line]
    said = {line.split()[0]: line for line in lines}
    assert all("left out" in said[name] for name in odd)


def test_options_that_contradict_each_other_are_wrong_usage(capsys, table):
    for option, message in (
        (["--groups", "y"], "--groups and --target name the same column"),
        (["--kind", "y=text"], "--kind names the column 'y', which is the target"),
    ):
        code, error = fails(capsys, "evaluate", table, "--target", "y", *option, "-q")
        assert code == 2 and message in error


# ---------------------------------------------------------------------- outputs


def test_a_command_never_writes_over_the_table_it_reads(capsys, table):
    before = table.read_bytes()
    for argv in (["fit", table, "--target", "y", "-o", table, "--overwrite"], ["evaluate", table, "--target", "y"]):
        rest = ["--csv", table] if argv[0] == "evaluate" else []
        code, error = fails(capsys, *argv, *rest, "-q")
        assert code == 2 and "is the table to read" in error
    assert table.read_bytes() == before


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder in which nobody can write")
def test_an_output_that_cannot_be_written_is_found_before_the_work(capsys, table, model_file):
    """Whoever runs this: in /proc nobody makes a file."""
    for argv in (
        ["fit", table, "--target", "y", "-o", "/proc/m.fuse"],
        ["evaluate", table, "--target", "y", "--csv", "/proc/s.csv"],
        ["predict", model_file, table, "-o", "/proc/p.csv"],
        ["report", model_file, table, "--target", "y", "-o", "/proc/r.html"],
        ["card", model_file, "-o", "/proc/c.md"],
        ["cache", "export", "/proc/c.zip"],
        ["demo", "--output", "/proc/d.fuse"],
    ):
        code, error = fails(capsys, *argv)
        assert code == 2 and "cannot be written" in error, argv


def test_a_file_without_permission_is_not_written(capsys, table, tmp_path, monkeypatch):
    """The superuser, who may run this, is asked for permission nowhere."""
    (tmp_path / "s.csv").write_text("mine")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    code, error = fails(capsys, "evaluate", table, "--target", "y", "--csv", tmp_path / "s.csv")
    assert code == 2 and "permission denied" in error and (tmp_path / "s.csv").read_text() == "mine"


# ---------------------------------------------------------------------- models


def with_model(model, table, folder):
    """Each command that reads a model."""
    yield ["predict", model, table]
    yield ["inspect", model]
    yield ["report", model, table, "--target", "y", "-o", folder / "r.html"]
    yield ["card", model, "-o", folder / "c.md"]
    yield ["cache", "verify", "--sample", "1", "--model", model, "--table", table]


def test_a_model_that_is_none_is_named_by_every_command(capsys, table, model_file, tmp_path):
    content = model_file.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for name, data, message in (
        ("empty.fuse", b"", "it is empty"),
        ("noise.fuse", b"\x01" * 99, "it is not a zip"),
        ("cut.fuse", content[: len(content) // 2], "is damaged or incomplete"),
        ("flipped.fuse", bytes(flipped), "is damaged or incomplete"),
        ("pickle.fuse", b"\x80\x04N.", "it is a pickle"),
    ):
        (tmp_path / name).write_bytes(data)
        for argv in with_model(tmp_path / name, table, tmp_path):
            code, error = fails(capsys, *argv)
            assert code == 1 and message in error and name in error, argv
    (tmp_path / "folder.fuse").mkdir()
    for name, message in (("folder.fuse", "is a folder"), ("no.fuse", "There is no model")):
        for argv in with_model(tmp_path / name, table, tmp_path):
            code, error = fails(capsys, *argv)
            assert code == 2 and message in error, argv


def test_a_model_that_is_no_pipeline_is_named(capsys, table, tmp_path):
    path = save_model(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), tmp_path / "lr.fuse")
    for argv in with_model(path, table, tmp_path):
        if argv[0] != "inspect":
            code, error = fails(capsys, *argv)
            assert code == 1 and "LogisticRegression" in error, argv
    assert main(["inspect", str(path)]) == 0


def with_table(model, table, folder):
    """Each command that asks a model about a table."""
    yield ["predict", model, table, "-o", folder / "p.csv"]
    yield ["report", model, table, "--target", "y", "-o", folder / "r.html", "--rows", "0"]
    yield ["card", model, table, "--target", "y", "-o", folder / "c.md"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as CSV"),
        (b"price,weight,y\n", "holds no rows"),
        (b"price,weight,y\n1,2,\xe9\n", "save the table as UTF-8"),
        (b"price,price,y\n1,2,a\n", "several columns with the name 'price'"),
        (b"y\na\nb\n", "none of the columns of the model"),
        (b"price,weight,y\n1,2,a\n1,2,3,4,b\n", "cannot be read as CSV"),
    ],
)
def test_a_table_that_cannot_be_asked_about_says_why(capsys, model_file, tmp_path, content, message):
    (tmp_path / "new.csv").write_bytes(content)
    for argv in with_table(model_file, tmp_path / "new.csv", tmp_path):
        code, error = fails(capsys, *argv, "-q")
        assert code == 1 and message in error, argv
    assert {path.name for path in tmp_path.iterdir()} <= {"new.csv", "embeddings", "p.csv.parts"}


def test_texts_and_infinities_in_a_column_of_numbers_are_named(capsys, model_file, tmp_path):
    """`predict` keeps the rows and says so in them; a score of fewer rows than were given would not be one."""
    path = tmp_path / "new.csv"
    for cell, reason in (
        ("cheap", "'cheap' is not a number"),
        ("inf", "'inf' is not a finite number"),
        ("1e300", "'1e300' is too large for float32, so it must be below 3.4e+38"),
    ):
        path.write_text(f"price,weight,y\n1,2,a\n{cell},2,b\n1,3,b\n")
        _, *others = with_table(model_file, path, tmp_path)
        for argv in others:
            code, error = fails(capsys, *argv, "-q")
            assert code == 1 and "new.csv: 1 cell in 3 rows" in error, argv
            assert f"row 1, column 'price': {reason}" in error, argv
        assert main(["predict", str(model_file), str(path), "-o", str(tmp_path / "p.csv"), "-q", "--overwrite"]) == 0
        written = pd.read_csv(tmp_path / "p.csv")
        assert written["prediction"].isna().tolist() == [False, True, False]
        assert written.loc[1, "error"] == f"column 'price': {reason}"
    pd.DataFrame({"price": [1.0, -np.inf], "weight": [1.0, 2.0]}).to_parquet(tmp_path / "new.parquet")
    argv = ["predict", model_file, tmp_path / "new.parquet", "-o", tmp_path / "p2.csv", "-q", "--on-error", "missing"]
    assert main([str(word) for word in argv]) == 0
    written = pd.read_csv(tmp_path / "p2.csv")
    assert (
        written["prediction"].notna().all() and written.loc[1, "error"] == "column 'price': -inf is not a finite number"
    )


def test_a_column_that_parquet_cannot_take_back_is_named(capsys, model_file, tmp_path):
    rows = {"price": pa.array([1.0, 2.0]), "m": pa.array([[("k", 1)]] * 2, pa.map_(pa.string(), pa.int64()))}
    parquet.write_table(pa.table(rows), tmp_path / "new.parquet")
    argv = ["predict", model_file, tmp_path / "new.parquet", "-q", "-o"]
    code, error = fails(capsys, *argv, tmp_path / "p.parquet")
    assert code == 1 and "column m" in error and "name a .csv file" in error
    assert main([str(word) for word in [*argv, tmp_path / "p.csv"]]) == 0


def test_a_model_of_fit_keeps_what_the_command_promises(table, tmp_path):
    """What all the commands above stand on."""
    assert main(["fit", str(table), "--target", "y", "-q", "-o", str(tmp_path / "m.fuse")]) == 0
    assert load_model(tmp_path / "m.fuse").predict(numbers()).shape == (30,)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "labels, dtype",
    [
        (["p", "q"], "object"),
        (["p", "q"], "string"),
        (["p", "q"], "category"),
        ([True, False], "boolean"),
        ([True, False], "object"),
        ([1, 2], "Int64"),
        ([1, 2], "object"),
        ([1.0, 2.0], "Float64"),
    ],
)
def test_labels_of_any_dtype_are_fitted_and_scored(table, tmp_path, labels, dtype):
    path, model = tmp_path / "t.parquet", tmp_path / "m.fuse"
    cells = pd.read_csv(table).assign(y=pd.Series(labels * 15, dtype=dtype))
    cells.to_parquet(path)
    arguments = ["--target", "y", "--drop", *[c for c in cells.columns if c not in ("price", "y")]]
    assert main(["fit", str(path), *arguments, "-o", str(model), "-q"]) == 0
    assert sorted(inspect_model(model)["classes"]) == sorted(labels)
    cells.iloc[::-1].reset_index(drop=True).to_parquet(path)  # new rows, as the card takes them to be
    assert main(["card", str(model), str(path), "--target", "y", "-o", str(tmp_path / "card.md"), "-q"]) == 0


def test_missing_labels_and_labels_of_several_kinds_are_named_by_row():
    for cells in (
        ["p", None, "q"],
        pd.array([1, None, 2], dtype="Int64"),
        pd.array([True, None, False], dtype="boolean"),
    ):
        with pytest.raises(CommandError, match="The target 'y' is missing in 1 of 3 rows: 1"):
            read_target(pd.DataFrame({"y": cells}), "y", regression=False)
    for cells, said in (
        (["p", 3], "a text in row 0, 'p', and a number in row 1, 3"),
        ([1, True], "a number in row 0, 1, and"),
    ):
        with pytest.raises(CommandError, match=said):
            read_target(pd.DataFrame({"y": pd.Series(cells, dtype=object)}), "y", regression=False)
    numbers = read_target(pd.DataFrame({"y": pd.Series([1, 2.5], dtype=object)}), "y", regression=True)
    assert numbers.dtype == float and numbers.tolist() == [1.0, 2.5]


def test_a_parquet_file_with_names_of_several_levels_is_refused(capsys, model_file, tmp_path):
    columns = pd.MultiIndex.from_tuples([("price", "a"), ("weight", "b"), ("y", "c")])
    path = tmp_path / "t.parquet"
    pd.DataFrame([[1.0, 2.0, "p"]] * 4, columns=columns).to_parquet(path)
    for argv in (["fit", path, "--target", "y", "-o", tmp_path / "m.fuse"], ["predict", model_file, path]):
        code, error = fails(capsys, *argv)
        assert code == 1 and "t.parquet: X has columns of 2 levels" in error and "('price', 'a')" in error
