"""Result of `evaluate_model`: scores with intervals in a long table, in wide tables, in a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.evaluation._metrics import CLASS_METRICS
from ensemblefuse.scoring.display import MARKERS, MUTED, BaseDisplay, colors_of, shorten
from ensemblefuse.scoring.metrics import SCORE_UNITS
from ensemblefuse.scoring.result import TableResult

__all__ = ["ModelEvaluation", "ModelEvaluationDisplay"]

# The score of a single class that a picture shows beside each of these. The accuracy on the rows of a class is its
# recall.
_OF_CLASS = {"accuracy": "recall", "balanced_accuracy": "recall", **{f"macro_{name}": name for name in CLASS_METRICS}}


class ModelEvaluation(TableResult):
    """Scores with bootstrap intervals: overall, per class, per slice, per set of modalities that the rows hold.

    Made by `evaluate_model` and `evaluate_predictions`.

    Attributes
    ----------
    table : DataFrame
        One row per score, with the columns

        - ``slice``: ``"all"``, ``"class"``, the name of a column in `by`, or ``"modalities"``;
        - ``value``: the class, the value of the column, or the set of modalities (``"image + text"``; ``"none"`` for
          rows without any);
        - ``n_rows``: number of rows in the slice; for a class, its support;
        - ``metric``: in classification ``accuracy``, ``balanced_accuracy``, ``macro_recall``, ``macro_precision``,
          ``macro_f1``, ``roc_auc`` (each class against the rest, then the mean), ``log_loss`` (nats), ``brier`` (from 0
          to 2), ``ece`` (`expected_calibration_error`, 15 bins of equal width); for a `ConformalFusionClassifier` on
          new rows also ``coverage`` and ``set_size`` (classes); for a class ``recall``, ``precision``, ``f1``. In
          regression ``r2``, ``mae``, ``rmse`` (in the unit of the target); for a `ConformalFusionRegressor` on new rows
          also ``coverage`` and ``interval_width``;
        - ``score``, and the ends of its interval, ``low`` and ``high``.
    caption, notes
        As in all results; `notes` names the scores and intervals that are not defined.
    y_true : ndarray of shape (n_rows,)
    predictions : ndarray of shape (n_rows, n_classes), or (n_rows,) in regression
    classes : ndarray of shape (n_classes,), or None in regression
    sample_weight : ndarray of shape (n_rows,), or None

    Notes
    -----
    Scores are those of scikit-learn with ``zero_division=0``. Macro scores are means over the classes that are true or
    predicted in some row; the balanced accuracy is a mean over the classes that are true in some row. R2 is NaN, not
    0, if all targets are equal.

    The interval of the ECE lies too high: the ECE is biased upwards, and resampling adds the same bias again. The level
    of the intervals holds for each score, not for all scores together. The intervals show how the score varies with the
    rows, not with another fit.

    scikit-learn has displays for some pictures::

        ConfusionMatrixDisplay.from_predictions(result.y_true, result.y_pred)
        CalibrationDisplay.from_predictions(result.y_true == "cat", result.proba_of("cat"))
        RocCurveDisplay.from_predictions(result.y_true == "cat", result.proba_of("cat"))
        PredictionErrorDisplay.from_predictions(result.y_true, y_pred=result.y_pred)
    """

    def __init__(
        self,
        table: pd.DataFrame,
        caption: str,
        notes: list[str],
        y_true: np.ndarray,
        predictions: np.ndarray,
        classes: np.ndarray | None,
        weight: np.ndarray | None,
    ):
        super().__init__(table, caption, notes)
        self.y_true = y_true
        self.predictions = predictions
        self.classes = classes
        self.sample_weight = weight

    @property
    def y_pred(self) -> np.ndarray:
        """Most probable class of each row, or the number."""
        return self.predictions if self.classes is None else self.classes[self.predictions.argmax(axis=1)]

    def proba_of(self, label: Any) -> np.ndarray:
        """Return the probability of one class, of shape (n_rows,)."""
        classes = [] if self.classes is None else self.classes.tolist()
        if label not in classes:
            raise ValueError(f"there is no class {label!r}; the classes are {classes}.")
        return self.predictions[:, classes.index(label)]

    @property
    def overall(self) -> pd.DataFrame:
        """Scores of all rows: one row per metric, with ``score``, ``low``, ``high``."""
        rows = self.table[self.table["slice"] == "all"].set_index("metric")
        return rows[["score", "low", "high"]].rename_axis(None)

    @property
    def per_class(self) -> pd.DataFrame:
        """One row per class: ``recall``, ``precision``, ``f1`` and ``support``, the number of its rows."""
        if self.classes is None:
            raise AttributeError("per_class is for classifiers; this is the evaluation of a regressor.")
        return self.of("class").rename(columns={"n_rows": "support"})[[*CLASS_METRICS, "support"]]

    def of(self, name: str) -> pd.DataFrame:
        """Return the scores of one kind of slice: one row per value, with ``n_rows`` and one column per metric.

        Parameters
        ----------
        name : str
            ``"class"``, ``"modalities"``, or the name of a column in `by`.
        """
        rows = self.table[self.table["slice"] == name]
        if rows.empty:
            raise ValueError(f"there is no slice {name!r}; there are {self.table['slice'].unique().tolist()}.")
        values = rows.drop_duplicates("value")
        scores = {metric: part["score"].to_numpy() for metric, part in rows.groupby("metric", sort=False)}
        return pd.DataFrame({"n_rows": values["n_rows"].to_numpy(), **scores}, index=values["value"].tolist())

    def plot(self, *, ax: Any = None, metric: str | None = None) -> ModelEvaluationDisplay:
        """Draw one score of all slices; see `ModelEvaluationDisplay`.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        metric : str, optional

        Returns
        -------
        ModelEvaluationDisplay
        """
        return ModelEvaluationDisplay(self, metric=metric).plot(ax=ax)

    def _shown(self) -> pd.DataFrame:
        return self.overall


class ModelEvaluationDisplay(BaseDisplay):
    """One score with its interval: of all rows, of each class, of each slice, of each set of modalities.

    Parameters
    ----------
    result : ModelEvaluation
    metric : str, optional
        By default ``"accuracy"``, in regression ``"rmse"``. With the accuracy, the balanced accuracy and the macro
        scores, the recall, precision or F1 of each class is drawn too; other scores do not exist for single classes.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    errorbars_ : dict of str to matplotlib ErrorbarContainer
        One for each kind of slice.

    Examples
    --------
    >>> from ensemblefuse import ModelEvaluationDisplay
    >>> display = ModelEvaluationDisplay.from_predictions([1.0, 2.0, 4.0], [1.0, 2.5, 3.0], n_resamples=100)
    >>> display.ax_.get_xlabel()
    'rmse (unit of the target)'
    """

    def __init__(self, result: ModelEvaluation, *, metric: str | None = None):
        super().__init__(result)
        metric = ("rmse" if result.classes is None else "accuracy") if metric is None else metric
        known = result.overall.index.tolist()
        if metric not in known:
            raise ValueError(f"metric must be one of {known}; got {metric!r}.")
        self.metric = metric

    @classmethod
    def from_estimator(
        cls, estimator: Any, *args: Any, metric: str | None = None, ax: Any = None, **params: Any
    ) -> Any:
        """Evaluate a fitted model and draw one score.

        Parameters
        ----------
        estimator : fitted model
        *args, **params
            Parameters of `evaluate_model`.
        metric : str, optional
        ax : matplotlib Axes, optional

        Returns
        -------
        ModelEvaluationDisplay
        """
        return cls(cls._compute(estimator, *args, **params), metric=metric).plot(ax=ax)

    @classmethod
    def from_predictions(
        cls, y_true: Any, predictions: Any, *, metric: str | None = None, ax: Any = None, **params: Any
    ) -> Any:
        """Evaluate predictions and draw one score.

        Parameters
        ----------
        y_true : array of shape (n_samples,)
        predictions : array of shape (n_samples, n_classes), or (n_samples,) in regression
        metric : str, optional
        ax : matplotlib Axes, optional
        **params
            Parameters of `evaluate_predictions`.

        Returns
        -------
        ModelEvaluationDisplay
        """
        return cls(cls._compute_from_predictions(y_true, predictions, **params), metric=metric).plot(ax=ax)

    def _lines(self) -> pd.DataFrame:
        table = self.result.table
        of_class = (table["slice"] == "class") & (table["metric"] == _OF_CLASS.get(self.metric))
        return table[of_class | ((table["slice"] != "class") & (table["metric"] == self.metric))]

    def _figsize(self) -> tuple[float, float]:
        return 7.2, 1.3 + 0.27 * len(self._lines())

    def _draw(self, ax: Any) -> None:
        """Draw one line per slice; the number of its rows is in brackets."""
        lines = self._lines()
        kinds = list(dict.fromkeys(lines["slice"]))
        colors, heights = colors_of(kinds), np.arange(len(lines))
        self.errorbars_ = {}
        for i, kind in enumerate(kinds):
            rows = (lines["slice"] == kind).to_numpy()
            part = lines[rows]
            score = part["score"].to_numpy()
            around = np.abs(part[["low", "high"]].to_numpy().T - score)
            metric = part["metric"].iloc[0]
            self.errorbars_[kind] = ax.errorbar(
                score,
                heights[rows],
                xerr=np.nan_to_num(around),
                label=kind if metric == self.metric else f"{kind} ({metric})",
                linestyle="none",
                capsize=2,
                color=colors[kind],
                marker=MARKERS[i % len(MARKERS)],
            )
        ax.axvline(self.result.overall.loc[self.metric, "score"], color=MUTED, linestyle=":", zorder=0)
        names = [f"{shorten(value)}  ({n})" for value, n in zip(lines["value"], lines["n_rows"], strict=True)]
        ax.set(yticks=heights, yticklabels=names, ylim=(len(lines) - 0.4, -0.6))
        ax.set_xlabel(f"{self.metric} ({SCORE_UNITS[self.metric]})" if self.metric in SCORE_UNITS else self.metric)
        ax.set_title(_title(self.result.caption), fontsize="medium")
        if len(kinds) > 1:
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _title(caption: str) -> str:
    """Return the caption, shortened to fit above a picture."""
    return caption.replace(", which must be new to the model", "").replace(" bootstrap resamples", " resamples")
