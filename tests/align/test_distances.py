import logging

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.csgraph import dijkstra, floyd_warshall
from scipy.spatial.distance import cdist

from jamie_sc.align import _distances as module
from jamie_sc.align import distances
from jamie_sc.align._distances import _hops, neighbor_graph, path_lengths, straight_distances


@pytest.fixture
def X():
    return np.random.default_rng(0).standard_normal((70, 4)) * [3, 1, 1, 0.5]


def by_floyd_warshall(X, n_neighbors, *, metric="euclidean", hops=False):
    """Shortest paths on the graph of nearest neighbours, cell by cell and in float64."""
    straight = cdist(X, X, metric)
    graph = np.full(straight.shape, np.inf)
    for i, row in enumerate(straight):
        near = np.argsort(row, kind="stable")[1 : n_neighbors + 1]
        graph[i, near] = graph[near, i] = 1.0 if hops else row[near]
    return floyd_warshall(graph)


def binary(n=60, width=6):
    """Cells of which many are equally far from each other, and some are the same."""
    return np.random.default_rng(1).integers(0, 2, (n, width)).astype(np.float32)


# Shortest paths -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_neighbors", [5, 12])
@pytest.mark.parametrize("metric", ["euclidean", "correlation"])
@pytest.mark.parametrize("distance", ["geodesic", "hops"])
def test_shortest_paths(X, distance, metric, n_neighbors):
    expected = by_floyd_warshall(X, n_neighbors, metric=metric, hops=distance == "hops")
    assert np.isfinite(expected).all()
    got = distances(X, distance=distance, metric=metric, n_neighbors=n_neighbors)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    if distance == "geodesic":
        assert not np.allclose(got, cdist(X, X, metric), rtol=0.2)  # not straight


@pytest.mark.parametrize("distance", ["geodesic", "hops", "euclidean", "correlation"])
def test_sources_are_rows(X, distance):
    sources = np.array([41, 3, 0])
    everything = distances(X, distance=distance, n_neighbors=6)
    np.testing.assert_allclose(everything, everything.T, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(np.diag(everything), 0)
    some = distances(X, distance=distance, n_neighbors=6, sources=sources)
    np.testing.assert_array_equal(some, everything[sources])


@pytest.mark.parametrize("n_neighbors", [2, 8, 25])
def test_hops_by_products_are_those_of_dijkstra(X, n_neighbors):
    straight = straight_distances(X, "euclidean")
    graph, _ = neighbor_graph(straight, np.sort(straight, axis=1)[:, n_neighbors], hops=True)
    graph.data[:] = 1  # bridges too
    expected = dijkstra(graph, unweighted=True)
    np.testing.assert_array_equal(_hops(graph.toarray().astype(np.float32), slice(None)), expected)
    np.testing.assert_array_equal(_hops(graph.toarray().astype(np.float32), np.array([5, 2])), expected[[5, 2]])
    np.testing.assert_array_equal(path_lengths(graph), expected)


def test_either_way_to_paths_is_taken(X, monkeypatch):
    """A dense graph by matrix products, one with few edges or with lengths by Dijkstra."""
    taken = []
    for name in ("_hops", "dijkstra"):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, _real=real, _name=name, **k: taken.append(_name) or _real(*a, **k))
    distances(X, distance="hops", n_neighbors=20)
    distances(X, distance="geodesic", n_neighbors=20)
    line = np.arange(90.0)[:, None]
    assert distances(line, distance="hops", n_neighbors=1).max() == 89
    assert taken == ["_hops", "dijkstra", "dijkstra"]


# Straight -----------------------------------------------------------------------------------------------------------


def test_correlation_is_that_of_numpy(X):
    np.testing.assert_allclose(distances(X, distance="correlation"), 1 - np.corrcoef(X), atol=1e-6)


def test_euclidean(X):
    np.testing.assert_allclose(distances(X, distance="euclidean"), cdist(X, X), atol=1e-5)


def test_a_constant_cell_correlates_with_none(X):
    X[3] = 7
    got = distances(X, distance="correlation")
    assert got[3, 3] == 0
    np.testing.assert_allclose(np.delete(got[3], 3), 1)


# Ties and duplicates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["euclidean", "correlation"])
@pytest.mark.parametrize("distance", ["geodesic", "hops"])
def test_the_order_of_cells_changes_nothing(distance, metric):
    X = binary()
    order = np.random.default_rng(2).permutation(len(X))
    first = distances(X, distance=distance, metric=metric, n_neighbors=5)
    second = distances(X[order], distance=distance, metric=metric, n_neighbors=5)
    if distance == "hops":
        np.testing.assert_array_equal(second, first[order][:, order])
    else:  # sums of the same lengths, rounded on another way
        np.testing.assert_allclose(second, first[order][:, order], rtol=1e-6)


def test_neighbors_equally_far_are_all_neighbors():
    """A centre and six cells at one distance of it: with two neighbours it has six."""
    corners = np.vstack([np.zeros(3), np.eye(3), -np.eye(3)])
    hops = distances(corners, distance="hops", n_neighbors=2)
    np.testing.assert_array_equal(hops[0], [0, 1, 1, 1, 1, 1, 1])
    assert (hops[1:, 1:] <= 2).all()


def test_the_same_cell_twice_stays_connected(X, caplog):
    doubled = np.repeat(X, 2, axis=0)
    with caplog.at_level(logging.WARNING):
        got = distances(doubled, n_neighbors=8)
    assert not caplog.records
    np.testing.assert_allclose(got[::2, 1::2].diagonal(), 0, atol=1e-6)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[::2, ::2], got[1::2, 1::2], rtol=1e-5)
    assert (got[::2, ::2] + np.eye(70) > 0).all()


def test_more_copies_than_neighbors_are_joined_to_the_rest(caplog):
    X = np.repeat([[0.0, 0.0], [3.0, 4.0]], 4, axis=0)
    with caplog.at_level(logging.WARNING):
        got = distances(X, n_neighbors=2)
    np.testing.assert_allclose(got, cdist(X, X), atol=1e-30)
    assert "2 components, of 4, 4" in caplog.text


# Graphs that fall apart ---------------------------------------------------------------------------------------------


@pytest.fixture
def islands():
    """Three lines of unlike lengths, steps of 1: the nearest cells are 10 and 20 apart."""
    x = np.concatenate([np.arange(9), 18 + np.arange(6), 43 + np.arange(4)])
    return np.stack([x, np.zeros_like(x)], axis=1).astype(float)


def test_components_are_named_and_joined_by_their_nearest_cells(islands, caplog):
    with caplog.at_level(logging.WARNING, logger="jamie_sc"):
        got = distances(islands, n_neighbors=2, name="adt")
    np.testing.assert_allclose(got, cdist(islands, islands), rtol=1e-6)  # along the line is the shortest path
    (record,) = caplog.records
    assert record.name == "jamie_sc"
    for part in ("'adt'", "3 components", "9, 6, 4", "n_neighbors"):
        assert part in record.getMessage()


def test_a_bridge_counts_as_many_hops_as_it_is_median_edges_long(islands):
    got = distances(islands * 0.5, distance="hops", n_neighbors=1)
    steps = cdist(islands, islands)[:, :1]
    np.testing.assert_allclose(got[:, :1], steps, rtol=1e-6)


def test_a_connected_graph_is_silent(X, caplog):
    with caplog.at_level(logging.WARNING):
        distances(X, n_neighbors=6)
    assert not caplog.records


def test_components_and_bridges(islands):
    straight = straight_distances(islands, "euclidean")
    graph, sizes = neighbor_graph(straight, np.sort(straight, axis=1)[:, 2], hops=False)
    assert sizes == [9, 6, 4]
    assert sp.issparse(graph)
    assert abs(graph - graph.T).max() == 0
    assert graph[8, 9] == 10
    assert graph[14, 15] == 20
    assert (graph.data > 2).sum() == 4


# Errors -------------------------------------------------------------------------------------------------------------


def nan(X):
    X[2, 1] = np.nan
    return X


def infinite(X):
    X[2, 1] = np.inf
    return X


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (nan, {}, "^X must be a matrix.*NaN"),
        (infinite, {"name": "adt"}, "^adt must be.*infinite"),
        (lambda X: X[:, 0], {}, "cells x features"),
        (lambda X: X[:15], {}, "X has 15 cells.*1 to 14.*n_neighbors=15"),
        (lambda X: X, {"n_neighbors": 0}, "n_neighbors=0"),
        (lambda X: X, {"distance": "cosine"}, r"distance is 'cosine'.*'geodesic', 'hops'"),
        (lambda X: X, {"metric": "hops"}, r"metric is 'hops'.*\['correlation', 'euclidean'\]"),
    ],
    ids=["nan", "infinite", "vector", "few cells", "no neighbour", "distance", "metric"],
)
def test_errors(X, spoil, options, message):
    with pytest.raises(ValueError, match=message):
        distances(spoil(X), **options)
