"""Kernel fusion: what a user relies on."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.datasets import make_regression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ensemblefuse import (
    KernelFusionClassifier,
    KernelFusionRegressor,
    MissingModalityWarning,
    load_model,
    save_model,
)
from ensemblefuse.fusion import _block_kernels, _kernel
from ensemblefuse.fusion._block_kernels import BlockKernel, centred_alignment, median_gamma
from ensemblefuse.fusion._oof_ledger import Ledger

RULES = [{}, {"combine": "product"}, {"weights": "cka"}, {"kernel": "linear"}]
IDS = ["sum", "product", "cka", "linear"]


def drop_block(X, name, rows):
    X = X.copy()
    X.loc[X.index[rows], [c for c in X.columns if c.startswith(f"{name}__")]] = np.nan
    return X


def scaled_parts(X):
    Z = pd.DataFrame(StandardScaler().fit_transform(X), columns=X.columns)
    names = dict.fromkeys(c.split("__")[0] for c in X.columns)
    return {name: Z[[c for c in X.columns if c.startswith(name)]].to_numpy() for name in names}


def make_numbers(n=90, random_state=0):
    X, y = make_regression(n, 9, n_informative=6, noise=5.0, random_state=random_state)
    return pd.DataFrame(X, columns=[f"{'image' if i < 5 else 'text'}__{i}" for i in range(9)]), y / 50


# ---------------------------------------------------------------------- cases with known answers


def test_alignment_of_a_kernel_with_itself_is_1_whatever_its_scale_and_offset():
    """T13."""
    K = rbf_kernel(np.random.default_rng(0).normal(size=(30, 4)))
    assert_allclose(centred_alignment(K, K), 1)
    assert_allclose(centred_alignment(K, 3 * K + 7), 1)
    assert centred_alignment(K, np.ones((30, 30))) == 0


def test_weights_of_linear_kernels_are_squared_scales_of_blocks():
    """T14: a linear machine on blocks times sqrt(w) sees the weighted sum of the blocks' kernels."""
    X, y = make_blocks(n=90, n_classes=2)
    weights = {"image": 0.5, "text": 2.0, "audio": 0.0}
    model = KernelFusionClassifier(3.0, kernel="linear", weights=weights).fit(X, y)
    parts = scaled_parts(X)
    Z = np.hstack([np.sqrt(weights[name] / part.shape[1]) * part for name, part in parts.items()])
    direct = SVC(C=3.0, kernel="linear").fit(Z, y)
    assert_allclose(model.decision_function(X), direct.decision_function(Z), atol=1e-3)
    joined = sum(weights[name] / part.shape[1] * part @ part.T for name, part in parts.items())
    by_kernel = SVC(C=3.0, kernel="precomputed").fit(joined, y)
    assert_allclose(model.decision_function(X), by_kernel.decision_function(joined), atol=1e-6)


def test_a_product_of_rbf_kernels_is_the_rbf_kernel_of_the_scaled_blocks():
    """T15."""
    X, y = make_blocks(n=120, n_classes=3)
    model = KernelFusionClassifier(1.0, combine="product").fit(X[:90], y[:90])
    scaler = StandardScaler().fit(X[:90])
    factors = [np.sqrt(model.gamma_[c.split("__")[0]]) for c in X.columns]
    train, test = scaler.transform(X[:90]) * factors, scaler.transform(X[90:]) * factors
    direct = OneVsRestClassifier(SVC(C=1.0, gamma=1.0)).fit(train, y[:90])
    assert_allclose(model.decision_function(X[90:]), direct.decision_function(test), atol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_one_block_is_scikit_learns_svc(n_classes):
    X, y = make_blocks(n=90, n_classes=n_classes, widths={"image": 5})
    model = KernelFusionClassifier(2.0, gamma=0.3).fit(X, y)
    Z = StandardScaler().fit_transform(X)
    direct = OneVsRestClassifier(SVC(C=2.0, gamma=0.3)).fit(Z, y)
    assert_allclose(model.decision_function(X), direct.decision_function(Z), atol=1e-6)
    assert (model.predict(X) == direct.predict(Z)).all()


def test_only_a_product_sees_an_exclusive_or():
    """T25."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(400, 4)), columns=["a__0", "a__1", "b__0", "b__1"])
    y = (X["a__0"] > 0) ^ (X["b__0"] > 0)
    accuracy = {
        combine: cross_val_score(KernelFusionClassifier(combine=combine), X, y, cv=4).mean()
        for combine in ("sum", "product")
    }
    assert accuracy["product"] >= 0.75
    assert abs(accuracy["sum"] - 0.5) < 0.08


def test_gamma_is_one_over_the_median_squared_distance():
    Z = np.random.default_rng(0).normal(size=(41, 3))
    squared = euclidean_distances(Z, squared=True)[np.triu_indices(41, 1)]
    assert_allclose(median_gamma(Z, np.ones(41)), 1 / np.median(squared))
    assert median_gamma(np.ones((5, 2)), np.ones(5)) == 1.0
    weight = np.random.default_rng(1).integers(1, 4, size=41)
    repeated = np.repeat(Z, weight, axis=0)
    assert_allclose(median_gamma(Z, weight.astype(float)), median_gamma(repeated, np.ones(len(repeated))))


def test_gamma_of_many_rows_comes_from_a_sample(monkeypatch):
    Z = np.random.default_rng(0).normal(size=(1500, 3))
    exact = median_gamma(Z, np.ones(1500))
    monkeypatch.setattr(_block_kernels, "_MEDIAN_ROWS", 300)
    assert median_gamma(Z, np.ones(1500)) != exact
    assert_allclose(median_gamma(Z, np.ones(1500)), exact, rtol=0.1)


# ---------------------------------------------------------------------- one Gram matrix, no leak


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_a_block_has_one_gram_matrix(rule, monkeypatch, blocks):
    X, y = blocks
    shapes = []
    original = _block_kernels.gram
    monkeypatch.setattr(_block_kernels, "gram", lambda A, B, *rest: shapes.append(len(A)) or original(A, B, *rest))
    KernelFusionClassifier((0.1, 1.0, 10.0), cv=4, **rule).fit(X, y)
    assert shapes == [150, 150, 150]


def test_weights_by_alignment_prefer_the_block_that_tells_something():
    X, y = make_blocks(n=150, widths={"image": 6, "text": 4}, noise=0.7)
    X = X.join(pd.DataFrame(np.random.default_rng(1).normal(size=(150, 4))).add_prefix("noise__"))
    weights = KernelFusionClassifier(weights="cka").fit(X, y).weights_
    assert_allclose(sum(weights.values()), 1)
    assert weights["noise"] < 0.2 * min(weights["image"], weights["text"])


def test_weights_by_alignment_are_learned_without_the_fold(blocks, monkeypatch):
    X, y = blocks
    rows = []
    original = _kernel.centred_alignment
    monkeypatch.setattr(_kernel, "centred_alignment", lambda K, L, w: rows.append(len(K)) or original(K, L, w))
    KernelFusionClassifier(weights="cka", cv=3).fit(X, y)
    assert rows == [100] * 9 + [150] * 3


@pytest.mark.by_turns
@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_random_labels_give_chance(rule):
    X, _ = make_blocks(n=200)
    right = []
    for seed in range(5):
        y = np.random.default_rng(seed).integers(0, 2, size=200)
        model = KernelFusionClassifier(**rule).fit(X, y)
        assert log_loss(y, model.oof_proba_) > 0.67  # log 2 = 0.693; a leak would show as certainty
        right.append((model.oof_proba_.argmax(axis=1) == y).mean())
    # The standard error of the mean is 0.016, and the choice of C by the same rows adds about as much.
    assert abs(np.mean(right) - 0.5) < 0.06


def test_groups_stay_together():
    """Each row stands twice, with a random label: whoever splits the pairs believes to know."""
    X, _ = make_blocks(n=80)
    X, groups = pd.concat([X, X], ignore_index=True), np.tile(np.arange(80), 2)
    y = np.tile(np.random.default_rng(0).integers(0, 2, size=80), 2)
    apart = KernelFusionClassifier(10.0, gamma=1.0).fit(X, y)
    together = KernelFusionClassifier(10.0, gamma=1.0).fit(X, y, groups=groups)
    assert log_loss(y, apart.oof_proba_) < 0.4
    assert log_loss(y, together.oof_proba_) > 0.65


# ---------------------------------------------------------------------- probabilities


def test_C_is_the_value_of_least_out_of_fold_log_loss():
    X, y = make_blocks(n=150, noise=1.5, random_state=1)
    values = (0.01, 0.3, 100.0)
    alone = {C: KernelFusionClassifier(C, cv=3).fit(X, y) for C in values}
    losses = {C: log_loss(y, model.oof_proba_) for C, model in alone.items()}
    model = KernelFusionClassifier(values, cv=3).fit(X, y)
    assert model.C_ == min(losses, key=losses.get) == 0.3
    assert_allclose(model.oof_proba_, alone[0.3].oof_proba_)
    assert_allclose(model.predict_proba(X), alone[0.3].predict_proba(X))
    assert model.oof_proba_.dtype == np.float32


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_probabilities_are_as_certain_as_they_are_right(rule):
    X, y = make_blocks(n=900, noise=2.2)
    model = KernelFusionClassifier(**rule).fit(X[:400], y[:400])
    proba = model.predict_proba(X[400:])
    accuracy = (model.classes_[proba.argmax(axis=1)] == y[400:]).mean()
    assert abs(proba.max(axis=1).mean() - accuracy) < 0.05
    assert 0.5 < accuracy < 0.9


@pytest.mark.parametrize("labels", [["cat", "dog", "elk"], [3, 7, 11], ["yes", "no"], [True, False]], ids=str)
def test_every_kind_of_label(labels):
    X, y = make_blocks(n=90, n_classes=len(labels), noise=0.7)
    y = np.array(labels)[[int(label[-1]) for label in y]]
    model = KernelFusionClassifier(cv=3).fit(X, y)
    assert model.classes_.tolist() == sorted(labels)
    assert (model.predict(X) == y).mean() > 0.9
    proba = model.predict_proba(X)
    assert_allclose(proba.sum(axis=1), 1)
    assert (model.classes_[proba.argmax(axis=1)] == model.predict(X)).all()


def test_a_fold_may_lack_a_class():
    X, y = make_blocks(n=90, noise=0.7)
    y[0] = "class 9"
    model = KernelFusionClassifier(cv=3).fit(X, y)
    assert np.isfinite(model.oof_proba_).all()
    assert model.oof_proba_[0].argmax() != 3  # its fold knew no such class
    assert (model.predict(X)[1:] == y[1:]).mean() > 0.9


# ---------------------------------------------------------------------- missing blocks


@pytest.mark.parametrize("rule", [{}, {"combine": "product"}], ids=["sum", "product"])
def test_an_absent_block_stands_at_the_mean_of_the_training_rows(rule):
    """The decision value is linear in the place of each block, so it is the mean over all fillings."""
    X, y = make_blocks(n=60, n_classes=2)
    model = KernelFusionClassifier(1.0, cv=2, **rule).fit(drop_block(X, "text", range(0, 60, 6)), y)
    text = [c for c in X.columns if c.startswith("text")]
    fillings = pd.concat([X.iloc[[7]]] * 50, ignore_index=True)
    fillings[text] = X.drop(index=range(0, 60, 6))[text].to_numpy()
    without = model.decision_function(drop_block(X.iloc[[7]], "text", [0]))
    assert_allclose(without, model.decision_function(fillings).mean(), rtol=1e-6)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("combine", ["sum", "product"])
def test_gram_matrices_with_absent_blocks_stay_positive_semi_definite(kernel, combine):
    X, _ = make_blocks(n=60)
    parts = {name: part.copy() for name, part in scaled_parts(X).items()}
    rng = np.random.default_rng(0)
    grams = []
    for part in parts.values():
        present = rng.random(60) < 0.5
        part[~present] = np.nan
        fitted, K = BlockKernel.fit(part, present, rng.random(60) + 0.1, kernel, "median")
        assert_allclose(fitted.between(part, present), K, atol=1e-12)  # in fit and in predict the same
        grams.append(K)
    joined = _kernel._join(grams, np.full(3, 1 / 3), combine, kernel)
    assert_allclose(joined, joined.T, atol=1e-12)
    assert np.linalg.eigvalsh(joined).min() > -1e-10


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_blocks_missing_in_fit_and_predict(rule):
    X, y = make_blocks(n=300, noise=0.8)
    holes = drop_block(drop_block(X, "image", range(0, 300, 2)), "text", range(1, 300, 4))
    holes = drop_block(drop_block(holes, "audio", [0, 5]), "text", [0])
    model = KernelFusionClassifier(**rule).fit(holes[:200], y[:200])
    assert (model.predict(X[200:]) == y[200:]).mean() > 0.8
    assert (model.predict(holes[200:]) == y[200:]).mean() > 0.7
    assert np.isnan(model.oof_proba_[0]).all()  # row 0 has no block
    assert np.isfinite(model.oof_proba_[1:]).all()


def test_a_row_without_blocks_gets_the_class_frequencies():
    X, y = make_blocks(n=90)
    y[:40] = "class 0"
    X = drop_block(drop_block(drop_block(X, "image", [3]), "text", [3]), "audio", [3])
    model = KernelFusionClassifier(cv=3).fit(X, y)
    frequencies = pd.Series(y).value_counts(normalize=True).sort_index()
    assert_allclose(model.predict_proba(X.iloc[[3, 3]]), np.tile(frequencies, (2, 1)))
    assert model.predict(X.iloc[[3]]) == "class 0"
    two = KernelFusionClassifier(cv=3).fit(X, y == "class 0")
    assert_allclose(two.predict_proba(X.iloc[[3]])[0, 1], frequencies["class 0"])


def test_a_new_pattern_of_missing_blocks_warns_once(blocks):
    X, y = blocks
    model = KernelFusionClassifier().fit(X, y)
    with pytest.warns(MissingModalityWarning, match=r"no row in fit without \['text'\]") as caught:
        model.predict_proba(drop_block(X, "text", [0, 1]))
    assert len(caught) == 1


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_a_block_that_no_row_of_fit_held_counts_as_absent(rule, blocks):
    X, y = blocks
    model = KernelFusionClassifier(**rule).fit(drop_block(X, "text", range(150)), y)
    assert (model.predict(X) == model.predict(drop_block(X, "text", range(150)))).all()
    only = drop_block(drop_block(X, "image", [0]), "audio", [0]).iloc[[0]]
    with pytest.warns(MissingModalityWarning):
        assert_allclose(model.predict_proba(only)[0], model.prior_)


# ---------------------------------------------------------------------- weights, files, refusals


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_a_row_of_weight_2_is_two_rows(rule):
    X, y = make_blocks(n=80, n_classes=2)
    X = drop_block(X, "text", range(0, 80, 5))
    weight = np.random.default_rng(0).integers(0, 3, size=80)
    repeated = np.repeat(np.arange(80), weight)
    weighted = KernelFusionClassifier(1.0, cv=3, **rule).fit(X, y, sample_weight=weight)
    plain = KernelFusionClassifier(1.0, cv=3, **rule).fit(X.iloc[repeated], y[repeated])
    assert_allclose(list(weighted.weights_.values()), list(plain.weights_.values()))
    assert_allclose(weighted.prior_, plain.prior_)
    assert_allclose(weighted.decision_function(X), plain.decision_function(X), atol=5e-3)  # libsvm stops at 1e-3


@pytest.mark.by_turns
@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_models_survive_a_file(rule, blocks, tmp_path):
    X, y = blocks
    X = drop_block(X, "text", range(0, 150, 5))
    for model, target in (
        (KernelFusionClassifier(**rule), y),
        (KernelFusionRegressor(**rule), X["image__0"].to_numpy()),
    ):
        loaded = load_model(save_model(model.fit(X, target), tmp_path / f"{type(model).__name__}.fuse"))
        assert_allclose(loaded.predict(X) == model.predict(X), True)
    assert loaded.weights_ == model.weights_


def test_long_tables_are_predicted_in_batches(blocks, monkeypatch):
    X, y = blocks
    model = KernelFusionClassifier().fit(X, y)
    whole = model.predict_proba(X)
    monkeypatch.setattr(_kernel, "_BATCH", 7)
    assert_allclose(model.predict_proba(X), whole)


def test_too_many_rows_are_refused(blocks, monkeypatch):
    monkeypatch.setattr(_kernel, "_MAX_ROWS", 100)
    with pytest.raises(ValueError, match=r"takes up to 100 rows; X has 150\..*BlockNystroem"):
        KernelFusionClassifier().fit(*blocks)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"C": 0.0}, "C must be a finite number above 0"),
        ({"C": []}, "C must be"),
        ({"C": "high"}, "C must be"),
        ({"kernel": "poly"}, "kernel must be"),
        ({"combine": "max"}, "combine must be"),
        ({"gamma": -1.0}, "gamma must be .* got -1.0 for 'image'"),
        ({"gamma": {"sound": 1.0}}, r"gamma names unknown blocks \['sound'\]"),
        ({"weights": "learned"}, "weights must be"),
        ({"weights": {"sound": 1.0}}, r"weights names unknown blocks \['sound'\]"),
        ({"weights": {"image": 0, "text": 0, "audio": 0}}, "not all 0"),
        ({"weights": "cka", "combine": "product"}, "weights are for a sum"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused(params, message, blocks):
    with pytest.raises(ValueError, match=message):
        KernelFusionClassifier(**params).fit(*blocks)


def test_bad_tables_are_refused(blocks):
    X, y = blocks
    with pytest.raises(ValueError, match="every block is missing in every row"):
        KernelFusionClassifier().fit(X * np.nan, y)
    with pytest.raises(ValueError, match="Block 'image' is partly NaN in 1 row"):
        KernelFusionClassifier().fit(X.assign(image__0=X["image__0"].where(X.index != 3)), y)
    with pytest.raises(ValueError, match=r"the blocks \['title'\] hold raw cells"):
        KernelFusionClassifier().fit(X.assign(title__0="a cat"), y)
    only = drop_block(
        drop_block(drop_block(X, "image", y != "class 0"), "text", y != "class 0"), "audio", y != "class 0"
    )
    with pytest.raises(ValueError, match="of one class"):
        KernelFusionClassifier().fit(only, y)


# ---------------------------------------------------------------------- regression


def test_regression_on_one_block_is_kernel_ridge_of_the_centred_kernel():
    X, y = make_numbers()
    X = X[[c for c in X.columns if c.startswith("image")]]
    model = KernelFusionRegressor(0.3, gamma=0.1).fit(X, y)
    K = rbf_kernel(StandardScaler().fit_transform(X), gamma=0.1)
    H = np.eye(90) - 1 / 90
    direct = KernelRidge(alpha=0.3, kernel="precomputed").fit(H @ K @ H, y - y.mean())
    own = 1 - model.prior_weight_
    assert 0.5 < own <= 1
    assert_allclose(model.predict(X), own * direct.predict(H @ K @ H) + y.mean())
    assert_allclose(model.dual_coef_.sum(), 0, atol=1e-9)


def test_regression_on_linear_kernels_is_ridge():
    X, y = make_numbers()
    model = KernelFusionRegressor(0.3, kernel="linear", weights={"image": 2.0}).fit(X[:60], y[:60])
    scaler = StandardScaler().fit(X[:60])
    factors = [np.sqrt(2 / 5 if c.startswith("image") else 1 / 4) for c in X.columns]
    direct = Ridge(0.3).fit(scaler.transform(X[:60]) * factors, y[:60])
    assert_allclose(model.predict(X), direct.predict(scaler.transform(X) * factors))


def test_alpha_is_the_value_of_least_out_of_fold_error():
    X, y = make_numbers()
    y = y + np.random.default_rng(0).normal(size=90)
    values = (1e-4, 0.1, 100.0)
    alone = {alpha: KernelFusionRegressor(alpha).fit(X, y) for alpha in values}
    errors = {alpha: ((model.oof_fused_ - y) ** 2).mean() for alpha, model in alone.items()}
    model = KernelFusionRegressor(values).fit(X, y)
    assert model.alpha_ == min(errors, key=errors.get) == 0.1
    assert_allclose(model.oof_fused_, alone[0.1].oof_fused_)
    assert 1 - errors[0.1] / y.var() > 0.6


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_regression_with_weights_and_missing_blocks(rule):
    X, y = make_numbers()
    X = drop_block(drop_block(X, "text", range(0, 90, 5)), "image", [0])
    weight = np.random.default_rng(0).integers(0, 3, size=90)
    repeated, fold = np.repeat(np.arange(90), weight), np.arange(90) % 3
    splits = lambda fold: [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(3)]
    weighted = KernelFusionRegressor(0.1, cv=splits(fold), **rule).fit(X, y, sample_weight=weight)
    plain = KernelFusionRegressor(0.1, cv=splits(fold[repeated]), **rule).fit(X.iloc[repeated], y[repeated])
    assert weighted.prior_weight_ == pytest.approx(plain.prior_weight_, abs=1e-8)
    assert_allclose(weighted.predict(X), plain.predict(X), atol=1e-8)
    assert_allclose(weighted.predict(X)[0], np.average(y, weights=weight))  # row 0 has no block
    assert np.isnan(weighted.oof_fused_[weight == 0]).all()


def test_splits_may_be_given(blocks):
    X, y = blocks
    cv = StratifiedKFold(3, shuffle=True, random_state=1)
    given = KernelFusionClassifier(cv=cv).fit(X, y)
    assert_allclose(given.oof_proba_, KernelFusionClassifier(cv=list(cv.split(X, y))).fit(X, y).oof_proba_)


def test_a_row_hardly_moves_its_own_prediction_out_of_fold_in_a_search():
    """On noise the prediction is nearly the mean of y: 1 more with the row, and no more than the choice of a penalty
    by the other folds, whose models have seen the row, without it.
    """
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 6)), columns=[f"{b}__{i}" for b in ("a", "b") for i in range(3)])
    y = rng.normal(size=40)
    far = np.where(np.arange(40) == 0, 40.0, y)
    splits = [(np.flatnonzero(np.arange(40) % 4 != k), np.flatnonzero(np.arange(40) % 4 == k)) for k in range(4)]

    def out_of_fold(target):
        fusion = KernelFusionRegressor(0.1)
        blocks = fusion._read(X, reset=True)
        return fusion._predict_oof(blocks, Ledger(target, splits, None, []))

    own = np.arange(40) % 4 == 0
    assert_allclose(out_of_fold(far)[own], out_of_fold(y)[own], atol=0.1)
