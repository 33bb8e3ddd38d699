"""Files of models that were damaged, crafted, or written elsewhere: one named error, or the same predictions."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import random
import resource
import socket
import stat
import subprocess
import sys
import time
import types
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import make_blocks
from numpy.testing import assert_allclose, assert_array_equal
from packaging.version import Version
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from ensemblefuse import (
    DecisionFusionClassifier,
    FeatureFusionRegressor,
    FunctionEncoder,
    IncompatibleModelError,
    PersistenceError,
    inspect_model,
    load_model,
    make_fusion_pipeline,
    save_model,
    saw_samples,
)
from ensemblefuse.persistence import archive as _archive
from ensemblefuse.persistence import bounds
from ensemblefuse.persistence.example import read_table

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def model():
    X, y = make_blocks(60)
    return DecisionFusionClassifier(LogisticRegression(), cv=3).fit(X, y), X


@pytest.fixture
def file(model, tmp_path):
    return save_model(model[0], tmp_path / "model.fuse", example=model[1].head(3))


def read(path):
    """The manifest, and the other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(members.pop("manifest.json")), members


def change(path, edit):
    """Write a file anew, digests and seal included, as a crafting hand would."""
    manifest, members = read(path)
    edit(manifest, members)
    _archive.write_archive(path, manifest, members)
    return path


def seal(path, infos):
    """A zip of these members with a right seal over whatever they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in infos:
            archive.writestr(info, content)
        archive.comment = _archive._SEAL + b"0" * 64
    content = buffer.getvalue()[:-64]
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())
    return path


# ---------------------------------------------------------------------- files of older versions


def golden_file(number):
    """A file of each format. No scikit-learn reads estimators of a later one, whose attributes it does not know."""
    path = DATA / f"format{number}.fuse"
    facts = inspect_model(path)
    assert facts["format"] == number
    saved = facts["versions"]["scikit-learn"]
    if Version(sklearn.__version__).release[:2] < Version(saved).release[:2]:
        pytest.skip(f"the file is of scikit-learn {saved}, and {sklearn.__version__} is installed")
    return path


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:.*saved with other versions")
def test_files_of_each_format_give_what_they_gave(number):
    golden = json.loads((DATA / "golden.json").read_text())
    rows, model = pd.DataFrame(golden["rows"]), load_model(golden_file(number))
    assert model.predict(rows).tolist() == golden["predict"]
    assert_allclose(model.predict_proba(rows), golden["predict_proba"], rtol=0, atol=1e-6)


# ---------------------------------------------------------------------- damage


def mutated(content, names, rng):
    """A file with one thing wrong: bits, its end, or its members."""
    kind = rng.choice(["bit", "bit", "bit", "bytes", "cut", "swap", "double", "rename", "drop"])
    if kind == "bit":
        at = rng.randrange(len(content))
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if kind == "bytes":
        at = rng.randrange(len(content))
        return content[:at] + rng.randbytes(rng.randrange(1, 40)) + content[at + 20 :]
    if kind == "cut":
        return content[: rng.randrange(len(content))]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [[name, archive.read(name)] for name in names]
        comment = archive.comment
    first, second = rng.sample(range(len(members)), 2)
    if kind == "swap":
        members[first][1], members[second][1] = members[second][1], members[first][1]
    elif kind == "double":
        members.append([members[first][0], members[second][1]])
    elif kind == "rename":
        members[first][0] = rng.choice(["other", members[second][0], members[first][0].upper()])
    else:
        del members[first]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members:
            archive.writestr(name, member)
        archive.comment = comment
    changed = buffer.getvalue()
    if rng.random() < 0.7:  # a right seal, as whoever does it on purpose would make
        changed = changed[:-64] + hashlib.sha256(changed[:-64]).hexdigest().encode()
    return changed


@pytest.mark.by_turns
@pytest.mark.filterwarnings("ignore:Duplicate name", "ignore:.*saved with other versions")
@pytest.mark.parametrize("n", [60, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("number", [1, 2])
def test_a_thousand_mutations_each_load_to_the_same_predictions_or_raise_one_error(number, n, model, file, tmp_path):
    if number == 1:  # which has no seal: only the checksums of zip
        file, X = golden_file(1), pd.DataFrame(json.loads((DATA / "golden.json").read_text())["rows"])
        expected = load_model(file).predict_proba(X)
    else:
        X, expected = model[1], model[0].predict_proba(model[1])
    whole, names, rng = file.read_bytes(), zipfile.ZipFile(file).namelist(), random.Random(0)
    broken, before, n_loaded = tmp_path / "broken.fuse", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    start = time.process_time()
    for _ in range(n):
        broken.write_bytes(mutated(whole, names, rng))
        try:
            loaded = load_model(broken)
        except PersistenceError as error:
            assert "broken.fuse" in str(error)
        else:
            assert_allclose(loaded.predict_proba(X), expected, rtol=0, atol=1e-12)
            n_loaded += 1
    # Bytes replaced by the same ones; of format 1, times and flags.
    assert n_loaded < (n / 2 if number == 1 else 10)
    assert time.process_time() - start < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_every_single_bit_counts(file):
    """The times and flags that zip keeps twice, too."""
    whole = file.read_bytes()
    for at in [*range(0, len(whole), 97), *range(len(whole) - 400, len(whole))]:
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(PersistenceError):
            inspect_model(file)


def test_an_array_that_was_exchanged_is_found_by_what_the_model_predicts(file):
    def shift(manifest, members):
        inner = {}
        with zipfile.ZipFile(io.BytesIO(members["model.skops"])) as archive:
            for name in archive.namelist():
                inner[name] = archive.read(name)
                array = np.load(io.BytesIO(inner[name])) if name.endswith(".npy") else np.zeros(0)
                if array.dtype == float and array.ndim == 2 and array.size:
                    buffer = io.BytesIO()
                    np.save(buffer, array[::-1] + 1)
                    inner[name] = buffer.getvalue()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in inner.items():
                archive.writestr(name, content)
        members["model.skops"] = buffer.getvalue()

    change(file, shift)
    with pytest.raises(PersistenceError, match="gives other values for the example"):
        load_model(file)
    load_model(file, verify=None)


def test_small_numbers_are_compared_on_their_scale(tmp_path):
    X, _ = make_blocks(60)
    model = FeatureFusionRegressor(Ridge()).fit(X, 1e-8 * X["image__0"].to_numpy())
    file = save_model(model, tmp_path / "model.fuse", example=X.head(3))
    assert_array_equal(load_model(file).predict(X), model.predict(X))

    def claim(manifest, members):
        manifest["example"]["predictions"]["predict"] = [9e-7] * 3

    with pytest.raises(PersistenceError, match="gives other values for the example"):
        load_model(change(file, claim))


# ---------------------------------------------------------------------- other versions


def test_predictions_that_other_versions_changed_come_with_the_command_that_mends_them(file):
    def claim(manifest, members):
        manifest["versions"] |= {"scikit-learn": "1.2.3", "numpy": "1.26.4"}
        manifest["example"]["predictions"]["predict_proba"][0] = [0.0, 0.5, 0.5]

    change(file, claim)
    with pytest.raises(IncompatibleModelError, match=r'pip install "numpy==1.26.4" "scikit-learn==1.2.3"$'):
        load_model(file)


def test_a_command_is_never_more_than_versions(file):
    def claim(manifest, members):
        manifest["versions"] |= {"scikit-learn": '1.2"; touch ran; "', "numpy": "1.26.4"}
        manifest["example"]["predictions"]["predict_proba"][0] = [0.0, 0.5, 0.5]

    with pytest.raises(IncompatibleModelError) as caught:
        load_model(change(file, claim))
    assert str(caught.value).endswith('pip install "numpy==1.26.4"')


ODD = [None, 3, [], "x", {}, [3], [{}], {"n_rows": 1}, [{"bundled": "x", "param": 3}]]


@pytest.mark.by_turns
@pytest.mark.parametrize("field", ["versions", "example", "weights", "training", "metrics", "modalities", "input"])
def test_a_manifest_that_holds_something_else_raises_no_other_error(field, file):
    original = file.read_bytes()
    for odd in ODD:
        file.write_bytes(original)
        change(file, lambda manifest, members, odd=odd: manifest.update({field: odd}))
        for use in (load_model, inspect_model, lambda path: saw_samples(path, ["a"])):
            try:
                use(file)
            except PersistenceError as error:
                assert "model.fuse" in str(error)


def test_other_versions_that_predict_the_same_are_not_warned_of(file, recwarn):
    change(file, lambda manifest, members: manifest["versions"].update({"scikit-learn": "1.2.3"}))
    load_model(file)
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"scikit-learn 1\.2\.3 \(here "):
        load_model(file, verify=None)


def test_a_state_that_other_versions_cannot_build_names_them(file):
    def claim(manifest, members):
        manifest["versions"]["scikit-learn"] = "1.2.3"
        with zipfile.ZipFile(io.BytesIO(members["model.skops"])) as archive:
            inner = {name: archive.read(name) for name in archive.namelist()}
        inner["schema.json"] = inner["schema.json"].replace(b'"LogisticRegression"', b'"LogisticRegressionCV2"')
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in inner.items():
                archive.writestr(name, content)
        members["model.skops"] = buffer.getvalue()

    change(file, claim)
    with pytest.raises(IncompatibleModelError, match=r"cannot be rebuilt here.*scikit-learn==1\.2\.3"):
        load_model(file, trusted=["sklearn.linear_model._logistic.LogisticRegressionCV2"])


# ---------------------------------------------------------------------- pickles


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("dump", [pickle.dumps, lambda bomb: joblib_bytes(bomb, 3), lambda bomb: joblib_bytes(bomb, 0)])
def test_a_pickle_is_not_read_unless_asked(dump, tmp_path):
    (tmp_path / "model.fuse").write_bytes(dump(Bomb(tmp_path / "ran")))
    for load in (load_model, inspect_model):
        with pytest.raises(PersistenceError, match="allow_pickle=True"):
            load(tmp_path / "model.fuse")
    assert not (tmp_path / "ran").exists()
    load_model(tmp_path / "model.fuse", allow_pickle=True)
    assert (tmp_path / "ran").exists()


def joblib_bytes(value, compress):
    buffer = io.BytesIO()
    joblib.dump(value, buffer, compress=compress)
    return buffer.getvalue()


def test_joblib_files_load_where_that_is_allowed(model, tmp_path):
    joblib.dump(model[0], tmp_path / "model.joblib")
    loaded = load_model(tmp_path / "model.joblib", allow_pickle=True)
    assert_array_equal(loaded.predict(model[1]), model[0].predict(model[1]))


@pytest.mark.parametrize("member", ["model.skops", "example/encoded.json", "extra.pkl"])
def test_a_pickle_within_the_file_is_not_read(member, file, tmp_path):
    change(file, lambda manifest, members: members.update({member: pickle.dumps(Bomb(tmp_path / "ran"))}))
    for allow_pickle in (False, True):  # which is about whole files
        if member == "extra.pkl":
            load_model(file, allow_pickle=allow_pickle)
        else:
            with pytest.raises(PersistenceError):
                load_model(file, allow_pickle=allow_pickle)
    assert not (tmp_path / "ran").exists()


def test_arrays_of_objects_within_the_file_are_not_unpickled(file, tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(tmp_path / "ran")], dtype=object))

    def plant(manifest, members):
        inner = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(members["model.skops"])) as old,
            zipfile.ZipFile(inner, "w") as new,
        ):
            for name in old.namelist():
                new.writestr(name, buffer.getvalue() if name.endswith(".npy") else old.read(name))
        members["model.skops"] = inner.getvalue()

    change(file, plant)
    with pytest.raises(PersistenceError, match="cannot be rebuilt"):
        load_model(file)
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------------- crafted schemas


def node(loader, name, **more):
    module, _, cls = name.rpartition(".")
    return {"__class__": cls, "__module__": module, "__loader__": loader, **more}


def text(value):
    return node("JsonNode", "builtins.str", content=json.dumps(value), is_json=True)


def listed(kind, *items):
    return node("ListNode" if kind == "list" else "TupleNode", f"builtins.{kind}", content=list(items))


def mapping(**items):
    types = listed("list", *[node("TypeNode", "builtins.str") for _ in items])
    return node("DictNode", "builtins.dict", content=items, key_types=types)


def craft(file, schema, **more):
    """Put another schema in the place of the model's."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", json.dumps({**schema, "protocol": 2, "_skops_version": "0.12"} | more))

    def edit(manifest, members):
        members["model.skops"] = buffer.getvalue()
        # A list of trusted types within the file counts for nothing.
        manifest |= {"trusted": ["os.system", "builtins.eval"], "types": ["os.system", "builtins.eval"]}

    return change(file, edit)


TOUCH = "touch {}/ran"
HOSTILE = {
    "a function": lambda to: node("FunctionNode", "os.system"),
    "eval": lambda to: node("FunctionNode", "builtins.eval"),
    "a type": lambda to: node("TypeNode", "subprocess.Popen"),
    "an object": lambda to: node("ObjectNode", "subprocess.Popen", content=mapping(args=text(to))),
    "a constructor": lambda to: node("ConstructorFromReduceNode", "os.system", content=listed("tuple", text(to))),
    "a getter": lambda to: node("OperatorFuncNode", "operator.attrgetter", attrs=listed("tuple", text("__class__"))),
    "a caller": lambda to: node("OperatorFuncNode", "operator.methodcaller", attrs=listed("tuple", text("system"))),
    "a method": lambda to: node(
        "MethodNode",
        "sklearn.linear_model._logistic.LogisticRegression",
        content={"func": "__reduce__", "obj": node("ObjectNode", "sklearn.linear_model._logistic.LogisticRegression")},
    ),
    "a partial": lambda to: node(
        "PartialNode",
        "functools.partial",
        content={
            "func": node("FunctionNode", "os.system"),
            "args": listed("tuple", text(to)),
            "kwds": mapping(),
            "namespace": mapping(),
        },
    ),
    "joblib": lambda to: node("ObjectNode", "joblib.memory.Memory", content=mapping(location=text(to))),
    "a type of keys": lambda to: node(
        "DictNode",
        "builtins.dict",
        content={to: text(1)},
        key_types=listed("list", node("FunctionNode", "os.system")),
    ),
    "a generator": lambda to: node(
        "RandomGeneratorNode",
        "numpy.random._generator.Generator",
        content={"bit_generator": mapping(bit_generator=text("seed")), "seed_seq": mapping()},
    ),
    "a loss": lambda to: node(
        "LossNode", "os.system", __reduce__={"args": listed("tuple", text(to))}, content=mapping()
    ),
    "an array of a type": lambda to: node("NdArrayNode", "os.system", type="json", content=[], shape=listed("tuple")),
    "an unknown node": lambda to: node("EvilNode", "os.system"),
    "a func of a trusted type": lambda to: node(
        "ObjectNode",
        "sklearn.preprocessing._function_transformer.FunctionTransformer",
        content=mapping(func=node("FunctionNode", "os.system")),
    ),
    "a func of an encoder": lambda to: node(
        "ObjectNode",
        "ensemblefuse.encoders._function.FunctionEncoder",
        content=mapping(func=node("FunctionNode", "os.system"), n_dims_=text(1)),
    ),
    "a method of an instance": lambda to: node(
        "ObjectNode",
        "sklearn.linear_model._logistic.LogisticRegression",
        content=mapping(predict=node("FunctionNode", "os.system")),
    ),
    "a name within a module": lambda to: node("FunctionNode", "sklearn.os.system"),
    "a cycle": lambda to: listed(
        "list", {**listed("list", node("CachedNode", "builtins.list", __id__=7)), "__id__": 7}
    ),
    "no such id": lambda to: node("CachedNode", "builtins.list", __id__=99),
}


@pytest.mark.by_turns
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_of_a_crafted_schema_runs(name, file, tmp_path):
    craft(file, HOSTILE[name](TOUCH.format(tmp_path)))
    with pytest.raises(PersistenceError):
        load_model(file)
    inspect_model(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.by_turns
@pytest.mark.parametrize("protocol", [0, 1, -1, 99, True, "2", None])
def test_readers_of_other_protocols_are_not_chosen_by_the_file(protocol, file):
    craft(file, text(1), protocol=protocol)
    with pytest.raises(PersistenceError, match="protocol"):
        load_model(file)


def test_functions_are_types_and_must_be_named(tmp_path):
    """A transformer or encoder that calls a function is known; the function is not."""
    for model in (FunctionTransformer(os.system), FunctionEncoder(os.path.getsize)):
        path = save_model(model, tmp_path / "model.fuse")
        with pytest.raises(PersistenceError, match=r"trusted=\['(posix|genericpath)\.(system|getsize)'\]"):
            load_model(path)


def test_a_schema_nested_beyond_reason_is_an_error(file):
    deep = text(1)
    for _ in range(400):
        deep = listed("list", deep)
    craft(file, deep)
    start = time.process_time()
    with pytest.raises(PersistenceError):
        load_model(file)
    assert time.process_time() - start < 10


# ---------------------------------------------------------------------- crafted zips


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "name", ["../ran", "/tmp/ran", "a/../../ran", "C:/ran", "a\\..\\ran", ".hidden", "a//b", "x\n"]
)
def test_a_member_of_a_strange_name_is_refused_and_nothing_is_written(name, file, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    change(file, lambda manifest, members: members.update({name: b"evil"}))
    for load in (load_model, inspect_model):
        with pytest.raises(PersistenceError, match="which no saved model does"):
            load(file)
    assert sorted(tmp_path.rglob("*")) == before


def test_links_are_refused(file):
    manifest, members = read(file)
    link = zipfile.ZipInfo("example/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    manifest["members"]["example/link"] = {"sha256": hashlib.sha256(b"/etc/passwd").hexdigest(), "bytes": 11}
    infos = [("manifest.json", json.dumps(manifest)), *members.items(), (link, "/etc/passwd")]
    with pytest.raises(PersistenceError, match="example/link"):
        load_model(seal(file, infos))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_may_stand_once_only(file):
    manifest, members = read(file)
    infos = [("manifest.json", json.dumps(manifest)), *members.items(), ("model.skops", members["model.skops"])]
    with pytest.raises(PersistenceError, match="members under"):
        load_model(seal(file, infos))


def test_bombs_are_not_unpacked(file, monkeypatch):
    """Many large members, one in another, and one that is read again and again."""
    monkeypatch.setattr(bounds, "LARGE", 1_000_000)
    many = io.BytesIO()
    with zipfile.ZipFile(many, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", json.dumps({**text(1), "protocol": 2}))
        for i in range(20):
            archive.writestr(f"{i}.npy", bytes(900_000))
    again = io.BytesIO()
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(110_000))
    arrays = [node("NdArrayNode", "numpy.ndarray", type="numpy", file="a.npy") for _ in range(500)]
    with zipfile.ZipFile(again, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", json.dumps({**listed("list", *arrays), "protocol": 2}))
        archive.writestr("a.npy", buffer.getvalue())
    original = file.read_bytes()
    for inner in (many, again):
        file.write_bytes(original)
        change(file, lambda manifest, members, inner=inner: members.update({"model.skops": inner.getvalue()}))
        for load in (load_model, inspect_model):
            with pytest.raises(PersistenceError, match="would unpack to"):
                load(file)


def test_an_array_that_promises_more_than_it_holds_takes_no_memory(file):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**11,)})
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        array = node("NdArrayNode", "numpy.ndarray", type="numpy", file="a.npy")
        archive.writestr("schema.json", json.dumps({**array, "protocol": 2}))
        archive.writestr("a.npy", header.getvalue())
    change(file, lambda manifest, members: members.update({"model.skops": inner.getvalue()}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PersistenceError):
        load_model(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


# Prints the most memory that reading each file took, in MB. The first file is read before, for what it imports.
MEASURE = """
import sys
from ensemblefuse import inspect_model
from ensemblefuse.persistence.archive import open_archive
def peak():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024
inspect_model(sys.argv[1])
for path in sys.argv[2:]:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = peak()
    try:
        inspect_model(path)
        said = "read"
    except ValueError as error:
        said = str(error)
    print(peak() - before, said)
"""
FORMAT_2 = '{"format": 2, "members": {}, "x": '


def hostile_json():
    """Texts of JSON that are small in a file and large in memory."""
    yield "lists", FORMAT_2 + "[" + "[]," * 5_000_000 + "1]}"
    yield "objects", FORMAT_2 + "[" + "{}," * 5_000_000 + "1]}"
    yield "fewer lists", FORMAT_2 + "[" + "[]," * 1_200_000 + "1]}"
    yield "numbers", FORMAT_2 + "[" + "1e9," * 4_000_000 + "1]}"
    yield "keys", FORMAT_2 + "{" + "".join(f'"{i}":0,' for i in range(2_000_000)) + '"a":0}}'
    yield "a text", FORMAT_2 + '"' + "a" * 90_000_000 + '"}'
    yield "a text of wide characters", FORMAT_2 + '"' + "a" * 50_000_000 + '\U0001f600"}'
    yield "spaces", FORMAT_2 + " " * 90_000_000 + "1}"


@pytest.mark.slow  # another process reads some forty large files
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="reads the memory from /proc, as of Linux")
def test_a_small_file_takes_little_memory_whatever_is_in_it(file, tmp_path):
    """As manifest, and as the schema of the model inside the file."""
    paths = []
    for name, content in hostile_json():
        paths.append(seal(tmp_path / f"{len(paths)} {name}", [("manifest.json", content), ("model.skops", b"PK")]))
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("schema.json", content)
        manifest, _ = read(file)
        digest = {"sha256": hashlib.sha256(inner.getvalue()).hexdigest(), "bytes": len(inner.getvalue())}
        infos = [("manifest.json", json.dumps({**manifest, "members": {"model.skops": digest}}))]
        paths.append(seal(tmp_path / f"{len(paths)} {name}", [*infos, ("model.skops", inner.getvalue())]))
    assert max(path.stat().st_size for path in paths) < 6_000_000
    arguments = [sys.executable, "-c", MEASURE, str(file), *map(str, paths)]
    lines = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.splitlines()
    for path, line in zip(paths, lines, strict=True):
        megabytes, said = line.split(maxsplit=1)
        assert "at most" in said and path.name in said and len(said) < 400, line
        assert int(megabytes) < 150, f"{path.name}: {line}"


def test_a_list_of_members_that_is_absurdly_long_is_not_read(file):
    manifest, members = read(file)
    more = [(zipfile.ZipInfo(f"example/{i}"), b"") for i in range(80_000)]
    seal(file, [("manifest.json", json.dumps(manifest)), *members.items(), *more])
    for load in (load_model, inspect_model):
        with pytest.raises(PersistenceError, match="a list of members of"):
            load(file)


@pytest.mark.by_turns
@pytest.mark.parametrize("member", ["example/encoded.json", "example/rows.json"])
@pytest.mark.parametrize(
    "content",
    [
        '{"columns": [], "n_rows": 3, "arrays": {}, "x": [' + "[]," * 1_000_000 + "1]}",
        '{"columns": [{"name": "a", "dtype": "object", "cells": [1]}], "n_rows": 1000000000, "arrays": {}}',
        "[" * 100_000,
        "{",
        "3",
    ],
    ids=["values", "rows", "depth", "cut", "a number"],
)
def test_example_rows_of_a_crafted_file_are_one_error(content, member, file):
    change(file, lambda manifest, members: members.update({member: content.encode()}))
    with pytest.raises(PersistenceError, match=r"at most|cannot be read"):
        read_table(_archive.open_archive(file), member)  # as a server does before its first request
    if "encoded" in member:
        with pytest.raises(PersistenceError, match=r"at most|cannot be read"):
            load_model(file)


def test_a_message_repeats_no_long_text_of_a_file(file):
    long = "x" * 100_000
    for manifest in ({"format": long}, {"format": 9, "versions": {"ensemblefuse": long}}):
        seal(file, [("manifest.json", json.dumps(manifest)), ("model.skops", b"PK")])
        with pytest.raises(PersistenceError) as told:
            inspect_model(file)
        assert len(str(told.value)) < 600


def test_what_would_not_be_read_is_not_written(model, tmp_path):
    path = save_model(model[0], tmp_path / "model.fuse", metadata={"notes": "kept"})
    for metadata in ({"numbers": list(range(1_100_000))}, {"text": "x" * 17_000_000}):
        with pytest.raises(PersistenceError, match="at most"):
            save_model(model[0], path, metadata=metadata)
    assert inspect_model(path)["metadata"] == {"notes": "kept"} and os.listdir(tmp_path) == ["model.fuse"]
    save_model(model[0], path, metadata={"numbers": list(range(900_000))})
    assert len(inspect_model(path)["metadata"]["numbers"]) == 900_000


@pytest.mark.slow
def test_a_large_vocabulary_is_within_the_bounds(tmp_path):
    """Words that pack as well as words can, and n-grams."""
    words = TfidfVectorizer().fit([" ".join(f"w{i}" for i in range(150_000))])
    texts = ["".join(random.Random(i).choices("etaoinshrdlu ", k=3000)) for i in range(60)]
    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5)).fit(texts)
    for name, vectorizer in (("words", words), ("grams", grams)):
        path = save_model(vectorizer, tmp_path / f"{name}.fuse")
        assert load_model(path).vocabulary_ == vectorizer.vocabulary_


# ---------------------------------------------------------------------- what is no file


def special_files(folder):
    """A named pipe, a socket, a device and a folder, each with what it is called."""
    os.mkfifo(folder / "pipe")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(folder / "socket"))
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(folder / "pipe")
    return {
        **{folder / "pipe": "a named pipe", folder / "socket": "a socket", folder / "folder": "a folder"},
        **{folder / "link": "a named pipe", Path(os.devnull): "a device"},
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_what_is_no_file_is_named_and_never_waited_for(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket has to be short
    for path, kind in special_files(Path(".")).items():
        for load in (
            load_model,
            inspect_model,
            lambda path: load_model(path, allow_pickle=True),
            lambda path: saw_samples(path, ["a"]),
        ):
            with pytest.raises(PersistenceError, match=f"is {kind}, not a model file"):
                load(path)
        before = os.stat(path)
        with pytest.raises(OSError, match=f"is {kind}"):
            save_model(model[0], path)
        assert os.stat(path).st_mode == before.st_mode


# ---------------------------------------------------------------------- pickles that cannot be read


def test_a_pickle_that_is_cut_or_damaged_is_one_error(tmp_path):
    path = tmp_path / "half.joblib"
    for compress in (0, 3):
        whole = joblib_bytes({"words": list(map(str, range(3000))), "numbers": np.arange(3000.0)}, compress)
        for content in (whole[: len(whole) // 2], whole[:3], whole[:2] + b"garbage"):
            path.write_bytes(content)
            with pytest.raises(PersistenceError, match=r"half\.joblib is a pickle"):
                load_model(path, allow_pickle=True)


class Stubborn:
    def __setstate__(self, state):
        raise ZeroDivisionError("no numbers\nand more")

    def __getstate__(self):
        return {"a": 1}


def test_a_pickle_of_what_is_not_here_names_it(tmp_path, monkeypatch):
    path = tmp_path / "foreign.pkl"
    module = types.ModuleType("a_notebook")
    exec("class Ruler: pass\ndef measure(): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "a_notebook", module)
    contents = [
        (joblib_bytes(value, 0), name) for value, name in ((module.Ruler(), "Ruler"), (module.measure, "measure"))
    ]
    monkeypatch.setitem(sys.modules, "a_notebook", types.ModuleType("a_notebook"))
    for content, name in contents:
        path.write_bytes(content)
        with pytest.raises(PersistenceError, match=rf"foreign\.pkl.*{name}.*define them again"):
            load_model(path, allow_pickle=True)
    monkeypatch.delitem(sys.modules, "a_notebook")
    with pytest.raises(PersistenceError, match=r"foreign\.pkl.*No module named 'a_notebook'"):
        load_model(path, allow_pickle=True)
    path.write_bytes(pickle.dumps(Stubborn()))
    with pytest.raises(PersistenceError, match=r"foreign\.pkl.*ZeroDivisionError: no numbers\. It") as told:
        load_model(path, allow_pickle=True)
    assert "and more" not in str(told.value) and isinstance(told.value.__cause__, ZeroDivisionError)


# ---------------------------------------------------------------------- which samples a model saw


def test_a_file_says_which_samples_it_saw_without_naming_them(model, tmp_path):
    X, ids = model[1], [f"patient {i}" for i in range(60)]
    path = save_model(model[0], tmp_path / "a.fuse", training_data=X, sample_ids=ids, sample_key=b"k" * 16)
    asked = ["patient 3", "patient 77", "patient 59"]
    assert saw_samples(path, asked, sample_key=b"k" * 16).tolist() == [True, False, True]
    assert not saw_samples(path, asked, sample_key=b"l" * 16).any()
    assert b"patient" not in path.read_bytes()
    with pytest.raises(ValueError, match="with a sample_key"):
        saw_samples(path, asked)
    training = inspect_model(path)["training"]
    assert (training["n_rows"], training["samples"]["n"]) == (60, 60)
    other = save_model(model[0], tmp_path / "b.fuse", training_data=X, sample_ids=ids[::-1])
    assert inspect_model(other)["training"]["sha256"] == training["sha256"]
    assert saw_samples(other, asked).tolist() == [True, False, True]
    assert read(path)[1]["samples.bin"] != read(other)[1]["samples.bin"]  # a salt a file: files cannot be linked
    changed = X.assign(image__0=X["image__0"] + 1e-9)
    third = save_model(model[0], tmp_path / "c.fuse", training_data=changed)
    assert inspect_model(third)["training"]["sha256"] != training["sha256"]
    with pytest.raises(PersistenceError, match="saved without sample_ids"):
        saw_samples(third, asked)


def test_ids_may_be_integers_of_numpy(model, tmp_path):
    path = save_model(model[0], tmp_path / "a.fuse", sample_ids=[np.int64(i) for i in range(60)])
    assert saw_samples(path, [np.int64(1), 1, "1", np.uint8(99)]).tolist() == [True, True, True, False]
    with pytest.raises(ValueError, match="must be str or int; got True"):
        saw_samples(path, [True])


def test_ids_and_keys_of_another_kind_are_refused(model, tmp_path):
    for wrong in ({"sample_key": b"k" * 16}, {"sample_ids": ["a"], "sample_key": b"short"}, {"sample_ids": [1.5]}):
        with pytest.raises(ValueError, match="sample_"):
            save_model(model[0], tmp_path / "a.fuse", **wrong)
    with pytest.raises(ValueError, match="59 ids for the 60 rows"):
        save_model(model[0], tmp_path / "a.fuse", training_data=model[1], sample_ids=range(59))


@pytest.mark.parametrize(
    "unfitted", [make_fusion_pipeline([("t", StandardScaler(), ["a"])]), DecisionFusionClassifier()]
)
def test_what_is_not_fitted_is_not_saved(unfitted, tmp_path):
    with pytest.raises(NotFittedError, match="not fitted"):
        save_model(unfitted, tmp_path / "m.fuse")
    assert not list(tmp_path.iterdir())
