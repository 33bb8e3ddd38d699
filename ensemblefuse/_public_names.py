"""Public names: the subpackage that exports each, and the path by which files name it.

Model files and caches of embeddings are read by later versions. So they hold public paths
(``ensemblefuse.ImageEncoder``), never the private module of a class.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["PUBLIC", "current_path", "former_paths", "public_path"]

# Public name -> subpackage or module that exports it. `tests/test_package.py` compares this with each `__all__`.
PUBLIC = {
    "AudioEncoder": "encoders",
    "AudioNetworkClassifier": "networks",
    "AudioNetworkRegressor": "networks",
    "BaseEncoder": "encoders",
    "BasePool": "combine",
    "BlockNystroem": "features",
    "BlockPCA": "features",
    "BlockScaler": "features",
    "CacheWarning": "exceptions",
    "CascadeFusionClassifier": "fusion",
    "ColumnError": "exceptions",
    "CommonSpaceProjector": "features",
    "ConformalFusionClassifier": "fusion",
    "ConformalFusionRegressor": "fusion",
    "CooperativeClassifier": "fusion",
    "CooperativeRegressor": "fusion",
    "CrossModalDistiller": "fusion",
    "CrossModalImputer": "features",
    "CrossModalVAE": "features",
    "DateFeatures": "features",
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
    "FineTunedEncoder": "encoders",
    "ForgetReport": "deployment",
    "FunctionEncoder": "encoders",
    "FusionComparisonDisplay": "evaluation",
    "FusionPipeline": "compose",
    "FusionSearchCV": "fusion",
    "GraphEncoder": "encoders",
    "GreedyPool": "combine",
    "ImageEncoder": "encoders",
    "ImageNetworkClassifier": "networks",
    "ImageNetworkRegressor": "networks",
    "IncompatibleModelError": "exceptions",
    "KernelFusionClassifier": "fusion",
    "KernelFusionRegressor": "fusion",
    "LearningCurve": "evaluation",
    "LearningCurveDisplay": "evaluation",
    "LogPool": "combine",
    "LogTargetRegressor": "fusion",
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
    "NeuralFusionClassifier": "fusion",
    "NeuralFusionMultiTask": "fusion",
    "NeuralFusionRegressor": "fusion",
    "PartExplanation": "inspection",
    "PartialInformation": "inspection",
    "PartialInformationDisplay": "inspection",
    "PartialRows": "deployment",
    "PersistenceError": "exceptions",
    "PrecomputedEncoder": "encoders",
    "PredictionLatencyDisplay": "evaluation",
    "PresentRows": "features",
    "RetrievalReport": "evaluation",
    "RetrievalReportDisplay": "evaluation",
    "RobustnessCurve": "evaluation",
    "RobustnessCurveDisplay": "evaluation",
    "RowExplanation": "inspection",
    "RowExplanationDisplay": "inspection",
    "SentPredictions": "deployment",
    "SequentialFusionClassifier": "fusion",
    "SequentialFusionRegressor": "fusion",
    "SeriesNetworkClassifier": "networks",
    "SeriesNetworkRegressor": "networks",
    "ServerSettings": "serving",
    "SplitModel": "deployment",
    "StackingPool": "combine",
    "StrategyComparison": "evaluation",
    "StrategyComparisonDisplay": "evaluation",
    "StringFeatures": "features",
    "CensoredFeatures": "features",
    "NumberFeatures": "features",
    "TableTransformer": "features",
    "TagFeatures": "features",
    "TextEncoder": "encoders",
    "TextNetworkClassifier": "networks",
    "TextNetworkRegressor": "networks",
    "TimeSeriesEncoder": "encoders",
    "UnseenCategoryWarning": "exceptions",
    "FarNumberWarning": "exceptions",
    "VideoEncoder": "encoders",
    "VideoSoundEncoder": "encoders",
    "VotePool": "combine",
    "WordFeatures": "features",
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
    "export_encoder_onnx": "export",
    "export_onnx": "export",
    "find_near_duplicates": "inspection",
    "find_similar": "inspection",
    "forget": "deployment",
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
    "onnx_support": "export",
    "partial_information": "inspection",
    "prediction_latency": "evaluation",
    "privacy_spent": "deployment",
    "retrieval_report": "evaluation",
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

# Module -> public names that were defined in it when files named modules: model files of formats 1 and 2, and the
# caches of that time. Never add or change an entry, and remove none while such files can still be read.
_FORMER_MODULES = {
    "_config": "config_context get_config set_config",
    "cache._cache": "EmbeddingCache get_cache",
    "combine._base": "BasePool",
    "combine._dempster_shafer_pool": "DempsterShaferPool",
    "combine._entropy_pool": "EntropyPool",
    "combine._greedy_pool": "GreedyPool",
    "combine._log_pool": "LogPool",
    "combine._mean_pool": "MeanPool",
    "combine._stacking_pool": "StackingPool",
    "combine._vote_pool": "VotePool",
    "compose": "ModalityTransformer infer_modalities make_fusion_pipeline",
    "deployment._edge": "EdgePart",
    "deployment._forget": "ForgetReport forget",
    "deployment._partial_rows": "PartialRows",
    "deployment._privacy": "privacy_spent",
    "deployment._sent": "SentPredictions",
    "deployment._split": "SplitModel check_recipe split_model",
    "encoders._audio": "AudioEncoder",
    "encoders._backbones": "list_backbones",
    "encoders._base": "BaseEncoder",
    "encoders._function": "FunctionEncoder",
    "encoders._graph": "GraphEncoder",
    "encoders._image": "ImageEncoder",
    "encoders._precomputed": "PrecomputedEncoder",
    "encoders._text": "TextEncoder",
    "encoders._time_series": "TimeSeriesEncoder",
    "encoders._video": "VideoEncoder",
    "encoders._video_sound": "VideoSoundEncoder",
    "encoders._word_vector": "WordVectorEncoder",
    "evaluation._ablation": "ModalityAblationDisplay modality_ablation",
    "evaluation._comparison": "FusionComparisonDisplay",
    "evaluation._evaluate": "evaluate_model evaluate_predictions",
    "evaluation._evaluation": "ModelEvaluation ModelEvaluationDisplay",
    "evaluation._fusions": "compare_fusions",
    "evaluation._latency": "prediction_latency",
    "evaluation._latency_result": "PredictionLatencyDisplay",
    "evaluation._learning_curve": "LearningCurve LearningCurveDisplay learning_curve",
    "evaluation._metrics": "expected_calibration_error",
    "evaluation._missing_curve": "missing_modality_curve simulate_missing",
    "evaluation._missing_curve_result": "MissingModalityCurveDisplay",
    "evaluation._models": "compare_models format_comparison standard_strategies",
    "evaluation._paired": "bayesian_ttest corrected_ttest",
    "evaluation._robustness": "robustness_curve",
    "evaluation._robustness_display": "RobustnessCurve RobustnessCurveDisplay",
    "evaluation._strategies": "StrategyComparison StrategyComparisonDisplay strategy_comparison",
    "exceptions": "CacheWarning EncodingError IncompatibleModelError MissingModalityWarning PersistenceError",
    "export._encoder": "export_encoder_onnx",
    "export._export": "export_onnx",
    "export._support": "onnx_support",
    "features._block_nystroem": "BlockNystroem",
    "features._block_pca": "BlockPCA",
    "features._block_scaler": "BlockScaler",
    "features._common_space": "CommonSpaceProjector",
    "features._cross_modal_imputer": "CrossModalImputer",
    "features._embedding_noise": "EmbeddingNoise",
    "features._modality_dropout": "ModalityDropout",
    "features._present_rows": "PresentRows",
    "fusion._cascade": "CascadeFusionClassifier",
    "fusion._conformal": "ConformalFusionClassifier ConformalFusionRegressor",
    "fusion._cooperative": "CooperativeClassifier CooperativeRegressor",
    "fusion._decision": "DecisionFusionClassifier DecisionFusionRegressor",
    "fusion._feature": "FeatureFusionClassifier FeatureFusionRegressor",
    "fusion._kernel": "KernelFusionClassifier KernelFusionRegressor",
    "fusion._search": "FusionSearchCV",
    "fusion._sequential": "SequentialFusionClassifier SequentialFusionRegressor",
    "inspection._checks": "model_checks",
    "inspection._errors": "DisagreementClustersDisplay disagreement_clusters",
    "inspection._explain_row": "explain_row",
    "inspection._importance": "ModalityImportance ModalityImportanceDisplay modality_importance",
    "inspection._information": (
        "PartialInformation PartialInformationDisplay modality_information partial_information"
    ),
    "inspection._interactions": "ModalityInteractions ModalityInteractionsDisplay modality_interactions",
    "inspection._near_duplicates": "find_near_duplicates",
    "inspection._part": "PartExplanation",
    "inspection._row_explanation": "RowExplanation RowExplanationDisplay",
    "inspection._shap": "ModalityShap ModalityShapDisplay shap_by_modality",
    "inspection._shapley": "ModalityShapley ModalityShapleyDisplay modality_shapley",
    "inspection._similar": "find_similar",
    "inspection._skore": "skore_checks",
    "persistence._fingerprint": "saw_samples",
    "persistence._mlflow": "mlflow_arguments",
    "persistence._models": "inspect_model load_model save_model",
    "report._card": "model_card",
    "report._write": "write_report",
    "serving._app": "make_app",
    "serving._serve": "serve",
    "serving._settings": "ServerSettings",
}
_FORMER = {
    f"ensemblefuse.{module}.{name}": f"ensemblefuse.{name}"
    for module, names in _FORMER_MODULES.items()
    for name in names.split()
}
_FORMER_OF = {path: former for former, path in _FORMER.items()}
_writes_former: contextvars.ContextVar[bool] = contextvars.ContextVar("_writes_former", default=False)


def public_path(value: Any) -> str:
    """Return the path by which files name a class or function: the public path if there is one, else module and name.

    Parameters
    ----------
    value : class, function, or another object with ``__module__`` and ``__qualname__``

    Examples
    --------
    >>> from ensemblefuse import ImageEncoder
    >>> from ensemblefuse._public_names import public_path
    >>> public_path(ImageEncoder)
    'ensemblefuse.ImageEncoder'
    """
    name = value.__qualname__
    # If the value exists, its subpackage is imported: Python imports a package before the modules in it.
    room = sys.modules.get(f"ensemblefuse.{PUBLIC.get(name)}")
    if room is None or getattr(room, name, None) is not value:
        return f"{value.__module__}.{name}"
    path = f"ensemblefuse.{name}"
    return _FORMER_OF.get(path, path) if _writes_former.get() else path


def current_path(path: str) -> str:
    """Return the public path for a path in a file of version 0.1.0; return any other path unchanged.

    Examples
    --------
    >>> from ensemblefuse._public_names import current_path
    >>> current_path("ensemblefuse.encoders._image.ImageEncoder")
    'ensemblefuse.ImageEncoder'
    """
    return _FORMER.get(path, path)


@contextlib.contextmanager
def former_paths() -> Iterator[None]:
    """Make `public_path` return the paths of version 0.1.0, to find what that version left on disk."""
    token = _writes_former.set(True)
    try:
        yield
    finally:
        _writes_former.reset(token)
