"""The facts in a model card: the model, its manifest, its weights, the rows that score it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ensemblefuse.evaluation import ModelEvaluation, evaluate_model
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fitted.subsets import SubsetPredictions, predict_subsets
from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.persistence import inspect_model, load_model
from ensemblefuse.persistence.bundled_weights import describe_weights, sources_of
from ensemblefuse.persistence.known_types import trusted_names, type_name
from ensemblefuse.persistence.manifest import describe
from ensemblefuse.report._evidence import Evidence, looks_trained_on
from ensemblefuse.report._page import Unavailable

__all__ = ["CardFacts"]

_ALL_SUBSETS = 4  # for up to this many modalities all combinations are listed: 15


class CardFacts:
    """A model or a model file, and the rows that score it.

    Attributes
    ----------
    path : Path or None
        The file, if there is one.
    model : fitted model
    parts : FittedModel
    manifest : dict
        The manifest of the file, or of a model that is not saved.
    evidence : Evidence or None
        Rows that are new to the model.
    groups : ndarray of shape (n_samples,), or None
    trusted : list of str
        Types that must be passed to `load_model` as ``trusted``.
    """

    def __init__(self, model: Any, X: Any, y: Any, *, groups: Any, trusted: Iterable[str | type] | str | type):
        if (X is None) != (y is None):
            raise ValueError("X and y belong together: give both, or neither for the out-of-fold predictions of fit.")
        self.path = Path(model) if isinstance(model, (str, Path)) else None
        self.trusted = sorted(trusted_names(trusted))
        self.model = model if self.path is None else load_model(self.path, trusted=self.trusted)
        self.parts = FittedModel(self.model)
        self.groups = groups
        self.evidence = (
            None if X is None else Evidence(self.model, X, y, trained_on=False, groups=groups, random_state=0)
        )

    @cached_property
    def manifest(self) -> dict[str, Any]:
        if self.path is not None:
            return inspect_model(self.path)
        return describe(self.model, {type_name(type(part)) for _, part in parts_of(self.model)})

    @cached_property
    def weights(self) -> list[dict[str, Any]]:
        """Weights of the encoders' networks: those that the file names, or that the encoders read now."""
        if self.path is not None:
            return list(self.manifest.get("weights") or ())
        return describe_weights(sources_of(self.model, strict=False))

    # ------------------------------------------------------------------ rows

    @property
    def present_in_fit(self) -> np.ndarray | None:
        """Which modalities the rows of fit held: shape (n_modalities, n_samples), dtype bool."""
        return np.asarray(self.parts.core._oof["present"], dtype=bool) if self.parts.has_ledger else None

    @property
    def target_in_fit(self) -> np.ndarray | None:
        """Class codes, or numbers, of the rows of fit."""
        return np.asarray(self.parts.core._oof["y"]) if self.parts.has_ledger else None

    @property
    def class_names(self) -> list[str]:
        return [] if self.parts.classes is None else [str(label) for label in self.parts.classes.tolist()]

    @property
    def looks_trained_on(self) -> bool:
        """Whether rows that were given as new have the labels of the rows of fit, in the same order."""
        return self.evidence is not None and looks_trained_on(self.evidence)

    # ------------------------------------------------------------------ scores

    @cached_property
    def evaluation(self) -> ModelEvaluation:
        """Scores with intervals, on the new rows or out of fold.

        Raises
        ------
        Unavailable
            If there are neither new rows nor out-of-fold predictions.
        """
        if self.evidence is not None:
            _ = self.evidence.said  # raises with the reason if these rows have no scores
            return self.evidence.evaluation
        try:
            return evaluate_model(self.model, groups=self.groups)
        except ValueError as error:
            if self.parts.has_ledger:
                raise  # groups of another length
            raise Unavailable(
                f"{type(self.parts.core).__name__} keeps no out-of-fold predictions with their target. Pass `X` and "
                "`y`: rows that the model was not fitted on."
            ) from error

    @cached_property
    def subsets(self) -> SubsetPredictions:
        """Predictions of the model with some of its modalities.

        Raises
        ------
        Unavailable
            If the model has only one modality, or there are neither new rows nor out-of-fold predictions.
        """
        names = self.parts.names
        if len(names) < 2:
            raise Unavailable(f"the model has one modality, {names[0]}; without it, all rows get the same prediction.")
        subsets = _subsets(names)
        if self.evidence is not None:
            _ = self.evidence.said
            rows = {"X": self.evidence.Z, "y": self.evidence.y}
            return predict_subsets(self.parts.fusion, subsets, **rows, method="predict", as_deployed=True)
        if not self.parts.has_ledger:
            raise Unavailable(
                f"{type(self.parts.core).__name__} keeps no out-of-fold predictions of its modalities. Pass `X` and "
                "`y`: rows that the model was not fitted on."
            )
        return predict_subsets(self.model, subsets, method="ledger", as_deployed=True)


def _subsets(names: list[str]) -> list[tuple[str, ...]]:
    """Return all subsets except the empty one, the largest first; of many names only all, all but one, and single."""
    if len(names) <= _ALL_SUBSETS:
        codes = sorted(range(1, 2 ** len(names)), key=lambda code: (-code.bit_count(), code))
        return [tuple(name for i, name in enumerate(names) if code >> i & 1) for code in codes]
    without = [tuple(other for other in names if other != name) for name in names]
    return [tuple(names), *without, *[(name,) for name in names]]
