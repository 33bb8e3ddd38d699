"""The encoder of videos by their pictures: sampled frames, pooled. Never imports `fusion`."""

from __future__ import annotations

import contextlib
import itertools
import numbers
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ensemblefuse.backbones.column_flow import checked_batch
from ensemblefuse.backbones.weights import WeightsSource
from ensemblefuse.cells.video import Video, read_video
from ensemblefuse.encoders._base import BaseEncoder
from ensemblefuse.encoders._image import ImageEncoder
from ensemblefuse.table import lists_again

__all__ = ["VideoEncoder"]

_NEEDED_BY = "VideoEncoder"
_POOLS = ("mean", "max", "mean+std")
# Largest number of frames of one video that are prepared ahead. If there are more, they are decoded when needed.
_IN_MEMORY = 64


class VideoEncoder(BaseEncoder):
    """Embed videos by their pictures: an image encoder on sampled frames, pooled. Fitting trains nothing.

    The order of the frames does not matter. The sound is another modality: declare the column a second time with
    `VideoSoundEncoder`. Frames are upright, as a player shows them.

    Parameters
    ----------
    frame_encoder : BaseEncoder, optional
        Encoder of one frame, an array of shape (height, width, 3) of uint8. By default ``ImageEncoder()``; with
        ``frame_encoder=ImageEncoder("resnet50")`` its parameters are reached as ``frame_encoder__model``.
    n_frames : int, default=8
        Number of frames to sample: the video is divided into this many equal parts, and the middle frame of each is
        taken. For a video of `n` frames in the order of time these are the frames
        ``(2 * i + 1) * n // (2 * n_frames)``, for i from 0. A video of fewer frames gives all of them. Not used if
        `fps` is given.
    fps : float, optional
        Sample by time instead: take the frames that are shown 0, 1 / fps, 2 / fps, ... seconds after the beginning of
        the first frame, up to the end of the last one. A frame that is shown at several of these times has as much
        weight. A frame counts as shown even if it begins up to half a millisecond (at most a tenth of 1 / fps) later,
        because many files store times in whole milliseconds.
    pool : {"mean", "max", "mean+std"}, default="mean"
        How the frames' vectors are combined to one, number by number. ``"mean+std"`` gives twice as many numbers: the
        means, then the standard deviations.
    max_pixels : int or None, default=3_000_000_000
        A video is a bad row if more pixels than this must be decoded to reach its sampled frames. The frames between
        the last key frame and a sampled one count too. The default allows 1400 frames of 1920 x 1080. Sampling by
        `n_frames` rarely needs more, even for long videos; sampling by `fps` decodes nearly the whole video. None is
        for files that you trust. A single frame may have 36 million pixels.
    batch_size : int, default=4
        Number of videos whose frames go to the frame encoder together. The frame encoder has its own batch size. Not
        part of the cache key.
    on_error : {"raise", "missing"}, default="raise"
        What to do with videos that cannot be read: raise one error that lists all of them, or return rows of NaN with
        one `MissingModalityWarning`.

    Attributes
    ----------
    n_dims_ : int
        Length of the frame encoder's embedding, twice that for ``pool="mean+std"``.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    TypeError, ValueError
        From `fit` and `transform`, if a parameter has a wrong type or is out of its range. The frame encoder's own
        errors pass through.
    ImportError
        From `fit` and `transform`, if a cell is a video file and PyAV is not installed
        (``pip install "ensemblefuse[video]"``).

    Notes
    -----
    A cell is a path (str or path-like) or the bytes of a file; an array of frames of shape (n_frames, height, width,
    3), uint8 or floats in [0, 1]; a list of frames, each an array, PIL image, path or the bytes of a picture; or a
    tuple of such an array or list and its number of frames per second, which `fps` needs. Files are recognised by
    content: MP4 and MOV, Matroska and WebM, AVI, MPEG, FLV, ASF, OGG and IVF through PyAV, which includes FFmpeg's
    libraries; animated GIF, WebP and PNG through Pillow, without PyAV, up to 268 million pixels in all frames. A
    playlist cannot open other files.

    A file is read twice and decoded in parts. The first pass reads the times of all frames and key frames. The second
    decodes from the last key frame before a sampled frame, or from an earlier key frame if the decoder does not return
    it. The frames are the same as if the whole file was decoded. Frames that an edit list hides are not sampled. A
    truncated file is a bad row if its header gives the full length (MP4, MOV, AVI, Matroska, WebM, animations). So is
    a file with a sampled frame that cannot be decoded; damage that the decoder conceals is not detected. Frames are
    turned by multiples of 90 degrees, not mirrored. Non-square pixels are used as they are stored.

    See Also
    --------
    VideoSoundEncoder : The sound of a video.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import FunctionEncoder, VideoEncoder
    >>> fade = np.arange(0, 250, 10, dtype=np.uint8).repeat(8 * 8 * 3).reshape(25, 8, 8, 3)
    >>> brightness = FunctionEncoder(lambda frame: frame.mean())
    >>> VideoEncoder(brightness, n_frames=5, pool="mean+std").fit_transform({"clip": [fade, None, fade[:1]]})
    array([[120.     ,  70.71068],
           [      nan,        nan],
           [  0.     ,   0.     ]], dtype=float32)
    >>> VideoEncoder(brightness, fps=0.5).fit_transform({"clip": [(fade, 5)]})
    array([[100.]], dtype=float32)
    """

    strings_are_paths: ClassVar[bool] = True
    # `recipe` writes the values that these stand for instead.
    neutral_params: ClassVar[frozenset[str]] = BaseEncoder.neutral_params | {
        *("frame_encoder", "n_frames", "fps", "max_pixels")
    }

    def __init__(
        self,
        frame_encoder: BaseEncoder | None = None,
        *,
        n_frames: int = 8,
        fps: float | None = None,
        pool: str = "mean",
        max_pixels: int | None = 3_000_000_000,
        batch_size: int = 4,
        on_error: str = "raise",
    ):
        self.frame_encoder = frame_encoder
        self.n_frames = n_frames
        self.fps = fps
        self.pool = pool
        self.max_pixels = max_pixels
        self.batch_size = batch_size
        self.on_error = on_error

    @property
    def loads_in_threads(self) -> bool:  # type: ignore[override]
        """Return whether the frame encoder may load in threads."""
        return self._encoder().loads_in_threads

    def cells(self, X: pd.DataFrame) -> list[Any]:
        """Return the cells of the one column. An array of names, as polars and Parquet give it, becomes a list."""
        return lists_again(super().cells(X))

    def load(self, cell: Any) -> Any:
        """Sample the frames of one video, and prepare them as the frame encoder does.

        Parameters
        ----------
        cell : str, path, bytes, array, list, or tuple of array or list and frames per second

        Returns
        -------
        tuple of (weights, frames)
            `weights` is an ndarray of shape (n_sampled,). `frames` is a list of results of the frame encoder's
            ``load``, or the `Video` itself if there are more than 64 frames.

        Raises
        ------
        OSError, ValueError, TypeError
            If the cell is not a readable video.
        """
        video = read_video(cell, self.n_frames, self.fps, self.max_pixels, needed_by=_NEEDED_BY)
        many = len(video.weights) > _IN_MEMORY
        return video.weights, video if many else list(self._prepared(video))

    def probe(self, cell: Any) -> None:
        """Decode the first sampled frame of a video; see `BaseEncoder.probe`."""
        video = read_video(cell, self.n_frames, self.fps, self.max_pixels, needed_by=_NEEDED_BY)
        with contextlib.closing(video.decode()) as frames:
            next(frames)

    def encode_batch(self, items: list[Any]) -> np.ndarray:
        """Embed the frames of several videos, and pool those of each.

        Parameters
        ----------
        items : list of tuple
            Results of `load`.

        Returns
        -------
        ndarray of shape (len(items), n_dims), dtype float32
        """
        frames: Iterator[Any] = itertools.chain.from_iterable(
            self._prepared(held) if isinstance(held, Video) else held for _, held in items
        )
        encoder, parts = self._encoder(), []
        while chunk := list(itertools.islice(frames, encoder._batch_size())):
            parts.append(checked_batch(encoder, chunk))
        ends = np.cumsum([len(weights) for weights, _ in items])
        groups = np.split(np.concatenate(parts), ends[:-1])
        return np.stack([self._pooled(group, weights) for group, (weights, _) in zip(groups, items, strict=True)])

    def example_cell(self) -> Any:
        """See `BaseEncoder.example_cell`."""
        return np.zeros((1, 8, 8, 3), dtype=np.uint8), 1.0

    def place(self) -> str:
        """See `BaseEncoder.place`."""
        return self._encoder().place()

    def prepare(self) -> None:
        """Check the parameters and load the frame encoder's network."""
        self._check_params()
        self._encoder().prepare()

    def recipe(self) -> dict[str, Any] | None:
        """Return what the embeddings depend on: class, version, sampling and pooling, and the frame encoder's recipe.

        Returns
        -------
        dict or None
            None if the frame encoder has none.
        """
        self._check_params()
        recipe, inner = super().recipe(), self._encoder().recipe()
        if recipe is None or inner is None:
            return None
        sampling = {"n_frames": int(self.n_frames)} if self.fps is None else {"fps": float(self.fps)}
        recipe["params"] |= {**sampling, "frame_encoder": inner}
        return recipe

    def weights_sources(self) -> list[WeightsSource]:
        """Return the sources of the frame encoder; see `BaseEncoder.weights_sources`."""
        return self._encoder().weights_sources()

    def _encoder(self) -> BaseEncoder:
        return ImageEncoder() if self.frame_encoder is None else self.frame_encoder

    def _prepared(self, video: Video) -> Iterator[Any]:
        encoder = self._encoder()
        with contextlib.closing(video.decode()) as frames:  # so that an error does not leave the file open
            for frame in frames:
                yield encoder.load(frame)

    def _pooled(self, vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
        if self.pool == "max":
            return vectors.max(axis=0)
        mean = np.average(vectors, axis=0, weights=weights)
        if self.pool == "mean":
            return mean
        return np.concatenate([mean, np.sqrt(np.average((vectors - mean) ** 2, axis=0, weights=weights))])

    def _check_params(self) -> None:
        self._batch_size()
        if self.frame_encoder is not None and not isinstance(self.frame_encoder, BaseEncoder):
            raise TypeError(f"{_NEEDED_BY}: frame_encoder must be None or an encoder; got {self.frame_encoder!r}.")
        _check_whole("n_frames", self.n_frames, "")
        if self.max_pixels is not None:
            _check_whole("max_pixels", self.max_pixels, "None or ")
        fps = self.fps
        is_number = isinstance(fps, numbers.Real) and not isinstance(fps, bool)
        if fps is not None and not (is_number and 0 < float(fps) < np.inf):
            raise ValueError(f"{_NEEDED_BY}: fps must be None or a number above 0; got {fps!r}.")
        if self.pool not in _POOLS:
            raise ValueError(f"{_NEEDED_BY}: pool must be one of {list(_POOLS)}; got {self.pool!r}.")


def _check_whole(name: str, value: Any, also: str) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{_NEEDED_BY}: {name} must be {also}a whole number of at least 1; got {value!r}.")
