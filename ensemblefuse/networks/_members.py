"""The trained networks of an estimator: what they are, how they are trained, and what they say. Imports torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from ensemblefuse._threads import one_blas_thread, one_torch_thread
from ensemblefuse.networks._linear import fit_linear
from ensemblefuse.training.fresh import fresh_network
from ensemblefuse.training.holdout import out_of_fold
from ensemblefuse.training.loop import Record, Schedule, train
from ensemblefuse.training.lora import add_low_rank, merge_low_rank
from ensemblefuse.training.losses import cross_entropy, squared_error
from ensemblefuse.training.state import arrays_of, fill

__all__ = ["Plan", "Rows", "ask_members", "build_members", "put_state", "train_members", "width_of"]

# The learning rate of a stage, as a share of that of the stage after it (Howard and Ruder, ACL 2018, have 1 / 2.6).
_RATE_DOWN = 0.3
# Rows that are predicted at once.
_CHUNK = 64


@dataclass(frozen=True)
class Plan:
    """What is built, from plain values.

    Attributes
    ----------
    width, n_outputs, n_members : int
    tuned : bool
        Whether the body is a part of a pretrained network.
    n_trained : int
        How many of its last stages.
    lora : int
        Rank of the adapters; 0 for none.
    adapts : bool
        Whether batch normalisations of a pretrained network go on learning the statistics of their inputs.
    exact : bool
        Whether predictions are made in double precision.
    """

    width: int
    n_outputs: int
    n_members: int
    tuned: bool
    n_trained: int
    lora: int
    adapts: bool
    exact: bool


class Member(nn.Module):
    """A body, from batches to features of shape (n, width), and a linear head.

    A pretrained body stays in `eval()` mode while it is trained: its dropout draws from the generators of the process,
    and its normalisations know the statistics of more rows than we have. With `adapts`, the latter learn ours.
    """

    def __init__(self, body: nn.Module, plan: Plan, seed: int):
        super().__init__()
        self.body = body
        self.head = fresh_network(lambda: nn.Linear(plan.width, plan.n_outputs), seed)
        self.tuned, self.adapts = plan.tuned, plan.adapts

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(*inputs))

    def train(self, mode: bool = True) -> Member:
        super().train(mode)
        if self.tuned:
            self.body.eval()
            for module in self.body.modules() if self.adapts else ():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train(mode)
        return self

    def set_head(self, weight: np.ndarray, bias: np.ndarray) -> None:
        """Set the head to a linear map that was fitted in double precision."""
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(weight))
            self.head.bias.copy_(torch.from_numpy(bias))

    def rates(self) -> dict[str, float]:
        """Return the factor of the learning rate of each parameter: lower in earlier stages of a pretrained network."""
        if not self.tuned:
            return {}
        last = len(self.body) - 1  # type: ignore[arg-type]
        stage_of = lambda name: int(name.split(".")[1])
        names = [name for name, _ in self.body.named_parameters(prefix="body")]
        return {name: _RATE_DOWN ** (last - stage_of(name)) for name in names}

    def changing(self) -> set[str]:
        """Return the names of all arrays that training may change."""
        if not self.tuned:
            return set(self.state_dict())
        names = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return names | ({name for name, _ in self.named_buffers()} if self.adapts else set())


def build_members(plan: Plan, make_body: Callable[[], Any], seed: int) -> nn.ModuleList:
    """Build all networks.

    Parameters
    ----------
    plan : Plan
    make_body : callable
        Returns the trained stages of the pretrained network, frozen and shared, as a list; or a new module, which is
        then given weights of its own.
    seed : int
        Each member has its own.
    """
    stages = make_body() if plan.tuned else None
    return nn.ModuleList(_build_member(plan, make_body, stages, seed + 1000 * j) for j in range(plan.n_members))


def _build_member(plan: Plan, make_body: Callable[[], Any], stages: Any, seed: int) -> Member:
    if not plan.tuned:
        return Member(fresh_network(make_body, seed + 1), plan, seed)
    # The shared network has no gradients, and neither has its copy: an optimiser would train the head alone.
    body = copy.deepcopy(nn.Sequential(*stages)).requires_grad_(True)
    if plan.lora and not add_low_rank(body, plan.lora, seed + 1):
        raise ValueError("lora needs linear layers, and the trained stages have none; pass lora=0.")
    return Member(body, plan, seed)


def width_of(make_body: Callable[[], Any], rows: Rows, *, tuned: bool) -> int:
    """Return the number of features that a body makes of a cell, from the first row."""
    body = (nn.Sequential(*make_body()) if tuned else fresh_network(make_body, 0)).eval()
    like = next(body.parameters(), torch.zeros(()))
    with torch.no_grad():
        made = body(*rows.batch(np.arange(1), None, like))
    if made.ndim != 2 or len(made) != 1:
        raise ValueError(f"a network must make one vector of each cell; got shape {tuple(made.shape)} for one cell.")
    return int(made.shape[1])


def put_state(members: nn.Module, state: Mapping[str, np.ndarray], plan: Plan) -> nn.Module:
    """Return members with their state, ready to predict."""
    merge_low_rank(fill(members, state, partly=plan.tuned))
    return members.double() if plan.exact else members


@dataclass(frozen=True)
class Rows:
    """The rows of a training.

    Attributes
    ----------
    inputs : Views or Items
    places : ndarray of int of shape (n_rows,)
        Where the rows stand in `inputs`.
    join : callable
        From a list of arrays to a batch.
    target : ndarray of shape (n_rows,)
        Codes, or numbers of mean 0 and variance 1.
    weight : ndarray of shape (n_rows,)
        Of mean 1.
    n_classes : int
        0 for numbers.
    """

    inputs: Any
    places: np.ndarray
    join: Callable[[Sequence[Any]], tuple[torch.Tensor, ...]]
    target: np.ndarray
    weight: np.ndarray
    n_classes: int

    def batch(self, rows: np.ndarray, rng: np.random.Generator | None, like: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the inputs of some rows, on the device and in the precision of a parameter."""
        arrays = self.inputs.take(self.places[rows].tolist(), rng)
        return as_input(self.join(arrays), like)

    def wanted(self) -> torch.Tensor:
        """Return the targets as columns: ones and zeros for classes, the number itself otherwise."""
        if not self.n_classes:
            return torch.tensor(self.target[:, None], dtype=torch.float32)
        return nn.functional.one_hot(torch.from_numpy(self.target.astype(np.int64)), self.n_classes).float()


def as_input(batch: Sequence[torch.Tensor], like: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return a batch on the device of a parameter, and its numbers that are no whole ones in its precision."""
    return tuple(part.to(like.device, like.dtype if part.is_floating_point() else part.dtype) for part in batch)


@dataclass
class Trained:
    """What a training gives.

    Attributes
    ----------
    state : dict of str to ndarray
    record : Record
        Of all members: epochs that a member did not reach are NaN.
    outputs : ndarray of shape (n_rows, n_outputs), or None
        Of the members that held a row out; NaN in rows that none held out.
    """

    state: dict[str, np.ndarray]
    record: Record
    outputs: np.ndarray | None


def train_members(
    members: nn.ModuleList,
    plan: Plan,
    rows: Rows,
    parts: tuple[list[np.ndarray], list[np.ndarray] | None],
    schedule: Schedule,
    *,
    refit: bool,
    seed: int,
    device: str,
    average: Callable[[np.ndarray], np.ndarray],
) -> Trained:
    """Train the networks one after the other.

    Parameters
    ----------
    members : ModuleList of Member
    plan : Plan
    rows : Rows
    parts : (learned, held)
        As from `training.holdout.member_rows`.
    schedule : Schedule
        Its time limit is for all members.
    refit : bool
        Whether the head becomes the default linear model, fitted on the features of the tuned body: for rows that were
        held out on those that were learned from, and in the end on all.
    seed : int
    device : str
    average : callable
        Brings outputs to the scale on which members are averaged.
    """
    learned, held = parts
    start, records, outputs = perf_counter(), [], []
    state: dict[str, np.ndarray] = {}
    for j, member in enumerate(members):
        left = None
        if schedule.time_limit is not None:
            left = max(0.0, schedule.time_limit - (perf_counter() - start)) / (len(members) - j)
        own = None if held is None else held[j]
        with one_torch_thread(), one_blas_thread():
            task = _Task(member.to(device), rows, learned[j], own, seed + 1000 * j)  # type: ignore[arg-type]
            records.append(task.train(replace(schedule, time_limit=left), refit))
            if own is not None:
                outputs.append(average(task.outputs()))
                if refit:  # the rows that were held out have shown what they had to
                    task.fit_head(np.arange(len(rows.target)))
        found = arrays_of(member, member.changing())  # type: ignore[operator]
        state |= {f"{j}.{name}": values for name, values in found.items()}
    return Trained(state, _joined(records), out_of_fold(np.stack(outputs), held) if held is not None else None)


class _Task:
    """The training of one member on its rows."""

    def __init__(self, member: Member, rows: Rows, learned: np.ndarray, held: np.ndarray | None, seed: int):
        self.member, self.rows, self.learned, self.held, self.seed = member, rows, learned, held, seed
        self.like = member.head.weight
        self.wanted = rows.wanted().to(self.like.device)
        self.weight = torch.tensor(rows.weight, dtype=torch.float32, device=self.like.device)
        self.rng = np.random.default_rng(seed + 3)

    def train(self, schedule: Schedule, refit: bool) -> Record:
        if self.member.tuned:
            # First the head alone: a random one would spoil the body (Kumar et al., ICLR 2022).
            self.fit_head(self.learned)
        stop = None if self.held is None or not len(self.held) else self._held_loss
        seed, rates = self.seed + 2, self.member.rates()
        record = train(self.member, self._losses, [self.learned], schedule, seed=seed, held_loss=stop, rates=rates)
        if refit:
            self.fit_head(self.learned)
        return record

    def outputs(self) -> np.ndarray:
        """Return the outputs of all rows, of shape (n_rows, n_outputs)."""
        with torch.no_grad():
            said = [self.member(*self._batch(part)) for part in _chunks(np.arange(len(self.rows.target)))]
        return torch.cat(said).cpu().numpy().astype(np.float64)

    def _batch(self, index: np.ndarray, rng: np.random.Generator | None = None) -> tuple[torch.Tensor, ...]:
        return self.rows.batch(index, rng, self.like)

    def _losses(self, index: torch.Tensor) -> torch.Tensor:
        """Return the weighted losses of a batch, of shape (1, n_batch), as the loop takes them."""
        said = self.member(*self._batch(index[0].numpy(), self.rng))
        return self._loss_of(said, index[0])[None]

    def _held_loss(self) -> torch.Tensor:
        """Return the mean loss of the rows that were held out, of shape (1,)."""
        parts = [(self.member(*self._batch(part)), torch.from_numpy(part)) for part in _chunks(self.held)]
        losses = torch.cat([self._loss_of(said, part) for said, part in parts])
        return (losses.sum() / self.weight[torch.from_numpy(self.held).to(self.like.device)].sum())[None]

    def _loss_of(self, said: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        index = index.to(self.like.device)
        loss = cross_entropy if self.rows.n_classes else lambda a, b: squared_error(a, b)[:, 0]
        return loss(said, self.wanted[index]) * self.weight[index]

    def fit_head(self, rows: np.ndarray) -> None:
        """Set the head to the default linear model on the features of some rows."""
        self.member.eval()
        features = features_of(self.member, [self._batch(part) for part in _chunks(rows)])
        target, weight = self.rows.target[rows], self.rows.weight[rows]
        self.member.set_head(*fit_linear(features, target, weight, self.rows.n_classes))


def features_of(member: Any, batches: Sequence[tuple[torch.Tensor, ...]]) -> np.ndarray:
    """Return the features of some batches, in double precision, of shape (n, width)."""
    with torch.no_grad():
        return torch.cat([member.body(*batch) for batch in batches]).cpu().numpy().astype(np.float64)


def ask_members(
    members: nn.ModuleList, arrays: Sequence[Any], join: Callable[[Sequence[Any]], tuple[torch.Tensor, ...]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return features and outputs of all members, of shape (n, n_members, width) and (n, n_members, n_outputs)."""
    features, outputs = [], []
    for part in _chunks(list(arrays)):
        batch = as_input(join(part), members[0].head.weight)  # type: ignore[arg-type, union-attr]
        with torch.inference_mode():
            seen = [member.body(*batch) for member in members]  # type: ignore[operator, union-attr]
            said = [member.head(x) for member, x in zip(members, seen, strict=True)]  # type: ignore[operator, union-attr]
        features.append(torch.stack(seen, dim=1))
        outputs.append(torch.stack(said, dim=1))
    as_double = lambda parts: torch.cat(parts).numpy().astype(np.float64)
    return as_double(features), as_double(outputs)


def _chunks(rows: Any) -> list[np.ndarray]:
    return [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]


def _joined(records: Sequence[Record]) -> Record:
    """Return the records of networks that were trained one after the other as one of all."""
    longest = max(len(record.history["seconds"]) for record in records)

    def padded(values: np.ndarray) -> np.ndarray:
        return np.r_[values, np.full((longest - len(values), *values.shape[1:]), np.nan)]

    history = {
        name: np.concatenate([padded(record.history[name]) for record in records], axis=1)
        for name in ("train_loss", "held_loss")
        if all(name in record.history for record in records)
    }
    for name in ("learning_rate", "seconds"):
        history[name] = np.column_stack([padded(record.history[name]) for record in records])
    return Record(np.concatenate([record.best_epochs for record in records]), history)
