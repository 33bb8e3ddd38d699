"""The networks of a variational autoencoder of blocks, and its bounds. Imports torch.

Shapes: k networks at once, n rows, M blocks, q latent variables, D draws. Of linear maps and variances the start comes
from the caller; the hidden layers start at 0 in effect, so that training begins with a linear model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from ensemblefuse.training.layers import BatchedLinear, on_tokens
from ensemblefuse.training.pair_losses import gaussian_kl, product_of_experts

__all__ = ["Autoencoder", "Latents", "build_autoencoder"]

# No column is known better than this, in units of the spread of its block. Otherwise a constant column would have an
# infinite density.
_LEAST_LOG_VARIANCE = -9.0
_LOG_2_PI = math.log(2 * math.pi)


class _Curve(nn.Module):
    """A hidden layer, whose output starts at 0."""

    def __init__(self, k: int, n_in: int, hidden: int, n_out: int, generator: torch.Generator):
        super().__init__()
        self.into = BatchedLinear(k, n_in, hidden, generator)
        self.out = BatchedLinear(k, hidden, n_out, generator, scale=0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.into(x)))


class Expert(nn.Module):
    """What a block says about the latent variables: mean and variance of a Gaussian that is multiplied with others."""

    def __init__(self, k: int, width: int, n_latent: int, hidden: int, generator: torch.Generator):
        super().__init__()
        self.linear = BatchedLinear(k, width, n_latent, generator)
        self.log_variance = nn.Parameter(torch.zeros(k, 1, n_latent))
        self.curve = _Curve(k, width, hidden, 2 * n_latent, generator) if hidden else None

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_variance = self.linear(x), self.log_variance.expand(-1, x.shape[1], -1)
        if self.curve is not None:
            more, wider = self.curve(x).chunk(2, dim=-1)
            mean, log_variance = mean + more, log_variance + wider
        return mean, log_variance.clamp(-12, 12).exp()


class Decoder(nn.Module):
    """The mean of one block given the latent variables, and given the other blocks if there is a skip map."""

    def __init__(self, k: int, n_latent: int, width: int, hidden: int, n_skip: int, generator: torch.Generator):
        super().__init__()
        self.linear = BatchedLinear(k, n_latent, width, generator)
        self.log_variance = nn.Parameter(torch.zeros(k, 1, width))
        self.curve = _Curve(k, n_latent, hidden, width, generator) if hidden else None
        self.skip = BatchedLinear(k, n_skip, width, generator) if n_skip else None

    def forward(self, z: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """Return means of shape (k, n, D, width), from z of shape (k, n, D, q) and the given blocks side by side."""
        mean = on_tokens(self.linear, z)
        if self.curve is not None:
            mean = mean + on_tokens(self.curve, z)
        return mean if self.skip is None else mean + self.skip(given).unsqueeze(2)

    @property
    def spread(self) -> torch.Tensor:
        return self.log_variance.clamp(min=_LEAST_LOG_VARIANCE)


@dataclass
class Latents:
    """Draws of the latent variables of each row.

    Attributes
    ----------
    z : tensor of shape (k, n, D, q)
    log_density : tensor of shape (k, n, D)
        Of the distribution that they come from.
    share : tensor of shape (k, n, D)
        With which each counts in a mean; they sum to 1.
    """

    z: torch.Tensor
    log_density: torch.Tensor
    share: torch.Tensor


class Autoencoder(nn.Module):
    """One expert and one decoder for each block.

    Parameters
    ----------
    kind : {"poe", "mixture", "conditional"}
    n_members : int
    widths : sequence of int
        Of the blocks.
    n_latent, hidden : int
        With ``hidden=0`` all maps are linear.
    generator : torch.Generator
    """

    def __init__(
        self, kind: str, n_members: int, widths: Sequence[int], n_latent: int, hidden: int, generator: torch.Generator
    ):
        super().__init__()
        self.kind, k = kind, n_members
        # A skip map reads all blocks, of which the absent ones and its own are 0, and which are there.
        n_skip = sum(widths) + len(widths) if kind == "conditional" else 0
        self.experts = nn.ModuleList(Expert(k, width, n_latent, hidden, generator) for width in widths)
        self.decoders = nn.ModuleList(Decoder(k, n_latent, width, hidden, n_skip, generator) for width in widths)

    def experts_of(self, blocks: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return means and variances of all experts, of shape (M, k, n, q)."""
        said = [expert(block) for expert, block in zip(self.experts, blocks, strict=True)]
        means, variances = zip(*said, strict=True)
        return torch.stack(means), torch.stack(variances)

    def components(self, said: tuple[torch.Tensor, torch.Tensor], read: torch.Tensor) -> Any:
        """Return means, variances and shares of the Gaussians whose mixture is read from some blocks.

        Parameters
        ----------
        said : (means, variances)
            Of all experts.
        read : tensor of shape (k, n, M)
            1 for the blocks that are read.

        Returns
        -------
        means, variances : tensors of shape (C, k, n, q)
        shares : tensor of shape (C, k, n)
            A row of which no block is read has N(0, 1).
        """
        if self.kind != "mixture":
            mean, variance = product_of_experts(*said, read.permute(2, 0, 1))
            return mean[None], variance[None], torch.ones_like(mean[None, ..., 0])
        alone = torch.eye(read.shape[-1], dtype=read.dtype, device=read.device)
        parts = [product_of_experts(*said, (read * one).permute(2, 0, 1)) for one in alone]
        means, variances = (torch.stack(values) for values in zip(*parts, strict=True))
        count = read.sum(dim=-1)
        shares = torch.where(count > 0, read.permute(2, 0, 1) / count.clamp(min=1), 1 / read.shape[-1])
        return means, variances, shares

    def draw(self, parts: Any, noise: torch.Tensor) -> Latents:
        """Return draws of each Gaussian of a mixture.

        Parameters
        ----------
        parts : (means, variances, shares)
            As from `components`.
        noise : tensor that can be expanded to (k, n, D, q)
            Standard normal numbers.
        """
        means, variances, shares = parts
        z = torch.cat(
            [m.unsqueeze(2) + v.sqrt().unsqueeze(2) * noise for m, v in zip(means, variances, strict=True)], dim=2
        )
        own = [_normal(z, m.unsqueeze(2), v.unsqueeze(2)) for m, v in zip(means, variances, strict=True)]
        each = torch.stack(own) + shares.clamp(min=1e-30).log().unsqueeze(-1)
        n_draws = z.shape[2] // len(means)
        share = shares.permute(1, 2, 0).repeat_interleave(n_draws, dim=-1) / n_draws
        return Latents(z, each.logsumexp(dim=0), share)

    def given(self, blocks: Sequence[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
        """Return the blocks side by side, 0 where they are not given, and which are."""
        return torch.cat([*(x * mask[..., m : m + 1] for m, x in enumerate(blocks)), mask], dim=-1)

    def explained(
        self, z: torch.Tensor, blocks: Sequence[torch.Tensor], given: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return the log-density of some blocks, of shape (k, n, D)."""
        total = torch.zeros_like(z[..., 0])
        for m, (x, part) in enumerate(zip(blocks, self.decoders, strict=True)):
            decoder = cast(Decoder, part)
            mean, spread = decoder(z, given), decoder.spread.unsqueeze(2)
            density = _normal(x.unsqueeze(2), mean, spread.exp())
            total = total + density * mask[..., m : m + 1]
        return total

    def _prior(self, said: Any, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and variance of the prior: N(0, 1), or what the given blocks say."""
        if self.kind != "conditional":
            return torch.zeros_like(said[0][0]), torch.ones_like(said[0][0])
        means, variances = said
        return product_of_experts(means, variances, given.permute(2, 0, 1))

    def bound(
        self,
        blocks: Sequence[torch.Tensor],
        explained: torch.Tensor,
        noise: torch.Tensor,
        *,
        given: torch.Tensor | None = None,
        kl_weight: float = 1.0,
    ) -> torch.Tensor:
        """Return a lower bound of the log-density of some blocks, of shape (k, n).

        Parameters
        ----------
        blocks : sequence of tensors of shape (k, n, width)
        explained : tensor of shape (k, n, M)
        noise : tensor that can be expanded to (k, n, D, q)
        given : tensor of shape (k, n, M), optional
            Blocks on which the density is conditioned. The encoder reads these and the explained ones. Only for
            ``"conditional"``.
        kl_weight : float
        """
        given = torch.zeros_like(explained) if given is None else given
        said = self.experts_of(blocks)
        parts, (prior_mean, prior_variance) = self.components(said, explained + given), self._prior(said, given)
        draws = self.draw(parts, noise)
        fit = self.explained(draws.z, blocks, self.given(blocks, given), explained)
        if self.kind == "mixture":
            gap = draws.log_density - _normal(draws.z, 0.0, torch.ones_like(draws.z))
            return (draws.share * (fit - kl_weight * gap)).sum(dim=-1)
        gap = gaussian_kl(parts[0][0], parts[1][0], prior_mean, prior_variance)
        return (draws.share * fit).sum(dim=-1) - kl_weight * gap

    def weighted_bound(
        self, blocks: Sequence[torch.Tensor], explained: torch.Tensor, noise: torch.Tensor, given: torch.Tensor
    ) -> torch.Tensor:
        """Return the importance-weighted bound, which rises to the log-density with the number of draws."""
        said = self.experts_of(blocks)
        mean, variance = self._prior(said, given)
        draws = self.draw(self.components(said, explained + given), noise)
        fit = self.explained(draws.z, blocks, self.given(blocks, given), explained)
        prior = _normal(draws.z, mean.unsqueeze(2), variance.unsqueeze(2))
        return (fit + prior - draws.log_density + draws.share.clamp(min=1e-30).log()).logsumexp(dim=-1)

    def latent_mean(self, blocks: Sequence[torch.Tensor], read: torch.Tensor) -> torch.Tensor:
        means, _, shares = self.components(self.experts_of(blocks), read)
        return (means * shares.unsqueeze(-1)).sum(dim=0)

    def reconstruct(
        self, blocks: Sequence[torch.Tensor], read: torch.Tensor, noise: torch.Tensor, wanted: int
    ) -> torch.Tensor:
        """Return the mean of one block over draws from what other blocks say, of shape (k, n, width)."""
        draws = self.draw(self.components(self.experts_of(blocks), read), noise)
        mean = self.decoders[wanted](draws.z, self.given(blocks, read))
        return (mean * draws.share.unsqueeze(-1)).sum(dim=2)


def _normal(x: torch.Tensor, mean: Any, variance: torch.Tensor) -> torch.Tensor:
    """Return the log-density of independent Gaussians, summed over the last axis."""
    return -0.5 * (_LOG_2_PI + variance.log() + (x - mean) ** 2 / variance).sum(dim=-1)


def build_autoencoder(plan: Mapping[str, Any], *, seed: int = 0) -> Autoencoder:
    """Build the network of a plan, with hidden layers of a seed."""
    sizes = (plan["n_members"], plan["widths"], plan["n_latent"], plan["hidden"])
    return Autoencoder(plan["kind"], *sizes, torch.Generator().manual_seed(seed))
