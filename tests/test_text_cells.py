"""Cells of text: which of their letters an English network has not learned."""

import numpy as np
import pytest

from ensemblefuse.cells.text import foreign_share, is_in_other_script

ENGLISH = ["The cat sleeps on the sofa.", "iPhone 12 Pro Max, 5 µm, 1º, x² + ½", "Shares fell in London by 3 %!"]
OTHER_SCRIPTS = {
    "Chinese": "猫在沙发上睡觉",
    "Japanese": "猫がソファーで寝ています",
    "Korean": "고양이가 소파에서 자고 있다",
    "Arabic": "القطة تنام على الأريكة",
    "Russian": "кошка спит на диване",
    "Thai": "แมวนอนหลับบนโซฟา",
    "Greek": "η γάτα κοιμάται στον καναπέ",
    "Hindi": "बिल्ली सोफे पर सो रही है",
    "letters of double width": "ＣＡＴ",
}
ACCENTED = {
    "French": "notre vol a été annulé à cause de la tempête",
    "Spanish": "esta sopa necesita más sal, según el niño",
    "Polish": "dzieci grają w piłkę nożną",
    "Turkish": "çocuklar dışarıda oynuyor",
    "Vietnamese": "con mèo ngủ trên ghế",
}


def test_english_has_no_foreign_letter():
    assert foreign_share(ENGLISH) == 0
    assert not any(map(is_in_other_script, ENGLISH))


@pytest.mark.parametrize("text", OTHER_SCRIPTS.values(), ids=OTHER_SCRIPTS)
def test_all_letters_of_other_scripts_are_foreign(text):
    assert foreign_share([text]) == 1 and is_in_other_script(text)
    mixed = foreign_share([text, *ENGLISH])
    assert 0.05 < mixed < 0.5


@pytest.mark.parametrize("text", ACCENTED.values(), ids=ACCENTED)
def test_words_with_accents_are_foreign_but_in_no_other_script(text):
    assert foreign_share([text]) > 0.15 and not is_in_other_script(text)


def test_the_share_counts_letters_over_all_texts():
    assert foreign_share(["abcd", "猫在沙发"]) == 0.5
    assert foreign_share(["a café, a café"]) == 8 / 10
    assert foreign_share(["cafe\u0301 bar"]) == foreign_share(["café bar"]) == 4 / 7
    assert foreign_share(["iPhone手机壳"]) == 3 / 9
    assert foreign_share(np.array(["red cat", "кот"], dtype=object)) == 3 / 9


@pytest.mark.parametrize("text", ["", "  ", "123", "!?", "🎉🎉", "\ud800", "①②", "µ"])
def test_a_text_without_letters_is_not_foreign(text):
    assert foreign_share([text]) == 0 and not is_in_other_script(text)


def test_a_text_is_in_another_script_from_half_of_its_letters_on():
    assert is_in_other_script("Nike 运动鞋子")
    assert not is_in_other_script("Nike shoes 运动鞋")


def test_of_an_endless_text_only_the_beginning_is_counted():
    assert foreign_share(["a" * 10_000 + "猫" * 1_000_000]) == 0
