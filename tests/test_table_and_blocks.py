"""What X may be, what its columns are, and which of them belong together."""

import decimal
import time

import numpy as np
import pandas as pd
import polars
import pytest
from conftest import make_blocks
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ensemblefuse import (
    BlockPCA,
    DecisionFusionClassifier,
    FeatureFusionClassifier,
    FunctionEncoder,
    ModalityDropout,
    infer_modalities,
    make_fusion_pipeline,
)
from ensemblefuse.blocks import find_blocks
from ensemblefuse.column_kinds import column_kind
from ensemblefuse.table import to_frame


def test_a_frame_passes_the_door_uncopied():
    X = pd.DataFrame({"a": [1]})
    assert to_frame(X) is X


def test_polars_columns_keep_their_kind():
    frame = polars.DataFrame(
        {"n": [1, None], "s": ["x", None], "b": [b"x", None], "list": [[1.0, 2.0], None], "flag": [True, None]}
    )
    X = to_frame(frame)
    assert np.isnan(X.loc[1, "n"]) and X["s"].tolist() == ["x", None] and X["b"].tolist() == [b"x", None]
    assert X.loc[0, "list"].tolist() == [1.0, 2.0] and X.loc[1, "list"] is None
    with pytest.raises(TypeError, match=r"call \.collect\(\)"):
        to_frame(frame.lazy())


def test_a_dict_may_hold_arrays_and_lists_as_cells():
    X = to_frame({"wave": [np.zeros(3), None], "size": [1, None], "box": [[1, 2], [3, 4]]})
    assert X.loc[0, "wave"].shape == (3,) and X.loc[1, "wave"] is None
    assert X["size"].isna().tolist() == [False, True] and X.loc[1, "box"] == [3, 4]
    with pytest.raises(ValueError, match=r"differ in length: {'a': 1, 'b': 2}"):
        to_frame({"a": [1], "b": [1, 2]})


def test_what_is_no_table_is_refused_with_what_was_found():
    with pytest.raises(TypeError, match="got ndarray"):
        to_frame(np.zeros((2, 2)))


@pytest.mark.parametrize(
    "cells, kind",
    [
        (["a.png", "b.JPG", None], "image"),
        ([np.zeros((4, 4)), np.zeros((4, 4, 3))], "image"),
        (["a.wav", "b.ogg"], "audio"),
        (["the first text", "and one more text"], "text"),
        (["red", "blue"] * 20, "category"),
        ([f"id{i}" for i in range(40)], "identifier"),
        ([1.5, np.nan], "number"),
        ([True, False], "boolean"),
        ([np.zeros(9), np.zeros(4)], "series"),
        ([[1, 2, 3], [4, 5]], "series"),
        ([None, None], "empty"),
        (["a.png", "some text here"], "other"),
        ([complex(1, 2), complex(3, 4)], "other"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), "date"),
    ],
    ids=str,
)
def test_column_kinds(cells, kind):
    series = pd.Series(cells) if not isinstance(cells, list) else to_frame({"c": cells})["c"]
    assert column_kind(series)[0] == kind


def test_blocks_by_prefix_keep_the_order_of_first_appearance():
    found = find_blocks(["b__x", "a__1", "b__y__z"])
    assert list(found) == ["b", "a"] and found["b"].tolist() == [0, 2]
    assert list(find_blocks(["x", "y"])) == ["features"]


@pytest.mark.parametrize(
    "columns, blocks, message",
    [
        (["a__0", "b"], None, r"1 do not: \['b'\]"),
        (["__0"], None, "name their block"),
        (["a", "b"], {}, "must be a dict"),
        (["a", "b"], {"x": ["a"]}, r"leaves out 1 column of X: \['b'\]"),
        (["a", "b"], {"x": ["a"], "y": ["a", "b"]}, r"several blocks: \['a'\]"),
        (["a", "b"], {"x": ["a", "c"]}, "names 'c', which is not a column"),
        (["a", "b"], {"x": ["a", "b"], "y": []}, "names no column"),
        (range(2), {"x": [0, 5]}, "names 5, which is not a column"),
        (["a", "b"], {"x": ["a", ["b"]]}, r"names \['b'\], which is not a column"),
    ],
)
def test_blocks_that_make_no_sense_are_refused_by_name(columns, blocks, message):
    with pytest.raises(ValueError, match=message):
        find_blocks(columns, blocks)


def test_blocks_that_a_caller_names_are_names_positions_or_slices():
    found = find_blocks(["a", "b", "c", "d"], {"x": ["d", 0], "y": slice(1, 2), "z": -2})
    assert {name: places.tolist() for name, places in found.items()} == {"x": [3, 0], "y": [1], "z": [2]}
    # Where a name is a number, it is the name that counts.
    assert find_blocks([1, 0], {"x": [0], "y": [1]})["x"].tolist() == [1]


def test_twenty_thousand_columns_are_found_in_a_moment():
    names = [f"b{i // 1000}__{i}" for i in range(20_000)]
    blocks = {f"b{i}": names[1000 * i : 1000 * (i + 1)] for i in range(20)}
    begin = time.process_time()
    found = find_blocks(names, blocks)
    assert time.process_time() - begin < 1  # a search of the list for each name took 15 s
    assert np.concatenate(list(found.values())).tolist() == list(range(20_000))


# ---------------------------------------------------------------------- names of several levels


def test_columns_of_several_levels_are_refused_by_name_everywhere():
    X, y = make_blocks(30)
    nested = X.set_axis(pd.MultiIndex.from_tuples([tuple(name.split("__")) for name in X.columns]), axis=1)
    fitted = FeatureFusionClassifier(LogisticRegression()).fit(X, y)
    raw = pd.DataFrame({"price": np.arange(30.0), "title": ["a", "b"] * 15})
    pipeline = make_fusion_pipeline(
        [("tabular", StandardScaler(), ["price"])], FeatureFusionClassifier(LogisticRegression())
    ).fit(raw, y)
    nested_raw = raw.set_axis(pd.MultiIndex.from_tuples([("price", ""), ("title", "")]), axis=1)
    for use in (
        lambda: to_frame(nested),
        lambda: FeatureFusionClassifier(LogisticRegression()).fit(nested, y),
        lambda: DecisionFusionClassifier(LogisticRegression(), cv=3).fit(nested, y),
        lambda: fitted.predict(nested),
        lambda: BlockPCA(1).fit(nested),
        lambda: ModalityDropout().fit_resample(nested, y),
        lambda: FunctionEncoder(len).fit(nested_raw[["title"]]),
        lambda: infer_modalities(nested_raw),
        lambda: clone(pipeline).fit(nested_raw, y),
        lambda: pipeline.predict(nested_raw),
    ):
        with pytest.raises(ValueError, match=r"2 levels \(a MultiIndex\), such as \('.*Join the levels"):
            use()


def test_row_labels_of_several_levels_are_labels():
    X, y = make_blocks(30)
    nested = X.set_axis(pd.MultiIndex.from_product([range(15), ["a", "b"]]), axis=0)
    model = DecisionFusionClassifier(LogisticRegression(), cv=3)
    np.testing.assert_array_equal(
        clone(model).fit(nested, y).predict_proba(nested), clone(model).fit(X, y).predict_proba(X)
    )
    nested.iloc[3, 0] = np.nan
    with pytest.raises(ValueError, match=r"\(1, 'b'\)"):
        model.fit(nested, y)


@pytest.mark.parametrize("cells", [[2**53 + 1, None, 3], [-(2**53) - 1, None], [1, None], [None, None]])
def test_whole_numbers_of_a_file_are_exact_beside_gaps(cells, tmp_path):
    from ensemblefuse.cli._table_stream import TableStream
    from ensemblefuse.cli._tables import read_table

    path = tmp_path / "table.parquet"
    polars.DataFrame({"code": polars.Series(cells, dtype=polars.Int64)}).write_parquet(path)
    whole = read_table(path)["code"]
    streamed = pd.concat([table for _, table in TableStream(path, 10).chunks()])["code"]
    for column in (whole, streamed):
        assert [None if pd.isna(cell) else int(cell) for cell in column] == cells


def test_large_decimals_of_polars_keep_their_digits():
    cells = [decimal.Decimal(2**53 + 1), None]
    assert to_frame(polars.DataFrame({"code": cells}))["code"].tolist() == cells
