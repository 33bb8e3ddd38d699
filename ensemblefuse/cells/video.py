"""Reader of a video cell into sampled frames; only what these need is decoded."""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from ensemblefuse.cells._video_stream import frames_at, read_index, refuse_costly
from ensemblefuse.cells.image import read_rgb
from ensemblefuse.cells.video_file import open_bytes

__all__ = ["Video", "read_video"]

# Pillow decodes an animation at 50 to 120 million pixels per second, with all frames before the wanted one.
_MOST_ANIMATION_PIXELS = 2**28
_MOST_ANIMATION_FRAMES = 10_000
_PILLOW_FORMATS = ("GIF", "WEBP", "PNG")
_GRAIN = 0.0005  # seconds by which a frame may begin after a sampled time and still count as shown


@dataclass(frozen=True)
class Video:
    """The frames that were sampled from a video.

    Attributes
    ----------
    weights : ndarray of shape (n_sampled,), dtype float64
        For each frame the number of sampled times at which it is shown.
    decode : callable
        Returns a generator of the frames in the order of time: arrays of shape (height, width, 3), dtype uint8.
    """

    weights: np.ndarray
    decode: Callable[[], Generator[np.ndarray, None, None]]


def read_video(cell: Any, n_frames: int, fps: float | None, max_pixels: int | None, *, needed_by: str) -> Video:
    """Sample the frames of one video.

    Parameters
    ----------
    cell : str, path, bytes, array, list, or tuple of array or list and number
        A file's path or bytes; frames of shape (n_frames, height, width, 3), uint8 or floats in [0, 1]; a list of
        pictures, as `read_rgb` takes them; or a tuple of such frames and their number per second.
    n_frames : int
        Number of frames to take, in the middles of as many equal parts of the video. A video of fewer frames gives all
        of them. Not used if `fps` is given.
    fps : float or None
        Number of sampled times per second, from the first frame on. At each time, the frame that is shown is taken.
    max_pixels : int or None
        Largest number of pixels that may be decoded to reach the sampled frames.
    needed_by : str
        The class that the user called, for the messages.

    Returns
    -------
    Video

    Raises
    ------
    TypeError, ValueError, OSError
        If the cell is not a readable video. Some damage is only found when its frames are decoded.
    ImportError
        If the cell is a file that needs PyAV, and PyAV is not installed.
    """
    if isinstance(cell, (np.ndarray, list, tuple)):
        return _from_frames(cell, n_frames, fps)
    with open_bytes(cell) as file:
        if is_animation(file):
            return _from_animation(cell, file, n_frames, fps, max_pixels)
        index = read_index(file, needed_by=needed_by)
    shown = index.shown
    end = float((index.end - int(shown[0])) * index.seconds)
    places, weights = sample((shown - shown[0]) * index.seconds, end, n_frames, fps)
    targets = shown[places]
    refuse_costly(index, targets, max_pixels)
    return Video(weights, lambda: frames_at(cell, index, targets, max_pixels, needed_by=needed_by))


def sample(starts: np.ndarray, end: float, n_frames: int, fps: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the sampled frames, and their weights.

    Parameters
    ----------
    starts : ndarray of shape (n_all,)
        Time at which each frame begins, in seconds after the first, ascending.
    end : float
        Time at which the last frame ends.
    n_frames, fps
        As in `read_video`.
    """
    n_all = len(starts)
    if fps is None:
        n_taken = min(n_frames, n_all)
        return (2 * np.arange(n_taken) + 1) * n_all // (2 * n_taken), np.ones(n_taken)
    # How many sampled times k / fps lie before each frame. Many files store times in whole milliseconds.
    grain = min(_GRAIN, 0.1 / fps)
    before = np.ceil((np.append(starts, max(end, starts[-1])) - grain) * fps)
    weights = np.diff(before)
    weights[0] = max(weights[0], 1)  # a single picture without a duration
    taken = np.flatnonzero(weights > 0)
    return taken, weights[taken]


# ---------------------------------------------------------------------- frames in memory


def _from_frames(cell: Any, n_frames: int, fps: float | None) -> Video:
    """Sample an array of frames or a list of pictures, or a tuple of one of these and a rate."""
    frames, rate = cell, None
    if isinstance(cell, tuple) and len(cell) == 2 and isinstance(cell[1], numbers.Real):
        frames, rate = cell
        if isinstance(rate, bool) or not 0 < rate < np.inf:
            raise ValueError(f"the number of frames per second must be above 0; got {rate!r}")
    if isinstance(frames, np.ndarray) and (frames.ndim != 4 or frames.shape[3] != 3 or frames.size == 0):
        raise ValueError(f"an array of frames must have shape (n_frames, height, width, 3); got {frames.shape}")
    if not isinstance(frames, (np.ndarray, list, tuple)):
        raise TypeError(
            "expected a path, bytes, an array or list of frames, or a tuple of these and the frames per second; got "
            f"{type(frames).__name__}"
        )
    if not len(frames):
        raise ValueError("an empty list of frames; use None for a missing cell")
    if fps is not None and rate is None:
        raise ValueError("frames without times, which fps needs: pass a tuple (frames, frames per second)")
    times = np.arange(len(frames) + 1) / (1.0 if rate is None else float(rate))
    places, weights = sample(times[:-1], times[-1], n_frames, fps)
    return Video(weights, lambda: (_picture(frames, int(place)) for place in places))


def _picture(frames: Any, place: int) -> np.ndarray:
    try:
        return np.asarray(read_rgb(frames[place]))
    except (OSError, ValueError, TypeError) as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"frame {place} of {len(frames)} (from 0): {what}") from error


# ---------------------------------------------------------------------- animations


def is_animation(file: BinaryIO) -> bool:
    """Return whether a file is a GIF, PNG or WebP by its first bytes."""
    start = file.read(12)
    file.seek(0)
    return start.startswith((b"GIF8", b"\x89PNG")) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def _from_animation(cell: Any, file: BinaryIO, n_frames: int, fps: float | None, max_pixels: int | None) -> Video:
    most = _MOST_ANIMATION_PIXELS if max_pixels is None else min(max_pixels, _MOST_ANIMATION_PIXELS)
    with _plain_pillow_errors(), _open_animation(file) as image:
        starts, end = _times_of_animation(image, most)
    places, weights = sample(starts, end, n_frames, fps)
    return Video(weights, lambda: _animation_frames(cell, places))


def _times_of_animation(image: Any, most: int) -> tuple[np.ndarray, float]:
    """Return the time in seconds at which each frame begins, and the end. The file's own count may be wrong."""
    width, height = image.size
    milliseconds: list[float] = []
    while True:
        if width * height * (len(milliseconds) + 1) > most or len(milliseconds) == _MOST_ANIMATION_FRAMES:
            raise ValueError(
                f"an animation of {width} x {height} pixels with over {len(milliseconds)} frames; at most {most} "
                f"pixels and {_MOST_ANIMATION_FRAMES} frames are decoded: convert it to a video file, such as MP4"
            )
        image.load()
        milliseconds.append(float(image.info.get("duration") or 0))
        try:
            image.seek(len(milliseconds))
        except EOFError:
            break
    promised = getattr(image, "n_frames", 1)
    if len(milliseconds) < promised:
        raise ValueError(f"cut short: the file holds {len(milliseconds)} of its {promised} frames")
    ends = np.cumsum(milliseconds) / 1000
    return np.append(0.0, ends[:-1]), float(ends[-1])


def _animation_frames(cell: Any, places: np.ndarray) -> Generator[np.ndarray, None, None]:
    with open_bytes(cell) as file, _plain_pillow_errors(), _open_animation(file) as image:
        for place in places:
            image.seek(int(place))
            yield np.asarray(read_rgb(image))


def _open_animation(file: BinaryIO) -> Any:
    """Open an animation like `Image.open`, without the warning about large pictures, which are refused elsewhere."""
    Image.init()
    start = file.read(16)
    file.seek(0)
    for name in _PILLOW_FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(start) is True:
            return factory(file, "")
    raise ValueError("not an animation that can be read")


@contextlib.contextmanager
def _plain_pillow_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, MemoryError):
        raise
    except Exception as error:  # on damaged content Pillow's readers raise any error
        raise ValueError(f"damaged or of a kind that Pillow cannot decode ({type(error).__name__}: {error})") from error
