"""One set of colours for all pages and figures: what stands out, what a sign looks like, and that nobody has others."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import ensemblefuse
from ensemblefuse import DecisionFusionClassifier, explain_row
from ensemblefuse._theme import AGAINST, COLORS, FOR, PALETTE, page_css, switch_html, with_theme
from ensemblefuse.scoring.display import color_map, sign_color, text_on

ROOT = Path(ensemblefuse.__file__).parent
TEXTS = ["ink", "soft", "mark"]


def light_of(color):
    """Relative luminance of WCAG 2.2."""
    levels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    bright, dim = sorted((light_of(one), light_of(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_texts_stand_out_in_both_themes(theme):
    pairs = [*product(TEXTS, ["back", "card"]), ("bad", "bad-back"), ("warn", "warn-back"), ("on-mark", "mark")]
    pairs += [("good", "card"), ("bad", "card")]
    for text, back in pairs:
        assert contrast(COLORS[text][theme], COLORS[back][theme]) >= 4.5, (text, back)
    for name in ("for", "against", "edge"):  # of bars and borders: WCAG 2.2, success criterion 1.4.11
        assert contrast(COLORS[name][theme], COLORS["card"][theme]) >= 3, name


def test_no_colour_of_a_modality_is_that_of_a_sign():
    assert len(set(PALETTE)) == 8 and not {FOR, AGAINST} & set(PALETTE)
    assert len({light for light, _ in COLORS.values()}) == len(COLORS)  # a drawing is read back by its light colours


@pytest.mark.parametrize("path", ["report/style.css", "serving/page/page.css", "serving/page/page.js"])
def test_no_page_has_colours_of_its_own(path):
    source = (ROOT / path).read_text()
    assert set(re.findall(r"#[0-9a-fA-F]{3,8}\b|rgba?\(", source)) <= {"#fff"}  # behind pictures with gaps
    assert set(re.findall(r"var\(--([a-z0-9-]+)", source)) <= set(COLORS)
    assert not re.search(r"prefers-color-scheme|color-scheme:", source)


def test_a_drawing_has_the_colours_of_the_page():
    drawn = f'<svg a="1"><path style="fill: {FOR}; stroke: #123456"/><text>fill: {AGAINST}</text></svg>'
    themed = with_theme(drawn)
    assert '<path style="fill: var(--for); stroke: #123456"/>' in themed
    assert f"--for:{COLORS['for'][1]}" in themed.split("prefers-color-scheme:dark")[1]
    assert themed.startswith('<svg a="1"><style>')


def test_the_style_has_both_themes_and_the_switch_names_them():
    style, switch = page_css(), switch_html()
    for theme in ("light", "dark"):
        assert f"#theme [value={theme}]:checked" in style and f'value="{theme}"' in switch
    assert style.count(f"--ink:{COLORS['ink'][1]}") == 2 and "script" not in switch


def test_positive_is_blue_in_pictures_and_pages():
    """The same explanation as a picture of matplotlib and as HTML."""
    rng = np.random.default_rng(0)
    y = np.array(["a", "b"] * 40)
    X = pd.DataFrame({"one__0": (y == "b") + rng.normal(size=80), "two__0": (y == "b") + rng.normal(size=80)})
    model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y)
    for row in range(6):
        told = explain_row(model, X, row, within=False)
        bars = [patch.get_facecolor() for patch in told.plot().axes_[0].patches][1:-1]
        html = re.findall(r"background:var\(--(for|against),(#\w+)\)", told.to_html())
        for share, drawn, (name, color) in zip(told.shares, bars, html, strict=True):
            assert (name, color) == (("for", FOR) if share >= 0 else ("against", AGAINST))
            assert np.allclose(drawn[:3], [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)], atol=1e-6)
            assert sign_color(share) == color


def test_the_map_of_signs_ends_in_the_colours_of_signs_and_its_texts_stand_out():
    shades = color_map(signed=True)
    for place, color in ((0.0, AGAINST), (1.0, FOR)):
        assert np.allclose(shades(place)[:3], [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)], atol=0.01)
    for place in np.linspace(0, 1, 41):
        for shade in (shades(place), color_map(signed=False)(place)):
            back = "#" + "".join(f"{round(255 * level):02x}" for level in shade[:3])
            assert contrast(text_on(shade), back) >= 4.5, place


def test_what_a_modality_adds_on_top_is_the_drop_without_it():
    """So it compares with the effects of parts: a modality of one column loses the same with its column missing."""
    rng = np.random.default_rng(1)
    y = np.array(["a", "b"] * 40)
    X = pd.DataFrame({name: (y == "b") + rng.normal(size=80) for name in ("one__0", "two__0", "three__0")})
    model = DecisionFusionClassifier(LogisticRegression(), cv=3, joint=False).fit(X, y)
    X.loc[3, "three__0"] = np.nan
    for row in (0, 3):
        told = explain_row(model, X, row, within=False)
        for name in told.shares.index:
            alone = X.loc[[row]].assign(**{f"{name}__0": np.nan})
            p = model.predict_proba(alone)[0][list(model.classes_).index(told.target)]
            assert told.on_top[name] == pytest.approx(told.value - np.log(p / (1 - p)))
        assert (told.on_top["three"] == 0) == (row == 3)


def test_explanations_share_a_scale_that_is_given():
    rng = np.random.default_rng(2)
    y = np.array(["a", "b"] * 40)
    X = pd.DataFrame({"one__0": (y == "b") + rng.normal(size=80), "two__0": rng.normal(size=80)})
    told = explain_row(DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y), X, 0)
    width = r"width:([\d.]+)%;top"
    own, wider = (
        np.array(re.findall(width, told.to_html(scale=scale)), dtype=float) for scale in (None, 2 * told.largest)
    )
    assert own.max() == 50 and np.allclose(wider, own / 2, atol=0.01)
