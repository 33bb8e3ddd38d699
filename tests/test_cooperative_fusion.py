"""Cooperative learning: what a user relies on."""

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from joblib._parallel_backends import LokyBackend
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from ensemblefuse import (
    CooperativeClassifier,
    CooperativeRegressor,
    MissingModalityWarning,
    load_model,
    save_model,
)


def drop_block(X, name, rows):
    X = X.copy()
    X.loc[X.index[rows], [c for c in X.columns if c.startswith(f"{name}__")]] = np.nan
    return X


def make_numbers(n=80, widths=(4, 3), noise=0.5, random_state=0):
    """Blocks that share a factor, which is the target."""
    rng = np.random.default_rng(random_state)
    y = rng.normal(size=n)
    columns = {}
    for name, width in zip(("image", "text", "audio"), widths, strict=False):
        block = np.outer(y, rng.normal(size=width)) + rng.normal(size=(n, width))
        columns.update({f"{name}__{i}": block[:, i] for i in range(width)})
    return pd.DataFrame(columns), 3 + y + noise * rng.normal(size=n)


def scaled_parts(X):
    """Standardised blocks, 0 where absent, as with ``scaling=None``."""
    Z = pd.DataFrame(StandardScaler().fit_transform(X), columns=X.columns)
    names = dict.fromkeys(c.split("__")[0] for c in X.columns)
    return {name: Z[[c for c in X.columns if c.startswith(name)]].fillna(0.0).to_numpy() for name in names}


def augmented(X, rho, weight=None):
    """The rows of Ding et al., written out: one more for each row and pair of blocks that it holds."""
    parts = scaled_parts(X)
    root = np.ones(len(X)) if weight is None else np.sqrt(weight)
    rows = [np.hstack(list(parts.values())) * root[:, None]]
    names = list(parts)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            both = (parts[a] != 0).all(axis=1) & (parts[b] != 0).all(axis=1)
            signs = {a: -np.sqrt(rho), b: np.sqrt(rho)}
            pair = np.hstack([signs.get(name, 0.0) * part for name, part in parts.items()]) * root[:, None]
            rows.append(pair[both])
    return np.vstack(rows)


def coefficients(model):
    return np.concatenate([np.ravel(part) for part in model.coef_.values()])


# ---------------------------------------------------------------------- cases with known answers


def test_without_agreement_it_is_least_squares_on_all_blocks():
    """T11."""
    X, y = make_numbers()
    model = CooperativeRegressor(0.0, alpha=0.0).fit(X, y)
    assert_allclose(model.predict(X), LinearRegression().fit(X, y).predict(X), atol=1e-8)


@pytest.mark.parametrize("widths", [(4, 3), (4, 3, 5)], ids=["two blocks", "three blocks"])
def test_at_rho_1_it_is_the_mean_of_the_blocks_own_models(widths):
    """T11, and its like for three blocks: the agreement takes the place of the products between blocks."""
    X, y = make_numbers(widths=widths)
    model = CooperativeRegressor(1.0, alpha=0.0, scaling=None).fit(X, y)
    own = {name: LinearRegression().fit(part, y).coef_ for name, part in scaled_parts(X).items()}
    for name, coef in own.items():
        assert_allclose(model.coef_[name], coef / len(widths), atol=1e-8)
    assert_allclose(model.intercept_, y.mean())


@pytest.mark.parametrize("widths", [(4, 3, 5), (200, 30, 150)], ids=["narrow", "wide"])
@pytest.mark.parametrize(("rho", "alpha"), [(0.7, 3.0), (5.0, 0.1), (0.0, 20.0)])
def test_it_is_ridge_on_augmented_rows(rho, alpha, widths):
    X, y = make_numbers(widths=widths)
    X = drop_block(drop_block(X, "image", range(0, 80, 5)), "text", range(0, 80, 4))
    weight = np.random.default_rng(1).uniform(0.5, 2, size=80)
    model = CooperativeRegressor(rho, alpha=alpha, scaling=None)
    rows = augmented(X, rho)
    target = np.r_[y - y.mean(), np.zeros(len(rows) - 80)]
    direct = Ridge(alpha, fit_intercept=False, solver="svd").fit(rows, target)
    assert_allclose(coefficients(model.fit(X, y)), direct.coef_, atol=1e-8)
    weighted = coefficients(model.fit(X, y, sample_weight=weight))
    assert np.abs(weighted - direct.coef_).max() > 1e-4  # weights count


def test_wide_blocks_without_penalty_give_the_coefficients_of_least_norm():
    X, y = make_numbers(n=40, widths=(60, 50))
    model = CooperativeRegressor(0.5, alpha=0.0, scaling=None).fit(X, y)
    rows = augmented(X, 0.5)
    # rcond: before numpy 2, the default takes more of the smallest singular values for true ones.
    least, *_ = np.linalg.lstsq(rows, np.r_[y - y.mean(), np.zeros(40)], rcond=None)
    assert_allclose(coefficients(model), least, atol=1e-8)


def test_elastic_net_is_that_of_scikit_learn_on_augmented_rows():
    X, y = make_numbers(widths=(4, 3, 5))
    X = drop_block(X, "text", range(0, 80, 4))
    model = CooperativeRegressor(0.5, alpha=8.0, l1_ratio=0.7, scaling=None).fit(X, y)
    rows = augmented(X, 0.5)
    target = np.r_[y - y.mean(), np.zeros(len(rows) - 80)]
    direct = ElasticNet(8.0 / len(rows), l1_ratio=0.7, fit_intercept=False).fit(rows, target)
    assert_allclose(coefficients(model), direct.coef_, atol=1e-10)
    assert (coefficients(model) == 0).any()
    ridge = CooperativeRegressor(0.5, alpha=8.0).fit(X, y)
    nearly = CooperativeRegressor(0.5, alpha=8.0, l1_ratio=1e-9).fit(X, y)
    assert_allclose(nearly.predict(X), ridge.predict(X), atol=1e-3)  # one scale of alpha for both


@pytest.mark.parametrize("n_classes", [2, 3])
def test_without_agreement_the_classifier_is_logistic_regression(n_classes):
    X, y = make_blocks(n=120, n_classes=n_classes)
    model = CooperativeClassifier(0.0, alpha=5.0, scaling=None).fit(X, y)
    direct = LogisticRegression(C=1 / 5, tol=1e-8).fit(StandardScaler().fit_transform(X), y)
    assert_allclose(model.decision_function(X), direct.decision_function(StandardScaler().fit_transform(X)), atol=1e-4)
    assert model.coef_["image"].shape == ((1 if n_classes == 2 else 3), 6)


@pytest.mark.parametrize(
    "widths", [{"image": 6, "text": 4, "audio": 3}, {"image": 90, "text": 80}], ids=["narrow", "wide"]
)
def test_the_classifier_minimises_log_loss_with_both_penalties(widths):
    X, y = make_blocks(n=60, widths=widths, noise=2.0)
    X = drop_block(X, "text", range(0, 60, 5))
    rho, alpha = 0.4, 2.0
    model = CooperativeClassifier(rho, alpha=alpha, scaling=None).fit(X, y)
    rows, codes = augmented(X, rho), np.searchsorted(model.classes_, y)

    def objective(coef, intercept):
        logits = rows[:60] @ coef.T + intercept
        fit = -log_softmax(logits, axis=1)[np.arange(60), codes].sum()
        return fit + ((rows[60:] @ coef.T) ** 2).sum() / 2 + alpha / 2 * (coef**2).sum()

    coef = np.hstack(list(model.coef_.values()))
    best = objective(coef, model.intercept_)
    rng = np.random.default_rng(0)
    for size in (0.1, 0.01):
        for _ in range(20):
            step = size * rng.normal(size=coef.shape)
            there, back = objective(coef + step, model.intercept_), objective(coef - step, model.intercept_)
            assert min(there, back) > best
            assert abs(there - back) < 0.05 * (there + back - 2 * best)  # the slope at the minimum is 0


@pytest.mark.parametrize("estimator", [CooperativeRegressor, CooperativeClassifier])
def test_more_agreement_makes_the_blocks_agree_more(estimator):
    X, y = make_numbers()
    target = y if estimator is CooperativeRegressor else y > 3
    gaps = []
    for rho in (0.0, 0.5, 5.0, 100.0):
        model = estimator(rho, alpha=1.0, scaling=None).fit(X, target)
        a, b = (scaled_parts(X)[name] @ np.ravel(model.coef_[name]) for name in ("image", "text"))
        gaps.append(np.mean((a - b) ** 2) / np.mean((a + b) ** 2))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.75 * gaps[0]  # what is left is noise that no scale takes away


# ---------------------------------------------------------------------- what is chosen


def test_rho_and_alpha_are_the_pair_of_least_out_of_fold_error():
    X, y = make_numbers(n=60, widths=(30, 20), noise=1.0)
    pairs = [(rho, alpha) for rho in (0.0, 1.0) for alpha in (0.1, 10.0, 1e5)]
    alone = {pair: CooperativeRegressor(pair[0], alpha=pair[1]).fit(X, y) for pair in pairs}
    errors = {pair: ((model.oof_fused_ - y) ** 2).mean() for pair, model in alone.items()}
    model = CooperativeRegressor((0.0, 1.0), alpha=(0.1, 10.0, 1e5)).fit(X, y)
    best = min(errors, key=errors.get)
    assert (model.rho_, model.alpha_) == best
    assert best[1] == 10.0
    assert_allclose(model.oof_fused_, alone[best].oof_fused_, rtol=1e-5)
    assert_allclose(model.predict(X), alone[best].predict(X))


def test_the_classifier_chooses_by_log_loss():
    X, y = make_blocks(n=120, noise=2.0)
    pairs = [(rho, alpha) for rho in (0.0, 0.5) for alpha in (0.01, 10.0)]
    alone = {pair: CooperativeClassifier(pair[0], alpha=pair[1]).fit(X, y) for pair in pairs}
    losses = {pair: log_loss(y, model.oof_proba_) for pair, model in alone.items()}
    model = CooperativeClassifier((0.0, 0.5), alpha=(0.01, 10.0)).fit(X, y)
    best = min(losses, key=losses.get)
    assert (model.rho_, model.alpha_) == best
    assert_allclose(model.oof_proba_, alone[best].oof_proba_, rtol=1e-4)
    assert model.oof_proba_.dtype == np.float32


def test_out_of_fold_predictions_are_those_of_models_without_the_fold():
    X, y = make_numbers()
    half = np.arange(80) < 40
    cv = [(np.flatnonzero(half), np.flatnonzero(~half)), (np.flatnonzero(~half), np.flatnonzero(half))]
    model = CooperativeRegressor(0.5, alpha=1.0, cv=cv).fit(X, y)
    part = CooperativeRegressor(0.5, alpha=1.0).fit(X[half], y[half])
    assert_allclose(model.oof_fused_[~half], part.predict(X[~half]), rtol=1e-5)


def test_probabilities_are_as_certain_as_they_are_right():
    X, y = make_blocks(n=900, noise=2.2)
    model = CooperativeClassifier().fit(X[:400], y[:400])
    proba = model.predict_proba(X[400:])
    accuracy = (model.classes_[proba.argmax(axis=1)] == y[400:]).mean()
    assert abs(proba.max(axis=1).mean() - accuracy) < 0.05
    assert 0.5 < accuracy < 0.9


def test_random_labels_give_chance():
    X, _ = make_blocks(n=200)
    y = np.random.default_rng(3).integers(0, 2, size=200)
    model = CooperativeClassifier().fit(X, y)
    assert log_loss(y, model.oof_proba_) > 0.67
    assert abs((model.oof_proba_.argmax(axis=1) == y).mean() - 0.5) < 0.1


def test_groups_stay_together():
    """Each row stands twice, with a random target: whoever splits the pairs believes to know."""
    X, y = make_numbers(n=40, widths=(30, 20))
    X, groups = pd.concat([X, X], ignore_index=True), np.tile(np.arange(40), 2)
    y = np.tile(np.random.default_rng(5).normal(size=40), 2)
    apart = CooperativeRegressor(0.0, alpha=0.01).fit(X, y)
    together = CooperativeRegressor(0.0, alpha=0.01).fit(X, y, groups=groups)
    assert ((apart.oof_fused_ - y) ** 2).mean() < 0.5 * y.var()
    assert ((together.oof_fused_ - y) ** 2).mean() > y.var()


@pytest.mark.parametrize("labels", [["cat", "dog", "elk"], [3, 7, 11], ["yes", "no"], [True, False]], ids=str)
def test_every_kind_of_label(labels):
    X, y = make_blocks(n=90, n_classes=len(labels), noise=0.7)
    y = np.array(labels)[[int(label[-1]) for label in y]]
    model = CooperativeClassifier(cv=3).fit(X, y)
    assert model.classes_.tolist() == sorted(labels)
    assert (model.predict(X) == y).mean() > 0.9
    proba = model.predict_proba(X)
    assert_allclose(proba.sum(axis=1), 1)
    assert (model.classes_[proba.argmax(axis=1)] == model.predict(X)).all()


def test_a_fold_may_lack_a_class():
    X, y = make_blocks(n=90, noise=0.7)
    y[0] = "class 9"
    model = CooperativeClassifier(cv=3).fit(X, y)
    assert np.isfinite(model.oof_proba_).all()
    assert model.oof_proba_[0].argmax() != 3  # its fold knew no such class
    assert (model.predict(X)[1:] == y[1:]).mean() > 0.9


# ---------------------------------------------------------------------- missing blocks, weights


def test_a_missing_block_has_the_part_0():
    X, y = make_numbers()
    holes = drop_block(X, "text", range(0, 80, 5))
    model = CooperativeRegressor().fit(holes, y)
    image = scaled_parts(X)["image"] * model.scaler_.scale_["image"]
    assert_allclose(model.predict(holes)[::5], (model.intercept_ + image @ model.coef_["image"])[::5])


def test_blocks_missing_in_fit_and_predict():
    X, y = make_blocks(n=300, noise=0.8)
    holes = drop_block(drop_block(X, "image", range(0, 300, 2)), "text", range(1, 300, 4))
    holes = drop_block(drop_block(holes, "audio", [0, 5]), "text", [0])
    model = CooperativeClassifier().fit(holes[:200], y[:200])
    assert (model.predict(X[200:]) == y[200:]).mean() > 0.8
    assert (model.predict(holes[200:]) == y[200:]).mean() > 0.7
    assert np.isnan(model.oof_proba_[0]).all()  # row 0 has no block
    assert np.isfinite(model.oof_proba_[1:]).all()


@pytest.mark.parametrize("scaling", ["equal", "mfa", "frobenius", None])
def test_a_block_that_no_row_of_fit_held_counts_as_absent(scaling, blocks):
    X, y = blocks
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        model = CooperativeClassifier(0.5, scaling=scaling).fit(drop_block(X, "text", range(150)), y)
    assert (model.predict(X) == model.predict(drop_block(X, "text", range(150)))).all()
    only = drop_block(drop_block(X, "image", [0]), "audio", [0]).iloc[[0]]
    with pytest.warns(MissingModalityWarning):
        assert_allclose(model.predict_proba(only)[0], model.prior_)


def test_a_row_without_blocks_gets_the_prior():
    X, y = make_blocks(n=90)
    y[:40] = "class 0"
    X = drop_block(drop_block(drop_block(X, "image", [3]), "text", [3]), "audio", [3])
    model = CooperativeClassifier(cv=3).fit(X, y)
    frequencies = pd.Series(y).value_counts(normalize=True).sort_index()
    assert_allclose(model.predict_proba(X.iloc[[3, 3]]), np.tile(frequencies, (2, 1)))
    number = np.arange(90.0)
    assert_allclose(CooperativeRegressor(cv=3).fit(X, number).predict(X.iloc[[3]]), number.mean())


def test_a_new_pattern_of_missing_blocks_warns_once(blocks):
    X, y = blocks
    model = CooperativeClassifier().fit(X, y)
    with pytest.warns(MissingModalityWarning, match=r"no row in fit without \['text'\]") as caught:
        model.predict_proba(drop_block(X, "text", [0, 1]))
    assert len(caught) == 1


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
def test_a_row_of_weight_2_is_two_rows(l1_ratio):
    X, y = make_numbers()
    X = drop_block(X, "text", range(0, 80, 5))
    weight = np.random.default_rng(0).integers(0, 3, size=80)
    repeated = np.repeat(np.arange(80), weight)
    # The scale of alpha is that of sums over rows, so that the number of rows does not matter.
    model = CooperativeRegressor(0.5, alpha=1.0, l1_ratio=l1_ratio, cv=3)
    weighted, plain = (
        model.fit(X, y, sample_weight=weight).predict(X),
        model.fit(X.iloc[repeated], y[repeated]).predict(X),
    )
    assert_allclose(weighted, plain, atol=1e-10 if l1_ratio == 0 else 1e-3)
    codes = y > 3
    model = CooperativeClassifier(0.5, alpha=1.0, cv=3)
    weighted = model.fit(X, codes, sample_weight=weight).decision_function(X)
    assert_allclose(weighted, model.fit(X.iloc[repeated], codes[repeated]).decision_function(X), atol=1e-6)


def test_jobs_for_the_folds_start_no_processes(blocks, monkeypatch):
    alone = CooperativeClassifier().fit(*blocks)
    configure = LokyBackend.configure

    def for_one_job(self, n_jobs=1, **settings):  # which LogisticRegression of scikit-learn 1.7 asks for; no process
        assert n_jobs == 1
        return configure(self, n_jobs, **settings)

    monkeypatch.setattr(LokyBackend, "configure", for_one_job)
    assert_array_equal(CooperativeClassifier(n_jobs=2).fit(*blocks).oof_proba_, alone.oof_proba_)


def test_models_survive_a_file(blocks, tmp_path):
    X, y = blocks
    X = drop_block(X, "text", range(0, 150, 5))
    for model, target in ((CooperativeClassifier(), y), (CooperativeRegressor(), X["image__0"].to_numpy())):
        loaded = load_model(save_model(model.fit(X, target), tmp_path / f"{type(model).__name__}.fuse"))
        assert_allclose(loaded.predict(X) == model.predict(X), True)
        assert list(loaded.coef_) == ["image", "text", "audio"]


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"rho": -0.1}, "rho must be a finite number at least 0"),
        ({"rho": ()}, "rho must be"),
        ({"alpha": -1.0}, "alpha must be a finite number at least 0"),
        ({"l1_ratio": 1.5}, "l1_ratio must be between 0 and 1"),
        ({"scaling": "unit"}, "scaling must be"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        CooperativeRegressor(**params).fit(*make_numbers())


def test_the_classifier_needs_a_penalty(blocks):
    with pytest.raises(ValueError, match="alpha must be a finite number above 0"):
        CooperativeClassifier(alpha=0.0).fit(*blocks)


def test_bad_tables_are_refused(blocks):
    X, y = blocks
    with pytest.raises(ValueError, match="every block is missing in every row"):
        CooperativeClassifier().fit(X * np.nan, y)
    with pytest.raises(ValueError, match="Block 'image' is partly NaN in 1 row"):
        CooperativeClassifier().fit(X.assign(image__0=X["image__0"].where(X.index != 3)), y)
    with pytest.raises(ValueError, match=r"the blocks \['title'\] hold raw cells"):
        CooperativeRegressor().fit(X.assign(title__0="a cat"), np.arange(150.0))
    with pytest.raises(ValueError, match="predicts one number per row"):
        CooperativeRegressor().fit(X, np.ones((150, 2)))
