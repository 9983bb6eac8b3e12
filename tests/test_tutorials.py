"""Tutorials run from the first cell to the last: on the real cells where they are at hand, on simulated ones elsewhere."""

import inspect
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

TUTORIALS = sorted((Path(__file__).parent.parent / "tutorials").glob("*.ipynb"))
REAL = re.compile(r"jsc\.datasets\.(?!simulated\b)\w+\(\)")  # any loader of real cells
SIMULATED = "jsc.datasets.simulated(150, n_features=(60, 40))"


def bmmc_like():
    """Simulated counts under the names that the CITE-seq tutorial speaks of."""
    import jamie_sc as jsc
    from jamie_sc._compat import make_mudata

    rna, adt = jsc.datasets.simulated(150, n_features=(60, 40), count_noise=True).mod.values()
    adt.var_names = ["CD3", "CD4", "CD8", "CD56", "CD19", "CD14", "CD71", *adt.var_names[7:]]
    mdata = make_mudata({"rna": rna, "adt": adt})
    for cells in (rna, adt, mdata):
        cells.obs["batch"] = ["s1d1", "s1d2"] * 75
    mdata.obs["cell_type"] = rna.obs["cell_type"]
    return mdata


def simulate(notebook):
    """Put simulated cells in place of the real ones."""
    for cell in notebook.cells:
        cell.source = REAL.sub(SIMULATED, cell.source.replace("jsc.datasets.bmmc_cite()", "bmmc_like()"))
    notebook.cells.insert(0, new_code_cell(inspect.getsource(bmmc_like)))


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
@pytest.mark.filterwarnings("default")  # the kernel's client warns of its own transport
def test_tutorial(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    if not os.environ.get("JAMIE_SC_DATA_DIR"):
        simulate(notebook)
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    errors = [out for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "error"]
    assert not errors


def test_tutorials_are_kept_with_their_pictures():
    for path in TUTORIALS:
        outputs = [out for cell in nbformat.read(path, as_version=4).cells for out in cell.get("outputs", [])]
        assert sum("image/png" in out.get("data", {}) for out in outputs) >= 3
