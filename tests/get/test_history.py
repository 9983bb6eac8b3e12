from __future__ import annotations

import numpy as np
import pytest

import jamie_sc as jsc


def test_terms_by_step(trained, unchanged):
    with unchanged(trained):
        history = jsc.get.history(trained)
    assert history.index.name == "step"
    assert history.index.dtype == int
    assert history.index[-1] == 30
    assert history.index.is_monotonic_increasing
    assert {"kl", "combination", "reconstruction", "total", "kappa"} <= set(history)
    assert np.isfinite(history.to_numpy()).all()


def test_total_is_the_weighted_sum_of_the_terms(trained):
    """Equation 1, with the weights that the record names; kappa is the weight of the KL term."""
    history, params = jsc.get.history(trained), trained.uns["jamie"]["params"]
    expected = history["kappa"] * params["kl"] * history["kl"]
    for term in set(history) - {"total", "kappa", "kl"}:
        expected += params[term] * history[term]
    np.testing.assert_allclose(history["total"], expected, rtol=1e-4)


def test_of_a_mapped_query_is_the_reference_s(trained, mdata):
    jsc.tl.map_query(mdata, trained)
    assert jsc.get.history(mdata).equals(jsc.get.history(trained))


def test_of_a_model_without_history_is_empty(trained, mdata):
    jsc.tl.map_query(mdata, jsc.models.from_state(trained.uns["jamie"]["model"]))
    assert len(jsc.get.history(mdata)) == 0


def test_key(trained):
    with pytest.raises(KeyError, match=r"'scvi'.*\['jamie'\]"):
        jsc.get.history(trained, key="scvi")
    assert jsc.get.history(trained, key="X_jamie").equals(jsc.get.history(trained))


def test_nothing_trained(mdata):
    with pytest.raises(KeyError, match=r"tl\.integrate"):
        jsc.get.history(mdata)
