"""What a fitted model has learned, and why it says what it says. Floor 4."""

from ensemblefuse.inspection._shapley import ModalityShapley, ModalityShapleyDisplay, modality_shapley

__all__ = [
    "ModalityShapley",
    "ModalityShapleyDisplay",
    "modality_shapley",
]
