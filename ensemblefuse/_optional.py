"""Import of heavy or optional packages where they are used, with one error message."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_optional(name: str, *, package: str | None = None, extra: str | None = None, needed_by: str) -> ModuleType:
    """Import `name`. If it is absent, raise an error that names who needs it and the pip command that installs it.

    Parameters
    ----------
    name : str
        Module to import, such as ``"ctranslate2"``.
    package : str, optional
        The name on PyPI, if it differs from the module's.
    extra : str, optional
        The extra of ensemblefuse that installs the package.
    needed_by : str
        The class or function that the user called.

    Raises
    ------
    ImportError
        If the module is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != name.split(".")[0]:
            raise  # the package is installed; one of its own dependencies is not
        target = f'"ensemblefuse[{extra}]"' if extra else package or name
        raise ImportError(
            f"{needed_by} needs {package or name}, which is not installed. Install it with: pip install {target}"
        ) from error
