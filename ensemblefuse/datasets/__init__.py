"""Small data sets: downloaded as packages, made from installed packages, or drawn by a random generator.

The library itself contains no data. Every function returns a `sklearn.utils.Bunch` with ``frame`` (one row per sample),
``target``, and ``DESCR`` (the source of the data, their licence, and what is missing).
"""

from ensemblefuse.datasets._av_digits import load_av_digits
from ensemblefuse.datasets._base import DatasetUnavailableError
from ensemblefuse.datasets._demo import load_demo
from ensemblefuse.datasets._media import make_media
from ensemblefuse.datasets._tux_paint import fetch_tux_paint

__all__ = ["DatasetUnavailableError", "fetch_tux_paint", "load_av_digits", "load_demo", "make_media"]
