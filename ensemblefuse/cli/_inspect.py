"""``ensemblefuse inspect`` and ``ensemblefuse cache``. Floor 5."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import Any

from ensemblefuse.cache import EmbeddingCache, get_cache
from ensemblefuse.cli._report import FAILED, UsageError, print_columns
from ensemblefuse.cli._tables import check_input

_WIDTH = 100


def inspect(args: Namespace) -> int:
    """``ensemblefuse inspect``."""
    from ensemblefuse.persistence import inspect_model

    manifest = inspect_model(check_input(args.model, "model"))
    if args.json:
        print(json.dumps(manifest, indent=2, default=str))
    else:
        print(args.model)
        _print_fields(_shortened(manifest), indent=2)
    return 0


def _shortened(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest for a reader: one line a modality, and counts in place of long lists."""
    fields = dict(manifest)
    if "modalities" in fields:
        fields["modalities"] = {m["name"]: _modality_line(m) for m in fields["modalities"]}
    if fields.get("example_predictions"):
        fields["example_predictions"] = f"of {len(fields['example_predictions']['predict'])} rows (--json prints them)"
    if "types" in fields:
        fields["types"] = f"{len(fields['types'])} that the file would build (--json prints them)"
    return fields


def _modality_line(modality: dict[str, Any]) -> str:
    parts = []
    for encoder in modality["encoder"]:
        text = encoder["repr"].partition("(")[0] if len(encoder["repr"]) > _WIDTH else encoder["repr"]
        digests = [f"{name} {str(digest)[:12]}" for name, digest in encoder.get("weights", {}).items()]
        parts.append(f"{text} [weights {', '.join(digests)}]" if digests else text)
    return f"{', '.join(modality['columns'])} -> {', '.join(parts)}"


def _print_fields(fields: Any, *, indent: int) -> None:
    """Dicts and lists of dicts as indented lines; what fits into one line stays in one."""
    items = list(fields.items()) if isinstance(fields, dict) else [("-", value) for value in fields]
    for name, value in items:
        text = _short(value)
        if isinstance(value, (dict, list)) and len(text) + len(str(name)) + indent > _WIDTH:
            print(f"{' ' * indent}{name}:" if name != "-" else f"{' ' * indent}-")
            _print_fields(value, indent=indent + 2)
        else:
            print(f"{' ' * indent}{name}{'' if name == '-' else ':'} {text}".rstrip())


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_short(v)}" for k, v in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_short, value)) or "none"
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def cache(args: Namespace) -> int:
    """``ensemblefuse cache``."""
    found = get_cache()
    if found is None:
        print("The cache is off: the environment variable ENSEMBLEFUSE_CACHE says so.")
        return 0
    return {"info": _info, "clear": _clear, "verify": _verify}[args.action](found, args)


def _info(found: EmbeddingCache, args: Namespace) -> int:
    rows = found.info()
    n_rows, size = _totals(rows)
    print(f"{found.folder}: {n_rows} vectors, {size}")
    if rows:
        print_columns([["encoder", "vectors", "size"], *map(_recipe_line, rows)], right=(1, 2))
    return 0


def _recipe_line(row: dict[str, Any]) -> list[str]:
    recipe = row["recipe"]
    name = str(recipe.get("class", "unknown")).rpartition(".")[2]
    params = ", ".join(f"{key}={value}" for key, value in recipe.get("params", {}).items())
    text = f"{name}({params})"
    return [text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}...", str(row["n_rows"]), _size(row["n_bytes"])]


def _totals(rows: list[dict[str, Any]]) -> tuple[int, str]:
    return sum(row["n_rows"] for row in rows), _size(sum(row["n_bytes"] for row in rows))


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"


def _clear(found: EmbeddingCache, args: Namespace) -> int:
    n_rows, size = _totals(found.info())
    if n_rows == 0:
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


def _verify(found: EmbeddingCache, args: Namespace) -> int:
    n_good, n_bad = found.verify()
    print(f"{found.folder}: {n_good} vectors are good, {n_bad} are damaged.")
    if n_bad:
        print("warning: damaged vectors are never used; their cells are encoded again when needed.", file=sys.stderr)
    return FAILED if n_bad else 0
