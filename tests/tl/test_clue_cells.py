"""CLUE of cells measured in any subset of the modalities, and of labelled cells."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata


def clue(mdata, steps, **options):
    quick = {"params": {"max_steps": steps} | options.pop("params", {}), "calibrate": False, "progress": False}
    jsc.tl.integrate(mdata, model="clue", **(quick | options))


def without(mdata, absent):
    """Some cells less in each modality."""
    mods = {name: mod[~mod.obs_names.isin(absent.get(name, []))].copy() for name, mod in mdata.mod.items()}
    return make_mudata(mods)


def foscttm(mdata, key="X_clue"):
    """Of each two modalities, over the cells that both have; chance is 0.5."""
    found = {}
    for a, b in combinations(mdata.mod, 2):
        first, second = (pd.DataFrame(mdata[name].obsm[key], mdata[name].obs_names) for name in (a, b))
        both = first.index.intersection(second.index)
        found[a, b] = jsc.metrics.foscttm(first.loc[both].to_numpy(), second.loc[both].to_numpy())
    return found


# Three modalities ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three():
    """200 cells in three modalities; names of 50 that are held out, and of the others."""
    mdata = jsc.datasets.simulated(200, n_features=(30, 40, 50), shuffle=True)
    names = np.random.default_rng(0).permutation(mdata.obs_names)
    return mdata, names[:50], names[50:]


@pytest.fixture(scope="module")
def reference(three):
    mdata, test, rest = three
    absent = {"modality1": rest[:30], "modality2": rest[20:60], "modality3": rest[50:80]}
    reference = without(mdata, {name: [*test, *cells] for name, cells in absent.items()})
    clue(reference, 40)
    return reference


def test_cells_in_any_subset_of_the_modalities(reference):
    measured = pd.DataFrame({name: reference.obs_names.isin(m.obs_names) for name, m in reference.mod.items()})
    assert len(measured.value_counts()) == 6
    pairing = {name: list(values) for name, values in reference.uns["clue"]["pairing"].items()}
    assert pairing["paired"] == [90, 90, 90]
    assert np.isfinite(reference.obsm["X_clue"]).all()
    assert reference.obsm["X_clue"].shape[1] == 3 * reference.uns["clue"]["params"]["latent_dim"]


def test_complete_cells_that_were_held_out_are_aligned(three, reference):
    mdata, test, _ = three
    query = copy_of(mdata[test])
    jsc.tl.map_query(query, reference)
    for pair, score in foscttm(query).items():
        assert score < 0.1, pair


@pytest.mark.parametrize("name", ["modality1", "modality3"])
def test_a_query_of_one_modality(three, reference, name):
    mdata, test, _ = three
    whole = copy_of(mdata[test])
    jsc.tl.map_query(whole, reference)
    query = make_mudata({name: whole[name].copy()})
    jsc.tl.map_query(query, reference)
    np.testing.assert_allclose(query[name].obsm["X_clue"], whole[name].obsm["X_clue"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(query.obsm["X_clue"], query[name].obsm["X_clue"], rtol=1e-4, atol=1e-5)
    for target in mdata.mod:
        imputed = jsc.get.imputed(query, source=name, target=target)
        measured = mdata[target][imputed.obs_names].X
        assert jsc.metrics.pearson(measured, imputed.X).mean() > 0.5, target


def test_a_query_of_two_modalities_is_nearer_to_the_whole_than_one(three, reference):
    """Equation 11 takes the mean of what is there."""
    mdata, test, _ = three
    found = []
    for names in (["modality1"], ["modality1", "modality2"], list(mdata.mod)):
        query = make_mudata({name: mdata[name][test].copy() for name in names})
        jsc.tl.map_query(query, reference)
        found.append(pd.DataFrame(query.obsm["X_clue"], query.obs_names).loc[test].to_numpy())
    one, two, whole = found
    assert np.square(two - whole).sum() < np.square(one - whole).sum()


@pytest.fixture(scope="module")
def chain(three):
    """The first with the second and the second with the third; the first and the third are never seen together."""
    mdata, test, rest = three
    train = without(mdata, {"modality1": [*test, *rest[:70]], "modality2": test, "modality3": [*test, *rest[70:]]})
    clue(train, 40, calibrate=True)
    return train


def test_a_modality_that_shares_cells_with_one_of_the_others(three, chain):
    mdata, test, _ = three
    assert list(chain.uns["clue"]["pairing"]["paired"]) == [80, 0, 70]
    query = copy_of(mdata[test])
    jsc.tl.map_query(query, chain)
    scores = foscttm(query)
    assert scores["modality1", "modality2"] < 0.1
    assert scores["modality2", "modality3"] < 0.1
    assert scores["modality1", "modality3"] < 0.1


def test_calibrated_are_those_that_share_cells(three, chain):
    mdata, test, _ = three
    query = copy_of(mdata[test])
    jsc.tl.map_query(query, chain)
    for source, target in (("modality1", "modality2"), ("modality3", "modality2")):
        jsc.tl.impute(query, source=source, target=target, n_samples=3, interval=0.8)
    with pytest.raises(ValueError, match="not calibrated for imputing 'modality3' from 'modality1'"):
        jsc.tl.impute(query, source="modality1", target="modality3", n_samples=3)


def test_modalities_in_use(three):
    mdata, _, _ = three
    part = copy_of(mdata)
    clue(part, 3, modalities=["modality3", "modality1"])
    assert list(part.uns["clue"]["params"]["modalities"]) == ["modality3", "modality1"]
    assert "X_clue" not in part["modality2"].obsm
    with pytest.raises(KeyError, match=r"'modality2'.*\['modality3', 'modality1'\]"):
        jsc.tl.impute(part, source="modality1", target="modality2")


# Pairs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paired_fraction", [0.5, 1])
def test_pairs_are_learned_by_name(simulate, paired_fraction):
    """The rows of each modality are shuffled, so that names alone tell the pairs."""
    mdata = simulate(n_cells=120, paired_fraction=paired_fraction)
    assert list(mdata["rna"].obs_names) != list(mdata["adt"].obs_names)
    clue(mdata, 40)
    assert foscttm(mdata)["rna", "adt"] < 0.1


def test_nothing_ties_the_modalities(simulate, unchanged):
    mdata = simulate(n_cells=12, paired_fraction=0)
    with unchanged(mdata), pytest.raises(ValueError, match="'rna'.*'adt'"):
        clue(mdata, 3)


# Labels -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def labelled():
    """Noisy cells of five types, a third of them without a label."""
    mdata = jsc.datasets.simulated(150, n_features=(20, 25), n_branches=5, noise=(1.0, 1.5), paired_fraction=0.5, rng=1)
    mdata.obs["label"] = mdata.obs["cell_type"].astype(object).where(np.arange(150) % 3 > 0)
    return mdata


def label_transfer(mdata):
    """Label transfer accuracy between the latents of the two modalities."""
    first, second = mdata.mod.values()
    types = [mod.obs["cell_type"].astype(str).to_numpy() for mod in (first, second)]
    return jsc.metrics.label_transfer_accuracy(first.obsm["X_clue"], second.obsm["X_clue"], *types)


def test_labels_of_some_cells_help(labelled):
    unaware = copy_of(labelled)
    clue(unaware, 20)
    clue(labelled, 20, labels_key="label", params={"labels": 5.0})
    assert label_transfer(labelled) > label_transfer(unaware) + 0.02


def test_labels_are_in_the_history_and_in_the_model(labelled):
    clue(labelled, 20, labels_key="label", params={"labels": 1.0})
    model = jsc.models.from_state(labelled.uns["clue"]["model"])
    assert model.labels == tuple(f"branch {i}" for i in range(1, 6))  # of the cells without one, none
    history = jsc.get.history(labelled)
    assert history["labels"].iloc[0] == pytest.approx(np.log(5), rel=0.3)
    assert history["labels"].iloc[-1] < 0.8 * history["labels"].iloc[0]


@pytest.mark.parametrize("kind", ["category", object])
def test_every_cell_may_have_a_label(mdata, kind):
    mdata.obs["cell_type"] = mdata.obs["cell_type"].astype(kind)
    clue(mdata, 5, labels_key="cell_type", calibrate=True)
    assert np.isfinite(jsc.get.history(mdata)["labels"]).all()
    query = make_mudata({"rna": mdata["rna"].copy()})
    del query["rna"].obs["cell_type"]
    jsc.tl.map_query(query, mdata)  # a query needs no labels
    np.testing.assert_array_equal(query["rna"].obsm["X_clue"], mdata["rna"].obsm["X_clue"])


def test_labels_that_one_modality_does_not_know(mdata):
    for mod in mdata.mod.values():
        mod.obs["label"] = mod.obs["cell_type"].astype(object)
    mdata["adt"].obs["label"] = None
    clue(mdata, 5, labels_key="label")
    assert np.isfinite(jsc.get.history(mdata)["labels"]).all()


def test_no_label_at_all(mdata):
    mdata.obs["label"] = pd.Series(np.nan, mdata.obs_names, dtype=object)
    clue(mdata, 5, labels_key="label")
    assert np.isfinite(mdata.obsm["X_clue"]).all()


def test_a_label_called_none_is_not_that_of_cells_without_one(mdata):
    """Else the classifier would learn it from them."""
    mdata.obs["label"] = np.where(np.arange(mdata.n_obs) % 2, "None", "some")
    named = copy_of(mdata)
    named.obs["label"] = named.obs["label"].replace("None", "Nobody")  # sorts as before
    for each in (mdata, named):
        each.obs.loc[each.obs_names[:40], "label"] = None
        clue(each, 10, labels_key="label", params={"labels": 5.0})
    np.testing.assert_array_equal(mdata.obsm["X_clue"], named.obsm["X_clue"])


def test_no_such_column_of_labels(mdata, unchanged):
    with unchanged(mdata), pytest.raises(KeyError, match="no obs column 'type' in .* modality 'rna'.*'cell_type'"):
        clue(mdata, 3, labels_key="type")
