"""The embedding cache: what it promises to readers, writers, and after a crash."""

import errno
import multiprocessing
import os
import stat
import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ensemblefuse import CacheWarning, EmbeddingCache, config_context, get_cache, get_config, set_config
from ensemblefuse.encoders import _content, _torch

RECIPE = {"class": "tests.E", "version": 1, "params": {}}


def keys(n, start=0):
    return [i.to_bytes(16, "big") for i in range(start, start + n)]


def vectors(n, n_dims=5, start=0):
    return np.arange(start * n_dims, (start + n) * n_dims, dtype=np.float32).reshape(n, n_dims)


def test_what_was_put_comes_back_in_another_object(tmp_path):
    EmbeddingCache(tmp_path).put(RECIPE, keys(3), vectors(3))
    found = EmbeddingCache(tmp_path).get(RECIPE, keys(4))
    assert_array_equal(np.stack(found[:3]), vectors(3))
    assert found[3] is None


def test_recipes_do_not_see_each_other(tmp_path):
    cache = EmbeddingCache(tmp_path)
    cache.put(RECIPE, keys(1), vectors(1))
    assert cache.get({**RECIPE, "version": 2}, keys(1)) == [None]
    assert cache.get(dict(reversed(RECIPE.items())), keys(1))[0] is not None  # the order of the keys is no difference


def test_a_reader_sees_what_another_object_appends_later(tmp_path):
    reader, writer = EmbeddingCache(tmp_path), EmbeddingCache(tmp_path)
    writer.put(RECIPE, keys(2), vectors(2))
    assert_array_equal(np.stack(reader.get(RECIPE, keys(2))), vectors(2))
    writer.put(RECIPE, keys(2, 2), vectors(2, start=2))
    assert_array_equal(np.stack(reader.get(RECIPE, keys(4))), vectors(4))


def segment(folder):
    (path,) = folder.glob("v1/*/*.seg")
    return path


@pytest.mark.parametrize("cut", [1, 7, 20, 43])
def test_a_record_cut_short_by_a_crash_is_lost_and_the_ones_before_it_are_not(tmp_path, cut):
    EmbeddingCache(tmp_path).put(RECIPE, keys(3), vectors(3))
    path = segment(tmp_path)
    os.truncate(path, path.stat().st_size - cut)
    found = EmbeddingCache(tmp_path).get(RECIPE, keys(3))
    assert_array_equal(np.stack(found[:2]), vectors(2))
    assert found[2] is None


def test_every_single_flipped_byte_is_noticed(tmp_path):
    EmbeddingCache(tmp_path).put(RECIPE, keys(3), vectors(3))
    path = segment(tmp_path)
    good = path.read_bytes()
    header, record = 16, (len(good) - 16) // 3
    for offset in range(header, header + record):
        bad = bytearray(good)
        bad[offset] ^= 0x40
        path.write_bytes(bad)
        first, second, third = EmbeddingCache(tmp_path).get(RECIPE, keys(3))
        padding = header + 20 <= offset < header + 24
        assert first is None or padding
        assert_array_equal(np.stack([second, third]), vectors(3)[1:])
    path.write_bytes(bytes(8) + good[8:])
    assert EmbeddingCache(tmp_path).get(RECIPE, keys(3)) == [None] * 3


def test_verify_counts_damaged_records(tmp_path):
    cache = EmbeddingCache(tmp_path)
    cache.put(RECIPE, keys(3), vectors(3))
    assert cache.verify() == (3, 0)
    path = segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert cache.verify() == (2, 1)


def test_verify_counts_a_damaged_record_that_a_later_one_replaces(tmp_path):
    cache = EmbeddingCache(tmp_path)
    cache.put(RECIPE, keys(1), vectors(1))
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    EmbeddingCache(tmp_path).put(RECIPE, keys(1), vectors(1))
    assert cache.verify() == (1, 1)


def test_after_a_header_that_could_not_be_written_the_next_put_is_readable(tmp_path, monkeypatch):
    cache = EmbeddingCache(tmp_path)
    write = os.write

    def full(fd, data):
        write(fd, bytes(data)[:3])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.warns(CacheWarning, match="No space left"):
            cache.put(RECIPE, keys(1), vectors(1))
    cache.put(RECIPE, keys(2), vectors(2))
    for reader in (cache, EmbeddingCache(tmp_path)):
        assert_array_equal(np.stack(reader.get(RECIPE, keys(2))), vectors(2))


def test_clear_by_another_process_is_noticed_by_writers_and_readers(tmp_path):
    writer, reader = EmbeddingCache(tmp_path), EmbeddingCache(tmp_path)
    writer.put(RECIPE, keys(2), vectors(2))
    assert reader.get(RECIPE, keys(1))[0] is not None
    EmbeddingCache(tmp_path).clear()
    assert reader.get(RECIPE, keys(3)) == [None] * 3
    writer.put(RECIPE, keys(1), vectors(1))
    for cache in (writer, reader, EmbeddingCache(tmp_path)):
        assert_array_equal(cache.get(RECIPE, keys(1))[0], vectors(1)[0])
    assert reader.get(RECIPE, keys(3))[1:] == [None, None]
    assert EmbeddingCache(tmp_path).info()[0]["recipe"] == RECIPE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_while_another_thread_holds_the_locks_does_not_hang(tmp_path):
    cache = EmbeddingCache(tmp_path)
    cache.put(RECIPE, keys(1), vectors(1))
    holding, done = threading.Event(), threading.Event()

    def hold():
        shelf = cache._shelf(RECIPE)
        with cache._lock, shelf.lock, _content._lock, _torch._lock:
            holding.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(60)

    def work():
        assert cache.get(RECIPE, keys(1))[0] is not None
        cache.put(RECIPE, keys(1, 1), vectors(1))
        _content.cell_digest(__file__, strings_are_paths=True)
        assert _torch.shared_network("key", lambda: 1) == 1

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(20)
    exitcode = child.exitcode
    done.set()
    thread.join()
    child.kill()
    assert exitcode == 0


def test_a_damaged_record_is_written_again(tmp_path):
    EmbeddingCache(tmp_path).put(RECIPE, keys(1), vectors(1))
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    cache = EmbeddingCache(tmp_path)
    assert cache.get(RECIPE, keys(1)) == [None]
    cache.put(RECIPE, keys(1), vectors(1))
    assert_array_equal(cache.get(RECIPE, keys(1))[0], vectors(1)[0])


def _write(folder, start):
    cache = EmbeddingCache(folder)
    for i in range(start, start + 50):
        cache.put(RECIPE, keys(1, i), vectors(1, start=i))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_write_at_once_and_lose_nothing(tmp_path, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform has no {method}")
    context = multiprocessing.get_context(method)
    parent = EmbeddingCache(tmp_path)
    parent.put(RECIPE, keys(1, 1000), vectors(1, start=1000))  # an open segment, which a fork must not share
    workers = [context.Process(target=_write, args=(tmp_path, 50 * i)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert_array_equal(np.stack(EmbeddingCache(tmp_path).get(RECIPE, keys(150))), vectors(150))


def test_threads_share_one_cache(tmp_path):
    cache = EmbeddingCache(tmp_path)

    def work(start):
        for i in range(start, start + 40):
            cache.put(RECIPE, keys(1, i), vectors(1, start=i))
            cache.get(RECIPE, keys(80))

    threads = [threading.Thread(target=work, args=(40 * i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_array_equal(np.stack(cache.get(RECIPE, keys(80))), vectors(80))
    assert cache.n_written == 80


def test_the_folder_is_for_its_owner_alone(tmp_path):
    EmbeddingCache(tmp_path / "c").put(RECIPE, keys(1), vectors(1))
    for path in [tmp_path / "c", *(tmp_path / "c").rglob("*.seg")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_folder_that_cannot_be_written_costs_time_but_no_result(tmp_path):
    (tmp_path / "file").write_text("")
    cache = EmbeddingCache(tmp_path / "file" / "below")
    with pytest.warns(CacheWarning, match="cannot be written"):
        cache.put(RECIPE, keys(1), vectors(1))
    assert cache.n_written == 0


def test_info_and_clear(tmp_path):
    cache = EmbeddingCache(tmp_path)
    assert cache.info() == []
    cache.put(RECIPE, keys(3), vectors(3))
    (row,) = cache.info()
    assert row["recipe"] == RECIPE and row["n_rows"] == 3 and row["n_bytes"] > 60
    cache.clear()
    assert cache.info() == [] and cache.get(RECIPE, keys(1)) == [None]
    cache.put(RECIPE, keys(1), vectors(1))
    assert cache.get(RECIPE, keys(1))[0] is not None


def test_settings_come_back_after_a_context(tmp_path):
    before = get_config()
    with config_context(cache=tmp_path / "x", progress=True):
        assert get_config() == {"cache": tmp_path / "x", "progress": True}
        assert get_cache() is get_cache()
        with config_context(cache=None):
            assert get_cache() is None
    assert get_config() == before
    with pytest.raises(ValueError, match="got 'sometimes'"):
        set_config(progress="sometimes")
