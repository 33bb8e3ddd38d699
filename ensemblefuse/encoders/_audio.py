"""Sounds to vectors with a frozen network, or with plain statistics. Floor 2; never imports `fusion`."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse.encoders._base import BaseEncoder
from ensemblefuse.encoders._librosa_features import librosa_features
from ensemblefuse.encoders._sound_cell import read_mono
from ensemblefuse.encoders._torch import shared_network
from ensemblefuse.encoders._weights import folder_digest, packaged_path
from ensemblefuse.encoders._whisper import SAMPLE_RATE, build_whisper, pool_frames

__all__ = ["AudioEncoder"]

_NEEDED_BY = "AudioEncoder"
_PACKAGED_AUDIO_MODELS = ("whisper-tiny.en",)
_FEATURES = ("librosa",)


class AudioEncoder(BaseEncoder):
    """Embed sounds with the encoder of a speech recogniser, or with librosa's statistics. Fitting trains nothing.

    The embedding of a Whisper model is the mean and the standard deviation over time of its encoder's frames (20 ms
    each). A sound is filled up with silence to the next whole second, and only its own frames are pooled, so that it
    has one vector whatever else is in the batch. A sound of over 30 s is read in windows of 30 s, pooled together.

    Parameters
    ----------
    model : str or path, default="whisper-tiny.en"
        ``"whisper-tiny.en"`` [1]_ (768 dimensions, MIT), which comes inside an installed package; or a folder of a
        Whisper model that CTranslate2 has converted. Not used, and not checked, when `features` is given.
    features : {None, "librosa"}, default=None
        ``"librosa"`` takes no network: the mean and standard deviation over time of MFCC, chroma, spectral contrast
        and six measures of shape and loudness [2]_, 128 dimensions. Weaker on speech, but free of weights.
    device : str, default="auto"
        ``"auto"`` takes CUDA where CTranslate2 finds it, else the CPU; ``"cpu"``, ``"cuda"``, ``"cuda:1"``. Not part
        of the cache key; not used by `features`.
    batch_size : int, default=16
        Sounds that go through the network at once. Not part of the cache key.
    on_error : {"raise", "missing"}, default="raise"
        What to do with a sound that cannot be read: one error that lists all of them, or a row of NaN and one
        `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        Length of an embedding: 768 for the default, 128 for ``features="librosa"``.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        From `fit` and `transform`: unknown model or features (with near names), a folder that holds no model that
        can be loaded, a device that is not there.
    ImportError
        From `fit` and `transform`: ctranslate2, or the package that carries the weights, is not installed.

    Notes
    -----
    A cell is a path (str or path-like) or the bytes of a WAV, FLAC, OGG or MP3 file; an array of float samples from
    -1 to 1, **taken at 16 kHz**; or a tuple of such an array and its sampling rate in Hz. Channels are averaged, and
    everything is brought to 16 kHz. Silence is a sound; a file without samples is a bad row.

    References
    ----------
    .. [1] A. Radford et al. Robust Speech Recognition via Large-Scale Weak Supervision. ICML 2023.
    .. [2] B. McFee et al. librosa: Audio and Music Signal Analysis in Python. SciPy 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import AudioEncoder
    >>> time = np.arange(8000) / 16000
    >>> clips = [np.sin(2 * np.pi * 440 * time), None, (np.sin(2 * np.pi * 880 * time[::2]), 8000)]
    >>> embeddings = AudioEncoder(features="librosa").fit_transform({"clip": clips})
    >>> embeddings.shape, np.isnan(embeddings).all(axis=1)
    ((3, 128), array([False,  True, False]))
    """

    strings_are_paths: ClassVar[bool] = True
    # `recipe` puts a digest there.
    neutral_params: ClassVar[frozenset[str]] = BaseEncoder.neutral_params | {"model", "features"}

    def __init__(
        self,
        model: str | os.PathLike[str] = "whisper-tiny.en",
        *,
        features: str | None = None,
        device: str = "auto",
        batch_size: int = 16,
        on_error: str = "raise",
    ):
        self.model = model
        self.features = features
        self.device = device
        self.batch_size = batch_size
        self.on_error = on_error

    def load(self, cell: Any) -> np.ndarray:
        """Read one sound.

        Parameters
        ----------
        cell : str, path, bytes, array, or tuple of array and sampling rate

        Returns
        -------
        ndarray of shape (n_samples,), dtype float32
            Mono, at 16 kHz.

        Raises
        ------
        OSError, ValueError, TypeError
            If the cell is not a sound that can be read.
        """
        return read_mono(cell, SAMPLE_RATE)

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Embed sounds.

        Parameters
        ----------
        items : list of ndarray of shape (n_samples,), dtype float32
            Mono, at 16 kHz, at least one sample each.

        Returns
        -------
        ndarray of shape (len(items), n_dims), dtype float32
        """
        if self.features is not None:
            return np.stack([librosa_features(samples, SAMPLE_RATE) for samples in items])
        return pool_frames(self._network(), items, self._batch_size())

    def example_cell(self) -> Any:
        """See `BaseEncoder.example_cell`."""
        return np.zeros(16_000, dtype=np.float32)

    def prepare(self) -> None:
        """Check the parameters and load the network, once a process for one model and device."""
        self._check_params()
        if self.features is None:
            self._network()

    def recipe(self) -> dict[str, Any] | None:
        """What the embeddings depend on: class, version, and the model's name or digest, or the features' name.

        Returns
        -------
        dict
            No path in it.
        """
        self._check_params()
        recipe = super().recipe()
        if recipe is not None:
            chosen = {"features": self.features} if self.features is not None else {"model": _model_token(self.model)}
            recipe["params"] |= chosen
        return recipe

    def _check_params(self) -> None:
        self._batch_size()
        if self.features is None:
            _model_token(self.model)
            if self.device not in ("auto", "cpu"):
                _resolve_device(self.device)
        elif self.features not in _FEATURES:
            close = difflib.get_close_matches(str(self.features), _FEATURES, n=1, cutoff=0.4)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"{_NEEDED_BY}: features must be None or one of {list(_FEATURES)}; got {self.features!r}.{hint}"
            )

    def _network(self) -> Any:
        token, device = _model_token(self.model), _resolve_device(self.device)
        return shared_network(("audio", token, device), lambda: build_whisper(_folder(self.model), device))


def _model_token(model: Any) -> str:
    """What stands for the model in the cache key: a packaged name, or a digest of its folder."""
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"{_NEEDED_BY}: model must be a name or a folder; got {model!r}.")
    if model in _PACKAGED_AUDIO_MODELS:
        return str(model)
    if (Path(model) / "model.bin").is_file():
        return folder_digest(Path(model))
    names = [*_PACKAGED_AUDIO_MODELS, *_FEATURES]
    close = difflib.get_close_matches(str(model), names, n=1, cutoff=0.5)
    near = 'features="librosa"' if close == ["librosa"] else repr(close[0]) if close else ""
    hint = f" Did you mean {near}?" if near else ""
    raise ValueError(
        f"{_NEEDED_BY}: unknown model {os.fspath(model)!r}.{hint} It is no packaged model "
        f"({', '.join(_PACKAGED_AUDIO_MODELS)}), and no folder of a CTranslate2 model (model.bin) below {os.getcwd()}."
    )


def _resolve_device(device: Any) -> tuple[str, int]:
    """CTranslate2's name and number of a device."""
    ctranslate2 = import_optional("ctranslate2", needed_by=_NEEDED_BY)
    n_cuda = ctranslate2.get_cuda_device_count()
    if device == "auto":
        return ("cuda", 0) if n_cuda else ("cpu", 0)
    kind, _, number = str(device).partition(":")
    if kind == "cpu" or (kind == "cuda" and (not number or number.isdecimal()) and int(number or 0) < n_cuda):
        return kind, int(number or 0) if kind == "cuda" else 0
    raise ValueError(
        f'{_NEEDED_BY}: device {device!r} cannot be used here (CTranslate2 finds {n_cuda} CUDA devices). Pass "auto" '
        'or "cpu".'
    )


def _folder(model: Any) -> Path:
    return packaged_path(model, needed_by=_NEEDED_BY) if model in _PACKAGED_AUDIO_MODELS else Path(model)
