"""The OpenAPI document of one model."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ensemblefuse import __version__
from ensemblefuse.serving._info import Column, ModelInfo
from ensemblefuse.serving._json import label_text
from ensemblefuse.serving._settings import ServerSettings

__all__ = ["openapi_schema"]

_NUMBERS = {"type": "array", "items": {"type": "number"}, "minItems": 1}
_GAPPY = {"type": "array", "items": {"type": ["number", "null"]}, "minItems": 1}
_ARRAYS = {"type": "array", "items": {"type": ["number", "array"]}}
_LARGEST = float(np.finfo(np.float32).max)
_WITHIN = {"minimum": -_LARGEST, "maximum": _LARGEST}
_CELLS: dict[str, dict[str, Any]] = {
    "number": {"type": ["number", "boolean", "null"], **_WITHIN},
    "text": {"type": ["string", "null"]},
    "category": {"type": ["string", "number", "boolean", "null"], **_WITHIN},
    "boolean": {"enum": [True, False, 1, 0, "true", "false", None]},
    "date": {"type": ["string", "null"]},
    "duration": {"type": ["string", "null"]},
    "series": {"anyOf": [_GAPPY, {"type": "array", "items": _GAPPY, "minItems": 1}, {"type": "null"}]},
    "embedding": {"anyOf": [_NUMBERS, {"type": ["string", "null"]}]},
    "object": {},
}
_PROBABILITY = {"type": "number", "minimum": 0}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
    "additionalProperties": False,
}
_FAULT = {
    "type": "object",
    "required": ["row", "field", "reason"],
    "properties": {
        "row": {"type": ["integer", "null"], "description": "Number of the row from 0; null for the whole body."},
        "field": {"type": ["string", "null"]},
        "reason": {"type": "string"},
    },
}
_REFUSALS = {
    401: "The token is absent or wrong.",
    403: "The Host header names another machine, or the request comes from a page of another origin.",
    408: "The body comes too slowly.",
    413: "The body is too large.",
    415: "The content type is not supported.",
    503: "The model is not loaded, the queue is full, or the server is shutting down: try again.",
    504: "The answer took too long.",
}
_RETRY = {"Retry-After": {"schema": {"type": "string"}, "description": "Seconds to wait."}}


def openapi_schema(info: ModelInfo, settings: ServerSettings) -> dict[str, Any]:
    """Return the OpenAPI document, version 3.1, as a JSON value.

    Parameters
    ----------
    info : ModelInfo
    settings : ServerSettings
    """
    forms = {"": False, "OfForm": True}
    columns = list(info.columns.values())
    cells = {
        f"{_name(i, column)}{suffix}": _cell(column, suffix)
        for suffix in forms
        for i, column in enumerate(columns)
        if not suffix or _takes_files(column)
    }
    schemas = {
        "Error": _ERROR,
        "Fault": _FAULT,
        "Answer": _answer(info),
        "Explanation": _explanation(info),
        **{f"File{suffix}": _file(settings, uploads=uploads) for suffix, uploads in forms.items()},
        **cells,
        **{f"Row{suffix}": _row(columns, suffix) for suffix in forms},
    }
    components: dict[str, Any] = {"schemas": schemas}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": f"ensemblefuse: {info.name}", "version": __version__},
        "paths": _paths(info, settings),
        "components": components,
    }
    if settings.token is not None:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


# ---------------------------------------------------------------------- cells and rows


def _name(i: int, column: Column) -> str:
    return f"Cell{i}_{re.sub('[^A-Za-z0-9]', '_', column.name)[:40]}"


def _takes_files(column: Column) -> bool:
    return column.kind in ("image", "audio", "video", "graph")


def _cell(column: Column, suffix: str) -> dict[str, Any]:
    reach = "" if column.range is None else f"; in fit from {column.range[0]:g} to {column.range[1]:g}"
    read_by = ", ".join(column.modalities)
    described = {"title": column.name, "description": f"{column.kind}, read by {read_by}{reach}"}
    if not _takes_files(column):
        cell = _CELLS[column.kind]
        other = {"number": "string", "boolean": "string"}.get(column.kind, "integer" if column.days else None)
        if column.written is not None and column.kind in ("number", "boolean", "date"):
            described["description"] += f"; {column.written} in fit"
        if column.written is not None and other is not None:
            cell = {"anyOf": [{"type": other}, cell]}
        return {**described, **cell}
    one = {"$ref": f"#/components/schemas/File{suffix}"}
    kinds: list[dict[str, Any]] = [one, {"type": "null"}]
    if column.kind in ("image", "video"):
        kinds.insert(1, {"type": "array", "items": one, "minItems": 1})
    if column.kind == "graph":
        kinds.insert(1, _graph())
    return {**described, "anyOf": kinds}


def _graph() -> dict[str, Any]:
    arrays = {name: _ARRAYS for name in ("x", "edge_index", "edge_weight", "edge_attr")}
    properties = {**arrays, "num_nodes": {"type": "integer"}}
    return {"type": "object", "required": ["edge_index"], "properties": properties, "additionalProperties": False}


def _file(settings: ServerSettings, *, uploads: bool) -> dict[str, Any]:
    sources = {"base64": {"type": "string", "contentEncoding": "base64", "minLength": 4}}
    if uploads:
        sources["upload"] = {"type": "string", "description": "Name of a file part of the form."}
    if settings.files is not None:
        sources["path"] = {"type": "string", "minLength": 1, "description": "A file in the served folder."}
    objects: list[dict[str, Any]] = [
        {"type": "object", "required": [name], "properties": {name: schema}, "additionalProperties": False}
        for name, schema in sources.items()
    ]
    return objects[0] if len(objects) == 1 else {"anyOf": objects}


def _row(columns: list[Column], suffix: str) -> dict[str, Any]:
    refs = {
        column.name: {"$ref": f"#/components/schemas/{_name(i, column)}{suffix if _takes_files(column) else ''}"}
        for i, column in enumerate(columns)
    }
    return _object(refs)


# ---------------------------------------------------------------------- answers


def _answer(info: ModelInfo) -> dict[str, Any]:
    prediction: dict[str, Any] = {
        "row": {"type": "integer", "minimum": 0},
        "prediction": _prediction(info),
        "modalities": _names(info),
        "missing": _names(info),
        "unseen": {"type": "array", "items": {"enum": list(info.columns)}},
        "expected": {"type": ["object", "null"], "additionalProperties": {"type": ["number", "null"]}},
    }
    required = list(prediction)
    if info.tasks is not None:
        named = {name: _probabilities(classes) for name, classes in info.tasks.items() if classes is not None}
        prediction["probabilities"] = _object(named)
    elif info.classes is not None:
        prediction["probabilities"] = _probabilities(info.classes)
        prediction["certainty"] = _PROBABILITY
        prediction["set"] = {"type": "array", "items": _label(info.classes)}
    else:
        ends = {"type": "array", "items": {"type": ["number", "null"]}, "minItems": 2, "maxItems": 2}
        prediction["interval"] = ends
    prediction["calibrated"] = {"type": "boolean"}
    one = {"type": "object", "required": required, "properties": prediction, "additionalProperties": False}
    return {
        "type": "object",
        "required": ["predictions", "errors"],
        "properties": {
            "predictions": {"type": "array", "items": {"anyOf": [one, {"type": "null"}]}},
            "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Fault"}},
        },
    }


def _example() -> dict[str, Any]:
    row = {"$ref": "#/components/schemas/Row"}
    return {"type": "object", "required": ["row"], "properties": {"row": row}, "additionalProperties": False}


def _explanation(info: ModelInfo) -> dict[str, Any]:
    number = {"type": ["number", "null"]}
    effect = {"type": "object", "required": ["effect"], "properties": {"effect": number}}
    part = {
        "type": "object",
        "properties": {
            **{name: {"type": "string"} for name in ("method", "kind", "unit", "reason")},
            "effects": {"type": "array", "items": effect},
        },
    }
    properties = {
        "prediction": _label(info.classes),
        "target": {"anyOf": [_label(info.classes), {"type": "null"}]},
        "value": number,
        "base": number,
        "scale": {"enum": ["log-odds", "prediction"]},
        "shares": {"type": "object", "additionalProperties": number},
        "on_top": {"type": "object", "additionalProperties": number},
        "parts": {"type": "object", "additionalProperties": part},
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _prediction(info: ModelInfo) -> dict[str, Any]:
    if info.tasks is None:
        return _label(info.classes)
    return _object({name: _label(classes) for name, classes in info.tasks.items()})


def _label(classes: list[Any] | None) -> dict[str, Any]:
    return {"type": "number"} if classes is None else {"enum": classes}


def _probabilities(classes: list[Any]) -> dict[str, Any]:
    return _object(dict.fromkeys(map(label_text, classes), _PROBABILITY))


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _names(info: ModelInfo) -> dict[str, Any]:
    return {"type": "array", "items": {"enum": [modality["name"] for modality in info.modalities]}}


# ---------------------------------------------------------------------- paths


def _paths(info: ModelInfo, settings: ServerSettings) -> dict[str, Any]:
    def ref(name: str) -> dict[str, str]:
        return {"$ref": f"#/components/schemas/{name}"}

    def content(schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
        return {kind: {"schema": schema}}

    def refusals(*statuses: int) -> dict[str, Any]:
        auth = 401 if settings.token is not None else 403
        answers: dict[str, Any] = {}
        for status in sorted({auth, *statuses}):
            answers[str(status)] = {"description": _REFUSALS[status], "content": content(ref("Error"))}
            if status == 503:
                answers[str(status)]["headers"] = _RETRY
        return answers

    def read(summary: str, what: dict[str, Any], *statuses: int, is_open: bool = False) -> dict[str, Any]:
        responses = {"200": {"description": summary, "content": what}, **refusals(*statuses)}
        if is_open and settings.token is not None:
            return {"get": {"summary": summary, "security": [], "responses": _without(responses, "401")}}
        return {"get": {"summary": summary, "responses": responses}}

    def ask(summary: str, result: str, fields: dict[str, Any], form_fields: dict[str, Any]) -> dict[str, Any]:
        first = next(iter(fields))
        upload = {"type": "string", "contentMediaType": "application/octet-stream"}
        body = {"type": "object", "required": [first]}
        form = {**body, "properties": form_fields, "additionalProperties": upload}
        encoding = {name: {"contentType": "application/json"} for name in form_fields}
        return {
            "post": {
                "summary": summary,
                "requestBody": {
                    "required": True,
                    "content": {
                        **content({**body, "properties": fields, "additionalProperties": False}),
                        "multipart/form-data": {"schema": form, "encoding": encoding},
                    },
                },
                "responses": {
                    "200": {"description": "Everything is answered.", "content": content(ref(result))},
                    "422": {
                        "description": "Some of the content cannot be read.",
                        "content": content(ref("Answer")),
                    },
                    **refusals(408, 413, 415, 503, 504),
                },
            }
        }

    def rows(suffix: str) -> dict[str, Any]:
        listed = {"type": "array", "minItems": 1, "maxItems": settings.max_rows, "items": ref(f"Row{suffix}")}
        return {"rows": listed}

    def row(suffix: str) -> dict[str, Any]:
        within = {"anyOf": [{"type": "boolean"}, _names(info)]}
        target = {"type": "null"} if info.classes is None else {"enum": [*info.classes, None]}
        return {"row": ref(f"Row{suffix}"), "within": within, "target": target}

    status = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
    any_object = {"type": "object"}
    return {
        "/health": read("The process is alive.", content(status), is_open=True),
        "/ready": read("The model is loaded.", content(status), 503, is_open=True),
        "/model": read("Name, columns, classes and scores of the model.", content(any_object)),
        "/example": read("A row to start from, as /predict takes it.", content(_example()), 503),
        "/metrics": read("Metrics for Prometheus.", content({"type": "string"}, "text/plain")),
        "/openapi.json": read("This document.", content(any_object)),
        "/predict": ask("Predict rows.", "Answer", rows(""), rows("OfForm")),
        "/explain": ask("Explain the prediction of a row.", "Explanation", row(""), row("OfForm")),
    }


def _without(responses: dict[str, Any], status: str) -> dict[str, Any]:
    return {name: answer for name, answer in responses.items() if name != status}
