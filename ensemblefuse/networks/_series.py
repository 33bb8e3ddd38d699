"""Networks on time series, from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ensemblefuse.backbones.column_flow import Reasons
from ensemblefuse.cells.series import GAPS, series_cells
from ensemblefuse.networks._column import Column
from ensemblefuse.networks._from_scratch import FromScratch
from ensemblefuse.networks._kinds import NetworkClassifier, NetworkRegressor
from ensemblefuse.networks._series_reader import SeriesReader, channel_scales
from ensemblefuse.training.settings import require_one_of, require_whole

if TYPE_CHECKING:
    import pandas as pd
    import torch

__all__ = ["SeriesNetworkClassifier", "SeriesNetworkRegressor"]

_WIDTHS, _KERNELS, _DILATIONS = (32, 64, 64), (9, 5, 5), (1, 2, 4)
_REACH = sum((kernel - 1) // 2 * dilation for kernel, dilation in zip(_KERNELS, _DILATIONS, strict=True))


class _OnSeries(FromScratch):
    """What networks on series have of their own."""

    strings_are_paths = False
    gaps: str
    max_length: int

    def _reader(self) -> SeriesReader:
        learned = getattr(self, "channel_means_", None), getattr(self, "channel_scales_", None)
        return SeriesReader(self.augment, self.gaps, self.max_length, _REACH, *learned)

    def _learn_cells(self, column: Column, items: list[Any], weight: np.ndarray) -> None:
        rows = np.flatnonzero(column.present & (weight > 0))
        if not len(rows):
            return
        n_channels = len(items[rows[0]])
        told = f"the number of channels is {{}}, and it is {n_channels} in the first series"
        present = np.flatnonzero(column.present)
        bad = {int(i): told.format(len(items[i])) for i in present if len(items[i]) != n_channels}
        column.note(Reasons(bad))
        rows = rows[column.present[rows]]
        self.channel_means_, self.channel_scales_ = channel_scales([items[i] for i in rows], weight[rows])

    def _new_body(self) -> torch.nn.Module:
        from ensemblefuse.networks._convolutional import SeriesConvolutions

        return SeriesConvolutions(len(self.channel_means_), _WIDTHS, _KERNELS, _DILATIONS)

    def cells(self, frame: pd.DataFrame) -> list[Any]:
        rows = series_cells(frame, type(self).__name__)
        return super().cells(frame) if rows is None else rows

    def _check_modality(self) -> None:
        require_one_of(self, "gaps", GAPS)
        require_whole(self, "max_length")


class SeriesNetworkClassifier(_OnSeries, NetworkClassifier):
    """A convolutional network on time series that learns classes, from scratch.

    Three convolutions over time, each with batch normalisation, then mean and maximum over the samples: it learns which
    shapes occur, wherever they are. With few series, compare it with `TimeSeriesEncoder`, which trains nothing.
    See ``docs/networks.md``.

    Parameters
    ----------
    augment : {"light", "none", "strong"} or callable
        What is done to series in training: noise of 5 or 20 % of the standard deviation of a channel, and a factor
        with a standard deviation of about 10 or 30 %. A callable takes an array of shape (n_channels, n_samples) and a
        `numpy.random.Generator`, and returns such an array.
    gaps : {"refuse", "interpolate"}
        What to do with NaN in a series, as in `TimeSeriesEncoder`.
    max_length : int
        Of a longer series, means of neighbouring samples are read, as many as are needed for this length.
    head : {"refit", "own"}
        As in `ImageNetworkClassifier`.
    n_members : int
        Number of networks, whose log-probabilities are averaged. They are trained one after the other.
    max_epochs : int
    early_stopping : {"auto", True, False}
        As in `ImageNetworkClassifier`.
    cv : int, splitter or iterable of (train, test)
        Folds for early stopping.
    batch_size : int
    learning_rate, weight_decay : float
        Of AdamW.
    schedule : {"cosine", "one_cycle", "plateau", "constant"}
        Learning rate over the epochs.
    class_weight : "balanced" or dict of label to weight, optional
        Multiplied with `sample_weight`.
    time_limit : float, optional
        Seconds of training after which no new epoch begins, as in `ImageNetworkClassifier`.
    on_error : {"raise", "missing"}
        What to do with cells that cannot be read: raise one error that lists all of them, or take them as missing.
    device : str
        Of torch, for training: ``"cpu"``, ``"cuda"``, ``"auto"``. Predictions are made on the CPU.
    random_state : int, RandomState or None
        Seed of weights, batches and augmentation. None is a fixed seed, too.

    Attributes
    ----------
    channel_means_, channel_scales_ : ndarray of shape (n_channels,)
        Mean and standard deviation of each channel over all samples in `fit`, by which series are standardised.
    classes_, state_, plan_, base_, history_, best_epochs_, n_parameters_, temperature_, oof_proba_, prior_, \
trained_on_, n_features_in_, feature_names_in_
        As in `ImageNetworkClassifier`.

    See Also
    --------
    TimeSeriesEncoder : Features of series that are not trained.

    Notes
    -----
    Cells are read as by `TimeSeriesEncoder`: one column of arrays of any length, of shape (n_samples,) or (n_channels,
    n_samples), or a group of numeric columns. A series with another number of channels than the first one is a bad row.

    Beyond an end the convolutions read the other end. So a series that is shifted in a circle has the same prediction.

    References
    ----------
    Z. Wang, W. Yan and T. Oates, Time Series Classification from Scratch with Deep Neural Networks, IJCNN 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import SeriesNetworkClassifier
    >>> waves = [np.sin(np.arange(30 + i) * speed) for i in range(12) for speed in (0.3, 1.5)]
    >>> model = SeriesNetworkClassifier(n_members=1, max_epochs=5).fit(waves, ["slow", "fast"] * 12)
    >>> model.predict([np.sin(1 + np.arange(50) * 1.5)])
    array(['fast'], dtype='<U4')
    """

    def __init__(
        self,
        *,
        augment="light",
        gaps="refuse",
        max_length=1024,
        head="refit",
        n_members=3,
        max_epochs=20,
        early_stopping="auto",
        cv=5,
        batch_size=32,
        learning_rate=3e-3,
        weight_decay=0.01,
        schedule="cosine",
        class_weight=None,
        time_limit=None,
        on_error="raise",
        device="cpu",
        random_state=None,
    ):
        self.augment = augment
        self.gaps = gaps
        self.max_length = max_length
        self.head = head
        self.n_members = n_members
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.cv = cv
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.class_weight = class_weight
        self.time_limit = time_limit
        self.on_error = on_error
        self.device = device
        self.random_state = random_state


class SeriesNetworkRegressor(_OnSeries, NetworkRegressor):
    """A convolutional network on time series that learns numbers, from scratch.

    The target is standardised for training.

    Parameters
    ----------
    augment, gaps, max_length, n_members, max_epochs, cv, batch_size, learning_rate, weight_decay, schedule, \
time_limit, on_error, device, random_state
        As in `SeriesNetworkClassifier`.
    head : {"refit", "own"}
        ``"refit"``: after training, the head becomes a ridge regression on the learned features.
    early_stopping : {"auto", True, False}
        As in `SeriesNetworkClassifier`; the held-out predictions are ``oof_fused_``.

    Attributes
    ----------
    channel_means_, channel_scales_
        As in `SeriesNetworkClassifier`.
    state_, plan_, base_, history_, best_epochs_, n_parameters_, oof_fused_, prior_, target_scale_, trained_on_, \
n_features_in_, feature_names_in_
        As in `ImageNetworkRegressor`.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import SeriesNetworkRegressor
    >>> heights = np.linspace(1, 3, 24)
    >>> waves = [height * np.sin(np.arange(40) * 0.5) for height in heights]
    >>> model = SeriesNetworkRegressor(augment="none", n_members=1, max_epochs=5).fit(waves, heights)
    >>> bool(model.score(waves, heights) > 0.9)
    True
    """

    def __init__(
        self,
        *,
        augment="light",
        gaps="refuse",
        max_length=1024,
        head="refit",
        n_members=3,
        max_epochs=20,
        early_stopping="auto",
        cv=5,
        batch_size=32,
        learning_rate=3e-3,
        weight_decay=0.01,
        schedule="cosine",
        time_limit=None,
        on_error="raise",
        device="cpu",
        random_state=None,
    ):
        self.augment = augment
        self.gaps = gaps
        self.max_length = max_length
        self.head = head
        self.n_members = n_members
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.cv = cv
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.time_limit = time_limit
        self.on_error = on_error
        self.device = device
        self.random_state = random_state
