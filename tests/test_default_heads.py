"""What the default heads can learn with any number of rows, and what a block that says nothing costs."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import log_loss

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    FusionSearchCV,
    KernelFusionClassifier,
    KernelFusionRegressor,
    SequentialFusionClassifier,
    SequentialFusionRegressor,
    export_onnx,
    load_model,
    save_model,
)
from ensemblefuse.fusion._default_heads import default_search
from ensemblefuse.fusion._head_fits import _fit_head
from ensemblefuse.fusion._oof_ledger import Ledger, Member
from ensemblefuse.fusion.prior_term import learn_prior_weight
from ensemblefuse.fusion.splits import make_splits

pytestmark = pytest.mark.all_rounds


def signs(n, seed=0, width=30, informative=6):
    """Two blocks, each with one hidden sign; their product is what interactions alone can tell."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1, 1], (2, n))
    blocks = [rng.normal(size=(n, width)) for _ in signs]
    for block, sign in zip(blocks, signs, strict=True):
        block[:, :informative] += 1.4 * sign[:, None]
    names = [f"{name}__{i}" for name in ("left", "right") for i in range(width)]
    return pd.DataFrame(np.hstack(blocks), columns=names), signs[0] * signs[1]


# 60 columns: the support vector machines end at 1 825 rows.
@pytest.mark.by_turns
@pytest.mark.parametrize("n", [1700, 1950])
def test_an_interaction_of_blocks_is_learned_on_both_sides_of_the_limit_of_the_kernel(n):
    X, y = signs(n + 500)
    classifier = FeatureFusionClassifier(cv=3).fit(X[:n], y[:n])
    assert ("Nystroem" in str(classifier.prepare_)) == (n == 1950)
    assert classifier.score(X[n:], y[n:]) > 0.9
    target = y + np.random.default_rng(1).normal(size=len(y)) * 0.2
    assert FeatureFusionRegressor(cv=3).fit(X[:n], target[:n]).score(X[n:], target[n:]) > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("n", [1400, 1500, 3000, 8000])
@pytest.mark.parametrize("fusion", [DecisionFusionClassifier, FeatureFusionClassifier])
def test_an_interaction_of_blocks_with_many_rows(fusion, n):
    X, y = signs(n + 1000, width=48)
    assert fusion(cv=2).fit(X[:n], y[:n]).score(X[n:], y[n:]) > 0.9


def test_components_of_the_kernel_grow_slower_than_the_rows_and_are_bounded():
    shape = lambda n: default_search(384, (n, 384), 2, weighted=True).heads[-1].named_steps["features"].n_components
    counts = {n: shape(n) for n in (1000, 8000, 20_000, 1_000_000)}
    assert counts == {1000: 400, 8000: 600, 20_000: 600, 1_000_000: 100}
    assert not any(isinstance(head, RidgeClassifier) for head in default_search(60, (200, 60), 2).heads)


def test_heads_on_the_same_features_share_their_fit(monkeypatch):
    fits = []
    original = Nystroem.fit
    monkeypatch.setattr(Nystroem, "fit", lambda self, X, y=None: fits.append(len(X)) or original(self, X, y))
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 3000)), rng.normal(size=300)
    search = default_search(3000, X.shape, 0)
    assert len(search.heads) == 3
    Ledger(y, make_splits(3, y, None, classify=False), None, []).add([Member("all", search, X, np.ones(300, bool))])
    assert fits == [200, 200, 200]


def test_a_path_of_penalties_reaches_the_same_solution_in_fewer_iterations():
    X, y = signs(600, width=20)
    X, y = X.to_numpy(), (X["left__0"] > 0).to_numpy() + (X["right__1"] > 0).to_numpy().astype(int)
    cold = [LogisticRegression(C=C, max_iter=500, tol=1e-5).fit(X, y) for C in (0.01, 0.03, 0.1, 0.3)]
    path = []
    for head in (LogisticRegression(C=C, max_iter=500, tol=1e-5) for C in (0.01, 0.03, 0.1, 0.3)):
        path.append(_fit_head(head, path, X, y, None, None)[0])
    np.testing.assert_allclose(path[-1].predict_proba(X), cold[-1].predict_proba(X), atol=1e-3)
    assert sum(m.n_iter_[0] for m in path) < sum(m.n_iter_[0] for m in cold)
    assert not path[-1].warm_start


@pytest.mark.by_turns
@pytest.mark.parametrize("n_classes", [2, 3, 0])
def test_heads_on_features_of_a_kernel_are_saved_and_exported(n_classes, tmp_path, monkeypatch):
    monkeypatch.setattr("ensemblefuse.fusion._default_heads._KERNEL_WORK", 0.0)
    X, product = signs(300, width=6, informative=3)
    X = X.astype(np.float32)
    hidden = product + (X["left__0"] > 1.5) * 2 if n_classes == 3 else product
    fusion = FeatureFusionClassifier(cv=3) if n_classes else FeatureFusionRegressor(cv=3)
    model = fusion.fit(X, hidden)
    assert "Nystroem" in str(model.prepare_)
    answer = "predict_proba" if n_classes else "predict"
    loaded = load_model(save_model(model, tmp_path / "model.efz"))
    np.testing.assert_array_equal(getattr(loaded, answer)(X), getattr(model, answer)(X))
    assert export_onnx(model, tmp_path / "model.onnx", example=X[:50]).exists()


# ---------------------------------------------------------------------- the prior term


def rare(n, useful, seed=0):
    """Labels of which a fifth are 1; the blocks know about them, or nothing at all."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.2).astype(int)
    X = rng.normal(size=(n, 16)) + (useful * y)[:, None]
    return pd.DataFrame(X, columns=[f"{name}__{i}" for name in ("left", "right") for i in range(8)]), y


@pytest.mark.parametrize("fusion", [FeatureFusionClassifier, KernelFusionClassifier])
def test_on_labels_that_nothing_tells_the_class_frequencies_are_predicted(fusion, tmp_path):
    X, y = rare(400, useful=0)
    model = fusion().fit(X[:200], y[:200])
    assert 0.1 < model.prior_weight_ <= 1
    prior = log_loss(y[200:], np.tile(model.prior_, (200, 1)))
    proba = model.predict_proba(X[200:])
    assert log_loss(y[200:], proba) < prior + 0.02
    scores = model.decision_function(X[200:]) / model.temperature_
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), proba[:, 1])
    assert (model.predict(X[200:]) == (proba[:, 1] > 0.5)).all()
    np.testing.assert_array_equal(load_model(save_model(model, tmp_path / "m.efz")).predict_proba(X[200:]), proba)
    if fusion is FeatureFusionClassifier:
        assert export_onnx(model, tmp_path / "m.onnx", example=X[200:]).exists()


@pytest.mark.by_turns
@pytest.mark.parametrize("fusion", [FeatureFusionClassifier, KernelFusionClassifier])
def test_permuted_labels_of_several_classes_have_nearly_the_loss_of_their_frequencies(fusion):
    rng = np.random.default_rng(0)
    y = rng.choice(5, 600, p=[0.6, 0.2, 0.1, 0.05, 0.05])
    X, _ = rare(600, useful=0)
    model = fusion().fit(X[:300], y[:300])
    frequencies = np.tile(model.prior_, (300, 1))
    assert log_loss(y[300:], model.predict_proba(X[300:])) < log_loss(y[300:], frequencies) + 0.02
    model.prior_weight_ = 0.0  # as without the prior term
    without = log_loss(y[300:], model.predict_proba(X[300:]))
    assert without > log_loss(y[300:], frequencies) + (0.1 if fusion is KernelFusionClassifier else 0)


@pytest.mark.parametrize("fusion", [FeatureFusionClassifier, KernelFusionClassifier])
def test_what_the_blocks_know_is_kept(fusion):
    X, y = rare(600, useful=1.2)
    model = fusion().fit(X[:300], y[:300])
    assert model.prior_weight_ < 0.1 and model.score(X[300:], y[300:]) > 0.95


@pytest.mark.parametrize("fusion", [FeatureFusionRegressor, KernelFusionRegressor])
def test_on_numbers_that_nothing_tells_the_mean_is_predicted(fusion, tmp_path):
    X, _ = rare(400, useful=0)
    y = 5 + np.random.default_rng(1).normal(size=400)
    model = fusion().fit(X[:200], y[:200])
    assert model.score(X[200:], y[200:]) > -0.03
    if fusion is FeatureFusionRegressor:
        assert export_onnx(model, tmp_path / "m.onnx", example=X[200:]).exists()
    assert fusion().fit(X, 3 * X["left__0"] + y * 0.1).prior_weight_ < 0.1


def test_the_prior_weight_counts_a_row_of_weight_2_twice_and_a_row_of_weight_0_not_at_all():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    proba = rng.dirichlet(np.ones(3), 90)
    proba[np.arange(90), y] += 0.1
    proba /= proba.sum(axis=1, keepdims=True)
    weight, numbers = rng.integers(0, 3, 90), rng.normal(size=90)
    rows = np.repeat(np.arange(90), weight)
    given = learn_prior_weight(proba, y, weight.astype(float), 3)
    assert 0 < given < 1
    assert given == pytest.approx(learn_prior_weight(proba[rows], y[rows], None, 3), abs=1e-6)
    mean = np.average(numbers, weights=weight)
    said = numbers + 2 * rng.normal(size=90)
    given = learn_prior_weight(said, numbers, weight.astype(float), 0, mean)
    assert given == pytest.approx(learn_prior_weight(said[rows], numbers[rows], None, 0, mean))
    assert learn_prior_weight(numbers, numbers, None, 0, numbers.mean()) == pytest.approx(0)


def test_one_model_on_the_splits_of_a_search_is_chosen_without_the_fold():
    X, _ = rare(120, useful=0)
    y = np.random.default_rng(2).integers(0, 2, 120)
    search = FusionSearchCV({"kernel": KernelFusionClassifier((0.1, 1.0, 10.0), cv=2)}, cv=4).fit(X, y)
    row = search.results_.loc["kernel"]
    assert row["n_members"] == 1 and row["mean_score"] > -0.75  # no better than a coin, and not much worse
    assert search._strategies(4000).keys() == {"left alone", "right alone", "kernel"}
    default = FusionSearchCV().fit(X, y)
    assert {"kernel sum", "kernel product"} < set(default.results_.index)
    assert not {"kernel sum", "kernel product"} & set(default._strategies(6000))


# ---------------------------------------------------------------------- a useless member

LEVELS = {
    "decision": DecisionFusionClassifier(),
    "decision, without joint": DecisionFusionClassifier(joint=False),
    "feature": FeatureFusionClassifier(),
    "kernel sum": KernelFusionClassifier(),
    "kernel product": KernelFusionClassifier(combine="product"),
    "sequential": SequentialFusionClassifier(),
    "search": FusionSearchCV(cv=3),
}
REGRESSIONS = {
    "decision": DecisionFusionRegressor(),
    "feature": FeatureFusionRegressor(),
    "kernel sum": KernelFusionRegressor(),
    "kernel product": KernelFusionRegressor(combine="product"),
    "sequential": SequentialFusionRegressor(),
}


def planted(n=500, seed=0):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.35).astype(int)
    image = rng.normal(size=(n, 10)) + 0.7 * y[:, None]
    columns = {f"image__{i}": column for i, column in enumerate(image.T)}
    columns |= {f"noise__{i}": column for i, column in enumerate(rng.normal(size=(10, n)))}
    return pd.DataFrame(columns), y


@pytest.mark.by_turns
@pytest.mark.parametrize("level", LEVELS)
def test_a_block_of_noise_costs_next_to_nothing(level):
    X, y = planted()
    alone = X.filter(like="image")
    loss = lambda X: log_loss(y[200:], LEVELS[level].fit(X[:200], y[:200]).predict_proba(X[200:]).astype(float))
    assert loss(X) < loss(alone) + 0.03


@pytest.mark.by_turns
@pytest.mark.parametrize("level", LEVELS)
def test_two_blocks_of_noise_are_no_worse_than_the_class_frequencies(level):
    X, y = planted()
    y = np.random.default_rng(5).permutation(y)
    proba = LEVELS[level].fit(X[:200], y[:200]).predict_proba(X[200:]).astype(float)
    frequencies = np.tile(np.bincount(y[:200]) / 200, (300, 1))
    assert log_loss(y[200:], proba) < log_loss(y[200:], frequencies) + 0.03


@pytest.mark.by_turns
@pytest.mark.parametrize("level", REGRESSIONS)
def test_a_block_of_noise_costs_next_to_nothing_in_regression(level):
    X, _ = planted()
    y = X.filter(like="image").sum(axis=1) + np.random.default_rng(3).normal(size=len(X))
    score = lambda X: REGRESSIONS[level].fit(X[:200], y[:200]).score(X[200:], y[200:])
    assert score(X) > score(X.filter(like="image")) - 0.05


def test_weights_of_one_are_no_weights():
    """A default head takes no weights: it must not drop out where they say nothing."""
    X, y = make_blocks(n=90, noise=1.5)
    for fusion in (DecisionFusionClassifier(cv=3), FeatureFusionClassifier(cv=3)):
        plain = fusion.fit(X, y).predict_proba(X)
        for weight in (1, np.ones(90)):
            assert_allclose(clone(fusion).fit(X, y, sample_weight=weight).predict_proba(X), plain)
