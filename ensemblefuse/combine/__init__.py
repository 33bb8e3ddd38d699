"""Combiners, which join the predictions of several members into one. They can be used on their own."""

from ensemblefuse.combine._base import BasePool
from ensemblefuse.combine._dempster_shafer_pool import DempsterShaferPool
from ensemblefuse.combine._entropy_pool import EntropyPool
from ensemblefuse.combine._greedy_pool import GreedyPool
from ensemblefuse.combine._log_pool import LogPool, shift_prior
from ensemblefuse.combine._mean_pool import MeanPool
from ensemblefuse.combine._sigmoid import apply_sigmoid, fit_sigmoid
from ensemblefuse.combine._stacking_pool import StackingPool
from ensemblefuse.combine._temperature import apply_temperature, fit_temperature, smooth_temperature
from ensemblefuse.combine._vote_pool import VotePool

__all__ = [
    "BasePool",
    "DempsterShaferPool",
    "EntropyPool",
    "GreedyPool",
    "LogPool",
    "MeanPool",
    "StackingPool",
    "VotePool",
    "apply_sigmoid",
    "apply_temperature",
    "fit_sigmoid",
    "fit_temperature",
    "shift_prior",
    "smooth_temperature",
]
