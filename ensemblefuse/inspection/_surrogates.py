"""LIME and SHAP over the parts of one cell, by their libraries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ensemblefuse._optional import import_optional

__all__ = ["by_lime", "by_shap"]

_NEEDED_BY = "explain_row"


def by_lime(ask: Callable[[np.ndarray], np.ndarray], n_parts: int, n_samples: int, seed: int) -> np.ndarray:
    """Fit a local ridge regression of the value on the kept parts, and return its weights (Ribeiro et al. 2016).

    Choices of parts are weighted by a kernel of width 0.25 of their cosine distance to the whole, as LIME does for
    pictures and texts.

    Parameters
    ----------
    ask : callable
        It takes the kept parts, an array of shape (n, n_parts), dtype bool, and returns values of shape (n,).
    n_parts, n_samples, seed : int

    Returns
    -------
    ndarray of shape (n_parts,)
    """
    lime_base = import_optional("lime.lime_base", package="lime", extra="explain", needed_by=_NEEDED_BY)
    rng = np.random.default_rng(seed)
    keep = rng.integers(0, 2, size=(max(2, n_samples), n_parts)).astype(bool)
    keep[0] = True
    distances = 1 - np.sqrt(keep.mean(axis=1))  # cosine distance to the whole
    kernel = lambda distance: np.sqrt(np.exp(-(distance**2) / 0.25**2))
    base = lime_base.LimeBase(kernel, random_state=np.random.RandomState(seed))
    values = ask(keep)[:, None]
    _, weights, _, _ = base.explain_instance_with_data(
        keep.astype(float), values, distances, 0, n_parts, feature_selection="none"
    )
    effects = np.zeros(n_parts)
    for part, weight in weights:
        effects[part] = weight
    return effects


def by_shap(ask: Callable[[np.ndarray], np.ndarray], n_parts: int, n_samples: int, seed: int) -> np.ndarray:
    """Compute Shapley values of the parts (Lundberg and Lee 2017), with `ask` as in `by_lime`.

    They are exact if there are at most `n_samples` choices of parts, and fewer than 16 parts. Otherwise they come from
    permutations and their reverses. Their sum is the value of the whole minus that without any part.
    """
    shap = import_optional("shap", extra="explain", needed_by=_NEEDED_BY)
    masker = shap.maskers.Independent(np.zeros((1, n_parts)), max_samples=1)
    model, whole = lambda kept: ask(kept > 0.5), np.ones((1, n_parts))
    state = np.random.get_state()  # noqa: NPY002, shap seeds numpy's global generator
    try:
        if n_parts < 16 and 2**n_parts <= n_samples:
            return shap.explainers.Exact(model, masker)(whole, max_evals=n_samples, silent=True).values[0]
        n_evaluations = max(n_samples, 2 * n_parts + 1)
        explainer = shap.explainers.Permutation(model, masker, seed=seed)
        return explainer(whole, max_evals=n_evaluations, silent=True).values[0]
    finally:
        np.random.set_state(state)  # noqa: NPY002
