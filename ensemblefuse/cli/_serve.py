"""``ensemblefuse serve``."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from ensemblefuse.cli._messages import UsageError
from ensemblefuse.cli._tables import check_input

_TOKEN_VARIABLE = "ENSEMBLEFUSE_TOKEN"  # nosec B105: the name of a variable, not a secret


def serve(args: Namespace) -> int:
    """Run ``ensemblefuse serve`` and return the exit code."""
    from ensemblefuse.serving import ServerSettings
    from ensemblefuse.serving import serve as run

    path = check_input(args.model, "model")
    limits = ("max_body", "max_rows", "max_pixels", "max_seconds", "max_characters", "max_numbers", "max_batch")
    names = ("host", "port", "files", *limits, "timeout", "header_timeout")
    options = {name: getattr(args, name) for name in names}
    try:
        settings = ServerSettings(token=_token(args.token_file), cache=args.cache, trusted=args.trusted, **options)
    except ValueError as error:
        hint = " Give it with --token-file." if "needs a token" in str(error) else ""
        raise UsageError(f"{error}{hint}") from error
    run(path, settings)
    return 0


def _token(file: str | None) -> str | None:
    """Read the token from a file or the environment: other users can see the command line of a process."""
    if file is None:
        return os.environ.get(_TOKEN_VARIABLE)
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"The token file {file!r} cannot be read: {reason}.") from error
