"""What `tl.feature_impact` found as a data frame."""

from __future__ import annotations

import mudata as md
import numpy as np
import pandas as pd
import pytest

import jamie_sc as jsc
from jamie_sc._compat import no_pull

COLUMNS = ["n_features", "score", "sd", "impact", "pvalue"]
SETS = {"some": ["rna3", "rna4"], "most": [f"rna{i}" for i in range(20)], "one": ["rna0"]}


def measure(mdata, **options):
    jsc.tl.feature_impact(mdata, **({"source": "rna", "labels_key": "cell_type", "progress": False} | options))
    return jsc.get.feature_impact(mdata)


def test_features_are_sorted_by_what_is_lost(trained):
    frame = measure(trained)
    assert list(frame) == COLUMNS
    assert frame.index.name == "name"
    assert sorted(frame.index) == sorted(trained["rna"].var_names)
    assert frame["impact"].is_monotonic_decreasing
    assert (frame["n_features"] == 1).all()
    baseline = frame.attrs["baseline"]
    np.testing.assert_allclose(frame["impact"], baseline - frame["score"])
    written = trained["rna"].var["jamie_impact"]
    np.testing.assert_allclose(frame["impact"], written[frame.index], atol=1e-12)
    np.testing.assert_allclose(frame["pvalue"], trained["rna"].var["jamie_impact_pvalue"][frame.index])


def test_sets_keep_their_order(trained):
    frame = measure(trained, sets=SETS, n_random=3)
    assert list(frame) == [*COLUMNS, "random_score", "random_sd"]
    assert list(frame.index) == list(SETS)
    assert frame["n_features"].tolist() == [2, 20, 1]
    assert list(measure(trained, sets=SETS, n_random=0)) == COLUMNS


def test_after_a_file(trained, tmp_path):
    for options in ({}, {"sets": SETS}):
        before = measure(trained, **options)
        with no_pull():
            trained.write(tmp_path / "a.h5mu")
            after = jsc.get.feature_impact(md.read_h5mu(tmp_path / "a.h5mu"))
        pd.testing.assert_frame_equal(after, before)
        assert after.attrs == before.attrs


def test_nothing_is_changed(trained, unchanged):
    measure(trained)
    with unchanged(trained):
        frame = jsc.get.feature_impact(trained)
        frame.loc[:, "score"] = 0.0


def test_key(trained):
    one = measure(trained)
    jsc.tl.feature_impact(trained, source="rna", key_added="other", progress=False)
    with pytest.raises(KeyError, match=r"several results of jamie_sc.tl.feature_impact: .*'other'\].*key="):
        jsc.get.feature_impact(trained)
    pd.testing.assert_frame_equal(jsc.get.feature_impact(trained, key="jamie_impact"), one)
    assert jsc.get.feature_impact(trained, key="other").attrs != one.attrs


def test_no_result(trained):
    with pytest.raises(KeyError, match=r"Run jamie_sc.tl.feature_impact\(mdata, ...\) first"):
        jsc.get.feature_impact(trained)
    jsc.tl.explain(trained, source="rna", latent=0, cells=3, progress=False)
    with pytest.raises(KeyError, match=r"holds no 'jamie_shap' of jamie_sc.tl.feature_impact; it has \[\]"):
        jsc.get.feature_impact(trained, key="jamie_shap")
