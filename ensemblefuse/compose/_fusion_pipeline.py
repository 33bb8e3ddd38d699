"""The pipeline from a raw table to a fused prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import CCA, PLSSVD, PLSCanonical, PLSRegression
from sklearn.feature_selection import SelectKBest, SelectorMixin, SelectPercentile, SequentialFeatureSelector
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import get_tags

from ensemblefuse.blocks import SEPARATOR
from ensemblefuse.compose._modality_transformer import ModalityTransformer
from ensemblefuse.encoders import (
    BaseEncoder,
)
from ensemblefuse.features import PresentRows
from ensemblefuse.fusion import DecisionFusionClassifier
from ensemblefuse.modalities import top_steps
from ensemblefuse.table import list_columns

__all__ = ["make_fusion_pipeline"]

# Transformers that need y, although their tags do not say so.
_SUPERVISED = (SelectKBest, SelectPercentile, SequentialFeatureSelector, PLSCanonical, PLSRegression, PLSSVD, CCA)


# Transformers that pass y on to the estimators inside them. Others, such as imputers, fit these on parts of X.
_HAND_Y_ON = (Pipeline, FeatureUnion, ColumnTransformer, SelectorMixin, PresentRows)


def make_fusion_pipeline(modalities: Sequence[tuple[str, Any, Any]], fusion: Any = None) -> Pipeline:
    """Build a scikit-learn pipeline of two steps: ``encode`` (all modalities) and ``fuse`` (a fusion estimator).

    Parameters
    ----------
    modalities : list of (name, encoder, columns)
        `encoder` is an encoder, any transformer, a pipeline of these, ``"passthrough"`` for a block of raw cells, or
        ``"drop"``. `columns` is a column name or a list of names. `infer_modalities` makes such a list.
    fusion : estimator, optional
        By default ``DecisionFusionClassifier()``.

    Returns
    -------
    Pipeline
        It takes pandas and polars frames and dicts of columns.

    Notes
    -----
    Transformers are wrapped in `PresentRows`, so that they do not see rows without the modality. A pipeline without
    encoders is wrapped as a whole, so that sparse steps such as TF-IDF stay sparse inside it. In a pipeline with an
    encoder, each other step is wrapped alone. The names of parameters do not change:
    ``encode__tabular__pca__n_components`` for ``("tabular", make_pipeline(StandardScaler(), PCA()), ...)``,
    ``encode__text__pca__n_components`` for ``("text", make_pipeline(TextEncoder(), StandardScaler(), PCA()), ...)``,
    and ``encode__tabular__n_components`` for ``("tabular", PCA(), ...)``.

    Some fusions do the encoding themselves; their class has ``_encodes = True``. Such a fusion gets the encoders as its
    parameter `encoders`, and the raw cells of each modality under its name. `CascadeFusionClassifier` is one: it
    encodes only as many modalities of a row as it needs. The names of parameters then are
    ``fuse__encoders__image__device`` instead of ``encode__image__device``.

    Raises
    ------
    ValueError
        If a name is used twice or contains ``"__"``, or if an encoder learns from labels. Such a transformer belongs in
        the fusion estimator, where it is fitted again in every inner fold.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import FunctionEncoder, make_fusion_pipeline, DecisionFusionClassifier
    >>> titles = ["a cat", "old cat", "my cat", "dog!", "dog!!", "dogs!"]
    >>> df = pd.DataFrame({"title": titles, "price": [1, 2, 1, 8, 9, 9]})
    >>> text = FunctionEncoder(lambda title: [title.count("!"), len(title)])
    >>> modalities = [("text", text, "title"), ("tabular", "passthrough", ["price"])]
    >>> model = make_fusion_pipeline(modalities, DecisionFusionClassifier(cv=3))
    >>> model.fit(df, ["cat"] * 3 + ["dog"] * 3).predict({"title": ["hot dog!"], "price": [9]})
    array(['dog'], dtype='<U3')
    """
    checked = [_check_modality(modality) for modality in modalities]
    names = [name for name, _, _ in checked]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not names:
        raise ValueError(f"modalities must have distinct names, at least one; got {repeated or 'an empty list'}.")
    fusion = DecisionFusionClassifier() if fusion is None else fusion
    guarded = [(name, _guard(encoder), columns) for name, encoder, columns in checked]
    if getattr(fusion, "_encodes", False):
        guarded, fusion = _hand_over(guarded, fusion)
    encode = ModalityTransformer(guarded)
    encode.set_output(transform="pandas")
    return Pipeline([("encode", encode), ("fuse", fusion)])


def _hand_over(modalities: list[tuple[str, Any, Any]], fusion: Any) -> tuple[list[tuple[str, Any, Any]], Any]:
    """Return modalities that pass raw cells through, and a clone of the fusion with their encoders."""
    encoders = {name: encoder for name, encoder, _ in modalities if not isinstance(encoder, str)}
    given = dict(fusion.encoders or {})
    twice = sorted(set(given) & set(encoders))
    if twice:
        raise ValueError(f"{type(fusion).__name__} already has encoders of {twice}; name them in one place only.")
    raw = [
        (name, "passthrough" if name in encoders else encoder, list_columns(columns))
        for name, encoder, columns in modalities
    ]
    return raw, clone(fusion).set_params(encoders={**given, **encoders})


def _check_modality(modality: Any) -> tuple[str, Any, Any]:
    try:
        name, encoder, columns = modality
    except (TypeError, ValueError):
        raise ValueError(f"A modality must be (name, encoder, columns); got {modality!r}.") from None
    if not isinstance(name, str) or not name or SEPARATOR in name:
        raise ValueError(f"The name of a modality must be a str without {SEPARATOR!r}; got {name!r}.")
    for step in top_steps(encoder):
        if isinstance(step, str) or step is None:
            continue
        if not hasattr(step, "transform"):
            raise TypeError(f"Modality {name!r}: {step!r} is not a transformer: it has no transform method.")
        if _learns_from_labels(step):
            raise ValueError(
                f"Modality {name!r}: {type(step).__name__} learns from labels, so it must be fitted again in every "
                f"inner fold. Put it before the block's estimator instead: DecisionFusionClassifier({{{name!r}: "
                f"make_pipeline({type(step).__name__}(...), ...)}})."
            )
    if encoder == "passthrough" and isinstance(columns, str):
        columns = [columns]  # with a plain name, the transformer gets a Series, and "passthrough" cannot take it
    return name, encoder, columns


def _learns_from_labels(step: Any) -> bool:
    """Return whether a transformer, or any estimator that it passes y on to, is fitted on y."""
    if not isinstance(step, BaseEstimator):
        return False
    if isinstance(step, _SUPERVISED) or _predicts(step) or get_tags(step).target_tags.required:
        return True
    if not isinstance(step, _HAND_Y_ON):
        return False
    held = [part for name, part in step.get_params(deep=True).items() if SEPARATOR not in name]
    return any(_learns_from_labels(part) for part in held)


def _predicts(part: Any) -> bool:
    return is_classifier(part) or is_regressor(part)


def _guard(encoder: Any) -> Any:
    """Wrap everything except encoders in `PresentRows`."""
    if encoder is None or isinstance(encoder, (str, BaseEncoder, PresentRows)):
        return encoder
    if not isinstance(encoder, Pipeline):
        return PresentRows(encoder)
    if _holds_encoder(encoder) or all(step is None or isinstance(step, str) for step in top_steps(encoder)):
        # An encoder's output is dense, so one PresentRows per step costs no memory, and parameters keep their names.
        return Pipeline([(name, _guard(step)) for name, step in encoder.steps], memory=encoder.memory)
    return PresentRows(Pipeline(list(encoder.steps), memory=encoder.memory))


def _holds_encoder(step: Any) -> bool:
    return isinstance(step, BaseEncoder) or (isinstance(step, Pipeline) and any(map(_holds_encoder, top_steps(step))))
