"""What is wrong with labels, weights, groups or parameters is said before a single cell is encoded."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import ensemblefuse
from ensemblefuse import (
    BaseEncoder,
    CascadeFusionClassifier,
    ConformalFusionClassifier,
    CooperativeClassifier,
    CooperativeRegressor,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    FusionPipeline,
    FusionSearchCV,
    KernelFusionClassifier,
    KernelFusionRegressor,
    SequentialFusionClassifier,
    SequentialFusionRegressor,
    compare_fusions,
    compare_models,
    evaluate_model,
    learning_curve,
    make_fusion_pipeline,
)
from ensemblefuse.cli import main
from ensemblefuse.fusion.targets import are_many_classes

N = 30
X = pd.DataFrame({"title": ["x" * (1 + i) for i in range(N)], "price": np.arange(N, dtype=float)})
LABELS = np.array(["cat", "dog"])[np.arange(N) % 2]
LR = LogisticRegression()
CLASSIFIERS = [
    *(DecisionFusionClassifier, FeatureFusionClassifier, KernelFusionClassifier, CooperativeClassifier),
    *(SequentialFusionClassifier, CascadeFusionClassifier, ConformalFusionClassifier, FusionSearchCV),
]
REGRESSORS = [
    *(DecisionFusionRegressor, FeatureFusionRegressor, KernelFusionRegressor, CooperativeRegressor),
    SequentialFusionRegressor,
]
read = []


class Watched(BaseEncoder):
    def load(self, cell):
        read.append(cell)
        return cell

    def encode_batch(self, items):
        return np.array([[len(item)] for item in items], dtype=float)


def pipeline(fusion):
    read.clear()
    return make_fusion_pipeline([("text", Watched(), "title"), ("tabular", "passthrough", ["price"])], fusion)


def with_gap(values, gap, dtype=None):
    values = pd.Series(values).astype(object)
    values[[3, 8]] = gap
    return values if dtype is None else values.astype(dtype)


GAPS = [
    with_gap(LABELS, None),
    with_gap(LABELS, np.nan),
    with_gap(LABELS, pd.NA, "string"),
    with_gap(LABELS, np.nan, "category"),
    with_gap(LABELS, ""),
    with_gap(LABELS, " ").to_numpy().astype(str),
    with_gap(LABELS, None).tolist(),
    with_gap(np.arange(N) % 2, np.nan, float),
    with_gap(np.arange(N) % 2, pd.NA, "Int64"),
    with_gap(np.arange(N) % 2 == 0, pd.NA, "boolean"),
    with_gap(pd.Series(pd.Timestamp("2020-01-01"), range(N)), pd.NaT, "datetime64[ns]"),
    pl.Series(with_gap(LABELS, None).tolist()),
]


@pytest.mark.parametrize("y", GAPS, ids=lambda y: f"{type(y).__name__} {getattr(y, 'dtype', '')}")
@pytest.mark.parametrize("fusion", [DecisionFusionClassifier(), LogisticRegression()], ids=lambda f: type(f).__name__)
def test_rows_without_a_label_are_named(fusion, y):
    with pytest.raises(ValueError, match=r"y is missing.* in 2 of 30 rows \(positions \[3, 8\]\)"):
        pipeline(fusion).fit(X, y)
    assert not read


@pytest.mark.parametrize("fusion", CLASSIFIERS)
def test_every_classifier_says_so_with_and_without_a_pipeline(fusion):
    blocks = pd.DataFrame({"image__0": np.arange(N) % 7.0, "text__0": np.arange(N) % 5.0})
    wrong = r"y is missing in 2 of 30 rows \(positions \[3, 8\]\)"
    with pytest.raises(ValueError, match=wrong):
        pipeline(fusion()).fit(X, GAPS[0])
    with pytest.raises(ValueError, match=wrong):
        fusion().fit(blocks, GAPS[0])
    with pytest.raises(ValueError, match="continuous"):
        pipeline(fusion()).fit(X, np.arange(N) / 7)
    with pytest.raises(ValueError, match="y has 29 values for the 30 rows"):
        pipeline(fusion()).fit(X, LABELS[:-1])
    with pytest.raises(ValueError, match="only one class"):
        pipeline(fusion()).fit(X, ["cat"] * N)
    with pytest.raises(ValueError, match=r"y has dtype object and mixes numbers and texts: numbers such as 7 in 1 of"):
        pipeline(fusion()).fit(X, [*LABELS[:-1].tolist(), 7])
    with pytest.raises(ValueError, match=r"groups is missing in 1 of 30 rows \(positions \[0\]\)"):
        pipeline(fusion()).fit(X, LABELS, fuse__groups=[None, *range(N - 1)])
    with pytest.raises(ValueError, match=r"sample_weight must hold finite numbers.*-1 in 1 of 30 rows \(positions \[4"):
        pipeline(fusion()).fit(X, LABELS, fuse__sample_weight=np.where(np.arange(N) == 4, -1, 1))
    with pytest.raises(TypeError, match=r"\['fuse__group'\].*takes \['sample_weight', 'groups'\]"):
        pipeline(fusion()).fit(X, LABELS, fuse__group=np.arange(N))
    assert not read


@pytest.mark.parametrize("fusion", REGRESSORS)
def test_every_regressor_names_the_rows_without_a_number(fusion):
    blocks = pd.DataFrame({"image__0": np.arange(N) % 7.0, "text__0": np.arange(N) % 5.0})
    for y in (
        with_gap(np.arange(N), np.nan, float),
        with_gap(np.arange(N), pd.NA, "Float64"),
        with_gap(range(N), None),
    ):
        with pytest.raises(ValueError, match=r"y is missing in 2 of 30 rows \(positions \[3, 8\]\)"):
            pipeline(fusion()).fit(X, y)
        with pytest.raises(ValueError, match=r"y is missing in 2 of 30 rows"):
            fusion().fit(blocks, y)
    with pytest.raises(ValueError, match=r"y is infinite in 2 of 30 rows \(positions \[3, 8\]\)"):
        pipeline(fusion()).fit(X, with_gap(np.arange(N), np.inf, float))
    with pytest.raises(ValueError, match=r"y must hold numbers.*'cat' in 30 of 30 rows"):
        pipeline(fusion()).fit(X, ["cat"] * N)
    assert not read


@pytest.mark.parametrize(
    ("fusion", "match"),
    [
        (DecisionFusionClassifier(missing="never"), "missing must be one of"),
        (DecisionFusionClassifier(class_weight={3: 2}), r"class_weight names the class 3 \(int\)"),
        (DecisionFusionClassifier(calibration="isotonic"), "calibration must be"),
        (DecisionFusionClassifier(cv=1), "at least 2 folds"),
        (FeatureFusionClassifier(Ridge()), "must be a classifier"),
        (SequentialFusionClassifier(learning_rate=0), "learning_rate"),
        (CascadeFusionClassifier(tolerance=3), "tolerance"),
        (ConformalFusionClassifier(method="best"), "method must be"),
        (ConformalFusionClassifier(DecisionFusionClassifier(class_weight={3: 2})), "class_weight names the class 3"),
        (FusionSearchCV(scoring="acuracy"), "Did you mean 'accuracy'"),
    ],
    ids=lambda v: type(v).__name__ if hasattr(v, "fit") else "",
)
def test_a_wrong_parameter_of_the_fusion_is_told_first(fusion, match):
    with pytest.raises(ValueError, match=match):
        pipeline(fusion).fit(X, LABELS)
    assert not read


@pytest.mark.parametrize(
    ("fusion", "match"),
    [
        (DecisionFusionClassifier({"txt": LR}), r"estimators names unknown blocks \['txt'\]"),
        (DecisionFusionClassifier({"text": [LR, Ridge()]}), "of 'text' must be a classifier"),
        (DecisionFusionClassifier({"text": "drop", "tabular": "drop"}), "drops every block"),
        (FeatureFusionClassifier(LR, weights={"txt": 2}), r"weights names unknown blocks \['txt'\]"),
        (KernelFusionClassifier(gamma={"txt": 2}), r"gamma names unknown blocks \['txt'\]"),
        (SequentialFusionClassifier(order=["text", "txt"]), "order must be"),
        (CascadeFusionClassifier(costs={"txt": 2}), r"costs names unknown blocks \['txt'\]"),
        (ConformalFusionClassifier(DecisionFusionClassifier({"txt": LR})), r"unknown blocks \['txt'\]"),
    ],
    ids=lambda v: type(v).__name__ if hasattr(v, "fit") else "",
)
def test_a_parameter_that_names_no_modality_is_told_first(fusion, match):
    with pytest.raises((ValueError, TypeError), match=match):
        pipeline(fusion).fit(X, LABELS)
    assert not read


@pytest.mark.parametrize(
    "name", ["DecisionFusion", "FeatureFusion", "KernelFusion", "SequentialFusion", "CascadeFusion"]
)
def test_a_classifier_that_gets_numbers_names_its_regressor(name):
    fusion = getattr(ensemblefuse, f"{name}Classifier")()
    regressor = f"{name}Regressor" if hasattr(ensemblefuse, f"{name}Regressor") else "DecisionFusionRegressor"
    with pytest.raises(ValueError, match=rf"Unknown label type: continuous.*make_fusion_pipeline.*{regressor}\(\)"):
        pipeline(fusion).fit(X, np.linspace(0, 1.5, N))
    assert not read


def test_a_parameter_without_the_name_of_its_step_is_told_first():
    with pytest.raises(TypeError, match="begins with the name of its step: fuse__sample_weight=sample_weight"):
        pipeline(DecisionFusionClassifier(LR)).fit(X, LABELS, sample_weight=np.ones(N))
    assert not read


@pytest.mark.parametrize(
    ("y", "weight", "match"),
    [
        (GAPS[0], None, r"y is missing.* in 2 of 30 rows \(positions \[3, 8\]\)"),
        (LABELS[:4], None, "y has 4 values for the 30 rows"),
        (LABELS, [1.0], "sample_weight has 1 values"),
    ],
)
def test_a_score_checks_before_it_encodes(y, weight, match):
    model = pipeline(DecisionFusionClassifier(LR, cv=3)).fit(X, LABELS)
    read.clear()
    with pytest.raises(ValueError, match=match):
        model.score(X.assign(title="y" + X["title"]), y, sample_weight=weight)
    assert not read
    assert 0 <= model.score(X, LABELS) <= 1 and not hasattr(pipeline(StandardScaler()), "score")


@pytest.mark.parametrize(
    ("modality", "match"),
    [
        (
            ("size", StandardScaler(), "price"),
            r"'size': StandardScaler takes a table, so its columns are a list: ",
        ),
        (("size", make_pipeline(SimpleImputer(), PCA()), "price"), "'size': SimpleImputer takes a table"),
        (("word", TfidfVectorizer(), ["title"]), "TfidfVectorizer takes one column of texts, .* one name: 'title'"),
        (("word", CountVectorizer(), ["title", "price"]), "CountVectorizer takes one column of texts"),
    ],
    ids=str,
)
def test_a_column_where_a_table_is_wanted_is_told_first(modality, match):
    read.clear()
    model = make_fusion_pipeline([("text", Watched(), "title"), modality], DecisionFusionClassifier(LR, cv=3))
    with pytest.raises(ValueError, match=match):
        model.fit(X, LABELS)
    assert not read


def test_texts_that_pass_through_to_an_estimator_of_numbers_name_their_block():
    model = make_fusion_pipeline([("word", "passthrough", ["title"])], DecisionFusionClassifier(LR, cv=3))
    with pytest.raises(ValueError, match="Block 'word' holds texts, and its estimator takes numbers"):
        model.fit(X, LABELS)


def test_groups_on_both_sides_of_a_splitter_are_told_first():
    with pytest.raises(ValueError, match="both sides of a split"):
        pipeline(DecisionFusionClassifier(cv=KFold(3))).fit(X, LABELS, fuse__groups=np.arange(N) % 4)
    assert not read


@pytest.mark.parametrize(
    "y",
    [
        pd.Series((np.arange(N) % 2).tolist(), dtype=object),
        pd.Series([1.0, 2] * (N // 2), dtype=object),
        pd.Series([True, False] * (N // 2), dtype=object),
        pd.Series(pd.array(np.arange(N) % 2, dtype="Int64")),
        pd.Series(LABELS, dtype="category"),
        pl.Series(LABELS.tolist()),
        LABELS.tolist(),
        np.array(LABELS, dtype=object),
    ],
    ids=lambda y: f"{type(y).__name__} {getattr(y, 'dtype', '')}",
)
def test_labels_in_any_container_are_learned(y):
    model = pipeline(FeatureFusionClassifier(LR)).fit(X, y)
    assert model.classes_.tolist() == sorted(set(np.asarray(y).tolist()))
    assert set(model.predict(X).tolist()) <= set(model.classes_.tolist())


@pytest.mark.parametrize("value", [pd.Timestamp("2020-01-01"), (1, 2), b"cat"])
def test_labels_that_cannot_be_sorted_as_texts_or_numbers_are_refused(value):
    y = np.empty(N, dtype=object)
    y[:] = [value] * N
    with pytest.raises(ValueError, match=rf"y has dtype object and holds {type(value).__name__}"):
        pipeline(DecisionFusionClassifier()).fit(X, y)
    assert not read


def test_other_estimators_at_the_end_are_checked_by_their_kind():
    with pytest.raises(ValueError, match="y is infinite in 1 of 30 rows"):
        pipeline(RandomForestRegressor()).fit(X, [np.inf, *range(N - 1)])
    with pytest.raises(ValueError, match="Unknown label type"):
        pipeline(LR).fit(X, np.arange(N) / 7)
    with pytest.raises(ValueError, match="y has 29 values"):
        pipeline(RandomForestRegressor()).fit(X, np.zeros((N - 1, 2)))
    assert not read
    two = pipeline(RandomForestRegressor(3)).fit(X, np.column_stack([np.arange(N), np.arange(N)]))
    assert two.predict(X).shape == (N, 2)


def test_scikit_learns_searches_and_scores_encode_nothing_either():
    model = pipeline(DecisionFusionRegressor(Ridge(), cv=3))
    grid = GridSearchCV(model, {"fuse__joint": [True, False]}, cv=KFold(3), error_score="raise")
    for ask in (lambda y: grid.fit(X, y), lambda y: cross_val_score(model, X, y, cv=KFold(3), error_score="raise")):
        with pytest.raises(ValueError, match=r"y is missing|contains NaN"):  # the latter is scikit-learn's own check
            ask(np.where(np.isin(np.arange(N), [3, 15, 28]), np.nan, np.arange(N)))  # in every training part
    assert not read


def test_metadata_that_is_routed_is_checked_too():
    with sklearn.config_context(enable_metadata_routing=True):
        model = pipeline(DecisionFusionClassifier(LR, cv=3).set_fit_request(groups=True))
        with pytest.raises(ValueError, match="groups has 2 values for the 30 rows"):
            model.fit(X, LABELS, groups=[1, 2])
        assert not read
        model.fit(X, LABELS, groups=np.arange(N) // 2)


def test_our_own_functions_check_before_they_encode():
    model = pipeline(DecisionFusionClassifier(LR, cv=3)).fit(X, LABELS)
    other = X.assign(title=[f"{t}!" for t in X["title"]])
    read.clear()
    for ask, match in [
        (lambda: evaluate_model(model, other, GAPS[0]), "y is missing"),
        (lambda: evaluate_model(model, other, LABELS, sample_weight=[1]), "sample_weight has 1 values"),
        (lambda: evaluate_model(model, other, LABELS, groups=[1]), "groups has 1 values"),
        (lambda: compare_models({"a": model}, other, GAPS[0]), "y is missing"),
        (lambda: learning_curve(model, other, LABELS, scoring="acuracy"), "Did you mean 'accuracy'"),
        (lambda: learning_curve(model, other, GAPS[0]), "y is missing"),
        (lambda: compare_fusions([("text", Watched(), "title")], other, LABELS, scoring="f2"), "scoring must be"),
    ]:
        with pytest.raises(ValueError, match=match):
            ask()
    assert not read


def test_the_check_alone_changes_nothing():
    model = pipeline(DecisionFusionClassifier(LR, cv=iter(KFold(3).split(X))))
    model.check_fit(X, LABELS)
    assert isinstance(model, FusionPipeline)
    assert not hasattr(model["fuse"], "classes_")
    model.fit(X, LABELS)  # the iterator of splits is still whole
    before = model["fuse"].classes_.tolist()
    with pytest.raises(ValueError, match="y is missing"):
        model.check_fit(X, GAPS[0])
    assert model["fuse"].classes_.tolist() == before
    plain = sklearn.clone(model[:-1]).fit(X, GAPS[0])  # without a fusion at the end, y is not read
    assert plain.transform(X).shape == (N, 2)


@pytest.mark.parametrize("command", [["fit", "-o", "model.fuse"], ["evaluate"]], ids=["fit", "evaluate"])
def test_the_command_line_checks_before_it_encodes(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    X.assign(kind=LABELS, group="all").to_csv("table.csv", index=False)
    options = ["--target", "kind", "--groups", "group", "--kind", "title=text"]
    assert main([command[0], "table.csv", *options, *command[1:]]) != 0
    said = capsys.readouterr()
    assert "only one group" in said.err
    assert "to encode" not in said.err + said.out


@pytest.mark.parametrize(
    ("fusion", "regressor"),
    [
        (DecisionFusionClassifier(LogisticRegression(), cv=3), "DecisionFusionRegressor"),
        (FeatureFusionClassifier(LogisticRegression()), "FeatureFusionRegressor"),
        (CascadeFusionClassifier(LogisticRegression(), cv=3), "DecisionFusionRegressor"),
    ],
)
def test_labels_that_may_be_numbers_get_one_warning_that_names_the_regressor(fusion, regressor):
    X = pd.DataFrame({"size": np.linspace(0, 1, 90)})
    said = rf"{type(fusion).__name__} learns classes, and y holds 30 different labels in 90 rows; for numbers, pass a "
    said += rf"regressor, as in make_fusion_pipeline\(modalities, {regressor}\(\)\)\.$"
    with pytest.warns(UserWarning) as caught:
        make_fusion_pipeline([("tabular", StandardScaler(), ["size"])], fusion).fit(X, np.arange(90) % 30)
    assert [bool(re.match(said, str(warning.message))) for warning in caught] == [True]
    # Warnings are errors here: texts, up to 20 classes, and up to a tenth of the rows, are classes.
    for y in (np.array([f"n{i % 30}" for i in range(90)]), np.arange(90) % 20):
        make_fusion_pipeline([("tabular", StandardScaler(), ["size"])], fusion).fit(X, y)


def test_a_tenth_of_many_rows_is_many():
    assert not are_many_classes(19, 20) and are_many_classes(11, 21) and not are_many_classes(10, 21)
    assert not are_many_classes(20, 100) and are_many_classes(21, 100)
    assert not are_many_classes(100, 1000) and are_many_classes(101, 1000)
    assert not are_many_classes(0, 0)
