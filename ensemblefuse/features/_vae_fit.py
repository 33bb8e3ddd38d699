"""Training of an autoencoder of blocks on arrays, and its answers for new rows. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ensemblefuse._threads import one_blas_thread, one_torch_thread
from ensemblefuse._torch import settle_after_fork
from ensemblefuse.features._vae_nets import Autoencoder, build_autoencoder
from ensemblefuse.features._vae_start import linear_start
from ensemblefuse.training.layers import Draws
from ensemblefuse.training.loop import Record, Schedule, train
from ensemblefuse.training.state import arrays_of, fill, live_network

__all__ = ["ask_autoencoder", "fit_autoencoder"]

# The divergence counts nothing in the first step and fully after this share of the steps: else it is cheapest in the
# beginning to make all rows alike.
_RISE = 0.3
# Rows times draws that are computed at once.
_CHUNK = 8192
_GAIN = 1e-4


class _Task:
    """The rows of a training, and their losses in nats a column."""

    def __init__(self, net: Autoencoder, inputs: Any, weight: np.ndarray, n_latent: int, seed: int, device: str):
        as_single = lambda values: torch.as_tensor(values, dtype=torch.float32, device=device)
        self.net, self.device, self.seed, self.n_latent = net, device, seed, n_latent
        self.blocks, self.mask, self.weight = [as_single(x) for x in inputs[0]], as_single(inputs[1]), as_single(weight)
        self.n_columns = sum(x.shape[1] for x in self.blocks)
        self.draws, self.n_done, self.n_rising = Draws(seed + 2), 0, 1.0

    def losses(self, index: torch.Tensor) -> torch.Tensor:
        """Return the weighted losses of a batch, of shape (k, n_batch)."""
        kl_weight = min(1.0, self.n_done / self.n_rising)
        self.n_done += 1
        return self._losses(index.to(self.device), self.draws, kl_weight)

    def _losses(self, index: torch.Tensor, draws: Draws, kl_weight: float) -> torch.Tensor:
        blocks, mask = [x[index] for x in self.blocks], self.mask[index]
        generator = draws.on(mask.device)
        noise = lambda: torch.randn(*mask.shape[:2], 1, self.n_latent, generator=generator, device=mask.device)
        if self.net.kind == "conditional":
            target = _one_of(mask, generator)
            given = (mask - target) * draws.keep(mask, 0.75)
            total = self.net.bound(blocks, target, noise(), given=given, kl_weight=kl_weight)
        else:
            total = self.net.bound(blocks, mask, noise(), kl_weight=kl_weight)
        if self.net.kind == "poe":
            some = mask * draws.keep(mask, 0.5)
            some = torch.where(some.sum(dim=-1, keepdim=True) > 0, some, _one_of(mask, generator))
            total = total + self.net.bound(blocks, some, noise(), kl_weight=kl_weight)
        return -total * self.weight[index] / self.n_columns

    def held_loss(self, held: Sequence[np.ndarray]) -> Callable[[], torch.Tensor]:
        """Return a function that gives each member's loss on the rows that it held out.

        The first member holds out nothing, and has the mean of the others. So it is kept at the epoch that is best for
        networks that have not seen the rows by which it is judged.
        """
        longest = max(map(len, held))
        rows = [np.zeros(longest, dtype=int), *(np.resize(part, longest) for part in held)]
        counts = torch.tensor(np.arange(longest) < np.array([[0], *([len(part)] for part in held)]), device=self.device)
        index = torch.as_tensor(np.array(rows), device=self.device)
        share = counts / (counts * self.weight[index]).sum(dim=1, keepdim=True).clamp(min=1e-12)

        def loss() -> torch.Tensor:
            found = (self._losses(index, Draws(self.seed + 3), 1.0) * share).sum(dim=1)
            return torch.cat([found[1:].mean(dim=0, keepdim=True), found[1:]])

        return loss


def _one_of(mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return a mask with one of the present blocks of each row, drawn at random."""
    chance = torch.rand(mask.shape, generator=generator, device=mask.device) * mask
    return torch.zeros_like(mask).scatter(-1, chance.argmax(dim=-1, keepdim=True), 1.0) * mask


def fit_autoencoder(
    inputs: tuple[list[np.ndarray], np.ndarray],
    weight: np.ndarray,
    plan: Mapping[str, Any],
    schedule: Schedule,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    seed: int,
    device: str = "cpu",
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], int]:
    """Train the autoencoder of a plan, from a linear start.

    Beside the network that learns from all rows, one is trained for each fold without its rows. They cost little, as
    all are computed at once, and say at which epoch to stop.

    Parameters
    ----------
    inputs : (blocks, mask)
        Prepared blocks of shape (n_rows, width), and which are present, of shape (n_rows, n_blocks).
    weight : ndarray of shape (n_rows,)
        Of mean 1.
    plan : dict
        As `build_autoencoder` takes it, with ``n_members`` of 1.
    schedule : Schedule
    folds : sequence of (train, test)
        Positions of rows; without folds, all epochs are trained.
    seed : int
    device : str

    Returns
    -------
    state : dict of str to ndarray
        Of one network.
    history : dict of str to ndarray
    best_epoch : int
        0 if the linear start was better than every epoch.
    """
    rows = [np.arange(len(weight)), *(train for train, _ in folds)]
    with one_blas_thread():
        starts = [
            linear_start([x[part] for x in inputs[0]], inputs[1][part], weight[part], plan["n_latent"], plan["kind"])
            for part in rows
        ]
    with one_torch_thread():
        net = build_autoencoder({**plan, "n_members": len(rows)}, seed=seed)
        fill(net, {**arrays_of(net), **{name: np.stack([start[name] for start in starts]) for name in starts[0]}})
        before = arrays_of(net)
        task = _Task(net.to(device), inputs, weight, plan["n_latent"], seed, device)
        n_batches = max(1, round(min(map(len, rows)) / schedule.batch_size))  # as `train` has them
        task.n_rising = max(1.0, _RISE * schedule.max_epochs * n_batches)
        held = task.held_loss([test for _, test in folds]) if folds else None
        with torch.no_grad():
            at_start = np.inf if held is None else float(held()[0])
        record = train(net, task.losses, rows, schedule, seed=seed + 1, held_loss=held)
        after = arrays_of(net)
    history, best = _of_first(record), int(record.best_epochs[0])
    if held is not None and not history["held_loss"].min() < at_start - _GAIN:
        after, best = before, 0
    return {name: values[:1] for name, values in after.items()}, history, best


def _of_first(record: Record) -> dict[str, np.ndarray]:
    return {name: values[:, 0] if values.ndim > 1 else values for name, values in record.history.items()}


def ask_autoencoder(
    owner: Any,
    state: Mapping[str, np.ndarray],
    plan: Mapping[str, Any],
    answer: Callable[..., torch.Tensor],
    blocks: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    n_draws: int,
) -> np.ndarray:
    """Return what an autoencoder answers for new rows, in double precision and the same for a row whatever is beside.

    Parameters
    ----------
    owner, state, plan
        As `live_network` and `build_autoencoder` take them.
    answer : callable
        ``answer(net, blocks, masks, noise)`` returns a tensor whose first axes are (1, n_rows).
    blocks : sequence of arrays of shape (n_rows, width)
    masks : sequence of arrays of shape (n_rows, n_blocks)
    n_draws : int
        All rows have the same draws, in pairs of opposite sign: the mean of a linear map over them is exact.
    """
    settle_after_fork()
    net = live_network(owner, state, lambda: build_autoencoder(plan))
    half = np.random.default_rng(748_190).normal(size=((n_draws + 1) // 2, plan["n_latent"]))
    noise = torch.from_numpy(np.concatenate([half, -half])[None, None])
    # A row has as many draws for each component of a mixture.
    step = max(16, _CHUNK // (noise.shape[2] * len(blocks)))
    said = []
    for start in range(0, max(1, len(masks[0])), step):
        part = slice(start, start + step)
        as_double = lambda values, part=part: torch.from_numpy(np.ascontiguousarray(values[part], dtype=np.float64))[
            None
        ]
        with torch.inference_mode():
            said.append(answer(net, [as_double(x) for x in blocks], [as_double(mask) for mask in masks], noise))
    return torch.cat(said, dim=1)[0].numpy()
