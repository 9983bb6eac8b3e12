"""The whole way from features to an output as standard layers, against encode and decode."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

import jamie_sc as jsc
from jamie_sc._compat import copy_of
from jamie_sc.models._blocks import MLP, Road, affine, one_member

QUICK = {"progress": False, "calibrate": False}


def fitted(mdata, *, recipe="default", **params):
    """A model of a few steps, whose batch normalisation has seen data."""
    jsc.tl.integrate(mdata, recipe=recipe, params={"max_steps": 20, "min_steps": 10} | params, **QUICK)
    return jsc.models.from_state(mdata.uns["jamie"]["model"])


def counted(mdata, form):
    """Counts in "rna", many of them zero, of cells of different depth."""
    rng = np.random.default_rng(0)
    rate = np.exp(mdata["rna"].X) * rng.gamma(2, 1, (mdata["rna"].n_obs, 1))
    mdata["rna"].X = form(rng.poisson(rate).astype(np.float32))
    return mdata


def along(road, reducer, X):
    with torch.inference_mode():
        return road(torch.from_numpy(reducer.features(X))).numpy()


def agree(got, expected):
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module", params=[("default", 1), ("default", 2), ("paper", 1), ("paper", 2)], ids=str)
def model(request, simulate):
    recipe, members = request.param
    small = {"n_components": 8} if recipe == "paper" else {}
    return fitted(simulate(), recipe=recipe, members=members, latent_dim=5, **small)


@pytest.mark.parametrize(("source", "target"), [("rna", "adt"), ("adt", "rna"), ("rna", "rna")])
def test_road_is_encoding_then_decoding(mdata, model, source, target):
    X = mdata[source].X
    latent = model.encode(source, X)
    reducer = model.modality(source).inputs
    agree(along(model.road(source, target), reducer, X), model.decode(target, latent))
    some = np.array([6, 0])
    agree(along(model.road(source, target, some), reducer, X), model.decode(target, latent, some))


def test_road_without_target_is_encoding(mdata, model):
    latent = model.encode("rna", mdata["rna"].X)
    assert latent.shape[1] == 5 * model.config.members
    agree(along(model.road("rna"), model.modality("rna").inputs, mdata["rna"].X), latent)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
@pytest.mark.parametrize("options", [{}, {"own_units": False}, {"clip": 1.0}], ids=str)
def test_road_from_counts(mdata, form, options):
    model = fitted(counted(mdata, form), **options)
    inputs = model.modality("rna").inputs
    assert (inputs.target_sum is None) == (options == {"own_units": False})
    assert (inputs.scale == 1).all() == (options != {"own_units": False})
    X = mdata["rna"].X
    latent = model.encode("rna", X)
    for target in ("rna", "adt"):
        agree(along(model.road("rna", target), inputs, X), model.decode(target, latent))
    agree(along(model.road("rna"), inputs, X), latent)


def test_average_cell_is_the_origin(mdata):
    """A cell with the mean of the cells trained on has the components 0."""
    model = fitted(counted(mdata, sp.csr_matrix))
    average = model.modality("rna").inputs.average
    assert (average > 0).any()
    components = model.road("rna").read(torch.from_numpy(average[None])).numpy()
    np.testing.assert_allclose(components, np.zeros((1, model.modality("rna").n_input)), atol=1e-5)


def test_axes_are_the_steps_of_the_inputs(mdata):
    model = fitted(counted(mdata, sp.csr_matrix))
    inputs, X = model.modality("rna").inputs, mdata["rna"].X
    got = (inputs.features(X) - inputs.average) @ model.axes("rna").T
    agree(got, model.inputs("rna", X))


def test_encode_is_encoding_the_inputs(mdata, model):
    X = mdata["rna"].X
    np.testing.assert_array_equal(model.encode("rna", X), model.encode_inputs("rna", model.inputs("rna", X)))


def test_layers_are_those_of_torch(model):
    kinds = {type(layer) for layer in model.road("rna", "adt").modules()}
    assert kinds == {Road, nn.ModuleList, nn.Sequential, nn.Linear, nn.BatchNorm1d, nn.LeakyReLU}


def test_road_is_not_for_training(model):
    road = model.road("rna", "adt")
    norms = [layer for layer in road.modules() if isinstance(layer, nn.BatchNorm1d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert not any(p.requires_grad for p in road.parameters())


def test_road_shares_no_memory_with_the_model(mdata, model):
    expected = model.decode("adt", model.encode("rna", mdata["rna"].X))
    road = model.road("rna", "adt")
    with torch.no_grad():
        for tensor in (*road.parameters(), *(b for b in road.buffers() if b.is_floating_point())):
            tensor.zero_()
    np.testing.assert_array_equal(model.decode("adt", model.encode("rna", mdata["rna"].X)), expected)


def test_road_leaves_the_random_state_alone(model):
    before = torch.get_rng_state()
    model.road("rna", "adt")
    assert torch.equal(torch.get_rng_state(), before)


def test_encoder_of_a_representation_has_no_road(mdata):
    mdata["rna"].obsm["X_own"] = mdata["rna"].X[:, :6].copy()
    copy = copy_of(mdata)
    jsc.tl.integrate(copy, use_rep={"rna": "X_own"}, params={"max_steps": 5}, **QUICK)
    model = jsc.models.from_state(copy.uns["jamie"]["model"])
    message = r"encoder of 'rna' reads obsm\['X_own'\].*Train a model without use_rep"
    with pytest.raises(ValueError, match=message):
        model.road("rna", "adt")
    with pytest.raises(ValueError, match=message):
        model.axes("rna")
    agree(
        along(model.road("adt", "rna"), model.modality("adt").inputs, mdata["adt"].X),
        model.decode("rna", model.encode("adt", mdata["adt"].X)),
    )


# Blocks -------------------------------------------------------------------------------------------------------------


def test_affine():
    layer = affine(np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 0.0]]), np.array([0.5, 0.0, 1.0]))
    np.testing.assert_array_equal(layer(torch.tensor([[1.0, 10.0]])).numpy(), [[21.5, -10.0, 4.0]])
    assert affine(np.eye(2), None).bias is None


def test_one_member_is_that_member():
    mlp = MLP(3, (4, 7, 6, 5), dropout=0.4)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32))
    with torch.inference_mode():
        mlp(3 * x.T.expand(3, -1, -1))  # moves the running statistics
        mlp.eval()
        whole = mlp(x.T.expand(3, -1, -1))
        for i in range(3):
            torch.testing.assert_close(one_member(mlp, i)(x), whole[i].T, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(one_member(mlp, i, slice(2))(x), whole[i, :2].T, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(one_member(mlp, i, slice(1, 4))(x), whole[i, 1:4].T, rtol=1e-4, atol=1e-5)
    assert (whole[0] - whole[1]).abs().max() > 0.1


def test_several_members_are_joined_or_averaged():
    members = [affine([[1.0]], [0.0]), affine([[3.0]], [0.0])]
    read, write, x = affine([[2.0]], [1.0]), affine([[10.0]], [5.0]), torch.tensor([[1.0]])
    np.testing.assert_array_equal(Road(read, members)(x).numpy(), [[3.0, 9.0]])
    np.testing.assert_array_equal(Road(read, members, write)(x).numpy(), [[65.0]])
