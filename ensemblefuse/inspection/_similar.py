"""Rows similar to a given row in one modality."""

from __future__ import annotations

import html
from typing import Any

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from ensemblefuse.exceptions import counted
from ensemblefuse.fitted.modality_rows import ModalityRows, row_position
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.inspection._cells import cell_html, cell_text
from ensemblefuse.scoring.result import TableResult

__all__ = ["SimilarRows", "find_similar"]

_MOST_COLUMNS = 8


class SimilarRows(TableResult):
    """Rows nearest to one row, with their cells.

    Attributes
    ----------
    table : DataFrame
        Index: labels of the rows, the nearest first. Columns: ``similarity`` (for the metric ``"cosine"``, from -1 to
        1) or ``distance`` (for other metrics), ``position`` (in the searched table), and the modality's cells.
    query : DataFrame of one row
        The cells of the given row.
    caption, notes
        As in `TableResult`.
    """

    def __init__(self, table: pd.DataFrame, query: pd.DataFrame, caption: str, notes: list[str]):
        super().__init__(table, caption, notes)
        self.query = query

    def __str__(self) -> str:
        shown = self.table.copy()
        for column in self.query.columns:
            shown[column] = [cell_text(cell) for cell in shown[column]]
        asked = ", ".join(cell_text(cell) for cell in self.query.iloc[0])
        return "\n".join([f"{self.caption}: {asked}", shown.to_string(float_format="{:.3f}".format), *self.notes])

    def _repr_html_(self) -> str:
        measure = self.table.columns[0]
        heads = ["", measure, *self.query.columns]
        rows = [self._html_row("", "query", self.query.iloc[0])]
        for label, (_, row) in zip(self.table.index, self.table.iterrows(), strict=True):
            rows.append(self._html_row(label, f"{row[measure]:.3f}", row[list(self.query.columns)]))
        head = "".join(f"<th>{html.escape(str(name))}</th>" for name in heads)
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table><caption>{html.escape(self.caption)}</caption><tr>{head}</tr>{''.join(rows)}</table>{notes}"

    @staticmethod
    def _html_row(label: Any, measure: str, cells: pd.Series) -> str:
        shown = "".join(f"<td>{cell_html(cell)}</td>" for cell in cells)
        return f"<tr><th>{html.escape(str(label))}</th><td>{measure}</td>{shown}</tr>"


def find_similar(
    model: Any, X: Any, i: Any, *, modality: str, among: Any = None, n_neighbors: int = 5, metric: str = "cosine"
) -> SimilarRows:
    """Find the rows nearest to row `i` in the embeddings of one modality.

    Parameters
    ----------
    model : fitted model
        A pipeline that ends in a fusion estimator, a fusion estimator, or a search over these.
    X : DataFrame of n_samples rows
        Rows as the model takes them.
    i : label
        Index label of the row, as in ``X.loc``; its position if `X` is an array.
    modality : str
    among : DataFrame, optional
        The rows to search, such as those of fit. By default the other rows of `X`.
    n_neighbors : int
        Greatest number of rows to return.
    metric : str
        Name of any metric of `sklearn.neighbors.NearestNeighbors`.

    Returns
    -------
    SimilarRows
        Rows without the modality are never found; a note gives their number.

    Raises
    ------
    ValueError
        If the label `i` matches no row or several, the row lacks the modality, or the model takes it as raw cells.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse import DecisionFusionClassifier, FunctionEncoder, find_similar, make_fusion_pipeline
    >>> from sklearn.linear_model import LogisticRegression
    >>> text = FunctionEncoder(lambda title: [title.count("a"), title.count("o"), 1])
    >>> df = pd.DataFrame({"title": ["a cat", "a dog", "banana", "poor old moon", "a cart", "dodo"]})
    >>> fusion = DecisionFusionClassifier(LogisticRegression(), cv=2)
    >>> model = make_fusion_pipeline([("text", text, "title")], fusion).fit(df, [0, 1, 0, 1, 0, 1])
    >>> found = find_similar(model, df, 3, modality="text", n_neighbors=2)
    >>> found.table["title"].tolist()
    ['dodo', 'a dog']
    """
    parts = FittedModel(model, several=True)
    parts.check_modality(modality)
    rows = ModalityRows(parts, X)
    i = row_position(pd.Index(rows.labels), i)
    if not isinstance(n_neighbors, (int, np.integer)) or n_neighbors < 1:
        raise ValueError(f"n_neighbors must be an int of at least 1; got {n_neighbors!r}.")
    if not rows.present[modality][i]:
        raise ValueError(
            f"row {rows.labels[i]!r} has no {modality!r}, so no row can be similar to it there; it has "
            f"{[name for name in parts.names if rows.present[name][i]]}."
        )
    searched = rows if among is None else ModalityRows(parts, among)
    block, others = _numbers(rows, modality), _numbers(searched, modality)
    candidates = np.flatnonzero(searched.present[modality] & ((np.arange(len(searched)) != i) | (among is not None)))
    if not len(candidates):
        raise ValueError(f"no {'other row of X' if among is None else 'row of among'} has the modality {modality!r}.")
    search = NearestNeighbors(n_neighbors=min(n_neighbors, len(candidates)), metric=metric).fit(others[candidates])
    distances, nearest = search.kneighbors(block[i : i + 1])
    found = candidates[nearest[0]]
    query, cells = (_shown(table, modality) for table in (rows, searched))
    cells = cells.iloc[found]
    measure = {"similarity": 1 - distances[0]} if metric == "cosine" else {"distance": distances[0]}
    table = pd.DataFrame({**measure, "position": found}, index=pd.Index([searched.labels[j] for j in found]))
    for column in cells.columns:
        table[column] = cells[column].to_numpy()
    lost = int((~searched.present[modality]).sum())
    notes = [f"{lost} of {len(searched)} rows have no {modality!r} and cannot be found."] if lost else []
    caption = f"Rows nearest to row {rows.labels[i]!r} in {modality!r} by {metric}, of {len(candidates)}"
    if not len(cells.columns):
        notes.append(f"The {block.shape[1]} columns of {modality!r} are not shown.")
    return SimilarRows(table, query.iloc[[i]], caption, notes)


def _shown(rows: ModalityRows, modality: str) -> pd.DataFrame:
    """Return the modality's cells, renamed where a name is a column of the result; no columns for an embedding."""
    cells = rows.cells(modality)
    cells = cells.iloc[:, : cells.shape[1] if modality in rows.parts.columns or cells.shape[1] <= _MOST_COLUMNS else 0]
    return cells.rename(columns={name: f"{name} (cell)" for name in ("similarity", "distance", "position")})


def _numbers(rows: ModalityRows, modality: str) -> np.ndarray:
    block = rows.block(modality)
    if block is None:
        raise ValueError(
            f"the model takes {modality!r} as raw cells, which have no distances; encode it before the fusion."
        )
    partly = np.flatnonzero(np.isnan(block).any(axis=1) & rows.present[modality])
    if len(partly):
        raise ValueError(
            f"modality {modality!r} is partly NaN in {counted(len(partly), 'row')}: "
            f"{[rows.labels[j] for j in partly[:5]]}; fill the gaps before the fusion (SimpleImputer)."
        )
    return block
