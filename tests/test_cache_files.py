"""Digests of files are remembered, between processes too, and never older than the file."""

import hashlib
import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from ensemblefuse import BaseEncoder, config_context, get_cache
from ensemblefuse.cache import file_digests as _files
from ensemblefuse.cache.cell_digests import cell_digest


class SizeEncoder(BaseEncoder):
    strings_are_paths = True

    def load(self, cell):
        return os.path.getsize(cell)

    def encode_batch(self, items):
        return np.array([[item, 1] for item in items])


def digest(path):
    return cell_digest(path if isinstance(path, bytes) else str(path), strings_are_paths=True)


@pytest.fixture(autouse=True)
def new_process():
    """What the process remembers is not part of a test; `new_process()` forgets it within one."""
    _files.forget_file_digests()
    yield _files.forget_file_digests
    _files.forget_file_digests()


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """Twenty files that are old enough to be remembered."""
    monkeypatch.setattr(_files, "_CLOCK_GRAIN_NS", 20_000_000)
    paths = [tmp_path / f"a file {i}.bin" for i in range(20)]
    for i, path in enumerate(paths):
        path.write_bytes(b"%02d" % i)
    time.sleep(0.05)
    return paths


@pytest.fixture
def n_hashed(monkeypatch):
    """Number of files that were read so far."""
    counts = []
    hash_file = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: counts.append(1) or hash_file(*args))
    return lambda: len(counts)


def test_a_file_is_read_once_a_process_and_in_the_next_process_not_at_all(settled, n_hashed, new_process):
    X = {"p": [str(path) for path in settled]}
    out = SizeEncoder().fit_transform(X)
    assert n_hashed() == 20
    SizeEncoder().fit_transform({"p": settled[::-1]})
    assert n_hashed() == 20
    new_process()
    np.testing.assert_array_equal(SizeEncoder().fit_transform(X), out)
    assert n_hashed() == 20 and get_cache().n_written == 20


def test_the_digest_of_a_file_is_that_of_its_content(settled):
    for _ in range(2):
        assert digest(settled[3]) == digest(b"03") == cell_digest(settled[3], strings_are_paths=True)
        assert _files.file_digest(settled[3]) == hashlib.sha256(b"03").hexdigest()


def test_no_path_and_no_content_is_in_the_cache_folder(settled, cache_folder):
    SizeEncoder().fit_transform({"p": [str(path) for path in settled]})
    found = b"".join(path.read_bytes() for path in cache_folder.rglob("*") if path.is_file())
    assert b"a file" not in found and os.fsencode(settled[0].parent.name) not in found
    assert len(list((cache_folder / "v2" / "files").iterdir())) == 2


@pytest.mark.parametrize("how", ["written", "replaced", "a link"])
def test_another_content_of_the_same_size_and_time_under_the_same_name_is_read(settled, how, new_process, tmp_path):
    path, status = settled[0], settled[0].stat()
    SizeEncoder().fit_transform({"p": [str(p) for p in settled]})
    old = digest(path)
    if how == "written":
        path.write_bytes(b"xx")
    else:
        (tmp_path / "new").write_bytes(b"xx")
        path.unlink()
        (tmp_path / "new").rename(path) if how == "replaced" else path.symlink_to(tmp_path / "new")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns and path.stat().st_size == status.st_size
    assert digest(path) == digest(b"xx") != old
    new_process()
    assert digest(path) == digest(b"xx")


def test_a_young_file_is_not_remembered(tmp_path, n_hashed):
    path = tmp_path / "a.bin"
    path.write_bytes(b"x")
    assert digest(path) == digest(path) and n_hashed() == 2


def test_a_file_that_changes_while_it_is_read_is_not_remembered(settled, monkeypatch):
    hash_file = hashlib.file_digest

    def slowly(file, name):
        result = hash_file(file, name)
        settled[0].write_bytes(b"new")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", slowly)
        assert digest(settled[0]) == digest(b"00")
    assert digest(settled[0]) == digest(b"new")


def test_damaged_memory_costs_time_and_nothing_else(settled, n_hashed, new_process, cache_folder):
    X = {"p": [str(path) for path in settled]}
    SizeEncoder().fit_transform(X)
    good = {path: path.read_bytes() for path in (cache_folder / "v2" / "files").iterdir()}
    rng = np.random.default_rng(0)
    for _ in range(100):
        for path, content in good.items():
            bad = bytearray(content[: rng.integers(len(content) + 1)])
            for at in rng.integers(0, max(1, len(bad)), size=3 if bad else 0):
                bad[at] ^= 1 << rng.integers(8)
            path.write_bytes(bad)
        new_process()
        assert [digest(path) for path in settled] == [digest(b"%02d" % i) for i in range(20)]
    assert n_hashed() > 1000


def test_a_cache_that_is_off_or_cannot_be_written_remembers_in_the_process(settled, n_hashed, tmp_path, cache_folder):
    (tmp_path / "file").write_bytes(b"")
    for folder in (None, tmp_path / "file" / "below"):
        with config_context(cache=folder):
            assert digest(settled[0]) == digest(settled[0]) == digest(b"00")
    assert n_hashed() == 1 and not cache_folder.exists()


def test_what_is_no_file_is_an_error_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, error in ((tmp_path, IsADirectoryError), (tmp_path / "none", FileNotFoundError)):
        with pytest.raises(error):
            digest(path)
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(OSError, match="is not a regular file"):
            digest(path)
    with pytest.raises(ValueError, match="null"):
        digest("a\0b")


@pytest.mark.slow
def test_the_end_of_a_process_makes_no_folder(tmp_path):
    code = """
        import shutil, sys
        from ensemblefuse import FunctionEncoder, set_config
        from ensemblefuse.cache.cell_digests import cell_digest
        set_config(cache=sys.argv[1] + "/cache")
        FunctionEncoder(len).fit_transform(["a"])
        cell_digest(sys.executable, strings_are_paths=True)
        shutil.rmtree(sys.argv[1] + "/cache")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), tmp_path], check=True)
    assert not (tmp_path / "cache").exists()
