"""A text cell."""

from __future__ import annotations

from typing import Any

__all__ = ["checked_text"]


def checked_text(cell: Any) -> str:
    """`cell` if it is a text that holds something; `TypeError` or `ValueError` otherwise."""
    if not isinstance(cell, str):
        raise TypeError(f"expected text, got {type(cell).__name__}")
    if not cell.strip():
        raise ValueError("empty text")
    cell.encode()  # a lone surrogate is refused here, before it costs the whole batch
    return str(cell)
