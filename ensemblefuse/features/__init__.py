"""Transformers for named blocks of numbers."""

from ensemblefuse.features._block_nystroem import BlockNystroem
from ensemblefuse.features._block_pca import BlockPCA
from ensemblefuse.features._block_scaler import BlockScaler
from ensemblefuse.features._common_space import CommonSpaceProjector
from ensemblefuse.features._cross_modal_imputer import CrossModalImputer
from ensemblefuse.features._embedding_noise import EmbeddingNoise
from ensemblefuse.features._modality_dropout import ModalityDropout
from ensemblefuse.features.present_rows import PresentRows

__all__ = [
    "BlockNystroem",
    "BlockPCA",
    "BlockScaler",
    "CommonSpaceProjector",
    "CrossModalImputer",
    "EmbeddingNoise",
    "ModalityDropout",
    "PresentRows",
]
