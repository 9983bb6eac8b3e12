"""Impact of features against a naive loop: replace them in X, encode, and score with `jamie_sc.metrics`."""

from __future__ import annotations

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from scipy import stats
from sklearn.neighbors import KNeighborsClassifier

import jamie_sc as jsc
from jamie_sc._compat import copy_of, make_mudata, no_pull
from jamie_sc.tl import _feature_impact, _replaced

LTA = {"labels_key": "cell_type"}
PEARSON = {"metric": "pearson"}
SETS = {"some": ["rna3", "rna4", "rna9"], "most": [f"rna{i}" for i in range(20)], "one": ["rna0"]}


def impact(mdata, **options):
    jsc.tl.feature_impact(mdata, **({"source": "rna", "progress": False} | options))
    return jsc.get.feature_impact(mdata, key=options.get("key_added"))


def model_of(mdata):
    return jsc.models.from_state(mdata.uns["jamie"]["model"])


def dense(X):
    return X.toarray() if sp.issparse(X) else np.asarray(X)


class Naive:
    """One set at a time, as one would write it down; X is what is replaced in, and `encode` how it is read."""

    def __init__(self, mdata, *, cells=None, X=None, encode=None):
        self.mdata, self.model = mdata, model_of(mdata)
        self.X = dense(mdata["rna"].X) if X is None else X
        self.encode = encode or (lambda x: self.model.encode("rna", x))
        self.mean = self.X.mean(axis=0)
        self.names = mdata["rna"].obs_names
        self.cells = cells

    def without(self, columns, other=None):
        X = self.X.copy()
        X[:, columns] = self.mean[columns] if other is None else other[:, columns]
        return self.encode(X.astype(np.float32))

    def lta(self, latent, key="cell_type"):
        at = np.arange(len(self.names)) if self.cells is None else self.names.get_indexer(self.cells)
        adt = self.mdata["adt"]
        labels = self.mdata.obs[key]
        return jsc.metrics.label_transfer_accuracy(
            self.model.embed(latent[at]),
            self.model.embed(self.model.encode("adt", adt.X)),
            labels.loc[self.names[at]],
            labels.loc[adt.obs_names],
        )

    def pearson(self, latent, features=None):
        adt = self.mdata["adt"]
        wanted = self.names if self.cells is None else pd.Index(self.cells)
        both = wanted[wanted.isin(adt.obs_names)]
        features = list(adt.var_names) if features is None else features
        imputed = pd.DataFrame(self.model.decode("adt", latent), self.names, adt.var_names).loc[both, features]
        measured = pd.DataFrame(dense(adt.X), adt.obs_names, adt.var_names).loc[both, features]
        return jsc.metrics.pearson(measured.to_numpy(), imputed.to_numpy()).mean()


def each_feature(naive, score):
    return pd.Series([score(naive.without([i])) for i in range(naive.X.shape[1])], naive.mdata["rna"].var_names)


def same(frame, expected, baseline):
    pd.testing.assert_series_equal(
        frame["score"].loc[expected.index], expected, check_names=False, check_index=True, atol=1e-5
    )
    assert frame.attrs["baseline"] == pytest.approx(baseline, abs=1e-5)
    np.testing.assert_allclose(frame["impact"], frame.attrs["baseline"] - frame["score"], atol=1e-12)


# Against the naive loop ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_every_feature(trained, form):
    trained["rna"].X = form(trained["rna"].X)
    naive = Naive(trained)
    own = naive.encode(naive.X)
    same(impact(trained, **LTA), each_feature(naive, naive.lta), naive.lta(own))
    same(impact(trained, **PEARSON), each_feature(naive, naive.pearson), naive.pearson(own))


def test_pearson_is_the_default_without_labels(trained):
    pd.testing.assert_frame_equal(impact(trained, **PEARSON), impact(trained))


@pytest.mark.parametrize("features", ["adt7", ["adt7", "adt2"]])
def test_some_features_of_the_target(trained, features):
    naive = Naive(trained)
    score = lambda latent: naive.pearson(latent, [features] if isinstance(features, str) else features)
    same(impact(trained, features=features), each_feature(naive, score), score(naive.encode(naive.X)))


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix])
def test_counts_are_replaced_after_their_logarithm(mdata, quick, form):
    """The cell's total stays as it is."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.exp(mdata["rna"].X + 0.5)).astype(np.float32)
    mdata["rna"].X = form(counts)
    jsc.tl.integrate(mdata, calibrate=False, **quick)
    model = model_of(mdata)
    inputs = model.modality("rna").inputs
    totals = counts.sum(axis=1, keepdims=True)
    logged = np.log1p(counts / totals * inputs.target_sum)

    def encode(logged):
        scaled = (np.clip(logged, *inputs.bounds) - inputs.mean) / inputs.scale
        unit = np.sqrt(inputs.variance.mean())
        return model.encode_inputs("rna", (scaled @ inputs.components.T * inputs.shrinkage / unit).astype(np.float32))

    np.testing.assert_allclose(encode(logged), model.encode("rna", counts), rtol=1e-3, atol=1e-4)
    naive = Naive(mdata, X=logged, encode=encode)
    same(impact(mdata, **LTA), each_feature(naive, naive.lta), naive.lta(encode(logged)))
    same(impact(mdata), each_feature(naive, naive.pearson), naive.pearson(encode(logged)))


def test_values_beyond_the_clip_count_as_clipped(trained):
    """Five deviations are the most that replacing a feature can undo."""
    frames = []
    for value in (100.0, 1000.0):
        trained["rna"].X[5, 3] = value
        frames.append(impact(trained, features="adt1"))
    pd.testing.assert_frame_equal(*frames)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("options", [LTA, PEARSON], ids=["lta", "pearson"])
def test_sets(trained, keep, options):
    naive = Naive(trained)
    score = naive.lta if options is LTA else naive.pearson
    numbers = {name: trained["rna"].var_names.get_indexer(names) for name, names in SETS.items()}
    if keep:
        numbers = {name: np.setdiff1d(np.arange(25), columns) for name, columns in numbers.items()}
    expected = pd.Series({name: score(naive.without(columns)) for name, columns in numbers.items()})
    frame = impact(trained, sets=SETS, keep=keep, **options)
    same(frame, expected, score(naive.encode(naive.X)))
    assert frame["n_features"].tolist() == [3, 20, 1]


def test_set_of_one_feature_is_that_feature(trained):
    single = impact(trained)
    frame = impact(trained, sets={name: [name] for name in trained["rna"].var_names}, n_random=0)
    pd.testing.assert_frame_equal(frame.loc[single.index], single, atol=1e-6)


def test_keeping_all_features_loses_nothing(trained):
    everything = {"all": list(trained["rna"].var_names)}
    frame = impact(trained, sets=everything, keep=True, n_random=0)
    assert frame["impact"].abs().max() < 1e-6


def test_without_any_feature_imputed_values_are_constant(trained):
    """Pearson's correlation is then 0, as in metrics.pearson, not the noise of rounding."""
    everything = {"all": list(trained["rna"].var_names)}
    assert impact(trained, sets=everything, n_random=0)["score"].item() == 0


def test_sets_from_a_column(trained):
    var = trained["rna"].var
    var["family"] = pd.Categorical(["b", "a", None, "c", "a"] * 5, categories=["c", "b", "a"])
    lists = {g: list(var.index[var["family"] == g]) for g in ("a", "b", "c")}
    frame = impact(trained, sets="family", n_random=0)
    assert sorted(frame.index) == ["a", "b", "c"]
    pd.testing.assert_frame_equal(frame.sort_index(), impact(trained, sets=lists, n_random=0))


@pytest.mark.parametrize("dtype", ["bool", "boolean"])
def test_boolean_column_is_one_set(trained, dtype):
    trained["rna"].var["known"] = pd.array([True, False, False, True, False] * 5, dtype=dtype)
    if dtype == "boolean":
        trained["rna"].var.loc["rna1", "known"] = pd.NA
    frame = impact(trained, sets="known", n_random=0)
    assert list(frame.index) == ["known"]
    assert frame["n_features"].item() == 10


def test_cells(trained):
    cells = list(trained["rna"].obs_names[trained["rna"].obs_names.isin(trained["adt"].obs_names)][5:35])
    naive = Naive(trained, cells=cells)
    own = naive.encode(naive.X)
    same(impact(trained, cells=cells, **LTA), each_feature(naive, naive.lta), naive.lta(own))
    assert trained.uns["jamie_impact"]["params"]["n_cells"] == 30
    same(impact(trained, cells=cells), each_feature(naive, naive.pearson), naive.pearson(own))
    pd.testing.assert_frame_equal(impact(trained, cells=cells[::-1]), impact(trained, cells=cells), atol=1e-6)


def test_cells_without_label_are_left_out(trained):
    labels = trained.obs["cell_type"].astype(object)
    cells = trained["rna"].obs_names[:40]
    trained.obs["some"] = labels.where(labels.index.isin([*cells, *trained["adt"].obs_names]))
    rows = trained.obs["some"].loc[trained["rna"].obs_names].notna()
    frame = impact(trained, labels_key="some")
    assert trained.uns["jamie_impact"]["params"]["n_cells"] == rows.sum() < 64
    naive = Naive(trained, cells=list(rows.index[rows]))
    same(frame, each_feature(naive, naive.lta), naive.lta(naive.encode(naive.X)))


def test_features_in_another_order_and_unknown_ones(trained):
    expected = impact(trained)
    rna = trained["rna"][:, ::-1].copy()
    new = rna[:, :1].copy()
    new.var_names = ["new"]
    wide = make_mudata({"rna": ad.concat([new, rna], axis=1, merge="same"), "adt": trained["adt"].copy()})
    wide.uns["jamie"] = trained.uns["jamie"]
    frame = impact(wide)
    pd.testing.assert_frame_equal(frame.loc[expected.index], expected, atol=1e-5)
    assert list(wide["rna"].var_names[wide["rna"].var["jamie_impact"].isna()]) == ["new"]


def test_three_modalities(simulate, quick):
    mdata = simulate("rna", "atac", "adt")
    jsc.tl.integrate(mdata, calibrate=False, **quick)
    with pytest.raises(ValueError, match=r"compared with 'rna'\? Give target=, one of \['atac', 'adt'\]"):
        impact(mdata)
    naive = Naive(mdata)
    same(impact(mdata, target="adt"), each_feature(naive, naive.pearson), naive.pearson(naive.encode(naive.X)))


# Backgrounds of other cells -----------------------------------------------------------------------------------------


def test_background_of_other_cells_is_repeatable(trained):
    frames = [impact(trained, background=3, rng=seed) for seed in (0, 0, 1, np.random.default_rng(0))]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    pd.testing.assert_frame_equal(frames[0], frames[3])
    assert not np.allclose(frames[0]["score"].sort_index(), frames[2]["score"].sort_index())
    assert trained.uns["jamie_impact"]["params"]["background"] == "3"
    assert len({frame.attrs["baseline"] for frame in frames}) == 1


@pytest.mark.parametrize("keep", [False, True])
def test_background_of_other_cells_is_a_permutation(trained, keep):
    """Against the loop that draws as it is documented: the mean over as many shuffles of the cells."""
    naive, rng, scores = Naive(trained), np.random.default_rng(7), []
    columns = trained["rna"].var_names.get_indexer(SETS["some"])
    columns = np.setdiff1d(np.arange(25), columns) if keep else columns
    for _ in range(300):
        other = naive.X[rng.permutation(len(naive.X))]
        scores.append(naive.pearson(naive.without(columns, other)))
    frame = impact(trained, sets={"some": SETS["some"]}, background=300, keep=keep, n_random=0)
    error = np.std(scores) / np.sqrt(300)
    assert frame["score"].item() == pytest.approx(np.mean(scores), abs=6 * error)
    assert frame["score"].item() != pytest.approx(naive.pearson(naive.without(columns)), abs=1e-6)


# p-values -----------------------------------------------------------------------------------------------------------


def test_pvalues_for_labels(trained):
    """One-tailed, paired, over cells that are told right or wrong."""
    naive, model = Naive(trained), model_of(trained)
    labels = trained.obs["cell_type"].astype(str)
    taught, truth = labels.loc[trained["adt"].obs_names], labels.loc[trained["rna"].obs_names].to_numpy()
    k = int(0.2 * 64 / labels.nunique())
    classifier = KNeighborsClassifier(k).fit(model.embed(model.encode("adt", trained["adt"].X)), taught)
    right = lambda latent: (classifier.predict(model.embed(latent)) == truth).astype(float)
    frame = impact(trained, sets=SETS, n_random=0, **LTA)
    whole = right(naive.encode(naive.X))
    for name, names in SETS.items():
        parts = right(naive.without(trained["rna"].var_names.get_indexer(names)))
        assert frame["sd"][name] == pytest.approx(stats.sem(parts))
        expected = stats.ttest_rel(whole, parts, alternative="greater").pvalue if (whole != parts).any() else 1
        assert frame["pvalue"][name] == pytest.approx(expected)


def test_pvalues_for_correlations(trained):
    """Over cells' influence on Pearson's correlation: r - (n - 1) times what leaving a cell out changes (jackknife)."""
    naive, model = Naive(trained), model_of(trained)
    both = trained["rna"].obs_names.isin(trained["adt"].obs_names)
    adt = trained["adt"].obs_names.get_indexer(trained["rna"].obs_names[both])
    y = trained["adt"].X[adt, 5].astype(float)

    def influence(latent):
        x = model.decode("adt", latent)[both, 5].astype(float)
        r = stats.pearsonr(x, y).statistic
        others = [stats.pearsonr(np.delete(x, i), np.delete(y, i)).statistic for i in range(len(x))]
        return r + (len(x) - 1) * (r - np.array(others))

    whole = influence(naive.encode(naive.X))
    frame = impact(trained, features="adt5")
    for i in (0, 7, 19):
        parts, row = influence(naive.without([i])), frame.loc[f"rna{i}"]
        assert row["sd"] == pytest.approx(stats.sem(parts), rel=0.1)
        expected = stats.ttest_rel(whole, parts, alternative="greater")
        lost = whole - parts
        t = (frame.attrs["baseline"] - row["score"]) / stats.sem(lost)
        assert row["pvalue"] == pytest.approx(stats.t.sf(t, len(lost) - 1), abs=0.05)
        assert row["pvalue"] == pytest.approx(expected.pvalue, abs=0.1)


def test_cells_that_all_lose_the_same(trained):
    """Nothing varies, so nothing is tested: 0 if all of them lose, 1 if none does."""
    model = model_of(trained)
    model_latent = model.embed(model.encode("rna", trained["rna"].X))
    taught = model.embed(model.encode("adt", trained["adt"].X))
    labels = trained.obs["cell_type"].astype(str)
    own = labels.loc[trained["rna"].obs_names].to_numpy()
    known = labels.loc[trained["adt"].obs_names].to_numpy()
    sets = {"all": list(trained["rna"].var_names)}
    seen = set()
    for label in np.unique(own):
        at = own == label
        k = max(1, int(0.2 * min(at.sum(), len(known)) / 3))
        told = KNeighborsClassifier(k).fit(taught, known).predict(model_latent[at])
        cells = list(trained["rna"].obs_names[at][told == label])
        frame = impact(trained, cells=cells, sets=sets, n_random=0, **LTA)
        lost = frame["impact"].item()
        if frame.attrs["baseline"] == 1:
            seen.add(lost)
            assert lost in (0, 1)
            assert frame["pvalue"].item() == (0 if lost else 1)
    assert 1 in seen


def test_feature_that_changes_nothing(mdata, quick):
    mdata["rna"].X[:, 4] = 2.5
    jsc.tl.integrate(mdata, calibrate=False, **quick)
    frame = impact(mdata, **LTA)
    assert frame.loc["rna4", "impact"] == 0
    assert frame.loc["rna4", "pvalue"] == 1


# Genomic windows ----------------------------------------------------------------------------------------------------


@pytest.fixture
def placed(trained):
    """Features of "rna" every 5,000 base pairs of chr1, the last five on chr2; those of "adt" on chr1."""
    for name, step in (("rna", 5_000), ("adt", 10_000)):
        var = trained[name].var
        var["chrom"] = "chr1"
        var["start"] = np.arange(len(var)) * step
        var["end"] = var["start"] + 1_000
    trained["rna"].var.loc[trained["rna"].var_names[20:], "chrom"] = "chr2"
    return trained


def test_near(placed):
    """adt4 lies at 40,000 to 41,000: rna6 (30,000 to 31,000) to rna10 (50,000 on) are within 10 kb."""
    frame = impact(placed, near="adt4", windows=(10_000, 20_000))
    assert list(frame.index) == ["within 10 kb", "within 20 kb", "same chromosome", "genome-wide"]
    near = [f"rna{i}" for i in range(6, 11)]
    assert frame["n_features"].tolist() == [5, 9, 20, 25]
    params = placed.uns["jamie_impact"]["params"]
    assert (params["near"], params["metric"]) == ("adt4", "pearson")
    assert frame["score"]["genome-wide"] == 0
    by_hand = impact(placed, sets={"within 10 kb": near}, features="adt4")
    pd.testing.assert_frame_equal(frame.iloc[:1, :5], by_hand.iloc[:, :5], atol=1e-6)


def test_near_with_other_features_or_labels(placed):
    """What is measured may be something else than the gene that the windows lie around."""
    sets = {"within 10 kb": [f"rna{i}" for i in range(6, 11)]}
    for options in ({"features": "adt1"}, LTA):
        frame = impact(placed, near="adt4", windows=[10_000], **options)
        by_hand = impact(placed, sets=sets, **options)
        pd.testing.assert_frame_equal(frame.iloc[:1, :5], by_hand.iloc[:, :5], atol=1e-6)


def test_random_sets(placed):
    """As large as each set; the whole genome is always itself."""
    frame = impact(placed, near="adt4", n_random=30)
    assert frame["random_score"]["genome-wide"] == 0
    assert frame["random_sd"]["genome-wide"] == 0
    assert (frame["random_sd"].iloc[:3] > 0).all()
    naive, rng = Naive(placed), np.random.default_rng(5)
    score = lambda columns: naive.pearson(naive.without(columns), ["adt4"])
    by_hand = [score(rng.permutation(25)[:5]) for _ in range(200)]
    error = np.std(by_hand) * np.sqrt(1 / 30 + 1 / 200)
    row = frame.loc["within 10 kb"]
    assert row["random_score"] == pytest.approx(np.mean(by_hand), abs=5 * error)
    assert 0.4 < row["random_sd"] / np.std(by_hand) < 2
    repeated = impact(placed, near="adt4", n_random=30)
    pd.testing.assert_frame_equal(repeated, frame)
    other = impact(placed, near="adt4", n_random=30, rng=1)
    pd.testing.assert_frame_equal(other.iloc[:, :5], frame.iloc[:, :5])
    assert other["random_score"].iloc[0] != frame["random_score"].iloc[0]


def test_empty_window(placed, unchanged):
    placed["adt"].var.loc["adt4", ["start", "end"]] = [900_000, 900_100]
    with unchanged(placed), pytest.raises(ValueError, match="no features in 'within 10 kb', 'within 100 kb'.*"):
        impact(placed, near="adt4")


# In batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [LTA, PEARSON, {"sets": SETS, "background": 2}], ids=["lta", "pearson", "sets"])
def test_batches_change_nothing(trained, monkeypatch, options):
    expected = impact(trained, **options)
    for values, block in ((1, 512), (10_000, 3), (2**30, 1)):
        monkeypatch.setattr(_feature_impact, "BATCH_VALUES", values)
        monkeypatch.setattr(_replaced, "FEATURE_BLOCK", block)
        frame = impact(trained, **options)
        pd.testing.assert_frame_equal(frame.loc[expected.index], expected, rtol=1e-3, atol=1e-5)


def test_several_sets_are_encoded_at_once(trained, monkeypatch):
    calls = []
    real = jsc.models.JAMIE.encode_inputs
    monkeypatch.setattr(jsc.models.JAMIE, "encode_inputs", lambda *args: calls.append(len(args[-1])) or real(*args))
    impact(trained)
    assert max(calls) == 25 * 48
    assert len(calls) < 5


# Where the values lie -----------------------------------------------------------------------------------------------


def test_slots_of_single_features(trained, contents):
    before = contents(copy_of(trained))
    assert jsc.tl.feature_impact(trained, source="rna", progress=False, **LTA) is None
    after = contents(trained)
    record = after[""]["uns"].pop("jamie_impact")
    written = {name: after["rna"]["var"].pop(name) for name in ("jamie_impact", "jamie_impact_pvalue")}
    np.testing.assert_equal(after, before)
    np.testing.assert_allclose(written["jamie_impact"], record["baseline"] - record["table"]["score"])
    np.testing.assert_allclose(written["jamie_impact_pvalue"], record["table"]["pvalue"])
    assert list(record["table"]["name"]) == list(trained["rna"].var_names)
    expected = {"integration": "jamie", "source": "rna", "target": "adt", "metric": "lta", "labels_key": "cell_type"}
    assert expected.items() <= record["params"].items()


def test_sets_leave_var_alone(trained, contents):
    before = contents(copy_of(trained))
    impact(trained, sets=SETS)
    after = contents(trained)
    after[""]["uns"].pop("jamie_impact")
    np.testing.assert_equal(after, before)


def test_copy(trained, unchanged):
    with unchanged(trained):
        made = jsc.tl.feature_impact(trained, source="rna", progress=False, copy=True)
    pd.testing.assert_frame_equal(jsc.get.feature_impact(made), impact(trained))


def test_view(trained):
    part = trained[trained["rna"].obs_names[:30]]
    impact(part, **LTA)
    assert "jamie_impact" in part["rna"].var
    assert "jamie_impact" not in trained["rna"].var
    assert "jamie_impact" not in trained.uns


def test_key(trained, quick):
    jsc.tl.integrate(trained, rng=1, key_added="second", calibrate=False, **quick)
    with pytest.raises(KeyError, match=r"\['jamie', 'second'\]"):
        impact(trained)
    jsc.tl.feature_impact(trained, source="rna", key="second", progress=False)
    second = jsc.get.feature_impact(trained, key="second_impact")
    assert not np.allclose(second["score"], impact(trained, key="jamie", key_added="mine")["score"])
    assert {"second_impact", "second_impact_pvalue", "mine", "mine_pvalue"} <= set(trained["rna"].var)


def test_file_round_trip(trained, tmp_path):
    frame = impact(trained)
    with no_pull():
        trained.write(tmp_path / "a.h5mu")
        read = md.read_h5mu(tmp_path / "a.h5mu")
    pd.testing.assert_series_equal(read["rna"].var["jamie_impact"], trained["rna"].var["jamie_impact"])
    pd.testing.assert_frame_equal(impact(read, key_added="again"), frame)


def test_mapped_query(trained, mdata):
    query = make_mudata({name: data[:50].copy() for name, data in mdata.mod.items()})
    query.obs["cell_type"] = mdata.obs["cell_type"].loc[query.obs_names]
    jsc.tl.map_query(query, trained)
    naive = Naive(query)
    naive.mean = trained["rna"].X.mean(axis=0)  # of the cells trained on
    same(impact(query, **LTA), each_feature(naive, naive.lta), naive.lta(naive.encode(naive.X)))


def test_nothing_else_is_touched(trained, capfd):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    impact(trained, sets=SETS, background=2)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert capfd.readouterr() == ("", "")


# A planted signal ---------------------------------------------------------------------------------------------------


def test_features_that_carry_the_latent_lead(simulate):
    """Few features measure the cells' state, the others are noise."""
    mdata = simulate(n_cells=300, paired_fraction=1.0)
    rng = np.random.default_rng(0)
    mdata["rna"].X[:, 5:] = rng.standard_normal((mdata["rna"].n_obs, 20))
    jsc.tl.integrate(mdata, params={"max_steps": 200}, progress=False, calibrate=False)
    frame = impact(mdata)
    assert set(frame.index[:4]) <= {f"rna{i}" for i in range(5)}
    assert frame["impact"].iloc[:5].sum() > 3 * frame["impact"].iloc[5:].clip(lower=0).sum() / 4
    assert (frame["pvalue"].iloc[:4] < 0.01).all()
    signal = {"signal": [f"rna{i}" for i in range(5)]}
    for options in (LTA, PEARSON):
        of_set = impact(mdata, sets=signal, **options)
        assert of_set["score"].item() < of_set["random_score"].item() - 2 * of_set["random_sd"].item()
        assert of_set["impact"].item() > 3 * abs(impact(mdata, sets=signal, keep=True, **options)["impact"].item())


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"source": "protein"}, KeyError, "no modality 'protein'"),
        ({"target": "protein"}, KeyError, "no modality 'protein'"),
        ({"metric": "auroc"}, ValueError, "metric is 'lta' or 'pearson', not 'auroc'"),
        ({"metric": "lta"}, ValueError, "give labels_key="),
        ({"labels_key": "nonsense"}, KeyError, "no obs column 'nonsense'"),
        ({"features": ["x"]}, KeyError, "no such feature of 'adt': 'x'"),
        ({"features": []}, (KeyError, ValueError), "features"),
        ({"sets": {"a": ["rna1", "x"]}}, KeyError, "no such feature of 'rna', in set 'a': 'x'"),
        ({"sets": {"a": ["rna1"], "b": []}}, ValueError, "no features in 'b'"),
        ({"sets": {}}, ValueError, "no features in sets"),
        ({"sets": "nonsense"}, KeyError, r"mdata\['rna'\].var has no column 'nonsense'"),
        ({"sets": {"a": ["rna1"]}, "near": "adt0"}, ValueError, "sets= or near=, not both"),
        ({"sets": {"a": ["rna1"]}, "n_random": -1}, ValueError, "n_random"),
        ({"near": "adt0"}, KeyError, "has no 'chrom'"),
        ({"keep": True}, ValueError, "give sets= or near="),
        ({"background": 0}, ValueError, "background is 'mean' or a number of cells above 0, not 0"),
        ({"background": "median"}, ValueError, "not 'median'"),
        ({"cells": ["x", "y"]}, KeyError, "2 of the cells given .*'x', 'y'"),
        ({"cells": []}, ValueError, "cell"),
        ({"cells": [], "labels_key": "cell_type"}, ValueError, "cell"),
        ({"labels_key": "unknown"}, ValueError, r"no label of obs\['unknown'\]"),
        ({"labels_key": "apart"}, ValueError, r"no label of obs\['apart'\] in common"),
        ({"labels_key": "cell_type", "features": "adt1"}, ValueError, "features"),
        ({"labels_key": "cell_type", "metric": "pearson"}, ValueError, "labels_key"),
        ({"key_added": "jamie"}, ValueError, "jamie"),
        ({"key": "x"}, KeyError, "no integration 'x'"),
    ],
)
def test_errors(trained, unchanged, options, error, message):
    for name, data in trained.mod.items():
        data.obs["unknown"] = "a" if name == "rna" else np.nan
        data.obs["apart"] = name
    with unchanged(trained), pytest.raises(error, match=message):
        impact(trained, **options)


def test_untrained(mdata):
    with pytest.raises(KeyError, match="no trained model"):
        impact(mdata)


def test_target_that_was_not_measured(trained):
    query = make_mudata({"rna": trained["rna"].copy()})
    query.uns["jamie"] = trained.uns["jamie"]
    with pytest.raises(KeyError, match="no modality 'adt'"):
        impact(query)


def test_too_few_cells_in_both(trained):
    both = trained["rna"].obs_names.intersection(trained["adt"].obs_names)
    with pytest.raises(ValueError, match="2 cells are measured in both 'rna' and 'adt'"):
        impact(trained, cells=list(both[:2]))


def test_encoder_of_a_representation(mdata, unchanged):
    mdata["rna"].obsm["X_own"] = mdata["rna"].X[:, :6].copy()
    jsc.tl.integrate(mdata, use_rep={"rna": "X_own"}, params={"max_steps": 5}, progress=False, calibrate=False)
    with unchanged(mdata), pytest.raises(ValueError, match=r"reads obsm\['X_own'\]"):
        impact(mdata)
    impact(mdata, source="adt")
