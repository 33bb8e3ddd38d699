"""Learning rates over the steps of a training, as factors of the highest one."""

from __future__ import annotations

import math

__all__ = ["SCHEDULES", "Plateau", "cosine", "one_cycle", "rate_at"]

SCHEDULES = ("cosine", "one_cycle", "plateau", "constant")

_WARM_UP = 0.1
_RISE = 0.3


def cosine(step: int, n_steps: int) -> float:
    """Return ``(1 + cos(pi step / n_steps)) / 2``."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, n_steps))))


def one_cycle(step: int, n_steps: int) -> float:
    """Return a rate that rises over the first three tenths of the steps, and falls along a cosine afterwards."""
    rise = max(1, round(_RISE * n_steps))
    if step < rise:
        return 0.04 + 0.96 * (1 - cosine(step, rise))
    return cosine(step - rise, n_steps - rise)


def rate_at(schedule: str, step: int, n_steps: int) -> float:
    """Return the factor of the learning rate at a step, which counts from 0.

    All but ``"one_cycle"`` rise along a line in the first tenth of the steps. Adam's estimates of the gradient are
    worst there.
    """
    if schedule == "one_cycle":
        return one_cycle(step, n_steps)
    warm = max(1, round(_WARM_UP * n_steps))
    if step < warm:
        return (step + 1) / (warm + 1)
    return cosine(step - warm, n_steps - warm) if schedule == "cosine" else 1.0


class Plateau:
    """Half of the rate whenever the loss has not fallen for some epochs. It is 1 for other schedules."""

    def __init__(self, schedule: str, wait: int = 3):
        self.factor = 1.0
        self._waits = schedule == "plateau"
        self._best, self._since, self._wait = math.inf, 0, wait

    def see(self, loss: float) -> None:
        """Take notice of the mean loss of an epoch."""
        self._since = 0 if loss < self._best - 1e-4 else self._since + 1
        self._best = min(self._best, loss)
        if self._waits and self._since >= self._wait:
            self.factor, self._since = self.factor / 2, 0
