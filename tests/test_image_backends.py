"""ImageEncoder's settings of speed: the same vectors on every backend, and in every kind of process."""

import importlib.util
import multiprocessing
import os

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ensemblefuse import ImageEncoder, _torch, config_context
from ensemblefuse.backbones import forward as _forward
from ensemblefuse.encoders import _image

OTHERS = ["onnxruntime", "openvino"]


def pictures(n=5, side=40):
    return list(np.random.default_rng(0).integers(0, 256, size=(n, side, side, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def vectors():
    with config_context(cache=None):
        return ImageEncoder(backend="torch").fit_transform(pictures())


@pytest.fixture
def no_cache():
    with config_context(cache=None):
        yield


@pytest.mark.by_turns
@pytest.mark.parametrize("backend", OTHERS)
def test_a_backend_gives_torchs_vectors_under_the_same_key(backend, vectors, no_cache):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is an extra, and not installed here")
    encoder = ImageEncoder(backend=backend)
    assert_allclose(encoder.fit_transform(pictures()), vectors, atol=1e-4 * np.abs(vectors).max())
    assert encoder.place() == f"cpu, {backend}" and encoder.recipe() == ImageEncoder().recipe()


@pytest.fixture
def fast_others(monkeypatch):
    """A machine on which every other backend is faster than torch, and tried after two pictures."""
    monkeypatch.setattr(_forward, "_TRIED_AFTER", {"onnxruntime": 2})
    monkeypatch.setattr(_forward, "_seconds", lambda run, batch: 1.0 if run.__name__ == "_run_torch" else 0.1)


def test_auto_changes_the_backend_within_a_call_and_not_the_vectors(vectors, no_cache, fast_others, monkeypatch):
    if importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("onnxruntime is an extra, and not installed here")
    monkeypatch.setattr(_torch, "_networks", {})
    encoder = ImageEncoder(batch_size=2)
    assert_allclose(encoder.fit_transform(pictures()), vectors, atol=1e-4 * np.abs(vectors).max())
    assert encoder.place() == "cpu, onnxruntime"


class TwoWays(torch.nn.Module):
    """Bright pictures go another way than dark ones: a translation of a dark batch has the one way alone."""

    def forward(self, x):
        means = x.mean(dim=(2, 3))
        bright = means.sum(dim=1) > 0
        if bright.any():
            means = torch.where(bright[:, None], -3 * means, means)
        return means


def test_a_module_of_ones_own_stays_in_torch(no_cache, fast_others):
    dark = [np.full((8, 8, 3), level, dtype=np.uint8) for level in range(8)]
    cells = [*dark, *[255 - cell for cell in dark]]
    encoder = ImageEncoder(TwoWays(), batch_size=4)
    assert_allclose(encoder.fit_transform(cells), ImageEncoder(TwoWays(), backend="torch").fit_transform(cells))
    assert encoder.place() == "cpu"


def test_a_module_whose_rows_hang_on_each_other_is_refused(no_cache):
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 9, 9), torch.nn.BatchNorm2d(4, track_running_stats=False), torch.nn.Flatten()
    )
    with pytest.raises(ValueError, match="depends on the other pictures of its batch"):
        ImageEncoder(network).fit(pictures(1))


def test_a_backend_that_cannot_run_the_network_is_an_error_and_no_bad_cells(no_cache):
    if importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("onnxruntime is an extra, and not installed here")

    class Fourier(torch.nn.Module):
        def forward(self, x):
            return torch.fft.rfft2(x).abs().mean(dim=(2, 3))

    for parameters in ({"backend": "onnxruntime"}, {"backend": "onnxruntime", "precision": "bfloat16"}):
        encoder = ImageEncoder(Fourier(), on_error="missing", **parameters)
        with pytest.raises(ValueError, match="onnxruntime"):
            encoder.fit_transform(pictures())


def test_float32_is_float32_within_autocast(vectors, no_cache):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = ImageEncoder(backend="torch").fit_transform(pictures())
    assert_allclose(again, vectors, atol=1e-4)


@pytest.mark.parametrize("backend", OTHERS)
def test_pictures_of_another_shape_than_the_first_are_not_given_to_a_translation(backend, no_cache):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is an extra, and not installed here")

    def as_it_is(image):
        return torch.from_numpy(np.array(image, dtype=np.float32).transpose(2, 0, 1) / 255)

    pooled = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    cells = [*pictures(3), *pictures(3, side=24)]
    exact = ImageEncoder(pooled, preprocess=as_it_is, backend="torch").fit_transform(cells)
    assert_allclose(ImageEncoder(pooled, preprocess=as_it_is, backend=backend).fit_transform(cells), exact, atol=1e-5)


def test_sixteen_bits_are_close_and_have_a_key_of_their_own(no_cache):
    small = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 9, 9), torch.nn.Flatten())
    encoder = ImageEncoder(small, precision="bfloat16")
    exact, low = ImageEncoder(small).fit_transform(pictures()), encoder.fit_transform(pictures())
    assert 0 < np.abs(low - exact).max() < 0.02 * np.abs(exact).max()
    assert encoder.recipe()["params"]["precision"] == "bfloat16"
    assert "precision" not in ImageEncoder(small).recipe()["params"]
    assert encoder.place() == "cpu, bfloat16"


def test_a_batch_is_split_between_devices(vectors, no_cache):
    encoder = ImageEncoder(device=["cpu", "cpu"], backend="torch")
    assert_allclose(encoder.fit_transform(pictures()), vectors, atol=1e-4)
    assert encoder.place() == "cpu, cpu"
    assert encoder.recipe() == ImageEncoder().recipe()
    assert encoder._batch_size() == 2 * _image._CPU_BATCH_SIZE


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"backend": "tensorrt"}, r"backend must be one of \['auto', 'torch'.*got 'tensorrt'"),
        ({"precision": "int4"}, r"precision must be one of \['auto', 'float32'.*got 'int4'"),
        ({"device": []}, r"device must be a name or a list of names; got \[\]"),
        ({"device": ["cpu", "gpu"]}, "device 'gpu' cannot be used here"),
        ({"backend": "openvino", "precision": "bfloat16"}, 'runs on device="cpu" in precision="float32" only'),
        ({"batch_size": "many"}, r"batch_size must be a whole number of at least 1, or 'auto'; got 'many'"),
    ],
)
def test_a_wrong_setting_is_an_error_of_fit(parameters, message, no_cache):
    with pytest.raises(ValueError, match=message):
        ImageEncoder(**parameters).fit(pictures(1))


def encode_in_child(connection):
    with config_context(cache=None):
        connection.send(ImageEncoder().fit_transform(pictures()))


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_child_process_encodes_what_its_parent_has_encoded(method, vectors, no_cache, monkeypatch):
    """A fork has the parent's networks, but not the threads that ran them: it must neither wait for them nor differ."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform has no {method}")
    if importlib.util.find_spec("onnxruntime") is not None:  # its threads are lost in the fork, too
        ImageEncoder(backend="onnxruntime").fit_transform(pictures())
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in [os.getcwd(), os.environ.get("PYTHONPATH")] if p))
    context = multiprocessing.get_context(method)
    ours, childs = context.Pipe()
    child = context.Process(target=encode_in_child, args=(childs,))
    child.start()
    try:
        assert ours.poll(120), "the child hangs"
        assert_allclose(ours.recv(), vectors, atol=1e-4 * np.abs(vectors).max())
    finally:
        child.kill()
        child.join()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_a_scripted_module_is_refused_with_a_word_on_what_to_pass(no_cache):
    scripted = torch.jit.script(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 9, 9), torch.nn.Flatten()))
    with pytest.raises(TypeError, match=r"pass the torch\.nn\.Module it was made from"):
        ImageEncoder(scripted).fit(pictures(1))


class Mean(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3))


def encode_own_in_child(connection, network):
    with config_context(cache=None):
        connection.send(ImageEncoder(network).fit_transform(pictures()))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform has no fork")
def test_a_module_of_ones_own_works_in_the_child_of_a_fork(no_cache):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 7), torch.nn.ReLU(), torch.nn.Conv2d(64, 64, 5), Mean())
    exact = ImageEncoder(network).fit_transform(pictures())
    context = multiprocessing.get_context("fork")
    ours, childs = context.Pipe()
    child = context.Process(target=encode_own_in_child, args=(childs, network))
    child.start()
    try:
        assert ours.poll(60), "the child hangs"
        assert_allclose(ours.recv(), exact, atol=1e-4)
    finally:
        child.kill()
        child.join()
