"""``ensemblefuse predict``: predictions for a table of any length in bounded memory; every row is kept."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse._plain import plain
from ensemblefuse.cli._encoding import working_cache
from ensemblefuse.cli._messages import CommandError, UsageError
from ensemblefuse.cli._resumable_output import ERROR, Parts, write_to_stdout
from ensemblefuse.cli._table_stream import TableStream
from ensemblefuse.cli._tables import (
    check_any_column,
    check_input,
    check_output,
    check_table_suffix,
    form_of,
    open_pipeline,
    resolve_paths,
)
from ensemblefuse.exceptions import NO_SUCH_FILE, counted, path_hints
from ensemblefuse.fitted.model import targets_of
from ensemblefuse.fitted.row_predictor import Predicted, RowPredictor, join_targets, prediction_columns
from ensemblefuse.schema import far_text, unseen_text
from ensemblefuse.table import similar_names


def predict(args: Namespace) -> int:
    """Run ``ensemblefuse predict`` and return the exit code."""
    from ensemblefuse.persistence import load_model

    output = check_output(args.output, overwrite=True) if args.output else None
    if output is not None:
        check_table_suffix(output)
    elif args.resume or args.restart or args.overwrite:
        raise UsageError("--resume, --restart and --overwrite need -o, a file to write to.")
    path, source = check_input(args.model, "model"), check_input(args.table, "table")
    check_table_suffix(source)
    form = form_of(args)
    if output is not None and output.exists() and output.samefile(source):
        raise UsageError(f"{output} is the table to predict; write the predictions to another file.")
    if output is not None:
        check_output(args.output, overwrite=args.overwrite)
    predictor = Predictor(load_model(path, trusted=args.trusted), args, source.parent)
    stream = TableStream(source, args.chunk_rows, form)
    predictor.check_columns(stream.columns)
    with working_cache():
        if output is None:
            write_to_stdout(_predicted(stream.chunks(), predictor))
        else:
            written = {name: value for name, value in form._asdict().items() if value is not None}
            settings = {"on_error": args.on_error, "chunk_rows": args.chunk_rows, **written}
            parts = Parts(output, {"model": path, "table": source}, settings)
            done = parts.begin(resume=args.resume, restart=args.restart)
            if done and not args.quiet:
                print(
                    f"{done} rows were predicted by an earlier run with --chunk-rows {args.chunk_rows}; resuming from "
                    "there",
                    file=sys.stderr,
                )
            typed = check_table_suffix(output) == "Parquet"
            parts.add(_predicted(stream.chunks(skip=done, typed=typed), predictor))
            predictor.n_rows, predictor.n_bad = predictor.n_rows + done, parts.n_bad
            parts.finish()
    if predictor.unseen_text:
        print(f"warning: {predictor.unseen_text}", file=sys.stderr)
    if not args.quiet:
        _print_summary(predictor, output)
    return 0


def _predicted(chunks: Iterator[tuple[pd.DataFrame, pd.DataFrame]], predictor: Predictor) -> Iterator[pd.DataFrame]:
    for table, model_table in chunks:
        yield pd.concat([table, predictor(model_table).set_axis(table.index)], axis=1)


def _print_summary(predictor: Predictor, output: Path | None) -> None:
    if output is not None:
        print(f"wrote {output}: {counted(predictor.n_rows, 'row')}", file=sys.stderr)
    if predictor.n_bad:
        print(
            f"warning: {counted(predictor.n_bad, 'row', 'hold')} a cell that cannot be read; the column {ERROR!r} "
            "has the reasons",
            file=sys.stderr,
        )


class Predictor:
    """Callable that returns predictions as columns, for one chunk of rows after the other.

    Attributes
    ----------
    n_rows, n_bad, n_read : int
        Number of rows so far, number of rows with a cell that could not be read, and number of rows of this run.
    """

    def __init__(self, model: Any, args: Namespace, folder: Path):
        self.opened, self.table_name, self.folder = open_pipeline(model, args.model), args.table, folder
        note = self._stop if args.on_error == "raise" else None
        self._rows = RowPredictor(self.opened, on_error=args.on_error, note=note)
        self.wanted = self._rows.wanted
        self.n_rows = self.n_bad = self.n_read = 0
        self._table = pd.DataFrame()
        self._targets = targets_of(self.opened.fusion)
        regions = ["set"] if hasattr(self.opened.fusion, "classes_") else ["lower", "upper"]
        self._region_columns = [*regions, "calibrated"] if self._rows.regions_of is not None else []

    def check_columns(self, columns: list[str]) -> None:
        """Raise if a table has no column of the model, or has a column with the name of a new one.

        If the table lacks a column but has one of a similar name, print a warning.
        """
        check_any_column(self.opened.modalities, columns, self.table_name)
        nothing = Predicted([], np.zeros(0, dtype=bool), None, None, None, None, None, [])
        new = list(self._columns(nothing))
        taken = [c for c in new if c in columns]
        if taken:
            raise CommandError(f"{self.table_name} has the columns {taken} already; rename or remove them.")
        absent = [column for column in self.wanted if column not in columns]
        for column, near in similar_names(absent, [c for c in columns if c not in self.wanted]).items():
            print(
                f"warning: {self.table_name} lacks the column {column!r}, which counts as missing. It has {near!r}; "
                f"did you mean {column!r}? Then rename it.",
                file=sys.stderr,
            )

    @property
    def unseen_text(self) -> str:
        """One sentence for each column with values unlike all that fit saw; empty if there is none."""
        unseen = unseen_text(self._rows.unseen, self.opened.schema, self.n_read)
        far = far_text(self._rows.far, self.opened.ranges, self.n_read)
        return " ".join(filter(None, (unseen, far)))

    def __call__(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the new columns of a chunk: see `prediction_columns`; then sets or intervals, ``error``."""
        X = table[[column for column in self.wanted if column in table.columns]]
        self._table = table
        # An error names rows by label, and labels of the table may repeat: use positions as labels.
        X = resolve_paths(X, self.opened.path_columns, self.folder).reset_index(drop=True)
        said = self._rows(X)
        self.n_rows, self.n_bad = self.n_rows + len(X), self.n_bad + sum(map(bool, said.reasons))
        self.n_read += len(X)
        return self._columns(said)

    def _stop(self, i: int, field: str, reason: str) -> None:
        raise CommandError(
            f"row {self._table.index[i]!r}, column {field!r}: {reason}{self._hint(i, field, reason)}. Without "
            f"--on-error raise, such rows are kept, with the reason in the column {ERROR!r}."
        )

    def _columns(self, said: Predicted) -> pd.DataFrame:
        columns = {task: self._columns_of_target(task, labels, said) for task, labels in self._targets.items()}
        new = join_targets(columns) | self._regions(said)
        texts = [
            "; ".join(f"column {field!r}: {reason}{self._hint(i, field, reason)}" for field, reason in found)
            for i, found in enumerate(said.reasons)
        ]
        new[ERROR] = pd.Series(texts, dtype=object)
        return pd.DataFrame(new)

    def _columns_of_target(self, task: Any, labels: Any, said: Predicted) -> dict[str, Any]:
        usable, (prediction, given) = said.answered, said.of(task)
        # A row without a prediction has an empty cell. Only then do integer labels need a dtype with empty cells.
        cells = pd.Series(_empty(labels, len(usable)))
        if prediction is not None:
            cells = pd.Series(prediction) if usable.all() else _filled(cells, usable, prediction)
        proba = None
        if labels is not None and hasattr(self.opened.fusion, "predict_proba"):
            proba = np.full((len(usable), len(labels)), np.nan)
            if given is not None:
                proba[usable] = given
        return prediction_columns(task, labels, cells, proba)

    def _hint(self, i: int, field: str, reason: str) -> str:
        """Return in brackets what may be wrong with the path of a file that is not there."""
        cell = self._table[field].iloc[i] if reason == NO_SUCH_FILE and field in self._table else None
        hints = path_hints([cell], str(self.folder.absolute())) if isinstance(cell, str) else []
        return f" ({' '.join(hints)})" if hints else ""

    def _regions(self, said: Predicted) -> dict[str, pd.Series]:
        """Return the columns ``set`` (JSON lists of labels), or ``lower`` and ``upper``; and ``calibrated``.

        Empty if the fusion is not conformal.
        """
        if said.regions is None:
            given: dict[str, Any] = {}
        elif "set" in self._region_columns:
            labels = plain(self.opened.fusion.classes_)
            sets = [[label for label, stays in zip(labels, region, strict=True) if stays] for region in said.regions]
            given = {"set": [json.dumps(labels, ensure_ascii=False) for labels in sets]}
        else:
            given = dict(zip(("lower", "upper"), said.regions.T, strict=True))
        if given:
            given["calibrated"] = said.calibrated
        dtypes = {"set": object, "calibrated": "boolean"}  # the others are numbers
        rows = np.flatnonzero(said.answered)
        return {
            name: pd.Series(given.get(name, []), rows if given else [], dtype=dtypes.get(name, float)).reindex(
                range(len(said.answered))
            )
            for name in self._region_columns
        }


def _empty(labels: Any, n: int) -> Any:
    return np.full(n, np.nan) if labels is None else np.full(n, None, dtype=object)


def _filled(cells: pd.Series, usable: np.ndarray, said: np.ndarray) -> pd.Series:
    cells = cells.copy()
    cells[usable] = said
    return cells
