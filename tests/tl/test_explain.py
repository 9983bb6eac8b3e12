"""SHAP values: they add up to what the model says, and lie where they are said to."""

from __future__ import annotations

import os
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata, no_pull
from jamie_sc.datasets._manifest import read_manifest

QUIET = {"source": "rna", "progress": False}


def explain(mdata, **options):
    return jsc.tl.explain(mdata, **({"cells": 10} | QUIET | options))


def model_of(mdata):
    return jsc.models.from_state(mdata.uns["jamie"]["model"])


def adds_up(record, expected):
    """Sum of SHAP values and base values: the outputs, cells x outputs."""
    got = record["values"].sum(axis=1) + record["base_values"]
    assert got.shape == np.shape(expected)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def latents(mdata, name="rna"):
    data = mdata[name]
    return pd.DataFrame(model_of(mdata).encode(name, data.X), data.obs_names)


# What is explained --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["adt", "rna"])
def test_target(trained, target):
    """As many outputs as features, in the order asked for, each the imputed value."""
    wanted = [f"{target}7", f"{target}0", f"{target}12"]
    explain(trained, target=target, features=wanted)
    record = trained.uns["jamie_shap"]
    assert record["values"].shape == (10, 25, 3)
    assert record["values"].dtype == record["base_values"].dtype == np.float32
    assert list(record["outputs"]) == wanted
    assert list(record["features"]) == list(trained["rna"].var_names)
    imputed = jsc.get.imputed(trained, source="rna", target=target)[record["cells"], wanted]
    adds_up(record, imputed.X)


def test_all_features_of_the_target(trained):
    explain(trained, target="adt", cells=4)
    record = trained.uns["jamie_shap"]
    assert list(record["outputs"]) == list(trained["adt"].var_names)
    adds_up(record, jsc.get.imputed(trained, source="rna", target="adt")[record["cells"]].X)


def test_latent(trained):
    explain(trained, latent=[5, 0, 31])
    record = trained.uns["jamie_shap"]
    assert list(record["outputs"]) == ["latent 5", "latent 0", "latent 31"]
    adds_up(record, latents(trained).loc[record["cells"], [5, 0, 31]].to_numpy())
    explain(trained, latent=5, key_added="one")
    np.testing.assert_allclose(trained.uns["one"]["values"][..., 0], record["values"][..., 0], rtol=1e-4, atol=1e-6)


def test_latent_has_the_signs_and_order_of_the_embedding(trained):
    z = latents(trained).to_numpy()
    np.testing.assert_array_equal(np.sign(trained["rna"].obsm["X_jamie"]), np.sign(z))


def logits(mdata, labels):
    """Of a classifier fitted here, on latents of mean 0 and deviation 1."""
    z = latents(mdata)
    labels = labels.loc[z.index]
    known = labels.notna().to_numpy()
    scaler = StandardScaler().fit(z[known])
    fitted = LogisticRegression(max_iter=10_000, tol=1e-8).fit(scaler.transform(z[known]), labels[known].astype(str))
    values = fitted.decision_function(scaler.transform(z))
    return pd.DataFrame(values, z.index), list(fitted.classes_)


def test_labels(trained):
    expected, classes = logits(trained, trained.obs["cell_type"])
    explain(trained, labels_key="cell_type")
    record = trained.uns["jamie_shap"]
    assert list(record["outputs"]) == classes
    assert len(classes) == 3
    got = record["values"].sum(axis=1) + record["base_values"]
    np.testing.assert_allclose(got, expected.loc[record["cells"]], atol=0.02 * np.abs(expected.to_numpy()).max())


def test_two_labels(trained):
    """One output, the second label's logit against the first; cells without a label are left out of the fit."""
    labels = trained.obs["cell_type"].astype(object)
    labels[labels == labels.unique()[0]] = np.nan
    trained.obs["two"] = labels
    expected, classes = logits(trained, labels)
    explain(trained, labels_key="two", cells=64)
    record = trained.uns["jamie_shap"]
    assert list(record["outputs"]) == [classes[1]]
    got = (record["values"].sum(axis=1) + record["base_values"])[:, 0]
    np.testing.assert_allclose(got, expected.loc[record["cells"], 0], atol=0.02 * np.abs(expected.to_numpy()).max())
    told = pd.Series(got > 0, record["cells"]).map({True: classes[1], False: classes[0]})
    known = labels.loc[told.index].notna().to_numpy()
    assert (told[known] == labels.loc[told.index][known]).mean() > 0.8


# The background -----------------------------------------------------------------------------------------------------


def test_background_is_the_average_cell(trained):
    """The base value is what the model makes of a cell with the mean of each feature."""
    explain(trained, target="adt", features=["adt1", "adt4"])
    record, model = trained.uns["jamie_shap"], model_of(trained)
    mean = trained["rna"].X.mean(axis=0, keepdims=True)
    expected = model.decode("adt", model.encode("rna", mean), np.array([1, 4]))[0]
    np.testing.assert_allclose(record["base_values"], expected, rtol=1e-3, atol=1e-4)
    assert record["params"]["n_background"] == 1


def test_background_of_named_cells(trained):
    names = list(trained["rna"].obs_names[[3, 9, 40]])
    explain(trained, latent=[0, 1], background=names)
    record = trained.uns["jamie_shap"]
    np.testing.assert_allclose(record["base_values"], latents(trained).loc[names, [0, 1]].mean(), rtol=1e-3, atol=1e-4)
    adds_up(record, latents(trained).loc[record["cells"], [0, 1]].to_numpy())
    explain(trained, latent=0, cells=names[0], background=names[0])
    np.testing.assert_array_equal(trained.uns["jamie_shap"]["values"], 0)


def test_background_of_a_number_of_cells(trained):
    z = latents(trained)[[0]]
    explain(trained, latent=0, background=64)
    np.testing.assert_allclose(trained.uns["jamie_shap"]["base_values"], z.mean(), rtol=1e-3, atol=1e-4)
    bases = []
    for seed in (0, 0, 1):
        explain(trained, latent=0, background=5, rng=seed)
        record = trained.uns["jamie_shap"]
        assert record["params"]["n_background"] == 5
        adds_up(record, z.loc[record["cells"]].to_numpy())
        bases.append(float(record["base_values"][0]))
    assert bases[0] == bases[1] != bases[2]


# Cells and features -------------------------------------------------------------------------------------------------


def test_cells_by_number(trained):
    drawn = []
    for seed in (0, 0, 1, np.random.default_rng(0)):
        explain(trained, latent=0, rng=seed)
        drawn.append(list(trained.uns["jamie_shap"]["cells"]))
        assert len(set(drawn[-1])) == 10
    assert drawn[0] == drawn[1] == drawn[3] != drawn[2]
    assert set(drawn[0]) <= set(trained["rna"].obs_names)
    explain(trained, latent=0, cells=10_000)
    assert list(trained.uns["jamie_shap"]["cells"]) == list(trained["rna"].obs_names)


def test_cells_by_name(trained):
    names = list(trained["rna"].obs_names[[30, 2, 17]])
    explain(trained, latent=0, cells=names)
    several = trained.uns["jamie_shap"]
    assert list(several["cells"]) == names
    adds_up(several, latents(trained).loc[names, [0]].to_numpy())
    for i, name in enumerate(names):
        explain(trained, latent=0, cells=name)
        alone = trained.uns["jamie_shap"]
        assert list(alone["cells"]) == [name]
        np.testing.assert_allclose(alone["values"][0], several["values"][i], rtol=1e-3, atol=1e-5)


def test_a_feature_that_changes_nothing_has_none(mdata, quick):
    """A constant feature, and one in which a cell is like the average."""
    mdata["rna"].X[:, 4] = 2.5
    jsc.tl.integrate(mdata, **quick)
    explain(mdata, target="adt", features="adt0", cells=64)
    importance = mdata["rna"].varm["jamie_shap"]["adt0"]
    assert importance["rna4"] == pytest.approx(0, abs=1e-6)
    assert (importance.drop("rna4") > 1e-5).all()


def test_features_that_carry_the_latent_lead(simulate, quick):
    """Twenty-five features measure the cells' state; ten of them are then replaced by noise."""
    mdata = simulate(n_cells=300, paired_fraction=1.0)
    rng = np.random.default_rng(0)
    noise = [f"rna{i}" for i in range(5, 15)]
    mdata["rna"].X[:, 5:15] = rng.standard_normal((mdata["rna"].n_obs, 10))
    jsc.tl.integrate(mdata, params={"max_steps": 200}, progress=False, calibrate=False)
    for options in ({"target": "adt"}, {"labels_key": "cell_type"}):
        explain(mdata, cells=50, **options)
        importance = mdata["rna"].varm["jamie_shap"].mean(axis=1)
        assert importance.drop(noise).mean() > 2 * importance[noise].mean()


# Where the values lie -----------------------------------------------------------------------------------------------


def test_slots(trained, contents):
    before = contents(copy_of(trained))
    assert explain(trained, target="adt", features=["adt3", "adt1"]) is None
    after = contents(trained)
    record = after[""]["uns"].pop("jamie_shap")
    importance = after["rna"]["varm"].pop("jamie_shap")
    np.testing.assert_equal(after, before)
    assert importance[""] == list(trained["rna"].var_names)
    np.testing.assert_allclose(
        np.stack([importance["adt3"], importance["adt1"]], axis=1), np.abs(record["values"]).mean(axis=0), rtol=1e-5
    )
    assert {"integration": "jamie", "source": "rna", "target": "adt"}.items() <= record["params"].items()


def test_features_in_another_order_and_unknown_ones(trained):
    """Values are those of the names, whatever the order; a feature that the model does not know has 0."""
    explain(trained, target="adt", features="adt3")
    expected = trained["rna"].varm["jamie_shap"]["adt3"]
    rna = trained["rna"]
    order = np.random.default_rng(0).permutation(rna.n_vars)
    other = rna[:, order].copy()
    new = other[:, :1].copy()
    new.var_names = ["new"]
    wide = ad.concat([other[:, :3], new, other[:, 3:]], axis=1, merge="same")
    query = make_mudata({"rna": wide})
    jsc.tl.map_query(query, trained)
    explain(query, target="adt", features="adt3", cells=trained.uns["jamie_shap"]["cells"])
    importance = query["rna"].varm["jamie_shap"]["adt3"]
    assert list(importance.index) == list(wide.var_names)
    assert importance["new"] == 0
    np.testing.assert_allclose(importance.drop("new").loc[rna.var_names], expected, rtol=1e-3, atol=1e-6)


def test_mapped_query(trained, mdata):
    """One modality of new cells is enough, also for imputed features of the other."""
    query = make_mudata({"rna": mdata["rna"][:20].copy()})
    jsc.tl.map_query(query, trained)
    explain(query, target="adt", features=["adt2", "adt0"], cells=20)
    record = query.uns["jamie_shap"]
    adds_up(record, jsc.get.imputed(trained, source="rna", target="adt")[record["cells"], ["adt2", "adt0"]].X)


def test_three_modalities(simulate, quick):
    mdata = simulate("rna", "adt", "atac")
    jsc.tl.integrate(mdata, **quick)
    for source, target in (("atac", "adt"), ("adt", "rna")):
        explain(mdata, source=source, target=target, features=f"{target}2", key_added=f"of_{source}")
        record = mdata.uns[f"of_{source}"]
        adds_up(record, jsc.get.imputed(mdata, source=source, target=target)[record["cells"], f"{target}2"].X)
        assert f"of_{source}" in mdata[source].varm


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_counts_in_a_layer(mdata, quick, form):
    rng = np.random.default_rng(0)
    mdata["rna"].layers["counts"] = form(rng.poisson(np.exp(mdata["rna"].X + 0.5)).astype(np.float32))
    jsc.tl.integrate(mdata, layer={"rna": "counts"}, **quick)
    assert model_of(mdata).modality("rna").inputs.target_sum is not None
    explain(mdata, target="adt", features="adt2", background=3)
    record = mdata.uns["jamie_shap"]
    assert record["params"]["layer"] == "counts"
    adds_up(record, jsc.get.imputed(mdata, source="rna", target="adt")[record["cells"], "adt2"].X)


def test_file_round_trip(trained, tmp_path):
    adt = trained["adt"].copy()
    adt.var_names = ["a/b", "a|c", *adt.var_names[2:]]
    trained = make_mudata({"rna": trained["rna"].copy(), "adt": adt})
    jsc.tl.integrate(trained, params={"max_steps": 5}, progress=False, calibrate=False)
    explain(trained, target="adt", features=["a/b", "a|c", "adt5"])
    assert list(trained["rna"].varm["jamie_shap"]) == ["a|b", "a|c", "adt5"]
    with no_pull():
        trained.write(tmp_path / "a.h5mu")
        read = md.read_h5mu(tmp_path / "a.h5mu")
    pd.testing.assert_frame_equal(read["rna"].varm["jamie_shap"], trained["rna"].varm["jamie_shap"])
    before, after = trained.uns["jamie_shap"], read.uns["jamie_shap"]
    assert list(after["outputs"]) == ["a/b", "a|c", "adt5"]
    assert set(before) == set(after)
    for name in ("values", "base_values", "cells", "features"):
        np.testing.assert_array_equal(before[name], after[name])
    explain(read, target="adt", features="a/b")
    np.testing.assert_allclose(read.uns["jamie_shap"]["values"][..., 0], before["values"][..., 0], rtol=1e-4, atol=1e-6)


def test_copy(trained, unchanged):
    with unchanged(trained):
        made = explain(trained, latent=0, copy=True)
    assert explain(trained, latent=0) is None
    np.testing.assert_array_equal(*(m.uns["jamie_shap"]["values"] for m in (made, trained)))
    pd.testing.assert_frame_equal(*(m["rna"].varm["jamie_shap"] for m in (made, trained)))


def test_view(trained):
    part = trained[trained["rna"].obs_names[:20]]
    explain(part, latent=0, cells=20)
    assert part.uns["jamie_shap"]["values"].shape == (20, 25, 1)
    assert "jamie_shap" not in trained.uns


def test_key(trained, quick):
    jsc.tl.integrate(trained, rng=1, key_added="second", **quick)
    with pytest.raises(KeyError, match=r"\['jamie', 'second'\]"):
        explain(trained, latent=0)
    for key in ("jamie", "second"):
        explain(trained, latent=0, key=key)
    first, second = (trained.uns[f"{key}_shap"] for key in ("jamie", "second"))
    assert second["params"]["integration"] == "second"
    assert not np.allclose(first["values"], second["values"])
    explain(trained, latent=0, key="second", key_added="mine")
    np.testing.assert_array_equal(trained.uns["mine"]["values"], second["values"])
    assert "mine" in trained["rna"].varm


def test_another_call_replaces_the_first(trained):
    explain(trained, latent=0)
    explain(trained, latent=[3, 4], cells=2)
    assert trained.uns["jamie_shap"]["values"].shape == (2, 25, 2)
    assert list(trained["rna"].varm["jamie_shap"]) == ["latent 3", "latent 4"]


def test_nothing_else_is_touched(trained, capfd):
    """Neither random states nor the terminal."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    explain(trained, latent=0, background=3)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert capfd.readouterr() == ("", "")


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, r"Give one of target= .*, latent= and labels_key=.*got \[\]"),
        ({"target": "adt", "latent": 0}, ValueError, r"got \['target', 'latent'\]"),
        ({"latent": 0, "features": "adt1"}, ValueError, r"target= \(with features=\)"),
        ({"target": "protein"}, KeyError, r"no modality 'protein'.*\['rna', 'adt'\]"),
        ({"source": "protein", "latent": 0}, KeyError, r"no modality 'protein'"),
        ({"target": "adt", "features": ["adt1", "x"]}, KeyError, r"no such feature of 'adt': 'x'.*begin with 'adt0'"),
        ({"target": "adt", "features": []}, (KeyError, ValueError), "features"),
        ({"latent": 32}, ValueError, r"latent=32: the dimensions go from 0 to 31"),
        ({"latent": [0, -1]}, ValueError, r"latent=\[0, -1\]: the dimensions go"),
        ({"latent": []}, (KeyError, ValueError), "latent"),
        ({"latent": 0.5}, (TypeError, ValueError), "latent|integer"),
        ({"labels_key": "nonsense"}, KeyError, r"no obs column 'nonsense'"),
        ({"labels_key": "same"}, ValueError, r"obs\['same'\] has 1 labels.*two at least"),
        ({"latent": 0, "cells": 0}, ValueError, r"cells=0: at least one cell"),
        ({"latent": 0, "cells": []}, KeyError, "cells is empty"),
        ({"latent": 0, "cells": ["x"]}, KeyError, r"cells: 'rna' has no measured cells 'x'"),
        ({"latent": 0, "background": 0}, ValueError, r"background=0: at least one cell"),
        ({"latent": 0, "background": "median"}, KeyError, r"background: 'rna' has no measured cells 'median'"),
        ({"latent": 0, "key": "x"}, KeyError, "no integration 'x'"),
    ],
)
def test_errors(trained, unchanged, options, error, message):
    trained.obs["same"] = "a"
    with unchanged(trained), pytest.raises(error, match=message):
        explain(trained, **options)


def test_the_model_is_not_overwritten(trained, unchanged):
    with unchanged(trained), pytest.raises(ValueError, match="jamie"):
        explain(trained, latent=0, key_added="jamie")


def test_untrained(mdata):
    with pytest.raises(KeyError, match="no trained model"):
        explain(mdata, latent=0)


def test_encoder_of_a_representation(mdata, unchanged):
    mdata["rna"].obsm["X_own"] = mdata["rna"].X[:, :6].copy()
    jsc.tl.integrate(mdata, use_rep={"rna": "X_own"}, params={"max_steps": 5}, progress=False, calibrate=False)
    with unchanged(mdata), pytest.raises(ValueError, match=r"reads obsm\['X_own'\]"):
        explain(mdata, target="adt", features="adt0")
    explain(mdata, source="adt", target="rna", features="rna0")


def test_missing_features(trained):
    with pytest.raises(ValueError, match=r"2 of the 25 features.*missing: 'rna0', 'rna1'"):
        explain(make_query(trained), latent=0)


def make_query(trained):
    query = make_mudata({"rna": trained["rna"][:, 2:].copy()})
    query.uns["jamie"] = trained.uns["jamie"]
    return query


# Real cells ---------------------------------------------------------------------------------------------------------

MARKERS = "Pvalb Sst Vip Lamp5 Sncg Gad1 Gad2 Slc17a7 Tac1 Calb1 Calb2 Npy Cck Reln Kcnc1 Kcnc2 Kcnn2 Scn1b Erbb4 Nxph1"


def lacks(name):
    folder = Path(os.environ.get("JAMIE_SC_DATA_DIR", "/no folder"))
    return not all((folder / file.name).is_file() for file in read_manifest(name).files)


@pytest.mark.skipif(lacks("patchseq_motor"), reason="JAMIE_SC_DATA_DIR lacks the motor cortex")
def test_marker_genes_lead_in_the_motor_cortex():
    """Five at least among the twenty genes of largest mean |SHAP|, each output's in units of its spread over cells."""
    pytest.importorskip("pyreadr")
    mdata = jsc.datasets.patchseq_motor()
    jsc.tl.integrate(mdata, progress=False, calibrate=False)
    explain(mdata, target="ephys", cells=100)
    importance = mdata["rna"].varm["jamie_shap"]
    spread = jsc.get.imputed(mdata, source="rna", target="ephys").to_df().std()
    spread.index = [name.replace("/", "|") for name in spread.index]
    leading = (importance / spread).mean(axis=1).nlargest(20).index
    assert len(leading.intersection(MARKERS.split())) >= 5, list(leading)
