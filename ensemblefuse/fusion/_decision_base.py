"""The base class of decision-level fusion: members and combiner are fitted, and asked for new rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._calls import plain_inside
from ensemblefuse._threads import one_blas_thread
from ensemblefuse.blocks import Blocks
from ensemblefuse.combine import BasePool
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.features.word_features import count_terms
from ensemblefuse.fusion._cross_fitted_pools import cross_fit, default_combiner
from ensemblefuse.fusion._decision_members import DecisionMembers
from ensemblefuse.fusion._default_words import words_member
from ensemblefuse.fusion._member_table import member_lines, member_table, training_rows
from ensemblefuse.fusion._oof_ledger import Entry, Ledger, NothingToFitError
from ensemblefuse.fusion.base import warn_unweighted
from ensemblefuse.fusion.members import Member, ask_member, take_rows
from ensemblefuse.fusion.patterns import expected_scores, list_patterns, possible_members
from ensemblefuse.fusion.splits import make_splits

__all__ = ["DecisionFusion"]


class DecisionFusion(DecisionMembers):
    """The common part of the classifier and the regressor of decision-level fusion.

    A subclass sets ``_classify`` and defines these hooks. Let n be n_samples, and let predictions have shape
    (n_samples, n_classes), or (n_samples,) in regression:

    - ``_read_target(y, n)`` returns the checked target, of shape (n,): class codes, or numbers;
    - ``_row_weights(sample_weight, blocks, y)`` returns the weights of the fits, of shape (n,), or None;
    - ``_learn_certainty(fused, ledger)`` gets fused out-of-fold predictions (NaN in rows without any). It fits the
      calibration and sets ``oof_proba_`` or ``oof_fused_``;
    - ``_certainty_without(fused, train, test, ledger)`` returns a calibration fitted on `train` (positions) without the
      rows of `test`, or None in regression;
    - ``_fuse(P, mask)`` combines the members' predictions for new rows. `P` has shape (n_members, n_samples, n_classes)
      or (n_members, n_samples), `mask` (n_members, n_samples). It returns predictions.
    """

    # Names of the members over words. Files of before have none.
    word_members_: Sequence[str] = ()
    # Number of heads that were tried, and seconds of their fits, of each member. Files of before do not have it.
    _member_work: np.ndarray | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state; files of before do not have these parameters."""
        super().__setstate__({"effort": "medium", "verbose": 0, **state})

    # ------------------------------------------------------------------ fit

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> None:
        self._forget()
        blocks = self._read(X, reset=True)
        y = self._read_target(y, len(blocks))
        weight = self._row_weights(sample_weight, blocks, y)
        groups = self._read_groups(groups, len(blocks))
        splits = make_splits(self.cv, y, groups, classify=self._classify)
        labels = self.classes_.tolist() if self._classify else []
        own = self._read_weight(sample_weight, blocks)
        ledger = Ledger(
            y, splits, weight, labels, n_jobs=self.n_jobs, keep_folds=not self.refit, groups=groups, row_weight=own
        )
        self._fit_members(blocks, ledger)

    def _fit_members(self, blocks: Blocks, ledger: Ledger) -> None:
        """Fit members and combiner on blocks that are already read. The candidates of a search share one ledger."""
        members, entries = self._enter(blocks, ledger)
        if self.refit:
            ledger.refit(entries)
        entries = self._keep_fitted(members, entries)
        self._fit_combiner(entries, ledger, blocks)
        if self.verbose:
            print("\n".join(member_lines(self)))

    def _predict_oof(self, blocks: Blocks, ledger: Ledger) -> np.ndarray:
        """Return fused out-of-fold predictions, without a fit of the members on all rows.

        Combiner and calibration are fitted without the fold, too.
        """
        pairs = [
            (m.name, entry) for m, entry in zip(*self._enter(blocks, ledger), strict=True) if np.isfinite(entry.loss)
        ]
        if not pairs:
            raise NothingToFitError(
                f"{type(self).__name__} has no member with out-of-fold predictions: in each fold, every block is "
                "missing, or its rows are all of one class."
            )
        P = np.stack([entry.predictions for _, entry in pairs])
        fused, _, self.combiner_ = cross_fit(self._pool(), P, ledger, names=[name for name, _ in pairs])
        self._learn_certainty(fused, ledger)
        return self.oof_proba_.astype(float) if self._classify else fused

    def _enter(self, blocks: Blocks, ledger: Ledger) -> tuple[list[Member], list[Entry]]:
        """Return the members and their entries in the ledger. Another candidate may already have made an entry."""
        self._check_params()
        self._check_partial(blocks, self._partial_blocks())
        members = self._members(blocks, ledger)
        return members, ledger.add(members)

    def _keep_fitted(self, members: list[Member], entries: list[Entry]) -> list[Entry]:
        """Store the fitted members. Return the entries of the members that could be fitted."""
        pairs = list(zip(members, entries, strict=True))
        kept = [(member, entry) for member, entry in pairs if entry.deployed(self.refit)]
        lost = {m.name: int(m.present.sum()) for m, entry in pairs if not entry.deployed(self.refit)}
        if not kept:
            raise ValueError(
                f"{type(self).__name__} has nothing to fit: every block is missing in all {len(members[0].present)} "
                "rows, or its rows are all of one class."
            )
        if lost:
            warnings.warn(
                f"{type(self).__name__} leaves out these members, because their rows are too few or of one class "
                f"(member: rows): {lost}.",
                MissingModalityWarning,
                stacklevel=6,
            )
        fits = {member.name: entry.deployed(self.refit) for member, entry in kept}
        warn_unweighted(self, [name for name, f in fits.items() if not all(fit.weighted for fit in f)])
        self.member_names_ = list(fits)
        self.member_blocks_ = [member.block for member, _ in kept]
        self.word_members_ = [
            m.name
            for m, _ in kept
            if m.name == words_member(m.block) and m.block in self.word_columns_ and self._wants_words(m.block)
        ]
        self.member_temperatures_ = np.array([entry.temperature for _, entry in kept])
        self._by_value = [member.decides_by_value for member, _ in kept]
        self._member_work = np.array([_work_of(entry) for _, entry in kept])
        self.estimators_, self.member_classes_ = {}, {}
        for name, some in fits.items():
            estimators, classes = [fit.estimators[0] for fit in some], [fit.classes for fit in some]
            self.estimators_[name] = estimators[0] if self.refit else estimators
            self.member_classes_[name] = classes[0] if self.refit else classes
        return [entry for _, entry in kept]

    def _fit_combiner(self, entries: list[Entry], ledger: Ledger, blocks: Blocks) -> None:
        P = np.stack([entry.predictions for entry in entries])
        self.patterns_ = list_patterns(blocks, self._used_blocks())
        possible = possible_members(self, blocks)
        with one_blas_thread():
            fused, pools, self.combiner_ = cross_fit(self._pool(), P, ledger, possible, self.member_names_)
        self._learn_certainty(fused, ledger)
        self.oof_predictions_ = P.astype(np.float32) if self._classify else P
        present = blocks.present[[blocks.names.index(name) for name in self._used_blocks()]]
        kept = [(test, pool, self._certainty_without(fused, train, test, ledger)) for train, test, pool in pools]
        self._oof = {"y": ledger.y, "sample_weight": ledger.row_weight, "present": present, "pools": kept}
        self._oof["train"] = training_rows(pools)
        self._pattern_scores = expected_scores(self)

    def _pool(self) -> BasePool:
        return default_combiner(classify=self._classify) if self.combiner is None else self.combiner

    @property
    def expected_scores_(self) -> pd.DataFrame:
        """Scores to expect for rows that hold only some blocks, measured out of fold."""
        check_is_fitted(self, "combiner_")
        names = [
            " + ".join(n for n, there in zip(self._used_blocks(), p, strict=True) if there) for p in self.patterns_
        ]
        scores = ["n_rows", "log_loss", "accuracy"] if self._classify else ["n_rows", "rmse", "r2"]
        table = pd.DataFrame(self._pattern_scores, index=pd.Index(names, name="blocks"), columns=scores)
        return table.astype({"n_rows": int})

    @property
    def members_(self) -> pd.DataFrame:
        """The members, each with the head that was kept, its out-of-fold scores, and what it adds to the others."""
        check_is_fitted(self, "combiner_")
        return member_table(self)

    # ------------------------------------------------------------------ predict

    @plain_inside
    def _outputs(self, X: Any, joint_rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the predictions of all members for new rows, and the members present in each row.

        The joint member takes part in `joint_rows`; by default, in the rows with a pattern that it knows.
        """
        check_is_fitted(self, "combiner_")
        blocks = self._read(X, reset=False)
        self._check_partial(blocks, self._partial_blocks())
        n_classes = len(self.classes_) if self._classify else 0
        shape = (len(self.member_names_), len(blocks), *([n_classes] if n_classes else []))
        P, mask = np.full(shape, np.nan), np.zeros(shape[:2], dtype=bool)
        for m, block in enumerate(self.member_blocks_):
            if self._is_joint(block):
                data = blocks.side_by_side(self._joint_blocks())
                mask[m] = self._joint_rows(blocks) if joint_rows is None else joint_rows
            elif self.member_names_[m] in self.word_members_:
                data, mask[m] = blocks.counts_of(block, count_terms), blocks.has_words(block)
            else:
                data, mask[m] = blocks.data[block], blocks.present[blocks.names.index(block)]
            if mask[m].all():
                P[m] = self._ask(m, data, n_classes)
            elif mask[m].any():
                P[m, mask[m]] = self._ask(m, take_rows(data, mask[m]), n_classes)
        return P, mask

    def _ask(self, m: int, rows: Any, n_classes: int) -> np.ndarray:
        """Return the predictions of one member.

        With one model per fold, this is the mean of their predictions (of log-probabilities in classification).
        """
        name = self.member_names_[m]
        estimators: Any = self.estimators_[name]
        classes: Any = self.member_classes_[name]
        if self.refit:
            estimators, classes = [estimators], [classes]
        return ask_member(estimators, classes, rows, n_classes, float(self.member_temperatures_[m]), self._by_value[m])


def _work_of(entry: Entry) -> tuple[int, float]:
    """Return how many heads were tried, and the seconds of all fits."""
    return len(entry.member.heads), entry.seconds + sum(entry.refit.seconds if entry.refit is not None else [])
