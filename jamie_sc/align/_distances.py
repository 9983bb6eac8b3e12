"""Distances between the cells of one modality: straight, or along a graph of nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components, dijkstra
from sklearn.metrics import pairwise_distances

from .._logging import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Distance = Literal["geodesic", "hops", "euclidean", "correlation"]
    Metric = Literal["correlation", "euclidean"]

METRICS: tuple[Metric, ...] = ("correlation", "euclidean")
TINY = float(np.finfo(np.float32).tiny)
DENSE = 30
"""A graph with more than one in so many of all edges has short paths: a matrix product a hop is faster than Dijkstra."""


def distances(
    X: ArrayLike,
    *,
    distance: Distance = "geodesic",
    metric: Metric = "euclidean",
    n_neighbors: int = 15,
    sources: NDArray[np.intp] | None = None,
    name: str = "X",
) -> NDArray[np.float32]:
    """Distances from some cells to all cells; takes time and memory that grow with the square of the cells.

    Parameters
    ----------
    X
        Values (n cells x p features), dense.
    distance
        `"geodesic"`: length of the shortest path along the graph of nearest neighbours. `"hops"`: its number of edges.
        `"euclidean"` and `"correlation"` (1 minus the correlation over features) go straight.
    metric
        What the graph's edges measure: `"euclidean"` or `"correlation"`.
    n_neighbors
        Neighbours of each cell in the graph, more where several are equally near. An edge joins two cells if either is a
        neighbour of the other.
    sources
        Rows of the cells to measure from, (s,); default all.
    name
        What messages call the data.

    Returns
    -------
    Distances, (s, n), float32. Where the graph falls apart a warning names its components, and each is joined to the
    others by its nearest cell; such an edge counts as many hops as it is longer than the median edge.

    Raises
    ------
    ValueError
        If there are fewer cells than neighbours, values are NaN or infinite, or an option is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> import jamie_sc as jsc
    >>> circle = np.exp(2j * np.pi * np.arange(8) / 8)
    >>> jsc.align.distances(
    ...     np.stack([circle.real, circle.imag], axis=1), distance="hops", n_neighbors=2, sources=np.array([0])
    ... )
    array([[0., 1., 2., 3., 4., 3., 2., 1.]], dtype=float32)
    """
    X = np.asarray(X)
    check_points(X, n_neighbors=n_neighbors, name=name)
    for option, value, known in (("distance", distance, ("geodesic", "hops", *METRICS)), ("metric", metric, METRICS)):
        if value not in known:
            msg = f"{option} is {value!r}. Choose one of {list(known)}."
            raise ValueError(msg)
    if distance in METRICS:
        return straight_distances(X, distance)[slice(None) if sources is None else sources]
    straight = straight_distances(X, metric)
    reach = np.partition(straight, n_neighbors, axis=1)[:, n_neighbors]
    graph, sizes = neighbor_graph(straight, reach, hops=distance == "hops")
    if len(sizes) > 1:
        warn_of_components(name, n_neighbors, sizes)
    return path_lengths(graph, sources)


def warn_of_components(name: str, n_neighbors: int, sizes: Sequence[int]) -> None:
    """Say that a graph fell apart, and into what."""
    msg = (
        "the graph of %d neighbours of %r falls into %d components, of %s points: each was joined to the others by its "
        "nearest one. Distances between them mean little; more neighbours may connect them: n_neighbors"
    )
    logger.warning(msg, n_neighbors, name, len(sizes), ", ".join(map(str, sizes)))


def check_points(X: NDArray, *, n_neighbors: int, name: str) -> None:
    """Refuse what no graph of so many neighbours can be made of."""
    if X.ndim != 2 or not np.isfinite(X).all():
        msg = f"{name} must be a matrix of cells x features without NaN or infinite values."
        raise ValueError(msg)
    if not 1 <= n_neighbors < len(X):
        msg = f"{name} has {len(X)} cells, so a cell has 1 to {len(X) - 1} neighbours, not n_neighbors={n_neighbors}."
        raise ValueError(msg)


def straight_distances(X: NDArray, metric: Metric) -> NDArray[np.float32]:
    """Euclidean distances, or 1 minus the correlation, of all cells, (n, n)."""
    X = X.astype(np.float64)  # rounded at the end, so that cells as far from each other are equally far
    if metric == "euclidean":
        return pairwise_distances(X).astype(np.float32)
    X -= X.mean(axis=1, keepdims=True)
    X /= np.maximum(np.linalg.norm(X, axis=1, keepdims=True), TINY)
    distance = np.maximum(1 - X @ X.T, 0).astype(np.float32)
    np.fill_diagonal(distance, 0)
    return distance


def neighbor_graph(
    straight: NDArray[np.float32], reach: NDArray[np.float32], *, hops: bool
) -> tuple[sp.csr_matrix, list[int]]:
    """Graph of the cells within each other's reach, joined where it falls apart; and the sizes its components had.

    Edges weigh their length, or 1 with `hops`, where one that joins components weighs its length in median edges.
    """
    linked = straight <= reach[:, None]
    linked |= linked.T
    np.fill_diagonal(linked, val=False)
    i, j = linked.nonzero()
    length = np.maximum(straight[i, j], TINY)  # a weight of zero would be no edge
    unit = float(np.median(length)) if hops else 1.0
    weight = np.ones_like(length) if hops else length
    graph = sp.csr_matrix((weight, (i, j)), shape=straight.shape)
    n_components, label = connected_components(graph, directed=False)
    sizes = sorted(np.bincount(label).tolist(), reverse=True)
    for _ in range(n_components - 1):
        a, b = _nearest(straight, label)
        bridge = max(float(straight[a, b]) / unit, 1.0 if hops else TINY)
        ends = np.array([a, b])
        graph = (graph + sp.coo_matrix((np.full(2, bridge), (ends, ends[::-1])), shape=graph.shape)).tocsr()
        label = connected_components(graph, directed=False)[1]
    return graph, sizes


def _nearest(straight: NDArray[np.float32], label: NDArray[np.int32]) -> tuple[np.intp, np.intp]:
    """The cell of the smallest component and the cell outside it that are nearest to each other."""
    inside = label == np.bincount(label).argmin()
    between = straight[np.ix_(inside, ~inside)]
    a, b = np.unravel_index(between.argmin(), between.shape)
    return np.flatnonzero(inside)[a], np.flatnonzero(~inside)[b]


def path_lengths(graph: sp.csr_matrix, sources: NDArray[np.intp] | None = None) -> NDArray[np.float32]:
    """Shortest paths in a connected symmetric graph, from the sources or from all."""
    n = graph.shape[0]
    if graph.nnz > n**2 / DENSE and (graph.data == 1).all():
        return _hops(graph.toarray(), slice(None) if sources is None else sources)
    # As the graph is symmetric this is the same as undirected, in half the time.
    return dijkstra(graph, directed=True, indices=sources).astype(np.float32)


def _hops(adjacency: NDArray[np.float32], sources: NDArray[np.intp] | slice) -> NDArray[np.float32]:
    """Edges on the shortest path, one matrix product for each."""
    front = np.eye(len(adjacency), dtype=np.float32)[sources]
    hops = np.where(front > 0, 0, np.inf).astype(np.float32)
    distance = 0
    while np.isinf(hops).any():
        distance += 1
        front = ((front @ adjacency > 0) & np.isinf(hops)).astype(np.float32)
        hops[front > 0] = distance
    return hops
