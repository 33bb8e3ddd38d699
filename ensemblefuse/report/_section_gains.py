"""Sections on what modalities are worth: gains of subsets, and their division among the modalities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse._theme import INK, SOFT
from ensemblefuse.fitted.gains import Gain, Gains
from ensemblefuse.inspection import modality_interactions, modality_shapley
from ensemblefuse.report._evidence import Evidence
from ensemblefuse.report._figures import figure_html, new_figure
from ensemblefuse.report._page import Section, table_html
from ensemblefuse.report._section_results import joined_intervals, need_at_most_8, need_two, on_scale, scale_of
from ensemblefuse.scoring.metrics import METRICS

__all__ = ["ablation_section", "shares_section"]

_KINDS = {"redundancy": "overlap", "synergy": "need each other", "neither": "not clear"}


def ablation_section(evidence: Evidence) -> Section:
    """Make the section of gains of all modalities, without each, of each alone, and of each on top of the others."""
    need_two(evidence, "there is nothing to leave out")
    gains = evidence.gains
    lead = (
        "Further right is better; 0 is the score without any modality. A modality helps on top of the others if the "
        "model without it lies clearly left of the line, which is that of all together."
    )
    lines = _lines(gains)
    caption = f"Gain in {METRICS[evidence.metric].worth}, with 95 % intervals; {evidence.source}"
    figure = figure_html(lambda: _draw(lines, gains), f"{caption}. The table has the numbers.", caption=caption)
    worth = pd.concat([_table(gains.alone, "alone"), _table(gains.on_top, "on top of the others")], axis=1)
    tables = [
        table_html(joined_intervals(worth.rename_axis("modality")), f"Gain of each modality, {gains.unit}"),
        table_html(joined_intervals(_table(lines, "gain").rename_axis("predicted with")), f"Gain, {gains.unit}"),
    ]
    return Section("", "", lead, [figure], tables, list(evidence.subsets.notes))


def shares_section(evidence: Evidence) -> Section:
    """Make the section of Shapley values of the modalities, and of interactions of their pairs."""
    need_two(evidence, "every prediction depends on it alone")
    need_at_most_8(evidence)
    rows = {**evidence.arguments(), "groups": evidence.groups, "random_state": evidence.random_state}
    shares, pairs = modality_shapley(**rows), modality_interactions(**rows)
    lead = (
        "The gain of all modalities together, divided among them: a bar is what a modality adds, averaged over all "
        "combinations of the others (its Shapley value). Positive helps. A pair below 0 says the same twice; in a pair "
        "above 0, each needs the other."
    )
    names = {"value": "its part of the gain", "share": "of all, %", "last": "on top of the others"}
    table = shares.table.assign(share=100 * shares.table["share"])
    divided = joined_intervals(table).rename(columns=names)[[names["value"], names["share"], "alone", names["last"]]]
    figure = figure_html(
        lambda: on_scale(shares.plot(), evidence.gains, "x"), f"{shares.caption}.", caption=shares.caption
    )
    together = joined_intervals(pairs.table.drop(columns=["advice"]).replace({"kind": _KINDS}))
    tables = [
        table_html(divided, f"The gain, divided, {evidence.gains.unit}"),
        table_html(together.rename(columns={"kind": "the pair"}), f"Interaction of each pair, {evidence.gains.unit}"),
    ]
    notes = list(dict.fromkeys([*shares.notes, *pairs.notes]))
    return Section("", "", lead, [figure], tables, notes)


# ---------------------------------------------------------------------- parts


def _table(gains: dict[Any, Gain], name: str) -> pd.DataFrame:
    return pd.DataFrame.from_dict(gains, orient="index", columns=[name, f"{name}_low", f"{name}_high"])


def _lines(gains: Gains) -> dict[str, Gain]:
    """Return the gain of each predicted subset by its name, the whole model first."""
    names, found = gains.names, {}
    for subset, gain in sorted(gains.subsets.items(), key=lambda item: -len(item[0])):
        if len(subset) == len(names):
            found["all together"] = gain
        elif len(subset) == 1:
            found[f"{subset[0]} alone"] = gain
        elif subset:
            found[f"without {next(name for name in names if name not in subset)}"] = gain
    return found if gains.joint is None else {"with joint member": gains.total, **found}


def _draw(lines: dict[str, Gain], gains: Gains) -> Any:
    figure, ax = new_figure(1.2 + 0.3 * len(lines))
    ax.axvline(0, color=SOFT, linewidth=0.8)
    ax.axvline(gains.subsets[tuple(gains.names)].mean, color=SOFT, linestyle=":", linewidth=1)
    for height, (name, gain) in enumerate(lines.items()):
        marker, face = (
            ("s", "white") if name.endswith(" alone") else ("o", INK) if name.startswith("without ") else ("D", INK)
        )
        around = np.nan_to_num([[gain.mean - gain.low], [gain.high - gain.mean]])
        ax.errorbar(gain.mean, height, xerr=around, color=INK, marker=marker, mfc=face, capsize=3, linewidth=1.2)
    ax.set(yticks=range(len(lines)), yticklabels=list(lines), ylim=(len(lines) - 0.5, -0.5), xlim=scale_of(gains))
    ax.set_xlabel(f"gain, {gains.unit}; positive helps")
    return figure
