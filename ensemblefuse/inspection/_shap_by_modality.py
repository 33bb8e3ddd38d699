"""SHAP values of linear and tree heads, summed over the columns of each modality."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, NuSVC

from ensemblefuse._calls import plain_inside
from ensemblefuse._optional import import_optional
from ensemblefuse.blocks import SEPARATOR
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fusion import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    LogTargetRegressor,
)
from ensemblefuse.inspection._bars import bars_size, draw_bars
from ensemblefuse.scoring.bootstrap import Resampling, read_seed
from ensemblefuse.scoring.display import BaseDisplay, drawn_by
from ensemblefuse.scoring.inputs import read_groups
from ensemblefuse.scoring.result import TableResult

__all__ = ["ModalityShap", "ModalityShapDisplay", "shap_by_modality"]

_FIT = (
    "linear heads (with coef_, such as LogisticRegression or RidgeCV) and tree heads (such as RandomForestClassifier, "
    "HistGradientBoostingClassifier or XGBClassifier)"
)


class ModalityShapDisplay(BaseDisplay):
    """Mean absolute SHAP value of each modality with its interval.

    Only members over several modalities are drawn, if there are any; otherwise all members.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import FeatureFusionClassifier, ModalityShapDisplay
    >>> y = np.arange(40) % 2
    >>> X = pd.DataFrame({"image__0": 1.0 * y, "text__0": np.arange(40.0) % 3})
    >>> display = ModalityShapDisplay.from_estimator(FeatureFusionClassifier(LogisticRegression()).fit(X, y), X)
    >>> display.ax_.get_xlabel()
    'mean |SHAP|, log-odds'
    """

    result: ModalityShap

    def _shown(self) -> pd.DataFrame:
        table = self.result.table
        joint = table.groupby(level="member")["share"].transform("size") > 1
        return (table[joint] if joint.any() else table).sort_values("mean_abs", ascending=False, kind="stable")

    def _figsize(self):
        return bars_size(len(self._shown()))

    def _draw(self, ax):
        table = self._shown()
        members = table.index.get_level_values("member")
        draw_bars(ax, table.droplevel("member"), "mean_abs", signed=False)
        units = list(dict.fromkeys(table["unit"]))
        if len(set(members)) > 1:
            labels = [one if one.split("/")[0] == name else f"{name} in {one}" for one, name in table.index]
            unit = [f", {unit}" if len(units) > 1 else "" for unit in table["unit"]]
            ax.set_yticklabels([label + end for label, end in zip(labels, unit, strict=True)])
        for height, share in enumerate(table["share"]):
            if len(set(members)) < len(table):
                ax.annotate(f"{share:.0%} ", (0, height), xytext=(4, 0), textcoords="offset points", va="center")
        unit_of_axis = units[0] if len(units) == 1 else "each bar in its own unit"
        of = f"{members[0]}, " if len(set(members)) == 1 else ""
        ax.set(xlabel=f"mean |SHAP|, {unit_of_axis}", title=f"What moves the output\n{of}{self.result.n_rows} rows")


@drawn_by(ModalityShapDisplay)
def shap_by_modality(
    model: Any,
    X: Any,
    *,
    members: Any = None,
    groups: Any = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = 0,
) -> ModalityShap:
    """Compute how far each modality's columns move the output of a head: mean absolute SHAP values by modality.

    An estimator over all modalities is that of feature-level fusion, or the joint member of decision-level fusion. Its
    shares show what each modality contributes, whether the prediction is right or not (MM-SHAP). For a member over one
    modality, ``columns`` shows which of its columns matter.

    SHAP values are exact. For linear heads they are ``coef * (x - mean of X)`` in standardised columns; for trees those
    of `shap.TreeExplainer` along the paths of the training rows. Labels are not needed; nothing is fitted.

    Parameters
    ----------
    model : fitted decision-level or feature-level fusion, pipeline that ends in one, or search over these
    X : DataFrame of n_samples rows
        Rows to explain, each encoded once; their mean is the reference point of linear heads.
    members : list of str, optional
        Members to explain; by default all whose heads can be explained. ``notes`` names the others.
    groups : array of shape (n_samples,), optional
        Rows of one group are resampled together by the bootstrap.
    n_resamples : int
        Number of bootstrap resamples.
    confidence_level : float
    random_state : int, RandomState or None
        Seed of the bootstrap.

    Returns
    -------
    ModalityShap

    Raises
    ------
    ImportError
        If shap is not installed; it comes with the extra ``explain``.
    TypeError
        If the model is neither decision-level nor feature-level fusion, or no head can be explained.
    ValueError
        If a member is unknown.

    References
    ----------
    Parcalabescu and Frank, "MM-SHAP", ACL 2023, equations 2 and 3; Lundberg and Lee, NeurIPS 2017; Lundberg et al.,
    Nature Machine Intelligence 2020 (trees).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import FeatureFusionClassifier, shap_by_modality
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 2
    >>> X = pd.DataFrame({"image__0": 3 * y + rng.normal(size=60), "text__0": rng.normal(size=60)})
    >>> model = FeatureFusionClassifier(LogisticRegression()).fit(X, y)
    >>> table = shap_by_modality(model, X).table
    >>> bool(table.loc[("all blocks", "image"), "share"] > table.loc[("all blocks", "text"), "share"])
    True
    """
    shap = import_optional("shap", extra="explain", needed_by="shap_by_modality")
    Resampling(n_resamples, confidence_level).check()
    parts = FittedModel(model)
    candidates = _candidates(parts, parts.encode(X))
    n_rows = len(candidates[0].rows)
    groups = read_groups(groups, n_rows)
    names = [one.name for one in candidates]
    unknown = sorted(set([] if members is None else members) - set(names))
    if unknown:
        raise ValueError(f"the model has no member {unknown}; it has {names}.")
    found, lost = [], {}
    for one in candidates if members is None else [one for one in candidates if one.name in members]:
        if not one.rows.any():
            lost[one.name] = "no row has the data that it needs"
            continue
        try:
            found.append((one, _explain(shap, one)))
        except _CannotExplainError as error:
            lost[one.name] = str(error)
    if not found:
        raise TypeError(
            f"shap_by_modality explains {_FIT}; this model has none (member: reason): {lost}. modality_importance "
            "takes any model."
        )
    notes = [f"Not explained (member: reason): {lost}."] if lost else []
    resampling = Resampling(n_resamples, confidence_level, read_seed(random_state), groups)
    return ModalityShap(parts.names, found, n_rows, resampling, notes)


class _CannotExplainError(Exception):
    """A member cannot be explained; the message says why."""


@dataclass
class _Candidate:
    """A fitted member with the rows that it predicts.

    Attributes
    ----------
    name : str
    estimators : list of fitted estimator
        Several if the member consists of its fold models.
    labels : list of list
        Labels of the classes that each estimator knows; empty in regression.
    data : ndarray of shape (n_rows_of_it, n_columns)
    rows : ndarray of shape (n_samples,), dtype bool
    columns : list of str
        Such as ``"image__0"``: the modality, and the position in it.
    why_not : str
        Why it cannot be explained; empty if it can.
    """

    name: str
    estimators: list[Any]
    labels: list[list[Any]]
    data: Any
    rows: np.ndarray
    columns: list[str]
    why_not: str = ""


@dataclass
class _Explained:
    """Mean |SHAP| of each column in each row, over fold models: in all classes together, and in each class."""

    values: np.ndarray
    by_class: dict[Any, np.ndarray]
    columns: list[str]
    head: str
    unit: str


# ---------------------------------------------------------------------- members


def _candidates(parts: FittedModel, Z: Any) -> list[_Candidate]:
    core, classes = parts.core, parts.classes
    if isinstance(core, (FeatureFusionClassifier, FeatureFusionRegressor)) and hasattr(core, "estimator_"):
        blocks = core._read(Z, reset=False)
        labels = [] if classes is None else classes[core.known_].tolist()
        whole = Pipeline([*core.prepare_.steps, ("head", core.estimator_)])
        rows, names = np.asarray(blocks.present.any(axis=0)), blocks.names
        table = blocks.side_by_side(names)[rows]
        return [_Candidate("all blocks", [whole], [labels], table, rows, _columns(blocks, names))]
    if not isinstance(core, (DecisionFusionClassifier, DecisionFusionRegressor)):
        raise TypeError(
            "shap_by_modality explains members of decision-level fusion and the estimator of feature-level fusion "
            f'without missing="reduced"; got {core}. modality_importance takes any fusion.'
        )
    blocks, found = core._read(Z, reset=False), []
    for name, block in zip(core.member_names_, core.member_blocks_, strict=True):
        if name not in core.estimators_:
            continue  # a model that was split has no joint member
        if name in core.word_members_:
            found.append(_Candidate(name, [], [], None, blocks.has_words(block), [], "it reads the words of texts"))
            continue
        names = core._joint_blocks() if core._is_joint(block) else [block]
        if core._is_joint(block):
            data, rows = blocks.side_by_side(names), core._joint_rows(blocks)
        else:
            data, rows = blocks.data[block], blocks.present[blocks.names.index(block)]
        estimators: Any = core.estimators_[name]
        codes: Any = core.member_classes_[name]
        if core.refit:
            estimators, codes = [estimators], [codes]
        labels = [[] if classes is None else classes[code].tolist() for code in codes]
        data = data.iloc[rows] if hasattr(data, "iloc") else data[rows]
        raw = block in core.raw_blocks_
        columns, why_not = [] if raw else _columns(blocks, names), "its block holds raw cells" if raw else ""
        found.append(_Candidate(name, list(estimators), labels, data, np.asarray(rows), columns, why_not))
    return found


def _columns(blocks: Any, names: list[str]) -> list[str]:
    return [f"{name}{SEPARATOR}{i}" for name in names for i in range(blocks.data[name].shape[1])]


# ---------------------------------------------------------------------- SHAP values


def _explain(shap: Any, one: _Candidate) -> _Explained:
    if one.why_not:
        raise _CannotExplainError(one.why_not)
    runs = [_explain_one(shap, e, one.data, k, one) for e, k in zip(one.estimators, one.labels, strict=True)]
    columns, head, unit = runs[0][1:]
    if any(run[1] != columns for run in runs):
        raise _CannotExplainError("its fold models have different columns")
    by_label: dict[Any, list[np.ndarray]] = {}
    for labels, run in zip(one.labels, runs, strict=True):
        for i, label in enumerate(labels or ["y"]):
            # A binary head has one output, for the second class. The first class's is its negative: equal in |SHAP|.
            by_label.setdefault(label, []).append(run[0][i if len(run[0]) > 1 else 0])
    by_class = {label: np.mean(values, axis=0) for label, values in by_label.items()}
    return _Explained(np.mean([np.mean(run[0], axis=0) for run in runs], axis=0), by_class, columns, head, unit)


@plain_inside
def _explain_one(shap: Any, estimator: Any, data: Any, labels: list[Any], one: _Candidate) -> Any:
    """Return |SHAP| of shape (n_outputs, n_rows, n_columns), names of the columns, name of the head, and unit."""
    steps, head = _unwrap(estimator)
    Z, columns = np.asarray(data, dtype=float), one.columns
    for step in steps:
        Z = step.transform(Z)
        columns = _renamed(step, columns, len({c.split(SEPARATOR, 1)[0] for c in one.columns}))
    Z = np.asarray(Z, dtype=float)
    values, unit = _values(shap, head, Z, len(labels))
    values = np.abs(values)
    outputs = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    if len(outputs) not in (1, len(labels)):
        raise _CannotExplainError(f"{type(head).__name__} has {len(outputs)} outputs for {len(labels)} classes")
    return outputs, columns, type(head).__name__, unit


def _unwrap(estimator: Any) -> tuple[list[Any], Any]:
    """Return the fitted transformers of an estimator, and the head that comes after them."""
    if hasattr(estimator, "best_estimator_"):
        return _unwrap(estimator.best_estimator_)
    if isinstance(estimator, (FeatureFusionClassifier, FeatureFusionRegressor)) and hasattr(estimator, "estimator_"):
        steps, head = _unwrap(estimator.estimator_)
        return [*[step for _, step in estimator.prepare_.steps], *steps], head
    if isinstance(estimator, Pipeline):
        before = [step for _, step in estimator.steps[:-1] if step is not None and step != "passthrough"]
        steps, head = _unwrap(estimator.steps[-1][1])
        return [*before, *steps], head
    return [], estimator


def _renamed(step: Any, columns: list[str], n_blocks: int) -> list[str]:
    """Return the names of the columns after a transformer, each with its modality."""
    block = columns[0].split(SEPARATOR, 1)[0]
    known = {column.split(SEPARATOR, 1)[0] for column in columns}
    try:
        after = [str(name) for name in step.get_feature_names_out(np.asarray(columns, dtype=object))]
    except (AttributeError, ValueError) as error:
        raise _CannotExplainError(f"{type(step).__name__} does not name its columns") from error
    if n_blocks == 1:
        return [name if name.startswith(block + SEPARATOR) else f"{block}{SEPARATOR}{name}" for name in after]
    if any(SEPARATOR not in name or name.split(SEPARATOR, 1)[0] not in known for name in after):
        raise _CannotExplainError(f"{type(step).__name__} mixes the modalities")
    return after


def _values(shap: Any, head: Any, Z: np.ndarray, n_classes: int) -> tuple[np.ndarray, str]:
    if isinstance(head, LogTargetRegressor):
        raise _CannotExplainError("it predicts the log of y, and parts of a log do not add up to y")
    coef = getattr(head, "coef_", None)
    if coef is not None and isinstance(head, (SVC, NuSVC)) and n_classes > 2:
        # coef_ has one row per pair of classes; three classes have three pairs, which look like one row per class.
        raise _CannotExplainError(
            f"{type(head).__name__} is fitted one-versus-one; use LinearSVC or LogisticRegression"
        )
    if coef is not None and np.atleast_2d(coef).shape in ((1, Z.shape[1]), (n_classes, Z.shape[1])):
        # All rows are the background; by default shap would draw only 100 of them.
        background = shap.maskers.Independent(Z, max_samples=len(Z))
        explainer = shap.LinearExplainer((coef, head.intercept_), background)
        unit = "units of y" if not n_classes else "decision value"
        return explainer.shap_values(Z), "log-odds" if isinstance(head, LogisticRegression) else unit
    if isinstance(head, TransformedTargetRegressor) and type(head.transformer_) is StandardScaler:
        values, unit = _values(shap, head.regressor_, Z, n_classes)
        return values * head.transformer_.scale_, unit
    try:
        explainer = shap.TreeExplainer(head)
    except Exception as error:  # the class of the error differs between versions of shap
        raise _CannotExplainError(f"{type(head).__name__} is neither linear nor trees") from error
    unit = {"log_odds": "log-odds", "probability": "probability"}.get(
        explainer.model.tree_output, "output of the trees"
    )
    return np.asarray(explainer.shap_values(Z)), unit if n_classes else "units of y"


# ---------------------------------------------------------------------- the result


class ModalityShap(TableResult):
    """Mean absolute SHAP values by modality. Made by `shap_by_modality`.

    Attributes
    ----------
    table : DataFrame
        One row per member and modality (index levels ``member``, ``modality``); the estimator of feature-level fusion
        is the member ``"all blocks"``:

        - ``mean_abs``: absolute SHAP values, summed over the columns of the modality, averaged over classes and rows;
          ``low``, ``high``: bootstrap interval.
        - ``share``: share of the sum over the member's modalities.
        - ``unit``, ``head``: unit of the values, and class of the head. Values of different units cannot be compared.
        - ``n_rows``: number of rows that the member predicts.
    by_class : DataFrame
        ``mean_abs`` for each class (in regression for ``"y"``); same rows as the table.
    columns : Series
        Mean absolute SHAP value of each column, index levels ``member`` and ``column``.
    names : list of str
        Modalities in the order of the model.
    caption, notes
        As in all results.
    """

    def __init__(self, names: list[str], found: list[Any], n_rows: int, resampling: Resampling, notes: list[str]):
        self.names, self.n_rows = names, n_rows
        table, by_class, columns = {}, {}, {}
        for one, said in found:
            # Rows without this member get weight 0, so all members share the same draws.
            own = replace(resampling, sample_weight=one.rows.astype(float))
            notes = [*notes, *(f"{one.name!r}: {note}" for note in own.notes(n_rows))]
            of = np.array([column.split(SEPARATOR, 1)[0] for column in said.columns])
            whole = said.values.sum(axis=1).mean()
            sums = {name: said.values[:, of == name].sum(axis=1) for name in dict.fromkeys(of)}
            filled = np.zeros((n_rows, len(sums)))
            filled[one.rows] = np.column_stack(list(sums.values()))
            spans = np.column_stack(own.interval(filled))
            for (name, rows), (low, high) in zip(sums.items(), spans, strict=True):
                table[one.name, name] = {
                    "mean_abs": rows.mean(),
                    "low": float(low),
                    "high": float(high),
                    "share": rows.mean() / whole if whole > 0 else np.nan,
                    "unit": said.unit,
                    "head": said.head,
                    "n_rows": len(rows),
                }
                by_class[one.name, name] = {
                    label: values[:, of == name].sum(axis=1).mean() for label, values in said.by_class.items()
                }
            for column, mean in zip(said.columns, said.values.mean(axis=0), strict=True):
                columns[one.name, column] = mean
        self.by_class, self.columns = _frame(by_class), pd.Series(columns, name="mean_abs")
        self.columns.index.names = ["member", "column"]
        if len({row["unit"] for row in table.values()}) > 1:
            notes = [*notes, "Values of different units cannot be compared; shares within a member can."]
        caption = f"Mean absolute SHAP value of each modality ({self.n_rows} rows; {resampling.caption})"
        super().__init__(_frame(table), caption, notes)

    def _display_class(self):
        return ModalityShapDisplay


def _frame(rows: dict[tuple[str, str], dict[Any, Any]]) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(list(rows), names=["member", "modality"])
    return pd.DataFrame(list(rows.values()), index=index)
