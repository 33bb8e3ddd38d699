"""Explanation of one row as self-contained HTML."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import numpy as np
from PIL import Image

from ensemblefuse._theme import AGAINST, FOR, SOFT
from ensemblefuse.inspection._part_explanation import PartExplanation

__all__ = ["MOST_COLUMNS", "columns_by_effect", "relation", "row_html", "signed"]

MOST_COLUMNS = 15  # with the largest effects, that are shown
_SIDE = 320  # pixels
_MOST_BYTES = 60_000  # of a picture or a sound
_SUM, _SOFT = f"var(--soft,{SOFT})", f"color:var(--soft,{SOFT})"
# Over a grey picture, which is the same on light and on dark pages.
_FOR, _AGAINST = (np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in (FOR, AGAINST))


def row_html(explanation: Any, scale: float | None = None) -> str:
    """Return an explanation as HTML: the contributions as bars, then each modality.

    Parameters
    ----------
    explanation : RowExplanation
    scale : float, optional
        The number of the longest bar; by default the largest of this explanation. All bars share one scale.
    """
    scale = scale or explanation.largest or 1.0
    bars = [("nothing known", explanation.base, _SUM, "")]
    for name, share in explanation.shares.items():
        bars.append((name, share, _color(share), "missing" if name in explanation.missing else ""))
    bars.append(("all together", explanation.value, _SUM, ""))
    right, left = ("speaks for it", "against it") if explanation.target is not None else ("raises it", "lowers it")
    blocks = [
        f"<p><b>{html.escape(explanation.title)}</b></p>",
        f"<p>Contributions in {html.escape(explanation.unit)}: positive (blue, to the right) {right}, negative "
        f"(orange, to the left) {left}. Nothing known and the contributions add up to all together.</p>",
        _bars(bars, scale),
    ]
    blocks += [_part_html(name, part, explanation, scale) for name, part in explanation.parts.items()]
    return f'<div style="font-family:sans-serif;font-size:14px;max-width:760px">{"".join(blocks)}</div>'


def signed(value: float) -> str:
    """Return a number with its sign, and with three decimals if it is small.

    Examples
    --------
    >>> from ensemblefuse.inspection._row_html import signed
    >>> signed(0.1), signed(-12.345), signed(0.0), signed(0.00001)
    ('+0.100', '−12.35', '0.000', '+1.00e−05')
    """
    size = abs(value)
    plain = 3 if size < 10 else 2 if size < 100 else 1
    text = f"{value:+.2e}" if 0 < size < 0.0005 or size >= 1e6 else f"{value:+.{plain}f}" if value else "0.000"
    return text.replace("-", "−")


def _color(value: float) -> str:
    """Return the colour of a sign for CSS: that of the page, if it has one for its theme."""
    return f"var(--for,{FOR})" if value >= 0 else f"var(--against,{AGAINST})"


def _part_html(name: str, part: PartExplanation, explanation: Any, scale: float) -> str:
    title = f'<p style="margin:16px 0 4px"><b>Inside {_text(name)}</b></p>'
    shown = (
        _columns_html(part, scale) if part.kind == "columns" else _SHOW[part.kind](part) if part.kind in _SHOW else ""
    )
    return title + _paragraph(relation(name, part, explanation)) + shown + _paragraph(part.note)


def relation(name: str, part: PartExplanation, explanation: Any) -> str:
    """Return how the effects inside a modality are measured, and with which figure of the modality they compare."""
    if part.kind == "none":
        return ""
    share = signed(explanation.shares[name])
    apart = f"Effects do not add up to its contribution, {share}, which is a mean over all combinations of modalities."
    if part.method != "occlusion" or explanation.on_top is None:
        return f"Effects: {part.unit}. {apart}"
    whole = signed(explanation.on_top[name])
    return f"Effects: {part.unit}. The whole modality, measured in the same way: {whole}. {apart}"


def _paragraph(text: str) -> str:
    return f'<p style="margin:4px 0;{_SOFT}">{_text(text)}</p>' if text else ""


def _bars(bars: list[tuple[Any, float, str, str]], scale: float) -> str:
    """Return bars to the left and right of a line at 0, from the name, width, colour and remark of each."""
    rows = []
    for name, width, color, remark in bars:
        share = min(50.0, 50 * abs(width) / scale)
        start = 50 if width >= 0 else 50 - share
        bar = f"position:absolute;left:{start:.2f}%;width:{share:.2f}%;top:3px;bottom:3px;background:{color}"
        rows.append(
            '<tr style="background:none">'
            f'<td style="padding:0 8px 0 0;text-align:left;width:38%;overflow-wrap:anywhere">{_text(name)}</td>'
            '<td style="padding:0"><div style="position:relative;height:20px;'
            f'background:linear-gradient(#777,#777) 50%/1px 100% no-repeat"><div style="{bar}"></div></div></td>'
            '<td style="padding:0 0 0 8px;text-align:right;width:5.2em;white-space:nowrap;'
            f'font-variant-numeric:tabular-nums">{_text(remark) or signed(width)}</td></tr>'
        )
    style = "border-collapse:collapse;font-size:13px;width:100%;max-width:560px;table-layout:fixed"
    return f'<table style="{style}">{"".join(rows)}</table>'


def _text_html(part: PartExplanation) -> str:
    text, most, place, pieces = part.shown, _largest(part.effects["effect"]), 0, []
    for start, end, effect in part.effects[["start", "end", "effect"]].itertuples(index=False):
        line = "solid" if effect > 0 else "dotted"
        pieces.append(_text(text[place:start]))
        shades = [
            f"color-mix(in srgb,{_color(effect)} {top * abs(effect) / most:.0f}%,transparent)" for top in (45, 100)
        ]
        style = f"background:{shades[0]};border-bottom:2px {line} {shades[1]}"
        pieces.append(f'<span title="{signed(effect)}" style="{style}">{_text(text[start:end])}</span>')
        place = end
    pieces.append(_text(text[place:]))
    style = "line-height:1.8;white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0"
    return f'<p style="{style}">{"".join(pieces)}</p>{_legend(part.effects["effect"])}'


def _image_html(part: PartExplanation) -> str:
    effects = np.asarray(part.effects, dtype=float)
    picture = (
        Image.new("L", (7 * _SIDE // 8, 7 * _SIDE // 8), 255) if part.shown is None else Image.fromarray(part.shown)
    )
    plain = _fitted(picture.convert("RGB"))
    images = [] if part.shown is None else [_image_tag(plain, "the picture")]
    images.append(_image_tag(_overlaid(plain, effects), "the picture and its effects"))
    return f"<p style='margin:4px 0'>{' '.join(images)}</p>{_legend(effects)}"


def _sound_html(part: PartExplanation) -> str:
    samples, rate = part.shown
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    hz, seconds = part.edges
    width, height = 480, 200
    # Rows of the picture are equal steps in Hz, low at the bottom; rows of the effects are equal steps in mel.
    of_row = np.clip(np.searchsorted(hz, (np.arange(height) + 0.5) / height * hz[-1]) - 1, 0, len(hz) - 2)[::-1]
    of_column = np.arange(width) * len(part.effects[0]) // width
    picture = Image.fromarray(_spectrogram(mono)).resize((width, height)).convert("RGB")
    drawn = _overlaid(picture, np.asarray(part.effects)[np.ix_(of_row, of_column)])
    what = f"0 to {hz[-1]:.0f} Hz from bottom to top, 0 to {seconds[-1]:.2f} s from left to right"
    sound, heard = _wav(mono, rate)
    audio = f'<audio controls src="data:audio/wav;base64,{sound}"></audio>'
    return (
        f"<p style='margin:4px 0'>{_image_tag(drawn, what)}</p>{_legend(part.effects)}"
        f"{_paragraph(what)}<p style='margin:4px 0'>{audio}</p>{_paragraph(heard)}"
    )


def _series_html(part: PartExplanation) -> str:
    """Return an SVG of the series, with the effects of the windows as shades behind its lines."""
    (edges,) = part.edges
    most, n = _largest(part.effects), part.shown.shape[1]
    low, high = float(np.nanmin(part.shown)), float(np.nanmax(part.shown))
    shades = []
    for start, end, effect in zip(edges[:-1], edges[1:], part.effects, strict=True):
        shades.append(
            f'<rect x="{480 * start / n:.2f}" y="0" width="{480 * (end - start) / n:.2f}" height="140" '
            f'style="fill:{_color(effect)}" fill-opacity="{0.6 * abs(effect) / most:.3f}">'
            f"<title>samples {start} to {end - 1}: {signed(effect)}</title></rect>"
        )
    step = max(1, n // 960)
    for channel in part.shown:
        heights = 136 - 132 * (channel[::step] - low) / ((high - low) or 1.0)
        points = " ".join(f"{480 * (k * step + 0.5) / n:.1f},{y:.1f}" for k, y in enumerate(heights) if np.isfinite(y))
        shades.append(f'<polyline points="{points}" fill="none" stroke="currentColor"/>')
    what = f"samples 0 to {n - 1}, values {low:.4g} to {high:.4g}"
    style = "width:100%;max-width:480px"
    svg = f'<svg viewBox="0 0 480 140" style="{style}" role="img" aria-label="{what}">{"".join(shades)}</svg>'
    return f"<p style='margin:4px 0'>{svg}</p>{_legend(part.effects)}{_paragraph(what)}"


def _columns_html(part: PartExplanation, scale: float) -> str:
    bars = [(name, effect, _color(effect), "") for name, effect in columns_by_effect(part)]
    rest = "" if len(bars) <= MOST_COLUMNS else f"<p>and {len(bars) - MOST_COLUMNS} columns of smaller effect</p>"
    return _bars(bars[:MOST_COLUMNS], scale) + rest


def columns_by_effect(part: PartExplanation) -> list[tuple[str, float]]:
    """Return each column with its value, and its effect; the largest effects come first."""
    order = part.effects.abs().sort_values(ascending=False, kind="stable").index
    return [(f"{column} = {_short(part.shown[column])}", float(part.effects[column])) for column in order]


# ---------------------------------------------------------------------- pictures and sounds as text


def _overlaid(picture: Image.Image, effects: np.ndarray) -> Image.Image:
    """Lay effects over a grey picture: blue for the target, orange against it; a strong effect hides the grey."""
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=float)
    rows = np.arange(grey.shape[0]) * effects.shape[0] // grey.shape[0]
    columns = np.arange(grey.shape[1]) * effects.shape[1] // grey.shape[1]
    strength = (effects / _largest(effects))[np.ix_(rows, columns)][..., None]
    color = np.where(strength > 0, _FOR, _AGAINST)
    alpha = 0.65 * np.abs(strength)
    return Image.fromarray(((1 - alpha) * grey + alpha * color).astype(np.uint8))


def _fitted(picture: Image.Image) -> Image.Image:
    """Scale a picture so that its longer side has 320 pixels."""
    scale = _SIDE / max(picture.size)
    width, height = (max(1, round(scale * side)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS)


def _image_tag(picture: Image.Image, what: str) -> str:
    for quality in (85, 60, 35, 10):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        if file.tell() <= _MOST_BYTES * 3 // 4:
            break
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{_text(what)}" style="max-width:100%" src="data:image/jpeg;base64,{data}">'


def _spectrogram(samples: np.ndarray) -> np.ndarray:
    """Return loudness as grey over 80 dB, high frequencies on top: shape (n_frequencies, n_times), dtype uint8."""
    length = min(512, len(samples))
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)[:: max(1, length // 2)]
    power = np.abs(np.fft.rfft(frames * np.hanning(length), axis=1)) ** 2
    level = 10 * np.log10(np.maximum(power.T[::-1], 1e-12 * max(power.max(), 1e-30)))
    return (255 * np.clip(1 + (level - level.max()) / 80, 0, 1)).astype(np.uint8)


def _wav(samples: np.ndarray, rate: float) -> tuple[str, str]:
    """Return the beginning of a sound as a small file, and a text that says what was left out."""
    import wave

    from scipy.signal import resample_poly

    lower = max(1, round(rate / 8000))
    small = resample_poly(samples.astype(float), 1, lower) if lower > 1 else samples.astype(float)
    at, most = rate / lower, (_MOST_BYTES * 3 // 4 - 44) // 2
    kept = small[:most]
    loudest = max(float(np.abs(kept).max(initial=0)), 1.0)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(round(at))
        out.writeframes((32767 * kept / loudest).astype("<i2").tobytes())
    words = f"played at {at:.0f} samples per second" + (
        f", the first {len(kept) / at:.1f} of {len(small) / at:.1f} s" if len(kept) < len(small) else ""
    )
    return base64.b64encode(file.getvalue()).decode(), words


def _legend(effects: Any) -> str:
    effects = np.asarray(effects, dtype=float)
    ends = [(what, end) for what, end in (("positive", effects.max(initial=0)), ("negative", effects.min(initial=0)))]
    box = "display:inline-block;width:12px;height:12px;background"
    keys = [
        f'<span style="white-space:nowrap"><span style="{box}:{_color(e)}"></span> {what}, strongest {signed(e)}</span>'
        for what, e in ends
        if e
    ]
    return f'<p style="margin:4px 0;{_SOFT}">{" &ensp;".join(keys) or "no effect"}</p>'


def _largest(effects: Any) -> float:
    return float(np.abs(np.asarray(effects, dtype=float)).max(initial=0)) or 1.0


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _text(value: Any) -> str:
    return html.escape(str(value))


_SHOW = {
    "image": _image_html,
    "text": _text_html,
    "sound": _sound_html,
    "series": _series_html,
}
