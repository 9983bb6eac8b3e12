"""The second training of `tl.integrate`, which tells how far imputed values lie from measured ones."""

from __future__ import annotations

import logging
import os
from itertools import product
from pathlib import Path

import mudata as md
import numpy as np
import pytest
import scipy.sparse as sp

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata, no_pull
from jamie_sc.datasets._manifest import read_manifest
from jamie_sc.models import JAMIE
from jamie_sc.tl import _calibrate

BOTH_WAYS = set(product(["rna", "adt"], repeat=2))


def model_of(mdata):
    return jsc.models.from_state(mdata.uns["jamie"]["model"])


def weights_of(mdata):
    return mdata.uns["jamie"]["model"]["weights"]


@pytest.fixture
def fits(monkeypatch):
    """Every training: the model, its modalities, the correspondence and the options."""
    seen = []
    real = JAMIE.fit

    def fit(self, data, F, **options):
        seen.append((self, {m.name: m for m in data}, F, options))
        return real(self, data, F, **options)

    monkeypatch.setattr(JAMIE, "fit", fit)
    return seen


@pytest.fixture
def samples(monkeypatch):
    """Every call that draws: source, target and the source's values."""
    seen = []
    real = JAMIE.sample

    def sample(self, source, target, X, *args, **options):
        seen.append((self, source, target, X, options))
        return real(self, source, target, X, *args, **options)

    monkeypatch.setattr(JAMIE, "sample", sample)
    return seen


def held_out(fits):
    """Names of the cells of each modality that the second training did without."""
    (_, all_of, _, _), (_, kept, _, _) = fits
    return {name: set(m.obs_names) - set(kept[name].obs_names) for name, m in all_of.items()}


def assert_same_calibrations(first, second):
    assert first.keys() == second.keys()
    for ab in first:
        np.testing.assert_equal(first[ab].arrays(), second[ab].arrays())


# The second training ------------------------------------------------------------------------------------------------


def test_it_is_not_trained_on_the_cells_it_is_judged_on(mdata, quick, fits, samples):
    jsc.tl.integrate(mdata, **quick)
    held = held_out(fits)
    assert held["rna"] == held["adt"] < set(mdata["rna"].obs_names) & set(mdata["adt"].obs_names)
    assert len(held["rna"]) == 10  # a fifth of 48, and 10 at least
    (first, all_of, _, _), (second, kept, F, options) = fits
    assert second.modalities is first.modalities  # principal components are those of all cells
    for name, m in kept.items():
        rows = {tuple(row) for row in m.X}
        assert len(rows) == m.n_obs == all_of[name].n_obs - 10
        assert not rows & {tuple(row) for row in mdata[name][list(held[name])].X}
    assert {name: m.shape for name, m in F.items()} == {(0, 1): (54, 54)}
    assert F[0, 1].sum() == 38
    assert all(block.shape == (54, 54) for block in options["inferred"].values())
    assert {(source, target) for _, source, target, _, _ in samples} == BOTH_WAYS
    for model, source, _, X, options in samples:
        assert model is second
        assert options["n_samples"] == 50
        assert {tuple(row) for row in X} == {tuple(row) for row in mdata[source][list(held[source])].X}


def test_errors_are_those_of_the_second_model_on_the_cells_held_out(mdata, quick, fits, samples, monkeypatch):
    seen = []
    real = _calibrate.Calibration.fit
    spy = lambda measured, imputed, sd, **options: (
        seen.append((measured, imputed)) or real(measured, imputed, sd, **options)
    )
    monkeypatch.setattr(_calibrate.Calibration, "fit", spy)
    jsc.tl.integrate(mdata, **quick)
    second = fits[1][0]
    for (_, source, target, X, _), (measured, imputed) in zip(samples, seen, strict=True):
        cells = [mdata[source].obs_names[(row == mdata[source].X).all(axis=1)][0] for row in np.asarray(X)]
        np.testing.assert_array_equal(measured, mdata[target][cells].X)
        point = second.decode(target, second.encode(source, X))
        assert np.corrcoef(imputed.ravel(), point.ravel())[0, 1] > 0.9
    error = model_of(mdata).calibrations["rna", "adt"].error
    i = [(source, target) for _, source, target, _, _ in samples].index(("rna", "adt"))
    np.testing.assert_allclose(error, np.abs(seen[i][0] - seen[i][1]).mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize(("fewest", "steps"), [(10, 15), (20, 20), (250, 30)])
def test_it_is_like_the_first_but_half_as_long(mdata, quick, fits, monkeypatch, fewest, steps):
    """Or of so many steps at least, though of no more than the first."""
    monkeypatch.setattr(_calibrate, "FEWEST_STEPS", fewest)
    jsc.tl.integrate(mdata, params=quick["params"] | {"latent_dim": 7, "dropout": 0.1}, progress=False)
    first, second = (model.config for model, *_ in fits)
    assert (first.max_steps, second.max_steps) == (30, steps)
    assert (second.latent_dim, second.dropout) == (7, 0.1)
    assert fits[0][3]["seed"] != fits[1][3]["seed"]


def test_the_first_stays_as_it_is(mdata, trained, quick):
    jsc.tl.integrate(mdata, calibrate=False, **quick)
    assert model_of(mdata).calibrations == {}
    assert set(model_of(trained).calibrations) == BOTH_WAYS
    expected = {name: v for name, v in weights_of(trained).items() if not name.startswith("calibration.")}
    assert len(expected) < len(weights_of(trained))
    np.testing.assert_equal(weights_of(mdata), expected)
    for ours, theirs in zip((mdata, *mdata.mod.values()), (trained, *trained.mod.values()), strict=True):
        np.testing.assert_array_equal(ours.obsm["X_jamie"], theirs.obsm["X_jamie"])
    for m in (mdata, trained):
        jsc.tl.impute(m, source="rna", target="adt")
    np.testing.assert_array_equal(*(m["adt"].layers["jamie_from_rna"] for m in (mdata, trained)))


def test_same_rng_same_intervals(mdata, trained, quick):
    jsc.tl.integrate(mdata, **quick)
    assert_same_calibrations(model_of(mdata).calibrations, model_of(trained).calibrations)
    other = copy_of(mdata)
    jsc.tl.integrate(other, rng=1, **quick)
    assert not np.allclose(
        *(model_of(m).calibrations["rna", "adt"].error for m in (mdata, other)),
    )


@pytest.mark.parametrize(("n_cells", "n_held"), [(100, 20), (40, 10)])
def test_a_fifth_of_the_pairs_is_held_out(simulate, quick, fits, n_cells, n_held):
    jsc.tl.integrate(simulate(n_cells=n_cells, paired_fraction=1.0), **quick)
    assert {name: len(cells) for name, cells in held_out(fits).items()} == {"rna": n_held, "adt": n_held}


def test_at_most_so_many(mdata, quick, fits, monkeypatch):
    monkeypatch.setattr(_calibrate, "MOST_CELLS", 7)
    jsc.tl.integrate(mdata, **quick)
    assert [len(cells) for cells in held_out(fits).values()] == [7, 7]


@pytest.mark.parametrize("calibrate", [None, True])
def test_the_papers_recipe_is_calibrated_when_asked(mdata, fits, calibrate):
    params = {"max_steps": 4, "min_steps": 2}
    jsc.tl.integrate(mdata, recipe="paper", params=params, calibrate=calibrate, progress=False)
    assert len(fits) == (2 if calibrate else 1)
    assert set(model_of(mdata).calibrations) == (BOTH_WAYS if calibrate else set())


# Which cells can be held out ----------------------------------------------------------------------------------------


def test_three_modalities_with_cells_in_any_subset(simulate, edit, quick, fits):
    mdata = simulate("rna", "adt", "atac", n_cells=160, paired_fraction=0.9)
    rng = np.random.default_rng(0)
    for name in list(mdata.mod):
        edit(mdata, **{name: mdata[name][rng.random(mdata[name].n_obs) < 0.8].copy()})
    jsc.tl.integrate(mdata, **quick)
    names = list(mdata.mod)
    assert set(model_of(mdata).calibrations) == set(product(names, repeat=2))
    held = held_out(fits)
    for cell in set.union(*held.values()):
        measured = [name for name in names if cell in mdata[name].obs_names]
        assert len(measured) > 1
        assert [name for name in names if cell in held[name]] == measured  # in all its modalities, or in none
    for a, b in (("rna", "adt"), ("adt", "atac"), ("rna", "atac")):
        assert len(held[a] & held[b]) >= 5
        assert len((held[a] & held[b]) - set().union(*(held[c] for c in names if c not in (a, b)))) > 0


def test_a_fifth_of_the_pairs_of_each_two_modalities(simulate, edit, quick, fits, monkeypatch):
    """Also of those that few cells have, where others have as many as are looked at."""
    mdata = simulate("rna", "adt", "atac", n_cells=200, paired_fraction=1.0)
    cells = mdata.obs_names
    edit(mdata, adt=mdata["adt"][cells[:150]].copy(), atac=mdata["atac"][cells[150:]].copy())
    monkeypatch.setattr(_calibrate, "MOST_CELLS", 12)
    jsc.tl.integrate(mdata, **quick)
    held = held_out(fits)
    assert len(held["adt"]) == 12  # of 150
    assert 10 <= len(held["atac"]) <= 12  # of 50
    assert held["rna"] == held["adt"] | held["atac"]


def test_two_modalities_with_too_few_pairs_are_left_out(simulate, edit, quick):
    mdata = simulate("rna", "adt", "atac", n_cells=80, paired_fraction=1.0)
    edit(mdata, rna=mdata["rna"][mdata.obs_names[:60]].copy(), atac=mdata["atac"][mdata.obs_names[25:]].copy())
    jsc.tl.integrate(mdata, **quick)  # 35 cells in rna and atac, 60 and 55 in adt and another
    found = set(model_of(mdata).calibrations)
    assert found == set(product(["rna", "adt", "atac"], repeat=2)) - {("rna", "atac"), ("atac", "rna")}
    jsc.tl.impute(mdata, source="rna", target="adt", n_samples=2)
    with pytest.raises(ValueError, match=r"not calibrated for imputing 'atac' from 'rna'.*calibrate=True.*40 cells"):
        jsc.tl.impute(mdata, source="rna", target="atac", n_samples=2)


@pytest.fixture
def linked(simulate):
    """140 cells of rna and of adt, no name shared; what corresponds: 60 one to one, 20 softly, 10 to two cells each."""
    mdata = simulate(n_cells=140, paired_fraction=1.0)
    cells = list(mdata.obs_names)
    mods = {name: mdata[name][cells].copy() for name in ("rna", "adt")}
    for name, adata in mods.items():
        adata.obs_names = [f"{name}-{cell}" for cell in cells]
    made = make_mudata(mods)
    row = {name: made.obs_names.get_indexer(mods[name].obs_names) for name in mods}
    F = sp.lil_matrix((made.n_obs, made.n_obs))
    for k in range(80):
        F[row["rna"][k], row["adt"][k]] = 1 if k < 60 else 0.9
    for k in range(80, 90):
        F[row["rna"][k], row["adt"][k]] = F[row["rna"][k], row["adt"][k + 20]] = 1
    made.obsp["mine"] = F.tocsr()
    return made, {name: set(mods[name].obs_names[:60]) for name in mods}


def test_only_sure_one_to_one_pairs_are_held_out(linked, quick, fits, samples):
    mdata, sure = linked
    jsc.tl.integrate(mdata, correspondence="mine", **quick)
    held = held_out(fits)
    for name in ("rna", "adt"):
        assert len(held[name]) == 12  # a fifth of 60
        assert held[name] < sure[name]
    assert {cell.removeprefix("rna-") for cell in held["rna"]} == {cell.removeprefix("adt-") for cell in held["adt"]}
    assert set(model_of(mdata).calibrations) == BOTH_WAYS
    for _, source, _, X, _ in samples:
        assert {tuple(row) for row in X} == {tuple(row) for row in mdata[source][list(held[source])].X}


@pytest.mark.parametrize("weight", [0.9, 1.0])
def test_pairs_that_are_not_sure_calibrate_nothing(simulate, quick, fits, caplog, weight):
    mdata = simulate(n_cells=60, paired_fraction=1.0)
    rna, adt = mdata["rna"].copy(), mdata["adt"][mdata["rna"].obs_names].copy()
    adt.obs_names = "x" + adt.obs_names
    made = make_mudata({"rna": rna, "adt": adt})
    i, j = (made.obs_names.get_indexer(m.obs_names) for m in (rna, adt))
    links = sp.csr_matrix((np.full(60, weight), (i, j)), shape=(made.n_obs, made.n_obs))
    with caplog.at_level(logging.INFO, logger="jamie_sc"):
        jsc.tl.integrate(made, correspondence=links, **quick)
    assert len(fits) == (2 if weight == 1 else 1)
    assert ("not calibrated: no two modalities have 40 cells in common" in caplog.text) == (weight < 1)


@pytest.mark.parametrize("n_pairs", [39, 40])
def test_it_takes_40_pairs(simulate, unchanged, quick, fits, caplog, n_pairs):
    mdata = simulate(n_cells=n_pairs, paired_fraction=1.0)
    with caplog.at_level(logging.INFO, logger="jamie_sc"):
        jsc.tl.integrate(mdata, calibrate=True, **quick)
    assert len(fits) == n_pairs - 38
    if n_pairs == 40:
        jsc.tl.impute(mdata, source="rna", target="adt", n_samples=2)
        return
    assert "not calibrated: no two modalities have 40 cells in common" in caplog.text
    with unchanged(mdata), pytest.raises(ValueError, match=r"integrate\(mdata, calibrate=True\); it takes 40 cells"):
        jsc.tl.impute(mdata, source="rna", target="adt", n_samples=2)
    jsc.tl.impute(mdata, source="rna", target="adt")


# Ends before its time ------------------------------------------------------------------------------------------------


def interrupt(monkeypatch, after):
    """Ctrl-C at the call of this number of the annealing, once a step of either training."""
    from jamie_sc.models import _jamie

    annealing, calls = _jamie.annealing, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == after + 1:
            raise KeyboardInterrupt
        return annealing(*args)

    monkeypatch.setattr(_jamie, "annealing", interrupted)


def assert_no_intervals(mdata, trained):
    """The model is the whole of the first training, without calibrations."""
    model = model_of(mdata)
    assert model.calibrations == {}
    assert list(jsc.get.history(mdata).index) == list(jsc.get.history(trained).index)
    np.testing.assert_array_equal(mdata.obsm["X_jamie"], trained.obsm["X_jamie"])
    jsc.tl.impute(mdata, source="rna", target="adt")
    with pytest.raises(ValueError, match="calibrate=True"):
        jsc.tl.impute(mdata, source="rna", target="adt", n_samples=2)


@pytest.mark.parametrize("after", [30, 36], ids=["before its first step", "in its middle"])
def test_ctrl_c_in_the_second_training_keeps_the_first(mdata, trained, quick, caplog, monkeypatch, after):
    interrupt(monkeypatch, after)
    with caplog.at_level(logging.WARNING, logger="jamie_sc"):
        jsc.tl.integrate(mdata, **quick)
    assert "there will be no intervals" in caplog.text
    assert_no_intervals(mdata, trained)


def test_ctrl_c_in_the_first_training_ends_all(mdata, quick, fits, monkeypatch):
    interrupt(monkeypatch, 12)
    jsc.tl.integrate(mdata, **quick)
    assert len(fits) == 1
    assert model_of(mdata).calibrations == {}


def test_a_loss_of_nan_in_the_second_training_keeps_the_first(mdata, trained, quick, fits, monkeypatch, caplog):
    spied = JAMIE.fit

    def fit(self, *args, **options):
        if fits:
            msg = "the loss is NaN"
            raise FloatingPointError(msg)
        return spied(self, *args, **options)

    monkeypatch.setattr(JAMIE, "fit", fit)
    with caplog.at_level(logging.WARNING, logger="jamie_sc"):
        jsc.tl.integrate(mdata, **quick)
    assert "there will be no intervals" in caplog.text
    assert_no_intervals(mdata, trained)


# As data ------------------------------------------------------------------------------------------------------------


def test_a_state_keeps_every_bit(trained):
    model = model_of(trained)
    again = jsc.models.from_state(model.state())
    assert set(again.calibrations) == BOTH_WAYS
    assert_same_calibrations(again.calibrations, model.calibrations)


def test_a_folder_keeps_every_bit(trained, tmp_path):
    model = model_of(trained)
    model.save(tmp_path / "model")
    assert_same_calibrations(jsc.models.load(tmp_path / "model").calibrations, model.calibrations)


def test_an_h5mu_keeps_every_bit(trained, tmp_path):
    with no_pull():
        trained.write(tmp_path / "trained.h5mu")
        back = md.read_h5mu(tmp_path / "trained.h5mu")
    assert_same_calibrations(model_of(back).calibrations, model_of(trained).calibrations)
    for mdata in (trained, back):
        jsc.tl.impute(mdata, source="rna", target="adt", n_samples=5, interval=0.9)
    for end in ("", "_sd", "_lower", "_upper"):
        np.testing.assert_array_equal(*(m["adt"].layers[f"jamie_from_rna{end}"] for m in (trained, back)))


def test_a_model_without_is_read_too(trained):
    """As those of the versions before were written."""
    state = model_of(trained).state()
    state["weights"] = {name: v for name, v in state["weights"].items() if not name.startswith("calibration.")}
    assert jsc.models.from_state(state).calibrations == {}


def test_a_query_has_the_intervals_of_its_reference(trained, mdata):
    query = make_mudata({"rna": mdata["rna"].copy(), "adt": mdata["adt"].copy()})
    jsc.tl.map_query(query, trained)
    for m in (query, trained):
        jsc.tl.impute(m, source="rna", target="adt", n_samples=5, interval=0.5)
    frames = [m["adt"].to_df("jamie_from_rna_upper").sort_index() for m in (query, trained)]
    np.testing.assert_allclose(*frames, rtol=1e-4, atol=1e-4)


# Real cells ---------------------------------------------------------------------------------------------------------


def missing(name):
    folder = Path(os.environ.get("JAMIE_SC_DATA_DIR", "/no folder"))
    return [file.name for file in read_manifest(name).files if not (folder / file.name).is_file()]


@pytest.mark.skipif(bool(missing("patchseq_motor")), reason="JAMIE_SC_DATA_DIR lacks the motor cortex")
def test_80_percent_intervals_hold_on_the_motor_cortex():
    pytest.importorskip("pyreadr")
    scores = jsc.tl.evaluate(jsc.datasets.patchseq_motor(), progress=False)
    assert scores["n_test"].tolist() == [241, 241]
    assert scores["coverage_80"].between(0.75, 0.85).all()
    assert scores["coverage_50"].between(0.45, 0.55).all()
    assert scores["coverage_95"].between(0.92, 0.97).all()
