"""Generating missing modalities: the autoencoders beside the other strategies of CrossModalImputer.

Run: python benchmarks/crossmodal.py [set ...] [--rows N] [--splits N] [--students]

Half of the blocks are missing, in the rows of fit and in the test rows: every block of every row is dropped with
probability 1/2, and one is kept at random where all would go. R2 is that of the hidden cells of the test rows, in units
of the spread of each column, pooled in a block and averaged over the blocks. Log-loss is that of logistic regression on
the filled table; the last line is decision-level fusion of the table with its gaps. CPU seconds are of the process, for
the imputation.

With --students: the label from the narrowest block alone, from a student that learned from a teacher of all blocks, and
from the teacher.
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd
from _data import SETS, load, read_blocks
from neural import with_gaps
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from ensemblefuse import (
    CrossModalDistiller,
    CrossModalImputer,
    CrossModalVAE,
    DecisionFusionClassifier,
    NeuralFusionClassifier,
)


class Generator:
    """An autoencoder of one kind as an imputer: each hidden block is generated from the others."""

    def __init__(self, kind):
        self.model = CrossModalVAE(kind)

    def fit(self, X):
        self.model.fit(X)
        return self

    def transform(self, X):
        filled = X.to_numpy(copy=True)
        for name in self.model.known_blocks_:
            columns = self.model.blocks_[name]
            gone = np.isnan(filled[:, columns[0]])
            filled[np.ix_(gone, columns)] = self.model.reconstruct(X[gone], name)
        return filled


FILLS = {
    **{name: (lambda name=name: CrossModalImputer(name)) for name in ("mean", "knn", "ridge", "gaussian", "vae")},
    **{f"CrossModalVAE({kind!r})": (lambda kind=kind: Generator(kind)) for kind in ("poe", "mixture", "conditional")},
}


def fill_scores(fill, X, y, train, test, seed):
    rng = np.random.default_rng(seed)
    before, after = with_gaps(X.iloc[train], rng), with_gaps(X.iloc[test], rng)
    start = time.process_time()
    fill = fill().fit(before)
    filled = fill.transform(after)
    seconds = time.process_time() - start
    scale = X.iloc[train].std().replace(0, 1).to_numpy()
    gaps, truth = after.isna().to_numpy(), X.iloc[test].to_numpy()
    error, spread = ((filled - truth) / scale) ** 2, ((truth - X.iloc[train].mean().to_numpy()) / scale) ** 2
    shares = []
    for columns in read_blocks(X).values():
        place = X.columns.get_indexer(columns)
        part = gaps[:, place]
        shares.append(1 - error[:, place][part].sum() / spread[:, place][part].sum())
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)).fit(
        fill.transform(before), y[train]
    )
    loss = log_loss(y[test], head.predict_proba(filled), labels=head.classes_)
    return {"R2": np.mean(shares), "log-loss": loss, "CPU s": seconds}


def unfilled_scores(X, y, train, test, seed):
    """Decision-level fusion, which leaves missing blocks out, on the same gaps."""
    rng = np.random.default_rng(seed)
    before, after = with_gaps(X.iloc[train], rng), with_gaps(X.iloc[test], rng)
    model = DecisionFusionClassifier(effort="low").fit(before, y[train])
    return {"R2": np.nan, "log-loss": log_loss(y[test], model.predict_proba(after), labels=model.classes_)}


def student_scores(X, y, train, test):
    first = min(read_blocks(X), key=lambda name: len(read_blocks(X)[name]))  # the narrowest
    own = list(read_blocks(X)[first])
    student = NeuralFusionClassifier("concat")
    models = {f"{first} alone, network": (student, own)}
    for weight in (0.5, 0.9):
        models[f"{first} alone, distilled, weight={weight}"] = (
            CrossModalDistiller(DecisionFusionClassifier(effort="low"), student, [first], weight=weight),
            list(X),
        )
    models[f"{first} alone, decision fusion"] = (DecisionFusionClassifier(effort="low"), own)
    models["all blocks, the teacher"] = (DecisionFusionClassifier(effort="low"), list(X))
    for name, (model, columns) in models.items():
        start = time.process_time()
        model.fit(X.iloc[train][columns], y[train])
        proba = model.predict_proba(X.iloc[test][columns])
        accuracy = (model.classes_[proba.argmax(axis=1)] == y[test]).mean()
        yield (
            name,
            {
                "accuracy": accuracy,
                "log-loss": log_loss(y[test], proba, labels=model.classes_),
                "CPU s": time.process_time() - start,
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", default=["mfeat"], help=f"of {', '.join(SETS)}")
    parser.add_argument("--rows", type=int, default=200, help="training rows")
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--students", action="store_true", help="distillation instead of filled blocks")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in args.sets:
        X, y, _ = load(name)
        splits = list(StratifiedShuffleSplit(args.splits, train_size=args.rows, random_state=0).split(X, y))
        print(f"{name}: {args.rows} training rows, {args.splits} splits, means", flush=True)
        found: dict[str, list] = {}
        with threadpool_limits(1):
            if args.students:
                for split in splits:
                    for title, scores in student_scores(X, y, *split):
                        found.setdefault(title, []).append(scores)
            else:
                for title, fill in FILLS.items():
                    found[title] = [fill_scores(fill, X, y, *split, seed) for seed, split in enumerate(splits)]
                found["left out"] = [unfilled_scores(X, y, *split, seed) for seed, split in enumerate(splits)]
        print(pd.DataFrame({title: pd.DataFrame(scores).mean() for title, scores in found.items()}).T.round(4))


if __name__ == "__main__":
    main()
