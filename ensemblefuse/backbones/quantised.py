"""Networks with 8-bit weights in ONNX Runtime: made on this machine, kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse._writing import write_atomically
from ensemblefuse.backbones.forward import BackendError, quiet_translation, run_onnx, to_onnx
from ensemblefuse.backbones.weights import bundle_folder
from ensemblefuse.exceptions import CacheWarning

if TYPE_CHECKING:
    import torch

__all__ = ["Int8Forward", "int8_onnx", "kept"]

# Version of the way in which files are made. With a new version, all files are made again.
_VERSION = 1
# Largest share of convolution weights with which a network is quantised.
_MOST_CONVOLVED = 0.5


class Int8Forward:
    """A frozen network with 8-bit weights, as a function from a batch of tensors to vectors; see `Forward`.

    Each row goes through the network alone. ONNX Runtime scales the input of a layer by the range of the whole batch,
    so other rows, or padding, would change the vector of a row.

    Parameters
    ----------
    network : torch.nn.Module
        In `eval()` mode, in float32, on the CPU. It takes one tensor and returns one of shape (n, n_dims).
    token : str or None
        Digest of the weights and of all else that the network depends on. With None, no file is kept.
    needed_by : str
        The class that the user called, for the messages.

    Raises
    ------
    BackendError
        When called, if most of the weights belong to convolutions.
    """

    devices = ("cpu",)
    backend = "onnxruntime"
    precision = "int8"

    def __init__(self, network: torch.nn.Module, token: str | None, *, needed_by: str):
        self._network, self._token, self._needed_by = network, token, needed_by
        self._runs: dict[tuple[int, ...], Callable[[Any], np.ndarray]] = {}
        self._lock = threading.Lock()

    def __call__(self, batch: torch.Tensor) -> np.ndarray:
        shape = tuple(batch.shape[1:])
        with self._lock:
            if shape not in self._runs:
                self._runs[shape] = run_onnx(self.onnx(batch))
        return np.concatenate([self._runs[shape](row[None]) for row in batch])

    def onnx(self, batch: torch.Tensor) -> bytes:
        """Return the quantised network, as ONNX, for items of the same shape as in `batch`."""
        key = None if self._token is None else f"{self._token} {tuple(batch.shape[1:])}"
        example = batch[:1].repeat(2, *[1] * (batch.ndim - 1))

        def make() -> bytes:
            with quiet_translation():
                return to_onnx(self._network, example)

        return kept(lambda: int8_onnx(make(), needed_by=self._needed_by), key)


def int8_onnx(model: bytes, *, needed_by: str) -> bytes:
    """Quantise the matrices and word tables of a float32 network to 8 bits per number, with one scale per column.

    Raises
    ------
    BackendError
        If most of the weights belong to convolutions. Their channels have different ranges, and one scale for all loses
        the narrow ones: EfficientNet-Lite0's vectors of digits had a median cosine of 0.29 with float32's, and took 3.3
        times as long (benchmarks/quantised.py).
    """
    onnx = import_optional("onnx", extra="onnx", needed_by=needed_by)
    quantization = import_optional("onnxruntime.quantization", extra="onnx", needed_by=needed_by)
    network = onnx.load_from_string(model)
    share = _share_of_convolutions(network)
    if share > _MOST_CONVOLVED:
        raise BackendError(
            f'{needed_by}: precision="int8" is for transformers; {share:.0%} of the weights of this network belong to '
            'convolutions, and its vectors would differ too much. Pass precision="float32", with '
            'backend="onnxruntime" if speed matters.'
        )
    with tempfile.TemporaryDirectory() as scratch, quiet_translation():
        source, target = Path(scratch) / "float32.onnx", Path(scratch) / "int8.onnx"
        quantization.quant_utils.add_pre_process_metadata(network)  # otherwise it warns through the root logger
        onnx.save(network, source)
        quantization.quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            # 7 bits: processors without VNNI add two products in 16 bits, and products of 8 bits would overflow.
            reduce_range=True,
            weight_type=quantization.QuantType.QInt8,
        )
        return target.read_bytes()


def kept(make: Callable[[], bytes], key: str | None) -> bytes:
    """Return the result of `make`, or an undamaged copy in the user's cache folder. With key None, keep no copy."""
    if key is None:
        return make()
    import onnxruntime

    names = json.dumps([_VERSION, onnxruntime.__version__, key])
    stem = hashlib.sha256(names.encode()).hexdigest()[:32]
    folder = bundle_folder() / "int8"
    for path in folder.glob(f"{stem}-*.onnx") if folder.is_dir() else ():
        data = path.read_bytes()
        if path.name == _name(stem, data):
            return data
        with contextlib.suppress(OSError):  # the folder may be read-only
            path.unlink()  # damaged
    data = make()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / _name(stem, data), data)
    except OSError as error:
        warnings.warn(f"An 8-bit network is not kept for the next time ({error}).", CacheWarning, stacklevel=2)
    return data


def _name(stem: str, data: bytes) -> str:
    return f"{stem}-{hashlib.sha256(data).hexdigest()[:32]}.onnx"


def _share_of_convolutions(model: Any) -> float:
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    convolved = sum(sizes.get(name, 0) for node in model.graph.node if node.op_type == "Conv" for name in node.input)
    return convolved / max(sum(sizes.values()), 1)
