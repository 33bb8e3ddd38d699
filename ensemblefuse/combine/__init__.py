"""Combiners: from the predictions of several members to one. Floor 2. Small objects, usable alone."""

from ensemblefuse.combine._base import BasePool
from ensemblefuse.combine._log_pool import LogPool, shift_prior
from ensemblefuse.combine._mean_pool import MeanPool
from ensemblefuse.combine._stacking_pool import StackingPool
from ensemblefuse.combine._temperature import apply_temperature, fit_temperature
from ensemblefuse.combine._vote_pool import VotePool

__all__ = [
    "BasePool",
    "LogPool",
    "MeanPool",
    "StackingPool",
    "VotePool",
    "apply_temperature",
    "fit_temperature",
    "shift_prior",
]
