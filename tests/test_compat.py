"""What differs between versions of mudata, and what goes wrong in some."""

from __future__ import annotations

import numpy as np
import pytest

import jamie_sc as jsc
from jamie_sc._compat import copy_of


@pytest.fixture
def named(mdata):
    """Modalities whose index has a name, a MuData whose index has none, and obs columns of its own: as many notebooks have them."""
    for mod in mdata.mod.values():
        mod.obs.index.name = "cell"
    assert mdata.obs.shape[1] > 0
    mdata.obs.index.name = None
    return mdata


def test_a_view_with_named_indices_is_copied(named, unchanged):
    with unchanged(named):
        copied = copy_of(named[:40])
        assert copied.shape == (40, 45)
        assert copied.obs["cell_type"].tolist() == named.obs["cell_type"][:40].tolist()
    assert named.obs.index.name is None
    assert {mod.obs.index.name for mod in named.mod.values()} == {"cell"}


def test_a_view_with_named_indices_is_integrated(named, quick):
    view = named[:60]
    jsc.tl.integrate(view, **quick)
    jsc.tl.impute(view, source="rna", target="adt", extend=True)
    assert np.isfinite(view.obsm["X_jamie"]).all()
