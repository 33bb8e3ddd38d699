"""Colours and common style of all pages and figures: one set of names, each with a light and a dark colour."""

from __future__ import annotations

import re
from importlib import resources

__all__ = ["AGAINST", "COLORS", "EDGE", "FOR", "INK", "PALETTE", "SOFT", "page_css", "switch_html", "with_theme"]

# Of modalities and of other kinds of things: the "muted" scheme of Paul Tol (Colour Schemes, 2021), made for any kind
# of colour vision. It has no blue and no orange, which stand for the sign of a number everywhere.
_MODALITIES = {
    "m0": ("#44aa99", "#4fbfae"),
    "m1": ("#882255", "#d2669c"),
    "m2": ("#999933", "#bdbd4f"),
    "m3": ("#aa4499", "#cf84c2"),
    "m4": ("#117733", "#3fae66"),
    "m5": ("#cc6677", "#e58f9c"),
    "m6": ("#555b62", "#c3cad1"),
    "m7": ("#ddcc77", "#e6d98f"),
}
COLORS: dict[str, tuple[str, str]] = {
    "ink": ("#1b1f24", "#e6e9ec"),
    "soft": ("#57606a", "#a7b0ba"),
    "line": ("#d8dee4", "#343b43"),
    "edge": ("#767f89", "#7d8792"),
    "mark": ("#0b5cad", "#79b8ff"),
    "on-mark": ("#fffffe", "#0a1624"),
    "back": ("#f6f8fa", "#14171b"),
    "card": ("#ffffff", "#1c2025"),
    "track": ("#e7ebef", "#2b3138"),
    "good": ("#0a6640", "#5fd39b"),
    "bad": ("#b42318", "#ff9c91"),
    "bad-back": ("#fdf0ee", "#3a1d1a"),
    "warn": ("#8a4b00", "#f0b35c"),
    "warn-back": ("#fff6e9", "#33270f"),
    # Positive helps: for the explained class or a larger number, or for a better score.
    "for": ("#0072b2", "#3b9fd8"),
    "against": ("#d55e00", "#e8771f"),
    **_MODALITIES,
}
"""Name of each colour: its value on a light and on a dark screen."""

INK, SOFT, EDGE, FOR, AGAINST = (COLORS[name][0] for name in ("ink", "soft", "edge", "for", "against"))
PALETTE = tuple(light for light, _ in _MODALITIES.values())

_NAMES = {light: name for name, (light, _) in COLORS.items()}
_DRAWN = re.compile("(fill|stroke|stop-color): (#[0-9a-f]{6})")


def _declarations(theme: int) -> str:
    return "".join(f"--{name}:{values[theme]};" for name, values in COLORS.items())


def page_css() -> str:
    """Return the style that all pages share: the colours of both themes, and the rules that use them.

    The page follows the system, or the choice in `switch_html`. Paper is always light.
    """
    light, dark = _declarations(0), _declarations(1)
    rules = resources.files("ensemblefuse._theme").joinpath("pages.css").read_text(encoding="utf-8")
    in_dark = f"{{color-scheme:dark;{dark}}}"
    return (
        # Over a grey picture the colours of a sign are those of the light theme everywhere.
        f":root{{color-scheme:light;{light}--for-over:{FOR};--against-over:{AGAINST}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root:not(:has(#theme [value=light]:checked)){in_dark}}}\n"
        f"@media screen{{:root:has(#theme [value=dark]:checked){in_dark}}}\n"
        f"{rules}"
    )


def switch_html() -> str:
    """Return the switch between the themes; it needs no script."""
    choices = "".join(f'<option value="{theme}">{theme.capitalize()}</option>' for theme in ("auto", "light", "dark"))
    return f'<select class="theme" id="theme" aria-label="Colours of the page" autocomplete="off">{choices}</select>'


def with_theme(svg: str) -> str:
    """Return a drawing whose colours follow the theme of the page that shows it.

    Only colours of `COLORS` change, and black. A browser asks the image that shows the drawing for its
    ``color-scheme``.

    Examples
    --------
    >>> from ensemblefuse._theme import FOR, with_theme
    >>> print(with_theme(f'<svg width="1"><path style="fill: {FOR}"/></svg>').split("</style>")[1])
    <path style="fill: var(--for)"/></svg>
    """
    light, dark = _declarations(0), _declarations(1)
    style = (
        f"<style>:root{{{light}fill:var(--ink)}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
        "@media print{:root{" + light + "}}</style>"
    )
    drawn = _DRAWN.sub(lambda found: f"{found[1]}: {_variable(found[2])}", svg)
    return re.sub(r"(<svg\b[^>]*>)", lambda found: found[1] + style, drawn, count=1)


def _variable(color: str) -> str:
    name = "ink" if color == "#000000" else _NAMES.get(color)
    return color if name is None else f"var(--{name})"
