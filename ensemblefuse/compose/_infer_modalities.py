"""Modalities proposed for the columns of a raw table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ensemblefuse.compose.proposal import KINDS, propose

__all__ = ["KINDS", "infer_modalities"]


def infer_modalities(
    df: Any, *, kinds: Mapping[str, str] | None = None, strict: bool = False, verbose: bool = True
) -> list[tuple[str, Any, Any]]:
    """Propose modalities for a table, and print one line for each column: what it holds, and what is done with it.

    A column is judged by its cells: numbers also where they are written as text (``1,200.50 €``, ``9.4 oz``), dates,
    booleans in all spellings, categories by repetition, lists of tags, short strings such as names, and texts of
    sentences in any script. Identifiers, addresses, constant and empty columns are left out, and a line says why.

    Parameters
    ----------
    df : DataFrame (pandas or polars) or dict of columns
        Only the features; leave out the target.
    kinds : dict of str to str, optional
        Kinds of columns that you know: ``"image"``, ``"audio"``, ``"video"``, ``"text"``, ``"series"``,
        ``"embedding"``, ``"graph"``, ``"number"``, ``"date"``, ``"category"``, ``"boolean"``, ``"tags"``,
        ``"string"`` (short texts, such as names) or ``"drop"``. Whole numbers such as 20240131 may be dates.
    strict : bool
        Whether to raise an error where the cells of a column allow several readings. By default the more likely one
        is taken.
    verbose : bool
        Whether to print.

    Returns
    -------
    list of (name, encoder, columns)
        Edit it as you like, and pass it to `make_fusion_pipeline`. Each column of pictures, sounds, videos, series,
        embeddings, graphs and texts is a modality. All others together are one, ``"tabular"``: a `TableTransformer`,
        which keeps how their cells are written, so that each fold reads them alike. Of more than six columns
        of texts, those with the longest texts are modalities, and the others go into the table as strings. The list is
        empty if every column is left out.

    Raises
    ------
    TypeError
        If `df` is no table, or `kinds` no dict.
    ValueError
        If names of columns are not str, `kinds` names an unknown column or kind, or declares cells as dates that are
        none, or ``strict=True`` finds a choice.

    Examples
    --------
    >>> from ensemblefuse import infer_modalities
    >>> modalities = infer_modalities({"photo": ["a.png", "b.png"], "price": ["9,50 €", "25 €"]})
    column  kind    seen                                                    done
    photo   image   image files, PIL images or arrays of 2 or 3 dimensions  modality 'image': ImageEncoder()
    price   number  numbers in EUR, with decimal commas, 9.5 to 25          table: scaled; gaps filled and marked
    >>> [name for name, _, _ in modalities]
    ['image', 'tabular']
    """
    proposal = propose(df, kinds)
    if strict and proposal.choices:
        facts = "\n".join(f"  {column!r}: {choice}" for column, choice in proposal.choices.items())
        column, choice = next(iter(proposal.choices.items()))
        kind = choice.partition(":")[0]
        example = kind if kind in KINDS else "drop"
        raise ValueError(
            f"The cells of {len(proposal.choices)} columns allow several readings:\n{facts}\n"
            f"Say which is right, as in infer_modalities(df, kinds={{{column!r}: {example!r}}}). The kinds are "
            f"{', '.join(KINDS)}."
        )
    if verbose:
        print("\n".join(proposal.lines))
        if proposal.hint:
            print(proposal.hint)
    return proposal.modalities
