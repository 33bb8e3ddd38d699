"""Fusions as ONNX: the same predictions in ONNX Runtime, whatever is missing, or an error that says why not."""

import json
import warnings

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import sklearn.calibration
import sklearn.compose
import sklearn.decomposition
import sklearn.discriminant_analysis
import sklearn.ensemble
import sklearn.feature_selection
import sklearn.gaussian_process
import sklearn.impute
import sklearn.kernel_approximation
import sklearn.linear_model
import sklearn.model_selection
import sklearn.multiclass
import sklearn.naive_bayes
import sklearn.neighbors
import sklearn.neural_network
import sklearn.preprocessing
import sklearn.svm
import sklearn.tree
import xgboost
from conftest import make_blocks, slow_but
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer, StandardScaler
from sklearn.svm import SVC

import ensemblefuse
from ensemblefuse import (
    BlockNystroem,
    BlockPCA,
    ConformalFusionClassifier,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    DempsterShaferPool,
    EntropyPool,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    FunctionEncoder,
    GreedyPool,
    LogPool,
    MeanPool,
    PersistenceError,
    StackingPool,
    VotePool,
    export_onnx,
    make_fusion_pipeline,
    onnx_support,
)
from ensemblefuse.export._graph import Graph
from ensemblefuse.fusion import _default_trees

pytestmark = pytest.mark.filterwarnings("ignore")

PATTERNS = [(a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)]


def with_gaps(n=90, n_classes=3, dtype=float):
    """Every pattern of three modalities, none of them rare."""
    X, y = make_blocks(n=n, n_classes=n_classes)
    X = X.astype(np.float32).astype(dtype)
    prefixes = ("image__", "text__", "audio__")
    for i, pattern in enumerate(PATTERNS[1:-1]):
        for prefix, there in zip(prefixes, pattern, strict=True):
            if not there:
                X.loc[X.index[12 * i : 12 * i + 11], [c for c in X if c.startswith(prefix)]] = np.nan
    return X, y


X, Y = with_gaps()
TARGET = X.fillna(0).to_numpy() @ np.arange(X.shape[1]) + 100


def run(path, table, model):
    session = onnxruntime.InferenceSession(path)
    inputs = {
        name: np.asarray(table.to_numpy()[:, columns], dtype=np.float32) for name, columns in model.blocks_.items()
    }
    return dict(zip([out.name for out in session.get_outputs()], session.run(None, inputs), strict=True))


def all_patterns(table):
    """The rows of a table, once with each set of their modalities."""
    parts = []
    for pattern in PATTERNS:
        part = table.copy()
        for prefix, there in zip(("image__", "text__", "audio__"), pattern, strict=True):
            if not there:
                part[[c for c in part if c.startswith(prefix)]] = np.nan
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def assert_same(model, tmp_path, table=X, atol=5e-6):
    """`export_onnx` is asked for no check of its own here."""
    path = export_onnx(model, tmp_path / "model.onnx")
    rows = all_patterns(table)
    got = run(path, rows, model)
    if hasattr(model, "classes_"):
        proba = model.predict_proba(rows)
        np.testing.assert_allclose(got["probabilities"], proba, atol=atol)
        top = np.sort(proba, axis=1)
        sure = top[:, -1] - top[:, -2] > 10 * atol
        assert (np.asarray(got["label"])[sure] == model.predict(rows)[sure]).all()
    else:
        expected = model.predict(rows)
        np.testing.assert_allclose(got["prediction"], expected, atol=atol * np.abs(expected).max())


def instances(kind):
    """An estimator of each class that `onnx_support` names, by its name."""
    modules = [
        *(sklearn.calibration, sklearn.compose, sklearn.decomposition, sklearn.discriminant_analysis, sklearn.ensemble),
        *(
            sklearn.feature_selection,
            sklearn.gaussian_process,
            sklearn.impute,
            sklearn.kernel_approximation,
            sklearn.linear_model,
            sklearn.multiclass,
        ),
        *(sklearn.model_selection, sklearn.naive_bayes, sklearn.neighbors, sklearn.neural_network, sklearn.tree),
        *(sklearn.preprocessing, sklearn.svm, xgboost, ensemblefuse),
    ]
    parameters = {
        "CalibratedClassifierCV": {"estimator": sklearn.svm.LinearSVC(), "cv": 3},
        "GridSearchCV": {"estimator": LogisticRegression(), "param_grid": {"C": [0.1, 1.0]}, "cv": 3},
        "LogisticRegressionCV": {"cv": 3, "Cs": 3},
        "NuSVC": {"nu": 0.3},
        "OneVsRestClassifier": {"estimator": SVC()},
        "OneVsOneClassifier": {"estimator": sklearn.svm.LinearSVC()},
        "QuadraticDiscriminantAnalysis": {"reg_param": 0.1},
        "QuantileTransformer": {"n_quantiles": 20},
        "SGDClassifier": {"loss": "log_loss"},
        "TransformedTargetRegressor": {"regressor": sklearn.svm.SVR(), "transformer": StandardScaler()},
        "VotingClassifier": {
            "estimators": [("a", LogisticRegression()), ("b", SVC(probability=True))],
            "voting": "soft",
        },
        "VotingRegressor": {"estimators": [("a", Ridge()), ("b", Ridge(2.0))]},
        "KernelPCA": {"n_components": 2, "kernel": "rbf"},
        "Nystroem": {"n_components": 20},
        "SelectKBest": {"k": 2},
        **{name: {"n_components": 2} for name in ("PCA", "IncrementalPCA", "TruncatedSVD", "FastICA")},
    }
    cheap = {"n_estimators": 5, "max_iter": 30, "random_state": 0}
    found = {}
    for name, works in onnx_support().query("kind == @kind")[["name", "works"]].itertuples(index=False):
        cls = next(getattr(module, name) for module in modules if hasattr(module, name))
        made = cls(**parameters.get(name, {}))
        held = made.get_params(deep=False)
        slow = "Linear" in name or "Logistic" in name  # these converge in more rounds
        found[name] = made.set_params(
            **{k: v for k, v in cheap.items() if k in held and not (slow and k == "max_iter")}
        )
        found[name]._works = works
    return found


# One of each way through the code; the others take a minute together.
QUICK = {
    *("LogisticRegression", "SVC", "OneVsRestClassifier", "RidgeClassifier", "RandomForestClassifier", "XGBClassifier"),
    *("LinearDiscriminantAnalysis", "VotingClassifier", "HistGradientBoostingClassifier", "XGBRFClassifier"),
    *("LogTargetRegressor", "Ridge", "SVR", "TransformedTargetRegressor", "XGBRegressor", "GaussianProcessRegressor"),
    *("StandardScaler", "Nystroem", "PCA", "SimpleImputer", "BlockPCA", "CrossModalImputer", "FunctionTransformer"),
}


def tried(kind):
    slow = lambda name: [] if name in QUICK else [pytest.mark.slow]
    return [pytest.param(e, e._works, id=name, marks=slow(name)) for name, e in instances(kind).items()]


def assert_supported(model, works, tmp_path):
    if works:
        assert_same(model, tmp_path)
    else:
        with pytest.raises(ValueError, match=r"export_onnx (cannot write|writes).*\bUse "):
            export_onnx(model, tmp_path / "model.onnx")


@pytest.mark.by_turns
@pytest.mark.parametrize("estimator, works", tried("classifier"))
def test_every_classifier_of_the_table(estimator, works, tmp_path):
    fusion = DecisionFusionClassifier(clone(estimator), joint=False, cv=3)
    assert_supported(fusion.fit(X, Y), works, tmp_path)
    if works:
        two, labels = with_gaps(n_classes=2)
        assert_same(fusion.fit(two, labels), tmp_path, two)


@pytest.mark.by_turns
@pytest.mark.parametrize("estimator, works", tried("regressor"))
def test_every_regressor_of_the_table(estimator, works, tmp_path):
    assert_supported(DecisionFusionRegressor(clone(estimator), cv=3).fit(X, TARGET), works, tmp_path)


@pytest.mark.by_turns
@pytest.mark.parametrize("step, works", tried("transformer"))
def test_every_transformer_of_the_table(step, works, tmp_path):
    step = clone(step)
    if type(step).__module__.startswith("ensemblefuse"):
        part = {"imputer" if "Imputer" in type(step).__name__ else "transformer": step}
        model = FeatureFusionClassifier(LogisticRegression(), **part).fit(X, Y)
    else:
        model = DecisionFusionClassifier(make_pipeline(step, LogisticRegression()), joint=False, cv=3).fit(X, Y)
    assert_supported(model, works, tmp_path)


POOLS = [
    LogPool("equal"),
    LogPool(),
    LogPool(per_class=True),
    LogPool(per_pattern=True),
    LogPool(per_class=True, per_pattern=True, smoothing=0.01),
    LogPool(class_prior=[0.5, 0.3, 0.2]),
    MeanPool(),
    MeanPool("learned"),
    MeanPool([1.0, 0.0, 0.0, 0.0]),
    GreedyPool(),
    GreedyPool(space="prob"),
    VotePool(),
    VotePool("borda"),
    EntropyPool(),
    DempsterShaferPool(),
    DempsterShaferPool(1.0),
    StackingPool(),
    StackingPool(input="proba"),
    StackingPool(nonnegative=True),
    StackingPool(RandomForestClassifier(5, random_state=0)),
]
# Every class of pools, with the settings that make the largest graph.
QUICK_POOLS = [
    "LogPool(per_class=True, per_pattern=True, smoothing=0.01)",
    "MeanPool(weights='learned')",
    "GreedyPool()",
    "VotePool(method='borda')",
    "EntropyPool()",
    "DempsterShaferPool()",
    "StackingPool()",
]


@pytest.mark.by_turns
@pytest.mark.parametrize("pool", slow_but(lambda pool: str(pool) in QUICK_POOLS, POOLS), ids=str)
def test_every_pool_with_every_calibration(pool, tmp_path):
    head = LogisticRegression()
    for settings in ({}, {"calibration": "sigmoid", "refit": False}):
        assert_same(DecisionFusionClassifier(head, combiner=pool, cv=3, **settings).fit(X, Y), tmp_path)


def test_the_pools_of_the_table_are_those_of_the_library(tmp_path):
    named = onnx_support().query("kind == 'pool' and works")["name"]
    from ensemblefuse import combine

    assert set(named) == {name for name in combine.__all__ if name.endswith("Pool") and name != "BasePool"}
    for pool in (
        LogPool(),
        LogPool("equal"),
        LogPool(per_pattern=True),
        MeanPool("learned"),
        GreedyPool(),
        StackingPool(),
    ):
        assert_same(DecisionFusionRegressor(Ridge(), combiner=pool, cv=3).fit(X, TARGET), tmp_path)


@pytest.mark.by_turns
@pytest.mark.parametrize("missing", ["present", "impute", "dropout", "reduced"])
def test_the_joint_member_takes_part_where_it_does_in_the_model(missing, tmp_path):
    model = DecisionFusionClassifier(LogisticRegression(), missing=missing, cv=3).fit(X, Y)
    assert "joint" in model.member_names_
    assert_same(model, tmp_path)


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "settings",
    [
        {"missing": "dropout", "random_state": 0},
        {"missing": "reduced"},
        {"missing": "native", "estimator": xgboost.XGBClassifier(n_estimators=5)},
        {"missing": "native", "estimator": RandomForestClassifier(5, random_state=0)},
        {"scaling": "unit"},
        {"scaling": "mfa", "weights": {"text": 2.0}},
        {"transformer": BlockPCA(2)},
        {"transformer": BlockNystroem(20)},
        {"imputer": sklearn.impute.SimpleImputer()},
        {"estimator": RandomForestClassifier(5, random_state=0)},
    ],
    ids=str,
)
def test_feature_level_fusion(settings, tmp_path):
    assert_same(FeatureFusionClassifier(**{"estimator": LogisticRegression(), **settings}).fit(X, Y), tmp_path)


@pytest.mark.by_turns
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_default_heads(n_classes, tmp_path):
    table, labels = with_gaps(n_classes=n_classes)
    assert_same(DecisionFusionClassifier(cv=3).fit(table, labels), tmp_path, table)
    assert_same(FeatureFusionClassifier(cv=3).fit(table, labels), tmp_path, table)


def test_the_default_heads_of_regression(tmp_path):
    assert_same(DecisionFusionRegressor(cv=3).fit(X, TARGET), tmp_path)
    assert_same(FeatureFusionRegressor(cv=3).fit(X, TARGET), tmp_path)


@pytest.mark.parametrize(
    "fusion, n_classes", [(DecisionFusionClassifier, 2), (DecisionFusionClassifier, 3), (DecisionFusionRegressor, 3)]
)
def test_all_members_of_high_effort(fusion, n_classes, tmp_path, monkeypatch):
    monkeypatch.setattr(_default_trees, "_ROUNDS", 5)
    for forest in ("_EXTRA", "_RANDOM"):
        monkeypatch.setattr(_default_trees, forest, {**getattr(_default_trees, forest), "n_estimators": 5})
    table, y = with_gaps(n=200, n_classes=n_classes)
    if fusion is DecisionFusionRegressor:
        y = np.exp(0.2 * np.nan_to_num(table).sum(axis=1))  # skewed: its log is tried, too
    model = fusion(cv=2, effort="high").fit(table, y)
    assert {name.partition("/")[2] for name in model.member_names_} == {"", "trees", "forest"}
    assert export_onnx(model, tmp_path / "model.onnx", example=table).exists()
    assert_same(model, tmp_path, table)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_several_trees_a_round_are_trees_of_one_class(n_classes, tmp_path):
    table, labels = with_gaps(n_classes=n_classes)
    head = xgboost.XGBClassifier(n_estimators=3, num_parallel_tree=4, subsample=0.7, max_depth=3)
    assert_same(DecisionFusionClassifier(head, cv=2).fit(table, labels), tmp_path, table)


def test_several_trees_a_round_that_stopped_early_are_refused():
    table, codes = X.fillna(0).to_numpy(), np.unique(Y, return_inverse=True)[1]
    head = xgboost.XGBClassifier(n_estimators=30, num_parallel_tree=2, early_stopping_rounds=1, learning_rate=1.0)
    head.fit(table, codes, eval_set=[(table, codes[::-1])], verbose=False)
    graph = Graph("test")
    with pytest.raises(ValueError, match="counts the trees of a round as one where fit stopped early"):
        graph.embed(head, graph.input("x", table.shape[1]), table.shape[1], zipmap=False)


def test_a_whole_pipeline_gives_its_fusion(tmp_path):
    modalities = [("left", FunctionEncoder(np.square), ["a"]), ("right", FunctionEncoder(np.sqrt), ["b"])]
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=80), "b": rng.uniform(size=80)})
    y = (table["a"] ** 2 + table["b"] > 1).map({True: "yes", False: "no"})
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(LogisticRegression(), cv=3)).fit(table, y)
    encoded = model[:-1].transform(table)
    path = export_onnx(model, tmp_path / "model.onnx", example=encoded)
    got = onnxruntime.InferenceSession(path).run(
        ["label"], {name: encoded.iloc[:, c].to_numpy(np.float32) for name, c in model[-1].blocks_.items()}
    )
    assert (got[0] == model.predict(table)).all()


def test_a_conformal_wrapper_gives_what_it_wraps(tmp_path):
    model = ConformalFusionClassifier(DecisionFusionClassifier(LogisticRegression(), cv=3)).fit(X, Y)
    path = export_onnx(model, tmp_path / "model.onnx", example=X)
    got = run(path, X, model.fusion_)
    np.testing.assert_allclose(got["probabilities"], model.predict_proba(X), atol=1e-6)


def test_labels_keep_their_kind(tmp_path):
    codes = np.unique(Y, return_inverse=True)[1]
    for labels, kind in ((codes * 10, np.int64), (codes > 0, np.int64), (codes * 10.0, np.float64), (Y, object)):
        model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, labels)
        said = run(export_onnx(model, tmp_path / "model.onnx"), X, model)["label"]
        assert said.dtype == kind and (said == model.predict(X)).all()


def test_labels_beyond_64_bits_are_an_error(tmp_path):
    labels = np.array([1, 2**63 + 5], dtype=np.uint64)[np.arange(len(X)) % 2]
    model = FeatureFusionClassifier(LogisticRegression()).fit(X, labels)
    with pytest.raises(ValueError, match="integers of 64 bits"):
        export_onnx(model, tmp_path / "model.onnx")


def test_rows_that_the_library_refuses_are_nan(tmp_path):
    model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, Y)
    path = export_onnx(model, tmp_path / "model.onnx")
    bad = X.iloc[:3].copy()
    bad.iloc[0, 0], bad.iloc[1, 8] = np.nan, np.inf
    bad.iloc[0, 1:], bad.iloc[1:, :] = X.iloc[-1, 1:], bad.iloc[1:, :].fillna(0.0)
    got = run(path, bad, model)
    assert np.isnan(got["probabilities"]).all(axis=1).tolist() == [True, True, False]
    assert got["label"].tolist()[:2] == ["", ""] and got["label"][2] in model.classes_


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "head",
    [
        make_pipeline(sklearn.impute.SimpleImputer(), LogisticRegression()),
        make_pipeline(
            sklearn.impute.SimpleImputer(strategy="constant", keep_empty_features=True), LogisticRegression()
        ),
        make_pipeline(PowerTransformer(), sklearn.impute.SimpleImputer(), LogisticRegression()),
        sklearn.tree.DecisionTreeClassifier(max_depth=4),
        RandomForestClassifier(5, random_state=0),
        sklearn.ensemble.ExtraTreesClassifier(5, random_state=0),
    ],
    ids=str,
)
def test_nan_beside_numbers_is_taken_where_the_estimator_takes_it(head, tmp_path):
    holes = X.mask(np.random.default_rng(0).random(X.shape) < 0.1)
    model = DecisionFusionClassifier(head, cv=3, joint=False).fit(holes, Y)
    got = run(export_onnx(model, tmp_path / "model.onnx", example=holes), holes, model)
    np.testing.assert_allclose(got["probabilities"], model.predict_proba(holes), atol=1e-6)


def test_nan_that_no_converter_sends_right_gives_no_answer(tmp_path):
    """Of trees inside other estimators skl2onnx forgets where NaN goes."""
    holes = X.copy()
    holes.iloc[:10, 0] = np.nan
    model = DecisionFusionClassifier(sklearn.ensemble.BaggingClassifier(n_estimators=3, random_state=0), cv=3)
    model.set_params(joint=False).fit(holes, Y)
    got = run(export_onnx(model, tmp_path / "model.onnx", example=X), holes, model)
    lost = holes.filter(like="image__").pipe(lambda part: part.isna().any(axis=1) & part.notna().any(axis=1))
    assert lost.any() and np.array_equal(np.isnan(got["probabilities"]).all(axis=1), lost)
    assert np.array_equal(got["label"] == "", lost)
    indicator = make_pipeline(sklearn.impute.SimpleImputer(add_indicator=True), LogisticRegression())
    with pytest.raises(ValueError, match=r"SimpleImputer \(it must fill NaN and add no indicator"):
        export_onnx(DecisionFusionClassifier(indicator, cv=3).fit(holes, Y), tmp_path / "model.onnx")


def test_names_of_blocks_are_not_names_of_the_graph(tmp_path):
    table = X.rename(columns=lambda name: name.replace("image", "_1").replace("text", "ensemblefuse"))
    assert_same(FeatureFusionClassifier(LogisticRegression()).fit(table, Y), tmp_path, table)


def test_missing_raise_refuses_gaps(tmp_path):
    whole, labels = make_blocks(n=60)
    model = FeatureFusionClassifier(LogisticRegression(), missing="raise").fit(whole, labels)
    path = export_onnx(model, tmp_path / "model.onnx", example=whole)
    assert np.isfinite(run(path, whole, model)["probabilities"]).all()
    gap = whole.copy()
    gap.iloc[0, :6] = np.nan
    assert np.isnan(run(path, gap, model)["probabilities"]).all(axis=1).sum() == 1


def test_the_file_says_what_it_is(tmp_path):
    model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, Y)
    notes = {p.key: p.value for p in onnx.load(export_onnx(model, tmp_path / "m.onnx", example=X)).metadata_props}
    assert json.loads(notes["classes"]) == model.classes_.tolist()
    assert json.loads(notes["blocks"])["text"] == [f"text__{i}" for i in range(4)]
    assert notes["ensemblefuse"] == ensemblefuse.__version__ and float(notes["largest_difference"]) < 1e-6
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)


def test_a_graph_that_differs_is_not_written(tmp_path):
    model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, Y)
    old = export_onnx(model, tmp_path / "m.onnx").read_bytes()
    with pytest.raises(PersistenceError, match=r"with image, text, audio the graph differs .* Nothing was written"):
        export_onnx(model, tmp_path / "m.onnx", example=X, tolerance=1e-12)
    assert (tmp_path / "m.onnx").read_bytes() == old and len(list(tmp_path.glob("*onnx*"))) == 1


def test_errors_name_the_block_the_head_and_what_to_take(tmp_path):
    heads = {"text": sklearn.ensemble.HistGradientBoostingClassifier(max_iter=2)}
    model = DecisionFusionClassifier(
        {**dict.fromkeys(["image", "audio", "joint"], LogisticRegression()), **heads}, cv=3
    )
    with pytest.raises(ValueError, match=r"'text': HistGradientBoostingClassifier .* XGBClassifier"):
        export_onnx(model.fit(X, Y), tmp_path / "m.onnx")
    svc = FeatureFusionClassifier(SVC()).fit(X, Y)
    with pytest.raises(ValueError, match=r"'all blocks': SVC \(it has no probabilities; DecisionFusionClassifier"):
        export_onnx(svc, tmp_path / "m.onnx")
    named = DecisionFusionClassifier(LogisticRegression(), cv=3, blocks={"label": [0, 1], "b": [2]})
    named.fit(X.iloc[:, :3].fillna(0).to_numpy(), Y)
    with pytest.raises(ValueError, match=r"outputs have the names \['label'\]"):
        export_onnx(named, tmp_path / "m.onnx")
    with pytest.raises(TypeError, match="fusion estimator"):
        export_onnx(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="tolerance must be a number above 0; got -1"):
        export_onnx(svc.set_params(estimator=None).fit(X, Y), tmp_path / "m.onnx", example=X, tolerance=-1)
    raw = pd.DataFrame({"photo": ["a.png"], "title": ["a cat"]})
    with pytest.raises(ValueError, match=r"example must be rows as the fusion takes them, .*model\[:-1\].transform"):
        export_onnx(svc, tmp_path / "m.onnx", example=raw)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        export_onnx(svc, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no folder '.*nodir' to write 'm.onnx' to; make it first"):
        export_onnx(svc, tmp_path / "nodir" / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_fusions_without_a_form_are_named_with_another(tmp_path):
    for name, works, note in (
        onnx_support().query("kind == 'fusion'")[["name", "works", "note"]].itertuples(index=False)
    ):
        fusion = getattr(ensemblefuse, name)
        if not works:
            target = TARGET[:, None] if name.endswith("MultiTask") else TARGET
            model = fusion().fit(X, Y if name.endswith("Classifier") else target)
            with pytest.raises(ValueError, match=f"got {name}. {note[0].upper()}"):
                export_onnx(model, tmp_path / "m.onnx")


def test_without_a_warning_on_the_way(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_onnx(DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, Y), tmp_path / "m.onnx", example=X)
