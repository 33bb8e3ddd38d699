"""The base class of fusions with one estimator per block: dicts of estimators, and the order of the blocks."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from sklearn.pipeline import _name_estimators

from ensemblefuse._fitting import taught_labels
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.fusion.base import BaseFusion, takes_nan

__all__ = ["PerBlockFusion", "is_number", "name_heads"]


class PerBlockFusion(BaseFusion):
    """Base class of fusions with a parameter ``estimators``: one for all blocks, or a dict of block to estimator.

    A subclass may extend ``_by_block``, the names of all its parameters that are such dicts. It has a parameter
    ``order`` if it calls ``_given_order``. There are no other hooks to define.
    """

    # Parameters that may be a dict of block to estimator. Their parts are set as <parameter>__<block>__<param>.
    _by_block: ClassVar[tuple[str, ...]] = ("estimators",)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with ``deep=True`` also those of estimators in dicts and lists.

        Their names are ``estimators__<block>__<param>``, or ``estimators__<block>__<head>__<param>`` if a block has
        several heads.
        """
        params = super().get_params(deep=deep)
        for field in self._by_block if deep else ():
            for path, part in _named_parts(field, getattr(self, field)):
                params[path] = part
                if hasattr(part, "get_params"):
                    params.update({f"{path}__{key}": value for key, value in part.get_params(deep=True).items()})
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; see `get_params`."""
        for field in self._by_block:
            if field in params:
                setattr(self, field, params.pop(field))
            if isinstance(getattr(self, field), (Mapping, list)):
                for key in [key for key in params if key.startswith(f"{field}__")]:
                    self._set_part(field, key, params.pop(key))
        return super().set_params(**params)

    def _set_part(self, field: str, key: str, value: Any) -> None:
        held = getattr(self, field)
        parts = dict(_named_parts(field, held))
        owner = max((path for path in parts if key == path or key.startswith(f"{path}__")), key=len, default=None)
        if owner is None:
            raise ValueError(f"Invalid parameter {key!r}: {field} names {[p.split('__')[-1] for p in parts]}.")
        if key == owner:
            setattr(self, field, _replaced(held, owner.split("__")[1:], value))
        else:
            parts[owner].set_params(**{key.removeprefix(f"{owner}__"): value})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # A row that is NaN in all columns of a block is always accepted; NaN beside numbers only if the estimator
        # accepts it.
        single = hasattr(self.estimators, "fit")
        tags.input_tags.allow_nan = single and takes_nan(self.estimators)
        return tags

    def _given(self, name: str) -> Any:
        """Return the estimator that the user named for a block, or None."""
        return self.estimators.get(name) if isinstance(self.estimators, Mapping) else self.estimators

    def _partial_blocks(self) -> frozenset[str]:
        """Return the blocks that may hold NaN beside numbers."""
        return frozenset(n for n in self.blocks_ if self._given(n) is not None and takes_nan(self._given(n)))

    def _require_estimators(self, raw: list[str]) -> None:
        """Raise an error for unknown block names, and for blocks of raw cells without an estimator."""
        if isinstance(self.estimators, Mapping):
            self._require_blocks(dict(self.estimators), "estimators")
        self._refuse_bare([name for name in raw if self._given(name) is None])

    def _check_taught(self, name: str, estimator: Any) -> None:
        """Raise an error for an estimator that came fitted and knows other classes than `y` holds."""
        try:
            taught_labels(estimator, self.classes_.tolist())
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}: the estimator of {name!r} does not fit: {error}") from error

    def _given_order(self) -> list[str] | None:
        """Return the order given by the user, after checking it; None for ``"auto"``."""
        if isinstance(self.order, str) and self.order == "auto":
            return None
        names = [] if isinstance(self.order, str) else list(self.order)
        if sorted(names, key=str) != sorted(self.blocks_, key=str):
            raise ValueError(
                f'order must be "auto" or a list that names every block once; got {self.order!r}, and X has the blocks '
                f"{list(self.blocks_)}."
            )
        return names

    def _warn_left_out(self, lost: dict[str, int]) -> None:
        if lost:
            warnings.warn(
                f"{type(self).__name__} leaves out these blocks, because their rows are too few or of one class "
                f"(block: rows): {lost}.",
                MissingModalityWarning,
                stacklevel=5,
            )

    def _refuse_nothing(self, n_samples: int) -> ValueError:
        return ValueError(
            f"{type(self).__name__} has nothing to fit: every block is missing in all {n_samples} rows, or its rows "
            "are all of one class."
        )


def name_heads(given: list) -> list[tuple[str, Any]]:
    """Return the estimators of one block with their names: those given by the user, or those of their classes."""
    if all(isinstance(item, tuple) and len(item) == 2 for item in given):
        names = [str(name) for name, _ in given]
        if len(set(names)) < len(names):
            raise ValueError(f"estimators names heads twice: {names}.")
        return [(str(name), estimator) for name, estimator in given]
    # An ensemble that is not fitted has no length, so `or` does not serve here.
    named = _name_estimators(["default" if estimator is None else estimator for estimator in given])
    return [(name, estimator) for (name, _), estimator in zip(named, given, strict=True)]


def _named_parts(field: str, held: Any) -> list[tuple[str, Any]]:
    """Return path and value of each part of a dict of blocks, a list of heads, or a dict of such lists."""
    if isinstance(held, list):
        return [(f"{field}__{head}", estimator) for head, estimator in name_heads(held)]
    parts: list[tuple[str, Any]] = []
    for block, given in held.items() if isinstance(held, Mapping) else ():
        parts.append((f"{field}__{block}", given))
        if isinstance(given, list):
            parts += [(f"{field}__{block}__{head}", estimator) for head, estimator in name_heads(given)]
    return parts


def _replaced(held: Any, path: list[str], value: Any) -> Any:
    """Return a copy of `held` with one part replaced. `held` itself is not changed."""
    if not path:
        return value
    if isinstance(held, Mapping):
        return {**held, path[0]: _replaced(held[path[0]], path[1:], value)}
    new = [(name, value if name == path[0] else estimator) for name, estimator in name_heads(held)]
    return new if isinstance(held[0], tuple) else [estimator for _, estimator in new]


def is_number(value: Any) -> bool:
    """Return whether a parameter is one real number."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
