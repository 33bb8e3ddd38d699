#!/usr/bin/env bash
# Makes an environment beside .venv:
#   .ci/environment.sh newest FOLDER PYTHON   what .venv has, for this Python
#   .ci/environment.sh floors FOLDER          the lowest version of each direct dependency that pyproject.toml allows, of
#                                             all extras of the tests; an error where a later one is installed
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 UV_PYTHON_DOWNLOADS=never
kind=$1 folder=$2
bin=$folder/bin

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# uv links what it has instead of copying it, and takes the lowest versions, too; pip knows the newest ones only.
uv=uv
if ! uv --version >/dev/null 2>&1; then
  python3 -m venv --without-pip "$scratch/uv"
  python3 -m pip --python "$scratch/uv/bin/python" install -q uv
  uv=$scratch/uv/bin/uv
fi
rm -rf "$folder"

# uv leaves modules as they come. What most tests import is compiled here, once, and not by each process of pytest; what
# cannot be imported is a matter of the tests.
compile_once() {
  $bin/python -W ignore -c "import sentence_transformers, timm, torchvision, librosa, sklearn.ensemble, xgboost" || true
}

if [ "$kind" = newest ]; then
  "$uv" venv -q --python "$3" "$folder"
  # uv reads no settings of pip: a machine that caps versions for pip caps them for uv, too.
  cap=${PIP_CONSTRAINT:-$(python3 -m pip config list 2>/dev/null | sed -n "s/^[a-z]*\.constraint='\(.*\)'$/\1/p")}
  UV_CONSTRAINT=$cap "$uv" pip install -q --python "$bin/python" -e ".[test]"
  compile_once
  $bin/python --version
  exit
fi

# The oldest Python that is supported, where this machine has it: the oldest wheels fit no later one.
python=$("$uv" python find --system 3.11 2>/dev/null || command -v python3)
"$uv" venv -q --python "$python" "$folder"
# model2vec since 0.10, which TextEncoder needs, goes with huggingface-hub from 1 only, and transformers before 5 with
# none of these: were it here, later versions of both would be tested. Its own tests skip themselves without it.
echo 'model2vec; python_version < "3"' >"$scratch/left-out"
"$uv" pip install -q --python "$bin/python" --resolution lowest-direct --override "$scratch/left-out" -e ".[test]"
compile_once
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
