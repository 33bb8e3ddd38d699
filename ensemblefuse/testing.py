"""The contracts as functions: run them on your own encoders and fusion estimators. Floor 4."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.testing import assert_allclose
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError

from ensemblefuse._config import config_context
from ensemblefuse.table import to_frame

__all__ = ["check_encoder", "check_fusion"]


def check_encoder(encoder: Any, X: Any, *, rtol: float = 1e-4, atol: float = 1e-4, max_pickle: int = 1024) -> list[str]:
    """Assert that an encoder keeps the row rule and scikit-learn's manners.

    The row rule: row i of the output depends on row i of the input and on the parameters alone.

    Parameters
    ----------
    encoder : BaseEncoder
        Not fitted; it is cloned.
    X : DataFrame or dict of columns
        What the encoder takes, at least 3 rows, all of which can be encoded.
    rtol, atol : float
        Tolerance between two ways of computing one embedding.
    max_pickle : int
        Largest pickle of the fitted encoder, in bytes.

    Returns
    -------
    list of str
        The names of the checks that ran.

    Raises
    ------
    AssertionError
        If a check fails; its name stands in the message.

    Examples
    --------
    >>> from ensemblefuse import FunctionEncoder
    >>> from ensemblefuse.testing import check_encoder
    >>> encoder = FunctionEncoder(lambda text: [len(text), text.count(" ")])
    >>> len(check_encoder(encoder, {"title": ["a cat", "a dog", "two big cats"]}))
    11
    """
    frame = to_frame(X).reset_index(drop=True)
    if len(frame) < 3:
        raise ValueError(f"check_encoder needs at least 3 rows; got {len(frame)}.")
    with config_context(cache=None, progress=False):
        run = _EncoderChecks(encoder, frame, rtol, atol, max_pickle)
        return _run_all(run)


def _run_all(run: Any) -> list[str]:
    names = [name for name in dir(run) if name.startswith("check_")]
    for name in names:
        try:
            getattr(run, name)()
        except AssertionError as error:
            raise AssertionError(f"{type(run.subject).__name__} fails {name}: {error}") from error
    return names


class _EncoderChecks:
    def __init__(self, encoder: Any, frame: pd.DataFrame, rtol: float, atol: float, max_pickle: int):
        self.subject = encoder
        self.frame = frame
        self.max_pickle = max_pickle
        self.same = lambda a, b: assert_allclose(a, b, rtol=rtol, atol=atol)
        self.fitted = clone(encoder).fit(frame)
        self.full = np.asarray(self.fitted.transform(frame))

    def check_output(self):
        assert self.full.shape == (len(self.frame), self.fitted.n_dims_), f"shape is {self.full.shape}"
        assert self.full.dtype == np.float32, f"dtype is {self.full.dtype}"
        assert np.isfinite(self.full).all(), "an embedding holds NaN or infinity"
        assert len(self.fitted.get_feature_names_out()) == self.full.shape[1]

    def check_fit_does_not_learn_from_rows(self):
        self.same(clone(self.subject).fit(self.frame.iloc[:1]).transform(self.frame), self.full)
        self.same(clone(self.subject).fit_transform(self.frame), self.full)

    def check_init_only_stores(self):
        params = self.subject.get_params(deep=False)
        again = type(self.subject)(**params)
        for name, value in params.items():
            assert getattr(again, name) is value, f"parameter {name!r} was changed in __init__"
        try:
            again.transform(self.frame)
        except NotFittedError:
            return
        raise AssertionError("transform before fit must raise NotFittedError")

    def check_subset(self):
        self.same(self.fitted.transform(self.frame.iloc[1:]), self.full[1:])
        self.same(self.fitted.transform(self.frame.iloc[[-1]]), self.full[[-1]])

    def check_order(self):
        order = np.random.default_rng(0).permutation(len(self.frame))
        self.same(self.fitted.transform(self.frame.iloc[order]), self.full[order])

    def check_repeated_rows(self):
        rows = [0, 0, 1, 0]
        self.same(self.fitted.transform(self.frame.iloc[rows]), self.full[rows])

    def check_batch_size(self):
        if "batch_size" not in self.subject.get_params():
            return
        for batch_size in (1, 7, 64):
            encoder = clone(self.subject).set_params(batch_size=batch_size)
            self.same(encoder.fit_transform(self.frame), self.full)

    def check_clone_and_pickle(self):
        self.same(clone(self.fitted).fit(self.frame).transform(self.frame), self.full)
        try:
            data = pickle.dumps(self.fitted)
        except (pickle.PicklingError, AttributeError):  # a function defined on the spot; another process still takes it
            return
        assert len(data) < self.max_pickle, f"the pickle has {len(data)} bytes; networks must stay out of it"
        self.same(pickle.loads(data).transform(self.frame), self.full)

    def check_another_process(self):
        result = joblib.Parallel(n_jobs=2)(joblib.delayed(_transform)(self.fitted, self.frame) for _ in range(1))
        self.same(result[0], self.full)

    def check_polars(self):
        try:
            import polars
        except ImportError:
            return
        columns = {str(c): self.frame[c].tolist() for c in self.frame.columns}
        try:
            frame = polars.DataFrame(columns, strict=False)
        except (TypeError, ValueError, polars.exceptions.PolarsError):
            return  # cells that polars cannot hold
        if any(dtype == polars.Object for dtype in frame.dtypes):
            return
        encoder = clone(self.subject)
        self.same(encoder.fit(frame).transform(frame), self.full)

    def check_missing_cells(self):
        """Missing cells give rows of NaN and leave their neighbours alone."""
        holes = self.frame.copy()
        if all(pd.api.types.is_numeric_dtype(dtype) for dtype in holes.dtypes):
            holes = holes.astype(float)
            holes.iloc[1, :] = np.nan
        else:
            holes = holes.astype(object)
            holes.iloc[1, :] = None
        out = np.asarray(clone(self.subject).fit(holes).transform(holes))
        assert np.isnan(out[1]).all(), "a missing cell must give a row of NaN"
        rest = np.arange(len(holes)) != 1
        self.same(out[rest], self.full[rest])
        empty = self.fitted.transform(holes.iloc[[1]])
        assert empty.shape == (1, self.fitted.n_dims_) and np.isnan(empty).all()


def _transform(encoder: Any, frame: pd.DataFrame) -> np.ndarray:
    with config_context(cache=None, progress=False):
        return np.asarray(encoder.transform(frame))


def check_fusion(fusion: Any, *, random_state: int = 0) -> list[str]:
    """Assert that a fusion estimator reads blocks, survives missing ones, and leaks nothing.

    Run scikit-learn's ``check_estimator`` as well.

    Parameters
    ----------
    fusion : estimator
        Not fitted; it is cloned.
    random_state : int

    Returns
    -------
    list of str
        The names of the checks that ran.

    Examples
    --------
    >>> from ensemblefuse import FeatureFusionClassifier
    >>> from ensemblefuse.testing import check_fusion
    >>> check_fusion(FeatureFusionClassifier())
    ['check_blocks_in_any_order', 'check_missing_block', 'check_no_block_gives_prior', 'check_weights_reach_the_fit']
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _run_all(_FusionChecks(fusion, random_state))


class _FusionChecks:
    def __init__(self, fusion: Any, random_state: int):
        self.subject = fusion
        rng = np.random.default_rng(random_state)
        codes = np.arange(90) % 3
        columns = {}
        for name, width, noise in (("image", 4, 0.7), ("text", 3, 0.7), ("audio", 2, 0.9)):
            centres = rng.normal(size=(3, width))
            block = centres[codes] + noise * rng.normal(size=(90, width))
            columns.update({f"{name}__{i}": block[:, i] for i in range(width)})
        self.X = pd.DataFrame(columns)
        self.classify = is_classifier(fusion)
        self.y: np.ndarray = np.array(["cat", "dog", "elk"])[codes] if self.classify else codes.astype(float)
        self.fitted = clone(fusion).fit(self.X, self.y)

    def _predict(self, model: Any, X: pd.DataFrame) -> np.ndarray:
        method: Callable = model.predict_proba if hasattr(model, "predict_proba") else model.predict
        return method(X)

    def check_blocks_in_any_order(self):
        """The order of the blocks does not matter."""
        turned = self.X[list(self.X.columns[::-1])]
        again = clone(self.subject).fit(turned, self.y)
        a, b = self._predict(self.fitted, self.X), self._predict(again, turned)
        if a.dtype.kind == "f":
            assert_allclose(a, b, atol=0.02)
        else:
            assert (a == b).mean() > 0.95

    def check_missing_block(self):
        """A missing block is an ordinary input, and the others still tell something."""
        holes = self.X.copy()
        holes.loc[::2, [c for c in holes.columns if c.startswith("image__")]] = np.nan
        predicted = self.fitted.predict(holes)
        assert len(predicted) == len(holes)
        if self.classify:
            assert (predicted == self.y).mean() > 0.5
        else:
            assert np.corrcoef(predicted, self.y)[0, 1] > 0.5

    def check_no_block_gives_prior(self):
        empty = pd.DataFrame(np.nan, index=[0, 1], columns=self.X.columns)
        if not self.classify:
            assert_allclose(self.fitted.predict(empty), self.y.mean())
        elif hasattr(self.fitted, "predict_proba"):
            assert_allclose(self.fitted.predict_proba(empty), np.full((2, 3), 1 / 3), atol=1e-9)

    def check_weights_reach_the_fit(self):
        """A row of no weight is as good as absent for the prediction of the others."""
        wrong = self.y.copy()
        wrong[:30] = np.roll(wrong[:30], 1)
        weight = np.r_[np.full(30, 1e-6), np.ones(60)]
        weighted = clone(self.subject).fit(self.X, wrong, sample_weight=weight)
        plain = clone(self.subject).fit(self.X, wrong)
        rest = slice(30, None)
        if self.classify and hasattr(weighted, "predict_proba"):
            truth = (np.arange(60), np.searchsorted(weighted.classes_, self.y[rest]))
            assert weighted.predict_proba(self.X[rest])[truth].mean() > plain.predict_proba(self.X[rest])[truth].mean()
        elif self.classify:
            assert (weighted.predict(self.X[rest]) != plain.predict(self.X[rest])).any()
        else:
            assert ((weighted.predict(self.X[rest]) - self.y[rest]) ** 2).mean() < (
                (plain.predict(self.X[rest]) - self.y[rest]) ** 2
            ).mean()
