"""``ensemblefuse cache``."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from ensemblefuse._config import get_config
from ensemblefuse.cache import EmbeddingCache, get_cache
from ensemblefuse.cli._messages import FAILED, CommandError, UsageError, print_columns
from ensemblefuse.cli._tables import check_input, check_output
from ensemblefuse.table import EXACT, list_columns

_WIDTH = 100


def cache(args: Namespace) -> int:
    """Run ``ensemblefuse cache`` and return the exit code."""
    found = get_cache()
    if found is None and get_config()["cache"] is not None:
        raise CommandError("The cache is not used; the warning says why.")
    if found is None:
        print("The cache is off: the environment variable ENSEMBLEFUSE_CACHE turns it off.")
        return 0
    actions = {
        "info": _info,
        "verify": _verify,
        "export": _export,
        "merge": _merge,
        "prune": _prune,
        "forget": _forget,
        "clear": _clear,
    }
    return actions[args.action](found, args)


def _info(found: EmbeddingCache, args: Namespace) -> int:
    rows, stats = found.info(), found.stats()
    print(f"{found.folder}: {stats['n_rows']} vectors, {_size(stats['n_bytes'])}")
    if rows:
        header = ["encoder", "vectors", "size", "last used"]
        print_columns([header, *map(_recipe_line, rows)], right=(1, 2))
    dead = stats["n_superseded"] + stats["n_erased"]
    if dead:
        print(f"{dead} records are superseded or erased; 'ensemblefuse cache prune' removes them.")
    return 0


def _recipe_line(row: dict[str, Any]) -> list[str]:
    recipe = row["recipe"]
    name = str(recipe.get("class", "unknown")).rpartition(".")[2]
    params = ", ".join(f"{key}={value}" for key, value in recipe.get("params", {}).items())
    text = f"{name}({params})"
    used = "" if row["last_used"] is None else f"{row['last_used']:%Y-%m-%d}"
    text = text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
    return [text, str(row["n_rows"]), _size(row["n_bytes"]), used]


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"


def _verify(found: EmbeddingCache, args: Namespace) -> int:
    given = [option is not None for option in (args.sample, args.model, args.table)]
    if any(given) and not all(given):
        raise UsageError(
            "--sample, --model and --table go together: how many cells, whose encoders, and the table with the cells."
        )
    n_good, n_bad = found.verify()[:2]
    print(f"{found.folder}: {n_good} vectors are good, {n_bad} are damaged.")
    if n_bad:
        print("warning: damaged vectors are never used; their cells are encoded again when needed.", file=sys.stderr)
    n_differing = _compare(found, args) if all(given) else 0
    return FAILED if n_bad or n_differing else 0


def _compare(found: EmbeddingCache, args: Namespace) -> int:
    """Encode cells of a table again with a model's encoders; return the number of vectors that differ."""
    from ensemblefuse.cli._tables import check_any_column, form_of, open_pipeline, read_table, resolve_paths
    from ensemblefuse.encoders import BaseEncoder
    from ensemblefuse.modalities import columns_of, top_steps
    from ensemblefuse.persistence import load_model

    path, table = check_input(args.model, "model"), read_table(args.table, form_of(args))
    opened = open_pipeline(load_model(path, trusted=args.trusted), args.model)
    check_any_column(opened.modalities, table.columns, args.table)
    wanted = [column for column in columns_of(opened.modalities) if column in table.columns]
    X = resolve_paths(table[wanted], opened.path_columns, Path(args.table).parent)
    n_differing = 0
    for modality in opened.modalities:
        name, column, *others = modality.name, *list_columns(modality.columns)
        encoder = top_steps(modality.encoder)[0]
        if not isinstance(encoder, BaseEncoder) or column not in X.columns:
            continue
        if others:
            print(f"{name}: left out, because it reads several columns")
            continue
        result = found.verify(encoder=encoder, cells=X[column].tolist(), sample=args.sample)
        if not result.n_compared:
            print(f"warning: {name}: the cache holds no vector of these cells by this encoder.", file=sys.stderr)
        print(f"{name}: {result.n_compared} cells encoded again, {len(result.differing)} differ")
        for position, distance in result.differing[:5]:
            print(f"  row {X.index[position]!r}, column {column!r}: relative distance {distance:.2g}")
        n_differing += len(result.differing)
    return n_differing


def _export(found: EmbeddingCache, args: Namespace) -> int:
    path = check_output(args.path, overwrite=args.overwrite)
    n_rows = found.export(path)
    print(f"Wrote {n_rows} vectors to {path} ({_size(path.stat().st_size)}).")
    return 0


def _merge(found: EmbeddingCache, args: Namespace) -> int:
    source = Path(args.source)
    if not source.is_dir():
        check_input(args.source, "cache folder or exported file")
    added, known, damaged = found.merge(source)
    print(f"{found.folder}: {added} vectors added, {known} were there already.")
    if damaged:
        print(f"warning: {damaged} damaged records of {source} were left out.", file=sys.stderr)
    return 0


def _prune(found: EmbeddingCache, args: Namespace) -> int:
    n_rows, n_bytes = found.prune(max_bytes=args.max_size, unused_days=args.unused_days)
    print(
        f"{found.folder}: removed {n_rows} vectors, freed {_size(n_bytes)}, {found.stats()['n_rows']} vectors remain."
    )
    return 0


def _forget(found: EmbeddingCache, args: Namespace) -> int:
    if args.table is not None:
        return _forget_samples(found, args)
    if args.id or args.ids or args.models:
        raise UsageError("--id, --ids and --models need --table: the table with the samples.")
    if not args.path and not args.text:
        raise UsageError("Name what to remove: files, texts with --text, or samples with --table.")
    paths = [check_input(path, "file") for path in args.path]
    try:
        n_rows = found.forget([*paths, *args.text])
    except OSError as error:
        raise CommandError(f"The vectors could not be removed: {error}.") from error
    print(f"{found.folder}: removed {n_rows} vectors of {len(paths) + len(args.text)} cells.")
    return 0


def _forget_samples(found: EmbeddingCache, args: Namespace) -> int:
    """Remove the vectors of rows of a table; fail if a cell could not be read, because its vectors may remain."""
    from ensemblefuse.cli._tables import check_column, form_of, read_table, resolve_paths
    from ensemblefuse.column_kinds import column_kind
    from ensemblefuse.deployment import forget

    if args.path or args.text:
        raise UsageError("--table does not go with files or --text; remove those with a second command.")
    if (args.ids or args.models) and args.id is None:
        raise UsageError("--ids and --models need --id: the column with the samples' ids.")
    table, ids = read_table(args.table, form_of(args)), None
    if args.id is not None:
        ids = _whole(table.pop(check_column(table, args.id, "--id", args.table)))
        unknown = sorted(set(args.ids) - set(ids.dropna().astype(str)))
        if unknown:
            raise CommandError(f"{args.table} has no rows with these ids in {args.id!r}: {unknown[:5]}.")
        chosen = ids.notna() & (ids.astype(str).isin(args.ids) if args.ids else True)
        table, ids = table[chosen], ids[chosen]
    media = [c for c in table.columns if column_kind(table[c])[0] in ("image", "audio", "video")]
    X = resolve_paths(table, media, Path(args.table).parent)
    try:
        report = forget(X, ids=ids, models=args.models, cache=found)
    except (OSError, ValueError) as error:
        raise CommandError(f"The vectors could not be removed: {str(error).rstrip('.')}.") from error
    print(report)
    return FAILED if (report.table["unread"] != "").any() else 0


def _whole(ids: Any) -> Any:
    """Return whole numbers as integers: pandas reads them as floats if a cell is empty."""
    is_whole = ids.dtype.kind == "f" and ((ids.dropna() % 1 == 0) & (ids.dropna().abs() < EXACT)).all()
    return ids.astype("Int64") if is_whole else ids


def _clear(found: EmbeddingCache, args: Namespace) -> int:
    stats = found.stats()
    n_rows, size = stats["n_rows"], _size(stats["n_bytes"])
    if not stats["n_bytes"]:
        print(f"{found.folder} holds no vectors.")
        return 0
    if not args.yes:
        if not sys.stdin.isatty():
            raise UsageError(f"This would delete {n_rows} vectors in {found.folder}; pass --yes to do it.")
        answer = input(f"Delete {n_rows} vectors ({size}) in {found.folder}? [y/N] ")
        if answer.strip().lower() not in ("y", "yes"):
            print("Nothing was deleted.")
            return 0
    found.clear()
    print(f"Deleted {n_rows} vectors ({size}) in {found.folder}.")
    return 0
