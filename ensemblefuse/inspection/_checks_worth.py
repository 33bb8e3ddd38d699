"""Checks of the gain from modalities and from their fusion."""

from __future__ import annotations

from ensemblefuse.fitted.gains import Gain
from ensemblefuse.inspection._checks_data import CheckData, NotRun

__all__ = ["check_fusion_gain", "check_useless_modality"]

Answer = tuple[str, str, str, list]


def check_useless_modality(data: CheckData) -> Answer:
    """Check for modalities with no demonstrated gain, neither alone nor on top of the others."""
    if len(data.parts.names) < 2:
        raise NotRun("the model has one modality.")
    gains, found = data.gains, data.gains.useless
    shown = [
        f"{name!r}: {_figures(gains.alone[name])} alone, {_figures(gains.on_top[name])} on top of the others"
        for name in gains.names
    ]
    said = f"Gains: {'; '.join(shown)} ({data.gain_note})."
    if not found:
        return "ok", f"Each modality helps, alone or on top of the others. {said}", "", []
    if gains.joint is not None and gains.joint.helps:
        raise NotRun(
            f"needs fits: the joint member is not in these figures; it adds {_figures(gains.joint)} {gains.unit} and "
            f"may need {found}. To see whether it does, use modality_ablation(method='refit')."
        )
    advice = (
        f"Try the model without {found}: encoding costs time, and the scores show no gain from it. With few rows, an "
        "interval that contains 0 does not prove that a modality is useless."
    )
    return "tip", f"No evidence that {found} help. {said}", advice, []


def check_fusion_gain(data: CheckData) -> Answer:
    """Check whether the fusion is better than its best modality alone."""
    if len(data.parts.names) < 2:
        raise NotRun("the model has one modality.")
    best, gain = data.gains.best, data.gains.over_best
    said = f"{_figures(gain)} over {best!r}, the best single modality ({data.gain_note})"
    if gain.helps:
        return "ok", f"The fusion gains {said}.", "", []
    advice = f"Use {best!r} alone, which is simpler, or try other strategies (FusionSearchCV, compare_fusions)."
    return "tip", f"No evidence that the fusion gains anything: {said}.", advice, []


def _figures(gain: Gain) -> str:
    return f"{gain.mean:.3f} [{gain.low:.3f}, {gain.high:.3f}]"
