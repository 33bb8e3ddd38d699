"""Cross-fitting of combiners: each row is combined by a pool that was fitted without it."""

from __future__ import annotations

import warnings

import numpy as np

from ensemblefuse._fitting import fit_clone
from ensemblefuse.combine import BasePool, LogPool
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.fusion._oof_ledger import Ledger
from ensemblefuse.fusion.splits import mean_over_folds

__all__ = ["cross_fit", "default_combiner", "fill_with_prior"]


def default_combiner(*, classify: bool) -> LogPool:
    """Return the default pool.

    Its weights are learned for each pattern of missing members. In classification, its smoothing bounds the effect of
    one member that is certain and wrong.
    """
    return LogPool(per_pattern=True, smoothing=0.01) if classify else LogPool(per_pattern=True)


def cross_fit(
    combiner: BasePool,
    P: np.ndarray,
    ledger: Ledger,
    patterns: np.ndarray | None = None,
    names: list[str] | None = None,
) -> tuple[np.ndarray, list, BasePool]:
    """Fit one pool without each fold, and one on all rows. Fuse each fold with the pool fitted without it.

    `patterns` are the sets of members that new rows may have. By default, these are the sets in `P`. `names`
    are those of the members.

    Returns
    -------
    fused : ndarray of shape (n_samples, n_classes), or (n_samples,) in regression
        NaN in rows in no test fold, and in rows without any prediction. A row in several test folds gets the mean.
    pools : list of (train, test, pool)
    pool : BasePool
        Fitted on all rows.
    """
    classes = np.array(ledger.labels) if ledger.n_classes else None
    labels = ledger.y if classes is None else classes[ledger.y]
    mask = np.isfinite(P if P.ndim == 2 else P[..., 0])
    rows = np.flatnonzero(mask.any(axis=0))
    patterns = np.unique(mask.T, axis=0) if patterns is None else patterns

    def fit(chosen: np.ndarray) -> BasePool:
        weight = None if ledger.sample_weight is None else ledger.sample_weight[chosen]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingModalityWarning)
            known = {"classes": classes, "patterns": patterns, "names": names}
            return fit_clone(combiner, P[:, chosen], labels[chosen], mask[:, chosen], weight, **known)

    filled, pools = [], []
    for train, test in ledger.splits:
        train, test = np.intersect1d(train, rows), np.intersect1d(test, rows)
        heavy = train if ledger.sample_weight is None else train[ledger.sample_weight[train] > 0]
        if not len(test) or not len(heavy) or (ledger.n_classes and len(np.unique(ledger.y[heavy])) < 2):
            continue
        pool = fit(train)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingModalityWarning)
            filled.append((test, pool.pool(P[:, test], mask[:, test])))
        pools.append((train, test, pool))
    fused = mean_over_folds(filled, len(ledger.y), ledger.n_classes)
    return fused, pools, fit(np.arange(len(ledger.y)))


def fill_with_prior(predictions: np.ndarray, empty: np.ndarray, ledger: Ledger) -> np.ndarray:
    """Return a copy with the class frequencies (or the mean) of the training rows of the fold in the rows `empty`.

    Parameters
    ----------
    predictions : ndarray of shape (n_samples, n_classes), or (n_samples,) in regression
    empty : ndarray of shape (n_samples,), dtype bool
    ledger : Ledger
    """
    if not empty.any():
        return predictions
    out = predictions.copy()
    for train, test in ledger.splits:
        weight = None if ledger.sample_weight is None else ledger.sample_weight[train]
        if weight is not None and not weight.sum() > 0:
            continue
        if ledger.n_classes:
            counts = np.bincount(ledger.y[train], weights=weight, minlength=ledger.n_classes)
            out[test[empty[test]]] = counts / counts.sum()
        else:
            out[test[empty[test]]] = np.average(ledger.y[train], weights=weight)
    return out
