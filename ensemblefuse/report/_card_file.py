"""The card of skops with a header of YAML, which skops leaves to others."""

from __future__ import annotations

from pathlib import Path

from skops.card import Card

__all__ = ["ModelCard"]


class ModelCard(Card):
    """A card whose file begins with a header.

    Attributes
    ----------
    header : str
        Lines of YAML between two lines ``---``.
    """

    header = ""

    def render(self) -> str:
        """The card as Markdown, header first."""
        return f"{self.header}\n{super().render()}"

    def _repr_markdown_(self) -> str:
        """What a notebook shows; the header is for files."""
        return super().render().lstrip()

    def save(self, path: str | Path, copy_files: bool = False) -> None:
        """Write the card to a file, in UTF-8, lines ended by a line feed.

        Parameters
        ----------
        path : path-like
        copy_files : bool
            Whether pictures that were added with ``add_plot`` are copied beside it.
        """
        super().save(path, copy_files=copy_files)
        Path(path).write_text(self.render(), encoding="utf-8", newline="\n")
