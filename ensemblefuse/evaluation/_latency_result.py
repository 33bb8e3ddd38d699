"""Result of `prediction_latency`, and its picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ensemblefuse._theme import INK
from ensemblefuse.scoring.display import BaseDisplay, colors_of
from ensemblefuse.scoring.result import TableResult

__all__ = ["PredictionLatency", "PredictionLatencyDisplay"]

WHOLE = "all"
LOAD, ENCODE, TRANSFORM, JOIN, FUSE, TOTAL, CACHED = (
    "load",
    "encode",
    "transform",
    "join",
    "fuse",
    "total",
    "total, cached",
)


class PredictionLatency(TableResult):
    """Time and memory of predictions. Made by `prediction_latency`.

    Attributes
    ----------
    table : DataFrame
        One row per batch size, modality and stage, in milliseconds: ``call_mean``, ``call_p50``, ``call_p95`` per call,
        and ``row_mean``, ``row_p50``, ``row_p95``, the same divided by the rows of a call. Stages of a modality:

        - ``load``: reading and decoding cells, as far as the network waits for it; threads load ahead.
        - ``encode``: the network.
        - ``transform``: all else, such as digests of cells, and steps before or after the encoder.

        Stages of the whole call, with the modality ``"all"``: ``join`` (joining the blocks, and steps between them and
        the fusion), ``fuse``, ``total``, and ``total, cached``, the whole call with all embeddings in the cache. In
        each call the stages before ``total`` sum to it, and so do their means; quantiles do not.
    caption : str
    notes : list of str
    calls : DataFrame
        Every measured call: ``batch_size``, ``call``, ``modality``, ``stage``, ``ms``.
    start : float
        Milliseconds of the first call, of one row; it is not in the figures above.
    memory : DataFrame
        In MiB, with the index `batch_size`: ``peak``, the largest resident size of this process during the measured
        calls, and ``rise``, the peak minus the size before them. ``peak`` includes the network, the table and all that
        the process held before; memory of an accelerator is in neither. NaN where the system does not report it.
    names : list of str
        Modalities.
    n_repeats : int
    """

    def __init__(self, table, caption, notes, *, calls, start, memory, names, n_repeats):
        super().__init__(table, caption, notes)
        self.calls: pd.DataFrame = calls
        self.start: float = start
        self.memory: pd.DataFrame = memory
        self.names: list[str] = names
        self.n_repeats: int = n_repeats

    def _display_class(self) -> Any:
        return PredictionLatencyDisplay


# One hatch per stage; a modality's colour is the same in all stages.
_HATCHES = {LOAD: "///", ENCODE: "", TRANSFORM: "...", JOIN: "", FUSE: "///", TOTAL: ""}
_GREYS = {JOIN: "0.85", FUSE: "0.7", TOTAL: "0.7"}
# Parts below this share of every bar are too small to see and get no legend.
_NAMED = 0.01


class PredictionLatencyDisplay(BaseDisplay):
    """Mean milliseconds per row, one bar per batch size: a colour for each modality, a hatch for each stage.

    A diamond marks the whole call with all embeddings in the cache, a vertical line the 95th percentile without cache.
    Parts under 1 % of every bar are not in the legend.

    Parameters
    ----------
    result : PredictionLatency

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, PredictionLatencyDisplay
    >>> X = pd.DataFrame({"text__0": np.arange(40.0) % 7, "image__0": np.arange(40.0) % 3})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=2).fit(X, X["image__0"] > 1)
    >>> display = PredictionLatencyDisplay.from_estimator(model, X, n_repeats=2)
    >>> display.ax_.get_xlabel()
    'milliseconds per row, mean of 2 calls'
    """

    def _figsize(self) -> tuple[float, float]:
        table = self.result.table
        n_parts = len(table.drop_duplicates(["modality", "stage"]))
        height = max(1.6 + 0.6 * table["batch_size"].nunique(), 1.2 + 0.2 * n_parts)
        return 6.4 + 0.08 * max(map(len, [*self.result.names, ""])), height

    def _draw(self, ax: Any) -> None:
        table, colors = self.result.table, colors_of(self.result.names)
        sizes = table["batch_size"].unique().tolist()
        heights = np.arange(len(sizes))
        by_stage = {
            key: part.set_index("batch_size")["row_mean"].loc[sizes].to_numpy()
            for key, part in table.groupby(["modality", "stage"], sort=False)
        }
        parts = {key: width for key, width in by_stage.items() if key[1] not in (TOTAL, CACHED)}
        left = np.zeros(len(sizes))
        for (name, stage), width in (parts or {(WHOLE, TOTAL): by_stage[WHOLE, TOTAL]}).items():
            # Decided by the stage, not the name: a modality may be called "all".
            color = _GREYS[stage] if stage in _GREYS else colors[name]
            label = stage if stage in _GREYS else f"{name}: {stage}"
            label = label if (width >= _NAMED * by_stage[WHOLE, TOTAL]).any() else None
            style = {"color": color, "hatch": _HATCHES[stage], "edgecolor": "white", "linewidth": 0.5}
            ax.barh(heights, width, left=left, height=0.6, label=label, **style)
            left = left + width
        late = table[table["stage"] == TOTAL]["row_p95"]
        ax.plot(late, heights, color=INK, marker="|", markersize=18, linestyle="none", label="total, p95")
        if (WHOLE, CACHED) in by_stage:
            style = {"color": INK, "marker": "D", "markerfacecolor": "white", "linestyle": "none"}
            ax.plot(by_stage[WHOLE, CACHED], heights, label=CACHED, **style)
        ax.set(
            yticks=heights,
            yticklabels=[f"{size} row{'s' if size > 1 else ''} per call" for size in sizes],
            ylim=(len(sizes) - 0.5, -0.5),
            xlim=(0, None),
            xlabel=f"milliseconds per row, mean of {self.result.n_repeats} calls",
            title="Time of a prediction by modality and stage",
        )
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")
