"""Picture of the explanation of one row."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from ensemblefuse._optional import import_optional
from ensemblefuse._theme import INK, SOFT
from ensemblefuse.inspection._part_explanation import PartExplanation
from ensemblefuse.inspection._row_html import MOST_COLUMNS, columns_by_effect
from ensemblefuse.scoring.display import MUTED, color_map, sign_color, text_on

__all__ = ["draw_row"]

_WIDTH = 8.0  # inches
_CHARACTERS = 56  # in a line of text
_CHARACTER_WIDTH, _LINE_HEIGHT = 6.0, 18  # points, of the monospace font at 9 points, rounded up to pixels


def draw_row(explanation: Any) -> tuple[Any, list[Any]]:
    """Draw the shares and one panel per modality, from top to bottom; return the figure and its axes."""
    pyplot = import_optional("matplotlib.pyplot", package="matplotlib", needed_by="RowExplanationDisplay")
    panels = {name: part for name, part in explanation.parts.items() if part.kind != "none"}
    heights = [0.9 + 0.34 * (len(explanation.shares) + 2), *(_height(part) for part in panels.values())]
    figure, axes = pyplot.subplots(
        len(heights), 1, figsize=(_WIDTH, sum(heights)), height_ratios=heights, layout="constrained", squeeze=False
    )
    axes = axes[:, 0].tolist()
    _draw_shares(axes[0], explanation)
    for ax, (name, part) in zip(axes[1:], panels.items(), strict=True):
        _DRAW[part.kind](ax, part)
        ax.set_title(f"{_short(name, 22)}: {part.unit}", loc="left", fontsize="medium")
    return figure, axes


def _height(part: PartExplanation) -> float:
    if part.kind == "text":
        return 0.5 + _LINE_HEIGHT / 72 * len(_lines(part.effects["token"]))
    if part.kind == "columns":
        return 0.9 + 0.28 * min(MOST_COLUMNS, len(part.effects))
    return {"image": 3.6, "sound": 2.8, "series": 2.4}[part.kind]


def _draw_shares(ax: Any, explanation: Any) -> None:
    names = ["nothing known", *explanation.shares.index, "all together"]
    widths = [explanation.base, *explanation.shares, explanation.value]
    colors = [MUTED, *map(sign_color, explanation.shares), SOFT]
    places = np.arange(len(names))
    ax.barh(places, widths, color=colors, height=0.7)
    ax.axvline(0, color=INK, linewidth=0.8)
    for place, name, width in zip(places, names, widths, strict=True):
        text = "missing" if name in explanation.missing else f"{width:+.2f}"
        ax.annotate(
            text,
            (width, place),
            xytext=(4 if width >= 0 else -4, 0),
            textcoords="offset points",
            va="center",
            ha="left" if width >= 0 else "right",
        )
    ax.set(yticks=places, yticklabels=[_short(name, 22) for name in names], ylim=(len(names) - 0.5, -0.5))
    ax.set_xlabel(
        _short(
            f"{explanation.unit}; positive speaks for it" if explanation.target is not None else explanation.unit, 60
        )
    )
    ax.set_title("\n".join(textwrap.wrap(explanation.title, 58)[:3]), loc="left", fontsize="medium")
    ax.margins(x=0.2)
    ax.spines[["top", "right"]].set_visible(False)


def _short(text: Any, length: int) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def _largest(effects: Any) -> float:
    return float(np.abs(np.asarray(effects, dtype=float)).max(initial=0)) or 1.0


def _draw_image(ax: Any, part: PartExplanation) -> None:
    most = _largest(part.effects)
    if part.shown is not None:
        height, width = part.shown.shape[:2]
        ax.imshow(part.shown.mean(axis=2), cmap="gray", vmin=0, vmax=255)
    else:
        height, width = part.effects.shape
    shade = ax.imshow(
        part.effects,
        cmap=color_map(signed=True),
        vmin=-most,
        vmax=most,
        alpha=0.55 if part.shown is not None else 1.0,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
    )
    ax.set(xticks=[], yticks=[])
    ax.figure.colorbar(shade, ax=ax, shrink=0.85)


def _draw_sound(ax: Any, part: PartExplanation) -> None:
    samples, rate = part.shown
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    hz, seconds = part.edges
    ax.specgram(
        mono,
        NFFT=min(512, len(mono)),
        Fs=rate,
        noverlap=min(512, len(mono)) // 2,
        cmap="gray",
        mode="magnitude",
        scale="dB",
    )
    most = _largest(part.effects)
    shade = ax.pcolormesh(seconds, hz, part.effects, cmap=color_map(signed=True), vmin=-most, vmax=most, alpha=0.5)
    ax.set(xlabel="time (s)", ylabel="frequency (Hz)", xlim=(0, seconds[-1]), ylim=(0, hz[-1]))
    ax.figure.colorbar(shade, ax=ax)


def _draw_series(ax: Any, part: PartExplanation) -> None:
    (edges,) = part.edges
    most, (low, high) = _largest(part.effects), (np.nanmin(part.shown), np.nanmax(part.shown))
    margin = 0.05 * (high - low) or 1.0
    shade = ax.pcolormesh(
        edges,
        [low - margin, high + margin],
        part.effects.to_numpy()[None],
        cmap=color_map(signed=True),
        vmin=-most,
        vmax=most,
        alpha=0.6,
    )
    for channel in part.shown:
        ax.plot(np.arange(part.shown.shape[1]) + 0.5, channel, color=INK, linewidth=1)
    ax.set(xlabel="sample", ylabel="value")
    ax.figure.colorbar(shade, ax=ax)


def _draw_columns(ax: Any, part: PartExplanation) -> None:
    columns = columns_by_effect(part)[:MOST_COLUMNS]
    labels, effects = [_short(column, 26) for column, _ in columns], [effect for _, effect in columns]
    ax.barh(np.arange(len(columns)), effects, color=[sign_color(effect) for effect in effects], height=0.7)
    ax.set(yticks=np.arange(len(columns)), yticklabels=labels, ylim=(len(columns) - 0.5, -0.5))
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_text(ax: Any, part: PartExplanation) -> None:
    shades, most = color_map(signed=True), _largest(part.effects["effect"])
    lines, k = _lines(part.effects["token"]), 0
    ax.axis("off")
    effects = part.effects["effect"].to_numpy()
    for y, line in enumerate(lines):
        x = 0
        for word in line:
            shade = shades(0.5 + 0.5 * effects[k] / most)
            # In points, because the width of a character is known only in points.
            ax.annotate(
                word,
                (0, 1),
                xycoords="axes fraction",
                xytext=(x * _CHARACTER_WIDTH, -_LINE_HEIGHT * (y + 0.5)),
                textcoords="offset points",
                family="monospace",
                fontsize=9,
                va="center",
                color=text_on(shade),
                bbox={"boxstyle": "square,pad=0.12", "facecolor": shade, "edgecolor": "none"},
                annotation_clip=False,
            )
            x += len(word) + 1
            k += 1


def _lines(words: Any) -> list[list[str]]:
    """Break words into lines that fit the panel; a word longer than a line is shortened."""
    lines: list[list[str]] = [[]]
    length = 0
    for word in words:
        word = " ".join(word.split())
        word = word if len(word) < _CHARACTERS else word[: _CHARACTERS - 2] + "…"
        if length + len(word) > _CHARACTERS and lines[-1]:
            lines.append([])
            length = 0
        lines[-1].append(word)
        length += len(word) + 1
    return lines


_DRAW = {
    "image": _draw_image,
    "text": _draw_text,
    "sound": _draw_sound,
    "series": _draw_series,
    "columns": _draw_columns,
}
