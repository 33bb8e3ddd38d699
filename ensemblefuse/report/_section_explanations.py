"""Section: explanations of single rows with right and wrong predictions."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from ensemblefuse.inspection import RowExplanation, explain_row
from ensemblefuse.report._evidence import MOST_MODALITIES, Evidence
from ensemblefuse.report._page import Section, Unavailable, escape, number, paragraph

__all__ = ["chosen_rows", "rows_section"]


def rows_section(evidence: Evidence, n_rows: int) -> Section:
    """Make the section of some rows with the shares of their modalities, and what matters inside each."""
    if not n_rows:
        raise Unavailable("no rows were asked for.")
    lead = (
        "Positive, blue, to the right: speaks for the predicted class. Negative, orange, to the left: against it. "
        if evidence.classify
        else "Positive, blue, to the right: raises the predicted number. Negative, orange, to the left: lowers it. "
    ) + "All bars here have one scale. In a picture, a text or a sound, the strongest colour is its own largest effect."
    table = evidence.X if evidence.X.index.is_unique else evidence.X.reset_index(drop=True)
    rows = chosen_rows(evidence, n_rows)
    told = {position: _explanation(evidence, table, position) for position in rows}
    scale = max((explanation.largest for explanation in told.values() if explanation is not None), default=1.0)
    blocks = "".join(_row_html(evidence, table, position, told[position], scale) for position in rows)
    note = (
        "Predictions and their probabilities are out of fold; the bars explain the model that was fitted on all rows, "
        "whose prediction for a row of fit may differ."
    )
    above = paragraph(note, kind="note") if evidence.trained_on else ""
    return Section("", "", lead, wide=f'{above}<div class="rows">{blocks}</div>')


def _there(evidence: Evidence, position: int) -> list[str]:
    """Return the modalities that a row holds."""
    return [name for name, here in zip(evidence.names, evidence.present[:, position], strict=True) if here]


def _explanation(evidence: Evidence, table: pd.DataFrame, position: int) -> RowExplanation | None:
    """Explain a row; None if it holds too many modalities."""
    if len(_there(evidence, position)) > MOST_MODALITIES:
        return None
    return explain_row(evidence.model, table, table.index[position], random_state=evidence.random_state)


def _row_html(
    evidence: Evidence, table: pd.DataFrame, position: int, explanation: RowExplanation | None, scale: float
) -> str:
    there = _there(evidence, position)
    verdict = _verdict(evidence, position)
    head = f"Row {table.index[position]}, with {', '.join(there) or 'nothing'}"
    if explanation is None:
        why = paragraph(f"Not explained: the row holds more than {MOST_MODALITIES} modalities, with too many subsets.")
    else:
        shown = explanation.to_html(scale=scale)
        why = f'{_known(evidence, position, explanation)}<div class="explanation">{shown}</div>'
    return f'<article class="row"><h3>{escape(head)}</h3>{verdict}{why}</article>'


def _known(evidence: Evidence, position: int, explanation: RowExplanation) -> str:
    """Return a note if the explained model, which was fitted on the row, differs from the out-of-fold prediction."""
    said = evidence.predictions[np.flatnonzero(evidence.said.rows == position)[0]]
    if not evidence.classify or str(explanation.target) == evidence.class_names[int(said.argmax())]:
        return ""
    return paragraph(f"The model fitted on all rows, also this one, predicts {explanation.target}: this is explained.")


def _verdict(evidence: Evidence, position: int) -> str:
    """Return the true and the predicted value of a row, as HTML."""
    place = np.flatnonzero(evidence.said.rows == position)
    said = evidence.predictions[place[0]]
    how = "Predicted out of fold" if evidence.trained_on else "Predicted"
    if not evidence.classify:
        truth = float(evidence.y[position])
        return f"<p>{how}: {number(float(said))}, true: {number(truth)}, error {number(float(said) - truth)}.</p>"
    label, right = evidence.class_names[int(said.argmax())], said.argmax() == evidence.codes[position]
    kind, word = ("right", "right") if right else ("wrong", "wrong")
    return (
        f'<p>{how}: <b>{escape(label)}</b> with {100 * said.max():.0f} %, <b class="{kind}">{word}</b>; '
        f"true: <b>{escape(evidence.class_names[evidence.codes[position]])}</b>.</p>"
    )


def chosen_rows(evidence: Evidence, n_rows: int) -> list[int]:
    """Return the positions of rows to explain: wrong and right ones in turn, if possible of different combinations.

    A combination is the set of modalities that a row holds. Wrong rows are ordered by error, the largest first; right
    rows begin with a medium certainty.
    """
    rows = evidence.said.rows
    wrong = _wrong(evidence)
    order = {
        False: np.argsort(-_error(evidence), kind="stable"),
        True: np.argsort(np.abs(_error(evidence) - np.median(_error(evidence)[~wrong])), kind="stable")
        if (~wrong).any()
        else np.arange(len(rows)),
    }
    patterns = ["".join("1" if here else "0" for here in column) for column in evidence.present[:, rows].T]
    chosen: list[int] = []
    seen: set[tuple[bool, str]] = set()
    for turn in range(2 * len(rows)):
        if len(chosen) == min(n_rows, len(rows)):
            break
        good = turn % 2 == 1
        left = [i for i in order[good] if wrong[i] != good and i not in chosen]
        left.sort(key=partial(_is_seen, seen, patterns, good))  # a stable sort: the order stays within each half
        if left:
            chosen.append(int(left[0]))
            seen.add((good, patterns[left[0]]))
    return [int(rows[i]) for i in chosen]


def _is_seen(seen: set[tuple[bool, str]], patterns: list[str], good: bool, i: int) -> bool:
    return (good, patterns[i]) in seen


def _error(evidence: Evidence) -> np.ndarray:
    """Return the error of each of ``said.rows``: 1 minus the probability of the true class, or the absolute error."""
    said, y = evidence.predictions, evidence.said.y
    return 1 - said[np.arange(len(y)), y] if evidence.classify else np.abs(said - y)


def _wrong(evidence: Evidence) -> np.ndarray:
    """Return which rows have a wrong class; in regression the tenth of the rows with the largest errors."""
    if evidence.classify:
        return evidence.predictions.argmax(axis=1) != evidence.said.y
    error = _error(evidence)
    return error > np.quantile(error, 0.9)
