"""CLUE over arrays: training, and the traps of the published code, each with a test that would fall into it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from jamie_sc._core._modalities import Modality
from jamie_sc._core._pairing import correspondences
from jamie_sc.models import _clue
from jamie_sc.models._batches import Batches
from jamie_sc.models._blocks import ConditionalMLP
from jamie_sc.models._clue import BURN_IN, CLUE, Target

SMALL = {
    "hidden": (16,),
    "critic_hidden": (8,),
    "latent_dim": 3,
    "n_components": 6,
    "dropout": 0.1,
    "input_dropout": 0.0,
    "batch_size": 16,
    "max_steps": 8,
    "min_steps": 4,
    "max_lapses": None,
    "schedule": "one-cycle",
    "learning_rate": 3e-3,
    "tempering": 0.5,
    "lone": 0.5,
    "rho": 1.0,
    "shared_layers": True,
    "posterior": "product",
    "distance": "mse",
    "unit_length": False,
    "critic_noise": "annealed",
    "translation": 1.0,
    "reconstruction": 1.0,
    "kl": 0.1,
    "cross": 1.0,
    "alignment": 0.1,
    "adversary": 0.1,
    "labels": 0.1,
    "validation": 0.0,
}
ROWS = (np.arange(40), np.arange(16, 60))
"""40 cells and 44 cells, of which 24 are the same."""


def modality(name, X, rows, **options):
    obs_names, var_names = pd.Index([f"c{i}" for i in rows]), pd.Index([f"{name}{i}" for i in range(X.shape[1])])
    return Modality(name, X, obs_names, var_names, np.asarray(rows), **options)


def values_of(likelihood, states, width, rng):
    """Features that follow from the states of the cells."""
    X = states @ rng.normal(size=(states.shape[1], width)) + 0.1 * rng.normal(size=(len(states), width))
    if likelihood == "bernoulli":
        X = X > 0
    elif likelihood != "gaussian":
        X = rng.poisson(np.exp(X + 1))
    return X.astype(np.float32)


def cells(*likelihoods, rows=ROWS, widths=(12, 9, 7), form=np.asarray, **options):
    """A modality for each likelihood; their names are "a", "b" and "c"."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(max(r.max() for r in rows) + 1, 3))
    data = []
    for name, likelihood, r, width in zip("abc", likelihoods, rows, widths, strict=False):
        X = form(values_of(likelihood, states[r], width, rng))
        data.append(modality(name, X, r, likelihood=likelihood, **{key: of[name] for key, of in options.items()}))
    return data


def fitted(data, *, seed=0, F=None, **params):
    F = correspondences(data) if F is None else F
    return CLUE(**(SMALL | params)).fit(data, F, seed=seed, device="cpu", progress=False)


def objects(values):
    return np.array(list(values), dtype=object)


def spied(monkeypatch, owner, name):
    """Arguments and result of every call of a function, which does what it did."""
    calls, plain = [], getattr(owner, name)

    def spy(*args, **kwargs):
        calls.append((args, kwargs, plain(*args, **kwargs)))
        return calls[-1][2]

    monkeypatch.setattr(owner, name, spy)
    return calls


def finite(model, data):
    for terms in model.history.terms.values():
        assert np.isfinite(terms).all()
    for m in data:
        latent = model.encode(m.name, m.X, m.rep)
        assert np.isfinite(latent).all()
        assert np.isfinite(model.embed(latent)).all()
        for target in model.modalities:
            assert np.isfinite(model.decode(target.name, latent)).all()
    return True


# Training -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [ROWS, (*ROWS, np.r_[8:30, 50:70])], ids=["two", "three"])
@pytest.mark.parametrize(
    "options",
    [{}, {"shared_layers": False}, {"posterior": "average", "distance": "cosine", "unit_length": True}],
    ids=str,
)
def test_any_number_of_modalities(rows, options):
    data = cells("nb", "gaussian", "bernoulli", rows=rows)
    model, K = fitted(data, **options), len(rows)
    assert finite(model, data)
    latents = {m.name: (m.rows, model.encode(m.name, m.X)) for m in data}
    joint = model.joint(latents, 72)
    assert joint.shape == (72, 3 * K)
    for m in data:
        assert latents[m.name][1].shape == (m.n_obs, 3 * K)
        for target in data:
            assert model.decode(target.name, latents[m.name][1]).shape == (m.n_obs, len(target.var_names))
    # Equation 11: a cell in one modality keeps its latent, one in all has the mean, one in none has NaN
    np.testing.assert_allclose(joint[0], latents["a"][1][0], rtol=1e-6)
    shared = [z[np.flatnonzero(of == 20)[0]] for of, z in latents.values()]
    np.testing.assert_allclose(joint[20], np.mean(shared, axis=0), rtol=1e-5)
    assert np.isnan(joint[71]).all()


def test_learns_to_impute():
    """Better than each feature's mean, from the other modality, for cells that lacked the target in training."""
    rows = np.arange(120), np.arange(40, 120)
    data = cells("gaussian", "gaussian", rows=rows)
    unseen = modality("a", data[0].X[:40], rows[0][:40])
    everything = cells("gaussian", "gaussian", rows=(rows[0], rows[0]))  # with what the others have in "b"
    data[1] = modality("b", everything[1].X[40:], rows[1])
    model = fitted(data, max_steps=120, learning_rate=1e-2, lone=0.1, batch_size=32)
    got, truth = model.decode("b", model.encode("a", unseen.X)), everything[1].X[:40]
    r = [np.corrcoef(x, y)[0, 1] for x, y in zip(got.T, truth.T, strict=True)]
    assert np.median(r) > 0.7
    assert ((got - truth) ** 2).mean() < 0.6 * ((truth - data[1].X.mean(axis=0)) ** 2).mean()


def test_the_same_seed_gives_the_same_weights():
    data, before = cells("nb", "gaussian"), torch.get_rng_state()
    one, same, other = (fitted(data, seed=seed, validation=0.2) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)  # no global state
    weights = [m.weights() for m in (one, same, other)]
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name], err_msg=name)
    assert one.history == same.history
    assert any((array != weights[2][name]).any() for name, array in weights[0].items() if name.endswith("weight"))


def test_history_and_total():
    """The total is the sum of the terms by their weights, but for the adversary."""
    labels = {name: objects("xyz"[i % 3] for i in rows) for name, rows in zip("ab", ROWS, strict=True)}
    weights = {"reconstruction": 0.7, "kl": 0.3, "cross": 0.5, "alignment": 0.2, "labels": 0.4}
    model = fitted(cells("nb", "gaussian", labels=labels), adversary=5.0, **weights)
    terms = {name: np.array(of) for name, of in model.history.terms.items()}
    assert set(terms) == {*weights, "adversary", "total"}
    np.testing.assert_allclose(terms["total"], sum(w * terms[name] for name, w in weights.items()), rtol=1e-4)
    assert (terms["adversary"] > 0.1).all()


def test_adversary_trains_the_discriminator():
    """Which stays as it started where there is none."""
    data = cells("gaussian", "gaussian")
    start, trained = (fitted(data, adversary=weight) for weight in (0.0, 1e-9))
    assert "adversary" not in start.history.terms
    moved = {
        name: np.abs(array - start.weights()[name]).max()
        for name, array in trained.weights().items()
        if name.startswith("critic")
    }
    assert len(moved) == 4
    assert min(moved.values()) > 1e-3


def test_noise_fades_over_the_first_third(monkeypatch):
    calls = spied(monkeypatch, _clue, "loss_terms")
    fitted(cells("gaussian", "gaussian"), max_steps=30)
    noise = np.array([kwargs["noise"] for _, kwargs, _ in calls])
    np.testing.assert_allclose(noise, np.maximum(1 - np.arange(30) / (BURN_IN * 30), 0))
    assert (noise[10:] == 0).all() != (noise[:10] == 0).any()


# Trap: cells without counts, and a last batch of one cell -----------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["nb", "zinb", "poisson"])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
def test_cells_without_counts(likelihood, form):
    data = cells(likelihood, "bernoulli")
    for m in data:
        m.X[::7] = 0
        m.X[:, 3] = 0  # a feature without any as well
    data = [modality(m.name, form(m.X), m.rows, likelihood=m.likelihood) for m in data]
    model = fitted(data)
    assert finite(model, data)
    empty = np.zeros((3, 12), dtype=np.float32)
    latent = model.encode("a", form(empty))
    assert np.isfinite(latent).all()
    imputed = model.decode("a", latent, conditions=model.conditions("a", 3, library=np.zeros(3, dtype=np.float32)))
    np.testing.assert_array_equal(imputed, empty)


@pytest.mark.parametrize("n", [17, 33, 49])
@pytest.mark.parametrize("validation", [0.0, 0.06])
def test_no_batch_of_one_cell(monkeypatch, n, validation):
    """Of n = 16 k + 1 cells; batch normalisation in training refuses one."""
    calls = spied(monkeypatch, Batches, "draw")
    data = cells("gaussian", "nb", rows=(np.arange(n), np.arange(n)))
    model = fitted(data, tempering=1.0, validation=validation)
    assert finite(model, data)
    train = [batch for (self,), _, batch in calls if self is calls[0][0][0]]
    assert len(train) == 8
    assert min(len(index) for batch in train for index in batch.index) >= 2


def test_few_pairs_among_many_cells(monkeypatch):
    """10 pairs are a fiftieth of the cells: a share of the batch that rounds to none."""
    calls = spied(monkeypatch, Batches, "draw")
    data = cells("gaussian", "gaussian", rows=(np.arange(500), np.arange(10)))
    assert finite(fitted(data, tempering=1.0, lone=1.0), data)
    assert min(len(index) for *_, batch in calls for index in batch.index) >= 2


def test_cells_of_few_kinds(monkeypatch):
    """One cell has all three modalities, one the first alone: never alone in a batch."""
    shared = np.arange(1, 13)
    rows = np.r_[0, shared, 30], np.r_[0, shared], np.r_[0, 40:52]
    data = cells("gaussian", "gaussian", "nb", rows=rows)
    F = correspondences(data)
    F[1, 2] = sp.csr_matrix(F[1, 2] + sp.eye(13, 13, 0) * 0.5).minimum(1)
    calls = spied(monkeypatch, Batches, "draw")
    model = fitted(data, F=F, batch_size=4)
    assert finite(model, data)
    assert min(len(index) for *_, batch in calls for index in batch.index) >= 2


# Trap: validation without pairs; the adversary in what is monitored -------------------------------------------------


@pytest.mark.parametrize("validation", [0.05, 0.3])
def test_validation_cells_are_not_trained_on(monkeypatch, validation):
    """4 pairs among 100 cells: there are some on both sides, and no cell is on both."""
    rows = np.arange(54), np.r_[50:100]
    data = cells("gaussian", "nb", rows=rows)
    F = correspondences(data)[0, 1].toarray()
    F[range(30), range(10, 40)] = 0.5  # soft links besides, so that there is enough to train on
    F = {(0, 1): sp.csr_matrix(F)}
    calls = spied(monkeypatch, CLUE, "_batches")
    model = fitted(data, F=F, validation=validation)
    (_, train, F_train), (_, held, F_held) = [args for args, _, _ in calls]
    for k in range(2):
        assert not set(train[k].rows) & set(held[k].rows)
        assert set(train[k].rows) | set(held[k].rows) == set(rows[k])
    for part, block in ((train, F_train[0, 1]), (held, F_held[0, 1])):
        assert block.shape == (part[0].n_obs, part[1].n_obs)
        i, j = block.nonzero()
        pairs = set(part[0].rows) & set(part[1].rows)
        assert pairs
        assert {(c, c) for c in pairs} <= set(zip(part[0].rows[i], part[1].rows[j], strict=True))
    assert len(held[0].rows) == sum(np.ceil(validation * n) for n in (4, 30, 20))
    assert np.isfinite(model.history.terms["validation"]).all()
    assert "validation" not in fitted(data, F=F, validation=0.0).history.terms


def test_validation_is_without_adversary_and_noise(monkeypatch):
    calls = spied(monkeypatch, _clue, "loss_terms")
    weights = {"reconstruction": 1.0, "kl": 0.1, "cross": 1.0, "alignment": 0.1}
    model = fitted(cells("gaussian", "gaussian"), adversary=1e6, validation=0.2, max_steps=4, batch_size=100)
    checked = [terms for args, kwargs, terms in calls if not terms["total"].requires_grad]
    noise = [kwargs["noise"] for _, kwargs, terms in calls if not terms["total"].requires_grad]
    assert noise == [0.0] * len(model.history.step)
    expected = [sum(w * terms[name].item() for name, w in weights.items()) for terms in checked]
    np.testing.assert_allclose(model.history.terms["validation"], expected, rtol=1e-5)


# Trap: the library of a cell that lacks the target ------------------------------------------------------------------


def test_library_is_the_median_of_the_cells_trained_on():
    data = cells("nb", "gaussian")
    model = fitted(data)
    median = np.median(data[0].X.sum(axis=1))
    assert model.modality("a").library == pytest.approx(median)
    assert model.modality("b").library is None
    np.testing.assert_allclose(model.conditions("a", 3).library, np.full(3, median), rtol=1e-6)
    given = model.conditions("a", 3, library=np.array([7, np.nan, 0], dtype=np.float32))
    np.testing.assert_allclose(given.library, [7, median, 0], rtol=1e-6)
    assert model.conditions("b", 3).library is None
    imputed = model.decode("a", model.encode("b", data[1].X))
    np.testing.assert_allclose(imputed.sum(axis=1), median, rtol=1e-4)  # and not the cells' own totals
    assert np.ptp(data[0].X.sum(axis=1)) > 0.5 * median


@pytest.mark.parametrize("likelihood", ["nb", "poisson", "zinb"])
def test_imputed_counts_grow_with_the_library(likelihood):
    data = cells(likelihood, "gaussian")
    model = fitted(data, max_steps=20)
    latent, n = model.encode("b", data[1].X), data[1].n_obs
    library = np.random.default_rng(0).uniform(1, 1000, n).astype(np.float32)
    at = lambda sizes: model.decode("a", latent, conditions=model.conditions("a", n, library=sizes))
    np.testing.assert_allclose(at(3 * library), 3 * at(library), rtol=1e-4)
    assert (at(library) >= 0).all()
    if likelihood == "zinb":  # less what is lost to zeros
        assert (at(library).sum(axis=1) < library).all()
    else:
        np.testing.assert_allclose(at(library).sum(axis=1), library, rtol=1e-4)
    some = np.array([5, 0, 7])
    np.testing.assert_array_equal(
        model.decode("a", latent, some, model.conditions("a", n, library=library)), at(library)[:, some]
    )


def test_imputed_probabilities():
    data = cells("bernoulli", "gaussian")
    imputed = (model := fitted(data)).decode("a", model.encode("b", data[1].X))
    assert ((imputed > 0) & (imputed < 1)).all()
    assert np.ptp(imputed, axis=0).max() > 0.01


# Trap: batches that the model does not know -------------------------------------------------------------------------


def batched():
    """Two keys in "a", of whose categories "b" lacks one; site s2 adds 3 to every feature of "a"."""
    rng = np.random.default_rng(1)
    site = {"a": rng.choice(objects(["s1", "s2"]), 40), "b": rng.choice(objects(["s1", "s3"]), 44)}
    lane = {name: rng.choice(objects(["l1", "l2"]), len(of)) for name, of in site.items()}
    batches = {name: {"site": site[name], "lane": lane[name]} for name in "ab"}
    data = cells("gaussian", "gaussian", batches=batches)
    data[0].X[site["a"] == "s2"] += 3
    return data


def test_batches_are_kept_for_each_modality():
    data = batched()
    model = fitted(data)
    known = {m.name: {key: list(of) for key, of in m.batches.items()} for m in model.modalities}
    assert known == {
        "a": {"site": ["s1", "s2"], "lane": ["l1", "l2"]},
        "b": {"site": ["s1", "s3"], "lane": ["l1", "l2"]},
    }
    share = np.mean(data[0].batches["site"] == "s2")
    assert model.modality("a").batches["site"]["s2"] == pytest.approx(share)
    assert model.batch_keys == ["site", "lane"]


def test_unknown_batches_are_the_average():
    data = batched()
    model = fitted(data)
    sites = objects(["s1", "s2", "s3", "new", None])  # s3: known of "b" alone
    got = model.conditions("a", 5, {"site": sites}).batch
    average = [v for of in model.modality("a").batches.values() for v in of.values()]
    np.testing.assert_allclose(got[:2, :2], np.eye(2))
    np.testing.assert_allclose(got[2:, :2], [average[:2]] * 3, rtol=1e-6)
    np.testing.assert_allclose(got[:, 2:], [average[2:]] * 5, rtol=1e-6)
    np.testing.assert_allclose(model.conditions("a", 1).batch, [average], rtol=1e-6)
    latent = np.tile(model.encode("a", data[0].X[:1]), (5, 1))
    decoded = model.decode("a", latent, conditions=model.conditions("a", 5, {"site": sites}))
    assert np.isfinite(decoded).all()
    np.testing.assert_allclose(decoded[3], decoded[2], rtol=1e-5)
    np.testing.assert_allclose(decoded[4], model.decode("a", latent)[0], rtol=1e-5)  # no conditions: the average


def test_decoding_depends_on_the_batch_and_encoding_does_not():
    """The decoder learns what a batch adds; the encoder reads components alone."""
    data = batched()
    model = fitted(data, max_steps=200, learning_rate=1e-2)
    latent, n = model.encode("b", data[1].X), data[1].n_obs
    at = lambda name: model.decode("a", latent, conditions=model.conditions("a", n, {"site": np.full(n, name)}))
    assert (at("s2") - at("s1")).mean() == pytest.approx(3, abs=1)
    assert model.network.encoders[0][0].weight.shape[2] == model.modality("a").n_input == 6
    model = fitted([modality(m.name, m.X, m.rows) for m in data])
    assert model.conditions("a", n).batch.shape == (n, 0)
    assert model.batch_keys == []


def test_conditions_of_some_cells():
    data = batched()
    model = fitted(data)
    n, sizes = 4, np.arange(4, dtype=np.float32)
    given = model.conditions("a", n, {"site": objects(["s1", "s2", None, "s1"])})
    np.testing.assert_array_equal(given.take(np.array([2, 0])).batch, given.batch[[2, 0]])
    np.testing.assert_array_equal(given.repeat(3).batch, np.concatenate([given.batch] * 3))
    assert given.repeat(3).library is None
    counts = type(given)(given.batch, sizes)
    np.testing.assert_array_equal(counts.take(slice(1, 3)).library, [1, 2])
    np.testing.assert_array_equal(counts.repeat(2).library, [0, 1, 2, 3] * 2)


def test_every_layer_reads_the_conditions():
    """The same network with the conditions among its inputs only would not: weights of theirs are in each stage."""
    torch.manual_seed(0)
    mlp = ConditionalMLP((3, 6, 5, 4), n_conditions=2, dropout=0.4)
    x, conditions = torch.randn(1, 3, 30), torch.eye(2)[torch.arange(30) % 2].T
    mlp(x, conditions)  # moves the running statistics
    mlp.eval()
    assert [list(stage)[0].weight.shape[2] for stage in mlp.stages] == [5, 8, 7]
    with torch.inference_mode():
        whole = mlp(x, conditions)
        h = x
        for stage in mlp.stages:
            h = stage(torch.cat([h, conditions[None]], dim=1))
        torch.testing.assert_close(whole, h)
        for c in (0, 1):
            here = conditions[c] == 1
            as_layers = mlp.given(torch.eye(2)[c])
            torch.testing.assert_close(as_layers(x[0, :, here].T), whole[0, :, here].T, rtol=1e-4, atol=1e-5)
        kinds = {type(layer) for layer in as_layers}
        assert kinds == {nn.Linear, nn.BatchNorm1d, nn.LeakyReLU}
        half = mlp(x, torch.full((2, 30), 0.5))
        torch.testing.assert_close(mlp.given(torch.tensor([0.5, 0.5]))(x[0].T), half[0].T, rtol=1e-4, atol=1e-5)
    none = ConditionalMLP((3, 6, 4), n_conditions=0, dropout=0.0).eval()
    with torch.inference_mode():
        torch.testing.assert_close(none.given(torch.empty(0))(x[0].T), none(x, torch.empty(0, 30))[0].T)


# Labels -------------------------------------------------------------------------------------------------------------


def test_labels_of_some_cells():
    """Two labelled cells among 40, none in the other modality: batches without a label are no trouble."""
    labels = {"a": objects([None] * 40), "b": None}
    labels["a"][5], labels["a"][6] = "T", "B"
    data = cells("gaussian", "nb", labels=labels)
    model = fitted(data, batch_size=8, max_steps=20)
    assert model.labels == ("B", "T")
    assert finite(model, data)
    codes = np.full(40, -1)
    codes[5], codes[6] = 1, 0
    np.testing.assert_array_equal(model._codes(data[0]), codes)
    np.testing.assert_array_equal(model._codes(data[1]), np.full(44, -1))
    assert model.network.classifier.out_features == 2


def test_labels_are_learnt():
    states = {name: objects("pq"[i % 2] for i in rows) for name, rows in zip("ab", ROWS, strict=True)}
    data = cells("gaussian", "gaussian", labels=states)
    for m in data:
        m.X[m.rows % 2 == 0] += 1
    model = fitted(data, labels=1.0, max_steps=150, learning_rate=1e-2)
    entropy = model.history.terms["labels"]
    assert entropy[0] > 0.5
    assert entropy[-1] < 0.2


@pytest.mark.parametrize(
    "labels", [None, {"a": objects([None] * 40), "b": objects([None] * 44)}], ids=["none", "unknown"]
)
def test_without_labels(labels):
    model = fitted(cells("gaussian", "gaussian", **({} if labels is None else {"labels": labels})))
    assert model.labels == ()
    assert "labels" not in model.history.terms
    assert model.network.classifier is None


# Sparse matrices ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["nb", "zinb", "poisson", "bernoulli"])
def test_sparse_is_dense(likelihood):
    """The encoders read a representation, so that both train on the same numbers."""
    rng = np.random.default_rng(0)
    rep = {name: rng.normal(size=(len(rows), 4)).astype(np.float32) for name, rows in zip("ab", ROWS, strict=True)}
    models = [
        fitted(cells(likelihood, "gaussian", form=form, rep=rep, use_rep=dict.fromkeys("ab", "X_own")))
        for form in (np.asarray, sp.csr_matrix)
    ]
    dense, sparse = (m.history.terms for m in models)
    assert dense.keys() == sparse.keys()
    for name, values in dense.items():
        np.testing.assert_allclose(values, sparse[name], rtol=1e-4, atol=1e-6, err_msg=name)
    latent = models[0].encode("b", None, rep["b"])
    np.testing.assert_allclose(models[1].encode("b", None, rep["b"]), latent, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("counts", [True, False])
def test_target_of_some_cells(counts):
    X, batch = np.random.default_rng(0).poisson(1, (9, 4)).astype(np.float32), np.eye(9, dtype=np.float32)[:, :2]
    rows = torch.tensor([5, 0, 5])
    for form in (np.asarray, sp.csr_matrix):
        values = Target(form(X), batch, counts=counts, device=torch.device("cpu")).take(rows)
        np.testing.assert_array_equal(values.x, X[rows].T)
        np.testing.assert_array_equal(values.batch, batch[rows].T)
        if counts:
            np.testing.assert_array_equal(values.library, X[rows].sum(axis=1))
        else:
            assert values.library is None


@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_a_sparse_matrix_is_never_dense_as_a_whole(monkeypatch, validation):
    shapes = []
    for method in ("toarray", "todense"):
        plain = getattr(sp.csr_matrix, method)
        spy = lambda self, *args, plain=plain, **kwargs: shapes.append(self.shape) or plain(self, *args, **kwargs)
        monkeypatch.setattr(sp.csr_matrix, method, spy)
    rows = np.arange(90), np.arange(30, 110)
    data = cells("nb", "bernoulli", rows=rows, widths=(40, 30), form=sp.csr_matrix)
    model = fitted(data, n_components=5, validation=validation)
    for m in data:
        model.decode("a", model.encode(m.name, m.X))
    assert shapes
    assert max(n for n, _ in shapes) <= 2 * SMALL["batch_size"]


# What the likelihood is ---------------------------------------------------------------------------------------------


def test_likelihood_follows_from_the_values():
    data = [modality(m.name, m.X, m.rows) for m in cells("nb", "gaussian", "bernoulli", rows=(*ROWS, np.arange(30)))]
    model = fitted(data)
    assert [m.likelihood for m in model.modalities] == ["nb", "gaussian", "bernoulli"]
    assert [m.n_output for m in model.modalities] == [12, 6, 7]  # features, or components


def test_likelihood_that_does_not_suit_the_values():
    data = cells("gaussian", "gaussian")
    with pytest.raises(ValueError, match=r"Modality 'b' has likelihood 'nb' but holds .* not whole"):
        fitted([data[0], modality("b", data[1].X, data[1].rows, likelihood="nb")])
    with pytest.raises(ValueError, match="no likelihood 'normal' for modality 'a'"):
        fitted([modality("a", data[0].X, data[0].rows, likelihood="normal"), data[1]])


# Latents ------------------------------------------------------------------------------------------------------------


def test_embedding_has_one_length():
    """sqrt(K d); a latent of zeros stays where it is."""
    data = cells("gaussian", "gaussian")
    model = fitted(data)
    latent = model.encode("a", data[0].X)
    embedded = model.embed(latent)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), np.sqrt(6), rtol=1e-5)
    cosine = (embedded * latent).sum(axis=1) / np.sqrt(6) / np.linalg.norm(latent, axis=1)
    np.testing.assert_allclose(cosine, 1, rtol=1e-5)
    assert embedded.dtype == np.float32
    np.testing.assert_array_equal(model.embed(np.zeros((2, 6), dtype=np.float32)), np.zeros((2, 6)))


def test_decoding_reads_the_targets_sub_space():
    """Unless the whole latent is brought to one length."""
    data, rng = cells("gaussian", "nb"), np.random.default_rng(0)
    for unit_length in (False, True):
        model = fitted(data, unit_length=unit_length)
        latent = model.encode("a", data[0].X)
        other, own = latent.copy(), latent.copy()
        other[:, :3] += rng.normal(size=(40, 3))
        own[:, 3:] += rng.normal(size=(40, 3))
        plain = model.decode("b", latent)
        assert np.allclose(model.decode("b", other), plain, rtol=1e-5) != unit_length
        assert not np.allclose(model.decode("b", own), plain, rtol=1e-3)
        assert np.allclose(model.decode("b", 3 * latent), plain, rtol=1e-3) == unit_length


# Hyperparameters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dropuot": 0.1}, r"CLUE has no hyperparameters \['dropuot'\]\. It has .*'translation'"),
        ({"posterior": "mixture"}, r"posterior is 'mixture': choose one of \['product', 'average'\]"),
        ({"distance": "euclid"}, r"distance is 'euclid': choose one of \['mse', 'cosine'\]"),
        ({"critic_noise": "none"}, r"critic_noise is 'none': choose one of \['posterior', 'annealed'\]"),
        ({"validation": -0.1}, r"validation is -0\.1"),
        ({"validation": 1.1}, r"validation is 1\.1"),
        ({"rho": 2.0}, "rho is 2"),
        ({"dropout": 1.0}, "dropout is 1"),
        ({"latent_dim": 0}, "latent_dim is 0"),
        ({"recipe": "cake"}, r"no recipe 'cake'\. Choose one of \['default', 'paper'\]"),
    ],
)
def test_bad_hyperparameters(params, message):
    with pytest.raises(ValueError, match=message):
        CLUE(**params)


def test_validation_leaves_cells_to_train_on():
    with pytest.raises(ValueError, match="validation"):
        fitted(cells("gaussian", "gaussian"), validation=1.0)


def test_hidden_is_a_tuple_again():
    """As JSON and .h5mu give lists."""
    assert CLUE(hidden=[8, 4]).config == CLUE(hidden=(8, 4)).config
    assert CLUE(critic_hidden=[8, 4]).config == CLUE(critic_hidden=(8, 4)).config


# The paper's recipe -------------------------------------------------------------------------------------------------


def test_paper_recipe_is_that_of_the_paper():
    """Equations as they stand; what the paper leaves open is the published code's."""
    config = CLUE(recipe="paper").config
    assert (config.posterior, config.distance, config.unit_length) == ("product", "mse", False)
    assert (config.critic_noise, config.translation, config.shared_layers) == ("posterior", 0, False)
    assert (config.reconstruction, config.kl) == (1, 1)
    assert config.cross == config.alignment == config.adversary == config.labels == 0.02
    assert (config.latent_dim, config.hidden, config.critic_hidden) == (50, (256, 256), (256, 256))
    assert (config.dropout, config.input_dropout, config.clip) == (0.2, 0, None)
    assert (config.batch_size, config.validation, config.learning_rate) == (128, 0.1, 2e-3)
    assert (config.min_steps, config.max_steps, config.schedule) == (6000, 36_000, "constant")
    assert (config.rho, config.tempering, config.lone) == (1, 1, 1)


def test_paper_recipe_trains():
    data = cells("nb", "gaussian", "bernoulli", rows=(*ROWS, np.arange(20, 50)))
    model = CLUE(recipe="paper", max_steps=6, min_steps=4)
    model.fit(data, correspondences(data), device="cpu", progress=False)
    assert finite(model, data)
    assert set(model.history.terms) == {
        "reconstruction",
        "kl",
        "cross",
        "alignment",
        "adversary",
        "total",
        "validation",
    }
    encoder, decoder = model.network.encoders[0], model.network.decoders[1]
    widths = [m.weight.shape for m in encoder if hasattr(m, "weight")]
    n_in = model.modality("a").n_input
    assert widths == [(3, 256, n_in), (3, 256, 256), (3, 100, 256)]  # K encoders, to mean and variance of d = 50
    assert [stage[0].weight.shape[1:] for stage in decoder.stages] == [
        torch.Size(pair[::-1]) for pair in pairwise((50, 256, 256, model.modality("b").n_output))
    ]
    linears = [layer.weight.shape for layer in model.network.critic if isinstance(layer, nn.Linear)]
    assert linears == [(256, 150), (256, 256), (3, 256)]
    assert not [layer for layer in model.network.critic if isinstance(layer, nn.BatchNorm1d)]
