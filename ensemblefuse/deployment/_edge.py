"""What an edge box holds of a model: one modality's transformers, and its heads if they stand there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline

from ensemblefuse._names import former_paths
from ensemblefuse.blocks import read_block
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.fusion.members import ask_member
from ensemblefuse.table import plain_missing, to_frame

__all__ = ["EdgePart"]


class EdgePart(TransformerMixin, BaseEstimator):
    """One modality of a fitted model: raw columns in, one vector a row out. `split_model` makes it, fitted.

    Parameters
    ----------
    name : str
        The modality.
    columns : str or list of str
        The raw columns that it reads.
    transformer : fitted transformer
        Encoder and what stands after it; its output is the modality's block.
    heads : list of dict, optional
        Fitted members of decision-level fusion, each with ``estimators``, ``classes``, ``temperature``, ``by_value``.
        None sends the block, else their predictions are sent.
    n_classes : int
        0 in regression. With `heads`.
    raw : bool
        Whether the heads take raw cells.
    partial : bool
        Whether the heads take a row that is partly NaN.
    states : list of str
        Digests of the fitted steps that are no encoders, and of the heads.

    See Also
    --------
    split_model

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import FeatureFusionClassifier, FunctionEncoder, make_fusion_pipeline, split_model
    >>> df = pd.DataFrame({"title": ["a cat", "old cat", "dog!", "dogs!!"], "price": [1.0, 2.0, 8.0, 9.0]})
    >>> text = FunctionEncoder(lambda title: [title.count("!"), len(title)])
    >>> modalities = [("text", text, "title"), ("tabular", "passthrough", ["price"])]
    >>> model = make_fusion_pipeline(modalities, FeatureFusionClassifier()).fit(df, ["cat", "cat", "dog", "dog"])
    >>> split_model(model).edge["text"].transform({"title": ["hot dog!", None]})
             text
    0  [1.0, 8.0]
    1        None
    """

    def __init__(
        self,
        name: str,
        columns: str | Sequence[str],
        transformer: Any,
        *,
        heads: list[dict[str, Any]] | None = None,
        n_classes: int = 0,
        raw: bool = False,
        partial: bool = False,
        states: Sequence[str] = (),
    ):
        self.name = name
        self.columns = columns
        self.transformer = transformer
        self.heads = heads
        self.n_classes = n_classes
        self.raw = raw
        self.partial = partial
        self.states = states

    def fit(self, X=None, y=None):
        """Nothing: it was fitted with the model that it is a part of."""
        return self

    def transform(self, X) -> pd.DataFrame:
        """What to send for these rows.

        Parameters
        ----------
        X : DataFrame (pandas or polars) or dict of columns, of n_samples rows
            At least the modality's columns.

        Returns
        -------
        DataFrame of shape (n_samples, 1)
            One column of the modality's name, with the index of X. A cell is an ndarray of dtype float32, or None in a
            row that lacks the modality. With `heads` it holds the probabilities of each head in turn, or one number a
            head in regression.

        Raises
        ------
        ValueError
            If X lacks a column, a row of the block is partly NaN and no vector can stand for it, or a number of a
            vector is too large for float32.
        EncodingError
            If a cell cannot be encoded.
        """
        frame = to_frame(X)
        wanted = [self.columns] if isinstance(self.columns, str) else list(self.columns)
        absent = [column for column in wanted if column not in frame.columns]
        if absent:
            raise ValueError(
                f"The edge part of modality {self.name!r} reads the columns {wanted}; X lacks {absent} and has "
                f"{list(frame.columns)}. A modality that a row lacks is a missing cell."
            )
        block = self.transformer.transform(plain_missing(frame[wanted])[self.columns])
        # As the fusion reads a block, with the same errors.
        table = block if isinstance(block, pd.DataFrame) else pd.DataFrame(np.asarray(block))
        data, present = read_block(self.name, table, frame.index.tolist(), raw=self.raw, allow_partial=self.partial)
        cells = np.full(len(frame), None, dtype=object)
        if present.any():
            rows = data.loc[present] if hasattr(data, "loc") else data[present]
            places = np.flatnonzero(present)
            for place, vector in zip(places, self._vectors(rows, frame.index[places].tolist()), strict=True):
                cells[place] = vector
        return pd.DataFrame({self.name: pd.Series(cells, index=frame.index, dtype=object)})

    def _vectors(self, rows: Any, labels: list[Any]) -> np.ndarray:
        if self.heads is not None:
            rows = np.column_stack([ask_member(**head, rows=rows, n_classes=self.n_classes) for head in self.heads])
        values = np.asarray(rows)
        with np.errstate(over="ignore"):
            vectors = values.astype(np.float32)
        large = np.argwhere(np.isinf(vectors))
        if len(large):
            row, place = large[0]
            raise ValueError(
                f"Modality {self.name!r}: number {place} of the vector of row {labels[row]!r} is "
                f"{float(values[row, place])!r}, too large for float32, in which vectors are sent (3.4e+38 at most). "
                "Correct the cell, or scale the column and fit again."
            )
        return vectors

    def recipe(self) -> dict[str, Any]:
        """All that a vector depends on besides the cell, as far as it can be told.

        Returns
        -------
        dict
            JSON-serialisable: the modality, recipes of its encoders as they are now (None of one that cannot tell its
            own, such as a `FunctionEncoder` over an object), digests of all that was fitted.
        """
        steps = [step for _, step in self.transformer.steps] if isinstance(self.transformer, Pipeline) else []
        encoders = [step for step in steps or [self.transformer] if isinstance(step, BaseEncoder)]
        return {
            "modality": self.name,
            "columns": self.columns,
            "encoders": [{"class": type(e).__qualname__, "n_dims": e.n_dims_, "recipe": e.recipe()} for e in encoders],
            "states": list(self.states),
        }

    def digest(self) -> str:
        """sha256 of the recipe in hex: what to send beside a vector, for `check_recipe`."""
        # As version 0.1.0 wrote recipes: parts that it saved are still compared with those of later versions.
        with former_paths():
            return hashlib.sha256(json.dumps(self.recipe(), sort_keys=True).encode()).hexdigest()

    def __sklearn_is_fitted__(self):
        return True
