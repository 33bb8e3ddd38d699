"""``ensemblefuse card``."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from sklearn.base import is_classifier

from ensemblefuse.cli._commands import read_groups
from ensemblefuse.cli._encoding import working_cache
from ensemblefuse.cli._messages import UsageError
from ensemblefuse.cli._report import _labels_of_model, features_of_model, of_target, target_form
from ensemblefuse.cli._tables import check_column, check_input, check_output, form_of, read_table, read_target

_SUFFIXES = (".md", ".markdown")


def card(args: Namespace) -> int:
    """Run ``ensemblefuse card`` and return the exit code."""
    from ensemblefuse.report import model_card

    output = check_output(args.output, overwrite=args.overwrite)
    if output.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{output} has the suffix {output.suffix!r}; a card needs the suffix .md.")
    if (args.table is None) != (args.target is None):
        raise UsageError("DATA and --target go together: rows that are new to the model, and the column it predicts.")
    if args.groups and args.table is None:
        raise UsageError("--groups names a column of DATA, which is not given.")
    path = check_input(args.model, "model")
    rows = _rows(args) if args.table is not None else {}
    with working_cache() as where:
        if rows and not args.quiet:
            print(where, flush=True)
        made = model_card(
            **{"model": path, **rows},
            title=args.title,
            intended_use=args.intended_use,
            limits=args.limit,
            metadata={"license": args.license} if args.license else None,
            trusted=args.trusted,
        )
    made.save(output)
    print(f"wrote {output} ({output.stat().st_size / 1e3:.1f} kB)")
    return 0


def _rows(args: Namespace) -> dict[str, Any]:
    """Return new rows, their target and their groups; and the model of this target, if the file's has several."""
    from ensemblefuse.persistence import load_model

    table = read_table(args.table, form_of(args))
    check_column(table, args.target, "--target", args.table)
    groups = read_groups(table, args.groups, args.table)
    loaded = load_model(args.model, trusted=args.trusted)
    model = of_target(loaded, args)
    X = features_of_model(model, args)
    y = read_target(table, args.target, regression=not is_classifier(model), form=target_form(args.model))
    y = _labels_of_model(y, model, args) if is_classifier(model) else y
    return {"X": X, "y": y, "groups": groups, **({} if model is loaded else {"model": model})}
