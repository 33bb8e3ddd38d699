"""Explanation of one row as self-contained HTML."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import numpy as np
from PIL import Image

from ensemblefuse.inspection._part_explanation import PartExplanation
from ensemblefuse.scoring.display import colors_of

__all__ = ["row_html"]

_MOST_BARS = 15
_SIDE = 320  # pixels
_MOST_BYTES = 60_000  # of a picture or a sound
_FOR, _AGAINST = np.array([178, 24, 43]), np.array([33, 102, 172])  # the ends of ColorBrewer's RdBu


def row_html(explanation: Any) -> str:
    """Return an explanation as HTML: the shares as bars, then each modality."""
    colors = colors_of(list(explanation.shares.index))
    bars = [("nothing known", explanation.base, "#999999", "")]
    for name, share in explanation.shares.items():
        bars.append((name, share, colors[name], "missing" if name in explanation.missing else ""))
    bars.append(("all together", explanation.value, "#4d4d4d", ""))
    blocks = [
        f"<p><b>{html.escape(explanation.title)}</b></p>",
        f"<p>{html.escape(explanation.unit)}: base and shares of the modalities add up to all together.</p>",
        _bars(bars),
    ]
    for name, part in explanation.parts.items():
        blocks.append(_part_html(name, part, colors[name]))
    return f'<div style="font-family:sans-serif;font-size:14px;max-width:760px">{"".join(blocks)}</div>'


def _part_html(name: str, part: PartExplanation, color: str) -> str:
    title = f'<p style="margin:14px 0 4px"><b style="border-left:6px solid {color};padding-left:6px">{_text(name)}</b>'
    title += f" {_text(part.unit)}</p>"
    note = f'<p style="color:#555;margin:4px 0">{_text(part.note)}</p>' if part.note else ""
    return title + (_SHOW[part.kind](part) if part.kind in _SHOW else "") + note


def _bars(bars: list[tuple[Any, float, str, str]]) -> str:
    """Return bars to the left and right of a line at 0, from the name, width, colour and remark of each."""
    most = max((abs(width) for _, width, _, _ in bars), default=0) or 1.0
    rows = []
    for name, width, color, remark in bars:
        share = 50 * abs(width) / most
        start = 50 if width >= 0 else 50 - share
        bar = f"position:absolute;left:{start:.2f}%;width:{share:.2f}%;top:3px;bottom:3px;background:{color}"
        rows.append(
            '<tr style="background:none">'
            f'<td style="padding:0 8px;text-align:right;max-width:260px;overflow-wrap:anywhere">{_text(name)}</td>'
            '<td style="width:320px;padding:0"><div style="position:relative;height:20px;'
            f'background:linear-gradient(#777,#777) 50%/1px 100% no-repeat"><div style="{bar}"></div></div></td>'
            f'<td style="padding:0 8px;text-align:left">{_text(remark) or f"{width:+.3g}"}</td></tr>'
        )
    return f'<table style="border-collapse:collapse;font-size:13px">{"".join(rows)}</table>'


def _text_html(part: PartExplanation) -> str:
    text, most, place, pieces = part.shown, _largest(part.effects["effect"]), 0, []
    for start, end, effect in part.effects[["start", "end", "effect"]].itertuples(index=False):
        red, green, blue = _FOR if effect > 0 else _AGAINST
        line = "solid" if effect > 0 else "dotted"
        pieces.append(_text(text[place:start]))
        color, share = f"{red},{green},{blue}", abs(effect) / most
        style = f"background:rgba({color},{0.6 * share:.3f});border-bottom:2px {line} rgba({color},{share:.3f})"
        pieces.append(f'<span title="{effect:+.3g}" style="{style}">{_text(text[start:end])}</span>')
        place = end
    pieces.append(_text(text[place:]))
    return f'<p style="line-height:1.8;white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0">{"".join(pieces)}</p>'


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
        f"<p style='margin:4px 0;color:#555'>{what}</p><p style='margin:4px 0'>{audio}</p>"
        f"<p style='margin:4px 0;color:#555'>{heard}</p>"
    )


def _series_html(part: PartExplanation) -> str:
    """Return an SVG of the series, with the effects of the windows as shades behind its lines."""
    (edges,) = part.edges
    most, n = _largest(part.effects), part.shown.shape[1]
    low, high = float(np.nanmin(part.shown)), float(np.nanmax(part.shown))
    shades = []
    for start, end, effect in zip(edges[:-1], edges[1:], part.effects, strict=True):
        red, green, blue = _FOR if effect > 0 else _AGAINST
        shades.append(
            f'<rect x="{480 * start / n:.2f}" y="0" width="{480 * (end - start) / n:.2f}" height="140" '
            f'fill="rgb({red},{green},{blue})" fill-opacity="{0.6 * abs(effect) / most:.3f}">'
            f"<title>samples {start} to {end - 1}: {effect:+.3g}</title></rect>"
        )
    step = max(1, n // 960)
    for channel in part.shown:
        heights = 136 - 132 * (channel[::step] - low) / ((high - low) or 1.0)
        points = " ".join(f"{480 * (k * step + 0.5) / n:.1f},{y:.1f}" for k, y in enumerate(heights) if np.isfinite(y))
        shades.append(f'<polyline points="{points}" fill="none" stroke="black" stroke-width="1"/>')
    what = f"samples 0 to {n - 1}, values {low:.4g} to {high:.4g}"
    svg = f'<svg width="480" height="140" role="img" aria-label="{what}">{"".join(shades)}</svg>'
    return f"<p style='margin:4px 0'>{svg}</p>{_legend(part.effects)}<p style='margin:4px 0;color:#555'>{what}</p>"


def _columns_html(part: PartExplanation) -> str:
    order = part.effects.abs().sort_values(ascending=False, kind="stable").index
    colors = ["#b2182b" if part.effects[column] > 0 else "#2166ac" for column in order]
    names = [f"{column} = {_short(part.shown[column])}" for column in order]
    bars = [(name, float(part.effects[c]), color, "") for name, c, color in zip(names, order, colors, strict=True)]
    rest = "" if len(bars) <= _MOST_BARS else f"<p>and {len(bars) - _MOST_BARS} columns of smaller effect</p>"
    return _bars(bars[:_MOST_BARS]) + rest


# ---------------------------------------------------------------------- pictures and sounds as text


def _overlaid(picture: Image.Image, effects: np.ndarray) -> Image.Image:
    """Lay effects over a grey picture: red supports the target, blue is against it; a strong effect hides the grey."""
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
    effects, box = np.asarray(effects, dtype=float), "display:inline-block;width:12px;height:12px;background:rgba"
    said = [("for", _FOR, effects.max(initial=0)), ("against", _AGAINST, effects.min(initial=0))]
    keys = [
        f'<span style="{box}{(*c.tolist(), 0.65)}"></span> {what}, up to {most:+.3g}' for what, c, most in said if most
    ]
    return f'<p style="margin:4px 0;color:#555">{" ".join(keys)}</p>'


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
    "columns": _columns_html,
}
