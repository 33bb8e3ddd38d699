"""``ensemblefuse predict``: predictions for a table of any length in bounded memory; every row is kept."""

from __future__ import annotations

import difflib
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
    open_pipeline,
    resolve_paths,
)
from ensemblefuse.fitted.row_predictor import Predicted, RowPredictor


def predict(args: Namespace) -> int:
    """Run ``ensemblefuse predict`` and return the exit code."""
    from ensemblefuse.persistence import load_model

    output = check_output(args.output) if args.output else None
    if output is not None:
        check_table_suffix(output)
    elif args.resume or args.restart:
        raise UsageError("--resume and --restart need -o: a run that writes to standard output cannot be resumed.")
    path, source = check_input(args.model, "model"), check_input(args.table, "table")
    check_table_suffix(source)
    if output is not None and output.exists() and output.samefile(source):
        raise UsageError(f"{output} is the table to predict; write the predictions to another file.")
    predictor = Predictor(load_model(path, trusted=args.trusted), args, source.parent)
    stream = TableStream(source, args.chunk_rows)
    predictor.check_columns(stream.columns)
    with working_cache():
        if output is None:
            write_to_stdout(_predicted(stream.chunks(), predictor))
        else:
            settings = {"on_error": args.on_error, "chunk_rows": args.chunk_rows}
            parts = Parts(output, {"model": path, "table": source}, settings)
            done = parts.begin(resume=args.resume, restart=args.restart)
            if done and not args.quiet:
                print(f"{done} rows were predicted by an earlier run; resuming from there", file=sys.stderr)
            typed = check_table_suffix(output) == "Parquet"
            parts.add(_predicted(stream.chunks(skip=done, typed=typed), predictor))
            predictor.n_rows, predictor.n_bad = predictor.n_rows + done, parts.n_bad
            parts.finish()
    if not args.quiet:
        _print_summary(predictor, output)
    return 0


def _predicted(chunks: Iterator[tuple[pd.DataFrame, pd.DataFrame]], predictor: Predictor) -> Iterator[pd.DataFrame]:
    for table, model_table in chunks:
        yield pd.concat([table, predictor(model_table).set_axis(table.index)], axis=1)


def _print_summary(predictor: Predictor, output: Path | None) -> None:
    if output is not None:
        print(f"wrote {output}: {predictor.n_rows} rows", file=sys.stderr)
    if predictor.n_bad:
        print(
            f"warning: {predictor.n_bad} rows hold a cell that cannot be read; the column {ERROR!r} has the reasons",
            file=sys.stderr,
        )


class Predictor:
    """Callable that returns predictions as columns, for one chunk of rows after the other.

    Attributes
    ----------
    numbers : list of str
        Columns that the model takes as numbers.
    n_rows, n_bad : int
        Number of rows so far, and number of rows with a cell that could not be read.
    """

    def __init__(self, model: Any, args: Namespace, folder: Path):
        self.opened, self.table_name, self.folder = open_pipeline(model, args.model), args.table, folder
        note = self._stop if args.on_error == "raise" else None
        self._rows = RowPredictor(self.opened, on_error=args.on_error, note=note)
        self.wanted, self.numbers = self._rows.wanted, self._rows.numbers
        self.n_rows = self.n_bad = 0
        self._labels = pd.Index([])
        regions = ["set"] if hasattr(self.opened.fusion, "classes_") else ["lower", "upper"]
        self._region_columns = [*regions, "calibrated"] if self._rows.regions_of is not None else []

    def check_columns(self, columns: list[str]) -> None:
        """Raise if a table has no column of the model, or has a column with the name of a new one.

        If the table lacks a column but has one of a similar name, print a warning.
        """
        check_any_column(self.opened.modalities, columns, self.table_name)
        fusion = self.opened.fusion
        labels = fusion.classes_ if hasattr(fusion, "predict_proba") else []
        new = ["prediction", *(f"proba_{label}" for label in labels), *self._region_columns, ERROR]
        taken = [c for c in new if c in columns]
        if taken:
            raise CommandError(f"{self.table_name} has the columns {taken} already; rename or remove them.")
        spare = [column for column in columns if column not in self.wanted]
        for column in [column for column in self.wanted if column not in columns]:
            for near in difflib.get_close_matches(column, spare, n=1):
                print(
                    f"warning: {self.table_name} lacks the column {column!r}, which counts as missing; it has "
                    f"{near!r}; rename that column if it is the same",
                    file=sys.stderr,
                )

    def __call__(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the new columns of a chunk: ``prediction``, ``proba_<class>``, sets or intervals, ``error``."""
        X = table[[column for column in self.wanted if column in table.columns]]
        self._labels = table.index
        # An error names rows by label, and labels of the table may repeat: use positions as labels.
        X = resolve_paths(X, self.opened.path_columns, self.folder).reset_index(drop=True)
        said = self._rows(X)
        self.n_rows, self.n_bad = self.n_rows + len(X), self.n_bad + sum(map(bool, said.reasons))
        return self._columns(said)

    def _stop(self, i: int, field: str, reason: str) -> None:
        raise CommandError(
            f"row {self._labels[i]!r}, column {field!r}: {reason}. Without --on-error raise, such rows are kept, with "
            f"the reason in the column {ERROR!r}."
        )

    def _columns(self, said: Predicted) -> pd.DataFrame:
        fusion, usable = self.opened.fusion, said.answered
        new: dict[str, Any] = {}
        # A row without a prediction has an empty cell. Only then do integer labels need a dtype with empty cells.
        new["prediction"] = pd.Series(_empty(getattr(fusion, "classes_", None), len(usable)))
        if said.prediction is not None:
            complete = usable.all()
            new["prediction"] = (
                pd.Series(said.prediction) if complete else _filled(new["prediction"], usable, said.prediction)
            )
        if hasattr(fusion, "predict_proba"):
            proba = np.full((len(usable), len(fusion.classes_)), np.nan)
            if said.proba is not None:
                proba[usable] = said.proba
            new |= {f"proba_{label}": column for label, column in zip(fusion.classes_, proba.T, strict=True)}
        new |= self._regions(said)
        texts = ["; ".join(f"column {field!r}: {reason}" for field, reason in found) for found in said.reasons]
        new[ERROR] = pd.Series(texts, dtype=object)
        return pd.DataFrame(new)

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
