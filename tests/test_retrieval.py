"""Retrieval across modalities: ranks worked out by hand, chance, equal cells, groups, and the report of a space."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from ensemblefuse import (
    BlockScaler,
    CommonSpaceProjector,
    FunctionEncoder,
    RetrievalReportDisplay,
    make_fusion_pipeline,
    retrieval_report,
)
from ensemblefuse.scoring.retrieval import chance_of_recall, chance_rank, distinct, partner_ranks, partners

MEASURES = ["recall@1", "recall@5", "recall@10", "median rank"]


class Given:
    """A space whose similarity of a picture and a text is a function of their first columns."""

    def __init__(self, score, blocks=None):
        self.score, self.blocks_ = score, blocks or {"image": np.array([0]), "text": np.array([1])}

    def similarity(self, A, B, *, block_a, block_b):
        if block_a == "text":
            return self.similarity(B, A, block_a=block_b, block_b=block_a).T
        return self.score(np.asarray(A)[:, :1], np.asarray(B)[:, 0])


def near(a, b):
    return -abs(a - b)


def scores(report, column="score"):
    return report.table.pivot(index="query", columns="measure", values=column)[MEASURES]


def test_equal_spaces_find_every_partner_and_a_space_without_differences_none():
    X = np.arange(40.0)[:, None].repeat(2, axis=1)
    assert_allclose(scores(retrieval_report(Given(near), X, "image", "text")), [[1, 1, 1, 1]] * 2)
    blind = scores(retrieval_report(Given(lambda a, b: 0 * (a - b)), X, "image", "text"))
    assert_allclose(blind, [[0, 0, 0, 20.5]] * 2)


def test_random_spaces_find_as_many_as_chance():
    """Of 400 queries, the standard error at 10 of 400 is .008, and the tolerance is four of them."""
    X = np.arange(400.0)[:, None].repeat(2, axis=1)
    draw = np.random.default_rng(0)
    report = retrieval_report(Given(lambda a, b: draw.normal(size=(len(a), len(b)))), X, "image", "text")
    assert_allclose(scores(report, "chance"), [[1 / 400, 5 / 400, 10 / 400, 200.5]] * 2)
    assert_allclose(scores(report).iloc[:, :3], scores(report, "chance").iloc[:, :3], atol=0.032)
    medians = report.table[report.table["measure"] == "median rank"]
    assert ((medians["low"] < 200.5) & (medians["high"] > 200.5) & (medians["high"] - medians["low"] < 60)).all()


def test_a_rank_counts_what_is_better_and_half_of_what_is_equal():
    similarity = np.array([[5.0, 3.0, 3.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    belongs = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0]], dtype=bool)
    assert partner_ranks(similarity, belongs).tolist() == [2.5, 2.5, 2.0]


def test_cells_belong_together_by_rows_and_groups():
    a, b = np.array([7, 7, 3, 5]), np.array([0, 1, 1, 2])
    assert distinct(a).tolist() == [0, 2, 3]
    assert (partners(a, b).toarray() > 0).astype(int).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert (partners(a, b, np.array(["x", "y", "z", "z"])) > 0).toarray().tolist() == [
        [True, True, False],
        [False, True, True],
        [False, True, True],
    ]


def test_chance_counts_all_orders():
    """Two of four are partners: the first is one in 1/2 of the orders, one of the first two in 5/6."""
    assert_allclose(chance_of_recall(np.array([2]), 4, [1, 2, 3, 10]), [1 / 2, 5 / 6, 1, 1])
    assert_allclose(chance_of_recall(np.array([2, 1]), 4, [1]), [3 / 8])
    ranks = [min(x, y) for x in range(1, 5) for y in range(1, 5) if x != y]
    assert chance_rank(np.array([2]), 4) == pytest.approx(np.mean(ranks))


def test_equal_cells_count_once():
    """Ten pictures share one caption, which is found whichever of them asks, and which asks once."""
    text = np.r_[np.zeros(10), np.arange(1.0, 11)]
    X = np.column_stack([np.arange(20.0), text])
    report = retrieval_report(Given(lambda a, b: -abs(np.maximum(a - 9, 0) - b)), X, "image", "text")
    assert report.sizes == {"image": 20, "text": 11} and len(report.ranks["text"]) == 11
    assert_allclose(scores(report)["recall@1"], 1)
    chance = scores(report, "chance")["recall@1"]
    assert chance["image"] == pytest.approx(1 / 11) and chance["text"] == pytest.approx((10 / 20 + 10 / 20) / 11)


def test_groups_are_partners_and_are_drawn_together():
    X, groups = np.arange(60.0)[:, None].repeat(2, axis=1), np.arange(60) // 6
    found = lambda a, b: -abs(a // 6 - b // 6) + 1e-3 * near(a, 59 - b)
    alone, together = (scores(retrieval_report(Given(found), X, "image", "text", g)) for g in (None, groups))
    assert (alone["recall@1"] < 0.2).all() and (together["recall@1"] > 0.9).all()
    by_group = lambda a, b: np.where((a < 30), near(a, b), near(a, -b))  # right in half of the groups
    width = lambda g: scores(retrieval_report(Given(by_group), X, "image", "text", g), "high").loc["image", "recall@1"]
    assert width(groups) > width(None)
    lone = retrieval_report(Given(near), X, "image", "text", ["one"] * 60)
    assert lone.table[["low", "high"]].isna().all(axis=None) and "only one group" in lone.notes[0]


def test_a_space_a_pipeline_and_rows_with_gaps(tmp_path):
    rng = np.random.default_rng(0)
    meaning = rng.normal(size=(120, 3))
    names = [f"{block}__{i}" for block in ("image", "text") for i in range(4)]
    parts = [meaning @ rng.normal(size=(3, 4)) + 0.05 * rng.normal(size=(120, 4)) for _ in range(2)]
    X = pd.DataFrame(np.hstack(parts), columns=names)
    space = CommonSpaceProjector(3, method="cca", reg=1e-3).fit(X[:80])
    new = X[80:].reset_index(drop=True)
    report = retrieval_report(space, new, "image", "text")
    assert (scores(report)["recall@1"] > 0.6).all()
    pd.testing.assert_frame_equal(retrieval_report(space, new[names[::-1]], "image", "text").table, report.table)
    scaled = make_pipeline(BlockScaler(), CommonSpaceProjector(3, method="cca", reg=1e-3))
    scaled.set_output(transform="pandas").fit(X[:80])
    assert_allclose(scores(retrieval_report(scaled, new, "text", "image"))["recall@5"], 1, atol=0.1)
    alone = retrieval_report(make_pipeline(space), new, "image", "text")
    pd.testing.assert_frame_equal(alone.table, report.table)
    new.loc[3, names[:4]] = np.nan
    gaps = retrieval_report(space, new, "image", "text")
    assert gaps.n_rows == 39 and gaps.notes == ["1 of 40 rows lack one of the two blocks and are left out."]
    display = RetrievalReportDisplay.from_estimator(space, new, "image", "text")
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == MEASURES[:3]
    assert "median rank" in str(report) and "<table" in report._repr_html_()


def test_raw_cells_are_encoded_first():
    df = pd.DataFrame({"title": ["x" * i for i in range(40)], "note": ["y" * (2 * i) for i in range(40)]})
    modalities = [(name, FunctionEncoder(lambda text: [len(text)]), name) for name in df]
    pipeline = make_fusion_pipeline(modalities, CommonSpaceProjector(1, method="cca", reg=1e-9)).fit(df[:30])
    lengths = pipeline[:-1].transform(df[30:])
    expected = retrieval_report(pipeline[-1], lengths, "title", "note")
    report = retrieval_report(pipeline, df[30:], "title", "note")
    pd.testing.assert_frame_equal(report.table, expected.table)
    assert report.sizes == {"title": 10, "note": 10}


def test_bad_input_is_named():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 4)), columns=["a__0", "a__1", "b__0", "b__1"])
    space = CommonSpaceProjector(1).fit(X)
    with pytest.raises(ValueError, match=r"block 'c' is unknown; the blocks are \['a', 'b'\]"):
        retrieval_report(space, X, "a", "c")
    with pytest.raises(ValueError, match="a and b are both 'a'; a block finds itself"):
        retrieval_report(space, X, "a", "a")
    with pytest.raises(NotFittedError, match="CommonSpaceProjector instance is not fitted"):
        retrieval_report(CommonSpaceProjector(1), X, "a", "b")
    with pytest.raises(ValueError, match=r"X lacks 1 column of block 'b', such as \['b__1'\]"):
        retrieval_report(space, X.drop(columns="b__1"), "a", "b")
    with pytest.raises(TypeError, match="needs a CommonSpaceProjector"):
        retrieval_report(BlockScaler(), X, "a", "b")
    with pytest.raises(ValueError, match=r"no row of X holds both blocks, 'a' and 'b' \(n_samples = 20\)"):
        retrieval_report(space, X.assign(a__0=np.nan, a__1=np.nan), "a", "b")
    with pytest.raises(ValueError, match="groups has 3 values"):
        retrieval_report(space, X, "a", "b", [1, 2, 3])
