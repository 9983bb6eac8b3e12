from __future__ import annotations

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse as sp
from matplotlib.axes import Axes
from scipy.stats import pearsonr

import jamie_sc as jsc

ADT = {"source": "rna", "target": "adt", "show": False}


@pytest.fixture
def imputed(trained):
    """48 of the 64 cells of "adt" were imputed from "rna"; the other 16 lack it. Features differ in size and mean."""
    jsc.tl.impute(trained, source="rna", target="adt")
    for values in (trained["adt"].X, trained["adt"].layers["jamie_from_rna"]):
        values *= np.linspace(1, 50, 20)
        values += np.linspace(100, 0, 20)
    return trained


@pytest.fixture
def both(imputed):
    """Names of the cells with both."""
    return [cell for cell in imputed["adt"].obs_names if cell in imputed["rna"].obs_names]


def values(mdata, cell, *, standardize):
    """Measured and imputed values of a cell; mean and s.d. are those of all 64 measured cells."""
    adt = mdata["adt"]
    mean, sd = (adt.X.mean(axis=0), adt.X.std(axis=0)) if standardize else (0, 1)
    return (adt[cell].X[0] - mean) / sd, (adt[cell].layers["jamie_from_rna"][0] - mean) / sd


def r2(measured, imputed):
    return 1 - ((measured - imputed) ** 2).sum() / ((measured - measured.mean()) ** 2).sum()


def offsets(ax):
    return np.asarray(ax.collections[0].get_offsets())


def named(ax):
    """Features that are named, in order."""
    return [text.get_text() for text in ax.texts[1:] if text.get_text()]


def corner(ax):
    return ax.texts[0].get_text().replace("\N{MINUS SIGN}", "-")


@pytest.mark.parametrize("standardize", [True, False])
def test_a_point_for_each_feature(imputed, both, unchanged, standardize):
    cell = both[7]
    with unchanged(imputed):
        ax = jsc.pl.cell(imputed, cell=cell, standardize=standardize, **ADT)
    assert isinstance(ax, Axes)
    x, y = values(imputed, cell, standardize=standardize)
    np.testing.assert_allclose(offsets(ax), np.column_stack([x, y]), rtol=1e-3, atol=1e-4)
    r, p = pearsonr(x, y)
    assert corner(ax) == f"R² = {r2(x, y):.2f}\nPearson r = {r:.2f} (p = {p:.1g})"
    assert ax.get_title() == cell
    unit = " (s.d. from the mean)" * standardize
    assert (ax.get_xlabel(), ax.get_ylabel()) == (f"measured{unit}", f"imputed from rna{unit}")


def test_diagonal(imputed):
    ax = jsc.pl.cell(imputed, **ADT)
    (line,) = ax.lines
    x, y = line.get_xy1()
    assert x == y
    assert line.get_slope() == 1
    assert line.get_linestyle() == "--"
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_box_aspect() == 1
    low, high = ax.get_xlim()
    assert low < offsets(ax).min() < offsets(ax).max() < high


@pytest.mark.parametrize("standardize", [True, False])
def test_default_cell_has_the_median_r2(imputed, both, standardize):
    scores = {cell: r2(*values(imputed, cell, standardize=standardize)) for cell in both}
    cell = jsc.pl.cell(imputed, standardize=standardize, **ADT).get_title()
    assert sum(score < scores[cell] for score in scores.values()) == 23  # the lower of the two in the middle of 48


def test_the_furthest_features_are_named(imputed, both):
    x, y = values(imputed, both[3], standardize=True)
    furthest = [f"adt{i}" for i in np.argsort(-abs(x - y))]
    assert named(jsc.pl.cell(imputed, cell=both[3], **ADT)) == furthest[:5]
    assert named(jsc.pl.cell(imputed, cell=both[3], n_labels=20, **ADT)) == furthest
    assert named(jsc.pl.cell(imputed, cell=both[3], n_labels=0, **ADT)) == []


def test_long_names_lie_beside_their_points_and_apart(imputed, both):
    imputed["adt"].var_names = [f"a long name of feature {i}" for i in range(20)]
    for cell in both[:4]:
        ax = jsc.pl.cell(imputed, cell=cell, **ADT)
        frame, boxes = ax.get_window_extent(), [text.get_window_extent() for text in ax.texts if text.get_text()]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        assert all(frame.contains(*box.min) and frame.contains(*box.max) for box in boxes)
        for text in ax.texts[1:]:
            assert max(map(abs, text.xyann)) <= 56  # points
            assert tuple(text.xy) in map(tuple, offsets(ax))
        assert sum(text.arrow_patch is not None for text in ax.texts[1:]) == 5


def test_sparse_values(imputed, both):
    dense = offsets(jsc.pl.cell(imputed, **ADT))
    imputed["adt"].X = sp.csr_matrix(imputed["adt"].X)
    np.testing.assert_allclose(offsets(jsc.pl.cell(imputed, **ADT)), dense, rtol=1e-3, atol=1e-4)


def test_constant_features_stay_where_they_are(imputed, both):
    imputed["adt"].X[:, 4] = 7
    imputed["adt"].layers["jamie_from_rna"][:, 4] = 8
    np.testing.assert_allclose(offsets(jsc.pl.cell(imputed, **ADT))[4], [0, 1], atol=1e-6)


def test_a_cell_of_nothing_but_zeros(imputed, both):
    imputed["adt"].X[imputed["adt"].obs_names.get_loc(both[0])] = 0
    ax = jsc.pl.cell(imputed, cell=both[0], standardize=False, **ADT)
    assert re.fullmatch(r"R² = -?[\d.]+", corner(ax))  # a constant has no correlation


def test_p_value_too_small_for_a_number(imputed):
    imputed["adt"].X[:] = np.add.outer(np.arange(64), np.arange(20))
    imputed["adt"].layers["jamie_from_rna"][:] = 2 * imputed["adt"].X
    assert corner(jsc.pl.cell(imputed, standardize=False, **ADT)).endswith("Pearson r = 1.00 (p < 1e-300)")


def test_minus_signs(imputed, both):
    imputed["adt"].layers["jamie_from_rna"] = -imputed["adt"].X
    text = jsc.pl.cell(imputed, standardize=False, **ADT).texts[0].get_text()
    assert "-" not in text
    assert "r = \N{MINUS SIGN}1.00" in text


def test_key(imputed, quick):
    jsc.tl.integrate(imputed, key_added="second", **quick)
    with pytest.raises(KeyError, match="'second_from_rna'"):
        jsc.pl.cell(imputed, key="second", **ADT)
    assert len(offsets(jsc.pl.cell(imputed, key="jamie", **ADT))) == 20


def test_into_given_axes(imputed, shown):
    _, (left, right) = plt.subplots(1, 2)
    assert jsc.pl.cell(imputed, ax=right, **(ADT | {"show": None})) is right
    assert len(offsets(right)) == 20
    assert not left.collections
    assert shown == []


def test_shows_and_returns_nothing_by_default(imputed, shown):
    assert jsc.pl.cell(imputed, **(ADT | {"show": None})) is None
    assert shown == [1]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"cell": "nobody"}, "1 of 1 cells were not both measured in 'adt' and imputed from 'rna': 'nobody'"),
        ({"source": "adt", "target": "rna"}, r"jamie_sc\.tl\.impute\(mdata, source='adt', target='rna'\)"),
        ({"target": "atac"}, "no modality 'atac'"),
    ],
)
def test_errors(imputed, asked, message):
    with pytest.raises(KeyError, match=message):
        jsc.pl.cell(imputed, **(ADT | asked))
    assert plt.get_fignums() == []


def test_one_feature(imputed, edit):
    edit(imputed, adt=imputed["adt"][:, :1].copy())
    with pytest.raises(ValueError, match="'adt' has only the feature 'adt0'"):
        jsc.pl.cell(imputed, **ADT)


def test_cells_that_lack_one_of_the_two(imputed, both):
    jsc.tl.impute(imputed, source="rna", target="adt", extend=True)
    lacks_source = next(cell for cell in imputed["adt"].obs_names if cell not in imputed["rna"].obs_names)
    added = imputed["adt"].obs_names[imputed["adt"].obs["jamie_imputed"]][0]
    for cell in (lacks_source, added):
        with pytest.raises(KeyError, match=f"1 of 1 cells .* '{cell}'"):
            jsc.pl.cell(imputed, cell=cell, **ADT)


def test_nothing_trained(mdata):
    with pytest.raises(KeyError, match=r"tl\.integrate"):
        jsc.pl.cell(mdata, **ADT)
