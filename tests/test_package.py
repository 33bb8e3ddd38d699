"""The house: what importing costs, who may import whom, and what is public."""

import ast
import functools
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ensemblefuse
from ensemblefuse._public_names import PUBLIC

ROOT = Path(ensemblefuse.__file__).parent

FLOORS = {
    0: [
        *["exceptions", "_config", "_deprecation", "_optional", "_plain", "_public_names", "_seeds", "_theme"],
        *["_threads", "_torch", "_writing"],
    ],
    1: [
        "_calls",
        "_fitting",
        "table",
        "column_formats",
        "column_kinds",
        "schema",
        "blocks",
        "cache",
        "datasets",
        "cells",
        "scoring",
        "training",
    ],
    2: ["backbones", "features", "combine"],
    3: ["encoders", "fusion", "networks"],
    4: ["compose", "fitted", "modalities"],
    5: ["deployment", "evaluation", "export", "inspection", "persistence", "testing"],
    6: ["serving", "cli", "report", "__main__"],
}
FLOOR_OF = {module: floor for floor, modules in FLOORS.items() for module in modules}
# Rooms that do not know each other, in either direction.
SEPARATE = [
    *[{"encoders", "fusion"}, {"encoders", "features"}, {"encoders", "combine"}, {"combine", "features"}],
    {"encoders", "networks"},
]
# Networks on cells take heads, folds and targets from fusion. Fusion knows them as any other estimator of a block.
ONE_WAY = [("fusion", "networks")]


def module_files():
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@functools.cache
def nodes_of(path):
    return list(ast.walk(ast.parse(path.read_text())))


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path):
    """Rooms of the library that a file imports anywhere, function bodies included."""
    for node in nodes_of(path):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "ensemblefuse" else [module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "ensemblefuse" and len(parts) > 1:
                yield parts[1]


@pytest.mark.by_turns
def test_a_module_imports_only_from_lower_floors():
    wrong = [f"{path}: {what}" for path in module_files() for what in wrong_imports(path)]
    assert not wrong, "\n".join(wrong)


def wrong_imports(path):
    room = room_of(path)
    if room not in FLOOR_OF:
        yield f"{room} has no floor: name it here and in docs/architecture.md"
        return
    for other in sorted(set(imported_rooms(path)) - {"__version__", room}):
        if other not in FLOOR_OF:
            yield f"imports {other}: import from the module, not from the package"
        elif {room, other} in SEPARATE or (room, other) in ONE_WAY:
            yield f"imports {other}, and {room} is not to know it"
        elif FLOOR_OF[other] > FLOOR_OF[room]:
            yield f"(floor {FLOOR_OF[room]}) imports {other} (floor {FLOOR_OF[other]})"


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in module_files()}


@functools.cache
def imports_of(path, *, typing):
    """Modules of the library that a file imports anywhere; `typing` says whether for annotations, too."""
    annotations = {
        inner
        for node in nodes_of(path)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = []
    for node in nodes_of(path):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("ensemblefuse"):
            continue
        if node in annotations and not typing:
            continue
        for alias in node.names:
            submodule = f"{node.module}.{alias.name}"
            found.append(submodule if submodule in MODULES else node.module)
    return found


def circles(*, typing):
    """Sets of modules that import one another; a package's ``__init__`` hands names on, and counts as none of them."""
    ours = {name: path for name, path in MODULES.items() if path.name != "__init__.py"}
    graph = {name: set(imports_of(path, typing=typing)) & ours.keys() for name, path in ours.items()}
    reached = {name: set(targets) for name, targets in graph.items()}
    while True:
        more = {name: set().union(targets, *(reached[t] for t in targets)) for name, targets in reached.items()}
        if more == reached:
            break
        reached = more
    return {frozenset(o for o in reached[n] if n in reached[o]) for n in reached if n in reached[n]}


def test_no_modules_import_one_another_in_a_circle():
    assert circles(typing=False) == set()
    assert circles(typing=True) == set()


def test_no_room_imports_a_private_module_of_another():
    """What other rooms take stands in a module whose name has no underscore."""
    taken = {
        (module_name(path), target)
        for path in module_files()
        for target in imports_of(path, typing=True)
        if target.count(".") == 2 and target.rpartition(".")[2].startswith("_")
        if target.split(".")[1] != room_of(path)
    }
    assert len(taken) == 0, sorted(taken)


def test_no_room_imports_a_private_name_of_another():
    taken = {
        f"{module_name(path)}: {alias.name} of {node.module}"
        for path in module_files()
        for node in nodes_of(path)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ensemblefuse.")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__") and node.module.count(".") > 0
        if node.module.split(".")[1] != room_of(path)
    }
    assert not taken, sorted(taken)


def test_every_public_name_is_there_and_documented():
    for name in ensemblefuse.__all__:
        value = getattr(ensemblefuse, name)
        assert value.__doc__, name
        module = importlib.import_module(f"ensemblefuse.{PUBLIC[name]}")
        assert name in module.__all__, f"{name} is not in {module.__name__}.__all__"
    assert set(ensemblefuse.__all__) <= set(dir(ensemblefuse))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ensemblefuse.nothing


def test_every_encoder_and_fusion_is_public():
    for package in ("encoders", "fusion"):
        module = importlib.import_module(f"ensemblefuse.{package}")
        assert set(module.__all__) <= set(ensemblefuse.__all__), package


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_loads_no_heavy_package():
    heavy = ["torch", "torchvision", "librosa", "xgboost", "transformers", "sentence_transformers", "timm", "skops"]
    loaded = run_python("import sys, json, ensemblefuse; print(json.dumps(sorted(sys.modules)))")
    assert not set(heavy) & set(json.loads(loaded))
    used = (
        "from ensemblefuse import DecisionFusionClassifier, ImageEncoder, TextEncoder, AudioEncoder, infer_modalities"
    )
    loaded = run_python(f"import sys, json; {used}; ImageEncoder(); print(json.dumps(sorted(sys.modules)))")
    assert not set(heavy) & set(json.loads(loaded))


def test_import_takes_under_one_and_a_half_times_the_modules_of_sklearn_ensemble():
    """Counts modules, whatever else the machine does; benchmarks/import_time.py prints the ratio of times."""
    count = "import sys, {0}; print(len(sys.modules))"
    assert int(run_python(count.format("ensemblefuse"))) < 1.5 * int(run_python(count.format("sklearn.ensemble")))


def test_every_exception_from_a_security_check_says_why():
    """`.ci/run` runs bandit; what it finds wrongly is named in the code, beside the line."""
    for path in module_files():
        for line in path.read_text().splitlines():
            if "nosec" in line:
                assert re.search(r"# nosec B\d{3}: \w+", line), f"{path}: say why after the number"
