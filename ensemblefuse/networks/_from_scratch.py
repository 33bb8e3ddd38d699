"""What networks of modalities have in common that are always trained from scratch."""

from __future__ import annotations

from typing import Any

from ensemblefuse.networks._base import CellNetwork

__all__ = ["FromScratch"]


class FromScratch(CellNetwork):
    """A network on cells without a pretrained one: it has no parameters for it."""

    backbone: Any = None
    train: Any = "last"
    lora: int = 0
    n_views: int = 1
    augment: Any

    def _backbone(self) -> None:
        return None
