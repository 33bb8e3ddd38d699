"""Strategies by score, latency and cost of modalities."""

import time

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ensemblefuse import (
    CascadeFusionClassifier,
    DecisionFusionClassifier,
    FeatureFusionClassifier,
    FunctionEncoder,
    StrategyComparisonDisplay,
    compare_fusions,
    strategy_comparison,
)
from ensemblefuse.evaluation._strategy_comparison import _seconds_to_encode, _spread, pareto_front

HEAD = LogisticRegression()
EARLY, LATE = FeatureFusionClassifier(HEAD), DecisionFusionClassifier(HEAD, joint=False, cv=2)


def modalities(X):
    blocks = dict.fromkeys(column.split("__")[0] for column in X)
    return [(name, "passthrough", [c for c in X if c.startswith(f"{name}__")]) for name in blocks]


@pytest.fixture(scope="module")
def result():
    X, y = make_blocks(n=90, noise=2.0)
    estimators = {"image": HEAD, "text": HEAD, "audio": "drop"}
    candidates = {"early": EARLY, "without audio": DecisionFusionClassifier(estimators, joint=False)}
    costs = {"image": 0.02, "text": 0.001, "audio": 0.3}
    return strategy_comparison(modalities(X), X, y, candidates=candidates, costs=costs, cv=3, inner_cv=2)


def test_dominated_points_are_out_and_ties_stay():
    goods = np.array([[3, 1], [1, 3], [2, 2], [2, 1], [0, 0], [3, 1], [1, 1]])
    assert pareto_front(goods).tolist() == [True, True, True, False, False, True, False]
    assert pareto_front(np.array([[1.0, 5.0, 0.0]])).all()
    rng = np.random.default_rng(0)
    goods = rng.integers(0, 4, size=(60, 3))
    slow = [not any((b >= a).all() and (b > a).any() for b in goods) for a in goods]
    assert pareto_front(goods).tolist() == slow


def test_a_strategy_costs_what_its_modalities_cost(result):
    cost = result.table["modality_ms"]
    assert_allclose(cost["early"], 321)
    assert_allclose(cost["without audio"], 21)
    assert cost["audio alone"] == 300 and result.table.loc["without audio", "n_modalities"] == 2
    goods = np.column_stack([result.table["score"], -result.table["predict_ms"], -cost])
    assert (result.table["pareto"] == pareto_front(goods)).all()
    assert result.table["pareto"].iloc[0]


def test_scores_and_tests_are_those_of_compare_fusions(result):
    X, y = make_blocks(n=90, noise=2.0)
    plain = compare_fusions(modalities(X), X, y, candidates={"early": EARLY}, cv=3, inner_cv=2)
    assert_allclose(result.comparison.fold_scores["early"], plain.fold_scores["early"])
    assert {"p_value", "p_better", "fit_time"} < set(result.table.columns)
    assert (result.table["predict_ms"] > 0).all()


class SlowMember(LogisticRegression):
    def predict_proba(self, X):
        time.sleep(0.005 * len(X))
        return super().predict_proba(X)


def test_latency_is_that_of_a_row():
    X, y = make_blocks(n=60)
    candidates = {"slow": FeatureFusionClassifier(SlowMember()), "early": EARLY}
    table = strategy_comparison(modalities(X), X, y, candidates=candidates, cv=2, inner_cv=2).table
    assert table.loc["slow", "predict_ms"] > 5  # 150 ms and more a part of 30 rows
    assert table.loc["early", "predict_ms"] < table.loc["slow", "predict_ms"]
    assert (table["modality_ms"] == 0).all()  # nothing is encoded


def _slow(title):
    time.sleep(0.005)
    return [len(title), title.count("x"), title.count("1")]


def test_the_cost_of_an_encoder_is_measured_without_the_cache():
    n = 40
    df = pd.DataFrame({"title": [f"{'x' * (i % 2 * 3)} {i}" for i in range(n)], "price": np.arange(n) % 3})
    df.loc[:4, "title"] = None
    triples = [
        ("text", make_pipeline(FunctionEncoder(_slow), PCA(2)), "title"),
        ("tabular", "passthrough", ["price"]),
    ]
    candidates = {"late": LATE, "cascade": CascadeFusionClassifier(HEAD, cv=2)}
    result = strategy_comparison(triples, df, np.arange(n) % 2, candidates=candidates, cv=2, inner_cv=2)
    assert 0.005 < result.costs["text"] < 0.05 and result.costs["tabular"] == 0
    assert result.table.loc["late", "modality_ms"] == result.table.loc["text alone", "modality_ms"]
    assert "reach the last stage; see expected_cost_" in result.notes[0]


def test_a_modality_that_no_row_holds_costs_nothing_and_that_is_told():
    notes: list[str] = []
    X = pd.DataFrame({"title": pd.Series([None] * 4, dtype=object)})
    assert _seconds_to_encode(("title", FunctionEncoder(_slow), "title"), X, np.random.RandomState(0), notes) == 0
    assert notes == ["No row holds 'title', so its cost is taken as 0; pass costs={'title': seconds}."]


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        (
            {"smell": 1.0},
            r"costs names \['smell'\], which are not modalities; the modalities are \['image', 'text', 'audio'\]",
        ),
        ({"image": -1.0}, r"costs\['image'\] must be a number of at least 0; got -1.0"),
        ({"image": "dear"}, "got 'dear'"),
    ],
)
def test_costs_that_are_none(costs, message):
    X, y = make_blocks(n=30)
    with pytest.raises(ValueError, match=message):
        strategy_comparison(modalities(X), X, y, costs=costs)


def test_the_picture_names_every_strategy_and_no_name_covers_another(result):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is an optional package")
    from matplotlib.text import Text

    figure, ax = pyplot.subplots()
    display = result.plot(ax=ax)
    assert isinstance(display, StrategyComparisonDisplay) and display.ax_ is ax and display.figure_ is figure
    assert {text.get_text() for text in ax.texts} == set(result.table.index)
    alone = result.plot()
    alone.figure_.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in alone.ax_.texts]  # without its line
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert ax.get_title() == "neg_log_loss over 3 folds, 90 rows"
    assert str(result).splitlines()[0].endswith("; costs in milliseconds per row")
    pyplot.close("all")


def test_names_keep_their_order_and_their_distance():
    heights = _spread(np.array([0.5, 0.51, 0.52, 1.0, 0.0, 0.99]), 0.1)
    assert (np.argsort(heights) == [4, 0, 1, 2, 5, 3]).all()
    assert np.diff(np.sort(heights)).min() > 0.0999 and heights.max() <= 1
