from __future__ import annotations

import pytest

import jamie_sc as jsc


@pytest.mark.parametrize(("a", "b"), [("rna", "adt"), ("adt", "rna")])
def test_pairs_by_name(mdata, unchanged, a, b):
    with unchanged(mdata):
        pairs = jsc.get.correspondence(mdata, modality_a=a, modality_b=b)
    assert list(pairs.columns) == ["cell_a", "cell_b", "weight"]
    assert (pairs["cell_a"] == pairs["cell_b"]).all()
    assert set(pairs["cell_a"]) == set(mdata["rna"].obs_names) & set(mdata["adt"].obs_names)
    assert len(pairs) == 48
    assert (pairs["weight"] == 1).all()


def test_no_pair(simulate):
    mdata = simulate(n_cells=(10, 12), paired_fraction=0.0)
    assert len(jsc.get.correspondence(mdata, modality_a="rna", modality_b="adt")) == 0


def test_unknown_modality(mdata):
    with pytest.raises(KeyError, match="atac"):
        jsc.get.correspondence(mdata, modality_a="rna", modality_b="atac")
