"""The base class of fusions that encode raw cells themselves, by one frozen transformer per block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from sklearn.base import clone

from ensemblefuse.blocks import SEPARATOR, Blocks, read_block
from ensemblefuse.features.guard import check_transformer, guard
from ensemblefuse.features.present_rows import takes_sequence
from ensemblefuse.fusion._per_block_base import PerBlockFusion
from ensemblefuse.fusion.members import take_rows
from ensemblefuse.table import to_frame

__all__ = ["EncodingFusion"]


class EncodingFusion(PerBlockFusion):
    """Base class of fusions with a parameter ``encoders``: a dict of block to transformer, or None.

    There are no hooks to define. A subclass calls, in this order:

    - ``_check_encoders()``, after ``_read`` has found the blocks;
    - ``_read_cells(X)``, which returns the `Blocks` with raw cells;
    - in `fit`, ``_encode_all(X, blocks)``: it fits the encoders and returns `Blocks` with an array of shape
      (n_samples, n_columns) for each encoded block;
    - at prediction, ``_encode_some(X, blocks, name, rows)``: it returns the encoded data of one block and their rows,
      for the positions `rows` only.

    Attributes
    ----------
    _encodes : bool
        Class attribute, True. `make_fusion_pipeline` passes raw cells and encoders to a fusion with this attribute.
    encoders_ : dict of str to transformer
        Fitted on all rows that hold the block.
    """

    _encodes: ClassVar[bool] = True
    _by_block: ClassVar[tuple[str, ...]] = ("estimators", "encoders")

    def _set_part(self, field, key, value):
        super()._set_part(field, key, value)
        name, _, path = key.removeprefix(f"{field}__").partition("__")
        owner, _, param = path.rpartition("__")
        fitted = getattr(self, "encoders_", {}).get(name) if field == "encoders" else None
        if owner and fitted is not None:
            fitted = fitted.get_params(deep=True).get(owner)
        if param in getattr(fitted, "neutral_params", ()):
            fitted.set_params(**{param: value})

    def _check_encoders(self) -> None:
        if not isinstance(self.encoders, (Mapping, type(None))):
            raise ValueError(f"encoders must be a dict of block to transformer; got {self.encoders!r}.")
        self._require_blocks(dict(self.encoders or {}), "encoders")
        for name, encoder in (self.encoders or {}).items():
            if isinstance(encoder, type) or not (hasattr(encoder, "fit_transform") and hasattr(encoder, "transform")):
                raise TypeError(f"encoders[{name!r}] must be a transformer; got {encoder!r}.")
            check_transformer(name, encoder)

    def _read_cells(self, X: Any) -> Blocks:
        return self._read(X, reset=False, allow_partial=self._partial_blocks() | frozenset(self.encoders or ()))

    def _cells(self, X: Any, blocks: Blocks, name: str) -> Any:
        """Return a block in the form that its encoder takes: a Series or a DataFrame, without the name's prefix."""
        if not hasattr(X, "columns"):
            return blocks.data[name]
        part = to_frame(X).iloc[:, self.blocks_[name]]
        prefix = f"{name}{SEPARATOR}"
        part = part.rename(columns={c: c.removeprefix(prefix) for c in part.columns if isinstance(c, str)})
        return part.iloc[:, 0] if part.shape[1] == 1 and takes_sequence(self.encoders_[name]) else part

    def _encode_all(self, X: Any, blocks: Blocks) -> Blocks:
        """Fit the encoders, each on the rows that hold its block. Return all blocks, encoded."""
        data, present = dict(blocks.data), blocks.present.copy()
        self.encoders_ = {}
        for m, name in enumerate(blocks.names):
            if name not in (self.encoders or {}):
                continue
            rows = np.flatnonzero(present[m])
            values: Any = np.empty((0, 1))
            if len(rows):
                self.encoders_[name] = guard(clone(self.encoders[name]))
                values = self.encoders_[name].fit_transform(take_rows(self._cells(X, blocks, name), rows))
            table = _spread(name, values, rows, len(blocks))
            data[name], present[m] = self._checked(name, table, blocks.labels)
        return Blocks(data, present, blocks.labels)

    def _encode_some(self, X: Any, blocks: Blocks, name: str, rows: np.ndarray) -> tuple[Any, np.ndarray]:
        """Return the data of some rows of a block, and the rows among these that hold it.

        Rows may be lost here: an encoder may count an unreadable cell as missing.
        """
        if name not in self.encoders_:
            return take_rows(blocks.data[name], rows), rows
        values = self.encoders_[name].transform(take_rows(self._cells(X, blocks, name), rows))
        table = _spread(name, values, np.arange(len(rows)), len(rows))
        table, there = self._checked(name, table, [blocks.labels[i] for i in rows])
        return table[there], rows[there]

    def _checked(self, name: str, table: np.ndarray, labels: list) -> tuple[Any, np.ndarray]:
        return read_block(name, table, labels, raw=False, allow_partial=name in self._partial_blocks())


def _spread(name: str, values: Any, rows: np.ndarray, n_samples: int) -> np.ndarray:
    """Return a table with an encoder's output in its rows, and NaN in the other rows."""
    values = values.toarray() if sparse.issparse(values) else np.asarray(values)
    if values.ndim != 2 or len(values) != len(rows) or values.dtype.kind not in "fiub":
        raise ValueError(
            f"The encoder of {name!r} must give a table of numbers with {len(rows)} rows; got an array of shape "
            f"{values.shape} and dtype {values.dtype}."
        )
    dtype = values.dtype if values.dtype.kind == "f" else np.float64
    table = np.full((n_samples, values.shape[1]), np.nan, dtype=dtype)
    table[rows] = values
    return table
