from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from jamie_sc._compat import make_mudata
from jamie_sc._core._modalities import cell_index, read_modalities
from jamie_sc._core._pairing import (
    check_linked,
    correspondence,
    correspondences,
    inferred_correspondences,
    n_alone,
    read_correspondence,
    read_inferred,
    tied_by_others,
)


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
    with pytest.raises(ValueError, match=r"No cell of modality 'rna' .*'adt'.*obs_names.*pp\.pairing.*tl\.match_cells"):
        check_linked([rna, adt], correspondences([rna, adt]))


def test_one_partner_is_enough(simulate, edit):
    """rna - adt and adt - atac share cells, rna - atac share none."""
    mdata = simulate("rna", "adt", "atac", paired_fraction=1.0)
    half = mdata.obs_names[:40]
    rna, atac = mdata["rna"], mdata["atac"]
    edit(mdata, rna=rna[rna.obs_names.isin(half)].copy(), atac=atac[~atac.obs_names.isin(half)].copy())
    data = read_modalities(mdata)
    found = correspondences(data)
    assert {ab: F.nnz for ab, F in found.items()} == {(0, 1): 40, (0, 2): 0, (1, 2): 40}
    check_linked(data, found)


def test_modality_without_any_partner_is_named(simulate):
    mdata = simulate("rna", "adt", "atac", paired_fraction=1.0)
    data = read_modalities(mdata)
    lone = replace(data[2], rows=data[2].rows + mdata.n_obs)
    data = [*data[:2], lone]
    with pytest.raises(ValueError, match="No cell of modality 'atac' .*'rna', 'adt'"):
        check_linked(data, correspondences(data))
    check_linked(data, correspondences(data), {(2, 0): sp.csr_matrix(np.ones((lone.n_obs, data[0].n_obs)))})


# Values given by the user -------------------------------------------------------------------------------------------


def alone(mdata, name):
    """MuData rows of the cells that this modality alone has."""
    index = cell_index(mdata)
    return np.setdiff1d(index[name], np.concatenate([rows for other, rows in index.items() if other != name]))


def links(mdata, i, j, weights, form=sp.csr_matrix):
    return form(sp.coo_matrix((weights, (i, j)), shape=(mdata.n_obs, mdata.n_obs)))


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, sp.coo_matrix, sp.csr_array])
@pytest.mark.parametrize("turned", [False, True])
def test_soft_values_either_way_round(mdata, form, turned):
    """One-to-many, and both orientations of one link, of which the larger counts; names stay 1."""
    a, b = alone(mdata, "rna"), alone(mdata, "adt")
    i, j = np.array([a[0], a[0], a[1]]), np.array([b[0], b[1], b[1]])
    i, j = (j, i) if turned else (i, j)
    matrix = links(mdata, [*i, j[2]], [*j, i[2]], [0.5, 0.25, 0.3, 0.75], form)
    rna, adt = data = read_modalities(mdata)
    F = correspondences(data, read_correspondence(mdata, matrix, cell_index(mdata)))[0, 1].toarray()
    expected = correspondence(rna, adt).toarray()
    at = lambda m, rows: np.searchsorted(m.rows, rows, sorter=np.argsort(m.rows))
    place = lambda m, row: int(np.argsort(m.rows)[at(m, row)])
    for first, second, weight in ((a[0], b[0], 0.5), (a[0], b[1], 0.25), (a[1], b[1], 0.75)):
        expected[place(rna, first), place(adt, second)] = weight
    np.testing.assert_allclose(F, expected)


def test_ones_in_obsp_are_names(mdata):
    """Names hidden and given back as a matrix of ones: the same F."""
    rna, adt = read_modalities(mdata)
    names = correspondence(rna, adt)
    hidden = mdata["adt"].copy()
    hidden.obs_names = "x" + hidden.obs_names
    other = make_mudata({"rna": mdata["rna"].copy(), "adt": hidden})
    at = {name: other.obs_names.get_indexer(other[name].obs_names) for name in ("rna", "adt")}
    i, j = names.nonzero()
    other.obsp["mine"] = links(other, at["rna"][i], at["adt"][j], np.ones(len(i)))
    data = read_modalities(other)
    given = read_correspondence(other, "mine", cell_index(other))
    np.testing.assert_array_equal(correspondences(data, given)[0, 1].toarray(), names.toarray())


def test_a_name_counts_as_1_and_a_diagonal_says_nothing(mdata):
    data = read_modalities(mdata)
    matrix = sp.identity(mdata.n_obs, format="csr") * 0.5
    F = correspondences(data, read_correspondence(mdata, matrix, cell_index(mdata)))[0, 1]
    np.testing.assert_array_equal(F.toarray(), correspondence(*data).toarray())


def test_links_to_modalities_not_in_use_are_left_out(simulate):
    mdata = simulate("rna", "adt", "atac")
    a, c = alone(mdata, "rna"), alone(mdata, "atac")
    matrix = links(mdata, [a[0], c[0]], [c[0], c[1]], [0.5, 0.5])
    names = ["rna", "adt"]
    given = read_correspondence(mdata, matrix, cell_index(mdata, names))
    data = read_modalities(mdata, modalities=names)
    np.testing.assert_array_equal(correspondences(data, given)[0, 1].toarray(), correspondence(*data).toarray())


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda m, i, j: "mine", KeyError, r"mdata\.obsp\['mine'\].*\['other'\]"),
        (lambda m, i, j: np.eye(m.n_obs), TypeError, "dense ndarray.*csr_matrix"),
        (lambda m, i, j: sp.eye(m.n_obs - 1, format="csr"), ValueError, r"shape \(79, 79\).*\(80, 80\)"),
        (lambda m, i, j: links(m, i, j, [0.5, -0.5]), ValueError, "1 values that are negative.*'cell"),
        (lambda m, i, j: links(m, i, j, [np.nan, 0.5]), ValueError, "1 values that are NaN"),
        (lambda m, i, j: links(m, i, j, [np.inf, 0.5]), ValueError, "NaN or infinite"),
        (lambda m, i, j: links(m, i, j, [1.0, 2.0]), ValueError, "1 values that are greater than 1"),
        (lambda m, i, j: links(m, i, j, [0.0, 0.5]), ValueError, r"1 cells that are all zero \('cell.*eliminate_zeros"),
        (lambda m, i, j: links(m, i, i[::-1], [0.5, 0.5]), ValueError, "1 links between cells.*'rna'.*'cell.*'cell"),
    ],
    ids=["key", "dense", "shape", "negative", "NaN", "infinite", "above 1", "zero row", "one modality"],
)
def test_bad_correspondence(mdata, spoil, error, message):
    mdata.obsp["other"] = sp.identity(80, format="csr")
    i, j = alone(mdata, "rna")[:2], alone(mdata, "adt")[:2]
    with pytest.raises(error, match=message):
        read_correspondence(mdata, spoil(mdata, i, j), cell_index(mdata))


# Inferred -----------------------------------------------------------------------------------------------------------


def test_only_what_match_cells_wrote_is_inferred(mdata):
    assert read_inferred(mdata) is None
    i, j = alone(mdata, "rna")[:2], alone(mdata, "adt")[:2]
    mdata.obsp["correspondence"] = links(mdata, [*i, i[0], j[0]], [*j, j[1], i[1]], [0.3, 0.4, 0.1, 0.2])
    assert read_inferred(mdata) is None
    mdata.uns["correspondence"] = {"params": {"method": "gw"}}
    data = read_modalities(mdata)
    found = inferred_correspondences(data, read_inferred(mdata))
    assert set(found) == {(0, 1), (1, 0)}
    place = [{row: k for k, row in enumerate(m.rows)} for m in data]
    expected = np.zeros((data[0].n_obs, data[1].n_obs))
    expected[place[0][i[0]], [place[1][j[0]], place[1][j[1]]]] = 0.75, 0.25  # rows to the sum 1
    expected[place[0][i[1]], place[1][j[1]]] = 1
    np.testing.assert_allclose(found[0, 1].toarray(), expected, rtol=1e-6)
    assert found[1, 0][place[1][j[0]], place[0][i[1]]] == 1
    assert found[1, 0].nnz == 1


def test_cells_alone_are_counted_on_both_sides():
    F = sp.csr_matrix(np.eye(3))
    assert n_alone(F) == (0, 0)
    assert n_alone(F[:2]) == (0, 1)
    assert n_alone(F[:, :2]) == (1, 0)
    assert n_alone(sp.csr_matrix(np.diag([1, 1, 0]))) == (1, 1)


def test_modalities_that_a_chain_of_pairs_ties():
    """0-1 and 1-2 share cells, 2-3 too few; 0-2 share none: only these two are tied by another."""
    F = {(a, b): sp.csr_matrix((30, 30), dtype=np.float32) for a in range(4) for b in range(a + 1, 4)}
    F[0, 1], F[1, 2] = (sp.eye(30, format="csr", dtype=np.float32) for _ in range(2))
    F[2, 3] = sp.diags((np.arange(30) < 5).astype(np.float32)).tocsr()
    F[2, 3].eliminate_zeros()
    assert tied_by_others(F, 4, at_least=10) == {(0, 2)}
    assert tied_by_others(F, 4, at_least=5) == {(0, 2), (0, 3), (1, 3)}
    F[0, 2] = sp.csr_matrix(([1.0], ([0], [0])), shape=(30, 30))
    assert tied_by_others(F, 4, at_least=10) == set()
