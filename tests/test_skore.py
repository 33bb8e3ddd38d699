"""skore runs our checks, and its reports take fusion pipelines."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from ensemblefuse import DecisionFusionClassifier, FunctionEncoder, make_fusion_pipeline, model_checks, skore_checks

HEAD = LogisticRegression()


@pytest.fixture(scope="module")
def skore(tmp_path_factory):
    """skore, imported so that nothing is written into the user's folders and no window is opened."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SKB_DATA_DIRECTORY", str(tmp_path_factory.mktemp("skrub")))
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="skore draws with matplotlib")
    pyplot.switch_backend("Agg")
    module = pytest.importorskip("skore", reason="the extra skore is not installed")
    pyplot.ioff()
    yield module
    patch.undo()


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(0)
    y = pd.Series(np.arange(150) % 2, name="label")
    titles = ["".join(rng.choice(list("abcd"), 30, p=[0.4 - 0.1 * label, 0.2, 0.2, 0.2 + 0.1 * label])) for label in y]
    X = pd.DataFrame({"title": titles, "price": 1.5 * y + rng.normal(size=150)})
    X.loc[100:102, "title"] = X["title"].iloc[:3].to_numpy()
    return X[:100], y[:100], X[100:], y[100:]


@pytest.fixture(scope="module")
def report(skore, tables):
    X, y, X_test, y_test = tables
    count = FunctionEncoder(lambda title: [title.count(letter) for letter in "abcd"])
    modalities = [("text", count, "title"), ("tabular", "passthrough", ["price"])]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, cv=3))
    return skore.EstimatorReport(model, X_train=X, y_train=y, X_test=X_test, y_test=y_test)


def test_skore_runs_our_checks_and_says_what_they_say(skore, report, tables):
    X, y, X_test, y_test = tables
    report.checks.add(skore_checks())
    frame = report.checks.summarize(fast_mode=True).frame().set_index("code")
    ours = model_checks(report.estimator_, X, y, X_test=X_test, y_test=y_test)
    sections = {"ok": "passed", "not run": "not_applicable"}
    for finding in ours.findings:
        assert frame.loc[finding.code, "section"] == sections.get(finding.severity, finding.severity)
    assert frame.loc["EF001", "section"] == "issue"
    assert frame.loc["EF001", "explanation"].startswith(ours["EF001"].explanation)
    assert frame.loc["EF001", "explanation"].endswith("Rows: 100, 101, 102.")


def test_what_a_report_lacks_is_not_applicable(skore, report, tables):
    X, y, X_test, y_test = tables
    fitted = skore.EstimatorReport(report.estimator_, X_test=X_test, y_test=y_test)
    fitted.checks.add(skore_checks())
    frame = fitted.checks.summarize(fast_mode=True).frame().set_index("code")
    assert frame.loc["EF001", ["section", "explanation"]].tolist() == ["not_applicable", "needs X, the rows of fit."]
    other = skore.EstimatorReport(HEAD, X_train=X[["price"]], y_train=y, X_test=X_test[["price"]], y_test=y_test)
    other.checks.add(skore_checks())
    frame = other.checks.summarize(fast_mode=True).frame().set_index("code")
    assert "must be a fusion estimator" in frame.loc["EF003", "explanation"]


def test_an_easy_task_is_a_tip_in_skore_too(skore):
    y = np.arange(80) % 2
    X = pd.DataFrame({"image__0": 5.0 * y, "text__0": 5.0 * y})
    easy = skore.EstimatorReport(
        DecisionFusionClassifier(HEAD, cv=3), X_train=X[:60], y_train=y[:60], X_test=X[60:], y_test=y[60:]
    )
    easy.checks.add(skore_checks())
    assert easy.checks.summarize(fast_mode=True).frame().set_index("code").loc["EF004", "section"] == "tip"


def test_the_report_itself_takes_a_fusion_pipeline(report, tables):
    _, _, X_test, y_test = tables
    accuracy = (report.estimator_.predict(X_test) == y_test).mean()
    assert report.metrics.accuracy() == pytest.approx(accuracy)
    assert report.metrics.log_loss() > 0
    report.metrics.roc().plot()
    report.metrics.confusion_matrix().plot()
    importance = report.inspection.permutation_importance(n_repeats=2).frame()
    assert set(importance["feature"]) == {"title", "price"}
