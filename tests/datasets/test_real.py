from __future__ import annotations

import builtins
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import issparse

from jamie_sc import datasets
from jamie_sc.datasets._manifest import read_manifest


def needs(name):
    folder = Path(os.environ.get("JAMIE_SC_DATA_DIR", "/no folder"))
    missing = [file.name for file in read_manifest(name).files if not (folder / file.name).is_file()]
    return pytest.mark.skipif(bool(missing), reason=f"JAMIE_SC_DATA_DIR lacks {', '.join(missing)}")


@pytest.fixture(scope="module")
def motor():
    pytest.importorskip("pyreadr")
    return datasets.patchseq_motor()


@pytest.fixture(scope="module")
def cite():
    return datasets.bmmc_cite()


@pytest.fixture(scope="module")
def scgem():
    return datasets.scgem()


@needs("patchseq_motor")
class TestPatchseqMotor:
    def test_shapes(self, motor):
        assert {name: adata.shape for name, adata in motor.mod.items()} == {"rna": (1208, 1286), "ephys": (1208, 29)}
        assert motor.n_obs == 1208
        assert motor.var_names.is_unique
        assert motor["rna"].obs_names.equals(motor["ephys"].obs_names)
        assert motor.obs_names[0] == "20171204_sample_2"

    def test_types(self, motor):
        counts = {
            "Pvalb": 289,
            "Sst": 271,
            "IT": 238,
            "Vip": 153,
            "CT": 100,
            "Lamp5": 91,
            "ET": 48,
            "Sncg": 13,
            "NP": 5,
        }
        for data in (motor, *motor.mod.values()):
            assert data.obs["cell_type"].value_counts().to_dict() == counts
            assert data.obs["batch"].nunique() == 12

    def test_obs_is_typed_and_mended(self, motor):
        assert set(motor.obs["Inferred layer"].cat.categories) == {"1", "2/3", "5", "6"}
        assert motor.obs["Soma depth (µm)"].max() < 2000
        assert not motor.obs.columns.str.contains("/").any(), "h5mu refuses such a key"

    def test_values(self, motor):
        rna, ephys = motor["rna"], motor["ephys"]
        assert all(adata.X.dtype == np.float32 for adata in motor.mod.values())
        assert np.isfinite(ephys.X).all()
        np.testing.assert_array_equal(rna.X, rna.X.round())
        assert rna.X.min() == 0
        np.testing.assert_array_equal(rna.X, rna.layers["counts"])
        assert not np.shares_memory(rna.X, rna.layers["counts"])

    def test_the_cells_of_a_type_express_its_gene(self, motor):
        rna = motor["rna"]
        for gene in ("Pvalb", "Sst", "Vip", "Lamp5", "Sncg"):
            means = rna.to_df()[gene].groupby(rna.obs["cell_type"], observed=True).mean()
            assert means.idxmax() == gene

    def test_missing_pyreadr_says_what_to_install(self, monkeypatch):
        real = builtins.__import__

        def fake(name, *args, **kwargs):
            if name == "pyreadr":
                raise ImportError(name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", fake)
        with pytest.raises(ImportError, match=r'pip install "jamie_sc\[datasets\]"'):
            datasets.patchseq_motor()


@needs("bmmc_cite")
class TestBmmcCite:
    def test_shapes(self, cite):
        assert {name: adata.shape for name, adata in cite.mod.items()} == {"rna": (600, 1000), "adt": (600, 134)}
        assert cite.n_obs == 600
        assert cite["rna"].obs_names.equals(cite["adt"].obs_names)

    def test_labels(self, cite):
        for data in (cite, *cite.mod.values()):
            assert data.obs["batch"].value_counts().to_dict() == {"s1d1": 311, "s1d2": 289}
            assert data.obs["cell_type"].nunique() == 41
        assert {"pseudotime_order_GEX", "pseudotime_order_ADT"} <= set(cite.obs)

    def test_names_are_unique_across_modalities(self, cite):
        assert cite.var_names.is_unique
        assert {name for name in cite["adt"].var_names if ":" in name} == {"adt:CD36", "adt:CD69", "adt:HLA-E"}

    def test_rna(self, cite):
        rna = cite["rna"]
        assert issparse(rna.X)
        assert rna.X.format == "csr"
        counts = rna.layers["counts"].toarray()
        assert (counts == counts.round()).all()
        expected = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1000)
        np.testing.assert_allclose(rna.X.toarray(), expected, rtol=1e-5)

    def test_adt(self, cite):
        adt = cite["adt"]
        counts = adt.layers["counts"].toarray()
        assert (counts == counts.round()).all()
        np.testing.assert_allclose(adt.X.mean(axis=1), 0, atol=1e-5)
        np.testing.assert_allclose(np.diff(adt.X, axis=1), np.diff(np.log1p(counts), axis=1), atol=1e-5)


@needs("scgem")
class TestScgem:
    def test_shapes(self, scgem):
        assert {name: adata.shape for name, adata in scgem.mod.items()} == {"rna": (177, 34), "methylation": (177, 27)}
        assert scgem.n_obs == 177
        assert scgem["rna"].obs_names.equals(scgem["methylation"].obs_names)
        assert scgem["rna"].obs_names[[0, -1]].tolist() == ["cell1", "cell177"]
        assert scgem.var_names.is_unique
        assert scgem["rna"].var_names[[0, -1]].tolist() == ["gene1", "gene34"]
        assert scgem["methylation"].var_names[[0, -1]].tolist() == ["locus1", "locus27"]

    def test_types_are_in_the_order_of_the_experiment(self, scgem):
        counts = {"BJ": 35, "d8": 40, "d16T+": 32, "d24T+": 36, "iPS": 34}
        for data in (scgem, *scgem.mod.values()):
            assert data.obs["cell_type"].cat.categories.tolist() == list(counts)
            assert data.obs["cell_type"].value_counts().to_dict() == counts

    def test_values(self, scgem):
        rna, methylation = scgem["rna"].X, scgem["methylation"].X
        assert rna.dtype == methylation.dtype == np.float32
        assert set(np.unique(methylation)) == {0, 1}
        assert rna.min() == 0
        assert 2 < rna[rna > 0].min() < rna.max() < 26
        assert (rna == 0).mean() == pytest.approx(0.62, abs=0.005)
        assert scgem["rna"].var_names[rna.max(axis=0) == 0].tolist() == ["gene28", "gene30"]

    def test_rows_are_those_of_the_files(self, scgem):
        files = datasets.fetch("scgem")
        for name, file in (("rna", "GeneExpression"), ("methylation", "DNAmethylation")):
            table = np.loadtxt(files[f"scGEM_{file}.txt"])
            np.testing.assert_allclose(scgem[name].X, table, rtol=1e-6)
