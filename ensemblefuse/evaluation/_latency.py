"""Time of a fitted model's predictions by modality and stage, and the memory that they take."""

from __future__ import annotations

import contextlib
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from ensemblefuse._config import config_context
from ensemblefuse.encoders import BaseEncoder
from ensemblefuse.evaluation._latency_result import (
    CACHED,
    ENCODE,
    FUSE,
    JOIN,
    LOAD,
    TOTAL,
    TRANSFORM,
    WHOLE,
    PredictionLatency,
    PredictionLatencyDisplay,
)
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fusion.members import take_rows
from ensemblefuse.scoring.display import drawn_by
from ensemblefuse.table import to_frame

__all__ = ["prediction_latency"]

Span = tuple[float, float]


@drawn_by(PredictionLatencyDisplay)
def prediction_latency(
    model: Any,
    X: Any,
    *,
    batch_sizes: Sequence[int] = (1, 32),
    n_repeats: int = 20,
    warm: bool = True,
) -> PredictionLatency:
    """Measure how long predictions take, and how the time divides among modalities and stages.

    Calls are measured in this process with the cache off. Then whole calls are measured with all embeddings cached in
    a temporary folder; the user's cache is neither read nor written. Each call takes the next rows of `X`, and after
    the last row the first again. Classifiers predict probabilities if they can.

    Parameters
    ----------
    model : fitted pipeline that ends in a fusion estimator, or fitted fusion estimator
        A bare fusion estimator takes encoded rows, so only the fusion is measured.
    X : DataFrame of n_samples rows
        Rows such as the model will get in use. Equal cells of a batch are encoded once, so repeated cells would make
        it look faster.
    batch_sizes : sequence of int
        Numbers of rows in a call.
    n_repeats : int
        Number of measured calls for each batch size.
    warm : bool
        Whether each batch size starts with a call that is not measured. The very first call is never counted.

    Returns
    -------
    PredictionLatency

    Raises
    ------
    ValueError
        If a batch size is less than 1 or more than the rows of `X`, or `n_repeats` is less than 1.
    TypeError
        If the model does not end in a fusion estimator.

    Notes
    -----
    Methods of the model's encoders are wrapped during the measurement; do not use the model in another thread. Times
    depend on the machine and on its other load. The operating system keeps files in memory that were read before, so
    reading them is faster than the first time.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, FunctionEncoder, make_fusion_pipeline, prediction_latency
    >>> df = pd.DataFrame({"title": ["a cat", "my cat", "dog!", "dogs!"] * 5, "price": range(20)})
    >>> text = FunctionEncoder(lambda title: [len(title)])
    >>> modalities = [("text", text, "title"), ("tabular", "passthrough", ["price"])]
    >>> model = make_fusion_pipeline(modalities, DecisionFusionClassifier(LogisticRegression(), cv=2))
    >>> result = prediction_latency(model.fit(df, ["cat", "cat", "dog", "dog"] * 5), df, batch_sizes=[1], n_repeats=3)
    >>> result.table["stage"].tolist()
    ['load', 'encode', 'transform', 'transform', 'join', 'fuse', 'total', 'total, cached']
    """
    parts = FittedModel(model)
    X = X if isinstance(X, np.ndarray) else to_frame(X)
    sizes = _check_sizes(batch_sizes, len(X), n_repeats)
    with config_context(progress=False), warnings.catch_warnings(), _Watch(parts) as watch:
        warnings.simplefilter("ignore", MissingModalityWarning)
        with config_context(cache=None):
            start = watch.call(take_rows(X, np.arange(1)))[WHOLE, TOTAL]
            found = [_measure(watch.call, X, size, n_repeats, warm) for size in sizes]
        records = [record for part, _ in found for record in part]
        if watch.encoders or watch.fusion_encodes:
            records += _with_cache(watch, X, sizes, n_repeats)
    calls = pd.DataFrame(records)
    memory = pd.DataFrame([size for _, size in found], index=pd.Index(sizes, name="batch_size"))
    table = _table(calls, sizes)
    what = "nothing to encode" if table["stage"].iloc[-1] == TOTAL else "embeddings not cached, except in total, cached"
    return PredictionLatency(
        table,
        f"milliseconds per call and per row, {n_repeats} calls of each batch size; {what}",
        _notes(watch, start, memory),
        calls=calls,
        start=start,
        memory=memory,
        names=watch.names,
        n_repeats=n_repeats,
    )


class _Watch:
    """Timer of the stages of a call; within its ``with`` block, methods of encoders and modalities are wrapped."""

    def __init__(self, parts: FittedModel):
        self.parts = parts
        self.encodes_itself = bool(getattr(parts.core, "encoders_", None))
        self.unions: list[ColumnTransformer] = []
        self.modalities: dict[str, Any] = {}
        if isinstance(parts.model, Pipeline) and not self.encodes_itself:
            self.unions = [step for _, step in parts.model.steps if isinstance(step, ColumnTransformer)]
            fitted = [entry for union in self.unions for entry in union.transformers_]
            self.modalities = {name: part for name, part, _ in fitted if hasattr(part, "transform")}
        self.names = list(self.modalities)
        self.encoders = {name: _encoders_in(part, set()) for name, part in self.modalities.items()}
        self.encoders = {name: some for name, some in self.encoders.items() if some}
        self.fusion_encodes = bool(_encoders_in(parts.fusion, set()))
        self.spans: dict[tuple[str, str], list[Span]] = defaultdict(list)

    def __enter__(self) -> _Watch:
        self._stack = contextlib.ExitStack()
        for union in self.unions:
            self._stack.enter_context(_replaced(union, "n_jobs", None))  # times of worker processes would be lost
        for name, part in self.modalities.items():
            # An encoder that is the whole modality is called by one of two methods; both are wrapped.
            for method in ("transform", "_embed") if isinstance(part, BaseEncoder) else ("transform",):
                self._wrap(part, method, (name, WHOLE))
            for encoder in self.encoders.get(name, []):
                self._wrap(encoder, "load", (name, LOAD))
                self._wrap(encoder, "encode_batch", (name, ENCODE))
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def _wrap(self, owner: Any, method: str, key: tuple[str, str]) -> None:
        original, spans = getattr(owner, method), self.spans

        def timed(*args, **kwargs):
            begin = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                spans[key].append((begin, time.perf_counter()))

        self._stack.enter_context(_replaced(owner, method, timed))

    def call(self, rows: Any) -> dict[tuple[str, str], float]:
        """Predict these rows, and return the milliseconds of each modality and stage."""
        self.spans.clear()
        begin = time.perf_counter()
        Z = self.parts.encode(rows)
        encoded = time.perf_counter()
        fusion = self.parts.fusion
        (fusion.predict_proba if hasattr(fusion, "predict_proba") else fusion.predict)(Z)
        end = time.perf_counter()
        if self.encodes_itself:
            return {(WHOLE, TOTAL): 1000 * (end - begin)}
        seconds: dict[tuple[str, str], float] = {}
        for name in self.names:
            whole = _covered(self.spans[name, WHOLE])
            if name in self.encoders:
                encode = _covered(self.spans[name, ENCODE])
                load = _covered(self.spans[name, ENCODE] + self.spans[name, LOAD]) - encode
                seconds |= {(name, LOAD): load, (name, ENCODE): encode, (name, TRANSFORM): whole - load - encode}
            else:
                seconds[name, TRANSFORM] = whole
        if isinstance(self.parts.model, Pipeline):
            seconds[WHOLE, JOIN] = encoded - begin - sum(seconds.values())
            seconds[WHOLE, FUSE] = end - encoded
        else:
            seconds[WHOLE, FUSE] = end - begin
        seconds[WHOLE, TOTAL] = end - begin
        return {key: 1000 * value for key, value in seconds.items()}

    def whole_call(self, rows: Any) -> dict[tuple[str, str], float]:
        return {(WHOLE, CACHED): self.call(rows)[WHOLE, TOTAL]}


def _encoders_in(part: Any, seen: set[int]) -> list[BaseEncoder]:
    """Return the encoders inside a fitted transformer, also those inside other encoders."""
    if id(part) in seen:
        return []
    seen.add(id(part))
    if isinstance(part, dict):
        held = list(part.values())
    elif isinstance(part, (list, tuple)):
        held = list(part)
    elif isinstance(part, BaseEstimator):
        held = list(vars(part).values())
    else:
        return []
    own = [part] if isinstance(part, BaseEncoder) else []
    return own + [encoder for value in held for encoder in _encoders_in(value, seen)]


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of this one object for the duration of the ``with`` block."""
    own = vars(owner)
    before, had = own.get(name), name in own
    setattr(owner, name, value)
    try:
        yield
    finally:
        if had:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def _covered(spans: list[Span]) -> float:
    """Return the seconds covered by at least one span; spans of threads and nested calls overlap."""
    total, until = 0.0, -np.inf
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def _measure(call: Any, X: Any, size: int, n_repeats: int, warm: bool) -> tuple[list[dict], dict[str, float]]:
    """Call repeatedly; return a record for each stage of each call, and the memory that the calls took."""
    records = []
    before, tells = _status("VmRSS"), _reset_peak()
    for i in range(n_repeats + warm):
        at = (np.arange(size) + i * size) % len(X)
        found = call(take_rows(X, at))
        if i >= warm:
            records += [
                {"batch_size": size, "call": i - warm, "modality": name, "stage": stage, "ms": ms}
                for (name, stage), ms in found.items()
            ]
    peak = _status("VmHWM") if tells else np.nan
    return records, {"peak": peak, "rise": peak - before}


def _with_cache(watch: _Watch, X: Any, sizes: list[int], n_repeats: int) -> list[dict]:
    """Measure whole calls on rows whose embeddings are in a temporary cache."""
    used = min(len(X), max(sizes) * n_repeats)
    with (
        tempfile.TemporaryDirectory(prefix="ensemblefuse-", ignore_cleanup_errors=True) as folder,
        config_context(cache=folder),
    ):
        watch.call(take_rows(X, np.arange(used)))
        return [record for size in sizes for record in _measure(watch.whole_call, X, size, n_repeats, False)[0]]


def _status(field: str) -> float:
    """Return a field of ``/proc/self/status`` in MiB; NaN where the system is not Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return np.nan
    found = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(found[0]) / 1024 if found else np.nan


def _reset_peak() -> bool:
    """Reset the peak of the resident size to its present size (proc(5), clear_refs); return False if that fails."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _table(calls: pd.DataFrame, sizes: list[int]) -> pd.DataFrame:
    grouped = calls.groupby(["batch_size", "modality", "stage"], sort=False)["ms"]
    table = pd.DataFrame(
        {"call_mean": grouped.mean(), "call_p50": grouped.quantile(0.5), "call_p95": grouped.quantile(0.95)}
    ).reset_index()
    for figure in ("mean", "p50", "p95"):
        table[f"row_{figure}"] = table[f"call_{figure}"] / table["batch_size"]
    # Cached calls were measured last; sort each batch size's rows together.
    place = table["batch_size"].map({size: i for i, size in enumerate(sizes)})
    return table.iloc[np.argsort(place, kind="stable")].reset_index(drop=True)


def _notes(watch: _Watch, start: float, memory: pd.DataFrame) -> list[str]:
    notes = [
        f"The first call, of one row, took {start:.1f} ms and is not in the table; it did not load networks that were "
        "in memory already."
    ]
    if watch.encodes_itself:
        notes.append(f"{type(watch.parts.core).__name__} encodes by itself: only the whole call is measured.")
    elif watch.fusion_encodes:
        notes.append(f"{FUSE} includes the time of encoders inside the fusion's own estimators.")
    if any(union.n_jobs not in (None, 1) for union in watch.unions):
        notes.append("The modalities were encoded one after the other; n_jobs was ignored.")
    if memory["peak"].notna().all():
        sizes = ", ".join(f"{row.peak:.0f} MiB (batches of {size})" for size, row in memory.iterrows())
        notes.append(
            f"Largest resident size of this process, with what it held before, without memory of an accelerator: "
            f"{sizes}."
        )
    else:
        notes.append("Memory was not measured: on this system the process cannot read and reset its peak.")
    return notes


def _check_sizes(batch_sizes: Sequence[int], n_rows: int, n_repeats: int) -> list[int]:
    sizes = list(dict.fromkeys(batch_sizes))
    bad = [size for size in sizes if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1]
    if bad or not sizes:
        raise ValueError(f"batch_sizes must be whole numbers of at least 1; got {bad or 'none'}.")
    if max(sizes) > n_rows:
        raise ValueError(
            f"batch_sizes holds {max(sizes)}, but X has {n_rows} rows, and repeated rows are encoded once; pass more "
            f"rows, or batch_sizes of at most {n_rows}."
        )
    if n_repeats < 1:
        raise ValueError(f"n_repeats must be at least 1; got {n_repeats!r}.")
    return [int(size) for size in sizes]
