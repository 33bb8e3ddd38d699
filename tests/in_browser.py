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


def themed(browser, scheme):
    """Let the browser prefer a light or a dark page from now on."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


# Of each line of text: its box, and what it belongs to. Text that is only for screen readers is left out.
_TEXTS = """
const lines = [];
for (const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walker.nextNode();) {
  const node = walker.currentNode, owner = node.parentElement;
  const seen = owner.checkVisibility({visibilityProperty: true}) && !owner.closest(".unseen, option");
  if (!node.data.trim() || !seen) continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  for (const box of range.getClientRects())
    if (box.width > 1) lines.push({owner, box, text: node.data.trim().slice(0, 60)});
}
"""
_LAYOUT = f"""return (() => {{{_TEXTS}
const shown = document.documentElement.clientWidth, found = [];
if (document.documentElement.scrollWidth > shown) found.push("the page is wider than the window");
const fields = [...document.querySelectorAll("input:not([type=radio]), button, select, textarea, img, canvas, audio")];
const boxes = [...lines, ...fields.filter((e) => e.checkVisibility()).map((owner) =>
  ({{owner, box: owner.getBoundingClientRect(), text: owner.outerHTML.slice(0, 60)}}))];
for (const {{box, text, owner}} of boxes) {{
  if (box.left < -1 || box.right > shown + 1) found.push(`outside the window: ${{text}}`);
  for (let e = owner; e && e !== document.body; e = e.parentElement) {{
    const style = getComputedStyle(e), outer = e.getBoundingClientRect();
    if (style.overflowX !== "visible" && (box.right > outer.right + 2 || box.left < outer.left - 2))
      found.push(`cut: ${{text}}`);
    if (style.textOverflow === "ellipsis" && e.scrollWidth > e.clientWidth) found.push(`cut: ${{text}}`);
  }}
}}
const inside = (one, other) => one.owner.contains(other.owner) || other.owner.contains(one.owner);
boxes.sort((a, b) => a.box.top - b.box.top);
boxes.forEach((one, i) => {{
  for (let k = i + 1; k < boxes.length && boxes[k].box.top < one.box.bottom - 3; k++) {{
    const other = boxes[k];
    const wide = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
    const high = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
    if (wide > 2 && high > 3 && !inside(one, other)) found.push(`overlap: ${{one.text}} | ${{other.text}}`);
  }}
}});
return found;
}})()"""


def faults_of_layout(browser):
    """What overlaps, is cut off, or is beyond the window: text, fields and pictures of the page as it is now."""
    return browser.execute_script(_LAYOUT)


# The drawings of a page, opened one by one, because nothing outside an image can look into it.
_DRAWN = """
const found = [];
for (const image of document.querySelectorAll("figure img")) {
  const source = image.currentSrc;
  if (!source.startsWith("data:image/svg+xml;base64,")) continue;
  const holder = document.createElement("div");
  holder.style.cssText = "position:absolute;left:0;top:0";
  holder.attachShadow({mode: "open"}).innerHTML =
    new TextDecoder().decode(Uint8Array.from(atob(source.split(",")[1]), (c) => c.charCodeAt(0)));
  document.body.append(holder);
  const svg = holder.shadowRoot.querySelector("svg"), frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].map((e) => ({text: e.textContent, box: e.getBoundingClientRect()}));
  const name = image.alt.slice(0, 40);
  texts.forEach(({text, box}, i) => {
    const beside = Math.max(frame.left - box.left, box.right - frame.right);
    const beyond = Math.max(beside, frame.top - box.top, box.bottom - frame.bottom);
    if (beyond > 2)
      found.push(`${name}: beyond the drawing: ${text}`);
    for (const other of texts.slice(i + 1)) {
      const wide = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
      const high = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
      if (wide > 3 && high > 4) found.push(`${name}: overlap: ${text} | ${other.text}`);
    }
  });
  holder.remove();
}
return found;
"""


def faults_of_drawings(browser):
    """Texts of the drawings that overlap, or are beyond their drawing."""
    return browser.execute_script(_DRAWN)


_CONTRASTS = f"""return (() => {{{_TEXTS}
const pen = Object.assign(document.createElement("canvas"), {{width: 1, height: 1}}).getContext("2d");
const over = (colors) => {{
  pen.clearRect(0, 0, 1, 1);
  for (const color of colors) {{ pen.fillStyle = color; pen.fillRect(0, 0, 1, 1); }}
  return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
}};
const light = (rgb) => {{
  const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}};
const backs = (e) => (e ? [...backs(e.parentElement), getComputedStyle(e).backgroundColor] : []);
return [...new Set(lines.map((line) => line.owner))].map((e) => {{
  const behind = backs(e), back = light(over(behind)), ink = light(over([...behind, getComputedStyle(e).color]));
  return [(Math.max(back, ink) + 0.05) / (Math.min(back, ink) + 0.05), e.outerHTML.slice(0, 60)];
}});
}})()"""


def contrasts(browser):
    """Ratio of contrast of each element with text, and its beginning; WCAG 2.2, success criterion 1.4.3: 4.5 to 1."""
    return browser.execute_script(_CONTRASTS)


def chosen_theme(browser, theme):
    """Choose a theme with the switch of the page."""
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", "theme")).select_by_value(theme)


def back_color(browser):
    """Red, green and blue behind the page."""
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


def figures(browser):
    """Of each section with a heading: whether its pictures are drawn."""
    sections = browser.execute_script(
        "return [...document.querySelectorAll('section')].map(s => [s.id, s.querySelector('h2').innerText, "
        "[...s.querySelectorAll('img')].map(i => i.complete && i.naturalWidth > 100 && i.clientHeight > 40)])"
    )
    return {name: images for name, heading, images in sections if heading}
