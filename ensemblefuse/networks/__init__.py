"""Networks that are trained on raw cells, as classifiers and regressors. Never imports `encoders`."""

from ensemblefuse.networks._image import ImageNetworkClassifier, ImageNetworkRegressor

__all__ = ["ImageNetworkClassifier", "ImageNetworkRegressor"]
