"""Transformers of named blocks of numbers. Floor 2."""

from ensemblefuse.features._block_scaler import BlockScaler
from ensemblefuse.features._present_rows import PresentRows

__all__ = ["BlockScaler", "PresentRows"]
