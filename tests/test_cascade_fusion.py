"""The cascade: what a user relies on."""

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import every_pair, make_blocks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, PredefinedSplit, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_sample_weight_equivalence_on_dense_data
from test_encoder_base import CountingEncoder
from xgboost import XGBClassifier

from ensemblefuse import (
    CascadeFusionClassifier,
    DecisionFusionClassifier,
    EncodingError,
    LogPool,
    MeanPool,
    MissingModalityWarning,
    config_context,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.fusion._cascade import smallest_threshold
from ensemblefuse.testing import check_fusion


@pytest.fixture(autouse=True)
def forget():
    CountingEncoder.seen = []


LINEAR = LogisticRegression()


def hard_blocks(n=400, random_state=0):
    return make_blocks(n=n, noise=1.3, random_state=random_state)


def out_of_fold_accuracy(model, y):
    return (model.classes_[model.oof_proba_.argmax(axis=1)] == y).mean()


def cost_of(model, stages):
    return np.cumsum(list(model.costs_.values()))[stages - 1].mean()


def test_the_threshold_of_a_small_ledger_worked_out_by_hand():
    sure = np.array([[0.9, 0.8, 0.7, 0.6]])
    correct = np.array([[1.0, 1, 0, 1], [1.0, 1, 1, 1]])
    weight = np.ones(4)
    # At .8 two rows stop and are right; at .7 a third stops and is wrong; at .6 all stop and 3 of 4 are right.
    assert smallest_threshold(sure, correct, weight, 0.0) == 0.8
    assert smallest_threshold(sure, correct, weight, 0.25) == 0.6
    # A row that is wrong at the end and right early pays for one that is the other way round.
    correct[1, 3] = 0
    assert smallest_threshold(sure, correct, weight, 0.0) == 0.6
    assert smallest_threshold(sure, correct, np.array([1.0, 1, 2, 1]), 0.0) == 0.8
    # The surest row is wrong, so no threshold will do; nor where no row can stop.
    assert smallest_threshold(np.array([[0.9]]), np.array([[0.0], [1.0]]), np.ones(1), 0.5) == np.inf
    assert smallest_threshold(np.array([[-np.inf]]), np.array([[0.0], [1.0]]), np.ones(1), 1.0) == np.inf


def test_the_threshold_is_what_a_search_over_all_values_finds():
    rng = np.random.default_rng(0)
    for _ in range(50):
        sure = np.round(rng.random((2, 12)), 1)  # with ties
        sure[rng.random(sure.shape) < 0.2] = -np.inf
        correct = (rng.random((3, 12)) < 0.7).astype(float)
        weight = rng.integers(1, 4, 12).astype(float)

        tried = [*np.unique(sure[np.isfinite(sure)]), np.inf]
        stops = [np.vstack([sure >= t, np.ones(12, dtype=bool)]).argmax(axis=0) for t in tried]
        accuracy = [np.average(correct[rows, np.arange(12)], weights=weight) for rows in stops]
        best = next(i for i, a in enumerate(accuracy) if a >= accuracy[-1] - 0.1 - 1e-9)
        # Between two values at which a row turns all thresholds are one; the upper end of the interval is given.
        alike = [t for t, rows in zip(tried, stops, strict=True) if (rows == stops[best]).all()]
        assert smallest_threshold(sure, correct, weight, 0.1) == max(alike)


def test_without_tolerance_no_accuracy_is_lost_out_of_fold():
    X, y = hard_blocks()
    model = CascadeFusionClassifier(LINEAR, tolerance=0.0).fit(X, y)
    assert out_of_fold_accuracy(model, y) >= model.stage_accuracy_[-1]
    assert model.expected_cost_ < 3 and model.stage_counts_[0] > 0  # and rows stop early all the same
    assert model.stage_counts_.sum() == len(y)
    assert model.stage_accuracy_[0] < model.stage_accuracy_[-1]


def test_the_cost_falls_as_the_tolerance_grows():
    X, y = hard_blocks()
    models = [CascadeFusionClassifier(LINEAR, tolerance=t).fit(X, y) for t in (0.0, 0.005, 0.02, 0.1, 1.0)]
    costs = [model.expected_cost_ for model in models]
    assert costs == sorted(costs, reverse=True) and costs[-1] == 1.0 < costs[0]
    for model in models:
        lost = model.stage_accuracy_[-1] - out_of_fold_accuracy(model, y)
        assert lost <= model.tolerance + 1e-9
        assert cost_of(model, np.repeat([1, 2, 3], model.stage_counts_)) == pytest.approx(model.expected_cost_)


def test_the_expected_cost_and_accuracy_are_those_of_new_rows():
    X, y = hard_blocks(n=3000)
    model = CascadeFusionClassifier(LINEAR, costs={"image": 10.0, "audio": 3.0}).fit(X[:1000], y[:1000])
    assert model.order_ == ["text", "audio", "image"]
    assert list(model.costs_.values()) == [1.0, 3.0, 10.0]
    measured = cost_of(model, model.predict_stage(X[1000:]))
    assert measured == pytest.approx(model.expected_cost_, rel=0.06)
    assert model.score(X[1000:], y[1000:]) == pytest.approx(out_of_fold_accuracy(model, y[:1000]), abs=0.02)
    full = CascadeFusionClassifier(LINEAR, tolerance=0, order=model.order_).fit(X[:1000], y[:1000])
    assert model.score(X[1000:], y[1000:]) > full.score(X[1000:], y[1000:]) - 0.02


def test_a_row_gets_what_the_pool_of_its_stage_says():
    X, y = hard_blocks()
    order = ["audio", "image", "text"]
    model = CascadeFusionClassifier(LINEAR, order=order, tolerance=0.02).fit(X, y)
    assert model.order_ == order
    proba, stage = model.predict_proba(X), model.predict_stage(X)
    assert set(stage) == {1, 2, 3}
    for s in (1, 2, 3):
        columns = [c for c in X.columns if c.split("__")[0] in order[:s]]
        columns.sort(key=lambda c: order.index(c.split("__")[0]))
        pool = DecisionFusionClassifier(LINEAR, joint=False).fit(X[columns], y)
        assert_allclose(proba[stage == s], pool.predict_proba(X[columns])[stage == s], atol=1e-6)
    assert (proba[stage == 1].max(axis=1) >= model.threshold_).all()
    assert_array_equal(model.predict(X), model.classes_[proba.argmax(axis=1)])


def test_no_row_stops_early_if_that_costs_accuracy():
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 100)
    X = pd.DataFrame({"noise__0": rng.normal(size=200), "good__0": 5.0 * y + rng.normal(size=200)})
    model = CascadeFusionClassifier(LINEAR, order=["noise", "good"], tolerance=0.0).fit(X, y)
    assert model.threshold_ == np.inf
    assert (model.predict_stage(X) == 2).all() and model.expected_cost_ == 2
    pool = DecisionFusionClassifier(LINEAR, joint=False).fit(X, y)
    assert_allclose(model.predict_proba(X), pool.predict_proba(X), atol=1e-6)


def test_one_block_is_that_member():
    X, y = make_blocks(widths={"image": 4})
    model = CascadeFusionClassifier(LogisticRegression(), combiner=LogPool("equal")).fit(X, y)
    assert model.threshold_ == np.inf and model.expected_cost_ == 1 and (model.predict_stage(X) == 1).all()
    alone = LogisticRegression().fit(X, y)
    assert_array_equal(model.predict(X), alone.predict(X))
    pool = DecisionFusionClassifier(LogisticRegression(), combiner=LogPool("equal"), joint=False).fit(X, y)
    assert_allclose(model.predict_proba(X), pool.predict_proba(X), atol=1e-6)


def test_of_equal_costs_the_best_block_comes_first():
    X, y = make_blocks(n=300, widths={"weak": 2, "strong": 8, "fair": 4}, noise=1.6)
    losses = {
        name: -cross_val_score(LogisticRegression(), X.filter(like=name), y, scoring="neg_log_loss").mean()
        for name in ("weak", "strong", "fair")
    }
    assert CascadeFusionClassifier().fit(X, y).order_ == sorted(losses, key=losses.get) != list(losses)


@pytest.mark.parametrize(
    ("head", "labels"),
    every_pair(
        [XGBClassifier(n_estimators=10), OneVsRestClassifier(SVC()), RandomForestClassifier(20)],
        [["cat", "dog", "elk"], [3, 7, 11], [True, False]],
    ),
    ids=lambda value: str(value) if isinstance(value, list) else type(value).__name__,
)
def test_every_head_and_every_kind_of_label(head, labels):
    X, y = make_blocks(n=90, n_classes=len(labels), noise=0.7)
    y = np.array(labels)[[int(label[-1]) for label in y]]
    model = CascadeFusionClassifier(head, cv=3).fit(X, y)
    assert model.classes_.tolist() == sorted(labels)
    assert (model.predict(X) == y).mean() > 0.8
    assert_allclose(model.predict_proba(X).sum(axis=1), 1)


@pytest.mark.parametrize("combiner", [MeanPool(), LogPool("equal")], ids=str)
def test_a_pool_without_certainty_of_its_own_gets_a_temperature_a_stage(combiner):
    X, y = hard_blocks()
    model = CascadeFusionClassifier(LINEAR, combiner=combiner, tolerance=0).fit(X, y)
    assert (model.temperatures_ != 1).all()
    assert out_of_fold_accuracy(model, y) >= model.stage_accuracy_[-1]
    assert model.predict_proba(X).max(axis=1).mean() == pytest.approx((model.predict(X) == y).mean(), abs=0.08)


@pytest.mark.parametrize("names", [["a", "b", "c"], ["c", "a", "b"]])
def test_the_accuracy_of_a_stage_does_not_depend_on_the_labels_names(names):
    """Rows without any block so far are told the most frequent class, whatever its place among the labels."""
    X, y = hard_blocks()
    y = np.array(names)[np.unique(y, return_inverse=True)[1]]
    kept = np.flatnonzero((y == names[2]) | (np.arange(400) % 2 == 0))  # the third class is the most frequent
    X, y = X.iloc[kept].reset_index(drop=True), y[kept]
    lost = np.arange(len(y)) % 3 == 0
    X.loc[lost, [c for c in X.columns if c.startswith("image__")]] = np.nan
    model = CascadeFusionClassifier(LINEAR, order=["image", "text", "audio"]).fit(X, y)
    alone = DecisionFusionClassifier(LINEAR).fit(X[[c for c in X.columns if c.startswith("image__")]], y)
    told = np.where(lost, names[2], model.classes_[np.nan_to_num(alone.oof_proba_).argmax(axis=1)])
    assert model.stage_accuracy_[0] == pytest.approx((told == y).mean(), abs=0.005)


def test_rows_without_an_out_of_fold_probability_of_a_stage_are_left_out_of_its_accuracy():
    X, y = hard_blocks(n=300)
    kept = np.flatnonzero((y == "class 2") | (np.arange(300) % 4 > 0))  # the third class is the most frequent
    X, y = X.iloc[kept].reset_index(drop=True), y[kept]
    image = [c for c in X.columns if c.startswith("image__")]
    # Outside fold 1 only one class holds the image, so that nobody says what the image would tell rows of fold 1.
    fold = np.arange(len(y)) % 3
    X.loc[(fold != 1) & (y != "class 0"), image] = np.nan
    cv = PredefinedSplit(fold)
    model = CascadeFusionClassifier(LINEAR, order=["image", "text", "audio"], cv=cv, combiner=MeanPool()).fit(X, y)
    alone = DecisionFusionClassifier(LINEAR, cv=cv, combiner=MeanPool()).fit(X[image], y)
    known, lost = np.isfinite(alone.oof_proba_).all(axis=1), X[image].isna().all(axis=1).to_numpy()
    assert not known[fold == 1].any()
    told = np.where(lost, "class 2", model.classes_[np.nan_to_num(alone.oof_proba_).argmax(axis=1)])
    assert model.stage_accuracy_[0] == pytest.approx((told == y)[known | lost].mean())


def test_a_missing_block_is_passed_by_at_no_cost():
    X, y = hard_blocks()
    order = ["image", "text", "audio"]
    holes = X.copy()
    holes.loc[::2, [c for c in X if c.startswith("image__")]] = np.nan
    model = CascadeFusionClassifier(order=order, costs={"image": 100.0, "text": 1.0, "audio": 1.0}).fit(holes, y)
    stage = model.predict_stage(holes)
    assert (stage[::2] > 1).all() and (stage[1::2] == 1).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (model.predict(holes) == y).mean() > 0.7
    spent = np.where(np.arange(len(y)) % 2, 100.0, 0.0) + np.clip(stage - 1, 0, 2)
    assert spent.mean() == pytest.approx(model.expected_cost_, rel=0.05)
    nothing = pd.DataFrame(np.nan, index=[0, 1], columns=X.columns)
    assert_allclose(model.predict_proba(nothing), np.tile(np.unique(y, return_counts=True)[1] / len(y), (2, 1)))
    assert model.predict_stage(nothing).tolist() == [0, 0]


def test_a_block_that_no_row_holds_is_left_out_with_a_warning():
    X, y = make_blocks()
    X["audio__0"] = X["audio__1"] = X["audio__2"] = np.nan
    with pytest.warns(MissingModalityWarning, match=r"leaves out these blocks.*'audio': 0"):
        model = CascadeFusionClassifier(order=["audio", "text", "image"]).fit(X, y)
    assert model.order_ == ["text", "image"]


def test_random_labels_are_not_learned():
    X, y = hard_blocks()
    y = np.random.default_rng(1).permutation(y)
    model = CascadeFusionClassifier(RandomForestClassifier(20, random_state=0)).fit(X, y)
    assert abs(out_of_fold_accuracy(model, y) - 1 / 3) < 0.08


def test_weights_count_rows():
    """A row of weight 2 is two rows, where both are in the same fold."""
    X, y = hard_blocks(n=120)
    fold = np.arange(120) % 3
    weight = np.where(np.arange(120) < 40, 2.0, 1.0)
    twice = np.r_[np.arange(120), np.arange(40)]
    splits = lambda of: [(np.flatnonzero(of != k), np.flatnonzero(of == k)) for k in range(3)]
    # A default head, the discriminant analysis, takes no weights, and is no candidate where there are some.
    a = CascadeFusionClassifier(LINEAR, cv=splits(fold), tolerance=0.02).fit(X, y, sample_weight=weight)
    b = CascadeFusionClassifier(LINEAR, cv=splits(fold[twice]), tolerance=0.02).fit(X.iloc[twice], y[twice])
    assert a.threshold_ == pytest.approx(b.threshold_, abs=1e-3)
    assert a.expected_cost_ == pytest.approx(b.expected_cost_, abs=1e-2)
    assert_allclose(a.stage_accuracy_, b.stage_accuracy_, atol=1e-2)


@pytest.mark.filterwarnings("ignore:.*X is an array without names of columns")
def test_with_a_plain_head_weights_count_exactly():
    """Not with the default heads: the smoothing of their temperatures counts rows."""
    check_sample_weight_equivalence_on_dense_data("CascadeFusionClassifier", CascadeFusionClassifier(LINEAR))


def test_groups_are_never_on_both_sides_of_an_inner_split():
    X, y = hard_blocks(n=90)
    with pytest.raises(ValueError, match="on both sides of a split"):
        CascadeFusionClassifier(cv=KFold(3, shuffle=True, random_state=0)).fit(X, y, groups=np.arange(90) // 3)
    # Rows of a group are the same row: with groups nobody can know them by heart.
    X, y = X.iloc[np.arange(90) // 3 * 3], np.random.default_rng(0).integers(0, 2, 30).repeat(3)
    forest, groups = RandomForestClassifier(20, random_state=0), np.arange(30).repeat(3)
    blind = CascadeFusionClassifier(forest, cv=KFold(5, shuffle=True, random_state=0)).fit(X, y)
    aware = CascadeFusionClassifier(forest).fit(X, y, groups=groups)
    assert blind.stage_accuracy_[-1] > 0.9 > 0.75 > aware.stage_accuracy_[-1]


@pytest.mark.parametrize(
    "params, message",
    [
        ({"costs": {"sound": 1}}, r"costs names unknown blocks \['sound'\]; X has the blocks \['image', 'text'"),
        ({"costs": {"image": -1}}, r"costs\['image'\] must be a number of at least 0; got -1"),
        ({"costs": 3}, "costs must be a dict"),
        ({"order": ["image", "text"]}, "order must be .*names every block once"),
        ({"order": "cheap"}, 'order must be "auto"'),
        ({"tolerance": 2}, "tolerance must be a share"),
        ({"encoders": {"sound": CountingEncoder()}}, r"encoders names unknown blocks \['sound'\]"),
        ({"encoders": {"image": SVC()}}, r"encoders\['image'\] must be a transformer"),
        ({"estimators": {"joint": SVC()}}, r"estimators names unknown blocks \['joint'\]"),
        ({"combiner": LogPool([1, 1, 1])}, "cannot have fixed weights"),
        ({"combiner": "mean"}, "combiner must be a pool"),
    ],
    ids=str,
)
def test_bad_parameters_are_refused_by_name(blocks, params, message):
    with pytest.raises((ValueError, TypeError), match=message):
        CascadeFusionClassifier(**params).fit(*blocks)


# ---------------------------------------------------------------------- encoders


def table(n=120, random_state=0):
    """A price that tells most rows apart, and a title that tells all."""
    rng = np.random.default_rng(random_state)
    y = np.array(["cat", "dog"])[np.arange(n) % 2]
    price = np.where(y == "dog", 3.0, -3.0) * (rng.random(n) < 0.7) + rng.normal(size=n)
    length = rng.integers(3, 7, n) + 6 * (y == "dog")
    return pd.DataFrame({"title": ["x" * k + f" {i}" for i, k in enumerate(length)], "price": price}), y


def cascade(**params):
    modalities = [("text", CountingEncoder(), "title"), ("tabular", StandardScaler(), ["price"])]
    return make_fusion_pipeline(modalities, CascadeFusionClassifier(LINEAR, costs={"text": 50.0}, cv=3, **params))


def test_only_rows_that_reach_a_stage_are_encoded_there():
    X, y = table()
    with config_context(cache=None):
        model = cascade(tolerance=0.02).fit(X, y)
        assert model["fuse"].order_ == ["tabular", "text"]
        assert sorted(CountingEncoder.seen) == sorted(X["title"])  # once each, however many folds
        new, truth = table(200, random_state=1)
        CountingEncoder.seen = []
        stage = model["fuse"].predict_stage(model["encode"].transform(new))
        reached = new["title"][stage == 2].tolist()
        assert 20 < len(reached) < 150
        assert CountingEncoder.seen == reached
        CountingEncoder.seen = []
        assert (model.predict(new) == truth).mean() > 0.9
        assert CountingEncoder.seen == reached
        CountingEncoder.seen = []
        model.predict(new[stage == 1])
        assert not CountingEncoder.seen


def test_a_cascade_of_encoders_says_what_one_of_embeddings_says():
    X, y = table()
    model = cascade(tolerance=0.02).fit(X, y)
    plain = make_fusion_pipeline(
        [("text", CountingEncoder(), "title"), ("tabular", StandardScaler(), ["price"])], DecisionFusionClassifier()
    )
    embedded = plain[:-1].fit_transform(X)
    again = CascadeFusionClassifier(LINEAR, costs={"text": 50.0}, cv=3, tolerance=0.02).fit(embedded, y)
    assert_allclose(model.predict_proba(X), again.predict_proba(embedded), atol=1e-9)
    assert model["fuse"].threshold_ == again.threshold_


def test_missing_cells_are_not_encoded_and_a_row_without_any_gets_the_prior():
    X, y = table()
    X.loc[::5, "title"] = None
    X.loc[1::5, "price"] = np.nan
    model = cascade(tolerance=0.02).fit(X, y)
    CountingEncoder.seen = []
    with config_context(cache=None):
        assert (model.predict(X) == y).mean() > 0.85
    assert set(X["title"][1::5]) <= set(CountingEncoder.seen) < set(X["title"].dropna())
    with pytest.warns(MissingModalityWarning, match=r"\['title'\] of modality 'text'"):
        assert model.predict(X[["price"]]).shape == (120,)
    assert_allclose(model.predict_proba(pd.DataFrame({"title": [None], "price": [np.nan]})), [[0.5, 0.5]])


def test_a_cell_that_cannot_be_encoded_is_an_error_that_names_the_row_or_a_missing_block():
    X, y = table()
    model = cascade(tolerance=0.0).fit(X, y)
    bad = X[:3].assign(title="a bad one", price=[0.0, 9.0, -9.0])
    bad.index = ["sku0", "sku1", "sku2"]
    with pytest.raises(EncodingError, match="row 'sku0', column 'title'"):
        model.predict(bad)
    model.predict(bad[1:])  # these stop at the price
    model.set_params(fuse__encoders__text__on_error="missing")
    with pytest.warns(MissingModalityWarning, match="treats 1 of 1 cells as missing"):
        proba = model.predict_proba(bad)
    assert_allclose(proba[:1], model.predict_proba(bad[:1].assign(title=None)))


def test_parameters_stay_within_reach_of_clones_and_searches():
    X, y = table(60)
    fusion = CascadeFusionClassifier()
    model = make_fusion_pipeline([("text", make_pipeline(CountingEncoder(), StandardScaler()), "title")], fusion)
    assert fusion.encoders is None  # the user's own is left alone
    assert "fuse__encoders__text__countingencoder__scale" in model.get_params()
    assert "fuse__encoders__text__standardscaler__with_mean" in model.get_params()
    grid = {"fuse__encoders__text__countingencoder__scale": [1.0, 2.0], "fuse__tolerance": [0.0, 0.1]}
    CountingEncoder.seen = []
    search = GridSearchCV(model, grid, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert sorted(CountingEncoder.seen) == sorted([*X["title"], *X["title"]])  # once each scale: the cache works
    with pytest.raises(ValueError, match=r"Invalid parameter 'encoders__sound__scale': encoders names \['text'\]"):
        model.set_params(fuse__encoders__sound__scale=1)
    again = make_fusion_pipeline([("text", CountingEncoder(), "title")], CascadeFusionClassifier(encoders={"tab": 1}))
    assert list(again["fuse"].encoders) == ["tab", "text"]
    with pytest.raises(ValueError, match=r"already has encoders of \['text'\]"):
        make_fusion_pipeline([("text", CountingEncoder(), "title")], again["fuse"])


def test_a_saved_cascade_predicts_the_same_and_encodes_no_more(tmp_path):
    X, y = table()
    model = cascade(tolerance=0.02).fit(X, y)
    path = save_model(model, tmp_path / "cascade.fuse", example=X[:4])
    loaded = load_model(path, trusted=[CountingEncoder])
    assert_allclose(loaded.predict_proba(X), model.predict_proba(X))
    CountingEncoder.seen = []
    with config_context(cache=None):
        loaded.predict(X)
    blocks = model["encode"].transform(X)
    assert CountingEncoder.seen == X["title"][model["fuse"].predict_stage(blocks) == 2].tolist()
    plain = CascadeFusionClassifier().fit(*make_blocks())
    save_model(plain, tmp_path / "plain.fuse")
    assert_allclose(
        load_model(tmp_path / "plain.fuse").predict_proba(make_blocks()[0]), plain.predict_proba(make_blocks()[0])
    )


def test_any_transformer_encodes_and_blocks_without_one_pass_as_they_are():
    X, y = table()
    X["colour"] = np.where(np.arange(120) % 3, "red", "blue")
    modalities = [
        ("words", TfidfVectorizer(analyzer="char"), "title"),
        ("colour", OneHotEncoder(), ["colour"]),
        ("tabular", "passthrough", ["price"]),
        ("unused", "drop", "title"),
    ]
    model = make_fusion_pipeline(modalities, CascadeFusionClassifier(cv=3)).fit(X, y)
    assert set(model["fuse"].encoders_) == {"words", "colour"}
    assert set(model["fuse"].order_) == {"words", "colour", "tabular"}
    assert model.score(X, y) > 0.9
    # A block of raw cells may still go to an estimator of its own, and one that has neither is named.
    text = {"title": make_pipeline(TfidfVectorizer(analyzer="char"), LogisticRegression())}
    raw = pd.DataFrame({"title__raw": X["title"], "tabular__price": X["price"]})
    assert CascadeFusionClassifier(text, cv=3).fit(raw, y).score(raw, y) > 0.9
    with pytest.raises(ValueError, match=r"\['title'\] hold raw cells and have no estimator"):
        CascadeFusionClassifier().fit(raw, y)
    assert CascadeFusionClassifier(encoders={"title": CountingEncoder()}, cv=3).fit(raw, y).score(raw, y) > 0.9


def test_an_encoder_that_gives_no_table_of_numbers_is_named():
    X, y = table()
    model = make_fusion_pipeline([("text", FunctionTransformer(), ["title"])], CascadeFusionClassifier())
    with pytest.raises(ValueError, match=r"encoder of 'text' must give a table of numbers.*dtype object"):
        model.fit(X, y)


def test_the_librarys_own_contract():
    assert len(check_fusion(CascadeFusionClassifier(LogisticRegression(), tolerance=0.1))) >= 4
