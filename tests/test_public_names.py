"""Files name what is public, so that classes may move: model files and caches of every format are read after a move."""

import base64
import importlib
import json
import re
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler

import ensemblefuse
from ensemblefuse import (
    AudioEncoder,
    BaseEncoder,
    EncodingError,
    FeatureFusionClassifier,
    GraphEncoder,
    ImageEncoder,
    TextEncoder,
    TimeSeriesEncoder,
    VideoEncoder,
    VideoSoundEncoder,
    WordVectorEncoder,
    config_context,
    get_cache,
    inspect_model,
    load_model,
    save_model,
)
from ensemblefuse._public_names import PUBLIC, current_path, former_paths, public_path

DATA = Path(__file__).parent / "data"
STORED = ["combine", "compose", "deployment", "encoders", "features", "fusion", "networks"]


def public_estimators():
    for name in ensemblefuse.__all__:
        value = getattr(ensemblefuse, name)
        if PUBLIC[name] in STORED and isinstance(value, type) and issubclass(value, BaseEstimator):
            yield name, value


def test_the_table_lists_what_the_rooms_call_public():
    for room in STORED:
        exported = importlib.import_module(f"ensemblefuse.{room}").__all__
        of_room = {name for name, home in PUBLIC.items() if home == room}
        assert of_room <= set(exported)
        classes = {n for n in exported if isinstance(getattr(importlib.import_module(f"ensemblefuse.{room}"), n), type)}
        assert classes <= of_room, f"{room} exports classes that no file could name by a public path"


def test_every_public_estimator_has_its_public_path_and_the_former_one_leads_to_it():
    found = dict(public_estimators())
    assert len(found) >= 40
    for name, cls in found.items():
        assert public_path(cls) == f"ensemblefuse.{name}"
        with former_paths():
            former = public_path(cls)
        assert current_path(former) == f"ensemblefuse.{name}"
    assert current_path("ensemblefuse.encoders._image.ImageEncoder") == "ensemblefuse.ImageEncoder"
    assert current_path("sklearn.svm._classes.SVC") == "sklearn.svm._classes.SVC"


def test_the_page_of_public_names_lists_what_can_be_imported():
    page = (Path(ensemblefuse.__file__).parents[1] / "docs" / "public-names.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", page, flags=re.MULTILINE)
    assert {"table", "column_kinds", "testing"} <= {module for module, _ in rows}
    for module, names in rows:
        for name in re.findall(r"`(\w+)`", names):
            assert hasattr(importlib.import_module(f"ensemblefuse.{module}"), name), (module, name)


def golden_encoders():
    cells = json.loads((DATA / "cells.json").read_text())
    photos, clips = ([base64.b64decode(cell) for cell in cells[name]] for name in ("photo", "clip"))
    series = [np.array(cell) for cell in cells["series"]]
    videos = [np.array(cell, dtype=np.uint8) for cell in cells["video"]]
    return [
        (ImageEncoder(), photos),
        (ImageEncoder(features="color"), photos),
        (TextEncoder(), cells["title"]),
        (WordVectorEncoder(), cells["title"]),
        (AudioEncoder(), clips),
        (AudioEncoder(features="librosa"), clips),
        (TimeSeriesEncoder(), series),
        (TimeSeriesEncoder(features="rocket", n_kernels=50), series),
        (GraphEncoder(), cells["graph"]),
        (GraphEncoder(n_superpixels=12), photos),
        (VideoEncoder(), videos),
        (VideoSoundEncoder(AudioEncoder(features="librosa")), clips),
    ]


@pytest.fixture
def golden_cache(tmp_path):
    """A cache that version 0.1.0 wrote, whose recipes name private modules."""
    shutil.copytree(DATA / "cache", tmp_path / "golden")
    with config_context(cache=tmp_path / "golden"):
        yield get_cache()


@pytest.fixture
def moved(monkeypatch):
    """Moves a class to a module that did not exist when the files were written; its public name stays."""

    def move(cls):
        module = types.ModuleType(f"ensemblefuse.{PUBLIC[cls.__name__]}._elsewhere")
        setattr(module, cls.__name__, cls)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.delattr(sys.modules[cls.__module__], cls.__name__)
        monkeypatch.setattr(cls, "__module__", module.__name__)

    return move


@pytest.mark.parametrize("number", range(12))
def test_a_cache_of_version_0_1_0_is_read(number, golden_cache):
    encoder, cells = golden_encoders()[number]
    vectors = encoder.fit_transform({"cell": cells})
    assert (golden_cache.n_read, golden_cache.n_written) == (2, 0)
    assert vectors.shape[0] == 2 and np.isfinite(vectors).all()


def test_that_cache_holds_what_the_encoders_give(golden_cache):
    encoder, cells = TextEncoder(), golden_encoders()[2][1]
    kept = encoder.fit_transform({"title": cells})
    with config_context(cache=None):
        np.testing.assert_allclose(encoder.fit_transform({"title": cells}), kept, atol=1e-5)


def test_new_vectors_go_where_the_former_ones_are(golden_cache):
    encoder, cells = golden_encoders()[1]
    folders = sorted(path.name for path in (golden_cache.folder / "v2").iterdir())
    encoder.fit_transform({"photo": [*cells, np.zeros((4, 4, 3), dtype=np.uint8)]})
    assert (golden_cache.n_read, golden_cache.n_written) == (2, 1)
    assert set(folders) >= {path.name for path in (golden_cache.folder / "v2").iterdir()} - {"files"}


def test_a_cache_is_read_after_its_encoder_has_moved(moved, golden_cache, tmp_path):
    encoder, cells = golden_encoders()[1]
    with config_context(cache=tmp_path / "new"):
        encoder.fit_transform({"photo": cells})
    moved(ImageEncoder)
    for cache in ("golden", "new"):
        with config_context(cache=tmp_path / cache):
            read, written = get_cache().n_read, get_cache().n_written
            encoder.fit_transform({"photo": cells})
            assert (get_cache().n_read - read, get_cache().n_written - written) == (2, 0), cache


class WordCount(BaseEncoder):
    def encode_batch(self, items):
        return np.array([[len(item.split())] for item in items])


class Strict(BaseEncoder):
    """Names a public exception and a public function of the library in its code."""

    def encode_batch(self, items):
        if get_cache() is None and not items:
            raise EncodingError("Strict", [], 0)
        return np.array([[len(item)] for item in items])


def test_code_that_names_public_functions_and_exceptions_has_its_former_digest():
    """As version 0.1.0 called them: ensemblefuse.exceptions.EncodingError, ensemblefuse.cache._cache.get_cache."""
    with former_paths():
        assert public_path(EncodingError) == "ensemblefuse.exceptions.EncodingError"
        assert public_path(get_cache) == "ensemblefuse.cache._cache.get_cache"
        former = Strict().recipe()
    assert former["code"] != Strict().recipe()["code"]


def test_every_public_name_has_a_former_path():
    """Names that were added later have none."""
    later = {"ColumnError", "DateFeatures", "FusionPipeline", "LogTargetRegressor"}
    later |= {"CrossModalDistiller", "CrossModalVAE"}
    later |= {"NeuralFusionClassifier", "NeuralFusionMultiTask", "NeuralFusionRegressor"}
    later |= {"RetrievalReport", "RetrievalReportDisplay", "retrieval_report"}
    later |= {"FineTunedEncoder", "ImageNetworkClassifier", "ImageNetworkRegressor"}
    later |= {"AudioNetworkClassifier", "AudioNetworkRegressor", "SeriesNetworkClassifier", "SeriesNetworkRegressor"}
    later |= {"TextNetworkClassifier", "TextNetworkRegressor"}
    later |= {
        "CensoredFeatures",
        "FarNumberWarning",
        "NumberFeatures",
        "StringFeatures",
        "TableTransformer",
        "TagFeatures",
        "UnseenCategoryWarning",
        "WordFeatures",
    }
    with former_paths():
        paths = {name: public_path(getattr(ensemblefuse, name)) for name in ensemblefuse.__all__}
    assert {name for name, path in paths.items() if path == f"ensemblefuse.{name}"} == later


def test_a_joblib_file_may_name_the_former_module_of_present_rows():
    assert importlib.import_module("ensemblefuse.features._present_rows").PresentRows is ensemblefuse.PresentRows


def test_the_digest_of_a_users_encoder_depends_on_no_private_module(moved, tmp_path):
    texts = {"title": ["a red bird", "a cat"]}
    recipe = WordCount().recipe()
    with former_paths():
        former = WordCount().recipe()
    with config_context(cache=tmp_path / "cache"):
        get_cache().put(former, [b"k" * 16], np.ones((1, 1)))  # what version 0.1.0 left
        WordCount().fit_transform(texts)
        assert not get_cache().has_recipe(recipe)
    moved(BaseEncoder)
    assert WordCount().recipe() == recipe != former


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:.*saved with other versions")
def test_a_model_file_is_read_after_its_classes_have_moved(number, moved):
    golden = json.loads((DATA / "golden.json").read_text())
    moved(FeatureFusionClassifier)
    moved(ImageEncoder)
    moved(ensemblefuse.LogPool)
    moved(ensemblefuse.DecisionFusionClassifier)
    model = load_model(DATA / f"format{number}.fuse")
    np.testing.assert_allclose(model.predict_proba(pd.DataFrame(golden["rows"])), golden["predict_proba"], atol=1e-6)
    types_of_file = inspect_model(DATA / f"format{number}.fuse")["types"]
    assert not [name for name in types_of_file if name.startswith("ensemblefuse.") and "._" in name]


@pytest.mark.filterwarnings("ignore:.*saved with other versions")
def test_the_encoders_of_a_model_file_of_format_2_may_have_moved(moved):
    moved(TextEncoder)
    moved(TimeSeriesEncoder)
    moved(WordVectorEncoder)
    load_model(DATA / "format2_encoders.fuse", verify="rows")  # an error if the example comes out differently


def test_a_saved_model_names_no_private_module(tmp_path):
    X, y = pd.DataFrame({"image__0": [0.1, 0.2, 0.9, 1.0], "text__0": [5.0, 4.0, 1.0, 0.0]}), [0, 0, 1, 1]
    model = ensemblefuse.DecisionFusionClassifier(cv=2).fit(X, y)
    path = save_model(model, tmp_path / "model.fuse", example=X)
    ours = [name for name in inspect_model(path)["types"] if name.startswith("ensemblefuse")]
    assert "ensemblefuse.DecisionFusionClassifier" in ours and not [name for name in ours if "._" in name]
    assert inspect_model(path)["model"] == "ensemblefuse.DecisionFusionClassifier"


def test_trusted_takes_the_former_path_of_a_class(tmp_path):
    model = FeatureFusionClassifier(StandardScaler()).set_params(estimator=None)
    X, y = pd.DataFrame({"image__0": [0.1, 0.2, 0.9, 1.0]}), [0, 0, 1, 1]
    path = save_model(model.fit(X, y), tmp_path / "model.fuse")
    loaded = load_model(path, trusted=["ensemblefuse.fusion._feature.FeatureFusionClassifier"])
    assert type(loaded) is FeatureFusionClassifier
