"""Privacy loss of a sample, in the units of differential privacy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from ensemblefuse.compose import ModalityTransformer
from ensemblefuse.deployment._edge import EdgePart
from ensemblefuse.deployment._split import SplitModel, _modalities
from ensemblefuse.features import EmbeddingNoise, PresentRows
from ensemblefuse.fitted.model import FittedModel

__all__ = ["privacy_spent"]


def privacy_spent(model: Any, *, n_releases: int = 1) -> pd.DataFrame:
    """Return the epsilon and delta that one sample spends when its modalities are released.

    By basic composition (Dwork and Roth, 2014, Theorem 3.16) the values of all modalities, and of repeated releases,
    add up. A modality without `EmbeddingNoise` has no bound: its epsilon is infinite, and so is the total.

    Parameters
    ----------
    model : fitted Pipeline as `make_fusion_pipeline` makes, fitted search over these, SplitModel, or EdgePart
    n_releases : int
        How often each modality of the sample is released: every `transform` or `predict` draws new noise. Sending the
        same release twice counts once.

    Returns
    -------
    DataFrame
        One row per modality and a last row ``"total"``; columns ``mechanism`` (``"none"`` without noise), ``epsilon``
        and ``delta``.

    Raises
    ------
    TypeError
        If the model has no modalities.
    ValueError
        If `n_releases` is not a whole number of at least 1.

    Notes
    -----
    The bound holds for the output of the noise step and for everything that is computed from it. It is per sample: for
    a person with k samples, the loss is k times as large. Whether a modality is missing is not protected.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.pipeline import make_pipeline
    >>> from ensemblefuse import EmbeddingNoise, FeatureFusionClassifier, FunctionEncoder, make_fusion_pipeline
    >>> from ensemblefuse import privacy_spent, split_model
    >>> df = pd.DataFrame({"title": ["a cat", "old cat", "dog!", "dogs!!"]})
    >>> text = make_pipeline(FunctionEncoder(lambda title: [title.count("!"), len(title)]), EmbeddingNoise(epsilon=2.0))
    >>> model = make_fusion_pipeline([("text", text, "title")], FeatureFusionClassifier()).fit(df, [0, 0, 1, 1])
    >>> privacy_spent(model, n_releases=3)
          mechanism  epsilon  delta
    text    laplace      6.0    0.0
    total              6.0    0.0
    """
    if isinstance(n_releases, bool) or not isinstance(n_releases, (int, np.integer)) or n_releases < 1:
        raise ValueError(f"n_releases must be a whole number of at least 1; got {n_releases!r}.")
    rows = {}
    for name, transformer in _transformers(model).items():
        noise = _noise_in(transformer)
        spent = ("none", np.inf, 0.0) if noise is None else (noise.mechanism, noise.epsilon_, noise.delta_)
        rows[name] = (spent[0], n_releases * spent[1], n_releases * spent[2])
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mechanism", "epsilon", "delta"])
    table.loc["total"] = ["", table["epsilon"].sum(), table["delta"].sum()]
    return table


def _transformers(model: Any) -> dict[str, Any]:
    if isinstance(model, EdgePart):
        return {model.name: model.transformer}
    if isinstance(model, SplitModel):
        return {name: part.transformer for name, part in model.edge.items()}
    whole = FittedModel(model).model
    if not isinstance(whole, Pipeline) or not isinstance(whole[0], ModalityTransformer):
        raise TypeError(
            "privacy_spent takes a fitted pipeline that begins with a ModalityTransformer, as make_fusion_pipeline "
            f"makes it, or a result of split_model; got {type(whole).__name__}."
        )
    return {name: transformer for name, (transformer, _) in _modalities(whole[0]).items()}


def _noise_in(transformer: Any) -> EmbeddingNoise | None:
    """Return the step that adds noise; of several steps the one with the strictest bound: others only add noise."""
    found: list[EmbeddingNoise] = []
    stack = [transformer]
    while stack:
        step = stack.pop()
        if isinstance(step, PresentRows):
            stack.append(step.transformer_)
        elif isinstance(step, Pipeline):
            stack.extend(part for _, part in step.steps)
        elif isinstance(step, EmbeddingNoise):
            found.append(step)
    return min(found, key=lambda noise: (noise.epsilon_, noise.delta_), default=None)
