"""Encoders: frozen networks and functions that map one cell to one vector. Never imports `fusion`."""

from ensemblefuse.encoders._audio import AudioEncoder
from ensemblefuse.encoders._base import BaseEncoder
from ensemblefuse.encoders._fine_tuned import FineTunedEncoder
from ensemblefuse.encoders._function import FunctionEncoder
from ensemblefuse.encoders._graph import GraphEncoder
from ensemblefuse.encoders._image import ImageEncoder, list_backbones
from ensemblefuse.encoders._precomputed import PrecomputedEncoder
from ensemblefuse.encoders._text import TextEncoder
from ensemblefuse.encoders._time_series import TimeSeriesEncoder
from ensemblefuse.encoders._video import VideoEncoder
from ensemblefuse.encoders._video_sound import VideoSoundEncoder
from ensemblefuse.encoders._word_vector import WordVectorEncoder

__all__ = [
    "AudioEncoder",
    "BaseEncoder",
    "FineTunedEncoder",
    "FunctionEncoder",
    "GraphEncoder",
    "ImageEncoder",
    "PrecomputedEncoder",
    "TextEncoder",
    "TimeSeriesEncoder",
    "VideoEncoder",
    "VideoSoundEncoder",
    "WordVectorEncoder",
    "list_backbones",
]
