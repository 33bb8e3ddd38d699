"""A table written piece by piece, so that a run that was stopped can go on."""

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

# Column of the reasons why cells of a row could not be read, empty where all could.
ERROR = "error"
_STATE = "state.json"
# What `Parts` writes: pieces, the record of them, and either of them half written.
_OURS = re.compile(r"\d{8}(\.tmp)?|state\.json(\.tmp)?")


def write_to_stdout(chunks: Iterable[pd.DataFrame]) -> None:
    """CSV on standard output, chunk by chunk."""
    for i, chunk in enumerate(chunks):
        chunk.to_csv(sys.stdout, header=not i, index=_named(chunk))
        sys.stdout.flush()


class Parts:
    """Pieces of an output file, each written whole or not at all, joined when all are there.

    They lie in a folder beside the output, ``<output>.parts``, with a record of what they were made from; it is removed
    when the output is whole.

    Parameters
    ----------
    output : Path
    inputs : dict of str to Path
        Files that the pieces are made from; a run goes on only if these are the same.
    settings : dict
        Of the run, JSON-serialisable; they must be the same too.
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
        """Rows of all pieces, those of an earlier run included, in which a cell could not be read."""
        return sum(self._bad)

    def begin(self, *, resume: bool, restart: bool) -> int:
        """Rows that an earlier run has written; 0 if this is the first.

        Raises
        ------
        UsageError
            If the folder is none of an earlier run, or if one was stopped and neither parameter says what to do.
        CommandError
            If the earlier run was of another kind, or its record is damaged.
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
                f"{self.folder} holds {sum(state['rows'])} rows of a run that was stopped. --resume goes on from "
                "there, --restart begins anew."
            )
        for key, now in (("inputs", self._inputs), ("settings", self._settings)):
            other = sorted(name for name in {*now, *state[key]} if now.get(name) != state[key].get(name))
            if other:
                raise CommandError(
                    f"{self.folder} was made with another {' and another '.join(other)}, so that its rows do not go "
                    "with new ones; --restart begins anew."
                )
        self._rows, self._bad = state["rows"], state["bad"]
        return sum(self._rows)

    def add(self, chunks: Iterable[pd.DataFrame]) -> None:
        """Write each chunk, which has a column ``error``, as a piece."""
        for chunk in chunks:
            path = self._piece(len(self._rows))
            temporary = path.with_suffix(".tmp")
            if self.kind == "Parquet":
                self._write_parquet(chunk, temporary)
            else:
                header = not self._rows
                chunk.to_csv(temporary, sep=self._separator, header=header, index=_named(chunk), lineterminator="\n")
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
                f"{self.output} cannot be written as Parquet: {reason}. Leave such columns out, or name a .csv file."
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
        """Refuse a folder that no run of ours has made: what lies in it is somebody's."""
        if not os.path.lexists(self.folder):
            return
        if self.folder.is_symlink() or not self.folder.is_dir():
            foreign: str | None = self.folder.name
        else:
            names = sorted(path.name for path in self.folder.iterdir())
            ours = _STATE in names or names == [f"{_STATE}.tmp"]  # the latter of a run that was stopped at once
            foreign = next((name for name in names if not (ours and _OURS.fullmatch(name))), None)
        if foreign is not None:
            raise UsageError(
                f"{self.folder} is where the pieces of {self.output.name} go, but no run of predict has written "
                f"{foreign!r} there. Nothing was removed: move it away, or name another output with -o."
            )

    def _remove(self) -> None:
        """Delete what was written here, the record last: without it the rest would be nobody's."""
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
        raise CommandError(f"{self.folder / _STATE} is damaged; --restart begins anew.")


def _fingerprint(path: Path) -> str:
    """Of a small file its content, of a large one its size and time: a table may have a hundred gigabytes."""
    stat = path.stat()
    if stat.st_size > 50_000_000:
        return f"{stat.st_size} {stat.st_mtime_ns}"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _named(table: pd.DataFrame) -> bool:
    """Whether the row labels mean something."""
    return not isinstance(table.index, pd.RangeIndex)


def _join_bytes(pieces: list[Path], output: Path) -> None:
    with open(output, "wb") as file:
        for piece in pieces:
            with open(piece, "rb") as part:
                shutil.copyfileobj(part, file)


def _join_parquet(pieces: list[Path], output: Path) -> None:
    """One file of all pieces; a column that is empty in some of them has the type of the others."""
    import pyarrow
    from pyarrow import parquet

    schemas = [parquet.read_schema(piece) for piece in pieces]
    # Of the labels 0, 1, ... each piece names its own range; the joined table counts anew.
    plain = [schema.remove_metadata() for schema in schemas]
    schema = pyarrow.unify_schemas(plain, promote_options="permissive")
    if _index_columns(schemas[0]):
        schema = schema.with_metadata(schemas[0].metadata)
    with parquet.ParquetWriter(output, schema) as writer:
        for piece in pieces:
            writer.write_table(parquet.read_table(piece).cast(schema))


def _index_columns(schema: Any) -> list[str]:
    """Names of the columns that hold row labels, as pandas wrote them down."""
    known = (schema.pandas_metadata or {}).get("index_columns", [])
    return [name for name in known if isinstance(name, str)]
