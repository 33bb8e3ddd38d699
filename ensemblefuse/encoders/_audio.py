"""The encoder of sounds: a frozen network, or plain statistics. Never imports `fusion`."""

from __future__ import annotations

import difflib
import math
import numbers
import os
import threading
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ensemblefuse._optional import import_optional
from ensemblefuse._torch import resolve_device, shared_network
from ensemblefuse.backbones.audio_transformers import build_audio_network, sampling_rate
from ensemblefuse.backbones.audio_whisper import SAMPLE_RATE, build_whisper, embed_whisper, whisper_sequences
from ensemblefuse.backbones.hub import find_model_folder
from ensemblefuse.backbones.weights import WeightsSource, folder_digest, packaged_path
from ensemblefuse.cells.sound import Sound, cell_size, read_sound
from ensemblefuse.cells.sound_file import MOST_HOURS
from ensemblefuse.encoders._base import BadRows, BaseEncoder
from ensemblefuse.encoders._librosa_features import pooled_librosa_features
from ensemblefuse.encoders._tokens import TokenEncoder, pack_tokens

__all__ = ["AudioEncoder"]

_NEEDED_BY = "AudioEncoder"
_PACKAGED_AUDIO_MODELS = ("whisper-tiny.en",)
_FEATURES = ("librosa",)
_CTRANSLATE2 = "model.bin"
# Sampling rates by model, stored by `prepare`: reading the model's folder takes longer than reading a short sound.
_rates: dict[Any, int] = {}
# Number of sounds that were cut in this thread's current call of `_vectors`.
_call = threading.local()


class AudioEncoder(TokenEncoder):
    """Embed sounds with the encoder of a speech or sound network, or with librosa's statistics. Fitting trains nothing.

    The embedding is the mean and the standard deviation over time of the network's frames. Only a sound's own frames
    are pooled, not those of its padding, so that its vector does not depend on the other sounds of the batch. A sound
    longer than the network's window is split into consecutive windows, which are pooled together.

    Parameters
    ----------
    model : str or path, default="whisper-tiny.en"
        - ``"whisper-tiny.en"`` [1]_ (768 dimensions, MIT), which is part of an installed package; or the folder of a
          Whisper model that was converted for CTranslate2. A sound is padded with silence to the next whole second. A
          frame is 20 ms, a window 30 s.
        - A folder of transformers with a preprocessor_config.json, or the name of one in the local Hugging Face cache:
          wav2vec 2.0 [2]_, HuBERT, WavLM, UniSpeech, data2vec or SEW (frames of 20 ms, windows of 30 s), Whisper (the
          same, with every window padded to 30 s), AST [3]_ (a frame is a patch of the spectrogram, a window 10.24 s),
          or CLAP [4]_ (windows of 10 s). For CLAP the embedding is the projection into the space that sounds share with
          texts, averaged over the windows with their samples as weights and scaled to length 1. The hub itself is
          never contacted, and code that comes with a model is not run.

        Not used, and not checked, if `features` is given.
    features : {None, "librosa"}, default=None
        ``"librosa"`` uses no network: the embedding is the mean and standard deviation over time of MFCC, chroma,
        spectral contrast and six measures of shape and loudness [5]_, 128 dimensions, in windows of five minutes. It is
        weaker on speech, but needs no weights.
    output : {"pooled", "tokens"}, default="pooled"
        ``"pooled"``: one vector for each sound. ``"tokens"``: one column, of arrays of shape (n_tokens, width): the
        network's frames in their order, of CLAP a vector for each window. Attention of `NeuralFusionClassifier` reads
        such a block. `features` has no frames, and is refused.
    max_tokens : int, default=64
        Only with ``output="tokens"``: where a sound has more frames, neighbours are averaged, in groups of equal size.
        The cache keeps this number of tokens for each sound, 98 kB for the default model.
    max_seconds : float, optional
        If a sound is longer, only its beginning is read, and one warning per call gives the number of newly encoded
        sounds that were cut. By default sounds are read whole.
    max_hours : float, default=4.0
        A sound that lasts longer is a bad row, unless `max_seconds` is given: a file of a few kB may hold a day of
        silence, and a day takes half an hour of one core. Not part of the cache key.
    device : str, default="auto"
        ``"auto"`` takes CUDA if available, then (for models of transformers) Apple's MPS, else the CPU. Or ``"cpu"``,
        ``"cuda"``, ``"cuda:1"``. Not part of the cache key; not used by `features`.
    batch_size : int, default=16
        Number of sounds, or windows, that go through the network at once. Not part of the cache key.
    on_error : {"raise", "missing"}, default="raise"
        What to do with sounds that cannot be read: raise one error that lists all of them, or return rows of NaN with
        one `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        Length of an embedding: 768 for the default, 128 for ``features="librosa"``. With ``output="tokens"``, the
        numbers kept for a sound: those of `max_tokens` tokens and one more.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        From `fit` and `transform`, if the model or the features are unknown (the message gives similar names), the
        folder does not hold a model that can be loaded or lacks some of its weights, or the device does not exist.
    ImportError
        From `fit` and `transform`, if ctranslate2 or the package with the weights is not installed.

    Notes
    -----
    A cell is a path (str or path-like) or the bytes of a WAV, FLAC, OGG (Vorbis, Opus), MP3, AIFF, AU, CAF or NIST
    SPHERE file with any name; an array of float samples from -1 to 1 **at the model's own rate** (16 kHz, for CLAP
    48 kHz); or a tuple of such an array and its sampling rate in Hz, from 200 to 1 000 000. Channels are averaged, and
    every sound is resampled to the model's rate. Silence is a valid sound. Bad rows are: a file without samples, a
    truncated file, a file that holds more samples than its header declares, several sounds in one file (a chained
    OGG), a FLAC or MP3 that changes its rate, samples that are NaN or infinite, and anything that is not a regular
    file. Truncation cannot be detected in an MP3, nor in an OGG that ends between two of its pages: the samples that
    are present are used. An MP3 whose header gives too small a length is read whole.

    A sound of over five minutes is not held in memory: its file is decoded again while its windows go through the
    network. Shorter sounds are read up to two batches ahead, each at most 19 MB at 16 kHz. Memory is never allocated
    by the length in a file's header.

    References
    ----------
    .. [1] A. Radford et al. Robust Speech Recognition via Large-Scale Weak Supervision. ICML 2023.
    .. [2] A. Baevski et al. wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations. NeurIPS
       2020.
    .. [3] Y. Gong, Y.-A. Chung and J. Glass. AST: Audio Spectrogram Transformer. Interspeech 2021.
    .. [4] Y. Wu et al. Large-Scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption
       Augmentation. ICASSP 2023.
    .. [5] B. McFee et al. librosa: Audio and Music Signal Analysis in Python. SciPy 2015.

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

    version: ClassVar[int] = 2  # 2: librosa statistics of sounds of over five minutes are taken in windows
    strings_are_paths: ClassVar[bool] = True
    loads_in_threads: ClassVar[bool] = True
    # `recipe` writes a digest instead.
    neutral_params: ClassVar[frozenset[str]] = BaseEncoder.neutral_params | {"model", "features", "max_hours"}
    max_hours: float = 24.0  # for encoders that were saved before this was a parameter

    def __init__(
        self,
        model: str | os.PathLike[str] = "whisper-tiny.en",
        *,
        features: str | None = None,
        output: str = "pooled",
        max_tokens: int = 64,
        max_seconds: float | None = None,
        max_hours: float = MOST_HOURS,
        device: str = "auto",
        batch_size: int = 16,
        on_error: str = "raise",
    ):
        self.model = model
        self.features = features
        self.output = output
        self.max_tokens = max_tokens
        self.max_seconds = max_seconds
        self.max_hours = max_hours
        self.device = device
        self.batch_size = batch_size
        self.on_error = on_error

    def load(self, cell: Any) -> Sound:
        """Read one sound.

        Parameters
        ----------
        cell : str, path, bytes, array, or tuple of array and sampling rate

        Returns
        -------
        Sound
            Mono, at the model's rate; in memory up to five minutes.

        Raises
        ------
        OSError, ValueError, TypeError
            If the cell is not a readable sound.
        """
        return read_sound(cell, self._sample_rate(), self.max_seconds, self.max_hours)

    def probe(self, cell: Any) -> None:
        """Decode up to five minutes of a sound; see `BaseEncoder.probe`."""
        read_sound(cell, SAMPLE_RATE, self.max_seconds, self.max_hours)

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Embed sounds.

        Parameters
        ----------
        items : list of Sound
            Results of `load`.

        Returns
        -------
        ndarray of shape (len(items), n_dims), dtype float32
            With ``output="tokens"``, the tokens of each sound packed into a row.
        """
        if self.features is not None:
            vectors = pooled_librosa_features(items, SAMPLE_RATE)
        elif self._gives_tokens:
            vectors = pack_tokens(self._sequences(items), self.max_tokens)
        elif _is_converted(self.model):
            vectors = embed_whisper(self._network(), items, self._batch_size())
        else:
            vectors = self._network().embed(items, self._batch_size())
        _call.n_cut = getattr(_call, "n_cut", 0) + sum(sound.cut for sound in items)
        return vectors

    def _sequences(self, items: list[Any]) -> list[np.ndarray]:
        network, size = self._network(), self._batch_size()
        if _is_converted(self.model):
            return whisper_sequences(network, items, size, self.max_tokens)
        return network.sequences(items, size, self.max_tokens)

    def sort_key(self, cell: Any) -> int:
        """Return the size of a sound in bytes. Sounds of similar size share a batch.

        Parameters
        ----------
        cell : object

        Returns
        -------
        int
            0 if the cell is not a sound.
        """
        return cell_size(cell)

    def example_cell(self) -> Any:
        """See `BaseEncoder.example_cell`."""
        return np.zeros(self._sample_rate(), dtype=np.float32)

    def prepare(self) -> None:
        """Check the parameters and load the network, once per process for each model and device."""
        self._check_params()
        if self.features is None:
            self._network()
            _rates.pop(self.model, None)
            _rates[self.model] = self._sample_rate()

    def recipe(self) -> dict[str, Any] | None:
        """Return what the embeddings depend on: class, version, length, and the model's name or digest, or `features`.

        Returns
        -------
        dict
            It contains no path.
        """
        self._check_params()
        recipe = super().recipe()
        if recipe is not None:
            chosen = {"features": self.features} if self.features is not None else {"model": _model_token(self.model)}
            seconds = None if self.max_seconds is None else float(self.max_seconds)
            recipe["params"] |= {"max_seconds": seconds, **chosen}
        return recipe

    def weights_sources(self) -> list[WeightsSource]:
        """See `BaseEncoder.weights_sources`."""
        kind = type(self).__name__
        if self.features is not None:
            return []
        if self.model in _PACKAGED_AUDIO_MODELS:
            return [WeightsSource.packaged(kind, str(self.model))]
        folder = Path(self.model).expanduser() if _is_converted(self.model) else _find_folder(self.model)
        return [WeightsSource(kind, "model", os.fspath(self.model), folder)]

    def _check_params(self) -> None:
        self._batch_size()
        self._check_output(features=None)
        if self.max_seconds is not None and not _is_positive(self.max_seconds):
            raise ValueError(f"{_NEEDED_BY}: max_seconds must be None or a number above 0; got {self.max_seconds!r}.")
        if not _is_positive(self.max_hours):
            raise ValueError(f"{_NEEDED_BY}: max_hours must be a number above 0; got {self.max_hours!r}.")
        if self.features is None:
            _model_token(self.model)
            self._sample_rate()
            if self.device not in ("auto", "cpu"):
                self._device()
        elif self.features not in _FEATURES:
            close = difflib.get_close_matches(str(self.features), _FEATURES, n=1, cutoff=0.4)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"{_NEEDED_BY}: features must be None or one of {list(_FEATURES)}; got {self.features!r}.{hint}"
            )

    def _sample_rate(self) -> int:
        if self.features is not None or _is_converted(self.model):
            return SAMPLE_RATE
        return _rates.get(self.model) or sampling_rate(_find_folder(self.model), needed_by=_NEEDED_BY)

    def _device(self) -> Any:
        if _is_converted(self.model):
            return _resolve_device(self.device)
        return resolve_device(self.device, needed_by=_NEEDED_BY)

    def _network(self) -> Any:
        token, device = _model_token(self.model), self._device()
        if _is_converted(self.model):
            return shared_network(("audio", token, device), lambda: build_whisper(_folder(self.model), device))
        return shared_network(
            ("audio", token, device),
            lambda: build_audio_network(_find_folder(self.model), device, needed_by=_NEEDED_BY),
        )

    def _vectors(self, frame: pd.DataFrame, column: str) -> tuple[np.ndarray, BadRows]:
        _call.n_cut = 0
        result = super()._vectors(frame, column)
        if _call.n_cut:
            sounds, them = ("sound", "it") if _call.n_cut == 1 else ("sounds", "them")
            warnings.warn(
                f"{type(self).__name__} cut {_call.n_cut} {sounds} of column {column!r} at max_seconds="
                f"{self.max_seconds}; the rest of {them} is ignored.",
                UserWarning,
                stacklevel=5,
            )
        return result


def _is_positive(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


def _model_token(model: Any) -> str:
    """Return the model's token for the cache key: its packaged name, or a digest of its folder."""
    if isinstance(model, str) and model in _PACKAGED_AUDIO_MODELS:
        return model
    return folder_digest(Path(model).expanduser() if _is_converted(model) else _find_folder(model))


def _is_converted(model: Any) -> bool:
    """Return whether a model is in the format of CTranslate2."""
    if isinstance(model, str) and model in _PACKAGED_AUDIO_MODELS:
        return True
    return isinstance(model, (str, os.PathLike)) and (Path(model).expanduser() / _CTRANSLATE2).is_file()


def _find_folder(model: Any) -> Path:
    """Return the folder of a model of transformers."""
    return find_model_folder(
        model,
        needed_by=_NEEDED_BY,
        packaged=_PACKAGED_AUDIO_MODELS,
        marks=("config.json", _CTRANSLATE2),
        also={"librosa": 'features="librosa"'},
    )


def _resolve_device(device: Any) -> tuple[str, int]:
    """Return CTranslate2's name and number of a device."""
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
    return packaged_path(model, needed_by=_NEEDED_BY) if model in _PACKAGED_AUDIO_MODELS else Path(model).expanduser()
