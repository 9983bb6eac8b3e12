from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata

COLUMNS = [
    *("split", "paired_fraction", "source", "target", "n_train", "n_pairs", "n_test", "lta", "foscttm"),
    *("pearson", "auroc", "pearson_knn", "auroc_knn"),
    *("pearson_better", "auroc_better", "n_features", "pearson_pvalue", "auroc_pvalue", "seconds"),
]


@pytest.fixture(scope="module")
def fast():
    return {"params": {"max_steps": 10}, "progress": False}


@pytest.fixture
def complete(mdata):
    """Cells of both modalities, in the order of the MuData."""
    both = mdata["rna"].obs_names.intersection(mdata["adt"].obs_names)
    return mdata.obs_names[mdata.obs_names.isin(both)]


def test_every_direction(mdata, fast, unchanged):
    with unchanged(mdata):
        scores = jsc.tl.evaluate(mdata, labels_key="cell_type", **fast)
    assert set(scores.columns) == set(COLUMNS)
    assert (scores["paired_fraction"] == 1).all()
    assert list(zip(scores["source"], scores["target"], strict=True)) == [("rna", "adt"), ("adt", "rna")]
    assert scores["n_test"].tolist() == [9, 9]
    assert scores["n_train"].tolist() == [39, 39]
    assert scores["n_pairs"].tolist() == [39, 39]
    assert scores["n_features"].tolist() == [20, 25]
    assert scores["foscttm"].between(0, 1).all()
    assert scores["lta"].between(0, 1).all()
    for metric in ("pearson", "auroc"):
        assert (scores[f"{metric}_better"] <= scores["n_features"]).all()
        assert scores[f"{metric}_pvalue"].between(0, 1).all()
    assert (scores["seconds"] > 0).all()


@pytest.mark.parametrize(
    ("asked", "directions"),
    [
        ({"source": "rna"}, [("rna", "adt")]),
        ({"target": "rna"}, [("adt", "rna")]),
        ({"source": "rna", "target": "adt", "n_splits": 2, "test_fraction": 0.5}, [("rna", "adt")] * 2),
    ],
)
def test_directions_and_splits(mdata, fast, asked, directions):
    scores = jsc.tl.evaluate(mdata, **asked, **fast)
    assert list(zip(scores["source"], scores["target"], strict=True)) == directions
    assert scores["split"].tolist() == list(range(len(directions)))
    assert scores["n_test"].tolist() == [int(asked.get("test_fraction", 0.2) * 48)] * len(directions)
    assert scores["lta"].isna().all()
    if len(directions) > 1:
        assert scores["pearson_knn"].nunique() == 2


def test_repeatable(mdata, fast):
    first, second, other = (jsc.tl.evaluate(mdata, rng=rng, **fast).drop(columns="seconds") for rng in (0, 0, 1))
    pd.testing.assert_frame_equal(first, second)
    assert not np.allclose(first["pearson_knn"], other["pearson_knn"])


def nearest(mdata, train, test, k):
    """Mean Pearson of the average over the k nearest training cells, by hand."""
    rna, adt = mdata["rna"], mdata["adt"]
    sd = rna[train].X.std(axis=0)
    distances = (((rna[test].X / sd)[:, None] - (rna[train].X / sd)[None]) ** 2).sum(axis=2)
    predicted = adt[train].X[distances.argsort(axis=1)[:, :k]].mean(axis=1)
    measured = adt[test].X
    return np.mean([np.corrcoef(predicted[:, j], measured[:, j])[0, 1] for j in range(adt.n_vars)])


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_baseline_is_k_nearest_neighbours(mdata, complete, fast, k, form):
    test, train = complete[::4], complete[np.arange(len(complete)) % 4 > 0]
    expected = nearest(mdata, train, test, k)
    for adata in mdata.mod.values():
        adata.X = form(adata.X)
    scores = jsc.tl.evaluate(mdata, source="rna", target="adt", test_cells=list(test), n_neighbors=k, **fast)
    assert scores["n_test"].tolist() == [len(test)]
    assert scores["n_train"].tolist() == [len(train)]
    assert scores["pearson_knn"][0] == pytest.approx(expected, abs=1e-4)


def test_scores_are_those_of_a_model_that_never_saw_the_cells(mdata, complete, fast):
    """Train without them, map them, impute them, score: the long way."""
    test = complete[:12]
    scores = jsc.tl.evaluate(
        mdata, source="rna", target="adt", test_cells=test, labels_key="cell_type", rng=np.random.default_rng(3), **fast
    ).iloc[0]
    reference, query = copy_of(mdata[~mdata.obs_names.isin(test)]), copy_of(mdata[test])
    jsc.tl.integrate(reference, rng=np.random.default_rng(3), **fast)
    jsc.tl.map_query(query, reference)
    jsc.tl.impute(query, source="rna", target="adt")
    rna, adt = query["rna"][test], query["adt"][test]
    assert scores["foscttm"] == pytest.approx(jsc.metrics.foscttm(rna.obsm["X_jamie"], adt.obsm["X_jamie"]), abs=1e-3)
    pearson = np.nanmean(jsc.metrics.pearson(adt.X, adt.layers["jamie_from_rna"]))
    assert scores["pearson"] == pytest.approx(pearson, abs=1e-3)
    lta = jsc.metrics.label_transfer_accuracy(
        *(m.obsm["X_jamie"] for m in (rna, adt)), *(m.obs["cell_type"].astype(str) for m in (rna, adt))
    )
    assert scores["lta"] == pytest.approx(lta)


def test_passes_on_to_integrate(mdata, fast, monkeypatch):
    seen = []
    from jamie_sc.tl import _evaluate

    real = _evaluate.integrate
    monkeypatch.setattr(_evaluate, "integrate", lambda m, **kwargs: seen.append(kwargs) or real(m, **kwargs))
    for adata in mdata.mod.values():
        adata.layers["sq"] = adata.X**2
    jsc.tl.evaluate(mdata, layer="sq", recipe="default", **fast)
    assert seen[0]["layer"] == "sq"
    assert seen[0]["params"] == fast["params"]


def test_added_cells_are_not_tested_on(trained, fast):
    before = jsc.tl.evaluate(trained, source="rna", target="adt", **fast)
    jsc.tl.impute(trained, source="rna", target="adt", extend=True)
    after = jsc.tl.evaluate(trained, source="rna", target="adt", **fast)
    columns = ["n_train", "n_test"]
    pd.testing.assert_frame_equal(after[columns], before[columns])


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"source": "atac"}, (ValueError, KeyError), r"'atac'.*\['rna', 'adt'\]"),
        ({"source": "rna", "target": "rna"}, ValueError, "'rna' to 'rna'"),
        ({"test_fraction": 0.0}, ValueError, "test_fraction=0.0.*48 cells"),
        ({"test_fraction": 1.0}, ValueError, "test_fraction=1.0.*48 cells"),
        ({"labels_key": "celltype"}, KeyError, "'celltype'.*cell_type"),
        ({"test_cells": ["nobody1", "nobody2"]}, ValueError, "2 of test_cells"),
        ({"test_cells": "single"}, ValueError, "4 of test_cells"),
        ({"n_splits": 0}, ValueError, "n_splits"),
        ({"n_neighbors": 0}, ValueError, "n_neighbors"),
        ({"paired_fraction": 1.5}, ValueError, "paired_fraction is 1.5.*from 0 to 1"),
        ({"paired_fraction": [1, -0.1]}, ValueError, "-0.1"),
        ({"paired_fraction": [0.5, np.nan]}, ValueError, "nan"),
        ({"paired_fraction": []}, ValueError, "one or more"),
        ({"paired_fraction": 0.5, "correspondence": "mine"}, ValueError, "0.5.*correspondence"),
        ({"modalities": ["rna"]}, ValueError, "1 modality"),
        ({"layer": "raw"}, KeyError, "raw"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_arguments_never_get_as_far_as_training(mdata, unchanged, monkeypatch, asked, error, message):
    monkeypatch.setattr("jamie_sc.tl._evaluate.integrate", lambda *_, **__: pytest.fail("it trained"))
    if asked.get("test_cells") == "single":  # cells that one modality lacks
        asked = {"test_cells": mdata["rna"].obs_names.difference(mdata["adt"].obs_names)[:4]}
    with unchanged(mdata), pytest.raises(error, match=message):
        jsc.tl.evaluate(mdata, **asked)


def test_no_cell_measured_in_all(mdata):
    adt = mdata["adt"].copy()
    adt.obs_names = "x" + adt.obs_names
    with pytest.raises(ValueError, match=r"0 cells are measured in all of \['rna', 'adt'\]"):
        jsc.tl.evaluate(make_mudata({"rna": mdata["rna"], "adt": adt}))


# Fewer pairs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def trainings(monkeypatch):
    """The MuData that every training got, and the state of its generator."""
    from jamie_sc.tl import _evaluate

    seen = []
    real = _evaluate.integrate

    def spy(train, *, rng, **kwargs):
        seen.append((copy_of(train), rng.bit_generator.state))
        return real(train, rng=rng, **kwargs)

    monkeypatch.setattr(_evaluate, "integrate", spy)
    return seen


def pairs_of(mdata):
    return set.intersection(*(set(mod.obs_names) for mod in mdata.mod.values()))


def test_rows_for_every_split_and_fraction(mdata, fast, unchanged, trainings):
    mdata.obsp["mine"] = sp.identity(mdata.n_obs, format="csr")
    with unchanged(mdata):
        scores = jsc.tl.evaluate(mdata, labels_key="cell_type", n_splits=2, paired_fraction=[1, 0.75, 0.25], **fast)
    assert set(scores.columns) == set(COLUMNS)
    assert scores["split"].tolist() == [0] * 6 + [1] * 6
    assert scores["paired_fraction"].tolist() == [1, 1, 0.75, 0.75, 0.25, 0.25] * 2
    assert scores["source"].tolist() == ["rna", "adt"] * 6
    assert (scores["n_train"] == 39).all()
    assert (scores["n_test"] == 9).all()
    assert scores["n_pairs"].tolist() == [39, 39, 29, 29, 10, 10] * 2
    assert scores["foscttm"].between(0, 1).all()
    assert scores["lta"].between(0, 1).all()  # its labels are in mdata.obs only
    assert scores.drop(columns="split").notna().all(axis=None)
    for split in (trainings[:3], trainings[3:]):
        all_pairs, most, few = (pairs_of(train) for train, _ in split)
        assert (len(all_pairs), len(most), len(few)) == (39, 29, 10)
        assert all_pairs > most > few
        assert split[0][1] == split[1][1] == split[2][1]
        for train, _ in split[1:]:
            assert [mod.n_obs for mod in train.mod.values()] == [55, 55]
            assert not len(train.obsp)
    assert pairs_of(trainings[1][0]) != pairs_of(trainings[4][0])
    assert trainings[0][1] != trainings[3][1]


def test_held_out_cells_are_in_no_training(mdata, complete, fast, trainings):
    test = complete[::3]
    jsc.tl.evaluate(mdata, test_cells=test, paired_fraction=[0.6, 0.4], **fast)
    known = complete[~complete.isin(test)]
    for train, _ in trainings:
        assert not train.obs_names.isin(test).any()
        for name, mod in train.mod.items():
            rows = {tuple(row) for row in mod.X}
            assert not rows & {tuple(row) for row in mdata[name][test].X}
            assert rows == {tuple(row) for row in mdata[name][~mdata[name].obs_names.isin(test)].X}
        assert pairs_of(train) < set(known)


def test_a_fraction_scores_the_same_whatever_others_there_are(mdata, fast):
    several = jsc.tl.evaluate(mdata, n_splits=2, paired_fraction=[0.3, 1, 0.6], **fast).drop(columns="seconds")
    for fraction in (1, 0.6):
        alone = jsc.tl.evaluate(mdata, n_splits=2, paired_fraction=fraction, **fast).drop(columns="seconds")
        among = several[several["paired_fraction"] == fraction].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, among)
    default = jsc.tl.evaluate(mdata, n_splits=2, **fast).drop(columns="seconds")
    pd.testing.assert_frame_equal(default, several[several["paired_fraction"] == 1].reset_index(drop=True))


def test_one_generator_goes_on(mdata, complete, fast, trainings):
    rng = np.random.default_rng(0)
    for _ in range(2):
        jsc.tl.evaluate(mdata, test_cells=complete[:12], paired_fraction=0.5, rng=rng, **fast)
    (first, start), (second, later) = trainings
    assert start != later
    assert pairs_of(first) != pairs_of(second)


def test_baseline_knows_the_pairs_that_are_left(mdata, complete, fast, trainings):
    test = complete[::4]
    asked = {"source": "rna", "target": "adt", "test_cells": test, "paired_fraction": [0.5, 0.3]}
    scores = jsc.tl.evaluate(mdata, **asked, n_neighbors=12, **fast)
    assert scores["n_pairs"].tolist() == [18, 11]
    left = complete[complete.isin(pairs_of(trainings[0][0]))]
    assert scores["pearson_knn"][0] == pytest.approx(nearest(mdata, left, test, 12), abs=1e-4)
    columns = [f"{metric}_{end}" for metric in ("pearson", "auroc") for end in ("knn", "better", "pvalue")]
    assert scores.loc[0, columns].notna().all()
    assert scores.loc[1, columns].isna().all()  # 11 pairs, 12 neighbours
    assert scores.loc[1, ["pearson", "auroc", "foscttm"]].notna().all()
    fewer = jsc.tl.evaluate(mdata, **asked, n_neighbors=11, **fast)
    assert fewer.loc[1, columns].notna().all()


def test_fewer_pairs_among_three_modalities(simulate, fast, trainings):
    mdata = simulate("rna", "adt", "atac", paired_fraction=0.8)
    scores = jsc.tl.evaluate(mdata, paired_fraction=[1, 0.5], **fast)
    assert len(scores) == 12
    assert scores["n_pairs"].tolist() == [52] * 6 + [26] * 6
    hidden = trainings[1][0]
    assert len(pairs_of(hidden)) == 26
    for a, b in (("rna", "adt"), ("adt", "atac"), ("rna", "atac")):
        assert len(hidden[a].obs_names.intersection(hidden[b].obs_names)) == 26


def test_fewer_pairs_with_layers_representations_and_some_modalities(simulate, fast, trainings):
    mdata = simulate("rna", "adt", "atac", paired_fraction=1.0)
    for adata in mdata.mod.values():
        adata.layers["sq"] = adata.X**2
        adata.obsm["X_own"] = adata.X[:, :5]
    asked = {"modalities": ["rna", "atac"], "layer": "sq", "use_rep": "X_own"}
    scores = jsc.tl.evaluate(mdata, paired_fraction=0.5, **asked, **fast)
    assert scores["source"].tolist() == ["rna", "atac"]
    assert scores["n_pairs"].tolist() == [32, 32]
    assert list(trainings[0][0].mod) == ["rna", "atac"]


def test_fewer_pairs_with_a_stored_reduction(mdata, fast):
    jsc.pp.reduce(mdata)
    scores = jsc.tl.evaluate(mdata, paired_fraction=0.5, **fast)
    assert scores["foscttm"].between(0, 1).all()


@pytest.mark.skipif(not hasattr(jsc.tl, "match_cells"), reason="nothing infers the correspondence yet")
@pytest.mark.parametrize("fraction", [0, 0.03])
def test_no_pairs_or_one(mdata, fast, fraction, trainings):
    scores = jsc.tl.evaluate(mdata, labels_key="cell_type", paired_fraction=fraction, **fast)
    assert scores["n_pairs"].tolist() == [round(39 * fraction)] * 2
    assert len(pairs_of(trainings[0][0])) == round(39 * fraction)
    assert scores["foscttm"].between(0, 1).all()
    assert scores["lta"].between(0, 1).all()
    assert scores["pearson"].between(-1, 1).all()
    assert scores["pearson_knn"].isna().all()


def test_bar_counts_trainings(mdata, fast, capsys):
    jsc.tl.evaluate(mdata, n_splits=2, paired_fraction=[1, 0.5, 0.4], **(fast | {"progress": True}))
    assert "6/6" in capsys.readouterr().err


def test_scores_can_be_drawn(mdata, fast):
    scores = jsc.tl.evaluate(mdata, labels_key="cell_type", paired_fraction=[1, 0.5], **fast)
    ax = jsc.pl.alignment_scores(scores, show=False)
    assert ax.get_xlabel() == "cells that are paired"
