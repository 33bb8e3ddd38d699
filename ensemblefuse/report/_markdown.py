"""Markdown of a model card: its header, its tables, and escaped texts of the user."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["bullets", "code", "code_block", "front_matter", "plain_text", "table_text"]

_PLAIN_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_MARKS = re.compile(r"([\\`*\[\]|#~$!]|(?<![^\W_])_|_(?![^\W_]))")


def plain_text(value: Any) -> str:
    r"""Return a value as text in one line that Markdown shows unchanged.

    Examples
    --------
    >>> from ensemblefuse.report._markdown import plain_text
    >>> print(plain_text("a|b <i> *c* log_loss"))
    a\|b &lt;i&gt; \*c\* log_loss
    """
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return _MARKS.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def code(value: Any) -> str:
    """Return a value between enough backticks; characters that would end a table cell are escaped.

    Examples
    --------
    >>> from ensemblefuse.report._markdown import code
    >>> code("a`b")
    '`` a`b ``'
    """
    text = "".join(c if c.isprintable() else " " for c in str(value)).replace("|", "\\|")
    fence = _fence(text)
    return f"{fence} {text} {fence}" if "`" in text else f"`{text or ' '}`"


def code_block(lines: Iterable[str], language: str) -> str:
    """Return lines of code between fences that are longer than any in the code."""
    text = "\n".join(lines)
    fence = max("```", _fence(text))
    return f"{fence}{language}\n{text}\n{fence}"


def _fence(text: str) -> str:
    """Return one backtick more than the longest run of backticks in a text."""
    return "`" * (1 + max(map(len, re.findall("`+", text)), default=0))


def table_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(lines: Iterable[str]) -> str:
    """Return a list; its items are Markdown already."""
    return "\n".join(f"- {line}" for line in lines)


def front_matter(values: Mapping[str, Any]) -> str:
    """Return the header between two lines ``---``: one line per key, values as JSON, which YAML can read.

    Examples
    --------
    >>> from ensemblefuse.report._markdown import front_matter
    >>> print(front_matter({"license": "mit", "tags": ["multimodal"]}))
    ---
    license: "mit"
    tags: ["multimodal"]
    ---
    """
    lines = [f"{_key(key)}: {_yaml(value)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---"])


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else _yaml(key)


def _yaml(value: Any) -> str:
    """Return JSON with escapes for characters that JSON allows and YAML does not, such as U+007F."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
