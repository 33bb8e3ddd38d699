"""Store of rows whose modalities arrive one after the other."""

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
    """Store of samples whose modalities arrive one after the other; it can predict at any time.

    The store is in the memory of one process, and any thread may use it. A sample whose modality has not arrived is a
    row that lacks it: the prediction is that of the model for such a row, and changes when more arrives.

    Parameters
    ----------
    fusion : Pipeline
        The fusion part of `split_model`.
    max_samples : int
        Largest number of samples.
    on_full : {"raise", "drop_oldest"}
        What to do when one more sample arrives. ``"raise"``: raise an error and store nothing. ``"drop_oldest"``: drop
        the sample whose first vector came first; `add` returns its id.

    Attributes
    ----------
    modalities : list of str
        Modalities of a complete sample.
    n_dropped : int
        Number of samples that were dropped so far.

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
    >>> rows
    PartialRows(1 of at most 10000 samples; waiting for tabular in 1)
    >>> rows.add("order 7", "tabular", [9])
    []
    >>> rows.complete("order 7"), rows.predict_proba(["order 7"]).shape
    (True, (1, 2))
    """

    def __init__(self, fusion: Pipeline, *, max_samples: int = 10_000, on_full: str = "raise"):
        arrivals = fusion[0] if isinstance(fusion, Pipeline) else None
        encoders = arrivals.named_transformers_ if isinstance(arrivals, ModalityTransformer) else {}
        if not encoders or not all(isinstance(encoder, PrecomputedEncoder) for encoder in encoders.values()):
            raise TypeError("PartialRows takes the fusion part of split_model, which reads one vector per modality.")
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
        """Store the vector of a modality. A vector that arrives again replaces the earlier one.

        Parameters
        ----------
        id : hashable
            Id of the sample.
        modality : str
        vector : array of shape (n_dims,)
            A cell of the table that `EdgePart.transform` returned.
        recipe : str, optional
            The result of `EdgePart.digest`; see `check_recipe`.

        Returns
        -------
        list
            Id of the sample that was dropped for this one; usually empty.

        Raises
        ------
        ValueError
            If the modality is unknown or the recipe differs. If the vector has another length than in fit, or holds NaN
            or infinity. If heads are on the edge and the vector does not hold probabilities.
        TypeError
            If `vector` is not a vector of numbers.
        RuntimeError
            If there are `max_samples` samples and ``on_full="raise"``.
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
                        f"The store holds max_samples={self.max_samples} samples and has no room for {id!r}. Take "
                        'finished ones out with pop, pass a larger max_samples, or on_full="drop_oldest".'
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
        """Return class probabilities from the vectors that have arrived so far.

        Parameters
        ----------
        ids : sequence, optional
            By default all samples, in the order in which their first vectors came.

        Returns
        -------
        DataFrame of shape (n_ids, n_classes)
            One row per sample, one column per class.

        Raises
        ------
        KeyError
            If the store has no vector of a sample.
        """
        table = self._table(ids)
        return pd.DataFrame(self._ask("predict_proba", table), index=table.index, columns=self.fusion.classes_)

    def predict(self, ids: Iterable[Hashable] | None = None) -> pd.Series:
        """Return labels, or numbers in regression, from the vectors that have arrived so far; see `predict_proba`."""
        table = self._table(ids)
        return pd.Series(self._ask("predict", table), index=table.index)

    def _ask(self, method: str, table: pd.DataFrame) -> np.ndarray:
        said = getattr(self.fusion, method)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingModalityWarning)  # missing modalities are expected here
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
            raise KeyError(f"the store has no vector of sample {id!r}") from None

    def missing(self, id: Hashable) -> list[str]:
        """Return the modalities of a sample that have not arrived; raise `KeyError` if none has arrived."""
        with self._lock:
            held = self._row(id)
            return [name for name in self.modalities if name not in held]

    def complete(self, id: Hashable) -> bool:
        """Return whether all modalities of a sample have arrived; raise `KeyError` if none has arrived."""
        return not self.missing(id)

    def pop(self, id: Hashable) -> dict[str, np.ndarray]:
        """Remove a sample and return its vectors by modality; raise `KeyError` if none has arrived."""
        with self._lock:
            self._row(id)
            return self._rows.pop(id)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, id: Hashable) -> bool:
        return id in self._rows

    def __repr__(self) -> str:
        with self._lock:
            held = [set(row) for row in self._rows.values()]
        absent = {name: sum(name not in row for row in held) for name in self.modalities}
        waiting = ", ".join(f"{name} in {n}" for name, n in absent.items() if n)
        state = f"; waiting for {waiting}" if waiting else "; all complete" if held else ""
        return f"{type(self).__name__}({len(held)} of at most {self.max_samples} samples{state})"


def _column(cells: list[Any], index: pd.Index) -> pd.Series:
    values = np.full(len(cells), None, dtype=object)
    for i, cell in enumerate(cells):
        values[i] = cell
    return pd.Series(values, index=index, dtype=object)


def _one_empty(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({name: _column([None], pd.RangeIndex(1)) for name in names})
