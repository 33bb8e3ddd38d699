"""How the cells of a modality become what networks take: row by row, and without learning anything."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ensemblefuse.cache.code_digests import value_token

if TYPE_CHECKING:
    import torch

__all__ = ["CellReader"]


class CellReader(ABC):
    """Reader of the cells of one modality. A subclass is made anew for each call, from the estimator's parameters.

    Attributes
    ----------
    strings_are_paths : bool
        Class attribute. Whether a str in a cell names a file, as in encoders.
    version : int
        Class attribute, part of the key of augmented views: raise it when they change.
    limit : str
        Class attribute, or property: where `load` cuts a long cell, for a message.
    augment : {"none", "light", "strong"} or callable
    """

    strings_are_paths: ClassVar[bool] = False
    version: ClassVar[int] = 1
    limit: ClassVar[Any] = ""
    augment: Any

    @cached_property
    def cut(self) -> dict[Any, None]:
        """Return the cells of which `load` has read the beginning alone, each once, or a number in place of a cell."""
        return {}

    @abstractmethod
    def words(self) -> dict[str, Any] | None:
        """Return all that an array depends on besides the cell and chance, as JSON; None if a part cannot be hashed."""

    def augmentation(self) -> Any:
        """Return what the augmented views depend on besides, as JSON; ``"none"`` if there are none, None as above."""
        if callable(self.augment):
            return value_token(self.augment)
        return self.augment if self.augment == "none" else [self.augment, self.version]

    @abstractmethod
    def load(self, cell: Any) -> Any:
        """Read one cell. Any exception makes it a bad cell. It is called from several threads."""

    @abstractmethod
    def array(self, item: Any, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return the array of a cell that was read; with `rng`, an augmented one. Shapes may differ between cells."""

    def join(self, arrays: Sequence[np.ndarray], *, after_prefix: bool) -> tuple[torch.Tensor, ...]:
        """Return a batch, as the network takes it; arrays of one shape by default.

        Parameters
        ----------
        arrays : sequence of ndarray
            From `array`, or from a prefix.
        after_prefix : bool
        """
        import torch

        return (torch.from_numpy(np.stack(arrays)),)

    def group(self, cell: Any) -> Hashable:
        """Return a key that is equal for cells of which a prefix makes arrays of one shape."""
        return None
