"""The embedding cache: what it promises to readers, writers, and after a crash."""

import contextlib
import errno
import multiprocessing
import os
import stat
import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ensemblefuse import CacheWarning, EmbeddingCache, _torch, config_context, get_cache, get_config, set_config
from ensemblefuse.cache import _index, _segment
from ensemblefuse.cache import file_digests as _files
from ensemblefuse.cache.cell_digests import cell_digest

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


def test_get_many_gives_one_matrix_in_the_order_of_the_keys(tmp_path):
    cache = EmbeddingCache(tmp_path)
    cache.put(RECIPE, keys(1000), vectors(1000))
    order = np.random.default_rng(0).integers(0, 1000, size=3000)
    asked = [keys(1, i)[0] for i in order.tolist()]
    asked[7], asked[8] = None, b"?" * 16
    for reader in (cache, EmbeddingCache(tmp_path)):
        found, matrix = reader.get_many(RECIPE, asked)
        assert (~found).nonzero()[0].tolist() == [7, 8] and np.isnan(matrix[7:9]).all()
        assert_array_equal(matrix[found], vectors(1000)[order[found]])
        assert matrix.dtype == np.float32 and matrix.flags.writeable and reader.n_read == 2998


def test_get_many_of_nothing_is_empty(tmp_path):
    found, matrix = EmbeddingCache(tmp_path).get_many(RECIPE, [*keys(2), None])
    assert found.tolist() == [False] * 3 and matrix.shape == (3, 0)
    assert EmbeddingCache(tmp_path).get_many(RECIPE, [])[1].shape == (0, 0)
    assert not tmp_path.joinpath("v2").exists()


@pytest.mark.parametrize("n_dims", [1, 2, 3, 512, 513])
def test_rows_of_any_length_and_from_several_writers(tmp_path, n_dims):
    for start in range(0, 600, 200):
        EmbeddingCache(tmp_path).put(RECIPE, keys(200, start), vectors(200, n_dims, start))
    asked = keys(600)[::-2]
    found, matrix = EmbeddingCache(tmp_path).get_many(RECIPE, asked)
    assert found.all()
    assert_array_equal(matrix, vectors(600, n_dims)[::-2])


def test_of_several_lengths_the_most_frequent_one_is_found(tmp_path):
    cache = EmbeddingCache(tmp_path)
    cache.put(RECIPE, keys(2), vectors(2, 5))
    cache.put(RECIPE, keys(1, 2), vectors(1, 4))
    found, matrix = cache.get_many(RECIPE, keys(3))
    assert found.tolist() == [True, True, False] and matrix.shape == (3, 5)
    assert cache.get(RECIPE, keys(1, 2))[0].shape == (4,)


def test_a_key_is_found_among_others_that_share_its_hash():
    index, factor = _index.Index(), int(_index._FACTOR)
    rows = np.array([[i, -i * factor % 2**64] for i in range(50)], dtype=np.uint64)
    assert len(set(_index._hash(rows).tolist())) == 1
    for part in (rows[:20], rows[20:]):
        index.add(part, part[:, 0].astype(np.int64), part[:, 0])
    assert index.find(rows[::-1])[0].tolist() == list(range(50))[::-1]
    index.drop(np.array([7]))
    assert index.find(rows[6:9])[0].tolist() == [6, -1, 8]


def test_an_index_that_grows_in_small_steps_finds_all_and_the_newest_first():
    index, rng = _index.Index(), np.random.default_rng(0)
    rows = rng.integers(0, 2**63, (3000, 2)).astype(np.uint64)
    for start in range(0, 3000, 30):
        index.add(rows[start : start + 30], np.arange(start, start + 30), rows[start : start + 30, 0])
        index.find(rows[:1])
    order = rng.permutation(3000)
    places, sums = index.find(rows[order])
    assert_array_equal(places, order)
    assert_array_equal(sums, rows[order, 0])
    index.add(rows[:5], np.arange(9000, 9005), rows[:5, 0])
    assert index.find(rows[[4, 2, 900]])[0].tolist() == [9004, 9002, 900]
    index.drop(np.array([9002]))
    assert index.find(rows[[4, 2]])[0].tolist() == [9004, 2]


def segment(folder, kind="vectors"):
    (path,) = folder.glob(f"v2/{'[0-9a-f]' * 32}/*.{kind}")
    return path


@pytest.mark.parametrize("kind", ["keys", "vectors"])
@pytest.mark.parametrize("cut", [1, 7, 19])
def test_a_record_cut_short_by_a_crash_is_lost_and_the_ones_before_it_are_not(tmp_path, cut, kind):
    EmbeddingCache(tmp_path).put(RECIPE, keys(3), vectors(3))
    path = segment(tmp_path, kind)
    os.truncate(path, path.stat().st_size - cut)
    found = EmbeddingCache(tmp_path).get(RECIPE, keys(3))
    assert_array_equal(np.stack(found[:2]), vectors(2))
    assert found[2] is None


@pytest.mark.parametrize("kind", ["keys", "vectors"])
def test_a_file_cut_short_under_an_open_reader_is_a_miss(tmp_path, kind):
    reader = EmbeddingCache(tmp_path)
    reader.put(RECIPE, keys(3), vectors(3))
    assert all(reader.get_many(RECIPE, keys(3))[0])
    os.truncate(segment(tmp_path, kind), 0)
    found = reader.get_many(RECIPE, keys(3))[0]
    assert not any(found) if kind == "vectors" else all(found)
    reader.put(RECIPE, keys(3), vectors(3))  # goes into a new segment: the old one is not as it was left
    for cache in (reader, EmbeddingCache(tmp_path)):
        assert_array_equal(np.stack(cache.get(RECIPE, keys(3))), vectors(3))


def test_every_single_flipped_bit_is_noticed(tmp_path):
    EmbeddingCache(tmp_path).put(RECIPE, keys(3), vectors(3))
    for kind, start, size in (("keys", 24, 24), ("vectors", 0, 20)):
        path = segment(tmp_path, kind)
        good = path.read_bytes()
        for bit in range(8 * size):
            bad = bytearray(good)
            bad[start + bit // 8] ^= 1 << bit % 8
            path.write_bytes(bad)
            first, second, third = EmbeddingCache(tmp_path).get(RECIPE, keys(3))
            assert first is None
            assert_array_equal(np.stack([second, third]), vectors(3)[1:])
        path.write_bytes(good)
    for bit in range(8 * 24):  # the header
        path = segment(tmp_path, "keys")
        bad = bytearray(path.read_bytes())
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        assert EmbeddingCache(tmp_path).get(RECIPE, keys(3)) == [None] * 3
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)


def test_a_checksum_notices_flips_of_two_bits_also_of_signs():
    row = np.random.default_rng(0).normal(size=(1, 33)).astype(np.float32)
    key = np.array([[1, 2]], dtype=np.uint64)
    bits = 33 * 32
    pairs = [(i, j) for i in range(31, bits, 32) for j in range(i + 32, bits, 32)]
    pairs += np.random.default_rng(1).integers(0, bits, size=(3000, 2)).tolist()
    damaged = np.repeat(row.view(np.uint8), len(pairs), axis=0)
    for bad, (i, j) in zip(damaged, pairs, strict=True):
        bad[i // 8] ^= 1 << i % 8
        bad[j // 8] ^= (1 << j % 8) if j != i else 0
    sums = _segment.checksums(np.repeat(key, len(pairs), axis=0), damaged.view(np.float32))
    assert (sums != _segment.checksums(key, row)).all()
    negated, swapped, zeros = -row, row[:, ::-1].copy(), np.zeros_like(row)
    assert len({int(_segment.checksums(key, r)[0]) for r in (row, negated, swapped, zeros)}) == 4
    assert _segment.checksums(np.zeros_like(key), zeros)[0] != 0


def damage(path):
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")


def test_an_older_record_of_a_damaged_one_is_served(tmp_path):
    EmbeddingCache(tmp_path).put(RECIPE, keys(1), vectors(1))
    old = segment(tmp_path)
    writer = EmbeddingCache(tmp_path)
    writer.put(RECIPE, keys(1), vectors(1))
    (new,) = set(old.parent.glob("*.vectors")) - {old}
    for path in (new, old):
        assert_array_equal(writer.get(RECIPE, keys(1))[0], vectors(1)[0])
        damage(path)
    assert writer.get(RECIPE, keys(1)) == EmbeddingCache(tmp_path).get(RECIPE, keys(1)) == [None]


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
        with cache._lock, shelf.lock, _files._lock, _torch._lock:
            holding.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(60)

    def work():
        assert cache.get(RECIPE, keys(1))[0] is not None
        cache.put(RECIPE, keys(1, 1), vectors(1))
        cell_digest(__file__, strings_are_paths=True)
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
    damage(segment(tmp_path))
    cache = EmbeddingCache(tmp_path)
    assert cache.get(RECIPE, keys(1)) == [None]
    cache.put(RECIPE, keys(1), vectors(1))
    assert_array_equal(cache.get(RECIPE, keys(1))[0], vectors(1)[0])


def test_a_damaged_recipe_is_written_again_with_the_next_segment(tmp_path):
    EmbeddingCache(tmp_path).put(RECIPE, keys(1), vectors(1))
    path = segment(tmp_path).parent / "recipe.json"
    path.write_text(path.read_text().replace("tests.E", "tests.F"))
    assert EmbeddingCache(tmp_path).info()[0]["recipe"] == {}
    EmbeddingCache(tmp_path).put(RECIPE, keys(1, 1), vectors(1))
    assert EmbeddingCache(tmp_path).info()[0]["recipe"] == RECIPE


def test_put_keeps_no_file_open(tmp_path):
    cache = EmbeddingCache(tmp_path)
    for i in range(20):
        cache.put({**RECIPE, "version": i}, keys(1), vectors(1))
        cache.get({**RECIPE, "version": i}, keys(1))
    with contextlib.suppress(FileNotFoundError):  # /proc is Linux's
        opened = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdigit()]
        assert not [path for path in opened if path.startswith(str(tmp_path))]


def test_wrong_use_of_put_is_an_error(tmp_path):
    cache = EmbeddingCache(tmp_path)
    with pytest.raises(ValueError, match=r"got 2 keys and an array of shape \(1, 5\)"):
        cache.put(RECIPE, keys(2), vectors(1))
    with pytest.raises(ValueError, match="16 bytes"):
        cache.put(RECIPE, [b"short"], vectors(1))
    cache.put(RECIPE, [], np.empty((0, 5)))
    assert not tmp_path.joinpath("v2").exists()


def _write(folder, start):
    cache = EmbeddingCache(folder)
    for i in range(start, start + 50):
        cache.put(RECIPE, keys(1, i), vectors(1, start=i))


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
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
    for path in [tmp_path / "c", *(tmp_path / "c").rglob("*")]:
        if path.name == "recipe.json":  # below folders that are closed
            continue
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
    cache.put(RECIPE, keys(1), vectors(1))
    (row,) = cache.info()
    assert row["recipe"] == RECIPE and row["n_rows"] == 3
    assert row["n_bytes"] == 24 + 4 * (16 + 8 + 20)
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
