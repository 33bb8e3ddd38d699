"""What it costs to serve a model on a small machine, in parts that are measured in one run.

    python benchmarks/serving.py [--model PATH] [--quick] [row | start | stream | server ...]

row     One-row `predict_proba` of the demo's model (image, text, speech) against the forward of its encoders:
        `transform` of each on the cell itself, with the cache off. Median of the difference over rows that take turns;
        the limit is 5 ms. In brackets the processor's time, which other programs on the machine lengthen less. Then the
        same with embeddings from the cache, by part.
start   From the start of a process to its first prediction by the demo's model, and its memory then, against a process
        that imports torch and predicts nothing.
stream  `ensemblefuse predict` over 100 000 rows of embeddings in a Parquet file (two modalities of 64 numbers): rows a
        second, and the peak of memory, of which the limit is 500 MB, in a process that never imports torch.
server  Requests of one row to `ensemblefuse serve`, from 16 clients at a time against one: rows a second, limit 3 times
        as many; for the demo's model with image and text, and for one of numbers. No cell comes twice.

Without --model the demo is run for one, which takes minutes the first time.
"""

from __future__ import annotations

import argparse
import base64
import copy
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from sklearn.linear_model import LogisticRegression

from ensemblefuse import (
    DecisionFusionClassifier,
    PrecomputedEncoder,
    config_context,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.datasets import load_demo

PARTS = ("row", "start", "stream", "server")
LIMITS = {"row": 5.0, "stream": 500.0, "server": 3.0}
N_CLIENTS = 16
N_STREAMED = 100_000
WIDTH = 64
WARM_UP = 40  # rows after which ONNX Runtime was tried
_MEMORY = """
def memory(field):
    return int(open("/proc/self/status").read().partition(field + ":")[2].split()[0]) / 1000
"""


def demo_model(given: str | None, folder: Path) -> Path:
    """The model file that was named, or the demo's."""
    if given is not None:
        return Path(given)
    path = folder / "demo.fuse"
    subprocess.run([sys.executable, "-m", "ensemblefuse", "demo", "--output", str(path)], check=True, stdout=sys.stderr)
    return path


def demo_rows(n: int) -> pd.DataFrame:
    """Rows of the demo's data that hold every modality."""
    frame = load_demo(progress=False).frame
    return frame[frame.notna().all(axis=1)].head(n)


def milliseconds(action: Callable[[], object]) -> np.ndarray:
    """By the clock, and of the processor."""
    start = time.perf_counter(), time.process_time()
    action()
    return 1000 * (np.array([time.perf_counter(), time.process_time()]) - start)


def shown(times: Any) -> str:
    return "{:.1f} ms ({:.1f})".format(*np.median(times, axis=0))


def run_python(code: str, *arguments: str) -> dict[str, Any]:
    """What a fresh process prints as JSON, and its ``seconds`` from start to that line."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}")
    return {**json.loads(line), "seconds": seconds}


# ---------------------------------------------------------------------- row


def report_row(path: Path, rounds: int) -> None:
    model, rows = load_model(path), demo_rows(20)
    rows = [rows.iloc[[i]] for i in range(len(rows))]
    with config_context(cache=None):
        for i in range(WARM_UP):
            model.predict_proba(rows[i % len(rows)])
        whole, forward = _turns(model, rows, rounds)
    extra = whole - forward
    reached = verdict(np.median(extra[:, 0]) <= LIMITS["row"])
    print(f"row, no cache: {shown(whole)}, forward {shown(forward)}, beyond it {shown(extra)},", end=" ")
    print(f"limit {LIMITS['row']:g} ms: {reached}", flush=True)
    with tempfile.TemporaryDirectory() as folder, config_context(cache=folder):
        blocks = [model[:-1].transform(row) for row in rows]
        whole, forward = _turns(model, rows, rounds)
        fuse = [milliseconds(lambda b=block: model[-1].predict_proba(b)) for _ in range(rounds) for block in blocks]
    print(f"row, cached:   {shown(whole)}, the encoders' part {shown(forward)}, the fusion's {shown(fuse)}", flush=True)


def _turns(model: Any, rows: list[pd.DataFrame], rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Times of the pipeline, and of its encoders alone, which give plain arrays, row by row in turns."""
    encoders = [
        (copy.deepcopy(encoder).set_output(transform="default"), columns)
        for name, encoder, columns in model[0].transformers_
        if name != "remainder"
    ]
    whole, forward = [], []
    for _ in range(rounds):
        for row in rows:
            cells = [(encoder, row[columns]) for encoder, columns in encoders]
            forward.append(milliseconds(lambda c=cells: [encoder.transform(cell) for encoder, cell in c]))
            whole.append(milliseconds(lambda r=row: model.predict_proba(r)))
    return np.array(whole), np.array(forward)


# ---------------------------------------------------------------------- start

_FIRST = f"""{_MEMORY}
import json, sys, warnings
warnings.simplefilter("ignore")
import pandas
from ensemblefuse import config_context, load_model
with config_context(cache=None, progress=False):
    load_model(sys.argv[1]).predict(pandas.read_pickle(sys.argv[2]))
print(json.dumps({{"mb": memory("VmRSS")}}), flush=True)
"""
_TORCH = f"{_MEMORY}\nimport json, torch\nprint(json.dumps({{'mb': memory('VmRSS')}}), flush=True)"


def report_start(path: Path, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        row = Path(folder) / "row.pickle"
        demo_rows(1).to_pickle(row)
        ours = [run_python(_FIRST, str(path), str(row)) for _ in range(rounds)]
        theirs = [run_python(_TORCH) for _ in range(rounds)]
    for name, unit in (("seconds", "s"), ("mb", "MB")):
        a, b = (statistics.median(found[name] for found in some) for some in (ours, theirs))
        print(f"start, {unit}: first prediction {a:.1f}, import torch {b:.1f}, ratio {a / b:.2f}", flush=True)


# ---------------------------------------------------------------------- stream


def numbers_model(path: Path) -> Path:
    """A model of two modalities of precomputed embeddings."""
    cells, y = _embeddings(np.random.default_rng(0), 600)
    X = pd.DataFrame({name: list(vectors) for name, vectors in cells.items()})
    fusion = DecisionFusionClassifier(LogisticRegression(), cv=3)
    model = make_fusion_pipeline([(name, PrecomputedEncoder(), name) for name in X], fusion).fit(X, y)
    return save_model(model, path, example=X.head(2))


def _embeddings(rng: np.random.Generator, n: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    y = rng.integers(0, 3, n)
    cells = {name: rng.standard_normal((n, WIDTH), dtype=np.float32) for name in ("image", "text")}
    for vectors in cells.values():
        vectors[:, 0] += y
    return cells, y


def _write_table(path: Path, n: int) -> None:
    rng, lists = np.random.default_rng(1), pa.list_(pa.float32())
    schema = pa.schema([("id", pa.int64()), ("image", lists), ("text", lists)])
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, n, 10_000):
            cells, y = _embeddings(rng, min(10_000, n - start))
            columns = {name: pa.array(list(vectors), type=lists) for name, vectors in cells.items()}
            writer.write_table(pa.table({"id": np.arange(start, start + len(y)), **columns}))


_STREAM = f"""{_MEMORY}
import json, sys, time
from ensemblefuse.cli import main
import ensemblefuse.persistence, ensemblefuse.compose
imported, start = memory("VmHWM"), time.perf_counter()
code = main(["predict", *sys.argv[1:], "--quiet"])
took = time.perf_counter() - start
print(json.dumps(dict(code=code, took=took, imported=imported, peak=memory("VmHWM"), torch="torch" in sys.modules)))
"""


def report_stream(n: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, table, out = numbers_model(folder / "m.fuse"), folder / "t.parquet", folder / "out.parquet"
        _write_table(table, n)
        found = run_python(_STREAM, str(model), str(table), "-o", str(out))
        n_out = parquet.read_metadata(out).num_rows
    if found["code"] or n_out != n:
        raise RuntimeError(f"exit code {found['code']}, {n_out} of {n} rows")
    print(f"stream, MB:    peak {found['peak']:.0f}, after the imports {found['imported']:.0f},", end=" ")
    print(f"ratio {found['peak'] / found['imported']:.2f}, limit {LIMITS['stream']:g}:", end=" ")
    print(verdict(found["peak"] <= LIMITS["stream"]), end="; ")
    print(f"torch imported: {'yes, NOT AS WANTED' if found['torch'] else 'no'}")
    print(f"stream, rows a second: {n / found['took']:.0f}, with the load of the model", flush=True)


# ---------------------------------------------------------------------- server


def report_server(path: Path, n_alone: int) -> None:
    images = (base64.b64encode(Path(cell).read_bytes()).decode() for cell in _files())
    rng = np.random.default_rng(2)
    texts = (f"a drawing of {rng.integers(1e9)} things" for _ in iter(int, 1))
    demo = ({"image": {"base64": image}, "text": text} for image, text in zip(images, texts, strict=False))
    _report_requests("image and text", path, demo, n_alone)
    with tempfile.TemporaryDirectory() as folder:
        cheap = ({name: rng.standard_normal(WIDTH).tolist() for name in ("image", "text")} for _ in iter(int, 1))
        _report_requests("numbers", numbers_model(Path(folder) / "m.fuse"), cheap, 8 * n_alone)


def _files() -> list[str]:
    frame = load_demo(progress=False).frame
    return frame["image"].dropna().drop_duplicates().tolist()


def _report_requests(name: str, path: Path, rows: Iterator[dict[str, Any]], n_alone: int) -> None:
    """One client and sixteen, in turns, each row sent once."""
    alone, together, waits = [], [], []
    with _server(path) as url:
        for body in _bodies(rows, WARM_UP):
            _post(url, body)
        for _ in range(3):
            alone.append(_rate(url, _bodies(rows, n_alone), 1)[0])
            rate, seconds = _rate(url, _bodies(rows, 3 * n_alone), N_CLIENTS)
            together.append(rate)
            waits += seconds
    one, many = statistics.median(alone), statistics.median(together)
    print(
        f"server, {name}: {N_CLIENTS} clients {many:.1f} rows a second, one {one:.1f}, ratio {many / one:.2f},", end=" "
    )
    print(f"limit {LIMITS['server']:g}: {verdict(many / one >= LIMITS['server'])};", end=" ")
    print(f"one of {N_CLIENTS} waits {1000 * statistics.median(waits):.0f} ms", flush=True)


def _bodies(rows: Iterator[dict[str, Any]], n: int) -> list[bytes]:
    return [json.dumps({"rows": [next(rows)]}).encode() for _ in range(n)]


@contextmanager
def _server(path: Path) -> Iterator[str]:
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ensemblefuse", "serve", str(path), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while True:
            try:
                if httpx.get(f"{url}/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server is not ready; exit code {process.poll()}")
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


_clients = threading.local()


def _post(url: str, body: bytes) -> float:
    """Seconds of one request, over a connection that each thread keeps."""
    import httpx

    if getattr(_clients, "url", None) != url:
        _clients.url, _clients.client = url, httpx.Client(timeout=60)
    start = time.perf_counter()
    answer = _clients.client.post(f"{url}/predict", content=body, headers={"content-type": "application/json"})
    if answer.status_code != 200:
        raise RuntimeError(f"{answer.status_code}: {answer.text[:200]}")
    return time.perf_counter() - start


def _rate(url: str, bodies: list[bytes], n_clients: int) -> tuple[float, list[float]]:
    with ThreadPoolExecutor(n_clients) as pool:
        start = time.perf_counter()
        seconds = list(pool.map(lambda body: _post(url, body), bodies))
        return len(bodies) / (time.perf_counter() - start), seconds


def verdict(reached: bool) -> str:
    return "reached" if reached else "NOT REACHED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--model", metavar="PATH", help="a model that 'ensemblefuse demo' has written")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds")
    options = parser.parse_args()
    parts = options.parts or PARTS
    warnings.simplefilter("ignore")
    os.environ["ENSEMBLEFUSE_PROGRESS"] = "off"
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        path = demo_model(options.model, Path(folder)) if set(parts) != {"stream"} else Path()
        if "row" in parts:
            report_row(path, 2 if options.quick else 10)
        if "start" in parts:
            report_start(path, 1 if options.quick else 3)
        if "stream" in parts:
            report_stream(N_STREAMED // 10 if options.quick else N_STREAMED)
        if "server" in parts:
            report_server(path, 20 if options.quick else 40)


if __name__ == "__main__":
    main()
