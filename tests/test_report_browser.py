"""The page in a browser: every section and figure is there, nothing is asked for, nothing overflows."""

import io

import in_browser
import numpy as np
import pytest
from conftest import make_blocks
from in_browser import opened
from PIL import Image
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import OneHotEncoder

import ensemblefuse
from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    ImageEncoder,
    TextEncoder,
    make_fusion_pipeline,
    write_report,
)
from ensemblefuse.datasets import make_media

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not in_browser.HERE, reason="this machine has no chromium with a chromedriver"),
]

WITH_FIGURE = ["data", "scores", "ablation", "calibration", "confusion", "errors", "shares", "missing", "cost"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with gaps in the data, and with names that are markup where they are not escaped."""
    X, y = make_blocks(n=120, noise=1.5)
    X.loc[:19, [c for c in X if c.startswith("text")]] = np.nan
    y = np.array(["<script>window.hit = 1</script>", "a class with a name of many words & signs", "W" * 70])[
        [int(label[-1]) for label in y]
    ]
    model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y)
    path = tmp_path_factory.mktemp("browser") / "report.html"
    assert not write_report(model, X, y, path, trained_on=True).errors
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with in_browser.started(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def test_the_page_opens_without_error_and_asks_for_nothing(browser, page):
    in_browser.check_page(browser, page)
    assert browser.execute_script("return window.hit") is None


def test_every_section_has_its_heading_and_its_figure_is_drawn(browser, page):
    opened(browser, page)
    drawn = in_browser.figures(browser)
    for name in WITH_FIGURE:
        assert drawn[name] and all(drawn[name]), name


@pytest.fixture(scope="module")
def plain_page(tmp_path_factory):
    """A page about a pipeline with a picture, a text, numbers and categories, in a regression."""
    media = make_media(tmp_path_factory.mktemp("media"), 40)
    X = media.frame.assign(place=["Bern", "Graz"] * 20)
    modalities = [
        ("image", ImageEncoder(features="color"), "photo"),
        ("text", TextEncoder(), "title"),
        ("tabular", "passthrough", ["price", "weight"]),
        ("place", OneHotEncoder(handle_unknown="ignore"), ["place"]),
    ]
    path = tmp_path_factory.mktemp("plain") / "report.html"
    with ensemblefuse.config_context(cache=tmp_path_factory.mktemp("cache"), progress=False):
        model = make_fusion_pipeline(modalities, DecisionFusionRegressor(Ridge(), cv=3)).fit(X, X["price"])
        assert not write_report(model, X, X["price"], path, trained_on=True, n_rows=3).errors
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 900, 1440])
@pytest.mark.parametrize("which", ["page", "plain_page"])
def test_nothing_overlaps_and_text_stands_out(browser, which, width, scheme, request):
    in_browser.themed(browser, scheme)
    opened(browser, request.getfixturevalue(which), width)
    assert in_browser.faults_of_layout(browser) == []
    assert in_browser.faults_of_drawings(browser) == []
    contrasts = in_browser.contrasts(browser)
    assert len(contrasts) > 200
    assert [(ratio, what) for ratio, what in contrasts if ratio < 4.5] == []


def test_the_switch_changes_the_drawings_too(browser, page):
    in_browser.themed(browser, "light")
    opened(browser, page)
    light = middle_of_text(browser)
    in_browser.chosen_theme(browser, "dark")
    dark = middle_of_text(browser)
    assert light.min() < 60 and light.max() > 240  # dark ink on white
    assert dark.max() > 200 and np.median(dark) < 60
    in_browser.chosen_theme(browser, "auto")
    assert (middle_of_text(browser) == light).all()


def middle_of_text(browser):
    """Grey values of the first drawing, as the browser shows it."""
    browser.execute_script("document.querySelector('#ablation img').scrollIntoView({behavior: 'instant'})")
    shot = browser.find_element("css selector", "#ablation img").screenshot_as_png
    return np.asarray(Image.open(io.BytesIO(shot)).convert("L"))


def test_both_pages_have_the_same_colours(browser, page):
    """The server's style is the first part of that of a report."""
    from ensemblefuse._theme import page_css

    assert page_css() in page.read_text(encoding="utf-8")


def test_all_bars_of_explanations_have_one_scale(browser, plain_page):
    opened(browser, plain_page)
    bars = browser.execute_script(
        "return [...document.querySelectorAll('.explanation tr')].map((tr) => [tr.cells[2].innerText, "
        "tr.cells[1].firstChild.firstChild.style.width, tr.cells[1].firstChild.firstChild.style.background])"
    )
    numbers = np.array([float(text.replace("−", "-")) for text, _, _ in bars if text != "missing"])
    widths = np.array([float(width.rstrip("%")) for text, width, _ in bars if text != "missing"])
    assert len(bars) > 20 and np.allclose(widths, 50 * np.abs(numbers) / np.abs(numbers).max(), atol=0.3)
    signs = {
        ("for" in color, n > 0) for (_, _, color), n in zip(bars, numbers, strict=True) if "soft" not in color and n
    }
    assert signs == {(True, True), (False, False)}


def test_a_phone_gets_figures_drawn_for_it(browser, page):
    shown = "return document.querySelector('#data img').currentSrc"
    opened(browser, page, 1280)
    wide = browser.execute_script(shown)
    opened(browser, page, 380)
    assert browser.execute_script(shown) != wide
    small = browser.execute_script(
        "return [...document.querySelectorAll('main p, main td, main th, figcaption')]"
        ".filter(e => parseFloat(getComputedStyle(e).fontSize) < 12).length"
    )
    assert small == 0
