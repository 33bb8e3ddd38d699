"""Any function of one cell as an encoder. Never imports `fusion`."""

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
    """Embed cells with your own function of one cell. Fitting trains nothing; the function must not learn either.

    The function sees one cell and no other row, so that its vectors may be shared by the folds of a
    cross-validation. An exception that it raises makes the row a bad row, with the exception as the reason.

    Parameters
    ----------
    func : callable
        Takes a cell, returns a number or a vector of shape (n_dims,), the same length for every cell. It is never
        given a missing cell.
    strings_are_paths : bool, default=False
        Whether a str names a file. Then the file's content, not its name, is the cache key: `func` must read the
        file and ignore what it is called.
    version : int or str, optional
        Part of the cache key: change it when `func` begins to give other values. A Python function needs none, unless
        what it calls elsewhere changes; an object with ``__call__`` or a bound method is cached only with one.
    batch_size : int, default=32
        Cells that are encoded between two writes to the cache. Not part of the cache key.
    on_error : {"raise", "missing"}, default="raise"
        What to do with a cell for which `func` raises: one error that lists all of them, or a row of NaN and one
        `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        Length of the vector that `func` returns.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    TypeError, ValueError
        From `fit` and `transform`: `func` cannot be called, or `strings_are_paths` or `version` is of another type.

    Notes
    -----
    The cache key holds the function's own code, its default and enclosed values, and the global values, classes and
    functions of its module that it uses, followed through calls. It does not hold the code of imported modules. A
    function that uses something else, such as a network held in a global name, is not cached unless `version` is
    given: `recipe` is then None.

    See Also
    --------
    BaseEncoder : For a function that is faster on a batch: define ``encode_batch``.

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

    # `recipe` puts a digest of the function and what it uses there.
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
        # Class constants of the base class are parameters here; the base reads the first one from the instance.
        self.strings_are_paths = strings_are_paths  # type: ignore[misc]
        self.version = version  # type: ignore[misc,assignment]
        self.batch_size = batch_size
        self.on_error = on_error

    def cells(self, X: pd.DataFrame) -> list[Any]:
        """The cells to encode, one a row; the parameters are checked first, since they say how to read a str.

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
        """Call the function.

        Parameters
        ----------
        cell : object

        Returns
        -------
        ndarray of shape (n_dims,), dtype float32

        Raises
        ------
        TypeError, ValueError
            If the function returns neither a number nor a vector of numbers; else whatever it raises.
        """
        value = self.func(cell)
        if value is None:
            raise TypeError(f"{callable_name(self.func)} returned None, not a number or a vector")
        try:
            with np.errstate(over="ignore"):
                vector = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{callable_name(self.func)} returned a {type(value).__name__} that is no vector"
            ) from error
        if vector.ndim > 1 or vector.size == 0:
            raise ValueError(f"{callable_name(self.func)} returned an array of shape {vector.shape}, not (n_dims,)")
        return vector.reshape(-1)

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Stack what the function returned.

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
        """What the vectors depend on besides the cell, or None if that cannot be told: then nothing is cached.

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
