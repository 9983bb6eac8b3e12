from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jamie_sc as jsc

COLUMNS = ["cell_a", "cell_b", "weight", "inferred"]


def matched_by_hand(mdata, key="correspondence"):
    """As `tl.match_cells` would leave it: two lone cells of "rna" matched with one and with three of "adt"."""
    rna = mdata["rna"].obs_names.difference(mdata["adt"].obs_names)
    adt = mdata["adt"].obs_names.difference(mdata["rna"].obs_names)
    paired = mdata["rna"].obs_names.intersection(mdata["adt"].obs_names)
    F = pd.DataFrame(0.0, mdata.obs_names, mdata.obs_names)
    F.loc[rna[0], adt[0]] = 1
    F.loc[rna[1], adt[:3]] = 0.2, 0.5, 0.3
    F.loc[adt[0], rna[:2]] = 0.6, 0.4
    F.loc[adt[1], rna[1]] = F.loc[adt[2], rna[1]] = 1
    for name in paired:
        F.loc[name, name] = 1
    mdata.obsp[key] = sp.csr_matrix(F.to_numpy(dtype=np.float32))
    mdata.uns[key] = {"params": {"method": "gw"}}
    return rna, adt, paired


@pytest.mark.parametrize(("a", "b"), [("rna", "adt"), ("adt", "rna")])
def test_pairs_by_name(mdata, unchanged, a, b):
    with unchanged(mdata):
        pairs = jsc.get.correspondence(mdata, modality_a=a, modality_b=b)
    assert list(pairs.columns) == COLUMNS
    assert (pairs["cell_a"] == pairs["cell_b"]).all()
    assert set(pairs["cell_a"]) == set(mdata["rna"].obs_names) & set(mdata["adt"].obs_names)
    assert len(pairs) == 48
    assert (pairs["weight"] == 1).all()
    assert not pairs["inferred"].any()
    assert pairs["inferred"].dtype == bool
    assert pairs["cell_a"].is_monotonic_increasing
    assert list(pairs.index) == list(range(48))


@pytest.mark.parametrize("key", ["correspondence", "mine"])
def test_inferred_matches(mdata, unchanged, key):
    rna, adt, paired = matched_by_hand(mdata, key)
    with unchanged(mdata):
        pairs = jsc.get.correspondence(mdata, modality_a="rna", modality_b="adt", key=key)
    assert list(pairs.columns) == COLUMNS
    assert set(pairs.loc[~pairs["inferred"], "cell_a"]) == set(paired)
    inferred = pairs[pairs["inferred"]].reset_index(drop=True)
    expected = pd.DataFrame(
        {
            "cell_a": [rna[0], rna[1], rna[1], rna[1]],
            "cell_b": [adt[0], adt[1], adt[2], adt[0]],  # the likelier first
            "weight": [1, 0.5, 0.3, 0.2],
            "inferred": True,
        }
    )
    pd.testing.assert_frame_equal(inferred, expected, check_dtype=False, rtol=1e-6)
    assert pairs["cell_a"].is_monotonic_increasing


def test_inferred_matches_the_other_way_round(mdata):
    """The weight is that of the row of the first modality's cell."""
    rna, adt, _ = matched_by_hand(mdata)
    pairs = jsc.get.correspondence(mdata, modality_a="adt", modality_b="rna").query("inferred")
    assert list(pairs["cell_a"]) == [adt[0], adt[0], adt[1], adt[2]]
    assert list(pairs["cell_b"]) == [rna[0], rna[1], rna[1], rna[1]]
    np.testing.assert_allclose(pairs["weight"], [0.6, 0.4, 1, 1], rtol=1e-6)


def test_a_shared_name_counts_more_than_what_was_inferred(mdata):
    """What says otherwise of cells that share a name is left out."""
    rna, adt, paired = matched_by_hand(mdata)
    F = mdata.obsp["correspondence"].tolil()
    at = mdata.obs_names.get_indexer
    for a, b in ((paired[0], paired[1]), (paired[2], adt[0]), (rna[0], paired[3])):
        F[at([a])[0], at([b])[0]] = 0.5
    mdata.obsp["correspondence"] = F.tocsr()
    pairs = jsc.get.correspondence(mdata, modality_a="rna", modality_b="adt")
    assert len(pairs) == 48 + 4
    assert pairs["cell_a"].value_counts()[paired].eq(1).all()


def test_after_match_cells(mdata):
    jsc.tl.match_cells(mdata, n_neighbors=8, progress=False)
    pairs = jsc.get.correspondence(mdata, modality_a="rna", modality_b="adt")
    assert set(pairs["cell_a"]) == set(mdata["rna"].obs_names)
    assert set(pairs["cell_b"]) == set(mdata["adt"].obs_names)
    np.testing.assert_allclose(pairs.groupby("cell_a")["weight"].sum(), 1, rtol=1e-5)
    F = pd.DataFrame(mdata.obsp["correspondence"].toarray(), mdata.obs_names, mdata.obs_names)
    assert [F.loc[a, b] for a, b in zip(pairs["cell_a"], pairs["cell_b"], strict=True)] == pairs["weight"].tolist()


def test_what_the_user_wrote_is_not_what_match_cells_inferred(mdata):
    matched_by_hand(mdata)
    del mdata.uns["correspondence"]
    assert len(jsc.get.correspondence(mdata, modality_a="rna", modality_b="adt")) == 48


def test_no_pair(simulate):
    mdata = simulate(n_cells=(10, 12), paired_fraction=0.0)
    pairs = jsc.get.correspondence(mdata, modality_a="rna", modality_b="adt")
    assert len(pairs) == 0
    assert list(pairs.columns) == COLUMNS


def test_unknown_modality(mdata):
    with pytest.raises(KeyError, match="atac"):
        jsc.get.correspondence(mdata, modality_a="rna", modality_b="atac")


def test_unknown_key(mdata):
    matched_by_hand(mdata)
    with pytest.raises(KeyError, match=r"match_cells left no mdata\.obsp\['mine'\].*correspondence"):
        jsc.get.correspondence(mdata, modality_a="rna", modality_b="adt", key="mine")
