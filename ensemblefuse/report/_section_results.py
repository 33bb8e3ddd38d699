"""Sections that show a result as a table with a figure: scores, ablation, shares, missing modalities."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ensemblefuse.evaluation import missing_modality_curve
from ensemblefuse.inspection import modality_interactions, modality_shapley
from ensemblefuse.report._evidence import MOST_MODALITIES, Evidence
from ensemblefuse.report._figures import figure_html
from ensemblefuse.report._page import Interval, Section, Unavailable, decimals_for, interval_text, number, table_html
from ensemblefuse.scoring.result import TableResult

__all__ = ["ablation_section", "missing_section", "need_two", "result_section", "scores_section", "shares_section"]

_MOST_LINES = 30


def scores_section(evidence: Evidence) -> Section:
    """Make the section of all scores with intervals; one score is also shown by class and by modalities in the row."""
    _ = evidence.said  # raises with the reason if these rows have no scores
    result = evidence.evaluation
    lead = (
        "Each line is the share of right predictions: for all rows, for each class, and for the rows that hold only "
        "these modalities; the dotted line is the share for all rows."
        if evidence.classify
        else "Each line is the root mean squared error: for all rows, and for the rows that hold only these modalities."
    )
    table = joined_intervals(result.overall).rename_axis("")
    section = result_section(result, lead, [table_html(table, "Scores with 95 % intervals")])
    if len(evidence.class_names) > _MOST_LINES:
        section.figures.clear()
    return section


def ablation_section(evidence: Evidence) -> Section:
    """Make the section of scores of the fusion, of each modality alone, and of the fusion without each."""
    need_two(evidence, "there is nothing to leave out")
    result = evidence.ablation
    lead = (
        "Further right is better; a modality helps if the fusion without it lies clearly left of the line, which is "
        "the fusion of all."
    )
    table = joined_intervals(result.table.drop(columns=["n_modalities"]))
    return result_section(result, lead, [table_html(table, "Score, and difference to all, with 95 % intervals")])


def shares_section(evidence: Evidence) -> Section:
    """Make the section of Shapley values of the modalities, and of interactions of their pairs."""
    need_two(evidence, "every prediction depends on it alone")
    _need_at_most_8(evidence)
    rows = {**evidence.arguments(), "groups": evidence.groups, "random_state": evidence.random_state}
    shares, pairs = modality_shapley(**rows), modality_interactions(**rows)
    lead = (
        "A bar is the gain that a modality adds, averaged over all combinations of the others; all bars sum to the "
        "gain of all modalities together. A pair below zero is redundant; in a pair above zero, each needs the other."
    )
    section = result_section(shares, lead, [table_html(joined_intervals(shares.table), "Worth of each modality")])
    narrow = joined_intervals(pairs.table.drop(columns=["kind"]))  # the lead explains the sign already
    section.tables.append(table_html(narrow, "Interaction of each pair"))
    section.notes += [note for note in pairs.notes if note not in section.notes]
    if len(evidence.names) > 2:
        section.figures.append(_figure(pairs))
    return section


def missing_section(evidence: Evidence) -> Section:
    """Make the section of scores as modalities go missing."""
    need_two(evidence, "without it, no modality is left")
    _need_at_most_8(evidence)
    rows = {**evidence.arguments(), "groups": evidence.groups, "random_state": evidence.random_state}
    result = missing_modality_curve(**rows, mechanisms=["random", "column"])
    lead = "From left to right, more rows lose modalities; the flatter a line, the less the model depends on them."
    wide = result.table.pivot(index="rate", columns=["mechanism", "modality"], values="score")
    # Columns are pairs, because a modality may also have the name "any".
    wide = wide[[("random", "any"), *[("column", name) for name in evidence.names if ("column", name) in wide]]]
    wide.columns = pd.Index(["any of them", *[name for _, name in wide.columns[1:]]])
    wide.index = pd.Index([f"{100 * rate:.0f} %" for rate in wide.index], name="rows that lose it")
    return result_section(result, lead, [table_html(wide, f"{result.metric}, by what may go missing")])


# ---------------------------------------------------------------------- parts


def need_two(evidence: Evidence, why: str) -> None:
    if len(evidence.names) < 2:
        raise Unavailable(f"the model has one modality, {evidence.names[0]}; {why}.")
    _ = evidence.said  # raises with the reason if these rows have no scores


def _need_at_most_8(evidence: Evidence) -> None:
    if len(evidence.names) > MOST_MODALITIES:
        raise Unavailable(
            f"the model has {len(evidence.names)} modalities; more than {MOST_MODALITIES} have too many subsets."
        )


def result_section(result: TableResult, lead: str, tables: list[str]) -> Section:
    return Section("", "", lead, [_figure(result)], tables, list(result.notes))


def _figure(result: Any) -> str:
    alt = f"{result.caption}. The table has the numbers."
    return figure_html(lambda: result.plot().figure_, alt, caption=result.caption)


def joined_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with ``score``, ``low``, ``high`` joined to one column, and likewise ``x``, ``x_low``, ``x_high``.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse.report._section_results import joined_intervals
    >>> joined_intervals(pd.DataFrame({"score": [0.5], "low": [0.25], "high": [0.75]}))["score"].tolist()
    [Interval(value='0.500', ends='[0.250, 0.750]')]
    """
    out, before = {}, ""
    for column in table.columns:
        name = str(column)
        if name == "low" or (name.endswith("_low") and name[:-4] == before):
            high = name[: -len("low")] + "high"
            if high in table.columns:
                out[before] = _with_interval(table[before], table[column], table[high])
        elif not (name == "high" or name.endswith("_high")):
            out[name] = table[column]
            before = name
    return pd.DataFrame(out, index=table.index)


def _with_interval(value: pd.Series, low: pd.Series, high: pd.Series) -> pd.Series:
    decimals = decimals_for(max(value.abs().max(), low.abs().max(), high.abs().max()))
    cells = [
        Interval(number(v, decimals), interval_text(a, b, decimals)) if v == v else None
        for v, a, b in zip(value, low, high, strict=True)
    ]
    return pd.Series(cells, index=value.index, dtype=object)
