"""The command line: what it prints, where, and with which exit code."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import in_browser
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import ensemblefuse
from ensemblefuse import compare_models, datasets, infer_modalities, load_model
from ensemblefuse.cache.cell_digests import cell_digest
from ensemblefuse.cli import _demo, _main, _report, main
from ensemblefuse.cli._demo import hold_out
from ensemblefuse.cli._messages import describe, install_warning_printer, one_line
from ensemblefuse.cli._tables import read_table, read_target
from ensemblefuse.compose._infer_modalities import KINDS
from ensemblefuse.exceptions import BadRow, EncodingError

pytestmark = pytest.mark.usefixtures("little_effort")

COMMANDS = ["demo", "fit", "evaluate", "predict", "report", "card", "inspect", "cache"]
# Columns of `make_media` that need a network, or the row's name: left out where a test is about something else.
NO_MEDIA = ["--drop", "sku", "photo", "clip", "title"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with shop.csv and shop.parquet, whose media paths start at the folder."""
    folder = tmp_path_factory.mktemp("shop")
    media = datasets.make_media(folder / "media", n_samples=24, missing=0.1)
    table = media.frame.assign(shape=media.target, house=[f"h{i // 2}" for i in range(24)])
    for column in ("photo", "clip"):
        table[column] = [cell and os.path.relpath(cell, folder) for cell in table[column]]
    table.to_csv(folder / "shop.csv")
    table.to_parquet(folder / "shop.parquet")
    return folder


def run(capsys, *argv):
    """Exit code, standard output and standard error of a command."""
    capsys.readouterr()
    code = main([str(word) for word in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# ---------------------------------------------------------------------- help, usage


def test_help_loads_no_numbers_and_no_networks():
    code = (
        "import sys; from ensemblefuse.cli import main; main(['fit', '--help']); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "pandas", "sklearn", "torch"} & set(done.stderr.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_an_example_that_parses(capsys, command):
    code, out, _ = run(capsys, command, "--help")
    example = out.split("example:\n")[1].strip()
    assert code == 0
    assert example.startswith(f"ensemblefuse {command}")
    assert _main._parser().parse_args(example.split()[1:]).function == command


def test_help_and_version_are_results(capsys):
    assert run(capsys, "--version") == (0, f"ensemblefuse {ensemblefuse.__version__}\n", "")
    code, out, err = run(capsys, "--help")
    assert code == 0 and err == ""
    assert all(command in out for command in [*COMMANDS, "exit codes"])


def test_the_module_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "ensemblefuse", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "ensemblefuse")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: COMMAND"),
        (["tune"], "invalid choice: 'tune'"),
        (["fit", "t.csv", "-o", "m.fuse"], "--target"),
        (["fit", "t.csv", "--target", "y", "-o", "m.fuse", "--kind", "photo=picture"], "'photo=picture' is not"),
        (["evaluate", "t.csv", "--target", "y", "--cv", "1"], "'1' is not a whole number of at least 2"),
        (["evaluate", "t.csv", "--target", "y", "--jobs", "0"], "'0' is not a number of processes"),
        (["report", "m.fuse", "t.csv", "-o", "r.html"], "--target"),
        (["report", "m.fuse", "t.csv", "--target", "y"], "--output"),
        (["report", "m.fuse", "t.csv", "--target", "y", "-o", "r.html", "--rows", "-1"], "--rows"),
        (["cache"], "required: ACTION"),
        (["cache", "shrink"], "invalid choice: 'shrink'"),
        (["cache", "prune", "--max-size", "2 parsecs"], "'2 parsecs' is not a size such as 500MB"),
        (["cache", "prune", "--max-size", "-1"], "--max-size"),
        (["cache", "prune", "--unused-days", "nan"], "'nan' is not a number of days"),
        (["cache", "verify", "--sample", "0"], "'0' is not a whole number of at least 1"),
        (["cache", "export"], "FILE"),
        (["cache", "merge"], "SOURCE"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(capsys, argv, message):
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert message in err and len(err.splitlines()) == 1


def test_the_kinds_are_those_of_infer_modalities():
    assert KINDS == _main.KINDS


# ---------------------------------------------------------------------- tables that cannot be used


def fails(capsys, *argv):
    """Exit code and the one sentence of an error."""
    code, _, err = run(capsys, *argv)
    lines = err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), err
    return code, lines[0]


def test_a_table_that_is_not_there_is_named_with_its_near_name(capsys, shop):
    code, error = fails(capsys, "evaluate", shop / "shopp.csv", "--target", "shape")
    assert code == 2 and "shopp.csv" in error and "Did you mean 'shop.csv'?" in error
    code, error = fails(capsys, "evaluate", shop, "--target", "shape")
    assert code == 2 and "is a folder" in error


def test_a_column_that_is_not_there_is_named_with_its_near_name(capsys, shop):
    for option in ("--target", "--groups", "--drop"):
        argv = ["--target", "shape"] if option != "--target" else []
        code, error = fails(capsys, "evaluate", shop / "shop.csv", *argv, option, "shap")
        assert code == 2 and f"{option} names the column 'shap'" in error and "Did you mean 'shape'?" in error


def test_a_suffix_that_is_no_table_is_wrong_usage(capsys, tmp_path):
    (tmp_path / "shop.xlsx").write_bytes(b"PK")
    code, error = fails(capsys, "evaluate", tmp_path / "shop.xlsx", "--target", "shape")
    assert code == 2 and "'.xlsx'" in error and ".parquet" in error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "cannot be read as CSV"),
        ("a.csv", b"x,y\n", "holds no rows"),
        ("a.csv", b"x,y\n\xff\xfe,1\n", "cannot be read as CSV"),
        ("a.parquet", b"no parquet", "cannot be read as Parquet"),
    ],
)
def test_an_unreadable_table_is_one_sentence(capsys, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    code, error = fails(capsys, "evaluate", tmp_path / name, "--target", "y")
    assert code == 1 and message in error


def test_missing_target_values_are_named_by_row(capsys, tmp_path):
    pd.DataFrame({"x": np.arange(9.0) ** 2, "y": ["a", None, "b"] * 3}).to_csv(tmp_path / "t.csv", index=False)
    code, error = fails(capsys, "evaluate", tmp_path / "t.csv", "--target", "y")
    assert code == 1
    assert "missing in 3 of 9 rows: 1, 4, 7 (the first row is 0)" in error and "Fill in these cells" in error


def test_a_target_of_the_other_task_names_the_option(capsys, shop):
    code, error = fails(capsys, "evaluate", shop / "shop.csv", "--target", "price")
    assert code == 1 and "--regression" in error
    code, error = fails(capsys, "evaluate", shop / "shop.csv", "--target", "shape", "--regression")
    assert code == 1 and "not a number" in error


def test_a_choice_between_readings_is_answered_in_options_not_in_python(capsys, tmp_path):
    table = pd.DataFrame({"size": np.linspace(0, 1, 24) ** 2})
    table.assign(y=["a", "b"] * 12, row=range(24)).to_csv(tmp_path / "t.csv", index=False)
    code, out, _ = run(capsys, "evaluate", tmp_path / "t.csv", "--target", "y", "--cv", 2)
    assert code == 0
    assert "could also be: number" in out and "--kind COLUMN=KIND" in out and "infer_modalities" not in out


def test_debug_shows_the_traceback(capsys, shop):
    argv = ["evaluate", shop / "no.csv", "--target", "shape"]
    assert "Traceback" not in run(capsys, *argv)[2]
    assert "Traceback" in run(capsys, *argv, "--debug")[2]


# ---------------------------------------------------------------------- fit, evaluate, predict, inspect


@pytest.fixture(scope="module")
def model_file(shop, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "numbers.fuse"
    argv = ["fit", shop / "shop.csv", "--target", "shape", *NO_MEDIA, "house", "--quiet", "-o", path]
    assert main([str(word) for word in argv]) == 0
    return path


@pytest.mark.parametrize("strategy", ["hybrid", "decision", "feature"])
def test_fit_prints_decisions_and_scores_and_saves(capsys, shop, tmp_path, strategy):
    path = tmp_path / "m.fuse"
    argv = ["fit", shop / "shop.parquet", "--target", "shape", *NO_MEDIA[:1], *NO_MEDIA[2:], "--groups", "house"]
    code, out, err = run(capsys, *argv, "--strategy", strategy, "-o", path)
    assert (code, err) == (0, "")
    assert "price   number" in out and "weight  number" in out and "3 classes (circle 8, square 8, triangle 8)" in out
    assert ("out of fold, on 24 rows: log-loss" in out) == (strategy != "feature")
    assert f"saved {path}" in out
    assert set(load_model(path).classes_) == {"circle", "square", "triangle"}


def test_fit_never_makes_features_of_target_and_groups(capsys, shop, tmp_path):
    path = tmp_path / "m.fuse"
    run(capsys, "fit", shop / "shop.csv", "--target", "shape", *NO_MEDIA, "--groups", "house", "-o", path)
    assert list(load_model(path).feature_names_in_) == ["price", "weight"]


def test_fit_does_not_replace_a_model_without_being_told(capsys, shop, model_file):
    argv = ["fit", shop / "shop.csv", "--target", "shape", *NO_MEDIA, "house", "-o", model_file]
    code, error = fails(capsys, *argv)
    assert code == 2 and "--overwrite" in error
    assert run(capsys, *argv, "--overwrite")[0] == 0


def test_fit_looks_for_the_output_folder_before_the_work(capsys, shop, tmp_path):
    output = tmp_path / "no" / "m.fuse"
    code, error = fails(capsys, "fit", shop / "shop.csv", "--target", "shape", "-o", output)
    assert code == 2 and "no folder" in error


def test_quiet_leaves_results_only(capsys, shop, tmp_path):
    argv = ["fit", shop / "shop.csv", "--target", "shape", *NO_MEDIA, "house", "-o", tmp_path / "m.fuse", "--quiet"]
    code, out, err = run(capsys, *argv)
    assert (code, err) == (0, "")
    assert "modality" not in out and "cache" not in out and "saved" in out


def test_fit_and_predict_a_number(capsys, shop, tmp_path):
    path = tmp_path / "m.fuse"
    argv = ["fit", shop / "shop.csv", "--target", "price", "--regression", *NO_MEDIA, "house"]
    code, out, _ = run(capsys, *argv, "--kind", "shape=category", "-o", path)
    assert code == 0 and "RMSE" in out
    code, out, _ = run(capsys, "predict", path, shop / "shop.csv")
    header = out.splitlines()[0].split(",")
    assert header[-2:] == ["prediction", "error"] and not any(name.startswith("proba_") for name in header)


def test_predict_keeps_rows_and_columns_and_adds_its_own(capsys, shop, model_file, tmp_path):
    table = pd.read_parquet(shop / "shop.parquet").iloc[::-1].drop(columns="shape")
    table.to_parquet(tmp_path / "new.parquet")
    code, out, err = run(capsys, "predict", model_file, tmp_path / "new.parquet", "-o", tmp_path / "out.parquet")
    written = pd.read_parquet(tmp_path / "out.parquet")
    assert (code, out) == (0, "") and "24 rows" in err
    pd.testing.assert_frame_equal(written[table.columns], table, check_dtype=False)
    proba = written[["proba_circle", "proba_square", "proba_triangle"]]
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    assert ("proba_" + written["prediction"].astype(object) == proba.idxmax(axis=1).astype(object)).all()
    expected = load_model(model_file).predict_proba(table[["price", "weight"]])
    np.testing.assert_allclose(proba, expected)


def test_predict_writes_csv_to_standard_output_and_the_index_with_it(capsys, shop, model_file):
    code, out, err = run(capsys, "predict", model_file, shop / "shop.parquet")
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 25)
    assert (
        lines[0].startswith("sku,photo")
        and lines[0].endswith("proba_triangle,error")
        and lines[1].startswith("sku0000")
    )


def test_predict_refuses_what_would_lose_data(capsys, shop, model_file, tmp_path):
    table = tmp_path / "t.csv"
    pd.read_csv(shop / "shop.csv").assign(prediction="?").to_csv(table, index=False)
    code, error = fails(capsys, "predict", model_file, table, "-o", table)
    assert code == 2 and "is the table to predict" in error
    code, error = fails(capsys, "predict", model_file, table)
    assert code == 1 and "['prediction'] already" in error
    code, error = fails(capsys, "predict", model_file, table, "-o", tmp_path / "out.xls")
    assert code == 2 and "'.xls'" in error


def test_predict_names_the_columns_of_the_model_if_the_table_has_none(capsys, model_file, tmp_path):
    pd.DataFrame({"cost": [1.0]}).to_csv(tmp_path / "t.csv", index=False)
    code, error = fails(capsys, "predict", model_file, tmp_path / "t.csv")
    assert code == 1 and "['price', 'weight']" in error and "['cost']" in error


def test_a_file_that_is_no_model_is_one_sentence(capsys, shop):
    for argv in (["predict", shop / "shop.csv", shop / "shop.csv"], ["inspect", shop / "shop.csv"]):
        assert fails(capsys, *argv)[0] == 1
    assert fails(capsys, "inspect", shop / "no.fuse")[0] == 2


def test_inspect_prints_the_manifest(capsys, model_file):
    code, out, _ = run(capsys, "inspect", model_file)
    assert code == 0 and "classes: circle, square, triangle" in out and "target: shape" in out
    code, out, _ = run(capsys, "inspect", model_file, "--json")
    assert code == 0 and json.loads(out)["classes"] == ["circle", "square", "triangle"]


def test_evaluate_prints_a_table_and_writes_it(capsys, shop, tmp_path):
    scores = tmp_path / "scores.csv"
    argv = ["evaluate", shop / "shop.csv", "--target", "shape", *NO_MEDIA, "house", "--cv", "2", "--csv", scores]
    code, out, _ = run(capsys, *argv)
    assert code == 0 and "tabular alone" in out and "±" in out
    assert list(pd.read_csv(scores)["model"]) == ["tabular alone"]


@pytest.mark.slow
def test_media_go_all_the_way_with_relative_paths_and_a_damaged_file(capsys, shop, tmp_path, monkeypatch):
    """Fit from a table in another folder, predict a part of the columns, then meet an unreadable picture."""
    monkeypatch.chdir(tmp_path)
    shape = ["--target", "shape", "--drop", "house"]
    code, out, err = run(capsys, "evaluate", shop / "shop.parquet", *shape, "--cv", "2")
    assert (code, [line for line in err.splitlines() if not line.startswith("warning: ")]) == (0, [])
    assert all(name in out for name in ("image alone", "audio alone", "text alone", "hybrid"))
    code, out, _ = run(capsys, "fit", shop / "shop.parquet", *shape, "-o", "m.fuse")
    image = next(line for line in out.splitlines() if line.startswith("image ") and "ImageEncoder" not in line)
    rows, missing, repeated, cached, encoded, unreadable = map(int, image.split()[1:7])
    assert (rows, encoded, unreadable) == (24, 0, 0) and cached + missing + repeated == 24

    pd.read_parquet(shop / "shop.parquet").drop(columns=["clip"]).to_parquet(shop / "part.parquet")
    code, out, err = run(capsys, "predict", "m.fuse", shop / "part.parquet")
    assert code == 0 and len(out.splitlines()) == 25
    assert err.startswith("warning: ") and "'clip'" in err and len(err.splitlines()) == 1

    (shop / "media" / "broken.png").write_bytes(b"no picture")
    table = pd.read_parquet(shop / "shop.parquet")
    table["photo"] = [os.path.join("media", "broken.png"), *table["photo"][1:]]
    table.to_parquet(shop / "broken.parquet")
    code, out, err = run(capsys, "fit", shop / "broken.parquet", *shape, "-o", "b.fuse")
    assert code == 1 and "row 'sku0000'" in err and "--on-error missing" in err and "Traceback" not in err
    code, out, err = run(capsys, "fit", shop / "broken.parquet", *shape, "-o", "b.fuse", "--on-error", "missing")
    assert code == 0 and err.startswith("warning: ") and "'sku0000'" in err and len(err.splitlines()) == 1
    code, _, err = run(capsys, "predict", "m.fuse", shop / "broken.parquet", "--on-error", "raise")
    assert code == 1 and "row 'sku0000'" in err and "'photo'" in err
    for policy, predicted in (("keep", 23), ("missing", 24)):
        code, _, err = run(
            capsys, "predict", "m.fuse", shop / "broken.parquet", "-o", f"{policy}.csv", "--on-error", policy
        )
        written = pd.read_csv(f"{policy}.csv", index_col="sku")
        assert code == 0 and "1 row holds a cell that cannot be read" in err
        assert (len(written), written["prediction"].notna().sum(), written["error"].notna().sum()) == (24, predicted, 1)
        assert "'photo'" in written.loc["sku0000", "error"]


# ---------------------------------------------------------------------- report


@pytest.mark.filterwarnings("default:These rows have the labels")
def test_report_writes_a_page_and_says_where(capsys, shop, model_file, tmp_path):
    page = tmp_path / "r.html"
    argv = ["report", model_file, shop / "shop.csv", "--target", "shape", "-o", page, "--rows", "1"]
    code, out, err = run(capsys, *argv, "--trained-on", "--quiet")
    assert (code, err) == (0, "") and out.startswith(f"wrote {page} (")
    text = page.read_text(encoding="utf-8")
    assert "numbers.fuse on shop.csv" in text and "out-of-fold predictions of 24 rows of fit" in text
    code, error = fails(capsys, *argv)
    assert code == 2 and "--overwrite" in error
    code, _, err = run(capsys, *argv, "--overwrite", "--groups", "house", "--title", "Shapes <b>")
    assert code == 0 and err.startswith("warning: These rows have the labels") and len(err.splitlines()) == 1
    assert "Shapes &lt;b&gt;" in page.read_text(encoding="utf-8")
    assert "12 groups of rows" in page.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("default:These rows have the labels")
def test_report_reads_labels_as_the_model_knows_them(capsys, tmp_path):
    table = pd.DataFrame({"price": np.arange(40.0) % 7, "weight": np.arange(40.0) % 5, "digit": np.arange(40) % 2})
    modalities = [("cost", "passthrough", ["price"]), ("size", "passthrough", ["weight"])]
    fusion = ensemblefuse.DecisionFusionClassifier(LogisticRegression(), cv=2)
    model = ensemblefuse.make_fusion_pipeline(modalities, fusion).fit(table, table["digit"].astype(str).to_numpy())
    ensemblefuse.save_model(model, tmp_path / "m.fuse")
    table.to_csv(tmp_path / "t.csv", index=False)
    argv = ["report", tmp_path / "m.fuse", tmp_path / "t.csv", "--target", "digit", "-o", tmp_path / "r.html"]
    assert run(capsys, *argv)[0] == 0
    table.assign(digit=3).to_csv(tmp_path / "t.csv", index=False)
    code, error = fails(capsys, *argv, "--overwrite", "--target", "price")
    assert code == 1 and "price" in error and "which the model never saw; it knows '0', '1'" in error


def test_report_refuses_what_it_cannot_use_before_the_work(capsys, shop, model_file, tmp_path):
    page, good = tmp_path / "r.html", ["--target", "shape"]
    code, error = fails(capsys, "report", model_file, shop / "shop.csv", "--target", "shap", "-o", page)
    assert code == 2 and "--target names the column 'shap'" in error and "Did you mean 'shape'?" in error
    code, error = fails(capsys, "report", model_file, shop / "shop.csv", *good, "--groups", "hous", "-o", page)
    assert code == 2 and "--groups names the column 'hous'" in error
    code, error = fails(capsys, "report", shop / "no.fuse", shop / "shop.csv", *good, "-o", page)
    assert code == 2 and "There is no model" in error
    code, error = fails(capsys, "report", shop / "shop.csv", shop / "shop.csv", *good, "-o", page)
    assert code == 1
    code, error = fails(capsys, "report", model_file, shop / "shop.csv", *good, "-o", tmp_path / "no" / "r.html")
    assert code == 2 and "no folder" in error
    code, error = fails(capsys, "report", model_file, shop / "shop.csv", *good, "-o", tmp_path / "r.pdf")
    assert code == 2 and "'.pdf'" in error and ".html" in error
    pd.DataFrame({"cost": [1.0, 2.0], "shape": ["circle", "square"]}).to_csv(tmp_path / "t.csv", index=False)
    code, error = fails(capsys, "report", model_file, tmp_path / "t.csv", *good, "-o", page)
    assert code == 1 and "['price', 'weight']" in error
    pd.read_csv(shop / "shop.csv").head(20).to_csv(tmp_path / "part.csv", index=False)
    code, error = fails(capsys, "report", model_file, tmp_path / "part.csv", *good, "-o", page, "--trained-on", "-q")
    assert code == 1 and "X has 20 rows and the model was fitted on 24" in error and "--trained-on" in error
    assert not page.exists()


def test_report_shows_a_section_that_failed_and_exits_1(capsys, shop, model_file, tmp_path, monkeypatch):
    from ensemblefuse.report import _write

    monkeypatch.setattr(_write, "confusion_section", lambda evidence: {}["gone"])
    page = tmp_path / "r.html"
    argv = ["report", model_file, shop / "shop.csv", "--target", "shape", "-o", page, "--rows", "0", "--trained-on"]
    code, out, err = run(capsys, *argv)
    assert code == 1 and f"wrote {page}" in out
    assert err.splitlines() == [
        "error: the section 'confusion' failed: KeyError: 'gone' (run again with --debug for the traceback)"
    ]
    assert "This section failed." in page.read_text(encoding="utf-8")


# ---------------------------------------------------------------------- cache


RECIPE = {"class": "a.B", "params": {"size": 3}}


def fill(n=1, start=0):
    digests = [bytes([start + i]) * 16 for i in range(n)]
    ensemblefuse.get_cache().put(RECIPE, digests, np.arange(3.0 * n).reshape(n, 3) + start)
    return digests


def test_cache_info_verify_and_clear(capsys, cache_folder):
    code, out, _ = run(capsys, "cache", "info")
    assert code == 0 and f"{cache_folder}: 0 vectors" in out
    fill()
    code, out, _ = run(capsys, "cache", "info", "--quiet")
    assert code == 0 and "B(size=3)" in out and "1 vectors" in out and "superseded" not in out
    assert run(capsys, "cache", "verify")[:2] == (0, f"{cache_folder}: 1 vectors are good, 0 are damaged.\n")
    assert fails(capsys, "cache", "clear")[0] == 2
    code, out, _ = run(capsys, "cache", "clear", "--yes")
    assert code == 0 and "Deleted 1 vectors" in out
    assert "holds no vectors" in run(capsys, "cache", "clear")[1]


def test_cache_verify_finds_damage_and_prune_removes_it(capsys, cache_folder):
    fill(2)
    (segment,) = (path for path in Path(cache_folder).rglob("*.vectors"))
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)
    code, out, err = run(capsys, "cache", "verify")
    assert code == 1 and "1 are damaged" in out and "encoded again" in err
    code, out, _ = run(capsys, "cache", "prune")
    assert code == 0 and "removed 0 vectors, freed 0.0 kB, 1 vectors remain" in out
    assert run(capsys, "cache", "verify")[0] == 0


@pytest.mark.parametrize("option", [["--max-size", "0"], ["--max-size", "0.01kB"], ["--unused-days", "30"]])
def test_cache_prune_removes_what_was_not_used(capsys, cache_folder, option):
    fill(3)
    for path in Path(cache_folder).rglob("*.keys"):
        os.utime(path, (1e9, 1e9))
    code, out, _ = run(capsys, "cache", "prune", *option)
    assert code == 0 and "removed 3 vectors, freed 0." in out and "0 vectors remain" in out
    assert "removed 0 vectors" in run(capsys, "cache", "prune", "--max-size", "2 GB")[1]


def test_cache_export_and_merge(capsys, tmp_path):
    digests = fill(3)
    code, out, _ = run(capsys, "cache", "export", tmp_path / "c.zip")
    assert code == 0 and "Wrote 3 vectors" in out
    assert fails(capsys, "cache", "export", tmp_path / "c.zip")[0] == 2
    assert run(capsys, "cache", "export", tmp_path / "c.zip", "--overwrite")[0] == 0
    with ensemblefuse.config_context(cache=tmp_path / "other"):
        code, out, err = run(capsys, "cache", "merge", tmp_path / "c.zip")
        assert (code, err) == (0, "") and "3 vectors added, 0 were there already" in out
        assert run(capsys, "cache", "merge", tmp_path / "embeddings")[1].endswith(
            "0 vectors added, 3 were there already.\n"
        )
        assert ensemblefuse.get_cache().get_many(RECIPE, digests)[0].all()


def test_cache_merge_of_what_is_no_cache(capsys, tmp_path):
    fill()
    (tmp_path / "text.zip").write_text("no archive")
    assert "is not an exported cache" in fails(capsys, "cache", "merge", tmp_path / "text.zip")[1]
    assert "is not the folder of an embedding cache" in fails(capsys, "cache", "merge", tmp_path)[1]
    assert fails(capsys, "cache", "merge", tmp_path / "none.zip")[0] == 2
    assert fails(capsys, "cache", "export", tmp_path / "none" / "c.zip")[0] == 2
    path = next((tmp_path / "embeddings").rglob("*.vectors"))
    path.write_bytes(b"\xff" * 12)
    with ensemblefuse.config_context(cache=tmp_path / "other"):
        code, out, err = run(capsys, "cache", "merge", tmp_path / "embeddings")
    assert code == 0 and "0 vectors added" in out and "1 damaged records" in err


def test_cache_forget_files_and_texts(capsys, tmp_path):
    (tmp_path / "a.txt").write_text("a secret")
    encoder = ensemblefuse.FunctionEncoder(len)
    encoder.fit_transform({"t": ["a name", "another"]})
    code, out, _ = run(capsys, "cache", "forget", tmp_path / "a.txt", "--text", "a name")
    assert code == 0 and "removed 1 vectors of 2 cells" in out
    assert "1 records are superseded or erased" in run(capsys, "cache", "info")[1]
    assert fails(capsys, "cache", "forget")[0] == 2
    assert "There is no file" in fails(capsys, "cache", "forget", tmp_path / "b.txt")[1]


def test_cache_verify_encodes_a_sample_again(capsys, shop, tmp_path):
    table = pd.read_csv(shop / "shop.csv")
    paths = [str(shop / cell) if isinstance(cell, str) else None for cell in table["clip"]]
    encoder = ensemblefuse.AudioEncoder(features="librosa")
    model = ensemblefuse.make_fusion_pipeline([("audio", encoder, "clip")])
    ensemblefuse.save_model(model.fit(pd.DataFrame({"clip": paths}), table["shape"]), tmp_path / "m.fuse")
    where = ["--model", tmp_path / "m.fuse", "--table", shop / "shop.csv"]
    code, out, _ = run(capsys, "cache", "verify", "--sample", "5", *where)
    assert code == 0 and "audio: 5 cells encoded again, 0 differ" in out
    row = next(i for i, path in enumerate(paths) if path)
    digests = [path and cell_digest(path, strings_are_paths=True) for path in paths]
    cache, recipe = ensemblefuse.get_cache(), encoder.recipe()
    vector = cache.get(recipe, digests)[row]
    cache.forget([paths[row]], encoder=encoder)
    cache.put(recipe, [digests[row]], 1.01 * vector[None])
    code, out, _ = run(capsys, "cache", "verify", "--sample", 100, *where)
    assert code == 1 and " cells encoded again, 1 differ" in out
    assert f"  row {row}, column 'clip': relative distance 0.0099" in out
    assert "go together" in fails(capsys, "cache", "verify", "--sample", "5")[1]
    assert fails(capsys, "cache", "verify", "--sample", "5", *where[:2], "--table", tmp_path / "none.csv")[0] == 2


def test_a_cache_that_is_off_is_said_to_be_off(capsys):
    with ensemblefuse.config_context(cache=None):
        code, out, _ = run(capsys, "cache", "info")
    assert code == 0 and "off" in out


# ---------------------------------------------------------------------- errors and warnings


def test_ctrl_c_is_one_line_and_code_130(capsys, monkeypatch):
    monkeypatch.setattr("ensemblefuse.cli._cache.cache", lambda args: (_ for _ in ()).throw(KeyboardInterrupt))
    code, _, err = run(capsys, "cache", "info")
    assert code == 130 and len(err.splitlines()) == 1 and "interrupted" in err


def test_an_unforeseen_error_is_one_line_that_names_debug(capsys, monkeypatch):
    monkeypatch.setattr("ensemblefuse.cli._cache.cache", lambda args: {}["gone"])
    code, error = fails(capsys, "cache", "info")
    assert code == 1 and "KeyError: 'gone'" in error and "--debug" in error


def test_settings_are_as_before_after_a_command(capsys, model_file):
    before = dict(os.environ)
    run(capsys, "inspect", model_file, "--quiet")
    assert dict(os.environ) == before


def test_an_encoding_error_speaks_of_options():
    rows = [BadRow(f"sku{i}", "photo", "'a.png'", "no such file") for i in range(7)]
    text = describe(EncodingError("ImageEncoder", rows, 9))
    assert "row 'sku0'" in text and "and 2 more" in text and "--on-error missing" in text and "error.rows" not in text


def test_warnings_are_one_line_each_and_said_once(capsys):
    import warnings

    with warnings.catch_warnings():
        install_warning_printer()
        for _ in range(2):
            warnings.warn("two cells:\n  row 1\n  row 2", ensemblefuse.MissingModalityWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: two cells: row 1; row 2\n"
    assert one_line("\n") == ""


# ---------------------------------------------------------------------- demo


def test_hold_out_takes_whole_groups_of_many_classes_and_always_the_same():
    rng = np.random.default_rng(3)
    y, groups = rng.choice(list("abcde"), 200), rng.integers(80, size=200)
    complete = rng.random(200) < 0.5
    rows = hold_out(y, groups, complete)
    assert 5 <= rows.sum() <= 10 and complete[rows].any()
    assert len(set(y[rows])) == 5
    assert not set(groups[rows]) & set(groups[~rows])
    np.testing.assert_array_equal(rows, hold_out(y, groups, complete))


def test_hold_out_takes_the_smallest_group_where_all_are_large():
    groups = np.repeat([0, 1, 2], [30, 20, 25])
    rows = hold_out(np.arange(75) % 3, groups, np.ones(75, dtype=bool))
    np.testing.assert_array_equal(rows, groups == 1)


@pytest.mark.slow
def test_demo_goes_all_the_way_and_encodes_nothing_the_second_time(capsys, tmp_path, monkeypatch):
    small = functools.partial(datasets.load_av_digits, 60, data_home=tmp_path / "data")
    monkeypatch.setattr(datasets, "load_av_digits", small)
    tables = []

    def compare_once(*args, **kwargs):
        """The second run gets the table of the first: the same fits on the same vectors."""
        tables.append(tables[0] if tables else compare_models(*args, **kwargs))
        return tables[-1]

    monkeypatch.setattr(_demo, "compare_models", compare_once)
    argv = ["demo", "--data", "digits", "--cv", "2", "--output", tmp_path / "demo.fuse"]
    code, first, err = run(capsys, *argv)
    assert code == 0 and [line for line in err.splitlines() if not line.startswith("warning: ")] == []
    assert all(name in first for name in ("image alone", "text alone", "feature level", "decision level", "hybrid"))
    assert "GENERATED" in first and "set to None" in first and "load_model(" in first
    assert "Nothing was encoded" not in first
    code, second, _ = run(capsys, *argv)
    assert code == 0 and "Nothing was encoded: all" in second and len(tables) == 2
    lines = first[first.index("from ensemblefuse import load_model") :]
    exec(compile(lines, "demo", "exec"), {})
    assert capsys.readouterr().out.startswith("['")

    bunch = small()
    table = bunch.frame.assign(label=bunch.target, voice=bunch.groups)
    new = hold_out(bunch.target.to_numpy(), bunch.groups.to_numpy(), np.ones(len(table), dtype=bool))
    table[new].to_parquet(tmp_path / "digits.parquet")
    argv = ["report", tmp_path / "demo.fuse", tmp_path / "digits.parquet", "--target", "label", "--groups", "voice"]
    code, _, err = run(capsys, *argv, "-o", tmp_path / "report.html")
    assert code == 0 and [line for line in err.splitlines() if not line.startswith("warning: ")] == []
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(page) < 5e6 and page.count("<audio") >= 5 and "This section failed" not in page
    if in_browser.HERE:  # as for the tests in test_report_browser.py
        with in_browser.started(tmp_path / "profile") as browser:
            in_browser.check_page(browser, tmp_path / "report.html")


def test_demo_does_not_replace_a_file_that_is_no_model(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    code, error = fails(capsys, "demo", "--data", "digits", "--output", tmp_path / "notes.txt")
    assert code == 2 and "is not a model" in error
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_demo_says_what_to_do_where_the_stamps_cannot_be_had(capsys, tmp_path, monkeypatch):
    def unavailable(**_):
        raise datasets.DatasetUnavailableError("apt-get has no network.")

    monkeypatch.setattr(datasets, "fetch_tux_paint", unavailable)
    code, error = fails(capsys, "demo", "--data", "tux-paint", "--output", tmp_path / "m.fuse")
    assert code == 1 and "no network" in error and "--data digits" in error


def test_evaluate_and_demo_replace_no_file_unasked(capsys, shop, model_file, tmp_path):
    scores = tmp_path / "scores.csv"
    scores.write_text("of somebody")
    argv = ["evaluate", shop / "shop.csv", "--target", "shape", *NO_MEDIA, "house", "--cv", "2"]
    assert "pass --overwrite" in fails(capsys, *argv, "--csv", scores)[1] and scores.read_text() == "of somebody"
    assert "needs --csv" in fails(capsys, *argv, "--overwrite")[1]
    assert run(capsys, *argv, "--csv", scores, "--overwrite")[0] == 0 and "log_loss" in scores.read_text()
    code, error = fails(capsys, "demo", "--output", model_file)
    assert code == 2 and "is not a model of the demo" in error


@pytest.mark.slow
def test_no_bar_goes_into_a_pipe(tmp_path):
    """Also if a package has imported ipykernel without a notebook around it."""
    table = pd.DataFrame(
        {"title": [f"a {'red' if i % 2 else 'blue'} thing of number {i}" for i in range(12)], "y": ["p", "q"] * 6}
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    script = "import sys, ipykernel; from ensemblefuse.cli import main; sys.exit(main(sys.argv[1:]))"
    argv = [sys.executable, "-c", script, "fit", "t.csv", "--target", "y", "--kind", "title=text", "-o", "m.fuse"]
    settings = {name: value for name, value in os.environ.items() if name != "ENSEMBLEFUSE_PROGRESS"}
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, env=settings)
    assert done.returncode == 0 and "%|" not in done.stdout + done.stderr and "it/s" not in done.stderr


# ---------------------------------------------------------------------- paths that are not there


def test_a_missing_file_says_where_relative_paths_start_and_what_backslashes_are(capsys, shop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = [f"pictures\\{i}.png" for i in range(12)]
    pd.DataFrame({"photo": pictures, "y": ["p", "q"] * 6}).to_csv("t.csv", index=False)
    code, _, error = run(capsys, "fit", "t.csv", "--target", "y", "-o", "m.fuse")
    assert code == 1 and "start at the folder of the table" in error and "write '/' instead" in error
    assert "working directory" not in error
    code, error = fails(capsys, "fit", "data\\t.csv", "--target", "y", "-o", "m.fuse")
    assert (
        code == 2 and f"Relative paths start at the working directory, {os.getcwd()}" in error and "backslash" in error
    )
    code, error = fails(capsys, "fit", tmp_path / "no.csv", "--target", "y", "-o", "m.fuse")
    assert code == 2 and "Relative" not in error and "backslash" not in error


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_pipes_and_devices_are_named_and_not_waited_for(capsys, shop, model_file, tmp_path):
    for name in ("t.csv", "t.parquet", "m.fuse"):
        os.mkfifo(tmp_path / name)
    table, target = shop / "shop.csv", ("--target", "shape")
    for argv in (
        *(["fit", tmp_path / name, *target, "-o", tmp_path / "new.fuse"] for name in ("t.csv", "t.parquet")),
        ["predict", model_file, tmp_path / "t.csv"],
        ["predict", tmp_path / "m.fuse", table],
        ["inspect", tmp_path / "m.fuse"],
        ["report", tmp_path / "m.fuse", table, *target, "-o", tmp_path / "r.html"],
        ["cache", "merge", tmp_path / "m.fuse"],
        ["cache", "forget", tmp_path / "t.csv"],
        ["fit", table, *target, "-o", tmp_path / "m.fuse", "--overwrite"],
        ["predict", model_file, table, "-o", tmp_path / "t.csv", "--overwrite"],
    ):
        code, error = fails(capsys, *argv)
        assert code == 2 and "is a named pipe" in error, argv
    assert "is a device" in fails(capsys, "fit", table, *target, "-o", os.devnull, "--overwrite")[1]


def test_a_declared_category_is_read_as_it_is_written(tmp_path):
    """A reader of numbers would make one postal code of 012, 12 and 0012."""
    rows = [f"{code},{i},{label}" for i in range(12) for code, label in (("012", "a"), ("12", "b"), ("0012", "c"))]
    (tmp_path / "codes.csv").write_text("\n".join(["code,noise,target", *rows]))
    made = str(tmp_path / "codes.fuse")
    assert (
        main(["fit", str(tmp_path / "codes.csv"), "--target", "target", "--kind", "code=category", "-o", made, "-q"])
        == 0
    )
    table = pd.DataFrame({"code": ["012", "12", "0012"], "noise": 5})
    assert load_model(made).predict(table).tolist() == ["a", "b", "c"]


def fit_columns(capsys, folder, columns, *options):
    """Fit a table of texts, and return the model's reading of each column, and what was printed."""
    n = len(next(iter(columns.values())))
    table = pd.DataFrame({"noise": (np.arange(n) * 7 % n) ** 0.5, **columns, "y": (["007", "010"] * n)[:n]})
    table.to_csv(folder / "t.csv", index=False)
    argv = ["--target", "y", "--strategy", "feature", "-o", folder / "m.fuse", "--overwrite"]
    code, out, _ = run(capsys, "fit", folder / "t.csv", *argv, *options)
    assert code == 0
    model = load_model(folder / "m.fuse")
    assert model.classes_.tolist() == [7, 10]  # labels are numbers where pandas reads numbers
    return model, out


def test_codes_keep_the_zeros_at_their_beginning_and_one_line_says_so(capsys, tmp_path):
    codes = ["01234", "00801", "75001", "69002"] * 9
    model, out = fit_columns(capsys, tmp_path, {"zip": codes, "self": codes, "boston": ["02139", "01002"] * 18})
    assert "zip     category  4 codes" in out
    for column in ("zip", "self"):  # assign(self=...) would fail
        assert sorted(model["encode"].schema_[column]["known"]) == sorted(set(codes))
    assert model["encode"].schema_["boston"]["known"] == ["02139", "01002"]  # all begin with one zero
    line = "Read as codes, with the zeros at their beginning: 'zip' (such as 01234), 'self' (such as 01234), 'boston'"
    assert out.count("Read as codes") == 1 and line in out and "pass --kind COLUMN=number" in out
    assert model.predict(pd.read_csv(tmp_path / "t.csv", dtype=str)[:4]).shape == (4,)
    model, out = fit_columns(capsys, tmp_path, {"zip": codes}, "--kind", "zip=number")
    assert model["encode"].schema_["zip"]["kind"] == "number" and "Read as codes" not in out
    gaps = [code if i % 7 else "" for i, code in enumerate(codes)]
    model, _ = fit_columns(capsys, tmp_path, {"zip": gaps})
    assert sorted(model["encode"].schema_["zip"]["known"]) == sorted(set(codes))
    assert "Read as codes" not in fit_columns(capsys, tmp_path, {"zip": codes}, "-q")[1]


PADDED = np.exp(np.random.default_rng(0).uniform(1, 8.9, 200)).astype(int)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "cells",
    [
        ["007" if i == 5 else f"{v}" for i, v in enumerate(PADDED)],  # one odd cell
        ["0100" if i == 5 else f"{v % 800 + 100}" for i, v in enumerate(PADDED)],
        [f"{v:06}" for v in PADDED],
        [f"{v // 1000:06}" for v in PADDED],  # they repeat
        [f"{v % 12 + 1:02}" for v in PADDED],  # months
        [f"{v % 60:02}" for v in PADDED],
        [f"{v:05}" if i % 9 else "" for i, v in enumerate(PADDED)],
        [f"{v * 7919 % 100_000:05}" for v in np.arange(1, 201)],  # as codes they would be left out
        ["012", "12", "0012", "5", "60"] * 40,
        [f"0{v / 8}" for v in PADDED],
    ],
)
def test_padded_numbers_and_one_odd_cell_stay_the_numbers_that_python_reads(capsys, tmp_path, cells):
    model, out = fit_columns(capsys, tmp_path, {"x": cells})
    found = dict(
        (column, kind)
        for kind, part, columns in infer_modalities(pd.read_csv(tmp_path / "t.csv"), verbose=False)[0][1].transformers
        for column in columns
    )
    assert found["x"] == "number" and model["encode"].schema_["x"]["kind"] == "number"
    assert "Read as codes" not in out


def test_codes_are_looked_for_without_another_reading_of_the_whole_file(capsys, tmp_path, monkeypatch):
    whole, read_csv = [], pd.read_csv

    def counted(path, **options):
        if options.get("nrows") is None and Path(path).name == "t.csv":
            whole.append(options.get("usecols"))
        return read_csv(path, **options)

    monkeypatch.setattr(pd, "read_csv", counted)
    plain = {"size": [str(v) for v in PADDED], "year": [str(1990 + v % 30) for v in PADDED]}
    fit_columns(capsys, tmp_path, plain)
    assert whole == [None]
    fit_columns(capsys, tmp_path, {**plain, "zip": ["01234", "75001"] * 100})
    assert whole == [None, None, ["zip"]]


# ---------------------------------------------------------------------- written numbers as targets, and many labels


def euros(value):
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,")) + " €"


def fit_target(capsys, folder, cells, *options):
    """Exit code, output and errors of ``fit`` with a column of numbers and a target of these cells."""
    x = (np.arange(len(cells)) * 37 % len(cells)) ** 0.5
    pd.DataFrame({"x": x, "y": cells}).to_csv(folder / "t.csv", index=False)
    argv = ["--target", "y", "--strategy", "feature", "-o", folder / "m.fuse", "--overwrite", *options]
    return run(capsys, "fit", folder / "t.csv", *argv)


VALUES = np.linspace(96.2, 1299, 60)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    ("write", "said"),
    [
        (euros, "numbers in EUR, with decimal commas and points between thousands: '96,20 €' is 96.2."),
        (lambda v: euros(v)[:-2], "numbers written as text, with decimal commas and points between thousands: "),
        (lambda v: f"€{v:,.2f}", "numbers in EUR, with commas between thousands: '€96.20' is 96.2."),
        (lambda v: f"{v:.2f} kg", "masses in kg: '96.20 kg' is 96.2."),
    ],
)
def test_a_regression_target_is_read_as_it_is_written_and_a_line_says_so(capsys, tmp_path, write, said):
    code, out, err = fit_target(capsys, tmp_path, [write(v) for v in VALUES], "--regression")
    assert (code, err) == (0, "") and f"The target 'y' is read as {said}" in out
    assert "60 rows, target 'y': 96.2 to 1299, mean 697.6" in out
    form = ensemblefuse.inspect_model(tmp_path / "m.fuse")["metadata"]["target_format"]
    assert form["kind"] == "number" and json.dumps(form)
    assert "is read as" not in fit_target(capsys, tmp_path, [write(v) for v in VALUES], "--regression", "-q")[1]
    code, error = fails(capsys, "fit", tmp_path / "t.csv", "--target", "y", "-o", tmp_path / "n.fuse", "-q")
    assert code == 1 and "not classes; pass --regression" in error


def test_numbers_of_a_target_need_no_form(capsys, tmp_path):
    code, out, _ = fit_target(capsys, tmp_path, VALUES, "--regression")
    assert code == 0 and "is read as" not in out
    assert "target_format" not in ensemblefuse.inspect_model(tmp_path / "m.fuse")["metadata"]


def test_a_report_reads_the_target_as_fit_did(capsys, tmp_path):
    """In the new rows alone, 1.299 could have a decimal point."""
    assert fit_target(capsys, tmp_path, [euros(v)[:-2] for v in VALUES], "--regression", "-q")[0] == 0
    model = tmp_path / "m.fuse"
    (tmp_path / "new.csv").write_text("x,y\n" + "".join(f"{i},1.{i}00\n" for i in range(1, 9)))
    (tmp_path / "new.csv").write_text((tmp_path / "new.csv").read_text() + '9,"2.500,75"\n')
    form = _report.target_form(model)
    table = read_table(str(tmp_path / "new.csv"))
    seen = read_target(table, "y", regression=True, form=form)
    assert seen.tolist() == [*(1000.0 + 100 * i for i in range(1, 9)), 2500.75]
    card = ["card", model, tmp_path / "new.csv", "--target", "y", "-o", tmp_path / "card.md"]
    code, _, err = run(capsys, *card)
    assert code == 0, err
    (tmp_path / "new.csv").write_text("x,y\n1,3 kg\n2,4 kg\n")
    code, error = fails(capsys, *card, "--overwrite")
    assert code == 1 and "The target 'y', row 0: '3 kg' is in 'kg'" in error


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["abc" if i == 7 else f"{v:.1f}" for i, v in enumerate(VALUES)], "holds 'abc' in row 7, not a number"),
        (["n/a!" if i == 7 else f"{v:.1f} kg" for i, v in enumerate(VALUES)], "holds 'n/a!' in row 7, not a number"),
        (["5 $", "6 €"] * 30, "holds numbers in several currencies ($ and €); convert them to one"),
        (["5 kg", "6 cm"] * 30, "holds numbers in units that cannot be compared (cm and kg)"),
        ([True, False] * 30, "not a number; --regression needs numbers"),
    ],
)
def test_a_regression_target_that_is_no_number_is_one_sentence(capsys, tmp_path, cells, said):
    code, _, err = fit_target(capsys, tmp_path, cells, "--regression")
    assert code == 1 and len(err.splitlines()) == 1 and said in err


@pytest.mark.filterwarnings("default")
def test_many_labels_get_one_sentence_with_the_way_out(capsys, tmp_path):
    whole = [int(v) for v in VALUES]
    code, _, err = fit_target(capsys, tmp_path, whole)
    assert code == 0
    assert err == "warning: The target 'y' holds 60 different labels in 60 rows; for numbers, pass --regression.\n"
    code, _, err = fit_target(capsys, tmp_path, [f"{v} kg" for v in whole])
    assert code == 0 and err.endswith("holds 60 different labels in 60 rows; for numbers, pass --regression.\n")
    code, _, err = fit_target(capsys, tmp_path, [f"name {v}" for v in whole])
    assert code == 0 and err.endswith("holds 60 different labels in 60 rows; a class is learned from several rows.\n")
    for classes in (whole[:20], [f"{v} kg" for v in whole[:20]], ["4.5/5", "5/5", "3/5"]):
        code, _, err = fit_target(capsys, tmp_path, (classes * 20)[:60])
        assert (code, err) == (0, "")
