"""Information of two modalities about the label: redundant, unique and synergistic parts."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from ensemblefuse._optional import import_optional
from ensemblefuse._theme import INK, PALETTE
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.fitted.subsets import groups_for, predict_subsets
from ensemblefuse.inspection._bars import bars_size
from ensemblefuse.inspection._worth import where_from
from ensemblefuse.scoring.display import BaseDisplay, drawn_by
from ensemblefuse.scoring.result import TableResult

__all__ = ["PartialInformation", "PartialInformationDisplay", "modality_information", "partial_information"]

# On one core 1000 cells took 4 s, 2744 took 24 s, 4096 took 76 s.
_MOST_CELLS = 2744
# A note warns if the bias, which is expected even of unrelated labels, is above this share of the information.
_BIASED = 0.1
PARTS = ("redundancy", "unique_first", "unique_second", "synergy")


def partial_information(first: Any, second: Any, y: Any, *, sample_weight: Any = None) -> PartialInformation:
    """Decompose the information of two discrete variables about a third: redundancy, unique parts, synergy, in bits.

    ``I(first; y) = redundancy + unique_first``, ``I(second; y) = redundancy + unique_second``, and
    ``I(first, second; y)`` is the sum of all four. Consider all distributions ``q`` whose pairs ``(first, y)`` and
    ``(second, y)`` are distributed as in the data. The one with the least ``I_q(first, second; y)`` has no synergy;
    what the data hold beyond that is synergy (Bertschinger et al., 2014). Finding it is a convex problem with
    exponential cones, solved by Clarabel.

    Parameters
    ----------
    first, second : array of shape (n_samples,)
        Discrete values: labels, clusters, bins.
    y : array of shape (n_samples,)
    sample_weight : array of shape (n_samples,), optional

    Returns
    -------
    PartialInformation
        Its table has one row.

    Raises
    ------
    ImportError
        If cvxpy is not installed; it comes with the extra ``explain``.
    ValueError
        If lengths differ, a value is missing, or there are more than 2744 combinations of values.

    References
    ----------
    Bertschinger, Rauh, Olbrich, Jost and Ay, Entropy 2014, equations 6 and 7; Liang et al., NeurIPS 2023 (for
    modalities); Miller, 1955 (the bias).

    Examples
    --------
    An exclusive or is pure synergy:

    >>> from ensemblefuse import partial_information
    >>> table = partial_information([0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]).table
    >>> abs(table.iloc[0][["redundancy", "unique_first", "unique_second", "synergy"]]).round(3).to_list()
    [0.0, 0.0, 0.0, 1.0]
    """
    codes = [_codes(name, values) for name, values in (("first", first), ("second", second), ("y", y))]
    n = len(codes[2])
    weight = np.ones(n) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    if len({n, len(codes[0]), len(codes[1]), len(weight)}) > 1:
        raise ValueError(
            f"first, second, y and sample_weight must have one length; got {len(codes[0])}, {len(codes[1])}, {n} and "
            f"{len(weight)}."
        )
    if not n or (weight < 0).any() or not weight.sum() > 0:
        raise ValueError("at least one row must have a positive weight, and none a negative one.")
    row = _decompose(codes, weight)
    index = pd.MultiIndex.from_tuples([("first", "second")], names=["first", "second"])
    return PartialInformation(pd.DataFrame([row], index=index), f"{n} rows", [])


class PartialInformationDisplay(BaseDisplay):
    """Redundancy, unique parts and synergy of each pair, as stacked bars.

    Examples
    --------
    >>> from ensemblefuse import PartialInformationDisplay
    >>> display = PartialInformationDisplay.from_predictions([0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 0, 1])
    >>> display.ax_.get_xlabel()
    'information about y, bits'
    """

    result: PartialInformation

    @classmethod
    def from_predictions(cls, y_true: Any, first: Any, second: Any, *, ax: Any = None, **params: Any) -> Any:
        """Draw the parts of two discrete predictions.

        Parameters
        ----------
        y_true, first, second : array of shape (n_samples,)
        ax : matplotlib Axes, optional
        **params
            Parameters of `partial_information`.

        Returns
        -------
        PartialInformationDisplay
        """
        return cls(partial_information(first, second, y_true, **params)).plot(ax=ax)

    def _figsize(self):
        width, height = bars_size(len(self.result.table))
        return width + 1, height + 0.4

    def _draw(self, ax):
        table = self.result.table
        heights, left = np.arange(len(table)), np.zeros(len(table))
        styles = (("0.75", ""), (PALETTE[0], "//"), (PALETTE[7], "\\\\"), (PALETTE[3], "xx"))
        for part, (color, hatch) in zip(PARTS, styles, strict=True):
            style = {"color": color, "hatch": hatch, "edgecolor": "white", "linewidth": 0.5, "height": 0.62}
            ax.barh(heights, table[part], left=left, label=part.replace("_", " "), **style)
            left += table[part].to_numpy()
        bias = table["bias"].clip(lower=0)
        ax.plot(bias, heights, "|", color=INK, markersize=18, label="expected by chance")
        ax.set(
            yticks=heights,
            yticklabels=[" + ".join(pair) for pair in table.index],
            ylim=(len(table) - 0.4, -0.6),
            xlabel="information about y, bits",
            title="Information of pairs of modalities\n" + self.result.where.replace(", ", "\n", 1),
        )
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


@drawn_by(PartialInformationDisplay)
def modality_information(
    model: Any, X: Any = None, y: Any = None, *, method: str = "auto", cv: Any = 5, groups: Any = None
) -> PartialInformation:
    """Decompose the information of each pair of modalities about the class: redundancy, unique parts, synergy, in bits.

    Each modality is replaced by the class that the model predicts with it alone, out of fold if the model has a ledger.
    Information in the embeddings beyond that class is lost. Rows that lack one modality of a pair are left out.

    Parameters
    ----------
    model, X, y, method, cv, groups
        As in `modality_shapley`; a classifier.

    Returns
    -------
    PartialInformation
        One row per pair.

    Raises
    ------
    ImportError
        If cvxpy is not installed; it comes with the extra ``explain``.
    TypeError
        If the model is not a classifier.
    ValueError
        If there is only one modality, there are more than 14 classes, no row holds both modalities of a pair, or the
        method needs data that are not given.

    References
    ----------
    See `partial_information`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ensemblefuse import DecisionFusionClassifier, modality_information
    >>> y = np.arange(60) % 2
    >>> X = pd.DataFrame({"image__0": 1.0 * y, "text__0": 2.0 * y})
    >>> model = DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y)
    >>> modality_information(model).table["redundancy"].round(3).to_list()
    [1.0]
    """
    import_optional("cvxpy", extra="explain", needed_by="modality_information")
    parts = FittedModel(model)
    if parts.classes is None:
        raise TypeError(
            "modality_information needs a classifier; for a regressor, bin the predictions and y and pass them to "
            "partial_information."
        )
    if len(parts.names) < 2:
        raise ValueError(f"a pair needs two modalities; the model has only {parts.names}.")
    if len(parts.classes) ** 3 > _MOST_CELLS:
        raise ValueError(
            f"the model has {len(parts.classes)} classes, which make {len(parts.classes) ** 3} combinations; the limit "
            f"is {_MOST_CELLS}. Merge classes, and pass the merged labels to partial_information."
        )
    groups = groups_for(groups, parts, X, None, method)
    said = predict_subsets(
        model, [(name,) for name in parts.names], X, y, method=method, cv=cv, groups=groups, as_deployed=True
    )
    labels, weight = said.predictions.argmax(axis=-1), said.sample_weight
    rows = {}
    for i, j in combinations(range(len(parts.names)), 2):
        both = np.flatnonzero(said.present[[i, j]].all(axis=0))
        if not len(both):
            raise ValueError(f"no row holds both {parts.names[i]!r} and {parts.names[j]!r}.")
        codes = [_codes("", values[both]) for values in (labels[i], labels[j], said.y)]
        row = _decompose(codes, np.ones(len(both)) if weight is None else weight[both])
        rows[parts.names[i], parts.names[j]] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(list(rows), names=["first", "second"])
    where = "classes that each modality predicts alone, " + where_from(said.method, len(said.rows))
    return PartialInformation(table, where, said.notes)


def _codes(name: str, values: Any) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"{name} must have shape (n_samples,); got {values.shape}.")
    if pd.isna(values).any():
        raise ValueError(f"{name} is missing in row {int(np.flatnonzero(pd.isna(values))[0])}; leave such rows out.")
    return np.unique(values, return_inverse=True)[1]


# ---------------------------------------------------------------------- the numbers


def _decompose(codes: list[np.ndarray], weight: np.ndarray) -> dict[str, float]:
    used = weight > 0
    codes, weight = [code[used] for code in codes], weight[used]
    p = np.zeros([code.max() + 1 for code in codes])
    np.add.at(p, tuple(codes), weight / weight.sum())
    # p[i, j, k] is the joint distribution of first, second and y. With I the mutual information with y:
    # redundancy = I(first) + I(second) - least; unique = I(single) - redundancy; synergy = I(both) - least.
    one, other, whole = _mutual(p.sum(axis=1)), _mutual(p.sum(axis=0)), _mutual(p.reshape(-1, p.shape[2]))
    least = _least_information(p)
    redundancy = one + other - least
    parts = [redundancy, one - redundancy, other - redundancy, whole - least]
    cells = [int((table > 0).sum()) for table in (p, p.sum(axis=2), p.sum(axis=(0, 1)))]
    n = len(weight)
    return {
        # In theory no part is negative; the solver's error is about 1e-8.
        **dict(zip(PARTS, np.maximum(parts, 0.0), strict=True)),
        "total": whole,
        # Miller and Madow: an entropy over m cells is too small by about (m - 1) / 2n nats.
        "bias": (cells[0] - cells[1] - cells[2] + 1) / (2 * n * np.log(2)),
        "n_rows": n,
        "rows_per_cell": n / p.size,
    }


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def _mutual(p: np.ndarray) -> float:
    """Compute the mutual information of rows and columns, in bits."""
    return _entropy(p.sum(axis=0)) + _entropy(p.sum(axis=1)) - _entropy(p)


def _least_information(p: np.ndarray) -> float:
    """Compute the least information of both variables about y, in bits, over all distributions with the same pairs."""
    cp = import_optional("cvxpy", extra="explain", needed_by="partial_information")
    with_first, with_second = p.sum(axis=1), p.sum(axis=0)
    # Variables only where q can be above 0: elsewhere the pair (first, y) or (second, y) never occurs.
    i, j, k = np.nonzero((with_first[:, None, :] > 0) & (with_second[None, :, :] > 0))
    if len(i) > _MOST_CELLS:
        raise ValueError(
            f"first, second and y have {len(i)} combinations of values; the limit is {_MOST_CELLS}. Bin them into "
            "fewer values."
        )
    q = cp.Variable(len(i), nonneg=True)
    both = _sums(i * p.shape[1] + j)
    # I_q = H(y) - H_q(y | both), and H(y) is the same for every q, so minimise -H_q(y | both). That is the relative
    # entropy of q and its margin over y: `both @ q` sums over y, and `both.T` spreads the sums back.
    problem = cp.Problem(
        cp.Minimize(cp.sum(cp.rel_entr(q, both.T @ (both @ q)))),
        [
            _sums(i * p.shape[2] + k) @ q == with_first[with_first > 0],
            _sums(j * p.shape[2] + k) @ q == with_second[with_second > 0],
        ],
    )
    problem.solve(solver=cp.CLARABEL)
    if problem.status not in ("optimal", "optimal_inaccurate"):
        raise RuntimeError(f"Clarabel found no solution (status {problem.status!r}).")
    return _entropy(p.sum(axis=(0, 1))) + float(problem.value) / np.log(2)


def _sums(keys: np.ndarray) -> csr_array:
    """Return the matrix that sums entries with equal keys, in the order of the keys."""
    rows = np.unique(keys, return_inverse=True)[1]
    return csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))))


# ---------------------------------------------------------------------- the result


class PartialInformation(TableResult):
    """Information of pairs, in parts. Made by `partial_information` and `modality_information`.

    Attributes
    ----------
    table : DataFrame
        One row per pair (index levels ``first``, ``second``):

        - ``redundancy``, ``unique_first``, ``unique_second``, ``synergy``: in bits; none is negative.
        - ``total``: information of both together about `y`; the sum of the four parts.
        - ``bias``: part of the total that is expected by chance, because there are many cells and few rows (Miller and
          Madow). Most of it is in the synergy.
        - ``n_rows``; ``rows_per_cell``: rows divided by combinations of values.
    caption, notes
        As in all results.
    """

    def __init__(self, table: pd.DataFrame, where: str, notes: list[str]):
        self.where = where
        chance = table.index[table["bias"] > _BIASED * table["total"]].to_list()
        if chance:
            pairs = ", ".join(" + ".join(pair) for pair in chance)
            notes = [
                *notes,
                f"More than {_BIASED:.0%} of the information may be chance (too few rows per cell): {pairs}.",
            ]
        super().__init__(table, f"Partial information about y, bits ({where})", notes)

    def _display_class(self):
        return PartialInformationDisplay
