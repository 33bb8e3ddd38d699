"""The parameter `estimators` of decision-level fusion: several per block, "drop", and those of the joint member."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ensemblefuse.fusion._per_block_base import PerBlockFusion, name_heads
from ensemblefuse.fusion.base import check_estimator_kind, takes_nan
from ensemblefuse.fusion.joint import JOINT

__all__ = ["EstimatorsFusion"]

DROP = "drop"


class EstimatorsFusion(PerBlockFusion):
    """Base class of fusions with a parameter ``estimators`` that may hold several estimators per block.

    ``estimators`` is one for all blocks, a list, or a dict with one of these for each block and for ``"joint"``. A
    subclass has a parameter ``joint`` and the class attribute ``_classify``.
    """

    def _heads_of(self, name: str) -> list[tuple[str, Any]]:
        """Return member name and estimator of each head of a block; the estimator is None for the default."""
        given = self._given(name)
        if isinstance(given, str) and given == DROP:
            return []
        if isinstance(given, list) and len(given) == 1 and given[0] is None:
            return [(name, None)]  # the searched head alone
        if isinstance(given, list):
            return [(f"{name}/{head}", estimator) for head, estimator in name_heads(given)]
        return [(name, given)]

    def _used_blocks(self) -> list[str]:
        return [name for name in self.blocks_ if self._heads_of(name)]

    def _partial_blocks(self) -> frozenset[str]:
        """Return the blocks whose estimators all accept NaN beside numbers."""
        takers = []
        for name in self.blocks_:
            heads = [estimator for _, estimator in self._heads_of(name)]
            if all(estimator is not None and takes_nan(estimator) for estimator in heads):
                takers.append(name)
        return frozenset(takers)

    def _check_estimators(self) -> None:
        if JOINT in self.blocks_ and (self.joint or isinstance(self.estimators, Mapping)):
            raise ValueError(f"{JOINT!r} is the name of the member over all blocks; rename the block.")
        if isinstance(self.estimators, Mapping):
            self._require_blocks({k: v for k, v in self.estimators.items() if k != JOINT}, "estimators")
        for name in [*self.blocks_, JOINT]:
            if isinstance(self._given(name), list) and not self._given(name):
                raise ValueError(f"estimators holds an empty list for {name!r}; give an estimator, or 'drop'.")
            for _, estimator in self._heads_of(name):
                if estimator is not None:
                    check_estimator_kind(self, name, estimator, classify=self._classify)
                    if self._classify and (name in self.blocks_ or self.joint):
                        self._check_taught(name, estimator)
        if not self._used_blocks():
            raise ValueError(f"estimators drops every block: {list(self.blocks_)}.")
        heads = {name: [estimator for _, estimator in self._heads_of(name)] for name in self.raw_blocks_}
        self._refuse_bare([name for name, found in heads.items() if None in found])
