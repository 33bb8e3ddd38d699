"""Fuse images, texts, sounds and numbers with scikit-learn estimators over frozen deep encoders.

The public names are loaded when they are first used, so that ``import ensemblefuse`` loads no network library.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> module. One line a name; `tests/test_package.py` holds this list to the modules' own `__all__`.
_PUBLIC = {
    "BaseEncoder": "encoders",
    "EmbeddingCache": "cache",
    "EncodingError": "exceptions",
    "MissingModalityWarning": "exceptions",
    "config_context": "_config",
    "get_cache": "cache",
    "get_config": "_config",
    "set_config": "_config",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'ensemblefuse' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"ensemblefuse.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
