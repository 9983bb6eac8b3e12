"""The graph that both manifold alignments embed: neighbours within a modality, known pairs between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from sklearn.neighbors import kneighbors_graph

from ._inputs import check_positive

if TYPE_CHECKING:
    from numpy.typing import NDArray


def joint_graph(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    F: sparse.coo_array,
    *,
    n_neighbors: int,
    mu: float,
    metric: str,
) -> sparse.csr_array:
    """Affinities W = [[mu W_x, F], [F^T, mu W_y]] of all cells (Ham et al. 2005; Wang and Mahadevan 2009)."""
    check_positive(mu=mu)
    W_x, W_y = (_neighbors(values, n_neighbors, metric, name) for values, name in ((x, "X"), (y, "Y")))
    return sparse.csr_array(sparse.block_array([[mu * W_x, F], [F.T, mu * W_y]]))


def degrees(W: sparse.csr_array) -> NDArray[np.float64]:
    """Row sums of the affinities, the diagonal of D."""
    return np.asarray(W.sum(axis=1), dtype=np.float64).ravel()


def _neighbors(values: NDArray[np.float64], n_neighbors: int, metric: str, name: str) -> sparse.csr_array:
    """1 / k where one of two cells is among the other's k nearest, so that a cell's neighbours weigh about as a pair."""
    if not 1 <= n_neighbors < len(values):
        msg = f"n_neighbors is {n_neighbors}, but must be between 1 and {len(values) - 1}, the other cells of {name}."
        raise ValueError(msg)
    graph = sparse.csr_array(kneighbors_graph(values, n_neighbors, metric=metric, include_self=False))
    return sparse.csr_array(graph.maximum(graph.T) / n_neighbors)
