"""Head of the page, above the sections: scores with intervals, and which modalities improve the model."""

from __future__ import annotations

import math
import warnings

import numpy as np

from ensemblefuse.fitted.gains import Gain
from ensemblefuse.report._evidence import Evidence, looks_trained_on
from ensemblefuse.report._page import Unavailable, decimals_for, escape, interval_text, number, paragraph
from ensemblefuse.scoring.metrics import METRICS, row_values

__all__ = ["answer", "headline"]

_TOO_GOOD = (
    "These rows have the labels of the rows that the model was fitted on, in the same order. If they are these rows, "
    "every score here is too good; make the report with --trained-on (trained_on=True)."
)


def headline(evidence: Evidence) -> list[str]:
    """Return HTML of the answer, the scores, and what they were measured on."""
    try:
        parts = [f'<p class="answer">{escape(answer(evidence))}</p>', _facts(_scores(evidence), evidence)]
        parts.append(paragraph(_source(evidence), kind="source"))
    except Unavailable as reason:
        parts = [f'<p class="answer">No score: {escape(reason)}</p>', _facts([], evidence)]
    if looks_trained_on(evidence):
        warnings.warn(_TOO_GOOD, stacklevel=3)
        parts.append(paragraph(_TOO_GOOD, kind="warning"))
    return parts


def answer(evidence: Evidence) -> str:
    """Return which modalities help, in a few sentences; the checks and the tables show the same figures."""
    if len(evidence.names) == 1:
        return f"The model has one modality, {evidence.names[0]}; nothing is fused."
    gains = evidence.gains
    better = [name for name in gains.names if gains.on_top[name].helps]
    worse = [name for name in gains.names if gains.on_top[name].hurts]
    rest = [name for name in gains.names if name not in (*better, *worse)]
    alone, unclear = [name for name in rest if gains.alone[name].helps], [n for n in rest if not gains.alone[n].helps]
    together = gains.joint is not None and gains.joint.helps
    sentences = []
    if better:
        better.sort(key=lambda name: -gains.on_top[name].mean)
        figures = _figures([gains.on_top[name] for name in better], gains.unit)
        sentences.append(f"On top of the others, {_listed(better)} {_verb(better, 'help')}: {figures}.")
    if alone:
        alone.sort(key=lambda name: -gains.alone[name].mean)
        figures = _figures([gains.alone[name] for name in alone], gains.unit)
        nothing = f"{'it adds no' if len(alone) == 1 else 'none of them adds a'} clear gain to the others"
        sentences.append(f"Alone, {_listed(alone)} {_verb(alone, 'help')}: {figures}; {nothing}.")
    if worse:
        figures = _figures([gains.on_top[name] for name in worse], gains.unit)
        advice = "" if together else f"; try the model without {'it' if len(worse) == 1 else 'them'}"
        sentences.append(
            f"On top of the others, {_listed(worse)} {_verb(worse, 'make')} the prediction worse: {figures}{advice}."
        )
    if unclear:
        sentences.append(
            f"{'Without the joint model, no' if together else 'No'} evidence that {_listed(unclear)} "
            f"{_verb(unclear, 'help')}, alone or on top of the others."
        )
    if together and gains.joint is not None:
        sentences.append(
            f"The joint model over all of them adds a {_figures([gains.joint], gains.unit)}; the other figures are "
            "without it, and it is not divided among the modalities."
        )
    return " ".join(sentences)


def _figures(gains: list[Gain], unit: str) -> str:
    """Return gains with their intervals, as text."""
    texts = [f"{number(g.mean, d := _decimals(g))} {interval_text(g.low, g.high, d)}" for g in gains]
    return f"{'gain' if len(gains) == 1 else 'gains'} of {_listed(texts)} {unit}"


def _decimals(gain: Gain) -> int:
    """Return how many decimals to show: enough to see on which side of 0 an interval lies."""
    end = gain.low if gain.helps else gain.high if gain.hurts else 1.0
    return max(decimals_for(max(map(abs, gain))), min(6, math.ceil(-math.log10(abs(end)))))


def _verb(names: list[str], verb: str) -> str:
    return f"{verb}s" if len(names) == 1 else verb


def _listed(names: object) -> str:
    names = [str(name) for name in names]  # type: ignore[attr-defined]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _scores(evidence: Evidence) -> list[tuple[str, str, str]]:
    """Return name, value and interval of each score."""
    said = evidence.said
    if evidence.classify:
        prior = -np.average(row_values(said.of([]), said.y, "log_loss"), weights=said.sample_weight)
        share = np.average(row_values(said.of([]), said.y, "accuracy"), weights=said.sample_weight)
        return [
            _score(evidence, "accuracy", "accuracy", f"class frequencies: {number(share)}"),
            _score(evidence, "log_loss", "log-loss", f"class frequencies: {number(prior)}"),
        ]
    spread = np.average((said.y - np.average(said.y, weights=said.sample_weight)) ** 2, weights=said.sample_weight)
    return [
        _score(evidence, "rmse", "RMSE", f"spread of the target: {number(float(np.sqrt(spread)))}"),
        _score(evidence, "r2", "R²", ""),
    ]


def _score(evidence: Evidence, metric: str, name: str, more: str) -> tuple[str, str, str]:
    score, low, high = evidence.evaluation.overall.loc[metric, ["score", "low", "high"]]
    return name, number(score), f"{interval_text(low, high)}\n{more}"


def _facts(scores: list[tuple[str, str, str]], evidence: Evidence) -> str:
    model = type(evidence.parts.fusion).__name__
    facts = [
        *scores,
        ("rows", f"{len(evidence.X):,}", f"{len(evidence.class_names)} classes" if evidence.classify else "regression"),
        ("modalities", str(len(evidence.names)), ", ".join(evidence.names)),
        ("model", model, ""),
    ]
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}"
        f"{''.join(f'<small>{escape(line)}</small>' for line in more.splitlines())}</dd></div>"
        for name, value, more in facts
    )
    return f'<dl class="facts">{cells}</dl>'


def _source(evidence: Evidence) -> str:
    by = "rows" if evidence.groups is None else f"{len(np.unique(evidence.groups)):,} groups of rows"
    where = (
        "All scores are those of the model's out-of-fold predictions for the rows of fit: each row was predicted by "
        "estimators that were fitted without it. The data description and the explained rows use the rows themselves."
        if evidence.trained_on
        else "All scores are those of the given rows, which are taken to be new to the model. If it was fitted on "
        "them, the scores are too good."
    )
    what = METRICS[evidence.metric]
    return (
        f"{where} A gain is a fall of the {what.label}, in {what.unit}: positive helps. In brackets: 95 % intervals by "
        f"a bootstrap over {by}."
    )
