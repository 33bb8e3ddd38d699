"""`EmbeddingCache`, the public class of the cache, and `get_cache`."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ensemblefuse._config import get_config
from ensemblefuse._public_names import former_paths
from ensemblefuse.cache._inspect import Inspection
from ensemblefuse.cache._recipe import recipe_digest, write_recipe
from ensemblefuse.cache._segment import FORMAT, KEY_SIZE, as_keys
from ensemblefuse.cache._shelf import Shelf
from ensemblefuse.cache._transfer import Transfer
from ensemblefuse.cache._trust import is_trusted
from ensemblefuse.cache._upkeep import Upkeep
from ensemblefuse.cache.file_digests import flush_file_digests
from ensemblefuse.exceptions import CacheWarning

__all__ = ["EmbeddingCache", "get_cache"]

_NO_KEY = bytes(KEY_SIZE)


class EmbeddingCache(Inspection, Upkeep, Transfer):
    """Vectors by recipe and content, shared by threads and processes. Only `prune`, `forget` and `clear` remove any.

    Parameters
    ----------
    folder : path
        Folder of the cache. It is created at the first write.

    Attributes
    ----------
    n_read, n_written : int
        Numbers of rows that this object has returned and stored in this process.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from ensemblefuse.cache import EmbeddingCache
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = EmbeddingCache(folder)
    ...     cache.put({"encoder": "E"}, [b"k" * 16], np.ones((1, 3)))
    ...     found = cache.get({"encoder": "E"}, [b"k" * 16, b"?" * 16])
    >>> found
    [array([1., 1., 1.], dtype=float32), None]
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.n_read = 0
        self.n_written = 0
        self._shelves: dict[str, Shelf] = {}
        self._lock = threading.Lock()
        _instances.add(self)

    def __reduce__(self):
        return type(self), (self.folder,)

    def _shelf(self, recipe: dict[str, Any]) -> Shelf:
        name = recipe_digest(recipe)
        with self._lock:
            shelf = self._shelves.get(name)
            if shelf is None or shelf.pid != os.getpid():  # a forked process must not write into its parent's segment
                folder = self.folder / FORMAT / name
                shelf = self._shelves[name] = Shelf(folder, lambda: write_recipe(folder, recipe))
            return shelf

    def has_recipe(self, recipe: dict[str, Any]) -> bool:
        """Return whether the cache has, or had, vectors of this recipe."""
        return os.path.isdir(self.folder / FORMAT / recipe_digest(recipe))  # not Path.is_dir: a disk may fail

    def recipe_of(self, encoder: Any) -> dict[str, Any] | None:
        """Return the recipe under which the cache keeps an encoder's vectors; None if it cannot keep them.

        Parameters
        ----------
        encoder : encoder
            Its `recipe` names classes by public paths. If the cache only has a folder whose recipe has their former
            paths, that recipe is returned, so that the folder stays in use.
        """
        recipe = encoder.recipe()
        if recipe is None or self.has_recipe(recipe):
            return recipe
        with former_paths():
            former = encoder.recipe()
        return former if former is not None and self.has_recipe(former) else recipe

    # ------------------------------------------------------------------ reading and writing

    def get_many(self, recipe: dict[str, Any], keys: Sequence[bytes | None]) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors of `keys` under `recipe` as one matrix.

        Every vector is compared with its checksum; one that was damaged on disk counts as not found. If the cache
        cannot be read, there is a `CacheWarning`, and nothing is found.

        Parameters
        ----------
        recipe : dict
            What the vectors depend on; JSON-serialisable.
        keys : sequence of bytes or None, of length n_keys
            Digests of contents, 16 bytes each, in any order; repeats are allowed. None is never found.

        Returns
        -------
        found : ndarray of shape (n_keys,), dtype bool
        vectors : ndarray of shape (n_keys, n_dims), dtype float32
            A row of NaN for each key that was not found; n_dims is 0 if none was found. The caller may write into the
            array. If vectors of several lengths are stored, only the most frequent length among `keys` counts as found.

        Examples
        --------
        >>> import numpy as np, tempfile
        >>> from ensemblefuse.cache import EmbeddingCache
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = EmbeddingCache(folder)
        ...     cache.put({"encoder": "E"}, [b"k" * 16], np.ones((1, 3)))
        ...     found, vectors = cache.get_many({"encoder": "E"}, [None, b"k" * 16])
        >>> found
        array([False,  True])
        >>> vectors
        array([[nan, nan, nan],
               [ 1.,  1.,  1.]], dtype=float32)
        """
        flush_file_digests()
        has_key = None
        if None in keys:
            has_key = np.array([key is not None for key in keys], dtype=bool)
            keys = [_NO_KEY if key is None else key for key in keys]
        digests = as_keys(keys)
        try:
            shelf = self._shelf(recipe)
            with shelf.lock:
                found, vectors = shelf.read(digests, has_key)
        except OSError as error:
            warnings.warn(f"The embedding cache in {self.folder} cannot be read ({error}).", CacheWarning, stacklevel=3)
            return np.zeros(len(keys), dtype=bool), np.empty((len(keys), 0), dtype=np.float32)
        self.n_read += int(found.sum())
        return found, vectors

    def get(self, recipe: dict[str, Any], keys: Sequence[bytes | None]) -> list[np.ndarray | None]:
        """Return the vectors of `keys` under `recipe`, None for each that was not found. `get_many` is faster.

        Parameters
        ----------
        recipe : dict
            What the vectors depend on; JSON-serialisable.
        keys : sequence of bytes or None
            Digests of contents, 16 bytes each.

        Returns
        -------
        list of ndarray of shape (n_dims,), dtype float32, or None
            The vectors are rows of one array.
        """
        found, vectors = self.get_many(recipe, keys)
        return [vector if is_there else None for vector, is_there in zip(vectors, found.tolist(), strict=True)]

    def put(self, recipe: dict[str, Any], keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Store one vector per key. A failure to write is a warning, not an error: the caller has the vectors.

        Parameters
        ----------
        recipe : dict
            What the vectors depend on; JSON-serialisable.
        keys : sequence of bytes
            Digests of contents, 16 bytes each.
        vectors : array of shape (n_keys, n_dims)
            Finite numbers, stored as float32.
        """
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(keys):
            raise ValueError(
                f"put takes one vector per key; got {len(keys)} keys and an array of shape {vectors.shape}."
            )
        if not vectors.size:
            return
        shelf, digests = self._shelf(recipe), as_keys(keys)
        try:
            with shelf.lock:
                shelf.append(digests, vectors)
        except OSError as error:
            warnings.warn(
                f"The embedding cache in {self.folder} cannot be written ({error}); the results are correct, "
                "but will be encoded again next time. Choose another folder with set_config(cache=...).",
                CacheWarning,
                stacklevel=3,
            )
            return
        self.n_written += len(keys)
        flush_file_digests()


_caches: dict[Path, EmbeddingCache] = {}
_instances: weakref.WeakSet[EmbeddingCache] = weakref.WeakSet()


def _renew_locks() -> None:
    """Make new locks in the child of a fork: one held by another thread of the parent would never be released."""
    for cache in list(_instances):
        cache._lock = threading.Lock()  # a shelf and its lock are renewed by `_shelf`


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def get_cache() -> EmbeddingCache | None:
    """Return the cache of `set_config` or ``ENSEMBLEFUSE_CACHE``, one object per process and folder; None if off.

    Warns
    -----
    CacheWarning
        If the folder belongs to another user (other than root) or is writable by all users, or a folder above it is
        writable by all users without the sticky bit. They could store false vectors. The cache is used all the same,
        but not by root, for whom it is off then.

    Examples
    --------
    >>> from ensemblefuse import config_context, get_cache
    >>> with config_context(cache=None):
    ...     print(get_cache())
    None
    """
    folder = get_config()["cache"]
    if folder is None or not is_trusted(folder):
        return None
    found = _caches.get(folder)
    return found if found is not None else _caches.setdefault(folder, EmbeddingCache(folder))
