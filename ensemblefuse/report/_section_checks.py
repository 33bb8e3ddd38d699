"""Sections: errors of the fusion, checks of model and rows, and the cost of a prediction."""

from __future__ import annotations

import pandas as pd

from ensemblefuse.evaluation import prediction_latency
from ensemblefuse.inspection import disagreement_clusters, model_checks
from ensemblefuse.report._evidence import Evidence
from ensemblefuse.report._page import Section, Unavailable, table_html
from ensemblefuse.report._section_results import need_two, result_section

__all__ = ["checks_section", "cost_section", "errors_section"]

_BATCH, _CALLS = 32, 5


def errors_section(evidence: Evidence) -> Section:
    """Make the section of errors, grouped by which modalities are right and wrong."""
    if not evidence.classify:
        raise Unavailable("a number is not right or wrong, so errors cannot be grouped.")
    need_two(evidence, "errors cannot be grouped by modalities")
    result = disagreement_clusters(**evidence.arguments())
    lead = "Each bar shows errors of the fusion by which modalities, each used alone, are right and wrong there."
    table = result.table[["errors", "rows"]].assign(**{"errors, %": 100 * result.table["error_rate"]})
    section = result_section(
        result, lead, [table_html(table, "Errors by the predictions of single modalities", cut=False)]
    )
    section.notes = [note for note in section.notes if not note.startswith("Examples")]  # a column not shown here
    return section


def checks_section(evidence: Evidence) -> Section:
    """Make the section of checks: signs of leakage, of copies, and of useless modalities."""
    if evidence.trained_on:
        result = model_checks(
            evidence.model, evidence.X, evidence.y, groups=evidence.groups, random_state=evidence.random_state
        )
    else:
        _ = evidence.said  # raises with the reason if these rows have no scores
        new = {"X_test": evidence.X, "y_test": evidence.y, "groups_test": evidence.groups}
        result = model_checks(evidence.model, **new, random_state=evidence.random_state)
    lead = "An issue makes the scores too good or a modality useless; a tip suggests an improvement."
    ran = [finding for finding in result.findings if finding.severity != "not run"]
    table = pd.DataFrame(
        {
            "": [f.severity for f in ran],
            "check": [f.title for f in ran],
            "says": [f"{f.explanation} {f.advice}".strip() for f in ran],
        }
    )
    idle = [f"Not run: {f.title} ({f.explanation.rstrip('.')})." for f in result.findings if f.severity == "not run"]
    wide = table_html(table, "Checks, the most severe first", index=False, cut=False)
    return Section("", "", lead, notes=[*result.notes, *idle], wide=wide)


def cost_section(evidence: Evidence) -> Section:
    """Make the section of cost: milliseconds of a prediction by modality and stage."""
    sizes = sorted({1, min(_BATCH, len(evidence.X))})
    result = prediction_latency(evidence.model, evidence.given, batch_sizes=sizes, n_repeats=_CALLS)
    lead = (
        "Milliseconds on the machine that made this page; encoding takes most of the time if the cache has no "
        "embedding. Only these figures differ from page to page."
    )
    whole = result.table.pivot_table(
        index=["modality", "stage"], columns="batch_size", values="call_p50", sort=False, aggfunc="first"
    )
    whole.columns = [f"{size} row{'s' if size > 1 else ''}, ms" for size in whole.columns]
    return result_section(result, lead, [table_html(whole, f"Median of {_CALLS} calls")])
