from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

import jamie_sc as jsc
from jamie_sc._compat import make_mudata

PCA = {"basis": "pca", "show": False}
"""Quicker than UMAP."""


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def points(ax):
    """Position and colour of every point."""
    scatter = ax.collections[0]
    return np.asarray(scatter.get_offsets()), [to_hex(color) for color in scatter.get_facecolors()]


def test_a_point_for_each_cell_of_each_modality(trained, unchanged):
    with unchanged(trained):
        ax = jsc.pl.embedding(trained, **PCA)
    assert isinstance(ax, Axes)
    offsets, colors = points(ax)
    assert offsets.shape == (128, 2)
    assert np.isfinite(offsets).all()
    assert sorted(legend(ax)) == ["adt", "rna"]
    assert sorted(map(colors.count, set(colors))) == [64, 64]


def test_pca_is_that_of_all_latents_together(trained):
    offsets, _ = points(jsc.pl.embedding(trained, **PCA))
    Z = np.concatenate([trained[name].obsm["X_jamie"] for name in trained.mod])
    variance = np.linalg.eigvalsh(np.cov(Z.T))[:-3:-1]
    np.testing.assert_allclose(offsets.var(axis=0, ddof=1), variance, rtol=1e-2)


def test_umap_by_default(trained):
    ax = jsc.pl.embedding(trained, color="cell_type", show=False)
    assert ax.get_xlabel() == "UMAP1"
    assert len(points(ax)[0]) == 128
    assert legend(ax) == ["branch 1", "branch 2", "branch 3"]


def test_one_panel_a_colour(trained):
    axes = jsc.pl.embedding(trained, color=["cell_type", "modality"], **PCA)
    assert [ax.get_title() for ax in axes] == ["cell_type", "modality"]
    assert [len(legend(ax)) for ax in axes] == [3, 2]


def test_numbers_get_a_colour_bar(trained):
    trained.obs["depth"] = np.linspace(0, 1, trained.n_obs)
    ax = jsc.pl.embedding(trained, color="depth", **PCA)
    assert ax.get_legend() is None
    assert len(ax.figure.axes) == 2


@pytest.mark.parametrize("holder", ["mudata", "modality"])
def test_colours_of_the_user(trained, holder):
    wanted = ["#112233", "#445566", "#778899"]
    (trained if holder == "mudata" else trained["rna"]).uns["cell_type_colors"] = wanted
    _, colors = points(jsc.pl.embedding(trained, color="cell_type", **PCA))
    types = [t for adata in trained.mod.values() for t in adata.obs["cell_type"]]
    names = ["branch 1", "branch 2", "branch 3"]
    assert {c: colors.count(c) for c in wanted} == {c: types.count(t) for c, t in zip(wanted, names, strict=True)}


def test_column_that_only_the_mudata_has(trained):
    trained.obs["donor"] = np.where(np.arange(trained.n_obs) % 2, "d1", "d2")
    assert legend(jsc.pl.embedding(trained, color="donor", **PCA)) == ["d1", "d2"]


def test_missing_values_are_drawn(trained):
    trained.obs["donor"] = np.where(np.arange(trained.n_obs) % 2, "d1", None)
    offsets, _ = points(jsc.pl.embedding(trained, color="donor", **PCA))
    assert len(offsets) == 128


def test_modalities(trained):
    ax = jsc.pl.embedding(trained, modalities=["adt"], **PCA)
    assert len(points(ax)[0]) == 64
    assert legend(ax) == ["adt"]


def test_modality_without_a_latent_is_left_out(trained):
    del trained["adt"].obsm["X_jamie"]
    assert legend(jsc.pl.embedding(trained, **PCA)) == ["rna"]
    with pytest.raises(KeyError, match=r"mdata\['adt'\]\.obsm\['X_jamie'\]"):
        jsc.pl.embedding(trained, modalities=["adt"], **PCA)


def test_added_cells_without_a_latent_are_left_out(trained, quick):
    jsc.tl.impute(trained, source="rna", target="adt", extend=True)
    jsc.tl.integrate(trained, **quick)  # which does not embed the cells added to adt
    offsets, _ = points(jsc.pl.embedding(trained, **PCA))
    assert len(offsets) == 128
    assert np.isfinite(offsets).all()


def test_into_given_axes(trained, shown):
    _, (left, right) = plt.subplots(1, 2)
    jsc.pl.embedding(trained, ax=right, basis="pca")
    assert len(points(right)[0]) == 128
    assert not left.collections
    assert shown == []


def test_shows_and_returns_nothing_by_default(trained, shown):
    assert jsc.pl.embedding(trained, basis="pca") is None
    assert shown == [1]
    assert jsc.pl.embedding(trained, basis="pca", show=True, ax=plt.gca()) is None
    assert shown == [1, 1]


def test_never_saves(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    jsc.pl.embedding(trained, **PCA)
    assert list(tmp_path.iterdir()) == []


def test_repeatable(trained):
    first, second, other = (points(jsc.pl.embedding(trained, rng=rng, **PCA))[0] for rng in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)  # drawn in another order


def test_options_of_scanpy(trained):
    assert jsc.pl.embedding(trained, title="mine", **PCA).get_title() == "mine"


def test_key(trained, quick):
    jsc.tl.integrate(trained, key_added="second", **quick)
    with pytest.raises(KeyError, match=r"\['jamie', 'second'\]"):
        jsc.pl.embedding(trained, **PCA)
    assert isinstance(jsc.pl.embedding(trained, key="second", **PCA), Axes)


def test_of_a_query_of_one_modality(trained, mdata):
    query = make_mudata({"rna": mdata["rna"].copy()})
    jsc.tl.map_query(query, trained)
    assert legend(jsc.pl.embedding(query, **PCA)) == ["rna"]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"color": "celltype"}, KeyError, "'celltype'.*cell_type"),
        ({"basis": "tsne"}, ValueError, "'umap' or 'pca', not 'tsne'"),
        ({"modalities": ["atac"]}, KeyError, "'atac'"),
        ({"key": "scvi"}, KeyError, "'scvi'"),
    ],
)
def test_errors(trained, asked, error, message):
    with pytest.raises(error, match=message):
        jsc.pl.embedding(trained, **(PCA | asked))


def test_nothing_trained(mdata):
    with pytest.raises(KeyError, match=r"tl\.integrate"):
        jsc.pl.embedding(mdata)
