"""Neural fusion of several targets at once: labels, numbers, or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._calls import answers_rows
from ensemblefuse.combine import smooth_temperature
from ensemblefuse.combine.probabilities import log_probabilities, softmax
from ensemblefuse.exceptions import short_repr
from ensemblefuse.fusion._neural import NeuralFusionClassifier, NeuralFusionRegressor
from ensemblefuse.fusion._neural_base import NeuralFusion
from ensemblefuse.fusion._neural_parameters import NeuralParameters, OnlyWithFolds, SharedParameters, with_shared
from ensemblefuse.scoring.inputs import finite_numbers, plain_labels

__all__ = ["NeuralFusionMultiTask"]

_KINDS = ("label", "number")
# Layers of the network that give the outputs.
_OF_OUTPUTS = ("head", "alone")
# What the model of one target does not have as the model of all does.
_OF_TASKS = ("tasks_", "classes_", "prior_", "temperatures_", "target_scales_", "oof_", "n_parameters_")


class NeuralFusionMultiTask(NeuralFusion):
    """Networks that fuse blocks of numbers, and learn several targets with the same layers.

    It pays where one target is known in few rows and another in many. It is neither a classifier nor a regressor for
    scikit-learn, because its targets may be of both kinds.

    Each target has the weight 1 / 2L, where L is the running mean of its loss. This is the weight that a learned
    uncertainty would have (Kendall et al., CVPR 2018), so the scale of a number changes nothing.

    Parameters
    ----------
    fusion, hidden, n_layers, n_heads, rank, dropout, modality_dropout, auxiliary_weight, n_members, max_epochs, cv, \
batch_size, learning_rate, weight_decay, schedule, noise, mixup, label_smoothing, time_limit, device, warm_start, \
random_state, blocks
        As in `NeuralFusionClassifier`.
    tasks : dict of column to {"label", "number"}, optional
        What each column of `y` holds. A column that is not named, by default every one, is of numbers if its values
        are numbers, and of labels if they are texts or booleans, or if its dtype is ``category``.
    early_stopping : {"auto", True, False}
        As in `NeuralFusionClassifier`; the folds are not stratified. Epochs are compared by the losses of all tasks,
        each divided by that of its prior.

    Attributes
    ----------
    blocks_, state_, plan_, preparation_, token_widths_, history_, best_epochs_, n_parameters_, patterns_, \
n_features_in_, feature_names_in_
        As in `NeuralFusionClassifier`.
    tasks_ : dict of column to {"label", "number"}
    classes_ : dict of column to ndarray
        For each column of labels.
    prior_ : dict of column to ndarray or float
        Class frequencies, or the mean. These are the predictions for a row without any block.
    temperatures_ : dict of column to float
        For each column of labels; as ``temperature_`` of `NeuralFusionClassifier`.
    oof_ : dict of column to ndarray
        Only with early stopping: probabilities of shape (n_samples, n_classes), or numbers of shape (n_samples,), from
        networks that held the row out. NaN in rows that none held out.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from ensemblefuse import NeuralFusionMultiTask
    >>> image, text = np.random.default_rng(0).normal(size=(2, 200))
    >>> X = pd.DataFrame({"image__0": image, "text__0": text})
    >>> y = pd.DataFrame({"kind": np.where(image > 0, "cat", "dog"), "price": 100 * text})
    >>> y.loc[::2, "kind"] = None
    >>> model = NeuralFusionMultiTask("concat", hidden=8, n_members=2, learning_rate=0.02).fit(X, y)
    >>> model.tasks_, bool(model.score(X, y) > 0.8)
    ({'kind': 'label', 'price': 'number'}, True)
    """

    _classify = False
    _balances = True
    oof_ = OnlyWithFolds()

    @with_shared(NeuralParameters.__init__)
    def __init__(
        self,
        fusion: str = "gated",
        *,
        tasks: Mapping[Any, str] | None = None,
        label_smoothing: float = 0.0,
        **shared: Unpack[SharedParameters],
    ):
        super().__init__(fusion, **shared)
        self.tasks = tasks
        self.label_smoothing = label_smoothing

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        return tags

    # ------------------------------------------------------------------ targets

    def _check_settings(self):
        super()._check_settings()
        if self.tasks is not None and not isinstance(self.tasks, Mapping):
            raise ValueError(
                f'tasks must be a dict such as {{"kind": "label", "price": "number"}}; got {self.tasks!r}.'
            )
        wrong = {name: kind for name, kind in (self.tasks or {}).items() if kind not in _KINDS}
        if wrong:
            raise ValueError(f"tasks must say for each column one of {_KINDS}; got {wrong}.")

    def _read_target(self, y, n_samples):
        """Return codes or numbers for each column, NaN where unknown. Set ``tasks_`` and ``classes_``."""
        columns = self._columns_of(y, n_samples)
        given = dict(self.tasks or {})
        unknown = [name for name in given if name not in columns]
        if unknown:
            raise ValueError(f"tasks names columns that y lacks: {unknown}; y has the columns {list(columns)}.")
        self.tasks_, self.classes_, target = {}, {}, {}
        for name, column in columns.items():
            kind = given.get(name) or ("number" if pd.api.types.is_numeric_dtype(_bare(column)) else "label")
            target[name] = self._read_column(name, column, kind)
            self.tasks_[name] = kind
        return target

    def _columns_of(self, y: Any, n_samples: int) -> dict[Any, pd.Series]:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        values = y if isinstance(y, (pd.DataFrame, pd.Series)) else np.asarray(y)
        if values.ndim not in (1, 2) or 0 in values.shape[1:]:
            raise ValueError(
                f"{type(self).__name__} takes a table with a column for each target; got an array of shape "
                f"{values.shape}."
            )
        table = pd.DataFrame(values)
        if len(table) != n_samples:
            raise ValueError(f"y has {len(table)} rows for the {n_samples} rows of X.")
        if not table.columns.is_unique:
            raise ValueError(f"y has columns of the same name: {table.columns[table.columns.duplicated()].tolist()}.")
        return {name: table[name] for name in table.columns}

    def _read_column(self, name: Any, column: pd.Series, kind: str) -> np.ndarray:
        known = ~column.isna().to_numpy(dtype=bool)
        if not known.any():
            raise ValueError(f"column {name!r} of y is missing in every row; leave it out.")
        values = np.full(len(column), np.nan)
        held = column.to_numpy(dtype=object)[known]
        if kind == "number":
            values[known] = finite_numbers(held, f"column {name!r} of y")
            return values
        self.classes_[name], values[known] = np.unique(plain_labels(held, f"column {name!r} of y"), return_inverse=True)
        if len(self.classes_[name]) < 2:
            raise ValueError(
                f"column {name!r} of y holds only one class, {short_repr(self.classes_[name].tolist()[0])}; leave it "
                "out."
            )
        return values

    def _row_weights(self, sample_weight, blocks, y):
        """Return the weights, with 0 for a row of which no target is known: it has nothing to teach."""
        weight = self._read_weight(sample_weight, blocks)
        known = np.any([~np.isnan(column) for column in y.values()], axis=0)
        return np.where(known, 1.0 if weight is None else weight, 0.0)

    def _needs_splits(self, y):
        return False  # its folds need no target, so there is nothing to check before the blocks are there

    def _fold_target(self, target):
        return np.zeros(len(next(iter(target.values()))))

    def _learn_prior(self, target, weight):
        self.prior_ = {}
        for name, column in target.items():
            known = ~np.isnan(column) & (weight > 0)
            if not known.any():
                raise ValueError(f"every row of y with a known {name!r} has sample_weight 0; leave the column out.")
            if name in self.classes_:
                counts = np.bincount(column[known].astype(int), weight[known], minlength=len(self.classes_[name]))
                self.prior_[name] = counts / counts.sum()
            else:
                self.prior_[name] = float(np.average(column[known], weights=weight[known]))

    def _go_on_from(self, earlier, order):
        known = {name: labels.tolist() for name, labels in earlier.classes_.items()}
        if earlier.tasks_ != self.tasks_ or known != {name: v.tolist() for name, v in self.classes_.items()}:
            raise ValueError(
                f"{type(self).__name__}: warm_start=True goes on with the network of the fit before, which learned "
                f"{earlier.tasks_} with the classes {known}. Set warm_start=False."
            )
        super()._go_on_from(earlier, order)
        self.target_scales_ = earlier.target_scales_

    def _heads(self, target, weight, used):
        from ensemblefuse.fusion._neural_fit import Head

        again, heads = hasattr(self, "target_scales_"), []
        self.temperatures_ = dict.fromkeys(self.classes_, 1.0)
        self.target_scales_ = self.target_scales_ if again else {}
        for name, column in target.items():
            own = np.where(np.isnan(column), 0.0, weight)
            if not own.any():
                raise ValueError(f"no row with a block has a known {name!r}; leave this column of y out.")
            own = own / own.mean()
            if name in self.classes_:
                prior = self.prior_[name]
                surprise = -float(prior @ log_probabilities(prior))
                heads.append(Head(len(prior), column, own, 1 / max(surprise, 1e-3)))
                continue
            if not again:
                known = own > 0
                mean = np.average(column[known], weights=own[known])
                spread = np.sqrt(np.average((column[known] - mean) ** 2, weights=own[known]))
                self.target_scales_[name] = (float(mean), float(spread) or 1.0)
            mean, spread = self.target_scales_[name]
            heads.append(Head(0, (column - mean) / spread, own, 2.0))  # the loss of the mean is half
        return heads

    # ------------------------------------------------------------------ predictions

    def _parts(self, outputs: np.ndarray) -> dict[Any, np.ndarray]:
        """Return the outputs of each task, with the width as the last axis."""
        ends = np.cumsum(self.plan_["outputs"]).tolist()
        widths = self.plan_["outputs"]
        return {
            name: outputs[..., end - width : end] for name, end, width in zip(self.tasks_, ends, widths, strict=True)
        }

    def _averaged(self, outputs):
        parts = self._parts(outputs)
        return np.concatenate(
            [log_probabilities(softmax(p), -700.0) if name in self.classes_ else p for name, p in parts.items()],
            axis=-1,
        )

    def _values(self, name: Any, part: np.ndarray) -> np.ndarray:
        if name in self.classes_:
            return softmax(part / self.temperatures_[name])
        mean, spread = self.target_scales_[name]
        return part[:, 0] * spread + mean

    def _keep_oof(self, outputs, target, weight, used):
        self.oof_ = {}
        for name, part in self._parts(outputs).items():
            known = np.isfinite(part).all(axis=1)
            rated = known & ~np.isnan(target[name])
            if name in self.classes_ and rated.any():
                codes = target[name][rated].astype(int)
                self.temperatures_[name] = smooth_temperature(part[rated], codes, weight[rated])
            values = self._values(name, part)
            self.oof_[name] = np.full((len(used), *values.shape[1:]), np.nan)
            self.oof_[name][used] = values

    def _predictions(self, X: Any) -> dict[Any, np.ndarray]:
        """Return probabilities or numbers of each task."""
        outputs, empty = self._mean_outputs(X)
        said = {name: self._values(name, part) for name, part in self._parts(outputs).items()}
        for name, values in said.items():
            values[empty] = self.prior_[name]
        return said

    @answers_rows
    def predict(self, X: Any) -> pd.DataFrame:
        """Predict the targets of each row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        DataFrame of shape (n_samples, n_tasks)
            The most probable class of each column of labels, and the value of each column of numbers.
        """
        said = self._predictions(X)
        index = X.index if isinstance(X, pd.DataFrame) else None
        chosen = {
            name: self.classes_[name][values.argmax(axis=1)] if name in self.classes_ else values
            for name, values in said.items()
        }
        return pd.DataFrame(chosen, index=index)

    @available_if(lambda self: "label" in getattr(self, "tasks_", {}).values())
    @answers_rows
    def predict_proba(self, X: Any) -> dict[Any, np.ndarray]:
        """Predict the class probabilities of each column of labels. Available after `fit` if there is one.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        dict of column to ndarray of shape (n_samples, n_classes)
        """
        return {name: values for name, values in self._predictions(X).items() if name in self.classes_}

    def single_task(self, task: Any) -> NeuralFusionClassifier | NeuralFusionRegressor:
        """Return the fitted model of one target: what evaluates, explains, reports and exports takes one.

        Its predictions are those of this model. It shares no arrays that a later fit would change.

        Parameters
        ----------
        task : column
            One of ``tasks_``.

        Returns
        -------
        NeuralFusionClassifier or NeuralFusionRegressor
            Its ``oof_proba_`` or ``oof_fused_`` has a row for each row of fit, also where this target is unknown.

        Raises
        ------
        ValueError
            If the model has no such target.
        """
        check_is_fitted(self, "state_")
        if task not in self.tasks_:
            raise ValueError(f"the model has no target {task!r}; it has {list(self.tasks_)}.")
        is_label = self.tasks_[task] == "label"
        single: Any = NeuralFusionClassifier if is_label else NeuralFusionRegressor
        alone = single(**{name: getattr(self, name) for name in single._get_param_names() if hasattr(self, name)})
        fitted = {k: v for k, v in vars(self).items() if k.endswith("_") and not k.startswith("_")}
        vars(alone).update({name: value for name, value in fitted.items() if name not in _OF_TASKS})
        place = list(self.tasks_).index(task)
        alone.plan_ = {**self.plan_, "outputs": [self.plan_["outputs"][place]]}
        alone.state_ = {
            name: np.array(self._parts(values)[task]) if name.partition(".")[0] in _OF_OUTPUTS else values
            for name, values in self.state_.items()
        }
        alone.n_parameters_ = int(sum(values.size for values in alone.state_.values()))
        alone.prior_ = self.prior_[task]
        if is_label:
            alone.classes_, alone.temperature_ = self.classes_[task], self.temperatures_[task]
        else:
            alone.target_mean_, alone.target_scale_ = (np.array([value]) for value in self.target_scales_[task])
        if hasattr(self, "oof_"):
            setattr(alone, "oof_proba_" if is_label else "oof_fused_", self.oof_[task])
        return alone

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the mean over the tasks of accuracy and R2, each over the rows where its target is known.

        A target that is known in no row is left out, and so is a number that is known in one row, which has no R2.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        y : DataFrame or array of shape (n_samples, n_tasks)
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If `y` lacks a target, or no target is known in enough rows.
        """
        said = self.predict(X)
        columns = self._columns_of(y, len(said))
        lacking = [name for name in self.tasks_ if name not in columns]
        if lacking:
            raise ValueError(f"y lacks the columns {lacking}, which the model predicts.")
        scores = []
        for name, kind in self.tasks_.items():
            known = ~columns[name].isna().to_numpy(dtype=bool)
            if known.sum() < (1 if kind == "label" else 2):
                continue
            truth = np.array(columns[name].to_numpy(dtype=object)[known].tolist())
            weight = None if sample_weight is None else np.asarray(sample_weight)[known]
            rate = accuracy_score if kind == "label" else r2_score
            scores.append(rate(truth, said[name].to_numpy()[known], sample_weight=weight))
        if not scores:
            raise ValueError(
                f"y has no known value of any target, {list(self.tasks_)}, to score by (of a number, fewer than 2); "
                "pass rows of which some target is known."
            )
        return float(np.mean(scores))


def _bare(column: pd.Series) -> Any:
    """Return the dtype of a column; of objects, the one that its values would have alone. Booleans are no numbers."""
    dtype = column.infer_objects().dtype if pd.api.types.is_object_dtype(column.dtype) else column.dtype
    if pd.api.types.is_object_dtype(dtype):
        dtype = column.dropna().infer_objects().dtype
    return np.dtype(object) if pd.api.types.is_bool_dtype(dtype) else dtype
