"""What may stand in a modality: transformers that learn from no label, and see no rows without the modality."""

from __future__ import annotations

from copy import copy
from typing import Any

from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import CCA, PLSSVD, PLSCanonical, PLSRegression
from sklearn.feature_selection import SelectKBest, SelectorMixin, SelectPercentile, SequentialFeatureSelector
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import get_tags

from ensemblefuse.blocks import SEPARATOR
from ensemblefuse.features.present_rows import PresentRows

__all__ = ["check_shape", "check_transformer", "guard"]

# Transformers that need y, although their tags do not say so.
_SUPERVISED = (SelectKBest, SelectPercentile, SequentialFeatureSelector, PLSCanonical, PLSRegression, PLSSVD, CCA)

# Transformers that pass y on to the estimators inside them. Others, such as imputers, fit these on parts of X.
_HAND_Y_ON = (Pipeline, FeatureUnion, ColumnTransformer, SelectorMixin, PresentRows)


def guard(encoder: Any) -> Any:
    """Wrap everything except encoders in `PresentRows`, so that it neither sees nor fills rows without the modality.

    An encoder leaves such rows alone by itself. A pipeline without encoders is wrapped as a whole, so that sparse steps
    such as TF-IDF stay sparse inside it. In a pipeline with an encoder, each other step is wrapped alone, because the
    encoder may add rows to the missing ones. The names of parameters do not change.
    """
    if encoder is None or isinstance(encoder, (str, PresentRows)) or _encodes(encoder):
        return encoder
    if not isinstance(encoder, Pipeline):
        return PresentRows(encoder)
    steps = [step for _, step in encoder.steps]
    if _holds_encoder(encoder) or all(step is None or isinstance(step, str) for step in steps):
        # An encoder's output is dense, so one PresentRows per step costs no memory.
        guarded = copy(encoder)
        guarded.steps = [(name, guard(step)) for name, step in encoder.steps]
        return guarded
    return PresentRows(encoder)


def _encodes(step: Any) -> bool:
    """Return whether a step is an encoder: it reads cells one by one. This room does not know their class."""
    return hasattr(step, "encode_batch")


def _holds_encoder(step: Any) -> bool:
    if isinstance(step, Pipeline):
        return any(_holds_encoder(inner) for _, inner in step.steps)
    if isinstance(step, ColumnTransformer):
        return any(_holds_encoder(inner) for _, inner, _ in step.transformers)
    if isinstance(step, FeatureUnion):
        return any(_holds_encoder(inner) for _, inner in step.transformer_list)
    return _encodes(step)


def check_transformer(name: str, encoder: Any) -> None:
    """Raise an error if something in a modality is no transformer, or learns from labels.

    Raises
    ------
    TypeError
        If a step has no ``transform``.
    ValueError
        If a step learns from labels: it would be fitted outside the inner folds.
    """
    if encoder is None:
        raise TypeError(f"Modality {name!r} has no transformer, but None; write 'passthrough' or 'drop'.")
    for step in [inner for _, inner in encoder.steps] if isinstance(encoder, Pipeline) else [encoder]:
        if isinstance(step, str) or step is None:
            continue
        if isinstance(step, type) or not hasattr(step, "transform"):
            hint = f"; did you mean {step.__name__}()?" if isinstance(step, type) else ""
            raise TypeError(f"Modality {name!r}: {step!r} is not a transformer: it has no transform method{hint}.")
        learner = _learner(step)
        if learner is not None:
            kind = type(step).__name__
            if getattr(step, "reads_cells", False):
                raise ValueError(
                    f"Modality {name!r}: {kind} learns from labels, so it must be fitted again in every inner fold. It "
                    f"is the estimator of the block, which gets raw cells: ({name!r}, 'passthrough', [column]) among "
                    f"the modalities, and DecisionFusionClassifier({{{name!r}: {kind}(...)}})."
                )
            inner = f", because of its {type(learner).__name__}" if learner is not step else ""
            raise ValueError(
                f"Modality {name!r}: {kind} learns from labels{inner}, so it must be fitted again in every inner fold. "
                f"Put it before the block's estimator instead: DecisionFusionClassifier({{{name!r}: "
                f"make_pipeline({kind}(...), ...)}})."
            )


def check_shape(name: str, encoder: Any, columns: Any) -> None:
    """Raise an error if a transformer of scikit-learn gets a column where it takes a table, or the contrary.

    With ``"size"`` a transformer gets one column, with ``["size"]`` a table of one column.
    """
    first = encoder
    while isinstance(first, Pipeline) and first.steps:
        first = first.steps[0][1]
    if not type(first).__module__.startswith("sklearn.") or isinstance(first, FeatureUnion):
        return  # the tags of other classes are often the inherited ones, and a union takes what its parts take
    tags = get_tags(first)
    takes_texts = tags.input_tags.string and not tags.input_tags.two_d_array
    takes_table = tags.input_tags.two_d_array and not (tags.input_tags.one_d_array or tags.no_validation)
    kind = type(first).__name__
    if isinstance(columns, str) and takes_table:
        raise ValueError(f"Modality {name!r}: {kind} takes a table, so its columns are a list: [{columns!r}].")
    if isinstance(columns, list) and takes_texts:
        raise ValueError(
            f"Modality {name!r}: {kind} takes one column of texts, so its columns are one name"
            f"{f': {columns[0]!r}' if len(columns) == 1 else f', and not {columns}'}."
        )


def _learner(step: Any) -> Any:
    """Return the transformer, or the estimator that it passes y on to, that is fitted on y; None if there is none."""
    if not isinstance(step, BaseEstimator):
        return None
    parts: list[Any] = []
    if isinstance(step, _HAND_Y_ON):
        held = [part for name, part in step.get_params(deep=True).items() if SEPARATOR not in name]
        parts = [found for found in map(_learner, held) if found is not None]
    learns = isinstance(step, _SUPERVISED) or _predicts(step) or get_tags(step).target_tags.required
    if isinstance(step, SelectorMixin):
        return step if learns or parts else None
    return parts[0] if parts else step if learns else None


def _predicts(part: Any) -> bool:
    return is_classifier(part) or is_regressor(part)
