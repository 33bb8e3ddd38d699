"""Any function of one cell as an encoder. Floor 2; never imports `fusion`."""

from __future__ import annotations

import dis
import functools
import hashlib
import os
import types
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ensemblefuse.encoders._base import BaseEncoder
from ensemblefuse.encoders._content import cell_digest, class_digest, code_digest

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
            raise TypeError(f"{_name(self.func)} returned None, not a number or a vector")
        try:
            with np.errstate(over="ignore"):
                vector = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{_name(self.func)} returned a {type(value).__name__} that is no vector") from error
        if vector.ndim > 1 or vector.size == 0:
            raise ValueError(f"{_name(self.func)} returned an array of shape {vector.shape}, not (n_dims,)")
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
        token = _callable_token(self.func, set())
        if token is None and self.version is None:
            return None
        recipe = super().recipe()
        if recipe is not None:
            recipe["params"] |= {"func": _name(self.func), "code": token}
        return recipe


def _name(func: Any) -> str:
    if isinstance(func, functools.partial):
        return f"partial of {_name(func.func)}"
    named = func if hasattr(func, "__qualname__") else type(func)
    return f"{named.__module__}.{named.__qualname__}"


def _callable_token(func: Any, seen: set[int]) -> str | None:
    """Digest of all that a callable does as far as Python can tell, or None if it cannot."""
    if isinstance(func, functools.partial):
        inner = _callable_token(func.func, seen)
        bound = _value_token([func.args, func.keywords], func, seen)
        return None if inner is None or bound is None else _digest([inner, bound])
    if isinstance(func, (types.BuiltinFunctionType, np.ufunc)):
        owner = getattr(func, "__self__", None)  # len's is its module; that of "abc".count is the str
        return _name(func) if owner is None or isinstance(owner, types.ModuleType) else None
    if not isinstance(func, types.FunctionType):
        return None  # a bound method or an object: what it holds is unknown
    if id(func) in seen:
        return "seen"
    seen.add(id(func))
    tokens = [code_digest(func)]
    for name in sorted(set(_global_names(func.__code__)) & set(func.__globals__)):
        tokens += [name, _value_token(func.__globals__[name], func, seen)]
    return None if any(token is None for token in tokens) else _digest([str(token) for token in tokens])


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Names that a function and those inside it read from their module."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _value_token(value: Any, user: Any, seen: set[int]) -> str | None:
    """Token of a value that the function `user` uses."""
    if isinstance(value, types.ModuleType):
        return value.__name__
    own = getattr(value, "__module__", None) in ("__main__", getattr(user, "__module__", None))
    if isinstance(value, type):
        return f"{_name(value)} {class_digest(value)}" if own else _name(value)
    if isinstance(value, types.FunctionType) and not own:
        return _name(value)  # imported: as its package has it
    if callable(value):
        return _callable_token(value, seen)
    if isinstance(value, os.PathLike):
        return repr(value)
    try:
        return cell_digest(value, strings_are_paths=False).hex()
    except TypeError:
        return None


def _digest(tokens: list[str]) -> str:
    return hashlib.sha256("\n".join(tokens).encode()).hexdigest()
