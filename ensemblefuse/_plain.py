"""Conversion of values to JSON types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["plain", "plain_dict"]


def plain_dict(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dict with text keys and values as `plain` returns them."""
    return {str(name): plain(value) for name, value in values.items()}


def plain(value: Any) -> Any:
    """Return a value in JSON types: arrays as lists, NaN and infinity as None, any other type as text."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
