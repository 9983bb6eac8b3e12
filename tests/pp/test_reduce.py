from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import jamie_sc as jsc
from jamie_sc._compat import copy_of

SPARSE = [sp.csr_matrix, sp.csc_matrix]


@pytest.fixture
def counts(simulate):
    """Modalities of sparse counts."""
    return simulate(count_noise=True)


def restored(adata):
    pca = adata.uns["pca"]
    return adata.obsm["X_pca"] @ adata.varm["PCs"].T * pca["scale"] + pca["mean"]


def test_all_components_give_the_features_back(mdata):
    jsc.pp.reduce(mdata, n_components=100, clip=np.inf)
    for name, adata in mdata.mod.items():
        assert adata.obsm["X_pca"].shape == (adata.n_obs, adata.n_vars), name
        assert adata.obsm["X_pca"].dtype == np.float32
        np.testing.assert_allclose(restored(adata), adata.X, atol=1e-4)


def test_components_are_those_of_the_standardised_features(mdata):
    """Against an eigendecomposition of the correlation matrix."""
    jsc.pp.reduce(mdata, n_components=4, clip=np.inf)
    rna = mdata["rna"]
    Z = (rna.X - rna.X.mean(0)) / rna.X.std(0)
    values, vectors = np.linalg.eigh(np.corrcoef(rna.X.T))
    expected = Z @ vectors[:, :-5:-1]
    signs = np.sign((expected * rna.obsm["X_pca"]).sum(0))
    np.testing.assert_allclose(rna.obsm["X_pca"] * signs, expected, atol=1e-3)
    n = rna.n_obs
    np.testing.assert_allclose(rna.uns["pca"]["variance"], values[:-5:-1] * n / (n - 1), rtol=1e-3)


@pytest.mark.parametrize("form", SPARSE)
def test_sparse_is_not_densified_and_agrees_with_dense(counts, monkeypatch, form):
    dense = copy_of(counts)
    for name in counts.mod:
        X = counts[name].X.toarray()
        X[0, 0] = 20  # enough for counts
        dense[name].X, counts[name].X = X, form(X)
    jsc.pp.reduce(dense, n_components=5)
    with monkeypatch.context() as patch:
        for kind in (sp.csr_matrix, sp.csc_matrix, sp.coo_matrix):
            for method in ("toarray", "todense"):
                patch.setattr(kind, method, _refuse_features)
        jsc.pp.reduce(counts, n_components=5)
    for name in counts.mod:
        got, expected = counts[name].obsm["X_pca"], dense[name].obsm["X_pca"]
        signs = np.sign((got * expected).sum(0))
        np.testing.assert_allclose(got * signs, expected, atol=2e-2)
        assert type(counts[name].X) is form


def _refuse_features(self, *_, **__):
    """Vectors, such as the minimum of each feature, may be dense."""
    if 1 in self.shape:
        return np.asarray(sp.coo_array(self).todense())
    msg = "a sparse matrix was made dense"
    raise AssertionError(msg)


def test_number_of_components(mdata):
    jsc.pp.reduce(mdata, n_components={"rna": 3})
    assert mdata["rna"].obsm["X_pca"].shape == (64, 3)
    assert mdata["rna"].varm["PCs"].shape == (25, 3)
    assert 1 <= mdata["adt"].obsm["X_pca"].shape[1] <= 20
    assert mdata["rna"].uns["pca"]["params"]["n_components"] == 3


def test_modalities(mdata):
    jsc.pp.reduce(mdata, modalities=["adt"], n_components=3)
    assert "X_pca" in mdata["adt"].obsm
    assert "X_pca" not in mdata["rna"].obsm


def test_layer(mdata):
    other = copy_of(mdata)
    other["rna"].X = mdata["rna"].layers["sq"] = mdata["rna"].X ** 2
    jsc.pp.reduce(mdata, layer={"rna": "sq"}, n_components=4)
    jsc.pp.reduce(other, n_components=4)
    for name in mdata.mod:
        np.testing.assert_array_equal(mdata[name].obsm["X_pca"], other[name].obsm["X_pca"])
    assert mdata["rna"].uns["pca"]["params"]["layer"] == "sq"
    assert mdata["adt"].uns["pca"]["params"]["layer"] == "X"


def test_copy(mdata, unchanged):
    with unchanged(mdata):
        reduced = jsc.pp.reduce(mdata, n_components=3, copy=True)
    assert reduced["rna"].obsm["X_pca"].shape == (64, 3)
    assert list(reduced.obs.columns) == list(mdata.obs.columns)
    assert jsc.pp.reduce(mdata, n_components=3) is None


def test_clip_limits_an_outlier(mdata):
    mdata["rna"].X[0, 0] = 1e4
    jsc.pp.reduce(mdata, n_components=25, clip=3.0)
    pca = mdata["rna"].uns["pca"]
    limit = pca["mean"][0] + 3 * pca["scale"][0]
    assert restored(mdata["rna"])[0, 0] == pytest.approx(limit, rel=1e-3)


def test_counts_are_logged_at_equal_depth(counts):
    for name in counts.mod:
        X = counts[name].X.tolil()
        X[0, 0] = 20
        counts[name].X = X.tocsr()
    jsc.pp.reduce(counts, n_components=100, clip=np.inf)
    rna = counts["rna"]
    X = rna.X.toarray()
    totals = X.sum(1, keepdims=True)
    assert rna.uns["pca"]["params"]["target_sum"] == np.median(totals)
    np.testing.assert_allclose(restored(rna), np.log1p(X / totals * np.median(totals)), atol=1e-3)


def test_constant_feature_stays_constant(mdata):
    mdata["rna"].X[:, 2] = 7
    jsc.pp.reduce(mdata, n_components=5)
    np.testing.assert_allclose(restored(mdata["rna"])[:, 2], 7, rtol=1e-5)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"modalities": ["atac"]}, KeyError, "atac"),
        ({"layer": "log"}, KeyError, "log"),
        ({"n_components": {"atac": 3}}, KeyError, "n_components names.*atac"),
        ({"n_components": 0}, ValueError, "n_components"),
        ({"n_components": -1}, ValueError, "n_components"),
    ],
)
def test_errors(mdata, unchanged, asked, error, message):
    with unchanged(mdata), pytest.raises(error, match=message):
        jsc.pp.reduce(mdata, **asked)


def test_integrate_uses_what_is_there(mdata, quick):
    jsc.pp.reduce(mdata, n_components={"rna": 3, "adt": 4})
    jsc.tl.integrate(mdata, **quick)
    model = jsc.models.from_state(mdata.uns["jamie"]["model"])
    for name, k in (("rna", 3), ("adt", 4)):
        np.testing.assert_allclose(model.modality(name).inputs.components, mdata[name].varm["PCs"].T, rtol=1e-6)
        assert mdata[name].varm["PCs"].shape[1] == k


def test_integrate_refuses_what_is_stale(mdata, quick, unchanged):
    jsc.pp.reduce(mdata)
    mdata["rna"].X = 5 * mdata["rna"].X[::-1]
    with unchanged(mdata), pytest.raises(ValueError, match=r"'rna' are no longer those.*uns\['pca'\]"):
        jsc.tl.integrate(mdata, **quick)


def test_integrate_ignores_a_pca_of_another_making(mdata, quick):
    import scanpy as sc

    sc.pp.pca(mdata["rna"], n_comps=3)
    jsc.tl.integrate(mdata, **quick)
    assert "X_jamie" in mdata.obsm


def test_integrate_reduces_another_layer_itself(mdata, quick):
    jsc.pp.reduce(mdata, n_components=3)
    mdata["rna"].layers["sq"] = mdata["rna"].X ** 2
    jsc.tl.integrate(mdata, layer={"rna": "sq"}, **quick)
    model = jsc.models.from_state(mdata.uns["jamie"]["model"])
    assert model.modality("rna").inputs.n_components > 3
    assert model.modality("adt").inputs.n_components == 3
