from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

import jamie_sc as jsc


@pytest.fixture
def methods():
    """Two runs of one method, one of two others."""
    return pd.DataFrame(
        {
            "method": ["JAMIE", "CCA", "JAMIE", "LMA"],
            "lta": [0.9, 0.3, 0.8, 0.7],
            "foscttm": [0.1, 0.4, 0.0, 0.6],
        },
        index=[3, 3, 3, 3],
    )


@pytest.fixture
def fractions():
    """Two splits and two directions at each of three fractions, out of order."""
    rows = [
        {
            "split": split,
            "source": source,
            "target": target,
            "paired_fraction": fraction,
            "lta": fraction / 2 + 0.1 * split,
            "foscttm": 0.5 - fraction / 2,
            "pearson": (fraction - 0.6 + 0.2 * split) * (1 if source == "rna" else 0.5),
        }
        for split in (0, 1)
        for fraction in (1.0, 0.25, 0.5)
        for source, target in (("rna", "adt"), ("adt", "rna"))
    ]
    return pd.DataFrame(rows)


def offsets(ax):
    """Points of each scatter, sorted."""
    return [sorted(map(tuple, np.round(collection.get_offsets(), 6))) for collection in ax.collections]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_point_for_each_method(methods):
    before = methods.copy()
    ax = jsc.pl.alignment_scores(methods, show=False)
    assert isinstance(ax, Axes)
    pd.testing.assert_frame_equal(methods, before)
    assert offsets(ax) == [[(0.0, 0.8), (0.1, 0.9)], [(0.05, 0.85)], [(0.4, 0.3)], [(0.6, 0.7)]]
    assert legend(ax) == ["JAMIE", "CCA", "LMA"]
    colors = [to_hex(c.get_facecolor()[0][:3]) for c in ax.collections]
    assert colors[0] == colors[1]  # the runs of a method and their mean
    assert len(set(colors)) == 3
    assert len({c.get_paths()[0].vertices.shape for c in ax.collections[1:]}) > 1  # markers differ too
    assert ax.get_xlabel().startswith("FOSCTTM")
    assert "accuracy" in ax.get_ylabel()
    assert ax.get_xlim()[0] < 0 < 0.6 < ax.get_xlim()[1]
    assert 0 < ax.get_ylim()[0] < 0.3
    assert [text.get_text() for text in ax.texts] == ["chance"]


def test_good_scores_fill_the_axes(methods):
    ax = jsc.pl.alignment_scores(methods.assign(foscttm=[0.001, 0.02, 0.001, 0.03]), show=False)
    assert ax.get_xlim()[1] == pytest.approx(0.1)
    assert len(ax.texts) == 0  # chance is far away


def test_what_evaluate_returns(mdata):
    scores = jsc.tl.evaluate(mdata, labels_key="cell_type", params={"max_steps": 5}, progress=False)
    ax = jsc.pl.alignment_scores(scores, show=False)
    assert offsets(ax)[-1] == [tuple(np.round([scores["foscttm"].mean(), scores["lta"].mean()], 6))]
    assert ax.get_legend() is None


def test_more_methods_than_colours():
    scores = pd.DataFrame({"method": range(25), "lta": np.linspace(0, 1, 25), "foscttm": 0.1})
    ax = jsc.pl.alignment_scores(scores, show=False)
    assert legend(ax) == [str(i) for i in range(25)]
    assert ax.get_ylim()[0] < 0


def test_lines_over_the_fraction(fractions):
    before = fractions.copy()
    ax = jsc.pl.alignment_scores(fractions, show=False)
    pd.testing.assert_frame_equal(fractions, before)
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    expected = {
        "LTA": [0.175, 0.3, 0.55],
        "FOSCTTM (lower is better)": [0.375, 0.25, 0.0],
        "Pearson, rna → adt": [-0.25, 0.0, 0.5],
        "Pearson, adt → rna": [-0.125, 0.0, 0.25],
    }
    assert list(lines) == list(expected) == legend(ax)
    for name, values in expected.items():
        np.testing.assert_allclose(lines[name], np.column_stack([[0.25, 0.5, 1], values]), atol=1e-12)
    assert [len(points) for points in offsets(ax)] == [12, 12, 6, 6]
    assert (0.25, -0.35) in offsets(ax)[2]
    assert ax.get_ylim()[0] < -0.35
    assert "paired" in ax.get_xlabel()


def test_methods_differ_by_line_style(fractions):
    both = pd.concat([fractions.assign(method="JAMIE"), fractions.assign(method="CLUE", lta=0.2)])
    ax = jsc.pl.alignment_scores(both.drop(columns=["source", "target"]), show=False)
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines)[:2] == ["LTA JAMIE", "LTA CLUE"]
    assert lines["LTA JAMIE"].get_color() == lines["LTA CLUE"].get_color()
    assert lines["LTA JAMIE"].get_linestyle() != lines["LTA CLUE"].get_linestyle()
    assert lines["LTA CLUE"].get_ydata().tolist() == pytest.approx([0.2] * 3)
    assert legend(ax) == ["LTA", "FOSCTTM (lower is better)", "Pearson", "JAMIE", "CLUE"]


def test_a_score_without_numbers_is_left_out(fractions):
    ax = jsc.pl.alignment_scores(fractions.assign(lta=np.nan).drop(columns="pearson"), show=False)
    assert legend(ax) == ["FOSCTTM (lower is better)"]


def test_into_given_axes(methods, fractions, shown):
    _, axes = plt.subplots(1, 2)
    assert jsc.pl.alignment_scores(methods, ax=axes[0]) is axes[0]
    assert jsc.pl.alignment_scores(fractions, ax=axes[1]) is axes[1]
    assert shown == []


def test_shows_and_returns_nothing_by_default(methods, shown):
    assert jsc.pl.alignment_scores(methods) is None
    assert shown == [1]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"lta": None}, KeyError, r"no column 'lta': .*jamie_sc\.tl\.evaluate"),
        ({"foscttm": None}, KeyError, "no column 'foscttm'"),
        ({"lta": np.nan}, ValueError, "None of the 4 rows .* numbers in 'lta' and 'foscttm'.*labels_key="),
        ({"foscttm": np.nan}, ValueError, "None of the 4 rows .* numbers in 'lta' and 'foscttm'\\.$"),
    ],
    ids=["no lta", "no foscttm", "lta NaN", "foscttm NaN"],
)
def test_errors(methods, change, error, message):
    (column, value), *_ = change.items()
    scores = methods.drop(columns=column) if value is None else methods.assign(**change)
    with pytest.raises(error, match=message):
        jsc.pl.alignment_scores(scores, show=False)
    with pytest.raises(ValueError, match="None of the 0 rows"):
        jsc.pl.alignment_scores(methods.iloc[:0], show=False)
    assert plt.get_fignums() == []
