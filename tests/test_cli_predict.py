"""``ensemblefuse predict`` on tables of any length: in pieces, gone on with after a stop, every row kept."""

import io
import json

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from ensemblefuse import (
    BaseEncoder,
    ConformalFusionClassifier,
    ConformalFusionRegressor,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.cli import _predict, main
from ensemblefuse.cli._table_stream import MISSING


class LengthEncoder(BaseEncoder):
    """Counts letters; a text with a question mark cannot be read."""

    def __init__(self, on_error="raise"):
        self.on_error = on_error

    def load(self, cell):
        if "?" in cell:
            raise ValueError("it asks")
        return cell

    def encode_batch(self, items):
        return np.array([[len(item)] for item in items], dtype=float)


def fit(path, *, on_error="raise", labels=("a", "b")):
    df = pd.DataFrame({"title": ["x", "xxxxxx"] * 10, "price": [1.0, 9.0] * 10})
    modalities = [("text", LengthEncoder(on_error), "title"), ("tabular", "passthrough", ["price"])]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(LogisticRegression(), cv=2, joint=False))
    model.fit(df, list(labels) * 10)
    return model, save_model(model, path)


@pytest.fixture(scope="module", autouse=True)
def trusted():
    """Model files of these tests hold an encoder of this module."""
    from ensemblefuse import persistence

    original = persistence.load_model
    persistence.load_model = lambda path, trusted=(): original(path, trusted=[LengthEncoder])
    yield
    persistence.load_model = original


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("models") / "m.fuse")[1]


def write(path, n=25):
    table = pd.DataFrame({"id": [f"{i:03d}" for i in range(n)], "title": ["x", "xxxxxx"] * (n // 2) + ["x"] * (n % 2)})
    table["price"] = np.where(table["title"] == "x", "1.0", "9")
    table.to_csv(path, index=False)
    return table


def predict(*argv):
    return main(["predict", *map(str, argv), "--quiet"])


def test_pieces_make_the_same_file_as_the_whole(model_file, tmp_path):
    table = write(tmp_path / "t.csv")
    for rows in (4, 1000):
        assert predict(model_file, tmp_path / "t.csv", "-o", tmp_path / f"{rows}.csv", "--chunk-rows", rows) == 0
    assert (tmp_path / "4.csv").read_bytes() == (tmp_path / "1000.csv").read_bytes()
    written = pd.read_csv(tmp_path / "4.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(written[table.columns], table, check_dtype=False)  # "007" is still "007"
    assert (written["prediction"] == np.where(table["title"] == "x", "a", "b")).all()
    assert (written["error"] == "").all() and not (tmp_path / "4.csv.parts").exists()


def conformal(path, *, regression):
    """Two numbers that say the same, always both there in fit."""
    x = np.random.default_rng(0).normal(size=60)
    if regression:
        inner, y = DecisionFusionRegressor(Ridge(), cv=3, joint=False), x
    else:
        inner, y = DecisionFusionClassifier(LogisticRegression(), cv=3, joint=False), np.where(x > 0, "é, so", "b")
    outer = ConformalFusionRegressor if regression else ConformalFusionClassifier
    modalities = [("one", "passthrough", ["a"]), ("two", "passthrough", ["b"])]
    model = make_fusion_pipeline(modalities, outer(inner, confidence_level=0.8)).fit(pd.DataFrame({"a": x, "b": x}), y)
    save_model(model, path)
    return model


@pytest.mark.filterwarnings("ignore:.*no calibration row:UserWarning")
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("regression", [False, True])
def test_a_conformal_model_gives_sets_or_intervals_too(tmp_path, regression, suffix, capsys):
    """In pieces of which one has no row with a prediction; of a combination that fit lacked no coverage is promised."""
    model = conformal(tmp_path / "m.fuse", regression=regression)
    (tmp_path / "t.csv").write_text("a,b\n2,2\n-2,\n,\nx,1\n0,0\n")
    argv = (tmp_path / "m.fuse", tmp_path / "t.csv", "-o", tmp_path / f"o.{suffix}", "--chunk-rows", 1)
    assert predict(*argv) == 0
    written = pd.read_csv(tmp_path / "o.csv") if suffix == "csv" else pd.read_parquet(tmp_path / "o.parquet")
    calibrated = written["calibrated"].astype(object)
    assert calibrated.drop(3).tolist() == [True, False, True, True]
    assert pd.isna(calibrated[3])
    X = pd.DataFrame({"a": [2.0, -2.0, np.nan, 0.0], "b": [2.0, np.nan, np.nan, 0.0]})
    Z, answered = model[:-1].transform(X), written.drop(3)
    assert written.columns[-1] == "error" and "no calibration row" not in capsys.readouterr().err
    if regression:
        np.testing.assert_allclose(answered[["lower", "upper"]].to_numpy(), model[-1].predict_interval(Z))
        assert written.loc[3, ["lower", "upper"]].isna().all() and written.loc[2, "upper"] == np.inf
    else:
        sets = [model.classes_[held].tolist() for held in model[-1].predict_set(Z)]
        assert [json.loads(cell) for cell in answered["set"]] == sets and pd.isna(written.loc[3, "set"])
        assert written.loc[0, "set"] == '["é, so"]'


def test_a_column_that_is_named_like_a_bound_is_not_overwritten(tmp_path, capsys):
    conformal(tmp_path / "m.fuse", regression=True)
    (tmp_path / "t.csv").write_text("a,lower\n1,2\n")
    assert predict(tmp_path / "m.fuse", tmp_path / "t.csv") == 1
    assert "has the columns ['lower'] already" in capsys.readouterr().err


def test_a_misspelt_column_is_told(model_file, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("titel,price,id\nx,1,1\n")
    assert predict(model_file, tmp_path / "t.csv") == 0
    told = capsys.readouterr().err
    assert "lacks the column 'title', which counts as missing. It has 'titel'; did you mean 'title'?" in told
    assert "It has 'price'" not in told and "It has 'id'" not in told
    (tmp_path / "t.csv").write_text("price,id\n1,1\n")
    assert predict(model_file, tmp_path / "t.csv") == 0 and "Then rename" not in capsys.readouterr().err


def test_a_row_that_cannot_be_read_is_kept_with_its_reason(model_file, tmp_path):
    table = write(tmp_path / "t.csv")
    table.loc[5, "title"], table.loc[9, "price"] = "what?", "cheap"
    table.to_csv(tmp_path / "t.csv", index=False)
    assert predict(model_file, tmp_path / "t.csv", "-o", tmp_path / "o.csv", "--chunk-rows", "4") == 0
    written = pd.read_csv(tmp_path / "o.csv", dtype=str)
    assert written.loc[5, "error"] == "column 'title': ValueError: it asks"
    assert written.loc[9, "error"] == "column 'price': 'cheap' is not a number"
    assert written["prediction"].isna().sum() == 2 and written["error"].notna().sum() == 2


def test_both_reasons_of_one_row_are_told(model_file, tmp_path):
    (tmp_path / "t.csv").write_text("title,price\nwhat?,cheap\nx,1\n")
    predict(model_file, tmp_path / "t.csv", "-o", tmp_path / "o.csv", "--on-error", "missing")
    written = pd.read_csv(tmp_path / "o.csv")
    assert written.loc[0, "error"] == "column 'price': 'cheap' is not a number; column 'title': ValueError: it asks"
    assert written["prediction"].notna().all()  # nothing is known of the row, so the class frequencies answer


def test_a_bad_cell_is_missing_where_the_model_was_fitted_so(tmp_path):
    _, path = fit(tmp_path / "m.fuse", on_error="missing")
    (tmp_path / "t.csv").write_text("title,price\nwhat?,9\nx,1\n")
    predict(path, tmp_path / "t.csv", "-o", tmp_path / "o.csv")
    written = pd.read_csv(tmp_path / "o.csv")
    assert written["prediction"].tolist() == ["b", "a"] and "it asks" in written.loc[0, "error"]


def test_raise_stops_at_the_row(model_file, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("title,price\nx,1\nwhat?,9\n")
    assert predict(model_file, tmp_path / "t.csv", "-o", tmp_path / "o.csv", "--on-error", "raise") == 1
    assert "row 1, column 'title': ValueError: it asks" in capsys.readouterr().err


def stop_after(n_pieces, monkeypatch):
    """Interrupt the piece after these; returns the method that was replaced."""
    original, calls = _predict.Predictor.__call__, []

    def stop(self, table):
        calls.append(len(table))
        if len(calls) > n_pieces:
            raise KeyboardInterrupt
        return original(self, table)

    monkeypatch.setattr(_predict.Predictor, "__call__", stop)
    return original


@pytest.fixture
def stopped(model_file, tmp_path, monkeypatch):
    """A run that stops after two pieces of four rows."""
    write(tmp_path / "t.csv")
    argv = [model_file, tmp_path / "t.csv", "-o", tmp_path / "o.csv", "--chunk-rows", "4"]
    original = stop_after(2, monkeypatch)
    assert predict(*argv) == 130
    monkeypatch.setattr(_predict.Predictor, "__call__", original)
    return argv


def test_a_stopped_run_goes_on_and_predicts_no_row_twice(stopped, tmp_path, monkeypatch):
    predicted, original = [], _predict.Predictor.__call__
    monkeypatch.setattr(
        _predict.Predictor, "__call__", lambda self, table: predicted.extend(table["id"]) or original(self, table)
    )
    assert not (tmp_path / "o.csv").exists()
    assert predict(*stopped, "--resume") == 0
    assert predicted == [f"{i:03d}" for i in range(8, 25)]
    predict(*stopped[:3], tmp_path / "whole.csv", "--chunk-rows", "4")
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_stopped_run_says_with_which_options_it_goes_on(stopped, tmp_path, capsys):
    other = [*stopped[:-1], "5"]
    assert predict(*other) == 2 and "(--chunk-rows 4)" in capsys.readouterr().err
    assert predict(*other, "--resume") == 1
    assert "another chunk_rows" in (told := capsys.readouterr().err) and "pass --chunk-rows 4 as then" in told
    assert predict(*stopped, "--resume", "--on-error", "keep") == 1
    assert "pass no --on-error as then" in capsys.readouterr().err
    assert main(["predict", *map(str, stopped), "--resume"]) == 0
    assert "earlier run with --chunk-rows 4" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_a_file_is_replaced_only_if_asked(model_file, tmp_path, capsys, suffix):
    write(tmp_path / "t.csv")
    output = tmp_path / f"o.{suffix}"
    output.write_text("of somebody")
    for option in ([], ["--resume"], ["--restart"]):
        assert predict(model_file, tmp_path / "t.csv", "-o", output, *option) == 2
        assert "already exists; pass --overwrite to replace it" in capsys.readouterr().err
    assert output.read_text() == "of somebody" and not (tmp_path / f"o.{suffix}.parts").exists()
    assert predict(model_file, tmp_path / "t.csv", "-o", output, "--overwrite") == 0
    assert output.read_bytes() != b"of somebody"
    assert predict(model_file, tmp_path / "t.csv", "--overwrite") == 2


def test_rows_of_a_stopped_run_are_neither_lost_nor_mixed(stopped, tmp_path, capsys):
    assert predict(*stopped) == 2
    assert "holds 8 rows" in capsys.readouterr().err
    assert predict(*stopped, "--resume", "--on-error", "missing") == 1
    assert "another on_error" in capsys.readouterr().err
    write(tmp_path / "t.csv", n=26)
    assert predict(*stopped, "--resume") == 1
    assert "another table" in capsys.readouterr().err
    assert predict(*stopped, "--restart") == 0 and len(pd.read_csv(tmp_path / "o.csv")) == 26


def test_bad_rows_of_the_earlier_run_are_counted_too(model_file, tmp_path, capsys, monkeypatch):
    table = write(tmp_path / "t.csv")
    table.loc[[1, 2, 20], "title"] = "what?"
    table.to_csv(tmp_path / "t.csv", index=False)
    argv = ["predict", *map(str, (model_file, tmp_path / "t.csv", "-o", tmp_path / "o.csv", "--chunk-rows", "4"))]
    stop_after(2, monkeypatch)
    assert main(argv) == 130
    monkeypatch.undo()
    assert main([*argv, "--resume"]) == 0
    told = capsys.readouterr().err
    assert "25 rows" in told and "warning: 3 rows hold a cell that cannot be read" in told


def test_a_damaged_record_is_told(stopped, tmp_path, capsys):
    (tmp_path / "o.csv.parts" / "state.json").write_text('{"rows": [4')
    assert predict(*stopped, "--resume") == 1
    assert "is damaged; pass --restart" in capsys.readouterr().err


@pytest.mark.parametrize("choice", [(), ("--restart",), ("--resume",)])
@pytest.mark.parametrize("name", ["diary.txt", "00000000"])
def test_a_folder_of_somebody_else_is_left_alone(model_file, tmp_path, capsys, choice, name):
    """It only happens to have the name, without a record of a run in it."""
    write(tmp_path / "t.csv")
    (tmp_path / "o.csv.parts").mkdir()
    argv = [model_file, tmp_path / "t.csv", "-o", tmp_path / "o.csv", *choice]
    (tmp_path / "o.csv.parts" / name).write_text("mine")
    assert predict(*argv) == 2
    assert f"{name!r}" in (told := capsys.readouterr().err) and "move it away, or name another output" in told
    assert (tmp_path / "o.csv.parts" / name).read_text() == "mine"
    (tmp_path / "o.csv.parts" / name).unlink()
    assert predict(*argv) == 0 and not (tmp_path / "o.csv.parts").exists()  # an empty folder will do


def test_a_foreign_file_beside_the_pieces_is_not_removed_with_them(stopped, tmp_path):
    foreign = tmp_path / "o.csv.parts" / "diary.txt"
    foreign.write_text("mine")
    assert predict(*stopped, "--restart") == 2 and foreign.exists()
    (tmp_path / "elsewhere").mkdir()
    foreign.rename(tmp_path / "elsewhere" / "diary.txt")
    assert predict(*stopped, "--resume") == 0 and len(pd.read_csv(tmp_path / "o.csv")) == 25


def test_resume_needs_a_file(model_file, tmp_path, capsys):
    write(tmp_path / "t.csv")
    assert predict(model_file, tmp_path / "t.csv", "--resume") == 2
    assert "need -o" in capsys.readouterr().err


def test_parquet_keeps_types_and_labels_over_pieces(model_file, tmp_path):
    table = pd.DataFrame({"title": ["x", None, "xxxxxx"] * 4, "n": range(12), "note": [None] * 9 + ["late"] * 3})
    for name, index in (("plain", None), ("named", pd.Index([f"s{i % 7}" for i in range(12)], name="sku"))):
        source = table if index is None else table.set_index(index)
        source.to_parquet(tmp_path / "t.parquet")
        argv = [model_file, tmp_path / "t.parquet", "-o", tmp_path / f"{name}.parquet", "--chunk-rows", "5"]
        assert predict(*argv) == 0
        written = pd.read_parquet(tmp_path / f"{name}.parquet")
        pd.testing.assert_frame_equal(written[source.columns], pd.read_parquet(tmp_path / "t.parquet"))
        assert written["n"].dtype == np.int64 and len(written) == 12


def test_numbers_of_a_csv_file_are_numbers_in_parquet(model_file, tmp_path):
    table = "id,title,price,late\n" + "".join(f"{i},x,{i}.5,{'' if i < 8 else 'word'}\n" for i in range(10))
    (tmp_path / "t.csv").write_text(table)
    assert predict(model_file, tmp_path / "t.csv", "-o", tmp_path / "o.parquet", "--chunk-rows", "3") == 0
    written = pd.read_parquet(tmp_path / "o.parquet")
    assert written["id"].dtype == np.int64 and written["price"].dtype == np.float64
    assert written["late"].tolist()[-2:] == ["word", "word"]


def test_numbers_and_integer_labels(tmp_path, capsys):
    """A row without a prediction leaves the others' labels as they are."""
    _, path = fit(tmp_path / "m.fuse", labels=(0, 1))
    (tmp_path / "t.csv").write_text("title,price\nwhat?,1\nxxxxxx,9\n")
    assert predict(path, tmp_path / "t.csv") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("what?,1,,") and lines[2].startswith("xxxxxx,9,1,")

    df = pd.DataFrame({"size": np.arange(20.0)})
    model = make_fusion_pipeline([("tabular", "passthrough", ["size"])], DecisionFusionRegressor(Ridge(), cv=2))
    save_model(model.fit(df, 2 * df["size"]), tmp_path / "r.fuse")
    (tmp_path / "r.csv").write_text("size\n3\nbig\n")
    assert predict(tmp_path / "r.fuse", tmp_path / "r.csv") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "size,prediction,error" and lines[2] == "big,,column 'size': 'big' is not a number"


def test_booleans_of_a_csv_file_are_what_they_were_in_fit(tmp_path, capsys):
    (tmp_path / "fit.csv").write_text("new,price\n" + "True,1\nFalse,9\n" * 10)
    df = pd.read_csv(tmp_path / "fit.csv")
    model = make_fusion_pipeline([("tabular", "passthrough", ["new", "price"])], FeatureFusionClassifier())
    path = save_model(model.fit(df, df["new"].astype(str)), tmp_path / "m.fuse")
    assert predict(path, tmp_path / "fit.csv") == 0
    assert all(line.split(",")[2] == line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:])


def test_a_missing_cell_is_what_pandas_takes_for_one():
    for text in [*MISSING, "none", "0", "-", "missing"]:
        lost = pd.read_csv(io.StringIO(f'a,b\n"{text}",x\ny,y\n'))["a"].isna()[0]
        assert lost == (text in MISSING), text


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "cannot be read as CSV"), ("title,price\n", "holds no rows"), ("title,title\nx,y\n", "several columns")],
)
def test_a_table_that_is_none_is_one_sentence(model_file, tmp_path, capsys, content, message):
    (tmp_path / "t.csv").write_text(content)
    assert predict(model_file, tmp_path / "t.csv", "-o", tmp_path / "o.csv") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()
    write(tmp_path / "t.csv")
    assert predict(model_file, tmp_path / "t.csv", "-o", tmp_path / "o.csv") == 0  # nothing is left in its way


def test_a_line_with_too_many_cells_stops_and_keeps_what_was_done(model_file, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("title,price\n" + "x,1\n" * 6 + "x,1,2,3\n")
    argv = [model_file, tmp_path / "t.csv", "-o", tmp_path / "o.csv", "--chunk-rows", "2"]
    assert predict(*argv) == 1
    assert "line 8" in capsys.readouterr().err
    assert predict(*argv) == 2
    assert "of a run that was stopped" in capsys.readouterr().err


def test_what_a_file_needs_is_told_as_an_option_of_the_command(model_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ensemblefuse.persistence.load_model", load_model)
    write(tmp_path / "t.csv")
    own = f"{LengthEncoder.__module__}.LengthEncoder"
    for command, output in (("predict", "p.csv"), ("card", "c.md")):
        rows = [tmp_path / "t.csv"] if command == "predict" else []
        argv = [command, *map(str, [model_file, *rows, "-o", tmp_path / output]), "--quiet"]
        assert main(argv) == 1
        assert f"pass --trusted '{own}'" in capsys.readouterr().err
        assert main([*argv, "--trusted", own]) == 0

    joblib.dump({"a": "model"}, tmp_path / "old.joblib")
    assert predict(tmp_path / "old.joblib", tmp_path / "t.csv") == 1
    assert "save_model(load_model(old, allow_pickle=True), new)" in capsys.readouterr().err
