"""Forward passes of a frozen network: backend, precision, memory, and one or several devices."""

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
from ensemblefuse._torch import is_forked, n_threads

if TYPE_CHECKING:
    import torch

__all__ = [
    "BACKENDS",
    "EXACT",
    "PRECISIONS",
    "BackendError",
    "Forward",
    "backends_at_once",
    "check_choice",
    "onnx_session",
    "quiet_translation",
    "resolve_precision",
    "run_onnx",
    "to_onnx",
]

BACKENDS = ("auto", "torch", "torch.compile", "onnxruntime", "openvino")
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")
# Rows after which "auto" tries a backend: the translation of a network takes as long as tens or hundreds of rows.
_TRIED_AFTER = {"onnxruntime": 32, "openvino": 512}
# Small batches stay in the processor's cache: EfficientNet-Lite0 on 2 threads takes 9 ms per image in batches of 4,
# and 21 ms in batches of 32.
_TORCH_CHUNK = 4
# Largest allowed differences of another backend and of 16 bits, as shares of the largest number in an embedding.
SAME = 1e-4
_CLOSE = 0.02


_at_once = False


@contextlib.contextmanager
def backends_at_once() -> Iterator[None]:
    """Make ``backend="auto"`` try every backend on the first batch. A server does this before it takes requests."""
    global _at_once
    _at_once = True
    try:
        yield
    finally:
        _at_once = False


class BackendError(ValueError):
    """A backend cannot run the network. The settings are wrong, not a cell."""


def check_choice(name: str, value: Any, choices: tuple[str, ...], needed_by: str) -> str:
    """Return `value` if it is one of `choices`; raise `ValueError` otherwise."""
    if value not in choices:
        raise ValueError(f"{needed_by}: {name} must be one of {list(choices)}; got {value!r}.")
    return value


def resolve_precision(precision: str, device: str) -> str:
    """Return the precision, with ``"auto"`` resolved: float16 on CUDA, else float32.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16", "float16", "int8"}
    device : str
        As the user gave it. torch is only imported if there may be a GPU, because the import takes seconds.
    """
    if precision != "auto":
        return precision
    kind = device.partition(":")[0]
    if kind not in ("auto", "cuda") or not ("torch" in sys.modules or _may_have_cuda()):
        return "float32"
    import torch

    # bfloat16 has 8 bits of mantissa, and differs by 2 % in EfficientNet-Lite0. Overflows of float16 are detected.
    return "float16" if torch.cuda.is_available() else "float32"


def _may_have_cuda() -> bool:
    return os.name == "nt" or os.path.exists("/proc/driver/nvidia/version")


class Forward:
    """A frozen network on its devices, as a function from a batch of tensors to vectors.

    On a CPU, ``backend="auto"`` begins with torch. After some rows it tries ONNX Runtime and OpenVINO, if they are
    installed, on a batch of the user's. It continues with the fastest one that is equal to torch within 1e-4. On a GPU
    it is torch.

    Parameters
    ----------
    network : torch.nn.Module
        In `eval()` mode, in float32, on the CPU. It takes one tensor and returns one of shape (n, n_dims).
    devices : list of str
        If there are several, a batch is split between them.
    backend : one of `BACKENDS`
    precision : {"float32", "bfloat16", "float16"}
        The 16-bit precisions use torch's autocast. If vectors of noise differ from float32's by over 2 % of their
        largest number, float32 is used.
    needed_by : str
        The class that the user called, for the messages.
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
        # In the child of a fork, threads of other backends may wait forever.
        self.backend = "torch" if backend == "auto" or is_forked() else backend
        self._is_checked = precision == "float32"
        self._n_rows = 0
        self._lock = threading.Lock()
        # Depthwise convolutions on a CPU: 30 ms per image instead of 77 (EfficientNet-Lite0, one thread, batch 32).
        self.networks = [
            (network if i == 0 else copy.deepcopy(network)).to(device).to(memory_format=torch.channels_last)
            for i, device in enumerate(devices)
        ]
        on_cpu = list(devices) == ["cpu"]
        may_try = backend == "auto" and on_cpu and precision == "float32" and not is_forked()
        self._untried = list(_TRIED_AFTER) if may_try else []
        self._run: Callable[[torch.Tensor], np.ndarray] = self._run_torch
        self._shape: tuple[int, ...] | None = None  # shape of an item for which the network was translated
        if self.backend in _TRIED_AFTER and not (on_cpu and precision == "float32"):
            raise BackendError(f'{needed_by}: backend={backend!r} runs on device="cpu" in precision="float32" only.')

    def __call__(self, batch: torch.Tensor) -> np.ndarray:
        """Return the vectors of a batch.

        Parameters
        ----------
        batch : torch.Tensor of shape (n, ...), dtype float32, on the CPU

        Returns
        -------
        ndarray of shape (n, n_dims), dtype float32
        """
        with self._lock:
            if not self._is_checked:
                self._check_precision(batch)
            if self.backend != "torch" and self._shape is None:
                self._translate_as_told(batch)
            self._try_others(batch)
            self._n_rows += len(batch)
            run = self._run if tuple(batch.shape[1:]) == self._shape else self._run_torch
        try:
            return run(batch)
        except Exception:
            if run == self._run_torch:
                raise
            return self._run_torch(batch)  # a translation may lack branches of the network

    # ------------------------------------------------------------------ torch

    def _run_torch(self, batch: torch.Tensor, networks: list[Any] | None = None) -> np.ndarray:
        vectors = self._run_in(self.precision, batch, networks)
        if self.precision != "float32":  # rows that overflow in 16 bits
            lost = ~np.isfinite(vectors).all(axis=1)
            if lost.any():
                vectors[lost] = self._run_in("float32", batch[np.flatnonzero(lost).tolist()])
        return vectors

    def _run_in(self, precision: str, batch: torch.Tensor, networks: list[Any] | None = None) -> np.ndarray:
        networks = networks or self.networks
        is_exact = precision == "float32" and any(device.startswith("cuda") for device in self.devices)
        with EXACT if is_exact else contextlib.nullcontext():
            if len(self.devices) == 1 or len(batch) < len(self.devices):
                return self._run_on(networks[0], self.devices[0], precision, batch)
            parts = batch.tensor_split(len(self.devices))
            with ThreadPoolExecutor(len(parts), thread_name_prefix="ensemblefuse-device") as pool:
                work = pool.map(self._run_on, networks, self.devices, [precision] * len(parts), parts)
                return np.concatenate(list(work))

    def _run_on(self, network: Any, device: str, precision: str, batch: torch.Tensor) -> np.ndarray:
        import torch

        kind = device.partition(":")[0]
        # float32 is kept even within the user's own autocast.
        numbers = {"enabled": False} if precision == "float32" else {"dtype": getattr(torch, precision)}
        with torch.inference_mode(), torch.autocast(kind, **numbers):  # type: ignore[arg-type]
            if kind == "cpu":
                chunks = batch.split(_TORCH_CHUNK)
                parts = [network(chunk.to(memory_format=torch.channels_last)) for chunk in chunks]
                return torch.cat(parts).float().numpy()
            batch = batch.pin_memory() if kind == "cuda" else batch
            batch = batch.to(device, non_blocking=True, memory_format=torch.channels_last)
            return network(batch).float().cpu().numpy()

    def _check_precision(self, batch: torch.Tensor) -> None:
        """Compare 16 bits with float32, on noise. On the user's rows, the vectors would depend on row order."""
        import torch

        noise = np.random.default_rng(0).standard_normal((_TORCH_CHUNK, *batch.shape[1:]), dtype=np.float32)
        probe = torch.from_numpy(noise)
        difference = differ_by(self._run_in(self.precision, probe), self._run_in("float32", probe))
        if not difference <= _CLOSE:
            warnings.warn(
                f"{self.needed_by}: in {self.precision} this network differs from float32 by {difference:.1%}; float32 "
                'is used instead. Pass precision="float32".',
                UserWarning,
                stacklevel=2,
            )
            self.precision = "float32"
        self._is_checked = True

    # ------------------------------------------------------------------ other backends

    def _try_others(self, batch: torch.Tensor) -> None:
        """Try backends whose number of rows is reached. Change to one if it is faster and gives the same vectors."""
        if self._shape not in (None, tuple(batch.shape[1:])):  # the current backend does not take items of this shape
            return
        for name in [name for name in self._untried if _at_once or self._n_rows >= _TRIED_AFTER[name]]:
            self._untried.remove(name)
            if importlib.util.find_spec(name) is None:
                continue
            try:
                run = self._translate(name, batch)
                is_same = differ_by(run(batch), self._run_torch(batch)) <= SAME
            except Exception:  # if the translation fails, the current backend stays
                continue
            if is_same and _seconds(run, batch) < _seconds(self._run, batch):
                self.backend, self._run, self._shape = name, run, tuple(batch.shape[1:])

    def _translate_as_told(self, batch: torch.Tensor) -> None:
        for module in () if self.backend == "torch.compile" else ("onnx", self.backend):
            if importlib.util.find_spec(module) is None:
                extra = "onnx" if self.backend == "onnxruntime" else self.backend
                import_optional(module, extra=extra, needed_by=self.needed_by)  # raises, with the command to install
        try:
            run = self._translate(self.backend, batch)
            difference = differ_by(run(batch), self._run_torch(batch))
        except Exception as error:
            if type(error).__name__ == "OutOfMemoryError":
                raise
            raise BackendError(
                f"{self.needed_by}: {self.backend} cannot run this network "
                f"({type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}). "
                'Pass backend="torch".'
            ) from error
        if not difference <= (SAME if self.precision == "float32" else _CLOSE):
            raise BackendError(
                f"{self.needed_by}: {self.backend} gives vectors that differ from torch's by {difference:.1e} of the "
                f'largest number in them, which is over {SAME:.0e}. Pass backend="torch".'
            )
        self._run, self._shape = run, tuple(batch.shape[1:])

    def _translate(self, name: str, batch: torch.Tensor) -> Callable[[torch.Tensor], np.ndarray]:
        if name == "torch.compile":
            import torch

            compiled = [torch.compile(network) for network in self.networks]
            return lambda batch: self._run_torch(batch, compiled)
        example = batch[:2] if len(batch) > 1 else batch.repeat(2, *[1] * (batch.ndim - 1))
        with quiet_translation():
            make = {"onnxruntime": run_onnx, "openvino": _openvino}[name]
            return make(to_onnx(self.networks[0], example))


class _Exact:
    """A context in which float32 on CUDA does not use TF32, which has 10 bits of mantissa.

    The switches belong to the process, so threads within the context are counted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_users = 0
        self._before: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_users:
                self._before = self._switch_off()
            self._n_users += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._n_users -= 1
            if not self._n_users:
                for place, name, value in self._before:
                    setattr(place, name, value)

    @staticmethod
    def _switch_off() -> list[tuple[Any, str, Any]]:
        from torch.backends import cuda, cudnn

        switches: list[tuple[Any, str, Any]] = [(cudnn, "allow_tf32", False), (cuda.matmul, "allow_tf32", False)]
        try:
            before = [(place, name, getattr(place, name)) for place, name, _ in switches]
        except RuntimeError:  # the user has set these switches by their newer names
            places: list[Any] = [cudnn.conv, cudnn.rnn, cuda.matmul]  # type: ignore[attr-defined]
            switches = [(place, "fp32_precision", "ieee") for place in places]
            before = [(place, name, getattr(place, name)) for place, name, _ in switches]
        for place, name, value in switches:
            setattr(place, name, value)
        return before


EXACT = _Exact()


def to_onnx(network: Any, example: torch.Tensor, names: tuple[str, str] = ("x", "y")) -> bytes:
    """Return a network as ONNX for any number of items of the example's shape. `names` are its input and output."""
    import torch

    buffer: Any = io.BytesIO()  # torch accepts it here, although its types do not say so
    torch.onnx.export(
        network,
        (example.contiguous(),),
        buffer,
        dynamo=False,
        input_names=[names[0]],
        output_names=[names[1]],
        dynamic_axes={name: {0: "n"} for name in names},
    )
    return buffer.getvalue()


def run_onnx(model: bytes) -> Callable[[torch.Tensor], np.ndarray]:
    """Return a function that runs an ONNX network with one input and one output in ONNX Runtime."""
    session = onnx_session(model)
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch.contiguous().numpy()})[0]


def onnx_session(model: bytes) -> Any:
    """Return a session of ONNX Runtime with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads()
    options.inter_op_num_threads = 1
    # Spinning threads would take processor time from those that load cells.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _openvino(model: bytes) -> Callable[[torch.Tensor], np.ndarray]:
    openvino = _import_openvino()
    settings = {"INFERENCE_NUM_THREADS": n_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(openvino.Core().read_model(io.BytesIO(model)), "CPU", settings)
    lock = threading.Lock()

    def run(batch: torch.Tensor) -> np.ndarray:
        with lock:  # a compiled model has one request; the next call overwrites its result
            return compiled(batch.contiguous().numpy())[0].copy()

    return run


def _import_openvino() -> Any:
    """Import OpenVINO without its telemetry: the import would fork a process that sends usage data."""
    absent = "openvino_telemetry" not in sys.modules
    if absent:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        if absent:
            del sys.modules["openvino_telemetry"]


def differ_by(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference in any row, as a share of the largest number in that row of `b`.

    Return NaN if the shapes differ or no row of `b` is finite. Differences of a row with tiny numbers (below 1 % of the
    largest number of all rows) are taken as shares of that 1 %, because its numbers are rounding errors.
    """
    if a.shape != b.shape:
        return float("nan")
    finite = np.isfinite(b).all(axis=1)
    if not finite.any():
        return float("nan")
    largest: np.ndarray = np.abs(b[finite]).max(axis=1)
    scale = largest.clip(max(0.01 * float(largest.max()), float(np.finfo(np.float32).tiny)))
    differences: np.ndarray = np.abs(a[finite] - b[finite]).max(axis=1)
    return float((differences / scale).max())


def _seconds(run: Callable[[torch.Tensor], np.ndarray], batch: torch.Tensor) -> float:
    spent = []
    for _ in range(2):
        start = time.perf_counter()
        run(batch)
        spent.append(time.perf_counter() - start)
    return min(spent)


@contextlib.contextmanager
def quiet_translation() -> Iterator[None]:
    """Silence the warnings of translators. Users cannot act on them, and the vectors are compared with torch's."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
