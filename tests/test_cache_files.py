"""Digests of files are remembered, between processes too, and never older than the file."""

import hashlib
import os
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest

from ensemblefuse import BaseEncoder, CacheWarning, EmbeddingCache, FunctionEncoder, config_context, get_cache
from ensemblefuse.cache import file_digests as _files
from ensemblefuse.cache.cell_digests import cell_digest
from ensemblefuse.cache.file_digests import file_digest, flush_file_digests


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


# ---------------------------------------------------------------------- folders of others

IS_ROOT = hasattr(os, "getuid") and os.getuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root gives folders to others")
STRANGER = 54321


def asked(folder):
    """The cache in a folder, and what is warned of."""
    with config_context(cache=folder), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = get_cache()
    return found, [str(warning.message) for warning in told]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users of POSIX")
@pytest.mark.parametrize("mode, said", [(0o777, "777"), (0o1777, "1777"), (0o702, "702"), (0o770, None), (0o755, None)])
def test_a_folder_that_all_may_write_to_is_warned_of_once_and_root_does_not_use_it(tmp_path, mode, said):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    found, told = asked(folder)
    assert (found is None) == (said is not None and IS_ROOT)
    assert len(told) == (said is not None)
    if said is not None:
        assert f"(mode {said})" in told[0] and str(folder) in told[0] and "set_config(cache=...)" in told[0]
        assert asked(folder) == (found, [])
        folder.chmod(0o700)
        assert asked(folder)[0] is not None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users of POSIX")
@pytest.mark.parametrize("mode", [0o777, 0o1777])
@pytest.mark.parametrize("depth", ["cache", "a/b/cache"])
def test_a_folder_above_that_all_may_write_to_needs_the_sticky_bit(tmp_path, mode, depth):
    above = tmp_path / "above"
    (above / depth).parent.mkdir(parents=True)
    above.chmod(mode)
    for make in (False, True):  # before and after the folder is there
        (above / depth).mkdir() if make else None
        found, told = asked(above / depth)
        assert (found is None) == (mode == 0o777 and IS_ROOT) and len(told) == (mode == 0o777 and not make)
        assert all(f"the folder {above} above it is writable by all users" in text for text in told)


@needs_root
def test_a_folder_of_another_user_is_used_by_users_and_not_by_root(tmp_path, monkeypatch):
    folder, link = tmp_path / "cache", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    for uid in (STRANGER, 0):
        os.chown(folder, uid, -1)
        for place in (folder, link):
            found, told = asked(place)
            assert (found is None) == (uid != 0) and len(told) == (uid != 0)
            assert all(f"belongs to the user {STRANGER}" in text for text in told)
    os.chown(link, STRANGER, -1, follow_symlinks=False)
    assert asked(link)[0] is None
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    assert asked(folder)[0] is not None and asked(folder)[1] == []  # root may write everywhere anyway
    os.chown(folder, STRANGER, -1)
    found, told = asked(folder)
    assert found is not None or "It is used all the same" in told[0]


@needs_root
def test_nothing_is_read_from_or_written_to_a_folder_of_others(tmp_path):
    folder, file = tmp_path / "cache", tmp_path / "a.bin"
    folder.mkdir()
    folder.chmod(0o777)
    file.write_bytes(b"content")
    os.utime(file, (1e9, 1e9))
    with config_context(cache=folder), pytest.warns(CacheWarning, match="encoded anew"):
        FunctionEncoder(len).fit_transform({"a": ["one", "three"]})
        file_digest(file)
        flush_file_digests()
    assert list(folder.iterdir()) == []


def test_a_system_without_user_ids_uses_any_folder(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "getuid", raising=False)
    tmp_path.chmod(0o777)
    assert asked(tmp_path) == (get_cache_of(tmp_path), [])


def get_cache_of(folder):
    with config_context(cache=folder):
        return get_cache()


def test_pipes_and_devices_are_not_even_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(os, "open", None)
    for path in (tmp_path / "pipe", os.devnull):
        with pytest.raises(OSError, match="is not a regular file, but a pipe, a socket or a device"):
            file_digest(path)


def test_pipes_are_no_caches_and_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    cache = EmbeddingCache(tmp_path / "cache")
    with pytest.raises(ValueError, match="is a named pipe, not a cache"):
        cache.merge(tmp_path / "pipe")
    with pytest.raises(OSError, match="is a named pipe, not a file"):
        cache.export(tmp_path / "pipe")
