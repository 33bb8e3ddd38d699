"""Networks on pictures: a small one from scratch, or the last stages of a pretrained one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ensemblefuse._torch import shared_network
from ensemblefuse.backbones.feature_map import last_map
from ensemblefuse.backbones.image_model import find_image_model
from ensemblefuse.backbones.image_module import ModuleModel
from ensemblefuse.backbones.image_network import ImageModel
from ensemblefuse.backbones.stages import cut_stages
from ensemblefuse.backbones.weights import WeightsSource
from ensemblefuse.networks._base import CellNetwork
from ensemblefuse.networks._hooks import Backbone
from ensemblefuse.networks._image_reader import PictureReader
from ensemblefuse.networks._kinds import NetworkClassifier, NetworkRegressor
from ensemblefuse.training.settings import require_whole

if TYPE_CHECKING:
    import torch

__all__ = ["ImageNetworkClassifier", "ImageNetworkRegressor"]

_SIDE = 64
# Channels of the small network's convolutions; each is followed by a pooling of 2 x 2.
_CHANNELS = (16, 32, 64, 128)


class _OnPictures(CellNetwork):
    """What networks on pictures have of their own."""

    strings_are_paths = PictureReader.strings_are_paths
    backbone: Any
    weights: Any
    size: int | None
    augment: Any

    def _reader(self) -> PictureReader:
        if self.backbone is None:
            return PictureReader(None, self.size or _SIDE, self.augment)
        return PictureReader(self._model().preparation(), self.size, self.augment)

    def _new_body(self) -> torch.nn.Module:
        from torch import nn

        layers: list[nn.Module] = []
        for n_in, n_out in zip((3, *_CHANNELS), _CHANNELS, strict=False):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def _backbone(self) -> Backbone | None:
        if self.backbone is None:
            return None
        try:
            model = self._model()
            token = model.token()
        except (ImportError, OSError, TypeError, ValueError) as error:  # the user did not call an encoder
            name = type(self).__name__
            text = str(error).replace("ImageEncoder: model", f"{name}: backbone").replace("ImageEncoder", name)
            raise type(error)(text) from error
        return Backbone(token, lambda device: _stages_of(model, token, device), self._sources)

    def _sources(self) -> list[WeightsSource]:
        name = type(self).__name__
        sources = self._model().sources(name)
        return [replace(s, param="backbone") if s.param == "model" else s for s in sources]

    def _model(self) -> ImageModel:
        return find_image_model(self.backbone, self.weights, "pooled")

    def as_seen(self, cell: Any) -> np.ndarray:
        """Return a picture as the network sees it, of shape (3, height, width), dtype float32."""
        reader = self._reader()
        return reader.array(reader.load(cell))

    def feature_maps(self, cell: Any) -> tuple[torch.Tensor, list[torch.Tensor], np.ndarray]:
        """Return the features of a picture, and the last maps of the networks that they are computed from.

        Parameters
        ----------
        cell : str, path, bytes, PIL image or array

        Returns
        -------
        vector : torch.Tensor of shape (1, n_members * width)
        maps : list of n_members torch.Tensor of shape (1, channels, height, width)
            All with their autograd graph.
        seen : ndarray of shape (3, height, width)
            See `as_seen`.

        Raises
        ------
        ValueError
            If the networks do not end in such a map.
        """
        import torch

        check_is_fitted(self, "state_")
        seen = self.as_seen(cell)
        parts = [last_map(network, torch.from_numpy(seen)[None]) for network in self._whole_networks()]
        return torch.cat([vector for vector, _ in parts], dim=1), [last for _, last in parts], seen

    def _check_modality(self) -> None:
        if self.size is not None:
            least = 1 if self.backbone is not None else 2 ** len(_CHANNELS)
            require_whole(self, "size", least=least)


def _stages_of(model: ImageModel, token: dict[str, Any] | None, device: str) -> list[torch.nn.Module]:
    """Return the stages of a network, cut once in a process; those of a user's own module are not kept beyond it."""
    make = lambda: cut_stages(model.network(device).module)
    if token is None or isinstance(model, ModuleModel):
        return make()
    return shared_network(("image stages", *sorted(map(str, token.items())), device), make)


class ImageNetworkClassifier(_OnPictures, NetworkClassifier):
    """A network on pictures that learns classes: a small one from scratch, or a pretrained one that is tuned.

    With some hundred pictures a frozen network (`ImageEncoder`) and a linear model are hard to beat, and take seconds.
    Tuning the last stage gave 5 % of log-loss in one set, and no accuracy. See ``docs/networks.md``.

    A pretrained network is cut: its first stages stay frozen, and what they make of a picture is kept in the embedding
    cache. So folds, seeds and grid points run them once. The head is fitted first. Then the last stages are trained
    with it, each stage at .3 of the rate of the one after it.

    Parameters
    ----------
    backbone : None, str, path or torch.nn.Module
        None: four convolutions, each with batch normalisation and pooling, and the mean over the picture. Otherwise as
        `model` of `ImageEncoder`: ``"efficientnet_lite0"``, a name of torchvision, ``"timm/<name>"``, a folder, or your
        own module.
    train : {"head", "last", "all"} or int
        What is trained of a pretrained network: the head alone, the last stage, a number of last stages, or all of it.
        ``"all"`` uses no cache, and augments pictures anew in each epoch.
    lora : int
        Rank of adapters of the linear layers in the trained stages, which are trained in place of their weights (Hu et
        al., ICLR 2022); 0 for none. Networks of convolutions alone have no such layers.
    augment : {"light", "none", "strong"} or callable
        What is done to pictures in training: crops, mirroring, colours. A callable takes an RGB PIL image and a
        `numpy.random.Generator`, and returns an RGB PIL image.
    n_views : int
        How many views of each picture the frozen stages see: the picture as it is, and augmented ones. One of them is
        drawn in each epoch. Not used from scratch, and with ``train="all"``.
    size : int, optional
        Side in pixels that pictures are scaled to: by default 64 from scratch, and what the pretrained network was
        trained with.
    weights : str or path
        Of the pretrained network, as in `ImageEncoder`.
    head : {"refit", "own"}
        ``"refit"``: after training, the head becomes the default linear model of a block, fitted on the tuned features
        of all rows, also of those that were held out for early stopping. ``"own"`` keeps the trained head, which is
        much too certain with few rows.
    n_members : int
        Number of networks, whose log-probabilities are averaged. They are trained one after the other.
    max_epochs : int
    early_stopping : {"auto", True, False}
        True: each network holds out a fold, and keeps its best epoch. The held-out predictions give the temperature and
        ``oof_proba_``. False: a fixed number of epochs on all rows. ``"auto"``: True from 500 rows on.
    cv : int, splitter or iterable of (train, test)
        Folds for early stopping; as in `DecisionFusionClassifier`.
    batch_size : int
    learning_rate, weight_decay : float
        Of AdamW.
    schedule : {"cosine", "one_cycle", "plateau", "constant"}
        Learning rate over the epochs.
    class_weight : "balanced" or dict of label to weight, optional
        Multiplied with `sample_weight`.
    time_limit : float, optional
        Seconds of training after which no new epoch begins. The first epoch of each network is always finished. The
        frozen stages are not counted.
    on_error : {"raise", "missing"}
        What to do with cells that cannot be read: raise one error that lists all of them, or take them as missing.
    device : str
        Of torch, for training: ``"cpu"``, ``"cuda"``, ``"auto"``. Predictions are made on the CPU.
    random_state : int, RandomState or None
        Seed of weights, batches and augmentation. None is a fixed seed, too.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    state_ : dict of str to ndarray
        Arrays of all networks in single precision; of tuned networks those that training may change.
    plan_ : dict
        Plain values from which the networks are built.
    base_ : dict
        What identifies the pretrained network, with the digest of its weights; empty from scratch.
    history_ : dict of str to ndarray of shape (n_epochs, n_members)
        ``train_loss``, ``learning_rate``, ``seconds`` and, with early stopping, ``held_loss``; NaN in epochs that a
        network did not reach.
    best_epochs_ : ndarray of shape (n_members,)
        Number of epochs that each network was kept at.
    n_parameters_ : int
        Numbers in ``state_``.
    temperature_ : float
        1 without early stopping.
    oof_proba_ : ndarray of shape (n_samples, n_classes)
        Only with early stopping: probabilities from networks that held the row out. As the row also chose their epoch,
        they are a little too good. NaN in rows that none held out.
    prior_ : ndarray of shape (n_classes,)
        Class frequencies. These are the prediction for a missing cell.
    trained_on_ : ndarray of shape (n_contents, 16), dtype uint8
        Digests of the cells in fit, sorted. They tell who has a picture that it was among them.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    See Also
    --------
    ImageEncoder : The same networks, frozen.

    Notes
    -----
    Cells are read as by `ImageEncoder`; one picture a cell.

    A tuned part and a network from scratch predict in double precision, so that a row does not depend on those beside
    it. A whole tuned network (``train="all"``) predicts in single precision, as encoders do.

    With fewer than 1 000 rows, batch normalisations of a pretrained network keep their statistics, and only their
    factors are trained.

    References
    ----------
    A. Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, ICLR 2022 (head
    first); J. Howard and S. Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018 (lower rates
    in earlier stages).

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import ImageNetworkClassifier
    >>> rng = np.random.default_rng(0)
    >>> pictures = [rng.integers(0, 60, size=(16, 16, 3), dtype=np.uint8) for _ in range(20)]
    >>> for i, picture in enumerate(pictures):
    ...     picture[4:8, 4:8, i % 2] = 250  # a red or a green spot
    >>> model = ImageNetworkClassifier(size=16, n_members=1, max_epochs=5)
    >>> model.fit(pictures, ["red", "green"] * 10).predict(pictures[:2])
    array(['red', 'green'], dtype='<U5')
    """

    def __init__(
        self,
        backbone=None,
        *,
        train="last",
        lora=0,
        augment="light",
        n_views=4,
        size=None,
        weights="DEFAULT",
        head="refit",
        n_members=3,
        max_epochs=10,
        early_stopping="auto",
        cv=5,
        batch_size=32,
        learning_rate=1e-3,
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
        self.size = size
        self.weights = weights
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


class ImageNetworkRegressor(_OnPictures, NetworkRegressor):
    """A network on pictures that learns numbers: a small one from scratch, or a pretrained one that is tuned.

    The target is standardised for training.

    Parameters
    ----------
    backbone, train, lora, augment, n_views, size, weights, n_members, max_epochs, cv, batch_size, learning_rate, \
weight_decay, schedule, time_limit, on_error, device, random_state
        As in `ImageNetworkClassifier`.
    head : {"refit", "own"}
        ``"refit"``: after training, the head becomes a ridge regression on the tuned features.
    early_stopping : {"auto", True, False}
        As in `ImageNetworkClassifier`; the held-out predictions are ``oof_fused_``.

    Attributes
    ----------
    state_, plan_, base_, history_, best_epochs_, n_parameters_, trained_on_, n_features_in_, feature_names_in_
        As in `ImageNetworkClassifier`.
    oof_fused_ : ndarray of shape (n_samples,)
        Only with early stopping; as ``oof_proba_`` of `ImageNetworkClassifier`.
    prior_, target_scale_ : float
        Mean and standard deviation of `y`. The mean is the prediction for a missing cell.

    Examples
    --------
    >>> import numpy as np
    >>> from ensemblefuse import ImageNetworkRegressor
    >>> levels = np.linspace(20, 230, 30)
    >>> pictures = [np.full((16, 16, 3), level, dtype=np.uint8) for level in levels]
    >>> model = ImageNetworkRegressor(size=16, augment="none", n_members=1, max_epochs=5).fit(pictures, levels)
    >>> bool(model.score(pictures, levels) > 0.9)
    True
    """

    def __init__(
        self,
        backbone=None,
        *,
        train="last",
        lora=0,
        augment="light",
        n_views=4,
        size=None,
        weights="DEFAULT",
        head="refit",
        n_members=3,
        max_epochs=10,
        early_stopping="auto",
        cv=5,
        batch_size=32,
        learning_rate=1e-3,
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
        self.size = size
        self.weights = weights
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
