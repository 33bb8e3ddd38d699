"""Requests of metadata (``set_fit_request``) in a form that skops can store: plain dicts in place of their objects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sklearn import config_context

from ensemblefuse.fitted.walk import parts_of

__all__ = ["plain_requests", "restore_requests"]

# scikit-learn keeps the requests of an estimator here, in objects that refer back to the estimator.
_REQUEST = "_metadata_request"
_METHODS = (
    *("fit", "partial_fit", "predict", "predict_proba", "predict_log_proba", "decision_function", "score"),
    *("split", "transform", "inverse_transform"),
)


@contextmanager
def plain_requests(model: Any) -> Iterator[None]:
    """Within the context, all parts of a model hold their requests as ``{"fit": {"groups": True}}``."""
    held = [(part, vars(part)[_REQUEST]) for _, part in parts_of(model) if _REQUEST in getattr(part, "__dict__", {})]
    try:
        for part, request in held:
            setattr(part, _REQUEST, _as_dict(request))
        yield
    finally:
        for part, request in held:
            setattr(part, _REQUEST, request)


def _as_dict(request: Any) -> dict[str, dict[str, Any]]:
    by_method = {name: dict(getattr(request, name).requests) for name in _METHODS if hasattr(request, name)}
    chosen = {name: {k: v for k, v in of.items() if v is not None} for name, of in by_method.items()}
    return {name: of for name, of in chosen.items() if of}


def restore_requests(model: Any) -> None:
    """Turn the dicts of `plain_requests` in a loaded model back into scikit-learn's requests."""
    held = [part for _, part in parts_of(model) if isinstance(getattr(part, "__dict__", {}).get(_REQUEST), dict)]
    with config_context(enable_metadata_routing=True):
        for part in held:
            stored = vars(part).pop(_REQUEST)
            for name in _METHODS:
                if stored.get(name):
                    getattr(part, f"set_{name}_request")(**stored[name])
