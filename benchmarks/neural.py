"""Neural fusion beside the default: each kind alone, and one as a member of decision-level fusion, on real sets.

Run: python benchmarks/neural.py [set ...] [--rows N] [--splits N] [--kinds NAME ...] [--members]

All models see the same training and test rows. In a second prediction of the test rows half of the blocks are missing:
every block of every row is dropped with probability 1/2, and one is kept at random where all would go. CPU seconds are
of the process.
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd
from _data import SETS, load, read_blocks
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedShuffleSplit
from threadpoolctl import threadpool_limits

from ensemblefuse import DecisionFusionClassifier, NeuralFusionClassifier, expected_calibration_error

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", default=["mfeat"], help=f"of {', '.join(SETS)}")
    parser.add_argument("--rows", type=int, default=200, help="training rows")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--members", action="store_true", help="also the default with a network as a member")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in args.sets:
        X, y, _ = load(name)
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
