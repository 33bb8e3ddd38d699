"""Check of the schemas in a model that comes from a file."""

from __future__ import annotations

from typing import Any

from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.schema import checked_schema

__all__ = ["check_schemas"]

# `ModalityTransformer` has the first, and the edge part of a split model the second.
_NAMES = ("schema_", "schema")


def check_schemas(model: Any) -> None:
    """Check all schemas in a model, and give their formats the settings that were left out.

    Raises
    ------
    ValueError
        If no table can be read by one: each row of each table would fail.
    """
    for _, part in parts_of(model):
        if not type(part).__module__.startswith("ensemblefuse."):
            continue
        held = getattr(part, "__dict__", {})
        for name in _NAMES:
            if held.get(name) is not None:
                setattr(part, name, checked_schema(held[name]))
