"""The house: what importing costs, who may import whom, and what is public."""

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ensemblefuse

ROOT = Path(ensemblefuse.__file__).parent

FLOORS = {
    0: ["exceptions", "_config", "_display", "_optional", "_threads"],
    1: ["_fitting", "table", "blocks", "cache", "datasets"],
    2: ["encoders", "features", "combine", "networks"],
    3: ["fusion"],
    4: ["_row_predictor", "compose", "deployment", "evaluation", "export", "inspection", "persistence", "testing"],
    5: ["serving", "cli", "report", "_demo", "distributed", "__main__"],
}
FLOOR_OF = {module: floor for floor, modules in FLOORS.items() for module in modules}
# Floor 2 holds rooms that do not know each other; combine and features are open to fusion alone.
SEPARATE = {
    "encoders": {"features", "combine"},
    "features": {"encoders", "combine"},
    "combine": {"encoders", "features"},
}


def module_files():
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path):
    """Rooms of the library that a file imports anywhere, function bodies included."""
    for node in ast.walk(ast.parse(path.read_text())):
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


@pytest.mark.parametrize("path", module_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_from_lower_floors(path):
    room = room_of(path)
    assert room in FLOOR_OF, f"{room} has no floor: name it here and in docs/architecture.md"
    for other in imported_rooms(path):
        if other in ("__version__", room):
            continue
        assert other in FLOOR_OF, f"{path} imports {other}: import from the module, not from the package"
        below = FLOOR_OF[other] < FLOOR_OF[room]
        neighbours = FLOOR_OF[other] == FLOOR_OF[room] and other not in SEPARATE.get(room, set())
        assert below or neighbours, f"{path} (floor {FLOOR_OF[room]}) imports {other} (floor {FLOOR_OF[other]})"


def test_every_public_name_is_there_and_documented():
    for name in ensemblefuse.__all__:
        value = getattr(ensemblefuse, name)
        assert value.__doc__, name
        module = importlib.import_module(f"ensemblefuse.{ensemblefuse._PUBLIC[name]}")
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
