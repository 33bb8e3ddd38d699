"""Every test has a cache folder of its own and no progress bars; costly parameters take turns."""

import functools
import gc
import os
from datetime import date

# Before numpy is imported anywhere: on small machines BLAS threads cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.utils import validation

import ensemblefuse
from ensemblefuse.fusion import _default_trees

# The garbage collector was a thirtieth of the time of the tests, most of it over objects that stay.
gc.set_threshold(10_000, 10, 10)
# scikit-learn reads the signature of a class anew for each clone, which is a twentieth of the time of the tests.
BaseEstimator._get_param_names = classmethod(functools.cache(BaseEstimator._get_param_names.__func__))
# And since 1.9 it looks among the attributes of each array for those of a frame, which is as much again.
if hasattr(validation, "nw"):
    for asks in (validation.nw.dependencies.is_into_dataframe, validation.nw.dependencies.is_into_series):

        def asks_what_may_be_one(X, asks=asks):
            return type(X) is not np.ndarray and asks(X)

        setattr(validation.nw.dependencies, asks.__name__, asks_what_may_be_one)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path):
    with ensemblefuse.config_context(cache=tmp_path / "embeddings", progress=False):
        yield tmp_path / "embeddings"


@pytest.fixture
def little_effort(monkeypatch):
    """The default heads are those of effort="low": the test is about something else."""
    for fusion in (ensemblefuse.DecisionFusionClassifier, ensemblefuse.DecisionFusionRegressor):
        monkeypatch.setitem(fusion.__init__.__kwdefaults__, "effort", "low")


# ---------------------------------------------------------------------- rounds of the default trees

# The boosted trees among the default heads took a tenth of the time of the tests. Most tests ask what a fusion does
# with its members, for which fewer rounds of larger steps do as well. Tests of how good the defaults are, marked
# `all_rounds`, and slow tests have the trees that users have.
ROUNDS = {"_ROUNDS": _default_trees._ROUNDS, "_RATE": _default_trees._RATE}
FEW_ROUNDS = {"_ROUNDS": 20, "_RATE": 0.3}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    # Those that take turns have as many rounds when they are slow as when they are fast.
    is_slow = item.get_closest_marker("slow") and not item.get_closest_marker("by_turns")
    for name, value in (ROUNDS if is_slow or item.get_closest_marker("all_rounds") else FEW_ROUNDS).items():
        setattr(_default_trees, name, value)


# ---------------------------------------------------------------------- parameters that take turns

# A test that is marked `by_turns` runs a third of its parameters in the fast tests, another third each day, and at
# least one. The others are slow tests, so that both runs together run all. ENSEMBLEFUSE_TURN (0, 1 or 2) says which
# third instead of the day. A test that is named on the command line, by file or by -k, runs with all its parameters.
TURNS = 3


def pytest_configure(config):
    config.turn = getattr(config, "workerinput", {}).get("turn")  # of a worker: the main process has decided
    given = os.environ.get("ENSEMBLEFUSE_TURN")
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    if not hasattr(config, "workerinput") and (given or everything):
        config.turn = int(given or date.today().toordinal()) % TURNS


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["turn"] = node.config.turn


def pytest_report_header(config):
    if config.turn is not None:
        return f"ENSEMBLEFUSE_TURN={config.turn}: this third of the parameters of tests marked by_turns is fast"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    tests = {}
    for item in items:
        if item.get_closest_marker("by_turns") and not item.get_closest_marker("slow"):
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in tests.values() if config.turn is not None else ():
        for i, case in enumerate(cases):
            if not has_its_turn(i, len(cases), config.turn):
                case.add_marker(pytest.mark.slow)


def has_its_turn(i, n_cases, turn):
    """By diagonals: of two parameters, none always meets the same value of the other."""
    n = min(n_cases, TURNS)
    return (i + i // n) % n == turn % n


# ---------------------------------------------------------------------- tables and parameters of tests


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


def with_checks(estimators, **options):
    """scikit-learn's `parametrize_with_checks`, which writes each estimator down once, and not once a check."""
    from sklearn.utils.estimator_checks import parametrize_with_checks

    checks = parametrize_with_checks(estimators, **options)
    write, written = checks.kwargs["ids"], {}

    def name(value):
        if id(value) not in written:
            written[id(value)] = write(value)
        return written[id(value)]

    return pytest.mark.parametrize(*checks.args, **{**checks.kwargs, "ids": name})


@pytest.fixture
def blocks():
    return make_blocks()
