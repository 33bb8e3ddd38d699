"""Scores of models, comparisons of models, and tests of their differences."""

from ensemblefuse.evaluation._compare_fusions import compare_fusions
from ensemblefuse.evaluation._compare_models import compare_models, format_comparison, standard_strategies
from ensemblefuse.evaluation._evaluate_model import evaluate_model, evaluate_predictions
from ensemblefuse.evaluation._fusion_comparison import FusionComparison, FusionComparisonDisplay
from ensemblefuse.evaluation._latency import prediction_latency
from ensemblefuse.evaluation._latency_result import PredictionLatency, PredictionLatencyDisplay
from ensemblefuse.evaluation._learning_curve import LearningCurve, LearningCurveDisplay, learning_curve
from ensemblefuse.evaluation._metrics import expected_calibration_error
from ensemblefuse.evaluation._missing_curve import missing_modality_curve, simulate_missing
from ensemblefuse.evaluation._missing_curve_result import MissingModalityCurve, MissingModalityCurveDisplay
from ensemblefuse.evaluation._modality_ablation import ModalityAblation, ModalityAblationDisplay, modality_ablation
from ensemblefuse.evaluation._model_evaluation import ModelEvaluation, ModelEvaluationDisplay
from ensemblefuse.evaluation._paired_tests import bayesian_ttest, corrected_ttest
from ensemblefuse.evaluation._retrieval import retrieval_report
from ensemblefuse.evaluation._retrieval_result import RetrievalReport, RetrievalReportDisplay
from ensemblefuse.evaluation._robustness import robustness_curve
from ensemblefuse.evaluation._robustness_result import RobustnessCurve, RobustnessCurveDisplay
from ensemblefuse.evaluation._strategy_comparison import (
    StrategyComparison,
    StrategyComparisonDisplay,
    strategy_comparison,
)

__all__ = [
    "FusionComparison",
    "FusionComparisonDisplay",
    "LearningCurve",
    "LearningCurveDisplay",
    "MissingModalityCurve",
    "MissingModalityCurveDisplay",
    "ModalityAblation",
    "ModalityAblationDisplay",
    "ModelEvaluation",
    "ModelEvaluationDisplay",
    "PredictionLatency",
    "PredictionLatencyDisplay",
    "RetrievalReport",
    "RetrievalReportDisplay",
    "RobustnessCurve",
    "RobustnessCurveDisplay",
    "StrategyComparison",
    "StrategyComparisonDisplay",
    "bayesian_ttest",
    "compare_fusions",
    "compare_models",
    "corrected_ttest",
    "evaluate_model",
    "evaluate_predictions",
    "expected_calibration_error",
    "format_comparison",
    "learning_curve",
    "missing_modality_curve",
    "modality_ablation",
    "prediction_latency",
    "retrieval_report",
    "robustness_curve",
    "simulate_missing",
    "standard_strategies",
    "strategy_comparison",
]
