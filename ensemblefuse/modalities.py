"""Modalities as users declare them, (name, encoder, columns): which encoders read which columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import OrdinalEncoder
from sklearn.utils._indexing import _get_column_indices

from ensemblefuse.column_formats import full_format
from ensemblefuse.encoders import BaseEncoder, TextEncoder
from ensemblefuse.exceptions import FUSION_READS, short_repr
from ensemblefuse.features import EmbeddingNoise, PresentRows, StringFeatures, TableTransformer
from ensemblefuse.features.forms import check_formats
from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.schema import CellPolicy
from ensemblefuse.table import is_missing, list_columns

__all__ = [
    "Modality",
    "cell_policies",
    "columns_of",
    "formats_of",
    "names_selected",
    "path_columns",
    "policies_of",
    "readers_of",
    "reads_files",
    "roles_of_columns",
    "row_texts",
    "selection",
    "set_on_error",
    "settle",
    "steps_of",
    "top_steps",
    "word_columns",
]

# How transformers of these names read their columns.
_ROLES = {
    **dict.fromkeys(("OneHotEncoder", "OrdinalEncoder", "TargetEncoder"), "category"),
    **dict.fromkeys(("TfidfVectorizer", "CountVectorizer", "HashingVectorizer"), "text"),
    **{"DateFeatures": "date", "TagFeatures": "tags"},
    **{"CensoredFeatures": "censored", "NumberFeatures": "numbers"},
    **dict.fromkeys(("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "Normalizer"), "number"),
    **dict.fromkeys(("QuantileTransformer", "PowerTransformer", "KBinsDiscretizer", "Binarizer"), "number"),
    **dict.fromkeys(("SplineTransformer", "PolynomialFeatures", "PCA", "KNNImputer", "IterativeImputer"), "number"),
    "StringFeatures": "text",
}
_SHOWN = 3  # columns that the name of a group shows


class Modality(NamedTuple):
    """One modality of a pipeline.

    Attributes
    ----------
    name : str
    encoder : transformer or str
        The step or pipeline that reads the cells; fitted in a fitted model.
    columns : str, list of str, or any other selection that a `ColumnTransformer` takes
    """

    name: str
    encoder: Any
    columns: Any

    @property
    def encoders(self) -> list[BaseEncoder]:
        """Encoders among the steps that read the cells."""
        return [step for step in steps_of(self.encoder) if isinstance(step, BaseEncoder)]

    @property
    def reads_files(self) -> bool:
        """Whether a str in a cell is the path of a file."""
        return reads_files(self.encoder)

    @property
    def is_raw(self) -> bool:
        """Whether the cells pass unchanged."""
        # A fitted ColumnTransformer has a FunctionTransformer without function for "passthrough".
        return isinstance(self.encoder, str) or getattr(self.encoder, "func", 0) is None

    @property
    def column_name(self) -> str:
        """The name that an `EncodingError` gives to the column, or to the group of columns."""
        columns = list_columns(self.columns)
        return ", ".join(map(str, columns[:_SHOWN])) + (", ..." if len(columns) > _SHOWN else "")


def steps_of(encoder: Any) -> list[Any]:
    """Return all transformers of an encoder, also those inside pipelines, `PresentRows` and `ColumnTransformer`."""
    if isinstance(encoder, Pipeline):
        return [inner for _, step in encoder.steps for inner in steps_of(step)]
    if isinstance(encoder, PresentRows):
        return steps_of(getattr(encoder, "transformer_", encoder.transformer))
    if isinstance(encoder, ColumnTransformer):
        held = getattr(encoder, "transformers_", encoder.transformers)
        return [inner for _, transformer, _ in held for inner in steps_of(transformer)]
    return [encoder]


def top_steps(encoder: Any) -> list[Any]:
    """Return the steps of a pipeline as declared, or a list of the encoder alone."""
    return [step for _, step in encoder.steps] if isinstance(encoder, Pipeline) else [encoder]


def reads_files(transformer: Any) -> bool:
    """Return whether any encoder, or network on cells, in an estimator takes a str as the path of a file."""
    parts = (part for _, part in parts_of(transformer))
    return any(isinstance(part, BaseEstimator) and getattr(part, "strings_are_paths", False) for part in parts)


def columns_of(modalities: Iterable[tuple[str, Any, Any]]) -> list[str]:
    """Return all columns that the modalities name."""
    return [column for _, _, columns in modalities for column in list_columns(columns)]


def path_columns(modalities: Iterable[tuple[str, Any, Any]]) -> list[str]:
    """Return the columns whose texts are paths of files."""
    return columns_of(modality for modality in modalities if Modality(*modality).reads_files)


def set_on_error(modalities: Iterable[tuple[str, Any, Any]], on_error: str) -> None:
    """Set ``on_error`` in every encoder that has this parameter, and in every `TableTransformer`."""
    for modality in modalities:
        for _, table in _tables_in(*modality[:2]):
            table.set_params(on_error=on_error)
        for encoder in Modality(*modality).encoders:
            if hasattr(encoder, "on_error"):
                encoder.set_params(on_error=on_error)


def readers_of(encoder: Any, columns: list[Any]) -> Iterator[tuple[Any, list[Any]]]:
    """Yield each step that reads raw cells, with its columns; steps that only fill gaps are passed over.

    Parameters
    ----------
    encoder : transformer or str
        Selections in it that need the cells select nothing here: `settle` makes names of them.
    columns : list
        Names of the columns that reach it.
    """
    for part, cells in _reached(encoder, _no_rows(columns)):
        if not (isinstance(part, _HOLDERS) or (isinstance(part, str) and part == "drop")):
            yield part, list(cells.columns)


def settle(encoder: Any, columns: list[Any], X: pd.DataFrame) -> Any:
    """Make names of the selections in a transformer that need the cells, such as a lambda, and return it.

    So the columns that are read for a transformer are those that it gets, even if reading changes what decides, such as
    a dtype.

    Parameters
    ----------
    encoder : transformer or str
        A clone: it is changed.
    columns : list
        Names of the columns that reach it.
    X : DataFrame
        The table of fit, before it is read.
    """
    if any(callable(chosen) for part, _ in _reached(encoder, _no_rows(columns)) for chosen in _selections(part)):
        for part, own in _reached(encoder, X[columns]):
            if isinstance(part, ColumnTransformer):  # before `_reached` looks into it
                part.transformers = [(name, inner, selection(chosen, own)) for name, inner, chosen in part.transformers]
    return encoder


def selection(chosen: Any, cells: pd.DataFrame) -> Any:
    """Return which columns are selected, from a selection that may need the cells."""
    return chosen(cells) if callable(chosen) else chosen


_HOLDERS = (PresentRows, Pipeline, FeatureUnion, ColumnTransformer)


def _reached(encoder: Any, cells: pd.DataFrame) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Yield a transformer, and then those inside it that raw cells reach, each with its columns."""
    yield encoder, cells
    for inner, own in _inside(encoder, cells):
        yield from _reached(inner, own)


def _inside(encoder: Any, cells: pd.DataFrame) -> list[tuple[Any, pd.DataFrame]]:
    """Return the transformers in one that raw cells reach; steps that only fill gaps are passed over."""
    if isinstance(encoder, PresentRows):
        return [(encoder.transformer, cells)]
    if isinstance(encoder, Pipeline):
        steps = [step for _, step in encoder.steps if not (step is None or step == "passthrough" or _fills(step))]
        return [(steps[0] if steps else "passthrough", cells)]
    if isinstance(encoder, FeatureUnion):
        return [(inner, cells) for _, inner in encoder.transformer_list]
    if not isinstance(encoder, ColumnTransformer):
        return []
    parts = [(inner, names_selected(cells, chosen)) for _, inner, chosen in encoder.transformers]
    used = {name for _, own in parts for name in own}
    parts.append((encoder.remainder, [column for column in cells.columns if column not in used]))
    return [(inner, cells[own]) for inner, own in parts]


def _selections(part: Any) -> list[Any]:
    return [chosen for _, _, chosen in part.transformers] if isinstance(part, ColumnTransformer) else []


def _no_rows(columns: list[Any]) -> pd.DataFrame:
    return pd.DataFrame(columns=pd.Index(columns, dtype=object, tupleize_cols=False))


def word_columns(encoder: Any, columns: Any) -> list[str]:
    """Return the columns of a modality whose texts a fusion may read beside its numbers.

    That is the column of a `TextEncoder`, or the columns of the `StringFeatures` of a table. A modality that adds noise
    to protect its cells does not hand them on.
    """
    columns = list_columns(columns)
    if any(isinstance(step, EmbeddingNoise) for step in steps_of(encoder)):
        return []
    first = top_steps(encoder)[0]
    if isinstance(first, TextEncoder):
        beside_numbers = first.words and first.output == "pooled"
        return columns if beside_numbers and len(columns) == 1 else []
    readers = readers_of(encoder, columns)
    return [name for reader, names in readers if isinstance(reader, StringFeatures) and reader.words for name in names]


def row_texts(table: pd.DataFrame, columns: Sequence[str]) -> list[str | None]:
    """Return one text for each row: what its cells of these columns say, one below the other; None if that is nothing.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse.modalities import row_texts
    >>> bikes = pd.DataFrame({"brand": ["Trek", None, None], "name": ["Marlin 5", "Talon", " "]})
    >>> row_texts(bikes, ["brand", "name"])
    ['Trek\\nMarlin 5', 'Talon', None]
    """
    rows = zip(*(table[column].tolist() for column in columns), strict=True)
    return ["\n".join(str(cell) for cell in row if not is_missing(cell) and str(cell).strip()) or None for row in rows]


def _fills(step: Any) -> bool:
    """Return whether a step only fills gaps, also among categories."""
    return isinstance(step, SimpleImputer) and step.strategy not in ("mean", "median")


def names_selected(table: pd.DataFrame, columns: Any) -> list[Any]:
    """Return the names of the columns that a `ColumnTransformer` selects; none if its selection needs the cells."""
    if callable(columns):
        return []
    try:
        return list(np.asarray(table.columns, dtype=object)[_get_column_indices(table, columns)])
    except (ValueError, KeyError, IndexError, TypeError):  # `fit` says so
        return []


def roles_of_columns(modalities: Iterable[tuple[str, Any, Any]], X: pd.DataFrame) -> dict[Any, set[str]]:
    """Return how each column of a table is read, as `ensemblefuse.schema.learn_schema` takes it.

    Parameters
    ----------
    modalities : list of (name, encoder, columns)
    X : DataFrame
        The table of fit.
    """
    roles: dict[Any, set[str]] = {}
    for _, encoder, chosen in modalities:
        columns = names_selected(X, selection(chosen, X))
        for column in columns:
            roles.setdefault(column, set())
        for reader, names in readers_of(encoder, columns):
            for name in names:
                role = _role(reader)
                roles[name].add("encoder of a group" if role == "encoder" and len(names) > 1 else role)
                if role in ("category", "ordinal") and getattr(reader, "handle_unknown", None) == "error":
                    roles[name].add("closed")
    return {column: how or {"other"} for column, how in roles.items()}


def formats_of(modalities: Iterable[tuple[str, Any, Any]], X: pd.DataFrame) -> dict[Any, dict[str, Any]]:
    """Return the written forms of columns that the modalities know, as `learn_schema` takes them.

    A transformer knows the forms of the columns that it reads itself.

    Parameters
    ----------
    modalities : list of (name, encoder, columns)
    X : DataFrame
        The table of fit.

    Raises
    ------
    TypeError
        If forms are no dict.
    ValueError
        If one is no form, or if a column has two that differ.
    """
    found: dict[Any, dict[str, Any]] = {}
    for _, encoder, chosen in modalities:
        columns = names_selected(X, selection(chosen, X))
        for part, cells in _reached(encoder, _no_rows(columns)):
            if isinstance(part, TableTransformer):
                _add_forms(found, part, list(cells.columns))
    return found


def _add_forms(found: dict[Any, dict[str, Any]], part: TableTransformer, columns: list[Any]) -> None:
    """Add the forms of the columns that a transformer reads; raise if another one gave a different form."""
    given, full = part.formats or {}, check_formats(part.formats)
    read = {name for _, names in readers_of(part, columns) for name in names}
    for column, form in given.items():
        if column not in read:
            continue
        other = found.setdefault(column, form)
        if full_format(column, other) != full[column]:
            raise ValueError(
                f"Column {column!r} has two written forms, {short_repr(other)} and {short_repr(form)}, in the formats "
                "of two transformers. A column is read once: give both the same form, or only one of them."
            )


def cell_policies(modalities: Iterable[tuple[str, Any, Any]], columns: Iterable[Any]) -> dict[Any, CellPolicy]:
    """Return what becomes of unreadable cells, for the columns that a `TableTransformer` of the modalities reads.

    Raises
    ------
    ValueError
        If a parameter `on_error` is neither ``"raise"`` nor ``"missing"``.
    """
    names = pd.DataFrame(columns=pd.Index(list(columns), dtype=object, tupleize_cols=False))
    found: dict[Any, CellPolicy] = {}
    for name, encoder, _ in modalities:
        for path, table in _tables_in(name, encoder):
            if table.on_error not in ("raise", "missing"):
                raise ValueError(f'on_error must be "raise" or "missing"; got {table.on_error!r}.')
            policy = CellPolicy(table.on_error, f"{path}__on_error")
            for column in (column for _, _, chosen in table.transformers for column in names_selected(names, chosen)):
                if column not in found or found[column].on_error == "missing":  # two tables must both say so
                    found[column] = policy
    return found


def policies_of(column_transformer: Any, columns: Iterable[Any]) -> dict[Any, CellPolicy]:
    """Return `cell_policies` of the modalities that a `ModalityTransformer` or another transformer of columns has."""
    if column_transformer is None:
        return {}
    readers = [(name, reader, None) for name, reader in getattr(column_transformer, "readers_", {}).items()]
    by_fusion = {
        column: CellPolicy(policy.on_error, f"{FUSION_READS}{policy.parameter}")
        for column, policy in cell_policies(readers, columns).items()
    }
    return by_fusion | cell_policies(
        [*column_transformer.transformers, ("remainder", column_transformer.remainder, None)], columns
    )


def _tables_in(name: str, encoder: Any) -> list[tuple[str, TableTransformer]]:
    """Return each `TableTransformer` of a modality, with its name among the parameters of the `ModalityTransformer`."""
    while isinstance(encoder, PresentRows):
        encoder = encoder.transformer
    held = encoder.get_params(deep=True) if hasattr(encoder, "get_params") else {}
    parts = {name: encoder, **{f"{name}__{key}": part for key, part in held.items()}}
    return [(path, part) for path, part in parts.items() if isinstance(part, TableTransformer)]


def _role(reader: Any) -> str:
    if isinstance(reader, BaseEncoder):
        return "encoder"
    if isinstance(reader, SimpleImputer):
        return "other" if _fills(reader) else "number"
    if _ROLES.get(type(reader).__name__) == "category":
        if any(not isinstance(getattr(reader, name, "auto"), (str, type(None))) for name in ("categories", "drop")):
            return "listed"
        return "ordinal" if isinstance(reader, OrdinalEncoder) else "category"
    return _ROLES.get(type(reader).__name__, "other")
