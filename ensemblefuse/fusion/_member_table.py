"""The members of a fitted decision-level fusion as a table: what was kept, how good it is, and what it adds."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import TransformedTargetRegressor
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline

from ensemblefuse._threads import one_blas_thread
from ensemblefuse.fusion._cross_fitted_pools import cross_fit, fill_with_prior
from ensemblefuse.fusion._log_target import LogTargetRegressor
from ensemblefuse.fusion._oof_ledger import Ledger
from ensemblefuse.fusion.patterns import oof_predictions, score_rows

__all__ = ["member_lines", "member_table", "training_rows"]

_TRIED = {
    "low": "one linear model for each block and for all together, words with one penalty; no kernels, no trees",
    "medium": "linear models with several penalties, kernels, boosted trees, words",
    "high": "as with medium, with four trees in each round of boosting, and ",
}
_MORE = {True: "extra trees", False: "slower boosting of small trees"}
_TOLD = ("C", "alpha", "n_estimators", "learning_rate")


def training_rows(pools: list[tuple[np.ndarray, np.ndarray, Any]]) -> list[np.ndarray | None]:
    """Return the training rows of each fold; None if these are all tested rows but its own, so that files stay small.

    Parameters
    ----------
    pools : list of (train, test, pool)
    """
    tested = np.unique(np.concatenate([test for _, test, _ in pools])) if pools else np.empty(0, dtype=int)
    return [None if np.array_equal(train, np.setdiff1d(tested, test)) else train for train, test, _ in pools]


def member_table(fusion: Any) -> pd.DataFrame:
    """Return one row per member: see ``DecisionFusionClassifier.members_``.

    Parameters
    ----------
    fusion : fitted decision-level fusion
    """
    n_members = len(fusion.member_names_)
    work = np.full((n_members, 2), np.nan) if fusion._member_work is None else fusion._member_work
    P = np.asarray(fusion.oof_predictions_, dtype=float)
    scores = [score_rows(own, np.ones(P.shape[1], dtype=bool), fusion._oof) for own in P]
    names = ["log_loss", "accuracy"] if fusion._classify else ["rmse", "r2"]
    columns = {
        "head": [
            head_text(fusion.estimators_[name]) if name in fusion.estimators_ else "" for name in fusion.member_names_
        ],
        "n_tried": pd.array(work[:, 0], dtype="Int64"),
        "n_rows": [int(score[0]) for score in scores],
        "seconds": work[:, 1],
        names[0]: [score[1] for score in scores],
        names[1]: [score[2] for score in scores],
        "gain": _gains(fusion),
    }
    return pd.DataFrame(columns, index=pd.Index(fusion.member_names_, name="member"))


def _gains(fusion: Any) -> list[float]:
    """Return what each member adds to the fused out-of-fold score: against a combiner that was fitted without it."""
    n_members, oof = len(fusion.member_names_), fusion._oof
    # Without a fold there is no out-of-fold score. Files of before do not tell the training rows of the folds.
    if n_members < 2 or not oof["pools"] or "train" not in oof:
        return [np.nan] * n_members
    everything = np.ones(oof["present"].shape, dtype=bool)
    # The predictions that the combiner was scored on.
    score = lambda fused: score_rows(fused, np.ones(len(oof["y"]), dtype=bool), oof)[1 if fusion._classify else 2]
    whole = score(oof_predictions(fusion, everything))
    with one_blas_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        without = [score(_fused_without(fusion, m)) for m in range(n_members)]
    return [float(other - whole if fusion._classify else whole - other) for other in without]


def _fused_without(fusion: Any, m: int) -> np.ndarray:
    """Return fused out-of-fold predictions of combiners that were fitted as if a member had no predictions."""
    P = np.array(fusion.oof_predictions_, dtype=float)
    P[m] = np.nan
    ledger = _second_level(fusion)
    fused = np.full(P.shape[1:], np.nan)
    pools: list = []
    if np.isfinite(P).any():
        fused, pools, _ = cross_fit(fusion._pool(), P, ledger, names=fusion.member_names_)
    calibrated = fused.copy()
    for train, test, _ in pools:
        certainty = fusion._certainty_without(fused, train, test, ledger)
        if certainty is not None:
            calibrated[test] = fusion._calibrate(fused[test], certainty)
    tested = np.zeros(len(fused), dtype=bool)
    tested[np.concatenate([test for _, test in ledger.splits])] = True
    alone = ~np.isfinite(fused.reshape(len(fused), -1)[:, 0])
    return fill_with_prior(calibrated, tested & alone, ledger)


def _second_level(fusion: Any) -> Ledger:
    """Return a ledger with the splits, targets and weights from which the combiner was learned."""
    oof = fusion._oof
    tests = [test for test, _, _ in oof["pools"]]
    tested = np.unique(np.concatenate(tests))
    kept = zip(oof["train"], tests, strict=True)
    splits = [(np.setdiff1d(tested, test) if train is None else train, test) for train, test in kept]
    labels = fusion.classes_.tolist() if fusion._classify else []
    return Ledger(oof["y"], splits, fusion._row_weights(oof["sample_weight"], range(len(oof["y"])), oof["y"]), labels)


# ---------------------------------------------------------------------- as text


def member_lines(fusion: Any) -> list[str]:
    """Return what ``verbose=1`` prints: what was tried, a table of the members, and the score of all together.

    Parameters
    ----------
    fusion : fitted decision-level fusion
    """
    table = member_table(fusion)
    n_folds, tried = len(fusion._oof["pools"]), table["n_tried"].sum()
    fused = score_rows(
        oof_predictions(fusion, np.ones(fusion._oof["present"].shape, dtype=bool)),
        np.ones(len(fusion._oof["y"]), dtype=bool),
        fusion._oof,
    )
    names = ["log-loss", "accuracy"] if fusion._classify else ["rmse", "R2"]
    rows = [("member", "head", "tried", "rows", "seconds", *names, "gain")]
    for member, *cells in table.itertuples():
        head, n_tried, n_rows, seconds, *scores = cells
        rows.append((member, head, f"{n_tried}", f"{n_rows}", f"{seconds:.2f}", *map(_number, scores)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    more = _MORE[fusion._classify] if fusion.effort == "high" else ""
    return [
        f"effort={fusion.effort!r} tries, where no estimator is named: {_TRIED[fusion.effort]}{more}",
        *lines,
        f"{tried} estimators in {n_folds} folds, {table['seconds'].sum():.2f} s; all members together, out of fold, in "
        f"{int(fused[0])} rows: {names[0]} {_number(fused[1])}, {names[1]} {_number(fused[2])}",
    ]


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4f}" if abs(value) < 100 else f"{value:.6g}"


def head_text(fitted: Any) -> str:
    """Return one word for a fitted head, with the parameters by which the default heads differ."""
    fitted = fitted[0] if isinstance(fitted, list) else fitted  # one model per fold
    if isinstance(fitted, Pipeline):
        steps = [step for _, step in fitted.steps]
        kernel = [type(step).__name__ for step in steps[:-1] if type(step).__name__ == "Nystroem"]
        return " + ".join([*kernel, head_text(steps[-1])])
    if isinstance(fitted, LogTargetRegressor):
        return f"{head_text(fitted.regressor_)} of log y"
    if isinstance(fitted, TransformedTargetRegressor):
        return head_text(fitted.regressor_)
    if isinstance(fitted, OneVsRestClassifier):
        return f"one-vs-rest {head_text(fitted.estimator)}"
    told = [(name, getattr(fitted, f"{name}_", getattr(fitted, name, None))) for name in _TOLD]
    shown = [f"{name}={value:.3g}" for name, value in told if isinstance(value, (int, float, np.number))]
    return f"{type(fitted).__name__}({', '.join(shown)})"
