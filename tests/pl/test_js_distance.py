from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from scipy.spatial.distance import jensenshannon

import jamie_sc as jsc
from jamie_sc.pl._colors import label_colors

BRANCHES = ["branch 1", "branch 2", "branch 3"]
COLORS = ["#112233", "#445566", "#778899"]
ADT = {"source": "rna", "target": "adt", "labels_key": "cell_type", "show": False}


def distance(measured, imputed, bins=20):
    """JS distance of two samples in bins over the range of all cells."""
    edges = np.linspace(*bins[1:], bins[0] + 1)
    return jensenshannon(np.histogram(measured, edges)[0], np.histogram(imputed, edges)[0], base=2)


def distances(values, bins=20):
    """Features x labels, one histogram at a time."""
    measured, imputed, labels = values
    table = {}
    for feature in measured:
        a, b = measured[feature].astype(float), imputed[feature].astype(float)
        span = (bins, min(a.min(), b.min()), max(a.max(), b.max()))
        table[feature] = {label: distance(a[labels == label], b[labels == label], span) for label in BRANCHES}
    return pd.DataFrame(table).T


def lines(ax):
    return {line.get_label().split(" (")[0]: line for line in ax.lines}


def assert_cumulative(line, similarity):
    """A step for each feature, from the least alike at 0 to the most alike at 1."""
    np.testing.assert_allclose(line.get_xdata(), np.arange(len(similarity) + 1) / len(similarity))
    np.testing.assert_allclose(line.get_ydata()[1:], np.sort(similarity), atol=1e-9)
    assert line.get_drawstyle() == "steps-pre"


def test_a_line_for_each_label_and_their_average(imputed, values, unchanged):
    with unchanged(imputed):
        ax = jsc.pl.js_distance(imputed, **ADT)
    assert isinstance(ax, Axes)
    expected = distances(values)
    drawn = lines(ax)
    assert list(drawn) == [*BRANCHES, "average over labels"]
    for label in BRANCHES:
        assert_cumulative(drawn[label], 1 - expected[label])
    average = drawn["average over labels"]
    assert_cumulative(average, 1 - expected.mean(axis=1))
    assert average.get_color() == "black"
    assert average.get_linewidth() > 2 * drawn["branch 1"].get_linewidth()
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 1), (0, 1))
    assert ax.get_xlabel() == "fraction of features"
    assert ax.get_ylabel().startswith("similarity, 1")


def test_legend_and_title(imputed, values):
    measured, filled, labels = values
    ax = jsc.pl.js_distance(imputed, **ADT)
    counts = [f"{label} ({(labels == label).sum()})" for label in BRANCHES]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*counts, "average over labels"]
    assert ax.get_legend().get_title().get_text() == "cell_type"
    table = jsc.metrics.js_distance(measured, filled, labels=labels).to_numpy()
    assert ax.get_title() == f"adt from rna\nJS distance {table.mean():.3f} ± {table.std():.3f} (s.d.)"


def test_bins(imputed, values):
    ax = jsc.pl.js_distance(imputed, n_bins=5, **ADT)
    assert_cumulative(lines(ax)["branch 2"], 1 - distances(values, bins=5)["branch 2"])


def test_cells(imputed, values):
    some = values[0].index[::2]
    ax = jsc.pl.js_distance(imputed, cells=some, **ADT)
    part = tuple(table.loc[some] for table in values)
    assert_cumulative(lines(ax)["branch 1"], 1 - distances(part)["branch 1"])
    assert f"branch 1 ({(part[2] == 'branch 1').sum()})" in [line.get_label() for line in ax.lines]


def test_cells_without_a_label_are_left_out(imputed, values):
    unknown = values[0].index[:20]
    imputed["adt"].obs.loc[unknown, "cell_type"] = np.nan
    ax = jsc.pl.js_distance(imputed, **ADT)
    part = tuple(table.drop(unknown) for table in values)
    assert_cumulative(lines(ax)["branch 3"], 1 - distances(part)["branch 3"])


def test_added_cells_were_never_measured(imputed):
    before = jsc.pl.js_distance(imputed, **ADT)
    jsc.tl.impute(imputed, source="rna", target="adt", extend=True)
    after = jsc.pl.js_distance(imputed, **ADT)
    for label, line in lines(before).items():
        np.testing.assert_array_equal(line.get_ydata(), lines(after)[label].get_ydata())
    added = imputed["adt"].obs_names[imputed["adt"].obs["jamie_imputed"]]
    with pytest.raises(KeyError, match=f"1 of 1 cells were not both .* '{added[0]}'"):
        jsc.pl.js_distance(imputed, cells=[added[0]], **ADT)


def test_values_are_those_trained_on(mdata, quick):
    adt = mdata["adt"]
    adt.layers["scaled"], adt.X = adt.X, np.zeros_like(adt.X)
    jsc.tl.integrate(mdata, layer={"adt": "scaled"}, **quick)
    jsc.tl.impute(mdata, source="rna", target="adt")
    both = mdata["adt"].obs_names.intersection(mdata["rna"].obs_names)
    table = (adt[both].to_df("scaled"), adt[both].to_df("jamie_from_rna"), adt[both].obs["cell_type"].astype(str))
    assert_cumulative(lines(jsc.pl.js_distance(mdata, **ADT))["branch 1"], 1 - distances(table)["branch 1"])


def test_sparse_values(imputed):
    dense = jsc.pl.js_distance(imputed, **ADT)
    imputed["adt"].X = sp.csr_matrix(imputed["adt"].X)
    for label, line in lines(jsc.pl.js_distance(imputed, **ADT)).items():
        np.testing.assert_array_equal(line.get_ydata(), lines(dense)[label].get_ydata())


def test_key(imputed, quick):
    jsc.tl.integrate(imputed, key_added="second", **quick)
    with pytest.raises(KeyError, match=r"\['jamie', 'second'\]"):
        jsc.pl.js_distance(imputed, **ADT)
    with pytest.raises(KeyError, match="'second_from_rna'"):
        jsc.pl.js_distance(imputed, key="second", **ADT)
    assert isinstance(jsc.pl.js_distance(imputed, key="jamie", **ADT), Axes)


def test_into_given_axes(imputed, shown):
    _, ax = plt.subplots()
    size = ax.figure.get_size_inches().tolist()
    assert jsc.pl.js_distance(imputed, **(ADT | {"show": None}), ax=ax) is ax
    assert len(ax.lines) == 4
    assert ax.figure.get_size_inches().tolist() == size
    assert shown == []


def test_shows_and_returns_nothing_by_default(imputed, shown):
    assert jsc.pl.js_distance(imputed, **(ADT | {"show": None})) is None
    assert shown == [1]


# Colours and many labels --------------------------------------------------------------------------------------------


def test_colours_of_the_user(imputed):
    imputed.uns["cell_type_colors"] = COLORS
    drawn = lines(jsc.pl.js_distance(imputed, **ADT))
    assert [drawn[label].get_color() for label in BRANCHES] == COLORS


def test_a_label_keeps_its_colour_among_fewer_cells(imputed, values):
    all_cells = lines(jsc.pl.js_distance(imputed, **ADT))
    some = values[2].index[values[2] != "branch 1"]
    drawn = lines(jsc.pl.js_distance(imputed, cells=some, **ADT))
    assert list(drawn) == ["branch 2", "branch 3", "average over labels"]
    assert drawn["branch 3"].get_color() == all_cells["branch 3"].get_color()


def test_default_colours_are_those_of_scanpy(imputed):
    for n in (3, 12, 25, 40):
        names = [f"type {i:02d}" for i in range(n)]
        adata = sc.AnnData(np.zeros((n, 1)), pd.DataFrame({"type": pd.Categorical(names)}, index=names))
        adata.obsm["X_pca"] = np.zeros((n, 2))
        sc.pl.embedding(adata, "pca", color="type", show=False)
        expected = {name: to_hex(color) for name, color in zip(names, adata.uns["type_colors"], strict=True)}
        ours = label_colors(imputed, "type", adata.obs["type"])
        assert {name: to_hex(color) for name, color in ours.items()} == expected
    assert len(label_colors(imputed, "type", pd.Series(range(250)))) == 250


def test_labels_are_in_the_order_of_their_categories(imputed):
    ordered = pd.Categorical(imputed["adt"].obs["cell_type"], BRANCHES[::-1])
    imputed["adt"].obs["cell_type"] = ordered
    assert list(lines(jsc.pl.js_distance(imputed, **ADT)))[:3] == BRANCHES[::-1]
    imputed["adt"].obs["number"] = ordered.codes + 9
    assert list(lines(jsc.pl.js_distance(imputed, **(ADT | {"labels_key": "number"}))))[:3] == ["9", "10", "11"]


def test_forty_labels_with_long_names_fit(imputed):
    adt = imputed["adt"]
    names = np.array([f"intratelencephalic neurons of layer {i}" for i in range(40)])
    adt.obs["long"] = names[np.arange(adt.n_obs) % 40]
    ax = jsc.pl.js_distance(imputed, **(ADT | {"labels_key": "long"}))
    ax.figure.draw_without_rendering()
    box, page = ax.get_legend().get_window_extent(), ax.figure.bbox
    assert page.contains(*box.min)
    assert page.contains(*box.max)
    assert box.x0 > ax.get_window_extent().x1
    assert ax.get_window_extent().width > 300
    assert len({to_hex(line.get_color()) for line in ax.lines}) == len(ax.lines)


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (
            {"source": "adt", "target": "rna"},
            KeyError,
            r"jamie_sc\.tl\.impute\(mdata, source='adt', target='rna'\)",
        ),
        ({"target": "atac"}, KeyError, "no modality 'atac'"),
        ({"labels_key": "type"}, KeyError, "no obs column 'type'.*cell_type"),
        ({"labels_key": "nothing"}, ValueError, "None of the 48 cells .* 'nothing'"),
        ({"cells": ["nobody", "either"]}, KeyError, "2 of 2 cells .* 'nobody', 'either'. 48 cells were, such as"),
        ({"cells": []}, ValueError, "cells is empty"),
        ({"n_bins": 1}, ValueError, "n_bins must be at least 2"),
        ({"key": "scvi"}, KeyError, "no integration 'scvi'"),
    ],
)
def test_errors(imputed, asked, error, message):
    imputed["adt"].obs["nothing"] = pd.Series(np.nan, imputed["adt"].obs_names, dtype=object)
    with pytest.raises(error, match=message):
        jsc.pl.js_distance(imputed, **(ADT | asked))
    assert plt.get_fignums() == []


def test_a_cell_that_lacks_the_source(imputed):
    lone = next(cell for cell in imputed["adt"].obs_names if cell not in imputed["rna"].obs_names)
    with pytest.raises(
        KeyError, match=f"1 of 1 cells were not both measured in 'adt' and imputed from 'rna': '{lone}'"
    ):
        jsc.pl.js_distance(imputed, cells=lone, **ADT)


def test_no_cell_has_both(imputed):
    imputed["adt"].layers["jamie_from_rna"][:] = np.nan
    with pytest.raises(ValueError, match="No cell of 'adt' was both measured and imputed from 'rna'"):
        jsc.pl.js_distance(imputed, **ADT)


def test_nothing_trained(mdata):
    with pytest.raises(KeyError, match=r"tl\.integrate"):
        jsc.pl.js_distance(mdata, **ADT)
