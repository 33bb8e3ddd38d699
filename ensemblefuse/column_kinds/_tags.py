"""Lists of tags in one text, told apart from sentences and from names with a comma."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from ensemblefuse.column_formats import Found, read_cell
from ensemblefuse.column_kinds._categories import COVERED, are_categories, are_categories_of_text
from ensemblefuse.column_kinds._cells import EMPTY_LIST
from ensemblefuse.column_kinds._kind import ColumnKind, kind_of_form, share_of
from ensemblefuse.column_kinds._words import SAMPLE, n_words

__all__ = ["may_be_tags", "tag_kind"]

_LISTS = 0.05  # least share of cells with a sign that may stand between tags
_LONGEST_TAGS = 500
_BETWEEN_TAGS = re.compile(r"[|;、，,/\n·#]")
_LEAST_COMBINED = 3  # tags from which on a few values may be combinations of them
_COMBINED = 1.5  # values for each tag, from which on they are
_MOVED = 0.5  # least share of tags in all cells that stand first in one value and later in another
_SENTENCES = 0.1  # share of the parts of all cells, from which on words of sentences are no chance
_PHRASE_WORDS = 2  # median words of a part, from which on it may be a remark
_CLAUSE_WORDS = 3.5  # the same, for parts that are hardly ever tags
# Words of sentences that names of things lack: forms of "be" and "have", pronouns, "very", "not". In capitals, they may
# belong to a title. English, German, Dutch, French, Spanish, Italian, Portuguese, Russian. Words that are tags of
# another language, such as "war", are left out.
_WORDS_OF_SENTENCES = """
    was were is are will would had have has did does i'm it's i we they my our not very too never
    waren ist sind wird hat hatte haben ich wir nicht sehr nie niet erg wij
    était est sont sera avait je nous pas très trop fue es está muy nos hay
    è molto foi é muito não был была было были не очень мы я"""
_OF_SENTENCES = frozenset(_WORDS_OF_SENTENCES.split())
_SIGNS_OF_SENTENCES = re.compile("[!?。！？很了吗呢]|非常|没有|不错|[でま]す|でした|ました|습니다|어요|아요")


def may_be_tags(counts: Counter[str]) -> bool:
    """Return whether some cells hold a sign between words, and few are long."""
    counts = Counter({text: n for text, n in counts.items() if not EMPTY_LIST.fullmatch(text)})
    return (
        bool(counts)
        and share_of(counts, lambda text: _BETWEEN_TAGS.search(text)) >= _LISTS
        and share_of(counts, lambda text: len(text) <= _LONGEST_TAGS) >= COVERED
    )


def tag_kind(found: Found, counts: Counter[str], n_cells: int) -> ColumnKind | None:
    """Return the kind of cells that can be split: tags, or None for sentences, and for categories that hold a sign."""
    lists = {text: read_cell(text, found.format) or [] for text in counts}
    repeat = are_categories_of_text(Counter({text: n for text, n in counts.items() if lists[text]}))
    if repeat and not _are_combinations(lists, counts):
        return None
    others = ["category"] if repeat else []
    if found.format["separator"] != "list":
        parts: Counter[str] = Counter()
        for text, n in counts.items():
            parts.update(dict.fromkeys(lists[text], n))
        of_sentences = _are_clauses(parts)
        if of_sentences and not repeat and not are_categories(parts.values(), parts.total()):
            return None
        others += ["text"] if of_sentences or _may_be_remarks(parts) else []
        others += ["string"] if not repeat and _are_pairs(lists.values()) else []
    return kind_of_form("tags", found, n_cells, f"could also be: {' or '.join(others)}" if others else None)


def _are_combinations(lists: Mapping[str, list[str]], counts: Counter[str]) -> bool:
    """Return whether a few values combine the same tags: there are more of them than tags, which change their places.

    In ``Paris, France`` and in ``Europe/France``, each part has its place. Tags count as often as cells hold them: most
    tags may be rare, and stand in one list.
    """
    held: Counter[str] = Counter()
    for text, tags in lists.items():
        held.update(dict.fromkeys(tags, counts[text]))
    first = {tag for tags in lists.values() for tag in tags[:1]}
    later = {tag for tags in lists.values() for tag in tags[1:]}
    moved = sum(held[tag] for tag in first & later)
    return len(held) >= _LEAST_COMBINED and len(lists) >= _COMBINED * len(held) and moved >= _MOVED * held.total()


def _are_pairs(lists: Iterable[list[str]]) -> bool:
    """Return whether most parts of lists stand in one list alone, as names of two firms with a stroke do."""
    n_lists = Counter(tag for tags in lists for tag in set(tags))
    parts = [tag for tags in lists if len(tags) > 1 for tag in set(tags)]
    return sum(n_lists[tag] == 1 for tag in parts) > len(parts) / 2


def _are_clauses(parts: Counter[str]) -> bool:
    """Return whether the parts of cells are parts of sentences: they have verbs and such words, or are long."""
    if np.median([n_words(part) for part in list(parts)[:SAMPLE]]) >= _CLAUSE_WORDS:
        return True
    return sum(n for part, n in parts.items() if _is_clause(part)) >= _SENTENCES * parts.total()


def _is_clause(part: str) -> bool:
    """Return whether a part has several words, and a word or a sign of sentences."""
    if _SIGNS_OF_SENTENCES.search(part):
        return n_words(part) >= _PHRASE_WORDS
    words = part.split()[:20]
    return len(words) > 1 and not _OF_SENTENCES.isdisjoint(words)


def _may_be_remarks(parts: Counter[str]) -> bool:
    """Return whether most parts are phrases such as "bad room", which are remarks in one table and tags in another."""
    some = list(parts)[:SAMPLE]
    are_long = np.median([n_words(part) for part in some]) >= _PHRASE_WORDS
    return bool(are_long and sum(any(map(str.isupper, part)) for part in some) < len(some) / 2)
