"""Networks on pictures beside a frozen encoder, on the stamps of Tux Paint.

Run: python benchmarks/image_networks.py [--splits N] [--size PIXELS] [--epochs N] [--members N]

All models see the same training and test rows; texts that several stamps share are on one side. CPU seconds are of the
process, in one thread. What is not in the embedding cache yet is part of them, so a second run shows the price of the
training alone.
"""

import argparse
import time

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from ensemblefuse import DecisionFusionClassifier, ImageEncoder, ImageNetworkClassifier, make_fusion_pipeline
from ensemblefuse.datasets import fetch_tux_paint
from ensemblefuse.fusion.linear_head import default_head


def models(size: int, epochs: int, members: int) -> dict[str, object]:
    tuned = {"backbone": "efficientnet_lite0", "size": size, "max_epochs": epochs, "n_members": members}
    frozen = [("photo", ImageEncoder(device="cpu"), "photo")]
    passed = [("photo", "passthrough", ["photo"])]
    network = ImageNetworkClassifier(**tuned)
    return {
        "frozen, linear head": make_fusion_pipeline(
            frozen, DecisionFusionClassifier(default_head(1280, classify=True), joint=False)
        ),
        "frozen, default": make_fusion_pipeline(frozen, DecisionFusionClassifier()),
        "train=head": ImageNetworkClassifier(**tuned, train="head"),
        "train=last": network,
        "train=last, head=own": ImageNetworkClassifier(**tuned, head="own"),
        "train=last, augment=none": ImageNetworkClassifier(**tuned, augment="none"),
        "train=2": ImageNetworkClassifier(**tuned, train=2),
        "train=last, in a fusion": make_fusion_pipeline(passed, DecisionFusionClassifier({"photo": network})),
        "from scratch": ImageNetworkClassifier(max_epochs=3 * epochs, n_members=members),
    }


def score(model: object, X: pd.DataFrame, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    start = time.process_time()
    with threadpool_limits(1):
        model.fit(X.iloc[train], y[train])
        seconds = time.process_time() - start
        proba = model.predict_proba(X.iloc[test])
    return {
        "accuracy": (model.classes_[proba.argmax(axis=1)] == y[test]).mean(),
        "log_loss": log_loss(y[test], proba, labels=model.classes_),
        "cpu_s": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of models")
    args = parser.parse_args()
    data = fetch_tux_paint()
    there = data.frame["image"].notna().to_numpy()
    X, y = data.frame.loc[there, ["image"]].set_axis(["photo"], axis=1), data.target.to_numpy()[there]
    groups = data.groups.to_numpy()[there]
    splits = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(X, y, groups))[: args.splits]
    print(f"{len(X)} pictures, {len(np.unique(y))} classes, {len(splits)} splits, size {args.size}", flush=True)
    for name, model in models(args.size, args.epochs, args.members).items():
        if args.only and name not in args.only:
            continue
        rows = pd.DataFrame([score(model, X, y, train, test) for train, test in splits])
        losses = ", ".join(f"{loss:.3f}" for loss in rows["log_loss"])
        mean = rows.mean()
        print(f"{name:28} {mean['accuracy']:.3f} {mean['log_loss']:.3f} ({losses}) {mean['cpu_s']:7.1f} s", flush=True)


if __name__ == "__main__":
    main()
