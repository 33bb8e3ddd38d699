"""Reading and writing of ``recipe.json``: what the vectors of a folder depend on."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

NAME = "recipe.json"
MAX_BYTES = 2**24


def recipe_digest(recipe: dict[str, Any]) -> str:
    """Return the digest of a recipe; it does not depend on the order of the keys."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:32]


def write_recipe(folder: Path, recipe: dict[str, Any]) -> None:
    """Write a recipe unless the file already has this content."""
    content = json.dumps(recipe, indent=1, sort_keys=True).encode()
    path = folder / NAME
    if path.exists() and path.read_bytes() == content:
        return
    temporary = folder / f".{NAME}-{secrets.token_hex(6)}"
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def parse_recipe(content: bytes, name: str) -> dict[str, Any] | None:
    """Return the recipe in `content`; None if it is damaged or its digest is not `name`."""
    try:
        recipe = json.loads(content)
        return recipe if isinstance(recipe, dict) and recipe_digest(recipe) == name else None
    except (ValueError, RecursionError):
        return None


def read_recipe(folder: Path) -> dict[str, Any] | None:
    """Return the recipe of a folder; None if it is absent, damaged or that of another folder."""
    try:
        with open(folder / NAME, "rb") as file:
            return parse_recipe(file.read(MAX_BYTES), folder.name)
    except OSError:
        return None
