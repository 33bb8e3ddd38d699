"""Labels that mean nothing must score as chance, out of fold, whatever is fitted on them; and what leaks must not."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks, slow_but
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, is_classifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier

import ensemblefuse.combine
import ensemblefuse.fusion
from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FunctionEncoder,
    LogPool,
    MeanPool,
    NeuralFusionClassifier,
    StackingPool,
    VotePool,
    make_fusion_pipeline,
)
from ensemblefuse.testing import check_no_leakage

N = 400
# 800 guesses from the outer folds, 533 from three inner ones: an honest model stays within about 0.1 of chance.
# A part of another, and one that learns tables.
APART = ["LogTargetRegressor", "NeuralFusionMultiTask"]
DRAWS = {"cv": 2, "n_draws": 4}


def table(n=N):
    X, _ = make_blocks(n=n, widths={"image": 8, "text": 4})
    return X, np.repeat(["cat", "dog"], n // 2)


def with_titles(X):
    # Every row has words of its own: a vectoriser and classifier that see them in training know them by heart.
    rng = np.random.default_rng(0)
    return X.assign(title__raw=[" ".join(f"w{w}" for w in rng.integers(0, 2000, 8)) for _ in range(len(X))])


def overfitting(name):
    """A fusion estimator whose members know their training rows by heart."""
    fusion = getattr(ensemblefuse.fusion, name)()
    tree = DecisionTreeClassifier(random_state=0) if is_classifier(fusion) else DecisionTreeRegressor(random_state=0)
    if "Sequential" in name:  # its later estimators are fitted on a gradient
        tree = DecisionTreeRegressor(random_state=0)
    late = (DecisionFusionClassifier if is_classifier(fusion) else DecisionFusionRegressor)(tree, cv=3)
    if name.startswith("Neural"):
        return fusion.set_params(hidden=8, n_members=3, max_epochs=4, early_stopping=True, cv=3, learning_rate=0.05)
    wanted = {
        "estimators": tree,
        "estimator": tree,
        "fusion": late,
        "teacher": late,
        "student": tree,
        "candidates": {"late": late, "early": FeatureFusionClassifier(tree)},
        "cv": 3,
    }
    return fusion.set_params(**{key: value for key, value in wanted.items() if key in fusion.get_params(deep=False)})


@pytest.mark.by_turns
@pytest.mark.parametrize("name", [n for n in ensemblefuse.fusion.__all__ if n not in APART])
def test_every_fusion_of_overfitting_members_is_honest(name):
    fusion = overfitting(name)
    X, y = table()
    ran = check_no_leakage(fusion, X, y if is_classifier(fusion) else np.linspace(0, 1, N), **DRAWS)
    assert ran[0] == "cross_validation"
    if name.startswith("Decision"):
        fused = "oof_proba_" if is_classifier(fusion) else "oof_fused_"
        assert ran[1:] == [fused, *(f"oof_predictions_ of {member!r}" for member in ("image", "text", "joint"))]


def test_a_fusion_with_a_network_as_joint_member_is_honest():
    X, y = table()
    net = NeuralFusionClassifier(
        "concat", hidden=32, n_members=1, dropout=0.0, max_epochs=30, learning_rate=0.05, batch_size=100
    )
    shuffled = np.random.default_rng(0).permutation(y)
    assert net.fit(X, shuffled).score(X, shuffled) > 0.75  # it knows many of its rows by heart
    members = {"image": DecisionTreeClassifier(), "text": DecisionTreeClassifier(), "joint": net}
    fusion = DecisionFusionClassifier(members, cv=3)
    assert "oof_predictions_ of 'joint'" in check_no_leakage(fusion, X, y, cv=2, n_draws=1)


TITLE = {"title": make_pipeline(TfidfVectorizer(), LogisticRegression(C=100))}
OVERFIT = {"image": DecisionTreeClassifier(random_state=0), **TITLE}
POOLS = {
    "equal log pool": LogPool("equal"),
    "learned log pool": LogPool(alpha=0.0),
    "mean": MeanPool(),
    "accuracy-weighted mean": MeanPool("accuracy"),
    "learned mean": MeanPool("learned"),
    "hard vote": VotePool(),
    "Borda": VotePool("borda"),
    "logistic stacking": StackingPool(),
    "XGBoost stacking": StackingPool(XGBClassifier(n_estimators=20)),
    **{
        name: getattr(ensemblefuse.combine, name)()
        for name in ensemblefuse.combine.__all__
        if name.endswith("Pool") and name != "BasePool"
    },
}


# One of each kind of second level: a formula, learned weights, votes, a choice, a model, and a model of trees.
QUICK = ["equal log pool", "learned log pool", "Borda", "GreedyPool", "logistic stacking", "XGBoost stacking"]


@pytest.mark.by_turns
@pytest.mark.parametrize("pool", slow_but(QUICK.__contains__, POOLS))
def test_every_pool_over_raw_texts_and_overfitting_members_is_honest(pool):
    X, y = table()
    fusion = DecisionFusionClassifier(OVERFIT, combiner=POOLS[pool], joint=False, cv=3)
    ran = check_no_leakage(fusion, with_titles(X.filter(like="image")), y, **DRAWS)
    assert ran == ["cross_validation", "oof_proba_", "oof_predictions_ of 'image'", "oof_predictions_ of 'title'"]


@pytest.mark.by_turns
@pytest.mark.parametrize("pool", POOLS)
def test_no_certainty_is_left_on_labels_that_mean_nothing(pool):
    X, y = table()
    y = np.random.default_rng(2).permutation(y)
    heads = {**OVERFIT, "text": OVERFIT["image"]}  # one head each: what a choice of heads costs is not the pool's
    model = DecisionFusionClassifier(heads, combiner=POOLS[pool], joint=False, cv=3).fit(with_titles(X), y)
    # Calibrated out of fold: the loss is close to that of a coin.
    loss = -np.log(model.oof_proba_[np.arange(N), (y == model.classes_[1]).astype(int)]).mean()
    assert loss < np.log(2) + 0.01


# ---------------------------------------------------------------------- what the check must find


class InSample:
    """The one split that tests on the rows that it trains on."""

    def split(self, X, y=None, groups=None):
        everything = np.arange(len(X))
        yield everything, everything

    def get_n_splits(self, X=None, y=None, groups=None):
        return 1


@pytest.mark.parametrize(
    "fusion, message",
    [
        (DecisionFusionClassifier(OVERFIT["image"], joint=False, cv=InSample()), r"oof_proba_: accuracy 1\.000"),
        (DecisionFusionRegressor(DecisionTreeRegressor(), joint=False, cv=InSample()), r"oof_fused_: R2 1\.000"),
    ],
    ids=["classifier", "regressor"],
)
def test_a_second_level_fed_in_sample_predictions_fails_though_cross_validation_cannot_see_it(fusion, message):
    X, y = table()
    with pytest.raises(AssertionError, match=f"^{message} on 400 predictions of random labels"):
        check_no_leakage(fusion, X, y if is_classifier(fusion) else np.linspace(0, 1, N), n_draws=1)


class GlobalTargetEncoder(TransformerMixin, BaseEstimator):
    """Mean label of each cell, in a table that keeps what the first fit learned."""

    means: dict = {}

    def fit(self, X, y):
        found = pd.Series(np.unique(y, return_inverse=True)[1]).groupby(np.asarray(X)[:, 0]).mean()
        self.means.update({cell: mean for cell, mean in found.items() if cell not in self.means})
        return self

    def transform(self, X):
        return np.array([[self.means[cell]] for cell in np.asarray(X)[:, 0]])


def test_a_table_of_target_means_that_outlives_the_fold_fails():
    X = pd.DataFrame({"shop": [f"shop {i // 2}" for i in range(N)]})
    y = np.arange(N) % 2
    with pytest.raises(AssertionError, match=r"^cross_validation: accuracy 0\.[789]"):
        check_no_leakage(make_pipeline(GlobalTargetEncoder(), LogisticRegression()), X, y, np.arange(N), n_draws=1)


def test_columns_selected_by_the_labels_before_the_folds_fail_and_within_them_pass():
    noise = np.random.default_rng(0).normal(size=(200, 2000))
    y = np.arange(200) % 2
    before = lambda y: SelectKBest(k=20).fit_transform(noise, y)
    with pytest.raises(AssertionError, match=r"^cross_validation: accuracy 0\.[789]"):
        check_no_leakage(LogisticRegression(), before, y)
    assert check_no_leakage(make_pipeline(SelectKBest(k=20), LogisticRegression()), noise, y) == ["cross_validation"]


class Memory(ClassifierMixin, BaseEstimator):
    """Knows every row that any fit has ever seen."""

    seen: dict = {}

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.seen.update(zip(map(bytes, X), y.tolist(), strict=True))
        return self

    def predict(self, X):
        return np.array([self.seen.get(bytes(row), self.classes_[0]) for row in X])


def test_a_model_that_remembers_rows_across_fits_fails():
    X = np.random.default_rng(0).normal(size=(60, 3))
    with pytest.raises(AssertionError, match=r"^cross_validation: accuracy 1\.000"):
        check_no_leakage(Memory(), X, ["cat", "dog", "elk"] * 20)


def test_copies_of_rows_in_several_folds_fail_and_pass_where_groups_keep_them_together():
    X, y = table(200)
    X, y, row = pd.concat([X, X]), np.r_[y, y], np.r_[np.arange(200), np.arange(200)]
    fusion = FeatureFusionClassifier(OVERFIT["image"])
    message = r"^cross_validation.* 400 rows of X are equal to another row: pass groups"
    with pytest.raises(AssertionError, match=message):
        check_no_leakage(fusion, X, y)
    for groups in (row, np.arange(400)):
        assert check_no_leakage(fusion, X, y, groups) == ["cross_validation"]


class DeafToGroups(DecisionFusionClassifier):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y, sample_weight)


@pytest.mark.by_turns
@pytest.mark.parametrize("classify", [True, False])
def test_near_copies_in_one_group_are_at_chance_where_the_inner_folds_keep_groups(classify):
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(np.arange(100), 4))
    X = pd.DataFrame(rng.normal(size=(100, 4))[groups], columns=["a__0", "a__1", "b__0", "b__1"])
    X += 1e-3 * rng.normal(size=X.shape)
    nearest = KNeighborsClassifier(1) if classify else KNeighborsRegressor(1)
    y = np.arange(400) % 3 if classify else np.arange(400.0)
    honest = (DecisionFusionClassifier if classify else DecisionFusionRegressor)(nearest, joint=False, cv=3)
    assert len(check_no_leakage(honest, X, y, groups)) == 4
    if classify:
        with pytest.raises(AssertionError, match=r"^oof_proba_: accuracy (1\.000|0\.9)"):
            check_no_leakage(DeafToGroups(nearest, joint=False, cv=3), X, y, groups)


def test_the_encoders_are_part_of_what_is_checked():
    X = pd.DataFrame({"title": [f"title {i}" for i in range(120)], "price": np.random.default_rng(0).normal(size=120)})
    text = FunctionEncoder(lambda title: [int(title.split()[1]) % 7, len(title)])
    modalities = [("text", text, "title"), ("tabular", "passthrough", ["price"])]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(DecisionTreeClassifier(), cv=3))
    assert check_no_leakage(model, X, np.arange(120) % 2)[:2] == ["cross_validation", "oof_proba_"]
