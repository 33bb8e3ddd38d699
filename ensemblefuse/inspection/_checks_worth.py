"""Checks of the gain from modalities and from their fusion."""

from __future__ import annotations

import numpy as np

from ensemblefuse.inspection._checks_data import CheckData, NotRun

__all__ = ["check_fusion_gain", "check_useless_modality"]

Answer = tuple[str, str, str, list]
# Gains below this are rounding.
_ROUNDING = 1e-9


def check_useless_modality(data: CheckData) -> Answer:
    """Check for modalities with no demonstrated gain, neither alone nor on top of the others."""
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
        return "ok", f"Each modality helps, alone or on top of the others. {said}", "", []
    joint = data.said.joint_gain
    if joint is not None and joint[1] > _ROUNDING:
        raise NotRun(
            f"needs fits: the joint member is not in these figures; it adds {_figures(joint)} {data.unit} and may need "
            f"{found}. To see whether it does, use modality_ablation(method='refit')."
        )
    advice = (
        f"Try the model without {found}: encoding costs time, and the scores show no gain from it. With few rows, an "
        "interval that contains 0 does not prove that a modality is useless."
    )
    return "tip", f"No evidence that {found} help. {said}", advice, []


def check_fusion_gain(data: CheckData) -> Answer:
    """Check whether the fusion is better than its best modality alone."""
    names = data.parts.names
    if len(names) < 2:
        raise NotRun("the model has one modality.")
    weight = data.said.sample_weight
    scores = {name: float(np.average(data.values([name]), weights=weight)) for name in names}
    best = max(scores, key=lambda name: scores[name])
    gain = data.gain(data.deployed, data.values([best]))
    said = f"{_figures(gain)} over {best!r}, the best single modality ({data.unit}, 95 % interval; {data.source})"
    if gain[1] > _ROUNDING:
        return "ok", f"The fusion gains {said}.", "", []
    advice = f"Use {best!r} alone, which is simpler, or try other strategies (FusionSearchCV, compare_fusions)."
    return "tip", f"No evidence that the fusion gains anything: {said}.", advice, []


def _figures(gain: tuple[float, float, float]) -> str:
    return f"{gain[0]:.3f} ({gain[1]:.3f} to {gain[2]:.3f})"
