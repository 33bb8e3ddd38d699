"""Grad-CAM of a picture: the patch that was planted is found through the network, its scaler and its head."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ensemblefuse import (
    CascadeFusionClassifier,
    DecisionFusionClassifier,
    FeatureFusionClassifier,
    FunctionEncoder,
    ImageEncoder,
    config_context,
    explain_row,
    make_fusion_pipeline,
)
from ensemblefuse.fitted.model import FittedModel
from ensemblefuse.inspection._gradcam import _slope
from ensemblefuse.inspection._row_model import RowModel

torch = pytest.importorskip("torch")
HEAD = LogisticRegression()
N = 40
DOG = 1


def to_tensor(image):
    return torch.from_numpy(np.asarray(image.resize((64, 64)), dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1)


class Tiny(torch.nn.Module):
    """Convolutions over 64 x 64 pixels to a map of 8 x 8, and its mean."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = [torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU(inplace=True), torch.nn.Conv2d(8, 16, 5, 4, 2)]
        self.body = torch.nn.Sequential(*layers, torch.nn.ReLU())

    def forward(self, pixels):
        return self.body(pixels).mean(dim=(2, 3))


class Tokens(torch.nn.Module):
    """A patch embedding and a layer over tokens, as transformers have."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = torch.nn.Conv2d(3, 8, 16, 16), torch.nn.LayerNorm(8)

    def forward(self, pixels):
        return self.norm(self.patches(pixels).flatten(2).transpose(1, 2)).mean(dim=1)


def encoder(network=Tiny):
    return ImageEncoder(network(), preprocess=to_tensor, device="cpu")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    dog = np.arange(N) % 2 == 1
    pictures = rng.integers(90, 160, (N, 64, 96, 3), dtype=np.uint8)
    pictures[dog, 44:60, 72:90] = [230, 10, 10]
    df = pd.DataFrame({"photo": pd.Series(list(pictures)), "price": rng.normal(size=N)})
    df["title"] = [f"a b {'puppy' if d else 'c'}" for d in dog]
    return df, np.where(dog, "dog", "cat")


def fitted(rows, image, fusion=None):
    modalities = [
        ("image", image, "photo"),
        ("text", FunctionEncoder(lambda title: [len(title), title.count("puppy")]), "title"),
    ]
    with config_context(cache=None, progress=False):
        return make_fusion_pipeline(modalities, fusion or DecisionFusionClassifier(HEAD, cv=3)).fit(*rows)


@pytest.mark.parametrize("chain", ["network", "network, scaler, PCA"])
def test_the_patch_is_found(rows, chain):
    image = encoder() if chain == "network" else make_pipeline(encoder(), StandardScaler(), PCA(6))
    part = explain_row(fitted(rows, image), rows[0], DOG, within=["image"], method="gradcam").parts["image"]
    assert part.method == "gradcam" and part.effects.shape == (8, 8) and part.effects.min() >= 0
    row, column = np.unravel_index(part.effects.argmax(), part.effects.shape)
    assert 5 <= row <= 7 and 5 <= column <= 7
    seen = np.asarray(Image.fromarray(rows[0]["photo"][DOG]).resize((64, 64)))
    assert np.abs(part.shown.astype(int) - seen).max() <= 1


def test_the_slope_through_linear_steps_is_their_weights(rows):
    model = fitted(rows, make_pipeline(encoder(), StandardScaler()), FeatureFusionClassifier(HEAD))
    row = RowModel(FittedModel(model), rows[0].loc[[DOG]])
    row.code = 1
    network, scaler = (step for _, step in model["encode"].named_transformers_["image"].steps)
    vector = np.asarray(network.transform(rows[0].loc[[DOG], ["photo"]]))[0]
    # All steps are linear: what a unit vector adds to the log-odds is its weight.
    units = pd.DataFrame(np.vstack([np.zeros(16), np.eye(16)]), columns=scaler.feature_names_in_)
    blocks = np.hstack([scaler.transform(units), np.zeros((17, 2))])
    terms = model["fuse"].prepare_.transform(blocks) @ model["fuse"].estimator_.coef_[0]
    slope = _slope(lambda vectors: row.of_vectors("image", vectors), vector)
    assert_allclose(slope, terms[1:] - terms[0], rtol=1e-3, atol=1e-9)


def test_other_modalities_are_explained_by_occlusion(rows):
    parts = explain_row(fitted(rows, encoder()), rows[0], DOG, method="gradcam").parts
    table = parts["text"].effects
    assert parts["text"].method == "occlusion" and table.loc[table["effect"].idxmax(), "token"] == "puppy"


@pytest.mark.parametrize(
    ("image", "fusion", "message"),
    [
        (ImageEncoder(features="color"), None, "needs an ImageEncoder with a network; use method=.occlusion"),
        (encoder(Tokens), None, "needs a network that ends in a convolutional feature map.*use method=.occlusion"),
        (
            encoder(),
            FeatureFusionClassifier(RandomForestClassifier(5, random_state=0)),
            "no gradient there \\(trees never",
        ),
        (encoder(), CascadeFusionClassifier(HEAD, cv=3), "encodes by itself"),
    ],
    ids=["no network", "transformer", "trees", "cascade"],
)
def test_what_has_no_gradient_says_what_to_take(rows, image, fusion, message):
    with pytest.raises(ValueError, match=message):
        explain_row(fitted(rows, image, fusion), rows[0], DOG, method="gradcam")


def test_rows_without_a_picture_have_no_gradcam(rows):
    model = fitted(rows, encoder())
    with pytest.raises(ValueError, match="hold none"):
        explain_row(model, rows[0].assign(photo=None), DOG, method="gradcam")


@pytest.mark.slow  # the packaged network
def test_the_packaged_network_looks_where_the_object_is(rows):
    rng = np.random.default_rng(0)
    pictures = rng.integers(100, 140, (16, 224, 224, 3), dtype=np.uint8)
    squares = (np.indices((96, 96)).sum(axis=0) // 12 % 2 * 255).astype(np.uint8)
    pictures[1::2, 16:112, 112:208] = squares[..., None]  # a chequered patch, upper right
    df = pd.DataFrame({"photo": pd.Series(list(pictures)), "price": rng.normal(size=16)})
    modalities = [
        ("image", make_pipeline(ImageEncoder(), StandardScaler()), "photo"),
        ("tabular", "passthrough", ["price"]),
    ]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(HEAD, cv=2)).fit(df, np.arange(16) % 2)
    part = explain_row(model, df, 1, within=["image"], method="gradcam").parts["image"]
    row, column = np.unravel_index(part.effects.argmax(), part.effects.shape)
    assert part.effects.shape == (7, 7) and row <= 3 and column >= 3
    assert part.shown.shape == (224, 224, 3)
