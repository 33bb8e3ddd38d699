"""The embedding cache as a folder to look after: what is in it, is it right, make it smaller, take it elsewhere."""

import datetime
import json
import os
import pickle
import shutil
import time
import zipfile

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ensemblefuse import BaseEncoder, CacheWarning, EmbeddingCache, FunctionEncoder, get_cache
from ensemblefuse.cache.cell_digests import cell_digest

RECIPE = {"class": "tests.E", "version": 1, "params": {}}
OTHER = {**RECIPE, "version": 2}
HOUR = 3600


def keys(n, start=0):
    return [i.to_bytes(16, "big") for i in range(start, start + n)]


def vectors(n, n_dims=5, start=0):
    return np.arange(start * n_dims, (start + n) * n_dims, dtype=np.float32).reshape(n, n_dims) + 1


def fill(folder, n=3, start=0, recipe=RECIPE, n_dims=5):
    """Rows in a segment of their own; its file of keys."""
    before = set(folder.rglob("*.keys"))
    EmbeddingCache(folder).put(recipe, keys(n, start), vectors(n, n_dims, start))
    (path,) = set(folder.rglob("*.keys")) - before
    return path


def flip(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def holds(folder, n, start=0, recipe=RECIPE):
    return EmbeddingCache(folder).get_many(recipe, keys(n, start))[0].tolist()


def age(path, hours):
    os.utime(path, (time.time() - hours * HOUR,) * 2)


# ---------------------------------------------------------------------- stats and verify


def test_stats_count_every_kind_of_record(tmp_path):
    cache = EmbeddingCache(tmp_path)
    empty = cache.stats()
    assert empty["n_rows"] == empty["n_bytes"] == 0 and empty["created"] is empty["last_used"] is None
    fill(tmp_path, 4)
    path = fill(tmp_path, 2)
    fill(tmp_path, 1, recipe=OTHER)
    flip(path.with_suffix(".vectors"))
    stats = cache.stats()
    assert stats["n_damaged"] is None and stats["n_rows"] == 5 and stats["n_superseded"] == 2
    stats = cache.stats(check=True)
    assert [stats[f"n_{name}"] for name in ("recipes", "segments", "rows", "superseded", "damaged")] == [2, 3, 5, 1, 1]
    assert stats["n_bytes"] == sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())
    now = datetime.datetime.now()
    assert now - datetime.timedelta(minutes=5) < stats["created"] <= stats["last_used"] <= now


def test_verify_counts_damaged_records_also_those_that_a_later_one_repeats(tmp_path):
    cache = EmbeddingCache(tmp_path)
    path = fill(tmp_path)
    assert cache.verify() == (3, 0, 0, ())
    flip(path.with_suffix(".vectors"))
    assert cache.verify()[:2] == (2, 1)
    fill(tmp_path)
    assert cache.verify()[:2] == (5, 1)


class ShiftEncoder(BaseEncoder):
    """Adds what its module says today: a change that no recipe can see."""

    shift: list = []

    def recipe(self):
        return {"class": "ShiftEncoder"}

    def encode_batch(self, items):
        return np.array([[len(item), item.count("a") + sum(self.shift)] for item in items])


def test_verify_encodes_cells_again_and_names_those_that_differ(monkeypatch):
    cells = ["a cat", None, "a dog", "an owl", "a cat"]
    encoder = ShiftEncoder().fit({"t": cells})
    encoder.transform({"t": cells})
    cache = get_cache()
    assert cache.verify(encoder=encoder, cells=cells) == (3, 0, 4, ())
    assert cache.verify(encoder=encoder, cells=["never seen"])[2:] == (0, ())
    assert cache.verify(encoder=encoder, cells=cells, sample=2).n_compared == 2
    monkeypatch.setattr(ShiftEncoder, "shift", [0.5])
    result = cache.verify(encoder=encoder, cells=cells)
    assert [position for position, _ in result.differing] == [0, 2, 3, 4]
    assert result.differing[1][1] == pytest.approx(0.5 / np.hypot(5, 1))
    assert cache.verify(encoder=encoder, cells=cells, tolerance=0.2).differing == ()
    assert len(cache.verify(encoder=encoder, cells=cells, sample=3).differing) == 3


def test_wrong_use_of_verify_is_told(tmp_path):
    cache = EmbeddingCache(tmp_path)
    with pytest.raises(ValueError, match="verify needs both encoder and cells, or neither"):
        cache.verify(cells=["a"])
    for sample in (0, 5):
        with pytest.raises(ValueError, match="sample must be at least 1, and needs an encoder"):
            cache.verify(sample=sample, **({} if sample else {"encoder": FunctionEncoder(len), "cells": ["a"]}))
    with pytest.raises(ValueError, match="never cached"):
        cache.verify(encoder=FunctionEncoder("text".count), cells=["a"])


# ---------------------------------------------------------------------- prune


def test_prune_removes_dead_records_and_joins_small_segments(tmp_path):
    fill(tmp_path, 4)
    bad = fill(tmp_path, 3, start=10)
    fill(tmp_path, 2)
    fill(tmp_path, 2, start=20, n_dims=7)
    flip(bad.with_suffix(".vectors"))
    cache = EmbeddingCache(tmp_path)
    reader = EmbeddingCache(tmp_path)
    assert reader.get_many(RECIPE, keys(4))[0].all()
    n_rows, n_bytes = cache.prune()
    assert n_rows == 0 and n_bytes == 3 * 44 + 2 * 24
    stats = cache.stats(check=True)
    assert [stats[f"n_{name}"] for name in ("segments", "rows", "superseded", "damaged")] == [2, 8, 0, 0]
    for some in (reader, EmbeddingCache(tmp_path)):
        assert_array_equal(some.get_many(RECIPE, keys(4))[1], vectors(4))
        assert some.get_many(RECIPE, keys(3, 10))[0].tolist() == [True, True, False]
        assert_array_equal(some.get_many(RECIPE, keys(2, 20))[1], vectors(2, 7, 20))
    assert cache.prune() == (0, 0)


def test_prune_drops_what_was_used_least_recently(tmp_path):
    paths = [fill(tmp_path, 100, start=100 * i, recipe={**RECIPE, "version": i}) for i in range(4)]
    for path, hours in zip(paths, (2, 50, 100, 1000), strict=True):
        age(path, hours)
    assert holds(tmp_path, 100, 300, {**RECIPE, "version": 3}) == [True] * 100  # read: used now
    cache = EmbeddingCache(tmp_path)
    assert cache.prune(unused_days=3)[0] == 100
    assert [len(row["recipe"]) and row["recipe"]["version"] for row in cache.info() if row["n_rows"]].count(2) == 0
    size = cache.stats()["n_bytes"]
    assert cache.prune(max_bytes=size)[0] == 0
    assert cache.prune(max_bytes=size - 1)[0] == 100
    assert {row["recipe"]["version"] for row in cache.info() if row["n_rows"]} == {0, 3}
    assert cache.prune(max_bytes=0)[0] == 200 and cache.stats()["n_rows"] == 0
    with pytest.raises(ValueError, match="max_bytes must not be negative; got -1"):
        cache.prune(max_bytes=-1)


def test_prune_keeps_what_is_joined_as_old_as_it_was(tmp_path):
    for start, hours in ((0, 90), (10, 60)):
        age(fill(tmp_path, 3, start), hours)
    EmbeddingCache(tmp_path).prune()
    (segment,) = tmp_path.rglob("*.keys")
    assert time.time() - segment.stat().st_mtime == pytest.approx(60 * HOUR, abs=60)


def test_prune_clears_what_stopped_writers_left(tmp_path):
    path = fill(tmp_path)
    left = [path.with_name("1-a.vectors"), path.with_name(".recipe.json-x"), path.with_name("1-b.keys")]
    for stray in left:
        stray.write_bytes(b"")
        age(stray, 2)
    young = path.with_name("2-a.vectors")
    young.write_bytes(b"")
    (tmp_path / "v2" / ("0" * 32)).mkdir()
    EmbeddingCache(tmp_path).prune()
    assert not any(stray.exists() for stray in left) and young.exists()
    assert holds(tmp_path, 3) == [True] * 3 and len(list((tmp_path / "v2").glob("*/"))) == 1


def test_a_writer_goes_on_after_its_segment_was_pruned(tmp_path):
    writer = EmbeddingCache(tmp_path)
    writer.put(RECIPE, keys(2), vectors(2))
    EmbeddingCache(tmp_path).prune(max_bytes=0)
    assert writer.get(RECIPE, keys(2)) == [None, None]
    writer.put(RECIPE, keys(2), vectors(2))
    assert holds(tmp_path, 2) == [True, True]


def test_a_rewrite_that_fails_loses_nothing(tmp_path, monkeypatch):
    for start in (0, 10):
        fill(tmp_path, 3, start)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.warns(CacheWarning, match="could not be compacted .*No space left"):
        EmbeddingCache(tmp_path).prune()
    monkeypatch.setattr(os, "write", write)
    assert holds(tmp_path, 3) + holds(tmp_path, 3, 10) == [True] * 6
    assert len(list(tmp_path.rglob("*.keys"))) == len(list(tmp_path.rglob("*.vectors"))) == 2


# ---------------------------------------------------------------------- forget


def test_forget_leaves_no_byte_of_the_vectors_in_any_recipe(tmp_path):
    cells = [f"text {i}" for i in range(4)]
    digests = [cell_digest(cell, strings_are_paths=False) for cell in cells]
    for recipe in (RECIPE, OTHER, RECIPE):
        EmbeddingCache(tmp_path).put(recipe, digests, vectors(4))
    cache, reader = EmbeddingCache(tmp_path), EmbeddingCache(tmp_path)
    assert reader.get_many(RECIPE, digests)[0].all()
    assert cache.forget([cells[1], cells[3]]) == 6
    on_disk = b"".join(path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file())
    for i, digest in enumerate(digests):
        assert on_disk.count(vectors(4)[i].tobytes()) == on_disk.count(digest) == (0 if i % 2 else 3)
    for some in (cache, reader, EmbeddingCache(tmp_path)):
        assert some.get_many(RECIPE, digests)[0].tolist() == [True, False, True, False]
    stats = cache.stats(check=True)
    assert (stats["n_rows"], stats["n_erased"], stats["n_damaged"]) == (4, 6, 0)
    cache.prune()
    assert cache.stats()["n_erased"] == 0 and cache.forget(cells[1]) == 0


def test_forget_takes_files_and_texts_as_the_encoder_does(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x")
    digests = [cell_digest(str(path), strings_are_paths=paths) for paths in (True, False)]
    cache = EmbeddingCache(tmp_path / "cache")
    reads_files = FunctionEncoder(len, strings_are_paths=True)

    def left():
        return cache.get_many(RECIPE, digests)[0].tolist()

    cache.put(RECIPE, digests, vectors(2))
    assert cache.forget([str(path)], encoder=FunctionEncoder(len)) == 1 and left() == [True, False]
    assert cache.forget([str(path)], encoder=reads_files) == 1 and left() == [False, False]
    cache.put(RECIPE, digests, vectors(2))
    assert cache.forget(str(path)) == 2 and left() == [False, False]
    cache.put(RECIPE, digests, vectors(2))
    assert cache.forget([b"x"]) == 1  # the content of the file
    for cells, encoder in (([tmp_path / "none"], None), ([str(tmp_path / "none")], reads_files)):
        with pytest.raises(FileNotFoundError):
            cache.forget(cells, encoder=encoder)
    assert cache.forget([]) == cache.forget(["no such text"]) == 0


def test_forget_takes_the_digests_of_the_files_too(tmp_path, cache_folder):
    paths = [tmp_path / name for name in ("a.bin", "b.bin")]
    for path in paths:
        path.write_bytes(path.name.encode())
    age(paths[0], 1)
    time.sleep(2.1)  # younger files are not remembered
    FunctionEncoder(os.path.getsize, strings_are_paths=True, version="1").fit_transform({"p": [str(p) for p in paths]})
    (memory,) = (cache_folder / "v2" / "files").glob("*.vectors")
    assert memory.stat().st_size == 2 * 32 and bytes(32) not in memory.read_bytes()
    assert get_cache().forget([str(paths[0])]) == 1
    assert memory.read_bytes().count(bytes(32)) == 1


# ---------------------------------------------------------------------- export and merge


def test_export_and_merge_carry_all_good_vectors(tmp_path):
    fill(tmp_path / "a", 4)
    bad = fill(tmp_path / "a", 3, start=10)
    fill(tmp_path / "a", 2)
    fill(tmp_path / "a", 2, start=20, n_dims=7)
    fill(tmp_path / "a", 1, recipe=OTHER)
    flip(bad.with_suffix(".vectors"))
    cache = EmbeddingCache(tmp_path / "a")
    assert cache.export(tmp_path / "c.zip") == 9
    fill(tmp_path / "b", 2)
    for source, expected in ((tmp_path / "c.zip", (7, 2, 0)), (tmp_path / "a", (0, 11, 1))):
        assert EmbeddingCache(tmp_path / "b").merge(source) == expected
    assert EmbeddingCache(tmp_path / "new").merge(tmp_path / "a") == (9, 2, 1)
    for folder in (tmp_path / "b", tmp_path / "new"):
        other = EmbeddingCache(folder)
        assert_array_equal(other.get_many(RECIPE, keys(4))[1], vectors(4))
        assert other.get_many(RECIPE, keys(3, 10))[0].tolist() == [True, True, False]
        assert_array_equal(other.get_many(RECIPE, keys(2, 20))[1], vectors(2, 7, 20))
        assert holds(folder, 1, recipe=OTHER) == [True]
        assert sorted(row["recipe"]["version"] for row in other.info()) == [1, 2]


def test_an_export_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    fill(tmp_path / "a")
    cache = EmbeddingCache(tmp_path / "a")
    cache.export(tmp_path / "c.zip")
    before = (tmp_path / "c.zip").read_bytes()
    monkeypatch.setattr(zipfile.ZipFile, "writestr", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        cache.export(tmp_path / "c.zip")
    assert (tmp_path / "c.zip").read_bytes() == before and sorted(os.listdir(tmp_path)) == ["a", "c.zip"]
    with pytest.raises(FileNotFoundError):
        cache.export(tmp_path / "none" / "c.zip")


def test_a_damaged_export_loses_the_damaged_records_alone(tmp_path):
    fill(tmp_path / "a", 200)
    EmbeddingCache(tmp_path / "a").export(tmp_path / "c.zip")
    content = (tmp_path / "c.zip").read_bytes()
    at = content.index(vectors(200)[50:150].tobytes())
    bad = bytearray(content)
    bad[at] ^= 1
    bad[at + 70 * 20] ^= 255
    (tmp_path / "c.zip").write_bytes(bad)
    assert EmbeddingCache(tmp_path / "b").merge(tmp_path / "c.zip") == (198, 0, 2)
    assert EmbeddingCache(tmp_path / "b").get_many(RECIPE, keys(200))[0].sum() == 198
    (tmp_path / "c.zip").write_bytes(content[:-100])
    with pytest.raises(ValueError, match="not an exported cache, or is truncated"):
        EmbeddingCache(tmp_path / "d").merge(tmp_path / "c.zip")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("bomb",)


def test_merge_runs_nothing_and_writes_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = fill(tmp_path / "a").parent
    parts = {path.name: path.read_bytes() for path in folder.iterdir()}
    name = next(name for name in parts if name.endswith(".keys")).removesuffix(".keys")
    good = {f"v2/{folder.name}/{n}": content for n, content in parts.items()}
    pickled = pickle.dumps(Bomb())
    infinite = np.full((3, 5), np.inf, np.float32).tobytes()
    cases = {
        "../../evil.keys": [{**good, "../../evil.keys": b"x", "/abs/evil.vectors": b"x"}, (3, 0, 0)],
        "a recipe that is no JSON": [{**good, f"v2/{folder.name}/recipe.json": pickled}, (0, 0, 3)],
        "deep JSON": [{**good, f"v2/{folder.name}/recipe.json": b"[" * 100000}, (0, 0, 3)],
        "a recipe of another name": [{n.replace(folder.name, "0" * 32): c for n, c in good.items()}, (0, 0, 3)],
        "vectors that are a pickle": [{**good, f"v2/{folder.name}/{name}.vectors": pickled}, None],
        "keys that are a pickle": [{**good, f"v2/{folder.name}/{name}.keys": pickled}, (0, 0, 0)],
        "infinite numbers": [{**good, f"v2/{folder.name}/{name}.vectors": infinite}, (0, 0, 3)],
        "no vectors": [{n: c for n, c in good.items() if not n.endswith(".vectors")}, (0, 0, 0)],
    }
    for case, (members, expected) in cases.items():
        with zipfile.ZipFile("c.zip", "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        result = EmbeddingCache(tmp_path / "b").merge("c.zip")
        assert result == expected if expected else result.n_added == 0, case
        shutil.rmtree("b", ignore_errors=True)
    assert sorted(os.listdir(".")) == ["a", "c.zip"] and not os.path.exists("/abs/evil.vectors")
    with zipfile.ZipFile("c.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in good.items():
            archive.writestr(member, content * 1000)
    with pytest.raises(ValueError, match="compressed"):
        EmbeddingCache(tmp_path / "b").merge("c.zip")
    with pytest.raises(FileNotFoundError):
        EmbeddingCache(tmp_path / "b").merge("none.zip")


@pytest.mark.parametrize("n_dims", [2**20, 2**31 - 1, 2**40, 0])
def test_a_header_that_lies_allocates_nothing(tmp_path, n_dims):
    path = fill(tmp_path / "a")
    header = bytearray(path.read_bytes())
    header[8:16] = n_dims.to_bytes(8, "little")
    header[16:24] = ((n_dims + 1) * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "little")
    path.write_bytes(header)
    assert holds(tmp_path / "a", 3) == [False] * 3
    assert EmbeddingCache(tmp_path / "b").merge(tmp_path / "a").n_added == 0


def test_a_cache_pickles_as_its_folder(tmp_path):
    fill(tmp_path)
    again = pickle.loads(pickle.dumps(EmbeddingCache(tmp_path)))
    assert again.folder == tmp_path and again.get_many(RECIPE, keys(3))[0].all()
    assert json.loads((next(tmp_path.rglob("recipe.json"))).read_text()) == RECIPE
