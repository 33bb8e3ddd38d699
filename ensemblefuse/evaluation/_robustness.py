"""Scores of a fitted model while one modality at a time is corrupted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state
from tqdm import tqdm

from ensemblefuse._config import show_progress
from ensemblefuse._seeds import own_seed
from ensemblefuse.evaluation._corruptions import CORRUPTIONS, WORST, Corruption, kind_of_encoder, names_of_kind
from ensemblefuse.evaluation._reencoding import EncodedRows
from ensemblefuse.evaluation._robustness_result import RobustnessCurve, RobustnessCurveDisplay
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.scoring.bootstrap import Resampling, interval
from ensemblefuse.scoring.display import drawn_by
from ensemblefuse.scoring.inputs import read_groups, read_weight
from ensemblefuse.scoring.metrics import mean_scores, read_metric, row_values
from ensemblefuse.table import to_frame

__all__ = ["robustness_curve"]


@drawn_by(RobustnessCurveDisplay)
def robustness_curve(
    model: Any,
    X: Any,
    y: Any,
    *,
    corruptions: Mapping[str, Any] | None = None,
    severities: Sequence[int] = (1, 3, 5),
    modalities: Sequence[str] | None = None,
    metric: str | None = None,
    sample_weight: Any = None,
    groups: Any = None,
    n_rows: int | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: int = 0,
) -> RobustnessCurve:
    """Score a fitted model while the raw cells of one modality at a time are corrupted.

    Nothing is fitted. The rows are encoded once. For each corruption and severity, the cells of one modality are
    corrupted and encoded again; the other modalities keep their blocks. A corrupted cell depends only on
    `random_state`, the corruption, the severity and its own content. A second call therefore finds all embeddings in
    the cache, in any order of the rows.

    Parameters
    ----------
    model : fitted Pipeline of encoders and a fusion estimator, or fitted search over such
        As from `make_fusion_pipeline`.
    X : DataFrame (pandas or polars) or dict of columns, of n_samples rows
        Raw rows that the model was not fitted on. On rows of fit the clean score is too good, so the fall looks too
        large.
    y : array of shape (n_samples,)
    corruptions : dict of str to list or dict, optional
        For each modality a list of names (see Notes) and functions, or a dict of names and functions. A function takes
        ``(cell, severity, rng)`` and returns a cell that the modality's encoder takes, or None for a missing cell;
        `rng` is a `numpy.random.Generator`. If a modality has several columns, or one of numbers, a cell is the array
        of the row's values. By default all corruptions of the library that fit the modality's encoder.
    severities : sequence of int, default=(1, 3, 5)
        From 0 to 5; 0 leaves the cell as it is.
    modalities : list of str, optional
        Modalities to corrupt, one at a time. By default those in `corruptions`, else all that have a corruption.
    metric : str, optional
        ``"log_loss"`` (the default), ``"accuracy"`` or ``"brier"`` (from 0 to 2); in regression ``"squared_error"``
        (the default) or ``"absolute_error"``. Or scikit-learn's name of the score, such as ``"neg_log_loss"``.
        Greater is better for all of them: losses are negative.
    sample_weight : array of shape (n_samples,), optional
    groups : array of shape (n_samples,), optional
        Rows of one group are resampled together.
    n_rows : int, optional
        Number of rows, drawn at random, to score; by default all. For encoders that take long.
    n_resamples : int, default=1000
        Number of bootstrap resamples of the rows; the same for the clean score and all corrupted ones.
    confidence_level : float, default=0.95
    random_state : int, default=0
        Seed of corruptions, choice of rows, and resamples. None is not allowed: each call would encode new corrupted
        cells.

    Returns
    -------
    RobustnessCurve

    Raises
    ------
    TypeError, ValueError
        If the model has no encoders, a modality or corruption is unknown or does not fit, a severity is not a whole
        number from 0 to 5, or a corrupted cell cannot be encoded; the message names corruption, row and column.

    Notes
    -----
    Missing cells stay missing. So do those that the encoder treats as missing because of ``on_error="missing"``. The
    levels of blur, Gaussian noise, JPEG and brightness are those of ImageNet-C [1]_; the others are chosen here.

    ================  ===========================================================  =========================
    name              what                                                         severities 1 to 5
    ================  ===========================================================  =========================
    gaussian_blur     sigma in pixels, of the picture at a short side of 224       1, 2, 3, 4, 6
    gaussian_noise    sigma of each channel, of a range of 1, grains as at 224 px  .08, .12, .18, .26, .38
    jpeg              written at this quality and at the picture's own size        25, 18, 15, 10, 7
    brighter          added to the value in HSV, of a range of 1                   .1, .2, .3, .4, .5
    darker            taken from the value                                         .1, .2, .3, .4, .5
    swapped_letters   share of letters in swapped neighbouring pairs               .04, .08, .16, .24, .32
    replaced_letters  share of letters replaced by others from a to z              .02, .05, .1, .2, .3
    dropped_words     share of words left out; one is always left                  .1, .2, .3, .4, .5
    white_noise       ratio of the sound's power to the noise's, in dB             30, 20, 10, 5, 0
    band_stop         octaves around 1000 Hz that are removed                      .5, 1, 2, 3, 4
    relative_noise    sigma of Gaussian noise, in the channel's own deviations     .1, .2, .4, .7, 1
    gap               share of samples in one stretch that holds the last value    .1, .2, .3, .4, .5
    ================  ===========================================================  =========================

    Corruptions of pictures fit `ImageEncoder`; of texts `TextEncoder`, `WordVectorEncoder`, and any encoder or
    vectorizer of a column of texts; of sounds `AudioEncoder`; of series `TimeSeriesEncoder`. In a short text, a share
    is at least one letter or word.

    References
    ----------
    .. [1] D. Hendrycks and T. Dietterich. Benchmarking Neural Network Robustness to Common Corruptions and
       Perturbations. ICLR 2019.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, FunctionEncoder, make_fusion_pipeline, robustness_curve
    >>> df = pd.DataFrame({"title": ["a cat sat", "the dogs!"] * 20, "price": [1.0, 1.0, 2.0, 2.0] * 10})
    >>> y = ["cat", "dog"] * 20
    >>> text = FunctionEncoder(lambda title: [title.count("cat"), title.count("dog")])
    >>> modalities = [("text", text, "title"), ("tabular", "passthrough", ["price"])]
    >>> heads = {"text": LogisticRegression(), "tabular": LogisticRegression()}
    >>> model = make_fusion_pipeline(modalities, DecisionFusionClassifier(heads, cv=2)).fit(df[:20], y[:20])
    >>> own = {"text": {"shouted": lambda cell, severity, rng: cell.upper()}}
    >>> curve = robustness_curve(model, df[20:], y[20:], corruptions=own, metric="accuracy", severities=[1])
    >>> curve.clean_score, curve.table["score"].tolist(), curve.table["difference"].tolist()
    (1.0, [0.5], [-0.5])
    """
    parts = FittedModel(model)
    metric = read_metric(metric, parts.classify)
    seed = _check_seed(random_state)
    severities = _check_severities(severities)
    X = to_frame(X)
    codes = _check_y(parts, X, y)
    weight = read_weight(sample_weight, len(X))
    groups = read_groups(groups, len(X), classes=codes if parts.classify else None)
    taken = _choose_rows(len(X), n_rows, seed)
    if taken is not None:
        X, codes = X.iloc[taken], codes[taken]
        weight, groups = (None if values is None else values[taken] for values in (weight, groups))
    resampling = Resampling(n_resamples, confidence_level, seed, groups, weight)
    resampling.check()
    rows = EncodedRows(parts, X)
    plan, notes = _plan(rows, corruptions, modalities)
    clean = row_values(parts.predict(rows.finish(rows.blocks)), codes, metric)

    found, values = [], []
    work = [(name, one, severity) for name, some in plan.items() for one in some for severity in severities]
    for name, one, severity in tqdm(work, desc="corrupt", unit="curve point", disable=not show_progress()):
        blocks = rows.corrupted(name, one, severity, seed)
        values.append(row_values(parts.predict(rows.finish(blocks)), codes, metric))
        parameter = one.parameter(severity)
        found.append({"modality": name, "corruption": one.name, "severity": severity, "parameter": parameter})
    worth = np.column_stack([clean, *values])
    samples = resampling.means(worth)
    scores, spans = mean_scores(worth, weight), interval(samples, confidence_level)
    falls = interval(samples - samples[:, :1], confidence_level)  # both scores use the same rows
    table = pd.DataFrame(found)
    table["score"], table["low"], table["high"] = scores[1:], spans[0][1:], spans[1][1:]
    table["difference"] = scores[1:] - scores[0]
    table["difference_low"], table["difference_high"] = falls[0][1:], falls[1][1:]
    return RobustnessCurve(
        table,
        clean_score=float(scores[0]),
        clean_interval=(float(spans[0][0]), float(spans[1][0])),
        metric=metric,
        n_samples=len(codes),
        confidence_level=confidence_level,
        names=parts.names,
        notes=notes + rows.notes(list(plan)) + resampling.notes(len(codes)),
    )


# ---------------------------------------------------------------------- choice of corruptions


def _plan(rows: EncodedRows, corruptions: Any, modalities: Any) -> tuple[dict[str, list[Corruption]], list[str]]:
    """Return the corruptions of each modality, and a note on the modalities without any."""
    if corruptions is not None and not isinstance(corruptions, Mapping):
        raise TypeError(
            'corruptions must be a dict such as {"image": ["jpeg"]} or {"image": {"mirror": function}}; got '
            f"{type(corruptions).__name__}."
        )
    if isinstance(modalities, str):
        raise TypeError(f"modalities must be a list of names; got {modalities!r}. Write [{modalities!r}].")
    given = dict(corruptions or {})
    wanted = list(modalities) if modalities is not None else list(given) or None
    unknown = sorted({*given, *(wanted or [])} - set(rows.names))
    if unknown:
        raise ValueError(f"the model encodes no modality {unknown}; it has {rows.names}.")
    plan, without = {}, []
    for name in rows.names if wanted is None else wanted:
        chosen = _read(given[name], name, rows) if name in given else [CORRUPTIONS[n] for n in _defaults(rows, name)]
        if chosen and rows.present[name].any():
            plan[name] = chosen
        elif wanted is None:
            without.append(name)
        elif chosen:
            raise ValueError(
                f"modality {name!r} is missing in all {len(rows.X)} rows of X; there is nothing to corrupt."
            )
        else:
            raise ValueError(
                f"there is no default corruption for modality {name!r}; name some, as in "
                f'corruptions={{{name!r}: {{"mine": lambda cell, severity, rng: ...}}}}.'
            )
    if not plan:
        raise ValueError(
            f"no modality of {rows.names} has a default corruption; name some, as in "
            f'corruptions={{{rows.names[0]!r}: {{"mine": lambda cell, severity, rng: ...}}}}.'
        )
    return plan, [f"Not corrupted, without a corruption or without values: {', '.join(without)}."] if without else []


def _defaults(rows: EncodedRows, name: str) -> list[str]:
    return names_of_kind(kind_of_encoder(rows.encoders[name]) or ("text" if rows.holds_texts(name) else None))


def _read(some: Any, modality: str, rows: EncodedRows) -> list[Corruption]:
    """Return the corruptions that the user gave for one modality."""
    if isinstance(some, Mapping):
        named: list[tuple[str, Any]] = list(some.items())
    elif isinstance(some, Sequence) and not isinstance(some, str):
        named = [(one if isinstance(one, str) else getattr(one, "__name__", repr(one)), one) for one in some]
    else:
        raise TypeError(
            f"corruptions[{modality!r}] must be a list of names and functions, or a dict of names and functions; got "
            f"{some!r}."
        )
    names = [name for name, _ in named]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"corruptions[{modality!r}] must name each corruption once; got {names}.")
    return [_one(name, value, modality, rows.encoders[modality]) for name, value in named]


def _one(name: str, value: Any, modality: str, encoder: Any) -> Corruption:
    if isinstance(value, Callable):  # type: ignore[arg-type]
        return Corruption(name, value)
    found = CORRUPTIONS.get(value) if isinstance(value, str) else None
    kind = kind_of_encoder(encoder)
    fitting = names_of_kind(kind) if kind else list(CORRUPTIONS)
    if found is None or found.name not in fitting:
        raise ValueError(
            f"corruptions[{modality!r}]: {value!r} is not a corruption of {type(encoder).__name__}'s cells; these are: "
            f"{fitting}. Or pass a function (cell, severity, rng)."
        )
    return found


# ---------------------------------------------------------------------- checks


def _check_severities(severities: Any) -> list[int]:
    given: list[Any] = [severities] if np.isscalar(severities) else list(severities)
    whole = [isinstance(s, (int, np.integer)) and not isinstance(s, bool) and 0 <= s <= WORST for s in given]
    if not given or not all(whole) or len(set(given)) < len(given):
        raise ValueError(f"severities must be whole numbers from 0 to {WORST}, each once; got {severities!r}.")
    return sorted(int(s) for s in given)


def _check_seed(random_state: Any) -> int:
    if isinstance(random_state, bool) or not isinstance(random_state, (int, np.integer)) or random_state < 0:
        raise ValueError(
            f"random_state must be a whole number of at least 0, so that corrupted cells are the same in every call; "
            f"got {random_state!r}."
        )
    return int(random_state)


def _check_y(parts: FittedModel, X: pd.DataFrame, y: Any) -> np.ndarray:
    if len(np.asarray(y)) != len(X):
        raise ValueError(f"X has {len(X)} rows and y {len(np.asarray(y))}.")
    return parts.encode_labels(y)


def _choose_rows(n: int, n_rows: int | None, seed: int) -> np.ndarray | None:
    if n_rows is None:
        return None
    if isinstance(n_rows, bool) or not isinstance(n_rows, (int, np.integer)) or n_rows < 1:
        raise ValueError(f"n_rows must be a whole number of at least 1, or None for all; got {n_rows!r}.")
    rng = check_random_state(own_seed(seed))
    return None if n_rows >= n else np.sort(rng.choice(n, size=int(n_rows), replace=False))
