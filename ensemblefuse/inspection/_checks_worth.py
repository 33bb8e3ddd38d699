"""Checks of what modalities, and their fusion, are worth."""

from __future__ import annotations

import numpy as np

from ensemblefuse.inspection._findings import CheckData, NotRun

__all__ = ["check_fusion_gain", "check_useless_modality"]

Answer = tuple[str, str, str, list]
# Gains below this are rounding.
_ROUNDING = 1e-9


def check_useless_modality(data: CheckData) -> Answer:
    """Modalities without which the model is as good, and which alone are worth nothing."""
    names = data.parts.names
    if len(names) < 2:
        raise NotRun("the model has one modality.")
    full, nothing = data.values(names), data.values([])
    found, shown = [], []
    for name in names:
        last = data.gain(full, data.values([other for other in names if other != name]))
        alone = data.gain(data.values([name]), nothing)
        shown.append(f"{name!r}: {_figures(alone)} alone, {_figures(last)} on top of the others")
        if last[1] <= _ROUNDING and alone[1] <= _ROUNDING:
            found.append(name)
    said = f"{'; '.join(shown)} ({data.unit}, 95 % interval; {data.source})."
    if not found:
        return "ok", f"Each modality is worth something. {said}", "", []
    joint = data.said.joint_gain
    if joint is not None and joint[1] > _ROUNDING:
        raise NotRun(
            f"needs fits: the joint member, which is left out of these figures, adds {_figures(joint)} {data.unit} and "
            f"may need {found}; modality_ablation(method='refit') tells."
        )
    advice = (
        f"Try the model without {found}; it costs encoding, and the scores do not show what for. An interval that "
        "holds 0 is no proof of worthlessness where rows are few."
    )
    return "tip", f"Nothing shows that {found} help. {said}", advice, []


def check_fusion_gain(data: CheckData) -> Answer:
    """Whether the fusion is better than its best modality alone."""
    names = data.parts.names
    if len(names) < 2:
        raise NotRun("the model has one modality.")
    weight = data.said.sample_weight
    scores = {name: float(np.average(data.values([name]), weights=weight)) for name in names}
    best = max(scores, key=lambda name: scores[name])
    gain = data.gain(data.deployed, data.values([best]))
    said = f"{_figures(gain)} over {best!r}, the best one alone ({data.unit}, 95 % interval; {data.source})"
    if gain[1] > _ROUNDING:
        return "ok", f"The fusion gains {said}.", "", []
    advice = f"Use {best!r} alone, which is simpler, or try other strategies (FusionSearchCV, compare_fusions)."
    return "tip", f"Nothing shows that the fusion gains anything: {said}.", advice, []


def _figures(gain: tuple[float, float, float]) -> str:
    return f"{gain[0]:.3f} ({gain[1]:.3f} to {gain[2]:.3f})"
