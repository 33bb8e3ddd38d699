"""Fuse images, texts, sounds and numbers with scikit-learn estimators over frozen deep encoders.

The public names are loaded when they are first used, so that ``import ensemblefuse`` loads no network library.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> module. One line a name; `tests/test_package.py` holds this list to the modules' own `__all__`.
_PUBLIC = {
    "AudioEncoder": "encoders",
    "BaseEncoder": "encoders",
    "BasePool": "combine",
    "BlockNystroem": "features",
    "BlockPCA": "features",
    "BlockScaler": "features",
    "CacheWarning": "exceptions",
    "CascadeFusionClassifier": "fusion",
    "CommonSpaceProjector": "features",
    "ConformalFusionClassifier": "fusion",
    "ConformalFusionRegressor": "fusion",
    "CooperativeClassifier": "fusion",
    "CooperativeRegressor": "fusion",
    "CrossModalImputer": "features",
    "DecisionFusionClassifier": "fusion",
    "DecisionFusionRegressor": "fusion",
    "DempsterShaferPool": "combine",
    "DisagreementClustersDisplay": "inspection",
    "EdgePart": "deployment",
    "EmbeddingCache": "cache",
    "EmbeddingNoise": "features",
    "EncodingError": "exceptions",
    "EntropyPool": "combine",
    "FeatureFusionClassifier": "fusion",
    "FeatureFusionRegressor": "fusion",
    "FunctionEncoder": "encoders",
    "FusionComparisonDisplay": "evaluation",
    "FusionSearchCV": "fusion",
    "GraphEncoder": "encoders",
    "GreedyPool": "combine",
    "ImageEncoder": "encoders",
    "IncompatibleModelError": "exceptions",
    "KernelFusionClassifier": "fusion",
    "KernelFusionRegressor": "fusion",
    "LearningCurve": "evaluation",
    "LearningCurveDisplay": "evaluation",
    "LogPool": "combine",
    "MeanPool": "combine",
    "MissingModalityCurveDisplay": "evaluation",
    "MissingModalityWarning": "exceptions",
    "ModalityAblationDisplay": "evaluation",
    "ModalityDropout": "features",
    "ModalityImportance": "inspection",
    "ModalityImportanceDisplay": "inspection",
    "ModalityInteractions": "inspection",
    "ModalityInteractionsDisplay": "inspection",
    "ModalityShap": "inspection",
    "ModalityShapDisplay": "inspection",
    "ModalityShapley": "inspection",
    "ModalityShapleyDisplay": "inspection",
    "ModalityTransformer": "compose",
    "ModelEvaluation": "evaluation",
    "ModelEvaluationDisplay": "evaluation",
    "PartExplanation": "inspection",
    "PartialInformation": "inspection",
    "PartialInformationDisplay": "inspection",
    "PersistenceError": "exceptions",
    "PrecomputedEncoder": "encoders",
    "PredictionLatencyDisplay": "evaluation",
    "PresentRows": "features",
    "RobustnessCurve": "evaluation",
    "RobustnessCurveDisplay": "evaluation",
    "RowExplanation": "inspection",
    "RowExplanationDisplay": "inspection",
    "SentPredictions": "deployment",
    "SequentialFusionClassifier": "fusion",
    "SequentialFusionRegressor": "fusion",
    "ServerSettings": "serving",
    "SplitModel": "deployment",
    "StackingPool": "combine",
    "StrategyComparison": "evaluation",
    "StrategyComparisonDisplay": "evaluation",
    "TextEncoder": "encoders",
    "TimeSeriesEncoder": "encoders",
    "VideoEncoder": "encoders",
    "VideoSoundEncoder": "encoders",
    "VotePool": "combine",
    "WordVectorEncoder": "encoders",
    "bayesian_ttest": "evaluation",
    "check_recipe": "deployment",
    "compare_fusions": "evaluation",
    "compare_models": "evaluation",
    "config_context": "_config",
    "corrected_ttest": "evaluation",
    "disagreement_clusters": "inspection",
    "evaluate_model": "evaluation",
    "evaluate_predictions": "evaluation",
    "expected_calibration_error": "evaluation",
    "explain_row": "inspection",
    "find_near_duplicates": "inspection",
    "find_similar": "inspection",
    "format_comparison": "evaluation",
    "get_cache": "cache",
    "get_config": "_config",
    "infer_modalities": "compose",
    "inspect_model": "persistence",
    "learning_curve": "evaluation",
    "list_backbones": "encoders",
    "load_model": "persistence",
    "make_app": "serving",
    "make_fusion_pipeline": "compose",
    "missing_modality_curve": "evaluation",
    "mlflow_arguments": "persistence",
    "modality_ablation": "evaluation",
    "modality_importance": "inspection",
    "modality_information": "inspection",
    "modality_interactions": "inspection",
    "modality_shapley": "inspection",
    "model_card": "report",
    "model_checks": "inspection",
    "partial_information": "inspection",
    "prediction_latency": "evaluation",
    "robustness_curve": "evaluation",
    "save_model": "persistence",
    "saw_samples": "persistence",
    "serve": "serving",
    "set_config": "_config",
    "shap_by_modality": "inspection",
    "simulate_missing": "evaluation",
    "skore_checks": "inspection",
    "split_model": "deployment",
    "standard_strategies": "evaluation",
    "strategy_comparison": "evaluation",
    "write_report": "report",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'ensemblefuse' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"ensemblefuse.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
