"""Sequential fusion: what a user relies on."""

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import every_pair, make_blocks, slow_but
from joblib import Parallel
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logit, softmax
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression, LogisticRegressionCV, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR
from xgboost import XGBClassifier, XGBRegressor

from ensemblefuse import (
    DecisionFusionClassifier,
    MissingModalityWarning,
    SequentialFusionClassifier,
    SequentialFusionRegressor,
    load_model,
    save_model,
)
from ensemblefuse.fusion import _jobs
from ensemblefuse.fusion._sequential_stage import fit_stage, stage_step
from ensemblefuse.testing import check_fusion

TREES = XGBClassifier(n_estimators=20, max_depth=2)
HEADS = [None, TREES, make_pipeline(StandardScaler(), SVR()), RandomForestRegressor(10, random_state=0)]

# One that is linear, and one of trees.
QUICK = [None, TREES]


def drop_block(X, name, rows):
    X = X.copy()
    X.loc[X.index[rows], [c for c in X.columns if c.startswith(f"{name}__")]] = np.nan
    return X


def numbers(n=300, noise=0.5, random_state=0):
    """Blocks that each hold a part of a sum."""
    rng = np.random.default_rng(random_state)
    X = pd.DataFrame(rng.normal(size=(n, 5)), columns=["a__0", "a__1", "b__0", "b__1", "c__0"])
    return X, (2 * X["a__0"] + X["b__0"] + 0.5 * X["c__0"]).to_numpy() + noise * rng.normal(size=n)


def prior_loss(y):
    shares = np.unique(y, return_counts=True)[1] / len(y)
    return -(shares * np.log(shares)).sum()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_boosted_trees_add_to_the_margin_that_they_are_given(n_classes):
    """T17: a margin that is greater by a constant gives a prediction that is, and trees of margin 0 tell the step."""
    X, y = make_blocks(n=120, n_classes=n_classes)
    X, y = X.to_numpy(), np.unique(y, return_inverse=True)[1]
    rng = np.random.default_rng(0)
    margin = rng.normal(size=(120, n_classes))
    fitted, _ = fit_stage(TREES, X, y, None, margin, True)
    base = margin[:, 1] - margin[:, 0] if n_classes == 2 else margin
    raised = fitted.predict(X, output_margin=True, base_margin=base + 1)
    assert_allclose(raised, fitted.predict(X, output_margin=True, base_margin=base) + 1, atol=1e-5)
    step = stage_step(fitted, X, np.arange(n_classes), n_classes)
    direct = clone(TREES).fit(X, y, base_margin=base).predict_proba(X, base_margin=base)
    assert_allclose(softmax(margin + step, axis=1), direct, atol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_one_block_is_one_boosted_model(n_classes):
    X, y = make_blocks(n=150, n_classes=n_classes, widths={"image": 5})
    model = SequentialFusionClassifier(TREES).fit(X, y)
    codes = np.searchsorted(model.classes_, y)
    base = np.tile(np.log(model.prior_), (150, 1))
    base = base[:, 1] - base[:, 0] if n_classes == 2 else base
    alone = clone(TREES).fit(X.to_numpy(), codes, base_margin=base)
    assert_allclose(model.predict_proba(X), alone.predict_proba(X.to_numpy(), base_margin=base), atol=1e-6)
    assert_allclose(model.prior_, np.bincount(codes) / 150)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "head",
    [
        LogisticRegression(C=0.3, tol=1e-8),
        LogisticRegression(C=0.3, tol=1e-8, class_weight="balanced"),
        make_pipeline(StandardScaler(), LogisticRegression(C=2, tol=1e-8)),
    ],
    ids=["plain", "balanced", "scaled"],
)
def test_one_block_is_one_logistic_regression(n_classes, head):
    X, y = make_blocks(n=150, n_classes=n_classes, widths={"image": 5}, noise=1.5)
    weight = np.random.default_rng(0).random(150) + 0.1
    for w, params in ((None, {}), (weight, {"logisticregression__sample_weight": weight})):
        if w is not None and not hasattr(head, "steps"):
            params = {"sample_weight": w}
        elif w is not None:
            params["standardscaler__sample_weight"] = w
        model = SequentialFusionClassifier(head).fit(X, y, sample_weight=w)
        alone = clone(head).fit(X, y, **params)
        assert_allclose(model.predict_proba(X), alone.predict_proba(X), atol=1e-5)


def test_the_default_head_without_penalty_fits_the_offset_exactly():
    """What is known already is added, not learned again: true log-odds as a margin leave nothing to do."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20000, 1))
    known = np.column_stack([np.zeros(20000), 2 * x[:, 0]])
    y = (rng.random(20000) < softmax(known, axis=1)[:, 1]).astype(int)
    head = LogisticRegression(C=np.inf)
    nothing, _ = fit_stage(head, x, y, None, known, True)
    assert_allclose(nothing.coef_, 0, atol=0.06)
    half, _ = fit_stage(head, x, y, None, known / 2, True)
    assert_allclose(half.coef_, 1, atol=0.06)
    all_of_it, _ = fit_stage(head, x, y, None, 0 * known, True)
    assert_allclose(all_of_it.coef_, 2, atol=0.06)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "head", slow_but(QUICK.__contains__, HEADS), ids=lambda h: "default" if h is None else type(h).__name__
)
def test_each_stage_of_complementary_blocks_lowers_the_loss(head):
    X, y = make_blocks(n=1000, noise=1.4)
    model = SequentialFusionClassifier(head).fit(X[:300], y[:300])
    losses = model.stage_losses_
    assert prior_loss(y[:300]) > losses[0] > losses[1] > losses[2]
    assert losses[2] == pytest.approx(log_loss(y[:300], model.oof_proba_), abs=1e-4)
    # Out of fold tells the truth about new rows.
    assert log_loss(y[300:], model.predict_proba(X[300:])) == pytest.approx(losses[2], abs=0.12)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "head",
    [None, RandomForestRegressor(20, min_samples_leaf=15, random_state=0), XGBRegressor(n_estimators=8, max_depth=2)],
    ids=["default", "forest", "trees"],
)
def test_each_stage_of_a_regression_lowers_the_error(head):
    X, y = numbers()
    model = SequentialFusionRegressor(head).fit(X[:200], y[:200])
    assert model.order_ == ["a", "b", "c"]
    assert y[:200].var() > model.stage_losses_[0] > model.stage_losses_[1] > model.stage_losses_[2]
    assert model.stage_losses_[2] == pytest.approx(((model.oof_fused_ - y[:200]) ** 2).mean(), rel=1e-4)
    assert ((model.predict(X[200:]) - y[200:]) ** 2).mean() == pytest.approx(model.stage_losses_[2], rel=0.5)


def test_a_regression_stage_is_fitted_to_the_out_of_fold_residual():
    X, y = numbers(n=90)
    splits = list(KFold(3).split(X))
    model = SequentialFusionRegressor(LinearRegression(), order=["b", "a", "c"], learning_rate=0.5, cv=splits).fit(X, y)
    margin, fused = np.full(90, y.mean()), np.full(90, y.mean())
    for name in ("b", "a", "c"):
        part, after = X.filter(like=f"{name}__").to_numpy(), margin.copy()
        for train, test in splits:
            after[test] += 0.5 * LinearRegression().fit(part[train], (y - margin)[train]).predict(part[test])
        fused += 0.5 * LinearRegression().fit(part, y - margin).predict(part)
        margin = after
    assert_allclose(model.oof_fused_, margin, rtol=1e-5)
    assert_allclose(model.predict(X), fused)
    assert_allclose(model.step_sizes_, 0.5)


@pytest.mark.parametrize("head", [None, Ridge()], ids=["default", "gradient"])
def test_a_copy_of_a_block_has_almost_nothing_left_to_learn(head):
    X, y = make_blocks(n=400, widths={"image": 6}, noise=1.4)
    X = pd.concat([X, X.rename(columns=lambda c: c.replace("image", "copy"))], axis=1)
    model = SequentialFusionClassifier(head, order=["image", "copy"]).fit(X, y)
    first, second = model.staged_predict_proba(X)
    assert np.abs(second - first).mean() < 0.1 * np.abs(first - model.prior_).mean()
    assert model.stage_losses_[1] > model.stage_losses_[0] - 0.02


def test_a_stage_that_knows_its_rows_by_heart_does_not_blind_the_next():
    X, y = numbers(noise=0.1)
    heart = KNeighborsRegressor(1)
    model = SequentialFusionRegressor({"a": heart, "b": Ridge()}, order=["a", "b", "c"]).fit(X[:200], y[:200])
    assert_array_equal(heart.fit(X.filter(like="a__")[:200], y[:200]).predict(X.filter(like="a__")[:200]), y[:200])
    # The residuals of its training rows are 0 and would leave 0 to learn; b's true coefficient is 1.
    assert model.estimators_["b"].coef_[0] == pytest.approx(1, abs=0.35)
    alone = KNeighborsRegressor(1).fit(X.filter(like="a__")[:200], y[:200]).score(X.filter(like="a__")[200:], y[200:])
    assert model.score(X[200:], y[200:]) > alone + 0.05


def test_in_classification_too_a_forest_does_not_blind_the_next_stage():
    X, y = make_blocks(n=400, noise=1.4)
    estimators = {"image": RandomForestRegressor(30, random_state=0)}
    model = SequentialFusionClassifier(estimators, order=["image", "text", "audio"]).fit(X[:250], y[:250])
    losses = [log_loss(y[250:], p) for p in model.staged_predict_proba(X[250:])]
    assert losses[0] - 0.1 > losses[1] > losses[2]
    assert model.step_sizes_[0] > 1 and 0.7 < model.step_sizes_[1] <= 1  # a default stage counts at most once


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "head", slow_but(QUICK.__contains__, HEADS), ids=lambda h: "default" if h is None else type(h).__name__
)
def test_random_labels_are_not_learned(head):
    X, y = make_blocks(n=300, noise=1.4)
    y = np.random.default_rng(1).permutation(y)
    model = SequentialFusionClassifier(head).fit(X, y)
    assert (model.classes_[model.oof_proba_.argmax(axis=1)] == y).mean() < 0.42
    assert model.stage_losses_[-1] > prior_loss(y) - 0.03


def test_random_numbers_are_not_learned():
    X, y = numbers()
    y = np.random.default_rng(1).permutation(y)
    for head in (None, RandomForestRegressor(20, random_state=0)):
        assert (SequentialFusionRegressor(head).fit(X, y).stage_losses_ > 0.95 * y.var()).all()


def test_the_order_is_that_of_the_blocks_alone_and_may_be_given():
    X, y = make_blocks(n=300, widths={"weak": 2, "strong": 8, "fair": 4}, noise=1.6)
    losses = {
        name: -cross_val_score(LogisticRegression(), X.filter(like=name), y, scoring="neg_log_loss").mean()
        for name in ("weak", "strong", "fair")
    }
    auto = SequentialFusionClassifier().fit(X, y)
    assert auto.order_ == sorted(losses, key=losses.get) != list(losses)
    given = SequentialFusionClassifier(order=auto.order_).fit(X, y)
    assert_allclose(given.predict_proba(X), auto.predict_proba(X))
    assert_allclose(given.stage_losses_, auto.stage_losses_)
    turned = SequentialFusionClassifier(order=auto.order_[::-1]).fit(X, y)
    assert list(turned.estimators_) == auto.order_[::-1]
    assert np.abs(turned.predict_proba(X) - auto.predict_proba(X)).max() > 0.01


def test_stages_can_be_watched_like_boosting():
    X, y = make_blocks()
    model = SequentialFusionClassifier(learning_rate=0.5).fit(X, y)
    stages = list(model.staged_predict_proba(X))
    assert len(stages) == len(model.order_) == 3
    assert_allclose(stages[-1], model.predict_proba(X))
    assert_array_equal(list(model.staged_predict(X))[-1], model.predict(X))
    # On the log-odds scale stages add up.
    steps = [np.diff(np.log(s[:, :2]), axis=1)[:, 0] for s in stages]
    alone = model.estimators_[model.order_[0]].decision_function(X.filter(like=f"{model.order_[0]}__").to_numpy())
    assert_allclose(steps[0] - np.log(model.prior_[1] / model.prior_[0]), 0.5 * (alone[:, 1] - alone[:, 0]), atol=1e-9)
    X, y = numbers()
    model = SequentialFusionRegressor().fit(X, y)
    assert_allclose(list(model.staged_predict(X))[-1], model.predict(X))


def test_a_missing_block_adds_nothing_and_its_rows_take_no_part():
    X, y = make_blocks()
    holes = drop_block(X, "audio", slice(0, 60))
    model = SequentialFusionClassifier(LogisticRegression(), order=["audio", "image", "text"]).fit(holes, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second, third = model.staged_predict_proba(drop_block(X, "image", slice(None)))
    assert_allclose(first, second)
    assert (model.classes_[third.argmax(axis=1)] == y).mean() > 0.6
    part = X.filter(like="audio__")[60:]
    known = SequentialFusionClassifier(LogisticRegression()).fit(part, y[60:])
    assert_allclose(model.estimators_["audio"].coef_, known.estimators_["audio"].coef_, atol=1e-3)
    assert np.isfinite(model.oof_proba_).all()


def test_a_row_with_no_block_gets_the_prior():
    X, y = make_blocks(n=100, n_classes=2)
    y[:30] = "class 0"
    weight = np.where(y == "class 0", 2.0, 1.0)
    nothing = pd.DataFrame(np.nan, index=[0], columns=X.columns)
    model = SequentialFusionClassifier().fit(X, y, sample_weight=weight)
    share = 2 * (y == "class 0").sum() / weight.sum()
    assert_allclose(model.predict_proba(nothing)[0], [share, 1 - share])
    model = SequentialFusionRegressor().fit(X, np.arange(100.0), sample_weight=weight)
    assert_allclose(model.predict(nothing), np.average(np.arange(100.0), weights=weight))


def test_a_block_that_no_row_holds_is_left_out_with_a_warning():
    X, y = make_blocks()
    X = drop_block(X, "audio", slice(None))
    with pytest.warns(MissingModalityWarning, match=r"leaves out these blocks.*'audio': 0"):
        model = SequentialFusionClassifier(order=["audio", "text", "image"]).fit(X, y)
    assert model.order_ == ["text", "image"] and len(model.stage_losses_) == 2
    with pytest.raises(ValueError, match="nothing to fit"):
        SequentialFusionClassifier().fit(X * np.nan, y)


@pytest.mark.by_turns
@pytest.mark.parametrize("head", HEADS[:3], ids=lambda h: "default" if h is None else type(h).__name__)
def test_a_block_that_only_some_classes_have_says_nothing_of_the_others(head):
    X, y = make_blocks(n=150)
    X = drop_block(X, "image", y == "class 2")
    model = SequentialFusionClassifier(head, order=["image", "text", "audio"]).fit(X, y)
    assert model.stage_classes_["image"].tolist() == [0, 1]
    first = next(model.staged_predict_proba(X))
    # Their log-probability stays in the middle of the others'.
    middle = np.log(first[:, :2] / model.prior_[:2]).mean(axis=1)
    assert_allclose(np.log(first[:, 2] / model.prior_[2]), middle, atol=1e-6)
    assert (model.predict(X) == y).mean() > 0.8


def test_rows_without_an_out_of_fold_margin_take_no_part_in_later_stages():
    X, y = numbers(n=90)
    splits = [(np.arange(30, 90), np.arange(30)), (np.arange(30), np.arange(30, 60))]  # the last 30 are never tested
    wild = y.copy()
    wild[60:] = 1000
    models = [SequentialFusionRegressor(Ridge(), order=["a", "b", "c"], cv=splits).fit(X, t) for t in (y, wild)]
    assert np.isnan(models[0].oof_fused_[60:]).all() and np.isfinite(models[0].oof_fused_[:60]).all()
    # The wild rows teach the first stage and its fold, and no stage after it.
    assert np.abs(models[1].estimators_["b"].predict(X.filter(like="b__").to_numpy())).max() < 1000


@pytest.mark.by_turns
@pytest.mark.parametrize(
    ("head", "labels"),
    every_pair(HEADS, [["cat", "dog", "elk"], [3, 7, 11], ["yes", "no"], [True, False]]),
    ids=lambda value: str(value) if isinstance(value, list) else type(value).__name__,
)
def test_every_head_works_with_every_kind_of_label(head, labels):
    X, y = make_blocks(n=90, n_classes=len(labels), noise=0.7)
    y = np.array(labels)[[int(label[-1]) for label in y]]
    model = SequentialFusionClassifier(head, cv=3).fit(X, y)
    assert model.classes_.tolist() == sorted(labels)
    assert (model.predict(X) == y).mean() > 0.8
    assert_allclose(model.predict_proba(X).sum(axis=1), 1)


@pytest.mark.by_turns
@pytest.mark.parametrize("head", HEADS[:2], ids=["default", "trees"])
def test_a_row_of_weight_two_is_two_rows(head):
    X, y = make_blocks(n=120, noise=1.4)
    fold = np.arange(120) % 3
    weight = np.where(np.arange(120) < 40, 2.0, 1.0)
    twice = np.r_[np.arange(120), np.arange(40)]
    splits = lambda of: [(np.flatnonzero(of != k), np.flatnonzero(of == k)) for k in range(3)]
    a = SequentialFusionClassifier(head, cv=splits(fold)).fit(X, y, sample_weight=weight)
    b = SequentialFusionClassifier(head, cv=splits(fold[twice])).fit(X.iloc[twice], y[twice])
    assert a.order_ == b.order_
    assert_allclose(a.stage_losses_, b.stage_losses_, rtol=5e-3)
    assert_allclose(a.predict_proba(X), b.predict_proba(X), atol=2e-3)


@pytest.mark.filterwarnings("ignore:.*take no sample_weight")
def test_rows_of_weight_0_are_not_fitted_even_by_an_estimator_without_weights():
    X, y = numbers(120)
    weight = (np.arange(120) % 3 > 0).astype(float)
    fold = np.arange(120) // 3 % 4
    splits = lambda fold: [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(4)]
    heavy = weight > 0
    head = KNeighborsRegressor(1)
    spoilt = np.where(heavy, y, 1000.0)
    model = SequentialFusionRegressor(head, cv=splits(fold)).fit(X, spoilt, sample_weight=weight)
    alone = SequentialFusionRegressor(head, cv=splits(fold[heavy])).fit(X[heavy], y[heavy])
    assert model.order_ == alone.order_
    assert_allclose(model.predict(X), alone.predict(X))
    assert_allclose(model.oof_fused_[heavy], alone.oof_fused_)


def test_a_class_of_no_weight_is_not_one_to_learn():
    X, y = make_blocks(n=90, n_classes=2)
    y[:30] = "nothing"
    weight = np.where(y == "nothing", 0.0, 1.0)
    model = SequentialFusionClassifier(Ridge()).fit(X, y, sample_weight=weight)
    assert [classes.tolist() for classes in model.stage_classes_.values()] == [[0, 1]] * 3
    assert (model.predict_proba(X)[:, 2] < 1e-6).all()


def test_out_of_fold_numbers_keep_their_precision():
    X, y = numbers(100)
    far = SequentialFusionRegressor(Ridge()).fit(X, y + 1.7e9)
    assert far.oof_fused_.dtype == np.float64
    assert_allclose(far.oof_fused_ - 1.7e9, SequentialFusionRegressor(Ridge()).fit(X, y).oof_fused_, atol=1e-4)


def test_workers_are_not_started_for_short_fits(monkeypatch, blocks):
    monkeypatch.setattr(Parallel, "__call__", None)
    SequentialFusionClassifier(n_jobs=2).fit(*blocks)


def test_long_fits_get_workers_once_that_is_known(monkeypatch, blocks):
    alone = SequentialFusionClassifier().fit(*blocks)
    monkeypatch.setattr(_jobs, "_WORTH_WORKERS", 0.0)
    monkeypatch.setattr(_jobs, "Parallel", lambda n_jobs: Parallel(n_jobs, backend="threading"))
    assert_array_equal(SequentialFusionClassifier(n_jobs=2).fit(*blocks).oof_proba_, alone.oof_proba_)


def test_an_estimator_without_weights_is_named_once():
    X, y = numbers(n=60)
    with pytest.warns(UserWarning, match=r"estimators of \['a'\] take no sample_weight") as caught:
        SequentialFusionRegressor({"a": KNeighborsRegressor()}).fit(X, y, sample_weight=np.arange(60) % 2 + 1)
    assert len(caught) == 1


def test_groups_are_never_on_both_sides_of_an_inner_split():
    X, y = numbers(n=30)
    rows, groups = np.arange(30).repeat(3), np.arange(30).repeat(3)
    X, y = X.iloc[rows], np.random.default_rng(0).normal(size=30)[rows]
    shuffled = KFold(5, shuffle=True, random_state=0)
    with pytest.raises(ValueError, match="on both sides of a split"):
        SequentialFusionRegressor(cv=shuffled).fit(X, y, groups=groups)
    heart = KNeighborsRegressor(1)
    assert SequentialFusionRegressor(heart, cv=shuffled).fit(X, y).stage_losses_[0] < 0.5 * y.var()
    assert SequentialFusionRegressor(heart).fit(X, y, groups=groups).stage_losses_[0] > y.var()


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "head", slow_but(QUICK.__contains__, HEADS), ids=lambda h: "default" if h is None else type(h).__name__
)
def test_a_saved_model_predicts_the_same(head, tmp_path):
    X, y = make_blocks(n=90)
    model = SequentialFusionClassifier(head, cv=3).fit(X, y)
    save_model(model, tmp_path / "model.fuse", example=X[:3])
    assert_array_equal(load_model(tmp_path / "model.fuse").predict_proba(X), model.predict_proba(X))


def test_a_saved_regressor_predicts_the_same(tmp_path):
    X, y = numbers(n=60)
    model = SequentialFusionRegressor().fit(X, y)
    save_model(model, tmp_path / "model.fuse", example=X[:3])
    assert_array_equal(load_model(tmp_path / "model.fuse").predict(X), model.predict(X))


def test_a_dict_of_estimators_can_be_searched():
    X, y = make_blocks(n=90)
    fusion = SequentialFusionClassifier({"image": LogisticRegression(), "text": TREES}, cv=3)
    grid = {"estimators__image__C": [0.1, 1.0], "estimators__text": [Ridge(), TREES], "learning_rate": [0.5]}
    search = GridSearchCV(fusion, grid, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 4 and np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert fusion.estimators["image"].C == 1.0  # the search worked on clones
    with pytest.raises(ValueError, match="Invalid parameter 'estimators__sound__C'"):
        fusion.set_params(estimators__sound__C=1)


def test_a_raw_block_goes_to_an_estimator_of_its_own():
    X, y = make_blocks(n=90, noise=2.0)
    words = {"class 0": "sun sea", "class 1": "snow ski", "class 2": "rain tea"}
    X["title__raw"] = [f"{words[label]} {i}" for i, label in enumerate(y)]
    X.loc[3, "title__raw"] = None
    text = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    model = SequentialFusionClassifier({"title": text}).fit(X, y)
    assert model.order_[0] == "title" and (model.predict(X) == y).mean() > 0.98
    with pytest.raises(ValueError, match=r"\['title'\] hold raw cells and have no estimator"):
        SequentialFusionClassifier().fit(X, y)


def test_a_partly_missing_block_is_an_error_unless_its_estimator_takes_it():
    X, y = make_blocks(n=90)
    X.iloc[4, 0] = np.nan
    with pytest.raises(ValueError, match="Block 'image' is partly NaN in 1 row"):
        SequentialFusionClassifier().fit(X, y)
    assert np.isfinite(SequentialFusionClassifier({"image": TREES}).fit(X, y).predict_proba(X)).all()


def test_a_logistic_regression_that_is_cut_short_says_so():
    X, y = make_blocks(n=90, noise=2.0)
    with pytest.warns(ConvergenceWarning, match="did not converge in 2 iterations"):
        SequentialFusionClassifier(LogisticRegression(max_iter=2)).fit(X, y)


def test_it_is_about_as_good_as_decision_level_fusion():
    """Log-odds of independent blocks add up, so both should come close to the truth."""
    X, y = make_blocks(n=1200, noise=1.6, random_state=3)
    losses = {}
    for fusion in (SequentialFusionClassifier(), DecisionFusionClassifier(LogisticRegression())):
        losses[type(fusion).__name__] = log_loss(y[600:], fusion.fit(X[:600], y[:600]).predict_proba(X[600:]))
    best = min(
        log_loss(y[600:], LogisticRegression().fit(part[:600], y[:600]).predict_proba(part[600:]))
        for part in (X.filter(like=f"{name}__") for name in ("image", "text", "audio"))
    )
    assert losses["SequentialFusionClassifier"] < best - 0.1
    assert losses["SequentialFusionClassifier"] < losses["DecisionFusionClassifier"] + 0.03


@pytest.mark.parametrize(
    "fusion, message",
    [
        (SequentialFusionClassifier({"text": SVC()}), "'text', SVC, cannot start from the result .* or any regressor"),
        (SequentialFusionClassifier(RandomForestClassifier()), "RandomForestClassifier, cannot start"),
        (SequentialFusionClassifier(LogisticRegressionCV()), "LogisticRegressionCV, cannot start"),
        (SequentialFusionClassifier(LogisticRegression(l1_ratio=0.5, solver="saga")), "must have an L2 penalty"),
        (SequentialFusionClassifier("svm"), "must be an estimator object.*got 'svm'"),
        (SequentialFusionRegressor(LogisticRegression()), "must be a regressor; got LogisticRegression"),
        (SequentialFusionClassifier({"sound": TREES}), r"estimators names unknown blocks \['sound'\]"),
        (SequentialFusionClassifier(order=["image", "image", "text"]), "names every block once"),
        (SequentialFusionRegressor(learning_rate=0), "learning_rate must be a number above 0"),
        (SequentialFusionClassifier({"text": SVR(C=-1)}), "'C' parameter of SVR"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(blocks, fusion, message):
    X, y = blocks
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        fusion.fit(X, np.arange(len(y)) if "Regressor" in type(fusion).__name__ else y)
    if "SVR" in message:
        assert "while fitting the stage of block 'text'" in caught.value.__notes__


@pytest.mark.by_turns
@pytest.mark.parametrize("head", [None, HEADS[2]], ids=["default", "gradient"])
def test_the_librarys_own_contract(head):
    """Not of trees: they break ties by the order of the columns."""
    assert len(check_fusion(SequentialFusionClassifier(head))) >= 4


def test_two_classes_are_one_log_odds():
    """Of a regressor on the gradient, too: the steps of two classes are opposite."""
    X, y = make_blocks(n=100, n_classes=2, widths={"image": 3})
    for head in (LogisticRegression(), TREES, Ridge()):
        model = SequentialFusionClassifier(head).fit(X, y)
        classes = model.stage_classes_["image"]
        step = stage_step(model.estimators_["image"], X.to_numpy(), classes, 2)
        assert_allclose(step[:, 0], -step[:, 1])
        odds = logit(model.predict_proba(X)[:, 1]) - np.log(model.prior_[1] / model.prior_[0])
        assert_allclose(odds, 2 * model.step_sizes_[0] * step[:, 1], atol=1e-9)
