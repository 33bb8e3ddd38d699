"""Explanation of one prediction: the share of each modality, and the effects of parts inside each modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from ensemblefuse.fitted.modality_rows import row_position
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fitted.subsets import all_subsets
from ensemblefuse.inspection._explain_within import METHODS, Settings, explain_inside
from ensemblefuse.inspection._row_explanation import RowExplanation, RowExplanationDisplay
from ensemblefuse.inspection._row_model import RowModel
from ensemblefuse.inspection._shapley_weights import shapley_of
from ensemblefuse.scoring.display import drawn_by
from ensemblefuse.table import to_frame

__all__ = ["explain_row"]


@drawn_by(RowExplanationDisplay)
def explain_row(
    model: Any,
    X: Any,
    i: Any,
    *,
    target: Any = None,
    within: bool | Sequence[str] = True,
    method: str = "occlusion",
    background: Any = None,
    grid: int = 7,
    n_samples: int = 500,
    random_state: int = 0,
) -> RowExplanation:
    r"""Explain a fitted model's prediction for one row.

    The value of a subset S of the row's modalities is the log-odds of the target class when the fitted model sees only
    these, :math:`v(S) = \log p_S - \log(1 - p_S)`; in regression the prediction. The share of a modality is its Shapley
    value [1]_ over all subsets:

    .. math:: \phi_m = \sum_{S \not\ni m} \frac{|S|! (M - |S| - 1)!}{M!} [v(S \cup m) - v(S)]

    so the shares and the base :math:`v(\emptyset)` add up to the log-odds of the prediction. To explain the inside of a
    modality, parts of its raw cell are removed; the rest is encoded and predicted with the other modalities unchanged.

    Parameters
    ----------
    model : fitted Pipeline that ends in a fusion estimator, fitted fusion estimator, or fitted search over these
    X : DataFrame (pandas or polars) or dict of columns; for a bare fusion, its blocks as a DataFrame or ndarray
        The row may be one of fit: nothing is scored, and the explanation is of the model, not of its quality.
    i : label
        Index label of the row, as ``X.loc`` takes it. Polars frames, dicts and arrays have the labels 0 to n - 1.
    target : label, optional
        Class whose log-odds are explained; by default the predicted one.
    within : bool or list of str
        Modalities whose inside is explained; True for all where it is possible. For the others ``parts`` holds the
        reason; if such a modality is named here, an error is raised.
    method : {"occlusion", "gradcam", "lime", "shap"}
        - ``"occlusion"`` [2]_: one part at a time is removed; its effect is the drop of the value. For any head.
        - ``"gradcam"`` [3]_: for pictures, the last feature map of the network, weighted by the gradient of the value;
          the other modalities are explained by occlusion. It needs a convolutional network in an `ImageEncoder`, and
          heads with a gradient, so not trees. It takes one pass through the network. It shows only the places that
          support the target, not those against it.
        - ``"lime"`` [4]_: a local linear model of the value over `n_samples` random choices of parts. It needs lime.
        - ``"shap"`` [5]_: Shapley values of the parts, from about `n_samples` evaluations. It needs shap.
    background : DataFrame (pandas or polars) or dict of columns, optional
        Rows that provide the replacement for a removed column: the median for numbers, else the most frequent value.
        By default `X`. The rows of fit are best; at least two rows are needed.
    grid : int
        Number of cells along each side of the grid over a picture. A sound has the same number of bands and of windows,
        a series up to three times as many windows.
    n_samples : int
        Number of evaluations for ``"lime"`` and ``"shap"``.
    random_state : int
        Seed for ``"lime"`` and ``"shap"``.

    Returns
    -------
    RowExplanation
        With ``shares``, ``on_top``, ``base``, ``prediction``, ``target``, ``value``, ``parts``, ``plot()``, and HTML
        in notebooks.

    Raises
    ------
    ValueError
        If the label matches no row or several; if the model never saw the target; if the row holds more than 8
        modalities; if a modality named in `within` cannot be explained.
    EncodingError
        If a cell of the row cannot be encoded, as from ``model.predict``.
    ImportError
        If the method's package is not installed.

    Notes
    -----
    A missing modality has the share 0. A hidden modality is treated as a missing one. If the model was not fitted on
    rows without this modality, it may fill the gap badly, and that shows in the shares. All subsets are predicted in
    one batch, and nothing is fitted.

    How a part is removed: a grid cell of a picture is filled with the picture's mean colour; a word is deleted; a band
    of frequencies in a window of time is set to 0 in the short-time Fourier transform; a window of a series is set to
    the mean of the series; a column takes its value from `background`. Nothing of this enters the cache.

    References
    ----------
    .. [1] L. S. Shapley. A Value for n-Person Games. Contributions to the Theory of Games II, 1953.
    .. [2] M. D. Zeiler and R. Fergus. Visualizing and Understanding Convolutional Networks. ECCV 2014.
    .. [3] R. R. Selvaraju et al. Grad-CAM: Visual Explanations from Deep Networks. ICCV 2017, equations 1 and 2.
    .. [4] M. T. Ribeiro, S. Singh and C. Guestrin. "Why Should I Trust You?" KDD 2016.
    .. [5] S. M. Lundberg and S.-I. Lee. A Unified Approach to Interpreting Model Predictions. NeurIPS 2017.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, FunctionEncoder, explain_row, make_fusion_pipeline
    >>> df = pd.DataFrame({"title": ["my cat", "old cat", "hot dog!", "dog!!"] * 5, "price": [1, 2, 8, 9] * 5})
    >>> text = FunctionEncoder(lambda title: [title.count("!"), len(title)])
    >>> modalities = [("text", text, "title"), ("tabular", "passthrough", ["price"])]
    >>> model = make_fusion_pipeline(modalities, DecisionFusionClassifier(LogisticRegression(), cv=2))
    >>> explanation = explain_row(model.fit(df, df["price"] > 5), df, 2)
    >>> explanation.target, bool(explanation.shares.sum() + explanation.base - explanation.value < 1e-9)
    (True, True)
    >>> explanation.parts["text"].effects["token"].tolist()
    ['hot', 'dog', '!']
    """
    parts = FittedModel(model)
    if method not in METHODS:
        raise ValueError(f"method must be one of {list(METHODS)}; got {method!r}.")
    wanted = _wanted(within, parts)
    X = X if isinstance(X, np.ndarray) and not isinstance(parts.model, Pipeline) else to_frame(X)
    row = _row(X, i)
    model_of_row = RowModel(parts, row)
    model_of_row.code = _code(parts, target, model_of_row.prediction)
    names = [name for name, there in zip(parts.names, model_of_row.present, strict=True) if there]
    values = model_of_row.of_subsets(all_subsets(names))
    shares = pd.Series(0.0, index=pd.Index(parts.names, name="modality"), name="share")
    shares[names] = shapley_of(values, names)
    on_top = pd.Series(0.0, index=shares.index, name="on_top")
    on_top[names] = values[-1] - values[-1 - len(names) : -1][::-1]  # the last subsets are all but one of them
    settings = Settings(method, X if background is None else to_frame(background), grid, n_samples, random_state)
    inside = {
        name: explain_inside(model_of_row, name, settings, must=within is not True) for name in names if name in wanted
    }
    if method == "gradcam" and not any(part.method == "gradcam" for part in inside.values()):
        raise ValueError(
            'method="gradcam" explains pictures in an ImageEncoder, and the modalities to explain in this row hold '
            'none. Use method="occlusion".'
        )
    return RowExplanation(
        label=i,
        shares=shares,
        missing=[name for name in parts.names if name not in names],
        base=float(values[0]),
        value=float(values[-1]),
        prediction=_prediction(parts, model_of_row.prediction),
        target=None
        if model_of_row.code is None or parts.classes is None
        else parts.classes.tolist()[model_of_row.code],
        parts=inside,
        on_top=on_top,
    )


def _wanted(within: bool | Sequence[str], parts: FittedModel) -> list[str]:
    if isinstance(within, bool):
        return parts.names if within else []
    if isinstance(within, str):
        raise ValueError(f"within must be True, False or a list of modalities; got {within!r}. Write [{within!r}].")
    unknown = [name for name in within if name not in parts.names]
    if unknown:
        raise ValueError(f"within names {unknown}, which the model lacks; it has {parts.names}.")
    return list(within)


def _row(X: Any, i: Any) -> Any:
    """Return the row with this label, as a table of one row."""
    position = row_position(pd.RangeIndex(len(X)) if isinstance(X, np.ndarray) else X.index, i)
    return X[[position]] if isinstance(X, np.ndarray) else X.iloc[[position]]


def _code(parts: FittedModel, target: Any, prediction: np.ndarray) -> int | None:
    if parts.classes is None:
        if target is not None:
            raise ValueError(f"target names a class, but the model is a regressor; got {target!r}. Leave it out.")
        return None
    return int(np.argmax(prediction)) if target is None else int(parts.encode_labels([target])[0])


def _prediction(parts: FittedModel, said: Any) -> Any:
    if parts.classes is None:
        return float(said)
    return pd.Series(said, index=pd.Index(parts.classes.tolist(), name="class"), name="probability")
