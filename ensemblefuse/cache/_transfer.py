"""Methods to copy a cache to another machine: `export` and `merge`. Only checked numbers and JSON are read."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ensemblefuse._writing import check_place, special_kind
from ensemblefuse.cache._inspect import recipe_folders
from ensemblefuse.cache._recipe import MAX_BYTES, NAME, parse_recipe, read_recipe
from ensemblefuse.cache._segment import ENTRY, FORMAT, header_of, is_erased, read_blocks, read_header, segments_in
from ensemblefuse.cache._upkeep import exclusive, live_rows
from ensemblefuse.exceptions import CacheWarning

_MEMBER = re.compile(rf"{FORMAT}/([0-9a-f]{{32}})/({re.escape(NAME)}|[\w-]+\.keys)")
_LOCAL_HEADER = 30


# Times to look for a recipe that is missing beside its segments, 0.05 s apart.
_LOOKS = 20


class Merged(NamedTuple):
    """The result of `EmbeddingCache.merge`."""

    n_added: int
    """Vectors that are new."""
    n_known: int
    """Vectors that were in the cache already."""
    n_damaged: int
    """Records that were left out because they were damaged."""


class _Part(NamedTuple):
    """Keys and vectors of a segment to merge: path, offset and size of each."""

    keys: tuple[Path, int, int]
    vectors: tuple[Path, int, int]


class Transfer:
    """The part of `EmbeddingCache` that writes to and reads from other places."""

    folder: Path
    n_written: int

    def export(self, path: str | os.PathLike) -> int:
        """Write all undamaged vectors and their recipes to one file, which `merge` reads.

        Parameters
        ----------
        path : path
            The file, which is replaced if it exists: an uncompressed ZIP archive of the cache's own files. Like the
            cache, it holds no content and no paths.

        Returns
        -------
        int
            Number of vectors.

        Raises
        ------
        OSError
            If it cannot be written. An existing file stays unchanged.
        """
        path = check_place(path, "write the vectors")
        temporary = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
        n_rows = 0
        try:
            with exclusive(self.folder), zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive:
                for folder in recipe_folders(self.folder):
                    n_rows += _export_recipe(archive, folder)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return n_rows

    def merge(self, source: str | os.PathLike) -> Merged:
        """Add the vectors of another cache.

        Checksums detect damage, not manipulation: you must trust the author of the file to have stored true vectors.

        Parameters
        ----------
        source : path
            The folder of another cache, or a file that `export` wrote. No code in it is run, and no name in it is used
            as a path.

        Returns
        -------
        Merged
            ``n_added``, ``n_known``, ``n_damaged``.

        Raises
        ------
        FileNotFoundError
            If the file or folder does not exist.
        ValueError
            If it is not a cache.
        """
        source = Path(source)
        if special_kind(source) not in ("", "a folder"):  # to open a pipe would wait for its writer
            raise ValueError(f"{source} is {special_kind(source)}, not a cache; name a folder or an exported file.")
        parts = _parts_of_folder(source) if source.is_dir() else _parts_of_file(source)
        added = known = damaged = 0
        for recipe, part in parts:
            for keys, vectors, n_bad in _while_there(_checked(part)):
                damaged += n_bad if recipe is not None else n_bad + len(keys)
                if recipe is None or not len(keys):
                    continue
                digests = [key.tobytes() for key in keys]
                own = type(self)(self.folder)  # type: ignore[call-arg]
                is_new = ~own.get_many(recipe, digests)[0]  # type: ignore[attr-defined]
                known += int((~is_new).sum())
                if is_new.any():
                    before = self.n_written
                    chosen = [digest for digest, new in zip(digests, is_new, strict=True) if new]
                    self.put(recipe, chosen, vectors[is_new])  # type: ignore[attr-defined]
                    added += self.n_written - before
        return Merged(added, known, damaged)


def _export_recipe(archive: zipfile.ZipFile, folder: Path) -> int:
    segments = sorted(segments_in(folder), key=lambda segment: segment.used)
    recipe = read_recipe(folder)
    for _ in range(_LOOKS):
        if recipe is not None or (folder / NAME).exists() or not segments_in(folder):
            break
        time.sleep(0.05)  # another process made the folder again, and has yet to write its recipe
        recipe = read_recipe(folder)
    if recipe is None:
        if segments_in(folder):
            warnings.warn(f"{folder / NAME} is damaged; its vectors are not exported.", CacheWarning, stacklevel=4)
        return 0
    archive.writestr(f"{FORMAT}/{folder.name}/{NAME}", (folder / NAME).read_bytes())
    n_rows = 0
    for number, (segment, live) in enumerate(zip(segments, live_rows(segments), strict=True)):
        entries, start = [], 0
        name = f"{FORMAT}/{folder.name}/{number}"
        with archive.open(f"{name}.vectors", "w", force_zip64=True) as file:
            for block, rows, good in segment.blocks():
                chosen = good & live[start : start + len(block)]
                start += len(block)
                file.write(rows[chosen].tobytes())
                entries.append(block[chosen])
        archive.writestr(f"{name}.keys", header_of(segment.n_dims) + np.concatenate(entries).tobytes())
        n_rows += sum(map(len, entries))
    return n_rows


# ---------------------------------------------------------------------- reading


def _parts_of_folder(source: Path) -> Iterator[tuple[dict[str, Any] | None, _Part]]:
    if not (source / FORMAT).is_dir():
        raise ValueError(f"{source} is not the folder of an embedding cache: it has no folder {FORMAT!r}.")
    for folder in recipe_folders(source):
        recipe = read_recipe(folder)
        for segment in segments_in(folder):
            keys, vectors = Path(segment.keys_path), Path(segment.vectors_path)
            sizes = segment.sizes()
            if sizes is not None:
                yield recipe, _Part((keys, 0, sizes[0]), (vectors, 0, sizes[1]))


def _parts_of_file(source: Path) -> Iterator[tuple[dict[str, Any] | None, _Part]]:
    try:
        with zipfile.ZipFile(source) as archive:
            members = {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise ValueError(f"{source} is not an exported cache, or is truncated ({error}).") from error
    recipes: dict[str, dict[str, Any] | None] = {}
    segments = []
    for name, info in members.items():
        match = _MEMBER.fullmatch(name)
        if match is None:
            continue
        if match[2] == NAME:
            with _opened(_place(source, info)) as (file, size):
                recipes[match[1]] = parse_recipe(file.read(min(size, MAX_BYTES)), match[1])
        elif (vectors := members.get(name.removesuffix(".keys") + ".vectors")) is not None:
            segments.append((match[1], _Part(_place(source, info), _place(source, vectors))))
    if not recipes and not segments:
        raise ValueError(f"{source} is not an exported cache: it holds no vectors.")
    for digest, part in segments:
        yield recipes.get(digest), part


def _place(source: Path, info: zipfile.ZipInfo) -> tuple[Path, int, int]:
    """Return the place of a member's content, which is read without `zipfile`: a wrong byte only affects its record."""
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise ValueError(f"{source} is not an exported cache: {info.filename!r} in it is compressed or encrypted.")
    with open(source, "rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER)
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = info.header_offset + _LOCAL_HEADER + lengths
    return source, start, max(0, min(info.file_size, os.stat(source).st_size - start))


@contextlib.contextmanager
def _opened(place: tuple[Path, int, int]) -> Iterator[tuple[BinaryIO, int]]:
    path, start, size = place
    with open(path, "rb") as file:
        file.seek(start)
        yield file, size


def _while_there(items: Iterator[Any]) -> Iterator[Any]:
    """Yield items until a file is missing because another process has pruned it."""
    with contextlib.suppress(FileNotFoundError):
        yield from items


def _checked(part: _Part) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yield the keys and vectors of good records in blocks, with the number of damaged ones."""
    with _opened(part.keys) as (keys, keys_size), _opened(part.vectors) as (vectors, vectors_size):
        n_dims = read_header(keys)
        n_rows = max(0, keys_size - len(header_of(1))) // ENTRY.itemsize
        if n_dims is None:
            return
        n_whole = min(n_rows, vectors_size // (4 * n_dims))
        n_seen = 0
        for entries, rows, good in read_blocks(keys, vectors, n_dims, n_whole):
            n_seen += len(entries)
            good = good & np.isfinite(rows).all(axis=1)
            yield entries["key"][good], rows[good], int((~good & ~is_erased(entries)).sum())
        if n_rows > n_seen:
            yield np.empty((0, 2), dtype=np.uint64), np.empty((0, n_dims), dtype=np.float32), n_rows - n_seen
