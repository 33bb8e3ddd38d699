"""A headless Chromium, and what every page that opens in it must hold."""

import contextlib
import importlib.util
import json
import shutil

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HERE = bool(CHROMIUM and DRIVER and importlib.util.find_spec("selenium"))
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECTIONS = ["data", "scores", "ablation", "calibration", "confusion", "errors", "shares", "missing", "rows", "checks"]
SECTIONS += ["cost", "made"]


@contextlib.contextmanager
def started(profile, flags=()):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, *flags, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def opened(browser, page, width=1280):
    """Open the page in a window of this width; the two logs until it is there."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())
    requests = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in requests if m["method"] == "Network.requestWillBeSent"]
    return browser.get_log("browser"), urls


def check_page(browser, page):
    """Every section is there with its heading; no error in the console, and nothing asked for outside the page."""
    errors, urls = opened(browser, page)
    assert errors == []
    assert page.as_uri() in urls
    assert [url for url in urls if not url.startswith(("file:", "data:"))] == []
    assert list(figures(browser)) == SECTIONS


def figures(browser):
    """Of each section with a heading: whether its pictures are drawn."""
    sections = browser.execute_script(
        "return [...document.querySelectorAll('section')].map(s => [s.id, s.querySelector('h2').innerText, "
        "[...s.querySelectorAll('img')].map(i => i.complete && i.naturalWidth > 100 && i.clientHeight > 40)])"
    )
    return {name: images for name, heading, images in sections if heading}
