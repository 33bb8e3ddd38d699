"""Scores of models side by side, and whether their differences mean anything. Floor 4."""

from ensemblefuse.evaluation._models import compare_models, format_comparison, standard_strategies

__all__ = ["compare_models", "format_comparison", "standard_strategies"]
