"""ImageEncoder's sources of networks: timm, folders of transformers, a user's own module; and what of them is taken."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image
from sklearn.base import clone

from ensemblefuse import EncodingError, ImageEncoder, _torch, config_context, get_cache
from ensemblefuse.backbones.image_module import object_token
from ensemblefuse.testing import check_encoder

torch = pytest.importorskip("torch")


def pictures(n=3):
    return [np.random.default_rng(i).integers(0, 256, (40 + i, 60, 3), dtype=np.uint8) for i in range(n)]


def stacked(encoder, cells):
    return torch.stack([encoder.load(cell) for cell in cells])


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Neither the user's models nor the network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "torch"))
    yield
    torch.hub.set_dir(before)


# ---------------------------------------------------------------------- what of a network is taken


@pytest.fixture
def named_file(tmp_path):
    def save(name, **arguments):
        import torchvision

        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            network = torchvision.models.get_model(name, weights=None, **arguments)
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = 1.0  # the running moments are those of this one batch: no signal dies out
            network.train()(torch.randn(2, 3, 224, 224))
        network.eval()
        path = tmp_path / f"{name}.pth"
        torch.save(network.state_dict(), path)
        return network, path

    return save


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("shufflenet_v2_x0_5", "conv5"),
        pytest.param("resnet18", "layer4", marks=pytest.mark.slow),
        pytest.param("mobilenet_v3_small", "features", marks=pytest.mark.slow),
        pytest.param("swin_t", "permute", marks=pytest.mark.slow),
    ],
)
def test_tokens_of_a_torchvision_network_are_the_mean_of_its_last_map(name, layer, named_file):
    network, path = named_file(name)
    encoder = ImageEncoder(name, weights=path, output="tokens")
    vectors = encoder.fit_transform({"photo": pictures(2)})
    seen = []
    network.get_submodule(layer).register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.inference_mode():
        network(stacked(encoder, pictures(2)))
    assert_allclose(vectors, seen[0].mean(dim=(2, 3)), rtol=1e-3, atol=1e-4)
    assert vectors.std(axis=0).max() > 1e-3
    with pytest.raises(ValueError, match=f"'{name}' has no class token; pass output='pooled' or output='tokens'"):
        ImageEncoder(name, weights=path, output="cls").fit({"photo": pictures(1)})


@pytest.mark.slow  # 86 million parameters
def test_tokens_and_the_class_token_of_torchvisions_vit(named_file):
    network, path = named_file("vit_b_16")
    vectors = {
        output: ImageEncoder("vit_b_16", weights=path, output=output).fit_transform({"photo": pictures(2)})
        for output in ("pooled", "tokens", "cls")
    }
    seen = []
    network.encoder.register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.inference_mode():
        network(stacked(ImageEncoder("vit_b_16", weights=path), pictures(2)))
    assert_allclose(vectors["cls"], seen[0][:, 0], rtol=1e-3, atol=1e-4)
    assert_allclose(vectors["pooled"], vectors["cls"], rtol=1e-3, atol=1e-4)
    assert_allclose(vectors["tokens"], seen[0][:, 1:].mean(dim=1), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_every_torchvision_network_has_a_last_map(tmp_path, monkeypatch):
    import torchvision

    from ensemblefuse import list_backbones

    families = {}
    for name in list_backbones()[1:]:
        families.setdefault(torchvision.models.get_model_builder(name).__module__, []).append(name)
    size = lambda name: torchvision.models.get_model_weights(name)["DEFAULT"].meta["num_params"]
    # Only the shapes are looked at: no time goes into drawing 100 million random weights.
    for draw in ("kaiming_normal_", "kaiming_uniform_", "normal_", "trunc_normal_", "uniform_", "xavier_uniform_"):
        monkeypatch.setattr(torch.nn.init, draw, lambda tensor, *_, **__: tensor.detach().zero_())
    for name in (min(names, key=size) for names in families.values()):
        arguments = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        path = tmp_path / "random.pth"
        torch.save(torchvision.models.get_model(name, weights=None, **arguments).state_dict(), path)
        vectors = ImageEncoder(name, weights=path, output="tokens").fit_transform({"photo": pictures(2)})
        assert vectors.shape[1] >= 100, name


def test_of_the_packaged_network_both_outputs_are_one():
    pooled, tokens = (
        ImageEncoder(output=output).fit_transform({"photo": pictures()}) for output in ("pooled", "tokens")
    )
    assert_allclose(pooled, tokens, rtol=1e-4, atol=1e-5)
    assert ImageEncoder(output="tokens").recipe() != ImageEncoder().recipe()
    with pytest.raises(ValueError, match=r"output must be one of \['pooled', 'tokens', 'cls'\]; got 'mean'"):
        ImageEncoder(output="mean").fit({"photo": pictures(1)})


# ---------------------------------------------------------------------- timm


def timm_network(name, **arguments):
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model(name, pretrained=False, **arguments).eval()


@pytest.mark.by_turns
@pytest.mark.parametrize(
    ("name", "n_prefix", "channels"),
    [
        ("test_vit", 1, -1),
        ("test_resnet", 0, 1),
        ("test_efficientnet", 0, 1),
        ("deit_tiny_distilled_patch16_224", 2, -1),
    ],
)
def test_a_timm_network_with_a_local_file(name, n_prefix, channels, tmp_path):
    import timm
    from safetensors.torch import save_file

    network = timm_network(name, num_classes=5)
    if n_prefix:
        path = tmp_path / "weights.safetensors"
        save_file(network.state_dict(), path)
    else:  # as a training keeps it
        path = tmp_path / "weights.pth"
        torch.save({"epoch": 3, "model": network.state_dict()}, path)
    encoder = ImageEncoder(f"timm/{name}", weights=path)
    vectors = encoder.fit_transform({"photo": pictures()})
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=network), is_training=False)
    items = torch.stack([transform(Image.fromarray(picture)) for picture in pictures()])
    with torch.inference_mode():
        features = network.forward_features(items)
        pooled = network.forward_head(features, pre_logits=True)
    assert_allclose(vectors, pooled, rtol=1e-3, atol=1e-4)
    assert vectors.std(axis=0).max() > 1e-6
    tokens = ImageEncoder(f"timm/{name}", weights=path, output="tokens").fit_transform({"photo": pictures()})
    expected = features[:, n_prefix:].mean(dim=1) if channels == -1 else features.mean(dim=(2, 3))
    assert_allclose(tokens, expected, rtol=1e-3, atol=1e-4)
    if n_prefix:
        first = ImageEncoder(f"timm/{name}", weights=path, output="cls").fit_transform({"photo": pictures()})
        assert_allclose(first, features[:, 0], rtol=1e-3, atol=1e-4)
    else:
        with pytest.raises(ValueError, match="has no class token"):
            ImageEncoder(f"timm/{name}", weights=path, output="cls").fit({"photo": pictures()})


@pytest.fixture
def timm_folder(tmp_path):
    """As `timm.models.save_for_hf` writes it, with a preprocessing of its own."""
    import timm

    folder = tmp_path / "saved"
    network = timm_network("test_vit", num_classes=3)
    network.pretrained_cfg = dict(network.pretrained_cfg, mean=(0.1, 0.2, 0.3), crop_pct=0.5)
    timm.models._hub.save_for_hf(network, str(folder), safe_serialization=True)
    return folder


def test_a_folder_of_timm_brings_its_own_preprocessing(timm_folder, tmp_path):
    encoder = ImageEncoder(timm_folder)
    assert "0.1, 0.2, 0.3" in encoder.recipe()["params"]["preprocessing"]
    vectors = encoder.fit_transform({"photo": pictures()})
    plain = ImageEncoder("timm/test_vit", weights=timm_folder / "model.safetensors")
    assert np.abs(vectors - plain.fit_transform({"photo": pictures()})).max() > 1e-4
    moved = tmp_path / "elsewhere"
    timm_folder.rename(moved)
    assert encoder.recipe is not None and ImageEncoder(str(moved)).recipe()["params"]["model"].startswith(
        "timm test_vit"
    )


def test_timm_weights_are_found_in_the_local_cache_and_never_downloaded(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match=r"'timm/test_vit' are not on this machine.*Nothing is downloaded"):
        ImageEncoder("timm/test_vit").fit({"photo": pictures(1)})
    network = timm_network("test_vit", num_classes=0)
    repository = tmp_path / "hub" / f"models--{network.pretrained_cfg['hf_hub_id'].replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    save_file(network.state_dict(), snapshot / "model.safetensors")
    cached = ImageEncoder("timm/test_vit")
    by_file = ImageEncoder("timm/test_vit", weights=snapshot / "model.safetensors")
    assert cached.recipe() == by_file.recipe()
    assert_allclose(cached.fit_transform({"photo": pictures()}), by_file.fit_transform({"photo": pictures()}))


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"model": "timm/tset_vit"}, ValueError, r"Unknown backbone 'timm/tset_vit'\. Did you mean 'timm/test_vit"),
        (
            {"model": "timm/test_vit.nope"},
            ValueError,
            r"Unknown weights 'nope' of 'timm/test_vit'; timm knows \['test_",
        ),
        ({"model": "timm/test_vit", "weights": "gone.pth"}, FileNotFoundError, "'gone.pth' does not exist"),
        ({"model": "timm/test_vit", "weights": __file__}, ValueError, r"must end in \.pth, \.pt, \.safetensors"),
        ({"model": Path("gone/away")}, ValueError, "unknown model 'gone/away'"),
        ({"model": "org/nothing"}, ValueError, "unknown model 'org/nothing'.*Nothing is downloaded"),
        (
            {"model": Path(), "weights": "x.pth"},
            ValueError,
            "weights='x.pth' needs the name of a network; a folder has its own weights",
        ),
        ({"model": torch.nn.Identity, "weights": "DEFAULT"}, TypeError, r"or a torch\.nn\.Module; got type"),
        ({"preprocess": 3}, TypeError, "preprocess must be None or a callable; got 3"),
        ({"pool": "sum"}, ValueError, r"pool must be one of \['mean', 'max'\]; got 'sum'"),
        ({"background": "whitish"}, ValueError, "background must be a colour .* got 'whitish'"),
        ({"background": (0, 0, 256)}, ValueError, "background must be a colour"),
        ({"frame": 1.0}, ValueError, r"frame must be a whole number; got 1\.0"),
        ({"max_pixels": 0}, ValueError, "max_pixels must be a whole number of at least 1; got 0"),
    ],
)
def test_a_wrong_parameter_is_an_error_of_fit(parameters, error, message):
    with pytest.raises(error, match=message) as caught:
        ImageEncoder(**parameters).fit({"photo": pictures(1)})
    assert not isinstance(caught.value, EncodingError)


def test_weights_of_another_timm_network_do_not_fit(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(timm_network("test_resnet").state_dict(), path)
    with pytest.raises(ValueError, match=r"weights\.pth does not fit 'timm/test_vit'"):
        ImageEncoder("timm/test_vit", weights=path).fit({"photo": pictures(1)})


# ---------------------------------------------------------------------- folders of transformers


TINY = {
    **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32},
    **{"image_size": 32, "patch_size": 8},
}


def save_folder(kind, folder):
    """A tiny random network of transformers with its image processor."""
    import transformers as t

    square = {"height": 32, "width": 32}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text |= {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
    make = {
        "vit": lambda: (t.ViTModel(t.ViTConfig(**TINY)), t.ViTImageProcessor(size=square)),
        "vit classifier": lambda: (t.ViTForImageClassification(t.ViTConfig(**TINY)), t.ViTImageProcessor(size=square)),
        "deit": lambda: (
            t.DeiTForImageClassification(t.DeiTConfig(**TINY)),
            t.DeiTImageProcessor(size={"height": 36, "width": 36}, crop_size=square),
        ),
        "dinov2": lambda: (
            t.Dinov2Model(t.Dinov2Config(**TINY)),
            t.BitImageProcessor(size={"shortest_edge": 36}, crop_size=square),
        ),
        "clip": lambda: (
            t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=TINY, projection_dim=12)),
            t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square),
        ),
        "clip vision": lambda: (
            t.CLIPVisionModel(t.CLIPVisionConfig(**TINY)),
            t.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square),
        ),
        "resnet": lambda: (
            t.ResNetModel(t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])),
            t.ConvNextImageProcessor(size={"shortest_edge": 32}),
        ),
        "swin": lambda: (
            t.SwinModel(
                t.SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=4)
            ),
            t.ViTImageProcessor(size=square),
        ),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, processor = make[kind]()
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return network.eval(), processor


@pytest.mark.parametrize(
    ("kind", "n_dims", "n_prefix"),
    [
        ("vit", 16, 1),
        ("vit classifier", 16, 1),
        ("deit", 16, 2),
        ("dinov2", 16, 1),
        ("clip", 12, 1),
        ("clip vision", 16, 1),
        ("resnet", 16, 0),
        ("swin", 16, 0),
    ],
)
def test_a_folder_of_transformers(kind, n_dims, n_prefix, tmp_path):
    network, processor = save_folder(kind, tmp_path / "model")
    vectors = ImageEncoder(tmp_path / "model").fit_transform({"photo": pictures()})
    assert vectors.shape == (3, n_dims)
    pixels = processor(images=[Image.fromarray(p) for p in pictures()], return_tensors="pt")["pixel_values"]
    body = getattr(network, "vision_model", None) or getattr(network, network.base_model_prefix, network)
    with torch.inference_mode():
        result = body(pixel_values=pixels)
        last = result.last_hidden_state
        if kind == "clip":
            pooled = network.visual_projection(result.pooler_output)
        else:
            pooled = last[:, 0] if kind in ("vit classifier", "deit") else result.pooler_output.flatten(1)
    assert_allclose(vectors, pooled, rtol=1e-3, atol=1e-4)
    assert vectors.std(axis=0).max() > 1e-6
    tokens = ImageEncoder(str(tmp_path / "model"), output="tokens").fit_transform({"photo": pictures()})
    assert_allclose(tokens, last.mean(dim=(2, 3)) if last.ndim == 4 else last[:, n_prefix:].mean(dim=1), atol=1e-4)
    first = ImageEncoder(tmp_path / "model", output="cls")
    if n_prefix:
        assert_allclose(first.fit_transform({"photo": pictures()}), last[:, 0], rtol=1e-3, atol=1e-4)
    else:
        with pytest.raises(ValueError, match="'model' has no class token"):
            first.fit({"photo": pictures(1)})


def test_a_classifiers_embedding_does_not_hang_on_the_seed(tmp_path, monkeypatch):
    """Its checkpoint has no pooler, and transformers would draw one at random."""
    save_folder("vit classifier", tmp_path / "model")
    vectors = []
    for seed in (0, 1):
        monkeypatch.setattr(_torch, "_networks", {})  # which is loaded anew
        torch.manual_seed(seed)
        with config_context(cache=None):
            vectors.append(ImageEncoder(tmp_path / "model").fit_transform({"p": [np.full((9, 9, 3), 7, np.uint8)]}))
    assert_allclose(*vectors, rtol=1e-6)


@pytest.mark.slow
def test_a_classifiers_embedding_is_the_same_in_every_process(tmp_path):
    save_folder("vit classifier", tmp_path / "model")
    code = (
        "import sys, numpy as np, ensemblefuse as e; e.set_config(cache=None); "
        "print(e.ImageEncoder(sys.argv[1] + '/model').fit_transform({'p': [np.full((9, 9, 3), 7, np.uint8)]}).tolist())"
    )
    there = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, check=True).stdout
    here = ImageEncoder(tmp_path / "model").fit_transform({"p": [np.full((9, 9, 3), 7, np.uint8)]})
    assert_allclose(here, json.loads(there), rtol=1e-6)


def test_the_recipe_of_a_folder_is_its_content(tmp_path):
    save_folder("vit", tmp_path / "one")
    recipe = ImageEncoder(tmp_path / "one").recipe()
    (tmp_path / "one").rename(tmp_path / "two")
    assert ImageEncoder(str(tmp_path / "two")).recipe() == recipe
    assert str(tmp_path) not in str(recipe)
    processor = tmp_path / "two" / "preprocessor_config.json"
    processor.write_text(processor.read_text().replace("0.5", "0.4"))
    assert ImageEncoder(tmp_path / "two").recipe() != recipe


def test_a_folder_that_is_no_image_model_is_named(tmp_path):
    import transformers

    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        ImageEncoder(tmp_path / "empty").fit({"photo": pictures(1)})
    save_folder("vit", tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="transformers cannot load the network in the folder"):
        ImageEncoder(tmp_path / "cut").fit({"photo": pictures(1)})
    config = transformers.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    transformers.BertModel(config).save_pretrained(tmp_path / "text")
    transformers.ViTImageProcessor().save_pretrained(tmp_path / "text")
    with pytest.raises(ValueError, match="'text' is a BertModel, which does not take pictures"):
        ImageEncoder(tmp_path / "text").fit({"photo": pictures(1)})


def test_weights_that_lack_a_layer_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    save_folder("vit", tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    state = load_file(path)
    save_file({k: v for k, v in state.items() if "layernorm.weight" not in k}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack \['layernorm\.weight'\] or differ in shape"):
        ImageEncoder(tmp_path / "model").fit({"photo": pictures(1)})


# ---------------------------------------------------------------------- a user's own module


class Halves(torch.nn.Module):
    """The mean of the upper and of the lower half of each channel, times a parameter."""

    def __init__(self, factor=1.0, top=True):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))
        self.top = top
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, pixels):
        half = pixels.shape[2] // 2
        rows = pixels[:, :, :half] if self.top else pixels[:, :, half:]
        return self.drop(rows.mean(dim=(2, 3)) * self.factor)


def as_tensor(picture):
    return torch.from_numpy(np.array(picture.resize((8, 8)), dtype=np.float32).transpose(2, 0, 1) / 255)


def test_a_module_keeps_the_row_rule():
    encoder = ImageEncoder(Halves(), preprocess=as_tensor)
    assert len(check_encoder(encoder, {"photo": pictures()}, max_pickle=3000)) >= 11


def test_a_module_is_used_in_eval_mode_and_left_as_it_is():
    module = Halves().train()
    vectors = ImageEncoder(module, preprocess=as_tensor).fit_transform({"photo": pictures()})
    expected = torch.stack([as_tensor(Image.fromarray(p))[:, :4].mean(dim=(1, 2)) for p in pictures()])
    assert_allclose(vectors, expected, rtol=1e-5)
    assert module.training and module.factor.requires_grad


def test_a_module_gets_imagenets_preparation_by_default():
    assert ImageEncoder(Halves()).load(pictures(1)[0]).shape == (3, 224, 224)


def test_a_changed_tensor_attribute_or_preparation_is_another_recipe():
    module = Halves()
    recipes = [ImageEncoder(module).recipe(), ImageEncoder(clone(module, safe=False)).recipe()]
    assert recipes[0] is not None and recipes[0] == recipes[1]
    assert pickle.loads(pickle.dumps(ImageEncoder(module))).recipe() == recipes[0]
    recipes = [
        recipes[0],
        ImageEncoder(Halves(top=False)).recipe(),
        ImageEncoder(module, preprocess=as_tensor).recipe(),
    ]
    recipes += [ImageEncoder(torch.nn.Conv2d(3, 3, 2, stride=stride)).recipe() for stride in (1, 2)]
    with torch.no_grad():
        module.factor *= 2
    recipes.append(ImageEncoder(module).recipe())
    module.factor.data.add_(1)  # torch counts no version of this change
    recipes.append(ImageEncoder(module).recipe())
    module.register_forward_hook(lambda module, args, out: out + 1)
    recipes.append(ImageEncoder(module).recipe())
    assert len({json.dumps(recipe, sort_keys=True) for recipe in recipes}) == len(recipes)
    assert module.eval() is module and ImageEncoder(module).recipe() == recipes[-1], "it is always used in eval mode"


def test_a_module_that_was_trained_on_gives_new_embeddings():
    module = Halves()
    encoder = ImageEncoder(module, preprocess=as_tensor).fit({"photo": pictures()})
    before = encoder.transform({"photo": pictures()})
    module.factor.data.mul_(3)
    assert_allclose(encoder.transform({"photo": pictures()}), 3 * before, rtol=1e-5)
    assert_allclose(encoder.encode_batch([encoder.load(p) for p in pictures()]), 3 * before, rtol=1e-5)


def test_what_cannot_be_told_apart_is_not_cached():
    module = Halves()
    module.lock = __import__("threading").Lock()  # cannot be copied either
    assert ImageEncoder(module).recipe() is None
    module = Halves()
    module.stream = iter([1])
    assert ImageEncoder(module).recipe() is None
    with config_context(progress=False):
        ImageEncoder(module, preprocess=as_tensor).fit_transform({"photo": pictures()})
    assert not get_cache().info()


def test_transforms_of_torchvision_are_told_apart():
    from torchvision.transforms import v2

    def crop(size, mean=0.5):
        steps = [v2.CenterCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        return v2.Compose([*steps, v2.Normalize([mean] * 3, [0.5] * 3)])

    tokens = [object_token(crop(8)), object_token(crop(9)), object_token(crop(8, 0.4))]
    assert None not in tokens and len(set(tokens)) == 3
    assert object_token(crop(8)) == tokens[0]
    encoder = ImageEncoder(preprocess=crop(64))
    assert encoder.recipe() is not None
    assert encoder.fit_transform({"photo": pictures()}).shape == (3, 1280)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (torch.nn.Conv2d(3, 4, 3), r"to a tensor of shape \(1, n_dims\); got shape \(1, 4, 6, 6\)"),
        (torch.nn.Sequential(torch.nn.Flatten(0)), r"got shape \(192,\)"),
    ],
)
def test_a_module_that_gives_no_vectors_ends_the_call(module, message):
    with pytest.raises(ValueError, match=message) as caught:
        ImageEncoder(module, preprocess=as_tensor, on_error="missing").fit({"photo": pictures(1)})
    assert not isinstance(caught.value, EncodingError)


def test_a_preparation_that_gives_no_tensor_is_named():
    with pytest.raises(EncodingError, match=r"preprocess must return a float32 tensor of shape .*; got ndarray"):
        ImageEncoder(preprocess=np.asarray).fit({"photo": pictures(1)})


def test_prepared_pictures_may_differ_in_shape():
    def as_it_is(picture):
        return torch.from_numpy(np.array(picture, dtype=np.float32).transpose(2, 0, 1) / 255)

    vectors = ImageEncoder(Halves(), preprocess=as_it_is).fit_transform({"photo": pictures()})
    expected = [p[: len(p) // 2].mean(axis=(0, 1)) / 255 for p in pictures()]
    assert_allclose(vectors, expected, rtol=1e-4)
