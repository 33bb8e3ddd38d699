"""Predictions of a model with only some of its modalities: from its ledger, by hiding the others, or by refitting."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from ensemblefuse.blocks import SEPARATOR, WORDS
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fusion.joint import JOINT
from ensemblefuse.fusion.members import take_rows
from ensemblefuse.fusion.patterns import oof_predictions
from ensemblefuse.fusion.splits import make_splits, mean_over_folds, quiet_about_groups
from ensemblefuse.scoring.bootstrap import Resampling
from ensemblefuse.scoring.inputs import one_a_row, read_groups
from ensemblefuse.scoring.metrics import METRICS, default_metric, row_values
from ensemblefuse.table import to_frame

__all__ = ["SubsetPredictions", "all_subsets", "groups_for", "predict_subsets"]

METHODS = ("auto", "ledger", "predict", "refit")
_MOST = 8


@dataclass
class SubsetPredictions:
    """Predictions for the same rows with each of several subsets of the modalities.

    Attributes
    ----------
    names : list of str
        All modalities of the model.
    subsets : list of tuple of str
    predictions : ndarray of shape (n_subsets, n_rows, n_classes), or (n_subsets, n_rows) in regression
    y : ndarray of shape (n_rows,)
        Class codes, or numbers.
    rows : ndarray of int
        Positions of these rows among those of fit, or of `X`: rows without a prediction are left out.
    present : ndarray of shape (n_modalities, n_rows), dtype bool
    sample_weight : ndarray of shape (n_rows,), or None
    classes : ndarray, or None in regression
    method : {"ledger", "predict", "refit"}
    n_fits : int
        Number of models that were fitted.
    notes : list of str
    whole : ndarray of shape (n_rows, n_classes) or (n_rows,), or None
        Predictions of the unchanged model, if those of the subsets leave out its joint member.
    joint_gain : tuple of float, or None
        In that case, what the joint member adds to all modalities together: mean and 95 % interval in the default
        metric.
    """

    names: list[str]
    subsets: list[tuple[str, ...]]
    predictions: np.ndarray
    y: np.ndarray
    rows: np.ndarray
    present: np.ndarray
    sample_weight: np.ndarray | None
    classes: np.ndarray | None
    method: str
    n_fits: int = 0
    notes: list[str] = field(default_factory=list)
    whole: np.ndarray | None = None
    joint_gain: tuple[float, float, float] | None = None

    @property
    def deployed(self) -> np.ndarray:
        """Predictions of the unchanged model, with all modalities that the rows hold."""
        return self.of(self.names) if self.whole is None else self.whole

    def of(self, subset: Sequence[str]) -> np.ndarray:
        """Return the predictions with this subset."""
        wanted = set(subset)
        return self.predictions[[set(s) for s in self.subsets].index(wanted)]


def all_subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return every subset, the empty one first and the full one last.

    Raises
    ------
    ValueError
        If there are more than 8 names.
    """
    if len(names) > _MOST:
        raise ValueError(
            f"the model has {len(names)} modalities and so {2 ** len(names)} subsets; at most {_MOST} modalities are "
            "supported."
        )
    return [subset for size in range(len(names) + 1) for subset in combinations(names, size)]


def predict_subsets(
    model: Any,
    subsets: Sequence[Sequence[str]],
    X: Any = None,
    y: Any = None,
    *,
    method: str = "auto",
    cv: Any = 5,
    groups: Any = None,
    as_deployed: bool = False,
    resampling: Resampling | None = None,
) -> SubsetPredictions:
    """Return the predictions of a fitted model for the same rows with each of these subsets of its modalities.

    Parameters
    ----------
    model : fitted model
        See `FittedModel`.
    subsets : list of lists of str
        The empty subset stands for no information: it predicts the class frequencies, or the mean.
    X : DataFrame of n_samples rows, optional
        Rows that the model was not fitted on for ``"predict"``; the rows of fit for ``"refit"``.
    y : array of shape (n_samples,), optional
    method : {"auto", "ledger", "predict", "refit"}
        ``"ledger"``: the out-of-fold predictions that the model keeps; nothing is fitted, decision-level fusion only.
        ``"predict"``: the other modalities are hidden from the fitted model. ``"refit"``: cross-validation of a clone
        for each subset, the most faithful answer, at ``len(subsets)`` times `cv` fits. ``"auto"``: predict if `X` is
        given, else ledger.
    cv : int, splitter or iterable
        For ``"refit"``; as in `compare_models`.
    groups : array of shape (n_samples,), optional
        Rows of one group stay on one side of a split (``"refit"``), and are drawn together for the interval of what the
        joint member adds (``"ledger"``).
    as_deployed : bool
        Whether to predict as for rows that really lack the other modalities: the joint member leaves with them. By
        default all subsets treat the joint member alike: all include it (``"predict"``), or none does if the ledger has
        it for whole rows only.
    resampling : Resampling, optional
        Number of resamples, level and seed of that interval; 1000, 0.95 and 0 by default.

    Returns
    -------
    SubsetPredictions

    Raises
    ------
    ValueError
        If an argument that the method needs is not given.
    """
    parts = FittedModel(model)
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}; got {method!r}.")
    chosen = [tuple(name for name in parts.names if name in set(subset)) for subset in _known(subsets, parts)]
    if method == "auto":
        method = "ledger" if X is None else "predict"
    if method == "ledger":
        if X is not None or y is not None:
            raise ValueError('method="ledger" is about the rows of fit and takes no X and y; leave them out.')
        return _from_ledger(parts, chosen, as_deployed, groups, resampling or Resampling())
    if X is None or y is None:
        raise ValueError(f'method="{method}" needs X and y.')
    X = X if isinstance(X, np.ndarray) else to_frame(X)
    if len(X) != len(np.asarray(y)):
        raise ValueError(f"X has {len(X)} rows and y has {len(np.asarray(y))}.")
    codes = parts.encode_labels(y)
    if method == "predict":
        return _by_hiding(parts, chosen, X, codes, as_deployed)
    return _by_fitting(parts, chosen, X, np.asarray(y), codes, cv, groups)


def _known(subsets: Sequence[Sequence[str]], parts: FittedModel) -> Sequence[Sequence[str]]:
    unknown = sorted({name for subset in subsets for name in subset} - set(parts.names))
    if unknown:
        raise ValueError(f"the model has no modality {unknown}; it has {parts.names}.")
    return subsets


def _from_ledger(
    parts: FittedModel, subsets: list[tuple[str, ...]], as_deployed: bool, groups: Any, resampling: Resampling
) -> SubsetPredictions:
    if not parts.has_ledger:
        raise ValueError(
            f"{type(parts.core).__name__} keeps no out-of-fold predictions of single modalities, as decision-level "
            'fusion does. Give X and y: rows that the model was not fitted on (method="predict"), or the rows of fit '
            '(method="refit").'
        )
    oof = parts.core._oof
    keep = _masks(parts, subsets, len(oof["y"]))
    # The ledger has the joint member for whole rows only. Subsets with and without it cannot be compared: its gain
    # would be counted for any modality that is left out.
    leave = parts.has_joint and len(parts.names) > 2 and not as_deployed
    predictions = np.stack([oof_predictions(parts.core, mask, joint=not leave) for mask in keep])
    notes = _notes_of_ledger(parts)
    said = _kept(parts, subsets, predictions, oof["y"], oof["present"], oof["sample_weight"], "ledger", 0, notes)
    if leave:
        everything = np.ones((len(parts.names), len(oof["y"])), dtype=bool)
        said.whole = oof_predictions(parts.core, everything)[said.rows]
        units = None if groups is None else np.asarray(groups)[said.rows]
        # Draws of a RandomState are left to the caller.
        seed = resampling.seed if isinstance(resampling.seed, (int, np.integer)) else 0
        settings = replace(resampling, seed=seed, groups=units, sample_weight=said.sample_weight)
        said.joint_gain = _joint_gain(parts, said, settings)
        gain, low, high = said.joint_gain
        said.notes.append(
            "The joint member is left out: the ledger has it for whole rows only. It adds "
            f"{gain:.3f} ({low:.3f} to {high:.3f}) {METRICS[default_metric(parts.classify)].unit} to all modalities "
            "together. To divide that gain among modalities, use modality_ablation or modality_shapley with "
            'method="refit", which fits the joint member for each subset.'
        )
    return said


def _masks(parts: FittedModel, subsets: list[tuple[str, ...]], n_rows: int) -> list[np.ndarray]:
    """Return which modalities each subset keeps, for all rows."""
    return [np.repeat(np.array([[name in subset] for name in parts.names]), n_rows, axis=1) for subset in subsets]


def _joint_gain(parts: FittedModel, said: SubsetPredictions, resampling: Resampling) -> tuple[float, float, float]:
    """Return what the joint member adds to the score, with a bootstrap interval."""
    keep = _masks(parts, [tuple(parts.names)], len(parts.core._oof["y"]))[0]
    without = oof_predictions(parts.core, keep, joint=False)[said.rows]
    metric = default_metric(parts.classify)
    assert said.whole is not None
    gain = row_values(said.whole, said.y, metric) - row_values(without, said.y, metric)
    low, high = resampling.interval(gain[:, None])
    return float(np.average(gain, weights=said.sample_weight)), float(low[0]), float(high[0])


def _notes_of_ledger(parts: FittedModel) -> list[str]:
    notes = []
    if parts.core._oof["sample_weight"] is not None:
        notes.append("Rows are weighted with their sample_weight in fit.")
    if hasattr(parts.fusion, "best_estimator_"):
        notes.append("The model was chosen among others on these rows, so its scores are optimistic.")
    return notes


def _by_hiding(
    parts: FittedModel, subsets: list[tuple[str, ...]], X: Any, codes: np.ndarray, as_deployed: bool
) -> SubsetPredictions:
    Z = parts.encode(X)
    present = parts.present(Z)
    masks = _masks(parts, subsets, len(codes))
    if as_deployed:
        predictions = np.stack([parts.predict(parts.hide(Z, mask)) for mask in masks])
    else:
        predictions = np.stack([parts.predict_with(Z, mask) for mask in masks])
    return _kept(parts, subsets, predictions, codes, present, None, "predict", 0, _notes_of_rows(parts, codes))


def _notes_of_rows(parts: FittedModel, codes: np.ndarray) -> list[str]:
    """Return the note that rows must be new, or that they are probably not, if their labels are those of fit."""
    if parts.has_ledger and np.array_equal(codes, parts.core._oof["y"]):
        return [
            "The labels equal those of the rows of fit, in the same order: if these are the same rows, the model was "
            "fitted on them, and the figures are too good. Without X and y the figures are out of fold."
        ]
    return ["X must be new to the model: rows that it was fitted on make it look better than it is."]


def _by_fitting(parts, subsets, X, y, codes, cv, groups) -> SubsetPredictions:
    splits = make_splits(cv, codes, groups, classify=parts.classify)
    present = parts.present(parts.encode(X))
    n_classes = len(parts.classes) if parts.classify else 0
    predictions, n_fits = [], 0
    for subset in subsets:
        filled = []
        for train, test in splits:
            if subset:
                filled.append((test, _fit_predict(parts, subset, X, y, train, test, groups)))
                n_fits += 1
            else:
                filled.append((test, _prior(codes[train], len(test), n_classes)))
        predictions.append(mean_over_folds(filled, len(codes), n_classes))
    notes = [f"{n_fits} models were fitted: {len(splits)} folds of {sum(map(bool, subsets))} subsets."]
    if parts.has_ledger and parts.core._oof["sample_weight"] is not None:
        notes.append("The model was fitted with sample_weight; these fits and scores are without.")
    return _kept(parts, subsets, np.stack(predictions), codes, present, None, "refit", n_fits, notes)


def _prior(codes: np.ndarray, n_rows: int, n_classes: int) -> np.ndarray:
    if not n_classes:
        return np.full(n_rows, codes.mean())
    return np.tile(np.bincount(codes, minlength=n_classes) / len(codes), (n_rows, 1))


def _fit_predict(parts: FittedModel, subset: tuple[str, ...], X: Any, y: np.ndarray, train, test, groups) -> np.ndarray:
    """Return predictions for test rows by a clone that has only this subset and is fitted on the training rows."""
    fusion = clone(parts.core).set_params(**_fewer(parts.core, subset))  # for a search, the fusion that it chose
    with config_context(enable_metadata_routing=False), quiet_about_groups():
        if isinstance(parts.model, Pipeline):
            model, name = clone(parts.model), parts.model.steps[-1][0]
            model.set_params(**{name: fusion})
            _drop(model, set(parts.names) - set(subset))
        else:
            model, name, X = fusion, "", _named_table(parts, X)
            X = X[[column for column in X.columns if column.split(SEPARATOR, 1)[0] in subset]]
        takes = groups is not None and "groups" in inspect.signature(fusion.fit).parameters
        key = f"{name}__groups" if name else "groups"
        model.fit(take_rows(X, train), y[train], **({key: np.asarray(groups)[train]} if takes else {}))
    fitted = FittedModel(model)
    said = fitted.predict(fitted.encode(take_rows(X, test)))
    if not parts.classify:
        return said
    assert parts.classes is not None and fitted.classes is not None
    out = np.zeros((len(test), len(parts.classes)))
    out[:, np.searchsorted(parts.classes, fitted.classes)] = said
    return out


def _fewer(fusion: Any, subset: tuple[str, ...]) -> dict[str, Any]:
    """Return the parameters of the fusion that name modalities, cut down to the subset."""
    known = {JOINT, *getattr(fusion, "blocks_", {}), *(fusion.get_params(deep=False).get("blocks") or {})}
    changed: dict[str, Any] = {}
    for key, value in fusion.get_params(deep=False).items():
        if isinstance(value, Mapping) and value and set(value) <= known:
            changed[key] = {name: part for name, part in value.items() if name in subset or name == JOINT}
    if "blocks" in changed:
        changed["blocks"] = None  # the column names of the table now contain the block
    return changed


def _drop(model: Pipeline, names: set[str]) -> None:
    dropped = set()
    for _, step in model.steps[:-1]:
        given = names & {name for name, _, _ in getattr(step, "transformers", [])}
        step.set_params(**{name: "drop" for name in given})
        dropped |= given
    if dropped != names:
        raise ValueError(
            f'method="refit" cannot leave out {sorted(names - dropped)}: no step of the pipeline has a transformer of '
            "that name. Pass a pipeline of make_fusion_pipeline, or a fusion estimator alone."
        )


def _named_table(parts: FittedModel, X: Any) -> pd.DataFrame:
    """Return a table whose column names contain their blocks, whatever `blocks=` is."""
    frame = pd.DataFrame(X) if isinstance(X, np.ndarray) else X
    columns = {}
    for name in parts.names:
        for i, position in enumerate(parts.core.blocks_[name]):
            columns[f"{name}{SEPARATOR}{i}"] = frame.iloc[:, position]
        if name in parts.core.word_columns_:
            columns[f"{name}{SEPARATOR}{WORDS}"] = frame.iloc[:, parts.core.word_columns_[name]]
    return pd.DataFrame(columns)


def _kept(parts, subsets, predictions, y, present, weight, method, n_fits, notes) -> SubsetPredictions:
    flat = predictions if predictions.ndim == 2 else predictions[..., 0]
    rows = np.isfinite(flat).all(axis=0)
    if weight is not None:
        rows &= weight > 0
    left = int((~rows).sum())
    if not rows.any():
        raise ValueError(
            "no row has a prediction with every subset: the splits have no test rows, or every weight is 0."
        )
    if left:
        notes = [*notes, f"{left} of {len(rows)} rows have no out-of-fold prediction and are left out."]
    weight = None if weight is None else weight[rows]
    kept = np.flatnonzero(rows)
    predictions, y, present = predictions[:, rows], y[rows], present[:, rows]
    return SubsetPredictions(
        parts.names, subsets, predictions, y, kept, present, weight, parts.classes, method, n_fits, notes
    )


# ---------------------------------------------------------------------- what a prediction is worth


def groups_for(groups: Any, parts: Any, X: Any, y: Any, method: str) -> np.ndarray | None:
    """Return the groups of the rows that `predict_subsets` will read: rows of fit, or rows of X.

    `y` is given if the groups are also the units of a bootstrap; see `read_groups`.
    """
    ledger = method == "ledger" or (method == "auto" and X is None)
    if groups is None or (X is None and not ledger) or (ledger and not parts.has_ledger):
        return None  # `predict_subsets` reports what is missing
    if ledger:
        codes = parts.core._oof["y"]
        return read_groups(groups, len(codes), "rows of fit", codes if parts.classify else None)
    classes = one_a_row(y) if parts.classify and y is not None and method != "refit" else None
    return read_groups(groups, len(X if isinstance(X, np.ndarray) else to_frame(X)), "rows of X", classes)
