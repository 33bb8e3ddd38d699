"""Findings of checks, and the data that checks read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.fitted.gains import Gains, gains_of, subsets_of_gains
from ensemblefuse.fitted.modality_rows import ModalityRows
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fitted.subsets import SubsetPredictions, predict_subsets
from ensemblefuse.scoring.bootstrap import Resampling, n_units, read_seed
from ensemblefuse.scoring.metrics import default_metric, row_values
from ensemblefuse.scoring.result import TableResult

__all__ = ["CheckData", "Finding", "ModelChecks", "NotRun"]

SEVERITIES = ("issue", "tip", "not run", "ok")


class NotRun(Exception):
    """A check cannot run; the message says what it needs."""


@dataclass
class Finding:
    """Result of one check.

    Attributes
    ----------
    code, title : str
    severity : {"issue", "tip", "not run", "ok"}
    explanation : str
        The figures; for ``"not run"`` what was lacking.
    advice : str
        What to do; empty for ``"ok"``.
    rows : list
        Index labels of the rows concerned, of `X` or, if the explanation says so, of `X_test`; often empty.
    """

    code: str
    title: str
    severity: str
    explanation: str
    advice: str = ""
    rows: list = field(default_factory=list)


class ModelChecks(TableResult):
    """Findings of `model_checks`, the most serious first.

    Attributes
    ----------
    findings : list of Finding
    table : DataFrame
        One row per check: ``code`` as the index, ``severity``, ``title``, ``explanation``, ``advice``, ``n_rows``.
    caption, notes
        As in `TableResult`.
    """

    def __init__(self, findings: Sequence[Finding], caption: str):
        self.findings = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
        rows = [[f.severity, f.title, f.explanation, f.advice, len(f.rows)] for f in self.findings]
        index = pd.Index([f.code for f in self.findings], name="code")
        super().__init__(
            pd.DataFrame(rows, index=index, columns=["severity", "title", "explanation", "advice", "n_rows"]), caption
        )

    def __getitem__(self, code: str) -> Finding:
        """Return the finding of one check."""
        for finding in self.findings:
            if finding.code == code:
                return finding
        raise KeyError(f"no check {code!r}; there are {sorted(self.table.index)}.")

    def __str__(self) -> str:
        lines = [self.caption]
        for finding in self.findings:
            lines.append(f"[{finding.severity}] {finding.code} {finding.title}: {finding.explanation}")
            lines += [f"    {finding.advice}"] if finding.advice else []
        return "\n".join(lines)


@dataclass
class CheckData:
    """A fitted model and the tables that its checks read; what several checks need is computed once.

    Attributes
    ----------
    parts : FittedModel
    X, X_test : DataFrame, ndarray, or None
    y, y_test : ndarray of codes, or of numbers in regression; or None
    target_name : name of `y`, or None
    groups, groups_test : ndarray or None
        Groups of the rows of `X` (of fit), and of `X_test`.
    random_state : int, RandomState or None
    """

    parts: FittedModel
    X: Any = None
    y: np.ndarray | None = None
    X_test: Any = None
    y_test: np.ndarray | None = None
    target_name: Any = None
    groups: np.ndarray | None = None
    groups_test: np.ndarray | None = None
    random_state: Any = 0

    @cached_property
    def rows(self) -> ModalityRows:
        if self.X is None:
            raise NotRun("needs X, the rows of fit.")
        return ModalityRows(self.parts, self.X)

    @cached_property
    def test_rows(self) -> ModalityRows:
        if self.X_test is None:
            raise NotRun("needs X_test.")
        return ModalityRows(self.parts, self.X_test)

    @cached_property
    def presence(self) -> tuple[np.ndarray, np.ndarray]:
        """Modalities that each row of fit holds, and its label; from the ledger if X and y are not given."""
        if self.X is not None and self.y is not None:
            return np.array([self.rows.present[name] for name in self.parts.names]), self.y
        if self.parts.has_ledger:
            return self.parts.core._oof["present"], self.parts.core._oof["y"]
        raise NotRun("needs X and y, the rows of fit.")

    @cached_property
    def said(self) -> SubsetPredictions:
        """Predictions for rows that fits did not see: without modalities, with each alone, all but one, and all."""
        subsets = subsets_of_gains(self.parts.names)
        only_test = self.X is None and self.X_test is not None and self.y_test is not None
        if self.parts.has_ledger and not only_test:
            return predict_subsets(
                self.parts.model, subsets, method="ledger", groups=self.groups, resampling=self._resampling(None, None)
            )
        if self.X_test is None or self.y_test is None:
            raise NotRun(
                "needs X_test and y_test: this model keeps no out-of-fold predictions of single modalities, as "
                "decision-level fusion does."
            )
        labels = self.y_test if self.parts.classes is None else self.parts.classes[self.y_test]
        return predict_subsets(self.parts.model, subsets, self.X_test, labels, method="predict")

    @cached_property
    def gains(self) -> Gains:
        """Gains of the modalities and of their fusion, with 95 % intervals."""
        groups = self.groups if self.said.method == "ledger" else self.groups_test
        groups, weight = None if groups is None else groups[self.said.rows], self.said.sample_weight
        if n_units(len(self.said.rows), weight, groups) < 2:
            raise NotRun("needs 2 rows or more (2 groups, if groups are given): with one there is no interval.")
        return gains_of(self.said, self._resampling(groups, weight))

    def _resampling(self, groups: np.ndarray | None, sample_weight: np.ndarray | None) -> Resampling:
        return Resampling(seed=self._seed, groups=groups, sample_weight=sample_weight)

    @cached_property
    def _seed(self) -> int:
        return read_seed(self.random_state)

    @property
    def gain_note(self) -> str:
        """What the figures of gains are, as text for explanations."""
        return f"{self.gains.unit}, positive helps; 95 % intervals; {self.source}"

    @property
    def source(self) -> str:
        """Origin of `said`, as text for explanations."""
        where = "out-of-fold predictions" if self.said.method == "ledger" else "predictions for X_test"
        return f"{where} of {len(self.said.rows)} rows"

    def values(self, subset: Sequence[str], metric: str | None = None) -> np.ndarray:
        """Return the score of each row, predicted with this subset of modalities; greater is better."""
        return row_values(self.said.of(subset), self.said.y, metric or default_metric(self.parts.classify))
