"""``ensemblefuse demo``: from a real data set to predictions for rows that the model has not seen."""

from __future__ import annotations

import inspect
import time
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from ensemblefuse import datasets
from ensemblefuse._config import show_progress
from ensemblefuse.cli._encoding import Encoded, encode_modalities, working_cache
from ensemblefuse.cli._messages import CommandError, UsageError, describe, print_columns
from ensemblefuse.cli._tables import check_output, columns_of
from ensemblefuse.encoders import AudioEncoder, ImageEncoder, TextEncoder
from ensemblefuse.evaluation import compare_models, format_comparison, standard_strategies
from ensemblefuse.exceptions import PersistenceError
from ensemblefuse.table import is_missing

_N_HELD_OUT = 10
_MADE_BY = "ensemblefuse demo"


def demo(args: Namespace) -> int:
    """Run ``ensemblefuse demo`` and return the exit code."""
    start = time.perf_counter()
    output = _check_model_output(args.output)
    _step(1, "Data")
    bunch = _load(args.data)
    _print_data(bunch)
    held_out = hold_out(bunch.target.to_numpy(), bunch.groups.to_numpy(), bunch.frame.notna().all(axis=1).to_numpy())
    print(f"held out: {held_out.sum()} rows, in whole groups; no model below is trained on them or their groups")

    _step(2, "Encode every modality (frozen networks, each cell once)")
    modalities = _modalities(bunch)
    with working_cache() as where:
        print(where)
        modalities, X, took = _encode(modalities, bunch.frame)
        _print_encoded(took)

        _step(3, "Compare on the same folds")
        train, y, groups = X[~held_out], bunch.target.to_numpy()[~held_out], bunch.groups.to_numpy()[~held_out]
        models = standard_strategies(modalities)
        now = time.perf_counter()
        table = compare_models(models, train, y, cv=args.cv, groups=groups, n_jobs=args.jobs)
        print("mean ± standard deviation over the folds; fit_time in seconds, with all embeddings in the cache")
        print(format_comparison(table))
        _print_verdict(table, time.perf_counter() - now)

        _step(4, "Fit the best on all rows except those held out, and save it")
        model, best = _fit_best(models, table, train, y, groups)
        _save(model, best, output, bunch, train)

        _step(5, "Load it and predict the rows held out")
        _predict(output, X[held_out], bunch.target[held_out], modalities)

    print(f"\nThe demo took {time.perf_counter() - start:.0f} s. The model is in {output.resolve()}. To use it:\n")
    print(_usage(output, X[held_out].iloc[0], modalities))
    return 0


def _step(number: int, what: str) -> None:
    print(f"\n{number}/5  {what}", flush=True)


def _check_model_output(path: str) -> Path:
    """Return the path of a new file or of an earlier run's model; raise for any other file, to never replace it."""
    from ensemblefuse.persistence import inspect_model

    output = check_output(path, overwrite=True)
    if output.exists():
        try:
            metadata = inspect_model(output).get("metadata")
        except PersistenceError as error:
            raise UsageError(f"{path} exists and is not a model; name another file with --output.") from error
        if not isinstance(metadata, dict) or metadata.get("made_by") != _MADE_BY:
            raise UsageError(f"{path} exists and is not a model of the demo; name another file with --output.")
    return output


# ---------------------------------------------------------------------- data


def _load(name: str) -> Bunch:
    progress = show_progress()
    try:
        if name == "digits":
            return Bunch(**datasets.load_av_digits(progress=progress), note="")
        if name == "tux-paint":
            return Bunch(**datasets.fetch_tux_paint(progress=progress), note="")
        return datasets.load_demo(progress=progress)
    except datasets.DatasetUnavailableError as error:
        raise CommandError(f"{describe(error)} 'ensemblefuse demo --data digits' needs no network.") from error


def _print_data(bunch: Bunch) -> None:
    if bunch.note:
        print(f"note: {bunch.note}")
    print(bunch.DESCR.strip().splitlines()[0])
    for name, text in _paragraphs(bunch.DESCR):
        if name in ("Source", "Licence") or "GENERATED" in text or "in place of speech" in text:
            print(f"  {name}: {text}")


def _paragraphs(description: str) -> list[tuple[str, str]]:
    """Return the parts of a ``DESCR`` that begin with a name, each as (name, text in one line)."""
    parts: list[tuple[str, str]] = []
    for line in description.splitlines():
        name, gap, rest = line.partition("  ")
        if gap and name and name[0] != " ":
            parts.append((name, rest.strip()))
        elif line.startswith("  ") and parts:
            parts[-1] = (parts[-1][0], f"{parts[-1][1]} {line.strip()}")
    return parts


def hold_out(y: np.ndarray, groups: np.ndarray, complete: np.ndarray, n_rows: int = _N_HELD_OUT) -> np.ndarray:
    """Choose about `n_rows` rows in whole groups, of many classes; always the same ones.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    groups : ndarray of shape (n_samples,)
    complete : ndarray of shape (n_samples,), dtype bool
        Rows with every modality; the first chosen group holds one.
    n_rows : int
        The size to aim at. At least one group is chosen, even if it is larger.

    Returns
    -------
    ndarray of shape (n_samples,), dtype bool

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.cli._demo import hold_out
    >>> rows = hold_out(np.array(list("abab")), np.array([0, 0, 1, 1]), np.ones(4, dtype=bool), n_rows=2)
    >>> int(rows.sum())
    2
    """
    names, codes = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(names))
    members = {group: np.flatnonzero(codes == group) for group in order}
    whole = [group for group in order if complete[members[group]].any()] or list(order)
    first = next((group for group in whole if len(members[group]) <= n_rows), None)
    if first is None:  # every group is large, such as a speaker in the digits
        first = min(whole, key=lambda group: len(members[group]))
    chosen, seen = list(members[first]), set(y[members[first]])
    for new_class in (True, False):  # first one group per class, then any group
        for group in order:
            rows = members[group]
            if group == first or len(chosen) + len(rows) > n_rows or rows[0] in chosen:
                continue
            if not new_class or not set(y[rows]) <= seen:
                chosen += list(rows)
                seen |= set(y[rows])
    out = np.zeros(len(y), dtype=bool)
    out[chosen] = True
    return out


def _modalities(bunch: Bunch) -> list[tuple[str, Any, Any]]:
    """Return one encoder per modality, declared: nothing is guessed, and no path or index becomes a feature."""
    encoders = {
        "image": ImageEncoder(on_error="missing"),
        "text": TextEncoder(),
        "audio": AudioEncoder(on_error="missing"),
        "tabular": make_pipeline(StandardScaler()),
    }
    return [(name, encoders[name], columns) for name, columns in bunch.modalities.items()]


# ---------------------------------------------------------------------- encode, compare


def _encode(
    modalities: list[tuple[str, Any, Any]], X: pd.DataFrame
) -> tuple[list[tuple[str, Any, Any]], pd.DataFrame, dict[str, Encoded]]:
    """Encode one modality after the other; leave out those whose network is not installed, and print a note."""
    kept: list[tuple[str, Any, Any]] = []
    took: dict[str, Encoded] = {}
    for modality in modalities:
        try:
            X, new = encode_modalities([modality], X, header=not took)
        except (ImportError, FileNotFoundError) as error:
            print(f"note: {modality[0]} is left out: {describe(error)}")
            continue
        kept.append(modality)
        took |= new
    if not kept:
        raise CommandError("No modality could be encoded.")
    return kept, X, took


def _print_encoded(took: dict[str, Encoded]) -> None:
    n_read, n_written = sum(e.n_read for e in took.values()), sum(e.n_written for e in took.values())
    seconds = sum(e.seconds for e in took.values())
    if n_written == 0:
        print(f"Nothing was encoded: all {n_read} vectors came from the cache, in {seconds:.1f} s.")
    else:
        print(f"{n_written} cells encoded and {n_read} vectors read from the cache, in {seconds:.1f} s.")


def _print_verdict(table: pd.DataFrame, seconds: float) -> None:
    loss = table["log_loss"]
    best = str(loss.idxmin())
    print(f"lowest log-loss: {best} ({loss[best]:.3f}).", end=" ")
    single = [name for name in loss.index if str(name).endswith(" alone")]
    if 1 < len(single) < len(loss):
        fused = loss.drop(index=single)
        print(
            f"Best single modality: {loss[single].idxmin()} ({loss[single].min():.3f}); "
            f"best fusion: {fused.idxmin()} ({fused.min():.3f}).",
            end=" ",
        )
    print(f"{seconds:.1f} s.")


# ---------------------------------------------------------------------- the model


def _fit_best(models: dict, table: pd.DataFrame, X: pd.DataFrame, y: np.ndarray, groups: np.ndarray) -> tuple[Any, str]:
    best = str(table["log_loss"].idxmin())
    model = clone(models[best])
    takes_groups = "groups" in inspect.signature(model.named_steps["fuse"].fit).parameters
    start = time.perf_counter()
    model.fit(X, y, **({"fuse__groups": groups} if takes_groups else {}))
    print(f"{best}: fitted on {len(X)} rows in {time.perf_counter() - start:.1f} s")
    return model, best


def _save(model: Any, best: str, output: Path, bunch: Bunch, X: pd.DataFrame) -> None:
    from ensemblefuse.persistence import save_model

    metadata = {"data": bunch.name, "strategy": best, "made_by": _MADE_BY}
    save_model(model, output, metadata=metadata, example=X.head(5))
    print(f"saved {output} ({output.stat().st_size / 1e6:.1f} MB)")


def _predict(output: Path, X: pd.DataFrame, target: pd.Series, modalities: list[tuple[str, Any, Any]]) -> None:
    from ensemblefuse.persistence import load_model

    model = load_model(output)
    shown = _shown_rows(target.to_numpy())
    X, target = X.iloc[shown], target.iloc[shown]
    lines, right = _prediction_lines(model, X, target, modalities)
    print_columns([["row", "true", "predicted", "probability", "modalities"], *lines])
    print(
        f"{right} of {len(X)} right. These rows are few, and rare classes are as frequent in them as common ones: "
        "judge the model by the table above."
    )
    names = {name: columns for name, _, columns in modalities}
    gone = "text" if "text" in names and len(names) > 1 else modalities[-1][0]
    row = int(np.argmax([sum(_is_there(cells, columns) for columns in names.values()) for _, cells in X.iterrows()]))
    one = X.iloc[[row]]
    lacking = one.assign(**{c: pd.Series([None], index=one.index, dtype=object) for c in columns_of_one(names[gone])})
    print(f"\none of these rows with all its modalities, and with its {gone} set to None:")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the modality is missing on purpose
        pair = [_prediction_lines(model, part, target.iloc[[row]], modalities)[0][0] for part in (one, lacking)]
    print_columns([["row", "true", "predicted", "probability", "modalities"], *pair])


def columns_of_one(columns: str | list[str]) -> list[str]:
    """Return the columns of one modality as a list."""
    return columns_of([("", None, columns)])


def _shown_rows(y: np.ndarray) -> np.ndarray:
    """Return the positions of at most `_N_HELD_OUT` rows, chosen from the classes in turn."""
    rank = pd.Series(y).groupby(y).cumcount().to_numpy()
    return np.sort(np.argsort(rank, kind="stable")[:_N_HELD_OUT])


def _is_there(cells: pd.Series, columns: str | list[str]) -> bool:
    return not all(is_missing(cells[column]) for column in columns_of_one(columns))


def _prediction_lines(
    model: Any, X: pd.DataFrame, target: pd.Series, modalities: list[tuple[str, Any, Any]]
) -> tuple[list[list[str]], int]:
    proba = model.predict_proba(X)
    predicted = model.classes_[proba.argmax(axis=1)]
    lines = []
    for i, (label, cells) in enumerate(X.iterrows()):
        there = [name for name, _, columns in modalities if _is_there(cells, columns)]
        lines.append(
            [str(label), str(target.iloc[i]), str(predicted[i]), f"{proba[i].max():.2f}", " ".join(there) or "none"]
        )
    return lines, int((predicted == target.to_numpy()).sum())


def _usage(output: Path, cells: pd.Series, modalities: list[tuple[str, Any, Any]]) -> str:
    row = {column: [cells[column]] for column in columns_of(modalities)}
    return (
        "from ensemblefuse import load_model\n"
        f"model = load_model({str(output.resolve())!r})\n"
        f"print(model.predict({row!r}))"
    )
