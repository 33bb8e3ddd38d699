"""Access to the parts of a fitted model: what encodes, what fuses, and how to hide a modality from it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ensemblefuse.blocks import SEPARATOR
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.fusion import DecisionFusionClassifier, DecisionFusionRegressor
from ensemblefuse.fusion.base import BaseFusion
from ensemblefuse.modalities import Modality, columns_of, policies_of, reads_files
from ensemblefuse.schema import CellPolicy, read_or_raise, schema_of, warn_of_far_numbers
from ensemblefuse.scoring.inputs import finite_numbers, one_a_row
from ensemblefuse.table import list_columns, to_frame

__all__ = [
    "FittedModel",
    "FittedPipeline",
    "best_model",
    "column_transformer_of",
    "core_of",
    "is_search",
    "modalities_of",
    "replace_columns",
    "targets_of",
]


class FittedPipeline:
    """A fitted model with access to the raw table that it reads, whatever predicts at its end.

    Parameters
    ----------
    model : fitted Pipeline, fitted estimator, or fitted search over these

    Attributes
    ----------
    model : fitted Pipeline or estimator
        For a search, its best estimator.
    fusion : fitted estimator
        The last step.
    core : fitted estimator
        The fusion that a `FusionSearchCV` chose or a conformal fusion holds; `fusion` otherwise.
    column_transformer : fitted ColumnTransformer, or None
        The step that reads the raw table.
    modalities : list of Modality
        Those of `column_transformer`, with fitted encoders. A fusion that encodes by itself, such as a cascade, has
        its encoders in `core`. Empty without a `column_transformer`.
    schema : dict of column to dict
        What each column of the raw table holds; see `ensemblefuse.schema`. Empty without a `column_transformer`.
    limits, ranges : dict of column to list of float
        From which numbers on others are far from those of fit; smallest number of fit, median and largest.
    """

    def __init__(self, model: Any):
        if is_search(model):
            check_is_fitted(model, "best_estimator_")
        self.model = best_model(model)
        self.fusion = self.model[-1] if isinstance(self.model, Pipeline) else self.model
        self.core = core_of(self.fusion)
        self.column_transformer = column_transformer_of(self.model)
        self.modalities = modalities_of(self.model)
        self.schema = schema_of(self.column_transformer)
        self.limits = getattr(self.column_transformer, "numeric_limits_", {})
        self.ranges = getattr(self.column_transformer, "numeric_summary_", {})

    @property
    def path_columns(self) -> list[str]:
        """Columns of the raw table whose texts are paths of files."""
        return columns_of(modality for modality in self.modalities if self.reads_files(modality.name))

    @property
    def encoders(self) -> list[BaseEncoder]:
        """All fitted encoders, anywhere in the model."""
        return [part for _, part in parts_of(self.model) if isinstance(part, BaseEncoder) and hasattr(part, "n_dims_")]

    def modality(self, name: str) -> Modality | None:
        """Return the modality of this name; None if no encoder reads it."""
        return next((modality for modality in self.modalities if modality.name == name), None)

    def modality_of(self, column: str) -> Modality | None:
        """Return the modality whose columns have this name in an `EncodingError`; None if there is none."""
        for modality in self.modalities:
            if column in (modality.column_name, f"{modality.name}{SEPARATOR}{modality.column_name}"):
                return modality
        return None

    def reads_files(self, name: str) -> bool:
        """Return whether the texts of a modality are paths of files.

        Raw cells reach the fusion, where the estimator of the block may hold an encoder. If a fusion does not show
        which estimator belongs to which block, any encoder in it counts.
        """
        modality = self.modality(name)
        if modality is None or modality.reads_files:
            return modality is not None
        if name not in getattr(self.core, "raw_blocks_", ()):
            return False
        given = self.core.get_params(deep=False) if hasattr(self.core, "get_params") else {}
        held = given.get("estimators", None if "encoders" in given else self.core)
        return reads_files(held.get(name) if isinstance(held, Mapping) else held)

    def read(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return a raw table with the cells in the form that they had in fit; see `ensemblefuse.schema`."""
        X = read_or_raise(X, self.schema, policies=self.policies)
        warn_of_far_numbers(X, self.limits, self.ranges)
        return X

    def policies(self) -> dict[Any, CellPolicy]:
        """Return what becomes of unreadable cells, for the columns of which a parameter says so."""
        return policies_of(self.column_transformer, self.schema)

    def encode(self, X: Any) -> Any:
        """Return raw rows as the last step takes them; embeddings come from the cache if it has them."""
        if not isinstance(self.model, Pipeline):
            return X if isinstance(X, np.ndarray) else to_frame(X)
        return self.model[:-1].transform(X)


class FittedModel(FittedPipeline):
    """A fitted model with access to its modalities, encoders and columns, and to predictions from encoded rows.

    Parameters
    ----------
    model : fitted Pipeline that ends in a fusion estimator, fitted fusion estimator, or fitted search over these
    several : bool
        Whether a model of several targets is taken.

    Attributes
    ----------
    model, fusion, core, column_transformer, modalities, schema
        As in `FittedPipeline`; `fusion` and `core` are fusion estimators.
    names : list of str
        Modalities, in the order of their blocks.
    columns : dict of str to list of str
        Columns of the raw table that each modality reads; empty without encoders.
    classify : bool
    classes : ndarray of shape (n_classes,), or None in regression

    Raises
    ------
    TypeError
        If the model does not end in a fusion estimator, or predicts several targets and these are not taken.
    NotFittedError
        If it is not fitted.
    """

    def __init__(self, model: Any, *, several: bool = False):
        super().__init__(model)
        if not isinstance(self.fusion, BaseFusion):
            raise TypeError(
                "model must be a fusion estimator such as DecisionFusionClassifier(), or a pipeline that ends in one, "
                f"as make_fusion_pipeline makes; got {type(self.fusion).__name__}."
            )
        check_is_fitted(self.fusion)
        targets = [name for name in targets_of(self.fusion) if name is not None]
        if targets and not several:
            held = "model.best_estimator_" if is_search(model) else "model"
            raise TypeError(
                f"the {type(self.fusion).__name__} predicts the targets {targets}, and only one can be looked at here; "
                f"pass {held}.single_task({targets[0]!r}), and that column as y."
            )
        self.names = list(self.core._used_blocks() if hasattr(self.core, "_used_blocks") else self.core.blocks_)
        self.classify = is_classifier(self.fusion)
        self.classes: np.ndarray | None = self.fusion.classes_ if self.classify else None
        self.columns = {
            modality.name: columns
            for modality in self.modalities
            for columns in [list_columns(modality.columns)]
            if modality.name in self.names and all(isinstance(column, str) for column in columns)
        }

    def check_modality(self, name: Any) -> None:
        """Raise `ValueError` if the model has no modality of this name."""
        if name not in self.names:
            raise ValueError(f"the model has no modality {name!r}; it has {self.names}.")

    # ------------------------------------------------------------------ encoded rows

    @property
    def has_ledger(self) -> bool:
        """Whether the model keeps out-of-fold predictions of each modality."""
        return isinstance(self.core, (DecisionFusionClassifier, DecisionFusionRegressor)) and hasattr(self.core, "_oof")

    def predict(self, Z: Any) -> np.ndarray:
        """Return probabilities of shape (n_samples, n_classes), or numbers of shape (n_samples,), for encoded rows.

        Warnings about missing modalities are not shown: the caller has hidden these on purpose.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingModalityWarning)
            if not self.classify:
                return np.asarray(self.fusion.predict(Z), dtype=float)
            if not hasattr(self.fusion, "predict_proba"):
                raise ValueError(
                    f"{type(self.fusion).__name__} with this estimator has no predict_proba, which is needed here; "
                    "use DecisionFusionClassifier, or an estimator with predict_proba."
                )
            return np.asarray(self.fusion.predict_proba(Z), dtype=float)

    def predict_with(self, Z: Any, keep: np.ndarray) -> np.ndarray:
        """Return predictions for encoded rows of which only some modalities are shown.

        A joint member that takes part in the whole row also takes part in the rest of it, and sees means in place of
        hidden values. If it left as soon as any modality is hidden, everything that it knows would be counted for each
        modality.

        Parameters
        ----------
        Z : DataFrame or ndarray of shape (n_samples, n_features)
        keep : ndarray of shape (n_modalities, n_samples), dtype bool
        """
        hidden = self.hide(Z, keep)
        if not self.has_joint:
            return self.predict(hidden)
        core: Any = self.core
        blocks = core._read(Z, reset=False)
        kept = self.present(Z) & keep
        joint = [self.names.index(name) for name in core._joint_blocks()]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingModalityWarning)
            return np.asarray(core._fuse(*core._outputs(hidden, core._joint_rows(blocks) & kept[joint].any(axis=0))))

    @property
    def has_joint(self) -> bool:
        """Whether a member of a decision-level fusion sees all modalities side by side."""
        return self.has_ledger and any(map(self.core._is_joint, self.core.member_blocks_))

    def present(self, Z: Any) -> np.ndarray:
        """Return which modalities each encoded row holds: shape (n_modalities, n_samples), dtype bool."""
        blocks = self.core._read(Z, reset=False)
        return np.array([blocks.present[blocks.names.index(name)] for name in self.names])

    def hide(self, Z: Any, keep: np.ndarray) -> Any:
        """Return a copy of encoded rows that holds only some modalities.

        Parameters
        ----------
        Z : DataFrame or ndarray of shape (n_samples, n_features)
        keep : ndarray of shape (n_modalities, n_samples), dtype bool
        """
        table = Z.copy() if isinstance(Z, pd.DataFrame) else np.array(Z, dtype=float)
        for name, kept in zip(self.names, keep, strict=True):
            positions = self.positions(name)
            if kept.all():
                continue
            if isinstance(table, np.ndarray):
                table[np.ix_(~kept, positions)] = np.nan
            else:
                block = table.iloc[:, positions]
                table = replace_columns(table, positions, block.mask(np.broadcast_to(~kept[:, None], block.shape)))
        return table

    def positions(self, name: str) -> np.ndarray:
        """Return the positions of all columns of a modality in the encoded table: its numbers, and its texts if any."""
        columns, words = self.core.blocks_[name], getattr(self.core, "word_columns_", {})
        return np.append(columns, words[name]) if name in words else columns

    def encode_labels(self, y: Any) -> np.ndarray:
        """Return `y` as positions in ``classes``, or as numbers in regression.

        Raises
        ------
        ValueError
            If a value is missing or a label is not one of the model's classes. In regression, if a value is not a
            finite number.
        """
        y = one_a_row(y)
        if self.classes is None:
            return finite_numbers(y)
        place = {label: i for i, label in enumerate(self.classes.tolist())}
        unknown = sorted({label for label in y.tolist() if label not in place}, key=str)
        if unknown:
            raise ValueError(f"y holds {unknown[:5]}, which the model never saw; it knows {self.classes.tolist()}.")
        return np.array([place[label] for label in y.tolist()])


def targets_of(fusion: Any) -> dict[Any, np.ndarray | None]:
    """Return the labels of each target that a fitted fusion predicts, None for a target of numbers.

    The only target of a fusion has no name: its key is None.
    """
    tasks = getattr(fusion, "tasks_", None)
    if tasks is None:
        return {None: getattr(fusion, "classes_", None)}
    return {name: fusion.classes_.get(name) for name in tasks}


def is_search(model: Any) -> bool:
    """Return whether a model is one of scikit-learn's searches; `FusionSearchCV` is not, it is a fusion."""
    return not isinstance(model, (BaseFusion, Pipeline)) and hasattr(model, "estimator")


def best_model(model: Any) -> Any:
    """Return the best estimator of one of scikit-learn's searches; any other model unchanged."""
    return getattr(model, "best_estimator_", model) if is_search(model) else model


def core_of(fusion: Any) -> Any:
    """Return the fusion that a `FusionSearchCV` chose or a conformal fusion holds; any other fusion unchanged."""
    while hasattr(fusion, "fusion_") or hasattr(fusion, "best_estimator_"):
        fusion = fusion.fusion_ if hasattr(fusion, "fusion_") else fusion.best_estimator_
    return fusion


def column_transformer_of(model: Any) -> ColumnTransformer | None:
    """Return the step of a fitted pipeline that reads the raw table; None if it has none."""
    steps = [step for _, step in model.steps] if isinstance(model, Pipeline) else []
    found = (step for step in steps if isinstance(step, ColumnTransformer) and hasattr(step, "transformers_"))
    return next(found, None)


def modalities_of(model: Any) -> list[Modality]:
    """Return the modalities of a fitted pipeline, with fitted encoders; empty without a step that reads the raw table.

    Parameters
    ----------
    model : fitted estimator
        Any estimator; a pipeline of `make_fusion_pipeline` has modalities.
    """
    encode = column_transformer_of(model)
    if encode is None:
        return []
    names = {n for n, t, _ in encode.transformers if not (isinstance(t, str) and t == "drop")}
    # A bare name is one column, which the fitted transformer has as a list.
    given = {name: columns for name, _, columns in encode.transformers if isinstance(columns, str)}
    core = core_of(model[-1])
    # If no row of fit held a block, its encoder is not fitted.
    own = {**(getattr(core, "encoders", None) or {}), **getattr(core, "encoders_", {})}
    return [
        Modality(name, own.get(name, transformer), given.get(name, columns))
        for name, transformer, columns in encode.transformers_
        if name in names
    ]


def replace_columns(table: pd.DataFrame, positions: np.ndarray, block: pd.DataFrame) -> pd.DataFrame:
    """Return a table with a block in place of the columns at these positions, of any dtypes; names and index stay.

    All columns are replaced at once: one by one, the two thousand columns of an embedding take a second.
    """
    rest = np.setdiff1d(np.arange(table.shape[1]), positions)
    block = block.set_axis(table.index, axis=0).set_axis(table.columns[positions], axis=1)
    return pd.concat([table.iloc[:, rest], block], axis=1).iloc[:, np.argsort([*rest, *positions])]
