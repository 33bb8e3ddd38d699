"""Reader of word vector files: text formats of GloVe and word2vec, word2vec's binary format, plain or gzipped."""

from __future__ import annotations

import array
import codecs
import csv
import gzip
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import pandas as pd

from ensemblefuse._writing import special_kind

__all__ = ["read_word_file"]

_GZIP = b"\x1f\x8b"
_FASTTEXT = b"\xba\x16\x4f\x2f"  # first bytes of fastText's own binary models
_MOST_DIMS = 2**16
_LONGEST_LINE = 2**21  # bytes; 65 536 numbers of 32 characters
_LONGEST_WORD = 2**16
_LINES = 4096
_CHUNK = 2**24
_LARGEST = float(np.finfo(np.float32).max)


def read_word_file(path: Path, *, needed_by: str) -> tuple[dict[str, int], np.ndarray]:
    """Read the words and vectors of a file. If a word occurs twice, its first vector is used.

    Memory grows with the data that are read. It is never allocated by the counts in the first line.

    Parameters
    ----------
    path : Path
        A file in GloVe's text format, word2vec's text format (also of fastText's .vec files), or word2vec's binary one.
    needed_by : str
        The class that the user called, for the messages.

    Returns
    -------
    index : dict of str to int
        Row of each word.
    matrix : ndarray of shape (n_words, n_dims), dtype float32

    Raises
    ------
    ValueError
        If the file is in another format, is truncated, or does not match the counts in its first line.
    """
    return _WordFile(path, needed_by).read()


class _WordFile:
    def __init__(self, path: Path, needed_by: str):
        self._path, self._needed_by = path, needed_by
        self._index: dict[str, int] = {}
        self._numbers = array.array("f")
        self._n_found = 0

    def read(self) -> tuple[dict[str, int], np.ndarray]:
        if kind := special_kind(self._path):  # to open a pipe would wait for its writer
            self._refuse(f"is {kind}, not a file")
        with open(self._path, "rb") as raw:
            zipped = raw.read(2) == _GZIP
            raw.seek(0)
            if raw.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                raw.seek(0)
            try:
                file: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
                n_dims = self._read(file, None if zipped else _size(raw))
            except (EOFError, gzip.BadGzipFile, OSError) as error:
                if not zipped:
                    raise
                self._refuse(f"is damaged or cut short ({error})")
        if not self._index:
            self._refuse("holds no word")
        return self._index, np.frombuffer(self._numbers, dtype=np.float32).reshape(-1, n_dims)

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(f"{self._needed_by}: {self._path.name} {what}.")

    def _read(self, file: BinaryIO, size: int | None) -> int:
        begin = file.tell()
        first = file.readline(_LONGEST_LINE)
        if first.startswith(_FASTTEXT):
            self._refuse("is fastText's own binary model; pass the .vec file that belongs to it")
        promised = first.split()
        if len(promised) != 2 or not all(field.isdigit() for field in promised):
            file.seek(begin)
            return self._read_text(file, None)
        n_words, n_dims = (int(field) for field in promised)
        if not 1 <= n_dims <= _MOST_DIMS:
            self._refuse(f"declares vectors of length {n_dims}; lengths from 1 to {_MOST_DIMS} can be read")
        start = file.tell()
        is_text = _is_text(file.readline(_LONGEST_LINE), n_dims)
        file.seek(start)
        least = n_words * (2 * n_dims if is_text else 4 * n_dims + 2)  # bytes that this many words take
        if size is not None and start + least > size + 1:
            self._refuse(f"declares {n_words} words of {n_dims} numbers, but its {size} bytes are too few for them")
        if is_text:
            self._read_text(file, n_dims)
        else:
            self._read_binary(file, n_words, n_dims)
        if self._n_found != n_words:
            self._refuse(f"holds {self._n_found} of the {n_words} words that its first line declares")
        return n_dims

    def _keep(self, words: list[bytes], numbers: np.ndarray, where: str) -> None:
        """Add the words that are new. `where` names the part of the file, for messages."""
        fresh = []
        for i, word in enumerate(words):
            try:
                text = word.decode()
            except UnicodeDecodeError:
                self._refuse(f"is not UTF-8: {where} holds the word {word[:40]!r}")
            if text not in self._index:
                self._index[text] = len(self._index)
                fresh.append(i)
        self._n_found += len(words)
        self._numbers.frombytes(np.ascontiguousarray(numbers[fresh], dtype=np.float32).tobytes())

    def _read_text(self, file: BinaryIO, n_dims: int | None) -> int:
        block: list[tuple[int, bytes, bytes]] = []  # number of the line, word, numbers
        for number, line in enumerate(_lines(file), start=1 if n_dims is None else 2):
            line = line.rstrip()
            if not line:
                continue
            n_dims = n_dims or line.count(b" ")
            # Some words of GloVe contain spaces, so the numbers are counted from the end of the line.
            word, *numbers = line.split(b" ", 1) if line.count(b" ") == n_dims else line.rsplit(b" ", n_dims)
            row = b" ".join(numbers)
            if not word or not numbers or row.count(b" ") != n_dims - 1:
                self._refuse_line(number, line, n_dims)
            block.append((number, word, row))
            if len(block) == _LINES:
                self._keep_text(block, n_dims)
                block = []
        if block and n_dims:
            self._keep_text(block, n_dims)
        return n_dims or 1

    def _keep_text(self, block: list[tuple[int, bytes, bytes]], n_dims: int) -> None:
        numbers = _parse([row for _, _, row in block], n_dims)
        if numbers is None or not np.isfinite(numbers).all():
            for number, word, row in block:
                if not _is_text(b"word " + row, n_dims):
                    self._refuse_line(number, word + b" " + row, n_dims)
            self._refuse(f"holds numbers that cannot be read, after line {block[0][0] - 1}")
        self._keep([word for _, word, _ in block], numbers, f"a line after {block[0][0] - 1}")

    def _refuse_line(self, number: int, line: bytes, n_dims: int) -> NoReturn:
        raise ValueError(
            f"{self._needed_by}: line {number} of {self._path.name} must be a word and {n_dims} numbers, separated by "
            f"spaces; it begins {line[:40].decode(errors='replace')!r}."
        )

    def _read_binary(self, file: BinaryIO, n_words: int, n_dims: int) -> None:
        width = 4 * n_dims
        buffer, at = b"", 0
        words: list[bytes] = []
        vectors: list[bytes] = []
        while self._n_found + len(words) < n_words:
            space = buffer.find(b" ", at)
            if space < 0 or space + 1 + width > len(buffer):
                if space < 0 and len(buffer) - at > _LONGEST_WORD:
                    self._refuse(f"holds no word where word {self._n_found + len(words) + 1} should begin")
                more = file.read(_CHUNK)
                if not more:
                    break
                buffer, at = buffer[at:] + more, 0
                continue
            words.append(buffer[at:space].lstrip(b"\n"))
            at = space + 1 + width
            vectors.append(buffer[space + 1 : at])
            if len(words) == _LINES:
                self._keep_binary(words, vectors, n_dims)
                words, vectors = [], []
        self._keep_binary(words, vectors, n_dims)

    def _keep_binary(self, words: list[bytes], vectors: list[bytes], n_dims: int) -> None:
        numbers = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(-1, n_dims)
        where = f"a word before word {self._n_found + len(words) + 1}"
        if not np.isfinite(numbers).all():
            self._refuse(f"holds numbers that are NaN or infinite, in {where}")
        self._keep(words, numbers, where)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_LONGEST_LINE):
        yield line


def _parse(rows: list[bytes], n_dims: int) -> np.ndarray | None:
    """Parse the numbers of lines with pandas, four times as fast as with numpy; return None if this fails."""
    try:
        with np.errstate(over="ignore"):  # overflows are infinite, and refused by the caller
            table = pd.read_csv(
                io.BytesIO(b"\n".join(rows)),
                sep=" ",
                header=None,
                names=range(n_dims),
                dtype=np.float32,
                na_filter=False,
                quoting=csv.QUOTE_NONE,
            )
    except (ValueError, OverflowError):
        return None
    return table.to_numpy() if len(table) == len(rows) else None


def _is_text(line: bytes, n_dims: int) -> bool:
    """Return whether a line is a word and `n_dims` numbers within the range of float32."""
    fields = line.rstrip().rsplit(b" ", n_dims)
    try:
        return len(fields) == n_dims + 1 and all(abs(float(field)) <= _LARGEST for field in fields[1:])
    except ValueError:
        return False


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size
