"""The encoder of embeddings that were computed elsewhere. Never imports `fusion`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ensemblefuse.backbones.weights import WeightsSource
from ensemblefuse.cells.numbers import rows_of_numbers
from ensemblefuse.encoders._base import BaseEncoder
from ensemblefuse.encoders._vector_file import VectorFile, open_vectors, usual_length
from ensemblefuse.exceptions import PersistenceError

__all__ = ["PrecomputedEncoder"]

_NEEDED_BY = "PrecomputedEncoder"


class PrecomputedEncoder(BaseEncoder):
    """Use embeddings that were computed before: from cells, from columns of numbers, or from a file by key.

    Nothing is computed and nothing is cached: the cache would only hold copies. A saved model holds the path of the
    file, never its content.

    Parameters
    ----------
    source : str or path, optional
        Where the embeddings are. None: in the table itself, as one column of 1-D arrays or lists of equal length, or
        as a group of numeric columns. An ``.npy`` file: a matrix of shape (n_rows, n_dims), mapped into memory; a cell
        is a row number from 0. A Parquet file: a cell is a key, and the vectors are held in memory as float32, once
        per process.
    key : str, optional
        For Parquet: the column of the keys, which are unique whole numbers or texts.
    columns : str or list of str, optional
        For Parquet: the column of lists, or the columns of numbers in order. None takes the only column of lists, else
        all numeric columns except the key.
    batch_size : int, default=1024
        Number of cells that are collected at once. It does not change the result.
    on_error : {"raise", "missing"}, default="raise"
        What to do with cells that have no embedding: raise one error that lists all of them, or return rows of NaN with
        one `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        Length of an embedding: in the file, or the most frequent length of the cells in `fit`.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    FileNotFoundError
        From `fit` and `transform`, if the file `source` does not exist.
    TypeError, ValueError
        From `fit` and `transform`, if the file is damaged, holds pickled objects, other values than numbers or a
        repeated key, or if `key` or `columns` does not fit the file.

    Notes
    -----
    A missing cell, or a row of numeric columns that is all NaN, gives a row of NaN. These are bad cells: an unknown key
    or row number, a vector of another length than `n_dims_`, a vector with NaN, with infinite numbers or with numbers
    too large for float32, and a row of numeric columns that is partly NaN. A file is opened again if its size, time or
    inode changes. Replace it by renaming, and do not truncate it while it is in use. If the file moves, `source` of a
    fitted model may be set to its new path.

    The row rule cannot be checked here: embeddings that were fitted on rows (a PCA, a fine-tuned network) leak
    information about those rows into every fold.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import PrecomputedEncoder
    >>> PrecomputedEncoder().fit_transform({"embedding": [[0.5, 1.0], None, np.array([2, 3])]})
    array([[0.5, 1. ],
           [nan, nan],
           [2. , 3. ]], dtype=float32)

    Row numbers of a matrix:

    >>> import os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "vectors.npy")
    >>> np.save(path, np.arange(6.0).reshape(3, 2))
    >>> PrecomputedEncoder(path).fit_transform({"row": [2, 0]})
    array([[4., 5.],
           [0., 1.]], dtype=float32)
    >>> folder.cleanup()
    """

    # The path of the file does not change the embeddings. `set_params` may change neutral parameters of fitted models.
    neutral_params: ClassVar[frozenset[str]] = BaseEncoder.neutral_params | {"source"}

    def __init__(
        self,
        source: str | os.PathLike[str] | None = None,
        *,
        key: str | None = None,
        columns: str | Sequence[str] | None = None,
        batch_size: int = 1024,
        on_error: str = "raise",
    ):
        self.source = source
        self.key = key
        self.columns = columns
        self.batch_size = batch_size
        self.on_error = on_error

    def cells(self, X: pd.DataFrame) -> list[Any]:
        """Return the cells of one column, or the rows of a group of numeric columns.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)

        Returns
        -------
        list of length n_samples
            None for a row of numeric columns that is all NaN.

        Raises
        ------
        ValueError
            If some of several columns are not numeric, or if a single column holds numbers and `source` is None.
        """
        if self.source is not None:
            return super().cells(X)
        if X.shape[1] == 1 and not pd.api.types.is_numeric_dtype(X.dtypes.iloc[0]):
            return super().cells(X)
        if X.shape[1] == 1:
            raise ValueError(
                f"{_NEEDED_BY}: column {X.columns[0]!r} holds single numbers. If they are rows or keys of embeddings, "
                'pass source=; if they are features themselves, declare the modality with "passthrough".'
            )
        return rows_of_numbers(X, _NEEDED_BY, "vectors")

    def load(self, cell: Any) -> np.ndarray:
        """Check one embedding, or look it up.

        Parameters
        ----------
        cell : array or list of shape (n_dims,); with `source` a row number or key

        Returns
        -------
        ndarray of shape (n_dims,), dtype float32

        Raises
        ------
        TypeError, ValueError
            If the cell has no embedding of finite numbers and the usual length.
        """
        vector = _as_vector(cell) if self.source is None else self._file().vector(cell)
        with np.errstate(over="ignore"):
            vector = vector.astype(np.float32)
        expected = getattr(self, "_length", None)
        if self.source is None and expected not in (None, len(vector)):
            raise ValueError(f"{len(vector)} numbers, where the embeddings of fit have {expected}")
        odd = np.flatnonzero(~np.isfinite(vector))
        if len(odd):
            raise ValueError(
                f"{len(odd)} of its {len(vector)} numbers are NaN, infinite or too large for float32, the first at "
                f"position {odd[0]}"
            )
        return vector

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Stack embeddings to one array.

        Parameters
        ----------
        items : list of ndarray of shape (n_dims,), dtype float32

        Returns
        -------
        ndarray of shape (len(items), n_dims), dtype float32
        """
        return np.stack(items)

    def weights_sources(self) -> list[WeightsSource]:
        """Refuse to bundle `source`, which holds embeddings of samples; see `BaseEncoder.weights_sources`."""
        if self.source is None:
            return []
        raise PersistenceError(
            f"{_NEEDED_BY}'s {os.fspath(self.source)!r} cannot be bundled: it holds embeddings of samples, not "
            "weights. Pass bundle_weights=False, and keep the file where the model is used."
        )

    def example_cell(self) -> Any:
        """Return the first usable key of the file; None without `source`."""
        return None if self.source is None else self._file().first_key()

    def prepare(self) -> None:
        """Check the parameters and open the file."""
        self._batch_size()
        if self.source is not None:
            self._file()
        elif self.key is not None or self.columns is not None:
            raise ValueError(f"{_NEEDED_BY}: key and columns need source; got {self.key!r} and {self.columns!r}.")

    def recipe(self) -> None:
        """Return None: embeddings that are stored already are not cached."""

    def _file(self) -> VectorFile:
        return open_vectors(self.source, self.key, self.columns, needed_by=_NEEDED_BY)

    def _check(self, X: Any, *, reset: bool) -> pd.DataFrame:
        frame = super()._check(X, reset=reset)
        if reset:
            self.prepare()
            cells = self.cells(frame) if self.source is None else []
            self._length = usual_length([len(cell) for cell in cells if _is_vector(cell) and len(cell)])
        return frame


def _is_vector(cell: Any) -> bool:
    return cell.ndim == 1 if isinstance(cell, np.ndarray) else isinstance(cell, (list, tuple))


def _as_vector(cell: Any) -> np.ndarray:
    if not isinstance(cell, (np.ndarray, list, tuple)):
        raise TypeError(f"expected a vector of numbers, got {type(cell).__name__}")
    array = np.asarray(cell)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"expected shape (n_dims,), got {array.shape}")
    if array.dtype == object:  # None among numbers becomes NaN; anything else is not a number
        odd = next((v for v in array.tolist() if v is not None and not isinstance(v, (int, float, np.number))), None)
        if odd is not None:
            raise TypeError(f"expected a vector of numbers, got a {type(odd).__name__} in it")
        return array.astype(np.float64)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"expected a vector of numbers, got values of type {array.dtype}")
    return array
