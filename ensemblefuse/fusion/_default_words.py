"""The default member of a block over the words of its texts."""

from __future__ import annotations

from sklearn.linear_model import LogisticRegression, Ridge

from ensemblefuse.features.word_features import WordFeatures
from ensemblefuse.fusion._default_heads import HeadSearch

__all__ = ["words_member", "words_search"]

# Penalties for rows of length 1 to 1.4, from the first sign that a term is rare to the last: on titles, descriptions
# and names of products the best ones lay between these.
_ALPHAS = (0.1, 0.5, 2.0, 8.0)
_PATH = (1.0, 6.0, 36.0)
_ITERATIONS = 100
_ALONE = 1000  # nothing else can be chosen where one penalty does not converge
# A classifier has a coefficient for each term and class, so many classes get fewer terms.
_COEFFICIENTS, _MOST_TERMS = 1_000_000, 100_000


def words_member(block: str) -> str:
    """Return the name of the member over the words of a block."""
    return f"{block}/words"


def words_search(n_classes: int, *, effort: str = "medium") -> HeadSearch:
    """Build the candidates for a member over counts of terms, as `count_terms` gives them.

    Parameters
    ----------
    n_classes : int
        0 in regression.
    effort : {"low", "medium", "high"}

    Returns
    -------
    HeadSearch
        Logistic or ridge regressions with several penalties over TF-IDF, which is fitted with them. With
        ``effort="low"`` one, with the penalty in the middle.
    """
    features = WordFeatures(min(_MOST_TERMS, _COEFFICIENTS // max(n_classes, 1)))
    if n_classes:
        path, steps = (_PATH[1:2], _ALONE) if effort == "low" else (_PATH, _ITERATIONS)
        return HeadSearch([LogisticRegression(C=C, max_iter=steps) for C in path], features)
    alphas = _ALPHAS[1:2] if effort == "low" else _ALPHAS
    return HeadSearch([Ridge(alpha, solver="sparse_cg") for alpha in alphas], features)
