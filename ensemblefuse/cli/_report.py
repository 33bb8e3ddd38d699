"""``ensemblefuse report``."""

from __future__ import annotations

import sys
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier

from ensemblefuse.cli._commands import read_groups
from ensemblefuse.cli._encoding import working_cache
from ensemblefuse.cli._messages import FAILED, CommandError, UsageError, describe, one_line, shown_list
from ensemblefuse.cli._table_stream import read_cells
from ensemblefuse.cli._tables import (
    check_any_column,
    check_column,
    check_input,
    check_output,
    form_of,
    open_pipeline,
    read_table,
    read_target,
    resolve_paths,
)
from ensemblefuse.exceptions import ColumnError, UnseenValueWarning
from ensemblefuse.fitted.model import FittedPipeline, best_model, targets_of
from ensemblefuse.modalities import columns_of, set_on_error
from ensemblefuse.schema import CellPolicy, category_key, read_or_raise

_SUFFIXES = (".html", ".htm")


def report(args: Namespace) -> int:
    """Run ``ensemblefuse report`` and return the exit code."""
    from ensemblefuse.persistence import load_model
    from ensemblefuse.report import write_report

    output = _check_page(args)
    path = check_input(args.model, "model")
    table = read_table(args.table, form_of(args))
    check_column(table, args.target, "--target", args.table)
    groups = read_groups(table, args.groups, args.table)
    model = load_model(path, trusted=args.trusted)
    model = of_target(model, args)
    X = features_of_model(model, args)
    classify = is_classifier(model)
    y = read_target(table, args.target, regression=not classify, form=target_form(path))
    y = _labels_of_model(y, model, args) if classify else y
    title = args.title or f"{path.name} on {Path(args.table).name}"
    with working_cache() as where:
        if not args.quiet:
            print(where, flush=True)
        written = write_report(
            model,
            X,
            y,
            output,
            trained_on=args.trained_on,
            title=title,
            n_rows=args.rows,
            groups=groups,
            random_state=args.seed,
        )
    print(f"wrote {output} ({written.n_bytes / 1e6:.1f} MB, {len(written.sections)} sections)")
    for name, error in written.errors.items():
        print(f"error: the section {name!r} failed: {describe(error)}", file=sys.stderr)
    return FAILED if written.errors else 0


def _check_page(args: Namespace) -> Path:
    output = check_output(args.output, overwrite=args.overwrite)
    if output.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{output} has the suffix {output.suffix!r}; a report needs the suffix .html.")
    return output


def target_form(path: Any) -> Any:
    """Return the written form of the target that ``fit`` noted in a model file; None if it noted none."""
    from ensemblefuse.persistence import inspect_model

    notes = inspect_model(path).get("metadata")
    return notes.get("target_format") if isinstance(notes, dict) else None


def of_target(model: Any, args: Namespace) -> Any:
    """Return the model of the column ``--target``, if the model predicts several; otherwise the model."""
    tasks = [name for name in targets_of(FittedPipeline(model).fusion) if name is not None]
    if not tasks:
        return model
    found = next((task for task in tasks if str(task) == args.target), None)
    if found is None:
        raise CommandError(f"{args.model} does not predict {args.target!r}; --target must be one of {tasks}.")
    return best_model(model).single_task(found)


def features_of_model(model: Any, args: Namespace) -> pd.DataFrame:
    """Return the columns of the table that the model reads, in the form that they had in fit, with paths resolved.

    ``card`` has no option ``--on-error``, so its errors do not name it.
    """
    opened, table = open_pipeline(model, args.model), read_cells(Path(args.table), form_of(args))
    check_any_column(opened.modalities, table.columns, args.table)
    on_error = getattr(args, "on_error", None)
    if on_error is not None:
        set_on_error(opened.modalities, on_error)
    present = [column for column in columns_of(opened.modalities) if column in table.columns]
    asked = None if on_error is None else dict.fromkeys(opened.schema, CellPolicy(on_error, "on_error"))
    try:
        table = read_or_raise(table[present], opened.schema, policies=opened.policies if asked is None else asked.copy)
    except ColumnError as error:
        told = describe(error) if hasattr(args, "on_error") else str(error)
        raise CommandError(f"{args.table}: {one_line(told)}") from error
    warnings.simplefilter("ignore", UnseenValueWarning)  # told once, of the whole table
    return resolve_paths(table, opened.path_columns, Path(args.table).parent)


def _labels_of_model(y: np.ndarray, model: Any, args: Namespace) -> np.ndarray:
    """Return labels of the model's type: a CSV file has the number 3 for the label ``"3"``."""
    known = {_text_of_label(label): label for label in model.classes_.tolist()}
    texts = [_text_of_label(label) for label in y.tolist()]
    unknown = sorted(set(texts) - set(known))
    if unknown:
        raise CommandError(
            f"The target {args.target!r} holds {shown_list(unknown)}, which the model never saw; it knows "
            f"{shown_list(known, limit=12)}."
        )
    return np.array([known[text] for text in texts])


def _text_of_label(label: Any) -> str:
    """Return what a label says, whatever its type: 3, 3.0 and "3" are one label, and so are True and "true"."""
    text = category_key(label) or str(label)
    return text.title() if text.lower() in ("true", "false") else text
