"""Training of the networks that project blocks into one space. Imports torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import nn

from ensemblefuse._threads import one_torch_thread
from ensemblefuse.training.layers import BatchedLinear, Draws
from ensemblefuse.training.loop import Schedule, train
from ensemblefuse.training.losses import cross_entropy
from ensemblefuse.training.pair_losses import (
    contrastive,
    correlation,
    discrepancy,
    info_nce_of_rows,
    reverse_gradient,
    triplet,
)
from ensemblefuse.training.state import arrays_of

__all__ = ["Rows", "SpaceNet", "losses_of_pairs", "share_of_reversal", "train_networks"]

_BATCH = 128
_DECAY = 0.01
# The similarity is divided by a temperature that starts here, and is never below .01 (Radford et al., ICML 2021).
_TEMPERATURE, _COLDEST = 0.07, 0.01
_RIDGE = 0.1
# Units of the network that tells blocks apart, for alignment="adversarial".
_JUDGE = 32
# A layer that starts beside the map of CCA is small.
_SMALL = 0.1
_FAR = -1e30


@dataclass
class Rows:
    """What networks learn from.

    Attributes
    ----------
    inputs : list of ndarray of shape (n_rows, width)
        Prepared blocks, 0 in rows that lack them.
    present : ndarray of shape (n_blocks, n_rows), dtype bool
    weight : ndarray of shape (n_rows,)
        Of mean 1.
    groups : ndarray of shape (n_rows,)
    cells : list of ndarray of shape (n_rows,)
        For each block a number of each row, the same for equal cells.
    """

    inputs: list[np.ndarray]
    present: np.ndarray
    weight: np.ndarray
    groups: np.ndarray
    cells: list[np.ndarray]


class SpaceNet(nn.Module):
    """For each block a linear map of k members, plus one with a hidden layer if there is one."""

    def __init__(self, widths: list[int], starts: list[np.ndarray] | None, plan: Any):
        super().__init__()
        draw, k, n_out = torch.Generator().manual_seed(plan.seed), plan.n_members, plan.n_components
        scale = 1.0 if starts is None else _SMALL
        self.linear = nn.ModuleList([BatchedLinear(k, width, n_out, draw, scale) for width in widths])
        self.hidden, self.out, self.judge = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        if plan.hidden:
            self.hidden.extend([BatchedLinear(k, width, plan.hidden, draw) for width in widths])
            self.out.extend([BatchedLinear(k, plan.hidden, n_out, draw, _SMALL) for _ in widths])
        if plan.alignment == "adversarial":
            self.judge.extend([BatchedLinear(k, n_out, _JUDGE, draw), BatchedLinear(k, _JUDGE, len(widths), draw)])
        self.log_scale = nn.Parameter(torch.full((k, 1, 1), -math.log(_TEMPERATURE)))
        self.is_unit = plan.method != "deep_cca"
        with torch.no_grad():
            for layer, start in zip(self.linear, starts or [], strict=False):
                kept = min(start.shape[1], n_out)
                weights: Any = layer.weight
                weights[:, :, :kept] = torch.tensor(start[:, :kept], dtype=torch.float32)

    def forward(self, block: int, x: torch.Tensor) -> torch.Tensor:
        said = self.linear[block](x)
        if len(self.hidden):
            said = said + self.out[block](torch.relu(self.hidden[block](x)))
        return nn.functional.normalize(said, dim=-1) if self.is_unit else said

    def judged(self, said: torch.Tensor, share: float) -> torch.Tensor:
        """Return logits of the block that outputs are of, learned against the networks."""
        return self.judge[1](torch.relu(self.judge[0](reverse_gradient(said, share))))

    def arrays(self) -> list[dict[str, np.ndarray]]:
        """Return the weights of each block."""
        state, parts = arrays_of(self), {"linear": "", "hidden": "hidden_", "out": "out_"}
        return [
            {
                f"{prefix}{kind}": state[f"{layer}.{m}.{kind}"]
                for layer, prefix in parts.items()
                for kind in ("weight", "bias")
                if f"{layer}.{m}.{kind}" in state
            }
            for m in range(len(self.linear))
        ]


def share_of_reversal(progress: float) -> float:
    """Return ``2 / (1 + exp(-10 p)) - 1``, the size of the reversed gradient (Ganin et al., JMLR 2016)."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


def losses_of_pairs(
    method: str, a: torch.Tensor, b: torch.Tensor, positives: torch.Tensor, both: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Return the loss of each row of a batch, of shape (k, n); 0 for a row that lacks one of the two blocks.

    Parameters
    ----------
    method : {"contrastive", "siamese", "triplet"}
    a, b : tensors of shape (k, n, n_out)
        Of length 1.
    positives : tensor of shape (k, n, n), dtype bool
        Which rows belong together.
    both : tensor of shape (k, n), dtype bool
        Which rows hold both blocks.
    scale : tensor of shape (k, 1, 1)
        1 divided by the temperature.
    """
    there = both.unsqueeze(-1) & both.unsqueeze(-2)
    similarity, positives = a @ b.mT, positives & there
    if method == "contrastive":
        return info_nce_of_rows((similarity * scale).masked_fill(~there, _FAR), positives)
    distance = (2 - 2 * similarity).clamp(min=1e-6).sqrt()
    sides = [(distance, positives), (distance.mT, positives.mT)]
    of_side = _siamese if method == "siamese" else _triplet
    return torch.stack([of_side(far, same, there & ~same) for far, same in sides]).mean(dim=0) * both


def _siamese(distance: torch.Tensor, same: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of the partners of each row, plus that of the others that are too near."""
    cost = contrastive(distance, same)
    near = other & (cost > 0)
    means = [(cost * part).sum(dim=-1) / part.sum(dim=-1).clamp(min=1) for part in (same, near)]
    return means[0] + means[1]


def _triplet(distance: torch.Tensor, same: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the loss with the nearest other that is farther than the partner, else with the farthest other.

    Others that are nearer than the partner make all outputs equal early in training (Schroff et al., CVPR 2015).
    """
    partner = distance.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    harder = distance.masked_fill(~other | (distance <= partner), math.inf).amin(dim=-1)
    farthest = distance.masked_fill(~other, -math.inf).amax(dim=-1)
    chosen = torch.where(harder.isinf(), farthest, harder)
    has_other = ~chosen.isinf()
    return triplet(partner.squeeze(-1), chosen.masked_fill(~has_other, 4.0)) * has_other


class _Task:
    """The rows of a training on its device, and their losses."""

    def __init__(self, net: SpaceNet, rows: Rows, plan: Any, n_steps: int):
        single = lambda values: torch.as_tensor(values, dtype=torch.float32, device=plan.device)
        self.net, self.plan, self.n_steps, self.step = net, plan, n_steps, 0
        self.inputs, self.weight = [single(block) for block in rows.inputs], single(rows.weight)
        self.present = torch.as_tensor(rows.present, device=plan.device)
        self.groups, *self.cells = (torch.as_tensor(c, device=plan.device) for c in (rows.groups, *rows.cells))
        self.noise = Draws(plan.seed + 2)
        self.pairs = list(combinations(range(len(self.inputs)), 2))

    def losses(self, index: torch.Tensor) -> torch.Tensor:
        """Return the weighted losses of a batch, of shape (k, n_batch)."""
        index = index.to(self.plan.device)
        said = [self.net(m, self._noisy(block[index])) for m, block in enumerate(self.inputs)]
        there, weight = self.present[:, index], self.weight[index]
        losses = [self._of_pair(said, a, b, index, there[a] & there[b], weight) for a, b in self.pairs]
        total = torch.stack(losses).mean(dim=0)
        if self.plan.alignment:
            total = total + self._alike(said, there * weight)
            self.step += 1
        return total

    def _noisy(self, x: torch.Tensor) -> torch.Tensor:
        if self.plan.noise == 0:
            return x
        return x + self.plan.noise * torch.randn(x.shape, generator=self.noise.on(x.device), device=x.device)

    def _of_pair(self, said: list, a: int, b: int, index: Any, both: torch.Tensor, weight: torch.Tensor) -> Any:
        if self.plan.method == "deep_cca":
            share = correlation(said[a], said[b], _RIDGE, weight * both) / said[a].shape[-1]
            return -share.unsqueeze(-1).expand(weight.shape)
        same = lambda codes: codes[index].unsqueeze(-1) == codes[index].unsqueeze(-2)
        positives = same(self.groups) | same(self.cells[a]) | same(self.cells[b])
        scale = self.net.log_scale.exp().clamp(max=1 / _COLDEST)
        return losses_of_pairs(self.plan.method, said[a], said[b], positives, both, scale) * weight

    def _alike(self, said: list[torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
        """Return a loss of each row that is small if the outputs of the blocks are distributed alike."""
        if self.plan.alignment == "mmd":
            gaps = [discrepancy(said[a], said[b], weight[a], weight[b]) for a, b in self.pairs]
            return torch.stack(gaps).mean(dim=0).unsqueeze(-1).expand(weight.shape[1:])
        share = share_of_reversal(self.step / self.n_steps)
        truth = torch.eye(len(said), device=weight.device)
        told = [cross_entropy(self.net.judged(out, share), truth[m]) * weight[m] for m, out in enumerate(said)]
        return torch.stack(told).mean(dim=0)


def train_networks(rows: Rows, starts: list[np.ndarray] | None, plan: Any) -> list[dict[str, np.ndarray]]:
    """Train k networks at once, and return their weights for each block.

    Parameters
    ----------
    rows : Rows
    starts : list of ndarray of shape (width, n_found), optional
        Linear maps of the blocks at the start.
    plan : NetworkPlan
    """
    n_rows = len(rows.weight)
    batch = max(_BATCH, 4 * plan.n_components) if plan.method == "deep_cca" else _BATCH
    schedule = Schedule(plan.max_epochs, batch, plan.learning_rate, _DECAY)
    with one_torch_thread():
        net = SpaceNet([block.shape[1] for block in rows.inputs], starts, plan).to(plan.device)
        task = _Task(net, rows, plan, plan.max_epochs * max(1, round(n_rows / batch)))
        train(net, task.losses, [np.arange(n_rows)] * plan.n_members, schedule, seed=plan.seed + 1)
        arrays = net.arrays()
    if not all(np.isfinite(values).all() for block in arrays for values in block.values()):
        raise ValueError(
            f"method={plan.method!r}: the weights are no finite numbers after training with "
            f"learning_rate={plan.learning_rate!r}; pass a lower one, such as 0.001."
        )
    return arrays
