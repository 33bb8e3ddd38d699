"""Scores and fit times of the three lines on plain tables, beside the models that people use for them.

Run: python benchmarks/tables.py [table ...] [--folder FOLDER] [--splits N] [--only TEXT] [--file CSV --target COLUMN]

``churn`` and ``hpc`` come inside a package: 1 200 stratified training rows, the other rows are the test, seeds 0 to 4.
``bikewale`` and ``goodreads`` are tables of MulTaBench (Arazi et al., arXiv 2605.10616, 2026); `--folder` is the
folder of their CSV files, and of ``published_scores.csv`` with the scores of that paper, which are printed below ours.
Their splits are those of the paper: 10 % of the rows are the test, ``random_state=42 + split``. `--file` takes any
other table, with the same splits, as a regression if its target holds decimals.

Every model sees the same rows. Ours is `infer_modalities` and `make_fusion_pipeline` without any other argument, and
with the two other values of `effort`. The others get categories as such (columns of texts; CatBoost and skrub read the
texts themselves), and columns of numbers as they are. Times are of the processor, with one thread for each model. The
standard error is taken over the splits.
"""

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import is_regressor
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    StackingClassifier,
    StackingRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score, average_precision_score, log_loss, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits


class Table(NamedTuple):
    """One table, what is left out before anything, and its splits."""

    read: Callable[[Path | None], pd.DataFrame]
    target: str
    dropped: tuple[str, ...] = ()
    classify: bool = False
    n_train: int | None = None


def of_r(name: str) -> Callable[[Path | None], pd.DataFrame]:
    def read(folder: Path | None) -> pd.DataFrame:
        from _data import read_modeldata

        return read_modeldata(name)

    return read


def of_folder(name: str) -> Callable[[Path | None], pd.DataFrame]:
    def read(folder: Path | None) -> pd.DataFrame:
        if folder is None:
            raise SystemExit(f"{name} is read from a folder: pass --folder.")
        return pd.read_csv(folder / name, low_memory=False)

    return read


TABLES = {
    "churn": Table(of_r("mlc_churn"), "churn", classify=True, n_train=1200),
    "hpc": Table(of_r("hpc_data"), "class", classify=True, n_train=1200),
    "bikewale": Table(of_folder("bikewale.csv"), "price", ("id", "url")),
    "goodreads": Table(of_folder("goodreads.csv"), "Rating", ("FileName", "ID")),
}


def splits(X: pd.DataFrame, y: np.ndarray, table: Table, n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rows = np.arange(len(X))
    for seed in range(n):
        if table.n_train:
            yield tuple(train_test_split(rows, train_size=table.n_train, stratify=y, random_state=seed))
        else:
            n_test = min(2000, int(0.1 * len(rows)))
            train, test = train_test_split(rows, test_size=n_test, random_state=42 + seed)
            yield train[:10_000], test


# ---------------------------------------------------------------------- models


def ours(X: pd.DataFrame, classify: bool, effort: str = "medium") -> Any:
    from ensemblefuse import (
        DecisionFusionClassifier,
        DecisionFusionRegressor,
        infer_modalities,
        make_fusion_pipeline,
    )

    fusion = (DecisionFusionClassifier if classify else DecisionFusionRegressor)(effort=effort)
    return make_fusion_pipeline(infer_modalities(X, verbose=False), fusion)


def with_categories(X: pd.DataFrame) -> pd.DataFrame:
    """Columns of texts as categories."""
    texts = X.select_dtypes(exclude=["number", "bool"]).columns
    return X.assign(**{column: X[column].astype("string").astype("category") for column in texts})


def boosting(X: pd.DataFrame, classify: bool) -> Any:
    kind = HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor
    texts = make_column_selector(dtype_exclude=["number", "bool"])
    codes = OneHotEncoder(
        max_categories=254, handle_unknown="infrequent_if_exist", sparse_output=False, min_frequency=5
    )
    return make_pipeline(make_column_transformer((codes, texts), remainder="passthrough"), kind(random_state=0))


def xgboost(X: pd.DataFrame, classify: bool) -> Any:
    from xgboost import XGBClassifier, XGBRegressor

    return (XGBClassifier if classify else XGBRegressor)(enable_categorical=True, random_state=0, n_jobs=1)


def lightgbm(X: pd.DataFrame, classify: bool) -> Any:
    from lightgbm import LGBMClassifier, LGBMRegressor

    return (LGBMClassifier if classify else LGBMRegressor)(random_state=0, n_jobs=1, verbose=-1)


def catboost(X: pd.DataFrame, classify: bool) -> Any:
    from catboost import CatBoostClassifier, CatBoostRegressor

    texts = X.select_dtypes(exclude=["number", "bool"]).columns.tolist()
    kind = CatBoostClassifier if classify else CatBoostRegressor
    return kind(cat_features=texts, random_seed=0, thread_count=1, verbose=False, allow_writing_files=False)


def skrub(X: pd.DataFrame, classify: bool) -> Any:
    from skrub import tabular_pipeline

    return tabular_pipeline("classifier" if classify else "regressor")


def stack(X: pd.DataFrame, classify: bool) -> Any:
    """scikit-learn's stack of a linear model and boosted trees."""
    texts, numbers = make_column_selector(dtype_exclude="number"), make_column_selector(dtype_include="number")
    linear = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5), texts),
    )
    head = LogisticRegression(max_iter=1000) if classify else RidgeCV(np.logspace(-2, 4, 13))
    members = [("linear", make_pipeline(linear, head)), ("trees", boosting(X, classify))]
    return (StackingClassifier if classify else StackingRegressor)(members)


class Rival(NamedTuple):
    make: Callable[[pd.DataFrame, bool], Any]
    package: str
    prepare: Callable[[pd.DataFrame], pd.DataFrame] = lambda X: X


def as_texts(X: pd.DataFrame) -> pd.DataFrame:
    """Columns of texts without gaps, for models that take no missing category."""
    texts = X.select_dtypes(exclude=["number", "bool"]).columns
    return X.assign(**{column: X[column].astype(object).fillna("missing").astype(str) for column in texts})


MODELS = {
    "ensemblefuse, three lines": Rival(ours, "ensemblefuse"),
    'ensemblefuse, effort="low"': Rival(partial(ours, effort="low"), "ensemblefuse"),
    'ensemblefuse, effort="high"': Rival(partial(ours, effort="high"), "ensemblefuse"),
    "skrub.tabular_pipeline": Rival(skrub, "skrub"),
    "HistGradientBoosting": Rival(boosting, "sklearn", as_texts),
    "XGBoost": Rival(xgboost, "xgboost", with_categories),
    "LightGBM": Rival(lightgbm, "lightgbm", with_categories),
    "CatBoost": Rival(catboost, "catboost", as_texts),
    "StackingClassifier/Regressor": Rival(stack, "sklearn", as_texts),
}


# ---------------------------------------------------------------------- scores


def score(model: Any, X: pd.DataFrame, y: np.ndarray, classify: bool) -> dict[str, float]:
    if not classify:
        return {"R2": r2_score(y, np.ravel(model.predict(X)))}
    proba = model.predict_proba(X)
    found = {"accuracy": accuracy_score(y, proba.argmax(axis=1)), "log-loss": log_loss(y, proba)}
    if proba.shape[1] == 2:
        found["average precision"] = average_precision_score(y, proba[:, 1])
    return found


def above_best_member(model: Any, y: np.ndarray) -> dict[str, float]:
    """How far R2 of our fused out-of-fold predictions is above that of the best member; nothing for other models."""
    fusion = getattr(model, "named_steps", {}).get("fuse")
    if fusion is None or not is_regressor(fusion):
        return {}
    return {"R2 above the best member": r2_score(y, fusion.oof_fused_) - fusion.members_["r2"].max()}


def run(name: str, table: Table, args: argparse.Namespace) -> None:
    frame = table.read(args.folder)
    y = frame[table.target]
    y = LabelEncoder().fit_transform(y) if table.classify else y.to_numpy(float)
    X = frame.drop(columns=[table.target, *table.dropped])
    print(f"\n{name}: {len(X)} rows, {X.shape[1]} columns, {args.splits} splits", flush=True)
    for title, rival in MODELS.items():
        if args.only and args.only.lower() not in title.lower():
            continue
        if importlib.util.find_spec(rival.package) is None:
            print(f"  {title:30} not run: pip install {rival.package}")
            continue
        prepared, found = rival.prepare(X), []
        for train, test in splits(X, y, table, args.splits):
            with threadpool_limits(1), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                start = time.process_time()
                model = rival.make(prepared.iloc[train], table.classify).fit(prepared.iloc[train], y[train])
                seconds = time.process_time() - start
                scores = score(model, prepared.iloc[test], y[test], table.classify)
                found.append({**scores, **above_best_member(model, y[train]), "fit s": seconds})
        means, errors = pd.DataFrame(found).mean(), pd.DataFrame(found).sem().fillna(0)
        print(f"  {title:30}" + "  ".join(f"{k} {means[k]:.3f} ± {errors[k]:.3f}" for k in means.index), flush=True)
    published = None if args.folder is None else args.folder / "published_scores.csv"
    if published is not None and published.is_file():
        rows = pd.read_csv(published)
        rows = rows[rows["dataset"] == name].sort_values("r2_mean", ascending=False)
        for row in rows.itertuples():
            error = row.r2_sd / np.sqrt(row.n_splits)
            print(f"  published: {f'{row.model} ({row.encoders})':24} R2 {row.r2_mean:.3f} ± {error:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(TABLES)}; without a folder, those of packages")
    parser.add_argument("--folder", type=Path, help="of bikewale.csv and goodreads.csv")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--only", help="part of a model's name")
    parser.add_argument("--file", type=Path, help="any other table, as CSV")
    parser.add_argument("--target", help="its target")
    args = parser.parse_args()
    if args.file is not None:
        values = pd.read_csv(args.file, usecols=[args.target])[args.target]
        decimals = pd.api.types.is_float_dtype(values) and bool((values.dropna() % 1 != 0).any())
        table = Table(lambda _: pd.read_csv(args.file, low_memory=False), args.target, classify=not decimals)
        return run(args.file.stem, table, args)
    for name in args.tables or [name for name in TABLES if args.folder is not None or TABLES[name].n_train]:
        run(name, TABLES[name], args)
    return None


if __name__ == "__main__":
    main()
