"""Each check finds what was planted, is silent on clean data, and says what it lacks."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks, make_puzzle
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import SVC

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FunctionEncoder,
    make_fusion_pipeline,
    model_checks,
)
from ensemblefuse.inspection._checks import check_data
from ensemblefuse.inspection._checks_presence import check_missingness

HEAD = LogisticRegression()
CODES = ["EF001", "EF002", "EF003", "EF004", "EF005", "EF006", "EF007"]


def letters(text):
    return [text.count(letter) for letter in "abcdefghijklmnopqrst"]


def make_table(n=160, random_state=0):
    """Words and numbers that each tell a part of the label, both missing at random."""
    rng = np.random.default_rng(random_state)
    y = np.arange(n) % 2
    rates = np.where(y[:, None] == 1, np.linspace(0.55, 1.45, 20), 1.0)
    titles = [
        " ".join("".join(rng.choice(list("abcdefghijklmnopqrst"), 12, p=r / r.sum())) for _ in "123") for r in rates
    ]
    X = pd.DataFrame({"title": titles, "price": 1.8 * y + rng.normal(size=n), "weight": rng.normal(size=n)})
    X.loc[rng.random(n) < 0.15, "title"] = None
    X.index = [f"r{i}" for i in range(n)]
    return X, pd.Series(y, index=X.index, name="label")


def fit(X, y, **changes):
    modalities = [("text", FunctionEncoder(letters), "title"), ("tabular", "passthrough", ["price", "weight"])]
    for column in [c for c in X if c not in ("title", "price", "weight")]:
        modalities.append((column, FunctionEncoder(letters) if X[column].dtype == object else "passthrough", [column]))
    return make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, **{"cv": 3, **changes})).fit(X, y)


@pytest.fixture(scope="module")
def clean():
    X, y = make_table(n=400)
    train, test = slice(0, 300), slice(300, 400)
    return fit(X[train], y[train]), X[train], y[train], X[test], y[test]


def test_clean_data_has_no_finding(clean):
    model, X, y, X_test, y_test = clean
    checks = model_checks(model, X, y, X_test=X_test, y_test=y_test)
    assert {f.code: f.severity for f in checks.findings} == dict.fromkeys(CODES, "ok")
    assert checks.caption == "0 issues, 0 tips, 7 checks without finding, 0 not run"


@pytest.mark.by_turns
@pytest.mark.parametrize("seed", range(1, 4))
def test_clean_data_of_other_seeds_has_no_issue(seed):
    X, y = make_table(random_state=seed)
    checks = model_checks(fit(X, y), X, y, random_state=seed)
    assert not [f for f in checks.findings if f.severity == "issue"]


def test_copies_across_train_and_test(clean):
    model, X, y, X_test, y_test = clean
    held = X.index[X["title"].notna()][:3]
    X_test, y_test = pd.concat([X_test, X.loc[held].rename("copy of {}".format)]), np.append(y_test, y[held])
    finding = model_checks(model, X, y, X_test=X_test, y_test=y_test)["EF001"]
    assert finding.severity == "issue" and finding.rows == [f"copy of {label}" for label in held]
    assert "3 of 103 rows of X_test" in finding.explanation and "100% of the pairs" in finding.explanation


def test_missingness_that_tells_the_label(clean):
    X, y = make_table()
    X.loc[(y == 1).to_numpy() & (np.arange(160) % 4 == 1), "title"] = None
    model = fit(X, y)
    finding = model_checks(model, X, y)["EF002"]
    assert finding.severity == "issue" and "['text']" in finding.explanation and "p = 0.00" in finding.explanation
    from_ledger = model_checks(model)["EF002"]
    assert from_ledger.explanation == finding.explanation


def test_missingness_in_a_regression():
    X, _ = make_blocks(n=120)
    y = X["image__0"].to_numpy()
    X.loc[y > 1, [c for c in X if c.startswith("text")]] = np.nan
    model = DecisionFusionRegressor(Ridge(), cv=3, joint=False).fit(X, y)
    assert model_checks(model)["EF002"].severity == "issue"
    rng = np.random.default_rng(0)
    model.fit(X, rng.normal(size=120))
    assert model_checks(model)["EF002"].severity == "ok"


def test_missingness_is_found_by_chance_no_more_often_than_stated():
    """Labels that mean nothing, 30 times: the test alone would fire in 1 % of them."""
    X, _ = make_blocks(n=100)
    rng = np.random.default_rng(0)
    X.loc[rng.random(100) < 0.3, [c for c in X if c.startswith("text")]] = np.nan
    found = 0
    for seed in range(30):
        y = np.random.default_rng(seed).integers(0, 2, 100)
        model = FeatureFusionClassifier(HEAD).fit(X, y)
        found += check_missingness(check_data(model, X, y, random_state=seed))[0] == "issue"
    assert found <= 2


def test_a_modality_of_noise_is_of_no_use():
    X, y = make_blocks(n=150)
    X[["noise__0", "noise__1"]] = np.random.default_rng(0).normal(size=(150, 2))
    finding = model_checks(DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y))["EF003"]
    assert finding.severity == "tip" and finding.explanation.startswith("No evidence that ['noise'] help.")


def test_a_modality_that_another_repeats_is_not_called_useless():
    """On top of its copy it is worth nothing, alone it is."""
    X, y = make_blocks(n=150, widths={"image": 6})
    X[[c.replace("image", "again") for c in X]] = X.to_numpy()
    assert model_checks(DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y))["EF003"].severity == "ok"


@pytest.mark.by_turns
@pytest.mark.parametrize("kind", ["number", "category", "word", "name"])
def test_a_column_that_gives_the_label_away(kind):
    X, y = make_table()
    planted = {
        "number": y.to_numpy() * 2.5,
        "category": np.where(y == 1, "yes", "no"),
        "word": [f"{word} final report" for word in np.where(y == 1, "accepted", "refused")],
        "name": np.random.default_rng(0).normal(size=160),
    }[kind]
    name = "label" if kind == "name" else "extra"
    X[name] = pd.Series(planted, index=X.index, dtype=object if isinstance(planted[0], str) else float)
    finding = model_checks(fit(X, y), X, y)["EF004"]
    assert finding.severity == "issue"
    assert f"column {name!r}" in finding.explanation and "'title'" not in finding.explanation.split(";")[0]


def test_a_modality_that_gives_the_label_away_by_the_ledger():
    X, y = make_blocks(n=150, noise=2.0)
    X["leak__0"] = np.unique(y, return_inverse=True)[1] * 5.0
    X["leak__1"] = X["leak__0"] ** 2
    finding = model_checks(DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y))["EF004"]
    assert finding.severity == "issue" and "modality 'leak' 1.000" in finding.explanation


def test_an_easy_task_is_a_tip_and_no_issue():
    y = np.arange(80) % 2
    X = pd.DataFrame({"image__0": 5.0 * y, "text__0": 5.0 * y})
    finding = model_checks(DecisionFusionClassifier(HEAD, cv=3).fit(X, y), X, y)["EF004"]
    assert finding.severity == "tip" and "alone predicts the label nearly perfectly" in finding.explanation


def test_empty_and_constant_modalities():
    X, y = make_blocks(n=150)
    X["flat__0"] = 3.0
    X.loc[4:, [c for c in X if c.startswith("audio")]] = np.nan
    model = FeatureFusionClassifier(HEAD).fit(X, y)
    finding = model_checks(model, X, y)["EF005"]
    assert finding.severity == "issue"
    assert "'audio' is present in 2.7% of 150 rows; 'flat' is the same in all rows" in finding.explanation


def test_copies_without_groups_and_in_several_groups():
    X, y = make_table()
    X["title"] = X["title"].fillna("tea at noon")
    X.iloc[1, 0] = X.iloc[0, 0]
    X.loc[X["title"] == "tea at noon", "title"] = None
    model, groups = fit(X, y), np.arange(160)
    bare = model_checks(model, X, y)["EF006"]
    assert bare.severity == "issue" and bare.rows == ["r0", "r1"] and "no groups were given" in bare.explanation
    split = model_checks(model, X, y, groups=groups)["EF006"]
    assert split.severity == "issue" and "in another group" in split.explanation
    groups[1] = groups[0]
    assert model_checks(model, X, y, groups=groups)["EF006"].severity == "ok"


def test_a_fusion_that_gains_nothing():
    X, y = make_blocks(n=150, widths={"image": 8})
    X["noise__0"] = np.random.default_rng(0).normal(size=150)
    finding = model_checks(DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y))["EF007"]
    assert finding.severity == "tip" and "over 'image'" in finding.explanation


def test_a_check_that_lacks_something_says_what():
    X, y = make_blocks(n=100)
    bare = model_checks(FeatureFusionClassifier(HEAD).fit(X, y))
    assert {f.severity for f in bare.findings} == {"not run"}
    reasons = {f.code: f.explanation for f in bare.findings}
    assert reasons["EF001"] == "needs X, the rows of fit."
    assert reasons["EF002"] == "needs X and y, the rows of fit."
    assert reasons["EF003"].startswith("needs X_test and y_test: this model keeps no out-of-fold predictions")
    with_test = model_checks(FeatureFusionClassifier(HEAD, missing="dropout").fit(X, y), X_test=X, y_test=y)
    assert with_test["EF003"].severity != "not run" and "predictions for X_test" in with_test["EF003"].explanation
    one = model_checks(DecisionFusionClassifier(HEAD, cv=3).fit(X[["image__0", "image__1"]], y))
    assert one["EF007"].explanation == "the model has one modality."


def test_the_model_is_asked_and_not_fitted(clean, monkeypatch):
    model, X, y, X_test, y_test = clean
    monkeypatch.setattr(LogisticRegression, "fit", lambda *_, **__: pytest.fail("a head was fitted"))
    assert not model_checks(model, X, y, X_test=X_test, y_test=y_test).table.empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": "short"}, "X must hold the 300 rows of fit; it has 10"),
        ({"groups": [1, 2]}, "groups has 2 values for the 300 rows"),
        ({"X_test": "short", "y_test": [0, 1]}, "X_test has 10 rows and y_test 2"),
        ({"y_test": [0, 1]}, "y_test is given without X_test"),
    ],
)
def test_tables_that_do_not_fit_are_refused(clean, change, message):
    model, X = clean[:2]
    with pytest.raises(ValueError, match=message):
        model_checks(model, **{key: X[:10] if isinstance(value, str) else value for key, value in change.items()})


def test_findings_as_text_and_page():
    X, y = make_blocks(n=100)
    checks = model_checks(DecisionFusionClassifier(HEAD, cv=3).fit(X.rename(columns=lambda c: f"<b>{c}"), y))
    assert "[not run] EF001 Copies across train and test: needs X, the rows of fit." in str(checks)
    assert "<b>" not in checks._repr_html_() and "&lt;b&gt;image" in checks._repr_html_()
    with pytest.raises(KeyError, match="no check 'EF999'"):
        checks["EF999"]


def test_no_modality_is_called_useless_that_the_joint_member_may_need():
    X, y = make_puzzle()
    heads = {**dict.fromkeys(["image", "text", "audio"], HEAD), "joint": SVC(C=10)}
    model = DecisionFusionClassifier(heads, cv=3).fit(X, y)
    finding = model_checks(model)["EF003"]
    assert finding.severity == "not run" and "the joint member" in finding.explanation
    assert "modality_ablation(method='refit')" in finding.explanation
    assert model_checks(model)["EF007"].severity == "ok"  # the model as it is, joint member included


def test_labels_that_are_not_those_of_fit_are_refused():
    X, y = make_blocks(n=60)
    model = DecisionFusionClassifier(HEAD, cv=2, joint=False).fit(X, y)
    with pytest.raises(ValueError, match=r"y differs from the target in fit in .* rows, first at position"):
        model_checks(model, X, y[::-1])


def test_groups_that_are_the_classes_leave_what_needs_splits_undone(clean):
    model, X, y, _, _ = clean
    checks = {f.code: f for f in model_checks(model, X, y, groups=y.to_numpy()).findings}
    (undone,) = (f for f in checks.values() if "groups coincide with classes" in f.explanation)
    assert undone.code == "EF002" and undone.severity not in ("ok", "issue")
    one = np.where(y == 1, -1, np.arange(len(y)))  # the rows of one class are one group
    assert {f.code for f in model_checks(model, X, y, groups=one).findings} == set(CODES)
