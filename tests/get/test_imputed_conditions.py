"""`get.imputed(library=, batch=)`: the same as `tl.impute`, of every cell that has the source."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata


@pytest.fixture(scope="module")
def _counts(simulate):
    mdata = simulate(count_noise=True)
    mdata.obs["donor"] = np.where(np.arange(mdata.n_obs) % 3, "a", "b")
    how = {"params": {"max_steps": 15}, "calibrate": False, "progress": False}
    jsc.tl.integrate(mdata, model="clue", batch_key="donor", **how)
    return mdata


@pytest.fixture
def counts(_counts):
    """64 cells of "rna" and of "adt", 48 of them in both: counts, donors a and b."""
    return copy_of(_counts)


def get(mdata, **options):
    return jsc.get.imputed(mdata, source="rna", target="adt", **options)


def totals(mdata):
    """Counts that each cell of rna has in adt; the median where it has none."""
    own = pd.Series(np.ravel(mdata["adt"].X.sum(axis=1)), mdata["adt"].obs_names)
    return own.reindex(mdata["rna"].obs_names).fillna(own.median()).to_numpy()


@pytest.mark.parametrize(
    "options", [{}, {"library": 500}, {"library": "observed"}, {"batch": "b"}, {"batch": {"donor": "a"}}]
)
def test_same_values_as_impute_writes(counts, unchanged, options):
    with unchanged(counts):
        adata = get(counts, **options)
    jsc.tl.impute(counts, source="rna", target="adt", **options)
    layer = counts["adt"].to_df("clue_from_rna").dropna()
    assert len(layer) == 48
    np.testing.assert_array_equal(adata[layer.index].X, layer)
    assert adata.shape == (64, 20)
    assert (adata.X >= 0).all()
    np.testing.assert_allclose(adata.obsm["X_clue"], counts["rna"].obsm["X_clue"], rtol=1e-5)


def test_library(counts):
    median = np.median(np.ravel(counts["adt"].X.sum(axis=1)))
    np.testing.assert_allclose(get(counts).X.sum(axis=1), median, rtol=1e-4)
    np.testing.assert_allclose(get(counts, library=1e4).X.sum(axis=1), 1e4, rtol=1e-4)
    np.testing.assert_allclose(get(counts, library="observed").X.sum(axis=1), totals(counts), rtol=1e-4)


def test_some_features_are_those_of_the_whole(counts):
    """A share of all counts, whatever is asked for."""
    whole, part = get(counts, library=1e3), get(counts, library=1e3, var_names=["adt5", "adt2"])
    np.testing.assert_allclose(part.X, whole[:, ["adt5", "adt2"]].X, rtol=1e-5)


def test_batch(counts):
    own, as_a, as_b = (get(counts, **options).to_df() for options in ({}, {"batch": "a"}, {"batch": "b"}))
    of_b = (counts.obs["donor"][own.index] == "b").to_numpy()
    assert 0 < of_b.sum() < 64
    np.testing.assert_allclose(own[of_b], as_b[of_b], rtol=1e-4)
    np.testing.assert_allclose(own[~of_b], as_a[~of_b], rtol=1e-4)
    assert not np.allclose(as_a, as_b, rtol=1e-3)


@pytest.mark.parametrize("donor", ["z", None])
def test_a_batch_that_is_not_known_is_averaged_with_a_warning(counts, caplog, donor):
    query = make_mudata({"rna": counts["rna"].copy()})
    if donor:
        query["rna"].obs["donor"] = donor
    jsc.tl.map_query(query, counts)
    assert not caplog.records
    adata = get(query)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "'donor'" in record.getMessage()
    assert repr(donor or "missing") in record.getMessage()
    assert "['a', 'b']" in record.getMessage()
    np.testing.assert_allclose(adata.X.sum(axis=1), get(counts).X.sum(axis=1), rtol=1e-4)
    caplog.clear()
    np.testing.assert_array_equal(get(query, batch="b").X, get(counts, batch="b").X)
    assert not caplog.records


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"library": "median"}, "library='median': give a positive number of counts a cell, or \"observed\""),
        ({"library": -5}, "library=-5: give a positive number"),
        ({"batch": "c"}, r"'adt' has no such batch.*\['a', 'b'\]"),
        ({"batch": {"site": "a"}}, r"no such batch.*'donor'"),
    ],
)
def test_conditions_that_cannot_be(counts, unchanged, asked, message):
    with unchanged(counts), pytest.raises(ValueError, match=message):
        get(counts, **asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [({"library": 5}, "'adt' has no library size"), ({"batch": "a"}, r"'adt' has the batch keys \[\]")],
)
def test_an_integration_without_them(trained, asked, message):
    with pytest.raises(ValueError, match=message):
        get(trained, **asked)
