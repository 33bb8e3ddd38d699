"""A network that was trained on cells, as a frozen encoder of other cells."""

from __future__ import annotations

from copy import copy
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from ensemblefuse.cache.code_digests import cell_digest
from ensemblefuse.encoders._base import BaseEncoder
from ensemblefuse.table import is_missing

__all__ = ["FineTunedEncoder"]

_SHOWN = 5


class FineTunedEncoder(BaseEncoder):
    """Embed cells with a network that was trained before, on other rows. Fitting trains nothing.

    The embedding is what the head of the network sees: its `transform`. The cache keeps embeddings of each training
    apart, by a digest of ``state_``.

    A row that the network was trained on has an embedding that knows its label. A model that is fitted on such rows
    expects more of the embedding than it holds for new rows, and cross-validation does not show it. So they are
    refused. To tune a network on the rows of the model itself, make it the estimator of its block: it is then fitted in
    each inner fold.

    Parameters
    ----------
    network : fitted network on cells
        Such as `ImageNetworkClassifier`. Clones of the encoder share it.
    allow_training_rows : bool, default=False
        Whether to embed cells that the network was trained on, too.
    batch_size : int, default=32
        Cells that go through the network at once.
    on_error : {"raise", "missing"}, default="raise"
        What to do with cells that cannot be read: raise one error that lists all of them, or return rows of NaN with
        one `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        Length of an embedding.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        From `fit` and `transform`, if a cell is one that the network was trained on.
    NotFittedError
        If the network is not fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import FineTunedEncoder, ImageNetworkClassifier
    >>> pictures = list(np.random.default_rng(0).integers(0, 256, size=(30, 16, 16, 3), dtype=np.uint8))
    >>> network = ImageNetworkClassifier(size=16, n_members=1, max_epochs=2).fit(pictures[:20], ["a", "b"] * 10)
    >>> encoder = FineTunedEncoder(network)
    >>> encoder.fit_transform(pictures[20:]).shape
    (10, 128)
    >>> encoder.transform(pictures[:3])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: FineTunedEncoder: the network was trained on 3 of the 3 cells of column '0', such as in row 0. ...
    """

    version: ClassVar[int] = 1
    loads_in_threads: ClassVar[bool] = True
    neutral_params: ClassVar[frozenset[str]] = BaseEncoder.neutral_params | {"network", "allow_training_rows"}

    def __init__(
        self, network: Any, *, allow_training_rows: bool = False, batch_size: int = 32, on_error: str = "raise"
    ):
        self.network = network
        self.allow_training_rows = allow_training_rows
        self.batch_size = batch_size
        self.on_error = on_error

    def __sklearn_clone__(self) -> FineTunedEncoder:
        """Return an unfitted encoder that shares the network: a clone of the network would not be trained."""
        clone = copy(self)
        for name in [name for name in vars(clone) if name.endswith("_")]:
            delattr(clone, name)
        return clone

    @property
    def strings_are_paths(self) -> bool:  # type: ignore[override]
        """Whether a str in a cell names a file."""
        return bool(self.network.strings_are_paths)

    def cells(self, X: pd.DataFrame) -> list[Any]:
        """Return the cells as the network takes them: without blank texts, or the rows of a group of numbers."""
        return self.network.cells(X)

    def load(self, cell: Any) -> np.ndarray:
        """Read one cell as the network does."""
        return self.network.load_cell(cell)

    def encode_batch(self, items: list[np.ndarray]) -> np.ndarray:
        """Return the features of cells that were read, of shape (len(items), n_dims)."""
        return self.network.embed_loaded(items)

    def prepare(self) -> None:
        """Check that the network can embed cells."""
        if not hasattr(self.network, "embed_loaded"):
            raise TypeError(
                "FineTunedEncoder: network must be a fitted network on cells, such as ImageNetworkClassifier; got "
                f"{type(self.network).__name__}."
            )
        check_is_fitted(self.network)

    def recipe(self) -> dict[str, Any] | None:
        """Return what the embeddings depend on; the network by what it is made of and by a digest of its arrays."""
        recipe, network = super().recipe(), self.network.embedding_recipe()
        if recipe is None or network is None:
            return None
        recipe["params"]["network"] = network
        return recipe

    def _check(self, X: Any, *, reset: bool) -> pd.DataFrame:
        self.prepare()
        frame = super()._check(X, reset=reset)
        if not self.allow_training_rows:
            self._refuse_known(frame)
        return frame

    def _refuse_known(self, frame: pd.DataFrame) -> None:
        trained_on = {row.tobytes() for row in self.network.trained_on_}
        cells = zip(frame.index.tolist(), self.cells(frame), strict=True)
        known = [label for label, cell in cells if self._key(cell) in trained_on]
        if known:
            raise ValueError(
                f"FineTunedEncoder: the network was trained on {len(known)} of the {len(frame)} cells of column "
                f"{str(frame.columns[0])!r}, such as in row {known[0]!r}. Their embeddings know their labels; encode "
                "other rows, or pass allow_training_rows=True."
            )

    def _key(self, cell: Any) -> bytes | None:
        try:
            return None if is_missing(cell) else cell_digest(cell, strings_are_paths=self.strings_are_paths)
        except (OSError, TypeError, ValueError):
            return None  # a bad cell, which `load` tells the reason of
