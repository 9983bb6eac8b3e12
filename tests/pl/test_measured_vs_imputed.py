from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse as sp
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

import jamie_sc as jsc

BRANCHES = ["branch 1", "branch 2", "branch 3"]
COLORS = ["#112233", "#445566", "#778899"]
ADT = {"source": "rna", "target": "adt", "labels_key": "cell_type", "show": False}
TWO = {"features": ["adt3", "adt7"]}


def boxes(ax):
    """Of each box: ends of the whiskers, quartiles, median and outliers."""
    for i, patch in enumerate(ax.patches):
        low, high, _, _, median, outliers = (line.get_ydata() for line in ax.lines[6 * i : 6 * i + 6])
        box = patch.get_path().vertices[:, 1]
        yield [low[1], box.min(), median[0], box.max(), high[1]], sorted(outliers)


def expected(values, by):
    """The same, from the numbers."""
    for label in BRANCHES:
        y = np.sort(values[by == label])
        q1, median, q3 = np.percentile(y, [25, 50, 75])
        near = (y >= q1 - 1.5 * (q3 - q1)) & (y <= q3 + 1.5 * (q3 - q1))
        yield [y[near].min(), q1, median, q3, y[near].max()], y[~near].tolist()


def assert_boxes(ax, values, by):
    drawn, wanted = list(boxes(ax)), list(expected(values, by))
    assert len(drawn) == len(wanted)
    for (box, outliers), (numbers, beyond) in zip(drawn, wanted, strict=True):
        np.testing.assert_allclose(box, numbers, rtol=1e-5)
        np.testing.assert_allclose(outliers, beyond, rtol=1e-5)


def features(axes):
    return [ax.get_title().split("\n")[0] for ax in axes if ax.get_title()]


def labels(ax):
    return [text.get_text() for text in ax.get_xticklabels()]


def test_boxes_of_measured_above_those_of_imputed(imputed, values, unchanged):
    measured, filled, by = values
    with unchanged(imputed):
        axes = jsc.pl.measured_vs_imputed(imputed, **ADT, **TWO)
    assert len(axes) == 4
    assert all(isinstance(ax, Axes) for ax in axes)
    for ax, table, feature in zip(axes, [measured, measured, filled, filled], ["adt3", "adt7"] * 2, strict=True):
        assert_boxes(ax, table[feature].to_numpy(), by)
    assert any(outliers for ax in axes for _, outliers in boxes(ax))  # some there are
    grid = [ax.get_subplotspec() for ax in axes]
    assert [(g.rowspan.start, g.colspan.start) for g in grid] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_titles_labels_and_limits(imputed, values):
    measured, filled, by = values
    axes = jsc.pl.measured_vs_imputed(imputed, **ADT, **TWO)
    table = jsc.metrics.js_distance(measured[["adt3", "adt7"]], filled[["adt3", "adt7"]], labels=by)
    means = table.mean(axis=1)
    assert [ax.get_title() for ax in axes] == [
        f"adt3\nJS distance {means[0]:.2f}",
        f"adt7\nJS distance {means[1]:.2f}",
        "",
        "",
    ]
    assert [ax.get_ylabel() for ax in axes] == ["measured", "", "imputed from rna", ""]
    for top, bottom in zip(axes[:2], axes[2:], strict=True):
        assert top.get_ylim() == bottom.get_ylim()
        assert labels(bottom) == BRANCHES
        assert not any(text.get_visible() for text in top.get_xticklabels())
        assert {text.get_rotation() for text in bottom.get_xticklabels()} == {90}
    low, high = axes[0].get_ylim()
    both = np.concatenate([measured["adt3"], filled["adt3"]])
    assert low < both.min()
    assert high > both.max()


def test_colours_of_the_user(imputed):
    imputed.uns["cell_type_colors"] = COLORS
    for ax in jsc.pl.measured_vs_imputed(imputed, **ADT, **TWO):
        assert [to_hex(patch.get_facecolor()) for patch in ax.patches] == COLORS
        assert [to_hex(line.get_markerfacecolor()) for line in ax.lines[5::6]] == COLORS


# Which features -----------------------------------------------------------------------------------------------------


def test_chosen_features_have_the_highest_score(imputed, values):
    measured, filled, by = values
    similarity = 1 - jsc.metrics.js_distance(measured, filled, labels=by).mean(axis=1).to_numpy()
    grand, total = measured.mean(), ((measured - measured.mean()) ** 2).sum()
    between = sum((by == b).sum() * (measured[by == b].mean() - grand) ** 2 for b in BRANCHES)
    score = (between / total).astype(float) * similarity
    best = score.sort_values(ascending=False).index.tolist()
    assert features(jsc.pl.measured_vs_imputed(imputed, **ADT)) == best[:2]
    assert features(jsc.pl.measured_vs_imputed(imputed, n_features=5, **ADT)) == best[:5]


def test_chosen_features_tell_labels_apart_and_are_imputed_well(imputed, values):
    _, _, by = values
    adt, step = (
        imputed["adt"],
        imputed["adt"].obs["cell_type"].astype(str).map(dict(zip(BRANCHES, (0, 5, 9), strict=True))),
    )
    noise = np.random.default_rng(0).normal(size=adt.n_obs)
    for feature in (2, 4):  # imputed as measured, but one of them is the same in all types
        adt.X[:, feature] = adt.layers["jamie_from_rna"][:, feature] = noise + (feature == 4) * step
    adt.X[:, 6] = noise + step  # differs between types, but is imputed as something else
    adt.layers["jamie_from_rna"][:, 6] = 30
    adt.layers["jamie_from_rna"][~adt.obs_names.isin(by.index)] = np.nan
    assert features(jsc.pl.measured_vs_imputed(imputed, n_features=1, **ADT)) == ["adt4"]
    order = features(jsc.pl.measured_vs_imputed(imputed, n_features=20, **ADT))
    assert order.index("adt2") > 0 < order.index("adt6")


def test_constant_features_come_last(imputed):
    imputed["adt"].X[:, :9] = np.linspace(0.1, 9.7, 9)  # which rounding could give a variance
    chosen = features(jsc.pl.measured_vs_imputed(imputed, n_features=99, **ADT))
    assert len(chosen) == 20
    assert chosen[11:] == [f"adt{i}" for i in range(9)]


def test_one_label_alone(imputed):
    imputed["adt"].obs["all"] = "alike"
    axes = jsc.pl.measured_vs_imputed(imputed, **(ADT | {"labels_key": "all"}))
    assert [len(ax.patches) for ax in axes] == [1] * 4


# Cells and values ---------------------------------------------------------------------------------------------------


def test_cells(imputed, values):
    measured, _, by = values
    some = measured.index[::2]
    top, _ = jsc.pl.measured_vs_imputed(imputed, features="adt3", cells=some, **ADT)
    assert_boxes(top, measured.loc[some, "adt3"].to_numpy(), by.loc[some])


def test_cells_without_a_label_are_left_out(imputed, values):
    measured, _, by = values
    unknown = measured.index[:20]
    imputed["adt"].obs.loc[unknown, "cell_type"] = np.nan
    top, _ = jsc.pl.measured_vs_imputed(imputed, features="adt3", **ADT)
    assert_boxes(top, measured["adt3"].drop(unknown).to_numpy(), by.drop(unknown))


def test_sparse_values(imputed, values):
    measured, _, by = values
    imputed["adt"].X = sp.csr_matrix(imputed["adt"].X)
    top, _ = jsc.pl.measured_vs_imputed(imputed, features="adt3", **ADT)
    assert_boxes(top, measured["adt3"].to_numpy(), by)


def test_reconstruction(imputed):
    jsc.tl.impute(imputed, source="adt", target="adt")
    axes = jsc.pl.measured_vs_imputed(imputed, **(ADT | {"source": "adt"}))
    assert axes[2].get_ylabel() == "imputed from adt"


# Axes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [False, True])
def test_into_given_axes(imputed, shown, share):
    _, axes = plt.subplots(2, 2, sharex=share, sharey=share)
    drawn = jsc.pl.measured_vs_imputed(imputed, ax=axes, **(ADT | {"show": None}), **TWO)
    assert drawn == list(axes.ravel())
    assert [len(ax.patches) for ax in drawn] == [3] * 4
    assert labels(drawn[3]) == BRANCHES
    assert shown == []


def test_shows_and_returns_nothing_by_default(imputed, shown):
    assert jsc.pl.measured_vs_imputed(imputed, **(ADT | {"show": None})) is None
    assert shown == [1]


def test_forty_labels_with_long_names_fit(imputed):
    adt = imputed["adt"]
    names = np.array([f"intratelencephalic neurons of layer {i:02d}" for i in range(40)])
    adt.obs["long"] = names[np.arange(adt.n_obs) % 40]
    axes = jsc.pl.measured_vs_imputed(imputed, **(ADT | {"labels_key": "long"}))
    figure = axes[0].figure
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes[2].get_xticklabels()]
    assert all(not a.overlaps(b) for a, b in zip(boxes, boxes[1:], strict=False))
    assert min(box.y0 for box in boxes) > 0
    assert all(ax.get_window_extent().height > 150 for ax in axes)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"source": "adt", "target": "rna"}, KeyError, r"jamie_sc\.tl\.impute\(mdata, source='adt', target='rna'\)"),
        ({"features": ["adt3", "CD8", "CD4"]}, KeyError, "no feature 'CD8', 'CD4' in 'adt'.*'adt0'"),
        ({"features": []}, ValueError, "features is empty"),
        ({"n_features": 0}, ValueError, "n_features must be at least 1, not 0"),
        ({"labels_key": "type"}, KeyError, "no obs column 'type'"),
        ({"cells": ["nobody"]}, KeyError, "'nobody'"),
    ],
)
def test_errors(imputed, asked, error, message):
    with pytest.raises(error, match=message):
        jsc.pl.measured_vs_imputed(imputed, **(ADT | asked))
    assert plt.get_fignums() == []


def test_wrong_number_of_axes(imputed):
    _, ax = plt.subplots()
    for given, n in ((ax, 1), ([ax] * 3, 3), (np.array([[ax] * 4] * 2), 8)):
        with pytest.raises(
            ValueError, match=rf"2 features take 4 axes.*ax has {n}\. Make them with .*subplots\(2, 2\)"
        ):
            jsc.pl.measured_vs_imputed(imputed, ax=given, **ADT)


def test_nothing_trained(mdata):
    with pytest.raises(KeyError, match=r"tl\.integrate"):
        jsc.pl.measured_vs_imputed(mdata, **ADT)
