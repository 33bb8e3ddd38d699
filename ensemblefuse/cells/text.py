"""Check of a text cell."""

from __future__ import annotations

from typing import Any

__all__ = ["checked_text"]


def checked_text(cell: Any) -> str:
    """Return `cell` if it is a text that is not empty; raise `TypeError` or `ValueError` otherwise."""
    if not isinstance(cell, str):
        raise TypeError(f"expected text, got {type(cell).__name__}")
    if not cell.strip():
        raise ValueError("empty text")
    cell.encode()  # refuse a lone surrogate here, before the whole batch fails
    return str(cell)
