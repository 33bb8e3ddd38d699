"""Modalities proposed for the columns of a raw table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ensemblefuse.compose.proposal import KINDS, Proposal, propose

__all__ = ["KINDS", "infer_modalities"]


def infer_modalities(
    df: Any,
    *,
    kinds: Mapping[str, str] | None = None,
    formats: Mapping[str, Mapping[str, Any]] | None = None,
    strict: bool = False,
    verbose: bool = True,
) -> list[tuple[str, Any, Any]]:
    """Propose modalities for a table, and print one line for each column: what it holds, and what is done with it.

    A column is judged by its cells: numbers also where they are written as text (``1,200.50 €``, ``9.4 oz``), where
    some cells say only a limit (``<0.5``), or where each cell holds several (``5x6x7 cm``), dates, booleans in all
    spellings, categories by repetition, lists of tags, short strings such as names, and texts of sentences in any
    script. Identifiers, addresses, constant and empty columns are left out, and a line says why.

    Parameters
    ----------
    df : DataFrame (pandas or polars) or dict of columns
        Only the features; leave out the target.
    kinds : dict of str to str, optional
        Kinds of columns that you know: ``"image"``, ``"audio"``, ``"video"``, ``"text"``, ``"series"``,
        ``"embedding"``, ``"graph"``, ``"number"``, ``"date"``, ``"category"``, ``"boolean"``, ``"tags"``,
        ``"censored"`` (numbers, and limits such as ``<5``), ``"numbers"`` (several in a cell, such as ``5x6 cm``),
        ``"string"`` (short texts, such as names) or ``"drop"``. Whole numbers such as 20240131 may be dates.
    formats : dict of str to dict, optional
        Written forms of columns that you know, as `TableTransformer` takes them, such as
        ``{"sold": {"kind": "date", "formats": ["%d/%m/%Y"]}}``. The error of ``strict=True`` gives those between which
        you have to choose.
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
        If `df` is no table, or `kinds` or `formats` no dict.
    ValueError
        If names of columns are not str, `kinds` names an unknown column or kind, cells are declared as numbers or
        dates that are none, or are not written as `formats` says, or ``strict=True`` finds a choice. Cells that are
        no numbers are an error only with ``strict=True``, because a `TableTransformer` may take them as missing; the
        printed line names the first.

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
    proposal = propose(df, kinds, formats)
    if strict and (proposal.faults or proposal.choices):
        raise ValueError("\n".join([*_bad_cells(proposal), *_several_readings(proposal)]))
    if verbose:
        print("\n".join(proposal.lines))
        if proposal.hint:
            print(proposal.hint)
    return proposal.modalities


def _bad_cells(proposal: Proposal) -> list[str]:
    """Return which columns hold cells that cannot be read as the others, with the arguments that make them missing."""
    if not proposal.faults:
        return []
    facts = [f"  {column!r}: {fault}" for column, fault in proposal.faults.items()]
    ways = (
        [f"To take them as missing: infer_modalities(df, formats={proposal.remedies!r})."] if proposal.remedies else []
    )
    return ["Cells cannot be read as the kind of their column:", *facts, *ways]


def _several_readings(proposal: Proposal) -> list[str]:
    """Return which columns allow several readings, with the arguments that decide."""
    n, choices, readings = len(proposal.choices), proposal.choices, proposal.readings
    if not n:
        return []
    facts = [f"  {column!r}: {choice}" for column, choice in choices.items()]
    ways = []
    # A form that makes bad cells missing decides the kind, too.
    by_kind = {
        column: choice.partition(":")[0]
        for column, choice in choices.items()
        if column not in readings and column not in proposal.remedies
    }
    if by_kind:
        kinds = {column: kind if kind in KINDS else "drop" for column, kind in by_kind.items()}
        ways.append(f"as in infer_modalities(df, kinds={kinds!r}). The kinds are {', '.join(KINDS)}.")
    for column, forms in readings.items():
        shown = " or ".join(f"formats={{{column!r}: {form!r}}}" for form in forms)
        ways.append(f"for {column!r}: {shown}.")
    columns = "The cells of 1 column allow" if n == 1 else f"The cells of {n} columns allow"
    said = ["Say which is right, " + "\n".join(ways)] if ways else []
    return [f"{columns} several readings:", *facts, *said]
