"""Heads of the user's own: lists of ensembles, heads that come fitted, odd `fit` methods, weights turned off."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ensemblefuse import (
    BlockPCA,
    CascadeFusionClassifier,
    ConformalFusionClassifier,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    FusionSearchCV,
    KernelFusionClassifier,
    MeanPool,
    SequentialFusionRegressor,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse._fitting import fit_estimator
from ensemblefuse._seeds import own_seed


def told(labels=("a", "b", "c"), n=120, random_state=7):
    """Two blocks that each tell the label, a label of any type."""
    codes = np.arange(n) % len(labels)
    rng = np.random.default_rng(random_state)
    columns = {
        f"{b}__{i}": rng.normal(size=n) + 2 * (codes == i) for b in ("image", "text") for i in range(len(labels))
    }
    return pd.DataFrame(columns), np.array(labels)[codes]


def part(X, block):
    return X.filter(like=f"{block}__").to_numpy()


def frozen(head, X, y, wrap=FrozenEstimator):
    return {block: wrap(clone(head).fit(part(X, block), y)) for block in ("image", "text")}


# ---------------------------------------------------------------------- lists of heads


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "heads",
    [
        [LogisticRegression(), RandomForestClassifier(5)],
        [ExtraTreesClassifier(5), None],
        {"image": [BaggingClassifier(n_estimators=2), AdaBoostClassifier(n_estimators=2)], "text": GaussianNB()},
        [("forest", RandomForestClassifier(5)), ("default", None)],
        {"joint": [RandomForestClassifier(5), VotingClassifier([("nb", GaussianNB())])]},
        [RandomForestClassifier(5), RandomForestClassifier(5, max_depth=2)],
    ],
    ids=lambda heads: str(heads)[:40],
)
def test_a_list_of_heads_may_hold_ensembles_that_are_not_fitted(heads):
    X, y = told(n=60)
    model = DecisionFusionClassifier(heads, cv=2)
    assert type(model).__name__ in repr(clone(model)) and "<div" in model._repr_html_()
    assert len(model.get_params()) > 12
    assert model.fit(X, y).score(X, y) > 0.8


def test_a_list_of_regressors_may_hold_ensembles_too():
    X, _ = told(n=60)
    y = X["image__0"].to_numpy()
    model = DecisionFusionRegressor([RandomForestRegressor(5), BaggingRegressor(n_estimators=2), Ridge()], cv=2)
    assert model.set_params(estimators__randomforestregressor__n_estimators=3).fit(X, y).score(X, y) > 0.7


# ---------------------------------------------------------------------- heads that come fitted


class OnlyLabels(ClassifierMixin, BaseEstimator):
    """Predicts labels and nothing else."""

    def fit(self, X, y):
        self.inner_ = GaussianNB().fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict(self, X):
        return self.inner_.predict(X)


@pytest.mark.by_turns
@pytest.mark.parametrize("labels", [[-1, 0, 1], [1, 2, 3], ["neg", "neu", "pos"], [0, 1, 2], [7, 0], [True, False]])
@pytest.mark.parametrize("head", [LogisticRegression(), LinearSVC(), OnlyLabels()], ids=lambda h: type(h).__name__)
def test_a_head_that_comes_fitted_keeps_its_labels(labels, head):
    X, y = told(labels)
    heads = frozen(head, X, y)
    alone = max(heads[block].score(part(X, block), y) for block in heads)
    for model in (
        DecisionFusionClassifier(heads, joint=False, cv=2),
        DecisionFusionClassifier(heads, joint=False, cv=2, combiner=MeanPool(), refit=False),
        CascadeFusionClassifier(heads, cv=2),
    ):
        assert model.fit(X, y).score(X, y) > alone - 0.03


@pytest.mark.parametrize("labels", [[-1, 0, 1], ["x", "y", "z"]])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda fitted: CalibratedClassifierCV(FrozenEstimator(fitted)),
        lambda fitted: make_pipeline("passthrough", FrozenEstimator(fitted)),
        lambda fitted: VotingClassifier([("it", FrozenEstimator(fitted))], voting="soft"),
    ],
    ids=["calibrated", "pipeline", "voting"],
)
def test_a_fitted_part_inside_another_estimator_keeps_its_labels_too(wrap, labels, tmp_path):
    X, y = told(labels)
    heads = frozen(LogisticRegression(), X, y, wrap)
    model = DecisionFusionClassifier(heads, joint=False, cv=2).fit(X, y)
    assert model.score(X, y) > 0.85
    again = load_model(save_model(model, tmp_path / "model"))
    assert_allclose(again.predict_proba(X), model.predict_proba(X))


def test_a_fitted_head_may_lack_a_class_and_may_know_codes_of_text():
    X, y = told()
    some = y != "c"
    heads = {"image": FrozenEstimator(LogisticRegression().fit(part(X, "image")[some], y[some]))}
    model = DecisionFusionClassifier({**heads, "text": LogisticRegression()}, joint=False, cv=2).fit(X, y)
    assert model.oof_predictions_[0][:, 2].max() < 1e-6 and model.score(X, y) > 0.8
    coded = frozen(LogisticRegression(), X, np.searchsorted(["a", "b", "c"], y))
    assert DecisionFusionClassifier(coded, joint=False, cv=2).fit(X, y).score(X, y) > 0.85


def test_the_same_values_as_the_fitted_heads_alone():
    X, y = told([3, 1, 2])
    heads = frozen(LogisticRegression(), X, y)
    model = DecisionFusionClassifier(heads, joint=False, cv=2, combiner=MeanPool(), calibration=None).fit(X, y)
    expected = np.mean([heads[block].predict_proba(part(X, block)) for block in heads], axis=0)
    assert_allclose(model.predict_proba(X), expected, atol=1e-6)
    search = FusionSearchCV({"mean": model}, cv=2).fit(X, y)
    assert search.best_estimator_.score(X, y) > 0.85


@pytest.mark.parametrize(
    "known, labels, message",
    [
        ([0, 1, 2], [1, 2, 3], r"fitted on the classes \[0, 1, 2\], but y holds \[1, 2, 3\]"),
        (["a", "b", "c"], [1, 2, 3], r"the estimator of 'image' does not fit: .* on the classes \['a', 'b', 'c'\]"),
        (["a", "b", "d"], ["a", "b", "c"], "Fit it on labels of y, or pass it unfitted"),
    ],
)
def test_a_head_that_was_fitted_on_other_classes_is_refused(known, labels, message):
    X, y = told(labels)
    heads = frozen(LogisticRegression(), X, told(known)[1])
    for model in (DecisionFusionClassifier(heads, joint=False), CascadeFusionClassifier(heads)):
        with pytest.raises(ValueError, match=message):
            model.fit(X, y)


def test_a_fitted_estimator_over_several_blocks_is_refused_because_its_columns_are_scaled():
    X, y = told()
    whole = FrozenEstimator(LogisticRegression().fit(X.to_numpy(), y))
    number = FrozenEstimator(Ridge().fit(part(X, "image"), X["text__0"]))
    for model, target in (
        (DecisionFusionClassifier({"joint": whole}), y),
        (FeatureFusionClassifier(whole), y),
        (FusionSearchCV({"early": FeatureFusionClassifier(whole)}), y),
        (FeatureFusionRegressor(number), X["text__0"]),
        (SequentialFusionRegressor(number), X["text__0"]),
    ):
        with pytest.raises(ValueError, match=r"comes fitted \(FrozenEstimator\), but .* Pass it unfitted, or"):
            model.fit(X, target)


def test_a_fusion_that_comes_fitted_is_calibrated_on_the_rows_of_this_fit():
    X, y = told(n=240)
    fusion = FrozenEstimator(DecisionFusionClassifier(LogisticRegression(), cv=2).fit(X[:100], y[:100]))
    model = ConformalFusionClassifier(fusion).fit(X[100:], y[100:])
    scores = 1 - fusion.predict_proba(X[100:])[np.arange(140), np.searchsorted(fusion.classes_, y[100:])]
    assert_allclose(np.sort(model.calibration_scores_), np.sort(scores), atol=1e-6)


def test_a_fusion_of_fitted_heads_may_be_the_estimator_over_all_blocks_or_stand_in_a_conformal_one():
    X, y = told(["no", "yes"])
    inner = DecisionFusionClassifier(frozen(LogisticRegression(), X, y), joint=False, cv=2)
    assert DecisionFusionClassifier({"joint": inner}, cv=2).fit(X, y).score(X, y) > 0.85
    model = ConformalFusionClassifier(inner).fit(X, y)
    oof = model.fusion_.oof_proba_[np.arange(len(y)), np.searchsorted(["no", "yes"], y)]
    assert_allclose(model.calibration_scores_, 1 - oof.astype(float))


# ---------------------------------------------------------------------- a fit that returns nothing


class FitsInPlace(ClassifierMixin, BaseEstimator):
    def fit(self, X, y, sample_weight=None):
        self.inner_ = LogisticRegression().fit(X, y, sample_weight)
        self.classes_ = self.inner_.classes_

    def predict_proba(self, X):
        return self.inner_.predict_proba(X)

    def predict(self, X):
        return self.inner_.predict(X)


class FitsNumbersInPlace(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.inner_ = Ridge().fit(X, y)

    def predict(self, X):
        return self.inner_.predict(X)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "model",
    [
        DecisionFusionClassifier(FitsInPlace(), cv=2),
        DecisionFusionClassifier({"image": FitsInPlace()}, joint=False, cv=2, refit=False),
        DecisionFusionClassifier({"joint": FitsInPlace()}, cv=2),
        CascadeFusionClassifier(FitsInPlace(), cv=2),
        FeatureFusionClassifier(FitsInPlace()),
        FeatureFusionClassifier(FitsInPlace(), missing="reduced"),
        ConformalFusionClassifier(FitsInPlace(), cv=2),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_fit_of_a_head_may_return_nothing(model, weighted):
    X, y = told()
    weight = np.ones(len(y)) if weighted else None
    assert clone(model).fit(X, y, sample_weight=weight).score(X, y) > 0.85


@pytest.mark.parametrize("fusion", [DecisionFusionRegressor, FeatureFusionRegressor, SequentialFusionRegressor])
def test_the_fit_of_a_regressor_may_return_nothing(fusion):
    X, _ = told()
    y = X["image__0"] + X["text__1"]
    assert fusion(FitsNumbersInPlace()).fit(X, y).score(X, y) > 0.8


# ---------------------------------------------------------------------- weights that are turned off


def asked(estimator, value):
    with sklearn.config_context(enable_metadata_routing=True):
        return estimator.set_fit_request(sample_weight=value)


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize(
    "build",
    [
        lambda head: head,
        lambda head: make_pipeline(StandardScaler(), head),
        lambda head: GridSearchCV(head, {"C": [1.0]}, cv=2),
        lambda head: VotingClassifier([("it", head)], voting="soft"),
    ],
    ids=["alone", "pipeline", "search", "voting"],
)
def test_weights_that_the_user_turned_off_stay_off_and_others_do_not(build, routing):
    X, y = make_blocks(n=90, noise=2.0)
    weight = np.random.default_rng(11).uniform(0.1, 3, size=90)
    X = X.to_numpy()
    off = build(asked(LogisticRegression(), False))
    with sklearn.config_context(enable_metadata_routing=routing):
        without, honoured = fit_estimator(off, X, y, weight)
        plain, _ = fit_estimator(build(LogisticRegression()), X, y, None)
        default, taken = fit_estimator(build(LogisticRegression()), X, y, weight)
        on, also = fit_estimator(build(asked(LogisticRegression(), True)), X, y, weight)
    assert honoured and taken and also
    assert_allclose(without.predict_proba(X), plain.predict_proba(X))
    assert_allclose(on.predict_proba(X), default.predict_proba(X))
    assert np.abs(default.predict_proba(X) - plain.predict_proba(X)).max() > 0.01


def test_weights_off_for_the_head_may_be_on_for_a_step_before_it():
    X, y = make_blocks(n=60)
    weight = np.random.default_rng(11).uniform(0.1, 3, size=60)
    head = make_pipeline(asked(StandardScaler(), True), asked(LogisticRegression(), False))
    fitted, _ = fit_estimator(head, X.to_numpy(), y, weight)
    assert_allclose(fitted[0].mean_, np.average(X, axis=0, weights=weight))
    scaled = fitted[0].transform(X.to_numpy())
    assert_allclose(fitted[1].coef_, LogisticRegression().fit(scaled, y).coef_)


def test_a_fusion_with_such_a_head_gives_no_warning():
    X, y = told()
    weight = np.linspace(0.1, 3, len(y))
    heads = {"image": asked(LogisticRegression(), False), "text": LogisticRegression()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = DecisionFusionClassifier(heads, joint=False, cv=2).fit(X, y, sample_weight=weight)
    assert_allclose(model.estimators_["image"].coef_, LogisticRegression().fit(part(X, "image"), y).coef_, rtol=1e-4)
    weighted = LogisticRegression().fit(part(X, "text"), y, sample_weight=weight)
    assert_allclose(model.estimators_["text"].coef_, weighted.coef_, rtol=1e-4)
    inside = asked(DecisionFusionClassifier(LogisticRegression(), cv=2), False)
    outer = DecisionFusionClassifier({"joint": inside}, cv=2).fit(X, y, sample_weight=weight)
    bare = clone(inside).set_params(blocks=outer.estimators_["joint"].blocks).fit(X.to_numpy(), y)
    assert_allclose(outer.estimators_["joint"].estimators_["image"].coef_, bare.estimators_["image"].coef_, rtol=1e-4)


# ---------------------------------------------------------------------- more components than columns


@pytest.mark.parametrize(
    "model, message",
    [
        (DecisionFusionClassifier(make_pipeline(PCA(9), GaussianNB())), r"PCA\(n_components=9\) .* the block 'image'"),
        (
            CascadeFusionClassifier({"text": make_pipeline(StandardScaler(), PCA(9), GaussianNB())}),
            "the block 'text', which has 3 columns in 120 rows; pass n_components of at most 3",
        ),
        (DecisionFusionClassifier({"joint": make_pipeline(PCA(9), GaussianNB())}), "all blocks side by side"),
        (FeatureFusionClassifier(make_pipeline(TruncatedSVD(9), GaussianNB())), "which has 6 columns"),
        (FeatureFusionClassifier(transformer=PCA(9)), "at most 6, or a share of the variance"),
        (FusionSearchCV({"pca": FeatureFusionClassifier(GaussianNB(), transformer=PCA(9))}), "at most 6"),
        (
            make_fusion_pipeline(
                [("image", PCA(9), ["image__0", "image__1"]), ("text", "passthrough", ["text__0"])],
                DecisionFusionClassifier(GaussianNB()),
            ),
            r"a modality \('image__0', 'image__1'\), which has 2 columns",
        ),
    ],
)
def test_more_components_than_columns_are_told_with_name_and_value(model, message):
    with pytest.raises(ValueError, match=message):
        model.fit(*told())


def test_as_many_components_as_columns_are_fine():
    X, y = told()
    assert DecisionFusionClassifier(make_pipeline(PCA(3), GaussianNB()), joint=False).fit(X, y).score(X, y) > 0.8
    assert FeatureFusionClassifier(GaussianNB(), transformer=BlockPCA(9)).fit(X, y).score(X[:2], y[:2]) == 1


# ---------------------------------------------------------------------- names that a wrapper strips


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "fusion", [DecisionFusionClassifier(GaussianNB()), FeatureFusionClassifier(GaussianNB()), KernelFusionClassifier()]
)
def test_columns_without_names_are_one_block_and_a_warning_says_so(fusion):
    X, y = told(n=60)
    message = f"{type(fusion).__name__}: X is an array without names of columns, so all 6 columns are one block"
    with pytest.warns(UserWarning, match=message):
        BaggingClassifier(fusion, n_estimators=1).fit(X, y)
    with pytest.warns(UserWarning, match=message):
        clone(fusion).fit(X.to_numpy(), y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = clone(fusion).set_params(blocks={"image": slice(0, 3), "text": slice(3, 6)}).fit(X.to_numpy(), y)
        clone(fusion).fit(X, y)
        clone(fusion).fit(X[["image__0"]].to_numpy(), y)  # one column is one block in any case
        clone(fusion).fit(X[["image__0"]].to_numpy(), y)
        DecisionFusionClassifier({"image": clone(fusion)}, joint=False, cv=2).fit(X, y)
    assert list(named.blocks_) == ["image", "text"]


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_an_unfitted_model_for_each_combination_says_so(method):
    with pytest.raises(NotFittedError):
        getattr(FeatureFusionClassifier(missing="reduced"), method)(told()[0])
    with pytest.raises(NotFittedError):
        FeatureFusionRegressor(missing="reduced").predict(told()[0])


# ---------------------------------------------------------------------- seeds


def test_the_librarys_draws_share_no_numbers_with_the_same_seed_of_the_user():
    for seed in (0, 42, 1234, np.int64(7)):
        assert own_seed(seed) == own_seed(int(seed)) != seed
        for generator in (np.random.default_rng, np.random.RandomState):
            theirs, ours = (generator(number).uniform(size=9) for number in (int(seed), own_seed(seed)))
            assert not np.isin(theirs, ours).any()
    rng = np.random.default_rng(0)
    assert own_seed(rng) is rng and own_seed(None) is None
    assert len({own_seed(seed) for seed in range(1000)}) == 1000
