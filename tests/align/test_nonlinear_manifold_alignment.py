from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.linalg import eigh
from scipy.spatial.distance import cdist

from jamie_sc.align import nonlinear_manifold_alignment
from jamie_sc.metrics import foscttm


@pytest.fixture(scope="module")
def data():
    """A curve, bent in two ways."""
    rng = np.random.default_rng(0)
    t = rng.uniform(0, 1, size=(80, 1))
    X = np.hstack([np.cos(3 * t), np.sin(3 * t), t])
    Y = np.hstack([t**2, np.exp(t)])
    return tuple(values + 0.01 * rng.normal(size=values.shape) for values in (X, Y))


def laplacian(X, Y, F, k, mu, metric="euclidean"):
    """L and D of the joint graph, cell by cell."""
    blocks = []
    for values in (X, Y):
        W = np.zeros((len(values), len(values)))
        for i, distances in enumerate(cdist(values, values, metric)):
            for j in [j for j in np.argsort(distances) if j != i][:k]:
                W[i, j] = W[j, i] = mu / k
        blocks.append(W)
    W = np.block([[blocks[0], F], [F.T, blocks[1]]])
    D = np.diag(W.sum(axis=1))
    return D - W, D


@pytest.mark.parametrize(
    ("k", "mu", "metric"), [(5, 0.1, "euclidean"), (10, 1.0, "cosine"), (3, 2.0, "correlation"), (5, 1.0, "manhattan")]
)
def test_equation(data, k, mu, metric):
    X, Y = np.c_[data[0], data[0] ** 2], np.c_[data[1], data[1] ** 3]
    rng = np.random.default_rng(1)
    F = np.zeros((80, 80))
    F[rng.permutation(80)[:50], rng.permutation(80)[:50]] = rng.uniform(0.5, 1, 50)
    L, D = laplacian(X, Y, F, k, mu, "cityblock" if metric == "manhattan" else metric)
    latents = nonlinear_manifold_alignment(
        X, Y, n_components=4, pairs=sparse.csr_array(F), n_neighbors=k, mu=mu, metric=metric
    )
    v = np.vstack(latents).astype(float)
    expected = eigh(L, D, eigvals_only=True)
    assert expected[0] == pytest.approx(0, abs=1e-10)
    scale = np.trace(D)
    np.testing.assert_allclose(v.T @ D @ v, scale * np.eye(4), atol=1e-5 * scale)
    np.testing.assert_allclose(np.diag(v.T @ L @ v) / scale, expected[1:5], atol=1e-6)
    np.testing.assert_allclose(L @ v, D @ v * expected[1:5], atol=1e-4 * np.abs(L).max())
    np.testing.assert_allclose(np.ones(160) @ D @ v, 0, atol=1e-5 * scale)  # the trivial solution is left out


def test_a_graph_in_two_parts():
    """Two solutions have eigenvalue 0: the constant is left out, and what tells the parts apart comes first."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(40, 3)) + np.repeat([0, 100], 20)[:, None]
    Z_x, Z_y = nonlinear_manifold_alignment(X, X[:, ::-1], n_components=2, n_neighbors=5)
    first = np.r_[Z_x[:, 0], Z_y[:, 0]].reshape(4, 20)
    np.testing.assert_allclose(first.std(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(first[0], first[2], atol=1e-5)
    assert abs(first[0, 0] - first[1, 0]) > 1


def test_curve_is_found_from_a_few_pairs(data):
    rows = np.arange(0, 80, 8)
    Z_x, Z_y = nonlinear_manifold_alignment(*data, n_components=2, n_neighbors=5, pairs=np.column_stack([rows, rows]))
    others = np.setdiff1d(np.arange(80), rows)
    assert foscttm(Z_x[others], Z_y[others]) < 0.1


def test_duplicated_cells():
    X = np.repeat(np.random.default_rng(3).integers(0, 2, size=(20, 8)), 3, axis=0)
    latents = nonlinear_manifold_alignment(X, X, n_components=3, n_neighbors=4)
    assert all(np.isfinite(latent).all() for latent in latents)


def test_seed_of_the_solver_decides_nothing(data):
    first, second = (nonlinear_manifold_alignment(*data, n_components=3, n_neighbors=5, rng=rng) for rng in (0, 1))
    for latent, other in zip(first, second, strict=True):
        np.testing.assert_allclose(latent, other, atol=1e-4)


def test_as_many_as_there_are(data):
    X, Y = (values[:6] for values in data)
    assert nonlinear_manifold_alignment(X, Y, n_components=10, n_neighbors=2)[0].shape == (6, 10)
    with pytest.raises(ValueError, match="n_components is 11, .* 10: X and Y together have 12 cells"):
        nonlinear_manifold_alignment(X, Y, n_components=11, n_neighbors=2)
