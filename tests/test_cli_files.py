"""CSV files with other separators and encodings, on the command line."""

import json

import numpy as np
import pandas as pd
import pytest

from ensemblefuse import load_model
from ensemblefuse.cli import main

pytestmark = pytest.mark.usefixtures("little_effort")

N = 60


def table():
    rng = np.random.default_rng(1)
    size = rng.integers(1, 90, N)
    return pd.DataFrame(
        {
            "größe": size,
            "preis": [f"{v:.2f} €".replace(".", ",") for v in rng.gamma(2, 9, N)],
            "ort": np.where(size > 40, "Köln", "Gießen"),
            "art": np.where(size + rng.normal(size=N) * 9 > 45, "groß", "klein"),
        }
    )


def written(tmp_path, name="t.csv", *, sep=";", encoding="cp1252", X=None):
    path = tmp_path / name
    (table() if X is None else X).to_csv(path, sep=sep, encoding=encoding, index=False)
    return str(path)


def fit(path, model, *options):
    return main(["fit", path, "--target", "art", "--strategy", "feature", "-o", str(model), *options])


FORMS = {
    "semicolons": (";", "cp1252", ["--sep", ";", "--encoding", "cp1252"]),
    "tabs": ("\t", "utf-8-sig", ["--sep", "\\t"]),
    "bars": ("|", "utf-16", ["--sep", "|", "--encoding", "utf-16"]),
    "commas": (",", "utf-8-sig", ["--encoding", "UTF-8"]),
}


@pytest.mark.by_turns
@pytest.mark.parametrize("form", FORMS)
def test_every_command_reads_a_file_as_it_is_written(tmp_path, capsys, form):
    sep, encoding, options = FORMS[form]
    path, plain = written(tmp_path, sep=sep, encoding=encoding), written(tmp_path, "p.csv", sep=",", encoding="utf-8")
    model, said = tmp_path / "m.fuse", tmp_path / "said.csv"
    assert fit(path, model, *options) == 0
    assert fit(plain, tmp_path / "p.fuse") == 0
    assert load_model(model)["encode"].schema_ == load_model(tmp_path / "p.fuse")["encode"].schema_
    assert main(["predict", str(model), path, "-o", str(said), *options]) == 0
    assert main(["predict", str(model), plain, "-o", str(tmp_path / "plain.csv")]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(said), pd.read_csv(tmp_path / "plain.csv"))
    page, card = str(tmp_path / "page.html"), str(tmp_path / "card.md")
    assert main(["report", str(model), path, "--target", "art", "--rows", "0", "-o", page, *options]) == 0
    assert main(["card", str(model), path, "--target", "art", "-o", card, *options]) == 0
    assert main(["evaluate", path, "--target", "art", "--cv", "2", "--csv", str(tmp_path / "e.csv"), *options]) == 0
    assert main(["cache", "forget", "--table", path, *options]) == 0
    capsys.readouterr()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    assert fit(written(folder, sep=",", encoding="utf-8"), folder / "m.fuse", "-q") == 0
    return folder / "m.fuse"


def test_fit_and_predict_name_the_separator(tmp_path, capsys, model):
    whole = table().astype(str).apply(lambda cells: cells.str.replace(",", "."))  # no comma cuts a row apart
    path = written(tmp_path, encoding="utf-8", X=whole)
    assert fit(path, tmp_path / "n.fuse") == 2
    assert capsys.readouterr().err.endswith("Its columns seem to be separated by semicolons: pass --sep ';'.\n")
    assert main(["predict", str(model), path]) == 1
    assert capsys.readouterr().err.endswith("Its columns seem to be separated by semicolons: pass --sep ';'.\n")
    path = written(tmp_path, encoding="utf-8")  # decimal commas do
    assert main(["predict", str(model), path]) == 1
    assert "Its columns seem to be separated by semicolons: pass --sep ';'." in capsys.readouterr().err


def test_an_encoding_that_is_not_named_or_wrong_is_told(tmp_path, capsys, model):
    path = written(tmp_path, sep=",")
    for argv in (["fit", path, "--target", "art", "-o", str(tmp_path / "n.fuse")], ["predict", str(model), path]):
        assert main(argv) == 1
        assert "is not UTF-8; save the table as UTF-8, or name its encoding, such as --enc" in capsys.readouterr().err
        assert main([*argv, "--encoding", "ascii"]) == 1
        assert "is not ascii" in capsys.readouterr().err
        assert main([*argv, "--encoding", "utf-16"]) == 1
        assert "utf-16" in capsys.readouterr().err.lower()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sep", ";;"], "';;' is not one sign"),
        (["--sep", ""], "'' is not one sign"),
        (["--sep", '"'], "is not one sign"),
        (["--encoding", "klingon"], "'klingon' is no encoding of texts"),
        (["--encoding", "base64"], "'base64' is no encoding of texts"),
    ],
)
def test_what_is_no_sign_or_encoding_is_refused(tmp_path, capsys, model, options, message):
    assert main(["predict", str(model), written(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_parquet_file_has_neither(tmp_path, capsys, model):
    table().to_parquet(tmp_path / "t.parquet")
    assert main(["predict", str(model), str(tmp_path / "t.parquet"), "--sep", ";"]) == 2
    assert "a Parquet file knows both" in capsys.readouterr().err


def test_a_stopped_run_goes_on_with_the_same_options(tmp_path, capsys, model, monkeypatch):
    path, said = written(tmp_path), tmp_path / "said.csv"
    argv = ["predict", str(model), path, "-o", str(said), "--chunk-rows", "20", "--sep", ";", "--encoding", "cp1252"]
    from ensemblefuse.cli._predict import Predictor

    ask, calls = Predictor.__call__, []

    def stop(self, rows):
        calls.append(len(rows))
        if len(calls) == 2:
            raise OSError("stopped")
        return ask(self, rows)

    monkeypatch.setattr(Predictor, "__call__", stop)
    assert main(argv) == 1
    monkeypatch.setattr(Predictor, "__call__", ask)
    capsys.readouterr()
    (state,) = (tmp_path / "said.csv.parts").glob("*.json")
    assert json.loads(state.read_text())["settings"] == {
        **{"on_error": None, "chunk_rows": 20, "sep": ";", "encoding": "cp1252"}
    }
    assert main([*argv[:-4], "--resume", "--sep", ";"]) == 1
    assert "--encoding cp1252" in capsys.readouterr().err
    assert main([*argv, "--resume"]) == 0
    assert len(pd.read_csv(said)) == N
