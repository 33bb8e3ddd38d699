"""Time and memory of fusion as ratios to a baseline measured in the same run, on synthetic embeddings.

Run: python benchmarks/fusion_speed.py [--quick] [part ...]

Three blocks of 512 columns, 2 000 rows, 5 classes; with --quick 600 rows, and 5 000 instead of 20 000 for memory. Every
line reads "name: ours, baseline, ratio, limit". The parts:

search    FusionSearchCV over ten strategies against one StackingClassifier, over the same nine members (SVM, XGBoost
          and logistic regression on each block) and the same folds. Half of the strategies have a joint logistic
          regression besides. Then the same search with the library's own members.
predict   Decision-level prediction of one row without the time of its members, in milliseconds.
jobs      fit with two processes against one.
memory    Peak memory of a default fit over what the process held before, against the size of the embeddings.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits
from xgboost import XGBClassifier

import ensemblefuse
from ensemblefuse import (
    DecisionFusionClassifier,
    DempsterShaferPool,
    GreedyPool,
    LogPool,
    MeanPool,
    StackingPool,
)

WIDTH, N_BLOCKS, N_CLASSES = 512, 3, 5
COLUMNS = {name: [f"{name}__{i}" for i in range(WIDTH)] for name in ("image", "text", "audio")}
LIMITS = {"search": 1.0, "default search": 0.2, "predict": 5.0, "jobs": 1.1, "memory": 3.0}


def make_embeddings(n: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Class centres in 16 directions a block, under noise of the same 16 and of all columns."""
    rng = np.random.default_rng(seed)
    y = rng.integers(N_CLASSES, size=n)
    parts = []
    for _ in COLUMNS:
        directions = np.linalg.qr(rng.normal(size=(WIDTH, 16)))[0].T.astype(np.float32)
        centres = rng.normal(size=(N_CLASSES, 16))
        hidden = (centres[y] + 2.2 * rng.normal(size=(n, 16))).astype(np.float32)
        parts.append(hidden @ directions + 0.1 * rng.standard_normal((n, WIDTH), dtype=np.float32))
    return pd.DataFrame(np.hstack(parts), columns=[c for names in COLUMNS.values() for c in names]), y


def seconds(action: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """By default of the processor: in one thread that is what an idle machine takes, whatever else runs here."""
    start = clock()
    action()
    return clock() - start


def report(name: str, ours: float, baseline: float, limit: str, unit: str = "s") -> None:
    bound = LIMITS[limit]
    verdict = "within" if ours / baseline <= bound else "OVER"
    print(
        f"{name}: {ours:.2f} {unit}, {baseline:.2f} {unit}, {ours / baseline:.2f}, {bound:.2f} ({verdict})", flush=True
    )


# ---------------------------------------------------------------------- parts


def heads() -> list[tuple[str, object]]:
    return [
        ("svm", make_pipeline(StandardScaler(), OneVsRestClassifier(SVC(C=10)))),
        ("trees", XGBClassifier(n_jobs=1, random_state=0)),
        ("logistic", make_pipeline(StandardScaler(), LogisticRegression(C=0.06, max_iter=1000))),
    ]


def stacking(cv: StratifiedKFold) -> StackingClassifier:
    members = [
        (f"{block}-{name}", make_pipeline(ColumnTransformer([("block", "passthrough", columns)]), head))
        for block, columns in COLUMNS.items()
        for name, head in heads()
    ]
    return StackingClassifier(members, cv=cv)


def ten_strategies() -> dict[str, DecisionFusionClassifier]:
    every = {block: [head for _, head in heads()] for block in COLUMNS}
    pools = (LogPool(), MeanPool(), StackingPool(), GreedyPool(), DempsterShaferPool())
    strategies = {}
    for pool in pools:
        name = type(pool).__name__
        strategies[f"late, {name}"] = DecisionFusionClassifier(every, combiner=pool, joint=False)
        both = {**every, "joint": LogisticRegression(C=0.06, max_iter=1000)}
        strategies[f"hybrid, {name}"] = DecisionFusionClassifier(both, combiner=pool)
    return strategies


def part_search(n: int) -> None:
    if not hasattr(ensemblefuse, "FusionSearchCV"):
        print("search: left out, as there is no FusionSearchCV")
        return
    X, y = make_embeddings(n + 1000)
    train, test, y, y_test = X.iloc[:n], X.iloc[n:], y[:n], y[n:]
    cv = StratifiedKFold(5, shuffle=True, random_state=0)
    models = {
        "one StackingClassifier": stacking(cv),
        "ten strategies, same members": ensemblefuse.FusionSearchCV(ten_strategies(), cv=cv),
        "default search": ensemblefuse.FusionSearchCV(cv=cv),
    }
    times, losses = {}, {}
    for name, model in models.items():
        times[name] = seconds(lambda model=model: model.fit(train, y))
        proba = np.asarray(model.predict_proba(test), dtype=float)
        losses[name] = log_loss(y_test, proba / proba.sum(axis=1, keepdims=True))
        accuracy = accuracy_score(y_test, proba.argmax(axis=1))
        print(f"  {name}: {times[name]:.1f} s, log-loss {losses[name]:.4f}, accuracy {accuracy:.4f}", flush=True)
    stack, ours, default = models
    report("search over ten strategies, fit", times[ours], times[stack], "search")
    report("search over the default strategies, fit", times[default], times[stack], "default search")


def part_predict(n: int) -> None:
    X, y = make_embeddings(n)
    model = DecisionFusionClassifier().fit(X, y)
    row = X.iloc[[0]]
    blocks = {name: row[names].to_numpy() for name, names in COLUMNS.items()} | {"joint": row.to_numpy()}

    def alone() -> None:
        for name, head in model.estimators_.items():
            ask = head.decision_function if hasattr(head, "decision_function") else head.predict_proba
            ask(blocks[name])

    fused, members = [], []
    for _ in range(200):
        fused.append(seconds(lambda: model.predict(row)))
        members.append(seconds(alone))
    whole, parts = 1000 * statistics.median(fused), 1000 * statistics.median(members)
    bound = LIMITS["predict"]
    verdict = "within" if whole - parts <= bound else "OVER"
    print(
        f"predict of one row, without its members: {whole:.2f} ms, {parts:.2f} ms, difference {whole - parts:.2f} ms, "
        f"{bound:.2f} ms ({verdict})",
        flush=True,
    )


def part_jobs(n: int) -> None:
    X, y = make_embeddings(n)
    DecisionFusionClassifier(n_jobs=2).fit(X, y)  # starts the workers
    models = {jobs: DecisionFusionClassifier(n_jobs=jobs) for jobs in (1, 2)}
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(3):
        for jobs, model in models.items():
            times[jobs].append(seconds(lambda model=model: model.fit(X, y), time.perf_counter))
    report("fit with n_jobs=2", statistics.median(times[2]), statistics.median(times[1]), "jobs")


def part_memory(n: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        X, y = make_embeddings(n)
        np.save(Path(folder) / "X.npy", X.to_numpy())
        np.save(Path(folder) / "y.npy", y)
        del X
        command = [sys.executable, __file__, "--child", folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    report(f"peak memory of a fit on {n} rows", *(float(value) for value in done.stdout.split()), "memory", "MB")


def fit_in_child(folder: str) -> None:
    """Print the growth of the peak in fit and the size of the embeddings, in MB."""
    small, y_small = make_embeddings(60)
    DecisionFusionClassifier(cv=2).fit(small, y_small)  # what is imported late is not the fit's
    array, y = np.load(Path(folder) / "X.npy"), np.load(Path(folder) / "y.npy")
    X = pd.DataFrame(array, columns=small.columns, copy=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    DecisionFusionClassifier(n_jobs=1).fit(X, y)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(grown / 1024, array.nbytes / 2**20)


PARTS = {"search": part_search, "predict": part_predict, "jobs": part_jobs, "memory": part_memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        if options.child:
            fit_in_child(options.child)
            return
        print("name: ours, baseline, ratio, limit")
        for part in options.parts or PARTS:
            rows = (600, 5000) if options.quick else (2000, 20000)
            PARTS[part](rows[part == "memory"])


if __name__ == "__main__":
    main()
