"""Head of the page, above the sections: scores with intervals, and which modalities improve the model."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from ensemblefuse.report._evidence import Evidence, looks_trained_on
from ensemblefuse.report._page import Unavailable, escape, interval_text, number, paragraph
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
    """Return which modalities improve the model, in a few sentences."""
    if len(evidence.names) == 1:
        return f"The model has one modality, {evidence.names[0]}; nothing is fused."
    unit = METRICS[evidence.metric].label
    table = evidence.removal
    helps, hurts = table[table["low"] > 0], table[table["high"] < 0]
    unclear = table.drop(index=[*helps.index, *hurts.index])
    sentences = []
    if len(helps):
        helps = helps.sort_values("loss", ascending=False)
        verb = "improves" if len(helps) == 1 else "improve"
        rises = _listed([f"{_effect(row)}" for _, row in helps.iterrows()])
        each = " each in turn" if len(helps) > 1 else " it"
        who = _capital(_listed(helps.index))
        sentences.append(f"{who} {verb} the model: without{each} the {unit} rises by {rises}.")
    joint = evidence.ablation.joint_gain
    together = joint is not None and joint[1] > 0
    if len(hurts):
        falls = _listed([_effect(-row) for _, row in hurts.iterrows()])
        advice = "" if together else ": it is better to leave it out"
        sentences.append(f"Without {_listed(hurts.index)} the {unit} falls by {falls}{advice}.")
    if len(unclear):
        sentences.append(
            f"For {_listed(unclear.index)} no gain over the others is measurable."
            if sentences
            else "No single modality adds a measurable gain to the others"
            + (" with a model of its own." if together else ": any one of them can be left out.")
        )
    if joint is not None and together:
        gain = pd.Series({"loss": joint[0], "low": joint[1], "high": joint[2]})
        sentences.append(
            f"The joint model over all of them lowers the {unit} by another {_effect(gain)}; these figures do not "
            "divide that gain among the modalities."
        )
    return " ".join(sentences)


def _effect(row: pd.Series) -> str:
    low, high = sorted((row["low"], row["high"]))
    decimals = 3 if abs(row["loss"]) < 1 else 2
    return f"{number(row['loss'], decimals)} {interval_text(low, high, decimals)}"


def _listed(names: object) -> str:
    names = [str(name) for name in names]  # type: ignore[attr-defined]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


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
    return f"{where} In brackets: 95 % intervals by a bootstrap over {by}."
