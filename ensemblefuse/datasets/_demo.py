"""Data set of the demo: the best one that is available on this machine."""

from __future__ import annotations

from sklearn.utils import Bunch

from ensemblefuse.datasets._av_digits import load_av_digits
from ensemblefuse.datasets._base import DatasetUnavailableError
from ensemblefuse.datasets._tux_paint import fetch_tux_paint


def load_demo(progress: bool = True) -> Bunch:
    """Load the Tux Paint stamps, or the digits if the stamps cannot be downloaded.

    Parameters
    ----------
    progress : bool, default=True
        Show bars on stderr.

    Returns
    -------
    Bunch
        Result of `fetch_tux_paint` or `load_av_digits`, with ``note`` (str): one sentence on why the digits
        are used, empty for the stamps.
    """
    try:
        return Bunch(**fetch_tux_paint(progress=progress), note="")
    except DatasetUnavailableError as error:
        why = str(error).rstrip(".")
    return Bunch(
        **load_av_digits(progress=progress),
        note=f"These are the digits instead of the Tux Paint stamps: {why}.",
    )
