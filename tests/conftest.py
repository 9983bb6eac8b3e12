"""Fixtures for all tests: small data, a model trained once, and no window ever opened."""

from __future__ import annotations

import os
from contextlib import contextmanager

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # else UMAP gives torch as many threads, which wait on each other

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata, no_pull

mpl.use("agg")


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    """Count of `plt.show` calls, in a list; every figure is closed afterwards."""
    calls = []
    monkeypatch.setattr(plt, "show", lambda *_, **__: calls.append(1))
    yield calls
    plt.close("all")


@pytest.fixture(scope="session")
def quick():
    """Arguments that make `tl.integrate` take a moment."""
    return {"params": {"max_steps": 30}, "progress": False}


@pytest.fixture(scope="session")
def simulate():
    """MuData of the modalities named: rows shuffled, names shared in part, a column of cell types."""

    def make(*names, n_cells=80, paired_fraction=0.6, **options):
        names = names or ("rna", "adt")
        sizes = (25, 20, 15)[: max(2, len(names))]
        data = jsc.datasets.simulated(
            n_cells, n_features=sizes, paired_fraction=paired_fraction, shuffle=True, **options
        )
        mods = {}
        for name, adata in zip(names, data.mod.values(), strict=False):
            adata.var_names = [f"{name}{i}" for i in range(adata.n_vars)]
            mods[name] = adata
        made = make_mudata(mods)
        made.obs["cell_type"] = data.obs["cell_type"].loc[made.obs_names]
        return made

    return make


@pytest.fixture(scope="session")
def _raw(simulate):
    return simulate()


@pytest.fixture(scope="session")
def _trained(_raw, quick):
    mdata = copy_of(_raw)
    jsc.tl.integrate(mdata, **quick)
    return mdata


@pytest.fixture
def mdata(_raw):
    """80 cells: 48 in "rna" (25 features) and "adt" (20 features), 16 more in each of them only."""
    return copy_of(_raw)


@pytest.fixture
def trained(_trained):
    """The same cells after `tl.integrate`."""
    return copy_of(_trained)


@pytest.fixture(scope="session")
def edit():
    """Replace one modality and bring the MuData up to date."""

    def replace(mdata, **mods):
        with no_pull():
            for name, adata in mods.items():
                mdata.mod[name] = adata
            mdata.update()

    return replace


@pytest.fixture(scope="session")
def contents():
    """Everything a MuData holds, as nested dictionaries of arrays that `numpy.testing.assert_equal` compares."""
    return _contents


@pytest.fixture(scope="session")
def unchanged():
    """Context in which a MuData must stay exactly as it is."""

    @contextmanager
    def same(mdata):
        before = _contents(mdata, copy=True)
        yield
        np.testing.assert_equal(_contents(mdata), before)

    return same


def _contents(mdata, *, copy=False):
    holders = {"": mdata, **mdata.mod}
    return {name: _plain(_slots(holder), copy=copy) for name, holder in holders.items()}


def _slots(holder):
    own = {"X": holder.X, "layers": dict(holder.layers)} if isinstance(holder, AnnData) else {}
    shared = ("obs", "var", "obsm", "varm", "obsp", "varp", "uns")
    return own | {slot: getattr(holder, slot) for slot in shared}


def _plain(value, *, copy):
    if isinstance(value, pd.DataFrame):
        return {"": list(value.index)} | {column: value[column].astype(object).to_list() for column in value}
    if hasattr(value, "items"):
        return {key: _plain(part, copy=copy) for key, part in value.items()}
    if sp.issparse(value):
        return value.toarray()
    return np.array(value, copy=True) if copy and isinstance(value, np.ndarray) else value
