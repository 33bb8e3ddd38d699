"""Scores of a fitted model without each modality, and with each modality alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fitted.subsets import SubsetPredictions, all_subsets, groups_for, predict_subsets
from ensemblefuse.scoring.bootstrap import Resampling, interval
from ensemblefuse.scoring.display import MUTED, PALETTE, BaseDisplay, drawn_by
from ensemblefuse.scoring.metrics import METRICS, mean_scores, read_metric, row_values
from ensemblefuse.scoring.result import TableResult

__all__ = ["ModalityAblation", "ModalityAblationDisplay", "modality_ablation"]

ALL, NOTHING, WITH_JOINT = "all", "nothing", "all, joint member too"
_METHODS = {
    "ledger": "out of fold, from the model's ledger",
    "predict": "modalities hidden from the fitted model",
    "refit": "a model fitted for each subset, cross-validated",
}


class ModalityAblation(TableResult):
    """Scores of a model with some of its modalities. Made by `modality_ablation`.

    Attributes
    ----------
    table : DataFrame
        One row per subset, indexed by names such as ``"all"``, ``"without image"``, ``"image alone"``,
        ``"image + text"``, ``"nothing"``. If the subsets leave out the joint member, the row
        ``"all, joint member too"`` is the model with it. Columns:

        - ``n_modalities``
        - ``score``, ``low``, ``high``: mean over the rows (greater is better) and its interval.
        - ``difference``, ``difference_low``, ``difference_high``: score minus that of all modalities, and its interval
          over the same resamples; 0 in the row ``"all"``.
    caption : str
    notes : list of str
    subsets : dict of str to tuple of str
        Modalities in each row of the table.
    metric : str
        Scikit-learn's name of the score.
    method : {"ledger", "predict", "refit"}
    n_fits : int
        Number of models that were fitted.
    n_rows : int
    confidence_level : float
    joint_gain : tuple of float, or None
        If the subsets leave out the joint member: what it adds to all modalities, with its 95 % interval, in nats
        per row (regression: squared units per row).
    """

    def __init__(self, table, caption, notes, *, subsets, metric, method, n_fits, n_rows, confidence_level, joint_gain):
        super().__init__(table, caption, notes)
        self.subsets: dict[str, tuple[str, ...]] = subsets
        self.metric = metric
        self.method = method
        self.n_fits = n_fits
        self.n_rows = n_rows
        self.confidence_level = confidence_level
        self.joint_gain: tuple[float, float, float] | None = joint_gain

    def _display_class(self) -> Any:
        return ModalityAblationDisplay


class ModalityAblationDisplay(BaseDisplay):
    """Score of each subset of the modalities with its interval; a line at the score of all of them.

    Parameters
    ----------
    result : ModalityAblation

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, ModalityAblationDisplay
    >>> X = pd.DataFrame({"text__0": np.arange(40.0) % 7, "image__0": np.arange(40.0) % 3})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=2).fit(X, X["image__0"] > 1)
    >>> display = ModalityAblationDisplay.from_estimator(model)
    >>> display.ax_.get_title()
    'Modalities left out and kept alone, 40 rows'
    """

    def _figsize(self) -> tuple[float, float]:
        longest = max(map(len, self.result.table.index))
        return max(6.4, 4.8 + 0.08 * longest), 1.5 + 0.32 * len(self.result.table)

    def _draw(self, ax: Any) -> None:
        table, level = self.result.table, self.result.confidence_level
        heights = np.arange(len(table))
        ax.axvline(table.loc[ALL, "score"], color=MUTED, linestyle=":", zorder=0)
        for label, rows, color, marker in self._kinds():
            part = table[rows]
            around = np.abs(part[["low", "high"]].to_numpy().T - part["score"].to_numpy())
            style = {"color": color, "marker": marker, "linestyle": "none", "capsize": 3}
            ax.errorbar(part["score"], heights[rows], xerr=around, label=label, **style)
        ax.set(
            yticks=heights,
            yticklabels=table.index,
            ylim=(len(table) - 0.5, -0.5),
            xlabel=f"{self.result.metric} (greater is better),\nmean and {level:.0%} interval",
            title=f"Modalities left out and kept alone, {self.result.n_rows} rows",
        )

    def _kinds(self) -> list[tuple[str, np.ndarray, str, str]]:
        """Return label, mask of rows, colour and marker of each kind of row."""
        sizes, whole = self.result.table["n_modalities"].to_numpy(), len(self.result.subsets[ALL])
        alone = (sizes == 1) & (whole > 1)
        kinds = [
            (ALL, sizes == whole, PALETTE[6], "D"),
            ("alone", alone, PALETTE[1], "s"),
            ("some", ~alone & (sizes < whole), PALETTE[0], "o"),
        ]
        return [kind for kind in kinds if kind[1].any()]


@drawn_by(ModalityAblationDisplay)
def modality_ablation(
    model: Any,
    X: Any = None,
    y: Any = None,
    *,
    subsets: str | Sequence[Sequence[str]] = "drop+keep",
    method: str = "auto",
    metric: str | None = None,
    cv: Any = 5,
    groups: Any = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = 0,
) -> ModalityAblation:
    """Score a fitted model with all of its modalities, without each of them, and with each alone.

    Parameters
    ----------
    model : fitted pipeline that ends in a fusion estimator, or fitted fusion estimator
    X : DataFrame of n_samples rows, optional
        For ``method="predict"``: rows that the model was not fitted on. For ``"refit"``: the rows of fit. Without `X`,
        decision-level fusion is scored on its out-of-fold predictions for the rows of fit.
    y : array of shape (n_samples,), optional
    subsets : {"drop+keep", "all"} or list of lists of str
        ``"drop+keep"``: all modalities, each one left out, each one alone. ``"all"``: every subset of up to 8
        modalities; the empty subset is the prediction without any modality. A list names the subsets; the set of all
        modalities is added to it.
    method : {"auto", "ledger", "predict", "refit"}
        ``"ledger"``: use the out-of-fold predictions that decision-level fusion keeps. ``"predict"``: hide modalities
        from the fitted model, which was still fitted with them. ``"refit"``: cross-validate a clone for each subset.
        The first two fit nothing. ``"auto"``: ``"predict"`` if `X` is given, else ``"ledger"``.
    metric : str, optional
        ``"log_loss"`` (the default), ``"accuracy"`` or ``"brier"`` (from 0 to 2); in regression ``"squared_error"``
        (the default) or ``"absolute_error"``. Or scikit-learn's name of the score, such as ``"neg_log_loss"``.
        Greater is better for all of them: losses are negative.
    cv : int, splitter or iterable
        For ``"refit"``; as in `compare_models`.
    groups : array of shape (n_samples,), optional
        Rows of one group are drawn together for the intervals. For ``"refit"`` they also stay on one side of each
        split. With the ledger: groups of the rows of fit.
    n_resamples : int
        Number of bootstrap resamples of the rows.
    confidence_level : float
        Level of the intervals.
    random_state : int, RandomState or None
        Seed of the resamples.

    Returns
    -------
    ModalityAblation

    Raises
    ------
    ValueError
        If a parameter has none of the values above, the model lacks a modality of a subset, or the method needs `X`
        and `y` and they are not given: feature-level fusion keeps no ledger.
    TypeError
        If the model does not end in a fusion estimator.

    Notes
    -----
    The intervals are percentile intervals of a bootstrap over the scored rows (Efron, Annals of Statistics 7, 1979).
    They show the uncertainty of this model's score, not how much the score would vary with other rows of fit.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, modality_ablation
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(60) % 2
    >>> X = pd.DataFrame({"text__0": y + rng.normal(size=60), "image__0": 3 * y + rng.normal(size=60)})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y)
    >>> result = modality_ablation(model, metric="accuracy")
    >>> result.table.index.tolist()
    ['all', 'text alone', 'image alone']
    >>> bool(result.table.loc["text alone", "difference"] < 0), result.n_fits
    (True, 0)
    """
    parts = FittedModel(model)
    metric = read_metric(metric, parts.classify)
    chosen = _chosen(subsets, parts.names)
    groups = groups_for(groups, parts, X, y, method)
    settings = Resampling(n_resamples, confidence_level, random_state)
    said = predict_subsets(model, chosen, X, y, method=method, cv=cv, groups=groups, resampling=settings)
    stacked = said.predictions if said.whole is None else np.concatenate([said.predictions, said.whole[None]])
    values = row_values(stacked, said.y, metric).T
    units = None if groups is None else groups[said.rows]
    resampling = replace(settings, groups=units, sample_weight=said.sample_weight)
    means = resampling.means(values)
    subsets_of = {_label(subset, parts.names): subset for subset in said.subsets}
    labels = [*subsets_of, *[WITH_JOINT] * (said.whole is not None)]
    table = _table(said, mean_scores(values, said.sample_weight), means, confidence_level, labels)
    n_rows = len(said.rows)
    caption = (
        f"{METRICS[metric].scorer} (greater is better) on {n_rows} rows, {_METHODS[said.method]}; {resampling.caption}"
    )
    return ModalityAblation(
        table,
        caption,
        [*said.notes, *_missing_notes(said), *resampling.notes(n_rows)],
        subsets=subsets_of,
        metric=METRICS[metric].scorer,
        method=said.method,
        n_fits=said.n_fits,
        n_rows=n_rows,
        confidence_level=confidence_level,
        joint_gain=said.joint_gain,
    )


def _chosen(subsets: Any, names: list[str]) -> list[tuple[str, ...]]:
    """Return the distinct subsets; the set of all modalities comes first."""
    if isinstance(subsets, str):
        if subsets == "all":
            given = all_subsets(names)[::-1]
        elif subsets == "drop+keep":
            given = [tuple(other for other in names if other != name) for name in names if len(names) > 2]
            given += [(name,) for name in names]
        else:
            raise ValueError(f'subsets must be "drop+keep", "all" or a list of lists of modalities; got {subsets!r}.')
    else:
        text = [subset for subset in subsets if isinstance(subset, str)]
        if text:
            raise ValueError(f"subsets must hold lists of modalities, such as [{text[0]!r}]; got {text[0]!r}.")
        given = [tuple(subset) for subset in subsets]
    return list({frozenset(subset): subset for subset in [tuple(names), *given]}.values())


def _label(subset: tuple[str, ...], names: list[str]) -> str:
    if len(subset) == len(names):
        return ALL
    if not subset:
        return NOTHING
    if len(subset) == 1:
        return f"{subset[0]} alone"
    if len(subset) == len(names) - 1:
        return f"without {next(name for name in names if name not in subset)}"
    return " + ".join(subset)


def _table(said: SubsetPredictions, scores: np.ndarray, means: np.ndarray, level: float, labels: list[str]) -> Any:
    low, high = interval(means, level)
    # The first column is that of all modalities; every subset is compared with it within the same resample.
    less, more = interval(means - means[:, :1], level)
    return pd.DataFrame(
        {
            "n_modalities": [*map(len, said.subsets), len(said.names)][: len(labels)],
            "score": scores,
            "low": low,
            "high": high,
            "difference": scores - scores[0],
            "difference_low": less,
            "difference_high": more,
        },
        index=pd.Index(labels, name="modalities"),
    )


def _missing_notes(said: SubsetPredictions) -> list[str]:
    lost = {name: int((~there).sum()) for name, there in zip(said.names, said.present, strict=True)}
    facts = ", ".join(f"{name} in {count}" for name, count in lost.items() if count)
    if not facts:
        return []
    answer = "the mean" if said.classes is None else "the class frequencies"
    return [
        f"Of {said.present.shape[1]} rows, some lack a modality ({facts}): leaving it out changes nothing there, and "
        f"alone it predicts {answer} there."
    ]
