"""Models in parts (edge boxes that encode, another machine that decides), and privacy of the samples they process."""

from ensemblefuse.deployment._edge import EdgePart
from ensemblefuse.deployment._forget import ForgetReport, forget
from ensemblefuse.deployment._partial_rows import PartialRows
from ensemblefuse.deployment._privacy import privacy_spent
from ensemblefuse.deployment._sent import SentPredictions
from ensemblefuse.deployment._split import SplitModel, check_recipe, split_model

__all__ = [
    "EdgePart",
    "ForgetReport",
    "PartialRows",
    "SentPredictions",
    "SplitModel",
    "check_recipe",
    "forget",
    "privacy_spent",
    "split_model",
]
