from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jamie_sc._compat import make_mudata
from jamie_sc._core._modalities import read_modalities
from jamie_sc._core._pairing import correspondence, correspondences


def test_cells_correspond_by_name(mdata):
    rna, adt = read_modalities(mdata)
    F = correspondence(rna, adt).toarray()
    np.testing.assert_array_equal(F, rna.obs_names.to_numpy()[:, None] == adt.obs_names.to_numpy())
    assert F.sum() == 48
    assert set(F.ravel()) == {0, 1}


def test_equal_sizes_without_shared_names_are_no_pairs(simulate):
    mdata = simulate(n_cells=40, paired_fraction=1.0)
    adt = mdata["adt"].copy()
    adt.obs_names = "other" + adt.obs_names
    rna, adt = read_modalities(make_mudata({"rna": mdata["rna"], "adt": adt}))
    assert rna.n_obs == adt.n_obs
    assert correspondence(rna, adt).nnz == 0
    with pytest.raises(ValueError, match=r"No cell of modality 'rna' shares its name .*'adt'.*obs_names.*pp\.pairing"):
        correspondences([rna, adt])


def test_one_partner_is_enough(simulate, edit):
    """rna - adt and adt - atac share cells, rna - atac share none."""
    mdata = simulate("rna", "adt", "atac", paired_fraction=1.0)
    half = mdata.obs_names[:40]
    rna, atac = mdata["rna"], mdata["atac"]
    edit(mdata, rna=rna[rna.obs_names.isin(half)].copy(), atac=atac[~atac.obs_names.isin(half)].copy())
    found = correspondences(read_modalities(mdata))
    assert {ab: F.nnz for ab, F in found.items()} == {(0, 1): 40, (0, 2): 0, (1, 2): 40}


def test_modality_without_any_partner_is_named(simulate):
    mdata = simulate("rna", "adt", "atac", paired_fraction=1.0)
    data = read_modalities(mdata)
    lone = replace(data[2], rows=data[2].rows + mdata.n_obs)
    with pytest.raises(ValueError, match="No cell of modality 'atac' .*'rna', 'adt'"):
        correspondences([*data[:2], lone])
