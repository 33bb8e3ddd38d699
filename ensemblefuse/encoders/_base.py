"""The contract of every encoder: frozen, row by row, cached by content. Knows nothing of `y`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ensemblefuse._names import public_path
from ensemblefuse.backbones.weights import WeightsSource
from ensemblefuse.cache.code_digests import cell_digest, class_digest, value_token
from ensemblefuse.encoders._flow import encode_column
from ensemblefuse.exceptions import BadRow, EncodingError, MissingModalityWarning, format_bad_rows, short_repr
from ensemblefuse.table import is_missing, to_frame

__all__ = ["BaseEncoder"]


class BaseEncoder(TransformerMixin, BaseEstimator):
    """Base of all encoders: turns the cells of one column into embeddings, and trains nothing.

    A subclass gives `encode_batch`, usually `load`, and stores its parameters in ``__init__``. The base class does the
    rest: the table, missing cells, bad cells, batches, the cache, progress. Row i of the output depends on row i and
    on the parameters alone, so embeddings may be shared by the folds of a cross-validation without leakage.

    Attributes
    ----------
    version : int
        Class attribute. Raise it when the same cell and parameters begin to give another vector.
    strings_are_paths : bool
        Class attribute. Whether a str in a cell names a file (then its content, not its name, is the cache key).
    neutral_params : frozenset of str
        Class attribute. Parameters that do not change the value, and so are not part of the cache key.
    loads_in_threads : bool
        Class attribute. Whether `load` may run in several threads at once, while the network is busy.
    n_dims_ : int
        Length of one embedding, known after `fit`.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    The cache key of a class outside the library holds its class attributes, the code of its methods, and the global
    values, classes and functions of its module that they use, followed through calls; not the code of imported modules.
    A class attribute or global value that changes while encoding therefore makes a new key, and one whose content
    cannot be told, such as a network, means that nothing is cached. Keep networks in attributes of the object or in
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

    # ------------------------------------------------------------------ for subclasses

    def load(self, cell: Any) -> Any:
        """Turn one cell into what `encode_batch` takes. Raise any exception for a cell that cannot be read."""
        return cell

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Embed loaded items.

        Parameters
        ----------
        items : list
            What `load` returned, at most `batch_size` of them.

        Returns
        -------
        array of shape (len(items), n_dims)
        """
        raise NotImplementedError(f"{type(self).__name__} must define encode_batch(items).")

    def prepare(self) -> None:
        """Check parameters and load the network; called once before a call's cells are encoded."""

    def example_cell(self) -> Any:
        """A cell that can always be encoded, or None. It tells the length of an embedding where a column is empty."""
        return None

    def place(self) -> str:
        """Where the network runs, for the line that announces the work: ``"cuda"``, or nothing."""
        return ""

    def recipe(self) -> dict[str, Any] | None:
        """All that changes the value of an embedding besides the cell, or None if that cannot be told (no caching).

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

    def weights(self) -> list[WeightsSource]:
        """Return the files of weights that the encoder reads, which `save_model` names and bundles; none by default.

        Returns
        -------
        list of WeightsSource
            Each with the parameter that names a file or a folder. After loading, the parameter names the bundled one.
        """
        return []

    def cells(self, X: pd.DataFrame) -> list[Any]:
        """The cells to encode, one a row. The base class takes a table of one column."""
        if X.shape[1] != 1:
            raise ValueError(
                f"{type(self).__name__} takes one column; got {X.shape[1]}: {list(X.columns)}. "
                "Declare one modality a column."
            )
        return X.iloc[:, 0].tolist()

    # ------------------------------------------------------------------ scikit-learn's side

    def fit(self, X, y=None):
        """Check the column and learn the length of an embedding. Trains nothing.

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
            If not one cell can be encoded.
        """
        frame = self._check(X, reset=True)
        self.n_dims_ = self._learn_n_dims(frame)
        return self

    def transform(self, X) -> np.ndarray:
        """Embed the cells.

        Parameters
        ----------
        X : DataFrame or Series (pandas or polars), dict of columns, or sequence of cells, of length n_samples

        Returns
        -------
        ndarray of shape (n_samples, n_dims_), dtype float32
            A row of NaN where the cell is missing.

        Raises
        ------
        EncodingError
            If cells cannot be encoded and ``on_error="raise"``; it lists every bad row.
        """
        return self._embed(X)

    def _embed(self, X: Any) -> np.ndarray:
        """What `transform` gives, whatever its output is set to."""
        check_is_fitted(self, "n_dims_")
        frame = self._check(X, reset=False)
        vectors = self._encode(frame)
        if vectors.shape[1] not in (0, self.n_dims_):
            raise ValueError(
                f"{type(self).__name__} was fitted with embeddings of length {self.n_dims_}; now they have length "
                f"{vectors.shape[1]}. Fit it again."
            )
        return vectors if vectors.shape[1] else np.full((len(frame), self.n_dims_), np.nan, dtype=np.float32)

    def fit_transform(self, X, y=None, **params) -> np.ndarray:
        """Fit and embed in one pass; see `fit` and `transform`."""
        frame = self._check(X, reset=True)
        vectors = self._encode(frame)
        self.n_dims_ = vectors.shape[1] or self._learn_n_dims(frame)
        return vectors if vectors.shape[1] else np.full((len(frame), self.n_dims_), np.nan, dtype=np.float32)

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Names of the output columns: ``"0"``, ``"1"``, ...; a pipeline puts the modality's name before them."""
        check_is_fitted(self, "n_dims_")
        return np.array([str(i) for i in range(self.n_dims_)], dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = True
        tags.no_validation = True
        return tags

    # ------------------------------------------------------------------ the flow

    def _check(self, X: Any, *, reset: bool) -> pd.DataFrame:
        on_error = getattr(self, "on_error", "raise")
        if on_error not in ("raise", "missing"):
            raise ValueError(f'on_error must be "raise" or "missing"; got {on_error!r}.')
        if isinstance(X, np.ndarray) and X.ndim == 2:
            frame = pd.DataFrame(X)
        elif isinstance(X, (list, tuple)) or (isinstance(X, np.ndarray) and X.ndim == 1):
            frame = to_frame({0: X})
        else:
            frame = to_frame(X)
        validate_data(self, frame, reset=reset, skip_check_array=True)
        return frame

    def _learn_n_dims(self, frame: pd.DataFrame) -> int:
        """Length of an embedding, from the first cells that can be encoded."""
        column = str(frame.columns[0])
        present = [i for i, cell in enumerate(self.cells(frame)) if not is_missing(cell)]
        bad: list[BadRow] = []
        for i in present:
            vectors, bad_now = self._vectors(frame.iloc[[i]], column)
            bad += bad_now
            if vectors.shape[1]:
                return vectors.shape[1]
        if bad:
            raise EncodingError(type(self).__name__, bad, len(frame))
        example = self.example_cell()
        if example is None:
            raise ValueError(
                f"{type(self).__name__}: column {column!r} holds no value in {len(frame)} rows; nothing to fit."
            )
        warnings.warn(
            f"{type(self).__name__}: column {column!r} holds no value in {len(frame)} rows; its modality is missing in "
            "all of them.",
            MissingModalityWarning,
            stacklevel=4,
        )
        cell = np.empty(1, dtype=object)
        cell[0] = example
        return self._vectors(pd.DataFrame({frame.columns[0]: cell}), column)[0].shape[1]

    def _encode(self, frame: pd.DataFrame) -> np.ndarray:
        column = ", ".join(map(str, frame.columns[:3])) + (", ..." if frame.shape[1] > 3 else "")
        vectors, bad = self._vectors(frame, column)
        if bad and getattr(self, "on_error", "raise") == "raise":
            raise EncodingError(type(self).__name__, bad, len(frame))
        if bad:
            warnings.warn(
                f"{type(self).__name__} treats {len(bad)} of {len(frame)} cells as missing, because they could not be "
                f"encoded:\n{format_bad_rows(bad)}",
                MissingModalityWarning,
                stacklevel=3,
            )
        return vectors

    def _vectors(self, frame: pd.DataFrame, column: str) -> tuple[np.ndarray, list[BadRow]]:
        """Embeddings of all rows (0 columns if there is none at all), and the rows that could not be encoded."""
        cells = self.cells(frame)
        vectors, reasons = encode_column(self, cells, column)
        labels = frame.index
        return vectors, [BadRow(labels[i], column, short_repr(cells[i]), reasons[i]) for i in sorted(reasons)]

    def _batch_size(self) -> int:
        batch_size = getattr(self, "batch_size", 32)
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of at least 1; got {batch_size!r}.")
        return int(batch_size)


_UNKNOWN: Any = object()


def _param_token(name: str, value: Any) -> Any:
    """A parameter as it stands in the recipe; `_UNKNOWN` if nothing tells one value from another."""
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
    """By content: of a file, or of all files of a folder."""
    try:
        if not path.is_dir():
            return cell_digest(path, strings_are_paths=True).hex()
        files = sorted(part for part in path.rglob("*") if part.is_file())
        return [[part.relative_to(path).as_posix(), cell_digest(part, strings_are_paths=True).hex()] for part in files]
    except OSError:
        return _UNKNOWN
