from __future__ import annotations

import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata, no_pull


def model_of(mdata):
    return jsc.models.from_state(mdata.uns["jamie"]["model"])


def composed(mdata, source, target):
    """Encode, decode, and put the rows in the order of the target's cells."""
    model = model_of(mdata)
    values = model.decode(target, model.encode(source, np.asarray(mdata[source].X)))
    frame = pd.DataFrame(values, mdata[source].obs_names, model.modality(target).var_names)
    return frame.reindex(index=mdata[target].obs_names, columns=mdata[target].var_names).to_numpy()


@pytest.mark.parametrize(("source", "target"), [("rna", "adt"), ("adt", "rna"), ("rna", "rna")])
def test_source_encoder_then_target_decoder(trained, source, target):
    jsc.tl.impute(trained, source=source, target=target)
    layer = trained[target].layers[f"jamie_from_{source}"]
    assert layer.dtype == np.float32
    np.testing.assert_allclose(layer, composed(trained, source, target), rtol=1e-5, atol=1e-6)
    lacks = ~trained[target].obs_names.isin(trained[source].obs_names)
    assert lacks.sum() == (0 if source == target else 16)
    np.testing.assert_array_equal(np.isnan(layer), np.broadcast_to(lacks[:, None], layer.shape))


def test_only_the_layer_is_written(trained, contents):
    before = contents(copy_of(trained))
    jsc.tl.impute(trained, source="rna", target="adt")
    after = contents(trained)
    del after["adt"]["layers"]["jamie_from_rna"]
    np.testing.assert_equal(after, before)


def test_copy(trained, unchanged):
    with unchanged(trained):
        made = jsc.tl.impute(trained, source="rna", target="adt", copy=True)
    assert jsc.tl.impute(trained, source="rna", target="adt") is None
    np.testing.assert_array_equal(*(m["adt"].layers["jamie_from_rna"] for m in (made, trained)))


def test_key(mdata, quick):
    jsc.tl.integrate(mdata, **quick)
    jsc.tl.integrate(mdata, rng=1, key_added="second", **quick)
    with pytest.raises(KeyError, match=r"\['jamie', 'second'\]"):
        jsc.tl.impute(mdata, source="rna", target="adt")
    for key in ("X_jamie", "second"):
        jsc.tl.impute(mdata, source="rna", target="adt", key=key)
    first, second = (mdata["adt"].layers[f"{key}_from_rna"] for key in ("jamie", "second"))
    assert not np.allclose(first, second, equal_nan=True)


# Uncertainty --------------------------------------------------------------------------------------------------------


def test_draws_give_mean_and_sd(trained):
    n = 200
    draws = [jsc.tl.impute(trained, source="rna", target="adt", n_samples=n, rng=rng, copy=True) for rng in (0, 1)]
    means, sds = ([m["adt"].layers[f"jamie_from_rna{sd}"] for m in draws] for sd in ("", "_sd"))
    lacks = ~trained["adt"].obs_names.isin(trained["rna"].obs_names)
    for sd in sds:
        assert sd.shape == trained["adt"].shape
        assert np.isnan(sd[lacks]).all()
        assert (sd[~lacks] > 0).all()
    assert not np.array_equal(means[0], means[1], equal_nan=True)
    z = (means[0] - means[1]) / (sds[0] * np.sqrt(2 / n))
    assert np.nanmax(np.abs(z)) < 6  # two estimates of the same mean
    assert 0.1 < np.nanstd(z) < 1.5
    point = composed(trained, "rna", "adt")
    assert np.nanmean(np.abs(means[0] - point)) < 0.5 * np.nanmean(sds[0])


def test_draws_are_repeatable(trained):
    made = [jsc.tl.impute(trained, source="rna", target="adt", n_samples=3, copy=True) for _ in range(2)]
    for layer in ("jamie_from_rna", "jamie_from_rna_sd"):
        np.testing.assert_array_equal(*(m["adt"].layers[layer] for m in made))


def test_what_an_earlier_call_said_of_other_values_goes(trained):
    jsc.tl.impute(trained, source="rna", target="adt", n_samples=5, interval=0.8)
    assert {f"jamie_from_rna_{part}" for part in ("sd", "lower", "upper")} < set(trained["adt"].layers)
    jsc.tl.impute(trained, source="rna", target="adt", n_samples=5)
    assert set(trained["adt"].layers) == {"jamie_from_rna", "jamie_from_rna_sd"}
    jsc.tl.impute(trained, source="rna", target="adt")
    assert set(trained["adt"].layers) == {"jamie_from_rna"}


@pytest.mark.parametrize("n_samples", [1, 0, -3])
def test_one_draw_has_no_sd(trained, unchanged, n_samples):
    with unchanged(trained), pytest.raises(ValueError, match=f"n_samples is {n_samples}.*at least 2"):
        jsc.tl.impute(trained, source="rna", target="adt", n_samples=n_samples)


@pytest.fixture
def layers():
    """Impute adt from rna with draws and an interval; the layers written by the end of their names, and the measured values."""

    def impute(mdata, interval, **options):
        jsc.tl.impute(mdata, source="rna", target="adt", n_samples=20, interval=interval, **options)
        adt = mdata["adt"]
        ends = {end: adt.layers[f"jamie_from_rna{end}"] for end in ("", "_sd", "_lower", "_upper")}
        return ends, adt.X

    return impute


def test_an_interval_writes_its_bounds(trained, layers, contents):
    before = contents(copy_of(trained))
    found, measured = layers(trained, 0.8)
    after = contents(trained)
    for end in found:
        del after["adt"]["layers"][f"jamie_from_rna{end}"]
    np.testing.assert_equal(after, before)
    lacks = ~trained["adt"].obs_names.isin(trained["rna"].obs_names)
    for values in found.values():
        assert values.dtype == np.float32
        assert values.shape == measured.shape
        np.testing.assert_array_equal(np.isnan(values), np.broadcast_to(lacks[:, None], values.shape))
    lower, upper, middle = (found[end][~lacks] for end in ("_lower", "_upper", ""))
    assert (lower < middle).all()
    assert (middle < upper).all()


def test_bounds_and_sd_are_those_of_the_calibration(trained, layers):
    found, _ = layers(trained, 0.6, rng=4)
    model, rna = model_of(trained), trained["rna"]
    calibration = model.calibrations["rna", "adt"]
    seed = int(np.random.default_rng(4).integers(2**31))
    mean, sd = model.sample("rna", "adt", rna.X, n_samples=20, seed=seed)
    lower, upper = calibration.interval(mean, sd, level=0.6)
    expected = {"": mean, "_sd": calibration.predicted_sd(mean, sd), "_lower": lower, "_upper": upper}
    for end, values in expected.items():
        frame = pd.DataFrame(values, rna.obs_names).reindex(trained["adt"].obs_names)
        np.testing.assert_allclose(found[end], frame, rtol=1e-4, atol=1e-5, err_msg=end)


def test_sd_is_half_the_80_percent_interval(trained, layers):
    """Over the 90th percentile of the normal distribution; these values may be negative, so there is no floor."""
    assert trained["adt"].X.min(axis=0).max() < 0
    found, _ = layers(trained, 0.8)
    np.testing.assert_allclose(found["_sd"], (found["_upper"] - found["_lower"]) / 2 / 1.2816, rtol=1e-3)
    np.testing.assert_allclose(found[""], (found["_upper"] + found["_lower"]) / 2, atol=1e-4)


def test_sd_does_not_depend_on_the_interval(trained, layers):
    jsc.tl.impute(trained, source="rna", target="adt", n_samples=20)
    without = trained["adt"].layers["jamie_from_rna_sd"]
    assert "jamie_from_rna_lower" not in trained["adt"].layers
    widths = []
    for interval in (0.1, 0.5, 0.85, 0.99):
        found, _ = layers(trained, interval)
        np.testing.assert_array_equal(found["_sd"], without)
        widths.append(found["_upper"] - found["_lower"])
    for narrow, wide in zip(widths[:-1], widths[1:], strict=True):
        known = ~np.isnan(narrow)
        assert (narrow[known] <= wide[known]).all()
        assert narrow[known].mean() < wide[known].mean()


def test_no_bound_below_zero_of_what_is_never_negative(mdata, quick, layers):
    mdata["adt"].X = np.abs(mdata["adt"].X)
    mdata["adt"].X[:, 0] -= 1
    jsc.tl.integrate(mdata, **quick)
    found, measured = layers(mdata, 0.99)
    known = ~np.isnan(found["_lower"][:, 0])
    lower, upper = found["_lower"][known], found["_upper"][known]
    assert measured[:, 0].min() < 0
    assert (lower[:, 0] < 0).any()
    assert (lower[:, 1:] == 0).any()
    assert (lower[:, 1:] >= 0).all()
    assert (upper[:, 1:] >= 0).all()


def test_bounds_of_cells_that_are_added_and_of_features_in_another_order(trained, edit, layers):
    found, _ = layers(copy_of(trained), 0.8)
    expected = pd.DataFrame(found["_upper"], trained["adt"].obs_names, trained["adt"].var_names).dropna()
    edit(trained, adt=trained["adt"][:, [7, 2]].copy())
    layers(trained, 0.8, extend=True)
    adt = trained["adt"]
    assert (adt[adt.obs["jamie_imputed"]].layers["jamie_from_rna_upper"] > 0).any()
    assert np.isnan(adt.layers["jamie_from_rna_upper"]).all(axis=1).sum() == 16  # measured, without the source
    got = adt.to_df("jamie_from_rna_upper").loc[expected.index, ["adt7", "adt2"]]
    pd.testing.assert_frame_equal(got, expected[["adt7", "adt2"]], check_names=False, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"interval": 0.8}, "interval=0.8 takes draws: give n_samples too"),
        ({"interval": 80, "n_samples": 5}, "above 0 and at most 0.99, not 80"),
        ({"interval": 0, "n_samples": 5}, "above 0 and at most 0.99, not 0"),
        ({"interval": 1.0, "n_samples": 5}, "above 0 and at most 0.99, not 1.0"),
    ],
)
def test_intervals_that_cannot_be(trained, unchanged, asked, message):
    with unchanged(trained), pytest.raises(ValueError, match=message):
        jsc.tl.impute(trained, source="rna", target="adt", **asked)


def test_no_draws_of_a_model_that_was_not_calibrated(mdata, quick, unchanged):
    jsc.tl.integrate(mdata, calibrate=False, **quick)
    message = r"not calibrated for imputing 'adt' from 'rna'.*integrate\(mdata, calibrate=True\).*40 cells.*Leave n_samples out"
    with unchanged(mdata), pytest.raises(ValueError, match=message):
        jsc.tl.impute(mdata, source="rna", target="adt", n_samples=5, interval=0.8)
    jsc.tl.impute(mdata, source="rna", target="adt")


# Cells that lack the target -----------------------------------------------------------------------------------------


@pytest.fixture(params=[np.asarray, sp.csr_matrix, sp.csc_matrix], ids=["dense", "csr", "csc"])
def rich(trained, request):
    """Targets with something in every slot."""
    adt = trained["adt"]
    adt.X = request.param(adt.X)
    adt.layers["counts"] = request.param(np.arange(adt.X.shape[0] * adt.X.shape[1]).reshape(adt.shape))
    adt.obs["good"] = True
    adt.obs["n"] = np.arange(adt.n_obs)
    adt.obs["note"] = [f"note {i}" for i in range(adt.n_obs)]
    adt.obsm["frame"] = pd.DataFrame({"x": np.arange(adt.n_obs) / 2}, index=adt.obs_names)
    adt.varm["loading"] = np.ones((adt.n_vars, 2))
    adt.var["name"] = adt.var_names.str.upper()
    adt.uns["about"] = {"it": 1}
    return trained


def test_extend_adds_the_cells_that_lack_the_target(rich):
    before, missing = copy_of(rich), rich["rna"].obs_names.difference(rich["adt"].obs_names)
    jsc.tl.impute(rich, source="rna", target="adt", extend=True)
    adt, old = rich["adt"], before["adt"].obs_names
    assert set(adt.obs_names) == {*old, *missing}
    assert adt.n_obs == 80
    assert adt.obs["jamie_imputed"].dtype == bool
    assert set(adt.obs_names[adt.obs["jamie_imputed"]]) == set(missing)
    new = adt[missing]
    assert np.isfinite(new.layers["jamie_from_rna"]).all()
    for never_measured in (new.X, new.layers["counts"]):
        values = never_measured.toarray() if sp.issparse(never_measured) else never_measured
        assert np.isnan(values).all()
    np.testing.assert_allclose(new.obsm["X_jamie"], rich["rna"][missing].obsm["X_jamie"], rtol=1e-5)
    imputed = jsc.get.imputed(before, source="rna", target="adt")[missing]
    np.testing.assert_array_equal(new.layers["jamie_from_rna"], imputed.X)


def test_extend_leaves_everything_else_as_it_was(rich, contents):
    before = copy_of(rich)
    jsc.tl.impute(rich, source="rna", target="adt", extend=True)
    assert list(rich.mod) == ["rna", "adt"]
    assert set(rich.obs_names) == set(before.obs_names)
    after = copy_of(rich[before.obs_names])
    with no_pull():
        adt = after["adt"][before["adt"].obs_names].copy()
        del adt.layers["jamie_from_rna"], adt.obs["jamie_imputed"]
        after.mod["adt"] = adt
        after.update()
    got, expected = contents(after), contents(before)
    for holder in ("", "rna", "adt"):
        for slot in expected[holder]:
            got_slot, expected_slot = (
                {k: v for k, v in c.items() if k not in ("rna", "adt")} if isinstance(c, dict) else c
                for c in (got[holder][slot], expected[holder][slot])
            )
            np.testing.assert_equal(got_slot, expected_slot, err_msg=f"{holder}.{slot}")
    assert sp.issparse(rich["adt"].X) == sp.issparse(before["adt"].X)


def test_extended_can_be_written(rich, tmp_path):
    jsc.tl.impute(rich, source="rna", target="adt", extend=True)
    with no_pull():
        rich.write(tmp_path / "extended.h5mu")
        back = md.read_h5mu(tmp_path / "extended.h5mu")
    assert back["adt"].obs["jamie_imputed"].sum() == 16
    assert jsc.pp.pairing(back)["paired"].tolist() == [48]


def test_added_cells_count_as_not_measured(rich, quick):
    before = copy_of(rich)
    jsc.tl.impute(rich, source="rna", target="adt", extend=True)
    pd.testing.assert_frame_equal(jsc.pp.pairing(rich), jsc.pp.pairing(before))
    pd.testing.assert_frame_equal(
        jsc.get.correspondence(rich, modality_a="rna", modality_b="adt").sort_values("cell_a", ignore_index=True),
        jsc.get.correspondence(before, modality_a="rna", modality_b="adt").sort_values("cell_a", ignore_index=True),
    )
    for mdata in (rich, before):
        jsc.tl.integrate(mdata, params={"max_steps": 5}, progress=False)
        jsc.tl.impute(mdata, source="adt", target="rna")
    joint = [pd.DataFrame(m.obsm["X_jamie"], m.obs_names).sort_index() for m in (rich, before)]
    np.testing.assert_allclose(*joint, atol=1e-3)
    lacks = [np.isnan(m["rna"].layers["jamie_from_adt"]).all(axis=1).sum() for m in (rich, before)]
    assert lacks == [16, 16]


def test_extend_twice_adds_nothing_more(trained):
    jsc.tl.impute(trained, source="rna", target="adt", extend=True)
    once = trained["adt"].copy()
    jsc.tl.impute(trained, source="rna", target="adt", extend=True)
    assert trained["adt"].n_obs == 80
    pd.testing.assert_frame_equal(trained["adt"].obs, once.obs)
    np.testing.assert_array_equal(trained["adt"].layers["jamie_from_rna"], once.layers["jamie_from_rna"])


def test_extend_both_ways(trained):
    for source, target in (("rna", "adt"), ("adt", "rna")):
        jsc.tl.impute(trained, source=source, target=target, extend=True)
        assert trained[target].n_obs == 80
        assert trained[target].obs["jamie_imputed"].sum() == 16
        assert np.isnan(trained[target].layers[f"jamie_from_{source}"]).all(axis=1).sum() == 16


def test_extend_with_draws(trained):
    jsc.tl.impute(trained, source="rna", target="adt", extend=True, n_samples=3)
    added = trained["adt"][trained["adt"].obs["jamie_imputed"]]
    assert (added.layers["jamie_from_rna_sd"] > 0).all()


def test_extend_makes_a_modality_that_a_query_lacks(trained, mdata):
    query = make_mudata({"rna": mdata["rna"].copy()})
    jsc.tl.map_query(query, trained)
    with pytest.raises(ValueError, match=r"None of the 64 cells of 'rna' is in 'adt'.*extend=True.*get\.imputed"):
        jsc.tl.impute(query, source="rna", target="adt")
    jsc.tl.impute(query, source="rna", target="adt", extend=True)
    assert list(query["adt"].obs_names) == list(query["rna"].obs_names)
    assert list(query["adt"].var_names) == list(trained["adt"].var_names)
    assert query["adt"].obs["jamie_imputed"].all()
    expected = jsc.get.imputed(trained, source="rna", target="adt").X
    np.testing.assert_array_equal(query["adt"].layers["jamie_from_rna"], expected)


# Features and errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extend", [False, True])
def test_layer_follows_the_feature_order_of_the_target(trained, edit, extend):
    expected = jsc.get.imputed(trained, source="rna", target="adt").to_df()
    edit(trained, adt=trained["adt"][:, ::-1].copy())
    jsc.tl.impute(trained, source="rna", target="adt", extend=extend)
    got = trained["adt"].to_df("jamie_from_rna").dropna()
    assert list(got.columns) == list(expected.columns[::-1])
    assert len(got) == (64 if extend else 48)
    pd.testing.assert_frame_equal(got, expected.loc[got.index, got.columns], check_names=False, rtol=1e-4, atol=1e-6)


def test_some_features_of_the_target_kept(trained, edit):
    expected = jsc.get.imputed(trained, source="rna", target="adt").to_df()
    edit(trained, adt=trained["adt"][:, [7, 2]].copy())
    jsc.tl.impute(trained, source="rna", target="adt")
    got = trained["adt"].to_df("jamie_from_rna").dropna()
    pd.testing.assert_frame_equal(
        got, expected.loc[got.index, ["adt7", "adt2"]], check_names=False, rtol=1e-4, atol=1e-6
    )


def test_source_features_in_another_order(trained, edit):
    expected = jsc.get.imputed(trained, source="rna", target="adt").to_df()
    edit(trained, rna=trained["rna"][:, ::-1].copy())
    got = jsc.get.imputed(trained, source="rna", target="adt").to_df()
    pd.testing.assert_frame_equal(got, expected, rtol=1e-4, atol=1e-6)


def test_features_the_model_does_not_know(trained, unchanged):
    trained["adt"].var_names = [*trained["adt"].var_names[:-2], "new1", "new2"]
    with unchanged(trained), pytest.raises(ValueError, match=r"2 features of modality 'adt'.*'new1', 'new2'"):
        jsc.tl.impute(trained, source="rna", target="adt")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"source": "rna", "target": "atac"}, r"'atac'.*\['rna', 'adt'\]"),
        ({"source": "atac", "target": "rna"}, r"'atac'.*\['rna', 'adt'\]"),
        ({"source": "rna", "target": "adt", "key": "scvi"}, r"'scvi'.*\['jamie'\]"),
    ],
)
def test_unknown_names(trained, unchanged, asked, message):
    with unchanged(trained), pytest.raises(KeyError, match=message):
        jsc.tl.impute(trained, **asked)


def test_nothing_trained(mdata, unchanged):
    with unchanged(mdata), pytest.raises(KeyError, match=r"tl\.integrate"):
        jsc.tl.impute(mdata, source="rna", target="adt")


def test_source_with_nan(trained, unchanged):
    trained["rna"].X[0, 0] = np.nan
    with unchanged(trained), pytest.raises(ValueError, match="'rna' holds 1 NaN"):
        jsc.tl.impute(trained, source="rna", target="adt")


def test_view(trained, unchanged):
    with unchanged(trained):
        view = trained[:30]
        jsc.tl.impute(view, source="rna", target="adt")
        assert view["adt"].layers["jamie_from_rna"].shape == view["adt"].shape
