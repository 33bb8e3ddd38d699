"""`model_card`: what a fitted model is, how it was measured, and how to load it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemblefuse.persistence.manifest import checked_metadata
from ensemblefuse.report._card_facts import CardFacts
from ensemblefuse.report._card_sections import card_sections, lead
from ensemblefuse.report._markdown import front_matter, plain_text

if TYPE_CHECKING:
    from skops.card import Card

__all__ = ["model_card"]


def model_card(
    model: Any,
    X: Any = None,
    y: Any = None,
    *,
    title: str | None = None,
    intended_use: str | None = None,
    limits: str | Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
    groups: Any = None,
    trusted: Iterable[str | type] | str | type = (),
) -> Card:
    """Make a model card: what a model is, what it was fitted on, how it scores, what it needs, and what is not known.

    Every figure is measured on the model or read from its file, or else left out; a section without facts says what to
    pass. The same model, file, rows and versions give the same bytes.

    Parameters
    ----------
    model : fitted Pipeline that ends in a fusion estimator, fitted fusion estimator, or path of a file of `save_model`
        Only a file holds the fingerprint of the data of fit, the types in its example, and its own digest.
    X : DataFrame (pandas or polars) or dict of columns, of n_samples rows, optional
        Rows that are new to the model, for the scores. Without them, the scores are those of the out-of-fold
        predictions that decision-level fusion keeps; nothing is fitted or encoded.
    y : array of shape (n_samples,), optional
        Needed with `X`.
    title : str, optional
        By default the name of the file, or of the class of the fusion.
    intended_use : str, optional
        What the model is for, in Markdown.
    limits : str or list of str, optional
        Limits that cannot be measured, in Markdown; the measured ones follow them.
    metadata : dict of str to JSON-serialisable, optional
        Further lines of the header, such as ``{"license": "mit", "language": ["en"]}``; they replace lines of the same
        key.
    groups : array of shape (n_samples,), optional
        Groups of the rows of `X`, or of fit without `X`. The bootstrap for the intervals draws rows of one group
        together.
    trusted : sequence of str or type, optional
        Same as in `load_model`, if `model` is a path.

    Returns
    -------
    skops.card.Card
        ``card.save("README.md")`` writes Markdown below a header of YAML. ``card.add(**{"Ethics": "..."})`` adds a
        section or replaces one, ``card.add_model_plot(section="Model/Diagram")`` adds scikit-learn's diagram.

    Raises
    ------
    TypeError
        If the model does not end in a fusion estimator.
    ValueError
        If `y` does not fit `X` or the model, or the metadata cannot be written as JSON.
    PersistenceError
        If the file cannot be loaded.

    Warns
    -----
    UserWarning
        If rows that are given as new have the labels of the rows of fit, in the same order. The card says so, too.

    References
    ----------
    Mitchell et al., Model Cards for Model Reporting, FAT* 2019.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, model_card
    >>> rng = np.random.default_rng(0)
    >>> y = np.array(["cat", "dog"] * 30)
    >>> X = pd.DataFrame({"image__0": (y == "dog") + rng.normal(size=60), "text__0": rng.normal(size=60)})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y)
    >>> card = model_card(model, title="Pets", metadata={"license": "mit"})
    >>> print(card.select("Data").content.splitlines()[0])
    Rows of fit: 60.
    >>> print(card.render()[:55])
    ---
    library_name: "ensemblefuse"
    tags: ["ensemblefuse",
    """
    from ensemblefuse.report._card_file import ModelCard  # imported here because it loads skops.card

    notes = checked_metadata(metadata)
    facts = CardFacts(model, X, y, groups=groups, trusted=trusted)
    if facts.looks_trained_on:
        warnings.warn(
            "X and y have the labels of the rows that the model was fitted on, in the same order. If they are these "
            "rows, the scores of the card are too good; leave X and y out.",
            stacklevel=2,
        )
    name = title or (facts.path.name if facts.path is not None else type(facts.parts.fusion).__name__)
    card = ModelCard(facts.model, model_diagram=False, template=None)
    card.header = front_matter({**_header(facts), **notes})
    heading = plain_text(name).replace("/", "\\/")  # skops takes a slash as the start of a subsection
    card.add(**{heading: lead(facts), **card_sections(facts, intended_use, limits)})
    return card


def _header(facts: CardFacts) -> dict[str, Any]:
    task = "classification" if facts.parts.classify else "regression"
    tags = ["ensemblefuse", "scikit-learn", "multimodal", task, *facts.parts.names]
    file = {"model_file": facts.path.name} if isinstance(facts.path, Path) else {}
    return {"library_name": "ensemblefuse", "tags": tags, **file}
