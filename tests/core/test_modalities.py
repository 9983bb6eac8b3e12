"""Reading a MuData: what is accepted, what is refused, and that nothing is changed on the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData, read_h5mu

from jamie_sc._compat import make_mudata, no_pull
from jamie_sc._core._modalities import cell_index, per_modality, read_modalities


def cells(n, names=None, n_vars=3, X=None):
    X = np.random.default_rng(n).standard_normal((n, n_vars)) if X is None else X
    names = [f"c{i}" for i in range(n)] if names is None else names
    return AnnData(X, pd.DataFrame(index=names), pd.DataFrame(index=[f"g{i}" for i in range(X.shape[1])]))


COUNTS = np.random.default_rng(0).poisson(2.0, (12, 4))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array])
def test_any_matrix_is_read_as_float32_and_sparse_stays_sparse(form, dtype):
    X = form(COUNTS.astype(dtype))
    mdata = make_mudata({"rna": cells(12, X=X)})
    (rna,) = read_modalities(mdata)
    assert rna.X.dtype == np.float32
    assert sp.issparse(rna.X) == sp.issparse(X)
    read = rna.X.toarray() if sp.issparse(rna.X) else rna.X
    np.testing.assert_array_equal(read, COUNTS.astype(dtype).astype("float32"))
    assert type(mdata["rna"].X) is type(X)
    assert mdata["rna"].X.dtype == dtype


def test_backed_file(tmp_path, mdata):
    mdata["adt"].X = sp.csr_matrix(mdata["adt"].X)
    with no_pull():
        mdata.write(tmp_path / "cells.h5mu")
        backed = read_h5mu(tmp_path / "cells.h5mu", backed="r")
        for got, expected in zip(read_modalities(backed), read_modalities(mdata), strict=True):
            np.testing.assert_array_equal(_dense(got.X), _dense(expected.X))
        backed.file.close()


def _dense(X):
    return X.toarray() if sp.issparse(X) else X


def test_layer_and_use_rep_per_modality(mdata, unchanged):
    mdata["rna"].layers["twice"] = 2 * mdata["rna"].X
    mdata["adt"].obsm["X_other"] = np.arange(mdata["adt"].n_obs * 2).reshape(-1, 2)
    with unchanged(mdata):
        rna, adt = read_modalities(mdata, layer={"rna": "twice"}, use_rep={"adt": "X_other"})
    np.testing.assert_array_equal(rna.X, 2 * mdata["rna"].X)
    np.testing.assert_array_equal(adt.X, mdata["adt"].X)
    np.testing.assert_array_equal(adt.rep, mdata["adt"].obsm["X_other"])
    assert (rna.layer, rna.rep, adt.layer, adt.use_rep) == ("twice", None, None, "X_other")


def test_use_rep_X_means_the_features(mdata):
    assert all(m.rep is None for m in read_modalities(mdata, use_rep="X"))


def test_rows_are_those_of_the_mudata_whatever_the_order(mdata):
    for m in read_modalities(mdata):
        assert list(mdata.obs_names[m.rows]) == list(m.obs_names) == list(mdata[m.name].obs_names)
        assert list(m.var_names) == list(mdata[m.name].var_names)


def test_view_is_read_with_its_own_rows(mdata):
    view = mdata[mdata.obs_names[::-2]]
    for m in read_modalities(view):
        assert list(view.obs_names[m.rows]) == list(m.obs_names)
        whole = mdata[m.name]
        np.testing.assert_array_equal(m.X, whole[m.obs_names].X)


def test_modalities_in_the_order_asked_for(mdata):
    assert [m.name for m in read_modalities(mdata, modalities=["adt", "rna"])] == ["adt", "rna"]
    assert [m.name for m in read_modalities(mdata, modalities="adt")] == ["adt"]


def test_modality_subset_in_place(mdata):
    """The container is stale, but names tell which cell is which."""
    mdata["rna"]._inplace_subset_obs(np.arange(10))
    rna = read_modalities(mdata, modalities=["rna"])[0]
    assert rna.X.shape[0] == 10
    assert list(mdata.obs_names[rna.rows]) == list(mdata["rna"].obs_names)


def test_modality_with_new_names_is_refused_until_update(mdata):
    mdata["rna"].obs_names = [f"new{i}" for i in range(mdata["rna"].n_obs)]
    with pytest.raises(ValueError, match=r"64 cells of modality 'rna' .*mdata\.update\(\)"):
        read_modalities(mdata)


def test_shared_features_are_refused():
    with no_pull():
        mdata = MuData({"a": cells(5), "b": cells(5, ["x1", "x2", "x3", "x4", "x5"])}, axis=1)
    with pytest.raises(ValueError, match="axis=1"):
        read_modalities(mdata)


def test_no_mudata():
    with pytest.raises(TypeError, match="AnnData.*MuData"):
        read_modalities(cells(5))


@pytest.mark.filterwarnings("ignore:Observation names", "ignore:obs_names", "ignore:Cannot join", "ignore:var_names")
@pytest.mark.parametrize("read", [read_modalities, cell_index])
def test_duplicate_cell_names(read):
    mdata = make_mudata({"rna": cells(4, ["a", "b", "b", "c"]), "adt": cells(4)})
    with pytest.raises(ValueError, match=r"'rna' has 1 cell names more than once \('b'\).*obs_names"):
        read(mdata)


@pytest.mark.filterwarnings("ignore:Variable names")
def test_duplicate_feature_names(mdata):
    mdata["rna"].var_names = ["g", "g", *mdata["rna"].var_names[2:]]
    with pytest.raises(ValueError, match=r"'rna' has 1 feature names more than once \('g'\).*var_names_make_unique"):
        read_modalities(mdata)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_and_located(form, bad):
    X = COUNTS.astype("float32")
    X[3, 1] = X[3, 2] = X[7, 1] = bad
    mdata = make_mudata({"rna": cells(12, X=form(X))})
    message = r"X of modality 'rna' holds 3 NaN or infinite values, in 2 cells \(first: row 3\) and 2 features \(first: column 1\)"
    with pytest.raises(ValueError, match=message):
        read_modalities(mdata)


def test_nan_in_a_representation(mdata):
    mdata["adt"].obsm["X_rep"] = np.full((mdata["adt"].n_obs, 2), np.nan)
    with pytest.raises(ValueError, match=r"obsm\['X_rep'\] of modality 'adt' holds 128 NaN"):
        read_modalities(mdata, use_rep={"adt": "X_rep"})


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_constant(form, value):
    mdata = make_mudata({"rna": cells(6, X=form(np.full((6, 4), value)))})
    with pytest.raises(ValueError, match=r"X of modality 'rna' is constant: each of its 4 features .* 6 cells"):
        read_modalities(mdata)


def test_some_constant_features_are_fine():
    X = COUNTS.copy()
    X[:, 0] = 5
    assert read_modalities(make_mudata({"rna": cells(12, X=X)}))[0].X.shape == (12, 4)


def test_empty(mdata, edit):
    edit(mdata, rna=mdata["rna"][:, :0].copy())
    with pytest.raises(ValueError, match="'rna' is empty: 64 cells x 0 features"):
        read_modalities(mdata)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"modalities": ["rna", "atac"]}, r"no modality 'atac'.*\['rna', 'adt'\]"),
        ({"layer": "counts"}, r"mdata\['rna'\]\.layers\['counts'\]"),
        ({"layer": {"atac": "counts"}}, r"layer names the modalities \['atac'\]"),
        ({"use_rep": "X_pca"}, r"mdata\['rna'\]\.obsm\['X_pca'\].*latent"),
        ({"use_rep": {"atac": "X_pca"}}, r"use_rep names the modalities \['atac'\]"),
    ],
)
def test_unknown_names(mdata, asked, message):
    with pytest.raises(KeyError, match=message):
        read_modalities(mdata, **asked)


def test_too_few_modalities(mdata):
    with pytest.raises(ValueError, match=r"Only 1 modality \(rna\)"):
        read_modalities(mdata, modalities=["rna"], at_least=2)


@pytest.mark.parametrize("dtype", [complex, object, "U1"])
def test_values_that_are_no_numbers(mdata, dtype):
    mdata["rna"].layers["odd"] = np.full(mdata["rna"].shape, 1, dtype=dtype)
    with pytest.raises(ValueError, match="'rna'.*not a real number"):
        read_modalities(mdata, layer={"rna": "odd"})


def test_modality_without_X():
    mdata = make_mudata({"rna": cells(5)})
    mdata["rna"].X = None
    with pytest.raises(ValueError, match="'rna' has no X.*layer="):
        read_modalities(mdata)


def test_per_modality():
    assert per_modality("layer", "a", ["x", "y"]) == {"x": "a", "y": "a"}
    assert per_modality("layer", {"y": "a"}, ["x", "y"]) == {"x": None, "y": "a"}


# What the user says of cells ----------------------------------------------------------------------------------------


@pytest.fixture
def annotated(mdata):
    """A modality with everything that it may have."""
    rna = read_modalities(mdata, modalities=["rna"])[0]
    numbers = np.arange(rna.n_obs)
    return replace(
        rna,
        rep=np.stack([numbers, -numbers], axis=1).astype(np.float32),
        likelihood="nb",
        batches={
            "donor": np.array([f"d{i}" for i in numbers], object),
            "run": np.array([str(i) for i in numbers], object),
        },
        labels=np.array([None if i % 3 else f"type{i}" for i in numbers], object),
    )


def test_reading_says_nothing_of_batches_labels_and_likelihood(mdata):
    for m in read_modalities(mdata):
        assert (m.likelihood, m.labels, dict(m.batches)) == (None, None, {})


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ["rows", "mask", "twice", "none"])
def test_take_keeps_together_what_belongs_to_a_cell(annotated, sparse, kind):
    n = annotated.n_obs
    rows = {
        "rows": np.array([9, 0, 4]),
        "mask": np.arange(n) % 2 == 0,
        "twice": np.array([3, 3]),
        "none": np.array([], int),
    }
    whole = replace(annotated, X=sp.csr_matrix(annotated.X)) if sparse else annotated
    part, numbers = whole.take(rows[kind]), np.arange(n)[rows[kind]]
    assert part.n_obs == len(numbers)
    np.testing.assert_array_equal(_dense(part.X), annotated.X[numbers])
    np.testing.assert_array_equal(part.rep[:, 0], numbers)
    np.testing.assert_array_equal(part.rows, annotated.rows[numbers])
    assert list(part.obs_names) == [annotated.obs_names[i] for i in numbers]
    assert list(part.batches["donor"]) == [f"d{i}" for i in numbers]
    assert list(part.batches["run"]) == [str(i) for i in numbers]
    assert list(part.labels) == [None if i % 3 else f"type{i}" for i in numbers]
    assert list(part.var_names) == list(annotated.var_names)
    assert (part.name, part.layer, part.use_rep, part.likelihood) == ("rna", None, None, "nb")


def test_take_leaves_the_whole_as_it_is(annotated):
    before = annotated.n_obs
    part = annotated.take(np.array([1]))
    part.batches["donor"][0] = part.labels[0] = "changed"
    part.X[0] = 0
    assert annotated.n_obs == before
    assert annotated.batches["donor"][1] == "d1"
    assert annotated.labels[1] is None
    assert annotated.X[1].any()


def test_take_of_a_modality_without_annotation(mdata):
    part = read_modalities(mdata)[0].take(np.arange(5))
    assert (part.n_obs, part.rep, part.labels, dict(part.batches)) == (5, None, None, {})
