"""Distillation: what the student learns from, that the teacher knows no row that it predicts, and the plain case."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_blocks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier, is_regressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from ensemblefuse import (
    CrossModalDistiller,
    DecisionFusionClassifier,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    NeuralFusionClassifier,
    load_model,
    save_model,
)
from ensemblefuse.fusion._soft_labels import soften
from ensemblefuse.fusion.splits import make_splits
from ensemblefuse.testing import check_no_leakage
from ensemblefuse.training.losses import cross_entropy, distillation

LR = LogisticRegression()
TEACHER = FeatureFusionClassifier(LR)
NET = NeuralFusionClassifier("concat", hidden=8, n_members=2, max_epochs=5)


@pytest.fixture(scope="module")
def table():
    return make_blocks(n=60, widths={"image": 3, "text": 3})


def own(X, *names):
    return X[[c for c in X if c.split("__")[0] in names]]


class Seen(ClassifierMixin, BaseEstimator):
    """Remembers what it was fitted on."""

    def fit(self, X, y, sample_weight=None):
        self.X_, self.y_, self.weight_, self.classes_ = X, y, sample_weight, np.unique(y)
        return self

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


# ---------------------------------------------------------------------- the losses


def test_the_loss_of_distillation_by_hand():
    logits, taught = torch.tensor([[1.0, -1.0]]), torch.tensor([[0.7, 0.3]])
    p = np.exp([0.5, -0.5]) / np.exp([0.5, -0.5]).sum()
    expected = 4 * (0.7 * np.log(0.7 / p[0]) + 0.3 * np.log(0.3 / p[1]))
    assert distillation(logits, taught, 2.0).item() == pytest.approx(expected, abs=1e-6)
    assert distillation(2 * taught.log(), taught, 2.0).item() == pytest.approx(0, abs=1e-6)
    at_one = distillation(logits, torch.tensor([[1.0, 0.0]]), 1.0)
    assert at_one.item() == pytest.approx(cross_entropy(logits, torch.tensor([[1.0, 0.0]])).item())
    assert_allclose(soften(np.array([[0.8, 0.2]]), 2.0), [[2 / 3, 1 / 3]])
    assert_allclose(soften(np.array([[1.0, 0.0]]), 1.0), [[1.0, 0.0]], atol=1e-12)


@pytest.mark.parametrize("student", [NET, LR], ids=["soft targets", "weights"])
def test_without_weight_it_is_the_student_alone_bit_for_bit(student, table):
    X, y = table
    weight = np.linspace(0.5, 1.5, 60)
    for given in ({}, {"sample_weight": weight}):
        alone = clone(student).fit(own(X, "image"), y, **given).predict_proba(own(X, "image"))
        model = CrossModalDistiller(TEACHER, student, ["image"], weight=0).fit(X, y, **given)
        assert_array_equal(model.predict_proba(X), alone)
        assert model.member_names_ == []
    taught = CrossModalDistiller(TEACHER, student, ["image"]).fit(X, y)
    assert (taught.predict_proba(X) != alone).any()


def test_a_student_that_takes_weights_gets_each_row_once_a_class(table):
    X, y = table
    weight = np.linspace(0.5, 1.5, 60)
    model = CrossModalDistiller(TEACHER, Seen(), ["text"], weight=0.25).fit(X, y, sample_weight=weight)
    codes = np.searchsorted(model.classes_, y)
    said = model.oof_predictions_[0]
    mixed = (0.25 * said + 0.75 * np.eye(3)[codes]) * weight[:, None]
    student = model.student_
    assert list(student.X_) == ["text__0", "text__1", "text__2"]
    assert_array_equal(student.y_, np.tile([0, 1, 2], 60))
    assert_allclose(student.weight_, mixed.ravel())
    assert_array_equal(student.X_.to_numpy(), np.repeat(own(X, "text").to_numpy(), 3, axis=0))


def test_a_network_learns_from_both_losses(table):
    """Of the teacher alone, the labels do not matter; and the more it counts, the nearer the student is to it."""
    X, y = table
    far = []
    for weight in (0.0, 0.5, 1.0):
        net = clone(NET).set_params(max_epochs=60, dropout=0.0, learning_rate=0.02)
        model = CrossModalDistiller(DecisionFusionClassifier(LR, joint=False), net, weight=weight, temperature=1.0)
        model.fit(X, y)
        teacher = CrossModalDistiller(DecisionFusionClassifier(LR, joint=False), Seen()).fit(X, y).oof_predictions_[0]
        far.append(np.abs(model.predict_proba(X) - teacher).mean())
    assert far[0] > far[1] > far[2]
    proba, other = np.full((60, 3), [0.2, 0.3, 0.5]), np.random.default_rng(0).permutation(y)
    fit = lambda y: clone(NET)._fit_soft(X, y, proba, 1.0, 2.0, None, None)
    assert all((a == b).all() for a, b in zip(fit(y).state_.values(), fit(other).state_.values(), strict=True))
    assert "_taught" not in vars(fit(y))


def test_mixup_and_early_stopping_take_soft_targets_too(table):
    X, y = table
    net = clone(NET).set_params(mixup=0.3, early_stopping=True, cv=2, auxiliary_weight=0.1, label_smoothing=0.1)
    net.set_params(max_epochs=20, learning_rate=0.02)
    model = CrossModalDistiller(TEACHER, net, ["image"]).fit(X, y)
    assert model.student_.oof_proba_.shape == (60, 3)
    assert model.score(X, y) > 0.4


def test_a_student_that_takes_neither_is_an_error_that_says_so(table):
    X, y = table
    with pytest.raises(ValueError, match="student KNeighborsClassifier takes neither soft targets nor sample_weight"):
        CrossModalDistiller(TEACHER, KNeighborsClassifier(), ["image"]).fit(X, y)
    assert CrossModalDistiller(TEACHER, KNeighborsClassifier(), ["image"], weight=0).fit(X, y).score(X, y) > 0.5


# ---------------------------------------------------------------------- the teacher


def test_the_teacher_predicts_each_row_from_folds_without_it_and_its_group(table):
    X, y = table
    model = CrossModalDistiller(LR, Seen(), ["image"], cv=4).fit(X, y)
    splits = make_splits(4, np.searchsorted(model.classes_, y), None, classify=True)
    assert_allclose(model.oof_predictions_[0], cross_val_predict(LR, X, y, cv=splits, method="predict_proba"))
    tree, groups = DecisionTreeClassifier(random_state=0), np.arange(60) // 2
    twins = pd.DataFrame(np.repeat(X.to_numpy()[:30], 2, axis=0), columns=X.columns)
    random = np.random.default_rng(0).permutation(np.repeat(["cat", "dog"], 15)).repeat(2)
    truth = (np.arange(60), (random == "dog").astype(int))
    knows = CrossModalDistiller(tree, Seen(), cv=30).fit(twins, random).oof_predictions_[0][truth].mean()
    honest = (
        CrossModalDistiller(tree, Seen(), cv=30).fit(twins, random, groups=groups).oof_predictions_[0][truth].mean()
    )
    assert knows > 0.9 and honest < 0.75


def test_nothing_leaks_through_teacher_or_student():
    X, _ = make_blocks(n=300, widths={"image": 4, "text": 4})
    tree = DecisionTreeClassifier(random_state=0)
    model = CrossModalDistiller(DecisionFusionClassifier(tree, joint=False, cv=2), tree, ["image"], cv=3)
    ran = check_no_leakage(model, X, np.repeat(["cat", "dog"], 150), cv=2, n_draws=2)
    assert ran == ["cross_validation", "oof_predictions_ of 'teacher'"]


def test_the_copies_of_a_row_stay_together_inside_the_student(table):
    class Groups(Seen):
        def fit(self, X, y, sample_weight=None, groups=None):
            self.groups_ = groups
            return super().fit(X, y, sample_weight)

    X, y = table
    seen = CrossModalDistiller(TEACHER, Groups(), ["image"]).fit(X, y).student_
    assert_array_equal(seen.groups_, np.repeat(np.arange(60), 3))
    groups = np.arange(60) // 3
    seen = CrossModalDistiller(TEACHER, Groups(), ["image"]).fit(X, y, groups=groups).student_
    assert_array_equal(seen.groups_, np.repeat(groups, 3))


def test_a_teacher_that_sees_the_cause_helps_a_student_whose_labels_err():
    """A quarter of the labels are wrong, which the text shows; the student has 18 columns in 60 rows."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=600)
    X = pd.DataFrame({"image__0": truth + rng.normal(size=600), "text__0": truth})
    X[[f"image__{i}" for i in range(1, 18)]] = rng.normal(size=(600, 17))
    y = (truth > 0) ^ (rng.random(600) < 0.25)
    teacher, student = DecisionFusionClassifier(LR, joint=False), LogisticRegression(C=100)
    right = lambda weight: (
        CrossModalDistiller(teacher, student, ["image"], weight=weight)
        .fit(X[:60], y[:60])
        .score(X[60:], truth[60:] > 0)
    )
    assert right(1.0) > right(0.5) + 0.02 > right(0.0) + 0.04


# ---------------------------------------------------------------------- missing blocks and columns


def test_rows_that_lack_blocks_teach_and_are_answered(table):
    X, y = table
    X = X.copy()
    X.loc[:9, ["text__0", "text__1", "text__2"]] = np.nan
    X.loc[10:19, ["image__0", "image__1", "image__2"]] = np.nan
    X.loc[20] = np.nan
    model = CrossModalDistiller(DecisionFusionClassifier(LR, joint=False), NET, ["image"]).fit(X, y)
    assert np.flatnonzero(np.isnan(model.oof_predictions_[0]).any(axis=1)).tolist() == [20]
    proba = model.predict_proba(X)
    assert_allclose(proba[10:21], np.tile(model.prior_, (11, 1)))
    assert_array_equal(model.predict_proba(own(X, "image")), proba)
    assert_array_equal(model.predict_proba(X.iloc[:0]).shape, (0, 3))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(own(X, "text"))
    values = CrossModalDistiller(TEACHER, LR, ["b"], blocks={"a": [0, 1], "b": [2, 3]})
    numbers = X.iloc[30:, :4].to_numpy()
    values.fit(numbers, y[30:])
    assert_array_equal(values.predict_proba(numbers[:, 2:]), values.predict_proba(numbers))


def test_a_student_without_a_row_of_its_own_blocks_is_an_error(table):
    X, y = table
    X = X.copy()
    X[["text__0", "text__1", "text__2"]] = np.nan
    with pytest.raises(ValueError, match=r"no row with a weight above 0 holds a block of the student \(\['text'\]\)"):
        CrossModalDistiller(DecisionFusionClassifier(LR, joint=False), LR, ["text"]).fit(X, y)


def test_a_class_that_no_row_of_the_student_has(table):
    X, y = table
    X = X.copy()
    X.loc[y == "class 1", ["image__0", "image__1", "image__2"]] = np.nan
    for student in (LR, NET):
        model = CrossModalDistiller(DecisionFusionClassifier(LR, joint=False), student, ["image"]).fit(X, y)
        proba = model.predict_proba(X)
        assert (proba[y != "class 1", 1] == 0).all()
        assert_allclose(proba.sum(axis=1), 1)
    weighted = CrossModalDistiller(
        TEACHER, LogisticRegression(class_weight={"class 0": 5.0, "class 1": 1.0, "class 2": 1.0}), ["text"]
    )
    assert (weighted.fit(X, y).predict(X) == "class 0").mean() > (
        CrossModalDistiller(TEACHER, LR, ["text"]).fit(X, y).predict(X) == "class 0"
    ).mean()


# ---------------------------------------------------------------------- numbers, files, parameters


def test_a_regressor_learns_the_mean_of_target_and_teacher(table):
    X, _ = table
    y = X.sum(axis=1).to_numpy()
    model = CrossModalDistiller(FeatureFusionRegressor(Ridge()), LinearRegression(), ["image"], weight=0.25).fit(X, y)
    assert is_regressor(model) and not is_classifier(model) and not hasattr(model, "predict_proba")
    by_hand = LinearRegression().fit(own(X, "image"), 0.75 * y + 0.25 * model.oof_predictions_[0])
    assert_allclose(model.predict(X), by_hand.predict(own(X, "image")))
    assert model.score(X, y) == pytest.approx(by_hand.score(own(X, "image"), y))
    empty = pd.DataFrame(np.nan, index=[0], columns=X.columns)
    assert model.predict(empty)[0] == pytest.approx(y.mean())


def test_saved_and_loaded_it_predicts_the_same(table, tmp_path):
    X, y = table
    for student in (NET, LR):
        model = CrossModalDistiller(TEACHER, student, ["image"]).fit(X, y)
        save_model(model, tmp_path / "student.fuse")
        assert_array_equal(load_model(tmp_path / "student.fuse").predict_proba(X), model.predict_proba(X))


def test_the_number_of_jobs_changes_nothing(table):
    X, y = table
    fit = lambda n_jobs: CrossModalDistiller(NET, NET, ["image"], n_jobs=n_jobs, cv=2).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_array_equal(fit(1).predict_proba(X), fit(2).predict_proba(X))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weight": 1.5}, "weight must be a number from 0 to 1; got 1.5"),
        ({"temperature": 0}, "temperature must be a number above 0; got 0"),
        ({"student_blocks": "image"}, "student_blocks must be a list of block names; got 'image'"),
        ({"student_blocks": ["sound"]}, r"student_blocks names unknown blocks \['sound'\]; X has the blocks"),
        ({"student": Ridge()}, "the estimator of 'student' must be a classifier; got Ridge"),
    ],
)
def test_a_wrong_parameter_is_named(wrong, message, table):
    with pytest.raises(ValueError, match=message):
        CrossModalDistiller(**{"teacher": TEACHER, "student": LR, **wrong}).fit(*table)
