"""Comparison of fusion strategies: nested cross-validation and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.metrics import accuracy_score, get_scorer, r2_score, root_mean_squared_error
from sklearn.utils import _safe_indexing
from tqdm import tqdm

from ensemblefuse._config import show_progress
from ensemblefuse.compose import make_fusion_pipeline
from ensemblefuse.evaluation._compare_models import log_loss_of
from ensemblefuse.evaluation._fusion_comparison import FusionComparison, FusionComparisonDisplay
from ensemblefuse.evaluation._paired_tests import check_rope
from ensemblefuse.fusion import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    FusionSearchCV,
)
from ensemblefuse.fusion.splits import make_splits, quiet_about_groups
from ensemblefuse.scoring.display import drawn_by
from ensemblefuse.scoring.inputs import kind_of_models, read_groups, read_y
from ensemblefuse.scoring.metrics import check_scoring
from ensemblefuse.table import to_frame

__all__ = ["compare_fusions"]

ALONE = " alone"


@drawn_by(FusionComparisonDisplay)
def compare_fusions(
    modalities: Sequence[tuple[str, Any, Any]],
    X: Any,
    y: Any,
    *,
    candidates: Mapping[str, Any] | None = None,
    cv: Any = 5,
    inner_cv: Any = 5,
    groups: Any = None,
    scoring: Any = None,
    baseline: str | None = None,
    rope: float = 0.0,
    classify: bool = True,
    n_jobs: int | None = None,
) -> FusionComparison:
    """Cross-validate fusion strategies and every modality alone on the same folds, and test the differences.

    Everything is fitted anew on the training rows of each outer fold: the steps after the encoders, the members, their
    inner folds, the combiners. A training part is encoded once for all strategies. An estimator that several strategies
    need is fitted once, as in `FusionSearchCV`.

    Parameters
    ----------
    modalities : list of (name, encoder, columns)
        See `make_fusion_pipeline`.
    X : DataFrame (pandas or polars) or dict of columns, of n_samples rows
    y : array of shape (n_samples,)
    candidates : dict of str to fusion estimator, optional
        Without encoders, all classifiers or all regressors. By default feature level, decision level and both
        ("hybrid"), each with default estimators.
    cv : int, splitter or iterable of (train, test)
        Outer folds; pass `RepeatedStratifiedKFold` for repeated ones. With a number, rows are shuffled, always in the
        same way; folds are stratified in classification, and groups stay together if there are any. Rows in the order
        of time need a splitter, such as ``TimeSeriesSplit``.
    inner_cv : int, splitter or iterable of (train, test)
        Inner folds, which all strategies share; their own `cv` is not used. As `cv`, but a list of splits does not fit:
        the training parts have other rows.
    groups : array of shape (n_samples,), optional
        They are also used for the inner splits of every strategy.
    scoring : str or callable, optional
        Score by which strategies are ranked and tested: a name of scikit-learn's, or ``scorer(estimator, X, y)``.
        Greater is better. By default ``"neg_log_loss"``, in regression ``"neg_root_mean_squared_error"``.
    baseline : str, optional
        The strategy that all others are tested against; by default the one with the best mean score.
    rope : float
        Region of practical equivalence, in units of the score; see `bayesian_ttest`.
    classify : bool
        Kind of the default candidates; ignored if `candidates` is given.
    n_jobs : int, optional
        Jobs for the outer folds, as in joblib.

    Returns
    -------
    FusionComparison
        Its ``table`` has one row per strategy. ``"<name> alone"`` is decision-level fusion of one modality, with the
        estimator that a candidate has for that block, if any has one.

    Raises
    ------
    TypeError
        If `candidates` is not a dict of classifiers or regressors.
    ValueError
        If `y` does not fit the candidates, `baseline` is not the name of a strategy, `rope` is negative, or `cv` makes
        fewer than 2 splits.

    Notes
    -----
    Without `baseline`, the best strategy is picked by the same scores that the tests use, so the p-values are
    optimistic. With a `baseline` that was chosen beforehand, each p-value is valid by itself. The p-values are not
    adjusted for the number of strategies. To choose a strategy and to score the choice, cross-validate
    `FusionSearchCV`.

    References
    ----------
    Varma and Simon, BMC Bioinformatics 2006 (nested cross-validation); Nadeau and Bengio 2003 and Benavoli et al. 2017
    (the tests: see `corrected_ttest`, `bayesian_ttest`).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from ensemblefuse import compare_fusions
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 2
    >>> X = pd.DataFrame({"length": y + rng.normal(size=60), "price": 2 * y + rng.normal(size=60)})
    >>> modalities = [("text", "passthrough", ["length"]), ("tabular", "passthrough", ["price"])]
    >>> result = compare_fusions(modalities, X, y, cv=3, baseline="text alone")
    >>> sorted(result.table.index)
    ['decision level', 'feature level', 'hybrid', 'tabular alone', 'text alone']
    >>> bool(result.table.loc["hybrid", "difference"] > 0)
    True
    """
    check_rope(rope)
    if candidates is None:
        candidates = _default_candidates(classify)
    else:
        classify = kind_of_models(candidates, "candidates")
    X = to_frame(X)
    y = read_y(y, len(X), classify=classify)
    groups = read_groups(groups, len(X))
    check_scoring(scoring)
    if scoring is None:
        scoring = "neg_log_loss" if classify else "neg_root_mean_squared_error"
    encode = make_fusion_pipeline(modalities)[:-1]
    strategies = [*_alone(modalities, candidates), *candidates]
    if baseline is not None and baseline not in strategies:
        raise ValueError(f"baseline must name one of the strategies {strategies}; got {baseline!r}.")
    codes = np.unique(y, return_inverse=True)[1] if classify else y
    splits = make_splits(cv, codes, groups, classify=classify)
    if len(splits) < 2:
        raise ValueError(f"cv={cv!r} made one split; a paired test needs at least 2.")
    work = (
        delayed(_one_fold)(encode, candidates, X, y, groups, train, test, scoring, classify, inner_cv)
        for train, test in splits
    )
    folds = list(
        tqdm(
            Parallel(n_jobs=n_jobs, return_as="generator")(work),
            desc="cross-validate",
            unit="fold",
            total=len(splits),
            disable=not show_progress(),
        )
    )
    return FusionComparison(
        folds,
        scoring=scoring if isinstance(scoring, str) else getattr(scoring, "__name__", "score"),
        n_samples=len(X),
        n_train=float(np.mean([len(train) for train, _ in splits])),
        n_test=float(np.mean([len(test) for _, test in splits])),
        baseline=baseline,
        rope=rope,
        single=[name + ALONE for name in _names(modalities)],
    )


def _default_candidates(classify: bool) -> dict[str, Any]:
    decision = DecisionFusionClassifier if classify else DecisionFusionRegressor
    feature = FeatureFusionClassifier if classify else FeatureFusionRegressor
    return {"feature level": feature(), "decision level": decision(joint=False), "hybrid": decision()}


def _names(modalities: Sequence[tuple[str, Any, Any]]) -> list[str]:
    return [name for name, encoder, _ in modalities if not (isinstance(encoder, str) and encoder == "drop")]


def _alone(modalities: Any, candidates: Mapping[str, Any]) -> list[str]:
    alone = [name + ALONE for name in _names(modalities)]
    taken = sorted(set(alone) & set(candidates))
    if taken:
        raise ValueError(f"candidates names {taken}, which are the names of single modalities; rename them.")
    return alone


def _one_fold(
    encode: Any,
    candidates: Any,
    X: Any,
    y: Any,
    groups: Any,
    train: Any,
    test: Any,
    scoring: Any,
    classify: Any,
    inner_cv: Any,
) -> dict[str, dict[str, float]]:
    """Fit all strategies on one outer fold, and return their scores on its test rows."""
    encode = clone(encode)
    blocks = encode.fit_transform(_safe_indexing(X, train))
    new = encode.transform(_safe_indexing(X, test))
    inner_groups = None if groups is None else groups[train]
    predicted = _fit_and_predict(candidates, blocks, y[train], new, inner_groups, classify, inner_cv)
    scores = {}
    for name, (values, times) in predicted.items():
        try:
            if classify:
                scored = _score_classes(values, y[train], y[test], scoring, new)
            else:
                scored = _score_numbers(values, y[test], scoring, new)
        except Exception as error:
            error.add_note(f"while scoring {name!r}")
            raise
        scores[name] = {**scored, **times}
    return scores


def _fit_and_predict(
    candidates: dict[str, Any],
    blocks: pd.DataFrame,
    y: np.ndarray,
    new: pd.DataFrame,
    groups: Any,
    classify: bool,
    cv: Any,
) -> dict[str, tuple[np.ndarray, dict[str, float]]]:
    """Return each strategy's predictions for the new rows, with seconds to fit and milliseconds per row to predict.

    Predictions are probabilities of the classes ``np.unique(y)``, labels from a classifier without probabilities, or
    numbers. What several strategies need is fitted once.
    """
    kind = "classifier" if classify else "regressor"
    with quiet_about_groups():
        search = FusionSearchCV(candidates, kind=kind, cv=cv, refit="all").fit(blocks, y, groups=groups)
    predicted = {}
    for name, model in search.estimators_.items():
        start = perf_counter()
        values = model.predict_proba(new) if classify and hasattr(model, "predict_proba") else model.predict(new)
        times = {"fit_time": float(search.results_.loc[name, "seconds"])}
        predicted[name] = values, {**times, "predict_ms": 1000 * (perf_counter() - start) / len(new)}
    return predicted


def _score_classes(values: np.ndarray, y_train: np.ndarray, y: np.ndarray, scoring: Any, X: Any) -> dict[str, float]:
    known = np.unique(y_train)
    if values.ndim == 1:
        if scoring == "neg_log_loss":
            raise ValueError(
                "scoring='neg_log_loss' needs probabilities, which this strategy lacks; pass another scoring, such "
                "as 'accuracy', or an estimator with predict_proba."
            )
        return {
            "score": float(get_scorer(scoring)(_Labels(values, known), X, y)),
            "accuracy": accuracy_score(y, values),
            "log_loss": np.nan,
        }
    log_loss = log_loss_of(values, known, y)
    if scoring == "neg_log_loss":  # scikit-learn's scorer fails where a test part lacks a class
        score = -log_loss
    else:
        score = float(get_scorer(scoring)(_Probabilities(values, known), X, y))
    return {"score": score, "accuracy": accuracy_score(y, known[values.argmax(axis=1)]), "log_loss": log_loss}


def _score_numbers(values: np.ndarray, y: np.ndarray, scoring: Any, X: Any) -> dict[str, float]:
    return {
        "score": float(get_scorer(scoring)(_Numbers(values), X, y)),
        "r2": r2_score(y, values),
        "rmse": root_mean_squared_error(y, values),
    }


# Scikit-learn's scorers take an estimator; these return predictions that were made before.


class _Labels(ClassifierMixin, BaseEstimator):
    def __init__(self, values, classes):
        self.values = values
        self.classes_ = classes

    def predict(self, X):
        return self.values


class _Probabilities(_Labels):
    def predict_proba(self, X):
        return self.values

    def predict(self, X):
        return self.classes_[self.values.argmax(axis=1)]


class _Numbers(RegressorMixin, BaseEstimator):
    def __init__(self, values):
        self.values = values

    def predict(self, X):
        return self.values
