"""Every call that takes an integration, of one by CLUE."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata


def clue(mdata, steps=30, **options):
    jsc.tl.integrate(
        mdata, model="clue", params={"max_steps": steps}, progress=False, **({"calibrate": False} | options)
    )


def model_of(mdata):
    return jsc.models.from_state(mdata.uns["clue"]["model"])


@pytest.fixture(scope="module")
def _values(_raw):
    mdata = copy_of(_raw)
    clue(mdata)
    return mdata


@pytest.fixture
def values(_values):
    """The cells of `mdata` after CLUE."""
    return copy_of(_values)


@pytest.fixture(scope="module")
def _counts(simulate):
    mdata = simulate(count_noise=True)
    mdata.obs["donor"] = np.where(np.arange(mdata.n_obs) % 2, "a", "b")
    clue(mdata, layer="counts", batch_key="donor")
    return mdata


@pytest.fixture
def counts(_counts):
    """Cells whose counts CLUE was trained on, with batches."""
    return copy_of(_counts)


# evaluate -----------------------------------------------------------------------------------------------------------

QUICK = {"model": "clue", "params": {"max_steps": 20}, "progress": False}


def test_evaluate(mdata, unchanged):
    with unchanged(mdata):
        scores = jsc.tl.evaluate(mdata, source="rna", labels_key="cell_type", test_fraction=0.15, **QUICK)
    assert len(scores) == 1
    assert scores["n_test"][0] == 7
    for column in ("lta", "foscttm", "pearson", "rmse", "js_distance", "coverage_80", "pearson_knn", "rmse_ridge"):
        assert np.isfinite(scores[column][0]), column
    assert scores["foscttm"][0] < 0.4


@pytest.mark.parametrize("by", ["feature", "label"])
def test_evaluate_names_the_method(mdata, by):
    scores = jsc.tl.evaluate(mdata, target="adt", by=by, labels_key="cell_type", calibrate=False, **QUICK)
    assert list(scores["method"].unique()) == ["clue", "knn", "ridge"]
    assert np.isfinite(scores["rmse"]).all()


def test_evaluate_counts_and_batches(counts):
    given = {"batch_key": "donor", "likelihood": {"adt": "poisson"}, "calibrate": False}
    scores = jsc.tl.evaluate(counts, source="rna", **given, **QUICK)
    assert scores["pearson"][0] > 0


def test_evaluate_hides_pairs_but_not_batches(counts):
    """The column is one of the MuData, not of its modalities."""
    assert "donor" not in counts["rna"].obs
    given = {"batch_key": "donor", "paired_fraction": [1, 0.6], "calibrate": False}
    scores = jsc.tl.evaluate(counts, source="rna", **given, **QUICK)
    assert list(scores["n_pairs"]) == [39, 23]
    assert np.isfinite(scores["pearson"]).all()


# explain ------------------------------------------------------------------------------------------------------------


def test_explain_an_imputed_feature(values):
    jsc.tl.explain(values, source="rna", target="adt", features=["adt3", "adt8"], cells=12, progress=False)
    assert values["rna"].varm["clue_shap"].shape == (25, 2)
    record = values.uns["clue_shap"]
    assert record["values"].shape == (12, 25, 2)
    outputs = jsc.get.imputed(values, source="rna", target="adt", var_names=["adt3", "adt8"])[record["cells"]].X
    added = record["base_values"] + record["values"].sum(axis=1)
    np.testing.assert_allclose(added, outputs, atol=0.02 * outputs.std())


def test_explain_counts_as_log_ratios(counts):
    """Of a typical batch, and at no library size: log of the imputed counts less the mean of these logs."""
    jsc.tl.explain(counts, source="rna", target="adt", features=["adt3", "adt8"], cells=12, progress=False)
    record = counts.uns["clue_shap"]
    model, rna = model_of(counts), counts["rna"][record["cells"]]
    logs = np.log(model.decode("adt", model.encode("rna", rna.layers["counts"])))
    expected = (logs - logs.mean(axis=1, keepdims=True))[:, counts["adt"].var_names.get_indexer(["adt3", "adt8"])]
    added = record["base_values"] + record["values"].sum(axis=1)
    np.testing.assert_allclose(added, expected, atol=0.02 * expected.std())


def test_explain_zeros_and_ones_as_logits(mdata):
    mdata["adt"].X = (mdata["adt"].X > 0.5).astype(np.float32)
    clue(mdata, 10)
    jsc.tl.explain(mdata, source="rna", target="adt", features="adt3", cells=12, progress=False)
    record = mdata.uns["clue_shap"]
    probability = jsc.get.imputed(mdata, source="rna", target="adt", var_names="adt3")[record["cells"]].X
    expected = np.log(probability / (1 - probability))
    added = record["base_values"] + record["values"].sum(axis=1)
    np.testing.assert_allclose(added, expected, atol=0.02 * expected.std())


def test_explain_the_latent(values):
    """All sub-spaces side by side."""
    n = values.obsm["X_clue"].shape[1]
    jsc.tl.explain(values, source="adt", latent=[0, n - 1], cells=8, progress=False)
    record = values.uns["clue_shap"]
    assert list(record["outputs"]) == ["latent 0", f"latent {n - 1}"]
    latent = model_of(values).encode("adt", values["adt"][record["cells"]].X)[:, [0, n - 1]]
    added = record["base_values"] + record["values"].sum(axis=1)
    np.testing.assert_allclose(added, latent, atol=0.02 * latent.std())
    with pytest.raises(ValueError, match=rf"latent={n}: the dimensions go from 0 to {n - 1}"):
        jsc.tl.explain(values, source="adt", latent=n, progress=False)


def test_explain_labels(values):
    jsc.tl.explain(values, source="rna", labels_key="cell_type", cells=8, progress=False)
    assert list(values["rna"].varm["clue_shap"]) == ["branch 1", "branch 2", "branch 3"]
    assert jsc.get.shap(values).values.shape == (8, 25, 3)


def test_explaining_leaves_the_model_alone(counts):
    before = jsc.get.imputed(counts, source="rna", target="adt").X
    jsc.tl.explain(counts, source="rna", target="adt", features="adt3", cells=3, progress=False)
    np.testing.assert_array_equal(jsc.get.imputed(counts, source="rna", target="adt").X, before)


def test_explain_a_latent_of_one_length(mdata):
    jsc.tl.integrate(mdata, model="clue", params={"max_steps": 5, "unit_length": True}, calibrate=False, progress=False)
    with pytest.raises(ValueError, match=r"params=\{'unit_length': False\}, or explain the latent"):
        jsc.tl.explain(mdata, source="rna", target="adt", features="adt3", cells=3, progress=False)
    jsc.tl.explain(mdata, source="rna", latent=0, cells=3, progress=False)


# feature_impact -----------------------------------------------------------------------------------------------------


def test_feature_impact_on_labels(values):
    jsc.tl.feature_impact(values, source="rna", labels_key="cell_type", progress=False)
    assert set(jsc.get.feature_impact(values).index) == set(values["rna"].var_names)
    assert np.isfinite(values["rna"].var["clue_impact"]).all()
    assert 0.4 < values.uns["clue_impact"]["baseline"] <= 1


def test_feature_impact_on_imputed_values(counts):
    jsc.tl.feature_impact(counts, source="rna", features=["adt3", "adt8"], progress=False)
    paired = counts["rna"].obs_names.intersection(counts["adt"].obs_names)
    typical = model_of(counts).decode("adt", model_of(counts).encode("rna", counts["rna"].layers["counts"]))
    frame = pd.DataFrame(typical, counts["rna"].obs_names, counts["adt"].var_names).loc[paired, ["adt3", "adt8"]]
    measured = counts["adt"].to_df("counts").loc[paired, ["adt3", "adt8"]]
    expected = jsc.metrics.pearson(measured.to_numpy(), frame.to_numpy()).mean()
    assert counts.uns["clue_impact"]["baseline"] == pytest.approx(expected, abs=1e-3)


# match_cells, embedding ---------------------------------------------------------------------------------------------


def test_match_cells_by_the_embedding(simulate):
    """Cells that lost their partners' names get them back, more often than by chance."""
    mdata = simulate(n_cells=120, paired_fraction=1)
    clue(mdata, 60)
    adt = mdata["adt"].copy()
    lost = adt.obs_names[:30]
    adt.obs_names = [f"new-{name}" if name in lost else name for name in adt.obs_names]
    query = make_mudata({"rna": mdata["rna"].copy(), "adt": adt})
    jsc.tl.map_query(query, mdata)
    jsc.tl.match_cells(query, method="latent", n_neighbors=5)
    links = query.obsp["correspondence"].tocsr()
    rows, columns = (query.obs_names.get_indexer(names) for names in (lost, "new-" + lost))
    right = [links[i, j] > 0 for i, j in zip(rows, columns, strict=True)]
    assert np.mean(right) > 0.2  # by chance 1/30


@pytest.mark.parametrize("color", ["modality", "cell_type", "adt3"])
def test_embedding(values, color):
    ax = jsc.pl.embedding(values, color=color, basis="pca", show=False)
    assert ax.collections[0].get_offsets().shape == (128, 2)


def test_imputed_values_are_drawn(values):
    jsc.tl.impute(values, source="rna", target="adt")
    shown = {"features": "adt3", "labels_key": "cell_type", "show": False}
    assert jsc.pl.measured_vs_imputed(values, source="rna", target="adt", **shown) is not None
    assert jsc.pl.embedding(values, color="adt3", layer="clue_from_rna", basis="pca", show=False) is not None


def test_the_global_random_state_is_left_alone(values):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    clue(values, 3)
    assert torch.equal(torch.get_rng_state(), before)
