"""What noise with a stated epsilon costs: log-loss and accuracy on scikit-learn's digits, by epsilon.

Run: python benchmarks/privacy.py

The upper and the lower half of each digit are two modalities, each encoded into the 8 lowest coefficients of its cosine
transform, scaled to length 1. Both are released once with `EmbeddingNoise`, in training and in test, with the epsilon
of the table for each of them; a sample spends twice that in total. Clips are what vectors of length 1 cannot exceed, so
that nothing is learned of the rows to choose them. Means over 5 draws of the noise on one split.
"""

import numpy as np
import pandas as pd
from scipy.fft import dctn
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from ensemblefuse import (
    DecisionFusionClassifier,
    EmbeddingNoise,
    FunctionEncoder,
    config_context,
    make_fusion_pipeline,
    privacy_spent,
)

EPSILONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DELTA = 1e-5
N_DRAWS = 5
# The largest sum of magnitudes of 8 numbers whose squares add up to 1, and the largest length.
CLIPS = {"laplace": np.sqrt(8), "gaussian": 1.0}


def low_frequencies(half: np.ndarray) -> np.ndarray:
    coefficients = dctn(np.asarray(half, dtype=float).reshape(4, 8), norm="ortho")[:2, :4].ravel()
    return coefficients / np.linalg.norm(coefficients)


def digits() -> tuple[pd.DataFrame, np.ndarray]:
    pixels, y = load_digits(return_X_y=True)
    halves = {"upper": list(pixels[:, :32]), "lower": list(pixels[:, 32:])}
    return pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in halves.items()}), y


def model(*noise: EmbeddingNoise):
    encoder = make_pipeline(FunctionEncoder(low_frequencies), *noise)
    fusion = DecisionFusionClassifier(LogisticRegression(max_iter=1000), cv=3)
    return make_fusion_pipeline([("upper", encoder, "upper"), ("lower", encoder, "lower")], fusion)


def main() -> None:
    X, y = digits()
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
    print(f"digits: {len(X_train)} rows to fit, {len(X_test)} to test, delta {DELTA} a gaussian release")
    print(f"{'mechanism':10} {'epsilon':>8} {'in total':>8} {'log-loss':>9} {'accuracy':>9}")
    frequencies = np.bincount(y_train) / len(y_train)
    guess = np.tile(frequencies, (len(y_test), 1))
    rows = [("guess", [], None), ("none", [], None)]
    for name, clip in CLIPS.items():
        delta = DELTA if name == "gaussian" else None
        rows += [(name, [EmbeddingNoise(name, epsilon=e, delta=delta, clip=clip)], e) for e in EPSILONS]
    for name, noise, epsilon in rows:
        scores = []
        total = 0.0 if name == "guess" else np.inf
        for _ in range(N_DRAWS if noise else 1):
            proba = guess
            if name != "guess":
                fitted = model(*noise).fit(X_train, y_train)
                proba = fitted.predict_proba(X_test)
                total = privacy_spent(fitted).loc["total", "epsilon"]
            scores.append((log_loss(y_test, proba), accuracy_score(y_test, proba.argmax(axis=1))))
        loss, accuracy = np.mean(scores, axis=0)
        print(f"{name:10} {'' if epsilon is None else epsilon:>8} {total:8g} {loss:9.3f} {accuracy:9.3f}", flush=True)


if __name__ == "__main__":
    with config_context(progress=False, cache=None):
        main()
