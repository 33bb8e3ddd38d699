"""Every test has a cache folder of its own and no progress bars."""

import os

# Before numpy is imported anywhere: on small machines BLAS threads cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pandas as pd
import pytest

import ensemblefuse


@pytest.fixture(autouse=True)
def cache_folder(tmp_path):
    with ensemblefuse.config_context(cache=tmp_path / "embeddings", progress=False):
        yield tmp_path / "embeddings"


def make_blocks(n=150, n_classes=3, widths=None, noise=1.0, random_state=0):
    """Blocks that each carry part of the label, as a frame; labels are strings."""
    rng = np.random.default_rng(random_state)
    codes = np.arange(n) % n_classes
    columns = {}
    for name, width in (widths or {"image": 6, "text": 4, "audio": 3}).items():
        block = rng.normal(size=(n_classes, width))[codes] + noise * rng.normal(size=(n, width))
        columns.update({f"{name}__{i}": block[:, i] for i in range(width)})
    order = rng.permutation(n)
    frame = pd.DataFrame(columns).iloc[order].reset_index(drop=True)
    return frame, np.array([f"class {c}" for c in codes])[order]


def make_puzzle(n=240):
    """Two modalities that mean something only together, and one of noise."""
    image, text, noise = np.random.default_rng(0).normal(size=(3, n))
    X = pd.DataFrame({"image__0": image, "text__0": text, "audio__0": noise})
    return X, ((image > 0) ^ (text > 0)).astype(int)


def slow_but(quick, values):
    """Parameters of a test: those that `quick` holds for run in the fast tests too, the others in the slow ones."""
    return [value if quick(value) else pytest.param(value, marks=pytest.mark.slow) for value in values]


def every_pair(rows, columns):
    """Parameters of a test of two: in the fast tests each value of either comes with one of the other, in the slow ones
    with all."""
    return [
        pytest.param(row, column, marks=[] if i % len(columns) == j or j % len(rows) == i else pytest.mark.slow)
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    ]


@pytest.fixture
def blocks():
    return make_blocks()
