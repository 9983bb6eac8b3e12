from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes

import jamie_sc as jsc

LEADING = [7, 3, 0]  # largest mean |SHAP| first


@pytest.fixture
def explained(mdata):
    """30 cells of "rna", 25 features: three that matter."""
    values = np.random.default_rng(0).normal(size=(30, 25, 1)).astype(np.float32) * 0.01
    values[:, LEADING, 0] *= [300, 200, 100]
    mdata.uns["jamie_shap"] = {
        "params": {"integration": "jamie", "source": "rna", "target": "adt"},
        "values": values,
        "base_values": np.array([10], np.float32),
        "cells": mdata["rna"].obs_names[:30].to_numpy(object),
        "features": mdata["rna"].var_names.to_numpy(object),
        "outputs": np.array(["adt3"], object),
    }
    return mdata


def rows(ax):
    """x and colour of the points of each row that has any, from the bottom."""
    drawn = [c for c in ax.collections if len(c.get_offsets())]
    return [(c.get_offsets()[:, 0].data, c.get_array()) for c in drawn]


def names(ax):
    """Names of the rows, from the top."""
    return [label.get_text() for label in ax.get_yticklabels()][::-1]


def test_a_row_for_each_leading_feature(explained, unchanged):
    with unchanged(explained):
        ax = jsc.pl.shap_beeswarm(explained, max_display=3, show=False)
    assert isinstance(ax, Axes)
    assert names(ax) == [f"rna{i}" for i in LEADING]
    values = explained.uns["jamie_shap"]["values"][..., 0]
    measured = explained["rna"][explained.uns["jamie_shap"]["cells"]].to_df()
    assert len(rows(ax)) == 3
    for (x, color), i in zip(rows(ax)[::-1], LEADING, strict=True):
        np.testing.assert_allclose(np.sort(x), np.sort(values[:, i]), rtol=1e-5)
        low, high = np.percentile(measured[f"rna{i}"], [5, 95])
        order = np.argsort(values[:, i])
        np.testing.assert_allclose(color[np.argsort(x)], measured[f"rna{i}"].clip(low, high).iloc[order], rtol=1e-5)
    assert ax.get_title() == "imputed adt3 from rna\n3 of 25 features, 30 cells"
    assert ax.get_xlabel() == "SHAP value\n(added to imputed adt3)"


def test_colour_bar_and_names_are_inside(explained, edit):
    rna = explained["rna"].copy()
    rna.var_names = [f"chr{i}-1000{i}-2000{i}_" + 8 * "a_long_name_" for i in range(25)]
    edit(explained, rna=rna)
    explained.uns["jamie_shap"]["features"] = rna.var_names.to_numpy(object)
    ax = jsc.pl.shap_beeswarm(explained, show=False)
    assert len(names(ax)) == 20
    figure = ax.figure
    figure.draw_without_rendering()
    _, bar = figure.axes
    labels = [*ax.get_yticklabels(), ax.xaxis.label, ax.title, *bar.get_yticklabels(), bar.yaxis.label]
    assert [label.get_text() for label in labels[-3:]] == ["Low", "High", "Feature value"]
    for label in labels:
        box = label.get_window_extent()
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
    assert 5 < ax.bbox.width / figure.dpi < 6


def test_the_global_random_state_is_as_it_was(explained):
    np.random.seed(3)  # noqa: NPY002
    np.random.randn(3)  # noqa: NPY002  # an odd number, so that one is in store
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    first = jsc.pl.shap_beeswarm(explained, show=False)
    np.testing.assert_equal(np.random.get_state(legacy=False), before)  # noqa: NPY002
    np.random.seed(4)  # noqa: NPY002
    second = jsc.pl.shap_beeswarm(explained, show=False)
    for a, b in zip(first.collections, second.collections, strict=True):
        np.testing.assert_array_equal(a.get_offsets(), b.get_offsets())


def test_the_global_random_state_is_put_back_after_an_error(explained, monkeypatch):
    import shap

    def fails(*_, **__):
        np.random.rand()  # noqa: NPY002
        raise RuntimeError

    monkeypatch.setattr(shap.plots, "beeswarm", fails)
    before = np.random.get_state(legacy=False)  # noqa: NPY002
    with pytest.raises(RuntimeError):
        jsc.pl.shap_beeswarm(explained, show=False)
    np.testing.assert_equal(np.random.get_state(legacy=False), before)  # noqa: NPY002


def test_what_explain_wrote(trained):
    jsc.tl.explain(trained, source="rna", latent=[0, 2], cells=20, progress=False)
    with pytest.raises(KeyError, match=r"2 outputs were explained: \['latent 0', 'latent 2'\].*output="):
        jsc.pl.shap_beeswarm(trained, show=False)
    ax = jsc.pl.shap_beeswarm(trained, output="latent 2", max_display=5, show=False)
    assert names(ax) == list(trained["rna"].varm["jamie_shap"]["latent 2"].nlargest(5).index)
    assert ax.get_title() == "latent 2 from rna\n5 of 25 features, 20 cells"


def test_more_rows_than_features_and_one_cell(explained):
    assert len(names(jsc.pl.shap_beeswarm(explained, max_display=100, show=False))) == 25
    record = explained.uns["jamie_shap"]
    record["cells"], record["values"] = record["cells"][:1], record["values"][:1]
    assert [len(x) for x, _ in rows(jsc.pl.shap_beeswarm(explained, max_display=2, show=False))] == [1, 1]


def test_into_given_axes(explained, shown):
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    plt.sca(axes[1])
    assert jsc.pl.shap_beeswarm(explained, ax=axes[0], max_display=4) is axes[0]
    assert shown == []
    assert figure.get_size_inches().tolist() == [9, 4]
    assert plt.gca() is axes[1]
    assert len(plt.get_fignums()) == 1


def test_shows_and_returns_nothing_by_default(explained, shown):
    assert jsc.pl.shap_beeswarm(explained) is None
    assert shown == [1]


def test_errors(explained, mdata):
    with pytest.raises(ValueError, match="max_display=0"):
        jsc.pl.shap_beeswarm(explained, max_display=0, show=False)
    with pytest.raises(KeyError, match="'adt7' was not explained"):
        jsc.pl.shap_beeswarm(explained, output="adt7", show=False)
    del mdata.uns["jamie_shap"]
    with pytest.raises(KeyError, match=r"jamie_sc\.tl\.explain\(mdata, \.\.\.\) first"):
        jsc.pl.shap_beeswarm(mdata, show=False)
    assert plt.get_fignums() == []
