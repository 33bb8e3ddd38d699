"""`write_report`: all sections in one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse._writing import check_place, write_atomically
from ensemblefuse.report._evidence import Evidence
from ensemblefuse.report._headline import headline
from ensemblefuse.report._page import Section, Unavailable, page_html
from ensemblefuse.report._section_checks import checks_section, cost_section, errors_section
from ensemblefuse.report._section_data import data_section
from ensemblefuse.report._section_explanations import rows_section
from ensemblefuse.report._section_provenance import made_section
from ensemblefuse.report._section_results import ablation_section, missing_section, scores_section, shares_section
from ensemblefuse.report._section_scores import calibration_section, confusion_section

__all__ = ["Report", "write_report"]


@dataclass
class Report:
    """What `write_report` wrote.

    Attributes
    ----------
    path : Path
    n_bytes : int
    sections : list of str
        Ids of the sections, in their order.
    errors : dict of str to Exception
        Sections that failed, which the page shows as failed; empty if all went well.
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
    """Write one HTML page about a fitted model: scores, modalities, calibration, rows explained.

    The page holds all that it shows and asks for nothing outside itself. The same inputs give the same bytes, but for
    the line with the date and the measured times of the section on cost.

    Parameters
    ----------
    model : fitted Pipeline that ends in a fusion estimator, or fitted fusion estimator
    X : DataFrame (pandas or polars), dict of columns, or ndarray, of n_samples rows
        As the model takes it.
    y : array of shape (n_samples,)
    path : path-like
        The file to write; one that is there is replaced.
    trained_on : bool
        Whether `X` and `y` are the rows of fit, all of them in their order. Scores are then those of the out-of-fold
        predictions that decision-level fusion keeps; models without them get no scores. Otherwise the rows are taken
        to be new to the model, and are predicted.
    title : str, optional
        By default the class of the fusion and the number of rows.
    n_rows : int
        Rows to explain.
    groups : array of shape (n_samples,), optional
        Rows of one group are drawn together when intervals are made.
    random_state : int
        Seed of the bootstrap.

    Returns
    -------
    Report
        With the sections that failed in ``errors``; the page is written all the same.

    Raises
    ------
    TypeError
        If the model does not end in a fusion estimator.
    ValueError
        If `y` does not fit `X` or the model, or with ``trained_on=True`` the rows of fit.
    OSError
        If `path` is a folder, or in one that is not there.
    ImportError
        If matplotlib is not installed.

    Warns
    -----
    UserWarning
        If rows that are given as new have the labels of the rows of fit in their order; the page says it too.

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
    above = headline(evidence)  # a cell that cannot be encoded ends it here
    sections = [_made(name, heading, make, evidence, errors) for name, heading, make in _plan(evidence, int(n_rows))]
    title = title or f"{type(evidence.parts.fusion).__name__} on {len(evidence.X):,} rows"
    content = page_html(title, above, sections, f"Made on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC").encode()
    write_atomically(path, content)
    return Report(path, len(content), [section.name for section in sections], errors)


def _plan(evidence: Evidence, n_rows: int) -> list[tuple[str, str, Callable[[Evidence], Section]]]:
    """Id, heading and maker of each section, in the order of the page."""
    return [
        ("data", "Data and missing modalities", data_section),
        ("scores", "Scores", scores_section),
        ("ablation", "Single modalities and their fusion", ablation_section),
        ("calibration", "How sure it is", calibration_section),
        ("confusion", "What is taken for what" if evidence.classify else "Predicted and actual", confusion_section),
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
    except Exception as error:  # whatever it is, the other sections are worth having
        errors[name] = error
        return Section(name, heading, error=f"{type(error).__name__}: {error}")
    section.name, section.heading = name, heading
    return section
