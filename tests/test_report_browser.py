"""The page in a browser: every section and figure is there, nothing is asked for, nothing overflows."""

import in_browser
import numpy as np
import pytest
from conftest import make_blocks
from in_browser import opened
from sklearn.linear_model import LogisticRegression

from ensemblefuse import DecisionFusionClassifier, write_report

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


@pytest.mark.parametrize("width", [380, 1280])
def test_nothing_is_wider_than_the_window(browser, page, width):
    opened(browser, page, width)
    window, shown, needed = browser.execute_script(
        "const page = document.documentElement; return [innerWidth, page.clientWidth, page.scrollWidth]"
    )
    assert window == width and needed <= shown  # a scroll bar at the side takes part of the window
    beyond = browser.execute_script(
        "return [...document.querySelectorAll('main *')].filter(e => !e.closest('.table, .explanation') && "
        "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert beyond == []


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
