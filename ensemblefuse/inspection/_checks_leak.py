"""Check for columns, words and modalities that leak the label."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from ensemblefuse.column_kinds import column_kind
from ensemblefuse.fusion.splits import InseparableGroupsError, make_splits, quiet_about_groups
from ensemblefuse.inspection._checks_data import CheckData, NotRun
from ensemblefuse.table import is_missing

__all__ = ["check_label_leak"]

_PERFECT = 0.99
_ORDINARY = 0.9
_FEWEST_ROWS = 30
_MOST_COLUMNS = 200
_WORDS = 500
_MOST_LEAVES = 64

Answer = tuple[str, str, str, list]


def check_label_leak(data: CheckData) -> Answer:
    """Check whether one modality, column or handful of words predicts the label nearly perfectly, unlike all others.

    The skill of a prediction is 0 for always the largest class (in regression the mean), and 1 if every row is right.
    In regression it is R2.
    """
    if data.X is None and not data.parts.has_ledger and data.X_test is None:
        raise NotRun("needs X and y, the rows of fit.")
    named = _named_like_target(data)
    modalities, columns = _skills_of_modalities(data), _skills_of_columns(data)
    if not (named or modalities or columns):
        raise NotRun(f"needs {_FEWEST_ROWS} rows, and X and y or predictions of single modalities.")
    skills = {**{f"modality {name!r}": skill for name, skill in modalities.items()}, **columns}
    high = {what: skill for what, skill in skills.items() if skill >= _PERFECT}
    rest = {what: skill for what, skill in skills.items() if skill < _PERFECT}
    said = [f"column {named!r} has the name of the target"] if named else []
    ordinary = max(rest.values(), default=None)
    if high and ordinary is not None and ordinary <= _ORDINARY:
        shown = ", ".join(f"{what} {skill:.3f}" for what, skill in high.items())
        said.append(
            f"alone, the cross-validated skill (at most 1) is {shown}; the best of the others has {ordinary:.3f}"
        )
    if said:
        advice = "Make sure that it is known before the label is known; if it was derived from the label, leave it out."
        return "issue", f"{'; '.join(said)}.", advice, []
    if high and ordinary is None:
        advice = "If the task is not that easy, they were all derived from the label."
        return "tip", f"Each of {list(high)} alone predicts the label nearly perfectly.", advice, []
    best = max(skills, key=lambda what: skills[what], default=None)
    told = (
        f"{best} has the greatest skill alone, {skills[best]:.3f} of at most 1" if best else "no column could be scored"
    )
    unseen = "" if data.X is not None and data.y is not None else " Without X and y, single columns were not checked."
    return "ok", f"{told}.{unseen}", "", []


def _named_like_target(data: CheckData) -> Any:
    used = [column for columns in data.parts.columns.values() for column in columns]
    return data.target_name if data.target_name is not None and data.target_name in used else None


def _skills_of_modalities(data: CheckData) -> dict[str, float]:
    try:
        said = data.said
    except NotRun:
        return {}
    skills = {}
    for name, there in zip(data.parts.names, said.present, strict=True):
        if there.sum() >= _FEWEST_ROWS:
            given = said.of([name])[there]
            skills[name] = _skill(given.argmax(axis=1) if data.parts.classify else given, said.y[there])
    return {name: skill for name, skill in skills.items() if np.isfinite(skill)}


def _skills_of_columns(data: CheckData) -> dict[str, float]:
    if data.X is None or data.y is None or len(data.y) < _FEWEST_ROWS:
        return {}
    skills = {}
    for name in data.parts.names:
        cells = data.rows.cells(name)
        if (name not in data.parts.columns and cells.shape[1] > _MOST_COLUMNS) or data.parts.reads_files(name):
            continue  # embeddings and files are covered by the skill of the modality
        for column in cells.columns:
            there = np.array([not is_missing(cell) for cell in cells[column].tolist()])
            features, model = _features(cells[column][there], data)
            if model is not None and there.sum() >= _FEWEST_ROWS:
                groups = None if data.groups is None else data.groups[there]
                skill = _cross_validated_skill(features, data.y[there], model, groups, data.parts.classify)
                if np.isfinite(skill):
                    skills[f"column {column!r}"] = skill
    return skills


def _features(cells: pd.Series, data: CheckData) -> tuple[Any, Any]:
    """Return features of a column and a small tree for them; (None, None) for cells that a tree cannot use."""
    kind = column_kind(cells)[0]
    kinds = {type(cell) for cell in cells.tolist()}
    n_classes = 0 if data.parts.classes is None else len(data.parts.classes)
    leaves = min(2 * n_classes, _MOST_LEAVES) if n_classes else _MOST_LEAVES
    tree = DecisionTreeClassifier if n_classes else DecisionTreeRegressor
    model = tree(max_leaf_nodes=leaves, random_state=0)
    if kind in ("number", "identifier") and not kinds & {str, bytes}:
        return cells.to_numpy(dtype=float)[:, None], model
    if kind in ("category", "boolean", "constant"):
        return pd.factorize(cells.astype(str), sort=True)[0][:, None], model
    if kind == "date" and kinds != {str}:
        days = pd.to_datetime(cells.astype(str), utc=True, format="mixed").to_numpy(dtype="datetime64[s]")
        return days.astype(float)[:, None], model
    if kinds == {str} and kind not in ("image", "audio", "video"):
        if not any(re.search(r"\w", cell) for cell in cells):
            return None, None
        words = CountVectorizer(binary=True, token_pattern=r"[^\W\d_]+|\d+", max_features=_WORDS)
        return cells.to_numpy(dtype=object), make_pipeline(words, model)
    return None, None


def _cross_validated_skill(features: Any, y: np.ndarray, model: Any, groups: Any, classify: bool) -> float:
    groups = groups if groups is not None and len(np.unique(groups)) > 1 else None
    try:
        with quiet_about_groups():
            splits = make_splits(5, y, groups, classify=classify)
    except InseparableGroupsError:
        return float("nan")
    if sorted(np.concatenate([test for _, test in splits])) != list(range(len(y))):
        return float("nan")
    return _skill(cross_val_predict(model, features, y, cv=splits), y)


def _skill(said: np.ndarray, y: np.ndarray) -> float:
    """Return the skill of predictions: 0 for the largest class or the mean, 1 if all are right.

    It is NaN if all labels are equal.
    """
    if y.dtype.kind == "f":
        spread = ((y - y.mean()) ** 2).sum()
        return float(1 - ((said - y) ** 2).sum() / spread) if spread > 0 else float("nan")
    most = float(np.max(np.bincount(y))) / len(y)
    return float(((said == y).mean() - most) / (1 - most)) if most < 1 else float("nan")
