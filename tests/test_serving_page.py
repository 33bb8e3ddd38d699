"""The page of the server in a browser: a row goes in by hand, the model's answer comes out, nothing fails silently."""

import base64
import contextlib
import json
import threading
from pathlib import Path

import in_browser
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from serving_case import TOKEN, wait_until
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import OneHotEncoder

import ensemblefuse
from ensemblefuse import (
    AudioEncoder,
    ConformalFusionClassifier,
    ConformalFusionRegressor,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FunctionEncoder,
    ImageEncoder,
    PrecomputedEncoder,
    TextEncoder,
    TimeSeriesEncoder,
    explain_row,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.datasets import make_media

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("serving_page"),
    pytest.mark.skipif(not in_browser.HERE, reason="this machine has no chromium with a chromedriver"),
]

HOSTILE = '<img src=x onerror="window.hit = 1">'
LONG = "W" * 70
SIZE = "__proto__"  # a name that JavaScript does not take for one of the user's everywhere
FLAGS = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
FLAGS += ["--host-resolver-rules=MAP model.test 127.0.0.1"]


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    return make_media(tmp_path_factory.mktemp("media"), 45)


@pytest.fixture(scope="module")
def model(media, tmp_path_factory):
    """Four modalities, and classes with names that are markup where they are not taken as text."""
    modalities = [
        ("image", ImageEncoder(features="color"), "photo"),
        ("text", TextEncoder(), "title"),
        ("audio", AudioEncoder(features="librosa"), "clip"),
        ("tabular", "passthrough", ["price", "weight"]),
    ]
    labels = media.target.map({"circle": HOSTILE, "square": LONG, "triangle": "a triangle"}).to_numpy()
    with ensemblefuse.config_context(cache=tmp_path_factory.mktemp("cache"), progress=False):
        fusion = DecisionFusionClassifier(LogisticRegression(max_iter=1000), cv=3)
        return make_fusion_pipeline(modalities, fusion).fit(media.frame, labels)


@pytest.fixture(scope="module")
def model_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "shapes.fuse"
    save_model(model, path)
    return path


@contextlib.contextmanager
def served(model, **settings):
    """The address of a server in a thread of this process, ready."""
    import uvicorn

    from ensemblefuse.serving import ServerSettings, make_app

    app = make_app(model, ServerSettings(**settings))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: app.state.service.state == "ready")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def server(model_file):
    with served(model_file) as url:
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with in_browser.started(tmp_path_factory.mktemp("profile"), FLAGS) as driver:
        yield driver


RECORD = "[...document.querySelectorAll('button')].find((button) => button.textContent === 'Record')"


class Page:
    """The page in the browser, as its user sees it."""

    def __init__(self, browser, url, width=1280):
        self.browser = browser
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for kind in ("browser", "performance"):
            browser.get_log(kind)
        browser.get(url)
        self.wait("!busy")

    def js(self, script, *args):
        return self.browser.execute_script(f"return {script}", *args)

    def wait(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, 60, 0.05).until(lambda _: self.js(condition), condition)

    def field(self, name):
        return self.js("fields.find((field) => field.name === arguments[0]).input", name)

    def error_of(self, name):
        return self.js("fields.find((field) => field.name === arguments[0]).error.innerText", name)

    def text(self, where):
        return self.js("document.querySelector(arguments[0]).innerText", where)

    def table(self, where):
        """The rows of a table: heading and value of each."""
        rows = "[...document.querySelectorAll(arguments[0] + ' tbody tr')]"
        return dict(self.js(f"{rows}.map((row) => [row.cells[0].innerText, row.cells[1].innerText])", where))

    def fill(self, row):
        for name, value in row.items():
            self.field(name).send_keys(str(value))

    def click(self, button):
        # A field that is left says what is empty now, and a longer line moves the buttons: not between aim and click.
        self.js("document.activeElement.blur()")
        self.js("document.getElementById(arguments[0])", button).click()
        self.wait("!busy")

    def requests(self):
        """Method and address of each request since the page was asked for."""
        entries = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        sent = [m["params"]["request"] for m in entries if m["method"] == "Network.requestWillBeSent"]
        return [(request["method"], request["url"]) for request in sent]


@pytest.fixture
def page(browser, server):
    return Page(browser, server)


@pytest.fixture
def row(media):
    return media.frame.iloc[0].to_dict()


def percent(p):
    return "<0.1%" if 0 < p < 0.0005 else ">99.9%" if 0.9995 < p < 1 else f"{100 * p:.1f}%"


def signed(value):
    return f"{value:+.3f}".replace("-", "−")


def test_a_row_by_hand_gets_the_answer_of_the_model(page, model, media, row, server):
    page.fill(row)
    assert page.text("#empty") == "No field is empty."
    page.click("predict")
    proba = model.predict_proba(media.frame.iloc[:1])[0]
    assert page.text("#said .said") == model.classes_[proba.argmax()]
    assert page.text("#said .certain") == f"Certainty {percent(proba.max())}"
    order = np.argsort(-proba)
    assert list(page.table("#ranking").items()) == [(model.classes_[k], percent(proba[k])) for k in order]
    assert "Used: image, text, audio, tabular. Nothing was missing." in page.text("#basis")
    assert page.browser.get_log("browser") == []
    asked = page.requests()
    assert [url for method, url in asked if method == "POST"] == [f"{server}predict"]
    assert [url for _, url in asked if not url.startswith((server, "blob:", "data:"))] == []


def test_an_empty_field_is_missing_and_the_score_is_that_of_such_rows(page, model, media, row):
    page.fill({name: row[name] for name in ("photo", "title")})
    assert page.text("#empty") == "Empty, so missing: clip, price, weight."
    page.click("predict")
    X = media.frame.iloc[:1].assign(clip=None, price=np.nan, weight=np.nan)
    assert page.text("#said .certain") == f"Certainty {percent(model.predict_proba(X).max())}"
    scores = model[-1].expected_scores_.loc["image + text"]
    basis = page.text("#basis")
    assert "Used: image, text. Missing: audio, tabular." in basis
    assert f"the {scores['n_rows']:.0f} rows of fit that hold image, text" in basis
    assert f"{percent(scores['accuracy'])} were predicted correctly from these alone" in basis
    assert f"(log-loss {scores['log_loss']:.3f})" in basis


def test_a_corrupt_picture_is_told_at_its_field(page, row, tmp_path):
    corrupt = tmp_path / "corrupt.png"
    corrupt.write_bytes(b"no picture")
    page.fill(row | {"photo": corrupt})
    page.wait("document.querySelector('.preview').innerText.includes('cannot show or play the file')")
    page.click("predict")
    assert page.error_of("photo") and not page.error_of("clip")
    assert page.field("photo").get_attribute("aria-invalid") == "true"
    assert page.js("document.activeElement === arguments[0]", page.field("photo"))
    assert page.text("#problem") == "Cannot be read: photo; the reason is shown at the field."
    assert page.text("#said") == "No prediction yet."
    page.field("photo").send_keys(row["photo"])
    assert not page.error_of("photo")
    page.click("predict")
    assert page.text("#said .certain") and not page.text("#problem")


def test_what_cannot_be_a_number_is_not_sent(page):
    page.fill({"price": "12,5", "title": "a red circle"})
    page.click("predict")
    assert "“12,5” is not a number" in page.error_of("price")
    assert "POST" not in [method for method, _ in page.requests()]


def test_why_shows_the_shares_and_the_parts(page, model, media, row):
    page.fill({name: row[name] for name in ("photo", "title", "clip")})
    page.click("predict")
    page.click("why")
    X = media.frame.iloc[:1].assign(price=np.nan, weight=np.nan)
    explained = explain_row(model, X, X.index[0])
    shares = {name: signed(share) for name, share in explained.shares.items()} | {"tabular": "missing"}
    said = page.table("#shares table")
    assert page.text("#shares caption").endswith("against it; the last line is the sum.")
    assert said == {"nothing known": signed(explained.base), **shares, "all together": signed(explained.value)}
    assert page.text("#parts") == ""
    page.click("inside")
    words = explained.parts["text"].effects
    assert f"in the same way: {signed(explained.on_top['text'])}." in page.text("#parts")
    assert {f"“{word}”" for word in words["token"]} <= set(page.table("#parts table"))
    assert page.text(".marked") == row["title"]
    colours = "new Set(document.querySelector('canvas').getContext('2d').getImageData(0, 0, 96, 96).data).size"
    assert page.js(colours) > 5


def test_a_name_that_is_markup_stays_text(page, model, media):
    page.fill(media.frame[media.target == "circle"].iloc[0][["photo", "title"]].to_dict())
    page.click("predict")
    page.click("why")
    assert HOSTILE in page.table("#ranking") and HOSTILE in page.text("#facts, #shares")
    assert page.js("window.hit") is None
    assert page.js("document.querySelectorAll('#result img').length") == 0


def test_two_clicks_send_one_request(page):
    page.fill({"title": "a red circle"})
    twice = "[0, 1].forEach(() => document.getElementById('predict').click())"
    assert page.js(f"({twice}, [...document.querySelectorAll('#columns button')].every((button) => button.disabled))")
    page.wait("!busy")
    assert [method for method, _ in page.requests()].count("POST") == 1


def test_files_are_dropped_and_pasted(page, row):
    data = base64.b64encode(Path(row["photo"]).read_bytes()).decode()
    page.js(
        "(() => { const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));"
        "const files = new DataTransfer(); files.items.add(new File([bytes], 'a.png', {type: 'image/png'}));"
        "window.one = files; const zone = document.querySelector('.zone');"
        "zone.dispatchEvent(new DragEvent('drop', {dataTransfer: files, bubbles: true, cancelable: true})); })()",
        data,
    )
    assert page.js("arguments[0].files[0].name", page.field("photo")) == "a.png"
    page.wait("document.querySelector('.preview img').naturalWidth > 0")
    page.js("document.querySelector('.preview button').click()")
    assert page.js("arguments[0].files.length", page.field("photo")) == 0
    paste = "dispatchEvent(new ClipboardEvent('paste', {clipboardData: window.one, bubbles: true, cancelable: true}))"
    page.js(f"document.body.{paste}")
    assert page.js("arguments[0].files[0].name", page.field("photo")) == "a.png"
    page.click("predict")
    assert "Used: image." in page.text("#basis")
    page.click("clear")
    page.js("window.one.setData('text/plain', 'words, and a picture of them')")
    page.js(f"arguments[0].{paste}", page.field("title"))
    assert page.text("#empty") == "Every field is empty."  # a field for text takes the text, as browsers do it


def test_a_recording_is_sent_as_wav(page):
    record = page.js(RECORD)
    record.click()
    page.wait("document.getElementById('fields').innerText.includes('Stop (1 of')")
    page.click("predict")
    assert "still recording" in page.error_of("clip")
    record.click()
    page.wait("fields.find((field) => field.name === 'clip').input.files.length")
    head = page.browser.execute_async_script(
        "const [input, done] = arguments; input.files[0].slice(0, 44).arrayBuffer().then("
        "(b) => done([...new Uint8Array(b)]))",
        page.field("clip"),
    )
    assert bytes(head[:4]) == b"RIFF" and bytes(head[8:12]) == b"WAVE"
    page.wait("document.querySelector('audio').duration > 0.5")
    page.click("predict")
    assert "Used: audio." in page.text("#basis")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (413, "The row is larger than the server allows. The server says: too much"),
        (503, "The server is busy or not ready; try again in 7 s. The server says: too much"),
        (504, "The server exceeded its own time limit. The server says: too much"),
        (500, "The server answered with status 500 and no message for this page. The server says: too much"),
    ],
)
def test_each_refusal_is_one_clear_line(page, status, said):
    page.fill({"title": "a red circle"})
    page.js(
        '(window.fetch = async () => new Response(\'{"error": "too much"}\', '
        "{status: arguments[0], headers: {'Retry-After': '7'}}))",
        status,
    )
    page.click("predict")
    assert page.text("#problem") == said
    assert page.js("document.getElementById('predict').disabled") is False


def test_a_file_beyond_the_limit_is_told_before_it_is_sent(page, tmp_path):
    large = tmp_path / "large.wav"
    large.write_bytes(bytes(page.js("model.limits.max_body") + 1))
    page.fill({"clip": large})
    page.click("predict")
    assert page.error_of("clip") == "The files have 20.0 MB; the server allows 20.0 MB per request."
    assert "POST" not in [method for method, _ in page.requests()]


def test_a_file_that_changed_on_the_disk_is_told(page, row, tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(Path(row["photo"]).read_bytes())
    page.fill({"photo": photo})
    page.wait("document.querySelector('.preview img').naturalWidth > 0")
    photo.unlink()
    page.click("predict")
    assert "choose it again" in page.error_of("photo")


def test_numbers_are_predicted_from_lists_categories_and_other_cells(browser):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({SIZE: rng.choice(["small", "large"], 40)})
    X["waves"] = [np.sin(np.arange(32) * rng.uniform(0.1, 1)) for _ in range(40)]
    X["vector"] = list(rng.normal(size=(40, 3)))
    X["note"] = X[SIZE] + " and so on"
    kinds = {"kind": (OneHotEncoder(handle_unknown="ignore"), [SIZE]), "series": (TimeSeriesEncoder(), "waves")}
    kinds["known"] = (PrecomputedEncoder(), "vector")
    kinds["other"] = (FunctionEncoder(lambda note: [len(note)]), "note")  # nothing says what such a cell is
    model = make_fusion_pipeline([(name, *how) for name, how in kinds.items()], DecisionFusionRegressor(Ridge(), cv=3))
    model.fit(X, rng.normal(size=40) + 3 * (X[SIZE] == "large"))
    with served(model) as url:
        page = Page(browser, url)
        page.fill({SIZE: X[SIZE][0], "note": X["note"][0], "waves": "[0.1, 0.2"})
        page.fill({"vector": json.dumps(X["vector"][0].tolist())})
        page.click("predict")
        assert page.error_of("waves").startswith("This is not JSON")
        page.field("waves").clear()
        page.fill({"waves": json.dumps(X["waves"][0].tolist())})
        page.click("predict")
        assert page.text("#said") == f"{model.predict(X[:1])[0]:.3f}".replace("-", "−")
        scores = model[-1].expected_scores_.loc[" + ".join(kinds)]
        assert f"the error was {scores['rmse']:.3f} (root mean square; R² {scores['r2']:.3f})" in page.text("#basis")
        page.click("why")
        assert list(page.table("#shares table")) == ["nothing known", *kinds, "all together"]


@pytest.mark.filterwarnings("ignore:.*no calibration row:UserWarning")
@pytest.mark.parametrize("regression", [False, True])
def test_a_set_or_an_interval_without_a_promise_is_told(browser, regression):
    """Of a row with a modality that no row of fit lacked."""
    x = np.random.default_rng(0).normal(size=60)
    X, heads = pd.DataFrame({"a": x, "b": x}), {"cv": 3, "joint": False}
    if regression:
        y, fusion = x, ConformalFusionRegressor(DecisionFusionRegressor(Ridge(), **heads), confidence_level=0.8)
    else:
        inner = DecisionFusionClassifier(LogisticRegression(), **heads)
        y, fusion = np.where(x > 0, "up", "down"), ConformalFusionClassifier(inner, confidence_level=0.8)
    modalities = [("one", "passthrough", ["a"]), ("two", "passthrough", ["b"])]
    model = make_fusion_pipeline(modalities, fusion).fit(X, y)
    with served(model) as url:
        page = Page(browser, url)
        page.fill({"a": 2, "b": 2})
        page.click("predict")
        assert "no coverage is promised" not in page.text("#said")
        page.field("b").clear()
        page.click("predict")
        said = page.text("#said")
        what = "interval" if regression else "set of classes"
        assert f"held this combination of modalities: no coverage is promised for the {what}." in said
        if regression:
            alone = model[:-1].transform(pd.DataFrame({"a": [2.0], "b": [np.nan]}))
            lower, upper = (f"{end:.3f}".replace("-", "−") for end in model[-1].predict_interval(alone)[0])
            assert f"Interval: {lower} to {upper}" in said


def test_a_server_that_is_gone_is_told(browser, model_file):
    with served(model_file) as url:
        page = Page(browser, url)
        page.fill({"title": "a red circle"})
    page.click("predict")
    assert page.text("#problem") == "The server does not answer, or closed the connection. Is it still running?"


def test_a_microphone_that_may_not_be_used_is_told(page):
    refused = "Promise.reject(new DOMException('no', 'NotAllowedError'))"
    page.js(f"(navigator.mediaDevices.getUserMedia = () => {refused})")
    page.js(RECORD).click()
    page.wait("!fields.find((field) => field.name === 'clip').error.hidden")
    assert page.error_of("clip") == "Nothing is recorded: the browser was not allowed to use the microphone."


def test_without_https_another_machine_cannot_record_and_is_told_so(browser, model_file):
    with served(model_file, token=TOKEN) as url:
        page = Page(browser, url.replace("127.0.0.1", "model.test"))
        page.js("document.getElementById('token')").send_keys(f"{TOKEN}\n")
        page.wait("!busy && fields.length")
        assert "or over https." in page.text(".zone:has(input[accept='audio/*'])")
        assert not page.js(RECORD).is_enabled()
        page.fill({"title": "a red circle"})
        page.click("predict")
        assert page.text("#said .certain") and not page.js(RECORD).is_enabled()


def test_the_token_is_asked_for_and_kept_in_memory_alone(browser, model_file):
    with served(model_file, token=TOKEN) as url:
        page = Page(browser, url)
        assert not page.js("document.getElementById('token-form').hidden") and not page.text("#problem")
        assert page.js("document.activeElement.id") == "token"
        page.js("document.getElementById('token')").send_keys("wrong\n")
        page.wait("!busy && problem.innerText")
        assert page.text("#problem").startswith("The server does not know this token.")
        page.js("document.getElementById('token')").send_keys(f"{TOKEN}\n")
        page.wait("!busy && document.getElementById('token-form').hidden")
        page.fill({"title": "a red circle"})
        page.click("predict")
        assert page.text("#said .certain")
        assert page.js("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


@pytest.mark.parametrize("width", [380, 1280])
def test_nothing_is_wider_than_the_window(browser, server, row, tmp_path, width):
    page = Page(browser, server, width)
    photo = tmp_path / f"{'long' * 50}.png"
    Image.open(row["photo"]).resize((1600, 90)).save(photo)
    page.fill(row | {"photo": photo, "title": "word" * 60})
    page.click("predict")
    page.click("why")
    page.click("inside")
    shown, needed = page.js("[document.documentElement.clientWidth, document.documentElement.scrollWidth]")
    assert needed <= shown <= width  # a scroll bar at the side takes part of the window
    beyond = "[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1)"
    assert page.js(f"{beyond}.map((e) => e.outerHTML.slice(0, 80))") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 900, 1440])
def test_nothing_overlaps_and_text_stands_out(browser, server, row, tmp_path, width, scheme):
    in_browser.themed(browser, scheme)
    page = Page(browser, server, width)
    photo = tmp_path / f"{'long' * 50}.png"
    Image.open(row["photo"]).resize((1600, 90)).save(photo)
    page.fill(row | {"photo": photo, "title": f"{'word' * 60} {row['title']}", "price": 1e6})
    page.click("predict")
    page.click("why")
    page.click("inside")
    page.js("(document.getElementById('known').open = true)")
    page.fill({"weight": "dear"})
    page.js("showErrors([{field: 'weight', reason: 'no number'}])")
    assert in_browser.faults_of_layout(browser) == []
    contrasts = in_browser.contrasts(browser)
    assert len(contrasts) > 60
    assert [(ratio, what) for ratio, what in contrasts if ratio < 4.5] == []


def test_the_switch_goes_before_the_system(browser, server):
    in_browser.themed(browser, "light")
    page = Page(browser, server)
    light = in_browser.back_color(browser)
    in_browser.chosen_theme(browser, "dark")
    dark = in_browser.back_color(browser)
    assert dark != light
    in_browser.themed(browser, "dark")
    in_browser.chosen_theme(browser, "light")
    assert in_browser.back_color(browser) == light
    in_browser.chosen_theme(browser, "auto")
    assert in_browser.back_color(browser) == dark and page.browser.get_log("browser") == []
    in_browser.themed(browser, "light")


def test_a_number_outside_the_range_of_fit_is_marked(page, media):
    low, high = media.frame["price"].min(), media.frame["price"].max()
    assert f"In fit from {low:g} to {high:g}" in page.text(".field:has(#field-3)")
    marked = "!fields.find((field) => field.name === 'price').outside.hidden"
    for value, outside in [(low, False), (high, False), (high + 0.01, True), (low - 0.01, True), (-1e300, True)]:
        page.field("price").clear()
        page.fill({"price": value})
        assert page.js(marked) == outside, value
    page.field("price").clear()
    assert not page.js(marked)
    page.fill({"price": high + 1, "weight": media.frame["weight"].median()})
    page.click("predict")
    assert f"price = {high + 1:g} is outside the range of fit, {low:g} to {high:g}" in page.text("#basis")
    page.click("clear")
    assert not page.js(marked)


def test_a_row_of_the_file_is_an_example_to_start_from(browser, model, media, tmp_path):
    save_model(model, tmp_path / "shapes.fuse", example=media.frame.iloc[[3, 4]])
    with served(tmp_path / "shapes.fuse") as url:
        page = Page(browser, url)
        page.fill({"title": "something else"})
        page.click("example")
        assert page.text("#empty") == "No field is empty."
        page.wait("document.querySelector('.preview img').naturalWidth > 0")
        page.click("predict")
        proba = model.predict_proba(media.frame.iloc[[3]])
        assert page.text("#said .certain") == f"Certainty {percent(proba.max())}"
        page.click("why")
        page.click("inside")
        assert "weight = " in page.text("#parts")


def test_without_rows_in_the_file_the_example_has_usual_numbers(page, media):
    page.click("example")
    assert page.text("#empty") == "Empty, so missing: photo, title, clip."
    assert float(page.js("arguments[0].value", page.field("price"))) == pytest.approx(media.frame["price"].median())


def test_bars_of_contributions_and_of_parts_have_one_scale(page, row):
    page.fill(row)
    page.click("predict")
    page.click("why")
    page.click("inside")
    bars = "[...document.querySelectorAll('#shares tbody tr, #parts tbody tr')]"
    sizes = page.js(f"{bars}.map((tr) => [tr.cells[1].innerText, tr.querySelector('i').style.width])")
    numbers = np.array([float(text.replace("−", "-")) for text, _ in sizes])
    widths = np.array([float(width.rstrip("%")) for _, width in sizes])
    most = np.abs(numbers).max()
    assert len(sizes) > 15 and np.allclose(widths, 50 * np.abs(numbers) / most, atol=0.5)
    colors = page.js(f"{bars}.map((tr) => tr.querySelector('i').className)")
    assert {(c, np.sign(n)) for c, n in zip(colors, numbers, strict=True) if c != "sum" and n} == {
        ("plus", 1),
        ("minus", -1),
    }


def test_every_control_has_a_name_and_a_visible_focus(page, row):
    from selenium.webdriver import ActionChains, Keys

    page.fill({"photo": row["photo"]})
    page.js("document.activeElement.blur()")
    controls = "[...document.querySelectorAll('input, textarea, select, button')].filter((e) => e.checkVisibility())"
    reached = []
    for _ in range(len(page.js(controls))):
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
        at = page.browser.switch_to.active_element
        assert at.accessible_name, at.get_attribute("outerHTML")
        assert page.js("getComputedStyle(arguments[0]).outlineStyle", at) == "solid"
        reached.append(at.get_attribute("id") or at.text)
    assert {"field-0", "field-1", "field-2", "predict", "clear", "Remove", "Record"} <= set(reached)
