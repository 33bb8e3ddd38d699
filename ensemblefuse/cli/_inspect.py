"""``ensemblefuse inspect``."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from ensemblefuse.cli._tables import check_input

_WIDTH = 100


def inspect(args: Namespace) -> int:
    """Run ``ensemblefuse inspect`` and return the exit code."""
    from ensemblefuse.persistence import inspect_model

    manifest = inspect_model(check_input(args.model, "model"))
    if args.json:
        print(json.dumps(manifest, indent=2, default=str))
    else:
        print(args.model)
        _print_fields(_shortened(manifest), indent=2)
    return 0


def _shortened(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest for a human reader: one line per modality, and counts instead of long lists."""
    fields = dict(manifest)
    if "modalities" in fields:
        fields["modalities"] = {m["name"]: _modality_line(m) for m in fields["modalities"]}
    if "tasks" in fields:
        fields["tasks"] = {name: "a number" if labels is None else labels for name, labels in fields["tasks"].items()}
    if "example" in fields:
        fields["example"] = _example_line(fields["example"])
    if fields.get("example_predictions"):  # of format 1
        fields["example_predictions"] = f"of {len(fields['example_predictions']['predict'])} rows (--json prints them)"
    if "members" in fields:
        total = sum(member["bytes"] for member in fields["members"].values())
        fields["members"] = f"{len(fields['members'])}, {total:,} bytes unpacked (--json prints their digests)"
    if "types" in fields:
        fields["types"] = f"{len(fields['types'])} that the file would build (--json prints them)"
    return fields


def _example_line(example: dict[str, Any]) -> str:
    kept = "" if not example["not_kept"] else f"; not kept: {'; '.join(example['not_kept'].values())}"
    return f"{example['n_rows']} rows and what was predicted for them{kept} (--json prints the predictions)"


def _modality_line(modality: dict[str, Any]) -> str:
    parts = []
    for encoder in modality["encoder"]:
        text = encoder["repr"].partition("(")[0] if len(encoder["repr"]) > _WIDTH else encoder["repr"]
        digests = [f"{name} {str(digest)[:12]}" for name, digest in encoder.get("weights", {}).items()]
        parts.append(f"{text} [weights {', '.join(digests)}]" if digests else text)
    return f"{', '.join(modality['columns'])} -> {', '.join(parts)}"


def _print_fields(fields: Any, *, indent: int) -> None:
    """Print dicts and lists of dicts as indented lines; a value that fits into one line stays in one."""
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
