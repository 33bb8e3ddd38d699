"""Checks of the library's contracts, to run on your own encoders and fusion estimators."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from scipy.special import rel_entr
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing

from ensemblefuse._config import config_context
from ensemblefuse._fitting import with_groups
from ensemblefuse._seeds import own_seed
from ensemblefuse.fusion.splits import make_splits
from ensemblefuse.scoring.inputs import kind_of_models, read_y
from ensemblefuse.table import to_frame

__all__ = ["check_encoder", "check_fusion", "check_no_leakage"]


def check_encoder(encoder: Any, X: Any, *, rtol: float = 1e-4, atol: float = 1e-4, max_pickle: int = 1024) -> list[str]:
    """Assert that an encoder follows the row rule and scikit-learn's conventions.

    The row rule: row i of the output depends only on row i of the input and on the parameters.

    Parameters
    ----------
    encoder : BaseEncoder
        The encoder; it is cloned, and the original is not fitted.
    X : DataFrame or dict of columns
        Input of the encoder: at least 3 rows, each of which can be encoded.
    rtol, atol : float
        Tolerance between two ways of computing the same embedding.
    max_pickle : int
        Maximum size of the fitted encoder's pickle, in bytes.

    Returns
    -------
    list of str
        The names of the checks that ran, in order. A check relies on those before it.

    Raises
    ------
    AssertionError
        If a check fails, or an error ends it; the message gives its name.

    Examples
    --------
    >>> from ensemblefuse import FunctionEncoder
    >>> from ensemblefuse.testing import check_encoder
    >>> encoder = FunctionEncoder(lambda text: [len(text), text.count(" ")])
    >>> len(check_encoder(encoder, {"title": ["a cat", "a dog", "two big cats"]}))
    12
    """
    frame = to_frame(X).reset_index(drop=True)
    if len(frame) < 3:
        raise ValueError(f"check_encoder needs at least 3 rows; got {len(frame)}.")
    with config_context(cache=None, progress=False):
        run = _EncoderChecks(encoder, frame, rtol, atol, max_pickle)
        return _run_all(run)


def _run_all(run: Any) -> list[str]:
    # In the order of the class: each check relies on those before it, so the first that fails is the one at fault.
    names = [name for name in vars(type(run)) if name.startswith("check_")]
    for name in names:
        try:
            getattr(run, name)()
        except Exception as error:
            what = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            raise AssertionError(f"{type(run.subject).__name__} fails {name}: {what}{error}") from error
    return names


class _EncoderChecks:
    def __init__(self, encoder: Any, frame: pd.DataFrame, rtol: float, atol: float, max_pickle: int):
        self.subject = encoder
        self.frame = frame
        self.max_pickle = max_pickle
        self.same = lambda a, b: assert_allclose(a, b, rtol=rtol, atol=atol)

    def check_fit_and_transform(self):
        """Assert that a clone can be fitted, returns itself, and gives the same embeddings twice."""
        self.fitted = clone(self.subject)
        assert self.fitted.fit(self.frame) is self.fitted, "fit must return the encoder itself"
        self.full = np.asarray(self.fitted.transform(self.frame))
        try:
            self.same(self.fitted.transform(self.frame), self.full)
        except AssertionError as error:
            raise AssertionError(f"two calls of transform on the same rows differ: {error}") from error

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
        order = np.random.default_rng(own_seed(0)).permutation(len(self.frame))
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

    def check_missing_cells(self):
        """Assert that missing cells give rows of NaN and do not change other rows."""
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

    def check_clone_and_pickle(self):
        self.same(clone(self.fitted).fit(self.frame).transform(self.frame), self.full)
        try:
            data = pickle.dumps(self.fitted)
        except (pickle.PicklingError, AttributeError):  # a local function; joblib can still send it to another process
            return
        assert len(data) < self.max_pickle, f"the pickle has {len(data)} bytes; it must not contain networks"
        copy = pickle.loads(data)  # nosec B301: bytes that were created a few lines above
        self.same(copy.transform(self.frame), self.full)

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


def _transform(encoder: Any, frame: pd.DataFrame) -> np.ndarray:
    with config_context(cache=None, progress=False):
        return np.asarray(encoder.transform(frame))


def check_fusion(fusion: Any, *, random_state: int = 0) -> list[str]:
    """Assert that a fusion estimator reads blocks, works without some of them, and uses the weights of rows.

    Run scikit-learn's ``check_estimator`` as well, and `check_no_leakage`.

    Parameters
    ----------
    fusion : estimator
        The fusion; it is cloned, and the original is not fitted.
    random_state : int

    Returns
    -------
    list of str
        The names of the checks that ran, in order. A check relies on those before it.

    Raises
    ------
    AssertionError
        If a check fails, or an error ends it; the message gives its name.

    Examples
    --------
    >>> from ensemblefuse import FeatureFusionClassifier
    >>> from ensemblefuse.testing import check_fusion
    >>> check_fusion(FeatureFusionClassifier())[:4]
    ['check_fit_and_predict', 'check_repeatable', 'check_blocks_in_any_order', 'check_missing_block']
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _run_all(_FusionChecks(fusion, random_state))


class _FusionChecks:
    def __init__(self, fusion: Any, random_state: int):
        self.subject = fusion
        rng = np.random.default_rng(own_seed(random_state))
        codes = np.arange(90) % 3
        columns = {}
        for name, width, noise in (("image", 4, 0.7), ("text", 3, 0.7), ("audio", 2, 0.9)):
            centres = rng.normal(size=(3, width))
            block = centres[codes] + noise * rng.normal(size=(90, width))
            columns.update({f"{name}__{i}": block[:, i] for i in range(width)})
        self.X = pd.DataFrame(columns)
        self.classify = is_classifier(fusion)
        self.y: np.ndarray = np.array(["cat", "dog", "elk"])[codes] if self.classify else codes.astype(float)
        self.chance = "0.33" if self.classify else "0"

    def _predict(self, model: Any, X: pd.DataFrame) -> np.ndarray:
        method: Callable = model.predict_proba if hasattr(model, "predict_proba") else model.predict
        return method(X)

    def check_fit_and_predict(self):
        """Assert that a clone can be fitted, returns itself, and predicts its own rows better than chance."""
        self.fitted = clone(self.subject)
        assert self.fitted.fit(self.X, self.y) is self.fitted, "fit must return the fusion itself"
        predicted = self.fitted.predict(self.X)
        assert len(predicted) == len(self.X), f"predict gives {len(predicted)} values for {len(self.X)} rows"
        self._check_skill(predicted, "on rows with all blocks, on which it was fitted")

    def check_repeatable(self):
        """Assert that two fits on the same table predict the same."""
        again = clone(self.subject).fit(self.X, self.y)
        self._check_alike(self._predict(self.fitted, self.X), self._predict(again, self.X))

    def _check_skill(self, predicted: Any, where: str) -> None:
        if self.classify:
            score, what = (predicted == self.y).mean(), "accuracy"
        else:
            score, what = np.corrcoef(predicted, self.y)[0, 1], "correlation"
        assert score > 0.5, f"{what} {score:.2f} {where}; it must be above 0.5, where chance is {self.chance}"

    def _check_alike(self, a: np.ndarray, b: np.ndarray) -> None:
        if a.dtype.kind == "f":
            assert_allclose(a, b, atol=0.02)
        else:
            assert (a == b).mean() > 0.95, f"{(a != b).mean():.0%} of the predictions differ"

    def check_blocks_in_any_order(self):
        """Assert that the order of the blocks does not matter."""
        turned = self.X[list(self.X.columns[::-1])]
        again = clone(self.subject).fit(turned, self.y)
        self._check_alike(self._predict(self.fitted, self.X), self._predict(again, turned))

    def check_missing_block(self):
        """Assert that the model predicts without a block, and better than chance from the others."""
        holes = self.X.copy()
        holes.loc[::2, [c for c in holes.columns if c.startswith("image__")]] = np.nan
        predicted = self.fitted.predict(holes)
        assert len(predicted) == len(holes)
        self._check_skill(predicted, "with one block missing in every second row")

    def check_no_block_gives_prior(self):
        """Assert that a row without any block gets the prior, in regression the mean."""
        empty = pd.DataFrame(np.nan, index=[0, 1], columns=self.X.columns)
        if not self.classify:
            assert_allclose(self.fitted.predict(empty), self.y.mean())
        elif hasattr(self.fitted, "predict_proba"):
            assert_allclose(self.fitted.predict_proba(empty), np.full((2, 3), 1 / 3), atol=1e-9)

    def check_weights_reach_the_fit(self):
        """Assert that rows with almost no weight have less effect on the predictions for the others."""
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


# Largest probability that a model without leakage fails `check_no_leakage`.
_FALSE_ALARMS = 1e-4
_OUTER = "cross_validation"
# Largest number of a model's inner folds that are assumed to depend on each other; leave-one-out has one per row.
_MOST_FOLDS = 10


def check_no_leakage(
    model: Any, X: Any, y: Any, groups: Any = None, *, cv: Any = 3, n_draws: int = 2, random_state: Any = 0
) -> list[str]:
    """Assert that a whole model predicts random labels no better than chance.

    Each draw gives every group of rows one random label, fits the model on all rows, and then cross-validates it. A
    model without leakage is at chance on rows on which it was not fitted. It is above chance if any of its steps has
    seen their labels: a transformer fitted outside the folds, a table shared between fits, rows of one group on both
    sides of a split. The same test is applied to the out-of-fold predictions of the fitted model and of its last step
    (``oof_proba_``, ``oof_fused_``, ``oof_predictions_``). An outer cross-validation cannot detect a second level that
    was fitted on first-level predictions for rows which the first level had seen.

    Parameters
    ----------
    model : classifier or regressor
        The whole model with its encoders, such as a pipeline of `make_fusion_pipeline`. It is cloned, and the original
        is not fitted.
    X : table of n_samples rows, or callable
        Input of `model`. If you use labels before the cross-validation, pass a function that takes labels and returns
        the table: it is called with the drawn labels. A column that was computed from the true labels beforehand
        cannot be detected.
    y : array of shape (n_samples,)
        Labels of any type, or numbers. The random labels are drawn from the classes with equal probability, in
        regression from the two quartiles of `y`.
    groups : array of shape (n_samples,), optional
        Rows that belong together. They get the same random label, stay on one side of every outer split, and are
        passed to the ``fit`` of `model` if it takes groups. By default, rows of X that are equal in all cells get the
        same label, but the splits may separate them: copies of a row in several folds make the check fail. If equal
        rows are different samples, pass ``np.arange(n_samples)``.
    cv : int, splitter or iterable of (train, test)
        Outer folds; as in `compare_models`.
    n_draws : int
        Number of draws. More draws give the check more power and take more time: ``n_draws * (cv + 1)`` fits.
    random_state : int, Generator or None
        Seed of the random labels. An int is turned into a seed of the library's own, so that they are not the numbers
        from which a table of the same seed was made.

    Returns
    -------
    list of str
        The names of the checks that ran: ``"cross_validation"``, and one for each array of out-of-fold predictions.

    Raises
    ------
    AssertionError
        If a score is above its bound; the message gives both.
    ValueError
        If there are so few rows or groups that no score can be above its bound.

    Notes
    -----
    The bound. Given the training rows of an outer fold, the hits in its test part are independent between groups. Each
    hit has the probability p = 1 / n_classes, whatever the model predicts. Folds depend on each other. By Hölder's
    inequality, the tails of the accuracy over K folds are within Chernoff's bound ``exp(-m KL(a || p))`` for ``m =
    n_samples * n_draws / (K * largest group)`` guesses. In regression, each target is a or b with probability 1/2.
    R2 around (a + b) / 2 then exceeds r with a probability of at most ``exp(-m r / 2)``, for any predictions. All
    checks of a call together fail a model without leakage with a probability below 1e-4.

    For the cross-validation this is a theorem. For the out-of-fold predictions of a model, K is the number of the
    model's own folds, at most 10, and p is the share of the most frequent drawn label. The same bound is used there
    without a proof. Folds that are stratified by the labels depend a little on the row's label. So does a combiner
    that was fitted on predictions by members which had seen the row.

    Ojala and Garriga, JMLR 2010 (permutation of labels as a test); Hoeffding, JASA 1963 (the tails).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from ensemblefuse import DecisionFusionClassifier
    >>> from ensemblefuse.testing import check_no_leakage
    >>> X = pd.DataFrame(np.random.default_rng(0).normal(size=(120, 2)), columns=["image__0", "text__0"])
    >>> y = np.repeat(["cat", "dog"], 60)
    >>> check_no_leakage(DecisionFusionClassifier([None], joint=False), X, y, n_draws=1)
    ['cross_validation', 'oof_proba_', "oof_predictions_ of 'image'", "oof_predictions_ of 'text'"]
    """
    run = _LeakageCheck(model, X, y, groups, cv, random_state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random labels give rare classes and fits that do not converge
        for _ in range(n_draws):
            run.draw()
    return run.verdict()


class _LeakageCheck:
    def __init__(self, model: Any, X: Any, y: Any, groups: Any, cv: Any, random_state: Any):
        self.classify = kind_of_models({"model": model}, "model")
        self.X = X
        table = self._table(y)
        n_rows = len(table)
        y = read_y(y, n_rows, classify=self.classify)
        self.values = np.unique(y) if self.classify else _two_numbers(y)
        self.groups = None if groups is None else np.asarray(groups)
        if groups is not None:
            self.unit = np.unique(np.asarray(groups), return_inverse=True)[1]
        else:
            self.unit = np.arange(n_rows) if callable(X) else _equal_rows(table)
        if len(self.unit) != n_rows:
            raise ValueError(f"groups has {len(self.unit)} values for the {n_rows} rows of X.")
        self.model, self.params = with_groups(model, self.groups)
        # From the true labels, so that the splits do not depend on the drawn ones.
        codes = np.unique(y, return_inverse=True)[1] if self.classify else y
        # The labels are drawn anew, so a number of folds needs no stratification, and groups of one class do no harm.
        self.splits = make_splits(cv, codes, self.groups, classify=False)
        self.rng = np.random.default_rng(own_seed(random_state))
        self.tallies: dict[str, _Tally] = {}

    def _table(self, y: Any) -> Any:
        table = self.X(y) if callable(self.X) else self.X
        return table if isinstance(table, np.ndarray) else to_frame(table)

    def draw(self) -> None:
        """Draw labels, fit and cross-validate the model on them, and add its predictions to the tallies."""
        y = self.values[self.rng.integers(len(self.values), size=int(np.max(self.unit)) + 1)][self.unit]
        X = self._table(y)
        # Fit on all rows first, so that a table shared between fits is full before the folds are fitted.
        fitted = self._fit(X, y, np.arange(len(y)))
        for train, test in self.splits:
            predicted = self._fit(X, y, train).predict(_safe_indexing(X, test))
            self._add(_OUTER, predicted, y, test, len(self.splits))
        for name, predicted, rows, n_folds in self._out_of_fold(fitted, y):
            self._add(name, predicted, y, rows, n_folds)

    def _fit(self, X: Any, y: np.ndarray, rows: np.ndarray) -> Any:
        params = {name: value[rows] for name, value in self.params.items()}
        return clone(self.model).fit(_safe_indexing(X, rows), y[rows], **params)

    def _out_of_fold(self, fitted: Any, y: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
        """Yield name, predictions, their rows and number of folds for each array of the model or of its last step."""
        last = fitted
        while isinstance(last, Pipeline):
            last = last[-1]
        for part in [fitted] if last is fitted else [fitted, last]:
            found = {name: getattr(part, name) for name in ("oof_proba_", "oof_fused_") if hasattr(part, name)}
            names = getattr(part, "member_names_", None)
            for m, member in enumerate(getattr(part, "oof_predictions_", ())):
                found[f"oof_predictions_ of {names[m] if names else m!r}"] = member
            n_folds = self._own_folds(part, y) if found else 0
            for name, values in found.items():
                values = np.asarray(values)
                rows = np.flatnonzero(np.isfinite(values.reshape(len(values), -1)).all(axis=1))
                values = values[rows]
                yield name, part.classes_[values.argmax(axis=1)] if self.classify else values, rows, n_folds

    def _own_folds(self, part: Any, y: np.ndarray) -> int:
        cv = getattr(part, "cv", None)
        splitter = check_cv(5 if cv is None else cv, y, classifier=self.classify)
        return min(splitter.get_n_splits(y[:, None], y, self.groups), _MOST_FOLDS)

    def _add(self, name: str, predicted: np.ndarray, y: np.ndarray, rows: np.ndarray, n_folds: int) -> None:
        tally = self.tallies.setdefault(name, _Tally(n_folds))
        y = y[rows]
        tally.rows += len(rows)
        tally.largest = max(tally.largest, int(np.max(np.bincount(self.unit[rows]), initial=0)))
        if self.classify:
            tally.gain += float((np.asarray(predicted) == y).sum())
            # Outer folds do not depend on the drawn labels. Inner folds may be stratified, which reveals their counts.
            outer = name == _OUTER
            tally.most += len(y) / len(self.values) if outer else np.max(np.unique(y, return_counts=True)[1], initial=0)
        else:
            centre = self.values.mean()
            tally.gain += float(((y - centre) ** 2 - (y - np.asarray(predicted)) ** 2).sum())
            tally.most += float(((y - centre) ** 2).sum())

    def verdict(self) -> list[str]:
        """Return the names of the checks; raise AssertionError if a score is above its bound."""
        tallies = {name: tally for name, tally in self.tallies.items() if tally.rows}
        evidence = np.log(len(tallies) / _FALSE_ALARMS)
        for name, tally in tallies.items():
            guesses = tally.rows / (tally.n_folds * tally.largest)
            if self.classify:
                what, figure, chance = "accuracy", tally.gain / tally.rows, tally.most / tally.rows
                bound = _highest_accuracy(chance, evidence / guesses)
            else:
                what, figure, chance, bound = "R2", tally.gain / tally.most, 0.0, _highest_r2(evidence / guesses)
            if bound >= 1:
                raise ValueError(
                    f"{name}: {tally.rows} predictions of rows in groups of up to {tally.largest} are too few to "
                    "distinguish a leak from chance. Pass more rows or a greater n_draws; if equal rows of X are "
                    "different samples, pass groups=np.arange(n_samples)."
                )
            if figure > bound:
                raise AssertionError(
                    f"{name}: {what} {figure:.3f} on {tally.rows} predictions of random labels, where chance is "
                    f"{chance:.3f} and a model without leakage stays below {bound:.3f}. A step of the model has seen "
                    f"the labels of the rows that it predicts.{self._hint()}"
                )
        return list(tallies)

    def _hint(self) -> str:
        if self.groups is not None or np.max(self.unit) + 1 == len(self.unit):
            return ""
        n_copies = int((np.bincount(self.unit)[self.unit] > 1).sum())
        return (
            f" {n_copies} rows of X are equal to another row: pass groups that keep copies together, or "
            "groups=np.arange(n_samples) if they are different samples."
        )


class _Tally:
    """Sums over the draws: rows, hits (in regression: explained squares), and the hits of the best constant guess."""

    def __init__(self, n_folds: int):
        self.n_folds = n_folds
        self.rows = 0
        self.largest = 0
        self.gain = 0.0
        self.most = 0.0


def _highest_accuracy(chance: float, divergence: float) -> float:
    """Return the accuracy above `chance` that has this Kullback-Leibler divergence from it; 1 if there is none."""
    gap = lambda a: rel_entr(a, chance) + rel_entr(1 - a, 1 - chance) - divergence
    return 1.0 if gap(1.0) <= 0 else float(brentq(gap, chance, 1.0))


def _highest_r2(divergence: float) -> float:
    """Return the R2 that has this tail exponent."""
    return 2 * divergence


def _two_numbers(y: np.ndarray) -> np.ndarray:
    """Return the quartiles of y, or its extremes if the quartiles are equal. Two values give the check most power."""
    for low, high in ((0.25, 0.75), (0.0, 1.0)):
        pair = np.quantile(y, [low, high], method="nearest")
        if pair[0] < pair[1]:
            return pair
    raise ValueError(f"y is {float(y[0])!r} in every row; there is nothing to predict.")


def _equal_rows(table: Any) -> np.ndarray:
    """Return a code for each row's content. A row without any value gets a code of its own."""
    frame = pd.DataFrame(table)
    codes = np.column_stack([pd.factorize(_comparable(frame.iloc[:, i]))[0] for i in range(frame.shape[1])])
    unit = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)
    empty = np.flatnonzero((codes < 0).all(axis=1))
    unit[empty] = np.max(unit) + 1 + np.arange(len(empty))
    return np.unique(unit, return_inverse=True)[1]


def _comparable(column: pd.Series) -> pd.Series:
    """Return cells that can be compared: a digest in place of each array, list or image."""
    if column.dtype != object:
        return column
    return column.map(lambda cell: cell if isinstance(cell, (str, int, float, type(None))) else joblib.hash(cell))
