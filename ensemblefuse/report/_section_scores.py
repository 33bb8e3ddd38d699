"""Sections: calibration, and confusion or predicted against actual."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse._theme import INK, SOFT
from ensemblefuse.report._evidence import Evidence
from ensemblefuse.report._figures import figure_html, new_figure
from ensemblefuse.report._page import Section, Unavailable, number, table_html
from ensemblefuse.report._section_data import cut
from ensemblefuse.scoring.display import color_map, text_on

__all__ = ["calibration_section", "confusion_section"]

_MOST_CLASSES = 20
_SHOWN_COUNTS = 12
_ROWS_A_BIN = 15


# ---------------------------------------------------------------------- calibration


def calibration_section(evidence: Evidence) -> Section:
    """Make the section of calibration of the most probable class."""
    if not evidence.classify:
        raise Unavailable("a regression predicts numbers; it has no probabilities to compare with frequencies.")
    proba = evidence.predictions
    sure, right = proba.max(axis=1), proba.argmax(axis=1) == evidence.said.y
    bins = _bins(sure, right)
    error = float(evidence.evaluation.overall.loc["ece", "score"])
    gap = float(sure.mean() - right.mean())
    tendency = "about as sure as it should be" if abs(gap) < 0.02 else "too sure" if gap > 0 else "not sure enough"
    lead = (
        "On the diagonal, a prediction of 80 % is right in 80 % of the rows; below the diagonal, the model is too sure."
    )
    figure = figure_html(
        lambda: _draw_reliability(sure, right, len(bins)),
        f"Reliability diagram of the most probable class, {evidence.source}; calibration error {number(error)}.",
        caption=f"Probability of the most probable class, {evidence.source}, in {len(bins)} bins of equal size",
    )
    notes = [
        f"The model predicts {100 * sure.mean():.1f} % on average and is right in {100 * right.mean():.1f} %: it is "
        f"{tendency}. Expected calibration error {number(error)} (Guo et al. 2017; 15 bins of equal width).",
    ]
    if evidence.said.sample_weight is not None:
        notes.append("All rows have the same weight here; the scores above use the weights of fit.")
    table = bins.assign(**{c: (100 * bins[c]).round(1) for c in ("says", "is right")})
    table = table.rename(columns={"says": "says, %", "is right": "is right, %"})
    return Section("calibration", "", lead, [figure], [table_html(table, "Bins of rows", index=False)], notes)


def _bins(sure: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """Return mean probability and share of right rows, in bins with equal numbers of rows."""
    n_bins = int(np.clip(len(sure) // _ROWS_A_BIN, 1, 10))
    edges = np.unique(np.quantile(sure, np.linspace(0, 1, n_bins + 1)))
    which = np.searchsorted(edges[1:-1], sure, side="left")
    groups = pd.DataFrame({"bin": which, "says": sure, "is right": right.astype(float)}).groupby("bin")
    return groups.mean().assign(rows=groups.size())[["rows", "says", "is right"]].reset_index(drop=True)


def _draw_reliability(sure: np.ndarray, right: np.ndarray, n_bins: int) -> Any:
    from sklearn.calibration import CalibrationDisplay

    figure, ax = new_figure(4.2)
    CalibrationDisplay.from_predictions(
        right.astype(int), sure, n_bins=n_bins, strategy="quantile", ax=ax, name="model", color=INK
    )
    ax.set(xlabel="probability of the most probable class", ylabel="share of rows that are right", title="")
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    ax.legend(frameon=False, loc="upper left")
    return figure


# ---------------------------------------------------------------------- confusion


def confusion_section(evidence: Evidence) -> Section:
    """Make the section of confusions between classes; in regression, of predicted against actual numbers."""
    if not evidence.classify:
        return _numbers_section(evidence)
    truth, said = evidence.said.y, evidence.predictions.argmax(axis=1)
    names = evidence.class_names
    shown = _shown_classes(truth, said, len(names))
    lead = "Rows of the matrix are true classes, columns predicted classes; the diagonal shows right predictions."
    figure = figure_html(
        lambda: _draw_confusion(truth, said, shown, names),
        f"Confusion matrix of {len(shown)} classes on {evidence.source}; {int((truth != said).sum())} are wrong.",
        caption=_confusion_caption(evidence, len(shown)),
    )
    tables = [table_html(_by_class(truth, said, names), "By class, the lowest recall first", most=12)]
    mistakes = _mistakes(truth, said, names)
    if len(mistakes):
        tables.append(table_html(mistakes, "Most frequent mistakes", index=False, most=8))
    return Section("confusion", "", lead, [figure], tables)


def _confusion_caption(evidence: Evidence, n_shown: int) -> str:
    n = len(evidence.class_names)
    which = f"; the {n_shown} of {n} classes with most mistakes" if n_shown < n else ""
    what = "Rows; the colour is the share of the true class" if n_shown <= _SHOWN_COUNTS else "Share of the true class"
    return f"{what}{which}. {evidence.source[:1].upper()}{evidence.source[1:]}"


def _shown_classes(truth: np.ndarray, said: np.ndarray, n_classes: int) -> np.ndarray:
    wrong = truth != said
    mistakes = np.bincount(truth[wrong], minlength=n_classes) + np.bincount(said[wrong], minlength=n_classes)
    return np.sort(np.argsort(-mistakes, kind="stable")[:_MOST_CLASSES])


def _draw_confusion(truth: np.ndarray, said: np.ndarray, shown: np.ndarray, names: list[str]) -> Any:
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    counts = confusion_matrix(truth, said, labels=range(len(names)))
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    counts, share = counts[np.ix_(shown, shown)], share[np.ix_(shown, shown)]
    figure, ax = new_figure(min(6.0, 2.4 + 0.28 * len(shown)))
    labels = [cut(names[i], 14) for i in shown]
    display = ConfusionMatrixDisplay(share, display_labels=labels)
    display.plot(
        ax=ax, cmap=color_map(signed=False), colorbar=False, include_values=False, im_kw={"vmin": 0, "vmax": 1}
    )
    for i, j in np.argwhere(counts > 0) if len(shown) <= _SHOWN_COUNTS else ():
        color = text_on(display.im_.to_rgba(share[i, j]))
        ax.text(j, i, f"{counts[i, j]}", ha="center", va="center", color=color, fontsize=8)
    short = max(map(len, labels)) <= 2
    ax.set_xticks(range(len(labels)), labels, rotation=0 if short else 90)
    # The layout leaves no room for long names beside square cells, nor for a label of the rows on a phone.
    ax.set(xlabel="columns: predicted; rows: true", ylabel="", aspect="auto")
    return figure


def _by_class(truth: np.ndarray, said: np.ndarray, names: list[str]) -> pd.DataFrame:
    n, found = np.bincount(truth, minlength=len(names)), np.bincount(truth[truth == said], minlength=len(names))
    claimed = np.bincount(said, minlength=len(names))
    with np.errstate(invalid="ignore"):
        table = pd.DataFrame(
            {"rows": n, "found (recall)": found / n, "right when said (precision)": found / claimed},
            index=pd.Index(names, name="class"),
        )
    return table[n > 0].sort_values("found (recall)", kind="stable")


def _mistakes(truth: np.ndarray, said: np.ndarray, names: list[str]) -> pd.DataFrame:
    wrong = truth != said
    pairs, counts = np.unique(np.column_stack([truth, said])[wrong], axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return pd.DataFrame(
        {
            "true": [names[i] for i in pairs[order, 0]],
            "predicted": [names[i] for i in pairs[order, 1]],
            "rows": counts[order],
        }
    )


# ---------------------------------------------------------------------- regression


def _numbers_section(evidence: Evidence) -> Section:
    truth, said = evidence.said.y, evidence.predictions
    lead = "On the diagonal the prediction is exact; the further a point is from it, the larger the error."
    figure = figure_html(
        lambda: _draw_numbers(truth, said),
        f"Predicted against actual numbers on {evidence.source}.",
        caption=f"Predicted and actual, {evidence.source}",
    )
    error = np.abs(said - truth)
    shares = (0.5, 0.8, 0.9, 0.95, 1.0)
    table = pd.DataFrame(
        {"of the rows, %": [f"{100 * share:.0f}" for share in shares], "error at most": np.quantile(error, shares)}
    )
    notes = [f"Mean error (predicted minus actual): {number(float((said - truth).mean()))}."]
    return Section("confusion", "", lead, [figure], [table_html(table, "Absolute errors", index=False)], notes)


def _draw_numbers(truth: np.ndarray, said: np.ndarray) -> Any:
    from sklearn.metrics import PredictionErrorDisplay

    figure, ax = new_figure(4.2)
    style = {"color": INK, "alpha": 0.6 if len(truth) < 500 else 0.3, "s": 14, "linewidths": 0}
    PredictionErrorDisplay(y_true=truth, y_pred=said).plot(
        ax=ax, kind="actual_vs_predicted", scatter_kwargs=style, line_kwargs={"color": SOFT}
    )
    ax.set(xlabel="predicted", ylabel="actual")
    return figure
