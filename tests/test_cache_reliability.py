"""The embedding cache under kills, failing disks, damage and crowds: never a wrong vector, never an exception."""

import builtins
import io
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ensemblefuse import BaseEncoder, CacheWarning, EmbeddingCache, FunctionEncoder, config_context, get_cache

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes of these tests are forks"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

RECIPE = {"class": "tests.E", "version": 1, "params": {}}
FORK = multiprocessing.get_context("fork")


def keys(numbers):
    return [int(i).to_bytes(16, "big") for i in numbers]


def vectors(numbers, n_dims=33):
    """What belongs to keys: any other row is a wrong one."""
    return np.sin(np.asarray(numbers, dtype=np.float64)[:, None] * np.arange(1.0, n_dims + 1)).astype(np.float32)


def check(cache, numbers, recipe=RECIPE):
    """Read rows; a wrong one fails. Which were found."""
    numbers = np.asarray(numbers)
    found, matrix = cache.get_many(recipe, keys(numbers))
    if found.any():
        assert_array_equal(matrix[found], vectors(numbers[found]))
    return found


# ---------------------------------------------------------------------- kills


def _write_and_tell(folder, first, pipe):
    cache, rng = EmbeddingCache(folder), np.random.default_rng(first)
    for start in range(first, first + 10**6, 8):
        numbers = np.arange(start, start + int(rng.integers(1, 9)))
        cache.put(RECIPE, keys(numbers), vectors(numbers))
        os.write(pipe, b"".join(n.to_bytes(8, "big") for n in numbers.tolist()))


@pytest.mark.slow
def test_100_kills_of_two_writers_lose_no_row_that_was_written(tmp_path):
    rng = np.random.default_rng(0)
    n_rows = 0
    for number in range(100):
        source, pipe = os.pipe()
        first = 10**7 * (number + 1)
        writers = [FORK.Process(target=_write_and_tell, args=(tmp_path, first + i * 10**6, pipe)) for i in range(2)]
        for writer in writers:
            writer.start()
        os.close(pipe)
        told = os.read(source, 8)  # one has begun
        time.sleep(rng.uniform(0, 0.02))
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
        with open(source, "rb") as file:
            told += file.read()
        told = told[: len(told) // 8 * 8]
        numbers = np.frombuffer(told, dtype=">u8").astype(np.int64)
        assert check(EmbeddingCache(tmp_path), numbers).all()
        n_rows += len(numbers)
        if number % 25 == 24:
            EmbeddingCache(tmp_path).prune()
            assert check(EmbeddingCache(tmp_path), numbers).all()
    stats = EmbeddingCache(tmp_path).stats(check=True)
    assert stats["n_damaged"] == 0 and stats["n_rows"] >= n_rows > 500


_HALF = """
    import os, signal, sys
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from ensemblefuse import BaseEncoder

    class LetterEncoder(BaseEncoder):
        def __init__(self, batch_size=8):
            self.batch_size = batch_size

        def encode_batch(self, items):
            with open(sys.argv[2], "a") as log:
                log.writelines(item + "\\n" for item in items)
            if sys.argv[1] != "go on" and sum(1 for _ in open(sys.argv[2])) >= 100:
                if sys.argv[1] == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise KeyboardInterrupt
            return np.array([[item.count(c) for c in "abcdefgh0123456789"] for item in items])

    words = [f"{'abcdefgh'[i % 8] * (i % 5)} {i}" for i in range(200)]
    Z = LetterEncoder().fit_transform(words)
    y = [i % 3 for i in range(200)]
    print(LogisticRegression().fit(Z, y).predict_proba(Z).round(12).tolist())
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_an_encoding_that_was_stopped_at_half_goes_on_from_there(tmp_path, how):
    (tmp_path / "half.py").write_text(textwrap.dedent(_HALF))

    def run(what, folder):
        log = tmp_path / f"{what}-{folder}.log"
        log.touch()
        command = [sys.executable, tmp_path / "half.py", what, log]
        environment = {**os.environ, "ENSEMBLEFUSE_CACHE": str(tmp_path / folder), "ENSEMBLEFUSE_PROGRESS": "off"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        return done, len(log.read_text().split("\n")) - 1

    stopped, n_first = run(how, "cache")
    assert stopped.returncode not in (0, 1) or "KeyboardInterrupt" in stopped.stderr
    assert 100 <= n_first < 120
    resumed, n_second = run("go on", "cache")
    whole, n_whole = run("go on", "other")
    assert resumed.returncode == whole.returncode == 0 and n_whole == 200
    assert n_second <= 0.55 * 200
    assert resumed.stdout == whole.stdout


# ---------------------------------------------------------------------- a disk that fails


class FailingFile:
    """A file whose reads count as calls that may fail."""

    def __init__(self, file, count):
        self._file, self._count = file, count

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def read(self, *args):
        self._count()
        return self._file.read(*args)

    def readinto(self, *args):
        self._count()
        return self._file.readinto(*args)


def fail_at(patch, n):
    """Let the n-th call of the operating system fail; gives the number of calls so far."""
    calls = [0]

    def count():
        calls[0] += 1
        if calls[0] == n:
            raise OSError(5, "Input/output error")

    def counting(function):
        def call(*args, **kwargs):
            count()
            return function(*args, **kwargs)

        return call

    for name in ("open", "write", "replace", "rename", "stat", "fstat", "listdir", "mkdir", "unlink", "utime", "close"):
        patch.setattr(os, name, counting(getattr(os, name)))
    opened = builtins.open

    def failing_open(*args, **kwargs):
        count()
        file = opened(*args, **kwargs)
        return FailingFile(file, count) if "r" in (args[1:] or ["r"])[0] else file

    patch.setattr(builtins, "open", failing_open)
    patch.setattr(io, "open", failing_open)
    return calls


def _use(folder):
    """Two writes, a reader that is older than them, one that is newer, and one for another recipe."""
    cache, reader = EmbeddingCache(folder), EmbeddingCache(folder)
    check(reader, range(3))
    for start in (0, 10):
        cache.put(RECIPE, keys(range(start, start + 5)), vectors(range(start, start + 5)))
    cache.put({**RECIPE, "version": 2}, keys(range(5)), vectors(range(5)))
    found = [check(some, [*range(5), *range(10, 15)]) for some in (cache, reader, EmbeddingCache(folder))]
    found.append(check(EmbeddingCache(folder), range(5), {**RECIPE, "version": 2}))
    return np.concatenate(found)


def test_whichever_call_of_the_system_fails_no_call_of_the_cache_does(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        calls = fail_at(patch, 0)
        assert _use(tmp_path / "clean").all()
    n_calls = calls[0]
    assert n_calls > 60
    n_warned = 0
    for n in range(1, n_calls + 1):
        folder = tmp_path / str(n)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with monkeypatch.context() as patch:
                fail_at(patch, n)
                found = _use(folder)
        assert {warning.category for warning in caught} <= {CacheWarning}
        n_warned += bool(caught)
        assert found.sum() >= len(found) - 20 or caught, n
        assert _use(folder).all(), n
    assert n_warned > n_calls / 3


def test_an_encoder_does_not_mind_a_disk_that_fails(tmp_path, monkeypatch):
    texts = [f"text {'a' * i}" for i in range(40)]
    expected = np.array([[len(text)] for text in texts], dtype=np.float32)
    for n in range(1, 60):
        with config_context(cache=tmp_path / str(n)), warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)
            encoder = FunctionEncoder(len, batch_size=10).fit(texts[:1])
            with monkeypatch.context() as patch:
                fail_at(patch, n)
                out = [encoder.transform(texts) for _ in range(2)]
            assert_array_equal(out[0], expected)
            assert_array_equal(out[1], expected)
            assert_array_equal(encoder.transform(texts), expected)


def _fill_a_small_disk(folder):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    cache = EmbeddingCache(folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for start in range(0, 3000, 50):
            cache.put(RECIPE, keys(range(start, start + 50)), vectors(range(start, start + 50)))
            cache.put({**RECIPE, "version": 2}, keys([start]), vectors([start], n_dims=30_000))  # never fits
    assert caught and all("File too large" in str(warning.message) for warning in caught)
    assert check(cache, range(3000)).sum() == cache.n_written >= 1000
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    cache.put(RECIPE, keys(range(3000)), vectors(range(3000)))
    assert check(cache, range(3000)).all() and check(EmbeddingCache(folder), range(3000)).all()


def test_a_disk_that_is_full_leaves_no_heap_of_empty_files(tmp_path):
    child = FORK.Process(target=_fill_a_small_disk, args=(tmp_path,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert not [path for path in tmp_path.rglob("*.vectors") if path.stat().st_size == 0]
    (other,) = [folder for folder in (tmp_path / "v2").iterdir() if not list(folder.glob("*.keys"))]
    assert [path.name for path in other.iterdir()] == ["recipe.json"]


@pytest.mark.parametrize("what", ["a file in its place", "a file in the place of the recipe"])
def test_a_folder_that_cannot_be_used_costs_time_and_no_result(tmp_path, what):
    folder = tmp_path / "cache"
    if what == "a file in its place":
        folder.write_bytes(b"")
    else:
        with config_context(cache=folder):
            FunctionEncoder(len).fit_transform(["a"])
            (path,) = [path for path in (folder / "v2").iterdir() if path.name != "files"]
        for part in path.iterdir():
            part.unlink()
        path.rmdir()
        path.write_bytes(b"")
    with config_context(cache=folder), pytest.warns(CacheWarning, match="cannot be"):
        for _ in range(2):
            assert FunctionEncoder(len).fit_transform(["a", "bb"]).ravel().tolist() == [1, 2]
    assert EmbeddingCache(folder).info() == [] and EmbeddingCache(folder).verify()[:2] == (0, 0)


# ---------------------------------------------------------------------- damage


def damaged(content, rng):
    """The bytes with flips, a cut, zeros, a doubled or a foreign part."""
    bad = bytearray(content)
    kind = rng.integers(6)
    if kind == 0:
        return bytes(bad[: rng.integers(len(bad) + 1)])
    at, n = int(rng.integers(max(1, len(bad)))), int(rng.integers(1, 200))
    if kind == 1:
        bad[at : at + n] = bytes(len(bad[at : at + n]))
    elif kind == 2:
        bad[at:at] = bad[at : at + n]
    elif kind == 3:
        bad[at : at + n] = rng.bytes(len(bad[at : at + n]))
    else:
        for at in rng.integers(len(bad), size=rng.integers(1, 8)):
            bad[at] ^= 1 << rng.integers(8)
    return bytes(bad)


@pytest.mark.parametrize("n", [500, pytest.param(3000, marks=pytest.mark.slow)])
def test_thousands_of_random_damages_never_give_a_wrong_vector(n, tmp_path):
    for start in (0, 20):
        EmbeddingCache(tmp_path).put(RECIPE, keys(range(start, start + 30)), vectors(range(start, start + 30)))
    good = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    files, rng, n_found = sorted(good), np.random.default_rng(0), 0
    reader = EmbeddingCache(tmp_path)
    for number in range(n):
        chosen = [files[i] for i in rng.integers(len(files), size=rng.integers(1, 3))]
        for path in chosen:
            path.write_bytes(damaged(path.read_bytes(), rng))
        if number % 50 == 0:
            reader = EmbeddingCache(tmp_path)
            assert check(reader, range(50)).sum() == EmbeddingCache(tmp_path).stats(check=True)["n_rows"]
        n_found += check(reader, range(50)).sum()
        n_found += check(EmbeddingCache(tmp_path), rng.permutation(50)).sum()
        for path in chosen:
            path.write_bytes(good[path])
    assert n * 100 / 3 < n_found < n * 290 / 3


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("bomb",)


def test_nothing_in_the_folder_is_ever_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = EmbeddingCache("cache")
    cache.put(RECIPE, keys(range(3)), vectors(range(3)))
    for path in [path for path in Path("cache").rglob("*") if path.is_file()]:
        good = path.read_bytes()
        for content in (pickle.dumps(Bomb()), pickle.dumps(Bomb()) * 1000, b"__import__('os').mkdir('bomb')" * 100):
            path.write_bytes(content)
            for some in (cache, EmbeddingCache("cache")):
                check(some, range(3))
                some.info(), some.stats(check=True), some.verify()
            path.write_bytes(good)
    assert not os.path.exists("bomb") and check(EmbeddingCache("cache"), range(3)).all()


# ---------------------------------------------------------------------- a crowd


def _work(folder, seed, seconds):
    warnings.simplefilter("error")
    cache, rng = EmbeddingCache(folder), np.random.default_rng(seed)
    texts = [f"text {'a' * i}" for i in range(30)]
    encoder = FunctionEncoder(len, batch_size=7).fit(texts[:1])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        numbers = rng.integers(0, 400, size=rng.integers(1, 60))
        action = rng.integers(12)
        if action < 4:
            cache.put(RECIPE, keys(numbers), vectors(numbers))
        elif action < 8:
            check(cache, numbers)
        elif action == 8:
            with config_context(cache=folder):
                assert encoder.transform(texts).ravel().tolist() == [5 + i for i in range(30)]
        elif action == 9:
            check(EmbeddingCache(folder), numbers)
        elif seed == 0 and action == 10:
            cache.prune(max_bytes=int(rng.integers(20_000, 200_000)))
        elif seed == 1 and action == 10:
            cache.forget([texts[0]])
        elif seed == 2 and action == 11 and rng.integers(4) == 0:
            cache.clear()
        elif seed == 3:
            cache.stats(check=True)
            assert cache.merge(folder.parent / "source").n_damaged == 0
            cache.verify()
            assert cache.export(folder.parent / "c.zip") >= 0


@pytest.mark.slow
@pytest.mark.parametrize("n_processes", [8])
def test_eight_processes_write_read_prune_forget_and_clear_at_once(tmp_path, n_processes):
    EmbeddingCache(tmp_path / "source").put(RECIPE, keys(range(300, 400)), vectors(range(300, 400)))
    workers = [FORK.Process(target=_work, args=(tmp_path / "cache", seed, 12)) for seed in range(n_processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * n_processes
    assert EmbeddingCache(tmp_path / "cache").stats(check=True)["n_damaged"] == 0


# ---------------------------------------------------------------------- what hits, and what misses


class WeightedEncoder(BaseEncoder):
    """First bytes of a file times weights from another; remembers what it encoded."""

    strings_are_paths = True
    neutral_params = BaseEncoder.neutral_params | {"n_jobs"}

    def __init__(self, weights, scale=1.0, size=(4, 4), *, batch_size=2, device="cpu", n_jobs=1, log=None):
        self.weights = weights
        self.scale = scale
        self.size = size
        self.batch_size = batch_size
        self.device = device
        self.n_jobs = n_jobs
        self.log = log

    def load(self, cell):
        return np.frombuffer(Path(cell).read_bytes(), dtype=np.uint8)[:3]

    def encode_batch(self, items):
        return np.stack(items) @ np.load(self.weights) * self.scale


@pytest.fixture
def media(tmp_path):
    paths = [tmp_path / f"{i}.bin" for i in range(6)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i, i + 1, 7]))
    np.save(tmp_path / "weights.npy", np.arange(6.0).reshape(3, 2))
    return paths


def n_encoded(encoder, paths):
    before = get_cache().n_written
    encoder.fit_transform([str(path) for path in paths])
    return get_cache().n_written - before


def test_what_changes_the_value_misses(media, tmp_path, monkeypatch):
    weights = tmp_path / "weights.npy"
    assert n_encoded(WeightedEncoder(weights), media) == 6
    status = media[0].stat()
    media[0].write_bytes(bytes([9, 9, 9]))
    os.utime(media[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert n_encoded(WeightedEncoder(weights), media) == 1
    table = np.load(weights)
    table[1, 1] += 1e-3
    np.save(weights, table)
    for encoder in (
        WeightedEncoder(weights),
        WeightedEncoder(weights, scale=1.001),
        WeightedEncoder(weights, scale=np.float32(1.001)),
        WeightedEncoder(weights, size=(4, 5)),
    ):
        assert n_encoded(encoder, media) == 6
    monkeypatch.setattr(WeightedEncoder, "version", 2)
    assert n_encoded(WeightedEncoder(weights), media) == 6
    monkeypatch.setattr(WeightedEncoder, "load", lambda self, cell: np.ones(3))
    assert n_encoded(WeightedEncoder(weights), media) == 6


def test_what_does_not_change_the_value_hits(media, tmp_path):
    weights = tmp_path / "weights.npy"
    assert n_encoded(WeightedEncoder(weights), media) == 6
    (tmp_path / "moved").mkdir()
    for path in media:
        path.rename(tmp_path / "moved" / f"{path.stem}.other")
    weights.rename(tmp_path / "w.npy")
    media, weights = sorted((tmp_path / "moved").iterdir()), tmp_path / "w.npy"
    for encoder in (
        WeightedEncoder(weights),
        WeightedEncoder(weights, batch_size=5),
        WeightedEncoder(weights, device="other"),
        WeightedEncoder(weights, n_jobs=4),
    ):
        assert n_encoded(encoder, media[::-1]) == 0
        assert n_encoded(encoder, media[2:4] * 3) == 0


@pytest.mark.slow  # imports torch
def test_one_weight_of_a_network_makes_another_recipe(tmp_path):
    torch = pytest.importorskip("torch")
    from ensemblefuse import ImageEncoder

    recipes = []
    for value in (0.5, 0.501, 0.5):
        torch.save({"a": torch.tensor([value])}, tmp_path / "w.pth")
        recipes.append(ImageEncoder("resnet18", weights=tmp_path / "w.pth").recipe())
    assert recipes[0] == recipes[2] != recipes[1]
