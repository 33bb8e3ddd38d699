"""Transformers for named blocks of numbers, and for the columns of a table."""

from ensemblefuse.features._block_nystroem import BlockNystroem
from ensemblefuse.features._block_pca import BlockPCA
from ensemblefuse.features._block_scaler import BlockScaler
from ensemblefuse.features._common_space import CommonSpaceProjector
from ensemblefuse.features._cross_modal_imputer import CrossModalImputer
from ensemblefuse.features._cross_modal_vae import CrossModalVAE
from ensemblefuse.features._date_features import DateFeatures
from ensemblefuse.features._embedding_noise import EmbeddingNoise
from ensemblefuse.features._modality_dropout import ModalityDropout
from ensemblefuse.features._string_features import StringFeatures
from ensemblefuse.features._table_transformer import TableTransformer
from ensemblefuse.features._tag_features import TagFeatures
from ensemblefuse.features._tuple_features import CensoredFeatures, NumberFeatures
from ensemblefuse.features.present_rows import PresentRows
from ensemblefuse.features.word_features import WordFeatures

__all__ = [
    "BlockNystroem",
    "BlockPCA",
    "BlockScaler",
    "CensoredFeatures",
    "CommonSpaceProjector",
    "CrossModalImputer",
    "CrossModalVAE",
    "DateFeatures",
    "EmbeddingNoise",
    "ModalityDropout",
    "NumberFeatures",
    "PresentRows",
    "StringFeatures",
    "TableTransformer",
    "TagFeatures",
    "WordFeatures",
]
