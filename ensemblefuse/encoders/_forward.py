"""The forward pass of a frozen network: backend, precision, and the memory and number of devices. Floor 2."""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.util
import io
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse.encoders._torch import is_forked, n_threads

if TYPE_CHECKING:
    import torch

__all__ = ["BACKENDS", "PRECISIONS", "Forward", "check_choice", "resolve_precision"]

BACKENDS = ("auto", "torch", "torch.compile", "onnxruntime", "openvino")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
# Rows after which "auto" tries a backend: to translate a network takes as long as some tens or hundreds of rows.
_TRIED_AFTER = {"onnxruntime": 32, "openvino": 512}
# What stays in the processor's cache: EfficientNet-Lite0 on 2 threads takes 9 ms an image in fours, 21 in 32s.
_TORCH_CHUNK = 4
# Of the largest number in an embedding: what another backend may differ by, and the error of 16 bits.
_SAME = 1e-4
_CLOSE = 0.02


def check_choice(name: str, value: Any, choices: tuple[str, ...], needed_by: str) -> str:
    """`value` if it is one of `choices`; `ValueError` otherwise."""
    if value not in choices:
        raise ValueError(f"{needed_by}: {name} must be one of {list(choices)}; got {value!r}.")
    return value


def resolve_precision(precision: str, device: str) -> str:
    """The precision that ``"auto"`` means on a device: float16 on CUDA, else float32.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16", "float16"}
    device : str
        As the user gave it. torch is asked only if there may be a GPU: its import takes seconds.
    """
    if precision != "auto":
        return precision
    kind = device.partition(":")[0]
    if kind not in ("auto", "cuda") or not ("torch" in sys.modules or _may_have_cuda()):
        return "float32"
    import torch

    # bfloat16 has 8 bits of mantissa, and differs by 2 % in EfficientNet-Lite0; what overflows float16 is found out.
    return "float16" if torch.cuda.is_available() else "float32"


def _may_have_cuda() -> bool:
    return os.name == "nt" or os.path.exists("/proc/driver/nvidia/version")


class Forward:
    """One frozen network on its devices, as a function from a batch of tensors to vectors.

    On a CPU ``backend="auto"`` begins with torch, and after some rows tries ONNX Runtime and OpenVINO, if they are
    installed: the one that is fastest on a batch of the user's own, and equal to torch to 1e-4, goes on. On a GPU it
    is torch.

    Parameters
    ----------
    network : torch.nn.Module
        In `eval()` mode, in float32, on the CPU; takes one tensor and returns one of shape (n, n_dims).
    devices : list of str
        A batch is split between several.
    backend : one of `BACKENDS`
    precision : {"float32", "bfloat16", "float16"}
        16 bits by autocast, with torch. If the first rows differ from float32 by over 2 % of the largest number in
        them, float32 is used.
    needed_by : str
        The class that the user called, for messages.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        devices: list[str],
        *,
        backend: str = "auto",
        precision: str = "float32",
        needed_by: str = "ImageEncoder",
    ):
        import torch

        network.eval().requires_grad_(False)
        self.devices = devices
        self.precision = precision
        self.needed_by = needed_by
        # Other backends' threads may wait for ever in the child of a fork.
        self.backend = "torch" if backend == "auto" or is_forked() else backend
        self._is_checked = precision == "float32"
        self._n_rows = 0
        self._lock = threading.Lock()
        # Depthwise convolutions on a CPU: 30 ms an image instead of 77 (EfficientNet-Lite0, one thread, batch 32).
        self.networks = [
            (network if i == 0 else copy.deepcopy(network)).to(device).to(memory_format=torch.channels_last)
            for i, device in enumerate(devices)
        ]
        on_cpu = all(device == "cpu" for device in devices) and len(devices) == 1
        may_try = backend == "auto" and on_cpu and precision == "float32" and not is_forked()
        self._untried = list(_TRIED_AFTER) if may_try else []
        self._run: Callable[[torch.Tensor], np.ndarray] = self._run_torch
        self._shape: tuple[int, ...] | None = None  # of an item, for which another backend was translated
        if self.backend == "torch.compile":
            self.networks = [torch.compile(part) for part in self.networks]  # type: ignore[misc]
        elif self.backend != "torch" and not (on_cpu and precision == "float32"):
            raise ValueError(f'{needed_by}: backend={backend!r} runs on device="cpu" in precision="float32" only.')

    def __call__(self, batch: torch.Tensor) -> np.ndarray:
        """Vectors of a batch.

        Parameters
        ----------
        batch : torch.Tensor of shape (n, ...), dtype float32, on the CPU

        Returns
        -------
        ndarray of shape (n, n_dims), dtype float32
        """
        if self.backend not in ("torch", "torch.compile") and self._run == self._run_torch:
            self._translate_as_told(batch)
        if not self._is_checked:
            self._check_precision(batch)
        if self._untried:
            self._try_others(batch)
        self._n_rows += len(batch)
        return self._run(batch) if tuple(batch.shape[1:]) == self._shape else self._run_torch(batch)

    # ------------------------------------------------------------------ torch

    def _run_torch(self, batch: torch.Tensor) -> np.ndarray:
        if len(self.devices) == 1 or len(batch) < len(self.devices):
            return self._run_on(0, batch)
        parts = batch.tensor_split(len(self.devices))
        with ThreadPoolExecutor(len(parts), thread_name_prefix="ensemblefuse-device") as pool:
            return np.concatenate(list(pool.map(self._run_on, range(len(parts)), parts)))

    def _run_on(self, i: int, batch: torch.Tensor) -> np.ndarray:
        import torch

        device, network = self.devices[i], self.networks[i]
        kind = device.partition(":")[0]
        with torch.inference_mode(), self._numbers(kind):
            if kind == "cpu":
                chunks = batch.split(_TORCH_CHUNK)
                parts = [network(chunk.to(memory_format=torch.channels_last)) for chunk in chunks]
                return torch.cat(parts).float().numpy()
            batch = batch.pin_memory() if kind == "cuda" else batch
            batch = batch.to(device, non_blocking=True, memory_format=torch.channels_last)
            return network(batch).float().cpu().numpy()

    @contextlib.contextmanager
    def _numbers(self, kind: str) -> Iterator[None]:
        """Arithmetic of the precision. float32 means float32: cuDNN's own choice, TF32, has 10 bits of mantissa."""
        import torch

        if self.precision != "float32":
            with torch.autocast(kind, dtype=getattr(torch, self.precision)):
                yield
        elif kind == "cuda":
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                yield
        else:
            yield

    def _check_precision(self, batch: torch.Tensor) -> None:
        few, asked = batch[:_TORCH_CHUNK], self.precision
        low = self._run_on(0, few)
        self.precision = "float32"
        exact = self._run_on(0, few)
        if _differ_by(low, exact) <= _CLOSE:
            self.precision = asked
        else:
            warnings.warn(
                f"{self.needed_by}: in {asked} this network differs from float32 by {_differ_by(low, exact):.1%}; "
                'it goes on in float32. Pass precision="float32".',
                UserWarning,
                stacklevel=2,
            )
        self._is_checked = True

    # ------------------------------------------------------------------ other backends

    def _try_others(self, batch: torch.Tensor) -> None:
        """Change to a backend that is worth it by now, if it is faster and gives the same vectors."""
        with self._lock:
            if self._shape not in (None, tuple(batch.shape[1:])):  # the backend at hand takes no such items
                return
            for name in [name for name in self._untried if self._n_rows >= _TRIED_AFTER[name]]:
                self._untried.remove(name)
                if importlib.util.find_spec(name) is None:
                    continue
                try:
                    run = self._translate(name, batch)
                except Exception:  # a network that it cannot translate stays with the backend at hand
                    continue
                if _differ_by(run(batch), self._run(batch)) > _SAME:
                    continue
                if _seconds(run, batch) < _seconds(self._run, batch):
                    self.backend, self._run, self._shape = name, run, tuple(batch.shape[1:])

    def _translate_as_told(self, batch: torch.Tensor) -> None:
        for module in ("onnx", self.backend):
            if importlib.util.find_spec(module) is None:
                extra = "onnx" if self.backend == "onnxruntime" else self.backend
                import_optional(module, extra=extra, needed_by=self.needed_by)  # raises, and says what to install
        try:
            run = self._translate(self.backend, batch)
        except Exception as error:
            raise ValueError(
                f"{self.needed_by}: {self.backend} cannot run this network "
                f"({type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}). "
                'Pass backend="torch".'
            ) from error
        difference = _differ_by(run(batch), self._run_torch(batch))
        if difference > _SAME:
            raise ValueError(
                f"{self.needed_by}: {self.backend} gives vectors that differ from torch's by {difference:.1e} of the "
                f'largest number in them, which is over {_SAME:.0e}. Pass backend="torch".'
            )
        self._run, self._shape = run, tuple(batch.shape[1:])

    def _translate(self, name: str, batch: torch.Tensor) -> Callable[[torch.Tensor], np.ndarray]:
        example = batch[:2] if len(batch) > 1 else batch.repeat(2, *[1] * (batch.ndim - 1))
        with _quiet():
            make = {"onnxruntime": _onnxruntime, "openvino": _openvino}[name]
            return make(_to_onnx(self.networks[0], example))


def _to_onnx(network: Any, example: torch.Tensor) -> bytes:
    import torch

    buffer: Any = io.BytesIO()  # which torch takes here, though its types do not say so
    torch.onnx.export(
        network,
        (example.contiguous(),),
        buffer,
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
    )
    return buffer.getvalue()


def _onnxruntime(model: bytes) -> Callable[[torch.Tensor], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads()
    options.inter_op_num_threads = 1
    # Waiting threads would take the processor from those that load.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"x": batch.contiguous().numpy()})[0]


def _openvino(model: bytes) -> Callable[[torch.Tensor], np.ndarray]:
    openvino = _import_openvino()
    settings = {"INFERENCE_NUM_THREADS": n_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(openvino.Core().read_model(io.BytesIO(model)), "CPU", settings)
    lock = threading.Lock()

    def run(batch: torch.Tensor) -> np.ndarray:
        with lock:  # a compiled model has one request, whose result the next call overwrites
            return compiled(batch.contiguous().numpy())[0].copy()

    return run


def _import_openvino() -> Any:
    """OpenVINO without its telemetry: its import would send usage data, from a process forked off this one."""
    absent = "openvino_telemetry" not in sys.modules
    if absent:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        if absent:
            del sys.modules["openvino_telemetry"]


def _differ_by(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference, as a share of the largest number in `b`."""
    return float(np.abs(a - b).max() / max(float(np.abs(b).max()), np.finfo(np.float32).tiny))


def _seconds(run: Callable[[torch.Tensor], np.ndarray], batch: torch.Tensor) -> float:
    spent = []
    for _ in range(2):
        start = time.perf_counter()
        run(batch)
        spent.append(time.perf_counter() - start)
    return min(spent)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Translators warn of things that a user can do nothing about; whether the vectors are right is measured."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
