"""Modalities that arrive late, and what all of them give away together."""

import itertools
import threading

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from test_split_model import decision, fitted, letters, modalities, numbers, say, send, table

from ensemblefuse import (
    DecisionFusionClassifier,
    EmbeddingNoise,
    FeatureFusionClassifier,
    FunctionEncoder,
    PartialRows,
    make_fusion_pipeline,
    privacy_spent,
    split_model,
)
from ensemblefuse.deployment._sent import SentPredictions


@pytest.fixture(scope="module")
def model():
    return fitted(decision())


@pytest.fixture(scope="module")
def parts(model):
    return split_model(model)


@pytest.fixture(scope="module")
def sent(parts):
    return send(parts, table(12, missing=False, seed=1)[0])


def test_at_each_arrival_the_prediction_is_that_of_the_whole_model_for_what_is_there(model, parts, sent):
    X = table(12, missing=False, seed=1)[0]
    columns = {"text": ["title"], "sound": ["clip"], "tabular": ["price", "weight"]}
    for order in itertools.permutations(columns):
        rows = PartialRows(parts.fusion)
        hidden = X.assign(title=None, clip=None, price=np.nan, weight=np.nan)
        for name in order:
            for id in X.index[:3]:
                rows.add(id, name, sent.at[id, name])
            hidden[columns[name]] = X[columns[name]]
            proba = rows.predict_proba()
            assert proba.index.tolist() == X.index[:3].tolist() and proba.columns.tolist() == model.classes_.tolist()
            assert_allclose(proba, say(model, hidden[:3]), atol=1e-6)
            assert rows.complete(X.index[0]) == (name == order[-1])


def test_rows_are_known_by_id_and_leave_by_it(parts, sent):
    rows = PartialRows(parts.fusion)
    assert rows.predict_proba().shape == (0, 3) and len(rows.predict()) == 0
    buffer = sent.at["row 3", "text"].copy()
    assert rows.add(("a", 1), "text", buffer) == []
    buffer[:] = 0
    rows.add("b", "sound", sent.at["row 4", "sound"])
    assert len(rows) == 2 and "b" in rows and "c" not in rows
    assert rows.missing(("a", 1)) == ["sound", "tabular"]
    assert rows.predict(["b", ("a", 1)]).index.tolist() == ["b", ("a", 1)]
    before = rows.predict_proba(["b"])
    rows.add("b", "sound", sent.at["row 5", "sound"])  # again: it replaces
    assert not np.allclose(rows.predict_proba(["b"]), before)
    assert_array_equal(rows.pop(("a", 1))["text"], sent.at["row 3", "text"])
    for ask in (rows.pop, rows.missing, rows.complete, lambda id: rows.predict([id])):
        with pytest.raises(KeyError, match=r"the store has no vector of sample .*'a', 1"):
            ask(("a", 1))


def test_its_repr_shows_which_modalities_wait_for_how_many_rows(parts, sent):
    rows = PartialRows(parts.fusion, max_samples=5)
    assert repr(rows) == "PartialRows(0 of at most 5 samples)"
    for id, name in [("a", "text"), ("b", "sound"), ("c", "text"), ("c", "sound")]:
        rows.add(id, name, sent.at["row 0", name])
    shown = "PartialRows(3 of at most 5 samples; waiting for text in 1, sound in 1, tabular in 3)"
    assert repr(rows) == shown
    rows.pop("a"), rows.pop("b")
    rows.add("c", "tabular", sent.at["row 0", "tabular"])
    assert repr(rows) == "PartialRows(1 of at most 5 samples; all complete)"


def test_a_full_store_says_so_or_says_what_it_dropped(parts, sent):
    vector = sent.at["row 0", "text"]
    rows = PartialRows(parts.fusion, max_samples=2)
    rows.add(1, "text", vector), rows.add(2, "text", vector)
    with pytest.raises(RuntimeError, match="holds max_samples=2 samples and has no room for 3"):
        rows.add(3, "text", vector)
    assert rows.add(1, "sound", sent.at["row 0", "sound"]) == [] and 3 not in rows
    rows = PartialRows(parts.fusion, max_samples=2, on_full="drop_oldest")
    assert [rows.add(i, "text", vector) for i in (1, 2, 1, 3, 4)] == [[], [], [], [1], [2]]
    assert rows.n_dropped == 2 and rows.predict().index.tolist() == [3, 4]


def test_what_does_not_belong_is_refused_and_not_stored(parts, sent, model):
    rows = PartialRows(parts.fusion)
    with pytest.raises(ValueError, match=r"modality must be one of \['text', 'sound', 'tabular'\]; got 'smell'"):
        rows.add(1, "smell", [0.0])
    with pytest.raises(ValueError, match=r"'sound' of sample 1: 4 numbers, where .* have 3"):
        rows.add(1, "sound", np.zeros(4))
    with pytest.raises(ValueError, match="'sound' of sample 1: 1 of its 3 numbers are NaN"):
        rows.add(1, "sound", [0.0, np.nan, 1.0])
    with pytest.raises(TypeError, match="'sound' of sample 1: expected a vector of numbers"):
        rows.add(1, "sound", "abc")
    with pytest.raises(ValueError, match="'sound': the vectors were made by the recipe 'another'"):
        rows.add(1, "sound", np.zeros(3), recipe="another")
    assert len(rows) == 0
    rows.add(1, "sound", np.zeros(3), recipe=parts.edge["sound"].digest())
    with pytest.raises(TypeError, match="the fusion part of split_model"):
        PartialRows(model)
    with pytest.raises(ValueError, match="max_samples must be"):
        PartialRows(parts.fusion, max_samples=0)
    with pytest.raises(ValueError, match="on_full must be"):
        PartialRows(parts.fusion, on_full="wait")


def test_a_vector_that_holds_no_probabilities_spoils_no_other_sample():
    X, y = table(missing=False)
    heads = dict.fromkeys(["text", "tabular"], LogisticRegression())
    heads["sound"] = [LogisticRegression(), LogisticRegression(C=0.1)]
    fusion = DecisionFusionClassifier(heads, cv=3, joint=False)
    parts = split_model(make_fusion_pipeline(modalities(), fusion).fit(X, y), send="probabilities")
    sent = send(parts, X)
    rows = PartialRows(parts.fusion)
    rows.add("good", "sound", sent.at["row 1", "sound"])
    before = rows.predict_proba()
    good = [0.2, 0.3, 0.5]
    for bad in ([*good, 5.0, 5.0, 90.0], [-0.2, 0.7, 0.5, *good], [*good, 0.0, 0.0, 0.0]):
        with pytest.raises(ValueError, match=r"'sound' of sample 'bad': 1 of 2 vectors do not hold probabilities"):
            rows.add("bad", "sound", bad)
    for bad in ([np.inf, *good, *good][:6], [1e300, *good, *good][:6], good):
        with pytest.raises(ValueError, match="'sound' of sample 'bad': "):
            rows.add("bad", "sound", bad)
    pd.testing.assert_frame_equal(rows.predict_proba(), before)


def test_threads_add_and_ask_at_once(parts, sent):
    rows, errors = PartialRows(parts.fusion), []

    def work(name):
        try:
            for id in sent.index:
                rows.add(id, name, sent.at[id, name])
                rows.predict_proba([id])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in parts.edge]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert errors == []
    assert_allclose(rows.predict_proba(sent.index), say(parts.fusion, sent))


@pytest.mark.parametrize("vector", [[-0.2, 0.3, 0.9], [5.0, 5.0, 90.0], [0.0, 0.0, 0.0]])
def test_numbers_that_are_no_probabilities_are_an_error(vector):
    head = SentPredictions(1, n_classes=3)
    with pytest.raises(ValueError, match=r"1 of 2 vectors do not hold probabilities.* the first has \["):
        head.decision_function([[0.2, 0.3, 0.5, 0.0, 0.0, 1.0], [0.2, 0.3, 0.5, *vector]])


def test_what_is_spent_adds_up_over_modalities_and_releases():
    X, y = table(missing=False)
    quiet = EmbeddingNoise("gaussian", epsilon=3.0, delta=1e-5)
    plan = [
        ("text", make_pipeline(FunctionEncoder(letters), quiet), "title"),
        ("sound", make_pipeline(FunctionEncoder(numbers), EmbeddingNoise(epsilon=2.0)), "clip"),
        ("tabular", EmbeddingNoise(epsilon=0.5), ["price", "weight"]),
    ]
    fusion = FeatureFusionClassifier(LogisticRegression())
    model = make_fusion_pipeline(plan, fusion).fit(X, y)
    spent = privacy_spent(model, n_releases=2)
    assert spent.index.tolist() == ["text", "sound", "tabular", "total"]
    assert spent["epsilon"].tolist() == [6.0, 4.0, 1.0, 11.0]
    assert_allclose(spent["delta"], [2e-5, 0, 0, 2e-5])
    parts = split_model(model)
    pd.testing.assert_frame_equal(privacy_spent(parts, n_releases=2), spent)
    assert privacy_spent(parts.edge["sound"])["epsilon"].tolist() == [2.0, 2.0]
    assert (parts.edge["tabular"].transform(X).iloc[0, 0] != parts.edge["tabular"].transform(X).iloc[0, 0]).all()
    open_ = privacy_spent(make_fusion_pipeline([*plan[:2], modalities()[2]], fusion).fit(X, y))
    assert open_.loc["tabular"].tolist() == ["none", np.inf, 0.0] and np.isinf(open_.loc["total", "epsilon"])
    model[0].set_params(transformers=[("text", plan[0][1], "title")], remainder="passthrough")
    told = privacy_spent(model.fit(X[["title", "price", "weight"]], y))
    assert told["epsilon"].tolist() == [3.0, np.inf, np.inf]
    with pytest.raises(ValueError, match=r"\['price', 'weight'\] pass as remainder"):
        split_model(model)
    with pytest.raises(ValueError, match="n_releases"):
        privacy_spent(model, n_releases=0)
    with pytest.raises(TypeError, match="begins with a ModalityTransformer"):
        privacy_spent(model[-1])
