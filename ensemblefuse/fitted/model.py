"""A fitted model taken apart: what encodes, what fuses, and how to hide a modality from it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.fusion import DecisionFusionClassifier, DecisionFusionRegressor
from ensemblefuse.fusion.base import BaseFusion
from ensemblefuse.scoring.inputs import finite_numbers, one_a_row
from ensemblefuse.table import to_frame

__all__ = ["ModelParts", "replace_columns"]


class ModelParts:
    """A fitted pipeline of encoders and a fusion estimator, or a fitted fusion estimator alone.

    Parameters
    ----------
    model : fitted Pipeline that ends in a fusion estimator, fitted fusion estimator, or fitted search over these

    Attributes
    ----------
    model : fitted Pipeline or fusion estimator
        The best one of a search.
    fusion : fitted fusion estimator
        The last step.
    core : fitted fusion estimator
        What a search or a conformal wrapper chose or holds; `fusion` otherwise.
    names : list of str
        Modalities, in the order of their blocks.
    columns : dict of str to list of str
        Columns of the raw table that each modality reads; empty without encoders.
    classify : bool
    classes : ndarray of shape (n_classes,), or None in regression

    Raises
    ------
    TypeError
        If the model does not end in a fusion estimator.
    NotFittedError
        If it is not fitted.
    """

    def __init__(self, model: Any):
        if not isinstance(model, (BaseFusion, Pipeline)) and hasattr(model, "estimator"):
            check_is_fitted(model, "best_estimator_")  # of a search of scikit-learn's
            model = model.best_estimator_
        self.model = model
        self.fusion = model[-1] if isinstance(model, Pipeline) else model
        if not isinstance(self.fusion, BaseFusion):
            raise TypeError(
                "model must be a fusion estimator such as DecisionFusionClassifier(), or a pipeline that ends in one, "
                f"as make_fusion_pipeline makes; got {type(self.fusion).__name__}."
            )
        check_is_fitted(self.fusion)
        self.core = self.fusion
        while hasattr(self.core, "fusion_") or hasattr(self.core, "best_estimator_"):
            self.core = self.core.fusion_ if hasattr(self.core, "fusion_") else self.core.best_estimator_
        self.names = list(self.core._used_blocks() if hasattr(self.core, "_used_blocks") else self.core.blocks_)
        self.classify = is_classifier(self.fusion)
        self.classes: np.ndarray | None = self.fusion.classes_ if self.classify else None
        self.columns = self._columns()

    def _columns(self) -> dict[str, list[str]]:
        steps = [step for _, step in self.model.steps] if isinstance(self.model, Pipeline) else []
        found = {}
        for step in steps:
            for name, _, columns in step.transformers if isinstance(step, ColumnTransformer) else []:
                columns = [columns] if isinstance(columns, str) else columns
                if name in self.names and isinstance(columns, list) and all(isinstance(c, str) for c in columns):
                    found[name] = columns
        return found

    @property
    def has_ledger(self) -> bool:
        """Whether the model keeps out-of-fold predictions of each modality."""
        return isinstance(self.core, (DecisionFusionClassifier, DecisionFusionRegressor)) and hasattr(self.core, "_oof")

    def encode(self, X: Any) -> Any:
        """What the fusion sees of raw rows: embeddings come from the cache where it has them."""
        if not isinstance(self.model, Pipeline):
            return X if isinstance(X, np.ndarray) else to_frame(X)
        return self.model[:-1].transform(X)

    def predict(self, Z: Any) -> np.ndarray:
        """Probabilities of shape (n_samples, n_classes), or numbers of shape (n_samples,), for encoded rows.

        Warnings about missing modalities are not shown: who asks this hid them.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingModalityWarning)
            if not self.classify:
                return np.asarray(self.fusion.predict(Z), dtype=float)
            if not hasattr(self.fusion, "predict_proba"):
                raise ValueError(
                    f"{type(self.fusion).__name__} with this estimator has no predict_proba, which is needed here; "
                    "take DecisionFusionClassifier, or an estimator with probabilities."
                )
            return np.asarray(self.fusion.predict_proba(Z), dtype=float)

    def predict_with(self, Z: Any, keep: np.ndarray) -> np.ndarray:
        """Predictions for encoded rows of which only some modalities are shown.

        A joint member that takes part in the whole row takes part in what is left of it, too, and sees means in place
        of what is hidden. Were it to leave with the first modality that is hidden, whichever that is, all that it
        knows would count for each of them.

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
        """Which modalities each encoded row holds: shape (n_modalities, n_samples), dtype bool."""
        blocks = self.core._read(Z, reset=False)
        return np.array([blocks.present[blocks.names.index(name)] for name in self.names])

    def hide(self, Z: Any, keep: np.ndarray) -> Any:
        """A copy of encoded rows that holds only some modalities.

        Parameters
        ----------
        Z : DataFrame or ndarray of shape (n_samples, n_features)
        keep : ndarray of shape (n_modalities, n_samples), dtype bool
        """
        table = Z.copy() if isinstance(Z, pd.DataFrame) else np.array(Z, dtype=float)
        for name, kept in zip(self.names, keep, strict=True):
            positions = self.core.blocks_[name]
            if kept.all():
                continue
            if isinstance(table, np.ndarray):
                table[np.ix_(~kept, positions)] = np.nan
            else:
                block = table.iloc[:, positions]
                table = replace_columns(table, positions, block.mask(np.broadcast_to(~kept[:, None], block.shape)))
        return table

    def encode_labels(self, y: Any) -> np.ndarray:
        """`y` as positions in ``classes``, or as numbers in regression.

        Raises
        ------
        ValueError
            If a value is missing, a label none of the model's classes, or a number of regression none or infinite.
        """
        y = one_a_row(y)
        if self.classes is None:
            return finite_numbers(y)
        place = {label: i for i, label in enumerate(self.classes.tolist())}
        unknown = sorted({label for label in y.tolist() if label not in place}, key=str)
        if unknown:
            raise ValueError(f"y holds {unknown[:5]}, which the model never saw; it knows {self.classes.tolist()}.")
        return np.array([place[label] for label in y.tolist()])


def replace_columns(table: pd.DataFrame, positions: np.ndarray, block: pd.DataFrame) -> pd.DataFrame:
    """A table with a block in place of the columns at these positions, whatever its dtypes; names and index stay.

    All columns at once: one by one, the two thousand of an embedding take a second.
    """
    rest = np.setdiff1d(np.arange(table.shape[1]), positions)
    block = block.set_axis(table.index, axis=0).set_axis(table.columns[positions], axis=1)
    return pd.concat([table.iloc[:, rest], block], axis=1).iloc[:, np.argsort([*rest, *positions])]
