"""An encoder that calls a function of one cell. Never imports `fusion`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ensemblefuse.cache.code_digests import callable_name, callable_token
from ensemblefuse.encoders._base import BaseEncoder

__all__ = ["FunctionEncoder"]

_NEEDED_BY = "FunctionEncoder"


class FunctionEncoder(BaseEncoder):
    """Embed cells with your own function of one cell. Fitting trains nothing, and the function must not learn either.

    The function gets one cell and no other row, so the folds of a cross-validation may share its vectors. If it raises
    an exception, the row is a bad row, and the exception is the reason.

    Parameters
    ----------
    func : callable
        Takes a cell and returns a number or a vector of shape (n_dims,), of the same length for every cell. It is not
        called for missing cells.
    strings_are_paths : bool, default=False
        Whether a str names a file. If so, the cache key is the file's content, not its name: `func` must read the file
        and not depend on its name.
    version : int or str, optional
        Part of the cache key: change it when `func` begins to return other values. A Python function needs no version,
        unless code that it calls in other modules changes. An object with ``__call__`` or a bound method is cached only
        with a version.
    batch_size : int, default=32
        Number of cells that are encoded between two writes to the cache. Not part of the cache key.
    on_error : {"raise", "missing"}, default="raise"
        What to do with cells for which `func` raises: raise one error that lists all of them, or return rows of NaN
        with one `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        Length of the vector that `func` returns.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    TypeError, ValueError
        From `fit` and `transform`, if `func` cannot be called, or `strings_are_paths` or `version` has a wrong type.

    Notes
    -----
    The cache key covers the function's own code, its default and enclosed values, and the global values, classes and
    functions of its module that it uses, followed through calls. It does not cover the code of imported modules. If
    the function uses a value that cannot be hashed, such as a network in a global variable, `recipe` is None and
    nothing is cached, unless `version` is given.

    See Also
    --------
    BaseEncoder : For a function that is faster on batches: define ``encode_batch``.

    Examples
    --------
    >>> from ensemblefuse import FunctionEncoder
    >>> def shape_of(title):
    ...     return [len(title), title.count(" ") + 1]
    >>> FunctionEncoder(shape_of).fit_transform({"title": ["a red circle", None, "a cat"]})
    array([[12.,  3.],
           [nan, nan],
           [ 5.,  2.]], dtype=float32)
    """

    # `recipe` writes a digest of the function instead.
    neutral_params: ClassVar[frozenset[str]] = BaseEncoder.neutral_params | {"func"}

    def __init__(
        self,
        func: Callable[[Any], Any],
        *,
        strings_are_paths: bool = False,
        version: int | str | None = None,
        batch_size: int = 32,
        on_error: str = "raise",
    ):
        self.func = func
        # Two class attributes of the base class are parameters here; the base reads the first one from the instance.
        self.strings_are_paths = strings_are_paths  # type: ignore[misc]
        self.version = version  # type: ignore[misc,assignment]
        self.batch_size = batch_size
        self.on_error = on_error

    def cells(self, X: pd.DataFrame) -> list[Any]:
        """Return the cells to encode, one per row. The parameters are checked first, since a str is read by them.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, 1)

        Returns
        -------
        list of length n_samples
        """
        self.prepare()
        return super().cells(X)

    def load(self, cell: Any) -> np.ndarray:
        """Call the function on one cell.

        Parameters
        ----------
        cell : object

        Returns
        -------
        ndarray of shape (n_dims,), dtype float32

        Raises
        ------
        TypeError, ValueError
            If the function returns neither a number nor a vector of numbers. Its own exceptions pass through.
        """
        value = self.func(cell)
        if value is None:
            raise TypeError(f"{callable_name(self.func)} returned None, not a number or a vector")
        try:
            with np.errstate(over="ignore"):
                vector = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{callable_name(self.func)} returned a {type(value).__name__} that is not a vector"
            ) from error
        if vector.ndim > 1 or vector.size == 0:
            raise ValueError(f"{callable_name(self.func)} returned an array of shape {vector.shape}, not (n_dims,)")
        return vector.reshape(-1)

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Stack the vectors that the function returned.

        Parameters
        ----------
        items : list of ndarray of shape (n_dims,)

        Returns
        -------
        ndarray of shape (len(items), n_dims), dtype float32
        """
        return np.stack(items)

    def prepare(self) -> None:
        """Check the parameters."""
        self._batch_size()
        if not callable(self.func):
            raise TypeError(f"{_NEEDED_BY}: func must be a function of one cell; got {self.func!r}.")
        if not isinstance(self.strings_are_paths, bool):
            raise TypeError(f"{_NEEDED_BY}: strings_are_paths must be True or False; got {self.strings_are_paths!r}.")
        if self.version is not None and (isinstance(self.version, bool) or not isinstance(self.version, (int, str))):
            raise TypeError(f"{_NEEDED_BY}: version must be a whole number, a str or None; got {self.version!r}.")

    def recipe(self) -> dict[str, Any] | None:
        """Return what the vectors depend on besides the cell; None if part of it cannot be hashed (no caching).

        Returns
        -------
        dict or None
        """
        self.prepare()
        token = callable_token(self.func)
        if token is None and self.version is None:
            return None
        recipe = super().recipe()
        if recipe is not None:
            recipe["params"] |= {"func": callable_name(self.func), "code": token}
        return recipe
