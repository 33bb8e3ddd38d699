"""Models of one Python in another: of every fusion, combiner and encoder.

Each run writes what its Python makes into a folder of its version, and reads all that lie there. `.ci/run` runs it in
both of its environments, and in the first one again; alone, it reads what it wrote.
"""

import json
import os
import platform
from pathlib import Path

import numpy as np
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.base import is_regressor
from sklearn.linear_model import LogisticRegression
from test_encoder_contract import CASES, media  # noqa: F401
from test_model_transport import every_fusion_and_combiner

from ensemblefuse import FeatureFusionClassifier, inspect_model, load_model, make_fusion_pipeline, save_model

HERE = platform.python_version()
TRUSTED = ["test_encoder_contract.word_count"]
pytestmark = [
    pytest.mark.slow,
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
