"""Training of a fusion network on arrays, and its outputs for new rows. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ensemblefuse._threads import one_torch_thread
from ensemblefuse._torch import settle_after_fork
from ensemblefuse.fusion._neural_nets import Fused, FusionNet, build_net
from ensemblefuse.training.layers import Draws
from ensemblefuse.training.loop import Record, Schedule, train
from ensemblefuse.training.losses import TaskBalance, cross_entropy, distillation, smooth_targets, squared_error
from ensemblefuse.training.precision import mixed_precision
from ensemblefuse.training.state import arrays_of, fill, live_network

__all__ = ["Head", "Taught", "Tricks", "ask_net", "fit_net"]

# Rows of each member that are predicted at once: 5 members of 64 units in double precision take 10 MB.
_CHUNK = 4096


@dataclass(frozen=True)
class Taught:
    """What a teacher says of the rows: probabilities at a temperature, and their share in the loss."""

    proba: np.ndarray
    share: float
    temperature: float


@dataclass
class Head:
    """What one output, or one group of outputs, is to learn.

    Attributes
    ----------
    n_classes : int
        0 for a number.
    target : ndarray of shape (n_rows,)
        Codes, or numbers of mean 0 and variance 1.
    weight : ndarray of shape (n_rows,)
        Of mean 1; 0 where the target is unknown.
    scale : float
        Factor of its loss where the epochs are compared.
    taught : Taught, optional
        Of the classes.
    """

    n_classes: int
    target: np.ndarray
    weight: np.ndarray
    scale: float = 1.0
    taught: Taught | None = None

    @property
    def width(self) -> int:
        return self.n_classes or 1

    @property
    def target_width(self) -> int:
        return self.width * (1 if self.taught is None else 2)


@dataclass(frozen=True)
class Tricks:
    """What is done to the batches of a training, and to no other rows."""

    dropout: float
    modality_dropout: float
    auxiliary_weight: float
    noise: float
    mixup: float
    label_smoothing: float
    balance: bool = False


class _Task:
    """The rows of a training on its device, and their losses.

    Each trick draws from a generator of its own. So one that is off changes no number of the others.
    """

    def __init__(self, net: FusionNet, inputs: Any, heads: Sequence[Head], tricks: Tricks, seed: int, device: str):
        blocks, mask = inputs
        as_single = lambda values: torch.as_tensor(values, dtype=torch.float32, device=device)
        self.net, self.tricks, self.heads, self.device = net, tricks, heads, device
        self.blocks, self.mask = [as_single(block) for block in blocks], as_single(mask)
        self.targets = torch.cat([_columns(head) for head in heads], dim=1).to(device)
        self.weights = as_single(np.column_stack([head.weight for head in heads]))
        self.drops, self.noise = Draws(seed + 2), Draws(seed + 3)
        self.mixes = np.random.default_rng(seed + 4)
        self.balance = TaskBalance() if tricks.balance else None

    def losses(self, index: torch.Tensor) -> torch.Tensor:
        """Return the weighted losses of a batch, of shape (k, n_batch)."""
        index = index.to(self.device)
        blocks, mask = [block[index] for block in self.blocks], self.mask[index]
        targets, weights = self.targets[index], self.weights[index]
        blocks, mask = self._without_some(*self._with_noise(blocks, mask))
        if self.tricks.mixup > 0:
            blocks, mask, targets, weights = self._mixed(blocks, mask, targets, weights)
        with mixed_precision(self.device, self.net.fusion.n_features):
            outputs, fused = self.net(blocks, mask)
            each = self.net.outputs_alone(fused) if self.tricks.auxiliary_weight > 0 else []
        losses = self._of_heads(outputs.float(), targets, self.tricks.label_smoothing) * weights
        for m, alone in enumerate(each):
            own = self._of_heads(alone.float(), targets, self.tricks.label_smoothing) * weights
            losses = losses + self.tricks.auxiliary_weight * own * mask[..., m : m + 1]
        if self.balance is None:
            return losses.mean(dim=-1)
        share = self.balance.weights(losses.sum(dim=1) / weights.sum(dim=1))
        return (losses * share.unsqueeze(1)).sum(dim=-1)

    def held_loss(self, held: Sequence[np.ndarray]) -> Any:
        """Return a function of no arguments that gives the loss of each member on its own rows."""
        longest = max(map(len, held))
        # Shorter lists are filled up with their first row, which then counts for nothing.
        first = lambda rows: rows[0] if len(rows) else 0
        index = torch.from_numpy(np.array([np.r_[rows, np.full(longest - len(rows), first(rows))] for rows in held]))
        counts = torch.from_numpy(np.arange(longest) < np.array([[len(rows)] for rows in held]))
        index, counts = index.to(self.device), counts.to(self.device).unsqueeze(-1)
        scale = torch.tensor([head.scale for head in self.heads], device=self.device, dtype=torch.float32)

        def loss() -> torch.Tensor:
            parts = [self._sums(*part) for part in zip(index.split(_CHUNK, 1), counts.split(_CHUNK, 1), strict=True)]
            losses, weights = (torch.stack(sums).sum(dim=0) for sums in zip(*parts, strict=True))
            return (losses / weights * scale).nanmean(dim=-1)

        return loss

    def _sums(self, index: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums over some rows of their weighted losses, and of their weights, of shape (k, n_heads)."""
        outputs, _ = self.net([block[index] for block in self.blocks], self.mask[index])
        weights = self.weights[index] * counts
        losses = self._of_heads(outputs, self.targets[index], 0.0) * weights
        return losses.sum(dim=1), weights.sum(dim=1)

    def outputs(self) -> np.ndarray:
        """Return the outputs of all rows, of shape (k, n_rows, n_outputs)."""
        k = self.net.head.weight.shape[0]
        wide = lambda table, part: table[part].expand(k, *[-1] * table.ndim)
        said = []
        for start in range(0, len(self.mask), _CHUNK):
            part = slice(start, start + _CHUNK)
            with torch.no_grad():
                said.append(self.net([wide(block, part) for block in self.blocks], wide(self.mask, part))[0].cpu())
        return torch.cat(said, dim=1).numpy().astype(np.float64)

    def _of_heads(self, outputs: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        """Return the loss of each row and head, of shape (k, n, n_heads)."""
        losses = []
        said = outputs.split([head.width for head in self.heads], dim=-1)
        wanted = targets.split([head.target_width for head in self.heads], dim=-1)
        for head, own, target in zip(self.heads, said, wanted, strict=True):
            if not head.n_classes:
                losses.append(squared_error(own, target)[..., 0])
                continue
            loss = cross_entropy(own, smooth_targets(target[..., : head.width], smoothing))
            if head.taught is not None:
                share, temperature = head.taught.share, head.taught.temperature
                loss = (1 - share) * loss + share * distillation(own, target[..., head.width :], temperature)
            losses.append(loss)
        return torch.stack(losses, dim=-1)

    def _with_noise(self, blocks: list[torch.Tensor], mask: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        if self.tricks.noise > 0:
            generator = self.noise.on(mask.device)
            draw = lambda x: torch.randn(x.shape, generator=generator, device=x.device)
            blocks = [_added(x, self.tricks.noise * draw(x), mask[..., m]) for m, x in enumerate(blocks)]
        return blocks, mask

    def _without_some(self, blocks: list[torch.Tensor], mask: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Leave out present blocks at random; a row that would lose all of them keeps them."""
        if self.tricks.modality_dropout > 0:
            kept = mask * self.drops.keep(mask, 1 - self.tricks.modality_dropout)
            mask = torch.where(kept.sum(dim=-1, keepdim=True) > 0, kept, mask)
            blocks = [x * _over(mask[..., m], x) for m, x in enumerate(blocks)]
        return blocks, mask

    def _mixed(
        self, blocks: list[torch.Tensor], mask: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> Any:
        share = float(self.mixes.beta(self.tricks.mixup, self.tricks.mixup))
        share = max(share, 1 - share)
        other = torch.from_numpy(self.mixes.permutation(mask.shape[1])).to(mask.device)
        mix = lambda x: share * x + (1 - share) * x[:, other]
        known = (weights > 0) & (weights[:, other] > 0)
        return [mix(x) for x in blocks], torch.maximum(mask, mask[:, other]), mix(targets), mix(weights) * known


def _over(mask: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """Return the mask of a block, of shape (k, n), in a shape that is multiplied with the block."""
    return mask.reshape(*mask.shape, *[1] * (block.ndim - 2))


def _added(block: torch.Tensor, noise: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return a block with noise where it has numbers; the last column of a sequence tells where it has tokens."""
    if block.ndim < 4:
        return block + noise * _over(mask, block)
    there = block[..., -1:]
    return torch.cat([block[..., :-1] + noise[..., :-1] * there * _over(mask, block), there], dim=-1)


def _columns(head: Head) -> torch.Tensor:
    """Return the target as columns: ones and zeros for classes, then what is taught; the number itself otherwise."""
    known = head.weight > 0
    if not head.n_classes:
        return torch.tensor(np.where(known, head.target, 0.0)[:, None], dtype=torch.float32)
    codes = torch.tensor(np.where(known, head.target, 0).astype(np.int64))
    hot = torch.nn.functional.one_hot(codes, head.n_classes).float()
    return hot if head.taught is None else torch.cat([hot, torch.as_tensor(head.taught.proba, dtype=hot.dtype)], dim=1)


def fit_net(
    inputs: tuple[list[np.ndarray], np.ndarray],
    heads: Sequence[Head],
    plan: Mapping[str, Any],
    schedule: Schedule,
    tricks: Tricks,
    rows: tuple[list[np.ndarray], list[np.ndarray] | None],
    *,
    seed: int,
    device: str = "cpu",
    start: Mapping[str, np.ndarray] | None = None,
) -> tuple[dict[str, np.ndarray], Record, np.ndarray | None]:
    """Train the network of a plan.

    Parameters
    ----------
    inputs : (blocks, mask)
        Prepared blocks of shape (n_rows, width), and the mask of present ones, of shape (n_rows, n_blocks).
    heads : sequence of Head
    plan : dict
        As `build_net` takes it.
    schedule : Schedule
    tricks : Tricks
    rows : (learned, held)
        As from `member_rows`.
    seed : int
    device : str
    start : dict, optional
        State to go on from.

    Returns
    -------
    state : dict of str to ndarray
    record : Record
    outputs : ndarray of shape (k, n_rows, n_outputs), or None
        Of all rows, if some were held out.
    """
    with one_torch_thread():
        net = build_net(plan, seed=seed, dropout=tricks.dropout)
        if start is not None:
            fill(net, start)
        task = _Task(net.to(device), inputs, heads, tricks, seed, device)
        learned, held = rows
        stop = None if held is None else task.held_loss(held)
        record = train(net, task.losses, learned, schedule, seed=seed + 1, held_loss=stop)
        return arrays_of(net), record, None if held is None else task.outputs()


def ask_net(
    owner: Any, state: Mapping[str, np.ndarray], plan: Mapping[str, Any], blocks: list[np.ndarray], mask: np.ndarray
) -> dict[str, np.ndarray | None]:
    """Return what the network of an estimator says about rows, in double precision.

    Returns
    -------
    dict
        ``"outputs"`` of shape (k, n, n_outputs), ``"features"`` of shape (k, n, n_features), and ``"weights"`` of shape
        (k, n, n_blocks) or None.
    """
    settle_after_fork()
    net = live_network(owner, state, lambda: build_net(plan))
    said: list[tuple[torch.Tensor, Fused]] = []
    k = plan["n_members"]
    for start in range(0, max(1, len(mask)), _CHUNK):
        part = slice(start, start + _CHUNK)
        as_double = lambda values, part=part: torch.from_numpy(
            np.ascontiguousarray(values[part], dtype=np.float64)
        ).expand(k, *[-1] * values.ndim)
        with torch.inference_mode():
            said.append(net([as_double(block) for block in blocks], as_double(mask)))
    joined = lambda parts: torch.cat(parts, dim=1).numpy()
    weights = [fused.weights for _, fused in said if fused.weights is not None]
    return {
        "outputs": joined([outputs for outputs, _ in said]),
        "features": joined([fused.features for _, fused in said]),
        "weights": joined(weights) if weights else None,
    }
