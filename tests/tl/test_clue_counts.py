"""Counts imputed by CLUE: their library size, and what is known of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata


@pytest.fixture(scope="module")
def _trained_on_counts(simulate):
    mdata = simulate(count_noise=True)
    for mod in mdata.mod.values():  # depths that differ, so that the median is not everybody's
        depth = np.random.default_rng(1).integers(1, 4, mod.n_obs)
        mod.layers["counts"] = mod.layers["counts"].multiply(depth[:, None]).tocsr().astype(np.float32)
        mod.X = np.log1p(mod.layers["counts"].toarray())
    jsc.tl.integrate(mdata, model="clue", layer="counts", params={"max_steps": 40}, progress=False)
    return mdata


@pytest.fixture
def mdata(_trained_on_counts):
    """80 cells of "rna" and "adt", 48 of them in both, with counts in a layer that CLUE was trained on."""
    return copy_of(_trained_on_counts)


def totals(mdata, name):
    """Counts of each cell of a modality."""
    return pd.Series(np.ravel(mdata[name].layers["counts"].sum(axis=1)), mdata[name].obs_names)


def imputed(mdata, source="rna", target="adt", **options):
    """What `tl.impute` writes for the cells of the target that have the source."""
    jsc.tl.impute(mdata, source=source, target=target, **options)
    return mdata[target].to_df(f"clue_from_{source}").dropna()


@pytest.mark.parametrize(("source", "target"), [("rna", "adt"), ("adt", "rna"), ("adt", "adt")])
def test_counts_are_imputed_at_the_median_library_size(mdata, source, target):
    values = imputed(mdata, source, target)
    assert len(values) == (64 if source == target else 48)
    assert (values >= 0).all(axis=None)
    np.testing.assert_allclose(values.sum(axis=1), totals(mdata, target).median(), rtol=1e-4)


@pytest.mark.parametrize("library", [1e4, 1, 2.5])
def test_at_a_library_size_of_ones_own(mdata, library):
    typical = imputed(mdata)
    values = imputed(mdata, library=library)
    np.testing.assert_allclose(values.sum(axis=1), library, rtol=1e-4)
    np.testing.assert_allclose(values / library, typical / totals(mdata, "adt").median(), rtol=1e-4, atol=1e-7)


def test_at_the_library_sizes_observed(mdata):
    own = totals(mdata, "adt")
    assert own.nunique() > 10
    values = imputed(mdata, library="observed")
    np.testing.assert_allclose(values.sum(axis=1), own[values.index], rtol=1e-4)


def test_observed_is_the_median_where_the_target_was_not_measured(mdata):
    expected = totals(mdata, "adt").reindex(mdata["rna"].obs_names).fillna(totals(mdata, "adt").median())
    jsc.tl.impute(mdata, source="rna", target="adt", library="observed", extend=True)
    added = mdata["adt"].obs["jamie_imputed"]
    assert added.sum() == 16
    values = mdata["adt"].to_df("clue_from_rna").dropna()
    assert len(values) == 64
    np.testing.assert_allclose(values.sum(axis=1), expected[values.index], rtol=1e-4)
    again = imputed(mdata, library="observed")  # cells that were added have no library size of their own
    pd.testing.assert_frame_equal(again, values)


def test_observed_in_a_query_without_the_target(mdata):
    query = make_mudata({"rna": mdata["rna"].copy()})
    jsc.tl.map_query(query, mdata)
    for _ in range(2):  # the second time it has the target, with no cell that was measured
        jsc.tl.impute(query, source="rna", target="adt", library="observed", extend=True)
        values = query["adt"].to_df("clue_from_rna")
        np.testing.assert_allclose(values.sum(axis=1), totals(mdata, "adt").median(), rtol=1e-4)


def test_extend(mdata):
    jsc.tl.impute(mdata, source="rna", target="adt", extend=True)
    adt = mdata["adt"]
    new = adt[adt.obs["jamie_imputed"]]
    assert new.n_obs == 16
    assert np.isnan(new.layers["counts"].toarray()).all()
    assert (new.layers["clue_from_rna"] >= 0).all()
    np.testing.assert_allclose(new.obsm["X_clue"], mdata["rna"][new.obs_names].obsm["X_clue"], rtol=1e-5)


def test_only_the_features_that_are_left_add_up_to_less(mdata, edit):
    whole = imputed(copy_of(mdata))
    edit(mdata, adt=mdata["adt"][:, ["adt7", "adt2"]].copy())
    part = imputed(mdata)
    np.testing.assert_allclose(part, whole.loc[part.index, part.columns], rtol=1e-4)


def test_imputed_counts_follow_the_measured_ones(mdata):
    values = imputed(mdata, library="observed")
    measured = mdata["adt"].to_df("counts").loc[values.index]
    assert np.corrcoef(values.to_numpy().ravel(), measured.to_numpy().ravel())[0, 1] > 0.5


# How sure -----------------------------------------------------------------------------------------------------------


def test_intervals_of_counts(mdata):
    values = imputed(mdata, n_samples=20, interval=0.8)
    adt = mdata["adt"]
    parts = {part: adt.to_df(f"clue_from_rna_{part}").loc[values.index] for part in ("sd", "lower", "upper")}
    assert (parts["lower"] >= 0).all(axis=None)
    assert (parts["lower"] == 0).any(axis=None)
    assert (parts["lower"] <= values).all(axis=None)
    assert (values <= parts["upper"]).all(axis=None)
    assert (parts["sd"] > 0).all(axis=None)
    np.testing.assert_allclose(values.sum(axis=1), totals(mdata, "adt").median(), rtol=1e-4)  # as each draw does
    measured = adt.to_df("counts").loc[values.index]
    assert 0.65 < ((parts["lower"] <= measured) & (measured <= parts["upper"])).mean(axis=None) < 0.99


@pytest.mark.parametrize("library", [1e4, "observed"])
def test_no_intervals_at_another_library_size(mdata, unchanged, library):
    with unchanged(mdata), pytest.raises(ValueError, match=rf"library={library!r} and n_samples=5.*Leave one out"):
        jsc.tl.impute(mdata, source="rna", target="adt", n_samples=5, library=library)


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["median", -1, 0, float("nan"), float("inf")])
def test_library_sizes_that_cannot_be(mdata, unchanged, library):
    message = rf'library={library!r}: give a positive number of counts a cell, or "observed"'
    with unchanged(mdata), pytest.raises(ValueError, match=message):
        jsc.tl.impute(mdata, source="rna", target="adt", library=library)


@pytest.mark.parametrize("library", [100, "observed"])
def test_no_library_size_of_other_values(simulate, unchanged, library):
    mdata = simulate()
    how = {"params": {"max_steps": 3}, "calibrate": False, "progress": False}
    jsc.tl.integrate(mdata, model="clue", **how)
    with unchanged(mdata), pytest.raises(ValueError, match="'adt' has no library size, its likelihood is 'gaussian'"):
        jsc.tl.impute(mdata, source="rna", target="adt", library=library)
    jsc.tl.integrate(mdata, **how)
    with unchanged(mdata), pytest.raises(ValueError, match="'adt' has no library size"):
        jsc.tl.impute(mdata, source="rna", target="adt", library=library, key="jamie")


@pytest.mark.parametrize("likelihood", ["zinb", "poisson"])
def test_other_counts(simulate, likelihood):
    """Zero inflation loses counts to zeros; the others add up."""
    mdata = simulate(count_noise=True)
    options = {"likelihood": likelihood, "params": {"max_steps": 10}, "calibrate": False, "progress": False}
    jsc.tl.integrate(mdata, model="clue", layer="counts", **options)
    values = imputed(mdata, library=100)
    assert (values >= 0).all(axis=None)
    total = values.sum(axis=1)
    if likelihood == "zinb":
        assert (total < 99).all()
    else:
        np.testing.assert_allclose(total, 100, rtol=1e-4)
