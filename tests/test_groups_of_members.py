"""Groups reach every member whose fit takes them, so that folds inside an estimator keep them together."""

import numpy as np
import pytest
from conftest import make_blocks
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ensemblefuse import DecisionFusionClassifier, FeatureFusionClassifier, FusionSearchCV
from ensemblefuse._fitting import fit_estimator

GROUPS = np.arange(24) // 3


class Told(ClassifierMixin, BaseEstimator):
    """Remembers what fit was given, and predicts the first class."""

    def fit(self, X, y, sample_weight=None, groups=None):
        self.classes_, self.groups_, self.weight_ = np.unique(y), groups, sample_weight
        return self

    def predict(self, X):
        return np.repeat(self.classes_[:1], len(X))

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


class GroupMean(TransformerMixin, BaseEstimator):
    """A step before the last that would take groups, too."""

    def fit(self, X, y=None, groups=None):
        self.groups_ = groups
        return self

    def transform(self, X):
        return X


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("weight", [None, np.arange(1.0, 25.0)])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_last_step_gets_groups_and_weights(depth, weight, routing):
    X, y = make_blocks(n=24)
    model = Told()
    for _ in range(depth):
        model = make_pipeline(GroupMean(), model)
    with config_context(enable_metadata_routing=routing):
        fitted, weighted = fit_estimator(model, X.to_numpy(), y, weight, GROUPS)
    assert weighted
    while hasattr(fitted, "steps"):
        assert fitted[0].groups_ is None
        fitted = fitted[-1]
    assert_array_equal(fitted.groups_, GROUPS)
    assert (fitted.weight_ is None) == (weight is None)
    assert not hasattr(fitted, "_metadata_request")


def test_an_estimator_without_groups_and_one_that_refuses_them_get_none():
    X, y = make_blocks(n=24)
    plain = make_pipeline(StandardScaler(), LogisticRegression())
    assert_array_equal(
        fit_estimator(plain, X.to_numpy(), y, None, GROUPS)[0][-1].coef_,
        fit_estimator(plain, X.to_numpy(), y, None)[0][-1].coef_,
    )
    with config_context(enable_metadata_routing=True):
        refusing = Told().set_fit_request(groups=False)
    assert fit_estimator(refusing, X.to_numpy(), y, None, GROUPS)[0].groups_ is None


def test_members_get_the_groups_of_their_rows():
    X, y = make_blocks(n=24, n_classes=2)
    heads = {"image": make_pipeline(StandardScaler(), Told()), "text": Told(), "joint": Told()}
    model = DecisionFusionClassifier({**heads, "audio": "drop"}, cv=2).fit(X, y, groups=GROUPS)
    for name in ("image", "text", "joint"):
        fitted = model.estimators_[name]
        while hasattr(fitted, "steps"):
            fitted = fitted[-1]
        assert_array_equal(fitted.groups_, GROUPS, err_msg=name)


@pytest.mark.parametrize("missing", ["impute", "dropout"])
def test_feature_level_fusion_hands_them_on(missing):
    X, y = make_blocks(n=24, n_classes=2)
    X.loc[5] = np.nan
    model = FeatureFusionClassifier(Told(), missing=missing, random_state=0).fit(X, y, groups=GROUPS)
    held = np.delete(GROUPS, 5)
    expected = held if missing == "impute" else np.tile(held, 4)
    assert_array_equal(model.estimator_.groups_, expected)


def test_a_search_hands_them_to_the_candidate_that_it_keeps():
    X, y = make_blocks(n=24, n_classes=2)
    search = FusionSearchCV({"told": make_pipeline(GroupMean(), Told())}, cv=2, refit="all").fit(X, y, groups=GROUPS)
    assert_array_equal(search.estimators_["told"][-1].groups_, GROUPS)


def test_a_fusion_as_a_member_still_gets_them(monkeypatch):
    X, y = make_blocks(n=24, n_classes=2)
    seen = []
    original = FeatureFusionClassifier.fit

    def fit(self, X, y, sample_weight=None, groups=None):
        seen.append(groups)
        return original(self, X, y, sample_weight=sample_weight, groups=groups)

    monkeypatch.setattr(FeatureFusionClassifier, "fit", fit)
    early = FeatureFusionClassifier(LogisticRegression())
    DecisionFusionClassifier({"joint": early}, cv=2, effort="low").fit(X, y, groups=GROUPS)
    assert all(groups is not None for groups in seen)
    assert_array_equal(seen[-1], GROUPS)
