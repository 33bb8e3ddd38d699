"""The base class of neural fusions: what they read, how they are fitted, and what they say about new rows."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse._seeds import fit_seed
from ensemblefuse._threads import one_blas_thread
from ensemblefuse._torch import resolve_device
from ensemblefuse.blocks import SEPARATOR, Blocks
from ensemblefuse.fusion._block_preparation import with_blocks
from ensemblefuse.fusion._neural_parameters import NeuralParameters, check_parameters, stops_early
from ensemblefuse.fusion._neural_sequences import fit_sequences, pad_sequences, read_sequences, width_of
from ensemblefuse.fusion._oof_ledger import Entry, Ledger
from ensemblefuse.fusion.base import BaseFusion, warn_new_patterns
from ensemblefuse.fusion.members import Member
from ensemblefuse.fusion.splits import make_splits, splits_to_stop_by
from ensemblefuse.training.holdout import held_digest, member_rows, out_of_fold
from ensemblefuse.training.preparation import fit_block, prepare_block
from ensemblefuse.training.settings import check_state

__all__ = ["NeuralFusion"]

_WEIGHING = ("gated", "attention")
_UNSEEN = "It leaves the missing part out, but has not learned to do without it, and its predictions may be badly wrong"


class NeuralFusion(ClassNamePrefixFeaturesOutMixin, TransformerMixin, NeuralParameters, BaseFusion):
    """Base class of neural fusions. A subclass stands after a mixin of scikit-learn for its kind.

    It defines

    - ``_learn_prior(target, weight)``: sets ``prior_``, the prediction for a row without any block;
    - ``_heads(target, weight, used)``: returns one `Head` for each thing to learn from the used rows;
    - ``_keep_oof(outputs, target, weight, used)``: stores what the out-of-fold outputs of the used rows say;
    - ``_fold_target(target)``: returns codes or numbers by which the inner folds are made.

    All its attributes are set at once at the end of `fit`: after an interrupt, the estimator is as it was before.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Train the networks.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_features)
            Columns named ``block__feature``; or an array, with `blocks`. A missing block is NaN in all its columns. A
            column of arrays of shape (n_tokens, width) is a block of sequences; None where it is missing.
        y : array of shape (n_samples,), or table of shape (n_samples, n_targets)
            A classifier takes one column. In `NeuralFusionMultiTask`, unknown values are missing.
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional
            Rows of one group are never on both sides of an inner split.

        Returns
        -------
        self
        """
        fresh = copy(self)
        fresh._fit(X, y, sample_weight, groups)
        self.__dict__ = fresh.__dict__
        return self

    @plain_inside
    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> None:
        earlier = copy(self) if self.warm_start and hasattr(self, "state_") else None
        self._forget()
        self._check_settings()
        blocks = self._read_numbers_of(X, reset=True)
        target = self._read_target(y, len(blocks))
        weight = self._row_weights(sample_weight, blocks, target)
        groups = self._read_groups(groups, len(blocks))
        self._fit_blocks(blocks, target, weight, groups, earlier)

    def _fit_blocks(
        self, blocks: Blocks, target: Any, weight: np.ndarray | None, groups: Any, earlier: Any = None
    ) -> None:
        weight = np.ones(len(blocks)) if weight is None else weight
        used = self._usable(blocks, weight)
        self.patterns_ = np.unique(blocks.present[:, used].T, axis=0)
        self._learn_prior(target, weight)
        rows = self._member_rows(target, used, groups)
        order = self._canonical(blocks.names)
        if earlier is None:
            self.preparation_ = self._fit_preparation(blocks, order, used, weight)
        else:
            self._go_on_from(earlier, order)
        target = _rows_of(target, used)
        heads = self._heads(target, weight[used], used)
        inputs, mask = self._inputs(blocks, used)
        self.plan_ = self._plan(order, heads)
        if earlier is not None and earlier.plan_ != self.plan_:
            raise ValueError(
                f"{type(self).__name__}: warm_start=True goes on with the network of the fit before, and its "
                f"parameters differ: {_differences(earlier.plan_, self.plan_)}. Set them back, or warm_start=False."
            )
        self._held_digest = self._digest_of(blocks, order, used, rows[1])
        if earlier is not None and self._held_digest not in ("", earlier._held_digest):
            raise ValueError(
                f"{type(self).__name__}: warm_start=True goes on with the networks of the fit before, and they may "
                "have learned from rows that early stopping now holds out, because X, the folds or early_stopping are "
                "not those of that fit. Set early_stopping=False, or warm_start=False."
            )
        outputs = self._train(inputs, mask, heads, rows, None if earlier is None else earlier.state_)
        if outputs is not None:
            self._keep_oof(out_of_fold(self._averaged(outputs), rows[1]), target, weight[used], used)

    def _fit_preparation(
        self, blocks: Blocks, order: list[str], used: np.ndarray, weight: np.ndarray
    ) -> dict[str, dict[str, np.ndarray]]:
        """Learn how each block is prepared, from the used rows that hold it."""
        found = {}
        with one_blas_thread():
            for name in order:
                there = used & blocks.present[blocks.names.index(name)]
                data = self._columns(blocks, name, there)
                if name in self.raw_blocks_:
                    found[name] = fit_sequences(data, weight[there], self.token_widths_[name])
                else:
                    found[name] = fit_block(data, weight[there])
        return found

    def _train(
        self, inputs: list[np.ndarray], mask: np.ndarray, heads: Any, rows: Any, start: Any
    ) -> np.ndarray | None:
        """Train the network of the plan, and return its outputs for all used rows if members held some out."""
        from ensemblefuse.fusion._neural_fit import Tricks, fit_net
        from ensemblefuse.training.loop import Schedule

        schedule = Schedule(
            self.max_epochs, self.batch_size, self.learning_rate, self.weight_decay, self.schedule, self.time_limit
        )
        tricks = Tricks(
            dropout=float(self.dropout),
            modality_dropout=float(self.modality_dropout),
            auxiliary_weight=float(self.auxiliary_weight),
            noise=float(self.noise),
            mixup=float(self.mixup),
            label_smoothing=float(getattr(self, "label_smoothing", 0.0)),
            balance=self._balances,
        )
        self.state_, record, outputs = fit_net(
            (inputs, mask),
            heads,
            self.plan_,
            schedule,
            tricks,
            rows,
            seed=fit_seed(self.random_state),
            device=resolve_device(self.device, needed_by=type(self).__name__),
            start=start,
        )
        check_state(self, self.state_, usual_rate=0.002)
        self.history_, self.best_epochs_ = record.history, record.best_epochs
        self.n_parameters_ = int(sum(values.size for values in self.state_.values()))
        return outputs

    # Whether several tasks are weighed by their losses.
    _balances = False
    # Which rows the members of the last fit held out; not in files of older versions.
    _held_digest = ""

    def _plan(self, order: list[str], heads: Any) -> dict[str, Any]:
        sizes = {name: int(getattr(self, name)) for name in ("hidden", "n_layers", "n_heads", "rank", "n_members")}
        return {
            "fusion": self.fusion,
            "blocks": order,
            "widths": [self.preparation_[name]["basis"].shape[1] for name in order],
            "outputs": [head.width for head in heads],
            "auxiliary": bool(self.auxiliary_weight > 0),
            **sizes,
        }

    def _go_on_from(self, earlier: Any, order: list[str]) -> None:
        """Take over what the weights of an earlier fit were learned with."""
        if (
            list(earlier.preparation_) != order
            or any(len(earlier.blocks_[name]) != len(self.blocks_[name]) for name in order)
            or earlier.token_widths_ != self.token_widths_
        ):
            widths = {name: len(columns) for name, columns in earlier.blocks_.items()}
            raise ValueError(
                f"{type(self).__name__}: warm_start=True goes on with the network of the fit before, which read the "
                f"blocks {widths} (block: columns); X has "
                f"{ {name: len(columns) for name, columns in self.blocks_.items()} }. Set warm_start=False."
            )
        self.preparation_ = earlier.preparation_

    def _digest_of(self, blocks: Blocks, order: list[str], used: np.ndarray, held: Any) -> str:
        """Return a digest of the used rows and of those that each member holds out; ``""`` if none are."""
        return "" if held is None else held_digest(held, [self._columns(blocks, name, used) for name in order])

    # ------------------------------------------------------------------ rows and columns

    def _read_numbers_of(self, X: Any, *, reset: bool) -> Blocks:
        blocks = self._read(X, reset=reset, allow_partial=frozenset())
        return self._with_sequences(blocks, {} if reset else self.token_widths_)

    def _with_sequences(self, blocks: Blocks, widths: Mapping[str, int]) -> Blocks:
        """Return the blocks with cells that hold sequences as arrays; set ``token_widths_``. Nothing is changed."""
        data = dict(blocks.data)
        for name in self.raw_blocks_:
            present = blocks.present[blocks.names.index(name)]
            data[name] = read_sequences(name, data[name], present, blocks.labels, widths.get(name))
        self.token_widths_ = dict(widths) or {name: width_of(data[name]) for name in self.raw_blocks_}
        return replace(blocks, data=data) if self.raw_blocks_ else blocks

    def _canonical(self, names: list[str]) -> list[str]:
        """Return the blocks in an order that does not depend on that of the columns, so that a fit does not either."""
        return sorted(names, key=str)

    def _columns(self, blocks: Blocks, name: str, rows: np.ndarray) -> Any:
        """Return the numbers of a block, its columns in the order of their names if they have any; or sequences."""
        if name in self.raw_blocks_:
            return [cell for cell, chosen in zip(blocks.data[name], rows.tolist(), strict=True) if chosen]
        return blocks.data[name][rows][:, self._order_of_columns(name)]

    def _order_of_columns(self, name: str) -> np.ndarray:
        if not hasattr(self, "feature_names_in_"):
            return np.arange(len(self.blocks_[name]))
        return np.argsort(self.feature_names_in_[self.blocks_[name]].astype(str), kind="stable")

    def _preparation_of(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and basis of a block for its columns in the order of the table."""
        mean, basis = (self.preparation_[name][part] for part in ("mean", "basis"))
        place = np.argsort(self._order_of_columns(name))
        return mean[place], basis[place]

    def _inputs(self, blocks: Blocks, rows: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the prepared blocks of some rows, and which of them are present."""
        order = list(self.preparation_)
        inputs = [
            (pad_sequences if name in self.raw_blocks_ else prepare_block)(
                self._columns(blocks, name, rows), self.preparation_[name]
            )
            for name in order
        ]
        present = blocks.present[[blocks.names.index(name) for name in order]]
        return inputs, present[:, rows].T.astype(float)

    def _usable(self, blocks: Blocks, weight: np.ndarray) -> np.ndarray:
        present = blocks.present.any(axis=0)
        if not present.any():
            raise ValueError("every block is missing in every row of X; there is nothing to fit.")
        used = present & (weight > 0)
        if not used.any():
            raise ValueError("every row that holds a block has sample_weight 0; there is nothing to fit.")
        return used

    def _member_rows(self, target: Any, used: np.ndarray, groups: Any) -> tuple[list[np.ndarray], Any]:
        n_used = int(used.sum())
        if not stops_early(self, n_used):
            return member_rows(None, self.n_members, n_used)
        folds = self._fold_target(target)
        splits = splits_to_stop_by(make_splits(self.cv, folds, groups, classify=self._classify), used)
        return member_rows(splits, self.n_members, n_used)

    def _needs_splits(self, y: Any) -> bool:
        return stops_early(self, len(y))

    # ------------------------------------------------------------------ new rows

    def _ask(self, X: Any) -> tuple[dict[str, Any], np.ndarray]:
        """Return what the network says about new rows, and the rows without any block."""
        from ensemblefuse.fusion._neural_fit import ask_net

        check_is_fitted(self, "state_")
        blocks = self._read_numbers_of(X, reset=False)
        if not self.modality_dropout:
            warn_new_patterns(self, blocks, _UNSEEN)
        inputs, mask = self._inputs(blocks, np.ones(len(blocks), dtype=bool))
        return ask_net(self, self.state_, self.plan_, inputs, mask), np.asarray(~blocks.present.any(axis=0))

    def _averaged(self, outputs: np.ndarray) -> np.ndarray:
        """Return the outputs of each member on the scale on which members are averaged."""
        return outputs

    def _mean_outputs(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        said, empty = self._ask(X)
        return self._averaged(said["outputs"]).mean(axis=0), empty

    @property
    def _n_features_out(self) -> int:
        n_parts = len(self.blocks_) if self.plan_["fusion"] == "late" else 1
        return int(self.plan_["hidden"] * n_parts * self.plan_["n_members"])

    @answers_rows
    def transform(self, X: Any) -> np.ndarray:
        """Return what the last layer of each member sees: all members side by side.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_members * hidden)
            With ``fusion="late"``, `hidden` columns for each block and member. A row without any block has the features
            that a network without input has.
        """
        said, _ = self._ask(X)
        features = said["features"]
        return features.transpose(1, 0, 2).reshape(features.shape[1], -1)

    @available_if(lambda self: self.fusion in _WEIGHING)
    @answers_rows
    def fusion_weights(self, X: Any) -> pd.DataFrame:
        """Return how much of each block went into the features of each row. Only for ``"gated"`` and ``"attention"``.

        They say what the network read, and are no explanation of what it said (Jain and Wallace, NAACL 2019).

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        DataFrame of shape (n_samples, n_blocks)
            The mean gate over all units, or the attention of the last layer, of all members. Each row sums to 1; it is
            0 for a block that the row lacks, and NaN in a row without any block.
        """
        said, empty = self._ask(X)
        weights = said["weights"].mean(axis=0)
        weights[empty] = np.nan
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.DataFrame(weights, columns=list(self.preparation_), index=index)[list(self.blocks_)]

    # ------------------------------------------------------------------ on the ledger of a search

    def _enter(self, blocks: Blocks, ledger: Ledger) -> tuple[list[Member], list[Entry]]:
        """Return the only member, a fusion like this one, and its entry; its folds are within those of the ledger."""
        self._check_partial(blocks, frozenset())
        names, some = blocks.names, np.asarray(blocks.present.any(axis=0))
        if self.raw_blocks_:
            own, data = clone(self), _as_table(blocks)
        else:
            own, data = with_blocks(self, blocks.spans(names)), blocks.side_by_side(names)
        members = [Member("all blocks", own, data, some, ledger.groups)]
        return members, ledger.add(members)

    def _predict_oof(self, blocks: Blocks, ledger: Ledger) -> np.ndarray:
        self._check_settings()
        return self._enter(blocks, ledger)[1][0].predictions

    def _fit_members(self, blocks: Blocks, ledger: Ledger) -> None:
        blocks = self._with_sequences(blocks, {})
        self._fit_blocks(blocks, ledger.y, ledger.sample_weight, ledger.groups)

    # ------------------------------------------------------------------ parameters

    def _check_settings(self) -> None:
        check_parameters(self)


def _as_table(blocks: Blocks) -> pd.DataFrame:
    """Return the blocks of a ledger as a table, the same one each time, so that the ledger knows its member again."""
    key = ("table of a neural fusion",)
    if key not in blocks.tables:
        parts = []
        for name, part in blocks.data.items():
            columns = [f"{name}{SEPARATOR}{i}" for i in range(part.shape[1] if part.ndim == 2 else 1)]
            frame = pd.DataFrame(part) if isinstance(part, np.ndarray) else part.to_frame() if part.ndim == 1 else part
            parts.append(frame.set_axis(columns, axis=1).reset_index(drop=True))
        blocks.tables[key] = pd.concat(parts, axis=1)
    return blocks.tables[key]


def _rows_of(target: Any, rows: np.ndarray) -> Any:
    """Return some rows of a target: an array, or a dict of arrays."""
    return {name: part[rows] for name, part in target.items()} if isinstance(target, Mapping) else target[rows]


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} was {before[name]!r} and is {now[name]!r}" for name in now if before[name] != now[name])
