"""What `tl.explain` found as a `shap.Explanation`."""

from __future__ import annotations

import mudata as md
import numpy as np
import pytest
import scipy.sparse as sp
import shap

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata, no_pull


@pytest.fixture(scope="module")
def _explained(_trained):
    mdata = copy_of(_trained)
    jsc.tl.explain(mdata, source="rna", target="adt", features=["adt4", "adt1", "adt0"], cells=12, progress=False)
    return mdata


@pytest.fixture
def explained(_explained):
    return copy_of(_explained)


def test_several_outputs(explained):
    got, record = jsc.get.shap(explained), explained.uns["jamie_shap"]
    assert isinstance(got, shap.Explanation)
    assert got.values.shape == (12, 25, 3)
    assert got.base_values.shape == (12, 3)
    assert got.data.shape == (12, 25)
    assert list(got.output_names) == ["adt4", "adt1", "adt0"]
    assert list(got.feature_names) == list(explained["rna"].var_names)
    np.testing.assert_array_equal(got.values, record["values"])
    np.testing.assert_array_equal(got.base_values, np.tile(record["base_values"], (12, 1)))


def test_one_output(explained):
    record = explained.uns["jamie_shap"]
    for i, name in enumerate(["adt4", "adt1", "adt0"]):
        got = jsc.get.shap(explained, output=name)
        assert got.output_names == name
        np.testing.assert_array_equal(got.values, record["values"][..., i])
        np.testing.assert_array_equal(got.base_values, np.full(12, record["base_values"][i]))


def test_single_output_needs_no_name(trained):
    jsc.tl.explain(trained, source="rna", latent=2, cells=5, progress=False)
    got = jsc.get.shap(trained)
    assert got.values.shape == (5, 25)
    assert got.base_values.shape == (5,)
    assert got.output_names == "latent 2"


def test_it_adds_up_cell_by_cell(explained):
    got = jsc.get.shap(explained, output="adt1")
    cells = explained.uns["jamie_shap"]["cells"]
    imputed = jsc.get.imputed(explained, source="rna", target="adt")[cells, "adt1"].X[:, 0]
    np.testing.assert_allclose(got.values.sum(axis=1) + got.base_values, imputed, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_data_are_the_values_of_the_cells(explained, form):
    """On the scale of X, by name, in whatever order and form they now are."""
    expected = explained["rna"].to_df().loc[explained.uns["jamie_shap"]["cells"]]
    rna = explained["rna"][::-1, ::-1].copy()
    rna.X = form(rna.X)
    turned = make_mudata({"rna": rna})
    turned.uns["jamie_shap"] = explained.uns["jamie_shap"]
    got = jsc.get.shap(turned)
    assert isinstance(got.data, np.ndarray)
    np.testing.assert_array_equal(got.data, expected)


def test_data_of_a_layer(mdata, quick):
    mdata["rna"].layers["other"] = mdata["rna"].X * 3
    jsc.tl.integrate(mdata, layer={"rna": "other"}, **quick)
    jsc.tl.explain(mdata, source="rna", latent=0, cells=5, progress=False)
    expected = mdata["rna"].to_df("other").loc[mdata.uns["jamie_shap"]["cells"]]
    np.testing.assert_array_equal(jsc.get.shap(mdata).data, expected)


def test_cells_that_have_gone_are_left_out(explained):
    cells = explained.uns["jamie_shap"]["cells"]
    part = explained[list(cells[[1, 7]]) + [n for n in explained.obs_names if n not in cells]]
    got = jsc.get.shap(part, output="adt4")
    np.testing.assert_array_equal(got.values, explained.uns["jamie_shap"]["values"][[1, 7], :, 0])
    np.testing.assert_array_equal(got.data, explained["rna"].to_df().loc[cells[[1, 7]]])
    assert got.base_values.shape == (2,)


def test_features_that_have_gone(explained):
    part = make_mudata({"rna": explained["rna"][:, 3:].copy()})
    part.uns["jamie_shap"] = explained.uns["jamie_shap"]
    with pytest.raises(KeyError, match=r"3 features of 'rna'.*no longer there: 'rna0', 'rna1', 'rna2'"):
        jsc.get.shap(part)


def test_nothing_is_changed(explained, unchanged):
    with unchanged(explained):
        jsc.get.shap(explained)


def test_after_a_file(explained, tmp_path):
    with no_pull():
        explained.write(tmp_path / "a.h5mu")
        reread = md.read_h5mu(tmp_path / "a.h5mu")
    before, after = jsc.get.shap(explained), jsc.get.shap(reread)
    for part in ("values", "base_values", "data"):
        np.testing.assert_array_equal(getattr(before, part), getattr(after, part))
    assert list(after.output_names) == list(before.output_names)
    assert list(after.feature_names) == list(before.feature_names)


def test_key(explained):
    jsc.tl.explain(explained, source="adt", latent=0, cells=5, key_added="other", progress=False)
    with pytest.raises(KeyError, match=r"several results of jamie_sc.tl.explain: \['jamie_shap', 'other'\].*key="):
        jsc.get.shap(explained)
    assert jsc.get.shap(explained, key="other").shape == (5, 20)
    assert jsc.get.shap(explained, key="jamie_shap").shape == (12, 25, 3)


def test_errors(explained, trained):
    with pytest.raises(KeyError, match=r"'adt9' was not explained. There are \['adt4', 'adt1', 'adt0'\]"):
        jsc.get.shap(explained, output="adt9")
    with pytest.raises(KeyError, match=r"holds no 'jamie' of jamie_sc.tl.explain; it has \['jamie_shap'\]"):
        jsc.get.shap(explained, key="jamie")
    with pytest.raises(KeyError, match=r"Run jamie_sc.tl.explain\(mdata, ...\) first"):
        jsc.get.shap(trained)
