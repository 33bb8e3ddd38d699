"""The base class of all encoders: frozen, row by row, cached by content. Does not use `y`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ensemblefuse._public_names import public_path
from ensemblefuse.backbones.column_flow import BadRows, encode_column, settle_bad_rows
from ensemblefuse.backbones.weights import WeightsSource
from ensemblefuse.cache.code_digests import cell_digest, class_digest, value_token
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.table import cell_frame, is_missing

__all__ = ["BaseEncoder"]


class BaseEncoder(TransformerMixin, BaseEstimator):
    """Base of all encoders: maps the cells of one column to embeddings, and trains nothing.

    A subclass stores its parameters in ``__init__`` and defines `encode_batch`, which maps a list of n loaded items to
    an array of shape (n, n_dims). Most subclasses also define `load`, which reads one cell into one item. These hooks
    have a default and may be overridden: `prepare`, `probe`, `example_cell`, `place`, `recipe`, `weights_sources`,
    `cells`.
    A method ``sort_key(cell)`` is optional: cells are then encoded in falling order of its value, so that items of
    similar size share a batch. The base class does the rest: the table, missing cells, bad cells, batches, the cache,
    progress.

    Row i of the output depends only on row i of the input and on the parameters. Embeddings may therefore be shared by
    the folds of a cross-validation without leakage.

    Attributes
    ----------
    version : int
        Class attribute. Raise it when the code begins to give another vector for the same cell and parameters.
    strings_are_paths : bool
        Class attribute. Whether a str in a cell names a file. If so, the cache key is the file's content, not its name.
    neutral_params : frozenset of str
        Class attribute. Parameters that do not change the embedding, and so are not part of the cache key.
    loads_in_threads : bool
        Class attribute. Whether `load` may run in several threads at once, while the network is busy.
    n_dims_ : int
        Length of one embedding, known after `fit`.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    The cache key of a class outside the library covers its class attributes, the code of its methods, and the global
    values, classes and functions of its module that they use, followed through calls. It does not cover the code of
    imported modules. A class attribute or global value that changes during encoding therefore makes a new key. If its
    content cannot be hashed, as with a network, nothing is cached. Keep networks in attributes of the object or in
    another module.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import BaseEncoder
    >>> class LengthEncoder(BaseEncoder):
    ...     def encode_batch(self, items):
    ...         return np.array([[len(text), text.count(" ") + 1] for text in items])
    >>> LengthEncoder().fit_transform({"title": ["a red circle", None, "a cat"]})
    array([[12.,  3.],
           [nan, nan],
           [ 5.,  2.]], dtype=float32)
    """

    version: ClassVar[int] = 1
    strings_are_paths: ClassVar[bool] = False
    loads_in_threads: ClassVar[bool] = False
    neutral_params: ClassVar[frozenset[str]] = frozenset({"batch_size", "device", "on_error"})

    # ------------------------------------------------------------------ hooks for subclasses

    def load(self, cell: Any) -> Any:
        """Read one cell into an item for `encode_batch`. By default the item is the cell itself.

        Parameters
        ----------
        cell : object
            A cell that is not missing.

        Returns
        -------
        object
            Of any type. Raise any exception for a cell that cannot be read: its row is then a bad row.
        """
        return cell

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Embed loaded items.

        Parameters
        ----------
        items : list
            Results of `load`, at most `batch_size` of them.

        Returns
        -------
        array of shape (len(items), n_dims)
            One vector per item, in order. n_dims is the same in every call.
        """
        raise NotImplementedError(f"{type(self).__name__} must define encode_batch(items).")

    def prepare(self) -> None:
        """Check parameters and load the network. Called once before the cells of a call are loaded and encoded."""

    def probe(self, cell: Any) -> None:
        """Raise an exception for a cell that cannot be read, without a network. By default all cells pass.

        It is called before `prepare`, on new cells up to the first that passes. So a network is not loaded if all of
        them are bad. It is not called for a class that overrides `load` and not `probe`.
        """

    def example_cell(self) -> Any:
        """Return a cell that can always be encoded, or None. An empty column gets the length of its embedding."""
        return None

    def place(self) -> str:
        """Return the device of the network, such as ``"cuda"``, or ``""``; it is printed before the encoding."""
        return ""

    def recipe(self) -> dict[str, Any] | None:
        """Return all that an embedding depends on besides the cell; None if part of it cannot be hashed (no caching).

        Returns
        -------
        dict
            JSON-serialisable: ``class``, ``version``, ``params``, and for classes outside the library ``code``.
        """
        cls = type(self)
        params = {k: v for k, v in self.get_params(deep=False).items() if k not in self.neutral_params}
        recipe: dict[str, Any] = {
            "class": public_path(cls),
            "version": cls.version,
            "params": {name: _param_token(name, value) for name, value in params.items()},
        }
        if cls.__module__.split(".")[0] != "ensemblefuse":
            recipe["code"] = class_digest(cls)
            if recipe["code"] is None:
                return None
        return None if any(token is _UNKNOWN for token in recipe["params"].values()) else recipe

    def weights_sources(self) -> list[WeightsSource]:
        """Return the files of weights that the encoder reads; none by default. `save_model` lists and bundles them.

        Returns
        -------
        list of WeightsSource
            Each names the parameter that holds the file or folder. After loading, it holds the bundled one instead.
        """
        return []

    def cells(self, X: pd.DataFrame) -> list[Any]:
        """Return the cells to encode, one per row. The base class takes a table of one column."""
        if X.shape[1] != 1:
            raise ValueError(
                f"{type(self).__name__} takes one column; got {X.shape[1]}: {list(X.columns)}. "
                "Declare one modality for each column."
            )
        return X.iloc[:, 0].tolist()

    # ------------------------------------------------------------------ scikit-learn's interface

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the column and learn the length of an embedding. Nothing is trained.

        Parameters
        ----------
        X : DataFrame or Series (pandas or polars), dict of columns, or sequence of cells, of length n_samples
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        EncodingError
            If no cell can be encoded.
        """
        frame = self._check(X, reset=True)
        self.n_dims_ = self._learn_n_dims(frame)
        if doubt := self._doubt(frame, None):
            warnings.warn(doubt, UserWarning, stacklevel=2)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embed the cells.

        Parameters
        ----------
        X : DataFrame or Series (pandas or polars), dict of columns, or sequence of cells, of length n_samples

        Returns
        -------
        ndarray of shape (n_samples, n_dims_), dtype float32
            A row of NaN for a missing cell.

        Raises
        ------
        EncodingError
            If cells cannot be encoded and ``on_error="raise"``; it lists every bad row.
        """
        return self._embed(X)

    def _embed(self, X: Any) -> np.ndarray:
        """Return the array of `transform`, without the container that ``set_output`` may ask for."""
        check_is_fitted(self, "n_dims_")
        frame = self._check(X, reset=False)
        vectors = self._encode(frame)
        if vectors.shape[1] not in (0, self.n_dims_):
            raise ValueError(
                f"{type(self).__name__} was fitted with embeddings of length {self.n_dims_}; now they have length "
                f"{vectors.shape[1]}. Fit it again."
            )
        return self._given(vectors if vectors.shape[1] else self._no_vectors(len(frame)))

    def _no_vectors(self, n_rows: int) -> np.ndarray:
        return np.full((n_rows, self.n_dims_), np.nan, dtype=np.float32)

    def _given(self, vectors: np.ndarray) -> np.ndarray:
        """Return what `transform` gives for these vectors: the vectors, unless a subclass packed something in them."""
        return vectors

    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> np.ndarray:
        """Fit and embed in one pass; see `fit` and `transform`."""
        return self._given(self._fit_vectors(X))

    def _fit_vectors(self, X: Any) -> np.ndarray:
        """Fit, and return the vectors as the cache keeps them."""
        frame = self._check(X, reset=True)
        vectors = self._encode(frame)
        self.n_dims_ = vectors.shape[1] or self._learn_n_dims(frame)
        return vectors if vectors.shape[1] else self._no_vectors(len(frame))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the output columns: ``"0"``, ``"1"``, ...; a pipeline puts the modality's name first."""
        check_is_fitted(self, "n_dims_")
        return np.array([str(i) for i in range(self.n_dims_)], dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = True
        tags.no_validation = True
        return tags

    # ------------------------------------------------------------------ from a table to vectors

    def _check(self, X: Any, *, reset: bool) -> pd.DataFrame:
        on_error = getattr(self, "on_error", "raise")
        if on_error not in ("raise", "missing"):
            raise ValueError(f'on_error must be "raise" or "missing"; got {on_error!r}.')
        frame = cell_frame(X)
        validate_data(self, frame, reset=reset, skip_check_array=True)
        return frame

    def _learn_n_dims(self, frame: pd.DataFrame) -> int:
        """Return the length of an embedding, from the first cell that can be encoded."""
        column = str(frame.columns[0])
        present = [i for i, cell in enumerate(self.cells(frame)) if not is_missing(cell)]
        bad = BadRows()
        for i in present:
            vectors, bad_now = self._vectors(frame.iloc[[i]], column)
            bad.add(bad_now)
            if vectors.shape[1]:
                return vectors.shape[1]
        if bad:
            raise bad.error(type(self).__name__, self.cells(frame)) from bad.first
        example = self.example_cell()
        if example is None:
            raise ValueError(
                f"{type(self).__name__}: column {column!r} has no value in any of {len(frame)} rows; nothing to fit."
            )
        warnings.warn(
            f"{type(self).__name__}: column {column!r} has no value in any of {len(frame)} rows; its modality is "
            "missing in all of them.",
            MissingModalityWarning,
            stacklevel=4,
        )
        cell = np.empty(1, dtype=object)
        cell[0] = example
        return self._vectors(pd.DataFrame({frame.columns[0]: cell}), column)[0].shape[1]

    def _encode(self, frame: pd.DataFrame) -> np.ndarray:
        column = ", ".join(map(str, frame.columns[:3])) + (", ..." if frame.shape[1] > 3 else "")
        vectors, bad = self._vectors(frame, column)
        settle_bad_rows(bad, self.cells(frame), type(self).__name__, getattr(self, "on_error", "raise"), stacklevel=3)
        if doubt := self._doubt(frame, vectors):
            warnings.warn(doubt, UserWarning, stacklevel=3)
        return vectors

    def _doubt(self, frame: pd.DataFrame, vectors: np.ndarray | None) -> str:
        """Return what to warn of in cells whose embeddings may mean nothing; empty if all is well.

        `vectors` is None in `fit`, which makes no embeddings.
        """
        return ""

    def _vectors(self, frame: pd.DataFrame, column: str) -> tuple[np.ndarray, BadRows]:
        """Return the embeddings of all rows (0 columns if no row has one), and the rows that could not be encoded."""
        cells = self.cells(frame)
        vectors, reasons = encode_column(self, cells, column)
        return vectors, BadRows.of(reasons, cells, frame.index, column)

    def _batch_size(self) -> int:
        batch_size = getattr(self, "batch_size", 32)
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of at least 1; got {batch_size!r}.")
        return int(batch_size)


_UNKNOWN: Any = object()


def _param_token(name: str, value: Any) -> Any:
    """Return a parameter as it is written in the recipe; `_UNKNOWN` if its content cannot be hashed."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        tokens = [_param_token(name, item) for item in value]
        return _UNKNOWN if any(token is _UNKNOWN for token in tokens) else tokens
    if isinstance(value, os.PathLike):
        return _path_token(Path(value))
    if callable(value):
        return value_token(value) or _UNKNOWN
    try:
        return cell_digest(value, strings_are_paths=False).hex()
    except (TypeError, OSError):
        return _UNKNOWN


def _path_token(path: Path) -> Any:
    """Return a token for the content of a file, or of all files in a folder."""
    try:
        if not path.is_dir():
            return cell_digest(path, strings_are_paths=True).hex()
        files = sorted(part for part in path.rglob("*") if part.is_file())
        return [[part.relative_to(path).as_posix(), cell_digest(part, strings_are_paths=True).hex()] for part in files]
    except OSError:
        return _UNKNOWN
