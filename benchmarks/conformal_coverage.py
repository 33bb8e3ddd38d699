"""Coverage of conformal sets and intervals for each combination of modalities, where fit saw complete rows only.

Run: python benchmarks/conformal_coverage.py [planted|numbers|mfeat|htad|ad_data|open_clip_art|tux_paint ...]
     [--repeats N] [--levels 0.8 0.9 0.95]

"planted" and "numbers" (the default) are made here: 4 classes, or the number of the class plus noise, in three blocks
of 4 columns that carry much, some and little of it. The others are real sets, see benchmarks/_data.py. Each repeat fits
on one half of the rows (whole groups, if the set has groups) and predicts the other half once for each combination,
with the other modalities hidden. Rows that lack a modality themselves stay as they are in fit; in a combination only
rows count that hold all of it.
"""

import argparse
import itertools
import warnings

import numpy as np
import pandas as pd
from _data import SETS, load, read_blocks
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit

from ensemblefuse import (
    ConformalFusionClassifier,
    ConformalFusionRegressor,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    MissingModalityWarning,
)

_PLANTED = {"strong": 3.0, "middle": 1.2, "weak": 0.6}
_N_ROWS = 2000
_TEST_SHARE = 0.5


def planted(*, numbers: bool) -> tuple[pd.DataFrame, np.ndarray, None]:
    """Make blocks of unequal strength, with classes or numbers."""
    rng = np.random.default_rng(20)
    codes = rng.integers(0, 4, _N_ROWS)
    blocks = [size * np.eye(4)[codes] + rng.normal(size=(_N_ROWS, 4)) for size in _PLANTED.values()]
    names = [f"{name}__{i}" for name in _PLANTED for i in range(4)]
    y = codes + 0.3 * rng.normal(size=_N_ROWS) if numbers else codes.astype(str)
    return pd.DataFrame(np.hstack(blocks), columns=names), y, None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", default=["planted", "numbers"])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--levels", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    args = parser.parse_args()
    for name in args.sets:
        made = name in ("planted", "numbers")
        if not made and name not in SETS:
            parser.error(f"no set is called {name!r}; there are planted, numbers, {', '.join(SETS)}")
        X, y, groups = planted(numbers=name == "numbers") if made else load(name)
        print(f"\n{name}: {len(X)} rows, {args.repeats} halves; coverage ± standard error (mean size)")
        print(measure(X, y, groups, args.repeats, args.levels).to_string(), flush=True)


def measure(
    X: pd.DataFrame, y: np.ndarray, groups: np.ndarray | None, repeats: int, levels: list[float]
) -> pd.DataFrame:
    """Return one row per combination, one column per method and level."""
    blocks = read_blocks(X)
    held = {name: X[columns].notna().any(axis=1).to_numpy() for name, columns in blocks.items()}
    combinations = [c for n in range(len(blocks), 0, -1) for c in itertools.combinations(blocks, n)]
    splitter = ShuffleSplit if groups is None else GroupShuffleSplit
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for train, test in splitter(repeats, test_size=_TEST_SHARE, random_state=1).split(X, y, groups):
        own = None if groups is None else groups[train]
        for method, model in models(y).items():
            model.fit(X.iloc[train], y[train], groups=own)
            for combination in combinations:
                rows = test[np.all([held[name][test] for name in combination], axis=0)]
                seen = X.iloc[rows].copy()
                seen[[c for name, columns in blocks.items() if name not in combination for c in columns]] = np.nan
                for level in levels:
                    column = f"{method} {level:g}".strip()
                    found.setdefault((" + ".join(combination), column), []).append(score(model, seen, y[rows], level))
    table = pd.Series({key: _words(np.array(pairs)) for key, pairs in found.items()}).unstack()
    order = [" + ".join(combination) for combination in combinations]
    return table.loc[order, list(dict.fromkeys(column for _, column in found))]


def models(y: np.ndarray) -> dict:
    """Return the conformal models by the name of their method."""
    if y.dtype.kind == "f":
        return {"interval": ConformalFusionRegressor(DecisionFusionRegressor(Ridge()))}
    fusion = DecisionFusionClassifier(LogisticRegression(max_iter=2000))
    return {m: ConformalFusionClassifier(fusion, method=m, random_state=0) for m in ("lac", "aps")}


def score(model, X: pd.DataFrame, y: np.ndarray, level: float) -> tuple[float, float]:
    """Return the share of rows whose set or interval holds the truth, and the mean size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingModalityWarning)
        if isinstance(model, ConformalFusionRegressor):
            low, high = model.predict_interval(X, confidence_level=level).T
            return float(((low <= y) & (y <= high)).mean()), float((high - low).mean())
        sets = model.predict_set(X, confidence_level=level)
    return float(sets[np.arange(len(y)), np.searchsorted(model.classes_, y)].mean()), float(sets.sum(axis=1).mean())


def _words(pairs: np.ndarray) -> str:
    coverage, size = pairs.mean(axis=0)
    error = pairs[:, 0].std(ddof=1) / np.sqrt(len(pairs)) if len(pairs) > 1 else np.nan
    return f"{coverage:.3f} ± {error:.3f} ({size:.2f})"


if __name__ == "__main__":
    main()
