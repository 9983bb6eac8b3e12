from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.linalg import eigh, sqrtm

from jamie_sc.align import cca


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(60, 3))
    return tuple(shared @ rng.normal(size=(3, p)) + rng.normal(size=(60, p)) for p in (5, 4))


def correlations(X, Y, r=0.0):
    """Singular values of the whitened cross-covariance, by matrix square roots."""
    p = X.shape[1]
    C = np.cov(X.T, Y.T)
    C_x, C_y = C[:p, :p], C[p:, p:]
    whites = [np.linalg.inv(sqrtm(c + r * np.trace(c) / len(c) * np.eye(len(c)))) for c in (C_x, C_y)]
    return np.linalg.svd(whites[0] @ C[:p, p:] @ whites[1])[1]


def test_canonical_correlations(data):
    Z_x, Z_y = cca(*data, n_components=4, regularization=0)
    found = np.corrcoef(Z_x.T, Z_y.T)
    expected = correlations(*data)
    assert 0.1 < expected.min() < expected.max() < 0.98  # else the test would say little
    np.testing.assert_allclose(found[:4, :4], np.eye(4), atol=1e-5)
    np.testing.assert_allclose(found[4:, 4:], np.eye(4), atol=1e-5)
    np.testing.assert_allclose(found[:4, 4:], np.diag(expected), atol=1e-5)
    np.testing.assert_allclose(np.vstack([Z_x.std(axis=0), Z_y.std(axis=0)]), 1, rtol=1e-5)


@pytest.mark.parametrize("r", [0.01, 0.5, 10.0])
def test_regularised_equation(data, r):
    """C_xy b = s C_x a and C_xy^T a = s C_y b, as a generalised eigenproblem of both maps at once."""
    X, Y = (values - values.mean(axis=0) for values in data)
    p, q = X.shape[1], Y.shape[1]
    C = np.hstack([X, Y]).T @ np.hstack([X, Y]) / len(X)
    off, on = C.copy(), np.zeros_like(C)
    off[:p, :p] = off[p:, p:] = 0
    for block in (slice(0, p), slice(p, p + q)):
        c = C[block, block]
        on[block, block] = c + r * np.trace(c) / len(c) * np.eye(len(c))
    s, ab = eigh(off, on)
    order = np.argsort(-s)[:3]
    np.testing.assert_allclose(s[order], correlations(*data, r)[:3])
    latents = cca(*data, n_components=3, regularization=r)
    for found, values, ab_of in zip(latents, (X, Y), (ab[:p], ab[p:]), strict=True):
        expected = np.sqrt(2) * values @ ab_of[:, order]  # eigh shares a length of 1 between the two maps
        signs = np.sign(np.sum(expected * found, axis=0))
        np.testing.assert_allclose(found, expected * signs, atol=1e-5)


def test_pairs_are_what_is_correlated(data):
    """Cells without a pair are embedded by the maps of the others; their values do not change the maps."""
    X, Y = data
    rows = np.arange(40)
    pairs = np.column_stack([rows, rows[::-1]])
    Z_x, Z_y = cca(X, Y, n_components=3, pairs=pairs)
    alone_x, alone_y = cca(X[:40], Y[:40][::-1], n_components=3)
    np.testing.assert_allclose(Z_x[:40], alone_x, atol=1e-5)
    np.testing.assert_allclose(Z_y[:40][::-1], alone_y, atol=1e-5)
    a = np.linalg.lstsq(np.c_[X[:40], np.ones(40)], alone_x, rcond=None)[0]
    np.testing.assert_allclose(Z_x[40:], np.c_[X[40:], np.ones(20)] @ a, atol=1e-4)


def test_weights_are_repeated_pairs(data):
    X, Y = data
    times = np.random.default_rng(1).integers(1, 4, size=60)
    weighted = cca(X, Y, n_components=3, pairs=sparse.diags_array(times / 7.0))
    repeated = cca(np.repeat(X, times, axis=0), np.repeat(Y, times, axis=0), n_components=3)
    for few, many in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(np.repeat(few, times, axis=0), many, atol=1e-5)


def test_more_features_than_cells():
    """Classical CCA correlates noise perfectly; the regularised one does not."""
    X, Y = np.random.default_rng(2).normal(size=(2, 30, 100))
    Z_x, Z_y = cca(X, Y, n_components=5, regularization=0)
    np.testing.assert_allclose(Z_x, Z_y, atol=1e-4)
    Z_x, Z_y = cca(X, Y, n_components=5, regularization=1)
    assert not np.allclose(Z_x, Z_y, atol=0.1)


def test_rank(data):
    X, Y = data
    twice = np.hstack([X, X])  # ten features, five dimensions
    assert cca(twice, Y, n_components=4)[0].shape == (60, 4)
    with pytest.raises(ValueError, match="n_components is 5, .* 4: the 60 pairs span 5 dimensions of X and 4 of Y"):
        cca(twice, Y, n_components=5)
    with pytest.raises(ValueError, match="the 2 pairs span 1 dimensions of X and 1 of Y"):
        cca(X, Y, n_components=2, pairs=np.array([[0, 0], [1, 1]]))
    with pytest.raises(ValueError, match="the 60 pairs span 0 dimensions of X"):
        cca(np.ones((60, 3)), Y)


def test_bad_regularization(data):
    with pytest.raises(ValueError, match="regularization is -1, but must not be negative"):
        cca(*data, regularization=-1)
