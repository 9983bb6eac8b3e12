from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrow

import jamie_sc as jsc

RED, BLUE = "#ff0051", "#008bfb"


@pytest.fixture
def explain():
    """Write SHAP values of four cells of "rna" by hand: (4, 25), 0 but for the first features."""

    def write(mdata, *rows, base=10.0, key="jamie_shap", outputs=("adt3",), **params):
        values = np.zeros((4, 25, len(outputs)), np.float32)
        for i, row in enumerate(rows):
            values[i, : len(row)] = np.array(row)[:, None]
        mdata.uns[key] = {
            "params": {"integration": "jamie", "source": "rna"} | (params or {"target": "adt"}),
            "values": values,
            "base_values": np.full(len(outputs), base, np.float32),
            "cells": mdata["rna"].obs_names[:4].to_numpy(object),
            "features": mdata["rna"].var_names.to_numpy(object),
            "outputs": np.array(outputs, object),
        }
        return mdata

    return write


@pytest.fixture
def explained(mdata, explain):
    return explain(mdata, [1, 1, -1], [5, -2, 0.5, 0.25], [4, -5, 3], [1])


def arrows(ax):
    """Start, tip and colour of each row, from the top."""
    found = {}
    for patch in ax.patches:
        if isinstance(patch, FancyArrow):
            points = patch.get_xy()
            row = round(points[:, 1].mean())
            tip = points[np.abs(points[:, 1] - row) < 1e-9, 0]
            far = tip[0]
            start = max(points[:, 0], key=lambda x: abs(x - far))
            found[row] = (start, far, to_hex(patch.get_facecolor()))
    return [found[row] for row in sorted(found, reverse=True)]


def numbers(ax):
    """Text of each row, from the top."""
    return [text.get_text() for text in sorted(ax.texts, key=lambda text: -text.get_position()[1])]


def names(ax):
    """Name of each row, from the top: shap writes each twice, with its value and without."""
    labels = [label.get_text() for label in ax.get_yticklabels()]
    return labels[: len(labels) // 2][::-1]


def edges(ax):
    """What is written at the edges: f(x) and E[f(X)]."""
    return {label.get_text().strip() for a in ax.figure.axes if a is not ax for label in a.get_xticklabels()}


def inside(artist):
    figure = artist.figure.canvas.figure
    box = artist.get_window_extent()
    return box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height


def all_text_is_inside(ax):
    figure = ax.figure.canvas.figure
    figure.draw_without_rendering()
    texts = [ax.title, ax.xaxis.label, *ax.get_yticklabels(), *ax.texts]
    texts += [label for a in figure.axes for label in a.get_xticklabels() if a is not ax]
    return all(inside(text) for text in texts)


def assert_arrows(ax, base, steps):
    """They lead from the base at the bottom to f(x) at the top, each the right way."""
    ends = base + np.cumsum(steps[::-1])[::-1]
    drawn = arrows(ax)
    np.testing.assert_allclose([tip for _, tip, _ in drawn], ends, rtol=1e-5)
    np.testing.assert_allclose([start for start, _, _ in drawn], ends - steps, rtol=1e-5)
    assert [color for *_, color in drawn] == [RED if step > 0 else BLUE for step in steps]


def test_arrows_lead_from_the_base_to_the_cell(explained, unchanged):
    cell = explained["rna"].obs_names[1]
    with unchanged(explained):
        ax = jsc.pl.shap_waterfall(explained, cell=cell, max_display=4, show=False)
    assert isinstance(ax, Axes)
    assert_arrows(ax, 10, np.array([5, -2, 0.5, 0.25]))
    assert numbers(ax) == ["+5", "−2", "+0.5", "+0.25"]
    values = explained["rna"][cell].to_df().iloc[0]
    expected = [f"{values[f'rna{i}']:.3f}".rstrip("0").rstrip(".").replace("-", "−") for i in range(3)]
    assert names(ax) == [*(f"{value} = rna{i}" for i, value in enumerate(expected)), "22 other features"]
    assert edges(ax) == {"$f(x)$", "$ = 13.75$", "$E[f(X)]$", "$ = 10$"}
    assert ax.get_title() == f"{cell}\nimputed adt3 from rna"
    assert ax.get_xlabel() == "imputed adt3"
    assert all_text_is_inside(ax)


def test_the_last_row_sums_up_all_others(explained):
    ax = jsc.pl.shap_waterfall(explained, cell=explained["rna"].obs_names[2], max_display=2, show=False)
    assert_arrows(ax, 10, np.array([-5, 7]))
    assert names(ax)[-1] == "24 other features"
    ax = jsc.pl.shap_waterfall(explained, max_display=100, show=False)
    assert len(names(ax)) == 25
    assert "other" not in "".join(names(ax))


def test_the_cell_furthest_from_the_base_by_default(explained, explain):
    cells = explained["rna"].obs_names
    assert jsc.pl.shap_waterfall(explained, show=False).get_title().startswith(f"{cells[1]}\n")  # 3.75 above
    explain(explained, [1], [3, 3], [4, -4], [-7])
    assert jsc.pl.shap_waterfall(explained, show=False).get_title().startswith(f"{cells[3]}\n")  # 7 below


def test_short_arrows_keep_their_direction(mdata, explain):
    explain(mdata, [100, 0.3, -0.2, 0.1])  # all but the first are shorter than a head
    ax = jsc.pl.shap_waterfall(mdata, max_display=4, show=False)
    assert_arrows(ax, 10, np.array([100, 0.3, -0.2, 0.1]))
    _, axes = plt.subplots(2, 3, layout="constrained")
    jsc.pl.shap_waterfall(mdata, max_display=4, ax=axes[0, 1])
    assert_arrows(axes[0, 1], 10, np.array([100, 0.3, -0.2, 0.1]))


def test_numbers_are_in_their_arrows_or_beside_them(mdata, explain):
    explain(mdata, [100, -80, 0.3, -0.2])
    ax = jsc.pl.shap_waterfall(mdata, max_display=4, show=False)
    ax.figure.draw_without_rendering()
    found = {text.get_text(): text for text in ax.texts}
    frame = ax.get_window_extent()
    for text, (start, tip, color) in zip(map(found.get, numbers(ax)), arrows(ax), strict=True):
        box = text.get_window_extent()
        low, high = ax.transData.transform([(min(start, tip), 0), (max(start, tip), 0)])[:, 0]
        if abs(tip - start) > 50:
            assert low < box.x0 < box.x1 < high
            assert to_hex(text.get_color()) == "#ffffff"
        else:
            assert box.x0 > high if tip > start else box.x1 < low
            assert to_hex(text.get_color()) == color
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
    assert len({a.get_xlim() for a in ax.figure.axes}) == 1


@pytest.mark.parametrize(
    ("size", "power", "text"), [(1e-5, -6, "+50"), (0.001, -3, "+5"), (1e4, 3, "+50"), (1.0, 0, "+5")]
)
def test_small_and_large_values_in_powers_of_ten(mdata, explain, size, power, text):
    explain(mdata, [5 * size, -2 * size], base=20 * size)
    ax = jsc.pl.shap_waterfall(mdata, show=False)
    assert numbers(ax)[0] == text
    scale = rf" ($\times 10^{{{power}}}$)" if power else ""
    assert ax.get_xlabel() == f"imputed adt3{scale}"
    assert arrows(ax)[0][1] == pytest.approx(23 * size / 10.0**power, rel=1e-5)


def test_nothing_to_see(mdata, explain):
    explain(mdata, [], base=0.0)
    ax = jsc.pl.shap_waterfall(mdata, show=False)
    ax.figure.draw_without_rendering()
    assert len(names(ax)) == 10


@pytest.mark.parametrize(
    ("base", "text"), [(257.967, "$ = 262.967$"), (-65.125, "$ = −60.125$"), (9876.5, "$ = 9881.5$")]
)
def test_both_ends_are_labelled(mdata, explain, base, text):
    explain(mdata, [5], base=base)
    assert {"$f(x)$", text, "$E[f(X)]$"} <= edges(jsc.pl.shap_waterfall(mdata, show=False))


@pytest.mark.parametrize(
    ("params", "output", "unit"),
    [
        ({"target": "adt"}, "Tau", "imputed Tau"),
        ({"labels_key": "cell_type"}, "branch 1", "logit of branch 1"),
        ({"n_background": 1}, "latent 3", "latent 3"),
    ],
    ids=["imputed", "label", "latent"],
)
def test_the_axis_says_what_is_explained(mdata, explain, params, output, unit):
    explain(mdata, [1, 2], outputs=(output,), **params)
    ax = jsc.pl.shap_waterfall(mdata, show=False)
    assert ax.get_xlabel() == unit
    assert ax.get_title().endswith(f"\n{unit} from rna")


def test_output(mdata, explain):
    explain(mdata, [1, 2], outputs=("adt3", "adt5"))
    mdata.uns["jamie_shap"]["values"][..., 1] *= -1
    with pytest.raises(KeyError, match=r"2 outputs were explained: \['adt3', 'adt5'\].*output="):
        jsc.pl.shap_waterfall(mdata, show=False)
    ax = jsc.pl.shap_waterfall(mdata, output="adt5", max_display=2, show=False)
    assert_arrows(ax, 10, np.array([-2, -1]))
    assert ax.get_xlabel() == "imputed adt5"
    with pytest.raises(KeyError, match="'adt7' was not explained"):
        jsc.pl.shap_waterfall(mdata, output="adt7", show=False)


def test_key(explained, explain):
    explain(explained, [-3], key="second")
    with pytest.raises(KeyError, match=r"\['jamie_shap', 'second'\]"):
        jsc.pl.shap_waterfall(explained, show=False)
    assert_arrows(jsc.pl.shap_waterfall(explained, key="second", max_display=1, show=False), 10, np.array([-3]))


def test_cells_that_have_gone(explained, edit):
    first, second, *_ = explained["rna"].obs_names
    edit(explained, rna=explained["rna"][explained["rna"].obs_names != first].copy())
    ax = jsc.pl.shap_waterfall(explained, cell=second, max_display=4, show=False)
    assert_arrows(ax, 10, np.array([5, -2, 0.5, 0.25]))
    with pytest.raises(KeyError, match=f"'{first}' is none of the 3 cells that were explained"):
        jsc.pl.shap_waterfall(explained, cell=first, show=False)
    edit(explained, rna=explained["rna"][5:].copy())
    with pytest.raises(KeyError, match="None of the 4 cells explained is in mdata any more"):
        jsc.pl.shap_waterfall(explained, show=False)


def test_what_explain_wrote(trained):
    jsc.tl.explain(trained, source="rna", target="adt", features="adt3", cells=5, progress=False)
    record = trained.uns["jamie_shap"]
    ax = jsc.pl.shap_waterfall(trained, cell=record["cells"][2], max_display=25, show=False)
    steps = record["values"][2, :, 0]
    power = 10.0 ** (int(ax.get_xlabel().split("{")[1].split("}")[0]) if "times" in ax.get_xlabel() else 0)
    order = np.argsort(-np.abs(steps))
    assert_arrows(ax, record["base_values"][0] / power, steps[order] / power)
    assert [name.split(" = ")[1] for name in names(ax)] == list(record["features"][order])


def test_long_names(explained, edit):
    rna = explained["rna"].copy()
    rna.var_names = [f"chr{i}-1000{i}-2000{i}_" + 8 * "a_long_name_" for i in range(25)]
    edit(explained, rna=rna)
    explained.uns["jamie_shap"]["features"] = rna.var_names.to_numpy(object)
    ax = jsc.pl.shap_waterfall(explained, show=False)
    assert all_text_is_inside(ax)
    assert ax.bbox.width / ax.figure.dpi > 5


def test_into_given_axes(explained, shown):
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    limits = axes[0, 0].get_xlim()
    _, other = plt.subplots()
    plt.ion()
    try:
        assert jsc.pl.shap_waterfall(explained, ax=axes[0, 1]) is axes[0, 1]
        assert plt.isinteractive()
    finally:
        plt.ioff()
    assert shown == []
    assert figure.get_size_inches().tolist() == [9, 7]
    assert axes[0, 0].get_xlim() == limits
    assert len(plt.get_fignums()) == 2
    assert plt.gca() is other
    assert figure.gca() is axes[1, 1]
    jsc.pl.shap_waterfall(explained, ax=axes[1, 0])
    jsc.pl.shap_waterfall(explained, ax=axes[1, 0])  # twice, over itself
    assert plt.gca() is other


def test_into_a_subfigure(explained):
    figure = plt.figure(figsize=(9, 4))
    axes = figure.subfigures(1, 2)[1].subplots()
    assert jsc.pl.shap_waterfall(explained, ax=axes, max_display=4) is axes
    assert_arrows(axes, 10, np.array([5, -2, 0.5, 0.25]))
    assert figure.get_size_inches().tolist() == [9, 4]


def test_a_new_figure(explained, shown):
    ax = jsc.pl.shap_waterfall(explained, show=False)
    assert len(plt.get_fignums()) == 1
    assert plt.gca() is ax
    assert shown == []
    assert jsc.pl.shap_waterfall(explained) is None
    assert shown == [1]


def test_errors(explained, mdata):
    with pytest.raises(KeyError, match="'nobody' is none of the 4 cells that were explained: 'cell"):
        jsc.pl.shap_waterfall(explained, cell="nobody", show=False)
    with pytest.raises(ValueError, match="max_display=0"):
        jsc.pl.shap_waterfall(explained, max_display=0, show=False)
    with pytest.raises(ValueError, match=r"plt\.subplots\(\)"):
        jsc.pl.shap_waterfall(explained, ax=Figure().subplots())
    del mdata.uns["jamie_shap"]
    with pytest.raises(KeyError, match=r"jamie_sc\.tl\.explain\(mdata, \.\.\.\) first"):
        jsc.pl.shap_waterfall(mdata, show=False)
    assert plt.get_fignums() == []
