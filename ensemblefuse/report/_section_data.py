"""Section: contents of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse._theme import EDGE, INK, SOFT
from ensemblefuse.exceptions import counted
from ensemblefuse.report._evidence import Evidence
from ensemblefuse.report._figures import figure_html, new_figure
from ensemblefuse.report._page import Section, Unavailable, table_html
from ensemblefuse.scoring.metrics import row_values

__all__ = ["data_section"]

_MOST_CLASSES = 20
_MOST_PATTERNS = 12


def data_section(evidence: Evidence) -> Section:
    """Make the section of counts by modality, by class, and by combination of modalities."""
    if evidence.classify:
        lead = "Each bar is a class; its first part, the stronger one, shows the rows that hold every modality."
        figure = figure_html(lambda: _draw_classes(evidence), _alt_classes(evidence))
    else:
        lead = "The histogram shows the distribution of the numbers to predict."
        figure = figure_html(lambda: _draw_numbers(evidence), f"Histogram of the target in {len(evidence.y)} rows.")
    tables = [
        table_html(_modalities(evidence), f"Modalities, {len(evidence.X):,} rows"),
        table_html(_patterns(evidence), "Combinations of modalities that occur", index=False, most=_MOST_PATTERNS),
    ]
    if evidence.classify and not evidence.present.all():
        tables.append(
            table_html(_missing_by_class(evidence), "Rows without the modality, by class", most=_MOST_CLASSES)
        )
    return Section("data", "", lead, [figure], tables, _notes(evidence))


def _notes(evidence: Evidence) -> list[str]:
    empty = int((~evidence.present.any(axis=0)).sum())
    them = "it" if empty == 1 else "them"
    notes = [f"{counted(empty, 'row', 'hold')} no modality; for {them} the model predicts the class frequencies."]
    notes = notes if empty else []
    unseen = (
        [label for label, count in zip(evidence.class_names, _counts(evidence), strict=True) if not count]
        if evidence.classify
        else []
    )
    if unseen:
        notes.append(f"No row is of the class {', '.join(unseen[:8])}{', …' if len(unseen) > 8 else ''}.")
    return notes


def _counts(evidence: Evidence) -> np.ndarray:
    return np.bincount(evidence.codes, minlength=len(evidence.class_names))


def _modalities(evidence: Evidence) -> pd.DataFrame:
    n = evidence.present.shape[1]
    there = evidence.present.sum(axis=1)
    columns = [", ".join(evidence.parts.columns.get(name, [])) or "–" for name in evidence.names]
    return pd.DataFrame(
        {"columns": columns, "present": there, "missing": n - there, "missing, %": np.round(100 * (1 - there / n), 1)},
        index=pd.Index(evidence.names, name="modality"),
    )


def _patterns(evidence: Evidence) -> pd.DataFrame:
    """Return the combinations of modalities, the most frequent first, with their scores if there are any."""
    kinds, which = np.unique(evidence.present.T, axis=0, return_inverse=True)
    which = which.reshape(-1)
    counts = np.bincount(which, minlength=len(kinds))
    table = pd.DataFrame(
        {
            "rows hold": [_joined(evidence.names, kind) for kind in kinds],
            "rows": counts,
            **_score_by(evidence, which, len(kinds)),
        }
    )
    return table.iloc[np.argsort(-counts, kind="stable")]


def _joined(names: list[str], kind: np.ndarray) -> str:
    if kind.all():
        return "everything"
    return " + ".join(name for name, there in zip(names, kind, strict=True) if there) or "nothing"


def _score_by(evidence: Evidence, which: np.ndarray, n_kinds: int) -> dict[str, Any]:
    """Return accuracy or root mean squared error for the rows of each kind; empty if rows have no scores."""
    try:
        said = evidence.said
    except Unavailable:
        return {}
    kinds = which[said.rows]
    if evidence.classify:
        return {"accuracy": _mean_by(kinds, row_values(evidence.predictions, said.y, "accuracy"), n_kinds)}
    return {"RMSE": np.sqrt(_mean_by(kinds, -row_values(evidence.predictions, said.y, "squared_error"), n_kinds))}


def _mean_by(kinds: np.ndarray, values: np.ndarray, n_kinds: int) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.bincount(kinds, values, n_kinds) / np.bincount(kinds, minlength=n_kinds)


def _missing_by_class(evidence: Evidence) -> pd.DataFrame:
    lacking = [name for name, there in zip(evidence.names, evidence.present, strict=True) if not there.all()]
    table = {"rows": _counts(evidence)}
    for name in lacking:
        gone = ~evidence.present[evidence.names.index(name)]
        table[name] = np.bincount(evidence.codes[gone], minlength=len(evidence.class_names))
    index = pd.Index(evidence.class_names, name="class")
    return pd.DataFrame(table, index=index).sort_values("rows", ascending=False, kind="stable")


# ---------------------------------------------------------------------- figures


def _draw_classes(evidence: Evidence) -> Any:
    counts = _counts(evidence)
    whole = np.bincount(evidence.codes[evidence.present.all(axis=0)], minlength=len(counts))
    order = np.argsort(-counts, kind="stable")[:_MOST_CLASSES][::-1]
    figure, ax = new_figure(0.9 + 0.24 * len(order))
    labels = [cut(evidence.class_names[i], 22) for i in order]
    ax.barh(range(len(order)), whole[order], color=INK, height=0.7, label="every modality")
    if (whole < counts).any():
        ax.barh(range(len(order)), (counts - whole)[order], left=whole[order], color=EDGE, height=0.7, label="some")
        ax.legend(title="rows that hold", frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    ax.set_yticks(range(len(order)), labels)
    ax.set_ylim(-0.6, len(order) - 0.4)
    ax.set_xlabel("rows")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_title(
        f"Rows by class; the {len(order)} most frequent of {len(counts)}"
        if len(order) < len(counts)
        else "Rows by class"
    )
    return figure


def _alt_classes(evidence: Evidence) -> str:
    counts = _counts(evidence)
    most = int(np.argmax(counts))
    return (
        f"Bars of rows by class: {len(counts)} classes, from {counts.min()} to {counts.max()} rows; the most frequent "
        f"is {evidence.class_names[most]}."
    )


def _draw_numbers(evidence: Evidence) -> Any:
    figure, ax = new_figure()
    ax.hist(evidence.y.astype(float), bins="auto" if len(evidence.y) < 5000 else 60, color=SOFT)
    ax.set(xlabel="target", ylabel="rows", title=f"The target in {len(evidence.y):,} rows")
    return figure


def cut(text: str, limit: int) -> str:
    """Return a name, cut for an axis."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
