from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import issparse
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from jamie_sc.datasets import simulated

SMALL = {"n_features": (20, 30)}


def test_default_is_the_simulation_of_the_paper():
    mdata = simulated()
    assert list(mdata.mod) == ["modality1", "modality2"]
    assert mdata["modality1"].shape == (300, 1000)
    assert mdata["modality2"].shape == (300, 2000)
    assert mdata.var_names.is_unique
    assert list(mdata.obs.columns) == ["cell_type"]
    assert mdata.obs["cell_type"].value_counts().to_dict() == {"branch 1": 100, "branch 2": 100, "branch 3": 100}
    for adata in mdata.mod.values():
        assert adata.X.dtype == np.float32
        assert adata.obs_names.equals(mdata.obs_names)


@pytest.mark.parametrize("options", [{}, {"paired_fraction": 0.3, "shuffle": True}, {"n_cells": (50, 80)}])
def test_container_and_modalities_agree_on_each_cell(options):
    mdata = simulated(**SMALL, **options)
    for adata in mdata.mod.values():
        rows = mdata.obs_names.get_indexer(adata.obs_names)
        np.testing.assert_array_equal(mdata.obsm["latent"][rows], adata.obsm["latent"])
        assert mdata.obs["cell_type"].iloc[rows].equals(adata.obs["cell_type"])


def test_same_rng_same_numbers_and_global_state_untouched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second, other = simulated(**SMALL), simulated(**SMALL), simulated(**SMALL, rng=1)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    for name in first.mod:
        np.testing.assert_array_equal(first[name].X, second[name].X)
        assert not np.array_equal(first[name].X, other[name].X)
    np.testing.assert_array_equal(first["modality1"].X, simulated(**SMALL, rng=np.random.default_rng(0))["modality1"].X)


@pytest.mark.parametrize("fraction", [0.0, 0.25, 1.0])
def test_paired_fraction_is_by_name(fraction):
    mdata = simulated(200, paired_fraction=fraction, **SMALL)
    first, second = (set(adata.obs_names) for adata in mdata.mod.values())
    assert len(first & second) == 200 * fraction
    assert len(first) == len(second) == 100 + 100 * fraction
    assert mdata.n_obs == 200


def test_unequal_sizes():
    mdata = simulated((50, 80), paired_fraction=0.5, **SMALL)
    first, second = (set(adata.obs_names) for adata in mdata.mod.values())
    assert (len(first), len(second), len(first & second)) == (50, 80, 25)


def test_shuffle_gives_each_modality_its_order():
    mdata = simulated(100, shuffle=True, **SMALL)
    first, second = mdata["modality1"].obs_names, mdata["modality2"].obs_names
    assert set(first) == set(second)
    assert list(first) != list(second)


def test_three_modalities():
    mdata = simulated(90, n_features=(5, 6, 7), paired_fraction=0.5)
    assert [adata.shape for adata in mdata.mod.values()] == [(60, 5), (60, 6), (60, 7)]
    shared = set.intersection(*(set(adata.obs_names) for adata in mdata.mod.values()))
    assert len(shared) == 45


def test_counts():
    mdata = simulated(100, count_noise=True, **SMALL)
    for adata in mdata.mod.values():
        assert issparse(adata.X)
        assert issparse(adata.layers["counts"])
        values = adata.X.toarray()
        assert (values >= 0).all()
        assert (values == values.round()).all()
        assert values.max() > 3
        np.testing.assert_array_equal(values, adata.layers["counts"].toarray())


def test_noise_is_the_modality_s_own():
    quiet, noisy = simulated(n_features=(50, 50), noise=0), simulated(n_features=(50, 50), noise=(0, 0.5))
    np.testing.assert_allclose(quiet["modality1"].X.std(axis=0), 1, rtol=1e-3)
    np.testing.assert_allclose(quiet["modality2"].X.std(axis=0), 1, rtol=1e-3)
    difference = noisy["modality2"].X - quiet["modality2"].X
    assert difference.std() == pytest.approx(0.5, rel=0.05)
    np.testing.assert_allclose(noisy["modality1"].X, quiet["modality1"].X)


def test_latent_predicts_features_and_types():
    mdata = simulated(n_features=(100, 200), n_latent=2)
    latent = mdata.obsm["latent"]
    for adata, least in zip(mdata.mod.values(), (0.95, 0.9), strict=True):
        predicted = cross_val_predict(KNeighborsRegressor(5), latent, adata.X)
        assert np.median(r2_score(adata.X, predicted, multioutput="raw_values")) > least
    assert cross_val_score(KNeighborsClassifier(20), latent, mdata.obs["cell_type"]).mean() > 0.94


def test_number_of_branches():
    assert simulated(50, n_branches=5, **SMALL).obs["cell_type"].nunique() == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_features": (10,)}, "n_features.*two or more"),
        ({"n_features": 10}, "n_features.*two or more"),
        ({"n_branches": 0}, "n_branches"),
        ({"noise": (-1, 1)}, "noise"),
        ({"paired_fraction": 1.5}, "paired_fraction"),
        ({"n_cells": (10, 20, 30)}, "n_cells has 3 numbers and n_features 2"),
        ({"n_cells": 1, "paired_fraction": 0}, "without cells"),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        simulated(**options)
