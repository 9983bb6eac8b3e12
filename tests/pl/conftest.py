"""Fixtures of the plots of imputed values."""

from __future__ import annotations

import pytest

import jamie_sc as jsc


@pytest.fixture
def imputed(trained):
    """48 of the 64 cells of "adt" were imputed from "rna"; the other 16 lack it."""
    jsc.tl.impute(trained, source="rna", target="adt")
    return trained


@pytest.fixture
def values(imputed):
    """Measured and imputed values and labels of the 48 cells, read by name."""
    both = [cell for cell in imputed["adt"].obs_names if cell in imputed["rna"].obs_names]
    adt = imputed["adt"][both]
    return adt.to_df(), adt.to_df("jamie_from_rna"), adt.obs["cell_type"].astype(str)
