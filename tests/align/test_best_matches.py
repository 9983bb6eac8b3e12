import numpy as np
import pytest
import scipy.sparse as sp

from jamie_sc.align import _best_matches as module
from jamie_sc.align._best_matches import best_matches


def by_hand(dense, n):
    """The n largest of each row and of each column of a matrix; the rest is zero."""
    kept = np.zeros_like(dense, dtype=bool)
    for i, row in enumerate(dense):
        kept[i, np.argsort(row)[-n:]] = True
    for j, column in enumerate(dense.T):
        kept[np.argsort(column)[-n:], j] = True
    return np.where(kept, dense, 0)


def mix(n, k, seed):
    mixed = sp.random(n, k, 0.4, random_state=np.random.default_rng(seed), format="csr", dtype=np.float32)
    return sp.csr_matrix(mixed + sp.csr_matrix((np.ones(n), (np.arange(n), np.arange(n) % k)), shape=(n, k))).astype(
        np.float32
    )


@pytest.fixture(params=[7, 1000])
def chunk(request, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", request.param)
    return request.param


@pytest.mark.parametrize("n", [1, 3, 12, 50])
def test_of_a_matrix(chunk, n):
    T = np.random.default_rng(0).random((20, 13)).astype(np.float32)
    got = best_matches(T, n)
    np.testing.assert_array_equal(got.toarray(), by_hand(T, n))
    assert got.format == "csr"
    assert got.dtype == np.float32
    assert (got.getnnz(axis=1) >= min(n, 13)).all()
    assert (got.getnnz(axis=0) >= min(n, 20)).all()


@pytest.mark.parametrize("n", [2, 6])
def test_of_a_matrix_interpolated(chunk, n):
    T = np.random.default_rng(1).random((6, 5)).astype(np.float32)
    a, b = mix(31, 6, 2), mix(24, 5, 3)
    got = best_matches(T, n, a, b)
    np.testing.assert_allclose(got.toarray(), by_hand((a @ T) @ b.T.toarray(), n), rtol=1e-5)


def test_ticks_once_a_chunk(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 7)
    calls = []
    best_matches(np.random.default_rng(0).random((20, 13)).astype(np.float32), 2, tick=lambda: calls.append(1))
    assert len(calls) == 3 + 2


def test_no_matrix_of_all_cells_is_made(monkeypatch):
    """What is looked at once is a chunk of rows wide."""
    monkeypatch.setattr(module, "CHUNK", 10)
    sizes = []
    real = np.argpartition
    monkeypatch.setattr(
        module.np, "argpartition", lambda dense, *a, **k: sizes.append(dense.shape) or real(dense, *a, **k)
    )
    best_matches(np.ones((3, 3), np.float32), 2, mix(45, 3, 0), mix(38, 3, 1))
    assert max(rows for rows, _ in sizes) == 10
    assert sum(rows for rows, _ in sizes) == 45 + 38
