"""Cascade: look at cheap blocks first, and at the next only where they leave doubt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from ensemblefuse.blocks import Blocks
from ensemblefuse.combine import BasePool, apply_temperature
from ensemblefuse.combine.probabilities import log_probabilities, softmax
from ensemblefuse.fusion._cross_fit import cross_fit, default_combiner
from ensemblefuse.fusion._encoding import EncodingFusion
from ensemblefuse.fusion._heads import default_search
from ensemblefuse.fusion._ledger import Entry, Ledger, member_scores, smooth_temperature
from ensemblefuse.fusion._per_block import is_number
from ensemblefuse.fusion.base import check_estimator_kind, read_labels, warn_unweighted
from ensemblefuse.fusion.members import Member
from ensemblefuse.fusion.splits import make_splits

__all__ = ["CascadeFusionClassifier"]


class CascadeFusionClassifier(ClassifierMixin, EncodingFusion):
    r"""Early exit by cost: blocks are looked at one after the other, until the classes are told apart.

    The members are those of decision-level fusion. Stage s pools the first s of them, and a row stops at the first
    stage whose largest probability is at least `threshold_`. With `encoders` the blocks of later stages are encoded for
    those rows only that get there, which is where a cascade saves time.

    .. math:: \tau = \min \{ t : a(t) \ge a(\infty) - \delta \}

    where :math:`a(t)` is the out-of-fold accuracy with threshold t, :math:`a(\infty)` that of looking at all blocks,
    and :math:`\delta` the tolerance; :math:`\tau` is infinite if no threshold does it, and then no row stops early. The
    expected cost is the mean over rows of the costs of the blocks that are looked at.

    Parameters
    ----------
    estimators : classifier or dict of str to classifier, optional
        One for all blocks, or one a block; the default is that of `DecisionFusionClassifier`. There is no member over
        several blocks.
    costs : dict of str to float, optional
        What it costs to look at a block, in any unit; 1 for those that are not named.
    order : "auto" or list of str
        Blocks in the order of their stages; ``"auto"`` puts the cheap ones first, and of those that cost the same the
        one of least out-of-fold log-loss.
    tolerance : float
        Accuracy that may be given up, as a share of the rows.
    encoders : dict of str to transformer, optional
        Frozen transformers that see one row at a time, for blocks of raw cells. They are fitted on all rows that hold
        the block, without labels. A block of one column reaches one whose tags say that it takes no table (encoders,
        `TfidfVectorizer`) as a Series, any other as a DataFrame; a prefix ``block__`` of its columns is taken off.
    combiner : pool, optional
        Fitted again for each stage; by default ``LogPool(per_pattern=True, smoothing=0.01)``.
    cv, n_jobs, blocks
        As in `DecisionFusionClassifier`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    blocks_ : dict of str to ndarray of int
        Positions of each block's columns.
    order_ : list of str
        Blocks in the order of their stages. One that could not be fitted is left out, with a warning.
    costs_ : dict of str to float
        In that order.
    encoders_ : dict of str to transformer
    estimators_ : dict of str to classifier
        Fitted on all rows that hold the block, on coded labels.
    member_classes_ : dict of str to ndarray of int
        Codes of the classes that each of them was fitted on.
    member_temperatures_, temperatures_ : ndarray of shape (n_stages,)
        Of members without probabilities, and of the fused probabilities of stages whose pool has not chosen its own
        certainty; else 1.0.
    combiners_ : list of pool
        One a stage, over the members up to it.
    combiner_ : pool
        The last of them; its `shift` is the one that predictions of all stages have, and out-of-fold ones have not.
    threshold_ : float
        The same in all stages; infinite if no row stops early.
    expected_cost_ : float
        Weighted mean cost a row, out of fold.
    stage_accuracy_ : ndarray of shape (n_stages,)
        Out-of-fold accuracy if all rows stopped there. A row that lacks all blocks up to the stage gets the class
        frequencies; one that holds some and has no out-of-fold probability from them is left out. NaN if all are.
    stage_counts_ : ndarray of shape (n_stages,)
        Rows in fit that stop at each stage, out of fold.
    oof_proba_ : ndarray of shape (n_samples, n_classes), dtype float32
        Out-of-fold probabilities of the stage at which the row stops, the pools fitted without the fold. NaN in rows
        that hold a block and are in no test fold.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    A row that lacks the block of a stage passes it by, at no cost. A row with no block gets the class frequencies.

    `make_fusion_pipeline` hands raw cells and encoders to a fusion whose class says ``_encodes = True``, as this one
    does. Their parameters are then reached as ``fuse__encoders__<modality>__<parameter>``. In a fitted model those that
    an encoder names in `neutral_params` (``device``, ``batch_size``, ``on_error``) take effect at once.

    References
    ----------
    Viola and Jones, CVPR 2001 (cascades); Wang et al., Wisdom of Committees, ICLR 2022 (exit of ensembles by
    confidence).

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import CascadeFusionClassifier
    >>> X = pd.DataFrame({"image__0": [1.0, 2.0, 3.0, 7.0, 8.0, 9.0], "text__0": [5.0, 4.0, None, 1.0, 0.0, 1.0]})
    >>> model = CascadeFusionClassifier(costs={"image": 20.0}, cv=3).fit(X, ["cat", "cat", "cat", "dog", "dog", "dog"])
    >>> model.order_, model.predict_stage(X).tolist(), model.expected_cost_
    (['text', 'image'], [1, 1, 2, 1, 1, 1], 4.166666666666667)
    """

    def __init__(
        self,
        estimators=None,
        *,
        costs=None,
        order="auto",
        tolerance=0.005,
        encoders=None,
        combiner=None,
        cv=5,
        n_jobs=None,
        blocks=None,
    ):
        self.estimators = estimators
        self.costs = costs
        self.order = order
        self.tolerance = tolerance
        self.encoders = encoders
        self.combiner = combiner
        self.cv = cv
        self.n_jobs = n_jobs
        self.blocks = blocks

    # ------------------------------------------------------------------ fit

    def fit(self, X, y, sample_weight=None, groups=None):
        """Encode, fit all members in all folds, then a pool a stage and the threshold, then all members on all rows.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            Columns named ``block__feature``; or an array, with `blocks`. A missing block is NaN in all its columns. A
            block may hold raw cells if it has an encoder, or an estimator that takes them.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional
            Rows of one group are never on both sides of an inner split.

        Returns
        -------
        self
        """
        self._forget()
        blocks = self._read(X, reset=True, allow_partial=None)
        codes = read_labels(self, y, len(blocks))
        weight = self._read_weight(sample_weight, blocks)
        order, costs = self._check_parameters()
        blocks = self._encode_all(X, self._read_cells(X))
        splits = make_splits(self.cv, codes, groups, classify=True)
        ledger = Ledger(codes, splits, weight, self.classes_.tolist(), n_jobs=self.n_jobs, groups=groups)
        entries = dict(zip(blocks.names, ledger.add(self._members(blocks, weight)), strict=True))
        ledger.refit(list(entries.values()))
        self._keep_fitted(entries, order, costs)
        kept = [entries[name] for name in self.order_]
        P = np.stack([entry.predictions for entry in kept])
        fused = self._fit_pools(P, ledger)
        present = blocks.present[[blocks.names.index(name) for name in self.order_]]
        self._choose_threshold(fused, np.isfinite(P).all(axis=2), present, ledger)
        return self

    def _members(self, blocks: Blocks, weight: np.ndarray | None) -> list[Member]:
        members = []
        for (name, data), present in zip(blocks.data.items(), blocks.present, strict=True):
            estimator = self._given(name)
            if estimator is None:
                shape = (int(present.sum()), data.shape[1])
                estimator = default_search(shape[1], shape, len(self.classes_), weighted=weight is not None)
            members.append(Member(name, estimator, data, present))
        return members

    def _keep_fitted(self, entries: dict[str, Entry], order: list[str] | None, costs: dict[str, float]) -> None:
        fits = {name: entry.refit for name, entry in entries.items() if entry.refit and entry.refit.estimators}
        if not fits:
            raise self._refuse_nothing(len(next(iter(entries.values())).predictions))
        self._warn_left_out({name: int(e.member.present.sum()) for name, e in entries.items() if name not in fits})
        warn_unweighted(self, [name for name, fit in fits.items() if not fit.weighted])
        if order is None:
            order = sorted(fits, key=lambda name: (costs[name], entries[name].loss))
        self.order_ = [name for name in order if name in fits]
        self.costs_ = {name: costs[name] for name in self.order_}
        self.estimators_ = {name: fits[name].estimators[0] for name in self.order_}
        self.member_classes_ = {name: fits[name].classes for name in self.order_}
        self.member_temperatures_ = np.array([entries[name].temperature for name in self.order_])
        self._by_value = [entries[name].member.decides_by_value for name in self.order_]

    def _check_parameters(self) -> tuple[list[str] | None, dict[str, float]]:
        if not (is_number(self.tolerance) and 0 <= self.tolerance <= 1):
            raise ValueError(f"tolerance must be a share of the rows, from 0 to 1; got {self.tolerance!r}.")
        if not isinstance(self.combiner, (BasePool, type(None))):
            raise ValueError(f"combiner must be a pool such as LogPool(); got {self.combiner!r}.")
        if not isinstance(getattr(self.combiner, "weights", ""), str):
            raise ValueError(
                f"combiner is fitted again over the members of each stage and cannot have fixed weights; got "
                f"{self.combiner!r}."
            )
        if not isinstance(self.costs, (Mapping, type(None))):
            raise ValueError(f"costs must be a dict of block to number; got {self.costs!r}.")
        self._require_blocks(dict(self.costs or {}), "costs")
        self._check_encoders()
        self._require_estimators([name for name in self.raw_blocks_ if name not in (self.encoders or {})])
        for name in self.blocks_:
            if self._given(name) is not None:
                check_estimator_kind(self, name, self._given(name), classify=True)
        return self._given_order(), {name: self._cost(name) for name in self.blocks_}

    def _cost(self, name: str) -> float:
        cost = (self.costs or {}).get(name, 1.0)
        if not (is_number(cost) and 0 <= cost < np.inf):
            raise ValueError(f"costs[{name!r}] must be a number of at least 0; got {cost!r}.")
        return float(cost)

    def _fit_pools(self, P: np.ndarray, ledger: Ledger) -> np.ndarray:
        """A pool a stage; what the stages say out of fold, of shape (n_stages, n_samples, n_classes)."""
        fused = np.full(P.shape, np.nan)
        combiner = default_combiner(classify=True) if self.combiner is None else self.combiner
        self.combiners_ = []
        self.temperatures_ = np.ones(len(P))
        for s in range(len(P)):
            fused[s], _, pool = cross_fit(combiner, P[: s + 1], ledger)
            self.combiners_.append(pool)
            rows = np.isfinite(fused[s]).all(axis=1)
            weight = None if ledger.sample_weight is None else ledger.sample_weight[rows]
            if rows.any() and not pool.is_calibrated:
                scores = log_probabilities(fused[s, rows])
                self.temperatures_[s] = smooth_temperature(scores, ledger.y[rows], weight)
                fused[s, rows] = softmax(scores / self.temperatures_[s])
        return fused

    def _choose_threshold(self, fused: np.ndarray, mask: np.ndarray, present: np.ndarray, ledger: Ledger) -> None:
        """The threshold, and what the cascade costs and gets with it, on rows with out-of-fold predictions."""
        y, weight = ledger.y, ledger.sample_weight
        prior = self.combiner_.prior_
        fused[~np.logical_or.accumulate(present, axis=0)] = prior / prior.sum()
        rows = np.flatnonzero(np.isfinite(fused[-1]).all(axis=1))
        told, here = fused[:, rows], present[:, rows]
        weight = np.ones(len(rows)) if weight is None else weight[rows]
        known = np.isfinite(told).all(axis=2)
        correct = np.where(known, np.nan_to_num(told).argmax(axis=2) == y[rows], 0.0)
        # A row that lacks the block of a stage has nothing new to decide on there.
        sure = np.where((mask[:, rows] & known)[:-1], np.nan_to_num(told[:-1]).max(axis=2), -np.inf)
        counted = known * weight
        total = counted.sum(axis=1)
        self.stage_accuracy_ = np.where(
            total > 0, (correct * counted).sum(axis=1) / np.where(total > 0, total, 1), np.nan
        )
        self.threshold_ = smallest_threshold(sure, correct, weight, self.tolerance)
        stops = np.vstack([sure >= self.threshold_, np.ones(len(rows), dtype=bool)]).argmax(axis=0)
        self.stage_counts_ = np.bincount(stops, minlength=len(fused))
        reached = np.arange(len(fused))[:, None] <= stops
        spent = np.array(list(self.costs_.values())) @ (reached & here)
        self.expected_cost_ = float(np.average(spent, weights=weight))
        self.oof_proba_ = np.full(fused.shape[1:], np.nan, dtype=np.float32)
        self.oof_proba_[rows] = told[stops, np.arange(len(rows))]

    # ------------------------------------------------------------------ predict

    @property
    def combiner_(self):
        return self.combiners_[-1]

    def _run(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities, and the stage at which each row stops."""
        check_is_fitted(self, "threshold_")
        blocks = self._read_cells(X)
        n_stages, n = len(self.order_), len(blocks)
        P, mask = np.full((n_stages, n, len(self.classes_)), np.nan), np.zeros((n_stages, n), dtype=bool)
        proba, stage = np.empty(P.shape[1:]), np.zeros(n, dtype=int)
        going = np.ones(n, dtype=bool)
        for s, name in enumerate(self.order_):
            rows = np.flatnonzero(going & blocks.present[blocks.names.index(name)])
            if not len(rows):
                continue
            data, rows = self._encode_some(X, blocks, name, rows)
            if not len(rows):
                continue
            P[s, rows], mask[s, rows] = self._ask(s, name, data), True
            if s < n_stages - 1:
                fused = self._fuse(s, P[:, rows], mask[:, rows])
                sure = fused.max(axis=1) >= self.threshold_
                proba[rows[sure]], stage[rows[sure]], going[rows[sure]] = fused[sure], s + 1, False
        if going.any():
            proba[going] = self._fuse(n_stages - 1, P[:, going], mask[:, going])
            stage[going & mask.any(axis=0)] = n_stages
        return self.combiner_.shift(proba), stage

    def _ask(self, s: int, name: str, data: Any) -> np.ndarray:
        classes, n_classes = self.member_classes_[name], len(self.classes_)
        scores = member_scores(self.estimators_[name], classes, data, n_classes, self._by_value[s])
        return softmax(scores / self.member_temperatures_[s])

    def _fuse(self, s: int, P: np.ndarray, mask: np.ndarray) -> np.ndarray:
        fused = self.combiners_[s].pool(P[: s + 1], mask[: s + 1])
        some = mask[: s + 1].any(axis=0)
        if some.any() and self.temperatures_[s] != 1:
            fused[some] = apply_temperature(fused[some], self.temperatures_[s])
        return fused

    def predict_proba(self, X):
        """Class probabilities of the stage at which each row stops.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The class frequencies for a row with no block at all.
        """
        return self._run(X)[0]

    def predict(self, X):
        """Most probable class of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        codes = self._run(X)[0].argmax(axis=1)
        return self.classes_[codes]

    def predict_stage(self, X):
        """Stage at which each row stops.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), dtype int
            1 for the first block of `order_`; the number of stages where no stage was sure; 0 for a row with no block.
        """
        return self._run(X)[1]


def smallest_threshold(sure: np.ndarray, correct: np.ndarray, weight: np.ndarray, tolerance: float) -> float:
    """Smallest threshold that keeps the accuracy of the last stage, less the tolerance.

    Parameters
    ----------
    sure : ndarray of shape (n_stages - 1, n_samples)
        Largest probability of each stage but the last; -inf where the row has nothing to decide on.
    correct : ndarray of shape (n_stages, n_samples)
        1.0 where the stage is right.
    weight : ndarray of shape (n_samples,)
    tolerance : float

    Returns
    -------
    float
        Infinite if there is none.
    """
    if not len(sure):
        return np.inf
    # A row stops at stage s for thresholds in (largest of the stages before s, largest up to s]: going down from
    # infinity, its outcome changes from that of stage s + 1 to that of stage s where the threshold meets the latter.
    turn = np.maximum.accumulate(sure, axis=0).ravel()
    change = ((correct[:-1] - correct[1:]) * weight).ravel()
    falling = np.argsort(-turn, kind="stable")
    falling = falling[turn[falling] > -np.inf]
    if not len(falling):
        return np.inf
    turn, lost = turn[falling], np.cumsum(change[falling]) / weight.sum()
    ends = np.flatnonzero(np.append(turn[1:] != turn[:-1], True))  # all rows that turn at one value turn together
    kept = turn[ends][lost[ends] >= -tolerance - 1e-9]
    return float(kept.min()) if len(kept) else np.inf
