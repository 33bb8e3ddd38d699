"""Splitting of a fitted model into edge parts that encode and a part that fuses."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline
from sklearn.utils._indexing import _get_column_indices

from ensemblefuse.compose import ModalityTransformer
from ensemblefuse.deployment._edge import EdgePart
from ensemblefuse.deployment._sent import heads_of, without_heads
from ensemblefuse.encoders import BaseEncoder, PrecomputedEncoder
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.fusion import DecisionFusionClassifier, DecisionFusionRegressor
from ensemblefuse.table import list_columns

__all__ = ["SplitModel", "check_recipe", "split_model"]

_SEND = ("embeddings", "probabilities")


@dataclass(frozen=True)
class SplitModel:
    """A fitted model in parts; see `split_model`.

    Attributes
    ----------
    edge : dict of str to EdgePart
        The part of each modality. `save_model` can save each part alone; a part does not need the others.
    fusion : Pipeline
        An ordinary fitted pipeline that reads one column of vectors per modality.
    send : {"embeddings", "probabilities"}
    """

    edge: dict[str, EdgePart]
    fusion: Pipeline
    send: str


def split_model(model: Any, *, send: str = "embeddings") -> SplitModel:
    """Split a fitted model into an edge part for each modality and a fusion part that sees only their vectors.

    Parameters
    ----------
    model : fitted Pipeline as `make_fusion_pipeline` makes, or fitted search over these
        It is not changed; the parts share its fitted encoders and heads.
    send : {"embeddings", "probabilities"}
        What an edge part sends. ``"embeddings"``: the block of the modality, after the steps that follow its encoder.
        ``"probabilities"``: the predictions of the modality's fitted heads, with their temperatures (numbers in
        regression); only for decision-level fusion. The fusion part then holds the pool and its calibration, no heads.

    Returns
    -------
    SplitModel
        With ``edge`` and ``fusion``.

    Raises
    ------
    TypeError
        If the model is not a pipeline that begins with a `ModalityTransformer`; for ``"probabilities"``, if its fusion
        is not decision-level.
    ValueError
        If a block holds raw cells, or the fusion reads the texts of a modality beside its vectors
        (``"probabilities"`` takes both); if the fusion encodes by
        itself; if columns pass as the remainder. For ``"probabilities"``, if blocks are not modalities, or a modality
        has no member.

    Warns
    -----
    UserWarning
        For ``"probabilities"``, if the model has a joint member. It needs all blocks at once and is left out; the
        fusion part predicts as the model does for rows without that member. The warning has the out-of-fold loss with
        and without it.

    See Also
    --------
    check_recipe, PartialRows

    Notes
    -----
    The fusion part predicts as the whole model does, also for rows that lack modalities, up to the rounding of vectors
    to float32. You can save, inspect and explain it and predict with it as with any model: if a modality has not
    arrived, its cell is missing. A vector of another length is an `EncodingError` that names the modality.

    Vectors are not private: inputs can be rebuilt from embeddings of images (Dosovitskiy and Brox, CVPR 2016) and of
    texts (Morris et al., EMNLP 2023); `EmbeddingNoise` bounds what they reveal. The fusion part still holds the labels
    and out-of-fold predictions of the training rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import DecisionFusionClassifier, FunctionEncoder, make_fusion_pipeline, split_model
    >>> titles = ["a cat", "old cat", "my cat", "dog!", "dog!!", "dogs!"]
    >>> df = pd.DataFrame({"title": titles, "price": [1, 2, 1, 8, 9, 9]})
    >>> text = FunctionEncoder(lambda title: [title.count("!"), len(title)])
    >>> modalities = [("text", text, "title"), ("tabular", "passthrough", ["price"])]
    >>> model = make_fusion_pipeline(modalities, DecisionFusionClassifier(joint=False, cv=3))
    >>> parts = split_model(model.fit(df, ["cat"] * 3 + ["dog"] * 3), send="probabilities")
    >>> sent = parts.edge["text"].transform({"title": ["dog!!!"]})
    >>> parts.fusion.predict(sent.assign(tabular=None))
    array(['dog'], dtype='<U3')
    """
    if send not in _SEND:
        raise ValueError(f"send must be one of {_SEND}; got {send!r}.")
    parts = FittedModel(model)
    encode = parts.model[0] if isinstance(parts.model, Pipeline) else None
    if not isinstance(encode, ModalityTransformer):
        raise TypeError(
            "split_model takes a fitted pipeline that begins with a ModalityTransformer, as make_fusion_pipeline makes "
            f"it; got {type(parts.model).__name__}"
            + (f" of {type(encode).__name__}, ..." if encode is not None else ".")
        )
    if getattr(parts.core, "_encodes", False):
        raise ValueError(f"{type(parts.core).__name__} holds its own encoders, so there is nothing to split.")
    rest = _modalities(encode).get("remainder")
    if rest is not None:
        raise ValueError(f'The columns {rest[1]} pass as remainder="passthrough"; declare them as a modality.')
    return _send_embeddings(parts, encode) if send == "embeddings" else _send_probabilities(parts, encode)


def check_recipe(fusion: Any, recipes: Mapping[str, str]) -> None:
    """Raise if vectors were made in another way than those that the fusion part expects, even if their length is right.

    Parameters
    ----------
    fusion : Pipeline
        The fusion part of `split_model`, also after saving and loading.
    recipes : dict of str to str
        Results of `EdgePart.digest` from where the vectors were made, for some or all modalities.

    Raises
    ------
    ValueError
        If a digest differs; the message has the modality and both digests. If the fusion part lacks the modality.

    Notes
    -----
    A digest finds mistakes, such as an encoder of another release. It does not prevent forgery: someone who sends false
    vectors can send the right digest with them.

    Examples
    --------
    >>> from ensemblefuse import check_recipe, load_model
    >>> check_recipe(load_model("fusion.fuse"), {"image": sent_digest})  # doctest: +SKIP
    """
    wanted = getattr(fusion[0], "recipes_", None) if isinstance(fusion, Pipeline) else None
    if wanted is None:
        raise ValueError("check_recipe takes the fusion part of split_model; this model has no recipes.")
    unknown = sorted(set(recipes) - set(wanted))
    if unknown:
        raise ValueError(f"recipes names the modalities {unknown}; the fusion part has {list(wanted)}.")
    for name, found in recipes.items():
        if found != wanted[name]:
            raise ValueError(
                f"Modality {name!r}: the vectors were made by the recipe {found!r}, and the fusion part was split for "
                f"{wanted[name]!r}. Make the vectors with the edge part of the same split_model."
            )


def _modalities(encode: ModalityTransformer) -> dict[str, tuple[Any, Any]]:
    """Return the fitted transformer and the columns of each modality, in the order of the blocks."""
    found, table = {}, pd.DataFrame(columns=encode.feature_names_in_)
    for name, transformer, columns in encode.transformers_:
        if not isinstance(transformer, str):  # "drop"
            if not isinstance(columns, str):  # also a slice or a mask
                columns = table.columns[_get_column_indices(table, columns)].tolist()
            found[name] = (transformer, columns)
    return found


def _send_embeddings(parts: FittedModel, encode: ModalityTransformer) -> SplitModel:
    raw = list(getattr(parts.core, "raw_blocks_", ()))
    if raw:
        raise ValueError(
            f"The blocks {raw} hold raw cells, so there is no vector to send. Give them an encoder, or pass "
            'send="probabilities", which puts their heads on the edge.'
        )
    words = list(getattr(parts.core, "word_columns_", ()))
    if words:
        raise ValueError(
            f"The fusion also reads the texts of the modalities {words}, which would have to leave the edge. Pass "
            'send="probabilities", which puts their heads on the edge, or fit with TextEncoder(words=False) and '
            "StringFeatures(words=False)."
        )
    edge, widths = {}, {}
    for name, (transformer, columns) in _modalities(encode).items():
        edge[name] = EdgePart(
            name, columns, transformer, states=_states(transformer), schema=_schema_of(parts, columns)
        )
        span = encode.output_indices_[name]
        widths[name] = span.stop - span.start
    arrivals = _arrivals(edge, widths)
    steps = copy.deepcopy(parts.model.steps[1:])
    _rename(steps, dict(zip(encode.get_feature_names_out(), arrivals.get_feature_names_out(), strict=True)))
    return SplitModel(edge, Pipeline([(parts.model.steps[0][0], arrivals), *steps]), "embeddings")


def _send_probabilities(parts: FittedModel, encode: ModalityTransformer) -> SplitModel:
    core, modalities = parts.core, _modalities(encode)
    conformal = hasattr(parts.fusion, "fusion_")
    if not isinstance(core, (DecisionFusionClassifier, DecisionFusionRegressor)) or conformal or len(parts.model) > 2:
        steps = ", ".join(type(step).__name__ for _, step in parts.model.steps[1:])
        raise TypeError(
            'send="probabilities" takes a pipeline of encoders and decision-level fusion, whose members see one '
            f'modality each; after its encoders, this pipeline has {steps}. Pass send="embeddings".'
        )
    if core.blocks is not None or set(core.blocks_) - set(modalities):
        raise ValueError(
            f'send="probabilities" needs one block per modality; the blocks are {list(core.blocks_)} and the '
            f'modalities {list(modalities)}. Leave out blocks=, or pass send="embeddings".'
        )
    n_classes = len(core.classes_) if core._classify else 0
    edge, widths = {}, {}
    for name in core._used_blocks():
        heads = heads_of(core, name)
        if not heads:
            raise ValueError(
                f"Modality {name!r} has no fitted member: it had too few rows, or only one class. Leave it out with "
                f'estimators={{{name!r}: "drop"}}.'
            )
        transformer, columns = modalities[name]
        edge[name] = EdgePart(
            name,
            columns,
            transformer,
            heads=heads,
            n_classes=n_classes,
            raw=name in core.raw_blocks_,
            partial=name in core._partial_blocks(),
            states=[*_states(transformer), _state(heads)],
            schema=_schema_of(parts, columns),
        )
        widths[name] = len(heads) * max(n_classes, 1)
    arrivals = _arrivals(edge, widths)
    names = [step for step, _ in parts.model.steps]
    return SplitModel(edge, Pipeline([(names[0], arrivals), (names[1], without_heads(core, widths))]), "probabilities")


def _schema_of(parts: FittedModel, columns: Any) -> dict[str, Any]:
    return {column: parts.schema[column] for column in list_columns(columns) if column in parts.schema}


def _arrivals(edge: Mapping[str, EdgePart], widths: Mapping[str, int]) -> ModalityTransformer:
    """Return the step that reads arriving vectors, fitted on a row of zeros of the right lengths."""
    arrivals = ModalityTransformer([(name, PrecomputedEncoder(), name) for name in widths])
    arrivals.set_output(transform="pandas")
    cells = {name: pd.Series([np.zeros(width, dtype=np.float32)], dtype=object) for name, width in widths.items()}
    arrivals.fit(pd.DataFrame(cells))
    arrivals.recipes_ = {name: part.digest() for name, part in edge.items()}
    return arrivals


def _states(transformer: Any) -> list[str]:
    """Return digests of the fitted steps that are not encoders: encoders have a recipe."""
    steps = [step for _, step in transformer.steps] if isinstance(transformer, Pipeline) else [transformer]
    return [_state(step) for step in steps if not isinstance(step, BaseEncoder)]


def _state(part: Any) -> str:
    try:
        return str(joblib.hash(part, hash_name="sha1"))
    except Exception:  # it cannot be pickled: use a random state, which only parts of this split share
        return secrets.token_hex(20)


def _rename(steps: Any, new: Mapping[str, str]) -> None:
    """Replace the names of encoded columns that fitted parts remember with the new names."""
    for _, part in parts_of(steps):
        names = getattr(part, "feature_names_in_", None)
        if names is not None and all(name in new for name in names):
            part.feature_names_in_ = np.array([new[name] for name in names], dtype=object)
        blocks = part.get_params(deep=False).get("blocks") if hasattr(part, "blocks_") else None
        if isinstance(blocks, Mapping):
            part.blocks = {key: _renamed(chosen, new) for key, chosen in blocks.items()}


def _renamed(chosen: Any, new: Mapping[str, str]) -> Any:
    if isinstance(chosen, str):
        return new.get(chosen, chosen)
    if isinstance(chosen, (list, tuple, np.ndarray)):
        return [new.get(c, c) if isinstance(c, str) else c for c in chosen]
    return chosen
