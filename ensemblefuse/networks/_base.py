"""The base class of networks that are trained on raw cells: what they read, how they are fitted, what they say."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import copy
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ensemblefuse._calls import plain_inside
from ensemblefuse._public_names import public_path
from ensemblefuse._seeds import fit_seed
from ensemblefuse._torch import resolve_device, settle_after_fork
from ensemblefuse.backbones.weights import WeightsSource
from ensemblefuse.fusion.splits import make_splits, splits_to_stop_by
from ensemblefuse.fusion.targets import TargetReader
from ensemblefuse.networks._column import Column, Items, Views, load_items, load_views
from ensemblefuse.networks._frozen import state_digest, whole_networks
from ensemblefuse.networks._hooks import CellNetworkHooks, Cut
from ensemblefuse.networks._parameters import check_parameters, stages_to_train
from ensemblefuse.networks._reader import CellReader
from ensemblefuse.table import cell_frame
from ensemblefuse.training.holdout import member_rows
from ensemblefuse.training.settings import check_state

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from ensemblefuse.networks._members import Rows

__all__ = ["CellNetwork"]

# As in neural fusions: with early_stopping="auto", members hold out folds from this number of rows on.
_ENOUGH_ROWS = 500
# With fewer rows, batch normalisations of a pretrained network keep the statistics that they came with.
_ROWS_FOR_STATISTICS = 1000
# Cells that are predicted at once.
_CHUNK = 1024


class CellNetwork(ClassNamePrefixFeaturesOutMixin, TransformerMixin, CellNetworkHooks, TargetReader, BaseEstimator):
    """Base class of networks on the cells of one column. A subclass has a kind, of `_kinds`, and a modality.

    What both define is in `CellNetworkHooks`.

    All attributes are set at once at the end of `fit`: after an interrupt, the estimator is as it was before. No live
    network is among them: ``state_`` holds arrays, of a tuned network those that training changed.
    """

    # The estimator of a block of raw cells: tells who refuses it as an encoder where it goes.
    reads_cells: ClassVar[bool] = True

    # ------------------------------------------------------------------ fit

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Train the networks.

        Parameters
        ----------
        X : DataFrame of one column, Series, list or array of cells, of length n_samples
            A missing cell (None) teaches nothing.
        y : array of shape (n_samples,)
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional
            Rows of one group are never on both sides of early stopping.

        Returns
        -------
        self

        Raises
        ------
        EncodingError
            If cells cannot be read and ``on_error="raise"``; it lists every bad row.
        """
        fresh = copy(self)
        fresh._fit(X, y, sample_weight, groups)
        self.__dict__ = fresh.__dict__
        return self

    @plain_inside
    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> None:
        self._forget()
        self._check_settings()
        column = self._read_column(X, reset=True)
        target = self._read_target(y, len(column))
        weight = self._row_weights(sample_weight, column, target)
        weight = np.ones(len(column)) if weight is None else weight
        groups = self._read_groups(groups, len(column))
        device = resolve_device(self.device, needed_by=type(self).__name__)
        cut, reader = Cut.of(self._backbone(), device, partial(stages_to_train, self)), self._reader()
        splits = self._splits(target, groups, int((column.present & (weight > 0)).sum()))
        inputs = self._inputs(column, reader, cut, self.n_views if self.augment != "none" else 1)
        self._tell_cut(reader, column)
        if isinstance(inputs, Items):
            self._learn_cells(column, inputs.items, weight)
            reader = self._reader()
            inputs = Items(inputs.items, reader.array)
        column.settle()
        used = column.present & (weight > 0)
        self._check_used(used, column)
        self._learn_prior(target[used], weight[used])
        self.trained_on_ = column.digests(used, strings_are_paths=reader.strings_are_paths)
        self.base_ = dict(cut.token or {})
        n_used = int(used.sum())
        held_out = None if splits is None else splits_to_stop_by(splits, used)
        outputs = self._train(
            self._rows(inputs, reader, target, weight, used), cut, member_rows(held_out, self.n_members, n_used)
        )
        if outputs is not None:
            self._keep_oof(outputs, self._scaled(target[used])[0], weight[used], used)

    def _rows(self, inputs: Any, reader: CellReader, target: np.ndarray, weight: np.ndarray, used: np.ndarray) -> Rows:
        from ensemblefuse.networks._members import Rows

        wanted, n_classes = self._scaled(target[used])
        join = partial(reader.join, after_prefix=isinstance(inputs, Views))
        return Rows(inputs, np.flatnonzero(used), join, wanted, weight[used] / weight[used].mean(), n_classes)

    def _train(self, rows: Rows, cut: Cut, parts: Any) -> np.ndarray | None:
        """Train all networks, and return the outputs of rows that some held out, if any did."""
        from ensemblefuse.networks._members import Plan, build_members, train_members, width_of
        from ensemblefuse.training.loop import Schedule

        tuned = self.backbone is not None
        make_body: Callable[[], Any] = partial(list, cut.trained) if tuned else self._new_body
        plan = Plan(
            width=width_of(make_body, rows, tuned=tuned),
            n_outputs=rows.n_classes or 1,
            n_members=int(self.n_members),
            tuned=tuned,
            n_trained=len(cut.trained),
            lora=int(self.lora),
            adapts=tuned and len(rows.places) >= _ROWS_FOR_STATISTICS,
            exact=not tuned or bool(cut.frozen),
        )
        seed = fit_seed(self.random_state)
        schedule = Schedule(
            self.max_epochs, self.batch_size, self._rate(), self.weight_decay, self.schedule, self.time_limit
        )
        trained = train_members(
            build_members(plan, make_body, seed),
            plan,
            rows,
            parts,
            schedule,
            refit=self.head == "refit",
            seed=seed,
            device=cut.device,
            average=self._averaged,
        )
        check_state(self, trained.state)
        self.plan_, self.state_ = asdict(plan), trained.state
        self.history_, self.best_epochs_ = trained.record.history, trained.record.best_epochs
        self.n_parameters_ = int(sum(values.size for values in self.state_.values()))
        return trained.outputs

    def _splits(self, target: np.ndarray, groups: Any, n_used: int) -> Any:
        """Return the folds of early stopping; None without."""
        stops = n_used >= _ENOUGH_ROWS if self.early_stopping == "auto" else bool(self.early_stopping)
        return make_splits(self.cv, target, groups, classify=self._classify) if stops else None

    def _check_used(self, used: np.ndarray, column: Column) -> None:
        if not column.present.any():
            raise ValueError(f"every cell of column {column.name!r} is missing; there is nothing to fit.")
        if not used.any():
            raise ValueError("every row that holds a cell has sample_weight 0; there is nothing to fit.")

    def _check_settings(self) -> None:
        check_parameters(self)
        self._check_modality()

    # ------------------------------------------------------------------ cells and stages

    def _read_column(self, X: Any, *, reset: bool) -> Column:
        frame = cell_frame(X)
        validate_data(self, frame, reset=reset, skip_check_array=True)
        return Column.of(frame, self.cells(frame), type(self).__name__, self.on_error)

    def cells(self, frame: pd.DataFrame) -> list[Any]:
        """Return one cell for each row of a table, None for a missing one."""
        if frame.shape[1] != 1:
            raise ValueError(
                f"{type(self).__name__} takes one column; got {frame.shape[1]}: {list(frame.columns)}. Pass one of "
                "them, or give each column a block with an estimator of its own."
            )
        return frame.iloc[:, 0].tolist()

    def _inputs(self, column: Column, reader: CellReader, cut: Cut, n_views: int) -> Items | Views:
        """Return what the trained part begins with for each present cell; all views but the first are augmented."""
        if not cut.frozen:
            return load_items(column, reader)
        return load_views(column, [cut.prefix(reader, view, self.batch_size) for view in range(n_views)])

    def _tell_cut(self, reader: CellReader, column: Column) -> None:
        """Warn of cells of which only the beginning was read; those whose arrays were in the cache were told before."""
        if n_cut := len(reader.cut):
            cells, them = ("cell", "it") if n_cut == 1 else ("cells", "them")
            warnings.warn(
                f"{type(self).__name__} cut {n_cut} {cells} of column {column.name!r} at {reader.limit}; the rest of "
                f"{them} is ignored.",
                UserWarning,
                stacklevel=4,
            )

    # ------------------------------------------------------------------ new rows

    def _ask(self, X: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return features of shape (n_present, n_members, width), outputs likewise, and which cells are present."""
        check_is_fitted(self, "state_")
        column, reader, cut = self._read_column(X, reset=False), self._reader(), self._fitted_cut()
        n_members, width, n_outputs = (self.plan_[name] for name in ("n_members", "width", "n_outputs"))
        features, outputs = [np.empty((0, n_members, width))], [np.empty((0, n_members, n_outputs))]
        for start in range(0, len(column), _CHUNK):
            part = column.part(start, start + _CHUNK)
            inputs = self._inputs(part, reader, cut, 1)
            arrays = inputs.take(np.flatnonzero(part.present).tolist(), None)
            column.present[start : start + _CHUNK] = part.present
            if arrays:
                seen, said = self._ask_arrays(arrays, reader, cut)
                features.append(seen)
                outputs.append(said)
        self._tell_cut(reader, column)
        column.settle()
        return np.concatenate(features), np.concatenate(outputs), column.present

    def _ask_arrays(self, arrays: list[np.ndarray], reader: CellReader, cut: Cut) -> tuple[np.ndarray, np.ndarray]:
        from ensemblefuse.networks._members import ask_members

        settle_after_fork()
        return ask_members(self._live(cut), arrays, partial(reader.join, after_prefix=bool(cut.frozen)))

    def _live(self, cut: Cut) -> torch.nn.ModuleList:
        """Return the networks with their state, made once for each state."""
        from ensemblefuse.networks._members import Plan, build_members, put_state
        from ensemblefuse.training.state import live_network

        plan = Plan(**self.plan_)
        make_body: Callable[[], Any] = partial(list, cut.trained) if plan.tuned else self._new_body
        build, put = partial(build_members, plan, make_body, 0), partial(put_state, plan=plan)
        return cast("torch.nn.ModuleList", live_network(self, self.state_, build, put))

    def _fitted_cut(self) -> Cut:
        """Return the two parts of the backbone on the CPU; it must be the one of `fit`."""
        backbone = self._backbone()
        if backbone is not None and (backbone.token or {}) != self.base_:
            raise ValueError(
                f"{type(self).__name__} was fitted on another backbone: its weights have the digest "
                f"{self.base_.get('weights')}, and those that backbone={self.backbone!r} names here have "
                f"{(backbone.token or {}).get('weights')}. Use the weights of fit, or fit again."
            )
        return Cut.of(backbone, "cpu", lambda _: self.plan_["n_trained"])

    @property
    def _n_features_out(self) -> int:
        return int(self.plan_["width"] * self.plan_["n_members"])

    @plain_inside
    def transform(self, X: Any) -> np.ndarray:
        """Return what the head of each network sees: all networks side by side.

        Parameters
        ----------
        X : DataFrame of one column, Series, list or array of cells, of length n_samples

        Returns
        -------
        ndarray of shape (n_samples, n_members * width)
            A row of NaN for a missing cell.
        """
        features, _, present = self._ask(X)
        out = np.full((len(present), self._n_features_out), np.nan)
        out[present] = features.reshape(len(features), out.shape[1])
        return out

    def _mean_outputs(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean outputs of the present cells, and which cells are present."""
        _, outputs, present = self._ask(X)
        return self._averaged(outputs).mean(axis=1), present

    # ------------------------------------------------------------------ what others ask of a fitted network

    def embedding_recipe(self) -> dict[str, Any] | None:
        """Return what the features depend on besides the cell, as JSON; None if a part of it cannot be hashed."""
        check_is_fitted(self, "state_")
        words, backbone = self._reader().words(), self._backbone()
        if words is None or (backbone is not None and backbone.token is None):
            return None
        network = {"class": public_path(type(self)), "state": state_digest(self.state_), "base": self.base_}
        return {**network, "plan": self.plan_, "train": str(self.train), **words}

    def load_cell(self, cell: Any) -> np.ndarray:
        """Read one cell into the array that the networks take, as it is, without augmentation."""
        reader = self._reader()
        return reader.array(reader.load(cell))

    def embed_loaded(self, arrays: list[np.ndarray]) -> np.ndarray:
        """Return the features of arrays from `load_cell`, of shape (n, n_members * width)."""
        reader, cut = self._reader(), self._fitted_cut()
        if cut.frozen:
            prefix = cut.prefix(reader, 0, self.batch_size)
            arrays = [row.reshape(prefix.shape) for row in prefix.encode_batch(arrays)]
        features, _ = self._ask_arrays(arrays, reader, cut)
        return features.reshape(len(features), -1)

    def of_features(self, features: np.ndarray) -> np.ndarray:
        """Return the predictions for features as `transform` gives them."""
        n_members = self.plan_["n_members"]
        heads = [(self.state_[f"{j}.head.weight"], self.state_[f"{j}.head.bias"]) for j in range(n_members)]
        parts = np.asarray(features, dtype=np.float64).reshape(len(features), len(heads), -1)
        outputs = np.stack([parts[:, j] @ weight.T.astype(float) + bias for j, (weight, bias) in enumerate(heads)], 1)
        return self._said(self._averaged(outputs).mean(axis=1))

    def _whole_networks(self) -> list[torch.nn.Module]:
        """Return each network from its input to its features."""
        cut = self._fitted_cut()
        return whole_networks(cut.frozen, self._live(cut))

    def weights_sources(self) -> list[WeightsSource]:
        """Return the files of the pretrained weights, which `save_model` names, and bundles if asked."""
        backbone = self._backbone()
        return [] if backbone is None else backbone.sources()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = True
        tags.no_validation = True
        return tags
