"""Shapley interaction indices: redundancy and synergy of modalities."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.inspection._shapley_weights import interactions_of
from ensemblefuse.inspection._worth import SubsetWorth, where_from, worth_of_model, worth_of_predictions
from ensemblefuse.scoring.display import BaseDisplay, color_map, drawn_by, text_on
from ensemblefuse.scoring.metrics import METRICS
from ensemblefuse.scoring.result import TableResult

__all__ = ["ModalityInteractions", "ModalityInteractionsDisplay", "modality_interactions"]

_ADVICE = {
    "redundancy": "late fusion suffices",
    "synergy": "keep the joint model (joint=True), or take {}(combine='product')",
    "neither": "no sign of either",
}


class ModalityInteractionsDisplay(BaseDisplay):
    """Matrix of the interactions: synergy is positive and blue, redundancy negative and orange.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import ModalityInteractionsDisplay
    >>> sure, unsure = np.tile([[0.9, 0.1], [0.1, 0.9]], (10, 1)), np.full((20, 2), 0.5)
    >>> said = {(): unsure, ("image",): unsure, ("text",): unsure, ("image", "text"): sure}
    >>> display = ModalityInteractionsDisplay.from_predictions(np.tile([0, 1], 10), said)
    >>> display.result.table["kind"].to_list()
    ['synergy']
    """

    result: ModalityInteractions

    @classmethod
    def from_predictions(cls, y_true: Any, predictions: Any, *, ax: Any = None, **params: Any) -> Any:
        """Draw the interactions of predictions that were made elsewhere.

        Parameters
        ----------
        y_true : array of shape (n_rows,)
        predictions : dict of tuple of str to array of shape (n_rows, n_classes), or (n_rows,) in regression
            As in `ModalityShapleyDisplay`.
        ax : matplotlib Axes, optional
        **params
            `metric`, `groups`, `n_resamples`, `confidence_level`, `random_state` of `modality_interactions`.

        Returns
        -------
        ModalityInteractionsDisplay
        """
        return cls(ModalityInteractions(worth_of_predictions(y_true, predictions, **params))).plot(ax=ax)

    def _figsize(self):
        n = len(self.result.names)
        return 4.4 + 0.55 * n, 2.4 + 0.5 * n

    def _draw(self, ax):
        result, names = self.result, self.result.names
        matrix, most = result.matrix.to_numpy(), np.nanmax(np.abs(result.matrix.to_numpy())) or 1.0
        image = ax.imshow(matrix, cmap=color_map(signed=True), vmin=-most, vmax=most)
        ax.set_facecolor("none")
        clear = {frozenset(pair) for pair, kind in result.table["kind"].items() if kind != "neither"}
        for i, j in zip(*np.nonzero(np.isfinite(matrix)), strict=True):
            weight = "bold" if frozenset((names[i], names[j])) in clear else "normal"
            color = text_on(image.to_rgba(matrix[i, j]))
            ax.text(j, i, f"{matrix[i, j]:+.3f}", ha="center", va="center", color=color, weight=weight, fontsize=9)
        ticks = np.arange(len(names))
        ax.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(ticks, names)
        where = where_from(result.method, result.n_rows)
        ax.set_title(f"Interaction of modalities\n{where}\nbold: the interval excludes 0", fontsize=11)
        bar = ax.figure.colorbar(image, ax=ax, shrink=0.9)
        bar.set_label(f"{METRICS[result.metric].worth}\n- redundancy, + synergy")


@drawn_by(ModalityInteractionsDisplay)
def modality_interactions(
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
) -> ModalityInteractions:
    """Compute whether two modalities are worth more together than separately (synergy), or less (redundancy).

    The Shapley interaction index of a pair is what both add together beyond what each adds alone, averaged over the
    sets of other modalities. If ``v`` is the worth of a subset, the index of two modalities is
    ``v(both) - v(one) - v(other) + v(none)``. With the log-loss this is synergy minus redundancy of the information
    that the model can use.

    Parameters
    ----------
    model, X, y, method, metric, cv, groups, n_resamples, confidence_level, random_state
        As in `modality_shapley`; two to eight modalities.

    Returns
    -------
    ModalityInteractions

    Raises
    ------
    TypeError
        If the model is not a fusion.
    ValueError
        If there are fewer than 2 or more than 8 modalities, or the method needs data that are not given.

    Notes
    -----
    The index shows only synergy that the model can use: without a joint member, or with a linear one, the two
    modalities of an exclusive or look worthless. The advice is a rule of thumb. With redundancy, a combiner of single
    predictions loses little. Synergy needs a model that sees both blocks at once.

    References
    ----------
    Grabisch and Roubens, International Journal of Game Theory 1999 (the index); Xu et al., ICLR 2020 (usable
    information).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, modality_interactions
    >>> y = np.arange(60) % 2
    >>> image = 2 * y + np.random.default_rng(0).normal(size=60)
    >>> X = pd.DataFrame({"image__0": image, "text__0": image})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y)
    >>> modality_interactions(model).table.loc[("image", "text"), ["kind", "advice"]].to_list()
    ['redundancy', 'late fusion suffices']
    """
    return ModalityInteractions(
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


class ModalityInteractions(TableResult):
    """Interaction of each pair of modalities. Made by `modality_interactions`.

    Attributes
    ----------
    table : DataFrame
        One row per pair (index levels ``first``, ``second``), the strongest interaction first:

        - ``interaction``: in units of the metric; ``low``, ``high``: its bootstrap interval.
        - ``kind``: ``"redundancy"`` if the interval lies below 0, ``"synergy"`` if it lies above, else
          ``"neither"``.
        - ``advice``: the kind of fusion that this suggests.
    matrix : DataFrame of shape (n_modalities, n_modalities)
        The same interactions, NaN on the diagonal.
    names : list of str
        Modalities in the order of the model.
    metric, method : str
    n_fits : int
        Number of models that were fitted.
    caption, notes
        As in all results.
    """

    def __init__(self, worth: SubsetWorth):
        said = worth.said
        self.names, self.metric, self.method, self.n_fits = said.names, worth.metric, said.method, said.n_fits
        self.n_rows, n = len(said.rows), len(said.names)
        if n < 2:
            raise ValueError(f"an interaction needs two modalities; the model has only {said.names}.")
        rows = interactions_of(worth.values, said.names)
        value, (low, high) = worth.mean(rows), worth.interval(rows)
        kind = np.select([high < 0, low > 0], ["redundancy", "synergy"], "neither")
        product = "KernelFusionRegressor" if said.classes is None else "KernelFusionClassifier"
        table = pd.DataFrame(
            {
                "interaction": value,
                "low": low,
                "high": high,
                "kind": kind,
                "advice": [_ADVICE[k].format(product) for k in kind],
            },
            index=pd.MultiIndex.from_tuples(list(combinations(said.names, 2)), names=["first", "second"]),
        )
        self.matrix = pd.DataFrame(np.nan, index=said.names, columns=said.names)
        for (one, other), number in table["interaction"].items():
            self.matrix.loc[one, other] = self.matrix.loc[other, one] = number
        notes = worth.notes
        if said.joint_gain is not None:
            notes.append("Synergy that only the joint member uses is not in these figures.")
        caption = f"Shapley interactions of {n} modalities ({worth.caption})"
        order = table["interaction"].abs().sort_values(ascending=False, kind="stable").index
        super().__init__(table.loc[order], caption, notes)

    def _display_class(self):
        return ModalityInteractionsDisplay
