"""Figures for the page, drawn twice: for a wide screen and for a phone. The title becomes text of the page."""

from __future__ import annotations

import base64
import contextlib
import io
import textwrap
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from ensemblefuse._optional import import_optional
from ensemblefuse._theme import EDGE, INK, with_theme
from ensemblefuse.report._page import escape

__all__ = ["figure_html", "new_figure"]

WIDE, NARROW = 5.8, 3.6  # inches; 96 pixels of a screen each
_MOST_SVG = 250_000  # bytes; larger drawings become pixels
_LEAST_LETTERS = 9  # of a name at a tick
_SETTINGS: dict[Any, Any] = {
    **dict.fromkeys(["text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"], INK),
    **dict.fromkeys(["axes.edgecolor", "xtick.color", "ytick.color"], EDGE),
    **dict.fromkeys(["figure.facecolor", "axes.facecolor", "savefig.facecolor"], "none"),  # the page shows through
    "font.size": 10,
    "axes.titlesize": 10,
    "svg.fonttype": "none",  # text stays text: sharp, small, and the browser can draw names in any script
    "svg.hashsalt": "ensemblefuse",
    "text.parse_math": False,  # a dollar sign in a name stays a dollar sign
    "figure.dpi": 100,
}
_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def new_figure(height: float = 3.4) -> tuple[Any, Any]:
    """Return a figure that is shown in no window, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE, height), layout="constrained")
    ax = figure.add_subplot()
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def figure_html(draw: Callable[[], Any], alt: str, *, caption: str = "") -> str:
    """Return HTML of the matplotlib figure that `draw` returns.

    Parameters
    ----------
    draw : callable
        Called without arguments.
    alt : str
        What the figure shows, for readers who cannot see it.
    caption : str
        By default the title of the figure. The title is removed from the drawing, because a phone would cut it.
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
        _wrap_names_of_axes(figure, 32)
        _legends_below(figure)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            narrow = _saved(figure, NARROW, figure.get_size_inches()[1])
        if any("collapsed to zero" in str(warning.message) for warning in caught):
            narrow = wide  # too much text for a phone: show the wide figure, smaller but complete
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
        # matplotlib guesses the widths of letters that its font lacks; the browser draws them.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        matplotlib.rcdefaults()  # the page looks the same everywhere, with any style of the user
        matplotlib.rcParams.update(_SETTINGS)
        yield


def _take_title(figure: Any) -> str:
    titles = [figure.get_suptitle()] if figure.get_suptitle() else []
    figure.suptitle("") if titles else None
    if len([ax for ax in figure.axes if ax.get_title()]) == 1:  # several titles are names of panels
        for ax in figure.axes:
            if ax.get_title():
                titles.append(ax.get_title())
                ax.set_title("")
    return " ".join(" ".join(titles).split())


def _plain_numbers(figure: Any) -> None:
    """Write powers of ten on logarithmic axes as plain numbers: formulas are turned off."""
    from matplotlib.ticker import LogFormatter, NullFormatter

    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if isinstance(axis.get_major_formatter(), LogFormatter):
                axis.set_major_formatter(lambda value, _: f"{value:g}")
                axis.set_minor_formatter(NullFormatter())


def _cut_labels(figure: Any, most: int) -> None:
    """Cut the middle out of long names at the ticks, to leave room for the axes; the tables show them in full.

    A name of wide letters gets fewer of them: `most` is the number of letters of usual width.
    """
    from matplotlib.ticker import FixedLocator

    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            labels = axis.get_ticklabels() if isinstance(axis.get_major_locator(), FixedLocator) else []
            names = [_cut_name(label, most) for label in labels]
            if any(label.get_text() != name for label, name in zip(labels, names, strict=True)):
                axis.set_ticklabels(names)


def _cut_name(label: Any, most: int) -> str:
    from matplotlib.textpath import TextPath

    name = label.get_text()
    if not name.strip() or len(name) <= _LEAST_LETTERS:  # measuring is slow
        return name
    # Measured apart from the figure, whose resolution depends on what was saved last.
    wide = TextPath((0, 0), name, size=1).get_extents().width / (0.62 * len(name))
    keep = max(_LEAST_LETTERS, int(most / max(1.0, wide)))
    return name if len(name) <= keep else f"{name[: keep - 8]}…{name[-7:]}"


def _wrap_names_of_axes(figure: Any, width: int) -> None:
    """Break the names of axes into lines: the layout leaves room for their height, and cuts their width."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_label_text("\n".join(textwrap.wrap(axis.get_label_text(), width)))


def _legends_below(figure: Any) -> None:
    """Move legends from the side of their axes below them; a phone has no room at the side."""
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
    content, kind = with_theme(buffer.getvalue().decode()).encode(), "svg+xml"
    if len(content) > _MOST_SVG:
        content, kind = _as_png(figure), "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _as_png(figure: Any) -> bytes:
    from PIL import Image

    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=192, metadata={"Software": None}, facecolor="white")
    buffer.seek(0)
    Image.open(buffer).convert("RGB").quantize(128).save(small, format="PNG", optimize=True)
    return small.getvalue()


def _close(figure: Any) -> None:
    from matplotlib import pyplot

    pyplot.close(figure)
