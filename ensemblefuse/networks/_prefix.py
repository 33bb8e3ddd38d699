"""The frozen first part of a network, as an encoder of cells whose vectors are in the embedding cache."""

from __future__ import annotations

import math
from collections.abc import Hashable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemblefuse.backbones.forward import EXACT
from ensemblefuse.cache.code_digests import cell_digest
from ensemblefuse.networks._reader import CellReader

if TYPE_CHECKING:
    import torch

__all__ = ["Prefix", "run_frozen"]

# As in encoders: small batches stay in the processor's cache.
_CHUNK = 4


def run_frozen(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...], device: str) -> np.ndarray:
    """Return what a frozen network makes of a batch, in single precision, whatever precision the user has set."""
    import torch

    kind = device.partition(":")[0]
    size = _CHUNK if kind == "cpu" else len(inputs[0])
    chunks = zip(*(part.split(size) for part in inputs), strict=True)
    exact = EXACT if kind == "cuda" else nullcontext()
    with exact, torch.inference_mode(), torch.autocast(kind, enabled=False):
        return torch.cat([network(*(part.to(device) for part in chunk)).float().cpu() for chunk in chunks]).numpy()


class Prefix:
    """A frozen network and one view of the cells. It has the interface of an encoder; see `column_flow.CellEncoder`.

    Parameters
    ----------
    reader : CellReader
    network : torch.nn.Module
        In `eval()` mode, without gradients, on the device.
    device : str
    token : dict or None
        What identifies the network and the cut, as JSON. None if it cannot be hashed: then nothing is cached.
    view : int
        0 is the cell as it is. Other views are augmented, by a seed from the cell's content and the view.
    batch_size : int
    """

    loads_in_threads = True

    def __init__(
        self, reader: CellReader, network: Any, device: str, token: dict[str, Any] | None, view: int, batch_size: int
    ):
        self.reader, self.network, self.device = reader, network, device
        self.token, self.view, self.batch_size = token, view, batch_size
        self.strings_are_paths = reader.strings_are_paths
        self.group: Hashable = None
        self.shape: tuple[int, ...] = ()

    def groups(self, cells: list[Any]) -> dict[Hashable, list[int]]:
        """Return the positions of the cells of which this makes arrays of one shape."""
        found: dict[Hashable, list[int]] = {}
        for place, cell in enumerate(cells):
            try:
                key = self.reader.group(cell)
            except Exception:  # a bad cell: `load` gives the reason
                key = None
            found.setdefault(key, []).append(place)
        return found

    def recipe(self) -> dict[str, Any] | None:
        """Return all that a vector depends on besides the cell. It holds no number of views and no fold."""
        words = self.reader.words()
        if words is None or self.token is None:
            return None
        params = {**words, **self.token, "view": self.view}
        if self.group is not None:
            params["group"] = self.group
        if self.view:
            params["augment"] = self.reader.augmentation()
            if params["augment"] is None:
                return None
        return {"class": "prefix of a network", "version": 1, "params": params}

    def load(self, cell: Any) -> np.ndarray:
        """Return the array of a cell in this view."""
        item = self.reader.load(cell)
        if not self.view:
            return self.reader.array(item)
        key = cell_digest(cell, strings_are_paths=self.strings_are_paths)
        return self.reader.array(item, np.random.default_rng([self.view, *key]))

    def encode_batch(self, items: list[np.ndarray]) -> np.ndarray:
        """Run the network on some arrays; return one vector for each, and remember the shape of what it stands for."""
        out = run_frozen(self.network, self.reader.join(items, after_prefix=False), self.device)
        self.shape = out.shape[1:]
        return out.reshape(len(out), -1)

    def shaped(self, vector: np.ndarray, cell: Any) -> np.ndarray:
        """Return a vector in the shape that the network gave it. If all came from the cache, a cell tells the shape."""
        if math.prod(self.shape) != vector.size or not self.shape:
            join = self.reader.join([self.load(cell)], after_prefix=False)
            self.shape = run_frozen(self.network, join, self.device).shape[1:]
        return vector.reshape(self.shape)

    def prepare(self) -> None:
        """Do nothing: the network is there."""

    def probe(self, cell: Any) -> None:
        """Let all cells pass, as the network is there."""

    def place(self) -> str:
        """Return the device, which is printed before the encoding."""
        return self.device

    def _batch_size(self) -> int:
        return self.batch_size
