"""Redundant, unique and synergistic information of pairs of modalities."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression, Ridge

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    PartialInformationDisplay,
    modality_information,
    partial_information,
)

HEAD = LogisticRegression()
PARTS = ["redundancy", "unique_first", "unique_second", "synergy"]
# The four gates of Bertschinger et al. (2014): all combinations of two bits, and what y is of them.
ONE, OTHER = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
GATES = {
    "xor": (ONE, OTHER, ONE ^ OTHER, [0, 0, 0, 1]),
    "copy": (ONE, ONE, ONE, [1, 0, 0, 0]),
    "unique": (ONE, OTHER, ONE, [0, 1, 0, 0]),
    "and": (ONE, OTHER, ONE & OTHER, [0.3113, 0, 0, 0.5]),
}


@pytest.mark.parametrize("gate", GATES)
def test_the_gates(gate):
    first, second, y, parts = GATES[gate]
    assert_allclose(partial_information(first, second, y).table[PARTS].to_numpy()[0], parts, atol=1e-3)


@pytest.fixture(scope="module")
def noisy():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=400)
    wrong = lambda share: np.where(rng.random(400) < share, rng.integers(3, size=400), y)
    return wrong(0.3), wrong(0.6), y


def mutual(a, b):
    p = pd.crosstab(a, b, normalize=True).to_numpy()
    q = p / (p.sum(0) * p.sum(1)[:, None])
    return (p[p > 0] * np.log2(q[p > 0])).sum()


def test_parts_sum_to_the_informations(noisy):
    first, second, y = noisy
    row = partial_information(first, second, y).table.iloc[0]
    assert_allclose(row[PARTS].sum(), row["total"], atol=1e-5)
    assert_allclose(row["redundancy"] + row["unique_first"], mutual(first, y), atol=1e-5)
    assert_allclose(row["redundancy"] + row["unique_second"], mutual(second, y), atol=1e-5)
    assert_allclose(row["total"], mutual(3 * first + second, y))


def test_names_of_values_and_the_order_of_the_two_do_not_matter(noisy):
    first, second, y = noisy
    row = partial_information(first, second, y).table.iloc[0]
    turned = partial_information(np.array(["c", "a", "b"])[second], -first, y).table.iloc[0]
    assert_allclose(turned[PARTS], row[["redundancy", "unique_second", "unique_first", "synergy"]], atol=1e-5)


def test_a_weight_counts_as_so_many_rows(noisy):
    first, second, y = (values[:60] for values in noisy)
    times = np.random.default_rng(1).integers(3, size=60)
    weighted = partial_information(first, second, y, sample_weight=times).table.iloc[0]
    repeated = partial_information(*(np.repeat(v, times) for v in (first, second, y))).table.iloc[0]
    assert_allclose(weighted[PARTS], repeated[PARTS], atol=1e-5)


def test_chance_with_few_rows_is_told():
    rng = np.random.default_rng(0)
    result = partial_information(*rng.integers(4, size=(3, 50)))
    assert result.table["total"].iloc[0] > 0.5  # though nothing is there
    assert "may be chance (too few rows per cell): first + second" in result.notes[0]
    assert not partial_information(ONE.repeat(50), OTHER.repeat(50), ONE.repeat(50)).notes


def test_the_bias_is_what_shuffled_labels_have(noisy):
    first, second, y = noisy
    rng = np.random.default_rng(0)
    found = [mutual(3 * first + second, rng.permutation(y)) for _ in range(100)]
    assert_allclose(partial_information(first, second, y).table["bias"], np.mean(found), rtol=0.25)


def test_a_copied_modality_is_redundant_and_from_the_ledger_nothing_is_fitted(monkeypatch):
    X, y = make_blocks(n=150, widths={"image": 3, "text": 2})
    X = X.join(X.filter(regex="image").add_prefix("copy_"))
    model = DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y)
    monkeypatch.setattr(LogisticRegression, "fit", lambda *_, **__: pytest.fail("a head was fitted"))
    result = modality_information(model)
    copied = result.table.loc[("image", "copy_image")]
    assert copied["redundancy"] == pytest.approx(copied["total"], abs=0.01) and copied["total"] > 0.3
    assert result.table.loc[("image", "text"), PARTS].min() >= 0
    assert "out-of-fold predictions of 150 rows" in result.caption


def test_rows_that_lack_one_of_the_pair_are_left_out():
    X, y = make_blocks(n=120)
    X.loc[:19, X.filter(regex="text").columns] = np.nan
    table = modality_information(DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y)).table
    assert table["n_rows"].to_dict() == {("image", "text"): 100, ("image", "audio"): 120, ("text", "audio"): 100}


def test_given_rows_serve_where_there_is_no_ledger():
    X, y = make_blocks(n=150)
    model = FeatureFusionClassifier(HEAD).fit(X[:100], y[:100])
    assert modality_information(model, X[100:], y[100:]).table["n_rows"].eq(50).all()


def test_what_cannot_be_decomposed_says_what_to_do():
    X, y = make_blocks(n=120, widths={"image": 2, "text": 2})
    with pytest.raises(TypeError, match="for a regressor, bin the predictions and y"):
        modality_information(DecisionFusionRegressor(Ridge(), cv=2).fit(X, np.arange(120.0)))
    with pytest.raises(ValueError, match=r"the model has only \['image'\]"):
        modality_information(DecisionFusionClassifier(HEAD, cv=2).fit(X.filter(regex="image"), y))
    with pytest.raises(ValueError, match="17 classes, which make 4913 combinations"):
        modality_information(DecisionFusionClassifier(HEAD, cv=2).fit(X, np.arange(120) % 17))
    with pytest.raises(ValueError, match="must have one length; got 3, 4, 4 and 4"):
        partial_information(ONE[:3], OTHER, ONE)
    with pytest.raises(ValueError, match="first is missing in row 1"):
        partial_information([1.0, np.nan], [1, 2], [1, 2])
    many = np.tile(np.arange(20), 20 * 20)
    with pytest.raises(ValueError, match="8000 combinations of values; the limit is 2744"):
        partial_information(many, np.repeat(np.arange(20), 400), np.tile(np.repeat(np.arange(20), 20), 20))


def test_the_picture_lays_the_parts_end_to_end(noisy):
    first, second, y = noisy
    display = PartialInformationDisplay.from_predictions(y, first, second)
    row = display.result.table.iloc[0]
    assert [bar.get_width() for bar in display.ax_.patches] == pytest.approx(row[PARTS].to_list())
    assert display.ax_.patches[3].get_x() + display.ax_.patches[3].get_width() == pytest.approx(row["total"], abs=1e-5)
