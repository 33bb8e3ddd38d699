"""Forgetting samples: no byte of their vectors is left in the cache, and models say whether they saw them."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression
from test_encoder_base import CountingEncoder

from ensemblefuse import (
    EmbeddingCache,
    FeatureFusionClassifier,
    FunctionEncoder,
    TimeSeriesEncoder,
    config_context,
    forget,
    get_cache,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.cli import main

KEY = b"0123456789abcdef"


def spread(text):
    """A vector that is like no other: its bytes can be looked for."""
    return np.random.default_rng(sum(text.encode()) + 1000 * len(text)).normal(size=7)


def drawn(number):
    return np.random.default_rng(int(number)).normal(size=7)


def size(path):
    with open(path, "rb") as file:
        return np.random.default_rng(len(file.read())).normal(size=5)


def on_disk(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def table(tmp_path):
    rows = {"title": [f"a title {i} " + "x" * i for i in range(6)], "photo": []}
    for i in range(6):
        (tmp_path / f"{i}.bin").write_bytes(b"x" * (10 + i))
        rows["photo"].append(str(tmp_path / f"{i}.bin"))
    return pd.DataFrame(rows, index=[f"p{i}" for i in range(6)])


def test_a_whole_number_is_forgotten_in_a_table_with_gaps_where_it_is_a_float(cache_folder):
    vectors = FunctionEncoder(drawn).fit_transform({"age": [17, 18]})
    assert all(row.tobytes() in on_disk(cache_folder) for row in vectors)
    report = forget(pd.DataFrame({"age": [17, None]}))
    assert [row.tobytes() in on_disk(cache_folder) for row in vectors] == [False, True]
    assert report.table["n_vectors"].tolist() == [1, 0]


def test_no_byte_of_the_vectors_is_left_and_other_rows_keep_theirs(table, cache_folder):
    titles = FunctionEncoder(spread).fit_transform(table[["title"]])
    counts = CountingEncoder().fit_transform(table[["title"]])
    photos = FunctionEncoder(size, strings_are_paths=True).fit_transform(table[["photo"]])
    for vectors in (titles, photos):
        assert all(row.tobytes() in on_disk(cache_folder) for row in vectors)
    report = forget(table.loc[["p1", "p4"]])
    left = on_disk(cache_folder)
    for vectors in (titles, photos):
        assert [row.tobytes() in left for row in vectors] == [True, False, True, True, False, True]
    assert report.table["n_vectors"].to_dict() == {"p1": 3, "p4": 3} and report.n_vectors == 6
    assert (report.table[["unread", "saw_it", "cannot_tell"]] == "").all(axis=None)
    CountingEncoder.seen = []
    assert_array_equal(CountingEncoder().fit_transform(table[["title"]]), counts)
    assert sorted(CountingEncoder.seen) == sorted(table.loc[["p1", "p4"], "title"])
    assert EmbeddingCache(cache_folder).stats(check=True)["n_damaged"] == 0


def test_bytes_that_a_crash_left_without_a_key_are_gone_too(table, cache_folder):
    vectors = FunctionEncoder(spread).fit_transform(table[["title"]])
    (file,) = cache_folder.rglob("*.vectors")
    file.write_bytes(file.read_bytes() + vectors[2].tobytes())  # the vector of a record whose key was never written
    forget(table.loc[["p2"]])
    assert vectors[2].tobytes() not in on_disk(cache_folder) and vectors[3].tobytes() in on_disk(cache_folder)


def test_samples_of_the_same_content_are_forgotten_together_and_the_report_says_so(table, cache_folder):
    table["title"] = ["same", "same", *table["title"][2:]]
    FunctionEncoder(spread).fit_transform(table[["title"]])
    report = forget(table[["title"]].iloc[:2], ids=[1, 2])
    assert report.n_vectors == 1 and report.table["n_vectors"].tolist() == [1, 1]
    assert "the same content have lost their vectors, too" in str(report)
    assert "1 vectors of 2 samples" in report.caption
    assert forget(table.iloc[:2]).n_vectors == 0


def test_models_say_whether_they_saw_a_sample_or_that_they_cannot_tell(table, tmp_path):
    X, y = make_blocks(30)
    model = FeatureFusionClassifier(LogisticRegression()).fit(X, y)
    folder = tmp_path / "models" / "deep"
    folder.mkdir(parents=True)
    with_ids = save_model(model, folder / "ids.fuse", sample_ids=["p1", "p2"])
    without = save_model(model, folder / "none.fuse")
    keyed = save_model(model, tmp_path / "keyed", sample_ids=["p3"], sample_key=KEY)
    broken = tmp_path / "models" / "broken.fuse"
    broken.write_bytes(with_ids.read_bytes()[:-9])
    rows = table.loc[["p1", "p3"]]
    report = forget(rows, ids=rows.index, models=[tmp_path / "models", keyed, keyed])
    assert report.table["saw_it"].tolist() == [str(with_ids), ""]
    assert report.table["cannot_tell"].tolist() == [f"{broken}, {without}, {keyed}"] * 2
    assert report.models["n_seen"].fillna(-1).tolist() == [-1, 1, -1, -1]
    assert "saved without sample_ids" in report.models.loc[str(without), "reason"]
    assert "saved with a sample_key" in report.models.loc[str(keyed), "reason"]
    assert "must be fitted again without it" in str(report)
    report = forget(rows, ids=["p1", "p3"], models=str(keyed), sample_key=KEY)
    assert report.table["saw_it"].tolist() == ["", str(keyed)]


def test_a_file_that_is_gone_is_named_because_its_vectors_may_be_there(table, tmp_path):
    gone = table.iloc[:2].assign(photo=[str(tmp_path / "gone.jpg"), None])
    report = forget(gone)
    assert report.table["unread"].tolist() == ["photo", ""]
    assert "a cell could not be read, for example because a file was deleted: ['p0']" in str(report)
    (tmp_path / "gone.jpg").write_bytes(b"x")
    assert forget(gone).table["unread"].tolist() == ["", ""]


def test_cells_of_several_columns_are_known_from_the_model_that_reads_them(tmp_path, cache_folder):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 12)), columns=[f"t{i}" for i in range(12)])
    plan = [("series", TimeSeriesEncoder(), list(X.columns))]
    model = make_fusion_pipeline(plan, FeatureFusionClassifier(LogisticRegression())).fit(X, np.arange(20) % 2)
    path = save_model(model, tmp_path / "series.fuse", sample_ids=range(20))
    n_rows = get_cache().stats()["n_rows"]
    assert n_rows == 20 and forget(X[:3]).n_vectors == 0
    report = forget(X[:3], ids=range(3), models=path)
    assert report.n_vectors == 3 and get_cache().stats()["n_rows"] == 17
    assert report.models["n_seen"].tolist() == [3]


def test_what_is_given_wrongly_is_refused_before_anything_is_removed(table, tmp_path):
    FunctionEncoder(spread).fit_transform(table[["title"]])
    with pytest.raises(ValueError, match="2 ids for the 6 rows"):
        forget(table, ids=["a", "b"])
    with pytest.raises(ValueError, match="pass ids=, one per row"):
        forget(table, models=tmp_path / "0.bin")
    with pytest.raises(FileNotFoundError, match=r"model .*none\.fuse.* does not exist"):
        forget(table, ids=table.index, models=tmp_path / "none.fuse")
    with pytest.raises(ValueError, match=r"holds no \*\.fuse file"):
        forget(table, ids=table.index, models=tmp_path)
    path = save_model(LogisticRegression().fit([[0], [1]], [0, 1]), tmp_path / "m.fuse", sample_ids=["p1"])
    with pytest.raises(ValueError, match=r"sample_ids must be str or int; got 0\.5"):
        forget(table, ids=[0.5] * 6, models=path)
    assert get_cache().stats()["n_rows"] == 6
    with config_context(cache=None):
        assert "The cache is off: 0 vectors" in forget(table).caption


def test_the_command_finds_whole_numbers_in_a_column_of_ids_with_an_empty_cell(tmp_path, cache_folder, capsys):
    rows = pd.DataFrame({"person": ["17", "", "18"], "title": ["a title", "b title", "c title"]})
    rows.to_csv(tmp_path / "people.csv", index=False)
    vectors = FunctionEncoder(spread).fit_transform(rows[["title"]])
    path = save_model(LogisticRegression().fit([[0], [1]], [0, 1]), tmp_path / "m.fuse", sample_ids=[17])
    command = ["cache", "forget", "--table", str(tmp_path / "people.csv"), "--id", "person"]
    assert main([*command, "--ids", "17", "--models", str(path)]) == 0
    assert "must be fitted again without it" in capsys.readouterr().out
    assert [row.tobytes() in on_disk(cache_folder) for row in vectors] == [False, True, True]
    assert main([*command, "--ids", "nan"]) == 1 and "no rows with these ids" in capsys.readouterr().err
    assert main([*command, "--models", str(path)]) == 0
    assert [row.tobytes() in on_disk(cache_folder) for row in vectors] == [False, True, False]
    rows.assign(person=["1.5", "", "2"]).to_csv(tmp_path / "people.csv", index=False)
    assert main([*command, "--ids", "1.5"]) == 0


def test_the_command_forgets_rows_of_a_table_by_id(table, tmp_path, monkeypatch, cache_folder, capsys):
    rows = table.assign(photo=[f"{i}.png" for i in range(6)]).rename_axis("person").reset_index()
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(b"x" * (30 + i))
    rows.to_csv(tmp_path / "people.csv", index=False)
    photos = FunctionEncoder(size, strings_are_paths=True).fit_transform(
        pd.DataFrame({"photo": [str(tmp_path / name) for name in rows["photo"]]})
    )
    path = save_model(LogisticRegression().fit([[0], [1]], [0, 1]), tmp_path / "m.fuse", sample_ids=["p1"])
    monkeypatch.setenv("ENSEMBLEFUSE_CACHE", str(cache_folder))
    command = ["cache", "forget", "--table", str(tmp_path / "people.csv"), "--id", "person"]
    assert main([*command, "--ids", "p1", "p2", "--models", str(path)]) == 0
    out = capsys.readouterr().out
    assert "2 vectors of 2 samples were overwritten" in out and "must be fitted again without it" in out
    assert [row.tobytes() in on_disk(cache_folder) for row in photos] == [True, False, False, True, True, True]
    (tmp_path / "0.png").unlink()
    assert main([*command, "--ids", "p0"]) == 1
    assert "a cell could not be read" in capsys.readouterr().out
    assert main([*command, "--ids", "p9"]) == 1 and "no rows with these ids" in capsys.readouterr().err
    assert main([*command[:4], "--models", str(path)]) == 2 and "need --id" in capsys.readouterr().err
    assert main(["cache", "forget", "--ids", "p1"]) == 2 and "need --table" in capsys.readouterr().err
