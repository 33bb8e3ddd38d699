"""The data set of the demo: the best one that can be had here."""

from __future__ import annotations

from sklearn.utils import Bunch

from ensemblefuse.datasets._av_digits import load_av_digits
from ensemblefuse.datasets._base import DatasetUnavailableError
from ensemblefuse.datasets._tux_paint import fetch_tux_paint


def load_demo(progress: bool = True) -> Bunch:
    """Load the Tux Paint stamps, or the digits where the stamps cannot be fetched.

    Parameters
    ----------
    progress : bool, default=True
        Show bars on stderr.

    Returns
    -------
    Bunch
        As `fetch_tux_paint` or `load_av_digits` returns it, with ``note`` (str): one sentence saying why
        the digits serve, empty for the stamps.
    """
    try:
        return Bunch(**fetch_tux_paint(progress=progress), note="")
    except DatasetUnavailableError as error:
        why = str(error).rstrip(".")
    return Bunch(
        **load_av_digits(progress=progress),
        note=f"These are the digits instead of the Tux Paint stamps: {why}.",
    )
