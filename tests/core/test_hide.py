from __future__ import annotations

from functools import reduce

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from jamie_sc._compat import copy_of, make_mudata
from jamie_sc._core._hide import hide_pairs


def shared(mdata):
    return reduce(pd.Index.intersection, (mod.obs_names for mod in mdata.mod.values()))


def hide(mdata, n_left, seed=0, modalities=None, cells=None):
    names = list(mdata.mod) if modalities is None else modalities
    cells = shared(mdata) if cells is None else cells
    return hide_pairs(mdata, names, cells=cells, n_left=n_left, rng=np.random.default_rng(seed))


def rows(matrix):
    """Rows in the order of their values."""
    values = matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)
    return values[np.lexsort(values.T)]


@pytest.fixture(params=[2, 3])
def several(request, simulate):
    """Two or three modalities; a cell is in all of them or in one."""
    return simulate(*("rna", "adt", "atac")[: request.param], paired_fraction=0.5)


@pytest.fixture
def annotated(mdata):
    """Everything that a modality can hold."""
    for mod in mdata.mod.values():
        mod.X = sp.csr_matrix(mod.X)
        mod.layers["sq"] = mod.X.toarray() ** 2
        mod.obsm["X_pca"] = mod.X.toarray()[:, :3]
        mod.obsm["table"] = pd.DataFrame({"first": mod.X.toarray()[:, 0]}, index=mod.obs_names)
        mod.obsp["near"] = sp.csr_matrix(mod.X @ mod.X.T)
        mod.obs["sum"] = np.asarray(mod.X.sum(axis=1)).ravel()
        mod.obs["kind"] = pd.Categorical(np.where(mod.obs["sum"] > 0, "high", "low"))
        mod.uns["note"] = "kept"
    return mdata


@pytest.mark.parametrize("n_left", [0, 1, 17, 40])
def test_all_but_so_many_lose_their_partners(several, n_left):
    before = shared(several)
    hidden = hide(several, n_left)
    left = shared(hidden)
    assert len(left) == n_left
    assert set(left) <= set(before)
    n_hidden = len(before) - n_left
    names = [mod.obs_names[~mod.obs_names.isin(several.obs_names)] for mod in hidden.mod.values()]
    assert [len(new) for new in names] == [n_hidden] * len(names)
    assert len({*np.concatenate(names)}) == n_hidden * len(names)
    assert hidden.n_obs == several.n_obs + n_hidden * (len(names) - 1)
    for name, mod in hidden.mod.items():
        alone = several[name].obs_names.difference(before)
        assert alone.isin(mod.obs_names).all()


def test_nothing_but_names_and_order_changes(annotated, unchanged):
    with unchanged(annotated):
        hidden = hide(annotated, 20)
    assert list(hidden.mod) == list(annotated.mod)
    for name, mod in hidden.mod.items():
        old = annotated[name]
        assert type(mod.X) is type(old.X)
        np.testing.assert_array_equal(rows(mod.X), rows(old.X))
        assert not np.array_equal(mod.X.toarray(), old.X.toarray())
        order = np.argsort(old.obs["sum"].to_numpy())[np.argsort(np.argsort(mod.obs["sum"].to_numpy()))]
        same = old[order]
        np.testing.assert_array_equal(mod.X.toarray(), same.X.toarray())
        np.testing.assert_array_equal(mod.layers["sq"], same.layers["sq"])
        np.testing.assert_array_equal(mod.obsm["X_pca"], same.obsm["X_pca"])
        np.testing.assert_array_equal(mod.obsp["near"].toarray(), same.obsp["near"].toarray())
        assert mod.obsm["table"].index.equals(mod.obs_names)
        assert mod.obsm["table"]["first"].tolist() == same.obsm["table"]["first"].tolist()
        pd.testing.assert_frame_equal(mod.obs.reset_index(drop=True), same.obs.reset_index(drop=True))
        pd.testing.assert_frame_equal(mod.var, old.var)
        assert mod.uns["note"] == "kept"
        kept = mod.obs_names.isin(old.obs_names)
        assert mod.obs_names[kept].tolist() == same.obs_names[kept].tolist()


def test_what_it_gives_is_not_tied_to_the_original(annotated, unchanged):
    hidden = hide(annotated, 20)
    with unchanged(annotated):
        for mod in hidden.mod.values():
            mod.X.data[:] = 0
            mod.layers["sq"][:] = 0
            mod.obsm["X_pca"][:] = 0
            mod.obs["sum"] = 0


def test_fewer_left_are_some_of_those_left_and_others_keep_their_new_names(several):
    most, fewer, none = (hide(several, n) for n in (30, 10, 0))
    assert set(shared(fewer)) < set(shared(most))
    for name, mod in most.mod.items():
        still = ~mod.obs_names.isin(several.obs_names)
        assert mod.obs_names[still].isin(fewer[name].obs_names).all()
        assert mod.obs_names[still].isin(none[name].obs_names).all()
        np.testing.assert_array_equal(mod.X, none[name].X)


def test_seed_decides(mdata):
    first, again, other = (hide(mdata, 20, seed) for seed in (0, 0, 1))
    for name in mdata.mod:
        assert first[name].obs_names.equals(again[name].obs_names)
    assert set(shared(first)) != set(shared(other))


@pytest.mark.parametrize("order", ["names", "rows", "cells of the MuData"])
def test_no_order_tells_the_partners(simulate, order):
    """Rank of a hidden cell in one modality, against the rank of its partner: as by chance."""
    mdata = simulate(n_cells=400, paired_fraction=1.0)
    mods = {name: mod[mdata.obs_names].copy() for name, mod in mdata.mod.items()}  # partners on the same row
    for mod in mods.values():
        mod.obs["true"] = mod.obs_names
    hidden = hide(make_mudata(mods), 0)
    ranks = []
    for mod in hidden.mod.values():
        at = {
            "names": mod.obs_names.argsort().argsort(),
            "rows": np.arange(mod.n_obs),
            "cells of the MuData": hidden.obs_names.get_indexer(mod.obs_names),
        }[order]
        ranks.append(pd.Series(at, index=mod.obs["true"]).loc[mdata.obs_names])
    assert abs(spearmanr(*ranks).statistic) < 0.15  # 3 standard deviations
    assert (ranks[0] == ranks[1]).sum() < 10
    for rank in ranks:  # nor where the cell was before
        assert abs(spearmanr(rank, np.arange(400)).statistic) < 0.15


def test_nothing_of_the_mudata_comes_along(mdata):
    n = mdata.n_obs
    mdata.obsp["correspondence"] = sp.identity(n, format="csr")
    mdata.obsm["X_joint"] = np.ones((n, 2))
    mdata.uns["correspondence"] = {"params": {}}
    hidden = hide(mdata, 20)
    assert not len(hidden.obsp)
    assert "X_joint" not in hidden.obsm
    assert not hidden.uns
    assert "cell_type" not in hidden.obs


def test_modalities_not_asked_for_are_left_out(simulate):
    mdata = simulate("rna", "adt", "atac", paired_fraction=1.0)
    hidden = hide(mdata, 5, modalities=["rna", "atac"])
    assert list(hidden.mod) == ["rna", "atac"]
    assert len(shared(hidden)) == 5


def test_cells_of_some_modalities_stay_paired(simulate):
    mdata = simulate("rna", "adt", "atac", paired_fraction=1.0)
    both = mdata.obs_names[:30]
    mdata = make_mudata(
        {"rna": mdata["rna"], "adt": mdata["adt"], "atac": mdata["atac"][~mdata["atac"].obs_names.isin(both)].copy()}
    )
    hidden = hide(mdata, 0)
    assert set(hidden["rna"].obs_names.intersection(hidden["adt"].obs_names)) == set(both)


def test_new_names_are_new_even_if_the_old_look_like_it(mdata):
    mods = {}
    for name, mod in mdata.mod.items():
        mod = mod.copy()
        mod.obs_names = [f"hidden-rna-{cell}" for cell in mod.obs_names]
        mods[name] = mod
    hidden = hide(make_mudata(mods), 10)
    assert len(shared(hidden)) == 10
    for mod in hidden.mod.values():
        assert mod.obs_names.is_unique
    again = hide(hidden, 3)
    assert len(shared(again)) == 3


def test_of_a_view(mdata):
    whole = mdata[mdata.obs_names[::2]]
    from_view, from_copy = hide(whole, 5), hide(copy_of(whole), 5)
    for name in mdata.mod:
        assert from_view[name].obs_names.equals(from_copy[name].obs_names)
        np.testing.assert_array_equal(from_view[name].X, from_copy[name].X)
