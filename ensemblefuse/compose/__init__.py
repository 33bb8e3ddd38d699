"""The interface from a raw table to a fused model."""

from ensemblefuse.compose._fusion_pipeline import FusionPipeline, make_fusion_pipeline
from ensemblefuse.compose._infer_modalities import infer_modalities
from ensemblefuse.compose._modality_transformer import ModalityTransformer

__all__ = ["FusionPipeline", "ModalityTransformer", "infer_modalities", "make_fusion_pipeline"]
