"""Groups and weights of rows, and names of metrics, which all results read alike."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression

from ensemblefuse import (
    DecisionFusionClassifier,
    FunctionEncoder,
    ModalityShapleyDisplay,
    compare_models,
    evaluate_model,
    evaluate_predictions,
    learning_curve,
    make_fusion_pipeline,
    missing_modality_curve,
    modality_ablation,
    modality_importance,
    modality_information,
    modality_interactions,
    modality_shapley,
    model_checks,
    robustness_curve,
)
from ensemblefuse.scoring.inputs import finite_numbers, read_groups, read_weight

MODEL = DecisionFusionClassifier(LogisticRegression(), cv=3)


@pytest.fixture(scope="module")
def fitted():
    X, y = make_blocks(n=90)
    return MODEL.fit(X, y), X, y


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["a", None, "b"], r"groups is missing in 1 of 3 rows \(positions \[1\]\); give each row a value"),
        ([1.0, 2.0, np.nan], r"groups is missing in 1 of 3 rows \(positions \[2\]\)"),
        (pd.Series([1, None, 2], dtype="Int64"), "groups is missing in 1 of 3 rows"),
        (["a", 1, "b"], r"groups mixes values of the types \['int', 'str'\]"),
        (["a", "b"], "groups has 2 values for the 3 rows of X"),
        (np.ones((3, 2)), r"groups must hold one value for each of the 3 rows of X; got shape \(3, 2\)"),
    ],
)
def test_groups_that_are_none_are_named(groups, message):
    with pytest.raises(ValueError, match=message):
        read_groups(groups, 3, "rows of X")


def test_groups_may_be_of_any_type_that_sorts():
    assert read_groups(None, 3) is None
    for groups in (["a", "b"], [1, 2], pd.Series(["a", "b"], dtype="category"), pd.date_range("2020", periods=2)):
        assert_array_equal(np.unique(read_groups(groups, 2)), np.unique(np.asarray(groups)))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1, None], r"sample_weight is missing in 1 of 2 rows \(positions \[1\]\)"),
        ([1, -1], r"finite numbers of at least 0; it holds -1 in 1 of 2 rows \(positions \[1\]\)"),
        ([np.inf, 1], "it holds inf in 1 of 2 rows"),
        (["1", "2"], "it holds '1' in 2 of 2 rows"),
        ([0, 0], "sample_weight is zero in every row"),
    ],
)
def test_weights_that_are_none_are_named(weight, message):
    with pytest.raises(ValueError, match=message):
        read_weight(weight, 2)


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, X, y, groups: compare_models({"one": MODEL}, X, y, groups=groups),
        lambda model, X, y, groups: evaluate_model(model, groups=groups),
        lambda model, X, y, groups: learning_curve(MODEL, X, y, groups=groups),
        lambda model, X, y, groups: modality_ablation(model, groups=groups),
        lambda model, X, y, groups: modality_ablation(model, X, y, method="refit", groups=groups),
        lambda model, X, y, groups: modality_importance(model, X, y, groups=groups),
        lambda model, X, y, groups: modality_information(model, X, y, method="refit", groups=groups),
        lambda model, X, y, groups: modality_interactions(model, groups=groups),
        lambda model, X, y, groups: modality_shapley(model, groups=groups),
        lambda model, X, y, groups: model_checks(model, X, y, groups=groups),
    ],
)
@pytest.mark.parametrize("lost", [None, np.nan])
def test_every_result_names_the_row_without_a_group(fitted, ask, lost):
    groups = np.repeat(["a", "b", "c"], 30).astype(object)
    groups[4] = lost
    with pytest.raises(ValueError, match=r"groups is missing in 1 of 90 rows \(positions \[4\]\)"):
        ask(*fitted, groups)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "ask",
    [modality_ablation, modality_interactions, modality_shapley, missing_modality_curve, modality_importance],
)
@pytest.mark.parametrize(("own", "foreign"), [("log_loss", "neg_log_loss"), ("brier", "neg_brier_score")])
def test_a_metric_may_have_the_name_of_scikit_learn(fitted, ask, own, foreign):
    model, X, y = fitted
    first, second = (ask(model, X, y, metric=name) for name in (own, foreign))
    pd.testing.assert_frame_equal(first.table, second.table)
    assert first.metric == second.metric


def test_a_metric_of_the_robustness_curve_may_have_the_name_of_scikit_learn():
    df, y = pd.DataFrame({"title": ["a cat sat", "the dogs!"] * 20}), ["cat", "dog"] * 20
    text = FunctionEncoder(lambda title: [title.count("cat"), title.count("dog")])
    model = make_fusion_pipeline([("text", text, "title")], DecisionFusionClassifier(LogisticRegression(), cv=2))
    own = {"text": {"shouted": lambda cell, severity, rng: cell.upper()}}
    ask = lambda name: robustness_curve(model.fit(df, y), df, y, corruptions=own, metric=name, severities=[1])
    assert ask("neg_log_loss").clean_score == ask("log_loss").clean_score == ask(None).clean_score


def test_predictions_made_elsewhere_need_their_labels_and_have_no_gaps():
    sure = np.tile([[0.9, 0.1], [0.1, 0.9]], (5, 1))
    said = {(): sure, ("image",): sure, ("text",): sure, ("image", "text"): sure.copy()}
    y = np.tile(["a", "b"], 5).astype(object)
    y[2] = None
    with pytest.raises(ValueError, match=r"y is missing in 1 of 10 rows \(positions \[2\]\)"):
        ModalityShapleyDisplay.from_predictions(y, said)
    with pytest.raises(ValueError, match=r"y_true is missing in 1 of 10 rows \(positions \[2\]\)"):
        evaluate_predictions(y, sure)
    said["image", "text"][4] = np.nan
    with pytest.raises(ValueError, match=r"predictions of \('image', 'text'\) are missing .* \(positions \[4\]\)"):
        ModalityShapleyDisplay.from_predictions(np.arange(10) % 2, said)


def test_groups_of_numpy_and_of_python_are_of_one_type():
    groups = np.array([1, np.int64(1), 2], dtype=object)  # as pandas.concat makes them
    assert read_groups(groups, 3).tolist() == [1, 1, 2]


def test_decimals_are_numbers_for_a_regressor():
    assert finite_numbers(np.array([Decimal("0.5"), Decimal(2)], dtype=object)).tolist() == [0.5, 2.0]
