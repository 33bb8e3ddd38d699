"""The sections of a model card, as Markdown. Each states facts, or what to pass to get them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from ensemblefuse._public_names import PUBLIC
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.report._card_facts import CardFacts
from ensemblefuse.report._markdown import bullets, code, code_block, plain_text, table_text
from ensemblefuse.report._page import Unavailable, interval_text, number
from ensemblefuse.scoring.bootstrap import Resampling
from ensemblefuse.scoring.metrics import SCORE_UNITS, row_values

__all__ = ["FEW_ROWS", "card_sections", "lead"]

FEW_ROWS = 30  # The limits name classes with fewer rows of fit than this.
_POOR_RECALL = 0.5
_MOST_CLASSES, _MOST_PATTERNS, _MOST_COLUMNS, _LONGEST = 50, 12, 8, 160
_HOLDS_NONE = {
    True: "For a row that holds none of them, the prediction is the class frequencies in fit.",
    False: "For a row that holds none of them, the prediction is the mean in fit.",
}
_CELLS = {"image": "photo.jpg", "audio": "clip.wav", "video": "film.mp4", "text": "some words"}


def card_sections(facts: CardFacts, intended_use: str | None, limits: str | Iterable[str]) -> dict[str, str]:
    """Return the content of each section by its heading, in order."""
    stated = [limits] if isinstance(limits, str) else list(limits)
    return {
        "Intended use": intended_use or "Not stated. Pass `intended_use=` to `model_card`.",
        "Model": _model(facts),
        "Data": _data(facts),
        "Encoders": _encoders(facts),
        "Scores": _told(_scores, facts),
        "Missing modalities": _told(_missing, facts),
        "Input": _input(facts),
        "Limits": f"{_stated(stated)}\n\nMeasured, or known about the model:\n\n{bullets(_limits(facts))}",
        "How to use": _use(facts),
        "Versions": _versions(facts),
    }


def lead(facts: CardFacts) -> str:
    """Return what the model is, in one sentence."""
    what = f"distinguishes {len(facts.class_names)} classes" if facts.parts.classify else "predicts a number"
    return f"{code(type(facts.parts.fusion).__name__)} over {_listed(map(plain_text, facts.parts.names))}; {what}."


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _told(section: Any, facts: CardFacts) -> str:
    try:
        return section(facts)
    except Unavailable as reason:
        return f"Not measured: {reason}"


# ---------------------------------------------------------------------- what it is


def _model(facts: CardFacts) -> str:
    fusion, core = facts.parts.fusion, facts.parts.core
    rows = [["fusion", code(_in_line(fusion))]]
    if core is not fusion:
        rows.append(["chosen or held by it", code(_in_line(core))])
    if getattr(core, "combiner_", None) is not None:
        rows.append(["combiner", code(_in_line(core.combiner_))])
    members = getattr(core, "estimators_", None)
    for name, part in members.items() if isinstance(members, dict) else []:
        many = f" ({len(part)} models, one per fold)" if isinstance(part, list) else ""
        rows.append([f"estimator of {plain_text(name)}", code(_in_line(part[0] if many else part)) + many])
    if hasattr(getattr(core, "estimator_", None), "fit"):
        rows.append(["estimator", code(_in_line(core.estimator_))])
    text = table_text(["part", "as fitted"], rows)
    notes = facts.manifest.get("metadata") or {}
    told = bullets(f"{plain_text(key)}: {plain_text(value)}" for key, value in notes.items())
    return f"{text}\n\nMetadata in the file:\n\n{told}" if told else text


def _in_line(part: Any) -> str:
    """Return an estimator with its parameters, or without them if the text would be too long."""
    if isinstance(part, Pipeline):
        return ", ".join(_in_line(step) for _, step in part.steps)
    text = " ".join(repr(part).split())
    return text if len(text) <= _LONGEST else f"{type(part).__name__}(...)"


def _data(facts: CardFacts) -> str:
    parts = [_rows_of_fit(facts)]
    if facts.evidence is not None:
        parts.append(f"Rows for the scores: {len(facts.evidence.X):,}, given as new to the model.")
    if facts.parts.classify:
        parts.append(_classes(facts))
    elif facts.target_in_fit is not None:
        y = facts.target_in_fit
        parts.append(f"The target in fit ranges from {y.min():g} to {y.max():g}, mean {y.mean():g}.")
    return "\n\n".join([*parts, _gaps(facts), _fingerprint(facts)])


def _rows_of_fit(facts: CardFacts) -> str:
    if facts.target_in_fit is not None:
        return f"Rows of fit: {len(facts.target_in_fit):,}."
    recorded = (facts.manifest.get("training") or {}).get("n_rows")
    if recorded:
        return f"Rows of fit: {recorded:,}, according to the file."
    return "Rows of fit: the model does not keep their number."


def _classes(facts: CardFacts) -> str:
    columns, counts = ["class"], []
    for what, codes in (
        ("rows of fit", facts.target_in_fit),
        ("rows for the scores", facts.evidence.codes if facts.evidence else None),
    ):
        if codes is not None:
            columns += [what, "share"]
            counts.append(np.bincount(codes, minlength=len(facts.class_names)))
    rows = [
        [plain_text(name), *(cell for count in counts for cell in (f"{count[i]:,}", f"{count[i] / count.sum():.1%}"))]
        for i, name in enumerate(facts.class_names)
    ]
    return table_text(columns, rows)


def _gaps(facts: CardFacts) -> str:
    """Return a table of the modalities with their columns, and how many rows lack each."""
    header, present = ["modality", "columns"], []
    for what, there in (
        ("rows of fit without it", facts.present_in_fit),
        ("rows for the scores without it", facts.evidence.present if facts.evidence else None),
    ):
        if there is not None:
            header.append(what)
            present.append(there)
    columns = {modality["name"]: modality["columns"] for modality in facts.manifest.get("modalities", ())}
    rows = [
        [
            plain_text(name),
            _columns(columns.get(name, [])),
            *(f"{int((~there[i]).sum()):,} ({(~there[i]).mean():.1%})" for there in present),
        ]
        for i, name in enumerate(facts.parts.names)
    ]
    text = table_text(header, rows)
    if facts.present_in_fit is None:
        text += f"\n\n{type(facts.parts.core).__name__} does not keep how many rows of fit lacked each modality."
    return text


def _columns(columns: list[str]) -> str:
    if len(columns) > _MOST_COLUMNS:
        return f"{code(columns[0])} to {code(columns[-1])}, {len(columns):,} columns"
    return ", ".join(map(code, columns)) or "–"


def _fingerprint(facts: CardFacts) -> str:
    training = facts.manifest.get("training") or {}
    lines = []
    if "sha256" in training:
        lines.append(
            f"Fingerprint of the data of fit: sha256 {code(training['sha256'])}, {training['n_rows']:,} rows, "
            f"{training['n_columns']:,} columns."
        )
    if "samples" in training:
        lines.append(f"`saw_samples` compares ids with the {training['samples']['n']:,} ids of rows of fit in it.")
    return " ".join(lines) or (
        "No fingerprint of the data of fit: pass `training_data=` to `save_model`, and the path of the file to "
        "`model_card`."
    )


def _encoders(facts: CardFacts) -> str:
    modalities = facts.manifest.get("modalities", ())
    rows = [
        [plain_text(modality["name"]), ", ".join(code(step["repr"]) for step in modality["encoder"])]
        for modality in modalities
        if modality["encoder"]
    ]
    if not rows and not facts.weights:
        return "None: the model takes blocks of numbers; what made them is not part of it."
    text = f"{table_text(['modality', 'encoder and further steps'], rows)}\n\n" if rows else ""
    if not facts.weights:
        return f"{text}No encoder reads the weights of a network."
    weights = [
        [
            code(record["encoder"]),
            code(record["name"]),
            code(record["sha256"]),
            code(record["package"]) if record.get("package") else "a file or folder of the user",
            plain_text(record.get("licence") or "not known here"),
            "yes" if record.get("bundled") else "no",
        ]
        for record in sorted(facts.weights, key=lambda record: (record["encoder"], record["name"]))
    ]
    header = ["read by", "weights", "sha256", "package", "licence of the weights", "in the file"]
    return f"{text}{table_text(header, weights)}\n\n{_trained_or_frozen(facts)}"


def _trained_or_frozen(facts: CardFacts) -> str:
    """Return whether the weights of networks are as they came, or a start for a training on the rows of fit."""
    readers = sorted({record["encoder"] for record in facts.weights})
    tuned = [name for name in readers if PUBLIC.get(name) == "networks"]
    if not tuned:
        return "The weights are frozen: they were not trained on these rows."
    others = " The other weights are frozen." if len(tuned) < len(readers) else ""
    names = ", ".join(map(code, tuned))
    return f"{names} trained a part of these weights further, on the rows of fit; the model holds that part.{others}"


# ---------------------------------------------------------------------- scores


def _scores(facts: CardFacts) -> str:
    result = facts.evaluation
    overall = [
        [f"{name} ({SCORE_UNITS[name]})" if name in SCORE_UNITS else str(name), *_with_interval(row)]
        for name, row in result.overall.iterrows()
    ]
    parts = [f"{plain_text(result.caption)}.", table_text(["score", "value", "95 % interval"], overall)]
    if facts.looks_trained_on:
        parts.insert(
            0, "**These rows have the labels of the rows of fit, in the same order: the scores may be too good.**"
        )
    if facts.parts.classify:
        parts.append(_by_class(result.table[result.table["slice"] == "class"]))
    if (result.table["slice"] == "modalities").any():
        parts.append(_by_pattern(result, ["accuracy", "log_loss"] if facts.parts.classify else ["rmse"]))
    return "\n\n".join([*parts, *([bullets(map(plain_text, result.notes))] if result.notes else [])])


def _with_interval(row: pd.Series) -> tuple[str, str]:
    return number(row["score"]), interval_text(row["low"], row["high"]) if np.isfinite(row["low"]) else "–"


def _by_class(table: pd.DataFrame) -> str:
    labels = table.drop_duplicates("value").sort_values("n_rows", ascending=False, kind="stable")["value"].tolist()
    cells = {(row["value"], row["metric"]): row for _, row in table.iterrows()}
    metrics = ["recall", "precision", "f1"]
    rows = [
        [
            plain_text(label),
            f"{cells[label, 'recall']['n_rows']:,}",
            *(" ".join(_with_interval(cells[label, metric])) for metric in metrics),
        ]
        for label in labels[:_MOST_CLASSES]
    ]
    text = table_text(["class", "rows", *(f"{metric}, 95 % interval" for metric in metrics)], rows)
    more = len(labels) - _MOST_CLASSES
    return f"{text}\n\n{more} more classes, with fewer rows, are not shown." if more > 0 else text


def _by_pattern(result: Any, metrics: list[str]) -> str:
    """Return a table of scores by the modalities that rows hold."""
    table = result.table[(result.table["slice"] == "modalities") & result.table["metric"].isin(metrics)]
    rows = [
        [
            plain_text(value),
            f"{part['n_rows'].iloc[0]:,}",
            *(" ".join(_with_interval(row)) for _, row in part.iterrows()),
        ]
        for value, part in table.groupby("value", sort=False)
    ]
    return table_text(["rows that hold only", "rows", *(f"{metric}, 95 % interval" for metric in metrics)], rows)


def _missing(facts: CardFacts) -> str:
    """Return what to expect for rows that hold only some modalities, measured on rows that hold at least these."""
    said = facts.subsets
    names = ["accuracy", "log_loss"] if facts.parts.classify else ["rmse"]
    groups = None if facts.groups is None else np.asarray(facts.groups)[said.rows]
    rows = []
    for subset, predictions in zip(said.subsets, said.predictions, strict=True):
        held = said.present[[said.names.index(name) for name in subset]].all(axis=0)
        label = " + ".join(map(plain_text, subset))
        if not held.any():
            rows.append([label, "0", *["–"] * len(names)])
            continue
        weight = None if said.sample_weight is None else said.sample_weight[held]
        cells = _measured(predictions[held], said.y[held], weight, None if groups is None else groups[held])
        rows.append([label, f"{int(held.sum()):,}", *cells])
    source = "new rows" if facts.evidence is not None else "out-of-fold predictions of the rows of fit"
    return (
        f"A modality is missing if its cell is `None` or NaN, or if the table lacks its column. Measured on {source}: "
        "in rows that hold at least these modalities, the others are hidden. In brackets: 95 % intervals.\n\n"
        + table_text(["modalities in the row", "rows", *names], rows)
        + f"\n\n{_HOLDS_NONE[facts.parts.classify] if facts.parts.has_ledger else ''}"
    )


def _measured(predictions: np.ndarray, y: np.ndarray, weight: Any, groups: Any) -> list[str]:
    """Return accuracy and log-loss, or the root mean squared error, each with its interval."""
    metrics = ["accuracy", "log_loss"] if predictions.ndim == 2 else ["squared_error"]
    values = np.column_stack([row_values(predictions, y, metric) for metric in metrics])
    means = np.average(values, axis=0, weights=weight)
    low, high = Resampling(groups=groups, sample_weight=weight).interval(values)
    cells = []
    for i, metric in enumerate(metrics):
        score = np.array([means[i], low[i], high[i]])
        if metric != "accuracy":  # a loss: `row_values` changes its sign
            score = -score[[0, 2, 1]]
        if metric == "squared_error":
            score = np.sqrt(score)
        cells.append(f"{number(score[0])} {interval_text(*score[1:])}" if np.isfinite(low[i]) else number(score[0]))
    return cells


# ---------------------------------------------------------------------- input, limits, use


def _input(facts: CardFacts) -> str:
    inputs = facts.manifest.get("input")
    if not inputs:
        text = "One row per sample. If a block is NaN in all its columns, it is missing in that row."
        rows = [[plain_text(m["name"]), _columns(m["columns"])] for m in facts.manifest.get("modalities", ())]
        return f"{text}\n\n{table_text(['block', 'columns'], rows)}"
    rows = [
        [
            code(name),
            str(column["type"]),
            code(column["dtype"]) if "dtype" in column else "–",
            ", ".join(map(plain_text, column["modalities"])),
        ]
        for name, column in inputs.items()
    ]
    text = "One row per sample. Any row may lack a modality: its cells are `None` or NaN, or its columns are absent."
    told = [text, table_text(["column", "holds", "dtype in the example", "read by"], rows), *_bad_cells(facts)]
    return "\n\n".join(told)


def _bad_cells(facts: CardFacts) -> list[str]:
    """Return lines on what happens with a cell that an encoder cannot read."""
    policies: dict[str, list[str]] = {}
    for name, encoder, _ in facts.parts.model[0].transformers_:
        found = [part for _, part in parts_of(encoder) if isinstance(part, BaseEncoder)]
        if found:
            policies.setdefault(getattr(found[0], "on_error", "raise"), []).append(plain_text(name))
    said = {"raise": "is an error", "missing": "counts as missing, with a warning"}
    return [f"A cell that cannot be read {said[key]}: {_listed(names)}." for key, names in policies.items()]


def _stated(limits: list[str]) -> str:
    if not limits:
        return "None stated. Pass `limits=` to `model_card`."
    return limits[0] if len(limits) == 1 else bullets(limits)


def _limits(facts: CardFacts) -> list[str]:
    """Return limits that were measured or follow from how the model was made; no opinions."""
    lines = [*_limits_of_rows(facts), *_limits_of_scores(facts)]
    unknown = [record["name"] for record in facts.weights if not record.get("licence")]
    if unknown:
        lines.append(f"ensemblefuse does not know the licence of these weights: {', '.join(map(code, unknown))}.")
    if facts.trusted:
        lines.append(
            f"The model holds types that `load_model` needs in `trusted=`: {_listed(map(code, facts.trusted))}."
        )
    return lines


def _limits_of_rows(facts: CardFacts) -> list[str]:
    if facts.present_in_fit is None or facts.target_in_fit is None:
        return [f"{type(facts.parts.core).__name__} does not keep which modalities and classes the rows of fit held."]
    lines = []
    present, names = facts.present_in_fit, facts.parts.names
    seen = {tuple(pattern) for pattern in np.unique(present, axis=1).T.tolist()}
    if len(names) <= _MOST_COLUMNS:
        codes = range(1, 2 ** len(names))
        unseen = [p for p in ([bool(k >> i & 1) for i in range(len(names))] for k in codes) if tuple(p) not in seen]
        shown = [" + ".join(plain_text(n) for n, there in zip(names, p, strict=True) if there) for p in unseen]
        if shown:
            more = f" and {len(shown) - _MOST_PATTERNS} more" if len(shown) > _MOST_PATTERNS else ""
            told = "; ".join(shown[:_MOST_PATTERNS])
            lines.append(f"No row of fit held only these modalities, without the others: {told}{more}.")
    if facts.parts.classify:
        counts = np.bincount(facts.target_in_fit, minlength=len(facts.class_names))
        few = [f"{plain_text(facts.class_names[i])} ({counts[i]})" for i in np.argsort(counts, kind="stable")
               if counts[i] < FEW_ROWS]  # fmt: skip
        if few:
            lines.append(f"Classes with fewer than {FEW_ROWS} rows of fit: {', '.join(few)}.")
    return lines


def _limits_of_scores(facts: CardFacts) -> list[str]:
    try:
        result = facts.evaluation
    except Unavailable:
        return ["This card has no score of the model."]
    if facts.evidence is None:
        lines = ["The scores are out of fold, on the rows of fit: no rows from another source were scored."]
    else:
        lines = ["The scores are those of the given rows; nothing shows whether the model was fitted on them."]
    if facts.groups is None:
        lines.append("The intervals assume independent rows; pass `groups=` if persons or objects have several rows.")
    if facts.parts.classify:
        table = result.per_class
        poor = table[(table["recall"] < _POOR_RECALL) & (table["support"] > 0)]
        if len(poor):
            told = [f"{plain_text(label)} ({number(row['recall'])})" for label, row in poor.iterrows()]
            lines.append(f"Classes with a recall below {_POOR_RECALL}: {', '.join(told)}.")
    return lines


def _use(facts: CardFacts) -> str:
    name = facts.path.name if facts.path is not None else "model.fuse"
    trusted = f", trusted={facts.trusted!r}" if facts.trusted else ""
    method = "predict_proba" if hasattr(facts.model, "predict_proba") else "predict"
    lines = [
        "import pandas as pd",
        "from ensemblefuse import load_model",
        "",
        f"model = load_model({_quoted(name)}{trusted})",
    ]
    inputs = facts.manifest.get("input") or {}
    if 0 < len(inputs) <= _MOST_COLUMNS:
        lines += ["rows = pd.DataFrame(", "    {"]
        lines += [f"        {_quoted(column)}: [{_cell(kind['type'])}]," for column, kind in inputs.items()]
        lines += ["    }", ")"]
    else:
        lines.append('rows = pd.read_parquet("rows.parquet")  # the columns above')
    lines.append(f"model.{method}(rows)")
    text = code_block(lines, "python")
    if facts.path is None:
        return f"{text}\n\n`save_model(model, {_quoted(name)})` writes the file."
    with open(facts.path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    made = facts.manifest.get("created")
    return f"{text}\n\n{code(name)}: {facts.path.stat().st_size:,} bytes, written {made}, sha256 {code(digest)}."


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _cell(kind: str) -> str:
    return _quoted(_CELLS[kind]) if kind in _CELLS else "1.0" if kind == "number" else "..."


def _versions(facts: CardFacts) -> str:
    versions = facts.manifest.get("versions") or {}
    where = "On the machine that saved the file." if facts.path is not None else "On the machine that made this card."
    return f"{where}\n\n{table_text(['package', 'version'], [[code(n), code(v)] for n, v in versions.items()])}"
