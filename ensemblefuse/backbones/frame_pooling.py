"""Pooling of the frames of several sounds to one vector per sound, a batch of windows at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from ensemblefuse.cells.sound import Sound

__all__ = ["pool_frames"]


def pool_frames(
    sounds: Sequence[Sound],
    window: int,
    batch_size: int,
    embed: Callable[[list[np.ndarray]], list[np.ndarray]],
    *,
    group: Callable[[np.ndarray], Hashable] = lambda _: None,
    std: bool = True,
) -> np.ndarray:
    """Compute the mean and standard deviation over all frames of each sound's windows.

    At most `batch_size` windows of each group are in memory, however long the sounds are.

    Parameters
    ----------
    sounds : sequence of Sound
    window : int
        Number of samples that go through the network as one piece.
    batch_size : int
        Number of windows that go through the network at once.
    embed : callable
        Takes a list of windows of one group, and returns for each an array of shape (n_frames, n_dims) with the frames
        of its own samples, without padding.
    group : callable
        Returns the key of a window. Only windows with the same key go through the network together; by default all.
    std : bool
        Whether to add the standard deviation. If not, the mean weights each window by its number of samples.

    Returns
    -------
    ndarray of shape (len(sounds), 2 * n_dims) or (len(sounds), n_dims), dtype float32
    """
    moments = [_Moments() for _ in sounds]
    waiting: defaultdict[Hashable, list[tuple[int, np.ndarray]]] = defaultdict(list)

    def flush(key: Hashable) -> None:
        batch = waiting.pop(key)
        for (i, part), frames in zip(batch, embed([part for _, part in batch]), strict=True):
            moments[i].add(frames, 1.0 if std else len(part))

    for i, sound in enumerate(sounds):
        for part in sound.windows(window):
            key = group(part)
            waiting[key].append((i, part))
            if len(waiting[key]) == batch_size:
                flush(key)
    for key in list(waiting):
        flush(key)
    return np.stack([np.hstack([one.mean, one.std()]) if std else one.mean for one in moments]).astype(np.float32)


class _Moments:
    """Running mean and deviation of frames that come in parts (Chan, Golub and LeVeque, 1983); exact for constants."""

    def __init__(self) -> None:
        self.weight = 0.0
        self.mean = self.spread = np.zeros(1)

    def add(self, frames: np.ndarray, weight: float) -> None:
        frames = frames.astype(np.float64)
        own, n = frames.mean(axis=0), weight * len(frames)
        delta, total = own - self.mean, self.weight + n
        self.mean = self.mean + delta * (n / total)
        self.spread = self.spread + weight * ((frames - own) ** 2).sum(axis=0) + delta**2 * (self.weight * n / total)
        self.weight = total

    def std(self) -> np.ndarray:
        return np.sqrt(self.spread / self.weight)
