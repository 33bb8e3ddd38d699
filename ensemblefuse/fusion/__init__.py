"""Fusion estimators: learn from X and y, and see named blocks. Floor 3; knows no files and no encoders."""

from ensemblefuse.fusion._decision import DecisionFusionClassifier, DecisionFusionRegressor
from ensemblefuse.fusion._feature import FeatureFusionClassifier, FeatureFusionRegressor

__all__ = [
    "DecisionFusionClassifier",
    "DecisionFusionRegressor",
    "FeatureFusionClassifier",
    "FeatureFusionRegressor",
]
