"""Modalities proposed for the columns of a raw table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

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
from ensemblefuse.table import to_frame

__all__ = ["KINDS", "infer_modalities"]

_ENCODERS: dict[str, type[BaseEncoder]] = {
    "image": ImageEncoder,
    "audio": AudioEncoder,
    "video": VideoEncoder,
    "text": TextEncoder,
    "series": TimeSeriesEncoder,
    "embedding": PrecomputedEncoder,
    "graph": GraphEncoder,
}


KINDS = (*_ENCODERS, "number", "category", "drop")


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
            f"Declare them, as in infer_modalities(df, kinds={{{example}}}). The kinds are {', '.join(KINDS)}."
        )
    modalities, reasons = _build(decided)
    if verbose:
        _print(modalities, reasons, [c for c, (kind, _) in decided.items() if kind == "drop"])
    return modalities


def _decide(column: str, cells: pd.Series, kinds: Mapping[str, str]) -> tuple[str, str]:
    if column in kinds:
        if kinds[column] not in KINDS:
            raise ValueError(f"kinds[{column!r}] must be one of {', '.join(KINDS)}; got {kinds[column]!r}.")
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
