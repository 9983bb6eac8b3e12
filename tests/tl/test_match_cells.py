import logging

import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import entropy

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata, no_pull
from jamie_sc.tl import _infer

KEY = "correspondence"


@pytest.fixture(scope="module")
def fast():
    """Arguments for which a match takes a moment."""
    return {"n_neighbors": 8, "progress": False}


@pytest.fixture(scope="session")
def _matched(_raw):
    made = copy_of(_raw)
    jsc.tl.match_cells(made, n_neighbors=8, progress=False)
    return made


@pytest.fixture
def matched(_matched):
    return copy_of(_matched)


def alone(mdata, a="rna", b="adt"):
    """Names of the cells of a that b lacks."""
    return mdata[a].obs_names.difference(mdata[b].obs_names)


def frame(mdata, key=KEY):
    return pd.DataFrame(mdata.obsp[key].toarray(), mdata.obs_names, mdata.obs_names)


def block(mdata, a="rna", b="adt", key=KEY):
    """Rows of one modality's cells, columns of the other's."""
    return frame(mdata, key).loc[mdata[a].obs_names, mdata[b].obs_names]


def renamed(mdata, **prefix):
    """The same cells, under other names in some modalities, so that nothing is paired."""
    mods = {name: adata.copy() for name, adata in mdata.mod.items()}
    for name, text in prefix.items():
        mods[name].obs_names = text + mods[name].obs_names
    return make_mudata(mods)


# What is written ----------------------------------------------------------------------------------------------------


def test_matrix(matched):
    links = matched.obsp[KEY]
    assert sp.issparse(links)
    assert links.format == "csr"
    assert links.dtype == np.float32
    assert links.shape == (80, 80)
    F = frame(matched)
    paired = matched["rna"].obs_names.intersection(matched["adt"].obs_names)
    assert len(paired) == 48
    np.testing.assert_array_equal(F.loc[paired, paired], np.eye(48))
    rna, adt = alone(matched), alone(matched, "adt", "rna")
    for one, other in ((rna, adt), (adt, rna)):
        assert (F.loc[one, paired] == 0).all(axis=None)
        assert (F.loc[paired, one] == 0).all(axis=None)
        assert (F.loc[one, one] == 0).all(axis=None)
        np.testing.assert_allclose(F.loc[one, other].sum(axis=1), 1, rtol=1e-5)
        assert (F.loc[one, other] > 0).any(axis=0).all()


def test_both_directions_are_one_coupling(matched):
    """The rows of one block and of the other one's transpose are the same numbers, but for what a row sums to."""
    there = block(matched).loc[alone(matched), alone(matched, "adt", "rna")]
    back = block(matched, "adt", "rna").loc[there.columns, there.index].T
    assert ((there > 0) == (back > 0)).all(axis=None)
    ratio = (there / back).to_numpy()
    scale = np.nanmedian(ratio, axis=0)  # of each cell of "adt"
    np.testing.assert_allclose((there / back / scale).stack().groupby(level=0).std().fillna(0), 0, atol=1e-3)


def test_confidence(matched):
    confidence = matched.obs[f"{KEY}_confidence"]
    assert confidence.between(0, 1).all()
    paired = matched["rna"].obs_names.intersection(matched["adt"].obs_names)
    assert (confidence[paired] == 1).all()
    assert (confidence.drop(paired) < 1).all()
    for a, b in (("rna", "adt"), ("adt", "rna")):
        F = block(matched, a, b).loc[alone(matched, a, b)]
        sure = 1 - entropy(F, axis=1) / np.log(matched[b].n_obs)
        np.testing.assert_allclose(confidence[F.index], sure, atol=1e-4)
        assert np.ptp(sure) > 0.01


def test_record(matched):
    record = matched.uns[KEY]
    assert set(record) == {"params", "rna-adt"}
    assert record["params"]["method"] == "gw"
    assert record["params"]["n_neighbors"] == 8
    assert record["params"]["n_matches"] == 30
    assert list(record["params"]["modalities"]) == ["rna", "adt"]
    found = record["rna-adt"]
    assert 0 < found["objective"] < 1.1
    assert found["row_residual"] < 0.05
    assert found["column_residual"] < 0.5
    assert found["n_iter"] > 0
    assert isinstance(found["converged"], bool)
    assert found["epsilon"] > 0
    assert found["rivals"].dtype == float


def test_nothing_else_is_changed(mdata, matched, contents):
    before, after = contents(mdata), contents(matched)
    assert after[""]["uns"].pop(KEY)
    del after[""]["obsp"][KEY], after[""]["obs"][f"{KEY}_confidence"]
    np.testing.assert_equal(after, before)


def test_copy(mdata, matched, fast, unchanged, contents):
    with unchanged(mdata):
        made = jsc.tl.match_cells(mdata, copy=True, **fast)
    np.testing.assert_equal(contents(made), contents(matched))
    assert jsc.tl.match_cells(mdata, **fast) is None


def test_key_added_names_every_slot(mdata, matched, fast):
    jsc.tl.match_cells(mdata, key_added="mine", **fast)
    assert KEY not in mdata.obsp
    assert KEY not in mdata.uns
    np.testing.assert_array_equal(mdata.obsp["mine"].toarray(), matched.obsp[KEY].toarray())
    pd.testing.assert_series_equal(mdata.obs["mine_confidence"], matched.obs[f"{KEY}_confidence"], check_names=False)
    assert set(mdata.uns["mine"]) == {"params", "rna-adt"}


def test_view_becomes_its_own_and_the_parent_stays(mdata, fast, unchanged):
    some = np.arange(80) % 4 > 0
    expected = copy_of(mdata[some])
    jsc.tl.match_cells(expected, **fast)
    with unchanged(mdata):
        view = mdata[some]
        jsc.tl.match_cells(view, **fast)
    np.testing.assert_array_equal(view.obsp[KEY].toarray(), expected.obsp[KEY].toarray())
    assert not view.is_view


def test_again_replaces_what_was_there(matched, fast):
    first = matched.obsp[KEY].copy()
    jsc.tl.match_cells(matched, n_matches=2, **fast)
    again = matched.obsp[KEY]
    assert again.nnz < first.nnz
    assert matched.uns[KEY]["params"]["n_matches"] == 2
    jsc.tl.match_cells(matched, **fast)
    np.testing.assert_array_equal(matched.obsp[KEY].toarray(), first.toarray())


def test_written_and_read_back_integrate_uses_it(matched, quick, tmp_path, monkeypatch):
    with no_pull():
        matched.write(tmp_path / "cells.h5mu")
        back = md.read_h5mu(tmp_path / "cells.h5mu")
    np.testing.assert_array_equal(back.obsp[KEY].toarray(), matched.obsp[KEY].toarray())
    assert back.uns[KEY]["rna-adt"]["objective"] == matched.uns[KEY]["rna-adt"]["objective"]
    monkeypatch.setattr("jamie_sc.tl._integrate.infer", lambda *_a, **_k: pytest.fail("inferred once more"))
    for mdata in (matched, back):
        jsc.tl.integrate(mdata, **quick)
    np.testing.assert_array_equal(back.obsm["X_jamie"], matched.obsm["X_jamie"])
    del back.obsp[KEY]
    with pytest.raises(pytest.fail.Exception, match="inferred once more"):
        jsc.tl.integrate(back, **quick)


# Which cells --------------------------------------------------------------------------------------------------------


def test_it_is_gromov_wasserstein_of_the_cells_in_the_order_of_their_names(mdata, fast):
    """Of the representation asked for, with the cells of one name as known pairs."""
    jsc.tl.match_cells(mdata, use_rep="latent", n_matches=50, epsilon=0.02, **fast)
    names = {name: np.sort(adata.obs_names) for name, adata in mdata.mod.items()}
    X, Y = (adata[names[name]].obsm["latent"] for name, adata in mdata.mod.items())
    _, i, j = np.intersect1d(names["rna"], names["adt"], return_indices=True)
    solution = jsc.align.gromov_wasserstein(
        X, Y, pairs=np.stack([i, j], axis=1), n_neighbors=8, n_matches=50, epsilon=0.02, progress=False
    )
    coupling = pd.DataFrame(solution.coupling.toarray(), names["rna"], names["adt"])
    for expected, a, b in ((coupling, "rna", "adt"), (coupling.T, "adt", "rna")):
        expected = expected.div(expected.sum(axis=1), axis=0)
        got = block(mdata, a, b).loc[expected.index, expected.columns]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    assert mdata.uns[KEY]["rna-adt"]["objective"] == pytest.approx(solution.objective)


def test_it_finds_the_same_cells(simulate, fast):
    """Two modalities that share their geometry to the last digit, and no name."""
    mdata = renamed(simulate(n_cells=120, paired_fraction=1.0), adt="x")
    assert not mdata["rna"].obs_names.isin(mdata["adt"].obs_names).any()
    for adata in mdata.mod.values():  # a branch that goes on, so that no symmetry is left
        adata.obsm["latent"] = np.where(adata.obsm["latent"][:, :1] > 0, 3, 1) * adata.obsm["latent"]
    jsc.tl.match_cells(mdata, use_rep="latent", progress=False)
    F = block(mdata)
    assert (F.idxmax(axis=1) == "x" + F.index).mean() > 0.8
    F = block(mdata, "adt", "rna")
    assert ("x" + F.idxmax(axis=1) == F.index).mean() > 0.8


@pytest.mark.parametrize("name", ["rna", "adt"])
@pytest.mark.parametrize("paired", [True, False])
def test_shuffled_rows_change_nothing_but_the_order(mdata, matched, fast, name, paired):
    mods = {other: adata.copy() for other, adata in mdata.mod.items()}
    if not paired:
        mods["adt"].obs_names = "x" + mods["adt"].obs_names
        matched = make_mudata(mods)
        jsc.tl.match_cells(matched, **fast)
    mods[name] = mods[name][np.random.default_rng(0).permutation(mods[name].n_obs)].copy()
    other = make_mudata(mods)
    assert list(other.obs_names) != list(matched.obs_names)
    jsc.tl.match_cells(other, **fast)
    same = frame(other).loc[matched.obs_names, matched.obs_names]
    np.testing.assert_allclose(same, frame(matched), atol=1e-4)
    column = f"{KEY}_confidence"
    np.testing.assert_allclose(other.obs[column][matched.obs_names], matched.obs[column], atol=1e-3)


def test_three_modalities(simulate, fast):
    mdata = simulate("rna", "adt", "atac", n_cells=120, paired_fraction=0.4)
    jsc.tl.match_cells(mdata, **fast)
    assert set(mdata.uns[KEY]) == {"params", "rna-adt", "rna-atac", "adt-atac"}
    for a in mdata.mod:
        for b in set(mdata.mod) - {a}:
            F = block(mdata, a, b)
            np.testing.assert_allclose(F.sum(axis=1), 1, rtol=1e-5)
            paired = F.index.intersection(F.columns)
            np.testing.assert_array_equal(F.loc[paired, paired], np.eye(len(paired)))
    assert mdata.obs[f"{KEY}_confidence"].between(0, 1).all()


def test_modalities_named(simulate, fast):
    mdata = simulate("rna", "adt", "atac", n_cells=120, paired_fraction=0.4)
    jsc.tl.match_cells(mdata, modalities=["atac", "rna"], **fast)
    assert set(mdata.uns[KEY]) == {"params", "atac-rna"}
    only_adt = alone(mdata, "adt", "rna").difference(mdata["atac"].obs_names)
    assert len(only_adt) == 24
    assert mdata.obs.loc[only_adt, f"{KEY}_confidence"].isna().all()
    assert mdata.obs[f"{KEY}_confidence"].isna().sum() == 24
    F = frame(mdata)
    assert (F.loc[only_adt] == 0).all(axis=None)
    assert (F[only_adt] == 0).all(axis=None)


@pytest.mark.parametrize("n_cells", [(70, 30), (25, 60)])
def test_unequal_sizes(simulate, fast, n_cells):
    mdata = simulate(n_cells=n_cells, paired_fraction=0.0)
    jsc.tl.match_cells(mdata, n_matches=5, **fast)
    for a, b in (("rna", "adt"), ("adt", "rna")):
        F = block(mdata, a, b)
        assert F.shape == (mdata[a].n_obs, mdata[b].n_obs)
        np.testing.assert_allclose(F.sum(axis=1), 1, rtol=1e-5)
    assert mdata.obs[f"{KEY}_confidence"].notna().all()


@pytest.mark.parametrize("marginals", ["balanced", "semi-relaxed"])
@pytest.mark.parametrize("paired", [0.0, 0.5])
def test_a_cell_type_that_one_modality_lacks(simulate, fast, marginals, paired):
    mdata = simulate(n_cells=120, paired_fraction=paired)
    adt = mdata["adt"][mdata["adt"].obs["cell_type"] != "branch 2"].copy()
    mdata = make_mudata({"rna": mdata["rna"], "adt": adt})
    jsc.tl.match_cells(mdata, marginals=marginals, **fast)
    np.testing.assert_allclose(block(mdata).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(block(mdata, "adt", "rna").sum(axis=1), 1, rtol=1e-5)
    assert mdata.uns[KEY]["params"]["marginals"] == marginals


# What they are compared in ------------------------------------------------------------------------------------------


def test_layer(mdata, fast):
    other = copy_of(mdata)
    other["rna"].X = mdata["rna"].layers["sq"] = mdata["rna"].X ** 2
    plain = jsc.tl.match_cells(mdata, copy=True, **fast)
    jsc.tl.match_cells(mdata, layer={"rna": "sq"}, **fast)
    jsc.tl.match_cells(other, **fast)
    np.testing.assert_array_equal(mdata.obsp[KEY].toarray(), other.obsp[KEY].toarray())
    assert abs(mdata.obsp[KEY] - plain.obsp[KEY]).max() > 0.01


def test_use_rep(mdata, fast):
    other = copy_of(mdata)
    mdata["rna"].obsm["X_mine"] = np.random.default_rng(0).standard_normal((64, 7))
    plain = jsc.tl.match_cells(other, copy=True, **fast)
    jsc.tl.match_cells(mdata, use_rep={"rna": "X_mine"}, **fast)
    assert abs(mdata.obsp[KEY] - plain.obsp[KEY]).max() > 0.01
    jsc.tl.match_cells(mdata, use_rep={"rna": "X"}, **fast)
    np.testing.assert_array_equal(mdata.obsp[KEY].toarray(), plain.obsp[KEY].toarray())


def test_sparse_is_dense(mdata, matched, fast):
    for adata in mdata.mod.values():
        adata.X = sp.csc_matrix(adata.X)
    jsc.tl.match_cells(mdata, **fast)
    np.testing.assert_allclose(mdata.obsp[KEY].toarray(), matched.obsp[KEY].toarray(), atol=1e-4)


def test_many_features_are_reduced(fast):
    """Beyond 50 features distances are those of principal components, those of pp.reduce where it was called."""
    mdata = jsc.datasets.simulated(100, n_features=(60, 70), paired_fraction=0.4)
    default = jsc.tl.match_cells(mdata, copy=True, **fast)
    jsc.pp.reduce(mdata, n_components=3)
    jsc.tl.match_cells(mdata, **fast)
    assert abs(mdata.obsp[KEY] - default.obsp[KEY]).max() > 0.01


def test_pairs_of_a_name_help(simulate, fast):
    """With more names to learn from, the right cells are likelier."""
    right = {}
    for n_known in (0, 60):
        mdata = simulate(n_cells=120, paired_fraction=1.0)
        adt = mdata["adt"].copy()
        hidden = ~adt.obs_names.isin(mdata["rna"].obs_names[:n_known])
        adt.obs_names = np.where(hidden, "x" + adt.obs_names.astype(object), adt.obs_names)
        mdata = make_mudata({"rna": mdata["rna"], "adt": adt})
        jsc.tl.match_cells(mdata, **fast)
        F = block(mdata).iloc[60:]
        right[n_known] = F.mul(F.columns.to_numpy() == "x" + F.index.to_numpy()[:, None]).sum(axis=1).mean()
    assert right[60] > 2 / 60  # twice the chance among those left
    assert right[60] > right[0]


# UnionCom -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paired", [0.0, 0.3])
def test_unioncom(simulate, paired):
    mdata = simulate(n_cells=(40, 50), paired_fraction=paired)
    options = {"max_iter": 150, "tol": 0, "progress": False}
    jsc.tl.match_cells(mdata, method="unioncom", n_matches=60, n_neighbors=6, distance="hops", **options)
    K, names = [], {name: np.sort(adata.obs_names) for name, adata in mdata.mod.items()}
    for name, adata in mdata.mod.items():
        X = adata[names[name]].X
        scaled = np.clip((X - X.mean(axis=0)) / X.std(axis=0), -5, 5)
        D = jsc.align.distances(scaled, distance="hops", n_neighbors=6)
        K.append(10 * D / D.max())
    _, i, j = np.intersect1d(names["rna"], names["adt"], return_indices=True)
    solution = jsc.align.unioncom(*K, known=np.stack([i, j], axis=1), **options)
    coupling = solution.coupling / solution.coupling.sum(axis=1, keepdims=True)
    got = block(mdata).loc[names["rna"], names["adt"]]
    np.testing.assert_allclose(got, coupling, atol=1e-4)
    assert np.std(coupling) > 1e-3
    record = mdata.uns[KEY]
    assert record["params"]["method"] == "unioncom"
    assert (record["params"]["distance"], record["params"]["max_iter"]) == ("hops", 150)
    assert record["rna-adt"]["n_iter"] == 150
    assert record["rna-adt"]["objective"] == pytest.approx(solution.objective, rel=1e-3)


# The same numbers ---------------------------------------------------------------------------------------------------


def test_rng(simulate, fast):
    """Seeds the landmarks; nothing global is read or changed."""
    mdata = simulate(n_cells=160, paired_fraction=0.0)
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    made = [
        jsc.tl.match_cells(mdata, n_landmarks=30, rng=rng, copy=True, **fast).obsp[KEY]
        for rng in (0, np.random.default_rng(0), 1)
    ]
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert abs(made[0] - made[1]).max() == 0
    assert abs(made[0] - made[2]).max() > 0


def test_log(mdata, fast, caplog):
    with caplog.at_level(logging.INFO, logger="jamie_sc"):
        jsc.tl.match_cells(mdata, **fast)
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "pairing rna - adt: 48 paired cells, 16 only rna, 16 only adt"
    assert said[1].startswith("matching 16 cells of 'rna' with 16 of 'adt'")
    assert "finished match_cells" in said[-1]
    assert "80 cells" in said[-1]
    assert "'correspondence_confidence'" in said[-1]


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"method": "ot"}, ValueError, '\'ot\'.*"gw".*"unioncom"'),
        ({"modalities": ["rna"]}, ValueError, r"Only 1 modality \(rna\)"),
        ({"modalities": ["rna", "atac"]}, KeyError, "'atac'"),
        ({"layer": {"adt": "raw"}}, KeyError, r"mdata\['adt'\]\.layers\['raw'\]"),
        ({"use_rep": {"rna": "X_scvi"}}, KeyError, r"mdata\['rna'\]\.obsm\['X_scvi'\]"),
        ({"n_neighbors": 70}, ValueError, "'rna' has 64 cells.*n_neighbors=70"),
        ({"n_neighbors": 20}, ValueError, "16 cells of 'rna' have no partner.*20 neighbours"),
        ({"marginals": "free"}, ValueError, "'free'.*semi-relaxed"),
        ({"method": "unioncom", "distance": "cosine"}, ValueError, "'cosine'"),
        ({"method": "unioncom", "max_iter": 0}, ValueError, "max_iter"),
        ({"epsilonn": 1}, TypeError, "epsilonn"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_arguments(mdata, unchanged, fast, asked, error, message):
    with unchanged(mdata), pytest.raises(error, match=message):
        jsc.tl.match_cells(mdata, **(fast | asked))


def test_nothing_to_match(simulate, unchanged):
    mdata = simulate(n_cells=40, paired_fraction=1.0)
    with unchanged(mdata), pytest.raises(ValueError, match=r"nothing to match.*'rna', 'adt'.*pp\.pairing"):
        jsc.tl.match_cells(mdata)
    lone_in_one = make_mudata({"rna": mdata["rna"].copy(), "adt": mdata["adt"][:20].copy()})
    with unchanged(lone_in_one), pytest.raises(ValueError, match="nothing to match"):
        jsc.tl.match_cells(lone_in_one)


def test_too_many_cells_for_unioncom(mdata, unchanged, monkeypatch):
    monkeypatch.setattr(_infer, "UNIONCOM_CELLS", 50)
    with unchanged(mdata), pytest.raises(ValueError, match=r"'rna' has 64 cells.*up to 50.*method=\"gw\""):
        jsc.tl.match_cells(mdata, method="unioncom")


def test_values_that_are_no_numbers(mdata, unchanged):
    mdata["adt"].X[3, 4] = np.nan
    with unchanged(mdata), pytest.raises(ValueError, match="'adt' holds 1 NaN"):
        jsc.tl.match_cells(mdata)


def test_no_mudata(mdata):
    with pytest.raises(TypeError, match="MuData"):
        jsc.tl.match_cells(mdata["rna"])
