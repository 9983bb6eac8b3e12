"""Deep SHAP against closed forms, all coalitions, and shap's own permutations."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest
import torch
from torch import nn

import jamie_sc as jsc
from jamie_sc.models._blocks import affine
from jamie_sc.models._shapley import shapley_values


def network(seed, n_in=6, n_hidden=8, n_out=2):
    """Two layers with a leaky ReLU between."""
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((n_hidden, n_in)), rng.standard_normal((n_out, n_hidden))
    return nn.Sequential(
        affine(first, rng.standard_normal(n_hidden)), nn.LeakyReLU(), affine(second, rng.standard_normal(n_out))
    ).eval()


def outputs(net, X):
    with torch.inference_mode():
        return net(torch.from_numpy(X)).numpy()


def exact(net, x, z):
    """Shapley's formula: every coalition of features has the cell's values, the others the background's."""
    p = len(x)
    members = (np.arange(2**p)[:, None] >> np.arange(p)) & 1 == 1
    worth = outputs(net, np.where(members, x, z)).astype(float)
    size = members.sum(axis=1)
    joins = np.array([factorial(s) * factorial(p - s - 1) if s < p else 0 for s in size]) / factorial(p)
    values = []
    for i in range(p):
        without = np.flatnonzero(~members[:, i])
        values.append((joins[without, None] * (worth[without + 2**i] - worth[without])).sum(axis=0))
    return np.array(values)


@pytest.fixture
def cells():
    return np.random.default_rng(1).standard_normal((23, 6)).astype(np.float32)


def test_linear_road(cells):
    """weight (x - mean background), whatever the background; more cells than are explained at a time."""
    rng = np.random.default_rng(0)
    W, b = rng.standard_normal((3, 6)).astype(np.float32), rng.standard_normal(3).astype(np.float32)
    background = rng.standard_normal((7, 6)).astype(np.float32)
    values, base = shapley_values(affine(W, b), cells, background, progress=False)
    assert values.dtype == base.dtype == np.float32
    mean = background.mean(axis=0)
    np.testing.assert_allclose(values, (cells - mean)[:, :, None] * W.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(base, W @ mean + b, rtol=1e-5)


def test_values_add_up(cells):
    net = network(0)
    background = cells[::-1][:5] + 1
    values, base = shapley_values(net, cells, background, progress=False)
    np.testing.assert_allclose(values.sum(axis=1) + base, outputs(net, cells), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(base, outputs(net, background).mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_close_to_shapley_values(cells, seed):
    """Deep SHAP is an approximation: a quarter of the mean absolute value off, in a network with two layers."""
    net, z = network(seed), np.zeros(6, dtype=np.float32)
    values, _ = shapley_values(net, cells, z[None], progress=False)
    truth = np.stack([exact(net, x, z) for x in cells])
    np.testing.assert_allclose(truth.sum(axis=1), outputs(net, cells) - outputs(net, z[None]), atol=1e-3)
    assert np.corrcoef(values.ravel(), truth.ravel())[0, 1] > 0.93
    assert np.abs(values - truth).mean() < 0.4 * np.abs(truth).mean()


def test_one_feature_has_it_all():
    net = network(0, n_in=1)
    x, z = np.float32([[2.0], [-1.0]]), np.float32([[0.5]])
    values, base = shapley_values(net, x, z, progress=False)
    np.testing.assert_allclose(values[:, 0], outputs(net, x) - outputs(net, z), rtol=1e-4)
    np.testing.assert_allclose(base, outputs(net, z)[0], rtol=1e-5)


def test_background_of_several_cells_is_the_mean_over_each(cells):
    net, background = network(2), cells[:4] * 2
    together, base = shapley_values(net, cells, background, progress=False)
    alone = [shapley_values(net, cells, z[None], progress=False) for z in background]
    np.testing.assert_allclose(together, np.mean([v for v, _ in alone], axis=0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(base, np.mean([b for _, b in alone], axis=0), rtol=1e-4)


def test_cells_are_explained_one_by_one(cells):
    """Neither the order nor the company of the cells matters; outputs keep their order."""
    net, z = network(1), np.zeros((1, 6), dtype=np.float32)
    values, base = shapley_values(net, cells, z, progress=False)
    back, _ = shapley_values(net, cells[::-1].copy(), z, progress=False)
    np.testing.assert_allclose(back[::-1], values, rtol=1e-4, atol=1e-5)
    for output in range(2):
        head = np.eye(2)[[output]], np.zeros(1)
        alone, alone_base = shapley_values(net, cells[:1], z, head=head, progress=False)
        assert alone.shape == (1, 6, 1)
        np.testing.assert_allclose(alone[0, :, 0], values[0, :, output], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(alone_base, base[[output]], rtol=1e-5)


def test_head(cells):
    """A linear layer after the road makes sums of the values of its outputs, and adds its bias to the base."""
    net, background = network(3), cells[:3] + 0.5
    W, b = np.array([[1.0, -2.0], [0.5, 0.0], [0.0, 3.0]]), np.array([1.0, 0.0, -4.0])
    plain, base = shapley_values(net, cells, background, progress=False)
    values, headed_base = shapley_values(net, cells, background, head=(W, b), progress=False)
    np.testing.assert_allclose(values, plain @ W.T, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(headed_base, W @ base + b, rtol=1e-4, atol=1e-5)


def test_cell_like_the_background(cells):
    """Nothing differs, so nothing is shared out; one cell is enough."""
    net = network(0)
    values, base = shapley_values(net, cells[:1], cells[:1], progress=False)
    np.testing.assert_array_equal(values, 0)
    np.testing.assert_allclose(base, outputs(net, cells[:1])[0], rtol=1e-5)


def test_single_cells_add_up():
    """A single cell has no spread over cells: rounding must not be taken for an error."""
    net = network(4, n_in=200, n_hidden=50, n_out=20)
    X = np.random.default_rng(0).standard_normal((40, 200)).astype(np.float32)
    for x in X:
        shapley_values(net, x[None], np.zeros_like(x)[None], progress=False)


def test_values_that_do_not_add_up_are_an_error(cells):
    """A road with a step that Deep SHAP does not know, and that is not linear."""

    class Squared(nn.Sequential):
        def forward(self, x):
            return super().forward(x) ** 2

    with pytest.raises(FloatingPointError, match=r"SHAP values of output 0 do not add up: they are off by"):
        shapley_values(Squared(affine(np.ones((1, 6)), [3.0])), cells, np.zeros((1, 6), np.float32), progress=False)


def test_not_a_number_is_an_error(cells):
    cells[3, 2] = np.nan
    with pytest.raises(FloatingPointError, match="do not add up"):
        shapley_values(network(0), cells, np.zeros((1, 6), dtype=np.float32), progress=False)


def test_progress_is_silent(cells, capfd):
    shapley_values(network(0), cells, cells[:1], progress=False)
    assert capfd.readouterr() == ("", "")
    shapley_values(network(0), cells, cells[:1], progress=True)
    assert "SHAP values" in capfd.readouterr().err


def test_agrees_with_permutations(trained):
    """On a trained model, against shap's sampling of permutations, which knows no layers."""
    import shap

    model = jsc.models.from_state(trained.uns["jamie"]["model"])
    reducer = model.modality("rna").inputs
    X = reducer.features(trained["rna"].X[:8])
    road, z = model.road("rna", "adt", np.array([3])), reducer.average[None]
    values, base = shapley_values(road, X, z, progress=False)
    sampled = shap.PermutationExplainer(lambda x: outputs(road, x.astype(np.float32))[:, 0], z, seed=0)(
        X, max_evals=20 * 51, silent=True
    )
    assert np.corrcoef(values[:, :, 0].ravel(), sampled.values.ravel())[0, 1] > 0.8
    np.testing.assert_allclose(base[0], sampled.base_values, rtol=1e-3, atol=1e-4)
