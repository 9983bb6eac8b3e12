from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import Ridge

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata

RUN = ["split", "paired_fraction", "source", "target"]
METRICS = ["pearson", "auroc", "rmse", "js_distance"]
COVERAGE = ["coverage_50", "coverage_80", "coverage_95"]
METHODS = ["jamie", "knn", "ridge"]
COLUMNS = [
    *(*RUN, "n_train", "n_pairs", "n_test", "seconds", "lta", "foscttm", "n_features", *COVERAGE),
    *(f"{metric}{end}" for metric in METRICS for end in ("", "_knn", "_ridge", "_better", "_pvalue")),
]


@pytest.fixture(scope="module")
def fast():
    return {"params": {"max_steps": 10}, "progress": False}


@pytest.fixture
def complete(mdata):
    """Cells of both modalities, in the order of the MuData."""
    both = mdata["rna"].obs_names.intersection(mdata["adt"].obs_names)
    return mdata.obs_names[mdata.obs_names.isin(both)]


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
    for metric in METRICS:
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
        ({"by": "cell"}, ValueError, r"by is 'cell'.*\['run', 'feature', 'label'\]"),
        ({"by": "label"}, ValueError, "by='label' needs labels_key"),
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


# By feature, by label ----------------------------------------------------------------------------------------------


@pytest.fixture
def run(mdata, complete, fast):
    """A training without 12 cells, the same whatever is asked of it."""

    def evaluate(**asked):
        given = {"labels_key": "cell_type", "test_cells": complete[:12], "rng": np.random.default_rng(3)} | fast | asked
        return jsc.tl.evaluate(mdata, **given)

    return evaluate


@pytest.fixture
def imputed(mdata, complete, fast):
    """adt of the 12 cells, measured and imputed by the model of `run` from rna, and of the others; the long way."""
    test = complete[:12]
    reference, query = copy_of(mdata[~mdata.obs_names.isin(test)]), copy_of(mdata[test])
    jsc.tl.integrate(reference, rng=np.random.default_rng(3), **fast)
    jsc.tl.map_query(query, reference)
    jsc.tl.impute(query, source="rna", target="adt")
    adt = query["adt"][test]
    return adt.X, adt.layers["jamie_from_rna"], reference["adt"].X


def test_a_run_is_the_mean_of_its_features(run):
    runs, features = run(), run(by="feature")
    assert list(features.columns) == [*RUN, "feature", "method", *METRICS, *COVERAGE]
    assert len(features) == 3 * (20 + 25)
    for _, row in runs.iterrows():
        of_run = features[(features["source"] == row["source"]) & (features["target"] == row["target"])]
        tables = {method: table.set_index("feature") for method, table in of_run.groupby("method")}
        assert sorted(tables) == METHODS
        for metric in METRICS:
            means = [tables[method][metric].mean() for method in METHODS]
            assert [row[metric], row[f"{metric}_knn"], row[f"{metric}_ridge"]] == pytest.approx(means)
            ours, theirs = tables["jamie"][metric], tables["knn"][metric]
            better = ours < theirs if metric in ("rmse", "js_distance") else ours > theirs
            assert row[f"{metric}_better"] == better.sum()
            test = jsc.metrics.sign_test(better, ~better)
            if not (ours == theirs).any():
                assert row[f"{metric}_pvalue"] == pytest.approx(test.pvalue)


def test_features_are_named(run, mdata):
    table = run(by="feature", source="rna")
    for _, rows in table.groupby("method"):
        assert list(rows["feature"]) == list(mdata["adt"].var_names)
    assert (table["target"] == "adt").all()


def test_scores_of_features_by_hand(run, imputed, mdata, complete):
    measured, values, train = imputed
    table = run(by="feature", source="rna")
    ours = table[table["method"] == "jamie"]
    np.testing.assert_allclose(ours["pearson"], jsc.metrics.pearson(measured, values), atol=1e-3)
    rmse = np.sqrt(((values - measured) ** 2).mean(axis=0)) / train.std(axis=0)
    np.testing.assert_allclose(ours["rmse"], rmse, rtol=1e-3)
    labels = mdata.obs["cell_type"][complete[:12]]
    within = jsc.metrics.js_distance(measured, values, labels=labels).mean(axis=1)
    np.testing.assert_allclose(ours["js_distance"], within, atol=1e-6)
    whole = run(by="feature", source="rna", labels_key=None)
    np.testing.assert_allclose(
        whole[whole["method"] == "jamie"]["js_distance"], jsc.metrics.js_distance(measured, values), atol=1e-6
    )


def test_scores_of_labels_by_hand(run, imputed, mdata, complete):
    measured, values, train = imputed
    table = run(by="label", source="rna")
    assert list(table.columns) == [*RUN, "label", "method", "n_test", "js_distance", "rmse", *COVERAGE]
    labels = mdata.obs["cell_type"][complete[:12]].astype(str)
    ours = table[table["method"] == "jamie"].set_index("label")
    assert ours["n_test"].to_dict() == labels.value_counts().to_dict()
    assert table.groupby("method")["n_test"].sum().to_dict() == dict.fromkeys(METHODS, 12)
    distances = jsc.metrics.js_distance(measured, values, labels=labels).mean()
    for label, row in ours.iterrows():
        cells = (labels == label).to_numpy()
        errors = ((values - measured) / train.std(axis=0))[cells]
        assert row["rmse"] == pytest.approx(np.sqrt((errors**2).mean(axis=0)).mean(), rel=1e-3)
        assert row["js_distance"] == pytest.approx(distances[label], abs=1e-6)
    assert table[["rmse", "js_distance"]].notna().all(axis=None)


def test_cells_without_a_label_are_in_no_distance(run, mdata, complete):
    before = run(by="label", source="rna")
    mdata.obs["cell_type"] = mdata.obs["cell_type"].astype(object)
    for adata in mdata.mod.values():
        del adata.obs["cell_type"]
    mdata.obs.loc[complete[0], "cell_type"] = None
    after = run(by="label", source="rna")
    assert set(after["label"]) <= set(before["label"])
    assert after["n_test"].sum() == before["n_test"].sum() - 3  # by each method
    assert run()["js_distance"].notna().all()
    mdata.obs.loc[complete[:12], "cell_type"] = None
    assert run()["js_distance"].isna().all()


def test_rmse_leaves_constant_features_out(run, mdata, complete):
    """Also one that varies among the cells held out only: its spread there may not count."""
    few = mdata["adt"]
    few.X[:, 0] = 0.1
    few.X[:, 1] = np.where(few.obs_names.isin(complete[:12]), few.X[:, 1], 5)
    table = run(by="feature", source="rna")
    gone = table["feature"].isin(["adt0", "adt1"])
    assert table.loc[gone, "rmse"].isna().all()
    assert np.isfinite(table.loc[~gone, "rmse"]).all()
    ours = table[table["method"] == "jamie"]["rmse"]
    assert run(source="rna")["rmse"][0] == pytest.approx(ours.mean())


@pytest.mark.parametrize("factor", [100, 1e-3])
def test_rmse_of_features_in_any_unit(run, mdata, factor):
    before = run(by="feature", source="rna").set_index(["method", "feature"])["rmse"]
    mdata["adt"].X *= np.float32(factor)
    after = run(by="feature", source="rna").set_index(["method", "feature"])["rmse"]
    for method in ("knn", "ridge"):
        np.testing.assert_allclose(after[method], before[method], rtol=1e-3)


def leave_one_out(X, Y, penalties):
    """Mean squared error of ridge regression for each penalty when each cell is left out in turn."""
    errors = np.zeros(len(penalties))
    for i in range(len(X)):
        others = np.arange(len(X)) != i
        for k, penalty in enumerate(penalties):
            predicted = Ridge(alpha=penalty).fit(X[others], Y[others]).predict(X[[i]])
            errors[k] += ((predicted - Y[i]) ** 2).mean()
    return errors / len(X)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_other_baseline_is_ridge_regression(mdata, complete, fast, form):
    """All components are kept of 25 features, so it is that of the standardised features themselves."""
    test, train = complete[::4], complete[np.arange(len(complete)) % 4 > 0]
    X, Y, X_new = (mdata[m][cells].X for m, cells in (("rna", train), ("adt", train), ("rna", test)))
    mean, sd = X.mean(axis=0), X.std(axis=0)
    clip = lambda values: np.clip(values, np.minimum(mean - 5 * sd, 0), np.maximum(mean + 5 * sd, 0))
    X, X_new = ((clip(values) - mean) / sd for values in (X, X_new))
    unit = X.var(axis=0, ddof=1).mean()
    Z = (Y - Y.mean(axis=0)) / Y.std(axis=0)
    penalties = unit * np.logspace(-1, 5, 13)
    best = penalties[np.argmin(leave_one_out(X, Z, penalties))]
    predicted = Ridge(alpha=best).fit(X, Z).predict(X_new) * Y.std(axis=0) + Y.mean(axis=0)
    expected = jsc.metrics.pearson(mdata["adt"][test].X, predicted)
    for adata in mdata.mod.values():
        adata.X = form(adata.X)
    table = jsc.tl.evaluate(mdata, source="rna", target="adt", test_cells=test, by="feature", **fast)
    np.testing.assert_allclose(table[table["method"] == "ridge"]["pearson"], expected, atol=1e-3)


def test_ridge_regression_reads_a_hundred_components_at_most(simulate, fast, monkeypatch):
    from jamie_sc.tl import _held_out

    seen = []
    real = _held_out.RidgeCV.fit
    monkeypatch.setattr(_held_out.RidgeCV, "fit", lambda self, X, y: seen.append(X.shape) or real(self, X, y))
    monkeypatch.setattr(_held_out, "MOST_COMPONENTS", 7)
    jsc.tl.evaluate(simulate(), source="rna", target="adt", **fast)
    assert seen == [(39, 7)]


def test_splits_fractions_and_directions_by_feature_and_label(mdata, fast):
    asked = {"n_splits": 2, "paired_fraction": [1, 0.5], "labels_key": "cell_type"}
    runs = jsc.tl.evaluate(mdata, **asked, **fast)
    for by, what in (("feature", "feature"), ("label", "label")):
        table = jsc.tl.evaluate(mdata, by=by, **asked, **fast)
        assert not table.duplicated([*RUN, what, "method"]).any()
        pd.testing.assert_frame_equal(table[RUN].drop_duplicates(ignore_index=True), runs[RUN])


# Nothing is made of the cells held out -------------------------------------------------------------------------------


def test_a_stored_reduction_is_made_anew(mdata, complete, fast, trainings, unchanged):
    jsc.pp.reduce(mdata, n_components=4, clip=3.0)
    jsc.pp.reduce(mdata, modalities=["adt"], n_components=3, own_units=False)
    with unchanged(mdata):
        jsc.tl.evaluate(mdata, test_cells=complete[:12], paired_fraction=[1, 0.5], **fast)
    for train, _ in trainings:
        for name, k, clip in (("rna", 4, 3.0), ("adt", 3, 5.0)):
            record = train[name].uns["pca"]
            np.testing.assert_allclose(record["mean"], train[name].X.mean(axis=0), atol=1e-5)
            assert not np.allclose(record["mean"], mdata[name].uns["pca"]["mean"], atol=1e-3)
            assert (record["params"]["n_components"], record["params"]["clip"]) == (k, clip)
            assert train[name].obsm["X_pca"].shape == (train[name].n_obs, k)


def test_an_inferred_correspondence_is_inferred_anew(mdata, complete, fast, trainings):
    jsc.tl.match_cells(mdata)
    jsc.tl.evaluate(mdata, test_cells=complete[:12], **fast)
    assert "correspondence" not in trainings[0][0].obsp
    assert "correspondence" in mdata.obsp
    jsc.tl.evaluate(mdata, test_cells=complete[:12], correspondence="correspondence", **fast)
    assert "correspondence" in trainings[1][0].obsp  # by name


# Intervals ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(simulate):
    """Enough cells to calibrate: 100 in both, of which 20 are held out, and 25 in each."""
    return simulate(n_cells=150, paired_fraction=100 / 150)


def test_coverage_is_that_of_the_intervals_that_impute_writes(many, fast):
    both = many["rna"].obs_names.intersection(many["adt"].obs_names)
    test = both[:20]
    asked = {"source": "rna", "target": "adt", "labels_key": "cell_type", "test_cells": test}
    tables = {
        by: jsc.tl.evaluate(many, by=by, rng=np.random.default_rng(3), **asked, **fast)
        for by in ("run", "feature", "label")
    }
    reference, query = copy_of(many[~many.obs_names.isin(test)]), copy_of(many[test])
    jsc.tl.integrate(reference, rng=np.random.default_rng(3), **fast)
    jsc.tl.map_query(query, reference)
    labels = many.obs["cell_type"][test].astype(str).to_numpy()
    for column, level in zip(COVERAGE, (0.5, 0.8, 0.95), strict=True):
        rng = np.random.default_rng(3)
        jsc.tl.impute(query, source="rna", target="adt", n_samples=50, interval=level, rng=rng)
        adt = query["adt"][test]
        measured, low, high = adt.X, *(adt.layers[f"jamie_from_rna_{end}"] for end in ("lower", "upper"))
        inside = (low <= measured) & (measured <= high)
        assert tables["run"][column][0] == pytest.approx(inside.mean(), abs=0.006)  # a value or two on the edge
        ours = {by: tables[by][tables[by]["method"] == "jamie"] for by in ("feature", "label")}
        np.testing.assert_allclose(ours["feature"][column], inside.mean(axis=0), atol=0.11)
        for label, value in zip(ours["label"]["label"], ours["label"][column], strict=True):
            assert value == pytest.approx(inside[labels == label].mean(), abs=0.03)
    assert tables["run"]["coverage_50"][0] < tables["run"]["coverage_80"][0] < tables["run"]["coverage_95"][0]
    for by in ("feature", "label"):
        baselines = tables[by]["method"] != "jamie"
        assert tables[by].loc[baselines, COVERAGE].isna().all(axis=None)
        assert tables[by].loc[~baselines, COVERAGE].notna().all(axis=None)


def test_nothing_is_covered_without_calibration(many, fast):
    with_and_without = [
        jsc.tl.evaluate(many, source="rna", calibrate=calibrate, **fast).drop(columns="seconds")
        for calibrate in (True, False)
    ]
    assert with_and_without[0][COVERAGE].notna().all(axis=None)
    assert with_and_without[1][COVERAGE].isna().all(axis=None)
    pd.testing.assert_frame_equal(*(scores.drop(columns=COVERAGE) for scores in with_and_without))


# Fewer pairs --------------------------------------------------------------------------------------------------------


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
    assert scores.drop(columns=["split", *COVERAGE]).notna().all(axis=None)
    assert scores[COVERAGE].isna().all(axis=None)  # 39 pairs are too few to calibrate
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
    columns = [f"{metric}_{end}" for metric in METRICS for end in ("knn", "ridge", "better", "pvalue")]
    assert scores.loc[0, columns].notna().all()
    assert scores.loc[1, columns].isna().all()  # 11 pairs, 12 neighbours
    assert scores.loc[1, ["pearson", "auroc", "foscttm"]].notna().all()
    fewer = jsc.tl.evaluate(mdata, **asked, n_neighbors=11, **fast)
    assert fewer.loc[1, columns].notna().all()
    table = jsc.tl.evaluate(mdata, **asked, n_neighbors=12, by="feature", **fast).set_index(
        ["paired_fraction", "method"]
    )
    assert len(table) == 2 * 3 * 20
    assert table.loc[0.5, METRICS].notna().all(axis=None)
    assert table.loc[[(0.3, "knn"), (0.3, "ridge")], METRICS].isna().all(axis=None)
    assert table.loc[[(0.3, "jamie")], METRICS].notna().all(axis=None)


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
    assert scores[["pearson_knn", "pearson_ridge"]].isna().all(axis=None)
    one = jsc.tl.evaluate(mdata, paired_fraction=fraction, n_neighbors=1, **fast)
    assert (one["pearson_knn"].notna() == (fraction > 0)).all()
    assert one["pearson_ridge"].isna().all()  # one pair is too few for it


def test_bar_counts_trainings(mdata, fast, capsys):
    jsc.tl.evaluate(mdata, n_splits=2, paired_fraction=[1, 0.5, 0.4], **(fast | {"progress": True}))
    assert "6/6" in capsys.readouterr().err


def test_scores_can_be_drawn(mdata, fast):
    scores = jsc.tl.evaluate(mdata, labels_key="cell_type", paired_fraction=[1, 0.5], **fast)
    ax = jsc.pl.alignment_scores(scores, show=False)
    assert ax.get_xlabel() == "cells that are paired"
