"""What a model says with only some of its modalities: from the ledger, by hiding, by fitting anew."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks, make_puzzle
from numpy.testing import assert_allclose
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ensemblefuse import (
    ConformalFusionClassifier,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FunctionEncoder,
    FusionSearchCV,
    MeanPool,
    make_fusion_pipeline,
    modality_ablation,
    modality_shapley,
)
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fitted.subsets import all_subsets, predict_subsets
from ensemblefuse.scoring.metrics import row_values

HEAD = LogisticRegression()


@pytest.fixture(scope="module")
def gaps():
    X, y = make_blocks(n=120)
    X.loc[:9, [c for c in X if c.startswith("text")]] = np.nan
    return X, y


@pytest.fixture(scope="module")
def fitted(gaps):
    return DecisionFusionClassifier(HEAD, cv=3).fit(*gaps)


@pytest.mark.by_turns
@pytest.mark.parametrize("combiner", [None, MeanPool()])
@pytest.mark.parametrize("calibration", ["temperature", "sigmoid", None])
def test_the_ledger_with_all_modalities_is_the_fused_ledger(gaps, combiner, calibration):
    model = DecisionFusionClassifier(HEAD, cv=3, combiner=combiner, calibration=calibration).fit(*gaps)
    said = predict_subsets(model, [model.blocks_], as_deployed=True)
    assert_allclose(said.of(["image", "text", "audio"]), model.oof_proba_[said.rows], atol=1e-5)
    assert_allclose(predict_subsets(model, [["image"]]).deployed, model.oof_proba_[said.rows], atol=1e-5)
    assert said.method == "ledger" and said.n_fits == 0


def test_the_ledger_with_nothing_is_the_class_frequencies(fitted, gaps):
    said = predict_subsets(fitted, [[]])
    assert_allclose(said.of([]), 1 / 3, atol=0.02)  # of each fold


def test_the_ledger_of_one_modality_is_that_of_a_model_that_knows_it_alone(gaps):
    X, y = gaps
    both = DecisionFusionClassifier(HEAD, cv=3, joint=False, calibration=None).fit(X, y)
    said = predict_subsets(both, [["image"]]).of(["image"])
    truth = np.searchsorted(both.classes_, y)
    alone = both.oof_predictions_[both.member_names_.index("image")]
    # The pool may sharpen the member; which rows it gets right does not change.
    assert (said.argmax(axis=1) == alone.argmax(axis=1)).mean() > 0.95
    assert row_values(said, truth, "accuracy").mean() > 0.5


def test_asking_the_ledger_fits_nothing(fitted, monkeypatch):
    monkeypatch.setattr(LogisticRegression, "fit", lambda *_, **__: pytest.fail("a head was fitted"))
    predict_subsets(fitted, all_subsets(list(fitted.blocks_)))


def test_hiding_a_modality_is_leaving_its_columns_empty(fitted, gaps):
    X, y = gaps
    said = predict_subsets(fitted, [["image"], ["image", "text", "audio"]], X, y, as_deployed=True)
    hidden = X.copy()
    hidden[[c for c in X if not c.startswith("image")]] = np.nan
    assert_allclose(said.of(["image"]), fitted.predict_proba(hidden))
    assert_allclose(said.of(list(fitted.blocks_)), fitted.predict_proba(X))
    assert said.method == "predict"


@pytest.fixture(scope="module")
def puzzle():
    X, y = make_puzzle()
    heads = {**dict.fromkeys(["image", "text", "audio"], HEAD), "joint": SVC(C=10)}
    return X[:160], y[:160], X[160:], y[160:], DecisionFusionClassifier(heads, cv=3).fit(X[:160], y[:160])


def loss_without(said, names, name):
    values = row_values(said.predictions, said.y, "log_loss").mean(axis=1)
    place = [set(s) for s in said.subsets].index(set(names) - {name})
    return values[[set(s) for s in said.subsets].index(set(names))] - values[place]


def test_noise_gets_no_credit_for_what_the_joint_member_knows(puzzle):
    X, y, X_new, y_new, model = puzzle
    names = list(model.blocks_)
    told = {}
    for method, args in (("predict", (X_new, y_new)), ("refit", (X, y)), ("ledger", ())):
        said = predict_subsets(model, all_subsets(names), *args, method=method, cv=3)
        told[method] = [loss_without(said, names, name) for name in names]
    for method in ("predict", "refit"):
        assert min(told[method][:2]) > 0.2 and told[method][2] < 0.1, told
    # The ledger cannot tell whose merit the joint member is; it leaves it out and says what it adds.
    assert np.abs(told["ledger"]).max() < 0.1
    assert said.joint_gain[1] > 0.2 and "adds 0." in said.notes[-1] and "refit" in said.notes[-1]


def test_a_missing_modality_takes_the_joint_member_with_it_as_it_does_in_use(puzzle):
    _, _, X_new, y_new, model = puzzle
    names = list(model.blocks_)
    said = predict_subsets(model, all_subsets(names), X_new, y_new, as_deployed=True)
    assert loss_without(said, names, "audio") > 0.2


def test_rows_of_fit_given_as_new_are_told(puzzle):
    X, y, X_new, y_new, model = puzzle
    assert "the model was fitted on them" in predict_subsets(model, [["image"]], X, y).notes[0]
    assert "X must be new" in predict_subsets(model, [["image"]], X_new, y_new).notes[0]


def test_class_weights_do_not_count_in_scores(gaps):
    X, y = gaps
    model = DecisionFusionClassifier(HEAD, cv=3, class_weight={"class 0": 9.0}).fit(X, y)
    said = predict_subsets(model, [["image"]])
    assert said.sample_weight is None and not any("weight" in note for note in said.notes)
    own = np.where(y == "class 0", 2.0, 1.0)
    said = predict_subsets(DecisionFusionClassifier(HEAD, cv=3).fit(X, y, sample_weight=own), [["image"]])
    assert_allclose(said.sample_weight, own)
    assert said.notes[0] == "Rows are weighted with their sample_weight in fit."


def test_a_refit_that_cannot_leave_a_modality_out_is_an_error(gaps):
    X, y = gaps
    X = X.fillna(0)
    model = make_pipeline(StandardScaler().set_output(transform="pandas"), DecisionFusionClassifier(HEAD, cv=3))
    with pytest.raises(ValueError, match=r"cannot leave out \['audio', 'text'\]"):
        predict_subsets(model.fit(X, y), [["image"]], X, y, method="refit", cv=2)


def test_a_refit_of_a_search_and_of_a_wrapper_is_one_of_what_they_hold(gaps):
    X, y = gaps
    named = DecisionFusionClassifier({"image": HEAD, "text": HEAD, "audio": HEAD}, cv=3, joint=False)
    for model in (FusionSearchCV({"named": named}, cv=3), ConformalFusionClassifier(named)):
        said = predict_subsets(model.fit(X, y), [["image"], ["audio"]], X, y, method="refit", cv=2)
        bare = predict_subsets(named.fit(X, y), [["image"], ["audio"]], X, y, method="refit", cv=2)
        assert_allclose(said.predictions, bare.predictions)


def test_a_refit_of_all_modalities_is_an_ordinary_cross_validation(gaps):
    X, y = gaps
    model = FeatureFusionClassifier(HEAD).fit(X, y)
    said = predict_subsets(model, [["image"], ["image", "text", "audio"], []], X, y, method="refit", cv=3)
    assert said.n_fits == 6
    right = {s: row_values(said.of(s), said.y, "accuracy").mean() for s in said.subsets}
    assert right["image", "text", "audio"] > right[("image",)] > right[()]


def test_a_refit_of_a_pipeline_drops_the_encoder(gaps):
    df = pd.DataFrame({"title": ["a", "bb"] * 20, "price": np.random.default_rng(0).normal(size=40)})
    y = np.tile([0, 1], 20)
    modalities = [("text", FunctionEncoder(lambda title: [len(title)]), "title"), ("tabular", "passthrough", ["price"])]
    estimators = {"text": LogisticRegression(), "tabular": LogisticRegression()}
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(estimators, cv=2)).fit(df, y)
    said = predict_subsets(model, [["text"], ["tabular"]], df, y, method="refit", cv=2)
    right = row_values(said.predictions, said.y, "accuracy").mean(axis=1)
    assert right[0] == 1 and right[1] < 0.8  # the price is noise
    assert FittedModel(model).columns == {"text": ["title"], "tabular": ["price"]}


def test_blocks_of_an_array_are_refitted_by_name():
    X, y = make_blocks(n=90)
    blocks = {"left": slice(0, 6), "right": slice(6, 13)}
    model = DecisionFusionClassifier({"left": HEAD, "right": HEAD}, cv=3, blocks=blocks).fit(X.to_numpy(), y)
    said = predict_subsets(model, [["left"], ["right"]], X.to_numpy(), y, method="refit", cv=3)
    alone = predict_subsets(
        DecisionFusionClassifier(HEAD, cv=3).fit(X.iloc[:, :6], y), [["image"]], X.iloc[:, :6], y, method="refit", cv=3
    )
    assert_allclose(said.of(["left"]), alone.of(["image"]), atol=1e-6)


def test_searches_and_wrappers_are_looked_into(gaps):
    X, y = gaps
    candidates = {"hybrid": DecisionFusionClassifier(HEAD, cv=3)}
    assert FittedModel(FusionSearchCV(candidates, cv=3).fit(X, y)).has_ledger
    assert FittedModel(ConformalFusionClassifier(DecisionFusionClassifier(HEAD, cv=3)).fit(X, y)).has_ledger
    grid = GridSearchCV(DecisionFusionClassifier(HEAD, cv=3), {"joint": [False]}, cv=2).fit(X, y)
    assert FittedModel(grid).names == ["image", "text", "audio"]
    with pytest.raises(TypeError, match=r"must be a fusion estimator.*LogisticRegression"):
        FittedModel(LogisticRegression().fit(X.fillna(0), y))


def test_rows_of_several_test_folds_have_the_mean(gaps):
    X, y = gaps
    model = DecisionFusionClassifier(HEAD, cv=RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0)).fit(
        X, y
    )
    said = predict_subsets(model, [["image"]])
    assert_allclose(said.of(["image"]).sum(axis=1), 1)
    assert len(said.rows) == len(X)


def test_a_dropped_block_and_a_regression():
    X, _ = make_blocks(n=80)
    y = X["image__0"].to_numpy() + X["text__0"].to_numpy()
    model = DecisionFusionRegressor({"image": Ridge(), "text": Ridge(), "audio": "drop"}, cv=3, joint=False).fit(X, y)
    said = predict_subsets(model, all_subsets(["image", "text"]))
    score = dict(zip(said.subsets, row_values(said.predictions, said.y, "squared_error").mean(axis=1), strict=True))
    assert score["image", "text"] > score[("image",)] > score[()]
    assert said.of([]).std() < 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "guess"}, "method must be one of"),
        ({"subsets": [["smell"]]}, "no modality \\['smell'\\]"),
        ({"method": "refit"}, "needs X and y"),
        ({"method": "ledger", "X": [[1]], "y": [0]}, "takes no X and y"),
        ({"model": "feature"}, "FeatureFusionClassifier keeps no out-of-fold predictions"),
    ],
)
def test_a_wrong_question_says_what_to_do(fitted, gaps, change, message):
    model = FeatureFusionClassifier(HEAD).fit(*gaps) if change.pop("model", None) else fitted
    with pytest.raises(ValueError, match=message):
        predict_subsets(model, change.pop("subsets", [["image"]]), **change)


def test_a_label_that_the_model_never_saw_is_named(fitted, gaps):
    with pytest.raises(ValueError, match=r"y holds \['class 9'\], which the model never saw"):
        predict_subsets(fitted, [["image"]], gaps[0], np.where(gaps[1] == "class 0", "class 9", gaps[1]))


@pytest.mark.parametrize("lost", [None, np.nan, pd.NA])
def test_rows_without_a_label_are_named(fitted, gaps, lost):
    y = gaps[1].astype(object)
    y[[3, 7]] = lost
    for given in (y, y.tolist(), pd.Series(y)):
        with pytest.raises(ValueError, match=r"y is missing in 2 of 120 rows \(positions \[3, 7\]\); leave these"):
            FittedModel(fitted).encode_labels(given)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"y is missing in 7 of 120 rows \(positions \[0, 1, 2, 3, 4\], ...\)"),
        (-np.inf, "y is infinite in 7 of 120 rows"),
        ("low", r"y must hold numbers for a regressor; it holds 'low' in 7 of 120 rows"),
    ],
)
def test_a_target_of_regression_that_is_no_number_is_named(gaps, value, message):
    X, y = gaps[0], np.arange(120.0)
    model = DecisionFusionRegressor(Ridge(), cv=3).fit(X, y)
    with pytest.raises(ValueError, match=message):
        modality_shapley(model, X, [value] * 7 + y[7:].tolist())


def test_a_target_of_several_columns_is_refused(fitted, gaps):
    with pytest.raises(ValueError, match=r"y must hold one value per row; got shape \(120, 2\)"):
        FittedModel(fitted).encode_labels(np.column_stack([gaps[1], gaps[1]]))
    assert len(FittedModel(fitted).encode_labels(gaps[1][:, None])) == 120


def test_what_predictions_are_worth():
    P, y = np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0, 0])
    assert_allclose(row_values(P, y, "log_loss"), np.log([0.8, 0.4]))
    assert_allclose(row_values(P, y, "accuracy"), [1, 0])
    assert_allclose(row_values(P, y, "brier"), [-0.08, -0.72])
    assert_allclose(row_values(np.array([1.0, 3.0]), np.array([1.0, 1.0]), "squared_error"), [0, -4])
    with pytest.raises(ValueError, match="metric must be one of"):
        row_values(P, y, "squared_error")


def test_the_interval_of_the_joint_gain_draws_whole_groups():
    """Rows that are copies of one another are no evidence of their own."""
    X, y = make_puzzle(120)
    X, y = pd.concat([X] * 4, ignore_index=True), np.tile(y, 4)
    model = DecisionFusionClassifier(RandomForestClassifier(20, random_state=0), cv=3).fit(X, y)
    rows, groups = modality_ablation(model).joint_gain, modality_ablation(model, groups=np.arange(480) % 120).joint_gain
    assert rows[0] == groups[0]
    assert groups[2] - groups[1] > 1.5 * (rows[2] - rows[1])


def test_the_interval_of_the_joint_gain_has_the_level_that_is_asked_for():
    X, y = make_puzzle(120)
    model = DecisionFusionClassifier(RandomForestClassifier(20, random_state=0), cv=3).fit(X, y)
    wide, narrow = (modality_ablation(model, confidence_level=level).joint_gain for level in (0.99, 0.5))
    assert wide[0] == narrow[0] and wide[1] < narrow[1] < narrow[2] < wide[2]
