"""`write_report`, which writes all sections to one file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse._writing import check_place, write_atomically
from ensemblefuse.exceptions import UnseenValueWarning
from ensemblefuse.report._evidence import Evidence
from ensemblefuse.report._headline import headline
from ensemblefuse.report._page import Section, Unavailable, page_html
from ensemblefuse.report._section_checks import checks_section, cost_section, errors_section
from ensemblefuse.report._section_data import data_section
from ensemblefuse.report._section_explanations import rows_section
from ensemblefuse.report._section_gains import ablation_section, shares_section
from ensemblefuse.report._section_provenance import made_section
from ensemblefuse.report._section_results import missing_section, scores_section
from ensemblefuse.report._section_scores import calibration_section, confusion_section

__all__ = ["Report", "write_report"]


@dataclass
class Report:
    """The result of `write_report`.

    Attributes
    ----------
    path : Path
    n_bytes : int
    sections : list of str
        Ids of the sections, in order.
    errors : dict of str to Exception
        Sections that failed; the page marks them as failed. Empty if there was no error.
    """

    path: Path
    n_bytes: int
    sections: list[str]
    errors: dict[str, Exception]


def write_report(
    model: Any,
    X: Any,
    y: Any,
    path: str | os.PathLike[str],
    *,
    trained_on: bool = False,
    title: str | None = None,
    n_rows: int = 5,
    groups: Any = None,
    random_state: int = 0,
) -> Report:
    """Write one HTML page about a fitted model: scores, modalities, calibration, explanations of rows.

    The page is self-contained: it loads no other files. The same inputs give the same bytes, except for the line with
    the date and the measured times in the section on cost.

    Parameters
    ----------
    model : fitted Pipeline that ends in a fusion estimator, or fitted fusion estimator
    X : DataFrame (pandas or polars), dict of columns, or ndarray, of n_samples rows
        Rows as the model takes them.
    y : array of shape (n_samples,)
    path : path-like
        The file to write; an existing file is replaced.
    trained_on : bool
        Whether `X` and `y` are the rows of fit, all of them and in the same order. Scores are then those of the
        out-of-fold predictions that decision-level fusion keeps; models without them get no scores. Otherwise the rows
        are taken to be new to the model, and are predicted.
    title : str, optional
        By default the class of the fusion and the number of rows.
    n_rows : int
        Rows to explain.
    groups : array of shape (n_samples,), optional
        The bootstrap for the intervals draws rows of one group together.
    random_state : int
        Seed of the bootstrap.

    Returns
    -------
    Report
        Sections that failed are in ``errors``; the page is still written.

    Raises
    ------
    TypeError
        If the model does not end in a fusion estimator.
    ValueError
        If `y` does not match `X` or the model, or with ``trained_on=True`` the rows of fit.
    OSError
        If `path` is a folder, or its folder does not exist.
    ImportError
        If matplotlib is not installed.

    Warns
    -----
    UserWarning
        If rows that are given as new have the labels of the rows of fit, in the same order. The page says so, too.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, write_report
    >>> rng = np.random.default_rng(0)
    >>> y = np.array(["cat", "dog"] * 30)
    >>> X = pd.DataFrame({"image__0": (y == "dog") + rng.normal(size=60), "text__0": rng.normal(size=60)})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y)
    >>> folder = tempfile.TemporaryDirectory()
    >>> report = write_report(model, X, y, f"{folder.name}/report.html", trained_on=True, n_rows=1)
    >>> report.sections[:3], report.errors
    (['data', 'scores', 'ablation'], {})
    >>> folder.cleanup()
    """
    import_optional("matplotlib", extra="plot", needed_by="write_report")
    if isinstance(n_rows, bool) or not isinstance(n_rows, (int, np.integer)) or n_rows < 0:
        raise ValueError(f"n_rows must be a whole number of at least 0; got {n_rows!r}.")
    path = check_place(path, "write the page")
    evidence = Evidence(model, X, y, trained_on=trained_on, groups=groups, random_state=random_state)
    errors: dict[str, Exception] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnseenValueWarning)  # `Evidence` has counted them
        above = headline(evidence)  # raises here if a cell cannot be encoded
        plan = _plan(evidence, int(n_rows))
        sections = [_made(name, heading, make, evidence, errors) for name, heading, make in plan]
    title = title or f"{type(evidence.parts.fusion).__name__} on {len(evidence.X):,} rows"
    content = page_html(title, above, sections, f"Made on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC").encode(
        errors="backslashreplace"
    )
    write_atomically(path, content)
    return Report(path, len(content), [section.name for section in sections], errors)


def _plan(evidence: Evidence, n_rows: int) -> list[tuple[str, str, Callable[[Evidence], Section]]]:
    """Return id, heading and function of each section, in the order of the page."""
    return [
        ("data", "Data and missing modalities", data_section),
        ("scores", "Scores", scores_section),
        ("ablation", "Single modalities and their fusion", ablation_section),
        ("calibration", "Calibration", calibration_section),
        ("confusion", "Confusion of classes" if evidence.classify else "Predicted and actual", confusion_section),
        ("errors", "Where the fusion errs", errors_section),
        ("shares", "What each modality is worth", shares_section),
        ("missing", "When modalities are missing", missing_section),
        ("rows", _count_of_rows(n_rows), partial(rows_section, n_rows=n_rows)),
        ("checks", "Checks", checks_section),
        ("cost", "What a prediction costs", cost_section),
        ("made", "How this was made", made_section),
    ]


def _count_of_rows(n_rows: int) -> str:
    return f"{n_rows} rows explained" if n_rows != 1 else "One row explained"


def _made(
    name: str, heading: str, make: Callable[[Evidence], Section], evidence: Evidence, errors: dict[str, Exception]
) -> Section:
    try:
        section = make(evidence)
    except Unavailable as reason:
        return Section(name, heading, notes=[f"Not shown: {reason}"])
    except Exception as error:  # with any error, the other sections are still useful
        errors[name] = error
        return Section(name, heading, error=f"{type(error).__name__}: {error}")
    section.name, section.heading = name, heading
    return section
