"""Sections of scores and of missing modalities, and parts of sections that show a result as a table with a figure."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.evaluation import missing_modality_curve
from ensemblefuse.fitted.gains import Gains
from ensemblefuse.report._evidence import MOST_MODALITIES, Evidence
from ensemblefuse.report._figures import figure_html
from ensemblefuse.report._page import Interval, Section, Unavailable, decimals_for, interval_text, number, table_html
from ensemblefuse.scoring.result import TableResult

__all__ = [
    "joined_intervals",
    "missing_section",
    "need_at_most_8",
    "need_two",
    "on_scale",
    "result_figure",
    "result_section",
    "scale_of",
    "scores_section",
]

_MOST_LINES = 30
SMALLER_IS_BETTER = {"log_loss", "brier", "ece", "mae", "rmse", "set_size", "interval_width"}
_SCORES = {
    **{"log_loss": "log-loss", "brier": "Brier score", "ece": "calibration error", "roc_auc": "ROC AUC"},
    **{"macro_f1": "macro F1", "r2": "R²", "rmse": "RMSE", "mae": "mean absolute error"},
}


def score_name(metric: str) -> str:
    """Return the name of a score that all parts of the page use."""
    return _SCORES.get(metric, metric.replace("_", " "))


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
    overall = joined_intervals(result.overall).rename_axis("")
    better = ["smaller" if name in SMALLER_IS_BETTER else "greater" for name in overall.index]
    table = overall.rename(index=score_name).assign(**{"better if": better})
    section = result_section(result, lead, [table_html(table, "Scores with 95 % intervals")])
    if len(evidence.class_names) > _MOST_LINES:
        section.figures.clear()
    return section


def missing_section(evidence: Evidence) -> Section:
    """Make the section of the gain that is left as modalities go missing."""
    need_two(evidence, "without it, no modality is left")
    need_at_most_8(evidence)
    rows = {**evidence.arguments(), "groups": evidence.groups, "random_state": evidence.random_state}
    result = _as_gains(missing_modality_curve(**rows, mechanisms=["random", "column"]), evidence)
    lead = (
        "The gain that is left as more rows lose modalities, from left to right: 0 is the score without any modality; "
        "the flatter a line, the less the model depends on them."
    )
    wide = result.table.pivot(index="rate", columns=["mechanism", "modality"], values="score")
    # Columns are pairs, because a modality may also have the name "any".
    wide = wide[[("random", "any"), *[("column", name) for name in evidence.names if ("column", name) in wide]]]
    wide.columns = pd.Index(["any of them", *[name for _, name in wide.columns[1:]]])
    wide.index = pd.Index([f"{100 * rate:.0f} %" for rate in wide.index], name="rows that lose it")
    caption = f"Gain that is left, in {evidence.gains.unit}, by what may go missing"
    about = f"{result.caption}. The table has the numbers."
    figure = figure_html(lambda: on_scale(result.plot(), evidence.gains, "y"), about, caption=result.caption)
    return Section("", "", lead, [figure], [table_html(wide, caption)], list(result.notes))


def _as_gains(result: Any, evidence: Evidence) -> Any:
    """Return a curve of scores as one of gains over the score without any modality."""
    curve, zero, unit = copy(result), result.prior_score, evidence.gains.unit
    columns = {"score": "gain", "low": "gain_low", "high": "gain_high"}
    curve.table = result.table.assign(**{old: result.table[new] for old, new in columns.items()})
    curve.single_scores = {name: score - zero for name, score in result.single_scores.items()}
    curve.prior_score, curve.metric = 0.0, f"gain, {unit}"
    curve.caption = result.caption.replace(f"{result.metric} (greater is better)", f"Gain in {unit}", 1)
    return curve


# ---------------------------------------------------------------------- parts


def need_two(evidence: Evidence, why: str) -> None:
    if len(evidence.names) < 2:
        raise Unavailable(f"the model has one modality, {evidence.names[0]}; {why}.")
    _ = evidence.said  # raises with the reason if these rows have no scores


def need_at_most_8(evidence: Evidence) -> None:
    if len(evidence.names) > MOST_MODALITIES:
        raise Unavailable(
            f"the model has {len(evidence.names)} modalities; more than {MOST_MODALITIES} have too many subsets."
        )


def result_section(result: TableResult, lead: str, tables: list[str]) -> Section:
    return Section("", "", lead, [result_figure(result)], tables, list(result.notes))


def result_figure(result: Any) -> str:
    """Return the picture of a result as HTML."""
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


def scale_of(gains: Gains) -> tuple[float, float]:
    """Return the ends of the axis of all figures of gains on the page."""
    ends = np.array(
        [0.0, *[end for gain in (*gains.subsets.values(), *gains.on_top.values(), gains.total) for end in gain]]
    )
    low, high = np.nanmin(ends), np.nanmax(ends)
    margin = 0.04 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def on_scale(display: Any, gains: Gains, axis: str) -> Any:
    """Return the figure of a Display, with an axis of gains as in the other figures."""
    display.ax_.set(**{f"{axis}lim": scale_of(gains)})
    return display.figure_
