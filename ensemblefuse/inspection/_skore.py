"""The checks of `model_checks` as checks that skore runs."""

from __future__ import annotations

import weakref
from typing import Any

from ensemblefuse._optional import import_optional
from ensemblefuse.inspection._checks import CHECKS, ModelCheck, check_data
from ensemblefuse.inspection._findings import CheckData

__all__ = ["skore_checks"]

_SHOWN = 5


def skore_checks() -> list[Any]:
    """The checks of `model_checks`, for a report of skore.

    Returns
    -------
    list of skore.Check
        With the codes EF001 to EF007, for an ``EstimatorReport`` on a fusion pipeline or a fusion estimator. What a
        check lacks is shown under "Not Applicable".

    Raises
    ------
    ImportError
        If skore is not installed.

    Notes
    -----
    skore's reports take fusion pipelines as they are: with skore 0.28 ``report.metrics``, their displays,
    ``report.inspection.permutation_importance`` (by column of the raw table) and skore's own checks run on them. A
    report fits a clone of the model if it gets `X_train` and `y_train`, and only then its checks see the rows of fit.
    skore knows no groups at this place; `model_checks` takes them.

    Importing skore imports skrub, which makes a folder ``skrub_data`` in the user's home unless the environment
    variable ``SKB_DATA_DIRECTORY`` names another, and turns on matplotlib's interactive mode. The example is therefore
    not run with the docstrings; the tests run its lines in a folder of their own::

        from skore import EstimatorReport

        report = EstimatorReport(
            make_fusion_pipeline(modalities), X_train=X, y_train=y, X_test=X_test, y_test=y_test
        )
        report.metrics.summarize()
        report.checks.add(skore_checks())
        report.checks.summarize().frame(section="issue")
    """
    skore = import_optional("skore", extra="skore", needed_by="skore_checks")
    shared = _Shared()
    return [_SkoreCheck(check, shared, skore.CheckNotApplicable) for check in CHECKS]


class _Shared:
    """What the checks of one report share, so that rows are encoded once."""

    def __init__(self) -> None:
        self._report: Any = None
        self._data: CheckData | None = None

    def data(self, report: Any) -> CheckData:
        if self._data is None or self._report is None or self._report() is not report:
            X, y = report.X_train, report.y_train
            X_test, y_test = report.X_test, report.y_test
            self._data = check_data(report.estimator_, X, y, X_test=X_test, y_test=y_test)
            self._report = weakref.ref(report)
        return self._data


class _SkoreCheck:
    """One check in the form of the protocol ``skore.Check``."""

    report_types = ["estimator"]
    docs_url = None
    slow = False

    def __init__(self, check: ModelCheck, shared: _Shared, not_applicable: type[Exception]):
        self._check, self._shared, self._not_applicable = check, shared, not_applicable
        self.code, self.title, self.severity = check.code, check.title, check.worst

    def check_function(self, report: Any) -> str | None:
        """What skore shows; None for nothing found."""
        try:
            data = self._shared.data(report)
        except TypeError as error:  # of a model that is no fusion
            raise self._not_applicable(str(error)) from error
        finding = self._check.run(data)
        if finding.severity == "not run":
            raise self._not_applicable(finding.explanation)
        if finding.severity == "ok":
            return None
        self.severity = finding.severity  # skore reads it after this call; one check knows issues and tips
        rows = f" Rows: {', '.join(map(str, finding.rows[:_SHOWN]))}" if finding.rows else ""
        more = f" and {len(finding.rows) - _SHOWN} more." if len(finding.rows) > _SHOWN else "." if rows else ""
        return f"{finding.explanation} {finding.advice}{rows}{more}"
