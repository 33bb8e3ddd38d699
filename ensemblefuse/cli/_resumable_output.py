"""Output of a table piece by piece, so that a stopped run can be resumed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ensemblefuse.cli._messages import CommandError, UsageError
from ensemblefuse.cli._tables import check_table_suffix

# Column with the reasons why cells of a row could not be read; empty if all cells could be read.
ERROR = "error"
_STATE = "state.json"
# Names of the files that `Parts` writes: pieces, their record, and unfinished versions of both.
_OURS = re.compile(r"\d{8}(\.tmp)?|state\.json(\.tmp)?")


def write_to_stdout(chunks: Iterable[pd.DataFrame]) -> None:
    """Write CSV to standard output, chunk by chunk."""
    for i, chunk in enumerate(chunks):
        chunk.to_csv(sys.stdout, header=not i, index=_named(chunk))
        sys.stdout.flush()


class Parts:
    """Pieces of an output file. Each is written whole or not at all; at the end they are joined.

    They lie in a folder beside the output, ``<output>.parts``, with a record of inputs and settings. The folder is
    removed when the output is complete.

    Parameters
    ----------
    output : Path
    inputs : dict of str to Path
        Files that the pieces are made from; a run can be resumed only if these are the same.
    settings : dict
        JSON-serialisable settings of the run; they must be the same, too.
    """

    def __init__(self, output: Path, inputs: Mapping[str, Path], settings: Mapping[str, Any]):
        self.output, self.kind = output, check_table_suffix(output)
        self.folder = output.with_name(f"{output.name}.parts")
        self._inputs = {what: _fingerprint(path) for what, path in inputs.items()}
        self._settings = dict(settings)
        self._rows: list[int] = []
        self._bad: list[int] = []

    @property
    def n_bad(self) -> int:
        """Number of rows in all pieces, also those of an earlier run, with a cell that could not be read."""
        return sum(self._bad)

    def begin(self, *, resume: bool, restart: bool) -> int:
        """Return the number of rows that an earlier run has written; 0 if this is the first.

        Raises
        ------
        UsageError
            If the folder is not one of an earlier run. If a run was stopped and neither parameter says what to do.
        CommandError
            If the earlier run had other inputs or settings, or its record is damaged.
        """
        self._check_folder()
        state = None if restart or not (self.folder / _STATE).is_file() else self._read_state()
        if state is None or not state["rows"]:
            self._remove()
            self.folder.mkdir(exist_ok=True)
            self._write_state()
            return 0
        if not resume:
            raise UsageError(
                f"{self.folder} holds {sum(state['rows'])} rows of a run that was stopped. Pass --resume to continue "
                f"it, with the options of that run ({_options(state['settings'])}), or --restart to start again."
            )
        for key, now in (("inputs", self._inputs), ("settings", self._settings)):
            other = sorted(name for name in {*now, *state[key]} if now.get(name) != state[key].get(name))
            if other:
                raise CommandError(
                    f"{self.folder} was made with another {' and another '.join(other)}, so its rows do not go with "
                    f"new ones; {_way_out(key, {name: state[key].get(name) for name in other})}pass --restart to start "
                    "again."
                )
        self._rows, self._bad = state["rows"], state["bad"]
        return sum(self._rows)

    def add(self, chunks: Iterable[pd.DataFrame]) -> None:
        """Write each chunk as a piece; chunks have a column ``error``."""
        for chunk in chunks:
            path = self._piece(len(self._rows))
            temporary = path.with_suffix(".tmp")
            if self.kind == "Parquet":
                self._write_parquet(chunk, temporary)
            else:
                header = not self._rows
                chunk.to_csv(
                    temporary,
                    sep=self._separator,
                    header=header,
                    index=_named(chunk),
                    lineterminator="\n",
                    errors="backslashreplace",  # a reason may name a file whose name is not UTF-8
                )
            os.replace(temporary, path)
            self._rows.append(len(chunk))
            self._bad.append(int((chunk[ERROR] != "").sum()))
            self._write_state()

    def _write_parquet(self, chunk: pd.DataFrame, path: Path) -> None:
        import pyarrow

        try:
            chunk.to_parquet(path)
        except (pyarrow.ArrowException, TypeError, ValueError) as error:
            reason = str(error.args[-1] if error.args else error).rstrip(".")
            raise CommandError(
                f"{self.output} cannot be written as Parquet: {reason}. Leave out such columns, or name a .csv file."
            ) from error

    def finish(self) -> None:
        """Join the pieces and remove them."""
        temporary = self.output.with_name(f".{os.getpid()}-{self.output.name}")
        try:
            pieces = [self._piece(i) for i in range(len(self._rows))]
            (_join_parquet if self.kind == "Parquet" else _join_bytes)(pieces, temporary)
            os.replace(temporary, self.output)
        finally:
            temporary.unlink(missing_ok=True)
        self._remove()

    def _check_folder(self) -> None:
        """Raise if the folder was not made by a run of predict: its files belong to someone else."""
        if not os.path.lexists(self.folder):
            return
        if self.folder.is_symlink() or not self.folder.is_dir():
            foreign: str | None = self.folder.name
        else:
            names = sorted(path.name for path in self.folder.iterdir())
            ours = _STATE in names or names == [f"{_STATE}.tmp"]  # the latter if a run was stopped at once
            foreign = next((name for name in names if not (ours and _OURS.fullmatch(name))), None)
        if foreign is not None:
            raise UsageError(
                f"{self.folder} is the folder for the pieces of {self.output.name}, but it holds {foreign!r}, which no "
                "run of predict has written. Nothing was removed: move it away, or name another output with -o."
            )

    def _remove(self) -> None:
        """Delete the files that were written here, the record last: without it the others could not be identified."""
        if not self.folder.exists():
            return
        for path in sorted(self.folder.iterdir(), key=lambda path: path.name == _STATE):
            if _OURS.fullmatch(path.name):
                path.unlink()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    @property
    def _separator(self) -> str:
        return "," if self.kind == "CSV" else "\t"

    def _piece(self, i: int) -> Path:
        return self.folder / f"{i:08d}"

    def _write_state(self) -> None:
        state = {"inputs": self._inputs, "settings": self._settings, "rows": self._rows, "bad": self._bad}
        temporary = self.folder / f"{_STATE}.tmp"
        temporary.write_text(json.dumps(state))
        os.replace(temporary, self.folder / _STATE)

    def _read_state(self) -> dict[str, Any]:
        try:
            state = json.loads((self.folder / _STATE).read_text())
            if isinstance(state["inputs"], dict) and isinstance(state["settings"], dict):
                return {**state, **{key: [int(n) for n in state[key]] for key in ("rows", "bad")}}
        except (ValueError, KeyError, AttributeError, TypeError):
            pass
        raise CommandError(f"{self.folder / _STATE} is damaged; pass --restart to start again.")


def _options(settings: Mapping[str, Any]) -> str:
    """Return settings as the options that they came from; those without a value were not given."""
    given = {name: value for name, value in settings.items() if value is not None}
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items()) or "none"


def _way_out(key: str, before: Mapping[str, Any]) -> str:
    if key != "settings":
        return ""
    absent = [f"no --{name.replace('_', '-')}" for name, value in before.items() if value is None]
    given = {name: value for name, value in before.items() if value is not None}
    return f"pass {' and '.join([*([_options(given)] if given else []), *absent])} as then to resume it, or "


def _fingerprint(path: Path) -> str:
    """Return a fingerprint: by content for a small file, by size and time for one that may have a hundred gigabytes."""
    stat = path.stat()
    if stat.st_size > 50_000_000:
        return f"{stat.st_size} {stat.st_mtime_ns}"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _named(table: pd.DataFrame) -> bool:
    """Return whether the row labels carry information."""
    return not isinstance(table.index, pd.RangeIndex)


def _join_bytes(pieces: list[Path], output: Path) -> None:
    with open(output, "wb") as file:
        for piece in pieces:
            with open(piece, "rb") as part:
                shutil.copyfileobj(part, file)


def _join_parquet(pieces: list[Path], output: Path) -> None:
    """Join all pieces into one file; a column that is empty in some of them gets the type of the others."""
    import pyarrow
    from pyarrow import parquet

    schemas = [parquet.read_schema(piece) for piece in pieces]
    # For the labels 0, 1, ... each piece stores its own range; the joined table is numbered from 0 again.
    plain = [schema.remove_metadata() for schema in schemas]
    schema = pyarrow.unify_schemas(plain, promote_options="permissive")
    if _index_columns(schemas[0]):
        schema = schema.with_metadata(schemas[0].metadata)
    with parquet.ParquetWriter(output, schema) as writer:
        for piece in pieces:
            writer.write_table(parquet.read_table(piece).cast(schema))


def _index_columns(schema: Any) -> list[str]:
    """Return the names of the columns that hold row labels, as pandas recorded them."""
    known = (schema.pandas_metadata or {}).get("index_columns", [])
    return [name for name in known if isinstance(name, str)]
