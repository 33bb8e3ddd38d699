"""Exact Shapley values of the modalities of a fused model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse._theme import INK
from ensemblefuse.inspection._bars import bars_size, draw_bars
from ensemblefuse.inspection._shapley_weights import shapley_of
from ensemblefuse.inspection._worth import SubsetWorth, where_from, worth_of_model, worth_of_predictions
from ensemblefuse.scoring.display import BaseDisplay, drawn_by
from ensemblefuse.scoring.metrics import METRICS
from ensemblefuse.scoring.result import TableResult

__all__ = ["ModalityShapley", "ModalityShapleyDisplay", "modality_shapley"]


class ModalityShapleyDisplay(BaseDisplay):
    """Shapley value of each modality with its interval, and its gain alone and after all others.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import ModalityShapleyDisplay
    >>> sure, unsure = np.tile([[0.9, 0.1], [0.1, 0.9]], (10, 1)), np.full((20, 2), 0.5)
    >>> said = {(): unsure, ("image",): sure, ("text",): sure, ("image", "text"): sure}
    >>> display = ModalityShapleyDisplay.from_predictions(np.tile([0, 1], 10), said)
    >>> display.result.table["share"].round(2).to_dict()
    {'image': 0.5, 'text': 0.5}
    """

    result: ModalityShapley

    @classmethod
    def from_predictions(cls, y_true: Any, predictions: Any, *, ax: Any = None, **params: Any) -> Any:
        """Draw the values of predictions that were made elsewhere.

        Parameters
        ----------
        y_true : array of shape (n_rows,)
        predictions : dict of tuple of str to array of shape (n_rows, n_classes), or (n_rows,) in regression
            One for every subset of the modalities, including ``()``. Columns are the sorted labels of `y_true`.
        ax : matplotlib Axes, optional
        **params
            `metric`, `groups`, `n_resamples`, `confidence_level`, `random_state` of `modality_shapley`.

        Returns
        -------
        ModalityShapleyDisplay
        """
        return cls(ModalityShapley(worth_of_predictions(y_true, predictions, **params))).plot(ax=ax)

    def _figsize(self):
        return bars_size(len(self.result.table))

    def _draw(self, ax):
        table = self.result.table
        heights = draw_bars(ax, table, "value")
        ax.plot(table["alone"], heights - 0.18, "o", color=INK, mfc="white", label="alone")
        ax.plot(table["last"], heights + 0.18, "D", color=INK, mfc="white", label="on top of the others")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        ax.set(
            xlabel=f"gain in {METRICS[self.result.metric].worth}; positive helps",
            title=f"Shapley value of each modality\n{where_from(self.result.method, self.result.n_rows)}",
        )


@drawn_by(ModalityShapleyDisplay)
def modality_shapley(
    model: Any,
    X: Any = None,
    y: Any = None,
    *,
    method: str = "auto",
    metric: str | None = None,
    cv: Any = 5,
    groups: Any = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = 0,
) -> ModalityShapley:
    """Compute how much each modality contributes to the score of a fused model: Shapley values over all subsets.

    The worth of a subset is the mean score of predictions from this subset alone, minus that of predictions without any
    modality. The value of a modality is what it adds to a subset, averaged over all orders in which the modalities can
    be added. The values of all modalities sum to the worth of all together. With the log-loss this is usable
    information in nats (Xu et al., 2020).

    Parameters
    ----------
    model : fitted fusion estimator, pipeline that ends in one, or search over these
        Up to 8 modalities.
    X : DataFrame of n_samples rows, optional
        For ``method="predict"``: rows that the model was not fitted on; on rows of fit it looks better than it is. For
        ``"refit"``: the rows of fit.
    y : array of shape (n_samples,), optional
    method : {"auto", "ledger", "predict", "refit"}
        ``"ledger"``: use the out-of-fold predictions that decision-level fusion keeps; nothing is fitted or encoded.
        With three modalities or more the joint member is left out, and `notes` says what it adds. ``"predict"``: hide
        modalities from the fitted model; this shows how the model uses each modality. Hidden means missing, with one
        exception: the joint member of decision-level fusion stays while one modality is left, and sees means in place
        of the hidden ones. (In use it would leave, and all that it knows would count for each modality.)
        ``"refit"``: cross-validate every subset, with ``2 ** M - 1`` times `cv` fits; this shows what the data hold.
        ``"auto"``: ``"predict"`` if `X` is given, else ``"ledger"``.
    metric : str, optional
        ``"log_loss"`` (the default), ``"accuracy"`` or ``"brier"`` (from 0 to 2); in regression ``"squared_error"``
        (the default) or ``"absolute_error"``. Or scikit-learn's name of the score, such as ``"neg_log_loss"``.
        Greater is better for all of them: losses are negative.
    cv : int, splitter or iterable
        For ``"refit"``; as in `compare_models`.
    groups : array of shape (n_samples,), optional
        Rows of one group are resampled together. For ``"refit"`` they also stay on one side of each split.
    n_resamples : int
        Number of bootstrap resamples.
    confidence_level : float
    random_state : int, RandomState or None
        Seed of the bootstrap.

    Returns
    -------
    ModalityShapley

    Raises
    ------
    TypeError
        If the model is not a fusion.
    ValueError
        If there are more than 8 modalities, or the method needs data that are not given.

    Notes
    -----
    A row that lacks a modality gets nothing from it. The intervals are over rows, for the given fits; they do not
    include the variation between fits.

    References
    ----------
    Shapley, Contributions to the Theory of Games 2, 1953; Lundberg and Lee, NeurIPS 2017; Covert, Lundberg and Lee,
    NeurIPS 2020 (of a model's score); Xu et al., ICLR 2020 (usable information).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, modality_shapley
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 2
    >>> X = pd.DataFrame({"image__0": 3 * y + rng.normal(size=60), "text__0": rng.normal(size=60)})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y)
    >>> result = modality_shapley(model)
    >>> list(result.table.index), result.n_fits
    (['image', 'text'], 0)
    >>> bool(np.isclose(result.table["value"].sum(), result.total))
    True
    """
    return ModalityShapley(
        worth_of_model(
            model,
            X,
            y,
            method=method,
            metric=metric,
            cv=cv,
            groups=groups,
            n_resamples=n_resamples,
            confidence_level=confidence_level,
            random_state=random_state,
        )
    )


class ModalityShapley(TableResult):
    """Shapley values of modalities. Made by `modality_shapley`.

    Attributes
    ----------
    table : DataFrame
        One row per modality, the greatest value first:

        - ``value``: Shapley value, in units of the metric; ``low``, ``high``: its bootstrap interval.
        - ``share``: share of the total; NaN unless the interval of the total lies above 0.
        - ``alone``: gain from this modality alone over no modality.
        - ``last``: loss of all modalities together without it. If ``alone`` is greater, the others hold the same
          information; if ``last`` is greater, the modality needs the others to be useful.
    total : float
        Gain from all modalities over no modality.
    total_interval : tuple of float
    names : list of str
        Modalities in the order of the model.
    metric, method : str
    n_fits : int
        Number of models that were fitted.
    caption, notes
        As in all results.
    """

    def __init__(self, worth: SubsetWorth):
        said, values = worth.said, worth.values
        self.names, self.metric, self.method, self.n_fits = said.names, worth.metric, said.method, said.n_fits
        self.n_rows = len(said.rows)
        rows, mean = shapley_of(values, said.names), worth.mean(values)
        low, high = worth.interval(np.vstack([rows, values[-1] - values[0]]))
        self.total = float(mean[-1] - mean[0])
        self.total_interval = float(low[-1]), float(high[-1])
        n = len(said.names)
        value = worth.mean(rows)
        table = pd.DataFrame(
            {
                "value": value,
                "low": low[:-1],
                "high": high[:-1],
                "share": value / self.total if self.total_interval[0] > 0 else np.nan,
                "alone": mean[1 : n + 1] - mean[0],
                "last": mean[-1] - mean[-1 - n : -1][::-1],
            },
            index=pd.Index(said.names, name="modality"),
        )
        notes = worth.notes
        if self.total_interval[0] <= 0:
            notes.append("The gain from all modalities together is not clearly above 0, so there are no shares of it.")
        caption = f"Shapley values of {n} modalities, total {self.total:.3f} ({worth.caption})"
        super().__init__(table.sort_values("value", ascending=False, kind="stable"), caption, notes)

    def _display_class(self):
        return ModalityShapleyDisplay
