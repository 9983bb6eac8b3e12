"""`tl.integrate(model="clue")`: what is written, which likelihood is chosen, what is refused."""

from __future__ import annotations

import logging

import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata, no_pull

TERMS = {"reconstruction", "kl", "cross", "alignment", "adversary"}


@pytest.fixture(scope="module")
def clue():
    """`tl.integrate(model="clue")` that takes a moment."""

    def integrate(mdata, **options):
        quick = {"params": {"max_steps": 10}, "calibrate": False, "progress": False}
        return jsc.tl.integrate(mdata, model="clue", **(quick | options))

    return integrate


@pytest.fixture(scope="module")
def _both(_raw, _trained, clue):
    mdata = copy_of(_trained)
    clue(mdata, calibrate=True)
    return mdata


@pytest.fixture
def both(_both):
    """The cells of `mdata` after both models."""
    return copy_of(_both)


@pytest.fixture(scope="module")
def _counts(simulate):
    return simulate(count_noise=True)


@pytest.fixture
def counts(_counts):
    """Like `mdata`, of counts."""
    return copy_of(_counts)


def likelihoods(mdata, key="clue"):
    """Of each modality."""
    model = jsc.models.from_state(mdata.uns[key]["model"])
    return {m.name: m.likelihood for m in model.modalities}


def latents(mdata, key="X_clue"):
    """Embedding of each modality as frames, cells by name."""
    return {name: pd.DataFrame(m.obsm[key], m.obs_names).sort_index() for name, m in mdata.mod.items()}


# What is written ----------------------------------------------------------------------------------------------------


def test_slots(both):
    for holder in (both, *both.mod.values()):
        latent = holder.obsm["X_clue"]
        assert latent.shape[0] == holder.n_obs
        assert latent.shape[1] == 2 * both.uns["clue"]["params"]["latent_dim"]
        assert latent.dtype == np.float32
        assert np.isfinite(latent).all()
    record = both.uns["clue"]
    assert set(record) == {"params", "history", "pairing", "model"}
    assert record["params"]["model"] == "clue"
    assert record["params"]["max_steps"] == 10
    assert list(record["params"]["modalities"]) == ["rna", "adt"]
    assert set(record["model"]) == {"config", "weights"}


def test_nothing_else_is_changed(both, trained, contents):
    before, after = contents(trained), contents(both)
    assert after[""]["uns"].pop("clue")
    for name in after:
        del after[name]["obsm"]["X_clue"]
    np.testing.assert_equal(after, before)


def test_key_added_names_every_slot(mdata, clue):
    clue(mdata, key_added="mine")
    holders = (mdata, *mdata.mod.values())
    assert all("mine" in holder.obsm for holder in holders)
    assert "mine" in mdata.uns
    assert not any("clue" in slot for holder in holders for slot in (*holder.obsm, *holder.uns))
    jsc.tl.impute(mdata, source="rna", target="adt")
    assert list(mdata["adt"].layers) == ["mine_from_rna"]


def test_copy(mdata, clue, unchanged):
    with unchanged(mdata):
        made = clue(mdata, copy=True)
    assert clue(mdata) is None
    np.testing.assert_array_equal(made.obsm["X_clue"], mdata.obsm["X_clue"])


def test_the_seed_decides(mdata, clue):
    first, again, other = (clue(mdata, rng=rng, copy=True).obsm["X_clue"] for rng in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other, atol=0.1)


def test_history_has_the_terms(both):
    history = jsc.get.history(both, key="clue")
    assert set(history) == TERMS | {"total"}
    assert history.index[-1] == 10
    assert np.isfinite(history).all(axis=None)
    assert jsc.pl.history(both, key="clue", show=False) is not None


def test_joint_latent_is_the_mean_over_modalities(mdata):
    """Equation 11, before latents are brought to one length: a cell in one modality has that one's."""
    jsc.tl.integrate(mdata, model="clue", params={"max_steps": 5}, calibrate=False, progress=False)
    alone = mdata.obs_names[~mdata.obs_names.isin(mdata["adt"].obs_names)]
    joint = pd.DataFrame(mdata.obsm["X_clue"], mdata.obs_names)
    assert len(alone) == 16
    np.testing.assert_allclose(joint.loc[alone], latents(mdata)["rna"].loc[alone], rtol=1e-4, atol=1e-5)
    paired = mdata["rna"].obs_names.intersection(mdata["adt"].obs_names)
    model = jsc.models.from_state(mdata.uns["clue"]["model"])
    raw = {name: pd.DataFrame(model.encode(name, m.X), m.obs_names).loc[paired] for name, m in mdata.mod.items()}
    mean = (raw["rna"] + raw["adt"]).to_numpy() / 2
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True) * np.sqrt(mean.shape[1])
    np.testing.assert_allclose(joint.loc[paired], expected, rtol=1e-3, atol=1e-4)


def test_pairs_by_name_are_reported(mdata, clue, caplog):
    with caplog.at_level(logging.INFO, "jamie_sc"):
        clue(mdata)
    pairing = {name: list(values) for name, values in mdata.uns["clue"]["pairing"].items()}
    expected = {"modality_a": ["rna"], "modality_b": ["adt"], "paired": [48], "only_a": [16], "only_b": [16]}
    assert {name: pairing[name] for name in expected} == expected
    lines = [line for line in caplog.messages if "48" in line]
    assert any("rna" in line and "adt" in line for line in lines)
    assert any("'rna' has a likelihood of 'gaussian'" in line for line in caplog.messages)


# Two integrations in one MuData -------------------------------------------------------------------------------------


def test_key_chooses_between_jamie_and_clue(both, mdata):
    with pytest.raises(KeyError, match=r"\['jamie', 'clue'\]"):
        jsc.tl.impute(both, source="rna", target="adt")
    found = {}
    for key in ("jamie", "clue"):
        jsc.tl.impute(both, source="rna", target="adt", key=key)
        jsc.tl.map_query(mdata, both, key=key)
        jsc.tl.explain(both, source="rna", target="adt", features="adt3", cells=5, progress=False, key=key)
        assert both.uns[f"{key}_shap"]["values"].shape == (5, 25, 1)
        imputed = jsc.get.imputed(both, source="rna", target="adt", key=key)
        found[key] = imputed.X
        np.testing.assert_array_equal(imputed.obsm[f"X_{key}"], both["rna"].obsm[f"X_{key}"])
        layer = both["adt"].to_df(f"{key}_from_rna").dropna()
        np.testing.assert_array_equal(layer, imputed[layer.index].X)
        np.testing.assert_array_equal(mdata["rna"].obsm[f"X_{key}"], both["rna"].obsm[f"X_{key}"])
        assert jsc.pl.embedding(both, key=key, basis="pca", show=False) is not None
    assert not np.allclose(found["jamie"], found["clue"], atol=0.1)


def test_the_second_integration_leaves_the_first_alone(both, trained):
    np.testing.assert_array_equal(both.obsm["X_jamie"], trained.obsm["X_jamie"])
    np.testing.assert_equal(both.uns["jamie"]["history"], trained.uns["jamie"]["history"])


# As a file ----------------------------------------------------------------------------------------------------------


def test_h5mu_round_trip(both, tmp_path):
    with no_pull():
        both.write(tmp_path / "cells.h5mu")
        read = md.read_h5mu(tmp_path / "cells.h5mu")
    for options in ({}, {"n_samples": 5, "interval": 0.8}):
        for each in (both, read):
            jsc.tl.impute(each, source="rna", target="adt", key="clue", **options)
        assert set(read["adt"].layers) == set(both["adt"].layers)
        for layer, values in both["adt"].layers.items():
            np.testing.assert_array_equal(read["adt"].layers[layer], values)
    pd.testing.assert_frame_equal(jsc.get.history(read, key="clue"), jsc.get.history(both, key="clue"))


def test_map_query_from_a_folder(both, mdata, tmp_path):
    jsc.models.from_state(both.uns["clue"]["model"]).save(tmp_path / "model")
    jsc.tl.map_query(mdata, tmp_path / "model")
    for holder, expected in ((mdata, both), (mdata["rna"], both["rna"])):
        np.testing.assert_array_equal(holder.obsm["X_clue"], expected.obsm["X_clue"])
    jsc.tl.impute(mdata, source="rna", target="adt", n_samples=5, interval=0.5)
    assert {"clue_from_rna", "clue_from_rna_sd", "clue_from_rna_upper"} < set(mdata["adt"].layers)


# Likelihoods --------------------------------------------------------------------------------------------------------


def test_the_values_choose_the_likelihood(counts, clue):
    binary = counts["adt"].copy()
    binary.X = (counts["adt"].X > 0).astype(np.float32)
    rna = counts["rna"].copy()
    rna.X = np.log1p(rna.X.toarray())
    mixed = make_mudata({"rna": rna, "adt": binary})
    mixed["rna"].layers["raw"] = counts["rna"].X
    clue(mixed)
    assert likelihoods(mixed) == {"rna": "gaussian", "adt": "bernoulli"}
    clue(mixed, layer={"rna": "raw"}, key_added="raw")
    assert likelihoods(mixed, "raw") == {"rna": "nb", "adt": "bernoulli"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {"rna": "nb", "adt": "nb"}),
        ("zinb", {"rna": "zinb", "adt": "zinb"}),
        ("poisson", {"rna": "poisson", "adt": "poisson"}),
        ({"adt": "gaussian"}, {"rna": "nb", "adt": "gaussian"}),
        ({"adt": "poisson", "rna": "gaussian"}, {"rna": "gaussian", "adt": "poisson"}),
    ],
)
def test_the_user_has_the_last_word(counts, clue, given, expected):
    clue(counts, likelihood=given)
    assert likelihoods(counts) == expected
    history = jsc.get.history(counts)
    assert np.isfinite(history).all(axis=None)
    assert history["reconstruction"].iloc[-1] < history["reconstruction"].iloc[0]
    imputed = {name: jsc.get.imputed(counts, source="rna", target=name).X for name in counts.mod}
    for name, likelihood in expected.items():
        assert np.isfinite(imputed[name]).all()
        if likelihood != "gaussian":
            assert (imputed[name] >= 0).all()


def test_bernoulli_is_imputed_as_probabilities(mdata, clue):
    mdata["adt"].X = (mdata["adt"].X > 0.5).astype(np.float32)
    clue(mdata, params={"max_steps": 60})
    assert likelihoods(mdata) == {"rna": "gaussian", "adt": "bernoulli"}
    imputed = jsc.get.imputed(mdata, source="rna", target="adt").to_df()
    assert ((imputed > 0) & (imputed < 1)).all(axis=None)
    paired = imputed.index.intersection(mdata["adt"].obs_names)
    measured = mdata["adt"].to_df().loc[paired].to_numpy(bool)
    assert imputed.loc[paired].to_numpy()[measured].mean() > imputed.loc[paired].to_numpy()[~measured].mean() + 0.1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nb", "'rna' has likelihood 'nb' but holds .* values that are negative or not whole numbers.*'gaussian'"),
        ({"adt": "poisson"}, "'adt' has likelihood 'poisson' but holds .*layer="),
        ({"adt": "bernoulli"}, "'adt' has likelihood 'bernoulli' but holds .* values other than 0 and 1"),
        ("gamma", r"no likelihood 'gamma' for modality 'rna'.*\['gaussian', 'nb'"),
    ],
)
def test_likelihoods_that_do_not_suit(mdata, clue, unchanged, given, message):
    with unchanged(mdata), pytest.raises(ValueError, match=message):
        clue(mdata, likelihood=given)


def test_likelihood_of_an_unknown_modality(mdata, clue, unchanged):
    with (
        unchanged(mdata),
        pytest.raises(KeyError, match=r"likelihood names the modalities \['atac'\].*\['rna', 'adt'\]"),
    ):
        clue(mdata, likelihood={"atac": "nb"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"likelihood": "gaussian"}, r"'jamie' takes no likelihood\..*model=\"clue\""),
        ({"batch_key": "cell_type"}, r"'jamie' takes no batch_key\."),
        ({"labels_key": "cell_type"}, r"'jamie' takes no labels_key\."),
        ({"labels_key": "cell_type", "batch_key": "cell_type"}, "takes no batch_key and no labels_key"),
    ],
)
def test_jamie_takes_none_of_these(mdata, quick, unchanged, given, message):
    with unchanged(mdata), pytest.raises(ValueError, match=message):
        jsc.tl.integrate(mdata, **given, **quick)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "glue"}, r"no model 'glue'.*\['jamie', 'clue'"),
        ({"params": {"contrast": 1}}, r"CLUE has no hyperparameters \['contrast'\]"),
        ({"params": {"posterior": "sum"}}, r"posterior is 'sum': choose one of \['product', 'average'\]"),
        ({"params": {"validation": 2}}, "validation is 2: it "),
        ({"recipe": "best"}, "no recipe 'best'"),
    ],
)
def test_unknown_options(mdata, unchanged, given, message):
    with unchanged(mdata), pytest.raises(ValueError, match=message):
        jsc.tl.integrate(mdata, **({"model": "clue"} | given))


# Unusual input ------------------------------------------------------------------------------------------------------


def test_sparse_and_dense_give_the_same(counts, clue):
    dense = copy_of(counts)
    for mod in dense.mod.values():
        mod.X = mod.X.toarray()
    for each in (counts, dense):
        clue(each, calibrate=True)
        jsc.tl.impute(each, source="adt", target="rna", n_samples=5, interval=0.8)
    for name, expected in latents(counts).items():
        np.testing.assert_allclose(latents(dense)[name], expected, rtol=0, atol=0.05)
    for layer in ("clue_from_adt", "clue_from_adt_upper"):
        np.testing.assert_allclose(dense["rna"].layers[layer], counts["rna"].layers[layer], rtol=0.02, atol=0.02)


def test_cells_without_a_count(counts, clue):
    X = counts["adt"].X.toarray()
    X[:3] = 0
    counts["adt"].X = sp.csr_matrix(X)
    clue(counts, calibrate=True)
    assert np.isfinite(counts.obsm["X_clue"]).all()
    assert np.isfinite(jsc.get.history(counts)).all(axis=None)
    jsc.tl.impute(counts, source="adt", target="rna", n_samples=3, interval=0.8)
    has_source = counts["rna"].obs_names.isin(counts["adt"].obs_names)
    for part in ("", "_sd", "_lower", "_upper"):
        assert np.isfinite(counts["rna"].layers[f"clue_from_adt{part}"][has_source]).all()
    own = jsc.get.imputed(counts, source="adt", target="adt", library="observed").X
    np.testing.assert_array_equal(own[:3], 0)
    np.testing.assert_allclose(own.sum(axis=1), X.sum(axis=1), rtol=1e-4)


def test_paper_recipe(mdata, clue):
    clue(mdata, recipe="paper", params={"max_steps": 6})
    assert mdata.uns["clue"]["params"]["recipe"] == "paper"
    imputed = jsc.get.imputed(mdata, source="rna", target="adt")
    assert np.isfinite(imputed.X).all()
    np.testing.assert_array_equal(imputed.obsm["X_clue"], mdata["rna"].obsm["X_clue"])


# How sure -----------------------------------------------------------------------------------------------------------


def test_intervals_hold_about_as_often_as_they_say(simulate):
    mdata = simulate(n_cells=140, paired_fraction=0.9)
    names = mdata["rna"].obs_names.intersection(mdata["adt"].obs_names)
    test = names[:50]
    train = copy_of(mdata[~mdata.obs_names.isin(test)])
    jsc.tl.integrate(train, model="clue", params={"max_steps": 80}, progress=False)  # calibrated by default
    query = copy_of(mdata[test])
    jsc.tl.map_query(query, train)
    jsc.tl.impute(query, source="rna", target="adt", n_samples=20, interval=0.8)
    adt = query["adt"]
    lower, upper = (adt.layers[f"clue_from_rna_{part}"] for part in ("lower", "upper"))
    measured = adt.X
    within = (lower <= measured) & (measured <= upper)
    assert 0.65 < within.mean() < 0.95
