"""What fusions with one estimator a block share: dicts of estimators, and the blocks' order. Floor 3."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.fusion._base import BaseFusion, takes_nan

__all__ = ["PerBlockFusion", "is_number", "take"]


class PerBlockFusion(BaseFusion):
    """Takes ``estimators``: one for all blocks, or a dict of block to estimator."""

    # Parameters that may be a dict of block to estimator; their parts are reached as <parameter>__<block>__<param>.
    _by_block: ClassVar[tuple[str, ...]] = ("estimators",)

    def get_params(self, deep=True):
        """Parameters; with ``deep=True`` also those of dicts of estimators, as ``estimators__<block>__<param>``."""
        params = super().get_params(deep=deep)
        for field in self._by_block if deep else ():
            held = getattr(self, field)
            for name, part in held.items() if isinstance(held, Mapping) else ():
                params[f"{field}__{name}"] = part
                if hasattr(part, "get_params"):
                    params.update({f"{field}__{name}__{key}": v for key, v in part.get_params(deep=True).items()})
        return params

    def set_params(self, **params):
        """Set parameters; see `get_params`."""
        for field in self._by_block:
            if field in params:
                setattr(self, field, params.pop(field))
            if isinstance(getattr(self, field), Mapping):
                for key in [key for key in params if key.startswith(f"{field}__")]:
                    self._set_part(field, key, params.pop(key))
        return super().set_params(**params)

    def _set_part(self, field: str, key: str, value: Any) -> None:
        held = getattr(self, field)
        name, _, rest = key.removeprefix(f"{field}__").partition("__")
        if name not in held:
            raise ValueError(f"Invalid parameter {key!r}: {field} names {list(held)}.")
        if rest:
            held[name].set_params(**{rest: value})
        else:
            setattr(self, field, {**held, name: value})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # A block that is NaN throughout is always taken; NaN beside numbers only by an estimator that takes it.
        single = self.estimators is not None and not isinstance(self.estimators, Mapping)
        tags.input_tags.allow_nan = single and takes_nan(self.estimators)
        return tags

    def _given(self, name: str) -> Any:
        """The estimator that the user named for a block, or None."""
        return self.estimators.get(name) if isinstance(self.estimators, Mapping) else self.estimators

    def _partial_blocks(self) -> frozenset[str]:
        """Blocks that may hold NaN beside numbers."""
        return frozenset(n for n in self.blocks_ if self._given(n) is not None and takes_nan(self._given(n)))

    def _require_estimators(self, raw: list[str]) -> None:
        """Refuse names of no block, and blocks of raw cells that no estimator takes."""
        if isinstance(self.estimators, Mapping):
            self._require_blocks(dict(self.estimators), "estimators")
        bare = [name for name in raw if self._given(name) is None]
        if bare:
            raise ValueError(
                f"The blocks {bare} hold raw cells and have no estimator. Name one that takes them, as in "
                f"estimators={{{bare[0]!r}: make_pipeline(TfidfVectorizer(), LogisticRegression())}}, or encode them."
            )

    def _given_order(self) -> list[str] | None:
        """The order that the user gave, checked; None for ``"auto"``."""
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
                f"{type(self).__name__} goes on without these blocks, whose rows are too few or of one class "
                f"(block: rows): {lost}.",
                MissingModalityWarning,
                stacklevel=4,
            )

    def _refuse_nothing(self, n_samples: int) -> ValueError:
        return ValueError(
            f"{type(self).__name__} has nothing to fit: every block is missing, or holds one class only, in all "
            f"{n_samples} rows."
        )


def is_number(value: Any) -> bool:
    """Whether a parameter is one real number."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def take(data: Any, rows: np.ndarray) -> Any:
    """Some rows of an array, a Series or a DataFrame."""
    return data.iloc[rows] if hasattr(data, "iloc") else data[rows]
