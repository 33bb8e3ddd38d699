"""Audio networks of transformers: wav2vec 2.0 and similar ones, Whisper, AST, CLAP."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse.backbones.frame_pooling import frame_sequences, pool_frames
from ensemblefuse.backbones.hub import quiet_transformers
from ensemblefuse.cells.sound import Sound

__all__ = ["AudioNetwork", "build_audio_network", "sampling_rate"]

# A weight that is only used in training. If a checkpoint lacks it, it is random.
_TRAINING_ONLY = "masked_spec_embed"


def sampling_rate(folder: Path, *, needed_by: str) -> int:
    """Return the rate in Hz of the sounds that a model takes, from its folder.

    Raises
    ------
    ValueError
        If the folder does not give it.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        try:
            settings = json.loads((folder / name).read_text(encoding="utf-8"))
            rate = settings.get("feature_extractor", settings).get("sampling_rate")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(rate, int) and 1000 <= rate <= 1_000_000:
            return rate
    raise ValueError(
        f"{needed_by}: the folder {folder.name!r} holds no preprocessor_config.json that gives a sampling_rate."
    )


class AudioNetwork(ABC):
    """Base of audio networks of transformers, with the preprocessing that belongs to them.

    Children set `extractor_name`, the class of their feature extractor. They define `window`, the number of samples
    that go through the network as one piece, and `_frames`, which maps a list of n windows to a list of n arrays of
    shape (n_frames, n_dims). They may override `group`, if only some windows can share a batch.

    Parameters
    ----------
    model, extractor : object
        Model and feature extractor of transformers.
    device : str
    """

    extractor_name: ClassVar[str]

    def __init__(self, model: Any, extractor: Any, device: str):
        if type(extractor).__name__ != self.extractor_name:
            raise ValueError(f"its sounds are prepared by {type(extractor).__name__}, not by {self.extractor_name}")
        self.model, self.extractor, self.device = model, extractor, device

    def embed(self, sounds: Sequence[Sound], batch_size: int) -> np.ndarray:
        """Embed sounds. The vector of a sound does not depend on the other sounds.

        Returns
        -------
        ndarray of shape (len(sounds), n_dims), dtype float32
        """
        return pool_frames(sounds, self.window, batch_size, self._infer, group=self.group)

    def sequences(self, sounds: Sequence[Sound], batch_size: int, most: int) -> list[np.ndarray]:
        """Return for each sound its frames, averaged to at most `most`: shape (n_tokens, n_dims), dtype float32."""
        return frame_sequences(sounds, self.window, batch_size, self._infer, most, group=self.group)

    @property
    @abstractmethod
    def window(self) -> int:
        """Return the number of samples that go through the network as one piece."""

    def group(self, part: np.ndarray) -> Hashable:
        """Return a key of a window. Only windows with the same key go through the network together."""
        return None

    @abstractmethod
    def _frames(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        """Return for each window the frames of its own samples, without padding, of shape (n_frames, n_dims)."""

    def _infer(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        import torch

        # wav2vec 2.0 and its kin draw whether to drop a layer, which they never do here, in some versions.
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            return self._frames(parts)

    def _features(self, parts: list[np.ndarray], **settings: Any) -> Any:
        rate = self.extractor.sampling_rate
        return self.extractor(parts, sampling_rate=rate, return_tensors="pt", **settings).to(self.device)


class _Waveform(AudioNetwork):
    """wav2vec 2.0, HuBERT, WavLM and others that take raw samples, in windows of 30 s."""

    extractor_name = "Wav2Vec2FeatureExtractor"
    # Tested: if their settings use a mask, a padded sound has the same frames as alone.
    _padded: ClassVar[frozenset[str]] = frozenset({"wav2vec2", "hubert"})

    def __init__(self, model: Any, extractor: Any, device: str):
        super().__init__(model, extractor, device)
        config = model.config
        # A group norm is computed over time, and would include the padding.
        takes_mask = config.feat_extract_norm == "layer" and bool(extractor.return_attention_mask)
        adapts = getattr(config, "add_adapter", False)
        self._pads = config.model_type in self._padded and takes_mask and not adapts
        self._shortest = 1
        for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
            self._shortest = (self._shortest - 1) * stride + kernel
        while self._n_frames(self._shortest) < getattr(config, "squeeze_factor", 1):
            self._shortest *= 2

    @property
    def window(self) -> int:
        return 30 * int(self.extractor.sampling_rate)

    def group(self, part: np.ndarray) -> Hashable:
        return math.ceil(len(part) / self.extractor.sampling_rate) if self._pads else len(part)

    def _n_frames(self, n_samples: int) -> int:
        return int(self.model._get_feat_extract_output_lengths(n_samples))

    def _frames(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        parts = [np.pad(part, (0, max(0, self._shortest - len(part)))) for part in parts]
        inputs = self._features(parts, padding=True, return_attention_mask=self._pads)
        frames = self.model(**inputs).last_hidden_state.float().cpu().numpy()
        return [own[: self._n_frames(len(part))] for own, part in zip(frames, parts, strict=True)]


class _Whisper(AudioNetwork):
    """The encoder of Whisper: windows of 30 s, padded with silence; a frame is 20 ms."""

    extractor_name = "WhisperFeatureExtractor"

    @property
    def window(self) -> int:
        return int(self.extractor.n_samples)

    def _frames(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        features = self._features(parts)["input_features"]
        frames = self.model.get_encoder()(features).last_hidden_state.float().cpu().numpy()
        step = 2 * self.extractor.hop_length
        return [own[: math.ceil(len(part) / step)] for own, part in zip(frames, parts, strict=True)]


class _Spectrogram(AudioNetwork):
    """Audio spectrogram transformer: windows as long as its input, 10.24 s; a frame is a patch of the spectrogram."""

    extractor_name = "ASTFeatureExtractor"

    @property
    def window(self) -> int:
        return self._frame + self._hop * (self.model.config.max_length - 1)

    @property
    def _frame(self) -> int:
        return 25 * self.extractor.sampling_rate // 1000

    @property
    def _hop(self) -> int:
        return 10 * self.extractor.sampling_rate // 1000

    def _frames(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        config = self.model.config
        parts = [np.pad(part, (0, max(0, self._frame - len(part)))) for part in parts]
        tokens = self.model(**self._features(parts)).last_hidden_state.float().cpu().numpy()
        n_bands = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        n_times = (config.max_length - config.patch_size) // config.time_stride + 1
        # The patches come last, band by band.
        grid = tokens[:, -n_bands * n_times :].reshape(len(parts), n_bands, n_times, -1)
        out = []
        for part, patches in zip(parts, grid, strict=True):
            n_rows = 1 + (len(part) - self._frame) // self._hop  # rows of the spectrogram before padding
            own = patches[:, : math.ceil(n_rows / config.time_stride)]
            out.append(own.reshape(-1, own.shape[-1]))
        return out


class _Clap(AudioNetwork):
    """The audio encoder of CLAP: windows of 10 s, each projected into the space that sounds share with texts."""

    extractor_name = "ClapFeatureExtractor"

    @property
    def window(self) -> int:
        return int(self.extractor.nb_max_samples)

    def embed(self, sounds: Sequence[Sound], batch_size: int) -> np.ndarray:
        """Return the mean of the windows' projections, weighted by their samples and scaled to length 1."""
        vectors = pool_frames(sounds, self.window, batch_size, self._infer, std=False)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _frames(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        import torch

        # Its `__call__` would treat a random sound of the batch as one that is longer than a window.
        window, how = self.window, (self.extractor.truncation, self.extractor.padding)
        mel = np.stack([self.extractor._get_input_mel(part.astype(np.float64), window, *how)[0] for part in parts])
        features = torch.from_numpy(mel.astype(np.float32)).to(self.device)
        is_longer = torch.zeros((len(parts), 1), dtype=torch.bool, device=self.device)
        made = self.model.get_audio_features(input_features=features, is_longer=is_longer)
        vectors = getattr(made, "pooler_output", made).float().cpu().numpy()  # before transformers 5, a tensor
        return list(vectors[:, None, :])


_FAMILIES: dict[str, type[AudioNetwork]] = {
    "audio-spectrogram-transformer": _Spectrogram,
    "clap": _Clap,
    "whisper": _Whisper,
    **dict.fromkeys(
        ("data2vec-audio", "hubert", "sew", "unispeech", "unispeech-sat", "wav2vec2", "wav2vec2-conformer", "wavlm"),
        _Waveform,
    ),
}


def build_audio_network(folder: Path, device: str, *, needed_by: str) -> AudioNetwork:
    """Build the network of a transformers folder, in float32.

    Raises
    ------
    ImportError
        If transformers is not installed.
    ValueError
        If the folder holds another kind of model, lacks some of its weights, or cannot be loaded.
    """
    import torch

    library = import_optional("transformers", needed_by=needed_by)
    try:
        # Drawing the weights that are only used in training must not change the user's generator.
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            config = library.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            family = _FAMILIES.get(config.model_type)
            if family is None:
                raise _UnknownFamilyError(config.model_type)
            model, report = library.AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
            extractor = library.AutoFeatureExtractor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            network = family(model.float().eval().to(device), extractor, device)
    except _UnknownFamilyError as error:
        raise ValueError(
            f"{needed_by}: the folder {folder.name!r} holds a model of the type {str(error)!r}; these types of "
            f"transformers can be read: {', '.join(sorted(_FAMILIES))}."
        ) from None
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(
            f"{needed_by}: transformers cannot load the folder {folder.name!r} "
            f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})."
        ) from error
    missing = sorted(key for key in report["missing_keys"] if key.rpartition(".")[2] != _TRAINING_ONLY)
    if missing:
        raise ValueError(
            f"{needed_by}: the weights in {folder.name!r} lack {len(missing)} of the model's, such as {missing[0]!r}; "
            "they would be random."
        )
    return network


class _UnknownFamilyError(Exception):
    """The type of a model is not in `_FAMILIES`."""
