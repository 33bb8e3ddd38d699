"""The interface from a raw table to a fused model."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from joblib import effective_n_jobs
from sklearn import get_config
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.cross_decomposition import CCA, PLSSVD, PLSCanonical, PLSRegression
from sklearn.feature_selection import SelectKBest, SelectorMixin, SelectPercentile, SequentialFeatureSelector
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import get_tags
from sklearn.utils._set_output import _get_output_config

from ensemblefuse.blocks import SEPARATOR
from ensemblefuse.column_kinds import column_kind
from ensemblefuse.encoders import (
    AudioEncoder,
    BaseEncoder,
    GraphEncoder,
    ImageEncoder,
    PrecomputedEncoder,
    TextEncoder,
    TimeSeriesEncoder,
    VideoEncoder,
)
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.features import PresentRows
from ensemblefuse.fusion import DecisionFusionClassifier
from ensemblefuse.modalities import top_steps
from ensemblefuse.table import list_columns, plain_missing, to_frame

__all__ = ["ModalityTransformer", "infer_modalities", "make_fusion_pipeline"]

# Transformers that need y, although their tags do not say so.
_SUPERVISED = (SelectKBest, SelectPercentile, SequentialFeatureSelector, PLSCanonical, PLSRegression, PLSSVD, CCA)
# Transformers that pass y on to the estimators inside them. Others, such as imputers, fit these on parts of X.
_HAND_Y_ON = (Pipeline, FeatureUnion, ColumnTransformer, SelectorMixin, PresentRows)

_ENCODERS: dict[str, type[BaseEncoder]] = {
    "image": ImageEncoder,
    "audio": AudioEncoder,
    "video": VideoEncoder,
    "text": TextEncoder,
    "series": TimeSeriesEncoder,
    "embedding": PrecomputedEncoder,
    "graph": GraphEncoder,
}
_SHOWN_COLUMNS = 3
_KINDS = (*_ENCODERS, "number", "category", "drop")


# Names of the columns that a fitted transformer gives, with the values that they depend on. A cache, not state.
_names_out: WeakKeyDictionary[Any, tuple[Any, Any, Any]] = WeakKeyDictionary()


class _OneFrame:
    """The `transform` of `ModalityTransformer`. It calls scikit-learn's unless `_one_frame` can do the work.

    This class is not a subclass of a transformer: `set_output` wraps the methods of such classes, and would name all
    columns again at each call.
    """

    def transform(self: Any, X: Any, **params: Any) -> Any:
        """Return the blocks of new rows; see `fit_transform`."""
        X = to_frame(X)
        if hasattr(self, "numeric_columns_"):
            X = self._complete(X)
        X = plain_missing(X)
        blocks = None if params else _one_frame(self, X)
        return ColumnTransformer.transform(self, X, **params) if blocks is None else blocks


def _one_frame(encode: Any, X: pd.DataFrame) -> pd.DataFrame | None:
    """Return the blocks as one frame, or None if scikit-learn must do more than put them side by side.

    scikit-learn makes a frame of each modality, and names all columns three times per call. For one row and 2 000
    columns, this takes ten times as long as all other work except the networks. Here the embeddings become one frame,
    and its names are already known.
    """
    fitted = _columns_of_fitted(encode, X)
    if not fitted:
        return None
    parts = [_block(transformer, X[columns]) for transformer, columns in fitted]
    if any(part is None or not part.index.equals(X.index) for part in parts if not isinstance(part, np.ndarray)):
        return None
    names = _known_names(encode, [part.shape[1] for part in parts])
    if names is None:
        return None
    if all(isinstance(part, np.ndarray) for part in parts):
        return pd.DataFrame(np.hstack(parts), index=X.index, columns=names)
    frames = [pd.DataFrame(part, index=X.index) if isinstance(part, np.ndarray) else part for part in parts]
    return pd.concat(frames, axis=1, ignore_index=True).set_axis(names, axis=1)


def _columns_of_fitted(encode: Any, X: pd.DataFrame) -> list[tuple[Any, Any]]:
    """Return transformers and their columns; an empty list unless they run one after another and give pandas frames."""
    plain = hasattr(encode, "transformers_") and not (encode.sparse_output_ or encode.transformer_weights)
    if not plain or not _gives_pandas(encode) or get_config()["enable_metadata_routing"]:
        return []
    if not len(X) or effective_n_jobs(encode.n_jobs) != 1:
        return []
    used = [(t, columns) for _, t, columns in encode.transformers_ if not (isinstance(t, str) and t == "drop")]
    for transformer, columns in used:
        listed = list_columns(columns)
        if not (listed and all(isinstance(c, str) and c in X.columns for c in listed)):
            return []
        if isinstance(transformer, BaseEncoder) and not _gives_pandas(transformer):
            return []
    return used


def _gives_pandas(transformer: Any) -> bool:
    return _get_output_config("transform", transformer)["dense"] == "pandas"


def _block(transformer: Any, cells: Any) -> Any:
    """Return an array of embeddings, or the frame of another transformer; None for anything else."""
    if isinstance(transformer, BaseEncoder) and type(transformer).transform is BaseEncoder.transform:
        return transformer._embed(cells)
    block = transformer.transform(cells)
    return block if isinstance(block, pd.DataFrame) else None


def _known_names(encode: Any, widths: list[int]) -> pd.Index | None:
    """Return the names of the columns, made once per fit; None if their number differs from the number of columns."""
    key = (encode.verbose_feature_names_out, widths)
    transformers, known_key, names = _names_out.get(encode, (None, None, None))
    if transformers is encode.transformers_ and known_key == key:
        return names
    names = pd.Index(encode.get_feature_names_out(), tupleize_cols=False)
    if len(names) != sum(widths):
        return None
    _names_out[encode] = (encode.transformers_, key, names)
    return names


class ModalityTransformer(_OneFrame, ColumnTransformer):
    """A `ColumnTransformer` whose columns are modalities. Each of them may be absent at prediction.

    It takes the same tables as `to_frame` (pandas, polars, dict of columns). If a later table lacks a column seen in
    fit, the modality of this column is missing, and one warning names it. In columns without numbers, missing cells
    (None, `pandas.NA`) become NaN for the transformers, because scikit-learn accepts NaN. `make_fusion_pipeline` makes
    such a transformer.

    Attributes
    ----------
    numeric_columns_ : list of str
        Columns that held numbers in fit.
    """

    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Fit all modalities and return their blocks.

        Parameters
        ----------
        X : DataFrame (pandas or polars) or dict of columns, of n_samples rows
        y : ignored
            No transformer of the modalities gets it.

        Returns
        -------
        DataFrame of shape (n_samples, n_features)
            Columns named ``modality__feature``.
        """
        X = to_frame(X)
        self._require_columns(X)
        self.numeric_columns_ = [str(c) for c in X.columns if pd.api.types.is_numeric_dtype(X[c].dtype)]
        # y stops here: a transformer that learns from labels at this level would leak into every inner fold.
        return super().fit_transform(plain_missing(X), None, **params)

    def set_params(self, **params: Any) -> Self:
        """Set parameters. In a fitted model, `device`, `batch_size` and `on_error` of encoders take effect at once."""
        super().set_params(**params)
        for key, value in params.items() if hasattr(self, "transformers_") else ():
            name, _, path = key.partition("__")
            owner, _, param = path.rpartition("__")
            fitted = self.named_transformers_.get(name)
            if owner and hasattr(fitted, "get_params"):
                fitted = fitted.get_params(deep=True).get(owner)
            if isinstance(fitted, BaseEncoder) and param in fitted.neutral_params:
                fitted.set_params(**{param: value})
        return self

    def _sk_visual_block_(self):
        """Return the boxes for scikit-learn's HTML diagram: modalities side by side, each with its columns."""
        block = super()._sk_visual_block_()
        block.names = [
            f"{name}: {_short(columns)}" for name, columns in zip(block.names, block.name_details, strict=True)
        ]
        return block

    def _wanted(self) -> dict[str, list]:
        """Return the columns of each modality, by name."""
        wanted = {}
        for name, transformer, columns in self.transformers:
            if isinstance(transformer, str) and transformer == "drop":
                continue
            columns = list_columns(columns)
            if all(isinstance(column, str) for column in columns):
                wanted[name] = columns
        return wanted

    def _require_columns(self, X: pd.DataFrame) -> None:
        for name, columns in self._wanted().items():
            absent = [column for column in columns if column not in X.columns]
            if absent:
                near = difflib.get_close_matches(absent[0], [str(c) for c in X.columns], n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"Modality {name!r} names columns that X lacks: {absent}; X has {list(X.columns)}.{hint}"
                )

    def _complete(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return X with a column of missing cells for each absent column."""
        absent = {
            name: [c for c in columns if c not in X.columns]
            for name, columns in self._wanted().items()
            if any(c not in X.columns for c in columns)
        }
        if not absent:
            return X
        if all(len(absent.get(name, ())) == len(columns) for name, columns in self._wanted().items()):
            raise ValueError(f"X has none of the columns that the model was fitted on: {self._wanted()}.")
        facts = "; ".join(f"{columns} of modality {name!r}" for name, columns in absent.items())
        warnings.warn(
            f"X lacks the columns {facts}. They are missing in all {len(X)} rows of this call.",
            MissingModalityWarning,
            stacklevel=3,
        )
        new = {
            column: pd.Series(np.nan if column in self.numeric_columns_ else None, index=X.index, dtype=dtype)
            for columns in absent.values()
            for column in columns
            for dtype in [np.float64 if column in self.numeric_columns_ else object]
        }
        return X.assign(**new)


def _short(columns: Any) -> str:
    """Return the column names for the head of a box: up to three names, otherwise their number."""
    listed = list_columns(columns)
    return ", ".join(map(str, listed)) if len(listed) <= _SHOWN_COLUMNS else f"{len(listed)} columns"


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


def infer_modalities(
    df: Any, *, kinds: Mapping[str, str] | None = None, verbose: bool = True
) -> list[tuple[str, Any, Any]]:
    """Propose a modality for each column, and print the choices with their reasons.

    Parameters
    ----------
    df : DataFrame (pandas or polars) or dict of columns
        Only the features; leave out the target.
    kinds : dict of str to str, optional
        Kinds of columns that you know: ``"image"``, ``"audio"``, ``"video"``, ``"text"``, ``"series"``,
        ``"embedding"``, ``"graph"``, ``"number"``, ``"category"`` or ``"drop"``.
    verbose : bool
        Whether to print.

    Returns
    -------
    list of (name, encoder, columns)
        Edit it as you like, and pass it to `make_fusion_pipeline`. Numbers and categories form one modality,
        ``"tabular"``.

    Raises
    ------
    ValueError
        If columns are ambiguous. The message shows how to declare them.

    Examples
    --------
    >>> from ensemblefuse import infer_modalities
    >>> modalities = infer_modalities({"photo": ["a.png", "b.png"], "price": [1.0, 2.5]})
    modality  encoder         columns  why
    image     ImageEncoder()  photo    image files, PIL images or arrays of 2 or 3 dimensions
    tabular   columns         price    dtype float64
    >>> [name for name, _, _ in modalities]
    ['image', 'tabular']
    """
    frame = to_frame(df)
    unnamed = [column for column in frame.columns if not isinstance(column, str)]
    if unnamed:
        raise ValueError(
            f"Names of columns must be str; the table has {unnamed[:5]}. Rename them: "
            "df.columns = df.columns.astype(str)."
        )
    decided = {str(c): _decide(str(c), frame.iloc[:, i], kinds or {}) for i, c in enumerate(frame.columns)}
    unknown = sorted(set(kinds or {}) - set(decided))
    if unknown:
        raise ValueError(f"kinds names columns that the table lacks: {unknown}; it has {list(decided)}.")
    unclear = {column: reason for column, (kind, reason) in decided.items() if kind in ("ambiguous", "empty")}
    if unclear:
        facts = "\n".join(f"  {column!r}: {reason}" for column, reason in unclear.items())
        example = ", ".join(f'{column!r}: "text"' for column in list(unclear)[:2])
        raise ValueError(
            f"The kind of {len(unclear)} columns is ambiguous:\n{facts}\n"
            f"Declare them, as in infer_modalities(df, kinds={{{example}}}). The kinds are {', '.join(_KINDS)}."
        )
    modalities, reasons = _build(decided)
    if verbose:
        _print(modalities, reasons, [c for c, (kind, _) in decided.items() if kind == "drop"])
    return modalities


def _decide(column: str, cells: pd.Series, kinds: Mapping[str, str]) -> tuple[str, str]:
    if column in kinds:
        if kinds[column] not in _KINDS:
            raise ValueError(f"kinds[{column!r}] must be one of {', '.join(_KINDS)}; got {kinds[column]!r}.")
        return kinds[column], "declared"
    kind, reason = column_kind(cells)
    if kind == "number" and _counts_rows(cells):
        return "ambiguous", f"{reason}, every value is the previous one plus 1: a row number is not a feature"
    return kind, reason


def _counts_rows(cells: pd.Series) -> bool:
    return len(cells) > 2 and pd.api.types.is_integer_dtype(cells.dtype) and bool((cells.diff().iloc[1:] == 1).all())


def _build(decided: dict[str, tuple[str, str]]) -> tuple[list[tuple[str, Any, Any]], list[str]]:
    modalities: list[tuple[str, Any, Any]] = []
    reasons = []
    for kind, encoder in _ENCODERS.items():
        columns = [column for column, (found, _) in decided.items() if found == kind]
        for column in columns:
            name = kind if len(columns) == 1 else f"{kind}_{re.sub('_{2,}', '_', column)}"
            modalities.append((name, encoder(), column))
            reasons.append(decided[column][1])
    numbers = [column for column, (kind, _) in decided.items() if kind == "number"]
    categories = [column for column, (kind, _) in decided.items() if kind == "category"]
    if numbers or categories:
        modalities.append(("tabular", _tabular(numbers, categories), numbers + categories))
        reasons.append("; ".join(sorted({decided[column][1] for column in numbers + categories})))
    if not modalities:
        raise ValueError("The table has no column for a modality.")
    return modalities, reasons


def _tabular(numbers: list[str], categories: list[str]) -> ColumnTransformer:
    parts = []
    if numbers:
        parts.append((make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), numbers))
    if categories:
        parts.append((OneHotEncoder(handle_unknown="ignore", sparse_output=False), categories))
    return make_column_transformer(*parts)


def _print(modalities: list, reasons: list[str], dropped: list[str]) -> None:
    rows = [("modality", "encoder", "columns", "why")]
    for (name, encoder, columns), reason in zip(modalities, reasons, strict=True):
        shown = repr(encoder) if isinstance(encoder, BaseEncoder) else "columns"
        rows.append((name, shown, columns if isinstance(columns, str) else ", ".join(columns), reason))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip())
    if dropped:
        print(f"dropped as declared: {', '.join(dropped)}")
