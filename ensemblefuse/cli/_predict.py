"""``ensemblefuse predict``: a table of any length, in bounded memory, every row kept. Floor 5."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.cli._encoding import working_cache
from ensemblefuse.cli._parts import ERROR, Parts, write_to_stdout
from ensemblefuse.cli._report import CommandError, UsageError
from ensemblefuse.cli._stream import TableStream
from ensemblefuse.cli._tables import (
    check_any_column,
    check_input,
    check_output,
    check_table_suffix,
    columns_of,
    model_modalities,
    path_columns,
    resolve_paths,
    set_on_error,
    steps,
)
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.exceptions import EncodingError

# A column of booleans counts as one of numbers in fit; a CSV file holds their names.
_BOOLEANS = {"True": 1, "False": 0, "true": 1, "false": 0, "TRUE": 1, "FALSE": 0}


def predict(args: Namespace) -> int:
    """``ensemblefuse predict``."""
    from ensemblefuse.persistence import load_model

    output = check_output(args.output) if args.output else None
    if output is not None:
        check_table_suffix(output)
    elif args.resume or args.restart:
        raise UsageError("--resume and --restart need -o: what goes to standard output cannot be gone on with.")
    path, source = check_input(args.model, "model"), check_input(args.table, "table")
    check_table_suffix(source)
    if output is not None and output.exists() and output.samefile(source):
        raise UsageError(f"{output} is the table to predict; write the predictions to another file.")
    predictor = Predictor(load_model(path), args, source.parent)
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
                print(f"{done} rows were predicted by an earlier run; going on from there", file=sys.stderr)
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
            f"warning: {predictor.n_bad} rows hold a cell that cannot be read; the column {ERROR!r} says which and why",
            file=sys.stderr,
        )


class Predictor:
    """Predictions for the rows of one chunk after the other.

    Attributes
    ----------
    numbers : list of str
        Columns that the model wants as numbers.
    n_rows, n_bad : int
        Rows predicted so far, and those of them with a cell that could not be read.
    """

    def __init__(self, model: Any, args: Namespace, folder: Path):
        self.model, self.table_name, self.folder, self.on_error = model, args.table, folder, args.on_error
        self.modalities = model_modalities(model, args.model)
        self.wanted = columns_of(self.modalities)
        self.numbers = list(getattr(model.named_steps["encode"], "numeric_columns_", []))
        self.n_rows = self.n_bad = 0
        self._as_fitted = {
            _column_of(columns): step.on_error
            for _, encoder, columns in self.modalities
            for step in steps(encoder)[:1]
            if isinstance(step, BaseEncoder)
        }
        # A bad cell must be told, whatever is done about it then.
        set_on_error([m for m in self.modalities if not isinstance(m[1], str)], "raise")

    def check_columns(self, columns: list[str]) -> None:
        """Refuse a table without any column of the model, and one that has a column of the same name as a new one."""
        check_any_column(self.modalities, columns, self.table_name)
        fusion = self.model[-1]
        labels = fusion.classes_ if hasattr(fusion, "predict_proba") else []
        taken = [c for c in ["prediction", *(f"proba_{label}" for label in labels), ERROR] if c in columns]
        if taken:
            raise CommandError(f"{self.table_name} has the columns {taken} already; rename or remove them.")

    def __call__(self, table: pd.DataFrame) -> pd.DataFrame:
        """The new columns of a chunk: ``prediction``, ``proba_<class>``, ``error``."""
        X = table[[column for column in self.wanted if column in table.columns]]
        # Positions for labels: those of the table may repeat, and an error names rows by their labels.
        X = resolve_paths(X, path_columns(self.modalities), self.folder).reset_index(drop=True)
        X, reasons, usable = self._read_numbers(X, table.index)
        Z = None
        while usable.any() and Z is None:
            try:
                Z = self.model[:-1].transform(X[usable])
            except EncodingError as error:
                X, usable = self._meet(error, X, usable, reasons, table.index)
        self.n_rows, self.n_bad = self.n_rows + len(X), self.n_bad + sum(map(bool, reasons))
        return self._columns(Z, usable, reasons)

    def _read_numbers(self, X: pd.DataFrame, labels: pd.Index) -> tuple[pd.DataFrame, list[str], np.ndarray]:
        """Columns of numbers as numbers; rows in which a cell is none are set apart."""
        reasons, usable, new = [""] * len(X), np.ones(len(X), dtype=bool), {}
        for column in self.numbers:
            if column not in X.columns or pd.api.types.is_numeric_dtype(X[column].dtype):
                continue
            cells = X[column]
            plain = pd.Series([_BOOLEANS.get(cell, cell) for cell in cells.tolist()], cells.index, dtype=object)
            new[column] = numbers = pd.to_numeric(plain, errors="coerce")
            for i in np.flatnonzero(numbers.isna() & cells.notna()).tolist():
                self._note(reasons, i, f"column {column!r}: {cells.iloc[i]!r} is no number", labels)
                usable[i] &= self.on_error == "missing"
        return X.assign(**new), reasons, usable

    def _meet(self, error: EncodingError, X: pd.DataFrame, usable: np.ndarray, reasons: list[str], labels: pd.Index):
        """Write down what is wrong, and make the cell missing or set the row apart."""
        usable = usable.copy()
        for row in error.rows:
            self._note(reasons, row.label, f"column {row.column!r}: {row.reason}", labels)
            if (self.on_error or self._as_fitted.get(row.column, "raise")) == "missing":
                for column in self._columns_named(row.column):
                    X[column] = X[column].astype(object) if X[column].dtype.kind not in "fc" else X[column]
                    X.at[row.label, column] = None
            else:
                usable[row.label] = False
        return X, usable

    def _note(self, reasons: list[str], i: int, reason: str, labels: pd.Index) -> None:
        if self.on_error == "raise":
            raise CommandError(f"row {labels[i]!r}, {reason}. Without --on-error raise such rows are kept and told.")
        reasons[i] = f"{reasons[i]}; {reason}" if reasons[i] else reason

    def _columns_named(self, name: str) -> list[str]:
        return next(
            [columns] if isinstance(columns, str) else list(columns)
            for _, _, columns in self.modalities
            if _column_of(columns) == name
        )

    def _columns(self, Z: Any, usable: np.ndarray, reasons: list[str]) -> pd.DataFrame:
        fusion, n = self.model[-1], len(usable)
        new: dict[str, Any] = {}
        said = None if Z is None else fusion.predict(Z)
        labels = getattr(fusion, "classes_", None)
        # A row without a prediction has an empty cell; only then do integer labels need a type that can be empty.
        new["prediction"] = pd.Series(_empty(labels, n))
        if said is not None:
            new["prediction"] = pd.Series(said) if usable.all() else _filled(new["prediction"], usable, said)
        if hasattr(fusion, "predict_proba"):
            proba = np.full((n, len(fusion.classes_)), np.nan)
            if Z is not None:
                proba[usable] = fusion.predict_proba(Z)
            new |= {f"proba_{label}": column for label, column in zip(fusion.classes_, proba.T, strict=True)}
        new[ERROR] = pd.Series(reasons, dtype=object)
        return pd.DataFrame(new)


def _empty(labels: Any, n: int) -> Any:
    return np.full(n, np.nan) if labels is None else np.full(n, None, dtype=object)


def _filled(cells: pd.Series, usable: np.ndarray, said: np.ndarray) -> pd.Series:
    cells = cells.copy()
    cells[usable] = said
    return cells


def _column_of(columns: Any) -> str:
    """How an `EncodingError` names the column, or the group of columns, of a modality."""
    columns = [columns] if isinstance(columns, str) else list(columns)
    return ", ".join(map(str, columns[:3])) + (", ..." if len(columns) > 3 else "")
