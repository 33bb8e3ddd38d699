"""A card of skops with a YAML header, which skops itself does not write."""

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
        """Return the card as Markdown, header first."""
        return f"{self.header}\n{super().render()}"

    def _repr_markdown_(self) -> str:
        """Return the card without its header, for notebooks."""
        return super().render().lstrip()

    def save(self, path: str | Path, copy_files: bool = False) -> None:
        """Write the card to a file, in UTF-8 with line feeds.

        Parameters
        ----------
        path : path-like
        copy_files : bool
            Whether pictures that were added with ``add_plot`` are copied into the same folder.
        """
        super().save(path, copy_files=copy_files)
        Path(path).write_text(self.render(), encoding="utf-8", errors="backslashreplace", newline="\n")
