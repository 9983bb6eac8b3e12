from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata

COLUMNS = [
    *("split", "source", "target", "n_train", "n_test", "lta", "foscttm"),
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
    assert list(zip(scores["source"], scores["target"], strict=True)) == [("rna", "adt"), ("adt", "rna")]
    assert scores["n_test"].tolist() == [9, 9]
    assert scores["n_train"].tolist() == [39, 39]
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
