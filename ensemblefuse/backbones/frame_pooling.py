"""Frames of several sounds, a batch of windows at a time: pooled to one vector per sound, or to a few in a row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from ensemblefuse.cells.sound import Sound

__all__ = ["fewer_tokens", "frame_sequences", "pool_frames"]


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
    take = lambda i, j, part, frames: moments[i].add(frames, 1.0 if std else len(part))
    _each_window(sounds, window, batch_size, embed, group, take)
    return np.stack([np.hstack([one.mean, one.std()]) if std else one.mean for one in moments]).astype(np.float32)


def frame_sequences(
    sounds: Sequence[Sound],
    window: int,
    batch_size: int,
    embed: Callable[[list[np.ndarray]], list[np.ndarray]],
    most: int,
    *,
    group: Callable[[np.ndarray], Hashable] = lambda _: None,
) -> list[np.ndarray]:
    """Return the frames of each sound in their order, with neighbours averaged until there are at most `most`.

    The frames of a window are averaged to `most` before those of all windows are, so that few are in memory. Other
    parameters are those of `pool_frames`.

    Returns
    -------
    list of ndarray of shape (n_tokens, n_dims), dtype float32
    """
    found: list[dict[int, np.ndarray]] = [{} for _ in sounds]
    take = lambda i, j, part, frames: found[i].update({j: fewer_tokens(frames, most)})
    _each_window(sounds, window, batch_size, embed, group, take)
    return [fewer_tokens(np.concatenate([parts[j] for j in sorted(parts)]), most) for parts in found]


def fewer_tokens(tokens: np.ndarray, most: int) -> np.ndarray:
    """Return the means of groups of neighbours, of equal size but for the last, so that at most `most` are left.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.backbones.frame_pooling import fewer_tokens
    >>> fewer_tokens(np.arange(5.0)[:, None], 3).ravel()
    array([0.5, 2.5, 4. ], dtype=float32)
    """
    size = -(-len(tokens) // most)
    starts = np.arange(0, len(tokens), size)
    sums = np.add.reduceat(tokens.astype(np.float64), starts, axis=0)
    counts = np.diff(np.append(starts, len(tokens)))
    return (sums / counts[:, None]).astype(np.float32)


def _each_window(
    sounds: Sequence[Sound],
    window: int,
    batch_size: int,
    embed: Callable[[list[np.ndarray]], list[np.ndarray]],
    group: Callable[[np.ndarray], Hashable],
    take: Callable[[int, int, np.ndarray, np.ndarray], object],
) -> None:
    """Call `take` with number of the sound, number of the window in it, samples and frames; windows in any order."""
    waiting: defaultdict[Hashable, list[tuple[int, int, np.ndarray]]] = defaultdict(list)

    def flush(key: Hashable) -> None:
        batch = waiting.pop(key)
        for (i, j, part), frames in zip(batch, embed([part for _, _, part in batch]), strict=True):
            take(i, j, part, frames)

    for i, sound in enumerate(sounds):
        for j, part in enumerate(sound.windows(window)):
            key = group(part)
            waiting[key].append((i, j, part))
            if len(waiting[key]) == batch_size:
                flush(key)
    for key in list(waiting):
        flush(key)


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
