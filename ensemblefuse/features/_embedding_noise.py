"""Noise on embeddings, with a bound on the information that they reveal: local differential privacy."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtri
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ensemblefuse._calls import answers_rows
from ensemblefuse.exceptions import counted

__all__ = ["EmbeddingNoise", "gaussian_sigma"]

_MECHANISMS = ("laplace", "gaussian")
# Rows are clipped to this share of the clip, so that rounding in a floating-point sum cannot exceed the clip.
_INSIDE = 1 - 1e-9
_SHOWN = 5


class EmbeddingNoise(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Clip each row to a norm and add noise, so that a row reveals little about its source.

    Each row is released with local differential privacy: for any two inputs :math:`x, x'` and any set S of outputs,

    .. math:: P(M(x) \in S) \le e^\varepsilon P(M(x') \in S) + \delta

    Let c be `clip`. Two clipped rows are at most :math:`2 c` apart. ``"laplace"`` clips the sum of magnitudes and adds
    Laplace noise of scale :math:`2 c / \varepsilon` to each number [1]_, with :math:`\delta = 0`. ``"gaussian"`` clips
    the Euclidean norm and adds normal noise with the smallest standard deviation for which [2]_

    .. math:: \Phi\left(\frac{c}{\sigma} - \frac{\varepsilon \sigma}{2 c}\right)
              - e^\varepsilon \Phi\left(-\frac{c}{\sigma} - \frac{\varepsilon \sigma}{2 c}\right) \le \delta

    Put it after an encoder: ``make_pipeline(ImageEncoder(), EmbeddingNoise("gaussian", epsilon=8, delta=1e-5))``.

    Parameters
    ----------
    mechanism : {"laplace", "gaussian"}
    epsilon : float
        Above 0. It holds for one release of one row.
    delta : float, optional
        Between 0 and 1. ``"gaussian"`` needs it, ``"laplace"`` has none.
    clip : float
        Largest norm of a row. Choose it without looking at the rows to protect: a bound learned from these rows reveals
        information about them.
    random_state : int, RandomState or None
        None draws from the operating system's generator. Use anything else in tests only: whoever knows the seed can
        repeat the noise and subtract it.

    Attributes
    ----------
    scale_ : float
        Scale of the Laplace noise, or standard deviation of the normal noise.
    epsilon_, delta_ : float
        Spent at each release of a row. Each further `transform` of the same row is one more release. The releases of
        one sample add up (`privacy_spent`).
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        In `fit`, if a parameter is out of its range. In `fit` and `transform`, if a row is partly NaN, or infinite.

    Notes
    -----
    The bound holds for real numbers. Floating-point numbers leave traces of the input in the last bits of the output
    [3]_. Each draw is a sum of several numbers, which makes such traces harder to use [4]_ but not impossible. This is
    no protection against an adversary who reads the last bits.

    A missing row stays NaN: whether a modality is present is not protected. Labels, other columns and the rest of the
    model are not protected either. The cache keeps the vectors without noise, because it stores the encoder's output.

    References
    ----------
    .. [1] Dwork, McSherry, Nissim and Smith, TCC 2006, Proposition 1.
    .. [2] Balle and Wang, ICML 2018, Theorem 8.
    .. [3] Mironov, CCS 2012.
    .. [4] Holohan and Braghin, ESORICS 2021, equations 3 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import EmbeddingNoise
    >>> noise = EmbeddingNoise(epsilon=2.0, clip=1.0, random_state=0)
    >>> Z = noise.fit_transform(np.array([[3.0, 1.0], [np.nan, np.nan]]))
    >>> noise.scale_, np.isnan(Z[1]).all()
    (1.0, np.True_)
    """

    def __init__(
        self,
        mechanism: str = "laplace",
        *,
        epsilon: float = 1.0,
        delta: float | None = None,
        clip: float = 1.0,
        random_state: Any = None,
    ):
        self.mechanism = mechanism
        self.epsilon = epsilon
        self.delta = delta
        self.clip = clip
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Choose the scale of the noise from the parameters. Nothing is learned from the rows.

        Parameters
        ----------
        X : array or DataFrame of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        self
        """
        self._check_params()
        self._read(X, reset=True)
        self.epsilon_, self.delta_ = float(self.epsilon), float(self.delta or 0.0)
        if self.mechanism == "laplace":
            self.scale_ = 2 * float(self.clip) / self.epsilon_
        else:
            self.scale_ = gaussian_sigma(self.epsilon_, self.delta_, 2 * float(self.clip))
        return self

    @answers_rows
    def transform(self, X: Any) -> np.ndarray:
        """Release the rows: clip them and add new noise.

        Parameters
        ----------
        X : array or DataFrame of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_features), dtype of X if that is float32, else float64
            Rows that are NaN in all columns stay NaN.
        """
        check_is_fitted(self, "scale_")
        X = self._read(X, reset=False)
        noise = self.scale_ * _draw(self.mechanism, X.shape, self.random_state)
        return (self._clipped(X) + noise).astype(X.dtype)

    def _clipped(self, X: np.ndarray) -> np.ndarray:
        X = X.astype(np.float64)
        with np.errstate(over="ignore"):  # if the squares of a row overflow, the row becomes 0
            norm = np.linalg.norm(X, ord=1 if self.mechanism == "laplace" else 2, axis=1, keepdims=True)
        limit = self.clip * _INSIDE
        return X * (limit / np.maximum(norm, limit))

    def _check_params(self) -> None:
        if self.mechanism not in _MECHANISMS:
            raise ValueError(f"mechanism must be one of {_MECHANISMS}; got {self.mechanism!r}.")
        for name in ("epsilon", "clip"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 < value < np.inf):
                raise ValueError(f"{name} must be a number above 0; got {value!r}.")
        if self.mechanism == "laplace" and self.delta is not None:
            raise ValueError(f'mechanism="laplace" has no delta; got {self.delta!r}. Pass mechanism="gaussian".')
        if self.mechanism == "gaussian" and not (_is_number(self.delta) and 0 < float(self.delta or 0) < 1):
            raise ValueError(
                f'mechanism="gaussian" needs delta, a number between 0 and 1, such as 1e-5; got {self.delta!r}.'
            )

    def _read(self, X: Any, *, reset: bool) -> np.ndarray:
        labels = getattr(X, "index", None)
        array = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite=False)
        missing = np.isnan(array).all(axis=1)
        odd = np.flatnonzero(~np.isfinite(array).all(axis=1) & ~missing)
        if len(odd):
            shown = [i if labels is None else labels[i] for i in odd[:_SHOWN].tolist()]
            raise ValueError(
                f"EmbeddingNoise: Input X contains NaN beside numbers, or infinity, in {counted(len(odd), 'row')}: "
                f"{shown}. A missing modality is NaN in all its columns; fill single gaps before this step."
            )
        return array

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def gaussian_sigma(epsilon: float, delta: float, sensitivity: float) -> float:
    """Compute the smallest standard deviation of normal noise for a query with this L2 sensitivity.

    Theorem 8 of Balle and Wang (ICML 2018) is solved for sigma by Brent's method, on its logarithm. The computed delta
    includes an upper bound of its rounding error, so that the noise is never too small.

    Examples
    --------
    >>> from ensemblefuse.features._embedding_noise import gaussian_sigma
    >>> round(gaussian_sigma(1.0, 1e-5, 1.0), 4)
    3.7306
    """

    def excess(log_sigma: float) -> float:
        return _log_delta(np.exp(log_sigma), epsilon, sensitivity) - np.log(delta)

    middle = np.log(sensitivity)
    low, high = middle - 1.0, middle + 1.0
    while excess(low) < 0:
        low -= 2.0
    while excess(high) > 0:
        high += 2.0
    return float(np.exp(brentq(excess, low, high, xtol=1e-14, rtol=1e-14)))


def _log_delta(sigma: float, epsilon: float, sensitivity: float) -> float:
    """Compute the logarithm of the delta of normal noise by the same theorem, rounded up."""
    a, b = sensitivity / (2 * sigma), epsilon * sigma / sensitivity
    own, other = log_ndtr(a - b), log_ndtr(-a - b)
    rounding = 1e-14 * (1 + epsilon - own - other)
    return float(own + np.log(rounding - np.expm1(min(epsilon + other - own, 0.0))))


def _draw(mechanism: str, shape: tuple[int, ...], random_state: Any) -> np.ndarray:
    """Draw standard noise, each number from several uniform draws (Holohan and Braghin 2021)."""
    if random_state is None:
        uniform = _uniform
    else:
        rng = check_random_state(random_state)
        uniform = lambda shape: (rng.randint(0, 2**52, size=shape, dtype=np.int64) + 0.5) * 2.0**-52
    if mechanism == "gaussian":
        return (ndtri(uniform(shape)) + ndtri(uniform(shape))) / np.sqrt(2)
    one, other = (np.log(uniform(shape)) * np.cos(np.pi * uniform(shape)) for _ in range(2))
    return one + other


def _uniform(shape: tuple[int, ...]) -> np.ndarray:
    """Draw numbers between 0 and 1, both excluded, from the operating system's generator: 52 bits plus one half.

    The half keeps 0 out, and with 52 bits the sum is exact, so that no draw is rounded to 1.
    """
    n = int(np.prod(shape))
    bits = np.frombuffer(os.urandom(8 * n), dtype=np.uint64) >> np.uint64(12)
    return ((bits + 0.5) * 2.0**-52).reshape(shape)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
