"""A modality whose cells are the rows of a table of numbers, so that scikit-learn's checks can ask the base of networks
on cells; and tiny pictures and networks for those on pictures."""

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch import nn

from ensemblefuse.networks._base import CellNetwork
from ensemblefuse.networks._column import Column
from ensemblefuse.networks._kinds import NetworkClassifier, NetworkRegressor
from ensemblefuse.networks._reader import CellReader


class RowReader(CellReader):
    def words(self):
        return {}

    def augmentation(self):
        return "none"

    def load(self, cell):
        return cell

    def array(self, item, rng=None):
        return item.astype(np.float32)


class _OnRows(CellNetwork):
    """What the modalities share, and no more; cells are read by scikit-learn."""

    backbone, train, lora, augment, n_views, on_error, device = None, "last", 0, "none", 1, "raise", "cpu"

    def __init__(
        self,
        hidden=8,
        head="refit",
        n_members=2,
        max_epochs=10,
        early_stopping="auto",
        cv=5,
        batch_size=32,
        learning_rate=0.05,
        weight_decay=0.01,
        schedule="cosine",
        class_weight=None,
        time_limit=None,
        random_state=None,
    ):
        self.hidden = hidden
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
        self.random_state = random_state

    strings_are_paths = False

    def _reader(self):
        return RowReader()

    def _check_modality(self):
        pass

    def _backbone(self):
        return None

    def _new_body(self):
        return nn.Sequential(nn.Linear(self.n_features_in_, self.hidden), nn.ReLU())

    def _read_column(self, X, *, reset):
        array = validate_data(self, X, reset=reset, dtype=np.float64)
        return Column(list(array), np.ones(len(array), dtype=bool), range(len(array)), "row", "Rows", "raise")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = False, True
        tags.input_tags.allow_nan, tags.no_validation = False, False
        return tags


class RowNetworkClassifier(_OnRows, NetworkClassifier):
    pass


class RowNetworkRegressor(_OnRows, NetworkRegressor):
    pass


def spots(n=24, side=16, seed=0, margin=0):
    """Noisy pictures with a bright spot, red or green, at any place; and the names of the colours."""
    rng = np.random.default_rng(seed)
    pictures = []
    for i in range(n):
        picture = rng.integers(0, 90, size=(side, side, 3), dtype=np.uint8)
        top, left = rng.integers(margin, side - 4 - margin, size=2)
        picture[top : top + 4, left : left + 4, i % 2] = 255
        pictures.append(picture)
    return pictures, np.array(["red", "green"])[np.arange(n) % 2]


def tiny_backbone(seed=0):
    """Three stages: two of a convolution with batch normalisation, one of pooling and a linear layer."""
    from ensemblefuse.training.fresh import fresh_network

    def stage(n_in, n_out):
        return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU(), nn.MaxPool2d(2))

    def make():
        last = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5), nn.Tanh())
        return nn.Sequential(stage(3, 4), stage(4, 6), last)

    net = fresh_network(make, seed).eval()
    with torch.no_grad():  # statistics as after some training
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(generator=torch.Generator().manual_seed(1))
    return net
