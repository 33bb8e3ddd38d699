"""What weights of 8 bits cost and bring: cosine, accuracy downstream, bytes, time; ratios within one run.

Run: python benchmarks/quantised.py [text] [convolutions]

`text`: TextEncoder in float32 and int8, on one thread. Downstream: of which of 6 modules of scikit-learn a docstring
is, by logistic regression in 5 folds.
`convolutions`: EfficientNet-Lite0, which the library does not quantise, by ONNX Runtime's two ways: scales found in
each batch (dynamic), and scales of 32 crops of scikit-learn's two photos (static, a scale a channel). Downstream: its
digits as pictures.
"""

import contextlib
import importlib
import inspect
import os
import pkgutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import sklearn
from sklearn.datasets import load_digits, load_sample_images
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ensemblefuse import ImageEncoder, TextEncoder, config_context, export_encoder_onnx


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def accuracy(X, y):
    return cross_val_score(make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=500)), X, y, cv=5).mean()


def seconds(call, n=3):
    call()
    spent = []
    for _ in range(n):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return min(spent)


def doc_sentences(n_a_module=40):
    """First lines of docstrings, and the module that they are of: text that is on every machine."""
    texts, labels = [], []
    for name in ("cluster", "datasets", "ensemble", "linear_model", "metrics", "preprocessing"):
        package = importlib.import_module(f"sklearn.{name}")
        found = set()
        for part in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if ".tests" in part.name:
                continue
            for _, thing in inspect.getmembers(importlib.import_module(part.name)):
                doc = inspect.getdoc(thing) if getattr(thing, "__module__", "") == part.name else None
                if doc:
                    found.add(" ".join(doc.split())[:200])
        chosen = sorted(found)[:n_a_module]
        texts += chosen
        labels += [name] * len(chosen)
    return texts, np.array(labels)


def text():
    texts, y = doc_sentences()
    vectors, spent, alone, sizes = {}, {}, {}, {}
    with tempfile.TemporaryDirectory() as folder, config_context(cache=None, progress=False):
        for precision in ("float32", "int8"):
            encoder = TextEncoder(precision=precision, device="cpu")
            vectors[precision] = encoder.fit_transform({"t": texts})
            spent[precision] = seconds(lambda e=encoder: e.transform({"t": texts}), 2)
            alone[precision] = seconds(lambda e=encoder: [e.transform({"t": [t]}) for t in texts[:20]])
            sizes[precision] = export_encoder_onnx(encoder, Path(folder) / precision).stat().st_size
    near = cosines(vectors["int8"], vectors["float32"])
    print(f"all-MiniLM-L6-v2, {len(texts)} texts: int8 beside float32 (torch)")
    print(f"  cosine: median {np.median(near):.4f}, least {near.min():.4f}")
    share = lambda of: of["int8"] / of["float32"]
    print(f"  bytes {share(sizes):.2f}, time of all {share(spent):.2f}, time of single texts {share(alone):.2f}")
    both = {name: accuracy(vectors[name], y) for name in vectors}
    print(f"  accuracy, {len(set(y))} subjects: float32 {both['float32']:.3f}, int8 {both['int8']:.3f}", flush=True)


def crops(encoder, n=32):
    rng = np.random.default_rng(0)
    photos = load_sample_images().images
    for i in range(n):
        photo, side = photos[i % 2], int(rng.integers(150, 420))
        top, left = (int(rng.integers(0, length - side + 1)) for length in photo.shape[:2])
        yield {"pixels": encoder.load(photo[top : top + side, left : left + side]).numpy()[None]}


def convolutions():
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Crops(CalibrationDataReader):
        def __init__(self, encoder):
            self.left = crops(encoder)

        def get_next(self):
            return next(self.left, None)

    digits = load_digits(n_class=10)
    pictures = [np.uint8(255 - 15.9 * digit).repeat(16, axis=0).repeat(16, axis=1) for digit in digits.images[:400]]
    encoder = ImageEncoder(device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.onnx" for name in ("float32", "dynamic", "prepared", "static")}
        export_encoder_onnx(encoder, paths["float32"])
        with contextlib.redirect_stdout(None):  # shapes that it could not tell
            quantize_dynamic(paths["float32"], paths["dynamic"], weight_type=QuantType.QUInt8)
            quant_pre_process(paths["float32"], paths["prepared"])
        quantize_static(paths["prepared"], paths["static"], Crops(encoder), per_channel=True)
        pixels = np.stack([encoder.load(picture).numpy() for picture in pictures])
        vectors, spent = {}, {}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        for name in ("float32", "dynamic", "static"):
            session = onnxruntime.InferenceSession(paths[name], options)
            embed = lambda rows, s=session: s.run(None, {"pixels": rows})[0]
            vectors[name] = np.vstack([embed(row[None]) for row in pixels])
            spent[name] = seconds(lambda e=embed: e(pixels[:8]))
        for name in ("dynamic", "static"):
            near = cosines(vectors[name], vectors["float32"])
            print(f"efficientnet_lite0, {len(pictures)} digits: {name} int8 beside float32 (ONNX Runtime)")
            print(f"  cosine: median {np.median(near):.4f}, least {near.min():.4f}")
            size = paths[name].stat().st_size / paths["float32"].stat().st_size
            print(f"  bytes {size:.2f}, time {spent[name] / spent['float32']:.2f}")
            scores = [accuracy(vectors[which], digits.target[: len(pictures)]) for which in ("float32", name)]
            print(f"  accuracy, 10 digits: float32 {scores[0]:.3f}, int8 {scores[1]:.3f}", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    chosen = sys.argv[1:] or ["text", "convolutions"]
    print(f"scikit-learn {sklearn.__version__}, one thread")
    for name in chosen:
        {"text": text, "convolutions": convolutions}[name]()
