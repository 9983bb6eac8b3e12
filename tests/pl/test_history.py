from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes

import jamie_sc as jsc

KAPPA = "κ, weight of the KL term"


def test_a_line_for_each_loss_term(trained, unchanged):
    history = jsc.get.history(trained)
    with unchanged(trained):
        ax = jsc.pl.history(trained, show=False)
    assert isinstance(ax, Axes)
    lines = {line.get_label(): line for line in ax.lines}
    assert set(lines) == set(history) - {"total", "kappa"}
    for term, line in lines.items():
        np.testing.assert_array_equal(line.get_xdata(), history.index)
        np.testing.assert_array_equal(line.get_ydata(), history[term])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*lines, KAPPA]
    assert (ax.get_xlabel(), ax.get_yscale()) == ("optimiser step", "log")
    assert ax.get_ylabel().startswith("loss term")


def test_kappa_has_axes_of_its_own(trained):
    history = jsc.get.history(trained)
    ax = jsc.pl.history(trained, show=False)
    _, right = ax.figure.axes
    (line,) = right.lines
    np.testing.assert_array_equal(line.get_xydata(), np.column_stack([history.index, history["kappa"]]))
    assert (line.get_label(), line.get_linestyle(), line.get_color()) == (KAPPA, "--", "0.5")
    assert (right.get_ylabel(), right.get_yscale()) == (KAPPA, "linear")
    assert right.get_ylim()[0] == 0 < 1 < right.get_ylim()[1] < 1.1
    assert right.yaxis.get_label_position() == "right"
    ax.figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().x0 > right.yaxis.label.get_window_extent().x1
    assert ax.figure.bbox.x1 > ax.get_legend().get_window_extent().x1


def test_into_given_axes(trained, shown):
    _, ax = plt.subplots()
    assert jsc.pl.history(trained, ax=ax) is ax
    assert len(ax.lines) > 2
    assert shown == []


def test_shows_and_returns_nothing_by_default(trained, shown):
    assert jsc.pl.history(trained) is None
    assert shown == [1]


def test_query_mapped_with_a_bare_model_has_no_history(trained, mdata):
    jsc.tl.map_query(mdata, jsc.models.from_state(trained.uns["jamie"]["model"]))
    ax = jsc.pl.history(mdata, show=False)
    assert len(ax.lines) == 0
    assert ax.figure.axes == [ax]
    assert ax.get_legend() is None


def test_nothing_trained(mdata):
    with pytest.raises(KeyError, match=r"tl\.integrate"):
        jsc.pl.history(mdata, show=False)
