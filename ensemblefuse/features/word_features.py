"""Words and characters of texts as numbers: hashed counts of each text, weighted by how rare a term is in fit."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.utils.validation import check_is_fitted

from ensemblefuse.table import is_missing

__all__ = ["WordFeatures", "count_terms"]

# These numbers decide which column a term falls into. Model files hold weights of these columns: never change them.
_WORD_COLUMNS, _CHARACTER_COLUMNS = 2**18, 2**17
# Han and kana are written without blanks: each sign is a word, so that pairs of words are pairs of signs.
_SIGN = "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_WORD = rf"(?u){_SIGN}|(?:(?!{_SIGN})\w)+"
# What is read of one text. Characters serve short texts, other scripts and misspellings; in long texts the words are
# better, and the characters would cost most of the time.
_READ_AS_WORDS, _READ_AS_CHARACTERS = 10_000, 300

_words = HashingVectorizer(
    token_pattern=_WORD,
    ngram_range=(1, 2),
    n_features=_WORD_COLUMNS,
    alternate_sign=False,
    norm=None,
    dtype=np.float32,
    preprocessor=lambda text: text[:_READ_AS_WORDS].lower(),
)
_characters = HashingVectorizer(
    analyzer="char_wb",
    ngram_range=(3, 4),
    n_features=_CHARACTER_COLUMNS,
    alternate_sign=False,
    norm=None,
    dtype=np.float32,
    preprocessor=lambda text: text[:_READ_AS_CHARACTERS].lower(),
)


def count_terms(texts: Any) -> sparse.csr_matrix:
    """Count the terms of each text: words, pairs of words, and three or four characters in a row.

    Nothing is learned, and each row depends on its own text alone.

    Parameters
    ----------
    texts : sequence of str of length n_samples
        A missing text has no terms.

    Returns
    -------
    csr_matrix of shape (n_samples, 393216), dtype float32
        A term falls into a column by its hash: 262144 columns of words, then 131072 of characters.

    Examples
    --------
    >>> from ensemblefuse.features.word_features import count_terms
    >>> counts = count_terms(["red bird", "red red", None])
    >>> counts[:, :262144].sum(axis=1).ravel().tolist()
    [[3.0, 3.0, 0.0]]
    """
    texts = ["" if is_missing(text) else text for text in texts]
    return sparse.hstack([_words.transform(texts), _characters.transform(texts)], format="csr", dtype=np.float32)


class WordFeatures(TransformerMixin, BaseEstimator):
    """TF-IDF of the words and characters of texts.

    Terms are words, pairs of words, and three or four characters in a row. Each sign of Chinese and Japanese is a word
    of its own. Upper and lower case are the same. A term's weight is ``1 + log(count)``, times the logarithm of how
    rare it is among the rows of `fit`. Words and characters of a row have the length 1 each. Terms that no row of `fit`
    held count for that length too: a text of new words is far from all others, and gets small numbers.

    Parameters
    ----------
    max_terms : int, default=100_000
        Largest number of columns. If the texts have more terms, those in the most rows are kept.

    Attributes
    ----------
    columns_ : ndarray of shape (n_terms,), dtype int
        Hashes of the terms that are kept, in ascending order.
    idf_ : ndarray of shape (n_terms,)
        Their factors.
    idf_of_new_ : float
        The factor of every other term.

    Notes
    -----
    No list of words is kept: a term is found by its hash, so two terms may share a column (with 100 000 terms, a
    third of them). A text is read up to its 10 000th character, for characters up to its 300th.

    References
    ----------
    Salton and Buckley, Information Processing & Management 1988 (weights of terms); Weinberger et al., ICML 2009
    (hashing).

    Examples
    --------
    >>> from ensemblefuse.features import WordFeatures
    >>> Z = WordFeatures().fit_transform(["a red bird", "the red fox", "two cats"])
    >>> Z.shape[0], bool((Z[0] @ Z[1].T)[0, 0] > (Z[0] @ Z[2].T)[0, 0])
    (3, True)
    """

    def __init__(self, max_terms: int = 100_000):
        self.max_terms = max_terms

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn which terms occur, and in how many rows.

        Parameters
        ----------
        X : sequence of str of length n_samples, or their counts as from `count_terms`
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `max_terms` is no whole number of at least 1.
        """
        most = self.max_terms
        if isinstance(most, bool) or not isinstance(most, (int, np.integer)) or most < 1:
            raise ValueError(f"max_terms must be a whole number of at least 1; got {most!r}.")
        counts = _counts(X)
        n_rows, held_by = counts.shape[0], counts.getnnz(axis=0)
        # The order is that of the columns again, so that equal numbers of rows are no matter of chance.
        frequent = np.argsort(-held_by, kind="stable")[: max(1, min(most, int((held_by > 0).sum())))]
        self.columns_ = np.sort(frequent)
        self.idf_ = np.log((1 + n_rows) / (1 + held_by[self.columns_])) + 1
        self.idf_of_new_ = float(np.log(1 + n_rows) + 1)
        return self

    def transform(self, X: Any) -> sparse.csr_matrix:
        """Return the weights of the terms.

        Parameters
        ----------
        X : sequence of str of length n_samples, or their counts as from `count_terms`

        Returns
        -------
        csr_matrix of shape (n_samples, n_terms)
        """
        check_is_fitted(self, "columns_")
        counts = _counts(X)
        n_rows, rows = counts.shape[0], np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        place = np.minimum(np.searchsorted(self.columns_, counts.indices), len(self.columns_) - 1)
        known = self.columns_[place] == counts.indices
        weights = (1 + np.log(counts.data.astype(float))) * np.where(known, self.idf_[place], self.idf_of_new_)
        halves = 2 * rows + (counts.indices >= _WORD_COLUMNS)
        lengths = np.sqrt(np.bincount(halves, weights**2, minlength=2 * n_rows))
        weights = weights[known] / lengths[halves[known]]
        ends = np.concatenate([[0], np.cumsum(np.bincount(rows[known], minlength=n_rows))])
        return sparse.csr_matrix((weights, place[known], ends), shape=(n_rows, len(self.columns_)))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns: ``"term"`` and the hash of the term."""
        check_is_fitted(self, "columns_")
        return np.array([f"term{column}" for column in self.columns_], dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags


def _counts(X: Any) -> sparse.csr_matrix:
    return sparse.csr_matrix(X) if sparse.issparse(X) else count_terms(X)
