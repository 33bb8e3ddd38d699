"""Rows whose modalities arrive one after the other."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from ensemblefuse.compose import ModalityTransformer
from ensemblefuse.deployment._sent import SentPredictions
from ensemblefuse.deployment._split import check_recipe
from ensemblefuse.encoders import PrecomputedEncoder
from ensemblefuse.exceptions import MissingModalityWarning

__all__ = ["PartialRows"]

_ON_FULL = ("raise", "drop_oldest")


class PartialRows:
    """Holds what has arrived of each sample, and predicts from it at any time.

    A store in the memory of one process, which any thread may use. A sample without a modality is a row that lacks it:
    the prediction is that of the model for such a row, and another one when more has arrived.

    Parameters
    ----------
    fusion : Pipeline
        The fusion part of `split_model`.
    max_samples : int
        How many samples are held.
    on_full : {"raise", "drop_oldest"}
        When one more arrives: an error, and nothing is stored; or the sample whose first piece came first is dropped,
        and `add` returns its id.

    Attributes
    ----------
    modalities : list of str
        What a complete sample has.
    n_dropped : int
        Samples that were dropped so far.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, FunctionEncoder, PartialRows
    >>> from ensemblefuse import make_fusion_pipeline, split_model
    >>> titles = ["a cat", "old cat", "my cat", "dog!", "dog!!", "dogs!"]
    >>> df = pd.DataFrame({"title": titles, "price": [1, 2, 1, 8, 9, 9]})
    >>> text = FunctionEncoder(lambda title: [title.count("!"), len(title)])
    >>> modalities = [("text", text, "title"), ("tabular", "passthrough", ["price"])]
    >>> model = make_fusion_pipeline(modalities, DecisionFusionClassifier(LogisticRegression(), cv=3))
    >>> rows = PartialRows(split_model(model.fit(df, ["cat"] * 3 + ["dog"] * 3)).fusion)
    >>> rows.add("order 7", "text", [0, 7])
    []
    >>> rows.predict().to_dict(), rows.missing("order 7")
    ({'order 7': 'cat'}, ['tabular'])
    >>> rows.add("order 7", "tabular", [9])
    []
    >>> rows.complete("order 7"), rows.predict_proba(["order 7"]).shape
    (True, (1, 2))
    """

    def __init__(self, fusion: Pipeline, *, max_samples: int = 10_000, on_full: str = "raise"):
        arrivals = fusion[0] if isinstance(fusion, Pipeline) else None
        encoders = arrivals.named_transformers_ if isinstance(arrivals, ModalityTransformer) else {}
        if not encoders or not all(isinstance(encoder, PrecomputedEncoder) for encoder in encoders.values()):
            raise TypeError("PartialRows takes the fusion part of split_model, which reads one vector a modality.")
        if isinstance(max_samples, bool) or not isinstance(max_samples, (int, np.integer)) or max_samples < 1:
            raise ValueError(f"max_samples must be a whole number of at least 1; got {max_samples!r}.")
        if on_full not in _ON_FULL:
            raise ValueError(f"on_full must be one of {_ON_FULL}; got {on_full!r}.")
        self.fusion = fusion
        self.max_samples = max_samples
        self.on_full = on_full
        self.modalities = list(encoders)
        self.n_dropped = 0
        self._encoders = dict(encoders)
        heads = getattr(fusion[-1], "estimators", None)
        self._heads = heads if isinstance(heads, dict) else {}
        self._rows: dict[Hashable, dict[str, np.ndarray]] = {}
        self._lock = threading.Lock()

    def add(self, id: Hashable, modality: str, vector: Any, *, recipe: str | None = None) -> list[Hashable]:
        """Store what has arrived. A modality that arrives again replaces what was there.

        Parameters
        ----------
        id : hashable
            Of the sample.
        modality : str
        vector : array of shape (n_dims,)
            What `EdgePart.transform` gave.
        recipe : str, optional
            What `EdgePart.digest` gave; see `check_recipe`.

        Returns
        -------
        list
            Id of the sample that was dropped for this one, mostly none.

        Raises
        ------
        ValueError
            If the modality is unknown, the vector has another length than in fit, holds NaN or infinity, or holds no
            probabilities where heads stand on the edge, or the recipe differs.
        TypeError
            If it is no vector of numbers.
        RuntimeError
            If `max_samples` are held and ``on_full="raise"``.
        """
        if modality not in self._encoders:
            raise ValueError(f"modality must be one of {self.modalities}; got {modality!r}.")
        if recipe is not None:
            check_recipe(self.fusion, {modality: recipe})
        vector = self._checked(id, modality, vector)
        dropped: list[Hashable] = []
        with self._lock:
            if id not in self._rows and len(self._rows) >= self.max_samples:
                if self.on_full == "raise":
                    raise RuntimeError(
                        f"{self.max_samples} samples are held, and {id!r} is one more. Take finished ones out with "
                        'pop, pass a larger max_samples, or on_full="drop_oldest".'
                    )
                dropped.append(next(iter(self._rows)))
                del self._rows[dropped[0]]
                self.n_dropped += 1
            self._rows.setdefault(id, {})[modality] = vector
        return dropped

    def _checked(self, id: Hashable, modality: str, vector: Any) -> np.ndarray:
        try:
            # The encoder's own check; a copy, because the caller may reuse its buffer.
            vector = self._encoders[modality].load(vector).copy()
            if isinstance(head := self._heads.get(modality), SentPredictions):
                head.check(vector)
            return vector
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"Modality {modality!r} of sample {id!r}: {str(error).rstrip('.')}.") from error

    def predict_proba(self, ids: Iterable[Hashable] | None = None) -> pd.DataFrame:
        """Class probabilities from what has arrived so far.

        Parameters
        ----------
        ids : sequence, optional
            By default all samples, in the order in which their first pieces came.

        Returns
        -------
        DataFrame of shape (n_ids, n_classes)
            A row a sample, a column a class.

        Raises
        ------
        KeyError
            If nothing of a sample is held.
        """
        table = self._table(ids)
        return pd.DataFrame(self._ask("predict_proba", table), index=table.index, columns=self.fusion.classes_)

    def predict(self, ids: Iterable[Hashable] | None = None) -> pd.Series:
        """Labels, or numbers in regression, from what has arrived so far; see `predict_proba`."""
        table = self._table(ids)
        return pd.Series(self._ask("predict", table), index=table.index)

    def _ask(self, method: str, table: pd.DataFrame) -> np.ndarray:
        said = getattr(self.fusion, method)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingModalityWarning)  # that modalities are missing is the point here
            return said(table) if len(table) else said(_one_empty(self.modalities))[:0]

    def _table(self, ids: Iterable[Hashable] | None) -> pd.DataFrame:
        with self._lock:
            wanted = list(self._rows) if ids is None else list(ids)
            rows = [dict(self._row(id)) for id in wanted]
        index = pd.Index(wanted, tupleize_cols=False, dtype=None if wanted else object)
        cells = {name: _column([row.get(name) for row in rows], index) for name in self.modalities}
        return pd.DataFrame(cells, index=index)

    def _row(self, id: Hashable) -> dict[str, np.ndarray]:
        try:
            return self._rows[id]
        except KeyError:
            raise KeyError(f"nothing of sample {id!r} is held") from None

    def missing(self, id: Hashable) -> list[str]:
        """Modalities of a sample that have not arrived; `KeyError` if none has."""
        with self._lock:
            held = self._row(id)
            return [name for name in self.modalities if name not in held]

    def complete(self, id: Hashable) -> bool:
        """Whether all modalities of a sample have arrived; `KeyError` if none has."""
        return not self.missing(id)

    def pop(self, id: Hashable) -> dict[str, np.ndarray]:
        """Take a sample out: its vectors by modality; `KeyError` if nothing of it is held."""
        with self._lock:
            self._row(id)
            return self._rows.pop(id)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, id: Hashable) -> bool:
        return id in self._rows


def _column(cells: list[Any], index: pd.Index) -> pd.Series:
    values = np.full(len(cells), None, dtype=object)
    for i, cell in enumerate(cells):
        values[i] = cell
    return pd.Series(values, index=index, dtype=object)


def _one_empty(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: _column([None], pd.RangeIndex(1)) for name in names})
