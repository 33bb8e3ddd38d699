"""The networks of neural fusion, one class for each kind. Imports torch, so it is imported when a network is needed.

All kinds have the same face. They take a list of blocks, of shape (k, n, width) and 0 in rows that lack the block, and
the mask of present blocks, of shape (k, n, n_blocks). They return features of shape (k, n, n_features), what each block
said by itself, and the weights of the blocks, if the kind has any.

A block of sequences has the shape (k, n, n_tokens, width), and its last column is the mask of tokens: 1 for a token, 0
for what fills up a shorter sequence. The two kinds of attention read its tokens, and the others the mean of what the
trunk makes of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from ensemblefuse.training.layers import BatchedAttention, BatchedLinear, BatchedNorm, Draws, Dropout, on_tokens

__all__ = ["KINDS", "Fused", "FusionNet", "Size", "build_net"]


class Size(NamedTuple):
    """What the layers of a network depend on."""

    n_members: int
    widths: tuple[int, ...]
    hidden: int
    n_layers: int
    n_heads: int
    rank: int


class Fused(NamedTuple):
    """What a kind of fusion makes of the blocks.

    Attributes
    ----------
    features : tensor of shape (k, n, n_features)
    parts : list of tensors of shape (k, n, hidden)
        What each block said by itself; 0 in rows that lack it.
    weights : tensor of shape (k, n, n_blocks), or None
        Of the blocks in the features; they sum to 1 over the blocks of a row.
    """

    features: torch.Tensor
    parts: list[torch.Tensor]
    weights: torch.Tensor | None = None


class _Trunks(nn.Module):
    """One stack of layers for each block, ``h = drop(relu(W x))``, also for each token; 0 where there is none."""

    def __init__(
        self, size: Size, generator: torch.Generator, drop: nn.Module, *, n_layers: int, act: Any = torch.relu
    ):
        super().__init__()
        self.act, self.drop = act, drop
        self.stacks = nn.ModuleList(
            nn.ModuleList(
                BatchedLinear(size.n_members, size.hidden if layer else width, size.hidden, generator)
                for layer in range(n_layers)
            )
            for width in size.widths
        )

    def forward(self, blocks: Sequence[torch.Tensor], mask: torch.Tensor) -> list[torch.Tensor]:
        hidden = []
        for m, (stack, x) in enumerate(zip(self.stacks, blocks, strict=True)):
            there = mask[..., m : m + 1]
            if x.ndim > 3:
                x, there = x[..., :-1], x[..., -1:] * there.unsqueeze(-1)
            for layer in cast(nn.ModuleList, stack):
                x = self.drop(self.act(on_tokens(layer, x) if x.ndim > 3 else layer(x)))
            hidden.append(x * there)
        return hidden


class _Fusion(nn.Module):
    """A kind of fusion: its trunks, its dropout, and the number of its features."""

    def __init__(self, size: Size, generator: torch.Generator, drop: nn.Module, act: Any = torch.relu):
        super().__init__()
        self.trunks = _Trunks(size, generator, drop, n_layers=size.n_layers, act=act)
        self.drop, self.n_features = drop, size.hidden

    def forward(self, blocks: Sequence[torch.Tensor], mask: torch.Tensor) -> Fused:
        hidden = [pooled(h, x) for h, x in zip(self.trunks(blocks, mask), blocks, strict=True)]
        features, weights = self.fuse(hidden, mask)
        return Fused(features, hidden, weights)

    def fuse(self, hidden: list[torch.Tensor], mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        raise NotImplementedError


def pooled(hidden: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """Return the mean over the tokens of a sequence; what belongs to a block of vectors is returned as it is."""
    return hidden if hidden.ndim < 4 else hidden.sum(dim=2) / block[..., -1:].sum(dim=2).clamp(min=1)


class _OfTokens(_Fusion):
    """A kind that reads the tokens of sequences. A block of vectors is a sequence of one token."""

    def __init__(self, size: Size, generator: torch.Generator, drop: nn.Module):
        super().__init__(size._replace(n_layers=1), generator, drop)
        start = torch.randn(size.n_members, 1, len(size.widths), size.hidden, generator=generator)
        self.names = nn.Parameter(0.1 * start)

    def forward(self, blocks: Sequence[torch.Tensor], mask: torch.Tensor) -> Fused:
        hidden = self.trunks(blocks, mask)
        parts = [pooled(h, x) for h, x in zip(hidden, blocks, strict=True)]
        tokens, there = [], []
        for m, (h, x) in enumerate(zip(hidden, blocks, strict=True)):
            own = mask[..., m : m + 1]
            tokens.append((h if h.ndim > 3 else h.unsqueeze(2)) + self.names[:, :, m : m + 1])
            there.append(own * x[..., -1] if h.ndim > 3 else own)
        features, weights = self.read(tokens, there, mask)
        return Fused(features, parts, weights)

    def read(
        self, tokens: list[torch.Tensor], there: list[torch.Tensor], mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return features and weights. Tokens have the shape (k, n, n_tokens, hidden), and `there` has 1 for each."""
        raise NotImplementedError


class Concat(_Fusion):
    """``z = relu(W [h; r])``: the blocks side by side, with the mask r."""

    def __init__(self, size: Size, generator: torch.Generator, drop: nn.Module):
        super().__init__(size, generator, drop)
        n_blocks = len(size.widths)
        self.mix = BatchedLinear(size.n_members, n_blocks * size.hidden + n_blocks, size.hidden, generator)

    def fuse(self, hidden: list[torch.Tensor], mask: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.drop(torch.relu(self.mix(torch.cat([*hidden, mask], dim=-1)))), None


class Sum(_Fusion):
    """``z = relu(W mean(h))``: the mean over the blocks that a row has, times the number of blocks.

    A mean over six blocks is so small that 30 epochs of 200 rows did not suffice: log-loss .19, with the factor .09.
    """

    def __init__(self, size: Size, generator: torch.Generator, drop: nn.Module):
        super().__init__(size, generator, drop)
        self.mix = BatchedLinear(size.n_members, size.hidden, size.hidden, generator)

    def fuse(self, hidden: list[torch.Tensor], mask: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.drop(torch.relu(self.mix(len(hidden) * _mean_of(hidden, mask)))), None


class Late(_Fusion):
    """The blocks side by side without another layer: the outputs are a sum of one function of each block."""

    def __init__(self, size: Size, generator: torch.Generator, drop: nn.Module):
        super().__init__(size, generator, drop)
        self.n_features = len(size.widths) * size.hidden

    def fuse(self, hidden: list[torch.Tensor], mask: torch.Tensor) -> tuple[torch.Tensor, None]:
        return torch.cat(hidden, dim=-1), None


class Gated(_Fusion):
    """``z = sum(g * h)`` with ``h = tanh(W x)``, and gates g for each unit: a softmax over the blocks of the row.

    The sum is multiplied by the number of blocks, as in `Sum`: log-loss .16 without, .08 with it.
    """

    def __init__(self, size: Size, generator: torch.Generator, drop: nn.Module):
        super().__init__(size, generator, drop, act=torch.tanh)
        n_blocks = len(size.widths)
        self.gate = BatchedLinear(size.n_members, n_blocks * size.hidden + n_blocks, n_blocks * size.hidden, generator)

    def fuse(self, hidden: list[torch.Tensor], mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.gate(torch.cat([*hidden, mask], dim=-1))
        gates = gates_of(scores.unflatten(-1, (len(hidden), -1)), mask)
        features = len(hidden) * (gates * torch.stack(hidden, dim=2)).sum(dim=2)
        return features, gates.mean(dim=-1)


def gates_of(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the softmax over the present blocks of scores of shape (k, n, n_blocks, width); 0 for absent ones."""
    there = (mask > 0).unsqueeze(-1)
    return scores.masked_fill(~there, -1e30).softmax(dim=2) * there


class LowRank(_Fusion):
    """The mean over some ranks of products over the blocks, ``prod(W [h; 1])``: a tensor fusion of low rank.

    An absent block is a factor of ones. The factors begin near 1, because products of several blocks else vanish or
    explode. 1 is taken off at the end, so that the features begin near 0.
    """

    def __init__(self, size: Size, generator: torch.Generator, drop: nn.Module):
        super().__init__(size, generator, drop)
        self.rank = size.rank
        self.factors = nn.ModuleList(
            BatchedLinear(size.n_members, size.hidden, size.rank * size.hidden, generator, scale=0.5, bias=1.0)
            for _ in size.widths
        )

    def fuse(self, hidden: list[torch.Tensor], mask: torch.Tensor) -> tuple[torch.Tensor, None]:
        product = None
        for m, (factor, h) in enumerate(zip(self.factors, hidden, strict=True)):
            there = mask[..., m : m + 1]
            values = factor(h) * there + (1 - there)
            product = values if product is None else product * values
        assert product is not None
        return self.drop(product.unflatten(-1, (self.rank, -1)).mean(dim=2) - 1), None


class _Block(nn.Module):
    """One layer of attention, with the normalisation before it, and a network for each token."""

    def __init__(self, size: Size, generator: torch.Generator, drop: nn.Module):
        super().__init__()
        k, width = size.n_members, size.hidden
        self.before, self.between = BatchedNorm(k, width), BatchedNorm(k, width)
        self.attention = BatchedAttention(k, width, size.n_heads, generator)
        self.wide = BatchedLinear(k, width, 2 * width, generator)
        self.narrow = BatchedLinear(k, 2 * width, width, generator, scale=0.5)
        self.drop = drop

    def forward(
        self, tokens: torch.Tensor, asked: torch.Tensor, present: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        asking = on_tokens(self.before, tokens)
        asked = asking if asked is tokens else on_tokens(self.before, asked)
        new, weights = self.attention(asking, asked, present)
        tokens = tokens + self.drop(new)
        wide = on_tokens(self.wide, on_tokens(self.between, tokens))
        inner = nn.functional.gelu(wide, approximate="tanh")  # ONNX Runtime has no exact one in double precision
        return tokens + self.drop(on_tokens(self.narrow, inner)), weights


class Attention(_OfTokens):
    """A token for each block and one that reads them, ``[CLS]``; a row that lacks a block has one token less."""

    def __init__(self, size: Size, generator: torch.Generator, drop: nn.Module):
        super().__init__(size, generator, drop)
        k, width = size.n_members, size.hidden
        self.reader = nn.Parameter(0.1 * torch.randn(k, 1, 1, width, generator=generator))
        self.layers = nn.ModuleList(_Block(size, generator, drop) for _ in range(size.n_layers))
        self.last = BatchedNorm(k, width)

    def read(
        self, tokens: list[torch.Tensor], there: list[torch.Tensor], mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        k, n = mask.shape[:2]
        all_tokens = torch.cat([self.reader.expand(k, n, 1, -1), *tokens], dim=2)
        present = torch.cat([torch.ones_like(mask[..., :1]), *there], dim=-1)
        for layer in self.layers:
            all_tokens, weights = layer(all_tokens, all_tokens, present)
        of_tokens = weights[:, :, :, 0, 1:].mean(dim=2).split([part.shape[-1] for part in there], dim=-1)
        said = torch.stack([part.sum(dim=-1) for part in of_tokens], dim=-1)
        said = said / said.sum(dim=-1, keepdim=True).clamp(min=1e-30)
        return self.last(all_tokens[:, :, 0]), said


class CrossAttention(_OfTokens):
    """Each block asks all others (queries of one, keys and values of the rest); what they became stands side by side.

    Where a row has two blocks of vectors, each of them asks one token, and the answer is a linear map of it.
    """

    def __init__(self, size: Size, generator: torch.Generator, drop: nn.Module):
        super().__init__(size, generator, drop)
        k, n_blocks, width = size.n_members, len(size.widths), size.hidden
        self.layers = nn.ModuleList(
            nn.ModuleList(_Block(size, generator, drop) for _ in range(n_blocks)) for _ in range(size.n_layers)
        )
        self.mix = BatchedLinear(k, n_blocks * width + n_blocks, width, generator)

    def read(
        self, tokens: list[torch.Tensor], there: list[torch.Tensor], mask: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        for layer in self.layers:
            asked, new = torch.cat(tokens, dim=2), []
            for m, block in enumerate(cast(nn.ModuleList, layer)):
                others = torch.cat([part * float(o != m) for o, part in enumerate(there)], dim=-1)
                new.append(block(tokens[m], asked, others)[0])
            tokens = new
        parts = [
            (own * part.unsqueeze(-1)).sum(dim=2) / part.sum(dim=-1, keepdim=True).clamp(min=1)
            for own, part in zip(tokens, there, strict=True)
        ]
        return self.drop(torch.relu(self.mix(torch.cat([*parts, mask], dim=-1)))), None


class HybridEncoder(_Fusion):
    """Trunks of each block beside one that all blocks share, which sees them at the same width."""

    def __init__(self, size: Size, generator: torch.Generator, drop: nn.Module):
        super().__init__(size, generator, drop)
        k, n_blocks, width = size.n_members, len(size.widths), size.hidden
        self.narrow = nn.ModuleList(BatchedLinear(k, w, width, generator) for w in size.widths)
        self.shared = BatchedLinear(k, width, width, generator)
        self.mix = BatchedLinear(k, (n_blocks + 1) * width + n_blocks, width, generator)

    def forward(self, blocks: Sequence[torch.Tensor], mask: torch.Tensor) -> Fused:
        hidden = [pooled(h, x) for h, x in zip(self.trunks(blocks, mask), blocks, strict=True)]
        common = [
            self._common(narrow, x) * mask[..., m : m + 1]
            for m, (narrow, x) in enumerate(zip(self.narrow, blocks, strict=True))
        ]
        mixed = self.mix(torch.cat([*hidden, _mean_of(common, mask), mask], dim=-1))
        return Fused(self.drop(torch.relu(mixed)), hidden)

    def _common(self, narrow: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Return what the shared layer makes of a block, of a sequence the mean over its tokens."""
        if x.ndim < 4:
            return self.drop(torch.relu(self.shared(narrow(x))))
        said = self.drop(torch.relu(on_tokens(self.shared, on_tokens(narrow, x[..., :-1]))))
        return pooled(said * x[..., -1:], x)


def _mean_of(hidden: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over the present blocks; 0 in a row that has none."""
    return torch.stack(hidden).sum(dim=0) / mask.sum(dim=-1, keepdim=True).clamp(min=1)


KINDS: dict[str, type[_Fusion]] = {
    "concat": Concat,
    "sum": Sum,
    "late": Late,
    "gated": Gated,
    "lowrank": LowRank,
    "attention": Attention,
    "cross_attention": CrossAttention,
    "hybrid_encoder": HybridEncoder,
}


class FusionNet(nn.Module):
    """A kind of fusion with one linear map to all outputs and, if wanted, one more for each block alone."""

    def __init__(
        self, kind: str, size: Size, n_outputs: int, generator: torch.Generator, drop: nn.Module, *, auxiliary: bool
    ):
        super().__init__()
        self.fusion = KINDS[kind](size, generator, drop)
        self.head = BatchedLinear(size.n_members, self.fusion.n_features, n_outputs, generator, scale=0.3)
        alone = size.widths if auxiliary else ()
        self.alone = nn.ModuleList(
            BatchedLinear(size.n_members, size.hidden, n_outputs, generator, scale=0.3) for _ in alone
        )

    def forward(self, blocks: Sequence[torch.Tensor], mask: torch.Tensor) -> tuple[torch.Tensor, Fused]:
        """Return the outputs, of shape (k, n, n_outputs), and what they were made of."""
        fused = self.fusion(blocks, mask)
        return self.head(fused.features), fused

    def outputs_alone(self, fused: Fused) -> list[torch.Tensor]:
        """Return the outputs of each block by itself, which only the training uses."""
        return [head(part) for head, part in zip(self.alone, fused.parts, strict=True)]


def build_net(plan: Mapping[str, Any], *, seed: int = 0, dropout: float = 0.0) -> FusionNet:
    """Build the network of a plan, with the weights of a seed."""
    size = Size(
        plan["n_members"],
        tuple(plan["widths"]),
        *(plan[name] for name in ("hidden", "n_layers", "n_heads", "rank")),
    )
    generator = torch.Generator().manual_seed(seed)
    drop = Dropout(dropout, Draws(seed))
    n_outputs = sum(plan["outputs"])
    return FusionNet(plan["fusion"], size, n_outputs, generator, drop, auxiliary=plan["auxiliary"])
