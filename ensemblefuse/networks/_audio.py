"""Networks on sounds, from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ensemblefuse.networks._from_scratch import FromScratch
from ensemblefuse.networks._kinds import NetworkClassifier, NetworkRegressor
from ensemblefuse.networks._sound_reader import SoundReader
from ensemblefuse.training.settings import require_number

if TYPE_CHECKING:
    import torch

__all__ = ["AudioNetworkClassifier", "AudioNetworkRegressor"]

_WIDTHS = (16, 32, 64, 64)


class _OnSounds(FromScratch):
    """What networks on sounds have of their own."""

    strings_are_paths = SoundReader.strings_are_paths
    max_seconds: float

    def _reader(self) -> SoundReader:
        return SoundReader(self.augment, float(self.max_seconds))

    def _new_body(self) -> torch.nn.Module:
        from ensemblefuse.networks._convolutional import SoundConvolutions

        return SoundConvolutions(_WIDTHS)

    def _check_modality(self) -> None:
        require_number(self, "max_seconds", above=0)


class AudioNetworkClassifier(_OnSounds, NetworkClassifier):
    """A convolutional network on the spectrograms of sounds that learns classes, from scratch.

    Four convolutions over time and frequency, each with batch normalisation and pooling, the mean over the frequencies,
    then mean and maximum over time. With few sounds, compare it with `AudioEncoder`.

    Parameters
    ----------
    augment : {"light", "none", "strong"} or callable
        What is done to spectrograms in training: they are shifted in time in a circle, and a band of up to 8
        frequencies and a piece of up to a tenth of the time are set to the mean (SpecAugment); with ``"strong"`` two
        bands and pieces of up to twice the size. A callable takes an array of shape (n_frames, 64) and a
        `numpy.random.Generator`, and returns such an array.
    max_seconds : float
        Of a longer sound, the beginning is read.
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
    classes_, state_, plan_, base_, history_, best_epochs_, n_parameters_, temperature_, oof_proba_, prior_, \
trained_on_, n_features_in_, feature_names_in_
        As in `ImageNetworkClassifier`.

    See Also
    --------
    AudioEncoder : Pretrained networks, frozen.

    Notes
    -----
    Cells are read as by `AudioEncoder`, at 16 kHz. The spectrogram is Whisper's: the logarithm of 64 mel bands, one
    frame in 10 ms, at most 80 dB below the loudest point.

    References
    ----------
    D. Park et al., SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition, Interspeech 2019;
    A. Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision, ICML 2023 (spectrogram).

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import AudioNetworkClassifier
    >>> time = np.arange(4000) / 16000
    >>> tones = [np.sin(2 * np.pi * pitch * time * (1 + i / 50)) for i in range(8) for pitch in (300, 2000)]
    >>> model = AudioNetworkClassifier(n_members=1, max_epochs=4).fit(tones, ["low", "high"] * 8)
    >>> model.predict([np.sin(2 * np.pi * 320 * time)])
    array(['low'], dtype='<U4')
    """

    def __init__(
        self,
        *,
        augment="light",
        max_seconds=10.0,
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
        self.max_seconds = max_seconds
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


class AudioNetworkRegressor(_OnSounds, NetworkRegressor):
    """A convolutional network on the spectrograms of sounds that learns numbers, from scratch.

    The target is standardised for training.

    Parameters
    ----------
    augment, max_seconds, n_members, max_epochs, cv, batch_size, learning_rate, weight_decay, schedule, time_limit, \
on_error, device, random_state
        As in `AudioNetworkClassifier`.
    head : {"refit", "own"}
        ``"refit"``: after training, the head becomes a ridge regression on the learned features.
    early_stopping : {"auto", True, False}
        As in `AudioNetworkClassifier`; the held-out predictions are ``oof_fused_``.

    Attributes
    ----------
    state_, plan_, base_, history_, best_epochs_, n_parameters_, oof_fused_, prior_, target_scale_, trained_on_, \
n_features_in_, feature_names_in_
        As in `ImageNetworkRegressor`.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import AudioNetworkRegressor
    >>> time, pitches = np.arange(4000) / 16000, np.linspace(300, 3000, 20)
    >>> tones = [np.sin(2 * np.pi * pitch * time) for pitch in pitches]
    >>> model = AudioNetworkRegressor(augment="none", n_members=1, max_epochs=4).fit(tones, pitches)
    >>> bool(model.score(tones, pitches) > 0.9)
    True
    """

    def __init__(
        self,
        *,
        augment="light",
        max_seconds=10.0,
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
        self.max_seconds = max_seconds
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
