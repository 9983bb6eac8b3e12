"""`tl.match_cells(method="latent")`: most of it on embeddings put where `tl.integrate` puts them."""

import logging

import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata, no_pull
from jamie_sc.tl import _match_latent

KEY = "correspondence"
SPARE = ("rna", "adt")


def embed(mdata, key="mine", *, dims=3, noise=0.3, seed=0):
    """Slots of an integration: what is known of the cell, plus noise of each modality."""
    rng = np.random.default_rng(seed)
    place = pd.DataFrame(rng.normal(size=(mdata.n_obs, dims)), index=np.sort(mdata.obs_names))
    for adata in mdata.mod.values():
        moved = place.loc[np.sort(adata.obs_names)] + noise * rng.normal(size=(adata.n_obs, dims))
        adata.obsm[key] = moved.loc[adata.obs_names].to_numpy(np.float32)
    mdata.uns[key] = {"model": {}, "params": {"model": "jamie", "obsm": key}}
    return mdata


@pytest.fixture
def embedded(mdata):
    """48 cells in both modalities, 16 only in "rna" and 13 only in "adt"."""
    lone = mdata["adt"].obs_names.difference(mdata["rna"].obs_names)[:3]
    adt = mdata["adt"][~mdata["adt"].obs_names.isin(lone)].copy()
    return embed(make_mudata({"rna": mdata["rna"], "adt": adt}))


def match(mdata, **options):
    jsc.tl.match_cells(mdata, method="latent", **options)
    return mdata


def alone(mdata, a="rna", b="adt"):
    """Names of the cells of a that b lacks, sorted."""
    return mdata[a].obs_names.difference(mdata[b].obs_names)


def block(mdata, a="rna", b="adt", key=KEY):
    """Rows of one modality's cells, columns of the other's."""
    frame = pd.DataFrame(mdata.obsp[key].toarray(), mdata.obs_names, mdata.obs_names)
    return frame.loc[mdata[a].obs_names, mdata[b].obs_names]


def equation_16(x, y, k):
    """With sets of (modality, cell); x and y are tables with the names of the cells."""

    def nearest(cells, modality, others):
        distances = ((cells.to_numpy()[:, None] - others.to_numpy()) ** 2).sum(axis=2)
        return [{(modality, j) for j in others.index[order[:k]]} for order in distances.argsort(axis=1)]

    xx, xy, yx, yy = nearest(x, "x", x), nearest(x, "y", y), nearest(y, "x", x), nearest(y, "y", y)
    M = [
        [len((ij & jj) | (ji & ii)) / len(ij | jj | ji | ii) for ji, jj in zip(yx, yy, strict=True)]
        for ij, ii in zip(xy, xx, strict=True)
    ]
    return pd.DataFrame(M, x.index, y.index)


def equation_16_of(mdata, k, key="mine", a="rna", b="adt"):
    """Between the cells without a partner."""
    tables = [
        pd.DataFrame(mdata[one].obsm[key], mdata[one].obs_names).loc[alone(mdata, one, other)]
        for one, other in ((a, b), (b, a))
    ]
    return equation_16(*tables, k)


# What is written ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 5, 13])
def test_it_is_equation_16(embedded, k):
    M = equation_16_of(embedded, k)
    assert M.shape == (16, 13)
    match(embedded, n_neighbors=k)
    for expected, a, b in ((M, "rna", "adt"), (M.T, "adt", "rna")):
        got = block(embedded, a, b).loc[expected.index, expected.columns]
        np.testing.assert_allclose(got, expected.div(expected.sum(axis=1), axis=0), rtol=1e-5)
    found = embedded.uns[KEY]["rna-adt"]
    assert list(found["n_cells"]) == [16, 13]
    np.testing.assert_allclose(found["jaccard"], [M.max(axis=1).mean(), M.max(axis=0).mean()], rtol=1e-5)


def test_default_is_one_neighbour(embedded):
    default = match(copy_of(embedded))
    assert default.uns[KEY]["params"]["n_neighbors"] == 1
    np.testing.assert_array_equal(default.obsp[KEY].toarray(), match(embedded, n_neighbors=1).obsp[KEY].toarray())


def test_slots(embedded, contents):
    before = contents(embedded)
    match(embedded, key_added="found")
    links = embedded.obsp["found"]
    assert sp.issparse(links)
    assert (links.format, links.dtype, links.shape) == ("csr", np.float32, (77, 77))
    params = embedded.uns["found"]["params"]
    assert list(params.pop("modalities")) == ["rna", "adt"]
    assert params == {"method": "latent", "key": "mine", "n_neighbors": 1, "n_matches": 30}
    assert set(embedded.uns["found"]) == {"params", "rna-adt"}
    after = contents(embedded)
    del after[""]["obsp"]["found"], after[""]["uns"]["found"], after[""]["obs"]["found_confidence"]
    np.testing.assert_equal(after, before)


@pytest.mark.parametrize("k", [1, 6])
def test_rows_sum_to_one_and_known_pairs_stay(embedded, k):
    match(embedded, n_neighbors=k)
    paired = embedded["rna"].obs_names.intersection(embedded["adt"].obs_names)
    for a, b in (SPARE, SPARE[::-1]):
        F = block(embedded, a, b)
        np.testing.assert_allclose(F.sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_array_equal(F.loc[paired, paired], np.eye(len(paired)))
        assert (F.loc[alone(embedded, a, b), paired] == 0).all(axis=None)
    confidence = embedded.obs[f"{KEY}_confidence"]
    assert (confidence[paired] == 1).all()
    assert confidence.between(0, 1).all()
    assert (confidence < 1).any()


@pytest.mark.parametrize("n_matches", [1, 3])
@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_the_best_matches_of_either_cell_are_kept(embedded, n_matches, chunk, monkeypatch):
    monkeypatch.setattr(_match_latent, "CHUNK", chunk)
    M = equation_16_of(embedded, 5)
    match(embedded, n_neighbors=5, n_matches=n_matches)
    kept = M.where(block(embedded).loc[M.index, M.columns] > 0, 0.0)
    for matches, index in ((kept, M), (kept.T, M.T)):
        best = -np.sort(-index, axis=1)[:, :n_matches]
        np.testing.assert_array_equal(-np.sort(-matches, axis=1)[:, :n_matches], best)
    n_kept, n_any = ((found > 0).to_numpy().sum() for found in (kept, M))
    assert 16 * n_matches <= n_kept <= (16 + 13) * n_matches < n_any
    back = block(embedded, "adt", "rna").loc[M.columns, M.index]
    assert ((back.T > 0) == (kept > 0)).all(axis=None)  # both directions are one coupling
    np.testing.assert_allclose(back, kept.T.div(kept.sum(axis=0), axis=0), rtol=1e-5)


def test_nearest_neighbours_are_always_among_the_matches(embedded):
    """So each cell has matches, here where it lies far from all others."""
    embedded["rna"].obsm["mine"] += 50
    match(embedded, n_neighbors=2)
    tables = {name: pd.DataFrame(adata.obsm["mine"], adata.obs_names) for name, adata in embedded.mod.items()}
    for a, b in (SPARE, SPARE[::-1]):
        others = tables[b].loc[alone(embedded, b, a)]
        for cell in alone(embedded, a, b):
            near = ((others - tables[a].loc[cell]) ** 2).sum(axis=1).nsmallest(2).index
            assert (block(embedded, a, b).loc[cell, near] > 0).all()


def test_cells_in_one_place(embedded):
    for adata in embedded.mod.values():
        adata.obsm["mine"][:] = 1
    match(embedded, n_neighbors=3)
    for a, b in (SPARE, SPARE[::-1]):
        np.testing.assert_allclose(block(embedded, a, b).sum(axis=1), 1, rtol=1e-5)


def test_copy(embedded, unchanged, contents):
    with unchanged(embedded):
        made = jsc.tl.match_cells(embedded, method="latent", copy=True)
    assert jsc.tl.match_cells(embedded, method="latent") is None
    np.testing.assert_equal(contents(made), contents(embedded))


def test_written_read_back_and_listed(trained, quick, tmp_path, monkeypatch):
    match(trained)
    with no_pull():
        trained.write(tmp_path / "cells.h5mu")
        back = md.read_h5mu(tmp_path / "cells.h5mu")
    np.testing.assert_array_equal(back.obsp[KEY].toarray(), trained.obsp[KEY].toarray())
    for slot in ("n_cells", "jaccard"):
        np.testing.assert_array_equal(back.uns[KEY]["rna-adt"][slot], trained.uns[KEY]["rna-adt"][slot])
    pairs = jsc.get.correspondence(back, modality_a="rna", modality_b="adt")
    assert set(pairs["cell_a"]) == set(back["rna"].obs_names)
    assert (~pairs["inferred"]).sum() == 48
    np.testing.assert_allclose(pairs.groupby("cell_a")["weight"].sum(), 1, rtol=1e-5)
    monkeypatch.setattr("jamie_sc.tl._integrate.infer", lambda *_a, **_k: pytest.fail("inferred once more"))
    jsc.tl.integrate(back, key_added="again", **quick)
    again = match(copy_of(back), key="X_jamie")  # the file's integration still serves
    np.testing.assert_array_equal(again.obsp[KEY].toarray(), trained.obsp[KEY].toarray())


def test_integrate_takes_it_by_its_name(trained, quick, monkeypatch):
    match(trained, key_added="mine")
    monkeypatch.setattr("jamie_sc.tl._integrate.infer", lambda *_a, **_k: pytest.fail("inferred once more"))
    with pytest.raises(pytest.fail.Exception, match="inferred once more"):
        jsc.tl.integrate(trained, **quick)
    jsc.tl.integrate(trained, correspondence="mine", **quick)


# Which cells, which embedding ---------------------------------------------------------------------------------------


def test_shuffled_rows_change_nothing_but_the_order(embedded):
    for adata in embedded.mod.values():
        adata.obsm["mine"] = adata.obsm["mine"].round()  # many cells equally far apart
    rna = embedded["rna"][np.random.default_rng(0).permutation(64)].copy()
    other = make_mudata({"rna": rna, "adt": embedded["adt"]})
    other.uns["mine"] = embedded.uns["mine"]
    assert list(other.obs_names) != list(embedded.obs_names)
    match(embedded, n_neighbors=3, n_matches=4)
    match(other, n_neighbors=3, n_matches=4)
    expected = block(embedded)
    np.testing.assert_array_equal(block(other).loc[expected.index, expected.columns], expected)


def test_without_any_pair(mdata):
    adt = mdata["adt"].copy()
    adt.obs_names = "x" + adt.obs_names
    apart = embed(make_mudata({"rna": mdata["rna"], "adt": adt}))
    match(apart)
    assert list(apart.uns[KEY]["rna-adt"]["n_cells"]) == [64, 64]
    np.testing.assert_allclose(block(apart).sum(axis=1), 1, rtol=1e-5)


def test_a_single_cell(mdata):
    rna = mdata["rna"][~mdata["rna"].obs_names.isin(alone(mdata)[1:])].copy()
    lone = match(embed(make_mudata({"rna": rna, "adt": mdata["adt"]})))
    assert list(lone.uns[KEY]["rna-adt"]["n_cells"]) == [1, 16]
    np.testing.assert_allclose(block(lone, "adt", "rna").sum(axis=1), 1)


def test_three_modalities(simulate):
    mdata = embed(simulate("rna", "adt", "atac", n_cells=120, paired_fraction=0.4))
    match(mdata, n_neighbors=2)
    assert set(mdata.uns[KEY]) == {"params", "rna-adt", "rna-atac", "adt-atac"}
    for a in mdata.mod:
        for b in set(mdata.mod) - {a}:
            F = block(mdata, a, b)
            np.testing.assert_allclose(F.sum(axis=1), 1, rtol=1e-5)
            paired = F.index.intersection(F.columns)
            np.testing.assert_array_equal(F.loc[paired, paired], np.eye(len(paired)))
            M = equation_16_of(mdata, 2, a=a, b=b)
            np.testing.assert_allclose(F.loc[M.index, M.columns], M.div(M.sum(axis=1), axis=0), rtol=1e-5)
    assert mdata.obs[f"{KEY}_confidence"].between(0, 1).all()


def test_modalities_are_those_embedded_or_named(simulate):
    mdata = embed(simulate("rna", "adt", "atac", n_cells=120, paired_fraction=0.4))
    named = match(copy_of(mdata), modalities=["atac", "rna"])
    assert set(named.uns[KEY]) == {"params", "atac-rna"}
    only_adt = alone(mdata, "adt", "rna").difference(mdata["atac"].obs_names)
    assert named.obs.loc[only_adt, f"{KEY}_confidence"].isna().all()
    del mdata["adt"].obsm["mine"]
    match(mdata)
    assert list(mdata.uns[KEY]["params"]["modalities"]) == ["rna", "atac"]
    np.testing.assert_array_equal(mdata.obsp[KEY].toarray(), named.obsp[KEY].toarray())


def test_cells_without_an_embedding_are_not_matched(embedded):
    """Nor do they free their partner for another cell."""
    paired = embedded["rna"].obs_names.intersection(embedded["adt"].obs_names)
    lost = alone(embedded)[:4].union(paired[:2])
    embedded["rna"].obsm["mine"][embedded["rna"].obs_names.isin(lost)] = np.nan
    match(embedded)
    assert list(embedded.uns[KEY]["rna-adt"]["n_cells"]) == [12, 13]
    F = block(embedded)
    assert (F.loc[alone(embedded)[:4]] == 0).all(axis=None)
    assert embedded.obs.loc[alone(embedded)[:4], f"{KEY}_confidence"].isna().all()
    np.testing.assert_array_equal(F.loc[paired, paired], np.eye(48))


def test_imputed_cells_were_never_measured(trained):
    """`tl.impute(extend=True)` gives a cell a row in a modality, not a partner."""
    expected = block(match(copy_of(trained)))
    jsc.tl.impute(trained, source="rna", target="adt", extend=True)
    assert alone(trained).empty
    got = block(match(trained)).loc[expected.index, expected.columns]
    np.testing.assert_array_equal(got, expected)


def test_several_integrations(embedded, unchanged):
    expected = match(copy_of(embedded)).obsp[KEY].toarray()
    embed(embedded, "other", seed=1)
    with unchanged(embedded), pytest.raises(KeyError, match=r"several integrations: \['mine', 'other'\].*key="):
        match(embedded)
    np.testing.assert_array_equal(match(copy_of(embedded), key="mine").obsp[KEY].toarray(), expected)
    other = match(embedded, key="other")
    assert other.uns[KEY]["params"]["key"] == "other"
    assert abs(other.obsp[KEY] - expected).max() > 0.1


def test_mapped_cells(trained, mdata):
    """An embedding that `tl.map_query` wrote is one like any other."""
    jsc.tl.map_query(mdata, trained)
    np.testing.assert_array_equal(match(mdata).obsp[KEY].toarray(), match(trained).obsp[KEY].toarray())


@pytest.fixture(scope="module")
def hidden(simulate):
    """200 cells in both modalities; after training on 140 of them, the names of the others are hidden."""
    mdata = simulate(n_cells=200, paired_fraction=1.0)
    unknown = mdata.obs_names[:60]
    reference = copy_of(mdata[~mdata.obs_names.isin(unknown)])
    jsc.tl.integrate(reference, params={"max_steps": 100}, calibrate=False, progress=False)
    adt = mdata["adt"].copy()
    adt.obs_names = np.where(adt.obs_names.isin(unknown), "x" + adt.obs_names.astype(object), adt.obs_names)
    query = make_mudata({"rna": mdata["rna"], "adt": adt})
    jsc.tl.map_query(query, reference)
    return query


@pytest.mark.parametrize(("k", "times_chance"), [(1, 20), (5, 5), (20, 2)])
def test_it_finds_the_partners_of_hidden_cells(hidden, k, times_chance):
    """By the weight of the true partner, 1 / 60 by chance, and its rank among all (0: the best match, .5: chance)."""
    mdata = match(copy_of(hidden), n_neighbors=k, n_matches=60)
    for a, b, prefix in (("rna", "adt", "x"), ("adt", "rna", "")):
        cells, others = alone(mdata, a, b), alone(mdata, b, a)
        F = block(mdata, a, b).loc[cells, others].to_numpy()
        partner = others.get_indexer(prefix + cells.str.removeprefix("x"))
        true = np.take_along_axis(F, partner[:, None], axis=1)
        rank = ((true < F).sum(axis=1) + ((true == F).sum(axis=1) - 1) / 2) / (len(others) - 1)
        assert true.mean() > times_chance / 60
        assert rank.mean() < 0.1


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"layer": "counts"}, ValueError, 'has no layer.*method="gw"'),
        ({"use_rep": {"rna": "X_pca"}}, ValueError, "has no use_rep"),
        ({"epsilon": 0.1, "max_iter": 3}, ValueError, "has no epsilon, max_iter"),
        ({"n_neighbors": 14}, ValueError, "n_neighbors=14, but 13 cells of 'adt'.*1 to 13"),
        ({"n_neighbors": 0}, ValueError, "n_neighbors=0"),
        ({"n_matches": 0}, ValueError, "n_matches must be at least 1, not 0"),
        ({"method": "gw", "n_matches": 0}, ValueError, "n_matches must be at least 1, not 0"),
        ({"method": "gw", "key": "mine"}, ValueError, "key='mine'.*method='gw' does not read.*\"latent\""),
        ({"method": "unioncom", "key": "mine"}, ValueError, "method='unioncom' does not read"),
        ({"method": "embedding"}, ValueError, "'embedding'.*\"latent\""),
        ({"key": "jamie"}, KeyError, r"no integration 'jamie'.*\['mine'\]"),
        ({"key_added": "mine"}, ValueError, "'mine'.*trained model.*another key_added"),
        ({"method": "gw", "key_added": "mine"}, ValueError, "'mine'.*trained model"),
        ({"modalities": ["rna"]}, ValueError, r"Only 1 modality \(rna\).*'mine'"),
        ({"modalities": ["rna", "atac"]}, KeyError, "'atac'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_arguments(embedded, unchanged, asked, error, message):
    with unchanged(embedded), pytest.raises(error, match=message):
        jsc.tl.match_cells(embedded, **({"method": "latent"} | asked))


def test_no_integration(mdata, unchanged):
    with unchanged(mdata), pytest.raises(KeyError, match=r"no trained model.*tl\.integrate"):
        match(mdata)
    with pytest.raises(TypeError, match="MuData"):
        match(mdata["rna"])


def test_a_modality_without_the_embedding(embedded, unchanged):
    del embedded["adt"].obsm["mine"]
    with unchanged(embedded), pytest.raises(KeyError, match=r"mdata\['adt'\]\.obsm\['mine'\]"):
        match(embedded, modalities=["rna", "adt"])
    with unchanged(embedded), pytest.raises(ValueError, match=r"Only 1 modality \(rna\)"):
        match(embedded)


def test_nothing_to_match(embedded, simulate, unchanged):
    mdata = embed(simulate(n_cells=40, paired_fraction=1.0))
    with unchanged(mdata), pytest.raises(ValueError, match=r"nothing to match.*pp\.pairing"):
        match(mdata)
    embedded["rna"].obsm["mine"][embedded["rna"].obs_names.isin(alone(embedded))] = np.nan
    with unchanged(embedded), pytest.raises(ValueError, match="nothing to match"):
        match(embedded)


def test_log(embedded, caplog):
    with caplog.at_level(logging.INFO, logger="jamie_sc"):
        match(embedded)
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "pairing rna - adt: 48 paired cells, 16 only rna, 13 only adt"
    assert "matches of 77 cells" in said[-1]
