"""Fusion estimators, which learn from X, y and named blocks. No files and no encoders here."""

from ensemblefuse.fusion._cascade import CascadeFusionClassifier
from ensemblefuse.fusion._conformal import ConformalFusionClassifier, ConformalFusionRegressor
from ensemblefuse.fusion._cooperative import CooperativeClassifier, CooperativeRegressor
from ensemblefuse.fusion._decision import DecisionFusionClassifier, DecisionFusionRegressor
from ensemblefuse.fusion._distiller import CrossModalDistiller
from ensemblefuse.fusion._feature import FeatureFusionClassifier, FeatureFusionRegressor
from ensemblefuse.fusion._kernel import KernelFusionClassifier, KernelFusionRegressor
from ensemblefuse.fusion._log_target import LogTargetRegressor
from ensemblefuse.fusion._neural import NeuralFusionClassifier, NeuralFusionRegressor
from ensemblefuse.fusion._neural_multitask import NeuralFusionMultiTask
from ensemblefuse.fusion._search import FusionSearchCV
from ensemblefuse.fusion._sequential import SequentialFusionClassifier, SequentialFusionRegressor

__all__ = [
    "CascadeFusionClassifier",
    "ConformalFusionClassifier",
    "ConformalFusionRegressor",
    "CooperativeClassifier",
    "CooperativeRegressor",
    "CrossModalDistiller",
    "DecisionFusionClassifier",
    "DecisionFusionRegressor",
    "FeatureFusionClassifier",
    "FeatureFusionRegressor",
    "FusionSearchCV",
    "KernelFusionClassifier",
    "KernelFusionRegressor",
    "LogTargetRegressor",
    "NeuralFusionClassifier",
    "NeuralFusionMultiTask",
    "NeuralFusionRegressor",
    "SequentialFusionClassifier",
    "SequentialFusionRegressor",
]
