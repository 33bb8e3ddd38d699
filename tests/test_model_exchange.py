"""Models of one Python in another: of every fusion, combiner and encoder.

Each run writes what its Python makes into a folder of its version, and reads all that lie there. `.ci/run` runs it in
both of its environments, and the first two tests in the first one again; alone, it reads what it wrote.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import make_blocks
from numpy.testing import assert_allclose
from packaging.version import Version
from sklearn.base import is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC, LinearSVC
from test_encoder_contract import CASES, media  # noqa: F401
from test_model_transport import every_fusion_and_combiner

import ensemblefuse
from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    KernelFusionClassifier,
    inspect_model,
    load_model,
    make_fusion_pipeline,
    save_model,
)

HERE = platform.python_version()
TRUSTED = ["test_encoder_contract.word_count"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.exchange,
    pytest.mark.xdist_group("exchange"),
    # Wheels of one release may differ from Python to Python, and what the files predict is compared.
    pytest.mark.filterwarnings("ignore:.*saved with other versions"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    named = os.environ.get("ENSEMBLEFUSE_EXCHANGE")
    return Path(named) if named else tmp_path_factory.mktemp("exchange")


def versions(folder):
    """Pythons that have written here; those that `.ci/run` expects are among them."""
    found = sorted(path.name for path in folder.iterdir())
    expected = os.environ.get("ENSEMBLEFUSE_EXCHANGE_EXPECTS", "").split()
    assert all(any(name.startswith(f"{version}.") for name in found) for version in expected), (expected, found)
    return found


def test_every_fusion_and_combiner(folder):
    X, y = make_blocks(45)
    own = folder / HERE / "fusions"
    own.mkdir(parents=True, exist_ok=True)
    for name, fusion in every_fusion_and_combiner():
        fusion.fit(X, X["image__0"] if is_regressor(fusion) else y)
        save_model(fusion, own / f"{name}.fuse", example=X.head(2))
        said = getattr(fusion, "predict_proba", fusion.predict)(X)
        (own / f"{name}.json").write_text(json.dumps(np.asarray(said).tolist()))
    for version in versions(folder):
        files = sorted((folder / version / "fusions").glob("*.fuse"))
        assert [path.stem for path in files] == [path.stem for path in sorted(own.glob("*.fuse"))] and len(files) >= 20
        for path in files:
            model = load_model(path)
            said = getattr(model, "predict_proba", model.predict)(X)
            expected = json.loads(path.with_suffix(".json").read_text())
            assert_allclose(said, expected, rtol=1e-6, atol=1e-9, err_msg=f"{version} {path.stem}")


def test_every_encoder(folder, media):  # noqa: F811
    """The example's rows are in the files, pictures and sounds included, and are encoded again where they are read."""
    own, y = folder / HERE / "encoders", np.arange(len(media)) % 2
    own.mkdir(parents=True, exist_ok=True)
    for i, (encoder, column, _) in enumerate(CASES.values()):
        model = make_fusion_pipeline([("m", encoder, column)], FeatureFusionClassifier(LogisticRegression()))
        save_model(model.fit(media, y), own / f"{i:02d}.fuse", example=media[[column]].iloc[1:3])
    for version in versions(folder):
        files = sorted((folder / version / "encoders").glob("*.fuse"))
        assert len(files) == len(CASES)
        for path in files:
            assert inspect_model(path)["example"]["not_kept"] == {}, path
            load_model(path, trusted=TRUSTED, verify="rows")  # an error where the example comes out differently


# ---------------------------------------------------------------------- other versions of scikit-learn


@pytest.fixture(scope="module")
def other_version(tmp_path_factory):
    """A Python with the oldest scikit-learn that is supported, or the newest, whichever is not installed here."""
    folder = tmp_path_factory.mktemp("other") / "venv"
    wanted = "1.7.2" if Version(sklearn.__version__) >= Version("1.8") else "1.9.1"
    uv = shutil.which("uv") or pytest.skip("uv makes the other environment")
    try:
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder], check=True, capture_output=True)
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        install = [uv, "pip", "install", "-q", "--python", python, "--no-deps", f"scikit-learn=={wanted}"]
        subprocess.run(install, check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"scikit-learn {wanted} cannot be installed: {error.stderr.decode()[-200:]}")
    site = next(folder.rglob("site-packages"))
    # All other packages are those of here; of several scikit-learns the first one is found.
    (site / "zz_here.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    return python, wanted


OTHER = """
import sys, warnings
sys.path[:0] = sys.argv[4:]
import numpy as np, sklearn
from numpy.testing import assert_allclose
from test_model_exchange import heads_and_tables, said_by
from ensemblefuse import load_model, save_model
what, folder, version = sys.argv[1:4]
assert sklearn.__version__ == version
warnings.simplefilter("ignore")
for name, model, X, y in heads_and_tables():
    if what == "write":
        save_model(model.fit(X, y), f"{folder}/{name}.fuse")
        np.save(f"{folder}/{name}.npy", said_by(model, X))
    else:
        said = said_by(load_model(f"{folder}/{name}.fuse"), X)
        assert_allclose(said, np.load(f"{folder}/{name}.npy"), rtol=1e-6, err_msg=name)
"""


def said_by(model, X):
    return np.asarray(
        getattr(model, "predict_proba", getattr(model, "decision_function", model.predict))(X), dtype=float
    )


def heads_and_tables():
    """Models of what changed between 1.7 and 1.9, and of what did not."""
    X, y = make_blocks(45)
    for head in (
        *(LogisticRegression(), RidgeClassifier(), SVC(), SGDClassifier(loss="log_loss"), RandomForestClassifier(4)),
        *(GradientBoostingClassifier(n_estimators=3), HistGradientBoostingClassifier(max_iter=3), MLPClassifier(3)),
        *(CalibratedClassifierCV(LinearSVC(), cv=3), KNeighborsClassifier(), GaussianNB()),
    ):
        yield type(head).__name__, FeatureFusionClassifier(head), X, y
    yield "decision", DecisionFusionClassifier(cv=3), X, y
    yield "kernel", KernelFusionClassifier(), X, y
    yield "regression", DecisionFusionRegressor(cv=3), X, X["image__0"].to_numpy()
    table = pd.DataFrame(
        {"a": np.where(np.arange(45) % 9, X["image__0"], np.nan), "b": ["xyz"[i % 3] for i in range(45)]}
    )
    for strategy in ("median", "constant", "most_frequent"):
        steps = make_column_transformer(
            (SimpleImputer(strategy=strategy), ["a"]),
            (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["b"]),
        )
        yield (
            strategy,
            make_fusion_pipeline([("m", steps, ["a", "b"])], FeatureFusionClassifier(LogisticRegression())),
            table,
            y,
        )


@pytest.mark.filterwarnings("ignore")
def test_models_go_from_one_version_of_scikit_learn_to_another_and_back(other_version, tmp_path):
    python, wanted = other_version
    paths = [str(Path(ensemblefuse.__file__).parents[1]), str(Path(__file__).parent)]
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    for name, model, X, y in heads_and_tables():
        save_model(model.fit(X, y), here / f"{name}.fuse")
        np.save(here / f"{name}.npy", said_by(model, X))
    for what, folder in (("read", here), ("write", there)):
        subprocess.run([python, "-c", OTHER, what, folder, wanted, *paths], check=True)
    for name, _, X, _ in heads_and_tables():
        model = load_model(there / f"{name}.fuse")
        assert_allclose(said_by(model, X), np.load(there / f"{name}.npy"), rtol=1e-6, err_msg=name)
