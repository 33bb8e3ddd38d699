"""Checks for duplicate rows."""

from __future__ import annotations

import pandas as pd

from ensemblefuse.inspection._checks_data import CheckData, NotRun
from ensemblefuse.inspection._near_duplicates import duplicate_pairs

__all__ = ["check_copies_across", "check_copies_within"]

# Stricter than the default of find_near_duplicates: rows of one class may be alike without being copies.
_THRESHOLD = 0.98

Answer = tuple[str, str, str, list]


def check_copies_across(data: CheckData) -> Answer:
    """Check for rows of X_test that are copies, or nearly copies, of rows of X."""
    rows, test = data.rows, data.test_rows
    pairs, notes = duplicate_pairs(rows, test, None, _THRESHOLD)
    _require_modality(data, notes)
    if pairs.empty:
        return "ok", f"No row of X_test has a copy in X. {' '.join(notes)}".rstrip(), "", []
    found = pairs["other_position"].unique()
    explanation = (
        f"{len(found)} of {len(test)} rows of X_test have a copy in X: {_by_modality(pairs)}, "
        f"{int(pairs['exact'].sum())} of them with the same content, the others with embeddings that correlate by "
        f"{_THRESHOLD} or more"
    )
    if data.y is not None and data.y_test is not None and data.parts.classify:
        same = data.y[pairs["row_position"]] == data.y_test[pairs["other_position"]]
        explanation += f"; {same.mean():.0%} of the pairs have the same label"
    advice = "Keep copies on one side of the split (GroupShuffleSplit); a score on rows of fit is too good."
    return "issue", f"{explanation}.", advice, [test.labels[i] for i in sorted(found)]


def check_copies_within(data: CheckData) -> Answer:
    """Check for copies within X that cross-validation may put on both sides of a split."""
    rows = data.rows
    pairs, notes = duplicate_pairs(rows, None, None, _THRESHOLD)
    _require_modality(data, notes)
    if data.groups is not None:
        crosses = data.groups[pairs["row_position"].astype(int)] != data.groups[pairs["other_position"].astype(int)]
        pairs = pairs[crosses]
    if pairs.empty:
        where = "has a copy in X" if data.groups is None else "has a copy in another group"
        return "ok", f"No row of X {where}. {' '.join(notes)}".rstrip(), "", []
    found = sorted({*pairs["row_position"], *pairs["other_position"]})
    what = "have a copy in X, and no groups were given" if data.groups is None else "have a copy in another group"
    explanation = f"{len(found)} of {len(rows)} rows {what} ({_by_modality(pairs)})."
    advice = (
        "Put copies into one group, and pass the groups to fit and to cross-validation: otherwise each copy is scored "
        "by a model that was fitted on the other."
    )
    return "issue", explanation, advice, [rows.labels[i] for i in found]


def _by_modality(pairs: pd.DataFrame) -> str:
    return ", ".join(f"{count} pairs in {name!r}" for name, count in pairs["modality"].value_counts().items())


def _require_modality(data: CheckData, notes: list[str]) -> None:
    left_out = [note for note in notes if "by chance" in note or "left out" in note]
    if len(left_out) == len(data.parts.names):
        raise NotRun(f"no modality distinguishes rows. {' '.join(left_out)}")
