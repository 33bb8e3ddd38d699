"""Networks on texts: order of words, vocabulary, a pretrained network that is cut and tuned, bad cells, the house."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from text_folders import make_bert
from torch import nn

from ensemblefuse import (
    DecisionFusionClassifier,
    EncodingError,
    FineTunedEncoder,
    MissingModalityWarning,
    TextEncoder,
    TextNetworkClassifier,
    TextNetworkRegressor,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.backbones.text_model import sentence_network
from ensemblefuse.networks._prefix import Prefix

SMALL = {"n_members": 1, "max_epochs": 2, "random_state": 0}
FILLERS = ["one", "two", "three", "four", "five", "six"]


def sentences(n=24, seed=0):
    """Texts of 3 to 8 words, of which one is "cat" or "dog"; and which."""
    rng = np.random.default_rng(seed)
    y = np.array(["cat", "dog"])[np.arange(n) % 2]
    texts = []
    for word in y:
        words = rng.choice(["the", "red", "blue", "runs", "fast", "house"], size=rng.integers(2, 8)).tolist()
        words.insert(rng.integers(len(words) + 1), word)
        texts.append(" ".join(words))
    return texts, y


@pytest.fixture(scope="module")
def data():
    return sentences()


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def passes(monkeypatch):
    """How many texts went through frozen prefixes."""
    counted, original = [], Prefix.encode_batch
    monkeypatch.setattr(Prefix, "encode_batch", lambda self, items: counted.append(len(items)) or original(self, items))
    return counted


def table(texts, **columns):
    return pd.DataFrame({"title": pd.Series(list(texts), dtype=object), **columns})


# ---------------------------------------------------------------------- from scratch


def test_the_order_of_words_is_learned_that_a_bag_of_words_does_not_know():
    rng = np.random.default_rng(0)

    def ordered(n):
        texts, before = [], rng.integers(2, size=n)
        for first in before:
            words = rng.choice(FILLERS, size=6).tolist()
            places = np.sort(rng.choice(6, size=2, replace=False))
            words[places[0]], words[places[1]] = ("a", "b") if first else ("b", "a")
            texts.append(" ".join(words))
        return texts, before

    (seen, y), (unseen, truth) = ordered(240), ordered(200)
    model = TextNetworkClassifier(augment="none", **{**SMALL, "max_epochs": 6})
    assert model.fit(seen, y).score(unseen, truth) >= 0.95
    bag = make_pipeline(CountVectorizer(token_pattern=r"\w+"), LogisticRegression()).fit(seen, y)
    assert abs(bag.score(unseen, truth) - 0.5) < 0.1


def test_the_vocabulary_is_of_training_rows_with_a_weight(data):
    texts, y = data
    more = [*texts, "zebra one", "zebra two", "walrus", "walrus", None]
    labels = [*y, "cat", "dog", "cat", "dog", "cat"]
    weight = np.r_[np.ones(len(texts) + 2), 0, 0, 1]
    model = TextNetworkClassifier(**SMALL).fit(more, labels, sample_weight=weight)
    known = model.vocabulary_.tolist()
    assert "zebra" in known and not {"walrus", "one"} & set(known) and len(known) == len(set(known)) == 9
    assert model.state_["0.body.words.weight"].shape == (10, 64)
    assert clone(model).set_params(max_words=3).fit(more, labels).vocabulary_.tolist() == known[:3]
    # Words that it does not know are all the same to it.
    assert_array_equal(model.predict_proba(["the walrus runs"]), model.predict_proba(["the narwhal runs"]))


def test_signs_of_scripts_without_blanks_are_words():
    model = TextNetworkClassifier(**SMALL).fit(["猫睡着了", "狗睡着了"] * 6, ["cat", "dog"] * 6)
    assert set(model.vocabulary_) == set("猫睡着了狗")


def test_a_row_does_not_depend_on_the_lengths_beside_it(data, bert):
    texts, y = data
    long = " ".join(["the red house"] * 8)
    for backbone in (None, bert):
        model = TextNetworkClassifier(backbone, **SMALL).fit(texts, y)
        alone = np.vstack([model.predict_proba([text]) for text in texts[:3]])
        assert_allclose(model.predict_proba([*texts[:3], long])[:3], alone, rtol=0, atol=1e-6 if backbone else 1e-12)
    short = [" ".join(text.split()[:4]) for text in texts]
    cut = clone(model).set_params(backbone=None, max_length=4).fit(short, y)
    with pytest.warns(UserWarning, match="cut 1 cell of"):
        beginning = cut.predict_proba(["the red cat runs fast"])
    assert_array_equal(beginning, cut.predict_proba(["the red cat runs"]))


def test_words_are_left_out_in_training_alone(data):
    texts, y = data
    calls = []

    def shortened(text, rng):
        calls.append(text)
        return text.partition(" ")[2] or text

    model = TextNetworkClassifier(augment=shortened, **SMALL).fit(texts, y)
    assert len(calls) == 2 * len(texts)
    model.predict(texts)
    assert len(calls) == 2 * len(texts)
    reader = TextNetworkClassifier(**SMALL).fit(texts, y)._reader()
    lengths = [len(reader.array("red " * 100, np.random.default_rng(seed))) for seed in range(20)]
    assert 85 < np.mean(lengths) < 95 and len(reader.array("red " * 100)) == 100
    assert len(reader.array("red", np.random.default_rng(0))) == 1


def test_numbers_are_learned(data, bert):
    texts, y = data
    numbers = np.where(y == "cat", 10.0, 30.0)
    model = TextNetworkRegressor(augment="none", **{**SMALL, "max_epochs": 6}).fit(texts, numbers)
    assert model.score(texts, numbers) > 0.9
    tuned = TextNetworkRegressor(bert, **SMALL).fit([*texts, None], [*numbers, 20.0])
    assert tuned.predict([None]) == [20.0] and tuned.predict(texts).shape == (24,)


@pytest.mark.parametrize("kind", [TextNetworkClassifier, TextNetworkRegressor])
@pytest.mark.parametrize(
    "check",
    ["check_parameters_default_constructible", "check_no_attributes_set_in_init", "check_get_params_invariance"],
)
def test_checks_of_scikit_learn_that_ask_for_no_table(kind, check):
    """Those that do are run on the base of these classes: see test_cell_networks."""
    getattr(estimator_checks, check)(kind.__name__, kind())


# ---------------------------------------------------------------------- a pretrained network


def test_stages_after_one_another_are_the_network(bert, data):
    network = sentence_network(str(bert), device="cpu", needed_by="Test")
    stages = network.stages()
    assert len(stages) == 3  # vectors of tokens, two layers
    model = TextNetworkClassifier(str(bert), train="head", **SMALL).fit(*data)
    expected = TextEncoder(str(bert), device="cpu").fit_transform(data[0])
    assert_allclose(model.transform(data[0]), expected, atol=1e-5)
    whole = TextNetworkClassifier(str(bert), train="all", learning_rate=1e-12, **SMALL).fit(*data)
    assert_allclose(whole.transform(data[0]), expected, atol=1e-5)


def test_layers_that_take_other_arguments_are_one_stage(bert, monkeypatch):
    network = sentence_network(str(bert), device="cpu", needed_by="Test")
    monkeypatch.setattr("ensemblefuse.backbones.text_stages._LAYERS", ("elsewhere",))
    (whole,) = network.stages()
    assert_allclose(whole(torch.tensor([[2, 7, 9, 3]])).numpy(), network.encode(["red cat"], 1), atol=1e-6)


@pytest.mark.parametrize(
    ("train", "lora", "trained"),
    [("head", 0, 0), ("last", 0, 16), (2, 0, 32), ("last", 2, 6), ("all", 0, 37)],
)
def test_what_should_be_trained_has_changed_and_the_shared_network_has_not(data, bert, train, lora, trained):
    shared = sentence_network(str(bert), device="cpu", needed_by="Test")
    stages = nn.Sequential(*shared.stages())
    before = copy.deepcopy(stages.state_dict())
    model = TextNetworkClassifier(str(bert), train=train, lora=lora, learning_rate=0.01, **SMALL).fit(*data)
    names = [name for name in model.state_ if ".body." in name]
    assert len(names) == trained
    skipped = 3 - {"head": 0, "last": 1, "all": 3}.get(train, train)
    for name in names:
        stage, _, rest = name.removeprefix("0.body.").partition(".")
        start = before.get(f"{int(stage) + skipped}.{rest}", torch.zeros(())).numpy()
        if "key.bias" not in name:  # a softmax over keys does not change with it
            assert not np.array_equal(model.state_[name], np.broadcast_to(start, model.state_[name].shape)), name
    if lora:
        assert {name.split(".")[-5] for name in names} == {"query", "key", "value"}
    assert all(torch.equal(value, before[name]) for name, value in stages.state_dict().items())
    assert not any(p.requires_grad for p in stages.parameters())
    assert_allclose(pickle.loads(pickle.dumps(model)).predict_proba(data[0]), model.predict_proba(data[0]), atol=1e-6)


def test_a_second_fit_runs_no_prefix(data, bert, passes):
    texts, y = data
    model = TextNetworkClassifier(str(bert), n_views=2, **SMALL).fit(texts, y)
    assert sum(passes) == 2 * len(set(texts))
    passes.clear()
    clone(model).set_params(random_state=7, n_members=2, early_stopping=True, cv=2, lora=2).fit(texts[::-1], y[::-1])
    model.predict(texts)
    assert not passes


def test_training_starts_from_the_frozen_networks_linear_model(data, bert):
    slow = {**SMALL, "learning_rate": 1e-12}
    frozen = TextNetworkClassifier(str(bert), train="head", **slow).fit(*data).predict_proba(data[0])
    for lora in (0, 2):
        tuned = TextNetworkClassifier(str(bert), train=2, lora=lora, head="own", **slow).fit(*data)
        assert_allclose(tuned.predict_proba(data[0]), frozen, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": 4}, "asks for 4 stages, and the backbone has 3"),
        ({"backbone": "use-multilingual-v3"}, "TextNetworkClassifier: backbone=.* has no layers that can be trained"),
        ({"backbone": "all-MiniLM-L6-v3"}, "unknown model 'all-MiniLM-L6-v3'. Did you mean 'all-MiniLM-L6-v2'"),
        ({"max_length": 2}, "max_length must be a whole number of at least 3; got 2"),
        ({"max_words": 0}, "max_words must be a whole number of at least 1; got 0"),
        ({"learning_rate": "fast"}, "learning_rate must be a number above 0; got 'fast'"),
        ({"backbone": None, "lora": 2}, "lora needs a pretrained network, and backbone is None"),
    ],
)
def test_wrong_parameters_are_told(data, bert, changes, message):
    with pytest.raises(ValueError, match=message):
        TextNetworkClassifier(**{"backbone": str(bert), **SMALL, **changes}).fit(*data)


# ---------------------------------------------------------------------- cells and the house


def test_bad_cells_are_told_by_row_and_column_or_become_missing(data, bert):
    texts, y = data
    bad = table(texts).set_axis([f"r{i}" for i in range(len(texts))])
    bad.iloc[3, 0] = 7
    for backbone in (None, str(bert)):
        model = TextNetworkClassifier(backbone, **SMALL)
        with pytest.raises(EncodingError, match=r"1 of 24 cells:\n.*row 'r3'.*'title'.*expected text, got int"):
            model.fit(bad, y)
        lenient = clone(model).set_params(on_error="missing")
        with pytest.warns(MissingModalityWarning, match="treats 1 of 24 cells as missing"):
            lenient.fit(bad, y)
        with pytest.warns(MissingModalityWarning):
            assert_array_equal(lenient.predict_proba(bad.iloc[[3]])[0], lenient.prior_)
        assert_array_equal(lenient.predict_proba(table([" "]))[0], lenient.prior_)


def test_a_model_file_gives_equal_predictions(data, bert, tmp_path):
    texts, y = data
    for backbone in (None, str(bert)):
        model = TextNetworkClassifier(backbone, **SMALL).fit(texts, y)
        path = save_model(model, tmp_path / "m.fuse", example=table(texts[:2]))
        assert_array_equal(load_model(path).predict_proba(texts), model.predict_proba(texts))


def test_as_a_blocks_estimator_it_is_fitted_in_every_fold(data):
    texts, y = data
    df = table(texts, price=np.random.default_rng(0).normal(size=len(y)))
    modalities = [("text", "passthrough", ["title"]), ("tabular", "passthrough", ["price"])]
    estimators = {"text": TextNetworkClassifier(**SMALL), "tabular": LogisticRegression()}
    fusion = DecisionFusionClassifier(estimators, joint=False, cv=3)
    model = make_fusion_pipeline(modalities, fusion).fit(df, y)
    assert model["fuse"].member_names_ == ["text", "tabular"] and model.score(df, y) > 0.6


def test_a_tuned_network_encodes_other_texts(data, bert):
    texts, y = data
    for backbone in (None, str(bert)):
        network = TextNetworkClassifier(backbone, **SMALL).fit(texts[:16], y[:16])
        others = [text for text in texts if text not in texts[:16]]
        assert_allclose(FineTunedEncoder(network).fit_transform(others), network.transform(others), atol=1e-5)


def test_a_blank_text_is_missing_for_the_encoder_as_for_its_network():
    network = TextNetworkClassifier(**SMALL).fit(["a b", "b a"] * 5, [0, 1] * 5)
    others = ["b b", "", None, "  "]
    embedded = FineTunedEncoder(network).fit_transform(others)
    assert np.isnan(embedded).all(axis=1).tolist() == [False, True, True, True]
    assert_allclose(embedded, network.transform(others), atol=1e-5)


@pytest.mark.parametrize("settings", [{"train": "all"}, {"train": "last", "n_views": 2}], ids=["all", "views"])
def test_an_augmentation_may_make_texts_longer(data, bert, settings):
    texts, y = data
    model = TextNetworkClassifier(str(bert), augment=lambda text, _: f"{text} fast slow" * 4, **SMALL, **settings)
    assert model.fit(texts, y).predict(texts).shape == (len(texts),)
    reader = model._reader()
    plain, longer = reader.array(texts[0]), reader.array(texts[0], np.random.default_rng(0))
    assert len(plain) == len(longer) and set(longer[[0, -1]]) <= set(reader.network.special)


def test_texts_that_are_cut_are_counted(data, bert):
    texts, y = data
    longer = [*texts[:-2], f"{texts[-2]} " * 40, f"{texts[-1]} " * 50]
    for backbone, settings, limit in (
        (None, {"max_length": 9}, "max_length=9 words"),
        (str(bert), {}, "32 tokens"),
        (str(bert), {"max_length": 12}, "12 tokens"),
    ):
        model = TextNetworkClassifier(backbone, **SMALL, **settings)
        told = rf"cut 2 cells of column '.*' at {limit}; the rest of them is ignored"
        with pytest.warns(UserWarning, match=told):
            model.fit(longer, y)
        assert model.fit(texts, y).predict(texts[:2]).shape == (2,)
