"""`tl.integrate(model="clue", batch_key=...)`, and what becomes of batches in later calls."""

from __future__ import annotations

import logging

import mudata as md
import numpy as np
import pandas as pd
import pytest

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata, no_pull

SHIFT = 2.0
SHIFTED = [f"adt{i}" for i in range(10)]


def with_batches(mdata, seed=0):
    """Donors a, b and c in obs of the MuData; "run" in obs of each modality, numbers."""
    rng = np.random.default_rng(seed)
    mdata.obs["donor"] = pd.Categorical(rng.choice(["a", "b", "c"], mdata.n_obs, p=[0.5, 0.3, 0.2]))
    for mod in mdata.mod.values():
        mod.obs["run"] = rng.integers(1, 3, mod.n_obs)
    return mdata


def clue(mdata, **options):
    quick = {"params": {"max_steps": 5}, "calibrate": False, "progress": False}
    return jsc.tl.integrate(mdata, model="clue", **(quick | options))


def model_of(mdata):
    return jsc.models.from_state(mdata.uns["clue"]["model"])


@pytest.fixture
def mdata(_raw):
    """The cells of `mdata`, with batches."""
    return with_batches(copy_of(_raw))


@pytest.fixture(scope="module")
def _shifted(simulate):
    mdata = with_batches(simulate(n_cells=120, paired_fraction=0.9))
    adt = mdata["adt"]
    adt.X[np.ix_((mdata.obs["donor"][adt.obs_names] == "b").to_numpy(), adt.var_names.isin(SHIFTED))] += SHIFT
    clue(mdata, batch_key="donor", calibrate=True, params={"max_steps": 80})
    return mdata


@pytest.fixture
def shifted(_shifted):
    """120 cells, half of whose "adt" features are larger in the cells of donor "b"; trained with the donors."""
    return copy_of(_shifted)


def imputed(mdata, **options):
    """adt of every cell that has rna, as a frame."""
    return jsc.get.imputed(mdata, source="rna", target="adt", **options).to_df()


def warned(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# Training -----------------------------------------------------------------------------------------------------------


def test_batches_and_how_often_each_occurs(mdata):
    clue(mdata, batch_key=["donor", "run"])
    model = model_of(mdata)
    assert model.batch_keys == ["donor", "run"]
    for name, mod in mdata.mod.items():
        known = model.modality(name).batches
        donors = mdata.obs["donor"][mod.obs_names].value_counts(normalize=True)
        assert known["donor"] == pytest.approx(donors.to_dict())
        assert known["run"] == pytest.approx(mod.obs["run"].astype(str).value_counts(normalize=True).to_dict())


def test_the_modality_goes_before_the_mudata(mdata):
    mdata["rna"].obs["donor"] = "x"
    clue(mdata, batch_key="donor")
    known = {m.name: set(m.batches["donor"]) for m in model_of(mdata).modalities}
    assert known == {"rna": {"x"}, "adt": {"a", "b", "c"}}


def test_a_column_that_was_pulled_from_a_modality(mdata):
    mdata.obs["adt:run"] = mdata["adt"].obs["run"].reindex(mdata.obs_names).astype("Int64").astype(str)
    del mdata["adt"].obs["run"]
    clue(mdata, batch_key="run")
    assert all(set(m.batches["run"]) == {"1", "2"} for m in model_of(mdata).modalities)


@pytest.mark.parametrize("kind", ["category", object, "string"])
def test_kinds_of_columns_are_the_same(mdata, kind):
    first = clue(mdata, batch_key="donor", copy=True)
    mdata.obs["donor"] = mdata.obs["donor"].astype(kind)
    second = clue(mdata, batch_key="donor", copy=True)
    np.testing.assert_array_equal(second.obsm["X_clue"], first.obsm["X_clue"])


def test_the_encoder_reads_no_batch(mdata):
    clue(mdata, batch_key="donor")
    query = copy_of(mdata)
    query.obs["donor"] = "b"
    jsc.tl.map_query(query, mdata)
    np.testing.assert_array_equal(query.obsm["X_clue"], mdata.obsm["X_clue"])


@pytest.mark.parametrize("key", ["lane", ["donor", "lane"]])
def test_no_such_column(mdata, unchanged, key):
    with unchanged(mdata), pytest.raises(KeyError, match=r"no obs column 'lane' in .* modality 'rna'.*'donor'"):
        clue(mdata, batch_key=key)


def test_a_column_that_only_one_modality_has(mdata, unchanged):
    del mdata["adt"].obs["run"]
    with unchanged(mdata), pytest.raises(KeyError, match="no obs column 'run' in .* modality 'adt'"):
        clue(mdata, batch_key="run")


def test_cells_without_a_batch_are_no_training_cells(mdata, unchanged):
    cells = mdata["adt"].obs_names.difference(mdata["rna"].obs_names)[:2]
    mdata.obs.loc[cells, "donor"] = None
    message = rf"obs\['donor'\] says nothing of 2 cells of modality 'adt', such as '({'|'.join(cells)})'"
    with unchanged(mdata), pytest.raises(ValueError, match=message):
        clue(mdata, batch_key="donor")


# Imputing for a batch -----------------------------------------------------------------------------------------------


def test_batches_differ_in_the_direction_of_the_shift(shifted):
    as_a, as_b = (imputed(shifted, batch=batch) for batch in ("a", "b"))
    difference = (as_b - as_a).mean()
    others = difference.index.difference(SHIFTED)
    assert (difference[SHIFTED] > 0.5 * SHIFT).all()
    assert (difference[SHIFTED] < 1.5 * SHIFT).all()
    assert (difference[others].abs() < 0.25 * SHIFT).all()


def test_default_is_the_cells_own_batch(shifted):
    own = imputed(shifted)
    donors = shifted.obs["donor"][own.index]
    for batch in "abc":
        cells = own.index[donors == batch]
        assert len(cells) > 10
        np.testing.assert_allclose(own.loc[cells], imputed(shifted, batch=batch).loc[cells], rtol=1e-4, atol=1e-5)


def test_impute_does_the_same(shifted):
    for options in ({}, {"batch": "b"}, {"batch": {"donor": "c"}}):
        expected = imputed(shifted, **options)
        jsc.tl.impute(shifted, source="rna", target="adt", **options)
        layer = shifted["adt"].to_df("clue_from_rna").dropna()
        pd.testing.assert_frame_equal(layer, expected.loc[layer.index], check_names=False)


def test_draws_and_cells_that_are_added_are_of_that_batch_too(shifted):
    found = {}
    for batch in "ab":
        made = copy_of(shifted)
        jsc.tl.impute(made, source="rna", target="adt", batch=batch, n_samples=20, interval=0.8, extend=True)
        found[batch] = made["adt"]
    added = found["a"].obs_names[found["a"].obs["jamie_imputed"]]
    assert len(added) == 6
    for part in ("", "_lower", "_upper"):
        a, b = (found[batch].to_df(f"clue_from_rna{part}").loc[added, SHIFTED] for batch in "ab")
        assert (b - a).mean(axis=None) > 0.5 * SHIFT


def test_the_batches_are_in_the_file(shifted, tmp_path):
    expected = imputed(shifted, batch="b")
    with no_pull():
        shifted.write(tmp_path / "cells.h5mu")
        read = md.read_h5mu(tmp_path / "cells.h5mu")
    pd.testing.assert_frame_equal(imputed(read, batch="b"), expected)
    pd.testing.assert_frame_equal(imputed(read), imputed(shifted))


def test_several_keys(mdata):
    clue(mdata, batch_key=("donor", "run"))
    own = imputed(mdata)
    both = imputed(mdata, batch={"donor": "b", "run": "2"})
    of_both = (mdata.obs["donor"][own.index] == "b") & (mdata["rna"].obs["run"][own.index] == 2)
    assert 0 < of_both.sum() < len(own)
    np.testing.assert_allclose(own[of_both], both[of_both], rtol=1e-4, atol=1e-5)
    one = imputed(mdata, batch={"donor": "b"})  # the other is the cell's own
    same_run = mdata["rna"].obs["run"][own.index] == 2
    np.testing.assert_allclose(one[same_run], both[same_run], rtol=1e-4, atol=1e-5)
    assert not np.allclose(one[~same_run], both[~same_run], atol=1e-3)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ("d", r"'donor': 'd'.*'adt' has no such batch.*\{'donor': \['a', 'b', 'c'\]\}"),
        ({"donor": "d"}, r"no such batch.*\['a', 'b', 'c'\]"),
        ({"lane": "a"}, r"'lane': 'a'.*no such batch.*'donor'"),
    ],
)
def test_batches_that_the_model_does_not_know(shifted, unchanged, batch, message):
    with unchanged(shifted):
        with pytest.raises(ValueError, match=message):
            jsc.tl.impute(shifted, source="rna", target="adt", batch=batch)
        with pytest.raises(ValueError, match=message):
            imputed(shifted, batch=batch)


def test_a_name_alone_is_not_enough_for_several_keys(mdata):
    clue(mdata, batch_key=["donor", "run"])
    with pytest.raises(ValueError, match=r"batch='a': .* batch keys \['donor', 'run'\]; give a mapping"):
        jsc.tl.impute(mdata, source="rna", target="adt", batch="a")


def test_a_model_without_batches(mdata, trained):
    clue(mdata)
    for each in (mdata, trained):
        with pytest.raises(ValueError, match=r"batch='a': the model of 'adt' has the batch keys \[\]"):
            jsc.tl.impute(each, source="rna", target="adt", batch="a")


# Batches of a query -------------------------------------------------------------------------------------------------


@pytest.fixture
def query(shifted):
    """The cells that the model was trained on, before it was."""
    return make_mudata({name: mod.copy() for name, mod in shifted.mod.items()})


def average(shifted):
    """What donors are decoded to whose batch is not known: not the mean of what each is decoded to, but about that."""
    share = model_of(shifted).modality("adt").batches["donor"]
    return sum(weight * imputed(shifted, batch=batch) for batch, weight in share.items())


@pytest.mark.parametrize("donors", ["z", None, "no column"])
def test_unknown_batches_are_averaged_with_a_warning(shifted, query, donors, caplog):
    if donors != "no column":
        query.obs["donor"] = donors
    with caplog.at_level(logging.WARNING, "jamie_sc"):
        jsc.tl.map_query(query, shifted)
    assert warned(caplog) == []  # the encoder reads no batch
    np.testing.assert_array_equal(query.obsm["X_clue"], shifted.obsm["X_clue"])
    with caplog.at_level(logging.WARNING, "jamie_sc"):
        values = imputed(query)
        jsc.tl.impute(query, source="rna", target="adt")
    assert len(warned(caplog)) == 2
    for message in warned(caplog):
        assert "'donor'" in message
        assert ("'z'" if donors == "z" else "'missing'") in message
        assert "['a', 'b', 'c']" in message
        assert "batch=" in message
    as_a, as_b = (imputed(shifted, batch=batch)[SHIFTED].mean(axis=None) for batch in "ab")
    assert as_a + 0.2 < values[SHIFTED].mean(axis=None) < as_b - 0.2
    np.testing.assert_allclose(values.mean(), average(shifted).mean(), atol=0.3)
    layer = query["adt"].to_df("clue_from_rna").dropna()
    pd.testing.assert_frame_equal(layer, values.loc[layer.index], check_names=False)


def test_some_cells_have_an_unknown_batch(shifted, query, caplog):
    query.obs["donor"] = shifted.obs["donor"].astype(object)[query.obs_names]
    strange = query["rna"].obs_names[:7]
    query.obs.loc[strange, "donor"] = [*"xyz", None, *"vwx"]
    jsc.tl.map_query(query, shifted)
    values = imputed(query)
    (message,) = warned(caplog)
    assert "'missing', 'v', 'w', 'x', 'y', ..." in message
    rest = values.index.difference(strange)
    np.testing.assert_allclose(values.loc[rest], imputed(shifted).loc[rest], rtol=1e-4, atol=1e-5)
    assert not np.allclose(values.loc[strange], imputed(shifted).loc[strange], atol=0.05)


def test_a_batch_that_is_given_needs_no_column(shifted, query, caplog):
    jsc.tl.map_query(query, shifted)
    pd.testing.assert_frame_equal(imputed(query, batch="b"), imputed(shifted, batch="b"))
    assert warned(caplog) == []


def test_a_batch_that_only_the_other_modality_has(mdata, caplog):
    """The decoder of adt has seen the cells of adt alone."""
    mdata["rna"].obs["site"] = np.where(np.arange(mdata["rna"].n_obs) % 2, "north", "south")
    mdata["adt"].obs["site"] = "north"
    clue(mdata, batch_key="site")
    imputed(mdata)
    (message,) = warned(caplog)
    assert "'south'" in message
    assert "no 'adt'" in message
    with pytest.raises(ValueError, match=r"'adt' has no such batch.*\['north'\]"):
        imputed(mdata, batch="south")


def test_a_batch_called_none_is_not_that_of_cells_without_one(mdata, caplog):
    mdata.obs["drug"] = np.where(np.arange(mdata.n_obs) % 3, "None", "some")
    mdata["adt"].X[(mdata.obs["drug"][mdata["adt"].obs_names] == "some").to_numpy()] += SHIFT
    clue(mdata, batch_key="drug", params={"max_steps": 20})
    none = imputed(mdata, batch="None")
    query = make_mudata({"rna": mdata["rna"].copy()})
    jsc.tl.map_query(query, mdata)
    assert not np.allclose(imputed(query), none, atol=0.05)
    (message,) = warned(caplog)
    assert "'missing'" in message


def test_whole_numbers_are_the_same_as_floats(mdata, caplog):
    """As they become where one of them is missing."""
    mdata.obs["lane"] = np.arange(mdata.n_obs) % 2 + 1
    clue(mdata, batch_key="lane")
    expected = imputed(mdata)
    query = copy_of(mdata)
    query.obs["lane"] = query.obs["lane"].astype(float)
    pd.testing.assert_frame_equal(imputed(query), expected)
    assert warned(caplog) == []


def test_a_number_may_be_given_as_it_is(mdata):
    mdata.obs["lane"] = np.arange(mdata.n_obs) % 2 + 1
    clue(mdata, batch_key="lane")
    for batch in (2, {"lane": 2}):
        pd.testing.assert_frame_equal(imputed(mdata, batch=batch), imputed(mdata, batch="2"))
