"""Several heads a block, models of the folds, class weights, calibration, and every way to meet a missing block."""

import warnings

import numpy as np
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from ensemblefuse import (
    BlockPCA,
    CommonSpaceProjector,
    CrossModalImputer,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    KernelFusionClassifier,
    LogPool,
    MeanPool,
    MissingModalityWarning,
    StackingPool,
    load_model,
    save_model,
)

LR = LogisticRegression()
BLOCKS = ["image", "text", "audio"]


def columns(X, block):
    return [c for c in X.columns if c.startswith(f"{block}__")]


def with_gaps(X, rate, random_state=0):
    """Each block missing in a share of the rows, none of a row's blocks all at once."""
    rng = np.random.default_rng(random_state)
    gone = rng.random((len(X), len(BLOCKS))) < rate
    gone[gone.all(axis=1), 0] = False
    X = X.copy()
    for block, rows in zip(BLOCKS, gone.T, strict=True):
        X.loc[rows, columns(X, block)] = np.nan
    return X


def loss(model, X, y):
    return log_loss(y, model.predict_proba(X), labels=model.classes_)


# ---------------------------------------------------------------------- members


def test_of_a_list_of_estimators_each_is_a_member(blocks):
    X, y = blocks
    heads = {"image": [LR, SVC()], "text": [("near", KNeighborsClassifier()), ("tree", DecisionTreeClassifier())]}
    model = DecisionFusionClassifier({**heads, "audio": [None]}, joint=False).fit(X, y)
    assert model.member_names_ == ["image/logisticregression", "image/svc", "text/near", "text/tree", "audio"]
    assert model.member_blocks_ == ["image", "image", "text", "text", "audio"]
    assert isinstance(model.estimators_["text/tree"], DecisionTreeClassifier)
    assert model.oof_predictions_.shape == (5, len(X), 3)


def test_one_list_serves_every_block_and_the_joint_member(blocks):
    X, y = blocks
    model = DecisionFusionClassifier([LR, KNeighborsClassifier()]).fit(X, y)
    assert len(model.member_names_) == 2 * (3 + 1)
    assert model.member_names_[-1] == "joint/kneighborsclassifier"


def test_heads_in_lists_can_be_searched(blocks):
    X, y = blocks
    heads = {"image": [("lr", LR), ("svc", SVC())]}
    model = DecisionFusionClassifier(heads, joint=False)
    search = GridSearchCV(
        model, {"estimators__image__lr__C": [0.1, 1.0], "estimators__text": [LR, "drop"]}, cv=2, error_score="raise"
    )
    with pytest.raises(ValueError, match="estimators__text"):
        search.fit(X, y)  # a block that the dict does not name has no parameter
    model = DecisionFusionClassifier({**heads, "text": LR, "audio": LR}, joint=False, cv=2)
    search = GridSearchCV(
        model,
        {"estimators__image__lr__C": [0.1, 1.0], "estimators__image__svc": [SVC(), LR]},
        cv=2,
        error_score="raise",
    ).fit(X, y)
    assert search.best_params_["estimators__image__lr__C"] in (0.1, 1.0)
    assert model.estimators["image"][0][1].C == 1.0  # the user's own estimators stay as they were


def test_a_dropped_block_counts_for_nothing(blocks):
    X, y = blocks
    model = DecisionFusionClassifier({"text": "drop"}, cv=2).fit(X, y)
    assert model.member_names_ == ["image", "image/trees", "audio", "audio/trees", "joint"]
    other = X.copy()
    other[columns(X, "text")] = 1e3
    assert_allclose(model.predict_proba(other), model.predict_proba(X))
    with pytest.raises(ValueError, match="drops every block"):
        DecisionFusionClassifier(dict.fromkeys(BLOCKS, "drop")).fit(X, y)
    with pytest.raises(ValueError, match="empty list for 'text'"):
        DecisionFusionClassifier({"text": []}).fit(X, y)


def test_more_than_one_learner_a_block_pays():
    X, y = make_blocks(n=800, noise=1.8)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
    one = DecisionFusionClassifier(DecisionTreeClassifier(max_depth=3), joint=False).fit(X_train, y_train)
    two = DecisionFusionClassifier([DecisionTreeClassifier(max_depth=3), LR], joint=False).fit(X_train, y_train)
    assert loss(two, X_test, y_test) < loss(one, X_test, y_test)


def test_any_fusion_can_be_the_joint_member(blocks):
    X, y = blocks
    model = DecisionFusionClassifier({**dict.fromkeys(BLOCKS, LR), "joint": KernelFusionClassifier()}).fit(X, y)
    assert isinstance(model.estimators_["joint"], KernelFusionClassifier)
    assert list(model.estimators_["joint"].blocks_) == BLOCKS


def test_without_refit_the_models_of_the_folds_predict(blocks):
    X, y = blocks
    splits = list(StratifiedKFold(4).split(X, y))
    model = DecisionFusionClassifier(LR, cv=splits, refit=False, joint=False).fit(X, y)
    folds = model.estimators_["image"]
    assert len(folds) == 4
    rows = X[columns(X, "image")].to_numpy()
    mean = np.mean([np.log(fold.predict_proba(rows)) for fold in folds], axis=0)
    expected = np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)
    assert_allclose(model._outputs(X)[0][0], expected, atol=1e-9)
    # A row in a test fold was seen by the other models, so only its ledger entry is out of fold.
    alone = LogisticRegression().fit(rows[splits[0][0]], y[splits[0][0]])
    assert_allclose(model.oof_predictions_[0][splits[0][1]], alone.predict_proba(rows[splits[0][1]]), atol=1e-5)


def test_without_refit_regressors_and_files_work_too(blocks, tmp_path):
    X, codes = blocks
    y = np.unique(codes, return_inverse=True)[1] + 0.0
    model = DecisionFusionRegressor(Ridge(), refit=False).fit(X, y)
    assert np.corrcoef(model.predict(X), y)[0, 1] > 0.8
    save_model(model, tmp_path / "model.fuse")
    assert_allclose(load_model(tmp_path / "model.fuse").predict(X), model.predict(X))


def test_default_heads_are_chosen_by_out_of_fold_loss():
    # A ring is nothing to a linear model.
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    angle = rng.uniform(0, 2 * np.pi, 300)
    radius = 1 + y + 0.2 * rng.normal(size=300)
    X, _ = make_blocks(n=300, widths={"line": 60}, n_classes=2)
    X["ring__0"], X["ring__1"] = radius * np.cos(angle), radius * np.sin(angle)
    X[columns(X, "line")] += 0.4 * y[:, None]
    model = DecisionFusionClassifier(joint=False).fit(X, y)
    assert "SVC" in str(model.estimators_["ring"][-1])
    linear = DecisionFusionClassifier(make_pipeline(StandardScaler(), LR), joint=False).fit(X, y)
    line = model.member_names_.index("line")
    default, plain = [log_loss(y, m.oof_predictions_[line]) for m in (model, linear)]
    assert default < plain
    assert (model.oof_predictions_[model.member_names_.index("ring")].argmax(axis=1) == y).mean() > 0.95


def test_feature_level_defaults_are_tuned_too():
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 1], size=(300, 2))
    X, _ = make_blocks(n=300, widths={"a": 1, "b": 1}, n_classes=2)
    X[["a__0", "b__0"]] = signs + 0.3 * rng.normal(size=(300, 2))
    y = np.where(signs[:, 0] == signs[:, 1], "same", "different")
    model = FeatureFusionClassifier().fit(X, y)
    assert model.score(X, y) > 0.9  # exclusive or: no linear model does it
    assert model.predict_proba(X).shape == (300, 2)  # also of a head that has decision values only


# ---------------------------------------------------------------------- class weights and calibration


@pytest.mark.parametrize("fusion", [FeatureFusionClassifier(LR), DecisionFusionClassifier(LR)], ids=["early", "late"])
def test_class_weights_are_row_weights(blocks, fusion):
    X, y = blocks
    by_label = {"class 0": 3.0, "class 1": 1.0, "class 2": 0.5}
    splits = list(StratifiedKFold(3).split(X, y))
    weighted = clone(fusion).set_params(class_weight=by_label, cv=splits).fit(X, y)
    rows = clone(fusion).set_params(cv=splits).fit(X, y, sample_weight=[by_label[label] for label in y])
    assert_allclose(weighted.predict_proba(X), rows.predict_proba(X))


def test_balanced_weights_make_a_rare_class_as_likely_as_the_others():
    X, y = make_blocks(n=300, noise=3.0)
    keep = (y != "class 2") | (np.arange(300) % 10 == 0)
    X, y = X[keep], y[keep]
    plain, balanced = [DecisionFusionClassifier(LR, class_weight=w).fit(X, y) for w in (None, "balanced")]
    assert balanced.predict_proba(X)[:, 2].mean() > 2 * plain.predict_proba(X)[:, 2].mean()


def test_a_heads_own_class_weights_name_the_users_labels(blocks):
    X, y = blocks
    by_label = {"class 0": 5.0, "class 1": 1.0, "class 2": 1.0}
    head = LogisticRegression(class_weight=by_label)
    model = DecisionFusionClassifier(head, joint=False).fit(X, y)
    rows = X[columns(X, "image")].to_numpy()
    alone = LogisticRegression(class_weight=by_label).fit(rows, y)
    assert_allclose(model._outputs(X)[0][0], alone.predict_proba(rows), atol=1e-5)


def test_sigmoid_calibration_mends_a_mean(blocks):
    X, y = make_blocks(n=600, noise=1.5)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
    losses = {}
    for calibration in (None, "sigmoid", "temperature"):
        model = DecisionFusionClassifier(LR, combiner=MeanPool(), joint=False, calibration=calibration)
        losses[calibration] = loss(model.fit(X_train, y_train), X_test, y_test)
    assert losses["sigmoid"] < losses[None] - 0.02
    assert losses["temperature"] < losses[None] - 0.02


# ---------------------------------------------------------------------- missing blocks


@pytest.mark.by_turns
@pytest.mark.parametrize("missing", ["present", "impute", "dropout", "reduced"])
def test_every_answer_of_decision_level_fusion_beats_the_class_frequencies_in_every_pattern(missing):
    X, y = make_blocks(n=400, noise=1.2)
    train, test = np.arange(200), np.arange(200, 400)
    gaps = with_gaps(X, 0.4)
    model = DecisionFusionClassifier(LR, missing=missing).fit(gaps.iloc[train], y[train])
    for gone in (["image"], ["image", "text"], ["text", "audio"], []):
        new = X.iloc[test].copy()
        new[[c for block in gone for c in columns(X, block)]] = np.nan
        assert loss(model, new, y[test]) < np.log(3) - 0.05, gone
    new[:] = np.nan
    assert_allclose(model.predict_proba(new), np.tile(model.combiner_.prior_, (200, 1)), atol=1e-6)


@pytest.mark.by_turns
@pytest.mark.parametrize("missing", ["impute", "dropout", "reduced"])
@pytest.mark.parametrize("estimator", [LR, None], ids=["named", "default"])
def test_every_answer_of_feature_level_fusion(missing, estimator):
    X, y = make_blocks(n=300, noise=1.2)
    train, test = np.arange(150), np.arange(150, 300)
    model = FeatureFusionClassifier(estimator, missing=missing, random_state=0)
    model.fit(with_gaps(X, 0.4).iloc[train], y[train])
    assert loss(model, with_gaps(X, 0.4, random_state=1).iloc[test], y[test]) < np.log(3) - 0.1
    empty = X.iloc[:2] * np.nan
    assert_allclose(model.predict_proba(empty), np.tile(model.prior_, (2, 1)))


def test_dropout_and_reduced_models_meet_a_pattern_that_fit_never_saw_without_a_warning():
    X, y = make_blocks(n=600, noise=1.5, random_state=1)
    train, test = np.arange(300), np.arange(300, 600)
    gap = X.iloc[test].copy()
    gap[columns(X, "image")] = np.nan
    losses = {}
    for missing in ("impute", "dropout", "reduced"):
        model = FeatureFusionClassifier(LR, missing=missing, random_state=0).fit(X.iloc[train], y[train])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            losses[missing] = loss(model, gap, y[test])
        told = [w for w in caught if issubclass(w.category, MissingModalityWarning)]
        assert len(told) == (1 if missing == "impute" else 0), missing
    assert losses["reduced"] < losses["impute"]
    assert losses["dropout"] < losses["impute"]


def test_a_reduced_model_is_the_model_of_its_blocks(blocks):
    X, y = blocks
    model = FeatureFusionClassifier(LR, missing="reduced").fit(X, y)
    assert set(model.reduced_) == {
        "image + text + audio", "image + text", "image + audio", "text + audio", "image", "text", "audio"
    }  # fmt: skip
    gap = X.copy()
    gap[columns(X, "audio")] = np.nan
    two = X[columns(X, "image") + columns(X, "text")]
    assert_allclose(model.predict_proba(gap), FeatureFusionClassifier(LR).fit(two, y).predict_proba(two), atol=1e-6)


def test_a_combination_without_a_model_is_met_by_a_smaller_one_with_one_warning(blocks):
    X, y = blocks
    X = X.copy()
    X.loc[5:, columns(X, "image")] = np.nan  # five rows hold an image, too few for a model
    model = FeatureFusionClassifier(LR, missing="reduced").fit(X, y)
    with pytest.warns(MissingModalityWarning, match=r"image \+ text \+ audio by text \+ audio") as caught:
        model.predict(X.iloc[:5])
    assert len(caught) == 1


def test_reduced_and_dropout_work_in_regression(blocks):
    X, codes = blocks
    y = np.unique(codes, return_inverse=True)[1] + 0.0
    for missing in ("dropout", "reduced"):
        model = FeatureFusionRegressor(Ridge(), missing=missing, random_state=0).fit(X, y)
        assert np.corrcoef(model.predict(with_gaps(X, 0.3)), y)[0, 1] > 0.5
        assert_allclose(model.predict(X.iloc[:1] * np.nan), y.mean())


def test_an_imputer_that_knows_the_other_blocks_beats_the_mean():
    # Two blocks that say the same, and a linear model that leans on one: what it has of the other is worth filling in.
    rng = np.random.default_rng(0)
    X, y = make_blocks(n=600, widths={"a": 5, "b": 5}, noise=1.0)
    X[columns(X, "b")] = X[columns(X, "a")].to_numpy() + 0.1 * rng.normal(size=(600, 5))
    X.loc[:299, columns(X, "a")] += 0.5 * rng.normal(size=(300, 5))
    gap = X.iloc[300:].copy()
    gap[columns(X, "b")] = np.nan
    mean = FeatureFusionClassifier(LR).fit(X.iloc[:300], y[:300])
    cross = FeatureFusionClassifier(LR, imputer=CrossModalImputer("ridge")).fit(X.iloc[:300], y[:300])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingModalityWarning)
        assert loss(cross, gap, y[300:]) < loss(mean, gap, y[300:]) - 0.05


@pytest.mark.parametrize(
    "transformer", [CommonSpaceProjector(2, method="pls", weights="learned"), BlockPCA(2)], ids=["sum", "pca"]
)
def test_blocks_can_be_transformed_inside_the_fold(blocks, transformer):
    X, y = blocks
    model = FeatureFusionClassifier(LR, transformer=transformer).fit(with_gaps(X, 0.2), y)
    assert model.estimator_.n_features_in_ in (2, 6)
    assert model.score(X, y) > 0.6


def test_expected_scores_tell_what_each_combination_of_blocks_is_worth():
    X, y = make_blocks(n=600, noise=1.5)
    train, test = np.arange(300), np.arange(300, 600)
    model = DecisionFusionClassifier(LR, joint=False).fit(X.iloc[train], y[train])
    table = model.expected_scores_
    assert len(table) == 7 and table.index[0] == "image + text + audio" and (table["n_rows"] == 300).all()
    assert table["log_loss"].iloc[0] == table["log_loss"].min()
    for name, row in table.iterrows():
        new = X.iloc[test].copy()
        new[[c for block in BLOCKS if block not in name for c in columns(X, block)]] = np.nan
        # Two standard errors of each of the two means, at a standard deviation of about .7 nats.
        assert abs(loss(model, new, y[test]) - row["log_loss"]) < 0.17, name
    kept = DecisionFusionClassifier(LR, joint=False).fit(X.iloc[train], y[train]).oof_proba_
    assert_allclose(table["accuracy"].iloc[0], (model.classes_[kept.argmax(axis=1)] == y[train]).mean())


def test_expected_scores_in_regression(blocks):
    X, codes = blocks
    y = np.unique(codes, return_inverse=True)[1] + 0.0
    table = DecisionFusionRegressor(Ridge()).fit(X, y).expected_scores_
    assert list(table.columns) == ["n_rows", "rmse", "r2"]
    assert table["r2"].iloc[0] == table["r2"].max() > 0.5


def test_by_default_a_block_counts_as_much_as_it_can_when_others_are_missing():
    # Blocks that repeat each other share a weight in complete rows; alone, each must count in full.
    X, y = make_blocks(n=300, widths={"image": 4}, noise=1.0)
    for name in ("text", "audio"):
        for i in range(4):
            X[f"{name}__{i}"] = X[f"image__{i}"]
    gap = X.copy()
    gap[columns(X, "text") + columns(X, "audio")] = np.nan
    default = DecisionFusionClassifier(LR, joint=False).fit(X, y)
    shared = DecisionFusionClassifier(LR, combiner=LogPool(), joint=False).fit(X, y)
    alone = DecisionFusionClassifier(LR).fit(X[columns(X, "image")], y)
    assert_allclose(loss(default, gap, y), loss(alone, X[columns(X, "image")], y), atol=0.02)
    assert loss(shared, gap, y) > loss(default, gap, y) + 0.02


def test_a_stacker_says_once_that_it_never_saw_a_pattern(blocks):
    X, y = blocks
    model = DecisionFusionClassifier(LR, combiner=StackingPool()).fit(X, y)
    gap = X.copy()
    gap[columns(X, "image")] = np.nan
    with pytest.warns(MissingModalityWarning) as caught:
        model.predict_proba(gap)
    assert len([w for w in caught if issubclass(w.category, MissingModalityWarning)]) == 1


def test_strings_and_numbers_side_by_side_with_every_answer(blocks):
    X, y = blocks
    X = X.copy()
    X["title__raw"] = np.where(y == "class 0", "red bird", "blue fish")
    X.loc[::5, "title__raw"] = None
    heads = {"title": make_pipeline(TfidfVectorizer(), LR), "image": XGBClassifier(n_estimators=5)}
    heads.update(dict.fromkeys(["text", "audio", "joint"], LR))
    for missing in ("present", "impute", "reduced"):
        model = DecisionFusionClassifier(heads, missing=missing, cv=2).fit(X, y)
        assert (model.predict(X) == y).mean() > 0.8


def test_a_missing_answer_that_does_not_exist_is_named(blocks):
    X, y = blocks
    with pytest.raises(ValueError, match=r"missing must be one of .*got 'zero'"):
        DecisionFusionClassifier(missing="zero").fit(X, y)
    with pytest.raises(ValueError, match=r"missing must be one of .*got 'present'"):
        FeatureFusionClassifier(missing="present").fit(X, y)


# ---------------------------------------------------------------------- what users type


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "model",
    [
        FeatureFusionClassifier(make_pipeline(StandardScaler(), LR)),
        DecisionFusionClassifier(OneVsRestClassifier(SVC()), class_weight="balanced"),
        pytest.param(DecisionFusionClassifier(missing="reduced", cv=2), marks=pytest.mark.slow),
        KernelFusionClassifier(),
        DecisionFusionRegressor(),
    ],
    ids=["pipeline", "one-vs-rest", "defaults", "kernel", "regression"],
)
def test_a_weighted_model_can_be_saved(blocks, model, tmp_path):
    X, y = blocks
    target = y if is_classifier(model) else np.unique(y, return_inverse=True)[1]
    fitted = clone(model).fit(X, target, sample_weight=np.linspace(0.5, 2, len(y)))
    save_model(fitted, tmp_path / "model.fuse")
    assert_array_equal(load_model(tmp_path / "model.fuse").predict(X), fitted.predict(X))


def test_single_gaps_are_left_to_a_pipeline_or_an_imputer_that_fills_them(blocks):
    X, y = blocks
    X = X.copy()
    X.iloc[3, 0] = np.nan
    for filling in (
        DecisionFusionClassifier({"image": make_pipeline(SimpleImputer(), LR)}, joint=False, cv=2),
        FeatureFusionClassifier(LR, imputer=SimpleImputer()),
    ):
        assert np.isfinite(filling.fit(X, y).predict_proba(X)).all()
    for plain in (DecisionFusionClassifier(make_pipeline(StandardScaler(), LR)), FeatureFusionClassifier(LR)):
        with pytest.raises(ValueError, match=r"Block 'image' is partly NaN in 1 row: \[3\]"):
            plain.fit(X, y)


@pytest.mark.parametrize("fusion", [FeatureFusionClassifier(LR), DecisionFusionClassifier(LR)], ids=["early", "late"])
@pytest.mark.parametrize(
    "groups, message",
    [
        ([1, 2], "groups has 2 values for the 150 rows"),
        (["a", None] * 75, "groups is missing in 75 of 150 rows"),
        (np.ones(150), "only one group"),
    ],
)
def test_groups_that_cannot_be_meant_are_refused(blocks, fusion, groups, message):
    X, y = blocks
    with pytest.raises(ValueError, match=message):
        fusion.fit(X, y, groups=groups)


@pytest.mark.parametrize(
    "model, error, message",
    [
        (DecisionFusionClassifier([("a", LR), ("b", StandardScaler())]), TypeError, "'image' must be an estimator"),
        (FeatureFusionClassifier(transformer="pca"), ValueError, "transformer must be a transformer.*'pca'"),
        (FeatureFusionClassifier(imputer="mean"), ValueError, "imputer must be a transformer.*'mean'"),
        (DecisionFusionClassifier(LR, class_weight={"class 0": -1}), ValueError, "class_weight must hold numbers"),
        (DecisionFusionClassifier(LR, combiner=LogPool({"image": 1})), ValueError, "weights must be"),
        (DecisionFusionRegressor(Ridge()), ValueError, "must hold numbers for a regressor; it holds 'class"),
    ],
)
def test_a_wrong_argument_is_named(blocks, model, error, message):
    X, y = blocks
    with pytest.raises(error, match=message):
        model.fit(X, y)


def test_a_dict_of_columns_is_a_table(blocks):
    X, y = blocks
    table = {name: X[name].to_numpy() for name in X.columns}
    model = FeatureFusionClassifier(LR).fit(table, y)
    assert_allclose(model.predict_proba(table), FeatureFusionClassifier(LR).fit(X, y).predict_proba(X))
