"""Fuse images, texts, sounds and numbers with scikit-learn estimators over frozen deep encoders.

The public names are loaded when they are first used, so that ``import ensemblefuse`` loads no network library.
"""

from __future__ import annotations

import importlib
from typing import Any

from ensemblefuse._public_names import PUBLIC

__version__ = "0.1.0"

__all__ = sorted(PUBLIC)


def __getattr__(name: str) -> Any:
    module = PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'ensemblefuse' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"ensemblefuse.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
