"""Checks of a fitted fusion model and of the tables for its fit and its score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.inspection._checks_data import CheckData, Finding, ModelChecks, NotRun
from ensemblefuse.inspection._checks_leak import check_label_leak
from ensemblefuse.inspection._checks_presence import check_empty_modality, check_missingness
from ensemblefuse.inspection._checks_rows import check_copies_across, check_copies_within
from ensemblefuse.inspection._checks_worth import check_fusion_gain, check_useless_modality
from ensemblefuse.scoring.inputs import read_groups
from ensemblefuse.table import to_frame

__all__ = ["CHECKS", "ModelCheck", "model_checks"]


@dataclass(frozen=True)
class ModelCheck:
    """One check: its function takes `CheckData`; it returns severity, explanation, advice, rows, or raises `NotRun`."""

    code: str
    title: str
    worst: str
    function: Callable[[CheckData], tuple[str, str, str, list]]

    def run(self, data: CheckData) -> Finding:
        """Run the check and return its finding; if something is lacking, the finding is ``"not run"`` and says why."""
        try:
            severity, explanation, advice, rows = self.function(data)
        except NotRun as reason:
            severity, explanation, advice, rows = "not run", str(reason), "", []
        return Finding(self.code, self.title, severity, explanation, advice, rows)


CHECKS = (
    ModelCheck("EF001", "Copies across train and test", "issue", check_copies_across),
    ModelCheck("EF002", "Missingness predicts the label", "issue", check_missingness),
    ModelCheck("EF003", "Useless modality", "tip", check_useless_modality),
    ModelCheck("EF004", "Label leak", "issue", check_label_leak),
    ModelCheck("EF005", "Empty or constant modality", "issue", check_empty_modality),
    ModelCheck("EF006", "Copies in several groups", "issue", check_copies_within),
    ModelCheck("EF007", "Fusion no better than one modality", "tip", check_fusion_gain),
)


def model_checks(
    model: Any,
    X: Any = None,
    y: Any = None,
    *,
    X_test: Any = None,
    y_test: Any = None,
    groups: Any = None,
    groups_test: Any = None,
    random_state: Any = 0,
) -> ModelChecks:
    """Look for causes of a score that is too good, and for useless modalities.

    Parameters
    ----------
    model : fitted model
        A pipeline that ends in a fusion estimator, a fusion estimator, or a search over these.
    X : DataFrame of n_samples rows, optional
        The rows of fit.
    y : array of shape (n_samples,), optional
        If it is a Series with a name, check EF004 looks for this name among the columns.
    X_test, y_test : optional
        Rows that the model was not fitted on.
    groups : array of shape (n_samples,), optional
        The groups that were given to fit.
    groups_test : array of shape (n_samples,), optional
        Groups of the rows of `X_test`; the bootstrap draws rows of one group together.
    random_state : int, RandomState or None
        Seed of permutations and resamples.

    Returns
    -------
    ModelChecks
        One finding per check; a finding ``"not run"`` says what was lacking. No fusion is fitted: checks use small
        trees for single columns, and existing embeddings and predictions for everything else.

        EF001: rows of `X_test` with the same content as a row of `X`, or nearly the same embedding. EF002: the pattern
        of missing modalities predicts the label (permutation test and cross-validation). EF003: a modality with no
        demonstrated gain, neither alone nor on top of the others. EF004: a modality, a column or a few words nearly
        determine the label (skill of 0.99 or more, all others 0.9 or less), or a column has the target's name. EF005: a
        modality that is missing in over 95 % of rows, or constant. EF006: copies within `X`, in several groups or
        without groups. EF007: the fusion is not demonstrably better than its best modality.

        EF003 and EF007 are about `X_test` if only that is given, or if the model keeps no out-of-fold predictions;
        otherwise about the out-of-fold predictions of the rows of fit.

    Raises
    ------
    ValueError
        If lengths differ, or a label is not one of the model's classes.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import DecisionFusionClassifier, model_checks
    >>> from sklearn.linear_model import LogisticRegression
    >>> X = pd.DataFrame({"image__0": [0.0, 1.0] * 20, "text__0": [5.0, 5.0] * 20})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=2).fit(X, [0, 1] * 20)
    >>> checks = model_checks(model, X, [0, 1] * 20)
    >>> checks["EF005"].explanation
    "'text' is the same in all rows that have it."
    >>> checks["EF001"].severity, checks["EF001"].explanation
    ('not run', 'needs X_test.')
    """
    rows = {"X_test": X_test, "y_test": y_test, "groups": groups, "groups_test": groups_test}
    data = check_data(model, X, y, **rows, random_state=random_state)
    findings = [check.run(data) for check in CHECKS]
    return ModelChecks(findings, _caption(findings))


def check_data(
    model, X=None, y=None, *, X_test=None, y_test=None, groups=None, groups_test=None, random_state=0
) -> CheckData:
    """Read the arguments of `model_checks`, and check that they agree."""
    parts = FittedModel(model)
    X, y_codes = _read(parts, X, y, "X", "y")
    X_test, test_codes = _read(parts, X_test, y_test, "X_test", "y_test")
    if groups is not None:
        n_rows = len(X) if X is not None else len(parts.core._oof["y"]) if parts.has_ledger else len(np.asarray(groups))
        groups = read_groups(groups, n_rows)
    if groups_test is not None:
        if X_test is None:
            raise ValueError("groups_test is given without X_test.")
        groups_test = read_groups(groups_test, len(X_test))
    if X is not None and parts.has_ledger and len(X) != len(parts.core._oof["y"]):
        raise ValueError(
            f"X must hold the {len(parts.core._oof['y'])} rows of fit; it has {len(X)}. Give other rows as X_test."
        )
    if y_codes is not None and parts.has_ledger and not np.allclose(y_codes, parts.core._oof["y"]):
        differ = np.flatnonzero(~np.isclose(y_codes, parts.core._oof["y"]))
        raise ValueError(
            f"y differs from the target in fit in {len(differ)} of {len(y_codes)} rows, first at position {differ[0]}; "
            "X and y must be the rows of fit in the same order. Give other rows as X_test and y_test."
        )
    return CheckData(parts, X, y_codes, X_test, test_codes, getattr(y, "name", None), groups, groups_test, random_state)


def _read(parts: FittedModel, X: Any, y: Any, x_name: str, y_name: str) -> tuple[Any, np.ndarray | None]:
    if X is None:
        if y is not None:
            raise ValueError(f"{y_name} is given without {x_name}.")
        return None, None
    X = X if isinstance(X, np.ndarray) else to_frame(X)
    codes = None if y is None else parts.encode_labels(y)
    if codes is not None and len(codes) != len(X):
        raise ValueError(f"{x_name} has {len(X)} rows and {y_name} {len(codes)}.")
    return X, codes


def _caption(findings: list[Finding]) -> str:
    counts = [sum(f.severity == severity for f in findings) for severity in ("issue", "tip", "ok", "not run")]
    return "{} issues, {} tips, {} checks without finding, {} not run".format(*counts)
