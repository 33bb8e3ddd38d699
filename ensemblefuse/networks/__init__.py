"""Networks that are trained on raw cells, as classifiers and regressors. Never imports `encoders`."""

from ensemblefuse.networks._audio import AudioNetworkClassifier, AudioNetworkRegressor
from ensemblefuse.networks._image import ImageNetworkClassifier, ImageNetworkRegressor
from ensemblefuse.networks._series import SeriesNetworkClassifier, SeriesNetworkRegressor
from ensemblefuse.networks._text import TextNetworkClassifier, TextNetworkRegressor

__all__ = [
    "AudioNetworkClassifier",
    "AudioNetworkRegressor",
    "ImageNetworkClassifier",
    "ImageNetworkRegressor",
    "SeriesNetworkClassifier",
    "SeriesNetworkRegressor",
    "TextNetworkClassifier",
    "TextNetworkRegressor",
]
