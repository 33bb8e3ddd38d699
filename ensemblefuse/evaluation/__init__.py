"""Scores of models side by side, and whether their differences mean anything. Floor 4."""

from ensemblefuse.evaluation._ablation import ModalityAblation, ModalityAblationDisplay, modality_ablation
from ensemblefuse.evaluation._comparison import FusionComparison, FusionComparisonDisplay
from ensemblefuse.evaluation._fusions import compare_fusions
from ensemblefuse.evaluation._models import compare_models, format_comparison, standard_strategies
from ensemblefuse.evaluation._paired import bayesian_ttest, corrected_ttest

__all__ = [
    "FusionComparison",
    "FusionComparisonDisplay",
    "ModalityAblation",
    "ModalityAblationDisplay",
    "bayesian_ttest",
    "compare_fusions",
    "compare_models",
    "corrected_ttest",
    "format_comparison",
    "modality_ablation",
    "standard_strategies",
]
