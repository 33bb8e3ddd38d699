"""The part of a model on an edge box: the transformers of one modality and, if wanted, its heads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline

from ensemblefuse._public_names import former_paths
from ensemblefuse.blocks import read_block
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.features.word_features import count_terms
from ensemblefuse.fusion.members import ask_member
from ensemblefuse.modalities import cell_policies, row_texts, word_columns
from ensemblefuse.schema import Schema, read_or_raise
from ensemblefuse.table import to_frame

__all__ = ["EdgePart"]


class EdgePart(TransformerMixin, BaseEstimator):
    """One modality of a fitted model: raw columns in, one vector per row out. `split_model` makes it, already fitted.

    Parameters
    ----------
    name : str
        The modality.
    columns : str or list of str
        The raw columns that it reads.
    transformer : fitted transformer
        The encoder and the steps after it; the output is the block of the modality.
    heads : list of dict, optional
        Fitted members of decision-level fusion, each with ``estimators``, ``classes``, ``temperature``, ``by_value``.
        With heads, `transform` returns their predictions; with None, the block.
    n_classes : int
        Number of classes of `heads`; 0 in regression.
    raw : bool
        Whether the heads take raw cells.
    partial : bool
        Whether the heads take a row that is partly NaN.
    states : list of str
        Digests of the heads and of the fitted steps that are not encoders.
    schema : dict of str to dict, optional
        What each of `columns` holds; see `ensemblefuse.schema`.

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

    schema: Schema | None = None  # files of old versions have none

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
        schema: Schema | None = None,
    ):
        self.name = name
        self.columns = columns
        self.transformer = transformer
        self.heads = heads
        self.n_classes = n_classes
        self.raw = raw
        self.partial = partial
        self.states = states
        self.schema = schema

    def fit(self, X: Any = None, y: Any = None) -> EdgePart:
        """Do nothing: this part was fitted together with its model."""
        return self

    def transform(self, X: Any) -> pd.DataFrame:
        """Return the vectors to send for these rows.

        Parameters
        ----------
        X : DataFrame (pandas or polars) or dict of columns, of n_samples rows
            At least the columns of the modality.

        Returns
        -------
        DataFrame of shape (n_samples, 1)
            One column with the name of the modality, and the index of X. A cell is an ndarray of dtype float32, or None
            if the row lacks the modality. With `heads` it holds the probabilities of each head in turn, or one number
            per head in regression.

        Raises
        ------
        ValueError
            If X lacks a column, a cell cannot be read as its column requires, a row of the block is partly NaN and so
            has no vector, or a number of a vector is too large for float32.
        EncodingError
            If a cell cannot be encoded.
        """
        frame = to_frame(X)
        wanted = [self.columns] if isinstance(self.columns, str) else list(self.columns)
        absent = [column for column in wanted if column not in frame.columns]
        if absent:
            raise ValueError(
                f"The edge part of modality {self.name!r} reads the columns {wanted}; X lacks {absent} and has "
                f"{list(frame.columns)}. If a row lacks the modality, leave its cells missing."
            )
        policies = partial(cell_policies, [(self.name, self.transformer, wanted)], wanted)
        table = read_or_raise(frame[wanted], self.schema or {}, policies=policies)
        block = self.transformer.transform(table[self.columns])
        # Read the block as the fusion does, with the same errors.
        numbers = block if isinstance(block, pd.DataFrame) else pd.DataFrame(np.asarray(block))
        data, present = read_block(self.name, numbers, frame.index.tolist(), raw=self.raw, allow_partial=self.partial)
        cells = np.full(len(frame), None, dtype=object)
        if present.any():
            rows = data.loc[present] if hasattr(data, "loc") else data[present]
            places = np.flatnonzero(present)
            texts = row_texts(table.iloc[places], word_columns(self.transformer, wanted))
            for place, vector in zip(places, self._vectors(rows, texts, frame.index[places].tolist()), strict=True):
                cells[place] = vector
        return pd.DataFrame({self.name: pd.Series(cells, index=frame.index, dtype=object)})

    def _vectors(self, rows: Any, texts: list[str | None], labels: list[Any]) -> np.ndarray:
        if self.heads is not None:
            rows = np.column_stack([self._ask(head, rows, texts) for head in self.heads])
        values = np.asarray(rows)
        with np.errstate(over="ignore"):
            vectors = values.astype(np.float32)
        large = np.argwhere(np.isinf(vectors))
        if len(large):
            row, place = large[0]
            raise ValueError(
                f"Modality {self.name!r}: number {place} of the vector of row {labels[row]!r} is "
                f"{float(values[row, place])!r}, too large for float32, the dtype of sent vectors (at most 3.4e+38). "
                "Correct the cell, or scale the column and fit again."
            )
        return vectors

    def _ask(self, head: dict[str, Any], rows: Any, texts: list[str | None]) -> np.ndarray:
        """Return the predictions of a head, which reads the vectors, or the words of the texts."""
        known = {key: value for key, value in head.items() if key != "words"}
        return ask_member(**known, rows=count_terms(texts) if head.get("words") else rows, n_classes=self.n_classes)

    def recipe(self) -> dict[str, Any]:
        """Return everything that determines a vector besides the cell, as far as it is known.

        Returns
        -------
        dict
            JSON-serialisable: the modality, the current recipes of its encoders (None if an encoder has no recipe, such
            as a `FunctionEncoder` over an object), digests of all fitted steps.
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
        """Return the sha256 of the recipe in hex, to send with a vector for `check_recipe`."""
        # Use the paths of version 0.1.0, so that parts that it saved still match parts of later versions.
        with former_paths():
            return hashlib.sha256(json.dumps(self.recipe(), sort_keys=True).encode()).hexdigest()

    def __sklearn_is_fitted__(self) -> bool:
        return True
