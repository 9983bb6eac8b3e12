from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import jamie_sc as jsc


@pytest.mark.parametrize(("source", "target"), [("rna", "adt"), ("adt", "rna"), ("rna", "rna")])
def test_every_cell_of_the_source(trained, unchanged, source, target):
    with unchanged(trained):
        adata = jsc.get.imputed(trained, source=source, target=target)
    assert list(adata.obs_names) == list(trained[source].obs_names)
    assert list(adata.var_names) == list(trained[target].var_names)
    assert adata.X.dtype == np.float32
    assert np.isfinite(adata.X).all()
    np.testing.assert_allclose(adata.obsm["X_jamie"], trained[source].obsm["X_jamie"], rtol=1e-5)


def test_same_values_as_impute_writes(trained):
    adata = jsc.get.imputed(trained, source="rna", target="adt")
    jsc.tl.impute(trained, source="rna", target="adt")
    layer = trained["adt"].to_df("jamie_from_rna").dropna()
    np.testing.assert_array_equal(adata[layer.index].X, layer)


def test_obs_of_the_source_and_of_the_mudata(trained):
    trained["rna"].obs["depth"] = np.arange(64)
    trained.obs["donor"] = trained.obs_names.str[-1]
    trained.obs["cell_type"] = "of the MuData"
    obs = jsc.get.imputed(trained, source="rna", target="adt").obs
    assert obs["depth"].tolist() == list(range(64))
    assert obs["donor"].tolist() == list(obs.index.str[-1])
    assert obs["cell_type"].tolist() == trained["rna"].obs["cell_type"].tolist()


@pytest.mark.parametrize("wanted", [["adt7", "adt2", "adt11"], "adt4", pd.Index(["adt0"])])
def test_var_names(trained, wanted):
    whole = jsc.get.imputed(trained, source="rna", target="adt")
    part = jsc.get.imputed(trained, source="rna", target="adt", var_names=wanted)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    assert list(part.var_names) == names
    np.testing.assert_allclose(part.X, whole[:, names].X, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"var_names": ["adt1", "CD4", "CD8"]}, "'adt': 'CD4', 'CD8'.*'adt0'"),
        ({"target": "atac"}, r"'atac'.*\['rna', 'adt'\]"),
        ({"source": "atac"}, r"'atac'.*\['rna', 'adt'\]"),
        ({"key": "scvi"}, "'scvi'"),
    ],
)
def test_unknown_names(trained, asked, message):
    with pytest.raises(KeyError, match=message):
        jsc.get.imputed(trained, **({"source": "rna", "target": "adt"} | asked))


def test_added_cells_are_no_source(trained):
    jsc.tl.impute(trained, source="rna", target="adt", extend=True)
    assert jsc.get.imputed(trained, source="adt", target="rna").n_obs == 64
    assert jsc.get.imputed(trained, source="rna", target="adt").n_obs == 64
