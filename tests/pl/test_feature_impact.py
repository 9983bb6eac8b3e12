from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgba

import jamie_sc as jsc

BLUE, GREY, WHITE = to_hex("C0"), to_hex("0.55"), "#ffffff"


@pytest.fixture
def write(mdata):
    """Write results by hand: a column of scores below a baseline of 0.9."""

    def make(scores, *, names=None, key="jamie_impact", pvalue=None, n_features=1, random=None, **params):
        n = len(scores)
        table = {
            "name": np.array(names or [f"gene{i}" for i in range(n)], object),
            "n_features": np.broadcast_to(n_features, n).copy(),
            "score": np.array(scores, float),
            "sd": np.linspace(0.01, 0.02, n),
            "pvalue": np.array([1.0] * n if pvalue is None else pvalue, float),
        }
        if random is not None:
            table |= {"random_score": np.array(random, float), "random_sd": np.linspace(0.03, 0.04, n)}
        given = {"integration": "jamie", "source": "rna", "target": "adt", "metric": "lta", "labels_key": "cell_type"}
        given |= {"keep": False, "background": "mean", "of_sets": False, "n_cells": 1208, "n_targets": 0}
        mdata.uns[key] = {"params": given | params, "baseline": 0.9, "baseline_sd": 0.015, "table": table}
        return mdata

    return make


def ticks(ax):
    return [label.get_text() for label in ax.get_xticklabels()]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def points(ax):
    """x, y, fill and edge of each point, from the left."""
    found = []
    for scatter in ax.collections:
        if hasattr(scatter, "get_sizes"):
            for i, (x, y) in enumerate(scatter.get_offsets()):
                colors = scatter.get_facecolors(), scatter.get_edgecolors()
                found.append((x, y, *(to_hex(c[i % len(c)]) for c in colors)))
    return pd.DataFrame(sorted(found), columns=["x", "y", "fill", "edge"])


def bars(ax):
    """Ends of the error bars, by place."""
    found = {}
    for lines in ax.collections:
        if hasattr(lines, "get_segments"):
            found |= {round(float(s[0, 0]), 6): (s[0, 1], s[1, 1]) for s in lines.get_segments()}
    return dict(sorted(found.items()))


def test_leading_and_random_features(write, unchanged):
    scores = np.r_[0.9, 0.8, 0.7, 0.85, np.linspace(0.86, 0.95, 16)]
    mdata = write(scores)
    with unchanged(mdata):
        ax = jsc.pl.feature_impact(mdata, n_features=3, n_random=5, show=False)
    assert isinstance(ax, Axes)
    assert ticks(ax)[:3] == ["gene2", "gene1", "gene3"]
    others = ticks(ax)[3:]
    assert len(set(others)) == 5
    assert not set(others) & set(ticks(ax)[:3])
    drawn = points(ax)
    assert drawn["x"].tolist() == list(range(8))
    places = [int(name.removeprefix("gene")) for name in ticks(ax)]
    np.testing.assert_allclose(drawn["y"], scores[places])
    assert drawn["y"][3:].is_monotonic_increasing
    assert drawn["edge"].tolist() == 3 * [BLUE] + 5 * [GREY]
    sd = mdata.uns["jamie_impact"]["table"]["sd"][places]
    np.testing.assert_allclose(list(bars(ax).values()), np.column_stack([drawn["y"] - sd, drawn["y"] + sd]))
    assert [to_hex(label.get_color()) for label in ax.get_xticklabels()] == 3 * ["#000000"] + 5 * [GREY]
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {90}


def test_other_random_features_by_rng(write):
    mdata = write(np.linspace(0.7, 0.95, 25))

    def drawn(**options):
        return ticks(jsc.pl.feature_impact(mdata, show=False, **options))

    assert len(drawn()) == 20
    assert drawn() == drawn(rng=0) != drawn(rng=1)
    assert drawn()[:14] == drawn(rng=1)[:14]
    assert len(drawn(n_random=0)) == 14
    assert len(drawn(n_random=100)) == len(drawn(n_features=100)) == 25
    assert "others, at random" not in legend(jsc.pl.feature_impact(mdata, n_random=0, show=False))


def test_baseline_and_its_error(write):
    ax = jsc.pl.feature_impact(write([0.8, 0.85]), show=False)
    (line,) = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0] == 0.9]
    assert to_hex(line.get_color()) == to_hex("tab:red")
    assert legend(ax)[0] == "all features: 0.900 ± 0.015"
    (band,) = ax.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((0.885, 0.915))
    assert band.get_facecolor()[:3] == to_rgba("tab:red")[:3]


def test_the_axis_spans_what_is_uncertain(write):
    mdata = write([0.8999, 0.8998, 0.9])  # losses that are far smaller than their errors
    low, high = jsc.pl.feature_impact(mdata, show=False).get_ylim()
    assert low < 0.8998 - 0.01
    assert high > 0.9 + 0.015
    assert high - low < 0.1  # and not from 0


def test_full_points_are_significant_among_all_that_were_tried(write):
    pvalue = np.r_[1e-6, 0.001, 0.012, 0.9 * np.ones(47)]  # 0.012 * 50 / 3 is 0.2
    ax = jsc.pl.feature_impact(write(np.linspace(0.7, 0.9, 50), pvalue=pvalue), n_features=4, n_random=2, show=False)
    assert points(ax)["fill"].tolist() == [BLUE, BLUE, WHITE, WHITE, WHITE, WHITE]
    assert {"loss significant (FDR 5%)", "not significant"} <= set(legend(ax))
    ax = jsc.pl.feature_impact(write([0.8, 0.7]), show=False)
    assert "loss significant (FDR 5%)" not in legend(ax)
    ax = jsc.pl.feature_impact(write([0.8, 0.7], pvalue=[0, 0]), show=False)
    assert "not significant" not in legend(ax)


def test_ties_with_the_last_are_counted(write):
    mdata = write([0.8, *[0.89] * 9, 0.9, 0.9])
    ax = jsc.pl.feature_impact(mdata, n_features=4, n_random=1, show=False)
    assert legend(ax)[1] == "largest impact\n(6 more have that of the last)"
    assert legend(jsc.pl.feature_impact(mdata, n_features=1, show=False))[1] == "largest impact"
    assert legend(jsc.pl.feature_impact(mdata, n_features=12, show=False))[1] == "largest impact"


def test_sets_in_their_order_beside_random_ones(write):
    names = ["within 10 kb", "same chromosome", "genome-wide"]
    mdata = write([0.9, 0.7, 0.1], names=names, n_features=[1, 12, 1286], random=[0.89, 0.6, 0.2], of_sets=True)
    ax = jsc.pl.feature_impact(mdata, n_features=1, show=False)
    assert ticks(ax) == ["within 10 kb\n1 feature", "same\nchromosome\n12 features", "genome-wide\n1,286 features"]
    drawn = points(ax)
    np.testing.assert_allclose(drawn[["x", "y"]], np.column_stack([np.arange(3) - 0.12, [0.9, 0.7, 0.1]]))
    (random,) = [line for line in ax.lines if len(line.get_xdata()) == 3 and line.get_marker() == "D"]
    np.testing.assert_allclose(random.get_xydata(), np.column_stack([np.arange(3) + 0.12, [0.89, 0.6, 0.2]]))
    assert to_hex(random.get_color()) == GREY
    np.testing.assert_allclose(bars(ax)[2.12], [0.2 - 0.04, 0.2 + 0.04])
    np.testing.assert_allclose(bars(ax)[1.88], [0.1 - 0.02, 0.1 + 0.02])
    assert "random sets as large,\nmean ± s.d." in legend(ax)


def test_sets_without_random_ones(write):
    ax = jsc.pl.feature_impact(write([0.9, 0.7], of_sets=True), show=False)
    assert points(ax)["x"].tolist() == [0, 1]
    assert not any("random" in text for text in legend(ax))


@pytest.mark.parametrize(
    ("params", "title"),
    [
        ({}, "rna features, one at a time, replaced by their means"),
        ({"background": "5"}, "rna features, one at a time, replaced by those of other cells"),
        ({"of_sets": True}, "sets of rna features replaced by their means"),
        ({"of_sets": True, "keep": True}, "all rna features but the set replaced by their means"),
    ],
    ids=["each", "background", "sets", "keep"],
)
def test_the_title_says_what_was_replaced(write, params, title):
    ax = jsc.pl.feature_impact(write([0.8, 0.7], **params), show=False)
    assert ax.get_title() == f"{title}\n1,208 cells"


@pytest.mark.parametrize(
    ("params", "label"),
    [
        ({}, "label transfer accuracy\n(cell_type of rna by adt)"),
        (
            {"metric": "pearson", "n_targets": 29},
            "Pearson correlation\nof measured and imputed\n(adt, mean over 29 features)",
        ),
        ({"metric": "pearson", "n_targets": 1, "near": "Tau"}, "Pearson correlation\nof measured and imputed\n(Tau)"),
    ],
    ids=["lta", "pearson", "near"],
)
def test_the_axis_says_what_was_scored(write, params, label):
    assert jsc.pl.feature_impact(write([0.8, 0.7], **params), show=False).get_ylabel() == label


@pytest.mark.parametrize("of_sets", [False, True], ids=["features", "sets"])
def test_long_names_are_inside(write, of_sets):
    names = [f"{i} " + 9 * "a long name " for i in range(20)]
    ax = jsc.pl.feature_impact(write(np.linspace(0.7, 0.9, 20), names=names, of_sets=of_sets), show=False)
    figure = ax.figure
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in (*ax.get_xticklabels(), ax.title, ax.yaxis.label, ax.get_legend())]
    assert min(min(box.x0, box.y0) for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= figure.bbox.width
    assert max(box.y1 for box in boxes) <= figure.bbox.height
    labels = boxes[:20]
    assert not any(a.overlaps(b) for a, b in zip(labels, labels[1:], strict=False))
    assert (ax.bbox.height / figure.dpi) == pytest.approx(2.8, abs=0.1)


def test_what_the_tool_wrote(trained):
    jsc.tl.feature_impact(trained, source="rna", labels_key="cell_type", progress=False)
    table = jsc.get.feature_impact(trained)
    ax = jsc.pl.feature_impact(trained, n_features=5, n_random=0, show=False)
    assert ticks(ax) == list(table.index[:5])
    np.testing.assert_allclose(points(ax)["y"], table["score"].iloc[:5])
    sets = {"first": ["rna0", "rna1"], "all": list(trained["rna"].var_names)}
    jsc.tl.feature_impact(trained, source="rna", features="adt3", sets=sets, key_added="sets", progress=False)
    with pytest.raises(KeyError, match=r"\['jamie_impact', 'sets'\]"):
        jsc.pl.feature_impact(trained, show=False)
    ax = jsc.pl.feature_impact(trained, key="sets", show=False)
    assert ticks(ax) == ["first\n2 features", "all\n25 features"]


def test_into_given_axes(write, shown):
    figure, axes = plt.subplots(1, 2, figsize=(9, 4))
    assert jsc.pl.feature_impact(write([0.8, 0.7]), ax=axes[0]) is axes[0]
    assert jsc.pl.feature_impact(write([0.8, 0.7], of_sets=True), ax=axes[1]) is axes[1]
    assert shown == []
    assert figure.get_size_inches().tolist() == [9, 4]


def test_shows_and_returns_nothing_by_default(write, shown):
    assert jsc.pl.feature_impact(write([0.8, 0.7])) is None
    assert shown == [1]


def test_errors(write, mdata):
    with pytest.raises(KeyError, match=r"jamie_sc\.tl\.feature_impact\(mdata, \.\.\.\) first"):
        jsc.pl.feature_impact(mdata, show=False)
    with pytest.raises(ValueError, match="n_features=0, n_random=6"):
        jsc.pl.feature_impact(write([0.8, 0.7]), n_features=0, show=False)
    with pytest.raises(ValueError, match="n_features=14, n_random=-1"):
        jsc.pl.feature_impact(write([0.8, 0.7]), n_random=-1, show=False)
    assert plt.get_fignums() == []
