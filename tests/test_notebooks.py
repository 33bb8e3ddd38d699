"""Every notebook runs from its first cell to its last, on a tenth of its rows and with little effort.

Who made it has run it as it stands. Nearly all of its time goes into fits of default heads, which other tests fit.
"""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))

# A sixth of the rows of the four largest classes. Whole groups, so that rows of one text stay together.
LESS = """
from ensemblefuse import DecisionFusionClassifier, datasets

DecisionFusionClassifier.__init__.__kwdefaults__["effort"] = "low"

_whole = datasets.load_demo


def _a_part(**settings):
    data = _whole(**settings)
    rows = data.groups.isin(data.groups.unique()[::6]) & data.target.isin(data.target.value_counts().index[:4])
    for name in ("frame", "target", "groups"):
        data[name] = data[name][rows]
    return data


datasets.load_demo = _a_part
"""


def test_notebooks_were_found():
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.xdist_group("notebooks")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.read(path, as_version=4)
    assert any("load_demo(" in cell.source for cell in notebook.cells), "which table is a sixth of?"
    notebook.cells.insert(0, new_code_cell(LESS))
    NotebookClient(notebook, timeout=1500, kernel_name="python3").execute(cwd=str(tmp_path))
