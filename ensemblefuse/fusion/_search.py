"""The choice of a strategy: candidates scored on one ledger, by cross-validation of the second level."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from time import time
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn import metrics
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.utils import ClassifierTags, RegressorTags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse.blocks import Blocks
from ensemblefuse.combine import GreedyPool, LogPool, MeanPool, StackingPool
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.fusion._decision import DecisionFusionClassifier, DecisionFusionRegressor
from ensemblefuse.fusion._default_trees import has_components, has_trees, narrow_blocks, trees_strategy
from ensemblefuse.fusion._feature import FeatureFusionClassifier, FeatureFusionRegressor
from ensemblefuse.fusion._kernel import KernelFusionClassifier, KernelFusionRegressor
from ensemblefuse.fusion._oof_ledger import Ledger, NothingToFitError, OutOfTimeError
from ensemblefuse.fusion._search_runs import (
    DECISION,
    Run,
    SearchTable,
    effort_of,
    estimator_of,
    make_scorer,
    shares_ledger,
    summarise,
)
from ensemblefuse.fusion.base import BaseFusion, predicts_several
from ensemblefuse.fusion.splits import make_splits
from ensemblefuse.scoring.metrics import check_scoring

__all__ = ["FusionSearchCV"]

ALONE = " alone"
# Kernel machines are default candidates up to this number of rows squared times classes (regression counts as two):
# 2 100 rows of 11 classes, 5 000 rows of two. A machine then takes some seconds a fold.
_KERNEL_WORK = 5e7


class FusionSearchCV(BaseFusion):
    """Fit many fusion strategies at the cost of their distinct members, and keep the one with the best score.

    All candidates share one ledger. So if several candidates use the same estimator on the same block, it is fitted
    only once in each fold. The second level (combiner, calibration) is scored by cross-validation over the same folds,
    fitted without the fold to score. Kernel fusion is fitted anew, in the folds of the ledger. A candidate that cannot
    share the ledger is cross-validated as a whole. Every block alone is also a candidate.

    Parameters
    ----------
    candidates : dict of str to estimator, optional
        From simple to complex. Their own `cv` is only used if they cannot share the ledger. By default: decision level
        with five combiners, without and with the joint member, feature level, kernel fusion (sum and product) if rows
        squared times classes are at most 5e7 (in regression, if there are at most 5 000 rows), and boosted trees if a
        block is narrow. Strategies of single blocks take over the `effort` of the first decision-level candidate.
    kind : {"classifier", "regressor"}
        Kind of the candidates.
    scoring : str or callable, optional
        As in scikit-learn: greater is better. By default ``"neg_log_loss"``, or ``"neg_root_mean_squared_error"`` in
        regression.
    cv : int, splitter or iterable of (train, test)
        Splits of the ledger, as in `DecisionFusionClassifier`.
    rule : {"best", "1se"}
        ``"best"``: the candidate with the best mean score. ``"1se"``: the first candidate within one standard error of
        the best score.
    time_limit : float, optional
        Seconds after which no new fit of a fold is started. The best of the finished candidates is kept. The first
        candidate is always finished. The fit of the chosen one on all rows is not included.
    refit : {"best", "all"}
        Whether the chosen candidate or every candidate is fitted on all rows.
    n_jobs : int, optional
        Number of parallel jobs for the fits of members and folds, as in joblib.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names before ``"__"``.

    Attributes
    ----------
    results_ : DataFrame
        One row per strategy, the best first: ``mean_score``, ``standard_error`` over the folds, ``rank``, ``seconds``
        of the fits in the folds (including those shared with other strategies), and ``n_members``.
    best_strategy_ : str
    best_estimator_ : estimator
        The chosen candidate, fitted on all rows.
    estimators_ : dict of str to estimator
        All candidates fitted on all rows. With ``refit="best"``, only the chosen one.
    fold_scores_ : dict of str to ndarray of shape (n_splits,)
    unfinished_ : list of str
        Candidates left out because of `time_limit`.
    classes_ : ndarray of shape (n_classes,)
        Classification only.

    Notes
    -----
    The score of the chosen candidate is the best of several scores, so it is optimistic. For a fair score,
    cross-validate the search itself, or see `compare_fusions`.

    References
    ----------
    Cawley and Talbot, JMLR 2010 (bias of selection); Breiman et al., Classification and Regression Trees 1984 (the
    one-standard-error rule).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from ensemblefuse import FusionSearchCV
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(200) % 2
    >>> X = pd.DataFrame({"image__0": y + rng.normal(size=200), "text__0": y + rng.normal(size=200)})
    >>> search = FusionSearchCV(cv=3).fit(X, y)
    >>> bool(search.results_.loc["hybrid", "mean_score"] > search.results_.loc["image alone", "mean_score"])
    True
    """

    def __init__(
        self,
        candidates=None,
        *,
        kind="classifier",
        scoring=None,
        cv=5,
        rule="best",
        time_limit=None,
        refit="best",
        n_jobs=None,
        blocks=None,
    ):
        self.candidates = candidates
        self.kind = kind
        self.scoring = scoring
        self.cv = cv
        self.rule = rule
        self.time_limit = time_limit
        self.refit = refit
        self.n_jobs = n_jobs
        self.blocks = blocks

    @property
    def _classify(self) -> bool:  # type: ignore[override]
        return self.kind == "classifier"

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = self.kind
        tags.classifier_tags = ClassifierTags() if self._classify else None
        tags.regressor_tags = None if self._classify else RegressorTags()
        tags.target_tags.required = True
        return tags

    # ------------------------------------------------------------------ fit

    @plain_inside
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Score all candidates and fit the chosen one on all rows.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            Columns named ``block__feature``; or an array, with `blocks`. A missing block is NaN in all its columns.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional
            Rows of one group are never on both sides of a split.

        Returns
        -------
        self
        """
        start = time()
        self._forget()
        self._check_settings()
        blocks = self._read(X, reset=True)
        codes = self._read_target(y, len(blocks))
        weight = self._read_weight(sample_weight, blocks)
        groups = self._read_groups(groups, len(blocks))
        splits = make_splits(self.cv, codes, groups, classify=self._classify)
        if np.unique(np.concatenate([test for _, test in splits]), return_counts=True)[1].max() > 1:
            raise ValueError(
                f"cv={self.cv!r} tests rows more than once, but FusionSearchCV keeps one prediction per row. For "
                "repeated cross-validation, see compare_fusions."
            )
        labels = self.classes_.tolist() if self._classify else []
        candidates = self._strategies(len(blocks))
        fold_models = any(isinstance(c, DECISION) and not c.refit for c in candidates.values())
        ledger = Ledger(
            codes,
            splits,
            weight,
            labels,
            groups=groups,
            n_jobs=self.n_jobs,
            keep_folds=fold_models,
            row_weight=weight,
        )
        if self.candidates is None and not self.raw_blocks_:
            candidates |= self._trees(blocks, ledger)
        table = SearchTable(X, blocks)
        runs = self._score_all(candidates, table, ledger, start)
        self._choose(runs)
        wanted = list(runs) if self.refit == "all" else [self.best_strategy_]
        self.estimators_ = {name: runs[name].fit(table, ledger, y, sample_weight) for name in wanted}
        self.best_estimator_ = self.estimators_[self.best_strategy_]
        return self

    def _read_target(self, y: Any, n_samples: int) -> np.ndarray:
        try:
            return super()._read_target(y, n_samples)
        except ValueError as error:
            if not (self._classify and "continuous" in str(error)):
                raise
            message = "Unknown label type: continuous. For numbers, use FusionSearchCV(kind='regressor')."
            raise ValueError(message) from error

    def _check_settings(self) -> None:
        for name, allowed in (
            ("kind", ("classifier", "regressor")),
            ("rule", ("best", "1se")),
            ("refit", ("best", "all")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}; got {getattr(self, name)!r}.")
        if self.time_limit is not None and not self.time_limit > 0:
            raise ValueError(f"time_limit must be a number of seconds above 0; got {self.time_limit!r}.")
        check_scoring(self.scoring)
        if self.candidates is None:
            return
        if not isinstance(self.candidates, Mapping) or not self.candidates:
            raise ValueError(f"candidates must be a dict of name to fusion estimator; got {self.candidates!r}.")
        other = is_regressor if self._classify else is_classifier
        wrong = [
            name
            for name, c in self.candidates.items()
            if not hasattr(c, "fit") or isinstance(c, type) or other(c) or predicts_several(c)
        ]
        if wrong:
            raise ValueError(
                f"FusionSearchCV(kind={self.kind!r}) needs a {self.kind} as each candidate; these are not: {wrong}."
            )

    def _wants_words(self, name: str) -> bool:
        given = default_candidates(2 * self._classify, 0) if self.candidates is None else self.candidates
        candidates = given.values()
        return all(isinstance(c, BaseFusion) for c in candidates) and any(c._wants_words(name) for c in candidates)

    def _strategies(self, n_rows: int) -> dict[str, Any]:
        """Return a strategy for each block alone, followed by the candidates."""
        n_classes = len(self.classes_) if self._classify else 0
        given = default_candidates(n_classes, n_rows) if self.candidates is None else dict(self.candidates)
        decision = DecisionFusionClassifier if self._classify else DecisionFusionRegressor
        alone, effort = {}, effort_of(given.values())
        for block in self.blocks_:
            others = {name: "drop" for name in self.blocks_ if name != block}
            estimator = estimator_of(block, given.values())
            if estimator is not None or block not in self.raw_blocks_:
                alone[f"{block}{ALONE}"] = decision({**others, block: estimator}, joint=False, effort=effort)
        taken = sorted(set(alone) & set(given))
        if taken:
            raise ValueError(f"candidates uses {taken}, the names of strategies of single blocks; rename them.")
        return {**alone, **given}

    def _trees(self, blocks: Blocks, ledger: Ledger) -> dict[str, Any]:
        """Return the candidate of boosted trees over all blocks, if they pay there."""
        spans = blocks.spans(blocks.names)
        narrow = narrow_blocks(blocks, blocks.names)
        wide = [name for name in spans if name not in narrow]
        some = np.asarray(blocks.present.any(axis=0))
        known = not wide or has_components(wide, blocks, some, ledger.splits, ledger.sample_weight)
        table = blocks.side_by_side(blocks.names)
        if not (narrow and known and has_trees(table, some, ledger.y, ledger.n_classes)):
            return {}
        feature = FeatureFusionClassifier if self._classify else FeatureFusionRegressor
        return {"trees": feature(**trees_strategy(spans, narrow, ledger.n_classes, ledger.sample_weight))}

    def _score_all(
        self, candidates: dict[str, Any], table: SearchTable, ledger: Ledger, start: float
    ) -> dict[str, Run]:
        scorer = make_scorer(self.scoring, self._classify)
        runs: dict[str, Run] = {}
        hopeless: list[str] = []
        for name, candidate in candidates.items():
            run = Run(self._adopt(candidate), shares_ledger(candidate))
            try:
                run.score(table, ledger, scorer)
            except OutOfTimeError:
                break
            except NothingToFitError:
                if not name.endswith(ALONE):
                    raise
                hopeless.append(name)
                continue
            except Exception as error:
                error.add_note(f"while scoring candidate {name!r}")
                raise
            runs[name] = run
            if self.time_limit is not None:
                ledger.deadline = start + self.time_limit
        self.unfinished_ = [name for name in candidates if name not in runs and name not in hopeless]
        if hopeless:
            warnings.warn(
                f"FusionSearchCV leaves out {hopeless}: in every fold, the block is missing or its rows are of one "
                "class.",
                MissingModalityWarning,
                stacklevel=4,
            )
        if self.unfinished_:
            warnings.warn(
                f"FusionSearchCV: time_limit={self.time_limit} left out {len(self.unfinished_)} of {len(candidates)} "
                f"candidates: {self.unfinished_[:5]}.",
                UserWarning,
                stacklevel=4,
            )
        return runs

    def _adopt(self, candidate: Any) -> Any:
        """Return a clone that has the blocks and the classes of the search."""
        candidate = clone(candidate)
        if not shares_ledger(candidate):
            if self.blocks is not None and "blocks" in candidate.get_params() and candidate.blocks is None:
                candidate.set_params(blocks=self.blocks)
        else:
            read = ("blocks_", "raw_blocks_", "_raw_columns", "word_columns_", "n_features_in_", "feature_names_in_")
            for name in (*read, "classes_"):
                if hasattr(self, name):
                    setattr(candidate, name, getattr(self, name))
        return candidate

    def _choose(self, runs: dict[str, Run]) -> None:
        self.fold_scores_ = {name: run.scores for name, run in runs.items()}
        summaries = [summarise(run.scores, run.mass) for run in runs.values()]
        mean, error = np.array(summaries).T
        best = int(np.nanargmax(mean))
        if self.rule == "1se":
            best = int(np.flatnonzero(mean >= mean[best] - error[best])[0])
        self.best_strategy_ = list(runs)[best]
        self._results = np.column_stack(
            [mean, error, [r.seconds for r in runs.values()], [r.n_members for r in runs.values()]]
        )

    @property
    def results_(self) -> pd.DataFrame:
        """One row per strategy, the best first."""
        check_is_fitted(self, "best_strategy_")
        names = pd.Index(list(self.fold_scores_), name="strategy")
        table = pd.DataFrame(
            self._results, index=names, columns=["mean_score", "standard_error", "seconds", "n_members"]
        )
        table.insert(2, "rank", table["mean_score"].rank(ascending=False, method="min").astype(int))
        return table.astype({"n_members": int}).sort_values("rank", kind="stable")

    # ------------------------------------------------------------------ predict

    @answers_rows
    def predict(self, X: Any) -> np.ndarray:
        """Predict with the chosen strategy.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict(X)

    @available_if(lambda self: self._classify and self._best_has("predict_proba"))
    @answers_rows
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the class probabilities with the chosen strategy.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.predict_proba(X)

    def _best_has(self, method: str) -> bool:
        return hasattr(getattr(self, "best_estimator_", DecisionFusionClassifier()), method)

    @answers_rows
    def predict_all(self, X: Any) -> dict[str, np.ndarray]:
        """Predict with every fitted candidate: probabilities if it has them, otherwise classes or numbers.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        dict of str to ndarray
            Predictions of all candidates with ``refit="all"``, otherwise of the chosen one.
        """
        check_is_fitted(self, "best_estimator_")
        return {
            name: model.predict_proba(X) if self._classify and hasattr(model, "predict_proba") else model.predict(X)
            for name, model in self.estimators_.items()
        }

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the score of the chosen strategy by `scoring`. The default is accuracy, or R2 in regression.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        float
        """
        check_is_fitted(self, "best_estimator_")
        weight = {} if sample_weight is None else {"sample_weight": sample_weight}
        return float(metrics.check_scoring(self.best_estimator_, self.scoring)(self.best_estimator_, X, y, **weight))


def default_candidates(n_classes: int, n_rows: int) -> dict[str, Any]:
    """Return strategies over the default members, from simple to complex; `n_classes` is 0 in regression."""
    decision = DecisionFusionClassifier if n_classes else DecisionFusionRegressor
    pools = {
        "equal log pool" if n_classes else "mean": LogPool("equal") if n_classes else MeanPool(),
        "learned mean": MeanPool("learned"),
        "log pool": LogPool(),
        "greedy": GreedyPool(),
        "stacking": StackingPool(),
    }
    return {
        **{name: decision(combiner=pool, joint=False) for name, pool in pools.items()},
        **_over_all_blocks(n_classes, n_rows),
        "hybrid": decision(),
        **{f"hybrid, {name}": decision(combiner=pool) for name, pool in pools.items() if name != "log pool"},
    }


def _over_all_blocks(n_classes: int, n_rows: int) -> dict[str, Any]:
    """Return the strategies with one model over all blocks."""
    feature = FeatureFusionClassifier if n_classes else FeatureFusionRegressor
    kernel = KernelFusionClassifier if n_classes else KernelFusionRegressor
    models: dict[str, Any] = {"feature level": feature()}
    if n_rows**2 * (n_classes or 2) <= _KERNEL_WORK:
        models |= {"kernel sum": kernel(), "kernel product": kernel(combine="product")}
    # Further strategies with one model over all blocks go here.
    return models
