"""Rows like a row, and rows that are there twice."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from PIL import Image
from sklearn.linear_model import LogisticRegression

from ensemblefuse import (
    DecisionFusionClassifier,
    FunctionEncoder,
    find_near_duplicates,
    find_similar,
    make_fusion_pipeline,
)

HEAD = LogisticRegression()


def letters(text):
    return [text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz "]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    titles = ["".join(rng.choice(list("abcdefghijklmnopqrst"), 40)) for _ in range(40)]
    titles[7], titles[20] = None, "<b>bold & bad</b>"
    return pd.DataFrame({"title": titles, "price": rng.integers(1, 5, 40)}, index=[f"r{i}" for i in range(40)])


@pytest.fixture(scope="module")
def model(table):
    modalities = [("text", FunctionEncoder(letters), "title"), ("tabular", "passthrough", ["price"])]
    return make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, cv=2)).fit(table, np.arange(40) % 2)


def test_the_nearest_row_is_the_one_with_nearly_its_words(model, table):
    more = pd.concat([table, table.iloc[[3]].assign(title=table["title"].iloc[3] + "x").rename({"r3": "copy"})])
    found = find_similar(model, more, more.index[3], modality="text", n_neighbors=3)
    assert found.table.index[0] == "copy" and found.table["similarity"].iloc[0] > 0.97
    assert found.table["similarity"].is_monotonic_decreasing and "r3" not in found.table.index
    assert found.table["title"].iloc[0] == more.loc["copy", "title"]
    assert found.table["position"].iloc[0] == 40


def test_other_rows_can_be_searched_and_other_metrics_taken(model, table):
    among = table.iloc[:10]
    found = find_similar(model, table, "r3", modality="text", among=among, n_neighbors=99, metric="euclidean")
    assert found.table.index[0] == "r3" and found.table["distance"].iloc[0] == 0
    assert len(found.table) == 9 and found.notes == ["1 of 10 rows have no 'text' and cannot be found."]


def test_cells_are_shown_escaped(model, table):
    page = find_similar(model, table, "r20", modality="text")._repr_html_()
    assert "&lt;b&gt;bold &amp; bad&lt;/b&gt;" in page and "<b>" not in page
    listed = find_near_duplicates(model, table, table.rename({"r20": "<i>"}))._repr_html_()
    assert "&lt;i&gt;" in listed and "<i>" not in listed


def test_pictures_are_shown_as_thumbnails(tmp_path):
    paths = []
    for i in range(6):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.new("RGB", (300, 200), (40 * i, 0, 0)).save(paths[-1])
    red = FunctionEncoder(lambda path: [Image.open(path).getpixel((0, 0))[0], 1], strings_are_paths=True)
    df = pd.DataFrame({"photo": paths})
    model = make_fusion_pipeline([("image", red, "photo")], DecisionFusionClassifier(HEAD, cv=2))
    model.fit(df, [0, 0, 0, 1, 1, 1])
    found = find_similar(model, df, 0, modality="image", metric="euclidean", n_neighbors=2)
    assert found.table["position"].tolist() == [1, 2]
    assert found._repr_html_().count('<img src="data:image/png;base64,') == 3
    Image.open(paths[1]).save(tmp_path / "other_name.png")
    same = find_near_duplicates(model, df, {"photo": [str(tmp_path / "other_name.png")]}).table
    assert same[["row", "other", "exact"]].to_numpy().tolist() == [[1, 0, True]]


@pytest.mark.parametrize(
    ("i", "change", "message"),
    [
        ("r7", {}, r"row 'r7' has no 'text', so no row can be similar to it there; it has \['tabular'\]"),
        ("r99", {}, "no row has the index label 'r99'"),
        ("r0", {"modality": "smell"}, r"no modality 'smell'; it has \['text', 'tabular'\]"),
        ("r0", {"n_neighbors": 0}, "n_neighbors must be an int of at least 1"),
    ],
)
def test_a_row_that_cannot_be_compared_is_an_error(model, table, i, change, message):
    with pytest.raises(ValueError, match=message):
        find_similar(model, table, i, **{"modality": "text", **change})


def test_a_fusion_estimator_alone_will_do():
    X, y = make_blocks(n=60)
    model = DecisionFusionClassifier(HEAD, cv=2, joint=False).fit(X, y)
    found = find_similar(model, X, 0, modality="image", n_neighbors=30)
    assert (y[found.table["position"][:5]] == y[0]).mean() > 0.5
    as_array = DecisionFusionClassifier(HEAD, cv=2, joint=False, blocks={"left": slice(0, 6), "right": slice(6, 13)})
    array = X.to_numpy()
    again = find_similar(as_array.fit(array, y), array, 0, modality="left", n_neighbors=30)
    assert again.table.index.tolist() == found.table.index.tolist()


def test_planted_copies_are_found_across_two_tables(model, table):
    test = pd.DataFrame({"title": [table["title"].iloc[3], table["title"].iloc[5] + "z", "new words here", None]})
    found = find_near_duplicates(model, table, test.assign(price=1))
    pairs = found.table.set_index(["row", "other"])
    assert set(pairs.index) == {("r3", 0), ("r5", 1)}
    assert pairs["exact"].to_dict() == {("r3", 0): True, ("r5", 1): False}
    assert pairs.loc[("r3", 0), "similarity"] == pytest.approx(1) and pairs.loc[("r5", 1), "similarity"] < 1
    assert found.notes[0].startswith("'tabular' holds only numbers or categories")


def test_clean_tables_have_none_and_within_a_table_a_pair_is_named_once(model, table):
    assert find_near_duplicates(model, table.iloc[:20], table.iloc[20:]).table.empty
    twice = pd.concat([table, table.iloc[[3]].rename({"r3": "copy"})])
    assert find_near_duplicates(model, twice).table[["row", "other"]].to_numpy().tolist() == [["r3", "copy"]]


def test_a_modality_that_tells_few_rows_apart_is_left_out_or_refused(model, table):
    rows = pd.DataFrame({"title": ["always the same words"] * 300, "price": 1})
    found = find_near_duplicates(model, rows)
    assert found.table.empty and "'text' has more than 15000 pairs" in found.notes[0]
    with pytest.raises(ValueError, match=r"'tabular' has more than 15000 pairs.*raise the threshold"):
        find_near_duplicates(model, rows, modality="tabular")
    with pytest.raises(ValueError, match="threshold must be over 0"):
        find_near_duplicates(model, rows, threshold=0)


def test_pairs_over_the_border_of_a_chunk_are_those_of_one_matrix():
    rng = np.random.default_rng(0)
    block = rng.normal(size=(2500, 20))
    block[2400] = block[5] + 1e-4
    block[1030] = 1.001 * block[1500]
    X = pd.DataFrame(block, columns=[f"image__{i}" for i in range(20)])
    model = DecisionFusionClassifier(HEAD, cv=2).fit(X.iloc[:60], np.arange(60) % 2)
    found = find_near_duplicates(model, X).table
    assert sorted(zip(found["row"], found["other"], strict=True)) == [(5, 2400), (1030, 1500)]
    assert not found["exact"].any()
