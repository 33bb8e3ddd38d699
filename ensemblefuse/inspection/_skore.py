"""Checks of `model_checks` in the form that skore runs."""

from __future__ import annotations

import weakref
from typing import Any

from ensemblefuse._optional import import_optional
from ensemblefuse.inspection._checks import CHECKS, ModelCheck, check_data
from ensemblefuse.inspection._checks_data import CheckData

__all__ = ["skore_checks"]

_SHOWN = 5


def skore_checks() -> list[Any]:
    """Return the checks of `model_checks` for a report of skore.

    Returns
    -------
    list of skore.Check
        With the codes EF001 to EF007, for an ``EstimatorReport`` on a fusion pipeline or a fusion estimator. A check
        that cannot run is shown under "Not Applicable", with the reason.

    Raises
    ------
    ImportError
        If skore is not installed.

    Notes
    -----
    skore's reports work with fusion pipelines: in skore 0.28 ``report.metrics``, their displays,
    ``report.inspection.permutation_importance`` (by column of the raw table) and skore's own checks run on them. A
    report fits a clone of the model if it gets `X_train` and `y_train`; only then do its checks see the rows of fit.
    skore passes no groups to its checks; `model_checks` takes them.

    Importing skore imports skrub and turns on matplotlib's interactive mode. skrub makes a folder ``skrub_data`` in the
    user's home, unless the environment variable ``SKB_DATA_DIRECTORY`` names another. Therefore the example is not run
    as a doctest; the tests run its lines in a separate folder::

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
    """Data that the checks of one report share, so that rows are encoded once."""

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
        """Run the check, and return the text that skore shows; None if nothing was found."""
        try:
            data = self._shared.data(report)
        except TypeError as error:  # the model is not a fusion
            raise self._not_applicable(str(error)) from error
        finding = self._check.run(data)
        if finding.severity == "not run":
            raise self._not_applicable(finding.explanation)
        if finding.severity == "ok":
            return None
        self.severity = finding.severity  # skore reads it after this call; the same check may give an issue or a tip
        rows = f" Rows: {', '.join(map(str, finding.rows[:_SHOWN]))}" if finding.rows else ""
        more = f" and {len(finding.rows) - _SHOWN} more." if len(finding.rows) > _SHOWN else "." if rows else ""
        return f"{finding.explanation} {finding.advice}{rows}{more}"
