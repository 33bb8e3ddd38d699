"""``recipe.json``: what made the vectors of a folder."""

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
    """Digest of a recipe, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:32]


def write_recipe(folder: Path, recipe: dict[str, Any]) -> None:
    """Write a recipe unless it is there as it should be."""
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
    """The recipe of a folder of this name, None if it is damaged or another's."""
    try:
        recipe = json.loads(content)
        return recipe if isinstance(recipe, dict) and recipe_digest(recipe) == name else None
    except (ValueError, RecursionError):
        return None


def read_recipe(folder: Path) -> dict[str, Any] | None:
    """As `parse_recipe`; None also where there is none."""
    try:
        with open(folder / NAME, "rb") as file:
            return parse_recipe(file.read(MAX_BYTES), folder.name)
    except OSError:
        return None
