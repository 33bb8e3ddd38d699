"""Errors by which modalities were right and which wrong."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from sklearn.linear_model import LogisticRegression, Ridge

from ensemblefuse import (
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    DisagreementClustersDisplay,
    FeatureFusionClassifier,
    disagreement_clusters,
)
from ensemblefuse.fitted.subsets import predict_subsets

HEAD = LogisticRegression()


@pytest.fixture(scope="module")
def gaps():
    X, y = make_blocks(n=150, noise=1.5)
    X.loc[:19, [c for c in X if c.startswith("text")]] = np.nan
    return X, y


@pytest.fixture(scope="module")
def fitted(gaps):
    return DecisionFusionClassifier(HEAD, cv=3).fit(*gaps)


def test_every_error_is_in_one_pattern(fitted, gaps):
    found = disagreement_clusters(fitted, n_clusters=3)
    fused = fitted.classes_[predict_subsets(fitted, [fitted.blocks_], as_deployed=True).predictions[0].argmax(axis=1)]
    assert sorted(found.errors.index) == np.flatnonzero(fused != gaps[1]).tolist()
    assert found.table["errors"].sum() == len(found.errors) and found.table["share"].sum() == pytest.approx(1)
    assert found.table.index[-1] == "other patterns" and len(found.table) == 4
    assert (found.table["error_rate"] == found.table["errors"] / found.table["rows"]).all()


def test_a_planted_disagreement_is_named():
    """One modality is turned round in some rows, another is missing there."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    X = pd.DataFrame({"image__0": 4.0 * y, "text__0": 4.0 * y + rng.normal(size=120), "audio__0": rng.normal(size=120)})
    model = DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y)
    test = X.set_axis([f"r{i}" for i in range(120)])
    test.iloc[:6, 0] = 4.0 - test.iloc[:6, 0]
    test.iloc[:6, 1] = np.where(y[:6] == 1, 2.5, 1.5)  # right, and less sure than the image
    test.iloc[:6, 2] = np.nan
    found = disagreement_clusters(model, test, y)
    first = found.table.iloc[0]
    assert found.table.index[0] == "image wrong, text right, audio missing"
    assert first["errors"] == first["rows"] == 6 and first["error_rate"] == 1 and first["same_label"] == 0
    assert first["confusions"] == "0 → 1 (3); 1 → 0 (3)"
    assert found.patterns.iloc[0].tolist() == ["wrong", "right", "missing"]
    assert found.errors.loc["r0"].tolist()[1:] == [0, 1] and found.said.loc["r0"].tolist() == [1, 0, None]


def test_modalities_may_be_called_like_columns(gaps):
    X, y = gaps
    plain = disagreement_clusters(DecisionFusionClassifier(HEAD, cv=3).fit(X, y))
    names = {"image": "true", "text": "label", "audio": "fused"}
    renamed = X.rename(columns=lambda c: "__".join([names[c.split("__")[0]], c.split("__")[1]]))
    found = disagreement_clusters(DecisionFusionClassifier(HEAD, cv=3).fit(renamed, y))
    assert found.table.to_numpy().tolist() == plain.table.to_numpy().tolist()
    assert found.errors[["true", "fused"]].equals(plain.errors[["true", "fused"]])
    assert found.said.columns.tolist() == [*names.values()]
    assert found.said.to_numpy().tolist() == plain.said.to_numpy().tolist()


def test_modalities_that_all_say_the_same_wrong_label_are_counted():
    y = np.arange(60) % 2
    X = pd.DataFrame({"image__0": 4.0 * y, "text__0": 4.0 * y})
    model = DecisionFusionClassifier(HEAD, cv=3, joint=False).fit(X, y)
    labels = np.where(np.arange(60) < 4, 1 - y, y)
    table = disagreement_clusters(model, X, labels).table
    assert table.loc["image wrong, text wrong", ["errors", "same_label"]].tolist() == [4, 4] and len(table) == 1
    assert disagreement_clusters(model, X, y).table.empty


def test_the_ledger_is_asked_and_nothing_is_fitted(fitted, monkeypatch):
    monkeypatch.setattr(LogisticRegression, "fit", lambda *_, **__: pytest.fail("a head was fitted"))
    assert disagreement_clusters(fitted).n_fits == 0


def test_a_wrong_question_says_what_to_do(fitted, gaps):
    X, y = gaps
    with pytest.raises(ValueError, match="keeps no out-of-fold predictions"):
        disagreement_clusters(FeatureFusionClassifier(HEAD).fit(X, y))
    with pytest.raises(ValueError, match="is for classifiers"):
        disagreement_clusters(DecisionFusionRegressor(Ridge(), cv=2).fit(X, X["image__0"]))
    with pytest.raises(ValueError, match="give X and y together"):
        disagreement_clusters(fitted, X)
    with pytest.raises(ValueError, match="n_clusters must be"):
        disagreement_clusters(fitted, n_clusters=0)


def test_the_picture_has_a_bar_a_pattern_and_a_mark_a_modality(fitted, gaps):
    pytest.importorskip("matplotlib").use("Agg")
    display = DisagreementClustersDisplay.from_estimator(fitted, n_clusters=4)
    table = display.result.table
    assert [bar.get_width() for bar in display.ax_.patches] == table["errors"].tolist()
    assert sum(len(marks.get_offsets()) for marks in display.ax_.collections) == 4 * 3
    names = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert names[:3] == ["image", "text", "audio"]
    none = disagreement_clusters(fitted, gaps[0], fitted.predict(gaps[0])).plot()
    assert not none.ax_.patches
