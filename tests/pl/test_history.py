from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes

import jamie_sc as jsc


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
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(lines)
    assert (ax.get_xlabel(), ax.get_yscale()) == ("optimiser step", "log")
    assert ax.get_ylabel().startswith("loss term")


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
    assert len(jsc.pl.history(mdata, show=False).lines) == 0


def test_nothing_trained(mdata):
    with pytest.raises(KeyError, match=r"tl\.integrate"):
        jsc.pl.history(mdata, show=False)
