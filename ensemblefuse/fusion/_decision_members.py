"""Which members a decision-level fusion has: of each block, and of all blocks together."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from ensemblefuse._fitting import check_components
from ensemblefuse.blocks import Blocks
from ensemblefuse.combine import BasePool
from ensemblefuse.features.word_features import count_terms
from ensemblefuse.fusion._block_preparation import SCALED
from ensemblefuse.fusion._default_heads import HeadSearch, default_search, linear_search
from ensemblefuse.fusion._default_trees import (
    forest_member,
    forest_search,
    has_components,
    has_joint_forest,
    has_trees,
    joint_trees,
    narrow_blocks,
    tree_search,
    trees_member,
)
from ensemblefuse.fusion._default_words import words_member, words_search
from ensemblefuse.fusion._estimators import EstimatorsFusion
from ensemblefuse.fusion._oof_ledger import Ledger
from ensemblefuse.fusion.base import BaseFusion, refuse_fitted
from ensemblefuse.fusion.joint import JOINT, common_patterns, joint_estimator, rows_of_patterns
from ensemblefuse.fusion.members import Member

__all__ = ["DecisionMembers"]

_MISSING = ("present", "impute", "dropout", "reduced")
_EFFORTS = ("low", "medium", "high")


class DecisionMembers(EstimatorsFusion):
    """The settings of decision-level fusion, and the members that they give.

    A subclass sets ``_classify``. It has the parameters ``estimators``, ``combiner``, ``joint``, ``missing``,
    ``effort`` and ``verbose``. There are no hooks to define.
    """

    def _check_params(self) -> None:
        self._check_settings()
        self._check_estimators()

    def _check_names_of_blocks(self) -> None:
        self._check_estimators()

    def _check_settings(self) -> None:
        if self.missing not in _MISSING:
            raise ValueError(f"missing must be one of {_MISSING}; got {self.missing!r}.")
        if not isinstance(self.effort, str) or self.effort not in _EFFORTS:
            raise ValueError(f"effort must be one of {_EFFORTS}; got {self.effort!r}.")
        if not isinstance(self.verbose, Integral) or self.verbose not in (0, 1):
            raise ValueError(f"verbose must be 0 (print nothing) or 1 (print the members); got {self.verbose!r}.")
        if not isinstance(self.combiner, (BasePool, type(None))):
            raise ValueError(f"combiner must be a pool such as LogPool(); got {self.combiner!r}.")
        if self.combiner is not None:
            self.combiner._check_hooks()

    def _members(self, blocks: Blocks, ledger: Ledger) -> list[Member]:
        """Return one member per head: of each block, and of all blocks together."""
        numeric = self._joint_blocks()
        narrow = narrow_blocks(blocks, [name for name in numeric if self._given(name) is None])
        narrow = [] if self.effort == "low" else narrow
        members = [member for name in self._used_blocks() for member in self._members_of(name, blocks, ledger, narrow)]
        if self.joint and len(numeric) > 1:
            members += self._joint_members(numeric, blocks, ledger, narrow)
        _check_distinct(members)
        return members

    def _members_of(self, name: str, blocks: Blocks, ledger: Ledger, narrow: list[str]) -> list[Member]:
        """Return the members of one block; those in `narrow` get trees."""
        data, present = blocks.data[name], blocks.present[blocks.names.index(name)]
        shape = (int(present.sum()), data.shape[1] if data.ndim == 2 else 1)
        members = []
        for member, estimator in self._heads_of(name):
            if data.ndim == 2:  # a block of raw cells may be a Series
                check_components(f"the block {name!r}", estimator, *shape)
            head = self._default_head(shape, ledger) if estimator is None else estimator
            members.append(Member(member, head, data, present, ledger.groups, name))
        if name in narrow and has_trees(data, present, ledger.y, ledger.n_classes):
            trees = tree_search(shape[1], ledger.n_classes, n_rows=shape[0], effort=self.effort)
            members += self._tree_members(trees, name, data, present, ledger)
        if name in self.word_columns_ and self._wants_words(name):
            counts, held = blocks.counts_of(name, count_terms), present & blocks.has_words(name)
            words = words_search(ledger.n_classes, effort=self.effort)
            members.append(Member(words_member(name), words, counts, held, ledger.groups, name))
        return members

    def _default_head(self, shape: tuple[int, int], ledger: Ledger) -> HeadSearch:
        if self.effort == "low":
            return linear_search(shape[1], ledger.n_classes)
        return default_search(shape[1], shape, ledger.n_classes, weighted=ledger.sample_weight is not None)

    def _joint_members(self, numeric: list[str], blocks: Blocks, ledger: Ledger, narrow: list[str]) -> list[Member]:
        """Return the members over all blocks of numbers; trees only if a block has some, or would have."""
        weighted, members = ledger.sample_weight is not None, []
        self.joint_patterns_ = common_patterns(blocks, numeric)
        present, data, spans = self._joint_rows(blocks), blocks.side_by_side(numeric), blocks.spans(numeric)
        for member, estimator in self._heads_of(JOINT):
            if not isinstance(estimator, BaseFusion):  # a fusion scales its blocks itself, if at all
                refuse_fitted(self, JOINT, estimator, SCALED, "pass joint=False")
            shape = (int(present.sum()), data.shape[1])
            check_components("all blocks side by side", estimator, *shape)
            estimator = joint_estimator(self, estimator, spans, shape, ledger.n_classes, weighted)
            members.append(Member(member, estimator, data, present, ledger.groups, JOINT))
        table = narrow_blocks(blocks, numeric)
        wide = [name for name in numeric if name not in table]
        wanted = narrow and self._given(JOINT) is None and self.missing == "present"
        known = has_components(wide, blocks, present, ledger.splits, ledger.sample_weight)
        if wanted and known and has_trees(data, present, ledger.y, ledger.n_classes):
            trees = joint_trees(spans, table, ledger.n_classes, n_rows=int(present.sum()), effort=self.effort)
            # Components in double precision: in single precision they depend on the rows beside them.
            exact = blocks.side_by_side(numeric, exact=True)
            members += self._tree_members(trees, JOINT, exact, present, ledger)
        return members

    def _tree_members(
        self, trees: HeadSearch, block: str, data: np.ndarray, present: np.ndarray, ledger: Ledger
    ) -> list[Member]:
        """Return the member of boosted trees, and in regression or with high effort that of a forest."""
        searches, n_rows, n_classes = {trees_member(block): trees}, int(present.sum()), ledger.n_classes
        wanted = self.effort == "high" or not self._classify
        if wanted and (block != JOINT or has_joint_forest(n_rows, n_classes)):
            searches[forest_member(block)] = forest_search(n_rows, n_classes, trees)
        return [Member(name, search, data, present, ledger.groups, block) for name, search in searches.items()]

    def _wants_words(self, name: str) -> bool:
        return self._given(name) is None

    def _joint_blocks(self) -> list[str]:
        return [name for name in self._used_blocks() if name not in self.raw_blocks_]

    def _joint_rows(self, blocks: Blocks) -> np.ndarray:
        """Return the rows in which the joint member takes part: rows with a known pattern, or rows with any block."""
        numeric = self._joint_blocks()
        if self.missing == "present":
            return rows_of_patterns(blocks, numeric, self.joint_patterns_)
        return np.asarray(blocks.present[[blocks.names.index(name) for name in numeric]].any(axis=0))

    def _is_joint(self, block: str) -> bool:
        """Return whether this is the block of the joint member. Without a joint member, a block may have its name."""
        return block == JOINT and JOINT not in self.blocks_

    def _joint_takes(self, names: set[str]) -> bool:
        """Return whether the joint member takes part in rows that hold exactly these blocks."""
        if self.missing != "present":
            return True
        pattern = np.array([name in names for name in self._joint_blocks()])
        return bool((self.joint_patterns_ == pattern).all(axis=1).any())


def _check_distinct(members: list[Member]) -> None:
    """Raise an error if two members have one name: blocks may be named ``a`` and ``a/trees``."""
    block_of: dict[str, str] = {}
    for member in members:
        if member.name in block_of:
            raise ValueError(
                f"The blocks {block_of[member.name]!r} and {member.block!r} both have a member named {member.name!r}; "
                "rename one of the blocks, or the estimators of one."
            )
        block_of[member.name] = member.block
