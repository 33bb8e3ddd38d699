"""Splits: numbered folds of shuffled rows, lists of any kind, and groups that keep a class together."""

import inspect
import warnings

import numpy as np
import pandas as pd
import polars
import pytest
from conftest import every_pair, make_blocks, slow_but
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, LeaveOneGroupOut, TimeSeriesSplit
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from ensemblefuse import (
    CascadeFusionClassifier,
    ConformalFusionClassifier,
    ConformalFusionRegressor,
    CooperativeClassifier,
    CooperativeRegressor,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FusionSearchCV,
    KernelFusionClassifier,
    KernelFusionRegressor,
    MeanPool,
    SequentialFusionClassifier,
    SequentialFusionRegressor,
    compare_fusions,
    compare_models,
    evaluate_model,
    evaluate_predictions,
    learning_curve,
    missing_modality_curve,
    modality_ablation,
    modality_importance,
    modality_information,
    modality_interactions,
    modality_shapley,
    strategy_comparison,
)
from ensemblefuse.fusion.splits import make_splits
from ensemblefuse.testing import check_no_leakage

HEAD = LogisticRegression()
N = 60
CODES = np.arange(N) % 3

CLASSIFIERS = {
    "decision": DecisionFusionClassifier(HEAD, cv=3),
    "one model a fold": DecisionFusionClassifier(HEAD, refit=False, cv=3),
    "feature": FeatureFusionClassifier(cv=3),
    "reduced": FeatureFusionClassifier(missing="reduced", cv=3),
    "kernel": KernelFusionClassifier(cv=3),
    "cooperative": CooperativeClassifier(cv=3),
    "sequential": SequentialFusionClassifier(cv=3),
    "cascade": CascadeFusionClassifier(HEAD, cv=3),
    "conformal": ConformalFusionClassifier(cv=3),
    "conformal, own folds": ConformalFusionClassifier(FeatureFusionClassifier(HEAD), cv=3),
    "search": FusionSearchCV({"late": DecisionFusionClassifier(HEAD), "early": FeatureFusionClassifier(HEAD)}, cv=3),
}
REGRESSORS = {
    "decision": DecisionFusionRegressor(Ridge(), cv=3),
    "kernel": KernelFusionRegressor(cv=3),
    "cooperative": CooperativeRegressor(cv=3),
    "sequential": SequentialFusionRegressor(Ridge(), cv=3),
    "conformal": ConformalFusionRegressor(cv=3),
    "search": FusionSearchCV({"late": DecisionFusionRegressor(Ridge())}, kind="regressor", cv=3),
}


def with_cv(model, cv):
    """The model with these splits; without a clone, which would copy an iterator."""
    params = {**model.get_params(deep=False), "cv": cv}
    return type(model)(**{name: params[name] for name in inspect.signature(type(model)).parameters})


# ---------------------------------------------------------------------- numbered folds


@pytest.mark.parametrize("cv", [2, 5, None, np.int64(3)], ids=str)
@pytest.mark.parametrize("classify", [True, False])
def test_a_number_gives_folds_of_shuffled_rows_that_are_always_the_same(cv, classify):
    y = np.repeat([0, 1, 2], 100) if classify else np.arange(300.0)
    splits, again = (make_splits(cv, y, None, classify=classify) for _ in range(2))
    assert len(splits) == (5 if cv is None else cv)
    assert_array_equal(np.sort(np.concatenate([test for _, test in splits])), np.arange(300))
    for (train, test), (same_train, same_test) in zip(splits, again, strict=True):
        assert_array_equal(train, same_train), assert_array_equal(test, same_test)
        assert_array_equal(np.sort(np.r_[train, test]), np.arange(300))
        # A fold holds rows of each tenth of the table, and is no sequence of neighbours.
        assert (np.bincount(test // 30, minlength=10) > 0).all()
        assert np.diff(np.sort(test)).max() > 1
        if classify:
            assert np.ptp(np.bincount(y[test])) <= 1


def test_whole_groups_are_shuffled_into_folds_of_like_size_and_classes():
    groups = np.repeat(np.arange(60), 5)
    y = np.repeat([0, 1, 2], 100)  # sorted, as are the groups
    for classify in (True, False):
        for _, test in make_splits(5, y if classify else y.astype(float), groups, classify=classify):
            assert len(test) == 60 and len(np.unique(groups[test])) == 12
            assert np.diff(np.unique(groups[test])).max() > 5
            if classify:
                assert_array_equal(np.bincount(y[test]), [20, 20, 20])
    sizes = np.repeat(np.arange(12), np.arange(1, 13) ** 2)  # 1 to 144 rows: the folds stay of like size
    tests = [len(test) for _, test in make_splits(3, np.arange(len(sizes)) * 1.0, sizes, classify=False)]
    assert max(tests) < 1.2 * min(tests)


def test_the_folds_of_groups_do_not_depend_on_the_order_of_the_rows():
    rng = np.random.default_rng(3)
    groups, y = rng.integers(20, size=200), rng.integers(3, size=200)
    order = rng.permutation(200)
    folds = lambda splits, g: {frozenset(g[test].tolist()) for _, test in splits}
    for classify, target in ((True, y), (False, y.astype(float))):
        a = make_splits(4, target, groups, classify=classify)
        b = make_splits(4, target[order], groups[order], classify=classify)
        assert folds(a, groups) == folds(b, groups[order])


def sorted_table():
    """Two blocks whose values say the class, and a file in the order of the classes and of the values."""
    rng = np.random.default_rng(5)
    y = np.repeat([0, 1], 60)
    frame = pd.DataFrame({"image__0": rng.normal(size=120) + y, "text__0": rng.normal(size=120) + y})
    order = np.lexsort([frame["image__0"], y])
    return frame.iloc[order].reset_index(drop=True), y[order]


def log_loss(proba, y):
    return -np.log(np.maximum(proba[np.arange(len(y)), y], 1e-15)).mean()


@pytest.mark.by_turns
@pytest.mark.parametrize("name", ["decision", "kernel", "cooperative", "conformal"])
def test_a_sorted_file_is_worth_as_much_as_a_shuffled_one(name):
    X, y = sorted_table()
    shuffle = np.random.default_rng(1).permutation(len(y))
    losses = []
    for rows in (np.arange(len(y)), shuffle):
        model = CLASSIFIERS[name]
        model = with_cv(model, 5).fit(X.iloc[rows], y[rows])
        losses.append(log_loss(getattr(model, "fusion_", model).oof_proba_, y[rows]))
    assert losses[0] < losses[1] + 0.03
    assert losses[1] < 0.6


@pytest.mark.parametrize("name", ["decision", "kernel", "sequential"])
def test_a_table_sorted_by_its_target_is_fitted_out_of_fold_as_a_shuffled_one(name):
    rng = np.random.default_rng(2)
    y = np.sort(rng.uniform(-3, 3, size=120))
    X = pd.DataFrame({"image__0": y + rng.normal(size=120) / 2, "text__0": np.sin(y) + rng.normal(size=120) / 2})
    model = {"sequential": SequentialFusionRegressor(KNeighborsRegressor(3), cv=5)}.get(name, REGRESSORS[name])
    spread = []
    for rows in (np.arange(120), rng.permutation(120)):
        fitted = with_cv(model, 5).fit(X.iloc[rows], y[rows])
        lost = fitted.stage_losses_[-1] if name == "sequential" else np.mean((fitted.oof_fused_ - y[rows]) ** 2)
        spread.append(lost)
    assert spread[0] < 1.3 * spread[1] and spread[1] < 0.5


@pytest.mark.by_turns
@pytest.mark.parametrize("function", [compare_models, compare_fusions, learning_curve], ids=lambda f: f.__name__)
def test_functions_that_cross_validate_do_not_depend_on_the_order_of_the_file(function):
    X, y = sorted_table()
    # Weights that are learned vary from one set of folds to the next. With folds of neighbours the score is -1.38.
    near = DecisionFusionClassifier(KNeighborsClassifier(9), combiner=MeanPool(), joint=False, cv=3)
    modalities = [("image", "passthrough", ["image__0"]), ("text", "passthrough", ["text__0"])]
    found = []
    for rows in (np.arange(len(y)), np.random.default_rng(1).permutation(len(y))):
        table, labels = X.iloc[rows].reset_index(drop=True), y[rows]
        if function is compare_models:
            found.append(-compare_models({"near": near}, table, labels, cv=4).loc["near", "log_loss"])
        elif function is learning_curve:
            curve = learning_curve(near, table, labels, train_sizes=[1.0], cv=4)
            found.append(curve.table["score"].iloc[-1])
        else:
            result = compare_fusions(modalities, table, labels, candidates={"near": near}, cv=4, inner_cv=3)
            found.append(result.table.loc["near", "score"])
    assert found[0] > found[1] - 0.06


def test_the_fold_models_of_a_search_are_those_of_its_ledger():
    """Candidates that share the ledger, and those that do not, are scored on the same shuffled folds."""
    X, y = sorted_table()
    shares, own = DecisionFusionClassifier(HEAD, cv=5), DecisionFusionClassifier(HEAD, class_weight={0: 1.0}, cv=5)
    search = FusionSearchCV({"shares": shares, "own": own}, cv=5).fit(X, y)
    assert_allclose(search.fold_scores_["shares"], search.fold_scores_["own"], atol=0.05)


def test_rows_in_the_order_of_time_take_a_splitter_that_is_used_as_it_is():
    X, y = make_blocks(n=60)
    model = DecisionFusionClassifier(HEAD, cv=TimeSeriesSplit(3)).fit(X, y)
    tested = np.isfinite(model.oof_predictions_[0, :, 0])
    assert_array_equal(tested, np.arange(60) >= 15)
    given = KFold(4)
    for (train, test), (a, b) in zip(make_splits(given, CODES, None, classify=True), given.split(CODES), strict=True):
        assert_array_equal(train, a), assert_array_equal(test, b)


@pytest.mark.by_turns
@pytest.mark.parametrize("name", [*CLASSIFIERS, *(f"{name}, numbers" for name in REGRESSORS)])
def test_all_fusions_take_a_splitter_of_time(name):
    X, y = make_blocks(n=N, widths={"image": 2, "text": 2})
    if name in CLASSIFIERS:
        assert set(with_cv(CLASSIFIERS[name], TimeSeriesSplit(3)).fit(X, y).predict(X)) <= set(y)
    else:
        model = with_cv(REGRESSORS[name.removesuffix(", numbers")], TimeSeriesSplit(3)).fit(X, X["image__0"])
        assert np.isfinite(model.predict(X)).all()


@pytest.mark.by_turns
@pytest.mark.parametrize("name", ["decision", "kernel", "sequential", "cascade", "conformal, own folds", "search"])
def test_groups_come_in_any_container(name):
    X, y = make_blocks(n=N, widths={"image": 2, "text": 2})
    number = np.arange(N) // 3
    wanted = with_cv(CLASSIFIERS[name], 3).fit(X, y, groups=number).predict(X)
    series = pd.Series(number, index=range(N, 0, -1))
    for groups in (number.tolist(), series, series.astype("category"), series.astype("Int64"), polars.Series(number)):
        assert_array_equal(with_cv(CLASSIFIERS[name], 3).fit(X, y, groups=groups).predict(X), wanted)
    with pytest.raises(ValueError, match="groups is missing in 4 of 60 rows"):
        with_cv(CLASSIFIERS[name], 3).fit(X, y, groups=np.where(number == 3, np.nan, number)[np.r_[9, np.arange(59)]])


# ---------------------------------------------------------------------- lists of splits

TESTS = np.array_split(np.arange(N), 3)
ARRAYS = [(np.setdiff1d(np.arange(N), test), test) for test in TESTS]
RANGES = [(range(20, N), range(20)), (range(40), range(40, N))]


def mask(rows):
    return np.isin(np.arange(N), rows)


FORMS = {
    "lists": lambda: [(a.tolist(), b.tolist()) for a, b in ARRAYS],
    "pairs that are lists": lambda: [[a, b] for a, b in ARRAYS],
    "a tuple of pairs": lambda: tuple(ARRAYS),
    "masks": lambda: [(mask(a), mask(b)) for a, b in ARRAYS],
    "masks that are lists": lambda: [(mask(a).tolist(), mask(b).tolist()) for a, b in ARRAYS],
    "masks with an index": lambda: [tuple(pd.Series(mask(r), index=range(N, 0, -1)) for r in s) for s in ARRAYS],
    "nullable masks": lambda: [tuple(pd.Series(mask(r), dtype="boolean") for r in s) for s in ARRAYS],
    "polars masks": lambda: [tuple(polars.Series(mask(r)) for r in s) for s in ARRAYS],
    "series": lambda: [tuple(pd.Series(r, index=r + 7) for r in s) for s in ARRAYS],
    "nullable series": lambda: [tuple(pd.Series(r, dtype="Int64") for r in s) for s in ARRAYS],
    "small integers": lambda: [(a.astype(np.uint8), b.astype(np.int8)) for a, b in ARRAYS],
    "a mask and positions": lambda: [(mask(a), b.tolist()) for a, b in ARRAYS],
    "counted from the end": lambda: [(a - N, b - N) for a, b in ARRAYS],
    "generator": lambda: (split for split in ARRAYS),
    "zip": lambda: zip(*map(list, zip(*ARRAYS, strict=True)), strict=True),
    "pairs to read once": lambda: [iter(split) for split in ARRAYS],
    "rows to read once": lambda: [(iter(a.tolist()), map(int, b)) for a, b in ARRAYS],
}


@pytest.mark.parametrize("form", FORMS)
def test_splits_of_any_kind_become_positions(form):
    for (train, test), (a, b) in zip(make_splits(FORMS[form](), CODES, None, classify=True), ARRAYS, strict=True):
        assert_array_equal(train, a), assert_array_equal(test, b)
        assert train.dtype.kind == test.dtype.kind == "i"


def test_ranges_slices_and_empty_parts_become_positions():
    slices = [(slice(20, None), slice(0, 20)), (slice(0, 40), slice(40, N))]
    for given in (RANGES, slices):
        for (train, test), (a, b) in zip(make_splits(given, CODES, None, classify=True), RANGES, strict=True):
            assert_array_equal(train, list(a)), assert_array_equal(test, list(b))
    ((train, test),) = make_splits([(range(N), [])], CODES, None, classify=True)
    assert len(train) == N and len(test) == 0 and test.dtype.kind == "i"


@pytest.mark.by_turns
@pytest.mark.parametrize("name, form", every_pair(CLASSIFIERS, ["lists", "masks", "generator", "rows to read once"]))
def test_all_fusions_take_splits_of_any_kind(name, form):
    X, y = make_blocks(n=N, widths={"image": 2, "text": 2})
    wanted = with_cv(CLASSIFIERS[name], ARRAYS).fit(X, y).predict(X)
    assert_array_equal(with_cv(CLASSIFIERS[name], FORMS[form]()).fit(X, y).predict(X), wanted)


@pytest.mark.by_turns
@pytest.mark.parametrize("name", REGRESSORS)
def test_all_regressors_take_masks_and_generators(name):
    X, _ = make_blocks(n=N, widths={"image": 2, "text": 2})
    target = X["image__0"] + X["text__1"]
    wanted = with_cv(REGRESSORS[name], ARRAYS).fit(X, target).predict(X)
    for form in ("masks", "generator"):
        assert_allclose(with_cv(REGRESSORS[name], FORMS[form]()).fit(X, target).predict(X), wanted)


MODALITIES = [("image", "passthrough", ["image__0", "image__1"]), ("text", "passthrough", ["text__0", "text__1"])]
EARLY, LATE = FeatureFusionClassifier(HEAD), DecisionFusionClassifier(HEAD, joint=False)
VALIDATE = {
    "compare_models": lambda X, y, m, **how: compare_models({"early": EARLY}, X, y, **how).drop(
        columns=["fit_time", "fit_time_sd"]
    ),
    "compare_fusions": lambda X, y, m, **how: compare_fusions(
        MODALITIES, X, y, candidates={"late": LATE}, inner_cv=2, **how
    ).table["score"],
    "strategy_comparison": lambda X, y, m, **how: strategy_comparison(
        MODALITIES, X, y, candidates={"late": LATE}, **how
    ).table["score"],
    "learning_curve": lambda X, y, m, **how: learning_curve(EARLY, X, y, train_sizes=[1.0], **how).table["score"],
    "modality_ablation": lambda X, y, m, **how: modality_ablation(m, X, y, method="refit", **how).table["score"],
    "modality_shapley": lambda X, y, m, **how: modality_shapley(m, X, y, method="refit", **how).table["value"],
    "modality_interactions": lambda X, y, m, **how: modality_interactions(m, X, y, method="refit", **how).table[
        "interaction"
    ],
    "modality_information": lambda X, y, m, **how: modality_information(m, X, y, method="refit", **how).table,
}


@pytest.fixture(scope="module")
def early():
    X, y = make_blocks(n=N, widths={"image": 2, "text": 2})
    return X, y, FeatureFusionClassifier(HEAD).fit(X, y)


@pytest.mark.by_turns
@pytest.mark.parametrize("name", slow_but(lambda name: name != "strategy_comparison", VALIDATE))
def test_all_functions_that_cross_validate_take_splits_of_any_kind(name, early):
    wanted = VALIDATE[name](*early, cv=ARRAYS)
    for form in ("masks", "pairs to read once"):
        assert VALIDATE[name](*early, cv=FORMS[form]()).equals(wanted), form


def test_the_leak_check_takes_splits_of_any_kind():
    X = pd.DataFrame({"a__0": np.random.default_rng(0).normal(size=N)})
    for form in ("masks", "generator"):
        assert check_no_leakage(EARLY, X, CODES, cv=FORMS[form](), n_draws=3) == ["cross_validation"]


@pytest.mark.parametrize(
    "cv, words",
    [
        ([(mask(range(30)), mask(range(30, N))[:-1])], "test part of split 0 of cv is a mask of 59 rows; there are 60"),
        ([ARRAYS[0], (range(50), range(50, 70))], "test part of split 1 of cv names row 60; there are 60 rows"),
        ([([-61, 3], [0])], "train part of split 0 of cv names row -61"),
        ([([0.5, 1.0], [2])], "must hold positions of rows"),
        ([(["a"], ["b"])], "must hold positions of rows"),
        ([(np.zeros((2, 2), int), [1])], r"of shape \(2, 2\)"),
        ([(3, 4)], "must hold positions of rows"),
        ([(pd.Series([True, None] * 30, dtype="boolean"), [1])], "must hold positions of rows"),
        ([tuple(TESTS)], "split 0 of cv must be a pair .* got tuple of 3 parts"),
        (TESTS[0], "must be a pair"),
        ([], "made no split"),
        (iter([]), "an iterator can be read only once"),
        (1, "at least 2 folds; got 1"),
        (True, "at least 2 folds; got True"),
        (2.5, "integer"),
        ("5", "integer"),
    ],
)
def test_what_is_no_split_is_named(cv, words):
    with pytest.raises(ValueError, match=words):
        make_splits(cv, CODES, None, classify=True)


def test_an_iterator_that_an_earlier_fit_has_read_is_an_error():
    X, y = make_blocks(n=N)
    model = DecisionFusionClassifier(HEAD, cv=iter(ARRAYS)).fit(X, y)
    with pytest.raises(ValueError, match="an iterator can be read only once; pass a list"):
        model.fit(X, y)


def test_splits_of_another_table_inside_a_cross_validation_are_an_error():
    X, y = make_blocks(n=N)
    with pytest.raises(ValueError, match="A list of splits is made for one table"):
        compare_models({"late": DecisionFusionClassifier(HEAD, cv=ARRAYS)}, X, y, cv=3)


def test_groups_on_both_sides_of_a_mask_are_an_error():
    with pytest.raises(ValueError, match="groups on both sides of a split") as caught:
        make_splits(FORMS["masks"](), CODES, np.arange(N) % 7, classify=True)
    assert len(str(caught.value)) < 400


# ---------------------------------------------------------------------- groups and classes

OF_CLASSES = np.array(["ash", "elm", "oak"])[CODES]
OF_ONE = np.where(CODES == 2, "oaks", np.array([f"tree {i}" for i in range(N)]))


@pytest.mark.parametrize("cv", [3, 5, None, LeaveOneGroupOut(), ARRAYS], ids=["3", "5", "None", "one out", "list"])
@pytest.mark.parametrize(
    "labels", [OF_CLASSES, OF_CLASSES.astype(object), CODES, CODES / 2], ids=["str", "object", "int", "float"]
)
def test_groups_that_are_the_classes_are_an_error(cv, labels):
    y = np.repeat([0, 1, 2], 20)
    with pytest.raises(ValueError, match="groups coincide with classes"):
        make_splits(cv, y, np.repeat(labels[:3], 20), classify=True)
    if cv is not ARRAYS:
        make_splits(cv, y.astype(float), np.repeat(labels[:3], 20), classify=False)  # numbers have no classes


@pytest.mark.parametrize("cv", [3, LeaveOneGroupOut()], ids=str)
def test_a_class_that_is_one_group_is_told(cv):
    with pytest.warns(UserWarning, match=r"groups keep a whole class together: .* 1 groups \('oaks'\) .* 20 rows"):
        make_splits(cv, CODES, OF_ONE, classify=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_splits(3, CODES, np.arange(N) // 3, classify=True)  # groups of all classes
        make_splits(3, CODES, np.arange(N) % 12, classify=True)  # four groups of each class
        make_splits(3, OF_ONE == "oaks", None, classify=True)


@pytest.mark.by_turns
@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name != "reduced"])
def test_all_fusions_tell_of_groups_that_are_classes(name):
    X, y = make_blocks(n=N, widths={"image": 2, "text": 2})
    with pytest.raises(ValueError, match="groups coincide with classes"):
        with_cv(CLASSIFIERS[name], 3).fit(X, y, groups=y)
    one = np.where(y == "class 2", -1, np.arange(N))
    with pytest.warns(UserWarning, match="groups keep a whole class together"):
        with_cv(CLASSIFIERS[name], 3).fit(X, y, groups=one)


@pytest.mark.by_turns
@pytest.mark.parametrize("name", slow_but(lambda name: name != "strategy_comparison", VALIDATE))
def test_all_functions_that_cross_validate_tell_of_groups_that_are_classes(name, early):
    y = early[1]
    for cv in (3, LeaveOneGroupOut()):
        with pytest.raises(ValueError, match="groups coincide with classes"):
            VALIDATE[name](*early, cv=cv, groups=y)
    with pytest.warns(UserWarning, match="groups keep a whole class together"):
        VALIDATE[name](*early, cv=3, groups=np.where(y == "class 2", -1, np.arange(N)))


@pytest.mark.by_turns
@pytest.mark.parametrize("name", ["compare_models", "compare_fusions", "learning_curve", "modality_ablation"])
def test_a_class_in_one_group_of_a_training_part_alone_is_not_told(name, early):
    X, y, _ = early
    model = DecisionFusionClassifier(HEAD, cv=2)
    groups = np.where(y == "class 2", np.arange(N) % 2, np.arange(N))  # two groups: one for training, one to test
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_splits(2, np.unique(y, return_inverse=True)[1], groups, classify=True)
        if name == "compare_models":
            compare_models({"late": model}, X, y, cv=2, groups=groups)
        elif name == "compare_fusions":
            compare_fusions(MODALITIES, X, y, candidates={"late": LATE}, cv=2, inner_cv=2, groups=groups)
        elif name == "learning_curve":
            learning_curve(model, X, y, train_sizes=[1.0], cv=2, groups=groups)
        else:
            modality_ablation(model.fit(X, y), X, y, method="refit", cv=2, groups=groups)
    with pytest.warns(UserWarning, match="groups keep a whole class together"):
        model.fit(X[groups != 0], y[groups != 0], groups=groups[groups != 0])


DRAW = {
    "evaluate_model": lambda X, y, late, groups: evaluate_model(late, groups=groups),
    "evaluate_model, new rows": lambda X, y, late, groups: evaluate_model(late, X, y, groups=groups),
    "evaluate_predictions": lambda X, y, late, groups: evaluate_predictions(y, late.predict_proba(X), groups=groups),
    "missing_modality_curve": lambda X, y, late, groups: missing_modality_curve(late, groups=groups),
    "modality_ablation": lambda X, y, late, groups: modality_ablation(late, groups=groups),
    "modality_shapley": lambda X, y, late, groups: modality_shapley(late, X, y, groups=groups),
    "modality_interactions": lambda X, y, late, groups: modality_interactions(late, groups=groups),
    "modality_importance": lambda X, y, late, groups: modality_importance(late, X, y, groups=groups),
}


@pytest.mark.by_turns
@pytest.mark.parametrize("name", DRAW)
def test_intervals_over_groups_that_are_classes_are_told(name):
    X, y = make_blocks(n=N, widths={"image": 2, "text": 2})
    late = DecisionFusionClassifier(HEAD, cv=3).fit(X, y)
    with pytest.warns(UserWarning, match="groups coincide with classes"):
        DRAW[name](X, y, late, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DRAW[name](X, y, late, np.char.add(y, (np.arange(N) % 2).astype(str)))  # two groups of each class
