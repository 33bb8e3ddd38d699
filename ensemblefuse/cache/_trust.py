"""Whether other users can write into the cache folder: their vectors would change predictions without a word."""

from __future__ import annotations

import contextlib
import os
import stat
import warnings
from pathlib import Path

from ensemblefuse.exceptions import CacheWarning

__all__ = ["folder_problem", "is_trusted"]

_told: set[tuple[Path, str]] = set()


def folder_problem(folder: Path) -> str:
    """Return why others may write into a folder, or exchange it; an empty str if they may not.

    Its owner must be this user or root, and it may not be writable by all, also not with the sticky bit, which only
    keeps others from deleting. Of the folders above it, those that are writable by all need the sticky bit. Groups are
    not looked at: a cache that a group shares is made so on purpose. On systems without user ids nothing is found.
    """
    if not hasattr(os, "getuid"):
        return ""
    mine = (os.getuid(), 0)
    place = Path(os.path.realpath(folder))
    own: os.stat_result | None = None
    with contextlib.suppress(OSError):  # not made yet; whoever makes it is its owner
        own = os.stat(folder)
    if own is not None:
        for status, what in ((own, "it"), (os.lstat(folder), "the link")):
            if status.st_uid not in mine:
                return f"{what} belongs to the user {status.st_uid}"
        if own.st_mode & stat.S_IWOTH:
            return f"it is writable by all users (mode {stat.S_IMODE(own.st_mode):o})"
    for parent in place.parents:
        try:
            mode = os.stat(parent).st_mode
        except OSError:
            continue
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"the folder {parent} above it is writable by all users (mode {stat.S_IMODE(mode):o})"
    return ""


def is_trusted(folder: Path) -> bool:
    """Return whether to use a cache folder. If others may write into it, warn once; only root does not use it then."""
    problem = folder_problem(folder)
    if not problem:
        return True
    is_root = os.getuid() == 0
    if (folder, problem) not in _told:
        _told.add((folder, problem))
        done = "As root you do not use it, and everything is encoded anew" if is_root else "It is used all the same"
        warnings.warn(
            f"Others may put false vectors into the embedding cache in {folder}: {problem}. {done}. Make the folder "
            "your own (chown, chmod go-w), or choose another one with set_config(cache=...).",
            CacheWarning,
            stacklevel=4,
        )
    return not is_root
