from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import block_diag, eigh
from scipy.spatial.distance import cdist

from jamie_sc.align import linear_manifold_alignment
from jamie_sc.metrics import foscttm


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(50, 3))
    return tuple(latent @ rng.normal(size=(3, p)) + 0.3 * rng.normal(size=(50, p)) for p in (6, 4))


def affinities(X, Y, F, k, mu):
    """The joint graph, cell by cell."""
    blocks = []
    for values in (X, Y):
        W = np.zeros((len(values), len(values)))
        for i, distances in enumerate(cdist(values, values)):
            for j in [j for j in np.argsort(distances) if j != i][:k]:
                W[i, j] = W[j, i] = mu / k
        blocks.append(W)
    return np.block([[blocks[0], F], [F.T, blocks[1]]])


def features(X, Y):
    return block_diag(X - X.mean(axis=0), Y - Y.mean(axis=0))


def maps(Z, latents):
    """The linear maps that gave the latents."""
    v, residual, *_ = np.linalg.lstsq(Z, np.vstack(latents).astype(float), rcond=None)
    np.testing.assert_allclose(Z @ v, np.vstack(latents), atol=1e-5)
    return v


@pytest.mark.parametrize(("k", "mu", "r"), [(5, 0.1, 0.01), (10, 1.0, 0.0), (3, 2.0, 1.0)])
def test_equation(data, k, mu, r):
    X, Y = data
    rng = np.random.default_rng(1)
    pairs = np.unique(np.column_stack([rng.permutation(50)[:30], rng.permutation(50)[:30]]), axis=0)
    F = np.zeros((50, 50))
    F[tuple(pairs.T)] = 1
    W = affinities(X, Y, F, k, mu)
    Z, D = features(X, Y), np.diag(W.sum(axis=1))
    A, B = Z.T @ (D - W) @ Z, Z.T @ D @ Z
    B += r * np.diag([np.trace(B[:6, :6]) / 6] * 6 + [np.trace(B[6:, 6:]) / 4] * 4)
    latents = linear_manifold_alignment(X, Y, n_components=4, pairs=pairs, n_neighbors=k, mu=mu, regularization=r)
    v = maps(Z, latents)
    values = np.diag(v.T @ A @ v)
    np.testing.assert_allclose(v.T @ B @ v, np.eye(4), atol=1e-5)
    np.testing.assert_allclose(A @ v, B @ v * values, atol=1e-4 * np.abs(A).max())
    np.testing.assert_allclose(values, eigh(A, B, eigvals_only=True)[:4], atol=1e-6)


def test_objective_is_what_it_says(data):
    """The sum over ties of squared distances equals the sum of the eigenvalues."""
    X, Y = data
    latents = linear_manifold_alignment(X, Y, n_components=2, n_neighbors=5, mu=0.3, regularization=0)
    W = affinities(X, Y, np.eye(50), 5, 0.3)
    Z, D = features(X, Y), np.diag(W.sum(axis=1))
    expected = eigh(Z.T @ (D - W) @ Z, Z.T @ D @ Z, eigvals_only=True)[:2].sum()
    stacked = np.vstack(latents).astype(float)
    assert (W * cdist(stacked, stacked) ** 2).sum() / 2 == pytest.approx(expected, rel=1e-4)


def test_rotated_copy(data):
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))[0]
    Z_x, Z_y = linear_manifold_alignment(data[0], data[0] @ rotation, n_components=3)
    np.testing.assert_allclose(Z_x, Z_y, atol=1e-3)


def test_unpaired_cells_follow(data):
    """Half of the cells are paired; the others land near their match as well."""
    rows = np.arange(25)
    Z_x, Z_y = linear_manifold_alignment(*data, n_components=3, pairs=np.column_stack([rows, rows]))
    assert foscttm(Z_x[25:], Z_y[25:]) < 0.2


def test_more_features_than_cells():
    """The same solution from the features or from their principal components, as long as nothing is cut."""
    rng = np.random.default_rng(4)
    latent = rng.normal(size=(30, 4))
    X, Y = (latent @ rng.normal(size=(4, p)) for p in (100, 70))
    latents = linear_manifold_alignment(X, Y, n_components=4, n_neighbors=5, regularization=0)
    u, s, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    reduced = linear_manifold_alignment((u * s)[:, :4], Y, n_components=4, n_neighbors=5, regularization=0)
    signs = np.sign(np.sum(latents[0] * reduced[0], axis=0))
    for latent, other in zip(latents, reduced, strict=True):
        np.testing.assert_allclose(latent, other * signs, atol=1e-4)


def test_rank(data):
    with pytest.raises(ValueError, match="n_components is 11, .* 10: X and Y together vary in 10 dimensions"):
        linear_manifold_alignment(*data, n_components=11)
    with pytest.raises(ValueError, match="regularization is -0.1, but must not be negative"):
        linear_manifold_alignment(*data, regularization=-0.1)
