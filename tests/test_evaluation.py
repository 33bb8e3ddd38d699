"""Models and fusion strategies side by side, and tests of their differences."""

import sys

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, RepeatedStratifiedKFold, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from test_encoder_base import CountingEncoder

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    FusionComparisonDisplay,
    bayesian_ttest,
    compare_fusions,
    compare_models,
    corrected_ttest,
    make_fusion_pipeline,
)

# ---------------------------------------------------------------------- paired tests

D = [0.02, 0.01, 0.03, 0.0, 0.02, 0.01, 0.015, 0.025, 0.005, 0.02]


def test_the_corrected_t_and_the_plain_one_that_it_corrects():
    result = corrected_ttest(D, n_train=90, n_test=10)
    assert_allclose(result, (3.6412, 0.00539, 9), atol=5e-5)
    assert_allclose(corrected_ttest(D, n_train=0.9, n_test=0.1), result)
    assert_allclose(corrected_ttest(np.negative(D), 90, 10), (-result.statistic, result.pvalue, 9))
    # Without shared training rows the term n_test / n_train is gone.
    plain = stats.ttest_1samp(D, 0)
    assert_allclose(plain.statistic, 5.2906, atol=5e-5)
    assert_allclose(corrected_ttest(D, 1e12, 1)[:2], (plain.statistic, plain.pvalue))


def test_the_bayesian_t_and_its_region_of_equivalence():
    assert_allclose(bayesian_ttest(D, 90, 10).p_better, 0.99730, atol=5e-6)
    # Without a region it is the one-sided p-value turned round.
    assert_allclose(bayesian_ttest(D, 90, 10).p_worse, corrected_ttest(D, 90, 10).pvalue / 2)
    for rope in (0.0, 0.005, 0.05):
        better, within, worse = bayesian_ttest(D, 90, 10, rope=rope)
        assert_allclose(better + within + worse, 1)
        assert_allclose(bayesian_ttest(np.negative(D), 90, 10, rope=rope), (worse, within, better), atol=1e-12)
    draws = stats.t.rvs(9, size=100_000, random_state=0)
    draws = np.mean(D) + draws * np.sqrt((1 / 10 + 1 / 9) * np.var(D, ddof=1))
    assert_allclose(bayesian_ttest(D, 90, 10, rope=0.01).p_rope, (np.abs(draws) < 0.01).mean(), atol=0.005)


def test_differences_that_are_all_equal_are_certain():
    assert corrected_ttest([0.0] * 5, 80, 20) == (0.0, 1.0, 4)
    assert corrected_ttest([0.1] * 5, 80, 20) == (np.inf, 0.0, 4)
    assert corrected_ttest([0.3 - 0.4, -0.1, 0.1 - 0.2], 80, 20) == (-np.inf, 0.0, 2)
    assert bayesian_ttest([0.0] * 5, 80, 20) == (0.0, 1.0, 0.0)
    assert bayesian_ttest([-0.1] * 5, 80, 20, rope=0.05) == (0.0, 0.0, 1.0)
    assert bayesian_ttest([-0.1] * 5, 80, 20, rope=0.2) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([0.1], 9, 1), "at least 2 numbers"),
        (([[0.1, 0.2]], 9, 1), r"shape \(1, 2\)"),
        (([0.1, np.nan, 0.2], 9, 1), r"NaN or infinity in the folds \[1\]"),
        ((D, 0, 1), "rows above 0; got 0 and 1"),
        ((D, 9, np.nan), "rows above 0"),
    ],
)
def test_differences_that_cannot_be_tested_are_refused(arguments, message):
    for test in (corrected_ttest, bayesian_ttest):
        with pytest.raises(ValueError, match=message):
            test(*arguments)
    with pytest.raises(ValueError, match=r"rope must be a number of at least 0; got -0\.1"):
        bayesian_ttest(D, 9, 1, rope=-0.1)


def test_the_corrected_t_keeps_its_level_where_the_plain_one_does_not():
    """Two useless models that differ in their luck: 20 folds of 100 rows, over and over."""
    rng = np.random.default_rng(0)
    plain, corrected = [], []
    for _ in range(300):
        rows = rng.normal(size=100)  # by how much the first model happens to suit each row
        d = [rows[rng.permutation(100)[:20]].mean() for _ in range(30)]
        plain.append(stats.ttest_1samp(d, 0).pvalue < 0.05)
        corrected.append(corrected_ttest(d, 80, 20).pvalue < 0.05)
    assert np.mean(plain) > 0.3
    assert np.mean(corrected) < 0.08


# ---------------------------------------------------------------------- fusion strategies

# Default estimators are tuned, which takes longer; a candidate's estimator is that of the single modalities too.
FAST = LogisticRegression()
EARLY, LATE = FeatureFusionClassifier(FAST), DecisionFusionClassifier(FAST, joint=False, cv=2)


def modalities(X):
    blocks = dict.fromkeys(column.split("__")[0] for column in X)
    return [(name, "passthrough", [c for c in X if c.startswith(f"{name}__")]) for name in blocks]


@pytest.fixture(scope="module")
def comparison():
    X, y = make_blocks(n=90, noise=2.0)
    cv = RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0)
    return compare_fusions(modalities(X), X, y, candidates={"early": EARLY, "late": LATE}, cv=cv, inner_cv=2, rope=0.01)


def test_a_row_for_each_strategy_and_each_modality_alone(comparison):
    table = comparison.table
    alone = ["image alone", "text alone", "audio alone"]
    assert sorted(table.index) == sorted([*alone, "early", "late"])
    assert comparison.single == alone and comparison.n_samples == 90
    assert (comparison.n_train, comparison.n_test) == (60, 30)
    assert table["rank"].tolist() == [1, 2, 3, 4, 5] and table["score"].is_monotonic_decreasing
    assert comparison.reference == table.index[0] and table["difference"].iloc[0] == 0
    assert table[["p_value", "p_better", "p_rope"]].isna().any(axis=1).tolist() == [True] + [False] * 4
    assert_allclose(table["score"], -table["log_loss"])


def test_the_tests_are_those_of_the_scores_of_the_folds(comparison):
    scores = comparison.fold_scores
    assert scores.shape == (6, 5)
    for name in comparison.table.index[1:]:
        row, d = comparison.table.loc[name], scores[name] - scores[comparison.reference]
        assert_allclose(row["score"], scores[name].mean())
        assert_allclose(row["score_sd"], scores[name].std())
        assert_allclose(row["difference"], d.mean())
        assert_allclose(row["p_value"], corrected_ttest(d, 60, 30).pvalue)
        assert_allclose(row[["p_better", "p_rope"]].astype(float), bayesian_ttest(d, 60, 30, rope=0.01)[:2])


def test_the_scores_are_those_of_the_whole_pipeline_in_scikit_learns_cross_validation():
    X, y = make_blocks(n=90, noise=2.0)
    triples = [(name, make_pipeline(StandardScaler()), columns) for name, _, columns in modalities(X)]
    fusion = DecisionFusionClassifier(FAST, cv=3)
    result = compare_fusions(triples, X, y, candidates={"mine": fusion}, cv=StratifiedKFold(3), inner_cv=3)
    expected = cross_validate(
        make_fusion_pipeline(triples, fusion), X, y, cv=3, scoring=["neg_log_loss", "accuracy"], error_score="raise"
    )
    assert_allclose(result.fold_scores["mine"], expected["test_neg_log_loss"])
    assert_allclose(result.table.loc["mine", "accuracy"], expected["test_accuracy"].mean())
    alone = cross_validate(
        make_fusion_pipeline(triples[:1], DecisionFusionClassifier(FAST, cv=3)), X, y, cv=3, scoring="neg_log_loss"
    )
    assert_allclose(result.fold_scores["image alone"], alone["test_score"])


def test_any_scorer_of_scikit_learn_and_a_function():
    X, y = make_blocks(n=80, n_classes=2, noise=2.0)
    mean_auc = lambda model, X, y: roc_auc_score(y, model.predict_proba(X)[:, 1])
    results = [
        compare_fusions(modalities(X), X, y, candidates={"late": LATE}, cv=2, inner_cv=2, scoring=scoring)
        for scoring in ("roc_auc", mean_auc)
    ]
    assert_allclose(results[0].fold_scores, results[1].fold_scores)
    assert 0.5 < results[0].table.loc["late", "score"] <= 1


def test_regression():
    X, y = make_blocks(n=60)
    y = np.unique(y, return_inverse=True)[1] * 10.0
    default = compare_fusions(modalities(X), X, y, cv=2, inner_cv=2, classify=False)
    assert {"feature level", "decision level", "hybrid"} < set(default.table.index)
    assert_allclose(default.table["score"], -default.table["rmse"])
    given = {"early": FeatureFusionRegressor(Ridge()), "late": DecisionFusionRegressor(Ridge())}
    result = compare_fusions(modalities(X), X, y, candidates=given, cv=2, inner_cv=2, scoring="r2")
    assert_allclose(result.table["score"], result.table["r2"])
    assert result.table["score"].iloc[0] > 0.5


def test_a_baseline_named_before_and_a_class_that_a_fold_lacks():
    X, y = make_blocks(n=60)
    y = np.r_[["rare"] * 2, y[2:]]
    splits = [(np.arange(2, 60), np.arange(20)), (np.arange(30), np.arange(30, 60))]
    result = compare_fusions(modalities(X), X, y, candidates={"late": LATE}, cv=splits, inner_cv=2)
    assert np.isfinite(result.fold_scores).all(axis=None)
    named = compare_fusions(modalities(X), X, y, candidates={"late": LATE}, cv=2, inner_cv=2, baseline="text alone")
    assert named.reference == "text alone" and named.table.loc["text alone", "difference"] == 0
    assert np.isnan(named.table.loc["text alone", "p_value"])


class GroupsSpy(DecisionFusionClassifier):
    seen: list = []

    def fit(self, X, y, sample_weight=None, groups=None):
        self.seen.append(groups)
        return super().fit(X, y, sample_weight, groups)


def test_groups_reach_the_inner_folds_and_every_cell_is_encoded_once():
    n = 40
    X = pd.DataFrame({"title": [f"{'x' * (i % 5)} {i}" for i in range(n)], "price": np.arange(n) % 2 + 0.1})
    groups = np.arange(n) // 4
    CountingEncoder.seen, GroupsSpy.seen = [], []
    triples = [("text", CountingEncoder(), "title"), ("tabular", "passthrough", ["price"])]
    candidates = {"spy": GroupsSpy(FAST, cv=2), "early": EARLY}
    compare_fusions(triples, X, np.arange(n) % 2, candidates=candidates, cv=GroupKFold(2), groups=groups)
    assert [len(found) for found in GroupsSpy.seen] == [16, 16, 16, 16, 16, 20] * 2  # the inner folds, and all rows
    assert sorted(CountingEncoder.seen) == sorted(X["title"])


def test_a_modality_of_raw_cells_alone_takes_the_estimator_that_a_candidate_names():
    X, y = make_blocks(n=60, widths={"image": 3}, n_classes=2)
    X["title"] = np.where(y == "class 0", "red", "blue")
    triples = [*modalities(X[["image__0", "image__1", "image__2"]]), ("title", "passthrough", "title")]
    title = make_pipeline(TfidfVectorizer(), FAST)
    result = compare_fusions(
        triples, X, y, candidates={"late": DecisionFusionClassifier({"title": title, "image": FAST})}, cv=2
    )
    assert result.table.loc["title alone", "accuracy"] == 1


def test_a_strategy_without_probabilities_is_ranked_by_other_scores_alone():
    X, y = make_blocks(n=60)
    candidates = {"machine": FeatureFusionClassifier(LinearSVC()), "late": LATE}
    table = compare_fusions(modalities(X), X, y, candidates=candidates, cv=2, inner_cv=2, scoring="accuracy").table
    assert np.isnan(table.loc["machine", "log_loss"])
    assert_allclose(table["score"], table["accuracy"])
    with pytest.raises(ValueError, match="needs probabilities, which this strategy lacks") as caught:
        compare_fusions(modalities(X), X, y, candidates=candidates, cv=2)
    assert caught.value.__notes__ == ["while scoring 'machine'"]


@pytest.mark.slow
def test_jobs_change_nothing():
    X, y = make_blocks(n=60)
    one, two = (
        compare_fusions(modalities(X), X, y, candidates={"late": LATE}, cv=2, n_jobs=n_jobs) for n_jobs in (1, 2)
    )
    pd.testing.assert_frame_equal(one.fold_scores, two.fold_scores)


def test_the_result_reads_as_text_and_as_html(comparison):
    lines = str(comparison).splitlines()
    assert lines[0] == f"neg_log_loss over 6 folds, 90 rows, tested against {comparison.reference!r}"
    assert repr(comparison) == str(comparison) and len(lines) == 7
    html = comparison._repr_html_()
    assert "<table" in html and "late" in html and "tested against" in html


def test_the_picture_shows_the_means_and_their_intervals(comparison):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is an optional package")
    figure, ax = pyplot.subplots()
    display = comparison.plot(ax=ax)
    assert isinstance(display, FusionComparisonDisplay)
    assert display.ax_ is ax and display.figure_ is figure
    assert ax.get_title() == "neg_log_loss over 6 folds, 90 rows"
    assert [label.get_text() for label in ax.get_yticklabels()] == comparison.table.index.tolist()
    shown = np.sort(np.concatenate([bars.lines[0].get_xdata() for bars in display.errorbars_]))
    assert_allclose(shown, np.sort(comparison.table["score"]))
    low, high = comparison.intervals().loc["late"]
    d = comparison.fold_scores["late"]
    # The interval ends where the corrected test against it stops to be significant.
    assert_allclose(corrected_ttest(d - low, 60, 30).pvalue, 0.05)
    assert_allclose(corrected_ttest(d - high, 60, 30).pvalue, 0.05)
    assert FusionComparisonDisplay(comparison).plot().figure_ is not figure
    pyplot.close("all")


def test_a_picture_without_matplotlib_says_what_to_install(comparison, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    with pytest.raises(ImportError, match=r"FusionComparisonDisplay needs matplotlib, .* pip install matplotlib"):
        comparison.plot()


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"candidates": [DecisionFusionClassifier()]}, TypeError, "candidates must be a dict"),
        ({"candidates": {}}, ValueError, "candidates is an empty dict"),
        ({"candidates": {"text alone": FeatureFusionClassifier()}}, ValueError, r"names \['text alone'\]"),
        ({"baseline": "late"}, ValueError, r"baseline must name one of .*'hybrid'\]; got 'late'"),
        ({"cv": [(np.arange(30), np.arange(30, 60))]}, ValueError, "at least 2"),
        ({"rope": -1.0}, ValueError, "rope must be"),
    ],
)
def test_wrong_arguments_of_compare_fusions_are_told_plainly(arguments, error, message):
    X, y = make_blocks(n=60)
    with pytest.raises(error, match=message):
        compare_fusions(modalities(X), X, y, **{"cv": 2, **arguments})


# ---------------------------------------------------------------------- models side by side


CLASSIFIER, REGRESSOR = EARLY, FeatureFusionRegressor(Ridge())


@pytest.mark.parametrize(
    "models, error, message",
    [
        ({}, ValueError, "models is an empty dict; name at least one estimator"),
        ([CLASSIFIER], TypeError, "models must be a dict of names and estimators, .* got list"),
        (CLASSIFIER, TypeError, "models must be a dict .* got FeatureFusionClassifier"),
        ({"a": KMeans()}, TypeError, r"models\['a'\] must be a classifier or a regressor; got KMeans\(\)"),
        ({"a": "hybrid"}, TypeError, r"models\['a'\] must be a classifier or a regressor; got 'hybrid'"),
        ({"a": CLASSIFIER, "b": REGRESSOR}, ValueError, "'a' is a classifier and 'b' a regressor"),
    ],
)
def test_models_that_cannot_be_compared_are_refused(models, error, message):
    X, y = make_blocks(n=30)
    with pytest.raises(error, match=message):
        compare_models(models, X, y)


@pytest.mark.parametrize(
    "model, y, message",
    [
        (CLASSIFIER, None, "y is None; pass one label per row"),
        (REGRESSOR, None, "y is None; pass one number per row"),
        (CLASSIFIER, np.linspace(0, 1, 30), "classifiers, but y holds continuous numbers .*; use regressors"),
        (REGRESSOR, ["cat"] * 30, "must hold numbers for a regressor; it holds 'cat' in 30 of 30 rows"),
        (CLASSIFIER, ["cat"] * 30, "only one class, 'cat'"),
        (
            CLASSIFIER,
            ["cat", 1, 2] * 10,
            "mixes numbers and texts: texts such as 'cat' in 10 of 30 rows",
        ),
        (CLASSIFIER, ["cat", None] * 15, r"y is missing in 15 of 30 rows \(positions \[1, 3"),
        (REGRESSOR, [1.0, np.nan] * 15, "y is missing in 15 of 30 rows"),
        (REGRESSOR, [1.0, np.inf] * 15, "y is infinite in 15 of 30 rows"),
        (CLASSIFIER, ["cat", "dog"], "y has 2 values for the 30 rows of X"),
        (REGRESSOR, np.ones((30, 2)), r"one value per row; got shape \(30, 2\)"),
    ],
)
def test_a_target_that_does_not_fit_the_models_is_refused_in_one_sentence(model, y, message):
    X, _ = make_blocks(n=30)
    for compare in (
        lambda: compare_models({"model": model}, X, y, cv=2),
        lambda: compare_fusions(modalities(X), X, y, candidates={"model": model}, cv=2),
    ):
        with pytest.raises(ValueError, match=message):
            compare()


def test_targets_of_any_kind_that_fit_are_taken():
    X, y = make_blocks(n=30, n_classes=2)
    codes = (y == "class 1").astype(int)
    series = pd.Series(y, dtype="category")
    targets = [y, y.tolist(), series, codes, codes > 0, codes[:, None], codes.astype(object), codes.tolist()]
    tables = [compare_models({"model": CLASSIFIER}, X, target, cv=2)["accuracy"].item() for target in targets]
    assert len(set(tables)) == 1
    assert compare_models({"model": REGRESSOR}, X, codes > 0, cv=2).columns[0] == "r2"
