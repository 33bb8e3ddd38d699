"""Cross-validation of several models on the same splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import cross_validate
from tqdm import tqdm

from ensemblefuse._config import show_progress
from ensemblefuse._fitting import with_groups
from ensemblefuse.compose import FusionPipeline, make_fusion_pipeline
from ensemblefuse.fusion import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    FeatureFusionRegressor,
    NeuralFusionClassifier,
    NeuralFusionRegressor,
)
from ensemblefuse.fusion.splits import make_splits, quiet_about_groups
from ensemblefuse.schema import unseen_told_once
from ensemblefuse.scoring.inputs import kind_of_models, read_groups, read_y
from ensemblefuse.table import to_frame

__all__ = ["compare_models", "format_comparison", "standard_strategies"]


def standard_strategies(
    modalities: Sequence[tuple[str, Any, Any]],
    *,
    classify: bool = True,
    n_jobs: int | None = None,
    neural: bool = False,
) -> dict[str, FusionPipeline]:
    """Return models to compare: each modality alone, feature level, decision level, and both levels together.

    Parameters
    ----------
    modalities : list of (name, encoder, columns)
        See `make_fusion_pipeline`.
    classify : bool
        True for classifiers, False for regressors.
    n_jobs : int, optional
        For the fits inside a decision-level fusion.
    neural : bool
        Whether to add ``"neural"``, networks that fuse the modalities, and ``"hybrid with neural"``, which has them as
        one more joint member. From some 500 rows on they are worth a try; see ``docs/networks.md``.

    Returns
    -------
    dict of str to Pipeline
        ``"<name> alone"`` for each modality; with several modalities also ``"feature level"``, ``"decision level"``
        (one member per modality) and ``"hybrid"`` (decision level with the joint member).

    Examples
    --------
    >>> from ensemblefuse import TextEncoder, standard_strategies
    >>> list(standard_strategies([("text", TextEncoder(), "title"), ("tabular", "passthrough", ["price"])]))
    ['text alone', 'tabular alone', 'feature level', 'decision level', 'hybrid']
    >>> list(standard_strategies([("text", TextEncoder(), "title")], neural=True))
    ['text alone', 'neural']
    """
    decision = DecisionFusionClassifier if classify else DecisionFusionRegressor
    feature = FeatureFusionClassifier if classify else FeatureFusionRegressor
    models = {f"{m[0]} alone": make_fusion_pipeline([m], decision(n_jobs=n_jobs)) for m in modalities}
    if len(models) > 1:
        models["feature level"] = make_fusion_pipeline(modalities, feature())
        models["decision level"] = make_fusion_pipeline(modalities, decision(joint=False, n_jobs=n_jobs))
        models["hybrid"] = make_fusion_pipeline(modalities, decision(n_jobs=n_jobs))
    if neural:
        net = NeuralFusionClassifier if classify else NeuralFusionRegressor
        models["neural"] = make_fusion_pipeline(modalities, net("concat"))
        if len(modalities) > 1:
            both = decision({"joint": [None, net("concat")]}, n_jobs=n_jobs)
            models["hybrid with neural"] = make_fusion_pipeline(modalities, both)
    return models


@unseen_told_once()
def compare_models(
    models: Mapping[str, Any], X: Any, y: Any, *, cv: Any = 5, groups: Any = None, n_jobs: int | None = None
) -> pd.DataFrame:
    """Cross-validate models on the same splits.

    Parameters
    ----------
    models : dict of str to estimator
        All classifiers or all regressors. A fusion estimator, bare or as the step ``fuse``, uses `groups` for its
        inner splits too.
    X : DataFrame (pandas or polars) or dict of columns, of n_samples rows
    y : array of shape (n_samples,)
    cv : int, splitter or iterable of (train, test)
        With a number, rows are shuffled, always in the same way; folds are stratified in classification, and groups
        stay together if there are any. Rows in the order of time need a splitter, such as ``TimeSeriesSplit``.
    groups : array of shape (n_samples,), optional
    n_jobs : int, optional
        Jobs for the outer folds, as in joblib.

    Returns
    -------
    DataFrame
        One row per model; for each score its mean and, as ``<score>_sd``, its standard deviation over the folds.
        Classification: ``accuracy``, ``macro_f1``, ``log_loss``. Regression: ``r2``, ``mae``, ``rmse``. Both:
        ``fit_time`` in seconds.

    Raises
    ------
    TypeError
        If `models` is not a dict of classifiers or regressors.
    ValueError
        If `models` is empty or of both kinds, or `y` does not fit them.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from ensemblefuse import FeatureFusionClassifier, compare_models
    >>> X = pd.DataFrame({"a__0": [0.0] * 10 + [1.0] * 10, "b__0": np.ones(20)})
    >>> table = compare_models({"feature level": FeatureFusionClassifier()}, X, X["a__0"] > 0)
    >>> float(table.loc["feature level", "accuracy"])
    1.0
    """
    classify = kind_of_models(models, "models")
    X = to_frame(X)
    y = read_y(y, len(X), classify=classify)
    groups = read_groups(groups, len(X))
    codes = np.unique(y, return_inverse=True)[1] if classify else y
    splits = make_splits(cv, codes, groups, classify=classify)
    rows = {}
    bar = tqdm(models.items(), desc="cross-validate", unit="model", disable=not show_progress())
    for name, model in bar:
        bar.set_postfix_str(name)
        routed, params = with_groups(model, groups)
        with quiet_about_groups():
            result = cross_validate(
                routed,
                X,
                y,
                cv=splits,
                scoring=_score_classes if classify else _score_numbers,
                params=params,
                n_jobs=n_jobs,
                error_score="raise",
            )
        scores = {key.removeprefix("test_"): values for key, values in result.items() if key != "score_time"}
        scores["fit_time"] = scores.pop("fit_time")
        rows[name] = {
            part: value
            for score, values in scores.items()
            for part, value in ((score, values.mean()), (f"{score}_sd", values.std()))
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _score_classes(model: Any, X: Any, y: np.ndarray) -> dict[str, float]:
    if not hasattr(model, "predict_proba"):
        predicted, log_loss = model.predict(X), np.nan
    else:
        proba = model.predict_proba(X)  # only once: encoding may be expensive
        predicted = model.classes_[proba.argmax(axis=1)]
        log_loss = log_loss_of(proba, model.classes_, y)
    return {
        "accuracy": accuracy_score(y, predicted),
        "macro_f1": f1_score(y, predicted, average="macro", zero_division=0),
        "log_loss": log_loss,
    }


def log_loss_of(proba: np.ndarray, classes: np.ndarray, y: np.ndarray) -> float:
    """Compute the mean -log probability of the true class; a class that the model never saw has probability 1e-15."""
    place = {label: i for i, label in enumerate(classes.tolist())}
    truth = [proba[row, place[label]] if label in place else 0.0 for row, label in enumerate(y.tolist())]
    return float(-np.log(np.maximum(truth, 1e-15)).mean())


def _score_numbers(model: Any, X: Any, y: np.ndarray) -> dict[str, float]:
    predicted = model.predict(X)
    return {
        "r2": r2_score(y, predicted),
        "mae": mean_absolute_error(y, predicted),
        "rmse": root_mean_squared_error(y, predicted),
    }


def format_comparison(table: pd.DataFrame) -> str:
    """Format the result of `compare_models` as text: each score with its standard deviation over the folds.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import format_comparison
    >>> print(format_comparison(pd.DataFrame({"accuracy": [0.9], "accuracy_sd": [0.02]}, index=["hybrid"])))
            accuracy
    hybrid  0.900 ± 0.020
    """
    scores = [column for column in table.columns if not column.endswith("_sd")]
    cells = [["", *scores]]
    for name, row in table.iterrows():
        cells.append([str(name), *(f"{row[s]:.3f} ± {row[s + '_sd']:.3f}" for s in scores)])
    widths = [max(len(line[i]) for line in cells) for i in range(len(scores) + 1)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)
