"""Encoding image files against the parts it is made of: the network on preloaded tensors, decoding, and a plain loop.

    python benchmarks/encode.py [--quick] [--others] [network ...]

Rates are images a second, medians of rounds that take turns; the cache is off. For each network and device:

forward   Batches of prepared tensors through the fastest backend that is installed (all are tried, the line names it).
decode    Reading and preparing the files alone, by as many threads as there are cores.
encode    `ImageEncoder.transform` over the files, after it has chosen its backend.
loop      One file after the other: open, prepare, network with batch 1, in plain torch.
both      On a CPU, decoding and the network share the cores, so that no program has a higher rate than
          1 / (1 / forward + 1 / decode); on a GPU the lower one of the two.

Limits: encode / forward at least 0.95 on a CPU and 0.90 on a GPU, or, where decoding is the slower part, encode /
decode at least 0.90; encode / loop at least 2. Networks whose weights are not packaged have random ones: the speed is
the same.

With --others: rows a second of the other encoders that need nothing but an installation, without a baseline.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image

from ensemblefuse import (
    AudioEncoder,
    BaseEncoder,
    ImageEncoder,
    TextEncoder,
    TimeSeriesEncoder,
    WordVectorEncoder,
    config_context,
)
from ensemblefuse.backbones.forward import Forward

NETWORKS = ["mobilenet_v3_small", "efficientnet_lite0", "resnet18"]
BATCH = {"cpu": 32, "cuda": 128}
WARM_UP = 600  # rows after which every backend was tried


def make_photos(folder: Path, n: int) -> list[str]:
    """JPEG files of 500 x 375 pixels, as smooth as photos are."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, size=(24, 32, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.int16)
        pixels = np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
        paths.append(str(folder / f"{i}.jpg"))
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


def make_encoder(name: str, folder: Path, device: str) -> ImageEncoder:
    if name == "efficientnet_lite0":
        return ImageEncoder(device=device)
    path = folder / f"{name}.pth"
    if not path.exists():
        torch.manual_seed(0)
        torch.save(torchvision.models.get_model(name, weights=None).state_dict(), path)
    return ImageEncoder(name, weights=path, device=device)


def rate(work: Callable[[], object], n: int) -> float:
    start = time.perf_counter()
    work()
    return n / (time.perf_counter() - start)


def fastest_forward(encoder: ImageEncoder, tensors: torch.Tensor, device: str) -> tuple[str, Forward]:
    module, rates = encoder._network().module, {}
    for name in ("torch", "onnxruntime", "openvino"):
        if name != "torch" and (device != "cpu" or importlib.util.find_spec(name) is None):
            continue
        forward = Forward(module, [device], backend=name)
        forward(tensors[: BATCH[device]])
        rates[name] = max(rate(lambda f=forward: f(tensors[: BATCH[device]]), 1) for _ in range(3)), forward
    best = max(rates, key=lambda name: rates[name][0])
    return best, rates[best][1]


def measure(name: str, device: str, paths: list[str], folder: Path, rounds: int) -> dict[str, float | str]:
    encoder = make_encoder(name, folder, device).fit(paths[:1])
    tensors = torch.stack([encoder.load(path) for path in paths])
    for _ in range(-(-WARM_UP // len(paths)) if device == "cpu" else 1):
        encoder.transform(paths)
    backend, forward = fastest_forward(encoder, tensors, device)
    batches, network = tensors.split(BATCH[device]), encoder._network().module
    few = paths[: max(8, len(paths) // 8)]

    def one_by_one() -> None:
        with torch.inference_mode():
            for path in few:
                network(encoder.load(path)[None].to(device)).cpu().numpy()

    def decode() -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(encoder.load, paths))

    parts: dict[str, tuple[Callable[[], object], int]] = {
        "forward": (lambda: [forward(batch) for batch in batches], len(paths)),
        "decode": (decode, len(paths)),
        "encode": (lambda: encoder.transform(paths), len(paths)),
        "loop": (one_by_one, len(few)),
    }
    rates: dict[str, list[float]] = {part: [] for part in parts}
    for _ in range(rounds):
        for part, (work, n) in parts.items():
            rates[part].append(rate(work, n))
    medians = {part: statistics.median(values) for part, values in rates.items()}
    return {**medians, "backend": backend, "chosen": encoder.place()}


def report(name: str, device: str, found: dict) -> None:
    forward, decode, encode, loop = (found[part] for part in ("forward", "decode", "encode", "loop"))
    both = 1 / (1 / forward + 1 / decode) if device == "cpu" else min(forward, decode)
    least = {"cpu": 0.95, "cuda": 0.90}[device]
    of, limit, ratio = ("forward", least, encode / forward) if forward < decode else ("decode", 0.9, encode / decode)
    print(
        f"{name:20} {device:5} forward {forward:7.1f} ({found['backend']}), decode {decode:7.1f}, "
        f"encode {encode:7.1f} ({found['chosen']}), loop {loop:6.1f}"
    )
    print(
        f"{'':26} encode / {of} {ratio:.2f} ({verdict(ratio, limit)}), encode / both {encode / both:.2f}, "
        f"encode / loop {encode / loop:.1f} ({verdict(encode / loop, 2)})",
        flush=True,
    )


def other_encoders(paths: list[str]) -> list[tuple[str, BaseEncoder, list]]:
    """Encoder and cells: photos of 500 x 375, texts of 12 words, sounds of 2 seconds, series of 1000 samples."""
    rng = np.random.default_rng(0)
    words = ["a", "red", "cat", "on", "grey", "stones", "while", "the", "river", "runs", "under", "bridges"]
    texts = [" ".join(rng.choice(words, 12)) for _ in range(512)]
    sounds = list(rng.normal(0, 0.1, size=(64, 32000)).astype(np.float32))
    return [
        *((f"ImageEncoder, {name}", ImageEncoder(features=name), paths[:64]) for name in ("color", "hog", "lbp")),
        ("TextEncoder", TextEncoder(), texts),
        ("TextEncoder, multilingual", TextEncoder("use-multilingual-v3"), texts),
        ("WordVectorEncoder", WordVectorEncoder(), texts),
        ("AudioEncoder", AudioEncoder(), sounds),
        ("AudioEncoder, librosa", AudioEncoder(features="librosa"), sounds),
        ("TimeSeriesEncoder", TimeSeriesEncoder(), list(rng.normal(size=(512, 1000)))),
    ]


def report_others(folder: Path, rounds: int) -> None:
    for name, encoder, cells in other_encoders(make_photos(folder, 64)):
        encoder.fit(cells[:2]).transform(cells[:2])
        median = statistics.median(rate(lambda e=encoder, c=cells: e.transform(c), len(cells)) for _ in range(rounds))
        print(f"{name:25} {encoder.n_dims_:5} dimensions, {median:8.0f} rows a second", flush=True)


def verdict(ratio: float, limit: float) -> str:
    return f"at least {limit:g}: {'reached' if ratio >= limit else 'NOT REACHED'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "networks", nargs="*", default=NETWORKS, help=f"of torchvision's; {', '.join(NETWORKS)} by default"
    )
    parser.add_argument("--quick", action="store_true", help="fewer files and rounds")
    parser.add_argument("--others", action="store_true", help="the encoders of texts, sounds and series instead")
    options = parser.parse_args()
    rounds = 1 if options.quick else 5
    warnings.simplefilter("ignore")
    os.environ["ENSEMBLEFUSE_PROGRESS"] = "off"
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    card = f", {torch.cuda.get_device_name()}" if len(devices) > 1 else ""
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores{card}; torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder, config_context(cache=None):
        if options.others:
            report_others(Path(folder), rounds)
            return
        for device in devices:
            n = 64 if options.quick else {"cpu": 256, "cuda": 2048}[device]
            paths = make_photos(Path(folder), n)
            for name in options.networks:
                found = measure(name, device, paths, Path(folder), rounds)
                report(name, device, found)


if __name__ == "__main__":
    main()
