"""Permutation importance of whole modalities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from ensemblefuse._theme import INK
from ensemblefuse.fitted.model import FittedModel, replace_columns
from ensemblefuse.inspection._bars import bars_size, draw_bars
from ensemblefuse.scoring.bootstrap import Resampling, read_seed
from ensemblefuse.scoring.display import BaseDisplay, drawn_by
from ensemblefuse.scoring.inputs import read_groups
from ensemblefuse.scoring.metrics import METRICS, read_metric, row_values
from ensemblefuse.scoring.result import TableResult

__all__ = ["ModalityImportance", "ModalityImportanceDisplay", "modality_importance"]


class ModalityImportanceDisplay(BaseDisplay):
    """Fall of the score with each modality shuffled: bars with intervals, one dot per shuffle.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, ModalityImportanceDisplay
    >>> y = np.arange(40) % 2
    >>> X = pd.DataFrame({"image__0": 1.0 * y, "text__0": np.arange(40.0) % 3})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y)
    >>> display = ModalityImportanceDisplay.from_estimator(model, X, y, metric="accuracy")
    >>> display.ax_.get_xlabel()
    'fall in accuracy, share of rows'
    """

    result: ModalityImportance

    def _figsize(self):
        return bars_size(len(self.result.table))

    def _draw(self, ax):
        result = self.result
        heights = draw_bars(ax, result.table, "importance")
        dots = result.importances.loc[result.table.index].to_numpy()
        ax.plot(dots.T, np.tile(heights + 0.2, (dots.shape[1], 1)), ".", color=INK, markersize=4, alpha=0.6)
        ax.set(
            xlabel=f"fall in {METRICS[result.metric].worth}",
            title=f"Score lost with a modality shuffled\n{result.n_rows} rows, {dots.shape[1]} shuffles (dots)",
        )


@drawn_by(ModalityImportanceDisplay)
def modality_importance(
    model: Any,
    X: Any,
    y: Any,
    *,
    metric: str | None = None,
    n_repeats: int = 10,
    groups: Any = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = 0,
) -> ModalityImportance:
    """Compute the permutation importance of whole modalities: all columns of one are shuffled together among the rows.

    The fitted model predicts the shuffled rows; nothing is fitted, and `X` is encoded once. Missing cells are shuffled
    too: a row may lose the modality this way. For single columns use `sklearn.inspection.permutation_importance`.

    Parameters
    ----------
    model : fitted fusion estimator, pipeline that ends in one, or search over these
    X : DataFrame of n_samples rows
        Rows that the model was not fitted on; on rows of fit the importance shows what the model memorised.
    y : array of shape (n_samples,)
    metric : str, optional
        ``"log_loss"`` (the default), ``"accuracy"`` or ``"brier"`` (from 0 to 2); in regression ``"squared_error"``
        (the default) or ``"absolute_error"``. Or scikit-learn's name of the score, such as ``"neg_log_loss"``.
        Greater is better for all of them: losses are negative.
    n_repeats : int
        Number of shuffles of each modality.
    groups : array of shape (n_samples,), optional
        Rows of one group are resampled together by the bootstrap.
    n_resamples : int
        Number of bootstrap resamples.
    confidence_level : float
    random_state : int, RandomState or None
        Seed of the shuffles and the bootstrap.

    Returns
    -------
    ModalityImportance

    Raises
    ------
    TypeError
        If the model is not a fusion.
    ValueError
        If a parameter has none of the values above, or there are fewer than 2 rows.

    Notes
    -----
    Shuffling makes rows whose modalities contradict one another, which real rows may never do. Where two modalities
    hold the same information, each may look unimportant; `modality_shapley` and `modality_interactions` show that. The
    intervals are over rows, with the drop of each row averaged over its shuffles.

    References
    ----------
    Gat, Schwartz and Schwing, "Perceptual score", NeurIPS 2021, equation 3; Breiman, Machine Learning 2001.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, modality_importance
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 2
    >>> X = pd.DataFrame({"image__0": 3 * y + rng.normal(size=60), "text__0": rng.normal(size=60)})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X[:40], y[:40])
    >>> list(modality_importance(model, X[40:], y[40:], metric="accuracy").table.index)
    ['image', 'text']
    """
    parts = FittedModel(model)
    metric = read_metric(metric, parts.classify)
    Resampling(n_resamples, confidence_level).check()
    if n_repeats < 1:
        raise ValueError(f"n_repeats must be at least 1; got {n_repeats!r}.")
    Z, y = parts.encode(X), parts.encode_labels(y)
    if len(Z) != len(y) or len(y) < 2:
        raise ValueError(f"X and y must have the same number of rows, at least 2; got {len(Z)} and {len(y)}.")
    groups = read_groups(groups, len(y), classes=y if parts.classify else None)
    rng = check_random_state(random_state)
    seed = read_seed(rng)
    base = row_values(parts.predict(Z), y, metric)
    orders = [rng.permutation(len(y)) for _ in range(n_repeats)]
    shuffled = np.array(
        [
            [row_values(parts.predict(_shuffle(Z, parts.positions(name), order)), y, metric) for order in orders]
            for name in parts.names
        ]
    )
    resampling = Resampling(n_resamples, confidence_level, seed, groups)
    return ModalityImportance(parts.names, base, shuffled, metric, resampling)


def _shuffle(Z: Any, positions: np.ndarray, order: np.ndarray) -> Any:
    """Return a copy of encoded rows that takes these columns from the rows `order`."""
    if isinstance(Z, pd.DataFrame):
        return replace_columns(Z, positions, Z.iloc[order, positions])
    table = Z.copy()
    table[:, positions] = Z[np.ix_(order, positions)]
    return table


class ModalityImportance(TableResult):
    """Permutation importance of modalities. Made by `modality_importance`.

    Attributes
    ----------
    table : DataFrame
        One row per modality, the greatest importance first:

        - ``importance``: score minus the mean score with the modality shuffled; ``low``, ``high``: its interval.
        - ``sd``: standard deviation of the importance over the shuffles; NaN with one shuffle.
        - ``share``: share of the sum of all importances; NaN unless the interval of the sum lies above 0.
        - ``perceptual``: importance divided by the accuracy (the perceptual score), only with ``metric="accuracy"``.
    score : float
        Score of the rows without shuffling; losses are negative.
    importances : DataFrame of shape (n_modalities, n_repeats)
    names : list of str
        Modalities in the order of the model.
    metric : str
    n_rows : int
    caption, notes
        As in all results.
    """

    def __init__(
        self,
        names: list[str],
        base: np.ndarray,
        shuffled: np.ndarray,
        metric: str,
        resampling: Resampling,
    ):
        self.names, self.metric, self.n_rows = names, metric, len(base)
        self.score = float(base.mean())
        index = pd.Index(names, name="modality")
        self.importances = pd.DataFrame(self.score - shuffled.mean(axis=2), index=index)
        drops = base - shuffled.mean(axis=1)
        low, high = resampling.interval(np.vstack([drops, drops.sum(axis=0)]).T)
        value = drops.mean(axis=1)
        columns = {
            "importance": value,
            "low": low[:-1],
            "high": high[:-1],
            "sd": self.importances.std(axis=1, ddof=1).to_numpy(),
            "share": value / value.sum() if low[-1] > 0 else np.nan,
        }
        if metric == "accuracy":
            columns["perceptual"] = value / self.score if self.score > 0 else np.nan
        table = pd.DataFrame(columns, index=index).sort_values("importance", ascending=False, kind="stable")
        n_repeats = shuffled.shape[1]
        caption = (
            f"Fall of the score with one modality shuffled ({METRICS[metric].worth}; {len(base)} rows, {n_repeats} "
            f"shuffles; {resampling.caption})"
        )
        notes = resampling.notes(len(base))
        if not low[-1] > 0:
            notes.append("The sum of the importances is not clearly above 0, so there are no shares of it.")
        super().__init__(table, caption, notes)

    def _display_class(self):
        return ModalityImportanceDisplay
