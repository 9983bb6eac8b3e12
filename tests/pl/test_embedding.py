from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from threadpoolctl import threadpool_limits

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


# Spaces ---------------------------------------------------------------------------------------------------------------


def by_value(ax):
    """Values that points are coloured by, and their places, sorted by value; grey points left out."""
    scatter = ax.collections[0]
    values = np.ma.filled(np.ma.masked_invalid(scatter.get_array()), np.nan)
    order = np.argsort(values)[: np.isfinite(values).sum()]
    return values[order], np.asarray(scatter.get_offsets())[order]


def test_measured_modality_needs_no_model(mdata, unchanged):
    with unchanged(mdata):
        ax = jsc.pl.embedding(mdata, spaces="rna", color="cell_type", **PCA)
    assert len(points(ax)[0]) == 64
    assert ax.get_title() == "rna, cell_type"
    assert jsc.pl.embedding(mdata, spaces=["adt"], show=False).get_xlabel() == "UMAP1"


def test_measured_space_is_what_reduce_makes(mdata):
    mdata["rna"].X[:, 0] = np.arange(64)  # tells cells apart
    _, before = by_value(jsc.pl.embedding(mdata, spaces="rna", color="rna0", rng=3, **PCA))
    jsc.pp.reduce(mdata, rng=3)
    _, after = by_value(jsc.pl.embedding(mdata, spaces="rna", color="rna0", rng=3, **PCA))
    np.testing.assert_allclose(after, before, atol=1e-4)
    np.testing.assert_allclose(np.abs(after), np.abs(mdata["rna"].obsm["X_pca"][:, :2]), atol=1e-4)
    jsc.pp.reduce(mdata, n_components=2)
    mdata["rna"].obsm["X_pca"][:, 1] *= 100  # is read, not made anew
    _, changed = by_value(jsc.pl.embedding(mdata, spaces="rna", color="rna0", **PCA))
    assert changed[:, 0].std() > 10 * after[:, 0].std()


def test_reduced_layer_and_pca_of_another_making(mdata):
    mdata["rna"].layers["negative"] = -mdata["rna"].X
    mdata["rna"].X[:] = np.nan
    with pytest.raises(ValueError, match="X of modality 'rna' holds"):
        jsc.pl.embedding(mdata, spaces="rna", **PCA)
    mdata["rna"].uns["pca"] = {"params": {"layer": "negative"}, "variance": np.ones(2)}  # scanpy's: no mean, no scale
    with pytest.raises(ValueError, match="X of modality 'rna' holds"):
        jsc.pl.embedding(mdata, spaces="rna", **PCA)
    jsc.pp.reduce(mdata, modalities=["rna"], layer="negative")
    assert len(points(jsc.pl.embedding(mdata, spaces="rna", **PCA))[0]) == 64


def test_imputed_cells_are_not_in_the_measured_space(trained):
    jsc.tl.impute(trained, source="rna", target="adt", extend=True)
    assert len(points(jsc.pl.embedding(trained, spaces="adt", **PCA))[0]) == 64
    jsc.pp.reduce(trained)
    assert len(points(jsc.pl.embedding(trained, spaces="adt", **PCA))[0]) == 64


def test_a_row_for_each_colour_a_column_for_each_space(trained):
    spaces, colors = ["rna", "adt", "joint"], ["cell_type", "modality"]
    axes = jsc.pl.embedding(trained, spaces=spaces, color=colors, **PCA)
    assert [ax.get_title() for ax in axes] == [f"{space}, {color}" for color in colors for space in spaces]
    assert [len(points(ax)[0]) for ax in axes] == [64, 64, 128] * 2
    grid = np.array([ax.get_position().p0 for ax in axes]).reshape(2, 3, 2)
    assert (np.diff(grid[..., 0], axis=1) > 0).all()  # left to right
    assert (np.diff(grid[..., 1], axis=0) < 0).all()  # top to bottom
    assert [ax.get_legend() is not None for ax in axes] == [False, False, True] * 2
    assert legend(axes[2]) == ["branch 1", "branch 2", "branch 3"]
    assert legend(axes[5]) == ["rna", "adt"]


def test_a_colour_means_the_same_in_each_space(trained):
    trained["adt"].obs["cell_type"] = trained["adt"].obs["cell_type"].astype(str).replace("branch 1", "branch 2")
    rna, adt, joint = jsc.pl.embedding(trained, spaces=["rna", "adt", "joint"], color="cell_type", **PCA)
    counts = [{c: points(ax)[1].count(c) for c in set(points(ax)[1])} for ax in (rna, adt, joint)]
    assert [len(count) for count in counts] == [3, 2, 3]
    assert {c: counts[0][c] + counts[1].get(c, 0) for c in counts[0]} == counts[2]
    assert legend(joint) == ["branch 1", "branch 2", "branch 3"]


def test_maps_do_not_depend_on_each_other(trained):
    alone = jsc.pl.embedding(trained, **PCA)
    _, beside = jsc.pl.embedding(trained, spaces=["rna", "joint"], **PCA)
    np.testing.assert_array_equal(points(alone)[0], points(beside)[0])


def test_axes_given(trained, shown):
    fig, grid = plt.subplots(2, 2)
    axes = jsc.pl.embedding(trained, spaces=["rna", "joint"], color=["cell_type", "modality"], ax=grid, basis="pca")
    assert axes == list(grid.flat)
    assert shown == []
    for wrong in (grid[0], grid[0, 0]):
        with pytest.raises(ValueError, match=rf"ax has {np.size(wrong)} axes, but there are 4 panels"):
            jsc.pl.embedding(trained, spaces=["rna", "joint"], color=["cell_type", "modality"], ax=wrong, **PCA)
    assert plt.get_fignums() == [fig.number]


# Colours --------------------------------------------------------------------------------------------------------------


def test_feature(trained):
    """Cells that have the modality get their own value, others are grey, in all spaces."""
    trained["rna"].X[:, 0] = np.arange(64)
    rna, adt, joint = jsc.pl.embedding(trained, spaces=["rna", "adt", "joint"], color="rna0", **PCA)
    value = dict(zip(trained["rna"].obs_names, range(64), strict=True))
    shared = [value[cell] for cell in trained["adt"].obs_names if cell in value]
    np.testing.assert_array_equal(by_value(rna)[0], range(64))
    np.testing.assert_array_equal(by_value(adt)[0], sorted(shared))
    np.testing.assert_array_equal(by_value(joint)[0], sorted([*range(64), *shared]))
    assert [len(ax.collections[0].get_array()) for ax in (rna, adt, joint)] == [64, 64, 128]
    adt.figure.canvas.draw()
    assert points(adt)[1].count(to_hex("lightgray")) == 16


def test_feature_is_that_of_the_cell(trained):
    latent = trained["rna"].obsm["X_jamie"]
    trained["rna"].X[:, 0] = latent @ np.linalg.svd(latent - latent.mean(axis=0))[2][0]
    values, places = by_value(jsc.pl.embedding(trained, color="rna0", modalities=["rna"], **PCA))
    assert abs(np.corrcoef(values, places[:, 0])[0, 1]) > 0.999


def test_layer(trained):
    jsc.tl.impute(trained, source="rna", target="adt")
    ax = jsc.pl.embedding(trained, spaces="adt", color="adt3", layer="jamie_from_rna", **PCA)
    imputed = trained["adt"].layers["jamie_from_rna"][:, 3]
    np.testing.assert_allclose(by_value(ax)[0], np.sort(imputed[np.isfinite(imputed)]))
    ax = jsc.pl.embedding(trained, spaces="adt", color="cell_type", layer="jamie_from_rna", **PCA)  # obs has no layers
    assert legend(ax) == ["branch 1", "branch 2", "branch 3"]
    with pytest.raises(KeyError, match=r"mdata\['rna'\]\.layers\['jamie_from_rna'\] to read 'rna0'"):
        jsc.pl.embedding(trained, color="rna0", layer="jamie_from_rna", **PCA)


def test_feature_of_several_modalities(mdata):
    for mod in mdata.mod.values():
        mod.var_names = ["CD4", *mod.var_names[1:-1], "rna:x"]
    with pytest.raises(KeyError, match="'CD4' is a feature of several modalities. Write 'rna:CD4' or 'adt:CD4'"):
        jsc.pl.embedding(mdata, spaces="rna", color="CD4", **PCA)
    ax = jsc.pl.embedding(mdata, spaces="adt", color="adt:CD4", **PCA)
    np.testing.assert_allclose(by_value(ax)[0], np.sort(mdata["adt"].X[:, 0]), rtol=1e-6)
    with pytest.raises(KeyError, match="Write 'rna:rna:x' or 'adt:rna:x'"):
        jsc.pl.embedding(mdata, spaces="rna", color="rna:x", **PCA)
    mdata["rna"].obs["CD4"] = "obs wins"
    assert legend(jsc.pl.embedding(mdata, spaces="rna", color="CD4", **PCA)) == ["obs wins"]


def test_name_of_neither(mdata):
    with pytest.raises(
        KeyError, match=r"'pvalb' is no obs column \(.*'cell_type'.* no feature \('rna' has 'rna0'.*'adt'"
    ):
        jsc.pl.embedding(mdata, spaces="rna", color="pvalb", **PCA)
    mdata.obs["empty"] = np.nan
    with pytest.raises(ValueError, match="None of the 64 cells has a value of 'empty'"):
        jsc.pl.embedding(mdata, spaces="rna", color="empty", **PCA)


def test_column_that_one_modality_has(trained):
    trained["rna"].obs["plate"] = "p1"
    ax = jsc.pl.embedding(trained, color="plate", **PCA)
    assert legend(ax) == ["p1", "NA"]
    assert points(ax)[1].count(to_hex("lightgray")) == 64


def test_one_scale_in_a_row(trained):
    low, high = trained["rna"].X[:, 0].min(), trained["rna"].X[:, 0].max()
    rna, adt = jsc.pl.embedding(trained, spaces=["rna", "adt"], color="rna0", **PCA)
    assert [ax.collections[0].get_clim() for ax in (rna, adt)] == [(low, high)] * 2
    assert len(rna.figure.axes) == 3  # one colour bar
    rna, adt = jsc.pl.embedding(trained, spaces=["rna", "adt"], color="rna0", vmax=[1, 2], vmin=0, **PCA)
    assert [ax.collections[0].get_clim() for ax in (rna, adt)] == [(0, 1), (0, 2)]
    assert len(rna.figure.axes) == 4


def test_lists_have_one_for_each_panel(trained):
    axes = jsc.pl.embedding(trained, color=["rna0", "rna1"], vmax=[1, 2], title=["a", "b"], **PCA)
    assert [(ax.get_title(), ax.collections[0].get_clim()[1]) for ax in axes] == [("a", 1), ("b", 2)]


def test_categories_keep_their_order(trained):
    order = ["branch 3", "branch 1", "branch 2"]
    trained.obs["cell_type"] = trained.obs["cell_type"].cat.reorder_categories(order)
    assert legend(jsc.pl.embedding(trained, color="cell_type", **PCA)) == order
    trained.uns["cell_type_colors"] = ["#112233", "#445566", "#778899"]
    ax = jsc.pl.embedding(trained, color="cell_type", **PCA)
    types = [t for adata in trained.mod.values() for t in adata.obs["cell_type"]]
    assert points(ax)[1].count("#112233") == types.count("branch 3")


def test_categories_of_several_holders(trained):
    half = np.arange(64) % 2 == 0
    trained["rna"].obs["donor"] = np.where(half, "z", "b")
    trained["adt"].obs["donor"] = np.where(half, "z", "a")
    trained["adt"].obs["donor"] = trained["adt"].obs["donor"].astype("category").cat.set_categories(["z", "a", "gone"])
    assert legend(jsc.pl.embedding(trained, color="donor", **PCA)) == ["z", "a", "b"]
    trained["rna"].obs["donor"] = trained["rna"].obs["donor"].astype("category")
    assert legend(jsc.pl.embedding(trained, color="donor", **PCA)) == ["b", "z", "a"]


def test_truth_values(trained):
    trained.obs["kept"] = np.arange(trained.n_obs) % 2 == 0
    assert legend(jsc.pl.embedding(trained, color="kept", **PCA)) == ["False", "True"]


# Looks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spaces", [["joint"], ["rna", "joint"]])
def test_many_categories_with_long_names(trained, spaces):
    names = [f"Layer {i % 6 + 1} intratelencephalic neuron, subtype {i}" for i in range(40)]
    trained.obs["subclass"] = np.resize(names, trained.n_obs)
    axes = np.ravel(jsc.pl.embedding(trained, spaces=spaces, color=["subclass", "cell_type", "rna0"], **PCA))
    fig = axes[0].figure
    fig.canvas.draw()
    legends = {len(legend(ax)): ax.get_legend().get_window_extent() for ax in axes if ax.get_legend()}
    assert set(legends) == {3, 40}
    whole = fig.bbox.padded(1)
    assert all(whole.containsx(box.x0) and whole.containsx(box.x1) for box in legends.values())
    assert all(whole.containsy(box.y0) and whole.containsy(box.y1) for box in legends.values())
    boxes = [ax.get_window_extent() for ax in axes]
    assert not any(legends[40].overlaps(box) for box in boxes)
    assert all(box.width > 250 for box in boxes)  # of 400


def test_only_many_points_are_pixels(trained, monkeypatch):
    assert not jsc.pl.embedding(trained, **PCA).collections[0].get_rasterized()
    monkeypatch.setattr("jamie_sc.pl._embedding.MANY_POINTS", 127)
    assert jsc.pl.embedding(trained, **PCA).collections[0].get_rasterized()


def test_number_of_threads_stays(trained, monkeypatch):
    """numba's OpenMP layer, when it starts, sets the number of threads of the thread that it starts in."""
    before = torch.get_num_threads()
    with monkeypatch.context() as patch:
        patch.setattr(sc.tl, "umap", lambda cells, **_: sc.pp.pca(cells) or _like_numba(cells, before + 1))
        ax = jsc.pl.embedding(trained, show=False)
    assert len(points(ax)[0]) == 128
    assert torch.get_num_threads() == before


def _like_numba(cells, n_threads):
    threadpool_limits(n_threads, "openmp")
    cells.obsm["X_umap"] = cells.obsm["X_pca"][:, :2]


def test_a_tight_figure_holds_the_legend(trained):
    """As notebooks and `savefig(bbox_inches="tight")` cut it."""
    axes = jsc.pl.embedding(trained, spaces=["rna", "adt"], color="cell_type", basis="pca", show=False)
    figure = axes[-1].figure
    figure.draw_without_rendering()
    legend = axes[-1].get_legend().get_window_extent().width
    edge = axes[-1].get_legend().get_window_extent().x1 / figure.dpi
    assert legend > 0
    assert figure.get_tightbbox().x1 >= edge - 1e-6
