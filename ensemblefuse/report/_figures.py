"""Pictures for the page: drawn twice, for a wide screen and for a phone, with the title as the page's text."""

from __future__ import annotations

import base64
import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from ensemblefuse._optional import import_optional
from ensemblefuse.report._page import escape

__all__ = ["figure_html", "new_figure"]

WIDE, NARROW = 5.8, 3.6  # inches; 96 pixels of a screen each
_MOST_SVG = 250_000  # bytes; larger drawings are sent as pixels
_SETTINGS: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "svg.fonttype": "none",  # text stays text: sharp, small, and drawn in whatever script the names are in
    "svg.hashsalt": "ensemblefuse",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "figure.dpi": 100,
}
_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def new_figure(height: float = 3.4) -> tuple[Any, Any]:
    """A figure that no window shows, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE, height), layout="constrained")
    ax = figure.add_subplot()
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def figure_html(draw: Callable[[], Any], alt: str, *, caption: str = "") -> str:
    """Call `draw`, which gives a matplotlib figure, and make HTML of it.

    Parameters
    ----------
    draw : callable
        Without arguments.
    alt : str
        What the figure shows, for those who do not see it.
    caption : str
        By default the title that the figure has; it is taken off the drawing, where it would be cut on a phone.
    """
    import_optional("matplotlib", extra="plot", needed_by="write_report")
    with _settings():
        figure = draw()
        title = _take_title(figure)
        _plain_numbers(figure)
        width, height = figure.get_size_inches()
        _cut_labels(figure, 28)
        wide = _saved(figure, WIDE, height * min(1.0, max(WIDE / width, 0.85)))
        _cut_labels(figure, 17)
        _legends_below(figure)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            narrow = _saved(figure, NARROW, figure.get_size_inches()[1])
        if any("collapsed to zero" in str(warning.message) for warning in caught):
            narrow = wide  # too much text for a phone: smaller, but whole
        _close(figure)
    text = caption or title
    below = f"<figcaption>{escape(text)}</figcaption>" if text else ""
    return (
        f'<figure><picture><source media="(max-width: 560px)" srcset="{narrow}">'
        f'<img src="{wide}" alt="{escape(alt)}"></picture>{below}</figure>'
    )


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    import matplotlib
    from matplotlib import pyplot

    with matplotlib.rc_context(), pyplot.ioff(), warnings.catch_warnings():
        # Widths of letters that the font of matplotlib lacks are guessed; the browser has the letters.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        matplotlib.rcdefaults()  # whatever style the user has set: the page is the same everywhere
        matplotlib.rcParams.update(_SETTINGS)
        yield


def _take_title(figure: Any) -> str:
    titles = [figure.get_suptitle()] if figure.get_suptitle() else []
    figure.suptitle("") if titles else None
    if len([ax for ax in figure.axes if ax.get_title()]) == 1:  # several name the panels
        for ax in figure.axes:
            if ax.get_title():
                titles.append(ax.get_title())
                ax.set_title("")
    return " ".join(" ".join(titles).split())


def _plain_numbers(figure: Any) -> None:
    """Powers of ten on logarithmic axes are formulas, which are not read here."""
    from matplotlib.ticker import LogFormatter, NullFormatter

    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if isinstance(axis.get_major_formatter(), LogFormatter):
                axis.set_major_formatter(lambda value, _: f"{value:g}")
                axis.set_minor_formatter(NullFormatter())


def _cut_labels(figure: Any, most: int) -> None:
    """Names at the ticks without their middle, to leave room for what they name; the tables have them whole."""
    from matplotlib.ticker import FixedLocator

    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            named = isinstance(axis.get_major_locator(), FixedLocator)
            names = [label.get_text() for label in axis.get_ticklabels()] if named else []
            if any(len(name) > most for name in names):
                axis.set_ticklabels([n if len(n) <= most else f"{n[: most - 8]}…{n[-7:]}" for n in names])


def _legends_below(figure: Any) -> None:
    """Legends that stand beside their axes go under them; a phone has no room at the side."""
    for ax in figure.axes:
        legend = ax.get_legend()
        if legend is None or legend.get_window_extent().x0 < ax.get_window_extent().x1 - 2:
            continue
        handles, labels = ax.get_legend_handles_labels()
        if labels != [text.get_text() for text in legend.get_texts()]:  # made by hand
            handles, labels = legend.legend_handles, [text.get_text() for text in legend.get_texts()]
        title = legend.get_title().get_text()
        legend.remove()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, title=title or None)
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + 0.25 * (len(labels) // 2 + 1 + bool(title)))


def _saved(figure: Any, width: float, height: float) -> str:
    figure.set_size_inches(width, height)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata=_METADATA)
    content, kind = buffer.getvalue(), "svg+xml"
    if len(content) > _MOST_SVG:
        content, kind = _as_png(figure), "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _as_png(figure: Any) -> bytes:
    from PIL import Image

    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=192, metadata={"Software": None})
    buffer.seek(0)
    Image.open(buffer).convert("RGB").quantize(128).save(small, format="PNG", optimize=True)
    return small.getvalue()


def _close(figure: Any) -> None:
    from matplotlib import pyplot

    pyplot.close(figure)
