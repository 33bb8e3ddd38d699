"""A second fit knows nothing of the first."""

import warnings

import numpy as np
import pytest
from conftest import make_blocks
from numpy.testing import assert_array_equal
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from ensemblefuse import MeanPool, fusion

LINEAR, RIDGE = LogisticRegression(), Ridge()
# Estimators of one table, which know no blocks.
BASE, FLAT = HistGradientBoostingClassifier(max_iter=5), HistGradientBoostingRegressor(max_iter=5)
DECISION = {"estimators": LINEAR}
TINY = {"decision": fusion.DecisionFusionClassifier(LINEAR), "feature": fusion.FeatureFusionClassifier(LINEAR)}
TAUGHT = {"teacher": TINY["feature"], "student": TINY["feature"], "cv": 3}

NET = {"hidden": 8, "n_members": 2, "max_epochs": 3}
# Pairs of parameters whose fits learn different attributes, or take different ways to the same ones.
PAIRS = {
    "CascadeFusionClassifier": [(DECISION, DECISION | {"combiner": MeanPool(), "order": ["audio", "text", "image"]})],
    "ConformalFusionClassifier": [({"fusion": TINY["decision"]}, {"fusion": BASE, "method": "aps", "random_state": 0})],
    "ConformalFusionRegressor": [({"fusion": fusion.DecisionFusionRegressor(RIDGE)}, {"fusion": FLAT})],
    "CooperativeClassifier": [({}, {"rho": 0.0, "alpha": 1.0, "scaling": None})],
    "CooperativeRegressor": [({}, {"rho": 0.0, "l1_ratio": 0.5, "scaling": "mfa"})],
    "CrossModalDistiller": [
        (TAUGHT, TAUGHT | {"student": fusion.NeuralFusionClassifier(**NET), "student_blocks": ["image"]}),
        (TAUGHT, TAUGHT | {"weight": 0}),
    ],
    "DecisionFusionClassifier": [
        (DECISION, DECISION | {"missing": "impute"}),
        (DECISION, DECISION | {"missing": "reduced"}),
        (DECISION, DECISION | {"combiner": MeanPool(), "calibration": "sigmoid"}),
        (DECISION, DECISION | {"refit": False, "joint": False}),
        (DECISION, {"estimators": {"image": [LINEAR, LogisticRegression(C=0.1)], "text": "drop", "audio": LINEAR}}),
    ],
    "DecisionFusionRegressor": [
        ({"estimators": RIDGE}, {"estimators": RIDGE, "missing": "impute"}),
        ({"estimators": RIDGE}, {"estimators": RIDGE, "combiner": MeanPool(), "refit": False, "joint": False}),
    ],
    "FeatureFusionClassifier": [
        ({"estimator": LINEAR}, {"estimator": LINEAR, "missing": "reduced"}),
        ({}, {"estimator": LINEAR, "scaling": None}),
    ],
    "FeatureFusionRegressor": [
        ({"estimator": RIDGE}, {"estimator": RIDGE, "missing": "reduced"}),
        ({}, {"estimator": RIDGE, "scaling": None}),
    ],
    "FusionSearchCV": [
        ({"candidates": TINY}, {"candidates": TINY, "refit": "all"}),
        ({"candidates": TINY}, {"candidates": {"ridge": fusion.DecisionFusionRegressor(RIDGE)}, "kind": "regressor"}),
    ],
    "KernelFusionClassifier": [({}, {"kernel": "linear", "weights": "cka"}), ({}, {"combine": "product", "C": 1.0})],
    "KernelFusionRegressor": [({}, {"kernel": "linear", "weights": "cka"}), ({}, {"combine": "product", "alpha": 1.0})],
    "NeuralFusionClassifier": [(NET, {**NET, "fusion": "attention", "early_stopping": True, "cv": 3})],
    "NeuralFusionRegressor": [(NET, {**NET, "fusion": "late", "early_stopping": True, "cv": 3})],
    "SequentialFusionClassifier": [({}, {"estimators": RIDGE, "order": ["audio", "text", "image"]})],
    "SequentialFusionRegressor": [({}, {"estimators": RIDGE, "learning_rate": 0.5})],
}
# A part with nothing to forget, and one that learns tables (test_neural_multitask).
APART = {"LogTargetRegressor", "NeuralFusionMultiTask"}
# Each pair in both orders, of which the second is slow.
ORDERED = [
    pytest.param(name, *turned, id=f"{name}-{i}{order}", marks=marks)
    for name, pairs in PAIRS.items()
    for i, pair in enumerate(pairs)
    for order, turned, marks in (("", pair, []), (" turned", pair[::-1], pytest.mark.slow))
]


def test_every_fusion_is_in_the_table():
    assert sorted(PAIRS) == sorted(set(fusion.__all__) - APART)


def told(model, X):
    methods = ("predict", "predict_proba", "decision_function", "predict_set", "predict_interval", "predict_stage")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: getattr(model, name)(X) for name in methods if hasattr(model, name)}


@pytest.mark.by_turns
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "first", "second"), ORDERED)
def test_a_fit_after_another_with_other_parameters_is_a_first_fit(name, first, second):
    X, labels = make_blocks(n=60)
    X.loc[::5, [c for c in X.columns if c.startswith("text__")]] = np.nan
    numbers = X.fillna(0.0).to_numpy().sum(axis=1)

    def fit(model, params):
        regressor = name.endswith("Regressor") or params.get("kind") == "regressor"
        return model.fit(X, numbers if regressor else labels)

    fresh = fit(getattr(fusion, name)(**second), second)
    again = fit(getattr(fusion, name)(**first), first)
    defaults = getattr(fusion, name)().get_params(deep=False)
    again = fit(again.set_params(**{**defaults, **second}), second)
    assert sorted(vars(again)) == sorted(vars(fresh))
    expected = told(fresh, X)
    for method, values in told(again, X).items():
        assert_array_equal(values, expected.pop(method), err_msg=method)
    assert not expected
