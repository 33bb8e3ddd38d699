"""Cascade: use cheap blocks first, and the next ones only for rows that are still uncertain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse._fitting import check_components
from ensemblefuse.blocks import Blocks
from ensemblefuse.combine import BasePool, apply_temperature, smooth_temperature
from ensemblefuse.combine.probabilities import log_probabilities, softmax
from ensemblefuse.fusion._cross_fitted_pools import cross_fit, default_combiner
from ensemblefuse.fusion._default_heads import default_search
from ensemblefuse.fusion._encoding import EncodingFusion
from ensemblefuse.fusion._oof_ledger import Entry, Ledger, member_scores
from ensemblefuse.fusion._per_block_base import is_number
from ensemblefuse.fusion.base import check_estimator_kind, warn_unweighted
from ensemblefuse.fusion.members import Member
from ensemblefuse.fusion.splits import make_splits
from ensemblefuse.fusion.targets import read_labels

__all__ = ["CascadeFusionClassifier"]


class CascadeFusionClassifier(ClassifierMixin, EncodingFusion):
    r"""Early exit by cost: blocks are used one after another, until the prediction is certain enough.

    The members are those of decision-level fusion. Stage s pools the first s members. A row stops at the first stage
    whose largest probability is at least `threshold_`. With `encoders`, the block of a later stage is encoded only for
    the rows that reach this stage. This is how a cascade saves time.

    .. math:: \tau = \min \{ t : a(t) \ge a(\infty) - \delta \}

    Here :math:`a(t)` is the out-of-fold accuracy with threshold t, :math:`a(\infty)` the accuracy with all blocks, and
    :math:`\delta` the tolerance. If no threshold is sufficient, :math:`\tau` is infinite and no row stops early. The
    expected cost of a row is the sum of the costs of the blocks used, averaged over the rows.

    Parameters
    ----------
    estimators : classifier or dict of str to classifier, optional
        One for all blocks, or one per block. The default is that of `DecisionFusionClassifier`. There is no joint
        member.
    costs : dict of str to float, optional
        Cost of using each block, in any unit; 1 for blocks that are not named.
    order : "auto" or list of str
        Blocks in the order of their stages. ``"auto"`` puts cheap blocks first. Among blocks of equal cost, the one
        with the smaller out-of-fold log-loss is first.
    tolerance : float
        Accuracy that may be lost, as a share of the rows.
    encoders : dict of str to transformer, optional
        Frozen transformers for blocks of raw cells, which treat each row independently. They are fitted on all rows
        that hold the block, without labels. A block of one column is passed as a Series if the tags of the transformer
        say that it takes no table (encoders, `TfidfVectorizer`), otherwise as a DataFrame. The prefix ``block__`` is
        removed from the column names.
    combiner : pool, optional
        Fitted anew for each stage; by default ``LogPool(per_pattern=True, smoothing=0.01)``.
    cv, n_jobs, blocks
        As in `DecisionFusionClassifier`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    blocks_ : dict of str to ndarray of int
        Positions of each block's columns.
    order_ : list of str
        Blocks in the order of their stages. A block that could not be fitted is left out, with a warning.
    costs_ : dict of str to float
        Costs in this order.
    encoders_ : dict of str to transformer
    estimators_ : dict of str to classifier
        Fitted on all rows that hold the block, on coded labels.
    member_classes_ : dict of str to ndarray of int
        Codes of the classes in the training rows of each estimator.
    member_temperatures_ : ndarray of shape (n_stages,)
        Temperatures of the members; 1.0 for members with probabilities.
    temperatures_ : ndarray of shape (n_stages,)
        Temperatures of the fused probabilities of each stage; 1.0 if the pool is already calibrated.
    combiners_ : list of pool
        One per stage, over the members up to this stage.
    combiner_ : pool
        The last of them. Its `shift` is applied to the predictions of all stages, but not to out-of-fold predictions.
    threshold_ : float
        The same in all stages; infinite if no row stops early.
    expected_cost_ : float
        Weighted mean of the cost of a row, out of fold.
    stage_accuracy_ : ndarray of shape (n_stages,)
        Out-of-fold accuracy if all rows stopped at this stage. A row without any block up to the stage gets the class
        frequencies. A row that holds some of them, but has no out-of-fold probability, is left out. NaN if all are.
    stage_counts_ : ndarray of shape (n_stages,)
        Number of rows in fit that stop at each stage, out of fold.
    oof_proba_ : ndarray of shape (n_samples, n_classes), dtype float32
        Out-of-fold probabilities of the stage at which the row stops. The pools are fitted without the fold. NaN in
        rows that hold a block and are in no test fold.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    A row without the block of a stage skips this stage, at no cost. A row without any block gets the class frequencies.

    `make_fusion_pipeline` passes raw cells and encoders to a fusion whose class has ``_encodes = True``, as here. The
    parameters of the encoders then have the names ``fuse__encoders__<modality>__<parameter>``. In a fitted model, the
    parameters that an encoder lists in `neutral_params` (``device``, ``batch_size``, ``on_error``) take effect at once.

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

    _classify = True

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

    @plain_inside
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Encode the blocks, and fit members, pools and threshold.

        The members are fitted in all folds. Their out-of-fold predictions serve to fit one pool per stage and to choose
        the threshold. The members that predict new rows are fitted on all rows.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            Columns named ``block__feature``; or an array, with `blocks`. A missing block is NaN in all its columns. A
            block may hold raw cells if it has an encoder, or an estimator for raw cells.
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
        groups = self._read_groups(groups, len(blocks))
        order, costs = self._check_parameters()
        splits = make_splits(self.cv, codes, groups, classify=True)
        blocks = self._encode_all(X, self._read_cells(X))
        ledger = Ledger(codes, splits, weight, self.classes_.tolist(), n_jobs=self.n_jobs, groups=groups)
        entries = dict(zip(blocks.names, ledger.add(self._members(blocks, weight, groups)), strict=True))
        ledger.refit(list(entries.values()))
        self._keep_fitted(entries, order, costs)
        kept = [entries[name] for name in self.order_]
        P = np.stack([entry.predictions for entry in kept])
        fused = self._fit_pools(P, ledger)
        present = blocks.present[[blocks.names.index(name) for name in self.order_]]
        self._choose_threshold(fused, np.isfinite(P).all(axis=2), present, ledger)
        return self

    def _members(self, blocks: Blocks, weight: np.ndarray | None, groups: np.ndarray | None) -> list[Member]:
        members = []
        for (name, data), present in zip(blocks.data.items(), blocks.present, strict=True):
            estimator = self._given(name)
            shape = (int(present.sum()), data.shape[1] if data.ndim == 2 else 1)
            if data.ndim == 2:  # a block of raw cells may be a Series
                check_components(f"the block {name!r}", estimator, *shape)
            if estimator is None:
                estimator = default_search(shape[1], shape, len(self.classes_), weighted=weight is not None)
            members.append(Member(name, estimator, data, present, groups))
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

    def _check_settings(self) -> None:
        if not (is_number(self.tolerance) and 0 <= self.tolerance <= 1):
            raise ValueError(f"tolerance must be a share of the rows, from 0 to 1; got {self.tolerance!r}.")
        if not isinstance(self.combiner, (BasePool, type(None))):
            raise ValueError(f"combiner must be a pool such as LogPool(); got {self.combiner!r}.")
        if self.combiner is not None:
            self.combiner._check_hooks()
        if not isinstance(getattr(self.combiner, "weights", ""), str):
            raise ValueError(
                f"combiner is fitted anew for the members of each stage, so it cannot have fixed weights; got "
                f"{self.combiner!r}."
            )
        if not isinstance(self.costs, (Mapping, type(None))):
            raise ValueError(f"costs must be a dict of block to number; got {self.costs!r}.")

    def _check_names_of_blocks(self) -> None:
        self._check_parameters()

    def _check_parameters(self) -> tuple[list[str] | None, dict[str, float]]:
        self._check_settings()
        self._require_blocks(dict(self.costs or {}), "costs")
        self._check_encoders()
        self._require_estimators([name for name in self.raw_blocks_ if name not in (self.encoders or {})])
        for name in self.blocks_:
            if self._given(name) is not None:
                check_estimator_kind(self, name, self._given(name), classify=True)
                self._check_taught(name, self._given(name))
        return self._given_order(), {name: self._cost(name) for name in self.blocks_}

    def _cost(self, name: str) -> float:
        cost = (self.costs or {}).get(name, 1.0)
        if not (is_number(cost) and 0 <= cost < np.inf):
            raise ValueError(f"costs[{name!r}] must be a number of at least 0; got {cost!r}.")
        return float(cost)

    def _fit_pools(self, P: np.ndarray, ledger: Ledger) -> np.ndarray:
        """Fit one pool per stage. Return out-of-fold probabilities of shape (n_stages, n_samples, n_classes)."""
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
        """Choose the threshold, and measure cost and accuracy with it on rows with out-of-fold predictions."""
        y, weight = ledger.y, ledger.sample_weight
        prior = self.combiner_.prior_
        fused[~np.logical_or.accumulate(present, axis=0)] = prior / prior.sum()
        rows = np.flatnonzero(np.isfinite(fused[-1]).all(axis=1))
        proba, here = fused[:, rows], present[:, rows]
        weight = np.ones(len(rows)) if weight is None else weight[rows]
        known = np.isfinite(proba).all(axis=2)
        correct = np.where(known, np.nan_to_num(proba).argmax(axis=2) == y[rows], 0.0)
        # A row without the block of a stage gets no new information there, so it does not stop there.
        sure = np.where((mask[:, rows] & known)[:-1], np.nan_to_num(proba[:-1]).max(axis=2), -np.inf)
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
        self.oof_proba_[rows] = proba[stops, np.arange(len(rows))]

    # ------------------------------------------------------------------ predict

    @property
    def combiner_(self) -> BasePool:
        return self.combiners_[-1]

    def _run(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities, and the stage at which each row stops."""
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

    @answers_rows
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the class probabilities, at the stage where each row stops.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            A row without any block gets the class frequencies.
        """
        return self._run(X)[0]

    @answers_rows
    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        codes = self._run(X)[0].argmax(axis=1)
        return self.classes_[codes]

    @answers_rows
    def predict_stage(self, X: Any) -> np.ndarray:
        """Return the stage at which each row stops.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,), dtype int
            1 for the first block of `order_`. The number of stages if no earlier stage was certain enough. 0 for a row
            without any block.
        """
        return self._run(X)[1]


def smallest_threshold(sure: np.ndarray, correct: np.ndarray, weight: np.ndarray, tolerance: float) -> float:
    """Find the smallest threshold that keeps the accuracy of the last stage, minus the tolerance.

    Parameters
    ----------
    sure : ndarray of shape (n_stages - 1, n_samples)
        Largest probability of each stage except the last; -inf where the row cannot stop.
    correct : ndarray of shape (n_stages, n_samples)
        1.0 where the stage is right.
    weight : ndarray of shape (n_samples,)
    tolerance : float

    Returns
    -------
    float
        Infinite if there is no such threshold.
    """
    if not len(sure):
        return np.inf
    # Let m(s) be the maximum of `sure` over the stages up to s. A row stops at stage s for thresholds in
    # (m(s - 1), m(s)]. So when the threshold falls to m(s), the result of the row changes from that of stage s + 1 to
    # that of stage s. One sort of all these values gives the accuracy at every threshold.
    turn = np.maximum.accumulate(sure, axis=0).ravel()
    change = ((correct[:-1] - correct[1:]) * weight).ravel()
    falling = np.argsort(-turn, kind="stable")
    falling = falling[turn[falling] > -np.inf]
    if not len(falling):
        return np.inf
    turn, lost = turn[falling], np.cumsum(change[falling]) / weight.sum()
    ends = np.flatnonzero(np.append(turn[1:] != turn[:-1], True))  # rows with the same value change together
    kept = turn[ends][lost[ends] >= -tolerance - 1e-9]
    return float(kept.min()) if len(kept) else np.inf
