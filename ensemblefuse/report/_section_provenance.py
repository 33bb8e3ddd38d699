"""Section: versions, data and method behind the page."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.cache.cell_digests import cell_digest
from ensemblefuse.report._evidence import Evidence
from ensemblefuse.report._page import Section, table_html
from ensemblefuse.table import is_missing

__all__ = ["made_section"]

_PACKAGES = ("ensemblefuse", "scikit-learn", "numpy", "pandas", "scipy", "xgboost", "torch", "matplotlib")


def made_section(evidence: Evidence) -> Section:
    """Make the section of versions, fingerprint of the data, seed, and how figures were measured."""
    lead = "With the same versions, data and seed the page is the same, except for the date and the measured times."
    facts = {
        "model": _model_line(evidence),
        "rows": f"{len(evidence.X):,}, {'rows of fit' if evidence.trained_on else 'given as new to the model'}",
        "data fingerprint": f"sha256 {fingerprint(evidence.X, evidence.y)}",
        "seed": str(evidence.random_state),
        "versions": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
        "Python": platform.python_version(),
    }
    table = pd.DataFrame({"": list(facts.values())}, index=pd.Index(facts, name=None))
    return Section("made", "", lead, tables=[table_html(table, "Settings", cut=False)], notes=_notes(evidence))


def _model_line(evidence: Evidence) -> str:
    parts, core = evidence.parts, type(evidence.parts.core).__name__
    fusion = type(parts.fusion).__name__
    return f"{fusion}, with {core} inside" if core != fusion else fusion


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _notes(evidence: Evidence) -> list[str]:
    if evidence.trained_on:
        return [
            "Out of fold: scores, calibration, confusion, errors, and the gains of modalities. "
            "Each prediction comes from estimators, combiner and calibration that were fitted without its row. Two "
            "things have seen all rows: steps before the fusion that use no labels, such as a scaler, and a search "
            "that chose the model, if there was one.",
            "On the given rows, by the model that was fitted on them: explanations of single rows. They show the "
            "predictions for rows of fit.",
        ]
    return [
        "On the given rows, by the unchanged model: everything except some checks, which say so. No part of the model "
        "was fitted again, and nothing shows whether it was fitted on these rows.",
    ]


def fingerprint(X: pd.DataFrame, y: np.ndarray) -> str:
    """Return a digest of all cells and labels; for files, of the content and not of the path.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from ensemblefuse.report._section_provenance import fingerprint
    >>> one = pd.DataFrame({"title": ["a", None], "price": [1.0, 2.0]})
    >>> fingerprint(one, np.array([0, 1])) == fingerprint(one.copy(), np.array([0, 1]))
    True
    """
    hasher = hashlib.sha256()
    for name, column in X.items():
        hasher.update(repr(name).encode())
        if _may_name_files(column.dtype):
            for cell in column.tolist():
                hasher.update(_digest(cell))
        else:
            hasher.update(pd.util.hash_pandas_object(column, index=False).to_numpy().tobytes())
    for label in np.asarray(y).tolist():
        hasher.update(repr(label).encode() + b"\n")
    return hasher.hexdigest()[:16]


def _may_name_files(dtype: Any) -> bool:
    """Return whether cells are objects or texts; pandas 3 has a separate dtype for texts."""
    return isinstance(dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(dtype)


def _digest(cell: Any) -> bytes:
    if is_missing(cell):  # None, NaN or NA, depending on the dtype of the column
        return b"missing"
    is_path = isinstance(cell, str) and 0 < len(cell) < 1024 and "\0" not in cell and Path(cell).is_file()
    try:
        return cell_digest(cell, strings_are_paths=is_path)
    except (TypeError, OSError):
        return repr(type(cell)).encode()
