"""Networks on texts: a recurrent one from scratch, or the last layers of a pretrained one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ensemblefuse._torch import shared_network
from ensemblefuse.backbones.text_model import (
    MULTILINGUAL,
    sentence_network,
    text_model_folder,
    text_model_sources,
    text_model_token,
)
from ensemblefuse.backbones.text_static import is_static_folder
from ensemblefuse.backbones.text_transformers import SentenceNetwork
from ensemblefuse.backbones.weights import PACKAGED
from ensemblefuse.cells.text import split_words, without_blanks
from ensemblefuse.networks._base import CellNetwork
from ensemblefuse.networks._column import Column
from ensemblefuse.networks._hooks import Backbone
from ensemblefuse.networks._kinds import NetworkClassifier, NetworkRegressor
from ensemblefuse.networks._text_reader import TokenReader, WordReader, learn_vocabulary
from ensemblefuse.training.settings import require_whole

if TYPE_CHECKING:
    import pandas as pd
    import torch

__all__ = ["TextNetworkClassifier", "TextNetworkRegressor"]

# Numbers of a word, and units of the recurrent layer in each direction.
_WORD_WIDTH, _UNITS = 64, 64
# learning_rate="auto", from scratch and tuned: at the rate of a new layer, a pretrained one forgets what it knew.
_RATE, _TUNED_RATE = 5e-3, 1e-4
# Adapters begin at 0, and have to grow: they take ten times the rate of the weights beside them.
_LORA_RATE = 1e-3


class _OnTexts(CellNetwork):
    """What networks on texts have of their own."""

    strings_are_paths = False
    auto_rate = True
    backbone: Any
    augment: Any
    lora: int
    max_length: int
    max_words: int

    def _reader(self) -> WordReader | TokenReader:
        if self.backbone is not None:
            return TokenReader(self.augment, self.max_length, self._network("cpu"))
        return WordReader(self.augment, self.max_length, getattr(self, "vocabulary_", ()))

    def _learn_cells(self, column: Column, items: list[Any], weight: np.ndarray) -> None:
        if self.backbone is None:
            texts = [items[row] for row in np.flatnonzero(column.present & (weight > 0))]
            self.vocabulary_ = learn_vocabulary((split_words(text, self.max_length) for text in texts), self.max_words)

    def _new_body(self) -> torch.nn.Module:
        from ensemblefuse.networks._recurrent import WordNetwork

        return WordNetwork(len(self.vocabulary_) + 1, _WORD_WIDTH, _UNITS)

    def _backbone(self) -> Backbone | None:
        if self.backbone is None:
            return None
        name = type(self).__name__
        token = text_model_token(self.backbone, needed_by=name)
        is_packaged = token in PACKAGED
        if token == MULTILINGUAL or (
            not is_packaged and is_static_folder(text_model_folder(self.backbone, needed_by=name))
        ):
            raise ValueError(
                f"{name}: backbone={self.backbone!r} has no layers that can be trained; pass a network of transformers "
                'such as "all-MiniLM-L6-v2", or TextEncoder as the encoder of the column.'
            )
        make = lambda device: lambda: self._network(device).stages()
        stages = lambda device: shared_network(("text stages", token, device), make(device))
        sources = lambda: text_model_sources(self.backbone, param="backbone", needed_by=name)
        return Backbone({"weights": token}, stages, sources)

    def _network(self, device: str) -> SentenceNetwork:
        return sentence_network(self.backbone, device=device, needed_by=type(self).__name__)

    def _rate(self) -> float:
        if self.learning_rate != "auto":
            return float(self.learning_rate)
        if self.backbone is None:
            return _RATE
        return _LORA_RATE if self.lora else _TUNED_RATE

    def cells(self, frame: pd.DataFrame) -> list[Any]:
        return without_blanks(super().cells(frame))

    def _check_modality(self) -> None:
        require_whole(self, "max_length", least=3)
        require_whole(self, "max_words")


class TextNetworkClassifier(_OnTexts, NetworkClassifier):
    """A network on texts that learns classes: a small one from scratch, or a pretrained one that is tuned.

    From scratch it reads the order of words, which TF-IDF does not. Its vectors of words begin at random: with few
    texts, compare it with `TextEncoder` and with a tuned network. See ``docs/networks.md``.

    A pretrained network is cut between its layers: the first ones stay frozen, and what they make of a text is kept in
    the embedding cache. So folds, seeds and grid points run them once. The head is fitted first. Then the last layers
    are trained with it, each at .3 of the rate of the one after it.

    Parameters
    ----------
    backbone : None, str or path
        None: vectors of words and one recurrent layer (GRU) in both directions, then mean and maximum over the words.
        Otherwise a network of transformers as `model` of `TextEncoder`: ``"all-MiniLM-L6-v2"``, a folder, or a name in
        the local Hugging Face cache.
    train : {"head", "last", "all"} or int
        What is trained of a pretrained network: the head alone, the last layer, a number of last layers, or all of it.
        The vectors of tokens count as the first layer. ``"all"`` uses no cache, and leaves out other tokens in each
        epoch.
    lora : int
        Rank of adapters of the maps to queries, keys and values in the trained layers, which are trained in place of
        all weights (Hu et al., ICLR 2022); 0 for none.
    augment : {"light", "none", "strong"} or callable
        What is done to texts in training: 10 or 30 % of the words or tokens are left out. A callable takes a text and a
        `numpy.random.Generator`, and returns a text.
    n_views : int
        How many views of each text the frozen layers see: the text as it is, and augmented ones. One of them is drawn
        in each epoch. Not used from scratch, and with ``train="all"``.
    max_length : int
        Largest number of words or tokens of a text that are read, from its beginning. A pretrained network may read
        fewer: 256 in the case of ``"all-MiniLM-L6-v2"``.
    max_words : int
        Largest number of words that a network from scratch knows. These are words of at least two rows of `fit`.
    head : {"refit", "own"}
        As in `ImageNetworkClassifier`.
    n_members : int
        Number of networks, whose log-probabilities are averaged. They are trained one after the other.
    max_epochs : int
    early_stopping : {"auto", True, False}
        As in `ImageNetworkClassifier`.
    cv : int, splitter or iterable of (train, test)
        Folds for early stopping.
    batch_size : int
    learning_rate : float or "auto"
        Of AdamW. ``"auto"`` is 0.005 from scratch, 0.0001 for layers of a pretrained network, and 0.001 for adapters.
    weight_decay : float
    schedule : {"cosine", "one_cycle", "plateau", "constant"}
        Learning rate over the epochs.
    class_weight : "balanced" or dict of label to weight, optional
        Multiplied with `sample_weight`.
    time_limit : float, optional
        Seconds of training after which no new epoch begins, as in `ImageNetworkClassifier`.
    on_error : {"raise", "missing"}
        What to do with cells that are not texts: raise one error that lists all of them, or take them as missing.
    device : str
        Of torch, for training: ``"cpu"``, ``"cuda"``, ``"auto"``. Predictions are made on the CPU.
    random_state : int, RandomState or None
        Seed of weights, batches and left-out words. None is a fixed seed, too.

    Attributes
    ----------
    vocabulary_ : ndarray of shape (n_words,) of str
        Only from scratch: the words that it knows, those in the most rows first. Each sign of a script without blanks
        is a word of its own.
    classes_, state_, plan_, base_, history_, best_epochs_, n_parameters_, temperature_, oof_proba_, prior_, \
trained_on_, n_features_in_, feature_names_in_
        As in `ImageNetworkClassifier`.

    See Also
    --------
    TextEncoder : The same pretrained networks, frozen.

    Notes
    -----
    Cells are read as by `TextEncoder`: an empty text is a missing one.

    References
    ----------
    K. Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014 (GRU); E. Hu et al., LoRA:
    Low-Rank Adaptation of Large Language Models, ICLR 2022; A. Kumar et al., Fine-Tuning can Distort Pretrained
    Features and Underperform Out-of-Distribution, ICLR 2022 (head first).

    Examples
    --------
    >>> from ensemblefuse import TextNetworkClassifier
    >>> texts = ["dog bites man", "man bites dog"] * 10
    >>> model = TextNetworkClassifier(augment="none", n_members=1).fit(texts, ["daily", "news"] * 10)
    >>> model.predict(["man bites dog", "dog bites man"])
    array(['news', 'daily'], dtype='<U5')
    """

    def __init__(
        self,
        backbone=None,
        *,
        train="last",
        lora=0,
        augment="light",
        n_views=1,
        max_length=256,
        max_words=10_000,
        head="refit",
        n_members=3,
        max_epochs=10,
        early_stopping="auto",
        cv=5,
        batch_size=32,
        learning_rate="auto",
        weight_decay=0.01,
        schedule="cosine",
        class_weight=None,
        time_limit=None,
        on_error="raise",
        device="cpu",
        random_state=None,
    ):
        self.backbone = backbone
        self.train = train
        self.lora = lora
        self.augment = augment
        self.n_views = n_views
        self.max_length = max_length
        self.max_words = max_words
        self.head = head
        self.n_members = n_members
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.cv = cv
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.class_weight = class_weight
        self.time_limit = time_limit
        self.on_error = on_error
        self.device = device
        self.random_state = random_state


class TextNetworkRegressor(_OnTexts, NetworkRegressor):
    """A network on texts that learns numbers: a small one from scratch, or a pretrained one that is tuned.

    The target is standardised for training.

    Parameters
    ----------
    backbone, train, lora, augment, n_views, max_length, max_words, n_members, max_epochs, cv, batch_size, \
learning_rate, weight_decay, schedule, time_limit, on_error, device, random_state
        As in `TextNetworkClassifier`.
    head : {"refit", "own"}
        ``"refit"``: after training, the head becomes a ridge regression on the tuned features.
    early_stopping : {"auto", True, False}
        As in `TextNetworkClassifier`; the held-out predictions are ``oof_fused_``.

    Attributes
    ----------
    vocabulary_
        As in `TextNetworkClassifier`.
    state_, plan_, base_, history_, best_epochs_, n_parameters_, oof_fused_, prior_, target_scale_, trained_on_, \
n_features_in_, feature_names_in_
        As in `ImageNetworkRegressor`.

    Examples
    --------
    >>> from ensemblefuse import TextNetworkRegressor
    >>> texts, stars = ["bad film", "fine film", "great film"] * 8, [1.0, 3.0, 5.0] * 8
    >>> model = TextNetworkRegressor(augment="none", n_members=1).fit(texts, stars)
    >>> model.predict(["great film"]).round(1)
    array([5.])
    """

    def __init__(
        self,
        backbone=None,
        *,
        train="last",
        lora=0,
        augment="light",
        n_views=1,
        max_length=256,
        max_words=10_000,
        head="refit",
        n_members=3,
        max_epochs=10,
        early_stopping="auto",
        cv=5,
        batch_size=32,
        learning_rate="auto",
        weight_decay=0.01,
        schedule="cosine",
        time_limit=None,
        on_error="raise",
        device="cpu",
        random_state=None,
    ):
        self.backbone = backbone
        self.train = train
        self.lora = lora
        self.augment = augment
        self.n_views = n_views
        self.max_length = max_length
        self.max_words = max_words
        self.head = head
        self.n_members = n_members
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.cv = cv
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.time_limit = time_limit
        self.on_error = on_error
        self.device = device
        self.random_state = random_state
