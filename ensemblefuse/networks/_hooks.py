"""What a modality, and what a kind of target, define for networks on cells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ensemblefuse.backbones.weights import WeightsSource
from ensemblefuse.networks._column import Column
from ensemblefuse.networks._prefix import Prefix
from ensemblefuse.networks._reader import CellReader

if TYPE_CHECKING:
    import torch

__all__ = ["Backbone", "CellNetworkHooks", "Cut"]


@dataclass(frozen=True)
class Backbone:
    """A pretrained network.

    Attributes
    ----------
    token : dict or None
        JSON that identifies it: the digest of its weights. None if it is the user's own and cannot be hashed.
    stages : callable
        Takes a device, and returns the frozen stages as a list of modules. They are shared within the process.
    sources : callable
        Returns the files of its weights.
    """

    token: dict[str, Any] | None
    stages: Callable[[str], list[torch.nn.Module]]
    sources: Callable[[], list[WeightsSource]]


@dataclass(frozen=True)
class Cut:
    """A pretrained network in two parts; both are empty for a network from scratch.

    Attributes
    ----------
    token : dict or None
        As in `Backbone`.
    frozen, trained : list of modules
        Stages of the network, shared within the process.
    device : str
        Where the stages are.
    """

    token: dict[str, Any] | None
    frozen: list[torch.nn.Module]
    trained: list[torch.nn.Module]
    device: str

    @classmethod
    def of(cls, backbone: Backbone | None, device: str, count: Callable[[int], int]) -> Cut:
        """Cut a network; `count` takes its number of stages, and returns how many of the last ones are trained."""
        if backbone is None:
            return cls({}, [], [], device)
        stages = backbone.stages(device)
        place = len(stages) - count(len(stages))
        return cls(backbone.token, stages[:place], stages[place:], device)

    def prefix(self, reader: CellReader, view: int, batch_size: int) -> Prefix:
        """Return the frozen part as an encoder of one view of the cells."""
        import torch

        token = None if self.token is None else {**self.token, "stages": len(self.frozen)}
        return Prefix(reader, torch.nn.Sequential(*self.frozen), self.device, token, view, batch_size)


class CellNetworkHooks(ABC):
    """The methods that `CellNetwork` calls and does not have."""

    _classify: ClassVar[bool]
    # Whether a str in a cell names a file.
    strings_are_paths: ClassVar[bool]
    learning_rate: Any

    # ------------------------------------------------------------------ what a modality defines

    @abstractmethod
    def _reader(self) -> CellReader:
        """Return how a cell becomes an array, augmented or not, and how arrays become a batch."""

    @abstractmethod
    def _new_body(self) -> torch.nn.Module:
        """Return the small network from scratch, from a batch to features of shape (n, width), without a head.

        It is called on torch's device ``"meta"``; the weights are drawn afterwards, from a seed.
        """

    @abstractmethod
    def _backbone(self) -> Backbone | None:
        """Return the pretrained network that the parameter `backbone` names; None for a network from scratch."""

    @abstractmethod
    def _check_modality(self) -> None:
        """Raise an error for a wrong parameter that only this modality has."""

    def _learn_cells(self, column: Column, items: list[Any], weight: np.ndarray) -> None:  # noqa: B027
        """Set what the reader learns in `fit`, such as words, from cells that were read and have a weight.

        It may also note cells as bad. It is not called where a frozen prefix has read the cells.
        """

    def _rate(self) -> float:
        """Return the learning rate."""
        return float(self.learning_rate)

    # ------------------------------------------------------------------ what a kind defines

    @abstractmethod
    def _read_target(self, y: Any, n_samples: int) -> np.ndarray:
        """Return the target as codes or numbers, after checking it."""

    @abstractmethod
    def _row_weights(self, sample_weight: Any, column: Column, target: np.ndarray) -> np.ndarray | None:
        """Return the weights of the rows, those of their classes included; None if all are 1."""

    @abstractmethod
    def _learn_prior(self, target: np.ndarray, weight: np.ndarray) -> None:
        """Set ``prior_``, the prediction for a missing cell, from the rows that are learned from."""

    @abstractmethod
    def _scaled(self, target: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the target as the network learns it, and its number of classes, 0 for numbers."""

    @abstractmethod
    def _averaged(self, outputs: np.ndarray) -> np.ndarray:
        """Return outputs on the scale on which members are averaged."""

    @abstractmethod
    def _said(self, outputs: np.ndarray) -> np.ndarray:
        """Return the predictions that mean outputs stand for."""

    @abstractmethod
    def _keep_oof(self, outputs: np.ndarray, target: np.ndarray, weight: np.ndarray, used: np.ndarray) -> None:
        """Store what the out-of-fold outputs of the rows that are learned from say."""
