from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata


@pytest.fixture(params=["mudata", "model", "folder"])
def reference(request, trained, tmp_path):
    """The three things that hold a trained model."""
    model = jsc.models.from_state(trained.uns["jamie"]["model"])
    if request.param == "folder":
        model.save(tmp_path / "model")
        return tmp_path / "model"
    return trained if request.param == "mudata" else model


def alone(mdata, name="rna"):
    return make_mudata({name: mdata[name].copy()})


def test_training_cells_get_their_training_embedding(mdata, trained, reference):
    assert jsc.tl.map_query(mdata, reference) is None
    for name, holder in {"": mdata, **mdata.mod}.items():
        expected = trained[name] if name else trained
        np.testing.assert_array_equal(holder.obsm["X_jamie"], expected.obsm["X_jamie"], err_msg=name)
    assert set(mdata.uns["jamie"]["model"]["weights"]) == set(trained.uns["jamie"]["model"]["weights"])


def test_one_modality_is_enough(mdata, trained, reference):
    query = alone(mdata)
    jsc.tl.map_query(query, reference)
    np.testing.assert_array_equal(query["rna"].obsm["X_jamie"], trained["rna"].obsm["X_jamie"])
    np.testing.assert_allclose(query.obsm["X_jamie"], trained["rna"].obsm["X_jamie"], rtol=1e-4, atol=1e-6)
    jsc.tl.impute(query, source="rna", target="rna")
    imputed = jsc.get.imputed(query, source="rna", target="adt")
    assert imputed.shape == (64, 20)
    np.testing.assert_array_equal(imputed.X, jsc.get.imputed(trained, source="rna", target="adt").X)


def test_cells_are_mapped_one_by_one(mdata, trained):
    query = alone(copy_of(mdata[:5]))
    jsc.tl.map_query(query, trained)
    expected = trained["rna"][query["rna"].obs_names].obsm["X_jamie"]
    np.testing.assert_allclose(query["rna"].obsm["X_jamie"], expected, rtol=1e-3, atol=1e-4)


def test_a_single_cell(mdata, trained):
    query = make_mudata({"rna": mdata["rna"][:1].copy()})
    jsc.tl.map_query(query, trained)
    np.testing.assert_allclose(query.obsm["X_jamie"], trained["rna"].obsm["X_jamie"][:1], rtol=1e-3, atol=1e-4)


def test_other_modalities_are_left_alone(mdata, trained):
    query = make_mudata({"rna": mdata["rna"].copy(), "atac": mdata["adt"].copy()})
    jsc.tl.map_query(query, trained)
    assert "X_jamie" not in query["atac"].obsm
    lacks = ~query.obs_names.isin(query["rna"].obs_names)
    np.testing.assert_array_equal(np.isnan(query.obsm["X_jamie"]).all(axis=1), lacks)


def test_features_permuted_and_further_ones(mdata, trained):
    import anndata as ad

    rna = mdata["rna"]
    more = ad.AnnData(np.ones((rna.n_obs, 2), dtype="float32"), rna.obs[[]])
    more.var_names = ["new1", "new2"]
    query = make_mudata({"rna": ad.concat([more, rna[:, ::-1]], axis=1)})
    jsc.tl.map_query(query, trained)
    np.testing.assert_allclose(query["rna"].obsm["X_jamie"], trained["rna"].obsm["X_jamie"], rtol=1e-4, atol=1e-5)
    assert query["rna"].n_vars == 27


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix])
def test_sparse_query(mdata, trained, form):
    query = alone(mdata)
    query["rna"].X = form(query["rna"].X)
    jsc.tl.map_query(query, trained)
    np.testing.assert_allclose(query["rna"].obsm["X_jamie"], trained["rna"].obsm["X_jamie"], rtol=1e-3, atol=1e-4)


def test_copy(mdata, trained, unchanged):
    query = alone(mdata)
    with unchanged(query), unchanged(trained):
        made = jsc.tl.map_query(query, trained, copy=True)
    np.testing.assert_array_equal(made["rna"].obsm["X_jamie"], trained["rna"].obsm["X_jamie"])


def test_view(mdata, trained, unchanged):
    with unchanged(mdata):
        view = mdata[:20]
        jsc.tl.map_query(view, trained)
    assert view.obsm["X_jamie"].shape == (20, 32)


def test_keys(mdata, trained, quick):
    reference = jsc.tl.integrate(trained, key_added="second", rng=1, copy=True, **quick)
    with pytest.raises(KeyError, match=r"\['jamie', 'second'\]"):
        jsc.tl.map_query(mdata, reference)
    jsc.tl.map_query(mdata, reference, key="second")
    np.testing.assert_array_equal(mdata.obsm["second"], reference.obsm["second"])
    jsc.tl.map_query(mdata, reference, key="X_jamie", key_added="third")
    np.testing.assert_array_equal(mdata.obsm["third"], reference.obsm["X_jamie"])
    assert "X_jamie" not in mdata.obsm
    jsc.tl.impute(mdata, source="rna", target="adt", key="third")
    assert "third_from_rna" in mdata["adt"].layers


def test_layer_of_the_training(mdata, quick):
    for adata in mdata.mod.values():
        adata.layers["sq"] = adata.X**2
    reference = jsc.tl.integrate(mdata, layer="sq", copy=True, **quick)
    jsc.tl.map_query(mdata, reference)
    np.testing.assert_array_equal(mdata.obsm["X_jamie"], reference.obsm["X_jamie"])
    del mdata["rna"].layers["sq"]
    with pytest.raises(KeyError, match=r"mdata\['rna'\]\.layers\['sq'\]"):
        jsc.tl.map_query(mdata, reference)


def test_use_rep_of_the_training(mdata, quick, unchanged):
    mdata["rna"].obsm["X_mine"] = np.random.default_rng(0).standard_normal((64, 3))
    reference = jsc.tl.integrate(mdata, use_rep={"rna": "X_mine"}, copy=True, **quick)
    jsc.tl.map_query(mdata, reference)
    np.testing.assert_array_equal(mdata.obsm["X_jamie"], reference.obsm["X_jamie"])
    mdata["rna"].obsm["X_mine"] = mdata["rna"].obsm["X_mine"][:, :2]
    with unchanged(mdata), pytest.raises(ValueError, match=r"mdata\['rna'\]\.obsm\['X_mine'\] has 2 dimensions.* 3"):
        jsc.tl.map_query(mdata, reference)


# Errors -------------------------------------------------------------------------------------------------------------


def test_missing_features(mdata, trained, edit, unchanged):
    edit(mdata, adt=mdata["adt"][:, 3:].copy())
    with unchanged(mdata), pytest.raises(ValueError, match=r"3 of the 20 features.*'adt' are missing: 'adt0', 'adt1'"):
        jsc.tl.map_query(mdata, trained)


def test_no_modality_in_common(mdata, trained, unchanged):
    query = make_mudata({"atac": mdata["rna"].copy()})
    with unchanged(query), pytest.raises(KeyError, match=r"\['atac'\].*\['rna', 'adt'\]"):
        jsc.tl.map_query(query, trained)


def test_nan(mdata, trained, unchanged):
    mdata["adt"].X[0, 0] = np.nan
    with unchanged(mdata), pytest.raises(ValueError, match="'adt' holds 1 NaN"):
        jsc.tl.map_query(mdata, trained)


def test_untrained_reference(mdata, unchanged):
    with unchanged(mdata), pytest.raises(KeyError, match=r"tl\.integrate"):
        jsc.tl.map_query(mdata, mdata)


def test_folder_without_a_model(mdata, tmp_path, unchanged):
    with unchanged(mdata), pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        jsc.tl.map_query(mdata, str(tmp_path))


def test_query_is_no_mudata(mdata, trained):
    with pytest.raises(TypeError, match="AnnData"):
        jsc.tl.map_query(mdata["rna"], trained)
