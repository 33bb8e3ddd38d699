"""One row and a fitted model, which predicts the row with some of its parts replaced."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from ensemblefuse._config import config_context
from ensemblefuse.blocks import SEPARATOR, WORDS
from ensemblefuse.compose import ModalityTransformer
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.exceptions import MissingModalityWarning, UnseenValueWarning
from ensemblefuse.features import PresentRows
from ensemblefuse.fitted.model import FittedModel, replace_columns
from ensemblefuse.modalities import row_texts
from ensemblefuse.table import list_columns

__all__ = ["RowModel", "first_encoder", "log_odds"]

_LEAST = float(np.finfo(float).eps)


def log_odds(probabilities: np.ndarray, code: int) -> np.ndarray:
    """Compute the log-odds of one class; probabilities are clipped at 2.2e-16, so log-odds stay within 36 of 0."""
    own = probabilities[:, code]
    other = np.delete(probabilities, code, axis=1).sum(axis=1)
    return np.log(np.maximum(own, _LEAST)) - np.log(np.maximum(other, _LEAST))


class RowModel:
    """A fitted model and one row of a table.

    Parameters
    ----------
    parts : FittedModel
    row : DataFrame of one row, or ndarray of shape (1, n_features)
        The row as the model takes it.

    Attributes
    ----------
    Z : DataFrame or ndarray of one row
        The row as the fusion takes it.
    present : ndarray of shape (n_modalities,), dtype bool
    prediction : ndarray of shape (n_classes,), or float in regression
    code : int or None
        Code of the class whose log-odds are the value; None in regression. `explain_row` sets it.
    """

    def __init__(self, parts: FittedModel, row: Any):
        self.parts = parts
        self.row = row
        steps = parts.model.steps if isinstance(parts.model, Pipeline) else []
        self._at = next((k for k, (_, step) in enumerate(steps) if isinstance(step, ColumnTransformer)), None)
        self._later = steps[self._at + 1 : -1] if self._at is not None else []
        # Output of the encoders; kept, so that replacing one modality does not encode the others again.
        self._encoded = parts.encode(row) if self._at is None else Pipeline(steps[: self._at + 1]).transform(row)
        self.Z = Pipeline(self._later).transform(self._encoded) if self._later else self._encoded
        self.present = parts.present(self.Z)[:, 0]
        self.prediction = parts.predict(self.Z)[0]
        self.code: int | None = None

    def value(self, Z: Any) -> np.ndarray:
        """Return the log-odds of the target class, or in regression the prediction: shape (n_samples,)."""
        return self._scale(self.parts.predict(Z))

    def _scale(self, said: np.ndarray) -> np.ndarray:
        return said if self.code is None else log_odds(said, self.code)

    def of_subsets(self, subsets: list[tuple[str, ...]]) -> np.ndarray:
        """Return the value with each subset of the modalities, all in one batch."""
        keep = np.array([[name in subset for subset in subsets] for name in self.parts.names])
        rows = [0] * len(subsets)
        return self._scale(
            self.parts.predict_with(self.Z[rows] if isinstance(self.Z, np.ndarray) else self.Z.iloc[rows], keep)
        )

    # ------------------------------------------------------------------ one modality replaced

    @property
    def step(self) -> ColumnTransformer | None:
        """The encoding step; None if the model is not a pipeline with one."""
        return None if self._at is None else self.parts.model.steps[self._at][1]

    def transformer(self, name: str) -> Any:
        """Return the fitted transformer of a modality; None if its columns reach the fusion unchanged."""
        own = getattr(self.parts.core, "encoders_", {}).get(name)
        return own if own is not None or self.step is None else self.step.named_transformers_.get(name)

    def picture_network(self, name: str) -> Any:
        """Return the fitted network on pictures that is the estimator of a block of raw cells, or None."""
        for member, estimator in getattr(self.parts.core, "estimators_", {}).items():
            if member.partition("/")[0] == name and hasattr(estimator, "feature_maps"):
                return estimator
        return None

    def cells(self, name: str) -> pd.DataFrame:
        """Return the raw cells of a modality as a table of one row; for a bare fusion, the columns of its block."""
        if self.step is None:
            frame = self.row if isinstance(self.row, pd.DataFrame) else pd.DataFrame(self.row)
            return frame.iloc[:, self.parts.core.blocks_[name]]
        return self._raw()[self.parts.columns[name]]

    def of_cells(self, name: str, table: pd.DataFrame) -> np.ndarray:
        """Return the value with other raw cells of one modality; the embeddings of the others are reused.

        Parameters
        ----------
        name : str
        table : DataFrame of shape (n, n_columns of the modality)

        Returns
        -------
        ndarray of shape (n,)
        """
        with config_context(cache=None, progress=False), warnings.catch_warnings():
            # No cache: these embeddings are not needed again. No warnings: cells are missing here on purpose.
            warnings.simplefilter("ignore", MissingModalityWarning)
            warnings.simplefilter("ignore", UnseenValueWarning)
            if self.step is None:
                return self.value(self._with_columns(self.Z, self.parts.core.blocks_[name], table))
            columns = next(columns for key, _, columns in self.step.transformers_ if key == name)
            read = self.parts.read(table)
            given = read[columns] if isinstance(columns, str) else read
            block = self.step.named_transformers_[name].transform(given)
            held = self.step.word_columns_.get(name) if isinstance(self.step, ModalityTransformer) else None
            return self.of_block(name, block, None if held is None else row_texts(read, list_columns(held)))

    def of_vectors(self, name: str, vectors: Any) -> np.ndarray:
        """Return the value with other embeddings of one modality, as its encoder returns them: shape (n,)."""
        chain = self.transformer(name)
        later = [step for _, step in chain.steps[1:]] if isinstance(chain, Pipeline) else []
        if later and hasattr(later[0], "feature_names_in_"):
            vectors = pd.DataFrame(vectors, columns=later[0].feature_names_in_)
        for step in later:
            vectors = vectors if isinstance(step, str) or step is None else step.transform(vectors)
        return self.of_block(name, vectors)

    def of_block(self, name: str, block: Any, texts: list[str | None] | None = None) -> np.ndarray:
        """Return the value with another block of one modality, as the encoding step returns it: shape (n,).

        Without `texts`, a fusion that also reads the texts of the modality sees those of the row.
        """
        assert self.step is not None
        block = block.toarray() if sparse.issparse(block) else block
        where = np.arange(self._encoded.shape[1])[self.step.output_indices_[name]]
        Z = self._with_columns(self._encoded, where, block)
        if texts is not None:
            Z = Z.assign(**{f"{name}{SEPARATOR}{WORDS}": np.array(texts, dtype=object)})
        return self.value(Pipeline(self._later).transform(Z) if self._later else Z)

    def _raw(self) -> pd.DataFrame:
        """Return the row as the encoding step takes it."""
        row = Pipeline(self.parts.model.steps[: self._at]).transform(self.row) if self._at else self.row
        if not isinstance(self.step, ModalityTransformer):
            return row
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingModalityWarning)
            warnings.simplefilter("ignore", UnseenValueWarning)
            return self.parts.read(self.step._complete(row))

    @staticmethod
    def _with_columns(row: Any, where: np.ndarray, block: Any) -> Any:
        """Repeat an encoded row for each row of the block, and put the block into these columns."""
        if isinstance(row, np.ndarray):
            table = np.repeat(np.asarray(row, dtype=float), len(block), axis=0)
            table[:, where] = np.asarray(block)
            return table
        block = block if isinstance(block, pd.DataFrame) else pd.DataFrame(block)
        return replace_columns(row.iloc[[0] * len(block)], where, block)


def first_encoder(transformer: Any) -> BaseEncoder | None:
    """Return the encoder in a modality's transformer, which is the first step of a pipeline; None if there is none."""
    while isinstance(transformer, (Pipeline, PresentRows)):
        if isinstance(transformer, PresentRows):
            transformer = getattr(transformer, "transformer_", transformer.transformer)
        else:
            transformer = transformer.steps[0][1]
    return transformer if isinstance(transformer, BaseEncoder) else None
