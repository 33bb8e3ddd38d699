"""Networks that project blocks into one space: what they learn from, and whether they find partners better than CCA.

A fitted network is a few arrays, and its rows are computed with numpy. Only training imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import GroupKFold

from ensemblefuse._threads import one_blas_thread
from ensemblefuse.blocks import Blocks
from ensemblefuse.features._linear_space import LinearSpace, cosines, fit_linear, mean_correlations
from ensemblefuse.scoring.retrieval import cell_codes, distinct, partner_ranks, partners
from ensemblefuse.training.preparation import fit_block, prepare_block

__all__ = [
    "NetworkPlan",
    "NetworkSpace",
    "fit_networks",
    "held_folds",
    "linear_method",
    "network_is_better",
    "rows_with_pairs",
]


_N_FOLDS = 3
# With fewer rows that hold two blocks, a comparison on held-out rows says nothing, and the linear method is kept.
_FEWEST_ROWS = 20
# Of many held-out rows, so many are asked: the table of their similarities grows with their square.
_MOST_ASKED = 2000
_SEED = 748_190
# Directions whose variance is below this share of the largest are rounding.
_FLAT = 1e-9


@dataclass(frozen=True)
class NetworkPlan:
    """Parameters of networks, as in `CommonSpaceProjector`; `hidden` is 0 for linear maps."""

    method: str
    n_components: int
    reg: float
    hidden: int
    n_members: int
    noise: float
    alignment: str | None
    max_epochs: int
    learning_rate: float
    device: str
    seed: int


@dataclass
class NetworkSpace:
    """Fitted networks of all blocks, and the linear space at their end.

    Attributes
    ----------
    networks : dict of str to dict of str to ndarray
        For each block ``mean`` and ``basis``, by which its rows are prepared; ``weight`` and ``bias`` of the linear map
        of each member; and with a hidden layer ``hidden_weight``, ``hidden_bias``, ``out_weight``, ``out_bias``.
    is_unit : bool
        Whether the outputs of each member have equal length, so that the cosine is the mean over the members.
    end : LinearSpace
        Without projections where the outputs are the space.
    """

    networks: dict[str, dict[str, np.ndarray]]
    is_unit: bool
    end: LinearSpace = field(default_factory=LinearSpace)

    def project(self, name: str, part: np.ndarray) -> np.ndarray:
        """Return the rows of a block in the space; NaN stays NaN."""
        return self.end.project(name, self.outputs(name, part))

    def outputs(self, name: str, part: np.ndarray) -> np.ndarray:
        """Return the outputs of all members side by side, of shape (n, n_members * n_outputs)."""
        net = self.networks[name]
        rows = (part - net["mean"]) @ net["basis"]
        said = rows @ net["weight"] + net["bias"]
        if "out_weight" in net:
            said = said + np.maximum(rows @ net["hidden_weight"] + net["hidden_bias"], 0) @ net["out_weight"]
            said = said + net["out_bias"]
        if self.is_unit:
            length = np.linalg.norm(said, axis=-1, keepdims=True)
            said = said * (np.sqrt(said.shape[-1]) / np.where(length == 0, 1.0, length))
        return np.hstack(list(said))


def linear_method(blocks: Blocks) -> str:
    """Return the linear method that the networks of these blocks start from."""
    return "cca" if len(blocks.data) == 2 else "gcca"


def rows_with_pairs(blocks: Blocks, weight: np.ndarray) -> np.ndarray:
    """Return the rows that hold two blocks or more and count, dtype bool."""
    return (blocks.present.sum(axis=0) >= 2) & (weight > 0)


def fit_networks(blocks: Blocks, weight: np.ndarray, groups: np.ndarray | None, plan: NetworkPlan) -> NetworkSpace:
    """Train the networks of a plan.

    Parameters
    ----------
    blocks : Blocks
        Of numbers, in an order that does not depend on that of the columns.
    weight : ndarray of shape (n_samples,)
    groups : ndarray of shape (n_samples,), optional
    plan : NetworkPlan
    """
    from ensemblefuse.features._space_training import Rows, train_networks

    # Rows of one block alone say how the block varies, and what alignment makes alike.
    used = blocks.present.any(axis=0) & (weight > 0)
    if not plan.alignment:
        used &= rows_with_pairs(blocks, weight)
    blocks, weight = rows_of(blocks, used), weight[used]
    with one_blas_thread():
        prepared = {
            name: _half_whitened(part[there], weight[there])
            for (name, part), there in zip(blocks.data.items(), blocks.present, strict=True)
        }
        inputs = [prepare_block(part, prepared[name]) for name, part in blocks.data.items()]
        starts = _starts(blocks, inputs, weight, plan)
    own = np.arange(len(weight)) if groups is None else np.unique(groups[used], return_inverse=True)[1].reshape(-1)
    rows = Rows(
        inputs, blocks.present, weight / weight.mean(), own, [cell_codes(part) for part in blocks.data.values()]
    )
    if plan.method == "deep_cca":  # four rows for each column at least
        most = int(rows_with_pairs(blocks, weight).sum()) // 4
        plan = replace(plan, n_components=max(1, min(plan.n_components, most)))
    trained = train_networks(rows, starts, plan)
    networks = {name: {**prepared[name], **arrays} for name, arrays in zip(blocks.data, trained, strict=True)}
    space = NetworkSpace(networks, is_unit=plan.method != "deep_cca")
    if plan.method == "deep_cca":
        said = {name: space.outputs(name, part) for name, part in blocks.data.items()}
        method = linear_method(blocks)
        space.end = fit_linear(
            replace(blocks, data=said), None, weight, method=method, n_components=plan.n_components, reg=plan.reg
        )
    return space


def _half_whitened(data: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Return how a block is prepared: its components, each divided by the root of its spread, of mean square 1.

    Noise of one size on all of them then hides the small ones more, but not all of them.
    """
    fitted = fit_block(data, weight)
    if not len(data) or not fitted["basis"].any():
        return fitted
    rows, share = prepare_block(data, fitted), weight / weight.sum()
    values, vectors = eigh((rows * share[:, None]).T @ rows)
    kept = values > _FLAT * values[-1]
    vectors = vectors[:, kept] * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(vectors))])[kept]
    basis = fitted["basis"] @ (vectors * values[kept] ** -0.25)
    return {"mean": fitted["mean"], "basis": basis / np.sqrt(np.mean(np.sqrt(values[kept])))}


def _starts(blocks: Blocks, inputs: list[np.ndarray], weight: np.ndarray, plan: NetworkPlan) -> list[np.ndarray] | None:
    """Return a linear map for each block that gives the scores of CCA, each by the root of its correlation."""
    linear = _fit_start(blocks, weight, plan)
    if linear is None:
        return None
    sizes = np.sqrt(np.maximum(mean_correlations(linear.project, blocks, weight), 0))
    starts = []
    for (name, part), rows, there in zip(blocks.data.items(), inputs, blocks.present, strict=True):
        scores = linear.project(name, part[there]) * sizes
        starts.append(np.linalg.lstsq(rows[there], scores, rcond=None)[0])
    return starts


def _fit_start(blocks: Blocks, weight: np.ndarray, plan: NetworkPlan) -> LinearSpace | None:
    """Return the linear method, or None if fewer than 2 rows hold all blocks."""
    if (blocks.present.all(axis=0) & (weight > 0)).sum() < 2:
        return None
    method = linear_method(blocks)
    return fit_linear(blocks, None, weight, method=method, n_components=plan.n_components, reg=plan.reg)


# ---------------------------------------------------------------------- comparison with the linear method


def network_is_better(blocks: Blocks, weight: np.ndarray, groups: np.ndarray | None, plan: NetworkPlan) -> bool:
    """Return whether the networks find the partners of held-out rows better than the linear method they start from.

    The score is the mean of 1 / rank, over rows, both ways, pairs of blocks and folds. Where no linear method can be
    fitted, the networks are taken.
    """
    folds = held_folds(blocks, weight, groups)
    if _fit_start(blocks, weight, plan) is None:
        return True
    differences = []
    for train, test in folds:
        parts = [
            (rows_of(blocks, rows), weight[rows], None if groups is None else groups[rows]) for rows in (train, test)
        ]
        (learned, own, own_groups), (held, _, held_groups) = parts
        linear = _fit_start(learned, own, plan) if _all_vary(learned, own) else None
        if linear is None:
            continue
        networks = fit_networks(learned, own, own_groups, plan)
        scores = [
            _found(space, held, held_groups, None if space.is_unit else mean_correlations(space.project, learned, own))
            for space in (networks, linear)
        ]
        differences.append(scores[0] - scores[1])
    return bool(differences) and float(np.mean(differences)) > 0


def _all_vary(blocks: Blocks, weight: np.ndarray) -> bool:
    """Return whether no block is constant in the rows that hold all blocks, as a rare mark may be in a fold."""
    rows = blocks.present.all(axis=0) & (weight > 0)
    return bool(rows.any()) and all(np.ptp(part[rows], axis=0).any() for part in blocks.data.values())


def held_folds(blocks: Blocks, weight: np.ndarray, groups: np.ndarray | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train, test) positions of rows; none if too few hold two blocks. The test rows hold two.

    Rows of one group are on one side. So are rows with equal cells, unless these tie more than half of the rows
    together, as the cells of a short table do.
    """
    pairs = rows_with_pairs(blocks, weight)
    rows = np.flatnonzero(blocks.present.any(axis=0) & (weight > 0))
    own = np.arange(len(rows)) if groups is None else np.unique(groups[rows], return_inverse=True)[1].reshape(-1)
    units = _linked(rows_of(blocks, rows), own)
    if np.bincount(units, minlength=1).max() > len(rows) / 2:
        units = own
    if pairs.sum() < _FEWEST_ROWS or len(np.unique(units[pairs[rows]])) < _N_FOLDS:
        return []
    names = np.random.RandomState(_SEED).permutation(units.max() + 1)  # the file may be sorted
    splits = GroupKFold(_N_FOLDS).split(np.zeros((len(rows), 1)), groups=names[units])
    return [(rows[train], rows[test][pairs[rows[test]]]) for train, test in splits]


def _linked(blocks: Blocks, own: np.ndarray) -> np.ndarray:
    """Return a number for each row, the same for rows that a chain of groups or equal cells links."""
    n_rows = total = len(own)
    rows, nodes = [np.arange(n_rows)], [n_rows + own]
    for part, there in zip(blocks.data.values(), blocks.present, strict=True):
        total = int(nodes[-1].max(initial=total)) + 1
        rows.append(np.flatnonzero(there))
        nodes.append(total + cell_codes(part)[there])
    at, to = np.concatenate(rows), np.concatenate(nodes)
    size = int(to.max(initial=0)) + 1
    return connected_components(coo_matrix((np.ones(len(at)), (at, to)), shape=(size, size)), directed=False)[1][
        :n_rows
    ]


def _found(space: Any, blocks: Blocks, groups: np.ndarray | None, correlations: np.ndarray | None) -> float:
    """Return the mean of 1 / rank of the first partner."""
    scores = []
    for a, b in combinations(range(len(blocks.data)), 2):
        rows = np.flatnonzero(blocks.present[a] & blocks.present[b])
        if len(rows) < 2:
            continue
        rows = np.random.RandomState(_SEED).permutation(rows)[:_MOST_ASKED]
        parts = [(name, blocks.data[name][rows]) for name in (blocks.names[a], blocks.names[b])]
        codes = [cell_codes(part) for _, part in parts]
        first = [distinct(own) for own in codes]
        sides = [space.project(name, part[own]) for (name, part), own in zip(parts, first, strict=True)]
        similar = cosines(sides[0], sides[1], correlations)
        belongs = partners(codes[0], codes[1], None if groups is None else groups[rows]).toarray() > 0
        scores += [np.mean(1 / partner_ranks(*sides)) for sides in ((similar, belongs), (similar.T, belongs.T))]
    return float(np.mean(scores)) if scores else 0.0


def rows_of(blocks: Blocks, rows: np.ndarray) -> Blocks:
    """Return some rows of blocks of numbers."""
    labels = [blocks.labels[i] for i in np.arange(len(blocks))[rows]]
    return Blocks({name: part[rows] for name, part in blocks.data.items()}, blocks.present[:, rows], labels)
