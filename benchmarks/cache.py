"""Time and memory of the embedding cache, as ratios to a baseline measured in the same run.

Run: python benchmarks/cache.py [--quick] [part ...]

Every line reads "name: ours, baseline, ratio, limit"; times are medians of 5 of the processor's time. The parts:

read      Reading 100 000 rows of 512 float32 that are cached, by an object that has not seen the folder before, against
          np.load of the same matrix: in the order in which they were written (the limit is for this), then shuffled.
warm      transform of 10 000 image files whose vectors are cached, in microseconds a row beyond the read of the
          vectors; then the same in a process that has not seen the files.
second    A cross-validation over image files with a fresh cache, against the one after it.
write     Writing to the cache, as a share of encoding images with the smallest network of list_backbones.
memory    Peak memory of encoding 100 000 rows beyond what the process and the output take, in MB.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from ensemblefuse import BaseEncoder, EmbeddingCache, ImageEncoder, config_context, get_cache
from ensemblefuse.cache.cell_digests import cell_digest
from ensemblefuse.cache.file_digests import forget_file_digests

RECIPE = {"class": "benchmark"}
N_DIMS = 576  # of mobilenet_v3_small
ROUNDS = 5
LIMITS = {"read": 3.0, "warm": 10.0, "second": 20.0, "write": 0.03, "memory": 64.0}


class Counter(BaseEncoder):
    """A vector of 512 numbers from a number, at no cost."""

    def __init__(self, batch_size: int = 256):
        self.batch_size = batch_size

    def encode_batch(self, items: list[int]) -> np.ndarray:
        return np.add.outer(np.array(items, dtype=np.float32), np.arange(512, dtype=np.float32))


def median_seconds(action: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    taken = []
    for _ in range(ROUNDS):
        before()
        start = time.process_time()
        action()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def report(name: str, ours: float, baseline: float, ratio: float, limit: float, unit: str, least: bool = False) -> None:
    is_within = ratio >= limit if least else ratio <= limit
    bound = f"at least {limit:g}" if least else f"{limit:g}"
    verdict = "within" if is_within else "OVER"
    print(f"{name}: {ours:.4g} {unit}, {baseline:.4g} {unit}, {ratio:.3g}, {bound} ({verdict})", flush=True)


# ---------------------------------------------------------------------- parts


def part_read(quick: bool, folder: Path) -> None:
    n = 20_000 if quick else 100_000
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((n, 512), dtype=np.float32)
    keys = [rng.bytes(16) for _ in range(n)]
    cache = EmbeddingCache(folder / "cache")
    for start in range(0, n, 256):
        cache.put(RECIPE, keys[start : start + 256], matrix[start : start + 256])
    np.save(folder / "matrix.npy", matrix)
    shuffled = [keys[i] for i in rng.permutation(n)]
    assert np.array_equal(cache.get_many(RECIPE, keys)[1], matrix)
    loads = median_seconds(lambda: np.load(folder / "matrix.npy"))
    for name, asked in (("in order", keys), ("shuffled (no limit)", shuffled)):
        reads = median_seconds(lambda asked=asked: EmbeddingCache(folder / "cache").get_many(RECIPE, asked))
        limit = LIMITS["read"] if name == "in order" else float("inf")
        report(f"read {n} x 512, {name}", 1e3 * reads, 1e3 * loads, reads / loads, limit, "ms")


def make_images(folder: Path, n: int, size: int) -> list[str]:
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    paths = []
    for i in range(n):
        pixels = rng.integers(256, size=(size, size, 3), dtype=np.uint8)
        pixels[0, 0] = i % 256, i // 256 % 256, i % 7
        paths.append(str(folder / f"{i}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return paths


def make_encoder(folder: Path) -> ImageEncoder:
    import torch
    import torchvision

    path = folder / "mobilenet_v3_small.pth"
    if not path.exists():
        torch.manual_seed(0)
        torch.save(torchvision.models.mobilenet_v3_small(weights=None).state_dict(), path)
    torch.set_num_threads(1)
    return ImageEncoder("mobilenet_v3_small", weights=path, device="cpu")


def part_warm(quick: bool, folder: Path) -> None:
    n = 1000 if quick else 10_000
    paths, encoder = make_images(folder / "images", n, 16), make_encoder(folder)
    time.sleep(2.5)  # younger files are not remembered
    with config_context(cache=folder / "cache"):
        keys = [cell_digest(path, strings_are_paths=True) for path in paths]
        cache, recipe = get_cache(), encoder.recipe()
        for start in range(0, n, 32):
            part = keys[start : start + 32]
            cache.put(recipe, part, np.random.default_rng(start).standard_normal((len(part), N_DIMS)))
        encoder.fit(paths[:1])
        for name, before in (("", lambda: None), (" in a new process", forget_file_digests)):
            reads = median_seconds(lambda: cache.get_many(recipe, keys))
            transforms = median_seconds(lambda: encoder.transform(paths), before)
            assert cache.n_written == n
            beyond = 1e6 * (transforms - reads) / n
            limit = float("inf") if name else LIMITS["warm"]
            title = (
                f"warm transform of {n} files{name}{' (no limit)' if name else ''}, microseconds a row beyond the read"
            )
            report(title, 1e6 * transforms / n, 1e6 * reads / n, beyond, limit, "us")


def part_second(quick: bool, folder: Path) -> None:
    n = 50 if quick else 200
    paths, encoder = make_images(folder / "photos", n, 64), make_encoder(folder)
    y = np.arange(n) % 2
    model = make_pipeline(encoder, LogisticRegression(max_iter=50))

    def validate() -> None:
        cross_val_score(model, paths, y, cv=5)

    with config_context(cache=folder / "photo cache"):
        validate()
        first = median_seconds(validate, lambda: get_cache().clear())
        second = median_seconds(validate)
    report(
        f"first over second cross-validation of {n} files", first, second, first / second, LIMITS["second"], "s", True
    )


def part_write(quick: bool, folder: Path) -> None:
    n = 64 if quick else 320
    paths, encoder = make_images(folder / "photos", n, 64), make_encoder(folder)
    spent: list[float] = []
    put = EmbeddingCache.put

    def timed(*args: object) -> None:
        start = time.process_time()
        put(*args)  # type: ignore[arg-type]
        spent.append(time.process_time() - start)

    shares, wholes, writes = [], [], []
    with config_context(cache=folder / "write cache"):
        encoder.fit(paths[:1])
        EmbeddingCache.put = timed  # type: ignore[method-assign,assignment]
        try:
            for _ in range(ROUNDS):
                get_cache().clear()
                spent.clear()
                start = time.process_time()
                encoder.transform(paths)
                wholes.append(time.process_time() - start)
                writes.append(sum(spent))
                shares.append(writes[-1] / wholes[-1])
        finally:
            EmbeddingCache.put = put  # type: ignore[method-assign]
    share = statistics.median(shares)
    report(
        f"writing while {n} images are encoded",
        1e3 * statistics.median(writes),
        1e3 * statistics.median(wholes),
        share,
        LIMITS["write"],
        "ms",
    )


def part_memory(quick: bool, folder: Path) -> None:
    n = 20_000 if quick else 100_000
    for name in ("encoding", "reading"):
        done = []
        for _ in range(ROUNDS if name == "reading" else 1):
            command = [sys.executable, __file__, "--child", str(folder / "memory cache"), str(n)]
            done.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        peak, output = (statistics.median(float(values[i]) for values in done) for i in range(2))
        report(
            f"peak memory of {name} {n} rows, beyond the output", peak, output, peak - output, LIMITS["memory"], "MB"
        )


def peak_kb() -> int:
    """Of this process alone: what getrusage counts may be the parent's, from before the exec."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def encode_in_child(folder: str, n: int) -> None:
    """Print the growth of the peak in transform and the size of its output, in MB."""
    with config_context(cache=folder):
        encoder = Counter().fit([0])
        cells = list(range(n))
        encoder.transform(cells[:300])  # what is imported late is not transform's
        before = peak_kb()
        out = encoder.transform(cells)
        grown = peak_kb() - before
    assert out[-1, 1] == n
    print(grown / 1024, out.nbytes / 2**20)


PARTS = {"read": part_read, "warm": part_warm, "second": part_second, "write": part_write, "memory": part_memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ["ENSEMBLEFUSE_PROGRESS"] = "off"
    with threadpool_limits(1):
        if options.child:
            encode_in_child(options.child[0], int(options.child[1]))
            return
        print("name: ours, baseline, ratio, limit")
        for part in options.parts or PARTS:
            with tempfile.TemporaryDirectory() as folder:
                PARTS[part](options.quick, Path(folder))


if __name__ == "__main__":
    main()
