"""scikit-learn's estimators around a pipeline of modalities, or around a fusion: they work, or say why not."""

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FunctionEncoder,
    MissingModalityWarning,
    make_fusion_pipeline,
)

LR = LogisticRegression()
FUSION = DecisionFusionClassifier(LR, cv=3)
BLOCKS = {"image": range(6), "text": range(6, 10), "audio": range(10, 13)}


def table(n=40):
    y = np.array(["cat", "dog"])[np.arange(n) % 2]
    X = pd.DataFrame({"title": ["x" * (3 + 2 * (i % 2) + i % 5) for i in range(n)], "price": np.arange(n) % 7 / 7})
    X.loc[2, "price"] = None
    return X, y


def numbers():
    X, y = table()
    return X.assign(title=np.arange(len(X), dtype=float)).fillna({"price": 0.0}), y


def pipeline(text=None, column="title", fusion=FUSION):
    text = FunctionEncoder(len) if text is None else text
    return make_fusion_pipeline([("text", text, column), ("tabular", "passthrough", ["price"])], fusion)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "around",
    [
        lambda model: VotingClassifier([("a", model), ("b", model)], voting="soft"),
        lambda model: StackingClassifier([("a", model)], cv=3),
        lambda model: OneVsRestClassifier(model),
        lambda model: CalibratedClassifierCV(model, cv=2),
    ],
    ids=["voting", "stacking", "one-vs-rest", "calibrated"],
)
def test_estimators_that_hand_tables_on_work_around_a_pipeline(around):
    X, y = table()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = around(pipeline()).fit(X, y)
    assert np.mean(model.predict(X) == y) > 0.6


def test_a_target_may_be_transformed_around_a_pipeline():
    X, _ = table()
    y = np.exp(X["title"].str.len())
    model = pipeline(fusion=DecisionFusionRegressor(Ridge(), cv=3))
    assert TransformedTargetRegressor(model, func=np.log, inverse_func=np.exp).fit(X, y).score(X, y) > 0.8


@pytest.mark.parametrize(
    ("around", "error", "match"),
    [
        (BaggingClassifier, TypeError, "without names of columns.*use them inside the fusion"),
        (SelfTrainingClassifier, TypeError, "without names of columns.*use them inside the fusion"),
        (AdaBoostClassifier, ValueError, "doesn't support sample_weight"),
    ],
)
def test_estimators_that_hand_arrays_on_are_refused_around_a_pipeline(around, error, match):
    X, y = numbers()
    if around is SelfTrainingClassifier:
        y = np.where(np.arange(len(y)) < 3, -1, np.arange(len(y)) % 2)
    with pytest.raises(error, match=match):
        around(pipeline("passthrough", ["title"])).fit(X, y)


def test_an_array_is_refused_at_prediction_too():
    X, y = table()
    with pytest.raises(TypeError, match="without names of columns"):
        pipeline().fit(X, y).predict(X.to_numpy())


def test_a_stack_that_passes_its_table_through_has_no_modalities_at_its_end():
    X, y = numbers()
    first = pipeline("passthrough", ["title"])
    with pytest.raises(TypeError, match=r"StackingClassifier\(passthrough=True\)"):
        StackingClassifier([("a", first)], clone(first), cv=3, passthrough=True).fit(X, y)
    with pytest.warns(MissingModalityWarning, match="all 3 columns are one block"):
        StackingClassifier([("a", first)], clone(FUSION), cv=3, passthrough=True).fit(X, y)
    assert StackingClassifier([("a", first)], cv=3, passthrough=True).fit(X, y).predict(X).shape == y.shape


@pytest.mark.by_turns
@pytest.mark.parametrize(
    ("around", "fusion"),
    [
        (BaggingClassifier(n_estimators=2), FUSION),
        (AdaBoostClassifier(n_estimators=2), FUSION),
        (SelfTrainingClassifier(LR), FUSION),
        (BaggingRegressor(n_estimators=2), DecisionFusionRegressor(Ridge(), cv=3)),
        (AdaBoostRegressor(n_estimators=2), DecisionFusionRegressor(Ridge(), cv=3)),
        (make_pipeline(StandardScaler(), LR), FUSION),
    ],
    ids=lambda v: type(v).__name__,
)
def test_around_a_fusion_they_say_that_all_is_one_block_unless_the_blocks_are_named(around, fusion):
    X, y = make_blocks(60, n_classes=2)
    y = X["image__0"].to_numpy() if isinstance(fusion, DecisionFusionRegressor) else y
    if isinstance(around, SelfTrainingClassifier):
        y = np.where(np.arange(60) < 5, -1, y == "class 1")
    inner = "logisticregression" if hasattr(around, "steps") else "estimator"
    with pytest.warns(MissingModalityWarning, match=r"all 13 columns are one block.*blocks="):
        clone(around).set_params(**{inner: clone(fusion)}).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = clone(around).set_params(**{inner: clone(fusion).set_params(blocks=BLOCKS)}).fit(X, y)
        assert named.predict(X).shape == y.shape
    last = named[-1] if hasattr(named, "steps") else getattr(named, "estimators_", [getattr(named, "estimator_", 0)])[0]
    assert list(last.blocks_) == list(BLOCKS)


def test_inside_a_fusion_nobody_is_warned():
    X, y = make_blocks(60, n_classes=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heads = {"image": BaggingClassifier(LR, n_estimators=2), "text": FeatureFusionClassifier(LR)}
        model = DecisionFusionClassifier({**heads, "joint": FeatureFusionClassifier(LR)}, cv=3).fit(X, y)
        FeatureFusionClassifier(LR).fit(X[["text__0"]].to_numpy(), y)  # one column is one block anyway
    assert np.mean(model.predict(X) == y) > 0.7
