"""Accuracy, log-loss, calibration error and fit time of fusion strategies beside rivals, on real sets.

Run: python benchmarks/fusion_quality.py [set ...] [--repeats N] [--only TEXT] [--jobs N]

Every row sees the same training and test rows. Rivals are scikit-learn's StackingClassifier and VotingClassifier and,
where it is installed, MultiViewStacking. Their heads are those of our default: the given one, or those that it chose on
the same training rows, so that their fit time lacks that choice. They take no missing blocks, so they stand behind a
mean imputer, and no groups, so their inner folds ignore them.

Each fitted model predicts the test rows twice: as they are, and with half of the blocks missing (every block of every
row dropped with probability 1/2, one kept at random where all would go; no gap in training but those that the set has).
The standard error is taken over the splits; fit times are of the processor.
"""

import argparse
import importlib.util
import inspect
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from _data import SETS, load, read_blocks
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

import ensemblefuse
from ensemblefuse import DecisionFusionClassifier, FeatureFusionClassifier
from ensemblefuse.fusion.joint import JOINT

DEFAULT = "hybrid (the default)"
COMBINERS = ("StackingPool", "MeanPool", "GreedyPool", "DempsterShaferPool")
STRATEGIES = ("KernelFusionClassifier", "SequentialFusionClassifier", "CooperativeClassifier", "FusionSearchCV")
SCORES = ("accuracy", "log_loss", "ece", "fit_s", "gap_accuracy", "gap_log_loss")


class Task(NamedTuple):
    """One table of results: a set, the estimator of every block (None: the library's default), and its splits."""

    title: str
    set_name: str
    head: Any
    splits: Callable[..., Iterator[tuple[np.ndarray, np.ndarray]]]
    # What the default must reach: score -> limit. Accuracies at least, losses at most.
    targets: dict[str, float] = {}
    # Each combiner fits all members anew, which is dear with wide blocks and forests.
    combiners: bool = False


def halves(X, y, groups, repeats):
    return StratifiedShuffleSplit(repeats, train_size=0.5, random_state=0).split(X, y)


def rows_200(X, y, groups, repeats):
    return StratifiedShuffleSplit(repeats, train_size=200, random_state=0).split(X, y)


def folds(X, y, groups, repeats, one_in=10):
    """A round of five folds for each ten repeats asked for."""
    for seed in range(max(1, repeats // one_in)):
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        yield from kind(5, shuffle=True, random_state=seed).split(X, y, groups)


FOREST = RandomForestClassifier(random_state=0)
TASKS = [
    Task(
        "HTAD, random forests, 50/50",
        "htad",
        FOREST,
        halves,
        {"accuracy": 0.930, "log_loss": 0.25, "gap_accuracy": 0.857},
    ),
    Task("HTAD, default estimators, 50/50", "htad", None, halves, combiners=True),
    Task(
        "mfeat, 200 training rows",
        "mfeat",
        None,
        rows_200,
        {"accuracy": 0.981, "log_loss": 0.13, "gap_accuracy": 0.932},
        combiners=True,
    ),
    Task("ad_data, 5 folds", "ad_data", None, partial(folds, one_in=2), combiners=True),
    Task("Open Clip Art, 5 folds by text", "open_clip_art", None, folds),
    Task("Tux Paint, 5 folds by text", "tux_paint", None, folds),
]


# ---------------------------------------------------------------------- models


def our_models(task: Task, columns: dict[str, list[str]]) -> dict[str, tuple[Any, list[str]]]:
    """Name -> model and the columns that it reads."""
    head = task.head
    every = [column for names in columns.values() for column in names]
    models = {f"{b} alone": (DecisionFusionClassifier(head, joint=False), names) for b, names in columns.items()}
    fusions = {
        "feature level": FeatureFusionClassifier(head),
        "decision level": DecisionFusionClassifier(head, joint=False),
        DEFAULT: DecisionFusionClassifier(head),
    }
    for name in COMBINERS if task.combiners else ():
        if hasattr(ensemblefuse, name):
            pool = getattr(ensemblefuse, name)()
            fusions[f"hybrid, {name}"] = DecisionFusionClassifier(head, combiner=pool)
    for name in STRATEGIES if head is None else ():  # they have estimators of their own
        if hasattr(ensemblefuse, name):
            fusions[name] = getattr(ensemblefuse, name)()
    return models | {name: (model, every) for name, model in fusions.items()}


def rivals(chosen: dict[str, Any], columns: dict[str, list[str]]) -> dict[str, Any]:
    """Other people's second levels over the heads that our default chose."""
    widths = np.cumsum([0, *(len(names) for names in columns.values())])
    positions = {b: list(range(widths[i], widths[i + 1])) for i, b in enumerate(columns)}

    def decides(estimator: Any) -> bool:
        return not hasattr(estimator, "predict_proba")

    def head(block: str, *, proba: bool) -> Any:
        estimator = clone(chosen[block])
        return CalibratedClassifierCV(estimator, ensemble=False) if proba and decides(estimator) else estimator

    def heads(*, joint: bool, proba: bool) -> list[tuple[str, Any]]:
        places = {**positions, JOINT: list(range(widths[-1]))} if joint else positions
        return [
            (b, make_pipeline(ColumnTransformer([("block", "passthrough", place)]), head(b, proba=proba)))
            for b, place in places.items()
        ]

    models = {}
    for ending, joint in (("", False), (" + joint", True)):
        models[f"sklearn StackingClassifier{ending}"] = StackingClassifier(heads(joint=joint, proba=False), cv=5)
        voters = heads(joint=joint, proba=True)
        models[f"sklearn VotingClassifier, soft{ending}"] = VotingClassifier(voters, voting="soft")
    if importlib.util.find_spec("multiviewstacking") is not None:
        from multiviewstacking import MultiViewStacking

        # It selects the columns itself; k as the others' cv, its own default is 10.
        learners = [head(block, proba=True) for block in columns]
        models["MultiViewStacking"] = MultiViewStacking(list(positions.values()), learners, k=5)
    filled = {name: make_pipeline(SimpleImputer(keep_empty_features=True), model) for name, model in models.items()}
    return {f"{name} (mean-filled)": model for name, model in filled.items()}


# ---------------------------------------------------------------------- scores


def calibration_error(proba: np.ndarray, y: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of the most probable class, in bins of equal width (Guo et al., ICML 2017, eq. 3)."""
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == y
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(y))


def drop_blocks(X: pd.DataFrame, columns: dict[str, list[str]], seed: int) -> pd.DataFrame:
    """Half of the blocks missing at random; at least one of those that the row has is kept."""
    rng = np.random.default_rng(seed)
    there = np.array([X[names].notna().any(axis=1) for names in columns.values()]).T
    kept = there & (rng.random(there.shape) < 0.5)
    favourite = np.where(there, rng.random(there.shape), -1.0).argmax(axis=1)
    lost = np.flatnonzero(~kept.any(axis=1))
    kept[lost, favourite[lost]] = True
    X = X.copy()
    for b, names in enumerate(columns.values()):
        X.loc[~kept[:, b], names] = np.nan
    return X


def score_one(model, X, y, groups, train, test, X_gaps) -> tuple[dict[str, float], Any]:
    """Fit on the training rows, predict the test rows without and with gaps; scores, and the heads that it has."""
    model = clone(model)
    takes_groups = groups is not None and "groups" in inspect.signature(model.fit).parameters
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gaps that were not there in training, and rivals with few rows a class
        start = time.process_time()  # each model fits in one thread, and other processes must not count
        model.fit(X.iloc[train], y[train], **({"groups": groups[train]} if takes_groups else {}))
        fit_s = time.process_time() - start
        # float32 rows do not sum to 1 as closely as log_loss asks.
        proba, gap_proba = (np.asarray(model.predict_proba(part), dtype=float) for part in (X.iloc[test], X_gaps))
        proba, gap_proba = proba / proba.sum(axis=1, keepdims=True), gap_proba / gap_proba.sum(axis=1, keepdims=True)
    labels = np.arange(y.max() + 1)
    scores = {
        "accuracy": accuracy_score(y[test], proba.argmax(axis=1)),
        "log_loss": log_loss(y[test], proba, labels=labels),
        "ece": calibration_error(proba, y[test]),
        "fit_s": fit_s,
        "gap_accuracy": accuracy_score(y[test], gap_proba.argmax(axis=1)),
        "gap_log_loss": log_loss(y[test], gap_proba, labels=labels),
    }
    ours = isinstance(model, DecisionFusionClassifier)
    return scores, {name: clone(head) for name, head in model.estimators_.items()} if ours else {}


def measure(task: Task, repeats: int, only: str, jobs: int) -> pd.DataFrame:
    """One row a model and split."""
    X, labels, groups = load(task.set_name)
    y = np.unique(labels, return_inverse=True)[1]
    columns = read_blocks(X)
    splits = list(task.splits(X, y, groups, repeats))
    gaps = [drop_blocks(X.iloc[test], columns, seed) for seed, (_, test) in enumerate(splits)]

    def run(work: list[tuple[str, Any, list[str], int]]) -> list[tuple[dict[str, float], Any]]:
        return Parallel(n_jobs=jobs)(
            delayed(score_one)(model, X[names], y, groups, *splits[s], gaps[s][names]) for _, model, names, s in work
        )

    ours = our_models(task, columns)
    wanted = {name for name in ours if only in name or name == DEFAULT}
    work = [(name, *ours[name], s) for s in range(len(splits)) for name in ours if name in wanted]
    results = run(work)
    chosen = {s: heads for (name, _, _, s), (_, heads) in zip(work, results, strict=True) if name == DEFAULT}
    theirs = [
        (name, model, list(X.columns), s)
        for s in range(len(splits))
        for name, model in rivals(chosen[s], columns).items()
        if only in name
    ]
    results += run(theirs)
    rows = [
        {"model": name, "split": s, **scores}
        for (name, _, _, s), (scores, _) in zip([*work, *theirs], results, strict=True)
    ]
    return pd.DataFrame(rows)


def summarise(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means and standard errors, one row a model, in the order of the models."""
    grouped = table.groupby("model", sort=False)[list(SCORES)]
    mean, error = grouped.mean(), grouped.sem()
    alone = [name for name in mean.index if name.endswith(" alone")]
    if alone:
        best = mean.loc[alone, "accuracy"].idxmax()
        name = f"best single modality ({best.removesuffix(' alone')})"
        mean.loc[name], error.loc[name] = mean.loc[best], error.loc[best]
    return mean, error


def print_table(title: str, mean: pd.DataFrame, error: pd.DataFrame, n_splits: int) -> None:
    print(f"\n{title}, {n_splits} splits")
    print(f"{'':54s}{'accuracy':>15s}{'log-loss':>15s}{'ECE':>7s}{'fit s':>8s} |   half missing: accuracy and log-loss")
    for name in mean.index:
        m, e = mean.loc[name], error.loc[name]
        cells = [
            f"{m[s]:8.4f} ±{e[s]:.4f}" if s == "accuracy" else f"{m[s]:8.3f} ±{e[s]:.3f} "
            for s in ("accuracy", "log_loss")
        ]
        gap = f"{m['gap_accuracy']:8.4f} ±{e['gap_accuracy']:.4f}{m['gap_log_loss']:8.3f} ±{e['gap_log_loss']:.3f}"
        print(f"{name:54s}{cells[0]:>15s}{cells[1]:>15s}{m['ece']:7.3f}{m['fit_s']:8.2f} | {gap}")


def print_targets(reached: list[tuple[str, str, float, float, float]]) -> None:
    print(f"\n{'what the default must reach':58s}{'target':>10s}{'reached':>18s}")
    for title, score, limit, value, error in reached:
        least = score.endswith("accuracy")
        verdict = "yes" if (value >= limit if least else value <= limit) else "NO"
        sign = ">=" if least else "<="
        shown = f"{value:.4f} ±{error:.4f}"
        what = score.replace("gap_", "half missing: ").replace("_", "-")
        print(f"{title + ', ' + what:58s}{sign} {limit:7.3f}{shown:>18s}  {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", help=f"of {', '.join(SETS)}; all by default")
    parser.add_argument(
        "--repeats", type=int, default=10, help="splits; rounds of 5 folds: one for each ten, ad_data for each two"
    )
    parser.add_argument("--only", default="", help="models whose name holds this text")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    unknown = sorted(set(options.sets) - set(SETS))
    if unknown:
        parser.error(f"unknown sets {unknown}; there are {sorted(SETS)}")
    start, reached = time.perf_counter(), []
    for task in TASKS:
        if options.sets and task.set_name not in options.sets:
            continue
        table = measure(task, options.repeats, options.only, options.jobs)
        mean, error = summarise(table)
        print_table(task.title, mean, error, table["split"].nunique())
        if DEFAULT in mean.index:
            reached += [
                (task.title, score, limit, mean.loc[DEFAULT, score], error.loc[DEFAULT, score])
                for score, limit in task.targets.items()
            ]
        print(f"{time.perf_counter() - start:.0f} s so far", flush=True)
    if reached:
        print_targets(reached)


if __name__ == "__main__":
    main()
