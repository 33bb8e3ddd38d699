"""Score and cost of a fit for growing numbers of training rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import model_selection
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from ensemblefuse._config import get_config
from ensemblefuse._fitting import with_groups
from ensemblefuse._optional import import_optional
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.evaluation._compare_models import log_loss_of
from ensemblefuse.fusion.splits import make_splits, quiet_about_groups
from ensemblefuse.schema import unseen_told_once
from ensemblefuse.scoring.display import MUTED, PALETTE, BaseDisplay, drawn_by, new_axes
from ensemblefuse.scoring.inputs import kind_of_models, read_groups, read_y
from ensemblefuse.scoring.metrics import check_scoring
from ensemblefuse.scoring.result import TableResult
from ensemblefuse.table import to_frame

__all__ = ["LearningCurve", "LearningCurveDisplay", "learning_curve"]


class LearningCurve(TableResult):
    """Score and seconds of a fit, for growing numbers of training rows.

    Made by `learning_curve`.

    Attributes
    ----------
    table : DataFrame
        One row per size, with ``n_train`` as its index:

        - ``score``, ``score_sd``: on the test rows; mean and standard deviation (divisor J - 1) over the folds;
          greater is better;
        - ``in_sample_score``: on the rows of the fit itself, so too good; its distance to ``score`` shows how far the
          model overfits;
        - ``fit_seconds``, ``fit_seconds_sd``: of one fit, with the embeddings in the cache.
    caption, notes
        As in all results.
    fold_scores, fold_seconds : DataFrame of shape (n_splits, n_sizes)
    cost_exponent : float
        b in ``seconds = a n ** b``, the slope of the logarithms over all folds and sizes; NaN with one size. It is too
        small if the rows are few, because every fit has a fixed cost.
    cost_exponent_error : float
        Its standard error.
    scoring : str
    n_samples : int
    """

    def __init__(self, sizes: Any, scores: Any, in_sample: Any, seconds: Any, scoring: str, n_samples: int, notes: Any):
        index = pd.Index(sizes, name="n_train")
        self.scoring, self.n_samples = scoring, n_samples
        self.fold_scores = pd.DataFrame(scores.T, columns=index).rename_axis(index="fold")
        self.fold_seconds = pd.DataFrame(seconds.T, columns=index).rename_axis(index="fold")
        table = pd.DataFrame(
            {
                "score": self.fold_scores.mean(),
                "score_sd": self.fold_scores.std(),
                "in_sample_score": in_sample.mean(axis=1),
                "fit_seconds": self.fold_seconds.mean(),
                "fit_seconds_sd": self.fold_seconds.std(),
            }
        )
        self.cost_exponent, self.cost_exponent_error = _power_law(sizes, seconds)
        if np.isfinite(self.cost_exponent):
            notes = [
                *notes,
                f"From {sizes[0]} to {sizes[-1]} rows the seconds of a fit grow as n to the power of "
                f"{self.cost_exponent:.2f} (standard error {self.cost_exponent_error:.2f}).",
            ]
        caption = f"{scoring} and seconds of a fit over {len(self.fold_scores)} folds, {n_samples} rows"
        super().__init__(table, caption, notes)

    def _display_class(self) -> Any:
        return LearningCurveDisplay


def _power_law(sizes: Any, seconds: np.ndarray) -> tuple[float, float]:
    """Fit a power law to seconds of shape (n_sizes, n_folds); return its exponent and the exponent's standard error."""
    if len(sizes) < 2 or not (seconds > 0).all():
        return np.nan, np.nan
    line = stats.linregress(np.log(np.repeat(sizes, seconds.shape[1])), np.log(seconds.ravel()))
    return float(line.slope), float(line.stderr)


class LearningCurveDisplay(BaseDisplay):
    """Two panels: the score with a band of one standard deviation over the folds, and the seconds of a fit.

    Parameters
    ----------
    result : LearningCurve

    Attributes
    ----------
    ax_ : ndarray of 2 matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import Ridge
    >>> from ensemblefuse import FeatureFusionRegressor, LearningCurveDisplay
    >>> X = pd.DataFrame({"image__0": np.arange(30.0), "text__0": np.arange(30.0) % 3})
    >>> model = FeatureFusionRegressor(Ridge())
    >>> display = LearningCurveDisplay.from_estimator(model, X, X["image__0"], train_sizes=[5, 20], cv=3)
    >>> [ax.get_xlabel() for ax in display.ax_]
    ['training rows', 'training rows']
    """

    def plot(self, *, ax: Any = None) -> Any:
        """Draw on a pair of axes, or on a new figure.

        Parameters
        ----------
        ax : pair of matplotlib Axes, optional
            As ``pyplot.subplots(1, 2)`` returns them.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `ax` is not a pair.
        """
        name = type(self).__name__
        if ax is None:
            pyplot = import_optional("matplotlib.pyplot", package="matplotlib", needed_by=name)
            _, ax = pyplot.subplots(1, 2, figsize=(9.0, 3.8), layout="constrained")
        pair = np.ravel(np.asarray(ax, dtype=object))
        if len(pair) != 2:
            raise ValueError(f"{name} has two panels; ax must be a pair of Axes, as from pyplot.subplots(1, 2).")
        for panel in pair:
            new_axes(panel, name)
        self._draw_scores(pair[0])
        self._draw_seconds(pair[1])
        self.ax_, self.figure_ = pair, pair[0].figure
        return self

    def _draw_scores(self, ax: Any) -> None:
        table, curve = self.result.table, self.result
        n, score, spread = table.index.to_numpy(), table["score"].to_numpy(), table["score_sd"].to_numpy()
        ax.fill_between(n, score - spread, score + spread, color=PALETTE[0], alpha=0.2, linewidth=0)
        ax.plot(n, score, color=PALETTE[0], marker="o", label="test rows")
        ax.plot(n, table["in_sample_score"], color=MUTED, marker="s", linestyle="--", label="rows of fit (in sample)")
        ax.set(xlabel="training rows", ylabel=curve.scoring)
        ax.set_title(f"Score over {len(curve.fold_scores)} folds, {curve.n_samples} rows", fontsize="medium")
        ax.legend(frameon=False)

    def _draw_seconds(self, ax: Any) -> None:
        table, b = self.result.table, self.result.cost_exponent
        ax.errorbar(
            table.index, table["fit_seconds"], yerr=table["fit_seconds_sd"], color=PALETTE[1], marker="^", capsize=3
        )
        ax.set(xlabel="training rows", ylabel="seconds of a fit", ylim=(0, None))
        ax.set_title("Training cost" + (f", growing as n^{b:.2f}" if np.isfinite(b) else ""), fontsize="medium")


@drawn_by(LearningCurveDisplay)
@unseen_told_once()
def learning_curve(
    model: Any,
    X: Any,
    y: Any,
    *,
    train_sizes: Any = (0.1, 0.325, 0.55, 0.775, 1.0),
    cv: Any = 5,
    groups: Any = None,
    scoring: Any = None,
    n_jobs: int | None = None,
    random_state: Any = 0,
) -> LearningCurve:
    """Cross-validate a model on growing parts of the training rows.

    scikit-learn's function of the same name does the work. All rows are encoded before it, so the seconds are those of
    the fits alone.

    Parameters
    ----------
    model : estimator
        Classifier or regressor; it is cloned. A fusion estimator, bare or as the step ``fuse``, uses `groups` for its
        inner splits too.
    X : DataFrame (pandas or polars) or dict of columns, or array, of n_samples rows
    y : array of shape (n_samples,)
    train_sizes : array of shape (n_sizes,)
        Shares of the smallest training part, or numbers of rows.
    cv : int, splitter or iterable of (train, test)
        With a number, rows are shuffled, always in the same way; folds are stratified in classification, and groups
        stay together if there are any. Rows in the order of time need a splitter, such as ``TimeSeriesSplit``.
    groups : array of shape (n_samples,), optional
    scoring : str or callable, optional
        As in scikit-learn; greater is better. By default ``"neg_log_loss"``, in regression
        ``"neg_root_mean_squared_error"``.
    n_jobs : int, optional
        Jobs for folds and sizes, as in joblib. Each fit takes longer when several run at the same time.
    random_state : int, RandomState or None
        Seed of the order in which training rows are added; each part contains the smaller ones.

    Returns
    -------
    LearningCurve

    Raises
    ------
    TypeError
        If `model` is neither a classifier nor a regressor.
    ValueError
        If `y` does not fit it, or a size is larger than a training part.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import FeatureFusionClassifier, learning_curve
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(120) % 2
    >>> X = pd.DataFrame({"image__0": y + rng.normal(size=120), "text__0": y + rng.normal(size=120)})
    >>> curve = learning_curve(FeatureFusionClassifier(LogisticRegression()), X, y, train_sizes=[10, 80], cv=3)
    >>> bool(curve.table.loc[80, "score"] > curve.table.loc[10, "score"])
    True
    """
    classify = kind_of_models({"model": model}, "model")
    X = X if isinstance(X, np.ndarray) else to_frame(X)
    y = read_y(y, len(X), classify=classify)
    groups = read_groups(groups, len(X))
    check_scoring(scoring)
    codes = np.unique(y, return_inverse=True)[1] if classify else y
    # scikit-learn takes shares of the first training part; put the smallest first, so that no part is too small.
    splits = sorted(make_splits(cv, codes, groups, classify=classify), key=lambda split: len(split[0]))
    if scoring is None:
        scoring = "neg_log_loss" if classify else "neg_root_mean_squared_error"
    notes = _encode_all(model, X, y)
    routed, params = with_groups(model, groups)
    with quiet_about_groups():
        sizes, in_sample, scores, seconds, _ = model_selection.learning_curve(
            routed,
            X,
            y,
            train_sizes=np.asarray(train_sizes),
            cv=splits,
            scoring=_neg_log_loss if classify and scoring == "neg_log_loss" else scoring,
            n_jobs=n_jobs,
            shuffle=True,
            random_state=random_state,
            error_score="raise",
            return_times=True,
            params=params,
        )
    name = scoring if isinstance(scoring, str) else getattr(scoring, "__name__", "score")
    return LearningCurve(sizes, scores, in_sample, seconds, name, len(X), notes)


def _encode_all(model: Any, X: Any, y: np.ndarray) -> list[str]:
    """Fill the cache; return a note if the seconds of the fits will include encoding nevertheless."""
    last = model[-1] if isinstance(model, Pipeline) else model
    if getattr(last, "_encodes", False):
        return [f"{type(last).__name__} encodes while it is fitted: the seconds include what was not in the cache."]
    if not isinstance(model, Pipeline):
        return []
    if get_config()["cache"] is None:
        return ["The cache is off: the seconds of a fit include those of encoding its rows."]
    # Only encoders use the cache, and they are in the first step; later steps belong to the fits.
    first = next((step for _, step in model.steps[:-1] if step not in (None, "passthrough")), None)
    if isinstance(first, (ColumnTransformer, BaseEncoder)):
        clone(first).fit_transform(X, y)
    return []


def _neg_log_loss(model: Any, X: Any, y: np.ndarray) -> float:
    """Score by log-loss; scikit-learn's own scorer fails where a training part lacks a class."""
    return -log_loss_of(model.predict_proba(X), model.classes_, y)
