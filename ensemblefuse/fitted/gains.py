"""Gains of the modalities: one comparison, from which the headline of a report, its tables and the checks all read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ensemblefuse.fitted.subsets import SubsetPredictions
from ensemblefuse.scoring.bootstrap import Resampling
from ensemblefuse.scoring.metrics import METRICS, default_metric, row_values

__all__ = ["Gain", "Gains", "gains_of", "subsets_of_gains"]

# Gains below this are rounding.
_ROUNDING = 1e-9


class Gain(NamedTuple):
    """Mean difference of the scores of rows, better minus worse, with its interval; positive helps."""

    mean: float
    low: float
    high: float

    @property
    def helps(self) -> bool:
        """Whether the interval lies above 0; False if there is no interval."""
        return self.low > _ROUNDING

    @property
    def hurts(self) -> bool:
        """Whether the interval lies below 0; False if there is no interval."""
        return self.high < -_ROUNDING


@dataclass(frozen=True)
class Gains:
    """What the modalities of a model are worth: gains in its default metric, all on the same rows and resamples.

    Attributes
    ----------
    names : list of str
    alone : dict of str to Gain
        Of each modality alone, over predictions without any modality.
    on_top : dict of str to Gain
        Of each modality on top of all others.
    subsets : dict of tuple of str to Gain
        Of each predicted subset, over predictions without any modality.
    total : Gain
        Of the unchanged model, with its joint member, over predictions without any modality.
    best : str
        Modality with the best score alone.
    over_best : Gain
        Of the unchanged model over `best`.
    joint : Gain or None
        Of the joint member on top of all modalities, if the other figures leave it out.
    unit : str
    n_rows : int
    """

    names: list[str]
    alone: dict[str, Gain]
    on_top: dict[str, Gain]
    subsets: dict[tuple[str, ...], Gain]
    total: Gain
    best: str
    over_best: Gain
    joint: Gain | None
    unit: str
    n_rows: int

    @property
    def useless(self) -> list[str]:
        """Modalities without a demonstrated gain, neither alone nor on top of the others."""
        return [name for name in self.names if not (self.alone[name].helps or self.on_top[name].helps)]


def subsets_of_gains(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the subsets of modalities whose predictions `gains_of` needs: none, each alone, all but one, all."""
    chosen = [(), *((name,) for name in names), *(tuple(o for o in names if o != name) for name in names), tuple(names)]
    return list({frozenset(subset): subset for subset in chosen}.values())


def gains_of(said: SubsetPredictions, resampling: Resampling) -> Gains:
    """Compute the gains from the predictions with the subsets of `subsets_of_gains`.

    Parameters
    ----------
    said : SubsetPredictions
    resampling : Resampling
        With an int as the seed, and with the groups and weights of the rows of `said`.
    """
    metric, names = default_metric(said.classes is not None), said.names
    values = {frozenset(subset): row_values(said.of(subset), said.y, metric) for subset in said.subsets}
    whole, nothing, full = row_values(said.deployed, said.y, metric), values[frozenset()], values[frozenset(names)]
    mean = {name: np.average(values[frozenset([name])], weights=said.sample_weight) for name in names}
    best = max(names, key=lambda name: mean[name])
    differences = [
        *(values[frozenset([name])] - nothing for name in names),
        *(full - values[frozenset(names) - {name}] for name in names),
        *(values[frozenset(subset)] - nothing for subset in said.subsets),
        *(whole - nothing, whole - values[frozenset([best])]),
        *([whole - full] if said.whole is not None else []),
    ]
    stacked = np.column_stack(differences)
    ends = zip(*resampling.interval(stacked), strict=True)
    means = np.average(stacked, axis=0, weights=said.sample_weight)
    gains = [Gain(float(m), float(low), float(high)) for m, (low, high) in zip(means, ends, strict=True)]
    n, k = len(names), 2 * len(names) + len(said.subsets)
    return Gains(
        names=names,
        alone=dict(zip(names, gains[:n], strict=True)),
        on_top=dict(zip(names, gains[n : 2 * n], strict=True)),
        subsets=dict(zip(said.subsets, gains[2 * n : k], strict=True)),
        total=gains[k],
        best=best,
        over_best=gains[k + 1],
        joint=gains[k + 2] if said.whole is not None else None,
        unit=METRICS[metric].unit,
        n_rows=len(said.rows),
    )
