"""Neural fusion beside the default: each kind alone, and one as a member of decision-level fusion, on real sets.

Run: python benchmarks/neural.py [set ...] [--rows N] [--splits N] [--kinds NAME ...] [--members]
     python benchmarks/neural.py tux_paint --retrieval image text [--splits N]

All models see the same training and test rows. In a second prediction of the test rows half of the blocks are missing:
every block of every row is dropped with probability 1/2, and one is kept at random where all would go. CPU seconds are
of the process.

With --retrieval, common spaces of two blocks instead: folds keep groups together, distinct cells of the test rows find
their partners, and a head that learned from one block of the training rows labels the test rows by the other. Networks
are shown also where `CommonSpaceProjector` would keep CCA; "kept" says what it keeps in each fold.
"""

import argparse
import time
import warnings
from contextlib import nullcontext
from unittest.mock import patch

import numpy as np
import pandas as pd
from _data import SETS, load, read_blocks
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, StratifiedShuffleSplit
from threadpoolctl import threadpool_limits

from ensemblefuse import (
    CommonSpaceProjector,
    DecisionFusionClassifier,
    NeuralFusionClassifier,
    expected_calibration_error,
    retrieval_report,
)

KINDS = ("concat", "sum", "late", "gated", "lowrank", "attention", "cross_attention", "hybrid_encoder")


def models(kinds: list[str], *, members: bool) -> dict[str, object]:
    found: dict[str, object] = {"default": DecisionFusionClassifier()}
    found |= {kind: NeuralFusionClassifier(kind) for kind in kinds}
    found["gated, modality_dropout .25"] = NeuralFusionClassifier("gated", modality_dropout=0.25)
    if members:
        net = NeuralFusionClassifier("concat")
        found["default + concat"] = DecisionFusionClassifier({"joint": [None, net]})
    return found


def with_gaps(X: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    blocks = list(read_blocks(X).values())
    kept = rng.random((len(X), len(blocks))) < 0.5
    empty = ~kept.any(axis=1)
    kept[empty, rng.integers(len(blocks), size=empty.sum())] = True
    X = X.copy()
    for columns, there in zip(blocks, kept.T, strict=True):
        X.loc[~there, columns] = np.nan
    return X


def score(model: object, X: pd.DataFrame, y: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> dict:
    start = time.process_time()
    with threadpool_limits(1):
        model.fit(X.iloc[train], y[train])
        seconds = time.process_time() - start
        gaps = with_gaps(X.iloc[test], np.random.default_rng(seed))
        whole, part = model.predict_proba(X.iloc[test]), model.predict_proba(gaps)
    return {
        "accuracy": (model.classes_[whole.argmax(axis=1)] == y[test]).mean(),
        "log_loss": log_loss(y[test], whole, labels=model.classes_),
        "ece": expected_calibration_error(y[test], whole, labels=model.classes_),
        "gap_log_loss": log_loss(y[test], part, labels=model.classes_),
        "cpu_s": seconds,
        "parameters": getattr(model, "n_parameters_", 0),
    }


SPACES = {
    **{f"cca, reg {reg:g}": {"method": "cca", "n_components": 64, "reg": reg} for reg in (0.1, 1, 10)},
    **{method: {"method": method, "reg": 1} for method in ("contrastive", "siamese", "triplet", "deep_cca")},
    "contrastive, hidden 128": {"method": "contrastive", "reg": 1, "hidden": 128, "learning_rate": 3e-3},
    "contrastive, one net": {"method": "contrastive", "reg": 1, "n_members": 1},
    "contrastive, mmd": {"method": "contrastive", "reg": 1, "alignment": "mmd"},
}
# Where `CommonSpaceProjector.fit` asks whether the networks are kept.
COMPARISON = "ensemblefuse.features._common_space.network_is_better"


def retrieval(X: pd.DataFrame, y: np.ndarray, groups: np.ndarray | None, pair: list[str], n_splits: int) -> None:
    """Print how well each space finds partners, and how well labels cross over in it."""
    columns = read_blocks(X)
    there = np.logical_and.reduce([X[columns[name][0]].notna() for name in pair])
    X, y = X.loc[there, [c for name in pair for c in columns[name]]].reset_index(drop=True), y[there]
    units = np.arange(len(X)) if groups is None else groups[there]
    print(f"{len(X)} rows with {pair[0]} and {pair[1]}, {n_splits} folds by groups, means", flush=True)
    for title, params in SPACES.items():
        folds = [
            _score_space(params, X, y, units, pair, train, test)
            for train, test in GroupKFold(n_splits).split(X, groups=units)
        ]
        mean = {key: np.mean([fold[key] for fold in folds]) for key in folds[0] if key != "kept"}
        print(f"  {title}: CPU s {mean['cpu_s']:.1f}, kept {', '.join(fold['kept'] for fold in folds)}", flush=True)
        for name in pair:
            recalls, chances = (
                " / ".join(f"{mean[name, what, k]:.2f}" for k in (1, 5, 10)) for what in ("recall", "chance")
            )
            print(
                f"    {name:6s} finds {recalls} (chance {chances}), median rank {mean[name, 'rank', 0]:.1f}; labelled "
                f"{mean[name, 'own', 0]:.2f} by its own head, {mean[name, 'across', 0]:.2f} by the other's",
                flush=True,
            )


def _score_space(params: dict, X: pd.DataFrame, y: np.ndarray, units: np.ndarray, pair: list[str], *split) -> dict:
    train, test = split
    start = time.process_time()
    with threadpool_limits(1):
        space = CommonSpaceProjector(**params).fit(X.iloc[train], groups=units[train])
        found: dict = {"cpu_s": time.process_time() - start, "kept": space.chosen_}
        with nullcontext() if params["method"] == "cca" else patch(COMPARISON, lambda *_: True):
            space = CommonSpaceProjector(**params).fit(X.iloc[train], groups=units[train])
    table = retrieval_report(space, X.iloc[test], *pair, units[test], n_resamples=2).table
    for row in table.itertuples():
        k = int(row.measure.partition("@")[2] or 0)
        found[row.query, "recall" if k else "rank", k] = row.score
        found[row.query, "chance", k] = row.chance
    columns = read_blocks(X)
    sides = {name: space.transform_block(X[columns[name]], name) for name in pair}
    heads = {name: LogisticRegression(max_iter=1000).fit(side[train], y[train]) for name, side in sides.items()}
    for name, other in (pair, pair[::-1]):
        found[name, "own", 0] = heads[name].score(sides[name][test], y[test])
        found[name, "across", 0] = heads[other].score(sides[name][test], y[test])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", default=["mfeat"], help=f"of {', '.join(SETS)}")
    parser.add_argument("--rows", type=int, default=200, help="training rows")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--members", action="store_true", help="also the default with a network as a member")
    parser.add_argument("--retrieval", nargs=2, metavar="BLOCK", help="two blocks of which to search partners")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in args.sets:
        X, y, groups = load(name)
        if args.retrieval:
            retrieval(X, y, groups, args.retrieval, args.splits)
            continue
        splits = list(StratifiedShuffleSplit(args.splits, train_size=args.rows, random_state=0).split(X, y))
        print(f"{name}: {args.rows} training rows, {args.splits} splits, means", flush=True)
        for title, model in models(args.kinds, members=args.members).items():
            results = pd.DataFrame([score(model, X, y, *split, seed) for seed, split in enumerate(splits)])
            mean, spread = results.mean(), results["log_loss"].std(ddof=0)
            print(
                f"  {title:28s} accuracy {mean.accuracy:.3f}  log-loss {mean.log_loss:.4f} (sd {spread:.4f})  "
                f"ECE {mean.ece:.3f}  half of the blocks {mean.gap_log_loss:.3f}  CPU s {mean.cpu_s:.1f}  "
                f"parameters {mean.parameters:.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
