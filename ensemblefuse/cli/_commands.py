"""``ensemblefuse fit`` and ``evaluate``."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, r2_score, root_mean_squared_error

from ensemblefuse._fitting import with_groups
from ensemblefuse.cli._codes import columns_of_codes, told_codes
from ensemblefuse.cli._encoding import encode_modalities, working_cache
from ensemblefuse.cli._messages import CommandError, UsageError, describe, one_line
from ensemblefuse.cli._tables import (
    TextForm,
    check_column,
    check_not_input,
    check_output,
    check_table_suffix,
    form_of,
    read_table,
    read_target,
    read_texts,
    resolve_paths,
    words_for_missing,
)
from ensemblefuse.cli._written_target import check_labels, find_form, told_form
from ensemblefuse.compose import make_fusion_pipeline
from ensemblefuse.compose.proposal import propose
from ensemblefuse.evaluation import compare_models, format_comparison, standard_strategies
from ensemblefuse.exceptions import ColumnError
from ensemblefuse.fusion import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
)
from ensemblefuse.modalities import (
    cell_policies,
    columns_of,
    formats_of,
    path_columns,
    roles_of_columns,
    set_on_error,
)
from ensemblefuse.schema import learn_schema, read_by_schema, read_or_raise

# Kinds whose cells are read from a CSV file as they are written: 007 stays apart from 7.
WRITTEN = ("category", "text", "string", "tags", "date", "boolean", "censored", "numbers")


@dataclass
class Problem:
    """The contents of a table and the options: features, target, groups, and the modality of each column.

    Attributes
    ----------
    X : DataFrame of shape (n_samples, n_columns)
        The columns that the modalities name, with paths resolved.
    y : array of shape (n_samples,)
    groups : array of shape (n_samples,), or None
    modalities : list of (name, encoder, columns)
    target_form : dict, or None
        The written form of a target whose texts say numbers.
    """

    X: pd.DataFrame
    y: Any
    groups: Any
    modalities: list[tuple[str, Any, Any]]
    target_form: dict[str, Any] | None


def read_problem(args: Namespace) -> Problem:
    """Read the table of ``fit`` and ``evaluate``, and decide what its columns hold."""
    written = [column for column, kind in args.kind if kind in WRITTEN and column != args.target]
    form = form_of(args)
    table = read_table(args.table, form, texts=written)
    _check_names(table, args)
    target = find_form(table[args.target], args.target) if args.regression else None
    y = read_target(table, args.target, regression=args.regression, form=target)
    if not args.regression:
        check_labels(y, args.target)
    groups = read_groups(table, args.groups, args.table)
    others = {args.target, args.groups, *args.drop}
    features = table[[column for column in table.columns if column not in others]]
    if not features.shape[1]:
        raise CommandError(f"{args.table} has no feature columns: the options name all of its columns.")
    kinds = {c: k for c, k in args.kind if c in features.columns}
    codes = _codes(features.drop(columns=list(kinds)), args.table, form)
    features = features.copy()
    features[list(codes.columns)] = codes
    modalities = _infer(features, kinds, quiet=args.quiet)
    if not args.quiet:
        for line in filter(None, (told_codes(codes), words_for_missing(args.table, features, form))):
            print(line)
    set_on_error(modalities, args.on_error)
    X = features[columns_of(modalities)]
    try:  # before anything is encoded
        X = _without_bad_cells(X, modalities)
    except ColumnError as error:
        raise CommandError(f"{args.table}: {one_line(describe(error))}") from error
    X = resolve_paths(X, path_columns(modalities), Path(args.table).parent)
    if not args.quiet:
        if target is not None:
            print(told_form(table[args.target], args.target, target))
        print(f"{len(X)} rows, target {args.target!r}: {_summary(y, regression=args.regression)}\n", flush=True)
    return Problem(X, y, groups, modalities, target)


def _check_names(table: pd.DataFrame, args: Namespace) -> None:
    """Raise if an option names a column that the table lacks, or one that another option names."""
    check_column(table, args.target, "--target", args.table)
    for column in args.drop:
        check_column(table, column, "--drop", args.table)
    for column, _ in args.kind:
        check_column(table, column, "--kind", args.table)
        if column in (args.target, args.groups):
            raise UsageError(f"--kind names the column {column!r}, which is the target or the groups, not a feature.")
    if args.groups == args.target:
        raise UsageError(f"--groups and --target name the same column, {args.target!r}.")


def _codes(table: pd.DataFrame, path: str, form: TextForm) -> pd.DataFrame:
    """Return the columns of a table that hold codes, as they are written; a Parquet file has them as texts already."""
    if check_table_suffix(Path(path)) == "Parquet":
        return table[[]]
    return columns_of_codes(table, table.columns, lambda names, n_rows: read_texts(path, names, form, n_rows))


def _without_bad_cells(X: pd.DataFrame, modalities: list[tuple[str, Any, Any]]) -> pd.DataFrame:
    """Return the table without the cells that no column can hold; an error, or one warning, says which these are.

    They are taken out here, so that the fits on parts of the table do not warn of them again.
    """
    schema = learn_schema(X, roles_of_columns(modalities, X), formats_of(modalities, X))
    bad: dict[Any, list[int]] = {}
    for fault in read_by_schema(X, schema, fitting=True).faults:
        bad.setdefault(fault.column, []).append(fault.position)
    if bad:
        read_or_raise(X, schema, fitting=True, policies=lambda: cell_policies(modalities, X.columns))
    return X.assign(**{column: X[column].mask(np.isin(np.arange(len(X)), rows)) for column, rows in bad.items()})


def read_groups(table: pd.DataFrame, column: str | None, path: str) -> np.ndarray | None:
    if column is None:
        return None
    cells = table[check_column(table, column, "--groups", path)]
    if cells.isna().any():
        raise CommandError(f"The groups {column!r} are missing in {int(cells.isna().sum())} of {len(table)} rows.")
    return cells.astype(str).to_numpy(dtype=str)


def _infer(features: pd.DataFrame, kinds: dict[str, str], *, quiet: bool) -> list[tuple[str, Any, Any]]:
    proposal = propose(features, kinds)
    if not proposal.modalities:
        facts = "; ".join(f"{column!r}: {seen}" for column, seen in proposal.left_out.items())
        raise CommandError(
            f"all {features.shape[1]} feature columns are left out ({facts}). Declare one with --kind "
            "COLUMN=KIND, or add columns."
        )
    if not quiet:
        print("\n".join(proposal.lines))
        if proposal.choices:
            print("Where another reading is right, say so with --kind COLUMN=KIND.")
    return proposal.modalities


def _summary(y: np.ndarray, *, regression: bool) -> str:
    if regression:
        return f"{y.min():g} to {y.max():g}, mean {y.mean():g}"
    classes, counts = np.unique(y, return_counts=True)
    shown = ", ".join(f"{label} {count}" for label, count in list(zip(classes, counts, strict=True))[:12])
    return f"{len(classes)} classes ({shown}{', ...' if len(classes) > 12 else ''})"


# ---------------------------------------------------------------------- fit


def fit(args: Namespace) -> int:
    """Run ``ensemblefuse fit`` and return the exit code."""
    from ensemblefuse.persistence import save_model

    check_not_input(check_output(args.output, overwrite=True), args.table)
    output = check_output(args.output, overwrite=args.overwrite)
    problem = read_problem(args)
    fusion = _fusion(args)
    model = make_fusion_pipeline(problem.modalities, fusion)
    takes_groups = problem.groups is not None and args.strategy != "feature"
    params = {"fuse__groups": problem.groups} if takes_groups else {}
    model.check_fit(problem.X, problem.y, **params)  # before anything is encoded
    with working_cache() as where:
        if not args.quiet:
            print(where)
        X, _ = encode_modalities(problem.modalities, problem.X, quiet=args.quiet)
        start = time.perf_counter()
        model.fit(X, problem.y, **params)
        print(f"\nfitted {type(fusion).__name__} in {time.perf_counter() - start:.1f} s")
        print(_own_scores(model.named_steps["fuse"], problem.y), flush=True)
        metadata = {
            "target": args.target,
            "strategy": args.strategy,
            "n_samples": len(X),
            "made_by": "ensemblefuse fit",
            **({"target_format": problem.target_form} if problem.target_form else {}),
        }
        save_model(model, output, metadata=metadata, example=X.head(5))
    print(f"saved {output} ({output.stat().st_size / 1e6:.1f} MB)")
    return 0


def _fusion(args: Namespace) -> Any:
    if args.strategy == "feature":
        return FeatureFusionRegressor() if args.regression else FeatureFusionClassifier()
    decision = DecisionFusionRegressor if args.regression else DecisionFusionClassifier
    return decision(joint=args.strategy == "hybrid", n_jobs=args.jobs)


def _own_scores(fusion: Any, y: np.ndarray) -> str:
    """Return the scores of the out-of-fold predictions that decision-level fusion keeps, as one line."""
    if hasattr(fusion, "oof_proba_"):
        rows = np.isfinite(fusion.oof_proba_).all(axis=1)
        proba, y = fusion.oof_proba_[rows].astype(float), y[rows]
        truth = proba[np.arange(len(y)), np.searchsorted(fusion.classes_, y)]
        accuracy = accuracy_score(y, fusion.classes_[proba.argmax(axis=1)])
        log_loss = -np.log(np.maximum(truth, 1e-15)).mean()
        scores = f"log-loss {log_loss:.3f}, accuracy {accuracy:.3f}"
    elif hasattr(fusion, "oof_fused_"):
        rows = np.isfinite(fusion.oof_fused_)
        fused, y = fusion.oof_fused_[rows].astype(float), y[rows]
        scores = f"R2 {r2_score(y, fused):.3f}, RMSE {root_mean_squared_error(y, fused):.3f}"
    else:
        return "feature-level fusion keeps no out-of-fold predictions; 'ensemblefuse evaluate' scores it"
    return f"out of fold, on {len(y)} rows: {scores}"


# ---------------------------------------------------------------------- evaluate


def evaluate(args: Namespace) -> int:
    """Run ``ensemblefuse evaluate`` and return the exit code."""
    output = check_output(args.csv, overwrite=True) if args.csv else None
    if output is not None:
        check_not_input(output, args.table)
        check_output(args.csv, overwrite=args.overwrite)
    elif args.overwrite:
        raise UsageError("--overwrite needs --csv, the file to replace.")
    problem = read_problem(args)
    models = standard_strategies(problem.modalities, classify=not args.regression)
    for model in models.values():
        routed, params = with_groups(model, problem.groups)
        routed.check_fit(problem.X, problem.y, **params)  # before anything is encoded
    with working_cache() as where:
        if not args.quiet:
            print(where)
        X, _ = encode_modalities(problem.modalities, problem.X, quiet=args.quiet)
        table = compare_models(models, X, problem.y, cv=args.cv, groups=problem.groups, n_jobs=args.jobs)
    if not args.quiet:
        print("\nmean ± standard deviation over the folds; fit_time in seconds, with all embeddings in the cache")
    print(format_comparison(table))
    if output is not None:
        table.to_csv(output, index_label="model")
        if not args.quiet:
            print(f"wrote {output}", file=sys.stderr)
    return 0
