"""Base class of all Displays, with the colours and axes that they share; imports only floor 0 of the library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ensemblefuse._optional import import_optional
from ensemblefuse._theme import AGAINST, EDGE, FOR, PALETTE

__all__ = ["BaseDisplay", "color_map", "colors_of", "drawn_by", "new_axes", "shorten", "sign_color", "text_on"]

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MUTED = EDGE
# Of text on a cell with a colour of its own, which is the same in both themes of a page.
_ON_LIGHT, _ON_DARK = "#010101", "#fefefe"


def colors_of(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each modality; the same names in the same order always get the same colours."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}


def sign_color(value: float) -> str:
    """Return the colour of a number by its sign: blue for what helps or speaks for the target, orange for the rest."""
    return FOR if value >= 0 else AGAINST


def color_map(*, signed: bool) -> Any:
    """Return the colour map of signed numbers, from orange through white to blue, or of shares, from white to blue."""
    from matplotlib.colors import LinearSegmentedColormap

    colors = [AGAINST, "#f7f7f7", FOR] if signed else ["#f7f7f7", FOR]
    return LinearSegmentedColormap.from_list("sign" if signed else "share", colors)


def text_on(color: Sequence[float]) -> str:
    """Return the colour of text that stands out on a colour, given as red, green and blue from 0 to 1."""
    levels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
    luminance = 0.2126 * levels[0] + 0.7152 * levels[1] + 0.0722 * levels[2]
    # Where black and white have the same contrast, as WCAG 2.2 defines it.
    return _ON_LIGHT if luminance > 0.179 else _ON_DARK


def shorten(name: Any, width: int = 32) -> str:
    """Shorten a name to `width` characters by cutting out its middle: names usually differ at their ends."""
    text, half = str(name), (width - 1) // 2
    return text if len(text) <= width else f"{text[:half]}…{text[-half:]}"


def new_axes(ax: Any, needed_by: str, *, width: float = 6.4, height: float = 4.0) -> Any:
    """Return the given axes, or those of a new figure of this size in inches, without the top and right spines.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    pyplot = import_optional("matplotlib.pyplot", package="matplotlib", needed_by=needed_by)
    if ax is None:
        _, ax = pyplot.subplots(figsize=(width, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


class BaseDisplay:
    """Base of the Displays: it holds a result and draws it on request.

    A subclass implements ``_draw(ax)``, which draws ``self.result``. For another figure size it sets ``_size`` or
    overrides ``_figsize()``. The decorator `drawn_by` registers the function that computes the result.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    # Set by `drawn_by`.
    _compute: ClassVar[Any]
    _compute_from_predictions: ClassVar[Any]
    _size: ClassVar[tuple[float, float]] = (6.4, 4.0)

    def __init__(self, result: Any):
        self.result = result

    @classmethod
    def from_estimator(cls, estimator: Any, *args: Any, ax: Any = None, **params: Any) -> Any:
        """Compute the result for a fitted model, and draw it.

        Parameters
        ----------
        estimator : fitted model
        *args, **params
            Parameters of the function that computes the result.
        ax : matplotlib Axes, optional

        Returns
        -------
        Display
        """
        return cls(cls._compute(estimator, *args, **params)).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> Any:
        """Draw on `ax`, or on a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        width, height = self._figsize()
        ax = new_axes(ax, type(self).__name__, width=width, height=height)
        self._draw(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _figsize(self) -> tuple[float, float]:
        return self._size

    def _draw(self, ax: Any) -> None:
        raise NotImplementedError


def drawn_by(display: Any, given: str = "estimator") -> Callable[[Any], Any]:
    """Register the decorated function as what ``display.from_estimator`` or ``display.from_predictions`` calls.

    This avoids a circular import: the function imports its result and Display, so their module cannot import it.

    Parameters
    ----------
    display : class of a Display
    given : {"estimator", "predictions"}
    """
    name = {"estimator": "_compute", "predictions": "_compute_from_predictions"}[given]

    def register(compute: Any) -> Any:
        setattr(display, name, staticmethod(compute))
        return compute

    return register
