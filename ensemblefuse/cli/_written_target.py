"""Targets of texts that say numbers, such as "1.299,00 €", and labels that may be numbers to predict."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse.cli._messages import CommandError, shown_list
from ensemblefuse.column_formats import (
    UnreadableCell,
    full_format,
    number_clash,
    number_format,
    read_cell,
    short_format,
    unit_clash,
)
from ensemblefuse.fusion.targets import are_many_classes

__all__ = ["check_labels", "find_form", "numbers_of", "told_form"]


def find_form(cells: pd.Series, target: str) -> dict[str, Any] | None:
    """Return the written form of a target of texts that all say numbers, as a model file notes it; None without texts.

    Raises
    ------
    CommandError
        If a cell is no number, or the numbers cannot be compared.

    Examples
    --------
    >>> import pandas as pd
    >>> from ensemblefuse.cli._written_target import find_form, told_form
    >>> prices = pd.Series(["1.299,00 €", "96,20 €"])
    >>> told_form(prices, "price", find_form(prices, "price"))
    "The target 'price' is read as numbers in EUR, with decimal commas and points between thousands: '1.299,00 €' is \
1299."
    """
    cells = cells[[isinstance(cell, str) for cell in cells.tolist()]]
    if not len(cells):
        return None
    found = number_format(cells.tolist())
    if found is not None and not found.odd:
        return {**short_format(found), "choice": found.choice} if found.choice else short_format(found)
    if clash := number_clash(cells.tolist()) or unit_clash(cells.tolist()):
        raise CommandError(f"The target {target!r} holds {clash}.")
    for row, cell in cells.items():
        if cell in (found.odd if found else ()) or number_format([cell]) is None:
            raise CommandError(
                f"The target {target!r} holds {cell!r} in row {row!r}, not a number; --regression needs numbers."
            )
    raise CommandError(
        f"The target {target!r} holds {shown_list(cells.head(2))}: no one form reads all of its cells as numbers; "
        "--regression needs numbers."
    )


def told_form(cells: pd.Series, target: str, form: dict[str, Any]) -> str:
    """Return the line that says how a target is read."""
    cell, value = cells.iloc[0], numbers_of(cells.head(1), target, form).iloc[0]
    choice = f" ({form['choice']})" if "choice" in form else ""
    return f"The target {target!r} is read as {form['seen']}: {cell!r} is {value:.15g}{choice}."


def numbers_of(cells: pd.Series, target: str, form: Any) -> pd.Series:
    """Return the numbers that a target says by a form of `find_form`, or of a model file; raise if a cell says none."""
    settings = _checked(target, form)
    numbers = []
    for row, cell in cells.items():
        try:
            number = read_cell(cell, settings)
        except UnreadableCell as error:
            raise CommandError(f"The target {target!r}, row {row!r}: {error}.") from error
        if number is None:
            raise CommandError(f"The target {target!r} holds {cell!r} in row {row!r}, not a number.")
        numbers.append(float(number))
    return pd.Series(numbers, cells.index, dtype=float)


def _checked(target: str, form: Any) -> dict[str, Any]:
    try:
        settings = full_format(target, {key: value for key, value in form.items() if key != "choice"})
    except (ValueError, AttributeError) as error:
        raise CommandError(f"The model's note about the target is damaged. {error}") from error
    if settings["kind"] != "number":
        raise CommandError(f"The model's note about the target {target!r} names no numbers: {form!r}.")
    return settings


def check_labels(y: np.ndarray, target: str) -> None:
    """Warn of labels that may be numbers to predict; raise if they are written numbers with decimals."""
    labels = np.unique(y)
    if not are_many_classes(len(labels), len(y)):
        return
    texts = [label for label in labels.tolist() if isinstance(label, str)]
    found = number_format(texts)
    if found is not None and not found.odd and any(read_cell(text, found.format) % 1 for text in texts):
        raise CommandError(
            f"The target {target!r} holds {found.seen}, such as {texts[0]!r}, not classes; pass --regression."
        )
    are_numbers = not texts or (found is not None and not found.odd)
    way_out = "for numbers, pass --regression" if are_numbers else "a class is learned from several rows"
    for same in (r"\w+ learns classes, and y holds", "The number of unique classes"):  # said to users of Python
        warnings.filterwarnings("ignore", same)
    warnings.warn(
        f"The target {target!r} holds {len(labels)} different labels in {len(y)} rows; {way_out}.", stacklevel=2
    )
