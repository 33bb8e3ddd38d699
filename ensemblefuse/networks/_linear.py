"""The default linear model as one matrix and one bias, so that a network can hold it as its last layer."""

from __future__ import annotations

import numpy as np

from ensemblefuse.fusion.linear_head import default_head

__all__ = ["fit_linear"]

# Output of a class that the rows lack, in which others are near 0.
_ABSENT = -10.0


def fit_linear(
    features: np.ndarray, target: np.ndarray, weight: np.ndarray, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the linear model of `default_head`, its standardisation included.

    Parameters
    ----------
    features : ndarray of shape (n_samples, width)
    target : ndarray of shape (n_samples,)
        Codes, or numbers.
    weight : ndarray of shape (n_samples,)
    n_classes : int
        0 for numbers.

    Returns
    -------
    matrix : ndarray of shape (n_outputs, width)
    bias : ndarray of shape (n_outputs,)
        With classes, the outputs are logits.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse.networks._linear import fit_linear
    >>> matrix, bias = fit_linear(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1]), np.ones(4), 3)
    >>> (np.array([[0.0], [3.0]]) @ matrix.T + bias).argmax(axis=1)
    array([0, 1])
    """
    width = features.shape[1]
    there = np.unique(target) if n_classes else np.arange(1)
    matrix, bias = np.zeros((n_classes or 1, width)), np.full(n_classes or 1, _ABSENT)
    bias[there] = 0.0
    if n_classes and len(there) < 2:
        return matrix, bias
    head = default_head(width, classify=bool(n_classes))
    names = ("standardscaler__sample_weight", f"{head.steps[-1][0]}__sample_weight")
    head.fit(features, target, **({} if (weight == 1).all() else dict.fromkeys(names, weight)))
    scaler, linear = head[0], head[-1]
    rows, shift = np.atleast_2d(linear.coef_) / scaler.scale_, np.atleast_1d(linear.intercept_)
    shift = shift - rows @ scaler.mean_
    if len(there) == 2:
        rows, shift = np.vstack([-rows / 2, rows / 2]), np.r_[-shift / 2, shift / 2]
    matrix[there], bias[there] = rows, shift
    return matrix, bias
