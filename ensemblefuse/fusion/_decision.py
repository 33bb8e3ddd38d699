"""Decision-level (late) fusion: one estimator per block, and a combiner of their out-of-fold predictions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse._fitting import check_components
from ensemblefuse._threads import one_blas_thread
from ensemblefuse.blocks import Blocks
from ensemblefuse.combine import (
    BasePool,
    apply_sigmoid,
    apply_temperature,
    fit_sigmoid,
)
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.features.word_features import count_terms
from ensemblefuse.fusion._block_preparation import SCALED
from ensemblefuse.fusion._cross_fitted_pools import cross_fit, default_combiner
from ensemblefuse.fusion._default_heads import HeadSearch, default_search, linear_search
from ensemblefuse.fusion._default_trees import (
    forest_member,
    forest_search,
    has_components,
    has_trees,
    joint_trees,
    narrow_blocks,
    tree_search,
    trees_member,
)
from ensemblefuse.fusion._default_words import words_member, words_search
from ensemblefuse.fusion._estimators import EstimatorsFusion
from ensemblefuse.fusion._member_table import member_lines, member_table, training_rows
from ensemblefuse.fusion._oof_ledger import Entry, Ledger, NothingToFitError, smooth_temperature
from ensemblefuse.fusion.base import (
    BaseFusion,
    read_labels,
    read_numbers,
    refuse_fitted,
    warn_unweighted,
)
from ensemblefuse.fusion.joint import JOINT, common_patterns, joint_estimator, rows_of_patterns
from ensemblefuse.fusion.members import Member, ask_member, take_rows
from ensemblefuse.fusion.patterns import expected_scores, list_patterns, possible_members
from ensemblefuse.fusion.splits import make_splits, mean_over_folds

__all__ = ["DecisionFusionClassifier", "DecisionFusionRegressor"]

_MISSING = ("present", "impute", "dropout", "reduced")
_EFFORTS = ("low", "medium", "high")


class _DecisionFusion(EstimatorsFusion):
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
            trees = tree_search(shape[1], ledger.n_classes, effort=self.effort)
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
            trees = joint_trees(spans, table, ledger.n_classes, effort=self.effort)
            # Components in double precision: in single precision they depend on the rows beside them.
            exact = blocks.side_by_side(numeric, exact=True)
            members += self._tree_members(trees, JOINT, exact, present, ledger)
        return members

    def _tree_members(
        self, trees: HeadSearch, block: str, data: np.ndarray, present: np.ndarray, ledger: Ledger
    ) -> list[Member]:
        """Return the member of boosted trees; for a classifier with high effort, also one of extra trees."""
        searches = {trees_member(block): trees}
        if self.effort == "high" and self._classify:
            searches[forest_member(block)] = forest_search(int(present.sum()), trees)
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


class DecisionFusionClassifier(ClassifierMixin, _DecisionFusion):
    """Decision-level (late) fusion: one classifier per block, and a combiner of their probabilities.

    The combiner, the temperatures and everything else in the second level are learned from out-of-fold predictions. All
    members share the same splits. A missing block is left out of its row, and the class frequencies take its place.

    Parameters
    ----------
    estimators : classifier, list of them, or dict of str to one of these, optional
        One for all blocks, or one per block. Each estimator in a list is a member of its own. ``"drop"`` leaves the
        block out. A block that is not named, or has ``None``, gets the default. The default is the candidate with the
        smallest out-of-fold loss: standardised logistic regressions with several penalties; an RBF kernel, as
        one-vs-rest SVMs if they cost little and otherwise as least squares on Nystroem features; and with few rows per
        class a discriminant analysis with shrinkage. A default block of at most 200 columns, not counting flags, that
        at least 100 rows hold has boosted trees (XGBoost) as one more member. A default block with a column
        ``block__words`` of texts beside its numbers has one more member over their words. ``[None]`` is the default
        without trees and words, for one block or for all. The key ``"joint"`` names the estimator over all blocks. It
        may be a feature-level fusion. By default, tables of narrow and wide blocks also have joint boosted trees: they
        see the columns of narrow blocks and 30 principal components of each wide one. Classifiers without
        ``predict_proba`` are accepted: their decision values get a temperature.
    combiner : pool, optional
        ``LogPool(per_pattern=True, smoothing=0.01)`` by default. Voting: `VotePool`, `MeanPool`; selection:
        `GreedyPool`; stacking: `StackingPool`; belief functions: `DempsterShaferPool`.
    joint : bool
        Whether a classifier over all blocks of numbers side by side is one more member (hybrid fusion).
    missing : {"present", "impute", "dropout", "reduced"}
        How the joint member treats missing blocks. ``"present"``: it takes part in rows that hold every block. It also
        takes part in rows that hold at least two blocks, if at least 10 rows in fit lacked the same blocks; the gap is
        filled with the mean. With the other values it takes part in all rows, as described in
        `FeatureFusionClassifier`. The members of single blocks take part if their block is present.
    cv : int, splitter or iterable of (train, test)
        Splits for the out-of-fold predictions. With a number, rows are shuffled, always in the same way, so a sorted
        table does no harm; folds are stratified and keep groups together. The number is limited by the size of the
        largest class and by the number of groups. Rows in the order of time need a splitter, such as scikit-learn's
        ``TimeSeriesSplit``. In an iterable, `train` and `test` are positions or masks of rows.
    calibration : {"temperature", "sigmoid", None}
        Calibration of the fused probabilities, fitted out of fold. A pool that is already calibrated, such as `LogPool`
        with learned weights, gets no temperature.
    refit : bool
        Whether each member is fitted once more, on all rows. If False, the models of the folds are kept, and the mean
        of their log-probabilities is used. This saves a fit, but prediction takes `cv` times the work.
    class_weight : "balanced" or dict of label to weight, optional
        For another cost of errors. It does not find rare classes better: at 1 row in 100, ``"balanced"`` lowered the
        average precision on three sets of three; lower the threshold of a probability instead. Multiplied with
        `sample_weight`. A class that is not named has the weight 1. A name that `y` lacks, as a fold of a
        cross-validation may, counts for nothing.
    effort : {"low", "medium", "high"}
        What is tried where no estimator is named; named estimators stay as they are. ``"medium"`` is described at
        `estimators`. ``"low"`` is for a first look in a fraction of the time: each block, and all of them together, has
        one linear model of one penalty, words have one penalty, and there are no kernels and no trees. ``"high"`` also
        fits four trees in each round of boosting, and adds members of extra trees, ``"<block>/forest"``; it takes two
        to four times as long. With all three, the combiner is learned from out-of-fold predictions. A limit of time is
        left out on purpose: on another machine it would give another model.
    n_jobs : int, optional
        Number of parallel jobs for the fits of members and folds, as in joblib. Workers are only started for enough
        work.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names before ``"__"``.
    verbose : int
        1 prints `members_` after `fit`, below a line that says what `effort` tries. 0 prints nothing.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    blocks_ : dict of str to ndarray of int
        Positions of each block's columns.
    member_names_ : list of str
        Blocks in order, then ``"joint"``. The names are ``"<block>/<head>"`` if a block has several heads, and
        ``"<block>/trees"`` for the boosted trees of a block, and ``"<block>/words"`` for the member over the words of a
        block of texts. Extra trees, with ``effort="high"``, are ``"<block>/forest"``.
    word_members_ : list of str
        Members over words.
    joint_patterns_ : ndarray of shape (n_patterns, n_numeric_blocks), dtype bool
        Combinations of present blocks with which the joint member takes part. Only with a joint member.
    member_blocks_ : list of str
        Block of each member.
    members_ : DataFrame
        One row per member: ``head``, the estimator that was kept; ``n_tried``, how many were tried; ``n_rows`` with an
        out-of-fold prediction; ``seconds`` of all its fits, by the clock; ``log_loss`` and ``accuracy`` of the member
        alone, out of fold; and ``gain``, by how much the log-loss of the fused out-of-fold predictions grows if the
        combiner is learned without the member. Members that say the same have small gains each. Computed anew each
        time it is read, from the ledger.
    estimators_ : dict of str to classifier, or to list of classifiers without `refit`
        Fitted on all rows that hold the block, on coded labels.
    combiner_ : pool
    temperature_ : float
        Temperature of the fused probabilities; 1.0 without this calibration.
    member_temperatures_ : ndarray of shape (n_members,)
        1.0 for members with probabilities.
    patterns_ : ndarray of shape (n_patterns, n_blocks), dtype bool
        Combinations of present blocks. With up to five blocks, these are all combinations. With more, they are the
        combinations seen in fit, each block alone, and all blocks.
    expected_scores_ : DataFrame
        Number of rows, log-loss and accuracy of each of `patterns_`, out of fold.
    oof_predictions_ : ndarray of shape (n_members, n_samples, n_classes), dtype float32
        The ledger: out-of-fold predictions. NaN where a member has none.
    oof_proba_ : ndarray of shape (n_samples, n_classes), dtype float32
        Fused out-of-fold probabilities. Combiner and calibration are fitted without the fold. They are for the class
        frequencies in fit, also if the combiner has a `class_prior`. NaN in rows in no test fold.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    Wolpert, Neural Networks 1992 (out-of-fold predictions); Rahaman and Thiery, NeurIPS 2021 (pool, then calibrate).

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import DecisionFusionClassifier
    >>> X = pd.DataFrame({"image__0": [0.1, 0.2, 0.3, 0.8, 0.9, 1.0], "text__0": [5.0, 4.0, None, 1.0, 0.0, 1.0]})
    >>> model = DecisionFusionClassifier(cv=3).fit(X, ["cat", "cat", "cat", "dog", "dog", "dog"])
    >>> model.predict(X)
    array(['cat', 'cat', 'cat', 'dog', 'dog', 'dog'], dtype='<U3')
    >>> model.member_names_
    ['image', 'text', 'joint']
    >>> DecisionFusionClassifier(cv=3, effort="low").fit(X, model.predict(X)).members_["head"].to_dict()
    {'image': 'LogisticRegression(C=1)', 'text': 'LogisticRegression(C=1)', 'joint': 'LogisticRegression(C=1)'}
    """

    _classify = True

    def __init__(
        self,
        estimators=None,
        *,
        combiner=None,
        joint=True,
        missing="present",
        cv=5,
        calibration="temperature",
        refit=True,
        class_weight=None,
        effort="medium",
        n_jobs=None,
        blocks=None,
        verbose=0,
    ):
        self.estimators = estimators
        self.combiner = combiner
        self.joint = joint
        self.missing = missing
        self.cv = cv
        self.calibration = calibration
        self.refit = refit
        self.class_weight = class_weight
        self.effort = effort
        self.n_jobs = n_jobs
        self.blocks = blocks
        self.verbose = verbose

    @plain_inside
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit all members in all folds, then the combiner, then all members on all rows.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            Columns named ``block__feature``; or an array, with `blocks`. A missing block is NaN in all its columns. A
            block may hold raw cells (texts, paths) if its estimator accepts them.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional
            Rows of one group are never on both sides of an inner split.

        Returns
        -------
        self
        """
        self._fit(X, y, sample_weight, groups)
        return self

    def _check_settings(self):
        super()._check_settings()
        if self.calibration not in ("temperature", "sigmoid", None):
            raise ValueError(f'calibration must be "temperature", "sigmoid" or None; got {self.calibration!r}.')

    def _read_target(self, y, n_samples):
        return read_labels(self, y, n_samples)

    def _row_weights(self, sample_weight, blocks, y):
        return self._weigh_classes(self._read_weight(sample_weight, blocks), y)

    def _learn_certainty(self, fused, ledger):
        rows = np.flatnonzero(np.isfinite(fused).all(axis=1))
        self._calibration = self._fit_calibration(fused, rows, ledger)
        self.temperature_ = float(self._calibration[0]) if self._calibration.ndim == 1 else 1.0
        filled = []
        for train, test in ledger.splits:
            test = np.intersect1d(test, rows)
            filled.append((test, self._calibrate(fused[test], self._certainty_without(fused, train, test, ledger))))
        self.oof_proba_ = mean_over_folds(filled, len(ledger.y), ledger.n_classes).astype(np.float32)

    def _certainty_without(self, fused, train, test, ledger):
        """Fit the calibration without the rows of a test fold."""
        rows = np.flatnonzero(np.isfinite(fused).all(axis=1))
        return self._fit_calibration(fused, np.setdiff1d(np.intersect1d(train, rows), test), ledger)

    def _fit_calibration(self, fused, rows, ledger):
        """Fit a temperature (an array of shape (1,)) or sigmoids (coefficients of shape (n_classes, 2))."""
        y, weight = ledger.y[rows], None if ledger.sample_weight is None else ledger.sample_weight[rows]
        idle = not len(rows) or (weight is not None and not weight.sum() > 0)
        if self.calibration == "sigmoid" and not idle:
            return fit_sigmoid(fused[rows], y, weight)
        if self.calibration == "temperature" and not idle and not self.combiner_.is_calibrated:
            return np.array([smooth_temperature(np.log(np.maximum(fused[rows], 1e-12)), y, weight)])
        return np.ones(1)

    def _calibrate(self, fused, calibration=None):
        calibration = self._calibration if calibration is None else calibration
        if calibration.ndim == 2:
            return apply_sigmoid(fused, calibration)
        return fused if calibration[0] == 1 else apply_temperature(fused, float(calibration[0]))

    @answers_rows
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the fused class probabilities.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            A row without any block gets the class frequencies.
        """
        return self._fuse(*self._outputs(X))

    def _fuse(self, P, mask):
        """Combine the members' predictions for new rows."""
        fused = self.combiner_.pool(P, mask)
        some = mask.any(axis=0)
        if some.any():
            fused[some] = self._calibrate(fused[some])
        return self.combiner_.shift(fused)

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
        codes = self.predict_proba(X).argmax(axis=1)
        return self.classes_[codes]


class DecisionFusionRegressor(RegressorMixin, _DecisionFusion):
    """Decision-level (late) fusion: one regressor per block, and a combiner of their predictions.

    Parameters
    ----------
    estimators : regressor, list of them, or dict of str to one of these, optional
        As in `DecisionFusionClassifier`. The default is standardised ridge regression, with its penalty chosen by
        leave-one-out error, or a regression with an RBF kernel if its out-of-fold error is smaller: support vector
        regression if it costs little, otherwise ridge regression on Nystroem features. If `y` is positive and skewed,
        each candidate is also tried on the log of `y` (see `LogTargetRegressor`); ``estimators_`` shows which was kept.
        Boosted trees are members as in the classifier.
    combiner : pool, optional
        ``LogPool(per_pattern=True)`` by default: non-negative weights for each combination of members. Otherwise
        `MeanPool`, `GreedyPool` or `StackingPool`.
    joint, missing, cv, refit, n_jobs, blocks, verbose
        As in `DecisionFusionClassifier`.
    effort : {"low", "medium", "high"}
        As in `DecisionFusionClassifier`, but ``"high"`` has no extra trees: a second candidate of boosting learns more
        slowly, from more rounds of small trees. ``"low"`` also tries the log of a positive and skewed `y`.

    Attributes
    ----------
    blocks_, member_names_, member_blocks_, estimators_, combiner_, patterns_, n_features_in_, feature_names_in_
        As in `DecisionFusionClassifier`.
    members_ : DataFrame
        As in `DecisionFusionClassifier`, with ``rmse`` and ``r2``. ``gain`` is in R2.
    expected_scores_ : DataFrame
        Number of rows, root mean squared error and R2 of each of `patterns_`, out of fold.
    oof_predictions_ : ndarray of shape (n_members, n_samples)
        The ledger: out-of-fold predictions. NaN where a member has none.
    oof_fused_ : ndarray of shape (n_samples,)
        Fused out-of-fold predictions. The combiner is fitted without the fold.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import DecisionFusionRegressor
    >>> X = pd.DataFrame({"image__0": [0.0, 1.0, 2.0, 3.0, 4.0], "text__0": [1.0, 3.0, 5.0, 7.0, 9.0]})
    >>> DecisionFusionRegressor().fit(X, [0.0, 2.0, 4.0, 6.0, 8.0]).predict(X).round(1)
    array([0., 2., 4., 6., 8.])
    """

    _classify = False

    def __init__(
        self,
        estimators=None,
        *,
        combiner=None,
        joint=True,
        missing="present",
        cv=5,
        refit=True,
        effort="medium",
        n_jobs=None,
        blocks=None,
        verbose=0,
    ):
        self.estimators = estimators
        self.combiner = combiner
        self.joint = joint
        self.missing = missing
        self.cv = cv
        self.refit = refit
        self.effort = effort
        self.n_jobs = n_jobs
        self.blocks = blocks
        self.verbose = verbose

    @plain_inside
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit all members in all folds, then the combiner, then all members on all rows.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
            As in `DecisionFusionClassifier.fit`.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional

        Returns
        -------
        self
        """
        self._fit(X, y, sample_weight, groups)
        return self

    def _read_target(self, y, n_samples):
        return read_numbers(self, y, n_samples)

    def _row_weights(self, sample_weight, blocks, y):
        return self._read_weight(sample_weight, blocks)

    def _learn_certainty(self, fused, ledger):
        self.oof_fused_ = fused

    def _certainty_without(self, fused, train, test, ledger):
        return None  # in regression there is no calibration

    @answers_rows
    def predict(self, X: Any) -> np.ndarray:
        """Predict the fused value of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            A row without any block gets the mean of `y`.
        """
        return self._fuse(*self._outputs(X))

    def _fuse(self, P, mask):
        """Combine the members' predictions for new rows."""
        return self.combiner_.combine(P, mask)
