"""Networks as ONNX files, and with weights of 8 bits: what a vector depends on, where files lie, what is refused."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import ensemblefuse
from ensemblefuse import (
    CacheWarning,
    FeatureFusionClassifier,
    ImageEncoder,
    PersistenceError,
    TextEncoder,
    WordVectorEncoder,
    export_encoder_onnx,
    make_fusion_pipeline,
)
from ensemblefuse.backbones import quantised as _quantised
from ensemblefuse.backbones.forward import BackendError
from ensemblefuse.testing import check_encoder

TEXTS = ["a cat sleeps on the mat", "the kitten naps", "shares fell in London, which nobody had expected", "hello"]


class Patches(torch.nn.Module):
    """A transformer in little: patches by a matrix, attention, a mean."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Linear(3 * 16 * 16, 64)
        self.mix = torch.nn.Linear(64, 256)
        self.out = torch.nn.Linear(256, 32)

    def forward(self, pixels):
        patches = torch.nn.functional.unfold(pixels, 16, stride=16).transpose(1, 2)
        return self.out(torch.nn.functional.gelu(self.mix(self.embed(patches)))).mean(dim=1)


def patches():
    torch.manual_seed(0)
    return Patches()


def pictures(n=4):
    return [p for p in np.random.default_rng(0).integers(0, 256, (n, 40, 50, 3), dtype=np.uint8)]


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module", autouse=True)
def weights_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENSEMBLEFUSE_WEIGHTS", str(folder))
        yield folder / "int8"


# ---------------------------------------------------------------------- text


@pytest.mark.slow
def test_texts_in_int8_are_near_those_of_float32_and_have_a_key_of_their_own():
    near = cosines(TextEncoder(precision="int8").fit_transform({"t": TEXTS}), TextEncoder().fit_transform({"t": TEXTS}))
    assert 0.96 < near.min() < 0.9999, near
    assert TextEncoder(precision="int8").recipe() != TextEncoder().recipe()
    assert "precision" not in TextEncoder().recipe()["params"], "keys of what is cached already"


@pytest.mark.slow
def test_a_text_has_the_same_vector_alone_and_beside_others():
    encoder = TextEncoder(precision="int8")
    together = encoder.fit_transform({"t": TEXTS})
    with ensemblefuse.config_context(cache=None):
        alone = np.vstack([encoder.fit_transform({"t": [text]}) for text in TEXTS])
    np.testing.assert_array_equal(alone, together)


@pytest.mark.slow
def test_int8_keeps_the_contract_of_an_encoder():
    check_encoder(TextEncoder(precision="int8"), {"t": TEXTS})


@pytest.mark.slow  # makes a file of int8
def test_long_texts_are_read_in_windows_in_int8_too():
    long = [" ".join(f"word {i}" for i in range(300)), "short"]
    int8, exact = (TextEncoder(precision=p, long_texts="chunk").fit_transform({"t": long}) for p in ("int8", "float32"))
    assert cosines(int8, exact).min() > 0.95


def test_settings_that_do_not_go_with_int8_are_refused():
    with pytest.raises(ValueError, match=r"precision must be one of .* got 'int9'. Did you mean 'int8'"):
        TextEncoder(precision="int9").fit({"t": TEXTS})
    with pytest.raises(ValueError, match='precision="int8" runs on device="cpu" only; got \'cuda\''):
        TextEncoder(precision="int8", device="cuda").fit({"t": TEXTS})
    with pytest.raises(ValueError, match='backend="onnxruntime" on device="cpu" only'):
        ImageEncoder(precision="int8", backend="torch").fit({"p": pictures(1)})


# ---------------------------------------------------------------------- pictures


def test_pictures_in_int8():
    cells = {"p": pictures()}
    exact = ImageEncoder(patches()).fit_transform(cells)
    encoder = ImageEncoder(patches(), precision="int8")
    int8 = encoder.fit_transform(cells)
    assert cosines(int8, exact).min() > 0.99 and not np.array_equal(int8, exact)
    assert encoder.recipe() != ImageEncoder(patches()).recipe() and encoder.place() == "cpu, onnxruntime, int8"
    with ensemblefuse.config_context(cache=None):
        np.testing.assert_array_equal(encoder.transform({"p": cells["p"][:1]}), int8[:1])


def test_the_quantised_file_is_kept_and_a_damaged_one_is_made_again(weights_folder, monkeypatch):
    made = []
    make = _quantised.int8_onnx
    monkeypatch.setattr(_quantised, "int8_onnx", lambda *a, **k: made.append(1) or make(*a, **k))
    before = set(weights_folder.glob("*")) if weights_folder.exists() else set()

    def vectors():
        """Of a network that no other test has, made anew as another process would."""
        network = patches()
        network.out.bias.data += 1
        return ImageEncoder(network, precision="int8").fit_transform({"p": pictures()})

    with ensemblefuse.config_context(cache=None):
        first = vectors()
        (path,) = set(weights_folder.iterdir()) - before
        np.testing.assert_array_equal(vectors(), first)
        assert made == [1]
        path.write_bytes(path.read_bytes()[:-1])
        np.testing.assert_array_equal(vectors(), first)
    assert made == [1, 1] and set(weights_folder.iterdir()) - before == {path}


def test_a_folder_that_cannot_be_written_keeps_nothing_and_the_vectors_come(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ENSEMBLEFUSE_WEIGHTS", str(tmp_path / "file"))
    with pytest.warns(CacheWarning, match="is not kept for the next time"):
        assert _quantised.kept(lambda: b"network", "key") == b"network"


@pytest.mark.parametrize("encoder", [TextEncoder(), ImageEncoder()], ids=str)
def test_a_fitted_encoder_keeps_the_precision_that_the_fusion_was_fitted_with(encoder):
    cells = {"cell": ["a cat", "a dog"] * 5} if isinstance(encoder, TextEncoder) else {"cell": pictures()}
    model = make_fusion_pipeline([("part", encoder, "cell")], FeatureFusionClassifier(LogisticRegression()))
    model.fit(cells, np.arange(len(cells["cell"])) % 2).set_params(encode__part__precision="int8")
    fitted = model[0].named_transformers_["part"]
    assert (fitted.precision, model[0].transformers[0][1].precision) == ("float32", "int8")
    assert "precision" not in fitted.recipe()["params"]


def test_networks_of_convolutions_are_refused():
    with pytest.raises(BackendError, match=r"is for transformers; \d+% of the weights .* convolutions"):
        ImageEncoder(precision="int8").fit_transform({"p": pictures(1)})


# ---------------------------------------------------------------------- files


def notes_of(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_the_image_network_as_a_file(tmp_path):
    encoder = ImageEncoder()
    path = export_encoder_onnx(encoder, tmp_path / "image.onnx")
    pixels = np.stack([encoder.load(picture).numpy() for picture in pictures(3)])
    got = onnxruntime.InferenceSession(path).run(["embedding"], {"pixels": pixels})[0]
    np.testing.assert_allclose(got, encoder.fit_transform({"p": pictures(3)}), atol=1e-4)
    notes = notes_of(path)
    assert notes["encoder"] == "ImageEncoder" and notes["precision"] == "float32"
    assert notes["weights"].startswith("sha256:5793") and notes["licence"] == "Apache-2.0"
    assert json.loads(notes["recipe"]) == encoder.recipe() and "preprocessing" in notes["recipe"]


@pytest.mark.parametrize("precision", ["float32", pytest.param("int8", marks=pytest.mark.slow)])
def test_the_text_network_as_a_file(precision, tmp_path):
    encoder = TextEncoder(precision=precision)
    path = export_encoder_onnx(encoder, tmp_path / "text.onnx")
    session, network = onnxruntime.InferenceSession(path), TextEncoder()._network()
    expected = encoder.fit_transform({"t": TEXTS})
    for text, vector in zip(TEXTS, expected, strict=True):
        got = session.run(["embedding"], network.tokens([text]))[0]
        np.testing.assert_allclose(got[0], vector, atol=1e-6)
    if precision == "float32":
        np.testing.assert_allclose(session.run(None, network.tokens(TEXTS))[0], expected, atol=1e-6)
    assert notes_of(path)["precision"] == precision
    assert path.stat().st_size < (30e6 if precision == "int8" else 100e6)


def test_a_module_of_ones_own_as_a_file(tmp_path):
    encoder = ImageEncoder(patches())
    path = export_encoder_onnx(encoder, tmp_path / "own.onnx")
    pixels = encoder.load(pictures(1)[0]).numpy()[None]
    got = onnxruntime.InferenceSession(path).run(["embedding"], {"pixels": pixels})[0]
    np.testing.assert_allclose(got, encoder.fit_transform({"p": pictures(1)}), atol=1e-5)


class Wandering(torch.nn.Module):
    """A translation records one way through the code."""

    def forward(self, pixels):
        rows = pixels.flatten(1)[:, :8]
        return rows * 2 if torch.onnx.is_in_onnx_export() else rows * 3


def test_what_has_no_file(tmp_path):
    with pytest.raises(TypeError, match="takes an ImageEncoder or a TextEncoder; got WordVectorEncoder"):
        export_encoder_onnx(WordVectorEncoder(), tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"features='color'\) has no network"):
        export_encoder_onnx(ImageEncoder(features="color"), tmp_path / "a.onnx")
    with pytest.raises(PersistenceError, match=r"differ from those of torch by .* Nothing was written"):
        export_encoder_onnx(ImageEncoder(Wandering()), tmp_path / "a.onnx")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        export_encoder_onnx(ImageEncoder(), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no folder '.*nodir' to write 'a.onnx' to"):
        export_encoder_onnx(ImageEncoder(), tmp_path / "nodir" / "a.onnx")
    assert not list(tmp_path.iterdir())
