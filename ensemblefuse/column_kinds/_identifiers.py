"""Whether names or cells say that a column identifies rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from ensemblefuse.column_formats import number_format
from ensemblefuse.column_kinds._cells import suffix_of
from ensemblefuse.column_kinds._kind import DISTINCT, LEAST_CELLS, has_digit, has_letter, share_of
from ensemblefuse.column_kinds._words import n_words
from ensemblefuse.exceptions import short_repr

__all__ = ["CODE_WORDS", "NUMBERED", "WEAK_REASONS", "identifier_reason", "says_id", "says_postcode"]

_ID_NAMES = frozenset(
    (
        *("id", "ids", "uid", "uuid", "guid", "sku", "isbn", "isbn10", "isbn13", "issn", "ean", "upc", "gtin", "asin"),
        *("iban", "imei", "ssn", "doi"),
    )
)


# In English, German, Italian, Portuguese, French, Spanish, Dutch, Polish and Chinese.
_POSTCODE_NAMES = frozenset(
    (
        *("zip", "zipcode", "postcode", "postalcode", "pincode", "plz", "postleitzahl", "cap", "cep", "codepostal"),
        *("codigopostal", "códigopostal", "kodpocztowy", "邮编", "邮政编码"),
    )
)
NUMBERED = "one text with another number in each"
# The weakest reasons: a few forms of text hold all cells.
WEAK_REASONS = _OF_CODES, _OF_NAMES = "codes of letters and digits", "names with numbers"
CODE_WORDS = 2.5
_WITH_LETTERS = 0.5  # least share of codes with a letter
_OTHER_FILES = frozenset({".html", ".htm", ".pdf", ".txt", ".doc", ".docx", ".xls", ".xlsx", ".xml", ".json", ".zip"})
_MAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
_LONGEST_MAIL = 320  # 64 letters before the @, and 255 behind; the time of the pattern grows with the square
_PHONE = re.compile(r"[+(]?\d[\d ()./-]{6,18}\d")
_PHONE_BEGIN = re.compile(r"[+(0]|(?!(?:19|20)\d\d[^\d])\d+[ ./-]+\d+[ ./-]+\d")  # 2024-100000 is none


_COMPUTER = re.compile(
    r"(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?|[0-9a-f]{2}(?:([:-])[0-9a-f]{2})(?:\1[0-9a-f]{2}){4}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4}"
    r"|(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}",
    re.IGNORECASE,
)  # by IP, also of version 6, or by MAC


_NUMBERED = re.compile(r"(?:[^\W\d_]+[\W_]+){1,2}[0-9]+")  # one or two words and a number
_HASH = re.compile(r"[0-9a-f]{16,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DECIMALS = re.compile(r"\d[.,]\d")
_WORD = re.compile(r"[^\W\d_]?[^\W\d_A-Z]{3,}")
_SIZES = re.compile(r"\d[\d.,]*(?:\s*[x×*/:-]\s*\d[\d.,]*)+")


def says_id(name: str) -> bool:
    """Return whether a word of a column's name says identifier: ``ID``, ``user_id``, ``orderId``, ``ISBN13``."""
    return not _ID_NAMES.isdisjoint(_words_of(name))


def says_postcode(name: str) -> bool:
    """Return whether a column's name says postal code, in some languages: ``ZIP``, ``zipCode``, ``postal_code``."""
    words = _words_of(name)
    return not _POSTCODE_NAMES.isdisjoint([*words, *map("".join, pairwise(words))])


def _words_of(name: str) -> list[str]:
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return re.split(r"[\W_]+", words.lower())


def identifier_reason(counts: Counter[str], *, is_named: bool) -> str | None:
    n_cells, n_distinct = counts.total(), len(counts)
    if n_distinct < DISTINCT * n_cells or n_cells < 3:
        return None
    example = f"such as {short_repr(next(iter(counts)))}"
    if is_named and share_of(counts, lambda text: n_words(text) <= CODE_WORDS) >= DISTINCT:
        return f"{example}, and the name says identifier"
    if n_cells < LEAST_CELLS:
        return None
    for what, test in _FORMS.items():
        if share_of(counts, test) >= DISTINCT:
            return f"{what}, {example}"
    numbered = Counter(text.rstrip("0123456789") for text in counts if _NUMBERED.fullmatch(text))
    if numbered and max(numbered.values()) >= DISTINCT * n_distinct:
        return f"{NUMBERED}, {example}"
    if share_of(counts, _is_code) >= DISTINCT and share_of(counts, has_letter) >= _WITH_LETTERS:
        shapes = Counter({_shape(text): 0 for text in counts})
        for text, n in counts.items():
            shapes[_shape(text)] += n
        if sum(n for _, n in shapes.most_common(5)) >= DISTINCT * n_cells:
            return f"{_OF_NAMES if _are_names(counts) else _OF_CODES} in one form, {example}"
    return None


def _is_long_number(text: str) -> bool:
    """Return whether a text has the digits, and the signs between them, of a telephone or an order."""
    return _PHONE.fullmatch(text) is not None and sum(map(str.isdecimal, text)) >= 7


_FORMS: dict[str, Callable[[str], Any]] = {
    "e-mail addresses": lambda text: len(text) <= _LONGEST_MAIL and _MAIL.fullmatch(text),
    "hashes": _HASH.fullmatch,
    "addresses of computers": _COMPUTER.fullmatch,
    "telephone numbers": lambda text: _is_long_number(text) and _PHONE_BEGIN.match(text),
    "numbers of one kind": lambda text: _is_long_number(text),
    "names of files that no encoder reads": lambda text: " " not in text and suffix_of(text) in _OTHER_FILES,
}


def _is_code(text: str) -> bool:
    """Return whether a text is one token with digits, and no size such as 10x20, no 500+, 17°N or 4.5kg."""
    is_token = " " not in text and len(text) > 1 and has_digit(text)
    if not is_token or _SIZES.fullmatch(text) or "°" in text or text.endswith("+"):
        return False
    is_measured = _DECIMALS.search(text) is not None and number_format([text]) is not None
    return not is_measured and n_words(text) <= CODE_WORDS


def _are_names(counts: Counter[str]) -> bool:
    """Return whether most codes hold a word, and not the same one."""
    words = {word[0] for text in counts if (word := _WORD.search(text))}
    return len(words) > 1 and share_of(counts, _WORD.search) > 0.5


def _shape(text: str) -> str:
    """Return the form of a code: ``ORD-0012`` and ``ORD-7`` are both ``a-0``."""
    return re.sub(r"0+", "0", re.sub(r"\d", "0", re.sub(r"[^\W\d_]+", "a", text)))
