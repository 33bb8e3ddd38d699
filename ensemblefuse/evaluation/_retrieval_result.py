"""Result of `retrieval_report`, and its picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.scoring.display import MARKERS, MUTED, BaseDisplay, colors_of
from ensemblefuse.scoring.result import TableResult

__all__ = ["KS", "MEDIAN", "RetrievalReport", "RetrievalReportDisplay", "recall_name"]

KS = (1, 5, 10)
MEDIAN = "median rank"
# Points of the two directions stand beside each other.
_APART = 0.12


def recall_name(k: int) -> str:
    """Return the name of the share of queries with a partner among the first k."""
    return f"recall@{k}"


class RetrievalReport(TableResult):
    """Recall and ranks of partners across two modalities, both ways. Made by `retrieval_report`.

    Attributes
    ----------
    table : DataFrame
        For each direction one row per measure: ``query``, ``gallery``, ``measure``, ``score``, ``low``, ``high``,
        ``chance``.

        - ``recall@1``, ``recall@5``, ``recall@10``: share of the distinct queries with a partner among the first.
        - ``median rank``: of the first partner; smaller is better.
        - ``low``, ``high``: interval from a bootstrap over queries, or over groups of them.
        - ``chance``: of a gallery in random order. It is k/N where a query has one partner among N cells, and more with
          several.
    caption : str
    notes : list of str
    ranks : dict of str to ndarray
        For each block as the query, the rank of the first partner of each distinct cell, in the order of the rows.
    sizes : dict of str to int
        Number of distinct cells of each block.
    n_rows : int
        Rows that hold both blocks.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        caption: str,
        notes: list[str],
        *,
        ranks: dict[str, np.ndarray],
        sizes: dict[str, int],
        n_rows: int,
    ):
        super().__init__(table, caption, notes)
        self.ranks = ranks
        self.sizes = sizes
        self.n_rows = n_rows

    def _display_class(self) -> Any:
        return RetrievalReportDisplay


class RetrievalReportDisplay(BaseDisplay):
    """Recall at 1, 5 and 10 with intervals, one colour for each direction; a dash is what chance gives.

    Parameters
    ----------
    result : RetrievalReport

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import CommonSpaceProjector, RetrievalReportDisplay
    >>> X = np.random.default_rng(0).normal(size=(60, 2)) @ np.ones((2, 4)) + np.arange(4)
    >>> space = CommonSpaceProjector(1, blocks={"image": [0, 1], "text": [2, 3]}).fit(X[:40])
    >>> display = RetrievalReportDisplay.from_estimator(space, X[40:], "image", "text")
    >>> display.ax_.get_title()
    'Partners found among distinct cells, 20 rows'
    """

    def _draw(self, ax: Any) -> None:
        table = self.result.table[self.result.table["measure"] != MEDIAN]
        medians = self.result.table[self.result.table["measure"] == MEDIAN].set_index("query")["score"]
        colors = colors_of(list(self.result.sizes))
        for i, (query, part) in enumerate(table.groupby("query", sort=False)):
            places = np.arange(len(part)) + (i - 0.5) * 2 * _APART
            gallery, score = part["gallery"].iloc[0], part["score"].to_numpy()
            spans = [score - part["low"].to_numpy(), part["high"].to_numpy() - score]
            label = f"{query} → {gallery}, median rank {medians[query]:g} of {self.result.sizes[gallery]}"
            ax.errorbar(
                places, score, np.maximum(spans, 0), fmt=MARKERS[i], color=colors[query], capsize=3, label=label
            )
            chance = {"label": "chance"} if i == 0 else {}
            ax.hlines(part["chance"], places - _APART, places + _APART, color=MUTED, linewidth=2, **chance)
        ax.set(
            xticks=range(len(KS)),
            xticklabels=[recall_name(k) for k in KS],
            ylim=(0, 1.02),
            ylabel="share of queries",
            title=f"Partners found among distinct cells, {self.result.n_rows} rows",
        )
        ax.legend(frameon=False, fontsize="small")
