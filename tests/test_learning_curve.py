"""Score and seconds of a fit as the rows grow."""

import time

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn import config_context, model_selection
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from test_encoder_base import CountingEncoder

import ensemblefuse
from ensemblefuse import (
    DecisionFusionClassifier,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    LearningCurveDisplay,
    learning_curve,
    make_fusion_pipeline,
)
from ensemblefuse.evaluation._learning_curve import _power_law
from ensemblefuse.fusion.splits import make_splits

MODEL = FeatureFusionClassifier(LogisticRegression())


@pytest.fixture(scope="module")
def curve():
    X, y = make_blocks(n=120, noise=2.0)
    return learning_curve(MODEL, X, y, train_sizes=[15, 40, 80], cv=3)


def test_scores_are_those_of_scikit_learn(curve):
    X, y = make_blocks(n=120, noise=2.0)
    cv = make_splits(3, np.unique(y, return_inverse=True)[1], None, classify=True)
    expected = model_selection.learning_curve(
        MODEL, X, y, train_sizes=[15, 40, 80], cv=cv, scoring="neg_log_loss", shuffle=True, random_state=0
    )
    assert_allclose(curve.fold_scores.T, expected[2])
    assert_allclose(curve.table["score"], expected[2].mean(axis=1))
    assert_allclose(curve.table["in_sample_score"], expected[1].mean(axis=1))
    assert curve.table.index.tolist() == [15, 40, 80]


def test_more_rows_help_and_the_score_in_sample_is_the_better_one(curve):
    assert curve.table["score"].is_monotonic_increasing
    assert (curve.table["in_sample_score"] > curve.table["score"]).all()


class SquareTime(ClassifierMixin, BaseEstimator):
    """Waits as long as the square of the rows asks."""

    def fit(self, X, y):
        time.sleep(1e-5 * len(X) ** 2)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def test_the_exponent_of_the_cost():
    sizes = np.array([10, 100, 1000])
    slope, error = _power_law(sizes, 3e-6 * sizes[:, None] ** 1.5 * np.ones((3, 4)))
    assert_allclose([slope, error], [1.5, 0], atol=1e-6)
    assert np.isnan(_power_law([10], np.ones((1, 3)))).all()
    X, y = make_blocks(n=150)
    curve = learning_curve(SquareTime(), X.to_numpy(), y, train_sizes=[50, 100], cv=3, scoring="accuracy")
    # No bounds: a busy machine waits longer than it was asked to. The exponent is that of the seconds in the table.
    ratio = curve.table.loc[100, "fit_seconds"] / curve.table.loc[50, "fit_seconds"]
    assert_allclose(curve.cost_exponent, np.log2(ratio), rtol=0.3)
    assert curve.cost_exponent > 0
    assert "From 50 to 100 rows the seconds of a fit grow as n to the power of" in curve.notes[-1]


class GroupsSpy(DecisionFusionClassifier):
    seen: list = []

    def fit(self, X, y, sample_weight=None, groups=None):
        self.seen.append((np.asarray(X)[:, 0], groups))
        return super().fit(X, y, sample_weight, groups)


@pytest.mark.by_turns
@pytest.mark.parametrize("routing", [False, True])
def test_groups_stay_together_and_reach_the_inner_splits_row_by_row(routing):
    X, y = make_blocks(n=60)
    patient = np.arange(60) // 3
    GroupsSpy.seen = []
    with config_context(enable_metadata_routing=routing):
        learning_curve(
            GroupsSpy(LogisticRegression(), cv=2), X, y, train_sizes=[18, 36], cv=GroupKFold(3), groups=patient
        )
    of_row = dict(zip(X.iloc[:, 0], patient, strict=True))
    assert [len(groups) for _, groups in GroupsSpy.seen] == [18, 36] * 3
    for first, groups in GroupsSpy.seen:
        assert [of_row[value] for value in first] == groups.tolist()
    with pytest.raises(ValueError, match="on both sides of a split"):
        learning_curve(MODEL, X, y, cv=StratifiedKFold(3, shuffle=True, random_state=0), groups=patient)


def test_steps_after_the_encoders_may_need_the_target_or_lack():
    X, y = make_blocks(n=60)
    for model in (
        make_pipeline(SelectKBest(f_classif, k=3), LogisticRegression()),
        make_pipeline(LogisticRegression()),
        make_pipeline(ColumnTransformer([("best", SelectKBest(k=3), list(X))]), LogisticRegression()),
    ):
        assert learning_curve(model, X, y, train_sizes=[20, 40], cv=3).table["score"].notna().all()


def test_rows_are_encoded_once_before_anything_is_timed():
    df = pd.DataFrame({"title": [f"{'x' * (i % 2)} {i}" for i in range(40)], "price": np.arange(40.0)})
    CountingEncoder.seen = []
    modalities = [("text", CountingEncoder(), "title"), ("tabular", "passthrough", ["price"])]
    model = make_fusion_pipeline(modalities, MODEL)
    y = np.arange(40) % 2
    assert learning_curve(model, df, y, train_sizes=[0.5, 1.0], cv=2).notes[:-1] == []
    assert sorted(CountingEncoder.seen) == sorted(df["title"])
    with ensemblefuse.config_context(cache=None):
        notes = learning_curve(model, df, y, train_sizes=[0.5, 1.0], cv=2).notes
    assert notes[0] == "The cache is off: the seconds of a fit include those of encoding its rows."


def test_a_small_part_may_lack_a_class_and_unequal_folds_have_equal_sizes():
    X, y = make_blocks(n=90)
    y[:2] = "rare"
    splits = [
        (np.arange(30, 90), np.arange(30)),
        (np.arange(60), np.arange(60, 90)),
        (np.arange(50), np.arange(50, 90)),
    ]
    GroupsSpy.seen = []
    curve = learning_curve(GroupsSpy(LogisticRegression(), cv=2), X, y, train_sizes=[0.4, 1.0], cv=splits)
    assert np.isfinite(curve.fold_scores).all(axis=None)
    assert sorted(len(first) for first, _ in GroupsSpy.seen) == [20] * 3 + [50] * 3


def test_regression_and_other_scores():
    X, y = make_blocks(n=60)
    number = X["image__0"] + X["text__0"]
    curve = learning_curve(FeatureFusionRegressor(Ridge()), X, number, train_sizes=[1.0], cv=3)
    assert curve.scoring == "neg_root_mean_squared_error" and np.isnan(curve.cost_exponent)
    accuracy = learning_curve(MODEL, X, y, train_sizes=[1.0], cv=3, scoring="accuracy")
    assert 0.5 < accuracy.table["score"].item() <= 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "hybrid"}, TypeError, r"model\['model'\] must be a classifier or a regressor"),
        ({"y": ["a"] * 60}, ValueError, "only one class"),
        ({"train_sizes": [500]}, ValueError, "500"),
    ],
)
def test_a_curve_that_cannot_be_drawn(arguments, error, message):
    X, y = make_blocks(n=60)
    with pytest.raises(error, match=message):
        learning_curve(arguments.pop("model", MODEL), X, arguments.pop("y", y), **{"cv": 2, **arguments})


def test_the_picture_has_two_panels(curve):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is an optional package")
    figure, pair = pyplot.subplots(1, 2)
    display = curve.plot(ax=pair)
    assert isinstance(display, LearningCurveDisplay) and display.figure_ is figure and list(display.ax_) == list(pair)
    assert_allclose(pair[0].lines[0].get_ydata(), curve.table["score"])
    assert pair[0].get_title() == "Score over 3 folds, 120 rows" and pair[1].get_ylabel() == "seconds of a fit"
    with pytest.raises(ValueError, match="two panels; ax must be a pair"):
        curve.plot(ax=pair[0])
    assert "neg_log_loss and seconds of a fit over 3 folds, 120 rows" in str(curve)
    pyplot.close("all")
