"""How well the cells of one modality find their partners among those of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from ensemblefuse.evaluation._retrieval_result import KS, MEDIAN, RetrievalReport, RetrievalReportDisplay, recall_name
from ensemblefuse.exceptions import counted
from ensemblefuse.scoring.bootstrap import Resampling, interval, n_units, read_seed, resample_weights
from ensemblefuse.scoring.display import drawn_by
from ensemblefuse.scoring.inputs import read_groups
from ensemblefuse.scoring.retrieval import (
    cell_codes,
    chance_of_recall,
    chance_rank,
    distinct,
    partner_ranks,
    partners,
)

__all__ = ["retrieval_report"]

# Resamples whose medians are computed at once, and queries that are asked at once.
_AT_ONCE, _QUERIES = 100, 1000


@drawn_by(RetrievalReportDisplay)
def retrieval_report(
    projector: Any,
    X: Any,
    a: str,
    b: str,
    groups: Any = None,
    *,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = 0,
) -> RetrievalReport:
    """Search the partner of each cell of one block among the cells of another, both ways.

    Equal cells count once, as a query and in the gallery, so that a caption that many rows share is not found more
    easily than others. Each cell is at the rank of the first of its partners. An equal score counts half a rank: where
    all scores are equal, nothing is found.

    Parameters
    ----------
    projector : fitted `CommonSpaceProjector`, or pipeline that ends in one
    X : DataFrame or array of shape (n_samples, n_features)
        Rows that `projector` was not fitted on. A frame may lack the columns of other blocks. Rows that lack one of the
        two blocks are left out.
    a, b : str
        Names of the two blocks.
    groups : array of shape (n_samples,), optional
        Cells of one group are partners of one another, as in `CommonSpaceProjector.fit`, and are resampled together.
        Without groups, partners stand in one row, and each distinct query is resampled alone.
    n_resamples : int
        Number of bootstrap resamples. They are of queries; the gallery stays whole.
    confidence_level : float
    random_state : int, RandomState or None
        Seed of the bootstrap.

    Returns
    -------
    RetrievalReport

    Raises
    ------
    TypeError
        If `projector` has no ``similarity``.
    NotFittedError
        If `projector` is not fitted.
    ValueError
        If it does not know a block, `a` and `b` are the same, X lacks its columns, or no row holds both blocks.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from ensemblefuse import CommonSpaceProjector, retrieval_report
    >>> meaning = np.random.default_rng(0).normal(size=(80, 2))
    >>> X = pd.DataFrame(np.hstack([meaning, meaning + 0.01]), columns=["image__0", "image__1", "text__0", "text__1"])
    >>> space = CommonSpaceProjector(2, method="cca", reg=1e-6).fit(X[:60])
    >>> retrieval_report(space, X[60:], "image", "text").table[["query", "measure", "score", "chance"]].head(2)
       query   measure  score  chance
    0  image  recall@1    1.0    0.05
    1  image  recall@5    1.0    0.25
    """
    resampling = Resampling(n_resamples, confidence_level, read_seed(random_state))
    resampling.check()
    if isinstance(projector, Pipeline):
        X, projector = (projector[:-1].transform(X) if len(projector) > 1 else X), projector[-1]
    if not hasattr(projector, "similarity"):
        raise TypeError(
            f"retrieval_report needs a CommonSpaceProjector, or a pipeline that ends in one; got {projector!r}."
        )
    if isinstance(projector, BaseEstimator):
        check_is_fitted(projector)
    if a == b:
        raise ValueError(f"a and b are both {a!r}; a block finds itself, so pass the names of two blocks.")
    parts = [_columns(projector, X, name) for name in (a, b)]
    n_rows = len(X)
    groups = read_groups(groups, n_rows)
    values = [np.asarray(part, dtype=float) for part in parts]
    both = np.flatnonzero(~np.isnan(values[0]).all(axis=1) & ~np.isnan(values[1]).all(axis=1))
    if not len(both):
        raise ValueError(
            f"no row of X holds both blocks, {a!r} and {b!r} (n_samples = {n_rows}); nothing can be found."
        )
    codes = [cell_codes(part[both]) for part in values]
    groups = None if groups is None else groups[both]
    firsts = [distinct(own) for own in codes]
    sides = [_take(part, both[first]) for part, first in zip(parts, firsts, strict=True)]
    belongs = partners(codes[0], codes[1], groups)
    tables, ranks, notes = [], {}, []
    for query, gallery, cells, right, first in (
        (a, b, sides, belongs, firsts[0]),
        (b, a, sides[::-1], belongs.T.tocsr(), firsts[1]),
    ):
        own = Resampling(n_resamples, confidence_level, resampling.seed, None if groups is None else groups[first])
        ask = lambda asked, found, query=query, gallery=gallery: projector.similarity(
            asked, found, block_a=query, block_b=gallery
        )
        ranks[query] = _ranks(ask, cells[0], cells[1], right)
        tables.append(_table(query, gallery, ranks[query], right, own))
        notes += [note for note in own.notes(len(first)) if note not in notes]
    if len(both) < n_rows:
        notes.append(f"{n_rows - len(both)} of {n_rows} rows lack one of the two blocks and are left out.")
    sizes = {a: len(firsts[0]), b: len(firsts[1])}
    caption = (
        f"Partners of {sizes[a]} distinct cells of {a!r} and {sizes[b]} of {b!r}, from {len(both)} rows; "
        f"{resampling.caption}"
    )
    return RetrievalReport(
        pd.concat(tables, ignore_index=True), caption, notes, ranks=ranks, sizes=sizes, n_rows=len(both)
    )


def _columns(projector: Any, X: Any, block: str) -> Any:
    """Return the columns of a block, as `transform_block` takes them."""
    if block not in projector.blocks_:
        raise ValueError(f"block {block!r} is unknown; the blocks are {list(projector.blocks_)}.")
    positions, names = projector.blocks_[block], getattr(projector, "feature_names_in_", None)
    if not isinstance(X, pd.DataFrame) or names is None:
        return np.asarray(X)[:, positions]
    lost = [name for name in names[positions] if name not in X.columns]
    if lost:
        raise ValueError(f"X lacks {counted(len(lost), 'column')} of block {block!r}, such as {lost[:5]}.")
    return X[names[positions]]


def _ranks(ask: Callable[[Any, Any], np.ndarray], queries: Any, gallery: Any, belongs: csr_array) -> np.ndarray:
    """Return the rank of the first partner of each query; the table of all similarities is never held at once."""
    found = []
    for part in gen_batches(len(queries), _QUERIES):
        rows = np.arange(len(queries))[part]
        found.append(partner_ranks(ask(_take(queries, rows), gallery), belongs[rows].toarray() > 0))
    return np.concatenate(found)


def _take(part: Any, rows: np.ndarray) -> Any:
    return part.iloc[rows] if isinstance(part, pd.DataFrame) else part[rows]


def _table(query: str, gallery: str, ranks: np.ndarray, belongs: csr_array, resampling: Resampling) -> pd.DataFrame:
    """Return the rows of one direction."""
    n_partners, n_gallery = np.diff(belongs.indptr), belongs.shape[1]
    hits = np.column_stack([ranks <= k for k in KS]).astype(float)
    low, high = resampling.interval(hits)
    least, most = _interval_of_median(ranks, resampling)
    return pd.DataFrame(
        {
            "query": query,
            "gallery": gallery,
            "measure": [*map(recall_name, KS), MEDIAN],
            "score": [*hits.mean(axis=0), np.median(ranks)],
            "low": [*low, least],
            "high": [*high, most],
            "chance": [*chance_of_recall(n_partners, n_gallery, KS), chance_rank(n_partners, n_gallery)],
        }
    )


def _interval_of_median(ranks: np.ndarray, resampling: Resampling) -> tuple[float, float]:
    """Return the interval of the median rank; the lower one of two in the middle of a resample."""
    if n_units(len(ranks), None, resampling.groups) < 2:
        return np.nan, np.nan
    order, rng, medians = np.argsort(ranks, kind="stable"), np.random.RandomState(resampling.seed), []
    for start in range(0, resampling.n_resamples, _AT_ONCE):
        count = min(_AT_ONCE, resampling.n_resamples - start)
        passed = resample_weights(len(ranks), count, rng, resampling.groups)[:, order].cumsum(axis=1)
        medians.append(ranks[order][(passed >= passed[:, -1:] / 2).argmax(axis=1)])
    low, high = interval(np.concatenate(medians), resampling.level)
    return float(low), float(high)
