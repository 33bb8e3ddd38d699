"""PrecomputedEncoder: vectors from cells, columns and files, with every bad one named."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from ensemblefuse import (
    EncodingError,
    FeatureFusionClassifier,
    MissingModalityWarning,
    PrecomputedEncoder,
    get_cache,
    infer_modalities,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.testing import check_encoder

VECTORS = np.random.default_rng(0).normal(size=(6, 3))
NAMES = [f"id{i}" for i in range(6)]


@pytest.fixture
def matrix(tmp_path):
    np.save(tmp_path / "vectors.npy", VECTORS)
    return tmp_path / "vectors.npy"


def write(path, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return str(path)


@pytest.fixture
def table(tmp_path):
    return write(tmp_path / "vectors.parquet", id=NAMES, vector=VECTORS.tolist(), year=list(range(6)))


def reasons(encoder, cells):
    with pytest.raises(EncodingError) as caught:
        encoder.fit({"c": cells[:1]}).transform({"c": cells})
    assert [row.label for row in caught.value.rows] == list(range(1, len(cells)))
    return [row.reason for row in caught.value.rows]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays(np.float32, (4, 5), elements=st.floats(-(2.0**60), 2.0**60, width=32)), st.permutations(range(4)))
def test_cells_columns_and_files_give_the_numbers_that_are_there(tmp_path, values, order):
    np.save(tmp_path / "m.npy", np.asfortranarray(values))
    lists = write(tmp_path / "l.parquet", id=NAMES[:4], vector=values.tolist())
    wide = write(tmp_path / "w.parquet", **{f"v{i}": values[:, i] for i in range(5)}, id=NAMES[:4])
    names = [NAMES[i] for i in order]
    columns = ["v4", "v0"]
    assert_array_equal(PrecomputedEncoder().fit_transform({"c": [values[i].tolist() for i in order]}), values[order])
    assert_array_equal(PrecomputedEncoder().fit_transform(pd.DataFrame(values[order])), values[order])
    assert_array_equal(PrecomputedEncoder(tmp_path / "m.npy").fit_transform({"row": list(order)}), values[order])
    assert_array_equal(PrecomputedEncoder(lists, key="id").fit_transform({"k": names}), values[order])
    assert_array_equal(PrecomputedEncoder(wide, key="id").fit_transform({"k": names}), values[order])
    some = PrecomputedEncoder(wide, key="id", columns=columns).fit_transform({"k": names})
    assert_array_equal(some, values[order][:, [4, 0]])


def test_the_contract_holds_for_a_file(table):
    assert len(check_encoder(PrecomputedEncoder(table, key="id"), {"key": ["id3", "id0", "id5"]})) >= 11


def test_missing_cells_are_rows_of_nan_though_they_turn_row_numbers_into_floats(matrix):
    out = PrecomputedEncoder(matrix).fit_transform(pd.DataFrame({"row": [5, None, 0]}))
    assert_array_equal(out, np.stack([VECTORS[5], np.full(3, np.nan), VECTORS[0]]).astype(np.float32))
    with pytest.warns(MissingModalityWarning, match="has no value in any of"):
        empty = PrecomputedEncoder(matrix).fit_transform({"row": [None, None]})
    assert empty.shape == (2, 3) and np.isnan(empty).all()


def test_each_bad_vector_in_a_cell_is_named():
    cells = [[1.0, 2.0], [1.0], [1.0, None], [1, np.inf], ["1", "2"], "1 2", [[1.0, 2.0]], [], 3, [1.0, 1e300], [1, {}]]
    parts = ["1 numbers, where the embeddings of fit have 2", "1 of its 2 numbers are NaN", "first at position 1"]
    parts += ["values of type <U1", "got str", "got (1, 2)", "got (0,)", "got int", "too large for float32", "a dict"]
    for reason, part in zip(reasons(PrecomputedEncoder(), cells), parts, strict=True):
        assert part in reason


def test_the_commonest_length_counts_not_the_first():
    encoder = PrecomputedEncoder(on_error="missing")
    with pytest.warns(MissingModalityWarning, match="row 0"):
        out = encoder.fit_transform({"c": [[1.0], [1.0, 2.0], [3.0, 4.0]]})
    assert encoder.n_dims_ == 2 and np.isnan(out[0]).all() and out[2].tolist() == [3, 4]


def test_a_row_number_or_key_that_the_file_lacks_is_named(matrix, tmp_path):
    cells = [0, 6, -1, "id0", 1.5, True]
    parts = ["vectors.npy holds rows 0 to 5, not row 6", "not row -1", "got str", "got float", "got bool"]
    for reason, part in zip(reasons(PrecomputedEncoder(matrix), cells), parts, strict=True):
        assert part in reason
    vectors = [[1.0, 2.0], [3.0], None, [4.0, None], [5.0, 6.0], [np.inf, 0.0]]
    path = write(tmp_path / "odd.parquet", id=NAMES, vector=vectors)
    found = reasons(PrecomputedEncoder(path, key="id"), [*NAMES[:4], "id5", "id9", "", 0])
    parts = ["holds 1 numbers for this key", "holds no embedding for this key", "NaN", "NaN", "no such key", "no such"]
    for reason, part in zip(found, [*parts, "not whole numbers"], strict=True):
        assert part in reason
    assert_array_equal(PrecomputedEncoder(path, key="id").fit_transform({"k": ["id4"]}), [[5, 6]])
    path = write(tmp_path / "late.parquet", id=NAMES, vector=[None, [1.0], [np.nan, 1.0], [1.0, 2.0], [3.0, 4.0], []])
    with pytest.warns(MissingModalityWarning, match="has no value in any of"):
        assert PrecomputedEncoder(path, key="id").fit_transform({"k": [None]}).shape == (1, 2)
    numbers = write(tmp_path / "numbers.parquet", id=[2**62, 7], vector=[[1.0], [2.0]])
    assert PrecomputedEncoder(numbers, key="id").fit_transform({"k": [7.0, 2**62]}).tolist() == [[2], [1]]


def test_nothing_is_copied_into_the_cache_the_pickle_or_a_clone(matrix):
    encoder = PrecomputedEncoder(matrix).fit({"row": [0, 1]})
    encoder.transform({"row": [0, 1]})
    assert encoder.recipe() is None and get_cache().n_written == 0
    assert len(pickle.dumps(encoder)) < 600
    assert clone(encoder).get_params() == encoder.get_params()


def test_a_file_that_grows_serves_its_new_rows(matrix):
    encoder = PrecomputedEncoder(matrix).fit({"row": [0]})
    longer = matrix.with_name("longer.npy")
    np.save(longer, np.concatenate([VECTORS, [[7, 8, 9]]]))
    longer.replace(matrix)
    assert encoder.transform({"row": [6]}).tolist() == [[7, 8, 9]]
    np.save(longer, np.ones((2, 4)))
    longer.replace(matrix)
    with pytest.raises(ValueError, match="fitted with embeddings of length 3; now they have length 4"):
        encoder.transform({"row": [1]})


@pytest.mark.parametrize(
    "content, message",
    [
        (np.array([{"a": 1}] * 3, dtype=object), "holds objects"),
        (np.ones(3), r"it holds float64 of shape \(3,\)"),
        (np.ones((2, 2), dtype=complex), "it holds complex128"),
        (np.ones((2, 2), dtype="datetime64[s]"), "it holds datetime64"),
    ],
    ids=["objects", "vector", "complex", "dates"],
)
def test_a_file_of_something_else_is_refused_before_any_cell(tmp_path, content, message):
    np.save(tmp_path / "x.npy", content, allow_pickle=True)
    with pytest.raises(ValueError, match=f"x.npy .*{message}"):
        PrecomputedEncoder(tmp_path / "x.npy").fit({"row": [0]})


def test_damaged_files_are_refused(matrix, table, tmp_path):
    data, rows = matrix.read_bytes(), Path(table).read_bytes()
    bad = tmp_path / "bad"
    huge = data.replace(b"(6, 3)", b"(999999999999, 3)").replace(b"}           ", b"}", 1)
    for content in (data[:-8], data[:20], huge, data[:10], b"\x93NUMPY", b"", b"PAR1", rows[:-9]):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad (is|cannot)"):
            PrecomputedEncoder(bad, key="id" if content[:4] == b"PAR1" else None).fit({"row": [0]})
    with pytest.raises(FileNotFoundError, match="gone"):
        PrecomputedEncoder(tmp_path / "gone.npy").fit({"row": [0]})
    with pytest.raises(ValueError, match="not a regular file"):
        PrecomputedEncoder(tmp_path).fit({"row": [0]})
    with pytest.raises(TypeError, match=r"got ndarray. Save a matrix with numpy.save"):
        PrecomputedEncoder(VECTORS).fit({"row": [0]})


@pytest.mark.parametrize(
    "params, message",
    [
        ({}, "name the column of its keys by key="),
        ({"key": "no"}, r"lacks the columns \['no'\]"),
        ({"key": "id", "columns": ["vector", "year"]}, "must name one column of lists"),
        ({"key": "id", "columns": "twice"}, "must name one column"),
        ({"key": "vector"}, "keys of type list"),
        ({"key": "twice"}, r"has repeated keys in 'twice': \['a'\]"),
        ({"key": "gaps"}, "has 1 empty keys of 6"),
    ],
    ids=str,
)
def test_a_wrong_choice_of_columns_says_what_there_is(tmp_path, params, message):
    path = tmp_path / "t.parquet"
    write(path, id=NAMES, vector=VECTORS.tolist(), year=range(6), twice=list("aabcde"), gaps=[None, *NAMES[1:]])
    with pytest.raises(ValueError, match=message):
        PrecomputedEncoder(path, **params).fit({"k": NAMES})


def test_parameters_and_tables_that_do_not_go_together(matrix):
    with pytest.raises(ValueError, match="key and columns are for Parquet"):
        PrecomputedEncoder(matrix, key="id").fit({"row": [0]})
    with pytest.raises(ValueError, match="key and columns need source"):
        PrecomputedEncoder(key="id").fit({"c": [[1.0]]})
    with pytest.raises(ValueError, match=r"'n' holds single numbers.*pass source="):
        PrecomputedEncoder().fit({"n": [1, 2]})
    with pytest.raises(ValueError, match=r"not numeric: \['b'\]"):
        PrecomputedEncoder().fit({"a": [1.0], "b": ["x"]})
    with pytest.raises(EncodingError, match="1 of its 2 numbers are NaN"):
        PrecomputedEncoder().fit_transform({"a": [1.0, np.nan, 1.0], "b": [2.0, np.nan, np.nan]})


def test_a_saved_model_holds_the_path_and_may_be_given_another(matrix, tmp_path):
    X, y = {"row": np.arange(6) % 6}, [0, 1, 0, 1, 0, 1]
    modalities = [("embedding", PrecomputedEncoder(str(matrix)), "row")]
    model = make_fusion_pipeline(modalities, FeatureFusionClassifier(LogisticRegression())).fit(X, y)
    save_model(model, tmp_path / "m.fuse", example=pd.DataFrame(X))
    loaded = load_model(tmp_path / "m.fuse")
    expected = model.predict_proba(X)
    assert_array_equal(loaded.predict_proba(X), expected)
    matrix.rename(tmp_path / "moved.npy")
    with pytest.raises(FileNotFoundError, match=r"vectors\.npy"):
        loaded.predict(X)
    loaded.set_params(encode__embedding__source=tmp_path / "moved.npy")
    assert_array_equal(loaded.predict_proba(X), expected)


def test_infer_modalities_tells_embeddings_from_series(capsys):
    wide = np.random.default_rng(0).normal(size=(6, 20))
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    X = {"clip_vectors": list(unit), "title_embedding": wide.tolist(), "sensor": list(wide)}
    found = infer_modalities(X)
    assert {name: type(encoder).__name__ for name, encoder, _ in found} == {
        "embedding_clip_vectors": "PrecomputedEncoder",
        "embedding_title_embedding": "PrecomputedEncoder",
        "series": "TimeSeriesEncoder",
    }
    out = capsys.readouterr().out
    assert "arrays of 20 numbers, each of norm 1" in out and "and the column's name says embedding" in out
    uneven = infer_modalities({"embedding": [[1.0, 2.0], [1.0]], "e": [[1.0], [1.0]]}, verbose=False)
    assert {type(encoder).__name__ for _, encoder, _ in uneven} == {"TimeSeriesEncoder"}
    declared = infer_modalities({"sensor": list(wide)}, kinds={"sensor": "embedding"}, verbose=False)
    assert type(declared[0][1]) is PrecomputedEncoder
