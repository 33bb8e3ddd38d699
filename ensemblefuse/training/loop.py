"""The training loop of all networks, k at once or one: AdamW, a schedule, early stopping and a limit of time.

It is a plain loop, and no library. skorch fails 39 of the 55 checks of scikit-learn's `check_estimator` that concern
it, its `fit` takes no `sample_weight`, and its fitted nets hold live modules, which model files refuse. lightning is
four packages whose trainer writes files. Both would replace this module only, not what stands around it: reading
blocks, weights, groups, and state as arrays. AdamW is written out because the first optimiser of torch loads its
compiler, which takes two seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch
from torch import nn

from ensemblefuse.training._rates import Plateau, rate_at

__all__ = ["AdamW", "Record", "Schedule", "train"]

_PATIENCE = 10
_GAIN = 1e-4


@dataclass(frozen=True)
class Schedule:
    """How long and how fast networks are trained.

    Attributes
    ----------
    max_epochs : int
    batch_size : int
        About; an epoch has equal batches. If it is at least the number of rows, a batch holds all of them.
    learning_rate, weight_decay : float
        The decay is of weights alone, not of what has one number for each unit (bias, gain).
    shape : {"cosine", "one_cycle", "plateau", "constant"}
    time_limit : float, optional
        Seconds after which no new epoch begins.
    clip : float
        Largest norm of the gradient of one member.
    """

    max_epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    shape: str = "cosine"
    time_limit: float | None = None
    clip: float = 1.0


@dataclass
class Record:
    """What happened in a training.

    Attributes
    ----------
    best_epochs : ndarray of int of shape (k,)
        Number of epochs after which each member was best on the rows that it held out; all epochs without such rows.
    history : dict of str to ndarray
        ``train_loss`` and, with held-out rows, ``held_loss``, both of shape (n_epochs, k); ``learning_rate`` at the end
        of each epoch and ``seconds`` since the start, of shape (n_epochs,).
    """

    best_epochs: np.ndarray
    history: dict[str, np.ndarray] = field(default_factory=dict)


class AdamW:
    """AdamW over all parameters of k networks as one table of k rows.

    Each parameter becomes a view of this table, so that a step is a few operations whatever the number of layers, and
    the state of a member is a row. The gradients of each member are clipped by their own norm: no member depends on
    the others.

    Parameters
    ----------
    network : module
        All its parameters have k as their first axis, unless `rates` are given.
    n_members : int
    weight_decay : float
    rates : mapping of str to float, optional
        For one ordinary network, whose parameters have no axis of members: the factors of the learning rate of its
        parameters, by their names. It is 1 for those that are not named.
    """

    def __init__(
        self, network: nn.Module, n_members: int, weight_decay: float, rates: Mapping[str, float] | None = None
    ):
        trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        self.values = torch.cat([p.detach().reshape(n_members, -1) for _, p in trained], dim=1)
        self._trained = [p for _, p in trained]
        self._mean, self._square = torch.zeros_like(self.values), torch.zeros_like(self.values)
        n_axes = 2 if rates is None else 1  # of what is no matrix
        is_matrix = ["weight" in name.rpartition(".")[2] and p.ndim > n_axes for name, p in trained]
        sizes = [p.numel() // n_members for _, p in trained]
        as_row = lambda values: torch.tensor(values, dtype=self.values.dtype, device=self.values.device)
        decay = np.repeat(np.where(is_matrix, weight_decay, 0.0), sizes)
        self._rates: torch.Tensor | None = None
        if rates:
            factors = np.repeat([rates.get(name, 1.0) for name, _ in trained], sizes)
            decay, self._rates = decay * factors, as_row(factors)
        self._decay = as_row(decay)
        self._count = 0
        ends = np.cumsum(sizes).tolist()
        for (_, p), size, end in zip(trained, sizes, ends, strict=True):
            p.data = self.values[:, end - size : end].view(p.shape)

    def step(self, rate: float, clip: float) -> None:
        """Change the parameters by their gradients, and forget these."""
        found = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._trained]
        gradients = torch.cat([part.reshape(len(self.values), -1) for part in found], dim=1)
        gradients *= (clip / gradients.norm(dim=1, keepdim=True)).clamp(max=1.0)
        self._count += 1
        self._mean.lerp_(gradients, 0.1)
        self._square.mul_(0.999).addcmul_(gradients, gradients, value=0.001)
        size = (self._square / (1 - 0.999**self._count)).sqrt_().add_(1e-8)
        move = self._mean if self._rates is None else self._mean * self._rates
        self.values.mul_(1 - rate * self._decay)
        self.values.addcdiv_(move, size, value=-rate / (1 - 0.9**self._count))
        for p in self._trained:
            p.grad = None


class _Best:
    """The best state of each member so far: its row of the table and, of a network that is alone, its buffers."""

    def __init__(self, network: nn.Module, optimiser: AdamW):
        k = len(optimiser.values)
        self.loss, self.epochs = np.full(k, np.inf), np.zeros(k, dtype=int)
        self._values, self._own = optimiser.values, optimiser.values.clone()
        self._buffers = list(network.buffers()) if k == 1 else []
        self._kept = [buffer.clone() for buffer in self._buffers]

    def see(self, held: np.ndarray, epoch: int) -> None:
        """Take notice of the losses after an epoch, which counts from 1."""
        self._take(held < self.loss - _GAIN, held, epoch)

    def restore(self, epoch: int) -> None:
        """Set the network to the best states; a member whose held-out rows have no known target keeps the last one."""
        self._take(~np.isfinite(self.loss), self.loss, epoch)
        with torch.no_grad():
            self._values.copy_(self._own)
            for buffer, kept in zip(self._buffers, self._kept, strict=True):
                buffer.copy_(kept)

    def _take(self, better: np.ndarray, losses: np.ndarray, epoch: int) -> None:
        self.loss[better], self.epochs[better] = losses[better], epoch
        rows = torch.from_numpy(better)
        self._own[rows] = self._values[rows]
        if better.any():
            self._kept = [buffer.clone() for buffer in self._buffers]


def train(
    network: nn.Module,
    losses: Callable[[torch.Tensor], torch.Tensor],
    rows: Sequence[np.ndarray],
    schedule: Schedule,
    *,
    seed: int,
    held_loss: Callable[[], torch.Tensor] | None = None,
    rates: Mapping[str, float] | None = None,
) -> Record:
    """Train k networks at once. Afterwards, the network holds each member at its best epoch.

    An interrupt leaves the network as it was at some step. The caller makes an estimator of it after this function has
    returned, so no estimator is left half written.

    Parameters
    ----------
    network : module
        All its parameters have k as their first axis, unless `rates` are given.
    losses : callable
        Takes positions of rows of shape (k, n_batch), and returns the weighted loss of each. The mean over a batch is
        minimised. Weights have the mean 1 over all rows: if they were divided by their sum in the batch, a batch of
        rows with small weights would count as much as any other.
    rows : sequence of k arrays of positions
        What each member learns from.
    schedule : Schedule
    seed : int
        Of the order of the rows.
    held_loss : callable, optional
        Returns the loss of each member on the rows that it held out, of shape (k,). Training ends when none was better
        for 10 epochs.
    rates : mapping of str to float, optional
        For one ordinary network, as in `AdamW`. Only such a network may have buffers that change in training.
    """
    start, rng, k = perf_counter(), np.random.default_rng(seed), len(rows)
    fewest = min(map(len, rows))
    n_batches = max(1, round(fewest / schedule.batch_size))
    optimiser, plateau = AdamW(network, k, schedule.weight_decay, rates), Plateau(schedule.shape)
    best = _Best(network, optimiser)
    told: dict[str, list] = {"train_loss": [], "learning_rate": [], "seconds": []}
    for epoch in range(schedule.max_epochs):
        network.train()
        orders = np.stack([rng.permutation(own)[:fewest] for own in rows])
        train_loss = np.zeros(k)
        for i, index in enumerate(np.array_split(orders, n_batches, axis=1)):
            step = epoch * n_batches + i
            rate = schedule.learning_rate * plateau.factor
            rate *= rate_at(schedule.shape, step, schedule.max_epochs * n_batches)
            loss = losses(torch.from_numpy(index)).mean(dim=1)
            loss.sum().backward()
            optimiser.step(rate, schedule.clip)
            train_loss += loss.detach().cpu().numpy() * index.shape[1] / fewest
        told["train_loss"].append(train_loss)
        told["learning_rate"].append(rate)
        if held_loss is not None:
            network.eval()
            with torch.no_grad():
                held = held_loss().cpu().numpy()
            told.setdefault("held_loss", []).append(held)
            best.see(held, epoch + 1)
        plateau.see(float(np.mean(train_loss if held_loss is None else held)))
        told["seconds"].append(perf_counter() - start)
        waited = epoch + 1 - best.epochs.max(initial=0)
        out_of_time = schedule.time_limit is not None and told["seconds"][-1] >= schedule.time_limit
        if out_of_time or (held_loss is not None and waited >= _PATIENCE):
            break
    network.eval()
    if held_loss is not None:
        best.restore(epoch + 1)
    best_epochs = np.full(k, epoch + 1) if held_loss is None else best.epochs
    return Record(best_epochs, {name: np.array(values) for name, values in told.items()})
