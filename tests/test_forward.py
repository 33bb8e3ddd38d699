"""The forward pass: every backend gives torch's vectors, 16 bits give nearly these, several devices share a batch."""

import importlib.util
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ensemblefuse.backbones import forward as _forward
from ensemblefuse.backbones.forward import Forward, resolve_precision

OTHERS = ["onnxruntime", "openvino"]


def network(seed=0, width=16):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, width, 3, stride=2),
            torch.nn.BatchNorm2d(width),
            torch.nn.ReLU(),
            torch.nn.Conv2d(width, 24, 3, stride=2),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
        )


def batch(n=6, size=32):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n, 3, size, size)).astype(np.float32))


def plain(net, x):
    with torch.inference_mode():
        return net.eval()(x).numpy()


def needs(name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is an extra, and not installed here")


@pytest.mark.parametrize("backend", ["auto", "torch", *OTHERS])
def test_every_backend_gives_the_networks_own_vectors(backend):
    if backend in OTHERS:
        needs(backend)
    x, exact = batch(), plain(network(), batch())
    forward = Forward(network(), ["cpu"], backend=backend)
    for n in (6, 1, 5):  # of any batch size, whatever the first one was
        vectors = forward(x[:n])
        assert vectors.dtype == np.float32 and vectors.shape == (n, 24)
        assert_allclose(vectors, exact[:n], atol=1e-5)
    assert forward.backend == ("torch" if backend == "auto" else backend)


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_vectors():
    forward = Forward(network(), ["cpu"], backend="torch.compile")
    assert_allclose(forward(batch()), plain(network(), batch()), atol=1e-5)


@pytest.fixture
def slow_torch(monkeypatch):
    """A machine on which torch is slow, so that the choice does not hang on this one."""
    monkeypatch.setattr(_forward, "_seconds", lambda run, batch: 1.0 if run.__name__ == "_run_torch" else 0.1)


@pytest.mark.parametrize("name", OTHERS)
def test_after_some_rows_auto_takes_the_fastest(name, slow_torch, monkeypatch):
    needs(name)
    monkeypatch.setattr(_forward, "_TRIED_AFTER", {name: 12})
    forward, x = Forward(network(), ["cpu"]), batch()
    backends = []
    for _ in range(4):
        assert_allclose(forward(x), plain(network(), x), atol=1e-5)
        backends.append(forward.backend)
    assert backends == ["torch", "torch", name, name]


@pytest.mark.parametrize("name", OTHERS)
def test_a_server_tries_backends_before_there_are_requests(name, slow_torch, monkeypatch):
    needs(name)
    monkeypatch.setattr(_forward, "_TRIED_AFTER", {name: 1000})
    forward = Forward(network(), ["cpu"])
    with _forward.backends_at_once():
        forward(batch())
    assert forward.backend == name


def test_auto_stays_with_torch_where_it_is_the_fastest(monkeypatch):
    needs("onnxruntime")
    monkeypatch.setattr(_forward, "_TRIED_AFTER", {"onnxruntime": 0})
    monkeypatch.setattr(_forward, "_seconds", lambda run, batch: 0.1 if run.__name__ == "_run_torch" else 1.0)
    forward = Forward(network(), ["cpu"])
    forward(batch())
    assert forward.backend == "torch"


@pytest.mark.parametrize("name", OTHERS)
def test_a_backend_that_gives_other_vectors_is_not_taken(name, slow_torch, monkeypatch):
    needs(name)
    monkeypatch.setattr(_forward, "_TRIED_AFTER", {name: 0})

    class Off(torch.nn.Module):
        def forward(self, x):
            return x.mean(dim=(2, 3)) + (0.01 if torch.jit.is_tracing() else 0.0)

    x = batch()
    forward = Forward(Off(), ["cpu"])
    assert_allclose(forward(x), x.mean(dim=(2, 3)).numpy(), atol=1e-6)
    assert forward.backend == "torch"
    with pytest.raises(ValueError, match=r'differ from torch\'s by .* Pass backend="torch"'):
        Forward(Off(), ["cpu"], backend=name)(x)


@pytest.mark.parametrize("name", OTHERS)
def test_a_network_that_cannot_be_translated_stays_with_torch(name, slow_torch, monkeypatch):
    needs(name)
    monkeypatch.setattr(_forward, "_TRIED_AFTER", {name: 0})

    class Stubborn(torch.nn.Module):
        def forward(self, x):
            if torch.jit.is_tracing():
                raise RuntimeError("no graph of this")
            return x.mean(dim=(2, 3))

    forward = Forward(Stubborn(), ["cpu"])
    assert_allclose(forward(batch()), batch().mean(dim=(2, 3)).numpy(), atol=1e-6)
    assert forward.backend == "torch"
    with pytest.raises(ValueError, match=rf"{name} cannot run this network .* Pass backend=\"torch\""):
        Forward(Stubborn(), ["cpu"], backend=name)(batch())


def test_a_translation_leaves_the_users_settings_alone(slow_torch, monkeypatch):
    needs("onnxruntime")
    before = torch.get_num_threads(), list(warnings.filters), torch.is_grad_enabled(), torch.random.get_rng_state()
    Forward(network(), ["cpu"], backend="onnxruntime")(batch())
    after = torch.get_num_threads(), list(warnings.filters), torch.is_grad_enabled(), torch.random.get_rng_state()
    assert before[:3] == after[:3] and torch.equal(before[3], after[3])


@pytest.mark.slow
def test_openvino_sends_nothing():
    needs("openvino")
    script = """
import os, sys
def refuse():
    raise SystemExit("forked")
os.fork = refuse
from ensemblefuse.backbones.forward import _import_openvino
assert _import_openvino().Core().available_devices
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_threads_share_one_network(slow_torch, monkeypatch):
    needs("onnxruntime")
    monkeypatch.setattr(_forward, "_TRIED_AFTER", {"onnxruntime": 8})
    forward, x, found = Forward(network(), ["cpu"]), batch(), []
    threads = [threading.Thread(target=lambda: found.extend(forward(x) for _ in range(5))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20 and forward.backend == "onnxruntime"
    for vectors in found:
        assert_allclose(vectors, plain(network(), x), atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_several_devices_share_a_batch(n):
    forward = Forward(network(), ["cpu", "cpu", "cpu"])
    assert_allclose(forward(batch(n)), plain(network(), batch(n)), atol=1e-6)
    assert len({id(part) for part in forward.networks}) == 3


def test_sixteen_bits_are_close_and_checked():
    x, exact = batch(), plain(network(), batch())
    low = Forward(network(), ["cpu"], precision="bfloat16")
    vectors = low(x)
    assert low.precision == "bfloat16" and vectors.dtype == np.float32
    error = np.abs(vectors - exact).max() / np.abs(exact).max()
    assert 0 < error < 0.02

    class Delicate(torch.nn.Module):
        """A small difference of large numbers, which 8 bits of mantissa do not hold."""

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 4, bias=False)
            torch.nn.init.constant_(self.layer.weight, 1.0)

        def forward(self, x):
            return self.layer(x.mean(dim=(2, 3)) + 300.0) - self.layer(torch.full((len(x), 3), 300.0))

    warning = r"in bfloat16 this network differs from float32 by .*; float32 is used instead"
    with pytest.warns(UserWarning, match=warning):
        forward = Forward(Delicate(), ["cpu"], precision="bfloat16")
        vectors = forward(x)
    assert forward.precision == "float32"
    assert_allclose(vectors, plain(Delicate(), x), atol=1e-3)


def test_what_cannot_go_together_is_told():
    with pytest.raises(ValueError, match=r"backend='onnxruntime' runs on device=\"cpu\" in precision=\"float32\" only"):
        Forward(network(), ["cpu"], backend="onnxruntime", precision="bfloat16")


def test_whether_16_bits_are_close_enough_does_not_hang_on_the_first_rows():
    """One pair of rows of which 16 bits would be right, and one of which they would be wrong."""

    class Cancel(torch.nn.Module):
        def forward(self, x):
            return (x.flatten(1) @ torch.ones(x[0].numel(), 4)) * 1.0

    alike = [Forward(Cancel(), ["cpu"], precision="bfloat16") for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alike[0](torch.ones(2, 3, 8, 8))
        alike[1](torch.stack([torch.linspace(-1, 1.001, 192).reshape(3, 8, 8)] * 2))
    assert alike[0].precision == alike[1].precision


def test_neither_nan_nor_a_row_of_large_numbers_hides_a_difference():
    exact = np.ones((4, 3), dtype=np.float32)
    exact[0] = 10
    assert _forward.differ_by(1.0005 * exact[[0, 1]] - [[0.005], [0]], exact[[0, 1]]) > _forward.SAME
    exact[0] = np.nan
    assert _forward.differ_by(7 * exact, exact) > _forward.SAME
    assert not _forward.differ_by(exact[:1], exact[:1]) <= _forward.SAME, "nothing was compared"
    assert not _forward.differ_by(exact[:2], exact) <= _forward.SAME, "other shapes are not the same"


def test_rows_that_overflow_in_16_bits_are_computed_again():
    class Large(torch.nn.Module):
        def forward(self, x):
            return (x.flatten(1) @ torch.ones(x[0].numel(), 2)).square()

    x = torch.full((2, 3, 4, 4), 0.1)
    x[1] = 1e3
    vectors = Forward(Large(), ["cpu"], precision="float16")(x)
    assert_allclose(vectors, plain(Large(), x), rtol=0.02)


def test_the_switches_of_tf32_are_the_users_again_after_overlapping_calls():
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [place.allow_tf32 for place in switches]
    for place in switches:
        place.allow_tf32 = True
    try:
        first, second = _forward.EXACT, _forward.EXACT
        with first:
            with second:
                assert not any(place.allow_tf32 for place in switches)
            assert not any(place.allow_tf32 for place in switches), "the first is not done yet"
        assert all(place.allow_tf32 for place in switches)
    finally:
        for place, value in zip(switches, before, strict=True):
            place.allow_tf32 = value


def test_auto_precision_is_float32_without_a_gpu():
    assert resolve_precision("auto", "cpu") == "float32"
    assert resolve_precision("bfloat16", "cpu") == "bfloat16"
    if not torch.cuda.is_available():
        assert resolve_precision("auto", "auto") == "float32"
