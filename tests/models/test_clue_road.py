"""CLUE's whole way from features to an output as standard layers, against encode and decode."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

import jamie_sc as jsc
from jamie_sc.models._blocks import Road

NAMES = ("rna", "adt", "atac")
PAIRS = [(source, target) for source in NAMES for target in NAMES]


def fitted(mdata, *, params=None, **options):
    small = {
        "max_steps": 20,
        "min_steps": 10,
        "latent_dim": 4,
        "hidden": (12, 8),
        "unit_length": False,
        "validation": 0.0,
    }
    quick = {"calibrate": False, "progress": False}
    jsc.tl.integrate(mdata, model="clue", params=small | (params or {}), **options, **quick)
    return jsc.models.from_state(mdata.uns["clue"]["model"])


@pytest.fixture(scope="module")
def data(simulate):
    """Sparse counts of cells of different depth, continuous values, zeros and ones; a batch of two keys."""
    mdata, rng = simulate(*NAMES), np.random.default_rng(0)
    rate = np.exp(mdata["rna"].X) * rng.gamma(2, 1, (mdata["rna"].n_obs, 1))
    mdata["rna"].X = sp.csr_matrix(rng.poisson(rate).astype(np.float32))
    mdata["atac"].X = (mdata["atac"].X > 0).astype(np.float32)
    for name in NAMES:
        mdata[name].obs["site"] = rng.choice(["s1", "s2"], mdata[name].n_obs, p=[0.7, 0.3])
        mdata[name].obs["donor"] = rng.choice(["a", "b", "c"], mdata[name].n_obs)
    return mdata


@pytest.fixture(
    scope="module",
    params=[("nb", True, None), ("poisson", False, "site"), ("nb", False, ["site", "donor"]), ("zinb", True, "donor")],
    ids=str,
)
def model(request, data):
    counts, shared, batch_key = request.param
    likelihood = {"rna": counts, "adt": "gaussian", "atac": "bernoulli"}
    model = fitted(data, likelihood=likelihood, batch_key=batch_key, params={"shared_layers": shared})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # else every feature's are nearly the same after a few steps
        for parameter in model.network.likelihoods.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return model


def along(road, reducer, X):
    with torch.inference_mode():
        return road(torch.from_numpy(reducer.features(X))).numpy()


def agree(got, expected):
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=5e-4 * np.abs(expected).max())


def expected_of(model, target, latent, conditions=None):
    """What the road ends in: features, the centred log-ratio of counts, or the logit of probabilities."""
    values = model.decode(target, latent, conditions=conditions).astype(float)
    likelihood = model.modality(target).likelihood
    if likelihood == "gaussian":
        return values
    if likelihood == "bernoulli":
        return np.log(values) - np.log1p(-values)
    return np.log(values) - np.log(values).mean(axis=1, keepdims=True)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_road_is_encoding_then_decoding(data, model, source, target):
    """Of cells whose batch is unknown: at the average of the categories."""
    X, reducer = data[source].X, model.modality(source).inputs
    expected = expected_of(model, target, model.encode(source, X))
    assert np.ptp(expected, axis=0).max() > 1e-3
    agree(along(model.road(source, target), reducer, X), expected)


@pytest.mark.parametrize("target", NAMES)
def test_road_to_some_features(data, model, target):
    X, reducer = data["rna"].X, model.modality("rna").inputs
    expected = expected_of(model, target, model.encode("rna", X))
    for some in (np.array([6, 0]), np.array([3])):
        agree(along(model.road("rna", target, some), reducer, X), expected[:, some])


@pytest.mark.parametrize("source", NAMES)
def test_road_without_target_is_encoding(data, model, source):
    """All sub-spaces side by side."""
    X = data[source].X
    latent = model.encode(source, X)
    assert latent.shape[1] == 3 * 4
    agree(along(model.road(source), model.modality(source).inputs, X), latent)


def test_no_library_changes_what_stands_for_counts(data, model):
    """The centred log-ratio is that of any depth."""
    latent, n = model.encode("adt", data["adt"].X), data["adt"].n_obs
    got = along(model.road("adt", "rna"), model.modality("adt").inputs, data["adt"].X)
    library = np.random.default_rng(0).uniform(1, 1e4, n).astype(np.float32)
    agree(got, expected_of(model, "rna", latent, model.conditions("rna", n, library=library)))
    np.testing.assert_allclose(got.mean(axis=1), 0, atol=1e-5)


def test_layers_are_those_of_torch(model):
    for target in NAMES:
        kinds = {type(layer) for layer in model.road("rna", target).modules()}
        assert kinds == {Road, nn.ModuleList, nn.Sequential, nn.Linear, nn.BatchNorm1d, nn.LeakyReLU}


@pytest.mark.parametrize("target", [*NAMES, None])
def test_road_is_not_for_training_and_shares_no_memory(data, model, target):
    X = data["adt"].X
    latent = model.encode("adt", X)
    expected = [model.decode(name, latent) for name in NAMES]
    road = model.road("adt", target)
    assert not any(norm.training for norm in road.modules() if isinstance(norm, nn.BatchNorm1d))
    assert not any(p.requires_grad for p in road.parameters())
    with torch.no_grad():
        for tensor in (*road.parameters(), *(b for b in road.buffers() if b.is_floating_point())):
            tensor.zero_()
    np.testing.assert_array_equal(model.encode("adt", X), latent)
    for name, values in zip(NAMES, expected, strict=True):
        np.testing.assert_array_equal(model.decode(name, latent), values)


def test_road_leaves_the_model_where_it_is(model, monkeypatch):
    """`nn.Module.cpu` and `.to` move a module in place: none of the model's own, which may be on another device."""
    own, moved = set(model.network.modules()), []
    for method in ("cpu", "to"):
        plain = getattr(nn.Module, method)
        spy = lambda self, *args, plain=plain, **kwargs: moved.append(self) or plain(self, *args, **kwargs)
        monkeypatch.setattr(nn.Module, method, spy)
    for target in NAMES:
        model.road("rna", target)
    assert not own & set(moved)


def test_road_leaves_the_random_state_alone(model):
    before = torch.get_rng_state()
    model.road("rna", "adt")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_latent_of_one_length_has_no_road_to_features(data):
    model = fitted(data, params={"unit_length": True})
    X = data["rna"].X
    for target in NAMES:
        with pytest.raises(ValueError, match=r"no standard layer does.*'unit_length': False.*or explain the latent"):
            model.road("rna", target)
    agree(along(model.road("rna"), model.modality("rna").inputs, X), model.encode("rna", X))


@pytest.mark.parametrize("shared", [True, False])
def test_road_from_features_in_other_units(data, shared):
    """Standardised and clipped, instead of in their own units; two modalities."""
    params = {"own_units": False, "clip": 1.5, "shared_layers": shared}
    model = fitted(data, modalities=["adt", "rna"], likelihood={"rna": "nb", "adt": "gaussian"}, params=params)
    assert not (model.modality("rna").inputs.scale == 1).all()
    X = data["rna"].X
    latent = model.encode("rna", X)
    for target in ("rna", "adt"):
        got = along(model.road("rna", target), model.modality("rna").inputs, X)
        agree(got, expected_of(model, target, latent))
