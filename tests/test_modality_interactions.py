"""Synergy and redundancy of pairs of modalities, on planted data."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, SVR

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    KernelFusionClassifier,
    ModalityInteractionsDisplay,
    modality_interactions,
)

HEAD = LogisticRegression()


def xor(n=160, random_state=0):
    rng = np.random.default_rng(random_state)
    one, other = rng.permutation(np.arange(n) % 2), rng.permutation(np.arange(n) % 2)
    noise = 0.3 * rng.normal(size=(n, 2))
    X = pd.DataFrame({"image__0": 2 * one - 1 + noise[:, 0], "text__0": 2 * other - 1 + noise[:, 1]})
    return X, one ^ other


@pytest.mark.parametrize(
    ("worth", "interaction"),
    [((0.5, 0.5, 0.5, 1.0), 0.5), ((0.5, 1.0, 1.0, 1.0), -0.5), ((0.5, 0.7, 0.6, 0.8), 0.0)],
)
def test_the_index_of_accuracies(worth, interaction):
    """Exclusive or, copy, additive: predictions of just these accuracies."""
    y, right = np.tile([0, 1], 50), np.arange(100)
    said = [np.eye(2)[np.where(right < 100 * share, y, 1 - y)] for share in worth]
    predictions = dict(zip([(), ("a",), ("b",), ("a", "b")], said, strict=True))
    display = ModalityInteractionsDisplay.from_predictions(y, predictions, metric="accuracy", n_resamples=50)
    assert_allclose(display.result.table["interaction"], [interaction], atol=1e-12)


def test_an_exclusive_or_is_synergy_where_the_joint_member_sees_it():
    X, y = xor()
    heads = {"image": HEAD, "text": HEAD, "joint": SVC()}
    result = modality_interactions(DecisionFusionClassifier(heads, cv=3).fit(X, y), metric="accuracy")
    row = result.table.loc[("image", "text")]
    assert row["kind"] == "synergy" and row["interaction"] == pytest.approx(0.5, abs=0.15)
    assert "joint=True" in row["advice"] and "KernelFusionClassifier(combine='product')" in row["advice"]
    assert result.n_fits == 0 and not result.notes


def test_the_advice_can_be_followed():
    X, y = xor()
    product = KernelFusionClassifier(C=10.0, combine="product", cv=3).fit(X, y)
    assert product.score(*xor(random_state=1)) > 0.9
    assert DecisionFusionClassifier(HEAD, cv=3).fit(X, y).score(*xor(random_state=1)) < 0.7


def test_an_exclusive_or_is_synergy_in_a_refit_of_one_model():
    X, y = xor()
    model = FeatureFusionClassifier(KNeighborsClassifier(9)).fit(X, y)
    result = modality_interactions(model, X, y, method="refit", cv=3)
    assert result.table["kind"].to_list() == ["synergy"] and result.n_fits == 9


def test_a_copy_is_redundancy_and_noise_is_neither():
    X, y = make_blocks(n=120, n_classes=2, widths={"image": 3, "noise": 1})
    X["noise__0"] = np.random.default_rng(1).normal(size=len(X))
    X = X.join(X.filter(regex="image").add_prefix("copy_"))
    result = modality_interactions(DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y))
    assert result.table.index[0] == ("image", "copy_image")
    assert result.table["kind"].to_list() == ["redundancy", "neither", "neither"]
    assert result.matrix.loc["copy_image", "image"] == result.table["interaction"].iloc[0]
    assert np.isnan(np.diag(result.matrix)).all()


def test_a_joint_member_over_three_blocks_is_noted():
    X, y = make_blocks(n=90)
    notes = modality_interactions(DecisionFusionClassifier(HEAD, cv=3).fit(X, y), n_resamples=20).notes
    assert "The joint member is left out" in notes[0] and "Synergy that only the joint member uses" in notes[1]


def test_regression_names_its_own_kernel_fusion():
    X, _ = xor()
    y = (X["image__0"] * X["text__0"]).to_numpy()
    heads = {"image": Ridge(), "text": Ridge(), "joint": SVR(C=10.0)}
    row = modality_interactions(DecisionFusionRegressor(heads, cv=3).fit(X, y)).table.iloc[0]
    assert row["kind"] == "synergy" and "KernelFusionRegressor" in row["advice"]


def test_one_modality_has_no_pairs():
    X, y = make_blocks(n=60, widths={"image": 3})
    with pytest.raises(ValueError, match=r"needs two modalities; the model has only \['image'\]"):
        modality_interactions(DecisionFusionClassifier(HEAD, cv=2).fit(X, y))


def test_the_picture_has_the_numbers():
    X, y = make_blocks(n=90)
    display = modality_interactions(DecisionFusionClassifier(HEAD, cv=3).fit(X, y), n_resamples=20).plot()
    written = sorted({float(text.get_text()) for text in display.ax_.texts})
    assert_allclose(written, sorted(display.result.table["interaction"]), atol=1e-3)
    assert "90 rows" in display.ax_.get_title()
