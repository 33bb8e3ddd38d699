"""Check of the written forms that a transformer is given."""

from __future__ import annotations

from typing import Any

from ensemblefuse.column_formats import full_format
from ensemblefuse.exceptions import short_repr

__all__ = ["check_formats"]


def check_formats(formats: Any) -> dict[Any, dict[str, Any]]:
    """Return the written forms of columns with all their settings; none for None.

    Raises
    ------
    TypeError
        If `formats` is no dict.
    ValueError
        If a form is none.

    Examples
    --------
    >>> from ensemblefuse.features.forms import check_formats
    >>> check_formats({"paid": {"kind": "boolean"}})
    {'paid': {'kind': 'boolean', 'missing': []}}
    """
    if formats is None:
        return {}
    if not isinstance(formats, dict):
        raise TypeError(
            "formats of a TableTransformer must be a dict of column to form, such as "
            f"{{'sold': {{'kind': 'date', 'formats': ['%d/%m/%Y']}}}}, or None; got {short_repr(formats)}."
        )
    return {column: full_format(column, form) for column, form in formats.items()}
