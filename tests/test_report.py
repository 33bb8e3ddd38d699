"""The page about a model: what is on it, what is text on it, what it says where something cannot be shown."""

import itertools
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks, make_puzzle
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import SVC, LinearSVC

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    make_fusion_pipeline,
    modality_shapley,
    write_report,
)
from ensemblefuse.report import _figures, _write
from ensemblefuse.report._evidence import Evidence
from ensemblefuse.report._headline import answer
from ensemblefuse.report._page import table_html
from ensemblefuse.report._section_checks import checks_section
from ensemblefuse.report._section_provenance import fingerprint
from ensemblefuse.report._section_results import missing_section

HEAD = LogisticRegression()
SECTIONS = [
    *["data", "scores", "ablation", "calibration", "confusion", "errors"],
    *["shares", "missing", "rows", "checks", "cost", "made"],
]
HOSTILE = ["<script>alert(1)</script>", 'a "quote" & an <img src=x onerror=alert(2)>', "US$ and CA$ \\frac{"]


class Page(HTMLParser):
    """Tags with their attributes, texts, and the text of each section."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags, self.open, self.text, self.section, self.of = [], [], "", "", {}
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.section = dict(attrs).get("id", "") if tag == "section" else self.section

    def handle_data(self, data):
        self.text += data
        self.of[self.section] = self.of.get(self.section, "") + data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def gaps():
    X, y = make_blocks(n=150, noise=1.5)
    X.loc[:19, [c for c in X if c.startswith("text")]] = np.nan
    return X, y


@pytest.fixture(scope="module")
def fitted(gaps):
    X, y = gaps
    return DecisionFusionClassifier(HEAD, cv=3).fit(X[:100], y[:100])


@pytest.fixture(scope="module")
def new_rows(gaps, fitted, tmp_path_factory):
    """A page about rows that the model has not seen."""
    path = tmp_path_factory.mktemp("report") / "new.html"
    report = write_report(fitted, gaps[0][100:], gaps[1][100:], path)
    return report, Page(path)


@pytest.fixture(scope="module")
def rows_of_fit(gaps, fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "fit.html"
    with pytest.MonkeyPatch.context() as patch:
        unsaved(patch)
        report = write_report(fitted, gaps[0][:100], gaps[1][:100], path, trained_on=True)
    return report, Page(path)


def only(monkeypatch, *names):
    """Make the others of the sections nothing: a page is mostly drawing."""
    plan = _write._plan
    monkeypatch.setattr(_write, "_plan", lambda *given: [entry for entry in plan(*given) if entry[0] in names])


def unsaved(monkeypatch):
    """Draw, but make no file of it: most of the time of a page."""
    monkeypatch.setattr(_figures, "_saved", lambda *_: "data:,")


# ---------------------------------------------------------------------- what is on it


@pytest.mark.parametrize("which", ["new_rows", pytest.param("rows_of_fit", marks=pytest.mark.slow)])
def test_a_page_has_every_section_with_its_heading_and_no_error(which, request):
    report, page = request.getfixturevalue(which)
    assert report.errors == {} and report.n_bytes == len(page.source.encode()) < 5e6
    assert [attrs["id"] for attrs in page.all("section")] == report.sections == SECTIONS
    headings = [tag for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1" and headings.count("h1") == 1 and headings.count("h2") == len(SECTIONS)
    assert all(int(after[1]) <= int(before[1]) + 1 for before, after in itertools.pairwise(headings))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_a_page_holds_all_that_it_shows(new_rows):
    _, page = new_rows
    assert not page.all("script") and not page.all("iframe")
    for _, attrs in page.tags:
        for name in ("src", "srcset", "data", "poster"):
            assert attrs.get(name, "data:").startswith("data:"), attrs[name][:60]
        assert attrs.get("href", "#").startswith(("#", "data:"))
    assert "url(" not in page.source and "@import" not in page.source
    assert all(attrs["alt"] for attrs in page.all("img")) and len(page.all("img")) >= 3


def test_new_rows_are_scored_by_predicting_them(new_rows, gaps, fitted):
    accuracy = (fitted.predict(gaps[0][100:]) == gaps[1][100:]).mean()
    page = new_rows[1]
    assert f"accuracy{accuracy:.3f}" in page.text and "new to the model" in page.text
    other = "".join(text for name, text in page.of.items() if name != "checks")  # which say what they read
    assert "out-of-fold" not in other and "Out of fold" not in other


def test_rows_of_fit_are_scored_out_of_fold(rows_of_fit, gaps, fitted):
    y = gaps[1][:100]
    accuracy = (fitted.classes_[fitted.oof_proba_.argmax(axis=1)] == y).mean()
    in_sample = (fitted.predict(gaps[0][:100]) == y).mean()
    text = rows_of_fit[1].text
    assert in_sample > accuracy and f"accuracy{accuracy:.3f}" in text and f"accuracy{in_sample:.3f}" not in text
    assert "out-of-fold predictions of 100 rows of fit" in text


def test_rows_of_fit_cost_no_fit_and_no_prediction_for_the_scores(gaps, fitted, tmp_path, monkeypatch):
    only(monkeypatch, "data", "scores", "ablation", "calibration", "confusion", "errors", "shares", "missing")
    unsaved(monkeypatch)
    monkeypatch.setattr(LogisticRegression, "fit", lambda *_, **__: pytest.fail("a head was fitted"))
    monkeypatch.setattr(LogisticRegression, "predict_proba", lambda *_: pytest.fail("a head predicted"))
    report = write_report(fitted, gaps[0][:100], gaps[1][:100], tmp_path / "r.html", trained_on=True)
    assert not report.errors and len(report.sections) == 8


def test_missing_modalities_are_counted(rows_of_fit):
    data = rows_of_fit[1].of["data"]
    assert "text–802020.0" in data.replace(",", "")  # present, missing, per cent
    assert "image + audio" in data and "everything" in data


def test_the_answer_names_what_helps_and_what_does_not():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    X = pd.DataFrame({"image__0": 4 * y + rng.normal(size=200), "text__0": rng.normal(size=200)})
    model = DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y)
    evidence = Evidence(model, X, y, trained_on=True, groups=None, random_state=0)
    said, gains = answer(evidence), evidence.gains
    assert said.startswith("On top of the others, image helps: gain of 0.") and "text" in said
    assert gains.on_top["image"].low > 0 > gains.on_top["text"].low


def test_the_answer_gives_no_modality_the_credit_of_the_joint_model():
    X, y = make_puzzle()
    heads = {**dict.fromkeys(["image", "text", "audio"], HEAD), "joint": SVC(C=10)}
    model = DecisionFusionClassifier(heads, cv=3).fit(X, y)
    said = answer(Evidence(model, X, y, trained_on=True, groups=None, random_state=0))
    assert "helps" not in said and "try the model without" not in said
    assert "Without the joint model, no evidence that image, text and audio help" in said
    assert "The joint model over all of them adds a gain of 0." in said
    new = answer(Evidence(model, X[::2], y[::2], trained_on=False, groups=None, random_state=0))
    assert re.match("On top of the others, (image and text|text and image) help: gains of 0.", new)


def test_groups_make_the_intervals_wider(gaps, fitted):
    X, y = gaps[0][100:], gaps[1][100:]
    groups = np.arange(50) // 5
    alone, together = (Evidence(fitted, X, y, trained_on=False, groups=g, random_state=0).gains for g in (None, groups))
    for name in fitted.blocks_:
        assert alone.on_top[name].mean == together.on_top[name].mean
        assert alone.on_top[name].low != together.on_top[name].low


def figures(gain):
    return f"{gain.mean:.3f} [{gain.low:.3f}, {gain.high:.3f}]"


def judged(seed, *, regression=False):
    """A model with a modality that helps, one that repeats it, and one of noise."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=150)
    X = pd.DataFrame({"image__0": truth + rng.normal(size=150), "text__0": truth + rng.normal(size=150)})
    X["audio__0"] = rng.normal(size=150)
    groups = np.arange(150) // 3
    if regression:
        return DecisionFusionRegressor(Ridge(), cv=3).fit(X, truth), X, truth, groups
    y = np.where(truth > 0, "up", "down")
    return DecisionFusionClassifier(HEAD, cv=3).fit(X, y), X, y, groups


@pytest.mark.by_turns
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("trained_on", [True, False])
@pytest.mark.parametrize("regression", [False, True])
def test_headline_tables_and_checks_are_of_one_comparison(regression, trained_on, grouped):
    """The same rows, metric and resamples: so that no sentence of the page can contradict another."""
    for seed in range(2):
        model, X, y, groups = judged(seed, regression=regression)
        X, y, groups = (X, y, groups) if trained_on else (X[40:], y[40:], groups[40:])
        groups = groups if grouped else None
        evidence = Evidence(model, X, y, trained_on=trained_on, groups=groups, random_state=0)
        gains, said, section = evidence.gains, answer(evidence), checks_section(evidence)
        helps = set(gains.names) - set(gains.useless)
        text = re.sub("<[^>]*>", " ", section.wide)
        assert figures(gains.over_best) in text
        told = [figures(gain) for kind in (gains.alone, gains.on_top) for gain in kind.values()]
        if gains.useless and gains.joint is not None and gains.joint.helps:
            assert "the joint member is not in these figures" in " ".join(section.notes)
            assert f"gain of {figures(gains.joint)}" in said
        else:
            assert all(figure in text for figure in told)
        assert ("Each modality helps" in text) == (not gains.useless)
        unclear = re.search("o evidence that (.*?) helps?, alone", said)
        unclear = set(re.split(", | and ", unclear[1])) if unclear else set()
        assert unclear == {name for name in gains.useless if not gains.on_top[name].hurts} and not unclear & helps
        shapley = modality_shapley(**evidence.arguments(), groups=groups).table
        for name in gains.names:
            assert shapley.loc[name, "alone"] == pytest.approx(gains.alone[name].mean)
            assert shapley.loc[name, "last"] == pytest.approx(gains.on_top[name].mean)
        assert shapley["value"].sum() == pytest.approx(gains.subsets[tuple(gains.names)].mean)


def test_missing_modalities_heed_groups_and_a_modality_may_be_called_any():
    X, y = make_blocks(n=90, noise=2.0)
    X.columns = [c.replace("image", "any") for c in X]
    model, groups = DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y), np.arange(90) // 3
    rows = {"trained_on": True, "random_state": 0}
    alone, together = (missing_section(Evidence(model, X, y, groups=g, **rows)) for g in (None, groups))
    assert "over rows" in alone.figures[0] and "over groups of rows" in together.figures[0]
    header = re.findall(r"<th[^>]*>([^<]+)</th>", alone.tables[0])
    assert [name for name in header if "any" in name or name in ("text", "audio")] == [
        "any of them",
        "any",
        "text",
        "audio",
    ]


@pytest.mark.slow
def test_the_same_inputs_give_the_same_page(new_rows, gaps, fitted, tmp_path):
    write_report(fitted, gaps[0][100:], gaps[1][100:], tmp_path / "again.html")
    assert without_times(Page(tmp_path / "again.html").source) == without_times(new_rows[1].source)


def without_times(source):
    """A page without the line of the date and the section of measured times."""
    source, n_dates = re.subn(r'<p class="date">.*</p>', "", source)
    assert n_dates == 1
    return re.sub(r'<section id="cost">.*?</section>', "", source, flags=re.DOTALL)


@pytest.mark.parametrize("dtype", ["object", "string", "category", None])
def test_another_content_of_a_file_is_another_fingerprint(tmp_path, dtype):
    """Whatever type the column of paths has; None is that of this pandas."""
    path = tmp_path / "a.txt"
    X, y = pd.DataFrame({"photo": pd.Series([str(path), None, "no file"], dtype=dtype)}), np.arange(3)

    def after(content):
        path.write_text(content)
        return fingerprint(X, y)

    first = after("one")
    assert after("two!") != first and after("one") == first
    moved = path.rename(tmp_path / "b.txt")
    assert fingerprint(X.assign(photo=pd.Series([str(moved), None, "no file"], dtype=dtype)), y) == first


def test_another_cell_is_another_fingerprint(new_rows, gaps, fitted, tmp_path, monkeypatch):
    only(monkeypatch, "made")
    X = gaps[0][100:].copy()
    X.iloc[3, 0] += 1e-9
    write_report(fitted, X, gaps[1][100:], tmp_path / "other.html")
    print_of = re.compile("sha256 ([0-9a-f]{16})")
    assert print_of.search(Page(tmp_path / "other.html").text)[1] != print_of.search(new_rows[1].text)[1]


# ---------------------------------------------------------------------- hostile names


def test_names_from_the_data_come_out_as_text(tmp_path):
    X, y = make_blocks(n=90, noise=2.0)
    blocks = {"image": "<u>image</u>", "text": 'te"xt', "audio": "a&b"}
    X.columns = [f"{blocks[c.split('__')[0]]}__{c.split('__')[1]}" for c in X]
    X.index = [f"<s>{i}</s>" for i in range(90)]
    y = np.array(HOSTILE)[[int(label[-1]) for label in y]]
    model = DecisionFusionClassifier(HEAD, cv=3).fit(X, y)
    report = write_report(model, X, y, tmp_path / "r.html", trained_on=True, title="<script>boo</script>", n_rows=2)
    page = Page(tmp_path / "r.html")
    assert not report.errors
    assert not page.all("script") and not page.all("u") and not page.all("s")
    assert all("onerror" not in attrs for _, attrs in page.tags)
    assert "<script>boo</script>" in page.text
    for name in [*HOSTILE, *blocks.values()]:
        assert name in page.text


def test_characters_that_no_page_may_hold_are_replaced():
    html = table_html(pd.DataFrame({"name": pd.Series(["a\x00b", "c\ud800d"], dtype=object)}), "t")
    assert html.count("\ufffd") == 2 and html.encode()


# ---------------------------------------------------------------------- what cannot be shown


def test_a_regression_shows_predicted_and_actual_and_says_why_not_calibration(gaps, tmp_path, monkeypatch):
    only(monkeypatch, "data", "calibration", "confusion", "rows", "checks")
    X = gaps[0].fillna(0)
    y = X["image__0"] + X["audio__0"].to_numpy()
    model = DecisionFusionRegressor(Ridge(), cv=3).fit(X[:100], y[:100])
    report = write_report(model, X[100:], y[100:], tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert not report.errors and "Predicted and actual" in page.text
    assert "Not shown: a regression predicts numbers" in page.of["calibration"]
    error = np.sqrt(np.mean((model.predict(X[100:]) - y[100:]) ** 2))
    assert f"RMSE{error:.3f}" in page.text


def test_a_model_without_ledger_has_no_scores_of_its_rows_of_fit(gaps, tmp_path, monkeypatch):
    unsaved(monkeypatch)
    X, y = gaps
    model = FeatureFusionClassifier(HEAD).fit(X, y)
    report = write_report(model, X, y, tmp_path / "r.html", trained_on=True)
    page = Page(tmp_path / "r.html")
    assert not report.errors and "keeps no out-of-fold predictions" in page.of["calibration"]
    assert "accuracy" not in page.text.split("How this was made")[0] and "No score" in page.text
    assert "20" in page.of["data"]


def test_a_model_without_probabilities_says_that_it_has_none(gaps, tmp_path):
    X, y = gaps
    model = FeatureFusionClassifier(LinearSVC()).fit(X[:100], y[:100])
    report = write_report(model, X[100:], y[100:], tmp_path / "r.html")
    assert not report.errors and "has no probabilities" in Page(tmp_path / "r.html").of["scores"]


@pytest.mark.slow
def test_nine_modalities_are_a_page_that_says_what_is_too_much(tmp_path, monkeypatch):
    only(monkeypatch, "data", "scores", "ablation", "errors", "shares", "missing", "rows", "checks")
    X, y = make_blocks(n=90, widths={f"modality number {i}": 2 for i in range(9)})
    model = DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y)
    report = write_report(model, X, y, tmp_path / "r.html", trained_on=True, n_rows=1)
    page = Page(tmp_path / "r.html")
    assert not report.errors
    assert all("more than 8" in page.of[name] for name in ("shares", "missing", "rows"))


def test_one_modality_is_told_apart_from_a_fusion(tmp_path, monkeypatch):
    unsaved(monkeypatch)
    X, y = make_blocks(n=90, widths={"text": 4})
    model = DecisionFusionClassifier(HEAD, cv=3).fit(X, y)
    report = write_report(model, X, y, tmp_path / "r.html", trained_on=True)
    assert not report.errors and "one modality, text" in Page(tmp_path / "r.html").text


def test_rows_of_one_class_are_a_page(gaps, fitted, tmp_path, monkeypatch):
    only(monkeypatch, "data", "ablation", "calibration", "confusion", "checks")
    rows = np.flatnonzero(gaps[1] == "class 0")[:12]
    report = write_report(fitted, gaps[0].iloc[rows], gaps[1][rows], tmp_path / "r.html")
    assert not report.errors and "No row is of the class class 1, class 2" in Page(tmp_path / "r.html").text


def test_a_section_that_fails_is_shown_and_the_others_stay(gaps, fitted, tmp_path, monkeypatch):
    only(monkeypatch, "calibration", "confusion")
    monkeypatch.setattr(_write, "calibration_section", lambda evidence: 1 / 0)
    report = write_report(fitted, gaps[0][100:], gaps[1][100:], tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    assert list(report.errors) == ["calibration"] and report.sections == ["calibration", "confusion"]
    assert "This section failed. ZeroDivisionError" in page.of["calibration"] and "true" in page.of["confusion"]


# ---------------------------------------------------------------------- bad input


def test_rows_that_are_not_those_of_fit_are_refused(gaps, fitted, tmp_path):
    X, y = gaps
    with pytest.raises(ValueError, match=r"X has 50 rows and the model was fitted on 100"):
        write_report(fitted, X[:50], y[:50], tmp_path / "r.html", trained_on=True)
    with pytest.raises(ValueError, match=r"y differs from the labels of fit in \d+ of 100 rows"):
        write_report(fitted, X[:100], y[50:150], tmp_path / "r.html", trained_on=True)
    assert not (tmp_path / "r.html").exists()


def test_rows_of_fit_that_are_given_as_new_are_noticed(gaps, fitted, tmp_path, new_rows, monkeypatch):
    only(monkeypatch)
    with pytest.warns(UserWarning, match="every score here is too good"):
        write_report(fitted, gaps[0][:100], gaps[1][:100], tmp_path / "r.html")
    assert "every score here is too good" in Page(tmp_path / "r.html").text
    assert "every score here is too good" not in new_rows[1].text


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"y": ["class 0"] * 49 + ["class 9"]}, r"'class 9'.*never saw"),
        ({"y": ["class 0", "class 1"]}, r"y has 2 values for the 50 rows"),
        ({"y": ["class 0"]}, r"y has shape \(1,\) for the 50 rows"),
        ({"groups": [1, 2]}, r"groups has 2 values for the 50 rows"),
        ({"n_rows": -1}, r"n_rows must be a whole number of at least 0; got -1"),
        ({"n_rows": True}, r"n_rows must be"),
    ],
)
def test_bad_input_is_named(gaps, fitted, tmp_path, change, error):
    given = {"y": gaps[1][100:], **change}
    with pytest.raises(ValueError, match=error):
        write_report(fitted, gaps[0][100:], given.pop("y"), tmp_path / "r.html", **given)


def test_what_is_no_fusion_is_refused(gaps, tmp_path):
    with pytest.raises(TypeError, match="LogisticRegression"):
        write_report(LogisticRegression(), *gaps, tmp_path / "r.html")


def test_a_folder_that_is_not_there_is_named(gaps, fitted, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder '.*nodir' to write 'r.html' to; make it first"):
        write_report(fitted, gaps[0][100:], gaps[1][100:], tmp_path / "nodir" / "r.html")


def test_a_page_replaces_a_page_whole_or_not_at_all(gaps, fitted, tmp_path, monkeypatch):
    only(monkeypatch)
    (tmp_path / "r.html").write_text("before")
    monkeypatch.setattr(_write, "page_html", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(fitted, gaps[0][100:], gaps[1][100:], tmp_path / "r.html")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".html"] == ["r.html"]
    assert (tmp_path / "r.html").read_text() == "before"


# ---------------------------------------------------------------------- a pipeline


def test_a_pipeline_says_which_columns_each_modality_reads(tmp_path, monkeypatch):
    only(monkeypatch, "data", "rows")
    rng = np.random.default_rng(0)
    y = np.array(["cat", "dog"] * 40)
    X = pd.DataFrame({"price": (y == "cat") + rng.normal(size=80), "weight": rng.normal(size=80)})
    modalities = [("cost", "passthrough", ["price"]), ("size", "passthrough", ["weight"])]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, cv=3)).fit(X[:50], y[:50])
    report = write_report(model, X[50:], y[50:], tmp_path / "r.html")
    assert not report.errors and "costprice30" in Page(tmp_path / "r.html").of["data"]
