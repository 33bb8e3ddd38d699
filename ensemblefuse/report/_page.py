"""HTML of the page: its frame, its tables, its figures. Everything that comes from the user is escaped here."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ensemblefuse._theme import page_css, switch_html

__all__ = ["Interval", "Section", "Unavailable", "escape", "page_html", "paragraph", "table_html"]

_LONGEST = 60
_MOST_ON_A_PHONE = 3  # columns
_TAG = re.compile("<[^>]*>")
_LONG_WORD = 16  # a longer one may break anywhere


class Interval(NamedTuple):
    """A number and its interval, as texts in a table cell."""

    value: str
    ends: str


class Unavailable(Exception):
    """Raised if a section is not possible with this model or these rows; the text says why."""


@dataclass
class Section:
    """One part of the page.

    Attributes
    ----------
    name : str
        Its id in the page.
    heading : str
    lead : str
        One sentence on how to read the section.
    figures, tables, notes : list of str
        HTML; the tables are beside the figures if the screen is wide enough.
    wide : str
        HTML over the whole width, below both.
    error : str
        Why the section failed; empty otherwise.
    """

    name: str
    heading: str
    lead: str = ""
    figures: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wide: str = ""
    error: str = ""


def escape(value: Any, limit: int = 0) -> str:
    """Return a value as text of the page, cut to `limit` characters if that is not 0."""
    text = str(value)
    if limit and len(text) > limit:
        text = f"{text[: limit - 1]}…"
    # Remove control characters, which HTML does not allow, and lone surrogates, which UTF-8 does not allow.
    text = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
    return html.escape(text, quote=True)


def paragraph(text: str, *, kind: str = "") -> str:
    """Return a text as a paragraph."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


# ---------------------------------------------------------------------- tables


def table_html(frame: pd.DataFrame, caption: str, *, index: bool = True, most: int = 0, cut: bool = True) -> str:
    """Return a table as HTML: texts to the left, numbers to the right, decimals chosen per column.

    Parameters
    ----------
    frame : DataFrame
    caption : str
    index : bool
        Whether the row labels are shown, as the headings of the rows.
    most : int
        Rows to show; 0 for all. If rows are left out, the caption says how many there are.
    cut : bool
        Whether long texts are cut.
    """
    n_rows = len(frame)
    if most and n_rows > most:
        frame, caption = frame.head(most), f"{caption} (the first {most} of {n_rows})"
    names = [_joined(column) for column in frame.columns]
    limit = 2 * _LONGEST if cut else 0
    cells = [_column(frame.iloc[:, i], limit) for i in range(frame.shape[1])]
    numeric = [_is_numeric(frame.iloc[:, i]) for i in range(frame.shape[1])]
    head = "".join(f"<th scope=col{_kind(n, right)}>{escape(n)}</th>" for n, right in zip(names, numeric, strict=True))
    if index:
        head = f"<th scope=col>{escape(_joined(frame.index.names))}</th>{head}"
    head = f"<thead><tr>{head}</tr></thead>" if any(names) else ""
    many = len(cells) + index > _MOST_ON_A_PHONE
    of = [f' data-of="{escape(name)}"' if many and name else "" for name in names]
    body = []
    for row, label in enumerate(frame.index):
        first = f"<th scope=row>{escape(_joined(label), _LONGEST if cut else 0)}</th>" if index else ""
        rest = "".join(f"<td{_kind(cells[i][row], numeric[i])}{of[i]}>{cells[i][row]}</td>" for i in range(len(cells)))
        body.append(f"<tr>{first}{rest}</tr>")
    return (
        f'<div class="table{" many" if many else ""}"><table>'
        f"<caption>{escape(caption)}</caption>{head}<tbody>{''.join(body)}</tbody></table></div>"
    )


def _kind(text: str, right: bool) -> str:
    """Return the class of a cell from its HTML: numbers to the right; long words may break, other words stay whole."""
    long = max(map(len, _TAG.sub("", text).split()), default=0) > _LONG_WORD
    return " class=n" if right else " class=long" if long else ""


def _joined(label: Any) -> str:
    """Return a label as text; a label of several levels is joined with commas."""
    if isinstance(label, (tuple, list)) or type(label).__name__ == "FrozenList":
        return ", ".join(str(part) for part in label if part is not None)
    return "" if label is None else str(label)


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)


def _column(column: pd.Series, limit: int) -> list[str]:
    if not _is_numeric(column):
        return [_cell(value, limit) for value in column]
    values = column.to_numpy(dtype=float, na_value=np.nan)
    known = values[np.isfinite(values)]
    whole = not len(known) or bool((known == np.round(known)).all() and pd.api.types.is_integer_dtype(column.dtype))
    decimals = 0 if whole else 1 if str(column.name).endswith("%") else decimals_for(float(np.abs(known).max()))
    return [number(value, decimals) for value in values]


def _cell(value: Any, limit: int) -> str:
    if isinstance(value, Interval):
        return f'<span class="v">{escape(value.value)}</span> <span class="i">{escape(value.ends)}</span>'
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, float | np.floating):
        return number(float(value), decimals_for(abs(float(value))))
    return escape(_joined(value), limit)


def decimals_for(largest: float) -> int:
    """Return the number of decimals for a column with this largest number.

    Examples
    --------
    >>> from ensemblefuse.report._page import decimals_for
    >>> [decimals_for(value) for value in (0.5, 12.0, 250.0, 4000.0)]
    [3, 2, 1, 0]
    """
    return 3 if largest < 10 else 2 if largest < 100 else 1 if largest < 1000 else 0


def number(value: float, decimals: int = 3) -> str:
    """Return a number with a true minus sign; a dash if it is not finite.

    Examples
    --------
    >>> from ensemblefuse.report._page import number
    >>> number(-0.1234), number(1234.5, 0), number(float("nan"))
    ('−0.123', '1,234', '–')
    """
    if np.isnan(value):
        return "–"
    text = f"{value:,.{decimals}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) != 0 else text.lstrip("-")


def interval_text(low: float, high: float, decimals: int = 3) -> str:
    """Return an interval as ``[0.812, 0.871]``."""
    return f"[{number(low, decimals)}, {number(high, decimals)}]"


# ---------------------------------------------------------------------- the frame


def page_html(title: str, headline: Sequence[str], sections: Sequence[Section], date: str) -> str:
    """Return the whole page.

    Parameters
    ----------
    title : str
    headline : sequence of str
        HTML of the part above the sections.
    sections : sequence of Section
    date : str
        The only line that differs between two pages with the same inputs, besides measured times.
    """
    style = f"{page_css()}{resources.files('ensemblefuse.report').joinpath('style.css').read_text(encoding='utf-8')}"
    links = "".join(f'<li><a href="#{s.name}">{escape(s.heading)}</a></li>' for s in sections)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        # Without this, a browser would request an icon.
        '<link rel="icon" href="data:,">',
        f"<title>{escape(title)}</title>",
        f"<style>{style}</style></head><body>",
        f'<header><div class="top"><h1>{escape(title)}</h1>{switch_html()}</div>{"".join(headline)}',
        f'<p class="date">{escape(date)}</p>\n</header>',
        f'<nav aria-label="Sections"><ol>{links}</ol></nav><main>',
        *map(_section_html, sections),
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def _section_html(section: Section) -> str:
    lead = paragraph(section.lead, kind="lead") if section.lead else ""
    error = f'<p class="error" role="alert"><b>This section failed.</b> {escape(section.error)}</p>'
    figures = "".join(section.figures)
    notes = "".join(paragraph(note, kind="note") for note in section.notes)
    beside = "".join(section.tables) + (notes if figures or not section.wide else "")
    if figures and beside:
        body = f'<div class="pair"><div>{figures}</div><div>{beside}</div></div>'
    else:
        body = figures + beside
    wide = f"{section.wide}{'' if figures else notes}" if section.wide else ""
    inner = f"<h2>{escape(section.heading)}</h2>{lead}{error if section.error else ''}{body}{wide}"
    return f'<section id="{section.name}">{inner}</section>'
