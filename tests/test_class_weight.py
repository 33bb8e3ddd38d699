"""Weights of classes, of a fusion and of its heads: names of classes that a fold lacks, and names that are wrong."""

import numpy as np
import pandas as pd
import pytest
from conftest import every_pair, make_blocks
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ensemblefuse import (
    CascadeFusionClassifier,
    ConformalFusionClassifier,
    DecisionFusionClassifier,
    FeatureFusionClassifier,
    FusionSearchCV,
    SequentialFusionClassifier,
    compare_models,
)

LR = LogisticRegression()


@pytest.fixture
def recalled():
    """60 rows; the only one of the class "recall" is in one fold of three."""
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 2, 60)
    y = np.where(np.arange(60) == 8, "recall", np.array(["good", "worn"])[codes])
    return pd.DataFrame({f"{b}__{i}": rng.normal(size=60) + codes for b in ("image", "text") for i in range(2)}), y


ALL_WEIGHTS = {"good": 1, "worn": 2, "recall": 25}
ONE_WEIGHT = {"recall": 25}


def heads_with(weights):
    head = LogisticRegression(class_weight=weights)
    return {
        "in a pipeline": DecisionFusionClassifier(make_pipeline(StandardScaler(), head), cv=3),
        "in a list": DecisionFusionClassifier([head, SVC(class_weight=weights)], cv=3),
        "in a dict": DecisionFusionClassifier({"image": RidgeClassifier(class_weight=weights), "joint": head}, cv=3),
        "in a vote": DecisionFusionClassifier(VotingClassifier([("a", head), ("b", LR)], voting="soft"), cv=3),
        "in a search": DecisionFusionClassifier(GridSearchCV(head, {"C": [0.1, 1.0]}, cv=KFold(2)), cv=3),
        "in a grid": DecisionFusionClassifier(GridSearchCV(LR, {"class_weight": [weights, None]}, cv=KFold(2)), cv=3),
        "of a transformer": FeatureFusionClassifier(LR, transformer=SelectFromModel(head, max_features=2)),
        "of a nested fusion": DecisionFusionClassifier({"joint": DecisionFusionClassifier([head, LR], cv=2)}, cv=3),
        "of a stage": SequentialFusionClassifier(head, cv=3),
        "of a cascade": CascadeFusionClassifier(head, cv=3),
    }


OWN_WEIGHTS = {
    "decision": DecisionFusionClassifier(LR, cv=3),
    "feature": FeatureFusionClassifier(LR),
    "default head": FeatureFusionClassifier(cv=3),
    "reduced": FeatureFusionClassifier(LR, missing="reduced"),
}


@pytest.mark.by_turns
@pytest.mark.parametrize("name, weights", every_pair(heads_with(None), [ALL_WEIGHTS, ONE_WEIGHT]))
def test_no_fold_is_lost_for_a_class_weight_of_a_head(recalled, name, weights):
    assert np.isfinite(cross_val_score(heads_with(weights)[name], *recalled, cv=KFold(3), error_score="raise")).all()


@pytest.mark.by_turns
@pytest.mark.parametrize("name", OWN_WEIGHTS)
def test_no_fold_is_lost_for_a_class_weight_of_a_fusion(recalled, name):
    fusion = clone(OWN_WEIGHTS[name])
    lacks = {"cv": KFold(3), "error_score": "raise"}
    assert np.isfinite(cross_val_score(fusion.set_params(class_weight=ALL_WEIGHTS), *recalled, **lacks)).all()
    with pytest.warns(UserWarning, match=r"class_weight names classes that y does not hold: \['recall'\]"):
        scores = cross_val_score(fusion.set_params(class_weight=ONE_WEIGHT), *recalled, **lacks)
    assert np.isfinite(scores).all()
    search = FusionSearchCV({"own": fusion.set_params(class_weight=ALL_WEIGHTS)}, cv=3).fit(*recalled)
    assert np.isfinite(search.fold_scores_["own"]).all()
    conformal = ConformalFusionClassifier(fusion, cv=3)
    assert np.isfinite(cross_val_score(conformal, *recalled, **lacks)).all()


FUSIONS = [FeatureFusionClassifier(LR), DecisionFusionClassifier(LR, cv=3)]


@pytest.mark.parametrize("fusion", FUSIONS, ids=["early", "late"])
def test_a_weight_of_an_absent_class_changes_nothing(recalled, fusion):
    X, y = (part[9:] for part in recalled)
    named = clone(fusion).set_params(class_weight=ALL_WEIGHTS).fit(X, y)
    without = clone(fusion).set_params(class_weight={"good": 1, "worn": 2}).fit(X, y)
    assert_allclose(named.predict_proba(X), without.predict_proba(X))


@pytest.mark.parametrize("fusion", FUSIONS, ids=["early", "late"])
def test_a_misspelt_class_of_class_weight_is_told(fusion):
    X, y = make_blocks()
    with pytest.warns(UserWarning, match=r"class_weight names classes that y does not hold: \['elk'\]"):
        clone(fusion).set_params(class_weight={"elk": 2}).fit(X, y)
    codes = np.unique(y, return_inverse=True)[1]
    for labels, weights in ((codes, {"0": 2.0}), (y, {0: 2.0}), (codes.astype(float), {"0.0": 1})):
        with pytest.raises(ValueError, match=r"class_weight names the class .* but the classes in y are of type"):
            clone(fusion).set_params(class_weight=weights).fit(X, labels)
        head = LogisticRegression(class_weight=weights)
        with pytest.raises(ValueError, match="class_weight names the class"):
            DecisionFusionClassifier(make_pipeline(StandardScaler(), head), cv=3).fit(X, labels)
    numpys = clone(fusion).set_params(class_weight={np.int64(k): 1.0 + k for k in range(3)}).fit(X, codes)
    plain = clone(fusion).set_params(class_weight={k: 1.0 + k for k in range(3)}).fit(X, codes)
    assert_allclose(numpys.predict_proba(X), plain.predict_proba(X))


def test_a_comparison_of_models_ends(recalled):
    models = {
        "own": DecisionFusionClassifier(LR, class_weight=ALL_WEIGHTS),
        "head": heads_with(ALL_WEIGHTS)["in a list"],
    }
    assert np.isfinite(compare_models(models, *recalled, cv=3)).all(axis=None)


def test_a_weight_in_the_grid_of_a_search_is_that_of_the_class(recalled):
    X, y = (part[9:] for part in recalled)
    weights = {"good": 1.0, "worn": 9.0}
    grids = [{"class_weight": [weights]}], {"class_weight": (weights,), "C": [1.0]}
    plain = FeatureFusionClassifier(LogisticRegression(class_weight=weights)).fit(X, y)
    for grid in grids:
        search = FeatureFusionClassifier(GridSearchCV(LR, grid, cv=3)).fit(X, y)
        assert_allclose(search.predict_proba(X), plain.predict_proba(X))


def test_the_weights_inside_one_vs_rest_are_those_of_0_and_1():
    X, y = make_blocks(widths={"image": 6})
    heads = [OneVsRestClassifier(LogisticRegression(class_weight=weights)) for weights in ({0: 1.0, 1: 5.0}, None)]
    weighted, plain = (DecisionFusionClassifier(head, cv=3).fit(X, y)._outputs(X)[0][0] for head in heads)
    assert_allclose(weighted, heads[0].fit(X.to_numpy(), y).predict_proba(X.to_numpy()), atol=1e-6)
    assert not np.allclose(weighted, plain, atol=0.02)
