"""Boosted trees: default members of decision-level fusion, beside the heads that are searched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import ExtraTreesClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version

from ensemblefuse.blocks import Blocks
from ensemblefuse.features import BlockPCA
from ensemblefuse.fusion._default_heads import HeadSearch

__all__ = [
    "forest_member",
    "forest_search",
    "has_components",
    "has_joint_forest",
    "has_trees",
    "joint_trees",
    "narrow_blocks",
    "tree_search",
    "trees_member",
    "trees_strategy",
]

# Tables have few columns, each with a meaning of its own; a split on one column of an embedding says little. A flag,
# such as one of the columns that a category becomes, is never part of an embedding, and costs next to nothing.
_NARROW = 200
_MOST_COLUMNS = 1000
_COMPONENTS = 30
# With fewer rows trees are a matter of luck: with 75 one log-loss grew by .02, with 89 another fell by .015.
_MIN_ROWS = 100
# Each round fits one tree per class, so the work of many classes is bounded, and beyond a number there are no trees.
_MAX_CLASSES = 30
# Of a target's largest number. Single precision rounds by less than a thousandth of this.
_LEAST_SPREAD = 1e-4
_MAX_TREES = 600
# A fixed number of rounds needs no rows to stop on. Too many rounds make a classifier too certain, which the member's
# temperature mends. With half of the columns for each split, 100 rounds at rate .1 were better than 60 at .15 with all
# columns on 6 of 7 tables of classes (log-loss -.001 to -.007, and +.003) and 3 of 4 of numbers (R2 +.005 to +.03).
_ROUNDS, _RATE, _MAX_RATE = 100, 0.1, 0.3
_COLUMN_SHARE = 0.5
# With effort="high", each round fits four trees on draws of rows and columns, and adds their mean: on two tables of
# classes, log-losses of .18 and .51 fell by .003. In regression a second candidate learns more slowly, from more rounds
# of small trees: R2 rose from .625 to .659 on a table of prices, and by .001 where names are read as words, too.
_TREES_A_ROUND = 4
# In regression on few rows, the mean of several trees a round errs less than one tree: with three, R2 of the trees
# alone rose on each of six tables of 280 to 3 570 rows, by .004 to .017, for 2 to 3 times their time. Beside a forest
# two are enough. Larger tables would pay more seconds.
_FEW_ROWS, _TREES_OF_FEW_ROWS = 4000, 2
_SMALL = {"colsample_bynode": 1.0, "colsample_bytree": 0.5, "max_leaves": 8, "min_child_weight": 5}
# A forest errs on other rows than boosted trees do. For classes it has extra trees, with effort="high": the same
# log-losses fell by .004 and .008, with both by .006 and .010. A leaf holds a thousandth of the rows, which keeps files
# small. For numbers it is random, and always there: with it, and two trees a round in place of three, R2 rose by .009
# in the mean of 16 tables of 215 to 3 000 rows (by up to .047, on 11 of them; on others it fell by at most .006). Over
# all blocks together its time grows with rows times columns, so it is there on few rows only. A tree draws at most
# 10 000 rows.
_EXTRA = {"n_estimators": 100, "max_features": 0.5, "random_state": 0}
_RANDOM = {"n_estimators": 50, "max_features": 0.3, "random_state": 0}
_LEAF_SHARE = 0.001
_LEAST_LEAF, _MOST_DRAWN = 2, 10_000
# Up to 1.8, scikit-learn refuses a number of drawn rows above that of the rows, and a fold has fewer than the table.
# From 1.9 on, a share of the rows is one of the sum of their weights, which may be any number.
_DRAWS_A_SHARE = parse_version(sklearn.__version__) < parse_version("1.9")
# The work of a round grows with columns times bins, so a table of few columns gets finer bins. Classes are told apart
# as well with few. Numbers are not: where a few rows have large targets, R2 rose from .53 to .61 from 64 to 256 bins.
_MIN_BINS, _MAX_BINS = 64, 256
_CLASS_COLUMN_BINS, _VALUE_COLUMN_BINS = 1024, 16_384


def trees_member(block: str) -> str:
    """Return the name of the member of boosted trees over a block."""
    return f"{block}/trees"


def forest_member(block: str) -> str:
    """Return the name of the member of extra trees over a block."""
    return f"{block}/forest"


def has_joint_forest(n_rows: int, n_classes: int) -> bool:
    """Return whether a forest over all blocks is worth its time; for classes it is asked for."""
    return n_classes > 0 or n_rows <= _FEW_ROWS


def narrow_blocks(blocks: Blocks, names: Sequence[str]) -> list[str]:
    """Return the names of the blocks of numbers that have few columns, not counting flags (0 or 1)."""
    return [name for name in names if _is_narrow(blocks.data[name])]


def _is_narrow(data: np.ndarray) -> bool:
    if not _NARROW < data.shape[1] <= _MOST_COLUMNS:
        return data.shape[1] <= _NARROW
    flags = ((data == 0) | (data == 1) | np.isnan(data)).all(axis=0)
    return int((~flags).sum()) <= _NARROW


def has_trees(data: np.ndarray, present: np.ndarray, y: np.ndarray, n_classes: int) -> bool:
    """Return whether trees are worth their time: for enough rows, few classes, and numbers that float32 can hold."""
    enough = int(present.sum()) >= _MIN_ROWS and n_classes <= _MAX_CLASSES
    return enough and _in_float32(data) and (n_classes > 0 or (_in_float32(y) and _varies_in_float32(y)))


def _in_float32(values: np.ndarray) -> bool:
    return not bool((np.abs(values) > np.finfo(np.float32).max).any())


def _varies_in_float32(y: np.ndarray) -> bool:
    """Return whether predictions in single precision, which XGBoost gives, keep the differences of a target."""
    return bool(np.std(y) > _LEAST_SPREAD * np.abs(y).max())


def tree_search(
    n_columns: int, n_classes: int, prepare: Any = None, *, n_rows: int | None = None, effort: str = "medium"
) -> HeadSearch:
    """Build boosted trees, which also get a temperature from the ledger.

    Parameters
    ----------
    n_columns : int
        Number of columns that the trees see.
    n_classes : int
        0 in regression. There the target is standardised, because XGBoost computes in float32.
    prepare : transformer, optional
    n_rows : int, optional
        In regression, rounds on few rows fit several trees. Not known, they are many.
    effort : {"medium", "high"}

    Returns
    -------
    HeadSearch
        One head: `xgboost.XGBClassifier` or `xgboost.XGBRegressor`, on one thread, because the ledger runs fits side by
        side. With ``effort="high"``, each round fits several trees, and in regression there are two heads.

    References
    ----------
    Chen and Guestrin, XGBoost: a scalable tree boosting system, KDD 2016.
    """
    column_bins = _CLASS_COLUMN_BINS if n_classes else _VALUE_COLUMN_BINS
    rounds = min(_ROUNDS, _MAX_TREES // max(n_classes, 1))
    settings: dict[str, Any] = {
        "n_estimators": rounds,
        "learning_rate": min(_RATE * _ROUNDS / rounds, _MAX_RATE),
        "grow_policy": "lossguide",
        "max_depth": 0,
        "max_leaves": 31,
        "max_bin": int(np.clip(column_bins // n_columns, _MIN_BINS, _MAX_BINS)),
        "subsample": 0.8,
        "colsample_bynode": _COLUMN_SHARE,
        "n_jobs": 1,
        "random_state": 0,
    }
    several = [settings]
    if not n_classes and n_rows is not None and n_rows <= _FEW_ROWS:
        settings["num_parallel_tree"] = _TREES_OF_FEW_ROWS
    if effort == "high":
        settings["num_parallel_tree"] = _TREES_A_ROUND
        slower = {"n_estimators": 3 * rounds, "learning_rate": settings["learning_rate"] / 2}
        several += [] if n_classes else [{**settings, **_SMALL, **slower}]
    heads = [_boosted_trees(each, n_classes) for each in several]
    return HeadSearch(heads, Pipeline([]) if prepare is None else prepare, raise_weights=True)


def _boosted_trees(settings: dict[str, Any], n_classes: int) -> Any:
    from xgboost import XGBClassifier, XGBRegressor  # not before trees are fitted: importing it takes time

    if n_classes:
        return XGBClassifier(**settings)
    return TransformedTargetRegressor(XGBRegressor(**settings), transformer=StandardScaler())


def forest_search(n_rows: int, n_classes: int, boosted: HeadSearch) -> HeadSearch:
    """Build a forest, which errs on other rows than boosted trees do.

    Parameters
    ----------
    n_rows : int
    n_classes : int
        0 in regression.
    boosted : HeadSearch
        The boosted trees over the same columns.

    Returns
    -------
    HeadSearch
        One head: extremely randomised trees for classes, a random forest for numbers. Gaps are filled with the mean,
        after what the boosted trees prepare.

    References
    ----------
    Breiman, Random forests, Machine Learning 2001. Geurts, Ernst and Wehenkel, Extremely randomized trees, Machine
    Learning 2006.
    """
    head: Any
    if n_classes:
        head = ExtraTreesClassifier(min_samples_leaf=max(_LEAST_LEAF, round(_LEAF_SHARE * n_rows)), **_EXTRA)
    else:
        head = RandomForestRegressor(min_samples_leaf=_LEAST_LEAF, max_samples=_drawn(n_rows), **_RANDOM)
    prepare = [step for _, step in boosted.prepare.steps]
    return HeadSearch([head], make_pipeline(*prepare, _imputer()))


def _drawn(n_rows: int) -> float | None:
    """Return how many rows a tree of a random forest draws, as the installed scikit-learn takes it; None for all."""
    if n_rows <= _MOST_DRAWN:
        return None
    return _MOST_DRAWN / n_rows if _DRAWS_A_SHARE else _MOST_DRAWN


def joint_trees(
    spans: dict[str, np.ndarray],
    narrow: Sequence[str],
    n_classes: int,
    *,
    n_rows: int | None = None,
    effort: str = "medium",
) -> HeadSearch:
    """Build boosted trees over narrow blocks and the first principal components of wide ones.

    Parameters
    ----------
    spans : dict of str to ndarray of int
        Positions of the columns of each block.
    narrow : sequence of str
    n_classes, n_rows, effort
        As in `tree_search`.

    Returns
    -------
    HeadSearch
        Gaps are filled with the mean. Imputer and components are fitted with the trees, so inside each fold.
    """
    columns = _columns_for_trees(spans, narrow)
    prepare = make_pipeline(*([] if columns is None else [columns]), _imputer())
    return tree_search(_width(spans, narrow), n_classes, prepare, n_rows=n_rows, effort=effort)


def has_components(
    wide: Sequence[str], blocks: Blocks, present: np.ndarray, splits: Sequence, weight: np.ndarray | None
) -> bool:
    """Return whether one of these wide blocks has components in each fold of these splits.

    Parameters
    ----------
    wide : sequence of str
    blocks : Blocks
    present : ndarray of shape (n_samples,), dtype bool
        Rows in which the trees take part.
    splits : list of (train, test)
    weight : ndarray of shape (n_samples,), optional
    """
    usable = present if weight is None else present & (weight > 0)
    held = [usable & blocks.present[blocks.names.index(name)] for name in wide]
    return any(all(rows[train].sum() > 1 for train, _ in splits) for rows in held)


def trees_strategy(
    spans: dict[str, np.ndarray], narrow: Sequence[str], n_classes: int, weight: np.ndarray | None
) -> dict[str, Any]:
    """Return the parameters of a feature-level fusion by boosted trees: narrow blocks, and components of wide ones.

    Parameters
    ----------
    spans : dict of str to ndarray of int
    narrow : sequence of str
    n_classes : int
        0 in regression.
    weight : ndarray of shape (n_samples,), optional
        XGBoost compares sums of weights with its penalties. A feature-level fusion hands weights on as they are, so
        small ones make the penalties small, too.
    """
    (head,) = tree_search(_width(spans, narrow), n_classes).heads
    if weight is not None:
        unit = min(1.0, float(weight[weight > 0].mean()))
        own = head if n_classes else head.regressor
        own.set_params(min_child_weight=unit, reg_lambda=unit)
    return {
        "estimator": make_pipeline(_imputer(), head),
        "transformer": _columns_for_trees(spans, narrow),
        "missing": "native",  # the imputer stands behind the components
    }


def _width(spans: dict[str, np.ndarray], narrow: Sequence[str]) -> int:
    """Return how many columns the trees over all blocks see."""
    return sum(len(columns) if name in narrow else _COMPONENTS for name, columns in spans.items())


def _imputer() -> SimpleImputer:
    """Return what fills gaps. It stands behind the components.

    Components of a filled row would be zero but for rounding errors, and trees would split on these.
    """
    return SimpleImputer(keep_empty_features=True)


def _columns_for_trees(spans: dict[str, np.ndarray], narrow: Sequence[str]) -> ColumnTransformer | None:
    """Return a transformer that passes narrow blocks on and gives components of wide ones; None without wide ones."""
    wide = {name: columns for name, columns in spans.items() if name not in narrow}
    if not wide:
        return None
    ends = np.cumsum([len(columns) for columns in wide.values()])
    blocks = {name: np.arange(end - len(wide[name]), end) for name, end in zip(wide, ends, strict=True)}
    parts = [
        ("narrow", "passthrough", np.concatenate([spans[name] for name in narrow])),
        ("wide", BlockPCA(_COMPONENTS, blocks=blocks, random_state=0), np.concatenate(list(wide.values()))),
    ]
    return ColumnTransformer(parts, verbose_feature_names_out=False)
