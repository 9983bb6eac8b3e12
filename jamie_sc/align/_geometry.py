"""What Gromov-Wasserstein compares: distances that no single neighbourhood size decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import eigh

from ._distances import METRICS, neighbor_graph, path_lengths, straight_distances, warn_of_components

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from ._distances import Metric

    Floats = NDArray[np.floating[Any]]


LEAST_NEIGHBORS = 5
"""The smallest neighbourhood."""
LEAST_FEATURES = 5
"""Features to correlate over."""


def metrics_for(n_features: int) -> Sequence[Metric]:
    """Correlation and Euclidean distance; the latter alone where there is too little to correlate over."""
    return METRICS if n_features >= LEAST_FEATURES else ("euclidean",)


def neighborhood_sizes(n: int, n_neighbors: int | None, n_sizes: int = 8) -> list[int]:
    """Sizes from 5 cells to a third of n, in equal ratios; or the one given, if there are so many."""
    if n_neighbors is not None:
        return [min(n_neighbors, n - 1)]
    least = min(LEAST_NEIGHBORS, n - 1)
    return np.unique(np.geomspace(least, max(least, 0.3 * n), n_sizes).round().astype(int)).tolist()


def hop_distances(
    X: Floats,
    weight: Floats,
    sizes: Sequence[int],
    *,
    metrics: Sequence[Metric] = METRICS,
    name: str | None = None,
) -> Iterator[Floats]:
    """Hops along graphs of nearest neighbours, (n, n), one for each metric and size; root mean square 1.

    Small neighbourhoods often leave a graph in pieces, which are joined; a warning says if the largest does, given a name.
    """
    for metric in metrics:
        straight = straight_distances(X, metric)
        ordered = np.sort(straight, axis=1)
        for size in sizes:
            graph, components = neighbor_graph(straight, ordered[:, size], hops=True)
            if name is not None and len(components) > 1 and size == sizes[-1] and metric == metrics[-1]:
                warn_of_components(name, size, components)
            yield unit(path_lengths(graph), weight)


def mean_geometry(distances: Iterable[Floats], weight: Floats) -> Floats:
    """The average d of several distances, made to saturate, 1 - exp(-d^2): far is far; root mean square 1."""
    mean = unit(sum(distances, start=np.zeros(2 * weight.shape, dtype=np.float32)), weight)
    return unit(1 - np.exp(-(mean**2)), weight)


def unit(distance: Floats, weight: Floats) -> Floats:
    """Divided by the root mean square over all pairs of weighted cells."""
    return distance / np.sqrt(weight @ (distance * distance) @ weight)


def diffusion_ranks(distance: Floats, weight: Floats, n: int = 2) -> Floats:
    """Rank of each cell, 0 to 1, along the first diffusion components of a geometry, (cells, n)."""
    similarity = np.exp(-2 * distance**2)
    degree = similarity @ weight
    root = np.sqrt(weight / degree)
    last = len(distance) - 2  # the last component is constant
    _, vectors = eigh(root[:, None] * similarity * root, subset_by_index=[last - n + 1, last])
    components = vectors[:, ::-1] / np.sqrt(weight * degree)[:, None]
    order = np.argsort(components, axis=0)
    ranks = np.empty_like(components)
    np.put_along_axis(ranks, order, np.cumsum(weight[order], axis=0) - weight[order] / 2, axis=0)
    return ranks.astype(np.float32)
