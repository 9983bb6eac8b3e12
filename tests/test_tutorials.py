"""Tutorials run from the first cell to the last: on the real cells where they are at hand, on simulated ones elsewhere."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TUTORIALS = sorted((Path(__file__).parent.parent / "tutorials").glob("*.ipynb"))
REAL = re.compile(r"jsc\.datasets\.(?!simulated\b)\w+\(\)")  # any loader of real cells
SIMULATED = "jsc.datasets.simulated(150, n_features=(60, 40))"


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
@pytest.mark.filterwarnings("default")  # the kernel's client warns of its own transport
def test_tutorial(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    if not os.environ.get("JAMIE_SC_DATA_DIR"):
        for cell in notebook.cells:
            cell.source = REAL.sub(SIMULATED, cell.source)
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    errors = [out for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "error"]
    assert not errors


def test_tutorials_are_kept_with_their_pictures():
    for path in TUTORIALS:
        outputs = [out for cell in nbformat.read(path, as_version=4).cells for out in cell.get("outputs", [])]
        assert sum("image/png" in out.get("data", {}) for out in outputs) >= 3
