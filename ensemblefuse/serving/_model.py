"""The model in memory, which predicts and explains the rows of requests. Only one thread uses it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse._plain import plain, plain_dict
from ensemblefuse.backbones.forward import backends_at_once
from ensemblefuse.exceptions import EncodingError, PersistenceError
from ensemblefuse.fitted.model import FittedModel, targets_of
from ensemblefuse.fitted.row_predictor import Predicted, RowPredictor
from ensemblefuse.inspection import PartExplanation, RowExplanation, explain_row
from ensemblefuse.persistence import load_model
from ensemblefuse.persistence.archive import open_archive
from ensemblefuse.persistence.example import ROWS, read_table
from ensemblefuse.serving._errors import Fault, Unreadable, found
from ensemblefuse.serving._info import ModelInfo
from ensemblefuse.serving._json import label_text

__all__ = ["ServedModel", "open_model"]

# The text of these exceptions is meant for the sender of the row; for others the answer shows only the class.
_TOLD = (ValueError, TypeError)
_OF_TARGET = ("prediction", "probabilities")


class ServedModel:
    """A fitted pipeline that predicts and explains rows of cells.

    Parameters
    ----------
    model : fitted Pipeline that ends in a fusion estimator, or fitted search over these
    info : ModelInfo
        Its expected scores are replaced by those of the model.
    example : DataFrame, optional
        Rows that the model was saved with.

    Attributes
    ----------
    path_columns : set of str
        Columns in which the model takes a str as a path.
    """

    def __init__(self, model: Any, info: ModelInfo, example: pd.DataFrame | None = None):
        self.parts = FittedModel(model, several=True)
        if not self.parts.modalities:
            raise PersistenceError(
                f"{info.name} holds a {type(self.parts.model).__name__}; only a pipeline of make_fusion_pipeline can "
                "be served."
            )
        self.info, self.example = info, example
        self.predictor = RowPredictor(self.parts, on_error="keep")
        self.path_columns = set(self.parts.path_columns)
        self._numbers = {column for column, held in self.parts.schema.items() if held["kind"] == "number"}
        targets = targets_of(self.parts.fusion)
        self.labels_of = {name: None if labels is None else plain(labels) for name, labels in targets.items()}
        self.labels = self.labels_of.get(None)
        scores = getattr(self.parts.core, "expected_scores_", None)
        if isinstance(scores, pd.DataFrame):
            info.expected = {str(name): plain_dict(row) for name, row in scores.to_dict("index").items()}

    def warm_up(self) -> None:
        """Load all networks, and predict the example if there is one, so that no request has to wait for this.

        Backends are tried for the same reason: compiling a network takes seconds.
        """
        for encoder in self.parts.encoders:
            encoder.prepare()
        if self.example is not None:
            with warnings.catch_warnings(), backends_at_once():
                warnings.simplefilter("ignore")
                self.parts.model.predict(self.example.head(2))

    # ------------------------------------------------------------------ predictions

    def predict(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any] | list[Fault]]:
        """Return for each row its answer, without the row number, or its faults.

        The answer to a row does not depend on the others: if the model refuses all rows because of one, each half is
        predicted again.
        """
        try:
            return self._predict(self._table(rows))
        except Exception as error:
            if len(rows) > 1:
                half = len(rows) // 2
                return self.predict(rows[:half]) + self.predict(rows[half:])
            return [_faults(error)]

    def _table(self, rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
        columns: dict[str, Any] = {}
        for column in self.info.columns:
            cells = [row[column] for row in rows]
            if column in self._numbers and all(cell is None or type(cell) is float for cell in cells):
                # An array of floats is a column that the schema need not read cell by cell.
                columns[column] = np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
                continue
            values = np.empty(len(cells), dtype=object)
            for i, cell in enumerate(cells):  # cell by cell: numpy would spread lists over columns
                values[i] = cell
            columns[column] = pd.Series(values, dtype=object)
        return pd.DataFrame(columns)

    def _predict(self, X: pd.DataFrame) -> list[dict[str, Any] | list[Fault]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the answer names missing modalities
            said = self.predictor(X)
        present = self.parts.present(said.Z).T if said.Z is not None else np.empty((0, 0), dtype=bool)
        place = np.cumsum(said.answered) - 1
        unseen: dict[int, list[str]] = {}
        for position, column, _ in said.unseen:
            unseen.setdefault(position, []).append(column)
        answers: list[dict[str, Any] | list[Fault]] = []
        for i, reasons in enumerate(said.reasons):
            if reasons:
                answers.append([Fault(None, field, reason) for field, reason in reasons])
                continue
            answers.append(self._answer(said, int(place[i]), present[int(place[i])], unseen.get(i, [])))
        return answers

    def _answer(self, said: Predicted, k: int, present: np.ndarray, unseen: list[str]) -> dict[str, Any] | list[Fault]:
        """Return the answer to the k-th of the rows that have one."""
        told = {name: self._of_target(name, said, k) for name in self.labels_of}
        if not all(one["is_finite"] for one in told.values()):
            return [Fault(None, None, "the model returns no finite number for this row")]
        used = [name for name, there in zip(self.parts.names, present, strict=True) if there]
        answer = {**self._joined(told), **self._region(said, k)}
        answer["modalities"] = used
        answer["missing"] = [name for name in self.parts.names if name not in used]
        answer["unseen"] = unseen
        answer["expected"] = self.info.expected.get(" + ".join(used))
        if said.regions is not None:
            answer["calibrated"] = bool(said.calibrated[k])
        return answer

    def _of_target(self, name: Any, said: Predicted, k: int) -> dict[str, Any]:
        """Return what is said about one target: prediction, probabilities by label, and whether all is finite."""
        predictions, proba = said.of(name)
        prediction, labels = np.asarray(predictions[k]), self.labels_of[name]
        if labels is None or proba is None:
            numbers = [] if labels is not None else [float(prediction)]
            return {"prediction": plain(prediction), "is_finite": bool(np.isfinite(numbers).all())}
        given = np.asarray(proba[k], dtype=float).tolist()
        return {
            "prediction": plain(prediction),
            "probabilities": dict(zip(map(label_text, labels), given, strict=True)),
            "is_finite": bool(np.isfinite(given).all()),
        }

    def _joined(self, told: dict[Any, dict[str, Any]]) -> dict[str, Any]:
        """Return what is said about the only target; of several, each part as an object by target."""
        if None not in told:
            parts = {part: {str(n): one[part] for n, one in told.items() if part in one} for part in _OF_TARGET}
            return {part: values for part, values in parts.items() if values}
        answer = {part: told[None][part] for part in _OF_TARGET if part in told[None]}
        if "probabilities" in answer:
            answer["certainty"] = max(answer["probabilities"].values())
        return answer

    def _region(self, said: Predicted, k: int) -> dict[str, Any]:
        if said.regions is None:
            return {}
        if self.labels is None:
            return {"interval": plain(np.asarray(said.regions[k]))}  # null for an infinite end
        return {"set": [label for label, stays in zip(self.labels, said.regions[k], strict=True) if stays]}

    # ------------------------------------------------------------------ explanations

    def explain(self, row: dict[str, Any], within: Any, target: Any) -> dict[str, Any]:
        """Return an explanation of the prediction for a row.

        Parameters
        ----------
        row : dict of str to cell
        within : bool, or list of str
            Whether to look inside the modalities, or inside which.
        target : label or None
            The class to explain; by default the predicted one.

        Raises
        ------
        Unreadable
            If a cell cannot be encoded, or `within` or `target` name a modality or class that the model lacks.
        """
        wanted = self._within(within)
        asked = wanted if isinstance(wanted, list) else self.parts.names if wanted else []
        label = self._target(target)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                X = self._table([row])
                told = explain_row(self.parts.model, X, 0, target=label, within=wanted, background=self._background())
        except Exception as error:
            raise Unreadable(*[Fault(0, fault.field, fault.reason) for fault in _faults(error)]) from error
        best = told.prediction if self.labels is None else plain(np.asarray(told.prediction.idxmax()))
        return {
            "prediction": plain(best),
            "target": plain(np.asarray(told.target)) if told.target is not None else None,
            "value": plain(told.value),
            "base": plain(told.base),
            "scale": "prediction" if self.labels is None else "log-odds",
            "shares": {str(name): plain(float(share)) for name, share in told.shares.items()},
            "on_top": {} if told.on_top is None else plain_dict(told.on_top.to_dict()),
            "parts": {
                **_parts(told),
                **{name: {"reason": "the row lacks it"} for name in told.missing if name in asked},
            },
        }

    def _within(self, within: Any) -> bool | list[str]:
        if isinstance(within, bool):
            return within
        if not isinstance(within, list) or not all(name in self.parts.names for name in within):
            reason = f"expected true, false or a list of modalities of {self.parts.names}; got {found(within)}"
            raise Unreadable(Fault(None, "within", reason))
        return within

    def _target(self, target: Any) -> Any:
        if target is None:
            return None
        if self.labels is None or self.parts.classes is None:
            raise Unreadable(Fault(None, "target", "the model predicts a number and has no classes; leave it out"))
        for label, given in zip(self.parts.classes.tolist(), self.labels, strict=True):
            if type(given) is type(target) and given == target:
                return label
        raise Unreadable(Fault(None, "target", f"expected one of {self.labels[:20]}; got {found(target)}"))

    def _background(self) -> pd.DataFrame | None:
        """Return rows whose usual values replace columns that are left out; None if there are too few."""
        return self.example if self.example is not None and len(self.example) > 1 else None


def open_model(source: Any, info: ModelInfo, trusted: Sequence[str]) -> ServedModel:
    """Load a model file, or take a fitted model, and bring its networks into memory."""
    if not isinstance(source, (str, Path)):
        served = ServedModel(source, info)
    else:
        archive = open_archive(Path(source))
        example = read_table(archive, ROWS) if ROWS in archive else None
        example = example if isinstance(example, pd.DataFrame) and len(example) else None
        served = ServedModel(load_model(source, trusted=trusted), info, example)
    served.warm_up()
    return served


def _faults(error: Exception) -> list[Fault]:
    """Return the faults of one row."""
    if isinstance(error, EncodingError):
        return [Fault(None, row.column, row.reason) for row in error.rows]
    text = str(error).strip().split("\n")[0]
    return [Fault(None, None, text if isinstance(error, _TOLD) and text else type(error).__name__)]


def _parts(told: RowExplanation) -> dict[str, Any]:
    """Return the effects inside modalities, as lists of objects; of the cells they show only the words of a text."""
    made: dict[str, Any] = {}
    for name, part in told.parts.items():
        if part.effects is None:
            made[name] = {"reason": part.note}
        else:
            made[name] = {"method": part.method, "kind": part.kind, "unit": part.unit, "effects": _effects(part)}
    return made


def _effects(part: PartExplanation) -> list[dict[str, Any]]:
    effects = part.effects
    if isinstance(effects, pd.DataFrame):
        return [plain_dict(row) for row in effects.to_dict("records")]
    if isinstance(effects, pd.Series):
        field = "column" if part.kind == "columns" else "first_sample"
        return [{field: plain(np.asarray(key)), "effect": plain(float(e))} for key, e in effects.items()]
    if part.kind == "sound":
        hz, seconds = part.edges
        return [
            {
                **{"low_hz": float(hz[b]), "high_hz": float(hz[b + 1])},
                **{"start": float(seconds[w]), "end": float(seconds[w + 1]), "effect": plain(float(effects[b, w]))},
            }
            for b, w in np.ndindex(effects.shape)
        ]
    return [{"row": r, "column": c, "effect": plain(float(effects[r, c]))} for r, c in np.ndindex(effects.shape)]
