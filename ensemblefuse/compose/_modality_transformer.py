"""The transformer that turns the columns of a raw table into blocks, one for each modality."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from types import MappingProxyType
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from joblib import effective_n_jobs
from sklearn import get_config
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.metadata_routing import MetadataRequest

from ensemblefuse._calls import plain_inside
from ensemblefuse.blocks import SEPARATOR, WORDS
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.features import TableTransformer
from ensemblefuse.features.forms import check_formats
from ensemblefuse.features.guard import check_shape, check_transformer, guard
from ensemblefuse.features.present_rows import PresentRows, missing_rows
from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.modalities import (
    formats_of,
    names_selected,
    policies_of,
    roles_of_columns,
    row_texts,
    selection,
    settle,
    word_columns,
)
from ensemblefuse.schema import learn_schema, limits_of, read_or_raise, schema_of, warn_of_far_numbers
from ensemblefuse.table import list_columns, similar_names, to_frame

__all__ = ["ModalityTransformer"]


_SHOWN_COLUMNS = 3

# Names of the columns that a fitted transformer gives, with the values that they depend on. A cache, not state.
_names_out: WeakKeyDictionary[Any, tuple[Any, Any, Any]] = WeakKeyDictionary()
# The same with the columns of texts.
_names_with_words: WeakKeyDictionary[Any, tuple[Any, Any]] = WeakKeyDictionary()


class _OneFrame:
    """The `transform` of `ModalityTransformer`. It calls scikit-learn's unless `_one_frame` can do the work.

    This class is not a subclass of a transformer: `set_output` wraps the methods of such classes, and would name all
    columns again at each call.
    """

    # Files of before hand on no texts, and know no readers of raw cells.
    readers_: Mapping[str, Any] = MappingProxyType({})
    word_columns_: Mapping[str, list[str]] = MappingProxyType({})
    # Nor from which numbers on others are far from those of fit.
    numeric_limits_: Mapping[str, list[float]] = MappingProxyType({})
    numeric_summary_: Mapping[str, list[float]] = MappingProxyType({})

    @plain_inside
    def transform(self: Any, X: Any, **params: Any) -> Any:
        """Return the blocks of new rows; see `fit_transform`."""
        X = _named_table(X)
        if hasattr(self, "transformers_"):
            schema = schema_of(self)
            X = read_or_raise(self._complete(X), schema, policies=partial(policies_of, self, schema))
            warn_of_far_numbers(X, self.numeric_limits_, self.numeric_summary_)
        blocks = None if params else _one_frame(self, X)
        if blocks is None:
            blocks = ColumnTransformer.transform(_numbers_alone(self), X, **params)
        return _with_words(self, blocks, X)

    @plain_inside
    def fit_transform(
        self: Any,
        X: Any,
        y: Any = None,
        *,
        word_modalities: str | Sequence[str] = (),
        readers: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Any:
        """Fit all modalities and return their blocks.

        Parameters
        ----------
        X : DataFrame (pandas or polars) or dict of columns, of n_samples rows
        y : ignored
            No transformer of the modalities gets it.
        word_modalities : str or list of str
            Modalities whose texts the next step reads beside their numbers. Those that have no texts are passed over.
            A pipeline of `make_fusion_pipeline` names those of which its fusion reads the words.
        readers : dict of str to transformer, optional
            For modalities that pass through as raw cells: the transformers by which the next step reads them. Their
            columns are then read as they would be for these transformers here, also with the written forms of a
            `TableTransformer`. A pipeline of `make_fusion_pipeline` names the encoders of a fusion that encodes itself.
        **params : dict
            As in `sklearn.compose.ColumnTransformer.fit_transform`.

        Returns
        -------
        DataFrame of shape (n_samples, n_features)
            Columns named ``modality__feature``. For each of `word_modalities` that has texts, also a column
            ``modality__words`` that holds them, the last of all. `transform` gives the same columns.

        Raises
        ------
        TypeError
            If X is no table with named columns, or a modality has no transformer.
        ValueError
            If X lacks a column, a transformer learns from labels, or every modality is dropped.
        """
        X = _named_table(X)
        guarded, rest = self._guarded(X)
        self._require_columns(X)
        declared = _with_readers([*guarded, *_remaining(X, guarded, rest)], readers or {})
        self.schema_ = learn_schema(X, roles_of_columns(declared, X), formats_of(declared, X))
        self.readers_ = {name: part for name, part in (readers or {}).items() if _holds_table(part)}
        self.numeric_columns_ = [column for column, held in self.schema_.items() if held["kind"] == "number"]
        X = read_or_raise(X, self.schema_, fitting=True, policies=partial(policies_of, self, X.columns))
        self.numeric_summary_, self.numeric_limits_ = _summary(X, self.numeric_columns_)
        self.word_columns_ = {}
        # y stops here: a transformer that learns from labels at this level would leak into every inner fold.
        given: Any = self.transformers, self.remainder
        self.transformers, self.remainder = guarded, rest
        try:
            blocks = ColumnTransformer.fit_transform(self, X, None, **params)
        finally:
            self.transformers, self.remainder = given
        wanted = list_columns(word_modalities)
        found = {name: word_columns(part, columns) for name, part, columns in self.transformers_ if name in wanted}
        self.word_columns_ = {name: columns for name, columns in found.items() if columns}
        return _with_words(self, blocks, X)


def _holds_table(reader: Any) -> bool:
    return any(isinstance(part, TableTransformer) for _, part in parts_of(reader))


def _with_readers(modalities: list[tuple[str, Any, Any]], readers: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return modalities with the transformers that will read their raw cells in the place of ``"passthrough"``."""
    return [
        (name, readers.get(name, part) if isinstance(part, str) and part == "passthrough" else part, columns)
        for name, part, columns in modalities
    ]


def _named_table(X: Any) -> pd.DataFrame:
    """Return X as a frame; an error for an array says where it may come from."""
    if isinstance(X, np.ndarray):
        raise TypeError(
            f"X is an array of shape {X.shape} without names of columns, so its modalities are unknown; pass a "
            "DataFrame or a dict of columns. Bagging, AdaBoost, SelfTrainingClassifier and "
            "StackingClassifier(passthrough=True) hand such arrays on, and cannot stand around a pipeline of "
            "modalities: use them inside the fusion, as the estimators of its blocks, or stack and vote without "
            "passthrough."
        )
    return to_frame(X)


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
    if all(isinstance(part, np.ndarray) and part.dtype != object for part in parts):
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
        if not (
            isinstance(columns, (str, list)) and listed and all(isinstance(c, str) and c in X.columns for c in listed)
        ):
            return []
        if isinstance(transformer, BaseEncoder) and not _gives_pandas(transformer):
            return []
    return used


def _gives_pandas(transformer: Any) -> bool:
    return _get_output_config("transform", transformer)["dense"] == "pandas"


def _gives_frames(transformer: Any) -> bool:
    return _get_output_config("transform", transformer)["dense"] != "default"


def _block(transformer: Any, cells: Any) -> Any:
    """Return an array of embeddings, or the frame of another transformer; None for anything else."""
    if isinstance(transformer, BaseEncoder) and type(transformer).transform is BaseEncoder.transform:
        return transformer._embed(cells)
    if type(transformer) is PresentRows and isinstance(cells, pd.DataFrame) and _gives_pandas(transformer):
        # Its names are already known. A copy would have another memory layout, and sums another last bit.
        return pd.DataFrame(transformer.values_of(cells), index=cells.index, copy=False)
    block = transformer.transform(cells)
    return block if isinstance(block, pd.DataFrame) else None


def _known_names(encode: Any, widths: list[int]) -> pd.Index | None:
    """Return the names of the columns, made once per fit; None if their number differs from the number of columns."""
    key = (encode.verbose_feature_names_out, widths)
    transformers, known_key, names = _names_out.get(encode, (None, None, None))
    if transformers is encode.transformers_ and known_key == key:
        return names
    names = pd.Index(ColumnTransformer.get_feature_names_out(encode), tupleize_cols=False)
    if len(names) != sum(widths):
        return None
    _names_out[encode] = (encode.transformers_, key, names)
    return names


def _numbers_alone(encode: Any) -> Any:
    """Return the transformer as scikit-learn knows it: it names the columns of its output, and has no texts."""
    if not encode.word_columns_:
        return encode
    alone = copy(encode)
    alone.word_columns_ = {}
    return alone


def _with_words(encode: Any, blocks: Any, X: pd.DataFrame) -> Any:
    """Return blocks with a column of texts for each modality that has one; None where its numbers are missing."""
    texts = {}
    for name, columns in encode.word_columns_.items():
        block = encode.output_indices_[name]
        lost = missing_rows((blocks[:, block] if _is_polars(blocks) else blocks.iloc[:, block]).to_numpy())
        said = row_texts(X, list_columns(columns))
        texts[f"{name}{SEPARATOR}{WORDS}"] = [None if gone else text for text, gone in zip(said, lost, strict=True)]
    if not texts:
        return blocks
    if _is_polars(blocks):
        return blocks.hstack(type(blocks)(texts))
    table = pd.concat([blocks, pd.DataFrame(texts, index=blocks.index, dtype=object)], axis=1)
    return _with_known_columns(encode, blocks, table)


def _with_known_columns(encode: Any, blocks: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Give a table with texts the same names as the last one, as an object that the fusion knows at once."""
    numbers, names = _names_with_words.get(encode, (None, None))
    if numbers is None or not numbers.is_(blocks.columns):
        if not _is_known(encode, blocks.columns):
            return table
        names = table.columns
        _names_with_words[encode] = blocks.columns, names
    return table.set_axis(names, axis=1)


def _is_known(encode: Any, names: pd.Index) -> bool:
    """Return whether `_known_names` gave these names, so that the next call has the same object."""
    known = _names_out.get(encode, (None, None, None))[2]
    return known is not None and known.is_(names)


def _is_polars(blocks: Any) -> bool:
    return type(blocks).__module__.split(".")[0] == "polars"


class ModalityTransformer(_OneFrame, ColumnTransformer):
    """A `ColumnTransformer` whose columns are modalities. Each of them may be absent at prediction.

    It takes the same tables as `to_frame` (pandas, polars, dict of columns). If a later table lacks a column seen in
    fit, the modality of this column is missing, and one warning names it. In columns without numbers, missing cells
    (None, `pandas.NA`) become NaN for the transformers, because scikit-learn accepts NaN. `make_fusion_pipeline` makes
    such a transformer.

    Its output is always a frame: ``set_output(transform="default")`` gives pandas, because only the names of the
    columns keep the modalities apart. In `fit`, every transformer that is not an encoder is wrapped in `PresentRows`,
    also one that `set_params` or a grid put there.

    Attributes
    ----------
    schema_ : dict of column to dict
        What each column holds, as `ensemblefuse.schema` describes it. Every later table is read by it.
    numeric_columns_ : list
        Columns that are read as numbers.
    numeric_summary_ : dict of str to list of float
        Smallest number, median and largest number of each of these columns in fit. Columns without a number are left
        out.
    numeric_limits_ : dict of str to list of float
        For each of these columns, the numbers below and above which others are far outside the range of fit. They cause
        a `FarNumberWarning`. Files of older versions have none.
    readers_ : dict of str to transformer
        Of the parameter `readers` of `fit_transform`, those that hold a `TableTransformer`. Its `on_error` says what
        becomes of cells that cannot be read.
    word_columns_ : dict of str to list of str
        Columns of texts that are handed on beside the numbers of their modality, by modality.
    """

    transformers: Any
    remainder: Any

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns, those of texts last."""
        names = super().get_feature_names_out(input_features)
        words = [f"{name}{SEPARATOR}{WORDS}" for name in self.word_columns_]
        return np.append(names, np.array(words, dtype=object)) if words else names

    def set_output(self, *, transform: str | None = None) -> Self:
        """Set the kind of frame that is returned: ``"pandas"`` (also for ``"default"``) or ``"polars"``."""
        transform = "pandas" if transform == "default" else transform
        super(ColumnTransformer, self).set_output(transform=transform)
        for _, fitted, _ in getattr(self, "transformers_", ()):
            if hasattr(fitted, "set_output"):
                fitted.set_output(transform=transform)
        return self

    def get_metadata_routing(self) -> Any:
        """Return the routing of metadata: own `word_modalities` and `readers`, and what the guarded transformers take.

        Transformers of modalities take none, as in `fit`.
        """
        guarded = copy(self)
        guarded.transformers = [
            (name, part if isinstance(part, str) else guard(part), columns) for name, part, columns in self.transformers
        ]
        guarded.remainder = self.remainder if isinstance(self.remainder, str) else guard(self.remainder)
        own = MetadataRequest(owner=type(self).__name__)
        own.fit.add_request(param="word_modalities", alias=True)  # also of `fit_transform`
        own.fit.add_request(param="readers", alias=True)
        return ColumnTransformer.get_metadata_routing(guarded).add_self_request(own)

    def _guarded(self, X: pd.DataFrame) -> tuple[list[tuple[str, Any, Any]], Any]:
        """Return clones of all transformers, and of that of the remainder, after checking them, each with its guard.

        Selections that need the cells are names of columns in them.
        """
        if all(isinstance(t, str) and t == "drop" for _, t, _ in self.transformers) and self.remainder == "drop":
            raise ValueError(f"every modality is dropped: {[name for name, _, _ in self.transformers]}; keep one.")
        if not _gives_frames(self):
            self.set_output(transform="pandas")
        container = _get_output_config("transform", self)["dense"]
        guarded = []
        for name, transformer, chosen in self.transformers:
            columns = selection(chosen, X)
            # With a plain name, a transformer gets a Series, and "passthrough" cannot take it.
            is_plain = isinstance(transformer, str) and transformer == "passthrough" and isinstance(columns, str)
            part = _with_guard(name, transformer, container, names_selected(X, columns), X)
            guarded.append((name, part, [columns] if is_plain else columns))
            check_shape(name, transformer, columns)
        rest = [column for _, _, columns in _remaining(X, guarded, self.remainder) for column in columns]
        return guarded, _with_guard("remainder", self.remainder, container, rest, X)

    def set_params(self, **params: Any) -> Self:
        """Set parameters. In a fitted model, `device`, `batch_size` and `on_error` take effect at once."""
        super().set_params(**params)
        for key, value in params.items() if hasattr(self, "transformers_") else ():
            name, _, path = key.partition("__")
            owner, _, param = path.rpartition("__")
            fitted = self.named_transformers_.get(name)
            if owner and hasattr(fitted, "get_params"):
                fitted = fitted.get_params(deep=True).get(owner)
            if isinstance(fitted, BaseEncoder) and param in fitted.neutral_params:
                fitted.set_params(**{param: value})
            elif param == "on_error" and isinstance(getattr(fitted, "transformer", fitted), TableTransformer):
                fitted.set_params(on_error=value)  # for the parts of a split model; `transform` reads `transformers`
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
                near = similar_names(absent, X.columns)
                hint = f" Did you mean {next(iter(near.values()))!r}?" if near else ""
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
            hint = _hint(X, [column for columns in absent.values() for column in columns], self._wanted())
            raise ValueError(f"X has none of the columns that the model was fitted on: {self._wanted()}.{hint}")
        facts = "; ".join(f"{columns} of modality {name!r}" for name, columns in absent.items())
        warnings.warn(
            f"X lacks the columns {facts}. They are missing in all {len(X)} rows of this call."
            f"{_hint(X, [column for columns in absent.values() for column in columns], self._wanted())}",
            MissingModalityWarning,
            stacklevel=4,
        )
        gaps = pd.Series(None, index=X.index, dtype=object)
        return X.assign(**{column: gaps for columns in absent.values() for column in columns})


def _with_guard(name: str, transformer: Any, container: str, columns: list[Any], X: pd.DataFrame) -> Any:
    """Return a clone of a transformer of some columns with its guard; raise if it is none, or learns from labels."""
    check_transformer(name, transformer)
    if isinstance(transformer, str):
        return transformer
    for _, part in parts_of(transformer):
        if isinstance(part, TableTransformer):
            check_formats(part.formats)  # not everything can be cloned
    return guard(settle(clone(transformer), columns, X)).set_output(transform=container)


def _remaining(X: pd.DataFrame, modalities: list[tuple[str, Any, Any]], remainder: Any) -> list[tuple[str, Any, list]]:
    """Return the columns that no modality names as one more modality, if they are used."""
    if isinstance(remainder, str) and remainder == "drop":
        return []
    named = {column for _, _, columns in modalities for column in names_selected(X, columns)}
    return [("remainder", remainder, [column for column in X.columns if column not in named])]


def _hint(X: pd.DataFrame, absent: list[str], wanted: dict[str, list]) -> str:
    """Return a question for each column of X, unknown to the model, whose name is like that of an absent one."""
    known = {column for columns in wanted.values() for column in columns}
    pairs = similar_names(absent, [column for column in X.columns if column not in known])
    return "".join(f" X has {found!r}; did you mean {column!r}?" for column, found in pairs.items())


def _summary(X: pd.DataFrame, columns: list[Any]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the smallest number, the median and the largest of each column; and from which on others are far."""
    found, limits = {}, {}
    for column in columns:
        if column not in X.columns:
            continue
        numbers = pd.to_numeric(X[column], errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        numbers = numbers[np.isfinite(numbers)]
        if len(numbers):
            found[str(column)] = [float(numbers.min()), float(np.median(numbers)), float(numbers.max())]
            if (far := limits_of(numbers)) is not None:
                limits[str(column)] = far
    return found, limits


def _short(columns: Any) -> str:
    """Return the column names for the head of a box: up to three names, otherwise their number."""
    listed = list_columns(columns)
    return ", ".join(map(str, listed)) if len(listed) <= _SHOWN_COLUMNS else f"{len(listed)} columns"
