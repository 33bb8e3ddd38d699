"""Saved models: the same predictions after loading, and nothing built that was not checked."""

import copy
import functools
import importlib.metadata
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import skops.io
import xgboost
from conftest import every_pair, make_blocks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC
from xgboost import XGBClassifier, XGBRegressor

import ensemblefuse
from ensemblefuse import (
    BaseEncoder,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    FunctionEncoder,
    LogPool,
    MeanPool,
    PersistenceError,
    PresentRows,
    StackingPool,
    TextEncoder,
    VotePool,
    inspect_model,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.persistence import archive as _archive
from ensemblefuse.persistence import bounds
from ensemblefuse.persistence.known_types import known_types


class LengthEncoder(BaseEncoder):
    """An encoder of the user's own."""

    def encode_batch(self, items):
        return np.array([[len(text), text.count("a"), text.count("c")] for text in items])


def length(text):
    return [len(text), text.count("a")]


OWN = f"{__name__}.LengthEncoder"


def blocks_with_gaps(n=90):
    X, y = make_blocks(n)
    X.loc[3:6, [c for c in X if c.startswith("text")]] = np.nan
    return X, y


def raw_table(n=60):
    rng = np.random.default_rng(0)
    y = np.array(["cat", "dog", "owl"])[np.arange(n) % 3]
    codes = np.arange(n) % 3
    X = pd.DataFrame(
        {
            "title": [f"a {label} number {i % 7}" for i, label in enumerate(y)],
            "price": codes + rng.normal(size=n),
            "weight": rng.normal(size=n),
            "colour": pd.Categorical(rng.choice(["red", "green"], n)),
            "size": rng.choice(["S", "L"], n),
        }
    )
    X.loc[2, "title"] = None
    X.loc[5, "weight"] = np.nan
    return X, y


def change(path, edit):
    """Write a file anew, sealed, after `edit` changed its manifest or members: what a crafting hand would do."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    edit(manifest, members)
    _archive.write_archive(path, manifest, members)


def assert_same_after_loading(model, X, path, trusted=()):
    loaded = load_model(save_model(model, path), trusted=trusted)
    assert type(loaded) is type(model)
    assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.predict(X).dtype == model.predict(X).dtype
    if hasattr(model, "predict_proba"):
        assert_allclose(loaded.predict_proba(X), model.predict_proba(X), rtol=0, atol=1e-12)
    elif not is_classifier(model):
        assert_allclose(loaded.predict(X), model.predict(X), rtol=0, atol=1e-12)
    return loaded


LR = LogisticRegression()
FOREST, BOOSTED = RandomForestClassifier(4, random_state=0), XGBClassifier(n_estimators=3, n_jobs=1)
CLASSIFIERS = {
    "feature": FeatureFusionClassifier(),
    "feature mfa, weights": FeatureFusionClassifier(scaling="mfa", weights={"image": 2.0}),
    "feature, native": FeatureFusionClassifier(BOOSTED, missing="native"),
    "feature, one-vs-rest": FeatureFusionClassifier(OneVsRestClassifier(SVC())),
    "decision": DecisionFusionClassifier(),
    "decision, blocks": DecisionFusionClassifier(
        LR, blocks={"left": slice(0, 6), "middle": list(range(6, 10)), "right": ["audio__0", "audio__1", "audio__2"]}
    ),
    "decision, splitter": DecisionFusionClassifier(LR, cv=StratifiedKFold(3)),
    "one-vs-rest": DecisionFusionClassifier(OneVsRestClassifier(SVC()), cv=3),
    "forest": DecisionFusionClassifier(FOREST, cv=3),
    "boosted": DecisionFusionClassifier(BOOSTED, cv=3),
    "histogram": DecisionFusionClassifier(HistGradientBoostingClassifier(max_iter=3), cv=3),
    "neighbours": DecisionFusionClassifier(KNeighborsClassifier(), cv=3),
    "calibrated": DecisionFusionClassifier(CalibratedClassifierCV(SVC(), cv=2), cv=3),
    "a dict": DecisionFusionClassifier({"image": OneVsRestClassifier(SVC()), "text": FOREST, "joint": BOOSTED}, cv=3),
    "search": GridSearchCV(
        FeatureFusionClassifier(LR), {"scaling": ["equal", "mfa"]}, cv=2, scoring="neg_log_loss", n_jobs=1
    ),
    **{
        str(pool): DecisionFusionClassifier(LR, combiner=pool, cv=3)
        for pool in [
            LogPool("learned"),
            LogPool([1.0, 2.0, 3.0, 1.0]),
            LogPool(class_prior={"class 0": 0.2, "class 1": 0.3, "class 2": 0.5}),
            MeanPool(),
            MeanPool("learned"),
            VotePool(),
            VotePool("borda"),
            StackingPool(),
        ]
    },
    "stacked trees": DecisionFusionClassifier(LR, combiner=StackingPool(BOOSTED), cv=3),
}


@pytest.mark.by_turns
@pytest.mark.filterwarnings("ignore:.*saw no row in fit without")  # a fold of the search
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_predicts_the_same_after_loading(name, tmp_path):
    X, y = blocks_with_gaps()
    model = CLASSIFIERS[name].fit(X, y)
    assert_same_after_loading(model, X, tmp_path / "model.fuse")


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "model",
    [
        FeatureFusionRegressor(),
        FeatureFusionRegressor(RandomForestRegressor(3)),
        DecisionFusionRegressor(),
        DecisionFusionRegressor(XGBRegressor(n_estimators=3), cv=3),
        DecisionFusionRegressor(combiner=MeanPool("learned")),
        DecisionFusionRegressor(combiner=StackingPool()),
    ],
    ids=range(6),
)
def test_a_regressor_predicts_the_same_after_loading(model, tmp_path):
    X, y = blocks_with_gaps()
    model.fit(X, X["image__0"] + (y == "class 1"))
    assert_same_after_loading(model, X, tmp_path / "model.fuse")


LABELS = {
    "str": np.array(["cat", "dog", "owl"]),
    "object": np.array(["cat", "dog", "owl"], dtype=object),
    "int": np.array([3, 7, 11]),
    "negative": np.array([-1, 0, 1], dtype=np.int8),
    "bool": np.array([True, False, True]),
}


@pytest.mark.by_turns
@pytest.mark.parametrize(
    ("estimator", "kind"),
    every_pair([LR, BOOSTED], LABELS),
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_labels_keep_their_type(kind, estimator, tmp_path):
    X, _ = blocks_with_gaps()
    y = LABELS[kind][np.arange(len(X)) % 3]
    model = DecisionFusionClassifier(estimator, cv=3).fit(X, y)
    loaded = assert_same_after_loading(model, X, tmp_path / "model.fuse")
    assert loaded.classes_.dtype == model.classes_.dtype
    assert inspect_model(tmp_path / "model.fuse")["classes"] == model.classes_.tolist()


def fitted_pipeline():
    """A copy, which a test may spoil."""
    return copy.deepcopy(fitted_once())


@functools.cache
def fitted_once():
    X, y = raw_table()
    modalities = [
        ("text", make_pipeline(LengthEncoder(), PCA(2)), "title"),
        ("words", "passthrough", ["title"]),
        ("tabular", make_pipeline(SimpleImputer(), StandardScaler()), ["price", "weight"]),
        ("colour", OneHotEncoder(sparse_output=False), ["colour"]),
        ("size", PresentRows(OrdinalEncoder()), ["size"]),
    ]
    heads = {"words": make_pipeline(TfidfVectorizer(), LogisticRegression()), "tabular": BOOSTED}
    return make_fusion_pipeline(modalities, DecisionFusionClassifier(heads, cv=3)).fit(X, y), X


def test_a_pipeline_over_a_raw_table_predicts_the_same_after_loading(tmp_path):
    model, X = fitted_pipeline()
    loaded = assert_same_after_loading(model, X, tmp_path / "model.fuse", trusted=[OWN])
    pd.testing.assert_frame_equal(
        loaded[0].transform(X).drop(columns="words__title"), model[0].transform(X).drop(columns="words__title")
    )
    with pytest.warns(ensemblefuse.MissingModalityWarning, match="colour"):
        some = loaded.predict_proba(X[["title", "price", "weight", "size"]])
    assert np.isfinite(some).all()


def test_the_manifest_names_modalities_input_classes_and_versions(tmp_path):
    model, X = fitted_pipeline()
    path = save_model(model, tmp_path / "model.fuse", metadata={"author": "me", "runs": [1, 2]}, example=X.head(3))
    manifest = inspect_model(path)
    assert manifest["format"] == 3
    assert manifest["model"] == "ensemblefuse.FusionPipeline"
    assert manifest["classes"] == ["cat", "dog", "owl"]
    assert manifest["metadata"] == {"author": "me", "runs": [1, 2]}
    assert [modality["name"] for modality in manifest["modalities"]] == ["text", "words", "tabular", "colour", "size"]
    assert manifest["modalities"][2]["columns"] == ["price", "weight"]
    assert manifest["modalities"][0]["encoder"][0]["repr"] == "LengthEncoder()"
    assert manifest["modalities"][0]["encoder"][0]["recipe"] == model[0].transformers_[0][1][0].recipe()
    assert manifest["input"]["title"] == {"type": "object", "modalities": ["text", "words"], "dtype": "str"} | {
        "dtype": str(X["title"].dtype)
    }
    ends = {"range": [X["price"].min(), X["price"].max()], "median": X["price"].median()}
    assert manifest["input"]["price"] == {"type": "number", "modalities": ["tabular"], "dtype": "float64", **ends}
    assert manifest["input"]["colour"] == {"type": "category", "modalities": ["colour"], "dtype": "category"}
    assert list(manifest["input"]) == ["title", "price", "weight", "colour", "size"]
    assert {"ensemblefuse", "python", "numpy", "scikit-learn", "xgboost"} <= set(manifest["versions"])
    kept = manifest["example"]
    assert kept["predictions"]["predict"] == model.predict(X.head(3)).tolist()
    assert_allclose(kept["predictions"]["predict_proba"], model.predict_proba(X.head(3)), atol=1e-12)
    assert kept["n_rows"] == 3 and kept["not_kept"] == {}
    complete = manifest["metrics"]["out_of_fold"][" + ".join(model[1].member_names_[:5])]
    assert complete["accuracy"] == model[1].expected_scores_["accuracy"].iloc[0]
    assert OWN in manifest["types"]
    assert "xgboost.core.Booster" in manifest["types"]


def test_xgboost_is_named_only_where_it_is_used(tmp_path):
    X, y = blocks_with_gaps()
    path = save_model(FeatureFusionClassifier().fit(X, y), tmp_path / "model.fuse")
    assert "xgboost" not in inspect_model(path)["versions"]


def test_the_manifest_holds_no_cell_of_the_example(tmp_path):
    model, X = fitted_pipeline()
    path = save_model(model, tmp_path / "model.fuse", example=X.head(3))
    with zipfile.ZipFile(path) as archive:
        assert b"number 1" not in archive.read("manifest.json")


def test_inspecting_imports_and_builds_nothing(tmp_path):
    model, _ = fitted_pipeline()
    path = save_model(model, tmp_path / "model.fuse")
    code = f"import sys; from ensemblefuse import inspect_model; inspect_model({str(path)!r}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"skops", "torch", "xgboost", "test_persistence"} & set(loaded)


# ---------------------------------------------------------------------- what is not saved


def saved(fusion_or_encoder, tmp_path):
    X, y = raw_table()
    model = make_fusion_pipeline([("text", fusion_or_encoder, "title"), ("tabular", "passthrough", ["price"])])
    return save_model(model.fit(X, y), tmp_path / "model.fuse")


@pytest.mark.slow
def test_a_model_without_a_network_predicts_without_torch_and_nothing_is_kept_from_it(tmp_path):
    X, y = make_blocks()
    path = save_model(
        FeatureFusionClassifier(LogisticRegression()).fit(X, y), tmp_path / "model.fuse", example=X.head(3)
    )
    X.head(3).to_json(tmp_path / "X.json")
    code = f"""if True:
        import sys, pandas
        from ensemblefuse import load_model
        load_model({str(path)!r}).predict(pandas.read_json({str(tmp_path / "X.json")!r}))
        print("torch" in sys.modules, "xgboost" in sys.modules)
        import sklearn.externals.array_api_compat.torch
        print("torch" in sys.modules)
    """
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert told == ["False", "False", "True"]


def test_a_lambda_is_refused_and_the_message_says_where_it_stands_and_what_to_do(tmp_path):
    with pytest.raises(PersistenceError, match=r"func is .*<lambda>.*encoder class"):
        saved(FunctionEncoder(lambda text: [len(text)]), tmp_path)
    assert os.listdir(tmp_path) == [] or "model.fuse" not in os.listdir(tmp_path)


def test_a_function_within_a_function_is_refused_even_if_the_module_has_one_of_that_name(tmp_path):
    def length(text):
        return [0.0]

    with pytest.raises(PersistenceError, match="cannot be found under that name"):
        saved(FunctionEncoder(length), tmp_path)


def test_a_class_within_a_function_is_refused(tmp_path):
    class Inner(LengthEncoder):
        pass

    with pytest.raises(PersistenceError, match="class that cannot be found"):
        saved(Inner(), tmp_path)


def test_a_function_at_the_top_of_a_module_is_stored_by_name_and_must_be_trusted(tmp_path):
    path = saved(FunctionEncoder(length), tmp_path)
    with pytest.raises(PersistenceError, match=r"trusted=\['test_persistence\.length'\]"):
        load_model(path)
    assert load_model(path, trusted=[length])[0].transformers_[0][1].func is length


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "prior", [{True: 0.3, False: 0.7}, pd.Series([0.3, 0.7])], ids=["dict with bool keys", "pandas Series"]
)
def test_state_that_skops_would_change_is_refused(prior, tmp_path):
    X, y = blocks_with_gaps()
    model = DecisionFusionClassifier(combiner=LogPool(class_prior=prior), cv=3).fit(X, y == "class 1")
    with pytest.raises(PersistenceError, match=r"model\..*class_prior.*stored exactly"):
        save_model(model, tmp_path / "model.fuse")


def test_metadata_that_is_no_json_is_named_by_its_key(tmp_path):
    for bad in (object(), float("nan"), {1, 2}):
        with pytest.raises(ValueError, match=r"metadata\['when'\]"):
            save_model(LogisticRegression(), tmp_path / "model.fuse", metadata={"fine": 1, "when": bad})
    with pytest.raises(ValueError, match="keys must be str"):
        save_model(LogisticRegression(), tmp_path / "model.fuse", metadata={1: 2})
    with pytest.raises(ValueError, match="metadata must be a dict"):
        save_model(LogisticRegression(), tmp_path / "model.fuse", metadata=["a"])


def test_a_save_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    X, y = blocks_with_gaps()
    path = save_model(FeatureFusionClassifier().fit(X, y), tmp_path / "model.fuse")
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_model(FeatureFusionClassifier(scaling=None).fit(X, y), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["model.fuse"]


def test_saving_replaces_an_older_file_and_a_folder_is_an_error(tmp_path):
    X, y = blocks_with_gaps()
    save_model(FeatureFusionClassifier().fit(X, y), tmp_path / "model.fuse")
    save_model(FeatureFusionClassifier(scaling="mfa").fit(X, y), tmp_path / "model.fuse")
    assert load_model(tmp_path / "model.fuse").scaling == "mfa"
    with pytest.raises(IsADirectoryError, match="is a folder"):
        save_model(LogisticRegression(), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no folder '.*nodir' to write 'm.fuse' to; make it first"):
        save_model(LogisticRegression(), tmp_path / "nodir" / "m.fuse")


# ---------------------------------------------------------------------- what is not loaded


def write_zip(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return path


class Evil(BaseEstimator):
    """Says when it is built."""

    built = []

    def __setstate__(self, state):
        self.built.append(1)


def test_the_users_own_encoder_is_built_only_if_named(tmp_path):
    path = saved(LengthEncoder(), tmp_path)
    with pytest.raises(PersistenceError, match=r"trusted=\['test_persistence\.LengthEncoder'\]"):
        load_model(path)
    for trusted in ([OWN], [LengthEncoder], OWN, LengthEncoder, (name for name in [OWN])):
        assert load_model(path, trusted=trusted)
    for wrong in (True, None, [3]):
        with pytest.raises(ValueError, match="trusted must be a list"):
            load_model(path, trusted=wrong)


def test_nothing_is_built_from_a_file_with_an_untrusted_type(tmp_path):
    evil = Evil()
    evil.a = 1
    path = write_zip(tmp_path / "evil.fuse", manifest_json='{"format": 1}', model_skops=skops.io.dumps(evil))
    with pytest.raises(PersistenceError, match=r"Evil"):
        load_model(path)
    inspect_model(path)
    assert Evil.built == []
    load_model(path, trusted=[Evil])
    assert Evil.built == [1]


def test_a_function_of_the_system_is_never_built_unasked(tmp_path):
    schema = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "protocol": 2}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    path = write_zip(tmp_path / "evil.fuse", manifest_json='{"format": 1}', model_skops=buffer.getvalue())
    with pytest.raises(PersistenceError, match=r"os\.system"):
        load_model(path)


@pytest.mark.parametrize("load", [load_model, inspect_model])
@pytest.mark.parametrize("compress", [0, "zlib", "gzip", "bz2", "xz"])
def test_joblib_files_are_recognised_and_not_read(load, compress, tmp_path):
    method = (compress, 3) if compress else 0
    joblib.dump(LogisticRegression(), tmp_path / "model.bin", compress=method)
    with pytest.raises(PersistenceError, match=r"joblib\.load only for files from people you trust"):
        load(tmp_path / "model.bin")


@pytest.mark.parametrize("load", [load_model, inspect_model])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"a": 1}), "pickle or joblib"),
        (b"", "it is empty"),
        (b"hello world", "not a zip"),
        (b"PK\x03\x04 and nothing", "damaged or incomplete"),
    ],
)
def test_other_files_are_named_for_what_they_are(load, content, message, tmp_path):
    (tmp_path / "model.fuse").write_bytes(content)
    with pytest.raises(PersistenceError, match=message):
        load(tmp_path / "model.fuse")


def test_other_zips_are_named_for_what_they_are(tmp_path):
    skops.io.dump(LogisticRegression(), tmp_path / "bare.skops")
    with pytest.raises(PersistenceError, match="bare skops file"):
        load_model(tmp_path / "bare.skops")
    with pytest.raises(PersistenceError, match=r"a zip that holds \['a\.txt'\]"):
        load_model(write_zip(tmp_path / "a.zip", a_txt="a"))
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "nothing.fuse")


@pytest.mark.parametrize("load", [load_model, inspect_model])
@pytest.mark.parametrize("number", [4, 0, "1", True, None, 1.0])
def test_an_unknown_format_is_refused(load, number, tmp_path):
    manifest = json.dumps({"format": number, "versions": {"ensemblefuse": "9.0"}})
    path = write_zip(tmp_path / "model.fuse", manifest_json=manifest, model_skops=skops.io.dumps(1))
    with pytest.raises(PersistenceError, match=r"written by ensemblefuse 9\.0"):
        load(path)


@pytest.mark.by_turns
@pytest.mark.parametrize("load", [load_model, inspect_model])
def test_a_damaged_file_is_an_error_at_any_place_of_the_damage(load, tmp_path):
    X, y = blocks_with_gaps()
    whole = save_model(FeatureFusionClassifier().fit(X, y), tmp_path / "model.fuse").read_bytes()
    broken = tmp_path / "broken.fuse"
    for share in (0.05, 0.3, 0.6, 0.95):
        at = int(len(whole) * share)
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]):
            broken.write_bytes(content)
            with pytest.raises(PersistenceError, match=r"broken\.fuse"):
                load(broken)


def test_a_manifest_or_model_of_another_kind_is_an_error(tmp_path):
    for manifest in ("[]", "{", "3", '"a"', "[" * 100_000):
        path = write_zip(tmp_path / "model.fuse", manifest_json=manifest, model_skops=skops.io.dumps(1))
        with pytest.raises(PersistenceError):
            inspect_model(path)
    for content in (b"", b"not a zip", pickle.dumps(1)):
        path = write_zip(tmp_path / "model.fuse", manifest_json='{"format": 1}', model_skops=content)
        for load in (load_model, inspect_model):
            with pytest.raises(PersistenceError, match=r"model\.skops"):
                load(path)


def test_another_minor_version_of_scikit_learn_is_warned_of_once_and_by_name(tmp_path, recwarn):
    X, y = blocks_with_gaps()
    path = save_model(FeatureFusionClassifier().fit(X, y), tmp_path / "model.fuse")
    assert not recwarn.list
    load_model(path)
    assert not recwarn.list
    change(path, lambda manifest, members: manifest["versions"].update({"scikit-learn": "1.2.3"}))
    with pytest.warns(UserWarning, match=r"scikit-learn 1\.2\.3 \(here ") as caught:
        load_model(path)
    assert len(caught) == 1


def test_all_public_estimators_are_known():
    public = [getattr(ensemblefuse, name) for name in ensemblefuse.__all__]
    estimators = [value for value in public if isinstance(value, type) and issubclass(value, BaseEstimator)]
    assert len(estimators) > 12
    assert {f"ensemblefuse.{cls.__name__}" for cls in estimators} <= known_types()
    assert not {"builtins.eval", "os.system", "builtins.getattr"} & known_types()


# ---------------------------------------------------------------------- pickle and joblib


def test_joblib_gives_the_same_predictions(tmp_path):
    model, X = fitted_pipeline()
    joblib.dump(model, tmp_path / "model.joblib")
    assert_allclose(joblib.load(tmp_path / "model.joblib").predict_proba(X), model.predict_proba(X), atol=1e-12)


@pytest.mark.slow
def test_a_model_with_a_text_network_is_small_in_either_format(tmp_path):
    X, y = raw_table(24)
    model = make_fusion_pipeline([("text", make_pipeline(TextEncoder(), PCA(2)), "title")], FeatureFusionClassifier())
    model.fit(X, y)
    pca, head = model[0].transformers_[0][1][1].transformer_, model[1]
    learned = pca.components_.nbytes * 2 + len(pickle.dumps(head.estimator_))  # components and mean, with room
    assert len(pickle.dumps(model)) - learned < 10_000
    assert_allclose(pickle.loads(pickle.dumps(model)).predict_proba(X), model.predict_proba(X), atol=1e-12)
    path = save_model(model, tmp_path / "model.fuse")
    assert path.stat().st_size < 50_000
    assert_allclose(load_model(path).predict_proba(X), model.predict_proba(X), atol=1e-12)
    weights = inspect_model(path)["modalities"][0]["encoder"][0]["weights"]
    assert weights == {"all-MiniLM-L6-v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}


# ---------------------------------------------------------------------- sizes, versions


@pytest.mark.parametrize("load", [load_model, inspect_model])
@pytest.mark.parametrize("member", ["manifest.json", "model.skops", "schema.json"])
def test_a_member_that_unpacks_to_an_absurd_size_is_refused_unread(load, member, tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "LARGE", 1_000_000)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * 9_000_000 if member == "schema.json" else b"{}")
    with zipfile.ZipFile(tmp_path / "bomb.fuse", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b'{"format": 1}' + b" " * (9_000_000 if member == "manifest.json" else 0))
        archive.writestr("model.skops", bytes(9_000_000) if member == "model.skops" else inner.getvalue())
    with pytest.raises(PersistenceError, match=rf"{member}.*unpack to [89],[0-9,]+ bytes"):
        load(tmp_path / "bomb.fuse")


def test_a_large_model_of_zeros_is_no_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "LARGE", 1_000_000)
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    model.coef_ = np.zeros((1, 1_000_000))
    assert load_model(save_model(model, tmp_path / "model.fuse")).coef_.shape == (1, 1_000_000)


def test_versions_are_those_of_modules_whatever_their_distributions_are_called(tmp_path, monkeypatch, recwarn):
    def version(name):
        if name == "xgboost":  # as where xgboost-cpu is installed
            raise importlib.metadata.PackageNotFoundError(name)
        return importlib.metadata.Distribution.from_name(name).version

    monkeypatch.setattr(importlib.metadata, "version", version)
    for name, module in list(sys.modules.items()):
        if name.startswith("ensemblefuse.") and hasattr(module, "version"):
            monkeypatch.setattr(module, "version", version)
    X, y = blocks_with_gaps()
    path = save_model(FeatureFusionClassifier(BOOSTED).fit(X, y), tmp_path / "model.fuse")
    assert inspect_model(path)["versions"]["xgboost"] == xgboost.__version__
    load_model(path)
    assert not recwarn.list


def test_types_of_older_releases_of_scikit_learn_are_known():
    older = {"sklearn.compose._column_transformer._RemainderColsList", "sklearn._loss.link.LogitLink"}
    assert older <= known_types()


def test_requests_of_metadata_are_kept(tmp_path):
    X, y = make_blocks(60)
    groups = np.arange(60) // 2
    with sklearn.config_context(enable_metadata_routing=True):
        head = make_pipeline(StandardScaler(), LogisticRegression().set_fit_request(sample_weight=True))
        fusion = DecisionFusionClassifier(head, cv=3).set_fit_request(groups=True, sample_weight="importance")
        model = make_pipeline(fusion).fit(X, y, groups=groups, importance=np.ones(60))
        requests = model[-1].get_metadata_routing().fit.requests
        path = save_model(model, tmp_path / "model.fuse", example=X.head(3))
        assert model[-1].get_metadata_routing().fit.requests == requests  # as before
        loaded = load_model(path)
        assert loaded[-1].get_metadata_routing().fit.requests == requests
        assert loaded[-1].estimators[-1].get_metadata_routing().fit.requests == {"sample_weight": True}
        assert_allclose(loaded.predict_proba(X), model.predict_proba(X))
        loaded.fit(X, y, groups=groups)  # the request still takes them to the fusion
    assert_allclose(load_model(path).predict_proba(X), model.predict_proba(X))
