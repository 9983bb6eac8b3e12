"""Equation 16 of CLUE: how far cells of two modalities have the same neighbours, for any numbers of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import gen_batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


def neighbourhoods(
    x: NDArray[np.floating], y: NDArray[np.floating], *, n_neighbors: int
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Who is a neighbour of each cell of x, and of each cell of y: 1 in (cells, cells of x then of y)."""
    of_x, of_y = (NearestNeighbors().fit(cells) for cells in (x, y))
    around_x = _own(of_x, n_neighbors), of_y.kneighbors(x, n_neighbors, return_distance=False)
    around_y = of_x.kneighbors(y, n_neighbors, return_distance=False), _own(of_y, n_neighbors)
    return _graph(*around_x, n_x=len(x), n_y=len(y)), _graph(*around_y, n_x=len(x), n_y=len(y))


def _own(fitted: NearestNeighbors, n_neighbors: int) -> NDArray[np.intp]:
    """Neighbours within the own modality: the cell itself, whatever coincides with it, and the nearest others."""
    itself = np.arange(fitted.n_samples_fit_)[:, None]
    if n_neighbors == 1:
        return itself
    return np.hstack([itself, fitted.kneighbors(n_neighbors=n_neighbors - 1, return_distance=False)])


def _graph(in_x: NDArray[np.intp], in_y: NDArray[np.intp], *, n_x: int, n_y: int) -> sparse.csr_array:
    """Neighbours of cells in both modalities as a matrix of 0 and 1."""
    columns = np.hstack([in_x, n_x + in_y]).astype(np.int32)
    indptr = np.arange(0, columns.size + 1, columns.shape[1], dtype=np.int32)
    ones = np.ones(columns.size, dtype=np.float32)
    return sparse.csr_array((ones, columns.ravel(), indptr), shape=(len(columns), n_x + n_y))


def jaccard(
    around_x: sparse.csr_array, around_y: sparse.csr_array, *, n_neighbors: int, chunk_size: int
) -> Iterator[sparse.csr_array]:
    """Equation 16, cells of x by cells of y, in chunks of rows: a hub, a cell near to all others, fills rows and columns.

    With the arguments swapped, the transpose.
    """
    neighbours = sparse.csr_array(around_y.T)
    for rows in gen_batches(around_x.shape[0], chunk_size):
        shared = around_x[rows] @ neighbours
        shared.data /= 4 * n_neighbors - shared.data  # four neighbourhoods, less what they share, are their union
        yield shared
