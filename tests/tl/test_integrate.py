from __future__ import annotations

import logging
from importlib import import_module

import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from mudata import MuData

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata, no_pull

FIRST_SEED = int(np.random.default_rng(0).integers(2**31))
"""What `rng=0` draws first: the seed of a run."""


def by_name(mdata, key="X_jamie"):
    """Embedding of the MuData and of each modality as frames, cells by name."""
    holders = {"": mdata, **mdata.mod}
    return {name: pd.DataFrame(h.obsm[key], h.obs_names).sort_index() for name, h in holders.items() if key in h.obsm}


def assert_close(first, second, atol):
    assert first.keys() == second.keys()
    for name in first:
        pd.testing.assert_index_equal(first[name].index, second[name].index)
        np.testing.assert_allclose(first[name], second[name], rtol=0, atol=atol, err_msg=name)


# What is written ----------------------------------------------------------------------------------------------------


def test_slots(trained):
    for holder in (trained, *trained.mod.values()):
        latent = holder.obsm["X_jamie"]
        assert latent.shape == (holder.n_obs, 32)
        assert latent.dtype == np.float32
        assert np.isfinite(latent).all()
    record = trained.uns["jamie"]
    assert set(record) == {"params", "history", "pairing", "model"}
    assert record["params"]["model"] == "jamie"
    assert record["params"]["max_steps"] == 30
    assert list(record["params"]["modalities"]) == ["rna", "adt"]
    assert record["pairing"]["paired"] == [48]
    assert len(record["history"]["step"]) == len(record["history"]["total"]) > 0
    assert set(record["model"]) == {"config", "weights"}


def test_nothing_else_is_changed(mdata, trained, contents):
    before, after = contents(mdata), contents(trained)
    assert after[""]["uns"].pop("jamie")
    for name in after:
        del after[name]["obsm"]["X_jamie"]
    np.testing.assert_equal(after, before)


def test_key_added_names_every_slot(mdata, quick):
    jsc.tl.integrate(mdata, key_added="mine", **quick)
    assert "mine" in mdata.uns
    assert all("mine" in holder.obsm for holder in (mdata, *mdata.mod.values()))
    assert not any("jamie" in key for holder in (mdata, *mdata.mod.values()) for key in (*holder.obsm, *holder.uns))
    jsc.tl.impute(mdata, source="rna", target="adt")
    assert "mine_from_rna" in mdata["adt"].layers


def test_copy(mdata, trained, quick, unchanged, contents):
    with unchanged(mdata):
        made = jsc.tl.integrate(mdata, copy=True, **quick)
    np.testing.assert_equal(contents(made), contents(trained))
    assert jsc.tl.integrate(mdata, **quick) is None


def test_modalities(simulate, quick):
    mdata = simulate("rna", "adt", "atac")
    jsc.tl.integrate(mdata, modalities=["atac", "rna"], **quick)
    assert "X_jamie" not in mdata["adt"].obsm
    assert list(mdata.uns["jamie"]["params"]["modalities"]) == ["atac", "rna"]
    only_adt = ~mdata.obs_names.isin([*mdata["rna"].obs_names, *mdata["atac"].obs_names])
    assert only_adt.any()
    np.testing.assert_array_equal(np.isnan(mdata.obsm["X_jamie"]).all(axis=1), only_adt)


def test_joint_latent_of_a_cell_in_one_modality_is_that_latent(trained):
    joint, latents = trained.obsm["X_jamie"], by_name(trained)
    lone = ~trained.obs_names.isin(trained["adt"].obs_names)
    assert lone.sum() == 16
    np.testing.assert_allclose(joint[lone], latents["rna"].loc[trained.obs_names[lone]], rtol=1e-5)


# The same numbers ---------------------------------------------------------------------------------------------------


def test_same_rng_same_numbers(mdata, trained, quick):
    jsc.tl.integrate(mdata, **quick)
    assert_close(by_name(mdata), by_name(trained), atol=0)
    for name, values in mdata.uns["jamie"]["history"].items():
        np.testing.assert_array_equal(values, trained.uns["jamie"]["history"][name])


def test_other_rng_other_numbers(mdata, trained, quick):
    jsc.tl.integrate(mdata, rng=1, **quick)
    assert not np.allclose(mdata.obsm["X_jamie"], trained.obsm["X_jamie"], atol=0.1)


def test_generator_as_rng(mdata, quick):
    first = jsc.tl.integrate(mdata, rng=np.random.default_rng(5), copy=True, **quick)
    second = jsc.tl.integrate(mdata, rng=np.random.default_rng(5), copy=True, **quick)
    assert_close(by_name(first), by_name(second), atol=0)


def test_global_random_state_is_neither_read_nor_changed(mdata, trained, quick):
    np.random.seed(123)  # noqa: NPY002
    torch.manual_seed(123)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    jsc.tl.integrate(mdata, **quick)
    jsc.tl.impute(mdata, source="rna", target="adt", n_samples=3)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    assert_close(by_name(mdata), by_name(trained), atol=0)


def shuffled(mdata, name):
    """The same cells with the rows of one modality in another order."""
    mods = {other: adata.copy() for other, adata in mdata.mod.items()}
    mods[name] = mods[name][np.random.default_rng(0).permutation(mods[name].n_obs)].copy()
    return make_mudata(mods)


@pytest.mark.parametrize("name", ["rna", "adt"])
def test_shuffling_a_modality_changes_nothing_but_row_order(mdata, trained, quick, name):
    other = shuffled(mdata, name)
    assert list(other[name].obs_names) != list(mdata[name].obs_names)
    assert list(other.obs_names) != list(mdata.obs_names)
    jsc.tl.integrate(other, **quick)
    assert_close(by_name(other), by_name(trained), atol=1e-4)


def test_shuffling_where_the_mudata_keeps_its_order(simulate, quick):
    """The second modality is aligned by name, not by position."""
    mdata = simulate(n_cells=40, paired_fraction=1.0)
    other = shuffled(mdata, "adt")
    assert list(other.obs_names) == list(mdata.obs_names)
    for m in (mdata, other):
        jsc.tl.integrate(m, **quick)
    assert_close(by_name(other), by_name(mdata), atol=1e-4)


# Kinds of data ------------------------------------------------------------------------------------------------------


def test_three_modalities(simulate, quick):
    mdata = simulate("rna", "adt", "atac")
    jsc.tl.integrate(mdata, **quick)
    for holder in (mdata, *mdata.mod.values()):
        assert holder.obsm["X_jamie"].shape == (holder.n_obs, 32)
        assert np.isfinite(holder.obsm["X_jamie"]).all()
    jsc.tl.impute(mdata, source="atac", target="rna")
    assert "jamie_from_atac" in mdata["rna"].layers


def test_view_becomes_its_own_and_the_parent_stays(mdata, quick, unchanged):
    expected = copy_of(mdata[:60])
    jsc.tl.integrate(expected, **quick)
    with unchanged(mdata):
        view = mdata[:60]
        jsc.tl.integrate(view, **quick)
    assert_close(by_name(view), by_name(expected), atol=1e-5)
    assert "jamie" in view.uns
    jsc.tl.impute(view, source="rna", target="adt")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csc_array])
def test_same_values_in_another_form(mdata, form, dtype):
    other = copy_of(mdata)
    for adata in other.mod.values():
        adata.X = form(adata.X.astype(dtype))
    gentle = {"max_steps": 5, "learning_rate": 1e-4}  # Adam makes whole steps of the rounding of zero gradients
    for m in (mdata, other):
        jsc.tl.integrate(m, params=gentle, progress=False)
    assert_close(by_name(other), by_name(mdata), atol=1e-2)
    np.testing.assert_allclose(jsc.get.history(other), jsc.get.history(mdata), rtol=1e-3)
    assert isinstance(other["rna"].X, type(form(np.eye(2))))
    assert other["rna"].X.dtype == dtype


@pytest.mark.parametrize("form", [np.asarray, sp.csc_matrix])
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
@pytest.mark.parametrize("most", [2, 40], ids=["small", "counts"])
def test_integers(mdata, quick, form, dtype, most):
    rna = mdata["rna"].X
    mdata["rna"].X = form(np.round(most * (rna - rna.min()) / np.ptp(rna)).astype(dtype))
    jsc.tl.integrate(mdata, **quick)
    assert np.isfinite(mdata.obsm["X_jamie"]).all()
    jsc.tl.impute(mdata, source="adt", target="rna")
    values = mdata["rna"].layers["jamie_from_adt"]
    assert np.nanmean(values) == pytest.approx(mdata["rna"].X.mean(), rel=0.3)  # on the scale of X


def test_layer(mdata, quick):
    other = copy_of(mdata)
    other["rna"].X = mdata["rna"].layers["sq"] = mdata["rna"].X ** 2
    jsc.tl.integrate(mdata, layer={"rna": "sq"}, **quick)
    jsc.tl.integrate(other, **quick)
    assert_close(by_name(mdata), by_name(other), atol=0)
    jsc.tl.impute(mdata, source="rna", target="adt")
    jsc.tl.impute(other, source="rna", target="adt")
    np.testing.assert_array_equal(*(m["adt"].layers["jamie_from_rna"] for m in (mdata, other)))


def test_use_rep(mdata, trained, quick):
    mdata["rna"].obsm["X_mine"] = np.random.default_rng(0).standard_normal((64, 3))
    jsc.tl.integrate(mdata, use_rep={"rna": "X_mine"}, **quick)
    model = jsc.models.from_state(mdata.uns["jamie"]["model"])
    assert model.modality("rna").n_input == 3
    assert not np.allclose(mdata["rna"].obsm["X_jamie"], trained["rna"].obsm["X_jamie"], atol=0.1)
    jsc.tl.impute(mdata, source="adt", target="rna")
    assert mdata["rna"].layers["jamie_from_adt"].shape == (64, 25)


def test_recipe_paper(mdata):
    params = {"max_steps": 20, "min_steps": 10, "n_components": 5}
    jsc.tl.integrate(mdata, recipe="paper", params=params, progress=False)
    assert mdata.uns["jamie"]["params"]["recipe"] == "paper"
    assert np.isfinite(mdata.obsm["X_jamie"]).all()


def test_written_and_read_back_it_imputes_the_same(trained, tmp_path, monkeypatch):
    with no_pull():
        trained.write(tmp_path / "cells.h5mu")
        back = md.read_h5mu(tmp_path / "cells.h5mu")
    monkeypatch.setattr("jamie_sc.models._jamie.JAMIE.fit", None)
    for mdata in (trained, back):
        jsc.tl.impute(mdata, source="rna", target="adt")
        jsc.tl.impute(mdata, source="adt", target="rna", n_samples=4)
    for name, adata in trained.mod.items():
        assert adata.layers.keys() == back[name].layers.keys()
        for layer in adata.layers:
            np.testing.assert_array_equal(adata.layers[layer], back[name].layers[layer])
    np.testing.assert_array_equal(trained.obsm["X_jamie"], back.obsm["X_jamie"])
    pd.testing.assert_frame_equal(jsc.get.history(trained), jsc.get.history(back))


# Correspondence -----------------------------------------------------------------------------------------------------


def hidden_names(mdata, keep=0.5):
    """The names of cells in "adt" hidden in part, and the matrix that links them, (cells, cells), with 1."""
    adt = mdata["adt"].copy()
    rng = np.random.default_rng(0)
    hide = rng.random(adt.n_obs) >= keep
    old = adt.obs_names.to_numpy()
    adt.obs_names = np.where(hide, "hidden " + old.astype(object), old)
    made = make_mudata({"rna": mdata["rna"].copy(), "adt": adt})
    lost = hide & np.isin(old, made["rna"].obs_names)
    i, j = (made.obs_names.get_indexer(names[lost]) for names in (old, adt.obs_names))
    return made, sp.csr_matrix((np.ones(len(i)), (i, j)), shape=(made.n_obs, made.n_obs))


def left_by_match_cells(mdata, matrix):
    """The matrix as `tl.match_cells` leaves it."""
    mdata.obsp["correspondence"] = (matrix + matrix.T).tocsr()
    mdata.uns["correspondence"] = {"params": {"method": "gw"}}


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_soft_values_in_obsp(mdata, quick, keep):
    made, matrix = hidden_names(mdata, keep)
    made.obsp["mine"] = matrix * 0.7
    jsc.tl.integrate(made, correspondence="mine", **quick)
    first = by_name(made)
    assert np.isfinite(first[""]).all(axis=None)
    again = jsc.tl.integrate(
        made, correspondence=matrix.T.tocsc() * 0.7, copy=True, **quick
    )  # as a matrix, turned round
    assert_close(by_name(again), first, atol=0)
    other = jsc.tl.integrate(made, correspondence=matrix, copy=True, **quick)
    assert not np.allclose(by_name(other)[""], first[""], atol=0.01)


def test_row_order_changes_nothing_with_soft_values(mdata, quick):
    made, matrix = hidden_names(mdata)
    other = shuffled(made, "adt")
    at = made.obs_names.get_indexer(other.obs_names)
    assert (at != np.arange(len(at))).any()
    jsc.tl.integrate(made, correspondence=matrix, **quick)
    jsc.tl.integrate(other, correspondence=matrix[at][:, at], **quick)
    assert_close(by_name(other), by_name(made), atol=1e-4)


def test_what_match_cells_left_is_used(mdata, quick):
    made, matrix = hidden_names(mdata)
    without = by_name(jsc.tl.integrate(made, copy=True, **quick))
    left_by_match_cells(made, matrix)
    params = quick["params"] | {"alignment": 1.0}
    jsc.tl.integrate(made, params=params, progress=False)
    assert not np.allclose(by_name(made)[""], without[""], atol=0.01)
    assert "alignment" in jsc.get.history(made)
    model = jsc.models.from_state(made.uns["jamie"]["model"])
    assert (model.config.alignment, model.config.rho) == (1.0, 0.0)
    named = jsc.tl.integrate(made, correspondence="correspondence", params=params, progress=False, copy=True)
    assert_close(by_name(named), by_name(made), atol=0)


def test_rho_1_without_alignment_is_nothing_inferred(mdata, quick, monkeypatch):
    made, matrix = hidden_names(mdata)
    known_only = {"params": quick["params"] | {"rho": 1.0}, "progress": False}
    monkeypatch.setattr(import_module("jamie_sc.tl._integrate"), "infer", lambda *_, **__: {})
    without = by_name(jsc.tl.integrate(made, copy=True, **known_only))
    left_by_match_cells(made, matrix)
    jsc.tl.integrate(made, **known_only)
    assert_close(by_name(made), without, atol=0)


def test_nothing_paired_but_inferred(mdata, quick):
    made, matrix = hidden_names(mdata, keep=0.0)
    left_by_match_cells(made, matrix)
    jsc.tl.integrate(made, **quick)
    assert made.uns["jamie"]["pairing"]["paired"] == [0]
    jsc.tl.impute(made, source="rna", target="adt", extend=True)


def test_paper_recipe_with_an_inferred_correspondence(mdata):
    made, matrix = hidden_names(mdata)
    left_by_match_cells(made, matrix)
    params = {"max_steps": 10, "min_steps": 5, "n_components": 5}
    jsc.tl.integrate(made, recipe="paper", params=params, progress=False)
    assert (jsc.get.history(made)["alignment"] > 0).all()


@pytest.mark.parametrize("lone", ["none", "rna"])
def test_skipped_where_nothing_is_to_match(simulate, quick, lone):
    """All cells paired, or lone cells in one modality only: what was inferred changes nothing."""
    mdata = simulate(n_cells=40, paired_fraction=1.0)
    if lone == "rna":
        mdata = make_mudata({"rna": mdata["rna"].copy(), "adt": mdata["adt"][:30].copy()})
    without = by_name(jsc.tl.integrate(mdata, copy=True, **quick))
    rng = np.random.default_rng(0)
    left_by_match_cells(mdata, sp.random(40, 40, 0.2, random_state=rng, format="csr"))
    jsc.tl.integrate(mdata, params=quick["params"] | {"alignment": 1.0}, progress=False)
    assert_close(by_name(mdata), without, atol=0)


# Inferred where nobody did -------------------------------------------------------------------------------------------


@pytest.fixture
def no_inference(monkeypatch):
    monkeypatch.setattr("jamie_sc.tl._integrate.infer", lambda *_a, **_k: pytest.fail("inferred"))


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_infers_what_no_name_tells(mdata, quick, keep, caplog, contents):
    made, _ = hidden_names(mdata, keep)
    before = contents(made, copy=True)
    with caplog.at_level(logging.INFO, logger="jamie_sc"):
        jsc.tl.integrate(made, **quick)
    said = [record.getMessage() for record in caplog.records]
    for a, b in (("rna", "adt"), ("adt", "rna")):
        assert f"correspondence inferred: {made[a].n_obs} cells of {a!r} have matches in {b!r}" in said
    assert any(text.startswith("matching") for text in said)
    for holder in (made, *made.mod.values()):
        assert np.isfinite(holder.obsm["X_jamie"]).all()
    after = contents(made)
    assert after[""]["uns"].pop("jamie")
    for name in after:
        del after[name]["obsm"]["X_jamie"]
    np.testing.assert_equal(after, before)  # the correspondence is not written: tl.match_cells does
    jsc.tl.impute(made, source="rna", target="adt", extend=True)


@pytest.mark.parametrize("keep", [0.5, 0.0])
def test_inferred_on_the_way_or_before_is_the_same(mdata, quick, keep, monkeypatch):
    """To rounding, which is all it takes for a cell to draw another partner: so what is trained with is compared."""
    made, _ = hidden_names(mdata, keep)
    given = []
    real = jsc.models.JAMIE.fit
    monkeypatch.setattr(
        jsc.models.JAMIE, "fit", lambda self, *a, **k: given.append((a[1], k["inferred"])) or real(self, *a, **k)
    )
    jsc.tl.integrate(made, copy=True, **quick)
    jsc.tl.match_cells(made, progress=False, rng=FIRST_SEED)
    jsc.tl.integrate(made, **quick)
    for first, second in zip(*given, strict=True):
        assert first.keys() == second.keys()
        for ab in first:
            np.testing.assert_allclose(first[ab].toarray(), second[ab].toarray(), atol=1e-6)
    assert set(given[0][1]) == {(0, 1), (1, 0)}


def test_what_is_inferred_matters(mdata, quick):
    """Another correspondence gives other latents, and so does none."""
    made, matrix = hidden_names(mdata)
    first = by_name(jsc.tl.integrate(made, copy=True, **quick))
    without = by_name(jsc.tl.integrate(made, params=quick["params"] | {"rho": 1.0}, progress=False, copy=True))
    left_by_match_cells(made, matrix)
    other = by_name(jsc.tl.integrate(made, copy=True, **quick))
    assert not np.allclose(first[""], without[""], atol=0.01)
    assert not np.allclose(first[""], other[""], atol=0.01)


def test_row_order_changes_nothing_where_it_is_inferred(mdata, quick):
    made, _ = hidden_names(mdata, keep=0.0)
    other = shuffled(made, "adt")
    assert list(other.obs_names) != list(made.obs_names)
    jsc.tl.integrate(made, **quick)
    jsc.tl.integrate(other, **quick)
    assert_close(by_name(other), by_name(made), atol=1e-2)


def test_nothing_is_inferred_where_all_are_paired(simulate, quick, no_inference, caplog):
    mdata = simulate(n_cells=40, paired_fraction=1.0)
    with caplog.at_level(logging.INFO, logger="jamie_sc"):
        jsc.tl.integrate(mdata, **quick)
    assert "inferred" not in caplog.text


def test_nothing_is_inferred_where_one_modality_has_few_lone_cells(mdata, quick, no_inference):
    few = mdata["adt"].obs_names.difference(mdata["rna"].obs_names)[:9]
    shared = mdata["adt"].obs_names.intersection(mdata["rna"].obs_names)
    made = make_mudata({"rna": mdata["rna"].copy(), "adt": mdata["adt"][shared.append(few)].copy()})
    jsc.tl.integrate(made, **quick)


def test_nothing_is_inferred_where_the_user_said_what_corresponds(mdata, quick, no_inference):
    made, matrix = hidden_names(mdata, keep=0.0)
    adt = made["adt"][made.obs_names[matrix.indices]].copy()  # those that are linked
    rna = made["rna"].copy()
    linked = make_mudata({"rna": rna, "adt": adt})
    at = made.obs_names.get_indexer(linked.obs_names)
    jsc.tl.integrate(linked, correspondence=matrix.tocsr()[at][:, at], **quick)


def test_rho_1_still_trains_where_there_are_pairs(mdata, quick):
    made, _ = hidden_names(mdata)
    jsc.tl.integrate(made, params=quick["params"] | {"rho": 1.0}, progress=False)
    assert np.isfinite(made.obsm["X_jamie"]).all()
    assert (jsc.get.history(made)["cross"] > 0).all()


def test_three_modalities_of_which_one_shares_no_name(simulate, quick, caplog):
    mdata = simulate("rna", "adt", "atac", paired_fraction=0.6)
    atac = mdata["atac"].copy()
    atac.obs_names = "x" + atac.obs_names
    made = make_mudata({"rna": mdata["rna"], "adt": mdata["adt"], "atac": atac})
    with caplog.at_level(logging.INFO, logger="jamie_sc"):
        jsc.tl.integrate(made, **quick)
    assert f"{atac.n_obs} cells of 'atac' have matches in 'rna'" in caplog.text
    for holder in made.mod.values():
        assert np.isfinite(holder.obsm["X_jamie"]).all()


def test_bad_correspondence(mdata, quick, unchanged):
    bad = sp.identity(mdata.n_obs - 1, format="csr")
    with unchanged(mdata), pytest.raises(ValueError, match="correspondence has the shape"):
        jsc.tl.integrate(mdata, correspondence=bad, **quick)
    with unchanged(mdata), pytest.raises(KeyError, match=r"mdata\.obsp\['mine'\]"):
        jsc.tl.integrate(mdata, correspondence="mine", **quick)


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"modalities": ["rna"]}, ValueError, r"Only 1 modality \(rna\)"),
        ({"modalities": ["rna", "atac"]}, KeyError, "'atac'.*'rna', 'adt'"),
        ({"modalities": ["rna", "rna"]}, ValueError, "rna"),
        ({"layer": {"adt": "raw"}}, KeyError, r"mdata\['adt'\]\.layers\['raw'\]"),
        ({"layer": {"atac": "raw"}}, KeyError, "layer names.*atac"),
        ({"use_rep": {"rna": "X_scvi"}}, KeyError, r"mdata\['rna'\]\.obsm\['X_scvi'\]"),
        ({"params": {"learnin_rate": 1}}, ValueError, "learnin_rate.*learning_rate"),
        ({"recipe": "best"}, ValueError, "'best'.*paper"),
        ({"model": "scvi"}, ValueError, "'scvi'.*jamie"),
        ({"device": "abacus"}, (ValueError, RuntimeError), "abacus"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_arguments(mdata, unchanged, quick, asked, error, message):
    with unchanged(mdata), pytest.raises(error, match=message):
        jsc.tl.integrate(mdata, **(quick | asked))


def nan(mdata, edit):
    mdata["adt"].X[2, 3] = np.nan
    return mdata


def infinite(mdata, edit):
    mdata["adt"].X = sp.csr_matrix(mdata["adt"].X)
    mdata["adt"].X.data[:2] = np.inf
    return mdata


def one_modality(mdata, edit):
    return make_mudata({"rna": mdata["rna"]})


def constant(mdata, edit):
    mdata["rna"].X[:] = 1
    return mdata


def empty(mdata, edit):
    edit(mdata, rna=mdata["rna"][:0].copy())
    return mdata


def no_features(mdata, edit):
    edit(mdata, rna=mdata["rna"][:, :0].copy())
    return mdata


def one_cell(mdata, edit):
    shared = mdata["rna"].obs_names.intersection(mdata["adt"].obs_names)
    edit(mdata, rna=mdata["rna"][shared[:1]].copy())
    return mdata


def two_cells_in_all(mdata, edit):
    shared = mdata["rna"].obs_names.intersection(mdata["adt"].obs_names)
    return make_mudata({name: adata[shared[:2]].copy() for name, adata in mdata.mod.items()})


def shared_features(mdata, edit):
    rna, adt = mdata["rna"].copy(), mdata["adt"].copy()
    adt.obs_names = "x" + adt.obs_names
    with no_pull():
        return MuData({"rna": rna, "adt": adt}, axis=1)


def renamed(mdata, edit):
    mdata["rna"].obs_names = "new" + mdata["rna"].obs_names
    return mdata


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nan, r"'adt' holds 1 NaN.*row 2.*column 3"),
        (infinite, "'adt' holds 2 NaN or infinite"),
        (one_modality, r"Only 1 modality \(rna\)"),
        (constant, "'rna' is constant"),
        (empty, "'rna' is empty: 0 cells"),
        (no_features, "'rna' is empty.* 0 features"),
        (one_cell, "'rna'.*cell"),
        (two_cells_in_all, "'rna'.*cell"),
        (shared_features, "axis"),
        (renamed, r"'rna'.*mdata\.update\(\)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_data(mdata, edit, unchanged, quick, spoil, message):
    spoiled = spoil(mdata, edit)
    with unchanged(spoiled), pytest.raises(ValueError, match=message):
        jsc.tl.integrate(spoiled, **quick)


def test_no_mudata(mdata, quick):
    with pytest.raises(TypeError, match="AnnData"):
        jsc.tl.integrate(mdata["rna"], **quick)


def test_nan_in_training_names_the_term_and_writes_nothing(mdata, quick, unchanged, monkeypatch):
    monkeypatch.setattr("jamie_sc.models._jamie._kl", lambda mean, _: mean.mean() * float("nan"))
    with unchanged(mdata), pytest.raises(FloatingPointError, match=r"step 0.*'kl' is nan.*learning_rate"):
        jsc.tl.integrate(mdata, **quick)


def test_diverging_training_stops(mdata, unchanged):
    params = {"max_steps": 30, "learning_rate": 1e30}
    with unchanged(mdata), pytest.raises(FloatingPointError, match="loss term"):
        jsc.tl.integrate(mdata, params=params, progress=False)


def interrupt(monkeypatch, after):
    """Ctrl-C at the call of this number of the annealing, once a step."""
    from jamie_sc.models import _jamie

    annealing, calls = _jamie.annealing, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return annealing(*args)

    monkeypatch.setattr(_jamie, "annealing", interrupted)


def test_ctrl_c_keeps_the_model_so_far(mdata, quick, caplog, monkeypatch):
    interrupt(monkeypatch, after=12)
    with caplog.at_level(logging.WARNING, logger="jamie_sc"):
        jsc.tl.integrate(mdata, **quick)
    assert "interrupted after step 12 of 30" in caplog.text
    assert list(jsc.get.history(mdata).index)[-1] == 12
    assert np.isfinite(mdata.obsm["X_jamie"]).all()
    jsc.tl.impute(mdata, source="rna", target="adt")


def test_ctrl_c_before_the_first_step_keeps_nothing(mdata, quick, unchanged, monkeypatch):
    interrupt(monkeypatch, after=0)
    with unchanged(mdata), pytest.raises(KeyboardInterrupt):
        jsc.tl.integrate(mdata, **quick)


# What is said -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progress", [False, None], ids=["off", "no terminal"])
def test_silent_when_not_wanted(mdata, quick, capsys, progress):
    jsc.tl.integrate(mdata, **(quick | {"progress": progress}))
    assert capsys.readouterr() == ("", "")


def test_bar_with_losses_on_stderr(mdata, quick, capsys):
    jsc.tl.integrate(mdata, **(quick | {"progress": True}))
    out, err = capsys.readouterr()
    assert out == ""
    assert "training: 100%" in err
    assert "30/30" in err
    assert "reconstruction=" in err


def test_log(mdata, quick, caplog):
    with caplog.at_level(logging.INFO, logger="jamie_sc"):
        jsc.tl.integrate(mdata, **quick)
    for said in ("48 paired", "30 steps", "cpu", "X_jamie"):
        assert said in caplog.text
    assert "modality" in caplog.text
