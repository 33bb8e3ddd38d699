"""The choice of a strategy: one ledger for all candidates, honest scores, and what a user gets back."""

import time

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier, is_regressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, RepeatedStratifiedKFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from ensemblefuse import (
    CommonSpaceProjector,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FusionSearchCV,
    KernelFusionClassifier,
    LogPool,
    MeanPool,
    StackingPool,
    load_model,
    save_model,
)

LR = LogisticRegression(max_iter=500)
FAST = {
    "late": DecisionFusionClassifier(LR, joint=False),
    "mean": DecisionFusionClassifier(LR, combiner=MeanPool(), joint=False),
    "early": FeatureFusionClassifier(LR),
    "hybrid": DecisionFusionClassifier(LR),
}


class CountingClassifier(ClassifierMixin, BaseEstimator):
    """Counts its fits, and takes a while for each if asked."""

    fits = 0

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def fit(self, X, y):
        CountingClassifier.fits += 1
        time.sleep(self.seconds)
        self.classes_ = np.unique(y)
        self.model_ = LogisticRegression().fit(X, y)
        return self

    def predict_proba(self, X):
        return self.model_.predict_proba(X)


class GroupsSpy(DecisionFusionClassifier):
    """A strategy that is cross-validated as a whole; counts rows whose partner in the group has another one."""

    torn: list = []

    def fit(self, X, y, sample_weight=None, groups=None):
        rows = X.index.to_numpy()
        GroupsSpy.torn.append(int((groups != rows // 2).sum()))
        return super().fit(X, y, sample_weight=sample_weight, groups=groups)


@pytest.fixture(scope="module")
def blocks():
    return make_blocks(n=150, random_state=0)


def test_every_distinct_member_is_fitted_once_in_each_fold_whatever_the_number_of_candidates(blocks):
    X, y = blocks
    heads = CountingClassifier()
    pools = {f"late {i}": pool for i, pool in enumerate([None, MeanPool(), StackingPool(), LogPool("equal")])}
    candidates = {name: DecisionFusionClassifier(heads, combiner=pool, joint=False) for name, pool in pools.items()}
    candidates["hybrid"] = DecisionFusionClassifier(heads)
    candidates["early"] = FeatureFusionClassifier(heads)
    CountingClassifier.fits = 0
    search = FusionSearchCV(candidates, cv=4, refit="all").fit(X, y)
    n_blocks = len(search.blocks_)
    # Complete rows: the joint member is what feature-level fusion is. Four folds and the final fit, for each once.
    assert CountingClassifier.fits == (n_blocks + 1) * (4 + 1)
    assert len(search.results_) == n_blocks + 6


def test_the_search_gives_what_each_candidate_gives_alone(blocks):
    X, y = blocks
    splits = list(StratifiedKFold(4).split(X, y))
    search = FusionSearchCV(FAST, cv=splits, refit="all").fit(X, y)
    for name, candidate in FAST.items():
        alone = clone(candidate).set_params(cv=splits).fit(X, y)
        assert_allclose(search.estimators_[name].predict_proba(X), alone.predict_proba(X), atol=1e-6, err_msg=name)
        if hasattr(alone, "oof_proba_"):
            scores = [-log_loss(y[test], alone.oof_proba_[test], labels=alone.classes_) for _, test in splits]
            assert_allclose(search.fold_scores_[name], scores, atol=1e-5)


def test_the_score_of_an_unshared_candidate_is_that_of_cross_validation(blocks):
    X, y = blocks
    splits = list(StratifiedKFold(3).split(X, y))
    whole = make_pipeline(CommonSpaceProjector(n_components=2, method="pca"), LR)
    search = FusionSearchCV({"common space": whole}, cv=splits).fit(X, y)
    assert_allclose(
        search.fold_scores_["common space"], cross_val_score(whole, X, y, cv=splits, scoring="neg_log_loss")
    )


def test_each_block_alone_has_its_row_with_the_estimator_that_the_candidates_give_it(blocks):
    X, y = blocks
    tree = DecisionTreeClassifier(max_depth=2)
    search = FusionSearchCV({"late": DecisionFusionClassifier({"image": tree}, joint=False)}, refit="all").fit(X, y)
    assert {f"{name} alone" for name in search.blocks_} < set(search.results_.index)
    assert isinstance(search.estimators_["image alone"].estimators_["image"], DecisionTreeClassifier)


def test_results_are_sorted_and_the_best_is_what_predicts(blocks):
    X, y = blocks
    search = FusionSearchCV(FAST, cv=3).fit(X, y)
    table = search.results_
    assert table["mean_score"].is_monotonic_decreasing and table["rank"].iloc[0] == 1
    assert table.index[0] == search.best_strategy_
    assert_allclose(search.predict_proba(X), search.best_estimator_.predict_proba(X))
    assert list(search.estimators_) == [search.best_strategy_]
    assert_allclose(table.loc["early", "mean_score"], search.fold_scores_["early"].mean())


def test_the_one_standard_error_rule_takes_the_first_candidate_that_is_as_good(blocks):
    X, y = blocks
    search = FusionSearchCV(FAST, cv=5, rule="1se").fit(X, y)
    table = search.results_
    limit = table["mean_score"].iloc[0] - table["standard_error"].iloc[0]
    good = [name for name in search.fold_scores_ if table.loc[name, "mean_score"] >= limit]
    assert search.best_strategy_ == good[0]


def test_fusion_is_not_chosen_where_one_block_knows_all():
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    X = pd.DataFrame(
        {"text__0": y + 0.3 * rng.normal(size=120), **{f"noise__{i}": rng.normal(size=120) for i in range(30)}}
    )
    search = FusionSearchCV(FAST, rule="1se").fit(X, y)
    assert search.best_strategy_ == "text alone"
    assert search.results_.loc["noise alone", "mean_score"] < -0.6


@pytest.mark.slow  # waits for the limit
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_time_limit_returns_the_best_of_those_that_are_done(blocks, n_jobs):
    X, y = blocks
    names = sorted({c.split("__")[0] for c in X.columns})
    quick = {"quick": DecisionFusionClassifier({n: LR for n in names}, joint=False)}
    slow = {"slow": DecisionFusionClassifier(CountingClassifier(5.0), joint=False)}  # 9 fits of 5 seconds
    start = time.perf_counter()
    with pytest.warns(UserWarning, match="time_limit=4 left out 1 of .*slow"):
        search = FusionSearchCV({**quick, **slow}, cv=3, time_limit=4, n_jobs=n_jobs).fit(X, y)
    assert time.perf_counter() - start < 30
    assert search.unfinished_ == ["slow"]
    assert "quick" in search.results_.index and search.predict(X).shape == y.shape


def test_another_scoring_is_scikit_learns(blocks):
    X, y = blocks
    search = FusionSearchCV(FAST, scoring="balanced_accuracy", cv=3).fit(X, y)
    assert search.results_["mean_score"].between(0, 1).all()
    assert search.score(X, y) > 0.6


def test_regression():
    X, codes = make_blocks(n=120, random_state=0)
    y = np.unique(codes, return_inverse=True)[1] + 0.0
    candidates = {"late": DecisionFusionRegressor(Ridge(), joint=False), "hybrid": DecisionFusionRegressor(Ridge())}
    search = FusionSearchCV(candidates, kind="regressor", cv=3).fit(X, y)
    assert is_regressor(search) and not is_classifier(search)
    assert search.results_["mean_score"].max() < 0  # negative root mean squared error
    assert np.corrcoef(search.predict(X), y)[0, 1] > 0.8


def test_groups_stay_on_one_side_also_inside_a_candidate_that_is_cross_validated_as_a_whole(blocks):
    X, y = blocks
    groups = np.arange(len(y)) // 2
    spy = {"spy": GroupsSpy(LR)}
    GroupsSpy.torn = []
    FusionSearchCV(spy, cv=3, refit="all").fit(X, y, groups=groups)
    assert GroupsSpy.torn == [0, 0, 0, 0]  # three folds and all rows, each with the groups of its rows
    with pytest.raises(ValueError, match="groups on both sides"):
        FusionSearchCV(FAST, cv=StratifiedKFold(3)).fit(X, y, groups=groups)
    assert FusionSearchCV(FAST, cv=GroupKFold(3)).fit(X, y, groups=groups).best_strategy_


def test_weights_count_in_the_scores(blocks):
    X, y = blocks
    weight = np.r_[np.zeros(50), np.ones(len(y) - 50)]
    splits = list(StratifiedKFold(3).split(X, y))
    search = FusionSearchCV({"late": FAST["late"]}, cv=splits, refit="all").fit(X, y, sample_weight=weight)
    oof = search.estimators_["late"]
    expected = [
        -log_loss(y[test], oof.oof_proba_[test], sample_weight=weight[test], labels=oof.classes_) for _, test in splits
    ]
    assert_allclose(search.fold_scores_["late"], expected, atol=1e-5)


def test_missing_blocks_are_no_obstacle(blocks):
    X, y = blocks
    X = X.copy()
    X.loc[::3, [c for c in X if c.startswith("image__")]] = np.nan
    X.loc[:2] = np.nan
    search = FusionSearchCV(cv=3).fit(X, y)
    assert search.results_.loc["hybrid", "mean_score"] > -0.9 > -np.log(3)
    # A row without any block is scored by, and predicted as, the class frequencies.
    assert_allclose(search.predict_proba(X.iloc[:1])[0], [np.mean(y == label) for label in search.classes_], atol=0.01)


def test_a_search_can_be_cross_validated_and_saved(blocks, tmp_path):
    X, y = blocks
    search = FusionSearchCV(FAST, cv=3)
    scores = cross_val_score(search, X, y, cv=3, scoring="neg_log_loss")
    assert (scores > -1.0).all()
    fitted = search.fit(X, y)
    save_model(fitted, tmp_path / "search.fuse")
    loaded = load_model(tmp_path / "search.fuse")
    assert_allclose(loaded.predict_proba(X), fitted.predict_proba(X))
    pd.testing.assert_frame_equal(loaded.results_, fitted.results_)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "search, message",
    [
        (FusionSearchCV([LR]), "candidates must be a dict"),
        (
            FusionSearchCV({"late": DecisionFusionRegressor()}),
            r"needs a classifier as each candidate; these are not: \['late'\]",
        ),
        (FusionSearchCV(FAST, kind="both"), "kind must be one of"),
        (FusionSearchCV(FAST, rule="2se"), "rule must be one of"),
        (FusionSearchCV(FAST, refit=True), "refit must be one of"),
        (FusionSearchCV({"text alone": LR}), r"\['text alone'\], the names of strategies of single blocks"),
        (FusionSearchCV(FAST, scoring=["accuracy"]), "scoring must be the name of one score"),
        (FusionSearchCV(FAST, time_limit=0), "time_limit must be a number of seconds above 0"),
        (FusionSearchCV({"bad": DecisionFusionClassifier({"sound": LR})}), "unknown blocks"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(blocks, search, message):
    X, y = blocks
    with pytest.raises(ValueError, match=message):
        search.fit(X, y)


def test_blocks_can_be_declared_for_an_array(blocks):
    X, y = blocks
    spans = {name: [i for i, c in enumerate(X.columns) if c.startswith(name)] for name in ("image", "text", "audio")}
    candidates = {**FAST, "kernel": KernelFusionClassifier(cv=3)}
    named = FusionSearchCV(candidates, cv=3, refit="all").fit(X, y)
    declared = FusionSearchCV(candidates, cv=3, refit="all", blocks=spans).fit(X.to_numpy(), y)
    for name, values in declared.predict_all(X.to_numpy()).items():
        assert_allclose(values, named.predict_all(X)[name], err_msg=name)


def test_a_block_that_no_fold_can_learn_from_loses_its_row_and_the_search_goes_on(blocks):
    X, y = blocks
    X = X.copy()
    X.loc[3:, [c for c in X if c.startswith("image__")]] = np.nan  # three rows hold it, one of each class or so
    X.loc[:, [c for c in X if c.startswith("audio__")]] = np.nan
    with pytest.warns(UserWarning, match=r"leaves out \['audio alone'\]|leaves out \['image alone', 'audio alone'\]"):
        search = FusionSearchCV({"late": FAST["late"]}, cv=3).fit(X, y)
    assert "text alone" in search.results_.index and "late" in search.results_.index


def test_numbers_as_labels_are_met_with_the_right_parameter(blocks):
    X, _ = blocks
    with pytest.raises(ValueError, match="kind='regressor'"):
        FusionSearchCV().fit(X, np.linspace(0, 1, len(X)))


@pytest.mark.slow
def test_the_choice_of_default_heads_is_not_scored_on_the_rows_that_it_was_made_on():
    # On labels that mean nothing the best of several heads looks good on the rows that chose it.
    scores = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = pd.DataFrame(rng.normal(size=(40, 6)), columns=[f"{b}__{i}" for b in ("a", "b") for i in range(3)])
        y = rng.permutation(np.repeat([0, 1], 20))
        search = FusionSearchCV(
            {"late": DecisionFusionClassifier(joint=False), "early": FeatureFusionClassifier()}, cv=4
        )
        scores.append(search.fit(X, y).results_.loc[["late", "early", "a alone"], "mean_score"].to_numpy())
    mean, error = np.mean(scores, axis=0), np.std(scores, axis=0, ddof=1) / np.sqrt(12)
    assert (mean < -np.log(2) + 2 * error).all(), mean


def test_cross_validation_that_repeats_rows_is_refused(blocks):
    X, y = blocks
    with pytest.raises(ValueError, match="tests rows more than once"):
        FusionSearchCV(FAST, cv=RepeatedStratifiedKFold(n_splits=3, n_repeats=2)).fit(X, y)


def test_weights_reach_the_last_fit_of_a_plain_candidate_too(blocks):
    X, y = blocks
    weight = np.where(y == "class 0", 5.0, 1.0)
    plain = make_pipeline(StandardScaler(), LR)
    search = FusionSearchCV({"plain": plain}, cv=3, refit="all").fit(X, y, sample_weight=weight)
    expected = clone(plain).fit(X, y, standardscaler__sample_weight=weight, logisticregression__sample_weight=weight)
    assert_allclose(search.estimators_["plain"].predict_proba(X), expected.predict_proba(X), atol=1e-6)


def test_a_polars_frame_keeps_its_names_in_every_candidate(blocks):
    polars = pytest.importorskip("polars")
    X, y = blocks
    search = FusionSearchCV({"kernel": KernelFusionClassifier(cv=3)}, cv=3, refit="all").fit(
        polars.DataFrame(dict(X)), y
    )
    assert list(search.estimators_["kernel"].blocks_) == ["image", "text", "audio"]
