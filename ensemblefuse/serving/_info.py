"""Input columns, classes and scores of a model, read from its file without building the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemblefuse.exceptions import PersistenceError
from ensemblefuse.persistence import inspect_model
from ensemblefuse.persistence.example import ROWS
from ensemblefuse.persistence.manifest import describe
from ensemblefuse.serving._settings import ServerSettings

__all__ = ["Column", "ModelInfo", "read_info"]


@dataclass(frozen=True)
class Column:
    """A column of the table that the model reads.

    Attributes
    ----------
    name : str
    kind : str
        "image", "audio", "video", "text", "number", "category", "boolean", "date", "duration", "series", "embedding",
        "graph" or "object".
    modalities : list of str
        Modalities that read it.
    range : tuple of float, or None
        Smallest and largest number of fit.
    median : float or None
    written : str or None
        What its texts were in fit, such as "masses in oz"; None if its cells are no texts that say something else.
    days : bool
        Whether it takes days as whole numbers, such as 20240131.
    """

    name: str
    kind: str
    modalities: list[str]
    range: tuple[float, float] | None = None
    median: float | None = None
    written: str | None = None
    days: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return what ``GET /model`` says about the column."""
        told: dict[str, Any] = {"type": self.kind, "modalities": self.modalities}
        told |= {} if self.written is None else {"written": self.written}
        return told if self.range is None else {**told, "range": list(self.range)}


@dataclass
class ModelInfo:
    """Name, input and classes of a model.

    Attributes
    ----------
    name : str
    created : str
    classes : list or None
        As plain JSON values; None in regression, and of a model of several targets.
    tasks : dict of str to list or None, or None
        Of a model of several targets, the classes of each; None for a target of numbers.
    modalities : list of dict
        Name and columns of each.
    columns : dict of str to Column
    expected : dict of str to dict
        Out-of-fold scores of each combination of modalities, such as ``"image + text"``.
    example : {"row", "numbers"} or None
        What ``GET /example`` has: a row that the model was saved with, the medians of its numbers, or nothing.
    """

    name: str
    created: str
    classes: list[Any] | None
    modalities: list[dict[str, Any]]
    columns: dict[str, Column]
    expected: dict[str, dict[str, Any]]
    example: str | None = None
    tasks: dict[str, list[Any] | None] | None = None

    def as_json(self, settings: ServerSettings) -> dict[str, Any]:
        """Return the answer of ``GET /model``."""
        return {
            "name": self.name,
            "created": self.created,
            "classes": self.classes,
            **({} if self.tasks is None else {"tasks": self.tasks}),
            "modalities": self.modalities,
            "input": {column.name: column.as_json() for column in self.columns.values()},
            "expected_scores": self.expected,
            "example": self.example,
            "limits": settings.limits(),
        }


def read_info(model: Any) -> ModelInfo:
    """Read the facts from the file of a model, or from a fitted model.

    Parameters
    ----------
    model : str, Path or fitted Pipeline

    Raises
    ------
    PersistenceError
        If the file cannot be read, or its model was not made by `make_fusion_pipeline`.
    """
    is_file = isinstance(model, (str, Path))
    manifest = inspect_model(model) if is_file else describe(model, set())
    name = Path(model).stem if is_file else type(model).__name__
    if not manifest.get("input"):
        raise PersistenceError(f"{model if is_file else 'model'} {_not_served(str(manifest.get('model')))}")
    columns = {
        column: Column(
            column,
            given["type"],
            list(given["modalities"]),
            tuple(given["range"]) if "range" in given else None,
            given.get("median"),
            given.get("written"),
            given.get("days") is True,
        )
        for column, given in manifest["input"].items()
    }
    numbers = any(column.median is not None for column in columns.values())
    return ModelInfo(
        name=name,
        created=str(manifest.get("created", "")),
        classes=manifest.get("classes"),
        tasks=manifest.get("tasks"),
        modalities=[{"name": m["name"], "columns": m["columns"]} for m in manifest["modalities"]],
        columns=columns,
        expected=manifest.get("metrics", {}).get("out_of_fold", {}),
        example="row" if ROWS in manifest.get("members", {}) else "numbers" if numbers else None,
    )


def _not_served(kind: str) -> str:
    """Return why an object of this type cannot be served, and what can; `kind` includes the module."""
    name = kind.rsplit(".", 1)[-1]
    held = f"holds {'an' if name[0] in 'AEIOU' else 'a'} {name} without named input columns"
    if name == "EdgePart":
        return f"{held}: use its `transform` where the data are. Serve the fusion part of split_model."
    return f"{held}. Serve a pipeline of make_fusion_pipeline."
