"""The pipeline from a raw table to a fused prediction."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn import get_config
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets

from ensemblefuse._calls import count_rows
from ensemblefuse.blocks import SEPARATOR
from ensemblefuse.compose._modality_transformer import ModalityTransformer
from ensemblefuse.features.guard import check_transformer
from ensemblefuse.fusion import DecisionFusionClassifier
from ensemblefuse.fusion.base import BaseFusion
from ensemblefuse.scoring.inputs import finite_numbers, one_a_row, plain_labels, read_groups, read_weight
from ensemblefuse.table import list_columns

__all__ = ["FusionPipeline", "make_fusion_pipeline"]


class FusionPipeline(Pipeline):
    """A `Pipeline` that checks `y` and the parameters of `fit` before its first step encodes anything.

    `make_fusion_pipeline` makes it. Encoding can take hours, and a missing label should be told before. Parameters and
    attributes are those of `sklearn.pipeline.Pipeline`.
    """

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Check `y` and all parameters, then fit all steps.

        Parameters
        ----------
        X : DataFrame (pandas or polars) or dict of columns, of n_samples rows
        y : array of shape (n_samples,)
        **params : dict
            ``fuse__groups=...`` for the parameter `groups` of the step ``fuse``, and so on.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `y`, weights or groups cannot be used; the message names the rows.
        TypeError
            If a parameter names no step, or the last step takes no such parameter.
        """
        self.check_fit(X, y, **params)
        return super().fit(X, y, **{**self._wishes(), **params})

    def _wishes(self) -> dict[str, Any]:
        """Return parameters of `fit` that tell the first step how the last one reads what it hands on.

        These are the modalities whose texts it reads beside the numbers, and the transformers by which it reads raw
        cells. They are parameters, so that `memory` keeps apart what the first step returns for one fusion and for
        another.
        """
        first, last = self.steps[0][0], self.steps[-1][1]
        names = self._names_of_blocks() if isinstance(last, BaseFusion) else None
        if not names:
            return {}
        encoders = last.encoders if getattr(last, "_encodes", False) else None
        encoders = encoders if isinstance(encoders, Mapping) else {}  # for anything else `fit` has an error
        wishes = {
            "word_modalities": tuple(name for name in names if last._wants_words(name)),
            "readers": {name: encoders[name] for name in names if name in encoders},
        }
        prefix = "" if get_config()["enable_metadata_routing"] else f"{first}{SEPARATOR}"
        return {f"{prefix}{key}": value for key, value in wishes.items() if value}

    def check_fit(self, X: Any, y: Any = None, **params: Any) -> None:
        """Raise the errors of `fit` that need no encoded cell. Parameters are those of `fit`.

        Examples
        --------
        >>> from ensemblefuse import FunctionEncoder, make_fusion_pipeline
        >>> model = make_fusion_pipeline([("text", FunctionEncoder(len), "title")])
        >>> model.check_fit({"title": ["a", "bb", "ccc"]}, ["cat", None, "dog"])
        Traceback (most recent call last):
        ValueError: y is missing in 1 of 3 rows (positions [1]); leave these rows out.
        """
        name, last = self.steps[-1]
        self._check_prefixes(params)
        n_samples = count_rows(X)
        if n_samples is None or not (isinstance(last, BaseFusion) or is_classifier(last) or is_regressor(last)):
            return
        given = self._given_to_last(name, params)
        _check_names(name, last, given)
        if isinstance(last, BaseFusion):
            known = {key: given[key] for key in ("sample_weight", "groups") if key in given}
            last.check_target(y, n_samples, **known, blocks=self._names_of_blocks())
        else:
            _check_target(last, y, n_samples, given)

    @available_if(lambda self: hasattr(self.steps[-1][1], "score"))
    def score(self, X: Any, y: Any = None, sample_weight: Any = None, **params: Any) -> float:
        """Check `y` as `fit` does, then encode and score.

        Parameters
        ----------
        X : DataFrame (pandas or polars) or dict of columns, of n_samples rows
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
        **params : dict
            As in `sklearn.pipeline.Pipeline.score`.

        Returns
        -------
        float
            The score of the last step: accuracy of a classifier, R2 of a regressor.

        Raises
        ------
        ValueError
            If `y` or the weights cannot be used; the message names the rows.
        """
        last, n_samples = self.steps[-1][1], count_rows(X)
        if n_samples is not None and (is_classifier(last) or is_regressor(last)):
            _check_target(last, y, n_samples, {"sample_weight": sample_weight})
        return super().score(X, y, sample_weight, **params)

    @available_if(lambda self: hasattr(self.steps[-1][1], "single_task"))
    def single_task(self, task: Any) -> Self:
        """Return the fitted pipeline of one of several targets; see `NeuralFusionMultiTask.single_task`.

        Parameters
        ----------
        task : column

        Returns
        -------
        FusionPipeline
            Its first steps are those of this pipeline.
        """
        *first, (name, last) = self.steps
        return type(self)([*first, (name, last.single_task(task))])

    def _check_prefixes(self, params: dict[str, Any]) -> None:
        """Raise an error for parameters that name no step; with metadata routing, they need none."""
        bare = [key for key in params if SEPARATOR not in key]
        if bare and not get_config()["enable_metadata_routing"]:
            last = self.steps[-1][0]
            raise TypeError(
                f"fit got {bare}; a parameter begins with the name of its step: "
                f"{', '.join(f'{last}{SEPARATOR}{key}={key}' for key in bare)}."
            )

    def _names_of_blocks(self) -> list[str] | None:
        """Return the names of the modalities, if the last step will see them as its blocks."""
        encode, own = self.steps[0][1], getattr(self.steps[-1][1], "blocks", None)
        plain = len(self.steps) == 2 and isinstance(encode, ModalityTransformer) and own is None
        if not plain or encode.remainder != "drop" or encode.verbose_feature_names_out is not True:
            return None
        names = [name for name, t, _ in encode.transformers if not (isinstance(t, str) and t == "drop")]
        return names or None  # without any, the first step says so

    def _given_to_last(self, name: str, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters of `fit` that reach the last step."""
        if get_config()["enable_metadata_routing"]:
            return dict(process_routing(self, "fit", **params)[name].fit) if params else {}
        prefix = f"{name}{SEPARATOR}"
        return {key.removeprefix(prefix): value for key, value in params.items() if key.startswith(prefix)}


def _check_names(name: str, last: Any, given: dict[str, Any]) -> None:
    known = inspect.signature(last.fit).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values()):
        return
    unknown = [key for key in given if key not in known]
    if unknown:
        takes = [key for key in known if key not in ("X", "y")]
        raise TypeError(
            f"fit got {[f'{name}{SEPARATOR}{key}' for key in unknown]}, which {type(last).__name__} does not take; it "
            f"takes {takes}."
        )


def _check_target(last: Any, y: Any, n_samples: int, given: dict[str, Any]) -> None:
    """Raise an error if an estimator that is no fusion cannot use `y`, weights or groups."""
    weight: Any = given.get("sample_weight")
    if np.ndim(weight):
        read_weight(weight, n_samples)
    read_groups(given.get("groups"), n_samples)
    if y is not None and np.ndim(y) and np.shape(y)[0] != n_samples:
        raise ValueError(f"y has {np.shape(y)[0]} values for the {n_samples} rows of X.")
    if y is None or np.ndim(y) != 1:
        return  # several targets, or none: the estimator knows
    target = one_a_row(y, n_rows=n_samples)
    if is_classifier(last):
        check_classification_targets(plain_labels(target))
    elif is_regressor(last):
        finite_numbers(target)


def make_fusion_pipeline(modalities: Sequence[tuple[str, Any, Any]], fusion: Any = None) -> FusionPipeline:
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
    FusionPipeline
        A `Pipeline` that takes pandas and polars frames and dicts of columns.

    Notes
    -----
    In `fit`, transformers are wrapped in `PresentRows`, so that they do not see rows without the modality, also those
    that `set_params` or a grid put in. A pipeline without encoders is wrapped as a whole, so that sparse steps such as
    TF-IDF stay sparse inside it. In a pipeline with an encoder, each other step is wrapped alone. The names of
    parameters do not change:
    ``encode__tabular__pca__n_components`` for ``("tabular", make_pipeline(StandardScaler(), PCA()), ...)``,
    ``encode__text__pca__n_components`` for ``("text", make_pipeline(TextEncoder(), StandardScaler(), PCA()), ...)``,
    and ``encode__tabular__n_components`` for ``("tabular", PCA(), ...)``.

    VotingClassifier, StackingClassifier, CalibratedClassifierCV, OneVsRestClassifier and searches hand tables on as
    they are, so they may stand around such a pipeline. Bagging, AdaBoost, SelfTrainingClassifier and
    ``StackingClassifier(passthrough=True)`` turn a table into an array, where nothing tells the modalities apart, or
    fail on texts. Use them inside the fusion instead, as the estimators of its blocks. Around a fusion alone they work
    if it has ``blocks={"image": slice(0, 3), ...}``; without, a warning says that all columns are one block.

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
    if getattr(fusion, "_encodes", False):
        checked, fusion = _hand_over(checked, fusion)
    encode = ModalityTransformer(checked).set_output(transform="pandas")
    return FusionPipeline([("encode", encode), ("fuse", fusion)])


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
    check_transformer(name, encoder)
    return name, encoder, columns
