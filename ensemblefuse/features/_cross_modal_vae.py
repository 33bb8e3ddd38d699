"""A variational autoencoder of blocks: one space for all of them, and each generated from the others."""

from __future__ import annotations

import warnings
from copy import copy
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.model_selection import GroupKFold, KFold
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from ensemblefuse._calls import answers_rows, plain_inside
from ensemblefuse._seeds import own_seed
from ensemblefuse._threads import one_blas_thread
from ensemblefuse._torch import resolve_device
from ensemblefuse.blocks import Blocks
from ensemblefuse.exceptions import MissingModalityWarning
from ensemblefuse.features._block_transformer import BlockTransformer, numbered
from ensemblefuse.scoring.inputs import read_groups
from ensemblefuse.training.preparation import fit_block, invert_block, prepare_block

__all__ = ["CrossModalVAE"]

_KINDS = ("poe", "mixture", "conditional")
_SEED = 748_190
_FOLDS = 5
# With fewer rows, folds are too small to say when to stop.
_ENOUGH_ROWS = 20
_WEIGHT_DECAY = 0.01


class CrossModalVAE(BlockTransformer):
    """Learn one latent space of all blocks, and generate a block that is missing from the others.

    A variational autoencoder: each block has an encoder and a decoder, which begin as ridge regressions and add a
    hidden layer. What the blocks of a row say about the latent variables is joined. Rows that lack blocks take part in
    `fit`, and may be asked for everything. On some hundred rows, `CrossModalImputer` fills gaps as well in a hundredth
    of the time. See ``docs/crossmodal.md`` for figures.

    Blocks are standardised, and wide ones rotated to the components of 99 % of their variance. Each column has a
    variance of its own, which is learned.

    Parameters
    ----------
    kind : {"poe", "mixture", "conditional"}
        ``"poe"``: what the blocks say is multiplied (MVAE, Wu and Goodman, 2018). It is trained on all blocks of a row
        and on a random part of them. ``"mixture"``: each block has its own say, and one of them is drawn (MMVAE, Shi et
        al., 2019). ``"conditional"``: a block is generated from the others directly, and the latent variables hold what
        these leave open; their prior is learned from these (CVAE, Sohn et al., 2015).
    n_latent : int
        Number of latent variables. At most the number of rows minus 1, and that of prepared columns.
    hidden : int
        Units of the hidden layers. With 0 there are none, and all maps are linear.
    max_epochs : int
    batch_size : int
    learning_rate : float
        Of AdamW.
    early_stopping : bool
        Whether to stop at the epoch that is best for networks that held out the rows, of which one is trained for each
        of 5 folds. If no epoch is better than the linear start, that is kept. Under 20 rows it has no effect.
    time_limit : float, optional
        Seconds after which no new epoch begins. The first epoch is always finished.
    device : str
        Of torch, for training: ``"cpu"``, ``"cuda"``, ``"auto"``. Answers are computed on the CPU in double precision.
    random_state : int, RandomState or None
        Seed of weights, batches and draws. None is a fixed seed, too.
    blocks : dict, optional
        Columns of each block; by default, given by the prefix of their names. See `find_blocks`.

    Attributes
    ----------
    blocks_ : dict of str to ndarray of int
    known_blocks_ : list of str
        Blocks that some used row of fit holds. Other blocks are neither read nor generated.
    state_ : dict of str to ndarray
        Weights, in single precision.
    plan_ : dict
        Plain values from which the network is built.
    preparation_ : dict of str to dict
        For each block the ``mean`` of its columns, the ``basis`` that they are multiplied with, and ``back``, which
        leads back from there.
    n_latent_ : int
    history_ : dict of str to ndarray
        ``train_loss`` and, with early stopping, ``held_loss``, in nats a prepared column; ``learning_rate`` and
        ``seconds``. Each has the shape (n_epochs,).
    best_epoch_ : int
        Number of epochs that the network was kept at. 0: the linear start was better than all.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    ValueError
        If a row of a block is partly NaN, or if no row with a weight holds any block.

    Notes
    -----
    With x the given blocks (none, except with ``"conditional"``), y the explained ones, and q what the encoders say
    about z, training raises ``E_q log p(y | x, z) - KL(q(z | x, y) || p(z | x))``, a bound of ``log p(y | x)``. The
    second part counts nothing in the first step and fully after 30 % of them.

    References
    ----------
    Wu and Goodman, Multimodal generative models for scalable weakly-supervised learning, NeurIPS 2018. Shi et al.,
    Variational mixture-of-experts autoencoders, NeurIPS 2019. Sohn et al., Learning structured output representation
    using deep conditional generative models, NeurIPS 2015, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from ensemblefuse import CrossModalVAE
    >>> image = np.random.default_rng(0).normal(size=60)
    >>> X = pd.DataFrame({"image__0": image, "text__0": 3 * image + 1})
    >>> model = CrossModalVAE(n_latent=1, hidden=0, max_epochs=20).fit(X)
    >>> X["text__0"] = np.nan
    >>> bool(np.corrcoef(model.reconstruct(X, "text")[:, 0], image)[0, 1] > 0.99)
    True
    """

    def __init__(
        self,
        kind="poe",
        *,
        n_latent=16,
        hidden=64,
        max_epochs=60,
        batch_size=32,
        learning_rate=2e-3,
        early_stopping=True,
        time_limit=None,
        device="cpu",
        random_state=None,
        blocks=None,
    ):
        self.kind = kind
        self.n_latent = n_latent
        self.hidden = hidden
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.early_stopping = early_stopping
        self.time_limit = time_limit
        self.device = device
        self.random_state = random_state
        self.blocks = blocks

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, groups: Any = None) -> Self:
        """Train the autoencoder. An interrupt leaves it as it was before.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        y : ignored
        sample_weight : array of shape (n_samples,), optional
        groups : array of shape (n_samples,), optional
            Rows of one group are in the same fold of the early stopping.

        Returns
        -------
        self
        """
        fresh = copy(self)
        fresh._fit(X, sample_weight, groups)
        self.__dict__ = fresh.__dict__
        return self

    @plain_inside
    def _fit(self, X: Any, sample_weight: Any, groups: Any) -> None:
        self._check_params()
        blocks = self._read(X, reset=True)
        weight = _check_sample_weight(sample_weight, np.empty((len(blocks), 1)), ensure_non_negative=True)
        groups = read_groups(groups, len(blocks))
        used = blocks.present.any(axis=0) & (weight > 0)
        if not used.any():
            raise ValueError(
                f"{type(self).__name__}: none of the {len(blocks)} rows (n_samples = {len(blocks)}) holds a block and "
                "has a weight above 0; there is nothing to fit."
            )
        self._find_known(blocks, used)
        self.preparation_ = {name: self._prepare_block(blocks, name, used, weight) for name in self.known_blocks_}
        inputs = self._inputs(blocks)
        inputs = [part[used] for part in inputs[0]], inputs[1][used]
        folds = self._folds(int(used.sum()), None if groups is None else groups[used])
        self._train(inputs, weight[used] / weight[used].mean(), folds)

    def _check_params(self) -> None:
        if not (isinstance(self.kind, str) and self.kind in _KINDS):
            raise ValueError(f"kind must be one of {_KINDS}; got {self.kind!r}.")
        for name, least in (("n_latent", 1), ("hidden", 0), ("max_epochs", 1), ("batch_size", 1)):
            _check_whole(name, getattr(self, name), least)
        if not isinstance(self.early_stopping, (bool, np.bool_)):
            raise ValueError(f"early_stopping must be True or False; got {self.early_stopping!r}.")
        for name in ("learning_rate", "time_limit"):
            value = getattr(self, name)
            is_number = isinstance(value, Real) and not isinstance(value, bool) and np.isfinite(float(value))
            if not (is_number and value > 0) and not (name == "time_limit" and value is None):
                raise ValueError(f"{name} must be a number above 0; got {value!r}.")

    def _find_known(self, blocks: Blocks, used: np.ndarray) -> None:
        """Find the blocks to learn from, in an order that does not depend on that of the columns."""
        held = dict(zip(blocks.names, map(np.any, blocks.present[:, used]), strict=True))
        self.known_blocks_ = sorted((name for name in blocks.names if held[name]), key=str)
        unknown = [name for name in blocks.names if not held[name]]
        if unknown:
            warnings.warn(
                f"{type(self).__name__}: no row in fit holds the blocks {unknown}; they are not learned from.",
                MissingModalityWarning,
                stacklevel=5,
            )

    def _prepare_block(self, blocks: Blocks, name: str, used: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        rows = used & blocks.present[blocks.names.index(name)]
        data = blocks.data[name][rows]
        with one_blas_thread():
            fitted = fit_block(data, weight[rows])
            return {**fitted, "back": invert_block(data, weight[rows], fitted)}

    def _inputs(self, blocks: Blocks) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the prepared known blocks, and a mask of shape (n_samples, n_blocks) of those that are there."""
        data = [prepare_block(blocks.data[name], self.preparation_[name]) for name in self.known_blocks_]
        present = blocks.present[[blocks.names.index(name) for name in self.known_blocks_]]
        return data, present.T.astype(float)

    def _folds(self, n_rows: int, groups: np.ndarray | None) -> list[tuple[np.ndarray, np.ndarray]]:
        if not self.early_stopping or n_rows < _ENOUGH_ROWS:
            return []
        if groups is None:
            return list(KFold(_FOLDS, shuffle=True, random_state=_SEED).split(np.empty(n_rows)))
        codes = np.unique(groups, return_inverse=True)[1].reshape(-1)
        n_groups = int(codes.max()) + 1
        if n_groups < 2:
            return []
        names = np.random.RandomState(_SEED).permutation(n_groups)  # the splitter takes groups in their order
        return list(GroupKFold(min(_FOLDS, n_groups)).split(codes, groups=names[codes]))

    def _train(self, inputs: tuple[list[np.ndarray], np.ndarray], weight: np.ndarray, folds: list) -> None:
        from ensemblefuse.features._vae_fit import fit_autoencoder
        from ensemblefuse.training.loop import Schedule

        widths = [int(part.shape[1]) for part in inputs[0]]
        fewest = min([len(weight), *(len(train) for train, _ in folds)])
        self.n_latent_ = int(max(1, min(self.n_latent, sum(widths), fewest - 1)))
        self.plan_ = {
            "kind": self.kind,
            "n_members": 1,
            "widths": widths,
            "n_latent": self.n_latent_,
            "hidden": int(self.hidden),
        }
        schedule = Schedule(
            self.max_epochs, self.batch_size, self.learning_rate, _WEIGHT_DECAY, time_limit=self.time_limit
        )
        seed = _SEED
        if self.random_state is not None:
            seed = int(check_random_state(own_seed(self.random_state)).randint(2**31 - 16))
        device = resolve_device(self.device, needed_by=type(self).__name__)
        self.state_, self.history_, self.best_epoch_ = fit_autoencoder(
            inputs, weight, self.plan_, schedule, folds, seed=seed, device=device
        )
        if not all(np.isfinite(values).all() for values in self.state_.values()):
            raise ValueError(
                f"{type(self).__name__}: the weights are no finite numbers after training with "
                f"learning_rate={self.learning_rate!r}; pass a lower one, such as 0.002."
            )

    # ------------------------------------------------------------------ new rows

    def _ask(self, blocks: Blocks, answer: Any, n_draws: int, without: str | None = None) -> tuple[Any, np.ndarray]:
        """Return an answer for the rows, without reading one block, and which rows hold something to read."""
        from ensemblefuse.features._vae_fit import ask_autoencoder

        data, present = self._inputs(blocks)
        if without is not None:
            present[:, self.known_blocks_.index(without)] = 0
        said = ask_autoencoder(self, self.state_, self.plan_, answer, data, [present], n_draws)
        return said, np.asarray(present.any(axis=1))

    @answers_rows
    def transform(self, X: Any) -> np.ndarray:
        """Return the means of the latent variables given all blocks of a row.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_latent_)
            NaN in a row without any block.
        """
        check_is_fitted(self)
        blocks = self._read(X, reset=False)
        said, some = self._ask(blocks, lambda net, data, masks, noise: net.latent_mean(data, masks[0]), 1)
        said[~some] = np.nan
        return said.astype(_dtype_of(blocks), copy=False)

    @answers_rows
    def reconstruct(self, X: Any, block: str, n_draws: int = 20) -> np.ndarray:
        """Generate a block from the other blocks of each row, whether the row holds it or not.

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        block : str
            A block that is known from fit.
        n_draws : int
            Number of draws of the latent variables, over which the mean is taken. They are the same for all rows, and
            come in pairs of opposite sign.

        Returns
        -------
        ndarray of shape (n_samples, n_columns of the block)
            A row without any other block gets what the model expects of a row that it knows nothing about.
        """
        check_is_fitted(self)
        if block not in self.known_blocks_:
            raise ValueError(f"block {block!r} is not known from fit; the blocks are {self.known_blocks_}.")
        _check_whole("n_draws", n_draws, 1)
        blocks = self._read(X, reset=False)
        wanted = self.known_blocks_.index(block)
        said, _ = self._ask(
            blocks,
            lambda net, data, masks, noise: net.reconstruct(data, masks[0], noise, wanted),
            n_draws,
            without=block,
        )
        fitted = self.preparation_[block]
        return (said @ fitted["back"] + fitted["mean"]).astype(_dtype_of(blocks), copy=False)

    @answers_rows
    def log_likelihood(self, X: Any, n_draws: int = 100) -> np.ndarray:
        """Return how probable each row is under the model, in nats: low for rows whose blocks do not fit together.

        It is the importance-weighted bound (Burda et al., ICLR 2016): the log of the mean over draws z from q(z) of
        ``p(blocks | z) p(z) / q(z)``, which lies below the log-density and rises to it with the number of draws. It is
        the density of the prepared blocks. So rows and models can be compared where the preparation is the same, and
        not across tables.

        With ``kind="conditional"`` there is no density of all blocks. It is the sum over the blocks of the log-density
        of each given the others (the pseudo-likelihood of Besag, 1975).

        Parameters
        ----------
        X : DataFrame or array of shape (n_samples, n_features)
        n_draws : int

        Returns
        -------
        ndarray of shape (n_samples,)
            Rows that lack blocks have fewer terms, and are higher or lower for this alone. NaN in a row without any
            block.
        """
        check_is_fitted(self)
        _check_whole("n_draws", n_draws, 1)
        said, some = self._ask(self._read(X, reset=False), _bound_of_all, n_draws)
        return np.where(some, said, np.nan)

    def _names_out(self) -> list[str]:
        return numbered({"latent": self.n_latent_}, "")


def _bound_of_all(net: Any, blocks: list, masks: list, noise: Any) -> Any:
    (present,) = masks
    if net.kind != "conditional":
        return net.weighted_bound(blocks, present, noise, present * 0)
    total = 0.0
    for m in range(present.shape[-1]):
        target = present * 0
        target[..., m] = present[..., m]
        total = total + net.weighted_bound(blocks, target, noise, present - target) * present[..., m]
    return total


def _dtype_of(blocks: Blocks) -> Any:
    return np.result_type(*(part.dtype for part in blocks.data.values()))


def _check_whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}.")
