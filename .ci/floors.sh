#!/usr/bin/env bash
# Whether the lower bounds in pyproject.toml are true: puts the lowest version of each direct dependency, of all extras
# of the tests, into .venv-floors, and runs there the tests that meet the other packages.
set -euo pipefail
cd "$(dirname "$0")/.."
export ENSEMBLEFUSE_PROGRESS=off PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 UV_PYTHON_DOWNLOADS=never

step() { printf '\n-- %s (%ss since start)\n' "$1" "$SECONDS"; }

step "the lowest versions"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
uv=uv
if ! uv --version >/dev/null 2>&1; then
  # pip alone takes the newest versions only.
  python3 -m venv --without-pip "$scratch/uv"
  python3 -m pip --python "$scratch/uv/bin/python" install -q uv
  uv=$scratch/uv/bin/uv
fi
# The oldest Python that is supported, where this machine has it: the oldest wheels fit no later one.
python=$("$uv" python find --system 3.11 2>/dev/null || command -v python3)
rm -rf .venv-floors
"$uv" venv -q --python "$python" .venv-floors
# model2vec since 0.10, which TextEncoder needs, goes with huggingface-hub from 1 only, and transformers before 5 with
# none of these: were it here, later versions of both would be tested. Its own tests skip themselves without it.
echo 'model2vec; python_version < "3"' >"$scratch/left-out"
bin=.venv-floors/bin
"$uv" pip install -q --python $bin/python --resolution lowest-direct --override "$scratch/left-out" -e ".[test]"

step "versions"
$bin/python - <<'PYTHON'
"""Prints the versions; an error where one is later than its bound, of which the tests would say nothing then."""

import platform
import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import Version

installed = {found.name.lower().replace("_", "-"): found.version for found in metadata.distributions()}
shown, later = [f"Python {platform.python_version()}"], []
for needed in map(Requirement, metadata.requires("ensemblefuse")):
    version = installed.get(needed.name)
    if not needed.specifier or version is None:
        continue
    (bound,) = needed.specifier
    shown.append(f"{needed.name} {version}")
    wanted = Version(bound.version).release
    if Version(version).release[: len(wanted)] != wanted:
        later.append(f"{needed}: {version} is installed")
print(*dict.fromkeys(shown), sep=", ")
sys.exit("\n".join(later) or None)
PYTHON

step "tests"
# The contract of each kind of part (fusions, encoders, features), saved models and the cache, and what has shown the
# most of old versions: transformers in audio_models, Pillow in image_cells, the translations to ONNX Runtime and
# OpenVINO in image_backends, scipy in cooperative_fusion. No more, so that it takes about three minutes on two cores;
# any other test can be run here too: .venv-floors/bin/python -m pytest tests/...
# Old versions warn of what newer ones have changed since: these warnings are no errors here.
$bin/python -m pytest -q -n 2 --dist worksteal --disable-warnings -W default \
  tests/test_estimator_contract.py tests/test_encoder_contract.py tests/test_features_contract.py \
  tests/test_persistence.py tests/test_cache.py tests/test_audio_models.py tests/test_image_cells.py \
  tests/test_image_backends.py tests/test_cooperative_fusion.py
step "done"
