"""Scores of a model with intervals: overall, per class, per slice of the rows, per set of modalities."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array

from ensemblefuse._calls import count_rows
from ensemblefuse.evaluation._metrics import class_rates, classification_scores, regression_scores
from ensemblefuse.evaluation._model_evaluation import ModelEvaluation, ModelEvaluationDisplay
from ensemblefuse.evaluation._slices import name_patterns, read_by, read_column
from ensemblefuse.exceptions import counted
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fusion import ConformalFusionClassifier, ConformalFusionRegressor
from ensemblefuse.scoring.bootstrap import interval, resample_weights
from ensemblefuse.scoring.display import drawn_by
from ensemblefuse.scoring.inputs import finite_numbers, one_a_row, read_groups, read_weight
from ensemblefuse.table import to_frame

__all__ = ["evaluate_model", "evaluate_predictions"]

_CELLS = 4_000_000  # row weights held at a time: 32 MB
# A note names the scores that are undefined in more than this share of the resamples.
_MOST_LOST = 0.05


@dataclass
class _Rows:
    """Rows to score: their class codes or numbers, their predictions, and their slices."""

    y: np.ndarray
    predictions: np.ndarray
    classes: np.ndarray | None
    sample_weight: np.ndarray | None = None
    groups: np.ndarray | None = None
    slices: dict[str, pd.Categorical] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    """Further row values whose mean is a score, such as coverage."""

    def take(self, rows: np.ndarray) -> _Rows:
        return _Rows(
            self.y[rows],
            self.predictions[rows],
            self.classes,
            None if self.sample_weight is None else self.sample_weight[rows],
            None if self.groups is None else self.groups[rows],
            {name: column[rows] for name, column in self.slices.items()},
            {name: column[rows] for name, column in self.values.items()},
        )

    def scores(self, weight: np.ndarray) -> dict[str, np.ndarray]:
        score = regression_scores if self.classes is None else classification_scores
        with np.errstate(invalid="ignore", divide="ignore"):
            means = {name: a @ weight / weight.sum(axis=0) for name, a in self.values.items()}
        return {**score(self.predictions, self.y, weight), **means}


@drawn_by(ModelEvaluationDisplay)
def evaluate_model(
    model: Any,
    X: Any = None,
    y: Any = None,
    *,
    by: Any = None,
    sample_weight: Any = None,
    groups: Any = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = 0,
) -> ModelEvaluation:
    """Score a fitted model, with bootstrap intervals: overall, per class, per slice, per set of present modalities.

    Without `X`, the model's own out-of-fold predictions are scored: no row is predicted by a model that was fitted on
    it, and nothing is encoded or fitted.

    Parameters
    ----------
    model : fitted pipeline that ends in a fusion estimator, or fitted fusion estimator
        Or a search over these; its best model is scored.
    X : DataFrame (pandas or polars) or dict of columns, or array, of n_samples rows, optional
        Rows that are new to the model.
    y : array of shape (n_samples,), optional
        Needed with `X`. Without `X`: the target in fit, needed if the fusion keeps out-of-fold predictions without it.
    by : str, list of str, or dict of str to array of shape (n_samples,), optional
        Columns of `X`, or the values themselves, of at most 100 kinds. The rows of each value are one slice; those
        with a missing value are the slice "missing".
    sample_weight : array of shape (n_samples,), optional
        Without `X`, by default the weights in fit.
    groups : array of shape (n_samples,), optional
        Rows of one group are drawn together: rows of one patient, for example, are not independent.
    n_resamples : int
    confidence_level : float
        Level of the percentile intervals.
    random_state : int, RandomState or None

    Returns
    -------
    ModelEvaluation

    Raises
    ------
    TypeError
        If `model` is not a fusion model, or `by` is neither names nor a dict.
    ValueError
        If the model keeps no out-of-fold predictions and `X` is None; if `y` holds a label that the model never saw;
        if lengths differ; if `by` names an unknown column, or one with more than 100 values.

    References
    ----------
    Efron, Annals of Statistics 1979 (bootstrap); Davison and Hinkley, Bootstrap Methods and their Application 1997,
    section 3.8 (whole groups).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, evaluate_model
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(80) % 2
    >>> X = pd.DataFrame({"image__0": 4 * y + rng.normal(size=80), "text__0": y + rng.normal(size=80)})
    >>> X.loc[:9, "text__0"] = None
    >>> result = evaluate_model(DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y))
    >>> result.of("modalities")["n_rows"].to_dict()
    {'image + text': 70, 'image': 10}
    """
    parts = FittedModel(model)
    notes: list[str] = []
    if X is None:
        rows, present = _own_rows(parts, y, sample_weight, notes)
        notes += _notes_on_choice(model, parts)
        rows.slices = read_by(by, None, len(rows.y))
    else:
        # All that can be wrong without an encoded cell comes first.
        read_groups(groups, count_rows(X) or 0)
        rows, present, frame = _new_rows(parts, X, y, sample_weight)
        rows.slices = read_by(by, frame, len(rows.y))
    rows.groups = read_groups(groups, len(rows.y), classes=None if rows.classes is None else rows.y)
    if present is not None:
        rows.slices["modalities"] = name_patterns(present, parts.names)
    what = (
        "Out-of-fold scores on {n} rows of fit" if X is None else "Scores on {n} rows, which must be new to the model"
    )
    return _evaluate(rows, what, notes, n_resamples, confidence_level, random_state)


@drawn_by(ModelEvaluationDisplay, "predictions")
def evaluate_predictions(
    y_true: Any,
    predictions: Any,
    *,
    classes: Any = None,
    by: Any = None,
    present: Any = None,
    sample_weight: Any = None,
    groups: Any = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = 0,
) -> ModelEvaluation:
    """Score predictions of any origin, with bootstrap intervals; see `evaluate_model`.

    Parameters
    ----------
    y_true : array of shape (n_samples,)
    predictions : array of shape (n_samples, n_classes), or (n_samples,) in regression
        Class probabilities, or numbers.
    classes : array of shape (n_classes,), optional
        Class of each column; by default the sorted values of `y_true`.
    by : dict of str to array of shape (n_samples,), optional
    present : dict of str to array of shape (n_samples,), dtype bool, optional
        For each modality, the rows that hold it.
    sample_weight, groups, n_resamples, confidence_level, random_state
        As in `evaluate_model`.

    Returns
    -------
    ModelEvaluation

    Raises
    ------
    ValueError
        If shapes differ, predictions are not finite or not probabilities, or `classes` lacks a label of `y_true`.

    Examples
    --------
    >>> from ensemblefuse import evaluate_predictions
    >>> P = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3]]
    >>> result = evaluate_predictions(["cat", "cat", "dog", "dog"], P, n_resamples=200)
    >>> result.overall.loc["accuracy"].round(2).tolist()
    [0.75, 0.25, 1.0]
    """
    predictions = check_array(predictions, ensure_2d=False, dtype=float, input_name="predictions")
    y = one_a_row(y_true, "y_true")
    y = np.array(y.tolist()) if y.dtype == object else y
    if predictions.ndim == 1:
        rows = _read_numbers(y, predictions, classes)
    else:
        rows = _read_classes(y, predictions, classes)
    n = len(rows.y)
    rows.sample_weight = read_weight(sample_weight, n)
    rows.groups = read_groups(groups, n, classes=None if rows.classes is None else rows.y)
    rows.slices = read_by(by, None, n)
    if present is not None:
        if not isinstance(present, Mapping):
            raise TypeError(f"present must be a dict of modality to array of bool; got {type(present).__name__}.")
        there = [read_column(column, f"present[{name!r}]", n) for name, column in present.items()]
        rows.slices["modalities"] = name_patterns(np.array(there, dtype=bool), list(present))
    notes = []
    if rows.classes is None and np.isin(rows.y, [0, 1]).all():
        notes.append(
            "y_true holds only 0 and 1 and is scored as numbers; for class probabilities, pass one column per class."
        )
    return _evaluate(rows, "Scores on {n} rows", notes, n_resamples, confidence_level, random_state)


# ---------------------------------------------------------------------- reading


def _own_rows(parts: FittedModel, y: Any, sample_weight: Any, notes: list[str]) -> tuple[_Rows, np.ndarray | None]:
    """Return the rows of fit with their out-of-fold predictions, and which modalities they hold."""
    name = type(parts.core).__name__
    oof = getattr(parts.core, "oof_proba_" if parts.classify else "oof_fused_", None)
    if oof is None:
        method = ", method='predict_proba'" if parts.classify else ""
        raise ValueError(
            f"{name} keeps no out-of-fold predictions, and a score on rows of fit would be too good. Pass X and y that "
            "the model was not fitted on. Or, for the rows of fit, use "
            f"evaluate_predictions(y, cross_val_predict(clone(model), X, y{method}))."
        )
    kept: Any = getattr(parts.core, "_oof", None)
    if kept is None and y is None:
        raise ValueError(f"{name} keeps its out-of-fold predictions without their target; pass y as it was in fit.")
    codes = parts.encode_labels(y) if y is not None else kept["y"]
    if len(codes) != len(oof) or (kept is not None and not np.array_equal(codes, kept["y"])):
        raise ValueError(
            f"without X, y must be the target in fit: the same {len(oof)} values in the same order. Or leave it out."
        )
    weight = read_weight(sample_weight, len(oof))
    if weight is None and kept is not None and kept["sample_weight"] is not None:
        weight = kept["sample_weight"]
        notes.append("Rows have their weights of fit; sample_weight=numpy.ones(n) gives them equal weights.")
    if isinstance(parts.fusion, (ConformalFusionClassifier, ConformalFusionRegressor)):
        notes.append("Coverage needs new rows, X and y: the quantiles were chosen on the rows of fit.")
    rows = _Rows(codes, np.asarray(oof, dtype=float), parts.classes, weight)
    return rows, None if kept is None else kept["present"]


def _notes_on_choice(model: Any, parts: FittedModel) -> list[str]:
    chosen = (
        parts.model is not model
        or hasattr(parts.fusion, "best_estimator_")
        or hasattr(getattr(parts.fusion, "fusion_", None), "best_estimator_")
    )
    text = "The model was chosen among others on these rows, so its scores are optimistic; scores on new rows are not."
    return [text] if chosen else []


def _new_rows(parts: FittedModel, X: Any, y: Any, sample_weight: Any) -> tuple[_Rows, np.ndarray, pd.DataFrame | None]:
    frame = None if isinstance(X, np.ndarray) else to_frame(X)
    if y is None:
        raise ValueError("y is None; pass the target of the rows of X.")
    n = len(X if frame is None else frame)
    if np.shape(y)[:1] != (n,):
        raise ValueError(f"y has {np.shape(y)[0] if np.ndim(y) else 'no'} values for the {n} rows of X.")
    codes, weight = parts.encode_labels(y), read_weight(sample_weight, n)
    Z = parts.encode(X if frame is None else frame)
    rows = _Rows(codes, parts.predict(Z), parts.classes, weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about new combinations of modalities: the slices show them
        if isinstance(parts.fusion, ConformalFusionClassifier):
            sets = parts.fusion.predict_set(Z)
            rows.values = {"coverage": sets[np.arange(n), rows.y].astype(float), "set_size": sets.sum(axis=1) * 1.0}
        elif isinstance(parts.fusion, ConformalFusionRegressor):
            low, high = parts.fusion.predict_interval(Z).T
            held = (low <= rows.y) & (rows.y <= high)
            rows.values = {"coverage": held.astype(float), "interval_width": high - low}
    return rows, parts.present(Z), frame


def _read_numbers(y: np.ndarray, predictions: np.ndarray, classes: Any) -> _Rows:
    if classes is not None or y.dtype.kind not in "fiu":
        raise ValueError(
            "predictions of classes must be probabilities of shape (n_samples, n_classes); got one number per row."
        )
    if y.shape != predictions.shape:
        raise ValueError(f"y_true has shape {y.shape} and predictions {predictions.shape}.")
    return _Rows(finite_numbers(y, "y_true"), predictions, None)


def _read_classes(y: np.ndarray, proba: np.ndarray, classes: Any) -> _Rows:
    labels = np.unique(y) if classes is None else np.asarray(classes)
    if y.ndim != 1 or proba.shape != (len(y), len(labels)):
        raise ValueError(
            f"predictions have shape {proba.shape} for {len(y)} labels of {len(labels)} classes; if y_true lacks some "
            "classes, pass classes=, the class of each column."
        )
    wrong = np.flatnonzero((proba < -1e-6).any(axis=1) | (np.abs(proba.sum(axis=1) - 1) > 1e-3))
    if len(wrong):
        raise ValueError(
            f"predictions must be probabilities that sum to 1 in each row; {counted(len(wrong), 'row', 'do')} not, the "
            f"first at position {wrong[0]}: {proba[wrong[0]].tolist()}."
        )
    place = {label: i for i, label in enumerate(labels.tolist())}
    unknown = sorted({label for label in y.tolist() if label not in place}, key=str)
    if unknown:
        raise ValueError(f"y_true holds {unknown[:5]}, which classes={labels.tolist()} lacks.")
    return _Rows(np.array([place[label] for label in y.tolist()]), proba, labels)


# ---------------------------------------------------------------------- scoring


def _evaluate(
    rows: _Rows, what: str, notes: list[str], n_resamples: int, level: float, random_state: Any
) -> ModelEvaluation:
    rows = _usable(rows, notes)
    cuts = [("all", "all", np.arange(len(rows.y)))]
    for name, values in rows.slices.items():
        found = [(value, np.flatnonzero(values.codes == k)) for k, value in enumerate(values.categories.tolist())]
        cuts += [(name, value, cut) for value, cut in found if len(cut)]
    parts = [rows.take(cut) for _, _, cut in cuts]
    weight = np.ones(len(rows.y)) if rows.sample_weight is None else rows.sample_weight
    measured: list[list[Any]] = []
    for draws in _draws(len(rows.y), n_resamples, random_state, rows.groups):
        draws = draws * weight[:, None]
        of_cuts = [part.scores(draws[cut]) for part, (_, _, cut) in zip(parts, cuts, strict=True)]
        measured.append([of_cuts, {} if rows.classes is None else class_rates(rows.predictions, rows.y, draws)])
    lines, lost = [], {}
    for i, (name, value, cut) in enumerate(cuts):
        for metric in measured[0][0][i]:
            values = np.concatenate([of_cuts[i][metric] for of_cuts, _ in measured])
            lines.append((name, value, len(cut), metric, *_summary(values, rows.groups, cut, level)))
            lost[f"{metric} of {name} {value}"] = np.isnan(values[1:]).mean() if np.isfinite(lines[-1][-1]) else 0.0
    of_classes = []
    for k, label in enumerate([] if rows.classes is None else rows.classes.tolist()):
        cut = np.flatnonzero(rows.y == k)
        for metric in measured[0][1]:
            values = np.concatenate([rates[metric][k] for _, rates in measured])
            of_classes.append(("class", label, len(cut), metric, *_summary(values, rows.groups, cut, level)))
    n_overall = len(measured[0][0][0])
    lines[n_overall:n_overall] = of_classes
    table = pd.DataFrame(lines, columns=["slice", "value", "n_rows", "metric", "score", "low", "high"])
    notes = [*notes, *_notes_on_gaps(table, rows), *_notes_on_resamples(lost)]
    caption = f"{what.format(n=len(rows.y))}, {level:.0%} intervals of {n_resamples} bootstrap resamples"
    caption += "" if rows.groups is None else f" of {len(np.unique(rows.groups))} groups"
    y_true = rows.y if rows.classes is None else rows.classes[rows.y]
    return ModelEvaluation(table, caption, notes, y_true, rows.predictions, rows.classes, rows.sample_weight)


def _draws(n: int, n_resamples: int, random_state: Any, groups: Any) -> Any:
    """Yield row weights of shape (n_rows, n_draws), a few draws at a time; the first draw is all 1, for the score."""
    yield np.ones((n, 1))
    rng, step = check_random_state(random_state), max(1, _CELLS // n)
    for start in range(0, n_resamples, step) or [0]:
        wanted = min(step, n_resamples - start)
        yield np.ascontiguousarray(resample_weights(n, wanted, rng, groups).T)


def _usable(rows: _Rows, notes: list[str]) -> _Rows:
    flat = rows.predictions.reshape(len(rows.y), -1)
    known = np.isfinite(flat).all(axis=1)
    weighty = np.ones(len(known), dtype=bool) if rows.sample_weight is None else rows.sample_weight > 0
    if not known.all():
        notes.append(f"{int((~known).sum())} of {len(known)} rows are left out: they have no out-of-fold prediction.")
    if not weighty.all():
        notes.append(f"{int((~weighty).sum())} of {len(known)} rows are left out: they have weight 0.")
    if not (known & weighty).any():
        raise ValueError(f"none of the {len(known)} rows has a prediction and a weight above 0.")
    return rows if (known & weighty).all() else rows.take(np.flatnonzero(known & weighty))


def _summary(values: np.ndarray, groups: Any, cut: np.ndarray, level: float) -> tuple[float, float, float]:
    """Return the score and the two ends of its interval, which are NaN if there is nothing to resample."""
    score, resampled = float(values[0]), values[1:]
    units = len(cut) if groups is None else len(np.unique(groups[cut]))
    if units < 2 or np.isnan(score) or np.isnan(resampled).all():
        interval(np.zeros(1), level)  # raises an error for a wrong level
        return score, np.nan, np.nan
    low, high = interval(resampled, level)
    return score, float(low), float(high)


def _notes_on_gaps(table: pd.DataFrame, rows: _Rows) -> list[str]:
    """Return notes that say why some scores and intervals are NaN."""
    notes = []
    unit = "row" if rows.groups is None else "group"
    named = table["slice"] + " " + table["value"].astype(str)
    alone = table["low"].isna() & table["score"].notna()
    if alone.any():
        notes.append(f"No interval where a slice holds only one {unit}: {_list(named[alone])}.")
    absent = (table["metric"] == "roc_auc") & table["score"].isna()
    if absent.any():
        notes.append(f"ROC AUC is not defined where a class is absent, or the only one: {_list(named[absent])}.")
    empty = (table["slice"] == "class") & (table["n_rows"] == 0)
    if empty.any():
        notes.append(f"These classes have no rows: {_list(table.loc[empty, 'value'].astype(str))}.")
    constant = (table["metric"] == "r2") & table["score"].isna()
    if constant.any():
        notes.append(f"R2 is not defined where all targets are equal: {_list(named[constant])}.")
    return notes


def _notes_on_resamples(lost: dict[str, float]) -> list[str]:
    """Return a note that names the scores that are undefined in many resamples: their intervals leave these out."""
    many = [f"{what} ({share:.0%})" for what, share in lost.items() if share > _MOST_LOST]
    if not many:
        return []
    return [f"Intervals leave out the resamples in which the score is not defined: {_list(pd.Series(many))}."]


def _list(names: pd.Series) -> str:
    names = names.drop_duplicates()
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
