"""Feature- and decision-level fusion: what a user relies on."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import every_pair, make_blocks, slow_but
from numpy.testing import assert_allclose
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import AdaBoostClassifier, RandomForestClassifier, StackingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, Perceptron, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from xgboost import XGBClassifier, XGBRegressor

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    FusionSearchCV,
    LogPool,
    MeanPool,
    MissingModalityWarning,
    StackingPool,
    VotePool,
)
from ensemblefuse.fusion import _jobs
from ensemblefuse.fusion._default_heads import default_search

HEADS = [
    SVC(),
    make_pipeline(StandardScaler(), OneVsRestClassifier(SVC())),
    XGBClassifier(n_estimators=20),
    RandomForestClassifier(30, random_state=0),
    LogisticRegression(),
    KNeighborsClassifier(),
    Perceptron(),
]


@pytest.fixture(scope="module")
def late_fusion():
    """A fusion of the table of `blocks`; tests only read it."""
    X, y = make_blocks()
    return DecisionFusionClassifier(effort="low").fit(X, y)


def drop_block(X, name, rows):
    X = X.copy()
    X.loc[X.index[rows], [c for c in X.columns if c.startswith(f"{name}__")]] = np.nan
    return X


@pytest.mark.by_turns
@pytest.mark.parametrize(
    ("head", "labels"),
    every_pair(HEADS, [["cat", "dog", "elk"], [3, 7, 11], ["yes", "no"], [True, False]]),
    ids=lambda value: (
        str(value) if isinstance(value, list) else type(getattr(value, "steps", [[value]])[-1][-1]).__name__
    ),
)
def test_every_head_works_with_every_kind_of_label(head, labels):
    X, y = make_blocks(n=90, n_classes=len(labels), noise=0.7)
    y = np.array(labels)[[int(label[-1]) for label in y]]
    for fusion in (FeatureFusionClassifier(head), DecisionFusionClassifier(head, cv=3)):
        model = clone(fusion).fit(X, y)
        assert model.classes_.tolist() == sorted(labels)
        assert (model.predict(X) == y).mean() > 0.8
    proba = model.predict_proba(X)
    assert_allclose(proba.sum(axis=1), 1)


def test_a_dict_names_an_estimator_a_block_and_the_rest_gets_the_default(blocks):
    X, y = blocks
    model = DecisionFusionClassifier({"image": SVC(), "joint": RandomForestClassifier(10, random_state=0)}).fit(X, y)
    assert model.member_names_ == ["image", "text", "text/trees", "audio", "audio/trees", "joint"]
    assert isinstance(model.estimators_["image"], SVC)
    assert type(model.estimators_["text"][-1]) in {type(head) for head in default_search(4, (120, 4), 3).heads}
    assert isinstance(model.estimators_["joint"][-1], RandomForestClassifier)


@pytest.mark.usefixtures("little_effort")
def test_a_dict_of_estimators_can_be_searched(blocks):
    X, y = blocks
    cheap = dict.fromkeys(("audio", "joint"), LogisticRegression())
    fusion = DecisionFusionClassifier({"image": LogisticRegression(), "text": SVC(), **cheap}, cv=3)
    grid = {"estimators__image__C": [0.1, 1.0], "estimators__text": [SVC(), RandomForestClassifier(5)]}
    search = GridSearchCV(fusion, grid, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert fusion.estimators["image"].C == 1.0  # the search worked on clones
    with pytest.raises(ValueError, match="Invalid parameter 'estimators__sound__C'"):
        fusion.set_params(estimators__sound__C=1)


def test_feature_weights_are_kernel_weights():
    """T14: a linear machine on blocks times sqrt(w) sees the weighted sum of the blocks' kernels."""
    X, y = make_blocks(n=80, n_classes=2)
    weights = {"image": 0.5, "text": 2.0, "audio": 0.0}
    model = FeatureFusionClassifier(SVC(kernel="linear"), scaling=None, weights=weights).fit(X, y)
    Z = StandardScaler().fit_transform(X)
    parts = {n: Z[:, [c.startswith(n) for c in X.columns]] for n in weights}
    K = sum(w * parts[n] @ parts[n].T for n, w in weights.items())
    by_kernel = SVC(kernel="precomputed").fit(K, y)
    assert_allclose(model.decision_function(X), by_kernel.decision_function(K), atol=1e-6)


def test_equal_scaling_keeps_a_wide_noise_block_from_drowning_a_narrow_one():
    X, y = make_blocks(n=200, widths={"image": 3}, noise=0.8)
    noise = np.random.default_rng(1).normal(size=(200, 400))
    X = pd.concat([X, pd.DataFrame(noise, columns=[f"noise__{i}" for i in range(400)])], axis=1)
    scores = {
        scaling: cross_val_score(FeatureFusionClassifier(SVC(), scaling=scaling), X, y, cv=5).mean()
        for scaling in ("equal", None)
    }
    assert scores["equal"] > scores[None] + 0.1


@pytest.fixture(
    scope="module",
    params=[LogisticRegression(), pytest.param(None, marks=pytest.mark.slow)],
    ids=["logistic", "default heads"],
)
def noisy(request):
    """A table, its labels, and the log-likelihood and accuracy of each block alone in cross-validation."""
    X, y = make_blocks(n=300, noise=1.6, random_state=3)
    scores = {}
    for name in ("image", "text", "audio"):
        alone = X.filter(like=f"{name}__")
        result = cross_validate(
            DecisionFusionClassifier(request.param), alone, y, cv=3, scoring=["neg_log_loss", "accuracy"]
        )
        scores[name] = result["test_neg_log_loss"].mean(), result["test_accuracy"].mean()
    return X, y, scores, request.param


@pytest.mark.by_turns
@pytest.mark.parametrize("combiner", [None, LogPool("equal"), MeanPool(), StackingPool()], ids=str)
def test_fusing_beats_the_best_block_out_of_sample(noisy, combiner):
    X, y, alone, head = noisy
    fused = cross_val_score(
        DecisionFusionClassifier(head, combiner=combiner), X, y, cv=3, scoring="neg_log_loss"
    ).mean()
    for name, (single, _) in alone.items():
        assert fused > single, name


@pytest.mark.parametrize("method", ["hard", "borda"])
def test_votes_beat_the_best_block_in_accuracy(noisy, method):
    """Not in log-loss: shares of a few votes are too coarse for that."""
    X, y, alone, head = noisy
    fused = cross_val_score(DecisionFusionClassifier(head, combiner=VotePool(method)), X, y, cv=3).mean()
    for name, (_, single) in alone.items():
        assert fused > single, name


@pytest.mark.all_rounds
def test_out_of_fold_probabilities_tell_the_truth_about_new_rows():
    X, y = make_blocks(n=1200, noise=1.6)
    model = DecisionFusionClassifier().fit(X[:600], y[:600])
    inside = log_loss(y[:600], model.oof_proba_)
    outside = log_loss(y[600:], model.predict_proba(X[600:]))
    assert abs(inside - outside) < 0.08


def test_a_missing_block_drops_out_and_the_rest_decides(blocks, late_fusion):
    (X, y), model = blocks, late_fusion
    holes = drop_block(X, "image", slice(None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proba = model.predict_proba(holes)
    assert (model.classes_[proba.argmax(axis=1)] == y).mean() > 0.6
    # Less evidence, less certainty.
    assert proba.max(axis=1).mean() < model.predict_proba(X).max(axis=1).mean()


@pytest.mark.usefixtures("little_effort")
def test_the_joint_member_stays_out_of_patterns_that_fit_did_not_teach_it(blocks):
    X, y = blocks
    rare, common = drop_block(X, "image", slice(0, 9)), drop_block(X, "image", slice(0, 30))
    without_image = drop_block(X[:1], "image", [0])
    cheap = dict.fromkeys(("image", "text", "audio"), LogisticRegression())
    for table, taught in ((X, False), (rare, False), (common, True)):
        model = DecisionFusionClassifier(cheap).fit(table, y)
        alone = DecisionFusionClassifier({**cheap, "joint": SVC()}).fit(table, y)  # another joint member
        assert ([False, True, True] in model.joint_patterns_.tolist()) == taught
        assert [True, True, True] in model.joint_patterns_.tolist()
        assert np.isfinite(model.oof_predictions_[3, :30, 0]).all() == (taught or table is X)
        mask = model._outputs(without_image)[1][:, 0]
        assert mask.tolist() == [False, True, True, taught]
        assert alone._outputs(drop_block(without_image, "text", [0]))[1][:, 0].tolist() == [False, False, True, False]


def test_a_row_with_no_block_gets_the_class_frequencies():
    X, y = make_blocks(n=100, n_classes=2)
    y[:30] = "class 0"
    nothing = pd.DataFrame(np.nan, index=[0], columns=X.columns)
    frequencies = [(y == "class 0").mean(), (y == "class 1").mean()]
    for fusion in (DecisionFusionClassifier(), FeatureFusionClassifier()):
        assert_allclose(fusion.fit(X, y).predict_proba(nothing)[0], frequencies, atol=1e-9)


def test_blocks_missing_in_fit_are_no_obstacle(blocks):
    X, y = blocks
    rng = np.random.default_rng(0)
    for name in ("image", "text", "audio"):
        X = drop_block(X, name, rng.random(len(X)) < 0.4)
    for fusion in (DecisionFusionClassifier(), FeatureFusionClassifier(), DecisionFusionClassifier(joint=False)):
        assert (fusion.fit(X, y).predict(X) == y).mean() > 0.6


def test_feature_fusion_warns_of_a_pattern_that_fit_never_saw(blocks):
    X, y = blocks
    model = FeatureFusionClassifier().fit(X, y)
    with pytest.warns(MissingModalityWarning, match=r"without \['image'\]"):
        model.predict(drop_block(X, "image", slice(None)))
    with pytest.raises(ValueError, match=r"missing in some rows \(block: rows\) {'image': 3}"):
        FeatureFusionClassifier(missing="raise").fit(drop_block(X, "image", slice(0, 3)), y)


def test_native_missing_hands_nan_to_an_estimator_that_takes_it(blocks):
    X, y = blocks
    X = drop_block(X, "image", slice(0, 60))
    X.iloc[70, 1] = np.nan
    model = FeatureFusionClassifier(XGBClassifier(n_estimators=10), missing="native").fit(X, y)
    assert (model.predict(X) == y).mean() > 0.8
    with pytest.raises(ValueError, match="LogisticRegression does not"):
        FeatureFusionClassifier(LogisticRegression(), missing="native").fit(X, y)


@pytest.mark.usefixtures("little_effort")
def test_a_partly_missing_block_is_an_error_that_names_block_and_rows(blocks):
    X, y = blocks
    X.iloc[4, 0] = np.nan
    X.index = [f"sku{i}" for i in range(len(X))]
    for fusion in (FeatureFusionClassifier(), DecisionFusionClassifier()):
        with pytest.raises(ValueError, match=r"Block 'image' is partly NaN in 1 row: \['sku4'\]"):
            fusion.fit(X, y)
    DecisionFusionClassifier({"image": XGBClassifier(n_estimators=5)}, joint=False).fit(X, y)


def test_a_block_that_cannot_be_fitted_is_left_out_with_a_warning(blocks):
    X, y = blocks
    X = drop_block(X, "audio", slice(None))
    with pytest.warns(MissingModalityWarning, match=r"leaves out these members.*'audio': 0"):
        model = DecisionFusionClassifier().fit(X, y)
    assert model.member_names_ == ["image", "image/trees", "text", "text/trees", "joint"]
    assert model.joint_patterns_.tolist() == [[True, True, False]]


@pytest.mark.usefixtures("little_effort")
def test_a_raw_block_is_fitted_inside_the_fold_by_its_own_estimator():
    X, y = make_blocks(n=90)
    words = {"class 0": "sun sea", "class 1": "snow ski", "class 2": "rain tea"}
    X["title__raw"] = [f"{words[label]} {i}" for i, label in enumerate(y)]
    X.loc[3, "title__raw"] = None
    model = DecisionFusionClassifier({"title": make_pipeline(TfidfVectorizer(), LogisticRegression())}).fit(X, y)
    assert (model.predict(X) == y).all()
    assert model.member_names_ == ["image", "text", "audio", "title", "joint"]
    X["title__raw"] = None
    assert (model.predict(X) == y).mean() > 0.6
    with pytest.raises(ValueError, match=r"\['title'\] hold raw cells and have no estimator"):
        DecisionFusionClassifier().fit(X.assign(title__raw="a"), y)
    with pytest.raises(ValueError, match=r"\['title'\] hold raw cells"):
        FeatureFusionClassifier().fit(X.assign(title__raw="a"), y)


class RecordingClassifier(ClassifierMixin, BaseEstimator):
    """Remembers which rows (told by their value) were in which fit."""

    fits: list = []

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        RecordingClassifier.fits.append(set(X[:, 0].astype(int)))
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


@pytest.mark.parametrize("cv", [4, GroupKFold(4)], ids=str)
def test_groups_are_never_on_both_sides_of_an_inner_split(cv):
    n = 80
    groups = np.repeat(np.arange(20), 4)
    X = pd.DataFrame({"a__0": np.arange(n), "b__0": np.arange(n)})
    RecordingClassifier.fits = []
    y = np.tile([0, 1], 40)
    DecisionFusionClassifier(RecordingClassifier(), cv=cv, joint=False).fit(X, y, groups=groups)
    fits = RecordingClassifier.fits
    assert len(fits) == 2 * (4 + 1)  # two members, four folds and the final fit
    for rows in fits:
        assert all(
            len({groups[i] in groups[list(rows)] for i in members}) == 1 for members in np.split(np.arange(n), 20)
        )
        inside = {int(groups[i]) for i in rows}
        assert len(rows) == 4 * len(inside)
    assert {frozenset(r) for r in fits[0:8:2]} == {frozenset(r) for r in fits[1:8:2]}  # the members share the splits


@pytest.mark.usefixtures("little_effort")
@pytest.mark.parametrize(
    "cv",
    [3, KFold(4, shuffle=True, random_state=0), RepeatedStratifiedKFold(n_splits=3, n_repeats=2, random_state=0)],
    ids=str,
)
def test_any_splitter_serves(blocks, cv):
    X, y = blocks
    model = DecisionFusionClassifier(LogisticRegression(), cv=cv).fit(X, y)
    assert np.isfinite(model.oof_predictions_).all()
    assert_allclose(model.oof_proba_.sum(axis=1), 1, rtol=1e-5)


def test_rows_of_no_test_fold_stay_out_of_the_second_level(blocks):
    X, y = blocks
    splits = ShuffleSplit(1, test_size=0.4, random_state=0)
    model = DecisionFusionClassifier(cv=splits, combiner=StackingPool()).fit(X, y)
    assert np.isfinite(model.oof_predictions_[0, :, 0]).sum() == 60
    assert (model.predict(X) == y).mean() > 0.8


@pytest.mark.usefixtures("little_effort")
def test_a_class_smaller_than_the_number_of_folds(blocks):
    X, y = blocks
    y = y.astype(object)
    y[:3] = "rare"
    model = DecisionFusionClassifier(XGBClassifier(n_estimators=5), cv=5).fit(X, y)
    assert "rare" in model.classes_
    y[:3] = ["rare", "class 0", "class 0"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = DecisionFusionClassifier(XGBClassifier(n_estimators=5), cv=5).fit(X, y)
    assert_allclose(model.predict_proba(X).sum(axis=1), 1)


@pytest.mark.parametrize(
    "head",
    [LogisticRegression(), make_pipeline(StandardScaler(), OneVsRestClassifier(SVC())), XGBClassifier(n_estimators=30)],
    ids=["logistic", "pipeline of one-vs-rest", "xgboost"],
)
def test_sample_weight_reaches_nested_heads(head):
    X, y = make_blocks(n=120, n_classes=2, noise=0.5)
    wrong = y.copy()
    wrong[:60] = np.where(y[:60] == "class 0", "class 1", "class 0")
    weight = np.r_[np.full(60, 1e-3), np.ones(60)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = DecisionFusionClassifier(head, cv=3).fit(X, wrong, sample_weight=weight)
    assert (model.predict(X) == y).mean() > 0.95


@pytest.mark.usefixtures("little_effort")
def test_a_head_without_weights_is_named(blocks):
    X, y = blocks
    with pytest.warns(UserWarning, match=r"\['text'\] take no sample_weight"):
        DecisionFusionClassifier({"text": KNeighborsClassifier()}).fit(X, y, sample_weight=np.linspace(1, 2, len(y)))


def test_metadata_routing_brings_groups_and_weights(blocks):
    X, y = blocks
    groups = np.arange(len(y)) // 3
    with config_context(enable_metadata_routing=True):
        fusion = DecisionFusionClassifier(LogisticRegression(), cv=3).set_fit_request(groups=True, sample_weight=True)
        fusion.set_score_request(sample_weight=True)
        result = cross_validate(
            fusion, X, y, cv=GroupKFold(3), params={"groups": groups, "sample_weight": np.ones(len(y))}
        )
    assert (result["test_score"] > 0.5).all()


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "fusion", [DecisionFusionRegressor(), FeatureFusionRegressor()], ids=lambda f: type(f).__name__
)
@pytest.mark.parametrize("head", [None, XGBRegressor(n_estimators=30)], ids=["default", "xgboost"])
def test_regression(fusion, head):
    rng = np.random.default_rng(0)
    X, _ = make_blocks(n=200)
    y = X["image__0"] * 2 + X["text__1"] - X["audio__2"] + 0.1 * rng.normal(size=200)
    name = "estimators" if isinstance(fusion, DecisionFusionRegressor) else "estimator"
    model = clone(fusion).set_params(**{name: head}).fit(X[:150], y[:150])
    fused = model.score(X[150:], y[150:])
    for block in ("image", "text", "audio"):
        alone = X.filter(like=f"{block}__")
        assert fused > clone(model).fit(alone[:150], y[:150]).score(alone[150:], y[150:]) + 0.2, block
    if head is None:
        assert fused > 0.99  # y is linear in the blocks
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingModalityWarning)  # feature level warns of the new pattern
        assert model.score(drop_block(X, "audio", slice(None)), y) > 0.3
    with pytest.raises(ValueError, match="predicts one number per row"):
        clone(fusion).fit(X, np.zeros((200, 2)))


@pytest.mark.parametrize("y", [np.zeros((30, 2), dtype=int), [["a", "b"]] * 30], ids=["multilabel", "multioutput"])
def test_targets_of_several_columns_are_refused_in_one_sentence(y):
    X, _ = make_blocks(n=30)
    for fusion in (FeatureFusionClassifier(), DecisionFusionClassifier()):
        with pytest.raises(ValueError):
            fusion.fit(X, y)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    ("widths", "estimators", "member"),
    [
        ({"a": 3, "a/trees": 3}, None, "a/trees"),
        ({"a/trees": 3, "a": 3}, None, "a/trees"),
        ({"a": 3, "a/svc": 3}, {"a": [LogisticRegression(), SVC()]}, "a/svc"),
        ({"a": 3, "a/own": 3}, {"a": [("own", LogisticRegression())], "a/own": SVC()}, "a/own"),
        ({"a": 3, "joint/trees": 205}, {"joint/trees": SVC()}, "joint/trees"),
    ],
    ids=str,
)
@pytest.mark.parametrize("search", [False, True])
def test_two_members_of_one_name_are_refused(widths, estimators, member, search):
    X, y = make_blocks(n=120, widths=widths)
    fusion = DecisionFusionClassifier(estimators, cv=2)
    fusion = FusionSearchCV({"own": fusion}, cv=2) if search else fusion
    with pytest.raises(ValueError, match=f"both have a member named '{member}'; rename"):
        fusion.fit(X, y)
    renamed = X.rename(columns=lambda column: column.replace("/", "-"))
    estimators = {name.replace("/", "-"): head for name, head in (estimators or {}).items()} or None
    fitted = DecisionFusionClassifier(estimators, cv=2).fit(renamed, y)
    assert len(set(fitted.member_names_)) == len(fitted.member_names_) and len(fitted.predict(renamed)) == len(y)


def test_blocks_with_a_slash_are_fine_where_no_member_has_the_name():
    X, y = make_blocks(n=120, widths={"a": 3, "a/trees": 3, "a/words": 2})
    heads = {"a": LogisticRegression(), "a/trees": LogisticRegression()}
    fitted = DecisionFusionClassifier(heads, cv=2, joint=False).fit(X, y)
    assert fitted.member_names_ == ["a", "a/trees", "a/words", "a/words/trees"]
    assert len(fitted.predict(X)) == len(y)


def test_explicit_blocks_serve_arrays(blocks, late_fusion):
    (X, y), named = blocks, late_fusion
    spans = {"image": slice(0, 6), "text": slice(6, 10), "audio": [10, 11, 12]}
    by_position = DecisionFusionClassifier(blocks=spans, effort="low").fit(X.to_numpy(), y)
    assert_allclose(named.predict_proba(X), by_position.predict_proba(X.to_numpy()))


@pytest.mark.parametrize(
    "fusion, message",
    [
        (DecisionFusionClassifier({"sound": SVC()}), r"unknown blocks \['sound'\]; X has the blocks \['image'"),
        (DecisionFusionClassifier(combiner="mean"), "got 'mean'"),
        (DecisionFusionClassifier(calibration="isotonic"), "got 'isotonic'"),
        (DecisionFusionClassifier(cv=1), "got 1"),
        (FeatureFusionClassifier(weights={"sound": 2}), r"unknown blocks \['sound'\]"),
        (FeatureFusionClassifier(weights={"image": -1}), "at least 0"),
        (FeatureFusionClassifier(scaling="minmax"), "got 'minmax'"),
        (FeatureFusionClassifier(missing="drop"), "got 'drop'"),
        (FeatureFusionClassifier(blocks={"a": ["image__0"]}), "leaves out 12 columns"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named_with_its_value(blocks, fusion, message):
    X, y = blocks
    with pytest.raises(ValueError, match=message):
        fusion.fit(X, y)


def test_n_jobs_changes_nothing_but_time(blocks, late_fusion, monkeypatch):
    monkeypatch.setattr(_jobs, "_WORTH_WORKERS", 0.0)  # workers start however little there is to do
    X, y = blocks
    one = late_fusion.predict_proba(X)
    two = DecisionFusionClassifier(n_jobs=2, effort="low").fit(X, y).predict_proba(X)
    assert_allclose(one, two, atol=1e-9)


def test_pickle_round_trip(blocks, late_fusion):
    X, y = blocks
    for model in (late_fusion, FeatureFusionClassifier().fit(X, y)):
        assert_allclose(pickle.loads(pickle.dumps(model)).predict_proba(X), model.predict_proba(X))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of LogisticRegressionCV, whose defaults will change
@pytest.mark.parametrize(
    "head",
    [AdaBoostClassifier(n_estimators=10), LogisticRegressionCV(Cs=3)],
    ids=["AdaBoost", "LogisticRegressionCV"],
)
def test_sample_weight_reaches_heads_that_route_nothing(head):
    X, y = make_blocks(n=120, n_classes=2, noise=0.5)
    wrong = np.where(np.arange(120) < 60, np.where(y == "class 0", "class 1", "class 0"), y)
    weight = np.r_[np.full(60, 1e-6), np.ones(60)]
    model = DecisionFusionClassifier(head, cv=3).fit(X, wrong, sample_weight=weight)
    assert (model.predict(X) == y).mean() > 0.9


@pytest.mark.usefixtures("little_effort")
def test_a_pipeline_whose_last_step_takes_no_weight_is_named(blocks):
    X, y = blocks
    head = make_pipeline(StandardScaler(), KNeighborsClassifier())
    with pytest.warns(UserWarning, match=r"\['text'\] take no sample_weight"):
        DecisionFusionClassifier({"text": head}).fit(X, y, sample_weight=np.linspace(1, 2, len(y)))


def test_weights_reach_a_stacker_inside_a_pipeline():
    X, y = make_blocks(n=200, n_classes=2, noise=0.5)
    wrong = np.where(np.arange(200) < 120, np.where(y == "class 0", "class 1", "class 0"), y)
    weight = np.r_[np.full(120, 1e-6), np.ones(80)]
    stacker = StackingPool(make_pipeline(StandardScaler(), LogisticRegression()))
    model = DecisionFusionClassifier(combiner=stacker, cv=3).fit(X, wrong, sample_weight=weight)
    assert (model.predict(X) == y).mean() > 0.9


def test_rows_of_no_weight_count_for_nothing_in_learned_weights():
    _, y = make_blocks(n=150)
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(3), size=(2, 150))
    weight = (np.arange(150) < 100).astype(float)
    weighted = LogPool().fit(P, y, sample_weight=weight)
    assert_allclose(weighted.weights_, LogPool().fit(P[:, :100], y[:100]).weights_, atol=1e-6)


@pytest.mark.parametrize("cv", [KFold(5), StratifiedKFold(5)], ids=str)
def test_a_splitter_that_tears_groups_apart_is_an_error(blocks, cv):
    X, y = blocks
    with pytest.raises(ValueError, match="groups on both sides of a split"):
        DecisionFusionClassifier(LogisticRegression(), cv=cv).fit(X, y, groups=np.arange(len(y)) % 30)
    DecisionFusionClassifier(LogisticRegression(), cv=None).fit(X, y, groups=np.arange(len(y)) % 30)


@pytest.mark.usefixtures("little_effort")
def test_a_block_may_not_have_the_name_of_the_joint_member(blocks):
    X, y = blocks
    X = X.rename(columns=lambda c: c.replace("audio", "joint"))
    with pytest.raises(ValueError, match="rename the block"):
        DecisionFusionClassifier().fit(X, y)
    DecisionFusionClassifier(joint=False).fit(X, y).predict(X)


@pytest.mark.parametrize("combiner", [None, LogPool("equal"), MeanPool(), StackingPool()], ids=str)
def test_a_class_whose_rows_hold_no_block(blocks, combiner):
    X, y = blocks
    y = y.astype(object)
    y[:10] = "ghost"
    X.iloc[:10] = np.nan
    head = LogisticRegression()
    for fusion in (
        DecisionFusionClassifier(head, combiner=combiner),
        FeatureFusionClassifier(XGBClassifier(n_estimators=5)),
    ):
        model = fusion.fit(X, y)
        proba = model.predict_proba(X)
        assert model.classes_.tolist()[-1] == "ghost" and proba.shape == (150, 4)
        assert (model.predict(X)[10:] == y[10:]).mean() > 0.6
        assert_allclose(proba[0], [*[(y == c).mean() for c in model.classes_]], atol=1e-6)


@pytest.mark.parametrize("weights", ["learned", "equal"])
def test_a_class_prior_is_applied_after_calibration(weights):
    X, y = make_blocks(n=400, n_classes=2, noise=2.5)
    head = LogisticRegression()
    plain = DecisionFusionClassifier(head, combiner=LogPool(weights)).fit(X[:200], y[:200])
    shifted = DecisionFusionClassifier(head, combiner=LogPool(weights, class_prior=[0.9, 0.1])).fit(X[:200], y[:200])
    assert shifted.temperature_ == pytest.approx(plain.temperature_)
    expected = plain.predict_proba(X[200:]) * np.array([0.9, 0.1]) / plain.combiner_.prior_
    assert_allclose(shifted.predict_proba(X[200:]), expected / expected.sum(axis=1, keepdims=True), atol=1e-9)


@pytest.mark.parametrize("combiner", slow_but(lambda pool: pool is None, [None, LogPool("equal"), MeanPool()]), ids=str)
def test_few_rows_without_an_error_out_of_fold_do_not_make_a_model_certain_beyond_reason(combiner):
    losses = []
    for seed in range(5):
        X, y = make_blocks(n=520, n_classes=2, widths={"a": 10, "b": 10}, noise=1.2, random_state=seed)
        model = DecisionFusionClassifier(combiner=combiner).fit(X[:20], y[:20])
        losses.append(log_loss(y[20:], model.predict_proba(X[20:])))
        assert model.temperature_ > 0.05
    assert np.mean(losses) < 0.4


def test_in_regression_a_missing_block_costs_what_it_knew_and_no_more():
    X, _ = make_blocks(n=600, widths={"a": 3, "b": 3})
    y = (X["a__0"] + X["b__0"]).to_numpy()
    fused = DecisionFusionRegressor(joint=False).fit(X[:300], y[:300])
    alone = DecisionFusionRegressor().fit(X.filter(like="a__")[:300], y[:300])
    rest = X[300:]
    gap = alone.score(rest.filter(like="a__"), y[300:]) - fused.score(drop_block(rest, "b", slice(None)), y[300:])
    assert abs(gap) < 0.01


@pytest.mark.parametrize(
    "fusion, message",
    [
        (DecisionFusionClassifier({"text": Ridge()}), "estimator of 'text' must be a classifier; got Ridge"),
        (FeatureFusionClassifier(Ridge()), "must be a classifier; got Ridge"),
        (DecisionFusionRegressor(LogisticRegression()), "must be a regressor; got LogisticRegression"),
        (DecisionFusionClassifier("svm"), "must be an estimator object.*got 'svm'"),
        (DecisionFusionClassifier(SVC), "must be an estimator object"),
        (DecisionFusionClassifier(SVC(decision_function_shape="ovo")), "use 'ovr'"),
    ],
    ids=str,
)
def test_an_estimator_of_the_wrong_kind_is_refused_by_name(blocks, fusion, message):
    X, y = blocks
    with pytest.raises((ValueError, TypeError), match=message):
        fusion.fit(X, np.arange(len(y)) if "Regressor" in type(fusion).__name__ else y)


@pytest.mark.parametrize("fusion", [FeatureFusionClassifier, DecisionFusionClassifier])
def test_an_estimator_that_predicts_only_once_it_is_fitted_is_taken(blocks, fusion):
    X, y = blocks
    stacking = StackingClassifier([("lr", LogisticRegression()), ("knn", KNeighborsClassifier())], cv=2)
    assert fusion(stacking).fit(X, y).score(X, y) > 0.9


@pytest.mark.parametrize("name", ["text", "joint"])
def test_an_error_of_a_member_says_whose_it_is(blocks, name):
    X, y = blocks
    heads = dict.fromkeys(("image", "text", "audio"), LogisticRegression())
    with pytest.raises(ValueError, match="'C' parameter of SVC") as caught:
        DecisionFusionClassifier({**heads, name: SVC(C=-1)}).fit(X, y)
    assert f"while fitting member {name!r}" in caught.value.__notes__
