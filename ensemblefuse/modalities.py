"""Modalities as users declare them, (name, encoder, columns): which encoders read which columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.features import PresentRows
from ensemblefuse.fitted.walk import parts_of
from ensemblefuse.table import list_columns

__all__ = ["Modality", "columns_of", "path_columns", "reads_files", "set_on_error", "steps_of", "top_steps"]

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
    """Return whether any encoder in a transformer takes a str as the path of a file."""
    return any(isinstance(part, BaseEncoder) and part.strings_are_paths for _, part in parts_of(transformer))


def columns_of(modalities: Iterable[tuple[str, Any, Any]]) -> list[str]:
    """Return all columns that the modalities name."""
    return [column for _, _, columns in modalities for column in list_columns(columns)]


def path_columns(modalities: Iterable[tuple[str, Any, Any]]) -> list[str]:
    """Return the columns whose texts are paths of files."""
    return columns_of(modality for modality in modalities if Modality(*modality).reads_files)


def set_on_error(modalities: Iterable[tuple[str, Any, Any]], on_error: str) -> None:
    """Set ``on_error`` in every encoder that has this parameter."""
    for modality in modalities:
        for encoder in Modality(*modality).encoders:
            if hasattr(encoder, "on_error"):
                encoder.set_params(on_error=on_error)
