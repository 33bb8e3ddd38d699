"""Where `PresentRows` stood once: files of joblib name this module, and are still read."""

from ensemblefuse.features.present_rows import PresentRows

__all__ = ["PresentRows"]
