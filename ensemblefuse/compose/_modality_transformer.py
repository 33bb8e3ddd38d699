"""The transformer that turns the columns of a raw table into blocks, one for each modality."""

from __future__ import annotations

import difflib
import warnings
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from joblib import effective_n_jobs
from sklearn import get_config
from sklearn.compose import ColumnTransformer
from sklearn.utils._set_output import _get_output_config

from ensemblefuse.encoders import (
    BaseEncoder,
)
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.table import list_columns, plain_missing, to_frame

__all__ = ["ModalityTransformer"]


_SHOWN_COLUMNS = 3


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
        if not (
            isinstance(columns, (str, list)) and listed and all(isinstance(c, str) and c in X.columns for c in listed)
        ):
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
