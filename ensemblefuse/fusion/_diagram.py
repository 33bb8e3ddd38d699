"""The boxes of a fusion in scikit-learn's HTML diagram of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ensemblefuse.blocks import SEPARATOR

__all__ = ["Diagram", "fusion_diagram"]

_SHOWN = 3
_LISTED = 100


@dataclass
class Diagram:
    """The attributes that scikit-learn reads from the result of ``_sk_visual_block_``.

    Attributes
    ----------
    kind : {"serial", "parallel", "single"}
    estimators : list of estimators, diagrams or strings; one of them if the kind is ``"single"``
    names : list of str, or str
        The text before ``":"`` is the name of the part in the names of parameters.
    name_details : list of str, or str
        Shown after a click.
    """

    kind: str
    estimators: Any
    names: Any
    name_details: Any
    dash_wrapped: bool = True
    name_caption: str | None = field(default=None, init=False)
    doc_link_label: str | None = field(default=None, init=False)

    def _sk_visual_block_(self) -> Diagram:
        return self


def fusion_diagram(fusion: Any) -> Diagram:
    """Build the diagram: blocks or members side by side, followed by their combiner or estimator.

    Before fit, it shows the parts given by the user.

    Parameters
    ----------
    fusion : fusion estimator, fitted or not
    """
    for held in ("fusion_", "best_estimator_"):
        if hasattr(fusion, held):
            inner = getattr(fusion, held)
            return Diagram("serial", [inner], [f"{held}: {type(inner).__name__}"], [str(inner)])
    if hasattr(fusion, "blocks_"):
        return _fitted(fusion)
    given = getattr(fusion, "estimators", None)
    if isinstance(given, Mapping) and given:
        return _in_order([("estimators: one per block", _side_by_side(given))], fusion)
    params = fusion.get_params(deep=False)
    parts = {name: part for name, part in params.items() if hasattr(part, "fit") and hasattr(part, "get_params")}
    if parts:
        names = [f"{name}: {type(part).__name__}" for name, part in parts.items()]
        return Diagram("parallel", list(parts.values()), names, [str(part) for part in parts.values()])
    return Diagram("single", fusion, type(fusion).__name__, str(fusion))


def _fitted(fusion: Any) -> Diagram:
    members = getattr(fusion, "estimators_", None)
    if not isinstance(members, Mapping) or not members:
        blocks = Diagram("parallel", *_blocks(fusion, list(fusion.blocks_)))
        steps = [("blocks: their contents", blocks)]
        if hasattr(getattr(fusion, "estimator_", None), "fit"):
            steps.append((f"estimator: {type(fusion.estimator_).__name__}", fusion.estimator_))
        return _in_order(steps)
    block_of: dict[str, Any] = dict(zip(members, getattr(fusion, "member_blocks_", members), strict=False))
    labels, details = zip(*[_label(fusion, name, block_of[name]) for name in members], strict=True)
    # The models of the folds differ only in their training rows, so one of them is shown, with their number.
    shown = [part[0] if isinstance(part, list) else part for part in members.values()]
    counts = [f" ({len(part)} models)" if isinstance(part, list) else "" for part in members.values()]
    names = [f"{label}{count}" for label, count in zip(labels, counts, strict=True)]
    parallel = Diagram("parallel", shown, names, list(details))
    return _in_order([("estimators: one per member", parallel)], fusion)


def _in_order(steps: list[tuple[str, Any]], fusion: Any = None) -> Diagram:
    """Put the steps one below another, with the combiner last."""
    combiner = getattr(fusion, "combiner_", getattr(fusion, "combiner", None))
    if combiner is not None:
        steps = [*steps, (f"combiner: {type(combiner).__name__}", combiner)]
    names, parts = zip(*steps, strict=True)
    details = [None if isinstance(part, Diagram) else str(part) for part in parts]
    return Diagram("serial", list(parts), list(names), details)


def _side_by_side(given: Mapping[str, Any]) -> Diagram:
    parts = [_box(part) for part in given.values()]
    names = [f"{name}: {_class_of(part)}" for name, part in zip(given, parts, strict=True)]
    return Diagram("parallel", parts, names, [str(part) for part in given.values()])


def _class_of(part: Any) -> str:
    if isinstance(part, Diagram):
        return f"{len(part.estimators)} heads"
    return part if isinstance(part, str) else type(part).__name__


def _box(part: Any) -> Any:
    """Return the content of a block's box: an estimator, several heads side by side, or a word."""
    if part is None:
        return "default"
    if isinstance(part, list):
        return Diagram("parallel", part, [f"{type(one).__name__}" for one in part], [str(one) for one in part])
    return part


def _blocks(fusion: Any, names: list[str]) -> tuple[list[str], list[str], list[str]]:
    labels, details = zip(*[_label(fusion, name, name) for name in names], strict=True)
    contents = ["raw cells" if name in fusion.raw_blocks_ else "numbers" for name in names]
    return contents, list(labels), list(details)


def _label(fusion: Any, name: str, block: str) -> tuple[str, str]:
    """Return the label of a block or member (with its columns), and the text with the list of columns."""
    if name in getattr(fusion, "word_members_", ()):
        return f"{name}: texts", f"words and characters of the texts of {block}"
    positions = fusion.blocks_.get(block)
    if positions is None:
        return f"{name}: all blocks", f"all blocks of numbers: {list(fusion.blocks_)}"
    given = getattr(fusion, "feature_names_in_", None)
    columns = [str(i) if given is None else str(given[i]).removeprefix(f"{block}{SEPARATOR}") for i in positions]
    short = ", ".join(columns) if len(columns) <= _SHOWN else f"{len(columns)} columns"
    rest = f" and {len(columns) - _LISTED} more" if len(columns) > _LISTED else ""
    return f"{name}: {short}", f"{len(columns)} columns: {', '.join(columns[:_LISTED])}{rest}"
