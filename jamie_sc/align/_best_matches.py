"""The best matches of each cell, out of a coupling that would be too large to write down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from sklearn.utils import gen_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CHUNK = 1_000
"""Cells whose matches are looked up at once."""


def best_matches(
    T: NDArray[np.float32],
    n_matches: int,
    a: sp.csr_matrix | None = None,
    b: sp.csr_matrix | None = None,
    tick: Callable[[], object] = lambda: None,
) -> sp.csr_matrix:
    """The n largest entries of each row and of each column of a T b^T; a and b mix rows and columns of T, if given."""
    a = sp.identity(T.shape[0], dtype=np.float32, format="csr") if a is None else a
    b = sp.identity(T.shape[1], dtype=np.float32, format="csr") if b is None else b
    return _of_rows(a, T, b, n_matches, tick).maximum(_of_rows(b, T.T, a, n_matches, tick).T).tocsr()


def _of_rows(
    a: sp.csr_matrix, T: NDArray[np.float32], b: sp.csr_matrix, n_matches: int, tick: Callable[[], object]
) -> sp.csr_matrix:
    """The n largest entries of each row of a T b^T, a chunk of rows at a time."""
    n, kept = a.shape[0], min(n_matches, b.shape[0])
    columns, values = np.empty((n, kept), dtype=np.int32), np.empty((n, kept), dtype=np.float32)
    for rows in gen_batches(n, CHUNK):
        dense = (b @ (a[rows] @ T).T).T
        columns[rows] = np.argpartition(dense, -kept, axis=1)[:, -kept:]
        values[rows] = np.take_along_axis(dense, columns[rows], axis=1)
        tick()
    return sp.csr_matrix((values.ravel(), columns.ravel(), np.arange(0, n * kept + 1, kept)), shape=(n, b.shape[0]))
