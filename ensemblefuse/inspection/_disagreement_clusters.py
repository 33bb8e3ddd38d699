"""Errors of a fused classifier, grouped by which modalities are right and which wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse._theme import AGAINST, FOR, SOFT
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fitted.subsets import predict_subsets
from ensemblefuse.scoring.display import MUTED, BaseDisplay, drawn_by
from ensemblefuse.scoring.result import TableResult
from ensemblefuse.table import to_frame

__all__ = ["DisagreementClusters", "DisagreementClustersDisplay", "disagreement_clusters"]

_STATES = ("wrong", "right", "missing")
_REST = "other patterns"
_SHOWN = 5


class DisagreementClusters(TableResult):
    """Errors of the fused model, grouped by which modalities are right, wrong or missing in the row.

    Attributes
    ----------
    table : DataFrame
        One row per pattern, the pattern with most errors first. Index: the pattern, such as
        ``"image right, text wrong"``. ``errors``: rows of this pattern that the fused model gets wrong; ``rows``: all
        rows of the pattern; ``error_rate``; ``share``: share of all errors; ``same_label``: errors where all present
        modalities predict the fused label; ``confusions``: most frequent pairs of true and predicted label, with
        counts; ``examples``: labels of the rows whose wrong predictions are most certain.
    errors : DataFrame
        One row per wrong row: its ``pattern``, the ``true`` and the ``fused`` label. Index: labels of the rows of `X`,
        or positions among the rows of fit.
    said : DataFrame
        The label that each modality alone predicts in these rows, one column per modality; None where it is missing.
    names : list of str
        Modalities.
    patterns : DataFrame of str
        ``"right"``, ``"wrong"`` or ``"missing"`` for each pattern and modality. Rows as in ``table``, without the row
        of other patterns.
    n_fits : int
        Number of models that were fitted: always 0.
    caption, notes
        As in `TableResult`.
    """

    n_fits = 0

    def __init__(self, table, errors, said, patterns, caption, notes):
        super().__init__(table, caption, notes)
        self.errors = errors
        self.said = said
        self.patterns = patterns
        self.names = list(patterns.columns)

    def _display_class(self) -> Any:
        return DisagreementClustersDisplay


class DisagreementClustersDisplay(BaseDisplay):
    """Errors of each pattern as bars, and beside them a mark for each modality: right, wrong or missing.

    Parameters
    ----------
    result : DisagreementClusters

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import DecisionFusionClassifier, DisagreementClustersDisplay
    >>> from sklearn.linear_model import LogisticRegression
    >>> X = pd.DataFrame({"image__0": [0.0, 1, 0, 1, 0, 1, 0, 1], "text__0": [0.0, 1, 0, 1, 0, 1, 1, 0]})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=2, joint=False).fit(X, [0, 1] * 4)
    >>> display = DisagreementClustersDisplay.from_estimator(model, X, [1, 0] * 4)
    >>> display.ax_.get_xlabel()
    'errors (rows)'
    """

    def _figsize(self) -> tuple[float, float]:
        return 6.4 + 0.3 * len(self.result.names), 1.8 + 0.34 * len(self.result.table)

    def _draw(self, ax: Any) -> None:
        table, patterns, names = self.result.table, self.result.patterns, self.result.names
        heights = np.arange(len(table))
        ax.barh(heights, table["errors"], color=SOFT, height=0.6)
        for height, (count, rate) in zip(heights, table[["errors", "error_rate"]].to_numpy(), strict=True):
            ax.annotate(f"{rate:.0%} of its rows", (count, height), (4, 0), textcoords="offset points", va="center")
        longest = max([1, *table["errors"]])
        step = 0.12 * longest  # the marks are left of 0
        places = -step * np.arange(len(names), 0, -1)
        for state, (marker, color) in _MARKS.items():
            where = np.argwhere(patterns.to_numpy() == state)
            ax.scatter(places[where[:, 1]], where[:, 0], marker=marker, color=color, s=45, label=state)
        if len(table) > len(patterns):
            ax.text(-0.5 * step, len(patterns), _REST, ha="right", va="center")
        every = max(1, round(longest / 5))
        ticks = list(range(0, longest + 1, every))
        ax.set_xticks([*places, *ticks], [*names, *map(str, ticks)])
        for label in ax.get_xticklabels()[: len(names)]:
            label.set(rotation=90)
        ax.spines["left"].set_position(("data", 0))
        ax.set(yticks=[], ylim=(max(len(table), 1) - 0.5, -0.5), xlabel="errors (rows)")
        ax.set_xlim(min(places[0], -2.5 * step if len(table) > len(patterns) else 0) - step, 1.35 * longest)
        ax.set_title(self.result.caption.replace(", by", ",\nby"), fontsize="medium")
        ax.legend(title="alone, the modality is", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


@drawn_by(DisagreementClustersDisplay)
def disagreement_clusters(model: Any, X: Any = None, y: Any = None, *, n_clusters: int = 10) -> DisagreementClusters:
    """Group the errors of a fused classifier by which modalities alone are right, wrong or missing.

    Each modality predicts alone. Rows with the same modalities right, wrong and missing form one group. No clustering
    algorithm is used: there are few such patterns, and their names are easy to read.

    Parameters
    ----------
    model : fitted classifier
        A pipeline that ends in a fusion classifier, a fusion classifier, or a search over these.
    X : DataFrame of n_samples rows, optional
        Rows that the model was not fitted on; a modality predicts alone by hiding the others. Without `X` and `y`, the
        out-of-fold predictions of decision-level fusion are used.
    y : array of shape (n_samples,), optional
    n_clusters : int
        Number of patterns that are listed; all other patterns form one row.

    Returns
    -------
    DisagreementClusters
        Nothing is fitted.

    Raises
    ------
    ValueError
        If the model is a regressor; or if it keeps no out-of-fold predictions of single modalities and `X` is not
        given.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import DecisionFusionClassifier, disagreement_clusters
    >>> from sklearn.linear_model import LogisticRegression
    >>> X = pd.DataFrame({"image__0": [0.0, 1, 0, 1, 0, 1, 0, 1], "text__0": [0.0, 1, 0, 1, 0, 1, 1, 0]})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=2, joint=False).fit(X, [0, 1] * 4)
    >>> found = disagreement_clusters(model, X.assign(text__0=1 - X["text__0"]), [0, 1] * 4)
    >>> found.n_fits
    0
    """
    parts = FittedModel(model)
    if not parts.classify:
        raise ValueError("disagreement_clusters is for classifiers: a predicted number is not simply right or wrong.")
    if not isinstance(n_clusters, (int, np.integer)) or n_clusters < 1:
        raise ValueError(f"n_clusters must be an int of at least 1; got {n_clusters!r}.")
    if (X is None) != (y is None):
        raise ValueError("give X and y together, or neither.")
    said = predict_subsets(model, [*([name] for name in parts.names), parts.names], X, y, as_deployed=True)
    assert said.classes is not None
    codes = np.stack([said.of([name]).argmax(axis=1) for name in parts.names])
    fused = said.of(parts.names)
    states = np.where(said.present, (codes == said.y).astype(int), 2)
    labels = _labels(X, said.rows)
    wrong = fused.argmax(axis=1) != said.y
    frame = _frame(parts.names, said.classes, codes, states, fused, said.y, labels)
    table = _groups(frame, wrong, n_clusters)
    state_of = dict(zip(frame["pattern"], states.T.tolist(), strict=True))
    listed = [pattern for pattern in table.index if pattern in state_of]
    named = [[_STATES[state] for state in state_of[pattern]] for pattern in listed]
    patterns = pd.DataFrame(named, index=pd.Index(listed, name="pattern"), columns=parts.names)
    source = "out-of-fold predictions" if said.method == "ledger" else "the given rows, modalities hidden"
    caption = f"{int(wrong.sum())} errors in {len(wrong)} rows, by the prediction of each modality alone ({source})"
    known = "Examples are positions among the rows of fit."
    given = "If the model was fitted on rows of X, they have too few errors."
    notes = [*said.notes, known if X is None else given]
    index = [labels[i] for i in np.flatnonzero(wrong)]
    errors = frame.loc[wrong, ["pattern", "true", "fused"]].set_axis(index, axis=0)
    # Kept in a separate frame: a modality may be called "true" or "pattern".
    spoken = said.classes[codes].astype(object)
    spoken[states == 2] = None
    alone = pd.DataFrame(spoken.T[wrong], index=errors.index, columns=parts.names, dtype=object)
    return DisagreementClusters(table, errors, alone, patterns, caption, notes)


def _labels(X: Any, rows: np.ndarray) -> list:
    if X is None or isinstance(X, np.ndarray):
        return rows.tolist()
    index = to_frame(X).index
    return [index[i] for i in rows]


def _frame(names, classes, codes, states, fused, y, labels) -> pd.DataFrame:
    """Return one row per sample, with its pattern and the predictions."""
    columns: dict[str, Any] = {
        "pattern": [
            ", ".join(f"{name} {_STATES[s]}" for name, s in zip(names, column, strict=True)) for column in states.T
        ],
        "true": classes[y],
        "fused": classes[fused.argmax(axis=1)],
        "certainty": fused.max(axis=1),
        "label": labels,
        "same": ((codes == fused.argmax(axis=1)) | (states == 2)).all(axis=0) & (states != 2).any(axis=0),
    }
    return pd.DataFrame(columns)


def _groups(frame: pd.DataFrame, wrong: np.ndarray, n_listed: int) -> pd.DataFrame:
    counts = frame["pattern"][wrong].value_counts(sort=True)
    listed = list(counts.index[:n_listed])
    group = frame["pattern"].where(frame["pattern"].isin(listed), _REST)
    rows = []
    for name in [*listed, *([_REST] if len(counts) > n_listed else [])]:
        members = (group == name).to_numpy()
        if name == _REST:
            members = members & frame["pattern"].isin(counts.index).to_numpy()
        rows.append(_describe(frame[members & wrong], int(members.sum()), int(wrong.sum())))
    columns = ["errors", "rows", "error_rate", "share", "same_label", "confusions", "examples"]
    index = pd.Index([*listed, *([_REST] if len(counts) > n_listed else [])], name="pattern")
    return pd.DataFrame(rows, index=index, columns=columns)


def _describe(errors: pd.DataFrame, n_rows: int, n_errors: int) -> list[Any]:
    pairs = (errors["true"].astype(str) + " → " + errors["fused"].astype(str)).value_counts()
    sure = errors.sort_values("certainty", ascending=False, kind="stable")["label"].tolist()
    return [
        len(errors),
        n_rows,
        len(errors) / n_rows,
        len(errors) / n_errors,
        int(errors["same"].sum()),
        "; ".join(f"{pair} ({count})" for pair, count in pairs.head(3).items()),
        ", ".join(map(str, sure[:_SHOWN])),
    ]


_MARKS = {"right": ("o", FOR), "wrong": ("X", AGAINST), "missing": ("_", MUTED)}
