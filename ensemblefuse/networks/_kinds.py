"""Networks on cells that learn classes, and such that learn numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin

from ensemblefuse._calls import plain_inside
from ensemblefuse.combine import smooth_temperature
from ensemblefuse.combine.probabilities import log_sum_exp, softmax
from ensemblefuse.fusion.targets import read_labels, read_numbers
from ensemblefuse.networks._base import CellNetwork
from ensemblefuse.networks._column import Column

__all__ = ["NetworkClassifier", "NetworkRegressor"]


class NetworkClassifier(ClassifierMixin, CellNetwork):
    """A network on cells that learns classes; a modality stands before it among the bases."""

    _classify = True

    def _read_target(self, y: Any, n_samples: int) -> np.ndarray:
        return read_labels(self, y, n_samples)

    def _row_weights(self, sample_weight: Any, column: Column, target: np.ndarray) -> np.ndarray | None:
        return self._weigh_classes(self._read_weight(sample_weight, column), target)

    def _learn_prior(self, target: np.ndarray, weight: np.ndarray) -> None:
        if len(np.unique(target)) < 2:
            raise ValueError(
                "the rows that hold a cell and have a weight above 0 are all of one class; there is nothing to fit."
            )
        self.prior_ = np.bincount(target, weights=weight, minlength=len(self.classes_)).astype(float)
        self.prior_ /= self.prior_.sum()
        self.temperature_ = 1.0

    def _scaled(self, target: np.ndarray) -> tuple[np.ndarray, int]:
        return target, len(self.classes_)

    def _averaged(self, outputs: np.ndarray) -> np.ndarray:
        return outputs - log_sum_exp(outputs)[..., None]

    def _said(self, outputs: np.ndarray) -> np.ndarray:
        return softmax(outputs / self.temperature_)

    def _keep_oof(self, outputs: np.ndarray, target: np.ndarray, weight: np.ndarray, used: np.ndarray) -> None:
        known = np.isfinite(outputs).all(axis=1)
        self.temperature_ = smooth_temperature(outputs[known], target[known], weight[known])
        oof = np.full((len(used), len(self.classes_)), np.nan)
        oof[np.flatnonzero(used)[known]] = softmax(outputs[known] / self.temperature_)
        self.oof_proba_ = oof.astype(np.float32)

    @plain_inside
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the class probabilities.

        Parameters
        ----------
        X : DataFrame of one column, Series, list or array of cells, of length n_samples

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            A missing cell gets the class frequencies.
        """
        scores, present = self._mean_outputs(X)
        proba = np.tile(self.prior_, (len(present), 1))
        proba[present] = self._said(scores)
        return proba

    @plain_inside
    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class of each cell.

        Parameters
        ----------
        X : DataFrame of one column, Series, list or array of cells, of length n_samples

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        codes = self.predict_proba(X).argmax(axis=1)  # first: it tells if the network is not fitted
        return self.classes_[codes]


class NetworkRegressor(RegressorMixin, CellNetwork):
    """A network on cells that learns numbers, which are standardised for training."""

    _classify = False

    def _read_target(self, y: Any, n_samples: int) -> np.ndarray:
        return read_numbers(self, y, n_samples)

    def _row_weights(self, sample_weight: Any, column: Column, target: np.ndarray) -> np.ndarray | None:
        return self._read_weight(sample_weight, column)

    def _learn_prior(self, target: np.ndarray, weight: np.ndarray) -> None:
        self.prior_ = float(np.average(target, weights=weight))
        self.target_scale_ = float(np.sqrt(np.average((target - self.prior_) ** 2, weights=weight))) or 1.0

    def _scaled(self, target: np.ndarray) -> tuple[np.ndarray, int]:
        return (target - self.prior_) / self.target_scale_, 0

    def _averaged(self, outputs: np.ndarray) -> np.ndarray:
        return outputs

    def _said(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[:, 0] * self.target_scale_ + self.prior_

    def _keep_oof(self, outputs: np.ndarray, target: np.ndarray, weight: np.ndarray, used: np.ndarray) -> None:
        oof = np.full(len(used), np.nan)
        oof[used] = self._said(outputs)
        self.oof_fused_ = oof

    @plain_inside
    def predict(self, X: Any) -> np.ndarray:
        """Predict a number for each cell.

        Parameters
        ----------
        X : DataFrame of one column, Series, list or array of cells, of length n_samples

        Returns
        -------
        ndarray of shape (n_samples,)
            A missing cell gets the mean of `y`.
        """
        outputs, present = self._mean_outputs(X)
        predicted = np.full(len(present), self.prior_)
        predicted[present] = self._said(outputs)
        return predicted
