"""Explanations and checks of fitted models."""

from ensemblefuse.inspection._checks import model_checks
from ensemblefuse.inspection._checks_data import Finding, ModelChecks
from ensemblefuse.inspection._disagreement_clusters import (
    DisagreementClusters,
    DisagreementClustersDisplay,
    disagreement_clusters,
)
from ensemblefuse.inspection._explain_row import explain_row
from ensemblefuse.inspection._modality_importance import (
    ModalityImportance,
    ModalityImportanceDisplay,
    modality_importance,
)
from ensemblefuse.inspection._modality_information import (
    PartialInformation,
    PartialInformationDisplay,
    modality_information,
    partial_information,
)
from ensemblefuse.inspection._modality_interactions import (
    ModalityInteractions,
    ModalityInteractionsDisplay,
    modality_interactions,
)
from ensemblefuse.inspection._modality_shapley import ModalityShapley, ModalityShapleyDisplay, modality_shapley
from ensemblefuse.inspection._near_duplicates import NearDuplicates, find_near_duplicates
from ensemblefuse.inspection._part_explanation import PartExplanation
from ensemblefuse.inspection._row_explanation import RowExplanation, RowExplanationDisplay
from ensemblefuse.inspection._shap_by_modality import ModalityShap, ModalityShapDisplay, shap_by_modality
from ensemblefuse.inspection._similar import SimilarRows, find_similar
from ensemblefuse.inspection._skore import skore_checks

__all__ = [
    "DisagreementClusters",
    "DisagreementClustersDisplay",
    "Finding",
    "ModalityImportance",
    "ModalityImportanceDisplay",
    "ModalityInteractions",
    "ModalityInteractionsDisplay",
    "ModalityShap",
    "ModalityShapDisplay",
    "ModalityShapley",
    "ModalityShapleyDisplay",
    "ModelChecks",
    "NearDuplicates",
    "PartExplanation",
    "PartialInformation",
    "PartialInformationDisplay",
    "RowExplanation",
    "RowExplanationDisplay",
    "SimilarRows",
    "disagreement_clusters",
    "explain_row",
    "find_near_duplicates",
    "find_similar",
    "modality_importance",
    "modality_information",
    "modality_interactions",
    "modality_shapley",
    "model_checks",
    "partial_information",
    "shap_by_modality",
    "skore_checks",
]
