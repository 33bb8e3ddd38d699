"""Neural fusion of several targets: what it takes for labels and numbers, unknown targets, and what it predicts."""

import pickle

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from ensemblefuse import NeuralFusionClassifier, NeuralFusionMultiTask, load_model, save_model

SMALL = {"hidden": 8, "n_members": 2, "max_epochs": 4}
STEEP = {"hidden": 8, "n_members": 2, "dropout": 0.0, "max_epochs": 60, "learning_rate": 0.05, "batch_size": 64}


def several(n=40):
    X, labels = make_blocks(n=n, widths={"image": 4, "text": 3})
    return X, pd.DataFrame({"kind": labels, "price": 100 * X["image__0"] + 7, "big": X["text__0"] > 0})


@parametrize_with_checks(
    [NeuralFusionMultiTask(**SMALL)],
    expected_failed_checks=lambda _: {
        "check_sample_weight_equivalence_on_dense_data": "a row of weight 2 is in one batch, and two such rows may not"
    },
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_kinds_come_from_dtypes_and_may_be_named():
    X, y = several()
    y["grade"] = (y["price"] > 7).astype(int)
    model = NeuralFusionMultiTask(tasks={"grade": "label"}, **SMALL).fit(X, y)
    assert model.tasks_ == {"kind": "label", "price": "number", "big": "label", "grade": "label"}
    assert model.classes_["big"].tolist() == [False, True]
    proba = model.predict_proba(X)
    assert {name: values.shape for name, values in proba.items()} == {"kind": (40, 3), "big": (40, 2), "grade": (40, 2)}
    category = y.assign(grade=y["grade"].astype("category"))
    assert NeuralFusionMultiTask(**SMALL).fit(X, category).tasks_["grade"] == "label"
    mixed = NeuralFusionMultiTask(**SMALL).fit(X, y[["kind", "price"]].to_numpy(dtype=object))
    assert mixed.tasks_ == {0: "label", 1: "number"}


def test_predictions_are_a_table_and_the_score_is_a_mean():
    X, y = several()
    X.index = [f"row {i}" for i in range(40)]
    model = NeuralFusionMultiTask("concat", **STEEP).fit(X, y)
    said = model.predict(X)
    assert list(said) == ["kind", "price", "big"]
    assert said.index.tolist() == X.index.tolist()
    expected = [
        accuracy_score(y["kind"], said["kind"]),
        r2_score(y["price"], said["price"]),
        accuracy_score(y["big"], said["big"].astype(bool)),
    ]
    assert min(expected) > 0.8
    assert model.score(X, y) == pytest.approx(np.mean(expected))
    assert model.predict(X.iloc[:0]).shape == (0, 3)


def test_a_score_is_of_the_targets_that_are_known():
    X, y = several()
    model = NeuralFusionMultiTask(**SMALL).fit(X, y)
    lost = y.assign(kind=None, price=np.r_[y["price"][:1], np.full(39, np.nan)])
    assert model.score(X, lost) == accuracy_score(y["big"], model.predict(X)["big"])  # R2 of one row is undefined
    with pytest.raises(ValueError, match=r"no known value of any target, \['kind', 'price', 'big'\]"):
        model.score(X, lost.assign(big=np.nan))


def test_unknown_targets_teach_nothing_and_a_row_without_any_is_left_out():
    X, y = several()
    y = y[["kind", "price"]].copy()
    y.loc[3, :] = [None, np.nan]
    y.loc[5:9, "price"] = np.nan
    full = {**SMALL, "dropout": 0.0, "batch_size": 1000}
    model = NeuralFusionMultiTask("concat", **full).fit(X, y)
    without = NeuralFusionMultiTask("concat", **full).fit(X.drop(3), y.drop(3))
    assert_allclose(model.predict(X)["price"], without.predict(X)["price"], atol=1e-3)
    assert model.prior_["price"] == pytest.approx(y["price"].mean())
    assert np.isfinite(model.score(X, y))


def test_the_scale_of_a_number_changes_nothing():
    X, y = several()
    one = NeuralFusionMultiTask(**SMALL).fit(X, y)
    ten = NeuralFusionMultiTask(**SMALL).fit(X, y.assign(price=10 * y["price"]))
    assert_allclose(10 * one.predict(X)["price"], ten.predict(X)["price"], rtol=1e-3, atol=1e-2)
    assert_allclose(one.predict_proba(X)["kind"], ten.predict_proba(X)["kind"], atol=1e-4)


def test_a_rare_task_is_helped_by_a_common_one_with_the_same_features():
    """The label is known in 16 of 200 rows; a number that goes with it is known in all."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=400)
    names = [f"{block}__{i}" for block in ("image", "text") for i in range(12)]
    X = pd.DataFrame(rng.normal(size=(400, 24)) + hidden[:, None] * np.tile([0.5, -0.5], 12), columns=names)
    y = pd.DataFrame({"label": np.where(hidden > 0, "up", "down"), "number": hidden})
    known, test = y.iloc[:200].copy(), slice(200, None)
    known.loc[16:, "label"] = None
    params = {**STEEP, "dropout": 0.3, "max_epochs": 30, "batch_size": 32, "learning_rate": 0.01}
    alone = NeuralFusionClassifier("concat", **params).fit(X[:16], y["label"][:16])
    both = NeuralFusionMultiTask("concat", **params).fit(X[:200], known)
    helped = (both.predict(X[test])["label"] == y["label"][test]).mean()
    assert helped > alone.score(X[test], y["label"][test]) + 0.02


def test_a_row_without_any_block_gets_the_priors():
    X, y = several()
    empty = pd.DataFrame(np.nan, index=["a"], columns=X.columns)
    model = NeuralFusionMultiTask(**SMALL).fit(X, y)
    assert_allclose(model.predict_proba(empty)["kind"], [model.prior_["kind"]])
    assert model.predict(empty)["price"].tolist() == pytest.approx([y["price"].mean()])


def test_early_stopping_gives_out_of_fold_predictions_of_each_task():
    X, y = several()
    y.loc[::3, "kind"] = None
    model = NeuralFusionMultiTask(early_stopping=True, cv=2, **SMALL).fit(X, y)
    assert model.oof_["kind"].shape == (40, 3)
    assert model.oof_["price"].shape == (40,)
    assert np.isfinite(model.oof_["price"]).all()
    assert model.temperatures_["kind"] != 1


def test_saved_and_pickled_it_predicts_the_same(tmp_path):
    X, y = several()
    model = NeuralFusionMultiTask(**SMALL).fit(X, y)
    expected = model.predict(X)
    save_model(model, tmp_path / "net.fuse")
    for again in (load_model(tmp_path / "net.fuse"), pickle.loads(pickle.dumps(model))):
        pd.testing.assert_frame_equal(again.predict(X), expected, check_exact=True)


def test_a_file_keeps_answers_for_each_target_and_asks_for_them_again(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(30, 2)), columns=["a__0", "b__0"])
    y = pd.DataFrame({"kind": np.where(X["a__0"] > 0, "p", "q"), "size": X["b__0"]})
    model = NeuralFusionMultiTask("late", hidden=4, n_members=1, max_epochs=2).fit(X, y)
    save_model(model, tmp_path / "net.fuse", example=X.head(3))
    pd.testing.assert_frame_equal(load_model(tmp_path / "net.fuse").predict(X), model.predict(X))


def test_a_warm_start_goes_on_with_the_same_tasks():
    X, y = several()
    model = NeuralFusionMultiTask(warm_start=True, **SMALL).fit(X, y)
    before = {name: values.copy() for name, values in model.state_.items()}
    model.fit(X, y)
    assert any((before[name] != values).any() for name, values in model.state_.items())
    assert model.target_scales_ == clone(model).fit(X, y).target_scales_
    with pytest.raises(ValueError, match=r"which learned .*'big': 'label'"):
        model.fit(X, y[["kind", "price"]])


@pytest.mark.parametrize(
    ("change", "params", "message"),
    [
        (lambda y: np.zeros((40, 2, 1)), {}, r"takes a table with a column for each target; got .* \(40, 2, 1\)"),
        (lambda y: y.iloc[:7], {}, "y has 7 rows for the 40 rows of X"),
        (lambda y: y.assign(kind=None), {}, "column 'kind' of y is missing in every row"),
        (lambda y: y.assign(kind="cat"), {}, "column 'kind' of y holds only one class, 'cat'"),
        (lambda y: y, {"tasks": {"kind": "number"}}, "column 'kind' of y must hold numbers"),
        (lambda y: y, {"tasks": {"colour": "label"}}, r"tasks names columns that y lacks: \['colour'\]"),
        (lambda y: y, {"tasks": {"kind": "text"}}, r"tasks must say .*\{'kind': 'text'\}"),
        (lambda y: y, {"tasks": ["label"]}, "tasks must be a dict"),
        (lambda y: pd.concat([y, y], axis=1), {}, "columns of the same name"),
    ],
)
def test_what_cannot_be_learned_is_named(change, params, message):
    X, y = several()
    with pytest.raises(ValueError, match=message):
        NeuralFusionMultiTask(**params, **SMALL).fit(X, change(y))


def test_one_target_is_a_table_of_one_column():
    X, y = several()
    model = NeuralFusionMultiTask(**SMALL).fit(X, y["price"])
    assert model.tasks_ == {"price": "number"}
    assert not hasattr(model, "predict_proba")
    assert NeuralFusionMultiTask(**SMALL).fit(X, y["kind"].to_numpy()).tasks_ == {0: "label"}


def test_kinds_of_targets_in_an_array():
    X, y = several()
    model = NeuralFusionMultiTask(**SMALL).fit(X, y[["price", "price"]].to_numpy())
    assert model.tasks_ == {0: "number", 1: "number"}
    assert_array_equal(model.predict(X).columns, [0, 1])
