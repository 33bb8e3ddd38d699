"""Pictures of a video file: an index of their times, and decoding of those at given times."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse.cells.video_file import MAX_FRAME_PIXELS, open_bytes, open_container, packets

__all__ = ["Index", "frames_at", "read_index", "refuse_costly"]


@dataclass(frozen=True)
class Index:
    """The packets of a video's first picture stream, in the order of decoding. They are read without decoding.

    Attributes
    ----------
    times : ndarray of shape (n_packets,), dtype int64
        Times at which their frames are shown, in units of the stream's time base.
    is_key : ndarray of shape (n_packets,), dtype bool
        Whether decoding can begin at the packet.
    is_shown : ndarray of shape (n_packets,), dtype bool
        False if an edit list hides the frame: it is decoded only because others need it.
    end : int
        Time at which the last frame ends.
    seconds : float
        Length of one unit of time.
    shape : tuple of 2 int
        Width and height in the header.
    """

    times: np.ndarray
    is_key: np.ndarray
    is_shown: np.ndarray
    end: int
    seconds: float
    shape: tuple[int, int]

    @property
    def shown(self) -> np.ndarray:
        """Return the times of the frames that are shown, ascending."""
        return np.sort(self.times[self.is_shown])


def read_index(file: BinaryIO, *, needed_by: str) -> Index:
    """Read the index of a video file.

    Raises
    ------
    ValueError
        If the file holds no pictures, or libav cannot read it.
    ImportError
        If PyAV is not installed.
    """
    times: list[int] = []
    is_key: list[bool] = []
    is_shown: list[bool] = []
    end = 0
    with open_container(file, needed_by=needed_by) as container:
        stream = _picture_stream(container)
        for packet in packets(container, stream):
            if packet is None:
                break
            time = packet.pts if packet.pts is not None else packet.dts
            time = (times[-1] + 1 if times else 0) if time is None else time
            times.append(time)
            is_key.append(packet.is_keyframe)
            is_shown.append(not packet.is_discard)
            end = max(end, time + (packet.duration or 0))
        context = stream.codec_context
        seconds, shape = float(stream.time_base or 1), (int(context.width or 0), int(context.height or 0))
    if not any(is_shown):
        raise ValueError("it holds no frames")
    first, last = min(times), max(times)
    if end <= last:
        end = last + (last - first) // max(1, len(times) - 1)
    return Index(np.array(times, dtype=np.int64), np.array(is_key), np.array(is_shown), end, seconds, shape)


def refuse_costly(index: Index, targets: np.ndarray, max_pixels: int | None) -> None:
    """Raise ValueError if more pixels than `max_pixels` must be decoded to reach the frames of given times."""
    width, height = index.shape
    if width * height > MAX_FRAME_PIXELS:
        raise ValueError(f"frames of {width} x {height} pixels; at most {MAX_FRAME_PIXELS} pixels can be read")
    order = np.argsort(index.times, kind="stable")
    places = order[np.searchsorted(index.times[order], targets)]
    n_decoded = done = 0
    for place, begin in zip((places + 1).tolist(), _begins(index, targets, 1), strict=True):
        n_decoded += max(0, place - max(begin, done))
        done = max(done, place)
    if max_pixels is not None and n_decoded * width * height > max_pixels:
        raise ValueError(
            f"{n_decoded} frames of {width} x {height} pixels must be decoded to reach the sampled ones: more than "
            f"max_pixels={max_pixels}; raise it, or pass None for files that you trust"
        )


def frames_at(
    cell: Any, index: Index, targets: np.ndarray, max_pixels: int | None, *, needed_by: str
) -> Generator[np.ndarray, None, None]:
    """Yield the frames that are shown at given times, the same as if the whole file was decoded.

    Parameters
    ----------
    cell : str, path or bytes
    index : Index
    targets : ndarray of shape (n_sampled,), ascending
        Times of `index`.
    max_pixels : int or None
        Largest number of pixels that one pass over the file may decode.
    needed_by : str
        The class that the user called, for the messages.

    Yields
    ------
    ndarray of shape (height, width, 3), dtype uint8

    Raises
    ------
    ValueError
        If a frame cannot be decoded whole.
    """
    n_done = 0
    # If pictures are refreshed strip by strip, the decoder returns the first one long after the key: begin earlier.
    for n_back in (1, 2, len(index.times)):
        left = targets[n_done:]
        wanted = deque(zip(left.tolist(), _begins(index, left, n_back), strict=True))
        with contextlib.closing(_one_pass(cell, index, wanted, max_pixels, needed_by)) as frames:
            for frame in frames:
                n_done += 1
                yield frame
        if n_done == len(targets):
            return
    raise ValueError("cut short or damaged: the sampled frames cannot be decoded")


def _begins(index: Index, targets: np.ndarray, n_back: int) -> list[int]:
    """Return for each time the packet at which to begin decoding: the `n_back`-th last key that is shown by then."""
    keys = np.flatnonzero(index.is_key)
    times = index.times[keys]
    by_time = np.argsort(times, kind="stable")
    last_by_then = np.append(-1, np.maximum.accumulate(by_time))[np.searchsorted(times[by_time], targets, side="right")]
    chosen = last_by_then - (n_back - 1)
    return [int(keys[i]) if i >= 0 else 0 for i in chosen]


def _one_pass(
    cell: Any, index: Index, wanted: deque[tuple[int, int]], max_pixels: int | None, needed_by: str
) -> Generator[np.ndarray, None, None]:
    """Yield the frames of the wanted times. Stop early at a frame whose decoding must begin before the given packet."""
    to_rgb = import_optional("av", extra="video", needed_by=needed_by).video.reformatter.VideoReformatter()
    n_pixels, fed, earliest = 0, -1, None
    last: Any = None  # the frame that is shown now, if known
    with open_bytes(cell) as file, open_container(file, needed_by=needed_by) as container:
        stream = _picture_stream(container)
        for place, packet in enumerate(packets(container, stream)):
            if packet is not None and place < wanted[0][1]:
                continue
            if packet is not None and place > fed + 1:
                stream.codec_context.flush_buffers()
                earliest, last = int(index.times[place]), None  # frames shown before the key lack their references
            fed = place
            for frame in stream.decode(packet):
                n_pixels += frame.width * frame.height
                if max_pixels is not None and n_pixels > max_pixels:
                    raise ValueError(f"over max_pixels={max_pixels} were decoded, more than its header declares")
                if frame.pts is None:
                    raise ValueError("its frames have no times")
                if earliest is not None and frame.pts < earliest:
                    continue
                while wanted and frame.pts >= wanted[0][0]:
                    if frame.pts > wanted[0][0] and last is None and earliest is not None:
                        return
                    # If no frame begins at this time, the one before is shown; at the beginning, the first one.
                    yield _upright(frame if frame.pts == wanted[0][0] or last is None else last, to_rgb)
                    wanted.popleft()
                last = frame
                if not wanted:
                    return
        if last is not None:
            for _ in wanted:
                yield _upright(last, to_rgb)


def _picture_stream(container: Any) -> Any:
    if not container.streams.video:
        raise ValueError("it holds no pictures")
    return container.streams.video[0]


def _upright(frame: Any, to_rgb: Any) -> np.ndarray:
    """Return the pixels of a frame, turned upright; raise ValueError if it is damaged."""
    if frame.is_corrupt:
        raise ValueError(f"damaged: its frame at {frame.time:.3g} s cannot be decoded whole")
    # One thread, because several videos are read at once.
    pixels = to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
    turns = round((frame.rotation or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))
